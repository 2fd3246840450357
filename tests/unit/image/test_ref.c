#include "image/ref.h"

#include "guardpage.h"
#include "test.h"

#include <errno.h>
#include <string.h>

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static int parse(const char *text, struct ref *ret)
{
	return ref_parse(guard_span(text, strlen(text)), ret);
}

TEST(names)
{
	static const char *const good[] = {
		"a",           "python",         "python:3.12",
		"a/b",         "a.b_c__d--e/f",  "host.example:5000/a/b:v1",
		"localhost/a", "localhost:80/a", "HOST/a",
		"a:Tag_1.2-3", "a1.b:latest",    "0",
		"abc"
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct ref r;

		if (parse(good[i], &r) < 0)
			test_fail(__FILE__, __LINE__, "'%s' is refused", good[i]);
		CHECK_EQ(r.kind, REF_NAME);
	}
}

TEST(no_names)
{
	static const char *const bad[] = { "",
		                           "/",
		                           "a/",
		                           "/a",
		                           "a//b",
		                           "A",
		                           "a:",
		                           ":a",
		                           "a:b:c",
		                           "a b",
		                           "../a",
		                           "a/..",
		                           ".",
		                           "a..b",
		                           "a.",
		                           "-a",
		                           "a-",
		                           "a___b",
		                           "a@b",
		                           "a:-b",
		                           "a:.b",
		                           "host:99999999/a",
		                           "h:x/a",
		                           ".h.x/a",
		                           "a\n",
		                           "a%2Fb",
		                           "caf\xc3\xa9",
		                           "-.x/a",
		                           "HOST",
		                           "h./a",
		                           "a:5/b:",
		                           HEX64 ":latest" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct ref r;

		if (parse(bad[i], &r) != -EBADMSG)
			test_fail(__FILE__, __LINE__, "'%s' is taken", bad[i]);
	}
}

TEST(ids)
{
	struct ref r;

	CHECK_EQ(parse(HEX64, &r), 0);
	CHECK_EQ(r.kind, REF_ID);
	CHECK_EQ(parse("sha256:" HEX64, &r), 0);
	CHECK_EQ(r.kind, REF_ID);
	CHECK_SPAN(r.id, HEX64);
	CHECK_EQ(parse("0123ab", &r), 0);
	CHECK_EQ(r.kind, REF_PREFIX);
	CHECK(ref_is_name(span_str("0123ab")));
	CHECK(!ref_is_name(span_str(HEX64)));
	CHECK_EQ(parse("sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdeX",
	               &r),
	         -EBADMSG);
}

TEST(parts)
{
	struct ref r;

	CHECK_EQ(parse("h.x:80/a/b:t", &r), 0);
	CHECK_SPAN(r.repo, "h.x:80/a/b");
	CHECK_SPAN(r.tag, "t");
	CHECK_EQ(parse("h.x:80/a", &r), 0);
	CHECK_EQ(r.tag.len, 0);
}

TEST(too_long)
{
	char text[IMAGE_NAME_MAX + 1];
	struct ref r;

	memset(text, 'x', sizeof(text));
	CHECK_EQ(ref_parse(span_of(text, IMAGE_NAME_MAX), &r), 0);
	CHECK_EQ(ref_parse(span_of(text, IMAGE_NAME_MAX + 1), &r), -EBADMSG);
}

TEST(canonical_and_file_names)
{
	char text[512];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	ref_put_canonical(&b, span_str("a/b:latest"));
	CHECK_STR(buf_cstr(&b), "a/b");
	buf_reset(&b);
	ref_put_canonical(&b, span_str("a b"));
	CHECK_EQ(b.len, 0);
	ref_put_escaped(&b, span_str("h:1/a/b:t"));
	CHECK_STR(buf_cstr(&b), "h:1%2Fa%2Fb:t");
	buf_reset(&b);
	CHECK_EQ(ref_unescape(span_str("h:1%2Fa%2Fb:t"), &b), 0);
	CHECK_STR(buf_cstr(&b), "h:1/a/b:t");
	buf_reset(&b);
	CHECK_EQ(ref_unescape(span_str("a%2fb"), &b), -EBADMSG);
	CHECK_EQ(ref_unescape(span_str("a/b"), &b), -EBADMSG);
	CHECK_EQ(ref_unescape(span_str("%2F.."), &b), -EBADMSG);
	CHECK_EQ(ref_unescape(span_str("a.0123456789abcdef~"), &b), -EBADMSG);
	CHECK_EQ(b.len, 0);
}

TEST_MAIN()
