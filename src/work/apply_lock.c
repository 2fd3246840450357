#include "base/fdio.h"
#include "work/apply_inner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

/*
 * The lock is on the root's inode, so it is the same for every name of the workspace, every session
 * and every user, leaves no file behind and ends with its process.
 */
static int lock_root(struct apply_run *r, struct err *e)
{
	_own_fd_ int fd = -1;
	int got = fd_openat(r->on->root_fd, ".", O_RDONLY | O_DIRECTORY, 0, &fd, e);

	if (got < 0)
		return got;
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK)
			return err_set(e, -EBUSY, "another apply of this workspace is under way");
		if (errno != EINTR)
			return err_sys(e, "lock the workspace");
	}
	r->lock_fd = steal_fd(&fd);
	return 0;
}

/* The number of a device changes with a reboot; the moment a directory was made does not. */
static bool same_root(const struct apply_root *a, const struct apply_root *b)
{
	if (a->ino != b->ino)
		return false;
	if (a->btime_ns != 0 && b->btime_ns != 0)
		return a->btime_ns == b->btime_ns;
	return a->dev == b->dev;
}

int apply_lock(struct apply_run *r, struct err *e)
{
	struct apply_root now;
	int got = apply_root_of(r->on->root_fd, &now, e);

	if (got < 0)
		return got;
	if (!same_root(&now, &r->on->root))
		return err_set(e, -ESTALE, "the workspace is not the directory it was");
	return lock_root(r, e);
}

void apply_stage_name(const struct apply_on *on, char ret[APPLY_STAGE_NAME_MAX])
{
	(void)snprintf(ret, APPLY_STAGE_NAME_MAX, APPLY_STAGE_PREFIX "%.*s", APPLY_SESSION_MAX,
	               on->session);
}

bool apply_interrupted(int session_fd)
{
	return faccessat(session_fd, APPLY_JOURNAL_NAME, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}
