#include "work/compare_inner.h"

#include "base/fdio.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void host_init(struct host *h, int root_fd)
{
	*h = (struct host){ .root_fd = root_fd, .dir_fd = -1 };
}

void host_done(struct host *h)
{
	if (h->dir_fd >= 0)
		(void)close(h->dir_fd);
	h->dir_fd = -1;
}

static const char *cstr(struct span s, char *storage, size_t size)
{
	struct buf b;

	buf_init(&b, storage, size);
	buf_put_span(&b, s);
	return buf_cstr(&b);
}

/* Makes `dir` the directory at hand. HOST_THERE, HOST_ABSENT, HOST_NO_WAY, below 0. */
static int enter(struct host *h, struct span dir, struct err *e)
{
	char path[WPATH_MAX + 1];
	int r;

	if (h->dir_fd >= 0 && span_equal(h->dir, dir))
		return HOST_THERE;
	host_done(h);
	r = fd_open_beneath(h->root_fd, dir.len == 0 ? "." : cstr(dir, path, sizeof(path)),
	                    O_PATH | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS, &h->dir_fd, e);
	if (r == -ENOENT)
		return HOST_ABSENT;
	if (r == -ENOTDIR || r == -ELOOP)
		return HOST_NO_WAY;
	if (r < 0)
		return r;
	memcpy(h->dir_storage, dir.at, dir.len);
	h->dir = span_of(h->dir_storage, dir.len);
	return HOST_THERE;
}

int host_stat(struct host *h, struct span path, struct stat *ret_st, struct err *e)
{
	char name[WPATH_NAME_MAX + 1];
	int r = enter(h, wpath_parent(path), e);

	if (r != HOST_THERE)
		return r;
	if (fstatat(h->dir_fd, path.len == 0 ? "." : cstr(wpath_last(path), name, sizeof(name)),
	            ret_st, AT_SYMLINK_NOFOLLOW) == 0)
		return HOST_THERE;
	return errno == ENOENT ? HOST_ABSENT
	                       : err_set(e, -errno, "cannot look at %s in the workspace", name);
}

static bool is_same_inode(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_mode == b->st_mode;
}

static int stale(struct err *e)
{
	return err_set(e, -ESTALE, "the workspace changes while it is compared; try again");
}

int host_open(struct host *h, struct span path, const struct stat *st, int *ret_fd, struct err *e)
{
	char name[WPATH_NAME_MAX + 1];
	_own_fd_ int fd = -1;
	struct stat now;
	int r = enter(h, wpath_parent(path), e);

	if (r < 0)
		return r;
	if (r != HOST_THERE)
		return stale(e);
	r = fd_openat(h->dir_fd, cstr(wpath_last(path), name, sizeof(name)),
	              O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0, &fd, e);
	if (r == -ENOENT || r == -ELOOP)
		return stale(e);
	if (r < 0)
		return r;
	if (fstat(fd, &now) < 0 || !is_same_inode(st, &now))
		return stale(e);
	*ret_fd = fd;
	fd = -1;
	return 0;
}

int host_read_link(struct host *h, struct span path, char ret[BASE_LINK_MAX + 1], size_t *ret_len,
                   struct err *e)
{
	char name[WPATH_NAME_MAX + 1];
	ssize_t n;
	int r = enter(h, wpath_parent(path), e);

	if (r < 0)
		return r;
	if (r != HOST_THERE)
		return stale(e);
	n = readlinkat(h->dir_fd, cstr(wpath_last(path), name, sizeof(name)), ret,
	               BASE_LINK_MAX + 1);
	if (n < 0 || n > BASE_LINK_MAX)
		return stale(e);
	ret[n] = '\0';
	*ret_len = (size_t)n;
	return 0;
}

/* ---- reading a directory ---- */

static void close_dir(DIR *d)
{
	if (d != NULL)
		(void)closedir(d);
}
OWN_DEFINE(DIR, close_dir)

static int open_dir(struct host *h, struct span path, DIR **ret, struct err *e)
{
	char text[WPATH_MAX + 1];
	_own_fd_ int fd = -1;
	int r = fd_open_beneath(h->root_fd, path.len == 0 ? "." : cstr(path, text, sizeof(text)),
	                        O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS, &fd, e);

	if (r < 0)
		return r;
	*ret = fdopendir(fd);
	if (*ret == NULL)
		return err_set(e, -errno, "cannot read a directory of the workspace");
	fd = -1;
	return 0;
}

/* The next name that is neither "." nor ".."; NULL at the end. */
static const struct dirent *next_entry(DIR *d)
{
	const struct dirent *entry;

	do {
		entry = readdir(d);
	} while (entry != NULL &&
	         (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
	return entry;
}

int host_has_more(struct host *h, struct span path, struct base *b, const struct base_node *dir,
                  struct err *e)
{
	_own_(close_dir) DIR *d = NULL;
	const struct dirent *entry;
	struct base_node node;
	int r = open_dir(h, path, &d, e);

	if (r < 0)
		return r == -EACCES ? 1
		                    : r; /* what cannot be looked into is not known to be empty */
	while ((entry = next_entry(d)) != NULL) {
		r = base_lookup_at(b, dir, span_str(entry->d_name), &node, NULL);
		if (r == -ENOENT)
			return 1;
		if (r < 0)
			return err_set(e, r, "the base cannot be read");
	}
	return 0;
}

int host_find_renamed(struct host *h, struct span path, const struct host_record *was,
                      uint8_t ret[WPATH_MAX], size_t *ret_len, struct err *e)
{
	_own_(close_dir) DIR *d = NULL;
	const struct dirent *entry;
	struct span parent = wpath_parent(path);
	struct buf b;
	int r = open_dir(h, parent, &d, e);

	if (r < 0)
		return 0; /* it is a hint, no more */
	for (int i = 0; i < COMPARE_HINT_ENTRIES_MAX && (entry = next_entry(d)) != NULL; i++) {
		struct stat st;

		if (entry->d_ino != was->ino ||
		    fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    st.st_dev != was->dev || (st.st_mode & S_IFMT) != (was->mode & S_IFMT))
			continue;
		buf_init(&b, ret, WPATH_MAX);
		buf_put_span(&b, parent);
		buf_put_str(&b, parent.len > 0 ? "/" : "");
		buf_put_str(&b, entry->d_name);
		*ret_len = b.len;
		return buf_ok(&b);
	}
	return 0;
}
