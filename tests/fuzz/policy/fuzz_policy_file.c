/*
 * A policy file, and behind a NUL the words of the command line. Contracts: a failure has a message
 * of printable text, and spoils the draft; what is accepted compiles, and what compiles loads.
 */
#include "policy/draft.h"
#include "policy/policy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 8192 };

static void must(bool ok)
{
	if (!ok)
		abort();
}

static int preset(void *arg, const char *name, char **ret_text, size_t *ret_len, struct err *e)
{
	const char *text =
		"version: 1\nnetwork: { default: allow, rules: [ { slot: s, port: 443 }, { preset: b } ] }";

	(void)arg;
	if (strcmp(name, "a") != 0)
		return err_set(e, -ENOENT, "none");
	*ret_text = strdup(text);
	must(*ret_text != NULL);
	*ret_len = strlen(text);
	return 0;
}

static void judge(int r, const struct err *e)
{
	if (r >= 0)
		return;
	must(r == -EINVAL || r == -EFBIG);
	must(e->len > 0);
}

/* A pattern never takes back, is one line, and says where it is from. */
static void judge_excludes(const struct policy_draft *d)
{
	for (unsigned i = 0; i < policy_draft_excludes(d); i++) {
		struct policy_exclude x = policy_draft_exclude(d, i);

		must(x.pattern[0] != '\0' && x.pattern[0] != '!' && x.pattern[0] != '#');
		must(strlen(x.pattern) <= POLICY_EXCLUDE_MAX && strchr(x.pattern, '\n') == NULL);
		must(strcmp(x.label, "f") == 0 && x.line > 0);
	}
}

/* Each word begins with a letter that says which flag it is of. */
static int add_words(struct policy_draft *d, struct span rest, struct err *e)
{
	struct span word;
	int r = 0;

	while (r == 0 && take_until(&rest, 0, &word)) {
		char text[POLICY_WORD_MAX + 2];

		if (word.len == 0 || word.len > POLICY_WORD_MAX)
			continue;
		memcpy(text, word.at + 1, word.len - 1);
		text[word.len - 1] = 0;
		r = word.at[0] == 'a'   ? policy_draft_allow(d, text, e)
		    : word.at[0] == 'd' ? policy_draft_deny(d, text, e)
		    : word.at[0] == 's' ? policy_draft_secret(d, text, e)
		                        : policy_draft_preset(d, text, e);
		judge(r, e);
	}
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const hosts[] = { "m.test", "n.test:8443" };
	_own_(policy_draft_free) struct policy_draft *d = NULL;
	_own_(policy_free) struct policy *p = NULL;
	_own_free_ uint8_t *tlv = NULL;
	struct span in = span_of(data, size > INPUT_MAX ? INPUT_MAX : size);
	struct err e = { 0 };
	struct span file;
	size_t len;
	int r;

	must(policy_draft_new(preset, NULL, &d, &e) == 0);
	must(policy_draft_slot(d, "s", hosts, 2, &e) == 0);
	if (!take_until(&in, 0, &file))
		return 0;
	r = file.len > 0 ? policy_draft_file(d, "f", file, &e) : 0;
	judge(r, &e);
	judge_excludes(d);
	if (r == 0)
		r = add_words(d, in, &e);
	if (r < 0) {
		must(policy_draft_compile(d, 1, &tlv, &len, &e) == -EINVAL && !tlv);
		return 0;
	}
	must(policy_draft_compile(d, 1, &tlv, &len, &e) == 0);
	must(policy_load(span_of(tlv, len), &p, &e) == 0);
	must(policy_secrets(p) == policy_draft_secrets(d));
	return 0;
}
