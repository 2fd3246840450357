/*
 * blk_io: jobs against one disk's fd, by io_uring where there is one and by plain calls elsewhere.
 *
 * Shape     a job is one range of bytes to read, write, discard or zero, or a flush. What the
 *           kernel does in part is continued, so a job ends once: with 0 or with -errno
 * Ring      made, with its one registered file, by blk_io_new(), then restricted for good: reads,
 *           writes, fsync and fallocate of that file are all it does, nothing can be registered
 *           any more, and io_uring_enter is the only call of its kind left to allow
 * Plain     no ring to be had (containers forbid it), or `no_ring`: each job is done when
 *           blk_io_start() returns, on the loop's thread
 * Bounded   BLK_JOBS_MAX jobs at a time. Nothing is allocated after blk_io_new().
 * Threads   the loop's, but for new and free
 * Calls     after blk_io_new(): io_uring_enter, preadv2, pwritev2, fdatasync, fallocate
 */
#pragma once

#include "base/err.h"
#include "vmm/loop.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

enum {
	/* kernel/cmdline has Linux make so many; more wait in the queue */
	BLK_JOBS_MAX = 128,
	/* read at once if the page cache has it: such a copy costs less than a ring's detour */
	BLK_INLINE_BYTES_MAX = 256 << 10,
	/*
	 * from here on a kernel thread does the copying, and the loop goes on: beyond what Linux
	 * asks for at a time (1280 KiB), as waking that thread costs more than the copy
	 */
	BLK_ASYNC_BYTES_MIN = 2 << 20,
	BLK_WORKERS_MAX = 4,  /* kernel threads a ring may have: flushes and writes, mostly */
	BLK_RETRIES_MAX = 16, /* EAGAIN and EINTR in a row */
	BLK_DRAIN_MS = 30000, /* a disk that has not answered for so long is not going to */
	/* zeros written at a time where fallocate cannot: so many bytes, so often */
	BLK_ZERO_BYTES = 65536,
	BLK_ZERO_IOVS = 16,
};

enum blk_job_kind {
	BLK_JOB_READ,
	BLK_JOB_WRITE,
	BLK_JOB_FLUSH,
	BLK_JOB_DISCARD,    /* a hint: a file system without holes makes it succeed, too */
	BLK_JOB_ZERO,       /* the range stays allocated */
	BLK_JOB_ZERO_UNMAP, /* it may become a hole */
};

enum blk_step { BLK_STEP_FIRST, BLK_STEP_ZEROS, BLK_STEP_SYNC };

struct blk_job {
	enum blk_job_kind kind;
	bool stable; /* not done before it is on the disk */
	uint64_t off, bytes;
	struct iovec *iov; /* reads and writes: borrowed, and used up as the job goes on */
	unsigned iov_count;
	/* blk_io's own */
	enum blk_step step;
	unsigned retries;
	bool plain; /* the ring could not: a plain call does it */
};

struct blk_io;

struct blk_io_config {
	int fd; /* borrowed; not opened with O_DIRECT, as guests align nothing */
	bool no_ring;
	struct loop *loop;
	/* A job has ended. May start others. Called out of start, submit, drain and the loop. */
	void (*done)(void *arg, struct blk_job *job, int result);
	/* The loop has brought completions, and all of them have been told. */
	void (*settled)(void *arg);
	void *arg;
};

_must_ int blk_io_new(const struct blk_io_config *c, struct blk_io **ret, struct err *e);
/* Nothing may be under way: see blk_io_drain(). */
void blk_io_free(struct blk_io *io);
OWN_DEFINE(struct blk_io, blk_io_free)

/* Begins a job, which is borrowed until done() tells its end. Not before blk_io_submit() does the
 * kernel see it. */
void blk_io_start(struct blk_io *io, struct blk_job *job);
void blk_io_submit(struct blk_io *io);

/* Waits until no job is under way. False: BLK_DRAIN_MS have passed. */
_must_ bool blk_io_drain(struct blk_io *io);

unsigned blk_io_under_way(const struct blk_io *io);
bool blk_io_has_ring(const struct blk_io *io);
