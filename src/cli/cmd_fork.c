#include "cli/copies.h"
#include "cli/reach.h"
#include "cli/verbs.h"
#include "term/term.h"

#include <errno.h>
#include <string.h>

/* clang-format off */
static const struct opt fork_opts[] = {
	{ COPIES_OPT_COUNT, 'n', "count", "N", COMPLETE_NONE, "how many children (1)" },
	{ COPIES_OPT_NAME, 0, "name", "NAME", COMPLETE_NONE, "their name; several are NAME-1, NAME-2 and so on" },
	{ COPIES_OPT_RM, 0, "rm", NULL, COMPLETE_NONE, "keep no record of them once they have ended" },
	{ COPIES_OPT_TIME, 0, "time", "DURATION", COMPLETE_NONE, "end each after so long" },
	{ COPIES_OPT_IDLE, 0, "idle", "DURATION", COMPLETE_NONE,
	  "end each when nothing happens for so long" },
	{ COPIES_OPT_OUTPUT, 0, "output", "SIZE", COMPLETE_NONE, "end each after so much output" },
	EGRESS_RULE_ROWS,
	EGRESS_POLICY_ROW,
	OPT_JSON_ROW,
	OPT_END_ROW,
};
/* clang-format on */

static int save(struct cli *c, const char *ref, struct state_info *ret_info, struct snapshot **ret,
                struct err *e)
{
	static const char words[] = "copying the sandbox";
	_own_(client_free) struct client *client = NULL;
	struct spinner spinner = { .enabled = cli_redraws(c, c->err_tty) };
	int r = reach_client(c, ref, ret_info, &client, e);

	if (r < 0)
		return r;
	spinner_say(&spinner, span_of(words, sizeof(words) - 1));
	r = snapshot_fork(client, ret, e);
	spinner_clear(&spinner);
	return r < 0 ? err_wrap(e, "'%s' cannot be forked", ref) : 0;
}

static int run_fork(struct cli *c, const struct args *a)
{
	__attribute__((cleanup(egress_fini_scope))) struct egress egress = { .presets_fd = -1 };
	__attribute__((cleanup(copies_drop_image))) struct copies cs = { .egress = &egress };
	_own_(snapshot_free) struct snapshot *from = NULL;
	struct state_info parent = { .id = "" };
	struct err e = { 0 };
	int r = 0;

	/* judged before the sandbox is made to stand still; taken again when its spec is there */
	for (size_t i = 0; r == 0 && i < a->opt_count; i++)
		if (egress_is_opt(a->opts[i].id))
			r = egress_take(&egress, c, &a->opts[i], &e);
	if (r < 0 || copies_take_flags(&cs, a, &e) < 0)
		return cli_usage(a, "%s", e.text);
	if (cli_state(c, &e) < 0 || save(c, a->words[0], &parent, &from, &e) < 0 ||
	    copies_begin(&cs, c, from, &e) < 0 || copies_take_flags(&cs, a, &e) < 0 ||
	    copies_check_network(&cs, &e) < 0 || copies_open_image(&cs, c, &e) < 0 ||
	    copies_prepare_network(&cs, c, a, &e) < 0)
		return reach_fail(&e);
	cs.parent = parent.id;
	return copies_run(&cs, c);
}

const struct verb verb_fork = {
	.name = "fork",
	.summary = "Make copies of a running sandbox that go on from where it is",
	.args = "SANDBOX",
	.about =
		"Memory, processes and disk are copied; the sandbox stands still for a moment and goes\n"
		"on. Each child runs in the background with a name, machine-id, random numbers and clock\n"
		"of its own; its main command goes on, its output begins anew (berm logs). Commands of\n"
		"berm exec and cp that were running are cut off in the children. A program's own random\n"
		"generator, if it keeps one, is copied too: have it seeded anew.\n"
		"\n"
		"They reach what the sandbox reaches now, with its secrets and no published port; flags\n"
		"about the network replace its rules and its secrets. Each has placeholders and a\n"
		"certificate authority of its own: a program that goes on in it knows those of before,\n"
		"which are worth nothing there; commands of berm exec get the new ones.\n"
		"\n"
		"All children are started, or none. Their ids are printed, a line each.\n"
		"\n" REACH_EXITS,
	.examples = "berm fork web\n"
		    "berm fork -n 10 --name try warm\n"
		    "for id in $(berm fork -n 3 --rm warm); do berm exec \"$id\" ./job & done\n"
		    "berm fork --json web | jq -r '.[].id'\n",
	.opts = fork_opts,
	.run = run_fork,
	.words_min = 1,
	.words_max = 1,
	.words = COMPLETE_SANDBOX,
};
