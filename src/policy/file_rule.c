#include "policy/file_internal.h"

#include "policy/ports.h"

#include <errno.h>
#include <string.h>

static int take_host(struct file_ctx *c, const struct yaml_node *n)
{
	c->host_seen = true;
	c->rule->kind = RULE_HOST;
	return file_host(c, n, &c->rule->host);
}

static int take_address(struct file_ctx *c, const struct yaml_node *n)
{
	c->address_seen = true;
	c->rule->kind = RULE_ADDRESS;
	if (n->kind != YAML_SCALAR || addr_cidr_parse(n->text, &c->rule->net) < 0)
		return file_bad(
			c, n,
			"is no address or range; write 10.1.2.3, 10.1.2.0/24 or fd12::/64, with no bit "
			"set behind the prefix");
	return 0;
}

static int take_port(struct file_ctx *c, const struct yaml_node *n)
{
	return file_ports(c, n, c->rule->ports, &c->rule->ports_count);
}

static int take_protocol(struct file_ctx *c, const struct yaml_node *n)
{
	static const char *const words[] = { "tls", "http", "tcp", "udp", NULL };
	unsigned i;
	int r = file_word(c, n, words, &i);

	if (r == 0)
		c->rule->proto = (uint8_t)(RULE_TLS + i);
	return r;
}

static int take_flag(struct file_ctx *c, const struct yaml_node *n, unsigned yes, unsigned no)
{
	bool on;
	int r = file_bool(c, n, &on);

	if (r == 0)
		c->rule->flags |= (uint8_t)(on ? yes : no);
	return r;
}

static int take_deny(struct file_ctx *c, const struct yaml_node *n)
{
	return take_flag(c, n, RULE_DENY, 0);
}

static int take_inspect(struct file_ctx *c, const struct yaml_node *n)
{
	return take_flag(c, n, RULE_INSPECT, RULE_PASS);
}

static int take_observe(struct file_ctx *c, const struct yaml_node *n)
{
	return take_flag(c, n, RULE_OBSERVE, 0);
}

static int take_method(struct file_ctx *c, const struct yaml_node *n)
{
	return file_methods(c, n, &c->http->methods);
}

static int take_path(struct file_ctx *c, const struct yaml_node *n)
{
	return file_path(c, n, &c->http->path);
}

static int take_value(struct file_ctx *c, const struct yaml_node *n)
{
	struct rule_query *q = c->query;

	if (n->kind != YAML_SCALAR)
		return file_bad(c, n, "");
	if (n->text.len > POLICY_PATTERN_MAX)
		return file_fault(c, n, "a value of over %d bytes", POLICY_PATTERN_MAX);
	if (q->values_count == POLICY_VALUES_MAX)
		return file_fault(c, n, "more than %d values", POLICY_VALUES_MAX);
	q->values[q->values_count++] = n->text;
	return 0;
}

static int take_mode(struct file_ctx *c, const struct yaml_node *n, enum query_mode mode)
{
	if (c->query->mode != QUERY_PLAIN)
		return file_fault(c, n, "one of any, all, once and missing, not two");
	c->query->mode = (uint8_t)mode;
	return file_each(c, n, "values", take_value);
}

static int take_any(struct file_ctx *c, const struct yaml_node *n)
{
	return take_mode(c, n, QUERY_SOME);
}

static int take_all(struct file_ctx *c, const struct yaml_node *n)
{
	return take_mode(c, n, QUERY_EVERY);
}

static int take_once(struct file_ctx *c, const struct yaml_node *n)
{
	return take_mode(c, n, QUERY_ONCE);
}

static int take_missing(struct file_ctx *c, const struct yaml_node *n)
{
	bool on;
	int r = file_bool(c, n, &on);

	if (r < 0)
		return r;
	if (!on || c->query->mode != QUERY_PLAIN)
		return file_fault(c, n, "missing: true stands alone");
	c->query->mode = QUERY_MISSING;
	return 0;
}

static const struct file_key query_keys[] = {
	{ "any", take_any },         { "all", take_all }, { "once", take_once },
	{ "missing", take_missing }, { NULL, NULL },
};

static int take_parameter(struct file_ctx *c, const struct yaml_node *key)
{
	struct rule_http *h = c->http;
	const struct yaml_node *value = key->next;

	if (key->text.len == 0 || key->text.len > POLICY_PARAM_MAX)
		return file_fault(c, key, "a parameter's name has 1 to %d bytes", POLICY_PARAM_MAX);
	if (h->query_count == POLICY_QUERY_MAX)
		return file_fault(c, key, "more than %d parameters", POLICY_QUERY_MAX);
	c->query = &h->query[h->query_count++];
	*c->query = (struct rule_query){ .name = key->text };
	if (value->kind != YAML_MAP)
		return file_each(c, value, "values", take_value);
	if (!value->first)
		return file_fault(c, value, "says nothing; write any:, all:, once: or missing:");
	return file_map(c, value, "a parameter", query_keys);
}

static int take_query(struct file_ctx *c, const struct yaml_node *n)
{
	if (n->kind != YAML_MAP || !n->first)
		return file_fault(c, n, "query: is a mapping: parameter: value");
	for (const struct yaml_node *k = n->first; k; k = k->next->next) {
		int r = take_parameter(c, k);

		if (r < 0)
			return r;
	}
	return 0;
}

static const struct file_key http_keys[] = {
	{ "method", take_method },
	{ "path", take_path },
	{ "query", take_query },
	{ NULL, NULL },
};

static int take_entry(struct file_ctx *c, const struct yaml_node *n)
{
	struct policy_rule *r = c->rule;

	if (r->http_count == POLICY_HTTP_MAX)
		return file_fault(c, n, "more than %d entries", POLICY_HTTP_MAX);
	if (n->kind == YAML_MAP && !n->first)
		return file_fault(c, n, "an empty entry; write method:, path: or query:");
	c->http = &r->http[r->http_count++];
	c->http->methods = METHODS_ANY;
	c->http->path = (struct span){ 0 };
	c->http->query_count = 0;
	return file_map(c, n, "an http entry", http_keys);
}

static int take_http(struct file_ctx *c, const struct yaml_node *n)
{
	if (n->kind != YAML_LIST)
		return file_fault(c, n, "http: is a list: [ { method: GET, path: \"/**\" } ]");
	return file_each(c, n, "requests", take_entry);
}

static int take_preset(struct file_ctx *c, const struct yaml_node *n)
{
	return file_scalar(c, n, &c->preset_name);
}

static int take_slot(struct file_ctx *c, const struct yaml_node *n)
{
	if (!c->preset)
		return file_fault(c, n, "slot: is for presets");
	c->rule->kind = RULE_HOST;
	return file_scalar(c, n, &c->slot_name);
}

static const struct file_key rule_keys[] = {
	{ "host", take_host },
	{ "address", take_address },
	{ "port", take_port },
	{ "protocol", take_protocol },
	{ "deny", take_deny },
	{ "http", take_http },
	{ "inspect", take_inspect },
	{ "observe", take_observe },
	{ "preset", take_preset },
	{ "slot", take_slot },
	{ NULL, NULL },
};

/* What a preset says of itself already has its place in front. */
static int wrap_at(struct file_ctx *c, const struct yaml_node *n, int r)
{
	return r < 0 ? err_wrap(c->e, "%s:%u:%u", c->label, n->line, n->column) : 0;
}

static int put_rule(struct file_ctx *c, const struct yaml_node *n)
{
	const char *why = rule_settle(c->rule);

	if (why)
		return file_fault(c, n, "%s", why);
	return wrap_at(c, n, draft_add_rule(c->d, c->rule, c->e));
}

/* The rule once for each host in the slot. */
static int put_slot(struct file_ctx *c, const struct yaml_node *n)
{
	const struct slot *s = draft_slot(c->d, c->slot_name);
	struct rule_ports own[POLICY_PORTS_MAX];
	uint8_t own_count = c->rule->ports_count;

	if (!s) {
		if (c->slot_name.len <= PRESET_NAME_MAX)
			memcpy(c->d->unfilled, c->slot_name.at, c->slot_name.len);
		return 0;
	}
	memcpy(own, c->rule->ports, sizeof(own));
	for (unsigned i = 0; i < s->count; i++) {
		int r;

		c->rule->host = s->hosts[i];
		memcpy(c->rule->ports, own, sizeof(own));
		c->rule->ports_count = own_count;
		if (s->ports[i].lo != 0) {
			c->rule->ports[0] = s->ports[i];
			c->rule->ports_count = 1;
		}
		r = put_rule(c, n);
		if (r < 0)
			return r;
	}
	return 0;
}

int file_rule(struct file_ctx *c, const struct yaml_node *n)
{
	struct policy_rule *rule = c->rule;
	unsigned subjects;
	int r;

	memset(rule, 0, offsetof(struct policy_rule, http));
	c->preset_name = c->slot_name = (struct span){ 0 };
	c->host_seen = c->address_seen = false;
	file_origin(c, n);
	rule->origin = span_str(c->origin);
	rule->flags = c->preset ? RULE_FROM_PRESET : 0;
	r = file_map(c, n, "a rule", rule_keys);
	if (r < 0)
		return r;
	subjects = (unsigned)c->host_seen + c->address_seen + (c->preset_name.len > 0) +
	           (c->slot_name.len > 0);
	if (subjects != 1)
		return file_fault(c, n, "a rule has one of host:, address: and preset:");
	if (c->preset_name.len == 0)
		return c->slot_name.len > 0 ? put_slot(c, n) : put_rule(c, n);
	if (yaml_count(n) > 1)
		return file_fault(c, n, "preset: stands alone; its rules have ports and all else");
	return wrap_at(c, n, draft_take_preset(c->d, c->preset_name, c->e));
}
