#include "work/proposal_job.h"

#include "work/base.h"

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
	uint8_t raw[PROPOSAL_REPORT_MAX];
	struct buf b;

	buf_init(&b, raw, sizeof(raw));
	buf_put_le32(&b, (uint32_t)(e->code < 0 ? -e->code : EIO));
	buf_put(&b, e->text, e->len);
	(void)!write(PROPOSAL_FD_REPORT, b.at, b.len); /* under PIPE_BUF: whole or not at all */
}
