/* Responses of HTTP/1, as the vault reads them from an upstream. */
#include "http_dump.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

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

static const char *read_all_ways(struct h1_dump d, const char *in)
{
	const char *whole;

	d.rules.response = true;
	whole = dump(&d, span_str(in), text);
	for (size_t piece = 1; piece < 4; piece++) {
		d.piece = piece;
		CHECK_STR(dump(&d, span_str(in), other), whole);
	}
	for (uint32_t seed = 1; seed < 8; seed++) {
		d.seed = seed;
		CHECK_STR(dump(&d, span_str(in), other), whole);
	}
	return whole;
}

static void reads(const char *in, const char *want)
{
	struct h1_dump d = { .eof = true };

	CHECK_STR(read_all_ways(d, in), want);
}

static void refused(const char *in, enum http_reason why)
{
	struct h1_dump d = { 0 };
	char want[64];

	(void)snprintf(want, sizeof(want), "bad %s\n", http_reason_word(why));
	CHECK_STR(read_all_ways(d, in), want);
}

TEST(http_4_framing_of_responses)
{
	reads("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: x\r\n\r\nhi",
	      "response 200 0 1 2\nfield server: x\nbody 6869\nend 51\nbad truncated\n");
	reads("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n"
	      "X-Sum: 1\r\n\r\n",
	      "response 200 0 2 0\ntrailer x-sum: 1\nbody 6869\nend 69\nbad truncated\n");
	reads("HTTP/1.1 200\r\n\r\nhi", "response 200 0 2 0\nbody 6869\nend 18\neof\n");
	reads("HTTP/1.0 200 OK\r\n\r\nhi", "response 200 0 2 0\nbody 6869\nend 21\neof\n");
	reads("HTTP/1.1 204 No Content\r\n\r\n", "response 204 0 0 0\nend 27\nbad truncated\n");
	reads("HTTP/1.1 204 \r\nContent-Length: 0\r\n\r\n",
	      "response 204 0 0 0\nend 36\nbad truncated\n");
	reads("HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n",
	      "response 304 32 0 10\nend 49\nbad truncated\n");
}

/* What only a request can say is dropped from a response, and leaves no flag. */
TEST(http_4_fields_of_requests_mean_nothing)
{
	reads("HTTP/1.1 200 OK\r\nTE: trailers\r\nExpect: 100-continue\r\nHost: x\r\n"
	      "Content-Length: 0\r\n\r\n",
	      "response 200 0 1 0\nend 83\nbad truncated\n");
}

TEST(http_4_answer_to_head)
{
	struct h1_dump d = { .rules = { .to_head = true } };

	CHECK_STR(read_all_ways(d, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"),
	          "response 200 32 0 10\nend 39\nmore\n");
	CHECK_STR(read_all_ways(d, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
	          "response 200 0 0 0\nend 47\nmore\n");
}

TEST(http_4_informational)
{
	reads("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
	      "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
	      "response 100 0 0 0\nresponse 103 0 0 0\nfield link: x\nresponse 200 0 1 0\nend 100\n"
	      "bad truncated\n");
	refused("HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n", HTTP_BODY_FORBIDDEN);
	refused("HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\n", HTTP_BODY_FORBIDDEN);
	refused("HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP_BODY_FORBIDDEN);
	refused("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
	        HTTP_UNASKED);
}

TEST(http_4_informational_without_end)
{
	char in[2048];
	struct buf b;
	struct h1_dump d = { 0 };

	for (int n = HTTP_INFO_MAX; n <= HTTP_INFO_MAX + 1; n++) {
		buf_init(&b, in, sizeof(in));
		for (int i = 0; i < n; i++)
			buf_put_str(&b, "HTTP/1.1 100 c\r\n\r\n");
		CHECK_EQ(strstr(read_all_ways(d, buf_cstr(&b)), "bad unasked") != NULL,
		         n > HTTP_INFO_MAX);
	}
}

TEST(http_4_websocket)
{
	struct h1_dump d = { .rules = { .to_websocket = true }, .eof = true };

	CHECK_STR(
		read_all_ways(
			d,
			"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81"),
		"response 101 4 0 0\nbody 81\nend 60\neof\n");
	CHECK_STR(read_all_ways(d, "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"),
	          "bad unasked\n");
	CHECK_STR(read_all_ways(d, "HTTP/1.1 101 S\r\n\r\n"), "bad unasked\n");
}

TEST(http_2_ambiguous_responses)
{
	refused("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
	        HTTP_LENGTH_AND_CODING);
	refused("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
	        HTTP_LENGTH_REPEATED);
	refused("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", HTTP_LENGTH);
	refused("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", HTTP_CODING);
	refused("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP_CODING);
	refused("HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\n", HTTP_BARE_LF);
	refused("HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", HTTP_FIELD_FOLD);
	refused("HTTP/1.1 200 OK\r\nX : a\r\n\r\n", HTTP_FIELD_SPACE);
	refused("HTTP/1.1 2000 OK\r\n\r\n", HTTP_STATUS_LINE);
	refused("HTTP/1.1 20 OK\r\n\r\n", HTTP_STATUS_LINE);
	refused("HTTP/1.1 099 OK\r\n\r\n", HTTP_STATUS);
	refused("HTTP/1.1 600 OK\r\n\r\n", HTTP_STATUS);
	refused("HTTP/1.1  200 OK\r\n\r\n", HTTP_STATUS_LINE);
	refused("HTTP/1.1 +20 OK\r\n\r\n", HTTP_STATUS);
	refused("HTTP/2 200 OK\r\n\r\n", HTTP_STATUS_LINE);
	refused("HTTP/2.0 200 OK\r\n\r\n", HTTP_VERSION);
	refused("ICY 200 OK\r\n\r\n", HTTP_STATUS_LINE);
	refused("\r\nHTTP/1.1 200 OK\r\n\r\n", HTTP_STATUS_LINE);
	refused("HTTP/1.1 302 x\r\nLocation: /a\r\nLocation: /b\r\n\r\n", HTTP_FIELD_REPEATED);
}

/* What nobody asked for is no answer to the next request. */
TEST(http_2_bytes_without_a_request)
{
	struct http_rules rules = { .response = true };
	static struct h1_reader r;
	struct h1_event ev;
	struct span in =
		span_str("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");

	h1_reader_init(&r, &rules);
	h1_reader_expect(&r, false, false);
	CHECK_EQ(h1_read(&r, &in, &ev), 0);
	CHECK_EQ(ev.kind, H1_HEAD);
	CHECK_EQ(h1_read(&r, &in, &ev), 0);
	CHECK_EQ(ev.kind, H1_END);
	CHECK(h1_read(&r, &in, &ev) < 0);
	CHECK_EQ(r.why, HTTP_UNASKED);
}

TEST(http_2_cut_responses)
{
	reads("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
	      "response 200 0 1 5\nbad truncated\n");
	reads("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
	      "response 200 0 2 0\nbad truncated\n");
	reads("HTTP/1.1 100 x\r\n\r\n", "response 100 0 0 0\nbad truncated\n");
	reads("HTTP/1.1 200 OK\r\nContent", "bad truncated\n");
}

TEST_MAIN()
