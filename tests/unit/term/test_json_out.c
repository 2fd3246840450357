#include "test.h"

#include "term/json_out.h"

#include <string.h>

static bool utf8(const char *s)
{
	return utf8_ok(span_str(s));
}

TEST(utf8_is_told_from_bytes)
{
	CHECK(utf8(""));
	CHECK(utf8("plain"));
	CHECK(utf8("\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80"));
	CHECK(utf8_ok(span_of("\0", 1)));
	CHECK(!utf8("\x80"));
	CHECK(!utf8("\xc0\x80"));         /* overlong */
	CHECK(!utf8("\xe0\x80\x80"));     /* overlong */
	CHECK(!utf8("\xed\xa0\x80"));     /* a surrogate */
	CHECK(!utf8("\xf4\x90\x80\x80")); /* beyond the last */
	CHECK(!utf8("\xf5\x80\x80\x80"));
	CHECK(!utf8("\xe2\x82"));
	CHECK(!utf8("\xff"));
}

static void base64(const char *in, const char *out)
{
	char storage[64];
	struct buf b;

	buf_init(&b, storage, sizeof(storage));
	buf_put_base64(&b, span_str(in));
	CHECK_SPAN(buf_span(&b), out);
}

TEST(base64_is_the_standards_own_examples)
{
	base64("", "");
	base64("f", "Zg==");
	base64("fo", "Zm8=");
	base64("foo", "Zm9v");
	base64("foob", "Zm9vYg==");
	base64("fooba", "Zm9vYmE=");
	base64("foobar", "Zm9vYmFy");
	base64("\xff\xfe\xfd", "//79");
}

static void output(struct span s, bool truncated, const char *json)
{
	char storage[400];
	struct buf b;

	CHECK(json_output_bytes(s) <= sizeof(storage));
	buf_init(&b, storage, json_output_bytes(s));
	buf_put_json_output(&b, "stdout", s, truncated);
	CHECK(buf_ok(&b));
	CHECK_SPAN(buf_span(&b), json);
}

TEST(output_says_how_it_is_written)
{
	output(span_str("hi\n"), false,
	       "\"stdout\":\"hi\\n\",\"stdout_encoding\":\"utf-8\",\"stdout_truncated\":false");
	output(span_str("\xff"), false,
	       "\"stdout\":\"/w==\",\"stdout_encoding\":\"base64\",\"stdout_truncated\":false");
	/* cut within a character: the whole ones before it are text still */
	output(span_str("a\xe2\x82"), true,
	       "\"stdout\":\"a\",\"stdout_encoding\":\"utf-8\",\"stdout_truncated\":true");
	output(span_str("a\xe2\x82"), false,
	       "\"stdout\":\"YeKC\",\"stdout_encoding\":\"base64\",\"stdout_truncated\":false");
}

TEST_MAIN()
