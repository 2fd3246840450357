#include "guardpage.h"
#include "test.h"
#include "work/path.h"

#include <errno.h>
#include <string.h>

static enum wpath_fault fault_of(struct span path)
{
	enum wpath_fault fault = WPATH_OK;
	int r = wpath_parse(path, &fault);

	CHECK_EQ(r, fault == WPATH_OK ? 0 : -EBADMSG);
	return fault;
}

static enum wpath_fault fault_str(const char *path)
{
	return fault_of(span_str(path));
}

TEST(takes_the_one_form)
{
	CHECK_EQ(fault_str(""), WPATH_OK);
	CHECK_EQ(fault_str("a"), WPATH_OK);
	CHECK_EQ(fault_str("a/b/c d/.e/..f/..."), WPATH_OK);
	CHECK_EQ(fault_str("\xe9\x01\n\x7f/\xff"), WPATH_OK);
}

TEST(refuses_every_other_form)
{
	CHECK_EQ(fault_str("/"), WPATH_SLASH);
	CHECK_EQ(fault_str("/a"), WPATH_SLASH);
	CHECK_EQ(fault_str("a/"), WPATH_SLASH);
	CHECK_EQ(fault_str("a//b"), WPATH_SLASH);
	CHECK_EQ(fault_str("."), WPATH_DOT);
	CHECK_EQ(fault_str("a/./b"), WPATH_DOT);
	CHECK_EQ(fault_str(".."), WPATH_DOT);
	CHECK_EQ(fault_str("a/.."), WPATH_DOT);
	CHECK_EQ(fault_of(span_of("a\0b", 3)), WPATH_NUL);
	CHECK_EQ(wpath_parse(span_str("../x"), NULL), -EBADMSG);
}

TEST(holds_its_limits)
{
	static char text[WPATH_MAX + 1];

	memset(text, 'n', sizeof(text));
	CHECK_EQ(fault_of(span_of(text, WPATH_NAME_MAX)), WPATH_OK);
	CHECK_EQ(fault_of(span_of(text, WPATH_NAME_MAX + 1)), WPATH_LONGNAME);
	for (size_t i = 100; i < sizeof(text); i += 100)
		text[i] = '/';
	CHECK_EQ(fault_of(span_of(text, WPATH_MAX)), WPATH_OK);
	CHECK_EQ(fault_of(span_of(text, WPATH_MAX + 1)), WPATH_LONG);
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = i % 2 ? '/' : 'd';
	CHECK_EQ(fault_of(span_of(text, (size_t)WPATH_DEPTH_MAX * 2 - 1)), WPATH_OK);
	CHECK_EQ(fault_of(span_of(text, (size_t)WPATH_DEPTH_MAX * 2 + 1)), WPATH_DEEP);
}

TEST(reads_no_byte_beyond)
{
	static const char path[] = "ab/cd/..e";

	for (size_t len = 0; len < sizeof(path); len++) {
		struct span s = span_of(guard_copy(path, len), len);

		(void)fault_of(s);
		(void)wpath_depth(s);
		(void)wpath_last(s);
		(void)wpath_parent(s);
		(void)wpath_cmp(s, s);
	}
}

TEST(judges_names)
{
	CHECK(wpath_name_ok(span_str("a b")));
	CHECK(wpath_name_ok(span_str("...")));
	CHECK(!wpath_name_ok(span_str("")));
	CHECK(!wpath_name_ok(span_str(".")));
	CHECK(!wpath_name_ok(span_str("..")));
	CHECK(!wpath_name_ok(span_str("a/b")));
	CHECK(!wpath_name_ok(span_of("a\0", 2)));
}

TEST(walks_part_by_part)
{
	struct span rest = span_str("a/bc/d"), name = { 0 };

	CHECK(wpath_next(&rest, &name));
	CHECK_SPAN(name, "a");
	CHECK(wpath_next(&rest, &name));
	CHECK_SPAN(name, "bc");
	CHECK(wpath_next(&rest, &name));
	CHECK_SPAN(name, "d");
	CHECK(!wpath_next(&rest, &name));
	rest = span_str("");
	CHECK(!wpath_next(&rest, &name));
}

TEST(splits)
{
	CHECK_SPAN(wpath_parent(span_str("a/bc/d")), "a/bc");
	CHECK_SPAN(wpath_parent(span_str("a")), "");
	CHECK_SPAN(wpath_parent(span_str("")), "");
	CHECK_SPAN(wpath_last(span_str("a/bc/d")), "d");
	CHECK_SPAN(wpath_last(span_str("a")), "a");
	CHECK_SPAN(wpath_last(span_str("")), "");
	CHECK_EQ(wpath_depth(span_str("")), 0);
	CHECK_EQ(wpath_depth(span_str("a")), 1);
	CHECK_EQ(wpath_depth(span_str("a/b/c")), 3);
}

TEST(orders_as_a_walk_goes)
{
	static const char *const sorted[] = { "",      "a",   "a/b", "a/b/c", "a/b\x01", "a/bb",
		                              "a\x01", "a.b", "ab",  "b",     "\xe9" };
	size_t count = sizeof(sorted) / sizeof(sorted[0]);

	for (size_t i = 0; i < count; i++) {
		for (size_t j = 0; j < count; j++) {
			int got = wpath_cmp(span_str(sorted[i]), span_str(sorted[j]));

			CHECK_EQ((got > 0) - (got < 0), (i > j) - (i < j));
		}
	}
}

TEST(orders_names_by_bytes)
{
	CHECK(wpath_name_cmp(span_str("a"), span_str("ab")) < 0);
	CHECK(wpath_name_cmp(span_str("ab"), span_str("a")) > 0);
	CHECK(wpath_name_cmp(span_str("z"), span_str("\xe9")) < 0);
	CHECK_EQ(wpath_name_cmp(span_str("a"), span_str("a")), 0);
	CHECK(wpath_name_cmp(span_str(""), span_str("a")) < 0);
}

TEST(knows_what_is_beneath)
{
	struct span rest = { 0 };

	CHECK(wpath_beneath(span_str("a"), span_str("a/b/c"), &rest));
	CHECK_SPAN(rest, "b/c");
	CHECK(wpath_beneath(span_str("a"), span_str("a"), &rest));
	CHECK_SPAN(rest, "");
	CHECK(wpath_beneath(span_str(""), span_str("a/b"), &rest));
	CHECK_SPAN(rest, "a/b");
	CHECK(!wpath_beneath(span_str("a"), span_str("ab"), &rest));
	CHECK(!wpath_beneath(span_str("a/b"), span_str("a"), NULL));
}

TEST(joins_all_or_nothing)
{
	uint8_t storage[5];
	struct buf b;

	buf_init(&b, storage, sizeof(storage));
	wpath_put(&b, span_str("ab"), span_str("cd"));
	CHECK(buf_ok(&b));
	CHECK_SPAN(buf_span(&b), "ab/cd");
	buf_init(&b, storage, sizeof(storage));
	wpath_put(&b, span_str(""), span_str("cd"));
	CHECK_SPAN(buf_span(&b), "cd");
	wpath_put(&b, span_str("x"), span_str("yz"));
	CHECK(!buf_ok(&b));
	CHECK_SPAN(buf_span(&b), "cd");
}

TEST_MAIN()
