/* Both versions behind one interface: a client and a server joined in memory. */
#include "failalloc.h"
#include "http_pair.h"
#include "test.h"

#include <errno.h>
#include <string.h>

static struct pair p;
static struct http_head head;

static void begin(bool http2)
{
	struct http_conn_opts o = { .http2 = http2, .scheme = HTTP_TLS };

	pair_open(&p, &o);
}

static uint32_t ask(const char *method, const char *path, uint8_t framing, uint64_t length)
{
	uint32_t id = 0;

	pair_request(&head, method, path, framing, length);
	CHECK_EQ(http_conn_open(p.client.conn, &head, &id), 0);
	return id;
}

static const char *log_of(struct pair_side *s)
{
	const char *text = buf_cstr(&s->log);

	buf_reset(&s->log);
	return text;
}

static void simple(bool http2)
{
	static const size_t pieces[] = { 0, 1, 7 };

	for (size_t i = 0; i < 3; i++) {
		begin(http2);
		p.piece = pieces[i];
		for (uint32_t n = 1; n < 6; n++) {
			uint32_t id = ask("GET", "/", HTTP_BODY_NONE, 0);

			CHECK_EQ(id, http2 ? 2 * n - 1 : n);
			CHECK(pair_pump(&p));
			CHECK_EQ(p.client.status, 200);
			CHECK_EQ(p.client.ends, n);
			CHECK_EQ(p.client.total, 2 * n);
			CHECK_EQ(http_conn_streams(p.client.conn), 0);
			CHECK_EQ(http_conn_streams(p.server.conn), 0);
			CHECK(http_conn_can_open(p.client.conn));
		}
		pair_close(&p);
	}
}

TEST(http_5_requests_one_after_the_other)
{
	simple(false);
	simple(true);
}

TEST(http_5_ten_thousand_on_one_connection)
{
	for (int http2 = 0; http2 < 2; http2++) {
		begin(http2);
		for (unsigned n = 0; n < 10000; n++) {
			static const char *const paths[] = { "/", "/empty", "/x?y=1" };

			ask(n % 2 ? "GET" : "DELETE", paths[n % 2], HTTP_BODY_NONE, 0);
			CHECK(pair_pump(&p));
			CHECK_EQ(p.client.status, n % 2 ? 204 : 200);
			buf_reset(&p.client.log);
			buf_reset(&p.server.log);
		}
		CHECK_EQ(p.server.ends, 10000);
		CHECK_EQ(p.client.ends, 10000);
		CHECK_EQ(p.client.total, 10000);
		pair_close(&p);
	}
}

static void echo(bool http2, uint8_t framing)
{
	static uint8_t bytes[300000];
	struct span rest = span_of(bytes, sizeof(bytes));
	struct http_trailers t = { .count = 1,
		                   .fields = { { span_str("grpc-status"), span_str("0") } } };
	uint32_t id;

	begin(http2);
	id = ask("POST", "/echo", framing, framing == HTTP_BODY_LENGTH ? sizeof(bytes) : 0);
	while (rest.len > 0) {
		size_t before = rest.len;

		CHECK_EQ(http_conn_body(p.client.conn, id, &rest), 0);
		CHECK(pair_pump(&p));
		CHECK(rest.len < before);
	}
	if (framing == HTTP_BODY_LENGTH) {
		struct span more = span_of(bytes, 1);

		CHECK(http_conn_body(p.client.conn, id, &more) < 0);
	}
	CHECK(pair_pump(&p));
	CHECK_EQ(http_conn_end(p.client.conn, id, framing == HTTP_BODY_STREAM ? &t : NULL), 0);
	CHECK(pair_pump(&p));
	CHECK_EQ(p.server.total, sizeof(bytes));
	CHECK_EQ(p.client.total, sizeof(bytes));
	CHECK_EQ(p.client.ends, 1);
	CHECK_EQ(strstr(log_of(&p.client), "trailers=1") != NULL, framing == HTTP_BODY_STREAM);
	CHECK_EQ(http_conn_streams(p.server.conn), 0);
	CHECK(http_conn_can_open(p.client.conn));
	pair_close(&p);
}

TEST(tls_13_grpc_says_that_it_takes_trailers)
{
	for (int http2 = 0; http2 < 2; http2++) {
		uint32_t id;

		begin(http2);
		pair_request(&head, "POST", "/echo", HTTP_BODY_STREAM, 0);
		head.flags |= HTTP_FLAG_TRAILERS;
		CHECK_EQ(http_conn_open(p.client.conn, &head, &id), 0);
		CHECK(pair_pump(&p));
		CHECK_EQ(p.server.flags, HTTP_FLAG_TRAILERS);
		pair_close(&p);
	}
}

/* TLS-13: both directions at once, and trailers, as gRPC needs them. */
TEST(http_4_bodies_and_trailers_both_ways)
{
	echo(false, HTTP_BODY_LENGTH);
	echo(false, HTTP_BODY_STREAM);
	echo(true, HTTP_BODY_LENGTH);
	echo(true, HTTP_BODY_STREAM);
}

TEST(http_4_head_has_no_body)
{
	for (int http2 = 0; http2 < 2; http2++) {
		begin(http2);
		ask("HEAD", "/big", HTTP_BODY_NONE, 0);
		CHECK(pair_pump(&p));
		CHECK_EQ(p.client.ends, 1);
		CHECK_EQ(p.client.total, 0);
		ask("GET", "/", HTTP_BODY_NONE, 0);
		CHECK(pair_pump(&p));
		CHECK_EQ(p.client.total, 2);
		pair_close(&p);
	}
}

TEST(http_4_continue_comes_before_the_answer)
{
	for (int http2 = 0; http2 < 2; http2++) {
		uint32_t id;

		begin(http2);
		pair_request(&head, "POST", "/echo", HTTP_BODY_STREAM, 0);
		head.flags |= HTTP_FLAG_CONTINUE;
		CHECK_EQ(http_conn_open(p.client.conn, &head, &id), 0);
		CHECK(pair_pump(&p));
		CHECK_STR(log_of(&p.client), "1:100 1:200 ");
		CHECK_EQ(http_conn_end(p.client.conn, id, NULL), 0);
		CHECK(pair_pump(&p));
		CHECK_STR(log_of(&p.client), "1:end=0 ");
		pair_close(&p);
	}
}

/* L7-13: who does not consume holds the sender back, and no more than the window is held. */
TEST(l7_13_a_slow_reader_holds_its_sender)
{
	for (int http2 = 0; http2 < 2; http2++) {
		uint32_t id;

		begin(http2);
		p.client.hold = true;
		id = ask("GET", "/big", HTTP_BODY_NONE, 0);
		CHECK(pair_pump(&p));
		CHECK_EQ(p.client.total, HTTP_WINDOW_BYTES);
		CHECK_EQ(p.client.most, HTTP_WINDOW_BYTES);
		http_conn_consume(p.client.conn, id, HTTP_WINDOW_BYTES);
		CHECK(pair_pump(&p));
		CHECK_EQ(p.client.total, 2 * HTTP_WINDOW_BYTES);
		if (http2) { /* and a sibling is not held */
			p.client.hold = false;
			ask("GET", "/", HTTP_BODY_NONE, 0);
			CHECK(pair_pump(&p));
			CHECK_EQ(p.client.total, 2 * HTTP_WINDOW_BYTES + 2);
		}
		p.client.hold = false;
		http_conn_consume(p.client.conn, id, HTTP_WINDOW_BYTES);
		CHECK(pair_pump(&p));
		CHECK_EQ(p.client.total, PAIR_BIG_BYTES + (http2 ? 2 : 0));
		pair_close(&p);
	}
}

/* A body that fills the window to its last byte has ended: no further byte will ask for that. */
TEST(l7_13_a_full_window_hides_no_end)
{
	struct http_conn_opts o = { .scheme = HTTP_TLS };
	static uint8_t body[HTTP_WINDOW_BYTES], storage[HTTP_WINDOW_BYTES + 200];
	static struct pair_side s;
	struct buf text;
	struct span in;

	buf_init(&text, storage, sizeof(storage));
	buf_printf(&text, "POST /hold HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n",
	           HTTP_WINDOW_BYTES);
	buf_put(&text, body, sizeof(body));
	in = buf_span(&text);
	pair_side_open(&s, &o);
	s.hold = true;
	CHECK_EQ(http_conn_recv(s.conn, 1, &in), 0);
	CHECK_EQ(in.len, 0);
	CHECK_EQ(s.total, HTTP_WINDOW_BYTES);
	CHECK_EQ(s.ends, 1);
	pair_side_close(&s);
}

TEST(http_4_websocket_over_http1_only)
{
	uint32_t id;
	struct span hello = span_str("hello");

	begin(false);
	pair_request(&head, "GET", "/ws", HTTP_BODY_NONE, 0);
	head.flags |= HTTP_FLAG_WEBSOCKET;
	CHECK_EQ(http_conn_open(p.client.conn, &head, &id), 0);
	CHECK_EQ(http_conn_body(p.client.conn, id, &hello), -EPROTO);
	CHECK(pair_pump(&p));
	CHECK_STR(log_of(&p.client), "1:101 ");
	CHECK_EQ(http_conn_body(p.client.conn, id, &hello), 0);
	CHECK(pair_pump(&p));
	CHECK_EQ(p.client.total, 5);
	CHECK(!http_conn_can_open(p.client.conn));
	CHECK_EQ(http_conn_recv_eof(p.server.conn), 0);
	CHECK_EQ(http_conn_recv_eof(p.client.conn), 0);
	pair_close(&p);

	/* refused: the connection lives on */
	begin(false);
	pair_request(&head, "GET", "/", HTTP_BODY_NONE, 0);
	head.flags |= HTTP_FLAG_WEBSOCKET;
	CHECK_EQ(http_conn_open(p.client.conn, &head, &id), 0);
	CHECK(pair_pump(&p));
	CHECK_STR(log_of(&p.client), "1:200 1:end=2 ");
	ask("GET", "/", HTTP_BODY_NONE, 0);
	CHECK(pair_pump(&p));
	CHECK_EQ(p.client.ends, 2);
	pair_close(&p);

	begin(true);
	head.flags |= HTTP_FLAG_WEBSOCKET;
	CHECK_EQ(http_conn_open(p.client.conn, &head, &id), -EPROTO);
	pair_close(&p);
}

/* L7-7: what is pipelined behind a refused request, or one that is not answered, is not read. */
TEST(l7_7_no_request_before_the_last_answer)
{
	static const char two[] = "GET /hold HTTP/1.1\r\nHost: a.test\r\n\r\n"
				  "GET /second HTTP/1.1\r\nHost: a.test\r\n\r\n";
	static const char bad[] = "GET / HTTP/1.1\r\nHost: a.test\r\n X: y\r\n\r\n"
				  "GET /second HTTP/1.1\r\nHost: a.test\r\n\r\n";
	struct http_conn_opts o = { .scheme = HTTP_TLS };
	static struct pair_side s;
	struct span in = span_of(two, sizeof(two) - 1);

	pair_side_open(&s, &o);
	CHECK_EQ(http_conn_recv(s.conn, 1, &in), 0);
	CHECK_STR(log_of(&s), "1:/hold 1:end=0 ");
	CHECK_EQ(in.len, 38);
	memset(&head, 0, sizeof(head));
	head.status = 204;
	CHECK_EQ(http_conn_reply(s.conn, 1, &head), 0);
	CHECK_EQ(http_conn_recv(s.conn, 1, &in), 0);
	CHECK_STR(log_of(&s), "2:/second 2:end=0 ");
	CHECK_EQ(in.len, 0);
	pair_side_close(&s);

	pair_side_open(&s, &o);
	in = span_of(bad, sizeof(bad) - 1);
	CHECK_EQ(http_conn_recv(s.conn, 1, &in), 0);
	CHECK_STR(log_of(&s), "1:refused=field-fold ");
	CHECK(!http_conn_finished(s.conn)); /* the 400 is still to be sent */
	in = http_conn_output(s.conn);
	CHECK(in.len > 12 && memcmp(in.at, "HTTP/1.1 400", 12) == 0);
	CHECK(memmem(in.at, in.len, "connection: close\r\n", 19) != NULL);
	http_conn_sent(s.conn, in.len);
	CHECK(http_conn_finished(s.conn));
	in = span_of(two, sizeof(two) - 1);
	CHECK_EQ(http_conn_recv(s.conn, 1, &in), 0);
	CHECK_EQ(in.len, sizeof(two) - 1);
	CHECK_STR(log_of(&s), "");
	pair_side_close(&s);
}

TEST(http_4_old_clients_get_a_close)
{
	struct http_conn_opts o = { .scheme = HTTP_TLS };
	static struct pair_side s;
	struct span in =
		span_str("POST /echo HTTP/1.0\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi");

	pair_side_open(&s, &o);
	CHECK_EQ(http_conn_recv(s.conn, 1, &in), 0);
	CHECK_SPAN(http_conn_output(s.conn), "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhi");
	http_conn_sent(s.conn, 1000);
	CHECK(http_conn_finished(s.conn));
	pair_side_close(&s);
}

/* A refusal of an upload says that the connection ends; one of a request without body does not. */
TEST(http_5_a_refusal_closes_only_what_it_must)
{
	static const struct {
		const char *request;
		bool closes;
	} rows[] = {
		{ "GET /hold HTTP/1.1\r\nHost: a.test\r\n\r\n", false },
		{ "PUT /hold HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi", false },
		{ "PUT /hold HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\nhi", true },
		{ "PUT /hold HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\n"
		  "Content-Length: 9\r\n\r\n",
		  true },
	};
	struct http_conn_opts o = { .scheme = HTTP_TLS };
	static struct pair_side s;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct span out;

		pair_side_open(&s, &o);
		CHECK_EQ(pair_inject(&s, 1, rows[i].request, strlen(rows[i].request)), 0);
		memset(&head, 0, sizeof(head));
		head.status = 403;
		head.framing = HTTP_BODY_LENGTH;
		CHECK_EQ(http_conn_reply(s.conn, 1, &head), 0);
		CHECK_EQ(http_conn_end(s.conn, 1, NULL), 0);
		out = http_conn_output(s.conn);
		CHECK_EQ(memmem(out.at, out.len, "connection: close", 17) != NULL, rows[i].closes);
		http_conn_sent(s.conn, out.len);
		CHECK_EQ(http_conn_finished(s.conn), rows[i].closes);
		pair_side_close(&s);
	}
}

/* An answer before the request is whole ends the connection: nobody knows where the next begins. */
TEST(http_4_an_early_answer_closes)
{
	struct http_conn_opts o = { .scheme = HTTP_TLS };
	static struct pair_side s;
	struct span in =
		span_str("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 20\r\n\r\nGET /x");

	pair_side_open(&s, &o);
	CHECK_EQ(http_conn_recv(s.conn, 1, &in), 0);
	CHECK_EQ(in.len, 6);
	http_conn_sent(s.conn, 1000);
	CHECK(http_conn_finished(s.conn));
	pair_side_close(&s);
}

TEST(http_2_an_upstream_that_breaks_off)
{
	static const struct {
		const char *answer;
		bool reset;
	} rows[] = {
		{ "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhell", true },
		{ "HTTP/1.1 200", true },
		{ "", true },
		{ "HTTP/1.1 200 OK\r\n\r\nhello", false },
	};
	struct http_conn_opts o = { .client = true };
	static struct pair_side s;
	uint32_t id;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		pair_side_open(&s, &o);
		pair_request(&head, "GET", "/", HTTP_BODY_NONE, 0);
		CHECK_EQ(http_conn_open(s.conn, &head, &id), 0);
		CHECK_EQ(pair_inject(&s, 1, rows[i].answer, strlen(rows[i].answer)), 0);
		CHECK_EQ(http_conn_recv_eof(s.conn), rows[i].reset ? -EPROTO : 0);
		CHECK_EQ(s.resets, rows[i].reset);
		CHECK_EQ(s.ends, !rows[i].reset);
		CHECK(http_conn_finished(s.conn));
		pair_side_close(&s);
	}
	pair_side_open(&s, &o);
	CHECK_EQ(http_conn_open(s.conn, &head, &id), 0);
	CHECK_EQ(pair_inject(&s, 1, "HTTP/1.1 200 OK\nX: y\r\n\r\n", 24), -EPROTO);
	CHECK_STR(log_of(&s), "1:refused=bare-lf ");
	pair_side_close(&s);
	pair_side_open(&s, &o);
	CHECK_EQ(pair_inject(&s, 1, "HTTP/1.1 200 OK\r\n\r\n", 19), -EPROTO);
	CHECK_EQ(http_conn_reason(s.conn), HTTP_UNASKED);
	pair_side_close(&s);
}

/* L7-8: one stream is refused, or reset; its siblings go on. */
TEST(l7_8_a_refused_stream_leaves_its_siblings)
{
	uint32_t held;
	uint32_t bad;

	begin(true);
	held = ask("GET", "/hold", HTTP_BODY_NONE, 0);
	pair_request(&head, "GET", "/a/../..", HTTP_BODY_NONE, 0);
	CHECK_EQ(http_conn_open(p.client.conn, &head, &bad), 0);
	ask("GET", "/", HTTP_BODY_NONE, 0);
	CHECK(pair_pump(&p));
	CHECK_EQ(p.server.refused, 1);
	CHECK_EQ(p.server.why, HTTP_PATH_CLIMBS);
	CHECK(strstr(log_of(&p.client), "3:400 ") != NULL);
	CHECK_EQ(p.client.ends, 2);
	CHECK_EQ(http_conn_streams(p.client.conn), 1);
	http_conn_reset(p.client.conn, held, HTTP_RESET_CANCEL);
	CHECK(pair_pump(&p));
	CHECK_EQ(p.server.resets, 1);
	CHECK_EQ(p.server.reset, HTTP_RESET_CANCEL);
	CHECK_EQ(http_conn_streams(p.server.conn), 0);
	ask("GET", "/", HTTP_BODY_NONE, 0);
	CHECK(pair_pump(&p));
	CHECK_EQ(p.client.ends, 3);
	CHECK_EQ(p.client.resets, 0);
	pair_close(&p);
}

TEST(http_6_no_more_streams_than_allowed)
{
	uint32_t id;

	begin(true);
	CHECK(pair_pump(&p));
	for (int i = 0; i < HTTP2_STREAMS_MAX; i++)
		ask("GET", "/hold", HTTP_BODY_NONE, 0);
	CHECK(!http_conn_can_open(p.client.conn));
	CHECK_EQ(http_conn_open(p.client.conn, &head, &id), -EAGAIN);
	CHECK(pair_pump(&p));
	CHECK_EQ(p.server.heads, HTTP2_STREAMS_MAX);
	pair_close(&p);
}

TEST(a_drained_connection_finishes_its_streams)
{
	for (int http2 = 0; http2 < 2; http2++) {
		uint32_t id;

		begin(http2);
		id = ask("POST", "/echo", HTTP_BODY_STREAM, 0);
		CHECK(pair_pump(&p));
		http_conn_drain(p.server.conn);
		CHECK(pair_pump(&p));
		CHECK(!http_conn_finished(p.server.conn));
		CHECK_EQ(http_conn_end(p.client.conn, id, NULL), 0);
		CHECK(pair_pump(&p));
		CHECK_EQ(p.client.ends, 1);
		CHECK(http_conn_finished(p.server.conn));
		pair_close(&p);
	}
}

TEST(without_memory_there_is_no_connection)
{
	struct http_conn_opts o = { .scheme = HTTP_TLS };
	static const struct http_events none;

	for (int http2 = 0; http2 < 2; http2++) {
		o.http2 = http2;
		FAILALLOC_EACH()
		{
			struct http_conn *c = NULL;
			struct err e = { 0 };
			int r = http_conn_new(&o, &none, NULL, &c, &e);

			if (failalloc_hit()) {
				CHECK_EQ(r, -ENOMEM);
				CHECK(!c);
			} else {
				CHECK_OK(r, &e);
				http_conn_free(c);
			}
		}
	}
}

TEST_MAIN()
