/*
 * The network card under anything a guest and its gate do. VFUZZ_DEVICE is host.h's. Beside what
 * virtio_fuzz.h checks: what goes to one gate is nothing but whole frames of 14 to 65534 bytes
 * behind their length, however the guest rewrites its chains meanwhile, and nothing follows once
 * the card has lost it.
 */
#include "host.h"
#include "virtio/net.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Where the gate is in its stream. */
static struct {
	uint32_t prefix;
	unsigned prefix_bytes;
	uint32_t left; /* of a frame */
	unsigned lost;
} gate;

static void gate_reads(const uint8_t *at, size_t len)
{
	assert(gate.lost == 0);
	while (len > 0) {
		if (gate.left > 0) {
			size_t n = len < gate.left ? len : gate.left;

			gate.left -= (uint32_t)n;
			at += n;
			len -= n;
			continue;
		}
		gate.prefix = gate.prefix << 8 | *at++;
		len--;
		if (++gate.prefix_bytes < 4)
			continue;
		assert(gate.prefix >= NET_FRAME_MIN && gate.prefix <= NET_FRAME_MAX);
		gate.left = gate.prefix;
		gate.prefix_bytes = 0;
	}
}

static void on_lost(void *arg, const char *why)
{
	(void)arg;
	assert(why && why[0] != '\0');
	gate.lost++;
	assert(gate.lost == 1);
}

static int make_net(void *arg, const struct virtio_place *at, struct virtio_dev **ret,
                    struct err *e)
{
	const struct net_config c = { .fd = HOST_FD, .mac = { 2, 0, 0, 0, 0, 1 } };
	int r;

	(void)arg;
	gate.prefix = gate.left = 0;
	gate.prefix_bytes = gate.lost = 0;
	host.sent = gate_reads;
	host_reset();
	r = net_new(at, &c, ret, e);
	if (r == 0)
		net_on_lost(*ret, on_lost, NULL);
	return r;
}

/* A saved state of its own, as a hostile file has it, into a card nobody uses. */
static void try_load(void *arg, const struct vfuzz *v, struct span *in)
{
	struct virtio_place at = { .mem = &v->mem, .loop = v->loop, .irq_fd = -1 };
	struct virtio_dev *dev = NULL;
	struct err e = { 0 };
	int r = make_net(arg, &at, &dev, &e);

	assert(r == 0);
	r = dev->ops->load(dev->self, *in, &e);
	assert(r == 0 || (r < 0 && e.len > 0));
	virtio_dev_free(dev);
	*in = span_of(NULL, 0);
}

static void play(void *arg, struct vfuzz *v, struct span *in)
{
	uint8_t what;

	if (!in) {
		host_turn();
	} else if (in->len > 0 && (in->at[0] & 0xf0) == 0xe0) {
		(void)!take_u8(in, &what);
		try_load(arg, v, in);
		return; /* the gate is not the card's any more */
	} else {
		host_play(v, in);
	}
	assert((net_lost(v->dev) != NULL) == (gate.lost == 1));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vfuzz_target t = { .make = make_net, .own = play };

	vfuzz_run(&t, span_of(data, size));
	assert(host_watches() == 0);
	return 0;
}
