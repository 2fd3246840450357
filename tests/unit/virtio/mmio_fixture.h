/*
 * mmio_fixture: what the tests of the transport share: a fake device behind a driver, brought to
 * any state of the status register.
 */
#pragma once

#include "test.h"
#include "virtio_driver.h"
#include "virtio_fake.h"

enum {
	ACK = STATUS_ACKNOWLEDGE,
	DRIVER = ACK | STATUS_DRIVER,
	FEATURES = DRIVER | STATUS_FEATURES_OK,
	LIVE = FEATURES | STATUS_DRIVER_OK,
};

static inline void start(struct vdriver *d, struct fake *f)
{
	struct virtio_dev *dev = NULL;
	struct err e;

	*f = (struct fake){ 0 };
	vdriver_init(d);
	CHECK_OK(fake_new(f, &d->mem, d->loop, d->irq_fd, &dev, &e), &e);
	vdriver_attach(d, dev);
}

static inline uint64_t refused(const struct vdriver *d)
{
	struct virtio_counts c;

	virtio_get_counts(d->dev, &c);
	return c.refused_writes;
}

static inline uint32_t status(struct vdriver *d)
{
	return vdriver_read32(d, MMIO_STATUS);
}

/* A device in the given state; queues are set up from FEATURES_OK on. */
static inline void bring_to(struct vdriver *d, uint32_t to)
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
