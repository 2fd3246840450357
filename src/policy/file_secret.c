#include "policy/file_internal.h"

#include "policy/secret.h"

#include <string.h>

static int take_checked(struct file_ctx *c, const struct yaml_node *n,
                        const char *(*judge)(struct span), struct span *ret)
{
	const char *why;

	if (n->kind != YAML_SCALAR)
		return file_bad(c, n, "");
	why = judge(n->text);
	if (why)
		return file_bad(c, n, why);
	*ret = n->text;
	return 0;
}

static int take_name(struct file_ctx *c, const struct yaml_node *n)
{
	return take_checked(c, n, secret_name_fault, &c->secret->name);
}

static int take_host(struct file_ctx *c, const struct yaml_node *n)
{
	struct policy_secret *s = c->secret;

	if (s->hosts_count == POLICY_SECRET_HOSTS_MAX)
		return file_fault(c, n, "more than %d hosts", POLICY_SECRET_HOSTS_MAX);
	return file_host(c, n, &s->hosts[s->hosts_count++]);
}

static int take_hosts(struct file_ctx *c, const struct yaml_node *n)
{
	if (n->kind == YAML_LIST && !n->first)
		return file_fault(c, n,
		                  "no host; a secret without hosts would be of no use, or of any");
	return file_each(c, n, "hosts", take_host);
}

static int take_port(struct file_ctx *c, const struct yaml_node *n)
{
	return file_ports(c, n, c->secret->ports, &c->secret->ports_count);
}

static int new_use(struct file_ctx *c, const struct yaml_node *n, enum secret_place place)
{
	struct policy_secret *s = c->secret;

	if (s->uses_count == POLICY_SECRET_USES_MAX)
		return file_fault(c, n, "more than %d places", POLICY_SECRET_USES_MAX);
	c->use = &s->uses[s->uses_count++];
	*c->use = (struct secret_use){ .place = (uint8_t)place };
	return 0;
}

static int take_header_name(struct file_ctx *c, const struct yaml_node *n)
{
	struct span name = { 0 };
	int r = take_checked(c, n, secret_header_fault, &name);

	/* each use has a room of its own for the name as it is compared */
	if (r == 0)
		c->use->name = secret_header_lower(name, c->header_room[c->use - c->secret->uses]);
	return r;
}

static int take_prefix(struct file_ctx *c, const struct yaml_node *n)
{
	return take_checked(c, n, secret_prefix_fault, &c->use->prefix);
}

static const struct file_key header_keys[] = {
	{ "name", take_header_name },
	{ "prefix", take_prefix },
	{ NULL, NULL },
};

static int one_header(struct file_ctx *c, const struct yaml_node *n)
{
	int r = new_use(c, n, SECRET_HEADER);

	if (r < 0)
		return r;
	if (n->kind == YAML_SCALAR)
		return take_header_name(c, n);
	r = file_map(c, n, "header:", header_keys);
	if (r == 0 && c->use->name.len == 0)
		return file_fault(c, n, "header: has no name");
	return r;
}

static int take_header(struct file_ctx *c, const struct yaml_node *n)
{
	return file_each(c, n, "headers", one_header);
}

static int take_basic(struct file_ctx *c, const struct yaml_node *n)
{
	static const char *const words[] = { "user", "password", NULL };
	unsigned i;
	int r = file_word(c, n, words, &i);

	return r < 0 ? r : new_use(c, n, i == 0 ? SECRET_BASIC_USER : SECRET_BASIC_PASSWORD);
}

static int take_query(struct file_ctx *c, const struct yaml_node *n)
{
	int r = new_use(c, n, SECRET_QUERY);

	return r < 0 ? r : take_checked(c, n, secret_parameter_fault, &c->use->name);
}

static int take_method(struct file_ctx *c, const struct yaml_node *n)
{
	return file_methods(c, n, &c->secret->methods);
}

static int one_path(struct file_ctx *c, const struct yaml_node *n)
{
	struct policy_secret *s = c->secret;

	if (s->paths_count == POLICY_SECRET_PATHS_MAX)
		return file_fault(c, n, "more than %d paths", POLICY_SECRET_PATHS_MAX);
	return file_path(c, n, &s->paths[s->paths_count++]);
}

static int take_path(struct file_ctx *c, const struct yaml_node *n)
{
	return file_each(c, n, "paths", one_path);
}

static int take_violation(struct file_ctx *c, const struct yaml_node *n)
{
	static const char *const words[] = { "refuse", "kill", NULL };
	unsigned i;
	int r = file_word(c, n, words, &i);

	if (r == 0)
		c->secret->flags = i == 1 ? SECRET_KILL : 0;
	return r;
}

static int set_from(struct file_ctx *c, const struct yaml_node *n, enum secret_from from)
{
	if (c->from_what.at)
		return file_fault(c, n, "from: has one source, not two");
	c->from = from;
	return take_checked(c, n, secret_source_fault, &c->from_what);
}

static int take_env(struct file_ctx *c, const struct yaml_node *n)
{
	const char *why = n->kind == YAML_SCALAR ? secret_name_fault(n->text) : NULL;

	return why ? file_bad(c, n, "is no variable's name") : set_from(c, n, SECRET_ENV);
}

static int take_file(struct file_ctx *c, const struct yaml_node *n)
{
	return set_from(c, n, SECRET_FILE);
}

static int take_keyring(struct file_ctx *c, const struct yaml_node *n)
{
	return set_from(c, n, SECRET_KEYRING);
}

/* Words, never a line for a shell. */
static int take_command(struct file_ctx *c, const struct yaml_node *n)
{
	struct buf b;

	if (n->kind != YAML_LIST || !n->first)
		return file_fault(c, n, "command: is a list of words: [pass, show, token]");
	if (c->from_what.at)
		return file_fault(c, n, "from: has one source, not two");
	buf_init(&b, c->from_room, sizeof(c->from_room));
	for (const struct yaml_node *item = n->first; item; item = item->next) {
		if (item->kind != YAML_SCALAR)
			return file_bad(c, item, "");
		buf_put_span(&b, item->text);
		buf_put_u8(&b, 0);
	}
	if (!buf_ok(&b) || c->from_room[0] == 0)
		return file_fault(c, n, "a command of 1 to %d bytes", POLICY_SOURCE_MAX);
	c->from = SECRET_COMMAND;
	c->from_what = buf_span(&b);
	return 0;
}

static const struct file_key from_keys[] = {
	{ "env", take_env },         { "file", take_file }, { "command", take_command },
	{ "keyring", take_keyring }, { NULL, NULL },
};

static int take_from(struct file_ctx *c, const struct yaml_node *n)
{
	if (n->kind == YAML_MAP)
		return file_map(c, n, "from:", from_keys);
	if (n->kind == YAML_SCALAR && span_is(n->text, "env"))
		return 0;
	return file_bad(
		c, n,
		"is no source; write env, or { env: NAME }, { file: PATH }, { command: [...] }, { keyring: ITEM }");
}

static const struct file_key secret_keys[] = {
	{ "name", take_name },
	{ "from", take_from },
	{ "hosts", take_hosts },
	{ "port", take_port },
	{ "header", take_header },
	{ "basic", take_basic },
	{ "query", take_query },
	{ "method", take_method },
	{ "path", take_path },
	{ "on_violation", take_violation },
	{ NULL, NULL },
};

int file_secret(struct file_ctx *c, const struct yaml_node *n)
{
	struct policy_secret *s = c->secret;
	int r;

	memset(s, 0, sizeof(*s));
	s->methods = METHODS_ANY;
	c->from = SECRET_ENV;
	c->from_what = (struct span){ 0 };
	file_origin(c, n);
	s->origin = span_str(c->origin);
	r = file_map(c, n, "a secret", secret_keys);
	if (r < 0)
		return r;
	if (s->name.len == 0)
		return file_fault(c, n, "the secret has no name");
	if (s->hosts_count == 0)
		return file_fault(c, n, "the secret has no hosts: it may be sent to none");
	secret_default_uses(s);
	if (c->from_what.len == 0)
		c->from_what = s->name;
	r = draft_add_secret(c->d, s, c->from, c->from_what, c->e);
	return r < 0 ? err_wrap(c->e, "%s:%u:%u", c->label, n->line, n->column) : 0;
}
