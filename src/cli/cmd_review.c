#include "cli/session.h"
#include "cli/verbs.h"
#include "screen/tui.h"
#include "session/review_apply.h"
#include "session/review_json.h"

#include <errno.h>

enum { OPT_PLAIN = 1, OPT_FETCH_MAX };

static const struct opt review_opts[] = {
	{ OPT_PLAIN, 0, "plain-only", NULL, COMPLETE_NONE,
	  "without a terminal: accept the plain changes and apply them" },
	{ OPT_FETCH_MAX, 0, "fetch-max", "SIZE", COMPLETE_NONE,
	  "of a guest that is gone, fetch up to so much of its work (16GiB)" },
	OPT_JSON_ROW,
	OPT_END_ROW,
};

static int plain_only(struct cli *c, struct review_opened *o, struct err *e)
{
	struct review_outcome done = { 0 };
	struct err commits_e = { 0 };
	int r = review_apply_plain(c, o, &done, &commits_e, e);

	if (r < 0)
		return r;
	if (c->json)
		return review_json_print_outcome(o, &done, &commits_e, e);
	review_text_outcome(o, "apply", &done, &commits_e, stdout);
	return 0;
}

static int print_json(const struct review_opened *o, struct err *e)
{
	_own_free_ char *room = malloc(REVIEW_JSON_SUMMARY_MAX);
	struct buf b;

	if (!room)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&b, room, REVIEW_JSON_SUMMARY_MAX);
	review_json_put_summary(&b, o);
	buf_put_str(&b, "\n");
	return buf_ok(&b) ? cli_out(b.at, b.len, e)
	                  : err_set(e, -EMSGSIZE, "a summary of over %d bytes",
	                            REVIEW_JSON_SUMMARY_MAX);
}

static int run_review(struct cli *c, const struct args *a)
{
	_own_(review_opened_end) struct review_opened o;
	uint64_t fetch_bytes = 0;
	struct work_session s;
	struct err e = { 0 };
	int r;

	review_opened_init(&o);
	work_session_init(&s);
	r = args_has(a, OPT_FETCH_MAX)
	            ? session_fetch_max(args_value(a, OPT_FETCH_MAX), &fetch_bytes, &e)
	            : 0;
	if (r == 0)
		r = review_session_find(c, a->words[0], &s, &e);
	if (r == 0)
		r = review_opened_begin(c, &s, "review", fetch_bytes, &o, &e);
	if (r == 0 && !args_has(a, OPT_PLAIN) && !c->json)
		return review_tui_run(c, &o);
	if (r == 0)
		r = args_has(a, OPT_PLAIN) ? plain_only(c, &o, &e) : print_json(&o, &e);
	return r < 0 ? cli_fail(&e) : review_exit(&o);
}

const struct verb verb_review = {
	.name = "review",
	.summary = "Decide on what an agent changed, and apply it",
	.args = "[SESSION]",
	.about =
		"Shows a session's changes in a terminal, what could run something first, and takes\n"
		"decisions: for a file, for some of its hunks, for a directory. Without SESSION it is the\n"
		"newest undecided one of the workspace you are in. Each decision is kept when it is made,\n"
		"so a review can be left and gone on with at any time. Nothing is applied but by the key\n"
		"that applies. ? lists the keys; a and then Enter applies all plain changes.\n"
		"\n"
		"Exit status: 0 nothing waits any more; 3 something does, or there is no terminal (then\n"
		"see berm diff, and berm apply --plain-only); 125 an error of berm's.\n",
	.examples = "berm review\n"
		    "berm review 3f21c0\n"
		    "berm review --json | jq .totals.undecided\n",
	.opts = review_opts,
	.run = run_review,
	.words_max = 1,
	.words = COMPLETE_SESSION,
};
