#include "lib/relay_sink.h"

#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

void sink_init(struct relay_sink *s)
{
	*s = (struct relay_sink){ .fd = -1, .write_fd = -1, .credit_left = WIRE_WINDOW_BYTES };
}

void sink_fini(struct relay_sink *s)
{
	if (s->kind == SINK_NONBLOCK)
		(void)close(s->write_fd);
	s->write_fd = -1;
	s->kind = SINK_UNOPENED;
	free(s->ring);
	s->ring = NULL;
	s->ring_len = 0;
}

/*
 * The fd's flags belong to its open file description, which the caller's shell, or the other end of
 * a pipeline, may share. A pipe or a terminal can be opened a second time; what cannot is written
 * to in small pieces.
 */
static void sink_open(struct relay_sink *s)
{
	char path[32];
	struct stat st;

	s->write_fd = s->fd;
	if (s->fd < 0) {
		s->kind = s->readable ? SINK_KEEP : s->capture ? SINK_CAPTURE : SINK_DISCARD;
		return;
	}
	if (fstat(s->fd, &st) < 0) {
		s->kind = SINK_SMALL; /* the write will say what is wrong */
	} else if (S_ISSOCK(st.st_mode)) {
		s->kind = SINK_SOCKET;
	} else if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) {
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", s->fd);
		s->kind =
			fd_open(path, O_WRONLY | O_NOCTTY | O_NONBLOCK, 0, &s->write_fd, NULL) == 0
				? SINK_NONBLOCK
				: SINK_SMALL;
	} else {
		s->kind = SINK_FILE;
	}
}

static void give_back(struct relay_sink *s, size_t bytes)
{
	s->credit_owed += (uint32_t)bytes;
}

static void capture(struct relay_sink *s, struct span data)
{
	size_t room = s->capture->size - s->capture->len;

	if (data.len > room) {
		data.len = room;
		s->truncated = true;
	}
	buf_put_span(s->capture, data);
}

/* One write of at most what cannot block. Bytes written, 0 (not now), -EPIPE, or the error. */
static ssize_t write_some(struct relay_sink *s, struct iovec *iov, int count)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = (size_t)count };
	ssize_t n;

	if (s->kind == SINK_SMALL) {
		count = 1;
		if (iov[0].iov_len > RELAY_PIPE_BYTES)
			iov[0].iov_len = RELAY_PIPE_BYTES;
	}
	do {
		if (s->kind == SINK_SOCKET)
			n = sendmsg(s->write_fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		else
			n = writev(s->write_fd, iov, count);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	return n;
}

/* The reader has gone: what is kept is nobody's, and so is all that follows. */
static void sink_break(struct relay_sink *s)
{
	give_back(s, s->ring_len);
	s->ring_len = 0;
	s->broken = true;
}

static int write_failed(struct relay_sink *s, ssize_t r, struct err *e)
{
	/* a terminal that was hung up answers EIO */
	if (r == -EPIPE || r == -EIO) {
		sink_break(s);
		return 0;
	}
	if (s->steady) {
		s->error = (int)-r;
		sink_break(s);
		return 0;
	}
	errno = (int)-r;
	return err_sys(e, "write the guest's output");
}

size_t sink_read(struct relay_sink *s, void *ret, size_t size)
{
	size_t len = s->ring_len < size ? s->ring_len : size;
	size_t first = WIRE_WINDOW_BYTES - s->ring_from;

	if (len == 0)
		return 0;
	if (first > len)
		first = len;
	memcpy(ret, s->ring + s->ring_from, first);
	memcpy((uint8_t *)ret + first, s->ring, len - first);
	s->ring_from = (s->ring_from + len) % WIRE_WINDOW_BYTES;
	s->ring_len -= len;
	give_back(s, len);
	return len;
}

int sink_flush(struct relay_sink *s, struct err *e)
{
	size_t to_end = WIRE_WINDOW_BYTES - s->ring_from;
	size_t first = s->ring_len < to_end ? s->ring_len : to_end;
	struct iovec iov[2] = {
		{ .iov_base = s->ring + s->ring_from, .iov_len = first },
		{ .iov_base = s->ring, .iov_len = s->ring_len - first },
	};
	ssize_t n;

	if (s->ring_len == 0)
		return 0;
	n = write_some(s, iov, iov[1].iov_len ? 2 : 1);
	if (n < 0)
		return write_failed(s, n, e);
	s->ring_from = (s->ring_from + (size_t)n) % WIRE_WINDOW_BYTES;
	s->ring_len -= (size_t)n;
	give_back(s, (size_t)n);
	return 0;
}

static int keep(struct relay_sink *s, struct span data, struct err *e)
{
	size_t at = (s->ring_from + s->ring_len) % WIRE_WINDOW_BYTES;
	size_t first = WIRE_WINDOW_BYTES - at;

	if (!s->ring)
		s->ring = malloc(WIRE_WINDOW_BYTES);
	if (!s->ring)
		return err_set(e, -ENOMEM, "out of memory");
	if (first > data.len)
		first = data.len;
	memcpy(s->ring + at, data.at, first);
	memcpy(s->ring, data.at + first, data.len - first);
	s->ring_len += data.len;
	return 0;
}

/* Straight from the frame, while nothing is kept before it. */
static int write_direct(struct relay_sink *s, struct span *data, struct err *e)
{
	while (data->len > 0 && !s->broken) {
		struct iovec iov = { .iov_base = (void *)(uintptr_t)data->at,
			             .iov_len = data->len };
		ssize_t n = write_some(s, &iov, 1);

		if (n == 0)
			return 0;
		if (n < 0)
			return write_failed(s, n, e);
		give_back(s, (size_t)n);
		data->at += n;
		data->len -= (size_t)n;
		if (s->kind == SINK_SMALL)
			return 0; /* poll(2) is to be asked before the next */
	}
	return 0;
}

int sink_take(struct relay_sink *s, struct span data, struct err *e)
{
	int r = 0;

	if (data.len > s->credit_left || s->eof)
		return err_set(e, -EPROTO, "the guest sent more output than it was allowed to");
	s->credit_left -= (uint32_t)data.len;
	s->bytes += data.len;
	if (s->kind == SINK_UNOPENED)
		sink_open(s);
	if (s->kind == SINK_CAPTURE)
		capture(s, data);
	if (s->kind == SINK_CAPTURE || s->kind == SINK_DISCARD || s->broken) {
		give_back(s, data.len);
		return 0;
	}
	/* a SMALL one was not asked yet whether it is ready: it is kept, and poll(2) asked */
	if (s->ring_len == 0 && s->kind != SINK_SMALL && s->kind != SINK_KEEP)
		r = write_direct(s, &data, e);
	if (r < 0)
		return r;
	if (s->broken) {
		give_back(s, data.len);
		return 0;
	}
	return data.len > 0 ? keep(s, data, e) : 0;
}
