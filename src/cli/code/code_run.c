#include "cli/code/code.h"
#include "session/fetching.h"

#include "base/log.h"
#include "lib/start.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>

enum {
	MAIN_STREAM = 1,
	GIVE_UP_MS = 20000, /* for a supervisor to end when its caller has gone */
};

/* --- the command --- */

static int capture(struct code *k, struct err *e)
{
	if (!k->c->json)
		return 0;
	k->captured = malloc(2 * (size_t)RUN_CAPTURE_MAX);
	if (!k->captured)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&k->out, k->captured, RUN_CAPTURE_MAX);
	buf_init(&k->err, (uint8_t *)k->captured + RUN_CAPTURE_MAX, RUN_CAPTURE_MAX);
	return 0;
}

static void prepare_relay(struct code *k)
{
	struct relay *r = &k->s.relay;
	bool json = k->c->json;

	k->s.tty = k->run.spec.tty;
	r->stream = MAIN_STREAM;
	r->cut_is_end = true; /* its work is fetched then: wait_end() */
	r->in_fd = k->run.spec.stdin_open ? STDIN_FILENO : -1;
	r->out.fd = json ? -1 : STDOUT_FILENO;
	r->err.fd = json ? -1 : STDERR_FILENO;
	r->out.capture = json ? &k->out : NULL;
	r->err.capture = json ? &k->err : NULL;
}

static int run_command_of(struct code *k, struct err *e)
{
	const char *name = k->run.spec.argv[0];
	struct relay *r = &k->s.relay;
	int got = capture(k, e);

	if (got < 0)
		return got;
	prepare_relay(k);
	k->begun = true;
	wire_put_u8(&k->s.client->out, WIRE_ATTACH, MAIN_STREAM, CLIENT_EPOCH,
	            k->run.spec.stdin_open);
	got = session_run(&k->s, e);
	if (got < 0)
		return got;
	if (r->ended == RELAY_EXIT || r->ended == RELAY_FAILED)
		k->command_code = session_status(&k->s, name);
	return 0;
}

/* --- and then its work --- */

/* 0: go on waiting; else what berm exits with, at once. */
static int end_signal(struct code *k, int sig)
{
	k->s.signals++;
	if (k->s.signals == 1) {
		spinner_clear(&k->s.spinner);
		log_warn("the agent's work is being fetched; once more leaves it on the session's "
		         "disk, to be fetched later");
		return 0;
	}
	if (k->s.signals == 2) {
		wire_put_u32(&k->s.client->out, WIRE_STOP, 0, 0, CLIENT_EPOCH, 0);
		return 0;
	}
	return 128 + sig;
}

static int take_signals(struct code *k)
{
	struct signalfd_siginfo si;
	int left = 0;

	while (!left && read(k->s.signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si))
		if (si.ssi_signo != SIGWINCH && si.ssi_signo != SIGTSTP)
			left = end_signal(k, (int)si.ssi_signo);
	return left;
}

/* 1: END came. */
static int take_frames(struct code *k, struct err *e)
{
	struct relay *r = &k->s.relay;
	struct wire_frame f;
	int got;

	while ((got = client_next(k->s.client, &f, e)) == 0) {
		if (f.type != WIRE_END)
			continue;
		free(r->end_json);
		r->end_json = strndup((const char *)f.payload.at, f.payload.len);
		r->end_bytes = r->end_json ? strlen(r->end_json) : 0;
		return 1;
	}
	return got == -EAGAIN ? 0 : got;
}

int code_wait(struct code *k, int timeout_ms, bool *ret_signals, bool *ret_bytes, struct err *e)
{
	struct pollfd p[2] = { { .fd = k->s.client->fd, .events = POLLIN },
		               { .fd = k->s.signal_fd, .events = POLLIN } };
	int r = client_send(k->s.client, e);

	if (r == -EPIPE)
		err_clear(e); /* its last words may still be there to be read */
	else if (r < 0)
		return r;
	else if (client_pending(k->s.client))
		p[0].events |= POLLOUT;
	r = poll(p, 2, timeout_ms);
	if (r < 0 && errno != EINTR)
		return err_sys(e, "poll");
	if (r <= 0)
		spinner_tick(&k->s.spinner);
	*ret_signals = r > 0 && p[1].revents;
	*ret_bytes = r > 0 && p[0].revents & (POLLIN | POLLHUP | POLLERR);
	return 0;
}

static int wait_once(struct code *k, struct err *e)
{
	bool signals;
	bool bytes;
	int r = code_wait(k, CODE_TICK_MS, &signals, &bytes, e);

	if (r == 0 && signals) {
		k->s.relay.left = take_signals(k);
		if (k->s.relay.left)
			return err_set(e, -EINTR, "interrupted");
	}
	return r == 0 && bytes ? client_receive(k->s.client, e) : r;
}

/* Until END: the supervisor has let go of the session by then. */
static int wait_end(struct code *k, struct err *e)
{
	struct fetching fetching;
	int r = take_frames(k, e);

	fetching_init(&fetching, k->c->state_fd, &k->work, &k->s.spinner);
	k->s.signals = 0; /* those were for the command */
	while (r == 0) {
		r = wait_once(k, e);
		fetching_tick(&fetching);
		if (r == 0)
			r = take_frames(k, e);
	}
	spinner_clear(&k->s.spinner);
	return r < 0 ? r : 0;
}

/* Told to start, and then not wanted: it ends when we go, and then the session is ours again. */
static void give_up(struct code *k, int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	relay_fini(&k->s.relay);
	client_free(k->s.client);
	k->s.client = NULL;
	(void)poll(&p, 1, GIVE_UP_MS);
}

static void read_result(struct code *k)
{
	struct relay *r = &k->s.relay;
	struct err e = { 0 };

	if (r->end_json &&
	    result_parse_json(span_of(r->end_json, r->end_bytes), &k->result, &e) < 0)
		log_warn("%s", e.text);
}

/* What the guest is asked for between its command and its end. */
static int last_words(struct code *k, struct err *e)
{
	int r;

	/* of a command that was not there nothing was renewed, and its guest ends by itself */
	if (!k->run.spec.linger || k->s.relay.end_json || k->s.relay.ended == RELAY_RESET ||
	    k->s.relay.ended == RELAY_FAILED)
		return 0;
	r = code_take_login(k, e);
	if (r < 0 && r != -ECONNRESET && r != -ENODATA) {
		log_warn("the login of %s is not kept as it is now: %s", k->agent->name, e->text);
		err_clear(e);
	}
	/* whatever that came to: its work is what counts */
	err_clear(e);
	wire_put_u32(&k->s.client->out, WIRE_STOP, 0, 0, CLIENT_EPOCH, 0);
	return 0;
}

/* --- its base, on the disk --- */

/*
 * Of a large tree this takes seconds, which nobody is to wait for: neither the start nor, unless
 * the command was shorter, the end. Whatever this does not come to, the supervisor does at the end.
 */
static void *sync_base(void *arg)
{
	struct work_session *s = arg;
	struct err e = { 0 };

	if (work_session_sync_base(s, &e) < 0)
		log_debug("%s", e.text);
	work_session_close(s);
	free(s);
	return NULL;
}

static void sync_behind(const struct code *k)
{
	struct work_session *s = malloc(sizeof(*s));
	pthread_t thread;

	if (!s)
		return;
	work_session_init(s);
	s->info = k->work.info;
	s->dir_fd = fcntl(k->work.dir_fd, F_DUPFD_CLOEXEC, 0);
	if (s->dir_fd >= 0 && pthread_create(&thread, NULL, sync_base, s) == 0) {
		(void)pthread_detach(thread);
		return;
	}
	work_session_close(s);
	free(s);
}

static int live(struct code *k, int pidfd, struct err *e)
{
	struct relay *r = &k->s.relay;
	int got = code_put_settings(k, e);

	code_tell_settings(k);
	if (got == 0)
		got = code_write_notes(k, e);
	if (got == -ECONNRESET && r->end_json) { /* END says better why */
		read_result(k);
		err_clear(e);
		return 0;
	}
	if (got < 0) {
		give_up(k, pidfd);
		return got;
	}
	got = run_command_of(k, e);
	if (got == 0 && r->ended == RELAY_LEFT)
		return 0;
	if (got == 0)
		got = last_words(k, e);
	if (got == 0 && !r->end_json)
		got = wait_end(k, e);
	read_result(k);
	return got;
}

/* END said that the lock is free; without it, the supervisor's death does. */
static void relock(struct code *k)
{
	struct err e = { 0 };

	if (work_session_lock(&k->work, "code", &e) < 0 && k->s.relay.ended != RELAY_LEFT)
		log_warn("%s", e.text);
}

int code_run(struct code *k, struct err *e)
{
	_own_(egress_plan_fini) struct egress_plan plan;
	struct started st = { .control_fd = -1, .pidfd = -1 };
	int r;

	egress_plan_init(&plan);
	r = egress_fill(&k->run.egress, &plan, e);
	if (r == 0 && k->run.spec.network && plan.policy_fd < 0)
		r = egress_plan_deny(&plan, e);
	if (r == 0)
		r = start_session(&k->c->paths, k->c->state_fd, k->run.disk_fd, &k->run.spec,
		                  k->run.spec.network ? &plan : NULL, &k->work, &st, e);
	if (r < 0)
		return r;
	sync_behind(k);
	r = session_connect(&k->s, st.control_fd, e);
	if (r == 0)
		r = live(k, st.pidfd, e);
	(void)close(st.pidfd);
	relock(k);
	return r;
}
