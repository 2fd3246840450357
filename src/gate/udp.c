#include "gate/gate_inner.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/*
 * Theory of operation
 *
 * A datagram belongs to a flow (guest's port, remote address and port). The first of one is judged;
 * if a rule lets UDP through, the vault is asked for a socket that is connected to that address and
 * can reach no other, and the first datagram waits in one of a few places meanwhile. The rest is
 * copying. All other datagrams are answered with "port unreachable" at once, QUIC's too, so that
 * its clients fall back to TCP without waiting.
 *
 * A flow ends by idle time, by a policy that no longer allows it, or with its socket. Nothing of
 * datagrams is ever kept for want of room: they may be lost, and their senders know it.
 */

int udp_init(struct gate *g, struct err *e)
{
	struct siphash_key key = g->recent.key;

	g->peers = calloc(GATE_UDP_MAX, sizeof(*g->peers));
	g->held = calloc(GATE_UDP_HELD, sizeof(*g->held));
	if (!g->peers || !g->held)
		return err_set(e, -ENOMEM, "out of memory for UDP flows");
	return udp_flows_new(GATE_UDP_MAX, &key, &g->udp, e);
}

void udp_fini(struct gate *g)
{
	for (uint32_t i = 0; i < g->peers_used; i++)
		if (g->peers[i].udp && g->peers[i].fd >= 0)
			(void)close(g->peers[i].fd);
	udp_flows_free(g->udp);
	free(g->peers);
	free(g->held);
}

static uint32_t peer_index(const struct gate *g, const struct peer *p)
{
	return (uint32_t)(p - g->peers) + 1;
}

static struct peer *peer_take(struct gate *g)
{
	struct peer *p;

	if (g->peers_free != 0) {
		p = &g->peers[g->peers_free - 1];
		g->peers_free = p->next;
	} else if (g->peers_used < GATE_UDP_MAX) {
		p = &g->peers[g->peers_used++];
	} else {
		return NULL;
	}
	*p = (struct peer){ .fd = -1,
		            .generation = g->generation,
		            .rule = POLICY_RULE_NONE,
		            .began_ms = g->now_ms };
	g->peers_count++;
	return p;
}

static void release_held(struct gate *g, struct peer *p)
{
	if (p->held != 0)
		g->held[p->held - 1].len = 0;
	p->held = 0;
}

static void peer_drop(struct gate *g, struct peer *p)
{
	release_held(g, p);
	uplink_end(g, &p->stream, p->fd < 0);
	gate_forget(g, &p->fd);
	for (unsigned i = 0; i < p->names_count; i++)
		names_let_go(g->names, p->names[i]);
	if (p->udp)
		udp_flows_drop(g->udp, p->udp);
	p->udp = NULL;
	p->names_count = 0;
	p->next = g->peers_free;
	g->peers_free = peer_index(g, p);
	g->peers_count--;
}

/* -- records ----------------------------------------------------------------------------------- */

static void record_peer(struct gate *g, const struct peer *p, enum egress_event event,
                        enum policy_reason why)
{
	struct egress_record r = {
		.event = (uint8_t)event,
		.layer = EGRESS_LAYER_UDP,
		.reason = (uint8_t)why,
		.flags = p->pin_only ? EGRESS_RECORD_PIN_ONLY : 0,
		.generation = p->generation,
		.rule = p->rule,
		.port = p->udp->tuple.remote_port,
		.flow = p->number,
		.bytes_up = p->udp->bytes_in,
		.bytes_down = p->udp->bytes_out,
	};

	if (p->names_count > 0)
		r.host = host_span(names_host(g->names, p->names[0]));
	if (event == EGRESS_EVENT_ENDED)
		r.ms = (uint32_t)(g->now_ms - p->began_ms);
	record_address(&r, &p->udp->tuple.remote);
	gate_record(g, &r);
}

/* One record for the same destination and reason within moments: clients send again and again. */
static void record_refused(struct gate *g, const struct net_tuple *t, enum policy_reason why,
                           uint16_t rule, uint16_t name)
{
	uint8_t what[4 + sizeof(t->remote)] = { EGRESS_LAYER_UDP, (uint8_t)why };
	struct egress_record r = {
		.event = EGRESS_EVENT_REFUSED,
		.layer = EGRESS_LAYER_UDP,
		.reason = (uint8_t)why,
		.rule = rule,
		.port = t->remote_port,
	};

	put_be16(what + 2, t->remote_port);
	memcpy(what + 4, &t->remote, sizeof(t->remote));
	g->stats.udp_refused++;
	if (!recent_is_new(&g->recent, span_of(what, sizeof(what)), g->now_ms))
		return;
	r.flow = gate_number(g);
	if (name != NAMES_NONE)
		r.host = host_span(names_host(g->names, name));
	record_address(&r, &t->remote);
	gate_record(g, &r);
}

static void peer_end(struct gate *g, struct peer *p, enum policy_reason why)
{
	record_peer(g, p, EGRESS_EVENT_ENDED, why);
	peer_drop(g, p);
}

/* -- from the guest ---------------------------------------------------------------------------- */

static void hold(struct gate *g, struct peer *p, struct span data)
{
	if (p->held != 0 || data.len == 0 || data.len > GATE_UDP_HELD_BYTES)
		return;
	for (uint32_t i = 0; i < GATE_UDP_HELD; i++) {
		if (g->held[i].len != 0)
			continue;
		g->held[i].len = (uint16_t)data.len;
		memcpy(g->held[i].at, data.at, data.len);
		p->held = i + 1;
		return;
	}
}

static void peer_send(struct gate *g, struct peer *p, struct span data)
{
	ssize_t n = send(p->fd, data.at, data.len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n >= 0) {
		udp_flows_used(g->udp, p->udp, true, data.len, g->now_ms);
		g->stats.bytes_up += data.len;
		(void)bucket_take(&g->up_bucket, data.len, g->now_ms);
	} else if (errno != EAGAIN && errno != EINTR && errno != EMSGSIZE) {
		peer_end(g, p, POLICY_UPSTREAM_REFUSED); /* what an ICMP error told the socket */
	}
}

static void udp_ask(struct gate *g, const struct net_tuple *t, const uint16_t *ids, unsigned count,
                    struct policy_ask *ret)
{
	*ret = (struct policy_ask){
		.addr = gate_policy_addr(&t->remote),
		.port = t->remote_port,
		.transport = POLICY_UDP,
		.seen = POLICY_SEEN_RAW,
	};
	gate_put_names(g, ret, ids, count);
}

/* POLICY_OK, or which limit one more would break. */
static enum policy_reason limit_broken(struct gate *g)
{
	uint64_t max = policy_limits(g->policy)->connections;

	if (!bucket_take(&g->connect_bucket, 1, g->now_ms))
		return POLICY_LIMIT_RATE;
	if ((max > 0 && gate_flows_guests(g) + g->peers_count >= max) ||
	    g->flows_count + g->peers_count >= g->fds_max || g->peers_count >= GATE_UDP_MAX)
		return POLICY_LIMIT_CONNECTIONS;
	return gate_bytes_over(g) ? POLICY_LIMIT_BYTES : POLICY_OK;
}

static void refuse(struct gate *g, const struct net_packet *p, enum policy_reason why,
                   uint16_t rule, uint16_t name)
{
	record_refused(g, &p->tuple, why, rule, name);
	net_link_refuse(&g->link, &p->ip, g->now_ms);
}

static void open_peer(struct gate *g, const struct net_packet *p, const struct policy_verdict *v,
                      const struct policy_ask *a, const uint16_t *ids)
{
	struct peer *peer = peer_take(g);
	struct udp_flow *flow = peer ? udp_flows_add(g->udp, &p->tuple, g->now_ms) : NULL;

	assert(flow); /* the limit was looked at, and both tables are of one size */
	flow->app = peer;
	peer->udp = flow;
	peer->rule = v->rule;
	peer->pin_only = v->pin_only;
	peer->names_count = (uint8_t)a->names_count;
	for (unsigned i = 0; i < a->names_count; i++) {
		peer->names[i] = ids[i];
		names_hold(g->names, ids[i]);
	}
	peer->stream = uplink_connect(g, a, v->rule, EGRESS_UDP, gate_pick_name(g, a, ids),
	                              peer_index(g, peer) | USER_PEER);
	peer->number = peer->stream;
	if (peer->stream == 0) {
		peer_drop(g, peer);
		refuse(g, p, POLICY_VAULT_DOWN, v->rule, NAMES_NONE);
		return;
	}
	hold(g, peer, p->udp.data);
}

static void first_datagram(struct gate *g, const struct net_packet *p)
{
	uint16_t ids[POLICY_CANDIDATES_MAX];
	unsigned count = names_pinned(g->names, &p->tuple.remote, g->now_ms, ids);
	uint16_t name = count > 0 ? ids[0] : NAMES_NONE;
	struct policy_verdict v;
	enum policy_reason why;
	struct policy_ask a;

	if (!g->policy) {
		refuse(g, p, POLICY_VAULT_DOWN, POLICY_RULE_NONE, name);
		return;
	}
	udp_ask(g, &p->tuple, ids, count, &a);
	v = policy_connect_verdict(g->policy, &a);
	if (v.act != POLICY_ALLOW) {
		refuse(g, p, (enum policy_reason)v.reason, v.rule, name);
		return;
	}
	why = limit_broken(g);
	if (why != POLICY_OK)
		refuse(g, p, why, v.rule, name);
	else
		open_peer(g, p, &v, &a, ids);
}

void udp_datagram(struct gate *g, const struct net_packet *p)
{
	struct udp_flow *flow = udp_flows_find(g->udp, &p->tuple);
	struct peer *peer = flow ? flow->app : NULL;

	if (!peer)
		first_datagram(g, p);
	else if (peer->fd < 0)
		hold(g, peer, p->udp.data);
	else if (gate_bytes_over(g))
		peer_end(g, peer, POLICY_LIMIT_BYTES);
	else if (bucket_level(&g->up_bucket, g->now_ms) >= p->udp.data.len)
		peer_send(g, peer, p->udp.data); /* else it is lost, as a link that is full loses */
}

/* -- from the vault ---------------------------------------------------------------------------- */

void udp_connected(struct gate *g, uint32_t index, uint8_t fail, int fd)
{
	struct peer *p = &g->peers[index - 1];
	const struct held *h;
	size_t len;

	if (fail != EGRESS_OK || fd < 0) {
		struct net_tuple t = p->udp->tuple;
		uint16_t rule = p->rule;
		uint16_t name = p->names_count > 0 ? p->names[0] : NAMES_NONE;

		p->fd = -1;
		record_refused(g, &t, uplink_reason(fail), rule, name);
		peer_drop(g, p);
		return;
	}
	p->fd = fd;
	if (!gate_watch(g, fd, SOURCE_UDP, index)) {
		peer_end(g, p, POLICY_LIMIT_CONNECTIONS);
		return;
	}
	g->stats.udp_allowed++;
	record_peer(g, p, EGRESS_EVENT_ALLOWED, POLICY_OK);
	if (p->held == 0)
		return;
	h = &g->held[p->held - 1];
	len = h->len;
	release_held(g, p); /* its bytes stay until another takes the place */
	peer_send(g, p, span_of(h->at, len));
}

void udp_cut(struct gate *g, uint32_t index, enum policy_reason why)
{
	g->stats.revoked += why == POLICY_REVOKED;
	peer_end(g, &g->peers[index - 1], why);
}

/* -- from outside ------------------------------------------------------------------------------ */

void udp_readable(struct gate *g, uint32_t index)
{
	struct peer *p = &g->peers[index - 1];

	for (unsigned i = 0; p->udp && p->fd >= 0; i++) {
		ssize_t n;

		if (i ==
		    GATE_UDP_READS) { /* others have their turn; what is there waits or is lost */
			gate_watch_again(g, p->fd, SOURCE_UDP, index);
			return;
		}
		n = recv(p->fd, g->scratch, GATE_SCRATCH_BYTES, MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			peer_end(g, p, POLICY_UPSTREAM_REFUSED);
			return;
		}
		if (gate_bytes_over(g)) {
			peer_end(g, p, POLICY_LIMIT_BYTES);
			return;
		}
		if (!bucket_take(&g->down_bucket, (uint64_t)n, g->now_ms))
			continue; /* faster than may be: lost */
		if (!net_link_send_udp(&g->link, &p->udp->tuple, span_of(g->scratch, (size_t)n)))
			continue;
		udp_flows_used(g->udp, p->udp, false, (size_t)n, g->now_ms);
		g->stats.bytes_down += (uint64_t)n;
	}
}

/* -- time and policy --------------------------------------------------------------------------- */

void udp_idle(struct gate *g)
{
	struct udp_flow *f;

	while ((f = udp_flows_idle(g->udp, GATE_UDP_IDLE_MS, g->now_ms)) != NULL)
		peer_end(g, f->app, POLICY_OK);
}

void udp_reload(struct gate *g, const struct policy *old)
{
	for (uint32_t i = 0; i < g->peers_used; i++) {
		struct peer *p = &g->peers[i];
		struct policy_verdict v;
		struct policy_ask a;

		if (!p->udp)
			continue;
		udp_ask(g, &p->udp->tuple, p->names, p->names_count, &a);
		v = policy_flow_keeps(old, g->policy, &a, false);
		if (v.act == POLICY_ALLOW)
			continue;
		p->rule = v.rule;
		p->generation = g->generation;
		g->stats.revoked++;
		peer_end(g, p, POLICY_REVOKED);
	}
}
