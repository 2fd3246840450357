/*
 * Two endpoints against each other, over a link that loses, doubles and reorders frames and is full
 * at times, with applications that read and write as they like. A seed decides everything; time is
 * a number. Checked for each: both streams arrive byte for byte, both sides end as they should,
 * nothing is left in either table, and all of it within a bounded time of the model's clock.
 *
 * A seed that fails is named; TCP_MODEL_SEED=n runs it alone.
 */
#include "frames.h"
#include "net/tcp.h"
#include "test.h"

#include <stdlib.h>

enum {
	SEEDS = 200, /* in each of ten tests, as each has a deadline */
	PAIRS_MAX = 6,
	QUEUE_MAX = 4096,
	MODEL_MS_MAX = 30 * 60 * 1000,
};

struct side;

struct stream {
	struct side *side;
	struct tcp_flow *f;
	uint32_t total;   /* to write */
	uint32_t written; /* so far */
	uint32_t read;
	uint32_t other_total;
	uint32_t salt, other_salt;
	bool asked, opened, eof, shut, ended, aborts;
	bool lazy; /* reads only now and then */
	enum tcp_end end;
};

struct flying {
	uint64_t at_ms;
	uint64_t order;
	uint8_t *frame; /* NULL: free */
	size_t len;
	int to;
};

struct side {
	struct net_link link;
	struct tcp_table *table;
	struct stream streams[PAIRS_MAX];
	int index;
	struct model *model;
};

struct model {
	uint64_t random;
	uint64_t now;
	uint64_t order;
	struct side sides[2];
	struct flying queue[QUEUE_MAX];
	unsigned queued;
	unsigned pairs;
	unsigned lose, twice, late, full; /* in 1000 */
	uint16_t mss;
};

static struct model m;
static uint64_t seed_now;

#define CHECK_SEED(cond)                                                                           \
	do {                                                                                       \
		if (!(cond))                                                                       \
			test_fail(__FILE__, __LINE__, "seed %llu: %s",                             \
			          (unsigned long long)seed_now, #cond);                            \
	} while (0)

static uint32_t rnd(uint32_t below)
{
	m.random ^= m.random << 13;
	m.random ^= m.random >> 7;
	m.random ^= m.random << 17;
	return (uint32_t)(m.random >> 20) % below;
}

static bool chance(unsigned in_1000)
{
	return rnd(1000) < in_1000;
}

static uint8_t byte_at(uint32_t salt, uint32_t at)
{
	return (uint8_t)(at * 7 + (at >> 8) + salt);
}

static void fly(int to, const uint8_t *frame, size_t len)
{
	for (unsigned i = 0; i < QUEUE_MAX; i++) {
		struct flying *q = &m.queue[i];

		if (q->frame)
			continue;
		q->frame = malloc(len);
		CHECK(q->frame);
		memcpy(q->frame, frame, len);
		q->len = len;
		q->to = to;
		q->at_ms = m.now + (chance(m.late) ? rnd(60) : 1);
		q->order = m.order++;
		m.queued++;
		return;
	}
}

static bool emit(void *ctx, const struct iovec *iov, unsigned count, size_t bytes)
{
	static uint8_t at[NET_PREFIX_BYTES + NET_FRAME_MAX];
	struct side *s = ctx;
	size_t len = 0;

	if (chance(m.full) || m.queued > QUEUE_MAX - 8)
		return false;
	for (unsigned i = 0; i < count; i++) {
		memcpy(at + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	CHECK_EQ(len, bytes);
	if (chance(m.lose))
		return true;
	fly(!s->index, at + NET_PREFIX_BYTES, len - NET_PREFIX_BYTES);
	if (chance(m.twice))
		fly(!s->index, at + NET_PREFIX_BYTES, len - NET_PREFIX_BYTES);
	return true;
}

static void read_some(struct stream *s, uint32_t most)
{
	struct iovec iov[TCP_READ_IOVS];
	unsigned n = tcp_readable(s->f, iov);
	uint32_t took = 0;

	for (unsigned i = 0; i < n; i++) {
		const uint8_t *at = iov[i].iov_base;

		for (size_t k = 0; k < iov[i].iov_len && took < most; k++, took++)
			if (at[k] != byte_at(s->other_salt, s->read + took))
				test_fail(__FILE__, __LINE__, "seed %llu: byte %u is wrong",
				          (unsigned long long)seed_now, s->read + took);
	}
	s->read += took;
	CHECK(s->read <= s->other_total);
	if (took > 0)
		tcp_consume(s->side->table, s->f, took, m.now);
	if (tcp_at_eof(s->f))
		CHECK_EQ(s->read, s->other_total);
}

static void write_some(struct stream *s)
{
	struct iovec iov[TCP_WRITE_IOVS];
	uint32_t left = s->total - s->written;
	uint32_t want = left > 0 ? 1 + rnd(left) : 0;
	uint32_t put = 0;
	unsigned n;

	if (s->shut || !s->opened)
		return;
	n = want > 0 ? tcp_room(s->side->table, s->f, iov) : 0;
	for (unsigned i = 0; i < n; i++) {
		uint8_t *at = iov[i].iov_base;

		for (size_t k = 0; k < iov[i].iov_len && put < want; k++, put++)
			at[k] = byte_at(s->salt, s->written + put);
	}
	s->written += put;
	if (n > 0)
		tcp_commit(s->side->table, s->f, put, m.now);
	if (s->written == s->total && chance(500)) {
		s->shut = true;
		tcp_shutdown(s->side->table, s->f, m.now);
	}
}

static void event(void *ctx, struct tcp_flow *f, unsigned events, uint64_t now_ms)
{
	struct side *side = ctx;
	struct stream *s = tcp_flow_app(f);

	CHECK_EQ(now_ms, m.now);
	if (events & TCP_EV_SYN) {
		s = &side->streams[tcp_flow_tuple(f)->guest_port - 1000];
		if (s->ended || s->f) { /* a SYN that flew long: its connection is over */
			tcp_abort(side->table, f, m.now);
			return;
		}
		s->f = f;
		tcp_flow_set_app(f, s);
		s->asked = true;
		return;
	}
	CHECK(s && s->f == f && !s->ended);
	if (events & TCP_EV_OPEN)
		s->opened = true;
	if (events & TCP_EV_EOF)
		s->eof = true;
	if (events & TCP_EV_ENDED) {
		s->ended = true;
		s->end = tcp_flow_end(f);
		s->f = NULL;
		return;
	}
	CHECK(!(events & TCP_EV_READABLE) || tcp_readable_bytes(f) > 0);
	if (events & TCP_EV_READABLE && !s->lazy)
		read_some(s, 1 + rnd(70000));
	if (events & TCP_EV_WRITABLE)
		write_some(s);
}

/* Each side is the guest of the other: their link's two ends are exchanged. */
static void make_side(int index)
{
	struct side *s = &m.sides[index];
	struct net_link_config c = net_link_config_usual(false);
	struct tcp_config config = {
		.flows_max = 16,
		.half_open_max = 16,
		.blocks = 3 + rnd(10),
		.wide = rnd(4),
		.hash_key.at = { (uint8_t)rnd(256) },
		.iss_key.at = { (uint8_t)rnd(256), 1 },
		.link = &s->link,
		.out = { .emit = emit, .ctx = s },
		.event = event,
		.ctx = s,
	};

	s->index = index;
	if (index == 1) {
		struct net_link_config other = c;

		c.guest_mac = other.router_mac;
		c.router_mac = other.guest_mac;
		c.guest4 = other.router4;
		c.router4 = other.guest4;
	}
	net_link_init(&s->link, &c, config.out);
	CHECK_OK(tcp_table_new(&config, &s->table, NULL), NULL);
}

static void connect_pair(unsigned i, bool aborts)
{
	struct stream *a = &m.sides[0].streams[i];
	struct stream *b = &m.sides[1].streams[i];
	struct net_tuple t = {
		.guest = net_addr4(100, 96, 0, 2),
		.remote = net_addr4(100, 96, 0, 1),
		.guest_port = 80,
		.remote_port = (uint16_t)(1000 + i),
	};
	uint32_t big = chance(30) ? 900000 : chance(300) ? 150000 : 4000;

	*a = (struct stream){ .side = &m.sides[0], .total = rnd(big), .salt = i };
	*b = (struct stream){ .side = &m.sides[1], .total = rnd(big), .salt = i + 101 };
	a->other_total = b->total;
	b->other_total = a->total;
	a->other_salt = b->salt;
	b->other_salt = a->salt;
	a->lazy = chance(200);
	b->lazy = chance(200);
	a->aborts = aborts;
	CHECK_EQ(tcp_connect(a->side->table, &t, a, m.now, &a->f), 0);
}

static void deliver_one(struct flying *q)
{
	struct side *s = &m.sides[q->to];
	struct net_packet p;
	uint8_t *frame = q->frame;
	bool got = net_link_input(&s->link, span_of(frame, q->len), m.now, &p);

	q->frame = NULL;
	m.queued--;
	CHECK(got && p.proto == NET_PROTO_TCP);
	if (p.tcp.flags & TCP_SYN)
		p.tcp.mss = m.mss;
	tcp_input(s->table, &p, m.now);
	free(frame);
}

/* The frame that is due first, by time and then by order. */
static struct flying *first_flying(void)
{
	struct flying *first = NULL;

	for (unsigned i = 0, seen = 0; i < QUEUE_MAX && seen < m.queued; i++) {
		struct flying *q = &m.queue[i];

		if (!q->frame)
			continue;
		seen++;
		if (!first || q->at_ms < first->at_ms ||
		    (q->at_ms == first->at_ms && q->order < first->order))
			first = q;
	}
	return first;
}

static void act(struct stream *s)
{
	if (!s->f || s->ended)
		return;
	if (s->asked && chance(300)) {
		s->asked = false;
		tcp_accept(s->side->table, s->f, m.now);
	}
	if (!s->opened)
		return;
	if (chance(500))
		write_some(s);
	if (s->f && tcp_readable_bytes(s->f) > 0 && chance(s->lazy ? 100 : 600))
		read_some(s, 1 + rnd(90000));
	if (s->aborts && chance(20)) {
		tcp_abort(s->side->table, s->f, m.now);
		s->ended = true;
		s->f = NULL;
	}
}

static bool all_over(void)
{
	for (int k = 0; k < 2; k++)
		for (unsigned i = 0; i < m.pairs; i++)
			if (!m.sides[k].streams[i].ended)
				return false;
	return true;
}

static void step(void)
{
	struct flying *q = first_flying();
	uint64_t next = m.now + 1 + rnd(20);

	for (int k = 0; k < 2; k++) {
		uint64_t due = tcp_next_ms(m.sides[k].table);

		if (due < next)
			next = due;
	}
	if (q && q->at_ms < next)
		next = q->at_ms;
	if (next > m.now)
		m.now = next;
	for (int n = 0; q && q->at_ms <= m.now && n < 64; n++) {
		deliver_one(q);
		q = first_flying();
	}
	for (int k = 0; k < 2; k++) {
		tcp_tick(m.sides[k].table, m.now);
		if (tcp_blocked(m.sides[k].table) && chance(700))
			tcp_resume(m.sides[k].table, m.now);
		for (unsigned i = 0; i < m.pairs; i++)
			act(&m.sides[k].streams[i]);
	}
}

static void check_end(const struct stream *s, const struct stream *other)
{
	/* an end that was said, but whose last ACK was lost: all had arrived */
	bool arrived = s->eof && s->read == s->other_total && other->read == s->total;

	if (s->aborts || other->aborts)
		return;
	if (s->end != TCP_END_CLOSED && !arrived)
		test_fail(__FILE__, __LINE__, "seed %llu: ended as %d, read %u of %u",
		          (unsigned long long)seed_now, s->end, s->read, s->other_total);
	CHECK_SEED(s->read == s->other_total);
}

static void clean_up(void)
{
	for (unsigned i = 0; i < QUEUE_MAX; i++)
		free(m.queue[i].frame);
	tcp_table_free(m.sides[0].table);
	tcp_table_free(m.sides[1].table);
}

static void run_seed(uint64_t seed)
{
	seed_now = seed;
	m = (struct model){ .random = seed * 0x9e3779b97f4a7c15 + 1, .now = 1000 };
	for (int i = 0; i < 8; i++)
		(void)rnd(2);
	if (!chance(250)) {
		m.lose = rnd(60);
		m.twice = rnd(100);
		m.late = rnd(300);
		m.full = rnd(200);
	}
	m.mss = (uint16_t)(chance(500) ? 65480 : 300 + rnd(3000));
	m.pairs = 1 + rnd(PAIRS_MAX);
	make_side(0);
	make_side(1);
	for (unsigned i = 0; i < m.pairs; i++)
		connect_pair(i, chance(30));
	while (!all_over() && m.now < MODEL_MS_MAX)
		step();
	CHECK_SEED(all_over());
	for (unsigned i = 0; i < m.pairs; i++) {
		check_end(&m.sides[0].streams[i], &m.sides[1].streams[i]);
		check_end(&m.sides[1].streams[i], &m.sides[0].streams[i]);
	}
	for (uint64_t until = m.now + 3000; m.now < until;)
		step();
	for (int k = 0; k < 2; k++) {
		CHECK_SEED(tcp_table_stats(m.sides[k].table)->flows == 0);
		CHECK_SEED(tcp_table_stats(m.sides[k].table)->half_open == 0);
		CHECK_SEED(tcp_table_stats(m.sides[k].table)->blocks_used == 0);
	}
	clean_up();
}

static void run_range(uint64_t range)
{
	const char *one = getenv("TCP_MODEL_SEED");
	uint64_t seed;

	if (one && span_to_u64(span_str(one), &seed)) {
		run_seed(seed);
		return;
	}
	for (seed = 1 + range * SEEDS; seed < 1 + (range + 1) * SEEDS; seed++)
		run_seed(seed);
}

TEST(seeds_0)
{
	run_range(0);
}

TEST(seeds_1)
{
	run_range(1);
}

TEST(seeds_2)
{
	run_range(2);
}

TEST(seeds_3)
{
	run_range(3);
}

TEST(seeds_4)
{
	run_range(4);
}

TEST(seeds_5)
{
	run_range(5);
}

TEST(seeds_6)
{
	run_range(6);
}

TEST(seeds_7)
{
	run_range(7);
}

TEST(seeds_8)
{
	run_range(8);
}

TEST(seeds_9)
{
	run_range(9);
}

TEST_MAIN()
