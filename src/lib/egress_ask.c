#include "lib/egress_ask.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "lib/egress_plan.h"
#include "state/state.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int no_network(const char *id, struct err *e)
{
	return err_set(e, -ENODEV,
	               "sandbox %s was started without a network; start it with --preset none, and "
	               "a policy can be set later",
	               id);
}

int egress_ask_open(int state_fd, const char *id, int *ret_fd, struct err *e)
{
	_own_fd_ int dir_fd = -1;
	_own_fd_ int control_fd = -1;
	int r;

	/* it is made before the other: whoever finds that one and not this has no network */
	r = state_connect(state_fd, id, &control_fd, e);
	if (r == 0)
		r = state_open_dir(state_fd, id, &dir_fd, e);
	if (r < 0)
		return r;
	r = fd_packet_connect(dir_fd, EGRESS_SOCKET, ret_fd, e);
	return r == -ENOENT ? no_network(id, e) : r;
}

/* Waits for room or for an answer. */
static int await(int fd, short events, uint64_t deadline_ms, struct err *e)
{
	struct pollfd p = { .fd = fd, .events = events };
	int r;

	do
		r = poll(&p, 1, clock_left_ms(deadline_ms));
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return err_sys(e, "poll");
	return r > 0 ? 0 : err_set(e, -ETIMEDOUT, "the sandbox's vault did not answer in time");
}

static int say(int sock, const struct buf *b, int fd, uint64_t deadline_ms, struct err *e)
{
	int r;

	if (!buf_ok(b))
		return err_set(e, -EINVAL, "the request is too long");
	for (;;) {
		r = control_send(sock, buf_span(b), fd);
		if (r != -EAGAIN)
			break;
		r = await(sock, POLLOUT, deadline_ms, e);
		if (r < 0)
			return r;
	}
	if (r == -EPIPE)
		return err_set(e, r, "the sandbox has ended");
	return r < 0 ? err_set(e, r, "send to the supervisor: %s", strerror(-r)) : 0;
}

static int hear(int sock, uint64_t deadline_ms, uint8_t room[static CONTROL_PACKET_MAX],
                struct control_packet *ret, struct err *e)
{
	struct span packet;
	int fd = -1;
	int r;

	while ((r = control_recv(sock, room, &packet, &fd)) == -EAGAIN) {
		r = await(sock, POLLIN, deadline_ms, e);
		if (r < 0)
			return r;
	}
	if (fd >= 0)
		(void)close(fd);
	if (r == -EPIPE)
		return err_set(e, r, "the sandbox has ended");
	if (r == 0 && fd < 0 && control_parse_packet(packet, CONTROL_FROM_VAULT, ret) == 0)
		return 0;
	return err_set(e, -EPROTO, "the supervisor does not speak berm's protocol");
}

static int bad(const struct control_packet *p, int code, struct err *e)
{
	struct control_text t;

	if (control_parse_text(p->payload, &t) < 0)
		return err_set(e, -EPROTO, "the supervisor does not speak berm's protocol");
	return err_set(e, code, "%.*s", (int)t.why.len, (const char *)t.why.at);
}

uint64_t egress_ask_deadline(void)
{
	return clock_mono_ms() + EGRESS_ASK_MS;
}

/* A request about secrets: answered by SECRET_OK or SECRET_BAD. */
static int ask_secret(int sock, const struct buf *b, int fd, uint64_t deadline_ms, struct err *e)
{
	uint8_t room[CONTROL_PACKET_MAX];
	struct control_packet p = { 0 };
	int r = say(sock, b, fd, deadline_ms, e);

	if (r == 0)
		r = hear(sock, deadline_ms, room, &p, e);
	if (r < 0 || p.kind == CONTROL_SECRET_OK)
		return r;
	if (p.kind == CONTROL_SECRET_BAD)
		return bad(&p, -EINVAL, e);
	return err_set(e, -EPROTO, "the supervisor answers another question");
}

int egress_ask_policy(int fd, struct span tlv, uint32_t expect, uint64_t deadline_ms,
                      uint32_t *ret_generation, struct err *e)
{
	_own_(egress_plan_fini) struct egress_plan plan;
	uint8_t room[CONTROL_PACKET_MAX];
	struct control_packet p = { 0 };
	uint32_t generation = 0;
	struct buf b;
	int r;

	egress_plan_init(&plan);
	r = egress_plan_policy(&plan, tlv, e);
	if (r < 0)
		return r;
	buf_init(&b, room, sizeof(room));
	control_put_u32(&b, CONTROL_POLICY, expect);
	r = say(fd, &b, plan.policy_fd, deadline_ms, e);
	if (r == 0)
		r = hear(fd, deadline_ms, room, &p, e);
	if (r < 0)
		return r;
	if (p.kind == CONTROL_POLICY_BAD) {
		struct control_text t;
		bool stale =
			expect != 0 && control_parse_text(p.payload, &t) == 0 && t.number != expect;

		return bad(&p, stale ? -ESTALE : -EINVAL, e);
	}
	if (p.kind != CONTROL_POLICY_OK || control_parse_u32(p.payload, &generation) < 0)
		return err_set(e, -EPROTO, "the supervisor answers another question");
	*ret_generation = generation;
	return 0;
}

static int put_name(struct buf *b, uint8_t kind, const char *name, struct err *e)
{
	const struct control_secret s = { .serial = 1, .name = span_str(name) };

	if (!control_parse_name_ok(s.name))
		return err_set(e, -EINVAL, "'%s' is no secret's name", name);
	control_put_secret(b, kind, &s);
	return 0;
}

int egress_ask_secret(int fd, const char *name, int value_fd, uint64_t deadline_ms, struct err *e)
{
	uint8_t room[CONTROL_PACKET_MAX];
	struct buf b;
	int r;

	buf_init(&b, room, sizeof(room));
	r = put_name(&b, CONTROL_SECRET, name, e);
	return r == 0 ? ask_secret(fd, &b, value_fd, deadline_ms, e) : r;
}

int egress_ask_secret_rm(int fd, const char *name, uint64_t deadline_ms, struct err *e)
{
	uint8_t room[CONTROL_PACKET_MAX];
	struct buf b;
	int r;

	buf_init(&b, room, sizeof(room));
	r = put_name(&b, CONTROL_SECRET_RM, name, e);
	return r == 0 ? ask_secret(fd, &b, -1, deadline_ms, e) : r;
}

int egress_ask_forward(int fd, const struct control_accepted *who, int conn_fd, struct err *e)
{
	uint8_t room[CONTROL_PACKET_MAX];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	control_put_accepted(&b, CONTROL_ACCEPTED, who);
	return say(fd, &b, conn_fd, egress_ask_deadline(), e);
}

int egress_ask_export(int fd, int *ret_fd, struct err *e)
{
	uint8_t room[CONTROL_PACKET_MAX];
	_own_fd_ int from_vault = -1;
	_own_fd_ int ours = -1;
	struct buf b;
	int fds[2];
	int r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return err_sys(e, "socketpair");
	from_vault = fds[0];
	ours = fds[1];
	buf_init(&b, room, sizeof(room));
	control_put_u32(&b, CONTROL_EXPORT, 1);
	r = ask_secret(fd, &b, from_vault, egress_ask_deadline(), e);
	if (r == 0)
		*ret_fd = steal_fd(&ours);
	return r;
}

int egress_policy_read(int state_fd, const char *id, uint8_t **ret_tlv, size_t *ret_len,
                       struct err *e)
{
	_own_fd_ int dir_fd = -1;
	char *text = NULL;
	size_t len = 0;
	int r = state_open_dir(state_fd, id, &dir_fd, e);

	if (r == 0)
		r = fd_read_file(dir_fd, EGRESS_POLICY_FILE, EGRESS_PLAN_POLICY, &text, &len, e);
	if (r == -ENOENT && dir_fd >= 0)
		return no_network(id, e);
	if (r < 0)
		return r;
	*ret_tlv = (uint8_t *)text;
	*ret_len = len;
	return 0;
}
