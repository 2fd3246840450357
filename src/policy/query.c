#include "policy/query.h"

#include "policy/glob.h"

#include <string.h>

enum { VALUE_MAX = POLICY_PATH_MAX };

struct count {
	unsigned all, hits;
};

static int hex(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes %XX and '+' once. A bad escape stays as it is. Cut at room bytes. */
static struct span decode(struct span s, uint8_t *room, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < s.len && n < size; i++) {
		uint8_t c = s.at[i];

		if (c == '%' && s.len - i > 2 && hex(s.at[i + 1]) >= 0 && hex(s.at[i + 2]) >= 0) {
			c = (uint8_t)(hex(s.at[i + 1]) << 4 | hex(s.at[i + 2]));
			i += 2;
		} else if (c == '+') {
			c = ' ';
		}
		room[n++] = c;
	}
	return span_of(room, n);
}

static bool value_hits(const struct query_test *t, struct span value)
{
	for (unsigned i = 0; i < t->values_count; i++)
		if (glob_value_match(t->values[i], value))
			return true;
	return t->values_count == 0;
}

/* Where the next '&' is, or the next ';' too. */
static struct span next_part(struct span *rest, bool semicolons)
{
	size_t n = 0;
	struct span part;

	while (n < rest->len && rest->at[n] != '&' && !(semicolons && rest->at[n] == ';'))
		n++;
	part = span_of(rest->at, n);
	n += n < rest->len;
	*rest = span_of(rest->at + n, rest->len - n);
	return part;
}

/* False if there are more parameters than anybody sends. */
static bool count_parts(const struct query_test *t, struct span query, bool semicolons,
                        struct count *ret)
{
	uint8_t room[VALUE_MAX];
	struct count got = { 0 };

	for (unsigned n = 0; query.len > 0; n++) {
		struct span part = next_part(&query, semicolons);
		const uint8_t *eq = part.len > 0 ? memchr(part.at, '=', part.len) : NULL;
		size_t name_len = eq ? (size_t)(eq - part.at) : part.len;
		struct span value = { 0 };

		if (n == POLICY_PARTS_MAX)
			return false;
		if (!span_equal(decode(span_of(part.at, name_len), room, sizeof(room)), t->name))
			continue;
		if (eq)
			value = span_of(eq + 1, part.len - name_len - 1);
		got.all++;
		got.hits += value_hits(t, decode(value, room, sizeof(room)));
	}
	*ret = got;
	return true;
}

static bool judge(const struct query_test *t, struct count c)
{
	switch ((enum query_mode)t->mode) {
	case QUERY_SOME:
		return c.hits > 0;
	case QUERY_EVERY:
		return c.all > 0 && c.hits == c.all;
	case QUERY_ONCE:
		return c.all == 1 && c.hits == 1;
	case QUERY_MISSING:
		return c.all == 0;
	case QUERY_PLAIN:
	case QUERY_MODES:
		break;
	}
	return false;
}

bool query_holds(const struct query_test *t, struct span query, bool deny)
{
	struct count c;
	bool holds;
	bool split;

	if (query.len > POLICY_PATH_MAX || !count_parts(t, query, false, &c))
		return deny;
	holds = judge(t, c);
	if (query.len == 0 || !memchr(query.at, ';', query.len))
		return holds;
	if (!count_parts(t, query, true, &c))
		return deny;
	split = judge(t, c);
	return deny ? holds || split : holds && split;
}
