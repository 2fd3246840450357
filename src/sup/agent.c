#include "sup/sup.h"

#include "base/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum handled { HANDLED, WAIT };

void sup_lied(struct sup *s, const char *how)
{
	sup_end(s, RESULT_AGENT_LIED, 125, "the guest's agent broke the protocol: %s%s", how,
	        sup_distrust(s));
}

struct sup_stream *sup_stream_find(struct sup *s, uint32_t agent_id)
{
	for (size_t i = 0; i < SUP_STREAMS_MAX; i++)
		if (s->streams[i].used && s->streams[i].agent_id == agent_id)
			return &s->streams[i];
	return NULL;
}

struct sup_stream *sup_stream_new(struct sup *s, uint8_t kind)
{
	for (size_t i = 0; i < SUP_STREAMS_MAX; i++) {
		struct sup_stream *st = &s->streams[i];

		if (st->used || s->next_agent_id == UINT32_MAX) /* ids are never used again */
			continue;
		*st = (struct sup_stream){ .used = true,
			                   .kind = kind,
			                   .may_take = WIRE_WINDOW_BYTES };
		if (s->next_agent_id == SUP_MAIN_STREAM) /* MAIN's id is nobody else's */
			s->next_agent_id++;
		st->agent_id = kind == SUP_MAIN ? SUP_MAIN_STREAM : s->next_agent_id++;
		s->main_begun |= kind == SUP_MAIN;
		st->may_send[WIRE_OUT] = st->may_send[WIRE_ERR] = WIRE_WINDOW_BYTES;
		return st;
	}
	return NULL;
}

/* --- the main command --- */

static bool caller_feeds_credit(const struct sup *s)
{
	return !s->spec.detach && s->owner && s->owner->attached;
}

static size_t frame_bytes(const struct wire_frame *f)
{
	return WIRE_HEADER_BYTES + f->payload.len;
}

/* Sent with the others at the end: what comes in one piece leaves in one. */
static void put_frame(struct sup_client *c, uint32_t stream, const struct wire_frame *f)
{
	if (f->type == WIRE_DATA)
		link_put_data(c->link, f->channel, stream, 1, f->payload);
	else
		wire_put(&c->link->out, f->type, f->channel, stream, 1, f->payload);
	c->dirty = true;
}

static void flush_dirty(struct sup *s)
{
	for (size_t i = 0; i < SUP_CLIENTS_MAX; i++) {
		struct sup_client *c = &s->clients[i];

		if (!c->used || !c->dirty)
			continue;
		c->dirty = false;
		sup_watch_client(c);
	}
}

/* Whether a frame fits, now or after sending; if not, the connection is polled until it does. */
static bool make_room(struct sup_client *c, size_t bytes)
{
	c->awaited = !sup_fits(c, bytes) && link_flush(c->link) != 0 && !sup_fits(c, bytes);
	c->dirty |= c->awaited;
	return !c->awaited;
}

/* The room for this RESET is part of what is kept free. */
static void let_go(struct sup_client *c)
{
	c->awaited = false;
	c->attached = false;
	c->input = false;
	wire_put_u32(&c->link->out, WIRE_RESET, 0, c->attach_id, 1, ENOBUFS);
	sup_watch_client(c);
}

/* To everybody attached. The caller is waited for; others that cannot keep up are let go. */
static enum handled copy_to_attached(struct sup *s, const struct wire_frame *f)
{
	if (caller_feeds_credit(s) && !make_room(s->owner, frame_bytes(f)))
		return WAIT;
	for (size_t i = 0; i < SUP_CLIENTS_MAX; i++) {
		struct sup_client *c = &s->clients[i];
		bool caller = c == s->owner && caller_feeds_credit(s);

		if (!c->used || !c->attached || c->closing)
			continue;
		if (f->type == WIRE_DATA && !caller) {
			if (c->may_get[f->channel] < f->payload.len) {
				let_go(c);
				continue;
			}
			c->may_get[f->channel] -= (uint32_t)f->payload.len;
		}
		if (!make_room(c, frame_bytes(f))) {
			let_go(c);
			continue;
		}
		put_frame(c, c->attach_id, f);
	}
	return HANDLED;
}

/*
 * Credit for stdin is the agent's towards MAIN, and what it means to a command depends on when that
 * one attached: it may never know of more than a window.
 */
static enum handled main_credit(struct sup *s, uint32_t bytes)
{
	for (size_t i = 0; i < SUP_CLIENTS_MAX; i++) {
		struct sup_client *c = &s->clients[i];
		uint32_t most;

		if (!c->used || !c->input || c->closing)
			continue;
		most = WIRE_WINDOW_BYTES - c->may_put;
		if (bytes > most)
			bytes = most;
		if (bytes == 0)
			break;
		if (!make_room(c, WIRE_HEADER_BYTES + sizeof(bytes))) {
			if (c == s->owner && caller_feeds_credit(s))
				return WAIT;
			let_go(c);
			break;
		}
		c->may_put += bytes;
		wire_put_u32(&c->link->out, WIRE_CREDIT, WIRE_IN, c->attach_id, 1, bytes);
		c->dirty = true;
		break; /* only one has the input */
	}
	return HANDLED;
}

/* While no caller reads, we do: in few frames, as an agent that does not read them fills us up. */
void sup_grant(struct sup *s, struct sup_stream *st, uint8_t channel)
{
	if (caller_feeds_credit(s) || st->owed[channel] < SUP_GRANT_BYTES || sup_held(s))
		return;
	wire_put_u32(&s->agent->out, WIRE_CREDIT, channel, st->agent_id, s->epoch,
	             st->owed[channel]);
	st->may_send[channel] += st->owed[channel];
	st->owed[channel] = 0;
}

static enum handled main_data(struct sup *s, struct sup_stream *st, const struct wire_frame *f)
{
	uint64_t max = s->spec.limits.output_bytes;
	uint32_t len = (uint32_t)f->payload.len;
	struct wire_frame cut = *f;

	if (max > 0 && len > max - s->result.output_bytes)
		cut.payload.len = max - s->result.output_bytes;
	if (cut.payload.len > 0 && copy_to_attached(s, &cut) == WAIT)
		return WAIT;
	if (s->state == SUP_ENDING) /* the caller was found to be gone */
		return HANDLED;
	st->may_send[f->channel] -= len;
	s->result.output_bytes += cut.payload.len;
	s->idle_since_ms = clock_mono_ms();
	if (cut.payload.len > 0)
		outlog_append(&s->log, f->channel, clock_real_ns() / 1000000, cut.payload);
	if (cut.payload.len < len) {
		s->result.limits_hit |= RESULT_HIT_OUTPUT;
		sup_end(s, RESULT_OUTPUT, 137,
		        "it wrote more than the output limit of %" PRIu64 " bytes (--output)", max);
		return HANDLED;
	}
	if (!caller_feeds_credit(s))
		st->owed[f->channel] += len;
	sup_grant(s, st, f->channel);
	return HANDLED;
}

/* Which limit, if any, the end of the main command is owed to: the agent said so just before. */
static uint8_t exit_reason(const struct sup *s, const struct wire_exit *x)
{
	if (x->signaled && (s->killed_for & RESULT_HIT_PIDS))
		return RESULT_PIDS;
	if (x->signaled && (s->killed_for & RESULT_HIT_MEMORY))
		return RESULT_MEMORY;
	if (x->signaled)
		return RESULT_SIGNALED;
	/* a shell's word for a child that was killed */
	if (x->value == 128 + 9 && (s->result.limits_hit & RESULT_HIT_MEMORY))
		return RESULT_MEMORY;
	if (x->value != 0 && (s->result.limits_hit & RESULT_HIT_DISK))
		return RESULT_DISK;
	return RESULT_EXITED;
}

static void end_by_exit(struct sup *s, const struct wire_exit *x)
{
	uint32_t code = x->signaled ? 128 + x->value : x->value;
	uint8_t reason = exit_reason(s, x);

	s->result.user_us = x->user_us;
	s->result.sys_us = x->sys_us;
	s->result.maxrss_bytes = x->maxrss_bytes;
	s->result.signal = x->signaled ? x->value : 0;
	if (s->stop_grace_ms > 0) { /* it took the chance to end well that STOP gave it */
		sup_end(s, RESULT_STOPPED, code, "%s", "");
		return;
	}
	switch (reason) {
	case RESULT_PIDS:
		sup_end(s, reason, 137,
		        "it kept starting processes beyond the limit of %" PRIu64 " (--pids)",
		        s->spec.limits.pids);
		break;
	case RESULT_MEMORY:
		sup_end(s, reason, 137,
		        "it needed more memory than the guest's %" PRIu64 " MiB (--memory)",
		        s->spec.limits.memory_bytes >> 20);
		break;
	case RESULT_DISK:
		sup_end(s, reason, code, "it filled the guest's disk of %" PRIu64 " MiB (--disk)",
		        s->spec.limits.disk_bytes >> 20);
		break;
	case RESULT_SIGNALED:
		sup_end(s, reason, code, "it was ended by signal %" PRIu32, x->value);
		break;
	default:
		sup_end(s, reason, code, "%s", "");
		break;
	}
}

static uint32_t failed_code(const struct wire_fail *f)
{
	if (f->stage != WIRE_AT_EXEC)
		return 125;
	return f->code == ENOENT ? 127 : 126;
}

static void end_by_failure(struct sup *s, const struct wire_fail *f)
{
	sup_end(s, RESULT_COMMAND, failed_code(f), "%.*s", (int)f->text.len,
	        (const char *)f->text.at);
}

/* --- frames by type --- */

static void ready(struct sup *s)
{
	(void)uv_timer_stop(&s->deadline);
	s->state = SUP_READY;
	s->boot_ms = (uint32_t)(clock_mono_ms() - s->started_ms);
	if (!s->spec.rescue) {
		sup_start_main(s);
		return;
	}
	s->main_begun = true; /* there is no main command, and never was */
	s->state = SUP_RUNNING;
	sup_end(s, RESULT_EXITED, 0, "%s", "");
}

static void on_hello(struct sup *s, const struct wire_frame *f)
{
	struct wire_hello hello;

	if (s->state != SUP_STARTING || !s->boot || wire_parse_hello(f->payload, &hello) < 0) {
		sup_lied(s, "HELLO out of place");
		return;
	}
	if (hello.version != WIRE_VERSION) {
		sup_end(s, RESULT_NOT_STARTED, 125,
		        "the guest's agent speaks version %" PRIu32
		        " and berm %d: run 'make install' again",
		        hello.version, WIRE_VERSION);
		return;
	}
	wire_put_u32(&s->agent->out, WIRE_HELLO_OK, 0, 0, s->epoch, WIRE_VERSION);
	sup_put_identity(s); /* only now: its clock was to be right after a slow boot, too */
	s->boot = false;
}

static void on_event(struct sup *s, const struct wire_frame *f)
{
	struct wire_event v;
	uint8_t bit;

	if (wire_parse_event(f->payload, &v) < 0 || ++s->events > SUP_EVENTS_MAX) {
		sup_lied(s, "too many events");
		return;
	}
	bit = v.kind == WIRE_EVENT_OOM    ? RESULT_HIT_MEMORY
	      : v.kind == WIRE_EVENT_PIDS ? RESULT_HIT_PIDS
	                                  : RESULT_HIT_DISK;
	s->result.limits_hit |= bit;
	if (v.killed)
		s->killed_for |= bit;
}

/* The agent gives up, and says why. */
static void on_last_words(struct sup *s, const struct wire_frame *f)
{
	bool late = s->state >= SUP_READY; /* the command may have run: it did not fail to start */
	struct span text;

	if (wire_parse_text(f->payload, &text) < 0)
		sup_lied(s, "a sentence that cannot be read");
	else
		sup_end(s, late ? RESULT_ENGINE_DIED : RESULT_NOT_STARTED, 125, "%s: %.*s%s",
		        late ? "the guest broke down" : "the guest cannot be used", (int)text.len,
		        (const char *)text.at, sup_distrust(s));
}

static void on_control(struct sup *s, const struct wire_frame *f)
{
	switch (f->type) {
	case WIRE_HELLO:
		on_hello(s, f);
		return;
	case WIRE_IDENTITY_OK:
		if (s->state != SUP_STARTING || s->boot || !sup_take_trusted(s, f->payload))
			sup_lied(s, "IDENTITY_OK out of place");
		else
			ready(s);
		return;
	case WIRE_EVENT:
		on_event(s, f);
		return;
	case WIRE_STATS_OK:
		if (!s->stats_asked || wire_parse_stats(f->payload, &s->stats) < 0) {
			sup_lied(s, "STATS_OK out of place");
			return;
		}
		s->stats_asked = false;
		s->stats_known = true;
		sup_info_step(s);
		return;
	case WIRE_HOLD_OK:
	case WIRE_RELEASE_OK:
		sup_hold_ok(s, f);
		return;
	case WIRE_FATAL:
	case WIRE_REFUSE:
		on_last_words(s, f);
		return;
	default:
		sup_lied(s, "a frame nobody asked for");
		return;
	}
}

static void on_prepare_deadline(uv_timer_t *t)
{
	struct sup *s = t->data;

	sup_end(s, RESULT_AGENT_SILENT, 125, "the guest did not take a file within %d s",
	        SUP_PREPARE_MS / 1000);
}

void sup_limit_prepare(struct sup *s)
{
	if (s->state == SUP_READY && s->stop_grace_ms == 0) /* else it is STOP's deadline */
		(void)uv_timer_start(&s->deadline, on_prepare_deadline, SUP_PREPARE_MS, 0);
}

/* The stream is over for the agent; its id is not used again. */
static void on_stream_end(struct sup *s, struct sup_stream *st, const struct wire_frame *f)
{
	struct wire_exit x;
	struct wire_fail fail;

	st->used = false;
	if (s->state == SUP_READY && st->kind == SUP_FILES && s->stop_grace_ms == 0)
		(void)uv_timer_stop(&s->deadline);
	if (st->kind == SUP_COLLECT)
		sup_collect_result(s, st, f);
	if (st->kind != SUP_MAIN)
		return;
	if (f->type == WIRE_EXIT && wire_parse_exit(f->payload, &x) == 0)
		end_by_exit(s, &x);
	else if (f->type == WIRE_EXEC_ERR && wire_parse_fail(f->payload, &fail) == 0)
		end_by_failure(s, &fail);
}

/* How an end of a stream breaks the rules, or NULL. */
static const char *wrong_end(const struct sup_stream *st, const struct wire_frame *f)
{
	struct wire_exit x;
	struct wire_fail fail;

	switch (f->type) {
	case WIRE_EXIT:
		if (!st->started)
			return "EXIT of a command that never started";
		return wire_parse_exit(f->payload, &x) < 0 ? "an EXIT that cannot be read" : NULL;
	case WIRE_EXEC_ERR:
	case WIRE_RESULT:
		if (f->type == WIRE_EXEC_ERR && (st->started || st->kind >= SUP_FILES))
			return "EXEC_ERR out of place";
		if (f->type == WIRE_RESULT && st->kind < SUP_FILES)
			return "RESULT of a command";
		return wire_parse_fail(f->payload, &fail) < 0 ? "an end that cannot be read" : NULL;
	default: /* RESET */
		return st->kind == SUP_MAIN ? "the main command ended without an exit code" : NULL;
	}
}

/* How a frame breaks the rules of its stream, or NULL: judged before anybody is told of it. */
static const char *wrong(const struct sup_stream *st, const struct wire_frame *f)
{
	uint32_t bytes;

	switch (f->type) {
	case WIRE_DATA:
		if (!st->started && st->kind < SUP_FILES)
			return "output of a command that has not started";
		if (st->ended[f->channel])
			return "output after its EOF";
		return f->payload.len > st->may_send[f->channel] ? "output beyond its credit"
		                                                 : NULL;
	case WIRE_EOF:
		return st->ended[f->channel] ? "EOF twice" : NULL;
	case WIRE_CREDIT:
		if (wire_parse_u32(f->payload, &bytes) < 0 || bytes == 0 ||
		    bytes > WIRE_WINDOW_BYTES - st->may_take)
			return "more credit than the window";
		return NULL;
	case WIRE_SIZE:
		return st->kind != SUP_COLLECT || st->sized ? "SIZE out of place" : NULL;
	case WIRE_EXEC_OK:
		return st->started || st->kind >= SUP_FILES ? "EXEC_OK out of place" : NULL;
	default:
		return wrong_end(st, f);
	}
}

static void main_started(struct sup *s)
{
	uint64_t now = clock_mono_ms();

	s->state = SUP_RUNNING;
	s->main_ms = now;
	s->result.start_ms = now - s->started_ms;
	s->idle_since_ms = now;
	sup_start_limits(s);       /* anew: a slow start is not the command's time */
	if (s->stop_grace_ms == 0) /* else it is STOP's deadline by now */
		(void)uv_timer_stop(&s->deadline);
}

/* Passes a frame of a relayed stream on to its command's connection. */
static enum handled pass_on(struct sup_stream *st, const struct wire_frame *f)
{
	struct sup_client *c = st->client;

	if (!c || !c->used || c->closing)
		return HANDLED;
	if (!make_room(c, frame_bytes(f)))
		return WAIT;
	put_frame(c, st->client_id, f);
	return HANDLED;
}

static enum handled on_stream(struct sup *s, const struct wire_frame *f)
{
	struct sup_stream *st = sup_stream_find(s, f->stream);
	const char *how;
	uint32_t bytes = 0;
	enum handled h;

	if (s->state == SUP_STARTING) { /* a copy has a stream by then */
		sup_lied(s, "a stream before IDENTITY_OK");
		return HANDLED;
	}
	/* frames of a stream that we reset may still be on their way; ids of the future are not */
	if (!st) {
		if (f->stream >= s->next_agent_id ||
		    (f->stream == SUP_MAIN_STREAM && !s->main_begun))
			sup_lied(s, "a stream that nobody opened");
		return HANDLED;
	}
	how = wrong(st, f);
	if (how) {
		sup_lied(s, how);
		return HANDLED;
	}
	if (f->type == WIRE_CREDIT && wire_parse_u32(f->payload, &bytes) < 0)
		return HANDLED; /* not so: it was read before */
	if (st->kind == SUP_COLLECT) {
		sup_collect_data(s, st, f);
		h = HANDLED;
	} else if (st->kind != SUP_MAIN)
		h = pass_on(st, f);
	else if (f->type == WIRE_DATA)
		return main_data(s, st, f);
	else
		h = f->type == WIRE_CREDIT ? main_credit(s, bytes) : copy_to_attached(s, f);
	if (h == WAIT)
		return WAIT;
	if (s->state == SUP_ENDING) /* the caller was found to be gone */
		return HANDLED;
	if (f->type == WIRE_DATA)
		st->may_send[f->channel] -= (uint32_t)f->payload.len;
	if (f->type == WIRE_EOF)
		st->ended[f->channel] = true;
	st->may_take += bytes;
	if (f->type == WIRE_EXEC_OK && wire_parse_u32(f->payload, &st->pid) == 0) {
		st->started = true;
		if (st->kind == SUP_MAIN)
			main_started(s);
	}
	s->idle_since_ms = clock_mono_ms();
	if (f->type == WIRE_EXIT || f->type == WIRE_EXEC_ERR || f->type == WIRE_RESULT ||
	    f->type == WIRE_RESET)
		on_stream_end(s, st, f);
	return HANDLED;
}

/* Takes frames until there are no more, one has to wait, or the sandbox ends. */
void sup_agent_frames(struct sup *s)
{
	s->agent_choked = false;
	while (s->state != SUP_ENDING && !s->agent_paused) {
		size_t mark = s->agent->in_at;
		struct wire_frame f;
		int r = link_next(s->agent, &f);

		if (r == -EAGAIN)
			break;
		if (r < 0) {
			sup_lied(s, "bytes that are no frame");
			return;
		}
		if (f.epoch != s->epoch) {
			sup_lied(s, "a frame of another epoch");
			return;
		}
		if (s->hold == SUP_HELD) {
			sup_lied(s, "a frame while it is held");
			return;
		}
		if (link_room(s->agent) < SUP_ANSWER_BYTES && link_flush(s->agent) != 0 &&
		    link_room(s->agent) < SUP_ANSWER_BYTES) {
			s->agent->in_at = mark;
			s->agent_choked = s->room_wanted = true;
			break;
		}
		if (f.stream != 0 && s->state == SUP_READY && spec_is_copy(&s->spec)) {
			s->agent->in_at = mark; /* sup_start_main() waits for its caller */
			s->agent_paused = true;
			break;
		}
		if (f.stream == 0) {
			on_control(s, &f);
		} else if (on_stream(s, &f) == WAIT) {
			s->agent->in_at = mark;
			s->agent_paused = true;
		}
	}
	if (s->state != SUP_ENDING)
		flush_dirty(s);
	if (s->state != SUP_ENDING)
		sup_resume_clients(s);
}

void sup_agent_readable(struct sup *s)
{
	int r = link_read(s->agent);

	if (r == -EAGAIN)
		return;
	if (r == 0 || r == -ENOBUFS) {
		sup_agent_frames(s);
		return;
	}
	sup_agent_gone(s);
}

static void on_exec_deadline(uv_timer_t *t)
{
	struct sup *s = t->data;

	sup_end(s, RESULT_AGENT_SILENT, 125, "the guest did not start the command within %d s",
	        SUP_EXEC_MS / 1000);
}

void sup_take_main(struct sup *s)
{
	struct sup_stream *st;

	if (s->spec.main_pid == 0) {
		s->main_begun = true; /* and there is none */
		return;
	}
	st = sup_stream_new(s, SUP_MAIN); /* the first, so that is its id */
	if (!st)
		return; /* not so: there are none yet */
	st->started = true;
	st->pid = s->spec.main_pid;
	st->may_take = 0; /* the agent says how much */
	st->ended[WIRE_IN] = s->spec.main_stdin_eof;
}

/*
 * It runs without an EXEC. Without a main command the guest is all there is: it runs, and ends when
 * it is told to.
 */
static void start_running(struct sup *s)
{
	s->main_begun = true; /* whether there is one or not */
	main_started(s);
	s->agent_paused = false; /* what a copy said before there was somebody to have it */
	s->room_wanted = true;   /* the loop comes to that, and to the commands that wait */
	for (size_t i = 0; i < SUP_CLIENTS_MAX; i++) {
		struct sup_client *c = &s->clients[i];

		if (!c->used || !c->attached || c->closing)
			continue;
		wire_put_u32(&c->link->out, WIRE_EXEC_OK, 0, c->attach_id, 1, s->spec.main_pid);
		sup_watch_client(c);
	}
}

/*
 * The main command starts when the guest is ready and, for a foreground run, the caller is
 * attached: so that no byte of output can come before there is somebody to have it.
 */
void sup_start_main(struct sup *s)
{
	struct sup_stream *st;
	struct wire_exec x = {
		.flags = (s->spec.tty ? WIRE_EXEC_TTY : 0u) |
		         (s->spec.stdin_open ? WIRE_EXEC_STDIN : 0u),
		.rows = s->spec.rows,
		.cols = s->spec.cols,
		.user = span_str(s->spec.user ? s->spec.user : ""),
		.cwd = span_str(s->spec.cwd ? s->spec.cwd : ""),
	};
	size_t start;

	if (s->state != SUP_READY || (s->main_begun && !spec_is_copy(&s->spec)))
		return;
	if (!s->spec.detach && !(s->owner && s->owner->attached))
		return;
	if (!s->spec.argv[0] || spec_is_copy(&s->spec)) {
		start_running(s);
		return;
	}
	st = sup_stream_new(s, SUP_MAIN);
	if (link_room(s->agent) < WIRE_FRAME_MAX || !st) {
		sup_end(s, RESULT_AGENT_SILENT, 125, "the guest does not read what it is sent");
		return;
	}
	start = s->agent->out.len;
	wire_put_exec(&s->agent->out, st->agent_id, s->epoch, &x, s->spec.argv, s->spec.envp);
	sup_add_env(s, start);
	if (!buf_ok(&s->agent->out)) {
		sup_end(s, RESULT_NOT_STARTED, 125,
		        "the command and its environment are over %d KiB", WIRE_EXEC_MAX >> 10);
		return;
	}
	s->idle_since_ms = clock_mono_ms();
	sup_start_limits(s); /* an agent that never says EXEC_OK gets no more time */
	if (s->stop_grace_ms == 0)
		(void)uv_timer_start(&s->deadline, on_exec_deadline, SUP_EXEC_MS, 0);
	sup_watch_agent(s);
}
