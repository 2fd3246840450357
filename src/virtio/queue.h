/*
 * queue: one split virtqueue, walked without trusting a word of it.
 *
 * Theory of operation
 *
 * The rings lie in guest memory and change under us. Every index, descriptor and ring entry is
 * read once into a local and judged there. The registers (size and three addresses) are copied
 * and checked when the driver says DRIVER_OK and cannot change after. A chain is gathered into
 * segments of guest addresses, readable ones first; its data is touched only through guest_mem.
 *
 * The queue remembers which heads the device holds and how much may be written to each, so a
 * driver that makes the same chain available twice, or more chains than the queue has places, is
 * refused here, and no device can say it used more than there was.
 *
 * Refused   (-EBADMSG: the caller calls virtio_broken) an available index more than `size`
 *           ahead; a head the device still holds; a descriptor index or next at or above size; a
 *           chain longer than the queue or than CHAIN_SEGS_MAX; a readable segment after a
 *           writable one; a segment that is not all RAM; a sum over CHAIN_BYTES_MAX. A segment
 *           of 0 bytes is legal and dropped.
 * Indirect  a table of descriptors elsewhere in memory, as a chain's last: only for a device that
 *           offers it (`indirect`), else -EBADMSG. Its length is no bound of ours: with it the
 *           chain still has at most CHAIN_SEGS_MAX descriptors. No table within a table.
 * Dead      a queue that is not ready (never set up, reset, or its device is broken) has no
 *           request, takes nothing back and wants no interrupt
 * Source    VIRTIO 1.2, section 2.7 (split virtqueues), 2.7.5.3 (indirect descriptors)
 */
#pragma once

#include "base/err.h"
#include "vmm/guest_mem.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	QUEUE_SIZE_MAX = 512, /* each device may offer less */
	CHAIN_SEGS_MAX = 258, /* virtio-blk: seg_max 256, header and status */
};
#define CHAIN_BYTES_MAX (UINT64_C(1) << 32)

struct virtqueue {
	/* frozen at DRIVER_OK */
	uint16_t size; /* 0: the driver did not set it up */
	struct gpa desc, avail, used;
	bool ready;
	/* ours */
	uint16_t next_avail; /* the next entry of the available ring */
	uint16_t next_used;
	uint16_t told_used; /* used index when virtqueue_wants_interrupt() was last asked */
	bool told_lapped;   /* 65536 were pushed since: told_used says nothing */
	bool event_idx;     /* VIRTIO_F_EVENT_IDX was negotiated */
	bool indirect;      /* VIRTIO_F_INDIRECT_DESC was */
	uint16_t size_max;  /* what the device offers */
	const struct guest_mem *mem;
	/* chains popped and not yet pushed */
	uint16_t held_count;
	uint16_t last_head;                 /* of the last pop, for unpop */
	uint64_t held[QUEUE_SIZE_MAX / 64]; /* a bit a head */
	uint32_t writable[QUEUE_SIZE_MAX];  /* bytes the device may write to each */
};

#define VIRTIO_F_INDIRECT_DESC (UINT64_C(1) << 28)
#define VIRTIO_F_EVENT_IDX     (UINT64_C(1) << 29)

struct chain_seg {
	struct gpa at;
	uint32_t len;
};

/* One request. Segments [0, readable) are for us to read, the rest to write. */
struct chain {
	uint16_t head; /* to be given back by virtqueue_push() */
	unsigned seg_count;
	unsigned readable;
	uint64_t readable_bytes, writable_bytes;
	struct chain_seg segs[CHAIN_SEGS_MAX];
};

/* Is what the driver wrote a queue? Power of two, at most size_max, aligned, all three rings in
 * RAM. */
_must_ bool virtqueue_valid(const struct virtqueue *q);

/* The next request: 0, -EAGAIN (none), -EBADMSG. Written only on success. */
_must_ int virtqueue_pop(struct virtqueue *q, struct chain *ret);

/* Takes the last virtqueue_pop() back: the request stays in the ring. One step only, and before
 * anything is pushed. */
void virtqueue_unpop(struct virtqueue *q);

/*
 * Gives the chain back with `written` bytes, which may not exceed its writable bytes; head comes
 * from a pop and goes back once. False: the queue is dead, or the ring cannot be written (it was
 * checked, so only a test sees that).
 */
_must_ bool virtqueue_push(struct virtqueue *q, uint16_t head, uint32_t written);

/* Is there a request? Asks the driver to tell us of the next one (avail_event or flags) first, so
 * that none is missed between "none" and sleep. */
_must_ bool virtqueue_enable_kicks(struct virtqueue *q);
void virtqueue_disable_kicks(struct virtqueue *q);

/* Does the driver want an interrupt for what was pushed since this was last asked? */
_must_ bool virtqueue_wants_interrupt(struct virtqueue *q);

/* Copies out of the readable, or into the writable part of a chain, from byte `off` of that part.
 * Returns how many were copied: fewer at its end. False only when RAM ended under us: never. */
_must_ bool chain_read(const struct guest_mem *m, const struct chain *c, uint64_t off, void *ret,
                       uint64_t len, uint64_t *ret_len);
_must_ bool chain_write(const struct guest_mem *m, const struct chain *c, uint64_t off,
                        const void *data, uint64_t len, uint64_t *ret_len);

/* Host views of [off, off+len) of the readable or writable part. Returns the number of iovecs
 * (at most iov_max), or -EBADMSG if the part is shorter or needs more of them. */
_must_ int chain_iov(const struct guest_mem *m, const struct chain *c, bool writable, uint64_t off,
                     uint64_t len, struct iovec *iov, unsigned iov_max);
