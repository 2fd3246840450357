/*
 * Theory of operation
 *
 * A reader holds one file open and walks it; a file is known by its inode, not its name, because
 * the writer renames under us. At the end of the file it asks which file comes next: none when ours
 * is `log`; else `log.1` if that is not ours (two rotations went by, or we are at the start); else
 * `log`. Once there is a next file, nothing is appended to ours any more, but something may have
 * been between our last read and the rotation: so it is read once more before it is left.
 *
 * Only whole records count. Bytes of a part of one are forgotten and read again the next time,
 * since a writer that met a full disk takes its last part back.
 */
#include "state/outlog.h"

#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

enum { READ_BYTES = 2 * OUTLOG_RECORD_MAX }; /* so that a whole record always fits */

struct outlog_reader {
	int dir_fd;        /* borrowed */
	int fd;            /* -1 before the first file */
	uint64_t at;       /* in the file: where `ready` begins */
	struct span ready; /* in storage */
	uint64_t skip_lines;
	uint8_t storage[READ_BYTES];
};

int outlog_reader_new(int dir_fd, struct outlog_reader **ret, struct err *e)
{
	struct outlog_reader *r = malloc(sizeof(*r));

	if (!r)
		return err_set(e, -ENOMEM, "out of memory");
	r->dir_fd = dir_fd;
	r->fd = -1;
	r->at = 0;
	r->ready = span_of(r->storage, 0);
	r->skip_lines = 0;
	*ret = r;
	return 0;
}

void outlog_reader_free(struct outlog_reader *r)
{
	if (!r)
		return;
	if (r->fd >= 0)
		(void)close(r->fd);
	free(r);
}

void outlog_reader_move(struct outlog_reader *r, int dir_fd)
{
	r->dir_fd = dir_fd;
}

/* Opens a file of that name; -1 in *ret when there is none. */
static int open_named(const struct outlog_reader *r, const char *name, int *ret, struct err *e)
{
	int code = fd_openat(r->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, ret, e);

	if (code == -ENOENT)
		err_clear(e);
	return code == -ENOENT ? 0 : code;
}

static bool ours(const struct outlog_reader *r, int fd)
{
	struct stat a;
	struct stat b;

	if (r->fd < 0 || fd < 0 || fstat(r->fd, &a) < 0 || fstat(fd, &b) < 0)
		return false;
	return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* The file after ours, or the oldest. -EAGAIN: none yet. The order of the two opens matters. */
static int open_next(const struct outlog_reader *r, int *ret_fd, struct err *e)
{
	_own_fd_ int now = -1;
	_own_fd_ int old = -1;
	int code = open_named(r, OUTLOG_FILE, &now, e);

	if (code < 0)
		return code;
	if (ours(r, now))
		return -EAGAIN;
	code = open_named(r, OUTLOG_FILE_OLD, &old, e);
	if (code < 0)
		return code;
	if (old >= 0 && !ours(r, old)) {
		*ret_fd = steal_fd(&old);
		return 0;
	}
	if (now < 0)
		return -EAGAIN; /* between a rotation's rename and its new file */
	*ret_fd = steal_fd(&now);
	return 0;
}

static int fill(struct outlog_reader *r, struct err *e)
{
	ssize_t n;

	r->ready = span_of(r->storage, 0);
	do
		n = pread(r->fd, r->storage, sizeof(r->storage), (off_t)r->at);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_sys(e, "read the log");
	r->ready.len = (size_t)n;
	return 0;
}

/* The next record of our file, or -EAGAIN at its end. */
static int next_in_file(struct outlog_reader *r, struct outlog_record *ret, struct err *e)
{
	size_t before = r->ready.len;
	int code = outlog_parse(&r->ready, ret);

	if (code == -EAGAIN) {
		code = fill(r, e);
		if (code < 0)
			return code;
		before = r->ready.len;
		code = outlog_parse(&r->ready, ret);
	}
	if (code == 0)
		r->at += before - r->ready.len;
	if (code == -EAGAIN)
		r->ready.len = 0;
	if (code == -EBADMSG)
		return err_set(e, code, "the log is damaged from byte %" PRIu64 " on", r->at);
	return code;
}

static int next_record(struct outlog_reader *r, struct outlog_record *ret, struct err *e)
{
	for (int i = 0; i < OUTLOG_SWITCHES_MAX; i++) {
		_own_fd_ int next = -1;
		int code = r->fd < 0 ? -EAGAIN : next_in_file(r, ret, e);

		if (code != -EAGAIN)
			return code;
		code = open_next(r, &next, e);
		if (code < 0)
			return code;
		if (r->fd >= 0) {
			code = next_in_file(r, ret, e); /* what came before the rotation */
			if (code != -EAGAIN)
				return code;
			(void)close(r->fd);
		}
		r->fd = steal_fd(&next);
		r->at = 0;
	}
	return -EAGAIN;
}

/* Takes lines off the front of data until none is to be skipped. */
static void skip(struct outlog_reader *r, struct span *data)
{
	struct span line;

	while (r->skip_lines > 0 && data->len > 0) {
		const void *end = memchr(data->at, '\n', data->len);
		size_t len = end ? (size_t)((const uint8_t *)end - data->at) + 1 : data->len;

		if (end)
			r->skip_lines--;
		if (!take_span(data, len, &line))
			return;
	}
}

int outlog_reader_next(struct outlog_reader *r, struct outlog_record *ret, struct err *e)
{
	struct outlog_record got;
	int code;

	do {
		code = next_record(r, &got, e);
		if (code < 0)
			return code;
		if (r->skip_lines > 0 && got.channel == OUTLOG_GAP)
			got.data.len = 0;
		skip(r, &got.data);
	} while (got.data.len == 0);
	*ret = got;
	return 0;
}

static uint64_t count_lines(struct span data)
{
	uint64_t n = 0;

	for (size_t i = 0; i < data.len; i++)
		n += data.at[i] == '\n';
	return n;
}

int outlog_reader_tail(struct outlog_reader *r, uint64_t lines, struct err *e)
{
	_own_(outlog_reader_free) struct outlog_reader *scan = NULL;
	struct outlog_record rec;
	bool open_line = false;
	uint64_t total = 0;
	int code = outlog_reader_new(r->dir_fd, &scan, e);

	if (code < 0)
		return code;
	while ((code = next_record(lines > 0 ? scan : r, &rec, e)) == 0) {
		if (rec.channel == OUTLOG_GAP)
			continue;
		total += count_lines(rec.data);
		open_line = rec.data.at[rec.data.len - 1] != '\n';
	}
	if (code != -EAGAIN)
		return code;
	total += open_line;
	if (lines > 0 && total > lines)
		r->skip_lines = total - lines;
	return 0;
}
