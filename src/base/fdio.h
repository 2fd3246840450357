/*
 * fdio: file descriptors, whole reads and writes, and paths that stay beneath a directory.
 *
 * Every fd made here is CLOEXEC. fd_open_beneath() is the only way to follow a path that somebody
 * else may have had a hand in: it never leaves dir_fd, by "..", by an absolute link or by a magic
 * link.
 */
#pragma once

#include "base/err.h"
#include "base/span.h"

#include <linux/limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	FD_SMALL_FILE_MAX = 1 << 20, /* configs and manifests we read whole */
	FD_BENEATH_TRIES = 64,       /* EAGAIN: a rename raced with our ".." */
	FD_TREE_DEPTH_MAX = 128,     /* our own state directories are 4 deep */
};

/* open(2) with O_CLOEXEC on a path that is ours or the user's own word. */
_must_ int fd_open(const char *path, int flags, mode_t mode, int *ret_fd, struct err *e);
_must_ int fd_openat(int dir_fd, const char *path, int flags, mode_t mode, int *ret_fd,
                     struct err *e);

/* openat2(2), RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS, plus `resolve` (RESOLVE_NO_SYMLINKS or 0).
 */
_must_ int fd_open_beneath(int dir_fd, const char *path, int flags, mode_t mode, uint64_t resolve,
                           int *ret_fd, struct err *e);

/* Opens or makes (0700) a directory, with its parents, and returns an O_DIRECTORY fd. */
_must_ int fd_make_dirs(const char *path, int *ret_fd, struct err *e);

/* All of it or an error. EOF in fd_read_all is -ENODATA. EINTR is retried. */
_must_ int fd_read_all(int fd, void *ret, size_t len, struct err *e);
_must_ int fd_write_all(int fd, const void *data, size_t len, struct err *e);

/*
 * A file of our own in a directory of our own, where something else may stand by now. Never waits:
 * -EBADMSG for what is no regular file, a link among them.
 */
_must_ int fd_open_file(int dir_fd, const char *name, int flags, mode_t mode, int *ret_fd,
                        struct err *e);

/* len bytes from off on, fewer only at the end of the file. 0 or -errno, which errno says too. */
_must_ int fd_read_at(int fd, uint64_t off, void *ret, size_t len, size_t *ret_len);

/*
 * The whole of something small, NUL-ended; ret_text is the caller's to free, ret_len may be NULL.
 * -EFBIG over max bytes. What is opened already is read from where it stands.
 */
_must_ int fd_read_text(int fd, size_t max, char **ret_text, size_t *ret_len, struct err *e);
_must_ int fd_read_file(int dir_fd, const char *path, size_t max, char **ret_text, size_t *ret_len,
                        struct err *e);

/* Writes aside, fsyncs, renames: the file is the old one or the new one, never a part. */
_must_ int fd_replace_file(int dir_fd, const char *name, const void *data, size_t len, mode_t mode,
                           struct err *e);

/* An anonymous file in dir's file system: gone with its last fd, whatever happens. */
_must_ int fd_tmpfile(int dir_fd, mode_t mode, int *ret_fd, struct err *e);

/*
 * A memory file of these bytes that nobody can change any more, its place at its front. name is for
 * /proc alone.
 */
_must_ int fd_sealed(const char *name, const void *data, size_t len, int *ret_fd, struct err *e);

/* Copies src's data extents (holes stay holes), by reflink where the file system can. */
_must_ int fd_copy_sparse(int src_fd, int dst_fd, struct err *e);

/* Removes a tree beneath dir_fd without following links. A missing one is success. */
int fd_remove_tree(int dir_fd, const char *name, struct err *e);

/*
 * The path of an open file as the kernel has it now, NUL-ended. False, and ret as it was, where it
 * has none (it was removed) or a longer one.
 */
_must_ bool fd_path(int fd, char ret[PATH_MAX]);

int fd_set_nonblock(int fd);
int fd_set_cloexec(int fd, bool on);

/* A connected pair of CLOEXEC stream sockets. */
_must_ int fd_socketpair(int ret_fds[2], struct err *e);

/*
 * Listens or connects on UNIX socket `name` inside dir_fd, whatever the length of dir's path: the
 * address goes through /proc/self/fd. A listener is made 0600.
 */
_must_ int fd_unix_listen(int dir_fd, const char *name, int backlog, int *ret_fd, struct err *e);
_must_ int fd_unix_connect(int dir_fd, const char *name, int *ret_fd, struct err *e);

/* The same for a socket that keeps packets apart (SOCK_SEQPACKET). */
_must_ int fd_packet_listen(int dir_fd, const char *name, int backlog, int *ret_fd, struct err *e);
_must_ int fd_packet_connect(int dir_fd, const char *name, int *ret_fd, struct err *e);
