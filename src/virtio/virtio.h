/*
 * virtio: what a device is to its transport, and what a transport is to its device.
 *
 * A device is one file with a table of operations (struct virtio_ops) and its own state. The
 * transport (mmio.c) owns everything the guest can write: status, features, queue registers. A
 * device sees a queue only after the driver said DRIVER_OK, when its registers are frozen and its
 * addresses have been checked.
 *
 * Threads   all operations but read_config run on the I/O thread (loop.h). read_config may run
 *           on a vCPU's thread at any time and reads only what never changes, or one aligned
 *           word. virtio_notify() and the other functions below are for the I/O thread, but
 *           for virtio_again(), which only writes an eventfd.
 * Broken    a device that finds its driver lying calls virtio_broken(): DEVICE_NEEDS_RESET is
 *           set, the driver is interrupted, and no queue of it is looked at until the reset: the
 *           queues are dead (queue.h) and kick is not called. What a device watches besides, such
 *           as a socket, is its own to silence.
 * Fair      a guest can fill a queue as fast as it is emptied. A device takes at most as many
 *           requests a turn as its queue has places, then calls virtio_again() and returns.
 * Source    Virtual I/O Device (VIRTIO) Version 1.2, sections 2 and 4.2
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"
#include "virtio/queue.h"
#include "vmm/guest_mem.h"
#include "vmm/loop.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	VIRTIO_QUEUES_MAX = 8,   /* console with two ports: 6 */
	VIRTIO_CONFIG_MAX = 256, /* bytes of configuration space a device may have */
	VIRTIO_STATE_MAX = 4096, /* bytes of a device's own saved state */
};

/* Device types: section 5. */
enum virtio_type {
	VIRTIO_NET = 1,
	VIRTIO_BLK = 2,
	VIRTIO_CONSOLE = 3,
	VIRTIO_RNG = 4,
	VIRTIO_BALLOON = 5,
};

#define VIRTIO_F_VERSION_1 (UINT64_C(1) << 32)

struct virtio_dev;

struct virtio_ops {
	const char *name; /* "blk": for messages */
	enum virtio_type type;
	/*
	 * Bytes of configuration space at `off`, already bounded to the length given by
	 * config_bytes. NULL without one.
	 */
	void (*read_config)(const void *self, uint32_t off, void *ret, uint32_t len);
	/* The same for writes, once there is a driver; NULL: ignored, as the specification lets
	 * us. */
	void (*write_config)(void *self, uint32_t off, const void *data, uint32_t len);
	/* DRIVER_OK: features are negotiated; each queue is valid and ready, or was not set up
	 * (ready is false). Each ready queue is kicked once soon after. -errno marks the device
	 * broken. */
	int (*activate)(void *self, struct virtio_dev *dev);
	/* The driver may have put something into queue `index`, which is ready. */
	void (*kick)(void *self, unsigned index);
	/* Back to before activate, also when that failed, and to before load when activate never
	 * came. Waits for, or cancels, I/O under way: after it no guest memory is touched and no
	 * interrupt sent. */
	void (*reset)(void *self);
	/* Stops taking requests and finishes those under way, for a snapshot: whatever was popped
	 * is pushed or unpopped when it returns. resume undoes it; every queue is kicked behind
	 * it. Only between activate and reset. NULL: kick is all that takes requests. */
	void (*pause)(void *self);
	void (*resume)(void *self);
	/* The device's own state, not the transport's, of at most VIRTIO_STATE_MAX bytes. load
	 * comes before activate, into a device just made. Both NULL: there is none. */
	void (*save)(const void *self, struct buf *b);
	int (*load)(void *self, struct span in, struct err *e);
	void (*free)(void *self);
};

/* One device on its transport. Made by virtio_dev_new(), found by the guest at its mmio window.
 * */
struct virtio_dev {
	const struct virtio_ops *ops;
	void *self;
	const struct guest_mem *mem;
	struct loop *loop;
	uint64_t offered;  /* feature bits, with those the transport adds */
	uint64_t accepted; /* valid from activate on */
	uint32_t config_bytes;
	unsigned queue_count;
	struct virtqueue queues[VIRTIO_QUEUES_MAX];
	int irq_fd; /* eventfd bound to the interrupt line (irqfd), borrowed; -1 in tests */
	_Atomic uint32_t isr; /* InterruptStatus: 1 used buffer, 2 configuration change */
	bool broken;
	void (*lost)(void *arg, int code); /* see virtio_lost(); NULL: nobody wants to know */
	void *lost_arg;
	void *transport; /* struct mmio: mmio_internal.h */
};

/* Counts for `berm stats` and for tests: what a hostile driver did. A kick is one turn of a queue:
 * writes that came together count once. */
struct virtio_counts {
	uint64_t kicks, interrupts, broken, refused_writes;
};

/*
 * Tells the driver that the used ring moved. Does nothing if it asked not to be told. Call once a
 * batch, not once a buffer.
 */
void virtio_notify(struct virtio_dev *dev, struct virtqueue *q);

/* The configuration space changed. */
void virtio_config_changed(struct virtio_dev *dev);

/* The driver broke the rules; `why` is for the log: at most one line a reset, and at most
 * VIRTIO_BROKEN_LINES in a device's life, as the guest decides how often. */
enum { VIRTIO_BROKEN_LINES = 16 };
void virtio_broken(struct virtio_dev *dev, const char *why);

/*
 * The host cannot go on with this guest: it has no room for what the guest wrote (-ENOSPC,
 * -EDQUOT), or no page for its memory (-EFAULT, of a call that was given checked RAM). True:
 * whoever runs the machine was told and ends it, so what was under way is left open, and the guest
 * sees no error of its own devices first. False: it is to be handled as any other error.
 */
bool virtio_lost(struct virtio_dev *dev, int code);

/* There may be more in the queue: kick is called again once the other devices had their turn. */
void virtio_again(struct virtio_dev *dev, unsigned queue);

static inline bool virtio_has(const struct virtio_dev *dev, uint64_t feature)
{
	return (dev->accepted & feature) == feature;
}
