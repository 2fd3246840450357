#include "policy_test.h"

TEST(L4_1_empty_policy_denies)
{
	struct policy *p = policy_of("version: 1");
	struct host_name n = name_of("a.test");

	CHECK_DENIES(policy_name_verdict(p, &n), "no-rule");
	CHECK_DENIES(connect_to(p, NULL, 443, NULL), "no-rule");
	CHECK_DENIES(connect_to(p, NULL, 443, PINS("a.test")), "no-rule");
	CHECK_DENIES(request_to(p, "a.test", "GET", "/", ""), "no-rule");
	policy_free(p);
}

TEST(L4_4_deny_wins_in_either_order)
{
	static const char *const orders[] = {
		"    - { host: \"**.e.test\", port: 443 }\n    - { host: a.e.test, deny: true }",
		"    - { host: a.e.test, deny: true }\n    - { host: \"**.e.test\", port: 443 }",
	};

	for (int i = 0; i < 2; i++) {
		struct policy *p = rules_of(orders[i]);

		CHECK_DENIES(connect_to(p, NULL, 443, PINS("a.e.test")), "denied-by-rule");
		CHECK_DENIES(flow_to(p, "a.e.test", 443, POLICY_SEEN_TLS), "denied-by-rule");
		CHECK_DENIES(request_to(p, "a.e.test", "GET", "/", ""), "denied-by-rule");
		CHECK_ALLOWS(flow_to(p, "b.e.test", 443, POLICY_SEEN_TLS));
		policy_free(p);
	}
}

TEST(L4_5_addresses_nobody_looked_up)
{
	struct policy *p = rules_of("    - { host: a.test, port: [443, 22] }");

	CHECK_DENIES(connect_to(p, "1.1.1.1", 443, NULL), "not-resolved");
	CHECK_DENIES(connect_to(p, "8.8.8.8", 53, NULL), "not-resolved");
	CHECK_EQ(connect_to(p, NULL, 443, PINS("a.test")).act, POLICY_NEEDS_TLS);
	CHECK_EQ(connect_to(p, NULL, 22, PINS("a.test")).act, POLICY_ALLOW);
	CHECK(connect_to(p, NULL, 22, PINS("a.test")).pin_only);
	policy_free(p);
}

TEST(TLS_3_4_5_names_and_pins)
{
	struct policy *p =
		rules_of("    - { host: a.test, port: 443 }\n    - { host: b.test, port: 8443 }");
	struct question *q = ask_of(NULL, 443, PINS("b.test"));

	q->name = name_of("a.test");
	q->ask.name = &q->name;
	q->ask.seen = POLICY_SEEN_TLS;
	CHECK_DENIES(policy_flow_verdict(p, &q->ask), "sni-mismatch");
	q->ask.seen = POLICY_SEEN_HTTP;
	CHECK_DENIES(policy_flow_verdict(p, &q->ask), "host-mismatch");
	free(q);
	q = ask_of(NULL, 443, PINS("a.test", "b.test"));
	q->ask.seen = POLICY_SEEN_TLS;
	CHECK_DENIES(policy_flow_verdict(p, &q->ask), "sni-missing");
	q->name = name_of("b.test");
	q->ask.name = &q->name;
	CHECK_DENIES(policy_flow_verdict(p, &q->ask), "no-rule");
	q->name = name_of("a.test");
	CHECK_ALLOWS(policy_flow_verdict(p, &q->ask));
	free(q);
	policy_free(p);
}

TEST(TLS_8_not_what_the_port_needs)
{
	struct policy *p = rules_of("    - { host: a.test, port: [443, 80] }");
	struct question *q = ask_of(NULL, 443, PINS("a.test"));

	CHECK_DENIES(policy_flow_verdict(p, &q->ask), "not-tls");
	q->ask.port = 80;
	CHECK_DENIES(policy_flow_verdict(p, &q->ask), "not-http");
	free(q);
	CHECK_DENIES(flow_to(p, "a.test", 443, POLICY_SEEN_HTTP), "not-tls");
	CHECK_DENIES(flow_to(p, "a.test", 80, POLICY_SEEN_TLS), "not-http");
	CHECK(flow_to(p, "a.test", 80, POLICY_SEEN_HTTP).inspect);
	CHECK(!flow_to(p, "a.test", 443, POLICY_SEEN_TLS).inspect);
	policy_free(p);
}

TEST(denied_neighbour_makes_a_raw_flow_name_itself)
{
	struct policy *p =
		rules_of("    - { host: a.test, port: 5000 }\n    - { host: b.test, deny: true }");
	struct question *q = ask_of(NULL, 5000, PINS("a.test", "b.test"));

	CHECK_EQ(policy_connect_verdict(p, &q->ask).act, POLICY_NEEDS_NAME);
	CHECK_DENIES(policy_flow_verdict(p, &q->ask), "not-tls");
	q->ask.seen = POLICY_SEEN_TLS;
	q->name = name_of("a.test");
	q->ask.name = &q->name;
	CHECK_ALLOWS(policy_flow_verdict(p, &q->ask));
	free(q);
	policy_free(p);
}

TEST(SSRF_6_a_named_host_at_a_private_address)
{
	struct policy *p = rules_of("    - { host: a.test, port: 443 }");

	CHECK_DENIES(connect_to(p, "10.0.0.1", 443, PINS("a.test")), "special-address");
	policy_free(p);
	p = rules_of("    - { host: a.test, port: 443 }\n    - { address: 10.0.0.1, port: 443 }");
	CHECK_EQ(connect_to(p, "10.0.0.1", 443, PINS("a.test")).act, POLICY_NEEDS_TLS);
	CHECK_EQ(connect_to(p, "10.0.0.1", 443, NULL).act, POLICY_ALLOW);
	policy_free(p);
}

TEST(SSRF_6_control_plane_ports)
{
	struct policy *p = rules_of("    - { address: 10.0.0.0/24, port: 1-65535 }");

	CHECK_EQ(connect_to(p, "10.0.0.1", 8080, NULL).act, POLICY_ALLOW);
	CHECK_DENIES(connect_to(p, "10.0.0.1", 6443, NULL), "special-address");
	CHECK_DENIES(connect_to(p, "10.0.0.1", 10250, NULL), "special-address");
	policy_free(p);
	p = rules_of("    - { address: 10.0.0.1, port: 6443 }");
	CHECK_EQ(connect_to(p, "10.0.0.1", 6443, NULL).act, POLICY_ALLOW);
	policy_free(p);
}

TEST(SSRF_4_exactly_that_address_and_port)
{
	struct policy *p = rules_of(
		"    - { address: 100.64.0.0/10, port: 80 }\n    - { address: 10.0.0.1, port: 5432 }");

	CHECK_EQ(connect_to(p, "10.0.0.1", 5432, NULL).act, POLICY_ALLOW);
	CHECK_DENIES(connect_to(p, "10.0.0.1", 5433, NULL), "special-address");
	CHECK_DENIES(connect_to(p, "10.0.0.2", 5432, NULL), "special-address");
	CHECK_EQ(connect_to(p, "100.64.1.1", 80, NULL).act, POLICY_ALLOW);
	CHECK_DENIES(connect_to(p, "100.100.100.200", 80, NULL), "metadata-address");
	CHECK_DENIES(connect_to(p, "::ffff:10.0.0.1", 5432, NULL), "special-address");
	policy_free(p);
}

TEST(SSRF_1_permissive_still_refuses)
{
	static const char *const closed[] = { "127.0.0.1", "10.0.0.1", "192.168.1.1", "::1",
		                              "fd12::1" };
	struct policy *p = rules_of("    - { preset: permissive }");
	struct host_name n = name_of("metadata.google.internal");

	for (size_t i = 0; i < sizeof(closed) / sizeof(closed[0]); i++) {
		CHECK_DENIES(connect_to(p, closed[i], 443, NULL), "special-address");
		CHECK_DENIES(connect_to(p, closed[i], 443, PINS("a.test")), "special-address");
	}
	CHECK_DENIES(connect_to(p, "169.254.169.254", 80, PINS("a.test")), "metadata-address");
	CHECK_DENIES(policy_name_verdict(p, &n), "metadata-address");
	CHECK_EQ(connect_to(p, NULL, 22, NULL).act, POLICY_ALLOW);
	CHECK_EQ(connect_to(p, NULL, 443, PINS("a.test")).act, POLICY_NEEDS_TLS);
	CHECK_ALLOWS(flow_to(p, "a.test", 443, POLICY_SEEN_TLS));
	n = name_of("localhost");
	CHECK_DENIES(policy_name_verdict(p, &n), "no-rule");
	policy_free(p);
}

TEST(L4_12_udp)
{
	struct policy *p = rules_of(
		"    - { host: a.test, port: [443, 53] }\n    - { host: u.test, port: 123, protocol: udp }");
	struct question *q = ask_of(NULL, 443, PINS("a.test"));

	q->ask.transport = POLICY_UDP;
	CHECK_DENIES(policy_connect_verdict(p, &q->ask), "quic-refused");
	q->ask.port = 53;
	CHECK_DENIES(policy_connect_verdict(p, &q->ask), "protocol-not-allowed");
	free(q);
	q = ask_of(NULL, 123, PINS("u.test"));
	CHECK_DENIES(policy_connect_verdict(p, &q->ask), "protocol-not-allowed");
	q->ask.transport = POLICY_UDP;
	CHECK_EQ(policy_connect_verdict(p, &q->ask).act, POLICY_ALLOW);
	free(q);
	policy_free(p);
}

TEST(L7_1_methods)
{
	struct policy *p = rules_of("    - { host: r.test, http: [ { method: read-only } ] }\n"
	                            "    - { host: w.test, http: [ { method: write } ] }");

	CHECK_ALLOWS(request_to(p, "r.test", "GET", "/", ""));
	CHECK_ALLOWS(request_to(p, "r.test", "HEAD", "/", ""));
	CHECK_ALLOWS(request_to(p, "r.test", "OPTIONS", "/", ""));
	CHECK_DENIES(request_to(p, "r.test", "POST", "/", ""), "method");
	CHECK_DENIES(request_to(p, "r.test", "get", "/", ""), "method");
	CHECK_ALLOWS(request_to(p, "w.test", "PATCH", "/", ""));
	CHECK_DENIES(request_to(p, "w.test", "DELETE", "/", ""), "method");
	policy_free(p);
}

TEST(L7_3_deny_beats_and_paths_split)
{
	struct policy *p =
		rules_of("    - { host: \"*.e.test\", port: 443 }\n"
	                 "    - { host: a.e.test, deny: true, http: [ { path: \"/admin/**\" } ] }\n"
	                 "    - { host: b.test, http: [ { method: GET, path: \"/r/**\" } ] }\n"
	                 "    - { host: b.test, http: [ { method: POST, path: \"/w/**\" } ] }");

	CHECK(flow_to(p, "a.e.test", 443, POLICY_SEEN_TLS).inspect);
	CHECK(!flow_to(p, "c.e.test", 443, POLICY_SEEN_TLS).inspect);
	CHECK_ALLOWS(request_to(p, "a.e.test", "GET", "/x", ""));
	CHECK_DENIES(request_to(p, "a.e.test", "GET", "/admin", ""), "denied-by-rule");
	CHECK_DENIES(request_to(p, "a.e.test", "GET", "/admin/x", ""), "denied-by-rule");
	CHECK_ALLOWS(request_to(p, "b.test", "GET", "/r/1", ""));
	CHECK_ALLOWS(request_to(p, "b.test", "POST", "/w/1", ""));
	CHECK_DENIES(request_to(p, "b.test", "POST", "/r/1", ""), "method");
	CHECK_DENIES(request_to(p, "b.test", "GET", "/x", ""), "path");
	policy_free(p);
}

TEST(L7_4_observe)
{
	struct policy *p =
		rules_of("    - { host: a.test, observe: true, http: [ { method: GET } ] }");
	struct policy_verdict v = request_to(p, "a.test", "GET", "/", "");

	CHECK(v.act == POLICY_ALLOW && !v.observed);
	v = request_to(p, "a.test", "POST", "/", "");
	CHECK(v.act == POLICY_ALLOW && v.observed);
	CHECK(v.reason != POLICY_OK);
	policy_free(p);
}

TEST(L7_5_clone_but_no_push)
{
	struct policy *p =
		rules_of("    - { preset: standard }\n    - { host: github.com, port: 443 }");

	CHECK_ALLOWS(
		request_to(p, "github.com", "GET", "/o/r/info/refs", "service=git-upload-pack"));
	CHECK_ALLOWS(request_to(p, "github.com", "POST", "/o/r/git-upload-pack", ""));
	CHECK_DENIES(request_to(p, "github.com", "POST", "/o/r/git-receive-pack", ""),
	             "denied-by-rule");
	CHECK_DENIES(
		request_to(p, "github.com", "GET", "/o/r/info/refs", "service=git-receive-pack"),
		"denied-by-rule");
	CHECK_DENIES(request_to(p, "github.com", "GET", "/o/r/info/refs",
	                        "service=git-upload-pack&%73ervice=git-receive-pack"),
	             "denied-by-rule");
	CHECK_DENIES(request_to(p, "gitlab.com", "POST", "/o/r/issues", ""), "method");
	policy_free(p);
}

TEST(L7_5_registries_are_read_only)
{
	static const char *const hosts[] = { "mirror.test" };
	struct policy_draft *d = new_draft();
	struct policy *p;
	struct err e = { 0 };

	CHECK_OK(policy_draft_slot(d, "registries", hosts, 1, &e), &e);
	CHECK_OK(policy_draft_preset(d, "locked", &e), &e);
	p = load_draft(d, 1);
	CHECK_ALLOWS(request_to(p, "mirror.test", "GET", "/simple/x/", ""));
	CHECK_ALLOWS(request_to(p, "mirror.test", "HEAD", "/x.whl", "a=b"));
	CHECK_DENIES(request_to(p, "mirror.test", "PUT", "/x", ""), "method");
	CHECK_DENIES(request_to(p, "mirror.test", "POST", "/legacy/", ""), "method");
	CHECK_DENIES(request_to(p, "mirror.test", "DELETE", "/x", ""), "method");
	policy_free(p);
}

TEST(L7_12_what_cannot_be_read_is_refused)
{
	struct policy *p =
		rules_of("    - { host: a.test, port: 8443, http: [ { method: GET } ] }\n"
	                 "    - { host: b.test, port: 443, inspect: false }\n"
	                 "    - { host: b.test, deny: true, http: [ { method: DELETE } ] }");

	CHECK_EQ(connect_to(p, NULL, 8443, PINS("a.test")).act, POLICY_NEEDS_TLS);
	CHECK_DENIES(flow_to(p, "a.test", 8443, POLICY_SEEN_RAW), "not-tls");
	CHECK_DENIES(flow_to(p, "b.test", 443, POLICY_SEEN_TLS), "denied-by-rule");
	policy_free(p);
}

TEST(TLS_1_intercepted_only_where_needed)
{
	struct policy *p =
		policy_of("version: 1\n"
	                  "network:\n"
	                  "  rules:\n"
	                  "    - { host: plain.test, port: 443 }\n"
	                  "    - { host: http.test, port: 443, http: [ { method: GET } ] }\n"
	                  "    - { host: secret.test, port: [443, 8443] }\n"
	                  "    - { host: read.test, port: 443, inspect: true }\n"
	                  "    - { host: pinned.test, port: 443, inspect: false }\n"
	                  "    - { host: raw.test, port: 443, protocol: tcp }\n"
	                  "secrets:\n"
	                  "  - { name: S, hosts: [secret.test, pinned.test, raw.test] }\n");

	CHECK(!flow_to(p, "plain.test", 443, POLICY_SEEN_TLS).inspect);
	CHECK(flow_to(p, "http.test", 443, POLICY_SEEN_TLS).inspect);
	CHECK(flow_to(p, "secret.test", 443, POLICY_SEEN_TLS).inspect);
	CHECK(flow_to(p, "read.test", 443, POLICY_SEEN_TLS).inspect);
	CHECK(!flow_to(p, "pinned.test", 443, POLICY_SEEN_TLS).inspect);
	CHECK(!flow_to(p, "raw.test", 443, POLICY_SEEN_TLS).inspect);
	CHECK_EQ(connect_to(p, NULL, 8443, PINS("secret.test")).act, POLICY_NEEDS_TLS);
	CHECK_EQ(connect_to(p, NULL, 443, PINS("raw.test")).act, POLICY_ALLOW);
	policy_free(p);
}

static uint64_t secrets(const struct policy *p, const char *name, enum policy_seen seen,
                        const char *method, const char *path)
{
	struct question *q = flow_of(name, 443, seen);
	uint64_t got;

	q->ask.method = span_str(method);
	q->ask.path = span_str(path);
	got = policy_secrets_for(p, &q->ask);
	free(q);
	return got;
}

TEST(SEC_2_3_15_where_a_secret_may_be_used)
{
	struct policy *p =
		policy_of("version: 1\n"
	                  "network: { rules: [ { host: \"**.e.test\", port: 443 },\n"
	                  "                    { host: p.test, port: 443, inspect: false } ] }\n"
	                  "secrets:\n"
	                  "  - { name: A, hosts: [a.e.test] }\n"
	                  "  - { name: B, hosts: [\"*.e.test\"], method: POST, path: \"/v1/**\" }\n"
	                  "  - { name: C, hosts: [p.test] }\n"
	                  "  - { name: D, hosts: [a.e.test], port: 8443 }\n");

	CHECK_EQ(secrets(p, "a.e.test", POLICY_SEEN_TLS, "POST", "/v1/x"), 3);
	CHECK_EQ(secrets(p, "a.e.test", POLICY_SEEN_TLS, "GET", "/v1/x"), 1);
	CHECK_EQ(secrets(p, "b.e.test", POLICY_SEEN_TLS, "POST", "/v2"), 0);
	CHECK_EQ(secrets(p, "x.a.e.test", POLICY_SEEN_TLS, "POST", "/v1/x"), 0);
	CHECK_EQ(secrets(p, "a.e.test", POLICY_SEEN_HTTP, "POST", "/v1/x"), 0);
	CHECK_EQ(secrets(p, "p.test", POLICY_SEEN_TLS, "GET", "/"), 0);
	policy_free(p);
}

TEST(HOT_2_flows_a_new_policy_ends)
{
	struct policy *old =
		rules_of("    - { host: a.test, port: 443 }\n    - { host: b.test, port: 443 }");
	struct policy *same =
		rules_of("    - { host: a.test, port: 443 }\n    - { host: b.test, port: 443 }");
	struct policy *less = rules_of("    - { host: a.test, port: 443 }");
	struct policy *read =
		rules_of("    - { host: a.test, port: 443, http: [ { method: GET } ] }");
	struct question *a = flow_of("a.test", 443, POLICY_SEEN_TLS);
	struct question *b = flow_of("b.test", 443, POLICY_SEEN_TLS);

	CHECK_EQ(policy_flow_keeps(old, same, &b->ask, false).act, POLICY_ALLOW);
	CHECK_EQ(policy_flow_keeps(old, less, &a->ask, false).act, POLICY_ALLOW);
	CHECK_DENIES(policy_flow_keeps(old, less, &b->ask, false), "revoked");
	CHECK_DENIES(policy_flow_keeps(old, read, &a->ask, false), "revoked");
	CHECK_EQ(policy_flow_keeps(old, read, &a->ask, true).act, POLICY_ALLOW);
	free(a);
	free(b);
	policy_free(old);
	policy_free(same);
	policy_free(less);
	policy_free(read);
}

TEST(names_for_dns)
{
	struct policy *p = rules_of("    - { host: \"*.e.test\", port: 5000 }\n"
	                            "    - { host: no.e.test, deny: true }\n"
	                            "    - { host: half.e.test, deny: true, port: 80 }");
	struct host_name n = name_of("a.e.test");

	CHECK_ALLOWS(policy_name_verdict(p, &n));
	n = name_of("half.e.test");
	CHECK_ALLOWS(policy_name_verdict(p, &n));
	n = name_of("no.e.test");
	CHECK_DENIES(policy_name_verdict(p, &n), "denied-by-rule");
	n = name_of("e.test");
	CHECK_DENIES(policy_name_verdict(p, &n), "no-rule");
	policy_free(p);
}

TEST(deny_rules_for_addresses)
{
	struct policy *p = rules_of(
		"    - { host: a.test, port: 443 }\n    - { address: 93.184.216.0/24, deny: true }");

	CHECK_DENIES(connect_to(p, NULL, 443, PINS("a.test")), "denied-by-rule");
	CHECK_EQ(connect_to(p, "8.8.8.8", 443, PINS("a.test")).act, POLICY_NEEDS_TLS);
	policy_free(p);
}

TEST(names_that_may_lead_to_a_special_address)
{
	static const struct {
		const char *addr;
		bool opened;
	} cases[] = {
		{ "10.0.0.1", true }, { "10.0.0.2", false },        { "10.9.0.1", false },
		{ "fd00::1", true },  { "169.254.169.254", false }, { "127.0.0.1", false },
		{ "fe80::1", false }, { "9.9.9.9", true },
	};
	struct policy *p = rules_of("    - { address: 10.0.0.1, port: 443 }\n"
	                            "    - { address: 10.9.0.1, deny: true }\n"
	                            "    - { address: \"fd00::/64\", port: 443 }\n"
	                            "    - { address: 9.9.9.9, port: 53, protocol: udp }");

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct policy_addr a;

		CHECK_EQ(addr_parse(span_str(cases[i].addr), &a), 0);
		CHECK_EQ(policy_address_opened(p, &a), cases[i].opened);
	}
	policy_free(p);
}

TEST_MAIN()
