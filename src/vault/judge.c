#include "vault/judge.h"

#include <string.h>

struct policy_addr judge_addr(const struct egress_addr *a)
{
	return a->family == EGRESS_IP4 ? addr_of_v4(a->bytes) : addr_of_v6(a->bytes);
}

struct egress_addr judge_addr_out(const struct policy_addr *a)
{
	struct egress_addr out = { .family = a->v4 ? EGRESS_IP4 : EGRESS_IP6 };

	if (a->v4)
		memcpy(out.bytes, a->at + 12, 4);
	else
		memcpy(out.bytes, a->at, 16);
	return out;
}

enum egress_fail judge_fail(const struct policy_verdict *v)
{
	if (v->reason == POLICY_SPECIAL_ADDRESS)
		return EGRESS_SPECIAL;
	if (v->reason == POLICY_METADATA_ADDRESS)
		return EGRESS_METADATA;
	if (v->reason == POLICY_NOT_RESOLVED)
		return EGRESS_NOT_RESOLVED;
	return EGRESS_DENIED;
}

enum egress_fail judge_name(const struct judge *j, const struct host_name *name)
{
	struct policy_verdict v;

	if (!j->policy)
		return EGRESS_DENIED;
	v = policy_name_verdict(j->policy, name);
	return v.act == POLICY_ALLOW ? EGRESS_OK : judge_fail(&v);
}

enum egress_fail judge_alias(const struct judge *j, const struct host_name *name)
{
	struct policy_verdict v = policy_name_verdict(j->policy, name);

	if (v.act == POLICY_DENY && v.reason != POLICY_NO_RULE)
		return judge_fail(&v);
	return EGRESS_OK;
}

/* The host's own addresses are special as well: no list knows them but the kernel. */
static enum egress_fail judge_route(const struct judge *j, const struct policy_addr *a)
{
	enum route_kind kind;

	if (routes_ask(j->routes, a, &kind) < 0)
		return EGRESS_INTERNAL;
	if (kind == ROUTE_HOST)
		return EGRESS_SPECIAL;
	return EGRESS_OK; /* one that leads nowhere will say so itself */
}

enum egress_fail judge_answer(const struct judge *j, const struct policy_addr *a)
{
	struct addr_verdict what = policy_address_verdict(a);
	enum egress_fail fail = EGRESS_OK;

	if (what.class_ == ADDR_METADATA)
		return EGRESS_METADATA;
	if (what.class_ == ADDR_LINK_LOCAL)
		return EGRESS_SPECIAL;
	if (what.class_ == ADDR_SPECIAL)
		fail = EGRESS_SPECIAL;
	else
		fail = judge_route(j, a);
	if (fail == EGRESS_SPECIAL && policy_address_opened(j->policy, a))
		return EGRESS_OK;
	return fail;
}

/* Does a rule name this very address and port? Then it may even be the host's own. */
static bool is_opened(const struct judge *j, const struct policy_ask *a)
{
	struct policy_ask alone = { .addr = a->addr, .port = a->port, .transport = a->transport };
	struct policy_verdict v = policy_connect_verdict(j->policy, &alone);

	return v.act == POLICY_ALLOW && v.rule < POLICY_RULE_DEFAULT;
}

static enum egress_fail judge_where(const struct judge *j, const struct policy_ask *a)
{
	return is_opened(j, a) ? EGRESS_OK : judge_route(j, &a->addr);
}

static enum egress_fail passed(const struct judge *j, const struct policy_ask *a, uint8_t protocol,
                               struct policy_verdict *v)
{
	*v = policy_connect_verdict(j->policy, a);
	if (v->act == POLICY_DENY)
		return judge_fail(v);
	if (protocol == EGRESS_TLS) {
		*v = policy_flow_verdict(j->policy, a);
		if (v->act == POLICY_DENY)
			return judge_fail(v);
	}
	/* what has to be read goes through here as requests, and never as a socket */
	if (v->act != POLICY_ALLOW || v->inspect)
		return EGRESS_DENIED;
	return EGRESS_OK;
}

enum egress_fail judge_connect(const struct judge *j, const struct egress_connect *c,
                               struct host_name *name, const struct host_name **names,
                               struct policy_ask *ret_ask, struct policy_verdict *ret)
{
	struct policy_ask a = { .addr = judge_addr(&c->addr), .port = c->port };
	struct policy_verdict v = { .act = POLICY_DENY, .rule = POLICY_RULE_NONE };
	bool named = c->name.len > 0;
	enum egress_fail fail;

	if (!j->policy)
		return EGRESS_DENIED;
	if (named && (host_name_parse(c->name, name) < 0 || !span_equal(host_span(name), c->name)))
		return EGRESS_DENIED;
	a.transport = c->protocol == EGRESS_UDP ? POLICY_UDP : POLICY_TCP;
	a.seen = c->protocol == EGRESS_TLS ? POLICY_SEEN_TLS : POLICY_SEEN_RAW;
	a.name = named && c->protocol == EGRESS_TLS ? name : NULL;
	*names = name;
	a.names = names;
	/* a name that is not pinned counts for nothing; a rule for the address may do */
	a.names_count = named && pins_have(j->pins, name, &a.addr) ? 1 : 0;
	fail = passed(j, &a, c->protocol, &v);
	if (fail == EGRESS_DENIED && named && a.names_count == 0)
		fail = EGRESS_NOT_RESOLVED;
	if (fail == EGRESS_OK)
		fail = judge_where(j, &a);
	*ret_ask = a;
	*ret = v;
	return fail;
}

enum egress_fail judge_request(const struct judge *j, const struct egress_request *q,
                               struct host_name *name, const struct host_name **names,
                               struct policy_ask *ret_ask, struct policy_verdict *ret)
{
	const struct http_head *h = &q->head;
	struct policy_ask a = { .addr = judge_addr(&q->addr), .port = h->host.port };
	enum egress_fail fail;

	if (!j->policy || h->host.kind != HTTP_HOST_NAME ||
	    host_name_parse(span_of(h->host.text, h->host.len), name) < 0)
		return EGRESS_DENIED;
	*names = name;
	a.names = names;
	a.names_count = 1;
	a.name = name;
	a.seen = h->scheme == HTTP_TLS ? POLICY_SEEN_TLS : POLICY_SEEN_HTTP;
	a.method = h->method;
	a.path = h->path;
	a.query = h->query;
	*ret = policy_request_verdict(j->policy, &a);
	*ret_ask = a;
	if (ret->act != POLICY_ALLOW)
		return judge_fail(ret);
	fail = judge_where(j, &a);
	if (fail == EGRESS_OK && !pins_have(j->pins, name, &a.addr))
		fail = EGRESS_NOT_RESOLVED;
	return fail;
}

enum egress_fail judge_keeps(const struct judge *j, const struct policy *old,
                             const struct policy_ask *a, bool inspected)
{
	struct policy_verdict v = policy_flow_keeps(old, j->policy, a, inspected);

	if (v.act != POLICY_ALLOW)
		return EGRESS_REVOKED_BY_POLICY;
	return judge_where(j, a) == EGRESS_OK ? EGRESS_OK : EGRESS_REVOKED_BY_POLICY;
}
