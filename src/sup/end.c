#include "sup/sup.h"

#include "base/clock.h"
#include "state/state.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* Keeps the last of it; the guest decides how much comes, so most of it is thrown away. */
bool sup_drain_log(struct sup *s)
{
	char text[4096];
	ssize_t n = read(s->vm.log_fd, text, sizeof(text));

	if (n == 0 && s->log_poll_open)
		(void)uv_poll_stop(&s->log_poll);
	if (n <= 0)
		return false;
	if (s->said.size - s->said.len < (size_t)n) {
		size_t keep = s->said.len / 2;

		memmove(s->said.at, s->said.at + s->said.len - keep, keep);
		s->said.len = keep;
	}
	buf_put(&s->said, text, (size_t)n);
	return true;
}

const char *sup_distrust(struct sup *s)
{
	if (!s->key || s->state != SUP_STARTING)
		return "";
	template_drop(s->templates_fd, span_of(s->key, s->key_len));
	return "; its template was dropped, so run it again";
}

/*
 * From the guest kernel's panic on, if it had one: what follows is a trace that tells nobody much.
 */
static bool find_panic(struct span all, struct span *ret)
{
	static const char mark[] = "Kernel panic";
	const uint8_t *at = all.len ? memmem(all.at, all.len, mark, sizeof(mark) - 1) : NULL;
	struct span rest;

	if (!at)
		return false;
	rest = span_of(at, all.len - (size_t)(at - all.at));
	return take_until(&rest, '\n', ret);
}

/* Its panic, or the last line or two, for a message. The logger that prints it escapes it. */
void sup_engine_words(struct sup *s, struct buf *out)
{
	struct span all = buf_span(&s->said);
	size_t max = out->size - 1;

	(void)find_panic(all, &all);
	while (all.len > 0 && (all.at[all.len - 1] == '\n' || all.at[all.len - 1] == '\r'))
		all.len--;
	if (all.len > max / 4) {
		all.at += all.len - max / 4;
		all.len = max / 4;
	}
	buf_put_escaped(out, all);
}

/* Kills and reaps. What the host measured of it goes into the result. */
static void end_engine(struct sup *s)
{
	struct rusage use;
	struct cgroup_stats cg;

	if (s->has_cgroup && s->cgroup.mode != CGROUP_MODE_NONE &&
	    cgroup_stats_read(&s->cgroup, &cg, NULL) == 0)
		s->result.host_memory_peak_bytes = cg.memory_peak_bytes;
	if (s->vm.pid <= 0)
		return;
	(void)kill(s->vm.pid, SIGKILL);
	while (wait4(s->vm.pid, NULL, 0, &use) < 0)
		if (errno != EINTR)
			return;
	s->vm.pid = -1;
	s->result.host_cpu_ms = (uint64_t)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000 +
	                        (uint64_t)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1000;
	if (s->result.host_memory_peak_bytes == 0)
		s->result.host_memory_peak_bytes = (uint64_t)use.ru_maxrss * 1024;
}

/* Is whoever started it still there to hear END? Before it ran he knows no id to ask by later. */
static bool failed_before_eyes(const struct sup *s)
{
	struct pollfd p = { .fd = s->owner ? s->owner->link->fd : -1, .events = 0 };

	if (s->main_ms > 0 || !s->owner || s->owner->closing)
		return false;
	return poll(&p, 1, 0) == 0;
}

/* A record is for those who were not there: of a detached sandbox that ended by itself. */
static bool wants_record(const struct sup *s)
{
	return s->spec.detach && !s->spec.remove && s->result.reason != RESULT_STOPPED &&
	       !failed_before_eyes(s);
}

/*
 * Engine, cgroup, socket, disk, directory and name: all gone when this returns. The scratch disk
 * and RAM have no name and went with the engine.
 */
void sup_cleanup(struct sup *s)
{
	char json[RESULT_JSON_MAX];
	struct buf b;

	end_engine(s);
	sup_session_end(s);
	sup_end_network(s);
	s->result.ended_ns = clock_real_ns();
	if (s->has_cgroup)
		(void)cgroup_remove(&s->cgroup, NULL);
	if (s->log_open)
		outlog_close(&s->log);
	s->log_open = false;
	buf_init(&b, json, sizeof(json));
	if (wants_record(s))
		result_put_json(&b, &s->result);
	if (state_end(s->state_fd, s->id, s->spec.name, buf_span(&b), NULL) < 0)
		return; /* the lock goes with us, so the next berm command sweeps it */
}

/*
 * END is the last thing a connection hears; what the guest wrote lies before it in the same buffer.
 */
void sup_tell_end(struct sup *s)
{
	char json[RESULT_JSON_MAX];
	struct buf b;

	buf_init(&b, json, sizeof(json));
	result_put_json(&b, &s->result);
	for (size_t i = 0; i < SUP_CLIENTS_MAX; i++) {
		struct sup_client *c = &s->clients[i];

		if (!c->used || c->closing || sup_op_outlives(s, c))
			continue;
		if (c->wait || c->owner) /* what is kept free is enough for it */
			wire_put(&c->link->out, WIRE_END, 0, 0, 1, buf_span(&b));
		c->closing = true;
	}
}

/* Streams that were still open end with a word, so that nobody takes silence for success. */
static void reset_streams(struct sup *s)
{
	for (size_t i = 0; i < SUP_STREAMS_MAX; i++) {
		struct sup_stream *st = &s->streams[i];
		struct sup_client *c = st->client;

		if (!st->used || !c || !c->used || c->closing)
			continue;
		st->used = false;
		wire_put_u32(&c->link->out, WIRE_RESET, 0, st->client_id, 1, ESHUTDOWN);
	}
}

void sup_end_now(struct sup *s)
{
	if (s->state == SUP_ENDING)
		return;
	s->state = SUP_ENDING;
	reset_streams(s);
	sup_op_end(s);
	sup_close_loop(s);
	sup_cleanup(s);
	sup_tell_end(s);
	for (size_t i = 0; i < SUP_CLIENTS_MAX; i++)
		if (s->clients[i].used && s->clients[i].poll_open)
			sup_watch_client(&s->clients[i]);
}

void sup_end(struct sup *s, uint8_t reason, uint32_t exit_code, const char *fmt, ...)
{
	char text[RESULT_MESSAGE_MAX];
	va_list ap;

	if (s->state == SUP_ENDING)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (s->session.collecting) { /* how it ended is decided already */
		if (sup_collect_break(s, reason, text))
			sup_end_now(s);
		return;
	}
	if (!s->session.lingering) {
		memcpy(s->result.message, text, sizeof(text));
		s->result.reason = reason;
		s->result.exit_code = exit_code;
		if (s->main_ms > 0)
			s->result.wall_ms = clock_mono_ms() - s->main_ms;
		if (sup_linger_begin(s, reason))
			return;
	}
	if (!sup_collect_begin(s, reason))
		sup_end_now(s);
}
