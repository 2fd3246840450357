#include "base/idmap.h"

#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void idmap_self(struct idmap *ret)
{
	(void)snprintf(ret->uid, sizeof(ret->uid), "%u %u 1", geteuid(), geteuid());
	(void)snprintf(ret->gid, sizeof(ret->gid), "%u %u 1", getegid(), getegid());
}

static int write_line(const char *path, const char *text, struct err *e)
{
	_own_fd_ int fd = -1;
	int r = fd_open(path, O_WRONLY, 0, &fd, e);

	if (r < 0)
		return r;
	/* one write: the kernel takes a map only whole */
	if (write(fd, text, strlen(text)) < 0)
		return err_sys(e, "write '%s'", path);
	return 0;
}

int idmap_write(const struct idmap *m, struct err *e)
{
	int r = write_line("/proc/self/setgroups", "deny", e);

	if (r == 0)
		r = write_line("/proc/self/uid_map", m->uid, e);
	if (r == 0)
		r = write_line("/proc/self/gid_map", m->gid, e);
	return r;
}
