#include "base/span.h"

#include "guardpage.h"
#include "test.h"

#include <string.h>

/* Every reader against every length up to one more than it wants, at a guard page. */
TEST(readers_want_all_their_bytes)
{
	static const uint8_t raw[9] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };

	for (size_t len = 0; len <= sizeof(raw); len++) {
		struct span in = guard_span(raw, len);
		struct span s;
		uint8_t v8 = 0xa5;
		uint16_t v16 = 0xa5a5;
		uint32_t v32 = 0xa5a5a5a5;
		uint64_t v64 = 0xa5;

		s = in;
		CHECK_EQ(take_u8(&s, &v8), len >= 1);
		CHECK_EQ(v8, len >= 1 ? 1 : 0xa5);
		CHECK_EQ(s.len, len >= 1 ? len - 1 : len);
		s = in;
		CHECK_EQ(take_le16(&s, &v16), len >= 2);
		CHECK_EQ(v16, len >= 2 ? 0x0201 : 0xa5a5);
		CHECK_EQ(s.len, len >= 2 ? len - 2 : len);
		s = in;
		CHECK_EQ(take_be16(&s, &v16), len >= 2);
		CHECK_EQ(v16, len >= 2 ? 0x0102 : 0xa5a5);
		s = in;
		CHECK_EQ(take_le32(&s, &v32), len >= 4);
		CHECK_EQ(v32, len >= 4 ? 0x04030201 : 0xa5a5a5a5);
		CHECK_EQ(s.len, len >= 4 ? len - 4 : len);
		s = in;
		CHECK_EQ(take_be32(&s, &v32), len >= 4);
		CHECK_EQ(v32, len >= 4 ? 0x01020304 : 0xa5a5a5a5);
		s = in;
		CHECK_EQ(take_le64(&s, &v64), len >= 8);
		CHECK_EQ(v64, len >= 8 ? 0x0807060504030201 : 0xa5);
		CHECK_EQ(s.len, len >= 8 ? len - 8 : len);
		CHECK(s.at + s.len == in.at + in.len);
		guard_free((uint8_t *)(uintptr_t)in.at, len);
	}
}

TEST(high_bytes_do_not_extend_their_sign)
{
	static const uint8_t raw[8] = { 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0xfa, 0xf9, 0xf8 };
	struct span s = span_of(raw, sizeof(raw));
	uint16_t v16;
	uint32_t v32;
	uint64_t v64;

	CHECK(take_le64(&s, &v64));
	CHECK_EQ(v64, 0xf8f9fafbfcfdfeff);
	s = span_of(raw, sizeof(raw));
	CHECK(take_be32(&s, &v32));
	CHECK_EQ(v32, 0xfffefdfc);
	CHECK(take_be16(&s, &v16));
	CHECK_EQ(v16, 0xfbfa);
}

TEST(bytes_and_spans)
{
	struct span in = guard_span("abcdef", 6);
	struct span s = in;
	struct span got = span_str("untouched");
	char out[8];

	CHECK(take_bytes(&s, out, 0));
	CHECK_EQ(s.len, 6);
	CHECK(take_bytes(&s, out, 2));
	CHECK(memcmp(out, "ab", 2) == 0);
	CHECK(!take_span(&s, 5, &got));
	CHECK(!take_span(&s, SIZE_MAX, &got));
	CHECK_SPAN(got, "untouched");
	CHECK(take_span(&s, 4, &got));
	CHECK_SPAN(got, "cdef");
	CHECK(take_span(&s, 0, &got));
	CHECK_EQ(got.len, 0);
	CHECK(!take_span(&s, 1, &got));
}

/* A NULL span of nothing is a span: no reader may hand NULL to memcpy. */
TEST(nothing_is_a_span)
{
	struct span none = span_of(NULL, 0);
	struct span got;
	char out[1];

	CHECK(span_equal(none, span_str("")));
	CHECK(take_bytes(&none, out, 0));
	CHECK(take_span(&none, 0, &got));
	CHECK(!take_until(&none, ',', &got));
	CHECK(!take_bytes(&none, out, 1));
}

TEST(str16_over_every_prefix)
{
	static const uint8_t raw[] = { 3, 0, 'a', 'b', 'c', 'X' };

	for (size_t len = 0; len <= sizeof(raw); len++) {
		struct span s = guard_span(raw, len);
		struct span got = span_str("untouched");
		bool good = len >= 5;

		CHECK_EQ(take_str16(&s, 3, &got), good);
		CHECK_SPAN(got, good ? "abc" : "untouched");
		CHECK_EQ(s.len, good ? len - 5 : len);
	}
}

TEST(str16_holds_its_maximum)
{
	static const uint8_t raw[] = { 3, 0, 'a', 'b', 'c' };
	static const uint8_t huge[] = { 0xff, 0xff, 'a' };
	struct span s = span_of(raw, sizeof(raw));
	struct span got = span_str("untouched");

	CHECK(!take_str16(&s, 2, &got));
	CHECK_EQ(s.len, sizeof(raw));
	s = span_of(huge, sizeof(huge));
	CHECK(!take_str16(&s, SIZE_MAX, &got));
	CHECK_SPAN(got, "untouched");
}

TEST(until_consumes_the_delimiter)
{
	struct span s = guard_span("a,,bc", 5);
	struct span got;

	CHECK(take_until(&s, ',', &got));
	CHECK_SPAN(got, "a");
	CHECK(take_until(&s, ',', &got));
	CHECK_SPAN(got, "");
	CHECK(take_until(&s, ',', &got));
	CHECK_SPAN(got, "bc");
	CHECK(!take_until(&s, ',', &got));
	CHECK_SPAN(got, "bc");
}

TEST(until_with_a_delimiter_at_the_end)
{
	struct span s = guard_span("a\n", 2);
	struct span got;

	CHECK(take_until(&s, '\n', &got));
	CHECK_SPAN(got, "a");
	CHECK_EQ(s.len, 0);
	CHECK(!take_until(&s, '\n', &got));
}

TEST(numbers_are_the_whole_span)
{
	static const struct {
		const char *text;
		bool good;
		uint64_t value;
	} rows[] = {
		{ "0", true, 0 },
		{ "007", true, 7 },
		{ "18446744073709551615", true, UINT64_MAX },
		{ "18446744073709551616", false, 0 },
		{ "184467440737095516150", false, 0 },
		{ "99999999999999999999999999999999", false, 0 },
		{ "", false, 0 },
		{ "-1", false, 0 },
		{ "+1", false, 0 },
		{ " 1", false, 0 },
		{ "1 ", false, 0 },
		{ "1e3", false, 0 },
		{ "0x10", false, 0 },
		{ "\xd9\xa1", false, 0 }, /* an Arabic digit one */
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t len = strlen(rows[i].text);
		uint64_t got = 0xa5;

		CHECK_EQ(span_to_u64(guard_span(rows[i].text, len), &got), rows[i].good);
		CHECK_EQ(got, rows[i].good ? rows[i].value : 0xa5);
	}
	CHECK(!span_to_u64(span_of("1\0", 2), &(uint64_t){ 0 }));
}

TEST(equality_looks_at_length_and_bytes)
{
	CHECK(span_is(span_str("run"), "run"));
	CHECK(!span_is(span_str("run"), "runs"));
	CHECK(!span_is(span_str("runs"), "run"));
	CHECK(!span_is(span_of("run\0x", 5), "run"));
	CHECK(span_equal(span_of("a\0b", 3), span_of("a\0b", 3)));
	CHECK(!span_equal(span_of("a\0b", 3), span_of("a\0c", 3)));
}

TEST_MAIN()
