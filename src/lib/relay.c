#include "lib/relay.h"

#include "base/clock.h"
#include "lib/relay_sink.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

/*
 * Theory of operation
 *
 * One poll loop. What it waits for is asked of the state anew in every round: stdin only while the
 * program runs, has credit for us and the queue has room; an output only while bytes are kept for
 * it; the supervisor always, until it closed. So every party that is slow stops only what depends
 * on it, and there is no timer except the progress line's and the one below.
 *
 * A pipe whose reader left tells its writer by SIGPIPE. The reader of the guest's pipe is the
 * agent, which stays, so the relay sends the signal itself and lets the program's output run into
 * the void. A program that ignores it and goes on writing would do so for ever where EPIPE would
 * have stopped it: after a grace it is killed.
 */

enum { CTRL_P = 0x10, CTRL_Q = 0x11 };

void relay_init(struct relay *r, struct client *c)
{
	*r = (struct relay){ .client = c, .stream = 1, .in_fd = -1, .signal_fd = -1 };
	r->in_credit = WIRE_WINDOW_BYTES;
	sink_init(&r->out);
	sink_init(&r->err);
}

void relay_fini(struct relay *r)
{
	sink_fini(&r->out);
	sink_fini(&r->err);
	free(r->end_json);
	r->end_json = NULL;
}

void relay_signal(struct relay *r, int sig)
{
	wire_put_u32(&r->client->out, WIRE_SIGNAL, 0, r->stream, CLIENT_EPOCH, (uint32_t)sig);
}

void relay_resize(struct relay *r, uint16_t rows, uint16_t cols)
{
	wire_put_resize(&r->client->out, r->stream, CLIENT_EPOCH, rows, cols);
}

static void end(struct relay *r, enum relay_end how)
{
	if (r->ended == RELAY_RUNNING)
		r->ended = (uint8_t)how;
}

/* --- towards the guest --- */

/* Takes ctrl-p ctrl-q out of what was typed; `data` has room for one byte more in front. */
static size_t watch_keys(struct relay *r, uint8_t *data, size_t len)
{
	size_t kept = 0;

	if (!r->detach_keys)
		return len;
	for (size_t i = 0; i < len; i++) {
		bool after_p = r->saw_ctrl_p;
		uint8_t key = data[i];

		r->saw_ctrl_p = false;
		if (after_p && key == CTRL_Q) {
			end(r, RELAY_DETACHED);
			return kept;
		}
		if (after_p && i == 0) {
			/* the ctrl-p was held back from an earlier read: it goes out first */
			memmove(data + 1, data, len);
			data[0] = CTRL_P;
			return watch_keys(r, data + 1, len) + 1;
		}
		if (after_p)
			data[kept++] = CTRL_P;
		if (key == CTRL_P)
			r->saw_ctrl_p = true;
		else
			data[kept++] = key;
	}
	return kept;
}

static void stdin_ended(struct relay *r)
{
	r->in_eof = true;
	wire_put(&r->client->out, WIRE_EOF, WIRE_IN, r->stream, CLIENT_EPOCH, span_of(NULL, 0));
}

static int read_stdin(struct relay *r, struct err *e)
{
	uint8_t data[WIRE_DATA_MAX];
	size_t want = sizeof(data) - 1; /* one byte for a ctrl-p that was held back */
	ssize_t n;

	if (want > r->in_credit - 1)
		want = r->in_credit - 1;
	n = read(r->in_fd, data, want);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	/* EIO: a terminal that hung up, or is not ours to read; EBADF: it was closed before us */
	if (n == 0 || (n < 0 && (errno == EIO || errno == EBADF))) {
		stdin_ended(r);
		return 0;
	}
	if (n < 0 && r->steady) {
		r->in_error = errno;
		stdin_ended(r);
		return 0;
	}
	if (n < 0)
		return err_sys(e, "read standard input");
	n = (ssize_t)watch_keys(r, data, (size_t)n);
	if (n > 0) {
		wire_put(&r->client->out, WIRE_DATA, WIRE_IN, r->stream, CLIENT_EPOCH,
		         span_of(data, (size_t)n));
		r->in_credit -= (uint32_t)n;
	}
	return 0;
}

bool relay_takes_input(const struct relay *r)
{
	return !r->in_eof && r->started && r->ended == RELAY_RUNNING && !r->peer_gone &&
	       r->in_credit > 1 && client_room(r->client) >= CLIENT_ROOM_MIN;
}

static bool wants_stdin(const struct relay *r)
{
	return r->in_fd >= 0 && relay_takes_input(r);
}

ssize_t relay_put_input(struct relay *r, struct span data)
{
	ssize_t taken = 0;

	if (r->in_eof || r->ended != RELAY_RUNNING || r->peer_gone)
		return -EPIPE;
	while (data.len > 0 && relay_takes_input(r)) {
		size_t n = data.len < r->in_credit ? data.len : r->in_credit;

		if (n > WIRE_DATA_MAX)
			n = WIRE_DATA_MAX;
		wire_put(&r->client->out, WIRE_DATA, WIRE_IN, r->stream, CLIENT_EPOCH,
		         span_of(data.at, n));
		r->in_credit -= (uint32_t)n;
		data.at += n;
		data.len -= n;
		taken += (ssize_t)n;
	}
	return taken;
}

void relay_end_input(struct relay *r)
{
	if (!r->in_eof && r->ended == RELAY_RUNNING && !r->peer_gone)
		stdin_ended(r);
}

static void give_credit(struct relay *r, struct relay_sink *s, uint8_t channel)
{
	if (s->credit_owed < RELAY_CREDIT_BYTES || s->eof || r->ended != RELAY_RUNNING)
		return;
	wire_put_u32(&r->client->out, WIRE_CREDIT, channel, r->stream, CLIENT_EPOCH,
	             s->credit_owed);
	s->credit_left += s->credit_owed;
	s->credit_owed = 0;
}

/* Tells the program, once, what a pipe without a reader tells; see above. */
static void tell_broken(struct relay *r)
{
	if ((!r->out.broken && !r->err.broken) || r->ended != RELAY_RUNNING || r->broken_ms)
		return;
	r->broken_ms = clock_mono_ms();
	relay_signal(r, SIGPIPE);
}

/* It writes on, though the signal was sent: it has had its time to act on it. */
static void writes_on(struct relay *r)
{
	if (!r->broken_ms || r->killed || clock_mono_ms() - r->broken_ms < RELAY_BROKEN_GRACE_MS)
		return;
	r->killed = true;
	relay_signal(r, SIGKILL);
}

/* --- from the guest --- */

static int take_text(struct relay *r, const struct wire_frame *f, struct err *e)
{
	struct wire_fail fail;

	if (wire_parse_fail(f->payload, &fail) < 0)
		return err_set(e, -EPROTO, "the guest's %s is damaged", wire_type_name(f->type));
	memcpy(r->fail_text, fail.text.at, fail.text.len);
	r->fail_text[fail.text.len] = '\0';
	fail.text = span_of(r->fail_text, fail.text.len);
	r->fail = fail;
	end(r, RELAY_FAILED);
	return 0;
}

static int take_end(struct relay *r, const struct wire_frame *f, struct err *e)
{
	char *text = malloc(f->payload.len + 1);

	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	memcpy(text, f->payload.at, f->payload.len);
	text[f->payload.len] = '\0';
	free(r->end_json);
	r->end_json = text;
	r->end_bytes = f->payload.len;
	end(r, RELAY_ENDED);
	return 0;
}

static int take_control(struct relay *r, const struct wire_frame *f, struct err *e)
{
	struct span text;

	if (f->type == WIRE_END)
		return take_end(r, f, e);
	if (f->type == WIRE_PROGRESS && wire_parse_text(f->payload, &text) == 0 && !r->started) {
		r->progress = true;
		if (r->ops && r->ops->on_progress)
			r->ops->on_progress(r->ctx, text);
	} else if (r->ops && r->ops->on_answer) {
		r->ops->on_answer(r->ctx, f);
	}
	return 0; /* an answer to nothing we asked does no harm */
}

static int take_started(struct relay *r)
{
	r->started = true;
	if (r->ops && r->ops->on_started)
		r->ops->on_started(r->ctx);
	if (r->until_start)
		end(r, RELAY_STARTED);
	return 0;
}

static int take_stream(struct relay *r, const struct wire_frame *f, struct err *e)
{
	struct relay_sink *s = f->channel == WIRE_ERR ? &r->err : &r->out;
	uint32_t more;

	if (f->type == WIRE_DATA) {
		if (s->broken)
			writes_on(r);
		return sink_take(s, f->payload, e);
	}
	if (f->type == WIRE_EXEC_OK)
		return take_started(r);
	if (f->type == WIRE_EXEC_ERR || f->type == WIRE_RESULT)
		return take_text(r, f, e);
	if (f->type == WIRE_EOF) {
		s->eof = true;
	} else if (f->type == WIRE_CREDIT) {
		if (wire_parse_u32(f->payload, &more) < 0 ||
		    more > WIRE_WINDOW_BYTES - r->in_credit)
			return err_set(e, -EPROTO, "the guest gave more credit than there is");
		r->in_credit += more;
	} else if (f->type == WIRE_EXIT) {
		if (wire_parse_exit(f->payload, &r->exit) < 0)
			return err_set(e, -EPROTO, "the guest's EXIT is damaged");
		end(r, RELAY_EXIT);
	} else if (f->type == WIRE_RESET) {
		if (wire_parse_u32(f->payload, &r->reset_errno) < 0)
			return err_set(e, -EPROTO, "the guest's RESET is damaged");
		/* the sandbox ends, and END, with the reason, is next; otherwise END is far away */
		r->want_end = r->reset_errno == ESHUTDOWN && !r->cut_is_end;
		end(r, RELAY_RESET);
	}
	return 0;
}

static int take_frames(struct relay *r, struct err *e)
{
	struct wire_frame f;

	for (;;) {
		int got = client_next(r->client, &f, e);

		if (got == -EAGAIN)
			return 0;
		if (got == 0 && f.stream == 0)
			got = take_control(r, &f, e);
		else if (got == 0 && f.stream == r->stream)
			got = take_stream(r, &f, e);
		if (got < 0)
			return got;
	}
}

/* --- the loop --- */

bool relay_finished(const struct relay *r)
{
	if (r->ended == RELAY_RUNNING)
		return false;
	if (r->ended == RELAY_DETACHED || r->ended == RELAY_LEFT)
		return true;
	if (sink_waiting(&r->out) || sink_waiting(&r->err))
		return false;
	return !r->want_end || r->peer_gone || r->end_json || r->ended == RELAY_STARTED;
}

static void expect(struct pollfd *p, int fd, short events, bool wanted)
{
	p->fd = wanted ? fd : -1;
	p->events = events;
	p->revents = 0;
}

static int timeout_ms(const struct relay *r)
{
	if (r->progress && !r->started && r->ops && r->ops->on_tick)
		return RELAY_TICK_MS;
	return -1;
}

static int take_signals(struct relay *r)
{
	struct signalfd_siginfo si;

	if (read(r->signal_fd, &si, sizeof(si)) != (ssize_t)sizeof(si))
		return 0;
	if (!r->ops || !r->ops->on_signal)
		return 0;
	r->left = r->ops->on_signal(r->ctx, r, &si);
	if (r->left != 0)
		r->ended = RELAY_LEFT;
	return 0;
}

/* The supervisor closed. Unless it came after END, or the EXIT we waited for, that is a loss. */
static void peer_left(struct relay *r)
{
	r->peer_gone = true;
	if (!r->end_json && (r->ended == RELAY_RUNNING || r->want_end))
		r->ended = RELAY_LOST;
}

static int serve_peer(struct relay *r, short revents, struct err *e)
{
	int got = 0;

	if (revents & (POLLIN | POLLHUP | POLLERR)) {
		got = client_receive(r->client, e);
		if (got == -ENODATA) {
			/* nothing more comes; what came before was taken in earlier rounds */
			err_clear(e);
			peer_left(r);
			return 0;
		}
		if (got == 0)
			got = take_frames(r, e);
	}
	return got;
}

int relay_serve(struct relay *r, const struct pollfd p[RELAY_FDS], struct err *e)
{
	int got = serve_peer(r, p[RELAY_PEER].revents, e);

	if (got == 0 && p[RELAY_OUT].revents)
		got = sink_flush(&r->out, e);
	if (got == 0 && p[RELAY_ERR].revents)
		got = sink_flush(&r->err, e);
	if (got == 0 && p[RELAY_IN].revents && wants_stdin(r))
		got = read_stdin(r, e);
	if (got == 0 && p[RELAY_SIGNAL].revents)
		got = take_signals(r);
	if (got < 0)
		return got;
	tell_broken(r);
	return 0;
}

int relay_prepare(struct relay *r, struct pollfd p[RELAY_FDS], struct err *e)
{
	int got = 0;

	give_credit(r, &r->out, WIRE_OUT);
	give_credit(r, &r->err, WIRE_ERR);
	if (!r->peer_gone)
		got = client_send(r->client, e);
	if (got < 0 && got != -EPIPE)
		return got;
	if (got < 0)
		err_clear(e); /* its last words may still be there to be read */
	expect(&p[RELAY_PEER], r->client->fd, POLLIN, !r->peer_gone);
	if (got == 0 && client_pending(r->client))
		p[RELAY_PEER].events |= POLLOUT;
	expect(&p[RELAY_SIGNAL], r->signal_fd, POLLIN, true);
	expect(&p[RELAY_IN], r->in_fd, POLLIN, wants_stdin(r));
	expect(&p[RELAY_OUT], r->out.write_fd, POLLOUT, sink_waiting(&r->out));
	expect(&p[RELAY_ERR], r->err.write_fd, POLLOUT, sink_waiting(&r->err));
	return 0;
}

/* One wait for whatever can happen next. */
static int round_trip(struct relay *r, struct err *e)
{
	struct pollfd p[RELAY_FDS];
	int got = relay_prepare(r, p, e);

	if (got < 0)
		return got;
	got = poll(p, RELAY_FDS, timeout_ms(r));
	if (got < 0 && errno != EINTR)
		return err_sys(e, "poll");
	if (got <= 0) {
		if (got == 0 && r->ops && r->ops->on_tick)
			r->ops->on_tick(r->ctx);
		return 0;
	}
	return relay_serve(r, p, e);
}

static void tell_ended(struct relay *r)
{
	if (r->told_ended || r->ended == RELAY_RUNNING || sink_waiting(&r->out) ||
	    sink_waiting(&r->err))
		return;
	r->told_ended = true;
	if (r->ops && r->ops->on_ended)
		r->ops->on_ended(r->ctx);
}

int relay_run(struct relay *r, struct err *e)
{
	int got = take_frames(r, e);

	while (got == 0 && !relay_finished(r)) {
		tell_ended(r);
		got = round_trip(r, e);
	}
	if (got == 0 && r->ended == RELAY_LOST)
		return err_set(e, -ENODATA, "the sandbox's supervisor has gone");
	return got;
}
