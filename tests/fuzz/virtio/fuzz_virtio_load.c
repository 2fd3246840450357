/*
 * A saved device from a hostile file, over hostile memory: refused with a reason, or a device that
 * works. Input: u16 bytes of state | the state | guest memory from address 0.
 */
#include "virtio_fake.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum { RAM_BYTES = 1 << 14 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write32(struct virtio_dev *dev, uint32_t off, uint32_t v)
{
	virtio_mmio_write(dev, off, &v, sizeof(v));
}

static void check_taken(struct virtio_dev *dev, struct span state)
{
	uint8_t again[VIRTIO_SAVE_MAX];
	struct buf b;
	uint32_t zero = 1;

	buf_init(&b, again, sizeof(again));
	virtio_save(dev, &b);
	assert(buf_ok(&b) && span_equal(buf_span(&b), state));
	virtio_resume(dev);
	virtio_poll_kicks(dev);
	virtio_poll_kicks(dev);
	write32(dev, MMIO_STATUS, 0);
	virtio_mmio_read(dev, MMIO_STATUS, &zero, sizeof(zero));
	assert(zero == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct loop *loop; /* made once */
	static _Alignas(16) uint8_t ram[RAM_BYTES];
	struct span in = span_of(data, size);
	struct virtio_dev *dev = NULL;
	struct fake f = { 0 };
	struct guest_mem mem;
	struct span state;
	struct err e = { 0 };
	uint16_t bytes;
	int r = loop ? 0 : loop_new(&loop, &e);

	assert(r == 0);
	if (!take_le16(&in, &bytes) || !take_span(&in, bytes, &state))
		return 0;
	memset(ram, 0, sizeof(ram));
	if (in.len > 0)
		memcpy(ram, in.at, in.len < RAM_BYTES ? in.len : RAM_BYTES);
	guest_mem_over(ram, RAM_BYTES, &mem);
	r = fake_new(&f, &mem, loop, -1, &dev, &e);
	assert(r == 0 && dev);
	r = virtio_load(dev, state, &e);
	assert(f.activated == 0);
	if (r == 0)
		check_taken(dev, state);
	else
		assert(r == -EBADMSG && e.len > 0);
	virtio_dev_free(dev);
	assert(f.freed == 1);
	return 0;
}
