/* The same over HTTP/2, and what only there can be: siblings, gRPC, floods. */
#include "gate_rig.h"
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char any[] = "    - { host: api.test, port: [80, 443], inspect: true }";
static const char limited[] =
	"    - { host: api.test, port: 443, http: [ { method: GET, path: \"/open/**\" } ] }";

static struct rig *secure(const char *rules)
{
	struct rig *g = rig_new(rules, "api.test", true, "\x02h2\x08http/1.1");

	rig_client(g, true);
	return g;
}

TEST(alpn_chooses)
{
	static const struct {
		const char *offer, *got;
	} cases[] = {
		{ "\x02h2\x08http/1.1", "h2" },
		{ "\x08http/1.1\x02h2", "h2" },
		{ "\x08http/1.1", "http/1.1" },
		{ NULL, "" },
	};
	const uint8_t *alpn;
	unsigned len;

	for (size_t i = 0; i < 4; i++) {
		struct rig *g = rig_new(any, "api.test", true, cases[i].offer);

		rig_pump(g);
		CHECK(SSL_is_init_finished(g->ssl));
		CHECK_EQ(SSL_version(g->ssl), TLS1_3_VERSION);
		SSL_get0_alpn_selected(g->ssl, &alpn, &len);
		CHECK(span_is(span_of(alpn, len), cases[i].got));
		CHECK_EQ(intercepts_stats(g->all)->handshakes, 1);
		rig_free(g);
	}
	struct rig *g = rig_new(any, "api.test", true, "\x06spdy/3");

	rig_pump(g);
	CHECK(!SSL_is_init_finished(g->ssl));
	CHECK(intercept_state(g->c) & INTERCEPT_FIN);
	CHECK_EQ(intercepts_stats(g->all)->handshakes_failed, 1);
	CHECK_EQ(g->records_count, 1);
	CHECK_EQ(g->records[0].layer, EGRESS_LAYER_TLS);
	rig_free(g);
}

TEST(TLS_12_old_versions_and_second_handshakes)
{
	struct rig *g = rig_new(any, "api.test", true, NULL);

	SSL_set_security_level(g->ssl, 0);
	CHECK(SSL_set_min_proto_version(g->ssl, TLS1_VERSION));
	CHECK(SSL_set_max_proto_version(g->ssl, TLS1_1_VERSION));
	rig_pump(g);
	CHECK(!SSL_is_init_finished(g->ssl));
	CHECK(intercept_state(g->c) & INTERCEPT_FIN);
	rig_free(g);
	g = rig_new(any, "api.test", true, NULL);
	CHECK(SSL_set_max_proto_version(g->ssl, TLS1_2_VERSION));
	rig_say(g, "GET / HTTP/1.1\r\nHost: api.test\r\n\r\n");
	CHECK_EQ(g->requests_count, 1);
	CHECK_EQ(SSL_renegotiate(g->ssl), 1);
	for (unsigned i = 0; i < 4; i++) {
		CHECK(SSL_do_handshake(g->ssl) != 1);
		rig_pump(g);
	}
	CHECK_EQ(intercepts_stats(g->all)->handshakes, 1);
	rig_free(g);
}

/* What OpenSSL reads in the hello has to be what we read. */
TEST(TLS_3_another_name_than_the_reader_found)
{
	struct rig *g = rig_new(any, "api.test", true, NULL);

	(void)SSL_ctrl(g->ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
	               (void *)(uintptr_t) "other.test");
	rig_pump(g);
	CHECK(!SSL_is_init_finished(g->ssl));
	CHECK_EQ(intercepts_stats(g->all)->handshakes_failed, 1);
	rig_free(g);
}

TEST(a_certificate_the_guest_does_not_trust)
{
	struct rig *g = rig_new(any, "api.test", true, NULL);
	X509_STORE *none = X509_STORE_new();

	SSL_CTX_set_cert_store(g->ctx, none); /* a pinned client, say */
	rig_pump(g);
	CHECK(SSL_get_verify_result(g->ssl) != X509_V_OK);
	rig_pump(g);
	CHECK_EQ(g->records_count, 1);
	CHECK_EQ(g->records[0].layer, EGRESS_LAYER_TLS);
	CHECK(strstr(g->records[0].path, "unknown ca"));
	rig_free(g);
}

TEST(L7_8_one_stream_refused_the_siblings_go_on)
{
	struct rig *g = secure(limited);
	uint32_t a = rig_ask(g, "GET", "api.test", "/open/a", HTTP_BODY_NONE, 0);
	uint32_t b = rig_ask(g, "GET", "api.test", "/shut", HTTP_BODY_NONE, 0);
	uint32_t c = rig_ask(g, "GET", "other.test", "/open/c", HTTP_BODY_NONE, 0);
	uint32_t d = rig_ask(g, "POST", "api.test", "/open/d", HTTP_BODY_STREAM, 0);
	uint32_t f = rig_ask(g, "GET", "api.test", "/open/f", HTTP_BODY_NONE, 0);

	CHECK_EQ(g->requests_count, 2);
	CHECK_EQ(rig_answer(g, b)->status, 403);
	CHECK_EQ(rig_answer(g, c)->status, 421); /* TLS-6: also where names share a connection */
	CHECK_EQ(rig_answer(g, d)->status, 403);
	rig_answer_with(g, g->requests[1].number, "f");
	rig_answer_with(g, g->requests[0].number, "a");
	CHECK_STR(rig_answer(g, a)->body, "a");
	CHECK_STR(rig_answer(g, f)->body, "f");
	CHECK_EQ(g->records_count, 7);
	CHECK_EQ(intercept_state(g->c), INTERCEPT_READ);
	rig_free(g);
}

TEST(TLS_13_grpc_both_ways)
{
	struct rig *g = secure(any);
	uint32_t id = rig_ask(g, "POST", "api.test", "/pkg.Service/Chat", HTTP_BODY_STREAM, 0);
	struct rig_request *r = rig_last(g);
	struct http_trailers none = { 0 };

	CHECK(!r->ended);
	rig_reply(g, r->number, 200, HTTP_BODY_STREAM, 0, "content-type:application/grpc\n");
	for (unsigned i = 1; i <= 20; i++) { /* each waits for the other */
		struct span s = span_str("ping!");

		CHECK_EQ(http_conn_body(g->http, id, &s), 0);
		rig_pump(g);
		CHECK_EQ(r->body_bytes, 5 * i);
		CHECK_EQ(rig_body(g, r->number, "pong", 4), 4);
		CHECK_EQ(rig_answer(g, id)->body_bytes, 4 * i);
	}
	CHECK_EQ(http_conn_end(g->http, id, &none), 0);
	rig_pump(g);
	CHECK(r->ended);
	rig_trailers(g, r->number, "grpc-status", "0");
	rig_end(g, r->number);
	CHECK(rig_answer(g, id)->ended);
	CHECK_EQ(rig_answer(g, id)->trailers, 1);
	rig_free(g);
}

TEST(an_answer_before_the_upload_is_done)
{
	struct rig *g = secure(any);
	uint32_t id = rig_ask(g, "POST", "api.test", "/up", HTTP_BODY_STREAM, 0);
	struct rig_request *r = rig_last(g);

	rig_answer_with(g, r->number, "enough");
	CHECK_STR(rig_answer(g, id)->body, "enough");
	CHECK(r->reset);
	CHECK_EQ(g->order.count, 0);
	id = rig_ask(g, "GET", "api.test", "/", HTTP_BODY_NONE, 0);
	rig_answer_with(g, rig_last(g)->number, "on");
	CHECK_STR(rig_answer(g, id)->body, "on");
	rig_free(g);
}

/* Some clients throw an answer away whose stream is reset: a small rest is waited for. */
TEST(a_refused_upload_that_goes_on)
{
	static uint8_t bytes[50000];
	struct rig *g = secure(limited);
	uint32_t id = rig_ask(g, "POST", "api.test", "/open/x", HTTP_BODY_LENGTH, sizeof(bytes));
	struct span rest = span_of(bytes, sizeof(bytes));

	CHECK_EQ(rig_answer(g, id)->status, 403);
	CHECK(rig_answer(g, id)->ended && !rig_answer(g, id)->reset);
	CHECK_EQ(http_conn_streams(g->http), 1);
	while (rest.len > 0) {
		CHECK_EQ(http_conn_body(g->http, id, &rest), 0);
		rig_pump(g);
	}
	CHECK_EQ(http_conn_end(g->http, id, NULL), 0);
	rig_pump(g);
	CHECK(!rig_answer(g, id)->reset);
	CHECK_EQ(http_conn_streams(g->http), 0);
	/* a large one is not */
	id = rig_ask(g, "POST", "api.test", "/open/x", HTTP_BODY_STREAM, 0);
	for (unsigned i = 0; i < 10 && http_conn_streams(g->http) > 0; i++) {
		rest = span_of(bytes, sizeof(bytes));
		(void)!http_conn_body(g->http, id, &rest);
		rig_pump(g);
	}
	CHECK_EQ(http_conn_streams(g->http), 0);
	CHECK_EQ(rig_answer(g, id)->status, 403);
	id = rig_ask(g, "GET", "api.test", "/open/x", HTTP_BODY_NONE, 0);
	rig_answer_with(g, rig_last(g)->number, "on");
	CHECK_STR(rig_answer(g, id)->body, "on");
	/* one that never ends keeps its connection no longer than the others */
	id = rig_ask(g, "POST", "api.test", "/open/x", HTTP_BODY_STREAM, 0);
	CHECK_EQ(rig_answer(g, id)->status, 403);
	g->now_ms += INTERCEPT_IDLE_MS;
	intercept_run(g->c, g->now_ms);
	rig_pump(g);
	g->now_ms += INTERCEPT_LINGER_MS;
	intercept_run(g->c, g->now_ms);
	rig_pump(g);
	CHECK(intercept_state(g->c) & INTERCEPT_FIN && g->closed);
	rig_free(g);
}

TEST(a_stream_the_guest_resets)
{
	struct rig *g = secure(any);
	uint32_t id = rig_ask(g, "GET", "api.test", "/", HTTP_BODY_NONE, 0);
	struct rig_request *r = rig_last(g);

	rig_reply(g, r->number, 200, HTTP_BODY_STREAM, 0, "");
	http_conn_reset(g->http, id, HTTP_RESET_CANCEL);
	rig_pump(g);
	CHECK(r->reset);
	CHECK_EQ(r->fail, EGRESS_CANCELLED);
	CHECK_EQ(rig_body(g, r->number, "late", 4), 4); /* dropped on the way */
	rig_end(g, r->number);
	CHECK_EQ(g->order.count, 0);
	CHECK_EQ(g->records_count, 2);
	rig_free(g);
}

TEST(a_stream_the_upstream_resets)
{
	struct rig *g = secure(any);
	uint32_t a = rig_ask(g, "GET", "api.test", "/a", HTTP_BODY_NONE, 0);
	uint32_t b = rig_ask(g, "GET", "api.test", "/b", HTTP_BODY_NONE, 0);

	rig_reply(g, g->requests[0].number, 200, HTTP_BODY_STREAM, 0, "");
	rig_reset(g, g->requests[0].number, EGRESS_CLOSED);
	CHECK(rig_answer(g, a)->reset);
	rig_answer_with(g, g->requests[1].number, "b");
	CHECK_STR(rig_answer(g, b)->body, "b");
	CHECK_EQ(intercept_state(g->c), INTERCEPT_READ);
	rig_free(g);
}

TEST(many_streams_share_a_full_link)
{
	struct rig *g = secure(any);
	uint64_t waiting;
	uint32_t ids[90];

	g->link_room = 0;
	for (unsigned i = 0; i < 90; i++)
		ids[i] = rig_ask(g, "GET", "api.test", "/x", HTTP_BODY_NONE, 0);
	CHECK_EQ(g->requests_count, 0);
	waiting = intercepts_stats(g->all)->held_bytes;
	g->link_room = SIZE_MAX;
	intercept_run(g->c, g->now_ms);
	CHECK_EQ(g->requests_count, 90);
	CHECK(intercepts_stats(g->all)->held_bytes + 90 * 4096 <= waiting);
	for (unsigned i = 0; i < 90; i++)
		rig_answer_with(g, g->requests[i].number, "x");
	for (unsigned i = 0; i < 90; i++)
		CHECK(rig_answer(g, ids[i])->ended);
	CHECK_EQ(intercepts_stats(g->all)->requests_open, 0);
	rig_free(g);
}

TEST(LIM_4_slow_streams_are_bounded_together)
{
	static uint8_t big[1 << 19];
	struct rig *g = secure(any);
	size_t sent = 0;

	g->keep_body = true; /* the guest's windows stay shut */
	for (unsigned i = 0; i < 20; i++) {
		(void)rig_ask(g, "GET", "api.test", "/x", HTTP_BODY_NONE, 0);
		rig_reply(g, g->requests[i].number, 200, HTTP_BODY_STREAM, 0, "");
	}
	for (unsigned i = 0; i < 20; i++)
		sent += rig_body(g, g->requests[i].number, big, sizeof(big));
	CHECK(sent <=
	      20 * (EGRESS_WINDOW_BYTES + HTTP2_SEND_BYTES + HTTP_WINDOW_BYTES + HTTP_OUT_HIGH));
	CHECK(intercepts_stats(g->all)->held_bytes <=
	      2 * RIG_CALM_BYTES + 20 * (EGRESS_WINDOW_BYTES + HTTP2_SEND_BYTES));
	rig_free(g);
}

TEST(HTTP_6_a_flood_ends_the_connection)
{
	struct rig *g = rig_new(any, "api.test", true, "\x02h2");
	uint8_t ping[17] = { 0, 0, 8, 6 };

	rig_say(g, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
	rig_say_bytes(g, span_of("\0\0\0\x04\0\0\0\0\0", 9));
	for (unsigned i = 0; i < 2000 && !(intercept_state(g->c) & INTERCEPT_FIN); i++)
		rig_say_bytes(g, span_of(ping, sizeof(ping)));
	CHECK(intercept_state(g->c) & INTERCEPT_FIN);
	rig_free(g);
}

TEST(http2_without_tls)
{
	struct rig *g = rig_new(any, "api.test", false, NULL);
	uint32_t id;

	rig_client(g, true);
	g->piece = 1;
	id = rig_ask(g, "GET", "api.test", "/", HTTP_BODY_NONE, 0);
	CHECK_EQ(g->requests_count, 1);
	CHECK_EQ(rig_last(g)->scheme, HTTP_PLAIN);
	rig_answer_with(g, 1, "plain");
	CHECK_STR(rig_answer(g, id)->body, "plain");
	rig_free(g);
}

TEST_MAIN()
