#include "samples.h"
#include "test.h"

#include <stdlib.h>

TEST(the_header_is_as_documented)
{
	uint8_t raw[32];
	struct buf b;
	static const uint8_t want[] = { 0x7e, 0xb3, 35, 1, 4, 3, 2, 1,   8,
		                        7,    6,    5,  2, 0, 0, 0, 'h', 'i' };

	buf_init(&b, raw, sizeof(raw));
	wire_put(&b, WIRE_DATA, WIRE_OUT, 0x01020304, 0x05060708, span_of("hi", 2));
	CHECK_MEM(buf_span(&b), span_of(want, sizeof(want)));
}

/* With any room less than it needs, a frame leaves nothing behind, and what stood before stays. */
TEST(a_frame_is_whole_or_absent)
{
	for (size_t i = 0; i < SAMPLE_COUNT; i++) {
		uint8_t raw[SAMPLE_BYTES_MAX];
		struct buf b;
		size_t need;

		buf_init(&b, raw, sizeof(raw));
		sample_put(&b, &samples[i]);
		need = b.len;
		for (size_t room = 0; room < need; room++) {
			buf_init(&b, raw, 3 + room);
			buf_put(&b, "abc", 3);
			sample_put(&b, &samples[i]);
			CHECK(!buf_ok(&b));
			CHECK_EQ(b.len, 3);
		}
		buf_init(&b, raw, 3 + need);
		buf_put(&b, "abc", 3);
		sample_put(&b, &samples[i]);
		CHECK(buf_ok(&b));
		CHECK_EQ(b.len, 3 + need);
	}
}

TEST(limits_hold_for_the_writer)
{
	static char long_text[WIRE_PATH_MAX + 2];
	static uint8_t payload[WIRE_EXEC_MAX + 1];
	static uint8_t raw[WIRE_FRAME_MAX * 2];
	struct wire_hello h = sample_hello;
	struct wire_file f = sample_file;
	struct wire_identity id = sample_identity;
	struct buf b;

	memset(long_text, 'x', sizeof(long_text) - 1);
	buf_init(&b, raw, sizeof(raw));
	h.kernel = span_of(long_text, WIRE_NAME_MAX + 1);
	wire_put_hello(&b, 1, &h);
	CHECK(!buf_ok(&b));
	buf_init(&b, raw, sizeof(raw));
	f.path = span_of(long_text, WIRE_PATH_MAX + 1);
	wire_put_file(&b, WIRE_GET, 1, 1, &f);
	CHECK(!buf_ok(&b));
	buf_init(&b, raw, sizeof(raw));
	id.hostname = span_of(long_text, WIRE_HOSTNAME_MAX + 1);
	wire_put_identity(&b, 1, &id);
	CHECK(!buf_ok(&b));
	buf_init(&b, raw, sizeof(raw));
	id = sample_identity;
	id.trust.pem = span_of(long_text, WIRE_CERT_MAX + 1);
	wire_put_identity(&b, 1, &id);
	CHECK(!buf_ok(&b));
	buf_init(&b, raw, sizeof(raw));
	wire_put(&b, WIRE_DATA, 0, 1, 1, span_of(payload, sizeof(payload)));
	CHECK(!buf_ok(&b));
	CHECK_EQ(b.len, 0);
}

TEST(sentences_are_cut)
{
	static char long_text[3 * WIRE_TEXT_MAX];
	uint8_t raw[2 * WIRE_TEXT_MAX];
	struct wire_fail f = { .text = span_of(long_text, sizeof(long_text) - 1) };
	struct wire_fail got;
	struct span text;
	struct buf b;

	memset(long_text, 'x', sizeof(long_text) - 1);
	buf_init(&b, raw, sizeof(raw));
	wire_put_text(&b, WIRE_FATAL, 1, long_text);
	CHECK(buf_ok(&b));
	CHECK_EQ(
		wire_parse_text(span_of(raw + WIRE_HEADER_BYTES, b.len - WIRE_HEADER_BYTES), &text),
		0);
	CHECK_EQ(text.len, WIRE_TEXT_MAX);
	buf_init(&b, raw, sizeof(raw));
	wire_put_fail(&b, WIRE_RESULT, 1, 1, &f);
	CHECK_EQ(wire_parse_fail(span_of(raw + WIRE_HEADER_BYTES, b.len - WIRE_HEADER_BYTES), &got),
	         0);
	CHECK_EQ(got.text.len, WIRE_TEXT_MAX);
}

TEST(exec_lists_have_maxima)
{
	static uint8_t raw[WIRE_FRAME_MAX + 1];
	static const char *args[WIRE_ARGS_MAX + 2];
	struct wire_exec x = { 0 };
	struct wire_exec got;
	struct buf b;

	for (size_t i = 0; i < WIRE_ARGS_MAX; i++)
		args[i] = "argument of 24 bytes ...";
	buf_init(&b, raw, sizeof(raw));
	wire_put_exec(&b, 1, 1, &x, args, NULL);
	CHECK(buf_ok(&b));
	CHECK_EQ(wire_parse_exec(span_of(raw + WIRE_HEADER_BYTES, b.len - WIRE_HEADER_BYTES), &got),
	         0);
	CHECK_EQ(got.argc, WIRE_ARGS_MAX);
	CHECK_EQ(got.envc, 0);
	args[WIRE_ARGS_MAX] = "one more";
	buf_init(&b, raw, sizeof(raw));
	wire_put_exec(&b, 1, 1, &x, args, NULL);
	CHECK(!buf_ok(&b));
	args[0] = NULL; /* no command at all */
	buf_init(&b, raw, sizeof(raw));
	wire_put_exec(&b, 1, 1, &x, args, NULL);
	CHECK(!buf_ok(&b));
}

TEST(an_argument_over_a_str16_does_not_fit)
{
	static uint8_t raw[WIRE_FRAME_MAX];
	char *big = malloc(UINT16_MAX + 2);
	const char *args[] = { "x", big, NULL };
	struct wire_exec x = { 0 };
	struct buf b;

	CHECK(big);
	memset(big, 'y', UINT16_MAX + 1);
	big[UINT16_MAX + 1] = '\0';
	buf_init(&b, raw, sizeof(raw));
	wire_put_exec(&b, 1, 1, &x, args, NULL);
	CHECK(!buf_ok(&b));
	CHECK_EQ(b.len, 0);
	big[UINT16_MAX] = '\0';
	buf_init(&b, raw, sizeof(raw));
	wire_put_exec(&b, 1, 1, &x, args, NULL);
	CHECK(buf_ok(&b));
	free(big);
}

TEST_MAIN()
