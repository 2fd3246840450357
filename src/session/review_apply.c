#include "session/review_apply.h"

#include "session/review_text.h"

int review_apply_plain(struct cli *c, struct review_opened *o, struct review_outcome *ret,
                       struct err *ret_commits_e, struct err *e)
{
	uint64_t count;
	int r = review_decide_all(o->review, REVIEW_PLAIN, span_str(""), REVIEW_ACCEPT, &count, e);

	(void)c;
	return r < 0 ? r : review_opened_apply(o, APPLY_REST, true, ret, ret_commits_e, e);
}

int review_exit(struct review_opened *o)
{
	return review_opened_waits(o) ? CLI_EXIT_PENDING : 0;
}

static void put_back(const struct review_opened *o, const char *verb,
                     const struct review_outcome *done, FILE *f)
{
	if (done->applied.end == APPLY_RETURNED)
		(void)fprintf(f,
		              "nothing was changed: what is listed is not as it was on the host; "
		              "berm %s --rest %s does the others\n",
		              verb, o->s.info.id);
	else if (done->back > 0)
		(void)fprintf(f, "%llu went back to review: the host has changed them\n",
		              (unsigned long long)done->back);
	if (done->needs > 0)
		(void)fprintf(f,
		              "%llu accepted and left out: what they need was rejected "
		              "(berm diff %s shows which)\n",
		              (unsigned long long)done->needs, o->s.info.id);
}

/* The refs are of their own names alone, and somebody may have merged them: no undo removes any. */
static void tell_refs(const struct review_opened *o, FILE *f)
{
	uint64_t refs = o->s.info.commits_home;
	const char *id = o->s.info.id;

	if (refs == 0)
		return;
	(void)fprintf(f,
	              "commits: undo leaves %llu ref%s, refs/berm/%s/*; to remove %s:\n"
	              "  git for-each-ref --format='delete %%(refname)' refs/berm/%s |\n"
	              "    git update-ref --stdin\n",
	              (unsigned long long)refs, refs == 1 ? "" : "s", id, refs == 1 ? "it" : "them",
	              id);
}

void review_text_outcome(struct review_opened *o, const char *verb,
                         const struct review_outcome *done, const struct err *commits_e, FILE *f)
{
	if (done->applied.end == APPLY_DONE)
		(void)fprintf(f, "%s: %llu change%s\n", verb[0] == 'u' ? "undone" : "applied",
		              (unsigned long long)done->items, done->items == 1 ? "" : "s");
	else if (done->applied.end == APPLY_NOTHING)
		(void)fprintf(f, "nothing to %s\n", verb);
	review_text_said(o, f);
	put_back(o, verb, done, f);
	if (done->commits_refs > 0)
		(void)fprintf(f, "commits: %u ref%s, as refs/berm/%s/*\n", done->commits_refs,
		              done->commits_refs == 1 ? "" : "s", o->s.info.id);
	if (verb[0] == 'u')
		tell_refs(o, f);
	if (commits_e->len > 0) {
		(void)fputs("the commits could not be brought home: ", f);
		review_text_put(f, span_str(commits_e->text));
		(void)putc('\n', f);
	}
	review_text_summary(o, f);
}
