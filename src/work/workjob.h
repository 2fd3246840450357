/*
 * workjob: one run of berm-unpack over what a guest left: started with a few fds, waited for, and
 * what it says of its failure.
 *
 * Hostile   what the job reports: it has been reading hostile bytes
 * Shape     of the report: nothing, or u32 errno and a text, in one write
 */
#pragma once

#include "base/err.h"
#include "base/spawn.h"

enum { WORKJOB_REPORT_MAX = 4 + ERR_TEXT_MAX };

struct workjob {
	const char *unpack_path; /* of berm-unpack, absolute */
	const char *const *argv; /* NULL-ended */
	int fds[SPAWN_FDS_MAX];  /* from 3 on, borrowed */
	unsigned fd_count;
	unsigned report_fd;  /* which of the numbers is the report's; nothing is to be in it */
	uint64_t timeout_ms; /* not 0 */
	const char *what;    /* it reads, for messages: "the proposal" */
};

/*
 * Runs it and waits. -EBADMSG, -E2BIG, -EOPNOTSUPP, -ENOENT, -ENOSPC, -EDQUOT, -ENOMEM: its own
 * word; -EIO for any other of its words; -ECANCELED: it crashed, or was killed; -ETIMEDOUT. What it
 * says of the reason is escaped already. Afterwards no process of it is left.
 */
_must_ int workjob_run(const struct workjob *j, struct err *e);

/* In the job: says why it failed. A reader that went away is no failure. */
void workjob_report(int report_fd, const struct err *e);
