#include "cli/reach.h"
#include "cli/verbs.h"
#include "lib/jread.h"

#include <errno.h>
#include <string.h>

static const struct opt inspect_opts[] = { OPT_JSON_ROW, OPT_END_ROW };

static int fetch(struct cli *c, const char *ref, char **ret_json, struct err *e)
{
	_own_(client_free) struct client *client = NULL;
	struct state_info info;
	int r = reach_find(c, ref, true, &info, e);

	if (r < 0)
		return r;
	if (info.ended)
		return reach_record(c, info.id, ret_json, e);
	r = reach_client(c, info.id, NULL, &client, e);
	return r < 0 ? r : reach_info(client, ret_json, e);
}

/* For a person indented, for a program one line. */
static int print_json(const struct cli *c, const char *json, struct err *e)
{
	_own_(jread_free) json_t *o = NULL;
	_own_free_ char *text = NULL;
	size_t flags = c->out_tty && !c->json ? JSON_INDENT(2) : JSON_COMPACT;
	int r = jread_object(span_str(json), &o, e);

	if (r < 0)
		return r;
	text = json_dumps(o, flags);
	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	r = cli_out(text, strlen(text), e);
	return r < 0 ? r : cli_out("\n", 1, e);
}

static int run_inspect(struct cli *c, const struct args *a)
{
	int status = 0;

	for (size_t i = 0; i < a->word_count; i++) {
		_own_free_ char *json = NULL;
		struct err e = { 0 };

		if (fetch(c, a->words[i], &json, &e) < 0 || print_json(c, json, &e) < 0)
			status = cli_fail(&e);
	}
	return status;
}

const struct verb verb_inspect = {
	.name = "inspect",
	.summary = "Show all that is known about sandboxes, as JSON",
	.args = "SANDBOX...",
	.about = "One object each: of a live one its limits and use, of an ended one its result.\n",
	.examples = "berm inspect web\n"
		    "berm inspect web | jq .limits\n",
	.opts = inspect_opts,
	.run = run_inspect,
	.words_min = 1,
	.words_max = CLI_WORDS_ANY,
	.words = COMPLETE_ANY_SANDBOX,
};
