/* Connections, as the guest, the upstream, the vault and the supervisor see them. */
#include "gate/limits.h"
#include "world.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define RULES                                                                                      \
	"    - { host: raw.example, port: 22 }\n"                                                  \
	"    - { host: tls.example, port: [443, 8443] }\n"                                         \
	"    - { host: other.example, port: 443, deny: true }\n"                                   \
	"    - { host: web.example, port: 80 }\n"                                                  \
	"    - { address: 10.1.2.3, port: 5432, protocol: tcp }\n"

static const char raw[] = "93.184.216.22", tls[] = "93.184.216.43";

static struct world *named(void)
{
	struct world *w = world_new(RULES);

	world_name(w, "raw.example", raw, 300);
	world_name(w, "tls.example", tls, 300);
	world_name(w, "web.example", "93.184.216.80 93.184.216.43", 300);
	return w;
}

static struct gconn *dial(struct world *w, const char *addr, uint16_t port)
{
	struct gconn *c = world_dial(w, addr, port);

	world_run(w);
	return c;
}

/* The last record is why c was refused; c is freed. */
static void check_refused(struct world *w, struct gconn *c, const char *why)
{
	CHECK(c->ended && c->end != TCP_END_CLOSED);
	CHECK_STR(policy_reason_word(world_last(w)->r.reason), why);
	CHECK_EQ(world_last(w)->r.event, EGRESS_EVENT_REFUSED);
	gconn_free(c);
}

/* -- SYN --------------------------------------------------------------------------------------- */

TEST(an_address_nobody_resolved_is_refused_at_once)
{
	struct world *w = named();

	check_refused(w, dial(w, raw, 22), "not-resolved");
	check_refused(w, dial(w, "1.1.1.1", 443), "not-resolved");
	check_refused(w, dial(w, "169.254.169.254", 80), "metadata-address");
	check_refused(w, dial(w, "10.1.2.4", 5432), "special-address");
	check_refused(w, dial(w, "100.96.0.1", 443), "special-address");
	check_refused(w, dial(w, "2606:4700::1", 443), "not-resolved");
	world_pin(w, "raw.example", raw);
	check_refused(w, dial(w, raw, 23), "no-rule");
	CHECK_EQ(w->connects, 0);
	world_free(w);
}

TEST(the_syn_is_answered_when_the_upstream_was)
{
	struct world *w = named();
	struct gconn *c;

	world_pin(w, "raw.example", raw);
	w->hold = true;
	c = dial(w, raw, 22);
	CHECK(!c->open && !c->ended);
	world_wait(w, 3000); /* the guest says its SYN again */
	CHECK(!c->open && !c->ended);
	world_connect_held(w, EGRESS_OK);
	CHECK(c->open && !c->ended);
	CHECK_EQ(w->upstreams[0].asked.protocol, EGRESS_TCP);
	CHECK_EQ(w->upstreams[0].asked.port, 22);
	CHECK_EQ(w->upstreams[0].asked.generation, 1);
	CHECK_STR(w->upstreams[0].name, "raw.example");
	CHECK_EQ(world_last(w)->r.event, EGRESS_EVENT_ALLOWED);
	CHECK_EQ(world_last(w)->r.flags, EGRESS_RECORD_PIN_ONLY);
	CHECK_EQ(world_last(w)->r.flow, w->upstreams[0].stream);
	world_free(w);
	gconn_free(c);
}

TEST(an_upstream_that_fails_is_a_reset_with_its_reason)
{
	static const struct {
		uint8_t fail;
		const char *word;
	} cases[] = {
		{ EGRESS_REFUSED, "upstream-refused" },     { EGRESS_TIMEOUT, "upstream-timeout" },
		{ EGRESS_SPECIAL, "special-address" },      { EGRESS_LIMIT, "limit-connections" },
		{ EGRESS_UNREACHABLE, "upstream-refused" }, { EGRESS_DENIED, "no-rule" },
	};
	struct world *w = named();

	world_pin(w, "raw.example", raw);
	world_pin(w, "tls.example", tls);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t hello[1024];
		struct gconn *c;

		w->connect_fail = cases[i].fail;
		check_refused(w, dial(w, raw, 22), cases[i].word);
		c = dial(w, tls, 443);
		CHECK(c->open);
		gconn_say(w, c, hello, world_hello(hello, "tls.example"));
		check_refused(w, c, cases[i].word);
	}
	CHECK_EQ(world_stat(w, "flows_open"), 0);
	world_free(w);
}

TEST(an_address_rule_needs_no_name)
{
	struct world *w = named();
	struct gconn *c = dial(w, "10.1.2.3", 5432);

	CHECK(c->open);
	CHECK_EQ(w->upstreams[0].asked.name.len, 0);
	CHECK_EQ(world_last(w)->r.flags, 0);
	gconn_free(c);
	world_free(w);
}

/* -- bytes ------------------------------------------------------------------------------------- */

enum { BULK = 6 << 20 };

static uint8_t *bulk(void)
{
	uint8_t *at = malloc(BULK);

	CHECK(at);
	for (size_t i = 0; i < BULK; i++)
		at[i] = (uint8_t)(i * 31 + (i >> 13));
	return at;
}

/* Everything the guest sends comes back, then its end. Returns when all has gone round. */
static void echo(struct world *w, struct upstream *u, struct gconn *c, size_t want)
{
	uint8_t *buf = malloc(BULK);
	size_t got = 0, back = 0;
	bool eof = false;

	CHECK(buf);
	for (unsigned n = 0; (!eof || back < got) && n < 1000000; n++) {
		ssize_t k = eof ? 0 : recv(u->fd, buf + got, BULK - got, 0);

		if (k > 0)
			got += (size_t)k;
		eof = eof || (k == 0 && got == want);
		k = back < got ? send(u->fd, buf + back, got - back, MSG_NOSIGNAL) : 0;
		if (k > 0)
			back += (size_t)k;
		world_run(w);
	}
	CHECK(eof);
	CHECK_EQ(got, want);
	CHECK_EQ(shutdown(u->fd, SHUT_WR), 0);
	world_run(w);
	CHECK_EQ(c->got_len, want);
	free(buf);
}

TEST(bytes_go_both_ways_and_each_end_by_itself)
{
	uint8_t *data = bulk();
	struct world *w = named();
	struct gconn *c;

	world_pin(w, "raw.example", raw);
	c = dial(w, raw, 22);
	c->shut = true; /* its end comes long before the last byte is back */
	gconn_say(w, c, data, BULK);
	echo(w, &w->upstreams[0], c, BULK);
	CHECK(memcmp(c->got, data, BULK) == 0);
	CHECK(c->eof && c->ended && c->end == TCP_END_CLOSED);
	CHECK_EQ(w->upstreams[0].ended, EGRESS_END);
	CHECK_EQ(world_last(w)->r.event, EGRESS_EVENT_ENDED);
	CHECK_EQ(world_last(w)->r.bytes_up, BULK);
	CHECK_EQ(world_last(w)->r.bytes_down, BULK);
	CHECK_EQ(world_stat(w, "flows_open"), 0);
	CHECK_EQ(world_stat(w, "tcp_rings"), 0);
	gconn_free(c);
	free(data);
	world_free(w);
}

/* Each frame goes to the card in pieces, and each piece waits for the one before. */
TEST(a_card_with_little_room)
{
	uint8_t *data = bulk();
	int small = 4000;
	struct world *w = named();
	struct gconn *c;

	world_pin(w, "raw.example", raw);
	CHECK_EQ(setsockopt(w->card_near, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	c = dial(w, raw, 22);
	c->shut = true;
	gconn_say(w, c, data, 1 << 20);
	echo(w, &w->upstreams[0], c, 1 << 20);
	CHECK(memcmp(c->got, data, 1 << 20) == 0);
	CHECK(c->ended && c->end == TCP_END_CLOSED);
	gconn_free(c);
	free(data);
	world_free(w);
}

TEST(the_upstream_ends_first)
{
	struct world *w = named();
	struct gconn *c;
	char got[8];

	world_pin(w, "raw.example", raw);
	c = dial(w, raw, 22);
	CHECK_EQ(send(w->upstreams[0].fd, "bye", 3, 0), 3);
	CHECK_EQ(shutdown(w->upstreams[0].fd, SHUT_WR), 0);
	world_run(w);
	CHECK(c->eof && !c->ended);
	CHECK_EQ(c->got_len, 3);
	gconn_say(w, c, "more", 4);
	CHECK_EQ(recv(w->upstreams[0].fd, got, sizeof(got), 0), 4);
	c->shut = true;
	gconn_say(w, c, "", 0);
	CHECK_EQ(recv(w->upstreams[0].fd, got, sizeof(got), 0), 0);
	CHECK(c->ended && c->end == TCP_END_CLOSED);
	gconn_free(c);
	world_free(w);
}

TEST(a_reset_goes_through)
{
	struct world *w = named();
	struct gconn *c;
	char got[8];

	world_pin(w, "raw.example", raw);
	c = dial(w, raw, 22);
	tcp_abort(w->tcp, c->f, world_ms());
	world_run(w);
	CHECK_EQ(w->upstreams[0].ended, EGRESS_RESET); /* the vault makes it one upstream */
	CHECK_EQ(recv(w->upstreams[0].fd, got, sizeof(got), 0), 0);
	gconn_free(c);
	c = dial(w, raw, 22);
	gconn_say(w, c, "unread", 6);
	(void)close(w->upstreams[1].fd); /* with bytes unread: what a socket pair has for a reset */
	w->upstreams[1].fd = -1;
	world_run(w);
	CHECK(c->ended && c->end == TCP_END_RESET);
	gconn_free(c);
	world_free(w);
}

TEST(a_slow_reader_on_either_side_pushes_back)
{
	uint8_t *data = bulk();
	struct world *w = named();
	struct gconn *c;
	size_t sent = 0;

	world_pin(w, "raw.example", raw);
	c = dial(w, raw, 22);
	gconn_say(w, c, data, BULK); /* nobody reads upstream */
	CHECK(c->out.len > BULK / 2);
	CHECK(world_stat(w, "tcp_rings") <= 2);
	c->lazy = true;
	for (ssize_t n = 1; n > 0;) {
		n = send(w->upstreams[0].fd, data + sent, BULK - sent, MSG_NOSIGNAL);
		sent += n > 0 ? (size_t)n : 0;
		world_run(w);
	}
	CHECK(sent < BULK / 2);
	CHECK(world_stat(w, "tcp_rings") <= 2);
	/* and nobody else waits for them */
	CHECK_EQ(world_ask(w, "1.1.1.1", "raw.example", DNS_A), DNS_NOERROR);
	world_wait(w, GATE_STALL_MS + GATE_SWEEP_MS + 1000);
	CHECK(c->ended);
	CHECK_EQ(world_last(w)->r.reason, POLICY_LIMIT_CONNECTIONS);
	CHECK_EQ(world_stat(w, "tcp_rings"), 0);
	gconn_free(c);
	free(data);
	world_free(w);
}

/* -- first flights ----------------------------------------------------------------------------- */

TEST(sni_answer_and_rule_have_to_agree)
{
	static const struct {
		const char *sni, *word;
	} bad[] = {
		{ "raw.example", "sni-mismatch" },
		{ "other.example", "denied-by-rule" },
		{ "evil.example", "sni-mismatch" },
		{ "web.example", "no-rule" },
		{ NULL, "sni-missing" },
	};
	uint8_t hello[1024];
	struct world *w = named();
	struct gconn *c;

	world_pin(w, "tls.example", tls);
	CHECK_EQ(world_ask(w, "1.1.1.1", "web.example", DNS_A),
	         DNS_NOERROR); /* shares the address */
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		c = dial(w, tls, 443);
		gconn_say(w, c, hello, world_hello(hello, bad[i].sni));
		if (bad[i].sni)
			CHECK_STR(world_last(w)->host, bad[i].sni);
		check_refused(w, c, bad[i].word);
	}
	CHECK_EQ(w->connects, 0);
	c = dial(w, tls, 443);
	gconn_say(w, c, hello, world_hello(hello, "TLS.example"));
	CHECK_EQ(w->connects, 1);
	CHECK_EQ(w->upstreams[0].asked.protocol, EGRESS_TLS);
	CHECK_STR(w->upstreams[0].name, "tls.example");
	CHECK_EQ(world_last(w)->r.layer, EGRESS_LAYER_TLS);
	CHECK_EQ(world_last(w)->r.flags, 0);
	gconn_free(c);
	world_free(w);
}

TEST(a_hello_in_pieces_arrives_whole_at_the_upstream)
{
	uint8_t hello[1024], got[1024];
	size_t len = world_hello(hello, "tls.example");
	struct world *w = named();
	struct gconn *c;

	world_pin(w, "tls.example", tls);
	c = dial(w, tls, 443);
	for (size_t i = 0; i < len; i++)
		gconn_say(w, c, hello + i, 1);
	CHECK_EQ(w->connects, 1);
	CHECK_EQ(recv(w->upstreams[0].fd, got, sizeof(got), 0), (ssize_t)len);
	CHECK(memcmp(got, hello, len) == 0);
	CHECK_EQ(send(w->upstreams[0].fd, "server", 6, 0), 6);
	world_run(w);
	CHECK_EQ(c->got_len, 6);
	gconn_free(c);
	world_free(w);
}

TEST(what_is_no_tls_or_too_slow_or_too_long_is_refused)
{
	static uint8_t flood[20000];
	uint8_t hello[1024];
	struct world *w = named();
	struct gconn *c;

	world_pin(w, "tls.example", tls);
	c = dial(w, tls, 443);
	gconn_say(w, c, "SSH-2.0-x\r\n", 11);
	check_refused(w, c, "not-tls");
	c = dial(w, tls, 443);
	gconn_say(w, c, hello, world_hello(hello, "tls.example") - 1);
	CHECK(!c->ended);
	world_wait(w, GATE_FIRST_MS + 500);
	check_refused(w, c, "not-tls");
	c = dial(w, tls, 443);
	world_wait(w, GATE_FIRST_MS + 500);
	check_refused(w, c, "not-tls");
	flood[0] = 22; /* one record of 16 KiB in a handshake message of 64 */
	flood[1] = flood[2] = 3;
	put_be16(flood + 3, 16380);
	flood[5] = 1;
	flood[6] = 1;
	c = dial(w, tls, 443);
	gconn_say(w, c, flood, sizeof(flood));
	check_refused(w, c, "ambiguous");
	c = dial(w, tls, 443);
	c->shut = true; /* nothing at all, and closed */
	gconn_say(w, c, "", 0);
	CHECK(c->ended);
	gconn_free(c);
	CHECK_EQ(w->connects, 0);
	CHECK_EQ(world_stat(w, "flows_open"), 0);
	CHECK_EQ(world_stat(w, "tcp_rings"), 0);
	world_free(w);
}

TEST(a_raw_connection_that_begins_with_tls_is_looked_at)
{
	uint8_t hello[1024];
	struct world *w = named();
	struct gconn *c;
	char got[1024];
	size_t len;

	world_pin(w, "raw.example", raw);
	c = dial(w, raw, 22);
	len = world_hello(hello, "evil.example");
	gconn_say(w, c, hello, len - 1);
	CHECK_EQ(recv(w->upstreams[0].fd, got, sizeof(got), 0), -1);
	gconn_say(w, c, hello + len - 1, 1);
	CHECK_EQ(recv(w->upstreams[0].fd, got, sizeof(got), 0), 0); /* not a byte of it */
	check_refused(w, c, "sni-mismatch");
	c = dial(w, raw, 22);
	len = world_hello(hello, "raw.example");
	gconn_say(w, c, hello, len);
	CHECK_EQ(recv(w->upstreams[1].fd, got, sizeof(got), 0), (ssize_t)len);
	CHECK(!c->ended);
	gconn_free(c);
	c = dial(w, raw, 22); /* half of one is never sent on */
	gconn_say(w, c, hello, 9);
	world_wait(w, GATE_FIRST_MS + 500);
	check_refused(w, c, "ambiguous");
	c = dial(w, raw, 22); /* the server may speak first, and plain bytes go at once */
	CHECK_EQ(send(w->upstreams[3].fd, "hi", 2, 0), 2);
	world_run(w);
	CHECK_EQ(c->got_len, 2);
	gconn_say(w, c, "S", 1);
	CHECK_EQ(recv(w->upstreams[3].fd, got, sizeof(got), 0), 1);
	gconn_free(c);
	world_free(w);
}

TEST(plain_http_is_read)
{
	static const char ask[] = "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n";
	struct world *w = named();
	struct gconn *c;

	CHECK_EQ(world_ask(w, "1.1.1.1", "web.example", DNS_A), DNS_NOERROR);
	c = dial(w, "93.184.216.80", 80);
	gconn_say(w, c, ask, sizeof(ask) - 1);
	CHECK_EQ(w->connects, 0);
	CHECK(c->got_len > 20);
	CHECK(memcmp(c->got, "HTTP/1.1 4", 10) == 0); /* a refusal that says why */
	CHECK_EQ(world_said(w, EGRESS_EVENT_REFUSED, POLICY_HOST_MISMATCH), 1);
	gconn_free(c);
	c = dial(w, "93.184.216.80", 80);
	gconn_say(w, c, "\x16\x03\x01", 3);
	check_refused(w, c, "not-http");
	world_free(w);
}

TEST(what_came_before_an_answer_was_cut_off_arrives)
{
	static const char ask[] = "GET / HTTP/1.1\r\nHost: web.example\r\n\r\n";
	static const enum egress_fail cuts[] = { EGRESS_CLOSED, EGRESS_REVOKED_BY_POLICY };
	struct world *w = named();

	CHECK_EQ(world_ask(w, "1.1.1.1", "web.example", DNS_A), DNS_NOERROR);
	for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
		struct gconn *c = dial(w, "93.184.216.80", 80);

		gconn_say(w, c, ask, sizeof(ask) - 1);
		world_cut_answer(w, "some", cuts[i]);
		CHECK(c->got_len > 20);
		CHECK(memmem(c->got, c->got_len, "4\r\nsome\r\n4\r\nsome\r\n", 18));
		CHECK(c->ended && c->end == TCP_END_RESET); /* it is not to look whole */
		gconn_free(c);
	}
	CHECK_EQ(world_stat(w, "requests_open"), 0);
	world_free(w);
}

/* -- another policy ---------------------------------------------------------------------------- */

TEST(what_a_new_policy_forbids_ends_and_the_rest_loses_no_byte)
{
	uint8_t hello[1024];
	struct world *w = named();
	struct gconn *gone, *half, *stays, *first;
	char got[1024];

	world_pin(w, "raw.example", raw);
	world_pin(w, "tls.example", tls);
	gone = dial(w, raw, 22);
	stays = dial(w, tls, 443);
	gconn_say(w, stays, hello, world_hello(hello, "tls.example"));
	first = dial(w, tls, 443);
	w->hold = true;
	half = dial(w, raw, 22);
	world_rules(w, 2, "    - { host: tls.example, port: 443 }\n");
	CHECK(gone->ended && gone->end == TCP_END_RESET);
	CHECK(half->ended);
	CHECK(!stays->ended && !first->ended);
	CHECK_EQ(world_said(w, EGRESS_EVENT_ENDED, POLICY_REVOKED), 2);
	CHECK_EQ(w->upstreams[0].ended, EGRESS_RESET);
	CHECK_EQ(world_last(w)->r.generation, 2);
	w->hold = false;
	CHECK(recv(w->upstreams[1].fd, got, sizeof(got), 0) > 0);
	gconn_say(w, stays, "on", 2);
	CHECK_EQ(recv(w->upstreams[1].fd, got, sizeof(got), 0), 2);
	gconn_say(w, first, hello, world_hello(hello, "tls.example"));
	CHECK_EQ(w->connects, 3);
	CHECK_EQ(w->upstreams[2].asked.generation, 2);
	check_refused(w, dial(w, raw, 22), "not-resolved"); /* its pin went */
	/* equal rules: nothing ends */
	world_rules(w, 3, "    - { host: tls.example, port: 443 }\n");
	CHECK(!stays->ended && !first->ended);
	/* to be read from now on: what is passed through ends */
	world_rules(w, 4, "    - { host: tls.example, port: 443, inspect: true }\n");
	CHECK(stays->ended && first->ended);
	gconn_free(gone);
	gconn_free(half);
	gconn_free(stays);
	gconn_free(first);
	world_free(w);
}

TEST(the_vault_revokes_by_itself)
{
	struct world *w = named();
	struct gconn *c;

	world_pin(w, "raw.example", raw);
	c = dial(w, raw, 22);
	world_revoke(w, w->upstreams[0].stream, 2);
	CHECK(c->ended && c->end == TCP_END_RESET);
	CHECK_EQ(world_last(w)->r.reason, POLICY_REVOKED);
	CHECK_EQ(world_stat(w, "flows_open"), 0);
	gconn_free(c);
	world_free(w);
}

/* -- from outside ------------------------------------------------------------------------------ */

static int publish(struct world *w, uint16_t port)
{
	struct control_accepted a = { .guest_port = port, .family = 4, .port = 5000 };
	uint8_t room[64];
	struct buf out;
	int fds[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	buf_init(&out, room, sizeof(room));
	control_put_accepted(&out, CONTROL_ACCEPTED, &a);
	world_control(w, &out, fds[1]);
	(void)close(fds[1]);
	return fds[0];
}

TEST(published_connections_reach_the_guest)
{
	struct world *w = named();
	int fd = publish(w, 8080);
	char got[64];

	CHECK(w->accepted && w->accepted->open);
	CHECK_EQ(send(fd, "ping", 4, 0), 4);
	world_run(w);
	CHECK_EQ(w->accepted->got_len, 4);
	gconn_say(w, w->accepted, "\x16 pong", 6); /* nothing of it is read as TLS */
	CHECK_EQ(recv(fd, got, sizeof(got), 0), 6);
	(void)close(fd);
	world_run(w);
	CHECK(w->accepted->eof);
	gconn_free(w->accepted);
	w->accepted = NULL;
	fd = publish(w, 9); /* nobody listens */
	CHECK_EQ(recv(fd, got, sizeof(got), 0), 0);
	(void)close(fd);
	CHECK_EQ(world_stat(w, "published"), 2);
	CHECK_EQ(w->records_count, 0);
	world_free(w);
}

/* Whoever may connect to a published port shall not use up what the guest may open. */
TEST(published_connections_are_none_of_the_guests)
{
	static const char rules[] = "version: 1\nlimits: { connections: 2 }\nnetwork:\n  rules:\n"
				    "    - { host: raw.example, port: 22 }\n";
	struct world *w = named();
	struct gconn *from[4];
	struct gconn *c[3];
	int fd[4];

	world_policy(w, 2, rules);
	world_pin(w, "raw.example", raw);
	for (unsigned i = 0; i < 4; i++) {
		fd[i] = publish(w, 8080);
		CHECK(w->accepted && w->accepted->open);
		from[i] = w->accepted;
	}
	for (unsigned i = 0; i < 3; i++)
		c[i] = dial(w, raw, 22);
	CHECK(c[0]->open && c[1]->open && !c[1]->ended && c[2]->ended);
	CHECK_EQ(world_said(w, EGRESS_EVENT_REFUSED, POLICY_LIMIT_CONNECTIONS), 1);
	(void)close(fd[3]); /* what ends is no longer counted, nor twice */
	world_run(w);
	tcp_abort(w->tcp, c[0]->f, world_ms());
	world_run(w);
	gconn_free(c[2]);
	c[2] = dial(w, raw, 22);
	CHECK(c[2]->open && !c[2]->ended);
	for (unsigned i = 0; i < 3; i++)
		gconn_free(c[i]);
	for (unsigned i = 0; i < 4; i++)
		gconn_free(from[i]);
	w->accepted = NULL;
	for (unsigned i = 0; i < 3; i++)
		(void)close(fd[i]);
	world_free(w);
}

TEST_MAIN()
