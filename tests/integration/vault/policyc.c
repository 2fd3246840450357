/*
 * policyc: a policy file on standard input, its compiled form on standard output.
 *
 *	policyc GENERATION
 */
#include "base/fdio.h"
#include "policy/draft.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { TEXT_MAX = 1 << 20 };

static int no_presets(void *arg, const char *name, char **ret_text, size_t *ret_len, struct err *e)
{
	(void)arg;
	(void)ret_text;
	(void)ret_len;
	return err_set(e, -ENOENT, "no preset %s here", name);
}

static int compile(uint64_t generation, struct span text, struct err *e)
{
	_own_(policy_draft_free) struct policy_draft *d = NULL;
	_own_free_ uint8_t *tlv = NULL;
	size_t len = 0;
	int r = policy_draft_new(no_presets, NULL, &d, e);

	if (r == 0)
		r = policy_draft_file(d, "policy.yaml", text, e);
	if (r == 0)
		r = policy_draft_compile(d, generation, &tlv, &len, e);
	return r < 0 ? r : fd_write_all(1, tlv, len, e);
}

int main(int argc, char **argv)
{
	_own_free_ uint8_t *text = malloc(TEXT_MAX);
	struct err e = { 0 };
	uint64_t generation;
	size_t len;

	if (!text || argc != 2 || !span_to_u64(span_str(argv[1]), &generation))
		return 2;
	len = fread(text, 1, TEXT_MAX, stdin);
	if (compile(generation, span_of(text, len), &e) < 0) {
		fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	return 0;
}
