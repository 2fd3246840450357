#include "state/outlog.h"

#include "base/buf.h"
#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/uio.h>

/* The file itself, new and empty; at the start, and after a rotation. */
static int open_file(struct outlog *l, struct err *e)
{
	int r = fd_openat(l->dir_fd, OUTLOG_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600,
	                  &l->fd, e);

	if (r == 0)
		l->file_bytes = 0;
	return r;
}

int outlog_open(int dir_fd, struct outlog *ret, struct err *e)
{
	struct outlog got = { .dir_fd = dir_fd, .fd = -1 };
	int r;

	if (unlinkat(dir_fd, OUTLOG_FILE_OLD, 0) < 0 && errno != ENOENT)
		return err_sys(e, "remove '%s'", OUTLOG_FILE_OLD);
	r = open_file(&got, e);
	if (r == 0)
		*ret = got;
	return r;
}

/*
 * The old file goes before the rename: replacing one by a rename makes ext4 write the new one to
 * the disk at once, and nobody needs that of a log.
 */
static void rotate(struct outlog *l)
{
	(void)close(steal_fd(&l->fd));
	(void)unlinkat(l->dir_fd, OUTLOG_FILE_OLD, 0);
	(void)renameat(l->dir_fd, OUTLOG_FILE, l->dir_fd, OUTLOG_FILE_OLD);
}

/* All of the record or nothing of it. */
static bool put_record(struct outlog *l, uint8_t channel, struct span data)
{
	uint8_t header[OUTLOG_HEADER_BYTES];
	size_t len = sizeof(header) + data.len;
	struct iovec iov[2];
	struct buf b;
	ssize_t n;

	if (l->fd >= 0 && l->file_bytes + len > OUTLOG_FILE_MAX)
		rotate(l);
	if (l->fd < 0 && open_file(l, NULL) < 0)
		return false;
	buf_init(&b, header, sizeof(header));
	buf_put_u8(&b, channel);
	buf_put_le64(&b, l->realtime_ms);
	buf_put_le32(&b, (uint32_t)data.len);
	iov[0] = (struct iovec){ .iov_base = header, .iov_len = sizeof(header) };
	iov[1] = (struct iovec){ .iov_base = (void *)(uintptr_t)data.at, .iov_len = data.len };
	do
		n = pwritev(l->fd, iov, 2, (off_t)l->file_bytes);
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)len) {
		l->file_bytes += len;
		return true;
	}
	/* a part of a record; the next one is written over it in any case */
	if (n > 0 && ftruncate(l->fd, (off_t)l->file_bytes) < 0)
		return false;
	return false;
}

static bool put_gap(struct outlog *l)
{
	uint8_t raw[8];
	struct buf b;

	if (l->dropped_bytes == 0)
		return true;
	buf_init(&b, raw, sizeof(raw));
	buf_put_le64(&b, l->dropped_bytes);
	if (!put_record(l, OUTLOG_GAP, buf_span(&b)))
		return false;
	l->dropped_bytes = 0;
	return true;
}

void outlog_append(struct outlog *l, uint8_t channel, uint64_t realtime_ms, struct span data)
{
	l->realtime_ms = realtime_ms;
	while (data.len > 0) {
		struct span part = span_of(data.at, data.len);

		if (part.len > OUTLOG_DATA_MAX)
			part.len = OUTLOG_DATA_MAX;
		if (!put_gap(l) || !put_record(l, channel, part)) {
			l->dropped_bytes += part.len;
			l->lost_bytes += part.len;
		}
		data.at += part.len;
		data.len -= part.len;
	}
}

void outlog_close(struct outlog *l)
{
	(void)put_gap(l);
	if (l->fd >= 0)
		(void)close(steal_fd(&l->fd));
}
