#include "cli/egress/egress.h"

#include "base/fdio.h"
#include "base/log.h"
#include "lib/registries.h"
#include "lib/secret_source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LABEL_MAX = POLICY_ORIGIN_MAX - 16 }; /* room for a line and a column behind it */

void egress_init(struct egress *g)
{
	*g = (struct egress){ .presets_fd = -1 };
}

void egress_fini(struct egress *g)
{
	policy_draft_free(g->draft);
	free(g->tlv);
	free(g->typed);
	for (unsigned i = 0; i < g->values_count; i++)
		(void)close(g->values[i].fd);
	if (g->presets_fd >= 0)
		(void)close(g->presets_fd);
}

/* The first flag makes the draft; without presets there is still a policy. */
int egress_begin(struct egress *g, struct cli *c, struct err *e)
{
	char path[PATH_MAX + 16];
	int r;

	if (g->draft)
		return 0;
	r = cli_paths(c, e);
	if (r < 0)
		return r;
	(void)snprintf(path, sizeof(path), "%s/egress", c->paths.share);
	if (fd_open(path, O_RDONLY | O_DIRECTORY, 0, &g->presets_fd, NULL) < 0)
		g->presets_fd = -1;
	return policy_draft_new(policy_preset_dir, &g->presets_fd, &g->draft, e);
}

/* As it was given, or the file's own name where that is too long for the ids of rules. */
static const char *label_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (strcmp(path, "-") == 0)
		return "stdin";
	return strlen(path) > LABEL_MAX && slash ? slash + 1 : path;
}

static int take_stdin(struct egress *g, struct err *e)
{
	int r = g->typed ? 0
	                 : fd_read_text(STDIN_FILENO, POLICY_FILE_MAX, &g->typed, &g->typed_len, e);

	if (r < 0)
		return err_wrap(e, "the policy from stdin");
	return policy_draft_file(g->draft, label_of("-"), span_of(g->typed, g->typed_len), e);
}

int egress_take_file(struct egress *g, struct cli *c, const char *path, struct err *e)
{
	_own_free_ char *text = NULL;
	_own_fd_ int fd = -1;
	size_t len = 0;
	int r = egress_begin(g, c, e);

	if (r < 0)
		return r;
	if (strcmp(path, "-") == 0)
		return take_stdin(g, e);
	r = fd_open(path, O_RDONLY | O_NOCTTY, 0, &fd, e);
	if (r == -ENOENT)
		return err_set(e, r,
		               "there is no policy file '%.200s': write one ('version: 1' alone "
		               "denies everything; man 5 berm-policy), or use flags, as --preset "
		               "standard",
		               path);
	if (r < 0)
		return r;
	r = fd_read_text(fd, POLICY_FILE_MAX, &text, &len, e);
	if (r < 0)
		return err_wrap(e, "the policy file '%.200s'", path);
	return policy_draft_file(g->draft, label_of(path), span_of(text, len), e);
}

static int take_port(struct egress *g, const char *value, struct err *e)
{
	int r;

	if (g->ports_count == EGRESS_PORTS_MAX)
		return err_set(e, -E2BIG, "-p: at most %d ports", EGRESS_PORTS_MAX);
	r = publish_parse(value, &g->ports[g->ports_count], e);
	g->ports_count += r == 0;
	return r < 0 ? err_wrap(e, "-p") : 0;
}

int egress_take(struct egress *g, struct cli *c, const struct arg *o, struct err *e)
{
	int r;

	if (o->id == EGRESS_PUBLISH)
		return take_port(g, o->value, e);
	r = egress_begin(g, c, e);
	if (r < 0)
		return r;
	switch (o->id) {
	case EGRESS_ALLOW:
		return policy_draft_allow(g->draft, o->value, e);
	case EGRESS_DENY:
		return policy_draft_deny(g->draft, o->value, e);
	case EGRESS_PRESET:
		return policy_draft_preset(g->draft, o->value, e);
	case EGRESS_SECRET:
		return policy_draft_secret(g->draft, o->value, e);
	default:
		return egress_take_file(g, c, o->value, e);
	}
}

int egress_compile(const struct egress *g, uint8_t **ret_tlv, size_t *ret_len,
                   struct policy **ret_policy, struct err *e)
{
	_own_free_ uint8_t *tlv = NULL;
	size_t len = 0;
	int r = policy_draft_compile(g->draft, 1, &tlv, &len, e);

	if (r == 0 && ret_policy)
		r = policy_load(span_of(tlv, len), ret_policy, e);
	if (r < 0)
		return r;
	*ret_tlv = steal_ptr(&tlv);
	*ret_len = len;
	return 0;
}

static int retake(struct egress *g, struct cli *c, const struct args *a, const char *file,
                  const struct strings *hosts, struct err *e)
{
	int r;

	policy_draft_free(steal_ptr(&g->draft));
	(void)close(steal_fd(&g->presets_fd));
	r = egress_begin(g, c, e);
	if (r == 0)
		r = policy_draft_slot(g->draft, "registries", (const char *const *)hosts->items,
		                      (unsigned)hosts->count, e);
	for (size_t i = 0; r == 0 && i < a->opt_count; i++)
		if (egress_is_opt(a->opts[i].id) && a->opts[i].id != EGRESS_PUBLISH)
			r = egress_take(g, c, &a->opts[i], e);
	return r == 0 && file ? egress_take_file(g, c, file, e) : r;
}

void egress_say_registries(const struct strings *hosts, const struct image_meta *meta)
{
	if (hosts->count == 0)
		log_warn(
			"the preset 'registries' opens nothing: neither the image nor --env says "
			"where packages come from (PIP_INDEX_URL, NPM_CONFIG_REGISTRY, GOPROXY, ...; "
			"see berm-egress(7)); an image that an older berm imported has to be "
			"imported again");
	else if (meta && !meta->registries[0] && !image_label(&meta->config, "berm.registries"))
		log_info("the preset 'registries' opens only what variables name: the image's own "
		         "files name none, or an older berm imported it (import it again then)");
}

int egress_take_registries(struct egress *g, struct cli *c, const struct args *a, const char *file,
                           const char *const *env, const struct image_meta *meta, struct err *e)
{
	const char *slot = g->draft ? policy_draft_unfilled(g->draft) : NULL;
	struct strings hosts;
	int r;

	if (!slot || strcmp(slot, "registries") != 0)
		return 0;
	strings_init(&hosts, POLICY_SLOT_HOSTS_MAX);
	r = registries_find(&hosts, env, meta, e);
	if (r == 0 && hosts.count > 0)
		r = retake(g, c, a, file, &hosts, e);
	if (r == 0)
		egress_say_registries(&hosts, meta);
	strings_fini(&hosts);
	return r;
}

/* The value of a secret that comes from a variable, or NULL. */
static const char *variable_of(const struct policy_source *s)
{
	char name[POLICY_SECRET_NAME_MAX + 1];
	const char *value;

	if (s->from != SECRET_ENV || s->what.len >= sizeof(name))
		return NULL;
	memcpy(name, s->what.at, s->what.len);
	name[s->what.len] = '\0';
	value = getenv(name);
	return value && strlen(value) >= SECRET_VALUE_MIN ? value : NULL;
}

static int check_one(const struct policy_source *s, const char *var, struct err *e)
{
	const char *is = strchr(var, '=');
	const char *value = variable_of(s);
	size_t len = is ? (size_t)(is - var) : 0;

	if (is && strlen(s->name) == len && memcmp(var, s->name, len) == 0)
		return err_set(e, -EINVAL,
		               "--env %s: it is the name of a secret, whose placeholder the guest "
		               "has there; leave it away",
		               s->name);
	if (is && value && strstr(is + 1, value))
		return err_set(
			e, -EINVAL,
			"--env %.*s: the value of the secret %s is in it, and would be in the "
			"guest; leave it away",
			(int)len, var, s->name);
	return 0;
}

int egress_check_env(const struct egress *g, const char *const *env, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && g->draft && i < policy_draft_secrets(g->draft); i++) {
		struct policy_source s = policy_draft_source(g->draft, i);

		for (size_t k = 0; r == 0 && env && env[k]; k++)
			r = check_one(&s, env[k], e);
	}
	return r;
}

void egress_say_workspace(const struct egress *g)
{
	char where[POLICY_ORIGIN_MAX + 16];
	const char *by = g->draft ? policy_draft_skips_cost(g->draft) : NULL;

	if (g->draft && policy_draft_excludes(g->draft) > 0) {
		struct policy_exclude x = policy_draft_exclude(g->draft, 0);

		(void)snprintf(where, sizeof(where), "%.*s:%u", POLICY_ORIGIN_MAX, x.label, x.line);
		by = where;
	}
	if (by)
		log_warn("%s: what a policy says of workspaces counts when berm code packs one; "
		         "it changes nothing here",
		         by);
}

static void warn_note(void *arg, struct span who, const char *what, struct span other)
{
	char room[4 * POLICY_EXPLAIN_MAX];
	struct buf b;

	(void)arg;
	buf_init(&b, room, sizeof(room));
	egress_put_note(&b, who, what, other);
	log_warn("%s", buf_cstr(&b));
}

static bool listed(const json_t *have, const char *name)
{
	for (size_t i = 0; i < json_array_size(have); i++) {
		const char *one = json_string_value(json_array_get(have, i));

		if (one && strcmp(one, name) == 0)
			return true;
	}
	return false;
}

static int read_value(struct egress *g, const struct cli *c, const struct policy_source *s,
                      struct err *e)
{
	struct egress_secret *to = &g->values[g->values_count];
	struct secret_value value;
	int r = secret_source_open(s, c->envp, &value, e);

	if (r < 0)
		return r;
	(void)snprintf(to->name, sizeof(to->name), "%s", s->name);
	to->fd = value.fd;
	g->values_count++;
	/* a variable has none, and a file nearly always */
	if (value.trimmed)
		log_debug("the secret %s: the line break at its end is left out", s->name);
	return 0;
}

static void warn_ports(const struct egress *g)
{
	for (unsigned i = 0; i < g->ports_count; i++) {
		char room[PUBLISH_TEXT_MAX];
		struct buf b;

		if (publish_is_local(&g->ports[i]))
			continue;
		buf_init(&b, room, sizeof(room));
		publish_put(&b, &g->ports[i]);
		log_warn("-p %s: every host that reaches this machine there can connect",
		         buf_cstr(&b));
	}
}

int egress_prepare(struct egress *g, const struct cli *c, const json_t *have, struct err *e)
{
	_own_(policy_free) struct policy *policy = NULL;
	int r = 0;

	if (!c->json)
		warn_ports(g);
	if (!g->draft)
		return 0;
	r = egress_compile(g, &g->tlv, &g->tlv_len, &policy, e);
	for (unsigned i = 0; r == 0 && i < policy_draft_secrets(g->draft); i++) {
		struct policy_source s = policy_draft_source(g->draft, i);

		if (!listed(have, s.name))
			r = read_value(g, c, &s, e);
	}
	if (r < 0)
		return r;
	(void)policy_notes(policy, warn_note, NULL);
	return 0;
}

/* Whoever reads one reads it to its end: each start has a place of its own in the file. */
static int again(int fd, int *ret_fd, struct err *e)
{
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return fd_open(path, O_RDONLY, 0, ret_fd, e);
}

int egress_fill(const struct egress *g, struct egress_plan *plan, struct err *e)
{
	int r = 0;

	if (g->tlv)
		r = egress_plan_policy(plan, span_of(g->tlv, g->tlv_len), e);
	for (unsigned i = 0; r == 0 && i < g->values_count; i++) {
		int fd;

		r = again(g->values[i].fd, &fd, e);
		if (r == 0)
			r = egress_plan_secret(plan, g->values[i].name, fd, e);
	}
	for (unsigned i = 0; r == 0 && i < g->ports_count; i++)
		r = egress_plan_publish(plan, &g->ports[i], e);
	return r;
}

static const char *const source_words[] = {
	[SECRET_ENV] = "variable",
	[SECRET_FILE] = "file",
	[SECRET_COMMAND] = "command",
	[SECRET_KEYRING] = "keyring",
};

/* A command's words, which have a NUL behind each, with blanks between them. */
static void put_what(struct buf *b, const struct policy_source *s, bool json)
{
	char room[POLICY_SOURCE_MAX];
	size_t len = s->what.len < sizeof(room) ? s->what.len : sizeof(room);

	memcpy(room, s->what.at, len);
	if (s->from == SECRET_COMMAND && len > 0)
		len--;
	for (size_t i = 0; i < len; i++)
		if (room[i] == '\0')
			room[i] = ' ';
	if (json)
		buf_put_json_str(b, span_of(room, len));
	else
		buf_put_escaped(b, span_of(room, len));
}

void egress_put_source(struct buf *b, const struct policy_source *s)
{
	buf_printf(b, "from the %s ", source_words[s->from]);
	put_what(b, s, false);
}

void egress_put_source_json(struct buf *b, const struct policy_source *s)
{
	static const char *const words[] = {
		[SECRET_ENV] = "env",
		[SECRET_FILE] = "file",
		[SECRET_COMMAND] = "command",
		[SECRET_KEYRING] = "keyring",
	};

	buf_printf(b, "\"from\":\"%s\",\"source\":", words[s->from]);
	put_what(b, s, true);
}

void egress_put_note(struct buf *b, struct span who, const char *what, struct span other)
{
	buf_put_escaped(b, who);
	buf_printf(b, " %s ", what);
	buf_put_escaped(b, other);
}

void egress_put_digest(struct buf *b, const struct policy *p)
{
	const uint8_t *digest = policy_digest(p);

	buf_put_str(b, "sha256:");
	for (unsigned i = 0; i < 32; i++)
		buf_printf(b, "%02x", digest[i]);
}
