#include "virtio/batch.h"

#include <assert.h>
#include <errno.h>

void batch_begin(struct batch *b, const struct virtqueue *q, bool writable)
{
	b->ahead = *q;
	b->writable = writable;
	b->chain_count = 0;
	b->iov_first = 0;
	b->iov_count = 0;
	b->bytes = 0;
}

static uint64_t part_bytes(const struct batch *b)
{
	return b->writable ? b->last.writable_bytes : b->last.readable_bytes;
}

int batch_look(struct batch *b)
{
	struct batch_chain *c = &b->chains[b->chain_count];
	int r;

	if (b->chain_count == BATCH_CHAINS_MAX)
		return -EAGAIN;
	r = virtqueue_pop(&b->ahead, &b->last);
	if (r < 0)
		return r;
	if (b->last.seg_count + 1 > BATCH_IOVS_MAX - b->iov_count)
		return -EAGAIN;

	*c = (struct batch_chain){ .head = b->last.head, .part_bytes = part_bytes(b) };
	b->chain_count++;
	return 0;
}

static void count_bytes(struct batch *b, uint64_t len)
{
	assert(b->chain_count > 0);
	b->chains[b->chain_count - 1].bytes += len;
	b->bytes += len;
}

int batch_add(struct batch *b, uint64_t off)
{
	uint64_t part = part_bytes(b);
	int n;

	if (off > part)
		return -EBADMSG;
	n = chain_iov(b->ahead.mem, &b->last, b->writable, off, part - off, b->iov + b->iov_count,
	              BATCH_IOVS_MAX - b->iov_count);
	if (n < 0)
		return n;
	b->iov_count += (unsigned)n;
	count_bytes(b, part - off);
	return 0;
}

void batch_add_ours(struct batch *b, const void *at, size_t len)
{
	struct iovec *to = &b->iov[b->iov_count];

	assert(b->iov_count < BATCH_IOVS_MAX);
	to->iov_base = (void *)(uintptr_t)at; /* an iovec knows no const */
	to->iov_len = len;
	b->iov_count++;
	count_bytes(b, len);
}

bool batch_skip(struct batch *b, uint64_t len)
{
	if (len > b->bytes)
		return false;
	b->bytes -= len;
	while (len > 0) {
		struct iovec *v = &b->iov[b->iov_first];

		if (len < v->iov_len) {
			v->iov_base = (uint8_t *)v->iov_base + len;
			v->iov_len -= len;
			return true;
		}
		len -= v->iov_len;
		b->iov_first++;
	}
	return true;
}

/* Pops chain `i` and gives it back. */
static int take(struct batch *b, struct virtqueue *q, unsigned i, uint32_t written)
{
	const struct batch_chain *c = &b->chains[i];
	int r = virtqueue_pop(q, &b->last);

	if (r < 0)
		return -EBADMSG; /* it was there a moment ago */
	if (b->last.head != c->head || part_bytes(b) != c->part_bytes)
		return -EBADMSG;
	return virtqueue_push(q, c->head, written) ? 0 : -EBADMSG;
}

int batch_sent(struct batch *b, struct virtqueue *q, uint64_t moved, uint64_t *done_bytes)
{
	uint64_t left = *done_bytes + moved;

	for (unsigned i = 0; i < b->chain_count && b->chains[i].bytes <= left; i++) {
		int r = take(b, q, i, 0);

		if (r < 0)
			return r;
		left -= b->chains[i].bytes;
	}
	*done_bytes = left;
	return 0;
}

int batch_received(struct batch *b, struct virtqueue *q, uint64_t moved)
{
	for (unsigned i = 0; i < b->chain_count && moved > 0; i++) {
		uint64_t n = b->chains[i].bytes < moved ? b->chains[i].bytes : moved;
		int r = take(b, q, i, (uint32_t)n);

		if (r < 0)
			return r;
		moved -= n;
	}
	return 0;
}
