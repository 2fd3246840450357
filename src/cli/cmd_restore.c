#include "cli/copies.h"
#include "cli/live.h"
#include "cli/verbs.h"
#include "image/store.h"
#include "term/term.h"

#include <errno.h>
#include <string.h>

enum {
	OPT_DETACH = COPIES_OPT_NEXT,
	OPT_NO_STDIN,
	OPT_HOSTNAME,
	OPT_MINIMUM,
	OPT_RESULT,
};

/* clang-format off */
static const struct opt restore_opts[] = {
	{ COPIES_OPT_COUNT, 'n', "count", "N", COMPLETE_NONE, "how many; more than one only with -d (1)" },
	{ COPIES_OPT_NAME, 0, "name", "NAME", COMPLETE_NONE, "its name; several are NAME-1, NAME-2 and so on" },
	{ OPT_DETACH, 'd', "detach", NULL, COMPLETE_NONE, "leave it running and print its id" },
	{ COPIES_OPT_RM, 0, "rm", NULL, COMPLETE_NONE, "with -d: keep no record once it has ended" },
	{ OPT_NO_STDIN, 0, "no-stdin", NULL, COMPLETE_NONE, "forward nothing to its stdin" },
	{ OPT_HOSTNAME, 0, "hostname", "NAME", COMPLETE_NONE, "the guest's host name" },
	{ COPIES_OPT_TIME, 0, "time", "DURATION", COMPLETE_NONE, "end it after so long" },
	{ COPIES_OPT_IDLE, 0, "idle", "DURATION", COMPLETE_NONE,
	  "end it when nothing happens for so long" },
	{ COPIES_OPT_OUTPUT, 0, "output", "SIZE", COMPLETE_NONE, "end it after so much output" },
	EGRESS_RULE_ROWS,
	EGRESS_POLICY_ROW,
	EGRESS_PUBLISH_ROW,
	{ OPT_MINIMUM, 0, "minimum", "microvm|emulated|process", COMPLETE_NONE,
	  "the least boundary accepted (emulated)" },
	{ OPT_RESULT, 0, "result", "FILE", COMPLETE_FILE,
	  "write the result as JSON there; fd:N is an open one" },
	{ OPT_JSON, 0, "json", NULL, COMPLETE_NONE,
	  "print result, stdout and stderr as one JSON object" },
	OPT_END_ROW,
};
/* clang-format on */

static int take_flags(struct copies *cs, const struct cli *c, const struct args *a, struct err *e)
{
	const char *minimum = args_value(a, OPT_MINIMUM);
	struct spec *s = &cs->spec;
	int r = copies_take_flags(cs, a, e);

	if (r == 0 && minimum)
		r = level_parse(minimum, &s->minimum_level, e);
	if (r < 0)
		return r;
	s->hostname = args_value(a, OPT_HOSTNAME);
	s->detach = args_has(a, OPT_DETACH);
	if (cs->count > 1 && !s->detach)
		return err_set(e, -EINVAL, "--count: several can only be left running: add -d");
	if (s->detach && args_has(a, OPT_RESULT))
		return err_set(e, -EINVAL, "--result is for one that is waited for, not for -d");
	if (cs->count > 1 && s->hostname)
		return err_set(e, -EINVAL, "--hostname is of one guest: use --name for several");
	s->foreground_tty = c->err_tty && !s->detach;
	return 0;
}

/* The command's input is forwarded if it had one that was open. */
static void take_terminal(struct spec *s, const struct cli *c, const struct args *a)
{
	if (!s->stdin_open || s->main_stdin_eof || s->main_pid == 0)
		s->stdin_open = false;
	else
		s->stdin_open = session_wants_stdin(c, false, args_has(a, OPT_NO_STDIN));
	if (s->tty && c->out_tty)
		(void)term_size(STDOUT_FILENO, &s->rows, &s->cols);
}

static int run_foreground(struct copies *cs, struct cli *c, const struct args *a, int result_fd)
{
	__attribute__((cleanup(session_fini))) struct session s = { .signal_fd = -1 };
	_own_(egress_plan_fini) struct egress_plan plan;
	struct started st;
	struct err e = { 0 };

	cs->spec.name = cs->name;
	take_terminal(&cs->spec, c, a);
	egress_plan_init(&plan);
	if (session_init(&s, c, SESSION_RUN, &e) < 0 ||
	    (cs->spec.network && copies_plan(cs, c, &plan, &e) < 0) ||
	    start_copy(&c->paths, c->state_fd, cs->image->disk_fd, &cs->spec, &cs->from->files,
	               cs->spec.network ? &plan : NULL, false, &st, &e) < 0)
		return cli_fail(&e);
	return live_run(&s, c, &cs->spec, &st, result_fd);
}

/* Ports of several copies would be one port. */
static int take_egress(struct copies *cs, struct cli *c, const struct args *a, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < a->opt_count; i++)
		if (egress_is_opt(a->opts[i].id))
			r = egress_take(cs->egress, c, &a->opts[i], e);
	if (r == 0 && cs->count > 1 && cs->egress->ports_count > 0)
		r = err_set(e, -EINVAL, "-p is of one guest, and --count starts several");
	return r;
}

static int run_restore(struct cli *c, const struct args *a)
{
	__attribute__((cleanup(egress_fini_scope))) struct egress egress = { .presets_fd = -1 };
	__attribute__((cleanup(copies_drop_image))) struct copies cs = { .egress = &egress };
	_own_(snapshot_free) struct snapshot *from = NULL;
	const char *result = args_value(a, OPT_RESULT);
	_own_fd_ int result_fd = -1;
	struct err e = { 0 };

	if (take_flags(&cs, c, a, &e) < 0 || take_egress(&cs, c, a, &e) < 0)
		return cli_usage(a, "%s", e.text);
	if (result && live_open_result(result, &result_fd, &e) < 0)
		return cli_fail(&e);
	if (cli_state(c, &e) < 0 || snapshot_open(c->state_fd, a->words[0], &from, &e) < 0 ||
	    copies_begin(&cs, c, from, &e) < 0)
		return cli_fail(&e);
	if (take_flags(&cs, c, a, &e) < 0 || copies_check_network(&cs, &e) < 0)
		return cli_usage(a, "%s", e.text);
	if (copies_open_image(&cs, c, &e) < 0) {
		(void)err_wrap(&e, "snapshot '%s'", from->name);
		return cli_fail(&e);
	}
	if (copies_prepare_network(&cs, c, a, &e) < 0)
		return cli_fail(&e);
	return cs.spec.detach ? copies_run(&cs, c) : run_foreground(&cs, c, a, result_fd);
}

const struct verb verb_restore = {
	.name = "restore",
	.summary = "Start sandboxes from a snapshot",
	.args = "SNAPSHOT",
	.about =
		"The guest goes on from the moment it was saved, as another one: with a name, machine-id,\n"
		"random numbers and clock of its own. Memory, disk, CPUs and processes are those of the\n"
		"snapshot; limits of time, idleness and output too, unless they are given anew, and they\n"
		"count from the start. Without -d berm stays with it as berm run does, and exits with the\n"
		"status of its main command.\n"
		"\n"
		"A guest that had a network has its card, and reaches nothing unless the flags say so:\n"
		"a snapshot keeps neither policy nor secrets.\n",
	.examples = "berm restore warm\n"
		    "berm restore -d --name web warm\n"
		    "berm restore -d -n 10 --name try warm\n"
		    "berm restore --time 30s --json warm | jq .result.reason\n",
	.opts = restore_opts,
	.run = run_restore,
	.words_min = 1,
	.words_max = 1,
	.words = COMPLETE_SNAPSHOT,
};
