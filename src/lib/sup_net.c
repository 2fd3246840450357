#include "lib/sup.h"

#include "base/clock.h"
#include "lib/network.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/*
 * Theory of operation
 *
 * The gate is there before the engine, and both hold an end of one socket; nobody else does once
 * both run, so that each learns of the other's end. What the gate has to say (the certificate it
 * made) is awaited while the engine reads its state, and lies in the guest's new identity. From
 * then on the gate's end is the sandbox's: a guest without one would wait for answers for ever, and
 * nothing may take its place.
 */

int sup_open_network(struct sup *s, struct err *e)
{
	struct companion_start how = {
		.libexec = s->paths.libexec,
		.program = "berm-gate",
		.words = "the gate",
		.id = s->id,
		.fd_count = COMPANION_GATE_COUNT,
	};
	_own_fd_ int link = -1;
	int r;

	if (!s->spec.network)
		return 0;
	r = engine_pair(SOCK_STREAM, &link, &s->files.net_fd, e);
	how.fds[COMPANION_GATE_LINK] = link;
	return r == 0 ? companion_start(&how, &s->gate, e) : r;
}

int sup_await_network(struct sup *s, struct err *e)
{
	own_close_fd(&s->files.net_fd); /* the engine has its own copy */
	s->files.net_fd = -1;
	if (!s->spec.network)
		return 0;
	return companion_await(&s->gate, clock_mono_ms() + COMPANION_READY_MS, s->gate_packet,
	                       &s->gate_ready, e);
}

void sup_put_network(const struct sup *s, struct wire_identity *id)
{
	id->has_network = s->spec.network;
	id->network = network_default;
	id->has_trust = s->spec.network && s->gate_ready.has_trust;
	id->trust = s->gate_ready.trust;
}

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
	if (got.cert.len > 0 && !s->gate_ready.has_trust)
		return false;
	if (got.cert.len > 0)
		s->trusted.cert = keep(s->trusted_paths[0], got.cert);
	if (got.bundle.len > 0)
		s->trusted.bundle = keep(s->trusted_paths[1], got.bundle);
	return true;
}

static void gate_ended(struct sup *s)
{
	char text[RESULT_MESSAGE_MAX];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	companion_put_end(&b, &s->gate);
	sup_end(s, RESULT_GATE_ENDED, 125, "%s", buf_cstr(&b));
}

void sup_gate_lost(struct sup *s)
{
	if (s->state == SUP_ENDING)
		return;
	if (companion_ended(&s->gate))
		gate_ended(s);
	else
		sup_end(s, RESULT_GATE_ENDED, 125, "%s",
		        "the gate broke off its link to the guest");
}

static void on_gate_end(uv_poll_t *poll, int status, int events)
{
	(void)status;
	(void)events;
	gate_ended(poll->data);
}

static void on_gate_log(uv_poll_t *poll, int status, int events)
{
	struct sup *s = poll->data;

	(void)status;
	(void)events;
	if (!companion_drain(&s->gate)) /* its end, or nothing after all */
		(void)uv_poll_stop(poll);
}

int sup_watch_gate(struct sup *s)
{
	int r;

	if (s->gate.pid <= 0)
		return 0;
	r = uv_poll_init(&s->loop, &s->gate_poll, s->gate.pidfd);
	if (r < 0)
		return r;
	r = uv_poll_init(&s->loop, &s->gate_log_poll, s->gate.log_fd);
	if (r < 0)
		return r;
	s->gate_poll.data = s->gate_log_poll.data = s;
	(void)uv_poll_start(&s->gate_poll, UV_READABLE, on_gate_end);
	(void)uv_poll_start(&s->gate_log_poll, UV_READABLE, on_gate_log);
	s->gate_polls_open = true;
	return 0;
}

void sup_close_gate(struct sup *s)
{
	if (!s->gate_polls_open)
		return;
	uv_close((uv_handle_t *)&s->gate_poll, NULL);
	uv_close((uv_handle_t *)&s->gate_log_poll, NULL);
	s->gate_polls_open = false;
}
