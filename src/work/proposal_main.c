#include "work/proposal_job.h"

#include "work/base.h"
#include "work/workjob.h"

#include <errno.h>

static int find_in_base(void *arg, struct span path, struct proposal_found *ret, struct err *e)
{
	struct base_node node;
	struct err why = { 0 };
	int r = base_lookup(arg, path, &node, &why);

	*ret = (struct proposal_found){ 0 };
	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	if (r < 0) {
		*e = why;
		return r;
	}
	ret->there = true;
	ret->dir = node.kind == WORK_DIR;
	ret->id = node.nid;
	return 0;
}

int proposal_job_main(struct err *e)
{
	_own_(base_free) struct base *base = NULL;
	struct proposal_base ask = { .find = find_in_base };
	int r = base_open(PROPOSAL_FD_BASE, -1, &base, e);

	if (r < 0) {
		(void)err_wrap(e, "the base of the session");
		return r;
	}
	ask.arg = base;
	return proposal_job_run(PROPOSAL_FD_SPOOL, &ask, PROPOSAL_FD_INDEX, e);
}

void proposal_job_report(const struct err *e)
{
	workjob_report(PROPOSAL_FD_REPORT, e);
}
