#include "agents/agent_internal.h"

#include "base/units.h"
#include "policy/words.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
	SHOWN_MAX = 80,      /* bytes of a wrong value in a message */
	KEYS_MAX = 24,       /* of any mapping */
	ITEM_MAX = 16 << 10, /* bytes of one rule or secret, written anew */
};

int agent_fault(const struct agent_ctx *c, const struct yaml_node *at, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return err_set(c->e, -EINVAL, "%s:%u:%u: %s", c->label, at->line, at->column, text);
}

int agent_bad(const struct agent_ctx *c, const struct yaml_node *at, const char *what)
{
	char room[4 * SHOWN_MAX + 8];
	struct buf b;
	bool cut;

	if (at->kind != YAML_SCALAR)
		return agent_fault(c, at, "a %s where one value belongs",
		                   at->kind == YAML_LIST ? "list" : "mapping");
	cut = at->text.len > SHOWN_MAX;
	buf_init(&b, room, sizeof(room));
	buf_put_escaped(&b, cut ? span_of(at->text.at, SHOWN_MAX) : at->text);
	buf_put_str(&b, cut ? "..." : "");
	return agent_fault(c, at, "'%s' %s", buf_cstr(&b), what);
}

static int unknown(const struct agent_ctx *c, const struct yaml_node *at, const char *what,
                   const char *const *words)
{
	const char *near = words_nearest(at->text, words);
	char text[160];

	(void)snprintf(text, sizeof(text), "is no %s%s%s%s", what, near ? "; did you mean '" : "",
	               near ? near : "", near ? "'?" : "");
	return agent_bad(c, at, text);
}

int agent_map(struct agent_ctx *c, const struct yaml_node *n, const char *what,
              const struct agent_key *keys)
{
	const char *words[KEYS_MAX + 1] = { NULL };
	char key_of[80];

	if (n->kind != YAML_MAP)
		return agent_fault(c, n, "%s is a mapping: key: value", what);
	for (unsigned i = 0; keys[i].name && i < KEYS_MAX; i++)
		words[i] = keys[i].name;
	for (const struct yaml_node *k = n->first; k; k = k->next->next) {
		const struct agent_key *row = keys;
		int r;

		while (row->name && !span_is(k->text, row->name))
			row++;
		if (!row->name) {
			(void)snprintf(key_of, sizeof(key_of), "key of %s", what);
			return unknown(c, k, key_of, words);
		}
		r = row->take(c, k->next);
		if (r < 0)
			return r;
	}
	return 0;
}

int agent_word(struct agent_ctx *c, const struct yaml_node *n, const char *const *words,
               const char *what, unsigned *ret)
{
	for (unsigned i = 0; n->kind == YAML_SCALAR && words[i]; i++) {
		if (span_is(n->text, words[i])) {
			*ret = i;
			return 0;
		}
	}
	return unknown(c, n, what, words);
}

int agent_text(struct agent_ctx *c, const struct yaml_node *n, const char **ret)
{
	const char *got;

	if (n->kind != YAML_SCALAR)
		return agent_bad(c, n, "");
	if (n->text.len == 0 || n->text.len > AGENT_WORD_MAX)
		return agent_fault(c, n, "a text of 1 to %d bytes belongs here", AGENT_WORD_MAX);
	for (size_t i = 0; i < n->text.len; i++)
		if (n->text.at[i] < 0x20 || n->text.at[i] == 0x7f)
			return agent_bad(c, n, "has a control character in it");
	got = agent_keep(c->a, n->text);
	if (!got)
		return err_set(c->e, -ENOMEM, "out of memory");
	*ret = got;
	return 0;
}

int agent_list_of(struct agent_ctx *c, const struct yaml_node *n, unsigned max,
                  const char *(*judge)(const char *), struct agent_words *ret)
{
	unsigned count = yaml_count(n);
	const char **at;
	unsigned i = 0;

	if (n->kind != YAML_LIST)
		return agent_fault(c, n, "a list belongs here: [one, two]");
	if (count > max)
		return agent_fault(c, n, "over %u items", max);
	at = agent_room(c->a, (count + 1) * sizeof(*at));
	if (!at)
		return err_set(c->e, -ENOMEM, "out of memory");
	for (const struct yaml_node *item = n->first; item; item = item->next) {
		int r = agent_text(c, item, &at[i]);
		const char *why = r == 0 && judge ? judge(at[i]) : NULL;

		if (r < 0)
			return r;
		if (why)
			return agent_bad(c, item, why);
		i++;
	}
	*ret = (struct agent_words){ at, count };
	return 0;
}

static int number(struct agent_ctx *c, const struct yaml_node *n, bool size, uint64_t min,
                  uint64_t max, uint64_t *ret)
{
	struct err why = { 0 };
	char text[64];
	uint64_t got = 0;
	int r;

	if (n->kind != YAML_SCALAR || n->text.len >= sizeof(text))
		return agent_bad(c, n, "is no number");
	(void)snprintf(text, sizeof(text), "%.*s", (int)n->text.len, (const char *)n->text.at);
	r = size ? units_parse_size(text, &got, &why)
	         : units_parse_count(text, min, max, &got, &why);
	if (r < 0)
		return agent_fault(c, n, "%s", why.text);
	*ret = got;
	return 0;
}

int agent_size(struct agent_ctx *c, const struct yaml_node *n, uint64_t *ret)
{
	enum { SIZE_MIN = 64 << 20 }; /* below it no guest of ours boots */
	uint64_t got = 0;
	int r = number(c, n, true, 0, 0, &got);

	if (r < 0)
		return r;
	if (got < SIZE_MIN)
		return agent_bad(c, n, "is less than 64MiB, which no guest starts with");
	*ret = got;
	return 0;
}

int agent_count(struct agent_ctx *c, const struct yaml_node *n, uint64_t min, uint64_t max,
                uint64_t *ret)
{
	return number(c, n, false, min, max, ret);
}

/* --- rules and secrets, written anew in one line --- */

static void put_yaml(struct buf *b, const struct yaml_node *n);

static void put_children(struct buf *b, const struct yaml_node *n)
{
	bool value = false;

	for (const struct yaml_node *c = n->first; c; c = c->next) {
		put_yaml(b, c);
		if (n->kind == YAML_MAP && !value)
			buf_put_str(b, ": ");
		else if (c->next)
			buf_put_str(b, ", ");
		value = !value;
	}
}

/* A quoted scalar of YAML takes the escapes of JSON. Its depth has a maximum: the tree has one. */
static void put_yaml(struct buf *b, const struct yaml_node *n) // NOLINT(misc-no-recursion)
{
	if (n->kind != YAML_SCALAR) {
		buf_put_str(b, n->kind == YAML_MAP ? "{ " : "[ ");
		put_children(b, n);
		buf_put_str(b, n->kind == YAML_MAP ? " }" : " ]");
	} else if (n->plain && (span_is(n->text, "true") || span_is(n->text, "false"))) {
		buf_put_span(b, n->text);
	} else {
		buf_put_json_str(b, n->text);
	}
}

static int name_of(struct agent_ctx *c, const struct yaml_node *n, const char **ret)
{
	for (const struct yaml_node *k = n->first; k; k = k->next->next)
		if (span_is(k->text, "name"))
			return agent_text(c, k->next, ret);
	return agent_fault(c, n, "the secret has no name");
}

int agent_items_of(struct agent_ctx *c, const struct yaml_node *n, bool names,
                   struct agent_items *ret)
{
	_own_free_ char *room = malloc(ITEM_MAX);
	unsigned count = yaml_count(n);
	struct agent_item *at;
	unsigned i = 0;

	if (n->kind != YAML_LIST)
		return agent_fault(c, n, "a list belongs here, of mappings as in berm-policy(5)");
	if (count > (names ? AGENT_SECRETS_MAX : AGENT_RULES_MAX))
		return agent_fault(c, n, "over %d items",
		                   names ? AGENT_SECRETS_MAX : AGENT_RULES_MAX);
	at = agent_room(c->a, (count + 1) * sizeof(*at));
	if (!at || !room)
		return err_set(c->e, -ENOMEM, "out of memory");
	for (const struct yaml_node *item = n->first; item; item = item->next, i++) {
		struct buf b;
		int r = 0;

		if (item->kind != YAML_MAP)
			return agent_bad(c, item, "is no mapping as in berm-policy(5)");
		buf_init(&b, room, ITEM_MAX);
		put_yaml(&b, item);
		if (!buf_ok(&b))
			return agent_fault(c, item, "over %d bytes", ITEM_MAX);
		at[i] = (struct agent_item){ agent_keep(c->a, buf_span(&b)), "", c->source,
			                     item->line };
		if (names)
			r = name_of(c, item, &at[i].name);
		if (r < 0)
			return r;
		if (!at[i].text)
			return err_set(c->e, -ENOMEM, "out of memory");
	}
	*ret = (struct agent_items){ at, count };
	return 0;
}
