#include "lib/egress_log.h"

#include "policy/policy.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <time.h>

static const char *const events[EGRESS_EVENT_COUNT] = {
	[EGRESS_EVENT_ALLOWED] = "allowed",     [EGRESS_EVENT_REFUSED] = "refused",
	[EGRESS_EVENT_OBSERVED] = "observed",   [EGRESS_EVENT_ENDED] = "ended",
	[EGRESS_EVENT_VIOLATION] = "violation", [EGRESS_EVENT_SCRUBBED] = "scrubbed",
	[EGRESS_EVENT_LOST] = "lost",
};

static const char *const layers[EGRESS_LAYER_COUNT] = {
	[EGRESS_LAYER_DNS] = "dns", [EGRESS_LAYER_TCP] = "tcp",   [EGRESS_LAYER_UDP] = "udp",
	[EGRESS_LAYER_TLS] = "tls", [EGRESS_LAYER_HTTP] = "http",
};

const char *egress_event_word(uint8_t event)
{
	return event < EGRESS_EVENT_COUNT && events[event] ? events[event] : "unknown";
}

const char *egress_layer_word(uint8_t layer)
{
	return layer < EGRESS_LAYER_COUNT && layers[layer] ? layers[layer] : "unknown";
}

static void put_key(struct buf *out, const char *key)
{
	buf_printf(out, ",\"%s\":", key);
}

static void put_text(struct buf *out, const char *key, struct span text)
{
	put_key(out, key);
	if (text.len > 0)
		buf_put_json_str(out, text);
	else
		buf_put_str(out, "null");
}

/* null: zero says nothing here. More than a reader of JSON can hold is the most it can. */
static void put_number(struct buf *out, const char *key, uint64_t n)
{
	put_key(out, key);
	if (n > 0)
		buf_printf(out, "%" PRIu64, n > INT64_MAX ? (uint64_t)INT64_MAX : n);
	else
		buf_put_str(out, "null");
}

static void put_count(struct buf *out, const char *key, uint64_t n)
{
	put_key(out, key);
	buf_printf(out, "%" PRIu64, n > INT64_MAX ? (uint64_t)INT64_MAX : n);
}

static void put_flag(struct buf *out, const char *key, bool on)
{
	put_key(out, key);
	buf_put_str(out, on ? "true" : "false");
}

static void put_time(struct buf *out, uint64_t ns)
{
	const uint64_t ms = ns / 1000000;
	time_t s = (time_t)(ms / 1000);
	struct tm tm = { 0 };

	(void)gmtime_r(&s, &tm);
	buf_printf(out, "{\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.%03uZ\"", tm.tm_year + 1900,
	           tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
	           (unsigned)(ms % 1000));
}

static void put_address(struct buf *out, const struct egress_record *r)
{
	char text[INET6_ADDRSTRLEN] = "";

	if (r->family == 4 || r->family == 6)
		(void)inet_ntop(r->family == 4 ? AF_INET : AF_INET6, r->addr, text, sizeof(text));
	put_text(out, "address", span_str(text));
}

void egress_line_put(struct buf *out, const struct egress_line *l)
{
	const struct egress_record *r = l->record;
	const char *reason = r->reason < POLICY_REASONS
	                             ? policy_reason_word((enum policy_reason)r->reason)
	                             : "unknown";

	put_time(out, l->realtime_ns);
	put_text(out, "sandbox", span_str(l->sandbox));
	put_text(out, "by", span_str(l->by));
	put_count(out, "generation", r->generation);
	put_text(out, "event", span_str(egress_event_word(r->event)));
	put_text(out, "layer", span_str(egress_layer_word(r->layer)));
	put_text(out, "reason", span_str(reason));
	put_text(out, "rule", l->rule);
	put_text(out, "host", r->host);
	put_address(out, r);
	put_number(out, "port", r->port);
	put_text(out, "method", r->method);
	put_text(out, "path", r->path);
	put_number(out, "status", r->status);
	put_count(out, "bytes_up", r->bytes_up);
	put_count(out, "bytes_down", r->bytes_down);
	put_count(out, "ms", r->ms);
	put_count(out, "count", r->count);
	put_text(out, "secret", r->secret);
	put_flag(out, "inspected", r->flags & EGRESS_RECORD_INSPECTED);
	put_flag(out, "pin_only", r->flags & EGRESS_RECORD_PIN_ONLY);
	put_number(out, "exec", l->exec);
	put_count(out, "flow", r->flow);
	buf_put_str(out, "}\n");
}
