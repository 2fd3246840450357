#include "review/review_tracked.h"

#include "work/gitdir.h"
#include "work/gitindex.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A repository of the base. */
struct repo {
	bool asked;
	size_t dir_len;
	uint8_t dir[WPATH_MAX]; /* its working tree */
	struct gitindex *index; /* NULL: none that can be asked */
	const char *why;        /* then: NULL, or why */
};

struct review_tracked {
	struct base *base;
	struct pack_report *report;
	struct repo top, within; /* the workspace's own, and the last one beneath it */
	bool any, found;         /* `parent` is one, and it is in a repository: */
	size_t parent_len, repo_len;
	uint8_t parent[WPATH_MAX]; /* of the last path */
};

int review_tracked_new(struct base *base, struct pack_report *report, struct review_tracked **ret,
                       struct err *e)
{
	struct review_tracked *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return err_set(e, -ENOMEM, "no memory for what git tracks");
	t->base = base;
	t->report = report;
	*ret = t;
	return 0;
}

void review_tracked_free(struct review_tracked *t)
{
	if (t == NULL)
		return;
	gitindex_free(t->top.index);
	gitindex_free(t->within.index);
	free(t);
}

/* -- where the repository is -- */

/* 1 and the node of dir/name, 0 if there is none. */
static int look(struct review_tracked *t, struct span dir, const char *name, struct base_node *ret,
                struct err *e)
{
	uint8_t room[WPATH_MAX + 1];
	struct buf b;
	int got;

	buf_init(&b, room, sizeof(room));
	wpath_put(&b, dir, span_str(name));
	if (!buf_ok(&b))
		return 0;
	got = base_lookup(t->base, buf_span(&b), ret, e);
	return got == 0 ? 1 : got == -ENOENT || got == -ENOTDIR ? 0 : got;
}

/* The nearest directory with a .git, `dir` itself or above it; kept for the paths that follow. */
static int find_repo(struct review_tracked *t, struct span dir, struct err *e)
{
	struct span at = dir;
	struct base_node node;
	int got;

	if (t->any && span_equal(dir, span_of(t->parent, t->parent_len)))
		return 0;
	for (;;) {
		got = look(t, at, ".git", &node, e);
		if (got != 0 || at.len == 0)
			break;
		at = wpath_parent(at);
	}
	if (got < 0)
		return got;
	t->any = true;
	t->found = got == 1;
	t->repo_len = at.len;
	t->parent_len = dir.len;
	if (dir.len > 0)
		memcpy(t->parent, dir.at, dir.len);
	return 0;
}

/* Goes from `dir` along a relative path, by its letters: links are not followed in the base. */
static void put_resolved(struct buf *out, struct span dir, struct span path)
{
	struct span part;

	buf_put_span(out, dir);
	while (take_until(&path, '/', &part)) {
		struct span now = buf_span(out);

		if (part.len == 0 || span_is(part, "."))
			continue;
		if (span_is(part, "..")) {
			out->len = wpath_parent(now).len;
			continue;
		}
		if (now.len > 0)
			buf_put_u8(out, '/');
		buf_put_span(out, part);
	}
}

/* The git directory of the working tree `dir` into `out`. *ret_why: it cannot be told. */
static int find_git_dir(struct review_tracked *t, struct span dir, struct buf *out,
                        const char **ret_why, struct err *e)
{
	static const char outside[] = "its repository is not in the workspace: git may track it";
	char text[GITDIR_POINTER_MAX];
	struct base_node node;
	struct span path;
	int got = look(t, dir, ".git", &node, e);

	if (got < 0)
		return got;
	wpath_put(out, dir, span_str(".git"));
	if (got == 1 && node.kind == WORK_DIR)
		return 0;
	if (got == 0 || node.kind != WORK_FILE || node.size > sizeof(text)) {
		*ret_why = outside;
		return 0;
	}
	got = base_read(t->base, &node, 0, text, (size_t)node.size, e);
	if (got < 0)
		return got;
	if (gitdir_parse_pointer(span_of(text, (size_t)node.size), &path) < 0 ||
	    !gitdir_path_stays(path, wpath_depth(dir))) {
		*ret_why = outside;
		return 0;
	}
	out->len = 0;
	put_resolved(out, dir, path);
	return 0;
}

/* -- its index -- */

/* An index that was left out of the guest is not in the base either. */
static const char *why_absent(const struct review_tracked *t, struct span path)
{
	struct pack_record record;
	struct err ignored;

	return t->report != NULL && pack_report_find(t->report, path, &record, &ignored) == 0
	               ? "git's index did not enter the guest: git may track it"
	               : NULL;
}

static int load(struct review_tracked *t, struct span at, struct repo *repo, struct err *e)
{
	struct base_node node;
	struct err why;
	uint8_t *all;
	int got = base_lookup(t->base, at, &node, e);

	if (got == -ENOENT || got == -ENOTDIR) {
		repo->why = why_absent(t, at);
		return 0;
	}
	if (got < 0)
		return got;
	if (node.kind != WORK_FILE || node.size > GITINDEX_BYTES_MAX) {
		repo->why = "git's index is too large or no file: git may track it";
		return 0;
	}
	all = malloc((size_t)node.size + 1);
	if (all == NULL)
		return err_set(e, -ENOMEM, "no memory for git's index");
	got = base_read(t->base, &node, 0, all, (size_t)node.size, e);
	if (got < 0) {
		free(all);
		return got;
	}
	got = gitindex_new(all, (size_t)node.size, &repo->index, &why);
	if (got == -EPROTO)
		repo->why = "git's index has a form that is not read: git may track it";
	else if (got == -EXDEV) /* for the next session: this one's is what was packed */
		repo->why =
			"git's index is split (git update-index --no-split-index): git may track it";
	else if (got == -EBADMSG)
		repo->why = "git's index is damaged: git may track it";
	else if (got < 0)
		*e = why;
	return repo->why != NULL ? 0 : got;
}

/* The repository with the working tree `dir`, its index read if that can be. */
static int open_repo(struct review_tracked *t, struct span dir, struct repo **ret, struct err *e)
{
	struct repo *repo = dir.len == 0 ? &t->top : &t->within;
	uint8_t room[WPATH_MAX + 1];
	struct buf b;
	int got;

	*ret = repo;
	if (repo->asked && span_equal(dir, span_of(repo->dir, repo->dir_len)))
		return 0;
	gitindex_free(repo->index);
	*repo = (struct repo){ .asked = true, .dir_len = dir.len };
	if (dir.len > 0)
		memcpy(repo->dir, dir.at, dir.len);
	buf_init(&b, room, sizeof(room));
	got = find_git_dir(t, dir, &b, &repo->why, e);
	if (got < 0 || repo->why != NULL)
		return got;
	buf_put_str(&b, b.len > 0 ? "/index" : "index");
	if (buf_ok(&b) && wpath_parse(buf_span(&b), NULL) == 0)
		return load(t, buf_span(&b), repo, e);
	repo->why = "its .git file names no place that can be: git may track it";
	return 0;
}

int review_tracked_ask(struct review_tracked *t, struct span path, bool is_dir, bool *ret,
                       const char **ret_why, struct err *e)
{
	enum gitindex_answer answer;
	struct repo *repo;
	struct span rest;
	int got = find_repo(t, wpath_parent(path), e);

	*ret = false;
	*ret_why = NULL;
	if (got < 0 || !t->found)
		return got;
	got = open_repo(t, span_of(path.at, t->repo_len), &repo, e);
	if (got < 0)
		return got;
	*ret_why = repo->why;
	if (repo->index == NULL || !wpath_beneath(span_of(repo->dir, repo->dir_len), path, &rest))
		return 0;
	answer = gitindex_ask(repo->index, rest, is_dir);
	*ret = answer == GITINDEX_TRACKED;
	if (answer == GITINDEX_NOT_KNOWN)
		*ret_why = "git's index has only its directory (it is sparse): git may track it";
	return 0;
}
