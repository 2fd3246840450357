#include "cli/live.h"
#include "cli/run.h"
#include "cli/verbs.h"
#include "image/store.h"

#include <unistd.h>

/* -p alone says nothing of what may be reached, which is nothing then. */
static int plan_network(const struct run *run, struct egress_plan *plan, struct err *e)
{
	int r = egress_fill(&run->egress, plan, e);

	return r == 0 && run->spec.network && plan->policy_fd < 0 ? egress_plan_deny(plan, e) : r;
}

static int run_sandbox(struct session *s, struct cli *c, struct run *run, int result_fd)
{
	_own_(egress_plan_fini) struct egress_plan plan;
	struct started st;
	struct err e = { 0 };

	egress_plan_init(&plan);
	if (plan_network(run, &plan, &e) < 0 ||
	    start_sandbox(&c->paths, c->state_fd, run->disk_fd, &run->spec,
	                  run->spec.network ? &plan : NULL, &st, &e) < 0)
		return cli_fail(&e);
	return live_run(s, c, &run->spec, &st, result_fd);
}

static void take_size(struct run *run, const struct cli *c)
{
	struct spec *s = &run->spec;

	if (!s->tty)
		return;
	s->rows = TERM_ROWS_DEFAULT;
	s->cols = TERM_COLS_DEFAULT;
	if (c->out_tty)
		(void)term_size(STDOUT_FILENO, &s->rows, &s->cols);
}

static void finish_run(struct run *run)
{
	run_drop_image(run);
	run_fini(run);
}

static int run_run(struct cli *c, const struct args *a)
{
	__attribute__((cleanup(session_fini))) struct session s = { .signal_fd = -1 };
	__attribute__((cleanup(finish_run))) struct run run;
	_own_fd_ int result_fd = -1;
	struct err e = { 0 };

	run_init(&run);
	if (run_take_flags(&run, c, a, &e) < 0 || spec_check(&run.spec, &e) < 0)
		return cli_usage(a, "%s", e.text);
	if (run.result_path && live_open_result(run.result_path, &result_fd, &e) < 0)
		return cli_fail(&e);
	take_size(&run, c);
	egress_say_workspace(&run.egress);
	if (cli_state(c, &e) < 0 || run_take_image(&run, c, &e) < 0 ||
	    egress_take_registries(&run.egress, c, a, NULL, run.spec.envp, run.opened->meta, &e) <
	            0 ||
	    egress_prepare(&run.egress, c, NULL, &e) < 0 || spec_check(&run.spec, &e) < 0 ||
	    session_init(&s, c, SESSION_RUN, &e) < 0)
		return cli_fail(&e);
	return run_sandbox(&s, c, &run, result_fd);
}

const struct verb verb_run = {
	.name = "run",
	.summary = "Run a command in a fresh guest",
	.args = "[IMAGE] [CMD [ARG...]] | -- CMD [ARG...]",
	.about =
		"The first word is the image; with -- in front of the command, the default image is\n"
		"used. Without a command the image's own is run. The guest is gone when it ends.\n"
		"\n"
		"Stdin is forwarded, except with -d or from a terminal while in the background. At a\n"
		"terminal (stdin, stdout and stderr) the command gets a terminal of its own.\n"
		"\n"
		"The guest has no network unless --allow, --preset, --policy, --secret or -p gives it\n"
		"one, and then reaches what they name and nothing else: see berm-egress(7).\n"
		"\n"
		"Sizes are 64KiB, 512MiB, 2GiB; durations are 500ms, 30s, 5min, 2h.\n"
		"\n"
		"Exit status: the command's own; 124 a time limit; 125 berm's error; 126 the command\n"
		"cannot be executed; 127 it is not there; 128+N it was killed by signal N; 137 it was\n"
		"killed, or out of memory, and stderr says why.\n",
	.examples = "berm run -- python3 -c 'print(1)'\n"
		    "echo 'print(6*7)' | berm run --time 10s -- python3\n"
		    "berm run debian:12 sh -c 'cat /etc/os-release'\n"
		    "tar -c . | berm run -- sh -c 'mkdir /w && cd /w && tar -x && ls'\n"
		    "berm run -m 1GiB --cpus 2 -e TOKEN -- printenv TOKEN\n"
		    "berm run --json --time 1s -- sleep 9 | jq .result.reason\n"
		    "berm run --preset standard --allow api.example.com \\\n"
		    "    --secret API_KEY@api.example.com -- ./agent\n"
		    "berm run -d --name web -p 8080:80 -- python3 -m http.server 80\n"
		    "berm run -d --name web -- sleep 1h\n",
	.opts = run_opts,
	.run = run_run,
	.words_max = CLI_WORDS_ANY,
	.words = COMPLETE_IMAGE,
	.stop_at_word = true,
};
