/* Intercepted connections: what fails, what takes too long, what a new policy ends. */
#include "failalloc.h"
#include "gate_rig.h"
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char any[] = "    - { host: api.test, port: [80, 443], inspect: true }";
static const char limited[] =
	"    - { host: api.test, port: 443, http: [ { method: GET, path: \"/open/**\" } ] }";

/* --- what the vault could not do --- */

TEST(failures_of_the_vault_have_their_status)
{
	static const struct {
		enum egress_fail fail;
		uint16_t status;
		const char *reason;
		unsigned records;
	} cases[] = {
		{ EGRESS_TIMEOUT, 504, "upstream-timeout", 2 },
		{ EGRESS_REFUSED, 502, "upstream-refused", 2 },
		{ EGRESS_UNREACHABLE, 502, "upstream-refused", 2 },
		{ EGRESS_CERTIFICATE, 502, "upstream-certificate", 1 },
		{ EGRESS_PROTOCOL, 502, "upstream-protocol", 2 },
		{ EGRESS_CLOSED, 502, "upstream-protocol", 2 },
		{ EGRESS_DNS, 502, "upstream-dns", 2 },
		{ EGRESS_LIMIT, 503, "limit-connections", 2 },
		{ EGRESS_FULL, 503, "limit-memory", 2 },
		{ EGRESS_INTERNAL, 503, "vault-down", 2 },
		{ EGRESS_PLACEHOLDER, 403, "placeholder-elsewhere", 1 },
		{ EGRESS_DENIED, 403, "no-rule", 2 },
		{ EGRESS_SPECIAL, 403, "special-address", 2 },
		{ EGRESS_REVOKED_BY_POLICY, 403, "revoked", 2 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rig *g = rig_secure(any);
		uint32_t id = rig_ask(g, "POST", "api.test", "/?k=hush", HTTP_BODY_STREAM, 0);
		struct rig_answer *a = rig_answer(g, id);

		rig_reset(g, rig_last(g)->number, cases[i].fail);
		CHECK_EQ(a->status, cases[i].status);
		rig_has(a->body, cases[i].reason);
		rig_has(a->body, cases[i].status >= 500 ? "upstream-failed" : "refused-by-policy");
		rig_has_not(a->body, "hush");
		CHECK(a->ended);
		CHECK(rig_last(g)->reset);
		CHECK_EQ(g->order.count, 0);
		CHECK_EQ(g->records_count, cases[i].records);
		if (cases[i].records == 2)
			rig_recorded(g, 1,
			             cases[i].status >= 502 ? EGRESS_EVENT_ENDED
			                                    : EGRESS_EVENT_REFUSED,
			             cases[i].reason);
		rig_free(g);
	}
}

TEST(HTTP_3_too_large_with_its_values_is_431)
{
	struct rig *g = rig_secure(any);
	uint32_t id = rig_ask(g, "GET", "api.test", "/", HTTP_BODY_NONE, 0);

	rig_reset(g, rig_last(g)->number, EGRESS_TOO_LARGE);
	CHECK_EQ(rig_answer(g, id)->status, 431);
	rig_has(rig_answer(g, id)->body, "head-too-large");
	rig_has(rig_answer(g, id)->body, "bad-request");
	CHECK(rig_answer(g, id)->ended);
	CHECK_EQ(g->order.count, 0);
	rig_recorded(g, 1, EGRESS_EVENT_REFUSED, "ambiguous");
	rig_free(g);
}

TEST(SEC_15_no_vault_is_503)
{
	struct rig *g = rig_secure(any);
	uint32_t id;

	g->down = true;
	id = rig_ask(g, "GET", "api.test", "/", HTTP_BODY_NONE, 0);
	CHECK_EQ(rig_answer(g, id)->status, 503);
	rig_has(rig_answer(g, id)->body, "vault-down");
	CHECK_EQ(g->records_count, 1);
	g->down = false;
	g->order.count_max = 0;
	id = rig_ask(g, "GET", "api.test", "/", HTTP_BODY_NONE, 0);
	CHECK_EQ(rig_answer(g, id)->status, 503);
	rig_has(rig_answer(g, id)->body, "limit-connections");
	rig_free(g);
}

TEST(HTTP_2_an_answer_that_breaks_off_never_looks_whole)
{
	struct rig *g = rig_secure(any);
	uint32_t id = rig_ask(g, "GET", "api.test", "/", HTTP_BODY_NONE, 0);

	rig_reply(g, 1, 200, HTTP_BODY_STREAM, 0, "");
	(void)rig_body(g, 1, "half", 4);
	rig_reset(g, 1, EGRESS_CLOSED);
	CHECK_STR(rig_answer(g, id)->body, "half");
	CHECK(!rig_answer(g, id)->ended && !g->closed);
	CHECK_EQ(intercept_state(g->c), INTERCEPT_ABORT);
	rig_recorded(g, 1, EGRESS_EVENT_ENDED, "upstream-protocol");
	rig_free(g);
}

TEST(a_guest_that_goes_away_resets_its_requests)
{
	struct rig *g = rig_secure(any);

	(void)rig_ask(g, "GET", "api.test", "/", HTTP_BODY_NONE, 0);
	rig_reply(g, 1, 200, HTTP_BODY_STREAM, 0, "");
	intercept_free(g->c, g->now_ms);
	CHECK(g->requests[0].reset);
	CHECK_EQ(g->requests[0].fail, EGRESS_CANCELLED);
	CHECK_EQ(g->records_count, 2);
	g->c = NULL;
	rig_free(g);
}

TEST(the_link_has_no_room_for_a_while)
{
	struct rig *g = rig_secure(any);
	uint32_t id;

	g->link_room = 0;
	id = rig_ask(g, "POST", "api.test", "/x", HTTP_BODY_LENGTH, 5);
	struct span five = span_str("12345");

	CHECK_EQ(http_conn_body(g->http, id, &five), 0);
	CHECK_EQ(http_conn_end(g->http, id, NULL), 0);
	rig_pump(g);
	CHECK_EQ(g->requests_count, 0);
	CHECK(intercept_state(g->c) & INTERCEPT_LINK);
	intercept_run(g->c, g->now_ms);
	CHECK(intercept_state(g->c) & INTERCEPT_LINK);
	g->link_room = SIZE_MAX;
	intercept_run(g->c, g->now_ms);
	CHECK(!(intercept_state(g->c) & INTERCEPT_LINK));
	CHECK_EQ(g->requests_count, 1);
	CHECK_STR(rig_last(g)->body, "12345");
	CHECK(rig_last(g)->ended);
	rig_answer_with(g, rig_last(g)->number, "ok");
	CHECK_STR(rig_answer(g, id)->body, "ok");
	rig_free(g);
}

/* Whatever fails, the connection ends, and nothing stays behind. */
TEST(no_memory)
{
	static const char *const texts[] = {
		("POST /x HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n"
		 "3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n"),
		"POST /x HTTP/1.1\r\nHost: other.test\r\nContent-Length: 3\r\n\r\nabc",
		"GET / HTTP/1.1\r\n\r\n",
	};

	for (size_t i = 0; i < 3; i++) {
		for (int full = 0; full < 2; full++) {
			struct rig *g = rig_plain(any);
			struct intercept_start start = { .flow = g, .now_ms = g->now_ms };

			g->link_room = full ? 0 : SIZE_MAX;
			intercept_free(g->c, g->now_ms);
			FAILALLOC_EACH()
			{
				struct span in = span_str(texts[i]);
				struct err e = { 0 };

				g->c = NULL;
				g->records_count = 0;
				g->requests_count = 0;
				if (intercept_new(g->all, &start, &g->c, &e) < 0) {
					CHECK(failalloc_hit());
					continue;
				}
				intercept_recv(g->c, g->now_ms, &in);
				(void)intercept_output(g->c, g->now_ms);
				intercept_free(g->c, g->now_ms);
				CHECK_EQ(intercepts_stats(g->all)->connections, 0);
				CHECK_EQ(intercepts_stats(g->all)->requests_open, 0);
				CHECK_EQ(intercepts_stats(g->all)->held_bytes, 0);
				(void)failalloc_hit();
			}
			g->c = NULL;
			rig_free(g);
		}
	}
}

/* --- time, and a policy that changes --- */

static void wait_ms(struct rig *g, uint64_t ms)
{
	g->now_ms += ms;
	intercept_run(g->c, g->now_ms);
	rig_pump(g);
}

TEST(HTTP_3_a_slow_head_is_408)
{
	for (int tls = 0; tls < 2; tls++) {
		struct rig *g = rig_new(any, "api.test", tls, NULL);

		rig_say(g, "GET / HTTP/1.1\r\nHost: ");
		wait_ms(g, INTERCEPT_HEAD_MS - 1);
		rig_say(g, "api");
		CHECK_EQ(g->text_len, 0);
		wait_ms(g, 1);
		rig_has(g->text, "HTTP/1.1 408 ");
		rig_has(g->text, "\"reason\":\"timeout\"");
		CHECK(intercept_state(g->c) & INTERCEPT_FIN);
		CHECK(tls == g->closed);
		CHECK_EQ(g->records_count, 1);
		CHECK_EQ(g->records[0].status, 408);
		rig_free(g);
	}
}

TEST(LIM_4_idle_and_stalled_connections_end)
{
	struct rig *g = rig_secure(any);
	uint32_t id;

	rig_pump(g);
	wait_ms(g, INTERCEPT_IDLE_MS - 1);
	CHECK(!(intercept_state(g->c) & INTERCEPT_FIN));
	wait_ms(g, 1);
	CHECK(intercept_state(g->c) & INTERCEPT_FIN && g->closed);
	rig_free(g);
	g = rig_new(any, "api.test", true, NULL); /* hands are never shaken */
	wait_ms(g, INTERCEPT_HANDSHAKE_MS);
	CHECK_EQ(intercept_state(g->c), INTERCEPT_ABORT);
	rig_free(g);
	g = rig_secure(any); /* an upload stops */
	id = rig_ask(g, "POST", "api.test", "/", HTTP_BODY_LENGTH, 10);
	wait_ms(g, INTERCEPT_UPLOAD_MS);
	CHECK_EQ(rig_answer(g, id)->status, 408);
	CHECK(rig_last(g)->reset);
	rig_free(g);
	g = rig_secure(any); /* the guest takes nothing */
	(void)rig_ask(g, "GET", "api.test", "/", HTTP_BODY_NONE, 0);
	g->deaf = true;
	rig_answer_with(g, 1, "x");
	(void)intercept_output(g->c, g->now_ms);
	wait_ms(g, INTERCEPT_STALL_MS);
	CHECK_EQ(intercept_state(g->c), INTERCEPT_ABORT);
	rig_free(g);
}

TEST(HOT_2_requests_that_the_new_policy_refuses_end)
{
	struct rig *g = rig_secure(any);
	uint32_t id = rig_ask(g, "GET", "api.test", "/shut", HTTP_BODY_NONE, 0);
	struct policy *old = g->policy;

	intercept_reload(g->c, g->now_ms); /* the same: nothing happens */
	CHECK(!rig_last(g)->reset);
	g->policy = rig_policy(limited);
	policy_free(old);
	intercept_reload(g->c, g->now_ms);
	rig_pump(g);
	CHECK(rig_last(g)->reset);
	CHECK_EQ(rig_last(g)->fail, EGRESS_REVOKED_BY_POLICY);
	CHECK_EQ(rig_answer(g, id)->status, 403);
	rig_has(rig_answer(g, id)->body, "\"reason\":\"revoked\"");
	rig_recorded(g, 1, EGRESS_EVENT_REFUSED, "revoked");
	rig_free(g);
	g = rig_secure(any); /* one that was answered in part */
	(void)rig_ask(g, "GET", "api.test", "/shut", HTTP_BODY_NONE, 0);
	rig_reply(g, 1, 200, HTTP_BODY_STREAM, 0, "");
	old = g->policy;
	g->policy = rig_policy(limited);
	policy_free(old);
	intercept_reload(g->c, g->now_ms);
	rig_pump(g);
	CHECK_EQ(intercept_state(g->c), INTERCEPT_ABORT);
	rig_recorded(g, 1, EGRESS_EVENT_ENDED, "revoked");
	rig_free(g);
}

TEST(LIM_3_used_up_bytes_are_429)
{
	struct rig *g = rig_secure(any);
	uint32_t id = rig_ask(g, "POST", "api.test", "/up", HTTP_BODY_STREAM, 0);

	g->over = true; /* a request that waits for its answer gets one */
	intercept_over(g->c, g->now_ms);
	rig_pump(g);
	CHECK(rig_last(g)->reset);
	CHECK_EQ(rig_answer(g, id)->status, 429);
	rig_has(rig_answer(g, id)->body, "\"reason\":\"limit-bytes\"");
	rig_has_not(rig_answer(g, id)->body, "was not asked");
	CHECK(rig_answer(g, id)->ended);
	rig_recorded(g, 1, EGRESS_EVENT_REFUSED, "limit-bytes");
	CHECK_EQ(g->records_count, 2);
	rig_free(g);
	g = rig_secure(any); /* a new one as well, and nothing is forwarded */
	g->over = true;
	for (unsigned i = 0; i < 2; i++) {
		id = rig_ask(g, "GET", "api.test", "/", HTTP_BODY_NONE, 0);
		CHECK_EQ(rig_answer(g, id)->status, 429);
		rig_recorded(g, i, EGRESS_EVENT_REFUSED, "limit-bytes");
	}
	CHECK_EQ(g->requests_count, 0);
	g->over = false; /* another policy grants more */
	id = rig_ask(g, "GET", "api.test", "/", HTTP_BODY_NONE, 0);
	rig_answer_with(g, rig_last(g)->number, "x");
	CHECK_EQ(rig_answer(g, id)->status, 200);
	rig_free(g);
	g = rig_secure(any); /* an answer that has begun must not look whole */
	(void)rig_ask(g, "GET", "api.test", "/", HTTP_BODY_NONE, 0);
	rig_reply(g, 1, 200, HTTP_BODY_STREAM, 0, "");
	g->over = true;
	intercept_over(g->c, g->now_ms);
	rig_pump(g);
	CHECK_EQ(intercept_state(g->c), INTERCEPT_ABORT);
	rig_recorded(g, 1, EGRESS_EVENT_ENDED, "limit-bytes");
	rig_free(g);
}

TEST(L7_4_observed_requests_go_on_and_are_marked)
{
	struct rig *g = rig_secure(
		"    - { host: api.test, port: 443, observe: true, http: [ { method: GET } ] }");
	uint32_t id = rig_ask(g, "DELETE", "api.test", "/", HTTP_BODY_NONE, 0);

	CHECK_EQ(g->requests_count, 1);
	rig_answer_with(g, 1, "done");
	CHECK_EQ(rig_answer(g, id)->status, 200);
	rig_recorded(g, 0, EGRESS_EVENT_OBSERVED, "path");
	rig_free(g);
}

/* --- what all of them hold --- */

TEST(LIM_4_no_more_connections_than_may_be_read)
{
	static struct intercept *all[INTERCEPT_CONNECTIONS_MAX];
	struct rig *g = rig_plain(any);
	struct intercept_start start = { .flow = g, .now_ms = g->now_ms, .real_s = g->real_s };
	struct intercept *more = NULL;

	for (unsigned i = 1; i < INTERCEPT_CONNECTIONS_MAX; i++) /* the rig has one */
		CHECK_EQ(intercept_new(g->all, &start, &all[i], NULL), 0);
	CHECK_EQ(intercept_new(g->all, &start, &more, NULL), -EMFILE);
	CHECK(!more);
	intercept_free(all[1], g->now_ms);
	CHECK_EQ(intercept_new(g->all, &start, &all[1], NULL), 0);
	for (unsigned i = 1; i < INTERCEPT_CONNECTIONS_MAX; i++)
		intercept_free(all[i], g->now_ms);
	rig_free(g);
}

/* A guest that asks for much and reads nothing, on one connection after the other. */
TEST(LIM_4_who_hoards_gives_way)
{
	enum { HOARDERS = 800 };
	static struct intercept *all[HOARDERS];
	static uint8_t big[1 << 20];
	struct rig *g = rig_plain(any);
	struct intercept_start start = { .flow = g, .real_s = g->real_s };
	struct intercept *calm = g->c;
	unsigned gone = 0;

	for (unsigned i = 0; i < HOARDERS; i++) {
		struct span in = span_str("GET /big HTTP/1.1\r\nHost: api.test\r\n\r\n");

		start.now_ms = ++g->now_ms;
		CHECK_EQ(intercept_new(g->all, &start, &all[i], NULL), 0);
		g->c = all[i];
		g->deaf = true;
		intercept_recv(g->c, g->now_ms, &in);
		rig_reply(g, rig_last(g)->number, 200, HTTP_BODY_LENGTH, sizeof(big), "");
		(void)rig_body(g, rig_last(g)->number, big, sizeof(big));
		CHECK(intercepts_stats(g->all)->held_bytes <= INTERCEPT_HELD_MAX);
	}
	while (gone < HOARDERS && (intercept_state(all[gone]) & INTERCEPT_ABORT))
		CHECK_EQ(intercept_why(all[gone++]), POLICY_LIMIT_MEMORY);
	CHECK(gone > 0 && gone < HOARDERS); /* those that were silent for longest */
	for (unsigned i = gone; i < HOARDERS; i++)
		CHECK_EQ(intercept_state(all[i]) & INTERCEPT_ABORT, 0);
	(void)rig_recorded(g, g->records_count - 1, EGRESS_EVENT_ENDED, "limit-memory");
	g->c = calm;
	g->deaf = false;
	rig_say(g, "GET /a HTTP/1.1\r\nHost: api.test\r\n\r\n");
	rig_answer_with(g, rig_last(g)->number, "still here");
	rig_has(g->text, "still here");
	for (unsigned i = 0; i < HOARDERS; i++)
		intercept_free(all[i], g->now_ms);
	rig_free(g);
}

TEST_MAIN()
