/*
 * `berm agent build`: see agent_build.h for how.
 */
#include "base/log.h"
#include "base/units.h"
#include "cli/agent/agent_build.h"
#include "cli/egress/egress.h"
#include "cli/image_hold.h"
#include "cli/run.h"
#include "cli/verbs.h"
#include "image/ref.h"
#include "lib/registries.h"
#include "policy/limits.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum {
	OPT_IMAGE = 1,
	OPT_ENV,
	OPT_TIME,
	EXIT_UNKNOWN = 3,
	RESULT_BYTES_MAX = 512 << 10, /* three answers, each byte escaped */
	LINE_SHOWN_MAX = 200,
};

/* clang-format off */
static const struct opt build_opts[] = {
	{ OPT_IMAGE, 0, "image", "NAME", COMPLETE_NONE, "call it so, and not agent/AGENT" },
	{ OPT_ENV, 'e', "env", "NAME[=VALUE]", COMPLETE_NONE,
	  "a variable for the package managers, or that one of the host" },
	{ EGRESS_ALLOW, 0, "allow", "HOST[:PORT]", COMPLETE_NONE,
	  "let them reach this as well; repeatable" },
	{ AGENT_OPT_CPUS, 0, "cpus", "N", COMPLETE_NONE, "instead of the profile's" },
	{ AGENT_OPT_MEMORY, 0, "memory", "SIZE", COMPLETE_NONE, "instead of the profile's" },
	{ AGENT_OPT_DISK, 0, "disk", "SIZE", COMPLETE_NONE, "instead of the profile's" },
	{ OPT_TIME, 0, "time", "DURATION", COMPLETE_NONE, "give up after so long (2h)" },
	OPT_JSON_ROW,
	OPT_END_ROW,
};
/* clang-format on */

/* --- the command line --- */

static int take_env(struct build *b, struct err *e)
{
	const struct image_config *config = &b->base->meta->config;
	static const char *const own[] = { "DEBIAN_FRONTEND=noninteractive",
		                           "PIP_BREAK_SYSTEM_PACKAGES=1",
		                           "PIP_ROOT_USER_ACTION=ignore", NULL };
	int r = 0;

	for (size_t i = 0; r == 0 && config->env[i]; i++)
		r = strings_set_env(&b->env, config->env[i], strlen(config->env[i]), e);
	for (size_t i = 0; r == 0 && own[i]; i++)
		r = strings_set_env(&b->env, own[i], strlen(own[i]), e);
	for (size_t i = 0; r == 0 && i < b->args->opt_count; i++) {
		const struct arg *o = &b->args->opts[i];

		if (o->id == OPT_ENV)
			r = run_env(&b->env, b->c->envp, o->value, strlen(o->value), e);
	}
	if (r == 0)
		r = registries_find(&b->hosts, (const char *const *)b->env.items, b->base->meta, e);
	return r;
}

static int take_flags(struct build *b, struct err *e)
{
	const char *time = args_value(b->args, OPT_TIME);
	const char *name = args_value(b->args, OPT_IMAGE);
	int r = 0;

	b->time_ms = BUILD_TIME_MS;
	if (time)
		r = units_parse_duration(time, &b->time_ms, e);
	if (r == 0 && b->time_ms == 0)
		r = err_set(e, -EINVAL, "0 would end it at once");
	if (r < 0)
		return err_wrap(e, "--time");
	/* said now, and not when all of the work is done */
	if (name && (strlen(name) > IMAGE_NAME_MAX || !ref_is_name(span_str(name))))
		return err_set(e, -EINVAL, "--image: '%.100s' is no image name, or too long a one",
		               name);
	agent_image_name(b->agent, b->name);
	if (name)
		(void)snprintf(b->name, sizeof(b->name), "%s", name);
	return 0;
}

static int open_base(struct build *b, struct err *e)
{
	int r = image_store_open(b->c->state_fd, b->c->paths.share, &b->store, e);

	if (r == 0)
		r = image_open(b->store, b->agent->base, &b->base, e);
	return r < 0 ? err_wrap(e, "the agent's base image") : 0;
}

/* --- the whole --- */

static bool asked_to_end(struct build *b)
{
	struct signalfd_siginfo si;

	while (read(b->session.signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si))
		if (si.ssi_signo != SIGWINCH && si.ssi_signo != SIGTSTP)
			return true;
	return b->session.signals > 0;
}

/* Its own guest, its name, and what it answered: the last steps, after which it counts. */
static int check_image(struct build *b, struct err *e)
{
	_own_(image_free) struct image *image = NULL;
	int r = image_open(b->store, b->image_id, &image, e);

	if (r < 0)
		return r;
	build_step(b, "asking the agent for its version");
	r = build_guest_ask(b, image, e);
	build_guest_end(b);
	if (r == 0 && asked_to_end(b))
		r = err_set(e, -EINTR, "interrupted");
	if (r == 0)
		r = image_name_set(b->store, b->name, b->image_id, e);
	if (r == 0 && !args_has(b->args, OPT_IMAGE))
		r = agent_image_note(b->c->state_fd, b->agent, b->image_id, b->version, e);
	return r == -EINTR ? r : r < 0 ? err_wrap(e, "step %u, %s", b->step_number, b->step) : 0;
}

/*
 * An image of this agent without a name is one that an earlier build was killed over, or that the
 * next one took the name from. Sandboxes and snapshots that need it keep it. Whatever fails here
 * is tried again by the next build, and `berm image prune` does it as well.
 */
static void collect_left(struct build *b)
{
	_own_(image_hold_free) struct image_hold *hold = NULL;
	_own_(image_list_free) struct image_list *l = NULL;

	if (image_hold_new(b->c->state_fd, b->store, &hold, NULL) < 0 ||
	    image_list(b->store, &l, NULL) < 0)
		return;
	for (size_t i = 0; i < l->count; i++) {
		const struct image_row *row = &l->rows[i];
		const char *of = row->meta ? image_label(&row->meta->config, AGENT_LABEL) : NULL;
		bool named = row->names && row->names[0];
		enum image_removed removed;

		if (row->installed || row->in_use || named || !of ||
		    strcmp(of, b->agent->name) != 0)
			continue;
		if (image_remove(b->store, row->id, false, &removed, NULL) == 0)
			log_info("removed the image %.12s, which an earlier build of %s left",
			         row->id, b->agent->name);
	}
}

static int make(struct build *b, struct err *e)
{
	enum image_removed removed;
	_own_fd_ int tar_fd = -1;
	bool known = true;
	int r;

	collect_left(b);
	build_step(b, "starting a guest of the base image");
	r = build_guest_start(b, e);
	if (r == 0)
		r = build_install(b, e);
	if (r == 0)
		r = build_take_tree(b, &tar_fd, e);
	build_guest_end(b); /* whatever came: nothing of it is read while it runs */
	if (r == 0 && asked_to_end(b))
		r = err_set(e, -EINTR, "interrupted");
	if (r == 0)
		r = build_import(b, tar_fd, &known, e);
	if (r == 0)
		r = check_image(b, e);
	if (r < 0 && b->image_id[0] && !known &&
	    image_remove(b->store, b->image_id, true, &removed, NULL) < 0)
		log_warn("the image %.12s could not be removed: berm image rm %.12s", b->image_id,
		         b->image_id);
	return r;
}

/* --- what is said --- */

/* The last lines of the step that failed, each escaped. */
static void show_tail(const struct build *b)
{
	const struct build_tail *t = &b->tail;
	char text[BUILD_TAIL_MAX + 1];
	size_t from = t->len;
	unsigned lines = 0;
	struct span rest;
	struct span line;

	for (size_t i = 0; i < t->len; i++) {
		uint8_t c = t->at[(t->from + i) % sizeof(t->at)];

		text[i] = c == '\r' ? '\n' : (char)c;
	}
	while (from > 0 && lines <= BUILD_TAIL_LINES)
		lines += text[--from] == '\n' && from + 1 < t->len;
	rest = span_of(text + from, t->len - from);
	while (take_until(&rest, '\n', &line)) {
		char shown[4 * LINE_SHOWN_MAX + 8];
		struct buf out;

		if (line.len == 0)
			continue;
		if (line.len > LINE_SHOWN_MAX)
			line.len = LINE_SHOWN_MAX;
		buf_init(&out, shown, sizeof(shown));
		buf_put_str(&out, "  | ");
		buf_put_escaped(&out, line);
		(void)fprintf(stderr, "%s\n", buf_cstr(&out));
	}
}

static int tell_failure(const struct build *b, const struct err *e)
{
	struct err said = *e;

	if (e->code == -EINTR) {
		log_error("interrupted; nothing was kept");
		return 130;
	}
	if (b->tail.len > 0)
		show_tail(b);
	(void)err_wrap(&said, "build %s", b->agent->name);
	(void)cli_fail(&said);
	log_error("nothing was kept; the profile is shown by berm agent inspect %s",
	          b->agent->name);
	return CLI_EXIT_ERROR;
}

static void put_lines_json(struct buf *b, const char *name, const char *lines)
{
	struct span rest = span_str(lines);
	const char *gap = "";
	struct span line;

	buf_printf(b, "\"%s\":[", name);
	while (rest.len > 0 && take_until(&rest, '\n', &line)) {
		if (line.len == 0)
			continue;
		buf_put_str(b, gap);
		buf_put_json_str(b, line);
		gap = ",";
	}
	buf_put_str(b, "]");
}

static void put_result_json(const struct build *b, struct buf *out)
{
	static const char *const names[] = { "apt", "npm", "pip" };
	char recipe[AGENT_RECIPE_LEN + 1];

	agent_recipe_digest(b->agent, recipe);
	buf_printf(out, "{\"agent\":\"%s\",\"image\":\"%s\",\"id\":\"%s\",\"recipe\":\"%s\",",
	           b->agent->name, b->name, b->image_id, recipe);
	buf_printf(out, "\"base\":\"%s\",\"built\":\"%s\",\"version\":", b->base->meta->id,
	           b->built);
	buf_put_json_str(out, span_str(b->version));
	buf_put_str(out, ",\"registries\":[");
	for (size_t i = 0; i < b->hosts.count; i++) {
		buf_put_str(out, i > 0 ? "," : "");
		buf_put_json_str(out, span_str(b->hosts.items[i]));
	}
	buf_put_str(out, "],\"packages\":{");
	for (unsigned i = 0; i < 3; i++) {
		buf_put_str(out, i > 0 ? "," : "");
		put_lines_json(out, names[i], b->packages[i]);
	}
	buf_put_str(out, "}}\n");
}

static void put_result(const struct build *b, struct buf *out)
{
	buf_printf(out, "%s  %.12s  ", b->name, b->image_id);
	buf_put_escaped(out, span_str(b->version));
	buf_put_u8(out, '\n');
}

static int tell_result(const struct build *b, struct err *e)
{
	_own_free_ char *room = malloc(RESULT_BYTES_MAX);
	struct buf out;

	if (!room)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&out, room, RESULT_BYTES_MAX);
	if (b->c->json)
		put_result_json(b, &out);
	else
		put_result(b, &out);
	return cli_out(out.at, out.len, e);
}

static int build(struct build *b)
{
	struct err e = { 0 };
	int r = cli_state(b->c, &e);

	if (r == 0)
		r = open_base(b, &e);
	if (r == 0)
		r = take_env(b, &e);
	if (r == 0)
		r = session_init(&b->session, b->c, SESSION_RUN, &e);
	if (r < 0)
		return cli_fail(&e);
	b->session.spinner.enabled = cli_redraws(b->c, b->c->err_tty) && !b->c->json;
	r = make(b, &e);
	build_guest_end(b);
	spinner_clear(&b->session.spinner);
	if (r < 0)
		return tell_failure(b, &e);
	return tell_result(b, &e) < 0 ? cli_fail(&e) : 0;
}

static void build_fini(struct build *b)
{
	if (b->session.cli)
		session_fini(&b->session);
	strings_fini(&b->env);
	strings_fini(&b->hosts);
	image_free(b->base);
	image_store_free(b->store);
	free(b);
}

static int nothing_to_do(const struct agent *a)
{
	log_error("the profile '%s' names no packages: its image is '%s' as it is; to have some "
	          "installed, name them under image: packages: (berm-agent(5))",
	          a->name, a->base);
	return CLI_EXIT_ERROR;
}

static int run_build(struct cli *c, const struct args *a)
{
	_own_(agent_places_close) struct agent_places p;
	_own_(agent_free) struct agent *agent = NULL;
	struct agent_flags flags = { 0 };
	struct build *b = NULL;
	struct err e = { 0 };
	int status;
	int r = agent_places_open(&p, c, &e);

	if (r == 0 && agent_flags_read(a, &flags, &e) < 0)
		return cli_usage(a, "%s", e.text);
	if (r == 0)
		r = agent_find(&p, a->words[0], NULL, &flags, &agent, &e);
	if (r < 0 || !agent) {
		(void)cli_fail(&e);
		return r == -ENOENT ? EXIT_UNKNOWN : CLI_EXIT_ERROR;
	}
	if (!agent_image_is_built(agent))
		return nothing_to_do(agent);
	b = calloc(1, sizeof(*b));
	if (!b)
		return cli_usage(a, "out of memory");
	b->c = c;
	b->args = a;
	b->agent = agent;
	b->where = &p.where;
	b->session.signal_fd = -1;
	strings_init(&b->env, SPEC_STRINGS_MAX);
	strings_init(&b->hosts, POLICY_SLOT_HOSTS_MAX);
	status = take_flags(b, &e) < 0 ? cli_usage(a, "%s", e.text) : build(b);
	build_fini(b);
	return status;
}

const struct verb verb_agent_build = {
	.name = "build",
	.summary = "Make an agent's image, with the package managers of its base image",
	.args = "AGENT",
	.about =
		"What the profile's image: names is installed in a guest of the base image, which\n"
		"reaches the registries its own package managers are set up to use, to read, and\n"
		"nothing else. The files of that guest become the image agent/AGENT. A fresh guest of\n"
		"it has to answer --version; until then, and if anything fails, nothing is kept. The\n"
		"image says what it was made of: berm image inspect agent/AGENT.\n"
		"\n"
		"Where the registries are mirrors with a private address, --allow ADDRESS:PORT permits\n"
		"that address.\n"
		"\n"
		"Exit status: 0 made; 3 there is no such agent; 125 anything else; 130 interrupted.\n",
	.examples =
		"berm agent build claude-code\n"
		"berm agent build codex --env NPM_CONFIG_REGISTRY=https://npm.corp.example/\n"
		"berm agent build codex --image codex-next && berm code codex --image codex-next\n",
	.opts = build_opts,
	.run = run_build,
	.words_min = 1,
	.words_max = 1,
	.words = COMPLETE_AGENT,
};
