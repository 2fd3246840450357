#include "virtio_fake.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static void fake_read_config(const void *self, uint32_t off, void *ret, uint32_t len)
{
	const struct fake *f = self;

	assert(off <= FAKE_CONFIG_BYTES && len <= FAKE_CONFIG_BYTES - off);
	memcpy(ret, f->config + off, len);
}

static void fake_write_config(void *self, uint32_t off, const void *data, uint32_t len)
{
	struct fake *f = self;

	assert(off <= FAKE_CONFIG_BYTES && len <= FAKE_CONFIG_BYTES - off);
	memcpy(f->config + off, data, len);
}

static int fake_activate(void *self, struct virtio_dev *dev)
{
	struct fake *f = self;

	assert(!f->dev);
	f->dev = dev;
	f->activated++;
	return f->activate_result;
}

static uint32_t echo(struct virtqueue *q, const struct chain *c)
{
	uint8_t bytes[FAKE_COPY_MAX];
	uint64_t len;
	uint64_t done;

	if (!chain_read(q->mem, c, 0, bytes, sizeof(bytes), &len) ||
	    !chain_write(q->mem, c, 0, bytes, len, &done))
		return 0;
	return (uint32_t)done;
}

/* 0 when the chain was dealt with. */
static int take(struct fake *f, unsigned index, struct virtqueue *q, const struct chain *c)
{
	if (index == 2 && c->readable != 0)
		return -EBADMSG;
	if (index == 1) {
		f->slow[f->slow_count++] = *c;
		return 0;
	}
	return virtqueue_push(q, c->head, index == 0 ? echo(q, c) : 0) ? 0 : -EAGAIN;
}

static void fake_kick(void *self, unsigned index)
{
	struct fake *f = self;
	struct virtqueue *q = &f->dev->queues[index];
	struct chain c;
	int r = 0;

	f->kicks[index]++;
	virtqueue_disable_kicks(q);
	for (unsigned n = 0; n < q->size && r == 0; n++) {
		if (index == 1 && f->slow_count == FAKE_SLOW_MAX)
			return;
		r = virtqueue_pop(q, &c);
		if (r == 0)
			r = take(f, index, q, &c);
	}
	virtio_notify(f->dev, q);
	if (r == -EBADMSG)
		virtio_broken(f->dev, "fake");
	else if (virtqueue_enable_kicks(q))
		virtio_again(f->dev, index);
}

void fake_finish(struct fake *f)
{
	struct virtqueue *q;

	if (!f->dev)
		return;
	q = &f->dev->queues[1];
	for (unsigned i = 0; i < f->slow_count; i++) {
		const struct chain *c = &f->slow[i];
		const uint8_t done = 0x5a;
		uint64_t n = 0;

		if (q->ready && c->writable_bytes > 0)
			(void)!chain_write(q->mem, c, 0, &done, 1, &n);
		(void)!virtqueue_push(q, c->head, (uint32_t)n);
	}
	f->slow_count = 0;
	virtio_notify(f->dev, q);
	virtio_again(f->dev, 1);
}

static void fake_reset(void *self)
{
	struct fake *f = self;

	if (f->in_reset)
		f->in_reset(f->arg);
	f->resets++;
	f->slow_count = 0;
	f->dev = NULL;
}

static void fake_pause(void *self)
{
	struct fake *f = self;

	fake_finish(f);
	f->paused++;
}

static void fake_resume(void *self)
{
	struct fake *f = self;

	f->resumed++;
}

static void fake_save(const void *self, struct buf *b)
{
	const struct fake *f = self;

	buf_put(b, f->config, sizeof(f->config));
	buf_put_le32(b, f->value);
}

static int fake_load(void *self, struct span in, struct err *e)
{
	struct fake *f = self;
	uint32_t value;

	f->loads++;
	if (!take_bytes(&in, f->config, sizeof(f->config)) || !take_le32(&in, &value) ||
	    value >= 1000 || in.len != 0)
		return err_set(e, -EBADMSG, "no state of a fake");
	f->value = value;
	return 0;
}

static void fake_free(void *self)
{
	struct fake *f = self;

	f->freed++;
}

static const struct virtio_ops fake_ops = {
	.name = "fake",
	.type = VIRTIO_RNG,
	.read_config = fake_read_config,
	.write_config = fake_write_config,
	.activate = fake_activate,
	.kick = fake_kick,
	.reset = fake_reset,
	.pause = fake_pause,
	.resume = fake_resume,
	.save = fake_save,
	.load = fake_load,
	.free = fake_free,
};

int fake_new(struct fake *f, const struct guest_mem *mem, struct loop *loop, int irq_fd,
             struct virtio_dev **ret, struct err *e)
{
	struct virtio_new n = {
		.ops = &fake_ops,
		.self = f,
		.mem = mem,
		.loop = loop,
		.features = FAKE_FEATURE,
		.config_bytes = FAKE_CONFIG_BYTES,
		.queue_count = FAKE_QUEUES,
		.queue_sizes = { FAKE_QUEUE_SIZE, FAKE_QUEUE_SIZE, FAKE_QUEUE_SIZE },
		.irq_fd = irq_fd,
	};

	return virtio_dev_new(&n, ret, e);
}
