#include "egress/egress.h"

#include <errno.h>
#include <string.h>

/*
 * Theory of operation
 *
 * As in src/wire: one table says all that can be said of a frame without its meaning, and a header
 * is judged by it before a byte of the payload has to be there. The payload parsers use every byte
 * and hold every number against its range, so what they return needs no second look.
 */

enum {
	GATE = EGRESS_FROM_GATE,
	VAULT = EGRESS_FROM_VAULT,
	BOTH = GATE | VAULT,
	ADDR_BYTES = 1 + 16,
	BRIEF_BYTES = 16,
	REQUEST_BYTES_MIN = 4 + 4 + ADDR_BYTES + BRIEF_BYTES,
	RESOLVED_BYTES_MIN = 1 + 4 + 1 + 1,
	STATS_BYTES = 9 * 8,
	NAME_BYTES_MAX = 2 + HTTP_HOST_MAX,
};

struct rule {
	uint8_t from;
	bool stream;
	uint32_t bytes_min;
	uint32_t bytes_max;
};

static const struct rule rules[EGRESS_TYPE_COUNT] = {
	/*                     from  stream payload bytes */
	[EGRESS_HELLO] = { BOTH, false, 4, 4 },
	[EGRESS_REFUSE] = { BOTH, false, 2, 2 + EGRESS_TEXT_MAX },
	[EGRESS_POLICY] = { VAULT, false, 4, 4 + EGRESS_POLICY_MAX },
	[EGRESS_POLICY_OK] = { GATE, false, 4, 4 },
	[EGRESS_STATS] = { GATE, false, 0, 0 },
	[EGRESS_STATS_OK] = { VAULT, false, STATS_BYTES, STATS_BYTES },
	[EGRESS_RESOLVE] = { GATE, true, 1 + 2, 1 + NAME_BYTES_MAX },
	[EGRESS_RESOLVED] = { VAULT, true, RESOLVED_BYTES_MIN,
	                      RESOLVED_BYTES_MIN + EGRESS_ADDRESSES_MAX *ADDR_BYTES +
	                              EGRESS_CHAIN_MAX *NAME_BYTES_MAX },
	[EGRESS_CONNECT] = { GATE, true, 4 + 4 + ADDR_BYTES + 2 + 1 + 2,
	                     4 + 4 + ADDR_BYTES + 2 + 1 + NAME_BYTES_MAX },
	[EGRESS_CONNECTED] = { VAULT, true, 1, 1 },
	[EGRESS_REQUEST] = { GATE, true, REQUEST_BYTES_MIN, EGRESS_HEAD_MAX },
	[EGRESS_RESPONSE] = { VAULT, true, BRIEF_BYTES + 2, EGRESS_HEAD_MAX },
	[EGRESS_BODY] = { BOTH, true, 1, EGRESS_BODY_MAX },
	[EGRESS_TRAILERS] = { BOTH, true, 2, 2 + HTTP_TRAILER_BYTES_MAX },
	[EGRESS_END] = { BOTH, true, 0, 0 },
	[EGRESS_RESET] = { BOTH, true, 1, 1 },
	[EGRESS_CREDIT] = { BOTH, true, 4, 4 },
	[EGRESS_SCRUBBED] = { VAULT, true, 2 + 1 + 1 + 1 + 4, 2 + EGRESS_NAME_MAX + 1 + 1 + 4 },
	[EGRESS_VIOLATION] = { VAULT, true, 2 + 1 + 1 + 1 + 4, 2 + EGRESS_NAME_MAX + 1 + 1 + 4 },
	[EGRESS_REVOKED] = { VAULT, true, 4, 4 },
};

int egress_parse_frame(struct span *in, enum egress_side from, struct egress_frame *ret)
{
	struct egress_frame got = { 0 };
	struct span s = *in;
	const struct rule *rule;
	uint32_t bytes;
	uint16_t magic;
	uint8_t zero;

	if (!take_le16(&s, &magic))
		return -EAGAIN;
	if (magic != EGRESS_MAGIC)
		return -EBADMSG;
	if (!take_u8(&s, &got.type) || !take_u8(&s, &zero) || !take_le32(&s, &got.stream) ||
	    !take_le32(&s, &bytes))
		return -EAGAIN;
	if (got.type >= EGRESS_TYPE_COUNT || zero != 0)
		return -EBADMSG;
	rule = &rules[got.type]; /* a type that does not exist has a row of zeros: no sender */
	if (!((unsigned)from & rule->from) || rule->stream != (got.stream != 0) ||
	    bytes < rule->bytes_min || bytes > rule->bytes_max)
		return -EBADMSG;
	if (!take_span(&s, bytes, &got.payload))
		return -EAGAIN;
	*ret = got;
	*in = s;
	return 0;
}

int egress_parse_u32(struct span payload, uint32_t *ret)
{
	return payload.len == 4 && take_le32(&payload, ret) ? 0 : -EBADMSG;
}

int egress_parse_text(struct span payload, struct span *ret)
{
	struct span got;

	if (!take_str16(&payload, EGRESS_TEXT_MAX, &got) || payload.len != 0 ||
	    (got.len > 0 && memchr(got.at, 0, got.len)))
		return -EBADMSG;
	*ret = got;
	return 0;
}

int egress_parse_policy(struct span payload, uint32_t *ret_generation, struct span *ret)
{
	uint32_t generation;

	if (!take_le32(&payload, &generation) || payload.len > EGRESS_POLICY_MAX)
		return -EBADMSG;
	*ret_generation = generation;
	*ret = payload;
	return 0;
}

int egress_parse_stats(struct span payload, struct egress_stats *ret)
{
	struct egress_stats got = { 0 };

	if (!take_le64(&payload, &got.streams) || !take_le64(&payload, &got.resolves) ||
	    !take_le64(&payload, &got.connects) || !take_le64(&payload, &got.requests) ||
	    !take_le64(&payload, &got.reused) || !take_le64(&payload, &got.sent_bytes) ||
	    !take_le64(&payload, &got.received_bytes) || !take_le64(&payload, &got.scrubbed) ||
	    !take_le64(&payload, &got.violations) || payload.len != 0)
		return -EBADMSG;
	*ret = got;
	return 0;
}

/* A name as a rule or a DNS answer has it: canonical already, and no address. */
static bool take_name(struct span *s, struct span *ret)
{
	struct span b = *s;
	struct http_host host;
	struct span got;

	if (!take_str16(&b, HTTP_HOST_MAX, &got) || host_parse(got, &host) < 0 ||
	    host.kind != HTTP_HOST_NAME || !span_equal(got, span_of(host.text, host.len)))
		return false;
	*s = b;
	*ret = got;
	return true;
}

/* The same where there may be none. */
static bool take_any_name(struct span *s, struct span *ret)
{
	struct span b = *s;

	if (take_str16(&b, 0, ret)) {
		*s = b;
		return true;
	}
	return take_name(s, ret);
}

static bool take_addr(struct span *s, struct egress_addr *ret)
{
	struct egress_addr got = { 0 };
	struct span b = *s;

	if (!take_u8(&b, &got.family) || !take_bytes(&b, got.bytes, sizeof(got.bytes)))
		return false;
	if (got.family == EGRESS_IP4) {
		for (size_t i = 4; i < sizeof(got.bytes); i++)
			if (got.bytes[i] != 0)
				return false;
	} else if (got.family != EGRESS_IP6) {
		return false;
	}
	*s = b;
	*ret = got;
	return true;
}

int egress_parse_resolve(struct span payload, struct egress_resolve *ret)
{
	struct egress_resolve got = { 0 };

	if (!take_u8(&payload, &got.want) || !take_name(&payload, &got.name) || payload.len != 0 ||
	    got.want == 0 || got.want > (EGRESS_WANT_IP4 | EGRESS_WANT_IP6))
		return -EBADMSG;
	*ret = got;
	return 0;
}

int egress_parse_resolved(struct span payload, struct egress_resolved *ret)
{
	struct egress_resolved got;

	memset(&got, 0, sizeof(got));
	if (!take_u8(&payload, &got.fail) || !take_le32(&payload, &got.ttl_s) ||
	    !take_u8(&payload, &got.count) || !take_u8(&payload, &got.chain_count))
		return -EBADMSG;
	if (got.fail >= EGRESS_FAIL_COUNT || got.ttl_s > EGRESS_TTL_MAX_S ||
	    got.count > EGRESS_ADDRESSES_MAX || got.chain_count > EGRESS_CHAIN_MAX ||
	    (got.fail == EGRESS_OK) != (got.count > 0))
		return -EBADMSG;
	for (uint8_t i = 0; i < got.count; i++)
		if (!take_addr(&payload, &got.addr[i]))
			return -EBADMSG;
	for (uint8_t i = 0; i < got.chain_count; i++)
		if (!take_name(&payload, &got.chain[i]))
			return -EBADMSG;
	if (payload.len != 0)
		return -EBADMSG;
	*ret = got;
	return 0;
}

int egress_parse_connect(struct span payload, struct egress_connect *ret)
{
	struct egress_connect got = { 0 };

	if (!take_le32(&payload, &got.generation) || !take_le32(&payload, &got.rule) ||
	    !take_addr(&payload, &got.addr) || !take_le16(&payload, &got.port) ||
	    !take_u8(&payload, &got.protocol) || !take_any_name(&payload, &got.name) ||
	    payload.len != 0)
		return -EBADMSG;
	if (got.port == 0 || got.protocol < EGRESS_TCP || got.protocol > EGRESS_UDP)
		return -EBADMSG;
	*ret = got;
	return 0;
}

int egress_parse_connected(struct span payload, struct egress_connected *ret)
{
	uint8_t fail;

	if (!take_u8(&payload, &fail) || payload.len != 0 || fail >= EGRESS_FAIL_COUNT)
		return -EBADMSG;
	ret->fail = fail;
	return 0;
}

int egress_parse_reset(struct span payload, enum egress_fail *ret)
{
	uint8_t fail;

	if (!take_u8(&payload, &fail) || payload.len != 0 || fail == EGRESS_OK ||
	    fail >= EGRESS_FAIL_COUNT)
		return -EBADMSG;
	*ret = (enum egress_fail)fail;
	return 0;
}

static bool secret_name_ok(struct span s)
{
	for (size_t i = 0; i < s.len; i++) {
		uint8_t c = s.at[i];
		bool alnum =
			(c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');

		if (!alnum && c != '_' && c != '.' && c != '-')
			return false;
	}
	return s.len > 0;
}

int egress_parse_mark(struct span payload, struct egress_mark *ret)
{
	struct egress_mark got = { 0 };

	if (!take_str16(&payload, EGRESS_NAME_MAX, &got.secret) || !take_u8(&payload, &got.where) ||
	    !take_u8(&payload, &got.form) || !take_le32(&payload, &got.count) || payload.len != 0)
		return -EBADMSG;
	if (!secret_name_ok(got.secret) || got.where == 0 || got.where >= EGRESS_WHERE_COUNT ||
	    got.form == 0 || got.form >= EGRESS_FORM_COUNT || got.count == 0)
		return -EBADMSG;
	*ret = got;
	return 0;
}
