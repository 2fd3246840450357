#include "guardpage.h"
#include "test.h"
#include "virtio_driver.h"
#include "virtio_fake.h"

#include <errno.h>
#include <string.h>

/* Where things are in a saved state: see mmio_state.c. */
enum {
	AT_VERSION = 0,
	AT_TYPE = 4,
	AT_COUNT = 8,
	AT_STATUS = 12,
	AT_FEATURES = 16,
	AT_ISR = 36,
	AT_QUEUES = 44,
	QUEUE_BYTES = 36,
	Q_NUM = 0,
	Q_READY = 4,
	Q_DESC = 8,
	Q_DRIVER = 16,
	Q_DEVICE = 24,
	Q_AVAIL = 32,
	Q_USED = 34,
	AT_OWN = AT_QUEUES + FAKE_QUEUES * QUEUE_BYTES,
	SAVED_BYTES = AT_OWN + 4 + FAKE_CONFIG_BYTES + 4,

	LIVE = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK,
};

struct saved {
	uint8_t bytes[VIRTIO_SAVE_MAX];
	size_t len;
};

static void start(struct vdriver *d, struct fake *f)
{
	struct virtio_dev *dev = NULL;
	struct err e;

	CHECK_OK(fake_new(f, &d->mem, d->loop, d->irq_fd, &dev, &e), &e);
	vdriver_attach(d, dev);
}

static void save(const struct vdriver *d, struct saved *ret)
{
	struct buf b;

	buf_init(&b, ret->bytes, sizeof(ret->bytes));
	virtio_pause(d->dev);
	virtio_save(d->dev, &b);
	CHECK(buf_ok(&b));
	ret->len = b.len;
	CHECK_EQ(b.len, SAVED_BYTES);
}

static int load(struct vdriver *d, const struct saved *s, struct err *e)
{
	uint8_t *at = guard_copy(s->bytes, s->len); /* it reads not one byte more */
	int r = virtio_load(d->dev, span_of(at, s->len), e);

	guard_free(at, s->len);
	return r;
}

static const struct vbuf one = { .at = 64, .len = 4, .writable = true };

/* A machine with requests done, one under way and one not looked at. */
static void make_busy(struct vdriver *d, struct fake *f)
{
	*f = (struct fake){ .value = 77 };
	memcpy(f->config, "configuration", 14);
	vdriver_init(d);
	start(d, f);
	CHECK(vdriver_probe(d, VIRTIO_F_EVENT_IDX | FAKE_FEATURE, 8));
	for (unsigned i = 0; i < 13; i++)
		CHECK_EQ(vdriver_request(d, 2, &one, 1), 0);
	(void)vdriver_add(d, 1, &one, 1);
	vdriver_kick(d, 1);
	virtio_poll_kicks(d->dev);
	CHECK_EQ(f->slow_count, 1);
	(void)vdriver_add(d, 2, &one, 1); /* and no kick: it got lost with the machine */
}

/* -- what comes back ------------------------------------------------------------------------------
 */

TEST(a_restored_device_goes_on)
{
	struct vdriver first;
	struct vdriver d;
	struct fake f1;
	struct fake f2 = { 0 };
	struct saved s;
	struct saved again;
	struct err e;
	uint16_t head;
	uint32_t len;

	make_busy(&first, &f1);
	save(&first, &s);
	CHECK_EQ(f1.paused, 1);
	CHECK_EQ(f1.slow_count, 0); /* given back: nothing is under way */

	vdriver_init_over(&d, &first);
	start(&d, &f2);
	CHECK_OK(load(&d, &s, &e), &e);
	CHECK_EQ(f2.activated, 0);
	CHECK_EQ(f2.value, 77);
	CHECK_STR((const char *)f2.config, "configuration");
	save(&d, &again); /* pausing what is loaded does nothing */
	CHECK_MEM(span_of(s.bytes, s.len), span_of(again.bytes, again.len));

	virtio_resume(d.dev);
	CHECK_EQ(f2.activated, 1);
	CHECK_EQ(f2.resumed, 0);
	CHECK(d.dev->accepted == (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | FAKE_FEATURE));
	CHECK((vdriver_interrupt(&d, 0) & ISR_USED) != 0); /* it may have been lost */
	CHECK(vdriver_used(&d, 1, &head, &len));
	CHECK_EQ(len, 1);
	CHECK(vdriver_wait_used(&d, 2, &head, &len)); /* it was looked at without a kick */
	for (unsigned i = 0; i < 40; i++)
		CHECK_EQ(vdriver_request(&d, 2, &one, 1), 0);
	vdriver_fini(&d);
	vdriver_fini(&first);
}

TEST(the_original_goes_on_as_well)
{
	struct vdriver d;
	struct fake f;
	struct saved s;
	uint16_t head;
	uint32_t len;

	make_busy(&d, &f);
	save(&d, &s);
	vdriver_kick(&d, 2);
	virtio_poll_kicks(d.dev);
	CHECK(!vdriver_used(&d, 2, &head, &len)); /* paused */
	virtio_pause(d.dev);                      /* twice is once */
	CHECK_EQ(f.paused, 1);
	virtio_resume(d.dev);
	virtio_resume(d.dev);
	CHECK_EQ(f.resumed, 1);
	CHECK_EQ(f.activated, 1);
	CHECK(vdriver_used(&d, 1, &head, &len));
	CHECK(vdriver_wait_used(&d, 2, &head, &len));
	CHECK_EQ(vdriver_request(&d, 2, &one, 1), 0);
	vdriver_fini(&d);
}

TEST(every_stage_of_negotiation_comes_back)
{
	for (unsigned stage = 0; stage < 5; stage++) {
		struct vdriver first;
		struct vdriver d;
		struct fake f1 = { 0 };
		struct fake f2 = { 0 };
		struct saved s;
		struct err e;
		uint32_t status;

		vdriver_init(&first);
		start(&first, &f1);
		if (stage == 1 || stage == 2)
			vdriver_write32(&first, MMIO_STATUS, STATUS_ACKNOWLEDGE);
		if (stage == 2) {
			vdriver_write32(&first, MMIO_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
			vdriver_write32(&first, MMIO_DRIVER_FEATURES, UINT32_MAX); /* not judged */
		}
		if (stage >= 3)
			CHECK(vdriver_negotiate(&first, 0));
		if (stage == 3) {
			vdriver_write32(&first, MMIO_QUEUE_SEL, 1);
			vdriver_write32(&first, MMIO_QUEUE_DESC_LOW, 0x12345678); /* nor this */
		}
		if (stage == 4) {
			CHECK(vdriver_queue(&first, 2, 4)); /* and no other */
			CHECK(vdriver_ready(&first));
		}
		status = vdriver_read32(&first, MMIO_STATUS);
		save(&first, &s);
		vdriver_init_over(&d, &first);
		start(&d, &f2);
		CHECK_OK(load(&d, &s, &e), &e);
		virtio_resume(d.dev);
		CHECK_EQ(vdriver_read32(&d, MMIO_STATUS), status);
		CHECK_EQ(f2.activated, stage == 4);
		if (stage == 3)
			CHECK(vdriver_ready(&d)); /* with no queue, as it was */
		if (stage == 4)
			CHECK_EQ(vdriver_request(&d, 2, &one, 1), 0);
		CHECK(vdriver_probe(&d, 0, 0));
		vdriver_fini(&d);
		vdriver_fini(&first);
	}
}

TEST(a_broken_device_comes_back_broken)
{
	struct vdriver first;
	struct vdriver d;
	struct fake f1;
	struct fake f2 = { 0 };
	struct saved s;
	struct err e;

	make_busy(&first, &f1);
	virtio_broken(first.dev, "to see");
	save(&first, &s);
	vdriver_init_over(&d, &first);
	start(&d, &f2);
	CHECK_OK(load(&d, &s, &e), &e);
	virtio_resume(d.dev);
	CHECK_EQ(f2.activated, 0);
	CHECK(vdriver_needs_reset(&d));
	CHECK((vdriver_interrupt(&d, 0) & ISR_CONFIG) != 0);
	vdriver_kick(&d, 2);
	virtio_poll_kicks(d.dev);
	CHECK_EQ(f2.kicks[2], 0);
	virtio_broken(d.dev, "it is known");
	CHECK_EQ(vdriver_interrupt(&d, 0), 0);
	CHECK(vdriver_probe(&d, 0, 0));
	CHECK_EQ(f2.resets, 1); /* of what load left */
	CHECK_EQ(vdriver_request(&d, 2, &one, 1), 0);
	vdriver_fini(&d);
	vdriver_fini(&first);
}

TEST(a_device_that_cannot_begin_again)
{
	struct vdriver first;
	struct vdriver d;
	struct fake f1;
	struct fake f2 = { .activate_result = -EIO };
	struct saved s;
	struct err e;

	make_busy(&first, &f1);
	save(&first, &s);
	vdriver_init_over(&d, &first);
	start(&d, &f2);
	CHECK_OK(load(&d, &s, &e), &e);
	virtio_resume(d.dev);
	CHECK(vdriver_needs_reset(&d));
	CHECK((vdriver_interrupt(&d, 0) & ISR_CONFIG) != 0);
	vdriver_fini(&d);
	vdriver_fini(&first);
}

TEST(too_small_a_buffer_is_told)
{
	struct vdriver d;
	struct fake f;
	uint8_t bytes[SAVED_BYTES];

	make_busy(&d, &f);
	virtio_pause(d.dev);
	for (size_t room = 0; room <= SAVED_BYTES; room++) {
		struct buf b;

		buf_init(&b, bytes, room);
		virtio_save(d.dev, &b);
		CHECK_EQ(buf_ok(&b), room == SAVED_BYTES);
	}
	vdriver_fini(&d);
}

/* -- what is refused ------------------------------------------------------------------------------
 */

/* Loads into a device just made over first's memory; the answer of virtio_load(). */
static int try_load(const struct vdriver *first, const struct saved *s, struct err *e)
{
	struct vdriver d;
	struct fake f = { 0 };
	int r;

	vdriver_init_over(&d, first);
	start(&d, &f);
	r = load(&d, s, e);
	CHECK_EQ(f.activated, 0);
	if (r < 0) {
		CHECK_EQ(r, -EBADMSG);
		CHECK(e->len > 0);
	} else {
		virtio_resume(d.dev); /* what was taken can be lived with */
		virtio_poll_kicks(d.dev);
		CHECK(vdriver_probe(&d, 0, 0));
	}
	vdriver_fini(&d);
	CHECK_EQ(f.freed, 1);
	return r;
}

static void patch(struct saved *s, size_t at, uint64_t v, size_t len)
{
	CHECK(at + len <= s->len);
	for (size_t i = 0; i < len; i++)
		s->bytes[at + i] = (uint8_t)(v >> (8 * i));
}

TEST(every_prefix_and_every_tail)
{
	struct vdriver first;
	struct fake f;
	struct saved s;
	struct err e;
	size_t len;

	make_busy(&first, &f);
	save(&first, &s);
	len = s.len;
	for (s.len = 0; s.len < len; s.len++)
		CHECK_EQ(try_load(&first, &s, &e), -EBADMSG);
	s.len = len + 1;
	s.bytes[len] = 0;
	CHECK_EQ(try_load(&first, &s, &e), -EBADMSG);
	s.len = len;
	CHECK_OK(try_load(&first, &s, &e), &e); /* last, as it moves the rings on */
	vdriver_fini(&first);
}

static const struct {
	size_t at;
	size_t len;
	uint64_t v;
} bad[] = {
	{ AT_VERSION, 4, 0 },
	{ AT_VERSION, 4, 2 },
	{ AT_TYPE, 4, VIRTIO_NET },
	{ AT_COUNT, 4, 0 },
	{ AT_COUNT, 4, FAKE_QUEUES - 1 },
	{ AT_COUNT, 4, FAKE_QUEUES + 1 },
	{ AT_COUNT, 4, 0x80000000 },
	{ AT_COUNT, 4, UINT32_MAX },
	{ AT_STATUS, 4, 0 }, /* with registers that only come later */
	{ AT_STATUS, 4, 1 },
	{ AT_STATUS, 4, 2 },
	{ AT_STATUS, 4, 3 },
	{ AT_STATUS, 4, LIVE - STATUS_DRIVER_OK }, /* with an index */
	{ AT_STATUS, 4, LIVE - 1 },
	{ AT_STATUS, 4, LIVE | 16 },
	{ AT_STATUS, 4, LIVE | 256 },
	{ AT_STATUS, 4, STATUS_NEEDS_RESET },
	{ AT_STATUS, 4, UINT32_MAX },
	{ AT_FEATURES, 8, 0 },
	{ AT_FEATURES, 8, FAKE_FEATURE },
	{ AT_FEATURES, 8, VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC },
	{ AT_FEATURES, 8, UINT64_MAX },
	{ AT_ISR, 4, 4 },
	{ AT_ISR, 4, UINT32_MAX },
	{ AT_QUEUES + Q_NUM, 4, 0 },
	{ AT_QUEUES + Q_NUM, 4, 3 },
	{ AT_QUEUES + Q_NUM, 4, 32 },
	{ AT_QUEUES + Q_NUM, 4, 0x10008 },
	{ AT_QUEUES + Q_NUM, 4, UINT32_MAX },
	{ AT_QUEUES + Q_READY, 4, 2 },
	{ AT_QUEUES + Q_READY, 4, UINT32_MAX },
	{ AT_QUEUES + Q_DESC, 8, 1 },
	{ AT_QUEUES + Q_DESC, 8, VDRIVER_RAM_BYTES - 16 },
	{ AT_QUEUES + Q_DESC, 8, UINT64_MAX - 15 },
	{ AT_QUEUES + Q_DRIVER, 8, 1 },
	{ AT_QUEUES + Q_DRIVER, 8, UINT64_C(0xd0000000) },
	{ AT_QUEUES + Q_DEVICE, 8, 2 },
	{ AT_QUEUES + Q_DEVICE, 8, UINT64_C(1) << 63 },
	{ AT_QUEUES + Q_AVAIL, 2, 1 },
	{ AT_QUEUES + Q_USED, 2, 1 },
	{ AT_QUEUES + Q_AVAIL, 4, 0x00010001 },           /* alike, but not as the rings say */
	{ AT_QUEUES + 2 * QUEUE_BYTES + Q_READY, 4, 0 },  /* it was used */
	{ AT_QUEUES + 2 * QUEUE_BYTES + Q_AVAIL, 2, 12 }, /* one chain under way */
	{ AT_QUEUES + 2 * QUEUE_BYTES + Q_AVAIL, 2, 14 },
	{ AT_QUEUES + 2 * QUEUE_BYTES + Q_AVAIL, 4, 0x000c000c },
	{ AT_QUEUES + 2 * QUEUE_BYTES + Q_AVAIL, 4, 0xffffffff },
	{ AT_OWN, 4, 0 },
	{ AT_OWN, 4, FAKE_CONFIG_BYTES + 3 },
	{ AT_OWN, 4, FAKE_CONFIG_BYTES + 5 },
	{ AT_OWN, 4, VIRTIO_STATE_MAX + 1 },
	{ AT_OWN, 4, 0x80000000 },
	{ AT_OWN, 4, UINT32_MAX },
	{ AT_OWN + 4 + FAKE_CONFIG_BYTES, 4, 1000 }, /* the device's own judgement */
};

/* CVE-2013-4148 and its kind: counts and indices of a saved state taken for granted. */
TEST(every_field_is_judged)
{
	struct vdriver first;
	struct fake f;
	struct saved good;
	struct err e;

	make_busy(&first, &f);
	save(&first, &good);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct saved s = good;

		patch(&s, bad[i].at, bad[i].v, bad[i].len);
		if (try_load(&first, &s, &e) != -EBADMSG)
			test_fail(__FILE__, __LINE__, "row %u was taken", i);
	}
	CHECK_OK(try_load(&first, &good, &e), &e);
	vdriver_fini(&first);
}

/* The rings in memory, which come out of another file, must fit. */
TEST(rings_that_do_not_fit_the_indices)
{
	struct vdriver first;
	struct fake f;
	struct saved s;
	struct err e;
	uint16_t *used;
	uint16_t *avail;

	make_busy(&first, &f);
	save(&first, &s);
	used = vdriver_at(&first, first.q[2].used + 2, 2);
	avail = vdriver_at(&first, first.q[2].avail + 2, 2);
	CHECK_EQ(*used, 13);
	CHECK_EQ(*avail, 14);
	*used = 12;
	CHECK_EQ(try_load(&first, &s, &e), -EBADMSG);
	CHECK(strstr(e.text, "virtio-fake: queue 2: saved index 13 does not fit its rings"));
	*used = 14;
	CHECK_EQ(try_load(&first, &s, &e), -EBADMSG);
	*used = 13;
	*avail = 12; /* behind us is 65535 ahead */
	CHECK_EQ(try_load(&first, &s, &e), -EBADMSG);
	*avail = 13 + 9;
	CHECK_EQ(try_load(&first, &s, &e), -EBADMSG);
	*avail = 14;
	CHECK_OK(try_load(&first, &s, &e), &e);
	vdriver_fini(&first);
}

/* Whatever one changed bit leads to: refused, or a device that works. */
TEST(every_bit_flipped)
{
	struct vdriver first;
	struct fake f;
	struct saved good;
	uint8_t *copy = malloc(VDRIVER_RAM_BYTES);
	struct err e;
	unsigned taken = 0;

	CHECK(copy);
	make_busy(&first, &f);
	save(&first, &good);
	memcpy(copy, first.ram, 0x4000);
	for (size_t bit = 0; bit < 8 * good.len; bit++) {
		struct saved s = good;

		s.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		taken += try_load(&first, &s, &e) == 0;
		memcpy(first.ram, copy, 0x4000); /* a device that ran moved the rings on */
	}
	CHECK(taken > 0);
	free(copy);
	vdriver_fini(&first);
}

TEST_MAIN()
