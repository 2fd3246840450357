/*
 * batch: several chains of one queue for one system call, taken from the queue only when done.
 *
 * Theory of operation
 *
 * A stream device moves bytes between a socket and many chains at once, and learns only from the
 * answer how many chains that was. So it looks at chains through a copy of the queue's state and
 * pops from the queue itself what was moved. What was not moved was never taken: there is nothing
 * to give back, and a paused device holds nothing. Of a chain that was moved in part the device
 * remembers one number, the bytes done.
 *
 * Hostile   the guest may rewrite a chain between the look and the pop. The iovecs were checked
 *           and stay within RAM whatever it does; a chain that is popped with another head or
 *           another length than was looked at is -EBADMSG.
 * Cost      chains are walked twice. That is 0.1 microseconds a chain of a page, beside a copy of
 *           that page and a share of a system call
 */
#pragma once

#include "virtio/queue.h"

enum {
	BATCH_CHAINS_MAX = 128,
	/* of one system call: UIO_MAXIOV is 1024, but 2 MiB in pages fill any socket */
	BATCH_IOVS_MAX = 512,
};
_Static_assert((int)BATCH_IOVS_MAX > (int)CHAIN_SEGS_MAX, "one chain and a prefix always fit");

struct batch_chain {
	uint16_t head;
	uint64_t part_bytes; /* of the whole readable or writable part */
	uint64_t bytes;      /* of it, and of what was put in front, in the iovecs */
};

struct batch {
	struct virtqueue ahead;
	bool writable;     /* the part of the chains that is looked at */
	struct chain last; /* the chain looked at last */
	unsigned chain_count;
	unsigned iov_first, iov_count; /* iov_first: what batch_skip() cut off */
	uint64_t bytes;                /* in the iovecs from iov_first on */
	struct batch_chain chains[BATCH_CHAINS_MAX];
	struct iovec iov[BATCH_IOVS_MAX];
};

/* Forgets what was there and begins at the queue's next chain. */
void batch_begin(struct batch *b, const struct virtqueue *q, bool writable);

/*
 * The next chain, into b->last and as the last entry of b->chains, with nothing of it in the
 * iovecs yet. 0; -EAGAIN: there is none, or no room for one more; -EBADMSG. The first always has
 * room, also for one iovec more than its segments.
 */
_must_ int batch_look(struct batch *b);

/* Adds to the last chain's iovecs: its part from byte `off`; bytes of ours, which must live as
 * long as the batch. -EBADMSG: the part is shorter than off. */
_must_ int batch_add(struct batch *b, uint64_t off);
void batch_add_ours(struct batch *b, const void *at, size_t len);

/* Cuts the first `len` of all bytes off the iovecs: they were moved before. False: there are not
 * as many. */
_must_ bool batch_skip(struct batch *b, uint64_t len);

/* What is left for the system call. */
static inline struct iovec *batch_iov(struct batch *b, unsigned *ret_count)
{
	*ret_count = b->iov_count - b->iov_first;
	return b->iov + b->iov_first;
}

/*
 * After `moved` bytes. sent: takes all chains that are done and returns them with nothing
 * written; *done_bytes is what was moved of the first one before this batch, and becomes what has
 * been moved of the first one left. received: takes the chains that got any bytes. 0 or -EBADMSG.
 */
_must_ int batch_sent(struct batch *b, struct virtqueue *q, uint64_t moved, uint64_t *done_bytes);
_must_ int batch_received(struct batch *b, struct virtqueue *q, uint64_t moved);
