/*
 * child: a process forked ahead of its work.
 *
 * Theory of operation: what a first exec costs is mostly making a cgroup, pipes and a process. So
 * one child is always forked in advance: it is in its cgroup, has its pipes as fds 0, 1 and 2, and
 * waits on a read. Taking it costs one write. It is part of a template, so a restored guest starts
 * its first command without a fork. If none is waiting one is made on the spot: there is one path.
 *
 * A command reaches the child through `mail`, a page range shared with it; the child parses the
 * EXEC, PUT or GET itself, so whatever can block or fail (user lookup, chdir, open) does so there
 * and never in the agent.
 *
 * Report    the child's status pipe. For EXEC: EOF (closed by a successful execve), or one report
 *           saying why not. For PUT and GET: one report at the end; code 0 is success.
 */
#pragma once

#include "agent/cgroup.h"
#include "base/buf.h"
#include "wire/wire.h"

#include <sys/types.h>

enum {
	CHILD_WAKE_FD = 3,   /* in the child: its orders */
	CHILD_STATUS_FD = 4, /* in the child: its report */
	CHILD_FIRST_FREE_FD = 5,
	CHILD_REPORT_MAX = 4 + 1 + WIRE_TEXT_MAX, /* u32 code | u8 stage | text; under PIPE_BUF */
	CHILD_OOM_SCORE = 0,
	CHILD_OUT_BYTES = 256 << 10, /* what a command may write ahead of us */
};

/* What a child finds in its mail. Written before it is woken, and then by the child alone. */
struct mail {
	uint8_t type;   /* WIRE_EXEC, WIRE_PUT, WIRE_GET or WIRE_COLLECT */
	int32_t pty;    /* number of the pty to run on, or -1 */
	uint32_t bytes; /* of the payload */
	uint8_t payload[WIRE_EXEC_MAX];
	/* of a COLLECT: how long its output will be; 0: not known yet. Atomic */
	uint64_t answer;
};

struct child {
	pid_t pid; /* 0: there is none */
	int cgroup_fd;
	uint32_t cgroup_serial;
	int in_fd, out_fd, err_fd; /* our ends: write, read, read; nonblocking */
	int wake_fd, status_fd;
	struct mail *mail;
};

void child_init(struct child *c);

/* Forks one that waits. With `cg` it is born in a cgroup of its own under /workload. */
_must_ int child_make(struct child *c, struct cgroups *cg, struct err *e);

/* Gives it its orders, which are in c->mail already. */
_must_ int child_wake(struct child *c, struct err *e);

/* Closes our ends and forgets it; the process itself is killed only if it still waits. */
void child_close(struct child *c, struct cgroups *cg);

/* Splits a report; false if it is none. The text is borrowed. */
bool child_parse_report(struct span in, struct wire_fail *ret);
