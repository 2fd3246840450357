#include "base/fdio.h"

#include "base/clock.h"
#include "base/kernel_gaps.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum { COPY_CHUNK_BYTES = 1 << 20, COPY_BOUNCE_BYTES = 32 << 10, TMP_NAME_MAX = 300 };

int fd_openat(int dir_fd, const char *path, int flags, mode_t mode, int *ret_fd, struct err *e)
{
	int fd;

	do
		fd = openat(dir_fd, path, flags | O_CLOEXEC, mode);
	while (fd < 0 && errno == EINTR);
	if (fd < 0)
		return err_sys(e, "open '%.400s'", path);
	*ret_fd = fd;
	return 0;
}

int fd_open(const char *path, int flags, mode_t mode, int *ret_fd, struct err *e)
{
	return fd_openat(AT_FDCWD, path, flags, mode, ret_fd, e);
}

static int refuse_kind(const char *name, struct err *e)
{
	return err_set(e, -EBADMSG, "'%s' is no file", name);
}

int fd_open_file(int dir_fd, const char *name, int flags, mode_t mode, int *ret_fd, struct err *e)
{
	_own_fd_ int fd = -1;
	struct stat st;
	int r = fd_openat(dir_fd, name, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, mode, &fd, e);

	if (r == -ELOOP || r == -EISDIR || r == -ENXIO) /* a link, a directory, a socket or fifo */
		return refuse_kind(name, e);
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return err_sys(e, "stat '%s'", name);
	if (!S_ISREG(st.st_mode))
		return refuse_kind(name, e);
	*ret_fd = steal_fd(&fd);
	return 0;
}

int fd_open_beneath(int dir_fd, const char *path, int flags, mode_t mode, uint64_t resolve,
                    int *ret_fd, struct err *e)
{
	struct open_how how = { .flags = (uint64_t)(unsigned)flags | O_CLOEXEC };
	long fd = -1;

	how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | resolve;
	if (flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)))
		how.mode = mode;
	for (int i = 0; i < FD_BENEATH_TRIES; i++) {
		fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));
		if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	if (fd < 0)
		return err_sys(e, "open '%.400s'", path);
	*ret_fd = (int)fd;
	return 0;
}

/* mkdir -p on our own copy of the path, one component after another. */
static int make_parents(char *path, struct err *e)
{
	for (char *at = path + 1; *at; at++) {
		if (*at != '/')
			continue;
		*at = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return err_sys(e, "make directory '%s'", path);
		*at = '/';
	}
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_sys(e, "make directory '%s'", path);
	return 0;
}

int fd_make_dirs(const char *path, int *ret_fd, struct err *e)
{
	_own_free_ char *copy = NULL;
	int r;

	/* the usual case costs one system call */
	if (fd_open(path, O_RDONLY | O_DIRECTORY, 0, ret_fd, NULL) == 0)
		return 0;
	copy = strdup(path);
	if (!copy)
		return err_set(e, -ENOMEM, "out of memory");
	if (!*copy)
		return err_set(e, -EINVAL, "an empty path is no directory");
	r = make_parents(copy, e);
	if (r < 0)
		return r;
	return fd_open(path, O_RDONLY | O_DIRECTORY, 0, ret_fd, e);
}

int fd_read_all(int fd, void *ret, size_t len, struct err *e)
{
	uint8_t *at = ret;

	while (len > 0) {
		ssize_t n = read(fd, at, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "read");
		if (n == 0)
			return err_set(e, -ENODATA, "the data ends too early");
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

int fd_read_at(int fd, uint64_t off, void *ret, size_t len, size_t *ret_len)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = pread(fd, (uint8_t *)ret + got, len - got, (off_t)(off + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	*ret_len = got;
	return 0;
}

int fd_write_all(int fd, const void *data, size_t len, struct err *e)
{
	const uint8_t *at = data;

	while (len > 0) {
		ssize_t n = write(fd, at, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "write");
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Of a pipe, a terminal or a file of /proc the length is not known before. */
int fd_read_text(int fd, size_t max, char **ret_text, size_t *ret_len, struct err *e)
{
	_own_free_ char *text = malloc(max + 2); /* one byte more tells "too large" */
	size_t len = 0;

	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	for (;;) {
		ssize_t n = read(fd, text + len, max + 1 - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "read");
		if (n == 0)
			break;
		len += (size_t)n;
		if (len > max)
			return err_set(e, -EFBIG, "larger than %zu bytes", max);
	}
	text[len] = '\0';
	*ret_text = steal_ptr(&text);
	if (ret_len)
		*ret_len = len;
	return 0;
}

int fd_read_file(int dir_fd, const char *path, size_t max, char **ret_text, size_t *ret_len,
                 struct err *e)
{
	_own_fd_ int fd = -1;
	int r = fd_openat(dir_fd, path, O_RDONLY | O_NONBLOCK, 0, &fd, e);

	if (r < 0)
		return r;
	r = fd_read_text(fd, max, ret_text, ret_len, e);
	if (r < 0)
		(void)err_wrap(e, "'%s'", path);
	return r;
}

int fd_replace_file(int dir_fd, const char *name, const void *data, size_t len, mode_t mode,
                    struct err *e)
{
	char aside[TMP_NAME_MAX];
	_own_fd_ int fd = -1;
	uint64_t salt;
	int n;
	int r;

	random_bytes(&salt, sizeof(salt));
	n = snprintf(aside, sizeof(aside), "%s.%016llx~", name, (unsigned long long)salt);
	if (n < 0 || (size_t)n >= sizeof(aside))
		return err_set(e, -ENAMETOOLONG, "'%s': name too long", name);
	r = fd_openat(dir_fd, aside, O_WRONLY | O_CREAT | O_EXCL, mode, &fd, e);
	if (r < 0)
		return r;
	r = fd_write_all(fd, data, len, e);
	if (r == 0 && fsync(fd) < 0)
		r = err_sys(e, "fsync '%s'", name);
	if (r == 0 && renameat(dir_fd, aside, dir_fd, name) < 0)
		r = err_sys(e, "rename to '%s'", name);
	if (r < 0)
		(void)unlinkat(dir_fd, aside, 0);
	return r;
}

int fd_tmpfile(int dir_fd, mode_t mode, int *ret_fd, struct err *e)
{
	char name[40];
	uint64_t salt;
	int r = fd_openat(dir_fd, ".", O_TMPFILE | O_RDWR, mode, ret_fd, e);

	/* file systems without O_TMPFILE: a name that lives for two system calls */
	if (r != -EOPNOTSUPP && r != -EISDIR && r != -ENOENT)
		return r;
	random_bytes(&salt, sizeof(salt));
	(void)snprintf(name, sizeof(name), ".tmp-%016llx", (unsigned long long)salt);
	r = fd_openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL, mode, ret_fd, e);
	if (r == 0)
		(void)unlinkat(dir_fd, name, 0);
	return r;
}

int fd_sealed(const char *name, const void *data, size_t len, int *ret_fd, struct err *e)
{
	const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	_own_fd_ int fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);
	int r;

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, flags); /* before Linux 6.3 */
	if (fd < 0)
		return err_sys(e, "make a memory file");
	r = fd_write_all(fd, data, len, e);
	if (r < 0)
		return r;
	if (lseek(fd, 0, SEEK_SET) < 0 || fcntl(fd, F_ADD_SEALS, seals) < 0)
		return err_sys(e, "seal a memory file");
	*ret_fd = steal_fd(&fd);
	return 0;
}

/* Through memory, where the kernel will not copy between these two. Returns bytes, or -1. */
static ssize_t copy_by_hand(int src_fd, int dst_fd, off_t at, size_t want)
{
	uint8_t room[COPY_BOUNCE_BYTES];
	ssize_t n = pread(src_fd, room, want < sizeof(room) ? want : sizeof(room), at);

	return n > 0 ? pwrite(dst_fd, room, (size_t)n, at) : n;
}

static int copy_extent(int src_fd, int dst_fd, off_t at, off_t end, struct err *e)
{
	while (at < end) {
		off_t in = at;
		off_t out = at;
		size_t want = (size_t)(end - at);
		ssize_t n;

		if (want > COPY_CHUNK_BYTES)
			want = COPY_CHUNK_BYTES;
		n = copy_file_range(src_fd, &in, dst_fd, &out, want, 0);
		if (n < 0 && (errno == EXDEV || errno == EOPNOTSUPP || errno == EINVAL))
			n = copy_by_hand(src_fd, dst_fd, at, want);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "copy");
		if (n == 0)
			return err_set(e, -ENODATA, "the file shrank while it was copied");
		at += n;
	}
	return 0;
}

int fd_copy_sparse(int src_fd, int dst_fd, struct err *e)
{
	struct stat st;
	off_t at = 0;

	if (ioctl(dst_fd, FICLONE, src_fd) == 0)
		return 0;
	if (fstat(src_fd, &st) < 0)
		return err_sys(e, "stat");
	if (ftruncate(dst_fd, st.st_size) < 0)
		return err_sys(e, "set the size of a copy");
	while (at < st.st_size) {
		off_t data = lseek(src_fd, at, SEEK_DATA);
		off_t hole;
		int r;

		if (data < 0 && errno == ENXIO)
			break; /* only a hole is left */
		if (data < 0)
			return err_sys(e, "find data to copy");
		hole = lseek(src_fd, data, SEEK_HOLE);
		if (hole < 0)
			return err_sys(e, "find data to copy");
		r = copy_extent(src_fd, dst_fd, data, hole, e);
		if (r < 0)
			return r;
		at = hole;
	}
	return 0;
}

static int remove_children(int fd, unsigned depth, struct err *e);

/*
 * Opens a directory to empty it. What came out of a guest or an archive can be a directory that its
 * owner, who is not root, may not read or write: it is ours, so it gets the rights.
 */
static int open_to_empty(int dir_fd, const char *name, int *ret_fd, struct err *e)
{
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, "remove '%s'", name);
	/* fchmodat follows links. A name changed under our eyes, by a process of the same user, can
	 * thus cost the user a mode of his own, which that process could have set itself. */
	if (S_ISDIR(st.st_mode) && (st.st_mode & S_IRWXU) != S_IRWXU && geteuid() != 0 &&
	    fchmodat(dir_fd, name, S_IRWXU, 0) < 0)
		return err_sys(e, "remove '%s'", name);
	return fd_openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, ret_fd, e);
}

/* Removes one entry; a directory with all that is in it. */
static int remove_entry(int dir_fd, const char *name, unsigned depth, struct err *e)
{
	_own_fd_ int fd = -1;
	int r;

	if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return err_sys(e, "remove '%s'", name);
	if (depth >= FD_TREE_DEPTH_MAX)
		return err_set(e, -ELOOP, "remove '%s': deeper than %d", name, FD_TREE_DEPTH_MAX);
	r = open_to_empty(dir_fd, name, &fd, e);
	if (r < 0)
		return r;
	r = remove_children(steal_fd(&fd), depth + 1, e);
	if (r < 0)
		return r;
	if (unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return err_sys(e, "remove '%s'", name);
	return 0;
}

/* Takes fd. */
static int remove_children(int fd, unsigned depth, struct err *e)
{
	DIR *dir = fdopendir(fd);
	struct dirent *d;
	int r = 0;

	if (!dir) {
		r = err_sys(e, "read a directory");
		(void)close(fd);
		return r;
	}
	while (r == 0 && (d = readdir(dir))) {
		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
			continue;
		r = remove_entry(dirfd(dir), d->d_name, depth, e);
	}
	(void)closedir(dir);
	return r;
}

int fd_remove_tree(int dir_fd, const char *name, struct err *e)
{
	return remove_entry(dir_fd, name, 0, e);
}

bool fd_path(int fd, char ret[PATH_MAX])
{
	char name[32];
	char got[PATH_MAX];
	struct stat st;
	ssize_t len;

	(void)snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	len = readlink(name, got, sizeof(got));
	/* "/x (deleted)", "pipe:[7]" */
	if (len <= 0 || len >= (ssize_t)sizeof(got) || got[0] != '/' || fstat(fd, &st) < 0 ||
	    st.st_nlink == 0)
		return false;
	got[len] = '\0';
	memcpy(ret, got, (size_t)len + 1);
	return true;
}

int fd_set_nonblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

int fd_set_cloexec(int fd, bool on)
{
	return fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0) < 0 ? -errno : 0;
}

int fd_socketpair(int ret_fds[2], struct err *e)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return err_sys(e, "socketpair");
	ret_fds[0] = fds[0];
	ret_fds[1] = fds[1];
	return 0;
}

static int unix_address(int dir_fd, const char *name, struct sockaddr_un *ret, struct err *e)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int n = snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/%s", dir_fd, name);

	if (n < 0 || (size_t)n >= sizeof(sa.sun_path))
		return err_set(e, -ENAMETOOLONG, "socket '%s': name too long", name);
	*ret = sa;
	return 0;
}

static int listen_on(int type, int dir_fd, const char *name, int backlog, int *ret_fd,
                     struct err *e)
{
	struct sockaddr_un sa;
	_own_fd_ int fd = -1;
	int r = unix_address(dir_fd, name, &sa, e);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(e, "socket");
	/* the mode before bind is the mode of the file, so there is no moment with a wider one */
	if (fchmod(fd, 0600) < 0)
		return err_sys(e, "socket mode");
	if (bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0)
		return err_sys(e, "bind '%s'", name);
	if (listen(fd, backlog) < 0)
		return err_sys(e, "listen on '%s'", name);
	*ret_fd = steal_fd(&fd);
	return 0;
}

static int connect_to(int type, int dir_fd, const char *name, int *ret_fd, struct err *e)
{
	struct sockaddr_un sa;
	_own_fd_ int fd = -1;
	int r = unix_address(dir_fd, name, &sa, e);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_sys(e, "socket");
	if (connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0)
		return err_sys(e, "connect to '%s'", name);
	*ret_fd = steal_fd(&fd);
	return 0;
}

int fd_unix_listen(int dir_fd, const char *name, int backlog, int *ret_fd, struct err *e)
{
	return listen_on(SOCK_STREAM, dir_fd, name, backlog, ret_fd, e);
}

int fd_unix_connect(int dir_fd, const char *name, int *ret_fd, struct err *e)
{
	return connect_to(SOCK_STREAM, dir_fd, name, ret_fd, e);
}

int fd_packet_listen(int dir_fd, const char *name, int backlog, int *ret_fd, struct err *e)
{
	return listen_on(SOCK_SEQPACKET, dir_fd, name, backlog, ret_fd, e);
}

int fd_packet_connect(int dir_fd, const char *name, int *ret_fd, struct err *e)
{
	return connect_to(SOCK_SEQPACKET, dir_fd, name, ret_fd, e);
}
