/*
 * Theory of operation: the file is first a tree of bounded size (yaml_tree), then each mapping is
 * walked with a table of the keys it may have. A key in no table is an error, and so is one that
 * berm does not yet enforce: a policy that is read in part would be a promise broken in silence.
 * Rules and secrets go into the draft in packed form at once, so nothing of the tree outlives the
 * call.
 */
#include "policy/file_internal.h"

#include "base/units.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int take_version(struct file_ctx *c, const struct yaml_node *n)
{
	if (n->kind != YAML_SCALAR || !span_is(n->text, "1"))
		return file_bad(c, n, "is no version of the policy file; there is 1");
	return 0;
}

static int take_default(struct file_ctx *c, const struct yaml_node *n)
{
	static const char *const words[] = { "deny", "allow", NULL };
	unsigned i;
	int r = file_word(c, n, words, &i);

	if (r < 0)
		return r;
	file_origin(c, n);
	return draft_set_default(c->d, i == 1, c->origin, c->preset, c->e);
}

/* An empty list is no mistake: it denies. */
static int take_items(struct file_ctx *c, const struct yaml_node *n, const char *what,
                      int (*take)(struct file_ctx *c, const struct yaml_node *item))
{
	if (n->kind != YAML_LIST)
		return file_fault(c, n, "%s is a list", what);
	return n->first ? file_each(c, n, what, take) : 0;
}

static int take_rules(struct file_ctx *c, const struct yaml_node *n)
{
	return take_items(c, n, "rules:", file_rule);
}

static const struct file_key network_keys[] = {
	{ "default", take_default },
	{ "rules", take_rules },
	{ NULL, NULL },
};

static int take_network(struct file_ctx *c, const struct yaml_node *n)
{
	return file_map(c, n, "network:", network_keys);
}

static int take_secrets(struct file_ctx *c, const struct yaml_node *n)
{
	if (c->preset)
		return file_fault(c, n,
		                  "a preset has no secrets; they are for the user's own policy");
	return take_items(c, n, "secrets:", file_secret);
}

/* A size above zero, or a count. */
static int take_limit(struct file_ctx *c, const struct yaml_node *n, bool size, uint64_t *ret)
{
	char text[64];
	struct err why = { 0 };
	struct span s;
	uint64_t got;
	int r = file_scalar(c, n, &s);

	if (r < 0)
		return r;
	(void)snprintf(text, sizeof(text), "%.*s", (int)(s.len > 60 ? 60 : s.len),
	               (const char *)s.at);
	if (size)
		r = units_parse_size(text, &got, &why);
	else
		r = units_parse_count(text, 1, 1000000, &got, &why);
	if (r < 0)
		return file_fault(c, n, "%s", why.text);
	if (got == 0)
		return file_fault(c, n, "a limit of 0; leave the key out, or use default: deny");
	*ret = got;
	return 0;
}

#define LIMIT(key, field, size)                                                                    \
	static int take_##key(struct file_ctx *c, const struct yaml_node *n)                       \
	{                                                                                          \
		return take_limit(c, n, size, &c->d->limits.field);                                \
	}

LIMIT(egress, egress_bytes, true)
LIMIT(upload, upload_bytes, true)
LIMIT(bandwidth, bandwidth_bytes, true)
LIMIT(connections, connections, false)
LIMIT(host_connections, host_connections, false)
LIMIT(connection_rate, connection_rate, false)
LIMIT(dns_rate, dns_rate, false)

static const struct file_key limit_keys[] = {
	{ "egress", take_egress },
	{ "upload", take_upload },
	{ "bandwidth", take_bandwidth },
	{ "connections", take_connections },
	{ "host_connections", take_host_connections },
	{ "connection_rate", take_connection_rate },
	{ "dns_rate", take_dns_rate },
	{ "cpus", NULL },
	{ "memory", NULL },
	{ "disk", NULL },
	{ "pids", NULL },
	{ "time", NULL },
	{ "idle", NULL },
	{ NULL, NULL },
};

static int take_limits(struct file_ctx *c, const struct yaml_node *n)
{
	return file_map(c, n, "limits:", limit_keys);
}

/* A pattern that names nothing, or would take something back, is a promise that is not kept. */
static int take_exclude(struct file_ctx *c, const struct yaml_node *n)
{
	struct span s;
	int r = file_scalar(c, n, &s);

	if (r < 0)
		return r;
	if (s.len > POLICY_EXCLUDE_MAX)
		return file_fault(c, n, "a pattern of over %d bytes", POLICY_EXCLUDE_MAX);
	for (size_t i = 0; i < s.len; i++)
		if (s.at[i] < ' ' || s.at[i] == 0x7f)
			return file_bad(c, n, "has a control character: a pattern is one line");
	if (s.at[0] == '!')
		return file_bad(c, n,
		                "would bring back what stays out; a policy only keeps out more");
	if (s.at[0] == '#')
		return file_bad(c, n, "is a comment in .gitignore; a name begins with \\#");
	while (s.len > 0 && (s.at[s.len - 1] == ' ' || s.at[s.len - 1] == '/'))
		s.len--;
	if (s.len == 0)
		return file_bad(c, n, "names nothing");
	r = draft_add_exclude(c->d, n->text, c->label, n->line, c->e);
	if (r == -EFBIG)
		return file_fault(c, n, "more than %d patterns", POLICY_EXCLUDES_MAX);
	return r;
}

static int take_excludes(struct file_ctx *c, const struct yaml_node *n)
{
	return take_items(c, n, "exclude:", take_exclude);
}

static int take_skip_cost(struct file_ctx *c, const struct yaml_node *n)
{
	bool on = false;
	int r = file_bool(c, n, &on);

	if (r < 0 || !on || c->d->skip_cost_by[0])
		return r;
	file_origin(c, n);
	(void)snprintf(c->d->skip_cost_by, sizeof(c->d->skip_cost_by), "%s", c->origin);
	return 0;
}

static const struct file_key workspace_keys[] = {
	{ "exclude", take_excludes },
	{ "skip_cost", take_skip_cost },
	{ "review", NULL },
	{ NULL, NULL },
};

static int take_workspace(struct file_ctx *c, const struct yaml_node *n)
{
	return file_map(c, n, "workspace:", workspace_keys);
}

static const struct file_key root_keys[] = {
	{ "version", take_version },
	{ "network", take_network },
	{ "secrets", take_secrets },
	{ "limits", take_limits },
	{ "isolation", NULL },
	{ "filesystem", NULL },
	{ "workspace", take_workspace },
	{ "audit", NULL },
	{ "decision", NULL },
	{ NULL, NULL },
};

static const struct file_key preset_keys[] = {
	{ "version", take_version },
	{ "network", take_network },
	{ NULL, NULL },
};

static bool has_version(const struct yaml_node *root)
{
	if (root->kind != YAML_MAP)
		return true; /* which file_map says better */
	for (const struct yaml_node *k = root->first; k; k = k->next->next)
		if (span_is(k->text, "version"))
			return true;
	return false;
}

static int read_root(struct file_ctx *c, const struct yaml_node *root)
{
	if (!has_version(root))
		return file_fault(c, root, "no version; a policy begins with version: 1");
	return file_map(c, root, c->preset ? "a preset" : "a policy file",
	                c->preset ? preset_keys : root_keys);
}

int file_take(struct policy_draft *d, const char *label, bool preset, struct span text,
              struct err *e)
{
	_own_(yaml_tree_free) struct yaml_tree *tree = NULL;
	_own_free_ struct policy_rule *rule = NULL;
	_own_free_ struct policy_secret *secret = NULL;
	_own_free_ struct file_ctx *c = calloc(1, sizeof(*c));
	int r;

	rule = calloc(1, sizeof(*rule));
	secret = calloc(1, sizeof(*secret));
	if (!c || !rule || !secret)
		return err_set(e, -ENOMEM, "out of memory");
	r = yaml_tree_parse(label, text, &tree, e);
	if (r < 0)
		return r;
	*c = (struct file_ctx){ .d = d, .label = label, .preset = preset, .e = e };
	c->rule = rule;
	c->secret = secret;
	return read_root(c, yaml_root(tree));
}
