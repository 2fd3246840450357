/*
 * Each device under a driver that writes nonsense into its rings while the device reads them, on
 * another CPU. Nothing is expected of the answers; the device must live, say NEEDS_RESET when it is
 * broken, and work again for a new driver. What the sanitizers see is the rest.
 */
#include "test.h"
#include "virtio_driver.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

enum {
	LIVES = 150,
	ACTS = 3000, /* of one life, unless the device breaks before */
	DATA_AT = 1 << 20,
	DATA_BYTES = 2 << 20,
	BUFS = 4,
};

struct hostile {
	struct vdriver d;
	uint32_t seed;
	int peer; /* the far side of the device's socket; -1: it has none */
};

static uint32_t dice(struct hostile *h, uint32_t sides)
{
	h->seed = h->seed * 1664525u + 1013904223u;
	return (h->seed >> 8) % sides;
}

static void *memory(struct hostile *h, uint64_t at, uint64_t len)
{
	return vdriver_at(&h->d, at, len);
}

/* A chain that begins like a block request, a control message or a frame. */
static void add_chain(struct hostile *h, unsigned queue)
{
	struct vbuf b[BUFS];
	unsigned n = 1 + dice(h, BUFS);
	unsigned writable = dice(h, n + 1);
	uint32_t start[4] = { dice(h, 15), 0, dice(h, 4096), 0 };

	for (unsigned i = 0; i < n; i++) {
		b[i].at = DATA_AT + dice(h, DATA_BYTES);
		b[i].len = dice(h, 3) != 0 ? 1 + dice(h, 600) : 512 * dice(h, 40);
		b[i].writable = i >= writable;
	}
	memcpy(memory(h, b[0].at, sizeof(start)), start, sizeof(start));
	(void)vdriver_add(&h->d, queue, b, n);
}

static void act(struct hostile *h)
{
	unsigned queue = dice(h, h->d.dev->queue_count);
	const struct vqueue *q = &h->d.q[queue];
	uint16_t v = (uint16_t)dice(h, UINT16_MAX);

	switch (dice(h, 10)) {
	case 0: /* the index: back, ahead, far ahead */
		v = (uint16_t)(q->next_avail + dice(h, 4) - 1);
		memcpy(memory(h, q->avail + 2, 2), &v, 2);
		break;
	case 1: /* an entry, now and then of no descriptor */
		v = (uint16_t)dice(h, q->size + (dice(h, 50) == 0 ? 1u : 0u));
		memcpy(memory(h, q->avail + 4 + 2 * dice(h, q->size), 2), &v, 2);
		break;
	case 2: /* a byte of a descriptor */
		memcpy(memory(h, q->desc + dice(h, 16u * q->size), 1), &v, 1);
		break;
	default:
		add_chain(h, queue);
		break;
	}
	if (dice(h, 3) == 0)
		vdriver_ring(&h->d, queue);
}

/* The host takes some of what came and sends a frame's or a stream's beginning. */
static void play_host(struct hostile *h)
{
	uint8_t bytes[64] = { 0, 0, 0, 60 };
	uint8_t sink[4096];

	if (h->peer < 0 || dice(h, 8) != 0)
		return;
	(void)!recv(h->peer, sink, sizeof(sink), MSG_DONTWAIT);
	(void)!send(h->peer, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void live(struct hostile *h)
{
	h->d.next_free = 4096;
	CHECK(vdriver_probe(&h->d, UINT64_MAX, 0));
	for (unsigned n = 0; n < ACTS; n++) {
		act(h);
		play_host(h);
		if (n % 64 == 0 && vdriver_needs_reset(&h->d))
			return;
	}
}

/* After all of it, memory filled with zeros and rings as they should be: the device is alive. */
static void attack(struct hostile *h, struct virtio_dev *dev)
{
	struct virtio_counts c;

	vdriver_start(&h->d, dev);
	for (unsigned i = 0; i < LIVES; i++)
		live(h);
	virtio_get_counts(dev, &c);
	CHECK(c.broken > 0); /* else it was no attack */
	CHECK(c.broken <= LIVES);
	memset(h->d.ram, 0, VDRIVER_RAM_BYTES);
	h->d.next_free = 4096;
	CHECK(vdriver_probe(&h->d, 0, 0));
	CHECK(!vdriver_needs_reset(&h->d));
	vdriver_fini(&h->d);
	if (h->peer >= 0)
		(void)close(h->peer);
}

static struct virtio_place begin(struct hostile *h, uint32_t seed)
{
	*h = (struct hostile){ .seed = seed, .peer = -1 };
	vdriver_init(&h->d);
	return vdriver_place(&h->d);
}

/* The device's end; the other one is h->peer. */
static int make_socket(struct hostile *h)
{
	int ends[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
	h->peer = ends[1];
	return ends[0];
}

TEST(rng)
{
	struct hostile h;
	struct virtio_place at = begin(&h, 1);
	struct virtio_dev *dev = NULL;
	struct err e;

	CHECK_OK(rng_new(&at, &dev, &e), &e);
	attack(&h, dev);
}

TEST(blk)
{
	struct hostile h;
	struct virtio_place at = begin(&h, 2);
	struct virtio_dev *dev = NULL;
	struct err e;
	struct blk_config c = { .fd = memfd_create("disk", MFD_CLOEXEC) };

	CHECK(c.fd >= 0);
	CHECK_EQ(ftruncate(c.fd, 2 << 20), 0);
	CHECK_OK(blk_new(&at, &c, &dev, &e), &e);
	attack(&h, dev);
	(void)close(c.fd);
}

TEST(console)
{
	struct hostile h;
	struct virtio_place at = begin(&h, 3);
	struct virtio_dev *dev = NULL;
	struct err e;
	struct console_config c = { .log_fd = -1, .agent_fd = make_socket(&h) };

	CHECK_OK(console_new(&at, &c, &dev, &e), &e);
	attack(&h, dev);
	(void)close(c.agent_fd);
}

TEST(net)
{
	struct hostile h;
	struct virtio_place at = begin(&h, 4);
	struct virtio_dev *dev = NULL;
	struct err e;
	struct net_config c = { .fd = make_socket(&h) };

	CHECK_OK(net_new(&at, &c, &dev, &e), &e);
	attack(&h, dev);
	(void)close(c.fd);
}

TEST(balloon)
{
	struct hostile h;
	struct virtio_place at = begin(&h, 5);
	struct virtio_dev *dev = NULL;
	struct err e;
	struct balloon_config c = { .mem_private = true };

	CHECK_OK(balloon_new(&at, &c, &dev, &e), &e);
	attack(&h, dev);
}

TEST_MAIN()
