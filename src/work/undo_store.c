#include "base/fdio.h"
#include "work/apply_inner.h"
#include "work/undo.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static int open_dir(int at, const char *name, bool make, int *ret_fd, struct err *e)
{
	_own_fd_ int in = -1;

	if (make && mkdirat(at, name, 0700) == 0) {
		int r = fd_openat(at, ".", O_RDONLY | O_DIRECTORY, 0, &in, e);

		if (r < 0)
			return r;
		if (fsync(in) < 0)
			return err_sys(e, "sync '%s' in the session", name);
	} else if (make && errno != EEXIST) {
		return err_sys(e, "make '%s' in the session", name);
	}
	return fd_openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, ret_fd, e);
}

int undo_store_open(int session_fd, bool make, int *ret_fd, struct err *e)
{
	return open_dir(session_fd, APPLY_UNDO_NAME, make, ret_fd, e);
}

int undo_store_at(int session_fd, uint32_t generation, bool make, int *ret_fd, struct err *e)
{
	char name[UNDO_NAME_MAX + 4];
	_own_fd_ int fd = -1;
	int r = undo_store_open(session_fd, make, &fd, e);

	if (r < 0)
		return r;
	(void)snprintf(name, sizeof(name), "%u", generation);
	return open_dir(fd, name, make, ret_fd, e);
}

int undo_store_highest(int session_fd, uint32_t *ret, struct err *e)
{
	uint64_t high = 0;
	struct dirent *d;
	int fd = -1;
	DIR *dir;
	int r = undo_store_open(session_fd, false, &fd, e);

	if (r == -ENOENT) {
		err_clear(e);
		*ret = 0;
		return 0;
	}
	if (r < 0)
		return r;
	dir = fdopendir(fd);
	if (!dir) {
		(void)close(fd);
		return err_set(e, -ENOMEM, "read the undo store");
	}
	while ((d = readdir(dir))) {
		uint64_t n;

		if (span_to_u64(span_str(d->d_name), &n) && n <= UNDO_GENERATIONS_MAX && n > high)
			high = n;
	}
	(void)closedir(dir);
	*ret = (uint32_t)high;
	return 0;
}

/* A host's file may be one that its owner cannot read; it is in our directory now. */
static int open_to_copy(int dir_fd, const char *name, mode_t mode, int *ret_fd, struct err *e)
{
	int r = fd_openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, ret_fd, e);

	if (r != -EACCES || fchmodat(dir_fd, name, (mode & 07777) | S_IRUSR, 0) < 0)
		return r;
	err_clear(e);
	return fd_openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, ret_fd, e);
}

static int copy_meta(int from, int to, const struct stat *st, struct err *e)
{
	const struct timespec t[2] = { { .tv_nsec = UTIME_OMIT }, st->st_mtim };
	bool lost = false;
	int ignored = fchown(to, geteuid() == 0 ? st->st_uid : (uid_t)-1, st->st_gid);
	int r = apply_copy_xattrs(from, to, true, &lost, e);

	(void)ignored;
	/* an undo store that keeps no attributes still keeps the bytes */
	if (r == -ENOTSUP || r == -EPERM) {
		err_clear(e);
		r = 0;
	}
	if (r < 0)
		return r;
	if (fchmod(to, st->st_mode & 07777) < 0 || futimens(to, t) < 0 || fsync(to) < 0)
		return err_sys(e, "keep what was replaced");
	return 0;
}

static int copy_file(struct apply_run *r, int to_fd, const char *from, const char *to,
                     const struct stat *st, struct err *e)
{
	_own_fd_ int src = -1;
	_own_fd_ int dst = -1;
	int got = open_to_copy(r->stage_fd, from, st->st_mode, &src, e);

	(void)unlinkat(to_fd, to, 0); /* of an interrupted one */
	if (got == 0)
		got = fd_openat(to_fd, to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600, &dst, e);
	if (got == 0)
		got = fd_copy_sparse(src, dst, e);
	return got < 0 ? got : copy_meta(src, dst, st, e);
}

static int copy_link(struct apply_run *r, int to_fd, const char *from, const char *to,
                     struct err *e)
{
	char target[WPATH_MAX + 2];
	ssize_t n = readlinkat(r->stage_fd, from, target, sizeof(target) - 1);

	if (n < 0)
		return err_sys(e, "read a link");
	target[n] = '\0';
	(void)unlinkat(to_fd, to, 0);
	return symlinkat(target, to_fd, to) < 0 ? err_sys(e, "keep a link") : 0;
}

static int copy_dir(struct apply_run *r, int to_fd, const char *from, const char *to,
                    const struct stat *st, struct err *e)
{
	_own_fd_ int src = -1;
	_own_fd_ int dst = -1;
	int got = open_to_copy(r->stage_fd, from, st->st_mode, &src, e);

	if (got < 0)
		return got;
	if (mkdirat(to_fd, to, 0700) < 0 && errno != EEXIST)
		return err_sys(e, "keep a directory");
	got = fd_openat(to_fd, to, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &dst, e);
	return got < 0 ? got : copy_meta(src, dst, st, e);
}

int undo_keep(struct apply_run *r, int to_fd, const char *from, const char *to, bool *ret_left,
              struct err *e)
{
	struct stat st;
	int got;

	*ret_left = false;
	if (renameat(r->stage_fd, from, to_fd, to) == 0)
		return apply_at(r->on, AP_KEEP_MOVED, e);
	if (errno != EXDEV)
		return err_sys(e, "move what was replaced to the undo store");
	if (fstatat(r->stage_fd, from, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, "stat what was replaced");
	if (S_ISREG(st.st_mode)) {
		got = copy_file(r, to_fd, from, to, &st, e);
	} else if (S_ISLNK(st.st_mode)) {
		got = copy_link(r, to_fd, from, to, e);
	} else if (!apply_dir_empty(r->stage_fd, from)) {
		*ret_left = true;
		return 0;
	} else {
		got = copy_dir(r, to_fd, from, to, &st, e);
	}
	return got < 0 ? got : apply_at(r->on, AP_KEEP_COPIED, e);
}
