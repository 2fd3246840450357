#include "gate/refusal.h"

#include <string.h>

static const char note[] =
	"The sandbox's egress policy refuses this by design; the server was not asked.";

uint16_t refusal_status(enum policy_reason reason)
{
	static const uint16_t statuses[POLICY_REASONS] = {
		[POLICY_HOST_MISMATCH] = 421,     [POLICY_AMBIGUOUS] = 400,
		[POLICY_LIMIT_RATE] = 429,        [POLICY_LIMIT_BYTES] = 429,
		[POLICY_LIMIT_CONNECTIONS] = 503, [POLICY_LIMIT_MEMORY] = 503,
		[POLICY_VAULT_DOWN] = 503,        [POLICY_UPSTREAM_TIMEOUT] = 504,
		[POLICY_UPSTREAM_REFUSED] = 502,  [POLICY_UPSTREAM_CERTIFICATE] = 502,
		[POLICY_UPSTREAM_DNS] = 502,      [POLICY_UPSTREAM_PROTOCOL] = 502,
	};

	return reason < POLICY_REASONS && statuses[reason] != 0 ? statuses[reason] : 403;
}

enum policy_reason refusal_reason(enum egress_fail fail)
{
	static const uint8_t reasons[EGRESS_FAIL_COUNT] = {
		[EGRESS_OK] = POLICY_VAULT_DOWN,
		[EGRESS_NO_NAME] = POLICY_UPSTREAM_DNS,
		[EGRESS_NO_ADDRESS] = POLICY_UPSTREAM_DNS,
		[EGRESS_DNS] = POLICY_UPSTREAM_DNS,
		[EGRESS_SPECIAL] = POLICY_SPECIAL_ADDRESS,
		[EGRESS_METADATA] = POLICY_METADATA_ADDRESS,
		[EGRESS_NOT_RESOLVED] = POLICY_NOT_RESOLVED,
		[EGRESS_DENIED] = POLICY_NO_RULE,
		[EGRESS_PLACEHOLDER] = POLICY_PLACEHOLDER_ELSEWHERE,
		[EGRESS_REFUSED] = POLICY_UPSTREAM_REFUSED,
		[EGRESS_UNREACHABLE] = POLICY_UPSTREAM_REFUSED,
		[EGRESS_TIMEOUT] = POLICY_UPSTREAM_TIMEOUT,
		[EGRESS_CERTIFICATE] = POLICY_UPSTREAM_CERTIFICATE,
		[EGRESS_PROTOCOL] = POLICY_UPSTREAM_PROTOCOL,
		[EGRESS_CLOSED] = POLICY_UPSTREAM_PROTOCOL,
		[EGRESS_LIMIT] = POLICY_LIMIT_CONNECTIONS,
		[EGRESS_REVOKED_BY_POLICY] = POLICY_REVOKED,
		[EGRESS_CANCELLED] = POLICY_UPSTREAM_PROTOCOL,
		[EGRESS_INTERNAL] = POLICY_VAULT_DOWN,
		[EGRESS_TOO_LARGE] = POLICY_AMBIGUOUS, /* said as a 431 */
		[EGRESS_FULL] = POLICY_LIMIT_MEMORY,
	};

	return fail < EGRESS_FAIL_COUNT ? reasons[fail] : POLICY_VAULT_DOWN;
}

uint16_t refusal_http_status(enum http_reason why)
{
	return why == HTTP_CONNECT ? 501 : http_reason_status(why);
}

static void begin(struct buf *b, const char *error, uint16_t status, uint32_t number)
{
	buf_printf(b, "{\"error\":\"%s\",\"status\":%u,\"request_id\":\"%u\"", error, status,
	           number);
}

/* What ends a request that went already is not said to have kept it from the server. */
static bool was_never_asked(uint16_t status, uint8_t reason)
{
	return status < 502 && reason != POLICY_LIMIT_BYTES && reason != POLICY_REVOKED;
}

static struct span cut(struct span s, size_t max)
{
	return s.len > max ? span_of(s.at, max) : s;
}

static void put_text(struct buf *b, const char *name, struct span text)
{
	buf_printf(b, ",\"%s\":", name);
	buf_put_json_str(b, text);
}

void refusal_put_policy(struct buf *body, uint32_t number, const struct policy *p,
                        const struct policy_ask *a, const struct policy_verdict *v)
{
	uint16_t status = refusal_status(v->reason);
	bool upstream = status >= 502;

	begin(body, upstream ? "upstream-failed" : "refused-by-policy", status, number);
	if (a->method.len > 0)
		put_text(body, "method", cut(a->method, HTTP_METHOD_MAX));
	if (a->path.len > 0)
		put_text(body, "path", cut(a->path, REFUSAL_PATH_MAX));
	buf_put_str(body, ",");
	policy_explain_json(p, a, v, body);
	if (was_never_asked(status, v->reason))
		put_text(body, "note", span_str(note));
	buf_put_str(body, "}\n");
}

void refusal_put_http(struct buf *body, uint32_t number, uint16_t status, const char *reason,
                      const char *message)
{
	begin(body, "bad-request", status, number);
	put_text(body, "reason", span_str(reason));
	put_text(body, "message", span_str(message));
	buf_put_str(body, "}\n");
}

static void add(struct http_head *h, const char *name, const char *value)
{
	h->fields[h->count++] =
		(struct http_field){ .name = span_str(name), .value = span_str(value) };
}

void refusal_head(struct http_head *ret, uint16_t status, size_t body_len, const char *reason)
{
	memset(ret, 0, offsetof(struct http_head, fields));
	ret->status = status;
	ret->framing = HTTP_BODY_LENGTH;
	ret->length = body_len;
	add(ret, "content-type", "application/json");
	add(ret, "cache-control", "no-store");
	add(ret, "berm-reason", reason);
	if (status == 405)
		add(ret, "allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
}
