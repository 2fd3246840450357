/* The network card: frames both ways, floods, a gate that is lost, its saved state. */
#include "net_rig.h"

#include "failalloc.h"

/* -- what it is -----------------------------------------------------------------------------------
 */

TEST(is_a_card_with_a_large_mtu_and_no_offloads)
{
	uint8_t config[16];
	struct rig r;

	start(&r);
	CHECK_EQ(vdriver_read32(&r.d, MMIO_DEVICE_ID), 1);
	CHECK_EQ(vdriver_offered(&r.d), ALL | VIRTIO_F_VERSION_1);
	vdriver_read_config(&r.d, 0, config, sizeof(config));
	CHECK_MEM(span_of(config, 16),
	          span_of("\2\1\2\3\4\5\1\0\0\0\xf0\xff\0\0\0\0", 16)); /* 65520 */
	for (uint32_t i = 0; i < 3; i++) {
		vdriver_write32(&r.d, MMIO_QUEUE_SEL, i);
		CHECK_EQ(vdriver_read32(&r.d, MMIO_QUEUE_NUM_MAX), i < 2 ? 256 : 0);
	}
	CHECK(!lost(&r));
	fini(&r);
}

/* -- guest to gate --------------------------------------------------------------------------------
 */

static const uint32_t lens[] = { 14, 15, 42, 60, 1514, 4096, 9000, 65533, 65534 };
enum { LENS = sizeof(lens) / sizeof(lens[0]) };

TEST(frames_go_out_behind_their_length)
{
	static const uint32_t pieces[] = { 12, 1, 5000, UINT32_MAX };
	struct rig r;
	uint64_t at;
	unsigned n = 0;

	start(&r);
	at = vdriver_alloc(&r.d, RX_ROOM, 8);
	for (unsigned i = 0; i < LENS; i++) {
		for (unsigned j = 0; j < 4; j++) {
			if (lens[i] + HDR > pieces[j] * UINT64_C(60))
				continue;
			put(&r, at, n, lens[i], pieces[j]);
			vdriver_kick(&r.d, TX);
			gate_expect(&r, n, lens[i]);
			collect(&r, TX);
			n++;
		}
	}
	CHECK(n > 2 * LENS);
	CHECK_EQ(counts(&r).sent, n);
	CHECK_EQ(counts(&r).sent_refused, 0);
	fini(&r);
}

TEST(what_is_no_frame_is_dropped_and_counted)
{
	static const uint32_t bad[] = { 0, 1, 13, 65535, 65536, 200000 };
	struct vbuf b = { 0 };
	struct rig r;
	uint8_t *raw;

	start(&r);
	b.at = vdriver_alloc(&r.d, 1 << 18, 8);
	raw = vdriver_at(&r.d, b.at, 1 << 18);
	for (unsigned i = 0; i < 6; i++) {
		b.len = HDR + bad[i];
		(void)vdriver_add(&r.d, TX, &b, 1);
	}
	for (b.len = 0; b.len < HDR; b.len++)
		(void)vdriver_add(&r.d, TX, &b, 1);
	vdriver_kick(&r.d, TX);
	collect(&r, TX);
	/* offloads that nobody offered */
	b.len = HDR + 60;
	raw[0] = 1;
	CHECK_EQ(vdriver_add(&r.d, TX, &b, 1), 18);
	vdriver_kick(&r.d, TX);
	collect(&r, TX);
	raw[0] = 0;
	raw[1] = 1;
	(void)vdriver_add(&r.d, TX, &b, 1);
	vdriver_kick(&r.d, TX);
	collect(&r, TX);
	CHECK_EQ(counts(&r).sent_refused, 6 + HDR + 2);

	put(&r, b.at, 7, 100, UINT32_MAX);
	vdriver_kick(&r.d, TX);
	gate_expect(&r, 7, 100);
	CHECK(!vdriver_needs_reset(&r.d));
	CHECK_EQ(counts(&r).sent, 1);
	fini(&r);
}

TEST(a_slow_gate_gets_every_frame_whole)
{
	enum { FRAMES = 400, UNDER_WAY = 20, ROOM = 20000 };
	struct rig r;
	uint64_t mem;
	uint64_t sent = 0;
	uint64_t got = 0;
	uint16_t head;
	uint32_t len;
	unsigned under_way = 0;

	start(&r);
	mem = vdriver_alloc(&r.d, (uint64_t)UNDER_WAY * ROOM, 8);
	while (got < FRAMES) {
		while (sent < FRAMES && under_way < UNDER_WAY) {
			put(&r, mem + sent % UNDER_WAY * ROOM, sent,
			    14 + (uint32_t)(sent * 977 % 19000), PAGE);
			under_way++;
			sent++;
			if (sent % 3 == 0)
				vdriver_kick(&r.d, TX);
		}
		vdriver_kick(&r.d, TX);
		(void)counts(&r); /* the socket fills up meanwhile */
		for (int i = 0; i < 5 && got < sent; i++, got++)
			gate_expect(&r, got, 14 + (uint32_t)(got * 977 % 19000));
		while (vdriver_used(&r.d, TX, &head, &len))
			under_way--;
	}
	CHECK_EQ(counts(&r).sent, FRAMES);
	fini(&r);
}

/* -- gate to guest --------------------------------------------------------------------------------
 */

TEST(frames_come_in_with_a_plain_header)
{
	struct rig r;
	uint64_t at;

	start(&r);
	at = vdriver_alloc(&r.d, RX_ROOM, 8);
	for (unsigned i = 0; i < LENS; i++) {
		offer_at(&r, at, RX_ROOM);
		vdriver_kick(&r.d, RX);
		gate_send(&r, i, lens[i]);
		(void)guest_expect(&r, i, lens[i]);
	}
	CHECK_EQ(counts(&r).received, LENS);
	fini(&r);
}

TEST(a_frame_in_pieces_is_a_frame)
{
	uint8_t raw[3 * (4 + 70)];
	struct rig r;
	size_t len = 0;

	start(&r);
	for (int i = 0; i < 3; i++) {
		offer(&r, RX_ROOM);
		len += wire(raw + len, (uint64_t)i, 60 + (uint32_t)i);
	}
	vdriver_kick(&r.d, RX);
	for (size_t i = 0; i < len; i++) {
		gate_send_all(&r, raw + i, 1);
		(void)counts(&r);
	}
	for (int i = 0; i < 3; i++)
		(void)guest_expect(&r, (uint64_t)i, 60 + (uint32_t)i);
	fini(&r);
}

TEST(many_small_frames_cost_few_interrupts)
{
	static uint8_t raw[200 * 104];
	struct vbuf b = { .len = HDR + 100, .writable = true };
	struct rig r;
	size_t len = 0;

	start(&r);
	for (int i = 0; i < 200; i++) {
		b.at = vdriver_alloc(&r.d, b.len, 8);
		r.buf[RX][vdriver_add(&r.d, RX, &b, 1)] = b.at;
		len += wire(raw + len, (uint64_t)i, 100);
	}
	vdriver_kick(&r.d, RX);
	gate_send_all(&r, raw, len);
	for (int i = 0; i < 200; i++)
		(void)guest_expect(&r, (uint64_t)i, 100);
	while (vdriver_interrupt(&r.d, 0) != 0)
		;
	CHECK(r.d.interrupts <= 20);
	fini(&r);
}

TEST(a_buffer_too_small_loses_the_frame_and_not_itself)
{
	struct rig r;

	start(&r);
	offer(&r, HDR + 1514);
	vdriver_kick(&r.d, RX);
	gate_send(&r, 1, 1515);
	gate_send(&r, 2, 1514);
	(void)guest_expect(&r, 2, 1514);
	CHECK_EQ(counts(&r).received_no_place, 1);
	CHECK_EQ(counts(&r).received, 1);
	CHECK(!vdriver_needs_reset(&r.d));
	fini(&r);
}

TEST(a_buffer_without_room_for_the_header_breaks_the_card)
{
	struct vbuf b = { .len = HDR - 1, .writable = true };
	struct rig r;

	start(&r);
	b.at = vdriver_alloc(&r.d, 64, 8);
	(void)vdriver_add(&r.d, RX, &b, 1);
	vdriver_kick(&r.d, RX);
	gate_send(&r, 1, 60);
	CHECK(vdriver_wait_needs_reset(&r.d));
	CHECK(!lost(&r));
	/* the frame waits for a driver that can be trusted */
	CHECK(vdriver_probe(&r.d, ALL, 0));
	offer(&r, RX_ROOM);
	vdriver_kick(&r.d, RX);
	(void)guest_expect(&r, 1, 60);
	fini(&r);
}

/* -- floods ---------------------------------------------------------------------------------------
 */

static uint64_t resident_bytes(void)
{
	char text[128];
	_own_fd_ int fd = -1;
	struct span in;
	struct span word;
	uint64_t pages;
	ssize_t n;

	CHECK_EQ(fd_open("/proc/self/statm", 0, 0, &fd, NULL), 0);
	n = read(fd, text, sizeof(text));
	CHECK(n > 0);
	in = span_of(text, (size_t)n);
	CHECK(take_until(&in, ' ', &word) && take_until(&in, ' ', &word) &&
	      span_to_u64(word, &pages));
	return pages * PAGE;
}

TEST(a_gate_that_floods_waits_for_buffers)
{
	static uint8_t raw[4 + 1000];
	struct rig r;
	uint64_t at;
	uint64_t before;
	uint64_t frames = 0;
	size_t off = 0;
	size_t len = wire(raw, 0, 1000);

	start(&r);
	at = vdriver_alloc(&r.d, RX_ROOM, 8);
	put(&r, at, 3, 1000, UINT32_MAX); /* touches what is touched below */
	vdriver_kick(&r.d, TX);
	gate_expect(&r, 3, 1000);
	collect(&r, TX);
	before = resident_bytes();
	for (;;) {
		ssize_t n = send(r.gate, raw + off, len - off, MSG_DONTWAIT);

		if (n < 0 && counts(&r).received == 0 &&
		    send(r.gate, raw + off, 1, MSG_DONTWAIT) < 0)
			break;
		off += n > 0 ? (size_t)n : n == 0 ? 0 : 1;
		frames += off == len;
		off = off == len ? 0 : off;
	}
	CHECK(frames > 50); /* as many as a socket holds, with what each costs it */
	CHECK(resident_bytes() - before < 1 << 20);
	for (uint64_t i = 0; i < 100; i++) { /* the other direction moves */
		put(&r, at, i, 1000, UINT32_MAX);
		vdriver_kick(&r.d, TX);
		gate_expect(&r, i, 1000);
		collect(&r, TX);
	}
	for (uint64_t i = 0; i < frames; i++) {
		offer_at(&r, at, RX_ROOM);
		vdriver_kick(&r.d, RX);
		CHECK_EQ(guest_expect(&r, 0, 1000), at);
	}
	CHECK_EQ(counts(&r).received, frames);
	fini(&r);
}

TEST(a_gate_that_does_not_read_stops_only_the_guests_output)
{
	struct rig r;
	uint64_t mem;
	uint64_t rx;
	uint16_t head;
	uint32_t len;
	unsigned used = 0;

	start(&r);
	mem = vdriver_alloc(&r.d, 20ull * RX_ROOM, 8);
	rx = vdriver_alloc(&r.d, RX_ROOM, 8);
	for (uint64_t i = 0; i < 14; i++)
		put(&r, mem + i * RX_ROOM, i, 65534, PAGE);
	vdriver_kick(&r.d, TX);
	for (uint64_t i = 0; i < 200; i++) { /* while that is stuck */
		offer_at(&r, rx, RX_ROOM);
		vdriver_kick(&r.d, RX);
		gate_send(&r, i, 500);
		(void)guest_expect(&r, i, 500);
		vdriver_kick(&r.d, TX);
	}
	while (vdriver_used(&r.d, TX, &head, &len))
		used++;
	CHECK(used < 14);
	for (uint64_t i = 0; i < 14; i++)
		gate_expect(&r, i, 65534);
	collect(&r, TX);
	fini(&r);
}

/* -- the gate is lost -----------------------------------------------------------------------------
 */

static void check_dead_card(struct rig *r)
{
	uint64_t at = vdriver_alloc(&r->d, 128, 8);

	for (int i = 0; i < 300; i++) {
		put(r, at, 1, 100, UINT32_MAX);
		vdriver_kick(&r->d, TX);
		collect(r, TX);
	}
	CHECK_EQ(counts(r).sent_dropped, 300);
	CHECK(!vdriver_needs_reset(&r->d));
	CHECK_EQ(r->lost, 1);
}

TEST(an_impossible_length_ends_the_link)
{
	static const uint32_t bad[] = { 0, 1, 13, 65535, 0x10000, 0x0e000000, UINT32_MAX };

	for (unsigned i = 0; i < 7; i++) {
		struct rig r;
		uint32_t prefix = htobe32(bad[i]);

		start(&r);
		offer(&r, RX_ROOM);
		vdriver_kick(&r.d, RX);
		gate_send(&r, 5, 60);
		gate_send_all(&r, (const uint8_t *)&prefix, 4);
		(void)guest_expect(&r, 5, 60); /* what came before it counts */
		wait_lost(&r, "the gate sent a frame of an impossible length");
		check_dead_card(&r);
		fini(&r);
	}
}

TEST(a_gate_that_closes_ends_the_link)
{
	struct rig r;

	start(&r);
	offer(&r, RX_ROOM);
	vdriver_kick(&r.d, RX);
	gate_send(&r, 5, 60);
	(void)close(r.gate);
	r.gate = -1;
	(void)guest_expect(&r, 5, 60);
	wait_lost(&r, "the gate closed its socket");
	check_dead_card(&r);
	/* and stays so for the next driver */
	CHECK(vdriver_probe(&r.d, ALL, 0));
	CHECK_EQ(link_status(&r), 0);
	fini(&r);
}

TEST(a_gate_that_goes_while_frames_wait_frees_them)
{
	struct rig r;
	uint64_t mem;

	start(&r);
	mem = vdriver_alloc(&r.d, 14ull * RX_ROOM, 8);
	for (uint64_t i = 0; i < 14; i++)
		put(&r, mem + i * RX_ROOM, 1, 65534, PAGE);
	vdriver_kick(&r.d, TX);
	(void)counts(&r);
	(void)close(r.gate);
	r.gate = -1;
	collect(&r, TX);
	CHECK_EQ(link_status(&r), 0);
	fini(&r);
}

TEST(malformed_chains_break_the_card)
{
	for (unsigned queue = RX; queue <= TX; queue++) {
		struct rig r;

		start(&r);
		vdriver_desc(&r.d, queue, 3, vdriver_alloc(&r.d, 8, 8), 8, queue == RX ? 3 : 1, 3);
		vdriver_avail(&r.d, queue, 3);
		vdriver_kick(&r.d, queue);
		gate_send(&r, 5, 60);
		CHECK(vdriver_wait_needs_reset(&r.d));
		CHECK(!lost(&r));
		fini(&r);
	}
}

TEST(a_reset_within_a_frame_ends_the_link)
{
	struct rig r;
	uint64_t mem;

	start(&r);
	mem = vdriver_alloc(&r.d, 14ull * RX_ROOM, 8);
	for (uint64_t i = 0; i < 14; i++)
		put(&r, mem + i * RX_ROOM, 1, 65534, PAGE);
	vdriver_kick(&r.d, TX);
	while (counts(&r).sent == 0) /* all that fits goes in one turn */
		;
	vdriver_reset(&r.d);
	CHECK_EQ(link_status(&r), 1);
	CHECK(vdriver_probe(&r.d, ALL, 0));
	wait_lost(&r, "the guest reset its card within a frame");
	fini(&r);
}

TEST(a_frame_on_its_way_keeps_its_length)
{
	static uint8_t got[256 << 10];

	for (int grow = -1; grow <= 1; grow += 2) {
		struct rig r;
		uint64_t mem;
		uint16_t head;

		start(&r);
		mem = vdriver_alloc(&r.d, RX_ROOM, 8);
		for (int i = 0; i < 14; i++)
			put(&r, mem, 1, 60000, UINT32_MAX); /* chain i is descriptor i */
		vdriver_kick(&r.d, TX);
		while (counts(&r).sent == 0)
			;
		head = (uint16_t)counts(&r).sent;
		vdriver_desc(&r.d, TX, head, mem, (uint32_t)(HDR + 60000 + grow), 0, 0);
		while (!vdriver_needs_reset(&r.d)) {
			struct pollfd p = { .fd = r.gate, .events = POLLIN };

			if (poll(&p, 1, 10) == 1)
				CHECK(read(r.gate, got, sizeof(got)) > 0);
		}
		CHECK(vdriver_probe(&r.d, ALL, 0));
		wait_lost(&r, "the guest reset its card within a frame");
		fini(&r);
	}
}

/* -- saving ---------------------------------------------------------------------------------------
 */

struct saving {
	struct rig *rig;
	struct buf b;
	uint8_t raw[VIRTIO_SAVE_MAX];
};

static void save_job(void *arg)
{
	struct saving *s = arg;

	virtio_pause(s->rig->dev);
	buf_init(&s->b, s->raw, sizeof(s->raw));
	virtio_save(s->rig->dev, &s->b);
}

static void resume_job(void *arg)
{
	virtio_resume(((struct rig *)arg)->dev);
}

static void restore(struct rig *to, const struct rig *from, const struct saving *s)
{
	struct err e;

	*to = (struct rig){ 0 };
	vdriver_init_over(&to->d, &from->d);
	memcpy(to->buf, from->buf, sizeof(to->buf));
	open_device(to);
	CHECK_OK(virtio_load(to->dev, buf_span(&s->b), &e), &e);
	vdriver_start(&to->d, to->dev);
	vdriver_on_loop(&to->d, resume_job, to);
}

/* Of `queued` frames some were sent whole and one in part: the child sends those behind it, the
 * parent all that is left. */
TEST(a_restored_card_begins_with_a_whole_frame)
{
	enum { QUEUED = 14 };
	struct saving s = { 0 };
	struct rig r;
	struct rig child;
	uint64_t mem;
	uint64_t first;

	start(&r);
	mem = vdriver_alloc(&r.d, (uint64_t)QUEUED * RX_ROOM, 8);
	for (uint64_t i = 0; i < QUEUED; i++)
		put(&r, mem + i * RX_ROOM, i, 65534, PAGE);
	vdriver_kick(&r.d, TX);
	do {
		first = counts(&r).sent;
	} while (first == 0);
	s.rig = &r;
	vdriver_on_loop(&r.d, save_job, &s);
	first = counts(&r).sent;
	CHECK(first < QUEUED - 2);
	restore(&child, &r, &s);
	for (uint64_t i = first + 1; i < QUEUED; i++)
		gate_expect(&child, i, 65534);
	CHECK_EQ(counts(&child).sent_dropped, 1);
	fini(&child);
	fini(&r);
}

TEST(a_paused_parent_goes_on_to_the_byte)
{
	enum { QUEUED = 14 };
	struct saving s = { 0 };
	struct rig r;
	uint64_t mem;

	start(&r);
	mem = vdriver_alloc(&r.d, (uint64_t)QUEUED * RX_ROOM, 8);
	for (uint64_t i = 0; i < QUEUED; i++)
		put(&r, mem + i * RX_ROOM, i, 65534, PAGE);
	vdriver_kick(&r.d, TX);
	(void)counts(&r);
	s.rig = &r;
	vdriver_on_loop(&r.d, save_job, &s);
	offer(&r, RX_ROOM);
	gate_send(&r, 77, 99); /* nobody reads it now */
	vdriver_on_loop(&r.d, resume_job, &r);
	(void)guest_expect(&r, 77, 99);
	for (uint64_t i = 0; i < QUEUED; i++)
		gate_expect(&r, i, 65534);
	collect(&r, TX);
	fini(&r);
}

TEST(a_new_gate_brings_the_link_back)
{
	struct saving s = { 0 };
	struct rig r;
	struct rig child;

	start(&r);
	(void)close(r.gate);
	r.gate = -1;
	wait_lost(&r, "the gate closed its socket");
	s.rig = &r;
	vdriver_on_loop(&r.d, save_job, &s);
	restore(&child, &r, &s);
	CHECK((vdriver_interrupt(&child.d, VDRIVER_WAIT_MS) & ISR_CONFIG) != 0);
	CHECK_EQ(link_status(&child), 1);
	offer(&child, RX_ROOM);
	vdriver_kick(&child.d, RX);
	gate_send(&child, 5, 60);
	(void)guest_expect(&child, 5, 60);
	fini(&child);
	fini(&r);
}

TEST(a_hostile_saved_state_is_refused)
{
	static const char *const bad[] = {
		"\2\0\0\0\0\0\0\0\0\0",
		"\1\2\0\0\0\0\0\0\0\0",
		"\1\0\2\0\1\0\0\0\0\0", /* 65538: all of the longest frame */
		"\1\0\0\0\0\0\0\0\0\200",
	};
	struct rig r = { 0 };

	vdriver_init(&r.d);
	open_device(&r);
	for (unsigned i = 0; i < 6; i++) {
		size_t len = i < 4 ? 10 : i == 4 ? 9 : 0;
		struct err e = { 0 };
		int got = r.dev->ops->load(r.dev->self, span_of(bad[i % 4], len), &e);

		CHECK(got == -EBADMSG || got == -ENOTSUP);
		CHECK(e.len > 0);
	}
	virtio_dev_free(r.dev);
	fini(&r);
}

TEST(no_memory_is_said_and_leaks_nothing)
{
	struct vdriver d;
	struct virtio_place at;
	int pair[2];
	struct err e;

	vdriver_init(&d);
	at = vdriver_place(&d);
	CHECK_OK(fd_socketpair(pair, &e), &e);
	FAILALLOC_EACH()
	{
		const struct net_config c = { .fd = pair[0] };
		struct virtio_dev *dev = NULL;
		int r = net_new(&at, &c, &dev, &e);

		if (failalloc_hit()) {
			CHECK_EQ(r, -ENOMEM);
			CHECK(!dev);
		} else {
			CHECK_OK(r, &e);
			virtio_dev_free(dev);
		}
	}
	vdriver_fini(&d);
	(void)close(pair[0]);
	(void)close(pair[1]);
}

TEST_MAIN()
