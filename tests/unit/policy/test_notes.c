#include "policy_test.h"

static void add_note(void *arg, struct span who, const char *what, struct span other)
{
	struct buf *b = arg;

	buf_put_span(b, who);
	buf_printf(b, " %s ", what);
	buf_put_span(b, other);
	buf_put_str(b, "\n");
}

static const char *notes_of(struct policy *p)
{
	static char text[1024];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	(void)policy_notes(p, add_note, &b);
	policy_free(p);
	CHECK(buf_ok(&b));
	return buf_cstr(&b);
}

TEST(http_beside_a_wider_rule)
{
	CHECK_STR(notes_of(rules_of(
			  "    - { host: \"**.e.test\", port: 443 }\n"
			  "    - { host: a.e.test, port: 443, http: [ { method: GET } ] }")),
	          "t.yaml:5 limits no request: all of them are allowed by t.yaml:4\n");
	CHECK_STR(notes_of(rules_of(
			  "    - { host: \"*.e.test\", port: 443 }\n"
			  "    - { host: a.e.test, port: [443, 8443], http: [ { method: GET } ] }\n"
			  "    - { host: e.test, port: 443, http: [ { method: GET } ] }")),
	          "");
}

TEST(rules_that_are_denied_whole)
{
	CHECK_STR(notes_of(rules_of(
			  "    - { host: a.test, port: 443 }\n    - { host: a.test, deny: true }")),
	          "t.yaml:4 allows nothing: all of it is denied by t.yaml:5\n");
	CHECK_STR(
		notes_of(rules_of("    - { host: a.test, port: 443 }\n"
	                          "    - { host: a.test, deny: true, protocol: udp }\n"
	                          "    - { host: a.test, deny: true, port: 80 }\n"
	                          "    - { host: a.test, deny: true, http: [ { method: GET } ] }")),
		"");
}

TEST(secrets_without_a_way_out)
{
	CHECK_STR(
		notes_of(policy_of("version: 1\n"
	                           "network: { rules: [ { host: \"*.e.test\", port: 443 } ] }\n"
	                           "secrets:\n"
	                           "  - { name: A, hosts: [a.e.test] }\n"
	                           "  - { name: B, hosts: [other.test] }\n"
	                           "  - { name: C, hosts: [\"**.e.test\"] }\n")),
		"t.yaml:5 can be sent nowhere: add a rule, or --allow, for a host of the secret B\n");
}

TEST(the_presets_have_none)
{
	static const char *const names[] = { "none", "model-only", "locked", "standard",
		                             "permissive" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct policy_draft *d = new_draft();
		struct err e = { 0 };

		CHECK_OK(policy_draft_preset(d, names[i], &e), &e);
		CHECK_STR(notes_of(load_draft(d, 1)), "");
	}
}

TEST_MAIN()
