/*
 * Theory of operation
 *
 * Guest to gate: the guest's frames go out of its memory by sendmsg(2), as many as fit one call,
 * each behind its length. A frame is given back when all of it was sent; of one sent in part we
 * remember how much. A gate that does not read fills the socket, then the guest's queue.
 *
 * Gate to guest: one buffer, of two of the longest frames, is filled by recv(2) and emptied into
 * the guest's buffers, so that many small frames cost one system call, and a whole long one always
 * fits behind the rest of another. While the guest has no buffers nothing is read, and the gate
 * waits. A length is judged before anything is done with its frame.
 *
 * Receive buffers: without MRG_RXBUF a frame has to fit one chain. Linux sizes its chains by the
 * MTU we offer: a header, and pages for 65520 bytes, 18 descriptors in all. So the queue holds 14
 * frames of any size, one chain each, and there is no frame that spans chains, which is where
 * devices had their bugs. More wait in the socket.
 *
 * Each turn of the loop does a bounded part of the work (ROUNDS_MAX); the rest waits for the next
 * turn, behind the other devices.
 *
 * Source: VIRTIO 1.2, section 5.1; Linux, drivers/net/virtio_net.c (add_recvbuf_big).
 */
#include "virtio/net.h"

#include "virtio/batch.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define F_MTU    (UINT64_C(1) << 3)
#define F_MAC    (UINT64_C(1) << 5)
#define F_STATUS (UINT64_C(1) << 16)

enum {
	QUEUE_RX = 0,
	QUEUE_TX = 1,
	QUEUES = 2,
	QUEUE_SIZE = 256,

	MAC_BYTES = 6,
	CONFIG_BYTES = 12, /* mac, le16 status, le16 queue pairs (not offered), le16 mtu */
	CONFIG_STATUS = 6,
	CONFIG_MTU = 10,
	LINK_UP = 1,

	HDR_BYTES = 12, /* flags, gso_type, then le16: hdr_len, gso_size, csum_*, num_buffers */
	HDR_GSO_TYPE = 1,
	HDR_NUM_BUFFERS = 10,
	HDR_F_NEEDS_CSUM = 1,
	GSO_NONE = 0,

	PREFIX_BYTES = 4,
	RX_BYTES = 2 * (PREFIX_BYTES + NET_FRAME_MAX),

	ROUNDS_MAX = 16,

	SAVED_VERSION = 1,
	SAVED_BYTES = 10,
};
_Static_assert(NET_FRAME_MAX <= UINT16_MAX, "an ethernet frame of a 16-bit MTU");

/* How a round of moving frames ended. */
enum step {
	STEP_MORE,
	STEP_DONE, /* nothing to move, or nowhere: something else will wake us */
	STEP_BROKEN,
};

struct net {
	struct virtio_dev *dev; /* NULL: not active */
	struct loop *loop;
	const struct guest_mem *mem;
	int fd;
	unsigned watch;
	bool paused;
	bool torn; /* the gate waits for the rest of a frame that will not come */
	bool tell; /* loaded with a link that was down */

	uint8_t mac[MAC_BYTES];
	_Atomic uint16_t status; /* of the configuration space */
	const char *lost;        /* NULL: there is a gate */
	void (*on_lost)(void *arg, const char *why);
	void *on_lost_arg;

	bool emptying;    /* the gate went: what waits for it is to be dropped */
	bool full;        /* the socket: waiting for EPOLLOUT */
	bool starved;     /* a frame in hand and no buffer for it: waiting for a kick */
	uint64_t tx_done; /* bytes sent of the first frame in the queue, prefix included */
	uint64_t tx_len;  /* of how many, if any */
	struct net_counts counts;

	struct batch batch;
	uint8_t prefixes[BATCH_CHAINS_MAX][PREFIX_BYTES];
	uint32_t rx_at, rx_end; /* what is in rx[] */
	uint8_t rx[RX_BYTES];
};

static bool works(const struct net *n)
{
	return n->dev && !n->dev->broken && !n->paused;
}

static bool may_read(const struct net *n)
{
	return works(n) && !n->lost && !n->starved;
}

static void update_watch(struct net *n)
{
	uint32_t events = 0;

	if (n->watch == 0)
		return;
	if (may_read(n))
		events |= EPOLLIN;
	if (works(n) && n->full)
		events |= EPOLLOUT;
	loop_set(n->loop, n->watch, events);
}

static void lose(struct net *n, const char *why)
{
	if (n->lost)
		return;
	n->lost = why;
	n->emptying = true;
	n->full = n->starved = false;
	n->tx_done = 0;
	n->rx_at = n->rx_end = 0;
	loop_drop(n->loop, n->watch);
	n->watch = 0;
	atomic_store(&n->status, 0);
	virtio_config_changed(n->dev);
	if (n->on_lost)
		n->on_lost(n->on_lost_arg, why);
}

/* Is it that the other side takes or has no more now, or that there is no other side? */
static bool is_later(int error)
{
	return error == EAGAIN || error == ENOBUFS || error == ENOMEM;
}

/* -- guest to gate --------------------------------------------------------------------------------
 */

/* How long the frame of a chain is; false: there is none we could send. */
static bool judge(const struct net *n, const struct chain *c, uint32_t *ret_len)
{
	uint8_t hdr[HDR_BYTES];
	uint64_t got;
	uint64_t len;

	if (!chain_read(n->mem, c, 0, hdr, sizeof(hdr), &got) || got < sizeof(hdr))
		return false;
	len = c->readable_bytes - sizeof(hdr);
	if (len < NET_FRAME_MIN || len > NET_FRAME_MAX)
		return false;
	/* neither was offered, and the gate would see a wrong checksum or a frame too long */
	if ((hdr[0] & HDR_F_NEEDS_CSUM) != 0 || hdr[HDR_GSO_TYPE] != GSO_NONE)
		return false;
	*ret_len = (uint32_t)len;
	return true;
}

/* The chain looked at last, as a prefix and a frame, or as nothing at all. */
static int add_frame(struct net *n)
{
	struct batch *b = &n->batch;
	uint8_t *prefix = n->prefixes[b->chain_count - 1];
	uint32_t len;

	if (n->lost || !judge(n, &b->last, &len))
		return 0;
	len = htobe32(len);
	memcpy(prefix, &len, PREFIX_BYTES);
	batch_add_ours(b, prefix, PREFIX_BYTES);
	return batch_add(b, HDR_BYTES);
}

static int gather(struct net *n, const struct virtqueue *q)
{
	struct batch *b = &n->batch;
	int r;

	batch_begin(b, q, false);
	while ((r = batch_look(b)) == 0) {
		r = add_frame(n);
		if (r < 0)
			return r;
	}
	if (r == -EBADMSG || b->chain_count == 0)
		return r;
	/* the gate has been told how long the frame is that is on its way */
	if (n->tx_done > 0 && (b->chains[0].bytes != n->tx_len || !batch_skip(b, n->tx_done)))
		return -EBADMSG;
	return 0;
}

/* Takes what was sent off the queue, and counts it. */
static enum step finish(struct net *n, struct virtqueue *q, uint64_t sent)
{
	const struct batch *b = &n->batch;
	uint16_t before = q->next_avail;
	unsigned taken;
	int r = batch_sent(&n->batch, q, sent, &n->tx_done);

	taken = (uint16_t)(q->next_avail - before);
	for (unsigned i = 0; i < taken && i < b->chain_count; i++) {
		if (b->chains[i].bytes > 0)
			n->counts.sent++;
		else if (n->lost)
			n->counts.sent_dropped++;
		else
			n->counts.sent_refused++;
	}
	if (taken < b->chain_count)
		n->tx_len = b->chains[taken].bytes;
	/* chains changed as they were sent: where the gate is in which frame, nobody can say */
	n->torn |= r < 0;
	return r < 0 ? STEP_BROKEN : STEP_MORE;
}

static enum step tx_round(struct net *n, struct virtqueue *q)
{
	struct batch *b = &n->batch;
	struct msghdr msg = { 0 };
	unsigned iovs;
	ssize_t sent = 0;
	int r = gather(n, q);

	if (r == -EAGAIN)
		return virtqueue_enable_kicks(q) ? STEP_MORE : STEP_DONE;
	if (r < 0)
		return STEP_BROKEN;
	msg.msg_iov = batch_iov(b, &iovs);
	msg.msg_iovlen = iovs;
	if (iovs > 0)
		sent = sendmsg(n->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0 && errno == EINTR)
		return STEP_MORE;
	if (sent < 0 && errno == EFAULT && virtio_lost(n->dev, -EFAULT))
		return STEP_DONE;
	if (sent < 0 && !is_later(errno)) {
		lose(n, "the gate closed its socket");
		return STEP_MORE; /* and drops from now on */
	}
	sent = sent < 0 ? 0 : sent;
	n->full = (uint64_t)sent < b->bytes;
	if (finish(n, q, (uint64_t)sent) == STEP_BROKEN)
		return STEP_BROKEN;
	return n->full ? STEP_DONE : STEP_MORE;
}

static void pump_tx(struct net *n)
{
	struct virtqueue *q = &n->dev->queues[QUEUE_TX];
	enum step step = STEP_MORE;

	virtqueue_disable_kicks(q);
	for (int i = 0; i < ROUNDS_MAX && step == STEP_MORE; i++)
		step = tx_round(n, q);
	if (step == STEP_BROKEN)
		virtio_broken(n->dev, "a chain to send is malformed");
	else if (step == STEP_MORE)
		virtio_again(n->dev, QUEUE_TX);
	virtio_notify(n->dev, q);
}

/* -- gate to guest --------------------------------------------------------------------------------
 */

/* The next frame in rx[]: 0, -EAGAIN (not all of it is there) or -EBADMSG. */
static int next_frame(const struct net *n, struct span *ret)
{
	struct span in = span_of(n->rx + n->rx_at, n->rx_end - n->rx_at);
	uint32_t len;

	if (!take_be32(&in, &len))
		return -EAGAIN;
	if (len < NET_FRAME_MIN || len > NET_FRAME_MAX)
		return -EBADMSG;
	return take_span(&in, len, ret) ? 0 : -EAGAIN;
}

/* A frame into the guest's next buffer. -EAGAIN: there is none. */
static int give(struct net *n, struct virtqueue *q, struct span frame)
{
	static const uint8_t hdr[HDR_BYTES] = { [HDR_NUM_BUFFERS] = 1 };
	struct chain *c = &n->batch.last;
	uint64_t len;
	int r = virtqueue_pop(q, c);

	if (r < 0)
		return r;
	if (c->writable_bytes < HDR_BYTES + frame.len) {
		/* a driver that takes no notice of the MTU: the frame is lost, its buffer not */
		n->counts.received_no_place++;
		virtqueue_unpop(q);
		return c->writable_bytes < HDR_BYTES ? -EBADMSG : 0;
	}
	if (!chain_write(n->mem, c, 0, hdr, sizeof(hdr), &len) ||
	    !chain_write(n->mem, c, HDR_BYTES, frame.at, frame.len, &len) ||
	    !virtqueue_push(q, c->head, (uint32_t)(HDR_BYTES + frame.len)))
		return -EBADMSG;
	n->counts.received++;
	return 0;
}

/* All whole frames. STEP_DONE: not all of them, or there is no gate any more. */
static enum step deliver(struct net *n, struct virtqueue *q)
{
	struct span frame;
	int r;

	while ((r = next_frame(n, &frame)) == 0) {
		r = give(n, q, frame);
		if (r == -EAGAIN) {
			n->starved = true;
			if (virtqueue_enable_kicks(q))
				virtio_again(n->dev, QUEUE_RX);
			return STEP_DONE;
		}
		if (r < 0)
			return STEP_BROKEN;
		n->rx_at += PREFIX_BYTES + (uint32_t)frame.len;
	}
	if (r == -EBADMSG) {
		lose(n, "the gate sent a frame of an impossible length");
		return STEP_DONE;
	}
	return STEP_MORE;
}

/* Fills rx[]. *ret_empty: that was all there is in the socket. */
static enum step receive(struct net *n, bool *ret_empty)
{
	ssize_t got;

	/* the rest of a frame to the front: then there is room for all of it */
	memmove(n->rx, n->rx + n->rx_at, n->rx_end - n->rx_at);
	n->rx_end -= n->rx_at;
	n->rx_at = 0;

	got = recv(n->fd, n->rx + n->rx_end, RX_BYTES - n->rx_end, MSG_DONTWAIT);
	if (got < 0 && errno == EINTR)
		return STEP_MORE;
	if (got < 0 && is_later(errno))
		return STEP_DONE;
	if (got <= 0) {
		lose(n, got == 0 ? "the gate closed its socket" : "the gate's socket failed");
		return STEP_DONE;
	}
	n->rx_end += (uint32_t)got;
	*ret_empty = n->rx_end < RX_BYTES;
	return STEP_MORE;
}

/* What is left after ROUNDS_MAX keeps the socket readable, which calls us again. */
static void pump_rx(struct net *n)
{
	struct virtqueue *q = &n->dev->queues[QUEUE_RX];
	bool empty = false;
	enum step step;

	virtqueue_disable_kicks(q);
	step = deliver(n, q);
	for (int i = 0; i < ROUNDS_MAX && step == STEP_MORE && !empty; i++) {
		step = receive(n, &empty);
		if (step == STEP_MORE)
			step = deliver(n, q);
	}
	if (step == STEP_BROKEN)
		virtio_broken(n->dev, "a receive buffer is malformed");
	virtio_notify(n->dev, q);
}

/* After anything was done. */
static void settle(struct net *n)
{
	if (n->emptying && works(n)) {
		n->emptying = false;
		pump_tx(n);
	}
	update_watch(n);
}

static void on_socket(void *arg, uint32_t events)
{
	struct net *n = arg;

	if (works(n) && n->full && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0)
		pump_tx(n);
	if (may_read(n) && (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0)
		pump_rx(n);
	settle(n);
}

/* -- operations -----------------------------------------------------------------------------------
 */

static void net_read_config(const void *self, uint32_t off, void *ret, uint32_t len)
{
	const struct net *n = self;
	uint8_t config[CONFIG_BYTES] = { 0 };
	uint16_t status = htole16(atomic_load(&n->status));
	uint16_t mtu = htole16(NET_MTU);

	memcpy(config, n->mac, MAC_BYTES);
	memcpy(config + CONFIG_STATUS, &status, sizeof(status));
	memcpy(config + CONFIG_MTU, &mtu, sizeof(mtu));
	memcpy(ret, config + off, len);
}

/* Gives the first chain back with its frame unsent. */
static void drop_first(struct net *n, struct virtqueue *q)
{
	int r = virtqueue_pop(q, &n->batch.last);

	n->tx_done = 0;
	if (r == 0 && virtqueue_push(q, n->batch.last.head, 0))
		n->counts.sent_dropped++;
	else if (r != -EAGAIN)
		virtio_broken(n->dev, "a chain to send is malformed");
	virtio_notify(n->dev, q);
}

static int net_activate(void *self, struct virtio_dev *dev)
{
	struct net *n = self;

	n->dev = dev;
	virtqueue_disable_kicks(&dev->queues[QUEUE_RX]);
	if (n->tx_done > 0) /* half a frame went to another gate */
		drop_first(n, &dev->queues[QUEUE_TX]);
	if (n->tell)
		virtio_config_changed(dev);
	n->tell = false;
	if (n->torn)
		lose(n, "the guest reset its card within a frame");
	n->torn = false;
	settle(n);
	return 0;
}

static void net_kick(void *self, unsigned index)
{
	struct net *n = self;

	if (!works(n))
		return;
	if (index == QUEUE_RX && (n->starved || n->rx_at < n->rx_end)) {
		n->starved = false;
		pump_rx(n);
	} else if (index == QUEUE_TX && !n->full) {
		pump_tx(n);
	}
	settle(n);
}

static void net_reset(void *self)
{
	struct net *n = self;

	n->torn |= n->tx_done > 0;
	n->dev = NULL;
	n->emptying = n->full = n->starved = n->tell = false;
	n->tx_done = 0;
	update_watch(n);
}

static void net_pause(void *self)
{
	struct net *n = self;

	n->paused = true;
	update_watch(n);
}

static void net_resume(void *self)
{
	struct net *n = self;

	n->paused = false;
	update_watch(n);
}

static void net_save(const void *self, struct buf *b)
{
	const struct net *n = self;

	buf_put_u8(b, SAVED_VERSION);
	buf_put_u8(b, n->lost != NULL || n->tell);
	buf_put_le64(b, n->tx_done);
}

static int net_load(void *self, struct span in, struct err *e)
{
	struct net *n = self;
	uint8_t version;
	uint8_t lost;
	uint64_t tx_done;

	if (in.len != SAVED_BYTES || !take_u8(&in, &version) || !take_u8(&in, &lost) ||
	    !take_le64(&in, &tx_done))
		return err_set(e, -EBADMSG, "saved state: not %d bytes", SAVED_BYTES);
	if (version != SAVED_VERSION)
		return err_set(e, -ENOTSUP, "saved state: of version %u", version);
	if (lost > 1 || tx_done >= PREFIX_BYTES + NET_FRAME_MAX)
		return err_set(e, -EBADMSG, "saved state: a field is out of range");
	n->tx_done = tx_done;
	n->tell = lost == 1;
	return 0;
}

static void net_free(void *self)
{
	struct net *n = self;

	if (n->watch != 0)
		loop_drop(n->loop, n->watch);
	free(n);
}

static const struct virtio_ops net_ops = {
	.name = "net",
	.type = VIRTIO_NET,
	.read_config = net_read_config,
	.activate = net_activate,
	.kick = net_kick,
	.reset = net_reset,
	.pause = net_pause,
	.resume = net_resume,
	.save = net_save,
	.load = net_load,
	.free = net_free,
};

/* -- making ---------------------------------------------------------------------------------------
 */

static struct net *net_of(const struct virtio_dev *dev)
{
	assert(dev->ops == &net_ops);
	return dev->self;
}

void net_on_lost(struct virtio_dev *dev, void (*fn)(void *arg, const char *why), void *arg)
{
	struct net *n = net_of(dev);

	n->on_lost = fn;
	n->on_lost_arg = arg;
}

const char *net_lost(const struct virtio_dev *dev)
{
	return net_of(dev)->lost;
}

void net_get_counts(const struct virtio_dev *dev, struct net_counts *ret)
{
	*ret = net_of(dev)->counts;
}

int net_new(const struct virtio_place *at, const struct net_config *config, struct virtio_dev **ret,
            struct err *e)
{
	struct virtio_new new = {
		.ops = &net_ops,
		.mem = at->mem,
		.loop = at->loop,
		.irq_fd = at->irq_fd,
		.features = F_MTU | F_MAC | F_STATUS,
		.config_bytes = CONFIG_BYTES,
		.queue_count = QUEUES,
		.queue_sizes = { [QUEUE_RX] = QUEUE_SIZE, [QUEUE_TX] = QUEUE_SIZE },
	};
	struct net *n = calloc(1, sizeof(*n));
	int r;

	if (!n)
		return err_set(e, -ENOMEM, "out of memory");
	n->loop = at->loop;
	n->mem = at->mem;
	n->fd = config->fd;
	memcpy(n->mac, config->mac, MAC_BYTES);
	atomic_init(&n->status, LINK_UP);
	r = loop_watch(n->loop, n->fd, 0, on_socket, n, &n->watch, e);
	if (r < 0) {
		net_free(n);
		return err_wrap(e, "network card");
	}
	new.self = n;
	return virtio_dev_new(&new, ret, e);
}
