#include "work/proposal_job.h"

#include "work/workjob.h"

int proposal_unpack(const struct proposal_unpack *u, struct err *e)
{
	static const char *const argv[] = { "berm-unpack", "--proposal", NULL };
	struct workjob j = { .unpack_path = u->unpack_path,
		             .argv = argv,
		             .fd_count = PROPOSAL_FD_COUNT,
		             .report_fd = PROPOSAL_FD_REPORT,
		             .timeout_ms = u->timeout_ms ? u->timeout_ms
		                                         : 2000ULL * PROPOSAL_JOB_CPU_S_MAX,
		             .what = "the proposal" };

	j.fds[PROPOSAL_FD_SPOOL] = u->spool_fd;
	j.fds[PROPOSAL_FD_BASE] = u->base_fd;
	j.fds[PROPOSAL_FD_INDEX] = u->index_fd;
	return workjob_run(&j, e);
}
