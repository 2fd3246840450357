#include "virtio/console_internal.h"

#include <errno.h>
#include <sys/param.h>
#include <sys/socket.h>

/* -- the agent's port, to the host ----------------------------------------------------------------
 */

static enum step drop_round(struct console *c, struct virtqueue *q)
{
	struct batch *b = &c->batch;
	int r;

	c->tx_done = 0;
	batch_begin(b, q, false);
	while ((r = batch_look(b)) == 0)
		c->counts.agent_dropped += b->last.readable_bytes;
	if (r == -EBADMSG || batch_sent(b, q, 0, &c->tx_done) < 0)
		return STEP_BROKEN;
	return b->chain_count > 0 ? STEP_MORE : STEP_DONE;
}

void console_drop(struct console *c)
{
	struct virtqueue *q = console_queue(c, QUEUE_AGENT_TX);
	enum step step = STEP_MORE;

	for (int n = 0; n <= QUEUE_SIZE_MAX / BATCH_CHAINS_MAX && step == STEP_MORE; n++)
		step = drop_round(c, q);
	if (step == STEP_BROKEN)
		virtio_broken(c->dev, "a chain to send is malformed");
	virtio_notify(c->dev, q);
}

static int gather(struct console *c, const struct virtqueue *q)
{
	struct batch *b = &c->batch;
	int r;

	batch_begin(b, q, false);
	while ((r = batch_look(b)) == 0) {
		r = batch_add(b, 0);
		if (r < 0)
			return r;
	}
	if (r == -EBADMSG || b->chain_count == 0)
		return r;
	/* what was sent of the first chain was less than all of it when it was sent */
	if (c->tx_done > 0 && (b->chains[0].bytes <= c->tx_done || !batch_skip(b, c->tx_done)))
		return -EBADMSG;
	return 0;
}

/* Is it that the other side takes no more now, or that there is no other side? */
static bool is_full(int error)
{
	return error == EAGAIN || error == ENOBUFS || error == ENOMEM;
}

static enum step send_round(struct console *c, struct virtqueue *q)
{
	struct batch *b = &c->batch;
	struct msghdr msg = { 0 };
	unsigned iovs;
	ssize_t n = 0;
	int r = gather(c, q);

	if (r == -EAGAIN)
		return STEP_DONE;
	if (r < 0)
		return STEP_BROKEN;
	msg.msg_iov = batch_iov(b, &iovs);
	msg.msg_iovlen = iovs;
	if (iovs > 0)
		n = sendmsg(c->agent_fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0 && errno == EINTR)
		return STEP_MORE;
	if (n < 0 && errno == EFAULT && virtio_lost(c->dev, -EFAULT))
		return STEP_DONE;
	if (n < 0 && !is_full(errno)) {
		console_detach(c);
		return STEP_MORE; /* and drops from now on */
	}
	n = n < 0 ? 0 : n;
	c->full = (uint64_t)n < b->bytes;
	c->counts.agent_sent += (uint64_t)n;
	if (batch_sent(b, q, (uint64_t)n, &c->tx_done) < 0)
		return STEP_BROKEN;
	return c->full ? STEP_DONE : STEP_MORE;
}

static enum step tx_round(struct console *c, struct virtqueue *q)
{
	enum step step = c->told_open ? send_round(c, q) : drop_round(c, q);

	if (step == STEP_DONE && !c->full && virtqueue_enable_kicks(q))
		return STEP_MORE;
	return step;
}

void console_send(struct console *c)
{
	struct virtqueue *q = console_queue(c, QUEUE_AGENT_TX);
	enum step step = STEP_MORE;

	if (c->emptying)
		console_drop(c);
	c->emptying = false;
	virtqueue_disable_kicks(q);
	for (int n = 0; n < ROUNDS_MAX && step == STEP_MORE; n++)
		step = tx_round(c, q);
	if (step == STEP_BROKEN)
		virtio_broken(c->dev, "a chain to send is malformed");
	else if (step == STEP_MORE)
		virtio_again(c->dev, QUEUE_AGENT_TX);
	virtio_notify(c->dev, q);
}

/* -- the agent's port, to the guest ---------------------------------------------------------------
 */

/* Shows the next receive buffers to a read. */
static int offer(struct console *c, const struct virtqueue *q)
{
	struct batch *b = &c->batch;
	int r = 0;

	batch_begin(b, q, true);
	while (b->chain_count < c->rx_ahead) {
		r = batch_look(b);
		if (r < 0)
			break;
		if (b->last.writable_bytes == 0)
			return -EBADMSG;
		r = batch_add(b, 0);
		if (r < 0)
			return r;
	}
	return b->chain_count > 0 && r == -EAGAIN ? 0 : r;
}

static enum step receive_round(struct console *c, struct virtqueue *q)
{
	struct batch *b = &c->batch;
	struct msghdr msg = { 0 };
	unsigned iovs;
	ssize_t n;
	int r = offer(c, q);

	if (r == -EAGAIN) {
		c->starved = !virtqueue_enable_kicks(q);
		return c->starved ? STEP_DONE : STEP_MORE;
	}
	if (r < 0)
		return STEP_BROKEN;
	msg.msg_iov = batch_iov(b, &iovs);
	msg.msg_iovlen = iovs;
	n = recvmsg(c->agent_fd, &msg, MSG_DONTWAIT);
	if (n < 0 && errno == EINTR)
		return STEP_MORE;
	if (n < 0 && is_full(errno))
		return STEP_DONE;
	if (n < 0 && errno == EFAULT && virtio_lost(c->dev, -EFAULT))
		return STEP_DONE;
	if (n <= 0) {
		console_detach(c);
		return STEP_DONE;
	}
	c->counts.agent_received += (uint64_t)n;
	if (batch_received(b, q, (uint64_t)n) < 0)
		return STEP_BROKEN;
	if ((uint64_t)n == b->bytes) {
		c->rx_ahead = MIN(c->rx_ahead * 2, RX_AHEAD_MAX);
		return STEP_MORE;
	}
	if ((uint64_t)n < b->bytes / 2)
		c->rx_ahead = MAX(c->rx_ahead / 2, RX_AHEAD_MIN);
	return STEP_DONE; /* the socket is empty */
}

/* What is left after ROUNDS_MAX keeps the socket readable, which calls us again. */
void console_receive(struct console *c)
{
	struct virtqueue *q = console_queue(c, QUEUE_AGENT_RX);
	enum step step = STEP_MORE;

	virtqueue_disable_kicks(q);
	for (int n = 0; n < ROUNDS_MAX && step == STEP_MORE; n++)
		step = receive_round(c, q);
	if (step == STEP_BROKEN)
		virtio_broken(c->dev, "a receive buffer is malformed or empty");
	virtio_notify(c->dev, q);
}

/* -- the log --------------------------------------------------------------------------------------
 */

static enum step log_round(struct console *c, struct virtqueue *q)
{
	struct batch *b = &c->batch;
	uint64_t unused = 0;
	unsigned iovs;
	ssize_t n = 0;
	int r;

	batch_begin(b, q, false);
	while ((r = batch_look(b)) == 0) {
		r = batch_add(b, 0);
		if (r < 0)
			return STEP_BROKEN;
	}
	if (r == -EBADMSG)
		return STEP_BROKEN;
	if (b->chain_count == 0)
		return virtqueue_enable_kicks(q) ? STEP_MORE : STEP_DONE;
	if (c->log_fd >= 0 && b->bytes > 0) {
		const struct iovec *iov = batch_iov(b, &iovs);

		n = writev(c->log_fd, iov, (int)iovs);
		n = n < 0 ? 0 : n;
	}
	c->counts.log_written += (uint64_t)n;
	c->counts.log_dropped += b->bytes - (uint64_t)n;
	return batch_sent(b, q, b->bytes, &unused) < 0 ? STEP_BROKEN : STEP_MORE;
}

void console_log(struct console *c)
{
	struct virtqueue *q = console_queue(c, QUEUE_LOG_TX);
	enum step step = STEP_MORE;

	virtqueue_disable_kicks(q);
	for (int n = 0; n < ROUNDS_MAX && step == STEP_MORE; n++)
		step = log_round(c, q);
	if (step == STEP_BROKEN)
		virtio_broken(c->dev, "a chain to the log is malformed");
	else if (step == STEP_MORE)
		virtio_again(c->dev, QUEUE_LOG_TX);
	virtio_notify(c->dev, q);
}
