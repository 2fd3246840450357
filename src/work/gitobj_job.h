/*
 * gitobj_job: one jailed run that reads a guest's new commits (gitobj_walk.h), and how it is
 * started.
 *
 * Hostile   to the job the proposal; to who started it the stream as well (gitobj.h reads it)
 * Limits    GITOBJ_JOB_MEMORY_MAX, GITOBJ_JOB_CPU_S_MAX
 */
#pragma once

#include "work/gitobj_walk.h"

/* The fds that berm-unpack --commits GIT_DIR is started with. */
enum {
	GITOBJ_FD_SPOOL = 3,  /* of the proposal, open for reading alone */
	GITOBJ_FD_BASE = 4,   /* the base's image */
	GITOBJ_FD_INDEX = 5,  /* of the proposal */
	GITOBJ_FD_STREAM = 6, /* empty, open for writing */
	GITOBJ_FD_REPORT = 7, /* a pipe: workjob.h */
	GITOBJ_FD_COUNT = 8,
};

enum { GITOBJ_JOB_CPU_S_MAX = 1800 };

/* Three objects at their largest, the set and the stack at theirs, and the set while it grows. */
#define GITOBJ_JOB_MEMORY_MAX (UINT64_C(448) << 20)

/* The job itself, with the fds above. -EBADMSG: git_dir is no path. */
_must_ int gitobj_job_main(const char *git_dir, struct err *e);

struct gitobj_unpack {
	const char *unpack_path;         /* of berm-unpack, absolute */
	int spool_fd, base_fd, index_fd; /* read-only */
	int stream_fd;                   /* empty */
	const char *git_dir;             /* in the workspace; NULL: ".git" */
	uint64_t timeout_ms;             /* 0: GITOBJ_JOB_CPU_S_MAX twice over */
};

/*
 * Runs the job and waits for it. -ENOENT: the workspace has no repository; -EOPNOTSUPP: it has one
 * of a kind that is not read, by name; else as workjob_run(). Branches that are refused are no
 * failure: the stream says which, and why.
 */
_must_ int gitobj_unpack(const struct gitobj_unpack *u, struct err *e);
