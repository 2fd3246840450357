/* Bytes through the console: in order, in bulk, against a slow reader, and beside each other. */
#include "console_rig.h"

#include <sys/eventfd.h>
#include <sys/mman.h>

enum {
	PIECES = 5, /* of a chain: a header, pages, and a rest */
	RING = 64,  /* chains under way */
	CHAIN_BYTES = 16 + 3 * RIG_PAGE + 100,
	BULK_BYTES = 16 << 20,
};

static uint8_t byte_at(uint64_t off)
{
	return (uint8_t)((off * 2654435761u) >> 13);
}

static void put_pattern(uint8_t *to, uint64_t off, size_t len)
{
	for (size_t i = 0; i < len; i++)
		to[i] = byte_at(off + i);
}

static void check_pattern(const uint8_t *at, uint64_t off, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (at[i] != byte_at(off + i))
			test_fail(__FILE__, __LINE__, "byte %ju differs", (uintmax_t)off + i);
}

/* A sanitizer keeps books of its own, in memory, about what is touched and freed. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { GROWTH_MAX = 16 << 20 };
#define GROWTH_MAX_SET
#endif
#endif
#ifndef GROWTH_MAX_SET
enum { GROWTH_MAX = 1 << 20 };
#endif

static uint64_t resident_bytes(void)
{
	char text[128];
	_own_fd_ int fd = -1;
	struct span in;
	struct span word;
	uint64_t pages;
	ssize_t n;

	CHECK_EQ(fd_open("/proc/self/statm", O_RDONLY, 0, &fd, NULL), 0);
	n = read(fd, text, sizeof(text));
	CHECK(n > 0);
	in = span_of(text, (size_t)n);
	CHECK(take_until(&in, ' ', &word) && take_until(&in, ' ', &word) &&
	      span_to_u64(word, &pages));
	return pages * RIG_PAGE;
}

/* -- guest to host --------------------------------------------------------------------------------
 */

struct stream {
	struct rig *rig;
	uint64_t mem; /* RING chains' memory */
	uint64_t put, got, end;
	unsigned under_way;
};

static void put_chain(struct stream *s)
{
	static const uint32_t lens[PIECES] = { 16, RIG_PAGE, RIG_PAGE, RIG_PAGE, 100 };
	uint64_t at = s->mem + s->put / CHAIN_BYTES % RING * CHAIN_BYTES;
	struct vbuf b[PIECES];

	put_pattern(vdriver_at(&s->rig->d, at, CHAIN_BYTES), s->put, CHAIN_BYTES);
	for (unsigned i = 0; i < PIECES; i++) {
		b[i] = (struct vbuf){ .at = at, .len = lens[i] };
		at += lens[i];
	}
	(void)vdriver_add(&s->rig->d, RIG_AGENT_TX, b, PIECES);
	s->put += CHAIN_BYTES;
	s->under_way++;
}

static void collect(struct stream *s)
{
	uint16_t head;
	uint32_t len;

	while (vdriver_used(&s->rig->d, RIG_AGENT_TX, &head, &len)) {
		CHECK_EQ(len, 0);
		s->under_way--;
	}
}

/* One read of what is there; up to `most` bytes. */
static void read_some(struct stream *s, size_t most)
{
	static uint8_t got[256 << 10];
	struct pollfd p = { .fd = s->rig->agent, .events = POLLIN };
	ssize_t n;

	CHECK_EQ(poll(&p, 1, VDRIVER_WAIT_MS), 1);
	n = read(s->rig->agent, got, most < sizeof(got) ? most : sizeof(got));
	CHECK(n > 0);
	check_pattern(got, s->got, (size_t)n);
	s->got += (uint64_t)n;
}

TEST(output_arrives_whole_and_in_order)
{
	static const size_t most[] = { 1, 100, 4096, 65536, 262144, 7 };
	struct stream s = { .end = (uint64_t)BULK_BYTES / CHAIN_BYTES * CHAIN_BYTES };
	struct rig r;
	unsigned n = 0;

	rig_start(&r);
	s.rig = &r;
	s.mem = vdriver_alloc(&r.d, (uint64_t)RING * CHAIN_BYTES, 8);
	while (s.got < s.end) {
		/* 256 descriptors: 51 chains of five */
		while (s.put < s.end && s.under_way < 50)
			put_chain(&s);
		vdriver_kick(&r.d, RIG_AGENT_TX);
		read_some(&s, most[n++ % 6]);
		collect(&s);
	}
	rig_collect(&r, RIG_AGENT_TX);
	CHECK_EQ(rig_counts(&r).agent_sent, s.end);
	CHECK_EQ(rig_counts(&r).agent_dropped, 0);
	rig_fini(&r);
}

TEST(chains_of_nothing_are_given_back)
{
	struct vbuf b[3] = { { .len = 0 }, { .len = 3 }, { .len = 8, .writable = true } };
	struct rig r;

	rig_start(&r);
	for (unsigned i = 0; i < 3; i++)
		b[i].at = vdriver_alloc(&r.d, 8, 8);
	memcpy(vdriver_at(&r.d, b[1].at, 3), "abc", 3);
	CHECK_EQ(rig_request(&r, RIG_AGENT_TX, &b[0], 1), 0);
	CHECK_EQ(rig_request(&r, RIG_AGENT_TX, &b[2], 1), 0);
	CHECK_EQ(rig_request(&r, RIG_AGENT_TX, b, 3), 0);
	CHECK_EQ(rig_request(&r, RIG_LOG_TX, &b[0], 1), 0);
	rig_read_text(r.agent, "abc");
	CHECK(rig_nothing_to_read(r.agent));
	rig_fini(&r);
}

TEST(many_chains_cost_one_wake_up)
{
	struct vbuf b = { .len = 100 };
	struct rig r;
	uint8_t got[20000];

	rig_start(&r);
	b.at = vdriver_alloc(&r.d, 100, 1);
	for (int i = 0; i < 200; i++)
		(void)vdriver_add(&r.d, RIG_AGENT_TX, &b, 1);
	vdriver_set_used_event(&r.d, RIG_AGENT_TX, 0);
	vdriver_kick(&r.d, RIG_AGENT_TX);
	rig_read(r.agent, got, 20000);
	rig_collect(&r, RIG_AGENT_TX);
	while (vdriver_interrupt(&r.d, 0) != 0)
		;
	CHECK(r.d.interrupts <= 12); /* ten of them before the first byte */
	rig_fini(&r);
}

TEST(output_waits_in_the_queue_for_a_slow_host)
{
	struct stream s = { 0 };
	struct rig r;
	uint64_t before;
	unsigned used;

	rig_start(&r);
	s.rig = &r;
	s.mem = vdriver_alloc(&r.d, (uint64_t)RING * CHAIN_BYTES, 8);
	memset(vdriver_at(&r.d, s.mem, (uint64_t)RING * CHAIN_BYTES), 1,
	       (size_t)RING * CHAIN_BYTES);
	before = resident_bytes(); /* the guest's own memory, just touched, is none of ours */
	for (unsigned i = 0; i < 50; i++)
		put_chain(&s);
	for (int i = 0; i < 50; i++) {
		vdriver_kick(&r.d, RIG_AGENT_TX); /* as often as it likes */
		(void)rig_counts(&r);
	}
	collect(&s);
	used = 50 - s.under_way;
	CHECK(used > 0 && used < 50);
	CHECK_EQ(rig_counts(&r).agent_sent / CHAIN_BYTES, used);
	CHECK(resident_bytes() - before < GROWTH_MAX);
	/* the other port does not know of it, nor does the other direction */
	rig_send(&r, RIG_LOG_TX, "still here");
	rig_read_text(r.log[0], "still here");
	rig_offer(&r, RIG_AGENT_RX, RIG_PAGE);
	vdriver_kick(&r.d, RIG_AGENT_RX);
	CHECK_EQ(send(r.agent, "and here", 8, 0), 8);
	rig_collect(&r, RIG_AGENT_RX);
	while (s.got < s.put)
		read_some(&s, SIZE_MAX);
	rig_collect(&r, RIG_AGENT_TX);
	rig_fini(&r);
}

TEST(a_reset_forgets_what_was_under_way)
{
	struct stream s = { 0 };
	struct rig r;

	rig_start(&r);
	s.rig = &r;
	s.mem = vdriver_alloc(&r.d, (uint64_t)RING * CHAIN_BYTES, 8);
	for (unsigned i = 0; i < 50; i++)
		put_chain(&s);
	vdriver_kick(&r.d, RIG_AGENT_TX);
	(void)rig_counts(&r);
	vdriver_reset(&r.d);
	s.put = rig_counts(&r).agent_sent;
	while (s.got < s.put)
		read_some(&s, SIZE_MAX);
	rig_meet(&r);
	rig_expect(&r, 1, EV_PORT_OPEN, 1);
	rig_send(&r, RIG_AGENT_TX, "anew");
	rig_read_text(r.agent, "anew");
	rig_fini(&r);
}

/* -- host to guest --------------------------------------------------------------------------------
 */

/* Takes one used receive buffer, checks it, offers it again. */
static void take_page(struct stream *s)
{
	struct vbuf b = { .len = RIG_PAGE, .writable = true };
	struct rig *r = s->rig;
	uint16_t head;
	uint32_t len;

	CHECK(rig_wait_used(r, RIG_AGENT_RX, &head, &len));
	CHECK(len > 0 && len <= RIG_PAGE);
	b.at = r->buf[RIG_AGENT_RX][head];
	check_pattern(vdriver_at(&r->d, b.at, len), s->got, len);
	s->got += len;
	r->buf[RIG_AGENT_RX][vdriver_add(&r->d, RIG_AGENT_RX, &b, 1)] = b.at;
}

TEST(input_arrives_whole_and_in_order)
{
	static uint8_t chunk[100000];
	struct stream s = { .end = BULK_BYTES };
	struct rig r;

	rig_start(&r);
	s.rig = &r;
	for (int i = 0; i < 64; i++)
		rig_offer(&r, RIG_AGENT_RX, RIG_PAGE);
	while (s.got < s.end) {
		size_t len = s.end - s.put < sizeof(chunk) ? s.end - s.put : sizeof(chunk);
		ssize_t n;

		put_pattern(chunk, s.put, len);
		n = len > 0 ? send(r.agent, chunk, len, MSG_DONTWAIT) : 0;
		CHECK(n >= 0 || errno == EAGAIN);
		s.put += n > 0 ? (uint64_t)n : 0;
		take_page(&s);
		vdriver_kick(&r.d, RIG_AGENT_RX);
	}
	CHECK_EQ(rig_counts(&r).agent_received, s.end);
	rig_fini(&r);
}

TEST(the_socket_is_not_read_before_the_guest_has_opened_the_port)
{
	struct rig r;
	uint16_t head;
	uint32_t len;

	rig_init(&r, true);
	vdriver_start(&r.d, r.dev);
	CHECK_EQ(send(r.agent, "early", 5, 0), 5);
	rig_meet(&r);
	rig_expect(&r, 1, EV_PORT_OPEN, 1);
	rig_offer(&r, RIG_AGENT_RX, RIG_PAGE);
	vdriver_kick(&r.d, RIG_AGENT_RX);
	CHECK_EQ(rig_counts(&r).agent_received, 0);
	rig_say(&r, 1, EV_PORT_OPEN, 1);
	CHECK(rig_wait_used(&r, RIG_AGENT_RX, &head, &len));
	CHECK_EQ(len, 5);

	/* nor after it has closed it */
	rig_offer(&r, RIG_AGENT_RX, RIG_PAGE);
	rig_say(&r, 1, EV_PORT_OPEN, 0);
	CHECK_EQ(send(r.agent, "late", 4, 0), 4);
	CHECK_EQ(rig_counts(&r).agent_received, 5);
	rig_say(&r, 1, EV_PORT_OPEN, 1);
	CHECK(rig_wait_used(&r, RIG_AGENT_RX, &head, &len));
	CHECK_EQ(len, 4);
	rig_fini(&r);
}

TEST(a_host_flood_waits_for_buffers)
{
	static uint8_t chunk[65536];
	struct stream s = { 0 };
	struct rig r;
	uint64_t before;
	uint64_t sent = 0;
	uint64_t calls;
	ssize_t n;

	rig_start(&r);
	s.rig = &r;
	rig_offer(&r, RIG_AGENT_RX, RIG_PAGE);
	vdriver_kick(&r.d, RIG_AGENT_RX);
	before = resident_bytes();
	for (;;) {
		put_pattern(chunk, sent, sizeof(chunk));
		n = send(r.agent, chunk, sizeof(chunk), MSG_DONTWAIT);
		if (n <= 0)
			break;
		sent += (uint64_t)n;
	}
	take_page(&s); /* and offers it again, without telling */
	calls = rig_counts(&r).agent_received;
	CHECK(calls <= 2 * RIG_PAGE);
	CHECK(resident_bytes() - before < GROWTH_MAX);
	for (int i = 0; i < 300; i++) { /* its own output moves meanwhile */
		rig_send(&r, RIG_AGENT_TX, "out");
		rig_read_text(r.agent, "out");
	}
	while (s.got < sent) {
		vdriver_kick(&r.d, RIG_AGENT_RX);
		take_page(&s);
	}
	rig_fini(&r);
}

TEST(a_receive_buffer_of_nothing_breaks_the_device)
{
	struct vbuf b = { .len = 8 };
	struct rig r;

	rig_start(&r);
	b.at = vdriver_alloc(&r.d, 8, 8);
	(void)vdriver_add(&r.d, RIG_AGENT_RX, &b, 1); /* for the device to read */
	CHECK_EQ(send(r.agent, "x", 1, 0), 1);
	CHECK(vdriver_wait_needs_reset(&r.d));
	(void)close(r.agent); /* and nothing of that is looked at any more */
	r.agent = -1;
	rig_meet(&r);
	rig_expect(&r, 1, EV_PORT_OPEN, 1);
	rig_fini(&r);
}

/* Far more than the count of calls says that it is another code. */
#define WRONG_CODE (UINT64_C(1) << 40)

static void on_lost(void *arg, int code)
{
	const uint64_t word = code == -EFAULT ? 1 : WRONG_CODE;

	CHECK_EQ(write(*(int *)arg, &word, sizeof(word)), (ssize_t)sizeof(word));
}

/* Memory that the host cannot give is nobody's broken rule, nor the end of the port. */
TEST(memory_that_the_host_cannot_give_is_told)
{
	for (unsigned queue = RIG_AGENT_RX; queue <= RIG_AGENT_TX; queue++) {
		int told = eventfd(0, EFD_CLOEXEC);
		struct vbuf b = { .len = RIG_PAGE, .writable = queue == RIG_AGENT_RX };
		uint64_t word = 0;
		struct rig r;

		rig_start(&r);
		r.dev->lost_arg = &told;
		r.dev->lost = on_lost;
		b.at = vdriver_alloc(&r.d, RIG_PAGE, RIG_PAGE);
		CHECK_EQ(mprotect(vdriver_at(&r.d, b.at, RIG_PAGE), RIG_PAGE, PROT_NONE), 0);
		(void)vdriver_add(&r.d, queue, &b, 1);
		vdriver_kick(&r.d, queue);
		if (queue == RIG_AGENT_RX)
			CHECK_EQ(send(r.agent, "x", 1, 0), 1);
		CHECK_EQ(read(told, &word, sizeof(word)), (ssize_t)sizeof(word));
		CHECK(word > 0 && word < WRONG_CODE);
		CHECK(!vdriver_needs_reset(&r.d));
		CHECK(rig_silent(&r));
		rig_fini(&r);
		(void)close(told);
	}
}

TEST(malformed_chains_break_the_device)
{
	static const unsigned queues[] = { RIG_LOG_TX, RIG_CONTROL_TX, RIG_AGENT_TX, RIG_AGENT_RX };

	for (unsigned i = 0; i < 4; i++) {
		struct rig r;

		rig_start(&r);
		vdriver_desc(&r.d, queues[i], 3, vdriver_alloc(&r.d, 8, 8), 8,
		             queues[i] == RIG_AGENT_RX ? 3 : 1, 3); /* its own successor */
		vdriver_avail(&r.d, queues[i], 3);
		vdriver_kick(&r.d, queues[i]);
		CHECK_EQ(send(r.agent, "x", 1, 0), 1);
		CHECK(vdriver_wait_needs_reset(&r.d));
		rig_meet(&r);
		rig_fini(&r);
	}
}

/* -- the log --------------------------------------------------------------------------------------
 */

TEST(a_full_log_drops_and_counts)
{
	struct vbuf b = { .len = RIG_PAGE };
	struct console_counts c;
	struct rig r;
	static uint8_t got[1 << 20];
	ssize_t n;

	rig_start(&r);
	b.at = vdriver_alloc(&r.d, RIG_PAGE, 8);
	memset(vdriver_at(&r.d, b.at, RIG_PAGE), 'l', RIG_PAGE);
	for (int i = 0; i < 100; i++)
		CHECK_EQ(rig_request(&r, RIG_LOG_TX, &b, 1), 0);
	c = rig_counts(&r);
	CHECK_EQ(c.log_written + c.log_dropped, 100 * RIG_PAGE);
	CHECK(c.log_written >= RIG_PAGE && c.log_dropped >= RIG_PAGE);
	n = read(r.log[0], got, sizeof(got));
	CHECK_EQ(n, (ssize_t)c.log_written);
	rig_send(&r, RIG_LOG_TX, "room again");
	rig_read_text(r.log[0], "room again");
	rig_fini(&r);
}

TEST(a_log_flood_leaves_the_agent_in_peace)
{
	struct vbuf b = { .len = RIG_PAGE };
	struct rig r;

	rig_start(&r);
	b.at = vdriver_alloc(&r.d, RIG_PAGE, 8);
	for (int i = 0; i < 2000; i++) {
		(void)vdriver_add(&r.d, RIG_LOG_TX, &b, 1);
		vdriver_kick(&r.d, RIG_LOG_TX);
		if (i % 100 == 0) {
			rig_send(&r, RIG_AGENT_TX, "frame");
			rig_read_text(r.agent, "frame");
		}
		if (i % 16 == 15)
			rig_collect(&r, RIG_LOG_TX);
	}
	CHECK(!vdriver_needs_reset(&r.d));
	rig_fini(&r);
}

TEST(nothing_can_be_typed_into_the_log)
{
	struct rig r;
	uint16_t head;
	uint32_t len;

	rig_start(&r);
	rig_offer(&r, RIG_LOG_RX, RIG_PAGE);
	vdriver_kick(&r.d, RIG_LOG_RX);
	rig_send(&r, RIG_LOG_TX, "x");
	CHECK(!vdriver_used(&r.d, RIG_LOG_RX, &head, &len));
	rig_fini(&r);
}

TEST_MAIN()
