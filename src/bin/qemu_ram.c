/*
 * berm-qemu-ram.so: preloaded into qemu, answers an open of /dev/berm-ram and /dev/berm-fd/N with
 * fds the supervisor handed over.
 *
 * qemu 7.2 opens the mem-path of a memory-backend-file O_RDWR even for share=off. A template's file
 * is mapped privately by many sandboxes, so the process that runs hostile code must not hold it
 * writable, nor be able to open it. It gets an fd that was opened read-only: a private mapping of
 * it may still be written (to copies), which is all a restored guest needs. Kernel and initramfs
 * are other files that qemu only takes by path (its fd sets serve disks and streams alone).
 *
 * BERM_RAM_FD is "FD:LIBRARY_FD", the first may be empty. Every other path goes to the kernel as it
 * came; these are the C library's entry points that qemu and its libraries import, fortified ones
 * included. Each open starts at offset 0, although the offset is shared with the fd handed over:
 * qemu reads such a file one open after the other.
 */
#include "base/own.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define EXPORT __attribute__((visibility("default")))

enum { FD_NUMBER_MAX = 255 }; /* the jail's fd limit */

static const char ram_path[] = "/dev/berm-ram";
static const char fd_path[] = "/dev/berm-fd/";

/* The C library declares these only for itself, or with macros in the way. */
EXPORT int berm_open(const char *path, int flags, ...) __asm__("open");
EXPORT int berm_open64(const char *path, int flags, ...) __asm__("open64");
EXPORT int berm_open_2(const char *path, int flags) __asm__("__open_2");
EXPORT int berm_open64_2(const char *path, int flags) __asm__("__open64_2");
EXPORT int berm_openat(int dir, const char *path, int flags, ...) __asm__("openat");
EXPORT int berm_openat64(int dir, const char *path, int flags, ...) __asm__("openat64");
EXPORT FILE *berm_fopen(const char *path, const char *mode) __asm__("fopen");
EXPORT FILE *berm_fopen64(const char *path, const char *mode) __asm__("fopen64");

/* A decimal number at the front of `at`; -1 if there is none or it is no fd. */
static int take_fd(const char *at)
{
	int fd = -1;

	for (; *at >= '0' && *at <= '9'; at++) {
		fd = (fd < 0 ? 0 : fd) * 10 + (*at - '0');
		if (fd > FD_NUMBER_MAX)
			return -1;
	}
	return fd;
}

/* The number of BERM_RAM_FD before or after its colon. */
static int fd_of_env(bool second)
{
	const char *at = getenv("BERM_RAM_FD");

	if (at && second) {
		at = strchr(at, ':');
		at = at ? at + 1 : NULL;
	}
	return at ? take_fd(at) : -1;
}

/* The fd a path of ours stands for: -1 if none is there, -2 if the path is not ours. */
static int fd_of_path(const char *path)
{
	if (strcmp(path, ram_path) == 0)
		return fd_of_env(false);
	if (strncmp(path, fd_path, sizeof(fd_path) - 1) == 0)
		return take_fd(path + sizeof(fd_path) - 1);
	return -2;
}

/*
 * The loader has mapped us by now. An exec makes a process dumpable again, whatever it was before;
 * this runs first in the new program.
 */
__attribute__((constructor)) static void settle(void)
{
	int library_fd = fd_of_env(true);

	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (library_fd > 2)
		(void)close(library_fd);
}

static int open_any(int dir, const char *path, int flags, mode_t mode)
{
	int from = fd_of_path(path);

	if (from != -2) {
		int fd = from < 0 ? -1 : fcntl(from, F_DUPFD_CLOEXEC, 0);

		if (fd < 0)
			errno = ENOENT;
		else
			(void)lseek(fd, 0, SEEK_SET);
		return fd;
	}
	return (int)syscall(SYS_openat, dir, path, flags, mode);
}

static mode_t take_mode(int flags, va_list args)
{
	return flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)) ? va_arg(args, mode_t) : 0;
}

#define OPEN_BODY(dir)                                                                             \
	{                                                                                          \
		va_list args;                                                                      \
		mode_t mode;                                                                       \
		va_start(args, flags);                                                             \
		mode = take_mode(flags, args);                                                     \
		va_end(args);                                                                      \
		return open_any(dir, path, flags, mode);                                           \
	}

int berm_open(const char *path, int flags, ...) OPEN_BODY(AT_FDCWD)

	int berm_open64(const char *path, int flags, ...) OPEN_BODY(AT_FDCWD)

		int berm_openat(int dir, const char *path, int flags, ...) OPEN_BODY(dir)

			int berm_openat64(int dir, const char *path, int flags, ...) OPEN_BODY(dir)

				int berm_open_2(const char *path, int flags)
{
	return open_any(AT_FDCWD, path, flags, 0);
}

int berm_open64_2(const char *path, int flags)
{
	return open_any(AT_FDCWD, path, flags, 0);
}

typedef FILE *fopen_fn(const char *path, const char *mode);

static FILE *fopen_any(const char *next, const char *path, const char *mode)
{
	fopen_fn *real;
	FILE *f;
	int fd;

	if (fd_of_path(path) == -2) {
		real = (fopen_fn *)(uintptr_t)dlsym(RTLD_NEXT, next);
		if (real)
			return real(path, mode);
		errno = ENOSYS;
		return NULL;
	}
	fd = open_any(AT_FDCWD, path, 0, 0);
	if (fd < 0)
		return NULL;
	f = fdopen(fd, mode); /* banned-ok: stands in for the C library's fopen() */
	if (!f)
		(void)close(fd);
	return f;
}

FILE *berm_fopen(const char *path, const char *mode)
{
	return fopen_any("fopen", path, mode);
}

FILE *berm_fopen64(const char *path, const char *mode)
{
	return fopen_any("fopen64", path, mode);
}
