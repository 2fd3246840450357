#include "bin/unpack_work.h"

#include "jail/jail.h"
#include "work/gitobj_job.h"
#include "work/proposal_job.h"
#include "work/workjob.h"

#include <sys/resource.h>

enum { OUT_OF_JAIL = 125 };

/* Not even a directory: fds alone. */
static int enter_jail(struct err *e)
{
	static const struct jail_limit limits[] = {
		{ RLIMIT_DATA, PROPOSAL_JOB_MEMORY_MAX, "a tree of any size needs no more" },
		{ RLIMIT_CPU, PROPOSAL_JOB_CPU_S_MAX, "no proposal takes for ever" },
		{ RLIMIT_FSIZE, PROPOSAL_INDEX_BYTES_MAX, "nor the whole disk" },
	};
	static const int keep[] = { PROPOSAL_FD_SPOOL, PROPOSAL_FD_BASE, PROPOSAL_FD_INDEX,
		                    PROPOSAL_FD_REPORT };
	const struct jail_params p = { .limits = limits,
		                       .limit_count = sizeof(limits) / sizeof(limits[0]),
		                       .keep_fds = keep,
		                       .keep_fd_count = sizeof(keep) / sizeof(keep[0]) };

	return jail_enter(&jail_profile_unpack, &p, NULL, e);
}

int unpack_proposal(void)
{
	struct err e = { 0 };

	if (enter_jail(&e) < 0) {
		proposal_job_report(&e);
		return OUT_OF_JAIL;
	}
	if (proposal_job_main(&e) < 0) {
		proposal_job_report(&e);
		return 1;
	}
	return 0;
}

static int enter_commits_jail(struct err *e)
{
	static const struct jail_limit limits[] = {
		{ RLIMIT_DATA, GITOBJ_JOB_MEMORY_MAX,
		  "a bomb ends here, not in the host's memory" },
		{ RLIMIT_CPU, GITOBJ_JOB_CPU_S_MAX, "no repository takes for ever" },
		{ RLIMIT_FSIZE, GITOBJ_STREAM_BYTES_MAX + (1 << 20), "nor the whole disk" },
	};
	static const int keep[] = { GITOBJ_FD_SPOOL, GITOBJ_FD_BASE, GITOBJ_FD_INDEX,
		                    GITOBJ_FD_STREAM, GITOBJ_FD_REPORT };
	const struct jail_params p = { .limits = limits,
		                       .limit_count = sizeof(limits) / sizeof(limits[0]),
		                       .keep_fds = keep,
		                       .keep_fd_count = sizeof(keep) / sizeof(keep[0]) };
	struct gitobj_id id;
	int r = gitobj_hash(GITOBJ_BLOB, span_str(""), &id, e); /* the library sets itself up */

	return r < 0 ? r : jail_enter(&jail_profile_unpack, &p, NULL, e);
}

int unpack_commits(const char *git_dir)
{
	struct err e = { 0 };

	if (enter_commits_jail(&e) < 0) {
		workjob_report(GITOBJ_FD_REPORT, &e);
		return OUT_OF_JAIL;
	}
	if (gitobj_job_main(git_dir, &e) < 0) {
		workjob_report(GITOBJ_FD_REPORT, &e);
		return 1;
	}
	return 0;
}
