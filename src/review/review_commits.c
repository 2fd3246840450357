/*
 * Theory of operation
 *
 * Whatever adds objects to a git directory makes that a repository of the review: the workspace's
 * own first, then each within, by the shape of its path alone (review_git_dir()). Where the host
 * has a repository in that very place, the jailed job reads the new commits, and what it left is
 * judged against that repository: gitobj.h. Where it has none there is nowhere to bring them.
 */
#include "review/review_inner.h"

#include "base/fdio.h"
#include "work/gitobj_job.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char own_git[] = ".git";
static const char stream_part[] = "commits.part"; /* while it is written */

enum { STREAM_NAME_MAX = 48, STREAM_ID_BYTES = 12 };

/* One repository. Where it is stays as it was when it was found: the proposal does not change. */
struct review_git {
	struct review_repo says;
	char *git_dir, *at; /* what says points to */
	int repo_fd, stream_fd;
	char why[ERR_TEXT_MAX];
};

static void close_git(struct review_git *g)
{
	gitobj_free(g->says.commits);
	g->says.commits = NULL;
	own_close_fd(&g->repo_fd);
	own_close_fd(&g->stream_fd);
	g->repo_fd = g->stream_fd = -1;
}

void review_commits_free(struct review *r)
{
	for (size_t i = 0; i < r->git_count; i++) {
		close_git(&r->git[i]);
		free(r->git[i].git_dir);
		free(r->git[i].at);
	}
	free(r->git);
	r->git = NULL;
	r->git_count = 0;
}

bool review_git_dir(struct span path, struct span *ret)
{
	struct span rest = path;
	struct span part, inner;
	size_t git = 0, objects = 0; /* where each part ends, and begins */

	while (wpath_next(&rest, &part)) {
		if (git == 0 && span_is(part, own_git))
			git = (size_t)(part.at + part.len - path.at);
		else if (git > 0 && span_is(part, "objects"))
			objects = (size_t)(part.at - path.at);
	}
	if (objects == 0 || objects + sizeof("objects") > path.len)
		return false;
	path.len = objects - 1;
	inner = span_of(path.at + git, path.len - git);
	*ret = path;
	/* "/modules/NAME" is a submodule's, and nothing else in a git directory is a repository */
	return inner.len == 0 || (inner.len > 9 && memcmp(inner.at, "/modules/", 9) == 0);
}

/* -- one repository */

/* Each has a stream of its own in the session's directory, named for where it is. */
static int stream_name(const struct review_git *g, char ret[STREAM_NAME_MAX], struct err *e)
{
	uint8_t digest[REVIEW_DIGEST_BYTES];
	struct buf b;

	buf_init(&b, ret, STREAM_NAME_MAX);
	buf_put_str(&b, "commits");
	if (strcmp(g->git_dir, own_git) != 0) {
		if (review_sha256(g->git_dir, strlen(g->git_dir), digest) < 0)
			return err_set(e, -EIO, "SHA-256 is not available");
		buf_put_u8(&b, '-');
		for (int i = 0; i < STREAM_ID_BYTES; i++)
			buf_printf(&b, "%02x", digest[i]);
	}
	buf_put_str(&b, ".stream");
	(void)buf_cstr(&b);
	return 0;
}

static int make_stream(struct review *r, const struct review_git *g, const char *name,
                       struct err *e)
{
	struct gitobj_unpack u = { .unpack_path = r->on.unpack_path,
		                   .spool_fd = r->on.spool_fd,
		                   .base_fd = r->image_fd,
		                   .index_fd = r->index_fd,
		                   .git_dir = g->git_dir };
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
	if (got == 0 && renameat(dir, stream_part, dir, name) < 0)
		got = err_sys(e, "name the commits");
	if (got == 0 && fsync(dir) < 0)
		got = err_sys(e, "sync the session");
	if (got < 0)
		(void)unlinkat(dir, stream_part, 0);
	return got;
}

static int open_stream(struct review *r, struct review_git *g, struct err *e)
{
	char name[STREAM_NAME_MAX];
	int got = stream_name(g, name, e);

	if (got == 0)
		got = fd_open_file(r->on.session_fd, name, O_RDONLY, 0, &g->stream_fd, e);
	if (got == -ENOENT) {
		err_clear(e);
		got = make_stream(r, g, name, e);
		if (got == 0)
			got = fd_open_file(r->on.session_fd, name, O_RDONLY, 0, &g->stream_fd, e);
	}
	return got < 0 ? got : gitobj_open(g->stream_fd, g->repo_fd, &g->says.commits, e);
}

/* Under which path it is shown; without one it is the git directory's. */
static void find_tree(struct review_git *g)
{
	char room[WPATH_MAX + 1];
	struct buf at;

	buf_init(&at, room, sizeof(room));
	if (!gitobj_repository_tree(g->repo_fd, g->says.git_dir, &at) || at.len == 0)
		return;
	g->at = strndup(room, at.len);
	if (g->at)
		g->says.at = span_str(g->at);
}

/* What the host has is asked first: without a repository there is nowhere to bring them. */
static void open_git(struct review *r, struct review_git *g)
{
	struct err e = { 0 };
	int got;

	if (r->git == g) {
		got = gitobj_repository(r->on.root_fd, &g->repo_fd, &e);
	} else {
		got = gitobj_repository_at(r->on.root_fd, g->git_dir, &g->repo_fd, &e);
		g->says.nowhere = got == -ENOENT;
		if (got == 0)
			find_tree(g);
	}
	if (got == 0)
		got = open_stream(r, g, &e);
	if (got == 0)
		return;
	close_git(g);
	(void)snprintf(g->why, sizeof(g->why), "%s", e.text);
}

/* -- all of them */

/* NULL: there are too many, or no memory; then its objects are counted as lost. */
static struct review_git *git_of(struct review *r, struct span git_dir)
{
	struct review_git *g;

	/* the changes are in the order of paths: mostly it is the last one */
	for (size_t i = r->git_count; i > 0; i--)
		if (span_equal(r->git[i - 1].says.git_dir, git_dir))
			return &r->git[i - 1];
	if (r->git_count > REVIEW_REPOS_MAX)
		return NULL;
	g = &r->git[r->git_count];
	*g = (struct review_git){ .repo_fd = -1, .stream_fd = -1 };
	g->git_dir = strndup((const char *)git_dir.at, git_dir.len);
	if (!g->git_dir)
		return NULL;
	g->says.git_dir = span_str(g->git_dir);
	g->says.at = git_dir.len > 5 && span_is(wpath_last(git_dir), own_git)
	                     ? span_of(g->git_dir, git_dir.len - 5)
	                     : g->says.git_dir;
	g->says.why = g->why;
	r->git_count++;
	return g;
}

static void find_all(struct review *r)
{
	struct span git_dir;

	for (size_t i = 0; i < r->count; i++) {
		const struct change *c = r->items[i].change;
		struct review_git *g;

		if (!review_is_git_object(c) || !review_git_dir(c->path, &git_dir))
			continue;
		g = git_of(r, git_dir);
		if (g)
			g->says.objects++;
	}
}

int review_commits_new(struct review *r, struct err *e)
{
	struct review_git *own;

	r->git = calloc(REVIEW_REPOS_MAX + 1, sizeof(*r->git));
	own = r->git ? git_of(r, span_str(own_git)) : NULL;
	if (!own)
		return err_set(e, -ENOMEM, "out of memory");
	own->says.at = span_of(NULL, 0);
	return 0;
}

size_t review_repos(struct review *r)
{
	struct proposal_node git;

	if (r->git_asked)
		return r->git_count;
	r->git_asked = true;
	find_all(r);
	if (proposal_find(r->proposal, span_str(own_git), &git) && git.kind == PROPOSAL_DIR)
		open_git(r, &r->git[0]);
	for (size_t i = 1; i < r->git_count; i++)
		open_git(r, &r->git[i]);
	return r->git_count;
}

const struct review_repo *review_repo(const struct review *r, size_t i)
{
	return &r->git[i].says;
}

void review_repos_totals(struct review *r, struct gitobj_totals *ret)
{
	struct gitobj_totals all = { 0 };

	for (size_t i = 0; i < review_repos(r); i++) {
		struct gitobj_totals t = { 0 };

		if (r->git[i].says.commits)
			gitobj_totals(r->git[i].says.commits, &t);
		all.objects += t.objects;
		all.commits += t.commits;
		all.refs += t.refs;
		all.refused += t.refused;
		all.bytes += t.bytes;
	}
	*ret = all;
}

static int import(struct review *r, const struct review_repo *repo, uint32_t *ret_refs,
                  struct err *e)
{
	struct gitobj_totals t = { 0 };
	int got;

	if (!repo->commits)
		return *repo->why && !repo->nowhere ? err_set(e, -EOPNOTSUPP, "%s", repo->why) : 0;
	gitobj_totals(repo->commits, &t);
	got = gitobj_import(repo->commits, r->on.session, e);
	if (got == 0)
		*ret_refs = t.refs;
	return got;
}

uint32_t review_commits_import(struct review *r, struct err *e)
{
	uint32_t all = 0;

	for (size_t i = 0; i < review_repos(r); i++) {
		const struct review_repo *repo = review_repo(r, i);
		struct err why = { 0 };
		uint32_t refs = 0;

		if (import(r, repo, &refs, &why) < 0 && e->code == 0) {
			*e = why;
			if (i > 0)
				(void)err_wrap(e, "of '%.*s'", (int)repo->at.len,
				               (const char *)repo->at.at);
		}
		all += refs;
	}
	return all;
}
