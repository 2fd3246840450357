#include "work/gitobj.h"

#include "base/fdio.h"
#include "work/gitconfig.h"

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
	if (s.len <= n || memcmp(s.at, word, n) != 0 || memchr(s.at, 0, s.len))
		return unsupported(e, "its .git file cannot be read");
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

static int open_worktree(int root_fd, const struct stat *pointer, int *ret, struct err *e)
{
	_own_free_ char *path = NULL, *common = NULL;
	_own_fd_ int admin = -1;
	int r = read_pointer(root_fd, ".git", "gitdir: ", &path, e);

	if (r == 0)
		r = open_dir(root_fd, path, &admin, e);
	if (r == 0)
		r = check_back(admin, pointer, e);
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

static int judge_item(const struct gitconfig_item *item, struct err *e)
{
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

static int check_config(int repo_fd, struct err *e)
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
			r = judge_item(&item, e);
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
		r = check_dirs(fd, e);
	if (r == 0)
		r = check_config(fd, e);
	if (r == 0)
		*ret_fd = steal_fd(&fd);
	return r;
}
