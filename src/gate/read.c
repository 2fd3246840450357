#include "gate/gate_inner.h"

#include "base/clock.h"

/*
 * Connections whose requests are read: what lies between the endpoint, the link to the vault and
 * intercept.h, which does the reading. Bytes are given from where the endpoint has them, output is
 * copied into the flow's ring; each side is left alone while the other has no room.
 */

/* -- what a reader asks of us ------------------------------------------------------------------ */

static const struct policy *op_policy(void *flow)
{
	struct flow *f = flow;

	return f->gate->policy;
}

static bool op_over(void *flow)
{
	struct flow *f = flow;

	return gate_bytes_over(f->gate);
}

static void op_ask(void *flow, struct policy_ask *ret)
{
	struct flow *f = flow;

	flow_ask(f->gate, f, ret);
}

static uint32_t op_number(void *flow)
{
	struct flow *f = flow;

	return gate_number(f->gate);
}

static void op_record(void *flow, const struct egress_record *r)
{
	struct flow *f = flow;

	gate_record(f->gate, r);
}

static struct buf *op_frame(void *flow, size_t bytes)
{
	struct flow *f = flow;

	return uplink_frame(f->gate, bytes);
}

static int op_send(void *flow)
{
	struct flow *f = flow;

	return uplink_send(f->gate, flow_index(f->gate, f));
}

static uint32_t op_room(void *flow, uint32_t stream)
{
	struct flow *f = flow;
	struct egress_stream *s = egress_order_find(&f->gate->order, stream);

	return s ? egress_order_room(s, EGRESS_FROM_GATE) : 0;
}

int readers_init(struct gate *g, struct err *e)
{
	static const struct intercept_ops ops = {
		.policy = op_policy,
		.over = op_over,
		.ask = op_ask,
		.number = op_number,
		.record = op_record,
		.frame = op_frame,
		.send = op_send,
		.room = op_room,
	};

	return intercepts_new(g->config.ca, &ops, &g->intercepts, e);
}

/* -- bytes ------------------------------------------------------------------------------------- */

/*
 * So much went. What the policy grants in all may be used up by it: then requests end, those that
 * wait for an answer with one that says so, which is why the connection itself goes on.
 */
static void count(struct gate *g, struct flow *f, bool up, size_t n)
{
	if (pass_moved(g, f, up, n) || f->over_told)
		return;
	f->over_told = true;
	intercept_over(f->reader, g->now_ms);
}

/* Gives the reader what the guest sent, as long as it has use for it. */
static void give(struct gate *g, struct flow *f)
{
	struct iovec iov[TCP_READ_IOVS];

	while ((intercept_state(f->reader) & INTERCEPT_READ) && tcp_readable(f->tcp, iov) > 0) {
		size_t max = pass_granted(g, f, true, iov[0].iov_len);
		struct span in = span_of(iov[0].iov_base, max);
		size_t took;

		if (max == 0)
			break;
		intercept_recv(f->reader, g->now_ms, &in);
		took = max - in.len;
		if (took == 0)
			break;
		tcp_consume(g->tcp, f->tcp, took, g->now_ms);
		count(g, f, true, took);
	}
	if (!f->eof_told && tcp_at_eof(f->tcp)) {
		f->eof_told = true;
		intercept_recv_eof(f->reader, g->now_ms);
	}
}

/* Takes what the reader has for the guest, as long as there is room. True: it has no more. */
static bool fetch(struct gate *g, struct flow *f)
{
	for (;;) {
		struct span out = intercept_output(f->reader, g->now_ms);
		size_t max = out.len > 0 ? pass_granted(g, f, false, out.len) : 0;
		size_t took;

		if (max == 0)
			return out.len == 0;
		took = tcp_write(g->tcp, f->tcp, span_of(out.at, max), g->now_ms);
		if (took == 0)
			return false;
		intercept_sent(f->reader, g->now_ms, took);
		count(g, f, false, took);
	}
}

static void note_waiting(struct gate *g, struct flow *f, bool waits)
{
	g->link_waiters += waits;
	g->link_waiters -= f->waits_link;
	f->waits_link = waits;
}

/* All is said: what remains is the endpoint's to bring to an end. */
static void close_calmly(struct gate *g, struct flow *f)
{
	note_waiting(g, f, false);
	intercept_free(f->reader, g->now_ms);
	f->reader = NULL;
	if (!f->down_done)
		tcp_shutdown(g->tcp, f->tcp, g->now_ms);
	f->down_done = true;
	flow_become(g, f, FLOW_CLOSING);
	flow_enlist(g, f, LIST_CLOSING, g->now_ms + GATE_CLOSING_MS);
	tcp_consume(g->tcp, f->tcp, tcp_readable_bytes(f->tcp), g->now_ms);
}

/* What the reader came to. */
static void settle(struct gate *g, struct flow *f, bool empty)
{
	unsigned state = intercept_state(f->reader);

	if (state & INTERCEPT_ABORT) {
		flow_ended(g, f, intercept_why(f->reader));
		return;
	}
	note_waiting(g, f, (state & INTERCEPT_LINK) != 0);
	if ((state & INTERCEPT_FIN) && empty && !f->down_done) {
		f->down_done = true;
		tcp_shutdown(g->tcp, f->tcp, g->now_ms);
	}
	if (state & INTERCEPT_DONE)
		close_calmly(g, f);
}

void reader_run(struct gate *g, struct flow *f)
{
	(void)fetch(g, f);
	give(g, f);
	settle(g, f, fetch(g, f));
}

void reader_start(struct gate *g, struct flow *f, bool tls)
{
	struct intercept_start start = {
		.flow = f,
		.tls = tls,
		.name = tls && f->name != NAMES_NONE ? names_host(g->names, f->name) : NULL,
		.now_ms = g->now_ms,
		.real_s = clock_real_ns() / 1000000000,
	};
	struct err e = { 0 };

	if (intercept_new(g->intercepts, &start, &f->reader, &e) < 0) {
		f->reader = NULL;
		flow_refuse_why(g, f, EGRESS_LAYER_TLS, POLICY_LIMIT_CONNECTIONS);
		return;
	}
	flow_delist(g, f);
	flow_become(g, f, FLOW_READ);
	f->inspected = true;
	if (tls) { /* of plain HTTP each request says its own host, and is its own record */
		f->number = gate_number(g);
		g->stats.flows_allowed++;
		record_flow(g, f, EGRESS_EVENT_ALLOWED, EGRESS_LAYER_TLS, POLICY_OK);
	}
	reader_run(g, f);
}

void reader_frame(struct gate *g, struct flow *f, const struct egress_frame *frame)
{
	bool cuts = frame->type == EGRESS_RESET || frame->type == EGRESS_REVOKED;

	/*
	 * What the frames of a turn come to is fetched once, after the last of them, so that one
	 * segment holds many records. What cuts an answer off drops all that was not fetched, and
	 * what came before it may have come in the same turn.
	 */
	if (f->kind == FLOW_READ && f->queued && cuts)
		reader_run(g, f);
	if (f->kind != FLOW_READ)
		return;
	intercept_frame(f->reader, g->now_ms, frame);
	flow_queue(g, f);
}

void reader_second(struct gate *g, struct flow *f)
{
	intercept_run(f->reader, g->now_ms);
	reader_run(g, f);
}

void readers_room(struct gate *g)
{
	if (egress_link_room(g->vault) < EGRESS_OUT_BYTES / 2)
		return;
	for (uint32_t i = 0; i < g->flows_used; i++)
		if (g->flows[i].kind == FLOW_READ && g->flows[i].waits_link)
			reader_second(g, &g->flows[i]);
	uplink_flush(g);
}

void reader_reload(struct gate *g, struct flow *f)
{
	f->over_told = gate_bytes_over(g);
	intercept_reload(f->reader, g->now_ms);
	reader_run(g, f);
}
