/*
 * Theory of operation
 *
 * A flow that is passed through costs no copy here: the vault connects a socket to the address that
 * was judged and gives it to the gate, which has no socket(), connect() or sendto() of its own, so
 * that it can say bytes to that one peer only. A duplicate stays here, never read or written. When
 * a policy does not allow the flow any more it is shut down by it, whatever the gate does.
 *
 * A flow is DIALING until the socket is connected, UNTOLD until its CONNECTED has found room in the
 * link, which takes few descriptors at a time, then LIVE until the gate ends its half.
 */
#include "vault/inner.h"

#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

enum flow_state { FLOW_DIALING, FLOW_UNTOLD, FLOW_LIVE };

struct flow {
	struct vault *v;
	uint32_t stream, number;
	int fd;
	uint8_t state; /* enum flow_state */
	struct watch *watch;
	struct alarm *limit;
	struct host_name name;
	const struct host_name *names; /* what ask.names points to */
	struct policy_ask ask;
};

static void flow_free(struct flow *f)
{
	struct vault *v = f->v;

	if (f->state == FLOW_DIALING)
		v->dials--;
	if (f->state == FLOW_UNTOLD)
		v->untold--;
	peer_tie(v, f->stream, 0);
	slots_remove(&v->flows, f->number);
	watch_free(f->watch);
	alarm_free(f->limit);
	own_close_fd(&f->fd);
	free(f);
}

void flow_free_all(struct vault *v)
{
	uint32_t number = 1;
	struct flow *f;

	while ((f = slots_next(&v->flows, &number)) != NULL)
		flow_free(f);
}

static void say_failed(struct vault *v, uint32_t stream, enum egress_fail why)
{
	const struct egress_connected c = { .fail = (uint8_t)why };

	egress_put_connected(peer_begin(v), stream, &c);
	peer_must(v);
}

static void fail(struct flow *f, enum egress_fail why)
{
	struct vault *v = f->v;
	uint32_t stream = f->stream;

	flow_free(f);
	say_failed(v, stream, why);
}

/* Why there is no connection; flow and upstream alike. */
enum egress_fail flow_fail_of(int error)
{
	switch (error) {
	case ECONNREFUSED:
	case ECONNRESET:
		return EGRESS_REFUSED;
	case ETIMEDOUT:
		return EGRESS_TIMEOUT;
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
	case EAGAIN: /* no local port is left */
		return EGRESS_LIMIT;
	case ENETUNREACH:
	case EHOSTUNREACH:
	case EADDRNOTAVAIL:
	case EACCES:
	case EPERM:
	case ENETDOWN:
	case EHOSTDOWN:
	case EAFNOSUPPORT:
	case EINVAL:
		return EGRESS_UNREACHABLE;
	default:
		return EGRESS_INTERNAL;
	}
}

/* 0 with a socket that is connected or about to be, or -errno. */
int flow_dial(const struct policy_addr *a, uint16_t port, bool udp, int *ret_fd)
{
	struct sockaddr_in in4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	const struct sockaddr *to =
		a->v4 ? (const struct sockaddr *)&in4 : (const struct sockaddr *)&in6;
	socklen_t len = a->v4 ? sizeof(in4) : sizeof(in6);
	int type = udp ? SOCK_DGRAM : SOCK_STREAM;
	_own_fd_ int fd = -1;
	int on = 1;

	memcpy(&in4.sin_addr, a->at + 12, 4);
	memcpy(&in6.sin6_addr, a->at, 16);
	fd = socket(a->v4 ? AF_INET : AF_INET6, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* an IPv4 address in an IPv6 one is judged as what it is, and is never dialled */
	if (!a->v4 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0)
		return -errno;
	if (!udp && (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0 ||
	             setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) < 0))
		return -errno;
	if (connect(fd, to, len) < 0 && errno != EINPROGRESS)
		return -errno;
	*ret_fd = steal_fd(&fd);
	return 0;
}

/* False: it stays untold, and is tried again when the link has room. */
static bool tell(struct flow *f)
{
	const struct egress_connected c = { .fail = EGRESS_OK };
	struct vault *v = f->v;
	int twin = fcntl(f->fd, F_DUPFD_CLOEXEC, 0);

	if (twin < 0) {
		fail(f, EGRESS_LIMIT);
		return true;
	}
	egress_put_connected(peer_begin(v), f->stream, &c);
	if (!peer_send(v, twin)) {
		(void)close(twin);
		return false;
	}
	v->untold--;
	f->state = FLOW_LIVE;
	return true;
}

static void connected(struct flow *f)
{
	struct vault *v = f->v;

	watch_free(f->watch);
	alarm_free(f->limit);
	f->watch = NULL;
	f->limit = NULL;
	v->dials--;
	v->untold++;
	f->state = FLOW_UNTOLD;
	if (tell(f))
		return;
	peer_flush(v); /* others that wait go first */
}

static void on_dialled(void *user, bool readable, bool writable)
{
	struct flow *f = user;
	socklen_t len = sizeof(int);
	int error = 0;

	(void)readable;
	if (!writable)
		return;
	if (getsockopt(f->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error)
		fail(f, flow_fail_of(error));
	else
		connected(f);
}

static void on_late(void *user)
{
	fail(user, EGRESS_TIMEOUT);
}

static void dial(struct flow *f, uint16_t port, bool udp)
{
	struct vault *v = f->v;
	int r = flow_dial(&f->ask.addr, port, udp, &f->fd);

	if (r < 0) {
		fail(f, flow_fail_of(-r));
		return;
	}
	if (udp) {
		connected(f);
		return;
	}
	if (watch_new(&v->loop, f->fd, on_dialled, f, &f->watch, NULL) < 0 ||
	    alarm_new(&v->loop, on_late, f, &f->limit, NULL) < 0) {
		fail(f, EGRESS_INTERNAL);
		return;
	}
	watch_set(f->watch, false, true);
	alarm_set(f->limit, VAULT_CONNECT_MS);
}

void flow_connect(struct vault *v, uint32_t stream, const struct egress_connect *c)
{
	struct judge j = vault_judge(v);
	struct policy_verdict verdict;
	enum egress_fail why;
	struct flow *f;

	v->stats.connects++;
	if (v->dials == VAULT_DIALS_MAX || v->flows.count >= v->flows_max) {
		say_failed(v, stream, EGRESS_LIMIT);
		return;
	}
	f = calloc(1, sizeof(*f));
	if (!f || slots_add(&v->flows, f, &f->number) < 0) {
		free(f);
		say_failed(v, stream, EGRESS_LIMIT);
		return;
	}
	f->v = v;
	f->stream = stream;
	f->fd = -1;
	f->state = FLOW_DIALING;
	v->dials++;
	peer_tie(v, stream, f->number);
	why = judge_connect(&j, c, &f->name, &f->names, &f->ask, &verdict);
	if (why != EGRESS_OK)
		fail(f, why);
	else
		dial(f, c->port, c->protocol == EGRESS_UDP);
}

void flow_end(struct vault *v, uint32_t number, bool reset)
{
	const struct linger abrupt = { .l_onoff = 1 };
	struct flow *f = slots_find(&v->flows, number);
	bool live;
	uint32_t stream;

	if (!f)
		return;
	live = f->state == FLOW_LIVE;
	stream = f->stream;
	/* ours may be the last descriptor: the peer learns how it ended */
	if (live && reset)
		(void)setsockopt(f->fd, SOL_SOCKET, SO_LINGER, &abrupt, sizeof(abrupt));
	flow_free(f);
	/* our half ends by END if it has begun; else it is told that it never will */
	if (live)
		peer_end(v, stream);
	else if (reset)
		peer_reset(v, stream, EGRESS_CANCELLED);
	else
		say_failed(v, stream, EGRESS_CANCELLED);
}

void flow_tell_all(struct vault *v)
{
	uint32_t number = 1;
	struct flow *f;

	while (v->untold > 0 && (f = slots_next(&v->flows, &number)) != NULL)
		if (f->state == FLOW_UNTOLD && !tell(f))
			return;
}

static void revoke_flow(struct flow *f)
{
	struct vault *v = f->v;
	uint32_t stream = f->stream;

	if (f->state != FLOW_LIVE) {
		fail(f, EGRESS_REVOKED_BY_POLICY);
		return;
	}
	(void)shutdown(f->fd, SHUT_RDWR); /* the gate's descriptor is the same socket */
	flow_free(f);
	egress_put_u32(peer_begin(v), EGRESS_REVOKED, stream, v->generation);
	peer_must(v);
}

void flow_judge_all(struct vault *v, const struct policy *old)
{
	struct judge j = vault_judge(v);
	uint32_t number = 1;
	struct flow *f;

	while ((f = slots_next(&v->flows, &number)) != NULL)
		if (judge_keeps(&j, old, &f->ask, false) != EGRESS_OK)
			revoke_flow(f);
}
