#include "egress/link.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/*
 * Theory of operation
 *
 * Descriptors travel beside the bytes. The kernel keeps them with the byte they were sent with: a
 * recvmsg may return bytes from before it, but none after its message before it returned the
 * descriptors. So those that were received and not yet given out are a queue in the order of the
 * frames that carry one, and when such a frame is there, so is its descriptor. Sending cuts the
 * bytes where a frame with a descriptor begins.
 */

enum { FDS_AT_ONCE = 4 }; /* room in one recvmsg; a peer of ours sends one */

struct mark {
	size_t at; /* in out: where the frame begins */
	int fd;
};

struct egress_link {
	int fd;
	enum egress_side self;
	size_t in_at, in_len; /* what is read and not given out */
	int fds[EGRESS_FDS_MAX];
	size_t fd_count;
	struct buf out;
	size_t sent;  /* of out */
	size_t start; /* where the frame being written begins */
	struct mark marks[EGRESS_FDS_MAX];
	size_t mark_count;
	uint8_t in_bytes[EGRESS_IN_BYTES];
	uint8_t out_bytes[EGRESS_OUT_BYTES];
};

int egress_link_new(int fd, enum egress_side self, struct egress_link **ret, struct err *e)
{
	struct egress_link *l = malloc(sizeof(*l));

	if (!l)
		return err_set(e, -ENOMEM, "out of memory");
	memset(l, 0, offsetof(struct egress_link, in_bytes)); /* the pages of the rest stay away */
	l->fd = fd;
	l->self = self;
	buf_init(&l->out, l->out_bytes, sizeof(l->out_bytes));
	*ret = l;
	return 0;
}

void egress_link_free(struct egress_link *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->fd_count; i++)
		(void)close(l->fds[i]);
	for (size_t i = 0; i < l->mark_count; i++)
		(void)close(l->marks[i].fd);
	(void)close(l->fd);
	free(l);
}

int egress_link_fd(const struct egress_link *l)
{
	return l->fd;
}

/* --- reading --- */

union control {
	struct cmsghdr align;
	uint8_t bytes[CMSG_SPACE(FDS_AT_ONCE * sizeof(int))];
};

/* Queues what came, or closes it. False: it may not be. */
static bool take_fds(struct egress_link *l, struct msghdr *msg)
{
	bool ok = !(msg->msg_flags & MSG_CTRUNC);

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t bytes;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		bytes = c->cmsg_len - CMSG_LEN(0);
		for (size_t at = 0; at + sizeof(int) <= bytes; at += sizeof(int)) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + at, sizeof(fd));
			if (l->self == EGRESS_FROM_VAULT || l->fd_count == EGRESS_FDS_MAX) {
				(void)close(fd);
				ok = false;
				continue;
			}
			l->fds[l->fd_count++] = fd;
		}
	}
	return ok;
}

int egress_link_recv(struct egress_link *l, struct err *e)
{
	union control control;
	struct iovec iov;
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (l->in_at > 0) {
		memmove(l->in_bytes, l->in_bytes + l->in_at, l->in_len);
		l->in_at = 0;
	}
	if (l->in_len == sizeof(l->in_bytes))
		return 0; /* whole frames wait to be given out */
	iov.iov_base = l->in_bytes + l->in_len;
	iov.iov_len = sizeof(l->in_bytes) - l->in_len;
	msg.msg_control = &control;
	msg.msg_controllen = sizeof(control);
	n = recvmsg(l->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0) {
		if (errno == EAGAIN || errno == EINTR)
			return 0;
		return err_sys(e, "read from the %s",
		               l->self == EGRESS_FROM_GATE ? "vault" : "gate");
	}
	if (!take_fds(l, &msg))
		return err_set(e, -EBADMSG, "descriptors where none may be");
	if (n == 0)
		return err_set(e, -EPIPE, "the %s closed",
		               l->self == EGRESS_FROM_GATE ? "vault" : "gate");
	l->in_len += (size_t)n;
	return 0;
}

/* Does a frame of this kind come with one? */
static bool carries_fd(const struct egress_frame *f)
{
	return f->type == EGRESS_CONNECTED && f->payload.at[0] == EGRESS_OK;
}

int egress_link_next(struct egress_link *l, struct egress_frame *ret, int *ret_fd)
{
	struct span in = span_of(l->in_bytes + l->in_at, l->in_len);
	enum egress_side peer = l->self == EGRESS_FROM_GATE ? EGRESS_FROM_VAULT : EGRESS_FROM_GATE;
	struct egress_frame got;
	int fd = -1;
	int r = egress_parse_frame(&in, peer, &got);

	if (r < 0)
		return r;
	if (carries_fd(&got)) {
		if (l->fd_count == 0)
			return -EBADMSG;
		fd = l->fds[0];
		l->fd_count--;
		memmove(l->fds, l->fds + 1, l->fd_count * sizeof(l->fds[0]));
	}
	l->in_at += l->in_len - in.len;
	l->in_len = in.len;
	*ret = got;
	*ret_fd = fd;
	return 0;
}

/* --- writing --- */

struct buf *egress_link_out(struct egress_link *l)
{
	if (l->sent > 0) {
		memmove(l->out_bytes, l->out_bytes + l->sent, l->out.len - l->sent);
		l->out.len -= l->sent;
		for (size_t i = 0; i < l->mark_count; i++)
			l->marks[i].at -= l->sent;
		l->sent = 0;
	}
	l->start = l->out.len;
	return &l->out;
}

bool egress_link_commit(struct egress_link *l, int fd)
{
	if (!buf_ok(&l->out) || (fd >= 0 && l->mark_count == EGRESS_FDS_MAX)) {
		l->out.over = false;
		l->out.len = l->start;
		return false;
	}
	assert(l->out.len > l->start);
	if (fd >= 0)
		l->marks[l->mark_count++] = (struct mark){ .at = l->start, .fd = fd };
	return true;
}

size_t egress_link_room(const struct egress_link *l)
{
	return EGRESS_OUT_BYTES - (l->out.len - l->sent);
}

bool egress_link_waits(const struct egress_link *l)
{
	return l->out.len > l->sent;
}

/* Up to where the next descriptor but the one that goes with these bytes belongs. */
static size_t until(const struct egress_link *l, bool with_fd)
{
	size_t next = with_fd ? 1 : 0;

	return l->mark_count > next ? l->marks[next].at : l->out.len;
}

static void attach(struct msghdr *msg, union control *control, int fd)
{
	struct cmsghdr *c;

	memset(control, 0, sizeof(*control));
	msg->msg_control = control;
	msg->msg_controllen = CMSG_SPACE(sizeof(fd));
	c = CMSG_FIRSTHDR(msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
}

int egress_link_flush(struct egress_link *l, struct err *e)
{
	while (l->out.len > l->sent) {
		bool with_fd = l->mark_count > 0 && l->marks[0].at == l->sent;
		struct iovec iov = { .iov_base = l->out_bytes + l->sent,
			             .iov_len = until(l, with_fd) - l->sent };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
		union control control;
		ssize_t n;

		/* the gate, which sends none, may be denied sendmsg(): it can name a peer */
		if (with_fd) {
			attach(&msg, &control, l->marks[0].fd);
			n = sendmsg(l->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		} else {
			n = send(l->fd, iov.iov_base, iov.iov_len, MSG_DONTWAIT | MSG_NOSIGNAL);
		}
		if (n < 0) {
			if (errno == EAGAIN || errno == EINTR)
				return 0;
			return err_sys(e, "write to the %s",
			               l->self == EGRESS_FROM_GATE ? "vault" : "gate");
		}
		if (with_fd) { /* went with the first of the bytes */
			(void)close(l->marks[0].fd);
			l->mark_count--;
			memmove(l->marks, l->marks + 1, l->mark_count * sizeof(l->marks[0]));
		}
		l->sent += (size_t)n;
	}
	l->out.len = 0;
	l->sent = 0;
	return 0;
}
