#include "net/sum.h"
#include "net/tcp_internal.h"

#include <assert.h>

/*
 * Theory of operation
 *
 * A segment is emitted straight out of the send ring: one iovec with prefix, Ethernet, IP and TCP
 * header, made from the flow's template, and one or two with the ring's bytes, which are read once,
 * for the checksum.
 *
 * How much goes out is bounded by the guest's window and by its socket, not by a guess at the
 * network between (RFC 5681): there is none, nothing queues but in that socket, and nothing is
 * lost there. What can be lost is lost at once, where a machine is restored from a state; after a
 * time-out one segment goes out, and each acknowledgement lets as much more follow (`burst`).
 *
 * Small writes are sent at once (no Nagle): the application reads from a socket, so it has
 * collected them already. What only fits in part because the guest's window is small waits until
 * half of the largest window it ever had is open (RFC 9293, 3.8.6.2.1), or until the timer.
 */

enum { ISS_TICKS_A_MS = 250 }; /* RFC 6528: one in 4 microseconds */

uint32_t tcp_iss(struct tcp_table *t, const struct net_tuple *tuple, uint64_t now_ms)
{
	return (uint32_t)(siphash_tuple(&t->config.iss_key, tuple) + now_ms * ISS_TICKS_A_MS);
}

bool tcp_fin_acked(const struct tcp_flow *f)
{
	return f->fin_wanted && f->snd_una == f->snd_end + 1;
}

/* The window to tell, and with it the edge up to which the guest may send. */
static uint16_t tell_window(struct tcp_flow *f, bool syn)
{
	uint32_t room = TCP_BLOCK_BYTES - f->rcv.len;
	uint32_t scale = syn ? 0 : f->rcv_scale;
	uint32_t unit = 1U << scale;
	uint32_t most = (uint32_t)UINT16_MAX << scale;
	uint32_t edge;
	uint32_t window;

	room -= room < unit ? room : unit; /* for the rounding below */
	if (room > most)
		room = most;
	edge = f->rcv_nxt + room;
	/* the edge never goes back, and not forward by crumbs (RFC 9293, 3.8.6.2.2) */
	if (seq_diff(edge, f->rcv_adv) >= TCP_BLOCK_BYTES / 4 ||
	    (f->rcv.len == 0 && seq_diff(edge, f->rcv_adv) > 0))
		f->rcv_adv = edge;
	/* up: a window rounded down is an edge that went back, behind what is on its way */
	window = (f->rcv_adv - f->rcv_nxt + unit - 1) >> scale;
	if (window > UINT16_MAX)
		window = UINT16_MAX;
	if (seq_diff(f->rcv_nxt + (window << scale), f->rcv_adv) > 0)
		f->rcv_adv = f->rcv_nxt + (window << scale);
	return (uint16_t)window;
}

/* Is it worth a segment to tell the guest that there is room again? */
static bool window_opened(const struct tcp_flow *f)
{
	uint32_t told = f->rcv_adv - f->rcv_nxt;
	uint32_t room = TCP_BLOCK_BYTES - f->rcv.len;
	uint32_t most = (uint32_t)UINT16_MAX << f->rcv_scale;

	if (room > most)
		room = most;
	/* before the first byte the SYN's 64 KiB do; the first ACK opens the rest */
	if (room <= told || f->fin_rcvd || f->bytes_in == 0)
		return false;
	return room - told >= TCP_BLOCK_BYTES / 4 || (f->rcv.len == 0 && told < most / 4);
}

static bool emit(struct tcp_table *t, const struct net_head *head, const struct tcp_segment *s,
                 struct iovec iov[NET_FRAME_IOVS], unsigned count)
{
	uint8_t at[NET_HEAD_MAX + TCP_HEAD_BYTES + TCP_SYN_OPTION_BYTES];
	size_t data = 0;
	size_t tcp_bytes;
	uint64_t sum;
	uint8_t *tcp = at + head->bytes;

	for (unsigned i = 1; i < count; i++)
		data += iov[i].iov_len;
	tcp_bytes = tcp_segment_put(tcp, s);
	(void)net_head_put(head, at, tcp_bytes + data);
	sum = net_head_sum(head, tcp_bytes + data) + span_sum(span_of(tcp, tcp_bytes));
	sum += span_sum_iov(iov + 1, count - 1);
	put_sum(tcp + TCP_SUM_AT, span_sum_done(sum));
	iov[0] = (struct iovec){ .iov_base = at, .iov_len = head->bytes + tcp_bytes };
	if (!t->config.out.emit(t->config.out.ctx, iov, count, head->bytes + tcp_bytes + data))
		return false;
	t->stats.segments_out++;
	return true;
}

/* Ports, ACK and window of any segment of a flow. */
static struct tcp_segment begin(struct tcp_flow *f, uint32_t seq, uint8_t flags)
{
	return (struct tcp_segment){
		.src_port = f->tuple.remote_port,
		.dst_port = f->tuple.guest_port,
		.seq = seq,
		.ack = flags & TCP_ACK ? f->rcv_nxt : 0,
		.flags = flags,
		.window = tell_window(f, flags & TCP_SYN),
	};
}

/* A number for a segment without data that the guest's window will not refuse. */
static uint32_t empty_seq(const struct tcp_flow *f)
{
	uint32_t edge = f->snd_una + f->snd_wnd;

	return f->state == ST_OPEN && seq_diff(f->snd_max, edge) > 0 ? edge : f->snd_max;
}

static void ack_is_out(struct tcp_flow *f)
{
	f->ack_now = false;
	f->ack_ms = TCP_NEVER;
	f->segments_unacked = 0;
}

static bool send_ack(struct tcp_table *t, struct tcp_flow *f)
{
	struct iovec iov[NET_FRAME_IOVS];
	struct tcp_segment s = begin(f, empty_seq(f), TCP_ACK);

	if (!emit(t, &f->head, &s, iov, 1))
		return false;
	ack_is_out(f);
	return true;
}

/* One number before what is expected: whoever gets it must answer with where it stands. */
static bool send_probe(struct tcp_table *t, struct tcp_flow *f)
{
	struct iovec iov[NET_FRAME_IOVS];
	struct tcp_segment s = begin(f, f->snd_una - 1, TCP_ACK);

	if (!emit(t, &f->head, &s, iov, 1))
		return false;
	f->probe_now = false;
	return true;
}

void tcp_send_reset(struct tcp_table *t, struct tcp_flow *f)
{
	bool asked = f->state == ST_ASKED;
	struct iovec iov[NET_FRAME_IOVS];
	struct tcp_segment s = begin(f, asked ? 0 : empty_seq(f), TCP_RST | TCP_ACK);

	if (f->state == ST_SYN_SENT)
		s.flags = TCP_RST;
	s.window = 0;
	if (emit(t, &f->head, &s, iov, 1))
		t->stats.resets_sent++;
}

/* RST for a segment that belongs to no flow (RFC 9293, 3.10.7.1). */
void tcp_refuse_segment(struct tcp_table *t, const struct net_packet *p)
{
	const struct tcp_segment *in = &p->tcp;
	struct iovec iov[NET_FRAME_IOVS];
	struct net_head head;
	struct tcp_segment s = {
		.src_port = in->dst_port,
		.dst_port = in->src_port,
		.flags = TCP_RST,
	};

	if (in->flags & TCP_RST)
		return;
	if (in->flags & TCP_ACK) {
		s.seq = in->ack;
	} else {
		s.flags |= TCP_ACK;
		s.ack = in->seq + (uint32_t)in->data.len + ((in->flags & TCP_SYN) != 0) +
		        ((in->flags & TCP_FIN) != 0);
	}
	net_link_head(t->config.link, &p->tuple, NET_PROTO_TCP, &head);
	if (emit(t, &head, &s, iov, 1))
		t->stats.resets_sent++;
}

static void time_it(struct tcp_flow *f, uint64_t now_ms)
{
	if (f->timing)
		return;
	f->timing = true;
	f->rtt_seq = f->snd_nxt;
	f->rtt_ms = now_ms;
}

/* Bookkeeping of numbers that went out. */
static void sent(struct tcp_table *t, struct tcp_flow *f, uint32_t count, uint64_t now_ms)
{
	if (seq_diff(f->snd_nxt + count, f->snd_max) > 0) {
		if (f->snd_nxt == f->snd_max)
			time_it(f, now_ms); /* not of what was sent before (Karn) */
		f->snd_max = f->snd_nxt + count;
	} else {
		t->stats.retransmits++;
	}
	f->snd_nxt += count;
	if (f->retry_ms == TCP_NEVER) {
		uint64_t wait = (uint64_t)f->rto_ms << f->backoff;

		f->retry_ms = now_ms + (wait > TCP_RTO_MAX_MS ? TCP_RTO_MAX_MS : wait);
	}
	if (f->state == ST_OPEN)
		ack_is_out(f);
}

static bool send_syn(struct tcp_table *t, struct tcp_flow *f, uint64_t now_ms)
{
	struct iovec iov[NET_FRAME_IOVS];
	struct tcp_segment s =
		begin(f, f->iss, f->state == ST_SYN_SENT ? TCP_SYN : TCP_SYN | TCP_ACK);

	s.mss = (uint16_t)(net_head_room(&f->head) - TCP_HEAD_BYTES);
	s.has_scale = f->state == ST_SYN_SENT || f->has_scale;
	s.scale = TCP_SCALE;
	if (!emit(t, &f->head, &s, iov, 1))
		return false;
	ack_is_out(f);
	sent(t, f, 1, now_ms);
	return true;
}

/* How many bytes may go now, and whether it would be the last of them. */
static uint32_t sendable(struct tcp_flow *f)
{
	uint32_t window = f->snd_wnd < f->burst ? f->snd_wnd : f->burst;
	uint32_t flight = f->snd_nxt - f->snd_una;
	uint32_t left;
	uint32_t len;

	if (seq_diff(f->snd_nxt, f->snd_end) >= 0)
		return 0;
	left = f->snd_end - f->snd_nxt;
	len = window > flight ? window - flight : 0;
	if (len > f->mss)
		len = f->mss;
	if (len >= left)
		return left;
	if (len < f->mss && len < f->snd_wnd_max / 2 && !f->force)
		return 0;
	return len;
}

/* One segment with data, FIN or both. 1: went out; 0: nothing to send now; -1: no room. */
static int send_data(struct tcp_table *t, struct tcp_flow *f, uint64_t now_ms)
{
	uint32_t len = sendable(f);
	bool last = f->snd_nxt + len == f->snd_end;
	bool fin = f->fin_wanted && last;
	struct iovec iov[NET_FRAME_IOVS];
	struct tcp_segment s;
	unsigned count = 0;

	if (len == 0 && !fin)
		return 0;
	s = begin(f, f->snd_nxt, TCP_ACK);
	if (fin)
		s.flags |= TCP_FIN;
	if (len > 0) {
		uint32_t first = f->snd_end - f->snd.len; /* the number of the ring's first byte */

		count = tcp_ring_data(&f->snd, f->snd_nxt - first, len, iov + 1);
		if (last)
			s.flags |= TCP_PSH;
	}
	if (!emit(t, &f->head, &s, iov, 1 + count))
		return -1;
	if (fin && !f->fin_rcvd)
		f->fin_first = true;
	f->force = false;
	sent(t, f, len + fin, now_ms);
	return 1;
}

/* All that may go now. False: the guest's socket is full. */
static bool send_all(struct tcp_table *t, struct tcp_flow *f, uint64_t now_ms)
{
	int r = 1;

	if (f->state == ST_SYN_SENT || f->state == ST_SYN_RCVD)
		return f->snd_nxt != f->iss || send_syn(t, f, now_ms);
	if (f->state == ST_OPEN) {
		/* a ring holds so many segments of the least length, and a FIN */
		for (int n = 0; r > 0 && n <= TCP_WIDE_BYTES / TCP_MSS_MIN + 1; n++)
			r = send_data(t, f, now_ms);
		if (r < 0)
			return false;
		if (f->probe_now && !send_probe(t, f))
			return false;
		if (window_opened(f))
			f->ack_now = true;
	}
	return !f->ack_now || send_ack(t, f);
}

void tcp_output(struct tcp_table *t, struct tcp_flow *f, uint64_t now_ms)
{
	if (f->in_event || f->dead || f->state == ST_ASKED)
		return;
	if (send_all(t, f, now_ms))
		tcp_list_drop(t, &t->blocked, f);
	else
		tcp_list_add(t, &t->blocked, f);
	/* something to send and nothing on its way: the guest's window is shut, ask again later */
	if (f->state == ST_OPEN && f->retry_ms == TCP_NEVER && !f->blocked.in &&
	    seq_diff(f->snd_nxt, f->snd_end) < 0) {
		uint64_t wait = (uint64_t)f->rto_ms << f->backoff;

		f->retry_ms = now_ms + (wait > TCP_RTO_MAX_MS ? TCP_RTO_MAX_MS : wait);
	}
	tcp_rearm(t, f);
}
