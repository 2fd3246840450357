#include "cli/code/code.h"

#include "base/log.h"
#include "base/units.h"
#include "cli/agent/agent_image.h"
#include "image/store.h"
#include "lib/registries.h"
#include "lib/secret_source.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int set_var(struct strings *env, const char *name, const char *value, struct err *e)
{
	_own_free_ char *text = NULL;

	if (asprintf(&text, "%s=%s", name, value) < 0) {
		text = NULL;
		return err_set(e, -ENOMEM, "out of memory");
	}
	return strings_set_env(env, text, strlen(text), e);
}

/* --- the image --- */

/* What `berm agent build` made of the profile; the profile's base, if it adds nothing to that. */
static int find_image(struct code *k, struct image_store *store, struct err *e)
{
	_own_free_ struct agent_image *i = calloc(1, sizeof(*i));
	int r = i ? agent_image_look(store, k->c->state_fd, k->agent, i, e)
	          : err_set(e, -ENOMEM, "out of memory");

	if (r < 0)
		return r;
	if (i->is == AGENT_IMAGE_MISSING && agent_image_is_built(k->agent))
		return err_set(e, -ENOENT,
		               "agent '%s' has no image yet: 'berm agent build %s' makes it, and "
		               "--image IMAGE takes one that has it already",
		               k->agent->name, k->agent->name);
	if (i->is == AGENT_IMAGE_RECIPE || i->is == AGENT_IMAGE_OLDBASE)
		log_warn("%s", i->why);
	(void)snprintf(k->image, sizeof(k->image), "%s", i->ref);
	return 0;
}

static int take_image(struct code *k, struct err *e)
{
	_own_(image_store_free) struct image_store *store = NULL;
	struct run *run = &k->run;
	int r = image_store_open(k->c->state_fd, k->c->paths.share, &store, e);

	if (r == 0)
		r = find_image(k, store, e);
	if (r == 0)
		r = image_open(store, k->image, &run->opened, e);
	if (r < 0)
		return r;
	run->spec.image = run->image = k->image;
	run->spec.image_id = run->opened->meta->id;
	run->disk_fd = run->opened->disk_fd;
	if (run->opened->meta->config.user && *run->opened->meta->config.user >= '0' &&
	    *run->opened->meta->config.user <= '9')
		run->spec.user = run->opened->meta->config.user;
	else
		run->spec.user = "root"; /* who owns what is packed, and the guest is its own */
	return run_merge_warm(run, &run->opened->meta->config, e);
}

/* --- the command --- */

static int add_task_word(struct strings *argv, const char *word, const char *task, struct err *e)
{
	if (task && strcmp(word, "{task}") == 0)
		word = task;
	return strings_add(argv, word, strlen(word), e);
}

static int take_command(struct code *k, struct err *e)
{
	const struct agent *a = k->agent;
	const struct agent_words *more = k->opt.task ? &a->task : &a->interactive;
	const char *const *words = k->opt.command ? k->opt.command : a->command.at;
	struct strings *argv = &k->run.argv;
	int r = 0;

	if (k->opt.task && !k->opt.command && a->task.count == 0)
		return err_set(e, -EINVAL,
		               "agent '%s' does not say how it is given a task: name a command "
		               "behind '--', which has it as {task} and in BERM_TASK",
		               a->name);
	for (; r == 0 && *words; words++)
		r = add_task_word(argv, *words, k->opt.task, e);
	for (unsigned i = 0; r == 0 && !k->opt.command && i < more->count; i++)
		r = add_task_word(argv, more->at[i], k->opt.task, e);
	k->run.spec.argv = (const char *const *)argv->items;
	return r < 0 ? err_wrap(e, "the command") : 0;
}

/* --- what it may reach --- */

static bool has_file(const char *path, const char *home)
{
	char full[PATH_MAX];

	if (strncmp(path, "~/", 2) != 0)
		return access(path, R_OK) == 0;
	(void)snprintf(full, sizeof(full), "%.2000s/%.2000s", home ? home : "", path + 2);
	return access(full, R_OK) == 0;
}

/* Is there a value? A command and the keyring are asked when it starts. */
static bool has_value(const struct code *k, const struct policy_source *s)
{
	_own_free_ char *what = strndup((const char *)s->what.at, s->what.len);
	const char *got;

	if (!what)
		return false;
	switch (s->from) {
	case SECRET_ENV:
		got = cli_env(k->c, what);
		return got && *got;
	case SECRET_FILE:
		return has_file(what, cli_env(k->c, "HOME"));
	case SECRET_COMMAND:
	case SECRET_KEYRING:
		break;
	}
	return true;
}

static int find_secrets(struct code *k, struct err *e)
{
	_own_(policy_draft_free) struct policy_draft *d = NULL;
	const struct agent_items *items = &k->agent->secrets;
	int r = policy_draft_new(policy_preset_dir, &k->places.where.presets_fd, &d, e);

	if (r == 0 && items->count > 0)
		r = agent_policy(k->agent, k->agent->level, UINT64_MAX, d, e);
	for (unsigned i = 0; r == 0 && i < policy_draft_secrets(d); i++) {
		const struct policy_source s = policy_draft_source(d, i);

		for (unsigned n = 0; n < items->count && n < AGENT_SECRETS_MAX; n++)
			if (strcmp(items->at[n].name, s.name) == 0 && has_value(k, &s))
				k->secrets |= UINT64_C(1) << n;
	}
	return r;
}

static void warn_secrets(const struct code *k)
{
	const struct agent *a = k->agent;
	char text[512];
	struct buf b;

	if (k->secrets != 0 || a->secrets.count == 0 || k->opt.command || k->opt.dry_run)
		return;
	buf_init(&b, text, sizeof(text));
	for (unsigned i = 0; i < a->secrets.count; i++)
		buf_printf(&b, "%s%s", i > 0 ? ", " : "", a->secrets.at[i].name);
	log_warn("no credential for %s is set (%s): it has to log in by itself", a->name,
	         buf_cstr(&b));
}

/* The hosts of the preset that the profile's rules may name, before they do. */
static int fill_slot(struct code *k, struct policy_draft *d, struct strings *hosts, struct err *e)
{
	const char *const *env = (const char *const *)k->run.env.items;
	int r = registries_find(hosts, env, k->run.opened->meta, e);

	if (r == 0 && hosts->count > 0)
		r = policy_draft_slot(d, "registries", (const char *const *)hosts->items,
		                      (unsigned)hosts->count, e);
	return r;
}

static bool has_rules(const struct code *k)
{
	unsigned rules = 0;

	for (unsigned l = 0; l <= (unsigned)k->agent->level; l++)
		rules += k->agent->rules[l].count;
	for (size_t i = 0; i < k->a->opt_count; i++)
		rules += egress_is_opt(k->a->opts[i].id) && k->a->opts[i].id != EGRESS_PUBLISH;
	return rules > 0 || k->secrets != 0;
}

static int take_policy(struct code *k, struct err *e)
{
	struct egress *g = &k->run.egress;
	struct strings hosts;
	int r = find_secrets(k, e);

	warn_secrets(k);
	if (r < 0 || !has_rules(k))
		return r;
	strings_init(&hosts, POLICY_SLOT_HOSTS_MAX);
	r = egress_begin(g, k->c, e);
	if (r == 0)
		r = fill_slot(k, g->draft, &hosts, e);
	if (r == 0)
		r = agent_policy(k->agent, k->agent->level, k->secrets, g->draft, e);
	for (size_t i = 0; r == 0 && i < k->a->opt_count; i++)
		if (egress_is_opt(k->a->opts[i].id) && k->a->opts[i].id != EGRESS_PUBLISH)
			r = egress_take(g, k->c, &k->a->opts[i], e);
	if (r == 0 && policy_draft_unfilled(g->draft) && !k->opt.dry_run)
		egress_say_registries(&hosts, k->run.opened->meta);
	strings_fini(&hosts);
	return r == 0 ? egress_check_env(g, (const char *const *)k->run.env.items, e) : r;
}

/* --- the terminal --- */

/* A pty where a person sits, as `run` has it; a task has nobody. */
static void take_terminal(struct code *k)
{
	struct spec *s = &k->run.spec;
	const struct cli *c = k->c;
	bool person = c->in_tty && c->out_tty && c->err_tty && !c->json && !k->opt.task;

	s->foreground_tty = c->err_tty;
	s->tty = person && !k->run.no_tty && !k->run.no_stdin;
	s->stdin_open = !k->opt.task && session_wants_stdin(c, false, k->run.no_stdin);
	if (!s->tty)
		return;
	s->rows = TERM_ROWS_DEFAULT;
	s->cols = TERM_COLS_DEFAULT;
	(void)term_size(STDOUT_FILENO, &s->rows, &s->cols);
}

int code_plan(struct code *k, struct err *e)
{
	struct spec *s = &k->run.spec;
	const struct agent *a = k->agent;
	int r = take_image(k, e);

	s->limits.cpus = (uint32_t)a->cpus;
	s->limits.memory_bytes = a->memory_bytes;
	s->limits.disk_bytes = a->disk_bytes;
	s->workspace = s->cwd = k->mount;
	s->linger = a->state.count > 0;
	take_terminal(k);
	if (r == 0)
		r = take_command(k, e);
	if (r == 0)
		r = take_policy(k, e);
	s->network = egress_wanted(&k->run.egress);
	return r;
}

/* --- the environment --- */

static int add_agents(struct code *k, struct strings *env, struct err *e)
{
	char **list = NULL;
	int r = agent_environment(k->agent, k->run.spec.limits.memory_bytes, &list, e);

	for (size_t i = 0; r == 0 && list[i]; i++)
		r = strings_set_env(env, list[i], strlen(list[i]), e);
	agent_environment_free(list);
	for (unsigned i = 0; r == 0 && i < k->agent->forward.count; i++)
		r = run_env(env, k->c->envp, k->agent->forward.at[i],
		            strlen(k->agent->forward.at[i]), e);
	return r;
}

static int add_git(struct strings *env, struct err *e)
{
	char room[GITDIR_GUEST_MAX];
	struct span rest, one;
	struct buf b;
	int r = set_var(env, "GIT_TERMINAL_PROMPT", "0", e);

	buf_init(&b, room, sizeof(room));
	gitdir_put_guest_env(&b);
	rest = buf_span(&b);
	while (r == 0 && take_until(&rest, 0, &one))
		if (one.len > 0)
			r = strings_set_env(env, (const char *)one.at, one.len, e);
	return r;
}

/* Nothing may override these: they come last, and no flag may name one. */
static int add_ours(struct code *k, struct strings *env, struct err *e)
{
	int r = set_var(env, "BERM_AGENT", k->agent->name, e);

	if (r == 0)
		r = set_var(env, "BERM_WORKSPACE", k->mount, e);
	if (r == 0 && k->work.info.id[0])
		r = set_var(env, "BERM_SESSION", k->work.info.id, e);
	return r == 0 && k->opt.task ? set_var(env, "BERM_TASK", k->opt.task, e) : r;
}

/* In this order, the later one of a name counts: docs/man/berm.1.scd, ENVIRONMENT. */
int code_finish_spec(struct code *k, struct err *e)
{
	const struct image_config *config = &k->run.opened->meta->config;
	struct run *run = &k->run;
	struct strings env;
	int r;

	strings_init(&env, SPEC_STRINGS_MAX);
	r = strings_add_all(&env, config->env, e);
	if (r == 0 && run->spec.tty)
		r = run_env_term(&env, k->c->envp, e);
	if (r == 0)
		r = add_agents(k, &env, e);
	for (size_t i = 0; r == 0 && i < run->env.count; i++)
		r = strings_set_env(&env, run->env.items[i], strlen(run->env.items[i]), e);
	if (r == 0)
		r = add_git(&env, e);
	if (r == 0)
		r = add_ours(k, &env, e);
	strings_fini(&run->env);
	run->env = env;
	run->spec.envp = (const char *const *)run->env.items;
	if (r < 0)
		return err_wrap(e, "the environment");
	r = egress_prepare(&run->egress, k->c, NULL, e);
	return r == 0 ? spec_check(&run->spec, e) : r;
}
