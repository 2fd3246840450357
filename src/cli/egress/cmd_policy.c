#include "base/log.h"
#include "cli/egress/ask.h"
#include "cli/egress/egress.h"
#include "cli/verbs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { OPT_ASK = 1 };

enum {
	EXIT_REFUSED = 1,
	LINE_BYTES_MAX = 4 * POLICY_EXPLAIN_MAX, /* an answer, a note */
	JSON_ANSWER_MAX = 8 * ASK_WORD_MAX + LINE_BYTES_MAX,
};

static const struct opt check_opts[] = {
	EGRESS_RULE_ROWS,
	EGRESS_POLICY_ROW,
	{ OPT_ASK, 0, "ask", NULL, COMPLETE_NONE, "the words behind FILE are questions" },
	OPT_JSON_ROW,
	OPT_END_ROW,
};

/* A FILE, then questions, each with or without a method in front. */
struct check {
	struct cli *c;
	const char *const *questions; /* NULL-ended */
	const char *label;
	struct egress egress;
	struct policy *policy;
	bool refused;
};

static void check_fini(struct check *k)
{
	policy_free(k->policy);
	egress_fini(&k->egress);
}

static inline void check_fini_scope(struct check *k)
{
	check_fini(k);
}

static int take(struct check *k, const struct args *a, struct err *e)
{
	bool ask = args_has(a, OPT_ASK);
	size_t files = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < a->opt_count; i++)
		if (egress_is_opt(a->opts[i].id))
			r = egress_take(&k->egress, k->c, &a->opts[i], e);
	while (r == 0 && files < a->word_count &&
	       !(ask && (ask_is_question(a->words[files]) || ask_is_method(a->words[files]))))
		r = egress_take_file(&k->egress, k->c, a->words[files++], e);
	if (r < 0)
		return r;
	k->label = files > 0 ? a->words[0] : args_value(a, EGRESS_POLICY);
	k->questions = a->words + files;
	return 0;
}

static int put_line(struct buf *b, struct err *e)
{
	buf_put_u8(b, '\n');
	return buf_ok(b) ? cli_out(b->at, b->len, e)
	                 : err_set(e, -EMSGSIZE, "a line of over %zu bytes", b->size);
}

/* --- notes: what is said in vain --- */

static void warn_note(void *arg, struct span who, const char *what, struct span other)
{
	char room[LINE_BYTES_MAX];
	struct buf b;

	(void)arg;
	buf_init(&b, room, sizeof(room));
	egress_put_note(&b, who, what, other);
	log_warn("%s", buf_cstr(&b));
}

static void json_note(void *arg, struct span who, const char *what, struct span other)
{
	const char **gap = arg;
	char room[LINE_BYTES_MAX];
	char line[8 * LINE_BYTES_MAX];
	struct buf b;
	struct buf out;

	buf_init(&b, room, sizeof(room));
	egress_put_note(&b, who, what, other);
	buf_init(&out, line, sizeof(line));
	buf_put_json_str(&out, buf_span(&b));
	(void)printf("%s%s", *gap, buf_cstr(&out));
	*gap = ",";
}

static void unfilled(const struct check *k, char *ret, size_t size)
{
	const char *slot = policy_draft_unfilled(k->egress.draft);

	ret[0] = '\0';
	if (slot)
		(void)snprintf(
			ret, size,
			"the preset '%s' opens nothing here: its hosts are those that the image "
			"of a run brings, as berm image inspect shows them",
			slot);
}

/* --- questions --- */

static void put_secrets(struct buf *b, const struct policy *p, uint64_t set)
{
	const char *gap = "; may use ";

	for (unsigned i = 0; i < policy_secrets(p); i++) {
		if (!(set >> i & 1))
			continue;
		buf_put_str(b, gap);
		buf_put_span(b, policy_secret_at(p, i)->name);
		gap = ", ";
	}
}

static int print_answer(const struct check *k, const struct ask *q, const struct ask_answer *a,
                        struct err *e)
{
	char room[LINE_BYTES_MAX];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	buf_put_str(&b, ask_allowed(a) ? "allowed  " : "refused  ");
	policy_explain(k->policy, &a->ask, &a->verdict, &b);
	if (ask_allowed(a) && q->request)
		buf_put_str(&b,
		            a->verdict.inspect ? "; requests are read" : "; passed through unread");
	if (ask_allowed(a) && a->verdict.pin_only)
		buf_put_str(&b, "; passed through unread");
	put_secrets(&b, k->policy, a->secrets);
	return put_line(&b, e);
}

static void json_secret_names(struct buf *b, const struct policy *p, uint64_t set)
{
	const char *gap = "";

	buf_put_str(b, ",\"secrets\":[");
	for (unsigned i = 0; i < policy_secrets(p); i++) {
		if (!(set >> i & 1))
			continue;
		buf_put_str(b, gap);
		buf_put_json_str(b, policy_secret_at(p, i)->name);
		gap = ",";
	}
	buf_put_str(b, "]");
}

static int json_answer(const struct check *k, const struct ask *q, const struct ask_answer *a,
                       bool first, struct err *e)
{
	_own_free_ char *room = malloc(JSON_ANSWER_MAX);
	struct buf b;

	if (!room)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&b, room, JSON_ANSWER_MAX);
	buf_printf(&b, "%s{\"method\":", first ? "" : ",");
	if (q->method)
		buf_put_json_str(&b, span_str(q->method));
	else
		buf_put_str(&b, "null");
	buf_put_str(&b, ",\"to\":");
	buf_put_json_str(&b, span_str(q->shown));
	buf_printf(&b, ",\"allowed\":%s,\"inspected\":%s,\"observed\":%s,",
	           ask_allowed(a) ? "true" : "false", a->verdict.inspect ? "true" : "false",
	           a->verdict.observed ? "true" : "false");
	policy_explain_json(k->policy, &a->ask, &a->verdict, &b);
	json_secret_names(&b, k->policy, a->secrets);
	buf_put_str(&b, "}");
	return buf_ok(&b) ? cli_out(b.at, b.len, e)
	                  : err_set(e, -EMSGSIZE, "an answer of over %d bytes", JSON_ANSWER_MAX);
}

/* The next question; its method, if it has one, stands in front. */
static int next(const char *const **at, struct ask *ret, struct err *e)
{
	const char *method = ask_is_method(**at) ? *(*at)++ : NULL;

	if (!**at)
		return err_set(e, -EINVAL, "--ask: '%s' is a method, and no URL is behind it",
		               method);
	return ask_parse(method, *(*at)++, ret, e);
}

static int answer_all(struct check *k, struct err *e)
{
	_own_free_ struct ask *q = malloc(sizeof(*q));
	const char *const *at = k->questions;
	bool first = true;
	int r = 0;

	if (!q)
		return err_set(e, -ENOMEM, "out of memory");
	while (r == 0 && *at) {
		struct ask_answer a;

		r = next(&at, q, e);
		if (r < 0)
			return r;
		ask_judge(k->policy, q, &a);
		k->refused |= !ask_allowed(&a);
		r = k->c->json ? json_answer(k, q, &a, first, e) : print_answer(k, q, &a, e);
		first = false;
	}
	return r;
}

/* Before anything is printed: a wrong question is a wrong command line. */
static int check_questions(const struct check *k, struct err *e)
{
	_own_free_ struct ask *q = malloc(sizeof(*q));
	const char *const *at = k->questions;
	int r = q ? 0 : err_set(e, -ENOMEM, "out of memory");

	while (r == 0 && *at)
		r = next(&at, q, e);
	return r;
}

/* --- the whole --- */

static int print_head(const struct check *k, struct err *e)
{
	unsigned rules = policy_rules(k->policy);
	unsigned secrets = policy_secrets(k->policy);
	char room[LINE_BYTES_MAX];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	buf_put_escaped(&b, span_str(k->label ? k->label : "the flags"));
	buf_printf(&b, ": valid, %u rule%s, %u secret%s, ", rules, rules == 1 ? "" : "s", secrets,
	           secrets == 1 ? "" : "s");
	egress_put_digest(&b, k->policy);
	return put_line(&b, e);
}

static int print_text(struct check *k, struct err *e)
{
	char slot[256];
	int r;

	unfilled(k, slot, sizeof(slot));
	if (*k->questions)
		return answer_all(k, e);
	r = print_head(k, e);
	if (r == 0)
		r = egress_print_policy(k->policy, k->egress.draft, e);
	(void)fflush(stdout);
	if (r == 0)
		(void)policy_notes(k->policy, warn_note, NULL);
	if (r == 0 && slot[0])
		log_warn("%s", slot);
	return r;
}

static int print_json(struct check *k, struct err *e)
{
	const char *gap = "";
	char slot[256];
	int r = cli_out("{\"valid\":true,", 14, e);

	unfilled(k, slot, sizeof(slot));
	if (r == 0)
		r = egress_print_policy_json(k->policy, k->egress.draft, e);
	if (r < 0)
		return r;
	(void)printf(",\"notes\":[");
	(void)policy_notes(k->policy, json_note, &gap);
	if (slot[0])
		(void)printf("%s\"%s\"", gap, slot);
	(void)printf("],\"answers\":[");
	(void)fflush(stdout);
	r = answer_all(k, e);
	return r < 0 ? r : cli_out("]}\n", 3, e);
}

static int invalid(const struct cli *c, const struct err *e)
{
	char room[8 * ERR_TEXT_MAX];
	struct err ignored = { 0 };
	struct buf b;

	if (!c->json)
		return cli_fail(e);
	buf_init(&b, room, sizeof(room));
	buf_put_str(&b, "{\"valid\":false,\"error\":");
	buf_put_json_str(&b, span_str(e->text));
	buf_put_str(&b, "}\n");
	if (cli_out(b.at, b.len, &ignored) < 0)
		return cli_fail(&ignored);
	return CLI_EXIT_ERROR;
}

static int run_check(struct cli *c, const struct args *a)
{
	_own_(check_fini) struct check k = { .c = c, .egress = { .presets_fd = -1 } };
	_own_free_ uint8_t *tlv = NULL;
	struct err e = { 0 };
	size_t len;
	int r = take(&k, a, &e);

	if (r < 0)
		return invalid(c, &e);
	if (!k.egress.draft)
		return cli_usage(a, "there is nothing to check: name a FILE, or flags");
	if (args_has(a, OPT_ASK) != (*k.questions != NULL))
		return cli_usage(a, "--ask and its questions belong together: --ask GET URL");
	if (check_questions(&k, &e) < 0)
		return cli_usage(a, "%s", e.text);
	if (egress_compile(&k.egress, &tlv, &len, &k.policy, &e) < 0)
		return invalid(c, &e);
	r = c->json ? print_json(&k, &e) : print_text(&k, &e);
	if (r < 0)
		return cli_fail(&e);
	return k.refused ? EXIT_REFUSED : 0;
}

static const struct verb verb_check = {
	.name = "check",
	.summary = "Say whether a policy is valid, what it holds, and what it would answer",
	.args = "[FILE] [--ask [METHOD] URL|HOST:PORT...]",
	.about =
		"Reads the file and the flags as berm run would, and starts nothing. What the policy\n"
		"says in vain is noted on stderr. With --ask it answers questions instead, a line each:\n"
		"allowed or refused, by which rule, and what would allow it. No name is looked up.\n"
		"\n"
		"Exit status: 0 valid, and all that was asked is allowed; 1 something asked is refused;\n"
		"125 the policy is not valid, and stderr has the line.\n",
	.examples =
		"berm policy check policy.yaml\n"
		"berm policy check policy.yaml --ask GET https://api.example.com/v1/models\n"
		"berm policy check --preset standard --allow db.example.com:5432 --json\n"
		"berm policy check p.yaml --ask db.example.com:5432 POST https://example.com/\n",
	.opts = check_opts,
	.run = run_check,
	.words_max = CLI_WORDS_ANY,
	.words = COMPLETE_FILE,
};

static const struct verb *const policy_verbs[] = { &verb_check, &verb_policy_show, &verb_policy_set,
	                                           NULL };

const struct verb verb_policy = {
	.name = "policy",
	.summary = "Check, show and change what sandboxes may reach",
	.subs = policy_verbs,
};
