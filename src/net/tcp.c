#include "net/tcp_internal.h"

#include <assert.h>
#include <errno.h>

/* -- what the application does ----------------------------------------------------------------- */

/* Our own numbers begin. */
static void start(struct tcp_table *t, struct tcp_flow *f, enum tcp_state state, uint64_t now_ms)
{
	f->iss = tcp_iss(t, &f->tuple, now_ms);
	f->snd_una = f->iss;
	f->snd_nxt = f->iss;
	f->snd_max = f->iss;
	f->snd_end = f->iss + 1;
	f->life_ms = TCP_NEVER;
	tcp_set_state(t, f, state);
	tcp_output(t, f, now_ms);
}

void tcp_accept(struct tcp_table *t, struct tcp_flow *f, uint64_t now_ms)
{
	assert(f->state == ST_ASKED && !f->dead);
	t->stats.accepted++;
	start(t, f, ST_SYN_RCVD, now_ms);
}

int tcp_connect(struct tcp_table *t, const struct net_tuple *tuple, void *app, uint64_t now_ms,
                struct tcp_flow **ret)
{
	struct tcp_flow *f = tcp_find(t, tuple);

	if (f && f->state != ST_TIME_WAIT)
		return -EEXIST;
	if (f) {
		tcp_unhash(t, f);
		tcp_release(t, f);
	}
	if (t->stats.half_open >= t->config.half_open_max)
		return -ENOSPC;
	f = tcp_take(t, tuple, now_ms);
	if (!f)
		return -ENOSPC;
	f->app = app;
	start(t, f, ST_SYN_SENT, now_ms);
	*ret = f;
	return 0;
}

unsigned tcp_readable(const struct tcp_flow *f, struct iovec iov[TCP_READ_IOVS])
{
	unsigned n = tcp_ring_data(&f->rcv, 0, f->rcv.len, iov);

	if (f->held.len > 0)
		iov[n++] = (struct iovec){ .iov_base = (void *)(uintptr_t)f->held.at,
			                   .iov_len = f->held.len };
	return n;
}

size_t tcp_readable_bytes(const struct tcp_flow *f)
{
	return f->rcv.len + f->held.len;
}

void tcp_consume(struct tcp_table *t, struct tcp_flow *f, size_t bytes, uint64_t now_ms)
{
	uint32_t cut = bytes < f->rcv.len ? (uint32_t)bytes : f->rcv.len;

	assert(bytes <= tcp_readable_bytes(f) && !f->dead);
	tcp_ring_cut(&f->rcv, cut);
	tcp_ring_drop(t, &f->rcv);
	bytes -= cut;
	if (bytes > 0)
		f->held = span_of(f->held.at + bytes, f->held.len - bytes);
	tcp_output(t, f, now_ms);
	if (tcp_is_done(f)) {
		f->life_ms = now_ms; /* the end is an event, and comes out of tcp_tick() */
		tcp_rearm(t, f);
	}
}

bool tcp_at_eof(const struct tcp_flow *f)
{
	return f->fin_rcvd && tcp_readable_bytes(f) == 0;
}

unsigned tcp_room(struct tcp_table *t, struct tcp_flow *f, struct iovec iov[TCP_WRITE_IOVS])
{
	if (f->state != ST_OPEN || f->fin_wanted || f->dead)
		return 0;
	if (!tcp_ring_take(t, &f->snd, TCP_WIDE)) {
		f->want_room = true;
		tcp_list_add(t, &t->waiters, f);
		return 0;
	}
	if (f->snd.len == f->snd.size) {
		f->want_room = true;
		return 0;
	}
	return tcp_ring_space(&f->snd, iov);
}

void tcp_commit(struct tcp_table *t, struct tcp_flow *f, size_t bytes, uint64_t now_ms)
{
	assert(!f->dead && !f->fin_wanted);
	assert(bytes == 0 || (f->snd.at && bytes <= f->snd.size - f->snd.len));
	if (bytes == 0) {
		tcp_ring_drop(t, &f->snd);
		return;
	}
	f->snd.len += (uint32_t)bytes;
	f->snd_end += (uint32_t)bytes;
	tcp_output(t, f, now_ms);
}

size_t tcp_write(struct tcp_table *t, struct tcp_flow *f, struct span data, uint64_t now_ms)
{
	struct iovec iov[TCP_WRITE_IOVS];
	unsigned n = data.len > 0 ? tcp_room(t, f, iov) : 0;
	size_t took = 0;

	for (unsigned i = 0; i < n && data.len > took; i++) {
		size_t len = data.len - took;

		if (len > iov[i].iov_len)
			len = iov[i].iov_len;
		memcpy(iov[i].iov_base, data.at + took, len);
		took += len;
	}
	if (took < data.len && n > 0)
		f->want_room = true;
	if (took > 0)
		tcp_commit(t, f, took, now_ms);
	return took;
}

void tcp_shutdown(struct tcp_table *t, struct tcp_flow *f, uint64_t now_ms)
{
	if (f->state != ST_OPEN || f->fin_wanted || f->dead)
		return;
	f->fin_wanted = true;
	f->want_room = false;
	tcp_list_drop(t, &t->waiters, f);
	tcp_ring_drop(t, &f->snd);
	tcp_output(t, f, now_ms);
}

void tcp_abort(struct tcp_table *t, struct tcp_flow *f, uint64_t now_ms)
{
	(void)now_ms;
	if (f->dead)
		return;
	if (f->end == TCP_END_NONE) /* within its own TCP_EV_ENDED there is nobody to tell */
		tcp_send_reset(t, f);
	tcp_unhash(t, f);
	if (f->in_event)
		f->dead = true; /* who called the event releases it */
	else
		tcp_release(t, f);
}

/* -- the clock --------------------------------------------------------------------------------- */

/* No answer to what we sent, or the guest's window is shut. False: the flow is gone. */
static bool retry(struct tcp_table *t, struct tcp_flow *f, uint64_t now_ms)
{
	bool syn = f->state == ST_SYN_SENT || f->state == ST_SYN_RCVD;

	f->retry_ms = TCP_NEVER;
	if (f->blocked.in) { /* the guest does not even take frames: it cannot answer */
		f->retry_ms = now_ms + f->rto_ms;
		return true;
	}
	if (f->tries >= (syn ? TCP_SYN_RETRIES_MAX : TCP_RETRIES_MAX)) {
		t->stats.timeouts++;
		tcp_send_reset(t, f);
		tcp_finish(t, f, TCP_END_TIMEOUT, now_ms);
		return false;
	}
	f->tries++;
	if (((uint64_t)f->rto_ms << f->backoff) < TCP_RTO_MAX_MS)
		f->backoff++;
	f->timing = false;
	if (!syn && f->snd_wnd == 0 && f->snd.len > 0) {
		f->probe_now = true;
		f->snd_nxt = f->snd_una;
		return true;
	}
	f->force = true; /* also if the guest's window has room for a little only */
	if (f->snd_una != f->snd_max) {
		f->snd_nxt = f->snd_una;
		f->burst = f->mss;
	}
	return true;
}

/* Nobody said anything for long. False: the flow is gone. */
static bool keep_alive(struct tcp_table *t, struct tcp_flow *f, uint64_t now_ms)
{
	if (now_ms - f->heard_ms < TCP_KEEPALIVE_MS) {
		f->life_ms = f->heard_ms + TCP_KEEPALIVE_MS;
		return true;
	}
	if (f->keep_tries >= TCP_KEEPALIVE_TRIES) {
		t->stats.timeouts++;
		tcp_send_reset(t, f);
		tcp_finish(t, f, TCP_END_TIMEOUT, now_ms);
		return false;
	}
	f->keep_tries++;
	f->probe_now = true;
	f->life_ms = now_ms + TCP_KEEPALIVE_EVERY_MS;
	return true;
}

/* The flow's own end is due: TIME_WAIT, a verdict that never came, the last byte consumed. */
static bool life(struct tcp_table *t, struct tcp_flow *f, uint64_t now_ms)
{
	f->life_ms = TCP_NEVER;
	if (f->state == ST_TIME_WAIT) {
		tcp_unhash(t, f);
		tcp_release(t, f);
		return false;
	}
	if (f->state == ST_ASKED) {
		t->stats.timeouts++;
		tcp_send_reset(t, f);
		tcp_finish(t, f, TCP_END_TIMEOUT, now_ms);
		return false;
	}
	if (tcp_is_done(f)) {
		tcp_finish(t, f, TCP_END_CLOSED, now_ms);
		return false;
	}
	return keep_alive(t, f, now_ms);
}

static void run_due(struct tcp_table *t, struct tcp_flow *f, uint64_t now_ms)
{
	if (f->ack_ms <= now_ms) {
		f->ack_ms = TCP_NEVER;
		f->ack_now = true;
	}
	if (f->life_ms <= now_ms && !life(t, f, now_ms))
		return;
	if (f->retry_ms <= now_ms && !retry(t, f, now_ms))
		return;
	tcp_output(t, f, now_ms);
	tcp_rearm(t, f);
}

void tcp_tick(struct tcp_table *t, uint64_t now_ms)
{
	struct tcp_flow *f;

	/* each flow at most a few times: what runs sets its timer to a later time */
	for (uint32_t n = 0; n < 4 * t->config.flows_max; n++) {
		f = tcp_due(t, now_ms);
		if (!f)
			break;
		run_due(t, f, now_ms);
	}
	tcp_wake(t, now_ms);
}

bool tcp_blocked(const struct tcp_table *t)
{
	return t->blocked.count > 0;
}

void tcp_resume(struct tcp_table *t, uint64_t now_ms)
{
	for (uint32_t n = t->blocked.count; n > 0 && t->blocked.count > 0; n--) {
		struct tcp_flow *f = &t->flows[t->blocked.first - 1];

		/* to the end of the list, if it is still too much: the others have their turn */
		tcp_list_drop(t, &t->blocked, f);
		tcp_output(t, f, now_ms);
		if (f->blocked.in)
			break;
	}
	tcp_wake(t, now_ms);
}

/* -- what is asked about a flow ---------------------------------------------------------------- */

const struct net_tuple *tcp_flow_tuple(const struct tcp_flow *f)
{
	return &f->tuple;
}

void *tcp_flow_app(const struct tcp_flow *f)
{
	return f->app;
}

void tcp_flow_set_app(struct tcp_flow *f, void *app)
{
	f->app = app;
}

enum tcp_end tcp_flow_end(const struct tcp_flow *f)
{
	return (enum tcp_end)f->end;
}

void tcp_flow_info(const struct tcp_flow *f, struct tcp_flow_info *ret)
{
	*ret = (struct tcp_flow_info){
		.began_ms = f->began_ms,
		.heard_ms = f->heard_ms,
		.acked_ms = f->acked_ms,
		.bytes_in = f->bytes_in,
		.bytes_out = f->bytes_out,
		.unsent = f->snd.len,
		.unread = (uint32_t)tcp_readable_bytes(f),
	};
}
