#include "queue_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

/* -- is it a queue? -------------------------------------------------------------------------------
 */

TEST(sizes_are_powers_of_two_up_to_what_is_offered)
{
	static struct fixture f;

	init(&f, 8);
	for (unsigned size = 0; size <= UINT16_MAX; size++) {
		bool good = size != 0 && size <= 64 && (size & (size - 1)) == 0;

		f.q.size = (uint16_t)size;
		f.q.size_max = 64;
		CHECK_EQ(virtqueue_valid(&f.q), good);
	}
	f.q.size = 2 * QUEUE_SIZE_MAX;
	f.q.size_max = 4 * QUEUE_SIZE_MAX; /* more than we ever keep */
	CHECK(!virtqueue_valid(&f.q));
}

TEST(rings_are_aligned)
{
	static struct fixture f;

	init(&f, 8);
	for (unsigned off = 0; off < 32; off++) {
		f.q.desc = gpa_of(AT_DESC + off);
		CHECK_EQ(virtqueue_valid(&f.q), off % 16 == 0);
		f.q.desc = gpa_of(AT_DESC);
		f.q.avail = gpa_of(AT_AVAIL + off);
		CHECK_EQ(virtqueue_valid(&f.q), off % 2 == 0);
		f.q.avail = gpa_of(AT_AVAIL);
		f.q.used = gpa_of(AT_USED + off);
		CHECK_EQ(virtqueue_valid(&f.q), off % 4 == 0);
		f.q.used = gpa_of(AT_USED);
	}
}

/* Each ring against the end of RAM, to the byte (the alignment's), and where addresses wrap. */
static void check_ring_end(struct fixture *f, struct gpa *ring, uint64_t bytes, uint64_t align)
{
	struct gpa was = *ring;
	uint64_t last = (RAM_BYTES - bytes) / align * align;

	*ring = gpa_of(last);
	CHECK(virtqueue_valid(&f->q));
	*ring = gpa_of(last + align);
	CHECK(!virtqueue_valid(&f->q));
	*ring = gpa_of(RAM_BYTES);
	CHECK(!virtqueue_valid(&f->q));
	*ring = gpa_of(UINT64_MAX / align * align);
	CHECK(!virtqueue_valid(&f->q));
	*ring = gpa_of(0 - bytes / align * align);
	CHECK(!virtqueue_valid(&f->q));
	*ring = was;
}

TEST(rings_lie_in_ram_to_their_last_byte)
{
	static struct fixture f;

	for (unsigned size = 1; size <= QUEUE_SIZE_MAX; size *= 2) {
		init(&f, (uint16_t)size);
		check_ring_end(&f, &f.q.desc, 16ull * size, 16);
		check_ring_end(&f, &f.q.avail, 6 + 2ull * size, 2);
		check_ring_end(&f, &f.q.used, 6 + 8ull * size, 4);
	}
}

/* Two slots with a hole between, as in a machine with over 3 GiB: devices live in it. */
static void two_slots(struct fixture *f)
{
	f->mem = (struct guest_mem){
		.slots = { { .start = 0, .bytes = 0x8000, .base = f->ram },
		           { .start = GUEST_HOLE_END, .bytes = 0x8000, .base = f->ram + 0x8000 } },
		.slot_count = 2,
		.bytes = RAM_BYTES,
	};
}

TEST(nothing_lies_in_the_hole_of_the_devices)
{
	static struct fixture f;
	struct chain c;

	init(&f, 8);
	two_slots(&f);
	f.q.used = gpa_of(GUEST_HOLE_END);
	CHECK(virtqueue_valid(&f.q));
	f.q.used = gpa_of(UINT64_C(0xd0000000));
	CHECK(!virtqueue_valid(&f.q));
	f.q.used = gpa_of(0x8000 - 4); /* its end is outside */
	CHECK(!virtqueue_valid(&f.q));
	f.q.used = gpa_of(GUEST_HOLE_END - 4); /* its start is */
	CHECK(!virtqueue_valid(&f.q));
	f.q.used = gpa_of(AT_USED);

	desc(&f, 0, UINT64_C(0xd0000070), 4, WRITE, 0);
	offer(&f, 0);
	refused(&f);
	desc(&f, 0, 0x7fff, 2, 0, 0);
	refused(&f);
	desc(&f, 0, GUEST_HOLE_END - 1, 2, 0, 0);
	refused(&f);
	desc(&f, 0, 0x7ffe, (uint32_t)(GUEST_HOLE_END - 0x7ffe) + 2, 0, 0); /* both ends are RAM */
	refused(&f);
	desc(&f, 0, GUEST_HOLE_END, 2, 0, 0);
	CHECK_EQ(virtqueue_pop(&f.q, &c), 0);
}

/* -- chains ---------------------------------------------------------------------------------------
 */

TEST(a_chain_is_gathered_readable_first)
{
	static struct fixture f;
	struct chain c;

	init(&f, 8);
	CHECK_EQ(virtqueue_pop(&f.q, &c), -EAGAIN);
	desc(&f, 3, AT_DATA, 16, NEXT, 7);
	desc(&f, 7, AT_DATA + 16, 0, NEXT, 0); /* no bytes: dropped */
	desc(&f, 0, AT_DATA + 32, 100, NEXT | WRITE, 1);
	desc(&f, 1, AT_DATA + 200, 0, NEXT | WRITE, 2);
	desc(&f, 2, AT_DATA + 300, 1, WRITE, 5 /* and no NEXT: not looked at */);
	offer(&f, 3);
	CHECK_EQ(virtqueue_pop(&f.q, &c), 0);
	CHECK_EQ(c.head, 3);
	CHECK_EQ(c.seg_count, 3);
	CHECK_EQ(c.readable, 1);
	CHECK_EQ(c.readable_bytes, 16);
	CHECK_EQ(c.writable_bytes, 101);
	CHECK_EQ(c.segs[1].at.v, AT_DATA + 32);
	CHECK_EQ(c.segs[1].len, 100);
	CHECK_EQ(c.segs[2].at.v, AT_DATA + 300);
	CHECK_EQ(virtqueue_pop(&f.q, &c), -EAGAIN);
}

/* kvmtool 1: entries of the available ring used as an index without a bound. */
TEST(a_head_beyond_the_table)
{
	static const uint16_t heads[] = { 8, 9, 255, 256, 0x7fff, 0x8000, 0xffff };
	static struct fixture f;

	init(&f, 8);
	offer(&f, 0);
	for (unsigned i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		put16(&f, AT_AVAIL + 4, heads[i]);
		refused(&f);
	}
}

/* kvmtool 2: a walk without an end into an array with one. */
TEST(loops_end)
{
	static struct fixture f;

	init(&f, 8);
	desc(&f, 0, AT_DATA, 1, NEXT, 0);
	offer(&f, 0);
	refused(&f);
	desc(&f, 0, AT_DATA, 1, NEXT, 1);
	desc(&f, 1, AT_DATA, 1, NEXT, 0);
	refused(&f);
	/* CVE-2016-6490: of nothing at all, forever */
	desc(&f, 0, AT_DATA, 0, NEXT, 1);
	desc(&f, 1, AT_DATA, 0, NEXT, 0);
	refused(&f);
	desc(&f, 1, AT_DATA, 0, NEXT, 8);
	refused(&f);
	desc(&f, 1, AT_DATA, 0, NEXT, 0xffff);
	refused(&f);
}

TEST(a_chain_as_long_as_the_queue_and_no_longer)
{
	static struct fixture f;
	struct chain c;

	for (unsigned size = 1; size <= QUEUE_SIZE_MAX; size *= 2) {
		unsigned most = size < CHAIN_SEGS_MAX ? size : (unsigned)CHAIN_SEGS_MAX;

		init(&f, (uint16_t)size);
		for (unsigned i = 0; i < most; i++)
			desc(&f, i, AT_DATA + i, 1, i + 1 < most ? NEXT : 0, i + 1);
		offer(&f, 0);
		CHECK_EQ(virtqueue_pop(&f.q, &c), 0);
		CHECK_EQ(c.seg_count, most);
		CHECK(virtqueue_push(&f.q, 0, 0));
		if (most == size)
			continue;
		desc(&f, most - 1, AT_DATA, 1, NEXT, most);
		desc(&f, most, AT_DATA, 1, 0, 0);
		offer(&f, 0);
		refused(&f);
	}
}

TEST(readable_after_writable)
{
	static struct fixture f;

	init(&f, 8);
	offer(&f, 0);
	for (uint32_t len = 0; len < 2; len++) /* not even nothing */
		for (uint32_t first = 0; first < 2; first++) {
			desc(&f, 0, AT_DATA, first, NEXT | WRITE, 1);
			desc(&f, 1, AT_DATA, len, 0, 0);
			refused(&f);
		}
}

TEST(indirect_is_refused_unless_negotiated)
{
	static struct fixture f;

	init(&f, 8);
	offer(&f, 0);
	for (unsigned other = 0; other < 4; other++) {
		desc(&f, 0, AT_DATA, 16, INDIRECT | other, 1);
		refused(&f);
	}
}

TEST(segments_outside_ram)
{
	static struct fixture f;
	struct chain c;
	uint64_t wrap = UINT64_MAX - 15;

	init(&f, 8);
	offer(&f, 0);
	desc(&f, 0, RAM_BYTES, 1, 0, 0);
	refused(&f);
	desc(&f, 0, RAM_BYTES - 1, 2, WRITE, 0);
	refused(&f);
	desc(&f, 0, 1, UINT32_MAX, 0, 0);
	refused(&f);
	desc(&f, 0, wrap, 16, 0, 0); /* start + length is 0 */
	refused(&f);
	desc(&f, 0, wrap, 32, 0, 0);
	refused(&f);
	desc(&f, 0, UINT64_MAX, UINT32_MAX, 0, 0);
	refused(&f);
	desc(&f, 0, AT_DATA, 1, NEXT, 1); /* the first is good */
	desc(&f, 1, RAM_BYTES - 1, 2, 0, 0);
	refused(&f);
	desc(&f, 1, RAM_BYTES - 1, 1, 0, 0);
	CHECK_EQ(virtqueue_pop(&f.q, &c), 0);
}

TEST(the_sum_of_a_chain_has_an_end)
{
	uint64_t bytes = UINT64_C(1) << 30;
	static struct fixture f;
	struct guest_mem big;
	struct chain c;
	uint8_t *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(at != MAP_FAILED);
	init(&f, 8);
	for (unsigned i = 0; i < 4; i++)
		desc(&f, i, 0, (uint32_t)bytes, WRITE | (i < 3 ? NEXT : 0), i + 1);
	offer(&f, 0);
	memcpy(at, f.ram, RAM_BYTES);
	guest_mem_over(at, bytes, &big);
	f.q.mem = &big;
	CHECK_EQ(virtqueue_pop(&f.q, &c), 0);
	CHECK(c.writable_bytes == CHAIN_BYTES_MAX);
	virtqueue_unpop(&f.q);

	f.q.mem = &f.mem;
	desc(&f, 3, 0, (uint32_t)bytes, WRITE | NEXT, 4);
	desc(&f, 4, 0, 1, WRITE, 0);
	memcpy(at, f.ram, RAM_BYTES);
	f.q.mem = &big;
	refused(&f);
	(void)munmap(at, bytes);
}

/* -- the available ring ---------------------------------------------------------------------------
 */

TEST(an_index_more_than_the_size_ahead)
{
	static const uint16_t starts[] = { 0, 1, 0x7fff, 0xfff8, 0xffff };
	static struct fixture f;
	struct chain c;

	for (unsigned i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
		init(&f, 8);
		desc(&f, 0, AT_DATA, 1, 0, 0);
		f.q.next_avail = starts[i];
		for (unsigned ahead = 9; ahead <= UINT16_MAX; ahead += ahead < 16 ? 1 : 97) {
			put16(&f, AT_AVAIL + 2, (uint16_t)(starts[i] + ahead));
			refused(&f);
		}
		put16(&f, AT_AVAIL + 2, (uint16_t)(starts[i] + 8));
		CHECK_EQ(virtqueue_pop(&f.q, &c), 0);
		CHECK_EQ(f.q.next_avail, (uint16_t)(starts[i] + 1));
	}
}

TEST(indices_wrap)
{
	static struct fixture f;
	struct chain c;

	init(&f, 4);
	for (unsigned i = 0; i < 4; i++)
		desc(&f, i, AT_DATA + i, i, WRITE, 0);
	for (unsigned n = 0; n < 3 * 65536; n++) {
		uint16_t head = (uint16_t)(n % 3);
		uint64_t entry = AT_USED + 4 + 8ull * (n % 4);

		offer(&f, head);
		CHECK_EQ(virtqueue_pop(&f.q, &c), 0);
		CHECK_EQ(c.head, head);
		CHECK(virtqueue_push(&f.q, head, head));
		CHECK_EQ(get32(&f, entry), head);
		CHECK_EQ(get32(&f, entry + 4), head);
		CHECK_EQ(get16(&f, AT_USED + 2), (uint16_t)(n + 1));
		CHECK_EQ(virtqueue_pop(&f.q, &c), -EAGAIN);
	}
}

TEST(a_head_we_hold_is_not_taken_again)
{
	static struct fixture f;
	struct chain c;

	init(&f, 4);
	for (unsigned i = 0; i < 4; i++) {
		desc(&f, i, AT_DATA, 1, WRITE, 0);
		offer(&f, (uint16_t)i);
		CHECK_EQ(virtqueue_pop(&f.q, &c), 0);
	}
	CHECK_EQ(f.q.held_count, 4);
	for (unsigned i = 0; i < 4; i++) {
		put16(&f, AT_AVAIL + 4, (uint16_t)i);
		put16(&f, AT_AVAIL + 2, 5);
		refused(&f); /* so no queue has more under way than places */
	}
	CHECK(virtqueue_push(&f.q, 2, 1)); /* in any order */
	put16(&f, AT_AVAIL + 4, 2);
	CHECK_EQ(virtqueue_pop(&f.q, &c), 0);
	CHECK_EQ(c.head, 2);
}

TEST(unpop_leaves_the_request_where_it_was)
{
	static struct fixture f;
	struct chain c;

	init(&f, 4);
	desc(&f, 1, AT_DATA, 5, WRITE, 0);
	offer(&f, 1);
	for (unsigned i = 0; i < 100; i++) {
		CHECK_EQ(virtqueue_pop(&f.q, &c), 0);
		CHECK_EQ(f.q.held_count, 1);
		virtqueue_unpop(&f.q);
		CHECK_EQ(f.q.held_count, 0);
	}
	CHECK_EQ(get16(&f, AT_USED + 2), 0);
	CHECK_EQ(virtqueue_pop(&f.q, &c), 0);
	CHECK(virtqueue_push(&f.q, c.head, 5));
	CHECK_EQ(virtqueue_pop(&f.q, &c), -EAGAIN);
}

TEST(a_dead_queue_does_nothing)
{
	static struct fixture f;
	static uint8_t before[RAM_BYTES];
	struct chain c;

	init(&f, 4);
	desc(&f, 0, AT_DATA, 1, WRITE, 0);
	offer(&f, 0);
	CHECK_EQ(virtqueue_pop(&f.q, &c), 0);
	offer(&f, 1);
	f.q.ready = false;
	memcpy(before, f.ram, RAM_BYTES);
	CHECK_EQ(virtqueue_pop(&f.q, &c), -EAGAIN);
	CHECK(!virtqueue_push(&f.q, 0, 1));
	CHECK(!virtqueue_enable_kicks(&f.q));
	virtqueue_disable_kicks(&f.q);
	virtqueue_unpop(&f.q);
	CHECK(!virtqueue_wants_interrupt(&f.q));
	CHECK(memcmp(before, f.ram, RAM_BYTES) == 0);
}

/* -- what a device may not do ---------------------------------------------------------------------
 */

static bool push_aborts(struct fixture *f, uint16_t head, uint32_t written)
{
	int status;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		(void)dup2(-1, 2);
		(void)close(2); /* the assert's words are not a failure of this test */
		(void)!virtqueue_push(&f->q, head, written);
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

/* CVE-2024-8612 and its kind: a used length over what was writable. */
TEST(used_is_at_most_what_was_writable)
{
	static struct fixture f;
	struct chain c;

	init(&f, 4);
	desc(&f, 0, AT_DATA, 100, NEXT, 1);
	desc(&f, 1, AT_DATA, 10, WRITE, 0);
	offer(&f, 0);
	CHECK_EQ(virtqueue_pop(&f.q, &c), 0);
	CHECK(push_aborts(&f, 0, 11));
	CHECK(push_aborts(&f, 0, UINT32_MAX));
	CHECK(push_aborts(&f, 1, 0)); /* not a head */
	CHECK(push_aborts(&f, 4, 0)); /* not in the table */
	CHECK(push_aborts(&f, UINT16_MAX, 0));
	CHECK(!push_aborts(&f, 0, 10));
	CHECK(virtqueue_push(&f.q, 0, 10));
	CHECK(push_aborts(&f, 0, 10)); /* twice */
}

/* -- telling each other ---------------------------------------------------------------------------
 */

static void give_back(struct fixture *f, unsigned n)
{
	struct chain c;

	for (unsigned i = 0; i < n; i++) {
		offer(f, 0);
		CHECK_EQ(virtqueue_pop(&f->q, &c), 0);
		CHECK(virtqueue_push(&f->q, 0, 0));
	}
}

TEST(interrupts_by_flag)
{
	static struct fixture f;

	init(&f, 4);
	desc(&f, 0, AT_DATA, 1, WRITE, 0);
	CHECK(!virtqueue_wants_interrupt(&f.q)); /* nothing was pushed */
	give_back(&f, 1);
	CHECK(virtqueue_wants_interrupt(&f.q));
	CHECK(!virtqueue_wants_interrupt(&f.q));
	put16(&f, AT_AVAIL, 1);
	give_back(&f, 1);
	CHECK(!virtqueue_wants_interrupt(&f.q));
	put16(&f, AT_AVAIL, 0xfffe); /* other bits mean nothing */
	give_back(&f, 3);
	CHECK(virtqueue_wants_interrupt(&f.q));
}

/* Every distance of the event from where we were, at starts around the wrap. */
TEST(interrupts_by_event)
{
	static const uint16_t starts[] = { 0, 5, 0x7ffe, 0x8000, 0xfffd, 0xffff };
	static struct fixture f;

	init(&f, 8);
	f.q.event_idx = true;
	desc(&f, 0, AT_DATA, 1, WRITE, 0);
	for (unsigned s = 0; s < sizeof(starts) / sizeof(starts[0]); s++)
		for (unsigned n = 0; n <= 4; n++)
			for (int off = -4; off <= 8; off++) {
				uint16_t event = (uint16_t)(starts[s] + off);
				bool want = n > 0 && off >= 0 && off < (int)n;

				f.q.next_avail = f.q.next_used = f.q.told_used = starts[s];
				f.avail = starts[s];
				put16(&f, AT_AVAIL + 4 + 16, event);
				give_back(&f, n);
				CHECK_EQ(virtqueue_wants_interrupt(&f.q), want);
			}
}

TEST(an_interrupt_after_65536_is_not_lost)
{
	static struct fixture f;

	init(&f, 4);
	f.q.event_idx = true;
	desc(&f, 0, AT_DATA, 1, WRITE, 0);
	put16(&f, AT_AVAIL + 4 + 8, 0x4000);
	give_back(&f, 65536); /* the used index is where it was */
	CHECK(virtqueue_wants_interrupt(&f.q));
	CHECK(!virtqueue_wants_interrupt(&f.q));
	give_back(&f, 0x4000);
	CHECK(!virtqueue_wants_interrupt(&f.q));
	give_back(&f, 1);
	CHECK(virtqueue_wants_interrupt(&f.q));
}

TEST(kicks_by_flag_and_by_event)
{
	static struct fixture f;
	struct chain c;

	init(&f, 4);
	desc(&f, 0, AT_DATA, 1, WRITE, 0);
	virtqueue_disable_kicks(&f.q);
	CHECK_EQ(get16(&f, AT_USED), 1);
	CHECK(!virtqueue_enable_kicks(&f.q));
	CHECK_EQ(get16(&f, AT_USED), 0);
	offer(&f, 0);
	CHECK(virtqueue_enable_kicks(&f.q));

	f.q.event_idx = true;
	virtqueue_disable_kicks(&f.q);
	CHECK_EQ(get16(&f, AT_USED), 0);
	CHECK(virtqueue_enable_kicks(&f.q));
	CHECK_EQ(get16(&f, AT_USED + 4 + 32), 0);
	CHECK_EQ(virtqueue_pop(&f.q, &c), 0);
	CHECK(!virtqueue_enable_kicks(&f.q));
	CHECK_EQ(get16(&f, AT_USED + 4 + 32), 1);
}

/* -- the data of a chain --------------------------------------------------------------------------
 */

static void make_chain(struct fixture *f, struct chain *ret)
{
	init(f, 8);
	desc(f, 0, AT_DATA, 3, NEXT, 1);
	desc(f, 1, AT_DATA + 100, 0, NEXT, 2);
	desc(f, 2, AT_DATA + 10, 5, NEXT, 3);
	desc(f, 3, AT_DATA + 300, 4, NEXT | WRITE, 4);
	desc(f, 4, AT_DATA + 200, 1, NEXT | WRITE, 5);
	desc(f, 5, AT_DATA + 201, 6, WRITE, 0);
	offer(f, 0);
	CHECK_EQ(virtqueue_pop(&f->q, ret), 0);
	for (unsigned i = 0; i < 400; i++)
		f->ram[AT_DATA + i] = (uint8_t)i;
}

/* The bytes of either part, one by one. */
static const uint16_t readable_at[] = { 0, 1, 2, 10, 11, 12, 13, 14 };
static const uint16_t writable_at[] = { 300, 301, 302, 303, 200, 201, 202, 203, 204, 205, 206 };

TEST(reads_any_part_of_the_readable)
{
	static struct fixture f;
	struct chain c;

	make_chain(&f, &c);
	for (uint64_t off = 0; off < 12; off++)
		for (uint64_t len = 0; len < 14; len++) {
			uint8_t got[14];
			uint64_t want = off < 8 ? 8 - off : 0;
			uint64_t n;

			memset(got, 0xee, sizeof(got));
			CHECK(chain_read(&f.mem, &c, off, got, len, &n));
			CHECK_EQ(n, want < len ? want : len);
			for (uint64_t i = 0; i < sizeof(got); i++)
				CHECK_EQ(got[i], i < n ? readable_at[off + i] : 0xee);
		}
}

TEST(writes_any_part_of_the_writable)
{
	static struct fixture f;
	static uint8_t want[400];
	const uint8_t data[16] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };
	struct chain c;

	for (uint64_t off = 0; off < 14; off++)
		for (uint64_t len = 0; len <= sizeof(data); len++) {
			uint64_t n;

			make_chain(&f, &c);
			memcpy(want, f.ram + AT_DATA, sizeof(want));
			for (uint64_t i = 0; i < len && off + i < 11; i++)
				want[writable_at[off + i]] = data[i];
			CHECK(chain_write(&f.mem, &c, off, data, len, &n));
			CHECK_EQ(n, off >= 11 ? 0 : len < 11 - off ? len : 11 - off);
			CHECK(memcmp(want, f.ram + AT_DATA, sizeof(want)) == 0);
		}
}

static void check_iov(struct fixture *f, const struct chain *c, bool writable, uint64_t off,
                      uint64_t len)
{
	const uint16_t *bytes = writable ? writable_at : readable_at;
	uint64_t total = writable ? 11 : 8;
	struct iovec iov[4] = { 0 };
	int n = chain_iov(&f->mem, c, writable, off, len, iov, 3);
	uint64_t i = 0;

	if (len > 0 && (off > total || len > total - off)) {
		CHECK_EQ(n, -EBADMSG);
		return;
	}
	CHECK(n >= 0 && n <= 3);
	for (int v = 0; v < n; v++)
		for (size_t b = 0; b < iov[v].iov_len; b++, i++)
			CHECK_EQ((const uint8_t *)iov[v].iov_base + b - (const uint8_t *)f->ram,
			         AT_DATA + bytes[off + i]);
	CHECK_EQ(i, len);
	if (n > 0)
		CHECK_EQ(chain_iov(&f->mem, c, writable, off, len, iov, (unsigned)n - 1), -EBADMSG);
}

TEST(views_of_any_part)
{
	static struct fixture f;
	struct chain c;

	make_chain(&f, &c);
	for (uint64_t off = 0; off < 14; off++)
		for (uint64_t len = 0; len < 14; len++) {
			check_iov(&f, &c, false, off, len);
			check_iov(&f, &c, true, off, len);
		}
	check_iov(&f, &c, true, UINT64_MAX, 1);
	check_iov(&f, &c, true, 1, UINT64_MAX);
}

/* -- a guest that changes its mind ----------------------------------------------------------------
 */

struct racer {
	struct fixture *f;
	atomic_bool stop;
};

static void *rewrite(void *arg)
{
	struct racer *r = arg;
	_Atomic uint64_t *addr = (void *)(r->f->ram + AT_DESC);
	_Atomic uint64_t *rest = (void *)(r->f->ram + AT_DESC + 8);
	_Atomic uint16_t *entry = (void *)(r->f->ram + AT_AVAIL + 4);
	_Atomic uint16_t *index = (void *)(r->f->ram + AT_AVAIL + 2);

	for (uint64_t n = 0; !atomic_load(&r->stop); n++) {
		atomic_store(addr, n % 3 ? (uint64_t)AT_DATA : UINT64_MAX - 7);
		atomic_store(rest, n % 5 ? UINT64_C(16) : UINT64_C(0xffff0005fffffff0));
		atomic_store(entry, n % 2 ? 0 : (uint16_t)(n * 7919));
		atomic_store(index, n % 7 ? 1 : (uint16_t)n);
	}
	return NULL;
}

/* What pop says is true whatever another CPU does meanwhile: it judged its own copy. */
TEST(descriptors_rewritten_during_pop)
{
	static struct fixture f;
	struct racer r = { .f = &f };
	pthread_t t;
	unsigned good = 0;
	unsigned bad = 0;

	init(&f, 8);
	CHECK_EQ(pthread_create(&t, NULL, rewrite, &r), 0);
	while (good < 20000 || bad < 20000) {
		struct chain c;
		struct iovec view;
		int got = virtqueue_pop(&f.q, &c);

		bad += got == -EBADMSG;
		if (got != 0)
			continue;
		good++;
		CHECK(c.head < 8);
		CHECK(c.seg_count <= 8);
		for (unsigned i = 0; i < c.seg_count; i++)
			CHECK(guest_mem_iov(&f.mem, c.segs[i].at, c.segs[i].len, &view));
		virtqueue_unpop(&f.q);
	}
	atomic_store(&r.stop, true);
	CHECK_EQ(pthread_join(t, NULL), 0);
}

TEST_MAIN()
