#include "review/review_inner.h"

#include "base/fdio.h"
#include "work/proposal_job.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static const char index_name[] = "proposal.idx";
static const char index_part[] = "proposal.part"; /* while it is written */

static int open_read(const struct review *r, const char *name, int *ret_fd, struct err *e)
{
	int got = fd_open_file(r->on.session_fd, name, O_RDONLY, 0, ret_fd, e);

	return got < 0 ? err_wrap(e, "session %s", r->on.session) : 0;
}

/* The index that is there, if it is of this spool and this version. */
static int open_index(struct review *r, struct err *e)
{
	_own_fd_ int fd = -1;
	int got = fd_open_file(r->on.session_fd, index_name, O_RDONLY, 0, &fd, e);

	if (got == 0)
		got = proposal_open(fd, r->on.spool_fd, &r->proposal, e);
	if (got == 0)
		r->index_fd = steal_fd(&fd);
	return got;
}

static int make_index(struct review *r, struct err *e)
{
	struct proposal_unpack u = { .unpack_path = r->on.unpack_path,
		                     .spool_fd = r->on.spool_fd,
		                     .base_fd = r->image_fd };
	_own_fd_ int fd = -1;
	int dir = r->on.session_fd;
	int got;

	if (unlinkat(dir, index_part, 0) < 0 && errno != ENOENT)
		return err_sys(e, "remove an old '%s'", index_part);
	got = fd_openat(dir, index_part, O_RDWR | O_CREAT | O_EXCL, 0600, &fd, e);
	if (got < 0)
		return got;
	if (r->on.progress)
		r->on.progress(r->on.progress_arg, "reading the proposal", 0, 0);
	u.index_fd = fd;
	got = proposal_unpack(&u, e);
	if (got == -EBADMSG) /* apart from files of our own that are damaged */
		got = e->code = -EPROTO;
	if (got == 0 && fsync(fd) < 0)
		got = err_sys(e, "sync the index of the proposal");
	if (got == 0 && renameat(dir, index_part, dir, index_name) < 0)
		got = err_sys(e, "name the index of the proposal");
	if (got == 0 && fsync(dir) < 0)
		got = err_sys(e, "sync the session");
	if (got < 0)
		(void)unlinkat(dir, index_part, 0);
	return got;
}

static int open_proposal(struct review *r, struct err *e)
{
	int got = open_index(r, e);

	/* none, another's, or of another version: the spool is what counts */
	if (got != -ENOENT && got != -EBADMSG && got != -EPROTO && got != -EFBIG)
		return got;
	err_clear(e);
	got = make_index(r, e);
	return got < 0 ? got : open_index(r, e);
}

/* Without it only the words for what was hidden are missing. */
static void open_report(struct review *r)
{
	_own_fd_ int fd = -1;
	struct err ignored;

	if (fd_open_file(r->on.session_fd, REVIEW_REPORT_NAME, O_RDONLY, 0, &fd, &ignored) < 0 ||
	    pack_report_open(fd, &r->report, &ignored) < 0)
		return;
	pack_report_totals(r->report, &r->left_out);
}

int review_files_open(struct review *r, struct err *e)
{
	int got = open_read(r, "base.erofs", &r->image_fd, e);

	if (got == 0)
		got = open_read(r, "base.manifest", &r->manifest_fd, e);
	if (got == 0)
		got = base_open(r->image_fd, r->manifest_fd, &r->base, e);
	if (got == 0)
		got = review_links_load(r->on.session_fd, &r->links, e);
	if (got < 0)
		return got;
	open_report(r);
	return open_proposal(r, e);
}
