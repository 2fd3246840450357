/*
 * balloon: pages the guest gives up, on request (inflating) or by itself (free page reporting).
 *
 * Hostile   every page number, every range, their number and how often they come
 * Shape     queue 0 inflates and queue 1 deflates: arrays of u32 page numbers, for us to read.
 *           Queue 2 reports: its *writable* segments are the free pages themselves
 * Units     a page is 4096 bytes, whatever the host uses
 * Bounded   BALLOON_PFNS_MAX numbers a request, BALLOON_MAPS_MAX replaced ranges a device's life
 * Broken    a page that is not RAM; an array of odd length; segments of the wrong direction
 * Source    VIRTIO 1.2, section 5.5. Linux gives the queues that exist numbers without gaps, so
 *           reporting is 2 here and not the 4 of the specification's list
 *
 * Theory of operation
 *
 * The specification lets a reported page read as it was or as zeros, and we hold inflated ones to
 * the same. How a page is given up so depends on what backs it.
 *
 * Shared memory is a file's: MADV_REMOVE punches a hole into it. Memory without a file is dropped:
 * MADV_DONTNEED.
 *
 * A private mapping of a template is the trap. MADV_DONTNEED there drops the guest's copy, and the
 * next look brings the template's bytes back: what the guest had before it was forked, maybe what
 * it has wiped since. So the range is replaced, at its address, by fresh anonymous memory. KVM
 * knows memory by its address and follows by itself. Each replaced range may split the mapping,
 * and a process may have 65530 of them, so there is a budget. A page is never file-backed again;
 * one bit a page remembers it, and from then on MADV_DONTNEED is right, and free. When the budget
 * is spent a range stays as it is, which the specification allows as well.
 *
 * Whoever saves memory by looking for the pages that differ from the template must ask
 * balloon_has_replaced(): there an absent page is a zero, not the template's.
 *
 * None of this can harm the monitor: what it drops lies within guest RAM, where nothing of ours is.
 */
#include "virtio/devices.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

enum {
	BALLOON_QUEUE_SIZE = 64, /* Linux reports up to 32 ranges at a time, and wants the room */
	BALLOON_CONFIG_BYTES = 8,
	BALLOON_INFLATE = 0,
	BALLOON_DEFLATE = 1,
	BALLOON_REPORT = 2,
	BALLOON_PFN_BYTES = 4,
	BALLOON_PFNS_MAX = 4096, /* of one request; Linux sends 256, others 1024 */
	BALLOON_BATCH = 256,     /* sorted and merged at a time */
	/* a replaced range splits a mapping into three at worst: half of what a process may have */
	BALLOON_MAPS_MAX = 16384,
	WORD_BITS = 64,
};

#define BALLOON_F_DEFLATE_ON_OOM (UINT64_C(1) << 2)
#define BALLOON_F_REPORTING      (UINT64_C(1) << 5)

struct balloon {
	struct virtio_dev *dev; /* from activate to reset */
	const struct guest_mem *mem;
	bool mem_private, mem_fresh;
	_Atomic uint32_t target; /* pages; the configuration's num_pages */
	_Atomic uint32_t actual; /* what the driver says it has */
	uint64_t pages;          /* up to and with the last of RAM, holes included */
	uint64_t *replaced;      /* a bit a page; NULL without mem_private */
	struct balloon_counts counts;
};

/* Guest pages [first, first + count). */
struct run {
	uint64_t first, count;
};

/* -- giving up memory -----------------------------------------------------------------------------
 */

/* Bits [from, from + n) of a word's. */
static uint64_t mask_of(unsigned from, unsigned n)
{
	return (n == WORD_BITS ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1) << from;
}

/* Are all pages of the run replaced already? With `set` they are from now on. */
static bool replaced(struct balloon *b, struct run r, bool set)
{
	bool all = true;

	while (r.count > 0) {
		unsigned from = (unsigned)(r.first % WORD_BITS);
		uint64_t room = WORD_BITS - from;
		unsigned n = (unsigned)(r.count < room ? r.count : room);
		uint64_t *word = &b->replaced[r.first / WORD_BITS];
		uint64_t mask = mask_of(from, n);

		all = all && (*word & mask) == mask;
		if (set)
			*word |= mask;
		r.first += n;
		r.count -= n;
	}
	return all;
}

static bool replace(struct balloon *b, struct run r, const struct iovec *at)
{
	void *got;

	if (b->counts.maps >= BALLOON_MAPS_MAX)
		return false;
	/* counted first: a failure half-way may have split what was there */
	b->counts.maps++;
	got = mmap(at->iov_base, at->iov_len, PROT_READ | PROT_WRITE,
	           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	if (got == MAP_FAILED)
		return false;
	/* like the memory around it, see guest_mem_map(); of no consequence if it fails */
	(void)madvise(at->iov_base, at->iov_len, MADV_DONTDUMP);
	(void)replaced(b, r, true);
	return true;
}

static void give_up(struct balloon *b, struct run r)
{
	struct iovec at;
	bool done;

	/* ours: each page was found in RAM, and slots do not touch */
	if (r.count == 0 || !guest_mem_iov(b->mem, gpa_of(r.first * GUEST_PAGE_BYTES),
	                                   r.count * GUEST_PAGE_BYTES, &at))
		return;
	if (b->mem_fresh || (b->mem_private && replaced(b, r, false)))
		done = madvise(at.iov_base, at.iov_len, MADV_DONTNEED) == 0;
	else if (!b->mem_private)
		done = madvise(at.iov_base, at.iov_len, MADV_REMOVE) == 0;
	else
		done = replace(b, r, &at);
	if (done)
		b->counts.dropped_pages += r.count;
	else
		b->counts.kept_pages += r.count;
}

/* -- page numbers ---------------------------------------------------------------------------------
 */

static void sort(uint32_t *pfns, unsigned n)
{
	for (unsigned i = 1; i < n; i++) {
		uint32_t v = pfns[i];
		unsigned k = i;

		for (; k > 0 && pfns[k - 1] > v; k--)
			pfns[k] = pfns[k - 1];
		pfns[k] = v;
	}
}

/* Drivers take neighbouring pages, in any order: as ranges they cost a hundredth. */
static void give_up_pages(struct balloon *b, uint32_t *pfns, unsigned n)
{
	struct run r = { 0 };

	sort(pfns, n);
	for (unsigned i = 0; i < n; i++) {
		if (r.count > 0 && pfns[i] < r.first + r.count)
			continue; /* twice the same */
		if (r.count > 0 && pfns[i] == r.first + r.count) {
			r.count++;
			continue;
		}
		give_up(b, r);
		r = (struct run){ .first = pfns[i], .count = 1 };
	}
	give_up(b, r);
}

/* The next numbers of an array. 0 at its end, -EBADMSG: one of them is no page of RAM. */
static int read_pfns(const struct balloon *b, const struct chain *c, uint64_t off,
                     uint32_t ret[BALLOON_BATCH])
{
	uint8_t raw[BALLOON_BATCH * BALLOON_PFN_BYTES];
	struct span in;
	struct iovec unused;
	uint64_t got;
	int n = 0;

	if (!chain_read(b->mem, c, off, raw, sizeof(raw), &got))
		return -EBADMSG;
	in = span_of(raw, got);
	while (take_le32(&in, &ret[n])) {
		if (!guest_mem_iov(b->mem, gpa_of(ret[n] * GUEST_PAGE_BYTES), GUEST_PAGE_BYTES,
		                   &unused))
			return -EBADMSG;
		n++;
	}
	return n;
}

static int take_pfns(struct balloon *b, const struct chain *c, bool inflate)
{
	uint32_t pfns[BALLOON_BATCH];
	uint64_t off = 0;

	if (c->writable_bytes > 0 || c->readable_bytes % BALLOON_PFN_BYTES != 0 ||
	    c->readable_bytes > BALLOON_PFNS_MAX * BALLOON_PFN_BYTES)
		return -EBADMSG;
	while (off < c->readable_bytes) {
		int n = read_pfns(b, c, off, pfns);

		if (n <= 0)
			return -EBADMSG;
		if (inflate) {
			give_up_pages(b, pfns, (unsigned)n);
			b->counts.inflated_pages += (unsigned)n;
		} else {
			b->counts.deflated_pages += (unsigned)n;
		}
		off += (uint64_t)n * BALLOON_PFN_BYTES;
	}
	return 0;
}

/* -- reported ranges ------------------------------------------------------------------------------
 */

/* The whole pages within a segment. The queue has checked that it is RAM, so nothing wraps. */
static struct run whole_pages(const struct chain_seg *s)
{
	uint64_t first = (s->at.v + GUEST_PAGE_BYTES - 1) / GUEST_PAGE_BYTES;
	uint64_t end = (s->at.v + s->len) / GUEST_PAGE_BYTES;

	return (struct run){ .first = first, .count = end > first ? end - first : 0 };
}

static int take_report(struct balloon *b, const struct chain *c)
{
	struct run r = { 0 };

	if (c->readable > 0)
		return -EBADMSG;
	for (unsigned i = 0; i < c->seg_count; i++) {
		struct run next = whole_pages(&c->segs[i]);

		b->counts.reported_pages += next.count;
		if (next.first == r.first + r.count) {
			r.count += next.count;
			continue;
		}
		give_up(b, r);
		r = next;
	}
	give_up(b, r);
	return 0;
}

/* -- the device -----------------------------------------------------------------------------------
 */

static int take(struct balloon *b, unsigned index, const struct chain *c)
{
	if (index == BALLOON_REPORT)
		return virtio_has(b->dev, BALLOON_F_REPORTING) ? take_report(b, c) : -EBADMSG;
	return take_pfns(b, c, index == BALLOON_INFLATE);
}

static void balloon_kick(void *self, unsigned index)
{
	struct balloon *b = self;
	struct virtio_dev *dev = b->dev;
	struct virtqueue *q = &dev->queues[index];
	struct chain c;
	int r = 0;

	virtqueue_disable_kicks(q);
	for (unsigned n = 0; n < q->size && r == 0; n++) {
		r = virtqueue_pop(q, &c);
		if (r == 0)
			r = take(b, index, &c);
		if (r == 0 && !virtqueue_push(q, c.head, 0))
			r = -EBADMSG;
	}
	virtio_notify(dev, q);
	if (r == -EBADMSG)
		virtio_broken(dev, "a malformed request of the balloon's, or pages that are none");
	else if (virtqueue_enable_kicks(q))
		virtio_again(dev, index);
}

static void balloon_read_config(const void *self, uint32_t off, void *ret, uint32_t len)
{
	const struct balloon *b = self;
	uint8_t raw[BALLOON_CONFIG_BYTES];
	struct buf out;

	buf_init(&out, raw, sizeof(raw));
	buf_put_le32(&out, b->target);
	buf_put_le32(&out, b->actual);
	assert(off <= sizeof(raw) && len <= sizeof(raw) - off);
	memcpy(ret, raw + off, len);
}

/* The driver tells how many pages it has given up: its word, for people to look at. */
static void balloon_write_config(void *self, uint32_t off, const void *data, uint32_t len)
{
	struct balloon *b = self;
	struct span in = span_of(data, len);
	uint32_t pages;

	if (off == 4 && len == 4 && take_le32(&in, &pages))
		b->actual = pages;
}

static int balloon_activate(void *self, struct virtio_dev *dev)
{
	struct balloon *b = self;

	b->dev = dev;
	return 0;
}

static void balloon_reset(void *self)
{
	struct balloon *b = self;

	b->actual = 0;
	b->dev = NULL;
}

static void balloon_save(const void *self, struct buf *out)
{
	const struct balloon *b = self;

	buf_put_le32(out, b->target);
	buf_put_le32(out, b->actual);
}

static int balloon_load(void *self, struct span in, struct err *e)
{
	struct balloon *b = self;
	uint32_t target;
	uint32_t actual;

	if (!take_le32(&in, &target) || !take_le32(&in, &actual) || in.len > 0 || target > b->pages)
		return err_set(e, -EBADMSG, "the saved state is damaged");
	b->target = target;
	b->actual = actual;
	return 0;
}

static void balloon_free(void *self)
{
	struct balloon *b = self;

	if (!b)
		return;
	free(b->replaced);
	free(b);
}
OWN_DEFINE(struct balloon, balloon_free)

static const struct virtio_ops balloon_ops = {
	.name = "balloon",
	.type = VIRTIO_BALLOON,
	.read_config = balloon_read_config,
	.write_config = balloon_write_config,
	.activate = balloon_activate,
	.kick = balloon_kick,
	.reset = balloon_reset,
	.save = balloon_save,
	.load = balloon_load,
	.free = balloon_free,
};

static struct balloon *balloon_of(const struct virtio_dev *dev)
{
	assert(dev->ops == &balloon_ops);
	return dev->self;
}

void balloon_set_target(struct virtio_dev *dev, uint32_t pages)
{
	struct balloon *b = balloon_of(dev);
	uint64_t most = b->mem->bytes / GUEST_PAGE_BYTES;

	b->target = pages < most ? pages : (uint32_t)most;
	virtio_config_changed(dev);
}

void balloon_get_counts(const struct virtio_dev *dev, struct balloon_counts *ret)
{
	const struct balloon *b = balloon_of(dev);

	*ret = b->counts;
	ret->target_pages = b->target;
	ret->actual_pages = b->actual;
}

bool balloon_has_replaced(const struct virtio_dev *dev, struct gpa at)
{
	const struct balloon *b = balloon_of(dev);
	uint64_t page = at.v / GUEST_PAGE_BYTES;

	return b->replaced && page < b->pages &&
	       (b->replaced[page / WORD_BITS] >> (page % WORD_BITS) & 1) != 0;
}

static int make_balloon(const struct guest_mem *mem, const struct balloon_config *c,
                        struct balloon **ret, struct err *e)
{
	_own_(balloon_free) struct balloon *b = calloc(1, sizeof(*b));

	if (!b)
		return err_set(e, -ENOMEM, "out of memory");
	b->mem = mem;
	b->mem_private = c->mem_private;
	b->mem_fresh = c->mem_fresh;
	for (unsigned i = 0; i < mem->slot_count; i++) {
		const struct guest_slot *s = &mem->slots[i];
		uint64_t end = (s->start + s->bytes) / GUEST_PAGE_BYTES;

		if ((uintptr_t)s->base % GUEST_PAGE_BYTES != 0 || s->start % GUEST_PAGE_BYTES != 0)
			return err_set(e, -EINVAL,
			               "virtio-balloon: memory that begins within a page");
		b->pages = end > b->pages ? end : b->pages;
	}
	if (c->mem_private) {
		/* 32 KiB a GiB, of which only what is used is ever touched */
		b->replaced = calloc(b->pages / WORD_BITS + 1, sizeof(*b->replaced));
		if (!b->replaced)
			return err_set(e, -ENOMEM, "out of memory");
	}
	*ret = steal_ptr(&b);
	return 0;
}

int balloon_new(const struct virtio_place *at, const struct balloon_config *c,
                struct virtio_dev **ret, struct err *e)
{
	struct virtio_new n = {
		.ops = &balloon_ops,
		.mem = at->mem,
		.loop = at->loop,
		.features = BALLOON_F_DEFLATE_ON_OOM | BALLOON_F_REPORTING,
		.config_bytes = BALLOON_CONFIG_BYTES,
		.queue_count = 3,
		.queue_sizes = { BALLOON_QUEUE_SIZE, BALLOON_QUEUE_SIZE, BALLOON_QUEUE_SIZE },
		.irq_fd = at->irq_fd,
	};
	struct balloon *b = NULL;
	int r = make_balloon(at->mem, c, &b, e);

	if (r < 0)
		return r;
	n.self = b;
	return virtio_dev_new(&n, ret, e);
}
