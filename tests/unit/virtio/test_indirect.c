/* Tables of descriptors elsewhere in memory: VIRTIO 1.2, 2.7.5.3. */
#include "queue_fixture.h"

enum { ENTRIES = CHAIN_SEGS_MAX + 42 }; /* of a table longer than any chain */

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
		desc(&f, before, AT_DATA, 16 * ENTRIES, INDIRECT, 0);
		for (unsigned i = 0; i < ENTRIES; i++)
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
