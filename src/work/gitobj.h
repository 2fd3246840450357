/*
 * gitobj: the commits of a session, for review to show and for apply to bring home.
 *
 * Theory of operation
 *
 * What a guest committed comes back as objects and one ref a branch, refs/berm/<session>/<branch>
 * (work that only a tag or the stash holds, or no ref any more: a ref for that); never as files of
 * a git directory. A jailed job (gitobj_job.h) reads them out of the proposal and leaves a stream
 * (gitobj_stream.h). gitobj_open() reads that strictly: every object is hashed and judged again,
 * and points only to what came before it, or to what the host's repository has now.
 * gitobj_import() then writes them as loose objects, each complete before it has its name, and the
 * refs last. HEAD, the index, branches and configuration are not touched, and nothing is run.
 *
 * Hostile   the stream
 * Limits    those of gitobj_stream.h
 */
#pragma once

#include "work/gitobj_stream.h"

enum { GITOBJ_SESSION_MAX = 64 };

/* -- the host's repository */

/*
 * Opens the repository whose working tree is root_fd: its .git directory, or, for a worktree, the
 * one it belongs to. ret_fd is the directory with objects and refs. -ENOENT: there is none;
 * -EOPNOTSUPP: a kind that is not written, by name (SHA-256, reftable, partial clone, alternates,
 * unknown extensions, a worktree whose repository does not know it).
 */
_must_ int gitobj_repository(int root_fd, int *ret_fd, struct err *e);

/*
 * The repository of a git directory beneath root_fd ("sub/.git", ".git/modules/NAME"), with no link
 * in its path. -ENOENT: there is no such directory; -EOPNOTSUPP as above.
 */
_must_ int gitobj_repository_at(int root_fd, const char *git_dir, int *ret_fd, struct err *e);

/*
 * Where the files of that repository are, beneath root_fd as git_dir is: by its core.worktree, else
 * what holds a directory called .git. False: nowhere beneath; `out` is as it was.
 */
_must_ bool gitobj_repository_tree(int repo_fd, struct span git_dir, struct buf *out);

/* -- what came back */

struct gitobj;

/* Both fds are borrowed until gitobj_free(). repo_fd: of gitobj_repository(). -EBADMSG. */
_must_ int gitobj_open(int stream_fd, int repo_fd, struct gitobj **ret, struct err *e);
void gitobj_free(struct gitobj *g);
OWN_DEFINE(struct gitobj, gitobj_free)

struct gitobj_totals {
	uint32_t objects, commits;
	uint32_t refs, refused;
	uint64_t bytes;
};
void gitobj_totals(const struct gitobj *g, struct gitobj_totals *ret);

struct gitobj_branch {
	struct span name; /* "HEAD", "refs/..."; any bytes if refused */
	struct gitobj_id id;
	bool refused;
	struct span reason; /* of a refusal; any bytes */
};

/* i < refs + refused. */
void gitobj_branch(const struct gitobj *g, uint32_t i, struct gitobj_branch *ret);

/* Every new commit, parents first. The spans live for the call. Anything but 0 ends it. */
typedef int gitobj_commit_fn(void *arg, const struct gitobj_id *id, const struct gitobj_commit *c,
                             struct err *e);
_must_ int gitobj_commits(struct gitobj *g, gitobj_commit_fn *each, void *arg, struct err *e);

/*
 * The ref on the host that a branch becomes: refs/berm/<session>/<branch>; a tag or the stash is
 * refs/berm/<session>/refs/tags/<tag>, .../refs/stash. False: no such name.
 */
_must_ bool gitobj_side_ref(const char *session, struct span branch, struct buf *out);

/*
 * Writes the objects and then the refs of all branches that are not refused. Done twice, the second
 * changes nothing. -EEXIST: such a ref stands for something else already; nothing of it is changed
 * then. After a failure objects may be there that nothing points to; git removes them in its time.
 */
_must_ int gitobj_import(struct gitobj *g, const char *session, struct err *e);
