/*
 * One virtqueue over hostile memory. Input: the queue's registers and indices, then operations,
 * then (behind the number of them) memory from address 0, some of it rewritten on the way.
 *
 * A chain that is taken is all RAM, its sums are right, it has no more segments than the queue or
 * we have places, and its head is not one we hold; one that is not leaves the output alone.
 */
#include "base/span.h"
#include "virtio/queue.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum { RAM_BYTES = 1 << 14, HEADER_BYTES = 16, OPS_MAX = 255 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The heads we hold and what may be written to each. */
struct holding {
	unsigned count;
	uint16_t head[QUEUE_SIZE_MAX];
	uint64_t writable[QUEUE_SIZE_MAX];
};

static void check_chain(const struct virtqueue *q, const struct chain *c, const struct holding *h)
{
	uint64_t sum[2] = { 0, 0 };
	struct iovec view;

	assert(c->head < q->size && c->seg_count <= CHAIN_SEGS_MAX);
	assert(c->seg_count <= q->size || q->indirect);
	assert(c->readable <= c->seg_count);
	for (unsigned i = 0; i < c->seg_count; i++) {
		assert(c->segs[i].len > 0);
		assert(guest_mem_iov(q->mem, c->segs[i].at, c->segs[i].len, &view));
		sum[i >= c->readable] += c->segs[i].len;
	}
	assert(sum[0] == c->readable_bytes && sum[1] == c->writable_bytes);
	assert(sum[0] + sum[1] <= CHAIN_BYTES_MAX);
	for (unsigned i = 0; i < h->count; i++)
		assert(h->head[i] != c->head);
	assert(h->count < q->size);
}

/* Copies and views of one part, at places the input picks, agree with each other. */
static void check_data(const struct virtqueue *q, const struct chain *c, uint8_t pick)
{
	uint64_t off = pick % 16;
	uint64_t len = (uint64_t)pick * 3;
	struct iovec iov[CHAIN_SEGS_MAX];
	uint8_t bytes[768];
	uint64_t done;
	uint64_t sum = 0;
	int n;

	assert(chain_read(q->mem, c, off, bytes, len, &done));
	assert(done <= len && (off >= c->readable_bytes || done <= c->readable_bytes - off));
	n = chain_iov(q->mem, c, false, off, done, iov, CHAIN_SEGS_MAX);
	assert(n >= 0);
	for (int i = 0; i < n; i++) {
		assert(memcmp(bytes + sum, iov[i].iov_base, iov[i].iov_len) == 0);
		sum += iov[i].iov_len;
	}
	assert(sum == done);
	memset(bytes, pick, sizeof(bytes));
	assert(chain_write(q->mem, c, off, bytes, len, &done));
	assert(done <= len && (off >= c->writable_bytes || done <= c->writable_bytes - off));
	assert(chain_iov(q->mem, c, true, c->writable_bytes, 1, iov, CHAIN_SEGS_MAX) == -EBADMSG);
}

static void pop(struct virtqueue *q, struct holding *h, uint8_t pick)
{
	static struct chain c;
	static uint8_t before[sizeof(c)];
	int r;

	memset(&c, 0xa5, sizeof(c));
	memset(before, 0xa5, sizeof(before));
	r = virtqueue_pop(q, &c);
	if (r < 0) {
		assert(r == -EAGAIN || r == -EBADMSG);
		assert(span_equal(span_of(before, sizeof(before)), span_of(&c, sizeof(c))));
		return;
	}
	check_chain(q, &c, h);
	if ((pick & 0x80) != 0) {
		virtqueue_unpop(q);
		return;
	}
	h->head[h->count] = c.head;
	h->writable[h->count++] = c.writable_bytes;
	check_data(q, &c, pick);
}

static void push(struct virtqueue *q, struct holding *h, uint8_t pick)
{
	unsigned i;
	uint64_t most;

	if (h->count == 0)
		return;
	i = pick % h->count;
	most = h->writable[i] > UINT32_MAX ? UINT32_MAX : h->writable[i];
	assert(virtqueue_push(q, h->head[i], (uint32_t)(most * (pick % 5) / 4)));
	h->count--;
	h->head[i] = h->head[h->count];
	h->writable[i] = h->writable[h->count];
}

static void one(struct virtqueue *q, struct holding *h, uint8_t *ram, uint8_t op, uint8_t pick,
                uint16_t where)
{
	switch (op % 8) {
	case 0:
	case 1:
		pop(q, h, pick);
		break;
	case 2:
		push(q, h, pick);
		break;
	case 3:
		(void)!virtqueue_enable_kicks(q);
		break;
	case 4:
		virtqueue_disable_kicks(q);
		break;
	case 5:
		(void)!virtqueue_wants_interrupt(q);
		break;
	case 6: /* the driver goes on */
		ram[q->avail.v + 2]++;
		break;
	default:
		ram[where % RAM_BYTES] = pick;
		break;
	}
	assert(q->held_count == h->count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static _Alignas(16) uint8_t ram[RAM_BYTES];
	struct span in = span_of(data, size);
	struct holding h = { .count = 0 };
	struct guest_mem mem;
	struct virtqueue q = { .size_max = QUEUE_SIZE_MAX, .mem = &mem };
	uint16_t at[3];
	uint16_t flags;
	uint16_t count;
	struct span ops;

	if (size < HEADER_BYTES || !take_le16(&in, &q.size) || !take_le16(&in, &at[0]) ||
	    !take_le16(&in, &at[1]) || !take_le16(&in, &at[2]) || !take_le16(&in, &flags) ||
	    !take_le16(&in, &q.next_avail) || !take_le16(&in, &q.next_used) ||
	    !take_le16(&in, &count))
		return 0;
	guest_mem_over(ram, RAM_BYTES, &mem);
	q.desc = gpa_of(at[0]);
	q.avail = gpa_of(at[1]);
	q.used = gpa_of(at[2]);
	q.event_idx = (flags & 1) != 0;
	q.indirect = (flags & 2) != 0;
	q.told_used = q.next_used;
	if (!virtqueue_valid(&q))
		return 0;
	assert(q.size > 0 && q.size <= QUEUE_SIZE_MAX && (q.size & (q.size - 1)) == 0);
	q.ready = true;
	if (!take_span(&in, 4u * (count % OPS_MAX), &ops))
		return 0;
	memset(ram, 0, sizeof(ram));
	if (in.len > 0)
		memcpy(ram, in.at, in.len < RAM_BYTES ? in.len : RAM_BYTES);
	for (; ops.len >= 4; ops = span_of(ops.at + 4, ops.len - 4))
		one(&q, &h, ram, ops.at[0], ops.at[1],
		    (uint16_t)(ops.at[2] | (unsigned)ops.at[3] << 8));
	return 0;
}
