#include "cli/egress/ask.h"

#include "test.h"

#include "policy/draft.h"

#include <errno.h>
#include <string.h>

static struct policy *policy_of(const char *yaml)
{
	struct policy_draft *d;
	struct policy *p;
	struct err e = { 0 };
	uint8_t *tlv;
	size_t len;

	CHECK_OK(policy_draft_new(NULL, NULL, &d, &e), &e);
	CHECK_OK(policy_draft_file(d, "t.yaml", span_str(yaml), &e), &e);
	CHECK_OK(policy_draft_compile(d, 1, &tlv, &len, &e), &e);
	CHECK_OK(policy_load(span_of(tlv, len), &p, &e), &e);
	free(tlv);
	policy_draft_free(d);
	return p;
}

static const char yaml[] =
	"version: 1\nnetwork:\n  rules:\n"
	"    - { host: api.example.com, port: 443 }\n"
	"    - { host: git.example.com, port: 443, http: [ { method: GET, path: \"/a/**\", query: { "
	"service: pull } } ] }\n"
	"    - { host: plain.example.com, port: 80 }\n"
	"    - { host: raw.example.com, port: 5432 }\n"
	"    - { host: time.example.com, port: 123, protocol: udp }\n"
	"    - { address: 10.1.2.3, port: 6379 }\n"
	"secrets:\n"
	"  - { name: TOKEN, hosts: git.example.com, header: authorization }\n";

static struct ask_answer answer_of(const struct policy *p, const char *method, const char *word)
{
	static struct ask q;
	struct ask_answer a;
	struct err e = { 0 };

	CHECK(ask_is_question(word));
	CHECK_OK(ask_parse(method, word, &q, &e), &e);
	ask_judge(p, &q, &a);
	return a;
}

static const char *reason(const struct policy *p, const char *method, const char *word)
{
	struct ask_answer a = answer_of(p, method, word);

	CHECK_EQ(ask_allowed(&a), a.verdict.reason == POLICY_OK);
	return policy_reason_word(a.verdict.reason);
}

TEST(verdicts)
{
	struct policy *p = policy_of(yaml);

	CHECK_STR(reason(p, NULL, "https://api.example.com/any/thing"), "allowed");
	CHECK_STR(reason(p, "DELETE", "https://API.example.com.:443"), "allowed");
	CHECK_STR(reason(p, NULL, "http://api.example.com/"), "no-rule");
	CHECK_STR(reason(p, NULL, "https://api.example.com:8443/"), "no-rule");
	CHECK_STR(reason(p, NULL, "https://other.example.com/"), "no-rule");
	CHECK_STR(reason(p, NULL, "api.example.com:443"), "allowed");
	CHECK_STR(reason(p, "GET", "https://git.example.com/a/b?service=pull"), "allowed");
	CHECK_STR(reason(p, "GET", "https://git.example.com/x/../a/./%62?service=pull#top"),
	          "allowed");
	CHECK_STR(reason(p, "GET", "https://git.example.com/a/b?service=push"), "path");
	CHECK_STR(reason(p, "GET", "https://git.example.com/b?service=pull"), "path");
	CHECK_STR(reason(p, "POST", "https://git.example.com/a/b?service=pull"), "method");
	CHECK_STR(reason(p, NULL, "http://plain.example.com"), "allowed");
	CHECK_STR(reason(p, NULL, "plain.example.com:80"), "allowed");
	CHECK_STR(reason(p, NULL, "raw.example.com:5432"), "allowed");
	CHECK_STR(reason(p, NULL, "raw.example.com:5433"), "no-rule");
	CHECK_STR(reason(p, NULL, "time.example.com:123/udp"), "allowed");
	CHECK_STR(reason(p, NULL, "time.example.com:123"), "protocol-not-allowed");
	CHECK_STR(reason(p, NULL, "10.1.2.3:6379"), "allowed");
	CHECK_STR(reason(p, NULL, "10.1.2.4:6379"), "special-address");
	CHECK_STR(reason(p, NULL, "[::1]:80"), "special-address");
	CHECK_STR(reason(p, NULL, "http://169.254.169.254/latest/meta-data"), "metadata-address");
	policy_free(p);
}

TEST(reading_and_secrets)
{
	struct policy *p = policy_of(yaml);
	struct ask_answer a = answer_of(p, NULL, "https://git.example.com/a/b?service=pull");

	CHECK(a.verdict.inspect);
	CHECK_EQ(a.secrets, 1);
	a = answer_of(p, NULL, "https://api.example.com/");
	CHECK(!a.verdict.inspect);
	CHECK_EQ(a.secrets, 0);
	policy_free(p);
}

TEST(questions_and_files)
{
	CHECK(ask_is_question("https://a.example"));
	CHECK(ask_is_question("ftp://a.example"));
	CHECK(ask_is_question("a.example:443"));
	CHECK(ask_is_question("[::1]:53/udp"));
	CHECK(!ask_is_question("policy.yaml"));
	CHECK(!ask_is_question("a.example"));
	CHECK(!ask_is_question("./a:443"));
	CHECK(!ask_is_question("a:b"));
	CHECK(!ask_is_question(""));
	CHECK(ask_is_method("GET") && ask_is_method("PROPFIND"));
	CHECK(!ask_is_method("get") && !ask_is_method("policy.yaml") && !ask_is_method(""));
}

TEST(wrong_questions)
{
	static const struct {
		const char *method, *word, *why;
	} rows[] = {
		{ NULL, "ftp://a.example/", "neither https:// nor http://" },
		{ NULL, "https://", "no host name" },
		{ NULL, "https://a_b c/", "no host name" },
		{ NULL, "https://me@a.example/", "has a user in it" },
		{ NULL, "https://a.example:0/", "no host name" },
		{ NULL, "a.example", "has no port" },
		{ "GET", "a.example:443", "is no URL" },
		{ NULL, "https://a.example/../../x%2fy", "is refused as it stands: path-" },
		{ NULL, "https://a.example/%zz", "is refused as it stands: path-escape" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		static struct ask q;
		struct err e = { 0 };

		CHECK_EQ(ask_parse(rows[i].method, rows[i].word, &q, &e), -EINVAL);
		if (!strstr(e.text, rows[i].why))
			test_fail(__FILE__, __LINE__, "%s: %s", rows[i].word, e.text);
	}
}

TEST_MAIN()
