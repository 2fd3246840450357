/* Name service, as a guest sees it and as the vault and the supervisor do. */
#include "gate/limits.h"
#include "world.h"

#include <stdio.h>
#include <string.h>

#define RULES                                                                                      \
	"    - { host: a.example }\n"                                                              \
	"    - { host: \"*.wild.example\", port: 443 }\n"                                          \
	"    - { host: gone.wild.example, deny: true }\n"

static struct world *named(void)
{
	struct world *w = world_new(RULES);

	world_name(w, "a.example", "93.184.216.34 2606:2800::34", 300);
	return w;
}

TEST(a_listed_name_is_asked_once_and_answered)
{
	struct world *w = named();

	world_pin(w, "a.example", "93.184.216.34");
	CHECK_EQ(w->resolves, 1);
	CHECK_EQ(world_said(w, EGRESS_EVENT_ALLOWED, POLICY_OK), 1);
	CHECK_STR(world_last(w)->host, "a.example");
	CHECK_EQ(world_last(w)->r.layer, EGRESS_LAYER_DNS);
	world_pin(w, "a.example", "93.184.216.34");
	CHECK_EQ(w->resolves, 1); /* from memory */
	world_pin(w, "a.example", "2606:2800::34");
	CHECK_EQ(w->resolves, 2);
	CHECK_EQ(world_ask(w, "100.96.0.1", "A.eXample", DNS_A), DNS_NOERROR);
	CHECK_EQ(w->resolves, 2);
	world_free(w);
}

TEST(any_server_answers_the_same)
{
	static const char *const servers[] = {
		"100.96.0.1", "1.1.1.1",         "169.254.169.254",
		"10.0.0.1",   "2606:4700::1111", "fd62:6572:6d00::1"
	};
	struct world *w = named();

	for (size_t i = 0; i < sizeof(servers) / sizeof(servers[0]); i++) {
		CHECK_EQ(world_ask(w, servers[i], "a.example", DNS_A), DNS_NOERROR);
		CHECK_STR(world_answer(w), "93.184.216.34");
		CHECK_EQ(world_ask(w, servers[i], "b.example", DNS_A), DNS_NXDOMAIN);
	}
	CHECK_EQ(w->resolves, 1);
	world_free(w);
}

TEST(an_unlisted_name_does_not_leave_and_is_told_once)
{
	struct world *w = named();

	CHECK_EQ(world_ask(w, "100.96.0.1", "b.example", DNS_A), DNS_NXDOMAIN);
	CHECK_EQ(world_ask(w, "100.96.0.1", "b.example", DNS_AAAA), DNS_NXDOMAIN);
	CHECK_EQ(w->resolves, 0);
	CHECK_EQ(w->records_count, 1);
	CHECK_EQ(world_said(w, EGRESS_EVENT_REFUSED, POLICY_NO_RULE), 1);
	CHECK_STR(world_last(w)->host, "b.example");
	CHECK_EQ(world_ask(w, "100.96.0.1", "gone.wild.example", DNS_A), DNS_NXDOMAIN);
	CHECK_EQ(world_said(w, EGRESS_EVENT_REFUSED, POLICY_DENIED_BY_RULE), 1);
	CHECK_EQ(world_ask(w, "100.96.0.1", "metadata.google.internal", DNS_A), DNS_NXDOMAIN);
	CHECK_EQ(world_said(w, EGRESS_EVENT_REFUSED, POLICY_METADATA_ADDRESS), 1);
	CHECK_EQ(world_ask(w, "100.96.0.1", "a..b", DNS_A), DNS_FORMERR);
	world_wait(w, GATE_RECENT_MS);
	CHECK_EQ(world_ask(w, "100.96.0.1", "b.example", DNS_A), DNS_NXDOMAIN);
	CHECK_EQ(world_said(w, EGRESS_EVENT_REFUSED, POLICY_NO_RULE), 2);
	CHECK_EQ(w->resolves, 0);
	world_free(w);
}

TEST(other_types_and_missing_families_are_nodata)
{
	static const uint16_t types[] = { 5, 10, 15, 16, 33, 64, 65, 255 };
	struct world *w = named();

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		CHECK_EQ(world_ask(w, "1.1.1.1", "a.example", types[i]), DNS_NOERROR);
		CHECK_STR(world_answer(w), "");
		CHECK_EQ(world_ask(w, "1.1.1.1", "b.example", types[i]), DNS_NXDOMAIN);
	}
	CHECK_EQ(w->resolves, 0);
	world_name(w, "four.wild.example", "93.184.216.35", 60);
	CHECK_EQ(world_ask(w, "1.1.1.1", "four.wild.example", DNS_AAAA), DNS_NOERROR);
	CHECK_STR(world_answer(w), "");
	world_pin(w, "four.wild.example", "93.184.216.35");
	world_free(w);
}

TEST(what_is_local_stays_local)
{
	static const char *const names[] = { "sandbox", "wpad", "34.216.184.93.in-addr.arpa",
		                             "1.0.0.0.ip6.arpa" };
	struct world *w = named();

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		CHECK_EQ(world_ask(w, "1.1.1.1", names[i], DNS_A), DNS_NXDOMAIN);
		CHECK_EQ(world_ask(w, "1.1.1.1", names[i], 12), DNS_NXDOMAIN);
	}
	CHECK_EQ(world_ask(w, "1.1.1.1", "localhost", DNS_A), DNS_NOERROR);
	CHECK_STR(world_answer(w), "127.0.0.1");
	CHECK_EQ(world_ask(w, "1.1.1.1", "x.localhost", DNS_AAAA), DNS_NOERROR);
	CHECK_STR(world_answer(w), "::1");
	CHECK_EQ(w->resolves, 0);
	CHECK_EQ(w->records_count, 0);
	CHECK_EQ(world_stat(w, "dns_local"), 10);
	world_free(w);
}

TEST(trouble_upstream_is_servfail_and_absence_is_remembered)
{
	struct world *w = named();

	CHECK_EQ(world_ask(w, "1.1.1.1", "none.wild.example", DNS_A), DNS_NXDOMAIN);
	CHECK_EQ(world_ask(w, "1.1.1.1", "none.wild.example", DNS_A), DNS_NXDOMAIN);
	CHECK_EQ(w->resolves, 1);
	CHECK_EQ(world_said(w, EGRESS_EVENT_REFUSED, POLICY_UPSTREAM_DNS), 1);
	world_name_fails(w, "dead.wild.example", EGRESS_DNS);
	CHECK_EQ(world_ask(w, "1.1.1.1", "dead.wild.example", DNS_A), DNS_SERVFAIL);
	CHECK_EQ(w->resolves, 2);
	world_wait(w, GATE_FAILED_S * 1000);
	world_name(w, "dead.wild.example", "93.184.216.36", 60);
	world_pin(w, "dead.wild.example", "93.184.216.36");
	world_free(w);
}

TEST(a_bad_answer_is_refused_whole)
{
	struct world *w = named();

	world_name_fails(w, "rebind.wild.example", EGRESS_SPECIAL);
	CHECK_EQ(world_ask(w, "1.1.1.1", "rebind.wild.example", DNS_A), DNS_NXDOMAIN);
	CHECK_EQ(world_said(w, EGRESS_EVENT_REFUSED, POLICY_SPECIAL_ADDRESS), 1);
	/* also where a vault that was taken over lets it through */
	world_name(w, "meta.wild.example", "93.184.216.37 169.254.169.254", 60);
	CHECK_EQ(world_ask(w, "1.1.1.1", "meta.wild.example", DNS_A), DNS_NXDOMAIN);
	CHECK_EQ(world_said(w, EGRESS_EVENT_REFUSED, POLICY_METADATA_ADDRESS), 1);
	world_name(w, "link.wild.example", "fe80::1", 60);
	CHECK_EQ(world_ask(w, "1.1.1.1", "link.wild.example", DNS_AAAA), DNS_NXDOMAIN);
	world_free(w);
}

TEST(many_wait_for_one_answer)
{
	uint8_t at[DNS_QUERY_MAX];
	struct world *w = named();
	unsigned before;

	w->hold = true;
	for (uint16_t i = 0; i < 20; i++) {
		size_t len = world_question(at, i, "a.example", DNS_A);

		world_send(w, "1.1.1.1", 53, (uint16_t)(4000 + i), span_of(at, len));
	}
	before = w->datagrams;
	CHECK_EQ(before, 0);
	w->hold = false;
	/* the vault answers the one question that came */
	world_answer_held(w, "93.184.216.34");
	CHECK_EQ(w->datagrams, 20);
	world_free(w);
}

static void ask_tcp(struct world *w, struct gconn *c, const char *name, uint16_t type)
{
	static uint8_t at[2 + DNS_QUERY_MAX];
	size_t len = world_question(at + 2, 77, name, type);

	put_be16(at, (uint16_t)len);
	gconn_say(w, c, at, len + 2);
}

TEST(tcp_too_and_any_number_on_one_connection)
{
	struct world *w = named();
	struct gconn *c = world_dial(w, "8.8.8.8", 53);

	world_run(w);
	CHECK(c->open);
	for (unsigned i = 0; i < 10; i++) {
		size_t before = c->got_len;

		ask_tcp(w, c, "a.example", i % 2 ? DNS_AAAA : DNS_A);
		CHECK(c->got_len > before + 14);
		CHECK_EQ(c->got[before] << 8 | c->got[before + 1], (int)(c->got_len - before - 2));
		CHECK_EQ(c->got[before + 5] & 15, DNS_NOERROR);
	}
	CHECK_EQ(w->resolves, 2);
	c->shut = true;
	gconn_say(w, c, "", 0);
	CHECK(c->ended && c->end == TCP_END_CLOSED);
	gconn_free(c);
	world_free(w);
}

TEST(tcp_questions_behind_each_other_and_in_pieces)
{
	uint8_t at[4 * DNS_QUERY_MAX];
	size_t len = 0;
	struct world *w = named();
	struct gconn *c = world_dial(w, "8.8.8.8", 53);

	world_run(w);
	for (uint16_t i = 0; i < 6; i++) {
		size_t n =
			world_question(at + len + 2, i, i == 3 ? "b.example" : "a.example", DNS_A);

		put_be16(at + len, (uint16_t)n);
		len += n + 2;
	}
	for (size_t i = 0; i < len; i++)
		gconn_say(w, c, at + i, 1);
	CHECK_EQ(w->resolves, 1);
	CHECK(c->got_len > (size_t)6 * 30);
	gconn_free(c);
	world_free(w);
}

TEST(tcp_connections_beyond_the_limit_are_refused_and_told)
{
	struct gconn *c[GATE_DNS_FLOWS_MAX + 2];
	const unsigned all = sizeof(c) / sizeof(c[0]);
	struct world *w = named();

	for (unsigned i = 0; i < all; i++) {
		c[i] = world_dial(w, "1.1.1.1", 53);
		world_run(w);
		CHECK(i < GATE_DNS_FLOWS_MAX ? c[i]->open : c[i]->ended);
	}
	CHECK_EQ(world_said(w, EGRESS_EVENT_REFUSED, POLICY_LIMIT_CONNECTIONS), 2);
	CHECK_EQ(world_stat(w, "refused"), 2);
	for (unsigned i = 0; i < all; i++)
		gconn_free(c[i]);
	world_free(w);
}

TEST(tcp_that_idles_or_talks_nonsense_is_ended)
{
	struct world *w = named();
	struct gconn *idle = world_dial(w, "8.8.8.8", 53);
	struct gconn *mad = world_dial(w, "8.8.8.8", 53);

	world_run(w);
	gconn_say(w, mad, "\xff\xff nonsense", 11);
	CHECK(mad->ended && mad->end == TCP_END_RESET);
	world_wait(w, GATE_DNS_IDLE_MS + 1000);
	CHECK(idle->ended);
	gconn_free(idle);
	gconn_free(mad);
	world_free(w);
}

TEST(questions_are_limited_with_a_reason)
{
	struct world *w = world_new(NULL);
	unsigned failed = 0;

	world_policy(w, 1, "version: 1\nlimits: { dns_rate: 5 }\nnetwork:\n  rules:\n" RULES);
	for (unsigned i = 0; i < 20; i++)
		failed += world_ask(w, "1.1.1.1", "b.example", DNS_A) == DNS_SERVFAIL;
	CHECK_EQ(failed, 15);
	CHECK_EQ(world_said(w, EGRESS_EVENT_REFUSED, POLICY_LIMIT_DNS), 1);
	world_wait(w, 1000);
	CHECK_EQ(world_ask(w, "1.1.1.1", "b.example", DNS_A), DNS_NXDOMAIN);
	world_free(w);
}

TEST(a_flood_below_a_wildcard_leaves_slowly)
{
	struct world *w = named();
	char name[64];

	for (unsigned i = 0; i < 350; i++) {
		(void)snprintf(name, sizeof(name), "x%08x.wild.example", i * 2654435761U);
		(void)world_ask(w, "1.1.1.1", name, DNS_A);
	}
	CHECK_EQ(w->resolves, GATE_LOOKUP_BURST);
	CHECK_EQ(world_said(w, EGRESS_EVENT_REFUSED, POLICY_LIMIT_DNS), 1);
	world_free(w);
}

TEST(pins_end_with_their_time_and_with_their_rule)
{
	struct world *w = named();

	world_pin(w, "a.example", "93.184.216.34");
	CHECK_EQ(world_stat(w, "pins"), 1);
	world_wait(w, 301000);
	world_name(w, "a.example", "93.184.216.99", 60);
	world_pin(w, "a.example", "93.184.216.99");
	world_rules(w, 2, "    - { host: c.example }\n");
	CHECK_EQ(world_stat(w, "pins"), 0);
	CHECK_EQ(world_ask(w, "1.1.1.1", "a.example", DNS_A), DNS_NXDOMAIN);
	CHECK_EQ(world_last(w)->r.generation, 2);
	world_free(w);
}

TEST(before_a_policy_nothing_resolves)
{
	struct world *w = world_new(NULL);

	CHECK_EQ(world_ask(w, "1.1.1.1", "a.example", DNS_A), DNS_SERVFAIL);
	CHECK_EQ(w->resolves, 0);
	world_free(w);
}

TEST(hostile_questions_are_answered_or_dropped)
{
	static const uint8_t loop[] = { 0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1 };
	uint8_t at[DNS_QUERY_MAX];
	struct world *w = named();
	size_t len = world_question(at, 5, "a.example", DNS_A);

	world_send(w, "1.1.1.1", 53, 4000, span_of(loop, sizeof(loop)));
	world_send(w, "1.1.1.1", 53, 4000, span_of(at, 11));
	put_be16(at + 4, 2); /* two questions */
	world_send(w, "1.1.1.1", 53, 4000, span_of(at, len));
	put_be16(at + 4, 1);
	put_be16(at + len - 2, 3); /* chaos */
	world_send(w, "1.1.1.1", 53, 4000, span_of(at, len));
	at[2] = 0x80; /* an answer */
	world_send(w, "1.1.1.1", 53, 4000, span_of(at, len));
	CHECK_EQ(w->resolves, 0);
	world_pin(w, "a.example", "93.184.216.34");
	world_free(w);
}

TEST_MAIN()
