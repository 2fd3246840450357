#include "guardpage.h"
#include "test.h"
#include "work/base.h"
#include "work/erofs.h"

#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { NAMES = 1000 };

#define DISK_BYTES (EROFS_DATA_AT + (UINT64_C(1) << 30))

static const struct erofs_attr plain = { .mtime_s = 7, .mtime_ns = 8, .mode = 0644 };

static uint64_t put_file(struct erofs *w, const void *data, size_t len)
{
	const uint8_t *from = data;
	struct err e = { 0 };
	uint64_t nid = 0;

	erofs_begin(w, len);
	while (len > 0) {
		uint8_t *room = NULL;
		size_t n = 0;

		CHECK_OK(erofs_room(w, &room, &n, &e), &e);
		memcpy(room, from, n);
		erofs_filled(w, n);
		from += n;
		len -= n;
	}
	CHECK_OK(erofs_end(w, &plain, &nid, NULL, &e), &e);
	return nid;
}

static struct erofs *begin(int fd, struct erofs_slot *root, uint64_t names_bytes, uint64_t count)
{
	struct erofs *w = NULL;
	struct err e = { 0 };

	CHECK_OK(erofs_new(fd, DISK_BYTES, 1000, 1000, &w, &e), &e);
	CHECK_OK(erofs_reserve(w, names_bytes, count, root, &e), &e);
	return w;
}

static struct base *finish(int fd, struct erofs *w)
{
	uint8_t id[EROFS_ID_BYTES];
	struct base *b = NULL;
	struct err e = { 0 };

	CHECK_OK(erofs_finish(w, id, NULL, &e), &e);
	erofs_free(w);
	CHECK_OK(base_open(fd, -1, &b, &e), &e);
	return b;
}

static int new_file(void)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	CHECK(fd >= 0);
	return fd;
}

static void put_dir(struct erofs *w, const struct erofs_slot *slot, const char *name, uint64_t nid)
{
	struct err e = { 0 };

	erofs_dir_begin(w, slot, slot->nid);
	CHECK_OK(erofs_dir_add(w, span_str(name), nid, WORK_FILE, &e), &e);
	CHECK_OK(erofs_dir_end(w, &plain, 0, &e), &e);
}

static int count(void *arg, struct span name, const struct base_node *node, struct err *e)
{
	(void)name;
	(void)e;
	*(unsigned *)arg += node->kind == WORK_FILE ? 1 : 0;
	return 0;
}

TEST(a_large_directory_is_searched)
{
	_own_(base_free) struct base *b = NULL;
	_own_fd_ int fd = new_file();
	struct base_node root, node;
	struct erofs_slot slot;
	struct err e = { 0 };
	struct erofs *w = begin(fd, &slot, (uint64_t)NAMES * 8, NAMES);
	uint64_t nids[NAMES];
	unsigned seen = 0;
	char name[16];

	for (unsigned i = 0; i < NAMES; i++)
		nids[i] = put_file(w, &i, sizeof(i));
	erofs_dir_begin(w, &slot, slot.nid);
	for (unsigned i = 0; i < NAMES; i++) {
		/* some before ".", most behind ".." */
		(void)snprintf(name, sizeof(name), "%c%07u", i < 10 ? '!' : 'f', i);
		CHECK_OK(erofs_dir_add(w, span_str(name), nids[i], WORK_FILE, &e), &e);
	}
	CHECK_OK(erofs_dir_end(w, &plain, 0, &e), &e);
	b = finish(fd, w);
	for (unsigned i = 0; i < NAMES; i++) {
		unsigned got = 0;

		(void)snprintf(name, sizeof(name), "%c%07u", i < 10 ? '!' : 'f', i);
		CHECK_OK(base_lookup(b, span_str(name), &node, &e), &e);
		CHECK_OK(base_read(b, &node, 0, &got, sizeof(got), &e), &e);
		CHECK_EQ(got, i);
	}
	CHECK_EQ(base_lookup(b, span_str("f"), &node, NULL), -ENOENT);
	CHECK_EQ(base_lookup(b, span_str("zzz"), &node, NULL), -ENOENT);
	CHECK_EQ(base_lookup(b, span_str("!0000000/x"), &node, NULL), -ENOTDIR);
	CHECK_EQ(base_lookup(b, span_str(".."), &node, NULL), -ENOENT);
	base_root(b, &root);
	CHECK_OK(base_list(b, &root, count, &seen, &e), &e);
	CHECK_EQ(seen, NAMES);
}

TEST(what_is_dropped_leaves_no_byte)
{
	_own_(base_free) struct base *b = NULL;
	_own_fd_ int fd = new_file();
	uint8_t *secret = malloc(3 << 20), block[EROFS_BLOCK_BYTES];
	struct erofs_slot slot;
	struct erofs *w = begin(fd, &slot, 1, 1);
	struct err e = { 0 };
	uint8_t *room = NULL;
	size_t len = 0;

	CHECK(secret != NULL);
	memset(secret, 'S', 3 << 20);
	for (size_t size = 1; size <= 3 << 20; size *= 17) {
		size_t put = 0;

		erofs_begin(w, size);
		for (; put < size; put += len) {
			CHECK_OK(erofs_room(w, &room, &len, &e), &e);
			memcpy(room, secret, len);
			erofs_filled(w, len);
		}
		CHECK_OK(erofs_drop(w, &e), &e);
	}
	CHECK_OK(erofs_begin_sparse(w, 1 << 20, &e), &e);
	CHECK_OK(erofs_extent(w, 70000, 5000, &e), &e);
	CHECK_OK(erofs_put_at(w, 70000, secret, 5000, &e), &e);
	CHECK_OK(erofs_drop(w, &e), &e);
	/* a hole of the next file stands where the dropped one was */
	CHECK_OK(erofs_begin_sparse(w, 1 << 20, &e), &e);
	CHECK_OK(erofs_extent(w, 65536, 65536, &e), &e);
	CHECK_OK(erofs_put_at(w, 65536, "x", 1, &e), &e);
	CHECK_OK(erofs_end(w, &plain, &slot.nid, NULL, &e), &e);
	put_dir(w, &(struct erofs_slot){ .nid = 128, .room = slot.room }, "a", slot.nid);
	b = finish(fd, w);
	for (off_t at = 0; (at = lseek(fd, at, SEEK_DATA)) >= 0; at += EROFS_BLOCK_BYTES) {
		CHECK(pread(fd, block, sizeof(block), at) == (ssize_t)sizeof(block));
		CHECK(memchr(block, 'S', sizeof(block)) == NULL);
	}
	free(secret);
}

static bool any_block_has(int fd, uint8_t mark)
{
	uint8_t block[EROFS_BLOCK_BYTES];

	for (off_t at = 0; (at = lseek(fd, at, SEEK_DATA)) >= 0; at += EROFS_BLOCK_BYTES) {
		CHECK(pread(fd, block, sizeof(block), at) == (ssize_t)sizeof(block));
		if (block[0] == mark && memchr(block, mark, 100))
			return true;
	}
	return false;
}

/* A content in the place of one that is not kept, which is before the kept one; dropped once. */
static uint64_t put_over(struct erofs *w, const void *data, size_t len, uint32_t kept)
{
	struct erofs_content old = { 9000, kept }, none = { 100, 1 }, got;
	bool begun = true;
	struct err e = { 0 };
	uint8_t *room = NULL;
	uint64_t nid = 0;
	size_t n = 0;

	CHECK_OK(erofs_begin_over(w, len, &old, &begun, &e), &e);
	CHECK(!begun); /* it stays */
	CHECK_OK(erofs_begin_over(w, len, &none, &begun, &e), &e);
	CHECK(!begun); /* no content is there */
	old.block -= 3;
	for (int i = 0; i < 2; i++) {
		CHECK_OK(erofs_begin_over(w, 9 * len, &old, &begun, &e), &e);
		CHECK(!begun); /* does not fit */
		CHECK_OK(erofs_begin_over(w, len, &old, &begun, &e), &e);
		CHECK(begun);
		CHECK_OK(erofs_room(w, &room, &n, &e), &e);
		CHECK_EQ(n, len);
		memcpy(room, data, len);
		erofs_filled(w, len);
		if (i == 0)
			CHECK_OK(erofs_drop(w, &e), &e);
	}
	CHECK_OK(erofs_end(w, &plain, &nid, &got, &e), &e);
	CHECK_EQ(got.block, old.block);
	CHECK_EQ(erofs_keep(w, &old, NULL), -ESTALE);
	CHECK_OK(erofs_begin_over(w, len, &old, &begun, &e), &e);
	CHECK(!begun);
	return nid;
}

/* One generation over another: content 'k' stays, the rest goes; `mark` is new. */
static void write_over(int fd, struct erofs_places *places, uint32_t *block, uint8_t mark)
{
	uint8_t data[9000], id[EROFS_ID_BYTES];
	struct erofs_content kept = { 9000, *block };
	_own_(base_free) struct base *b = NULL;
	_own_(erofs_free) struct erofs *w = NULL;
	struct base_node node;
	struct erofs_slot slot;
	struct err e = { 0 };
	uint64_t nids[2];

	CHECK_OK(erofs_new_over(fd, DISK_BYTES, 1, 1, places, &w, &e), &e);
	CHECK_OK(erofs_reserve(w, 2, 2, &slot, &e), &e);
	CHECK_OK(erofs_keep(w, &kept, &e), &e);
	CHECK_OK(erofs_share(w, &plain, &kept, &nids[0], &e), &e);
	memset(data, mark, sizeof(data));
	nids[1] = put_over(w, data, sizeof(data), *block);
	erofs_dir_begin(w, &slot, slot.nid);
	CHECK_OK(erofs_dir_add(w, span_str("k"), nids[0], WORK_FILE, &e), &e);
	CHECK_OK(erofs_dir_add(w, span_str("n"), nids[1], WORK_FILE, &e), &e);
	CHECK_OK(erofs_dir_end(w, &plain, 0, &e), &e);
	CHECK_OK(base_open(fd, -1, &b, &e), &e); /* the earlier one, until the end */
	CHECK_OK(base_lookup(b, span_str("k"), &node, &e), &e);
	base_free(b);
	b = NULL;
	CHECK_OK(erofs_finish(w, id, places, &e), &e);
	CHECK_EQ(erofs_bytes(w),
	         (uint64_t)2 * 3 * EROFS_BLOCK_BYTES + places->meta_end - places->meta_at);
	CHECK_OK(base_open(fd, -1, &b, &e), &e);
	CHECK_OK(base_lookup(b, span_str("k"), &node, &e), &e);
	CHECK_OK(base_read(b, &node, 8999, data, 1, &e), &e);
	CHECK_EQ(data[0], 'k');
	CHECK_OK(base_lookup(b, span_str("n"), &node, &e), &e);
	CHECK_OK(base_read(b, &node, 8999, data, 1, &e), &e);
	CHECK_EQ(data[0], mark);
}

TEST(an_image_over_another_has_nothing_else_of_it)
{
	_own_fd_ int fd = new_file();
	uint8_t data[9000], id[EROFS_ID_BYTES];
	struct erofs_slot slot;
	struct erofs *w = begin(fd, &slot, 3, 3);
	struct erofs_places places;
	struct err e = { 0 };
	uint64_t nids[3];
	uint32_t block = EROFS_DATA_AT / EROFS_BLOCK_BYTES + 3;

	erofs_dir_begin(w, &slot, slot.nid);
	for (unsigned i = 0; i < 3; i++) {
		memset(data, "jkl"[i], sizeof(data));
		nids[i] = put_file(w, data, sizeof(data));
		CHECK_OK(erofs_dir_add(w, span_of(&"jkl"[i], 1), nids[i], WORK_FILE, &e), &e);
	}
	CHECK_OK(erofs_dir_end(w, &plain, 0, &e), &e);
	CHECK_OK(erofs_finish(w, id, &places, &e), &e);
	erofs_free(w);
	CHECK(any_block_has(fd, 'j') && any_block_has(fd, 'l'));
	write_over(fd, &places, &block, 'A');
	CHECK_EQ(places.meta_at, EROFS_OTHER_AT);
	CHECK(any_block_has(fd, 'k') && !any_block_has(fd, 'j') && !any_block_has(fd, 'l'));
	write_over(fd, &places, &block, 'B');
	CHECK_EQ(places.meta_at, 0);
	CHECK(any_block_has(fd, 'B') && !any_block_has(fd, 'A'));
}

TEST(what_leaves_no_room_is_not_written_over)
{
	struct erofs_places p = { 0, EROFS_OTHER_AT, EROFS_DATA_AT };
	struct erofs *w = NULL;
	_own_fd_ int fd = new_file();
	struct err e = { 0 };

	CHECK(erofs_over_ok(&p));
	p.meta_end++;
	CHECK(!erofs_over_ok(&p));
	p = (struct erofs_places){ EROFS_OTHER_AT, EROFS_DATA_AT, EROFS_DATA_AT };
	CHECK(erofs_over_ok(&p));
	p.data_end++;
	CHECK(!erofs_over_ok(&p));
	p.data_end = UINT64_C(1) << 40;
	CHECK(!erofs_over_ok(&p));
	CHECK_EQ(erofs_new_over(fd, DISK_BYTES, 1, 1, &p, &w, &e), -E2BIG);
	p.data_end = EROFS_DATA_AT + 2 * EROFS_BLOCK_BYTES;
	CHECK_OK(erofs_new_over(fd, DISK_BYTES, 1, 1, &p, &w, &e), &e);
	for (uint32_t i = 0; i < 4; i++)
		CHECK_EQ(erofs_keep(w,
		                    &(struct erofs_content){
					    4097, EROFS_DATA_AT / EROFS_BLOCK_BYTES - 1 + i },
		                    &e),
		         i == 1 ? 0 : -EBADMSG);
	erofs_free(w);
}

TEST(ends_of_files_are_zeros)
{
	_own_(base_free) struct base *b = NULL;
	_own_fd_ int fd = new_file();
	uint8_t data[5000], tail[EROFS_BLOCK_BYTES];
	struct erofs_slot slot;
	struct erofs *w = begin(fd, &slot, 1, 1);
	struct base_node node;
	struct err e = { 0 };
	uint64_t nid;

	memset(data, 'd', sizeof(data));
	nid = put_file(w, data, sizeof(data));
	put_dir(w, &slot, "a", nid);
	b = finish(fd, w);
	CHECK_OK(base_lookup(b, span_str("a"), &node, &e), &e);
	CHECK_EQ(node.size, sizeof(data));
	CHECK_EQ(node.mtime_s, 7);
	CHECK_EQ(node.mode, 0644);
	CHECK_EQ(base_read(b, &node, 4999, data, 2, NULL), -ENODATA);
	CHECK(pread(fd, tail, sizeof(tail), (off_t)(EROFS_DATA_AT + EROFS_BLOCK_BYTES)) ==
	      (ssize_t)sizeof(tail));
	for (size_t i = 5000 - 4096; i < sizeof(tail); i++)
		CHECK_EQ(tail[i], 0);
}

TEST(contents_are_compared)
{
	_own_(base_free) struct base *b = NULL;
	_own_fd_ int fd = new_file();
	_own_fd_ int other = new_file();
	struct erofs_slot slot;
	struct erofs *w = begin(fd, &slot, 1, 1);
	struct base_node node;
	struct err e = { 0 };

	put_dir(w, &slot, "a", put_file(w, "same text", 9));
	b = finish(fd, w);
	CHECK_OK(base_lookup(b, span_str("a"), &node, &e), &e);
	CHECK_EQ(base_same_content(b, &node, other, &e), 0);
	CHECK_OK(fd_write_all(other, "same text", 9, &e), &e);
	CHECK_EQ(base_same_content(b, &node, other, &e), 1);
	CHECK_OK(fd_write_all(other, "!", 1, &e), &e);
	CHECK_EQ(base_same_content(b, &node, other, &e), 0);
	CHECK(pwrite(other, "S", 1, 0) == 1);
	CHECK_EQ(base_same_content(b, &node, other, &e), 0);
	CHECK_EQ(base_host_record(b, &node, &(struct host_record){ .size = 0 }, NULL), -ENOENT);
}

TEST(a_damaged_image_is_refused)
{
	_own_fd_ int fd = new_file();
	struct erofs_slot slot;
	struct erofs *w = begin(fd, &slot, 1, 1);
	struct base *b;
	struct err e = { 0 };

	put_dir(w, &slot, "a", put_file(w, "text", 4));
	base_free(finish(fd, w));
	for (off_t at = EROFS_SUPER_AT; at < EROFS_SUPER_AT + EROFS_SUPER_BYTES; at++) {
		uint8_t was;

		CHECK(pread(fd, &was, 1, at) == 1);
		CHECK(pwrite(fd, &(uint8_t){ was ^ 1 }, 1, at) == 1);
		CHECK(base_open(fd, -1, &b, &e) < 0);
		CHECK(pwrite(fd, &was, 1, at) == 1);
	}
	CHECK(ftruncate(fd, (off_t)DISK_BYTES - EROFS_BLOCK_BYTES) == 0);
	CHECK_EQ(base_open(fd, -1, &b, &e), -EBADMSG);
}

TEST(parsers_read_no_byte_beyond)
{
	static const uint8_t block[] = { 9, 0, 0, 0, 0, 0, 0,  0, 24, 0, 1,   0,   9,  0,
		                         0, 0, 0, 0, 0, 0, 26, 0, 2,  0, 'a', 'b', 'c' };
	struct erofs_dirent d = { 0 };
	struct erofs_inode in;
	struct erofs_super s;
	uint32_t n;

	for (size_t len = 0; len <= sizeof(block); len++) {
		struct span at = guard_span(block, len);

		CHECK_EQ(erofs_parse_dir(at, &n), len > 24 ? 0 : -EBADMSG);
		/* a block that is cut in its last name may be a shorter block */
		if (len < 27)
			CHECK_EQ(erofs_parse_dirent(at, 1, &d), -EBADMSG);
		CHECK(erofs_parse_inode(at, &in) == -EBADMSG);
		CHECK(erofs_parse_super(at, &s) == -EBADMSG);
	}
	CHECK_EQ(erofs_parse_dirent(span_of(block, sizeof(block)), 1, &d), 0);
	CHECK_SPAN(d.name, "c");
	CHECK_EQ(d.kind, WORK_DIR);
}

TEST_MAIN()
