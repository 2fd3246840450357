/*
 * Theory of operation: a file is first a tree of bounded size (yaml_tree), then each mapping is
 * walked with a table of the keys it may have; a key in no table is an error. A field of a file
 * replaces that field of the file below it whole, so what a profile says in one place is never
 * mixed from two. Rules and secrets are kept as the policy reader's own words, and judged by it.
 */
#include "agents/agent_internal.h"

#include "policy/secret.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const char *const agent_categories[AGENT_CATEGORIES + 1] = {
	"settings", "instructions", "rules", "agents",  "skills",
	"commands", "prompts",      "tools", "plugins", "themes",
};

static int from_here(struct agent_ctx *c, enum agent_field f, const struct yaml_node *n)
{
	return agent_origin(c->a, f, c->label, n->line, c->e);
}

/* --- what a word may be --- */

const char *agent_path_fault(const char *path)
{
	struct span rest = span_str(path);
	struct span part;

	if (rest.len == 0 || rest.len > 255 || path[rest.len - 1] == '/')
		return "is no path of 1 to 255 bytes";
	if (path[0] == '/' || path[0] == '~')
		return "is not beneath the home directory; write it without what stands in front";
	while (take_until(&rest, '/', &part))
		if (part.len == 0 || span_is(part, ".") || span_is(part, ".."))
			return "has an empty part, '.' or '..' in it";
	return NULL;
}

const char *agent_variable_fault(const char *name)
{
	if (secret_name_fault(span_str(name)))
		return "is no variable's name";
	if (strncmp(name, "BERM_", 5) == 0)
		return "begins with BERM_, which is berm's own";
	return NULL;
}

static const char *forward_fault(const char *name)
{
	const char *why = agent_variable_fault(name);

	if (!why && settings_parse_secret_key(span_str(name)))
		return "looks like a credential; those go under secrets:, so that the guest gets a "
		       "placeholder";
	return why;
}

/* What a package manager would take for an option, a path or an address is no name. */
static const char *package_fault(const char *name)
{
	static const char others[] = "@/._+-=:~<>";

	if (name[0] == '-' || name[0] == '/' || name[0] == '.')
		return "is no package's name";
	for (const char *at = name; *at; at++)
		if (!((*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') ||
		      (*at >= '0' && *at <= '9') || strchr(others, *at)))
			return "is no package's name";
	return strstr(name, "://") ? "is an address; a package's name belongs here" : NULL;
}

/* --- fields --- */

static int take_version(struct agent_ctx *c, const struct yaml_node *n)
{
	if (n->kind != YAML_SCALAR || !span_is(n->text, "1"))
		return agent_bad(c, n, "is no version of an agent's profile; there is 1");
	return 0;
}

#define TEXT(name, field, member)                                                                  \
	static int take_##name(struct agent_ctx *c, const struct yaml_node *n)                     \
	{                                                                                          \
		int r = agent_text(c, n, &c->a->member);                                           \
                                                                                                   \
		return r < 0 ? r : from_here(c, field, n);                                         \
	}

#define LIST(name, field, member, judge)                                                           \
	static int take_##name(struct agent_ctx *c, const struct yaml_node *n)                     \
	{                                                                                          \
		int r = agent_list_of(c, n, AGENT_WORDS_MAX, judge, &c->a->member);                \
                                                                                                   \
		return r < 0 ? r : from_here(c, field, n);                                         \
	}

#define ITEMS(name, field, member, names)                                                          \
	static int take_##name(struct agent_ctx *c, const struct yaml_node *n)                     \
	{                                                                                          \
		int r = agent_items_of(c, n, names, &c->a->member);                                \
                                                                                                   \
		return r < 0 ? r : from_here(c, field, n);                                         \
	}

#define COUNT(name, field, member, min, max)                                                       \
	static int take_##name(struct agent_ctx *c, const struct yaml_node *n)                     \
	{                                                                                          \
		int r = agent_count(c, n, min, max, &c->a->member);                                \
                                                                                                   \
		return r < 0 ? r : from_here(c, field, n);                                         \
	}

#define SIZE(name, field, member)                                                                  \
	static int take_##name(struct agent_ctx *c, const struct yaml_node *n)                     \
	{                                                                                          \
		int r = agent_size(c, n, &c->a->member);                                           \
                                                                                                   \
		return r < 0 ? r : from_here(c, field, n);                                         \
	}

TEXT(description, AGENT_F_DESCRIPTION, description)
LIST(apt, AGENT_F_APT, apt, package_fault)
LIST(npm, AGENT_F_NPM, npm, package_fault)
LIST(pip, AGENT_F_PIP, pip, package_fault)
LIST(interactive, AGENT_F_INTERACTIVE, interactive, NULL)
LIST(login, AGENT_F_LOGIN, login, NULL)
ITEMS(secrets, AGENT_F_SECRETS, secrets, true)
ITEMS(model_only, AGENT_F_MODEL_ONLY, rules[AGENT_MODEL_ONLY], false)
ITEMS(locked, AGENT_F_LOCKED, rules[AGENT_LOCKED], false)
ITEMS(standard, AGENT_F_STANDARD, rules[AGENT_STANDARD], false)
LIST(forward, AGENT_F_FORWARD, forward, forward_fault)
COUNT(cpus, AGENT_F_CPUS, cpus, 1, AGENT_CPUS_MAX)
SIZE(memory, AGENT_F_MEMORY, memory_bytes)
SIZE(disk, AGENT_F_DISK, disk_bytes)
COUNT(node, AGENT_F_NODE, node_percent, 1, 95)
COUNT(go, AGENT_F_GO, go_percent, 1, 95)

/* The store knows names better; what could be a path or an option is told with its line. */
static int take_base(struct agent_ctx *c, const struct yaml_node *n)
{
	int r = agent_text(c, n, &c->a->base);

	if (r == 0 && (package_fault(c->a->base) || strstr(c->a->base, "..")))
		return agent_bad(c, n, "is no image's name");
	return r < 0 ? r : from_here(c, AGENT_F_BASE, n);
}

static int take_command(struct agent_ctx *c, const struct yaml_node *n)
{
	int r = agent_list_of(c, n, AGENT_WORDS_MAX, NULL, &c->a->command);

	if (r == 0 && c->a->command.count == 0)
		return agent_fault(c, n, "the command has no word");
	return r < 0 ? r : from_here(c, AGENT_F_COMMAND, n);
}

static int take_task(struct agent_ctx *c, const struct yaml_node *n)
{
	unsigned seen = 0;
	int r = agent_list_of(c, n, AGENT_WORDS_MAX, NULL, &c->a->task);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < c->a->task.count; i++)
		seen += strcmp(c->a->task.at[i], "{task}") == 0;
	if (seen != 1)
		return agent_fault(c, n, "one word of it has to be \"{task}\"");
	return from_here(c, AGENT_F_TASK, n);
}

static int take_state(struct agent_ctx *c, const struct yaml_node *n)
{
	int r = agent_list_of(c, n, AGENT_STATE_MAX, agent_path_fault, &c->a->state);

	return r < 0 ? r : from_here(c, AGENT_F_STATE, n);
}

static int take_level(struct agent_ctx *c, const struct yaml_node *n)
{
	static const char *const words[] = { "model-only", "locked", "standard", NULL };
	unsigned i;
	int r = agent_word(c, n, words, "level of egress", &i);

	if (r < 0)
		return r;
	c->a->level = (enum agent_level)i;
	return from_here(c, AGENT_F_EGRESS, n);
}

static int take_set(struct agent_ctx *c, const struct yaml_node *n)
{
	unsigned count = yaml_count(n);
	struct agent_pair *at;
	unsigned i = 0;

	if (n->kind != YAML_MAP)
		return agent_fault(c, n, "set: is a mapping: NAME: value");
	if (count > AGENT_ENV_MAX)
		return agent_fault(c, n, "over %d variables", AGENT_ENV_MAX);
	at = agent_room(c->a, (count + 1) * sizeof(*at));
	if (!at)
		return err_set(c->e, -ENOMEM, "out of memory");
	for (const struct yaml_node *k = n->first; k; k = k->next->next, i++) {
		int r = agent_text(c, k, &at[i].name);
		const char *why = r == 0 ? agent_variable_fault(at[i].name) : NULL;

		if (r == 0 && why)
			return agent_bad(c, k, why);
		if (r == 0)
			r = agent_text(c, k->next, &at[i].value);
		if (r < 0)
			return r;
		if (settings_parse_secret_value(span_str(at[i].value)))
			return agent_fault(c, k->next,
			                   "looks like a credential; name it under secrets:, and "
			                   "its value stays on the host");
	}
	c->a->set = at;
	c->a->set_count = count;
	return from_here(c, AGENT_F_SET, n);
}

/* --- settings --- */

static int setting_path(struct agent_ctx *c, const struct yaml_node *n)
{
	int r = agent_text(c, n, &c->setting->path);
	const char *why = r == 0 ? agent_path_fault(c->setting->path) : NULL;

	if (r == 0 && !why && settings_parse_secret_path(span_str(c->setting->path)))
		why = "is where credentials usually are, and no setting; a service's key belongs "
		      "under secrets:, and never enters the guest";
	return why ? agent_bad(c, n, why) : r;
}

static int setting_category(struct agent_ctx *c, const struct yaml_node *n)
{
	unsigned i;
	int r = agent_word(c, n, agent_categories, "category of settings", &i);

	if (r == 0)
		c->setting->category = agent_categories[i];
	return r;
}

static int setting_format(struct agent_ctx *c, const struct yaml_node *n)
{
	static const char *const words[] = { "text", "json", "jsonc", "toml", "folder", NULL };
	unsigned i;
	int r = agent_word(c, n, words, "format of settings", &i);

	if (r == 0)
		c->setting->format = (enum settings_format)i;
	return r;
}

static const char *key_fault(const char *key)
{
	return settings_parse_secret_key(span_str(key)) ? "looks like a credential's name" : NULL;
}

static int setting_keys(struct agent_ctx *c, const struct yaml_node *n)
{
	return agent_list_of(c, n, AGENT_WORDS_MAX, key_fault, &c->setting->keys);
}

static const struct agent_key setting_table[] = {
	{ "path", setting_path },
	{ "category", setting_category },
	{ "format", setting_format },
	{ "keys", setting_keys },
	{ NULL, NULL },
};

static int take_setting(struct agent_ctx *c, const struct yaml_node *n)
{
	struct agent_setting *s = c->setting;
	bool keyed;
	int r;

	s->format = SETTINGS_FORMATS;
	r = agent_map(c, n, "an entry of settings", setting_table);
	if (r < 0)
		return r;
	if (!s->path || !s->category || s->format == SETTINGS_FORMATS)
		return agent_fault(c, n, "an entry of settings has path, category and format");
	keyed = s->format == SETTINGS_JSON || s->format == SETTINGS_JSONC ||
	        s->format == SETTINGS_TOML;
	if (keyed && s->keys.count == 0)
		return agent_fault(c, n, "%s needs keys: the ones that may enter",
		                   settings_format_word(s->format));
	if (!keyed && s->keys.at)
		return agent_fault(c, n, "keys are for json, jsonc and toml");
	return 0;
}

static int take_settings(struct agent_ctx *c, const struct yaml_node *n)
{
	unsigned count = yaml_count(n);
	struct agent_setting *at;
	unsigned i = 0;

	if (n->kind != YAML_LIST)
		return agent_fault(c, n, "settings: is a list");
	if (count > AGENT_SETTINGS_MAX)
		return agent_fault(c, n, "over %d items", AGENT_SETTINGS_MAX);
	at = agent_room(c->a, (count + 1) * sizeof(*at));
	if (!at)
		return err_set(c->e, -ENOMEM, "out of memory");
	for (const struct yaml_node *item = n->first; item; item = item->next) {
		int r;

		c->setting = &at[i++];
		r = take_setting(c, item);
		if (r < 0)
			return r;
	}
	c->a->settings = at;
	c->a->settings_count = count;
	return from_here(c, AGENT_F_SETTINGS, n);
}

/* --- tables --- */

/* clang-format off */
static const struct agent_key package_table[] = {
	{ "apt", take_apt }, { "npm", take_npm }, { "pip", take_pip }, { NULL, NULL },
};
/* clang-format on */

static int take_packages(struct agent_ctx *c, const struct yaml_node *n)
{
	return agent_map(c, n, "packages:", package_table);
}

static const struct agent_key image_table[] = {
	{ "base", take_base },
	{ "packages", take_packages },
	{ NULL, NULL },
};

static int take_image(struct agent_ctx *c, const struct yaml_node *n)
{
	return agent_map(c, n, "image:", image_table);
}

static const struct agent_key argument_table[] = {
	{ "interactive", take_interactive },
	{ "task", take_task },
	{ "login", take_login },
	{ NULL, NULL },
};

static int take_arguments(struct agent_ctx *c, const struct yaml_node *n)
{
	return agent_map(c, n, "arguments:", argument_table);
}

static const struct agent_key egress_table[] = {
	{ "default", take_level },
	{ "model-only", take_model_only },
	{ "locked", take_locked },
	{ "standard", take_standard },
	{ NULL, NULL },
};

static int take_egress(struct agent_ctx *c, const struct yaml_node *n)
{
	return agent_map(c, n, "egress:", egress_table);
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

static const struct agent_key environment_table[] = {
	{ "set", take_set },
	{ "forward", take_forward },
	{ NULL, NULL },
};

static int take_environment(struct agent_ctx *c, const struct yaml_node *n)
{
	return agent_map(c, n, "environment:", environment_table);
}

static const struct agent_key heap_table[] = {
	{ "node", take_node },
	{ "go", take_go },
	{ NULL, NULL },
};

static int take_heap(struct agent_ctx *c, const struct yaml_node *n)
{
	return agent_map(c, n, "heap:", heap_table);
}

static const struct agent_key root_table[] = {
	{ "version", take_version },
	{ "description", take_description },
	{ "image", take_image },
	{ "command", take_command },
	{ "arguments", take_arguments },
	{ "secrets", take_secrets },
	{ "egress", take_egress },
	{ "settings", take_settings },
	{ "state", take_state },
	{ "resources", take_resources },
	{ "environment", take_environment },
	{ "heap", take_heap },
	{ NULL, NULL },
};

int agent_read(struct agent_ctx *c, struct span text, const char *what,
               const struct agent_key *keys)
{
	_own_(yaml_tree_free) struct yaml_tree *tree = NULL;
	bool version = false;
	const struct yaml_node *root;
	int r = yaml_tree_parse(c->label, text, &tree, c->e);

	if (r < 0)
		return r;
	root = yaml_root(tree);
	for (const struct yaml_node *k = root->kind == YAML_MAP ? root->first : NULL; k;
	     k = k->next->next)
		version |= span_is(k->text, "version");
	if (root->kind == YAML_MAP && !version)
		return agent_fault(c, root, "no version; %s begins with version: 1", what);
	return agent_map(c, root, what, keys);
}

int agent_take(struct agent *a, const char *label, unsigned source, struct span text, struct err *e)
{
	struct agent_ctx c = { .a = a, .label = label, .source = source, .e = e };

	return agent_read(&c, text, "an agent's profile", root_table);
}
