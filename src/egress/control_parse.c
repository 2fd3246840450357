#include "egress/control.h"

#include <errno.h>
#include <string.h>

/*
 * Theory of operation
 *
 * One table says who may send a kind, how long its payload is and whether a descriptor comes with
 * it. What each payload parser lets through needs no second look, but for two things that this
 * folder cannot know: a certificate (src/wire) and a reason's number (src/policy).
 */

enum {
	SUP = CONTROL_FROM_SUPERVISOR,
	GATE = CONTROL_FROM_GATE,
	VAULT = CONTROL_FROM_VAULT,
	BOTH = GATE | VAULT,
	CMD = CONTROL_FROM_COMMAND,
	ASKED = SUP | CMD, /* the supervisor passes it on */
	ALL_MAX = CONTROL_PACKET_MAX - CONTROL_HEADER_BYTES,
	NAME_MAX_BYTES = 2 + CONTROL_SECRET_NAME_MAX,
	ACCEPTED_BYTES = 2 + 1 + 16 + 2,
	RECORD_BYTES = 4 + 4 + 3 * 2 + 2 + 16 + 3 * 8 + 2 * 4,
	RECORD_MIN = RECORD_BYTES + 4 * 2,
	RECORD_MAX = RECORD_MIN + CONTROL_HOST_MAX + CONTROL_METHOD_MAX + CONTROL_PATH_MAX +
	             CONTROL_SECRET_NAME_MAX,
};

struct rule {
	uint8_t from;
	bool fd;
	uint16_t bytes_min;
	uint16_t bytes_max;
	const char *name;
};

static const struct rule rules[CONTROL_KIND_COUNT] = {
	/*                      from  fd     payload bytes */
	[CONTROL_READY] = { BOTH, false, 4, 4 + CONTROL_PEM_MAX, "READY" },
	[CONTROL_POLICY] = { ASKED, true, 4, 4, "POLICY" },
	[CONTROL_POLICY_OK] = { VAULT, false, 4, 4, "POLICY_OK" },
	[CONTROL_POLICY_BAD] = { VAULT, false, 4 + 2 + 1, 4 + 2 + CONTROL_WHY_MAX, "POLICY_BAD" },
	[CONTROL_SECRET] = { ASKED, true, 4 + 2 + 1, 4 + NAME_MAX_BYTES, "SECRET" },
	[CONTROL_SECRET_OK] = { VAULT, false, 4 + 2 + 2,
	                        4 + NAME_MAX_BYTES + 2 + CONTROL_PLACEHOLDER_MAX, "SECRET_OK" },
	[CONTROL_SECRET_BAD] = { VAULT, false, 4 + 2 + 1, 4 + 2 + CONTROL_WHY_MAX, "SECRET_BAD" },
	[CONTROL_SECRET_RM] = { ASKED, false, 4 + 2 + 1, 4 + NAME_MAX_BYTES, "SECRET_RM" },
	[CONTROL_STATS] = { SUP, false, 4, 4, "STATS" },
	[CONTROL_STATS_OK] = { BOTH, false, 4 + 2, ALL_MAX, "STATS_OK" },
	[CONTROL_RECORD] = { BOTH, false, RECORD_MIN, RECORD_MAX, "RECORD" },
	[CONTROL_ACCEPTED] = { ASKED, true, ACCEPTED_BYTES, ACCEPTED_BYTES, "ACCEPTED" },
	[CONTROL_ROOTS] = { ASKED, true, 4, 4, "ROOTS" },
	[CONTROL_EXPORT] = { ASKED, true, 4, 4, "EXPORT" },
	[CONTROL_IMPORT] = { ASKED, true, 4, 4, "IMPORT" },
	[CONTROL_LISTEN] = { CMD, true, ACCEPTED_BYTES, ACCEPTED_BYTES, "LISTEN" },
	[CONTROL_REST] = { SUP, false, 4, 4, "REST" },
};

_Static_assert((int)RECORD_MAX <= (int)ALL_MAX, "a record fits into a packet");
_Static_assert(4 + 2 + CONTROL_STATS_MAX * (2 + CONTROL_STAT_NAME_MAX + 8) <= ALL_MAX,
               "all counters fit into a packet");

bool control_carries_fd(uint8_t kind)
{
	return kind < CONTROL_KIND_COUNT && rules[kind].fd;
}

const char *control_kind_name(uint8_t kind)
{
	return kind < CONTROL_KIND_COUNT && rules[kind].name ? rules[kind].name : "unknown kind";
}

int control_parse_packet(struct span packet, enum control_side from, struct control_packet *ret)
{
	struct control_packet got = { 0 };
	const struct rule *rule;
	uint8_t version;
	uint16_t zero;

	if (packet.len > CONTROL_PACKET_MAX || !take_u8(&packet, &version) ||
	    version != CONTROL_VERSION || !take_u8(&packet, &got.kind) ||
	    !take_le16(&packet, &zero) || zero != 0 || got.kind >= CONTROL_KIND_COUNT)
		return -EBADMSG;
	rule = &rules[got.kind]; /* a kind that does not exist has a row of zeros: no sender */
	if (!((unsigned)from & rule->from) || packet.len < rule->bytes_min ||
	    packet.len > rule->bytes_max)
		return -EBADMSG;
	got.payload = packet;
	*ret = got;
	return 0;
}

int control_parse_ready(struct span payload, struct control_ready *ret)
{
	struct control_ready got = { 0 };

	if (!take_le32(&payload, &got.name_hash) || payload.len > CONTROL_PEM_MAX ||
	    (payload.len == 0 && got.name_hash != 0))
		return -EBADMSG;
	got.pem = payload;
	*ret = got;
	return 0;
}

int control_parse_u32(struct span payload, uint32_t *ret)
{
	return payload.len == 4 && take_le32(&payload, ret) ? 0 : -EBADMSG;
}

int control_parse_text(struct span payload, struct control_text *ret)
{
	struct control_text got = { 0 };

	if (!take_le32(&payload, &got.number) || !take_str16(&payload, CONTROL_WHY_MAX, &got.why) ||
	    got.why.len == 0 || payload.len != 0)
		return -EBADMSG;
	*ret = got;
	return 0;
}

static bool in(uint8_t c, uint8_t from, uint8_t to)
{
	return c >= from && c <= to;
}

bool control_parse_name_ok(struct span name)
{
	if (name.len == 0 || name.len > CONTROL_SECRET_NAME_MAX || in(name.at[0], '0', '9'))
		return false;
	for (size_t i = 0; i < name.len; i++) {
		uint8_t c = name.at[i];

		if (!in(c, 'a', 'z') && !in(c, 'A', 'Z') && !in(c, '0', '9') && c != '_')
			return false;
	}
	return true;
}

static bool all_in(struct span s, uint8_t from, uint8_t to)
{
	for (size_t i = 0; i < s.len; i++)
		if (!in(s.at[i], from, to))
			return false;
	return true;
}

int control_parse_secret(uint8_t kind, struct span payload, struct control_secret *ret)
{
	const bool answer = kind == CONTROL_SECRET_OK;
	struct control_secret got = { 0 };

	if (!take_le32(&payload, &got.serial) ||
	    !take_str16(&payload, CONTROL_SECRET_NAME_MAX, &got.name))
		return -EBADMSG;
	if (answer && (!take_str16(&payload, CONTROL_PLACEHOLDER_MAX, &got.placeholder) ||
	               !all_in(got.placeholder, '!', '~')))
		return -EBADMSG;
	if (payload.len != 0 || (got.name.len > 0 && !control_parse_name_ok(got.name)) ||
	    (got.name.len == 0 && (!answer || got.placeholder.len > 0)))
		return -EBADMSG;
	*ret = got;
	return 0;
}

static bool take_stat(struct span *s, struct control_stat *ret)
{
	if (!take_str16(s, CONTROL_STAT_NAME_MAX, &ret->name) || ret->name.len == 0 ||
	    !take_le64(s, &ret->value))
		return false;
	for (size_t i = 0; i < ret->name.len; i++) {
		uint8_t c = ret->name.at[i];

		if (!in(c, 'a', 'z') && !in(c, '0', '9') && c != '_')
			return false;
	}
	return true;
}

int control_parse_stats(struct span payload, struct control_stats *ret)
{
	struct control_stats got = { 0 };

	if (!take_le32(&payload, &got.serial) || !take_le16(&payload, &got.count) ||
	    got.count > CONTROL_STATS_MAX)
		return -EBADMSG;
	for (unsigned i = 0; i < got.count; i++)
		if (!take_stat(&payload, &got.item[i]))
			return -EBADMSG;
	if (payload.len != 0)
		return -EBADMSG;
	*ret = got;
	return 0;
}

static bool zeros(const uint8_t *at, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (at[i] != 0)
			return false;
	return true;
}

static bool addr_ok(uint8_t family, const uint8_t addr[static 16])
{
	if (family == 6)
		return true;
	return family == 4 ? zeros(addr + 4, 12) : zeros(addr, 16);
}

int control_parse_accepted(struct span payload, struct control_accepted *ret)
{
	struct control_accepted got = { 0 };

	if (!take_le16(&payload, &got.guest_port) || got.guest_port == 0 ||
	    !take_u8(&payload, &got.family) || (got.family != 4 && got.family != 6) ||
	    !take_bytes(&payload, got.addr, sizeof(got.addr)) || !take_le16(&payload, &got.port) ||
	    payload.len != 0 || !addr_ok(got.family, got.addr))
		return -EBADMSG;
	*ret = got;
	return 0;
}

static bool take_words(struct span *s, struct egress_record *ret)
{
	return take_u8(s, &ret->event) && in(ret->event, 1, EGRESS_EVENT_COUNT - 1) &&
	       take_u8(s, &ret->layer) && in(ret->layer, 1, EGRESS_LAYER_COUNT - 1) &&
	       take_u8(s, &ret->reason) && ret->reason <= CONTROL_REASON_MAX &&
	       take_u8(s, &ret->flags) && !(ret->flags & ~EGRESS_RECORD_FLAGS);
}

static bool take_numbers(struct span *s, struct egress_record *ret)
{
	uint8_t zero;

	return take_le32(s, &ret->generation) && take_le16(s, &ret->rule) &&
	       take_le16(s, &ret->port) && take_le16(s, &ret->status) && take_u8(s, &ret->family) &&
	       (ret->family == 0 || ret->family == 4 || ret->family == 6) && take_u8(s, &zero) &&
	       zero == 0 && take_bytes(s, ret->addr, sizeof(ret->addr)) &&
	       addr_ok(ret->family, ret->addr) && take_le64(s, &ret->flow) &&
	       take_le64(s, &ret->bytes_up) && take_le64(s, &ret->bytes_down) &&
	       take_le32(s, &ret->ms) && take_le32(s, &ret->count);
}

static bool take_texts(struct span *s, struct egress_record *ret)
{
	return take_str16(s, CONTROL_HOST_MAX, &ret->host) &&
	       take_str16(s, CONTROL_METHOD_MAX, &ret->method) &&
	       take_str16(s, CONTROL_PATH_MAX, &ret->path) &&
	       take_str16(s, CONTROL_SECRET_NAME_MAX, &ret->secret) &&
	       (ret->secret.len == 0 || control_parse_name_ok(ret->secret));
}

int control_parse_record(struct span payload, struct egress_record *ret)
{
	struct egress_record got = { 0 };

	if (!take_words(&payload, &got) || !take_numbers(&payload, &got) ||
	    !take_texts(&payload, &got) || payload.len != 0)
		return -EBADMSG;
	*ret = got;
	return 0;
}
