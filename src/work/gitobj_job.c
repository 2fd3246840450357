#include "work/gitobj_job.h"

#include "work/workjob.h"

#include <errno.h>

int gitobj_job_main(const char *git_dir, struct err *e)
{
	_own_(proposal_free) struct proposal *proposal = NULL;
	_own_(base_free) struct base *base = NULL;
	struct gitobj_walk_totals totals;
	int r;

	if (wpath_parse(span_str(git_dir), NULL) < 0)
		return err_set(e, -EBADMSG, "the repository's path is malformed");
	r = base_open(GITOBJ_FD_BASE, -1, &base, e);
	if (r < 0)
		return err_wrap(e, "the base of the session");
	r = proposal_open(GITOBJ_FD_INDEX, GITOBJ_FD_SPOOL, &proposal, e);
	return r < 0 ? r
	             : gitobj_walk_run(base, proposal, span_str(git_dir), GITOBJ_FD_STREAM, &totals,
	                               e);
}

int gitobj_unpack(const struct gitobj_unpack *u, struct err *e)
{
	const char *const argv[] = { "berm-unpack", "--commits", u->git_dir ? u->git_dir : ".git",
		                     NULL };
	struct workjob j = { .unpack_path = u->unpack_path,
		             .argv = argv,
		             .fd_count = GITOBJ_FD_COUNT,
		             .report_fd = GITOBJ_FD_REPORT,
		             .timeout_ms =
		                     u->timeout_ms ? u->timeout_ms : 2000ULL * GITOBJ_JOB_CPU_S_MAX,
		             .what = "the commits of the proposal" };

	j.fds[GITOBJ_FD_SPOOL] = u->spool_fd;
	j.fds[GITOBJ_FD_BASE] = u->base_fd;
	j.fds[GITOBJ_FD_INDEX] = u->index_fd;
	j.fds[GITOBJ_FD_STREAM] = u->stream_fd;
	return workjob_run(&j, e);
}
