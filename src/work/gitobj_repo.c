#include "work/gitobj.h"

#include "base/fdio.h"
#include "work/gitconfig.h"
#include "work/path.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { POINTER_MAX = 4096 + 16 }; /* "gitdir: " and a path */

static int unsupported(struct err *e, const char *what)
{
	return err_set(e, -EOPNOTSUPP, "commits cannot be brought to this repository: %s", what);
}

static struct span trimmed(struct span s)
{
	while (s.len > 0 && (s.at[s.len - 1] == '\n' || s.at[s.len - 1] == '\r'))
		s.len--;
	return s;
}

/* The one path that a small file holds, behind `word`; NUL-ended in ret, which owns it. */
static int read_pointer(int dir_fd, const char *name, const char *word, char **ret, struct err *e)
{
	_own_free_ char *text = NULL;
	size_t n = strlen(word);
	struct span s;
	size_t len;
	int r = fd_read_file(dir_fd, name, POINTER_MAX, &text, &len, e);

	if (r < 0)
		return r;
	s = trimmed(span_of(text, len));
	if (s.len <= n || memcmp(s.at, word, n) != 0 || memchr(s.at, 0, s.len)) {
		(void)unsupported(e, "its .git file cannot be read");
		return -EOPNOTSUPP;
	}
	s = span_of(s.at + n, s.len - n);
	memmove(text, s.at, s.len);
	text[s.len] = 0;
	*ret = steal_ptr(&text);
	return 0;
}

static int open_dir(int dir_fd, const char *path, int *ret, struct err *e)
{
	return fd_openat(dir_fd, path, O_RDONLY | O_DIRECTORY, 0, ret, e);
}

/* Does the repository's own record of the worktree lead back here? */
static int check_back(int admin_fd, const struct stat *pointer, struct err *e)
{
	_own_free_ char *path = NULL;
	struct stat st;
	int r = read_pointer(admin_fd, "gitdir", "", &path, e);

	if (r == -ENOENT)
		return unsupported(e, "its git directory is elsewhere, and it is no worktree");
	if (r < 0)
		return r;
	if (fstatat(admin_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != pointer->st_dev ||
	    st.st_ino != pointer->st_ino)
		return unsupported(e, "it is a worktree that its repository does not know");
	return 0;
}

/* What is the worktree's alone: its HEAD, its submodules. */
static int open_admin(int root_fd, const struct stat *pointer, int *ret, struct err *e)
{
	_own_free_ char *path = NULL;
	_own_fd_ int admin = -1;
	int r = read_pointer(root_fd, ".git", "gitdir: ", &path, e);

	if (r == 0)
		r = open_dir(root_fd, path, &admin, e);
	if (r == 0)
		r = check_back(admin, pointer, e);
	if (r == 0)
		*ret = steal_fd(&admin);
	return r;
}

static int open_worktree(int root_fd, const struct stat *pointer, int *ret, struct err *e)
{
	_own_free_ char *common = NULL;
	_own_fd_ int admin = -1;
	int r = open_admin(root_fd, pointer, &admin, e);

	if (r == 0)
		r = read_pointer(admin, "commondir", "", &common, e);
	return r == 0 ? open_dir(admin, common, ret, e) : r;
}

/* -- its format */

static bool is_known(const struct gitconfig_item *item)
{
	static const char *const harmless[] = { "noop", "noop-v1", "preciousobjects",
		                                "worktreeconfig", "relativeworktrees" };

	for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++) {
		if (span_is(item->key, harmless[i]))
			return true;
	}
	return (span_is(item->key, "objectformat") && span_is(item->value, "sha1")) ||
	       (span_is(item->key, "refstorage") && span_is(item->value, "files"));
}

static bool is_true(const struct gitconfig_item *item)
{
	return !item->has_value || span_is(item->value, "true") || span_is(item->value, "1") ||
	       span_is(item->value, "yes") || span_is(item->value, "on");
}

static int judge_item(void *arg, const struct gitconfig_item *item, struct err *e)
{
	(void)arg;
	if (span_is(item->section, "core") && span_is(item->key, "repositoryformatversion") &&
	    !span_is(item->value, "0") && !span_is(item->value, "1"))
		return unsupported(e, "its format is of a later version");
	if (span_is(item->section, "remote") && span_is(item->key, "promisor") && is_true(item))
		return unsupported(e, "it is a partial clone");
	if (!span_is(item->section, "extensions") || is_known(item))
		return 0;
	if (span_is(item->key, "partialclone"))
		return unsupported(e, "it is a partial clone");
	if (span_is(item->key, "refstorage"))
		return unsupported(e, "its refs are kept as reftable");
	if (span_is(item->key, "objectformat") || span_is(item->key, "compatobjectformat"))
		return unsupported(e, "its objects are named by SHA-256");
	return unsupported(e, "it has an extension that is not known here");
}

typedef int item_fn(void *arg, const struct gitconfig_item *item, struct err *e);

/* Each item of its configuration. Anything but 0 ends it. */
static int each_item(int repo_fd, item_fn *each, void *arg, struct err *e)
{
	_own_free_ struct gitconfig_reader *reader = calloc(1, sizeof(*reader));
	_own_free_ char *text = NULL;
	struct gitconfig_item item;
	size_t len;
	int r;

	if (!reader)
		return err_set(e, -ENOMEM, "out of memory");
	r = fd_read_file(repo_fd, "config", GITCONFIG_FILE_MAX, &text, &len, e);
	if (r < 0)
		return r;
	gitconfig_begin(reader, span_of(text, len));
	do {
		r = gitconfig_next(reader, &item);
		if (r == 0)
			r = each(arg, &item, e);
		else if (r != -ENODATA)
			return unsupported(e, "its configuration cannot be read");
	} while (r == 0);
	return r == -ENODATA ? 0 : r;
}

static int check_dirs(int repo_fd, struct err *e)
{
	static const char *const dirs[] = { "objects", "refs" };
	struct stat st;

	for (size_t i = 0; i < 2; i++) {
		if (fstatat(repo_fd, dirs[i], &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
			return unsupported(e, i == 0 ? "it has no objects directory of its own"
			                             : "it has no refs directory of its own");
	}
	if (fstatat(repo_fd, "objects/info/alternates", &st, AT_SYMLINK_NOFOLLOW) == 0)
		return unsupported(e, "some of its objects are in another repository (alternates)");
	return 0;
}

static int check(int repo_fd, struct err *e)
{
	int r = check_dirs(repo_fd, e);

	return r == 0 ? each_item(repo_fd, judge_item, NULL, e) : r;
}

int gitobj_repository(int root_fd, int *ret_fd, struct err *e)
{
	_own_fd_ int fd = -1;
	struct stat st;
	int r;

	if (fstatat(root_fd, ".git", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? err_set(e, -ENOENT,
		                                 "the workspace has no repository (git init "
		                                 "makes one; berm apply then brings them)")
		                       : err_sys(e, "look at the workspace's repository");
	if (S_ISDIR(st.st_mode))
		r = fd_open_beneath(root_fd, ".git", O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS,
		                    &fd, e);
	else if (S_ISREG(st.st_mode))
		r = open_worktree(root_fd, &st, &fd, e);
	else
		r = unsupported(e, ".git is a link");
	if (r == 0)
		r = check(fd, e);
	if (r == 0)
		*ret_fd = steal_fd(&fd);
	return r;
}

int gitobj_repository_at(int root_fd, const char *git_dir, int *ret_fd, struct err *e)
{
	static const char own[] = ".git/";
	_own_fd_ int admin = -1, fd = -1;
	struct stat st;
	int r = 0;

	/* a worktree's submodules are where the worktree's .git file points to */
	if (strncmp(git_dir, own, sizeof(own) - 1) == 0 &&
	    fstatat(root_fd, ".git", &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode)) {
		r = open_admin(root_fd, &st, &admin, e);
		git_dir += sizeof(own) - 1;
		root_fd = admin;
	}
	if (r == 0)
		r = fd_open_beneath(root_fd, git_dir, O_RDONLY | O_DIRECTORY, 0,
		                    RESOLVE_NO_SYMLINKS, &fd, e);
	if (r == -ENOENT || r == -ENOTDIR || r == -ELOOP) {
		err_clear(e);
		return err_set(e, -ENOENT, "the workspace has no such repository");
	}
	if (r == 0)
		r = check(fd, e);
	if (r == 0)
		*ret_fd = steal_fd(&fd);
	return r;
}

/* -- where its files are */

static int find_tree(void *arg, const struct gitconfig_item *item, struct err *e)
{
	struct buf *value = arg;

	(void)e;
	if (span_is(item->section, "core") && !item->has_sub && span_is(item->key, "worktree") &&
	    item->has_value) {
		value->len = 0; /* the last one counts */
		buf_put_span(value, item->value);
	}
	return 0;
}

/* `way` from the directory in `out`, by names alone: "..", "." and parts. */
static bool follow(struct span way, struct buf *out)
{
	struct span name;

	while (take_until(&way, '/', &name)) {
		if (name.len == 0 || span_is(name, "."))
			continue;
		if (span_is(name, "..")) {
			if (out->len == 0)
				return false;
			out->len = wpath_parent(buf_span(out)).len;
			continue;
		}
		if (out->len > 0)
			buf_put_u8(out, '/');
		buf_put_span(out, name);
	}
	return buf_ok(out);
}

bool gitobj_repository_tree(int repo_fd, struct span git_dir, struct buf *out)
{
	char where[WPATH_MAX + 1], way[WPATH_MAX + 1];
	struct buf at, value;
	struct err ignored = { 0 };

	buf_init(&at, where, sizeof(where));
	buf_init(&value, way, sizeof(way));
	if (each_item(repo_fd, find_tree, &value, &ignored) < 0 || !buf_ok(&value))
		return false;
	buf_put_span(&at, git_dir);
	if (value.len == 0) {
		if (!span_is(wpath_last(git_dir), ".git"))
			return false;
		at.len = wpath_parent(git_dir).len;
	} else if (value.at[0] == '/' || !follow(buf_span(&value), &at)) {
		return false;
	}
	if (wpath_parse(buf_span(&at), NULL) < 0)
		return false;
	buf_put_span(out, buf_span(&at));
	return buf_ok(out);
}
