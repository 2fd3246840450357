#include "lib/client.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

int client_new(int fd, struct client **ret_client, struct err *e)
{
	_own_(client_free) struct client *c = calloc(1, sizeof(*c));
	_own_fd_ int owned = fd;
	uint8_t *out;

	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	c->fd = steal_fd(&owned);
	/* large enough to be mapped, so pages that are never used cost nothing */
	c->in = malloc(CLIENT_IN_BYTES);
	out = malloc(CLIENT_OUT_BYTES);
	buf_init(&c->out, out, CLIENT_OUT_BYTES);
	if (!c->in || !out)
		return err_set(e, -ENOMEM, "out of memory");
	*ret_client = steal_ptr(&c);
	return 0;
}

void client_free(struct client *c)
{
	if (!c)
		return;
	(void)close(c->fd);
	for (size_t i = 0; i < c->fd_count; i++)
		(void)close(c->fds[i]);
	free(c->in);
	free(c->out.at);
	free(c);
}

size_t client_room(const struct client *c)
{
	return c->out.size - c->out.len;
}

/* Whatever was sent makes room at the front; bytes are moved only when the back is used up. */
static void pull_up(struct client *c)
{
	if (client_pending(c) && client_room(c) >= CLIENT_ROOM_MIN)
		return;
	c->out.len -= c->out_sent;
	memmove(c->out.at, c->out.at + c->out_sent, c->out.len);
	c->out_sent = 0;
}

int client_send(struct client *c, struct err *e)
{
	/* our own frames: everybody asks client_room() or sends few and small ones */
	if (!buf_ok(&c->out))
		return err_set(e, -EMSGSIZE, "the request is longer than %d bytes",
		               CLIENT_OUT_BYTES);
	while (client_pending(c)) {
		ssize_t n = send(c->fd, c->out.at + c->out_sent, c->out.len - c->out_sent,
		                 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			return err_set(e, -EPIPE, "the sandbox's supervisor has gone");
		if (n < 0)
			return err_sys(e, "send to the supervisor");
		c->out_sent += (size_t)n;
	}
	pull_up(c);
	return 0;
}

bool client_take_fds(struct client *c, int *ret_fds, size_t count)
{
	if (c->fd_count != count)
		return false;
	memcpy(ret_fds, c->fds, count * sizeof(int));
	c->fd_count = 0;
	return true;
}

/* More than fit are closed: nobody asked for them. */
static void keep_fds(struct client *c, const struct cmsghdr *h)
{
	size_t count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);

	for (size_t i = 0; i < count; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(fd));
		if (c->fd_count < CLIENT_FDS_MAX)
			c->fds[c->fd_count++] = fd;
		else
			(void)close(fd);
	}
}

/* As recv(2) of what is there. */
static ssize_t receive(struct client *c)
{
	_Alignas(struct cmsghdr) char room[CMSG_SPACE(CLIENT_FDS_MAX * sizeof(int))];
	struct iovec iov = { .iov_base = c->in + c->in_to, .iov_len = CLIENT_IN_BYTES - c->in_to };
	struct msghdr m = { .msg_iov = &iov,
		            .msg_iovlen = 1,
		            .msg_control = room,
		            .msg_controllen = sizeof(room) };
	ssize_t n = recvmsg(c->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	for (struct cmsghdr *h = n >= 0 ? CMSG_FIRSTHDR(&m) : NULL; h; h = CMSG_NXTHDR(&m, h))
		if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS)
			keep_fds(c, h);
	return n;
}

int client_receive(struct client *c, struct err *e)
{
	ssize_t n;

	if (c->in_from > 0) {
		memmove(c->in, c->in + c->in_from, c->in_to - c->in_from);
		c->in_to -= c->in_from;
		c->in_from = 0;
	}
	if (c->in_to == CLIENT_IN_BYTES)
		return 0; /* whole frames are there to be taken first */
	do
		n = receive(c);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n == 0 || (n < 0 && errno == ECONNRESET))
		return err_set(e, -ENODATA, "the sandbox's supervisor has gone");
	if (n < 0)
		return err_sys(e, "receive from the supervisor");
	c->in_to += (size_t)n;
	return 0;
}

static int greet(struct client *c, struct span payload, struct err *e)
{
	struct wire_hello hello;

	if (wire_parse_hello(payload, &hello) < 0)
		return err_set(e, -EPROTO, "the supervisor's greeting is damaged");
	if (hello.version != WIRE_VERSION)
		return err_set(e, -EPROTO,
		               "this sandbox was started by another version of berm (protocol %u, "
		               "this one speaks %d): use that version to end it",
		               (unsigned)hello.version, WIRE_VERSION);
	c->greeted = true;
	return 0;
}

static int refused(struct span payload, struct err *e)
{
	struct span text;

	if (wire_parse_text(payload, &text) < 0)
		return err_set(e, -EPROTO, "the supervisor refused, and does not say why");
	return err_set(e, -EPROTO, "the supervisor refused: %.*s", (int)text.len,
	               (const char *)text.at);
}

int client_next(struct client *c, struct wire_frame *ret, struct err *e)
{
	for (;;) {
		struct span in = span_of(c->in + c->in_from, c->in_to - c->in_from);
		size_t before = in.len;
		struct wire_frame f;
		int r = wire_parse_frame(&in, WIRE_FROM_SUPERVISOR, &f);

		if (r == -EAGAIN)
			return -EAGAIN;
		if (r < 0 || f.epoch != CLIENT_EPOCH)
			return err_set(e, -EPROTO, "the supervisor does not speak berm's protocol");
		c->in_from += before - in.len;
		if (f.type == WIRE_REFUSE)
			return refused(f.payload, e);
		if (f.type != WIRE_HELLO && !c->greeted)
			return err_set(e, -EPROTO, "the supervisor sent %s before its greeting",
			               wire_type_name(f.type));
		if (f.type != WIRE_HELLO) {
			*ret = f;
			return 0;
		}
		r = greet(c, f.payload, e);
		if (r < 0)
			return r;
	}
}

static int wait_frame(struct client *c, uint64_t deadline_ms, struct wire_frame *ret, struct err *e)
{
	if (c->until_ms && c->until_ms < deadline_ms)
		deadline_ms = c->until_ms;
	for (;;) {
		struct pollfd p = { .fd = c->fd, .events = POLLIN };
		int r = client_next(c, ret, e);

		if (r != -EAGAIN)
			return r;
		r = client_send(c, e);
		/* what it said before it went may still be there to be read */
		if (r < 0 && r != -EPIPE)
			return r;
		if (client_pending(c) && r == 0)
			p.events |= POLLOUT;
		r = poll(&p, 1, clock_left_ms(deadline_ms));
		if (r < 0 && errno != EINTR)
			return err_sys(e, "poll");
		if (r == 0)
			return err_set(e, -ETIMEDOUT,
			               "the sandbox's supervisor did not answer in time");
		r = client_receive(c, e);
		if (r < 0)
			return r;
	}
}

static uint64_t deadline_of(int timeout_ms)
{
	return timeout_ms < 0 ? UINT64_MAX : clock_mono_ms() + (uint64_t)timeout_ms;
}

int client_wait(struct client *c, int timeout_ms, struct wire_frame *ret, struct err *e)
{
	return wait_frame(c, deadline_of(timeout_ms), ret, e);
}

int client_expect(struct client *c, uint8_t type, int timeout_ms, struct wire_frame *ret,
                  struct err *e)
{
	uint64_t deadline_ms = deadline_of(timeout_ms);
	struct wire_frame f;

	for (;;) {
		int r = wait_frame(c, deadline_ms, &f, e);

		if (r < 0)
			return r;
		if (f.type == type) {
			*ret = f;
			return 0;
		}
	}
}
