#include "sup/sup.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "lib/start.h"
#include "policy/tlv.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- a policy --- */

struct reading {
	struct policy *policy;
	uint8_t *tlv;
	size_t len;
};

/* Its bytes, once, with our own number in them; sealed anew for the vault. */
static int read_policy(int fd, uint32_t generation, struct reading *ret, int *ret_fd, struct err *e)
{
	_own_free_ uint8_t *tlv = malloc(EGRESS_PLAN_POLICY + 1);
	ssize_t n;
	int r;

	if (!tlv)
		return err_set(e, -ENOMEM, "out of memory");
	n = pread(fd, tlv, EGRESS_PLAN_POLICY + 1, 0);
	if (n < 0)
		return err_sys(e, "read the policy");
	if (n < TLV_HEADER_BYTES || n > EGRESS_PLAN_POLICY)
		return err_set(e, -EBADMSG, "the policy is no compiled one, or over %d KiB",
		               EGRESS_PLAN_POLICY >> 10);
	for (unsigned i = 0; i < 8; i++)
		tlv[TLV_GENERATION_AT + i] = i < 4 ? (uint8_t)(generation >> 8 * i) : 0;
	r = fd_sealed("berm-policy", tlv, (size_t)n, ret_fd, e);
	if (r == 0) {
		r = policy_load(span_of(tlv, (size_t)n), &ret->policy, e);
		if (r < 0)
			(void)close(steal_fd(ret_fd));
	}
	if (r < 0)
		return r;
	ret->tlv = steal_ptr(&tlv);
	ret->len = (size_t)n;
	return 0;
}

/* --- what the start brought --- */

/* The vault reads nothing before its jail is closed, and all of this may lie in its socket. */
static int tell_vault(struct sup *s, const struct buf *b, int fd, struct err *e)
{
	const uint64_t deadline_ms = clock_mono_ms() + COMPANION_READY_MS;
	struct companion *const vault = &s->net.vault.c;
	int r;

	for (;;) {
		r = control_send(vault->control_fd, buf_span(b), fd);
		if (r != -EAGAIN)
			break;
		r = companion_wait(&vault, 1, true, deadline_ms, e);
		if (r < 0)
			return r;
	}
	if (r == -EPIPE)
		return companion_gone(vault, e);
	return r < 0 ? err_set(e, r, "tell the vault: %s", strerror(-r)) : 0;
}

static int pass_secret(struct sup *s, struct span payload, int fd, struct err *e)
{
	struct sup_egress *n = &s->net;
	uint8_t room[CONTROL_PACKET_MAX];
	struct control_secret secret;
	struct buf b;

	if (control_parse_secret(CONTROL_SECRET, payload, &secret) < 0 ||
	    n->secret_count == CONTROL_SECRETS_MAX)
		return err_set(e, -EBADMSG, "the network's plan is damaged");
	memcpy(n->secrets[n->secret_count].name, secret.name.at, secret.name.len);
	secret.serial = ++n->secret_count;
	n->answers_due++;
	buf_init(&b, room, sizeof(room));
	control_put_secret(&b, CONTROL_SECRET, &secret);
	return tell_vault(s, &b, fd, e);
}

static int pass_number(struct sup *s, uint8_t kind, uint32_t number, int fd, struct err *e)
{
	uint8_t room[CONTROL_PACKET_MAX];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	control_put_u32(&b, kind, number);
	return tell_vault(s, &b, fd, e);
}

/* Takes fd on success. */
static int take_port(struct sup *s, struct span payload, int fd, struct err *e)
{
	struct sup_egress *n = &s->net;
	struct sup_port *port = &n->ports[n->port_count];

	if (n->port_count == EGRESS_PORTS_MAX || control_parse_accepted(payload, &port->at) < 0 ||
	    fd_set_nonblock(fd) < 0)
		return err_set(e, -EBADMSG, "the network's plan is damaged");
	port->sup = s;
	port->fd = fd;
	n->port_count++;
	return 0;
}

/* One packet of the plan. The policy's fd is kept for the end; every other is used here. */
static int take_part(struct sup *s, const struct control_packet *p, int *fd, int *policy_fd,
                     struct err *e)
{
	struct sup_egress *n = &s->net;
	uint8_t byte;
	int r;

	switch (p->kind) {
	case CONTROL_POLICY:
		if (*policy_fd >= 0)
			break;
		*policy_fd = steal_fd(fd);
		return 0;
	case CONTROL_SECRET:
		return pass_secret(s, p->payload, *fd, e);
	case CONTROL_ROOTS:
		n->answers_due++;
		return pass_number(s, p->kind, SUP_SERIAL_ROOTS, *fd, e);
	case CONTROL_IMPORT:
		if (n->import_due)
			break;
		if (recv(*fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0) /* its parent has none */
			return 0;
		n->import_due = true;
		return pass_number(s, p->kind, SUP_SERIAL_IMPORT, *fd, e);
	case CONTROL_LISTEN:
		r = take_port(s, p->payload, *fd, e);
		if (r == 0)
			(void)steal_fd(fd);
		return r;
	default:
		break;
	}
	return err_set(e, -EBADMSG, "the network's plan is damaged");
}

static int read_parts(struct sup *s, int *policy_fd, struct err *e)
{
	for (;;) {
		uint8_t room[CONTROL_PACKET_MAX];
		struct control_packet p;
		struct span packet;
		_own_fd_ int fd = -1;
		int r = control_recv(START_FD_EGRESS, room, &packet, &fd);

		if (r == -EPIPE) /* all of it */
			return 0;
		if (r < 0)
			return err_set(e, r, "the network's plan cannot be read: %s", strerror(-r));
		if (control_parse_packet(packet, CONTROL_FROM_COMMAND, &p) < 0 ||
		    control_carries_fd(p.kind) != (fd >= 0))
			return err_set(e, -EBADMSG, "the network's plan is damaged");
		r = take_part(s, &p, &fd, policy_fd, e);
		if (r < 0)
			return r;
	}
}

int sup_read_plan(struct sup *s, struct err *e)
{
	struct sup_egress *n = &s->net;
	_own_fd_ int policy_fd = -1;
	_own_fd_ int sealed_fd = -1;
	struct reading got = { 0 };
	int r = read_parts(s, &policy_fd, e);

	(void)close(START_FD_EGRESS);
	if (r == 0 && policy_fd < 0)
		r = err_set(e, -EINVAL, "a network needs a policy");
	if (r == 0)
		r = read_policy(policy_fd, 1, &got, &sealed_fd, e);
	if (r < 0)
		return r;
	n->policy = got.policy;
	n->generation_last = 1;
	n->answers_due++;
	r = sup_write_policy(s, span_of(got.tlv, got.len), e);
	free(got.tlv);
	return r == 0 ? pass_number(s, CONTROL_POLICY, 1, sealed_fd, e) : r;
}

/* --- those who ask --- */

static void on_asker(uv_poll_t *poll, int status, int events);

static void on_asker_closed(uv_handle_t *h)
{
	struct sup_asker *a = h->data;

	(void)close(a->fd);
	a->used = false;
}

static void drop(struct sup_asker *a)
{
	if (uv_is_closing((uv_handle_t *)&a->poll))
		return;
	if (a->sup->net.asking.asker == a)
		a->sup->net.asking.asker = NULL;
	uv_close((uv_handle_t *)&a->poll, on_asker_closed);
}

/* While the vault is at a request nobody's next one is read. */
static void watch_askers(struct sup *s)
{
	struct sup_egress *n = &s->net;

	for (size_t i = 0; i < SUP_ASKERS_MAX; i++) {
		struct sup_asker *a = &n->askers[i];

		if (!a->used || uv_is_closing((uv_handle_t *)&a->poll))
			continue;
		if (n->asking.kind != 0)
			(void)uv_poll_stop(&a->poll);
		else
			(void)uv_poll_start(&a->poll, UV_READABLE, on_asker);
	}
}

void sup_asked(struct sup *s, struct span answer)
{
	struct sup_asking *a = &s->net.asking;

	/* who does not take it has gone, or never reads */
	if (a->asker && control_send(a->asker->fd, answer, -1) < 0)
		drop(a->asker);
	policy_free(a->policy);
	free(a->tlv);
	*a = (struct sup_asking){ 0 };
	if (s->state != SUP_ENDING)
		watch_askers(s);
}

static void refuse(struct sup *s, uint8_t kind, uint32_t number, const char *why)
{
	uint8_t room[CONTROL_PACKET_MAX];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	control_put_text(&b, kind, number, span_str(why));
	sup_asked(s, buf_span(&b));
}

/* Passed on, with a number of our own. */
static void ask_secret(struct sup *s, const struct control_packet *p, int fd)
{
	struct sup_asking *a = &s->net.asking;
	uint8_t room[CONTROL_PACKET_MAX];
	struct control_secret secret = { 0 };
	struct buf b;

	buf_init(&b, room, sizeof(room));
	a->number = ++s->net.serial_last;
	if (p->kind == CONTROL_EXPORT && s->net.secret_count == 0) {
		control_put_secret(&b, CONTROL_SECRET_OK, &(struct control_secret){ .serial = 1 });
		sup_asked(s, buf_span(&b)); /* and the socket is at its end */
		return;
	}
	if (p->kind == CONTROL_EXPORT) {
		control_put_u32(&b, p->kind, a->number);
	} else if (control_parse_secret(p->kind, p->payload, &secret) < 0) {
		drop(a->asker);
	} else {
		memcpy(a->name, secret.name.at, secret.name.len);
		secret.serial = a->number;
		control_put_secret(&b, p->kind, &secret);
	}
	if (b.len == 0 || control_send(s->net.vault.c.control_fd, buf_span(&b), fd) < 0)
		refuse(s, CONTROL_SECRET_BAD, a->number, "the vault is busy; try again");
}

static void ask_policy(struct sup *s, const struct control_packet *p, int fd)
{
	struct sup_egress *n = &s->net;
	struct sup_asking *a = &n->asking;
	uint8_t room[CONTROL_PACKET_MAX];
	_own_fd_ int sealed_fd = -1;
	struct reading got = { 0 };
	struct err e = { 0 };
	uint32_t expect = 0;
	struct buf b;

	if (control_parse_u32(p->payload, &expect) < 0) {
		drop(a->asker);
		refuse(s, CONTROL_POLICY_BAD, n->generation, "");
		return;
	}
	if (expect != 0 && expect != n->generation) {
		(void)err_set(&e, -ESTALE,
		              "generation %u of the policy is in force, not %u: somebody has set "
		              "another",
		              n->generation, expect);
		refuse(s, CONTROL_POLICY_BAD, n->generation, e.text);
		return;
	}
	if (read_policy(fd, n->generation_last + 1, &got, &sealed_fd, &e) < 0) {
		refuse(s, CONTROL_POLICY_BAD, n->generation, e.text);
		return;
	}
	a->number = ++n->generation_last;
	a->policy = got.policy;
	a->tlv = got.tlv;
	a->tlv_len = got.len;
	buf_init(&b, room, sizeof(room));
	control_put_u32(&b, CONTROL_POLICY, a->number);
	if (control_send(n->vault.c.control_fd, buf_span(&b), sealed_fd) < 0)
		refuse(s, CONTROL_POLICY_BAD, n->generation, "the vault is busy; try again");
}

/* What the gate has no room for is closed, as a full backlog would. */
static void let_in(struct sup *s, const struct control_accepted *who, int fd)
{
	uint8_t room[CONTROL_PACKET_MAX];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	control_put_accepted(&b, CONTROL_ACCEPTED, who);
	if (control_send(s->net.gate.c.control_fd, buf_span(&b), fd) < 0)
		return;
}

static void serve(struct sup_asker *a, const struct control_packet *p, int fd)
{
	struct sup *s = a->sup;
	struct control_accepted who;

	switch (p->kind) {
	case CONTROL_ACCEPTED:
		if (control_parse_accepted(p->payload, &who) < 0)
			drop(a);
		else
			let_in(s, &who, fd);
		return;
	case CONTROL_POLICY:
	case CONTROL_SECRET:
	case CONTROL_SECRET_RM:
	case CONTROL_EXPORT:
		s->net.asking = (struct sup_asking){ .kind = p->kind, .asker = a };
		watch_askers(s);
		if (p->kind == CONTROL_POLICY)
			ask_policy(s, p, fd);
		else
			ask_secret(s, p, fd);
		return;
	default: /* of a start only, or nobody's */
		drop(a);
		return;
	}
}

static void on_asker(uv_poll_t *poll, int status, int events)
{
	struct sup_asker *a = poll->data;
	uint8_t room[CONTROL_PACKET_MAX];
	struct control_packet p;
	struct span packet;
	_own_fd_ int fd = -1;
	int r = control_recv(a->fd, room, &packet, &fd);

	(void)status;
	(void)events;
	if (r == -EAGAIN)
		return;
	a->heard_ms = clock_mono_ms();
	if (r < 0 || control_parse_packet(packet, CONTROL_FROM_COMMAND, &p) < 0 ||
	    control_carries_fd(p.kind) != (fd >= 0))
		drop(a);
	else
		serve(a, &p, fd);
}

/* A free place, or NULL: then who has been silent for longest makes room for the next round. */
static struct sup_asker *find_place(struct sup_egress *n)
{
	struct sup_asker *quiet = NULL;

	for (size_t i = 0; i < SUP_ASKERS_MAX; i++) {
		struct sup_asker *a = &n->askers[i];

		if (!a->used)
			return a;
		if (a != n->asking.asker && (!quiet || a->heard_ms < quiet->heard_ms))
			quiet = a;
	}
	if (quiet)
		drop(quiet);
	return NULL;
}

static void on_listen(uv_poll_t *poll, int status, int events)
{
	struct sup *s = poll->data;
	struct sup_asker *a = find_place(&s->net);
	int fd;

	(void)status;
	(void)events;
	if (!a)
		return;
	fd = accept4(s->net.listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			sup_pause_accept(s);
		return;
	}
	*a = (struct sup_asker){ .sup = s, .fd = fd, .heard_ms = clock_mono_ms() };
	if (!sup_peer_allowed(fd) || uv_poll_init(&s->loop, &a->poll, fd) < 0) {
		(void)close(fd);
		return;
	}
	a->used = true;
	a->poll.data = a;
	watch_askers(s);
}

/* --- published ports --- */

/* False: it is none that we listen on. */
static bool take_peer(const struct sockaddr_storage *from, struct control_accepted *ret)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	if (from->ss_family == AF_INET) {
		memcpy(&in, from, sizeof(in));
		ret->family = 4;
		ret->port = ntohs(in.sin_port);
		memcpy(ret->addr, &in.sin_addr, 4);
		return true;
	}
	if (from->ss_family != AF_INET6)
		return false;
	memcpy(&in6, from, sizeof(in6));
	ret->family = 6;
	ret->port = ntohs(in6.sin6_port);
	memcpy(ret->addr, &in6.sin6_addr, 16);
	return true;
}

static void on_port(uv_poll_t *poll, int status, int events)
{
	struct sup_port *port = poll->data;
	struct sup *s = port->sup;

	(void)status;
	(void)events;
	for (int i = 0; i < SUP_CONNECTIONS_AT_ONCE; i++) {
		struct control_accepted who = { .guest_port = port->at.guest_port };
		struct sockaddr_storage from = { 0 };
		socklen_t len = sizeof(from);
		_own_fd_ int fd = accept4(port->fd, (struct sockaddr *)&from, &len,
		                          SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0) {
			/* out of fds or memory; others are of one connection that is no more */
			if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
			    errno == ENOMEM)
				sup_pause_accept(s);
			return;
		}
		if (take_peer(&from, &who))
			let_in(s, &who, fd);
	}
}

/* --- the loop --- */

void sup_accept_again(struct sup *s)
{
	struct sup_egress *n = &s->net;

	if (!n->polls_open)
		return;
	(void)uv_poll_start(&n->listen_poll, UV_READABLE, on_listen);
	for (unsigned i = 0; i < n->port_count; i++)
		(void)uv_poll_start(&n->ports[i].poll, UV_READABLE, on_port);
}

void sup_stop_accept(struct sup *s)
{
	struct sup_egress *n = &s->net;

	if (!n->polls_open)
		return;
	(void)uv_poll_stop(&n->listen_poll);
	for (unsigned i = 0; i < n->port_count; i++)
		(void)uv_poll_stop(&n->ports[i].poll);
}

int sup_watch_ports(struct sup *s)
{
	struct sup_egress *n = &s->net;
	int r = uv_poll_init(&s->loop, &n->listen_poll, n->listen_fd);

	for (unsigned i = 0; r == 0 && i < n->port_count; i++) {
		r = uv_poll_init(&s->loop, &n->ports[i].poll, n->ports[i].fd);
		n->ports[i].poll.data = &n->ports[i];
	}
	if (r < 0)
		return r;
	n->listen_poll.data = s;
	n->polls_open = true;
	sup_accept_again(s);
	return 0;
}

void sup_close_ports(struct sup *s)
{
	struct sup_egress *n = &s->net;

	for (size_t i = 0; i < SUP_ASKERS_MAX; i++)
		if (n->askers[i].used)
			drop(&n->askers[i]);
	if (!n->polls_open)
		return;
	uv_close((uv_handle_t *)&n->listen_poll, NULL);
	for (unsigned i = 0; i < n->port_count; i++)
		uv_close((uv_handle_t *)&n->ports[i].poll, NULL);
	n->polls_open = false;
}
