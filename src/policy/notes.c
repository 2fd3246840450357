/*
 * What a policy says in vain. Rules that allow add up, so a rule with http: beside a wider one
 * without limits nothing, which its author will hardly have meant.
 */
#include "policy/policy_internal.h"

#include "policy/ports.h"

static bool covers_rule(const struct loaded_rule *a, const struct loaded_rule *b)
{
	return a->kind == RULE_HOST && b->kind == RULE_HOST && a->http_count == 0 &&
	       host_pattern_covers(&a->host, &b->host) &&
	       ports_cover(a->ports, a->ports_count, b->ports, b->ports_count);
}

/* Does a deny everything that b allows? */
static bool kills(const struct loaded_rule *a, const struct loaded_rule *b)
{
	if (!(a->flags & RULE_DENY) || !covers_rule(a, b))
		return false;
	return a->proto == RULE_AUTO || (a->proto == RULE_UDP) == (b->proto == RULE_UDP);
}

/* Does a allow every request, whatever b's http entries say? */
static bool outdoes(const struct loaded_rule *a, const struct loaded_rule *b)
{
	if ((a->flags & RULE_DENY) || b->http_count == 0 || !covers_rule(a, b))
		return false;
	return a->proto == RULE_AUTO || a->proto == b->proto || a->proto == RULE_TCP;
}

static unsigned note_rule(const struct policy *p, unsigned i, policy_note_fn *note, void *arg)
{
	const struct loaded_rule *b = &p->rules[i];

	if (b->flags & RULE_DENY)
		return 0;
	for (unsigned k = 0; k < p->rules_count; k++) {
		const struct loaded_rule *a = &p->rules[k];

		if (kills(a, b)) {
			note(arg, b->origin, "allows nothing: all of it is denied by", a->origin);
			return 1;
		}
	}
	for (unsigned k = 0; k < p->rules_count; k++) {
		const struct loaded_rule *a = &p->rules[k];

		if (outdoes(a, b)) {
			note(arg, b->origin, "limits no request: all of them are allowed by",
			     a->origin);
			return 1;
		}
	}
	return 0;
}

/* Could a name be covered by both? */
static bool may_meet(const struct host_pattern *a, const struct host_pattern *b)
{
	return host_pattern_covers(a, b) || host_pattern_covers(b, a);
}

static unsigned note_secret(const struct policy *p, const struct policy_secret *s,
                            policy_note_fn *note, void *arg)
{
	if (p->default_allow)
		return 0;
	for (unsigned h = 0; h < s->hosts_count; h++)
		for (unsigned k = 0; k < p->rules_count; k++)
			if (p->rules[k].kind == RULE_HOST && !(p->rules[k].flags & RULE_DENY) &&
			    may_meet(&p->rules[k].host, &s->hosts[h]))
				return 0;
	note(arg, s->origin,
	     "can be sent nowhere: add a rule, or --allow, for a host of the secret", s->name);
	return 1;
}

unsigned policy_notes(const struct policy *p, policy_note_fn *note, void *arg)
{
	unsigned count = 0;

	for (unsigned i = 0; i < p->rules_count; i++)
		count += note_rule(p, i, note, arg);
	for (unsigned i = 0; i < p->secrets_count; i++)
		count += note_secret(p, &p->secrets[i], note, arg);
	return count;
}
