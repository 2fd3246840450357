#include "virtio/mmio.h"

#include "failalloc.h"
#include "test.h"
#include "virtio_driver.h"
#include "virtio_fake.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

enum {
	ACK = STATUS_ACKNOWLEDGE,
	DRIVER = ACK | STATUS_DRIVER,
	FEATURES = DRIVER | STATUS_FEATURES_OK,
	LIVE = FEATURES | STATUS_DRIVER_OK,
};

static void start(struct vdriver *d, struct fake *f)
{
	struct virtio_dev *dev = NULL;
	struct err e;

	*f = (struct fake){ 0 };
	vdriver_init(d);
	CHECK_OK(fake_new(f, &d->mem, d->loop, d->irq_fd, &dev, &e), &e);
	vdriver_attach(d, dev);
}

static uint64_t refused(const struct vdriver *d)
{
	struct virtio_counts c;

	virtio_get_counts(d->dev, &c);
	return c.refused_writes;
}

static uint32_t status(struct vdriver *d)
{
	return vdriver_read32(d, MMIO_STATUS);
}

/* A device in the given state; queues are set up from FEATURES_OK on. */
static void bring_to(struct vdriver *d, uint32_t to)
{
	vdriver_reset(d);
	if (to == ACK || to == DRIVER)
		vdriver_write32(d, MMIO_STATUS, ACK);
	if (to == DRIVER)
		vdriver_write32(d, MMIO_STATUS, DRIVER);
	if (to == FEATURES)
		CHECK(vdriver_negotiate(d, FAKE_FEATURE));
	if (to == LIVE)
		CHECK(vdriver_probe(d, FAKE_FEATURE, 0));
	CHECK_EQ(status(d), to);
}

static const uint32_t states[] = { 0, ACK, DRIVER, FEATURES, LIVE };
enum { STATES = sizeof(states) / sizeof(states[0]) };

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

/* -- kicks and interrupts -------------------------------------------------------------------------
 */

TEST(a_kick_arrives_by_store_and_by_eventfd)
{
	struct vdriver d;
	struct fake f;
	struct virtio_counts c;
	uint64_t before;

	start(&d, &f);
	bring_to(&d, FEATURES);
	before = refused(&d);
	vdriver_kick(&d, 0); /* too early */
	CHECK_EQ(refused(&d) - before, 1);
	vdriver_ring(&d, 0); /* KVM does not ask */
	virtio_poll_kicks(d.dev);
	CHECK_EQ(f.kicks[0], 0);
	CHECK(vdriver_queue(&d, 0, 0));
	CHECK(vdriver_queue(&d, 2, 0));
	CHECK(vdriver_ready(&d));
	virtio_poll_kicks(d.dev); /* each ready queue is looked at once */
	CHECK_EQ(f.kicks[0], 1);
	CHECK_EQ(f.kicks[1], 0);
	CHECK_EQ(f.kicks[2], 1);
	vdriver_kick(&d, 0);
	vdriver_ring(&d, 1); /* not set up */
	vdriver_ring(&d, 2);
	vdriver_ring(&d, 2);
	virtio_poll_kicks(d.dev);
	virtio_poll_kicks(d.dev);
	CHECK_EQ(f.kicks[0], 2);
	CHECK_EQ(f.kicks[1], 0);
	CHECK_EQ(f.kicks[2], 2); /* together: once */
	virtio_get_counts(d.dev, &c);
	CHECK_EQ(c.kicks, 6);
	CHECK_EQ(c.interrupts, 0);
	vdriver_fini(&d);
}

TEST(an_interrupt_is_a_bit_and_a_line)
{
	struct vdriver d;
	struct fake f;
	struct virtio_counts c;

	start(&d, &f);
	virtio_config_changed(d.dev); /* nobody to tell yet, but counted */
	CHECK_EQ(vdriver_read32(&d, MMIO_CONFIG_GENERATION), 1);
	CHECK_EQ(vdriver_read32(&d, MMIO_INTERRUPT_STATUS), 0);
	bring_to(&d, LIVE);
	CHECK_EQ(vdriver_interrupt(&d, 0), 0);
	(void)vdriver_add(&d, 2, &(struct vbuf){ .at = 64, .len = 1, .writable = true }, 1);
	virtio_poll_kicks(d.dev);
	CHECK_EQ(vdriver_read32(&d, MMIO_INTERRUPT_STATUS), ISR_USED);
	virtio_config_changed(d.dev);
	CHECK_EQ(vdriver_read32(&d, MMIO_INTERRUPT_STATUS), ISR_USED | ISR_CONFIG);
	vdriver_write32(&d, MMIO_INTERRUPT_ACK, ISR_CONFIG);
	CHECK_EQ(vdriver_read32(&d, MMIO_INTERRUPT_STATUS), ISR_USED);
	vdriver_write32(&d, MMIO_INTERRUPT_ACK, UINT32_MAX);
	CHECK_EQ(vdriver_read32(&d, MMIO_INTERRUPT_STATUS), 0);
	virtio_get_counts(d.dev, &c);
	CHECK_EQ(c.interrupts, 2);
	virtio_config_changed(d.dev);
	vdriver_reset(&d);
	CHECK_EQ(vdriver_read32(&d, MMIO_INTERRUPT_STATUS), 0);
	CHECK_EQ(vdriver_read32(&d, MMIO_CONFIG_GENERATION), 3);
	vdriver_fini(&d);
}

/* -- broken ---------------------------------------------------------------------------------------
 */

/* A request queue 2 calls malformed. */
static void lie(struct vdriver *d)
{
	(void)vdriver_add(d, 2, &(struct vbuf){ .at = 64, .len = 1 }, 1);
	vdriver_kick(d, 2);
	virtio_poll_kicks(d->dev);
}

TEST(a_broken_device_looks_at_no_queue_until_reset)
{
	struct vdriver d;
	struct fake f;
	struct vbuf b = { .at = 64, .len = 1, .writable = true };
	struct virtio_counts c;
	unsigned kicks;
	uint16_t head;
	uint32_t len;

	start(&d, &f);
	bring_to(&d, LIVE);
	lie(&d);
	CHECK_EQ(status(&d), LIVE | STATUS_NEEDS_RESET);
	CHECK_EQ(vdriver_interrupt(&d, 0), ISR_CONFIG);
	kicks = f.kicks[0];
	(void)vdriver_add(&d, 0, &b, 1);
	vdriver_kick(&d, 0);
	vdriver_ring(&d, 0);
	virtio_poll_kicks(d.dev);
	CHECK_EQ(f.kicks[0], kicks);
	CHECK(!vdriver_used(&d, 0, &head, &len));
	/* the driver writes back what it reads: that is no news, and does not wake it */
	vdriver_write32(&d, MMIO_STATUS, LIVE | STATUS_NEEDS_RESET);
	vdriver_write32(&d, MMIO_STATUS, LIVE);
	CHECK_EQ(status(&d), LIVE | STATUS_NEEDS_RESET);
	CHECK_EQ(f.resets, 0);
	bring_to(&d, LIVE);
	CHECK_EQ(f.resets, 1);
	CHECK_EQ(vdriver_request(&d, 2, &b, 1), 0);
	virtio_get_counts(d.dev, &c);
	CHECK_EQ(c.broken, 1);
	vdriver_fini(&d);
}

TEST(a_device_that_cannot_begin)
{
	struct vdriver d;
	struct fake f;

	start(&d, &f);
	f.activate_result = -EIO;
	CHECK(!vdriver_probe(&d, 0, 0));
	CHECK_EQ(status(&d), LIVE | STATUS_NEEDS_RESET);
	for (unsigned i = 0; i < FAKE_QUEUES; i++)
		vdriver_ring(&d, i);
	virtio_poll_kicks(d.dev);
	CHECK_EQ(f.kicks[0] + f.kicks[1] + f.kicks[2], 0);
	f.activate_result = 0;
	CHECK(vdriver_probe(&d, 0, 0));
	CHECK_EQ(f.resets, 1);
	vdriver_fini(&d);
	CHECK_EQ(f.resets, 2);
}

/* How often a guest breaks the rules is its choice; how much we write about it is not. */
TEST(the_log_is_bounded)
{
	struct vdriver d;
	struct fake f;
	struct virtio_counts c;
	char path[64];
	char text[8192];
	unsigned lines = 0;
	int saved = dup(2);
	int fd;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "%s/log", test_tmpdir());
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0 && dup2(fd, 2) == 2);
	start(&d, &f);
	for (unsigned i = 0; i < 200; i++) {
		bring_to(&d, LIVE);
		lie(&d);
		virtio_broken(d.dev, "again"); /* once a reset */
	}
	virtio_get_counts(d.dev, &c);
	vdriver_fini(&d);
	CHECK(dup2(saved, 2) == 2);
	n = pread(fd, text, sizeof(text), 0);
	CHECK(n > 0 && n < (ssize_t)sizeof(text));
	for (ssize_t i = 0; i < n; i++)
		lines += text[i] == '\n';
	CHECK_EQ(lines, VIRTIO_BROKEN_LINES);
	CHECK_EQ(c.broken, 200);
}

/* -- life -----------------------------------------------------------------------------------------
 */

TEST(no_memory_and_no_fds)
{
	struct rlimit lim;
	struct rlimit few;
	struct vdriver d;
	struct err e;

	vdriver_init(&d);
	FAILALLOC_EACH()
	{
		struct virtio_dev *dev = NULL;
		struct fake f = { 0 };
		int r = fake_new(&f, &d.mem, d.loop, -1, &dev, &e);

		if (failalloc_hit()) {
			CHECK_EQ(r, -ENOMEM);
			CHECK(!dev);
		} else {
			CHECK_OK(r, &e);
			virtio_dev_free(dev);
		}
		CHECK_EQ(f.freed, 1);
	}
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &lim), 0);
	for (rlim_t n = 0; n < FAKE_QUEUES; n++) {
		struct virtio_dev *dev = NULL;
		struct fake f = { 0 };
		int next = dup(0);
		int r;

		(void)close(next);
		few = (struct rlimit){ .rlim_cur = (rlim_t)next + n, .rlim_max = lim.rlim_max };
		CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
		r = fake_new(&f, &d.mem, d.loop, -1, &dev, &e);
		CHECK_EQ(setrlimit(RLIMIT_NOFILE, &lim), 0);
		CHECK_EQ(r, -EMFILE);
		CHECK(!dev);
		CHECK_EQ(f.freed, 1);
	}
	vdriver_fini(&d);
}

/* -- two threads ----------------------------------------------------------------------------------
 */

struct slow_io {
	struct vdriver *d;
	sem_t reset_waits, io_done;
	atomic_bool touched_late, written;
};

/* What a device with I/O under way does in reset: it waits for its end. */
static void wait_for_io(void *arg)
{
	struct slow_io *s = arg;

	(void)sem_post(&s->reset_waits);
	while (sem_wait(&s->io_done) < 0)
		CHECK_EQ(errno, EINTR);
}

static void *vcpu_resets(void *arg)
{
	struct slow_io *s = arg;

	vdriver_write32(s->d, MMIO_STATUS, 0);
	atomic_store(&s->written, true);
	return NULL;
}

/* CVE-2026-45782: reset while a request is under way. The vCPU's store waits for it. */
TEST(reset_waits_for_what_is_under_way)
{
	struct vdriver d;
	struct fake f;
	struct slow_io s = { .d = &d };
	struct vbuf b = { .len = 1, .writable = true };
	pthread_t t;

	CHECK_EQ(sem_init(&s.reset_waits, 0, 0), 0);
	CHECK_EQ(sem_init(&s.io_done, 0, 0), 0);
	start(&d, &f);
	vdriver_run(&d);
	bring_to(&d, LIVE);
	b.at = vdriver_alloc(&d, 1, 1);
	(void)vdriver_add(&d, 1, &b, 1);
	vdriver_kick(&d, 1);
	(void)vdriver_add(&d, 2, &b, 1); /* served on the same thread: then 1 was, too */
	vdriver_kick(&d, 2);
	{
		uint16_t head;
		uint32_t len;

		CHECK(vdriver_wait_used(&d, 2, &head, &len));
	}
	f.in_reset = wait_for_io;
	f.arg = &s;
	CHECK_EQ(pthread_create(&t, NULL, vcpu_resets, &s), 0);
	while (sem_wait(&s.reset_waits) < 0)
		CHECK_EQ(errno, EINTR);
	CHECK(!atomic_load(&s.written));
	f.in_reset = NULL; /* of later resets */
	CHECK_EQ(sem_post(&s.io_done), 0);
	CHECK_EQ(pthread_join(t, NULL), 0);
	CHECK(atomic_load(&s.written));
	CHECK_EQ(status(&d), 0);
	CHECK_EQ(f.slow_count, 0);
	bring_to(&d, LIVE);
	CHECK_EQ(vdriver_request(&d, 2, &b, 1), 0);
	vdriver_fini(&d);
}

struct hammer {
	struct vdriver *d;
	uint32_t seed;
	unsigned rounds;
};

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

/* One vCPU that writes and reads anything, anywhere. */
static void *hammer(void *arg)
{
	struct hammer *h = arg;
	static const uint32_t widths[] = { 4, 4, 4, 4, 1, 2, 8 };

	for (unsigned n = 0; n < h->rounds; n++) {
		uint32_t r = next_random(&h->seed);
		uint32_t off = r % 8 == 0 ? next_random(&h->seed) % 0x120
		                          : next_random(&h->seed) % 0x48 * 4;
		uint32_t len = widths[next_random(&h->seed) % 7];
		uint64_t v = r % 5 == 0 ? states[r % STATES] : next_random(&h->seed);
		uint64_t got;

		if (r % 3 == 0)
			virtio_mmio_read(h->d->dev, off, &got, len);
		else if (r % 16 == 1)
			virtio_mmio_write(h->d->dev, MMIO_STATUS, &v, 4);
		else
			virtio_mmio_write(h->d->dev, off, &v, len);
	}
	return NULL;
}

static void disturb(void *arg)
{
	struct vdriver *d = arg;

	virtio_config_changed(d->dev);
	for (unsigned i = 0; i < FAKE_QUEUES; i++)
		virtio_notify(d->dev, &d->dev->queues[i]);
	virtio_broken(d->dev, "to see");
}

TEST(any_writes_from_many_threads)
{
	enum { THREADS = 4 };
	struct vdriver d;
	struct fake f;
	struct hammer h[THREADS];
	pthread_t t[THREADS];
	struct vbuf b = { .at = 64, .len = 1, .writable = true };

	start(&d, &f);
	vdriver_run(&d);
	for (unsigned i = 0; i < THREADS; i++) {
		h[i] = (struct hammer){ .d = &d, .seed = i + 1, .rounds = 4000 };
		CHECK_EQ(pthread_create(&t[i], NULL, hammer, &h[i]), 0);
	}
	for (unsigned i = 0; i < 50; i++) {
		uint16_t head;
		uint32_t len;

		vdriver_on_loop(&d, disturb, &d);
		if (vdriver_used(&d, 0, &head, &len))
			CHECK_EQ(head, 0); /* d.q is empty: address 0 */
	}
	for (unsigned i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(t[i], NULL), 0);
	bring_to(&d, LIVE);
	CHECK_EQ(vdriver_request(&d, 2, &b, 1), 0);
	vdriver_fini(&d);
	CHECK_EQ(f.freed, 1);
}

static void many_requests(uint64_t features)
{
	enum { REQUESTS = 70000 }; /* past the wrap */
	struct vbuf b[2] = { { .len = 4 }, { .len = 4, .writable = true } };
	struct vdriver d;
	struct fake f;
	uint32_t sent = 0;

	start(&d, &f);
	vdriver_run(&d);
	CHECK(vdriver_probe(&d, features, 8));
	b[0].at = vdriver_alloc(&d, 4 * 4, 4);
	b[1].at = vdriver_alloc(&d, 4 * 4, 4);
	for (uint32_t got = 0; got < REQUESTS; got++) {
		uint16_t head;
		uint32_t len;
		uint32_t v;

		for (; sent < REQUESTS && sent - got < 4; sent++) {
			struct vbuf one[2] = { b[0], b[1] };

			one[0].at += 4 * (sent % 4);
			one[1].at += 4 * (sent % 4);
			memcpy(vdriver_at(&d, one[0].at, 4), &sent, 4);
			(void)vdriver_add(&d, 0, one, 2);
			vdriver_kick(&d, 0);
		}
		CHECK(vdriver_wait_used(&d, 0, &head, &len));
		CHECK_EQ(len, 4);
		memcpy(&v, vdriver_at(&d, b[1].at + 4 * (got % 4), 4), 4);
		CHECK_EQ(v, got);
	}
	CHECK(!vdriver_needs_reset(&d));
	vdriver_fini(&d);
}

/* No interrupt may be lost: the driver sleeps until one comes. */
TEST(no_request_is_lost_with_flags)
{
	many_requests(0);
}

TEST(no_request_is_lost_with_event_idx)
{
	many_requests(VIRTIO_F_EVENT_IDX);
}

TEST_MAIN()
