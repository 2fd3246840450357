#include "virtio/queue.h"

#include "base/span.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

/* Offsets and flags as the specification has them: VIRTIO 1.2, 2.7.5 to 2.7.8. */
enum {
	DESC_BYTES = 16,
	DESC_F_NEXT = 1,
	DESC_F_WRITE = 2,
	DESC_F_INDIRECT = 4,

	AVAIL_F_NO_INTERRUPT = 1,
	AVAIL_FLAGS = 0,
	AVAIL_INDEX = 2,
	AVAIL_RING = 4,
	AVAIL_ENTRY_BYTES = 2,

	USED_F_NO_NOTIFY = 1,
	USED_FLAGS = 0,
	USED_INDEX = 2,
	USED_RING = 4,
	USED_ENTRY_BYTES = 8,

	EVENT_BYTES = 2, /* used_event and avail_event, behind the rings */

	DESC_ALIGN = 16,
	AVAIL_ALIGN = 2,
	USED_ALIGN = 4,
};

/* Our copy of a descriptor: the guest may rewrite its own. */
struct desc {
	uint64_t at;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

/* A chain while it is gathered. */
struct walk {
	struct chain chain;
	bool writing; /* a writable segment was seen, also one of 0 bytes */
};

/* -- the rings ------------------------------------------------------------------------------------
 */

static struct gpa gpa_add(struct gpa at, uint64_t off)
{
	return gpa_of(at.v + off); /* within a checked ring, so it does not wrap */
}

static struct gpa avail_entry(const struct virtqueue *q, uint16_t index)
{
	unsigned slot = index & (q->size - 1u);

	return gpa_add(q->avail, AVAIL_RING + (uint64_t)slot * AVAIL_ENTRY_BYTES);
}

static struct gpa used_entry(const struct virtqueue *q, uint16_t index)
{
	unsigned slot = index & (q->size - 1u);

	return gpa_add(q->used, USED_RING + (uint64_t)slot * USED_ENTRY_BYTES);
}

/* Where the driver says how far it has read: behind the available ring. */
static struct gpa used_event(const struct virtqueue *q)
{
	return gpa_add(q->avail, AVAIL_RING + (uint64_t)q->size * AVAIL_ENTRY_BYTES);
}

/* Where we say how far we have read: behind the used ring. */
static struct gpa avail_event(const struct virtqueue *q)
{
	return gpa_add(q->used, USED_RING + (uint64_t)q->size * USED_ENTRY_BYTES);
}

static bool ring_valid(const struct guest_mem *m, struct gpa at, uint64_t len, uint64_t align)
{
	struct iovec unused;

	return (at.v & (align - 1)) == 0 && guest_mem_iov(m, at, len, &unused);
}

bool virtqueue_valid(const struct virtqueue *q)
{
	uint64_t n = q->size;

	if (n == 0 || n > q->size_max || n > QUEUE_SIZE_MAX || (n & (n - 1)) != 0)
		return false;
	return ring_valid(q->mem, q->desc, n * DESC_BYTES, DESC_ALIGN) &&
	       ring_valid(q->mem, q->avail, AVAIL_RING + n * AVAIL_ENTRY_BYTES + EVENT_BYTES,
	                  AVAIL_ALIGN) &&
	       ring_valid(q->mem, q->used, USED_RING + n * USED_ENTRY_BYTES + EVENT_BYTES,
	                  USED_ALIGN);
}

/* -- which heads the device holds -----------------------------------------------------------------
 */

static bool holds(const struct virtqueue *q, uint16_t head)
{
	return (q->held[head / 64] >> (head % 64) & 1) != 0;
}

static void hold(struct virtqueue *q, const struct chain *c)
{
	uint64_t most = c->writable_bytes;

	q->held[c->head / 64] |= UINT64_C(1) << (c->head % 64);
	q->held_count++;
	q->writable[c->head] = most > UINT32_MAX ? UINT32_MAX : (uint32_t)most;
	q->last_head = c->head;
}

static void let_go(struct virtqueue *q, uint16_t head)
{
	q->held[head / 64] &= ~(UINT64_C(1) << (head % 64));
	q->held_count--;
}

/* -- taking requests ------------------------------------------------------------------------------
 */

static bool read_desc(const struct virtqueue *q, struct gpa table, uint16_t index, struct desc *ret)
{
	uint8_t raw[DESC_BYTES];
	struct span in = span_of(raw, sizeof(raw));
	struct gpa at = gpa_add(table, (uint64_t)index * DESC_BYTES);

	return guest_mem_read(q->mem, at, raw, sizeof(raw)) && take_le64(&in, &ret->at) &&
	       take_le32(&in, &ret->len) && take_le16(&in, &ret->flags) &&
	       take_le16(&in, &ret->next);
}

static bool add_segment(const struct virtqueue *q, struct walk *w, const struct desc *d)
{
	struct chain *c = &w->chain;
	bool writable = (d->flags & DESC_F_WRITE) != 0;
	struct iovec unused;

	if (w->writing && !writable)
		return false;
	w->writing = writable;
	if (d->len == 0)
		return true;
	if (d->len > CHAIN_BYTES_MAX - c->readable_bytes - c->writable_bytes)
		return false;
	if (!guest_mem_iov(q->mem, gpa_of(d->at), d->len, &unused))
		return false;

	c->segs[c->seg_count++] = (struct chain_seg){ .at = gpa_of(d->at), .len = d->len };
	if (writable) {
		c->writable_bytes += d->len;
	} else {
		c->readable++;
		c->readable_bytes += d->len;
	}
	return true;
}

/* Where a walk goes on: a table of `count` descriptors, of which `steps` may be visited. */
struct table {
	struct gpa at;
	uint32_t count;
	unsigned steps;
};

/* The table an indirect descriptor points at, as ours. */
static bool enter_table(const struct virtqueue *q, const struct desc *d, unsigned steps_left,
                        struct table *ret)
{
	struct iovec unused;

	if (!q->indirect || (d->flags & DESC_F_NEXT) != 0 || d->len == 0 ||
	    d->len % DESC_BYTES != 0 || !guest_mem_iov(q->mem, gpa_of(d->at), d->len, &unused))
		return false;
	ret->at = gpa_of(d->at);
	ret->count = d->len / DESC_BYTES;
	ret->steps = steps_left;
	return true;
}

/* Gathers what lies in a table from `index` on. 1: it ended in an indirect descriptor, *ret. */
static int walk_table(const struct virtqueue *q, const struct table *t, uint16_t index,
                      struct walk *w, struct table *ret)
{
	for (unsigned n = 0; n < t->steps; n++) {
		struct desc d;

		if (index >= t->count || !read_desc(q, t->at, index, &d))
			return -EBADMSG;
		if ((d.flags & DESC_F_INDIRECT) != 0)
			return enter_table(q, &d, CHAIN_SEGS_MAX - n, ret) ? 1 : -EBADMSG;
		if (!add_segment(q, w, &d))
			return -EBADMSG;
		if ((d.flags & DESC_F_NEXT) == 0)
			return 0;
		index = d.next;
	}
	return -EBADMSG; /* a loop, or longer than we take */
}

/* Gathers the chain that begins at descriptor `head`. */
static int walk_chain(const struct virtqueue *q, uint16_t head, struct walk *w)
{
	const struct table own = {
		.at = q->desc,
		.count = q->size,
		.steps = q->size < CHAIN_SEGS_MAX ? q->size : (unsigned)CHAIN_SEGS_MAX,
	};
	struct table other;
	struct table unused;
	int r = walk_table(q, &own, head, w, &other);

	if (r == 1)
		r = walk_table(q, &other, 0, w, &unused);
	return r == 0 ? 0 : -EBADMSG; /* 1: a table within a table */
}

static void copy_chain(struct chain *to, const struct chain *from)
{
	to->head = from->head;
	to->seg_count = from->seg_count;
	to->readable = from->readable;
	to->readable_bytes = from->readable_bytes;
	to->writable_bytes = from->writable_bytes;
	memcpy(to->segs, from->segs, from->seg_count * sizeof(from->segs[0]));
}

int virtqueue_pop(struct virtqueue *q, struct chain *ret)
{
	struct walk w;
	uint16_t avail;
	uint16_t head;
	int r;

	if (!q->ready)
		return -EAGAIN;
	if (!guest_mem_load16(q->mem, gpa_add(q->avail, AVAIL_INDEX), &avail))
		return -EBADMSG;
	if (avail == q->next_avail)
		return -EAGAIN;
	if ((uint16_t)(avail - q->next_avail) > q->size)
		return -EBADMSG;
	if (!guest_mem_load16(q->mem, avail_entry(q, q->next_avail), &head))
		return -EBADMSG;
	if (head >= q->size || holds(q, head))
		return -EBADMSG;

	w.writing = false;
	w.chain.head = head;
	w.chain.seg_count = 0;
	w.chain.readable = 0;
	w.chain.readable_bytes = 0;
	w.chain.writable_bytes = 0;
	r = walk_chain(q, head, &w);
	if (r < 0)
		return r;

	q->next_avail++;
	hold(q, &w.chain);
	copy_chain(ret, &w.chain);
	return 0;
}

void virtqueue_unpop(struct virtqueue *q)
{
	if (!q->ready)
		return;
	assert(holds(q, q->last_head)); /* ours: there was a pop, and no push of it */
	let_go(q, q->last_head);
	q->next_avail--;
}

/* -- giving them back -----------------------------------------------------------------------------
 */

bool virtqueue_push(struct virtqueue *q, uint16_t head, uint32_t written)
{
	uint32_t entry[2] = { htole32(head), htole32(written) };

	if (!q->ready)
		return false;
	/* ours: a device pushes what it popped, and counts what it wrote */
	assert(head < q->size && holds(q, head) && written <= q->writable[head]);
	let_go(q, head);

	if (!guest_mem_write(q->mem, used_entry(q, q->next_used), entry, sizeof(entry)))
		return false;
	q->next_used++;
	if (q->next_used == q->told_used)
		q->told_lapped = true;
	return guest_mem_store16(q->mem, gpa_add(q->used, USED_INDEX), q->next_used);
}

/* -- telling each other ---------------------------------------------------------------------------
 */

bool virtqueue_enable_kicks(struct virtqueue *q)
{
	uint16_t avail;
	bool stored;

	if (!q->ready)
		return false;
	if (q->event_idx)
		stored = guest_mem_store16(q->mem, avail_event(q), q->next_avail);
	else
		stored = guest_mem_store16(q->mem, gpa_add(q->used, USED_FLAGS), 0);
	/* the driver writes its index, then reads what we stored; we the other way round */
	atomic_thread_fence(memory_order_seq_cst);
	return stored && guest_mem_load16(q->mem, gpa_add(q->avail, AVAIL_INDEX), &avail) &&
	       avail != q->next_avail;
}

/*
 * With event_idx there is nothing to do: avail_event stays where it is, behind the driver's index,
 * which therefore does not cross it again for 65536 requests.
 */
void virtqueue_disable_kicks(struct virtqueue *q)
{
	if (!q->ready || q->event_idx)
		return;
	/* a hint: if it cannot be stored we are merely kicked */
	(void)!guest_mem_store16(q->mem, gpa_add(q->used, USED_FLAGS), USED_F_NO_NOTIFY);
}

/* Did the used index, on its way from `was` to `is`, pass `event`? All three wrap. */
static bool passed(uint16_t event, uint16_t is, uint16_t was)
{
	return (uint16_t)(is - event - 1) < (uint16_t)(is - was);
}

bool virtqueue_wants_interrupt(struct virtqueue *q)
{
	uint16_t was = q->told_used;
	bool lapped = q->told_lapped;
	uint16_t word;

	if (!q->ready || (was == q->next_used && !lapped))
		return false;
	q->told_used = q->next_used;
	q->told_lapped = false;
	/* the used index must be there before we look at what the driver wants; see above */
	atomic_thread_fence(memory_order_seq_cst);
	if (!q->event_idx)
		return !guest_mem_load16(q->mem, gpa_add(q->avail, AVAIL_FLAGS), &word) ||
		       (word & AVAIL_F_NO_INTERRUPT) == 0;
	return lapped || !guest_mem_load16(q->mem, used_event(q), &word) ||
	       passed(word, q->next_used, was);
}
