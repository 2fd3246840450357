#include "sup/link.h"

#include "base/fdio.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

int link_new(int fd, enum wire_side peer, struct link **ret, struct err *e)
{
	_own_(link_free) struct link *l = calloc(1, sizeof(*l));
	uint8_t *out;

	if (!l) {
		(void)close(fd);
		return err_set(e, -ENOMEM, "out of memory");
	}
	l->fd = fd;
	l->peer = peer;
	l->in = malloc(LINK_IN_BYTES);
	out = malloc(LINK_OUT_BYTES);
	buf_init(&l->out, out, LINK_OUT_BYTES);
	if (!l->in || !out)
		return err_set(e, -ENOMEM, "out of memory");
	if (fd_set_nonblock(fd) < 0)
		return err_sys(e, "make a connection non-blocking");
	*ret = steal_ptr(&l);
	return 0;
}

void link_free(struct link *l)
{
	if (!l)
		return;
	(void)close(l->fd);
	free(l->in);
	free(l->out.at);
	free(l);
}

int link_read(struct link *l)
{
	ssize_t n;

	if (l->in_at > 0) {
		memmove(l->in, l->in + l->in_at, l->in_len - l->in_at);
		l->in_len -= l->in_at;
		l->in_at = 0;
	}
	if (l->in_len == LINK_IN_BYTES)
		return -ENOBUFS;
	do
		n = read(l->fd, l->in + l->in_len, LINK_IN_BYTES - l->in_len);
	while (n < 0 && errno == EINTR);
	if (n == 0 || (n < 0 && errno == ECONNRESET))
		return -EPIPE;
	if (n < 0)
		return -errno; /* EAGAIN among them */
	l->in_len += (size_t)n;
	return 0;
}

int link_next(struct link *l, struct wire_frame *ret)
{
	struct span in = span_of(l->in + l->in_at, l->in_len - l->in_at);
	int r = wire_parse_frame(&in, l->peer, ret);

	if (r == 0)
		l->in_at = l->in_len - in.len;
	return r;
}

size_t link_room(struct link *l)
{
	if (l->out_at > 0) {
		memmove(l->out.at, l->out.at + l->out_at, l->out.len - l->out_at);
		l->out.len -= l->out_at;
		l->data_end = l->data_at < l->out_at ? 0 : l->data_end - l->out_at;
		l->data_at -= l->data_end > 0 ? l->out_at : 0;
		l->out_at = 0;
	}
	return l->out.size - l->out.len;
}

static bool joins(const struct link *l, uint8_t channel, uint32_t stream, size_t len)
{
	return l->data_end > 0 && l->data_end == l->out.len && l->data_at >= l->out_at &&
	       l->data_channel == channel && l->data_stream == stream &&
	       len <= WIRE_HEADER_BYTES + WIRE_DATA_MAX - (l->data_end - l->data_at);
}

void link_put_data(struct link *l, uint8_t channel, uint32_t stream, uint32_t epoch,
                   struct span data)
{
	if (joins(l, channel, stream, data.len)) {
		buf_put_span(&l->out, data);
		wire_set_length(&l->out, l->data_at);
	} else {
		l->data_at = l->out.len;
		l->data_channel = channel;
		l->data_stream = stream;
		wire_put(&l->out, WIRE_DATA, channel, stream, epoch, data);
	}
	l->data_end = l->out.len;
}

int link_flush(struct link *l)
{
	while (link_pending(l)) {
		ssize_t n =
			send(l->fd, l->out.at + l->out_at, l->out.len - l->out_at, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return -EAGAIN;
		if (n < 0)
			return -EPIPE;
		l->out_at += (size_t)n;
	}
	l->out.len = 0;
	l->out_at = 0;
	l->data_end = 0;
	return 0;
}
