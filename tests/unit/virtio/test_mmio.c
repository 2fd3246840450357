#include "virtio/mmio.h"

#include "mmio_fixture.h"

#include <string.h>

/* -- registers ------------------------------------------------------------------------------------
 */

TEST(says_what_it_is)
{
	struct vdriver d;
	struct fake f;

	start(&d, &f);
	CHECK_EQ(vdriver_read32(&d, 0x000), 0x74726976);
	CHECK_EQ(vdriver_read32(&d, 0x004), 2);
	CHECK_EQ(vdriver_read32(&d, 0x008), VIRTIO_RNG);
	CHECK_EQ(vdriver_read32(&d, 0x00c), 0x6d726562);
	CHECK_EQ(vdriver_read32(&d, 0x0b0), UINT32_MAX); /* no shared memory */
	CHECK(vdriver_offered(&d) == (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | FAKE_FEATURE));
	for (uint32_t sel = 0; sel < 5; sel++) {
		vdriver_write32(&d, MMIO_QUEUE_SEL, sel);
		CHECK_EQ(vdriver_read32(&d, MMIO_QUEUE_NUM_MAX), sel < FAKE_QUEUES ? 16 : 0);
	}
	vdriver_fini(&d);
	CHECK_EQ(f.freed, 1);
}

TEST(registers_take_aligned_words_only)
{
	struct vdriver d;
	struct fake f;
	uint64_t before;
	unsigned tried = 0;

	start(&d, &f);
	before = refused(&d);
	for (uint32_t off = 0; off < MMIO_CONFIG; off++)
		for (uint32_t len = 1; len <= 8; len++) {
			uint8_t got[8];
			const uint8_t ones[8] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

			if (len == 4 && off % 4 == 0)
				continue;
			memset(got, 0xee, sizeof(got));
			virtio_mmio_read(d.dev, off, got, len);
			for (uint32_t i = 0; i < sizeof(got); i++)
				CHECK_EQ(got[i], i < len ? 0 : 0xee);
			virtio_mmio_write(d.dev, off, ones, len);
			tried++;
		}
	CHECK_EQ(refused(&d) - before, tried);
	CHECK_EQ(status(&d), 0);
	vdriver_fini(&d);
}

TEST(what_is_not_there_reads_as_zero)
{
	struct vdriver d;
	struct fake f;
	unsigned nonzero = 0;

	start(&d, &f);
	for (uint32_t off = 0; off < MMIO_WINDOW_BYTES + 64; off += 4)
		nonzero += vdriver_read32(&d, off) != 0;
	/* magic, version, ids, features, num max, four of shared memory */
	CHECK_EQ(nonzero, 4 + 1 + 1 + 4);
	vdriver_fini(&d);
}

/* -- status ---------------------------------------------------------------------------------------
 */

/* Only the next step, FAILED, or nothing new; 0 resets. */
TEST(every_status_in_every_state)
{
	struct vdriver d;
	struct fake f;

	start(&d, &f);
	for (unsigned s = 0; s < STATES; s++)
		for (uint32_t v = 0; v < 512; v++) {
			uint32_t now = states[s];
			uint32_t next = s + 1 < STATES ? states[s + 1] : now;
			uint64_t before;
			uint32_t want = now;

			bring_to(&d, now);
			if (now == DRIVER) { /* so that FEATURES_OK may stay */
				vdriver_write32(&d, MMIO_DRIVER_FEATURES_SEL, 1);
				vdriver_write32(&d, MMIO_DRIVER_FEATURES, 1);
			}
			before = refused(&d);
			vdriver_write32(&d, MMIO_STATUS, v);
			if (v == 0)
				want = 0;
			else if (v == next || v == (now | STATUS_FAILED))
				want = v;
			CHECK_EQ(status(&d), want);
			CHECK_EQ(refused(&d) - before, v != 0 && v != now && want == now);
		}
	vdriver_fini(&d);
}

TEST(a_failed_driver_can_only_reset)
{
	struct vdriver d;
	struct fake f;

	start(&d, &f);
	bring_to(&d, FEATURES);
	vdriver_write32(&d, MMIO_STATUS, FEATURES | STATUS_FAILED);
	vdriver_write32(&d, MMIO_STATUS, LIVE | STATUS_FAILED);
	CHECK_EQ(status(&d), FEATURES | STATUS_FAILED);
	CHECK_EQ(f.activated, 0);
	vdriver_write32(&d, MMIO_QUEUE_SEL, 0);
	vdriver_write32(&d, MMIO_QUEUE_READY, 1);
	CHECK_EQ(vdriver_read32(&d, MMIO_QUEUE_READY), 0);
	bring_to(&d, LIVE);
	vdriver_fini(&d);
}

/* -- features -------------------------------------------------------------------------------------
 */

static bool features_ok(struct vdriver *d, uint64_t accept)
{
	bring_to(d, DRIVER);
	vdriver_write32(d, MMIO_DRIVER_FEATURES_SEL, 0);
	vdriver_write32(d, MMIO_DRIVER_FEATURES, (uint32_t)accept);
	vdriver_write32(d, MMIO_DRIVER_FEATURES_SEL, 1);
	vdriver_write32(d, MMIO_DRIVER_FEATURES, (uint32_t)(accept >> 32));
	vdriver_write32(d, MMIO_STATUS, FEATURES);
	return status(d) == FEATURES;
}

TEST(features_are_a_subset_of_the_offered)
{
	uint64_t offered = VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | FAKE_FEATURE;
	struct vdriver d;
	struct fake f;

	start(&d, &f);
	CHECK(!features_ok(&d, 0)); /* a driver of before version 1 */
	CHECK(!features_ok(&d, VIRTIO_F_EVENT_IDX));
	CHECK(features_ok(&d, VIRTIO_F_VERSION_1));
	CHECK(features_ok(&d, offered));
	CHECK(!features_ok(&d, UINT64_MAX));
	for (unsigned bit = 0; bit < 64; bit++) {
		uint64_t v = VIRTIO_F_VERSION_1 | UINT64_C(1) << bit;

		CHECK_EQ(features_ok(&d, v), (v & ~offered) == 0);
	}
	CHECK(features_ok(&d, VIRTIO_F_VERSION_1));
	CHECK(!virtio_has(d.dev, FAKE_FEATURE));
	vdriver_fini(&d);
}

TEST(features_are_written_between_driver_and_features_ok)
{
	static const uint32_t sels[] = { 2, 3, 32, 0x7fffffff, 0x80000000, UINT32_MAX };
	struct vdriver d;
	struct fake f;
	uint64_t before;

	start(&d, &f);
	for (unsigned s = 0; s < STATES; s++) {
		bring_to(&d, states[s]);
		before = refused(&d);
		vdriver_write32(&d, MMIO_DRIVER_FEATURES_SEL, 0);
		vdriver_write32(&d, MMIO_DRIVER_FEATURES, 0xffffffff);
		CHECK_EQ(refused(&d) - before, states[s] != DRIVER);
	}
	CHECK(d.dev->accepted == (VIRTIO_F_VERSION_1 | FAKE_FEATURE));
	bring_to(&d, DRIVER);
	before = refused(&d);
	for (unsigned i = 0; i < sizeof(sels) / sizeof(sels[0]); i++) {
		vdriver_write32(&d, MMIO_DEVICE_FEATURES_SEL, sels[i]);
		CHECK_EQ(vdriver_read32(&d, MMIO_DEVICE_FEATURES), 0);
		vdriver_write32(&d, MMIO_DRIVER_FEATURES_SEL, sels[i]);
		vdriver_write32(&d, MMIO_DRIVER_FEATURES, UINT32_MAX);
		CHECK_EQ(refused(&d), before + i + 1);
	}
	vdriver_write32(&d, MMIO_DRIVER_FEATURES_SEL, 1);
	vdriver_write32(&d, MMIO_DRIVER_FEATURES, 1);
	vdriver_write32(&d, MMIO_STATUS, FEATURES);
	CHECK_EQ(status(&d), FEATURES);
	vdriver_fini(&d);
}

/* -- queue registers ------------------------------------------------------------------------------
 */

static const uint32_t queue_regs[] = {
	MMIO_QUEUE_NUM,         MMIO_QUEUE_DESC_LOW,    MMIO_QUEUE_DESC_HIGH,
	MMIO_QUEUE_DRIVER_LOW,  MMIO_QUEUE_DRIVER_HIGH, MMIO_QUEUE_DEVICE_LOW,
	MMIO_QUEUE_DEVICE_HIGH, MMIO_QUEUE_READY,
};
enum { QUEUE_REGS = sizeof(queue_regs) / sizeof(queue_regs[0]) };

TEST(queue_registers_are_frozen_but_before_driver_ok)
{
	struct vdriver d;
	struct fake f;

	start(&d, &f);
	for (unsigned s = 0; s < STATES; s++) {
		uint64_t before;

		bring_to(&d, states[s]);
		vdriver_write32(&d, MMIO_QUEUE_SEL, 1);
		before = refused(&d);
		for (unsigned i = 0; i < QUEUE_REGS; i++)
			vdriver_write32(&d, queue_regs[i], 1);
		CHECK_EQ(refused(&d) - before, states[s] == FEATURES ? 0 : QUEUE_REGS);
	}
	vdriver_fini(&d);
}

TEST(a_ready_queue_is_taken_back_before_it_is_changed)
{
	struct vdriver d;
	struct fake f;
	uint64_t before;

	start(&d, &f);
	CHECK(vdriver_negotiate(&d, 0));
	CHECK(vdriver_queue(&d, 0, 8));
	before = refused(&d);
	for (unsigned i = 0; i < QUEUE_REGS - 1; i++)
		vdriver_write32(&d, queue_regs[i], 0);
	vdriver_write32(&d, MMIO_QUEUE_READY, 2);
	vdriver_write32(&d, MMIO_QUEUE_READY, UINT32_MAX);
	CHECK_EQ(refused(&d) - before, QUEUE_REGS + 1);
	vdriver_write32(&d, MMIO_QUEUE_READY, 0);
	CHECK_EQ(vdriver_read32(&d, MMIO_QUEUE_READY), 0);
	CHECK(vdriver_queue(&d, 0, 16));
	CHECK(vdriver_ready(&d));
	CHECK_EQ(d.dev->queues[0].size, 16);
	CHECK(!d.dev->queues[1].ready);
	vdriver_fini(&d);
}

/* CVE-2011-2512: a queue number taken as signed, or not checked. */
TEST(selectors_at_their_extremes)
{
	static const uint32_t sels[] = { FAKE_QUEUES,
		                         VIRTIO_QUEUES_MAX - 1,
		                         VIRTIO_QUEUES_MAX,
		                         255,
		                         256,
		                         0xffff,
		                         0x10000,
		                         0x7fffffff,
		                         0x80000000,
		                         0xfffffffe,
		                         UINT32_MAX };
	struct vdriver d;
	struct fake f;

	start(&d, &f);
	CHECK(vdriver_negotiate(&d, 0));
	for (unsigned i = 0; i < sizeof(sels) / sizeof(sels[0]); i++) {
		uint64_t before = refused(&d);

		vdriver_write32(&d, MMIO_QUEUE_SEL, sels[i]);
		CHECK_EQ(vdriver_read32(&d, MMIO_QUEUE_NUM_MAX), 0);
		CHECK_EQ(vdriver_read32(&d, MMIO_QUEUE_READY), 0);
		for (unsigned r = 0; r < QUEUE_REGS; r++)
			vdriver_write32(&d, queue_regs[r], 1);
		CHECK_EQ(refused(&d) - before, QUEUE_REGS);
	}
	bring_to(&d, LIVE);
	for (unsigned i = 0; i < sizeof(sels) / sizeof(sels[0]); i++) {
		uint64_t before = refused(&d);

		vdriver_write32(&d, MMIO_QUEUE_NOTIFY, sels[i]);
		CHECK_EQ(refused(&d) - before, 1);
	}
	vdriver_fini(&d);
}

/* Tries queue 0 with one register pair or the size changed; DRIVER_OK must not stand. */
static void bad_queue(struct vdriver *d, const struct fake *f, uint32_t reg, uint64_t v)
{
	unsigned before = f->activated;

	CHECK(vdriver_negotiate(d, 0));
	CHECK(vdriver_queue(d, 0, 8));
	vdriver_write32(d, MMIO_QUEUE_READY, 0);
	vdriver_write32(d, reg, (uint32_t)v);
	if (reg != MMIO_QUEUE_NUM)
		vdriver_write32(d, reg + 4, (uint32_t)(v >> 32));
	vdriver_write32(d, MMIO_QUEUE_READY, 1);
	CHECK(!vdriver_ready(d));
	CHECK_EQ(status(d), LIVE | STATUS_NEEDS_RESET);
	CHECK_EQ(f->activated, before);
	CHECK(vdriver_interrupt(d, 0) == ISR_CONFIG);
}

/* CVE-2017-17381: a ring of size 0; and every other thing that is no queue. */
TEST(driver_ok_with_what_is_no_queue)
{
	static const uint64_t sizes[] = { 0,      3,       32,      257,        512,
		                          0x8000, 0x10000, 0x10008, 0x80000000, UINT32_MAX };
	static const uint32_t rings[] = { MMIO_QUEUE_DESC_LOW, MMIO_QUEUE_DRIVER_LOW,
		                          MMIO_QUEUE_DEVICE_LOW };
	static const uint64_t places[] = { 1, /* not aligned */
		                           VDRIVER_RAM_BYTES,
		                           VDRIVER_RAM_BYTES - 16,
		                           UINT64_C(0xd0000000), /* this very device */
		                           GUEST_HOLE_START,
		                           GUEST_HOLE_END,
		                           UINT64_C(1) << 63,
		                           UINT64_MAX - 15 };
	struct vdriver d;
	struct fake f;

	start(&d, &f);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		bad_queue(&d, &f, MMIO_QUEUE_NUM, sizes[i]);
	for (unsigned r = 0; r < 3; r++)
		for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++)
			bad_queue(&d, &f, rings[r], places[i]);
	bring_to(&d, LIVE);
	CHECK_EQ(f.activated, 1);
	vdriver_fini(&d);
}

/* The last register write decides nothing: also one bad queue of three is none. */
TEST(one_bad_queue_keeps_all_dead)
{
	struct vdriver d;
	struct fake f;

	start(&d, &f);
	CHECK(vdriver_negotiate(&d, 0));
	CHECK(vdriver_queue(&d, 0, 8));
	CHECK(vdriver_queue(&d, 1, 8));
	vdriver_write32(&d, MMIO_QUEUE_SEL, 2);
	vdriver_write32(&d, MMIO_QUEUE_READY, 1);
	CHECK(!vdriver_ready(&d));
	for (unsigned i = 0; i < FAKE_QUEUES; i++) {
		CHECK(!d.dev->queues[i].ready);
		vdriver_ring(&d, i);
	}
	virtio_poll_kicks(d.dev);
	CHECK_EQ(f.kicks[0] + f.kicks[1] + f.kicks[2], 0);
	vdriver_fini(&d);
}

/* CVE-2026-5747: every register written while the queues are in use. */
TEST(no_write_after_driver_ok_reaches_a_queue)
{
	static const uint32_t values[] = {
		0, 1, 3, 0x100, 0xffff, 0x10000, 0x80000000, UINT32_MAX
	};
	struct vbuf b[2] = { { .len = 8 }, { .len = 8, .writable = true } };
	struct vdriver d;
	struct fake f;
	struct virtqueue was;

	start(&d, &f);
	bring_to(&d, LIVE);
	b[0].at = vdriver_alloc(&d, 8, 1);
	b[1].at = vdriver_alloc(&d, 8, 1);
	was = d.dev->queues[0];
	for (uint32_t off = 0; off < MMIO_WINDOW_BYTES; off += 4) {
		if (off == MMIO_STATUS)
			continue;
		for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
			vdriver_write32(&d, MMIO_QUEUE_SEL, 0);
			vdriver_write32(&d, off, values[i]);
		}
	}
	CHECK_EQ(d.dev->queues[0].size, was.size);
	CHECK_EQ(d.dev->queues[0].desc.v, was.desc.v);
	CHECK_EQ(d.dev->queues[0].avail.v, was.avail.v);
	CHECK_EQ(d.dev->queues[0].used.v, was.used.v);
	CHECK(d.dev->queues[0].ready);
	CHECK(d.dev->accepted == (VIRTIO_F_VERSION_1 | FAKE_FEATURE));
	CHECK_EQ(status(&d), LIVE);
	memcpy(vdriver_at(&d, b[0].at, 8), "together", 8);
	CHECK_EQ(vdriver_request(&d, 0, b, 2), 8);
	CHECK(memcmp(vdriver_at(&d, b[1].at, 8), "together", 8) == 0);
	vdriver_fini(&d);
}

/* -- configuration space --------------------------------------------------------------------------
 */

static bool legal_width(uint32_t len)
{
	return len == 1 || len == 2 || len == 4 || len == 8;
}

TEST(configuration_is_read_within_its_bounds)
{
	struct vdriver d;
	struct fake f;

	start(&d, &f);
	for (unsigned i = 0; i < FAKE_CONFIG_BYTES; i++)
		f.config[i] = (uint8_t)(i + 1);
	for (uint32_t off = 0; off < FAKE_CONFIG_BYTES + 16; off++)
		for (uint32_t len = 1; len <= 8; len++) {
			bool in = legal_width(len) && off + len <= FAKE_CONFIG_BYTES;
			uint8_t got[8];

			memset(got, 0xee, sizeof(got));
			virtio_mmio_read(d.dev, MMIO_CONFIG + off, got, len);
			for (uint32_t i = 0; i < sizeof(got); i++)
				CHECK_EQ(got[i], i >= len ? 0xee : in ? off + i + 1 : 0);
		}
	vdriver_fini(&d);
}

TEST(configuration_is_written_within_its_bounds)
{
	const uint8_t ones[8] = { 1, 1, 1, 1, 1, 1, 1, 1 };
	struct vdriver d;
	struct fake f;

	start(&d, &f);
	for (unsigned s = 0; s < STATES; s++)
		for (uint32_t off = 0; off < FAKE_CONFIG_BYTES + 16; off++)
			for (uint32_t len = 1; len <= 8; len++) {
				bool in = legal_width(len) && off + len <= FAKE_CONFIG_BYTES &&
				          states[s] >= DRIVER;
				uint64_t before;

				if (off == 0 && len == 1)
					bring_to(&d, states[s]);
				before = refused(&d);
				memset(f.config, 0, sizeof(f.config));
				virtio_mmio_write(d.dev, MMIO_CONFIG + off, ones, len);
				for (uint32_t i = 0; i < FAKE_CONFIG_BYTES; i++)
					CHECK_EQ(f.config[i],
					         in && i >= off && i < off + len ? 1 : 0);
				CHECK_EQ(refused(&d) - before, in ? 0 : 1);
			}
	vdriver_fini(&d);
}

TEST_MAIN()
