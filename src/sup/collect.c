/*
 * Of a session: its disks, and the fetching of its work.
 *
 * Theory of operation
 *
 * Whatever ends a session's sandbox while its guest still answers is written down as the end it is,
 * and then the guest is asked for its work before it is killed. The answer is a tar, of which
 * nothing is looked at here but its length: it goes to spool.part, as fast as the disk takes it. It
 * becomes spool.tar when the agent has said that it was all, the engine is dead and reaped, and the
 * bytes and those of the base are on the disk; in that order, so that a spool.tar is whole and its
 * writer gone, whatever happens to us in between.
 *
 * Before the first byte the guest says how many there will be. Whoever waits is told, and what is
 * too much is not fetched.
 *
 * Anything else leaves the work where it was, on scratch.img, and says why in session.json:
 * SESSION_UNCOLLECTED. A rescue is this same supervisor with a copy of that disk, in a guest that
 * runs nothing but the export, so there is one way of collecting.
 *
 * One sum bounds how long it may take: some time for the guest to come to rest and write out its
 * disk, and then SUP_COLLECT_RATE. So a guest that stalls and one that sends a byte a second end
 * alike.
 */
#include "sup/sup.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/log.h"
#include "lib/start.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WHY_SHOWN_MAX = 200 }; /* bytes, behind how it ended */

static const char spool_part[] = "spool.part";
static const char spool_whole[] = "spool.tar";

void sup_session_init(struct sup *s)
{
	work_session_init(&s->session.rec);
	s->session.spool_fd = -1;
}

static void set_why(struct sup *s, const char *fmt, ...) _printf_(2, 3);

/* What went wrong first is what it was. */
static void set_why(struct sup *s, const char *fmt, ...)
{
	va_list ap;

	if (*s->session.why)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(s->session.why, sizeof(s->session.why), fmt, ap);
	va_end(ap);
}

/* --- disks --- */

/* The lock is the open file's, which the engine gets a copy of: see work_session_vm_dead(). */
static int open_disk(int dir_fd, const char *name, int flags, int *ret_fd, struct err *e)
{
	_own_fd_ int fd = -1;
	int r = fd_openat(dir_fd, name, O_RDWR | O_CREAT | O_NOFOLLOW | flags, 0600, &fd, e);

	if (r < 0)
		return r;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return err_sys(e, "lock the session's disk '%s'", name);
	*ret_fd = steal_fd(&fd);
	return 0;
}

static int copy_scratch(int dir_fd, int to_fd, struct err *e)
{
	_own_fd_ int from_fd = -1;
	struct stat st;
	int r = fd_openat(dir_fd, "scratch.img", O_RDONLY | O_NOFOLLOW, 0, &from_fd, e);

	if (r < 0)
		return r;
	if (fstat(from_fd, &st) < 0 || ftruncate(to_fd, st.st_size) < 0)
		return err_sys(e, "copy the session's disk");
	r = fd_copy_sparse(from_fd, to_fd, e);
	return r < 0 ? err_wrap(e, "copy the session's disk") : 0;
}

static int open_disks(struct sup *s, struct err *e)
{
	int dir_fd = s->session.rec.dir_fd;
	int r;

	if (!s->spec.rescue) {
		r = fd_openat(dir_fd, "base.erofs", O_RDONLY | O_NOFOLLOW, 0,
		              &s->files.workspace_fd, e);
		return r == 0 ? open_disk(dir_fd, "scratch.img", O_EXCL, &s->files.scratch_fd, e)
		              : r;
	}
	r = open_disk(dir_fd, "rescue.img", O_TRUNC, &s->files.scratch_fd, e);
	return r == 0 ? copy_scratch(dir_fd, s->files.scratch_fd, e) : r;
}

int sup_open_session(struct sup *s, struct err *e)
{
	struct work_session *rec = &s->session.rec;
	int r = work_session_adopt(START_FD_SESSION, START_FD_SESSION_LOCK, rec, e);

	if (r == 0)
		r = open_disks(s, e);
	if (r < 0)
		return err_wrap(e, "the session");
	/* before a machine runs: whoever finds this and a free lock knows that one did */
	rec->info.state = s->spec.rescue ? SESSION_COLLECTING : SESSION_RUNNING;
	(void)snprintf(rec->info.sandbox, sizeof(rec->info.sandbox), "%s", s->id);
	(void)snprintf(rec->info.engine, sizeof(rec->info.engine), "%s", s->engine->name);
	return work_session_save(rec, e);
}

/* --- collecting --- */

static void on_collect_deadline(uv_timer_t *t)
{
	struct sup *s = t->data;

	set_why(s,
	        "the guest sent %" PRIu64 " bytes of its work in %" PRIu64
	        " s, and then too little",
	        s->session.bytes, (clock_mono_ms() - s->session.began_ms) / 1000);
	sup_end_now(s);
}

static void set_deadline(struct sup *s)
{
	uint64_t may_ms = s->spec.collect_ms + s->session.bytes / SUP_COLLECT_RATE;
	uint64_t took_ms = clock_mono_ms() - s->session.began_ms;

	uv_update_time(&s->loop);
	(void)uv_timer_start(&s->deadline, on_collect_deadline,
	                     may_ms > took_ms ? may_ms - took_ms : 0, 0);
}

/* Does the guest still do as it is told? */
static bool guest_answers(const struct sup *s, uint8_t reason)
{
	switch (reason) {
	case RESULT_NOT_STARTED:
	case RESULT_ENGINE_DIED:
	case RESULT_AGENT_LIED:
	case RESULT_AGENT_SILENT:
		return false;
	default:
		/* the guest is all there, too, when it found no such command */
		return (s->state == SUP_RUNNING ||
		        (s->state == SUP_READY && s->result.reason == RESULT_COMMAND)) &&
		       !s->agent_closed && !s->engine_ended && s->agent_poll_open &&
		       s->hold == SUP_FREE && s->op.type == 0;
	}
}

/* Was it cut off? Its readers hear of it now: END comes when its work is here. */
static void tell_cut_off(struct sup *s, struct sup_client *c)
{
	if (!c->used || c->closing || !c->attached || !sup_stream_find(s, SUP_MAIN_STREAM))
		return;
	/* the room is part of what is kept free; what does not go now is polled for already */
	wire_put_u32(&c->link->out, WIRE_RESET, 0, c->attach_id, 1, ESHUTDOWN);
	(void)!link_flush(c->link);
}

/* The main command's readers get no more of it; they wait for END. */
static void detach_readers(struct sup *s)
{
	for (size_t i = 0; i < SUP_CLIENTS_MAX; i++) {
		tell_cut_off(s, &s->clients[i]);
		s->clients[i].attached = false;
		s->clients[i].input = false;
		s->clients[i].awaited = false;
	}
	s->agent_paused = false; /* it was for one of them; the loop comes to the rest */
	s->room_wanted = true;
}

/* --- between the command's end and that --- */

static void on_linger_deadline(uv_timer_t *t)
{
	struct sup *s = t->data;

	sup_end(s, RESULT_STOPPED, 137, "%s", "");
}

/*
 * Whoever started it takes something from the guest's disk before the guest comes to rest for good
 * (a login that the agent renewed), and then says STOP, or goes. How the command ended is decided.
 */
bool sup_linger_begin(struct sup *s, uint8_t reason)
{
	if (!s->spec.linger || reason == RESULT_COMMAND || !s->owner || !s->owner->attached ||
	    !guest_answers(s, reason) ||
	    sup_stream_find(s, SUP_MAIN_STREAM)) /* it did not end by itself */
		return false;
	s->session.lingering = true;
	(void)uv_timer_stop(&s->wall);
	(void)uv_timer_stop(&s->idle);
	detach_readers(s);
	uv_update_time(&s->loop);
	(void)uv_timer_start(&s->deadline, on_linger_deadline, SUP_LINGER_MS, 0);
	sup_watch_agent(s);
	return true;
}

static int ask(struct sup *s, struct err *e)
{
	struct work_session *rec = &s->session.rec;
	struct sup_stream *st;
	int r = fd_openat(rec->dir_fd, spool_part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600,
	                  &s->session.spool_fd, e);

	rec->info.state = SESSION_COLLECTING;
	rec->info.expect_bytes = 0;
	if (r == 0)
		r = work_session_save(rec, e);
	if (r < 0)
		return r;
	st = sup_stream_new(s, SUP_COLLECT);
	if (!st || link_room(s->agent) < SUP_ANSWER_BYTES)
		return err_set(e, -EBUSY, "the guest does not read what it is sent");
	wire_put(&s->agent->out, WIRE_COLLECT, 0, st->agent_id, s->epoch, span_of(NULL, 0));
	return 0;
}

bool sup_collect_begin(struct sup *s, uint8_t reason)
{
	struct err e = { 0 };

	if (!s->spec.workspace || s->session.rec.dir_fd < 0)
		return false;
	if (!guest_answers(s, reason)) {
		set_why(s, "its guest was not there to be asked: %s",
		        *s->result.message ? s->result.message : result_reason_name(reason));
		return false;
	}
	if (ask(s, &e) < 0) {
		set_why(s, "%s", e.text);
		return false;
	}
	s->session.collecting = true;
	s->session.began_ms = clock_mono_ms();
	(void)uv_timer_stop(&s->wall);
	(void)uv_timer_stop(&s->idle);
	detach_readers(s);
	set_deadline(s);
	sup_watch_agent(s);
	return true;
}

bool sup_collect_break(struct sup *s, uint8_t reason, const char *why)
{
	switch (reason) {
	case RESULT_STOPPED:
	case RESULT_INTERRUPTED: /* once more: he does not want to wait */
		set_why(s, "it was told to end while its work was collected");
		return true;
	case RESULT_NOT_STARTED:
	case RESULT_ENGINE_DIED:
	case RESULT_AGENT_LIED:
	case RESULT_AGENT_SILENT:
		set_why(s, "while its work was collected: %s", why);
		return true;
	default:
		return false;
	}
}

static int spool(struct sup *s, struct span data, struct err *e)
{
	int r;

	if (data.len > s->spec.collect_bytes - s->session.bytes)
		return err_set(e, -EFBIG, "its work is over %" PRIu64 " MiB",
		               s->spec.collect_bytes >> 20);
	r = fd_write_all(s->session.spool_fd, data.at, data.len, e);
	if (r == -ENOSPC || r == -EDQUOT)
		(void)err_wrap(e, "the disk with berm's state has no room for it");
	return r;
}

/* The guest's own word, which bounds nothing; but what it says is too much need not be sent. */
static void take_size(struct sup *s, uint64_t bytes)
{
	struct work_session *rec = &s->session.rec;
	struct err e = { 0 };

	if (bytes > s->spec.collect_bytes) {
		set_why(s,
		        "its work is %" PRIu64 " MiB, which is over %" PRIu64
		        " MiB: nothing of it was fetched; berm review --fetch-max SIZE fetches it",
		        bytes >> 20, s->spec.collect_bytes >> 20);
		sup_end_now(s);
		return;
	}
	rec->info.expect_bytes = bytes;
	if (bytes >= SUP_TELL_BYTES && work_session_save(rec, &e) < 0)
		log_warn("%s", e.text);
}

void sup_collect_data(struct sup *s, struct sup_stream *st, const struct wire_frame *f)
{
	struct err e = { 0 };
	uint64_t bytes;
	int r;

	if (f->type == WIRE_SIZE && wire_parse_u64(f->payload, &bytes) == 0)
		take_size(s, bytes);
	if (f->type == WIRE_SIZE || f->type == WIRE_DATA)
		st->sized = true;
	if (f->type != WIRE_DATA)
		return;
	r = f->channel == WIRE_OUT ? spool(s, f->payload, &e)
	                           : err_set(&e, -EPROTO, "the agent sent it on two channels");
	if (r < 0) {
		set_why(s, "%s", e.text);
		sup_end_now(s);
		return;
	}
	s->session.bytes += f->payload.len;
	s->session.owed += (uint32_t)f->payload.len;
	if (s->session.owed >= SUP_GRANT_BYTES) {
		wire_put_u32(&s->agent->out, WIRE_CREDIT, WIRE_OUT, st->agent_id, s->epoch,
		             s->session.owed);
		st->may_send[WIRE_OUT] += s->session.owed;
		s->session.owed = 0;
	}
	set_deadline(s);
}

void sup_collect_result(struct sup *s, struct sup_stream *st, const struct wire_frame *f)
{
	struct wire_fail fail = { .code = EPROTO, .text = span_str("it gave up") };

	if (f->type == WIRE_RESULT && wire_parse_fail(f->payload, &fail) < 0)
		fail.code = EPROTO; /* not so: it was read before */
	if (fail.code != 0)
		set_why(s, "the guest could not send its work: %.*s (%s)", (int)fail.text.len,
		        (const char *)fail.text.at, strerror((int)fail.code));
	else if (!st->ended[WIRE_OUT])
		set_why(s,
		        "the guest could not send its work: it said the end before all was sent");
	else
		s->session.whole = true;
	sup_end_now(s);
}

/* --- the end --- */

/*
 * A base that cannot be put on the disk is told and no more: the work is not better off for being
 * left where it is.
 */
static int seal(struct sup *s, struct err *e)
{
	int dir_fd = s->session.rec.dir_fd;
	struct err base_e = { 0 };

	if (work_session_sync_base(&s->session.rec, &base_e) < 0)
		log_error("%s", base_e.text);
	if (fsync(s->session.spool_fd) < 0 || fchmod(s->session.spool_fd, 0400) < 0 ||
	    renameat(dir_fd, spool_part, dir_fd, spool_whole) < 0 || fsync(dir_fd) < 0)
		return err_sys(e, "keep the session's work");
	return 0;
}

/* Nothing of the user's or of an agent's ran: the next start begins anew. */
static bool never_ran(const struct sup *s)
{
	return !s->spec.rescue && !s->main_begun;
}

static void settle(struct sup *s, struct work_session_info *info)
{
	int dir_fd = s->session.rec.dir_fd;
	struct err e = { 0 };

	if (s->session.whole && seal(s, &e) == 0) {
		info->state = SESSION_SPOOLED;
		info->spool_bytes = s->session.bytes;
		*info->why = '\0';
	} else {
		set_why(s, "%s", e.code ? e.text : "it was never asked for its work");
		/* its room is free at once, for what is to be written down now */
		if (s->session.spool_fd >= 0 && ftruncate(s->session.spool_fd, 0) < 0)
			log_error("empty '%s': %m", spool_part);
		(void)unlinkat(dir_fd, spool_part, 0);
		info->state = never_ran(s) ? SESSION_PACKED : SESSION_UNCOLLECTED;
		memcpy(info->why, s->session.why, sizeof(info->why));
	}
	if (info->state == SESSION_PACKED)
		(void)unlinkat(dir_fd, "scratch.img", 0);
	(void)unlinkat(dir_fd, "rescue.img", 0);
	info->expect_bytes = 0;
}

/* The caller is told, behind how it ended, if its work is not where he looks for it. */
static void tell(struct sup *s, const struct work_session_info *info)
{
	size_t len = strnlen(s->result.message, sizeof(s->result.message) - 1);
	size_t why_len = strlen(info->why);

	if (info->state != SESSION_UNCOLLECTED)
		return;
	/* "...: why it ended" was said in front already */
	if (len > 0 && why_len > len + 2 &&
	    strcmp(info->why + why_len - len, s->result.message) == 0)
		why_len -= len + 2;
	(void)snprintf(s->result.message + len, sizeof(s->result.message) - len,
	               "%sits work is kept on the disk of session %s, and was not collected (%.*s)",
	               len ? "; " : "", info->id,
	               why_len < WHY_SHOWN_MAX ? (int)why_len : WHY_SHOWN_MAX, info->why);
}

static void note_end(struct sup *s, struct work_session_info *info)
{
	if (s->spec.rescue)
		return; /* how the agent ended is known since then */
	info->exit_code = s->result.exit_code;
	(void)snprintf(info->ended, sizeof(info->ended), "%s",
	               result_reason_name(s->result.reason));
	_Static_assert(sizeof(info->message) >= RESULT_MESSAGE_MAX, "it fits");
	memcpy(info->message, s->result.message, RESULT_MESSAGE_MAX);
}

void sup_session_end(struct sup *s)
{
	struct work_session *rec = &s->session.rec;
	struct err e = { 0 };

	if (!s->spec.workspace || rec->dir_fd < 0)
		return;
	note_end(s, &rec->info);
	if (s->vm.pid <= 0) {
		settle(s, &rec->info);
		tell(s, &rec->info);
	} else { /* the state stays, and so does the disk's lock */
		(void)snprintf(rec->info.why, sizeof(rec->info.why), "its machine cannot be ended");
	}
	if (work_session_save(rec, &e) < 0)
		log_error("%s", e.text);
	/* closed before END is told, so that whoever hears it finds them free */
	own_close_fd(&s->session.spool_fd);
	own_close_fd(&s->scratch_fd);
	own_close_fd(&s->files.scratch_fd);
	s->session.spool_fd = s->scratch_fd = s->files.scratch_fd = -1;
	work_session_close(rec);
}
