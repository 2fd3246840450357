#include "net/tcp_internal.h"

#include <assert.h>

/*
 * Theory of operation
 *
 * A segment is judged as RFC 9293, 3.10.7 says: is its number within the window; RST; SYN; ACK;
 * data; FIN. What RFC 5961 adds stands in between: a RST counts only if its number is exactly the
 * one expected, a SYN or an ACK that cannot be is answered with a bare ACK, rarely.
 *
 * Data is taken in order only. The link loses nothing and keeps the order, so what is out of order
 * was made so, or follows a loss at a restore; it is dropped and asked for again. So there is no
 * queue of pieces to fill or to confuse: bytes that came once are cut off the front of whatever
 * comes later, and the first to come stay.
 *
 * In-order data is first offered to the application where it lies, in the frame (`held`). What it
 * leaves is copied into a ring; what no ring can keep is given back, as if it had been lost.
 */

static bool before(uint32_t a, uint32_t b)
{
	return seq_diff(a, b) < 0;
}

/* An event. False: the flow is gone. */
bool tcp_tell(struct tcp_table *t, struct tcp_flow *f, unsigned events, uint64_t now_ms)
{
	assert(!f->in_event);
	f->in_event = true;
	t->config.event(t->config.ctx, f, events, now_ms);
	f->in_event = false;
	if (!f->dead)
		return true;
	tcp_release(t, f);
	return false;
}

/* Both directions are over, and the application has read everything. */
bool tcp_is_done(const struct tcp_flow *f)
{
	return f->state == ST_OPEN && f->fin_rcvd && tcp_fin_acked(f) && f->rcv.len == 0;
}

/* The last event, and the end: at once, or after a short TIME_WAIT where that is ours. */
void tcp_finish(struct tcp_table *t, struct tcp_flow *f, enum tcp_end why, uint64_t now_ms)
{
	bool linger = why == TCP_END_CLOSED && f->fin_first;

	f->end = (uint8_t)why;
	if (!tcp_tell(t, f, TCP_EV_ENDED, now_ms))
		return;
	f->app = NULL;
	if (!linger) {
		tcp_unhash(t, f);
		tcp_release(t, f);
		return;
	}
	tcp_list_drop(t, &t->waiters, f);
	tcp_set_state(t, f, ST_TIME_WAIT);
	tcp_ring_drop(t, &f->snd);
	tcp_ring_drop(t, &f->rcv);
	tcp_list_add(t, &t->time_waits, f);
	f->retry_ms = TCP_NEVER;
	f->life_ms = now_ms + TCP_TIME_WAIT_MS;
	tcp_output(t, f, now_ms);
	tcp_rearm(t, f);
}

/* Those who wait for a block, while there are any. Each is asked once. */
void tcp_wake(struct tcp_table *t, uint64_t now_ms)
{
	for (uint32_t n = t->waiters.count; n > 0 && t->waiters.count > 0; n--) {
		struct tcp_flow *f = &t->flows[t->waiters.first - 1];

		if (!tcp_ring_is_free(t))
			return;
		tcp_list_drop(t, &t->waiters, f);
		f->want_room = false;
		if (tcp_tell(t, f, TCP_EV_WRITABLE, now_ms))
			tcp_output(t, f, now_ms);
	}
}

/* A bare ACK for a segment that should not be; not for each (RFC 5961, 7). */
static void challenge(struct tcp_table *t, struct tcp_flow *f, uint64_t now_ms)
{
	if (now_ms < f->challenge_ms)
		return;
	f->challenge_ms = now_ms + TCP_CHALLENGE_MS;
	t->stats.challenges++;
	f->ack_now = true;
}

static void take_syn_options(struct tcp_flow *f, const struct tcp_segment *s)
{
	uint32_t most = (uint32_t)(net_head_room(&f->head) - TCP_HEAD_BYTES);
	uint32_t mss = s->mss == 0 ? TCP_MSS_DEFAULT : s->mss;

	if (mss < TCP_MSS_MIN)
		mss = TCP_MSS_MIN;
	f->mss = (uint16_t)(mss < most ? mss : most);
	f->has_scale = s->has_scale;
	f->snd_scale = s->has_scale ? s->scale : 0;
	f->rcv_scale = s->has_scale ? TCP_SCALE : 0;
	f->irs = s->seq;
	f->rcv_nxt = s->seq + 1;
	f->rcv_adv = f->rcv_nxt;
	f->snd_wnd = s->window; /* in a SYN it is never scaled */
	f->snd_wnd_max = s->window;
	f->snd_wl1 = s->seq;
	f->snd_wl2 = s->ack;
}

/* A SYN for which there is no flow. */
static void new_flow(struct tcp_table *t, const struct net_packet *p, uint64_t now_ms)
{
	struct tcp_flow *f = NULL;

	if (t->stats.half_open >= t->config.half_open_max) {
		t->stats.refused_half_open++;
	} else {
		f = tcp_take(t, &p->tuple, now_ms);
		t->stats.refused_table += f == NULL;
	}
	if (!f) {
		tcp_refuse_segment(t, p);
		return;
	}
	tcp_set_state(t, f, ST_ASKED);
	take_syn_options(f, &p->tcp);
	f->life_ms = now_ms + TCP_ASKED_MS;
	if (!tcp_tell(t, f, TCP_EV_SYN, now_ms))
		return;
	tcp_output(t, f, now_ms);
	tcp_rearm(t, f);
}

static void no_flow(struct tcp_table *t, const struct net_packet *p, uint64_t now_ms)
{
	if ((p->tcp.flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN) {
		new_flow(t, p, now_ms);
		return;
	}
	t->stats.strays++;
	tcp_refuse_segment(t, p);
}

/* Waiting for the application's verdict: only the guest's own change of mind matters. */
static void input_asked(struct tcp_table *t, struct tcp_flow *f, const struct tcp_segment *s,
                        uint64_t now_ms)
{
	if (!(s->flags & TCP_RST) || s->seq != f->rcv_nxt)
		return;
	t->stats.resets_got++;
	tcp_finish(t, f, TCP_END_RESET, now_ms);
}

/* The flow is established. False: it is gone. */
static bool opened(struct tcp_table *t, struct tcp_flow *f, uint64_t now_ms)
{
	tcp_set_state(t, f, ST_OPEN);
	f->retry_ms = TCP_NEVER;
	f->backoff = 0;
	f->life_ms = now_ms + TCP_KEEPALIVE_MS;
	return tcp_tell(t, f, TCP_EV_OPEN, now_ms);
}

/* RFC 6298, 2: in milliseconds, srtt by 8 and rttvar by 4. */
static void take_rtt(struct tcp_flow *f, uint64_t now_ms)
{
	uint32_t rtt = (uint32_t)(now_ms - f->rtt_ms);
	uint32_t delta;

	f->timing = false;
	if (rtt > TCP_RTO_MAX_MS)
		rtt = TCP_RTO_MAX_MS;
	if (f->srtt_8 == 0) {
		f->srtt_8 = rtt * 8 + 1; /* not 0 again, however short */
		f->rttvar_4 = rtt * 2;
	} else {
		delta = rtt > f->srtt_8 / 8 ? rtt - f->srtt_8 / 8 : f->srtt_8 / 8 - rtt;
		f->rttvar_4 += delta - f->rttvar_4 / 4;
		f->srtt_8 += rtt - f->srtt_8 / 8;
		f->srtt_8 += f->srtt_8 == 0;
	}
	f->rto_ms = f->srtt_8 / 8 + f->rttvar_4;
	if (f->rto_ms < TCP_RTO_MIN_MS)
		f->rto_ms = TCP_RTO_MIN_MS;
	if (f->rto_ms > TCP_RTO_MAX_MS)
		f->rto_ms = TCP_RTO_MAX_MS;
}

/* The guest acknowledged up to ack, which is news. */
static void advance(struct tcp_table *t, struct tcp_flow *f, uint32_t ack, uint64_t now_ms)
{
	uint32_t first = f->snd_end - f->snd.len;
	int32_t data = seq_diff(ack, first);

	if (data > 0) {
		uint32_t cut = (uint32_t)data > f->snd.len ? f->snd.len : (uint32_t)data;

		tcp_ring_cut(&f->snd, cut);
		f->bytes_out += cut;
		t->stats.bytes_out += cut;
		tcp_ring_drop(t, &f->snd);
	}
	if (f->timing && before(f->rtt_seq, ack))
		take_rtt(f, now_ms);
	if (f->burst < TCP_WIDE_BYTES)
		f->burst += ack - f->snd_una;
	f->snd_una = ack;
	if (before(f->snd_nxt, ack))
		f->snd_nxt = ack;
	f->backoff = 0;
	f->acked_ms = now_ms;
	f->retry_ms = f->snd_una == f->snd_max ? TCP_NEVER : now_ms + f->rto_ms;
}

static void take_window(struct tcp_flow *f, const struct tcp_segment *s)
{
	uint32_t edge;

	if (!before(f->snd_wl1, s->seq) && (f->snd_wl1 != s->seq || before(s->ack, f->snd_wl2)))
		return;
	edge = f->snd_una + f->snd_wnd;
	f->snd_wnd = (uint32_t)s->window << f->snd_scale;
	f->snd_wl1 = s->seq;
	f->snd_wl2 = s->ack;
	if (f->snd_wnd > f->snd_wnd_max)
		f->snd_wnd_max = f->snd_wnd;
	/* a window that opens ends the probing: what was held back goes at once */
	if (before(edge, f->snd_una + f->snd_wnd) && f->snd_una == f->snd_max) {
		f->retry_ms = TCP_NEVER;
		f->backoff = 0;
	}
}

static void input_syn_sent(struct tcp_table *t, struct tcp_flow *f, const struct net_packet *p,
                           uint64_t now_ms)
{
	const struct tcp_segment *s = &p->tcp;
	bool acks = s->flags & TCP_ACK;

	if (acks && (s->ack != f->iss + 1 || f->snd_max == f->iss)) {
		tcp_refuse_segment(t, p);
		return;
	}
	if (s->flags & TCP_RST) {
		if (!acks)
			return;
		t->stats.resets_got++;
		tcp_finish(t, f, TCP_END_REFUSED, now_ms);
		return;
	}
	if (!(s->flags & TCP_SYN))
		return;
	take_syn_options(f, s);
	if (!acks) { /* both began at once (RFC 9293, 3.5) */
		tcp_set_state(t, f, ST_SYN_RCVD);
		f->snd_nxt = f->iss;
		tcp_output(t, f, now_ms);
		return;
	}
	advance(t, f, s->ack, now_ms);
	t->stats.connected++;
	f->ack_now = true;
	if (opened(t, f, now_ms))
		tcp_output(t, f, now_ms);
}

/* Is the segment within what we expect? Where it touches the window, the rest is cut later. */
static bool acceptable(const struct tcp_flow *f, const struct tcp_segment *s)
{
	uint32_t len = (uint32_t)s->data.len + ((s->flags & TCP_FIN) != 0);

	if (before(f->rcv_adv, s->seq))
		return false;
	return len == 0 ? !before(s->seq, f->rcv_nxt) : before(f->rcv_nxt, s->seq + len);
}

/* Is TCP_EV_WRITABLE owed, and due? */
static unsigned room_event(struct tcp_table *t, struct tcp_flow *f)
{
	if (!f->want_room || f->snd.len > f->snd.size - f->snd.size / 4 ||
	    (!f->snd.at && !tcp_ring_is_free(t)))
		return 0;
	f->want_room = false;
	tcp_list_drop(t, &t->waiters, f);
	return TCP_EV_WRITABLE;
}

/*
 * A segment beside the window. It is answered; and if it is an old one, what it acknowledges still
 * counts: both sides may have lost an ACK, and would else go on for ever sending to each other
 * what the other has. False: the flow is gone.
 */
static bool input_beside(struct tcp_table *t, struct tcp_flow *f, const struct tcp_segment *s,
                         uint64_t now_ms)
{
	unsigned events = 0;

	if (s->data.len > 0 || s->flags & TCP_FIN)
		f->ack_now = true; /* sent again: our ACK was lost */
	else
		challenge(t, f, now_ms);
	if (f->state == ST_OPEN && s->flags & TCP_ACK && before(s->seq, f->rcv_nxt) &&
	    before(f->snd_una, s->ack) && !before(f->snd_max, s->ack)) {
		advance(t, f, s->ack, now_ms);
		f->tries = 0;
		events = room_event(t, f);
	}
	if (events && !tcp_tell(t, f, events, now_ms))
		return false;
	if (!tcp_is_done(f))
		return true;
	tcp_output(t, f, now_ms);
	tcp_finish(t, f, TCP_END_CLOSED, now_ms);
	return false;
}

/* RST, SYN and numbers out of the window. True: that was all about it; the flow may be gone. */
static bool input_special(struct tcp_table *t, struct tcp_flow *f, const struct net_packet *p,
                          uint64_t now_ms)
{
	const struct tcp_segment *s = &p->tcp;

	if (s->flags & TCP_RST) {
		if (f->fin_rcvd && tcp_fin_acked(f) && f->state == ST_OPEN)
			return true; /* it is over but for what the application has not read */
		if (s->seq == f->rcv_nxt) {
			t->stats.resets_got++;
			if (f->state == ST_TIME_WAIT) {
				tcp_unhash(t, f);
				tcp_release(t, f);
			} else {
				tcp_finish(t, f, TCP_END_RESET, now_ms);
			}
			return true;
		}
		if (acceptable(f, s))
			challenge(t, f, now_ms);
	} else if (s->flags & TCP_SYN) {
		if (f->state == ST_SYN_RCVD && s->seq == f->irs && !(s->flags & TCP_ACK))
			f->snd_nxt = f->iss; /* our answer was lost */
		else
			challenge(t, f, now_ms);
	} else if (!acceptable(f, s)) {
		if (!input_beside(t, f, s, now_ms))
			return true;
	} else {
		return false;
	}
	tcp_output(t, f, now_ms);
	return true;
}

/* Returns the events of it; or -1: the segment, or the flow, goes no further. */
static int input_ack(struct tcp_table *t, struct tcp_flow *f, const struct net_packet *p,
                     uint64_t now_ms)
{
	const struct tcp_segment *s = &p->tcp;

	if (!(s->flags & TCP_ACK))
		return -1;
	if (f->state == ST_SYN_RCVD) {
		if (s->ack != f->iss + 1 || f->snd_max == f->iss) {
			tcp_refuse_segment(t, p);
			return -1;
		}
		advance(t, f, s->ack, now_ms);
		f->snd_wl1 = s->seq - 1; /* the SYN's window was not scaled: take this one */
		take_window(f, s);
		return opened(t, f, now_ms) ? 0 : -1;
	}
	if (before(f->snd_max, s->ack) || seq_diff(f->snd_una, s->ack) > TCP_WIDE_BYTES) {
		challenge(t, f, now_ms);
		tcp_output(t, f, now_ms);
		return -1;
	}
	if (before(f->snd_una, s->ack))
		advance(t, f, s->ack, now_ms);
	take_window(f, s);
	return (int)room_event(t, f);
}

/* Copies what the application left of the segment at hand. True: all of it is kept. */
static bool keep_held(struct tcp_table *t, struct tcp_flow *f)
{
	struct span held = f->held;
	size_t room;

	f->held = (struct span){ 0 };
	if (held.len == 0)
		return true;
	room = tcp_ring_take(t, &f->rcv, TCP_NARROW) ? TCP_BLOCK_BYTES - f->rcv.len : 0;
	if (room < held.len) {
		uint32_t lost = (uint32_t)(held.len - room);

		/* nothing was acknowledged yet, so it may come again */
		f->rcv_nxt -= lost;
		f->bytes_in -= lost;
		t->stats.bytes_in -= lost;
		t->stats.no_block++;
		if (room > 0)
			tcp_ring_put(&f->rcv, span_of(held.at, room));
		tcp_ring_drop(t, &f->rcv);
		return false;
	}
	tcp_ring_put(&f->rcv, held);
	return true;
}

/* How soon a segment with data is acknowledged: at once where waiting could stall its sender. */
static void plan_ack(struct tcp_flow *f, size_t bytes, uint64_t now_ms)
{
	f->segments_unacked++;
	if (f->segments_unacked >= 2 || bytes >= TCP_BLOCK_BYTES / 16)
		f->ack_now = true;
	else if (f->ack_ms == TCP_NEVER)
		f->ack_ms = now_ms + TCP_DELAYED_ACK_MS;
}

/* The part of a segment's data that is new and within the window. False: out of order. */
static bool take_data(struct tcp_table *t, struct tcp_flow *f, const struct tcp_segment *s,
                      bool *fin)
{
	struct span data = s->data;
	uint32_t room = f->rcv_adv - f->rcv_nxt;
	uint32_t old = f->rcv_nxt - s->seq;

	if (before(f->rcv_nxt, s->seq)) {
		bool has = data.len > 0 || s->flags & TCP_FIN;

		t->stats.out_of_order += has;
		f->ack_now |= has;
		return false;
	}
	*fin = s->flags & TCP_FIN;
	if (old > 0) {
		t->stats.overlaps++;
		f->ack_now = true; /* somebody sends again: tell where we stand */
		if (old > data.len)
			old = (uint32_t)data.len;
		data = span_of(data.at + old, data.len - old);
	}
	if (data.len > room) {
		data.len = room;
		*fin = false;
		f->ack_now = true;
	}
	f->held = data;
	f->rcv_nxt += (uint32_t)data.len;
	f->bytes_in += data.len;
	t->stats.bytes_in += data.len;
	return true;
}

static void input_data(struct tcp_table *t, struct tcp_flow *f, const struct tcp_segment *s,
                       unsigned events, uint64_t now_ms)
{
	bool fin = false;
	bool kept = true;
	bool fresh;

	/* behind a FIN there is nothing; what claims to be is answered and dropped */
	if (f->fin_rcvd)
		f->ack_now |= s->data.len > 0 || s->flags & TCP_FIN;
	else if (take_data(t, f, s, &fin) && f->held.len > 0)
		events |= TCP_EV_READABLE;
	fresh = f->held.len > 0;
	if (events && !tcp_tell(t, f, events, now_ms))
		return;
	if (fresh) {
		kept = keep_held(t, f);
		plan_ack(f, s->data.len, now_ms);
	}
	if (fin && kept) {
		f->rcv_nxt++;
		f->fin_rcvd = true;
		f->ack_now = true;
		if (!tcp_tell(t, f, TCP_EV_EOF, now_ms))
			return;
	}
	f->ack_now |= !kept;
	tcp_output(t, f, now_ms);
	if (tcp_is_done(f))
		tcp_finish(t, f, TCP_END_CLOSED, now_ms);
}

static void input_time_wait(struct tcp_table *t, struct tcp_flow *f, const struct net_packet *p,
                            uint64_t now_ms)
{
	const struct tcp_segment *s = &p->tcp;

	/* a new connection under an old name, its numbers beyond the old (RFC 9293, 3.10.7.4) */
	if ((s->flags & (TCP_SYN | TCP_RST | TCP_ACK)) == TCP_SYN && before(f->rcv_nxt, s->seq)) {
		tcp_unhash(t, f);
		tcp_release(t, f);
		new_flow(t, p, now_ms);
		return;
	}
	if (input_special(t, f, p, now_ms))
		return;
	if (s->data.len > 0 || s->flags & TCP_FIN) {
		f->ack_now = true;
		tcp_output(t, f, now_ms);
	}
}

static void input_flow(struct tcp_table *t, struct tcp_flow *f, const struct net_packet *p,
                       uint64_t now_ms)
{
	int events;

	if (input_special(t, f, p, now_ms))
		return;
	f->tries = 0;
	f->keep_tries = 0;
	f->heard_ms = now_ms;
	events = input_ack(t, f, p, now_ms);
	if (events < 0)
		return;
	input_data(t, f, &p->tcp, (unsigned)events, now_ms);
}

void tcp_input(struct tcp_table *t, const struct net_packet *p, uint64_t now_ms)
{
	struct tcp_flow *f = tcp_find(t, &p->tuple);

	t->stats.segments_in++;
	if (!f)
		no_flow(t, p, now_ms);
	else if (f->state == ST_ASKED)
		input_asked(t, f, &p->tcp, now_ms);
	else if (f->state == ST_SYN_SENT)
		input_syn_sent(t, f, p, now_ms);
	else if (f->state == ST_TIME_WAIT)
		input_time_wait(t, f, p, now_ms);
	else
		input_flow(t, f, p, now_ms);
	tcp_wake(t, now_ms);
}
