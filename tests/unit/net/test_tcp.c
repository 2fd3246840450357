/*
 * One endpoint, segment by segment: what a guest sends, and exactly what it gets. The guest's
 * number begins at GUEST_ISS, our own is read from the answer; both are given as distances.
 */
#include "frames.h"
#include "net/tcp.h"
#include "test.h"

#include <errno.h>

enum {
	GUEST_ISS = 0x7ffffff0, /* goes over the signed and then the whole range's end soon */
	SENT_MAX = 4096,
	WINDOW = TCP_BLOCK_BYTES - (1 << TCP_SCALE), /* the most that is told */
};

struct sent {
	struct tcp_segment s;
	struct net_tuple to;
};

static struct net_link link_;
static struct tcp_table *table;
static struct tcp_flow *flow; /* of the last event */
static unsigned events;       /* all, until cleared */
static enum tcp_end ended;
static struct sent sent[SENT_MAX];
static uint8_t sent_data[SENT_MAX][16];
static unsigned sent_count; /* all, until cleared */
static bool full, take_all, no_accept;
static uint8_t got[1 << 20];
static size_t got_len;
static uint64_t now;
static uint32_t ours; /* our first number */
static struct net_tuple tuple;

static bool emit(void *ctx, const struct iovec *iov, unsigned count, size_t bytes)
{
	static uint8_t at[NET_PREFIX_BYTES + NET_FRAME_MAX];
	struct span in = span_of(at, bytes);
	struct sent *s = &sent[sent_count % SENT_MAX];
	struct span frame;
	size_t len = 0;
	struct eth eth;
	struct ip ip;

	(void)ctx;
	if (full)
		return false;
	for (unsigned i = 0; i < count; i++) {
		memcpy(at + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	CHECK_EQ(len, bytes);
	CHECK_EQ(frame_parse(&in, &frame), 0);
	CHECK_EQ(eth_parse(frame, &eth), NET_OK);
	CHECK_EQ(eth.type == NET_TYPE_IP6 ? ip6_parse(eth.payload, &ip)
	                                  : ip4_parse(eth.payload, &ip),
	         NET_OK);
	CHECK_EQ(tcp_parse(&ip, &s->s), NET_OK);
	s->to.guest = ip.dst;
	s->to.remote = ip.src;
	memcpy(sent_data[sent_count % SENT_MAX], s->s.data.at,
	       s->s.data.len < 16 ? s->s.data.len : 16);
	sent_count++;
	return true;
}

static void take(struct tcp_flow *f)
{
	struct iovec iov[TCP_READ_IOVS];
	unsigned n = tcp_readable(f, iov);
	size_t took = 0;

	for (unsigned i = 0; i < n; i++) {
		memcpy(got + got_len, iov[i].iov_base, iov[i].iov_len);
		got_len += iov[i].iov_len;
		took += iov[i].iov_len;
	}
	tcp_consume(table, f, took, now);
}

static void event(void *ctx, struct tcp_flow *f, unsigned e, uint64_t now_ms)
{
	(void)ctx;
	CHECK_EQ(now_ms, now);
	flow = f;
	events |= e;
	if (e & TCP_EV_SYN && !no_accept)
		tcp_accept(table, f, now);
	if (e & TCP_EV_READABLE && take_all)
		take(f);
	if (e & TCP_EV_ENDED)
		ended = tcp_flow_end(f);
}

static void begin_with(uint32_t flows, uint32_t half_open, uint32_t blocks)
{
	struct net_link_config c = net_link_config_usual(true);
	struct tcp_config config = {
		.flows_max = flows,
		.half_open_max = half_open,
		.blocks = blocks,
		.wide = 1,
		.iss_key.at = { 7 },
		.link = &link_,
		.out = { .emit = emit },
		.event = event,
	};

	net_link_init(&link_, &c, config.out);
	CHECK_OK(tcp_table_new(&config, &table, NULL), NULL);
	tuple = frame_tuple(false);
	take_all = true;
	now = 1000000;
}

static void begin(void)
{
	begin_with(64, 64, 8);
}

static void clear(void)
{
	sent_count = 0;
	events = 0;
}

/* A segment of the guest: numbers are distances from the two first ones; data is text. */
static void input_window(uint8_t flags, uint32_t seq, uint32_t ack, const char *data,
                         uint16_t window)
{
	struct net_packet p = { .proto = NET_PROTO_TCP, .tuple = tuple };

	clear();
	p.tcp = (struct tcp_segment){
		.src_port = tuple.guest_port,
		.dst_port = tuple.remote_port,
		.seq = GUEST_ISS + seq,
		.ack = ours + ack,
		.flags = flags,
		.window = window,
		.data = span_str(data),
	};
	if (flags & TCP_SYN) {
		p.tcp.mss = 65480;
		p.tcp.has_scale = true;
		p.tcp.scale = 0;
	}
	tcp_input(table, &p, now);
}

static void input(uint8_t flags, uint32_t seq, uint32_t ack, const char *data)
{
	input_window(flags, seq, ack, data, 60000);
}

/* Segment n that went out since clear(): its flags and distances. */
static void check_sent(unsigned n, uint8_t flags, uint32_t seq, uint32_t ack, size_t len)
{
	CHECK(n < sent_count);
	CHECK_EQ(sent[n].s.flags & ~TCP_PSH, flags);
	CHECK_EQ(sent[n].s.seq - ours, seq);
	if (flags & TCP_ACK)
		CHECK_EQ(sent[n].s.ack - GUEST_ISS, ack);
	CHECK_EQ(sent[n].s.data.len, len);
}

static void open_flow(void)
{
	input(TCP_SYN, 0, 0, "");
	CHECK_EQ(sent_count, 1);
	ours = sent[0].s.seq;
	check_sent(0, TCP_SYN | TCP_ACK, 0, 1, 0);
	input(TCP_ACK, 1, 1, "");
	CHECK_EQ(events, TCP_EV_OPEN);
	CHECK_EQ(sent_count, 0);
}

static void wait_ms(uint64_t ms)
{
	clear();
	now += ms;
	tcp_tick(table, now);
}

static void write_text(const char *text)
{
	clear();
	CHECK_EQ(tcp_write(table, flow, span_str(text), now), span_str(text).len);
}

TEST(a_syn_waits_for_its_verdict)
{
	begin();
	no_accept = true;
	input(TCP_SYN, 0, 0, "");
	CHECK(events == TCP_EV_SYN && sent_count == 0);
	CHECK(net_tuple_equal(tcp_flow_tuple(flow), &tuple));
	input(TCP_SYN, 0, 0, ""); /* it asks again, as it will after a second */
	CHECK(events == 0 && sent_count == 0);
	tcp_accept(table, flow, now);
	CHECK_EQ(sent_count, 1);
	ours = sent[0].s.seq;
	check_sent(0, TCP_SYN | TCP_ACK, 0, 1, 0);
	CHECK(sent[0].s.mss == 65480 && sent[0].s.has_scale && sent[0].s.scale == TCP_SCALE);
	CHECK_EQ(sent[0].s.window, 65535);
	input(TCP_SYN, 0, 0, ""); /* our answer was lost */
	check_sent(0, TCP_SYN | TCP_ACK, 0, 1, 0);
	input(TCP_ACK, 1, 1, "GET /");
	CHECK_EQ(events, TCP_EV_OPEN | TCP_EV_READABLE);
	CHECK_SPAN(span_of(got, got_len), "GET /");
	CHECK_EQ(tcp_table_stats(table)->half_open, 0);
}

TEST(a_refused_syn_gets_a_reset)
{
	begin();
	no_accept = true;
	input(TCP_SYN, 0, 0, "");
	tcp_abort(table, flow, now);
	CHECK_EQ(sent_count, 1);
	CHECK_EQ(sent[0].s.flags, TCP_RST | TCP_ACK);
	CHECK(sent[0].s.seq == 0 && sent[0].s.ack == GUEST_ISS + 1U);
	CHECK_EQ(tcp_table_stats(table)->flows, 0);
	input(TCP_SYN, 0, 0, ""); /* nobody decides: refused in the end */
	wait_ms(TCP_ASKED_MS - 1);
	CHECK_EQ(events, 0);
	wait_ms(1);
	CHECK(events == TCP_EV_ENDED && ended == TCP_END_TIMEOUT && sent_count == 1);
	CHECK_EQ(tcp_table_stats(table)->flows, 0);
}

TEST(segments_of_no_flow)
{
	begin();
	input(TCP_ACK, 5, 77, "data");
	CHECK(sent_count == 1 && sent[0].s.flags == TCP_RST && sent[0].s.seq == 77);
	input(0, 5, 0, "data");
	CHECK(sent_count == 1 && sent[0].s.flags == (TCP_RST | TCP_ACK));
	CHECK_EQ(sent[0].s.ack, GUEST_ISS + 9U);
	input(TCP_RST, 5, 0, "");
	CHECK_EQ(sent_count, 0);
	input(TCP_SYN | TCP_ACK, 5, 3, "");
	CHECK(sent_count == 1 && sent[0].s.flags == TCP_RST && sent[0].s.seq == 3);
	CHECK_EQ(tcp_table_stats(table)->flows, 0);
}

TEST(half_open_storms_are_bounded)
{
	begin_with(64, 16, 8);
	open_flow();
	no_accept = true;
	for (unsigned i = 0; i < 1000; i++) {
		tuple.guest_port = (uint16_t)(1 + i);
		input(TCP_SYN, 0, 0, "");
		CHECK_EQ(events, i < 16 ? TCP_EV_SYN : 0);
		CHECK_EQ(sent_count, i < 16 ? 0 : 1);
	}
	CHECK_EQ(tcp_table_stats(table)->refused_half_open, 984);
	CHECK_EQ(tcp_table_stats(table)->half_open, 16);
	tuple = frame_tuple(false);
	input(TCP_ACK, 1, 1, "still here");
	CHECK_EQ(events, TCP_EV_READABLE);
}

TEST(a_full_table_refuses_new_ones_only)
{
	begin_with(20, 64, 8);
	for (unsigned i = 0; i < 30; i++) {
		tuple.guest_port = (uint16_t)(1 + i);
		if (i < 20) {
			open_flow();
			continue;
		}
		input(TCP_SYN, 0, 0, "");
		CHECK(events == 0 && sent_count == 1 && sent[0].s.flags == (TCP_RST | TCP_ACK));
	}
	CHECK_EQ(tcp_table_stats(table)->refused_table, 10);
}

TEST(l4_8_the_first_bytes_win)
{
	begin();
	open_flow();
	input(TCP_ACK, 1, 1, "abcdef");
	input(TCP_ACK, 1, 1, "ABCDEFGH"); /* the same numbers, other bytes, and two more */
	check_sent(0, TCP_ACK, 1, 9, 0);
	input(TCP_ACK, 3, 1, "XX");
	check_sent(0, TCP_ACK, 1, 9, 0);
	input(TCP_ACK, 7, 1, "??i");
	CHECK_SPAN(span_of(got, got_len), "abcdefGHi");
	CHECK_EQ(tcp_table_stats(table)->overlaps, 2);
}

TEST(l4_8_out_of_order_is_asked_for_again)
{
	begin();
	open_flow();
	input(TCP_ACK, 4, 1, "def");
	CHECK(events == 0 && got_len == 0);
	check_sent(0, TCP_ACK, 1, 1, 0);
	input(TCP_ACK | TCP_FIN, 4, 1, "def"); /* an end that comes too early is none */
	CHECK_EQ(events, 0);
	input(TCP_ACK, 1, 1, "abc");
	input(TCP_ACK | TCP_FIN, 4, 1, "def");
	CHECK_EQ(events, TCP_EV_READABLE | TCP_EV_EOF);
	CHECK_SPAN(span_of(got, got_len), "abcdef");
	CHECK_EQ(tcp_table_stats(table)->out_of_order, 2);
}

TEST(l4_8_urgent_bytes_stay_in_the_stream)
{
	begin();
	open_flow();
	input(TCP_ACK | TCP_URG, 1, 1, "abc!def");
	CHECK_SPAN(span_of(got, got_len), "abc!def");
}

TEST(rst_counts_only_if_exact)
{
	begin();
	open_flow();
	input(TCP_RST, 5, 0, "");
	CHECK_EQ(events, 0);
	check_sent(0, TCP_ACK, 1, 1, 0);
	input(TCP_RST, 6, 0, ""); /* one challenge in a while, not for each */
	CHECK(events == 0 && sent_count == 0);
	input(TCP_RST, 1 + 0x100000, 0, "");
	CHECK(events == 0 && sent_count == 0);
	input(TCP_RST, 0, 0, "");
	CHECK_EQ(events, 0);
	input(TCP_RST, 1, 0, "");
	CHECK(events == TCP_EV_ENDED && ended == TCP_END_RESET && sent_count == 0);
	CHECK_EQ(tcp_table_stats(table)->flows, 0);
}

TEST(syn_and_wild_acks_are_challenged)
{
	begin();
	open_flow();
	input(TCP_SYN, 100, 0, "");
	CHECK_EQ(events, 0);
	check_sent(0, TCP_ACK, 1, 1, 0);
	now += TCP_CHALLENGE_MS;
	input(TCP_ACK, 1, 2, "evil"); /* acknowledges what was never sent: its data is not taken */
	CHECK_EQ(events, 0);
	check_sent(0, TCP_ACK, 1, 1, 0);
	now += TCP_CHALLENGE_MS;
	input(TCP_ACK, 1, 0U - TCP_WIDE_BYTES, "old");
	CHECK_EQ(events, 0);
	input(TCP_PSH, 1, 0, "no ack");
	CHECK(events == 0 && got_len == 0);
	CHECK_EQ(tcp_table_stats(table)->challenges, 3);
}

TEST(a_probe_of_the_guest_is_answered)
{
	begin();
	open_flow();
	input(TCP_ACK, 0, 1, "");
	check_sent(0, TCP_ACK, 1, 1, 0);
}

TEST(acks_wait_a_little)
{
	begin();
	open_flow();
	input(TCP_ACK, 1, 1, "a"); /* the first at once: it opens the window */
	check_sent(0, TCP_ACK, 1, 2, 0);
	CHECK_EQ(sent[0].s.window << TCP_SCALE, WINDOW);
	input(TCP_ACK, 2, 1, "b");
	CHECK_EQ(sent_count, 0);
	wait_ms(TCP_DELAYED_ACK_MS - 1);
	CHECK_EQ(sent_count, 0);
	wait_ms(1);
	check_sent(0, TCP_ACK, 1, 3, 0);
	input(TCP_ACK, 3, 1, "c");
	input(TCP_ACK, 4, 1, "d"); /* every second at once */
	check_sent(0, TCP_ACK, 1, 5, 0);
	input(TCP_ACK, 5, 1, "e");
	write_text("answer"); /* and data takes it along */
	CHECK_EQ(sent_count, 1);
	check_sent(0, TCP_ACK, 1, 6, 6);
	wait_ms(TCP_DELAYED_ACK_MS);
	CHECK_EQ(sent_count, 0);
}

TEST(what_is_lost_is_sent_again_and_given_up)
{
	uint64_t wait = 0;
	unsigned tries = 0;

	begin();
	open_flow();
	write_text("hello");
	check_sent(0, TCP_ACK, 1, 1, 5);
	while (!(events & TCP_EV_ENDED)) {
		uint64_t next = tcp_next_ms(table);

		CHECK(next > now);
		wait = next - now;
		CHECK(wait <= TCP_RTO_MAX_MS);
		wait_ms(wait);
		if (sent_count > 0 && !(events & TCP_EV_ENDED)) {
			tries++;
			check_sent(0, TCP_ACK, 1, 1, 5);
			CHECK(memcmp(sent_data[0], "hello", 5) == 0);
		}
	}
	CHECK_EQ(tries, TCP_RETRIES_MAX);
	CHECK_EQ(ended, TCP_END_TIMEOUT);
	CHECK_EQ(sent[0].s.flags, TCP_RST | TCP_ACK);
	CHECK_EQ(tcp_table_stats(table)->blocks_used, 0);
}

TEST(a_syn_answer_is_sent_again_and_given_up)
{
	unsigned count = 0;

	begin();
	input(TCP_SYN, 0, 0, "");
	events = 0;
	for (int i = 0; i < 600 && !(events & TCP_EV_ENDED); i++) {
		wait_ms(100);
		count += sent_count;
	}
	CHECK(ended == TCP_END_TIMEOUT && count == TCP_SYN_RETRIES_MAX + 1);
	CHECK_EQ(tcp_table_stats(table)->half_open, 0);
}

TEST(a_closed_window_is_probed)
{
	begin();
	open_flow();
	input_window(TCP_ACK, 1, 1, "x", 3);
	write_text("hello");
	CHECK_EQ(sent_count, 0); /* too little of it would fit to be worth a segment */
	wait_ms(1000);
	check_sent(0, TCP_ACK, 1, 2, 3);
	input_window(TCP_ACK, 2, 4, "", 0);
	CHECK_EQ(sent_count, 0);
	for (int i = 0; i < 100; i++) { /* for as long as the guest answers */
		unsigned n = 0;

		for (int k = 0; k < 110 && n == 0; k++) {
			wait_ms(100);
			n = sent_count;
		}
		check_sent(0, TCP_ACK, 3, 2, 0);
		input_window(TCP_ACK, 2, 4, "", 0);
		CHECK(events == 0 && sent_count == 0);
	}
	input_window(TCP_ACK, 2, 4, "", 100);
	check_sent(0, TCP_ACK, 4, 2, 2);
	CHECK(memcmp(sent_data[0], "lo", 2) == 0);
}

TEST(what_was_lost_goes_again_by_crumbs)
{
	begin();
	open_flow();
	write_text("hello");
	check_sent(0, TCP_ACK, 1, 1, 5);
	input_window(TCP_ACK, 1, 1, "x", 3); /* it was lost, and less fits now than was sent */
	wait_ms(TCP_RTO_FIRST_MS);
	check_sent(0, TCP_ACK, 1, 2, 3);
	input_window(TCP_ACK, 2, 4, "", 1);
	wait_ms(TCP_RTO_FIRST_MS);
	check_sent(0, TCP_ACK, 4, 2, 1);
	input(TCP_ACK, 2, 5, "");
	check_sent(0, TCP_ACK, 5, 2, 1);
	input(TCP_ACK, 2, 6, "");
	CHECK_EQ(tcp_table_stats(table)->blocks_used, 0);
}

/* Both have lost the other's ACK: each sends again what the other has, and hears from that. */
TEST(old_segments_still_acknowledge)
{
	begin();
	open_flow();
	input(TCP_ACK, 1, 1, "abc");
	write_text("hello");
	input(TCP_ACK, 1, 6, "abc");
	check_sent(0, TCP_ACK, 6, 4, 0);
	CHECK_EQ(tcp_table_stats(table)->blocks_used, 0);
	CHECK_EQ(tcp_table_stats(table)->bytes_out, 5);
	CHECK_SPAN(span_of(got, got_len), "abc");
}

TEST(our_window_closes_and_opens)
{
	static char text[20001];
	struct tcp_flow_info info;
	uint32_t seq = 1;

	begin();
	open_flow();
	take_all = false;
	memset(text, 'x', 20000);
	for (int i = 0; i < 20; i++) {
		input(TCP_ACK, seq, 1, text);
		seq += 20000;
	}
	tcp_flow_info(flow, &info);
	CHECK_EQ(info.unread, WINDOW); /* no more, whatever is sent */
	CHECK_EQ(sent[0].s.window, 0);
	check_sent(0, TCP_ACK, 1, 1 + WINDOW, 0);
	clear();
	tcp_consume(table, flow, 1000, now);
	CHECK_EQ(sent_count, 0); /* a crumb is no window */
	tcp_consume(table, flow, TCP_BLOCK_BYTES / 2, now);
	CHECK_EQ(sent_count, 1);
	CHECK(sent[0].s.window << TCP_SCALE >= TCP_BLOCK_BYTES / 2);
	tcp_consume(table, flow, tcp_readable_bytes(flow), now);
	CHECK_EQ(tcp_table_stats(table)->blocks_used, 0);
}

TEST(no_ring_left_is_a_loss_and_not_an_end)
{
	begin_with(8, 8, 2);
	take_all = false;
	for (uint16_t i = 0; i < 3; i++) {
		tuple.guest_port = (uint16_t)(100 + i);
		open_flow();
		input(TCP_ACK | TCP_FIN, 1, 1, "data");
		CHECK_EQ(events, i < 2 ? TCP_EV_READABLE | TCP_EV_EOF : TCP_EV_READABLE);
		CHECK_EQ(sent[0].s.ack - GUEST_ISS, i < 2 ? 6 : 1);
	}
	CHECK_EQ(tcp_table_stats(table)->no_block, 1);
	take_all = true; /* in place it needs none */
	input(TCP_ACK | TCP_FIN, 1, 1, "data");
	CHECK_EQ(events, TCP_EV_READABLE | TCP_EV_EOF);
	CHECK_SPAN(span_of(got, got_len), "data");
}

TEST(writers_wait_for_rings_in_turn)
{
	struct tcp_flow *flows[3];
	struct iovec iov[2];

	begin_with(8, 8, 2);
	for (uint16_t i = 0; i < 3; i++) {
		tuple.guest_port = (uint16_t)(100 + i);
		open_flow();
		flows[i] = flow;
		CHECK_EQ(tcp_room(table, flow, iov), i < 2 ? 1 : 0);
	}
	CHECK(tcp_next_ms(table) > now);
	clear();
	tcp_commit(table, flows[0], 0, now); /* it had nothing to say */
	CHECK_EQ(tcp_next_ms(table), 0);
	CHECK_EQ(events, 0); /* no call calls back */
	tcp_tick(table, now);
	CHECK(events == TCP_EV_WRITABLE && flow == flows[2]);
	CHECK_EQ(tcp_room(table, flow, iov), 1);
}

TEST(a_full_ring_and_a_slow_guest)
{
	static uint8_t data[TCP_WIDE_BYTES + 1];
	struct iovec iov[2];

	begin();
	open_flow(); /* it has the one wide ring */
	CHECK_EQ(tcp_write(table, flow, span_of(data, sizeof(data)), now), TCP_WIDE_BYTES);
	tuple.guest_port++;
	open_flow();
	clear();
	CHECK_EQ(tcp_write(table, flow, span_of(data, sizeof(data)), now), TCP_BLOCK_BYTES);
	CHECK_EQ(tcp_room(table, flow, iov), 0);
	CHECK(sent_count == 1 && sent[0].s.data.len == 60000); /* its window */
	input(TCP_ACK, 1, 60001, "");
	CHECK(events == 0 && sent_count == 1);
	input(TCP_ACK, 1, 120001, "");
	CHECK_EQ(events, TCP_EV_WRITABLE);
}

TEST(a_full_socket_of_the_guest)
{
	begin();
	open_flow();
	full = true;
	write_text("hello");
	CHECK(sent_count == 0 && tcp_blocked(table));
	wait_ms(60000); /* it does not count against the guest */
	CHECK_EQ(events, 0);
	tcp_resume(table, now);
	CHECK(tcp_blocked(table));
	full = false;
	tcp_resume(table, now);
	check_sent(0, TCP_ACK, 1, 1, 5);
	CHECK(!tcp_blocked(table));
}

TEST(ends_in_every_order)
{
	begin();
	open_flow(); /* the guest first */
	input(TCP_ACK | TCP_FIN, 1, 1, "bye");
	CHECK_EQ(events, TCP_EV_READABLE | TCP_EV_EOF);
	check_sent(0, TCP_ACK, 1, 5, 0);
	write_text("and more");
	check_sent(0, TCP_ACK, 1, 5, 8);
	clear();
	tcp_shutdown(table, flow, now);
	check_sent(0, TCP_ACK | TCP_FIN, 9, 5, 0);
	input(TCP_ACK, 5, 10, "");
	CHECK(events == TCP_EV_ENDED && ended == TCP_END_CLOSED);
	CHECK_EQ(tcp_table_stats(table)->flows, 0);

	open_flow(); /* we first: TIME_WAIT is ours, and short */
	clear();
	tcp_shutdown(table, flow, now);
	check_sent(0, TCP_ACK | TCP_FIN, 1, 1, 0);
	input(TCP_ACK, 1, 2, "late data");
	CHECK_EQ(events, TCP_EV_READABLE);
	input(TCP_ACK | TCP_FIN, 10, 2, "");
	CHECK_EQ(events, TCP_EV_EOF | TCP_EV_ENDED);
	CHECK_EQ(tcp_table_stats(table)->flows, 1);
	input(TCP_ACK | TCP_FIN, 10, 2, ""); /* our last ACK was lost */
	check_sent(0, TCP_ACK, 2, 11, 0);
	wait_ms(TCP_TIME_WAIT_MS);
	CHECK_EQ(tcp_table_stats(table)->flows, 0);

	open_flow(); /* both at once */
	clear();
	tcp_shutdown(table, flow, now);
	input(TCP_ACK | TCP_FIN, 1, 1, "");
	CHECK_EQ(events, TCP_EV_EOF);
	input(TCP_ACK, 2, 2, "");
	CHECK_EQ(events, TCP_EV_ENDED);
	wait_ms(TCP_TIME_WAIT_MS);
	CHECK_EQ(tcp_table_stats(table)->flows, 0);
}

TEST(the_end_waits_for_the_last_byte)
{
	begin();
	open_flow();
	take_all = false;
	input(TCP_ACK | TCP_FIN, 1, 1, "bytes");
	tcp_shutdown(table, flow, now);
	input(TCP_ACK, 7, 2, "");
	CHECK(events == 0 && tcp_readable_bytes(flow) == 5 && !tcp_at_eof(flow));
	input(TCP_RST, 7, 0, ""); /* too late to take anything back */
	CHECK_EQ(events, 0);
	take(flow);
	CHECK(tcp_at_eof(flow) && events == 0);
	CHECK(tcp_next_ms(table) <= now);
	tcp_tick(table, now);
	CHECK(events == TCP_EV_ENDED && ended == TCP_END_CLOSED);
}

TEST(time_wait_gives_way)
{
	begin_with(4, 4, 8);
	for (uint16_t i = 0; i < 4; i++) {
		tuple.guest_port = (uint16_t)(100 + i);
		open_flow();
		tcp_shutdown(table, flow, now);
		input(TCP_ACK | TCP_FIN, 1, 2, "");
		CHECK(events & TCP_EV_ENDED);
	}
	CHECK_EQ(tcp_table_stats(table)->flows, 4);
	tuple.guest_port = 200; /* the table is full of ends: the oldest goes */
	open_flow();
	CHECK_EQ(tcp_table_stats(table)->flows, 4);
	tuple.guest_port = 102; /* the same name again, with a higher number */
	clear();
	struct net_packet p = { .proto = NET_PROTO_TCP, .tuple = tuple };

	p.tcp = (struct tcp_segment){ .src_port = 102,
		                      .dst_port = 443,
		                      .flags = TCP_SYN,
		                      .seq = GUEST_ISS + 1000U,
		                      .window = 100 };
	tcp_input(table, &p, now);
	CHECK_EQ(events, TCP_EV_SYN);
	CHECK_EQ(sent[0].s.flags, TCP_SYN | TCP_ACK);
}

TEST(keepalive_finds_who_is_gone)
{
	unsigned probes = 0;

	begin();
	open_flow();
	wait_ms(TCP_KEEPALIVE_MS - 1);
	CHECK_EQ(sent_count, 0);
	wait_ms(1);
	check_sent(0, TCP_ACK, 0, 1, 0);
	input(TCP_ACK, 1, 1, ""); /* it lives: all begins anew */
	for (int i = 0; i < 100 && !(events & TCP_EV_ENDED); i++) {
		wait_ms(TCP_KEEPALIVE_EVERY_MS);
		probes += sent_count == 1 && sent[0].s.flags == TCP_ACK;
	}
	CHECK(ended == TCP_END_TIMEOUT && probes == TCP_KEEPALIVE_TRIES);
}

TEST(first_numbers_are_not_to_be_foretold)
{
	uint32_t first;

	begin();
	open_flow();
	first = ours;
	tcp_abort(table, flow, now);
	now += 4;
	open_flow();
	CHECK_EQ(ours - first, 1000); /* the same name: later, so higher */
	first = ours;
	tuple.guest_port++;
	open_flow();
	CHECK(ours - first > 100000); /* another: elsewhere */
}

TEST(we_connect_to_the_guest)
{
	struct tcp_flow *f = NULL;
	int app;

	for (int both = 0; both < 2; both++) {
		begin();
		clear();
		CHECK_EQ(tcp_connect(table, &tuple, &app, now, &f), 0);
		CHECK_EQ(tcp_connect(table, &tuple, &app, now, &f), -EEXIST);
		CHECK(sent_count == 1 && sent[0].s.flags == TCP_SYN);
		ours = sent[0].s.seq;
		input(TCP_RST | TCP_ACK, 0, 9, ""); /* for another's SYN */
		CHECK_EQ(events, 0);
		if (both) { /* the guest has the same idea */
			input(TCP_SYN, 0, 0, "");
			check_sent(0, TCP_SYN | TCP_ACK, 0, 1, 0);
			input(TCP_ACK, 1, 1, "");
		} else {
			input(TCP_SYN | TCP_ACK, 0, 1, "");
			check_sent(0, TCP_ACK, 1, 1, 0);
		}
		CHECK(events == TCP_EV_OPEN && flow == f && tcp_flow_app(f) == &app);
		tcp_table_free(table);
	}
	begin();
	clear();
	CHECK_EQ(tcp_connect(table, &tuple, &app, now, &f), 0);
	ours = sent[0].s.seq;
	input(TCP_RST | TCP_ACK, 0, 1, "");
	CHECK(events == TCP_EV_ENDED && ended == TCP_END_REFUSED);
}

TEST(ten_thousand_idle_connections)
{
	const struct tcp_stats *s;

	begin_with(TCP_FLOWS_MAX, 64, 2);
	s = tcp_table_stats(table);
	for (unsigned i = 0; i < 10000; i++) {
		tuple.guest_port = (uint16_t)(1 + i);
		open_flow();
		write_text("request");
		input(TCP_ACK, 1, 8, "answer");
	}
	CHECK(s->flows == 10000 && s->blocks_used == 0);
	/* flows, buckets and heap of the longest table together */
	CHECK(TCP_FLOWS_MAX * (TCP_FLOW_BYTES_MAX + 4 + 4) < 8 << 20);
	wait_ms(TCP_KEEPALIVE_MS / 2);
	CHECK(sent_count < 20000);
}

TEST(limits_are_checked)
{
	const uint32_t bad[][4] = { { 0, 1, 2 },   { TCP_FLOWS_MAX + 1, 1, 2 },
		                    { 1, 0, 2 },   { 1, TCP_HALF_OPEN_MAX + 1, 2 },
		                    { 1, 1, 1 },   { 1, 1, TCP_BLOCKS_MAX + 1 },
		                    { 1, 1, 2, 3 } };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct tcp_config c = { .flows_max = bad[i][0],
			                .half_open_max = bad[i][1],
			                .blocks = bad[i][2],
			                .wide = bad[i][3] };
		struct tcp_table *t = NULL;
		struct err e = { 0 };

		CHECK_EQ(tcp_table_new(&c, &t, &e), -EINVAL);
		CHECK(t == NULL && e.text[0] != '\0');
	}
}

TEST_MAIN()
