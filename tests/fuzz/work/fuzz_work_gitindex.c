/*
 * An index of git, of any bytes: it is refused, or every entry of it is found again by a search,
 * and each name beside it gets the answer that all entries in turn give. The sum is zeros, which is
 * what git writes where it makes none: no mutation would fit one.
 */
#include "work/gitindex.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { NEAR_MAX = 64 }; /* entries asked for, each against all: the time is their product */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The answer by looking at every entry. */
static enum gitindex_answer look_at_all(struct span all, unsigned hash_bytes, struct span key)
{
	enum gitindex_answer answer = GITINDEX_UNTRACKED;
	struct gitindex_reader r;

	assert(gitindex_begin(&r, all, hash_bytes) == 0);
	while (r.left > 0) {
		struct span name;

		assert(gitindex_next(&r) == 0);
		name = span_of(r.name, r.name_len);
		if (span_equal(name, key))
			return GITINDEX_TRACKED;
		if (r.kind == GITINDEX_DIR && name.len < key.len &&
		    memcmp(name.at, key.at, name.len) == 0)
			answer = GITINDEX_NOT_KNOWN;
	}
	return answer;
}

/* A name and what is beside it: with a byte more, with one less, and its directory. */
static void ask_near(const struct gitindex *x, struct span all, unsigned hash_bytes,
                     struct span name)
{
	uint8_t room[WPATH_MAX];
	struct span dir = wpath_parent(name), key;

	if (name.len == 0 || name.len == WPATH_MAX)
		return;
	assert(gitindex_ask(x, name, false) == GITINDEX_TRACKED);
	memcpy(room, name.at, name.len);
	room[name.len] = 'x';
	for (size_t len = name.len - 1; len <= name.len + 1; len += 2) {
		key = span_of(room, len);
		if (len > 0)
			assert(gitindex_ask(x, key, false) == look_at_all(all, hash_bytes, key));
	}
	if (dir.len > 0 && name.at[name.len - 1] != '/')
		assert(gitindex_ask(x, dir, true) != GITINDEX_UNTRACKED);
}

static uint8_t *copy_of(const uint8_t *data, size_t size, unsigned hash_bytes)
{
	uint8_t *all = malloc(size + 1);

	assert(all != NULL);
	if (size > 0)
		memcpy(all, data, size);
	if (size >= hash_bytes)
		memset(all + size - hash_bytes, 0, hash_bytes);
	return all;
}

static void read_as(const uint8_t *data, size_t size, unsigned hash_bytes)
{
	uint8_t *copy = copy_of(data, size, hash_bytes);
	struct span all = span_of(copy, size);
	struct gitindex *x = NULL;
	struct gitindex_reader r;
	const char *what;
	struct err e;

	if (gitindex_begin(&r, all, hash_bytes) == 0) {
		while (r.left > 0 && gitindex_next(&r) == 0)
			;
		/* not read with the other hash, then */
		if (r.left == 0 && gitindex_end(&r, &what) == 0)
			assert(gitindex_new(copy_of(copy, size, 0), size, &x, &e) == 0);
	}
	if (x != NULL && gitindex_begin(&r, all, hash_bytes) == 0) {
		for (unsigned i = 0; r.left > 0 && i < NEAR_MAX; i++) {
			assert(gitindex_next(&r) == 0);
			ask_near(x, all, hash_bytes, span_of(r.name, r.name_len));
		}
	}
	gitindex_free(x);
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	read_as(data, size, GITINDEX_SHA1_BYTES);
	read_as(data, size, GITINDEX_SHA256_BYTES);
	return 0;
}
