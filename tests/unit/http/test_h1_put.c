/* What is written is read back as the same head; and the bytes themselves. */
#include "http_dump.h"
#include "test.h"

#include <errno.h>
#include <string.h>

static struct h1_reader reader;
static uint8_t room[HTTP_HEAD_MAX * 2];
static char text[DUMP_BYTES_MAX];
static char again[DUMP_BYTES_MAX];

static const struct http_head *read_head(struct span in, bool response)
{
	struct http_rules rules = { .response = response,
		                    .scheme = HTTP_TLS,
		                    .to_websocket = true };
	struct h1_event ev = { 0 };

	h1_reader_init(&reader, &rules);
	if (response)
		h1_reader_expect(&reader, false, true);
	CHECK_EQ(h1_read(&reader, &in, &ev), 0);
	CHECK_EQ(ev.kind, H1_HEAD);
	return ev.head;
}

static void comes_out(const char *in, bool response, unsigned flags, const char *want)
{
	const struct http_head *h = read_head(span_str(in), response);
	struct buf out;
	struct buf dump;

	buf_init(&out, room, sizeof(room));
	if (response)
		h1_put_response(&out, h, flags);
	else
		h1_put_request(&out, h, flags);
	CHECK(buf_ok(&out));
	CHECK_SPAN(buf_span(&out), want);
	buf_init(&dump, text, sizeof(text));
	http_dump_head(h, &dump);
	(void)buf_cstr(&dump);
	if (flags & H1_PUT_UNTIL_CLOSE || strstr(in, "ookie"))
		return;
	h = read_head(buf_span(&out), response);
	buf_init(&dump, again, sizeof(again));
	http_dump_head(h, &dump);
	CHECK_STR(buf_cstr(&dump), text);
}

TEST(path_1_the_canonical_request_is_what_leaves)
{
	comes_out("GET HTTPS://A.test:443/a/../%62;c?x=%2f HTTP/1.0\r\nHost: a.TEST\r\nX-Y:  z \r\n"
	          "Connection: close, x-z\r\nX-Z: 1\r\n\r\n",
	          false, 0, "GET /b%3Bc?x=%2f HTTP/1.1\r\nhost: a.test\r\nx-y: z\r\n\r\n");
	comes_out(
		"POST / HTTP/1.1\r\nHost: [0:0::1]:8443\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n",
		false, H1_PUT_CLOSE,
		"POST / HTTP/1.1\r\nhost: [::1]:8443\r\ntransfer-encoding: chunked\r\nte: trailers\r\n"
		"connection: te, close\r\n\r\n");
	comes_out(
		"PUT /? HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 12\r\n\r\n",
		false, 0,
		"PUT /? HTTP/1.1\r\nhost: a.test\r\ncontent-length: 12\r\nexpect: 100-continue\r\n\r\n");
	comes_out(
		"GET /s HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
		"Sec-WebSocket-Key: k\r\n\r\n",
		false, 0,
		"GET /s HTTP/1.1\r\nhost: a.test\r\nsec-websocket-key: k\r\nupgrade: websocket\r\n"
		"connection: upgrade\r\n\r\n");
	comes_out("GET / HTTP/1.1\r\nHost: a.test\r\nCookie: a=1\r\nX: y\r\nCookie: b=2\r\n\r\n",
	          false, 0, "GET / HTTP/1.1\r\nhost: a.test\r\ncookie: a=1; b=2\r\nx: y\r\n\r\n");
	comes_out("OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n", false, 0,
	          "OPTIONS * HTTP/1.1\r\nhost: a.test\r\n\r\n");
}

TEST(http_4_responses_are_written_by_their_framing)
{
	comes_out(
		"HTTP/1.1 200 Fine\r\nContent-Length: 3\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n",
		true, 0,
		"HTTP/1.1 200 OK\r\nset-cookie: a\r\nset-cookie: b\r\ncontent-length: 3\r\n\r\n");
	comes_out("HTTP/1.1 200\r\n\r\n", true, 0,
	          "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
	comes_out("HTTP/1.1 200\r\n\r\n", true, H1_PUT_UNTIL_CLOSE | H1_PUT_CLOSE,
	          "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
	comes_out("HTTP/1.1 304 x\r\nContent-Length: 7\r\n\r\n", true, 0,
	          "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n");
	comes_out("HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\n", true, 0,
	          "HTTP/1.1 204 No Content\r\n\r\n");
	comes_out(
		"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", true, 0,
		"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n");
	comes_out("HTTP/1.1 299 x\r\nContent-Length: 0\r\n\r\n", true, 0,
	          "HTTP/1.1 299 \r\ncontent-length: 0\r\n\r\n");
}

TEST(http_4_chunks_are_written)
{
	struct http_trailers t = { .count = 1,
		                   .fields = { { span_str("grpc-status"), span_str("0") } } };
	struct buf out;

	buf_init(&out, room, sizeof(room));
	h1_put_chunk_size(&out, 0x1a2b);
	h1_put_last_chunk(&out, &t);
	h1_put_last_chunk(&out, NULL);
	CHECK_SPAN(buf_span(&out), "1a2b\r\n0\r\ngrpc-status: 0\r\n\r\n0\r\n\r\n");
}

TEST_MAIN()
