#include "cli/code/code.h"

#include "base/fdio.h"
#include "base/log.h"

#include <errno.h>
#include <string.h>

enum {
	OPT_DIR = 800,
	OPT_TASK,
	OPT_ON_EXIT,
	OPT_EXCLUDE,
	OPT_INCLUDE_SECRET,
	OPT_SKIP_COST,
	OPT_NO_HISTORY,
	OPT_SAME_PATH,
	OPT_CROSS,
	OPT_WIDE,
	OPT_NO_SETTINGS,
	OPT_FETCH_MAX,
	OPT_DRY_RUN,
};

/* clang-format off */
const struct opt code_opts[] = {
	{ OPT_DIR, 'C', "directory", "DIR", COMPLETE_FILE, "the workspace (where you are)" },
	{ OPT_TASK, 0, "task", "TEXT", COMPLETE_NONE, "no terminal: do this, and end" },
	{ OPT_ON_EXIT, 0, "on-exit", "review|keep|apply-plain", COMPLETE_NONE,
	  "then (review at a terminal, else keep)" },
	{ OPT_DRY_RUN, 0, "dry-run", NULL, COMPLETE_NONE, "say what would enter, and do nothing" },
	{ OPT_EXCLUDE, 0, "exclude", "PATTERN", COMPLETE_NONE,
	  "does not enter, as in .bermignore; repeatable" },
	{ OPT_INCLUDE_SECRET, 0, "include-secret", "PATH", COMPLETE_FILE,
	  "enters, though named like a credential; repeatable" },
	{ OPT_SKIP_COST, 0, "skip-cost", NULL, COMPLETE_NONE,
	  "leave out what can be made again (node_modules, ...)" },
	{ OPT_NO_HISTORY, 0, "no-history", NULL, COMPLETE_NONE, "leave git's history out" },
	{ OPT_SAME_PATH, 0, "same-path", NULL, COMPLETE_NONE,
	  "where it is on the host, not " CODE_MOUNT },
	{ OPT_CROSS, 0, "cross-mounts", NULL, COMPLETE_NONE, "other file systems in it enter too" },
	{ OPT_WIDE, 0, "wide", NULL, COMPLETE_NONE, "even if it is a home directory or /" },
	{ OPT_NO_SETTINGS, 0, "no-settings", NULL, COMPLETE_NONE,
	  "none of your settings for the agent enter" },
	{ OPT_FETCH_MAX, 0, "fetch-max", "SIZE", COMPLETE_NONE,
	  "more of its work than this is not fetched (16GiB)" },
	AGENT_ROWS,
	EGRESS_RULE_ROWS,
	EGRESS_POLICY_ROW,
	EGRESS_PUBLISH_ROW,
	{ RUN_OPT_ENV, 'e', "env", "NAME[=VALUE]", COMPLETE_NONE,
	  "set a variable, or copy that one of the host" },
	{ RUN_OPT_ENV_FILE, 0, "env-file", "FILE", COMPLETE_FILE, "the same, a line each" },
	{ RUN_OPT_PIDS, 0, "pids", "N", COMPLETE_NONE, "processes and threads at once (4096)" },
	{ RUN_OPT_TIME, 0, "time", "DURATION", COMPLETE_NONE, "end it after so long (never)" },
	{ RUN_OPT_IDLE, 0, "idle", "DURATION", COMPLETE_NONE,
	  "end it when nothing happens for so long (never)" },
	{ RUN_OPT_NO_TTY, 0, "no-tty", NULL, COMPLETE_NONE, "no terminal in the guest" },
	{ RUN_OPT_NO_STDIN, 0, "no-stdin", NULL, COMPLETE_NONE, "the command reads /dev/null" },
	{ RUN_OPT_ENGINE, 0, "engine", "auto|kvm|qemu", COMPLETE_NONE, "what runs the guest (auto)" },
	{ RUN_OPT_MINIMUM, 0, "minimum", "microvm|emulated|process", COMPLETE_NONE,
	  "the least boundary accepted (emulated)" },
	{ RUN_OPT_HOST_CPU, 0, "host-cpu", NULL, COMPLETE_NONE,
	  "all of the host's CPU, not a common one; kvm only" },
	{ RUN_OPT_COLD, 0, "cold", NULL, COMPLETE_NONE, "boot; neither use nor make a template" },
	{ OPT_JSON, 0, "json", NULL, COMPLETE_NONE, "print the outcome as one JSON object" },
	OPT_END_ROW,
};
/* clang-format on */

static int take_exclude(struct code *k, const char *text, struct err *e)
{
	if (!*text || strchr(text, '\n'))
		return err_set(e, -EINVAL, "--exclude: a pattern, as a line of .gitignore");
	return strings_add(&k->excludes, text, strlen(text), e);
}

/* A path in the workspace, from its root; "./" in front is what shells complete to. */
static int take_back(struct code *k, const char *path, struct err *e)
{
	while (path[0] == '.' && path[1] == '/')
		path += 2;
	if (!*path || *path == '/')
		return err_set(e, -EINVAL,
		               "--include-secret '%s': a path in the workspace, from its root",
		               path);
	return strings_add(&k->take_back, path, strlen(path), e);
}

static enum code_on_exit on_exit_of(const char *word)
{
	if (strcmp(word, "review") == 0)
		return CODE_REVIEW;
	return strcmp(word, "keep") == 0 ? CODE_KEEP : CODE_APPLY_PLAIN; /* the table checked it */
}

static int take_one(struct code *k, const struct arg *o, struct err *e)
{
	struct code_options *opt = &k->opt;

	switch (o->id) {
	case OPT_DIR:
		opt->dir = o->value;
		return 0;
	case OPT_TASK:
		opt->task = o->value;
		return *o->value ? 0 : err_set(e, -EINVAL, "--task: say what is to be done");
	case OPT_ON_EXIT:
		opt->on_exit = on_exit_of(o->value);
		return 0;
	case OPT_EXCLUDE:
		return take_exclude(k, o->value, e);
	case OPT_INCLUDE_SECRET:
		return take_back(k, o->value, e);
	case OPT_SKIP_COST:
		opt->skip_cost = true;
		return 0;
	case OPT_NO_HISTORY:
		opt->no_history = true;
		return 0;
	case OPT_SAME_PATH:
		opt->same_path = true;
		return 0;
	case OPT_CROSS:
		opt->cross_mounts = true;
		return 0;
	case OPT_WIDE:
		opt->wide = true;
		return 0;
	case OPT_NO_SETTINGS:
		opt->no_settings = true;
		return 0;
	case OPT_FETCH_MAX:
		return session_fetch_max(o->value, &k->run.spec.collect_bytes, e);
	default: /* OPT_DRY_RUN */
		opt->dry_run = true;
		return 0;
	}
}

/* Flags about the policy come later: the profile's rules go first. */
static bool is_later(int id)
{
	return (egress_is_opt(id) && id != EGRESS_PUBLISH) ||
	       (id >= AGENT_OPT_IMAGE && id <= AGENT_OPT_DISK) || id == OPT_JSON;
}

/* AGENT stands before "--", the command behind it. */
static int take_words(struct code *k, struct err *e)
{
	const struct args *a = k->a;
	size_t before = a->dashes_at < a->word_count ? a->dashes_at : a->word_count;

	if (before > 1)
		return err_set(e, -EINVAL,
		               "'%s': one agent is enough; a command stands behind '--'",
		               a->words[1]);
	k->opt.agent = before > 0 ? a->words[0] : "custom";
	if (a->word_count > before)
		k->opt.command = a->words + before;
	return 0;
}

static int check_env(const struct code *k, struct err *e)
{
	for (size_t i = 0; i < k->run.env.count; i++)
		if (strncmp(k->run.env.items[i], "BERM_", 5) == 0)
			return err_set(e, -EINVAL,
			               "--env %.*s: variables that begin with BERM_ are berm's own",
			               (int)strcspn(k->run.env.items[i], "="), k->run.env.items[i]);
	return 0;
}

static int join_excludes(struct code *k, struct err *e)
{
	struct buf b;

	k->exclude_text = malloc(CODE_EXCLUDES_MAX);
	if (!k->exclude_text)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&b, k->exclude_text, CODE_EXCLUDES_MAX);
	for (size_t i = 0; i < k->excludes.count; i++)
		buf_printf(&b, "%s\n", k->excludes.items[i]);
	k->opt.exclude = buf_cstr(&b);
	return buf_ok(&b) ? 0
	                  : err_set(e, -E2BIG, "--exclude: patterns of over %d KiB",
	                            CODE_EXCLUDES_MAX >> 10);
}

int code_take_options(struct code *k, struct err *e)
{
	int r = run_take_engine_of_env(&k->run, k->c, e);

	k->run.spec.limits.pids = CODE_PIDS;
	for (size_t i = 0; r == 0 && i < k->a->opt_count; i++) {
		const struct arg *o = &k->a->opts[i];

		if (o->id >= OPT_DIR && o->id <= OPT_DRY_RUN)
			r = take_one(k, o, e);
		else if (!is_later(o->id))
			r = run_take_flag(&k->run, k->c, o, e);
	}
	if (r == 0)
		r = take_words(k, e);
	if (r == 0)
		r = check_env(k, e);
	if (r == 0)
		r = join_excludes(k, e);
	k->opt.take_back = (const char *const *)k->take_back.items;
	return r;
}
