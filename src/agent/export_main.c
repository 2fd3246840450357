#include "agent/export.h"
#include "agent/report.h"
#include "base/fdio.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <sys/syscall.h>

/*
 * The guest's root can find the agent's mount of the disk, and put others over parts of the layer:
 * what they show is not what was changed. A clone of the mount has none of them.
 */
static int open_bare(const char *path, int *ret_fd, struct err *e)
{
	_own_fd_ int clone_fd = -1;
	_own_fd_ int fd = -1;
	int r = fd_open(path, O_RDONLY | O_DIRECTORY, 0, &fd, e);

	if (r < 0)
		return r;
	clone_fd = (int)syscall(SYS_open_tree, fd, "",
	                        OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	if (clone_fd < 0) { /* somebody unmounted ours: then what was over it is gone, too */
		*ret_fd = steal_fd(&fd);
		return 0;
	}
	return fd_openat(clone_fd, ".", O_RDONLY | O_DIRECTORY, 0, ret_fd, e);
}

/* PID 1 keeps the upper layer open: there need not be a path to it, nor one that is still there. */
void export_main(int agents_fd, uint64_t *answer)
{
	struct err e = { 0 };
	uint64_t bytes = 0;
	char path[40];
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/1/fd/%d", agents_fd);
	if (open_bare(path, &fd, &e) < 0 || export_measure(fd, "trusted.overlay.", &bytes, &e) < 0)
		report_err(&e, WIRE_AT_PATH);
	__atomic_store_n(answer, bytes, __ATOMIC_RELEASE);
	if (export_tree(fd, STDOUT_FILENO, "trusted.overlay.", &e) < 0)
		report_err(&e, WIRE_AT_PATH);
	report_end(0, WIRE_AT_NONE, "");
}
