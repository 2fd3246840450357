/* Requests of HTTP/1: what is read, and all that is refused. */
#include "http_dump.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define H "Host: a.test\r\n"

static char text[DUMP_BYTES_MAX];
static char other[DUMP_BYTES_MAX];

static const char *dump(const struct h1_dump *d, struct span in, char *room)
{
	struct buf out;

	buf_init(&out, room, DUMP_BYTES_MAX);
	h1_dump(d, in, &out);
	CHECK(buf_ok(&out));
	return buf_cstr(&out);
}

/* Every reading of the same bytes is the same, however they are cut. */
static const char *read_all_ways(struct h1_dump d, struct span in)
{
	const char *whole = dump(&d, in, text);

	for (size_t piece = 1; piece < 4; piece++) {
		d.piece = piece;
		CHECK_STR(dump(&d, in, other), whole);
	}
	for (uint32_t seed = 1; seed < 8; seed++) {
		d.seed = seed;
		CHECK_STR(dump(&d, in, other), whole);
	}
	return whole;
}

static void reads(const char *in, const char *want)
{
	struct h1_dump d = { .rules = { .scheme = HTTP_TLS }, .eof = true };

	CHECK_STR(read_all_ways(d, span_str(in)), want);
}

static void refused_bytes(struct span in, enum http_reason why)
{
	struct h1_dump d = { .rules = { .scheme = HTTP_TLS } };
	const char *got = read_all_ways(d, in);
	char want[64];

	(void)snprintf(want, sizeof(want), "bad %s\n", http_reason_word(why));
	if (strcmp(got, want) != 0)
		test_fail(__FILE__, __LINE__, "%.200s: %.200s, not %s", in.at, got, want);
}

static void refused(const char *in, enum http_reason why)
{
	refused_bytes(span_str(in), why);
}

TEST(http_1_plain_requests)
{
	reads("GET / HTTP/1.1\r\n" H "\r\n",
	      "request GET https a.test 443 / - 0 0 0\nend 32\neof\n");
	reads("GET /a/../b?x=1&y=%2f HTTP/1.1\r\nHost: A.Test:8443\r\nX-Y: \t z \t\r\n"
	      "Cookie: a=1\r\n\r\n",
	      "request GET https a.test 8443 /b ?x=1&y=%2f 1 0 0\nfield x-y: z\nfield cookie: a=1\n"
	      "end 78\neof\n");
	reads("POST /p? HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello",
	      "request POST https a.test 443 /p ? 1 1 5\nbody 68656c6c6f\nend 59\neof\n");
	reads("POST / HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n",
	      "request POST https a.test 443 / - 0 1 0\nend 52\neof\n");
	reads("POST / HTTP/1.1\r\n" H
	      "Transfer-Encoding: Chunked\r\n\r\n2\r\nhi\r\n0\r\nX-T: v\r\n\r\n",
	      "request POST https a.test 443 / - 0 2 0\ntrailer x-t: v\nbody 6869\nend 81\neof\n");
	reads("GET / HTTP/1.0\r\n" H "Expect: 100-continue\r\n\r\n",
	      "request GET https a.test 443 / - 0 0 0\nend 54\neof\n");
	reads("GET / HTTP/1.1\r\nHost:a.test\r\nEmpty:\r\nHigh: \xe9\r\n\r\n",
	      "request GET https a.test 443 / - 0 0 0\nfield empty: \nfield high: \xe9\nend 48\neof\n");
}

TEST(http_1_forms_of_the_target)
{
	reads("GET https://a.test/x?y HTTP/1.1\r\n" H "\r\n",
	      "request GET https a.test 443 /x ?y 1 0 0\nend 49\neof\n");
	reads("GET HTTPS://A.TEST:443 HTTP/1.1\r\n" H "\r\n",
	      "request GET https a.test 443 / - 0 0 0\nend 49\neof\n");
	reads("GET https://a.test?q HTTP/1.1\r\n" H "\r\n",
	      "request GET https a.test 443 / ?q 1 0 0\nend 47\neof\n");
	reads("OPTIONS * HTTP/1.1\r\n" H "\r\n",
	      "request OPTIONS https a.test 443 * - 0 0 0\nend 36\neof\n");
	reads("OPTIONS https://a.test HTTP/1.1\r\n" H "\r\n",
	      "request OPTIONS https a.test 443 * - 0 0 0\nend 49\neof\n");
	refused("GET * HTTP/1.1\r\n" H "\r\n", HTTP_TARGET);
	refused("GET a.test:443 HTTP/1.1\r\n" H "\r\n", HTTP_TARGET);
	refused("GET a.test HTTP/1.1\r\n" H "\r\n", HTTP_TARGET);
	refused("GET ?q HTTP/1.1\r\n" H "\r\n", HTTP_TARGET);
	refused("OPTIONS *?q HTTP/1.1\r\n" H "\r\n", HTTP_TARGET);
	refused("GET http://a.test/ HTTP/1.1\r\n" H "\r\n", HTTP_SCHEME);
	refused("GET ftp://a.test/ HTTP/1.1\r\n" H "\r\n", HTTP_SCHEME);
	refused("GET https:/a.test/ HTTP/1.1\r\n" H "\r\n", HTTP_TARGET);
	refused("GET https:///x HTTP/1.1\r\n" H "\r\n", HTTP_HOST);
	refused("GET https://b.test/ HTTP/1.1\r\n" H "\r\n", HTTP_HOST_MISMATCH);
	refused("GET https://a.test:444/ HTTP/1.1\r\n" H "\r\n", HTTP_HOST_MISMATCH);
	refused("GET https://u@a.test/ HTTP/1.1\r\n" H "\r\n", HTTP_HOST);
	refused("GET https://a.test/ HTTP/1.1\r\n\r\n", HTTP_HOST_MISSING);
	refused("GET https://a.test#x HTTP/1.1\r\n" H "\r\n", HTTP_FRAGMENT);
	refused("CONNECT a.test:443 HTTP/1.1\r\n" H "\r\n", HTTP_CONNECT);
}

TEST(con_1_connect_where_it_is_allowed)
{
	struct h1_dump d = { .rules = { .scheme = HTTP_PLAIN, .connect = true }, .opaque = true };
	static const char *const bad[] = {
		"CONNECT a.test HTTP/1.1\r\nHost: a.test\r\n\r\n",
		"CONNECT a.test:0 HTTP/1.1\r\nHost: a.test:0\r\n\r\n",
		"CONNECT a.test:65536 HTTP/1.1\r\nHost: a.test:1\r\n\r\n",
		"CONNECT [::1:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n",
		"CONNECT u@a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
		"CONNECT /x HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
	};

	CHECK_STR(
		read_all_ways(
			d, span_str("CONNECT a.test:443 HTTP/1.1\r\nHost: A.TEST:443\r\n\r\n\x16")),
		"request CONNECT http a.test 443  - 0 0 0\nend 49\nmore\n");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_STR(read_all_ways(d, span_str(bad[i])), "bad host\n");
	CHECK_STR(read_all_ways(
			  d, span_str("CONNECT a.test:443 HTTP/1.1\r\nHost: b.test:443\r\n\r\n")),
	          "bad host-mismatch\n");
	CHECK_STR(read_all_ways(
			  d,
			  span_str("CONNECT a.test:1 HTTP/1.1\r\nHost: a.test:1\r\nContent-Length: "
	                           "1\r\n\r\n")),
	          "bad body-forbidden\n");
}

TEST(http_1_lines)
{
	refused("GET / HTTP/1.1\n" H "\r\n", HTTP_BARE_LF);
	refused("GET / HTTP/1.1\r\nHost: a.test\n\r\n", HTTP_BARE_LF);
	refused("GET / HTTP/1.1\r\n" H "\n", HTTP_BARE_LF);
	refused("GET / HTTP/1.1\r\r\n" H "\r\n", HTTP_BARE_CR);
	refused("GET / HTTP/1.1\r\nX: a\rb\r\n" H "\r\n", HTTP_BARE_CR);
	refused("\r\nGET / HTTP/1.1\r\n" H "\r\n", HTTP_REQUEST_LINE);
	refused("\nGET / HTTP/1.1\r\n" H "\r\n", HTTP_BARE_LF);
	refused(" GET / HTTP/1.1\r\n" H "\r\n", HTTP_METHOD);
	refused("GET  / HTTP/1.1\r\n" H "\r\n", HTTP_REQUEST_LINE);
	refused("GET /  HTTP/1.1\r\n" H "\r\n", HTTP_REQUEST_LINE);
	refused("GET\t/ HTTP/1.1\r\n" H "\r\n", HTTP_REQUEST_LINE);
	refused("GET / a HTTP/1.1\r\n" H "\r\n", HTTP_REQUEST_LINE);
	refused("GET / HTTP/1.1 \r\n" H "\r\n", HTTP_REQUEST_LINE);
	refused("GET /\r\n" H "\r\n", HTTP_REQUEST_LINE);
	refused("GET\r\n" H "\r\n", HTTP_REQUEST_LINE);
	refused("GET / HTTP/1.1\r\n" H " folded\r\n\r\n", HTTP_FIELD_FOLD);
	refused("GET / HTTP/1.1\r\n" H "X: a\r\n\tb\r\n\r\n", HTTP_FIELD_FOLD);
	refused("GET / HTTP/1.1\r\n X: first\r\n" H "\r\n", HTTP_FIELD_FOLD);
	refused("GET / HTTP/1.1\r\nHost : a.test\r\n\r\n", HTTP_FIELD_SPACE);
	refused("GET / HTTP/1.1\r\n" H "X\t: y\r\n\r\n", HTTP_FIELD_SPACE);
	refused("GET / HTTP/1.1\r\n" H "X y: z\r\n\r\n", HTTP_FIELD_NAME);
	refused("GET / HTTP/1.1\r\n" H ": z\r\n\r\n", HTTP_FIELD_NAME);
	refused("GET / HTTP/1.1\r\n" H "no colon\r\n\r\n", HTTP_FIELD_NAME);
	refused("GET / HTTP/1.1\r\n" H "X(y): z\r\n\r\n", HTTP_FIELD_NAME);
	refused("GET / HTTP/1.1\r\n" H "X\xe9: z\r\n\r\n", HTTP_FIELD_NAME);
	refused_bytes(span_of("GET / HTTP/1.1\r\nX: a\0b\r\n\r\n", 26), HTTP_CONTROL_BYTE);
	refused("GET / HTTP/1.1\r\n" H "X: a\x7f\r\n\r\n", HTTP_CONTROL_BYTE);
	refused("GET / HTTP/1.1\r\n" H "X: a\x0b\r\n\r\n", HTTP_CONTROL_BYTE);
	refused("G\x01T / HTTP/1.1\r\n" H "\r\n", HTTP_CONTROL_BYTE);
}

TEST(http_1_method_and_version)
{
	refused("get / HTTP/1.1\r\n" H "\r\n", HTTP_METHOD);
	refused("Get / HTTP/1.1\r\n" H "\r\n", HTTP_METHOD);
	refused("GE(T / HTTP/1.1\r\n" H "\r\n", HTTP_METHOD);
	refused("G\xc9T / HTTP/1.1\r\n" H "\r\n", HTTP_METHOD);
	reads("M-SEARCH / HTTP/1.1\r\n" H "\r\n",
	      "request M-SEARCH https a.test 443 / - 0 0 0\nend 37\neof\n");
	refused("GET / HTTP/1.2\r\n" H "\r\n", HTTP_VERSION);
	refused("GET / HTTP/2.0\r\n" H "\r\n", HTTP_VERSION);
	refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HTTP_VERSION);
	refused("GET / HTTP/0.9\r\n" H "\r\n", HTTP_VERSION);
	refused("GET / http/1.1\r\n" H "\r\n", HTTP_REQUEST_LINE);
	refused("GET / HTTP/1.10\r\n" H "\r\n", HTTP_REQUEST_LINE);
	refused("GET / HTTP/11\r\n" H "\r\n", HTTP_REQUEST_LINE);
	refused("GET / HTTP/1,1\r\n" H "\r\n", HTTP_REQUEST_LINE);
	refused("GET / HTTPS/1.1\r\n" H "\r\n", HTTP_REQUEST_LINE);
	CHECK_EQ(http_reason_status(HTTP_VERSION), 505);
}

TEST(http_7_trace_is_405)
{
	refused("TRACE / HTTP/1.1\r\n" H "\r\n", HTTP_TRACE);
	CHECK_EQ(http_reason_status(HTTP_TRACE), 405);
}

TEST(http_1_host)
{
	refused("GET / HTTP/1.1\r\n\r\n", HTTP_HOST_MISSING);
	refused("GET / HTTP/1.0\r\n\r\n", HTTP_HOST_MISSING);
	refused("GET / HTTP/1.1\r\n" H H "\r\n", HTTP_HOST_REPEATED);
	refused("GET / HTTP/1.1\r\nHost:\r\n\r\n", HTTP_HOST);
	refused("GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n", HTTP_HOST);
	refused("GET / HTTP/1.1\r\nHost: a.test:\r\n\r\n", HTTP_HOST);
	refused("GET / HTTP/1.1\r\nHost: 127.1\r\n\r\n", HTTP_HOST);
	refused("GET / HTTP/1.1\r\nHost: u@a.test\r\n\r\n", HTTP_HOST);
}

TEST(http_1_lengths)
{
	static const char *const bad[] = { "",
		                           "+5",
		                           "-5",
		                           "05",
		                           "5 5",
		                           "5,5",
		                           "5, 5",
		                           "0x5",
		                           "5;",
		                           "5.0",
		                           "00",
		                           "\"5\"",
		                           "9223372036854775808",
		                           "18446744073709551616",
		                           "5a",
		                           "a" };
	char in[256];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		(void)snprintf(in, sizeof(in),
		               "POST / HTTP/1.1\r\n" H "Content-Length: %s\r\n\r\nhello", bad[i]);
		refused(in, HTTP_LENGTH);
	}
	refused("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
	        HTTP_LENGTH_REPEATED);
	refused("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\ncontent-length: 6\r\n\r\nhello",
	        HTTP_LENGTH_REPEATED);
	refused("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
	        HTTP_LENGTH_AND_CODING);
	refused("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
	        HTTP_LENGTH_AND_CODING);
	refused("POST / HTTP/1.1\r\n" H "Content_Length: 5\r\n\r\n", HTTP_FIELD_NAME);
	refused("POST / HTTP/1.1\r\n" H "Transfer_Encoding: chunked\r\n\r\n", HTTP_FIELD_NAME);
	refused("POST / HTTP/1.1\r\n" H "Transfer-Encodingx: chunked\r\n\r\n", HTTP_FIELD_NAME);
	refused("POST / HTTP/1.1\r\n" H "Content-Length-: 5\r\n\r\n", HTTP_FIELD_NAME);
}

TEST(http_1_codings)
{
	static const char *const bad[] = { "",
		                           "identity",
		                           "gzip",
		                           "gzip, chunked",
		                           "chunked, chunked",
		                           "chunked, identity",
		                           "xchunked",
		                           "chunked;q=1",
		                           "\"chunked\"",
		                           ",chunked",
		                           "chunked," };
	char in[256];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		(void)snprintf(in, sizeof(in),
		               "POST / HTTP/1.1\r\n" H "Transfer-Encoding: %s\r\n\r\n0\r\n\r\n",
		               bad[i]);
		refused(in, HTTP_CODING);
	}
	refused("POST / HTTP/1.1\r\n" H
	        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
	        HTTP_CODING_REPEATED);
	refused("POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n", HTTP_CODING);
	refused("POST / HTTP/1.1\r\n" H "Transfer-Encoding:\x0b"
	        "chunked\r\n\r\n",
	        HTTP_CONTROL_BYTE);
}

TEST(http_1_one_hop)
{
	reads("GET / HTTP/1.1\r\n" H
	      "Connection: keep-alive, X-Drop\r\nX-Drop: 1\r\nKeep-Alive: 5\r\n"
	      "Proxy-Connection: x\r\nProxy-Authorization: y\r\nX-Keep: 2\r\nTE: gzip, trailers\r\n"
	      "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
	      "request GET https a.test 443 / - 8 0 0\nfield x-keep: 2\nend 206\neof\n");
	refused("GET / HTTP/1.1\r\n" H "Connection: Authorization\r\n\r\n", HTTP_OPTION);
	refused("GET / HTTP/1.1\r\n" H "Connection: close, content-length\r\n\r\n", HTTP_OPTION);
	refused("GET / HTTP/1.1\r\n" H "Connection: Host\r\n\r\n", HTTP_OPTION);
	refused("GET / HTTP/1.1\r\n" H "Connection: Cookie\r\n\r\n", HTTP_OPTION);
	refused("GET / HTTP/1.1\r\n" H "Connection: a b\r\n\r\n", HTTP_OPTION);
	refused("GET / HTTP/1.1\r\n" H "Connection: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q\r\n\r\n",
	        HTTP_OPTION);
	refused("GET / HTTP/1.1\r\n" H "Authorization: a\r\nauthorization: b\r\n\r\n",
	        HTTP_FIELD_REPEATED);
}

TEST(http_4_expect_and_upgrade)
{
	reads("PUT / HTTP/1.1\r\n" H "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\nx",
	      "request PUT https a.test 443 / - 2 1 1\nbody 78\nend 74\neof\n");
	refused("PUT / HTTP/1.1\r\n" H "Expect: 200-ok\r\n\r\n", HTTP_EXPECT);
	CHECK_EQ(http_reason_status(HTTP_EXPECT), 417);
	refused("POST / HTTP/1.1\r\n" H "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
	        HTTP_UPGRADE);
	refused("GET / HTTP/1.1\r\n" H
	        "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: "
	        "3\r\n\r\nabc",
	        HTTP_UPGRADE);
	refused("GET / HTTP/1.1\r\n" H "Connection: upgrade\r\nUpgrade: h2c, websocket\r\n\r\n",
	        HTTP_UPGRADE);
	/* one half of it is nothing */
	reads("GET / HTTP/1.1\r\n" H "Upgrade: websocket\r\n\r\n",
	      "request GET https a.test 443 / - 0 0 0\nend 52\neof\n");
}

#define WS "GET /s HTTP/1.1\r\n" H "Connection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n"

TEST(http_4_after_an_upgrade_comes_what_was_decided)
{
	struct h1_dump d = { .rules = { .scheme = HTTP_TLS }, .opaque = true, .eof = true };
	const char *in = WS "GET / HTTP/1.1\r\n" H "\r\n";

	CHECK_STR(
		read_all_ways(d, span_str(in)),
		"request GET https a.test 443 /s - 4 0 0\nend 74\n"
		"body 474554202f20485454502f312e310d0a486f73743a20612e746573740d0a0d0a\nend 106\neof\n");
	d.opaque = false;
	CHECK_STR(read_all_ways(d, span_str(in)),
	          "request GET https a.test 443 /s - 4 0 0\nend 74\n"
	          "request GET https a.test 443 / - 0 0 0\nend 106\neof\n");
}

/* L7-7: the boundary between two requests is exact, so the second is judged by itself. */
TEST(l7_7_pipelined_requests_have_exact_ends)
{
	reads("POST /a HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\n" H "\r\n"
	      "PUT /c HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
	      "DELETE /d HTTP/1.1\r\n" H "\r\n",
	      "request POST https a.test 443 /a - 0 1 3\nbody 616263\nend 56\n"
	      "request GET https a.test 443 /b - 0 0 0\nend 89\n"
	      "request PUT https a.test 443 /c - 0 2 0\nbody 78\nend 161\n"
	      "request DELETE https a.test 443 /d - 0 0 0\nend 197\neof\n");
}

TEST(http_4_trailers)
{
	static const char *const bad[] = { "Content-Length: 5",
		                           "Transfer-Encoding: chunked",
		                           "Host: b",
		                           "Authorization: x",
		                           "Cookie: a=b",
		                           "Connection: close",
		                           "Trailer: x",
		                           "Content-Type: a",
		                           "TE: x" };
	char in[512];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct h1_dump d = { .rules = { .scheme = HTTP_TLS } };

		(void)snprintf(in, sizeof(in),
		               "POST / HTTP/1.1\r\n" H
		               "Transfer-Encoding: chunked\r\n\r\n0\r\n%s\r\n\r\n",
		               bad[i]);
		CHECK_STR(read_all_ways(d, span_str(in)),
		          "request POST https a.test 443 / - 0 2 0\nbad trailer\n");
	}
}

/* --- limits: at, below and above --- */

static struct span big(const char *head, size_t pad, const char *tail)
{
	static uint8_t room[64 << 10];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	buf_put_str(&b, head);
	for (size_t i = 0; i < pad; i++)
		buf_put_u8(&b, 'a');
	buf_put_str(&b, tail);
	CHECK(buf_ok(&b));
	return buf_span(&b);
}

static const char *ends(struct span in)
{
	struct h1_dump d = { .rules = { .scheme = HTTP_TLS } };
	const char *whole = dump(&d, in, text);
	const char *last;

	d.seed = 77;
	CHECK_STR(dump(&d, in, other), whole);
	last = strstr(whole, "bad ");
	return last ? last : "fine";
}

TEST(http_3_head_at_its_limit)
{
	const char *head = "GET / HTTP/1.1\r\n" H "X: ";
	size_t pad = HTTP_HEAD_MAX - strlen(head) - 4;

	CHECK_STR(ends(big(head, pad - 1, "\r\n\r\n")), "fine");
	CHECK_STR(ends(big(head, pad, "\r\n\r\n")), "fine");
	CHECK_STR(ends(big(head, pad + 1, "\r\n\r\n")), "bad head-too-large\n");
	CHECK_EQ(http_reason_status(HTTP_HEAD_TOO_LARGE), 431);
}

TEST(path_5_target_at_its_limit)
{
	CHECK_STR(ends(big("GET /", HTTP_TARGET_MAX - 1, " HTTP/1.1\r\n" H "\r\n")), "fine");
	CHECK_STR(ends(big("GET /", HTTP_TARGET_MAX, " HTTP/1.1\r\n" H "\r\n")),
	          "bad target-too-long\n");
	CHECK_STR(ends(big("GET /?", HTTP_TARGET_MAX - 2, " HTTP/1.1\r\n" H "\r\n")), "fine");
	CHECK_STR(ends(big("GET /?", HTTP_TARGET_MAX - 1, " HTTP/1.1\r\n" H "\r\n")),
	          "bad target-too-long\n");
	CHECK_STR(ends(big("GET /", 60000, "")), "bad target-too-long\n");
	CHECK_EQ(http_reason_status(HTTP_TARGET_TOO_LONG), 414);
}

TEST(http_3_counts_at_their_limits)
{
	static char in[32 << 10];
	struct buf b;

	for (int more = 0; more < 2; more++) {
		buf_init(&b, in, sizeof(in));
		buf_put_str(&b, "GET / HTTP/1.1\r\n" H);
		for (int i = 0; i < HTTP_FIELDS_MAX + more; i++)
			buf_printf(&b, "X-%d: y\r\n", i);
		buf_put_str(&b, "\r\n");
		CHECK_STR(ends(buf_span(&b)), more ? "bad fields-too-many\n" : "fine");
		buf_init(&b, in, sizeof(in));
		buf_put_str(&b, "GET / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n");
		for (int i = 0; i < HTTP_TRAILER_FIELDS_MAX + more; i++)
			buf_printf(&b, "X-%d: y\r\n", i);
		buf_put_str(&b, "\r\n");
		CHECK_STR(ends(buf_span(&b)), more ? "bad trailers-too-large\n" : "fine");
	}
	CHECK_STR(ends(big("GET / HTTP/1.1\r\n" H, HTTP_NAME_MAX, ": y\r\n\r\n")), "fine");
	CHECK_STR(ends(big("GET / HTTP/1.1\r\n" H, HTTP_NAME_MAX + 1, ": y\r\n\r\n")),
	          "bad field-name\n");
	CHECK_STR(ends(big("GET / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nX: ",
	                   HTTP_TRAILER_BYTES_MAX - 7, "\r\n\r\n")),
	          "fine");
	CHECK_STR(ends(big("GET / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nX: ",
	                   HTTP_TRAILER_BYTES_MAX - 6, "\r\n\r\n")),
	          "bad trailers-too-large\n");
}

TEST(http_3_body_at_its_limit)
{
	struct h1_dump d = { .rules = { .scheme = HTTP_TLS, .body_max = 5 } };

	CHECK(!strstr(
		read_all_ways(d, span_str("PUT / HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello")),
		"bad"));
	CHECK_STR(read_all_ways(d,
	                        span_str("PUT / HTTP/1.1\r\n" H "Content-Length: 6\r\n\r\nhello!")),
	          "bad body-too-large\n");
	CHECK(!strstr(
		read_all_ways(
			d, span_str("PUT / HTTP/1.1\r\n" H
	                            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")),
		"bad"));
	CHECK(strstr(
		read_all_ways(
			d, span_str("PUT / HTTP/1.1\r\n" H
	                            "Transfer-Encoding: chunked\r\n\r\n6\r\nhello!\r\n0\r\n\r\n")),
		"bad body-too-large\n"));
	CHECK_EQ(http_reason_status(HTTP_BODY_TOO_LARGE), 413);
}

/* Every prefix of good requests asks for more, and its end is a cut message. */
TEST(every_prefix_asks_for_more)
{
	const char *in =
		"POST /a HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3;a=\"b\"\r\nabc\r\n"
		"0\r\nX-T: v\r\n\r\n";
	struct h1_dump d = { .rules = { .scheme = HTTP_TLS } };

	for (size_t len = 0; len < strlen(in); len++) {
		d.eof = false;
		dump(&d, span_of(in, len), text);
		CHECK(!strstr(text, "bad") && !strstr(text, "end"));
		d.eof = true;
		dump(&d, span_of(in, len), text);
		CHECK(len == 0 ? strcmp(text, "eof\n") == 0
		               : strstr(text, "bad truncated\n") != NULL);
	}
}

TEST_MAIN()
