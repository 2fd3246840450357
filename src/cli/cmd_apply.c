#include "cli/verbs.h"
#include "session/review_apply.h"
#include "session/review_json.h"

#include <errno.h>
#include <string.h>

enum {
	OPT_PLAIN = 1,
	OPT_ALL,
	OPT_IGNORED,
	OPT_PATH,
	OPT_X0,
	OPT_LINKS,
	OPT_WHOLE,
	OPT_REST,
	OPT_COMMITS,
	OPT_NO_COMMITS,
};

static const struct opt apply_opts[] = {
	{ OPT_PLAIN, 0, "plain-only", NULL, COMPLETE_NONE, "accept the plain edits" },
	{ OPT_ALL, 0, "all", NULL, COMPLETE_NONE,
	  "accept all but X0, conflicts and what git ignores" },
	{ OPT_IGNORED, 0, "ignored", NULL, COMPLETE_NONE, "accept what git ignores" },
	{ OPT_PATH, 0, "path", "PATH", COMPLETE_FILE,
	  "accept what is there, or beneath it; of a conflict the agent's" },
	{ OPT_X0, 0, "accept-x0", "PATH", COMPLETE_NONE,
	  "accept one that runs by itself, its path as berm diff shows it" },
	{ OPT_LINKS, 0, "break-links", NULL, COMPLETE_NONE,
	  "part files from their other hard links" },
	{ OPT_WHOLE, 0, "all-or-nothing", NULL, COMPLETE_NONE,
	  "nothing, if the host has changed one of them (the default)" },
	{ OPT_REST, 0, "rest", NULL, COMPLETE_NONE, "leave out what the host has changed" },
	{ OPT_COMMITS, 0, "commits", NULL, COMPLETE_NONE, "bring the commits home (the default)" },
	{ OPT_NO_COMMITS, 0, "no-commits", NULL, COMPLETE_NONE, "leave the commits" },
	OPT_JSON_ROW,
	OPT_END_ROW,
};

static int accept_sections(struct review *r, const enum review_section *s, size_t count,
                           struct err *e)
{
	uint64_t taken;
	int got = 0;

	for (size_t i = 0; got == 0 && i < count; i++)
		got = review_decide_all(r, s[i], span_str(""), REVIEW_ACCEPT, &taken, e);
	return got;
}

/* Escaped, cut, for a message. */
static const char *shown_path(struct span path, char *storage, size_t size)
{
	struct buf b;

	buf_init(&b, storage, size);
	buf_put_escaped(&b, span_of(path.at, path.len < size / 4 - 1 ? path.len : size / 4 - 1));
	return buf_cstr(&b);
}

/*
 * What is beneath a directory is taken as by `all`: not what would run, and not conflicts. Who
 * names a conflict itself has decided on it.
 */
static int accept_one(struct review *r, size_t i, struct span path, bool *found, struct err *e)
{
	const struct review_item *item = review_at(r, i);
	bool itself = span_equal(item->change->path, path);
	char storage[256];
	int got;

	if (!(item->flags & RV_DECIDABLE) || !review_item_beneath(item, path))
		return 0;
	if (item->flags & RV_DONE) {
		*found = true;
		return 0;
	}
	if (item->section == REVIEW_X0 && itself)
		return err_set(e, -EPERM,
		               "'%s' would run by itself: --accept-x0 with its path takes it",
		               shown_path(path, storage, sizeof(storage)));
	if (!itself && (item->section == REVIEW_X0 || item->section == REVIEW_CONFLICTS))
		return 0;
	got = review_decide(r, i, REVIEW_ACCEPT, span_str(""), e);
	*found = *found || got == 0;
	return got;
}

static int accept_path(struct review_opened *o, const char *typed, struct err *e)
{
	char path[REVIEW_PATH_ROOM];
	bool found = false;
	int r = review_path(o, typed, path, e);

	for (size_t i = 0; r == 0 && i < review_count(o->review); i++)
		r = accept_one(o->review, i, span_str(path), &found, e);
	if (r == 0 && !found)
		return err_set(e, -ENOENT,
		               "--path: nothing to accept at '%.200s' (berm diff --name-only %s)",
		               typed, o->s.info.id);
	return r;
}

/* As it is typed in a review, or as it is shown: there a backslash may be the name's or ours. */
static bool is_meant(const struct review *r, size_t i, struct span typed, struct buf *b)
{
	buf_reset(b);
	buf_put_escaped(b, review_at(r, i)->change->path);
	if (span_equal(buf_span(b), typed))
		return true;
	buf_reset(b);
	review_put_typed(r, i, b);
	return span_equal(buf_span(b), typed);
}

static int accept_x0(struct review_opened *o, const char *typed, struct err *e)
{
	struct review_span x0 = review_of(o->review, REVIEW_X0);
	char storage[4 * REVIEW_PATH_ROOM];
	size_t found = SIZE_MAX;
	struct buf b;

	buf_init(&b, storage, sizeof(storage));
	for (size_t i = x0.first; i < x0.first + x0.count; i++) {
		if (!is_meant(o->review, i, span_str(typed), &b))
			continue;
		if (found != SIZE_MAX)
			return err_set(e, -EPERM,
			               "--accept-x0: '%.200s' is how two of them are shown: take "
			               "yours with berm review %s",
			               typed, o->s.info.id);
		found = i;
	}
	if (found == SIZE_MAX)
		return err_set(e, -ENOENT,
		               "--accept-x0: '%.200s' is none of those that run by themselves "
		               "(berm diff %s lists them)",
		               typed, o->s.info.id);
	if (review_at(o->review, found)->flags & RV_DONE)
		return 0;
	buf_reset(&b);
	review_put_typed(o->review, found, &b);
	return review_decide(o->review, found, REVIEW_ACCEPT, buf_span(&b), e);
}

static int consent(struct review *r, struct err *e)
{
	int got = 0;

	for (size_t i = 0; got == 0 && i < review_count(r); i++) {
		const struct review_item *item = review_at(r, i);
		bool links = item->change->host.exists && item->change->identity.nlink > 1 &&
		             item->change->host.kind == WORK_FILE;

		if (links && item->choice != REVIEW_UNDECIDED && item->choice != REVIEW_REJECT &&
		    !(item->flags & (RV_DONE | RV_CONSENT_LINKS)))
			got = review_consent_links(r, i, true, e);
	}
	return got;
}

static int accept(struct review_opened *o, const struct args *a, struct err *e)
{
	static const enum review_section plain[] = { REVIEW_PLAIN };
	static const enum review_section ignored[] = { REVIEW_IGNORED };
	static const enum review_section all[] = { REVIEW_X1, REVIEW_X2, REVIEW_X3, REVIEW_X4,
		                                   REVIEW_PLAIN };
	int r = 0;

	if (args_has(a, OPT_ALL))
		r = accept_sections(o->review, all, sizeof(all) / sizeof(all[0]), e);
	if (r == 0 && args_has(a, OPT_PLAIN))
		r = accept_sections(o->review, plain, 1, e);
	if (r == 0 && args_has(a, OPT_IGNORED))
		r = accept_sections(o->review, ignored, 1, e);
	for (size_t i = 0; r == 0 && i < a->opt_count; i++) {
		if (a->opts[i].id == OPT_PATH)
			r = accept_path(o, a->opts[i].value, e);
		else if (a->opts[i].id == OPT_X0)
			r = accept_x0(o, a->opts[i].value, e);
	}
	return r == 0 && args_has(a, OPT_LINKS) ? consent(o->review, e) : r;
}

static int apply(struct cli *c, struct review_opened *o, const struct args *a, struct err *e)
{
	enum apply_mode mode = args_has(a, OPT_REST) ? APPLY_REST : APPLY_ALL;
	struct review_outcome done = { 0 };
	struct err commits_e = { 0 };
	int r = accept(o, a, e);

	if (r == 0)
		r = review_opened_apply(o, mode, !args_has(a, OPT_NO_COMMITS), &done, &commits_e,
		                        e);
	if (r < 0)
		return r;
	if (c->json)
		return review_json_print_outcome(o, &done, &commits_e, e);
	review_text_outcome(o, "apply", &done, &commits_e, stdout);
	return 0;
}

static int run_apply(struct cli *c, const struct args *a)
{
	_own_(review_opened_end) struct review_opened o;
	struct work_session s;
	struct err e = { 0 };
	int r;

	review_opened_init(&o);
	work_session_init(&s);
	if (args_has(a, OPT_REST) && args_has(a, OPT_WHOLE))
		return cli_usage(a, "--rest and --all-or-nothing contradict each other");
	if (args_has(a, OPT_COMMITS) && args_has(a, OPT_NO_COMMITS))
		return cli_usage(a, "--commits and --no-commits contradict each other");
	r = review_session_find(c, a->words[0], &s, &e);
	if (r == 0)
		r = review_opened_begin(c, &s, "apply", 0, &o, &e);
	if (r == 0)
		r = apply(c, &o, a, &e);
	return r < 0 ? cli_fail(&e) : review_exit(&o);
}

const struct verb verb_apply = {
	.name = "apply",
	.summary = "Put accepted changes of a session into the workspace",
	.args = "[SESSION]",
	.about =
		"All of them or none: a crash in the middle is ended by the next command, one way or the\n"
		"other. What was accepted in berm review is applied, and what the flags accept. Without a\n"
		"flag nothing more is accepted. What would run by itself (X0) is never taken by --all or\n"
		"--path, only by name with --accept-x0.\n"
		"\n"
		"Commits arrive as refs/berm/SESSION/BRANCH, those of a tag or the stash alone as\n"
		"refs/berm/SESSION/refs/tags/TAG and .../refs/stash, a submodule's in the submodule; your\n"
		"branches, index and HEAD stay as they are. berm undo takes it back, and leaves the\n"
		"commits.\n"
		"\n"
		"Exit status: 0 done, and nothing waits; 3 something waits for a decision; 125 an error.\n",
	.examples = "berm apply --plain-only\n"
		    "berm apply 3f2a --path src --path Makefile\n"
		    "berm apply 3f2a --accept-x0 .envrc\n"
		    "berm apply --plain-only --rest --json | jq .totals.undecided\n",
	.opts = apply_opts,
	.run = run_apply,
	.words_max = 1,
	.words = COMPLETE_SESSION,
};
