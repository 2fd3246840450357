#include "agent/port.h"

#include "agent/store.h"
#include "base/clock.h"
#include "base/fdio.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/param.h>
#include <time.h>

enum { NAME_BYTES_MAX = 64, POLL_STEP_NS = 500000, DEV_PATH_MAX = 300 };

int port_init(struct port *p, struct err *e)
{
	uint8_t *out;
	int r;

	*p = (struct port){ .fd = -1 };
	r = store_new(PORT_IN_BYTES, &p->in, e);
	if (r < 0)
		return r;
	r = store_new(PORT_OUT_BYTES, &out, e);
	if (r < 0)
		return r;
	buf_init(&p->out, out, PORT_OUT_BYTES);
	if (pipe2(p->pipe, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_sys(e, "pipe for output");
	if (fcntl(p->pipe[1], F_SETPIPE_SZ, PORT_PIPE_BYTES) < 0)
		return err_sys(e, "size of the pipe for output");
	return 0;
}

/* Does /sys/class/virtio-ports/<entry>/name hold `name` and a newline? */
static bool is_named(int class_fd, const char *entry, const char *name)
{
	char path[DEV_PATH_MAX];
	char text[NAME_BYTES_MAX];
	_own_fd_ int fd = -1;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "%s/name", entry);
	if (fd_openat(class_fd, path, O_RDONLY, 0, &fd, NULL) < 0)
		return false;
	n = read(fd, text, sizeof(text));
	if (n > 0 && text[n - 1] == '\n')
		n--;
	return n >= 0 && span_is(span_of(text, (size_t)n), name);
}

static int try_open(const char *name, int *ret_fd)
{
	DIR *dir = opendir("/sys/class/virtio-ports");
	const struct dirent *d;
	int r = -ENOENT;

	if (!dir)
		return -ENOENT;
	while (r < 0 && (d = readdir(dir))) {
		char path[DEV_PATH_MAX];

		if (d->d_name[0] == '.' || !is_named(dirfd(dir), d->d_name, name))
			continue;
		(void)snprintf(path, sizeof(path), "/dev/%s", d->d_name);
		r = fd_open(path, O_RDWR | O_NONBLOCK, 0, ret_fd, NULL);
	}
	(void)closedir(dir);
	return r;
}

int port_find(const char *name, int *ret_fd, struct err *e)
{
	const struct timespec step = { .tv_nsec = POLL_STEP_NS };
	uint64_t until_ms = clock_mono_ms() + PORT_WAIT_MS;

	/* the host announces ports after the device is up; nothing but the name tells which it is
	 */
	while (try_open(name, ret_fd) < 0) {
		if (clock_mono_ms() > until_ms)
			return err_set(e, -ENODEV, "no console port named '%s' appeared in %d ms",
			               name, PORT_WAIT_MS);
		(void)nanosleep(&step, NULL);
	}
	return 0;
}

size_t port_pending(const struct port *p)
{
	return p->out.len - p->out_at + p->pipe_left;
}

bool port_has_bytes(const struct port *p)
{
	return p->out.size - port_pending(p) >= PORT_REPLY_BYTES_MAX;
}

bool port_has_room(const struct port *p)
{
	return !p->shut && port_has_bytes(p);
}

/* Moves what is pending to the front, so that all free room is in one piece. */
static void compact(struct port *p)
{
	if (p->out_at == 0)
		return;
	memmove(p->out.at, p->out.at + p->out_at, p->out.len - p->out_at);
	p->out.len -= p->out_at;
	p->pipe_at -= p->pipe_left > 0 ? p->out_at : 0;
	p->out_at = 0;
}

struct buf *port_out(struct port *p)
{
	p->urgent = true;
	return port_out_lazy(p);
}

struct buf *port_out_lazy(struct port *p)
{
	if (p->out.size - p->out.len < PORT_REPLY_BYTES_MAX)
		compact(p);
	return &p->out;
}

uint8_t *port_data_begin(struct port *p, size_t want)
{
	if (port_pending(p) > PORT_DATA_PENDING_MAX)
		return NULL;
	if (p->out.size - p->out.len < WIRE_HEADER_BYTES + want)
		compact(p);
	return p->out.at + p->out.len + WIRE_HEADER_BYTES;
}

static void put_data_header(uint8_t *at, uint8_t channel, uint32_t stream, uint32_t epoch,
                            size_t len)
{
	struct buf b;

	/* a frame with an empty payload is all header; its length is the last field */
	buf_init(&b, at, WIRE_HEADER_BYTES);
	wire_put(&b, WIRE_DATA, channel, stream, epoch, span_of(NULL, 0));
	b.len = WIRE_HEADER_BYTES - 4;
	buf_put_le32(&b, (uint32_t)len);
}

void port_data_end(struct port *p, uint8_t channel, uint32_t stream, uint32_t epoch, size_t len)
{
	put_data_header(p->out.at + p->out.len, channel, stream, epoch, len);
	p->out.len += WIRE_HEADER_BYTES + len;
	p->urgent = true;
}

ssize_t port_splice(struct port *p, int fd, uint8_t channel, uint32_t stream, uint32_t epoch,
                    size_t want)
{
	int bytes = 0;
	ssize_t n;

	if (want < PORT_SPLICE_MIN || ioctl(fd, FIONREAD, &bytes) < 0 || bytes < PORT_SPLICE_MIN)
		return 0;
	if (p->pipe_left > 0)
		return -EAGAIN;
	/* into a pipe that nobody else can read: what the header promises must follow */
	n = splice(fd, NULL, p->pipe[1], NULL, want, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	if (n <= 0)
		return 0;
	(void)port_out_lazy(p); /* makes room */
	put_data_header(p->out.at + p->out.len, channel, stream, epoch, (size_t)n);
	p->out.len += WIRE_HEADER_BYTES;
	p->pipe_at = p->out.len;
	p->pipe_left = (size_t)n;
	p->urgent = true;
	return n;
}

static void drop_spliced(struct port *p)
{
	uint8_t dropped[4096];

	while (read(p->pipe[0], dropped, sizeof(dropped)) > 0)
		;
	p->pipe_left = 0;
	p->pipe_broken = false;
}

static void reset(struct port *p)
{
	if (!p->connected)
		return;
	p->connected = false;
	p->in_at = p->in_end = 0;
	drop_spliced(p);
	buf_reset(&p->out);
	p->out_at = 0;
}

/*
 * Pages to the port. What cannot be read (a command may have put pages of a file on a broken disk
 * into its output) is replaced by zeros, for the header has promised its length.
 */
static ssize_t send_pages(struct port *p)
{
	static const uint8_t zeros[4096];
	ssize_t n = 0;

	errno = EAGAIN; /* for a 0 */
	if (!p->pipe_broken)
		n = splice(p->pipe[0], NULL, p->fd, NULL, p->pipe_left, SPLICE_F_NONBLOCK);
	else
		n = write(p->fd, zeros, MIN(p->pipe_left, sizeof(zeros)));
	if (n < 0 && errno != EAGAIN && errno != EINTR && !p->pipe_broken) {
		p->pipe_broken = true;
		errno = EINTR; /* go on at once */
	}
	p->pipe_left -= n > 0 ? (size_t)n : 0;
	if (p->pipe_left == 0 && p->pipe_broken)
		drop_spliced(p);
	return n;
}

/* What comes next: bytes of `out`, or pages. As write(2). */
static ssize_t send_some(struct port *p)
{
	size_t until = p->pipe_left > 0 ? p->pipe_at : p->out.len;
	ssize_t n;

	if (p->out_at == until)
		return send_pages(p);
	n = write(p->fd, p->out.at + p->out_at, until - p->out_at);
	p->out_at += n > 0 ? (size_t)n : 0;
	return n;
}

bool port_flush(struct port *p)
{
	while (p->writable && port_pending(p) > 0) {
		if (send_some(p) <= 0)
			p->writable = errno == EINTR;
		else
			p->connected = true;
	}
	if (port_pending(p) > 0)
		return false;
	buf_reset(&p->out);
	p->out_at = 0;
	p->urgent = false;
	return true;
}

void port_drain(struct port *p, uint64_t wait_ms)
{
	uint64_t until_ms = clock_mono_ms() + wait_ms;
	uint64_t now_ms = clock_mono_ms();

	while (!port_flush(p) && now_ms < until_ms) {
		struct pollfd pfd = { .fd = p->fd, .events = POLLOUT };

		if (poll(&pfd, 1, (int)(until_ms - now_ms)) > 0 && pfd.revents & POLLHUP)
			return;
		p->writable = true;
		now_ms = clock_mono_ms();
	}
}

static void fill(struct port *p)
{
	ssize_t n;

	if (p->in_at == p->in_end) {
		p->in_at = p->in_end = 0;
	} else if (p->in_at > PORT_IN_BYTES / 2) {
		memmove(p->in, p->in + p->in_at, p->in_end - p->in_at);
		p->in_end -= p->in_at;
		p->in_at = 0;
	}
	n = read(p->fd, p->in + p->in_end, PORT_IN_BYTES - p->in_end);
	if (n > 0) {
		p->connected = true;
		p->in_end += (size_t)n;
		return;
	}
	p->readable = n < 0 && errno == EINTR;
	if (n == 0)
		reset(p);
}

int port_next(struct port *p, struct wire_frame *ret)
{
	for (;;) {
		struct span in = span_of(p->in + p->in_at, p->in_end - p->in_at);
		int r = wire_parse_frame(&in, WIRE_FROM_HOST, ret);

		if (r == 0)
			p->in_at = p->in_end - in.len;
		if (r != -EAGAIN || !p->readable)
			return r;
		fill(p);
	}
}
