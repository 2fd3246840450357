#include "gate/gate_inner.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

/*
 * Theory of operation
 *
 * Bytes are never copied here. Up: what the guest sent is written to the socket from where it lies,
 * in the frame it came in or in the flow's ring. Down: the socket is read into the free space of
 * the flow's ring, from which segments are cut. What the socket does not take stays in the ring,
 * and the window shown to the guest is the rest of that ring; what the ring has no room for stays
 * in the socket, and the kernel closes the upstream's window. So each end feels the other's
 * slowness, and nothing in between grows.
 *
 * An end of one direction is passed on by itself (FIN and shutdown(2)); a break of either side
 * breaks the other. Of one flow at most GATE_PUMP_BYTES go in a turn, then others have theirs.
 */

/* Cuts the pieces to at most max bytes; returns what they have. */
static size_t cut(struct iovec *iov, unsigned *count, size_t max)
{
	size_t sum = 0;

	for (unsigned i = 0; i < *count; i++) {
		if (iov[i].iov_len > max - sum)
			iov[i].iov_len = max - sum;
		sum += iov[i].iov_len;
		if (sum == max) {
			*count = i + 1;
			break;
		}
	}
	return sum;
}

size_t pass_granted(struct gate *g, struct flow *f, bool up, size_t max)
{
	uint64_t level = bucket_level(up ? &g->up_bucket : &g->down_bucket, g->now_ms);

	if (level >= max)
		return max;
	if (level == 0) {
		g->throttled = true;
		flow_queue(g, f);
	}
	return (size_t)level;
}

bool pass_moved(struct gate *g, struct flow *f, bool up, size_t n)
{
	(void)bucket_take(up ? &g->up_bucket : &g->down_bucket, n, g->now_ms);
	*(up ? &f->bytes_up : &f->bytes_down) += n;
	*(up ? &g->stats.bytes_up : &g->stats.bytes_down) += n;
	f->moved_ms = g->now_ms;
	return !gate_bytes_over(g);
}

/* What a step of one direction came to. */
enum step { STEP_MORE, STEP_WAIT, STEP_GONE };

static enum step broken(struct gate *g, struct flow *f)
{
	flow_ended(g, f, POLICY_OK);
	return STEP_GONE;
}

static enum step over(struct gate *g, struct flow *f)
{
	flow_ended(g, f, POLICY_LIMIT_BYTES);
	return STEP_GONE;
}

/* The guest said its last byte. */
static enum step end_up(struct flow *f)
{
	if (tcp_at_eof(f->tcp)) {
		f->up_done = true;
		(void)shutdown(f->fd, SHUT_WR); /* it may be gone: then reading says so */
	}
	return STEP_WAIT;
}

static enum step step_up(struct gate *g, struct flow *f, size_t max)
{
	struct iovec iov[TCP_READ_IOVS];
	unsigned count = tcp_readable(f->tcp, iov);
	size_t want;
	ssize_t n;

	if (count == 0)
		return end_up(f);
	max = pass_granted(g, f, true, max);
	if (max == 0)
		return STEP_WAIT;
	want = cut(iov, &count, max);
	n = writev(f->fd, iov, (int)count);
	if (n < 0 && errno == EINTR)
		return STEP_MORE;
	if (n < 0 && errno == EAGAIN) {
		f->can_write = false;
		return STEP_WAIT;
	}
	if (n < 0)
		return broken(g, f);
	f->can_write = (size_t)n == want;
	tcp_consume(g->tcp, f->tcp, (size_t)n, g->now_ms);
	return pass_moved(g, f, true, (size_t)n) ? STEP_MORE : over(g, f);
}

static enum step step_down(struct gate *g, struct flow *f, size_t max)
{
	struct iovec iov[TCP_WRITE_IOVS];
	unsigned count;
	size_t want;
	ssize_t n;

	max = pass_granted(g, f, false, max);
	count = max > 0 ? tcp_room(g->tcp, f->tcp, iov) : 0;
	if (count == 0)
		return STEP_WAIT; /* TCP_EV_WRITABLE comes, or the queue's turn */
	want = cut(iov, &count, max);
	n = readv(f->fd, iov, (int)count);
	if (n <= 0)
		tcp_commit(g->tcp, f->tcp, 0, g->now_ms);
	if (n == 0) {
		f->down_done = true;
		tcp_shutdown(g->tcp, f->tcp, g->now_ms);
		return STEP_WAIT;
	}
	if (n < 0 && errno == EINTR)
		return STEP_MORE;
	if (n < 0 && errno == EAGAIN) {
		f->can_read = false;
		return STEP_WAIT;
	}
	if (n < 0)
		return broken(g, f);
	/* fewer than there was room for: it is empty, unless its end waits behind them */
	f->can_read = (size_t)n == want || f->hung_up;
	tcp_commit(g->tcp, f->tcp, (size_t)n, g->now_ms);
	return pass_moved(g, f, false, (size_t)n) ? STEP_MORE : over(g, f);
}

/* Returns false if f is gone. */
static bool run_up(struct gate *g, struct flow *f)
{
	uint64_t began = f->bytes_up;
	bool gone = false;

	if (f->peek && !f->published && !first_peek(g, f, &gone))
		return !gone;
	while (f->can_write && !f->up_done) {
		uint64_t went = f->bytes_up - began;
		enum step s;

		if (went >= GATE_PUMP_BYTES) {
			flow_queue(g, f);
			break;
		}
		s = step_up(g, f, GATE_PUMP_BYTES - (size_t)went);
		if (s != STEP_MORE)
			return s != STEP_GONE;
	}
	return true;
}

static void run_down(struct gate *g, struct flow *f)
{
	uint64_t began = f->bytes_down;

	while (f->can_read && !f->down_done) {
		uint64_t went = f->bytes_down - began;

		if (went >= GATE_PUMP_BYTES) {
			flow_queue(g, f);
			break;
		}
		if (step_down(g, f, GATE_PUMP_BYTES - (size_t)went) != STEP_MORE)
			break;
	}
}

void pass_run(struct gate *g, struct flow *f)
{
	if (!f->open || f->fd < 0)
		return;
	if (run_up(g, f))
		run_down(g, f);
}
