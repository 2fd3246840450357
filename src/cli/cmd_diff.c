#include "cli/verbs.h"
#include "session/review_json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_STAT = 1, OPT_NAMES };

static const struct opt diff_opts[] = {
	{ OPT_STAT, 0, "stat", NULL, COMPLETE_NONE,
	  "a line for each path: lines added and removed" },
	{ OPT_NAMES, 0, "name-only", NULL, COMPLETE_NONE, "the paths alone" },
	OPT_JSON_ROW,
	OPT_END_ROW,
};

/* The front of an id: so short a word of hexadecimal digits is seldom a path. */
static bool may_be_id(const char *word)
{
	size_t len = strspn(word, "0123456789abcdef");

	return word[len] == '\0' && len >= SESSION_PREFIX_MIN && len <= SESSION_ID_LEN;
}

/* The first word is the session's if there is one; what stands behind "--" is paths. */
static int find(struct cli *c, const struct args *a, struct work_session *ret, size_t *ret_paths,
                struct err *e)
{
	struct err why = { 0 };
	struct err none = { 0 };
	int r;

	*ret_paths = 0;
	if (a->word_count == 0 || a->dashes_at == 0 || !may_be_id(a->words[0]))
		return review_session_find(c, NULL, ret, e);
	r = review_session_find(c, a->words[0], ret, &why);
	if (r == 0) {
		*ret_paths = 1;
		return 0;
	}
	/* a directory can be called "feed" */
	if (r == -ENOENT && review_session_find(c, NULL, ret, &none) == 0)
		return 0;
	*e = why;
	return r;
}

static int show(struct cli *c, const struct review_opened *o, const struct args *a, size_t first,
                struct err *e)
{
	struct review_text how = { .colour = cli_colour(c) };
	_own_free_ void *paths = NULL;
	int r = 0;

	if (args_has(a, OPT_NAMES))
		how.form = REVIEW_FORM_NAMES;
	else if (args_has(a, OPT_STAT))
		how.form = REVIEW_FORM_STAT;
	how.path_count = a->word_count - first;
	if (how.path_count > 0) {
		how.paths = paths = calloc(how.path_count, sizeof(*how.paths));
		if (!paths)
			return err_set(e, -ENOMEM, "out of memory");
	}
	for (size_t i = 0; r == 0 && i < how.path_count; i++)
		r = review_path(o, a->words[first + i], how.paths[i], e);
	if (r < 0)
		return r;
	return c->json ? review_json_print(o, &how, e) : review_text_print(o, &how, e);
}

static int run_diff(struct cli *c, const struct args *a)
{
	_own_(review_opened_end) struct review_opened o;
	struct work_session s;
	struct err e = { 0 };
	size_t first = 0;
	int r;

	review_opened_init(&o);
	work_session_init(&s);
	r = find(c, a, &s, &first, &e);
	if (r == 0)
		r = review_opened_begin(c, &s, "diff", 0, &o, &e);
	if (r == 0)
		r = show(c, &o, a, first, &e);
	return r < 0 ? cli_fail(&e) : 0;
}

const struct verb verb_diff = {
	.name = "diff",
	.summary = "Show what an agent changed in its workspace",
	.args = "[SESSION] [PATH...]",
	.about =
		"Sections come in the order in which they matter: what would run by itself first. What\n"
		"does not come back is listed with its reason. Without SESSION it is the newest that waits\n"
		"for a decision, of the workspace that the current directory lies in. Nothing is changed.\n"
		"\n"
		"What the agent wrote is escaped: a terminal obeys none of it.\n",
	.examples = "berm diff\n"
		    "berm diff --stat\n"
		    "berm diff 3f2a src/main.c docs\n"
		    "berm diff --json | jq -r '.changes[] | select(.class == \"X0\") | .path'\n",
	.opts = diff_opts,
	.run = run_diff,
	.words_max = CLI_WORDS_ANY,
	.words = COMPLETE_SESSION,
};
