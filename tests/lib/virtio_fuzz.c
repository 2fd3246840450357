#include "virtio_fuzz.h"

#include <assert.h>
#include <string.h>
#include <sys/eventfd.h>

enum {
	/* rings of VIRTIO_QUEUES_MAX queues of up to 64 places in the upper half */
	RINGS_AT = VFUZZ_RAM_BYTES / 2,
	RINGS_BYTES = RINGS_AT / VIRTIO_QUEUES_MAX,
	RINGS_PLACES = 64,
	CHAIN_MAX = 16,
};

static const uint16_t registers[] = {
	MMIO_STATUS,
	MMIO_QUEUE_SEL,
	MMIO_QUEUE_NUM,
	MMIO_QUEUE_READY,
	MMIO_QUEUE_NOTIFY,
	MMIO_QUEUE_DESC_LOW,
	MMIO_QUEUE_DESC_HIGH,
	MMIO_QUEUE_DRIVER_LOW,
	MMIO_QUEUE_DRIVER_HIGH,
	MMIO_QUEUE_DEVICE_LOW,
	MMIO_QUEUE_DEVICE_HIGH,
	MMIO_DRIVER_FEATURES,
	MMIO_DRIVER_FEATURES_SEL,
	MMIO_DEVICE_FEATURES_SEL,
	MMIO_INTERRUPT_ACK,
	MMIO_CONFIG,
};
enum { REGISTERS = sizeof(registers) / sizeof(registers[0]) };

/* -- input: what is not there is zero -------------------------------------------------------------
 */

static uint8_t in8(struct span *in)
{
	uint8_t v = 0;

	(void)!take_u8(in, &v);
	return v;
}

static uint16_t in16(struct span *in)
{
	uint16_t v = 0;

	(void)!take_le16(in, &v);
	return v;
}

static uint64_t in64(struct span *in)
{
	uint64_t v = 0;

	(void)!take_le64(in, &v);
	return v;
}

static uint32_t in32(struct span *in)
{
	uint32_t v = 0;

	(void)!take_le32(in, &v);
	return v;
}

/* -- the guest ------------------------------------------------------------------------------------
 */

static void write32(struct vfuzz *v, uint32_t off, uint32_t value)
{
	virtio_mmio_write(v->dev, off, &value, sizeof(value));
}

static uint32_t read32(struct vfuzz *v, uint32_t off)
{
	uint32_t value;

	virtio_mmio_read(v->dev, off, &value, sizeof(value));
	return value;
}

static void poke(struct vfuzz *v, uint64_t at, const void *data, size_t len)
{
	(void)!guest_mem_write(&v->mem, gpa_of(at), data, len);
}

struct vfuzz_rings vfuzz_rings(unsigned queue)
{
	uint64_t at = RINGS_AT + (uint64_t)queue * RINGS_BYTES;
	struct vfuzz_rings r = { .desc = at };

	r.avail = at + 16 * RINGS_PLACES;
	r.used = r.avail + 8 + 2 * RINGS_PLACES;
	_Static_assert(26 * RINGS_PLACES + 16 <= RINGS_BYTES, "three rings fit");
	return r;
}

static void set_up_queue(struct vfuzz *v, unsigned queue, uint32_t places)
{
	struct vfuzz_rings r = vfuzz_rings(queue);
	uint32_t most;

	write32(v, MMIO_QUEUE_SEL, queue);
	most = read32(v, MMIO_QUEUE_NUM_MAX);
	if (places > most)
		places = most;
	write32(v, MMIO_QUEUE_NUM, places);
	write32(v, MMIO_QUEUE_DESC_LOW, (uint32_t)r.desc);
	write32(v, MMIO_QUEUE_DRIVER_LOW, (uint32_t)r.avail);
	write32(v, MMIO_QUEUE_DEVICE_LOW, (uint32_t)r.used);
	write32(v, MMIO_QUEUE_READY, 1);
	memset(v->ram + r.avail, 0, RINGS_BYTES - 16 * RINGS_PLACES);
	v->size[queue] = (uint16_t)places;
	v->next_avail[queue] = 0;
}

static void reset(struct vfuzz *v)
{
	write32(v, MMIO_STATUS, 0);
	memset(v->size, 0, sizeof(v->size));
	assert(read32(v, MMIO_STATUS) == 0 && read32(v, MMIO_INTERRUPT_STATUS) == 0);
	assert(v->dev->accepted == 0 && !v->dev->broken);
	for (unsigned i = 0; i < v->dev->queue_count; i++)
		assert(!v->dev->queues[i].ready && v->dev->queues[i].held_count == 0);
}

static void go_live(struct vfuzz *v, uint8_t how)
{
	uint32_t places = 1u << how % 7;
	uint64_t features = v->dev->offered;

	if ((how & 0x80) != 0)
		features &= ~VIRTIO_F_EVENT_IDX;
	reset(v);
	write32(v, MMIO_STATUS, 1);
	write32(v, MMIO_STATUS, 3);
	write32(v, MMIO_DRIVER_FEATURES_SEL, 1);
	write32(v, MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32));
	write32(v, MMIO_DRIVER_FEATURES_SEL, 0);
	write32(v, MMIO_DRIVER_FEATURES, (uint32_t)features);
	write32(v, MMIO_STATUS, 11);
	for (unsigned i = 0; i < v->dev->queue_count; i++)
		set_up_queue(v, i, places);
	write32(v, MMIO_STATUS, 15);
	assert((read32(v, MMIO_STATUS) & 15) == 15);
}

/* Descriptors from the first place on: a chain that runs into an older one is fine, too. */
static void make_chain(struct vfuzz *v, struct span *in)
{
	unsigned queue = in8(in) % VIRTIO_QUEUES_MAX;
	unsigned count = in8(in) % CHAIN_MAX + 1;
	struct vfuzz_rings r = vfuzz_rings(queue);
	uint16_t size = v->size[queue];
	uint16_t *next = &v->next_avail[queue];
	uint16_t head;

	if (size == 0)
		return;
	head = (uint16_t)(*next * 3 % size);
	for (unsigned i = 0; i < count; i++) {
		uint64_t at = in16(in);
		uint32_t len = in16(in);
		uint16_t flags = (in8(in) & 1) != 0 ? 2 : 0;
		uint16_t to = (uint16_t)((head + i) % size);
		uint16_t link[2] = { flags | (i + 1 < count ? 1 : 0), (uint16_t)((to + 1) % size) };

		poke(v, r.desc + 16ull * to, &at, 8);
		poke(v, r.desc + 16ull * to + 8, &len, 4);
		poke(v, r.desc + 16ull * to + 12, link, 4);
	}
	poke(v, r.avail + 4 + 2ull * (*next % size), &head, 2);
	(*next)++;
	poke(v, r.avail + 2, next, 2);
}

static void read_any(struct vfuzz *v, struct span *in)
{
	uint32_t off = in16(in) % (MMIO_WINDOW_BYTES + 16);
	uint32_t len = in8(in) % 8 + 1;
	uint8_t got[16];

	memset(got, 0xa5, sizeof(got));
	virtio_mmio_read(v->dev, off, got, len);
	for (uint32_t i = len; i < sizeof(got); i++)
		assert(got[i] == 0xa5);
}

static void store_any(struct vfuzz *v, struct span *in)
{
	uint32_t off = in16(in) % (MMIO_WINDOW_BYTES + 16);
	uint32_t len = in8(in) % 8 + 1;
	uint64_t value = in64(in);

	virtio_mmio_write(v->dev, off, &value, len);
}

/* -- the host -------------------------------------------------------------------------------------
 */

static struct virtio_dev *make(const struct vfuzz_target *t, const struct vfuzz *v)
{
	struct virtio_place at = { .mem = &v->mem, .loop = v->loop, .irq_fd = v->irq_fd };
	struct virtio_dev *dev = NULL;
	struct err e;
	int r = t->make(t->arg, &at, &dev, &e);

	assert(r == 0 && dev);
	return dev;
}

static size_t save(const struct virtio_dev *dev, uint8_t *ret)
{
	struct buf b;

	buf_init(&b, ret, VIRTIO_SAVE_MAX);
	virtio_save(dev, &b);
	assert(buf_ok(&b));
	return b.len;
}

/* To a new device. The guest may have spoilt its rings, which load then says. */
static void move(const struct vfuzz_target *t, struct vfuzz *v)
{
	uint8_t bytes[VIRTIO_SAVE_MAX];
	uint8_t again[VIRTIO_SAVE_MAX];
	struct err e = { 0 };
	size_t len;
	int r;

	virtio_pause(v->dev);
	len = save(v->dev, bytes);
	virtio_dev_free(v->dev);
	v->dev = make(t, v);
	r = virtio_load(v->dev, span_of(bytes, len), &e);
	if (r < 0) {
		assert(e.len > 0);
		virtio_dev_free(v->dev);
		v->dev = make(t, v);
		return;
	}
	assert(save(v->dev, again) == len && memcmp(bytes, again, len) == 0);
	virtio_resume(v->dev);
}

static void one(const struct vfuzz_target *t, struct vfuzz *v, struct span *in)
{
	switch ((enum vfuzz_op)(in8(in) % VFUZZ_OPS)) {
	case VFUZZ_WRITE: {
		uint32_t off = registers[in8(in) % REGISTERS];

		write32(v, off, in32(in));
		break;
	}
	case VFUZZ_READ:
		read_any(v, in);
		break;
	case VFUZZ_STORE:
		store_any(v, in);
		break;
	case VFUZZ_RING:
		(void)!eventfd_write(virtio_kick_fd(v->dev, in8(in) % v->dev->queue_count), 1);
		break;
	case VFUZZ_SERVE:
		virtio_poll_kicks(v->dev);
		if (t->own)
			t->own(t->arg, v, NULL);
		break;
	case VFUZZ_POKE: {
		uint64_t at = in16(in);
		uint64_t value = in64(in);

		poke(v, at, &value, sizeof(value));
		break;
	}
	case VFUZZ_LIVE:
		go_live(v, in8(in));
		break;
	case VFUZZ_CHAIN:
		make_chain(v, in);
		break;
	case VFUZZ_RESET:
		reset(v);
		break;
	case VFUZZ_MOVE:
		move(t, v);
		break;
	case VFUZZ_STAY:
		virtio_pause(v->dev);
		virtio_resume(v->dev);
		break;
	case VFUZZ_DEVICE:
		if (t->own)
			t->own(t->arg, v, in);
		break;
	case VFUZZ_OPS:
		break;
	}
}

void vfuzz_run(const struct vfuzz_target *t, struct span in)
{
	static struct vfuzz v; /* one thread, one input at a time: made once, cleared below */
	struct span image;
	struct err e;
	uint16_t bytes = in16(&in);

	if (!v.loop) {
		int r = loop_new(&v.loop, &e);

		assert(r == 0);
		v.irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		assert(v.irq_fd >= 0);
		guest_mem_over(v.ram, VFUZZ_RAM_BYTES, &v.mem);
	}
	memset(v.ram, 0, sizeof(v.ram));
	memset(v.next_avail, 0, sizeof(v.next_avail));
	memset(v.size, 0, sizeof(v.size));
	if (take_span(&in, bytes % VFUZZ_RAM_BYTES, &image) && image.len > 0)
		memcpy(v.ram, image.at, image.len);

	v.dev = make(t, &v);
	for (unsigned n = 0; n < VFUZZ_OPS_MAX && in.len > 0; n++)
		one(t, &v, &in);
	reset(&v);
	go_live(&v, 3); /* whatever was, a new driver finds a device that works */
	virtio_dev_free(v.dev);
	v.dev = NULL;
}
