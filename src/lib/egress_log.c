#include "lib/egress_log.h"

#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

void egress_log_init(struct egress_log *l, int dir_fd)
{
	*l = (struct egress_log){ .dir_fd = dir_fd, .fd = -1 };
}

void egress_log_close(struct egress_log *l)
{
	if (l->fd >= 0)
		(void)close(steal_fd(&l->fd));
}

/* The old file goes before the rename, as in outlog.c. */
static void rotate(struct egress_log *l)
{
	egress_log_close(l);
	if (!l->has_first) {
		l->has_first = true;
		(void)renameat(l->dir_fd, EGRESS_LOG_FILE, l->dir_fd, EGRESS_LOG_FILE_FIRST);
		return;
	}
	(void)unlinkat(l->dir_fd, EGRESS_LOG_FILE_OLD, 0);
	(void)renameat(l->dir_fd, EGRESS_LOG_FILE, l->dir_fd, EGRESS_LOG_FILE_OLD);
	l->dropped += l->old_lines;
	l->lost += l->old_lines;
	l->old_lines = l->file_lines;
}

static bool open_file(struct egress_log *l)
{
	if (l->fd >= 0)
		return true;
	if (fd_openat(l->dir_fd, EGRESS_LOG_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600,
	              &l->fd, NULL) < 0)
		return false;
	l->file_bytes = 0;
	l->file_lines = 0;
	return true;
}

void egress_log_put(struct egress_log *l, struct span line)
{
	ssize_t n;

	if (l->fd >= 0 && l->file_bytes + line.len > EGRESS_LOG_FILE_MAX)
		rotate(l);
	if (!open_file(l)) {
		l->lost++;
		return;
	}
	do
		n = pwrite(l->fd, line.at, line.len, (off_t)l->file_bytes);
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)line.len) {
		l->file_bytes += line.len;
		l->file_lines++;
		l->written++;
		return;
	}
	l->lost++;
	/* a part of a line: whoever reads now sees no end of it, and the next is written over it */
	if (n > 0 && ftruncate(l->fd, (off_t)l->file_bytes) < 0)
		return;
}
