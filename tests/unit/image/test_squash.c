#include "image/squash.h"

#include "base/fdio.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static struct tree_inode *add(struct tree *t, const char *path, enum tree_kind kind)
{
	const struct tree_meta m = { .kind = kind, .mode = 0755 };
	struct tree_inode *in = NULL;
	struct err e = { 0 };

	CHECK_OK(tree_add(t, span_str(path), &m, 0, &in, &e), &e);
	return in;
}

/* A small image in `fd`, whose one file is data, a hole, data. */
static uint64_t make_image(int fd)
{
	const uint64_t seed[2] = { 1, 2 };
	_own_(squash_free) struct squash *s = NULL;
	_own_(tree_free) struct tree *t = NULL;
	struct tree_inode *in;
	struct err e = { 0 };
	uint64_t bytes = 0;

	CHECK_OK(tree_new(seed, &t, &e), &e);
	CHECK_OK(squash_new(fd, &s, &e), &e);
	tree_begin_layer(t, 0);
	(void)add(t, "d", TREE_DIR);
	in = add(t, "d/f", TREE_FILE);
	CHECK_OK(squash_begin(s, t, in, 4 * SQUASH_BLOCK_BYTES + 3, &e), &e);
	CHECK_OK(squash_data(s, "abc", 3, &e), &e);
	CHECK_OK(squash_hole(s, 4 * SQUASH_BLOCK_BYTES - 1, &e), &e);
	CHECK_EQ(squash_data(s, "toolong", 7, NULL), -EBADMSG);
	CHECK_OK(squash_data(s, "z", 1, &e), &e);
	CHECK_OK(squash_end(s, &e), &e);
	CHECK_EQ(in->block_count, 5);
	CHECK_EQ(in->sparse_bytes, 3 * SQUASH_BLOCK_BYTES);
	CHECK_OK(squash_xattr_begin(s, &e), &e);
	CHECK_OK(squash_xattr(s, "user.k", "v", 1, &e), &e);
	CHECK_OK(squash_xattr_end(s, in, &e), &e);
	CHECK_OK(tree_finish(t, &e), &e);
	CHECK_OK(squash_finish(s, t, &bytes, &e), &e);
	return bytes;
}

static int open_new(const char *name)
{
	_own_fd_ int dir = -1;
	struct err e = { 0 };
	int fd = -1;

	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &dir, &e), &e);
	CHECK_OK(fd_openat(dir, name, O_RDWR | O_CREAT | O_EXCL, 0600, &fd, &e), &e);
	return fd;
}

TEST(same_tree_same_bytes)
{
	_own_fd_ int a = open_new("a");
	_own_fd_ int b = open_new("b");
	static uint8_t x[1 << 20];
	static uint8_t y[1 << 20];
	uint64_t bytes = make_image(a);
	struct stat st;

	CHECK_EQ(make_image(b), bytes);
	CHECK(fstat(a, &st) == 0 && (uint64_t)st.st_size == bytes && bytes % 4096 == 0);
	CHECK(bytes < sizeof(x));
	CHECK_EQ(pread(a, x, sizeof(x), 0), bytes);
	CHECK_EQ(pread(b, y, sizeof(y), 0), bytes);
	CHECK(memcmp(x, y, bytes) == 0 && memcmp(x, "hsqs", 4) == 0);
}

TEST(attribute_names)
{
	CHECK(squash_xattr_fits("user.a") && squash_xattr_fits("security.capability"));
	CHECK(squash_xattr_fits("trusted.x") && !squash_xattr_fits("system.posix_acl_access"));
	CHECK(!squash_xattr_fits("user.") && !squash_xattr_fits("user") && !squash_xattr_fits(""));
}

TEST_MAIN()
