#include "policy/tlv.h"

#include "policy/glob.h"

#include <errno.h>
#include <string.h>

int policy_tlv_parse(struct span in, struct tlv_header *ret)
{
	struct tlv_header got;
	uint32_t magic;
	uint32_t bytes;
	uint16_t zero;

	memset(&got, 0, sizeof(got));
	if (in.len > POLICY_TLV_MAX || !take_le32(&in, &magic) || magic != TLV_MAGIC)
		return -EBADMSG;
	if (!take_le16(&in, &got.version) || got.version < TLV_VERSION ||
	    got.version > TLV_VERSION_WORKSPACE)
		return -EBADMSG;
	if (!take_le16(&in, &zero) || zero != 0 || !take_le64(&in, &got.generation))
		return -EBADMSG;
	if (!take_le32(&in, &bytes) || !take_bytes(&in, got.digest, sizeof(got.digest)))
		return -EBADMSG;
	if (in.len != bytes)
		return -EBADMSG;
	got.body = in;
	*ret = got;
	return 0;
}

int policy_tlv_parse_record(struct span *in, struct tlv_record *ret)
{
	struct span rest = *in;
	struct tlv_record got;
	uint32_t bytes;

	if (rest.len == 0)
		return -ENODATA;
	if (!take_le16(&rest, &got.type) || got.type < TLV_DEFAULT || got.type > TLV_WORKSPACE)
		return -EBADMSG;
	if (!take_le32(&rest, &bytes) || !take_span(&rest, bytes, &got.payload))
		return -EBADMSG;
	*in = rest;
	*ret = got;
	return 0;
}

int policy_tlv_parse_default(struct span payload, bool *ret_allow)
{
	uint8_t allow;

	if (!take_u8(&payload, &allow) || allow > 1 || payload.len > 0)
		return -EBADMSG;
	*ret_allow = allow;
	return 0;
}

int policy_tlv_parse_limits(struct span payload, struct policy_limits *ret)
{
	struct policy_limits got;

	if (!take_le64(&payload, &got.egress_bytes) || !take_le64(&payload, &got.upload_bytes) ||
	    !take_le64(&payload, &got.bandwidth_bytes) || !take_le64(&payload, &got.connections) ||
	    !take_le64(&payload, &got.host_connections) ||
	    !take_le64(&payload, &got.connection_rate) || !take_le64(&payload, &got.dns_rate) ||
	    payload.len > 0)
		return -EBADMSG;
	*ret = got;
	return 0;
}

/* A pattern, and only in the spelling in which it is compared. */
static bool take_host(struct span *in, struct host_pattern *ret)
{
	uint8_t room[POLICY_NAME_MAX + 3];
	struct host_pattern got;
	struct span base;
	struct buf b;
	uint8_t kind;

	if (!take_u8(in, &kind) || kind > HOST_ANY || !take_str16(in, POLICY_NAME_MAX, &base))
		return false;
	buf_init(&b, room, sizeof(room));
	if (kind != HOST_EXACT)
		buf_put_str(&b, kind == HOST_ONE ? "*." : "**.");
	buf_put_span(&b, base);
	if (!buf_ok(&b) || host_pattern_parse(buf_span(&b), &got, NULL) < 0)
		return false;
	if (got.kind != kind || !span_equal(host_span(&got.base), base))
		return false;
	*ret = got;
	return true;
}

static bool take_net(struct span *in, struct policy_cidr *ret)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	uint8_t v4;
	unsigned first;

	if (!take_u8(in, &v4) || v4 > 1 || !take_bytes(in, ret->base.at, sizeof(ret->base.at)))
		return false;
	ret->base.v4 = v4;
	if (!take_u8(in, &ret->bits) || ret->bits > (v4 ? 32 : 128))
		return false;
	if (v4 && memcmp(ret->base.at, mapped, sizeof(mapped)) != 0)
		return false;
	first = (v4 ? 96u : 0u) + ret->bits;
	for (unsigned bit = first; bit < 128; bit++)
		if (ret->base.at[bit / 8] & 0x80 >> bit % 8)
			return false;
	return true;
}

/* Ascending, and no two that could be one. */
static bool take_ports(struct span *in, struct rule_ports *ret, uint8_t *ret_count)
{
	uint8_t count;

	if (!take_u8(in, &count) || count > POLICY_PORTS_MAX)
		return false;
	for (unsigned i = 0; i < count; i++) {
		if (!take_le16(in, &ret[i].lo) || !take_le16(in, &ret[i].hi))
			return false;
		if (ret[i].lo == 0 || ret[i].hi < ret[i].lo)
			return false;
		if (i > 0 && ret[i].lo <= ret[i - 1].hi + 1)
			return false;
	}
	*ret_count = count;
	return true;
}

static bool no_nul(struct span s)
{
	return s.len == 0 || !memchr(s.at, 0, s.len);
}

static bool take_path(struct span *in, struct span *ret)
{
	const char *why;

	if (!take_str16(in, POLICY_PATTERN_MAX, ret))
		return false;
	return ret->len == 0 || glob_parse_path(*ret, &why) == 0;
}

static bool take_query(struct span *in, struct rule_query *ret)
{
	if (!take_u8(in, &ret->mode) || ret->mode == QUERY_PLAIN || ret->mode >= QUERY_MODES)
		return false;
	if (!take_str16(in, POLICY_PARAM_MAX, &ret->name) || ret->name.len == 0)
		return false;
	if (!take_u8(in, &ret->values_count) || ret->values_count > POLICY_VALUES_MAX)
		return false;
	if (ret->mode == QUERY_MISSING && ret->values_count > 0)
		return false;
	for (unsigned i = 0; i < ret->values_count; i++)
		if (!take_str16(in, POLICY_PATTERN_MAX, &ret->values[i]))
			return false;
	return true;
}

static bool take_methods(struct span *in, uint64_t *ret)
{
	return take_le64(in, ret) && *ret != 0 &&
	       (*ret == METHODS_ANY || (*ret & ~METHODS_KNOWN) == 0);
}

int policy_tlv_parse_http(struct span *in, struct rule_http *ret)
{
	struct span rest = *in;

	if (!take_methods(&rest, &ret->methods) || !take_path(&rest, &ret->path))
		return -EBADMSG;
	if (!take_u8(&rest, &ret->query_count) || ret->query_count > POLICY_QUERY_MAX)
		return -EBADMSG;
	for (unsigned i = 0; i < ret->query_count; i++)
		if (!take_query(&rest, &ret->query[i]))
			return -EBADMSG;
	*in = rest;
	return 0;
}

/* What a rule may not be, whoever wrote it. */
static bool makes_sense(const struct policy_rule *r)
{
	bool deny = r->flags & RULE_DENY;

	if (r->flags & ~RULE_FLAGS || r->proto >= RULE_PROTOS)
		return false;
	if ((r->flags & RULE_INSPECT) && (r->flags & RULE_PASS))
		return false;
	if (deny && (r->flags & (RULE_INSPECT | RULE_PASS)))
		return false;
	if (deny && (r->proto == RULE_TLS || r->proto == RULE_HTTP))
		return false;
	if ((r->flags & RULE_OBSERVE) && r->http_count == 0)
		return false;
	if (r->http_count > 0 || (r->flags & RULE_INSPECT))
		if ((r->flags & RULE_PASS) || r->proto == RULE_TCP || r->proto == RULE_UDP)
			return false;
	if (r->kind == RULE_HOST)
		return deny || r->ports_count > 0;
	if (r->http_count > 0 || (r->flags & (RULE_INSPECT | RULE_PASS)))
		return false;
	if (deny)
		return true;
	return r->ports_count > 0 && !(r->flags & RULE_FROM_PRESET);
}

int policy_tlv_parse_rule(struct span in, struct policy_rule *ret, struct span *ret_http)
{
	struct span http;

	if (!take_u8(&in, &ret->kind) || ret->kind > RULE_ADDRESS)
		return -EBADMSG;
	if (!take_u8(&in, &ret->flags) || !take_u8(&in, &ret->proto))
		return -EBADMSG;
	if (ret->kind == RULE_HOST ? !take_host(&in, &ret->host) : !take_net(&in, &ret->net))
		return -EBADMSG;
	if (!take_ports(&in, ret->ports, &ret->ports_count))
		return -EBADMSG;
	if (!take_str16(&in, POLICY_ORIGIN_MAX, &ret->origin) || !no_nul(ret->origin))
		return -EBADMSG;
	if (!take_u8(&in, &ret->http_count) || ret->http_count > POLICY_HTTP_MAX)
		return -EBADMSG;
	http = in;
	for (unsigned i = 0; i < ret->http_count; i++)
		if (policy_tlv_parse_http(&in, &ret->http[i]) < 0)
			return -EBADMSG;
	if (in.len > 0 || !makes_sense(ret))
		return -EBADMSG;
	if (ret_http)
		*ret_http = http;
	return 0;
}

/* Letters, digits and '_', not a digit first: it becomes a variable. */
static bool is_variable(struct span s)
{
	if (s.len == 0 || (s.at[0] >= '0' && s.at[0] <= '9'))
		return false;
	for (size_t i = 0; i < s.len; i++) {
		uint8_t c = s.at[i] | 0x20;

		if (!(c >= 'a' && c <= 'z') && !(s.at[i] >= '0' && s.at[i] <= '9') &&
		    s.at[i] != '_')
			return false;
	}
	return true;
}

/* A header's name in lower case: RFC 9110, 5.6.2. */
static bool is_header(struct span s)
{
	for (size_t i = 0; i < s.len; i++) {
		uint8_t c = s.at[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') &&
		    !(c && strchr("!#$%&'*+-.^_`|~", c)))
			return false;
	}
	return s.len > 0;
}

static bool is_visible(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.at[i] < 0x20 || s.at[i] >= 0x7f)
			return false;
	return true;
}

static bool take_use(struct span *in, struct secret_use *ret)
{
	if (!take_u8(in, &ret->place) || ret->place > SECRET_QUERY)
		return false;
	if (!take_str16(in, POLICY_PARAM_MAX, &ret->name))
		return false;
	if (!take_str16(in, POLICY_PREFIX_MAX, &ret->prefix) || !is_visible(ret->prefix))
		return false;
	if (ret->place == SECRET_HEADER)
		return ret->name.len <= POLICY_HEADER_MAX && is_header(ret->name);
	if (ret->prefix.len > 0)
		return false;
	if (ret->place == SECRET_QUERY)
		return ret->name.len > 0 && is_visible(ret->name);
	return ret->name.len == 0;
}

static bool take_uses(struct span *in, struct policy_secret *ret)
{
	if (!take_u8(in, &ret->uses_count) || ret->uses_count == 0 ||
	    ret->uses_count > POLICY_SECRET_USES_MAX)
		return false;
	for (unsigned i = 0; i < ret->uses_count; i++)
		if (!take_use(in, &ret->uses[i]))
			return false;
	return true;
}

static bool take_hosts(struct span *in, struct policy_secret *ret)
{
	if (!take_u8(in, &ret->hosts_count) || ret->hosts_count == 0 ||
	    ret->hosts_count > POLICY_SECRET_HOSTS_MAX)
		return false;
	for (unsigned i = 0; i < ret->hosts_count; i++)
		if (!take_host(in, &ret->hosts[i]))
			return false;
	return true;
}

int policy_tlv_parse_secret(struct span in, struct policy_secret *ret)
{
	if (!take_str16(&in, POLICY_SECRET_NAME_MAX, &ret->name) || !is_variable(ret->name))
		return -EBADMSG;
	if (!take_u8(&in, &ret->flags) || ret->flags > SECRET_KILL || !take_hosts(&in, ret))
		return -EBADMSG;
	if (!take_ports(&in, ret->ports, &ret->ports_count) || !take_uses(&in, ret))
		return -EBADMSG;
	if (!take_methods(&in, &ret->methods))
		return -EBADMSG;
	if (!take_u8(&in, &ret->paths_count) || ret->paths_count > POLICY_SECRET_PATHS_MAX)
		return -EBADMSG;
	for (unsigned i = 0; i < ret->paths_count; i++)
		if (!take_path(&in, &ret->paths[i]) || ret->paths[i].len == 0)
			return -EBADMSG;
	if (!take_str16(&in, POLICY_ORIGIN_MAX, &ret->origin) || !no_nul(ret->origin))
		return -EBADMSG;
	return in.len > 0 ? -EBADMSG : 0;
}

/* As the file's reader takes it: one line that keeps something out. */
static bool is_pattern(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.at[i] < 0x20 || s.at[i] == 0x7f)
			return false;
	return s.len > 0 && s.at[0] != '!' && s.at[0] != '#';
}

static bool take_left_out(struct span *in, struct policy_left_out *ret)
{
	if (!take_str16(in, POLICY_EXCLUDE_MAX, &ret->pattern) || !is_pattern(ret->pattern))
		return false;
	return take_str16(in, POLICY_ORIGIN_MAX, &ret->label) && no_nul(ret->label) &&
	       take_le32(in, &ret->line);
}

int policy_tlv_parse_workspace(struct span in, struct policy_workspace *ret)
{
	uint16_t count;

	if (!take_str16(&in, POLICY_ORIGIN_MAX, &ret->skip_cost_by) || !no_nul(ret->skip_cost_by))
		return -EBADMSG;
	if (!take_le16(&in, &count) || count > POLICY_EXCLUDES_MAX)
		return -EBADMSG;
	for (unsigned i = 0; i < count; i++)
		if (!take_left_out(&in, &ret->left_out[i]))
			return -EBADMSG;
	ret->count = count;
	return in.len > 0 || (count == 0 && ret->skip_cost_by.len == 0) ? -EBADMSG : 0;
}
