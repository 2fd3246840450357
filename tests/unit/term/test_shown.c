#include "term/shown.h"

#include "guardpage.h"
#include "test.h"

#include <string.h>

/* Narrow but for CJK; nothing for a combining accent, and one that nobody knows. */
static int width_of(uint32_t c)
{
	if (c == 0x378)
		return -1;
	if (c >= 0x300 && c < 0x370)
		return 0;
	return c >= 0x2e80 && c < 0xa4d0 ? 2 : 1;
}

/* What is written for it, and the columns that were counted: "text:columns". */
static const char *shown(const char *text, shown_width_fn *width, enum shown_where where)
{
	static char storage[256];
	struct span s = span_str(text);
	size_t all = 0;
	struct buf b;

	buf_init(&b, storage, sizeof(storage));
	while (s.len > 0) {
		struct shown one = shown_take(&s, width, where);

		shown_put(&b, &one);
		all += one.columns;
	}
	CHECK_EQ(all, shown_columns(span_str(text), width, where));
	buf_printf(&b, ":%zu", all);
	return buf_cstr(&b);
}

static const char *in_line(const char *text)
{
	return shown(text, width_of, SHOWN_IN_LINE);
}

static const char *in_cells(const char *text)
{
	return shown(text, width_of, SHOWN_IN_CELLS);
}

/* The same in both: lists and the review's screens. */
static void both(const char *text, const char *want)
{
	CHECK_STR(in_line(text), want);
	CHECK_STR(in_cells(text), want);
}

TEST(text_is_as_wide_as_its_characters)
{
	both("", ":0");
	both("plain", "plain:5");
	both("gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f:4");
	both("\xe4\xb8\xad\xe6\x96\x87", "\xe4\xb8\xad\xe6\x96\x87:4");
}

TEST(what_moves_or_hides_is_written_out)
{
	both("a\x1b[m", "a\\x1b[m:7");
	both("a\tb\n", "a\\x09b\\x0a:10");
	both("\xe2\x80\xae", "\\xe2\\x80\\xae:12"); /* turns the line around */
	both("\xe2\x80\x8b", "\\xe2\\x80\\x8b:12"); /* of no width, and nothing to see */
	both("\xff", "\\xff:4");
	both("\xe4\xb8", "\\xe4\\xb8:8");
	both("\xcd\xb8", "\\xcd\\xb8:8"); /* not known */
}

TEST(an_accent_of_its_own_has_a_place_in_a_line_and_none_in_a_cell)
{
	CHECK_STR(in_line("e\xcc\x81t"), "e\xcc\x81t:2");
	CHECK_STR(in_cells("e\xcc\x81t"), "e\\xcc\\x81t:10");
}

TEST(without_widths_only_ascii_is_itself)
{
	CHECK_STR(shown("a\xc3\xbc", NULL, SHOWN_IN_LINE), "a\\xc3\\xbc:9");
	CHECK_STR(shown("a\xc3\xbc", NULL, SHOWN_IN_CELLS), "a\\xc3\\xbc:9");
}

TEST(no_byte_behind_the_end_is_read)
{
	static const char text[] = "a\xe4\xb8\xad\xf0\x9f\x98\x80";

	for (size_t len = 0; len < sizeof(text); len++) {
		struct span s = guard_span(text, len);

		CHECK(shown_columns(s, width_of, SHOWN_IN_LINE) <= 4 * len);
	}
}

TEST_MAIN()
