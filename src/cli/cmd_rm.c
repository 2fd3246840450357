#include "base/log.h"
#include "cli/reach.h"
#include "cli/verbs.h"

#include <errno.h>
#include <stdio.h>

enum { OPT_FORCE = 1 };

static const struct opt rm_opts[] = {
	{ OPT_FORCE, 'f', "force", NULL, COMPLETE_NONE, "end it first if it runs" },
	OPT_END_ROW,
};

static int end_it(struct cli *c, const char *id, struct err *e)
{
	_own_(client_free) struct client *client = NULL;
	int r = reach_client(c, id, NULL, &client, e);

	if (r < 0)
		return r;
	return reach_stop(client, 0, e);
}

static int remove_one(struct cli *c, const char *ref, bool force, struct err *e)
{
	struct state_info info;
	int r = reach_find(c, ref, true, &info, e);

	if (r < 0)
		return r;
	if (!info.ended && !force)
		return err_set(e, -EBUSY, "'%s' is running: berm stop it, or berm rm -f", ref);
	if (!info.ended) {
		r = end_it(c, info.id, e);
		if (r < 0)
			return r;
	}
	r = state_remove_ended(c->state_fd, info.id, e);
	/* one that was ended, or was started with --rm, leaves none */
	if (r == -ENOENT && !info.ended) {
		err_clear(e);
		return 0;
	}
	return r;
}

static int run_rm(struct cli *c, const struct args *a)
{
	bool force = args_has(a, OPT_FORCE);
	int status = 0;

	for (size_t i = 0; i < a->word_count; i++) {
		struct err e = { 0 };

		if (remove_one(c, a->words[i], force, &e) < 0)
			status = reach_fail(&e);
		else
			(void)printf("%s\n", a->words[i]);
	}
	return status;
}

const struct verb verb_rm = {
	.name = "rm",
	.summary = "Remove what ended sandboxes left, or end and remove them",
	.args = "SANDBOX...",
	.about =
		"Only a sandbox that was started with -d and ended by itself leaves something: its\n"
		"result and its output. It is removed anyway after a week.\n"
		"\n" REACH_EXITS,
	.examples = "berm rm web\n"
		    "berm rm -f $(berm ps -aq)\n",
	.opts = rm_opts,
	.run = run_rm,
	.words_min = 1,
	.words_max = CLI_WORDS_ANY,
	.words = COMPLETE_ANY_SANDBOX,
};
