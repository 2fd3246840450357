/* Tables of descriptors elsewhere in memory: VIRTIO 1.2, 2.7.5.3. */
#include "virtio/queue.h"

#include "test.h"

#include <errno.h>
#include <string.h>

enum {
	RAM_BYTES = 1 << 16,
	AT_DESC = 0x1000,
	AT_AVAIL = 0x2800, /* behind 256 descriptors and more */
	AT_USED = 0x3000,
	AT_DATA = 0x4000,
	NEXT = 1,
	WRITE = 2,
	INDIRECT = 4,
};

struct fixture {
	struct guest_mem mem;
	struct virtqueue q;
	uint16_t avail; /* what the driver put into avail->idx */
	_Alignas(16) uint8_t ram[RAM_BYTES];
};

static void put16(struct fixture *f, uint64_t at, uint16_t v)
{
	CHECK(guest_mem_store16(&f->mem, gpa_of(at), v));
}

static void init(struct fixture *f, uint16_t size)
{
	memset(f, 0, sizeof(*f));
	guest_mem_over(f->ram, RAM_BYTES, &f->mem);
	f->q = (struct virtqueue){
		.size = size,
		.size_max = QUEUE_SIZE_MAX,
		.desc = gpa_of(AT_DESC),
		.avail = gpa_of(AT_AVAIL),
		.used = gpa_of(AT_USED),
		.mem = &f->mem,
		.ready = true,
	};
	CHECK(virtqueue_valid(&f->q));
}

static void desc(struct fixture *f, unsigned i, uint64_t at, uint32_t len, unsigned flags,
                 unsigned next)
{
	uint8_t *to = f->ram + AT_DESC + 16u * i;
	uint16_t rest[2] = { (uint16_t)flags, (uint16_t)next };

	memcpy(to, &at, 8);
	memcpy(to + 8, &len, 4);
	memcpy(to + 12, rest, 4);
}

static void offer(struct fixture *f, uint16_t head)
{
	put16(f, AT_AVAIL + 4 + 2u * (f->avail & (f->q.size - 1u)), head);
	f->avail++;
	put16(f, AT_AVAIL + 2, f->avail);
}

/* A pop that must be refused: nothing written, nothing held, and the same again. */
static void refused(struct fixture *f)
{
	static struct chain got;
	static uint8_t before[sizeof(got)];
	struct virtqueue was = f->q;

	memset(&got, 0xa5, sizeof(got));
	memset(before, 0xa5, sizeof(before));
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(virtqueue_pop(&f->q, &got), -EBADMSG);
		CHECK_MEM(span_of(&got, sizeof(got)), span_of(before, sizeof(before)));
	}
	CHECK_EQ(f->q.next_avail, was.next_avail);
	CHECK_EQ(f->q.held_count, was.held_count);
}

/* A descriptor of a table that lies at AT_DATA. */
static void entry(struct fixture *f, unsigned index, uint64_t at, uint32_t len, unsigned flags,
                  unsigned next)
{
	desc(f, (AT_DATA - AT_DESC) / 16 + index, at, len, flags, next);
}

TEST(a_table_is_part_of_the_chain)
{
	static struct fixture f;
	struct chain c;

	init(&f, 8);
	f.q.indirect = true;
	desc(&f, 0, AT_DATA + 3000, 1, NEXT, 1);
	desc(&f, 1, AT_DATA, 16 * 20, INDIRECT | WRITE, 7); /* WRITE is to be ignored */
	for (unsigned i = 0; i < 20; i++) /* longer than the queue, and backwards */
		entry(&f, (20 - i) % 20, AT_DATA + 2000, 2 + i,
		      (i < 19 ? NEXT : 0u) | (i >= 10 ? WRITE : 0u), 19 - i);
	offer(&f, 0);
	CHECK_EQ(virtqueue_pop(&f.q, &c), 0);
	CHECK_EQ(c.head, 0);
	CHECK_EQ(c.seg_count, 21);
	CHECK_EQ(c.readable, 11);
	CHECK_EQ(c.segs[1].len, 2);
	CHECK_EQ(c.segs[20].len, 21);
	CHECK(virtqueue_push(&f.q, 0, 5));
}

TEST(a_table_of_the_longest_chain_and_no_longer)
{
	static struct fixture f;
	struct chain c;

	for (unsigned before = 0; before < 3; before++) {
		init(&f, 8);
		f.q.indirect = true;
		for (unsigned i = 0; i < before; i++)
			desc(&f, i, AT_DATA, 1, NEXT, i + 1);
		desc(&f, before, AT_DATA, 16 * 200, INDIRECT, 0);
		for (unsigned i = 0; i < 200; i++)
			entry(&f, i, AT_DATA, 1, i + before + 1 < CHAIN_SEGS_MAX ? NEXT : 0, i + 1);
		offer(&f, 0);
		CHECK_EQ(virtqueue_pop(&f.q, &c), 0);
		CHECK_EQ(c.seg_count, CHAIN_SEGS_MAX);
		virtqueue_unpop(&f.q);
		entry(&f, CHAIN_SEGS_MAX - 1 - before, AT_DATA, 1, NEXT, CHAIN_SEGS_MAX - before);
		refused(&f);
	}
}

/* kvmtool 3: indirect tables of any length, anywhere. */
TEST(tables_that_are_none)
{
	static struct fixture f;

	init(&f, 8);
	f.q.indirect = true;
	offer(&f, 0);
	entry(&f, 0, AT_DATA, 1, 0, 0);
	desc(&f, 0, AT_DATA, 0, INDIRECT, 0);
	refused(&f);
	desc(&f, 0, AT_DATA, 15, INDIRECT, 0);
	refused(&f);
	desc(&f, 0, AT_DATA, 17, INDIRECT, 0);
	refused(&f);
	desc(&f, 0, AT_DATA, 0xfffffff0, INDIRECT, 0);
	refused(&f);
	desc(&f, 0, RAM_BYTES - 8, 16, INDIRECT, 0);
	refused(&f);
	desc(&f, 0, UINT64_MAX - 15, 32, INDIRECT, 0);
	refused(&f);
	desc(&f, 0, AT_DATA, 16, INDIRECT | NEXT, 1); /* not the last */
	refused(&f);

	desc(&f, 0, AT_DATA, 32, INDIRECT, 0);
	entry(&f, 0, AT_DATA, 16, INDIRECT, 0); /* a table within */
	refused(&f);
	entry(&f, 0, AT_DATA, 1, NEXT, 1);
	entry(&f, 1, AT_DATA, 16, INDIRECT, 0);
	refused(&f);
	entry(&f, 0, AT_DATA, 1, NEXT, 2); /* past its end */
	refused(&f);
	entry(&f, 0, AT_DATA, 1, NEXT, 0); /* a loop */
	refused(&f);
	entry(&f, 0, RAM_BYTES, 1, 0, 0);
	refused(&f);
	entry(&f, 0, AT_DATA, 1, WRITE | NEXT, 1);
	entry(&f, 1, AT_DATA, 1, 0, 0); /* readable behind writable */
	refused(&f);
}

TEST_MAIN()
