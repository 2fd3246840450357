#include "agents/agent_internal.h"

#include "base/units.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { MIB_BYTES = 1 << 20 };

/* How a field is shown. */
enum shape { TEXT, WORDS, ITEMS, LEVEL, COUNT, SIZE, SETTINGS, PAIRS };

struct row {
	const char *name;
	enum shape shape;
	size_t at; /* of the member in struct agent */
};

/* clang-format off */
static const struct row rows[AGENT_FIELDS] = {
	[AGENT_F_DESCRIPTION] = { "description", TEXT, offsetof(struct agent, description) },
	[AGENT_F_BASE] = { "image.base", TEXT, offsetof(struct agent, base) },
	[AGENT_F_APT] = { "image.packages.apt", WORDS, offsetof(struct agent, apt) },
	[AGENT_F_NPM] = { "image.packages.npm", WORDS, offsetof(struct agent, npm) },
	[AGENT_F_PIP] = { "image.packages.pip", WORDS, offsetof(struct agent, pip) },
	[AGENT_F_COMMAND] = { "command", WORDS, offsetof(struct agent, command) },
	[AGENT_F_INTERACTIVE] = { "arguments.interactive", WORDS, offsetof(struct agent, interactive) },
	[AGENT_F_TASK] = { "arguments.task", WORDS, offsetof(struct agent, task) },
	[AGENT_F_LOGIN] = { "arguments.login", WORDS, offsetof(struct agent, login) },
	[AGENT_F_SECRETS] = { "secrets", ITEMS, offsetof(struct agent, secrets) },
	[AGENT_F_EGRESS] = { "egress.default", LEVEL, offsetof(struct agent, level) },
	[AGENT_F_MODEL_ONLY] = { "egress.model-only", ITEMS, offsetof(struct agent, rules[AGENT_MODEL_ONLY]) },
	[AGENT_F_LOCKED] = { "egress.locked", ITEMS, offsetof(struct agent, rules[AGENT_LOCKED]) },
	[AGENT_F_STANDARD] = { "egress.standard", ITEMS, offsetof(struct agent, rules[AGENT_STANDARD]) },
	[AGENT_F_SETTINGS] = { "settings", SETTINGS, 0 },
	[AGENT_F_STATE] = { "state", WORDS, offsetof(struct agent, state) },
	[AGENT_F_CPUS] = { "resources.cpus", COUNT, offsetof(struct agent, cpus) },
	[AGENT_F_MEMORY] = { "resources.memory", SIZE, offsetof(struct agent, memory_bytes) },
	[AGENT_F_DISK] = { "resources.disk", SIZE, offsetof(struct agent, disk_bytes) },
	[AGENT_F_SET] = { "environment.set", PAIRS, 0 },
	[AGENT_F_FORWARD] = { "environment.forward", WORDS, offsetof(struct agent, forward) },
	[AGENT_F_NODE] = { "heap.node", COUNT, offsetof(struct agent, node_percent) },
	[AGENT_F_GO] = { "heap.go", COUNT, offsetof(struct agent, go_percent) },
};
/* clang-format on */

const char *agent_field_name(enum agent_field f)
{
	return rows[f].name;
}

static const void *member(const struct agent *a, const struct row *r)
{
	return (const char *)a + r->at;
}

static const char *text_of(const struct agent *a, const struct row *r)
{
	const char *text;

	memcpy(&text, member(a, r), sizeof(text));
	return text;
}

/* --- for people --- */

static void put_words(struct buf *b, const struct agent_words *w)
{
	for (unsigned i = 0; i < w->count; i++) {
		bool quoted = strpbrk(w->at[i], " \"'") != NULL;

		buf_put_str(b, i > 0 ? " " : "");
		buf_put_str(b, quoted ? "'" : "");
		buf_put_escaped(b, span_str(w->at[i]));
		buf_put_str(b, quoted ? "'" : "");
	}
}

static void put_items(struct buf *b, const struct agent_items *l)
{
	for (unsigned i = 0; i < l->count; i++) {
		buf_put_str(b, i > 0 ? "\n" : "");
		buf_put_escaped(b, span_str(l->at[i].text));
	}
}

static void put_settings(struct buf *b, const struct agent *a)
{
	for (unsigned i = 0; i < a->settings_count; i++) {
		const struct agent_setting *s = &a->settings[i];

		buf_put_str(b, i > 0 ? "\n" : "");
		buf_put_escaped(b, span_str(s->path));
		buf_printf(b, " (%s, %s)", s->category, settings_format_word(s->format));
		buf_put_str(b, s->keys.count ? ": " : "");
		put_words(b, &s->keys);
	}
}

static void put_pairs(struct buf *b, const struct agent *a)
{
	for (unsigned i = 0; i < a->set_count; i++) {
		buf_printf(b, "%s%s=", i > 0 ? "\n" : "", a->set[i].name);
		buf_put_escaped(b, span_str(a->set[i].value));
	}
}

void agent_put_field(const struct agent *a, enum agent_field f, struct buf *b)
{
	const struct row *r = &rows[f];
	uint64_t n;

	switch (r->shape) {
	case TEXT:
		buf_put_escaped(b, span_str(text_of(a, r)));
		break;
	case WORDS:
		put_words(b, member(a, r));
		break;
	case ITEMS:
		put_items(b, member(a, r));
		break;
	case LEVEL:
		buf_put_str(b, agent_level_word(a->level));
		break;
	case COUNT:
	case SIZE:
		memcpy(&n, member(a, r), sizeof(n));
		if (r->shape == SIZE)
			units_put_size(b, n);
		else if (n > 0)
			buf_printf(b, "%llu", (unsigned long long)n);
		break;
	case SETTINGS:
		put_settings(b, a);
		break;
	case PAIRS:
		put_pairs(b, a);
		break;
	}
}

/* --- for programs --- */

static void json_words(struct buf *b, const struct agent_words *w)
{
	buf_put_str(b, "[");
	for (unsigned i = 0; i < w->count; i++) {
		buf_put_str(b, i > 0 ? "," : "");
		buf_put_json_str(b, span_str(w->at[i]));
	}
	buf_put_str(b, "]");
}

static void json_items(struct buf *b, const struct agent_items *l)
{
	buf_put_str(b, "[");
	for (unsigned i = 0; i < l->count; i++) {
		buf_put_str(b, i > 0 ? "," : "");
		buf_put_json_str(b, span_str(l->at[i].text));
	}
	buf_put_str(b, "]");
}

static void json_settings(struct buf *b, const struct agent *a)
{
	buf_put_str(b, "[");
	for (unsigned i = 0; i < a->settings_count; i++) {
		const struct agent_setting *s = &a->settings[i];

		buf_put_str(b, i > 0 ? ",{\"path\":" : "{\"path\":");
		buf_put_json_str(b, span_str(s->path));
		buf_printf(b, ",\"category\":\"%s\",\"format\":\"%s\",\"keys\":", s->category,
		           settings_format_word(s->format));
		json_words(b, &s->keys);
		buf_put_str(b, "}");
	}
	buf_put_str(b, "]");
}

static void json_pairs(struct buf *b, const struct agent *a)
{
	buf_put_str(b, "{");
	for (unsigned i = 0; i < a->set_count; i++) {
		buf_put_str(b, i > 0 ? "," : "");
		buf_put_json_str(b, span_str(a->set[i].name));
		buf_put_str(b, ":");
		buf_put_json_str(b, span_str(a->set[i].value));
	}
	buf_put_str(b, "}");
}

void agent_put_field_json(const struct agent *a, enum agent_field f, struct buf *b)
{
	const struct row *r = &rows[f];
	uint64_t n;

	switch (r->shape) {
	case TEXT:
		buf_put_json_str(b, span_str(text_of(a, r)));
		break;
	case WORDS:
		json_words(b, member(a, r));
		break;
	case ITEMS:
		json_items(b, member(a, r));
		break;
	case LEVEL:
		buf_printf(b, "\"%s\"", agent_level_word(a->level));
		break;
	case COUNT:
	case SIZE:
		memcpy(&n, member(a, r), sizeof(n));
		buf_printf(b, "%llu", (unsigned long long)n);
		break;
	case SETTINGS:
		json_settings(b, a);
		break;
	case PAIRS:
		json_pairs(b, a);
		break;
	}
}

/* --- the guest's variables --- */

void agent_environment_free(char **list)
{
	for (size_t i = 0; list && list[i]; i++)
		free(list[i]);
	free(list);
}

OWN_DEFINE(char *, agent_environment_free)

static bool add(char **list, unsigned *count, const char *name, const char *value)
{
	size_t size = strlen(name) + strlen(value) + 2;
	char *text = malloc(size);

	if (!text)
		return false;
	(void)snprintf(text, size, "%s=%s", name, value);
	list[(*count)++] = text;
	return true;
}

int agent_environment(const struct agent *a, uint64_t memory_bytes, char ***ret, struct err *e)
{
	_own_(agent_environment_free) char **list = calloc(a->set_count + 3, sizeof(*list));
	uint64_t memory_mib = memory_bytes / MIB_BYTES;
	char heap[64];
	char text[AGENT_WORD_MAX + sizeof(heap) + 2];
	bool node = false, go = false;
	unsigned count = 0;
	bool ok = list != NULL;

	(void)snprintf(heap, sizeof(heap), "--max-old-space-size=%llu",
	               (unsigned long long)(memory_mib * a->node_percent / 100));
	for (unsigned i = 0; ok && i < a->set_count; i++) {
		const struct agent_pair *p = &a->set[i];
		bool options = a->node_percent > 0 && strcmp(p->name, "NODE_OPTIONS") == 0;

		go |= strcmp(p->name, "GOMEMLIMIT") == 0; /* the profile's own word holds */
		node |= options;
		(void)snprintf(text, sizeof(text), "%s%s%s", p->value, options ? " " : "",
		               options ? heap : "");
		ok = add(list, &count, p->name, text);
	}
	if (ok && a->node_percent > 0 && !node)
		ok = add(list, &count, "NODE_OPTIONS", heap);
	(void)snprintf(heap, sizeof(heap), "%lluMiB",
	               (unsigned long long)(memory_mib * a->go_percent / 100));
	if (ok && a->go_percent > 0 && !go)
		ok = add(list, &count, "GOMEMLIMIT", heap);
	if (!ok)
		return err_set(e, -ENOMEM, "out of memory");
	*ret = steal_ptr(&list);
	return 0;
}
