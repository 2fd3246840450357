#include "cli/code/code.h"
#include "cli/verbs.h"

#include "base/log.h"

#include <errno.h>
#include <string.h>

static int take_agent(struct code *k, struct err *e)
{
	struct agent_flags flags = { 0 };
	int r = agent_flags_read(k->a, &flags, e);

	if (r == 0)
		r = agent_places_open(&k->places, k->c, e);
	if (r < 0)
		return r;
	k->have_places = true;
	return agent_find(&k->places, k->opt.agent, k->root, &flags, &k->agent, e);
}

/* Nothing ran in it: it is of no worth to anybody, but for a base that was another session's. */
static void drop_session(struct code *k)
{
	bool keep = *k->packed_over != '\0' && k->work.info.state == SESSION_PACKED;
	struct err e = { 0 };
	int r;

	if (k->work.dir_fd < 0 || k->begun)
		return;
	if (k->work.lock_fd < 0 && work_session_lock(&k->work, "remove", &e) < 0)
		return; /* its supervisor is still ending; the next list removes it */
	if (k->work.info.state >= SESSION_RUNNING) /* as the lock's last holder left it */
		return;
	r = keep ? work_session_keep_base(k->c->state_fd, &k->work, &e)
	         : work_session_remove(k->c->state_fd, &k->work, &e);
	if (r < 0)
		log_warn("%s", e.text);
}

static int fail(struct code *k, const struct err *e)
{
	if (k->s.interrupted && !k->begun) {
		log_info("interrupted before its command began: there is no session");
		return 128 + k->s.interrupted;
	}
	return cli_fail(e);
}

static int start(struct code *k)
{
	struct err e = { 0 };

	if (code_finish_spec(k, &e) < 0 || code_run(k, &e) < 0) {
		int status = fail(k, &e);

		/* its work is where it was; what berm has to say comes with that */
		return k->begun && k->work.lock_fd >= 0 ? code_end(k) : status;
	}
	return code_end(k);
}

static int pack_and_start(struct code *k)
{
	struct err e = { 0 };

	if (sigprocmask(SIG_SETMASK, NULL, &k->mask) < 0 ||
	    session_init(&k->s, k->c, SESSION_RUN, &e) < 0)
		return cli_fail(&e);
	k->catching = true;
	if (code_pack(k, &e) < 0)
		return fail(k, &e);
	if (k->opt.dry_run)
		return code_print_dry_run(k, &e) < 0 ? cli_fail(&e) : 0;
	code_tell_packed(k);
	return start(k);
}

static void code_fini(struct code *k)
{
	if (!k)
		return;
	drop_session(k);
	work_session_close(&k->work);
	if (k->catching)
		session_fini(&k->s);
	run_drop_image(&k->run);
	run_fini(&k->run);
	gitdir_free(k->gitdir);
	review_links_free(k->links);
	class_list_free(k->classes);
	exclude_free(k->exclude);
	agent_free(k->agent);
	if (k->have_places)
		agent_places_close(&k->places);
	if (k->root_fd >= 0)
		(void)close(k->root_fd);
	if (k->home_fd >= 0)
		(void)close(k->home_fd);
	strings_fini(&k->take_back);
	strings_fini(&k->excludes);
	strings_fini(&k->said);
	free(k->exclude_text);
	free(k->hits);
	free(k->captured);
	free(k);
}

OWN_DEFINE(struct code, code_fini)

static struct code *code_new(struct cli *c, const struct args *a)
{
	struct code *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	k->c = c;
	k->a = a;
	k->root_fd = k->home_fd = k->s.signal_fd = -1;
	k->command_code = -1;
	run_init(&k->run);
	work_session_init(&k->work);
	strings_init(&k->take_back, EXCLUDE_TAKEN_BACK_MAX);
	strings_init(&k->excludes, SPEC_STRINGS_MAX);
	strings_init(&k->said, SETTINGS_FILES_MAX);
	return k;
}

static int run_code(struct cli *c, const struct args *a)
{
	_own_(code_fini) struct code *k = code_new(c, a);
	struct err e = { 0 };

	if (!k)
		return cli_fail(&(struct err){ .text = "out of memory" });
	if (code_take_options(k, &e) < 0)
		return cli_usage(a, "%s", e.text);
	if (cli_state(c, &e) < 0 || code_open_workspace(k, &e) < 0 || take_agent(k, &e) < 0 ||
	    code_plan(k, &e) < 0)
		return cli_fail(&e);
	return pack_and_start(k);
}

const struct verb verb_code = {
	.name = "code",
	.summary = "Let an agent work on a copy of a directory, and decide what comes back",
	.args = "[AGENT] [-- CMD [ARG...]]",
	.about =
		"The directory is packed and mounted in a fresh guest; what the agent changes there is\n"
		"kept as a session until it is decided on, and nothing of it touches the directory\n"
		"before that: see berm review. AGENT is a profile of 'berm agent ls'; without one it\n"
		"is 'custom', a shell. A CMD runs in place of the profile's command.\n"
		"\n"
		"Credentials stay out by name, and so does what .bermignore and --exclude say;\n"
		"--dry-run lists all. Of git's configuration only what is harmless enters.\n"
		"\n"
		"Exit status: the command's own, as with berm run; with --task 3 if it succeeded and\n"
		"changes wait for a decision; 125 berm's own error.\n",
	.examples = "berm code claude-code\n"
		    "berm code codex -C ~/src/project --egress standard\n"
		    "berm code claude-code --task 'make the tests pass' --json\n"
		    "berm code -- make test\n"
		    "berm code --dry-run\n"
		    "berm code --include-secret tests/fixtures/server.pem\n",
	.opts = code_opts,
	.run = run_code,
	.words_max = CLI_WORDS_ANY,
	.words = COMPLETE_AGENT,
};
