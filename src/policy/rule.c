#include "policy/draft_internal.h"

static void default_ports(struct policy_rule *r)
{
	static const struct rule_ports http = { 80, 80 };
	static const struct rule_ports tls = { 443, 443 };

	if (r->proto != RULE_TLS)
		r->ports[r->ports_count++] = http;
	if (r->proto != RULE_HTTP)
		r->ports[r->ports_count++] = tls;
}

static const char *judge_reading(const struct policy_rule *r)
{
	bool reads = r->http_count > 0 || (r->flags & RULE_INSPECT);

	if (reads && (r->flags & RULE_PASS))
		return "http: needs requests to be read, but inspect: false forbids it; drop one";
	if (reads && (r->proto == RULE_TCP || r->proto == RULE_UDP))
		return "requests can be read in protocol tls or http, not in tcp or udp";
	if ((r->flags & RULE_OBSERVE) && r->http_count == 0)
		return "observe: is about requests; the rule has no http:";
	return NULL;
}

static const char *judge_address(const struct policy_rule *r)
{
	if (r->http_count > 0 || (r->flags & (RULE_INSPECT | RULE_PASS)))
		return "an address rule is about connections; http: and inspect: need host:";
	if (r->flags & RULE_DENY)
		return NULL;
	if (r->flags & RULE_FROM_PRESET)
		return "a preset opens no address; that is for the user's own policy";
	switch (addr_cidr_judge(&r->net)) {
	case CIDR_BROAD:
		return "the range is too wide; at least /8 for IPv4, /16 for IPv6";
	case CIDR_NEVER:
		return "link-local addresses and cloud metadata services are never opened";
	case CIDR_OK:
		break;
	}
	return r->ports_count == 0 ? "an address rule needs port:" : NULL;
}

/* A parameter that only has values: any occurrence denies, but all have to be allowed. */
static void settle_queries(struct policy_rule *r)
{
	for (unsigned i = 0; i < r->http_count; i++)
		for (unsigned q = 0; q < r->http[i].query_count; q++)
			if (r->http[i].query[q].mode == QUERY_PLAIN)
				r->http[i].query[q].mode =
					r->flags & RULE_DENY ? QUERY_SOME : QUERY_EVERY;
}

const char *rule_settle(struct policy_rule *r)
{
	bool deny = r->flags & RULE_DENY;
	const char *why = judge_reading(r);

	if (why)
		return why;
	settle_queries(r);
	if (deny && (r->proto == RULE_TLS || r->proto == RULE_HTTP))
		return "a rule that denies has protocol tcp or udp, or none for both";
	if (deny && (r->flags & (RULE_INSPECT | RULE_PASS)))
		return "inspect: is for rules that allow";
	if (r->kind == RULE_ADDRESS)
		return judge_address(r);
	if (deny || r->ports_count > 0)
		return NULL;
	if (r->proto == RULE_TCP || r->proto == RULE_UDP)
		return "protocol tcp or udp needs port:";
	default_ports(r);
	return NULL;
}
