#include "image/path.h"

#include "guardpage.h"
#include "test.h"

#include <errno.h>
#include <string.h>

static const char *clean(const char *text)
{
	static char storage[TREE_PATH_MAX + 1];
	struct buf b;

	buf_init(&b, storage, sizeof(storage));
	return image_path_parse(guard_span(text, strlen(text)), &b, NULL) < 0 ? NULL : buf_cstr(&b);
}

TEST(cleaned)
{
	CHECK_STR(clean("./usr//bin/"), "usr/bin");
	CHECK_STR(clean("/etc/passwd"), "etc/passwd");
	CHECK_STR(clean("///"), "");
	CHECK_STR(clean("."), "");
	CHECK_STR(clean("a/./b/."), "a/b");
	CHECK_STR(clean("..."), "...");
	CHECK_STR(clean("a/..b/c.."), "a/..b/c..");
}

static enum path_fault fault_of(const void *text, size_t len)
{
	char storage[TREE_PATH_MAX + 1];
	enum path_fault f = PATH_OK;
	struct buf b;

	buf_init(&b, storage, sizeof(storage));
	CHECK_EQ(image_path_parse(guard_span(text, len), &b, &f), -EBADMSG);
	CHECK_EQ(b.len, 0);
	return f;
}

TEST(refused)
{
	char text[2 * TREE_PATH_MAX];

	CHECK_EQ(fault_of("..", 2), PATH_DOTDOT);
	CHECK_EQ(fault_of("/..", 3), PATH_DOTDOT);
	CHECK_EQ(fault_of("a/../b", 6), PATH_DOTDOT);
	CHECK_EQ(fault_of("a\0b", 3), PATH_NUL);
	CHECK_EQ(fault_of("", 0), PATH_EMPTY);
	memset(text, 'x', sizeof(text));
	CHECK_EQ(fault_of(text, TREE_NAME_MAX + 1), PATH_TOO_LONG);
	for (size_t i = 200; i < sizeof(text); i += 201)
		text[i] = '/';
	CHECK_EQ(fault_of(text, TREE_PATH_MAX + 1), PATH_TOO_LONG);
	memset(text, 'x', sizeof(text));
	for (size_t i = 1; i < sizeof(text); i += 2)
		text[i] = '/';
	CHECK_EQ(fault_of(text, 2 * TREE_DEPTH_MAX + 2), PATH_TOO_DEEP);
	CHECK(strlen(clean("x")) == 1);
}

TEST(small_output)
{
	char storage[4];
	struct buf b;

	buf_init(&b, storage, sizeof(storage));
	CHECK_EQ(image_path_parse(span_str("a/bcd"), &b, NULL), -EBADMSG);
	CHECK(buf_ok(&b) && b.len == 0);
}

TEST_MAIN()
