#include "gate/gate_inner.h"

#include <errno.h>
#include <sys/socket.h>

/*
 * Connections from outside to a port of the guest's. The supervisor listens and accepts; the socket
 * comes here and is joined to a connection to the guest, from the router's address and a port of
 * ours. From then on it is passed like any other. No rule judges it: the user opened the port. What
 * cannot be taken is reset, and those that are open stay.
 */

enum { PORT_FIRST = 32768, PORT_COUNT = 28232 };

/* The peer sees a reset, not an orderly end. */
static void reset(int fd)
{
	const struct linger l = { .l_onoff = 1, .l_linger = 0 };

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	(void)close(fd);
}

static int call_guest(struct gate *g, struct flow *f, uint16_t guest_port)
{
	struct net_tuple t = {
		.guest = g->link.config.guest4,
		.remote = g->link.config.router4,
		.guest_port = guest_port,
	};
	int r = -EEXIST;

	for (unsigned i = 0; i < GATE_PORTS_TRIED && r == -EEXIST; i++) {
		t.remote_port = (uint16_t)(PORT_FIRST + g->port_next);
		g->port_next = (uint16_t)((g->port_next + 1) % PORT_COUNT);
		r = tcp_connect(g->tcp, &t, f, g->now_ms, &f->tcp);
	}
	return r;
}

/* Whoever may connect from outside shall not keep the guest from connecting. */
static bool has_room(const struct gate *g)
{
	uint32_t max = g->fds_max / 2 < GATE_PUBLISHED_MAX ? g->fds_max / 2 : GATE_PUBLISHED_MAX;

	return g->flows_published < max && g->flows_count < g->fds_max &&
	       tcp_table_stats(g->tcp)->blocks_used <= GATE_RINGS - 2 * GATE_RINGS_SPARE;
}

void publish_accepted(struct gate *g, const struct control_accepted *a, int fd)
{
	struct flow *f = has_room(g) ? flow_take(g, NULL) : NULL;

	if (!f || call_guest(g, f, a->guest_port) < 0) {
		if (f)
			flow_free(g, f);
		g->stats.published_refused++;
		reset(fd);
		return;
	}
	f->published = true;
	g->flows_published++;
	flow_become(g, f, FLOW_CALLING);
	f->fd = fd;
	if (!gate_watch(g, fd, SOURCE_FLOW, flow_index(g, f))) {
		g->stats.published_refused++;
		flow_abort(g, f);
		return;
	}
	g->stats.published++;
}
