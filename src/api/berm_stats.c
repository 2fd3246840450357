#include "api/berm_internal.h"

#include "state/jread.h"

#include <errno.h>

/* The supervisor's INFO: see sup/info.c. What it lacks is 0. */
static bool read_guest(const json_t *o, struct berm_stats *s)
{
	const uint64_t any = INT64_MAX;

	if (!json_is_object(o))
		return true; /* it did not answer */
	s->guest_known = 1;
	return jread_u64(o, "cpu_us", any, &s->guest_cpu_us) &&
	       jread_u64(o, "memory_bytes", any, &s->guest_memory_bytes) &&
	       jread_u64(o, "memory_peak_bytes", any, &s->guest_memory_peak_bytes) &&
	       jread_u64(o, "disk_bytes", any, &s->guest_disk_bytes) &&
	       jread_u64(o, "disk_max_bytes", any, &s->guest_disk_max_bytes) &&
	       jread_u64(o, "pids", any, &s->guest_pids) &&
	       jread_u64(o, "uptime_ms", any, &s->guest_uptime_ms);
}

static bool read_network(const json_t *o, struct berm_stats *s)
{
	const uint64_t any = INT64_MAX;

	if (!json_is_object(o))
		return true;
	return jread_u64(o, "generation", UINT32_MAX, &s->policy_generation) &&
	       jread_u64(o, "records", any, &s->records) &&
	       jread_u64(o, "records_lost", any, &s->records_lost);
}

static bool read_stats(const json_t *o, struct berm_stats *s)
{
	const json_t *host = json_object_get(o, "host");
	const uint64_t any = INT64_MAX;
	char level[16] = "";
	uint8_t number = 0;

	if (!json_is_object(host) || !jread_u64(o, "wall_ms", any, &s->wall_ms) ||
	    !jread_u64(o, "output_bytes", any, &s->output_bytes) ||
	    !jread_text(o, "engine", s->engine, sizeof(s->engine)) ||
	    !jread_text(o, "level", level, sizeof(level)) ||
	    !jread_u64(host, "cpu_ms", any, &s->cpu_ms) ||
	    !jread_u64(host, "memory_bytes", any, &s->host_memory_bytes) ||
	    !jread_u64(host, "memory_peak_bytes", any, &s->host_memory_peak_bytes))
		return false;
	if (level[0] && level_parse(level, &number, NULL) < 0)
		return false;
	s->level = number;
	return read_guest(json_object_get(o, "guest"), s) &&
	       read_network(json_object_get(o, "egress"), s);
}

void stats_take(struct berm_sandbox *sb, struct span json)
{
	_own_(jread_free) json_t *o = NULL;
	struct berm_stats got = { .size = sizeof(got) };

	sb->stats_bad = jread_object(json, &o, NULL) < 0 || !read_stats(o, &got);
	sb->stats = got;
	sb->stats_asked = false;
	sb->stats_fresh = true;
	sb->stats_count++;
	sb->due_stats = sb->want_stats_event;
	sb->want_stats_event = false;
	sb->news = true;
}

static void ask(struct berm_sandbox *sb)
{
	struct client *c = sb->control->client;

	if (sb->stats_asked || client_room(c) < API_ROOM_MIN)
		return;
	sb->stats_asked = true;
	wire_put(&c->out, WIRE_INFO, 0, 0, CLIENT_EPOCH, span_of(NULL, 0));
	pump_settle(sb->control);
}

struct answer {
	const struct berm_sandbox *sb;
	unsigned count; /* the answers there were before */
};

static bool answered(const void *arg)
{
	const struct answer *a = arg;

	return a->sb->stats_count != a->count || a->sb->ended;
}

static int get_stats(struct berm_sandbox *sb, int timeout_ms, struct berm_stats *ret, struct err *e)
{
	const struct answer a = { .sb = sb, .count = sb->stats_count };
	int r = 0;

	if (!ret)
		return err_set(e, -EINVAL, "ret is NULL");
	pump_once(sb);
	if (sb->ended)
		return sandbox_gone(sb, NULL, 0, e);
	if (timeout_ms != 0 || !sb->stats_fresh) {
		sb->want_stats_event |= timeout_ms == 0;
		ask(sb);
		r = pump_until(sb, answered, &a, pump_deadline(timeout_ms));
	}
	if (r < 0)
		return err_set(e, r, "the sandbox has not answered yet");
	if (sb->ended && sb->stats_count == a.count)
		return sandbox_gone(sb, NULL, 0, e);
	if (timeout_ms == 0) /* what was asked for without waiting is not another's to take */
		sb->stats_fresh = sb->due_stats = false;
	if (sb->stats_bad)
		return err_set(e, -EPROTO, "the supervisor's answer is of another kind");
	return api_give_sized("struct berm_stats", ret, &sb->stats, sizeof(sb->stats), e);
}

int berm_get_stats(struct berm_sandbox *sb, int timeout_ms, struct berm_stats *ret,
                   struct berm_err *e)
{
	struct err why = { 0 };
	int r = sandbox_enter(sb, &why);

	if (r < 0)
		return api_tell(e, r, &why);
	r = get_stats(sb, timeout_ms, ret, &why);
	sandbox_leave(sb);
	return r < 0 ? api_tell(e, r, &why) : 0;
}
