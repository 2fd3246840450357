#include "base/buf.h"

#include "guardpage.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

enum { ROOM = 256 };

static struct span json(struct buf *b, struct span s)
{
	buf_reset(b);
	buf_put_json_str(b, s);
	CHECK(buf_ok(b));
	return buf_span(b);
}

static struct span escaped(struct buf *b, struct span s)
{
	buf_reset(b);
	buf_put_escaped(b, s);
	CHECK(buf_ok(b));
	return buf_span(b);
}

TEST(puts_append)
{
	uint8_t room[ROOM];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	buf_put_u8(&b, 0x01);
	buf_put_le16(&b, 0x0302);
	buf_put_le32(&b, 0x07060504);
	buf_put_le64(&b, 0x0f0e0d0c0b0a0908);
	buf_put_str(&b, "ab");
	buf_put_span(&b, span_of("\0c", 2));
	buf_put(&b, NULL, 0);
	CHECK(buf_ok(&b));
	CHECK_MEM(buf_span(&b), span_of("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e"
	                                "\x0f"
	                                "ab\0c",
	                                19));
}

/* The storage ends at a guard page; whatever its size, what stands in it is whole puts. */
TEST(past_its_end_it_writes_nothing)
{
	for (size_t size = 0; size < 24; size++) {
		uint8_t zero[24] = { 0 };
		uint8_t *at = guard_copy(zero, size);
		struct buf b;

		buf_init(&b, at, size);
		buf_put_le64(&b, 1);
		buf_put_str(&b, "abc");
		buf_printf(&b, "%d", 12345);
		buf_put_le16(&b, 7);
		CHECK_EQ(buf_ok(&b), size >= 18);
		CHECK(b.len == 0 || b.len == 8 || b.len == 11 || b.len == 16 || b.len == 18);
		CHECK(b.len <= size);
		guard_free(at, size);
	}
}

TEST(one_put_too_many_ends_all_puts)
{
	char room[4];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	buf_put_str(&b, "abc");
	buf_put_str(&b, "de");
	CHECK(!buf_ok(&b));
	buf_put_str(&b, "f"); /* would fit, but then the text would have a hole */
	CHECK_SPAN(buf_span(&b), "abc");
	CHECK(!buf_ok(&b));
	buf_reset(&b);
	CHECK(buf_ok(&b));
	buf_put_str(&b, "wxyz");
	CHECK(buf_ok(&b));
}

TEST(a_length_near_the_top_does_not_wrap)
{
	char room[8];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	buf_put_str(&b, "abc");
	buf_put_span(&b, span_of("x", SIZE_MAX - 1)); /* never read: it does not fit */
	CHECK(!buf_ok(&b));
	CHECK_SPAN(buf_span(&b), "abc");
}

TEST(printf_needs_room_for_its_nul)
{
	char room[6];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	buf_printf(&b, "%s", "12345");
	CHECK(buf_ok(&b));
	CHECK_SPAN(buf_span(&b), "12345");
	buf_reset(&b);
	buf_printf(&b, "%s", "123456");
	CHECK(!buf_ok(&b));
	CHECK_EQ(b.len, 0);
	buf_init(&b, room, 0);
	buf_printf(&b, "%s", "");
	CHECK(!buf_ok(&b));
}

TEST(cstr_ends_with_a_nul_or_is_empty)
{
	char room[4];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	buf_put_str(&b, "abc");
	CHECK_STR(buf_cstr(&b), "abc");
	CHECK_EQ(b.len, 3);
	buf_put_str(&b, "d");
	CHECK(buf_ok(&b));
	CHECK_STR(buf_cstr(&b), "");
	CHECK(!buf_ok(&b));
}

TEST(str16_is_read_back)
{
	static uint8_t room[UINT16_MAX + 16];
	static char big[UINT16_MAX + 1];
	struct span got;
	struct span s;
	struct buf b;

	buf_init(&b, room, sizeof(room));
	buf_put_str16(&b, span_of("a\0b", 3));
	buf_put_str16(&b, span_of(NULL, 0));
	CHECK(buf_ok(&b));
	s = buf_span(&b);
	CHECK(take_str16(&s, 3, &got));
	CHECK_MEM(got, span_of("a\0b", 3));
	CHECK(take_str16(&s, 3, &got));
	CHECK_EQ(got.len, 0);
	CHECK_EQ(s.len, 0);
	buf_reset(&b);
	buf_put_str16(&b, span_of(big, UINT16_MAX));
	CHECK(buf_ok(&b));
	CHECK_EQ(b.len, UINT16_MAX + 2);
	buf_reset(&b);
	buf_put_str16(&b, span_of(big, sizeof(big)));
	CHECK(!buf_ok(&b));
	CHECK_EQ(b.len, 0);
	buf_init(&b, room, 4);
	buf_put_str16(&b, span_str("abc"));
	CHECK(!buf_ok(&b));
	CHECK_EQ(b.len, 0);
}

/* Source: RFC 8259, section 7; every byte below 0x80. */
TEST(json_of_every_ascii_byte)
{
	uint8_t room[ROOM];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	for (unsigned c = 0; c < 0x80; c++) {
		char in = (char)c;
		char want[16];

		if (c == '"' || c == '\\')
			(void)snprintf(want, sizeof(want), "\"\\%c\"", in);
		else if (c == '\n')
			(void)snprintf(want, sizeof(want), "\"\\n\"");
		else if (c == '\t')
			(void)snprintf(want, sizeof(want), "\"\\t\"");
		else if (c < 0x20 || c == 0x7f)
			(void)snprintf(want, sizeof(want), "\"\\u%04x\"", c);
		else
			(void)snprintf(want, sizeof(want), "\"%c\"", in);
		CHECK_SPAN(json(&b, span_of(&in, 1)), want);
	}
}

struct utf8_row {
	const char *in;
	size_t len;
	bool valid;
};

/* The edges of Unicode 15, table 3-7, from both sides. */
static const struct utf8_row utf8_rows[] = {
	{ "\xc2\xa0", 2, true },
	{ "\xdf\xbf", 2, true },
	{ "\xe0\xa0\x80", 3, true },
	{ "\xec\xbf\xbf", 3, true },
	{ "\xed\x9f\xbf", 3, true },
	{ "\xee\x80\x80", 3, true },
	{ "\xef\xbf\xbf", 3, true },
	{ "\xf0\x90\x80\x80", 4, true },
	{ "\xf3\xbf\xbf\xbf", 4, true },
	{ "\xf4\x8f\xbf\xbf", 4, true },
	{ "\x80", 1, false },
	{ "\xbf", 1, false },
	{ "\xc0\x80", 2, false },
	{ "\xc1\xbf", 2, false },
	{ "\xe0\x9f\xbf", 3, false },
	{ "\xed\xa0\x80", 3, false },
	{ "\xed\xbf\xbf", 3, false },
	{ "\xf0\x8f\xbf\xbf", 4, false },
	{ "\xf4\x90\x80\x80", 4, false },
	{ "\xf5\x80\x80\x80", 4, false },
	{ "\xff", 1, false },
	{ "\xfe", 1, false },
	{ "\xc2\x7f", 2, false },
	{ "\xe1\x80\x7f", 3, false },
	{ "\xf1\x80\x80\x7f", 4, false },
	{ "\xe1\x80\xc0", 3, false },
};

TEST(json_escapes_what_a_terminal_would_obey)
{
	uint8_t room[ROOM];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	CHECK_SPAN(json(&b, span_str("\xc2\x9b"
	                             "31m\x7f\x1b")),
	           "\"\\u009b31m\\u007f\\u001b\"");
	CHECK_SPAN(json(&b, span_str("\xc2\xa0")), "\"\xc2\xa0\"");
}

TEST(json_keeps_valid_utf8_and_replaces_the_rest)
{
	uint8_t room[ROOM];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	for (size_t i = 0; i < sizeof(utf8_rows) / sizeof(utf8_rows[0]); i++) {
		const struct utf8_row *row = &utf8_rows[i];
		struct span got = json(&b, guard_span(row->in, row->len));

		if (row->valid)
			CHECK_MEM(span_of(got.at + 1, got.len - 2), span_of(row->in, row->len));
		else
			CHECK(got.len >= 8 && memcmp(got.at + 1, "\\ufffd", 6) == 0);
	}
	CHECK_SPAN(json(&b, span_str("a\xff"
	                             "b\xc3\xa9")),
	           "\"a\\ufffdb\xc3\xa9\"");
	CHECK_SPAN(json(&b, span_of(NULL, 0)), "\"\"");
}

/* A sequence cut short is replaced byte for byte and nothing behind it is read. */
TEST(every_prefix_of_a_sequence_is_invalid)
{
	uint8_t room[ROOM];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	for (size_t i = 0; i < sizeof(utf8_rows) / sizeof(utf8_rows[0]); i++) {
		const struct utf8_row *row = &utf8_rows[i];

		for (size_t len = 1; row->valid && len < row->len; len++) {
			struct span got = json(&b, guard_span(row->in, len));

			CHECK_EQ(got.len, 2 + 6 * len);
			got = escaped(&b, guard_span(row->in, len));
			CHECK_EQ(got.len, 4 * len);
		}
	}
}

TEST(escapes_of_every_byte)
{
	uint8_t room[ROOM];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	for (unsigned c = 0; c < 0x100; c++) {
		char in = (char)c;
		char want[8];

		if (c < 0x20 || c >= 0x7f)
			(void)snprintf(want, sizeof(want), "\\x%02x", c);
		else
			(void)snprintf(want, sizeof(want), "%c", in);
		CHECK_SPAN(escaped(&b, span_of(&in, 1)), want);
	}
}

/* Terminals take U+0080..U+009F for controls: U+009B is as good as ESC [. */
TEST(escapes_c1_controls_and_keeps_letters)
{
	uint8_t room[ROOM];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	CHECK_SPAN(escaped(&b, span_str("\xc2\x9b"
	                                "31m")),
	           "\\xc2\\x9b31m");
	CHECK_SPAN(escaped(&b, span_str("\xc2\x80")), "\\xc2\\x80");
	CHECK_SPAN(escaped(&b, span_str("\xc2\xa0")), "\xc2\xa0");
	CHECK_SPAN(escaped(&b, span_str("gr\xc3\xbc\xc3\x9f\xf0\x9f\x90\xa2")),
	           "gr\xc3\xbc\xc3\x9f\xf0\x9f\x90\xa2");
	CHECK_SPAN(escaped(&b, span_str("\x1b[2J\r\n")), "\\x1b[2J\\x0d\\x0a");
}

/* Marks of direction, what has no width, tags: nobody sees them, so all would trust the rest. */
TEST(z2_what_is_not_seen_is_escaped)
{
	uint8_t room[ROOM];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	CHECK_SPAN(escaped(&b, span_str("a\xe2\x80\xae"
	                                "b\xe2\x81\xa6")),
	           "a\\xe2\\x80\\xaeb\\xe2\\x81\\xa6");
	CHECK_SPAN(escaped(&b, span_str("\xe2\x80\x8b\xef\xbb\xbf\xc2\xad")),
	           "\\xe2\\x80\\x8b\\xef\\xbb\\xbf\\xc2\\xad");
	CHECK_SPAN(escaped(&b, span_str("\xf3\xa0\x81\x81")), "\\xf3\\xa0\\x81\\x81");
	CHECK_SPAN(escaped(&b, span_str("\xe2\x80\xa8")), "\\xe2\\x80\\xa8");
	/* neighbours of them are letters and signs as others */
	CHECK_SPAN(escaped(&b, span_str("\xe2\x80\x90\xe2\x80\xa7\xe2\x80\xaf")),
	           "\xe2\x80\x90\xe2\x80\xa7\xe2\x80\xaf");
	CHECK_SPAN(json(&b, span_str("\xe2\x80\xae\xf3\xa0\x81\x81\xc2\xad")),
	           "\"\\u202e\\udb40\\udc41\\u00ad\"");
}

/* Whatever the room, an escaped text is a whole number of escapes. */
TEST(escapes_are_never_cut)
{
	for (size_t size = 0; size < 20; size++) {
		uint8_t zero[20] = { 0 };
		uint8_t *at = guard_copy(zero, size);
		struct buf b;

		buf_init(&b, at, size);
		buf_put_escaped(&b, span_str("\x01\x02\x03\x04"));
		CHECK_EQ(b.len % 4, 0);
		CHECK_EQ(buf_ok(&b), size >= 17); /* printf's NUL */
		buf_init(&b, at, size);
		buf_put_json_str(&b, span_str("\xff\xff"));
		CHECK_EQ(buf_ok(&b), size >= 14);
		guard_free(at, size);
	}
}

TEST_MAIN()
