/*
 * mmio: the virtio-mmio transport, version 2: one window of registers a device.
 *
 * Hostile   offsets, lengths and values of every access
 * Status    only ever gains the bits of the next legal step, or goes to 0; FEATURES_OK sticks
 *           only for a subset of what was offered that includes VERSION_1
 * Frozen    queue registers are writable only between FEATURES_OK and DRIVER_OK; afterwards a
 *           write is counted and ignored
 * Width     registers take aligned accesses of 4 bytes, configuration space 1, 2, 4 or 8; others
 *           read as 0 and are not written
 * Threads   reads and writes come from vCPU threads and take the transport's mutex; DRIVER_OK,
 *           reset and writes to configuration space are carried out on the loop's thread while
 *           the vCPU waits, with the mutex held. So the loop's thread never takes it: what it
 *           changes under a running guest is atomic.
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

/* Registers, by their offset in the window. */
enum mmio_reg {
	MMIO_MAGIC = 0x000,
	MMIO_VERSION = 0x004,
	MMIO_DEVICE_ID = 0x008,
	MMIO_VENDOR_ID = 0x00c,
	MMIO_DEVICE_FEATURES = 0x010,
	MMIO_DEVICE_FEATURES_SEL = 0x014,
	MMIO_DRIVER_FEATURES = 0x020,
	MMIO_DRIVER_FEATURES_SEL = 0x024,
	MMIO_QUEUE_SEL = 0x030,
	MMIO_QUEUE_NUM_MAX = 0x034,
	MMIO_QUEUE_NUM = 0x038,
	MMIO_QUEUE_READY = 0x044,
	MMIO_QUEUE_NOTIFY = 0x050,
	MMIO_INTERRUPT_STATUS = 0x060,
	MMIO_INTERRUPT_ACK = 0x064,
	MMIO_STATUS = 0x070,
	MMIO_QUEUE_DESC_LOW = 0x080,
	MMIO_QUEUE_DESC_HIGH = 0x084,
	MMIO_QUEUE_DRIVER_LOW = 0x090,
	MMIO_QUEUE_DRIVER_HIGH = 0x094,
	MMIO_QUEUE_DEVICE_LOW = 0x0a0,
	MMIO_QUEUE_DEVICE_HIGH = 0x0a4,
	MMIO_SHM_LEN_LOW = 0x0b0,
	MMIO_SHM_LEN_HIGH = 0x0b4,
	MMIO_SHM_BASE_LOW = 0x0b8,
	MMIO_SHM_BASE_HIGH = 0x0bc,
	MMIO_CONFIG_GENERATION = 0x0fc,
	MMIO_CONFIG = 0x100,
};

enum {
	MMIO_MAGIC_VALUE = 0x74726976, /* "virt" */
	MMIO_VERSION_VALUE = 2,
	MMIO_VENDOR_VALUE = 0x6d726562, /* "berm" */
};

/* Bits of the status register: section 2.1. */
enum {
	STATUS_ACKNOWLEDGE = 1,
	STATUS_DRIVER = 2,
	STATUS_DRIVER_OK = 4,
	STATUS_FEATURES_OK = 8,
	STATUS_NEEDS_RESET = 64,
	STATUS_FAILED = 128,
};

/* Bits of the interrupt status. */
enum { ISR_USED = 1, ISR_CONFIG = 2 };

/*
 * Puts a device on a transport. Takes `self` (freed with ops->free, also on failure).
 * queue_sizes has queue_count entries, each a power of two. Every queue gets an eventfd, made
 * here, which the caller may bind as ioeventfd (MMIO_QUEUE_NOTIFY, 4 bytes, value = queue index).
 * The transport adds VERSION_1 and EVENT_IDX to what is offered. On the loop's thread, or before
 * it runs, as virtio_dev_free(), which resets the device first.
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

/* Serves every kick that waits, as the loop does by itself: for tests that run no loop. */
void virtio_poll_kicks(struct virtio_dev *dev);

/* One access of 1, 2, 4 or 8 bytes at `off` within the window, from a vCPU's thread. What does
 * not exist reads as 0; a shared memory region, which none has, as all ones. */
void virtio_mmio_read(struct virtio_dev *dev, uint32_t off, void *ret, uint32_t len);
void virtio_mmio_write(struct virtio_dev *dev, uint32_t off, const void *data, uint32_t len);

void virtio_get_counts(const struct virtio_dev *dev, struct virtio_counts *ret);

/*
 * Snapshot: pause, save; or load into a device just made, then resume, which activates it if it
 * was active, looks at every queue, and repeats an interrupt that may have been lost. load checks
 * all of it as if the guest had written it, against the guest's memory too, which is there
 * before; on failure (-EBADMSG, or what the device's own load answers) the device is good for
 * virtio_dev_free() only. The error names the device. save appends at most VIRTIO_SAVE_MAX bytes.
 * While no vCPU runs. pause and resume on the loop's thread; save and load also on another one that
 * waited for the pause, since a paused device does nothing by itself.
 */
enum { VIRTIO_SAVE_MAX = 64 + VIRTIO_QUEUES_MAX * 48 + VIRTIO_STATE_MAX };
void virtio_pause(struct virtio_dev *dev);
void virtio_save(const struct virtio_dev *dev, struct buf *b);
_must_ int virtio_load(struct virtio_dev *dev, struct span in, struct err *e);
void virtio_resume(struct virtio_dev *dev);
