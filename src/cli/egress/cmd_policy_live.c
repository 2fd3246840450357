#include "base/units.h"
#include "cli/egress/egress.h"
#include "cli/egress/live_egress.h"
#include "cli/verbs.h"
#include "image/store.h"
#include "lib/egress_ask.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { OPT_EXPECT = 1, LINE_BYTES_MAX = 512 };

/* --- show --- */

static const struct opt show_opts[] = { OPT_JSON_ROW, OPT_END_ROW };

static int show_json(const struct policy *p, const struct state_info *who, struct err *e)
{
	char room[LINE_BYTES_MAX];
	struct buf b;
	int r;

	buf_init(&b, room, sizeof(room));
	buf_printf(&b, "{\"id\":\"%s\",\"generation\":%" PRIu64 ",", who->id, policy_generation(p));
	r = cli_out(b.at, b.len, e);
	if (r == 0)
		r = egress_print_policy_json(p, NULL, e);
	return r < 0 ? r : cli_out("}\n", 2, e);
}

static int show_text(const struct policy *p, const struct state_info *who, struct err *e)
{
	char room[LINE_BYTES_MAX];
	struct buf b;
	int r;

	buf_init(&b, room, sizeof(room));
	buf_printf(&b, "%s: generation %" PRIu64 ", ", who->name[0] ? who->name : who->id,
	           policy_generation(p));
	egress_put_digest(&b, p);
	buf_put_u8(&b, '\n');
	r = cli_out(b.at, b.len, e);
	return r < 0 ? r : egress_print_policy(p, NULL, e);
}

static int run_show(struct cli *c, const struct args *a)
{
	_own_(policy_free) struct policy *p = NULL;
	struct state_info who;
	struct err e = { 0 };

	if (live_egress_find(c, a->words[0], true, &who, &e) < 0 ||
	    live_egress_policy(c, who.id, &p, &e) < 0)
		return live_egress_fail(&e);
	if ((c->json ? show_json(p, &who, &e) : show_text(p, &who, &e)) < 0)
		return cli_fail(&e);
	return 0;
}

const struct verb verb_policy_show = {
	.name = "show",
	.summary = "Show the policy that a sandbox has now",
	.args = "SANDBOX",
	.about = "Of an ended sandbox that left a record it is the last one. Secrets are names.\n"
		 "\n" LIVE_EGRESS_EXITS,
	.examples = "berm policy show web\n"
		    "berm policy show web --json | jq -r .digest\n",
	.opts = show_opts,
	.run = run_show,
	.words_min = 1,
	.words_max = 1,
	.words = COMPLETE_ANY_SANDBOX,
};

/* --- set --- */

/* clang-format off */
static const struct opt set_opts[] = {
	EGRESS_RULE_ROWS,
	EGRESS_POLICY_ROW,
	{ OPT_EXPECT, 0, "expect", "GENERATION", COMPLETE_NONE,
	  "only if this is the generation in force now" },
	OPT_JSON_ROW,
	OPT_END_ROW,
};
/* clang-format on */

static int take(struct egress *g, struct cli *c, const struct args *a, uint64_t *ret_expect,
                struct err *e)
{
	const char *expect = args_value(a, OPT_EXPECT);
	int r = 0;

	if (expect && units_parse_count(expect, 1, UINT32_MAX, ret_expect, e) < 0)
		return err_wrap(e, "--expect");
	for (size_t i = 0; r == 0 && i < a->opt_count; i++)
		if (egress_is_opt(a->opts[i].id))
			r = egress_take(g, c, &a->opts[i], e);
	if (r == 0 && a->word_count > 1)
		r = egress_take_file(g, c, a->words[1], e);
	if (r == 0 && !g->draft)
		r = err_set(e, -EINVAL, "no policy is given: name a FILE, or flags");
	return r;
}

/* Secrets that it has not got yet come first, so that the rules never stand without them. */
static int hand_over(const struct egress *g, struct cli *c, const char *id, uint64_t expect,
                     uint32_t *ret_generation, struct err *e)
{
	_own_fd_ int fd = -1;
	int r = live_egress_open(c, id, &fd, e);

	for (unsigned i = 0; r == 0 && i < g->values_count; i++) {
		r = egress_ask_secret(fd, g->values[i].name, g->values[i].fd, egress_ask_deadline(),
		                      e);
		if (r < 0)
			(void)err_wrap(e, "the secret %s", g->values[i].name);
	}
	if (r == 0)
		r = egress_ask_policy(fd, span_of(g->tlv, g->tlv_len), (uint32_t)expect,
		                      egress_ask_deadline(), ret_generation, e);
	return r;
}

/* Of the image it runs on; one that is gone by now says nothing. */
static int take_registries(struct egress *g, struct cli *c, const struct args *a,
                           const json_t *info, struct err *e)
{
	const char *id = json_string_value(json_object_get(info, "image_id"));
	_own_(image_store_free) struct image_store *store = NULL;
	_own_(image_free) struct image *image = NULL;
	const struct image_meta *meta = NULL;

	if (id && image_store_open(c->state_fd, c->paths.share, &store, NULL) == 0 &&
	    image_open(store, id, &image, NULL) == 0)
		meta = image->meta;
	return egress_take_registries(g, c, a, a->word_count > 1 ? a->words[1] : NULL,
	                              meta ? meta->config.env : NULL, meta, e);
}

static int set(struct cli *c, const struct args *a, struct egress *g, uint64_t expect,
               struct err *e)
{
	_own_(jread_free) json_t *info = NULL;
	const json_t *egress = NULL;
	char room[LINE_BYTES_MAX];
	struct state_info who;
	uint32_t generation = 0;
	struct buf b;
	int r = live_egress_info(c, a->words[0], &who, &info, &egress, e);

	if (r == 0)
		r = take_registries(g, c, a, info, e);
	if (r == 0)
		egress_say_workspace(g);
	if (r == 0)
		r = egress_prepare(g, c, json_object_get(egress, "secrets"), e);
	if (r == 0)
		r = hand_over(g, c, who.id, expect, &generation, e);
	if (r < 0)
		return r;
	buf_init(&b, room, sizeof(room));
	if (c->json)
		buf_printf(&b, "{\"id\":\"%s\",\"generation\":%u}\n", who.id, generation);
	else
		buf_printf(&b, "generation %u\n", generation);
	return cli_out(b.at, b.len, e);
}

static int run_set(struct cli *c, const struct args *a)
{
	__attribute__((cleanup(egress_fini_scope))) struct egress g = { .presets_fd = -1 };
	uint64_t expect = 0;
	struct err e = { 0 };

	if (take(&g, c, a, &expect, &e) < 0)
		return cli_usage(a, "%s", e.text);
	return set(c, a, &g, expect, &e) < 0 ? live_egress_fail(&e) : 0;
}

const struct verb verb_policy_set = {
	.name = "set",
	.summary = "Give a running sandbox another policy",
	.args = "SANDBOX [FILE]",
	.about =
		"The whole policy is replaced; a file that is not valid changes nothing. Connections that\n"
		"the new one would refuse are closed, the others go on. Secrets that it names for the\n"
		"first time are read from their sources; those the sandbox has keep their values. Prints\n"
		"the new generation, which each record of berm logs --egress carries.\n"
		"\n"
		"Exit status: 0 done; 3 no such sandbox, or it has ended; 4 --expect names another\n"
		"generation than the one in force; 5 it has no network; 125 anything else. Unless it is\n"
		"0 nothing was changed.\n",
	.examples = "berm policy set web policy.yaml\n"
		    "berm policy set web --preset standard --allow db.example.com:5432\n"
		    "berm policy set web --preset none\n"
		    "berm policy set web policy.yaml --expect 3\n",
	.opts = set_opts,
	.run = run_set,
	.words_min = 1,
	.words_max = 2,
	.words = COMPLETE_SANDBOX,
};
