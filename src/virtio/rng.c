/*
 * rng: entropy for the guest's generator.
 *
 * Hostile   every chain; how often it asks
 * Shape     one queue; each chain is writable and gets up to RNG_BYTES_MAX random bytes
 * Bounded   RNG_BYTES_MAX a request, a queue's worth of requests a turn
 * Broken    a chain with bytes for us to read
 * Source    VIRTIO 1.2, section 5.4 (entropy device)
 */
#include "base/clock.h"
#include "virtio/devices.h"

#include <errno.h>
#include <string.h>

enum {
	RNG_QUEUE_SIZE = 8,   /* Linux has one request under way */
	RNG_BYTES_MAX = 1024, /* Linux asks for 64 at a time; fewer than asked for is legal */
};

struct rng {
	struct virtio_dev *dev; /* from activate to reset */
};

static int rng_activate(void *self, struct virtio_dev *dev)
{
	struct rng *rng = self;

	rng->dev = dev;
	return 0;
}

static void rng_reset(void *self)
{
	struct rng *rng = self;

	rng->dev = NULL;
}

/* Fills one chain. False: the queue is dead. */
static bool answer(struct virtqueue *q, const struct chain *c)
{
	uint8_t bytes[RNG_BYTES_MAX];
	uint64_t len = c->writable_bytes < sizeof(bytes) ? c->writable_bytes : sizeof(bytes);
	uint64_t done;

	random_bytes(bytes, len);
	if (!chain_write(q->mem, c, 0, bytes, len, &done))
		done = 0;
	explicit_bzero(bytes, len); /* the guest's from here on, and nobody else's */
	return virtqueue_push(q, c->head, (uint32_t)done);
}

static void rng_kick(void *self, unsigned index)
{
	struct rng *rng = self;
	struct virtio_dev *dev = rng->dev;
	struct virtqueue *q = &dev->queues[index];
	struct chain c;
	int r = 0;

	virtqueue_disable_kicks(q);
	for (unsigned n = 0; n < q->size; n++) {
		r = virtqueue_pop(q, &c);
		if (r == 0 && c.readable != 0)
			r = -EBADMSG;
		if (r < 0 || !answer(q, &c))
			break;
	}
	virtio_notify(dev, q);
	if (r == -EBADMSG)
		virtio_broken(dev, "a malformed request for random bytes");
	else if (virtqueue_enable_kicks(q))
		virtio_again(dev, index);
}

static void rng_free(void *self)
{
	free(self);
}

static const struct virtio_ops rng_ops = {
	.name = "rng",
	.type = VIRTIO_RNG,
	.activate = rng_activate,
	.kick = rng_kick,
	.reset = rng_reset,
	.free = rng_free,
};

int rng_new(const struct virtio_place *at, struct virtio_dev **ret, struct err *e)
{
	struct virtio_new n = {
		.ops = &rng_ops,
		.mem = at->mem,
		.loop = at->loop,
		.queue_count = 1,
		.queue_sizes = { RNG_QUEUE_SIZE },
		.irq_fd = at->irq_fd,
	};

	n.self = calloc(1, sizeof(struct rng));
	if (!n.self)
		return err_set(e, -ENOMEM, "out of memory");
	return virtio_dev_new(&n, ret, e);
}
