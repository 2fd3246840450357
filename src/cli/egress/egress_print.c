/*
 * A policy on stdout, item by item: a whole one as JSON could be larger than any buffer.
 */
#include "cli/egress/egress.h"

#include "base/units.h"

#include <errno.h>
#include <string.h>

enum { ORIGIN_COLUMN = 52 };

/* One item's room, used for one after the other. */
struct item {
	char *room;
	struct buf b;
};

static inline void item_fini_scope(const struct item *it)
{
	free(it->room);
}

static int item_init(struct item *it, struct err *e)
{
	it->room = malloc(POLICY_SHOWN_MAX);
	if (!it->room)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&it->b, it->room, POLICY_SHOWN_MAX);
	return 0;
}

static int put_out(struct item *it, struct err *e)
{
	int r = buf_ok(&it->b)
	                ? cli_out(it->b.at, it->b.len, e)
	                : err_set(e, -EMSGSIZE, "an item of over %d bytes", POLICY_SHOWN_MAX);

	buf_reset(&it->b);
	return r;
}

/* The source of a secret, if it is known, by the secret's name. */
static bool find_source(const struct policy_draft *d, struct span name, struct policy_source *ret)
{
	for (unsigned i = 0; d && i < policy_draft_secrets(d); i++) {
		*ret = policy_draft_source(d, i);
		if (span_is(name, ret->name))
			return true;
	}
	return false;
}

static void pad(struct buf *b)
{
	buf_put_str(b, "  ");
	while (buf_ok(b) && b->len < ORIGIN_COLUMN)
		buf_put_u8(b, ' ');
}

static int print_rules(const struct policy *p, struct item *it, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < policy_rules(p); i++) {
		buf_put_str(&it->b, "  ");
		policy_put_rule(p, (uint16_t)i, &it->b);
		pad(&it->b);
		buf_put_escaped(&it->b, policy_rule_origin(p, (uint16_t)i));
		buf_put_u8(&it->b, '\n');
		r = put_out(it, e);
	}
	return r;
}

static int print_secrets(const struct policy *p, const struct policy_draft *sources,
                         struct item *it, struct err *e)
{
	struct policy_source s;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < policy_secrets(p); i++) {
		buf_put_str(&it->b, "  secret ");
		policy_put_secret(p, i, &it->b);
		if (find_source(sources, policy_secret_at(p, i)->name, &s)) {
			buf_put_str(&it->b, "  ");
			egress_put_source(&it->b, &s);
		}
		pad(&it->b);
		buf_put_escaped(&it->b, policy_secret_at(p, i)->origin);
		buf_put_u8(&it->b, '\n');
		r = put_out(it, e);
	}
	return r;
}

/* The keys of the file, in the order of struct policy_limits. */
static const struct {
	const char *key;
	bool bytes;
	size_t at;
} limits[] = {
	{ "egress", true, offsetof(struct policy_limits, egress_bytes) },
	{ "upload", true, offsetof(struct policy_limits, upload_bytes) },
	{ "bandwidth", true, offsetof(struct policy_limits, bandwidth_bytes) },
	{ "connections", false, offsetof(struct policy_limits, connections) },
	{ "host_connections", false, offsetof(struct policy_limits, host_connections) },
	{ "connection_rate", false, offsetof(struct policy_limits, connection_rate) },
	{ "dns_rate", false, offsetof(struct policy_limits, dns_rate) },
};

static uint64_t limit_at(const struct policy *p, size_t i)
{
	uint64_t got;

	memcpy(&got, (const uint8_t *)policy_limits(p) + limits[i].at, sizeof(got));
	return got;
}

static int print_limits(const struct policy *p, struct item *it, struct err *e)
{
	const char *gap = "  limits ";

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		uint64_t n = limit_at(p, i);

		if (n == 0)
			continue;
		buf_printf(&it->b, "%s%s ", gap, limits[i].key);
		if (limits[i].bytes)
			units_put_size(&it->b, n);
		else
			buf_printf(&it->b, "%llu", (unsigned long long)n);
		gap = ", ";
	}
	if (it->b.len > 0)
		buf_put_u8(&it->b, '\n');
	return put_out(it, e);
}

static int print_workspace(const struct policy_workspace *w, struct item *it, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && w && i < w->count; i++) {
		buf_put_str(&it->b, "  workspace without ");
		buf_put_escaped(&it->b, w->left_out[i].pattern);
		pad(&it->b);
		buf_put_escaped(&it->b, w->left_out[i].label);
		buf_printf(&it->b, ":%u\n", w->left_out[i].line);
		r = put_out(it, e);
	}
	if (r < 0 || !w || w->skip_cost_by.len == 0)
		return r;
	buf_put_str(&it->b, "  workspace without what can be made again");
	pad(&it->b);
	buf_put_escaped(&it->b, w->skip_cost_by);
	buf_put_u8(&it->b, '\n');
	return put_out(it, e);
}

int egress_print_policy(const struct policy *p, const struct policy_draft *sources, struct err *e)
{
	__attribute__((cleanup(item_fini_scope))) struct item it = { .room = NULL };
	int r = item_init(&it, e);

	if (r == 0)
		r = print_rules(p, &it, e);
	if (r < 0)
		return r;
	buf_printf(&it.b, "  %s %s\n", policy_default_allows(p) ? "allow" : "deny ",
	           policy_default_allows(p) ? "every other public host over TCP"
	                                    : "everything else");
	r = put_out(&it, e);
	if (r == 0)
		r = print_secrets(p, sources, &it, e);
	if (r == 0)
		r = print_limits(p, &it, e);
	return r < 0 ? r : print_workspace(policy_workspace_of(p), &it, e);
}

static int json_secrets(const struct policy *p, const struct policy_draft *sources, struct item *it,
                        struct err *e)
{
	struct policy_source s;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < policy_secrets(p); i++) {
		buf_put_str(&it->b, i > 0 ? "," : "");
		policy_put_secret_json(p, i, &it->b);
		if (it->b.len > 0 && find_source(sources, policy_secret_at(p, i)->name, &s)) {
			it->b.len--; /* its last brace */
			buf_put_str(&it->b, ",");
			egress_put_source_json(&it->b, &s);
			buf_put_str(&it->b, "}");
		}
		r = put_out(it, e);
	}
	return r;
}

static void json_limits(const struct policy *p, struct buf *b)
{
	const char *gap = "";

	buf_put_str(b, "],\"limits\":{");
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		uint64_t n = limit_at(p, i);

		if (n == 0)
			continue;
		buf_printf(b, "%s\"%s\":%llu", gap, limits[i].key, (unsigned long long)n);
		gap = ",";
	}
	buf_put_str(b, "}");
}

static int json_workspace(const struct policy_workspace *w, struct item *it, struct err *e)
{
	int r = 0;

	buf_put_str(&it->b, ",\"workspace\":{\"exclude\":[");
	for (unsigned i = 0; r == 0 && w && i < w->count; i++) {
		buf_put_str(&it->b, i > 0 ? ",{\"pattern\":" : "{\"pattern\":");
		buf_put_json_str(&it->b, w->left_out[i].pattern);
		buf_put_str(&it->b, ",\"file\":");
		buf_put_json_str(&it->b, w->left_out[i].label);
		buf_printf(&it->b, ",\"line\":%u}", w->left_out[i].line);
		r = put_out(it, e);
	}
	buf_printf(&it->b, "],\"skip_cost\":%s}", w && w->skip_cost_by.len > 0 ? "true" : "false");
	return r < 0 ? r : put_out(it, e);
}

int egress_print_policy_json(const struct policy *p, const struct policy_draft *sources,
                             struct err *e)
{
	__attribute__((cleanup(item_fini_scope))) struct item it = { .room = NULL };
	int r = item_init(&it, e);

	if (r < 0)
		return r;
	buf_put_str(&it.b, "\"digest\":\"");
	egress_put_digest(&it.b, p);
	buf_printf(&it.b, "\",\"default\":\"%s\",\"rules\":[",
	           policy_default_allows(p) ? "allow" : "deny");
	r = put_out(&it, e);
	for (unsigned i = 0; r == 0 && i < policy_rules(p); i++) {
		buf_put_str(&it.b, i > 0 ? "," : "");
		policy_put_rule_json(p, (uint16_t)i, &it.b);
		r = put_out(&it, e);
	}
	buf_put_str(&it.b, "],\"secrets\":[");
	if (r == 0)
		r = json_secrets(p, sources, &it, e);
	json_limits(p, &it.b);
	if (r == 0)
		r = put_out(&it, e);
	return r < 0 ? r : json_workspace(policy_workspace_of(p), &it, e);
}
