#include "sup/sup.h"

#include "base/clock.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

enum handled { HANDLED, WAIT };

/*
 * A command that breaks the protocol is not told much: it is ours, and of another version or
 * broken.
 */
static void refuse(struct sup_client *c, const char *why)
{
	wire_put_text(&c->link->out, WIRE_REFUSE, 1, why);
	c->closing = true;
}

/* Answers of a fixed size. Whoever asks on and on and reads none of them is let go. */
static void answer(struct sup_client *c, uint8_t type, uint32_t stream, uint32_t number)
{
	if (sup_fits(c, WIRE_HEADER_BYTES + sizeof(number)))
		wire_put_u32(&c->link->out, type, 0, stream, 1, number);
	else
		refuse(c, "it reads no answers");
}

static void reset(struct sup_client *c, uint32_t stream, uint32_t why)
{
	answer(c, WIRE_RESET, stream, why);
}

struct sup_stream *sup_client_stream(struct sup_client *c, uint32_t client_id)
{
	struct sup *s = c->sup;

	for (size_t i = 0; i < SUP_STREAMS_MAX; i++)
		if (s->streams[i].used && s->streams[i].client == c &&
		    s->streams[i].client_id == client_id)
			return &s->streams[i];
	return NULL;
}

static struct sup_stream *main_stream(struct sup *s)
{
	struct sup_stream *st = sup_stream_find(s, SUP_MAIN_STREAM);

	return st && st->kind == SUP_MAIN ? st : NULL;
}

/* One stream a connection: its window then fits the connection's buffer whatever the guest does. */
static bool has_stream(const struct sup_client *c)
{
	const struct sup *s = c->sup;

	if (c->attached)
		return true;
	for (size_t i = 0; i < SUP_STREAMS_MAX; i++)
		if (s->streams[i].used && s->streams[i].client == c)
			return true;
	return false;
}

static bool input_taken(const struct sup *s)
{
	for (size_t i = 0; i < SUP_CLIENTS_MAX; i++)
		if (s->clients[i].used && s->clients[i].input)
			return true;
	return false;
}

static void attach(struct sup_client *c, const struct wire_frame *f)
{
	struct sup *s = c->sup;
	struct sup_stream *st = main_stream(s);
	uint8_t want_stdin = 0;

	if (wire_parse_u8(f->payload, &want_stdin) < 0 || has_stream(c)) {
		reset(c, f->stream, EBUSY);
		return;
	}
	c->attached = true;
	c->wait = true;
	c->attach_id = f->stream;
	c->input = want_stdin && s->spec.stdin_open && !input_taken(s);
	c->may_get[WIRE_OUT] = c->may_get[WIRE_ERR] = WIRE_WINDOW_BYTES;
	c->may_put = WIRE_WINDOW_BYTES;
	if (st ? st->started : s->state == SUP_RUNNING)
		answer(c, WIRE_EXEC_OK, c->attach_id,
		       st ? st->pid : 0); /* 0: it has no main command */
	sup_start_main(s);
}

/* Of a session: whoever made it puts files into the guest before its command begins. */
static bool may_prepare(const struct sup_client *c, const struct wire_frame *f)
{
	const struct sup *s = c->sup;

	return s->state == SUP_READY && !s->main_begun && s->spec.workspace && c->owner &&
	       f->type != WIRE_EXEC;
}

static enum handled open_stream(struct sup_client *c, const struct wire_frame *f)
{
	struct sup *s = c->sup;
	struct sup_stream *st;
	size_t start = s->agent->out.len;

	if (s->state == SUP_ENDING || s->session.collecting) {
		reset(c, f->stream, ESHUTDOWN);
		return HANDLED;
	}
	if (s->state != SUP_RUNNING && !may_prepare(c, f))
		return WAIT; /* it lies ready when the guest runs */
	if (has_stream(c)) {
		reset(c, f->stream, EBUSY);
		return HANDLED;
	}
	st = sup_stream_new(s, f->type == WIRE_EXEC ? SUP_EXEC : SUP_FILES);
	if (!st) {
		reset(c, f->stream, EMFILE);
		return HANDLED;
	}
	st->client = c;
	st->client_id = f->stream;
	sup_limit_prepare(s);
	wire_put(&s->agent->out, f->type, 0, st->agent_id, s->epoch, f->payload);
	if (f->type == WIRE_EXEC)
		sup_add_env(s, start);
	return HANDLED;
}

/* DATA, EOF, RESIZE, SIGNAL, RESET of a command on its stream, to the agent. */
static enum handled to_agent(struct sup_client *c, struct sup_stream *st,
                             const struct wire_frame *f)
{
	struct sup *s = c->sup;

	if (f->type == WIRE_DATA || f->type == WIRE_EOF) {
		if (f->channel != WIRE_IN || st->ended[WIRE_IN])
			return HANDLED;
		if (f->payload.len > st->may_take)
			return WAIT;
		st->may_take -= (uint32_t)f->payload.len;
		st->ended[WIRE_IN] = f->type == WIRE_EOF;
	}
	wire_put(&s->agent->out, f->type, f->channel, st->agent_id, s->epoch, f->payload);
	if (f->type == WIRE_RESET)
		st->used = false;
	s->idle_since_ms = clock_mono_ms();
	return HANDLED;
}

/*
 * Credit passes through, but never beyond the window: a wrong sum here would be held against the
 * agent.
 */
static void credit(struct sup_client *c, struct sup_stream *st, const struct wire_frame *f)
{
	struct sup *s = c->sup;
	uint32_t bytes;

	if (wire_parse_u32(f->payload, &bytes) < 0 || f->channel == WIRE_IN || bytes == 0 ||
	    bytes > WIRE_WINDOW_BYTES - st->may_send[f->channel]) {
		refuse(c, "more credit than the window");
		return;
	}
	st->may_send[f->channel] += bytes;
	wire_put_u32(&s->agent->out, WIRE_CREDIT, f->channel, st->agent_id, s->epoch, bytes);
}

static void attached_credit(struct sup_client *c, const struct wire_frame *f)
{
	struct sup *s = c->sup;
	struct sup_stream *st = main_stream(s);
	uint32_t bytes;

	if (c == s->owner && !s->spec.detach) {
		if (st)
			credit(c, st, f);
		return;
	}
	if (wire_parse_u32(f->payload, &bytes) < 0 || f->channel == WIRE_IN ||
	    bytes > WIRE_WINDOW_BYTES - c->may_get[f->channel])
		refuse(c, "more credit than the window");
	else
		c->may_get[f->channel] += bytes;
}

/* If its credit was the agent's, all of that is ours to give from now on. */
static void detach(struct sup_client *c, struct sup_stream *st)
{
	struct sup *s = c->sup;

	c->attached = false;
	c->input = false;
	for (uint8_t i = WIRE_OUT; st && i <= WIRE_ERR; i++) {
		if (c == s->owner && !s->spec.detach)
			st->owed[i] = WIRE_WINDOW_BYTES - st->may_send[i];
		sup_grant(s, st, i);
	}
	if (s->agent_paused) { /* perhaps for this one; the frame itself says */
		s->agent_paused = false;
		s->room_wanted = true; /* the loop comes to it, after the commands' frames */
	}
}

static enum handled on_attached(struct sup_client *c, const struct wire_frame *f)
{
	struct sup_stream *st = main_stream(c->sup);

	if (f->type == WIRE_CREDIT) {
		attached_credit(c, f);
		return HANDLED;
	}
	if (f->type == WIRE_RESET) {
		detach(c, st);
		return HANDLED;
	}
	if (!st)
		return HANDLED;
	if ((f->type == WIRE_DATA || f->type == WIRE_EOF) && !c->input)
		return HANDLED;
	/* somebody who leaves a detached command does not end its input for the next */
	if (f->type == WIRE_EOF && c->sup->spec.detach && c->sup->spec.tty)
		return HANDLED;
	if (to_agent(c, st, f) == WAIT)
		return WAIT;
	if (f->type == WIRE_DATA)
		c->may_put -= f->payload.len < c->may_put ? (uint32_t)f->payload.len : c->may_put;
	return HANDLED;
}

static enum handled on_stream(struct sup_client *c, const struct wire_frame *f)
{
	struct sup_stream *st;

	if (f->type == WIRE_ATTACH) {
		attach(c, f);
		return HANDLED;
	}
	if (f->type == WIRE_EXEC || f->type == WIRE_PUT || f->type == WIRE_GET)
		return open_stream(c, f);
	if (c->attached && f->stream == c->attach_id)
		return on_attached(c, f);
	st = sup_client_stream(c, f->stream);
	if (!st)
		return HANDLED; /* it ended a moment ago */
	if (f->type == WIRE_CREDIT) {
		credit(c, st, f);
		return HANDLED;
	}
	return to_agent(c, st, f);
}

static void on_poweroff_deadline(uv_timer_t *t)
{
	struct sup *s = t->data;

	sup_end(s, RESULT_STOPPED, 137, "%s", "");
}

static void stop(struct sup *s, uint32_t grace_ms)
{
	uint64_t wait_ms = (uint64_t)grace_ms + SUP_POWEROFF_EXTRA_MS;

	/* without a command there is nobody to give a grace to, and a guest is still needed */
	if (grace_ms == 0 || s->state < SUP_READY || s->session.collecting ||
	    s->session.lingering) {
		sup_end(s, RESULT_STOPPED, 137, "%s", "");
		return;
	}
	/* the guest is told once; a second STOP may bring the end nearer, never put it off */
	if (s->stop_grace_ms > 0 && uv_timer_get_due_in(&s->deadline) <= wait_ms)
		return;
	/* a session's guest stays until its work is here: only its command is told */
	if (s->stop_grace_ms == 0 && s->spec.workspace && main_stream(s))
		wire_put_u32(&s->agent->out, WIRE_SIGNAL, 0, SUP_MAIN_STREAM, s->epoch, SIGTERM);
	else if (s->stop_grace_ms == 0)
		wire_put_u32(&s->agent->out, WIRE_POWEROFF, 0, 0, s->epoch, grace_ms);
	s->stop_grace_ms = grace_ms;
	(void)uv_timer_start(&s->deadline, on_poweroff_deadline, wait_ms, 0);
}

static void on_control(struct sup_client *c, const struct wire_frame *f)
{
	struct sup *s = c->sup;
	uint32_t number = 0;

	switch (f->type) {
	case WIRE_HELLO_OK:
		return;
	case WIRE_WAIT:
		c->wait = true;
		return;
	case WIRE_INFO:
		c->info = true;
		sup_ask_stats(s);
		return;
	case WIRE_STOP:
		c->wait = true;
		if (wire_parse_u32(f->payload, &number) == 0)
			stop(s, number);
		return;
	case WIRE_SNAPSHOT:
	case WIRE_PAUSE:
	case WIRE_RESUME:
		sup_request(c, f);
		return;
	case WIRE_KILL:
		if (wire_parse_u32(f->payload, &number) == 0 && main_stream(s))
			wire_put_u32(&s->agent->out, WIRE_SIGNAL, 0, SUP_MAIN_STREAM, s->epoch,
			             number);
		return;
	default:
		refuse(c, "not to a supervisor");
		return;
	}
}

/* Does it have to wait for the guest, which is held, or on its way out of that? */
static bool has_to_wait(const struct sup *s, const struct wire_frame *f)
{
	uint32_t grace_ms;

	if (f->type == WIRE_SNAPSHOT || f->type == WIRE_PAUSE || f->type == WIRE_RESUME)
		return sup_going_on(s);
	if (!sup_held(s))
		return false;
	if (f->stream != 0)
		return f->type != WIRE_ATTACH;
	if (f->type == WIRE_STOP)
		return wire_parse_u32(f->payload, &grace_ms) == 0 && grace_ms > 0;
	return f->type == WIRE_KILL;
}

void sup_client_frames(struct sup_client *c)
{
	struct sup *s = c->sup;

	c->paused = false;
	while (c->used && !c->closing && s->state != SUP_ENDING) {
		size_t mark = c->link->in_at;
		struct wire_frame f;
		int r = link_next(c->link, &f);

		if (r == -EAGAIN)
			break;
		if (r < 0) {
			refuse(c, "bytes that are no frame: is this berm of the same version?");
			break;
		}
		if (has_to_wait(s, &f)) {
			c->link->in_at = mark;
			c->paused = true;
			/* the guest is to hear it: to end well, or what it makes of a signal */
			if (f.stream == 0 && (f.type == WIRE_STOP || f.type == WIRE_KILL))
				sup_wake(s);
			break;
		}
		/* whatever it is, the agent's buffer must be able to take it whole */
		if (link_room(s->agent) < WIRE_FRAME_MAX && link_flush(s->agent) != 0 &&
		    link_room(s->agent) < WIRE_FRAME_MAX) {
			c->link->in_at = mark;
			c->paused = s->room_wanted = true;
			break;
		}
		if (f.stream == 0) {
			on_control(c, &f);
		} else if (on_stream(c, &f) == WAIT) {
			c->link->in_at = mark;
			c->paused = true;
			break;
		}
	}
	if (s->state != SUP_ENDING)
		sup_watch_agent(s);
}

bool sup_client_quiet(const struct sup_client *c, uint64_t now_ms)
{
	const struct sup *s = c->sup;

	return c->used && !c->closing && !c->owner && !c->wait && !c->info && !c->paused &&
	       s->op.client != c && !has_stream(c) && !link_pending(c->link) &&
	       now_ms - c->heard_ms >= SUP_QUIET_MS;
}

void sup_client_readable(struct sup_client *c)
{
	int r = link_read(c->link);

	c->heard_ms = clock_mono_ms();
	if (r == 0 || r == -ENOBUFS)
		sup_client_frames(c);
	else if (r != -EAGAIN)
		sup_drop_client(c);
}

void sup_resume_clients(struct sup *s)
{
	for (size_t i = 0; i < SUP_CLIENTS_MAX; i++) {
		struct sup_client *c = &s->clients[i];

		if (!c->used || !c->paused || c->closing || !c->poll_open)
			continue;
		sup_client_frames(c);
		if (c->used && !c->paused)
			sup_watch_client(c);
	}
}
