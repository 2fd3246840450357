#include "policy_test.h"

static char text[POLICY_SHOWN_MAX];

static const char *rule(const struct policy *p, uint16_t i, bool json)
{
	struct buf b;

	buf_init(&b, text, sizeof(text));
	if (json)
		policy_put_rule_json(p, i, &b);
	else
		policy_put_rule(p, i, &b);
	CHECK(buf_ok(&b));
	return buf_cstr(&b);
}

static const char *secret(const struct policy *p, unsigned i, bool json)
{
	struct buf b;

	buf_init(&b, text, sizeof(text));
	if (json)
		policy_put_secret_json(p, i, &b);
	else
		policy_put_secret(p, i, &b);
	CHECK(buf_ok(&b));
	return buf_cstr(&b);
}

TEST(rules_as_lines)
{
	struct policy *p = rules_of(
		"    - { host: \"*.Example.com\", port: [443, 8000-8010] }\n"
		"    - { host: a.example.com, deny: true }\n"
		"    - { address: 10.0.0.0/8, port: 5432, protocol: tcp }\n"
		"    - { address: \"fd00::/16\", port: 53, protocol: udp }\n"
		"    - { host: b.example.com, port: 443, observe: true, http: [ { method: GET, "
		"path: \"/a/**\" }, { path: /b }, { method: POST }, { path: /d } ] }\n"
		"    - { host: c.example.com, inspect: true }\n"
		"    - { host: d.example.com, inspect: false, protocol: tls }\n");

	CHECK_STR(rule(p, 0, false), "allow *.example.com:443,8000-8010");
	CHECK_STR(rule(p, 1, false), "deny  a.example.com");
	CHECK_STR(rule(p, 2, false), "allow 10.0.0.0/8:5432  tcp");
	CHECK_STR(rule(p, 3, false), "allow [fd00::/16]:53  udp");
	CHECK_STR(rule(p, 4, false), "allow b.example.com:443  observed only  GET, HEAD /a/**; any "
	                             "method /b; POST; and 1 more");
	CHECK_STR(rule(p, 5, false), "allow c.example.com:80,443  inspected");
	CHECK_STR(rule(p, 6, false), "allow d.example.com:443  tls  never read");
	CHECK_STR(rule(p, 7, false), "");
	CHECK_STR(rule(p, POLICY_RULE_NONE, true), "");
	CHECK(!policy_default_allows(p));
	policy_free(p);
}

TEST(rules_as_json)
{
	struct policy *p = rules_of(
		"    - { host: b.example.com, port: [443, 8000-8010], http: [ { method: GET, path: "
		"\"/%22a/**\", query: { q: x, service: y } }, { path: /b } ] }\n"
		"    - { address: 10.0.0.0/8, port: 5432, protocol: tcp, deny: true }\n"
		"    - { host: d.example.com, inspect: false }\n");

	CHECK_STR(rule(p, 0, true),
	          "{\"action\":\"allow\",\"host\":\"b.example.com\",\"address\":null,"
	          "\"ports\":[\"443\",\"8000-8010\"],\"protocol\":null,\"inspect\":null,"
	          "\"observe\":false,\"http\":[{\"methods\":[\"GET\",\"HEAD\"],"
	          "\"path\":\"/%22a/**\",\"query\":[\"q\",\"service\"]},{\"methods\":[],"
	          "\"path\":\"/b\",\"query\":[]}],\"rule\":\"t.yaml:4\"}");
	CHECK_STR(rule(p, 1, true), "{\"action\":\"deny\",\"host\":null,\"address\":\"10.0.0.0/8\","
	                            "\"ports\":[\"5432\"],\"protocol\":\"tcp\",\"inspect\":null,"
	                            "\"observe\":false,\"http\":[],\"rule\":\"t.yaml:5\"}");
	CHECK(strstr(rule(p, 2, true), "\"inspect\":false"));
	policy_free(p);
}

TEST(secrets)
{
	struct policy *p = policy_of(
		"version: 1\nsecrets:\n"
		"  - { name: ONE, hosts: [a.example.com, \"**.b.example.com\"], port: 443, header: { "
		"name: X-Key, prefix: \"Bearer \" }, method: POST, path: [/v1, \"/v2/**\"], "
		"on_violation: kill }\n"
		"  - { name: TWO, hosts: c.example.com, basic: password }\n"
		"  - { name: THREE, hosts: c.example.com, query: key }\n"
		"  - { name: FOUR, hosts: c.example.com }\n");

	CHECK_STR(secret(p, 0, false),
	          "ONE  to a.example.com,**.b.example.com:443  as header x-key: Bearer   only POST"
	          "  in /v1, /v2/**  else kill");
	CHECK_STR(secret(p, 1, false), "TWO  to c.example.com  as password of basic");
	CHECK_STR(secret(p, 2, false), "THREE  to c.example.com  as parameter key");
	CHECK_STR(secret(p, 3, false),
	          "FOUR  to c.example.com  as header authorization, header x-api-key");
	CHECK_STR(secret(p, 4, false), "");
	CHECK_STR(secret(p, 0, true),
	          "{\"name\":\"ONE\",\"hosts\":[\"a.example.com\",\"**.b.example.com\"],"
	          "\"ports\":[\"443\"],\"places\":[{\"place\":\"header\",\"name\":\"x-key\","
	          "\"prefix\":\"Bearer \"}],\"methods\":[\"POST\"],\"paths\":[\"/v1\",\"/v2/**\"],"
	          "\"on_violation\":\"kill\",\"rule\":\"t.yaml:3\"}");
	CHECK_STR(secret(p, 1, true),
	          "{\"name\":\"TWO\",\"hosts\":[\"c.example.com\"],\"ports\":[],"
	          "\"places\":[{\"place\":\"basic-password\",\"name\":null,\"prefix\":null}],"
	          "\"methods\":[],\"paths\":[],\"on_violation\":\"refuse\",\"rule\":\"t.yaml:4\"}");
	policy_free(p);
}

TEST(a_default_that_allows)
{
	struct policy *p = policy_of("version: 1\nnetwork: { default: allow }\n");

	CHECK(policy_default_allows(p));
	CHECK_EQ(policy_rules(p), 0);
	policy_free(p);
}

TEST_MAIN()
