#include "gate/gate_inner.h"

#include <errno.h>

/*
 * What is judged by, and what changes when it changes. A connection remembers how it was judged:
 * address, port, what was seen and the names of then, by number; the table of names keeps those
 * that a connection holds. So the same question can be put to the next policy.
 */

void gate_put_names(struct gate *g, struct policy_ask *ask, const uint16_t *ids, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		g->ask_names[i] = names_host(g->names, ids[i]);
	ask->names = g->ask_names;
	ask->names_count = count;
}

unsigned gate_pin_names(struct gate *g, struct policy_ask *ret, const struct net_addr *addr,
                        uint16_t ids[POLICY_CANDIDATES_MAX])
{
	unsigned count = names_pinned(g->names, addr, g->now_ms, ids);

	gate_put_names(g, ret, ids, count);
	return count;
}

uint16_t gate_pick_name(struct gate *g, const struct policy_ask *a, const uint16_t *ids)
{
	for (unsigned i = 0; i < a->names_count; i++) {
		struct policy_ask one = *a;

		one.names = &a->names[i];
		one.names_count = 1;
		if (policy_connect_verdict(g->policy, &one).act == POLICY_ALLOW)
			return ids[i];
	}
	return NAMES_NONE;
}

bool gate_bytes_over(const struct gate *g)
{
	const struct policy_limits *l;

	if (!g->policy)
		return false;
	l = policy_limits(g->policy);
	return (l->upload_bytes > 0 && g->stats.bytes_up >= l->upload_bytes) ||
	       (l->egress_bytes > 0 && g->stats.bytes_up + g->stats.bytes_down >= l->egress_bytes);
}

/* -- another policy ---------------------------------------------------------------------------- */

static void adopt_limits(struct gate *g)
{
	const struct policy_limits *l = policy_limits(g->policy);
	uint64_t connects = l->connection_rate > 0 ? l->connection_rate : GATE_RATE_DEFAULT;
	uint64_t questions = l->dns_rate > 0 ? l->dns_rate : GATE_DNS_RATE_DEFAULT;
	uint64_t burst = l->bandwidth_bytes / 10; /* of a tenth of a second */

	if (burst < NET_MTU)
		burst = NET_MTU;
	/* stated limits hold from the first second on; the stock ones let a start be a start */
	bucket_change(&g->connect_bucket, connects,
	              l->connection_rate > 0 ? connects : 4 * connects, g->now_ms);
	bucket_change(&g->dns_bucket, questions, l->dns_rate > 0 ? questions : 4 * questions,
	              g->now_ms);
	bucket_change(&g->up_bucket, l->bandwidth_bytes, burst, g->now_ms);
	bucket_change(&g->down_bucket, l->bandwidth_bytes, burst, g->now_ms);
}

/* Names that no rule covers any more lose their pins; connections that stay keep the name. */
static void drop_pins(struct gate *g)
{
	for (uint16_t id = names_next(g->names, NAMES_NONE); id != NAMES_NONE;
	     id = names_next(g->names, id))
		if (policy_name_verdict(g->policy, names_host(g->names, id)).act != POLICY_ALLOW)
			names_drop(g->names, id);
}

static void end_revoked(struct gate *g, struct flow *f, uint16_t rule)
{
	f->rule = rule;
	f->generation = g->generation;
	g->stats.revoked++;
	flow_ended(g, f, POLICY_REVOKED);
}

/* Its first bytes are still to come, or it waits for the vault: would it have come this far? */
static bool still_begins(struct gate *g, const struct flow *f, struct policy_verdict *ret)
{
	struct policy_ask a;

	flow_ask(g, f, &a);
	*ret = policy_connect_verdict(g->policy, &a);
	return ret->act == (f->kind == FLOW_ASKING ? POLICY_ALLOW : f->needs);
}

static void judge_again(struct gate *g, struct flow *f, const struct policy *old)
{
	struct policy_verdict v = { .rule = POLICY_RULE_NONE };
	struct policy_ask a;

	if (f->published || f->kind == FLOW_DNS || f->kind == FLOW_FREE)
		return;
	if (f->kind == FLOW_FIRST || f->kind == FLOW_ASKING) {
		if (!still_begins(g, f, &v))
			end_revoked(g, f, v.rule);
		return;
	}
	flow_ask(g, f, &a);
	/* of plain HTTP each request has its own name, and is judged again for itself */
	if (f->seen != POLICY_SEEN_HTTP) {
		v = policy_flow_keeps(old, g->policy, &a, f->inspected);
		if (v.act != POLICY_ALLOW) {
			end_revoked(g, f, v.rule);
			return;
		}
	}
	if (f->kind == FLOW_READ)
		reader_reload(g, f);
}

void gate_reload(struct gate *g, uint32_t generation, struct span tlv)
{
	struct policy *old = g->policy;
	struct policy *fresh;
	struct err e = { 0 };

	if (policy_load(tlv, &fresh, &e) < 0) { /* the vault judges by it: there is no going on */
		gate_fail(g, -EBADMSG, "the vault's policy: %s", e.text);
		return;
	}
	g->policy = fresh;
	g->generation = generation;
	adopt_limits(g);
	if (old) {
		drop_pins(g);
		for (uint32_t i = 0; i < g->flows_used; i++)
			judge_again(g, &g->flows[i], old);
		udp_reload(g, old);
	}
	policy_free(old);
}
