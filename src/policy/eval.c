/*
 * Theory of operation: a name is walked from its end, and at each dot the hash of what lies behind
 * is looked up, so the cost grows with the name's labels and not with the rules. What the rules
 * that cover a name and port say together is collected into a `struct found`; the verdicts read
 * that. Addresses are judged first, by the same function for a SYN, a flow and a request: metadata
 * and link-local before any rule, then rules that deny, then the special ranges unless a rule of
 * the user's opens them.
 */
#include "policy/policy_internal.h"

#include "policy/glob.h"
#include "policy/ports.h"

#include <string.h>

enum { NONE = POLICY_RULE_NONE };

/* How a flow under a rule begins. */
enum { BEGINS_TLS = 1, BEGINS_HTTP = 2, BEGINS_RAW = 4 };

/* What all rules that cover a name, a port and a transport say together. */
struct found {
	uint16_t deny;      /* the first that denies all of it */
	uint16_t deny_http; /* the first that denies some requests */
	uint16_t allow;     /* the first that allows */
	unsigned begins;    /* of those that allow */
	bool http;          /* one of them judges requests */
	bool inspect, pass; /* one of them says so; protocol: tcp is pass */
	bool other_transport;
	uint64_t secrets;
};

typedef void see_fn(void *arg, const struct policy *p, const struct entry *en);

static void see_bucket(const struct policy *p, const struct host_name *name, unsigned from,
                       uint64_t hash, see_fn *see, void *arg)
{
	uint32_t at = p->buckets[hash & p->buckets_mask];

	for (; at != 0; at = p->entries[at - 1].next) {
		const struct entry *en = &p->entries[at - 1];
		const struct host_pattern *pat = en->pattern;

		if (en->hash != hash || (pat->kind == HOST_EXACT) != (from == 0))
			continue;
		if (pat->base.len == name->len - from && host_pattern_match(pat, name))
			see(arg, p, en);
	}
}

/* Calls see for every pattern that covers the name: whole, and behind each dot. */
static void walk(const struct policy *p, const struct host_name *name, see_fn *see, void *arg)
{
	uint64_t hash = policy_hash_start();

	for (unsigned i = name->len; i-- > 0;) {
		hash = policy_hash_step(hash, name->at[i]);
		if (i == 0 || name->at[i - 1] == '.')
			see_bucket(p, name, i, hash, see, arg);
	}
}

static unsigned begins_at(const struct loaded_rule *r, uint16_t port)
{
	bool reads = r->http_count > 0 || (r->flags & RULE_INSPECT);

	switch ((enum rule_proto)r->proto) {
	case RULE_TLS:
		return BEGINS_TLS;
	case RULE_HTTP:
		return BEGINS_HTTP;
	case RULE_AUTO:
		if (port == 80)
			return BEGINS_HTTP;
		return reads || port == 443 ? BEGINS_TLS : BEGINS_RAW;
	case RULE_TCP:
	case RULE_UDP:
	case RULE_PROTOS:
		break;
	}
	return BEGINS_RAW;
}

static unsigned begins_by_port(uint16_t port)
{
	return port == 443 ? BEGINS_TLS : port == 80 ? BEGINS_HTTP : BEGINS_RAW;
}

static bool same_transport(const struct loaded_rule *r, uint8_t transport)
{
	if ((r->flags & RULE_DENY) && r->proto == RULE_AUTO)
		return true;
	return (r->proto == RULE_UDP) == (transport == POLICY_UDP);
}

struct collect {
	uint16_t port;
	uint8_t transport;
	struct found f;
};

static void note(uint16_t *first, uint16_t index)
{
	if (index < *first)
		*first = index;
}

static void see_rule(void *arg, const struct policy *p, const struct entry *en)
{
	const struct loaded_rule *r = &p->rules[en->index];
	struct collect *c = arg;
	struct found *f = &c->f;

	if (en->secret) {
		const struct policy_secret *s = &p->secrets[en->index];

		if (c->transport == POLICY_TCP && ports_have(s->ports, s->ports_count, c->port))
			f->secrets |= (uint64_t)1 << en->index;
		return;
	}
	if (!ports_have(r->ports, r->ports_count, c->port))
		return;
	if (!same_transport(r, c->transport)) {
		f->other_transport |= !(r->flags & RULE_DENY);
		return;
	}
	if (r->flags & RULE_DENY) {
		note(r->http_count > 0 ? &f->deny_http : &f->deny, en->index);
		return;
	}
	note(&f->allow, en->index);
	f->begins |= begins_at(r, c->port);
	f->http |= r->http_count > 0;
	f->inspect |= (r->flags & RULE_INSPECT) != 0;
	f->pass |= (r->flags & RULE_PASS) || r->proto == RULE_TCP;
}

static struct found collect(const struct policy *p, const struct host_name *name, uint16_t port,
                            uint8_t transport)
{
	struct collect c = { .port = port, .transport = transport };

	c.f.deny = c.f.deny_http = c.f.allow = NONE;
	walk(p, name, see_rule, &c);
	if (c.f.allow == NONE && p->default_allow && transport == POLICY_TCP) {
		c.f.allow = POLICY_RULE_DEFAULT;
		c.f.begins = begins_by_port(port);
	}
	return c.f;
}

static struct policy_verdict verdict(enum policy_act act, enum policy_reason reason, uint16_t rule)
{
	return (struct policy_verdict){ .act = (uint8_t)act,
		                        .reason = (uint8_t)reason,
		                        .rule = rule };
}

static struct policy_verdict deny(enum policy_reason reason, uint16_t rule)
{
	return verdict(POLICY_DENY, reason, rule);
}

static struct policy_verdict allow(uint16_t rule, bool inspect)
{
	struct policy_verdict v = verdict(POLICY_ALLOW, POLICY_OK, rule);

	v.inspect = inspect;
	return v;
}

/* Ports that run a cluster: a range does not open them in private space, only their own number. */
static bool is_control_plane(uint16_t port)
{
	static const uint16_t ports[] = { 2379, 2380, 6443, 10250, 10255, 10257, 10259 };

	for (unsigned i = 0; i < sizeof(ports) / sizeof(ports[0]); i++)
		if (port == ports[i])
			return true;
	return false;
}

static bool port_is_named(const struct loaded_rule *r, uint16_t port)
{
	for (unsigned i = 0; i < r->ports_count; i++)
		if (r->ports[i].lo == port && r->ports[i].hi == port)
			return true;
	return false;
}

/* DENY, or ALLOW with the address rule that opens it, if one does. */
static struct policy_verdict judge_address(const struct policy *p, const struct policy_ask *a)
{
	struct addr_verdict what = policy_address_verdict(&a->addr);
	bool special = what.class_ != ADDR_PUBLIC;
	uint16_t opened = NONE;

	if (what.class_ == ADDR_METADATA)
		return deny(POLICY_METADATA_ADDRESS, NONE);
	if (what.class_ == ADDR_LINK_LOCAL)
		return deny(POLICY_SPECIAL_ADDRESS, NONE);
	for (unsigned i = 0; i < p->address_rules_count; i++) {
		uint16_t index = p->address_rules[i];
		const struct loaded_rule *r = &p->rules[index];

		if (!addr_in(&a->addr, &r->net) || !ports_have(r->ports, r->ports_count, a->port) ||
		    !same_transport(r, a->transport))
			continue;
		if (r->flags & RULE_DENY)
			return deny(POLICY_DENIED_BY_RULE, index);
		if (special && is_control_plane(a->port) && !port_is_named(r, a->port))
			continue;
		note(&opened, index);
	}
	if (special && opened == NONE)
		return deny(POLICY_SPECIAL_ADDRESS, NONE);
	return allow(opened, false);
}

bool policy_address_opened(const struct policy *p, const struct policy_addr *addr)
{
	enum addr_class is = policy_address_verdict(addr).class_;

	if (is == ADDR_METADATA || is == ADDR_LINK_LOCAL)
		return false;
	for (unsigned i = 0; i < p->address_rules_count; i++) {
		const struct loaded_rule *r = &p->rules[p->address_rules[i]];

		if (!(r->flags & RULE_DENY) && addr_in(addr, &r->net))
			return true;
	}
	return false;
}

static void see_name(void *arg, const struct policy *p, const struct entry *en)
{
	const struct loaded_rule *r = &p->rules[en->index];
	struct found *f = arg;

	if (en->secret)
		return;
	if (!(r->flags & RULE_DENY))
		note(&f->allow, en->index);
	else if (r->ports_count == 0 && r->http_count == 0 && r->proto == RULE_AUTO)
		note(&f->deny, en->index);
}

struct policy_verdict policy_name_verdict(const struct policy *p, const struct host_name *name)
{
	struct found f = { .deny = NONE, .allow = NONE };

	if (host_is_metadata(name))
		return deny(POLICY_METADATA_ADDRESS, NONE);
	walk(p, name, see_name, &f);
	if (f.deny != NONE)
		return deny(POLICY_DENIED_BY_RULE, f.deny);
	if (f.allow != NONE)
		return allow(f.allow, false);
	if (p->default_allow && memchr(name->at, '.', name->len))
		return allow(POLICY_RULE_DEFAULT, false);
	return deny(POLICY_NO_RULE, NONE);
}

/* How flows to one name begin, once what has to be read is taken into account. */
static unsigned begins_of(const struct found *f)
{
	unsigned begins = f->begins;

	if (!(begins & BEGINS_RAW) || f->pass)
		return begins;
	if (f->deny_http != NONE)
		return (begins & ~(unsigned)BEGINS_RAW) | BEGINS_TLS | BEGINS_HTTP;
	if (f->secrets)
		return (begins & ~(unsigned)BEGINS_RAW) | BEGINS_TLS;
	return begins;
}

/* What the names pinned to an address come to. */
struct crowd {
	unsigned begins;
	bool all_raw; /* each of those allowed may begin raw */
	bool other_transport;
	uint16_t allow, deny, deny_http;
};

static struct crowd judge_crowd(const struct policy *p, const struct policy_ask *a)
{
	struct crowd c = { .all_raw = true, .allow = NONE, .deny = NONE, .deny_http = NONE };

	for (unsigned i = 0; i < a->names_count; i++) {
		struct found f = collect(p, a->names[i], a->port, a->transport);
		unsigned begins = begins_of(&f);

		note(&c.deny_http, f.deny_http);
		c.other_transport |= f.other_transport;
		if (f.deny != NONE) {
			note(&c.deny, f.deny);
			continue;
		}
		if (f.allow == NONE)
			continue;
		note(&c.allow, f.allow);
		c.begins |= begins;
		c.all_raw &= (begins & BEGINS_RAW) != 0;
	}
	return c;
}

static struct policy_verdict refuse_crowd(const struct policy *p, const struct policy_ask *a,
                                          const struct crowd *c)
{
	if (c->deny != NONE)
		return deny(POLICY_DENIED_BY_RULE, c->deny);
	if (a->transport == POLICY_UDP && a->port == 443)
		return deny(POLICY_QUIC_REFUSED, NONE);
	if (c->other_transport || (a->transport == POLICY_UDP && p->default_allow))
		return deny(POLICY_PROTOCOL_NOT_ALLOWED, NONE);
	if (a->names_count == 0 && p->name_allows > 0)
		return deny(POLICY_NOT_RESOLVED, NONE);
	return deny(POLICY_NO_RULE, NONE);
}

/* Nothing is pinned, or nothing pinned is allowed: an address rule or default: allow may do. */
static struct policy_verdict connect_by_address(const struct policy *p, const struct policy_ask *a,
                                                const struct crowd *c, uint16_t opened)
{
	bool denied = c->deny != NONE;

	if (opened != NONE)
		return denied ? verdict(POLICY_NEEDS_NAME, POLICY_OK, opened)
		              : allow(opened, false);
	if (denied || !p->default_allow || a->transport == POLICY_UDP || a->names_count > 0)
		return refuse_crowd(p, a, c);
	switch (begins_by_port(a->port)) {
	case BEGINS_TLS:
		return verdict(POLICY_NEEDS_TLS, POLICY_OK, POLICY_RULE_DEFAULT);
	case BEGINS_HTTP:
		return verdict(POLICY_NEEDS_HTTP, POLICY_OK, POLICY_RULE_DEFAULT);
	default:
		return allow(POLICY_RULE_DEFAULT, false);
	}
}

struct policy_verdict policy_connect_verdict(const struct policy *p, const struct policy_ask *a)
{
	struct policy_verdict v = judge_address(p, a);
	struct crowd c;
	uint16_t opened = v.rule;

	if (v.act == POLICY_DENY)
		return v;
	c = judge_crowd(p, a);
	if (c.allow == NONE)
		return connect_by_address(p, a, &c, opened);
	if (a->transport ==
	    POLICY_UDP) /* nothing in a packet names its host: one denied name is enough */
		v = c.deny != NONE ? deny(POLICY_DENIED_BY_RULE, c.deny) : allow(c.allow, false);
	else if (c.begins == BEGINS_TLS)
		v = verdict(POLICY_NEEDS_TLS, POLICY_OK, c.allow);
	else if (c.begins == BEGINS_HTTP)
		v = verdict(POLICY_NEEDS_HTTP, POLICY_OK, c.allow);
	else if (c.all_raw && c.deny == NONE)
		v = allow(c.allow, false);
	else
		v = verdict(POLICY_NEEDS_NAME, POLICY_OK, c.allow);
	v.pin_only = v.act == POLICY_ALLOW && opened == NONE;
	return v;
}

static bool is_pinned(const struct policy_ask *a)
{
	for (unsigned i = 0; i < a->names_count; i++)
		if (span_equal(host_span(a->names[i]), host_span(a->name)))
			return true;
	return false;
}

static enum policy_reason mismatch(const struct policy_ask *a)
{
	return a->seen == POLICY_SEEN_TLS ? POLICY_SNI_MISMATCH : POLICY_HOST_MISMATCH;
}

/* The flow did not begin as the rules that allow it say. */
static struct policy_verdict wrong_beginning(unsigned begins, uint16_t rule)
{
	if (begins == 0)
		return deny(POLICY_NO_RULE, NONE);
	return deny(begins & BEGINS_TLS ? POLICY_NOT_TLS : POLICY_NOT_HTTP, rule);
}

static bool begins_so(unsigned begins, uint8_t seen)
{
	if (begins & BEGINS_RAW)
		return true;
	return (seen == POLICY_SEEN_TLS && (begins & BEGINS_TLS)) ||
	       (seen == POLICY_SEEN_HTTP && (begins & BEGINS_HTTP));
}

/* A flow that names a host pinned to its address. */
static struct policy_verdict judge_named(const struct policy_ask *a, const struct found *f,
                                         uint16_t opened)
{
	unsigned begins = begins_of(f);
	uint16_t rule = f->allow;
	bool reads = f->http || f->inspect || (f->secrets && a->seen == POLICY_SEEN_TLS) ||
	             a->seen == POLICY_SEEN_HTTP;

	if (rule == NONE || (rule != POLICY_RULE_DEFAULT && !begins_so(begins, a->seen))) {
		if (opened == NONE)
			return wrong_beginning(rule == NONE ? 0 : begins, rule);
		rule = opened;
	}
	if (f->deny_http != NONE) {
		/* it has to be read, and cannot be */
		if (a->seen == POLICY_SEEN_RAW)
			return deny(POLICY_NOT_TLS, f->deny_http);
		return f->pass ? deny(POLICY_DENIED_BY_RULE, f->deny_http) : allow(rule, true);
	}
	return allow(rule, reads && !f->pass && a->seen != POLICY_SEEN_RAW);
}

/* No SNI, no Host, or bytes that are neither. */
static struct policy_verdict judge_nameless(const struct policy *p, const struct policy_ask *a,
                                            uint16_t opened)
{
	struct crowd c = judge_crowd(p, a);
	bool denied = c.deny != NONE || c.deny_http != NONE;
	struct policy_verdict v;

	if (!denied && opened != NONE)
		return allow(opened, false);
	if (!denied && p->default_allow && a->seen != POLICY_SEEN_HTTP)
		return allow(POLICY_RULE_DEFAULT, false);
	if (a->seen == POLICY_SEEN_TLS)
		return deny(POLICY_SNI_MISSING, c.allow);
	if (a->seen == POLICY_SEEN_HTTP)
		return deny(POLICY_HOST_MISMATCH, c.allow);
	if (c.allow == NONE)
		return refuse_crowd(p, a, &c);
	if (denied || !c.all_raw)
		return deny(c.begins == BEGINS_HTTP ? POLICY_NOT_HTTP : POLICY_NOT_TLS, c.allow);
	v = allow(c.allow, false);
	v.pin_only = true;
	return v;
}

struct policy_verdict policy_flow_verdict(const struct policy *p, const struct policy_ask *a)
{
	struct policy_verdict v = judge_address(p, a);
	struct found f;

	if (v.act == POLICY_DENY)
		return v;
	if (a->transport == POLICY_UDP)
		return policy_connect_verdict(p, a);
	if (!a->name)
		return judge_nameless(p, a, v.rule);
	if (host_is_metadata(a->name))
		return deny(POLICY_METADATA_ADDRESS, NONE);
	f = collect(p, a->name, a->port, POLICY_TCP);
	if (f.deny != NONE)
		return deny(POLICY_DENIED_BY_RULE, f.deny);
	if (is_pinned(a))
		return judge_named(a, &f, v.rule);
	if (v.rule != NONE && f.deny_http == NONE)
		return allow(v.rule, false);
	return deny(mismatch(a), f.allow);
}

struct request {
	const struct policy_ask *a;
	uint64_t method;
	uint16_t deny, allow, observed_deny, observe;
	uint16_t method_miss, path_miss;
};

static bool query_matches(const struct rule_http *h, const struct policy_ask *a, bool deny_rule)
{
	for (unsigned i = 0; i < h->query_count; i++) {
		const struct rule_query *q = &h->query[i];
		struct query_test t = { q->mode, q->name, q->values, q->values_count };

		if (!query_holds(&t, a->query, deny_rule))
			return false;
	}
	return true;
}

/* 2: the entry covers the request; 1: all but the method; 0: not. */
static unsigned entry_covers(const struct rule_http *h, const struct request *q, bool deny_rule)
{
	bool method = h->methods == METHODS_ANY || (h->methods & q->method);

	if (h->path.len > 0 && !glob_path_match(h->path, q->a->path))
		return 0;
	if (!query_matches(h, q->a, deny_rule))
		return 0;
	return method ? 2 : 1;
}

static unsigned rule_covers(const struct loaded_rule *r, const struct request *q)
{
	struct span http = r->http;
	unsigned best = 0;

	if (r->http_count == 0)
		return 2;
	for (unsigned i = 0; i < r->http_count && best < 2; i++) {
		struct rule_http h;
		unsigned n;

		if (policy_tlv_parse_http(&http, &h) < 0)
			break; /* cannot be: it was read when the policy was loaded */
		n = entry_covers(&h, q, r->flags & RULE_DENY);
		best = n > best ? n : best;
	}
	return best;
}

static void see_request(void *arg, const struct policy *p, const struct entry *en)
{
	const struct loaded_rule *r = &p->rules[en->index];
	struct request *q = arg;
	unsigned covers;

	if (en->secret || !ports_have(r->ports, r->ports_count, q->a->port) ||
	    !same_transport(r, POLICY_TCP))
		return;
	if (!(r->flags & RULE_DENY) && !begins_so(begins_at(r, q->a->port), q->a->seen))
		return;
	covers = rule_covers(r, q);
	if (r->flags & RULE_DENY) {
		if (covers == 2)
			note(r->flags & RULE_OBSERVE ? &q->observed_deny : &q->deny, en->index);
		return;
	}
	if (covers == 2)
		note(&q->allow, en->index);
	else if (r->flags & RULE_OBSERVE)
		note(&q->observe, en->index);
	else
		note(covers == 1 ? &q->method_miss : &q->path_miss, en->index);
}

static struct policy_verdict observed(uint16_t rule, enum policy_reason reason)
{
	struct policy_verdict v = allow(rule, true);

	v.observed = true;
	v.reason = (uint8_t)reason;
	return v;
}

static struct policy_verdict judge_request(const struct policy *p, const struct request *q,
                                           uint16_t opened)
{
	uint16_t rule = q->allow;

	if (q->deny != NONE)
		return deny(POLICY_DENIED_BY_RULE, q->deny);
	if (rule == NONE)
		rule = opened;
	if (rule == NONE && p->default_allow)
		rule = POLICY_RULE_DEFAULT;
	if (rule != NONE && q->observed_deny != NONE)
		return observed(q->observed_deny, POLICY_DENIED_BY_RULE);
	if (rule != NONE)
		return allow(rule, true);
	if (q->observe != NONE)
		return observed(q->observe, q->method_miss != NONE ? POLICY_METHOD : POLICY_PATH);
	if (q->method_miss != NONE)
		return deny(POLICY_METHOD, q->method_miss);
	if (q->path_miss != NONE)
		return deny(POLICY_PATH, q->path_miss);
	return deny(POLICY_NO_RULE, NONE);
}

struct policy_verdict policy_request_verdict(const struct policy *p, const struct policy_ask *a)
{
	struct policy_verdict v = judge_address(p, a);
	struct request q = { a, method_bit(a->method), NONE, NONE, NONE, NONE, NONE, NONE };

	if (v.act == POLICY_DENY)
		return v;
	if (!a->name)
		return deny(POLICY_HOST_MISMATCH, NONE);
	if (host_is_metadata(a->name))
		return deny(POLICY_METADATA_ADDRESS, NONE);
	if (a->path.len > POLICY_PATH_MAX || a->query.len > POLICY_PATH_MAX)
		return deny(POLICY_PATH, NONE);
	walk(p, a->name, see_request, &q);
	return judge_request(p, &q, v.rule);
}

static bool secret_fits(const struct policy_secret *s, const struct policy_ask *a, uint64_t method)
{
	if (s->methods != METHODS_ANY && !(s->methods & method))
		return false;
	for (unsigned i = 0; i < s->paths_count; i++)
		if (glob_path_match(s->paths[i], a->path))
			return true;
	return s->paths_count == 0;
}

uint64_t policy_secrets_for(const struct policy *p, const struct policy_ask *a)
{
	uint64_t method = method_bit(a->method);
	struct found f;
	uint64_t fit = 0;

	if (!a->name || a->seen != POLICY_SEEN_TLS || a->transport != POLICY_TCP)
		return 0;
	f = collect(p, a->name, a->port, POLICY_TCP);
	if (f.pass || f.deny != NONE)
		return 0;
	for (unsigned i = 0; i < p->secrets_count; i++)
		if ((f.secrets >> i & 1) && secret_fits(&p->secrets[i], a, method))
			fit |= (uint64_t)1 << i;
	return fit;
}

struct policy_verdict policy_flow_keeps(const struct policy *old_policy,
                                        const struct policy *new_policy, const struct policy_ask *a,
                                        bool inspected)
{
	struct policy_verdict v = policy_flow_verdict(new_policy, a);

	if (memcmp(old_policy->digest, new_policy->digest, TLV_DIGEST_BYTES) == 0)
		return allow(v.rule, inspected);
	if (v.act == POLICY_ALLOW && v.inspect && !inspected)
		return deny(POLICY_REVOKED, v.rule);
	if (v.act != POLICY_ALLOW)
		return deny(POLICY_REVOKED, v.rule);
	return v;
}
