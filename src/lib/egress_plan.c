#include "lib/egress_plan.h"

#include "base/fdio.h"
#include "lib/egress_ask.h"
#include "policy/draft.h"
#include "policy/policy.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LISTEN_BACKLOG = 64 };

_Static_assert((int)CONTROL_SECRETS_MAX == (int)POLICY_SECRETS_MAX, "a value for each secret");
_Static_assert((int)CONTROL_SECRET_NAME_MAX == (int)POLICY_SECRET_NAME_MAX, "all of its name");
_Static_assert((int)CONTROL_REASON_MAX >= (int)POLICY_REASONS - 1, "every reason fits");

void egress_plan_init(struct egress_plan *p)
{
	*p = (struct egress_plan){ .policy_fd = -1, .roots_fd = -1, .import_fd = -1 };
}

void egress_plan_fini(struct egress_plan *p)
{
	own_close_fd(&p->policy_fd);
	own_close_fd(&p->roots_fd);
	own_close_fd(&p->import_fd);
	for (unsigned i = 0; i < p->secret_count; i++)
		own_close_fd(&p->secrets[i].fd);
	for (unsigned i = 0; i < p->port_count; i++)
		own_close_fd(&p->ports[i].fd);
	egress_plan_init(p);
}

/* --- the policy and the values --- */

static int seal(const char *name, struct span data, int *at, struct err *e)
{
	int fd = -1;
	int r = fd_sealed(name, data.at, data.len, &fd, e);

	if (r < 0)
		return r;
	own_close_fd(at);
	*at = fd;
	return 0;
}

int egress_plan_policy(struct egress_plan *p, struct span tlv, struct err *e)
{
	_own_(policy_free) struct policy *policy = NULL;
	int r;

	if (tlv.len > EGRESS_PLAN_POLICY)
		return err_set(e, -EFBIG, "the policy is larger than %d KiB once compiled",
		               EGRESS_PLAN_POLICY >> 10);
	r = policy_load(tlv, &policy, e);
	return r == 0 ? seal("berm-policy", tlv, &p->policy_fd, e) : r;
}

static int no_presets(void *arg, const char *name, char **ret_text, size_t *ret_len, struct err *e)
{
	(void)arg;
	(void)ret_text;
	(void)ret_len;
	return err_set(e, -ENOENT, "there is no preset '%s'", name);
}

int egress_plan_deny(struct egress_plan *p, struct err *e)
{
	_own_(policy_draft_free) struct policy_draft *draft = NULL;
	_own_free_ uint8_t *tlv = NULL;
	size_t len = 0;
	int r = policy_draft_new(no_presets, NULL, &draft, e);

	if (r == 0)
		r = policy_draft_compile(draft, 1, &tlv, &len, e);
	return r == 0 ? egress_plan_policy(p, span_of(tlv, len), e) : r;
}

int egress_plan_secret(struct egress_plan *p, const char *name, int fd, struct err *e)
{
	_own_fd_ int owned = fd;
	struct egress_secret *s = NULL;

	if (!control_parse_name_ok(span_str(name)))
		return err_set(e, -EINVAL,
		               "'%s' is no secret's name; write a variable's: letters, digits and "
		               "'_', at most %d, no digit first",
		               name, CONTROL_SECRET_NAME_MAX);
	for (unsigned i = 0; i < p->secret_count && !s; i++)
		s = strcmp(p->secrets[i].name, name) == 0 ? &p->secrets[i] : NULL;
	if (!s && p->secret_count == CONTROL_SECRETS_MAX)
		return err_set(e, -E2BIG, "more than %d secrets", CONTROL_SECRETS_MAX);
	if (s) {
		own_close_fd(&s->fd);
	} else {
		s = &p->secrets[p->secret_count++];
		(void)snprintf(s->name, sizeof(s->name), "%s", name);
	}
	s->fd = steal_fd(&owned);
	return 0;
}

int egress_plan_roots(struct egress_plan *p, struct span pem, struct err *e)
{
	if (pem.len == 0 || pem.len > CONTROL_ROOTS_BYTES)
		return err_set(e, -EINVAL, "certificates to be trusted: 1 to %d bytes",
		               CONTROL_ROOTS_BYTES);
	return seal("berm-roots", pem, &p->roots_fd, e);
}

/* --- ports --- */

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

static socklen_t make_address(const struct control_accepted *at, union address *ret)
{
	*ret = (union address){ 0 };
	if (at->family == 4) {
		ret->in.sin_family = AF_INET;
		ret->in.sin_port = htons(at->port);
		memcpy(&ret->in.sin_addr, at->addr, 4);
		return sizeof(ret->in);
	}
	ret->in6.sin6_family = AF_INET6;
	ret->in6.sin6_port = htons(at->port);
	memcpy(&ret->in6.sin6_addr, at->addr, 16);
	return sizeof(ret->in6);
}

/* What a person can do about it. */
static int cannot_listen(struct err *e)
{
	switch (errno) {
	case EADDRINUSE:
		return err_set(e, -EADDRINUSE,
		               "another program listens there; take another port, or 0 for any "
		               "free one");
	case EADDRNOTAVAIL:
		return err_set(e, -EADDRNOTAVAIL, "this host has no such address");
	case EACCES:
		return err_set(e, -EACCES,
		               "so low a port is root's; take one from 1024 on, or 0 for any free "
		               "one");
	default:
		return err_sys(e, "listen");
	}
}

static int listen_at(struct control_accepted *at, int *ret_fd, struct err *e)
{
	union address a;
	socklen_t len = make_address(at, &a);
	const int on = 1;
	_own_fd_ int fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return err_sys(e, "socket");
	/* a port of a moment ago is free again; and [::] is IPv6 alone, as 0.0.0.0 is IPv4 */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    (at->family == 6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0))
		return err_sys(e, "a listening socket's options");
	if (bind(fd, &a.any, len) < 0 || listen(fd, LISTEN_BACKLOG) < 0)
		return cannot_listen(e);
	if (getsockname(fd, &a.any, &len) < 0)
		return err_sys(e, "a listening socket's name");
	at->port = ntohs(at->family == 4 ? a.in.sin_port : a.in6.sin6_port);
	*ret_fd = steal_fd(&fd);
	return 0;
}

int egress_plan_publish(struct egress_plan *p, const struct publish *what, struct err *e)
{
	struct egress_port port = {
		.at = { .guest_port = what->guest_port,
		        .family = what->family,
		        .port = what->host_port },
		.fd = -1,
	};
	char word[PUBLISH_TEXT_MAX];
	struct buf b;
	int r;

	if (p->port_count == EGRESS_PORTS_MAX)
		return err_set(e, -E2BIG, "more than %d published ports", EGRESS_PORTS_MAX);
	memcpy(port.at.addr, what->addr, sizeof(port.at.addr));
	r = listen_at(&port.at, &port.fd, e);
	if (r < 0) {
		buf_init(&b, word, sizeof(word));
		publish_put(&b, what);
		(void)err_wrap(e, "publish %s", buf_cstr(&b));
		return r;
	}
	p->ports[p->port_count++] = port;
	return 0;
}

/* --- a fork's --- */

int egress_plan_inherit(struct egress_plan *p, int state_fd, const char *id, struct err *e)
{
	_own_free_ uint8_t *tlv = NULL;
	_own_fd_ int ask_fd = -1;
	int fd = -1;
	size_t len = 0;
	int r = egress_ask_open(state_fd, id, &ask_fd, e);

	if (r == 0 && p->policy_fd < 0) {
		r = egress_policy_read(state_fd, id, &tlv, &len, e);
		if (r == 0)
			r = egress_plan_policy(p, span_of(tlv, len), e);
	}
	if (r == 0)
		r = egress_ask_export(ask_fd, &fd, e);
	if (r < 0) {
		(void)err_wrap(e, "fork the network of %s", id);
		return r;
	}
	own_close_fd(&p->import_fd);
	p->import_fd = fd;
	return 0;
}

/* --- the handing over --- */

static int put(int sock, const struct buf *b, int fd, struct err *e)
{
	int r = buf_ok(b) ? control_send(sock, buf_span(b), fd) : -EMSGSIZE;

	return r == 0 ? 0 : err_set(e, r, "hand over the network's plan: %s", strerror(-r));
}

static int put_fd(int sock, uint8_t kind, int fd, struct err *e)
{
	uint8_t room[CONTROL_PACKET_MAX];
	struct buf b;

	if (fd < 0)
		return 0;
	buf_init(&b, room, sizeof(room));
	control_put_u32(&b, kind, 0);
	return put(sock, &b, fd, e);
}

static int put_secret(int sock, const struct egress_secret *s, struct err *e)
{
	const struct control_secret secret = { .name = span_str(s->name) };
	uint8_t room[CONTROL_PACKET_MAX];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	control_put_secret(&b, CONTROL_SECRET, &secret);
	return put(sock, &b, s->fd, e);
}

static int put_port(int sock, const struct egress_port *port, struct err *e)
{
	uint8_t room[CONTROL_PACKET_MAX];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	control_put_accepted(&b, CONTROL_LISTEN, &port->at);
	return put(sock, &b, port->fd, e);
}

int egress_plan_send(const struct egress_plan *p, int *ret_fd, struct err *e)
{
	_own_fd_ int ours = -1;
	_own_fd_ int theirs = -1;
	int fds[2];
	int r;

	if (p->policy_fd < 0)
		return err_set(e, -EINVAL, "a network needs a policy");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return err_sys(e, "socketpair");
	ours = fds[0];
	theirs = fds[1];
	r = put_fd(ours, CONTROL_POLICY, p->policy_fd, e);
	if (r == 0)
		r = put_fd(ours, CONTROL_ROOTS, p->roots_fd, e);
	if (r == 0)
		r = put_fd(ours, CONTROL_IMPORT, p->import_fd, e);
	for (unsigned i = 0; r == 0 && i < p->secret_count; i++)
		r = put_secret(ours, &p->secrets[i], e);
	for (unsigned i = 0; r == 0 && i < p->port_count; i++)
		r = put_port(ours, &p->ports[i], e);
	if (r == 0)
		*ret_fd = steal_fd(&theirs);
	return r;
}
