#include "base/fdio.h"
#include "base/kernel_gaps.h"
#include "work/apply_inner.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum { COMPARE_BYTES = 64 << 10 };

static int64_t stamp_ns(struct timespec t)
{
	int64_t ns;

	/* a time that does not fit is as good as any other: it is only compared with itself */
	if (__builtin_mul_overflow((int64_t)t.tv_sec, (int64_t)1000000000, &ns))
		return 0;
	return ns + t.tv_nsec;
}

static uint8_t kind_of(mode_t mode)
{
	return S_ISREG(mode)   ? APPLY_FILE
	       : S_ISDIR(mode) ? APPLY_DIR
	       : S_ISLNK(mode) ? APPLY_LINK
	                       : APPLY_OTHER;
}

int apply_place(int root_fd, const char *path, struct apply_place *ret, struct err *e)
{
	const uint64_t strict = RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
	struct span dir = wpath_parent(span_str(path));
	char room[WPATH_MAX + 1];
	int fd = -1;
	int r;

	if (dir.len > WPATH_MAX)
		return err_set(e, -ENAMETOOLONG, "a path over %d bytes", WPATH_MAX);
	memcpy(room, dir.len ? (const char *)dir.at : ".", dir.len ? dir.len : 1);
	room[dir.len ? dir.len : 1] = '\0';
	r = fd_open_beneath(root_fd, room, O_PATH | O_DIRECTORY, 0, strict, &fd, e);
	if (r < 0)
		return r;
	ret->dir_fd = fd;
	ret->name = dir.len ? path + dir.len + 1 : path;
	return 0;
}

int apply_look_at(int dir_fd, const char *name, struct apply_seen *ret, struct err *e)
{
	struct apply_seen s = { 0 };
	struct stat st, dir;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno != ENOENT)
			return err_sys(e, "stat '%s'", name);
		*ret = s;
		return 0;
	}
	if (fstat(dir_fd, &dir) < 0)
		return err_sys(e, "stat the directory of '%s'", name);
	s.kind = kind_of(st.st_mode);
	/* something is mounted there, or it is a volume of its own: no rename moves it */
	if (s.kind == APPLY_DIR && st.st_dev != dir.st_dev)
		s.kind = APPLY_OTHER;
	s.mode = st.st_mode & 07777;
	s.nlink = (uint32_t)st.st_nlink;
	s.ino = st.st_ino;
	s.size = (uint64_t)st.st_size;
	s.mtime_ns = stamp_ns(st.st_mtim);
	s.ctime_ns = stamp_ns(st.st_ctim);
	*ret = s;
	return 0;
}

int apply_look(int root_fd, const char *path, struct apply_seen *ret, struct err *e)
{
	struct apply_place at = { .dir_fd = -1 };
	int r = apply_place(root_fd, path, &at, e);

	if (r == -ENOENT || r == -ENOTDIR) {
		*ret = (struct apply_seen){ .kind = APPLY_ABSENT };
		err_clear(e);
		return 0;
	}
	if (r == -ELOOP || r == -EXDEV) {
		*ret = (struct apply_seen){ .kind = APPLY_OTHER };
		err_clear(e);
		return 0;
	}
	if (r < 0)
		return r;
	r = apply_look_at(at.dir_fd, at.name, ret, e);
	(void)close(at.dir_fd);
	return r;
}

bool apply_is(const struct apply_seen *now, const struct apply_seen *was)
{
	if (now->kind != was->kind)
		return false;
	if (now->kind == APPLY_ABSENT)
		return true;
	if (now->ino != was->ino && was->ino != 0)
		return false;
	if (now->kind == APPLY_DIR)
		return true;
	return now->size == was->size && now->mtime_ns == was->mtime_ns && now->mode == was->mode;
}

bool apply_same(const struct apply_seen *a, const struct apply_seen *b)
{
	if (!apply_is(a, b))
		return false;
	if (a->kind == APPLY_DIR)
		return a->mode == b->mode;
	if (a->kind == APPLY_ABSENT || a->ctime_ns == 0 || b->ctime_ns == 0)
		return true;
	return a->ctime_ns == b->ctime_ns;
}

int apply_root_of(int root_fd, struct apply_root *ret, struct err *e)
{
	struct statx sx;

	if (statx(root_fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &sx) < 0)
		return err_sys(e, "stat the workspace");
	if (!S_ISDIR(sx.stx_mode))
		return err_set(e, -ENOTDIR, "the workspace is no directory");
	*ret = (struct apply_root){
		.dev = (uint64_t)sx.stx_dev_major << 32 | sx.stx_dev_minor,
		.ino = sx.stx_ino,
	};
	if (sx.stx_mask & STATX_BTIME)
		ret->btime_ns = sx.stx_btime.tv_sec * 1000000000 + sx.stx_btime.tv_nsec;
	return 0;
}

bool apply_dir_empty(int dir_fd, const char *name)
{
	struct dirent *d;
	int fd = -1;
	DIR *dir;

	if (fd_openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &fd, NULL) < 0)
		return false;
	dir = fdopendir(fd);
	if (!dir) {
		(void)close(fd);
		return false;
	}
	do
		d = readdir(dir);
	while (d && (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0));
	(void)closedir(dir);
	return !d;
}

bool apply_errno_soft(int r)
{
	return r == -ENOENT || r == -ENOTDIR || r == -ELOOP || r == -EXDEV;
}

/* What the kernel would refuse whatever the mode says. */
static int frozen(int dir_fd, const char *name, int flags, struct err *e)
{
	const uint64_t bits = STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND;
	struct statx sx;

	if (statx(dir_fd, name, flags | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &sx) < 0)
		return errno == ENOENT ? 0 : err_sys(e, "stat '%s'", name);
	if (sx.stx_attributes & bits)
		return err_set(e, -EPERM, "'%s' is marked immutable or append-only", name);
	return 0;
}

/* In a directory such as /tmp only owners move things. */
static int sticky(const struct apply_place *at, struct err *e)
{
	struct stat dir, st;

	if (fstat(at->dir_fd, &dir) < 0)
		return err_sys(e, "stat the directory of '%s'", at->name);
	if (!(dir.st_mode & S_ISVTX) || geteuid() == 0 || dir.st_uid == geteuid())
		return 0;
	if (fstatat(at->dir_fd, at->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_sys(e, "stat '%s'", at->name);
	if (st.st_uid != geteuid())
		return err_set(e, -EPERM, "'%s' belongs to another user, in a sticky directory",
		               at->name);
	return 0;
}

int apply_may_write(const struct apply_place *at, struct err *e)
{
	struct stat st;
	int r;

	if (faccessat(at->dir_fd, ".", W_OK | X_OK, AT_EACCESS) < 0)
		return err_sys(e, "change the directory of '%s'", at->name);
	r = frozen(at->dir_fd, "", AT_EMPTY_PATH, e);
	if (r == 0)
		r = frozen(at->dir_fd, at->name, 0, e);
	if (r == 0)
		r = sticky(at, e);
	if (r < 0)
		return r;
	/* a directory that moves has its ".." written */
	if (fstatat(at->dir_fd, at->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) &&
	    faccessat(at->dir_fd, at->name, W_OK, AT_EACCESS) < 0)
		return err_sys(e, "move directory '%s'", at->name);
	return 0;
}

int apply_may_chmod(const struct apply_place *at, struct err *e)
{
	struct stat st;

	if (fstatat(at->dir_fd, at->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, "stat '%s'", at->name);
	if (geteuid() != 0 && st.st_uid != geteuid())
		return err_set(e, -EPERM, "'%s' belongs to another user", at->name);
	/* asks for a mount that is read-only, too; what the mode says is no matter */
	if (faccessat(at->dir_fd, at->name, W_OK, AT_EACCESS) < 0 && errno == EROFS)
		return err_sys(e, "change the mode of '%s'", at->name);
	return frozen(at->dir_fd, at->name, 0, e);
}

int apply_content_open(const struct apply_content *c, int *ret_fd, struct err *e)
{
	if (!c->name)
		return 0;
	return fd_openat(c->fd, c->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, ret_fd, e);
}

static int read_at(int fd, void *ret, size_t len, uint64_t at, struct err *e)
{
	size_t got;

	if (fd_read_at(fd, at, ret, len, &got) < 0)
		return err_sys(e, "read");
	if (got < len)
		return err_set(e, -ENODATA, "the data ends too early");
	return 0;
}

/* len bytes of the content from `at` on, holes as zeros. */
static int content_read(const struct apply_content *c, int fd, uint8_t *ret, size_t len,
                        uint64_t at, struct err *e)
{
	if (c->bytes) {
		memcpy(ret, (const uint8_t *)c->bytes + at, len);
		return 0;
	}
	if (c->name)
		return read_at(fd, ret, len, at, e);
	memset(ret, 0, len);
	for (size_t i = 0; i < c->extents_count; i++) {
		const struct apply_extent *x = &c->extents[i];
		uint64_t from = x->at > at ? x->at : at;
		uint64_t end = x->at + x->len < at + len ? x->at + x->len : at + len;
		int r;

		if (from >= end)
			continue;
		r = read_at(c->fd, ret + (from - at), end - from, x->from + (from - x->at), e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int same_bytes(int host_fd, const struct apply_content *c, uint64_t size, bool *ret,
                      struct err *e)
{
	_own_free_ uint8_t *room = malloc(2 * (size_t)COMPARE_BYTES);
	_own_fd_ int fd = -1;
	int r;

	if (!room)
		return err_set(e, -ENOMEM, "out of memory");
	r = apply_content_open(c, &fd, e);
	if (r < 0)
		return r;
	for (uint64_t at = 0; at < size;) {
		size_t len = size - at < COMPARE_BYTES ? size - at : COMPARE_BYTES;

		r = content_read(c, fd, room, len, at, e);
		if (r == 0)
			r = read_at(host_fd, room + COMPARE_BYTES, len, at, e);
		if (r < 0)
			return r;
		if (memcmp(room, room + COMPARE_BYTES, len) != 0)
			return 0;
		at += len;
	}
	*ret = true;
	return 0;
}

static int same_file(const struct apply_place *at, const struct apply_op *op, bool *ret,
                     struct err *e)
{
	_own_fd_ int fd = -1;
	uint64_t size = op->content.size;
	struct stat st;
	int r = fd_openat(at->dir_fd, at->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, &fd, NULL);

	if (r < 0)
		return 0; /* what we may not read is not known to be equal */
	if (fstat(fd, &st) < 0)
		return err_sys(e, "stat '%s'", at->name);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != size)
		return 0;
	r = same_bytes(fd, &op->content, size, ret, e);
	return r == -ENODATA ? 0 : r; /* it shrank meanwhile: not equal */
}

int apply_equals(const struct apply_place *at, const struct apply_op *op, bool *ret, struct err *e)
{
	char target[WPATH_MAX + 2];
	struct apply_seen now;
	ssize_t n;
	int r = apply_look_at(at->dir_fd, at->name, &now, e);

	*ret = false;
	if (r < 0 || now.kind != op->kind)
		return r;
	if (op->kind == APPLY_LINK) {
		n = readlinkat(at->dir_fd, at->name, target, sizeof(target));
		*ret = n >= 0 && span_equal(span_of(target, (size_t)n), span_str(op->target));
		return 0;
	}
	if (now.mode != (op->mode & (op->flags & APPLY_EXACT ? 07777 : 0777)))
		return 0;
	return same_file(at, op, ret, e);
}
