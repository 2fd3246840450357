#include "policy/yaml_tree.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

enum { NODES_PER_BLOCK = 256 };

struct block {
	struct block *next;
	struct yaml_node nodes[NODES_PER_BLOCK];
};

struct yaml_tree {
	struct block *blocks;
	unsigned nodes_count;
	uint8_t *text; /* of all scalars, one behind the other */
	size_t text_len, text_size;
	const struct yaml_node *root;
};

/* A list or mapping whose end has not been seen. */
struct level {
	struct yaml_node *node;
	struct yaml_node *last; /* its newest child */
	unsigned count;
};

struct reader {
	const char *label;
	struct span text;
	yaml_parser_t parser;
	struct yaml_tree *tree;
	struct level levels[POLICY_DEPTH_MAX];
	unsigned depth;
	unsigned documents;
	struct err *e;
};

static int fault(struct reader *r, const yaml_mark_t *at, const char *what)
{
	return err_set(r->e, -EINVAL, "%s:%zu:%zu: %s", r->label, at->line + 1, at->column + 1,
	               what);
}

static int new_node(struct reader *r, struct yaml_node **ret)
{
	struct yaml_tree *t = r->tree;

	if (t->nodes_count == POLICY_NODES_MAX)
		return err_set(r->e, -EFBIG, "%s: more than %d values", r->label, POLICY_NODES_MAX);
	if (t->nodes_count % NODES_PER_BLOCK == 0) {
		struct block *b = calloc(1, sizeof(*b));

		if (!b)
			return err_set(r->e, -ENOMEM, "out of memory");
		b->next = t->blocks;
		t->blocks = b;
	}
	*ret = &t->blocks->nodes[t->nodes_count++ % NODES_PER_BLOCK];
	return 0;
}

static int keep_text(struct reader *r, const yaml_event_t *ev, struct yaml_node *n)
{
	struct yaml_tree *t = r->tree;
	size_t len = ev->data.scalar.length;

	if (len > POLICY_SCALAR_MAX)
		return fault(r, &ev->start_mark, "a value of over 4096 bytes");
	if (len > 0 && memchr(ev->data.scalar.value, 0, len))
		return fault(r, &ev->start_mark, "a value with a NUL byte");
	if (len > t->text_size - t->text_len)
		return err_set(r->e, -EFBIG, "%s: too much text", r->label);
	if (len > 0)
		memcpy(t->text + t->text_len, ev->data.scalar.value, len);
	n->text = span_of(t->text + t->text_len, len);
	n->plain = ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	t->text_len += len;
	return 0;
}

/* A key is a scalar, and new in its mapping. */
static int judge_key(struct reader *r, const struct level *l, const struct yaml_node *key,
                     const yaml_mark_t *at)
{
	if (key->kind != YAML_SCALAR)
		return fault(r, at, "a key that is no plain word");
	if (l->count / 2 == YAML_KEYS_MAX)
		return fault(r, at, "more than 256 keys");
	for (const struct yaml_node *k = l->node->first; k; k = k->next->next) {
		if (k != key && span_equal(k->text, key->text))
			return err_set(r->e, -EINVAL,
			               "%s:%u:%u: '%.*s' is here twice; first in line %u", r->label,
			               key->line, key->column,
			               (int)(key->text.len > 64 ? 64 : key->text.len),
			               (const char *)key->text.at, k->line);
		if (!k->next)
			break;
	}
	return 0;
}

/* Hangs a node into the open list or mapping, or makes it the root. */
static int attach(struct reader *r, struct yaml_node *n, const yaml_mark_t *at)
{
	struct level *l;

	if (r->depth == 0) {
		r->tree->root = n;
		return 0;
	}
	l = &r->levels[r->depth - 1];
	if (l->last)
		l->last->next = n;
	else
		l->node->first = n;
	l->last = n;
	l->count++;
	if (l->node->kind == YAML_MAP && l->count % 2 == 1)
		return judge_key(r, l, n, at);
	return 0;
}

static int open_level(struct reader *r, struct yaml_node *n, const yaml_mark_t *at)
{
	if (r->depth == POLICY_DEPTH_MAX)
		return fault(r, at, "nested too deeply");
	r->levels[r->depth++] = (struct level){ .node = n };
	return 0;
}

static int take_node(struct reader *r, const yaml_event_t *ev, enum yaml_kind kind,
                     const yaml_char_t *anchor, const yaml_char_t *tag)
{
	struct yaml_node *n;
	int res;

	if (anchor)
		return fault(r, &ev->start_mark, "an anchor (&name); write the value out");
	if (tag)
		return fault(r, &ev->start_mark, "a tag (!name); leave it out");
	res = new_node(r, &n);
	if (res < 0)
		return res;
	n->kind = kind;
	n->line = (unsigned)ev->start_mark.line + 1;
	n->column = (unsigned)ev->start_mark.column + 1;
	if (kind == YAML_SCALAR)
		res = keep_text(r, ev, n);
	if (res == 0)
		res = attach(r, n, &ev->start_mark);
	if (res == 0 && kind != YAML_SCALAR)
		res = open_level(r, n, &ev->start_mark);
	return res;
}

static int take_event(struct reader *r, const yaml_event_t *ev)
{
	switch (ev->type) {
	case YAML_SCALAR_EVENT:
		return take_node(r, ev, YAML_SCALAR, ev->data.scalar.anchor, ev->data.scalar.tag);
	case YAML_SEQUENCE_START_EVENT:
		return take_node(r, ev, YAML_LIST, ev->data.sequence_start.anchor,
		                 ev->data.sequence_start.tag);
	case YAML_MAPPING_START_EVENT:
		return take_node(r, ev, YAML_MAP, ev->data.mapping_start.anchor,
		                 ev->data.mapping_start.tag);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		r->depth--;
		return 0;
	case YAML_ALIAS_EVENT:
		return fault(r, &ev->start_mark,
		             "an alias (*name); write the value out, or quote it");
	case YAML_DOCUMENT_START_EVENT:
		if (r->documents++ > 0)
			return fault(r, &ev->start_mark, "a second document; there may be one");
		return 0;
	case YAML_NO_EVENT:
	case YAML_STREAM_START_EVENT:
	case YAML_STREAM_END_EVENT:
	case YAML_DOCUMENT_END_EVENT:
		break;
	}
	return 0;
}

/* libyaml tells of bytes that are no text by their offset alone. */
static int reader_fault(const struct reader *r, const char *what)
{
	size_t at = r->parser.problem_offset;
	size_t line = 1;
	size_t column = 1;

	for (size_t i = 0; i < at && i < r->text.len; i++) {
		bool ends = r->text.at[i] == '\n';

		line += ends;
		column = ends ? 1 : column + ((r->text.at[i] & 0xc0) != 0x80);
	}
	return err_set(r->e, -EINVAL, "%s:%zu:%zu: %s", r->label, line, column, what);
}

/* What libyaml could not read. */
static int parser_fault(struct reader *r)
{
	const yaml_parser_t *p = &r->parser;

	if (p->error == YAML_MEMORY_ERROR)
		return err_set(r->e, -ENOMEM, "out of memory");
	if (p->error == YAML_READER_ERROR)
		return reader_fault(r, p->problem ? p->problem : "not UTF-8");
	return fault(r, &p->problem_mark, p->problem ? p->problem : "no YAML");
}

static int read_events(struct reader *r)
{
	bool ended = false;
	int res = 0;

	while (!ended && res == 0) {
		yaml_event_t ev;

		if (!yaml_parser_parse(&r->parser, &ev))
			return parser_fault(r);
		ended = ev.type == YAML_STREAM_END_EVENT;
		res = take_event(r, &ev);
		yaml_event_delete(&ev);
	}
	if (res == 0 && !r->tree->root)
		return err_set(r->e, -EINVAL, "%s: is empty; it begins with version: 1", r->label);
	return res;
}

int yaml_tree_parse(const char *label, struct span text, struct yaml_tree **ret, struct err *e)
{
	_own_(yaml_tree_free) struct yaml_tree *t = NULL;
	struct reader r = { .label = label, .text = text, .e = e };
	int res;

	if (text.len > POLICY_FILE_MAX)
		return err_set(e, -EFBIG, "%s: over %d bytes", label, POLICY_FILE_MAX);
	t = calloc(1, sizeof(*t));
	if (!t)
		return err_set(e, -ENOMEM, "out of memory");
	/* an escape of two bytes becomes three at most */
	t->text_size = 2 * text.len + 64;
	t->text = malloc(t->text_size);
	if (!t->text || !yaml_parser_initialize(&r.parser))
		return err_set(e, -ENOMEM, "out of memory");
	r.tree = t;
	yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&r.parser, text.at, text.len);
	res = read_events(&r);
	yaml_parser_delete(&r.parser);
	if (res < 0)
		return res;
	*ret = steal_ptr(&t);
	return 0;
}

void yaml_tree_free(struct yaml_tree *t)
{
	if (!t)
		return;
	while (t->blocks) {
		struct block *b = t->blocks;

		t->blocks = b->next;
		free(b);
	}
	free(t->text);
	free(t);
}

const struct yaml_node *yaml_root(const struct yaml_tree *t)
{
	return t->root;
}

unsigned yaml_count(const struct yaml_node *n)
{
	unsigned count = 0;

	for (const struct yaml_node *c = n->first; c; c = c->next)
		count++;
	return n->kind == YAML_MAP ? count / 2 : count;
}
