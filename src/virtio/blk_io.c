/*
 * Theory of operation
 *
 * A job is a little machine: the operation to do next follows from its step and from what is left
 * of it (next_op), and each result moves it on or ends it (advance). Who carries an operation out
 * does not matter to it, so the ring and the plain calls share all but that.
 *
 * Jobs are queued, and blk_io_submit() hands the batch to the kernel in one call. What the kernel
 * could do right there is told in the same turn, so a batch of requests often ends as one interrupt
 * without the loop having slept. For the rest the loop watches the ring's own fd, which needs no
 * reading to be quiet again.
 *
 * A batch of one is not worth a ring: if it is a small read it is tried at once and without
 * waiting. What the page cache has is copied, and the rest, if any, is the ring's. So the first job
 * stays aside until there is a second, or the batch is over.
 *
 * A ring that stops working (a seccomp filter around us, no memory) is given up: what it had not
 * accepted is done plainly, as is all that follows; what it had accepted still ends by it.
 *
 * Source: io_uring_setup(2), io_uring_enter(2), io_uring_register(2); preadv2(2); fallocate(2)
 */
#include "virtio/blk_io.h"

#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

struct blk_io {
	struct blk_io_config c;
	bool nowait;  /* RWF_NOWAIT is known here */
	bool no_zero; /* fallocate cannot zero: a plain write does */
	bool has_ring;
	bool ring_on;          /* and may be given more */
	struct blk_job *alone; /* all of the batch so far, not in the ring yet */
	unsigned unsent;
	unsigned in_flight;
	unsigned watch;
	struct iovec zeros[BLK_ZERO_IOVS];
	struct io_uring ring;
};

static const uint8_t zero_bytes[BLK_ZERO_BYTES];

enum op_kind { OP_READ, OP_WRITE, OP_SYNC, OP_ALLOCATE };

/* One call to the kernel. A single buffer is given by value, as the ring need not look it up. */
struct op {
	enum op_kind kind;
	struct iovec one;
	const struct iovec *iov; /* if count > 1 */
	unsigned count;
	uint64_t off, bytes;
	int mode;
	int rw_flags;
};

/* -- what a job wants next ------------------------------------------------------------------------
 */

static void op_buffers(struct op *op, const struct iovec *iov, unsigned count)
{
	op->one = iov[0];
	op->iov = iov;
	op->count = count;
}

static struct op op_zeros(const struct blk_io *io, const struct blk_job *job)
{
	struct op op = { .kind = OP_WRITE, .off = job->off };
	uint64_t whole = job->bytes / BLK_ZERO_BYTES;

	op_buffers(&op, io->zeros, whole < BLK_ZERO_IOVS ? (unsigned)whole : BLK_ZERO_IOVS);
	if (whole == 0) {
		op.count = 1;
		op.one.iov_len = (size_t)job->bytes;
	}
	op.bytes = whole == 0 ? job->bytes : (uint64_t)op.count * BLK_ZERO_BYTES;
	return op;
}

static struct op next_op(const struct blk_io *io, const struct blk_job *job)
{
	static const int modes[] = {
		[BLK_JOB_DISCARD] = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		[BLK_JOB_ZERO] = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
		[BLK_JOB_ZERO_UNMAP] = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	};
	struct op op = { .off = job->off, .bytes = job->bytes };

	if (job->step == BLK_STEP_SYNC || job->kind == BLK_JOB_FLUSH) {
		op.kind = OP_SYNC;
		return op;
	}
	if (job->step == BLK_STEP_ZEROS)
		return op_zeros(io, job);
	if (job->kind == BLK_JOB_READ || job->kind == BLK_JOB_WRITE) {
		op.kind = job->kind == BLK_JOB_READ ? OP_READ : OP_WRITE;
		op.rw_flags = job->kind == BLK_JOB_WRITE && job->stable ? RWF_DSYNC : 0;
		op_buffers(&op, job->iov, job->iov_count);
		return op;
	}
	op.kind = OP_ALLOCATE;
	op.mode = modes[job->kind];
	return op;
}

/* -- what its result means ------------------------------------------------------------------------
 */

static void use_up(struct blk_job *job, size_t n)
{
	job->off += n;
	job->bytes -= n;
	if (job->step == BLK_STEP_ZEROS)
		return;
	while (n > 0) {
		size_t here = n < job->iov->iov_len ? n : job->iov->iov_len;

		job->iov->iov_base = (uint8_t *)job->iov->iov_base + here;
		job->iov->iov_len -= here;
		n -= here;
		if (job->iov->iov_len == 0) {
			job->iov++;
			job->iov_count--;
		}
	}
}

/* A discard or zeroing is done, but for what makes it last. */
static bool ranged(struct blk_job *job, int *ret)
{
	*ret = 0;
	if (!job->stable)
		return true;
	job->step = BLK_STEP_SYNC;
	return false;
}

/* Some bytes were moved. None at all is an end of the file where there should be none. */
static bool moved(struct blk_job *job, int res, int *ret)
{
	if (res <= 0) {
		*ret = res < 0 ? res : -EIO;
		return true;
	}
	assert((uint64_t)res <= job->bytes); /* the kernel's word about what we asked for */
	use_up(job, (size_t)res);
	if (job->bytes > 0)
		return false;
	if (job->step == BLK_STEP_ZEROS)
		return ranged(job, ret);
	*ret = 0;
	return true;
}

static bool allocated(struct blk_io *io, struct blk_job *job, int res, int *ret)
{
	if (res == 0 || (res == -EOPNOTSUPP && job->kind == BLK_JOB_DISCARD))
		return ranged(job, ret);
	if (res == -EOPNOTSUPP) {
		io->no_zero |= job->kind == BLK_JOB_ZERO;
		job->step = BLK_STEP_ZEROS;
		return false;
	}
	*ret = res;
	return true;
}

/* Takes an operation's result. True: the job has ended, with *ret. */
static bool advance(struct blk_io *io, struct blk_job *job, int res, int *ret)
{
	if (res == -EINTR || res == -EAGAIN) {
		*ret = -EIO;
		return ++job->retries > BLK_RETRIES_MAX;
	}
	if (res == -ECANCELED && !job->plain) {
		job->plain = true; /* no kernel thread could be had */
		return false;
	}
	job->retries = 0;
	if (job->step == BLK_STEP_SYNC || job->kind == BLK_JOB_FLUSH) {
		*ret = res;
		return true;
	}
	if (job->step == BLK_STEP_ZEROS || job->kind == BLK_JOB_READ || job->kind == BLK_JOB_WRITE)
		return moved(job, res, ret);
	return allocated(io, job, res, ret);
}

/* -- plain calls ----------------------------------------------------------------------------------
 */

static int call_plain(int fd, const struct op *op)
{
	const struct iovec *iov = op->count > 1 ? op->iov : &op->one;
	ssize_t n = -1;

	switch (op->kind) {
	case OP_READ:
		n = preadv2(fd, iov, (int)op->count, (off_t)op->off, op->rw_flags);
		break;
	case OP_WRITE:
		n = pwritev2(fd, iov, (int)op->count, (off_t)op->off, op->rw_flags);
		break;
	case OP_SYNC:
		n = fdatasync(fd);
		break;
	case OP_ALLOCATE:
		n = fallocate(fd, op->mode, (off_t)op->off, (off_t)op->bytes);
		break;
	}
	return n < 0 ? -errno : (int)n;
}

static void finish_plain(struct blk_io *io, struct blk_job *job)
{
	struct op op;
	int result;

	do
		op = next_op(io, job);
	while (!advance(io, job, call_plain(io->c.fd, &op), &result));
	io->c.done(io->c.arg, job, result);
}

/* Takes from the page cache what it has. True: that was all of it, and was told. */
static bool read_at_once(struct blk_io *io, struct blk_job *job)
{
	struct op op;
	int result;
	int n;

	if (job->kind != BLK_JOB_READ || job->bytes > BLK_INLINE_BYTES_MAX || !io->nowait)
		return false;
	op = next_op(io, job);
	op.rw_flags = RWF_NOWAIT;
	n = call_plain(io->c.fd, &op);
	if (n == -EOPNOTSUPP)
		io->nowait = false;
	if (n <= 0 || !moved(job, n, &result))
		return false; /* an error is seen again, by whoever does the rest */
	io->c.done(io->c.arg, job, result);
	return true;
}

/* -- the ring -------------------------------------------------------------------------------------
 */

static void fill_sqe(struct io_uring_sqe *sqe, const struct op *op, struct blk_job *job)
{
	unsigned flags = IOSQE_FIXED_FILE;
	unsigned one = (unsigned)op->one.iov_len;

	switch (op->kind) {
	case OP_READ:
		if (op->count == 1)
			io_uring_prep_read(sqe, 0, op->one.iov_base, one, op->off);
		else
			io_uring_prep_readv(sqe, 0, op->iov, op->count, op->off);
		break;
	case OP_WRITE:
		if (op->count == 1)
			io_uring_prep_write(sqe, 0, op->one.iov_base, one, op->off);
		else
			io_uring_prep_writev(sqe, 0, op->iov, op->count, op->off);
		break;
	case OP_SYNC:
		io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
		break;
	case OP_ALLOCATE:
		io_uring_prep_fallocate(sqe, 0, op->mode, (off_t)op->off, (off_t)op->bytes);
		break;
	}
	if (op->kind == OP_READ || op->kind == OP_WRITE) {
		sqe->rw_flags = op->rw_flags;
		if (op->bytes >= BLK_ASYNC_BYTES_MIN)
			flags |= IOSQE_ASYNC;
	}
	io_uring_sqe_set_flags(sqe, flags);
	io_uring_sqe_set_data(sqe, job);
}

static bool queue_op(struct blk_io *io, struct blk_job *job)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&io->ring);
	struct op op;

	if (!sqe)
		return false; /* more jobs than BLK_JOBS_MAX */
	op = next_op(io, job);
	fill_sqe(sqe, &op, job);
	io->unsent++;
	return true;
}

static void go_on(struct blk_io *io, struct blk_job *job)
{
	if (!io->ring_on || job->plain || !queue_op(io, job))
		finish_plain(io, job);
}

/* The kernel takes no more: what lies in the ring unseen is done here, and stays there unseen. */
static void give_ring_up(struct blk_io *io)
{
	unsigned at = io->ring.sq.sqe_tail - io->unsent;

	io->ring_on = false;
	for (; io->unsent > 0; io->unsent--, at++) {
		const struct io_uring_sqe *sqe = &io->ring.sq.sqes[at & io->ring.sq.ring_mask];
		struct blk_job *job = (struct blk_job *)(uintptr_t)sqe->user_data;

		finish_plain(io, job);
	}
}

static void send_batch(struct blk_io *io)
{
	unsigned tries = 0;

	while (io->ring_on && io->unsent > 0) {
		int n = io_uring_submit(&io->ring);

		if (n > 0) {
			assert((unsigned)n <= io->unsent);
			io->unsent -= (unsigned)n;
			io->in_flight += (unsigned)n;
			tries = 0;
		} else if (++tries > BLK_RETRIES_MAX || (n != 0 && n != -EAGAIN && n != -EINTR)) {
			give_ring_up(io);
		}
	}
}

/* Takes what has completed; jobs that go on are queued. False: nothing had. */
static bool reap(struct blk_io *io)
{
	struct io_uring_cqe *cqe;
	bool any = false;
	int result;

	while (io->in_flight > 0 && io_uring_peek_cqe(&io->ring, &cqe) == 0) {
		struct blk_job *job = io_uring_cqe_get_data(cqe);
		int res = cqe->res;

		io_uring_cqe_seen(&io->ring, cqe);
		io->in_flight--;
		any = true;
		if (advance(io, job, res, &result))
			io->c.done(io->c.arg, job, result);
		else
			go_on(io, job);
	}
	return any;
}

static void on_ring(void *arg, uint32_t events)
{
	struct blk_io *io = arg;

	(void)events;
	(void)reap(io);
	blk_io_submit(io);
	io->c.settled(io->c.arg);
}

/* -- making it ------------------------------------------------------------------------------------
 */

/* liburing 2.3 declares these two, but its shared library lacks them. */
static int register_ring(const struct io_uring *ring, unsigned what, const void *arg, unsigned n)
{
	long r = syscall(__NR_io_uring_register, ring->ring_fd, what, arg, n);

	return r < 0 ? -errno : (int)r;
}

static int restrict_ring(const struct io_uring *ring)
{
	static const uint8_t ops[] = { IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_READ,
		                       IORING_OP_WRITE, IORING_OP_FSYNC,  IORING_OP_FALLOCATE };
	enum { OPS = sizeof(ops) / sizeof(ops[0]) };
	struct io_uring_restriction rules[OPS + 2] = { 0 };

	for (unsigned i = 0; i < OPS; i++) {
		rules[i].opcode = IORING_RESTRICTION_SQE_OP;
		rules[i].sqe_op = ops[i];
	}
	rules[OPS].opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
	rules[OPS].sqe_flags = IOSQE_FIXED_FILE;
	rules[OPS + 1].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	rules[OPS + 1].sqe_flags = IOSQE_FIXED_FILE | IOSQE_ASYNC;
	/* no rule allows to register: so nothing can be, once the ring is enabled */
	return register_ring(ring, IORING_REGISTER_RESTRICTIONS, rules, OPS + 2);
}

static int prepare_ring(struct io_uring *ring, int fd)
{
	unsigned workers[2] = { BLK_WORKERS_MAX, BLK_WORKERS_MAX };
	int r = io_uring_register_files(ring, &fd, 1);

	if (r >= 0)
		r = restrict_ring(ring);
	/* older kernels (5.15) cannot be told how many threads to make */
	if (r >= 0)
		(void)io_uring_register_iowq_max_workers(ring, workers);
	if (r >= 0)
		r = register_ring(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	return r;
}

/* False: no ring, or none that can be shut as tightly as ours. */
static bool make_ring(struct blk_io *io)
{
	static const unsigned flags[] = {
		/* completions do not interrupt the loop's thread: it asks for them */
		IORING_SETUP_R_DISABLED | IORING_SETUP_COOP_TASKRUN,
		IORING_SETUP_R_DISABLED, /* before 5.19 */
	};
	unsigned needed = IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_EXT_ARG;
	struct io_uring_params p;
	int r = -EINVAL;

	for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]) && r == -EINVAL; i++) {
		p = (struct io_uring_params){ .flags = flags[i] };
		r = io_uring_queue_init_params(BLK_JOBS_MAX, &io->ring, &p);
	}
	if (r < 0)
		return false;
	if ((p.features & needed) == needed && prepare_ring(&io->ring, io->c.fd) >= 0)
		return true;
	io_uring_queue_exit(&io->ring);
	return false;
}

int blk_io_new(const struct blk_io_config *c, struct blk_io **ret, struct err *e)
{
	_own_(blk_io_free) struct blk_io *io = calloc(1, sizeof(*io));
	int r;

	if (!io)
		return err_set(e, -ENOMEM, "out of memory");
	io->c = *c;
	for (unsigned i = 0; i < BLK_ZERO_IOVS; i++) {
		io->zeros[i].iov_base = (void *)(uintptr_t)zero_bytes; /* only written from */
		io->zeros[i].iov_len = sizeof(zero_bytes);
	}
	if (!c->no_ring && make_ring(io)) {
		r = loop_watch(c->loop, io->ring.ring_fd, EPOLLIN, on_ring, io, &io->watch, e);
		if (r < 0) {
			io_uring_queue_exit(&io->ring);
			return r;
		}
		io->has_ring = io->ring_on = io->nowait = true;
	}
	*ret = steal_ptr(&io);
	return 0;
}

void blk_io_free(struct blk_io *io)
{
	if (!io)
		return;
	assert(blk_io_under_way(io) == 0);
	if (io->has_ring) {
		loop_drop(io->c.loop, io->watch);
		io_uring_queue_exit(&io->ring);
	}
	free(io);
}

/* -- using it -------------------------------------------------------------------------------------
 */

void blk_io_start(struct blk_io *io, struct blk_job *job)
{
	job->step = job->kind == BLK_JOB_ZERO && io->no_zero ? BLK_STEP_ZEROS : BLK_STEP_FIRST;
	job->retries = 0;
	job->plain = false;
	if (io->ring_on && !io->alone && io->unsent == 0) {
		io->alone = job;
		return;
	}
	if (io->alone)
		go_on(io, steal_ptr(&io->alone));
	go_on(io, job);
}

void blk_io_submit(struct blk_io *io)
{
	do {
		struct blk_job *job = steal_ptr(&io->alone);

		if (job && !read_at_once(io, job))
			go_on(io, job);
		send_batch(io);
	} while (reap(io) || io->alone);
}

static void wait_for_ring(struct blk_io *io, uint64_t ms)
{
	struct __kernel_timespec ts = { .tv_sec = (long long)(ms / 1000),
		                        .tv_nsec = (long long)(ms % 1000) * 1000000 };
	struct io_uring_cqe *cqe;
	struct pollfd p = { .fd = io->ring.ring_fd, .events = POLLIN };

	int r = -EPERM;

	if (io->ring_on)
		r = io_uring_wait_cqe_timeout(&io->ring, &cqe, &ts);
	if (r < 0 && r != -ETIME && r != -EINTR && r != -EAGAIN)
		(void)poll(&p, 1, (int)ms); /* the ring's own calls do not work any more */
}

bool blk_io_drain(struct blk_io *io)
{
	uint64_t end = clock_mono_ms() + BLK_DRAIN_MS;

	for (;;) {
		uint64_t now = clock_mono_ms();

		blk_io_submit(io);
		if (io->in_flight == 0)
			return true;
		if (now >= end)
			return false;
		wait_for_ring(io, end - now);
	}
}

unsigned blk_io_under_way(const struct blk_io *io)
{
	return io->unsent + io->in_flight + (io->alone ? 1 : 0);
}

bool blk_io_has_ring(const struct blk_io *io)
{
	return io->ring_on;
}
