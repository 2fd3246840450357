#include "cli/egress/live_egress.h"
#include "cli/verbs.h"
#include "state/jread.h"

#include <errno.h>
#include <string.h>

static const struct opt inspect_opts[] = { OPT_JSON_ROW, OPT_END_ROW };

static int fetch(struct cli *c, const char *ref, struct state_info *ret_who, char **ret_json,
                 struct err *e)
{
	_own_(client_free) struct client *client = NULL;
	int r = reach_find(c, ref, true, ret_who, e);

	if (r < 0)
		return r;
	if (ret_who->ended)
		return reach_record(c, ret_who->id, ret_json, e);
	r = reach_client(c, ret_who->id, NULL, &client, e);
	return r < 0 ? r : reach_info(client, ret_json, e);
}

/* The rules in force, in place of their count. One that ends meanwhile keeps the count. */
static int add_rules(struct cli *c, const char *id, json_t *egress, struct err *e)
{
	_own_(policy_free) struct policy *p = NULL;
	_own_free_ char *room = NULL;
	json_t *rules;

	if (live_egress_policy(c, id, &p, NULL) < 0)
		return 0;
	room = malloc(POLICY_SHOWN_MAX);
	rules = json_array();
	if (!room || !rules || json_object_set_new(egress, "rules", rules) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < policy_rules(p); i++) {
		struct buf b;

		buf_init(&b, room, POLICY_SHOWN_MAX);
		policy_put_rule_json(p, (uint16_t)i, &b);
		if (json_array_append_new(rules, json_loadb(room, b.len, 0, NULL)) < 0)
			return err_set(e, -ENOMEM, "out of memory");
	}
	return 0;
}

/* For a person indented, for a program one line. */
static int print_json(struct cli *c, const char *id, const char *json, struct err *e)
{
	_own_(jread_free) json_t *o = NULL;
	_own_free_ char *text = NULL;
	size_t flags = c->out_tty && !c->json ? JSON_INDENT(2) : JSON_COMPACT;
	int r = jread_object(span_str(json), &o, e);

	if (r == 0 && json_is_object(json_object_get(o, "egress")))
		r = add_rules(c, id, json_object_get(o, "egress"), e);
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
		struct state_info who;
		struct err e = { 0 };

		if (fetch(c, a->words[i], &who, &json, &e) < 0 ||
		    print_json(c, who.id, json, &e) < 0)
			status = reach_fail(&e);
	}
	return status;
}

const struct verb verb_inspect = {
	.name = "inspect",
	.summary = "Show all that is known about sandboxes, as JSON",
	.args = "SANDBOX...",
	.about =
		"One object each: of a live one its limits and use, of an ended one its result. What it\n"
		"may reach is in \"egress\"; of secrets there are names, never values.\n"
		"\n" REACH_EXITS,
	.examples = "berm inspect web\n"
		    "berm inspect web | jq .limits\n"
		    "berm inspect web | jq '.egress | {digest, generation, secrets}'\n",
	.opts = inspect_opts,
	.run = run_inspect,
	.words_min = 1,
	.words_max = CLI_WORDS_ANY,
	.words = COMPLETE_ANY_SANDBOX,
};
