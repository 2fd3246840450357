#include "cli/run.h"

#include "base/fdio.h"
#include "base/units.h"
#include "cli/session.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* clang-format off */
const struct opt run_opts[] = {
	{ RUN_OPT_NAME, 0, "name", "NAME", COMPLETE_NONE, "a name for it, instead of its id" },
	{ RUN_OPT_DETACH, 'd', "detach", NULL, COMPLETE_NONE, "leave it running and print its id" },
	{ RUN_OPT_RM, 0, "rm", NULL, COMPLETE_NONE, "with -d: keep no record once it has ended" },
	{ RUN_OPT_INTERACTIVE, 'i', "interactive", NULL, COMPLETE_NONE,
	  "forward stdin also from the background" },
	{ RUN_OPT_TTY, 't', "tty", NULL, COMPLETE_NONE,
	  "a terminal in the guest (default at a terminal)" },
	{ RUN_OPT_NO_TTY, 0, "no-tty", NULL, COMPLETE_NONE, "none, even at a terminal" },
	{ RUN_OPT_NO_STDIN, 0, "no-stdin", NULL, COMPLETE_NONE, "the command reads /dev/null" },
	{ RUN_OPT_ENV, 'e', "env", "NAME[=VALUE]", COMPLETE_NONE,
	  "set a variable, or copy that one of the host" },
	{ RUN_OPT_ENV_FILE, 0, "env-file", "FILE", COMPLETE_FILE, "the same, a line each" },
	{ RUN_OPT_WORKDIR, 'w', "workdir", "DIR", COMPLETE_NONE,
	  "where in the guest the command starts" },
	{ RUN_OPT_USER, 'u', "user", "USER[:GROUP]", COMPLETE_NONE, "who in the guest it runs as" },
	{ RUN_OPT_HOSTNAME, 0, "hostname", "NAME", COMPLETE_NONE, "the guest's host name" },
	{ RUN_OPT_ENTRYPOINT, 0, "entrypoint", "CMD", COMPLETE_NONE,
	  "instead of the image's; \"\" for none" },
	{ RUN_OPT_CPUS, 0, "cpus", "N", COMPLETE_NONE, "virtual CPUs (1)" },
	{ RUN_OPT_MEMORY, 'm', "memory", "SIZE", COMPLETE_NONE, "the guest's memory (512MiB)" },
	{ RUN_OPT_DISK, 0, "disk", "SIZE", COMPLETE_NONE, "what the guest may write (4GiB)" },
	{ RUN_OPT_PIDS, 0, "pids", "N", COMPLETE_NONE, "processes and threads at once (512)" },
	{ RUN_OPT_TIME, 0, "time", "DURATION", COMPLETE_NONE, "end it after so long (never)" },
	{ RUN_OPT_IDLE, 0, "idle", "DURATION", COMPLETE_NONE,
	  "end it when nothing happens for so long (never)" },
	{ RUN_OPT_OUTPUT, 0, "output", "SIZE", COMPLETE_NONE,
	  "end it after so much output (no limit)" },
	EGRESS_RULE_ROWS,
	EGRESS_POLICY_ROW,
	EGRESS_PUBLISH_ROW,
	{ RUN_OPT_ENGINE, 0, "engine", "auto|kvm|qemu", COMPLETE_NONE, "what runs the guest (auto)" },
	{ RUN_OPT_MINIMUM, 0, "minimum", "microvm|emulated|process", COMPLETE_NONE,
	  "the least boundary accepted (emulated)" },
	{ RUN_OPT_HOST_CPU, 0, "host-cpu", NULL, COMPLETE_NONE,
	  "all of the host's CPU, not a common one; kvm only" },
	{ RUN_OPT_COLD, 0, "cold", NULL, COMPLETE_NONE, "boot; neither use nor make a template" },
	{ RUN_OPT_WARM, 0, "warm", "CMD", COMPLETE_NONE,
	  "run CMD before the template is saved; repeatable" },
	{ RUN_OPT_RESULT, 0, "result", "FILE", COMPLETE_FILE,
	  "write the result as JSON there; fd:N is an open one" },
	{ OPT_JSON, 0, "json", NULL, COMPLETE_NONE,
	  "print result, stdout and stderr as one JSON object" },
	OPT_END_ROW,
};
/* clang-format on */

int run_env(struct strings *env, const char *const *host, const char *text, size_t len,
            struct err *e)
{
	const char *equals = memchr(text, '=', len);

	if (len == 0 || equals == text)
		return err_set(e, -EINVAL, "'%.*s': a variable needs a name: NAME=VALUE or NAME",
		               (int)len, text);
	if (equals)
		return strings_set_env(env, text, len, e);
	for (size_t i = 0; host[i]; i++)
		if (strncmp(host[i], text, len) == 0 && host[i][len] == '=')
			return strings_set_env(env, host[i], strlen(host[i]), e);
	return 0; /* unset on the host: unset in the guest */
}

int run_env_file(struct strings *env, const char *const *host, const char *path, struct err *e)
{
	_own_free_ char *text = NULL;
	struct span rest;
	struct span line;
	size_t len;
	int r = fd_read_file(AT_FDCWD, path, RUN_ENV_FILE_MAX, &text, &len, e);

	if (r < 0)
		return r;
	if (memchr(text, 0, len))
		return err_set(e, -EINVAL, "'%s' is no text file", path);
	rest = span_of(text, len);
	for (unsigned at = 1; take_until(&rest, '\n', &line); at++) {
		if (line.len > 0 && line.at[line.len - 1] == '\r')
			line.len--;
		if (line.len == 0 || line.at[0] == '#')
			continue;
		r = run_env(env, host, (const char *)line.at, line.len, e);
		if (r < 0) {
			(void)err_wrap(e, "'%s' line %u", path, at);
			return r;
		}
	}
	return 0;
}

int run_env_term(struct strings *env, const char *const *host, struct err *e)
{
	for (size_t i = 0; i < env->count; i++)
		if (strncmp(env->items[i], "TERM=", 5) == 0)
			return 0;
	return run_env(env, host, "TERM", 4, e);
}

/* --- one flag each --- */

static int take_count(const char *value, uint64_t max, uint64_t *ret, struct err *e)
{
	return units_parse_count(value, 1, max, ret, e);
}

static int take_limit(struct spec_limits *l, const struct arg *o, struct err *e)
{
	uint64_t cpus;
	int r;

	switch (o->id) {
	case RUN_OPT_CPUS:
		r = take_count(o->value, SPEC_CPUS_MAX, &cpus, e);
		if (r == 0)
			l->cpus = (uint32_t)cpus;
		return r;
	case RUN_OPT_MEMORY:
		return units_parse_size(o->value, &l->memory_bytes, e);
	case RUN_OPT_DISK:
		return units_parse_size(o->value, &l->disk_bytes, e);
	case RUN_OPT_PIDS:
		return take_count(o->value, SPEC_PIDS_MAX, &l->pids, e);
	case RUN_OPT_TIME:
		return units_parse_duration(o->value, &l->time_ms, e);
	case RUN_OPT_IDLE:
		return units_parse_duration(o->value, &l->idle_ms, e);
	default: /* RUN_OPT_OUTPUT */
		return units_parse_size(o->value, &l->output_bytes, e);
	}
}

static int take_engine(struct run *r, const char *name, struct err *e)
{
	if (strcmp(name, "qemu") == 0)
		r->spec.engine = SPEC_ENGINE_QEMU;
	else if (strcmp(name, "kvm") == 0)
		r->spec.engine = SPEC_ENGINE_KVM;
	else if (strcmp(name, "auto") == 0)
		r->spec.engine = SPEC_ENGINE_AUTO;
	else
		return err_set(e, -EINVAL, "'%s' is no engine: auto, kvm or qemu", name);
	return 0;
}

static int take_text(struct run *r, const struct cli *c, const struct arg *o, struct err *e)
{
	switch (o->id) {
	case RUN_OPT_ENV:
		return run_env(&r->env, c->envp, o->value, strlen(o->value), e);
	case RUN_OPT_ENV_FILE:
		return run_env_file(&r->env, c->envp, o->value, e);
	case RUN_OPT_WARM:
		return strings_add(&r->warm, o->value, strlen(o->value), e);
	case RUN_OPT_MINIMUM:
		return level_parse(o->value, &r->spec.minimum_level, e);
	case RUN_OPT_NAME:
		r->spec.name = o->value;
		break;
	case RUN_OPT_WORKDIR:
		r->spec.cwd = o->value;
		break;
	case RUN_OPT_USER:
		r->spec.user = o->value;
		break;
	case RUN_OPT_HOSTNAME:
		r->spec.hostname = o->value;
		break;
	case RUN_OPT_ENTRYPOINT:
		r->entrypoint = o->value;
		break;
	case RUN_OPT_RESULT:
		r->result_path = o->value;
		break;
	default: /* RUN_OPT_ENGINE; the table has checked the choice */
		return take_engine(r, o->value, e);
	}
	return 0;
}

static void take_switch(struct run *r, int id)
{
	switch (id) {
	case RUN_OPT_DETACH:
		r->spec.detach = true;
		break;
	case RUN_OPT_RM:
		r->spec.remove = true;
		break;
	case RUN_OPT_INTERACTIVE:
		r->interactive = true;
		break;
	case RUN_OPT_TTY:
		r->want_tty = true;
		break;
	case RUN_OPT_NO_TTY:
		r->no_tty = true;
		break;
	case RUN_OPT_NO_STDIN:
		r->no_stdin = true;
		break;
	case RUN_OPT_COLD:
		r->spec.cold = true;
		break;
	case RUN_OPT_HOST_CPU:
		r->spec.host_cpu = true;
		break;
	default:
		break; /* OPT_JSON: main has seen it */
	}
}

static const char *name_of(int id)
{
	for (const struct opt *o = run_opts; o->id; o++)
		if (o->id == id)
			return o->name;
	return "?";
}

/* A limit of 0 would be none in the spec; here it can only be a mistake. */
static int check_zero(const struct arg *o, const struct spec_limits *l, struct err *e)
{
	bool zero = (o->id == RUN_OPT_TIME && l->time_ms == 0) ||
	            (o->id == RUN_OPT_IDLE && l->idle_ms == 0) ||
	            (o->id == RUN_OPT_OUTPUT && l->output_bytes == 0);

	if (zero)
		return err_set(e, -EINVAL, "0 would end it at once: leave it away for no limit");
	return 0;
}

static int check_together(const struct run *r, const struct cli *c, struct err *e)
{
	if (r->spec.detach && r->result_path)
		return err_set(e, -EINVAL, "--result is for a run that is waited for, not for -d");
	if (r->want_tty && r->no_tty)
		return err_set(e, -EINVAL, "--tty and --no-tty exclude each other");
	if (r->want_tty && c->json)
		return err_set(e, -EINVAL,
		               "--json captures what a terminal would show: leave away -t");
	if (r->interactive && r->no_stdin)
		return err_set(e, -EINVAL, "--interactive and --no-stdin exclude each other");
	if (r->spec.cold && r->warm.count)
		return err_set(e, -EINVAL, "--warm is about templates, and --cold makes none");
	if (r->spec.cwd && r->spec.cwd[0] != '/')
		return err_set(e, -EINVAL, "--workdir '%s': it must start with '/'", r->spec.cwd);
	return 0;
}

/* With no "--" the first word is the image, as in docker; "--" in front: the default image. */
static int take_words(struct run *r, const struct args *a, struct err *e)
{
	r->words = a->words;
	r->word_count = a->word_count;
	if (a->word_count > 0 && a->dashes_at != 0) {
		r->image = a->words[0];
		r->words++;
		r->word_count--;
	}
	if (r->image && r->word_count > 0 && r->words[0][0] == '-' && a->dashes_at != 1 &&
	    !r->entrypoint)
		return err_set(e, -EINVAL,
		               "'%s' stands behind the image, so it would be the command: flags go "
		               "before the image",
		               r->words[0]);
	return 0;
}

/* A pty where a person sits: at a terminal on all three, as a pty has one output only. */
static void take_terminal(struct run *r, const struct cli *c)
{
	struct spec *s = &r->spec;
	bool person = c->in_tty && c->out_tty && c->err_tty && !c->json && !s->detach;

	s->foreground_tty = c->err_tty && !s->detach;
	s->tty = r->want_tty || (person && !r->no_tty && !r->no_stdin);
	if (s->detach)
		s->stdin_open = r->interactive; /* for a later attach */
	else
		s->stdin_open = session_wants_stdin(c, r->interactive, r->no_stdin);
}

void run_init(struct run *r)
{
	*r = (struct run){ .disk_fd = -1 };
	spec_init(&r->spec);
	strings_init(&r->env, SPEC_STRINGS_MAX);
	strings_init(&r->argv, SPEC_STRINGS_MAX);
	strings_init(&r->warm, SPEC_WARM_MAX);
	egress_init(&r->egress);
}

void run_fini(struct run *r)
{
	strings_fini(&r->env);
	strings_fini(&r->argv);
	strings_fini(&r->warm);
	egress_fini(&r->egress);
}

int run_take_flag(struct run *r, struct cli *c, const struct arg *o, struct err *e)
{
	int got;

	if (!o->value) {
		take_switch(r, o->id);
		return 0;
	}
	if (egress_is_opt(o->id)) /* its messages name the flag themselves */
		return egress_take(&r->egress, c, o, e);
	if (o->id >= RUN_OPT_CPUS && o->id <= RUN_OPT_OUTPUT) {
		got = take_limit(&r->spec.limits, o, e);
		if (got == 0)
			got = check_zero(o, &r->spec.limits, e);
	} else {
		got = take_text(r, c, o, e);
	}
	if (got < 0)
		(void)err_wrap(e, "--%s", name_of(o->id));
	return got;
}

/* What --engine is when it is not given: everything below a caller who wants one is the same. */
int run_take_engine_of_env(struct run *r, const struct cli *c, struct err *e)
{
	static const char name[] = "BERM_ENGINE=";
	int got = 0;

	for (size_t i = 0; c->envp[i]; i++)
		if (strncmp(c->envp[i], name, strlen(name)) == 0 && c->envp[i][strlen(name)])
			got = take_engine(r, c->envp[i] + strlen(name), e);
	return got < 0 ? err_wrap(e, "BERM_ENGINE") : 0;
}

int run_take_flags(struct run *r, struct cli *c, const struct args *a, struct err *e)
{
	static const char *const to_come[] = { "command", NULL };
	int got = run_take_engine_of_env(r, c, e);

	if (got < 0)
		return got;
	for (size_t i = 0; i < a->opt_count; i++) {
		got = run_take_flag(r, c, &a->opts[i], e);
		if (got < 0)
			return got;
	}
	got = check_together(r, c, e);
	if (got == 0)
		got = egress_check_env(&r->egress, (const char *const *)r->env.items, e);
	if (got == 0)
		got = take_words(r, a, e);
	if (got < 0)
		return got;
	take_terminal(r, c);
	r->spec.network = egress_wanted(&r->egress);
	r->spec.argv = to_come; /* so that the rest can be judged before the image is looked for */
	r->spec.envp = (const char *const *)r->env.items;
	r->spec.warm = (const char *const *)r->warm.items;
	r->spec.image = r->image ? r->image : "default";
	return 0;
}

int run_command(struct run *r, const char *const *image_entrypoint, const char *const *image_cmd,
                struct err *e)
{
	int got = 0;

	if (r->entrypoint && r->entrypoint[0])
		got = strings_add(&r->argv, r->entrypoint, strlen(r->entrypoint), e);
	else if (!r->entrypoint)
		got = strings_add_all(&r->argv, image_entrypoint, e);
	if (got == 0 && r->word_count > 0)
		got = strings_add_all(&r->argv, r->words, e);
	else if (got == 0 && !r->entrypoint)
		got = strings_add_all(&r->argv, image_cmd, e);
	if (got < 0)
		return err_wrap(e, "the command");
	if (r->argv.count == 0)
		return err_set(e, -EINVAL,
		               "image '%s' names no command of its own: berm run %s CMD",
		               r->spec.image, r->spec.image);
	return 0;
}
