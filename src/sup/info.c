#include "sup/sup.h"

#include "base/clock.h"
#include "base/units.h"
#include "state/state.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { COMMAND_TEXT_MAX = 4096 }; /* of argv in INFO; the rest is cut at a word */

static const char *const state_names[] = {
	[SUP_STARTING] = "starting",
	[SUP_READY] = "ready",
	[SUP_RUNNING] = "running",
	[SUP_ENDING] = "ending",
};

static const char *const cgroup_modes[] = {
	[CGROUP_MODE_NONE] = "none",
	[CGROUP_MODE_V2] = "v2",
	[CGROUP_MODE_V1] = "v1",
};

/* Fields 14 and 15 of /proc/<pid>/stat, user and system time in ticks. Source: proc(5). */
uint64_t sup_engine_cpu_ms(const struct sup *s)
{
	uint64_t ticks = 0;
	char text[1024];
	ssize_t n = pread(s->cpu_fd, text, sizeof(text), 0);
	const char *after = n > 0 ? memrchr(text, ')', (size_t)n) : NULL;
	struct span rest;
	struct span word;
	long hz = sysconf(_SC_CLK_TCK);

	if (!after || hz <= 0)
		return 0;
	rest = span_of(after + 1, (size_t)(n - (after + 1 - text)));
	for (int field = 2; take_until(&rest, ' ', &word); field++) {
		uint64_t got;

		if ((field == 14 || field == 15) && span_to_u64(word, &got))
			ticks += got;
	}
	return ticks * 1000 / (uint64_t)hz;
}

static void put_text(struct buf *b, const char *key, const char *text)
{
	buf_printf(b, "\"%s\":", key);
	buf_put_json_str(b, span_str(text));
	buf_put_u8(b, ',');
}

static void put_command(struct buf *b, const char *const *argv)
{
	size_t left = COMMAND_TEXT_MAX;

	buf_put_str(b, "\"command\":[");
	for (size_t i = 0; argv[i]; i++) {
		size_t len = strlen(argv[i]);

		if (len > left)
			break;
		left -= len;
		if (i > 0)
			buf_put_u8(b, ',');
		buf_put_json_str(b, span_str(argv[i]));
	}
	buf_put_str(b, "],");
}

static void put_limits(struct buf *b, const struct spec_limits *l)
{
	buf_printf(b,
	           "\"limits\":{\"cpus\":%" PRIu32 ",\"memory_bytes\":%" PRIu64
	           ",\"disk_bytes\":%" PRIu64 ",\"pids\":%" PRIu64 ",\"time_ms\":%" PRIu64
	           ",\"idle_ms\":%" PRIu64 ",\"output_bytes\":%" PRIu64 "},",
	           l->cpus, l->memory_bytes, l->disk_bytes, l->pids, l->time_ms, l->idle_ms,
	           l->output_bytes);
}

static void put_host(struct buf *b, const struct sup *s)
{
	struct cgroup_stats cg = { 0 };
	struct jail_seen seen;
	char engine[128] = "";
	char jail[256];
	struct buf j;
	struct buf k;

	if (s->has_cgroup && cgroup_stats_read(&s->cgroup, &cg, NULL) < 0)
		cg = (struct cgroup_stats){ 0 };
	buf_init(&j, jail, sizeof(jail));
	jail_put_report(&j, &s->jail);
	buf_init(&k, engine, sizeof(engine));
	if (jail_see(s->status_fd, &seen) == 0)
		jail_put_seen(&k, &seen);
	buf_printf(b,
	           "\"host\":{\"supervisor_pid\":%d,\"engine_pid\":%d,\"cpu_ms\":%" PRIu64
	           ",\"memory_bytes\":%" PRIu64 ",\"memory_peak_bytes\":%" PRIu64 ",",
	           (int)getpid(), (int)s->vm.pid, sup_engine_cpu_ms(s), cg.memory_bytes,
	           cg.memory_peak_bytes);
	put_text(b, "cgroup", cgroup_modes[s->cgroup.mode]);
	put_text(b, "cgroup_missing", s->cgroup_why);
	buf_put_str(b, "\"supervisor_jail\":");
	buf_put_json_str(b, span_str(buf_cstr(&j)));
	buf_put_str(b, ",\"engine_jail\":");
	buf_put_json_str(b, span_str(buf_cstr(&k)));
	buf_put_str(b, "},");
}

/* The guest's word; what no reader of JSON could take is the most it can. */
static uint64_t json(uint64_t n)
{
	return n > INT64_MAX ? INT64_MAX : n;
}

static void put_guest(struct buf *b, const struct sup *s)
{
	const struct wire_stats *g = &s->stats;

	if (!s->stats_known) {
		buf_put_str(b, "\"guest\":null,");
		return;
	}
	buf_printf(b,
	           "\"guest\":{\"cpu_us\":%" PRIu64 ",\"memory_bytes\":%" PRIu64
	           ",\"memory_peak_bytes\":%" PRIu64 ",\"disk_bytes\":%" PRIu64
	           ",\"disk_max_bytes\":%" PRIu64 ",\"pids\":%" PRIu32 ",\"streams\":%" PRIu32
	           ",\"oom_kills\":%" PRIu64 ",\"pids_refused\":%" PRIu64 ",\"uptime_ms\":%" PRIu64
	           "},",
	           json(g->cpu_us), json(g->memory_bytes), json(g->memory_peak_bytes),
	           json(g->disk_bytes), json(g->disk_max_bytes), g->pids, g->streams,
	           json(g->oom_kills), json(g->pids_refused), json(g->uptime_ms));
}

static void put_info(struct buf *b, const struct sup *s)
{
	const struct result *r = &s->result;

	buf_put_u8(b, '{');
	put_text(b, "id", s->id);
	put_text(b, "name", r->name);
	put_text(b, "image", r->image);
	put_text(b, "image_id", s->spec.image_id ? s->spec.image_id : "");
	put_text(b, "state", state_names[s->state]);
	put_text(b, "engine", r->engine ? r->engine : "");
	put_text(b, "level", r->level ? level_name(r->level) : "");
	put_command(b, s->spec.argv);
	put_limits(b, &s->spec.limits);
	put_host(b, s);
	put_guest(b, s);
	buf_put_str(b, "\"egress\":");
	sup_put_egress(b, s);
	buf_put_u8(b, ',');
	put_text(b, "from", s->spec.from ? s->spec.from : "");
	buf_printf(b,
	           "\"paused\":%s,\"detached\":%s,\"tty\":%s,\"created_ns\":%" PRIu64
	           ",\"boot_ms\":%" PRIu32 ",\"start_ms\":%" PRIu64 ",\"wall_ms\":%" PRIu64
	           ",\"output_bytes\":%" PRIu64 "}",
	           s->paused ? "true" : "false", s->spec.detach ? "true" : "false",
	           s->spec.tty ? "true" : "false", r->created_ns, s->boot_ms, r->start_ms,
	           s->main_ms ? clock_mono_ms() - s->main_ms : 0, r->output_bytes);
}

/* The answer to all who asked. */
static void answer_info(struct sup *s)
{
	_own_free_ uint8_t *text = malloc(WIRE_JSON_MAX);
	struct buf b;

	if (!text)
		return;
	buf_init(&b, text, WIRE_JSON_MAX);
	put_info(&b, s);
	for (size_t i = 0; i < SUP_CLIENTS_MAX; i++) {
		struct sup_client *c = &s->clients[i];

		if (!c->used || !c->info || c->closing)
			continue;
		c->info = false;
		if (sup_fits(c, b.len + WIRE_HEADER_BYTES))
			wire_put(&c->link->out, WIRE_INFO_OK, 0, 0, 1, buf_span(&b));
		else
			c->closing = true; /* it asks on and on, and reads no answers */
		sup_watch_client(c);
	}
}

static void on_stats_deadline(uv_timer_t *t)
{
	struct sup *s = t->data;

	if (s->stats_awaited)
		s->stats_known = false; /* what it said earlier is not what it does now */
	s->stats_awaited = false;
	sup_forget_counters(s);
	answer_info(s);
}

void sup_info_step(struct sup *s)
{
	if (s->stats_awaited && s->stats_asked)
		return;
	if (sup_counters_due(s) && uv_is_active((uv_handle_t *)&s->stats_timer))
		return;
	s->stats_awaited = false;
	(void)uv_timer_stop(&s->stats_timer);
	answer_info(s);
}

static void ask_guest(struct sup *s)
{
	s->stats_awaited = (s->state == SUP_RUNNING || s->state == SUP_READY) && !sup_held(s);
	if (!s->stats_awaited)
		s->stats_known = false; /* what it said earlier is not what it does now */
	if (!s->stats_awaited || s->stats_asked)
		return;
	s->stats_asked = true;
	wire_put(&s->agent->out, WIRE_STATS, 0, 0, s->epoch, span_of(NULL, 0));
	sup_watch_agent(s);
}

/* One of them that does not answer does not keep anybody from the rest of the answer. */
void sup_ask_stats(struct sup *s)
{
	ask_guest(s);
	sup_ask_counters(s);
	if (!s->stats_awaited && !sup_counters_due(s)) {
		answer_info(s);
		return;
	}
	if (!uv_is_active((uv_handle_t *)&s->stats_timer))
		(void)uv_timer_start(&s->stats_timer, on_stats_deadline, SUP_STATS_MS, 0);
}

int sup_write_info(const struct sup *s, struct err *e)
{
	struct state_info info = { .supervisor_pid = getpid(),
		                   .level = (uint8_t)s->result.level,
		                   .paused = s->paused,
		                   .created_ns = s->result.created_ns };
	size_t len = 0;

	(void)snprintf(info.id, sizeof(info.id), "%s", s->id);
	(void)snprintf(info.name, sizeof(info.name), "%s", s->result.name);
	(void)snprintf(info.image, sizeof(info.image), "%s", s->result.image);
	if (s->result.engine)
		(void)snprintf(info.engine, sizeof(info.engine), "%s", s->result.engine);
	for (size_t i = 0; s->spec.argv[i] && len + 1 < sizeof(info.command); i++) {
		int n = snprintf(info.command + len, sizeof(info.command) - len, "%s%s",
		                 i > 0 ? " " : "", s->spec.argv[i]);

		if (n > 0)
			len += (size_t)n;
	}
	return state_write_info(s->dir_fd, &info, e);
}

/* As --time and --idle are written by people, and not in the milliseconds they are kept in. */
static void end_in_time(struct sup *s, uint8_t reason, const char *what, uint64_t ms,
                        const char *flag)
{
	char storage[32];
	struct buf b;

	buf_init(&b, storage, sizeof(storage));
	units_put_duration(&b, ms);
	sup_end(s, reason, 124, "%s of %s (%s)", what, buf_cstr(&b), flag);
}

static void on_wall(uv_timer_t *t)
{
	struct sup *s = t->data;

	s->result.limits_hit |= RESULT_HIT_TIME;
	end_in_time(s, RESULT_TIME, "it ran for its time limit", s->spec.limits.time_ms, "--time");
}

/* Idle is neither input, output nor more than a trickle of CPU time, by the host's own measure. */
static void on_idle_tick(uv_timer_t *t)
{
	struct sup *s = t->data;
	uint64_t now = clock_mono_ms();
	uint64_t cpu = sup_engine_cpu_ms(s);

	if (sup_held(s) || s->op.type != 0) /* it would, if we let it */
		s->idle_since_ms = now;
	if ((cpu - s->idle_cpu_ms) * 1000 > (uint64_t)SUP_IDLE_TICK_MS * SUP_IDLE_CPU_PERMILLE)
		s->idle_since_ms = now;
	s->idle_cpu_ms = cpu;
	if (now - s->idle_since_ms < s->spec.limits.idle_ms)
		return;
	s->result.limits_hit |= RESULT_HIT_IDLE;
	end_in_time(s, RESULT_IDLE, "it did nothing for its idle limit", s->spec.limits.idle_ms,
	            "--idle");
}

void sup_start_limits(struct sup *s)
{
	uv_update_time(&s->loop); /* a timer counts from the loop's idea of now, which may be old */
	if (s->spec.limits.time_ms > 0)
		(void)uv_timer_start(&s->wall, on_wall, s->spec.limits.time_ms, 0);
	if (s->spec.limits.idle_ms > 0) {
		s->idle_cpu_ms = sup_engine_cpu_ms(s);
		(void)uv_timer_start(&s->idle, on_idle_tick, SUP_IDLE_TICK_MS, SUP_IDLE_TICK_MS);
	}
}

/* Time in which it is made to stand still is not the command's. */
void sup_stop_wall(struct sup *s)
{
	if (!uv_is_active((uv_handle_t *)&s->wall))
		return;
	uv_update_time(&s->loop);
	s->wall_left_ms = uv_timer_get_due_in(&s->wall);
	s->wall_stopped = true;
	(void)uv_timer_stop(&s->wall);
}

void sup_resume_wall(struct sup *s)
{
	if (!s->wall_stopped)
		return;
	s->wall_stopped = false;
	uv_update_time(&s->loop);
	(void)uv_timer_start(&s->wall, on_wall, s->wall_left_ms, 0);
}
