#include "policy_test.h"

static const char *explain(const struct policy *p, const struct question *q,
                           struct policy_verdict v)
{
	static char text[POLICY_EXPLAIN_MAX];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	policy_explain(p, &q->ask, &v, &b);
	CHECK(buf_ok(&b));
	return buf_cstr(&b);
}

static const char *json(const struct policy *p, const struct question *q, struct policy_verdict v)
{
	static char text[POLICY_EXPLAIN_MAX];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	policy_explain_json(p, &q->ask, &v, &b);
	CHECK(buf_ok(&b));
	return buf_cstr(&b);
}

TEST(words_are_stable)
{
	static const char *const words[] = {
		"allowed",
		"no-rule",
		"denied-by-rule",
		"not-resolved",
		"special-address",
		"metadata-address",
		"sni-missing",
		"sni-mismatch",
		"host-mismatch",
		"not-tls",
		"not-http",
		"method",
		"path",
		"ambiguous",
		"placeholder-elsewhere",
		"limit-connections",
		"limit-rate",
		"limit-bytes",
		"limit-dns",
		"limit-memory",
		"name-invalid",
		"upstream-refused",
		"upstream-timeout",
		"upstream-certificate",
		"upstream-dns",
		"upstream-protocol",
		"vault-down",
		"protocol-not-allowed",
		"quic-refused",
		"revoked",
		"value-guessed",
	};

	CHECK_EQ(POLICY_REASONS, sizeof(words) / sizeof(words[0]));
	for (unsigned i = 0; i < POLICY_REASONS; i++)
		CHECK_STR(policy_reason_word((enum policy_reason)i), words[i]);
}

TEST(L7_14_what_is_missing_and_how_to_allow_it)
{
	struct policy *p = rules_of(
		"    - { host: a.test, port: 443, http: [ { method: GET, path: \"/v1/**\" } ] }\n"
		"    - { host: d.test, deny: true }");
	struct question *q = flow_of("b.test", 443, POLICY_SEEN_TLS);

	CHECK_STR(
		explain(p, q, policy_flow_verdict(p, &q->ask)),
		"b.test:443 is refused: no rule allows it; to allow it, start with --allow b.test:443 or "
		"add a rule with berm policy set");
	CHECK_STR(
		json(p, q, policy_flow_verdict(p, &q->ask)),
		"\"reason\":\"no-rule\",\"rule\":\"\",\"message\":\"b.test:443 is refused: no rule allows it\","
		"\"missing\":\"{ host: b.test, port: 443 }\",\"allow_with\":\"--allow b.test:443\"");
	free(q);
	q = flow_of("a.test", 443, POLICY_SEEN_TLS);
	q->ask.method = span_str("POST");
	q->ask.path = span_str("/v1/\"x");
	q->ask.query = span_str("token=hunter2");
	CHECK_STR(
		json(p, q, policy_request_verdict(p, &q->ask)),
		"\"reason\":\"method\",\"rule\":\"t.yaml:4\",\"message\":\"a.test:443 POST /v1/\\\"x is refused: "
		"the rule for this path does not list the method (t.yaml:4)\","
		"\"missing\":\"http: { method: POST, path: \\\"/v1/\\\"x\\\" }\"");
	CHECK(!strstr(explain(p, q, policy_request_verdict(p, &q->ask)), "hunter2"));
	free(q);
	q = flow_of("d.test", 443, POLICY_SEEN_TLS);
	CHECK_STR(explain(p, q, policy_flow_verdict(p, &q->ask)),
	          "d.test:443 is refused by a rule that denies it (t.yaml:5)");
	free(q);
	policy_free(p);
}

TEST(addresses)
{
	struct policy *p = rules_of("    - { host: a.test, port: 443 }");
	struct question *q = ask_of("10.1.2.3", 5432, NULL);

	CHECK_STR(
		explain(p, q, policy_connect_verdict(p, &q->ask)),
		"10.1.2.3:5432 is refused: its address is no public one (private); to allow it, start with "
		"--allow 10.1.2.3:5432 or add a rule with berm policy set");
	free(q);
	q = ask_of("fe80::1", 80, NULL);
	CHECK_STR(explain(p, q, policy_connect_verdict(p, &q->ask)),
	          "[fe80::1]:80 is refused: its address is no public one (link-local)");
	free(q);
	q = ask_of("169.254.169.254", 80, NULL);
	CHECK_STR(
		explain(p, q, policy_connect_verdict(p, &q->ask)),
		"169.254.169.254:80 is refused: it is a cloud's metadata service, which no policy opens");
	free(q);
	policy_free(p);
}

/* BYP-7: nothing a guest sends can forge a line. */
TEST(hostile_requests_are_escaped)
{
	struct policy *p = rules_of("    - { host: a.test, port: 443, http: [ { method: GET } ] }");
	struct question *q = flow_of("a.test", 443, POLICY_SEEN_TLS);
	char path[4096];

	memset(path, 'x', sizeof(path));
	memcpy(path, "/\x1b[2J\r\n\xe2\x80\xae\xff", 12);
	q->ask.method = span_str("PO\nST");
	q->ask.path = span_of(path, sizeof(path));
	CHECK(!strpbrk(explain(p, q, policy_request_verdict(p, &q->ask)), "\x1b\r\n\xff"));
	CHECK(!strpbrk(json(p, q, policy_request_verdict(p, &q->ask)), "\x1b\r\n\xff"));
	free(q);
	policy_free(p);
}

TEST(every_reason_has_a_sentence)
{
	struct policy *p = rules_of("    - { host: a.test, port: 443 }");
	struct question *q = flow_of("a.test", 443, POLICY_SEEN_TLS);

	for (unsigned i = 0; i < POLICY_REASONS; i++) {
		struct policy_verdict v = { .act = POLICY_DENY, .reason = (uint8_t)i, .rule = 0 };

		CHECK(strlen(explain(p, q, v)) > 20);
		CHECK(strlen(json(p, q, v)) > 20);
	}
	free(q);
	policy_free(p);
}

TEST_MAIN()
