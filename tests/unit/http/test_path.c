#include "guardpage.h"
#include "http/http.h"
#include "test.h"

#include <errno.h>
#include <string.h>

struct made {
	uint8_t bytes[HTTP_TARGET_MAX];
	struct buf buf;
	uint32_t flags;
	enum http_reason why;
};

static int canon_span(struct span raw, unsigned options, struct made *m)
{
	uint8_t *at = guard_copy(raw.at, raw.len);
	int r;

	buf_init(&m->buf, m->bytes, sizeof(m->bytes));
	m->flags = 0;
	m->why = HTTP_FINE;
	r = path_parse(span_of(at, raw.len), options, &m->buf, &m->flags, &m->why);
	guard_free(at, raw.len);
	return r;
}

static void becomes(const char *raw, const char *want)
{
	struct made m;
	struct made again;

	if (canon_span(span_str(raw), PATH_KEEP_SLASH, &m) < 0)
		test_fail(__FILE__, __LINE__, "%s: %s", raw, http_reason_word(m.why));
	CHECK_SPAN(buf_span(&m.buf), want);
	/* doing it twice changes nothing */
	CHECK_EQ(canon_span(buf_span(&m.buf), PATH_KEEP_SLASH, &again), 0);
	CHECK_SPAN(buf_span(&again.buf), want);
	CHECK_EQ(again.flags, m.flags);
}

static void refused(const char *raw, enum http_reason why)
{
	struct made m;

	CHECK_EQ(canon_span(span_str(raw), 0, &m), -EBADMSG);
	CHECK_STR(http_reason_word(m.why), http_reason_word(why));
}

TEST(path_1_one_form)
{
	becomes("/", "/");
	becomes("/a/b", "/a/b");
	becomes("/%61%2d%2E%5f%7E", "/a-._~");
	becomes("/a%20b%3aC%40", "/a%20b%3AC%40");
	becomes("/a:b@c!$&'()*+,=", "/a:b@c!$&'()*+,=");
	becomes("/[x]{y}|z^`\"<>", "/%5Bx%5D%7By%7D%7Cz%5E%60%22%3C%3E");
	becomes("/%E2%82%ac/x", "/%E2%82%AC/x");
	becomes("/%f0%9f%98%80", "/%F0%9F%98%80");
}

TEST(path_2_dot_segments)
{
	becomes("/a/./b", "/a/b");
	becomes("/a/../b", "/b");
	becomes("/a/b/..", "/a/");
	becomes("/a/b/../", "/a/");
	becomes("/a/.", "/a/");
	becomes("/.", "/");
	becomes("/a/..", "/");
	becomes("/a/%2e%2E/b", "/b");
	becomes("/a/.%2e/b", "/b");
	becomes("/a/b/c/../../d", "/a/d");
	becomes("/...", "/...");
	becomes("/.a/..b", "/.a/..b");
	refused("/..", HTTP_PATH_CLIMBS);
	refused("/../", HTTP_PATH_CLIMBS);
	refused("/%2e%2e/etc", HTTP_PATH_CLIMBS);
	refused("/a/../../b", HTTP_PATH_CLIMBS);
	refused("/a/./../..", HTTP_PATH_CLIMBS);
	refused("//..", HTTP_PATH_CLIMBS);
}

TEST(path_3_parameters_slashes_backslashes)
{
	becomes("//", "/");
	becomes("//a///b//", "/a/b/");
	becomes("/a//../b", "/b");
	becomes("/a;v=1/b", "/a%3Bv=1/b");
	becomes("/a%3bv=1/b", "/a%3Bv=1/b");
	becomes("/;", "/%3B");
	refused("/a\\b", HTTP_PATH_BACKSLASH);
	refused("/a%5cb", HTTP_PATH_BACKSLASH);
	refused("/a/..;/b", HTTP_PATH_DOTS);
	refused("/a/..;x=1/b", HTTP_PATH_DOTS);
	refused("/a/.;/b", HTTP_PATH_DOTS);
	refused("/a/%2e%2e%3b/b", HTTP_PATH_DOTS);
	becomes("/a/...;/b", "/a/...%3B/b");
}

TEST(path_4_escaped_slash_and_once_only)
{
	struct made m;

	refused("/a%2fb", HTTP_PATH_SLASH);
	refused("/a%2Fb", HTTP_PATH_SLASH);
	becomes("/@scope%2fname", "/@scope%2Fname");
	CHECK_EQ(canon_span(span_str("/a%2fb"), PATH_KEEP_SLASH, &m), 0);
	CHECK_EQ(m.flags, HTTP_FLAG_ENCODED_SLASH);
	CHECK_EQ(canon_span(span_str("/a/b"), PATH_KEEP_SLASH, &m), 0);
	CHECK_EQ(m.flags, 0);
	becomes("/%252e%252e/a", "/%252e%252e/a");
	becomes("/%252f", "/%252f");
	becomes("/%25", "/%25");
}

TEST(path_5_bytes_that_are_none)
{
	static const char *const bad_utf8[] = {
		"/%c0%af",       "/%c1%81",       "/%e0%80%af", "/%ed%a0%80",
		"/%f4%90%80%80", "/%f8%88%80%80", "/%80",       "/%c3",
		"/%c3/",         "/%c3a",         "/%e2%82",    "/%c3%2f",
		"/%ff",          "/%f0%80%80%80", "/%e2%82%c3", "/%c3%41",
	};
	char every[] = "/?";

	for (size_t i = 0; i < sizeof(bad_utf8) / sizeof(bad_utf8[0]); i++)
		refused(bad_utf8[i], HTTP_PATH_UTF8);
	refused("/%00", HTTP_PATH_BYTE);
	refused("/%0d%0a", HTTP_PATH_BYTE);
	refused("/%7f", HTTP_PATH_BYTE);
	refused("/a#b", HTTP_FRAGMENT);
	refused("/%", HTTP_PATH_ESCAPE);
	refused("/%4", HTTP_PATH_ESCAPE);
	refused("/%4g", HTTP_PATH_ESCAPE);
	refused("/%%41", HTTP_PATH_ESCAPE);
	refused("/%u0041", HTTP_PATH_ESCAPE);
	refused("a", HTTP_TARGET);
	refused("", HTTP_TARGET);
	for (unsigned c = 1; c < 256; c++) {
		every[1] = (char)c;
		if (c <= ' ' || c >= 0x7f)
			refused(every, HTTP_PATH_BYTE);
	}
}

TEST(path_5_length)
{
	uint8_t raw[HTTP_TARGET_MAX + 1];
	struct made m;

	memset(raw, 'a', sizeof(raw));
	raw[0] = '/';
	CHECK_EQ(canon_span(span_of(raw, HTTP_TARGET_MAX), 0, &m), 0);
	CHECK_EQ(canon_span(span_of(raw, HTTP_TARGET_MAX + 1), 0, &m), -EBADMSG);
	CHECK_EQ(http_reason_status(m.why), 414);
	memset(raw + 1, ';', sizeof(raw) - 1); /* three bytes for each of these */
	CHECK_EQ(canon_span(span_of(raw, 1 + 1365), 0, &m), 0);
	CHECK_EQ(m.buf.len, HTTP_TARGET_MAX);
	CHECK_EQ(canon_span(span_of(raw, 1 + 1366), 0, &m), -EBADMSG);
	CHECK_EQ(m.why, HTTP_TARGET_TOO_LONG);
}

TEST(path_6_case_of_escapes)
{
	becomes("/%e2%82%ac%3a", "/%E2%82%AC%3A");
	becomes("/%E2%82%AC%3A", "/%E2%82%AC%3A");
}

TEST(l7_2_queries_stay_and_split)
{
	static const struct {
		const char *name, *value;
	} want[] = { { "a", "1" }, { "b", "" }, { "c", "x=y" }, { "", "v" }, { "a", "2" } };
	struct span q = span_str("a=1&b&&c=x=y&=v&a=2&");
	struct span name;
	struct span value;
	enum http_reason why = HTTP_FINE;
	uint8_t room[32];
	struct buf out;
	size_t n = 0;

	CHECK_EQ(query_parse_check(q, &why), 0);
	while (query_parse_next(&q, &name, &value)) {
		CHECK(n < 5);
		CHECK_SPAN(name, want[n].name);
		CHECK_SPAN(value, want[n].value);
		n++;
	}
	CHECK_EQ(n, 5);
	buf_init(&out, room, sizeof(room));
	query_parse_decode(span_str("a+b%2bc%00%"), &out);
	CHECK_MEM(buf_span(&out), span_of("a b+c\0%", 7));
	CHECK_EQ(query_parse_check(span_str("x[y]={z}|;/?\\"), &why), 0);
	CHECK_EQ(query_parse_check(span_str("100%"), &why), -EBADMSG);
	CHECK_EQ(why, HTTP_QUERY);
	CHECK_EQ(query_parse_check(span_str("a#b"), &why), -EBADMSG);
	CHECK_EQ(why, HTTP_FRAGMENT);
	CHECK_EQ(query_parse_check(span_str("a b"), &why), -EBADMSG);
	CHECK_EQ(query_parse_check(span_str("\x80"), &why), -EBADMSG);
}

TEST(every_reason_has_a_word_and_a_status)
{
	for (unsigned i = 0; i < HTTP_REASON_COUNT; i++) {
		CHECK(http_reason_word((enum http_reason)i) != NULL);
		CHECK(http_reason_status((enum http_reason)i) >= 200);
		for (unsigned k = 0; k < i; k++)
			CHECK(strcmp(http_reason_word((enum http_reason)i),
			             http_reason_word((enum http_reason)k)) != 0);
	}
}

TEST_MAIN()
