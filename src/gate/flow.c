#include "gate/gate_inner.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/*
 * Theory of operation: the way of a connection
 *
 *   SYN -> to port 53, any address ............................ FLOW_DNS: answered here
 *       -> limits, then policy_connect_verdict() by the names pinned to its address
 *            deny ............................................. RST
 *            allow: the vault connects ......................... FLOW_ASKING, SYN unanswered
 *                 it could -> SYN-ACK .......................... FLOW_PASS
 *                 it could not ................................. RST, as from the host itself
 *            needs a name: SYN-ACK ............................. FLOW_FIRST: first.c
 *                 the first bytes name an allowed host, and
 *                   need not be read: the vault connects ....... FLOW_ASKING_MID -> FLOW_PASS
 *                   need to be read ............................ FLOW_READ: read.c
 *                 they do not ................................. RST
 *
 * So a connection that is judged by its address behaves to the guest as the host would: refused
 * where that refuses, silent as long as that is. One that is judged by its name has to be accepted
 * first. Every refusal is a reset and one record. What the guest sent before a verdict lies in the
 * endpoint's ring, which pushes back by itself; a flow has no buffer.
 *
 * The socket of a passed flow comes from the vault, connected. The gate can neither make nor
 * connect one. The vault holds a duplicate until it hears END or RESET for the stream, and can so
 * end what a new policy forbids even if the gate would not.
 */

int flows_init(struct gate *g, struct err *e)
{
	g->flows_max = GATE_FLOWS_MAX;
	g->flows = calloc(g->flows_max, sizeof(*g->flows));
	if (!g->flows)
		return err_set(e, -ENOMEM, "out of memory for %u connections", g->flows_max);
	return 0;
}

void flows_fini(struct gate *g)
{
	for (uint32_t i = 0; i < g->flows_used; i++) {
		if (g->flows[i].kind == FLOW_FREE)
			continue;
		if (g->flows[i].reader)
			intercept_free(g->flows[i].reader, g->now_ms);
		if (g->flows[i].fd >= 0)
			(void)close(g->flows[i].fd);
	}
	free(g->flows);
}

/* -- lists ------------------------------------------------------------------------------------- */

void flow_delist(struct gate *g, struct flow *f)
{
	struct flow_ends *l;

	if (f->list == LIST_NONE)
		return;
	l = &g->lists[f->list];
	*(f->older != 0 ? &g->flows[f->older - 1].newer : &l->oldest) = f->newer;
	*(f->newer != 0 ? &g->flows[f->newer - 1].older : &l->newest) = f->older;
	f->list = LIST_NONE;
}

void flow_enlist(struct gate *g, struct flow *f, enum flow_list list, uint64_t due_ms)
{
	struct flow_ends *l = &g->lists[list];
	uint32_t i = flow_index(g, f);

	flow_delist(g, f);
	/* each list has one span of time for all, so it stays in order by itself */
	f->list = (uint8_t)list;
	f->due_ms = due_ms;
	f->older = l->newest;
	f->newer = 0;
	*(l->newest != 0 ? &g->flows[l->newest - 1].newer : &l->oldest) = i;
	l->newest = i;
}

void flow_queue(struct gate *g, struct flow *f)
{
	uint32_t i = flow_index(g, f);

	if (f->queued)
		return;
	f->queued = true;
	f->queue_next = 0;
	*(g->queue.last != 0 ? &g->flows[g->queue.last - 1].queue_next : &g->queue.first) = i;
	g->queue.last = i;
	g->queue.count++;
}

struct flow *flow_dequeue(struct gate *g)
{
	struct flow *f;

	if (g->queue.count == 0)
		return NULL;
	f = &g->flows[g->queue.first - 1];
	g->queue.first = f->queue_next;
	if (g->queue.first == 0)
		g->queue.last = 0;
	g->queue.count--;
	f->queued = false;
	return f;
}

static void unqueue(struct gate *g, struct flow *f)
{
	uint32_t i = flow_index(g, f);
	uint32_t before = 0;

	if (!f->queued)
		return;
	for (uint32_t at = g->queue.first; at != i; at = g->flows[at - 1].queue_next)
		before = at;
	*(before != 0 ? &g->flows[before - 1].queue_next : &g->queue.first) = f->queue_next;
	if (g->queue.last == i)
		g->queue.last = before;
	g->queue.count--;
	f->queued = false;
}

/* -- a flow's life ----------------------------------------------------------------------------- */

struct flow *flow_take(struct gate *g, struct tcp_flow *tcp)
{
	struct flow *f;

	if (g->flows_free != 0) {
		f = &g->flows[g->flows_free - 1];
		g->flows_free = f->newer;
	} else if (g->flows_used < g->flows_max) {
		f = &g->flows[g->flows_used++];
	} else {
		return NULL;
	}
	*f = (struct flow){
		.gate = g,
		.tcp = tcp,
		.fd = -1,
		.list = LIST_NONE,
		.generation = g->generation,
		.rule = POLICY_RULE_NONE,
		.began_ms = g->now_ms,
		.moved_ms = g->now_ms,
	};
	if (tcp)
		tcp_flow_set_app(tcp, f);
	g->flows_count++;
	return f;
}

void flow_become(struct gate *g, struct flow *f, enum flow_kind kind)
{
	g->flows_first -= f->kind == FLOW_FIRST;
	g->flows_dns -= f->kind == FLOW_DNS;
	f->kind = (uint8_t)kind;
	g->flows_first += kind == FLOW_FIRST;
	g->flows_dns += kind == FLOW_DNS;
}

/* What was accepted outside ends as the guest ended it: nobody else holds that socket. */
static void break_off(const struct flow *f)
{
	const struct linger l = { .l_onoff = 1, .l_linger = 0 };

	if (f->published && f->fd >= 0 && !(f->up_done && f->down_done))
		(void)setsockopt(f->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
}

void flow_free(struct gate *g, struct flow *f)
{
	if (f->kind == FLOW_DNS)
		dns_flow_gone(g, f);
	break_off(f);
	flow_delist(g, f);
	unqueue(g, f);
	if (f->reader)
		intercept_free(f->reader, g->now_ms);
	g->link_waiters -= f->waits_link;
	uplink_end(g, &f->stream, !f->up_done || !f->down_done);
	gate_forget(g, &f->fd);
	for (unsigned i = 0; i < f->names_count; i++)
		names_let_go(g->names, f->names[i]);
	if (f->name != NAMES_NONE)
		names_let_go(g->names, f->name);
	flow_become(g, f, FLOW_FREE);
	g->flows_published -= f->published;
	f->reader = NULL;
	f->tcp = NULL;
	f->newer = g->flows_free;
	g->flows_free = flow_index(g, f);
	g->flows_count--;
}

void flow_abort(struct gate *g, struct flow *f)
{
	struct tcp_flow *tcp = f->tcp;

	flow_free(g, f);
	tcp_abort(g->tcp, tcp, g->now_ms);
}

void flow_refuse(struct gate *g, struct flow *f, enum egress_layer layer,
                 const struct policy_verdict *v)
{
	if (f->number == 0)
		f->number = gate_number(g);
	f->rule = v->rule;
	g->stats.flows_refused++;
	record_flow(g, f, EGRESS_EVENT_REFUSED, layer, (enum policy_reason)v->reason);
	flow_abort(g, f);
}

void flow_refuse_why(struct gate *g, struct flow *f, enum egress_layer layer,
                     enum policy_reason why)
{
	struct policy_verdict v = { .act = POLICY_DENY, .reason = (uint8_t)why, .rule = f->rule };

	flow_refuse(g, f, layer, &v);
}

static enum egress_layer layer_of(const struct flow *f)
{
	return f->seen == POLICY_SEEN_TLS    ? EGRESS_LAYER_TLS
	       : f->seen == POLICY_SEEN_HTTP ? EGRESS_LAYER_HTTP
	                                     : EGRESS_LAYER_TCP;
}

void flow_ended(struct gate *g, struct flow *f, enum policy_reason why)
{
	if (!f->published && f->kind != FLOW_DNS && f->number != 0) {
		g->stats.flows_ended++;
		record_flow(g, f, EGRESS_EVENT_ENDED, layer_of(f), why);
	}
	flow_abort(g, f);
}

void flow_ask(struct gate *g, const struct flow *f, struct policy_ask *ret)
{
	const struct net_tuple *t = tcp_flow_tuple(f->tcp);

	*ret = (struct policy_ask){
		.addr = gate_policy_addr(&t->remote),
		.port = t->remote_port,
		.transport = POLICY_TCP,
		.seen = f->seen,
		.name = f->name != NAMES_NONE ? names_host(g->names, f->name) : NULL,
	};
	gate_put_names(g, ret, f->names, f->names_count);
}

void flow_hold_names(struct gate *g, struct flow *f, const uint16_t *ids, unsigned count)
{
	for (unsigned i = 0; i < f->names_count; i++)
		names_let_go(g->names, f->names[i]);
	for (unsigned i = 0; i < count; i++) {
		f->names[i] = ids[i];
		names_hold(g->names, ids[i]);
	}
	f->names_count = (uint8_t)count;
}

void flow_set_name(struct gate *g, struct flow *f, uint16_t name)
{
	if (f->name != NAMES_NONE)
		names_let_go(g->names, f->name);
	f->name = name;
	if (name != NAMES_NONE)
		names_hold(g->names, name);
}

/* -- SYN --------------------------------------------------------------------------------------- */

bool flow_host_full(const struct gate *g, uint16_t name, const struct net_addr *addr)
{
	uint64_t max = policy_limits(g->policy)->host_connections;
	uint64_t count = 0;

	if (max == 0)
		return false;
	for (uint32_t i = 0; i < g->flows_used; i++) {
		const struct flow *f = &g->flows[i];

		if (f->kind == FLOW_FREE || f->kind == FLOW_DNS || f->published)
			continue;
		if (name != NAMES_NONE ? f->host == name
		                       : net_addr_equal(tcp_flow_tuple(f->tcp)->remote, *addr))
			count++;
	}
	return count >= max;
}

/*
 * POLICY_OK, or the limit that a new connection would break. It is counted in already. One whose
 * name is read first may turn out to be one whose requests are: they are told of bytes used up.
 */
static enum policy_reason limit_broken(struct gate *g, bool raw)
{
	uint64_t open = gate_flows_guests(g);
	uint64_t max = policy_limits(g->policy)->connections;

	if (!bucket_take(&g->connect_bucket, 1, g->now_ms))
		return POLICY_LIMIT_RATE;
	if ((max > 0 && open + g->peers_count > max) ||
	    g->flows_count + g->peers_count > g->fds_max)
		return POLICY_LIMIT_CONNECTIONS;
	if (tcp_table_stats(g->tcp)->blocks_used > GATE_RINGS - GATE_RINGS_SPARE)
		return POLICY_LIMIT_CONNECTIONS;
	if (raw && gate_bytes_over(g))
		return POLICY_LIMIT_BYTES;
	return POLICY_OK;
}

/* Judged by its address alone: the vault connects before the guest's SYN is answered. */
static void begin_raw(struct gate *g, struct flow *f, const struct policy_verdict *v)
{
	struct policy_ask a;
	uint16_t name;

	flow_ask(g, f, &a);
	name = gate_pick_name(g, &a, f->names);
	if (flow_host_full(g, name, &tcp_flow_tuple(f->tcp)->remote)) {
		flow_refuse_why(g, f, EGRESS_LAYER_TCP, POLICY_LIMIT_CONNECTIONS);
		return;
	}
	f->host = name;
	f->pin_only = v->pin_only;
	f->rule = v->rule;
	f->peek = true;
	f->stream = uplink_connect(g, &a, v->rule, EGRESS_TCP, name, flow_index(g, f));
	f->number = f->stream;
	if (f->stream == 0) {
		flow_refuse_why(g, f, EGRESS_LAYER_TCP, POLICY_VAULT_DOWN);
		return;
	}
	flow_become(g, f, FLOW_ASKING);
	flow_enlist(g, f, LIST_ASKING, g->now_ms + GATE_ASKING_MS);
}

/* Judged by what it begins with: accepted, to see it. */
static void begin_named(struct gate *g, struct flow *f, const struct policy_verdict *v)
{
	if (g->flows_first >= GATE_FIRST_MAX) {
		flow_refuse_why(g, f, EGRESS_LAYER_TCP, POLICY_LIMIT_CONNECTIONS);
		return;
	}
	f->needs = v->act;
	f->rule = v->rule;
	flow_become(g, f, FLOW_FIRST);
	flow_enlist(g, f, LIST_FIRST, g->now_ms + GATE_FIRST_MS);
	tcp_accept(g->tcp, f->tcp, g->now_ms);
}

static void judge_syn(struct gate *g, struct flow *f)
{
	const struct net_addr *addr = &tcp_flow_tuple(f->tcp)->remote;
	uint16_t ids[POLICY_CANDIDATES_MAX];
	enum policy_reason why;
	struct policy_verdict v;
	struct policy_ask a;

	flow_ask(g, f, &a);
	flow_hold_names(g, f, ids, gate_pin_names(g, &a, addr, ids));
	v = policy_connect_verdict(g->policy, &a);
	if (v.act == POLICY_DENY) {
		flow_refuse(g, f, EGRESS_LAYER_TCP, &v);
		return;
	}
	why = limit_broken(g, v.act == POLICY_ALLOW);
	if (why != POLICY_OK)
		flow_refuse_why(g, f, EGRESS_LAYER_TCP, why);
	else if (v.act == POLICY_ALLOW)
		begin_raw(g, f, &v);
	else
		begin_named(g, f, &v);
}

/* A table that is full has no flow to tell it with. */
static void refuse_without(struct gate *g, struct tcp_flow *tcp)
{
	const struct net_tuple *t = tcp_flow_tuple(tcp);
	struct egress_record r = {
		.event = EGRESS_EVENT_REFUSED,
		.layer = EGRESS_LAYER_TCP,
		.reason = POLICY_LIMIT_CONNECTIONS,
		.rule = POLICY_RULE_NONE,
		.port = t->remote_port,
		.flow = gate_number(g),
	};

	record_address(&r, &t->remote);
	g->stats.flows_refused++;
	gate_record(g, &r);
	tcp_abort(g->tcp, tcp, g->now_ms);
}

static void on_syn(struct gate *g, struct tcp_flow *tcp)
{
	bool dns = tcp_flow_tuple(tcp)->remote_port == 53;
	struct flow *f;

	if (dns && g->flows_dns >= GATE_DNS_FLOWS_MAX) {
		g->stats.dns_limited++;
		refuse_without(g, tcp);
		return;
	}
	f = flow_take(g, tcp);
	if (!f) {
		refuse_without(g, tcp);
	} else if (dns) {
		flow_become(g, f, FLOW_DNS);
		flow_enlist(g, f, LIST_DNS, g->now_ms + GATE_DNS_IDLE_MS);
		tcp_accept(g->tcp, tcp, g->now_ms);
	} else if (!g->policy) {
		flow_refuse_why(g, f, EGRESS_LAYER_TCP, POLICY_VAULT_DOWN);
	} else {
		judge_syn(g, f);
	}
}

/* -- the vault's answer ------------------------------------------------------------------------ */

static void begin_pass(struct gate *g, struct flow *f)
{
	flow_delist(g, f);
	g->stats.flows_allowed++;
	record_flow(g, f, EGRESS_EVENT_ALLOWED, layer_of(f), POLICY_OK);
	f->moved_ms = g->now_ms;
	if (f->kind == FLOW_ASKING) {
		flow_become(g, f, FLOW_PASS);
		tcp_accept(g->tcp, f->tcp, g->now_ms);
		return;
	}
	flow_become(g, f, FLOW_PASS);
	pass_run(g, f);
}

void flow_connected(struct gate *g, struct flow *f, uint8_t fail, int fd)
{
	assert(f->kind == FLOW_ASKING || f->kind == FLOW_ASKING_MID);
	if (fail != EGRESS_OK || fd < 0) {
		f->up_done = f->down_done = true; /* nothing is given up: there is nothing */
		flow_refuse_why(g, f, layer_of(f), uplink_reason(fail));
		return;
	}
	f->fd = fd;
	if (!gate_watch(g, fd, SOURCE_FLOW, flow_index(g, f))) {
		flow_refuse_why(g, f, layer_of(f), POLICY_LIMIT_CONNECTIONS);
		return;
	}
	begin_pass(g, f);
}

void flow_cut(struct gate *g, struct flow *f, enum policy_reason why)
{
	g->stats.revoked += why == POLICY_REVOKED;
	flow_ended(g, f, why);
}

/* -- events of the endpoint -------------------------------------------------------------------- */

static void gone(struct gate *g, struct flow *f)
{
	struct tcp_flow *tcp = f->tcp;

	f->up_done = f->down_done = tcp_flow_end(tcp) == TCP_END_CLOSED;
	flow_ended(g, f, POLICY_OK);
}

static void opened(struct gate *g, struct flow *f)
{
	f->open = true;
	if (f->kind == FLOW_CALLING)
		flow_become(g, f, FLOW_PASS);
}

void flow_event(void *gate, struct tcp_flow *tcp, unsigned events, uint64_t now_ms)
{
	struct gate *g = gate;
	struct flow *f = tcp_flow_app(tcp);

	(void)now_ms;
	if (events & TCP_EV_SYN) {
		on_syn(g, tcp);
		return;
	}
	if (!f)
		return;
	if (events & TCP_EV_OPEN)
		opened(g, f);
	if (events & TCP_EV_ENDED) {
		gone(g, f);
		return;
	}
	switch ((enum flow_kind)f->kind) {
	case FLOW_FIRST:
		first_read(g, f);
		break;
	case FLOW_PASS:
		pass_run(g, f);
		break;
	case FLOW_READ:
		reader_run(g, f);
		break;
	case FLOW_DNS:
		dns_stream(g, f);
		break;
	case FLOW_CLOSING:
		tcp_consume(g->tcp, tcp, tcp_readable_bytes(tcp), g->now_ms);
		break;
	case FLOW_FREE:
	case FLOW_ASKING:
	case FLOW_ASKING_MID: /* what comes stays in the ring */
	case FLOW_CALLING:
		break;
	}
}

/* -- time -------------------------------------------------------------------------------------- */

static void too_late(struct gate *g, struct flow *f)
{
	switch ((enum flow_list)f->list) {
	case LIST_FIRST:
		if (f->kind == FLOW_FIRST)
			first_late(g, f);
		else /* the beginning of a ClientHello on a raw connection */
			flow_refuse_why(g, f, EGRESS_LAYER_TLS, POLICY_AMBIGUOUS);
		break;
	case LIST_ASKING:
		flow_refuse_why(g, f, layer_of(f), POLICY_UPSTREAM_TIMEOUT);
		break;
	case LIST_CLOSING:
		flow_ended(g, f, POLICY_OK);
		break;
	case LIST_DNS:
		flow_abort(g, f);
		break;
	case LIST_NONE:
		break;
	}
}

void flows_due(struct gate *g)
{
	for (unsigned i = 0; i < FLOW_LISTS; i++)
		while (g->lists[i].oldest != 0) {
			struct flow *f = &g->flows[g->lists[i].oldest - 1];

			if (f->due_ms > g->now_ms)
				break;
			too_late(g, f);
		}
}

/* Nobody moves, or the guest takes nothing of what waits for it. */
static bool is_stale(struct gate *g, const struct flow *f)
{
	struct tcp_flow_info i;

	tcp_flow_info(f->tcp, &i);
	if (i.unsent > 0 && g->now_ms - i.acked_ms > GATE_STALL_MS &&
	    g->now_ms - f->moved_ms > GATE_STALL_MS)
		return true;
	if (i.unread > 0 && g->now_ms - f->moved_ms > GATE_STALL_MS)
		return true;
	return g->now_ms - f->moved_ms > GATE_IDLE_MS;
}

void flows_sweep(struct gate *g)
{
	for (uint32_t i = 0; i < g->flows_used; i++)
		if (g->flows[i].kind == FLOW_PASS && is_stale(g, &g->flows[i]))
			flow_ended(g, &g->flows[i], POLICY_LIMIT_CONNECTIONS);
}

void flows_second(struct gate *g)
{
	for (uint32_t i = 0; i < g->flows_used; i++)
		if (g->flows[i].kind == FLOW_READ)
			reader_second(g, &g->flows[i]);
}
