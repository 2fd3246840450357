/*
 * Theory of operation: the file comes out of the workspace, so whoever wrote what is in there may
 * have written it. It is read as strictly as a profile, first whole and into a struct of its own;
 * then each thing it says is compared with the profile and taken only if it is less. A key that
 * could only widen is no mistake in the file but a refusal of ours: it is noted, and the rest of
 * the file holds.
 */
#include "agents/agent_internal.h"

#include "base/fdio.h"
#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What the file asks for; 0 and NULL: nothing. */
struct agent_narrow {
	uint64_t cpus, memory_bytes, disk_bytes;
	unsigned cpus_line, memory_line, disk_line, level_line;
	bool level_given;
	enum agent_level level;
	bool leave_out[AGENT_CATEGORIES];
	unsigned leave_out_line;
	struct agent_words exclude;
	const unsigned *exclude_lines;
	const char *notices[AGENT_NOTICES_MAX + 1];
	unsigned notices_count;
};

/* The last place is for the word that there are more. Text of the file is in it escaped. */
static int note(struct agent *a, struct agent_narrow *n, const char *fmt, ...) _printf_(3, 4);
static int note(struct agent *a, struct agent_narrow *n, const char *fmt, ...)
{
	char text[2 * ERR_TEXT_MAX];
	const char *kept;
	va_list ap;

	if (n->notices_count == AGENT_NOTICES_MAX)
		return 0;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n->notices_count == AGENT_NOTICES_MAX - 1)
		(void)snprintf(text, sizeof(text), AGENT_WORKSPACE_FILE ": more is left out");
	kept = agent_keep(a, span_str(text));
	if (!kept)
		return -ENOMEM;
	n->notices[n->notices_count++] = kept;
	return 0;
}

/* --- reading --- */

static int take_version(struct agent_ctx *c, const struct yaml_node *n)
{
	if (n->kind != YAML_SCALAR || !span_is(n->text, "1"))
		return agent_bad(c, n, "is no version of a workspace's file; there is 1");
	return 0;
}

static int take_cpus(struct agent_ctx *c, const struct yaml_node *n)
{
	c->narrow->cpus_line = n->line;
	return agent_count(c, n, 1, 1000000, &c->narrow->cpus);
}

static int take_memory(struct agent_ctx *c, const struct yaml_node *n)
{
	c->narrow->memory_line = n->line;
	return agent_size(c, n, &c->narrow->memory_bytes);
}

static int take_disk(struct agent_ctx *c, const struct yaml_node *n)
{
	c->narrow->disk_line = n->line;
	return agent_size(c, n, &c->narrow->disk_bytes);
}

/* clang-format off */
static const struct agent_key resource_table[] = {
	{ "cpus", take_cpus }, { "memory", take_memory }, { "disk", take_disk }, { NULL, NULL },
};
/* clang-format on */

static int take_resources(struct agent_ctx *c, const struct yaml_node *n)
{
	return agent_map(c, n, "resources:", resource_table);
}

static int take_egress(struct agent_ctx *c, const struct yaml_node *n)
{
	static const char *const words[] = { "model-only", "locked", "standard", NULL };
	unsigned i;
	int r;

	if (n->kind != YAML_SCALAR)
		return note(c->a, c->narrow,
		            "%s:%u: egress: a workspace may name a narrower level, and no host; it "
		            "is left out",
		            c->label, n->line);
	r = agent_word(c, n, words, "level of egress", &i);
	if (r < 0)
		return r;
	c->narrow->level = (enum agent_level)i;
	c->narrow->level_given = true;
	c->narrow->level_line = n->line;
	return 0;
}

static int take_leave_out(struct agent_ctx *c, const struct yaml_node *n)
{
	if (n->kind != YAML_LIST)
		return agent_fault(c, n, "leave_out: is a list of categories of settings");
	for (const struct yaml_node *item = n->first; item; item = item->next) {
		unsigned i;
		int r = agent_word(c, item, agent_categories, "category of settings", &i);

		if (r < 0)
			return r;
		c->narrow->leave_out[i] = true;
	}
	c->narrow->leave_out_line = n->line;
	return 0;
}

/* A pattern with a '!' in front would bring back what the user keeps out. */
static int take_exclude(struct agent_ctx *c, const struct yaml_node *n)
{
	struct agent_words all;
	const struct yaml_node *item = n->first;
	const char **kept;
	unsigned *lines;
	unsigned count = 0;
	int r = agent_list_of(c, n, AGENT_EXCLUDES_MAX, NULL, &all);

	if (r < 0)
		return r;
	kept = agent_room(c->a, (all.count + 1) * sizeof(*kept));
	lines = agent_room(c->a, (all.count + 1) * sizeof(*lines));
	if (!kept || !lines)
		return err_set(c->e, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < all.count && r == 0; i++, item = item->next) {
		char room[256];
		struct buf b;

		if (all.at[i][0] != '!') {
			lines[count] = item->line;
			kept[count++] = all.at[i];
			continue;
		}
		buf_init(&b, room, sizeof(room));
		buf_put_escaped(&b, span_of(all.at[i], strnlen(all.at[i], 60)));
		r = note(c->a, c->narrow,
		         "%s:%u: exclude: '%s' would bring back what is kept out; it is left out",
		         c->label, item->line, buf_cstr(&b));
	}
	c->narrow->exclude = (struct agent_words){ kept, count };
	c->narrow->exclude_lines = lines;
	return r;
}

/* What a workspace may never say. The key is ours, so it may be shown. */
#define NEVER(function, key)                                                                       \
	static int function(struct agent_ctx *c, const struct yaml_node *n)                        \
	{                                                                                          \
		return note(c->a, c->narrow,                                                       \
		            "%s:%u: " key ": a workspace cannot say this; it is left out",         \
		            c->label, n->line);                                                    \
	}

NEVER(never_image, "image")
NEVER(never_command, "command")
NEVER(never_arguments, "arguments")
NEVER(never_secrets, "secrets")
NEVER(never_network, "network")
NEVER(never_allow, "allow")
NEVER(never_include, "include")
NEVER(never_settings, "settings")
NEVER(never_state, "state")
NEVER(never_environment, "environment")
NEVER(never_heap, "heap")
NEVER(never_agent, "agent")

static const struct agent_key root_table[] = {
	{ "version", take_version },
	{ "resources", take_resources },
	{ "egress", take_egress },
	{ "leave_out", take_leave_out },
	{ "exclude", take_exclude },
	{ "image", never_image },
	{ "command", never_command },
	{ "arguments", never_arguments },
	{ "secrets", never_secrets },
	{ "network", never_network },
	{ "allow", never_allow },
	{ "include", never_include },
	{ "settings", never_settings },
	{ "state", never_state },
	{ "environment", never_environment },
	{ "heap", never_heap },
	{ "agent", never_agent },
	{ NULL, NULL },
};

/* --- taking what is less --- */

struct limit {
	const char *name;
	enum agent_field field;
	uint64_t *have;
	uint64_t want;
	unsigned line;
	bool size;
};

static void put_number(struct buf *b, const struct limit *l, uint64_t n)
{
	if (l->size)
		units_put_size(b, n);
	else
		buf_printf(b, "%llu", (unsigned long long)n);
}

static int lower(struct agent *a, struct agent_narrow *n, const struct limit *l, struct err *e)
{
	char want[64];
	char have[64];
	struct buf b;
	struct buf h;

	if (l->want == 0)
		return 0;
	if (l->want <= *l->have) {
		if (l->want == *l->have)
			return 0;
		*l->have = l->want;
		return agent_origin(a, l->field, AGENT_WORKSPACE_FILE, l->line, e);
	}
	buf_init(&b, want, sizeof(want));
	put_number(&b, l, l->want);
	buf_init(&h, have, sizeof(have));
	put_number(&h, l, *l->have);
	return note(a, n,
	            AGENT_WORKSPACE_FILE
	            ":%u: %s: %s is more than %s, and a workspace cannot raise "
	            "it; it is left out",
	            l->line, l->name, buf_cstr(&b), buf_cstr(&h));
}

static int lower_level(struct agent *a, struct agent_narrow *n, struct err *e)
{
	if (!n->level_given || n->level == a->level)
		return 0;
	if (n->level > a->level)
		return note(a, n,
		            AGENT_WORKSPACE_FILE
		            ":%u: egress: %s is wider than %s, and a workspace "
		            "cannot widen it; it is left out",
		            n->level_line, agent_level_word(n->level), agent_level_word(a->level));
	a->level = n->level;
	return agent_origin(a, AGENT_F_EGRESS, AGENT_WORKSPACE_FILE, n->level_line, e);
}

static bool left_out(const struct agent_narrow *n, const char *category)
{
	for (unsigned i = 0; i < AGENT_CATEGORIES; i++)
		if (n->leave_out[i] && strcmp(agent_categories[i], category) == 0)
			return true;
	return false;
}

static int leave_out(struct agent *a, const struct agent_narrow *n, struct err *e)
{
	struct agent_setting *at;
	unsigned count = 0;

	if (n->leave_out_line == 0)
		return 0;
	at = agent_room(a, (a->settings_count + 1) * sizeof(*at));
	if (!at)
		return err_set(e, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < a->settings_count; i++)
		if (!left_out(n, a->settings[i].category))
			at[count++] = a->settings[i];
	a->settings = at;
	a->settings_count = count;
	return agent_origin(a, AGENT_F_SETTINGS, AGENT_WORKSPACE_FILE, n->leave_out_line, e);
}

static int take_less(struct agent *a, struct agent_narrow *n, struct err *e)
{
	const struct limit limits[] = {
		{ "cpus", AGENT_F_CPUS, &a->cpus, n->cpus, n->cpus_line, false },
		{ "memory", AGENT_F_MEMORY, &a->memory_bytes, n->memory_bytes, n->memory_line,
		  true },
		{ "disk", AGENT_F_DISK, &a->disk_bytes, n->disk_bytes, n->disk_line, true },
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(limits) / sizeof(limits[0]); i++)
		r = lower(a, n, &limits[i], e);
	if (r == 0)
		r = lower_level(a, n, e);
	if (r == 0)
		r = leave_out(a, n, e);
	if (r == 0 && n->exclude.count > 0) {
		a->exclude = n->exclude;
		a->exclude_lines = n->exclude_lines;
	}
	return r;
}

static int keep_notices(struct agent *a, const struct agent_narrow *n, struct err *e)
{
	const char **at = agent_room(a, sizeof(n->notices));

	if (!at)
		return err_set(e, -ENOMEM, "out of memory");
	memcpy(at, n->notices, sizeof(n->notices));
	a->notices = (struct agent_words){ at, n->notices_count };
	return 0;
}

/* The file as a whole is no good: nothing of it holds. */
static int put_aside(struct agent *a, struct agent_narrow *n, const char *why, struct err *e)
{
	char room[2 * ERR_TEXT_MAX];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	buf_put_escaped(&b, span_str(why));
	*n = (struct agent_narrow){ .notices_count = 0 };
	if (note(a, n, "%s; the whole file is left out", buf_cstr(&b)) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	return keep_notices(a, n, e);
}

int agent_tighten_text(struct agent *a, struct span text, struct err *e)
{
	_own_free_ struct agent_narrow *n = calloc(1, sizeof(*n));
	struct err why = { 0 };
	struct agent_ctx c = { .a = a, .label = AGENT_WORKSPACE_FILE, .e = &why, .narrow = n };
	int r;

	if (!n)
		return err_set(e, -ENOMEM, "out of memory");
	r = agent_read(&c, text, "a workspace's file", root_table);
	if (r == -ENOMEM)
		return err_set(e, r, "out of memory");
	if (r < 0)
		return put_aside(a, n, why.text, e);
	r = take_less(a, n, e);
	if (r == -ENOMEM)
		return err_set(e, r, "out of memory");
	return r < 0 ? r : keep_notices(a, n, e);
}

int agent_tighten(struct agent *a, int workspace_fd, struct err *e)
{
	_own_free_ struct agent_narrow *n = calloc(1, sizeof(*n));
	_own_free_ char *text = NULL;
	struct err why = { 0 };
	size_t len;
	int fd;
	int r;

	if (!n)
		return err_set(e, -ENOMEM, "out of memory");
	r = fd_open_beneath(workspace_fd, AGENT_WORKSPACE_FILE, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0,
	                    RESOLVE_NO_SYMLINKS, &fd, &why);
	if (r == -ENOENT)
		return 0;
	if (r == -ELOOP)
		return put_aside(a, n, AGENT_WORKSPACE_FILE ": is a link, and no regular file", e);
	if (r < 0)
		return put_aside(a, n, why.text, e);
	if (agent_read_fd(fd, AGENT_WORKSPACE_FILE, &text, &len, &why) < 0)
		return put_aside(a, n, why.text, e);
	return agent_tighten_text(a, span_of(text, len), e);
}
