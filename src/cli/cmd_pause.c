#include "cli/reach.h"
#include "cli/verbs.h"
#include "lib/snapshot.h"

#include <errno.h>
#include <stdio.h>

static const struct opt pause_opts[] = { OPT_JSON_ROW, OPT_END_ROW };

typedef int ask_fn(struct client *c, struct err *e);

static int ask_one(struct cli *c, const char *ref, ask_fn *ask, struct state_info *ret_info,
                   struct err *e)
{
	_own_(client_free) struct client *client = NULL;
	int r = reach_client(c, ref, ret_info, &client, e);

	return r == 0 ? ask(client, e) : r;
}

static void put_done(const struct cli *c, const char *ref, const struct state_info *info,
                     bool paused)
{
	char storage[512];
	struct buf b;

	buf_init(&b, storage, sizeof(storage));
	if (c->json) {
		buf_printf(&b, "{\"id\":\"%s\",\"name\":", info->id);
		buf_put_json_str(&b, span_str(info->name[0] ? info->name : info->id));
		buf_printf(&b, ",\"paused\":%s}\n", paused ? "true" : "false");
	} else {
		buf_printf(&b, "%s\n", ref);
	}
	(void)fwrite(b.at, 1, b.len, stdout);
}

static int run_each(struct cli *c, const struct args *a, ask_fn *ask, bool paused)
{
	const char *what = paused ? "paused" : "resumed";
	int status = 0;

	for (size_t i = 0; i < a->word_count; i++) {
		struct state_info info;
		struct err e = { 0 };
		int r = ask_one(c, a->words[i], ask, &info, &e);

		if (r == 0) {
			put_done(c, a->words[i], &info, paused);
			continue;
		}
		if (r != -ESRCH)
			(void)err_wrap(&e, "'%s' cannot be %s", a->words[i], what);
		status = reach_fail(&e);
	}
	return status;
}

static int run_pause(struct cli *c, const struct args *a)
{
	return run_each(c, a, snapshot_pause, true);
}

static int run_resume(struct cli *c, const struct args *a)
{
	return run_each(c, a, snapshot_resume, false);
}

const struct verb verb_pause = {
	.name = "pause",
	.summary = "Make running sandboxes stand still",
	.args = "SANDBOX...",
	.about =
		"The guest uses no CPU until berm resume, and keeps its memory; its limits of time and\n"
		"idleness do not count meanwhile. Commands of berm exec and cp wait. berm stop lets it\n"
		"go on, to end well; it can be saved and forked as it stands.\n"
		"\n" REACH_EXITS,
	.examples = "berm pause web\n"
		    "berm ps --json | jq '.[] | select(.paused).name'\n"
		    "berm resume web\n",
	.opts = pause_opts,
	.run = run_pause,
	.words_min = 1,
	.words_max = CLI_WORDS_ANY,
	.words = COMPLETE_SANDBOX,
};

const struct verb verb_resume = {
	.name = "resume",
	.summary = "Let paused sandboxes go on",
	.args = "SANDBOX...",
	.about = "Its clock is set to the host's first.\n"
		 "\n" REACH_EXITS,
	.examples = "berm resume web\n"
		    "berm resume $(berm ps --json | jq -r '.[] | select(.paused).id')\n",
	.opts = pause_opts,
	.run = run_resume,
	.words_min = 1,
	.words_max = CLI_WORDS_ANY,
	.words = COMPLETE_SANDBOX,
};
