/*
 * What a policy holds, for people and for programs: one rule or one secret at a time.
 */
#include "policy/policy_internal.h"

#include <string.h>

enum { SHOWN_HTTP_MAX = 3 }; /* entries of a rule in its line; the rest is counted */

static const char *const protos[RULE_PROTOS] = {
	[RULE_AUTO] = "",   [RULE_TLS] = "tls", [RULE_HTTP] = "http",
	[RULE_TCP] = "tcp", [RULE_UDP] = "udp",
};

bool policy_default_allows(const struct policy *p)
{
	return p->default_allow;
}

static const struct loaded_rule *rule_at(const struct policy *p, uint16_t rule)
{
	return rule < p->rules_count ? &p->rules[rule] : NULL;
}

static void put_port(struct buf *b, const struct rule_ports *r)
{
	if (r->lo == r->hi)
		buf_printf(b, "%u", r->lo);
	else
		buf_printf(b, "%u-%u", r->lo, r->hi);
}

static void put_ports(struct buf *b, const struct rule_ports *ports, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		buf_put_str(b, i > 0 ? "," : ":");
		put_port(b, &ports[i]);
	}
}

static void put_subject(struct buf *b, const struct loaded_rule *r)
{
	bool v6 = r->kind == RULE_ADDRESS && !r->net.base.v4;

	buf_put_str(b, v6 ? "[" : "");
	if (r->kind == RULE_ADDRESS)
		addr_cidr_put(b, &r->net);
	else
		host_pattern_put(b, &r->host);
	buf_put_str(b, v6 ? "]" : "");
	put_ports(b, r->ports, r->ports_count);
}

static void put_entry(struct buf *b, const struct rule_http *h)
{
	method_put(b, h->methods);
	if (h->path.len > 0) {
		buf_put_str(b, " ");
		buf_put_escaped(b, h->path);
	}
	for (unsigned i = 0; i < h->query_count; i++) {
		buf_put_str(b, i > 0 ? "&" : "?");
		buf_put_escaped(b, h->query[i].name);
	}
}

static void put_entries(struct buf *b, const struct loaded_rule *r)
{
	struct span http = r->http;

	for (unsigned i = 0; i < r->http_count && i < SHOWN_HTTP_MAX; i++) {
		struct rule_http h;

		if (policy_tlv_parse_http(&http, &h) < 0)
			return; /* cannot be: it was read when the policy was loaded */
		buf_put_str(b, i > 0 ? "; " : "  ");
		put_entry(b, &h);
	}
	if (r->http_count > SHOWN_HTTP_MAX)
		buf_printf(b, "; and %d more", r->http_count - SHOWN_HTTP_MAX);
}

void policy_put_rule(const struct policy *p, uint16_t rule, struct buf *b)
{
	const struct loaded_rule *r = rule_at(p, rule);

	if (!r)
		return;
	buf_put_str(b, r->flags & RULE_DENY ? "deny  " : "allow ");
	put_subject(b, r);
	if (protos[r->proto][0])
		buf_printf(b, "  %s", protos[r->proto]);
	if (r->flags & RULE_INSPECT)
		buf_put_str(b, "  inspected");
	if (r->flags & RULE_PASS)
		buf_put_str(b, "  never read");
	if (r->flags & RULE_OBSERVE)
		buf_put_str(b, "  observed only");
	put_entries(b, r);
}

static void json_ports(struct buf *b, const struct rule_ports *ports, unsigned count)
{
	buf_put_str(b, ",\"ports\":[");
	for (unsigned i = 0; i < count; i++) {
		buf_put_str(b, i > 0 ? ",\"" : "\"");
		put_port(b, &ports[i]);
		buf_put_str(b, "\"");
	}
	buf_put_str(b, "]");
}

static void json_methods(struct buf *b, uint64_t set)
{
	const char *gap = "";

	buf_put_str(b, "\"methods\":[");
	for (unsigned i = 0; set != METHODS_ANY && method_name(i); i++) {
		if (!(set >> i & 1))
			continue;
		buf_printf(b, "%s\"%s\"", gap, method_name(i));
		gap = ",";
	}
	buf_put_str(b, "]");
}

static void json_text(struct buf *b, const char *key, struct span text)
{
	buf_printf(b, ",\"%s\":", key);
	if (text.len > 0)
		buf_put_json_str(b, text);
	else
		buf_put_str(b, "null");
}

static void json_entry(struct buf *b, const struct rule_http *h)
{
	buf_put_str(b, "{");
	json_methods(b, h->methods);
	json_text(b, "path", h->path);
	buf_put_str(b, ",\"query\":[");
	for (unsigned i = 0; i < h->query_count; i++) {
		buf_put_str(b, i > 0 ? "," : "");
		buf_put_json_str(b, h->query[i].name);
	}
	buf_put_str(b, "]}");
}

static void json_host(struct buf *b, const struct host_pattern *h)
{
	uint8_t room[POLICY_NAME_MAX + 8];
	struct buf text;

	buf_init(&text, room, sizeof(room));
	host_pattern_put(&text, h);
	buf_put_json_str(b, buf_span(&text));
}

static const char *json_inspect(const struct loaded_rule *r)
{
	if (r->flags & RULE_PASS)
		return "false";
	return r->flags & RULE_INSPECT ? "true" : "null";
}

void policy_put_rule_json(const struct policy *p, uint16_t rule, struct buf *b)
{
	const struct loaded_rule *r = rule_at(p, rule);
	struct span http;

	if (!r)
		return;
	http = r->http;
	buf_printf(b, "{\"action\":\"%s\",", r->flags & RULE_DENY ? "deny" : "allow");
	if (r->kind == RULE_ADDRESS) {
		buf_put_str(b, "\"host\":null,\"address\":\"");
		addr_cidr_put(b, &r->net);
		buf_put_str(b, "\"");
	} else {
		buf_put_str(b, "\"host\":");
		json_host(b, &r->host);
		buf_put_str(b, ",\"address\":null");
	}
	json_ports(b, r->ports, r->ports_count);
	json_text(b, "protocol", span_str(protos[r->proto]));
	buf_printf(b, ",\"inspect\":%s,\"observe\":%s,\"http\":[", json_inspect(r),
	           r->flags & RULE_OBSERVE ? "true" : "false");
	for (unsigned i = 0; i < r->http_count; i++) {
		struct rule_http h;

		if (policy_tlv_parse_http(&http, &h) < 0)
			break;
		buf_put_str(b, i > 0 ? "," : "");
		json_entry(b, &h);
	}
	buf_put_str(b, "],\"rule\":");
	buf_put_json_str(b, r->origin);
	buf_put_str(b, "}");
}

static void put_use(struct buf *b, const struct secret_use *u)
{
	switch ((enum secret_place)u->place) {
	case SECRET_HEADER:
		buf_put_str(b, "header ");
		buf_put_escaped(b, u->name);
		if (u->prefix.len > 0) {
			buf_put_str(b, ": ");
			buf_put_escaped(b, u->prefix);
		}
		break;
	case SECRET_BASIC_USER:
		buf_put_str(b, "user of basic");
		break;
	case SECRET_BASIC_PASSWORD:
		buf_put_str(b, "password of basic");
		break;
	case SECRET_QUERY:
		buf_put_str(b, "parameter ");
		buf_put_escaped(b, u->name);
		break;
	}
}

void policy_put_secret(const struct policy *p, unsigned i, struct buf *b)
{
	const struct policy_secret *s = policy_secret_at(p, i);

	if (!s)
		return;
	buf_put_span(b, s->name);
	buf_put_str(b, "  to ");
	for (unsigned h = 0; h < s->hosts_count; h++) {
		buf_put_str(b, h > 0 ? "," : "");
		host_pattern_put(b, &s->hosts[h]);
	}
	put_ports(b, s->ports, s->ports_count);
	buf_put_str(b, "  as ");
	for (unsigned u = 0; u < s->uses_count; u++) {
		buf_put_str(b, u > 0 ? ", " : "");
		put_use(b, &s->uses[u]);
	}
	if (s->methods != METHODS_ANY) {
		buf_put_str(b, "  only ");
		method_put(b, s->methods);
	}
	for (unsigned k = 0; k < s->paths_count; k++) {
		buf_put_str(b, k > 0 ? ", " : "  in ");
		buf_put_escaped(b, s->paths[k]);
	}
	if (s->flags & SECRET_KILL)
		buf_put_str(b, "  else kill");
}

static void json_use(struct buf *b, const struct secret_use *u)
{
	static const char *const places[] = {
		[SECRET_HEADER] = "header",
		[SECRET_BASIC_USER] = "basic-user",
		[SECRET_BASIC_PASSWORD] = "basic-password",
		[SECRET_QUERY] = "query",
	};

	buf_printf(b, "{\"place\":\"%s\"", places[u->place]);
	json_text(b, "name", u->name);
	json_text(b, "prefix", u->prefix);
	buf_put_str(b, "}");
}

void policy_put_secret_json(const struct policy *p, unsigned i, struct buf *b)
{
	const struct policy_secret *s = policy_secret_at(p, i);

	if (!s)
		return;
	buf_put_str(b, "{\"name\":");
	buf_put_json_str(b, s->name);
	buf_put_str(b, ",\"hosts\":[");
	for (unsigned h = 0; h < s->hosts_count; h++) {
		buf_put_str(b, h > 0 ? "," : "");
		json_host(b, &s->hosts[h]);
	}
	buf_put_str(b, "]");
	json_ports(b, s->ports, s->ports_count);
	buf_put_str(b, ",\"places\":[");
	for (unsigned u = 0; u < s->uses_count; u++) {
		buf_put_str(b, u > 0 ? "," : "");
		json_use(b, &s->uses[u]);
	}
	buf_put_str(b, "],");
	json_methods(b, s->methods);
	buf_put_str(b, ",\"paths\":[");
	for (unsigned k = 0; k < s->paths_count; k++) {
		buf_put_str(b, k > 0 ? "," : "");
		buf_put_json_str(b, s->paths[k]);
	}
	buf_printf(b, "],\"on_violation\":\"%s\",\"rule\":",
	           s->flags & SECRET_KILL ? "kill" : "refuse");
	buf_put_json_str(b, s->origin);
	buf_put_str(b, "}");
}
