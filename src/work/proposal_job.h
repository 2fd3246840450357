/*
 * proposal_job: one jailed run over a spooled stream, which makes the index of it; and how it is
 * started.
 *
 * Theory of operation
 *
 * The job (berm-unpack --proposal) holds the spool and the base, read-only, and an empty file for
 * the index. It reads the spool once, block by block: each entry is judged by itself, by the order,
 * and against the base, then its record is written. At the first byte that is not as our agent
 * writes it, all is refused, with the entry's number, its path and the reason. Nothing of the spool
 * is changed, whatever happens: it stays with the session, for another try or another version.
 *
 * Hostile   to the job the spool; to who started it also what the job reports
 * Limits    PROPOSAL_JOB_MEMORY_MAX, PROPOSAL_JOB_CPU_S_MAX
 */
#pragma once

#include "work/proposal_check.h"

/* The fds that berm-unpack --proposal is started with. */
enum {
	PROPOSAL_FD_SPOOL = 3,  /* open for reading alone */
	PROPOSAL_FD_BASE = 4,   /* the base's image */
	PROPOSAL_FD_INDEX = 5,  /* empty, open for reading and writing */
	PROPOSAL_FD_REPORT = 6, /* a pipe: nothing, or u32 errno and a text */
	PROPOSAL_FD_COUNT = 7,
};

enum {
	PROPOSAL_JOB_CPU_S_MAX = 3600, /* a terabyte at 300 MB/s */
};

/* Of the heap: the table and the set are 64 MiB at their largest, while the set grows. */
#define PROPOSAL_JOB_MEMORY_MAX (UINT64_C(112) << 20)
/* Holes of all files together that are hashed; a file beyond it has no hash. */
#define PROPOSAL_HOLES_HASHED_MAX (UINT64_C(1) << 30)

/*
 * The job itself. -EBADMSG: refused, with the reason; -E2BIG: over a limit; what the disk says.
 * The index is whole only if this answers 0.
 */
_must_ int proposal_job_run(int spool_fd, const struct proposal_base *base, int index_fd,
                            struct err *e);

/* The same with the fds above, and the base that is in PROPOSAL_FD_BASE. */
_must_ int proposal_job_main(struct err *e);

/* What the job says of its failure; a reader that went away is no failure. */
void proposal_job_report(const struct err *e);

struct proposal_unpack {
	const char *unpack_path; /* of berm-unpack, absolute */
	int spool_fd, base_fd;   /* read-only */
	int index_fd;            /* empty */
	uint64_t timeout_ms;     /* 0: PROPOSAL_JOB_CPU_S_MAX twice over */
};

/*
 * Runs the job and waits for it. -EBADMSG or -E2BIG: it refused; -ECANCELED: it crashed, or was
 * killed, which changes nothing of the spool; -ETIMEDOUT. What it says of the reason is escaped
 * already. Afterwards no process writes the index.
 */
_must_ int proposal_unpack(const struct proposal_unpack *u, struct err *e);
