#include "gate/gate_inner.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* -- what is asked ----------------------------------------------------------------------------- */

static void put(struct control_stats *s, const char *name, uint64_t value)
{
	if (s->count < CONTROL_STATS_MAX)
		s->item[s->count++] =
			(struct control_stat){ .name = span_str(name), .value = value };
}

static uint64_t dropped(const struct net_link_stats *s)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < NET_DROP_COUNT; i++)
		sum += s->dropped[i];
	return sum;
}

static void put_stats(const struct gate *g, struct control_stats *s)
{
	const struct gate_stats *v = &g->stats;
	const struct tcp_stats *t = tcp_table_stats(g->tcp);
	const struct intercept_stats *i = intercepts_stats(g->intercepts);

	put(s, "generation", g->generation);
	put(s, "rests", v->rests);
	put(s, "flows_open", g->flows_count);
	put(s, "flows_allowed", v->flows_allowed);
	put(s, "flows_refused", v->flows_refused);
	put(s, "flows_ended", v->flows_ended);
	put(s, "flows_revoked", v->revoked);
	put(s, "published", v->published);
	put(s, "published_refused", v->published_refused);
	put(s, "bytes_up", v->bytes_up);
	put(s, "bytes_down", v->bytes_down);
	put(s, "dns_questions", v->dns_questions);
	put(s, "dns_local", v->dns_local);
	put(s, "dns_refused", v->dns_refused);
	put(s, "dns_lookups", v->dns_lookups);
	put(s, "dns_limited", v->dns_limited);
	put(s, "dns_failed", v->dns_failed);
	put(s, "names", names_count(g->names));
	put(s, "pins", names_pins(g->names));
	put(s, "udp_open", g->peers_count);
	put(s, "udp_allowed", v->udp_allowed);
	put(s, "udp_refused", v->udp_refused);
	put(s, "frames", g->link.stats.frames);
	put(s, "frames_dropped", dropped(&g->link.stats));
	put(s, "tcp_rings", t->blocks_used);
	put(s, "tcp_retransmits", t->retransmits);
	put(s, "tcp_timeouts", t->timeouts);
	put(s, "syn_refused_half_open", t->refused_half_open);
	put(s, "syn_refused_table", t->refused_table);
	put(s, "read_open", i->connections);
	put(s, "requests", i->requests);
	put(s, "requests_open", i->requests_open);
	put(s, "requests_refused", i->refused);
	put(s, "requests_bad", i->bad);
	put(s, "requests_failed", i->failed);
	put(s, "read_held_bytes", i->held_bytes);
	put(s, "handshakes", i->handshakes);
	put(s, "handshakes_failed", i->handshakes_failed);
	put(s, "leaves", i->leaves);
	put(s, "refused", v->refused);
	put(s, "records", v->records);
	put(s, "records_lost", v->records_lost);
}

/* Where records fill the socket, the answer waits for room: it is never lost, and nobody waits. */
static void answer_stats(struct gate *g)
{
	uint8_t room[CONTROL_PACKET_MAX];
	struct control_stats s = { .serial = g->stats_serial };
	struct buf out;
	int r;

	put_stats(g, &s);
	buf_init(&out, room, sizeof(room));
	control_put_stats(&out, &s);
	r = buf_ok(&out) ? control_send(g->config.control_fd, buf_span(&out), -1) : -EMSGSIZE;
	g->stats_due = r == -EAGAIN;
	if (r < 0 && r != -EAGAIN)
		gate_fail(g, r, "the supervisor takes no answer: %s", strerror(-r));
}

static void ask_stats(struct gate *g)
{
	answer_stats(g);
	if (g->stats_due)
		gate_watch_room(g, g->config.control_fd, SOURCE_CONTROL, true, &g->control_wakes);
}

void control_writable(struct gate *g)
{
	if (g->stats_due)
		answer_stats(g);
	gate_record_lost(g);
	gate_watch_room(g, g->config.control_fd, SOURCE_CONTROL,
	                g->stats_due || g->records_lost > 0, &g->control_wakes);
}

void control_begin(struct gate *g)
{
	uint8_t room[CONTROL_PACKET_MAX];
	struct control_ready ready = {
		.name_hash = ca_name_hash(g->config.ca),
		.pem = ca_pem(g->config.ca),
	};
	struct buf out;
	int r;

	buf_init(&out, room, sizeof(room));
	control_put_ready(&out, &ready);
	r = buf_ok(&out) ? control_send(g->config.control_fd, buf_span(&out), -1) : -EMSGSIZE;
	if (r < 0)
		gate_fail(g, r, "the supervisor is not there: %s", strerror(-r));
}

/* -- what comes -------------------------------------------------------------------------------- */

/* fd is the caller's still if this says false: a packet that may not be. */
static bool take(struct gate *g, const struct control_packet *p, int *fd)
{
	struct control_accepted a;
	uint32_t rests;

	if (control_carries_fd(p->kind) != (*fd >= 0))
		return false;
	if (p->kind == CONTROL_STATS) { /* one question at a time */
		if (g->stats_due || control_parse_u32(p->payload, &g->stats_serial) < 0)
			return false;
		ask_stats(g);
		return true;
	}
	if (p->kind == CONTROL_REST) {
		if (control_parse_u32(p->payload, &rests) < 0 || rests > 1)
			return false;
		gate_rest(g, rests == 1);
		return true;
	}
	if (p->kind != CONTROL_ACCEPTED || control_parse_accepted(p->payload, &a) < 0)
		return false; /* others are meant for the vault */
	publish_accepted(g, &a, steal_fd(fd));
	return true;
}

void control_readable(struct gate *g)
{
	uint8_t room[CONTROL_PACKET_MAX];
	struct control_packet p;
	struct span packet;
	_own_fd_ int fd = -1;
	int r = control_recv(g->config.control_fd, room, &packet, &fd);

	if (r == -EAGAIN)
		return;
	if (r == -EPIPE) /* the supervisor has ended, and so does all that belongs to it */
		g->ended = true;
	else if (r < 0 || control_parse_packet(packet, CONTROL_FROM_SUPERVISOR, &p) < 0)
		gate_fail(g, -EPROTO, "the supervisor broke the protocol");
	else if (!take(g, &p, &fd))
		gate_fail(g, -EPROTO, "the supervisor broke the protocol: %s",
		          control_kind_name(p.kind));
}
