#include "policy/file_internal.h"

#include "policy/glob.h"
#include "policy/idn.h"
#include "policy/ports.h"
#include "policy/words.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
	SHOWN_MAX = 80, /* bytes of a wrong value in a message */
	KEYS_MAX = 24,  /* of any mapping */
};

int file_fault(struct file_ctx *c, const struct yaml_node *at, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return err_set(c->e, -EINVAL, "%s:%u:%u: %s", c->label, at->line, at->column, text);
}

/* A value as it may be shown on a terminal. */
static const char *shown(struct buf *b, struct span text)
{
	bool cut = text.len > SHOWN_MAX;

	buf_put_escaped(b, cut ? span_of(text.at, SHOWN_MAX) : text);
	if (cut)
		buf_put_str(b, "...");
	return buf_cstr(b);
}

int file_bad(struct file_ctx *c, const struct yaml_node *at, const char *what)
{
	char room[4 * SHOWN_MAX + 8];
	struct buf b;

	if (at->kind != YAML_SCALAR)
		return file_fault(c, at, "a %s where one value belongs",
		                  at->kind == YAML_LIST ? "list" : "mapping");
	buf_init(&b, room, sizeof(room));
	return file_fault(c, at, "'%s' %s", shown(&b, at->text), what);
}

static int unknown_key(struct file_ctx *c, const struct yaml_node *key, const char *what,
                       const struct file_key *keys)
{
	const char *words[KEYS_MAX + 1] = { NULL };
	char text[128];
	const char *near;

	for (unsigned i = 0; keys[i].name && i < KEYS_MAX; i++)
		words[i] = keys[i].name;
	near = words_nearest(key->text, words);
	if (near)
		(void)snprintf(text, sizeof(text), "is no key of %s; did you mean '%s'?", what,
		               near);
	else
		(void)snprintf(text, sizeof(text), "is no key of %s", what);
	return file_bad(c, key, text);
}

int file_map(struct file_ctx *c, const struct yaml_node *n, const char *what,
             const struct file_key *keys)
{
	if (n->kind != YAML_MAP)
		return file_fault(c, n, "%s is a mapping: key: value", what);
	for (const struct yaml_node *k = n->first; k; k = k->next->next) {
		const struct file_key *row = keys;
		int r;

		while (row->name && !span_is(k->text, row->name))
			row++;
		if (!row->name)
			return unknown_key(c, k, what, keys);
		if (!row->take)
			return file_bad(
				c, k,
				"is not supported in a policy file yet; berm would not enforce it");
		r = row->take(c, k->next);
		if (r < 0)
			return r;
	}
	return 0;
}

int file_each(struct file_ctx *c, const struct yaml_node *n, const char *what,
              int (*take)(struct file_ctx *c, const struct yaml_node *item))
{
	if (n->kind != YAML_LIST)
		return take(c, n);
	if (!n->first)
		return file_fault(c, n, "an empty list of %s; leave the key out to mean any", what);
	for (const struct yaml_node *item = n->first; item; item = item->next) {
		int r = take(c, item);

		if (r < 0)
			return r;
	}
	return 0;
}

int file_scalar(struct file_ctx *c, const struct yaml_node *n, struct span *ret)
{
	if (n->kind != YAML_SCALAR)
		return file_bad(c, n, "");
	if (n->text.len == 0)
		return file_fault(c, n, "an empty value");
	*ret = n->text;
	return 0;
}

int file_bool(struct file_ctx *c, const struct yaml_node *n, bool *ret)
{
	bool yes = span_is(n->text, "true");

	if (n->kind != YAML_SCALAR || !n->plain || (!yes && !span_is(n->text, "false")))
		return file_bad(c, n, "is neither true nor false");
	*ret = yes;
	return 0;
}

int file_word(struct file_ctx *c, const struct yaml_node *n, const char *const *words,
              unsigned *ret)
{
	char room[256];
	struct buf b;
	const char *near;

	for (unsigned i = 0; n->kind == YAML_SCALAR && words[i]; i++) {
		if (span_is(n->text, words[i])) {
			*ret = i;
			return 0;
		}
	}
	near = n->kind == YAML_SCALAR ? words_nearest(n->text, words) : NULL;
	buf_init(&b, room, sizeof(room));
	if (near) {
		buf_printf(&b, "is unknown; did you mean '%s'?", near);
	} else {
		buf_put_str(&b, "is unknown; it is one of");
		for (unsigned i = 0; words[i]; i++)
			buf_printf(&b, "%s %s", i > 0 ? "," : "", words[i]);
	}
	return file_bad(c, n, buf_cstr(&b));
}

int file_host(struct file_ctx *c, const struct yaml_node *n, struct host_pattern *ret)
{
	struct err why = { 0 };
	int r;

	if (n->kind != YAML_SCALAR)
		return file_bad(c, n, "");
	r = idn_pattern_parse(n->text, ret, &why);
	if (r == -ENOMEM)
		return err_set(c->e, -ENOMEM, "out of memory");
	return r < 0 ? file_bad(c, n, why.text) : 0;
}

int file_ports(struct file_ctx *c, const struct yaml_node *n, struct rule_ports *ports,
               uint8_t *count)
{
	const struct yaml_node *item = n->kind == YAML_LIST ? n->first : n;

	if (!item)
		return file_fault(c, n, "an empty list of ports");
	for (; item; item = n->kind == YAML_LIST ? item->next : NULL) {
		struct rule_ports got;

		if (item->kind != YAML_SCALAR || !ports_take(item->text, &got))
			return file_bad(
				c, item,
				"is no port; write one from 1 to 65535, or a range: 8000-8010");
		if (!ports_add(ports, count, got))
			return file_fault(c, item, "more than %d port ranges", POLICY_PORTS_MAX);
	}
	return 0;
}

int file_path(struct file_ctx *c, const struct yaml_node *n, struct span *ret)
{
	const char *why;

	if (n->kind != YAML_SCALAR)
		return file_bad(c, n, "");
	if (glob_parse_path(n->text, &why) < 0)
		return file_bad(c, n, why);
	*ret = n->text;
	return 0;
}

static int one_method(struct file_ctx *c, const struct yaml_node *n, uint64_t *ret)
{
	const char *words[METHODS_COUNT + 4] = { "read-only", "write", "any" };
	uint64_t got = n->kind == YAML_SCALAR ? method_word(n->text) : 0;
	char text[96] = "is no method; write one such as GET, or read-only, write, any";
	const char *near;

	*ret |= got;
	if (got)
		return 0;
	for (unsigned i = 0; i < METHODS_COUNT; i++)
		words[i + 3] = method_name(i);
	near = n->kind == YAML_SCALAR ? words_nearest(n->text, words) : NULL;
	if (near)
		(void)snprintf(text, sizeof(text), "is no method; did you mean %s?", near);
	return file_bad(c, n, text);
}

int file_methods(struct file_ctx *c, const struct yaml_node *n, uint64_t *ret)
{
	const struct yaml_node *item = n->kind == YAML_LIST ? n->first : n;
	uint64_t got = 0;

	if (!item)
		return file_fault(c, n, "an empty list of methods; leave the key out to mean any");
	for (; item; item = n->kind == YAML_LIST ? item->next : NULL) {
		int r = one_method(c, item, &got);

		if (r < 0)
			return r;
	}
	*ret = got;
	return 0;
}

void file_origin(struct file_ctx *c, const struct yaml_node *n)
{
	(void)snprintf(c->origin, sizeof(c->origin), "%s:%u", c->label, n->line);
}
