#include "gate/gate_inner.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

/*
 * Theory of operation
 *
 * A frame is taken whole or refused. Where the socket takes a part of one, the rest is copied and
 * goes first; until it is gone all others are refused, and the endpoint says them again
 * (tcp_resume()). So no frame is ever cut, and there is no queue that could grow.
 */

int card_init(struct card *c, int fd, struct err *e)
{
	c->in = malloc(GATE_CARD_BYTES);
	if (!c->in)
		return err_set(e, -ENOMEM, "out of memory");
	c->fd = fd;
	c->can_write = true;
	return 0;
}

void card_fini(struct card *c)
{
	free(c->in);
	if (c->fd >= 0)
		(void)close(c->fd);
}

/*
 * Bytes sent; 0: no room now. What is worse shows when the card is read. writev(), for sendmsg()
 * can name a peer, and the jail has no call that can.
 */
static size_t card_send(struct card *c, const struct iovec *iov, unsigned count)
{
	ssize_t n;

	do
		n = writev(c->fd, iov, (int)count);
	while (n < 0 && errno == EINTR);
	if (n < 0) {
		c->can_write = false;
		return 0;
	}
	return (size_t)n;
}

static bool send_rest(struct card *c)
{
	while (c->rest_len > 0 && c->can_write) {
		struct iovec iov = { .iov_base = c->rest + c->rest_at, .iov_len = c->rest_len };
		size_t n = card_send(c, &iov, 1);

		c->can_write = c->can_write && n == c->rest_len;
		c->rest_at += n;
		c->rest_len -= n;
	}
	return c->rest_len == 0;
}

static void keep_rest(struct card *c, const struct iovec *iov, unsigned count, size_t sent)
{
	c->rest_at = c->rest_len = 0;
	for (unsigned i = 0; i < count; i++) {
		size_t skip = sent < iov[i].iov_len ? sent : iov[i].iov_len;

		sent -= skip;
		memcpy(c->rest + c->rest_len, (const uint8_t *)iov[i].iov_base + skip,
		       iov[i].iov_len - skip);
		c->rest_len += iov[i].iov_len - skip;
	}
}

bool card_emit(void *gate, const struct iovec *iov, unsigned count, size_t bytes)
{
	struct gate *g = gate;
	struct card *c = &g->card;
	size_t sent;

	assert(count <= NET_FRAME_IOVS && bytes <= sizeof(c->rest));
	if (c->rest_len > 0 || !c->can_write)
		return false;
	sent = card_send(c, iov, count);
	if (sent == 0)
		return false;
	if (sent < bytes) {
		keep_rest(c, iov, count, sent);
		c->can_write = false; /* so that it is told when there is room again */
	}
	return true;
}

void card_writable(struct gate *g)
{
	g->card.can_write = true;
	if (send_rest(&g->card) && tcp_blocked(g->tcp))
		tcp_resume(g->tcp, g->now_ms);
}

static void take_frame(struct gate *g, struct span frame)
{
	struct net_packet p;

	if (!net_link_input(&g->link, frame, g->now_ms, &p))
		return;
	if (p.proto == NET_PROTO_TCP)
		tcp_input(g->tcp, &p, g->now_ms);
	else if (p.tuple.remote_port == 53)
		dns_datagram(g, &p);
	else
		udp_datagram(g, &p);
}

static void take_frames(struct gate *g)
{
	struct card *c = &g->card;
	struct span in = span_of(c->in, c->in_len);
	struct span frame;
	int r;

	for (r = frame_parse(&in, &frame); r == 0; r = frame_parse(&in, &frame))
		take_frame(g, frame);
	if (r != -EAGAIN) {
		gate_fail(g, -EBADMSG, "the guest's card sent what is no frame");
		return;
	}
	if (in.len > 0 && in.at != c->in)
		memmove(c->in, in.at, in.len);
	c->in_len = in.len;
}

void card_readable(struct gate *g)
{
	struct card *c = &g->card;

	for (unsigned i = 0; i < GATE_CARD_READS && g->fault.code == 0; i++) {
		size_t room = GATE_CARD_BYTES - c->in_len;
		ssize_t n = recv(c->fd, c->in + c->in_len, room, MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) { /* the engine has ended, and with it the sandbox */
			g->ended = true;
			return;
		}
		c->in_len += (size_t)n;
		take_frames(g);
	}
}
