#include "work/gitindex.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { ANCHORS_FIRST = 256 };

/* An entry whose name is kept, and what a reader needs to go on behind it. */
struct anchor {
	size_t next;   /* of the entry behind it */
	size_t name;   /* in `names` */
	uint32_t left; /* entries behind it */
	uint16_t name_len;
	uint8_t kind, stage;
};

struct gitindex {
	uint8_t *all;
	size_t len;
	uint32_t version;
	uint16_t hash_bytes;
	struct anchor *anchors;
	size_t count, room;
	uint8_t *names;
	size_t names_len, names_room;
};

void gitindex_free(struct gitindex *x)
{
	if (x == NULL)
		return;
	free(x->all);
	free(x->anchors);
	free(x->names);
	free(x);
}

/* Makes room for one more anchor and its name. */
static bool grow(struct gitindex *x, size_t name_len)
{
	if (x->count == x->room) {
		size_t room = x->room > 0 ? 2 * x->room : ANCHORS_FIRST;
		struct anchor *more = reallocarray(x->anchors, room, sizeof(*more));

		if (more == NULL)
			return false;
		x->anchors = more;
		x->room = room;
	}
	if (x->names_room - x->names_len <= name_len) {
		size_t room = 2 * x->names_room + WPATH_MAX;
		uint8_t *more = realloc(x->names, room);

		if (more == NULL)
			return false;
		x->names = more;
		x->names_room = room;
	}
	return true;
}

static bool keep(struct gitindex *x, const struct gitindex_reader *r)
{
	if (!grow(x, r->name_len))
		return false;
	x->anchors[x->count++] = (struct anchor){ .next = r->at,
		                                  .name = x->names_len,
		                                  .left = r->left,
		                                  .name_len = r->name_len,
		                                  .kind = r->kind,
		                                  .stage = r->stage };
	memcpy(x->names + x->names_len, r->name, r->name_len);
	x->names_len += r->name_len;
	return true;
}

/* A sum of zeros is one that git was told not to make (index.skipHash). */
static bool sum_fits(const struct gitindex *x, unsigned hash_bytes)
{
	static const uint8_t zeros[GITINDEX_SHA256_BYTES];
	const EVP_MD *md = hash_bytes == GITINDEX_SHA1_BYTES ? EVP_sha1() : EVP_sha256();
	const uint8_t *said = x->all + x->len - hash_bytes;
	uint8_t sum[EVP_MAX_MD_SIZE];

	if (memcmp(said, zeros, hash_bytes) == 0)
		return true;
	return EVP_Digest(x->all, x->len - hash_bytes, sum, NULL, md, NULL) == 1 &&
	       memcmp(sum, said, hash_bytes) == 0;
}

/* Reads it all as one of a repository with that hash. -EPROTO, -EXDEV: *ret_what says why. */
static int read_as(struct gitindex *x, unsigned hash_bytes, const char **ret_what)
{
	struct gitindex_reader r;
	int got = gitindex_begin(&r, span_of(x->all, x->len), hash_bytes);

	if (got == -EPROTO)
		*ret_what = "its version is not one of 2, 3 and 4";
	if (got < 0)
		return got;
	x->version = r.version;
	x->hash_bytes = r.hash_bytes;
	x->count = x->names_len = 0;
	for (uint32_t i = 0; r.left > 0; i++) {
		got = gitindex_next(&r);
		if (got < 0)
			return got;
		if (i % GITINDEX_STEP == 0 && !keep(x, &r))
			return -ENOMEM;
	}
	got = gitindex_end(&r, ret_what);
	if (got == -EBADMSG || !sum_fits(x, hash_bytes))
		return -EBADMSG;
	return got;
}

int gitindex_new(uint8_t *all, size_t len, struct gitindex **ret, struct err *e)
{
	_own_(gitindex_free) struct gitindex *x = calloc(1, sizeof(*x));
	const char *what = "";
	int got;

	if (x == NULL) {
		free(all);
		return err_set(e, -ENOMEM, "no memory for git's index");
	}
	x->all = all;
	x->len = len;
	got = read_as(x, GITINDEX_SHA1_BYTES, &what);
	if (got == -EBADMSG)
		got = read_as(x, GITINDEX_SHA256_BYTES, &what);
	if (got == -ENOMEM)
		return err_set(e, got, "no memory for git's index");
	if (got == -EPROTO || got == -EXDEV)
		return err_set(e, got, "git's index cannot be read: %s", what);
	if (got < 0)
		return err_set(e, got, "git's index is damaged");
	*ret = steal_ptr(&x);
	return 0;
}

/* -- questions -- */

static int compare(const uint8_t *a, size_t a_len, struct span b)
{
	size_t n = a_len < b.len ? a_len : b.len;
	int order = n > 0 ? memcmp(a, b.at, n) : 0;

	return order != 0 ? order : (a_len > b.len) - (a_len < b.len);
}

static bool begins_with(const uint8_t *name, size_t name_len, struct span head)
{
	return name_len >= head.len && memcmp(name, head.at, head.len) == 0;
}

/* A reader that stands on an anchor. */
static void stand_on(const struct gitindex *x, const struct anchor *a, struct gitindex_reader *ret)
{
	memset(ret, 0, offsetof(struct gitindex_reader, name));
	ret->all = span_of(x->all, x->len - x->hash_bytes);
	ret->at = a->next;
	ret->version = x->version;
	ret->left = a->left;
	ret->hash_bytes = x->hash_bytes;
	ret->name_len = a->name_len;
	ret->kind = a->kind;
	ret->stage = a->stage;
	memcpy(ret->name, x->names + a->name, a->name_len);
}

/* The last anchor that does not come behind the key, or the first. */
static const struct anchor *anchor_for(const struct gitindex *x, struct span key)
{
	size_t low = 0, high = x->count;

	while (high - low > 1) {
		size_t mid = low + (high - low) / 2;
		const struct anchor *a = &x->anchors[mid];

		if (compare(x->names + a->name, a->name_len, key) <= 0)
			low = mid;
		else
			high = mid;
	}
	return &x->anchors[low];
}

/*
 * What the index says at a key: the entry of that name, or one that begins with it (`within`).
 * Nothing stands between a directory of a sparse index and what would be in it, so that is met on
 * the way, last.
 */
static enum gitindex_answer seek(const struct gitindex *x, struct span key, bool within)
{
	enum gitindex_answer sparse = GITINDEX_UNTRACKED;
	struct gitindex_reader r;

	if (x->count == 0)
		return GITINDEX_UNTRACKED;
	stand_on(x, anchor_for(x, key), &r);
	for (;;) {
		int order = compare(r.name, r.name_len, key);

		if (order == 0 || (within && begins_with(r.name, r.name_len, key)))
			return GITINDEX_TRACKED;
		if (order > 0)
			return sparse;
		sparse = r.kind == GITINDEX_DIR &&
		                         begins_with(key.at, key.len, span_of(r.name, r.name_len))
		                 ? GITINDEX_NOT_KNOWN
		                 : GITINDEX_UNTRACKED;
		if (r.left == 0 || gitindex_next(&r) < 0)
			return sparse;
	}
}

enum gitindex_answer gitindex_ask(const struct gitindex *x, struct span path, bool is_dir)
{
	enum gitindex_answer got = seek(x, path, false);
	uint8_t room[WPATH_MAX + 1];

	if (got != GITINDEX_UNTRACKED || !is_dir || path.len > WPATH_MAX)
		return got;
	memcpy(room, path.at, path.len);
	room[path.len] = '/';
	return seek(x, span_of(room, path.len + 1), true);
}
