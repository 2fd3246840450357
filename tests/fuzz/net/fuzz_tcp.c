/*
 * The endpoint, as a guest that sends any segments at any time, to an application that does
 * anything: the input is a script of small steps. Contracts, checked after each: what goes out is
 * a right segment; the bytes read are those that belong at their place; the counts of flows,
 * half-open ones and rings stay within what was configured; unread and unsent bytes stay within a
 * ring; in the end, when nobody answers, nothing is left.
 *
 * Shape of a step: kind and flow (1 byte) | what the kind needs
 */
#include "net/tcp.h"

#include <errno.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	FLOWS = 4,
	TABLE = 3, /* less than there are names, so that it is full at times */
	BLOCKS = 3,
	STEPS_MAX = 400,
	SEGMENT_MAX = 3000,
};

static void must(bool ok)
{
	if (!ok)
		abort();
}

struct peer {
	struct tcp_flow *f;
	bool asked; /* and not accepted yet */
	bool opened;
	uint32_t nxt;   /* the number we think the endpoint expects, told by its ACKs */
	uint32_t una;   /* the number behind the highest it sent */
	uint32_t first; /* the guest's number of the stream's byte 0: the first ACK says it */
	bool has_first;
	uint32_t read;
};

struct world {
	struct net_link link;
	struct tcp_table *table;
	struct peer peers[FLOWS];
	uint64_t now;
	bool full, reads, accepts, aborts;
};

static struct world w;

/* What the guest says at a place is a function of the place, so that any order can be checked. */
static uint8_t byte_at(uint32_t place)
{
	return (uint8_t)(place * 13 + (place >> 8));
}

static struct net_tuple tuple_of(unsigned i)
{
	struct net_link_config c = net_link_config_usual(true);

	return (struct net_tuple){
		.guest = i % 2 ? c.guest6 : c.guest4,
		.remote = i % 2 ? c.router6 : net_addr4(1, 2, 3, 4),
		.guest_port = (uint16_t)(1000 + i),
		.remote_port = 443,
	};
}

static bool emit(void *ctx, const struct iovec *iov, unsigned count, size_t bytes)
{
	static uint8_t at[NET_PREFIX_BYTES + NET_FRAME_MAX];
	struct span in = span_of(at, bytes);
	struct tcp_segment s;
	struct span frame;
	struct peer *p;
	size_t len = 0;
	struct eth eth;
	struct ip ip;

	(void)ctx;
	must(bytes <= sizeof(at) && count <= NET_FRAME_IOVS);
	for (unsigned i = 0; i < count; i++) {
		memcpy(at + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	must(len == bytes);
	if (frame_parse(&in, &frame) < 0)
		abort();
	must(in.len == 0);
	must(eth_parse(frame, &eth) == NET_OK);
	must((eth.type == NET_TYPE_IP6 ? ip6_parse(eth.payload, &ip)
	                               : ip4_parse(eth.payload, &ip)) == NET_OK);
	must(tcp_parse(&ip, &s) == NET_OK);
	must(s.dst_port >= 1000 && s.dst_port < 1000 + FLOWS);
	p = &w.peers[s.dst_port - 1000];
	if ((s.flags & (TCP_RST | TCP_ACK)) == TCP_ACK && !p->has_first) {
		p->has_first = true;
		p->first = s.ack;
	}
	if (w.full)
		return false;
	if (!(s.flags & TCP_RST)) {
		if (s.flags & TCP_ACK)
			p->nxt = s.ack;
		p->una = s.seq + (uint32_t)s.data.len + ((s.flags & (TCP_SYN | TCP_FIN)) != 0);
	}
	return true;
}

static void read_all(struct peer *p, size_t most)
{
	struct iovec iov[TCP_READ_IOVS];
	unsigned n = tcp_readable(p->f, iov);
	size_t took = 0;

	must(n <= TCP_READ_IOVS);
	for (unsigned i = 0; i < n; i++)
		for (size_t k = 0; k < iov[i].iov_len && took < most; k++, took++)
			must(((uint8_t *)iov[i].iov_base)[k] ==
			     byte_at(p->first + p->read + (uint32_t)took));
	p->read += (uint32_t)took;
	tcp_consume(w.table, p->f, took, w.now);
}

static void event(void *ctx, struct tcp_flow *f, unsigned events, uint64_t now_ms)
{
	unsigned i = tcp_flow_tuple(f)->guest_port - 1000U;
	struct peer *p = &w.peers[i];

	(void)ctx;
	must(i < FLOWS && now_ms == w.now);
	if (events & TCP_EV_SYN) {
		must(p->f == NULL);
		p->f = f;
		p->read = 0;
		p->has_first = false;
		p->asked = !w.accepts;
		if (w.accepts)
			tcp_accept(w.table, f, w.now);
		return;
	}
	must(p->f == f);
	must(!p->opened || !(events & TCP_EV_OPEN));
	p->opened |= events & TCP_EV_OPEN;
	must(!(events & TCP_EV_READABLE) || tcp_readable_bytes(f) > 0);
	if (events & TCP_EV_ENDED) {
		must(tcp_flow_end(f) != TCP_END_NONE);
		p->f = NULL;
		p->opened = false;
		return;
	}
	if (events & TCP_EV_READABLE && w.reads)
		read_all(p, SIZE_MAX);
	if (w.aborts) {
		tcp_abort(w.table, f, w.now);
		p->f = NULL;
		p->opened = false;
	}
}

/* One segment: numbers are near those that count, or anywhere. */
static void segment(unsigned i, struct span *in)
{
	static uint8_t text[SEGMENT_MAX];
	struct peer *p = &w.peers[i];
	struct net_packet packet = { .proto = NET_PROTO_TCP, .tuple = tuple_of(i) };
	struct tcp_segment *s = &packet.tcp;
	uint16_t seq;
	uint16_t ack;
	uint16_t len;

	if (!take_u8(in, &s->flags) || !take_be16(in, &seq) || !take_be16(in, &ack) ||
	    !take_be16(in, &s->window) || !take_be16(in, &len))
		return;
	s->flags &= 63;
	if (s->flags & TCP_SYN)
		s->flags &= (uint8_t) ~(TCP_FIN | TCP_RST);
	s->src_port = packet.tuple.guest_port;
	s->dst_port = packet.tuple.remote_port;
	s->seq = p->nxt + (seq < 0x8000 ? seq : (uint32_t)(seq - 0xffff) << (seq & 7));
	s->ack = p->una + (ack < 0x100 ? ack : (uint32_t)(ack - 0xffff) << (ack & 7));
	s->mss = s->flags & TCP_SYN ? len : 0;
	s->has_scale = s->mss & 1;
	s->scale = len % (TCP_SCALE_MAX + 1);
	len %= SEGMENT_MAX;
	if (s->flags & TCP_SYN)
		len = 0;
	for (unsigned k = 0; k < len; k++)
		text[k] = byte_at(s->seq + k);
	s->data = span_of(text, len);
	tcp_input(w.table, &packet, w.now);
}

static void act(struct peer *p, uint8_t what, uint8_t how_much)
{
	static uint8_t text[256 * 1200];

	switch (what % 6) {
	case 0:
		p->asked = false;
		tcp_accept(w.table, p->f, w.now);
		break;
	case 1:
		if (p->opened)
			(void)tcp_write(w.table, p->f, span_of(text, how_much * 1200U), w.now);
		break;
	case 2:
		if (p->opened)
			read_all(p, (size_t)how_much * 300);
		break;
	case 3:
		tcp_shutdown(w.table, p->f, w.now);
		break;
	case 4: {
		struct iovec iov[TCP_WRITE_IOVS];

		if (tcp_room(w.table, p->f, iov) > 0)
			tcp_commit(w.table, p->f, how_much % (iov[0].iov_len + 1), w.now);
		break;
	}
	default:
		tcp_abort(w.table, p->f, w.now);
		p->f = NULL;
		p->opened = false;
		break;
	}
}

static void step(uint8_t kind, struct span *in)
{
	struct peer *p = &w.peers[kind & 3];
	struct net_tuple t = tuple_of(kind & 3);
	uint8_t a = 0;
	uint8_t b = 0;

	if (kind >> 2 < 32) {
		segment(kind & 3, in);
		return;
	}
	if (!take_u8(in, &a) || !take_u8(in, &b))
		return;
	if (kind >> 2 < 48) {
		if (p->f && (a % 6 != 0 || p->asked))
			act(p, a, b);
	} else if (kind >> 2 < 56) {
		w.now += a * (1U << (b & 15));
		tcp_tick(w.table, w.now);
	} else if (kind >> 2 < 60) {
		w.full = a & 1;
		w.reads = a & 2;
		w.aborts = (a & 252) == 252;
		tcp_resume(w.table, w.now);
	} else if (!p->f) {
		p->read = 0;
		p->asked = false;
		p->has_first = false;
		if (tcp_connect(w.table, &t, &w, w.now, &p->f) < 0)
			p->f = NULL;
	}
}

static void check(void)
{
	const struct tcp_stats *s = tcp_table_stats(w.table);

	must(s->flows <= TABLE && s->half_open <= s->flows && s->blocks_used <= BLOCKS);
	for (unsigned i = 0; i < FLOWS; i++) {
		struct tcp_flow_info info;

		if (!w.peers[i].f)
			continue;
		tcp_flow_info(w.peers[i].f, &info);
		must(info.unread <= TCP_BLOCK_BYTES && info.unsent <= TCP_WIDE_BYTES);
		must(info.bytes_in == w.peers[i].read + (uint64_t)info.unread);
	}
}

/* Nobody says anything more: everything must end by itself. */
static void run_out(void)
{
	w.full = false;
	w.aborts = false;
	tcp_resume(w.table, w.now);
	for (unsigned i = 0; i < FLOWS; i++)
		if (w.peers[i].f && w.peers[i].opened)
			read_all(&w.peers[i], SIZE_MAX);
	for (int n = 0; n < 5000 && tcp_table_stats(w.table)->flows > 0; n++) {
		uint64_t next = tcp_next_ms(w.table);

		must(next != UINT64_MAX);
		if (next > w.now)
			w.now = next;
		tcp_tick(w.table, w.now);
	}
	must(tcp_table_stats(w.table)->flows == 0);
	must(tcp_table_stats(w.table)->half_open == 0);
	must(tcp_table_stats(w.table)->blocks_used == 0);
	for (unsigned i = 0; i < FLOWS; i++)
		must(w.peers[i].f == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct net_link_config c = net_link_config_usual(true);
	struct tcp_config config = {
		.flows_max = TABLE,
		.half_open_max = TABLE - 1,
		.blocks = BLOCKS,
		.wide = 1,
		.link = &w.link,
		.out = { .emit = emit },
		.event = event,
	};
	struct span in = span_of(data, size);
	uint8_t first;

	if (!take_u8(&in, &first))
		return 0;
	w = (struct world){ .now = 1000, .accepts = first & 1, .reads = first & 2 };
	for (unsigned i = 0; i < FLOWS; i++)
		w.peers[i].nxt = 0xfffff000 + i;
	net_link_init(&w.link, &c, config.out);
	if (tcp_table_new(&config, &w.table, NULL) < 0)
		return 0;
	for (int n = 0; n < STEPS_MAX; n++) {
		uint8_t kind;

		if (!take_u8(&in, &kind))
			break;
		step(kind, &in);
		check();
	}
	run_out();
	tcp_table_free(w.table);
	return 0;
}
