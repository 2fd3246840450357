#include "base/log.h"
#include "cli/verbs.h"

#include <string.h>

static int put_verb(struct buf *out, const struct args *a)
{
	const struct verb *v = verb_find(cli_verbs, a->words[0]);
	const struct verb *sub = NULL;
	const char *nearest;
	char path[64];

	if (!v) {
		nearest = verb_nearest(cli_verbs, a->words[0]);
		if (nearest)
			log_error("no verb '%s': did you mean '%s'?", a->words[0], nearest);
		else
			log_error("no verb '%s' (see berm help)", a->words[0]);
		return CLI_EXIT_ERROR;
	}
	if (a->word_count < 2) {
		help_put_verb(out, v->name, v);
		return 0;
	}
	if (v->subs)
		sub = verb_find(v->subs, a->words[1]);
	if (!sub) {
		log_error("no verb '%s %s' (see berm help %s)", v->name, a->words[1], v->name);
		return CLI_EXIT_ERROR;
	}
	(void)snprintf(path, sizeof(path), "%s %s", v->name, sub->name);
	help_put_verb(out, path, sub);
	return 0;
}

static int run_help(struct cli *c, const struct args *a)
{
	char storage[CLI_HELP_MAX];
	struct err e = { 0 };
	struct buf out;
	int r = 0;

	(void)c;
	buf_init(&out, storage, sizeof(storage));
	if (a->word_count > 0)
		r = put_verb(&out, a);
	else
		help_put_all(&out);
	if (r != 0)
		return r;
	return cli_out(out.at, out.len, &e) < 0 ? cli_fail(&e) : 0;
}

const struct verb verb_help = {
	.name = "help",
	.summary = "Show what berm can do, or one verb in full",
	.args = "[VERB [VERB]]",
	.examples = "berm help run\n"
		    "berm help image import\n",
	.run = run_help,
	.words_max = 2,
	.words = COMPLETE_VERB,
};

static int run_version(struct cli *c, const struct args *a)
{
	struct err e = { 0 };
	char text[64];
	int n;

	(void)a;
	if (c->json)
		n = snprintf(text, sizeof(text), "{\"version\":\"%s\"}\n", BERM_VERSION);
	else
		n = snprintf(text, sizeof(text), "berm %s\n", BERM_VERSION);
	return cli_out(text, (size_t)n, &e) < 0 ? cli_fail(&e) : 0;
}

static const struct opt version_opts[] = { OPT_JSON_ROW, OPT_END_ROW };

const struct verb verb_version = {
	.name = "version",
	.summary = "Show berm's version",
	.args = "",
	.examples = "berm version --json\n",
	.opts = version_opts,
	.run = run_version,
};
