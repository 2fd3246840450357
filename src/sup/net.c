#include "sup/sup.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "lib/start.h"
#include "sup/exec_env.h"
#include "sup/network.h"
#include "sup/trust_env.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

/*
 * Theory of operation
 *
 * Gate and vault are started right after the engine, which takes longest to be ready. Of each
 * socket between two of the three each holds an end and nobody else does once all run, so that
 * each learns of the others' end. The gate's certificate is awaited while the engine reads its
 * state: it lies in the guest's new identity. The rest of what they have to say at the start (the
 * vault's placeholders, that both judge by the policy) is awaited before the loop begins, so before
 * the guest is given a command; meanwhile it takes its new identity. A guest that ran, a copy's,
 * goes on by itself then, so it gets its identity only after all of that. Frames that come sooner
 * wait for the gate, which judges nothing without a policy.
 *
 * From then on the end of either is the sandbox's: a guest without them would wait for answers for
 * ever, and nothing may take their place.
 *
 * At the sandbox's end both are asked once more for their counters, after the engine is gone: what
 * they had to record lies before their answer.
 */

static void init(struct sup *s, struct sup_companion *c, const char *name, enum control_side side,
                 uint8_t reason)
{
	companion_init(&c->c);
	c->sup = s;
	c->name = name;
	c->side = side;
	c->reason = reason;
}

void sup_egress_init(struct sup *s)
{
	init(s, &s->net.gate, "gate", CONTROL_FROM_GATE, RESULT_GATE_ENDED);
	init(s, &s->net.vault, "vault", CONTROL_FROM_VAULT, RESULT_VAULT_ENDED);
	s->net.listen_fd = -1;
	s->net.link_fd = -1;
	s->net.serial_last = SUP_SERIAL_FIRST;
	egress_log_init(&s->net.log, s->dir_fd);
}

/* --- the start --- */

static int start(struct sup *s, struct sup_companion *c, struct companion_start *how, struct err *e)
{
	how->libexec = s->paths.libexec;
	how->id = s->id;
	return companion_start(how, &c->c, e);
}

enum { CARD_BUFFER_BYTES = 1 << 20 }; /* of frames on their way, each way */

/*
 * As much as the host lets us (net.core.wmem_max). With the usual size there is room for three
 * frames, and gate and engine wait for each other at each of them.
 */
static void widen(int fd)
{
	int bytes = CARD_BUFFER_BYTES;

	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

static int start_gate(struct sup *s, int vault_fd, struct err *e)
{
	struct companion_start how = {
		.program = "berm-gate",
		.words = "the gate",
		.more = spec_is_copy(&s->spec) ? COMPANION_COPY : NULL,
		.fds = { [COMPANION_GATE_VAULT] = vault_fd,
		         [COMPANION_GATE_LINK] = s->net.link_fd },
		.fd_count = COMPANION_GATE_COUNT,
	};

	return start(s, &s->net.gate, &how, e);
}

static int start_vault(struct sup *s, int gate_fd, struct err *e)
{
	struct companion_start how = {
		.program = "berm-vault",
		.words = "the vault",
		.fds = { [COMPANION_VAULT_GATE] = gate_fd },
		.fd_count = COMPANION_VAULT_COUNT,
	};

	return start(s, &s->net.vault, &how, e);
}

int sup_open_network(struct sup *s, struct err *e)
{
	int r;

	if (!s->spec.network)
		return 0;
	r = engine_pair(SOCK_STREAM, &s->net.link_fd, &s->files.net_fd, e);
	if (r < 0)
		return r;
	widen(s->net.link_fd);
	widen(s->files.net_fd);
	return 0;
}

static void close_link(struct sup *s)
{
	own_close_fd(&s->net.link_fd);
	s->net.link_fd = -1;
}

int sup_start_network(struct sup *s, struct err *e)
{
	_own_fd_ int vault_fd = -1;
	_own_fd_ int gate_fd = -1;
	int fds[2];
	int r;

	own_close_fd(&s->files.net_fd); /* the engine has its own copy */
	s->files.net_fd = -1;
	if (!s->spec.network)
		return 0;
	r = fd_socketpair(fds, e);
	if (r < 0)
		return r;
	vault_fd = fds[0];
	gate_fd = fds[1];
	r = start_gate(s, vault_fd, e); /* first: it is waited for first */
	if (r == 0)
		r = start_vault(s, gate_fd, e);
	close_link(s);
	return r;
}

int sup_brief_network(struct sup *s, struct err *e)
{
	int r;

	if (!s->spec.network)
		return 0;
	r = cgroup_add(&s->cgroup, s->net.vault.c.pid, e);
	if (r == 0)
		r = cgroup_add(&s->cgroup, s->net.gate.c.pid, e);
	return r == 0 ? sup_read_plan(s, e) : r;
}

/* All that has been said. */
static int hear(struct sup *s, struct sup_companion *c, struct err *e)
{
	for (;;) {
		uint8_t room[CONTROL_PACKET_MAX];
		struct span packet;
		int r = companion_recv(&c->c, room, &packet, e);

		if (r == 0)
			r = sup_egress_packet(s, c, packet, e);
		if (r == -EAGAIN)
			return 0;
		if (r == -EPIPE)
			return companion_gone(&c->c, e);
		if (r < 0)
			return r;
	}
}

static bool gate_due(const struct sup_egress *n)
{
	return !n->gate.ready;
}

static bool vault_due(const struct sup_egress *n)
{
	return !n->vault.ready || n->answers_due > 0 || n->import_due;
}

/* vault_too: else only until the certificate is there. */
static int await(struct sup *s, bool vault_too, struct err *e)
{
	const uint64_t deadline_ms = clock_mono_ms() + COMPANION_READY_MS;
	struct sup_egress *n = &s->net;
	int r = 0;

	if (!s->spec.network)
		return 0;
	while (r == 0) {
		struct companion *both[COMPANIONS_MAX] = { &n->gate.c, &n->vault.c };

		r = hear(s, &n->gate, e);
		if (r == 0)
			r = hear(s, &n->vault, e);
		if (r < 0 || (!gate_due(n) && !(vault_too && vault_due(n))))
			break;
		if (!gate_due(n)) { /* who is late is named first */
			both[0] = &n->vault.c;
			both[1] = &n->gate.c;
		}
		r = companion_wait(both, COMPANIONS_MAX, false, deadline_ms, e);
	}
	return r;
}

int sup_await_gate(struct sup *s, struct err *e)
{
	return await(s, false, e);
}

int sup_await_network(struct sup *s, struct err *e)
{
	return await(s, true, e);
}

void sup_put_network(const struct sup *s, struct wire_identity *id)
{
	id->has_network = s->spec.network;
	id->network = network_default;
	id->has_trust = s->spec.network && s->net.has_trust;
	id->trust.name_hash = s->net.trust_hash;
	id->trust.pem = span_of(s->net.pem, s->net.pem_len);
}

/* --- what commands are told --- */

static struct span keep(char room[static WIRE_NAME_MAX], struct span text)
{
	memcpy(room, text.at, text.len);
	return span_of(room, text.len);
}

bool sup_take_trusted(struct sup *s, struct span payload)
{
	struct wire_trusted got;

	if (wire_parse_trusted(payload, &got) < 0)
		return false;
	/* an answer to what it was not told; else it is the guest's own affair where it put it */
	if (got.cert.len > 0 && !s->net.has_trust)
		return false;
	if (got.cert.len > 0)
		s->trusted.cert = keep(s->trusted_paths[0], got.cert);
	if (got.bundle.len > 0)
		s->trusted.bundle = keep(s->trusted_paths[1], got.bundle);
	return true;
}

void sup_add_env(struct sup *s, size_t start)
{
	struct exec_var vars[CONTROL_SECRETS_MAX];
	struct sup_egress *n = &s->net;

	for (unsigned i = 0; i < n->secret_count; i++)
		vars[i] = (struct exec_var){ span_str(n->secrets[i].name),
			                     span_str(n->secrets[i].placeholder) };
	exec_env_replace(&s->agent->out, start, vars, n->secret_count);
	trust_env_add(&s->agent->out, start, &s->trusted);
}

/* --- while it runs --- */

static void gone(struct sup_companion *c)
{
	char text[RESULT_MESSAGE_MAX];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	companion_put_end(&b, &c->c);
	sup_end(c->sup, c->reason, 125, "%s", buf_cstr(&b));
}

void sup_gate_lost(struct sup *s)
{
	if (s->state == SUP_ENDING)
		return;
	if (companion_ended(&s->net.gate.c))
		gone(&s->net.gate);
	else
		sup_end(s, RESULT_GATE_ENDED, 125, "%s",
		        "the gate broke off its link to the guest");
}

static void on_end(uv_poll_t *poll, int status, int events)
{
	(void)status;
	(void)events;
	gone(poll->data);
}

static void on_log(uv_poll_t *poll, int status, int events)
{
	struct sup_companion *c = poll->data;

	(void)status;
	(void)events;
	if (!companion_drain(&c->c)) /* its end, or nothing after all */
		(void)uv_poll_stop(poll);
}

static void on_control(uv_poll_t *poll, int status, int events)
{
	struct sup_companion *c = poll->data;
	struct sup *s = c->sup;

	(void)status;
	(void)events;
	for (int i = 0; i < SUP_PACKETS_AT_ONCE && s->state != SUP_ENDING; i++) {
		uint8_t room[CONTROL_PACKET_MAX];
		struct span packet;
		struct err e = { 0 };
		int r = companion_recv(&c->c, room, &packet, &e);

		if (r == 0)
			r = sup_egress_packet(s, c, packet, &e);
		if (r == -EAGAIN)
			return;
		if (r == -EPIPE && !companion_ended(&c->c)) {
			sup_end(s, c->reason, 125, "%s broke off", c->c.words);
			return;
		}
		if (r == -EPIPE)
			gone(c);
		else if (r == -EPERM)
			sup_end(s, RESULT_VIOLATION, 137, "%s", e.text);
		else if (r < 0)
			sup_end(s, c->reason, 125, "%s", e.text);
	}
}

static int watch(struct sup *s, struct sup_companion *c)
{
	int r = uv_poll_init(&s->loop, &c->end_poll, c->c.pidfd);

	if (r == 0)
		r = uv_poll_init(&s->loop, &c->log_poll, c->c.log_fd);
	if (r == 0)
		r = uv_poll_init(&s->loop, &c->control_poll, c->c.control_fd);
	if (r < 0)
		return r;
	c->end_poll.data = c->log_poll.data = c->control_poll.data = c;
	(void)uv_poll_start(&c->end_poll, UV_READABLE, on_end);
	(void)uv_poll_start(&c->log_poll, UV_READABLE, on_log);
	(void)uv_poll_start(&c->control_poll, UV_READABLE, on_control);
	c->polls_open = true;
	return 0;
}

int sup_watch_network(struct sup *s)
{
	int r;

	if (!s->spec.network)
		return 0;
	r = watch(s, &s->net.gate);
	if (r == 0)
		r = watch(s, &s->net.vault);
	return r == 0 ? sup_watch_ports(s) : r;
}

static void unwatch(struct sup_companion *c)
{
	if (!c->polls_open)
		return;
	uv_close((uv_handle_t *)&c->end_poll, NULL);
	uv_close((uv_handle_t *)&c->log_poll, NULL);
	uv_close((uv_handle_t *)&c->control_poll, NULL);
	c->polls_open = false;
}

void sup_close_network(struct sup *s)
{
	unwatch(&s->net.gate);
	unwatch(&s->net.vault);
	sup_close_ports(s);
}

/* --- the end --- */

/* Its last records. True: it has no more to say, or nobody can tell. */
static bool drain(struct sup *s, struct sup_companion *c)
{
	for (int i = 0; i < SUP_LAST_PACKETS_MAX; i++) {
		uint8_t room[CONTROL_PACKET_MAX];
		struct span packet;
		int r = companion_recv(&c->c, room, &packet, NULL);

		if (r == 0)
			r = sup_egress_packet(s, c, packet, NULL);
		if (r == -EAGAIN)
			return c->stats_serial == 0;
		if (r < 0 && r != -EPERM)
			return true;
	}
	return true;
}

static void hear_last(struct sup *s)
{
	const uint64_t deadline_ms = clock_mono_ms() + SUP_LAST_RECORDS_MS;
	struct sup_companion *const both[] = { &s->net.gate, &s->net.vault };
	bool done[COMPANIONS_MAX] = { false };

	sup_ask_counters(s);
	while (!done[0] || !done[1]) {
		struct pollfd p[COMPANIONS_MAX];

		for (unsigned i = 0; i < COMPANIONS_MAX; i++) {
			done[i] = done[i] || !both[i]->ready || drain(s, both[i]);
			p[i] = (struct pollfd){ .fd = done[i] ? -1 : both[i]->c.control_fd,
				                .events = POLLIN };
		}
		if ((!done[0] || !done[1]) &&
		    poll(p, COMPANIONS_MAX, clock_left_ms(deadline_ms)) <= 0 &&
		    clock_mono_ms() >= deadline_ms)
			return;
	}
}

void sup_end_network(struct sup *s)
{
	struct sup_egress *n = &s->net;

	if (n->gate.ready && n->vault.ready && s->log_open)
		hear_last(s);
	close_link(s);
	companion_kill(&n->gate.c); /* both go at once */
	companion_kill(&n->vault.c);
	companion_end(&n->gate.c);
	companion_end(&n->vault.c);
	n->gate.ready = n->vault.ready = false;
	for (unsigned i = 0; i < n->port_count; i++)
		own_close_fd(&n->ports[i].fd);
	n->port_count = 0;
	own_close_fd(&n->listen_fd);
	n->listen_fd = -1;
	egress_log_close(&n->log);
	policy_free(n->policy);
	policy_free(n->before);
	policy_free(n->asking.policy);
	free(n->asking.tlv);
	n->policy = n->before = NULL;
	n->asking = (struct sup_asking){ 0 };
}
