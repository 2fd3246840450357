#include "cli/verbs.h"
#include "session/review_apply.h"
#include "session/review_json.h"

#include <errno.h>

enum { OPT_REST = 1 };

static const struct opt undo_opts[] = {
	{ OPT_REST, 0, "rest", NULL, COMPLETE_NONE, "leave out what was edited since" },
	OPT_JSON_ROW,
	OPT_END_ROW,
};

static int undo(struct cli *c, struct review_opened *o, bool rest, struct review_outcome *done,
                struct err *e)
{
	const struct err none = { 0 };
	int r = review_opened_undo(o, rest ? APPLY_REST : APPLY_ALL, done, e);

	if (r == -ENOENT)
		return err_set(e, r, "nothing of session %s was applied, or all of it is undone",
		               o->s.info.id);
	if (r < 0)
		return r;
	if (c->json)
		return review_json_print_outcome(o, done, &none, e);
	review_text_outcome(o, "undo", done, &none, stdout);
	return 0;
}

static int run_undo(struct cli *c, const struct args *a)
{
	_own_(review_opened_end) struct review_opened o;
	struct review_outcome done = { 0 };
	struct work_session s;
	struct err e = { 0 };
	int r;

	review_opened_init(&o);
	work_session_init(&s);
	r = review_session_find_as(c, a->words[0], REVIEW_WANT_UNDO, &s, &e);
	if (r == 0)
		r = review_opened_begin_undo(c, &s, &o, &e);
	if (r == 0)
		r = undo(c, &o, args_has(a, OPT_REST), &done, &e);
	if (r < 0)
		return cli_fail(&e);
	return done.applied.end == APPLY_RETURNED || done.back > 0 ? CLI_EXIT_PENDING : 0;
}

const struct verb verb_undo = {
	.name = "undo",
	.summary = "Take the newest apply of a session back",
	.args = "[SESSION]",
	.about =
		"Contents, modes, links and deletions are as before, and the changes wait for a decision\n"
		"again (but for a session that another was packed over: it can be undone alone). Where a\n"
		"path was edited since, nothing is undone and the path is named; with --rest\n"
		"all the others are. Imported commits stay: they are refs/berm/SESSION/* alone.\n"
		"\n"
		"Exit status: 0 undone; 3 some paths were edited since, and are named; 125 an error.\n",
	.examples = "berm undo\n"
		    "berm undo 3f2a --rest\n",
	.opts = undo_opts,
	.run = run_undo,
	.words_max = 1,
	.words = COMPLETE_SESSION,
};
