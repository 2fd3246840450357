/* Intercepted connections: what the guest sees, what the vault is told, what is recorded. */
#include "gate_rig.h"
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char any[] = "    - { host: api.test, port: [80, 443], inspect: true }";
static const char limited[] =
	"    - { host: api.test, port: 443, http: [ { method: GET, path: \"/open/**\" } ] }";

/* An answer to HEAD. */
static void begin_declared(struct rig *g, uint32_t number, uint64_t length)
{
	struct http_head *h = calloc(1, sizeof(*h));

	CHECK(h);
	h->status = 200;
	h->flags = HTTP_FLAG_DECLARED;
	h->length = length;
	buf_init(&g->frame, g->frame_bytes, sizeof(g->frame_bytes));
	egress_put_response(&g->frame, number, h);
	free(h);
	CHECK(rig_deliver(g));
	rig_end(g, number);
}

/* --- what goes through --- */

TEST(a_request_and_its_answer)
{
	static const size_t pieces[] = { 0, 1, 13 };

	for (size_t i = 0; i < 3; i++) {
		struct rig *g = rig_secure(any);
		struct rig_request *r;
		struct rig_answer *a;
		uint32_t id;

		g->piece = pieces[i];
		for (unsigned n = 1; n <= 3; n++) { /* on one connection */
			id = rig_ask(g, "GET", "api.test", "/a/%7e?q=1", HTTP_BODY_NONE, 0);
			CHECK_EQ(g->requests_count, n);
			r = rig_last(g);
			CHECK_STR(r->method, "GET");
			CHECK_STR(r->host, "api.test");
			CHECK_STR(r->path, "/a/~");
			CHECK_STR(r->query, "q=1");
			CHECK_EQ(r->scheme, HTTP_TLS);
			CHECK_EQ(r->generation, 7);
			CHECK(r->ended && !r->reset);
			rig_answer_with(g, r->number, "hello");
			a = rig_answer(g, id);
			CHECK_EQ(a->status, 200);
			CHECK_STR(a->body, "hello");
			CHECK(a->ended);
			CHECK_EQ(egress_order_find(&g->order, r->number) == NULL, true);
		}
		CHECK_EQ(g->records_count, 6);
		rig_recorded(g, 0, EGRESS_EVENT_ALLOWED, "allowed");
		CHECK_EQ(g->records[0].flow, 1);
		CHECK_STR(g->records[0].path, "/a/~");
		rig_recorded(g, 1, EGRESS_EVENT_ENDED, "allowed");
		CHECK_EQ(g->records[1].status, 200);
		CHECK_EQ(g->records[1].down, 5);
		CHECK_EQ(g->records[1].port, 443);
		CHECK(intercept_state(g->c) == INTERCEPT_READ);
		rig_free(g);
	}
}

TEST(plain_http_is_judged_by_its_host)
{
	struct rig *g = rig_plain(any);

	rig_say(g, "GET /x HTTP/1.1\r\nHost: api.test\r\n\r\n");
	CHECK_EQ(g->requests_count, 1);
	CHECK_EQ(rig_last(g)->scheme, HTTP_PLAIN);
	rig_answer_with(g, 1, "one");
	rig_has(g->text, "HTTP/1.1 200 OK\r\n");
	rig_has(g->text, "one");
	/* the same connection, another host: no name of this address */
	g->text_len = 0;
	rig_say(g, "GET /y HTTP/1.1\r\nHost: other.test\r\n\r\n");
	CHECK_EQ(g->requests_count, 1);
	rig_has(g->text, "HTTP/1.1 421 ");
	rig_has(g->text, "\"reason\":\"host-mismatch\"");
	rig_recorded(g, 2, EGRESS_EVENT_REFUSED, "host-mismatch");
	rig_free(g);
}

TEST(HTTP_4_bodies_both_ways)
{
	static uint8_t big[700000];
	struct rig *g = rig_secure(any);
	uint32_t id = rig_ask(g, "POST", "api.test", "/up", HTTP_BODY_LENGTH, sizeof(big));
	struct span rest = span_of(big, sizeof(big));
	struct rig_request *r = rig_last(g);
	struct rig_answer *a;
	size_t sent = 0;

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(i * 7 + i / 255);
	while (rest.len > 0) {
		CHECK_EQ(http_conn_body(g->http, id, &rest), 0);
		rig_pump(g);
	}
	CHECK_EQ(http_conn_end(g->http, id, NULL), 0);
	rig_pump(g);
	CHECK_EQ(r->body_bytes, sizeof(big));
	CHECK(r->ended);
	rig_reply(g, r->number, 200, HTTP_BODY_LENGTH, sizeof(big), "");
	while (sent < sizeof(big))
		sent += rig_body(g, r->number, big + sent, sizeof(big) - sent);
	rig_end(g, r->number);
	a = rig_answer(g, id);
	CHECK_EQ(a->body_bytes, sizeof(big));
	CHECK_EQ(a->hash, r->hash);
	CHECK(a->ended && g->most_output <= INTERCEPT_OUT_BYTES);
	CHECK_EQ(g->records[1].up, sizeof(big));
	rig_free(g);
}

TEST(LIM_4_a_vault_that_grants_nothing_holds_the_guest)
{
	static uint8_t big[1 << 20];
	struct rig *g = rig_secure(any);
	uint32_t id;
	struct span rest = span_of(big, sizeof(big));
	struct rig_request *r;
	size_t before;

	g->hold = true;
	id = rig_ask(g, "POST", "api.test", "/up", HTTP_BODY_LENGTH, sizeof(big));
	r = rig_last(g);
	do {
		struct span in;
		uint8_t room[20000];
		int n;

		before = rest.len;
		CHECK_EQ(http_conn_body(g->http, id, &rest), 0);
		in = http_conn_output(g->http);
		if (in.len > 0 && SSL_write_ex(g->ssl, in.at, in.len, &before) == 1)
			http_conn_sent(g->http, before);
		while (intercept_state(g->c) & INTERCEPT_READ &&
		       (n = BIO_read(SSL_get_wbio(g->ssl), room, sizeof(room))) > 0) {
			struct span s = span_of(room, (size_t)n);

			intercept_recv(g->c, g->now_ms, &s);
		}
	} while (intercept_state(g->c) & INTERCEPT_READ);
	CHECK_EQ(r->body_bytes, EGRESS_WINDOW_BYTES);
	CHECK(intercepts_stats(g->all)->held_bytes <= RIG_CALM_BYTES + 2 * HTTP_WINDOW_BYTES);
	rig_free(g);
}

TEST(LIM_4_a_guest_that_takes_nothing_holds_the_vault)
{
	static uint8_t big[4 << 20];
	struct rig *g = rig_secure(any);
	uint32_t id = rig_ask(g, "GET", "api.test", "/", HTTP_BODY_NONE, 0);
	struct rig_request *r = rig_last(g);
	size_t sent;

	g->deaf = true;
	rig_reply(g, r->number, 200, HTTP_BODY_LENGTH, sizeof(big), "");
	sent = rig_body(g, r->number, big, sizeof(big));
	CHECK(sent <= EGRESS_WINDOW_BYTES + 2 * HTTP_OUT_HIGH + INTERCEPT_OUT_BYTES);
	CHECK(intercepts_stats(g->all)->held_bytes <=
	      RIG_CALM_BYTES + EGRESS_WINDOW_BYTES + 2 * HTTP_OUT_HIGH + INTERCEPT_OUT_BYTES);
	g->deaf = false;
	rig_pump(g);
	CHECK_EQ(rig_answer(g, id)->body_bytes, sent);
	while (sent < sizeof(big))
		sent += rig_body(g, r->number, big + sent, sizeof(big) - sent);
	rig_end(g, r->number);
	CHECK(rig_answer(g, id)->ended);
	CHECK_EQ(rig_answer(g, id)->body_bytes, sizeof(big));
	rig_free(g);
}

TEST(L7_13_events_are_passed_on_at_once)
{
	struct rig *g = rig_secure(any);
	uint32_t id = rig_ask(g, "GET", "api.test", "/events", HTTP_BODY_NONE, 0);
	struct rig_request *r = rig_last(g);

	rig_reply(g, r->number, 200, HTTP_BODY_STREAM, 0, "content-type:text/event-stream\n");
	CHECK_EQ(rig_answer(g, id)->status, 200);
	for (unsigned i = 1; i <= 5; i++) {
		CHECK_EQ(rig_body(g, r->number, "data: x\n\n", 9), 9);
		CHECK_EQ(rig_answer(g, id)->body_bytes, 9 * i);
	}
	rig_end(g, r->number);
	CHECK(rig_answer(g, id)->ended);
	rig_free(g);
}

TEST(HTTP_4_expect_continue_and_hints)
{
	struct rig *g = rig_plain(any);

	rig_say(g, "POST /x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 3\r\n"
	           "Expect: 100-continue\r\n\r\n");
	CHECK(rig_last(g)->flags & HTTP_FLAG_CONTINUE);
	CHECK_EQ(g->text_len, 0);
	rig_reply(g, 1, 100, HTTP_BODY_NONE, 0, "");
	CHECK_STR(g->text, "HTTP/1.1 100 Continue\r\n\r\n");
	rig_say(g, "abc");
	CHECK_STR(rig_last(g)->body, "abc");
	CHECK(rig_last(g)->ended);
	rig_reply(g, 1, 103, HTTP_BODY_NONE, 0, "link:</a>\n");
	rig_has(g->text, "HTTP/1.1 103 ");
	rig_answer_with(g, 1, "ok");
	rig_has(g->text, "HTTP/1.1 200 OK\r\n");
	rig_free(g);
}

TEST(HTTP_4_answers_without_a_body)
{
	struct rig *g = rig_plain(any);

	rig_say(g, "GET /a HTTP/1.1\r\nHost: api.test\r\n\r\n");
	rig_reply(g, 1, 204, HTTP_BODY_NONE, 0, "");
	rig_end(g, 1);
	rig_has(g->text, "HTTP/1.1 204 ");
	rig_has_not(g->text, "ontent-");
	g->text_len = 0;
	rig_say(g, "GET /b HTTP/1.1\r\nHost: api.test\r\n\r\n");
	rig_reply(g, 2, 304, HTTP_BODY_NONE, 0, "etag:\"x\"\n");
	rig_end(g, 2);
	rig_has(g->text, "HTTP/1.1 304 ");
	g->text_len = 0;
	rig_say(g, "HEAD /c HTTP/1.1\r\nHost: api.test\r\n\r\n");
	begin_declared(g, 3, 1234);
	rig_has(g->text, "1234");
	g->text_len = 0;
	rig_say(g, "GET /d HTTP/1.1\r\nHost: api.test\r\n\r\n"); /* and the connection goes on */
	rig_answer_with(g, 4, "d");
	rig_has(g->text, "\r\n\r\nd");
	rig_free(g);
}

TEST(HTTP_4_trailers_both_ways)
{
	struct rig *g = rig_plain(any);

	rig_say(g, "POST /x HTTP/1.1\r\nHost: api.test\r\nTE: trailers\r\nConnection: TE\r\n"
	           "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n");
	CHECK_EQ(rig_last(g)->framing, HTTP_BODY_STREAM);
	CHECK_STR(rig_last(g)->body, "abc");
	CHECK_EQ(rig_last(g)->trailers, 1);
	CHECK(rig_last(g)->ended);
	rig_reply(g, 1, 200, HTTP_BODY_STREAM, 0, "");
	(void)rig_body(g, 1, "def", 3);
	rig_trailers(g, 1, "x-more", "2");
	rig_end(g, 1);
	rig_has(g->text, "3\r\ndef\r\n0\r\nx-more: 2\r\n\r\n");
	rig_free(g);
}

TEST(TLS_14_alt_svc_is_taken_away)
{
	struct rig *g = rig_plain(any);

	rig_say(g, "GET / HTTP/1.1\r\nHost: api.test\r\n\r\n");
	rig_reply(g, 1, 200, HTTP_BODY_LENGTH, 0, "alt-svc:h3=\":443\"\nserver:x\nalt-svc:clear\n");
	rig_end(g, 1);
	rig_has_not(g->text, "lt-svc");
	rig_has(g->text, "server: x");
	rig_free(g);
}

TEST(L7_11_websocket_is_opaque_after_101)
{
	struct rig *g = rig_plain(any);

	rig_say(g,
	        "GET /ws HTTP/1.1\r\nHost: api.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
	        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n");
	CHECK(rig_last(g)->flags & HTTP_FLAG_WEBSOCKET);
	CHECK(!rig_last(g)->ended);
	rig_reply(g, 1, 101, HTTP_BODY_NONE, 0, "sec-websocket-accept:x\n");
	rig_has(g->text, "HTTP/1.1 101 ");
	g->text_len = 0;
	rig_say_bytes(g, span_of("\x81\x82GET", 5));
	CHECK_EQ(rig_last(g)->body_bytes, 5);
	CHECK_EQ(rig_body(g, 1, "\x81\x03up!", 5), 5);
	CHECK_EQ(g->text_len, 5);
	intercept_recv_eof(g->c, g->now_ms);
	CHECK(rig_last(g)->ended);
	rig_end(g, 1);
	CHECK(intercept_state(g->c) & INTERCEPT_DONE);
	CHECK_EQ(g->records[g->records_count - 1].status, 101);
	rig_free(g);
}

TEST(a_websocket_the_server_ends_or_declines)
{
	static const char ask[] =
		"GET /ws HTTP/1.1\r\nHost: api.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n";
	struct rig *g = rig_plain(any);

	rig_say(g, ask);
	rig_answer_with(g, 1, "no");
	rig_has(g->text, "200 OK");
	CHECK(rig_last(g)->ended);
	rig_say(g, ask); /* the connection goes on */
	CHECK_EQ(g->requests_count, 2);
	rig_reply(g, 2, 101, HTTP_BODY_NONE, 0, "");
	rig_end(g, 2);
	CHECK(rig_last(g)->reset);
	CHECK(intercept_state(g->c) & INTERCEPT_FIN);
	rig_free(g);
}

TEST(HTTP_5_thousands_of_requests_on_one_connection)
{
	struct rig *g = rig_secure(any);

	for (unsigned i = 0; i < 5000; i++) {
		static const char *const methods[] = { "GET", "HEAD", "DELETE", "OPTIONS" };
		char path[32];
		char body[32];
		uint32_t id;

		(void)snprintf(path, sizeof(path), "/%u", i);
		(void)snprintf(body, sizeof(body), "%u", i * 3);
		g->requests_count = g->records_count = g->answers_count = 0;
		id = rig_ask(g, methods[i % 4], "api.test", path, HTTP_BODY_NONE, 0);
		CHECK_STR(rig_last(g)->path, path);
		if (i % 4 == 1) {
			begin_declared(g, rig_last(g)->number, 5);
			CHECK_EQ(rig_answer(g, id)->body_bytes, 0);
		} else {
			rig_answer_with(g, rig_last(g)->number, body);
			CHECK_STR(rig_answer(g, id)->body, body);
		}
		CHECK(rig_answer(g, id)->ended);
	}
	CHECK_EQ(intercepts_stats(g->all)->requests, 5000);
	CHECK_EQ(intercepts_stats(g->all)->handshakes, 1);
	rig_free(g);
}

/* --- what does not --- */

TEST(L7_14_a_refusal_says_why)
{
	struct rig *g = rig_secure(limited);
	uint32_t id = rig_ask(g, "POST", "api.test", "/open/x?token=hush", HTTP_BODY_NONE, 0);
	struct rig_answer *a = rig_answer(g, id);

	CHECK_EQ(g->requests_count, 0);
	CHECK_EQ(a->status, 403);
	rig_has(a->fields, "content-type: application/json");
	rig_has(a->fields, "berm-reason: method");
	rig_has(a->body, "{\"error\":\"refused-by-policy\",\"status\":403,\"request_id\":\"1\"");
	rig_has(a->body, "\"method\":\"POST\",\"path\":\"/open/x\"");
	rig_has(a->body, "\"reason\":\"method\",\"rule\":\"policy.yaml:");
	rig_has(a->body, "\"missing\":\"http: { method: POST");
	rig_has(a->body, "by design");
	rig_has_not(a->body, "hush");
	CHECK_EQ(a->body[a->body_len - 2], '}');
	CHECK(a->ended);
	CHECK_EQ(g->records_count, 1); /* exactly one event */
	rig_recorded(g, 0, EGRESS_EVENT_REFUSED, "method");
	CHECK_EQ(g->records[0].flow, 1);
	CHECK_EQ(g->records[0].status, 403);
	CHECK_STR(g->records[0].method, "POST");
	CHECK_STR(g->records[0].path, "/open/x");
	/* it closes nothing: there was no body */
	id = rig_ask(g, "GET", "api.test", "/open/../open/y", HTTP_BODY_NONE, 0);
	CHECK_STR(rig_last(g)->path, "/open/y");
	rig_answer_with(g, rig_last(g)->number, "y");
	CHECK_STR(rig_answer(g, id)->body, "y");
	id = rig_ask(g, "GET", "api.test", "/open/../shut", HTTP_BODY_NONE, 0);
	CHECK_EQ(rig_answer(g, id)->status, 403);
	rig_has(rig_answer(g, id)->body, "\"reason\":\"path\"");
	id = rig_ask(g, "HEAD", "api.test", "/shut", HTTP_BODY_NONE, 0);
	CHECK_EQ(rig_answer(g, id)->status, 403);
	CHECK(rig_answer(g, id)->ended);
	CHECK_EQ(rig_answer(g, id)->body_bytes, 0);
	rig_free(g);
}

TEST(TLS_6_another_host_is_421)
{
	static const char *const hosts[] = { "other.test", "api.test:444", "192.0.3.7",
		                             "api.test.other.test" };

	for (size_t i = 0; i < 4; i++) {
		struct rig *g = rig_secure(any);
		uint32_t id = rig_ask(g, "GET", hosts[i], "/", HTTP_BODY_NONE, 0);

		CHECK_EQ(g->requests_count, 0);
		CHECK_EQ(rig_answer(g, id)->status, 421);
		rig_has(rig_answer(g, id)->body, "host-mismatch");
		CHECK_EQ(g->records_count, 1);
		id = rig_ask(g, "GET", "API.test", "/", HTTP_BODY_NONE, 0);
		CHECK_EQ(g->requests_count, 1); /* also on a reused connection, but not this one */
		rig_free(g);
	}
}

TEST(L7_7_a_request_behind_a_refused_upload_never_leaves)
{
	struct rig *g = rig_plain("    - { host: api.test, port: 80, http: [ { method: GET } ] }");

	rig_say(g, "POST /x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 9\r\n\r\n"
	           "GET /y HTTP/1.1\r\nHost: api.test\r\n\r\n");
	CHECK_EQ(g->requests_count, 0);
	rig_has(g->text, "HTTP/1.1 403 ");
	rig_has(g->text, "onnection: close");
	CHECK(intercept_state(g->c) & INTERCEPT_FIN);
	CHECK(!(intercept_state(g->c) & INTERCEPT_DONE)); /* it lingers, so that this is read */
	g->now_ms += INTERCEPT_LINGER_MS;
	intercept_run(g->c, g->now_ms);
	CHECK(intercept_state(g->c) & INTERCEPT_DONE);
	rig_free(g);
	g = rig_plain("    - { host: api.test, port: 80, http: [ { method: GET, path: /y } ] }");
	rig_say(g,
	        "GET /y HTTP/1.1\r\nHost: api.test\r\n\r\nGET /z HTTP/1.1\r\nHost: api.test\r\n\r\n"
	        "GET /y HTTP/1.1\r\nHost: api.test\r\n\r\n");
	CHECK_EQ(g->requests_count, 1);
	rig_answer_with(g, 1, "y");
	rig_has(g->text, "403 ");
	CHECK_EQ(g->requests_count, 2); /* and the third goes, after the second's 403 */
	rig_free(g);
}

struct bad {
	const char *text;
	uint16_t status;
	const char *reason;
};

TEST(HTTP_1_3_7_bad_requests_are_answered_and_end_it)
{
	static const struct bad cases[] = {
		{ "GET / HTTP/1.1\nHost: api.test\n\n", 400, "bare-lf" },
		{ "GET / HTTP/1.1\r\nHost: api.test\r\nContent-Length: 1\r\n"
		  "Transfer-Encoding: chunked\r\n\r\n",
		  400, "length-and-coding" },
		{ "GET / HTTP/1.1\r\n\r\n", 400, "host-missing" },
		{ "TRACE / HTTP/1.1\r\nHost: api.test\r\n\r\n", 405, "trace" },
		{ "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n", 501, "connect" },
		{ "GET /../../x HTTP/1.1\r\nHost: api.test\r\n\r\n", 400, "path-climbs" },
		{ "SSH-2.0-OpenSSH_9\r\n\r\n", 400, "request-line" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rig *g = rig_plain(any);
		char line[64];

		rig_say(g, cases[i].text);
		(void)snprintf(line, sizeof(line), "HTTP/1.1 %u ", cases[i].status);
		rig_has(g->text, line);
		(void)snprintf(line, sizeof(line), "\"reason\":\"%s\"", cases[i].reason);
		rig_has(g->text, line);
		CHECK_EQ(g->requests_count, 0);
		CHECK_EQ(g->records_count, 1);
		CHECK_EQ(g->records[0].event, EGRESS_EVENT_REFUSED);
		CHECK_EQ(g->records[0].status, cases[i].status);
		CHECK(intercept_state(g->c) & INTERCEPT_FIN);
		rig_free(g);
	}
}

TEST(HTTP_3_limits_have_their_status)
{
	struct rig *g = rig_plain(any);
	char *text = malloc(80000);

	CHECK(text);
	(void)snprintf(text, 80000, "GET / HTTP/1.1\r\nHost: api.test\r\nx-big: %0*d\r\n\r\n",
	               HTTP_HEAD_MAX, 0);
	rig_say(g, text);
	rig_has(g->text, "HTTP/1.1 431 ");
	rig_free(g);
	g = rig_plain(any);
	(void)snprintf(text, 80000, "GET /%0*d HTTP/1.1\r\nHost: api.test\r\n\r\n", HTTP_TARGET_MAX,
	               0);
	rig_say(g, text);
	rig_has(g->text, "HTTP/1.1 414 ");
	rig_free(g);
	free(text);
}

TEST(a_body_that_breaks_off_in_the_middle)
{
	struct rig *g = rig_plain(any);

	rig_say(g,
	        "POST /x HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
	CHECK_EQ(rig_last(g)->body_bytes, 3);
	rig_say(g, "zz\r\n");
	CHECK(rig_last(g)->reset);
	rig_has(g->text, "HTTP/1.1 400 ");
	CHECK_EQ(g->records_count, 2);
	rig_recorded(g, 1, EGRESS_EVENT_REFUSED, "ambiguous");
	rig_free(g);
}

TEST(PATH_4_an_escaped_slash_must_not_matter)
{
	struct rig *g = rig_secure(limited);
	uint32_t id = rig_ask(g, "GET", "api.test", "/open/@a%2fb", HTTP_BODY_NONE, 0);

	CHECK_EQ(g->requests_count, 1); /* both readings are allowed */
	CHECK_STR(rig_last(g)->path, "/open/@a%2Fb");
	rig_answer_with(g, rig_last(g)->number, "");
	(void)id;
	rig_free(g);
	g = rig_secure(
		"    - { host: api.test, port: 443, http: [ { method: GET, path: /open/* } ] }");
	id = rig_ask(g, "GET", "api.test", "/open/a%2Fb", HTTP_BODY_NONE, 0);
	CHECK_EQ(rig_answer(g, id)->status, 400);
	rig_has(rig_answer(g, id)->body, "path-slash");
	rig_free(g);
	g = rig_secure(limited);
	id = rig_ask(g, "GET", "api.test", "/open/..%2f..%2fshut", HTTP_BODY_NONE, 0);
	CHECK_EQ(rig_answer(g, id)->status, 400);
	CHECK_EQ(g->requests_count, 0);
	rig_free(g);
}

TEST(L7_6_another_method_in_a_field_or_parameter)
{
	static const char rules[] =
		"    - { host: api.test, port: 80, http: [ { method: [GET, POST], path: \"/**\" } ] }";
	static const struct bad cases[] = {
		{ "X-HTTP-Method-Override: DELETE", 403, "method" },
		{ "x-method-override: delete", 403, "method" },
		{ "X-HTTP-Method: PUT", 403, "method" },
		{ "X-Original-URL: /admin", 400, "ambiguous" },
		{ "X-HTTP-Method-Override: GET", 0, "" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rig *g = rig_plain(rules);
		char text[256];

		(void)snprintf(text, sizeof(text),
		               "POST / HTTP/1.1\r\nHost: api.test\r\n%s\r\n"
		               "Content-Length: 0\r\n\r\n",
		               cases[i].text);
		rig_say(g, text);
		CHECK_EQ(g->requests_count, cases[i].status == 0 ? 1 : 0);
		if (cases[i].status != 0)
			CHECK_EQ(g->records[0].status, cases[i].status);
		rig_free(g);
	}
	struct rig *g = rig_plain(rules);

	rig_say(g,
	        "POST /?a=b&%5fmethod=%64elete HTTP/1.1\r\nHost: api.test\r\nContent-Length: 0\r\n\r\n");
	CHECK_EQ(g->requests_count, 0);
	rig_has(g->text, "403 ");
	rig_free(g);
}

TEST_MAIN()
