#include "virtio_driver.h"

#include <assert.h>
#include <endian.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

enum {
	DESC_NEXT = 1,
	DESC_WRITE = 2,
	FIRST_FREE = 0x1000, /* address 0 is left alone, so that a zero is not an address */
};

/* -- memory ---------------------------------------------------------------------------------------
 */

void *vdriver_at(struct vdriver *d, uint64_t gpa, uint64_t len)
{
	assert(gpa <= VDRIVER_RAM_BYTES && len <= VDRIVER_RAM_BYTES - gpa);
	return d->ram + gpa;
}

uint64_t vdriver_alloc(struct vdriver *d, uint64_t bytes, uint64_t align)
{
	uint64_t at = (d->next_free + align - 1) / align * align;

	memset(vdriver_at(d, at, bytes), 0, bytes);
	d->next_free = at + bytes;
	return at;
}

static uint16_t load16(struct vdriver *d, uint64_t gpa)
{
	const _Atomic uint16_t *at = vdriver_at(d, gpa, 2);

	return le16toh(atomic_load(at));
}

static void store16(struct vdriver *d, uint64_t gpa, uint16_t v)
{
	_Atomic uint16_t *at = vdriver_at(d, gpa, 2);

	atomic_store(at, htole16(v));
}

static void store32(struct vdriver *d, uint64_t gpa, uint32_t v)
{
	uint32_t raw = htole32(v);

	memcpy(vdriver_at(d, gpa, 4), &raw, 4);
}

static uint32_t load32(struct vdriver *d, uint64_t gpa)
{
	uint32_t raw;

	memcpy(&raw, vdriver_at(d, gpa, 4), 4);
	return le32toh(raw);
}

/* -- the machine ----------------------------------------------------------------------------------
 */

static void init_around(struct vdriver *d)
{
	struct err e;
	int r;

	guest_mem_over(d->ram, VDRIVER_RAM_BYTES, &d->mem);
	r = loop_new(&d->loop, &e);
	assert(r == 0);
	d->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert(d->irq_fd >= 0);
}

void vdriver_init(struct vdriver *d)
{
	void *at = mmap(NULL, VDRIVER_RAM_BYTES, PROT_READ | PROT_WRITE,
	                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert(at != MAP_FAILED);
	*d = (struct vdriver){ .ram = at, .next_free = FIRST_FREE };
	init_around(d);
}

void vdriver_init_over(struct vdriver *d, const struct vdriver *first)
{
	*d = (struct vdriver){
		.ram = first->ram,
		.borrowed = true,
		.next_free = first->next_free,
		.accepted = first->accepted,
	};
	memcpy(d->q, first->q, sizeof(d->q));
	init_around(d);
}

void vdriver_fini(struct vdriver *d)
{
	if (d->running) {
		loop_stop(d->loop);
		(void)pthread_join(d->thread, NULL);
	}
	virtio_dev_free(d->dev);
	loop_free(d->loop);
	(void)close(d->irq_fd);
	if (!d->borrowed)
		(void)munmap(d->ram, VDRIVER_RAM_BYTES);
	*d = (struct vdriver){ .irq_fd = -1 };
}

struct virtio_place vdriver_place(const struct vdriver *d)
{
	return (struct virtio_place){ .mem = &d->mem, .loop = d->loop, .irq_fd = d->irq_fd };
}

void vdriver_attach(struct vdriver *d, struct virtio_dev *dev)
{
	assert(!d->dev);
	d->dev = dev;
}

static void *run_loop(void *arg)
{
	struct vdriver *d = arg;
	struct err e;
	int r = loop_run(d->loop, &e);

	assert(r == 0);
	return NULL;
}

void vdriver_run(struct vdriver *d)
{
	int r = pthread_create(&d->thread, NULL, run_loop, d);

	assert(r == 0);
	d->running = true;
}

void vdriver_start(struct vdriver *d, struct virtio_dev *dev)
{
	vdriver_attach(d, dev);
	vdriver_run(d);
}

void vdriver_on_loop(struct vdriver *d, void (*fn)(void *arg), void *arg)
{
	loop_call(d->loop, fn, arg);
}

/* -- registers ------------------------------------------------------------------------------------
 */

uint32_t vdriver_read32(struct vdriver *d, uint32_t off)
{
	uint32_t raw;

	virtio_mmio_read(d->dev, off, &raw, sizeof(raw));
	return le32toh(raw);
}

void vdriver_write32(struct vdriver *d, uint32_t off, uint32_t v)
{
	uint32_t raw = htole32(v);

	virtio_mmio_write(d->dev, off, &raw, sizeof(raw));
}

void vdriver_read_config(struct vdriver *d, uint32_t off, void *ret, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		virtio_mmio_read(d->dev, MMIO_CONFIG + off + i, (uint8_t *)ret + i, 1);
}

uint64_t vdriver_offered(struct vdriver *d)
{
	uint64_t high;

	vdriver_write32(d, MMIO_DEVICE_FEATURES_SEL, 1);
	high = vdriver_read32(d, MMIO_DEVICE_FEATURES);
	vdriver_write32(d, MMIO_DEVICE_FEATURES_SEL, 0);
	return high << 32 | vdriver_read32(d, MMIO_DEVICE_FEATURES);
}

static void add_status(struct vdriver *d, uint32_t bit)
{
	vdriver_write32(d, MMIO_STATUS, vdriver_read32(d, MMIO_STATUS) | bit);
}

void vdriver_reset(struct vdriver *d)
{
	vdriver_write32(d, MMIO_STATUS, 0);
	assert(vdriver_read32(d, MMIO_STATUS) == 0);
	memset(d->q, 0, sizeof(d->q));
	d->accepted = 0;
}

bool vdriver_negotiate(struct vdriver *d, uint64_t want)
{
	vdriver_reset(d);
	add_status(d, STATUS_ACKNOWLEDGE);
	add_status(d, STATUS_DRIVER);
	d->accepted = (want | VIRTIO_F_VERSION_1) & vdriver_offered(d);
	vdriver_write32(d, MMIO_DRIVER_FEATURES_SEL, 1);
	vdriver_write32(d, MMIO_DRIVER_FEATURES, (uint32_t)(d->accepted >> 32));
	vdriver_write32(d, MMIO_DRIVER_FEATURES_SEL, 0);
	vdriver_write32(d, MMIO_DRIVER_FEATURES, (uint32_t)d->accepted);
	add_status(d, STATUS_FEATURES_OK);
	return (vdriver_read32(d, MMIO_STATUS) & STATUS_FEATURES_OK) != 0;
}

static void write_address(struct vdriver *d, uint32_t low, uint64_t v)
{
	vdriver_write32(d, low, (uint32_t)v);
	vdriver_write32(d, low + 4, (uint32_t)(v >> 32));
}

bool vdriver_queue(struct vdriver *d, unsigned index, uint16_t size)
{
	struct vqueue *q = &d->q[index];
	uint32_t most;

	vdriver_write32(d, MMIO_QUEUE_SEL, index);
	most = vdriver_read32(d, MMIO_QUEUE_NUM_MAX);
	if (most == 0)
		return false;
	*q = (struct vqueue){ .size = size ? size : (uint16_t)most };
	q->desc = vdriver_alloc(d, (uint64_t)q->size * 16, 16);
	q->avail = vdriver_alloc(d, 6 + (uint64_t)q->size * 2, 2);
	q->used = vdriver_alloc(d, 6 + (uint64_t)q->size * 8, 4);
	vdriver_write32(d, MMIO_QUEUE_NUM, q->size);
	write_address(d, MMIO_QUEUE_DESC_LOW, q->desc);
	write_address(d, MMIO_QUEUE_DRIVER_LOW, q->avail);
	write_address(d, MMIO_QUEUE_DEVICE_LOW, q->used);
	vdriver_write32(d, MMIO_QUEUE_READY, 1);
	return vdriver_read32(d, MMIO_QUEUE_READY) == 1;
}

bool vdriver_ready(struct vdriver *d)
{
	add_status(d, STATUS_DRIVER_OK);
	return (vdriver_read32(d, MMIO_STATUS) & (STATUS_DRIVER_OK | STATUS_NEEDS_RESET)) ==
	       STATUS_DRIVER_OK;
}

bool vdriver_probe(struct vdriver *d, uint64_t want, uint16_t size)
{
	if (!vdriver_negotiate(d, want))
		return false;
	for (unsigned i = 0; i < d->dev->queue_count; i++)
		if (!vdriver_queue(d, i, size))
			return false;
	return vdriver_ready(d);
}

bool vdriver_needs_reset(struct vdriver *d)
{
	return (vdriver_read32(d, MMIO_STATUS) & STATUS_NEEDS_RESET) != 0;
}

bool vdriver_wait_needs_reset(struct vdriver *d)
{
	while (!vdriver_needs_reset(d))
		if (vdriver_interrupt(d, VDRIVER_WAIT_MS) == 0)
			return vdriver_needs_reset(d);
	return true;
}

/* -- rings ----------------------------------------------------------------------------------------
 */

void vdriver_desc(struct vdriver *d, unsigned queue, uint16_t index, uint64_t at, uint32_t len,
                  uint16_t flags, uint16_t next)
{
	uint64_t to = d->q[queue].desc + (uint64_t)index * 16;

	store32(d, to, (uint32_t)at);
	store32(d, to + 4, (uint32_t)(at >> 32));
	store32(d, to + 8, len);
	store16(d, to + 12, flags);
	store16(d, to + 14, next);
}

void vdriver_avail(struct vdriver *d, unsigned queue, uint16_t head)
{
	struct vqueue *q = &d->q[queue];

	store16(d, q->avail + 4 + 2u * (q->next_avail & (q->size - 1u)), head);
	q->next_avail++;
	store16(d, q->avail + 2, q->next_avail);
}

uint16_t vdriver_add(struct vdriver *d, unsigned queue, const struct vbuf *bufs, unsigned n)
{
	struct vqueue *q = &d->q[queue];
	uint16_t head = q->next_desc;
	uint16_t index = head;

	assert(n > 0 && n <= q->size);
	for (unsigned i = 0; i < n; i++) {
		uint16_t next = (uint16_t)((index + 1u) & (q->size - 1u));
		unsigned flags =
			(bufs[i].writable ? DESC_WRITE : 0u) | (i + 1 < n ? DESC_NEXT : 0u);

		vdriver_desc(d, queue, index, bufs[i].at, bufs[i].len, (uint16_t)flags, next);
		index = next;
	}
	q->next_desc = index;
	vdriver_avail(d, queue, head);
	return head;
}

void vdriver_kick(struct vdriver *d, unsigned queue)
{
	vdriver_write32(d, MMIO_QUEUE_NOTIFY, queue);
}

void vdriver_ring(struct vdriver *d, unsigned queue)
{
	int r = eventfd_write(virtio_kick_fd(d->dev, queue), 1);

	assert(r == 0);
}

bool vdriver_used(struct vdriver *d, unsigned queue, uint16_t *ret_head, uint32_t *ret_len)
{
	struct vqueue *q = &d->q[queue];
	uint64_t entry = q->used + 4 + 8u * (uint64_t)(q->next_used & (q->size - 1u));

	if (load16(d, q->used + 2) == q->next_used)
		return false;
	*ret_head = (uint16_t)load32(d, entry);
	*ret_len = load32(d, entry + 4);
	q->next_used++;
	return true;
}

uint32_t vdriver_interrupt(struct vdriver *d, int timeout_ms)
{
	struct pollfd p = { .fd = d->irq_fd, .events = POLLIN };
	eventfd_t n;
	uint32_t bits;

	/* one whose cause was taken with the one before, or gone with a reset, has no bits */
	do {
		if (poll(&p, 1, timeout_ms) != 1 || eventfd_read(d->irq_fd, &n) < 0)
			return 0;
		d->interrupts += n;
		bits = vdriver_read32(d, MMIO_INTERRUPT_STATUS);
		vdriver_write32(d, MMIO_INTERRUPT_ACK, bits);
	} while (bits == 0);
	return bits;
}

bool vdriver_wait_used(struct vdriver *d, unsigned queue, uint16_t *ret_head, uint32_t *ret_len)
{
	for (;;) {
		if (vdriver_used(d, queue, ret_head, ret_len))
			return true;
		/* what we want, then a second look, as a driver does */
		if ((d->accepted & VIRTIO_F_EVENT_IDX) != 0)
			vdriver_set_used_event(d, queue, d->q[queue].next_used);
		if (vdriver_used(d, queue, ret_head, ret_len))
			return true;
		if (!d->running)
			virtio_poll_kicks(d->dev);
		if (vdriver_interrupt(d, d->running ? VDRIVER_WAIT_MS : 0) == 0)
			return vdriver_used(d, queue, ret_head, ret_len);
	}
}

int64_t vdriver_request(struct vdriver *d, unsigned queue, const struct vbuf *bufs, unsigned n)
{
	uint16_t head = vdriver_add(d, queue, bufs, n);
	uint16_t got;
	uint32_t len;

	vdriver_kick(d, queue);
	if (!vdriver_wait_used(d, queue, &got, &len) || got != head)
		return -1;
	return len;
}

void vdriver_set_used_event(struct vdriver *d, unsigned queue, uint16_t v)
{
	store16(d, d->q[queue].avail + 4 + 2ull * d->q[queue].size, v);
	atomic_thread_fence(memory_order_seq_cst);
}

uint16_t vdriver_avail_event(struct vdriver *d, unsigned queue)
{
	return load16(d, d->q[queue].used + 4 + 8ull * d->q[queue].size);
}

void vdriver_set_avail_flags(struct vdriver *d, unsigned queue, uint16_t v)
{
	store16(d, d->q[queue].avail, v);
	atomic_thread_fence(memory_order_seq_cst);
}

uint16_t vdriver_used_flags(struct vdriver *d, unsigned queue)
{
	return load16(d, d->q[queue].used);
}
