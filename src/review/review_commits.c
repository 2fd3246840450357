#include "review/review_inner.h"

#include "base/fdio.h"
#include "work/gitobj_job.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static const char stream_name[] = "commits.stream";
static const char stream_part[] = "commits.part"; /* while it is written */

void review_commits_free(struct review *r)
{
	gitobj_free(r->commits);
	r->commits = NULL;
	own_close_fd(&r->repo_fd);
	own_close_fd(&r->stream_fd);
	r->repo_fd = r->stream_fd = -1;
}

bool review_in_own_git(struct span path)
{
	static const char objects[] = ".git/objects/";
	size_t n = sizeof(objects) - 1;

	return path.len > n && memcmp(path.at, objects, n) == 0;
}

static int make_stream(struct review *r, struct err *e)
{
	struct gitobj_unpack u = { .unpack_path = r->on.unpack_path,
		                   .spool_fd = r->on.spool_fd,
		                   .base_fd = r->image_fd,
		                   .index_fd = r->index_fd };
	_own_fd_ int fd = -1;
	int dir = r->on.session_fd;
	int got;

	if (unlinkat(dir, stream_part, 0) < 0 && errno != ENOENT)
		return err_sys(e, "remove an old '%s'", stream_part);
	got = fd_openat(dir, stream_part, O_RDWR | O_CREAT | O_EXCL, 0600, &fd, e);
	if (got < 0)
		return got;
	if (r->on.progress)
		r->on.progress(r->on.progress_arg, "reading the commits", 0, 0);
	u.stream_fd = fd;
	got = gitobj_unpack(&u, e);
	if (got == 0 && fsync(fd) < 0)
		got = err_sys(e, "sync the commits");
	if (got == 0 && renameat(dir, stream_part, dir, stream_name) < 0)
		got = err_sys(e, "name the commits");
	if (got == 0 && fsync(dir) < 0)
		got = err_sys(e, "sync the session");
	if (got < 0)
		(void)unlinkat(dir, stream_part, 0);
	return got;
}

static int open_stream(struct review *r, struct err *e)
{
	int got = fd_open_file(r->on.session_fd, stream_name, O_RDONLY, 0, &r->stream_fd, e);

	if (got == -ENOENT) {
		err_clear(e);
		got = make_stream(r, e);
		if (got == 0)
			got = fd_open_file(r->on.session_fd, stream_name, O_RDONLY, 0,
			                   &r->stream_fd, e);
	}
	return got < 0 ? got : gitobj_open(r->stream_fd, r->repo_fd, &r->commits, e);
}

/* What the host has is asked first: without a repository there is nowhere to bring them. */
static int open_commits(struct review *r, struct err *e)
{
	int got = gitobj_repository(r->on.root_fd, &r->repo_fd, e);

	return got < 0 ? got : open_stream(r, e);
}

struct gitobj *review_commits(struct review *r, const char **ret_why)
{
	struct proposal_node git;
	struct err e = { 0 };

	if (!r->commits_asked && proposal_find(r->proposal, span_str(".git"), &git) &&
	    git.kind == PROPOSAL_DIR && open_commits(r, &e) < 0) {
		review_commits_free(r);
		(void)snprintf(r->commits_why, sizeof(r->commits_why), "%s", e.text);
	}
	r->commits_asked = true;
	*ret_why = r->commits_why;
	return r->commits;
}
