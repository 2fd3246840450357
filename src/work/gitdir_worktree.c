#include "work/gitdir_internal.h"

#include "base/fdio.h"
#include "base/kernel_gaps.h"
#include "work/gitconfig.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* Where a .git file points to. */
enum place_kind {
	PLACE_NOWHERE,
	PLACE_INSIDE, /* the workspace */
	PLACE_MOVED,  /* into what has entered from outside: a worktree's submodule */
	PLACE_WORKTREE,
	PLACE_SEPARATE,
	PLACE_OUTSIDE,
};

struct place {
	enum place_kind kind;
	int fd;                             /* the git directory; -1 for nowhere */
	int common_fd;                      /* of a worktree: its repository's */
	char real[PATH_MAX];                /* of fd */
	char rel[WPATH_MAX + 1 + PATH_MAX]; /* inside, moved: the path in the workspace */
	char pointer[GITDIR_POINTER_MAX];   /* as the file says it */
};

static void place_close(const struct place *p)
{
	own_close_fd(&p->fd);
	own_close_fd(&p->common_fd);
}

#define _own_place_ __attribute__((cleanup(place_close)))

/* ---- proofs ---- */

static bool same_thing(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* The one path a small file holds, without its line end. */
static bool read_path(int dir_fd, const char *name, char ret[PATH_MAX])
{
	_own_free_ char *text = NULL;
	struct stat st;
	size_t len;

	if (git_read(dir_fd, name, PATH_MAX - 1, &text, &len, &st, NULL) < 0)
		return false;
	len = strcspn(text, "\r\n");
	memcpy(ret, text, len);
	ret[len] = '\0';
	return len > 0;
}

static bool has_entry(int dir_fd, const char *name)
{
	struct stat st;

	return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Is it REPOSITORY/worktrees/NAME, and does it name our .git file as its own? */
static bool is_worktree_of_ours(struct place *p, const struct stat *pointer)
{
	char common[PATH_MAX], back[PATH_MAX];
	struct stat st;
	size_t n;

	if (!read_path(p->fd, "commondir", common) || !read_path(p->fd, "gitdir", back) ||
	    fstatat(p->fd, back, &st, AT_SYMLINK_NOFOLLOW) < 0 || !same_thing(&st, pointer) ||
	    fd_openat(p->fd, common, O_RDONLY | O_DIRECTORY, 0, &p->common_fd, NULL) < 0 ||
	    git_real_path(p->common_fd, common) < 0)
		return false;
	n = strlen(common);
	return strncmp(p->real, common, n) == 0 &&
	       strncmp(p->real + n, "/worktrees/", strlen("/worktrees/")) == 0 &&
	       strchr(p->real + n + strlen("/worktrees/"), '/') == NULL &&
	       git_has_shape(p->common_fd, NULL) && !has_entry(p->common_fd, "reftable");
}

/* The last core.worktree of a configuration. */
static bool find_worktree(struct span text, char ret[PATH_MAX])
{
	struct gitconfig_reader reader;
	struct gitconfig_item item;
	bool found = false;

	gitconfig_begin(&reader, text);
	while (gitconfig_next(&reader, &item) == 0) {
		if (!span_is(item.section, "core") || item.has_sub ||
		    !span_is(item.key, "worktree") || item.value.len >= PATH_MAX ||
		    memchr(item.value.at, 0, item.value.len) != NULL)
			continue;
		memcpy(ret, item.value.at, item.value.len);
		ret[item.value.len] = '\0';
		found = true;
	}
	return found;
}

/* Does its configuration name the directory our .git file is in as its worktree? */
static bool names_us(const struct place *p, int dir_fd)
{
	static const char *const files[] = { "config.worktree", "config" };
	struct stat here, there;

	if (!git_has_shape(p->fd, NULL) || has_entry(p->fd, "commondir") ||
	    fstat(dir_fd, &here) < 0)
		return false;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		_own_free_ char *text = NULL;
		char path[PATH_MAX];
		struct stat st;
		size_t len;

		if (git_read(p->fd, files[i], GITCONFIG_FILE_MAX, &text, &len, &st, NULL) == 0 &&
		    find_worktree(span_of(text, len), path))
			return fstatat(p->fd, path, &there, 0) == 0 && same_thing(&here, &there);
	}
	return false;
}

/* ---- finding ---- */

static bool is_moved(const struct gitdir *g, struct place *p)
{
	for (size_t i = 0; i < g->moved_count; i++) {
		const struct git_moved *m = &g->moved[i];
		size_t n = strlen(m->from);
		struct buf b;

		if (strncmp(p->real, m->from, n) != 0 || p->real[n] != '/')
			continue;
		buf_init(&b, p->rel, sizeof(p->rel));
		buf_put_str(&b, m->to);
		buf_put_str(&b, p->real + n);
		(void)buf_cstr(&b);
		return true;
	}
	return false;
}

static int remember_moved(struct gitdir *g, const struct place *p, struct span to, struct err *e)
{
	struct git_moved *m = &g->moved[g->moved_count];

	for (size_t i = 0; i < g->moved_count; i++) {
		if (strcmp(g->moved[i].from, p->real) == 0)
			return 0;
	}
	if (g->moved_count == GITDIR_MOVED_MAX)
		return 0; /* its submodules' pointers stay as they are, and are noted */
	m->from = strdup(p->real);
	m->to = strndup((const char *)to.at, to.len);
	g->moved_count++;
	return m->from != NULL && m->to != NULL ? 0 : err_set(e, -ENOMEM, "out of memory");
}

/* False: it is no pointer at all. */
static bool read_pointer(int dir_fd, const char *name, struct place *ret, struct stat *ret_st)
{
	_own_free_ char *text = NULL;
	struct span path;
	size_t len;

	if (git_read(dir_fd, name, GITDIR_POINTER_MAX, &text, &len, ret_st, NULL) < 0 ||
	    gitdir_parse_pointer(span_of(text, len), &path) < 0 || path.len >= sizeof(ret->pointer))
		return false;
	memcpy(ret->pointer, path.at, path.len);
	ret->pointer[path.len] = '\0';
	return true;
}

static bool find_place(const struct gitdir *g, int dir_fd, const char *name, struct place *ret)
{
	struct stat pointer;
	struct span rel;

	if (!read_pointer(dir_fd, name, ret, &pointer))
		return false;
	if (fd_openat(dir_fd, ret->pointer, O_RDONLY | O_DIRECTORY, 0, &ret->fd, NULL) < 0 ||
	    git_real_path(ret->fd, ret->real) < 0) {
		ret->kind = PLACE_NOWHERE;
	} else if (git_inside(g, ret->real, &rel)) {
		ret->kind = PLACE_INSIDE;
		memcpy(ret->rel, rel.at, rel.len);
		ret->rel[rel.len] = '\0';
	} else if (is_moved(g, ret)) {
		ret->kind = PLACE_MOVED;
	} else if (is_worktree_of_ours(ret, &pointer)) {
		ret->kind = PLACE_WORKTREE;
	} else {
		ret->kind = names_us(ret, dir_fd) ? PLACE_SEPARATE : PLACE_OUTSIDE;
	}
	return true;
}

int git_look_ahead(struct gitdir *g, struct err *e)
{
	_own_place_ struct place p = { .fd = -1, .common_fd = -1 };

	if (!find_place(g, g->root_fd, ".git", &p) ||
	    (p.kind != PLACE_WORKTREE && p.kind != PLACE_SEPARATE))
		return 0;
	return remember_moved(g, &p, span_str(".git"), e);
}

/* ---- a repository put together ---- */

void git_tree_free(struct git_tree *t)
{
	if (t == NULL)
		return;
	for (size_t i = 0; i < t->fd_count; i++)
		own_close_fd(&t->fds[i]);
	for (size_t i = 0; i < t->text_count; i++)
		free(t->texts[i]);
	free(t);
}

static int tree_fd(struct git_tree *t, int *fd)
{
	assert(t->fd_count < TREE_FDS_MAX);
	t->fds[t->fd_count] = steal_fd(fd);
	return t->fds[t->fd_count++];
}

static struct pack_graft dir_graft(const char *name, int fd)
{
	return (struct pack_graft){
		.name = span_str(name), .kind = WORK_DIR, .mode = 0755, .dir_fd = fd
	};
}

/* A directory at `path` below dir_fd, by no link. -ENOENT: there is none. */
static int take_dir(struct git_tree *t, int dir_fd, const char *path, const char *name,
                    struct pack_graft *ret)
{
	_own_fd_ int fd = -1;
	int r = fd_open_beneath(dir_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0,
	                        RESOLVE_NO_SYMLINKS, &fd, NULL);

	if (r < 0)
		return r;
	*ret = dir_graft(name, tree_fd(t, &fd));
	return 0;
}

static void text_graft(struct git_tree *t, const char *name, char *text, size_t len,
                       const struct stat *st, struct pack_graft *ret)
{
	assert(t->text_count < TREE_TEXTS_MAX);
	t->texts[t->text_count++] = text;
	*ret = (struct pack_graft){ .name = span_str(name),
		                    .kind = WORK_FILE,
		                    .mode = (uint16_t)(st->st_mode & 0777),
		                    .mtime_s = st->st_mtim.tv_sec,
		                    .content = span_of(text, len),
		                    .dir_fd = PACK_FD_NONE };
}

static int take_file(struct git_tree *t, int dir_fd, const char *path, const char *name,
                     struct pack_graft *ret)
{
	struct stat st;
	char *text;
	size_t len;
	int r = git_read(dir_fd, path, PACK_GRAFT_CONTENT_MAX, &text, &len, &st, NULL);

	if (r == 0)
		text_graft(t, name, text, len, &st, ret);
	return r;
}

/* Adds what `r` says was found in the next child. Absence is no failure. */
static int keep_child(struct git_tree *t, int r)
{
	assert(t->count < TREE_CHILDREN_MAX);
	if (r == 0)
		t->count++;
	return r == -ENOENT ? 0 : r;
}

/* The repository's configuration, which may call itself bare or name another worktree. */
static int take_config(struct gitdir *g, struct git_tree *t, int common_fd, struct span place,
                       struct err *e)
{
	static const char bare[] = "[core]\n\tbare = \"false\"\n";
	static const char worktree[] = "[core]\n\tworktree = \"..\"\n";
	_own_free_ char *text = NULL, *clean = NULL;
	char path[WPATH_MAX + 16], *all;
	struct stat st;
	struct buf b;
	size_t len;
	int r = git_read(common_fd, "config", GITCONFIG_FILE_MAX, &text, &len, &st, e);

	if (r < 0)
		return r;
	buf_init(&b, path, sizeof(path));
	wpath_put(&b, place, span_str("config"));
	r = git_clean_config(g, buf_span(&b), 0, span_of(text, len), &clean, &len, e);
	if (r < 0)
		return r;
	all = malloc(len + sizeof(bare) + sizeof(worktree));
	if (all == NULL)
		return err_set(e, -ENOMEM, "out of memory for a git configuration");
	buf_init(&b, all, len + sizeof(bare) + sizeof(worktree));
	buf_put(&b, clean, len);
	buf_put_str(&b, bare);
	if (memmem(clean, len, "\tworktree = ", strlen("\tworktree = ")) != NULL)
		buf_put_str(&b, worktree);
	text_graft(t, "config", all, b.len, &st, &t->children[t->count++]);
	return 0;
}

static int take_info(struct git_tree *t, const struct place *p)
{
	struct pack_graft *info = &t->children[t->count];
	int r = take_dir(t, p->common_fd, "info", "info", info);

	if (r == -ENOENT)
		return 0; /* a worktree's own enters with it */
	if (r < 0)
		return r;
	t->count++;
	r = take_file(t, p->fd, "info/sparse-checkout", "sparse-checkout", &t->sparse);
	if (r == 0) {
		info->children = &t->sparse;
		info->count = 1;
	}
	return r == -ENOENT ? 0 : r;
}

static int take_logs(struct git_tree *t, const struct place *p)
{
	struct pack_graft *logs = &t->children[t->count];
	int r = take_dir(t, p->common_fd, "logs", "logs", logs);

	if (r == -ENOENT)
		return 0; /* a worktree's own enters with it */
	if (r < 0)
		return r;
	t->count++;
	r = take_file(t, p->fd, "logs/HEAD", "HEAD", &t->head_log);
	if (r == 0) {
		logs->children = &t->head_log;
		logs->count = 1;
	}
	return r == -ENOENT ? 0 : r;
}

static int take_refs(struct git_tree *t, const struct place *p)
{
	static const char *const own[TREE_REFS_MAX][2] = { { "refs/bisect", "bisect" },
		                                           { "refs/rewritten", "rewritten" },
		                                           { "refs/worktree", "worktree" } };
	struct pack_graft *refs = &t->children[t->count];
	int r = take_dir(t, p->common_fd, "refs", "refs", refs);

	if (r < 0)
		return r;
	t->count++;
	refs->children = t->refs;
	for (size_t i = 0; i < TREE_REFS_MAX; i++) {
		r = take_dir(t, p->fd, own[i][0], own[i][1], &t->refs[refs->count]);
		if (r == 0)
			refs->count++;
		else if (r != -ENOENT)
			return r;
	}
	return 0;
}

/* Children in the order of their names. */
static int take_common(struct gitdir *g, struct git_tree *t, const struct place *p,
                       struct span place, struct err *e)
{
	int from = p->common_fd;
	int r = take_config(g, t, from, place, e);

	if (r == 0)
		r = take_info(t, p);
	if (r == 0 && g->opt.history)
		r = keep_child(t, take_dir(t, from, "lfs", "lfs", &t->children[t->count]));
	if (r == 0 && g->opt.history)
		r = take_logs(t, p);
	if (!g->opt.history) {
		if (r == 0) {
			t->children[t->count++] = dir_graft("objects", PACK_FD_NONE);
			t->children[t->count++] = dir_graft("refs", PACK_FD_NONE);
		}
		return r;
	}
	if (r == 0)
		r = take_dir(t, from, "objects", "objects", &t->children[t->count]);
	if (r == 0)
		t->count++;
	if (r == 0)
		r = keep_child(t, take_file(t, from, "packed-refs", "packed-refs",
		                            &t->children[t->count]));
	if (r == 0)
		r = take_refs(t, p);
	if (r == 0)
		r = keep_child(t,
		               take_dir(t, from, "rr-cache", "rr-cache", &t->children[t->count]));
	if (r == 0)
		r = keep_child(t, take_file(t, from, "shallow", "shallow", &t->children[t->count]));
	return r;
}

static int tree_new(struct gitdir *g, struct place *p, struct span place, struct git_tree **ret,
                    struct err *e)
{
	_own_(git_tree_free) struct git_tree *t = calloc(1, sizeof(*t));
	int r = 0;

	if (t == NULL)
		return err_set(e, -ENOMEM, "out of memory");
	t->worktree = p->kind == PLACE_WORKTREE;
	if (t->worktree)
		r = take_common(g, t, p, place, e);
	if (r < 0)
		return r;
	t->top = dir_graft(".git", tree_fd(t, &p->fd));
	t->top.children = t->children;
	t->top.count = t->count;
	*ret = steal_ptr(&t);
	return 0;
}

/* ---- judging ---- */

static int enter_as_is(struct gitdir *g, const struct pack_entry *entry, struct pack_answer *ret,
                       struct err *e)
{
	return g->opt.next != NULL ? g->opt.next(g->opt.next_arg, entry, ret, e) : 0;
}

/* The pointer's file, with the path of the same place as the guest has it. */
static int rewrite(struct gitdir *g, const struct pack_entry *entry, const struct place *p,
                   struct pack_answer *ret, struct err *e)
{
	_own_free_ char *text = NULL;
	unsigned depth = wpath_depth(entry->path) - 1;
	size_t max = 3 * (size_t)depth + strlen(p->rel) + 16;
	struct stat st = { .st_mode = 0644 };
	struct buf b;
	int r = enter_as_is(g, entry, ret, e);

	if (r != 0 || ret->verdict != PACK_ENTER)
		return r;
	if (p->kind == PLACE_INSIDE && gitdir_path_stays(span_str(p->pointer), depth))
		return 0;
	text = malloc(max);
	if (text == NULL)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&b, text, max);
	buf_put_str(&b, "gitdir: ");
	git_put_relative(&b, depth, span_str(p->rel));
	buf_put_u8(&b, '\n');
	if (fstatat(entry->dir_fd, entry->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		st.st_mtim.tv_sec = 0;
	git_note(g, GITDIR_NOTE_REWRITTEN, entry->path, span_str(p->pointer));
	return git_replace(g, steal_ptr(&text), b.len, &st, ret);
}

static int graft(struct gitdir *g, const struct pack_entry *entry, struct place *p,
                 struct pack_answer *ret, struct err *e)
{
	struct pack_entry as_dir = *entry;
	struct err why = { 0 };
	char from[PATH_MAX];
	int r;

	as_dir.kind = WORK_DIR;
	r = enter_as_is(g, &as_dir, ret, e);
	if (r != 0 || ret->verdict != PACK_ENTER)
		return r;
	if (git_real_path(p->kind == PLACE_WORKTREE ? p->common_fd : p->fd, from) < 0)
		from[0] = '\0';
	git_tree_free(g->tree);
	g->tree = NULL;
	r = tree_new(g, p, entry->path, &g->tree, &why);
	if (r == -ENOMEM)
		return err_set(e, r, "out of memory for a worktree's repository");
	if (r < 0) {
		git_note(g, GITDIR_NOTE_OUTSIDE, entry->path, span_str(p->pointer));
		return 0;
	}
	git_note(g, p->kind == PLACE_WORKTREE ? GITDIR_NOTE_WORKTREE : GITDIR_NOTE_SEPARATE,
	         entry->path, span_str(from));
	git_note(g, g->opt.history ? GITDIR_NOTE_HISTORY : GITDIR_NOTE_NO_HISTORY, entry->path,
	         span_str(""));
	git_enter_level(g, entry->path, true);
	g->tree_path_len = (uint16_t)entry->path.len;
	*ret = (struct pack_answer){ .verdict = PACK_REPLACE, .graft = &g->tree->top };
	return remember_moved(g, p, entry->path, e);
}

int git_judge_pointer(struct gitdir *g, const struct pack_entry *entry, struct pack_answer *ret,
                      struct err *e)
{
	_own_place_ struct place p = { .fd = -1, .common_fd = -1 };

	if (!find_place(g, entry->dir_fd, entry->name, &p))
		return enter_as_is(g, entry, ret, e);
	/* in a repository from outside there is nothing more to bring in */
	if (g->tree != NULL && p.kind != PLACE_INSIDE)
		return enter_as_is(g, entry, ret, e);
	switch (p.kind) {
	case PLACE_INSIDE:
	case PLACE_MOVED:
		return rewrite(g, entry, &p, ret, e);
	case PLACE_WORKTREE:
	case PLACE_SEPARATE:
		return graft(g, entry, &p, ret, e);
	case PLACE_NOWHERE:
	case PLACE_OUTSIDE:
		break;
	}
	git_note(g, p.kind == PLACE_NOWHERE ? GITDIR_NOTE_NOWHERE : GITDIR_NOTE_OUTSIDE,
	         entry->path, span_str(p.pointer));
	return enter_as_is(g, entry, ret, e);
}
