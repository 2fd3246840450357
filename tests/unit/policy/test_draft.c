#include "policy_test.h"

#include "failalloc.h"

#include <errno.h>

static int fake_preset(void *arg, const char *name, char **ret_text, size_t *ret_len, struct err *e)
{
	static const char *const texts[][2] = {
		{ "loop", "version: 1\nnetwork: { rules: [ { preset: loop } ] }" },
		{ "a", "version: 1\nnetwork: { rules: [ { preset: b } ] }" },
		{ "b",
		  "version: 1\nnetwork: { rules: [ { host: b.test, port: 443 }, { preset: c } ] }" },
		{ "c", "version: 1\nnetwork: { rules: [ { preset: a } ] }" },
		{ "address", "version: 1\nnetwork: { rules: [ { address: 10.0.0.1, port: 1 } ] }" },
		{ "secrets", "version: 1\nsecrets: []" },
		{ "two", "version: 1\nnetwork: { rules: [ { preset: leaf }, { preset: leaf } ] }" },
		{ "leaf", "version: 1\nnetwork: { rules: [ { host: a.test, port: 443 } ] }" },
		{ "slots", "version: 1\nnetwork: { rules: [ { slot: mirrors, port: 443 } ] }" },
	};

	(void)arg;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (strcmp(texts[i][0], name) != 0)
			continue;
		*ret_text = strdup(texts[i][1]);
		*ret_len = strlen(texts[i][1]);
		return 0;
	}
	return err_set(e, -ENOENT, "none");
}

static struct policy_draft *fake_draft(void)
{
	struct policy_draft *d;
	struct err e = { 0 };

	CHECK_OK(policy_draft_new(fake_preset, NULL, &d, &e), &e);
	return d;
}

static void refuses(const char *preset, const char *want)
{
	struct policy_draft *d = fake_draft();
	struct err e = { 0 };

	CHECK_EQ(policy_draft_preset(d, preset, &e), -EINVAL);
	if (!strstr(e.text, want))
		test_fail(__FILE__, __LINE__, "'%s' lacks '%s'", e.text, want);
	policy_draft_free(d);
}

TEST(presets_that_include_themselves)
{
	refuses("loop", "the preset 'loop' includes itself");
	refuses("a", "the preset 'a' includes itself");
}

TEST(what_a_preset_may_not_say)
{
	refuses("address", "opens no address");
	refuses("secrets", "no key of a preset");
	refuses("nosuch", "--preset nosuch: there is no preset 'nosuch'");
	refuses("../etc", "a preset's name");
}

TEST(a_preset_is_taken_once)
{
	struct policy_draft *d = fake_draft();
	struct policy *p;
	struct err e = { 0 };

	CHECK_OK(policy_draft_preset(d, "two", &e), &e);
	CHECK_OK(policy_draft_preset(d, "leaf", &e), &e);
	p = load_draft(d, 7);
	CHECK_EQ(policy_rules(p), 1);
	CHECK_EQ(policy_generation(p), 7);
	CHECK_SPAN(policy_rule_origin(p, 0), "preset leaf:2");
	policy_free(p);
}

TEST(slots)
{
	static const char *const hosts[] = { "m.test", "n.test:8443" };
	struct policy_draft *d = fake_draft();
	struct policy *p;
	struct err e = { 0 };

	CHECK_OK(policy_draft_slot(d, "mirrors", hosts, 2, &e), &e);
	CHECK_OK(policy_draft_preset(d, "slots", &e), &e);
	CHECK(policy_draft_unfilled(d) == NULL);
	p = load_draft(d, 1);
	CHECK_EQ(policy_rules(p), 2);
	CHECK_EQ(connect_to(p, NULL, 443, PINS("m.test")).act, POLICY_NEEDS_TLS);
	CHECK_EQ(connect_to(p, NULL, 8443, PINS("n.test")).act, POLICY_ALLOW);
	CHECK_DENIES(connect_to(p, NULL, 443, PINS("n.test")), "no-rule");
	policy_free(p);
	d = fake_draft();
	CHECK_OK(policy_draft_preset(d, "slots", &e), &e);
	CHECK_STR(policy_draft_unfilled(d), "mirrors");
	p = load_draft(d, 1);
	CHECK_EQ(policy_rules(p), 0);
	policy_free(p);
}

TEST(slots_are_judged)
{
	static const char *const bad[] = { "*" };
	static const char *const port[] = { "a.test:0" };
	struct policy_draft *d = fake_draft();
	struct err e = { 0 };

	CHECK_EQ(policy_draft_slot(d, "x", bad, 1, &e), -EINVAL);
	CHECK_EQ(policy_draft_slot(d, "x", port, 1, &e), -EINVAL);
	policy_draft_free(d);
}

TEST(HOT_3_what_failed_stays_failed)
{
	struct policy_draft *d = new_draft();
	struct err e = { 0 };
	uint8_t *tlv;
	size_t len;

	CHECK_OK(policy_draft_allow(d, "a.test", &e), &e);
	CHECK(policy_draft_allow(d, "*", &e) < 0);
	CHECK_OK(policy_draft_allow(d, "b.test", &e), &e);
	CHECK_EQ(policy_draft_compile(d, 1, &tlv, &len, &e), -EINVAL);
	policy_draft_free(d);
}

TEST(default_allow_against_deny)
{
	struct policy_draft *d = new_draft();
	struct err e = { 0 };
	const char *deny =
		"version: 1\nnetwork: { default: deny, rules: [ { preset: permissive } ] }";

	CHECK_EQ(policy_draft_file(d, "t.yaml", span_str(deny), &e), -EINVAL);
	CHECK(strstr(e.text,
	             "t.yaml:2 says default: deny, but preset permissive:5 says default: allow"));
	policy_draft_free(d);
}

TEST(every_installed_preset_loads)
{
	static const char *const names[] = { "none",     "model-only", "locked",
		                             "standard", "permissive", "registries" };
	static const unsigned rules[] = { 0, 11, 12, 24, 0, 1 };
	static const char *const hosts[] = { "mirror.test" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct policy_draft *d = new_draft();
		struct policy *p;
		struct err e = { 0 };

		CHECK_OK(policy_draft_slot(d, "registries", hosts, 1, &e), &e);
		CHECK_OK(policy_draft_preset(d, names[i], &e), &e);
		CHECK(policy_draft_unfilled(d) == NULL);
		p = load_draft(d, 1);
		CHECK_EQ(policy_rules(p), rules[i]);
		policy_free(p);
	}
}

/* STYLE rule 13: no leak, no output, -ENOMEM. */
static int whole_way(struct policy **ret, struct err *e)
{
	static const char yaml[] =
		"version: 1\n"
		"network: { rules: [ { host: a.test, http: [ { path: /x } ] } ] }\n"
		"secrets: [ { name: A, hosts: [a.test] } ]\n";
	_own_(policy_draft_free) struct policy_draft *d = NULL;
	_own_free_ uint8_t *tlv = NULL;
	size_t len;
	int r = policy_draft_new(NULL, NULL, &d, e);

	if (r == 0)
		r = policy_draft_file(d, "t.yaml", span_str(yaml), e);
	if (r == 0)
		r = policy_draft_allow(d, "b.test:443", e);
	if (r == 0)
		r = policy_draft_secret(d, "B@b.test", e);
	if (r == 0)
		r = policy_draft_compile(d, 1, &tlv, &len, e);
	return r < 0 ? r : policy_load(span_of(tlv, len), ret, e);
}

TEST(every_allocation_may_fail)
{
	FAILALLOC_EACH()
	{
		struct policy *p = NULL;
		struct err e = { 0 };
		int r = whole_way(&p, &e);

		if (failalloc_hit()) {
			CHECK_EQ(r, -ENOMEM);
			CHECK(!p);
		} else {
			CHECK_OK(r, &e);
			policy_free(p);
		}
	}
}

TEST(too_many_rules)
{
	struct policy_draft *d = new_draft();
	struct err e = { 0 };

	for (int i = 0; i < POLICY_RULES_MAX; i++)
		CHECK_OK(policy_draft_allow(d, "a.test:443", &e), &e);
	CHECK_EQ(policy_draft_allow(d, "a.test:443", &e), -EFBIG);
	policy_draft_free(d);
}

TEST_MAIN()
