/*
 * virtio_fake: the smallest device that has everything a transport deals with: three queues,
 * configuration space in both directions, a state of its own, I/O that takes its time, and a count
 * of every call. For the tests and fuzz targets of the transport.
 *
 *	queue 0  echo: the readable part is copied into the writable one
 *	queue 1  slow: at most FAKE_SLOW_MAX chains are held until fake_finish() or pause gives
 *	         them back, filled with 0x5a
 *	queue 2  hands every chain back empty; a chain with a readable part breaks the device
 */
#pragma once

#include "virtio/mmio.h"

enum {
	FAKE_QUEUES = 3,
	FAKE_QUEUE_SIZE = 16,
	FAKE_CONFIG_BYTES = 20,
	FAKE_SLOW_MAX = 4,
	FAKE_COPY_MAX = 4096,
};
#define FAKE_FEATURE (UINT64_C(1) << 5)

/* The caller's; the device fills it in while it lives. */
struct fake {
	struct virtio_dev *dev; /* between activate and reset */
	uint8_t config[FAKE_CONFIG_BYTES];
	uint32_t value; /* its own state: under 1000, or load refuses it */
	struct chain slow[FAKE_SLOW_MAX];
	unsigned slow_count;

	int activate_result;         /* what activate answers */
	void (*in_reset)(void *arg); /* called by reset before it forgets */
	void *arg;
	unsigned activated, resets, paused, resumed, freed, loads;
	_Atomic unsigned kicks[FAKE_QUEUES];
};

/* The device; f is borrowed and may hold values already. */
_must_ int fake_new(struct fake *f, const struct guest_mem *mem, struct loop *loop, int irq_fd,
                    struct virtio_dev **ret, struct err *e);

/* Gives back what queue 1 holds; on the loop's thread. */
void fake_finish(struct fake *f);
