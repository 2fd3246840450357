/*
 * mmio: the virtio-mmio transport, version 2: one window of registers a device.
 *
 * Hostile   offsets, lengths and values of every access
 * Status    only ever gains the bits of the next legal step, or goes to 0; FEATURES_OK sticks
 *           only for a subset of what was offered that includes VERSION_1
 * Frozen    queue registers are writable only between FEATURES_OK and DRIVER_OK; afterwards a
 *           write is counted and ignored
 * Threads   reads and writes come from vCPU threads and take the transport's mutex; DRIVER_OK and
 *           reset are carried out on the loop's thread while the vCPU waits
 * Source    VIRTIO 1.2, section 4.2.2, table 4.1
 */
#pragma once

#include "virtio/virtio.h"

enum {
	MMIO_WINDOW_BYTES = 0x1000,
	MMIO_DEVICES_MAX = 8, /* as many as QEMU's microvm has slots */
};
#define MMIO_BASE UINT64_C(0xd0000000)
enum { MMIO_IRQ_FIRST = 5 };

/*
 * Puts a device on a transport. Takes `self` (freed with ops->free, also on failure).
 * queue_sizes has queue_count entries. kick_fds: an eventfd a queue, made here, for the caller
 * to bind as ioeventfds (QueueNotify at offset 0x50, 4 bytes, value = queue index).
 */
struct virtio_new {
	const struct virtio_ops *ops;
	void *self;
	const struct guest_mem *mem;
	struct loop *loop;
	uint64_t features;
	uint32_t config_bytes;
	unsigned queue_count;
	uint16_t queue_sizes[VIRTIO_QUEUES_MAX];
	int irq_fd;
};
_must_ int virtio_dev_new(const struct virtio_new *n, struct virtio_dev **ret, struct err *e);
void virtio_dev_free(struct virtio_dev *dev);
OWN_DEFINE(struct virtio_dev, virtio_dev_free)

/* The eventfd of a queue, borrowed. */
int virtio_kick_fd(const struct virtio_dev *dev, unsigned queue);

/* One access of 1, 2, 4 or 8 bytes at `off` within the window, from a vCPU's thread. What does
 * not exist reads as 0. */
void virtio_mmio_read(struct virtio_dev *dev, uint32_t off, void *ret, uint32_t len);
void virtio_mmio_write(struct virtio_dev *dev, uint32_t off, const void *data, uint32_t len);

void virtio_get_counts(const struct virtio_dev *dev, struct virtio_counts *ret);

/*
 * Snapshot: pause, save; or load into a fresh device, then resume, which activates it if it was
 * active, looks at every queue, and repeats an interrupt that may have been lost. load checks
 * all of it as if the guest had written it. On the loop's thread, while no vCPU runs.
 */
void virtio_pause(struct virtio_dev *dev);
void virtio_save(const struct virtio_dev *dev, struct buf *b);
_must_ int virtio_load(struct virtio_dev *dev, struct span in, struct err *e);
void virtio_resume(struct virtio_dev *dev);
