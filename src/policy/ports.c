#include "policy/ports.h"

#include <string.h>

static bool take_port(struct span s, uint16_t *ret)
{
	uint64_t n;

	if (s.len == 0 || s.len > 5 || s.at[0] == '0' || !span_to_u64(s, &n) || n > 65535)
		return false;
	*ret = (uint16_t)n;
	return true;
}

bool ports_take(struct span text, struct rule_ports *ret)
{
	const uint8_t *dash = text.len > 0 ? memchr(text.at, '-', text.len) : NULL;
	size_t len = dash ? (size_t)(dash - text.at) : text.len;
	struct rule_ports got;

	if (!take_port(span_of(text.at, len), &got.lo))
		return false;
	got.hi = got.lo;
	if (dash && !take_port(span_of(dash + 1, text.len - len - 1), &got.hi))
		return false;
	if (got.hi < got.lo)
		return false;
	*ret = got;
	return true;
}

bool ports_add(struct rule_ports *ports, uint8_t *count, struct rule_ports add)
{
	uint8_t n = 0;
	uint8_t at;

	/* those that touch it become part of it, the others move up */
	for (uint8_t i = 0; i < *count; i++) {
		if (ports[i].lo <= add.hi + 1 && add.lo <= ports[i].hi + 1) {
			add.lo = ports[i].lo < add.lo ? ports[i].lo : add.lo;
			add.hi = ports[i].hi > add.hi ? ports[i].hi : add.hi;
		} else {
			ports[n++] = ports[i];
		}
	}
	*count = n;
	if (n == POLICY_PORTS_MAX)
		return false;
	for (at = n; at > 0 && ports[at - 1].lo > add.lo; at--)
		ports[at] = ports[at - 1];
	ports[at] = add;
	*count = (uint8_t)(n + 1);
	return true;
}

bool ports_have(const struct rule_ports *ports, unsigned count, uint16_t port)
{
	for (unsigned i = 0; i < count; i++)
		if (port >= ports[i].lo && port <= ports[i].hi)
			return true;
	return count == 0;
}

static bool holds(const struct rule_ports *a, unsigned count, struct rule_ports r)
{
	for (unsigned i = 0; i < count; i++)
		if (a[i].lo <= r.lo && r.hi <= a[i].hi)
			return true;
	return count == 0;
}

bool ports_cover(const struct rule_ports *a, unsigned a_count, const struct rule_ports *b,
                 unsigned b_count)
{
	static const struct rule_ports every = { 1, 65535 };

	if (b_count == 0)
		return holds(a, a_count, every);
	for (unsigned i = 0; i < b_count; i++)
		if (!holds(a, a_count, b[i]))
			return false;
	return true;
}
