#include "policy_test.h"

#include <errno.h>

typedef int add_fn(struct policy_draft *d, const char *word, struct err *e);

static void refuses(int line, add_fn *add, const char *word, const char *want)
{
	struct policy_draft *d = new_draft();
	struct err e = { 0 };

	if (add(d, word, &e) != -EINVAL || !strstr(e.text, want))
		test_fail(__FILE__, line, "'%s': '%s' lacks '%s'", word, e.text, want);
	policy_draft_free(d);
}

#define REFUSES(add_, word_, want_) refuses(__LINE__, add_, word_, want_)

static struct policy *with(add_fn *add, const char *word)
{
	struct policy_draft *d = new_draft();
	struct err e = { 0 };

	CHECK_OK(add(d, word, &e), &e);
	return load_draft(d, 1);
}

TEST(allow_host)
{
	struct policy *p = with(policy_draft_allow, "a.test");

	CHECK_EQ(connect_to(p, NULL, 443, PINS("a.test")).act, POLICY_NEEDS_TLS);
	CHECK_EQ(connect_to(p, NULL, 80, PINS("a.test")).act, POLICY_NEEDS_HTTP);
	CHECK_DENIES(connect_to(p, NULL, 22, PINS("a.test")), "no-rule");
	CHECK_SPAN(policy_rule_origin(p, 0), "--allow a.test");
	policy_free(p);
}

TEST(allow_ports)
{
	struct policy *p = with(policy_draft_allow, "**.a.test:8000-8010");

	CHECK_DENIES(connect_to(p, NULL, 7999, PINS("x.y.a.test")), "no-rule");
	CHECK_EQ(connect_to(p, NULL, 8000, PINS("x.y.a.test")).act, POLICY_ALLOW);
	CHECK_EQ(connect_to(p, NULL, 8010, PINS("x.y.a.test")).act, POLICY_ALLOW);
	CHECK_DENIES(connect_to(p, NULL, 8011, PINS("x.y.a.test")), "no-rule");
	policy_free(p);
}

TEST(allow_addresses)
{
	struct policy *p = with(policy_draft_allow, "10.1.2.0/24:5432");

	CHECK_EQ(connect_to(p, "10.1.2.3", 5432, NULL).act, POLICY_ALLOW);
	policy_free(p);
	p = with(policy_draft_allow, "[fd12::/64]:5432");
	CHECK_EQ(connect_to(p, "fd12::9", 5432, NULL).act, POLICY_ALLOW);
	CHECK_DENIES(connect_to(p, "fd12::9", 5433, NULL), "special-address");
	policy_free(p);
}

TEST(deny_is_every_port)
{
	struct policy *p = with(policy_draft_deny, "a.test");
	struct host_name n = name_of("a.test");

	CHECK_DENIES(policy_name_verdict(p, &n), "denied-by-rule");
	CHECK_DENIES(connect_to(p, NULL, 9999, PINS("a.test")), "denied-by-rule");
	policy_free(p);
}

TEST(L4_7_words_that_are_wrong)
{
	REFUSES(policy_draft_allow, "", "--allow: a word");
	REFUSES(policy_draft_allow, "*", "--allow '*' is too broad");
	REFUSES(policy_draft_allow, "https://a.test", "no host name");
	REFUSES(policy_draft_allow, "https://a.test:443/", "no host name");
	REFUSES(policy_draft_allow, "a.test:0", "no port from 1 to 65535");
	REFUSES(policy_draft_allow, "a.test:65536", "no port from 1 to 65535");
	REFUSES(policy_draft_allow, "a.test:", "no port from 1 to 65535");
	REFUSES(policy_draft_allow, "a.test:ssh", "no port from 1 to 65535");
	REFUSES(policy_draft_allow, "10.0.0.1", "--allow '10.0.0.1': an address rule needs port:");
	REFUSES(policy_draft_allow, "10.0.0.1/8:80", "bits set behind its prefix");
	REFUSES(policy_draft_allow, "169.254.169.254:80", "never opened");
	REFUSES(policy_draft_allow, "0.0.0.0/0:80", "too wide");
	REFUSES(policy_draft_allow, "127.1:80", "IP address");
	REFUSES(policy_draft_allow, "localhost:80", "one label");
	REFUSES(policy_draft_deny, "*", "--deny '*'");
}

TEST(secrets)
{
	struct policy_draft *d = new_draft();
	struct policy *p;
	struct err e = { 0 };
	const struct policy_secret *s;

	CHECK_OK(
		policy_draft_secret(
			d,
			"TOKEN@a.test,*.b.test:header=Authorization:prefix=Bearer :env=MY_TOKEN:port=443",
			&e),
		&e);
	CHECK_OK(policy_draft_secret(
			 d, "KEY@c.test:basic=password:query=key:file=/run/key:on_violation=kill",
			 &e),
	         &e);
	CHECK_OK(policy_draft_secret(d, "PLAIN@d.test", &e), &e);
	CHECK_SPAN(policy_draft_source(d, 0).what, "MY_TOKEN");
	CHECK_EQ(policy_draft_source(d, 1).from, SECRET_FILE);
	CHECK_SPAN(policy_draft_source(d, 2).what, "PLAIN");
	p = load_draft(d, 1);
	s = policy_secret_at(p, 0);
	CHECK_EQ(s->hosts_count, 2);
	CHECK_SPAN(s->uses[0].name, "authorization");
	CHECK_SPAN(s->uses[0].prefix, "Bearer ");
	CHECK_EQ(s->ports_count, 1);
	s = policy_secret_at(p, 1);
	CHECK_EQ(s->uses_count, 2);
	CHECK_EQ(s->flags, SECRET_KILL);
	s = policy_secret_at(p, 2);
	CHECK_EQ(s->uses_count, 2);
	CHECK_SPAN(s->origin, "--secret PLAIN@d.test");
	CHECK(policy_secret_at(p, 3) == NULL);
	policy_free(p);
}

TEST(SEC_9_words_that_are_wrong)
{
	REFUSES(policy_draft_secret, "", "--secret: a word");
	REFUSES(policy_draft_secret, "TOKEN", "--secret: no '@'");
	REFUSES(policy_draft_secret, "@a.test", "no secret's name");
	REFUSES(policy_draft_secret, "A B@a.test", "no secret's name");
	REFUSES(policy_draft_secret, "A@", "a host is missing");
	REFUSES(policy_draft_secret, "A@a.test,", "a host is missing");
	REFUSES(policy_draft_secret, "A@*", "too broad");
	REFUSES(policy_draft_secret, "A@a.test:443", "a port is port=443");
	REFUSES(policy_draft_secret, "A@a.test:heder=x", "did you mean header=?");
	REFUSES(policy_draft_secret, "A@a.test:header=a b", "no header's name");
	REFUSES(policy_draft_secret, "A@a.test:prefix=x", "behind its header=");
	REFUSES(policy_draft_secret, "A@a.test:env=X:file=Y", "not two");
	REFUSES(policy_draft_secret, "A@a.test:basic=both", "neither user nor password");
	REFUSES(policy_draft_secret, "A@a.test:port=0", "no port");
}

TEST(preset_word)
{
	REFUSES(policy_draft_preset, "nosuch", "--preset nosuch");
	policy_free(with(policy_draft_preset, "standard"));
}

TEST_MAIN()
