#include "state/result.h"

#include "state/jread.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
	TIME_TEXT_BYTES = 24, /* 2026-01-31T23:59:59.123Z */
	SIGNAL_MAX = 64,
	NS_PER_MS = 1000000,
	MS_PER_S = 1000,
};

/* The last second whose nanoseconds fit in 64 bits: in the year 2554. */
#define TIME_S_MAX (INT64_C(18446744073) - 1)

static const char *const reason_names[RESULT_REASON_COUNT] = {
	[0] = "running",
	[RESULT_EXITED] = "exited",
	[RESULT_SIGNALED] = "signaled",
	[RESULT_TIME] = "time",
	[RESULT_IDLE] = "idle",
	[RESULT_OUTPUT] = "output",
	[RESULT_MEMORY] = "memory",
	[RESULT_PIDS] = "pids",
	[RESULT_DISK] = "disk",
	[RESULT_STOPPED] = "stopped",
	[RESULT_CALLER_GONE] = "caller-gone",
	[RESULT_NOT_STARTED] = "not-started",
	[RESULT_COMMAND] = "command",
	[RESULT_ENGINE_DIED] = "engine-died",
	[RESULT_AGENT_LIED] = "agent-lied",
	[RESULT_AGENT_SILENT] = "agent-silent",
	[RESULT_INTERRUPTED] = "interrupted",
	[RESULT_GATE_ENDED] = "gate-ended",
	[RESULT_VAULT_ENDED] = "vault-ended",
	[RESULT_VIOLATION] = "secret-violation",
};

static const char *const start_names[] = {
	[RESULT_START_NONE] = NULL,           [RESULT_START_COLD] = "cold",
	[RESULT_START_RESTORED] = "restored", [RESULT_START_BUILT] = "built",
	[RESULT_START_SNAPSHOT] = "snapshot",
};

/* the bits of limits_hit, lowest first */
static const char *const hit_names[] = { "time", "idle", "output", "memory", "pids", "disk" };

/* what an engine may be called; a parsed result points here */
static const char *const engine_names[] = { NULL, "qemu", "kvm", "process" };

static const char *const level_names[] = { NULL, "process", "emulated", "microvm" };

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

const char *result_reason_name(uint8_t reason)
{
	return reason < RESULT_REASON_COUNT ? reason_names[reason] : "unknown";
}

/* --- writing --- */

/* NULL and "" are both written as null: neither is anything to say. */
static void put_text(struct buf *out, const char *key, const char *text)
{
	buf_printf(out, "\"%s\":", key);
	if (text && *text)
		buf_put_json_str(out, span_str(text));
	else
		buf_put_str(out, "null");
	buf_put_u8(out, ',');
}

static void put_u64(struct buf *out, const char *key, uint64_t v, const char *after)
{
	if (v > INT64_MAX)
		v = INT64_MAX; /* what readers of JSON can hold */
	buf_printf(out, "\"%s\":%" PRIu64 "%s", key, v, after);
}

static void put_time(struct buf *out, const char *key, uint64_t ns)
{
	time_t s = (time_t)(ns / NS_PER_MS / MS_PER_S);
	struct tm tm = { 0 };

	if (ns == 0) {
		put_text(out, key, NULL);
		return;
	}
	(void)gmtime_r(&s, &tm);
	buf_printf(out, "\"%s\":\"%04d-%02d-%02dT%02d:%02d:%02d.%03uZ\",", key, tm.tm_year + 1900,
	           tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
	           (unsigned)(ns / NS_PER_MS % MS_PER_S));
}

static void put_hits(struct buf *out, uint8_t hits)
{
	const char *comma = "";

	buf_put_str(out, "\"limits_hit\":[");
	for (size_t i = 0; i < COUNT(hit_names); i++) {
		if (!(hits >> i & 1))
			continue;
		buf_printf(out, "%s\"%s\"", comma, hit_names[i]);
		comma = ",";
	}
	buf_put_str(out, "],");
}

void result_put_json(struct buf *out, const struct result *r)
{
	bool ended = r->reason > 0;

	buf_put_u8(out, '{');
	put_text(out, "id", r->id);
	put_text(out, "name", r->name);
	put_text(out, "image", r->image);
	put_text(out, "engine", r->engine);
	put_text(out, "level", r->level < COUNT(level_names) ? level_names[r->level] : NULL);
	put_text(out, "reason", ended ? result_reason_name(r->reason) : NULL);
	if (ended)
		put_u64(out, "exit_code", r->exit_code, ",");
	else
		put_text(out, "exit_code", NULL);
	if (r->signal > 0)
		put_u64(out, "signal", r->signal, ",");
	else
		put_text(out, "signal", NULL);
	put_text(out, "start", r->start < COUNT(start_names) ? start_names[r->start] : NULL);
	put_hits(out, r->limits_hit);
	put_time(out, "created", r->created_ns);
	put_time(out, "ended", r->ended_ns);
	put_u64(out, "start_ms", r->start_ms, ",");
	put_u64(out, "wall_ms", r->wall_ms, ",");
	buf_put_str(out, "\"guest\":{");
	put_u64(out, "user_us", r->user_us, ",");
	put_u64(out, "sys_us", r->sys_us, ",");
	put_u64(out, "maxrss_bytes", r->maxrss_bytes, "},");
	buf_put_str(out, "\"host\":{");
	put_u64(out, "cpu_ms", r->host_cpu_ms, ",");
	put_u64(out, "memory_peak_bytes", r->host_memory_peak_bytes, "},");
	put_u64(out, "output_bytes", r->output_bytes, ",");
	buf_put_str(out, "\"message\":");
	if (r->message[0])
		buf_put_json_str(out, span_str(r->message));
	else
		buf_put_str(out, "null");
	buf_put_u8(out, '}');
}

/* --- reading --- */

/* Which of `names` the text under key is; a missing or null one is 0. */
static bool take_name(const json_t *o, const char *key, const char *const *names, size_t count,
                      uint8_t *ret)
{
	const json_t *v = json_object_get(o, key);
	const char *text = json_string_value(v);

	if (!v || json_is_null(v))
		return true;
	for (size_t i = 1; text && i < count; i++) {
		if (strcmp(text, names[i]) != 0)
			continue;
		*ret = (uint8_t)i;
		return true;
	}
	return false;
}

static bool take_u32(const json_t *o, const char *key, uint32_t max, uint32_t *ret)
{
	uint64_t v = *ret;

	if (!jread_u64(o, key, max, &v))
		return false;
	*ret = (uint32_t)v;
	return true;
}

static bool take_hits(const json_t *o, uint8_t *ret)
{
	const json_t *list = json_object_get(o, "limits_hit");
	uint8_t got = 0;

	if (!list || json_is_null(list))
		return true;
	if (!json_is_array(list) || json_array_size(list) > COUNT(hit_names))
		return false;
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *text = json_string_value(json_array_get(list, i));
		size_t bit = 0;

		while (text && bit < COUNT(hit_names) && strcmp(text, hit_names[bit]) != 0)
			bit++;
		if (!text || bit == COUNT(hit_names))
			return false;
		got |= (uint8_t)(1U << bit);
	}
	*ret = got;
	return true;
}

/* `count` digits at the front, and the one byte behind them. */
static bool take_digits(struct span *s, size_t count, char after, int *ret)
{
	struct span digits;
	uint64_t v;
	uint8_t c;

	if (!take_span(s, count, &digits) || !span_to_u64(digits, &v))
		return false;
	if (!take_u8(s, &c) || c != (uint8_t)after)
		return false;
	*ret = (int)v;
	return true;
}

static bool take_time(const json_t *o, const char *key, uint64_t *ret)
{
	char text[TIME_TEXT_BYTES + 2] = "";
	struct tm tm = { 0 };
	struct tm back = { 0 };
	struct span s;
	time_t at;
	int ms;

	if (!jread_text(o, key, text, sizeof(text)))
		return false;
	if (!text[0])
		return true;
	s = span_str(text);
	if (!take_digits(&s, 4, '-', &tm.tm_year) || !take_digits(&s, 2, '-', &tm.tm_mon) ||
	    !take_digits(&s, 2, 'T', &tm.tm_mday) || !take_digits(&s, 2, ':', &tm.tm_hour) ||
	    !take_digits(&s, 2, ':', &tm.tm_min) || !take_digits(&s, 2, '.', &tm.tm_sec) ||
	    !take_digits(&s, 3, 'Z', &ms) || s.len > 0)
		return false;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	back = tm;
	at = timegm(&back);
	/* timegm() carries the 31st of April over to May: then it is no date */
	if (at < 0 || at > TIME_S_MAX || back.tm_mday != tm.tm_mday || back.tm_mon != tm.tm_mon ||
	    back.tm_hour != tm.tm_hour || back.tm_min != tm.tm_min || back.tm_sec != tm.tm_sec)
		return false;
	*ret = ((uint64_t)at * MS_PER_S + (uint64_t)ms) * NS_PER_MS;
	return true;
}

static bool take_usage(const json_t *o, struct result *r)
{
	const json_t *guest = json_object_get(o, "guest");
	const json_t *host = json_object_get(o, "host");

	if ((guest && !json_is_object(guest)) || (host && !json_is_object(host)))
		return false;
	return jread_u64(guest, "user_us", INT64_MAX, &r->user_us) &&
	       jread_u64(guest, "sys_us", INT64_MAX, &r->sys_us) &&
	       jread_u64(guest, "maxrss_bytes", INT64_MAX, &r->maxrss_bytes) &&
	       jread_u64(host, "cpu_ms", INT64_MAX, &r->host_cpu_ms) &&
	       jread_u64(host, "memory_peak_bytes", INT64_MAX, &r->host_memory_peak_bytes);
}

static bool take_result(const json_t *o, struct result *r)
{
	/* a byte more than is legal, so that what is too long is not cut to something legal */
	char id[SPEC_ID_LEN + 2] = "";
	char name[SPEC_NAME_MAX + 2] = "";
	uint8_t engine = 0;

	if (!jread_text(o, "id", id, sizeof(id)) || !spec_id_ok(id) ||
	    !jread_text(o, "name", name, sizeof(name)) || (name[0] && !spec_name_ok(name)) ||
	    !jread_text(o, "image", r->image, sizeof(r->image)) ||
	    !jread_text(o, "message", r->message, sizeof(r->message)))
		return false;
	if (!take_name(o, "engine", engine_names, COUNT(engine_names), &engine) ||
	    !take_name(o, "level", level_names, COUNT(level_names), &r->level) ||
	    !take_name(o, "reason", reason_names, COUNT(reason_names), &r->reason) ||
	    !take_name(o, "start", start_names, COUNT(start_names), &r->start) ||
	    !take_hits(o, &r->limits_hit))
		return false;
	memcpy(r->id, id, sizeof(r->id));
	memcpy(r->name, name, sizeof(r->name));
	r->engine = engine_names[engine];
	return take_u32(o, "exit_code", RESULT_EXIT_MAX, &r->exit_code) &&
	       take_u32(o, "signal", SIGNAL_MAX, &r->signal) &&
	       take_time(o, "created", &r->created_ns) && take_time(o, "ended", &r->ended_ns) &&
	       jread_u64(o, "start_ms", INT64_MAX, &r->start_ms) &&
	       jread_u64(o, "wall_ms", INT64_MAX, &r->wall_ms) && take_usage(o, r) &&
	       jread_u64(o, "output_bytes", INT64_MAX, &r->output_bytes);
}

int result_parse_json(struct span json, struct result *ret, struct err *e)
{
	_own_(jread_free) json_t *o = NULL;
	struct result got = { 0 };
	int r;

	if (json.len > RESULT_JSON_MAX)
		return err_set(e, -EBADMSG, "result: longer than %d bytes", RESULT_JSON_MAX);
	r = jread_object(json, &o, e);
	if (r < 0) {
		(void)err_wrap(e, "result");
		return r;
	}
	if (!take_result(o, &got))
		return err_set(e, -EBADMSG, "result: a value is not as this berm writes it");
	*ret = got;
	return 0;
}
