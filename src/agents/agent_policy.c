/*
 * Theory of operation: rules and secrets of a profile are in the policy file's own words. So the
 * policy file's reader judges them: of each file of the profile a policy is written that has each
 * item in the line it has there, and its messages and the origins of its rules are lines of the
 * profile.
 */
#include "agents/agent_internal.h"

#include <errno.h>
#include <string.h>

struct writer {
	struct buf b;
	unsigned line;
};

static void put_items(struct writer *w, const struct agent_item *const *items, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		for (; w->line < items[i]->line; w->line++)
			buf_put_u8(&w->b, '\n');
		buf_put_str(&w->b, items[i]->text);
		buf_put_str(&w->b, i + 1 < count ? ", " : "");
	}
}

static int by_line(const void *x, const void *y)
{
	const struct agent_item *a = *(const struct agent_item *const *)x;
	const struct agent_item *b = *(const struct agent_item *const *)y;

	return a->line < b->line ? -1 : a->line > b->line;
}

/* Those of one file, in the order of its lines. */
struct picked {
	const struct agent_item *secrets[AGENT_SECRETS_MAX];
	const struct agent_item *rules[AGENT_LEVELS * AGENT_RULES_MAX];
	unsigned secrets_count, rules_count;
	size_t bytes;
};

static void count_bytes(struct picked *p, const struct agent_item *item)
{
	p->bytes += strlen(item->text) + 2;
}

static void pick(const struct agent *a, enum agent_level level, uint64_t secrets, unsigned source,
                 struct picked *p)
{
	unsigned line = 1;

	for (unsigned i = 0; i < a->secrets.count; i++) {
		const struct agent_item *item = &a->secrets.at[i];

		if (item->source != source || !(secrets >> i & 1))
			continue;
		p->secrets[p->secrets_count++] = item;
		count_bytes(p, item);
		line = item->line > line ? item->line : line;
	}
	for (unsigned l = 0; l <= (unsigned)level; l++) {
		for (unsigned i = 0; i < a->rules[l].count; i++) {
			const struct agent_item *item = &a->rules[l].at[i];

			if (item->source != source)
				continue;
			p->rules[p->rules_count++] = item;
			count_bytes(p, item);
			line = item->line > line ? item->line : line;
		}
	}
	p->bytes += line + 64; /* line ends, and what stands around the items */
	qsort(p->secrets, p->secrets_count, sizeof(void *), by_line);
	qsort(p->rules, p->rules_count, sizeof(void *), by_line);
}

static void put_sections(struct writer *w, const struct picked *p)
{
	bool rules_first = p->rules_count > 0 && p->secrets_count > 0 &&
	                   p->rules[0]->line < p->secrets[0]->line;

	buf_put_str(&w->b, "{ version: 1");
	for (unsigned i = 0; i < 2; i++) {
		if ((i == 0) == rules_first && p->rules_count > 0) {
			buf_put_str(&w->b, ", network: { rules: [ ");
			put_items(w, p->rules, p->rules_count);
			buf_put_str(&w->b, " ] }");
		} else if ((i == 0) != rules_first && p->secrets_count > 0) {
			buf_put_str(&w->b, ", secrets: [ ");
			put_items(w, p->secrets, p->secrets_count);
			buf_put_str(&w->b, " ]");
		}
	}
	buf_put_str(&w->b, " }");
}

static int add_source(const struct agent *a, enum agent_level level, uint64_t secrets,
                      unsigned source, struct policy_draft *d, struct err *e)
{
	_own_free_ struct picked *p = calloc(1, sizeof(*p));
	_own_free_ uint8_t *room = NULL;
	struct writer w = { .line = 1 };

	if (!p)
		return err_set(e, -ENOMEM, "out of memory");
	pick(a, level, secrets, source, p);
	if (p->rules_count + p->secrets_count == 0)
		return 0;
	room = malloc(p->bytes);
	if (!room)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&w.b, room, p->bytes);
	put_sections(&w, p);
	if (!buf_ok(&w.b))
		return err_set(e, -EFBIG, "%s: rules and secrets are too large",
		               a->sources[source]);
	return policy_draft_file(d, a->sources[source], buf_span(&w.b), e);
}

int agent_policy(const struct agent *a, enum agent_level level, uint64_t secrets,
                 struct policy_draft *d, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < a->sources_count; i++)
		r = add_source(a, level, secrets, i, d, e);
	return r;
}
