#include "sup/sup.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/*
 * Theory of operation
 *
 *            PREPARING       HOLDING         RESTING                      SEALING
 *   SNAPSHOT  make a draft -> HOLD, HOLD_OK -> stop, save, copy, go on -> RELEASE, flush -> DONE
 *   PAUSE                     HOLD, HOLD_OK -> stop                                     -> DONE
 *   RESUME                                     go on                   -> RELEASE       -> DONE
 *
 * A snapshot of a paused sandbox has nothing to hold and nothing to release. Each step that fails
 * goes straight to the end of its request, by way of RELEASE if the guest is held.
 */

/* --- answers --- */

static void answer(struct sup_client *c, uint32_t code, const char *text)
{
	const struct wire_fail f = { .code = code,
		                     .stage = code ? WIRE_AT_SYSTEM : WIRE_AT_NONE,
		                     .text = span_str(text) };

	if (!c || !c->used)
		return;
	if (sup_fits(c, WIRE_HEADER_BYTES + WIRE_TEXT_MAX + 16))
		wire_put_fail(&c->link->out, WIRE_DONE, 0, 1, &f);
	else
		c->closing = true; /* it asks, and reads no answers */
	sup_watch_client(c);
}

static void refuse(struct sup_client *c, int code, const char *fmt, ...) _printf_(3, 4);
static void refuse(struct sup_client *c, int code, const char *fmt, ...)
{
	char text[WIRE_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	answer(c, (uint32_t)-code, text);
}

/* The request is over, whatever became of it. */
static void finish(struct sup *s, int code, const char *why)
{
	struct sup_client *c = s->op.client;

	sup_save_drop(s);
	s->op.type = 0;
	s->op.phase = 0;
	s->op.client = NULL;
	sup_watch_control(s);
	answer(c, (uint32_t)-code, why);
}

/* Who asked has gone; a RESUME is carried out all the same. */
static bool undone(const struct sup *s)
{
	return s->op.asked && !s->op.client && s->op.type != WIRE_RESUME;
}

/* --- the guest --- */

/* Whoever asks for something meanwhile waits no longer. */
static void on_release_deadline(uv_timer_t *t)
{
	struct sup *s = t->data;

	s->hold_late = true;
	sup_resume_clients(s);
}

/* It goes on: with what was kept from it meanwhile. */
static void release(struct sup *s)
{
	struct sup_stream *main = sup_stream_find(s, SUP_MAIN_STREAM);

	if (!sup_held(s))
		return;
	uv_update_time(&s->loop);
	(void)uv_timer_start(&s->hold_timer, on_release_deadline, SUP_HOLD_MS, 0);
	s->hold_ok_due = s->hold == SUP_ASKED;
	s->hold = SUP_RELEASED;
	wire_put_u64(&s->agent->out, WIRE_RELEASE, 0, s->epoch, clock_real_ns());
	s->idle_since_ms = clock_mono_ms();
	for (uint8_t i = WIRE_OUT; main && i <= WIRE_ERR; i++)
		sup_grant(s, main, i);
	sup_reset_orphans(s);
	sup_resume_clients(s);
	if (s->state != SUP_ENDING)
		sup_watch_agent(s);
}

static void on_hold_deadline(uv_timer_t *t)
{
	struct sup *s = t->data;
	bool unread = s->agent_paused;

	release(s);
	if (s->state == SUP_ENDING)
		return;
	finish(s, -ETIMEDOUT,
	       unread ? "its output is not being read by who started it, so it cannot come to rest"
	              : "its processes did not come to rest in time: try again");
}

static void hold(struct sup *s)
{
	s->op.phase = SUP_HOLDING;
	if (link_room(s->agent) < SUP_ANSWER_BYTES && link_flush(s->agent) != 0 &&
	    link_room(s->agent) < SUP_ANSWER_BYTES) {
		finish(s, -EBUSY, "the guest does not read what it is sent: try again");
		return;
	}
	s->hold = SUP_ASKED;
	wire_put(&s->agent->out, WIRE_HOLD, 0, 0, s->epoch, span_of(NULL, 0));
	uv_update_time(&s->loop);
	(void)uv_timer_start(&s->hold_timer, on_hold_deadline, SUP_HOLD_MS, 0);
	sup_watch_agent(s);
}

static void rest(struct sup *s)
{
	struct sup_save *v = &s->op.save;
	struct err e = { 0 };

	v->save = s->op.type == WIRE_SNAPSHOT;
	v->pause = s->op.type != WIRE_RESUME && !s->paused;
	v->resume = s->op.type == WIRE_RESUME || (v->save && !s->paused);
	if (v->save && sup_save_note(s, &e) < 0) {
		if (!s->paused)
			release(s);
		if (s->state != SUP_ENDING)
			finish(s, e.code, e.text);
		return;
	}
	if (v->pause)
		sup_say_rest(s, true);
	/* answers are the thread's to read now */
	if (s->control_poll_open)
		(void)uv_poll_stop(&s->control_poll);
	sup_save_rest(s);
}

void sup_hold_ok(struct sup *s, const struct wire_frame *f)
{
	if (f->type == WIRE_RELEASE_OK && s->hold == SUP_RELEASED) {
		(void)uv_timer_stop(&s->hold_timer);
		s->hold = SUP_FREE;
		s->hold_ok_due = s->hold_late = false;
		return;
	}
	if (f->type == WIRE_HOLD_OK && s->hold == SUP_RELEASED && s->hold_ok_due) {
		s->hold_ok_due = false; /* too late; RELEASE is on its way */
		return;
	}
	if (f->type != WIRE_HOLD_OK || s->hold != SUP_ASKED) {
		sup_lied(s, "a word about a hold that nobody asked for");
		return;
	}
	(void)uv_timer_stop(&s->hold_timer);
	s->hold = SUP_HELD;
	if (!undone(s)) {
		rest(s);
		return;
	}
	release(s); /* who asked has gone */
	if (s->state != SUP_ENDING)
		finish(s, -ECANCELED, "");
}

/* --- requests --- */

static bool may_begin(struct sup_client *c, uint8_t type)
{
	struct sup *s = c->sup;

	if (s->state != SUP_RUNNING)
		refuse(c, -EAGAIN, "the sandbox is still starting: try again in a moment");
	else if (s->stop_grace_ms > 0)
		refuse(c, -ESHUTDOWN, "the sandbox is being stopped");
	else if (s->session.collecting)
		refuse(c, -ESHUTDOWN, "the session is ending");
	else if (type == WIRE_SNAPSHOT && s->spec.workspace)
		refuse(c, -ENOTSUP,
		       "a session's sandbox cannot be copied: its workspace is its own");
	else if (!s->engine->pause || !s->engine->snapshot || !s->engine->resume)
		refuse(c, -ENOTSUP, "%s cannot stop and save a guest", s->engine->words);
	else if (s->op.type != 0)
		refuse(c, -EBUSY, "it is being paused or saved already: try again in a moment");
	else if (s->hold == SUP_RELEASED)
		refuse(c, -EBUSY,
		       "the guest does not answer since it was held last: stop it, or try again");
	else if ((type == WIRE_PAUSE && s->paused) || (type == WIRE_RESUME && !s->paused))
		answer(c, 0, "");
	else
		return true;
	return false;
}

/* True if there is something of that name; its being damaged does not matter here. */
static bool name_taken(const struct sup *s, const char *name)
{
	char path[SPEC_NAME_MAX + 16];
	struct stat st;

	(void)snprintf(path, sizeof(path), "snapshots/%s", name);
	return fstatat(s->state_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool take_name(struct sup_client *c, const struct wire_frame *f)
{
	struct sup_op *op = &c->sup->op;
	struct wire_snapshot w;

	if (wire_parse_snapshot(f->payload, &w) < 0) {
		refuse(c, -EPROTO, "a request that cannot be read");
		return false;
	}
	(void)snprintf(op->name, sizeof(op->name), "%.*s", (int)w.name.len,
	               (const char *)w.name.at);
	op->replace = w.flags & WIRE_SNAPSHOT_REPLACE;
	if (w.name.len > SPEC_NAME_MAX || (w.name.len > 0 && !spec_name_ok(op->name))) {
		refuse(c, -EINVAL,
		       "a snapshot's name is 1 to %d letters, digits, '-', '_' and '.', starting "
		       "with a letter or digit",
		       SPEC_NAME_MAX);
		return false;
	}
	if (w.name.len > 0 && !op->replace && name_taken(c->sup, op->name)) {
		refuse(c, -EEXIST, "there is a snapshot '%s' already", op->name);
		return false;
	}
	return true;
}

static void begin(struct sup *s, uint8_t type, struct sup_client *c)
{
	s->op.type = type;
	s->op.client = c;
	s->op.asked = c != NULL;
	if (type == WIRE_SNAPSHOT)
		sup_save_prepare(s);
	else if (type == WIRE_PAUSE)
		hold(s);
	else
		rest(s);
}

void sup_request(struct sup_client *c, const struct wire_frame *f)
{
	if (may_begin(c, f->type) && (f->type != WIRE_SNAPSHOT || take_name(c, f)))
		begin(c->sup, f->type, c);
}

void sup_wake(struct sup *s)
{
	if (s->paused && s->op.type == 0)
		begin(s, WIRE_RESUME, NULL);
}

void sup_op_client_gone(struct sup_client *c)
{
	if (c->sup->op.client == c)
		c->sup->op.client = NULL;
}

bool sup_op_outlives(const struct sup *s, const struct sup_client *c)
{
	return s->op.client == c && s->op.working && s->op.phase == SUP_SEALING;
}

void sup_op_end(struct sup *s)
{
	struct sup_client *c = s->op.client;

	if (s->op.type == 0 || sup_op_outlives(s, c))
		return;
	s->op.client = NULL;
	if (!s->op.working) {
		sup_save_drop(s);
		s->op.type = 0;
	}
	if (c)
		refuse(c, -ESHUTDOWN, "the sandbox ended meanwhile");
}

/* --- the thread is done --- */

static void prepared(struct sup *s)
{
	if (s->op.save.code < 0)
		finish(s, s->op.save.code, s->op.save.e.text);
	else if (s->paused)
		rest(s);
	else
		hold(s);
}

/* The name is given when all is on disk. */
static void sealed(struct sup *s)
{
	struct sup_save *v = &s->op.save;

	if (v->code == 0)
		v->code = draft_publish(v->folder_fd, &v->draft, s->op.name, s->op.replace, &v->e);
	if (v->code == -EEXIST)
		(void)err_set(&v->e, v->code, "there is a snapshot '%s' already", s->op.name);
	finish(s, v->code, v->code < 0 ? v->e.text : "");
}

static void hand_over(struct sup *s)
{
	struct sup_client *c = s->op.client;

	if (sup_save_send(s, c) < 0)
		c->closing = true;
	s->op.client = NULL; /* it has its answer */
	finish(s, 0, "");
	sup_watch_client(c);
}

static void set_paused(struct sup *s, bool paused)
{
	struct err e = { 0 };

	s->paused = paused;
	if (paused)
		sup_stop_wall(s);
	else
		sup_resume_wall(s);
	if (sup_write_info(s, &e) < 0) /* a full disk: `berm ps` lags behind */
		log_debug("%s", e.text);
}

static void rested(struct sup *s)
{
	struct sup_save *v = &s->op.save;
	uint8_t type = s->op.type;

	if (v->broken) {
		sup_end(s, RESULT_ENGINE_DIED, 125, "the guest's machine did not go on: %s",
		        v->e.text);
		return;
	}
	if (v->code == 0 && type != WIRE_SNAPSHOT)
		set_paused(s, type == WIRE_PAUSE);
	if (!s->paused)
		sup_say_rest(s, false);
	if (type == WIRE_SNAPSHOT && undone(s))
		v->code = err_set(&v->e, -ECANCELED, "nobody waits for it");
	if (!s->paused)
		release(s);
	if (s->state == SUP_ENDING) /* somebody was found to be gone */
		return;
	if (type == WIRE_PAUSE && undone(s)) {
		finish(s, -ECANCELED, "");
		sup_wake(s);
		return;
	}
	if (v->code < 0 || type != WIRE_SNAPSHOT)
		finish(s, v->code, v->code < 0 ? v->e.text : "");
	else if (*s->op.name)
		sup_save_seal(s);
	else
		hand_over(s);
}

/* In a sandbox that has ended: only a snapshot that lacked nothing but the disk's time is kept. */
static void done_late(struct sup *s)
{
	struct sup_client *c = s->op.client;

	if (s->op.phase != SUP_SEALING || !c) {
		sup_save_drop(s);
		s->op.type = 0;
		return;
	}
	sealed(s);
	c->closing = true; /* this was all that kept it */
	sup_watch_client(c);
}

static void next_phase(struct sup *s)
{
	if (undone(s) && s->op.phase != SUP_RESTING) {
		finish(s, -ECANCELED, "");
		return;
	}
	switch ((enum sup_phase)s->op.phase) {
	case SUP_PREPARING:
		prepared(s);
		break;
	case SUP_RESTING:
		rested(s);
		break;
	case SUP_SEALING:
		sealed(s);
		break;
	case SUP_HOLDING:
		break;
	}
}

void sup_op_done(struct sup *s)
{
	if (s->state == SUP_ENDING) {
		done_late(s);
		return;
	}
	next_phase(s);
	/* a STOP or KILL that came meanwhile may wake it now */
	if (s->state != SUP_ENDING && s->op.type == 0 && s->paused)
		sup_resume_clients(s);
}

/* --- what the engine says unasked --- */

static void on_control(uv_poll_t *poll, int status, int events)
{
	struct sup *s = poll->data;

	struct engine_news news = { 0 };

	(void)status;
	(void)events;
	/* its end, which its other files tell, or half a line */
	if (!s->engine->hush(&s->vm, &news))
		(void)uv_poll_stop(poll);
	/* it has stopped the guest, whose write waits for room */
	if (news.full)
		sup_end(s, RESULT_ENGINE_DIED, 125, "%s", ENGINE_FULL);
	if (news.gate_lost)
		sup_gate_lost(s);
}

void sup_watch_control(struct sup *s)
{
	if (s->control_poll_open && s->state != SUP_ENDING)
		(void)uv_poll_start(&s->control_poll, UV_READABLE, on_control);
}
