#include "policy_test.h"

static void refuses(int line, const char *yaml, const char *want)
{
	const char *got = fault_of(yaml);

	if (!strstr(got, want))
		test_fail(__FILE__, line, "'%s' lacks '%s'", got, want);
}

#define REFUSES(yaml_, want_) refuses(__LINE__, yaml_, want_)
#define RULES(text_)          "version: 1\nnetwork:\n  rules:\n" text_
#define SECRETS(text_)        "version: 1\nsecrets:\n" text_

TEST(a_whole_file)
{
	struct policy *p = policy_of(
		"version: 1\n"
		"limits: { egress: 200MiB, upload: 1MiB, bandwidth: 10MiB, connections: 64,\n"
		"          host_connections: 8, connection_rate: 20, dns_rate: 10 }\n"
		"network:\n"
		"  default: deny\n"
		"  rules:\n"
		"    - { host: api.anthropic.com, port: 443 }\n"
		"    - { preset: registries }\n"
		"    - { host: \"*.e.test\", port: [80, 8000-8010], protocol: http }\n"
		"    - { host: github.com, port: 443, http: [ { method: POST, path: \"/*/*/git-upload-pack\" },"
		" { method: GET, path: \"/**\" } ] }\n"
		"    - { address: 10.1.2.0/24, port: 5432 }\n"
		"secrets:\n"
		"  - { name: ANTHROPIC_API_KEY, from: env, hosts: [api.anthropic.com], header: x-api-key }\n"
		"  - name: TOKEN\n"
		"    from: { command: [pass, show, token] }\n"
		"    hosts: a.e.test\n"
		"    header: [ { name: Authorization, prefix: \"Bearer \" }, x-token ]\n"
		"    basic: password\n"
		"    query: key\n"
		"    method: [GET, POST]\n"
		"    path: [\"/v1/**\", \"/v2/*\"]\n"
		"    on_violation: kill\n");

	CHECK_EQ(policy_rules(p), 4);
	CHECK_EQ(policy_limits(p)->egress_bytes, 200 << 20);
	CHECK_EQ(policy_limits(p)->connections, 64);
	CHECK_EQ(policy_limits(p)->dns_rate, 10);
	CHECK_EQ(policy_secrets(p), 2);
	CHECK_SPAN(policy_rule_origin(p, 0), "t.yaml:7");
	CHECK_SPAN(policy_secret_at(p, 1)->uses[0].name, "authorization");
	CHECK_SPAN(policy_secret_at(p, 1)->uses[0].prefix, "Bearer ");
	CHECK_EQ(policy_secret_at(p, 1)->uses_count, 4);
	CHECK_EQ(policy_secret_at(p, 1)->flags, SECRET_KILL);
	policy_free(p);
}

TEST(L4_1_empty_policies_load)
{
	policy_free(policy_of("version: 1"));
	policy_free(policy_of("version: 1\nnetwork: { default: deny, rules: [] }\nsecrets: []"));
}

TEST(unknown_keys_say_where_and_what_was_meant)
{
	REFUSES("version: 1\nnetwrok: {}",
	        "t.yaml:2:1: 'netwrok' is no key of a policy file; did you mean 'network'?");
	REFUSES(RULES("    - { host: a.test, prot: 443 }"),
	        "t.yaml:4:23: 'prot' is no key of a rule; did you mean 'port'?");
	REFUSES(RULES("    - { host: a.test, colour: red }"), "'colour' is no key of a rule");
	REFUSES(RULES("    - { host: a.test, http: [ { methods: GET } ] }"),
	        "did you mean 'method'?");
	REFUSES(SECRETS("  - { name: A, host: a.test }"), "did you mean 'hosts'?");
	REFUSES("version: 1\nlimits: { egres: 1 }", "did you mean 'egress'?");
}

TEST(known_sections_that_are_not_enforced_are_refused)
{
	static const char *const sections[] = { "isolation", "filesystem", "audit", "decision" };

	for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
		char yaml[64];

		(void)snprintf(yaml, sizeof(yaml), "version: 1\n%s: {}", sections[i]);
		REFUSES(yaml, "not supported in a policy file yet");
	}
	REFUSES("version: 1\nlimits: { cpus: 2 }", "t.yaml:2:11: 'cpus' is not supported");
	REFUSES("version: 1\nworkspace: { review: always }",
	        "t.yaml:2:14: 'review' is not supported");
}

#define EXCLUDE(text_) "version: 1\nworkspace: { exclude: [" text_ "] }"

TEST(what_stays_out_of_a_workspace)
{
	struct policy_draft *d = new_draft();
	struct err e = { 0 };

	CHECK_OK(policy_draft_file(d, "t.yaml",
	                           span_str("version: 1\n"
	                                    "workspace:\n"
	                                    "  exclude:\n"
	                                    "    - \"*.local\"\n"
	                                    "    - /data/**/raw/\n"),
	                           &e),
	         &e);
	CHECK(policy_draft_skips_cost(d) == NULL);
	CHECK_OK(policy_draft_file(d, "u.yaml",
	                           span_str("version: 1\n"
	                                    "workspace: { exclude: [b], skip_cost: true }"),
	                           &e),
	         &e);
	CHECK_OK(policy_draft_file(
			 d, "v.yaml",
			 span_str("version: 1\nworkspace: { exclude: [], skip_cost: false }"), &e),
	         &e);
	CHECK_EQ(policy_draft_excludes(d), 3);
	CHECK_STR(policy_draft_exclude(d, 0).pattern, "*.local");
	CHECK_STR(policy_draft_exclude(d, 1).pattern, "/data/**/raw/");
	CHECK_STR(policy_draft_exclude(d, 1).label, "t.yaml");
	CHECK_EQ(policy_draft_exclude(d, 1).line, 5);
	CHECK_STR(policy_draft_exclude(d, 2).label, "u.yaml");
	CHECK_STR(policy_draft_skips_cost(d), "u.yaml:2");
	policy_free(load_draft(d, 1));
}

TEST(a_pattern_that_keeps_nothing_out_is_refused)
{
	static char yaml[POLICY_EXCLUDES_MAX * 8 + POLICY_EXCLUDE_MAX + 64];
	struct buf b;

	REFUSES(EXCLUDE("\"!keep\""), "t.yaml:2:24: '!keep' would bring back what stays out");
	REFUSES(EXCLUDE("\"#x\""), "t.yaml:2:24: '#x' is a comment");
	REFUSES(EXCLUDE("\"\""), "t.yaml:2:24: an empty value");
	REFUSES(EXCLUDE("a, \" \""), "t.yaml:2:27: ' ' names nothing");
	REFUSES(EXCLUDE("/"), "'/' names nothing");
	REFUSES(EXCLUDE("\"a\\n!b\""), "t.yaml:2:24: 'a\\x0a!b' has a control character");
	REFUSES(EXCLUDE("\"a\\e[2Jb\""), "'a\\x1b[2Jb' has a control character");
	REFUSES(EXCLUDE("\"!\\u202ea\""), "'!\\xe2\\x80\\xaea' would");
	REFUSES(EXCLUDE("[a]"), "a list where one value belongs");
	REFUSES("version: 1\nworkspace: { exclude: \"a\" }", "t.yaml:2:23: exclude: is a list");
	REFUSES("version: 1\nworkspace: { exlude: [a] }", "did you mean 'exclude'?");
	REFUSES("version: 1\nworkspace: { skip_cost: 1 }", "t.yaml:2:25");
	buf_init(&b, yaml, sizeof(yaml));
	buf_put_str(&b, "version: 1\nworkspace: { exclude: [");
	for (int i = 0; i <= POLICY_EXCLUDES_MAX; i++)
		buf_printf(&b, "a%d,", i);
	buf_put_str(&b, "] }");
	REFUSES(buf_cstr(&b), "more than 256 patterns");
	buf_init(&b, yaml, sizeof(yaml));
	buf_put_str(&b, "version: 1\nworkspace: { exclude: [");
	for (int i = 0; i <= POLICY_EXCLUDE_MAX; i++)
		buf_put_u8(&b, 'a');
	buf_put_str(&b, "] }");
	REFUSES(buf_cstr(&b), "t.yaml:2:24: a pattern of over 1024 bytes");
}

TEST(version_and_shape)
{
	REFUSES("network: {}", "no version");
	REFUSES("version: 2", "'2' is no version");
	REFUSES("[]", "a policy file is a mapping");
	REFUSES("", "is empty");
	REFUSES("version: 1\nnetwork: []", "network: is a mapping");
	REFUSES("version: 1\nnetwork: { rules: {} }", "rules: is a list");
	REFUSES("version: 1\nnetwork: { default: alow }", "did you mean 'allow'?");
}

TEST(L4_7_hosts)
{
	REFUSES(RULES("    - { host: \"*\" }"), "t.yaml:4:15: '*' is too broad");
	REFUSES(RULES("    - { host: \"*.com\" }"), "too broad");
	REFUSES(RULES("    - { host: a..test }"), "label");
	REFUSES(RULES("    - { host: \"https://a.test/\" }"), "no host name");
	REFUSES(RULES("    - { host: \"a.te\\0st\" }"), "NUL");
	REFUSES(RULES("    - { host: \"a\\x1b.test\" }"), "'a\\x1b.test'");
	REFUSES(RULES("    - { host: 127.1 }"), "IP address");
	REFUSES(RULES("    - { host: [a.test] }"), "a list where one value belongs");
	REFUSES(RULES("    - { host: b\xc3\xbc"
	              "cher..test }"),
	        "label that is empty");
}

TEST(L4_7_ports)
{
	REFUSES(RULES("    - { host: a.test, port: 0 }"), "t.yaml:4:29: '0' is no port");
	REFUSES(RULES("    - { host: a.test, port: 65536 }"), "'65536' is no port");
	REFUSES(RULES("    - { host: a.test, port: 20-10 }"), "is no port");
	REFUSES(RULES("    - { host: a.test, port: [] }"), "empty list of ports");
	REFUSES(RULES("    - { host: a.test, protocol: tcp }"), "needs port:");
}

TEST(L4_6_idn_is_made_a_label)
{
	struct policy *p = rules_of("    - { host: \"*.b\xc3\xbc"
	                            "cher.test\", port: 443 }");
	struct host_name n = name_of("www.xn--bcher-kva.test");

	CHECK_ALLOWS(policy_name_verdict(p, &n));
	policy_free(p);
}

TEST(rules_that_make_no_sense)
{
	REFUSES(RULES("    - { port: 443 }"), "one of host:, address: and preset:");
	REFUSES(RULES("    - { host: a.test, address: 1.1.1.1, port: 1 }"), "one of host:");
	REFUSES(RULES("    - { host: a.test, protocol: tcp, port: 1, http: [ { method: GET } ] }"),
	        "tls or http");
	REFUSES(RULES("    - { host: a.test, inspect: false, http: [ { method: GET } ] }"),
	        "inspect: false");
	REFUSES(RULES("    - { host: a.test, observe: true }"), "no http:");
	REFUSES(RULES("    - { host: a.test, deny: true, protocol: tls }"), "tcp or udp");
	REFUSES(RULES("    - { host: a.test, deny: maybe }"), "neither true nor false");
	REFUSES(RULES("    - { host: a.test, deny: \"true\" }"), "neither true nor false");
	REFUSES(RULES("    - { host: a.test, http: [] }"), "empty list");
	REFUSES(RULES("    - { host: a.test, http: [ {} ] }"), "empty entry");
	REFUSES(RULES("    - { host: a.test, http: { method: GET } }"), "http: is a list");
	REFUSES(RULES("    - { host: a.test, http: [ { path: a } ] }"), "does not begin with '/'");
	REFUSES(RULES("    - { host: a.test, http: [ { path: \"/a**\" } ] }"), "stands alone");
	REFUSES(RULES("    - { host: a.test, http: [ { method: POTS } ] }"), "did you mean POST?");
	REFUSES(RULES("    - { host: a.test, http: [ { query: {} } ] }"), "parameter: value");
	REFUSES(RULES("    - { host: a.test, http: [ { query: { a: { missing: false } } } ] }"),
	        "missing: true");
	REFUSES(RULES("    - { host: a.test, slot: x }"), "slot: is for presets");
	REFUSES(RULES("    - { preset: locked, port: 1 }"), "stands alone");
	REFUSES(RULES("    - { preset: nosuch }"), "t.yaml:4:7: there is no preset 'nosuch'");
	REFUSES(RULES("    - { preset: ../x }"), "a preset's name");
}

TEST(SSRF_4_address_rules)
{
	REFUSES(RULES("    - { address: 0.0.0.0/0, port: 80 }"), "too wide");
	REFUSES(RULES("    - { address: 169.254.169.254, port: 80 }"), "never opened");
	REFUSES(RULES("    - { address: fe80::1, port: 80 }"), "never opened");
	REFUSES(RULES("    - { address: 10.0.0.1 }"), "needs port:");
	REFUSES(RULES("    - { address: 10.0.0.1/8, port: 1 }"), "no address or range");
	REFUSES(RULES("    - { address: 10.0.0.1, port: 1, http: [ { method: GET } ] }"),
	        "need host:");
	policy_free(rules_of("    - { address: 0.0.0.0/0, deny: true }"));
}

TEST(SEC_9_secrets)
{
	REFUSES(SECRETS("  - { name: A, hosts: [] }"), "t.yaml:3:23: no host");
	REFUSES(SECRETS("  - { name: A }"), "no hosts");
	REFUSES(SECRETS("  - { hosts: [a.test] }"), "no name");
	REFUSES(SECRETS("  - { name: \"A\\r\\nB\", hosts: [a.test] }"),
	        "'A\\x0d\\x0aB' is no secret's name");
	REFUSES(SECRETS("  - { name: \"A\\0\", hosts: [a.test] }"), "NUL");
	REFUSES(SECRETS("  - { name: 1A, hosts: [a.test] }"), "no secret's name");
	REFUSES(SECRETS("  - { name: A, hosts: [a.test], header: \"x\\ny\" }"), "no header's name");
	REFUSES(SECRETS("  - { name: A, hosts: [a.test], header: Host }"), "frames or routes");
	REFUSES(SECRETS("  - { name: A, hosts: [a.t.test],\n"
	                "      header: { name: x, prefix: \"a\\r\\nb: \" } }"),
	        "line end");
	REFUSES(SECRETS("  - { name: A, hosts: [a.test], query: \"a&b\" }"), "no parameter's name");
	REFUSES(SECRETS("  - { name: A, hosts: [\"*\"] }"), "too broad");
	REFUSES(SECRETS("  - { name: A, hosts: [a.test], from: vault }"), "is no source");
	REFUSES(SECRETS("  - { name: A, hosts: [a.test], from: { env: X, file: Y } }"),
	        "one source");
	REFUSES(SECRETS("  - { name: A, hosts: [a.test], from: { command: pass show x } }"),
	        "list of words");
	REFUSES(SECRETS("  - { name: A, hosts: [a.test], on_violation: ignore }"), "refuse, kill");
	REFUSES(SECRETS("  - { name: A, hosts: [a.test] }\n  - { name: A, hosts: [b.test] }"),
	        "twice");
	REFUSES(SECRETS("  - { name: A, hosts: [a.test], header: [a, b, c, d, e] }"),
	        "more than 4 places");
}

TEST(limits)
{
	REFUSES("version: 1\nlimits: { egress: lots }", "t.yaml:2:19");
	REFUSES("version: 1\nlimits: { egress: 0 }", "a limit of 0");
	REFUSES("version: 1\nlimits: { connections: 0 }", "t.yaml:2:24");
	REFUSES("version: 1\nlimits: { connections: 99999999 }", "t.yaml:2:24");
}

TEST(sources_of_secrets)
{
	struct policy_draft *d = new_draft();
	struct err e = { 0 };
	const char *yaml =
		SECRETS("  - { name: A, hosts: [a.test] }\n"
	                "  - { name: B, hosts: [a.test], from: { env: X } }\n"
	                "  - { name: C, hosts: [a.test], from: { file: /run/c } }\n"
	                "  - { name: D, hosts: [a.test], from: { command: [a, \"b c\"] } }\n"
	                "  - { name: E, hosts: [a.test], from: { keyring: item } }\n");

	CHECK_OK(policy_draft_file(d, "t", span_str(yaml), &e), &e);
	CHECK_EQ(policy_draft_secrets(d), 5);
	CHECK_SPAN(policy_draft_source(d, 0).what, "A");
	CHECK_SPAN(policy_draft_source(d, 1).what, "X");
	CHECK_EQ(policy_draft_source(d, 2).from, SECRET_FILE);
	CHECK_EQ(policy_draft_source(d, 3).from, SECRET_COMMAND);
	CHECK_MEM(policy_draft_source(d, 3).what, span_of("a\0b c\0", 6));
	CHECK_STR(policy_draft_source(d, 4).name, "E");
	policy_draft_free(d);
}

TEST(query_forms)
{
	struct policy *p = rules_of(
		"    - host: a.test\n"
		"      http:\n"
		"        - { path: /p, query: { a: \"1\" } }\n"
		"        - { path: /l, query: { a: [\"1\", \"2*\"], b: { missing: true } } }\n"
		"        - { path: /o, query: { a: { once: x } } }\n"
		"        - { path: /s, query: { a: { any: [x, y] } } }\n"
		"        - { path: /e, query: { a: { all: x } } }\n");

	CHECK_ALLOWS(request_to(p, "a.test", "GET", "/p", "a=1&b=2"));
	CHECK_DENIES(request_to(p, "a.test", "GET", "/p", "a=1&a=2"), "path");
	CHECK_ALLOWS(request_to(p, "a.test", "GET", "/l", "a=23&a=1"));
	CHECK_DENIES(request_to(p, "a.test", "GET", "/l", "a=1&b"), "path");
	CHECK_DENIES(request_to(p, "a.test", "GET", "/o", "a=x&a=x"), "path");
	CHECK_ALLOWS(request_to(p, "a.test", "GET", "/s", "a=z&a=y"));
	CHECK_DENIES(request_to(p, "a.test", "GET", "/e", "a=x&a=z"), "path");
	policy_free(p);
}

TEST_MAIN()
