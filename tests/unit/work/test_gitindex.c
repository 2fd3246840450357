#include "guardpage.h"
#include "test.h"
#include "work/gitindex.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM = 1 << 16, MANY = 200 };

/* An index on its way: entries of one version and one hash. */
struct made {
	struct buf b;
	unsigned version, hash_bytes;
	uint32_t count;
	char last[WPATH_MAX + 1];
	uint8_t room[ROOM];
};

static void put_be(struct buf *b, uint64_t v, unsigned bytes)
{
	while (bytes-- > 0)
		buf_put_u8(b, bytes < 8 ? (uint8_t)(v >> 8 * bytes) : 0);
}

static void begin(struct made *m, unsigned version, unsigned hash_bytes)
{
	memset(m, 0, offsetof(struct made, room));
	buf_init(&m->b, m->room, sizeof(m->room));
	m->version = version;
	m->hash_bytes = hash_bytes;
	buf_put_str(&m->b, "DIRC");
	put_be(&m->b, version, 4);
	put_be(&m->b, 0, 4);
}

/* As git's encode_varint() writes one below 2^14 + 2^7. */
static void put_varint(struct buf *b, size_t v)
{
	if (v >= 128)
		buf_put_u8(b, (uint8_t)(0x80 | (v - 128) >> 7));
	buf_put_u8(b, v >= 128 ? (v - 128) & 0x7f : (uint8_t)v);
}

static void add_as(struct made *m, const char *name, uint32_t mode, unsigned stage, uint16_t more)
{
	size_t begun = m->b.len, len = strlen(name), kept = 0;

	put_be(&m->b, 0, 8);
	put_be(&m->b, 0, 16);
	put_be(&m->b, mode, 4);
	put_be(&m->b, 0, 12);
	for (unsigned i = 0; i < m->hash_bytes; i++)
		buf_put_u8(&m->b, 0xee);
	put_be(&m->b, (more ? 0x4000U : 0) | stage << 12 | (len < 0xfff ? len : 0xfff), 2);
	if (more)
		put_be(&m->b, more, 2);
	if (m->version == 4) {
		while (name[kept] != '\0' && name[kept] == m->last[kept])
			kept++;
		put_varint(&m->b, strlen(m->last) - kept);
	}
	buf_put_str(&m->b, name + kept);
	do
		buf_put_u8(&m->b, 0);
	while (m->version != 4 && (m->b.len - begun) % 8 != 0);
	memcpy(m->last, name, len + 1);
	m->count++;
}

static void add(struct made *m, const char *name)
{
	add_as(m, name, 0100644, 0, 0);
}

static void add_extension(struct made *m, const char *name, const char *text)
{
	buf_put_str(&m->b, name);
	put_be(&m->b, strlen(text), 4);
	buf_put_str(&m->b, text);
}

static struct span end(struct made *m)
{
	uint8_t sum[EVP_MAX_MD_SIZE];

	m->room[8] = (uint8_t)(m->count >> 24);
	m->room[9] = (uint8_t)(m->count >> 16);
	m->room[10] = (uint8_t)(m->count >> 8);
	m->room[11] = (uint8_t)m->count;
	CHECK_EQ(EVP_Digest(m->room, m->b.len, sum, NULL,
	                    m->hash_bytes == 20 ? EVP_sha1() : EVP_sha256(), NULL),
	         1);
	buf_put(&m->b, sum, m->hash_bytes);
	CHECK(buf_ok(&m->b));
	return buf_span(&m->b);
}

static int open_index(struct span all, struct gitindex **ret, struct err *e)
{
	uint8_t *copy = malloc(all.len + 1);

	CHECK(copy != NULL);
	memcpy(copy, all.at, all.len);
	return gitindex_new(copy, all.len, ret, e);
}

static enum gitindex_answer ask(const struct gitindex *x, const char *path, bool is_dir)
{
	return gitindex_ask(x, span_str(path), is_dir);
}

static const unsigned forms[][2] = { { 2, 20 }, { 3, 20 }, { 4, 20 }, { 2, 32 }, { 4, 32 } };

TEST(e8_every_version_and_hash_is_read)
{
	static struct made m;

	for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
		_own_(gitindex_free) struct gitindex *x = NULL;
		struct err e;

		begin(&m, forms[i][0], forms[i][1]);
		add(&m, "a");
		add(&m, "a-b");
		add(&m, "a/b");
		add_as(&m, "a/link", 0120000, 0, 0);
		add_as(&m, "module", 0160000, 0, 0);
		add_as(&m, "sub/conflict", 0100644, 1, 0);
		add_as(&m, "sub/conflict", 0100755, 2, 0);
		if (forms[i][0] > 2)
			add_as(&m, "sub/later", 0100644, 0, 0x2000);
		add_extension(&m, "TREE", "whatever is in it");
		CHECK_OK(open_index(end(&m), &x, &e), &e);
		CHECK_EQ(ask(x, "a", false), GITINDEX_TRACKED);
		CHECK_EQ(ask(x, "a/b", false), GITINDEX_TRACKED);
		CHECK_EQ(ask(x, "a/link", false), GITINDEX_TRACKED);
		CHECK_EQ(ask(x, "module", true), GITINDEX_TRACKED);
		CHECK_EQ(ask(x, "sub/conflict", false), GITINDEX_TRACKED);
		CHECK_EQ(ask(x, "sub/later", false), forms[i][0] > 2 ? GITINDEX_TRACKED : 0);
		CHECK_EQ(ask(x, "sub", true), GITINDEX_TRACKED);
		CHECK_EQ(ask(x, "sub", false), GITINDEX_UNTRACKED);
		CHECK_EQ(ask(x, "su", true), GITINDEX_UNTRACKED);
		CHECK_EQ(ask(x, "A", true), GITINDEX_UNTRACKED);
		CHECK_EQ(ask(x, "a-", true), GITINDEX_UNTRACKED);
		CHECK_EQ(ask(x, "zz", true), GITINDEX_UNTRACKED);
	}
}

TEST(e8_many_entries_are_all_found)
{
	static struct made m;

	for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
		_own_(gitindex_free) struct gitindex *x = NULL;
		char name[32];
		struct err e;

		begin(&m, forms[i][0], forms[i][1]);
		for (int n = 0; n < MANY; n++) {
			snprintf(name, sizeof(name), "d%02d/f%04d", n / 10, 2 * n);
			add(&m, name);
		}
		CHECK_OK(open_index(end(&m), &x, &e), &e);
		for (int n = 0; n < 2 * MANY; n++) {
			snprintf(name, sizeof(name), "d%02d/f%04d", n / 20, n);
			CHECK_EQ(ask(x, name, false), n % 2 == 0 ? GITINDEX_TRACKED : 0);
			CHECK_EQ(ask(x, name, true), n % 2 == 0 ? GITINDEX_TRACKED : 0);
			name[3] = '\0';
			CHECK_EQ(ask(x, name, true), GITINDEX_TRACKED);
		}
	}
}

TEST(e8_long_names_and_none)
{
	static struct made m;
	static char name[WPATH_MAX + 1];
	struct err e;

	memset(name, 'n', WPATH_MAX);
	for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
		_own_(gitindex_free) struct gitindex *x = NULL, *none = NULL;

		begin(&m, forms[i][0], forms[i][1]);
		CHECK_OK(open_index(end(&m), &none, &e), &e);
		CHECK_EQ(ask(none, "a", true), GITINDEX_UNTRACKED);
		begin(&m, forms[i][0], forms[i][1]);
		add(&m, "a");
		add(&m, name);
		add(&m, "o");
		CHECK_OK(open_index(end(&m), &x, &e), &e);
		CHECK_EQ(ask(x, name, true), GITINDEX_TRACKED);
		CHECK_EQ(ask(x, "o", true), GITINDEX_TRACKED);
	}
}

TEST(e8_what_is_not_read_is_said)
{
	_own_(gitindex_free) struct gitindex *x = NULL;
	static struct made m;
	struct err e;

	begin(&m, 2, 20);
	add(&m, ""); /* what the other half has is replaced */
	add(&m, "a");
	add_extension(&m, "link", "a sum and two bitmaps");
	CHECK_EQ(open_index(end(&m), &x, &e), -EXDEV);
	CHECK_STR(e.text, "git's index cannot be read: it is split (core.splitIndex)");
	begin(&m, 3, 20);
	add(&m, "a");
	add_extension(&m, "must", "");
	CHECK_EQ(open_index(end(&m), &x, &e), -EPROTO);
	begin(&m, 5, 20);
	CHECK_EQ(open_index(end(&m), &x, &e), -EPROTO);
	CHECK_STR(e.text, "git's index cannot be read: its version is not one of 2, 3 and 4");
	CHECK(x == NULL);
}

TEST(e8_a_sparse_directory_hides_what_is_in_it)
{
	_own_(gitindex_free) struct gitindex *x = NULL;
	static struct made m;
	struct err e;

	begin(&m, 3, 20);
	add(&m, "a");
	add_as(&m, "big/", 0040000, 0, 0x4000);
	add(&m, "c");
	add_extension(&m, "sdir", "");
	CHECK_OK(open_index(end(&m), &x, &e), &e);
	CHECK_EQ(ask(x, "big/x/y", false), GITINDEX_NOT_KNOWN);
	CHECK_EQ(ask(x, "big/x", true), GITINDEX_NOT_KNOWN);
	CHECK_EQ(ask(x, "big", true), GITINDEX_TRACKED);
	CHECK_EQ(ask(x, "b", true), GITINDEX_UNTRACKED);
	CHECK_EQ(ask(x, "bigger", true), GITINDEX_UNTRACKED);
}

/* Each is one wrong thing in an index that is well otherwise. */
TEST(e8_damage_is_refused)
{
	static struct made m;

	for (int wrong = 0; wrong < 11; wrong++) {
		_own_(gitindex_free) struct gitindex *x = NULL;
		struct span all;
		struct err e;

		begin(&m, wrong == 9 ? 4 : wrong == 1 ? 2 : 3, 20);
		add(&m, wrong == 0 ? "c" : "b");
		if (wrong == 1)
			add_as(&m, "c", 0100644, 0, 0x2000); /* version 2 has no second flags */
		else if (wrong == 2)
			add_as(&m, "c", 0100644, 0, 0x8000);
		else if (wrong == 3)
			add(&m, "b"); /* twice, of no merge */
		else if (wrong == 4)
			add_as(&m, "c", 0010000, 0, 0);
		else if (wrong == 5)
			add_as(&m, "c", 0040000, 0, 0x4000); /* a directory without its slash */
		else if (wrong == 6)
			add(&m, "c/");
		else if (wrong == 7)
			add(&m, ""); /* of a split index, and this is none */
		else
			add(&m, wrong == 0 ? "b" : "c");
		if (wrong == 8)
			m.count++;
		if (wrong == 10)
			add_extension(&m, "TRE", "");
		all = end(&m);
		if (wrong == 9)
			m.room[all.len / 2] ^= 1; /* the sum tells */
		CHECK_EQ(open_index(all, &x, &e), -EBADMSG);
		CHECK_STR(e.text, "git's index is damaged");
	}
}

TEST(e8_a_sum_of_zeros_is_none)
{
	_own_(gitindex_free) struct gitindex *x = NULL;
	static struct made m;
	struct span all;
	struct err e;

	begin(&m, 2, 20);
	add(&m, "a");
	all = end(&m);
	memset(m.room + all.len - 20, 0, 20);
	CHECK_OK(open_index(all, &x, &e), &e);
	CHECK_EQ(ask(x, "a", false), GITINDEX_TRACKED);
}

/* Reads the spans up to the end, or says what is wrong. */
static int walk(struct span all, unsigned hash_bytes)
{
	struct gitindex_reader r;
	const char *what;
	int got = gitindex_begin(&r, all, hash_bytes);

	while (got == 0 && r.left > 0)
		got = gitindex_next(&r);
	return got == 0 ? gitindex_end(&r, &what) : got;
}

TEST(e8_no_prefix_is_an_index)
{
	static struct made m;

	for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
		struct span all;

		begin(&m, forms[i][0], forms[i][1]);
		add(&m, "dir/a");
		add(&m, "dir/bc");
		add(&m, "e");
		add_extension(&m, "TREE", "t");
		all = end(&m);
		for (size_t n = 0; n < all.len; n++) {
			uint8_t *at = guard_copy(all.at, n);
			_own_(gitindex_free) struct gitindex *x = NULL;
			struct err e;

			(void)!walk(span_of(at, n), forms[i][1]); /* reads no byte behind it */
			CHECK_EQ(open_index(span_of(at, n), &x, &e), -EBADMSG);
			guard_free(at, n);
		}
		CHECK_EQ(walk(guard_span(all.at, all.len), forms[i][1]), 0);
	}
}

TEST_MAIN()
