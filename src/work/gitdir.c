#include "work/gitdir_internal.h"

#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* ---- life ---- */

static int note_root(struct gitdir *g)
{
	if (!git_has_shape(g->root_fd, NULL))
		return 0;
	git_enter_level(g, span_str(""), false);
	git_note(g, g->opt.history ? GITDIR_NOTE_HISTORY : GITDIR_NOTE_NO_HISTORY, span_str(""),
	         span_str(""));
	return 0;
}

int gitdir_new(int root_fd, const struct gitdir_options *opt, struct gitdir **ret, struct err *e)
{
	_own_(gitdir_free) struct gitdir *g = calloc(1, sizeof(*g));
	int r;

	if (g == NULL)
		return err_set(e, -ENOMEM, "out of memory");
	if (opt->guest_at.len > WPATH_MAX)
		return err_set(e, -ENAMETOOLONG, "the workspace's path in the guest is too long");
	g->opt = *opt;
	g->root_fd = root_fd;
	if (opt->guest_at.len > 0)
		memcpy(g->guest_at, opt->guest_at.at, opt->guest_at.len);
	g->opt.guest_at = span_of(g->guest_at, opt->guest_at.len);
	r = git_real_path(root_fd, g->root_real);
	if (r < 0)
		return err_set(e, r, "find the workspace's path");
	if (strcmp(g->root_real, "/") == 0)
		g->root_real[0] = '\0';
	r = note_root(g);
	if (r == 0)
		r = git_look_ahead(g, e);
	if (r < 0)
		return r;
	*ret = steal_ptr(&g);
	return 0;
}

void gitdir_free(struct gitdir *g)
{
	if (g == NULL)
		return;
	git_tree_free(g->tree);
	free(g->text);
	for (size_t i = 0; i < g->moved_count; i++) {
		free(g->moved[i].from);
		free(g->moved[i].to);
	}
	for (size_t i = 0; i < g->note_count; i++)
		free(g->notes[i].both);
	free(g);
}

/* ---- where the walk is ---- */

void git_enter_level(struct gitdir *g, struct span path, bool named)
{
	/* a path has no more parts than there is room, and the root comes in addition */
	if (path.len > 0)
		memcpy(g->path, path.at, path.len);
	g->levels[g->level_count++] =
		(struct git_level){ .path_len = (uint16_t)path.len, .named = named };
}

static void leave_levels(struct gitdir *g, struct span path)
{
	while (g->level_count > 0) {
		uint16_t len = g->levels[g->level_count - 1].path_len;

		if (len == 0 ||
		    (path.len > len && path.at[len] == '/' && memcmp(g->path, path.at, len) == 0))
			return;
		g->level_count--;
		if (g->tree != NULL && g->tree_path_len == len) {
			git_tree_free(g->tree);
			g->tree = NULL;
		}
	}
}

/* ---- what is in a git directory ---- */

/* A thing in a git directory, taken apart. */
struct inside {
	const struct git_level *level;
	struct span rel;   /* from the level: "logs/refs/heads/x" */
	struct span first; /* its first part */
	struct span last;
	bool deeper; /* it has more than one */
};

static bool one_of(struct span s, const char *const *list)
{
	for (; *list != NULL; list++) {
		if (span_is(s, *list))
			return true;
	}
	return false;
}

static bool starts(struct span s, const char *head)
{
	struct span h = span_str(head);

	return s.len >= h.len && memcmp(s.at, h.at, h.len) == 0;
}

static bool ends(struct span s, const char *tail)
{
	struct span t = span_str(tail);

	return s.len >= t.len && memcmp(s.at + s.len - t.len, t.at, t.len) == 0;
}

static bool holds(const char *name, const char *word)
{
	return strcasestr(name, word) != NULL;
}

/* Where names are branches, objects or nothing git would read as a configuration or hooks. */
static bool in_store(const struct inside *in)
{
	static const char *const stores[] = { "objects", "refs", "logs", NULL };

	return one_of(in->first, stores);
}

/* Is it where a git directory's own configuration and hooks are, of a damaged one as well? */
static bool of_a_git_dir(const struct inside *in)
{
	return !in->deeper || (in->level->named &&
	                       (span_is(in->first, "modules") || span_is(in->first, "worktrees")));
}

static bool is_lock(const struct inside *in)
{
	static const char *const known[] = { "HEAD.lock",        "config.lock",  "index.lock",
		                             "packed-refs.lock", "shallow.lock", NULL };

	if (!ends(in->last, ".lock"))
		return false;
	if (!in->deeper)
		return in->level->named || one_of(in->last, known);
	return in_store(in) || span_is(in->first, "info");
}

/* Of the repository a worktree is of, and not the worktree's. */
static const char *other_worktrees(const struct gitdir *g, const struct inside *in)
{
	static const char *const not_its[] = {
		"commondir",   "gitdir",         "locked",        "logs/HEAD",
		"refs/bisect", "refs/rewritten", "refs/worktree", "info/sparse-checkout",
		NULL
	};

	if (g->tree == NULL || !g->tree->worktree || in->level->path_len != g->tree_path_len)
		return NULL;
	return one_of(in->rel, not_its) ? "git: what the repository has for another worktree"
	                                : NULL;
}

/* Why something never enters, or NULL. */
static const char *why_never(const struct gitdir *g, const struct inside *in,
                             const struct pack_entry *entry)
{
	if (of_a_git_dir(in) && span_is(in->last, "hooks"))
		return "git: hooks stay on the host";
	if (entry->kind != WORK_DIR && is_lock(in))
		return "git: a lock of a git that runs on the host";
	if (!in->deeper && span_is(in->last, "gc.pid"))
		return "git: a lock of a git that runs on the host";
	if (span_is(in->first, "objects") && in->deeper &&
	    (starts(in->last, "tmp_") || starts(in->last, ".tmp-")))
		return "git: an object that is not complete";
	if (!in->deeper && in->level->named &&
	    (holds(entry->name, "credential") || holds(entry->name, "cookie")))
		return "git: credentials stay on the host";
	if (in->level->named && span_is(in->rel, "annex/creds"))
		return "git: credentials stay on the host";
	if (span_is(in->rel, "objects/info/http-alternates"))
		return "git: objects outside the workspace";
	return other_worktrees(g, in);
}

/* What names commits or holds content of files; in a directory called .git all but `kept` does. */
static bool is_history(const struct inside *in)
{
	static const char *const kept[] = { "config",      "config.worktree", "info",
		                            "description", "modules",         NULL };
	static const char *const info[] = { "exclude", "attributes", "sparse-checkout", NULL };
	static const char *const known[] = {
		"packed-refs",  "logs",           "index",       "shallow",    "FETCH_HEAD",
		"ORIG_HEAD",    "MERGE_HEAD",     "REBASE_HEAD", "AUTO_MERGE", "CHERRY_PICK_HEAD",
		"REVERT_HEAD",  "COMMIT_EDITMSG", "MERGE_MSG",   "SQUASH_MSG", "rebase-merge",
		"rebase-apply", "sequencer",      "rr-cache",    "worktrees",  "reftable",
		"lfs",          "annex",          NULL
	};

	if (in->deeper)
		return span_is(in->first, "info") && in->level->named && !one_of(in->last, info);
	if (in->level->named)
		return !one_of(in->last, kept);
	return one_of(in->last, known) || starts(in->last, "sharedindex.");
}

/* In a repository that enters without its history. Leaves ret as it is for what enters. */
static int judge_history(struct gitdir *g, const struct inside *in, const struct pack_entry *entry,
                         struct pack_answer *ret, struct err *e)
{
	static const struct pack_graft empty = { .kind = WORK_DIR,
		                                 .mode = 0755,
		                                 .dir_fd = PACK_FD_NONE };

	if (!in->deeper && entry->kind == WORK_DIR &&
	    (span_is(in->last, "objects") || span_is(in->last, "refs"))) {
		*ret = (struct pack_answer){ .verdict = PACK_REPLACE, .graft = &empty };
		return 0;
	}
	if (!in->deeper && span_is(in->last, "HEAD"))
		return git_judge_head(g, entry, ret, e);
	return is_history(in) ? git_skip("git: history stays on the host", ret) : 0;
}

/* Things that enter in another form. */
static int judge_content(struct gitdir *g, const struct inside *in, const struct pack_entry *entry,
                         struct pack_answer *ret, struct err *e)
{
	if (entry->kind == WORK_DIR)
		return 0;
	if (of_a_git_dir(in) &&
	    (span_is(in->last, "config") || span_is(in->last, "config.worktree")))
		return git_judge_config(g, entry, ret, e);
	if (span_is(in->rel, "FETCH_HEAD") || span_is(in->first, "logs"))
		return git_judge_urls(g, entry, ret, e);
	if (span_is(in->rel, "objects/info/alternates"))
		return git_judge_alternates(g, entry, ret, e);
	if (span_is(in->rel, "gitdir") && entry->kind == WORK_FILE)
		return git_judge_back(g, entry, ret, e);
	return 0;
}

/* Is it part of what makes a repository whole, and so no matter of patterns? */
static bool is_vital(const struct inside *in)
{
	static const char *const vital[] = { "HEAD",        "index",   "config",  "config.worktree",
		                             "packed-refs", "shallow", "objects", "refs",
		                             "logs",        NULL };

	return in->level->named && (in_store(in) || (!in->deeper && one_of(in->last, vital)));
}

static int ask_next(struct gitdir *g, const struct pack_entry *entry, struct pack_answer *ret,
                    struct err *e)
{
	return g->opt.next != NULL ? g->opt.next(g->opt.next_arg, entry, ret, e) : 0;
}

static bool has_objects(const struct pack_entry *entry)
{
	_own_fd_ int fd = -1;
	struct stat st;

	return fd_openat(entry->dir_fd, entry->name, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0, &fd,
	                 NULL) == 0 &&
	       fstatat(fd, "objects", &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* A directory that is a git directory, once it is known to enter. */
static void enter_git(struct gitdir *g, const struct pack_entry *entry, bool named)
{
	git_enter_level(g, entry->path, named);
	if (has_objects(entry))
		git_note(g, g->opt.history ? GITDIR_NOTE_HISTORY : GITDIR_NOTE_NO_HISTORY,
		         entry->path, span_str(""));
}

static bool is_git_dir(const struct pack_entry *entry)
{
	return entry->kind == WORK_DIR &&
	       (strcmp(entry->name, ".git") == 0 || git_has_shape(entry->dir_fd, entry->name));
}

static int judge_inside(struct gitdir *g, const struct inside *in, const struct pack_entry *entry,
                        struct pack_answer *ret, struct err *e)
{
	const char *why = why_never(g, in, entry);
	bool named = in->level->named;
	int r = 0;

	if (why != NULL)
		return git_skip(why, ret);
	if (!g->opt.history)
		r = judge_history(g, in, entry, ret, e);
	if (r == 0 && ret->verdict == PACK_ENTER)
		r = judge_content(g, in, entry, ret, e);
	if (r != 0 || ret->verdict != PACK_ENTER)
		return r;
	if (!named && entry->kind == WORK_FILE && strcmp(entry->name, ".git") == 0)
		return git_judge_pointer(g, entry, ret, e);
	if (!is_vital(in))
		r = ask_next(g, entry, ret, e);
	if (r == 0 && ret->verdict == PACK_ENTER && !in_store(in) && is_git_dir(entry))
		enter_git(g, entry, named || strcmp(entry->name, ".git") == 0);
	return r;
}

int gitdir_judge(void *arg, const struct pack_entry *entry, struct pack_answer *ret, struct err *e)
{
	struct gitdir *g = arg;
	struct inside in = { 0 };
	struct span rest;
	int r;

	leave_levels(g, entry->path);
	if (g->level_count > 0) {
		in.level = &g->levels[g->level_count - 1];
		(void)wpath_beneath(span_of(g->path, in.level->path_len), entry->path, &in.rel);
		in.last = wpath_last(in.rel);
		rest = in.rel;
		in.deeper = wpath_next(&rest, &in.first) && rest.len > 0;
		return judge_inside(g, &in, entry, ret, e);
	}
	if (entry->kind == WORK_FILE && strcmp(entry->name, ".git") == 0)
		return git_judge_pointer(g, entry, ret, e);
	r = ask_next(g, entry, ret, e);
	if (r == 0 && ret->verdict == PACK_ENTER && is_git_dir(entry))
		enter_git(g, entry, strcmp(entry->name, ".git") == 0);
	return r;
}
