/* Datagrams: refused at once, or through a socket that the vault connected. */
#include "gate/limits.h"
#include "world.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RULES                                                                                      \
	"    - { host: time.example, port: 123, protocol: udp }\n"                                 \
	"    - { host: tls.example, port: 443 }\n"

static const char ntp[] = "93.184.216.123", tls[] = "93.184.216.43";

static struct world *named(void)
{
	struct world *w = world_new(RULES);

	world_name(w, "time.example", ntp, 300);
	world_name(w, "tls.example", tls, 300);
	return w;
}

TEST(what_no_rule_lets_through_is_unreachable_at_once)
{
	static const struct {
		const char *addr;
		uint16_t port;
		const char *word;
	} cases[] = {
		{ ntp, 123, "not-resolved" },
		{ "93.184.216.9", 3478, "not-resolved" },
		{ "10.0.0.1", 161, "special-address" },
		{ "169.254.169.254", 80, "metadata-address" },
		{ "100.96.0.1", 123, "special-address" },
		{ "2606:4700::1", 443, "quic-refused" },
		{ tls, 443, "quic-refused" },
	};
	struct world *w = named();

	world_pin(w, "tls.example", tls);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned before = w->unreachables, said = w->records_count;

		for (unsigned k = 0; k < 3; k++) /* clients say it again */
			world_send(w, cases[i].addr, cases[i].port, (uint16_t)(6000 + k),
			           span_str("hello"));
		CHECK_EQ(w->unreachables, before + 3);
		CHECK_EQ(w->records_count, said + 1);
		CHECK_EQ(world_last(w)->r.layer, EGRESS_LAYER_UDP);
		CHECK_STR(policy_reason_word(world_last(w)->r.reason), cases[i].word);
	}
	CHECK_STR(world_last(w)->host, "tls.example");
	CHECK_EQ(w->connects, 0);
	CHECK_EQ(world_stat(w, "udp_refused"), 21);
	world_free(w);
}

TEST(a_rule_lets_datagrams_through_both_ways)
{
	struct world *w = named();
	char got[4096];

	world_pin(w, "time.example", ntp);
	w->hold = true;
	world_send(w, ntp, 123, 6000, span_str("first"));
	world_send(w, ntp, 123, 6000, span_str("second")); /* only the first waits */
	CHECK_EQ(w->upstreams_count, 0);
	world_connect_held(w, EGRESS_OK);
	w->hold = false;
	CHECK_EQ(w->upstreams[0].asked.protocol, EGRESS_UDP);
	CHECK_STR(w->upstreams[0].name, "time.example");
	CHECK_EQ(recv(w->upstreams[0].fd, got, sizeof(got), 0), 5);
	CHECK_EQ(recv(w->upstreams[0].fd, got, sizeof(got), 0), -1);
	world_send(w, ntp, 123, 6000, span_str("third"));
	CHECK_EQ(recv(w->upstreams[0].fd, got, sizeof(got), 0), 5);
	CHECK_EQ(send(w->upstreams[0].fd, "answer", 6, 0), 6);
	world_run(w);
	CHECK_EQ(w->datagrams, 2); /* and that of the name server */
	CHECK_MEM(span_of(w->last.at, w->last.len), span_str("answer"));
	CHECK_EQ(w->last.tuple.guest_port, 123);
	CHECK_EQ(w->last.tuple.remote_port, 6000);
	world_send(w, ntp, 123, 6001, span_str("x")); /* another port: another flow */
	CHECK_EQ(w->upstreams_count, 2);
	CHECK_EQ(world_stat(w, "udp_open"), 2);
	CHECK_EQ(w->unreachables, 0);
	CHECK_EQ(world_said(w, EGRESS_EVENT_ALLOWED, POLICY_OK), 3);
	world_wait(w, GATE_UDP_IDLE_MS + GATE_SWEEP_MS + 1000);
	CHECK_EQ(world_stat(w, "udp_open"), 0);
	CHECK_EQ(world_said(w, EGRESS_EVENT_ENDED, POLICY_OK), 2);
	CHECK_EQ(w->upstreams[0].ended, EGRESS_END);
	world_free(w);
}

TEST(a_policy_or_the_vault_ends_a_flow)
{
	struct world *w = named();

	world_pin(w, "time.example", ntp);
	world_send(w, ntp, 123, 6000, span_str("x"));
	world_send(w, ntp, 123, 6001, span_str("x"));
	CHECK_EQ(world_stat(w, "udp_open"), 2);
	world_revoke(w, w->upstreams[0].stream, 2);
	CHECK_EQ(world_said(w, EGRESS_EVENT_ENDED, POLICY_REVOKED), 1);
	world_rules(w, 2, "    - { host: tls.example, port: 443 }\n");
	CHECK_EQ(world_said(w, EGRESS_EVENT_ENDED, POLICY_REVOKED), 2);
	CHECK_EQ(world_stat(w, "udp_open"), 0);
	world_send(w, ntp, 123, 6000, span_str("x"));
	CHECK_EQ(w->unreachables, 1);
	world_free(w);
}

TEST(a_failed_flow_is_told_and_gone)
{
	struct world *w = named();

	world_pin(w, "time.example", ntp);
	w->connect_fail = EGRESS_UNREACHABLE;
	world_send(w, ntp, 123, 6000, span_str("x"));
	CHECK_EQ(world_said(w, EGRESS_EVENT_REFUSED, POLICY_UPSTREAM_REFUSED), 1);
	CHECK_EQ(world_stat(w, "udp_open"), 0);
	w->connect_fail = EGRESS_OK;
	world_send(w, ntp, 123, 6000, span_str("x"));
	CHECK_EQ(world_stat(w, "udp_open"), 1);
	world_free(w);
}

/* A pair of sockets of the network's kind: those take hundreds that nobody has read. */
static void udp_pair(int ret[2])
{
	struct sockaddr_in a[2];
	socklen_t len = sizeof(a[0]);

	for (int i = 0; i < 2; i++) {
		ret[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		a[i] = (struct sockaddr_in){ .sin_family = AF_INET };
		a[i].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		CHECK(ret[i] >= 0);
		CHECK_EQ(bind(ret[i], (struct sockaddr *)&a[i], sizeof(a[i])), 0);
		CHECK_EQ(getsockname(ret[i], (struct sockaddr *)&a[i], &len), 0);
	}
	for (int i = 0; i < 2; i++)
		CHECK_EQ(connect(ret[i], (struct sockaddr *)&a[1 - i], sizeof(a[0])), 0);
}

/* Only so many in a turn, so that a server which sends without end stops nobody else. */
TEST(a_server_that_floods_has_its_turn_like_others)
{
	enum { SENT = 4 * GATE_UDP_READS, FRAME = NET_PREFIX_BYTES + 14 + 20 + 8 + 1 };
	static char frames[SENT * FRAME];
	struct world *w = named();
	uint64_t before;
	int fds[2];

	udp_pair(fds);
	world_pin(w, "time.example", ntp);
	w->shared = fds[0];
	world_send(w, ntp, 123, 6000, span_str("x"));
	before = world_stat(w, "bytes_down");
	for (unsigned i = 0; i < SENT; i++)
		CHECK_EQ(send(fds[1], "y", 1, 0), 1);
	CHECK_EQ(gate_turn(w->gate, 1000, &w->fault), 0);
	CHECK_EQ(recv(w->card, frames, sizeof(frames), MSG_PEEK | MSG_DONTWAIT),
	         GATE_UDP_READS * FRAME);
	world_run(w);
	CHECK_EQ(world_stat(w, "bytes_down") - before, SENT);
	CHECK_EQ(w->datagrams, SENT + 1);
	(void)close(fds[0]);
	(void)close(fds[1]);
	world_free(w);
}

/* LIM-3: what comes down counts as well, also where the guest says no more. */
TEST(a_download_ends_when_the_bytes_are_used_up)
{
	static char data[1000];
	struct world *w = world_new(NULL);
	unsigned sent = 0;

	world_policy(w, 1, "version: 1\nlimits: { egress: 4KiB }\nnetwork:\n  rules:\n" RULES);
	world_name(w, "time.example", ntp, 300);
	world_pin(w, "time.example", ntp);
	world_send(w, ntp, 123, 6000, span_str("x"));
	while (sent < 20 && send(w->upstreams[0].fd, data, sizeof(data), MSG_NOSIGNAL) > 0) {
		sent++;
		world_run(w);
	}
	CHECK_EQ(world_said(w, EGRESS_EVENT_ENDED, POLICY_LIMIT_BYTES), 1);
	CHECK(w->datagrams <= 1 + 5);
	CHECK_EQ(world_stat(w, "udp_open"), 0);
	world_free(w);
}

TEST(a_flood_of_flows_is_bounded)
{
	struct world *w = named();

	world_pin(w, "time.example", ntp);
	w->hold = true;
	for (unsigned i = 0; i < GATE_UDP_MAX + 50; i++)
		world_send(w, ntp, 123, (uint16_t)(2000 + i), span_str("x"));
	CHECK_EQ(world_stat(w, "udp_open"), GATE_UDP_MAX);
	CHECK_EQ(w->unreachables, 50);
	CHECK_EQ(world_said(w, EGRESS_EVENT_REFUSED, POLICY_LIMIT_CONNECTIONS), 1);
	world_free(w);
}

TEST_MAIN()
