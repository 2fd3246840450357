/* HTTP/2 from a hostile peer: frames written by hand. */
#include "http_pair.h"
#include "test.h"

#include <errno.h>
#include <string.h>

enum { DATA = 0, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4 };

static struct pair_side s;
static uint8_t bytes[1 << 20];
static struct buf out;
static uint8_t block_bytes[256 << 10];
static struct buf block;

static void frame(uint8_t type, uint8_t flags, uint32_t stream, struct span payload)
{
	buf_put_u8(&out, (uint8_t)(payload.len >> 16));
	buf_put_u8(&out, (uint8_t)(payload.len >> 8));
	buf_put_u8(&out, (uint8_t)payload.len);
	buf_put_u8(&out, type);
	buf_put_u8(&out, flags);
	for (int i = 24; i >= 0; i -= 8)
		buf_put_u8(&out, (uint8_t)(stream >> i));
	buf_put_span(&out, payload);
	CHECK(buf_ok(&out));
}

/* A literal field that is not indexed: RFC 7541, 6.2.2. Short strings only. */
static void field(const char *name, const char *value)
{
	buf_put_u8(&block, 0);
	buf_put_u8(&block, (uint8_t)strlen(name));
	buf_put_str(&block, name);
	buf_put_u8(&block, (uint8_t)strlen(value));
	buf_put_str(&block, value);
}

static void begin_block(void)
{
	buf_init(&block, block_bytes, sizeof(block_bytes));
}

static void begin_request(void)
{
	begin_block();
	field(":method", "GET");
	field(":scheme", "https");
	field(":authority", "a.test");
	field(":path", "/hold");
}

static void open_server(void)
{
	struct http_conn_opts o = { .http2 = true, .scheme = HTTP_TLS };

	pair_side_open(&s, &o);
	buf_init(&out, bytes, sizeof(bytes));
	buf_put_str(&out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
	frame(SETTINGS, 0, 0, span_of(NULL, 0));
}

static int flush(uint64_t now_ms)
{
	int r = pair_inject(&s, now_ms, out.at, out.len);

	buf_reset(&out);
	return r;
}

/* Rounds of what make() writes until the connection ends; -1 if it outlives `most` of them. */
static int rounds(void (*make)(uint32_t n), int most)
{
	open_server();
	CHECK_EQ(flush(1), 0);
	for (int n = 0; n < most; n++) {
		make((uint32_t)n);
		if (flush(1) < 0) {
			struct span left = http_conn_output(s.conn);

			http_conn_sent(s.conn, left.len);
			CHECK(http_conn_finished(s.conn));
			pair_side_close(&s);
			return n;
		}
	}
	pair_side_close(&s);
	return -1;
}

static void make_reset(uint32_t n)
{
	begin_request();
	frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, buf_span(&block));
	frame(RST, 0, 2 * n + 1, span_of("\0\0\0\x08", 4));
}

static void make_ping(uint32_t n)
{
	(void)n;
	frame(PING, 0, 0, span_of("12345678", 8));
}

static void make_settings(uint32_t n)
{
	(void)n;
	frame(SETTINGS, 0, 0, span_of(NULL, 0));
}

static void make_priority(uint32_t n)
{
	frame(PRIORITY, 0, 2 * n + 1, span_of("\0\0\0\0\1", 5));
}

static void make_empty(uint32_t n)
{
	if (n == 0) {
		begin_request();
		frame(HEADERS, END_HEADERS, 1, buf_span(&block));
	}
	frame(DATA, 0, 1, span_of(NULL, 0));
}

/* The peer's fault makes us reset: a window update of nothing. */
static void make_made_reset(uint32_t n)
{
	begin_request();
	frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, buf_span(&block));
	frame(WINDOW, 0, 2 * n + 1, span_of("\0\0\0\0", 4));
}

enum { RESET_SECONDS_MAX = 60 };

static void is_bounded(const char *what, int n, int most)
{
	if (n < 0 || n > most)
		test_fail(__FILE__, __LINE__, "%s: ended after %d of at most %d", what, n, most);
}

TEST(http_6_floods_end_the_connection)
{
	/* nghttp2 looks at a clock of its own: a busy machine may see seconds pass */
	is_bounded("resets", rounds(make_reset, 5000),
	           HTTP2_RESET_BURST + RESET_SECONDS_MAX * HTTP2_RESET_PER_S + 2);
	is_bounded("pings", rounds(make_ping, 5000), HTTP2_CONTROL_BURST + 2);
	is_bounded("settings", rounds(make_settings, 5000), HTTP2_CONTROL_BURST + 2);
	is_bounded("priorities", rounds(make_priority, 5000), HTTP2_CONTROL_BURST + 2);
	is_bounded("empty data", rounds(make_empty, 5000), HTTP2_CONTROL_BURST + 2);
	is_bounded("made resets", rounds(make_made_reset, 5000), HTTP2_CONTROL_BURST + 2);
}

/* CVE-2024-28182: a head without an end. */
TEST(http_6_continuations_without_end)
{
	int n;

	open_server();
	begin_request();
	frame(HEADERS, 0, 1, buf_span(&block));
	CHECK_EQ(flush(1), 0);
	for (n = 0; n < 100; n++) {
		frame(CONTINUATION, 0, 1, span_of(NULL, 0));
		if (flush(1) < 0)
			break;
	}
	is_bounded("continuations", n, HTTP2_CONTINUATIONS_MAX);
	CHECK_EQ(s.heads, 0);
	pair_side_close(&s);
}

TEST(time_brings_new_tokens)
{
	open_server();
	CHECK_EQ(flush(1), 0);
	for (uint64_t i = 0; i < 4 * HTTP2_CONTROL_BURST; i++) {
		make_ping(0);
		CHECK_EQ(flush(i * 1000 / HTTP2_CONTROL_PER_S), 0);
	}
	pair_side_close(&s);
}

/* A field of 4000 bytes in the table, and then a byte for each time it is meant. */
TEST(http_6_a_small_block_becomes_no_large_head)
{
	uint8_t large[4000];

	open_server();
	begin_request();
	memset(large, 'v', sizeof(large));
	buf_put_u8(&block, 0x40); /* literal, goes into the table */
	buf_put_u8(&block, 1);
	buf_put_u8(&block, 'x');
	buf_put(&block, "\x7f\xa1\x1e", 3); /* 4000 in an integer of 7 bits */
	buf_put(&block, large, sizeof(large));
	for (int i = 0; i < 10000; i++)
		buf_put_u8(&block, 0x80 | 62);
	CHECK(buf_ok(&block) && block.len < (16 << 10));
	frame(HEADERS, END_HEADERS | END_STREAM, 1, buf_span(&block));
	CHECK_EQ(flush(1), 0);
	CHECK_EQ(s.refused, 1);
	CHECK_EQ(s.why, HTTP_HEAD_TOO_LARGE);
	/* and the next stream is served */
	begin_request();
	frame(HEADERS, END_HEADERS | END_STREAM, 3, buf_span(&block));
	CHECK_EQ(flush(1), 0);
	CHECK_EQ(s.heads, 1);
	pair_side_close(&s);
}

static void refuses(enum http_reason why)
{
	open_server();
	frame(HEADERS, END_HEADERS | END_STREAM, 1, buf_span(&block));
	CHECK_EQ(flush(1), 0);
	CHECK_EQ(s.heads, 0);
	/* 0: nghttp2 reset the stream before we had to look at it */
	if (why != HTTP_FINE || s.refused)
		CHECK_STR(http_reason_word(s.why), http_reason_word(why));
	begin_request();
	frame(HEADERS, END_HEADERS | END_STREAM, 3, buf_span(&block));
	CHECK_EQ(flush(1), 0);
	CHECK_EQ(s.heads, 1);
	pair_side_close(&s);
}

static void request(const char *method, const char *scheme, const char *authority, const char *path)
{
	begin_block();
	if (method)
		field(":method", method);
	if (scheme)
		field(":scheme", scheme);
	if (authority)
		field(":authority", authority);
	if (path)
		field(":path", path);
}

TEST(http_1_heads_are_judged_as_in_http1)
{
	request("get", "https", "a.test", "/");
	refuses(HTTP_METHOD);
	request("TRACE", "https", "a.test", "/");
	refuses(HTTP_TRACE);
	request("GET", "http", "a.test", "/");
	refuses(HTTP_SCHEME);
	request("GET", "https", "a_b", "/");
	refuses(HTTP_HOST);
	request("GET", "https", "u@a.test", "/");
	refuses(HTTP_HOST);
	request("GET", "https", "127.1", "/");
	refuses(HTTP_HOST);
	request("GET", "https", "a.test", "/../x");
	refuses(HTTP_PATH_CLIMBS);
	request("GET", "https", "a.test", "/%2f");
	refuses(HTTP_PATH_SLASH);
	request("GET", "https", "a.test", "/a#b");
	refuses(HTTP_FRAGMENT);
	request("GET", "https", "a.test", "https://a.test/");
	refuses(HTTP_FINE);
	request("GET", "https", "a.test", "*");
	refuses(HTTP_FINE);
	request("GET", "https", "a.test", "/");
	field("host", "b.test");
	refuses(HTTP_HOST_MISMATCH);
	request("GET", "https", "a.test", "/");
	field("authorization", "a");
	field("authorization", "b");
	refuses(HTTP_FIELD_REPEATED);
	request("GET", "https", "a.test", "/");
	field("content_length", "1");
	refuses(HTTP_FIELD_NAME);
	request("POST", "https", "a.test", "/");
	field("content-length", "+1");
	refuses(HTTP_FINE);
	request("GET", "https", "a.test", "/");
	field("x", "a\rb");
	refuses(HTTP_FIELD_VALUE);
	request("GET", "https", "a.test", "/");
	field("expect", "x");
	refuses(HTTP_EXPECT);
}

/* What RFC 9113 itself forbids nghttp2 refuses; here it is only seen to. */
TEST(http_1_what_has_no_place_in_http2)
{
	static const char *const fields[][2] = {
		{ "connection", "close" }, { "transfer-encoding", "chunked" },
		{ "upgrade", "h2c" },      { "keep-alive", "5" },
		{ "te", "gzip" },          { "proxy-connection", "x" },
		{ "X-Upper", "x" },        { ":path", "/again" },
		{ ":status", "200" },      { ":other", "x" },
	};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		request("GET", "https", "a.test", "/");
		field(fields[i][0], fields[i][1]);
		open_server();
		frame(HEADERS, END_HEADERS | END_STREAM, 1, buf_span(&block));
		CHECK_EQ(flush(1), 0);
		CHECK_EQ(s.heads, 0);
		pair_side_close(&s);
	}
	for (int missing = 0; missing < 4; missing++) {
		request(missing == 0 ? NULL : "GET", missing == 1 ? NULL : "https",
		        missing == 2 ? NULL : "a.test", missing == 3 ? NULL : "/");
		open_server();
		frame(HEADERS, END_HEADERS | END_STREAM, 1, buf_span(&block));
		CHECK_EQ(flush(1), 0);
		CHECK_EQ(s.heads, 0);
		pair_side_close(&s);
	}
	/* CONNECT, plain and extended (RFC 8441) */
	for (int extended = 0; extended < 2; extended++) {
		request("CONNECT", extended ? "https" : NULL, "a.test:443", extended ? "/" : NULL);
		if (extended)
			field(":protocol", "websocket");
		open_server();
		frame(HEADERS, END_HEADERS, 1, buf_span(&block));
		CHECK_EQ(flush(1), 0);
		CHECK_EQ(s.heads, 0);
		pair_side_close(&s);
	}
}

TEST(http_1_a_body_has_the_length_it_said)
{
	for (int i = 0; i < 2; i++) {
		open_server();
		begin_request();
		field("content-length", "2");
		frame(HEADERS, END_HEADERS, 1, buf_span(&block));
		frame(DATA, END_STREAM, 1, span_str(i ? "abc" : "a"));
		CHECK_EQ(flush(1), 0);
		CHECK_EQ(s.heads, 1);
		CHECK_EQ(s.ends, 0);
		CHECK_EQ(s.resets, 1);
		pair_side_close(&s);
	}
}

TEST(http_6_bytes_that_are_no_http2)
{
	struct http_conn_opts o = { .http2 = true, .scheme = HTTP_TLS };

	pair_side_open(&s, &o);
	CHECK_EQ(pair_inject(&s, 1, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", 32), -EPROTO);
	CHECK_EQ(http_conn_reason(s.conn), HTTP_PROTOCOL);
	pair_side_close(&s);
	open_server();
	frame(DATA, 0, 0, span_str("x"));
	CHECK_EQ(flush(1), 0);
	CHECK_EQ(http_conn_reason(s.conn), HTTP_PROTOCOL);
	CHECK(http_conn_finished(s.conn)); /* its GOAWAY has been sent */
	frame(PING, 0, 0, span_of("12345678", 8));
	CHECK_EQ(flush(1), -EPROTO);
	pair_side_close(&s);
}

/* A sender that ignores the window is at fault; what we hold stays within it. */
TEST(l7_13_the_window_is_a_bound)
{
	static uint8_t zeros[16 << 10];
	int n;

	open_server();
	s.hold = true;
	begin_request();
	frame(HEADERS, END_HEADERS, 1, buf_span(&block));
	CHECK_EQ(flush(1), 0);
	for (n = 0; n < 10; n++) {
		frame(DATA, 0, 1, span_of(zeros, sizeof(zeros)));
		if (flush(1) < 0 || s.resets > 0)
			break;
	}
	CHECK_EQ(n, 3); /* a byte less than four, until our SETTINGS are acknowledged */
	CHECK(s.most <= HTTP_WINDOW_BYTES);
	pair_side_close(&s);
}

TEST_MAIN()
