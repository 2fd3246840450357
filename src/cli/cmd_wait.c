#include "cli/reach.h"
#include "cli/session.h"
#include "cli/verbs.h"
#include "state/result.h"

#include <errno.h>
#include <string.h>

static const struct opt wait_opts[] = { OPT_JSON_ROW, OPT_END_ROW };

/* Waits with a live sandbox for its END. */
static int await_end(struct cli *c, const char *id, char **ret_json, struct err *e)
{
	_own_(client_free) struct client *client = NULL;
	struct wire_frame f;
	int r = reach_client(c, id, NULL, &client, e);

	if (r < 0)
		return r;
	wire_put(&client->out, WIRE_WAIT, 0, 0, CLIENT_EPOCH, span_of(NULL, 0));
	r = client_expect(client, WIRE_END, -1, &f, e);
	if (r < 0)
		return r;
	*ret_json = strndup((const char *)f.payload.at, f.payload.len);
	return *ret_json ? 0 : err_set(e, -ENOMEM, "out of memory");
}

/* The JSON of how it ended, at once if it has. */
static int fetch_end(struct cli *c, const char *ref, char **ret_json, struct err *e)
{
	struct state_info info;
	struct err late = { 0 };
	int r = reach_find(c, ref, true, &info, e);

	if (r < 0)
		return r;
	if (info.ended)
		return reach_record(c, info.id, ret_json, e);
	r = await_end(c, info.id, ret_json, e);
	/* it may have ended between our look and our call: then its record is there by now */
	if (r < 0 && reach_record(c, info.id, ret_json, &late) == 0)
		return 0;
	return r;
}

static int run_wait(struct cli *c, const struct args *a)
{
	_own_free_ char *json = NULL;
	struct err e = { 0 };
	struct result res;

	if (fetch_end(c, a->words[0], &json, &e) < 0 ||
	    result_parse_json(span_str(json), &res, &e) < 0)
		return cli_fail(&e);
	if (c->json && (cli_out(json, strlen(json), &e) < 0 || cli_out("\n", 1, &e) < 0))
		return cli_fail(&e);
	if (!c->json)
		session_explain(&res);
	return (int)res.exit_code;
}

const struct verb verb_wait = {
	.name = "wait",
	.summary = "Wait for a sandbox to end",
	.args = "SANDBOX",
	.about = "Exits with the status that berm run would have had.\n",
	.examples = "id=$(berm run -d -- ./job) && berm wait \"$id\"\n"
		    "berm wait --json job | jq .reason\n",
	.opts = wait_opts,
	.run = run_wait,
	.words_min = 1,
	.words_max = 1,
	.words = COMPLETE_ANY_SANDBOX,
};
