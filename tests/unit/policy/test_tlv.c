#include "policy_test.h"

#include "guardpage.h"
#include "policy/tlv.h"

#include <errno.h>

static const char yaml[] =
	"version: 1\n"
	"limits: { egress: 1MiB, connections: 3 }\n"
	"network:\n"
	"  default: deny\n"
	"  rules:\n"
	"    - { host: \"**.a.test\", port: [1-5, 443],\n"
	"        http: [ { method: GET, path: \"/a/*\", query: { q: [x, y] } } ] }\n"
	"    - { address: 10.0.0.0/24, port: 5432 }\n"
	"    - { host: b.test, deny: true }\n"
	"secrets:\n"
	"  - { name: A, hosts: [a.a.test], header: [ { name: X, prefix: \"p \" } ],\n"
	"      basic: user, query: k, path: /v, method: POST }\n"
	"workspace: { skip_cost: true, exclude: ['*.local', /raw/] }\n";

/* The compiled form; the caller's to free. */
static uint8_t *compile(uint64_t generation, size_t *ret_len)
{
	struct policy_draft *d = new_draft();
	uint8_t *tlv;
	struct err e = { 0 };

	CHECK_OK(policy_draft_file(d, "t.yaml", span_str(yaml), &e), &e);
	CHECK_OK(policy_draft_compile(d, generation, &tlv, ret_len, &e), &e);
	policy_draft_free(d);
	return tlv;
}

/* Writes again what a body's records parse to. */
static void write_again(struct span body, struct buf *out)
{
	struct policy_rule *rule = calloc(1, sizeof(*rule));
	struct policy_secret *secret = calloc(1, sizeof(*secret));
	struct policy_workspace *work = calloc(1, sizeof(*work));
	struct policy_limits limits;
	struct tlv_record rec;
	bool allow;

	while (policy_tlv_parse_record(&body, &rec) == 0) {
		switch ((enum tlv_type)rec.type) {
		case TLV_DEFAULT:
			CHECK_EQ(policy_tlv_parse_default(rec.payload, &allow), 0);
			tlv_put_default(out, allow);
			break;
		case TLV_LIMITS:
			CHECK_EQ(policy_tlv_parse_limits(rec.payload, &limits), 0);
			tlv_put_limits(out, &limits);
			break;
		case TLV_RULE:
			CHECK_EQ(policy_tlv_parse_rule(rec.payload, rule, NULL), 0);
			tlv_put_rule(out, rule);
			break;
		case TLV_SECRET:
			CHECK_EQ(policy_tlv_parse_secret(rec.payload, secret), 0);
			tlv_put_secret(out, secret);
			break;
		case TLV_WORKSPACE:
			CHECK_EQ(policy_tlv_parse_workspace(rec.payload, work), 0);
			tlv_put_workspace(out, work);
			break;
		}
	}
	free(rule);
	free(secret);
	free(work);
}

TEST(round_trip)
{
	static uint8_t room[1 << 16];
	size_t len;
	uint8_t *tlv = compile(9, &len);
	struct tlv_header h;
	struct buf again;

	CHECK_EQ(policy_tlv_parse(span_of(tlv, len), &h), 0);
	CHECK_EQ(h.generation, 9);
	CHECK_EQ(h.version, TLV_VERSION_WORKSPACE);
	buf_init(&again, room, sizeof(room));
	write_again(h.body, &again);
	CHECK(buf_ok(&again));
	CHECK_MEM(buf_span(&again), h.body);
	free(tlv);
}

TEST(equal_policies_have_equal_digests)
{
	size_t len;
	size_t other_len;
	uint8_t *one = compile(1, &len);
	uint8_t *two = compile(2, &other_len);
	struct policy *p;
	struct policy *q;
	struct err e = { 0 };

	CHECK_OK(policy_load(span_of(one, len), &p, &e), &e);
	CHECK_OK(policy_load(span_of(two, other_len), &q, &e), &e);
	CHECK(memcmp(policy_digest(p), policy_digest(q), 32) == 0);
	policy_free(q);
	q = rules_of("    - { host: c.test }");
	CHECK(memcmp(policy_digest(p), policy_digest(q), 32) != 0);
	policy_free(p);
	policy_free(q);
	free(one);
	free(two);
}

TEST(every_prefix_is_refused)
{
	size_t len;
	uint8_t *tlv = compile(1, &len);

	for (size_t n = 0; n < len; n++) {
		uint8_t *at = guard_copy(tlv, n);
		struct policy *p = NULL;
		struct err e = { 0 };
		struct tlv_header h;

		CHECK_EQ(policy_tlv_parse(span_of(at, n), &h), -EBADMSG);
		CHECK_EQ(policy_load(span_of(at, n), &p, &e), -EBADMSG);
		CHECK(p == NULL);
		guard_free(at, n);
	}
	free(tlv);
}

TEST(every_changed_byte_is_noticed)
{
	size_t len;
	uint8_t *tlv = compile(1, &len);

	for (size_t n = 0; n < len; n++) {
		struct policy *p = NULL;
		struct err e = { 0 };

		tlv[n] ^= 0x41;
		if (n >= 8 && n < 16) /* the generation is nobody's secret, and not in the digest */
			CHECK_EQ(policy_load(span_of(tlv, len), &p, &e), 0);
		else
			CHECK_EQ(policy_load(span_of(tlv, len), &p, &e), -EBADMSG);
		policy_free(p);
		tlv[n] ^= 0x41;
	}
	free(tlv);
}

/* Records are judged one by one, whatever the digest says. */
TEST(records_at_every_prefix)
{
	size_t len;
	uint8_t *tlv = compile(1, &len);
	struct policy_rule *rule = calloc(1, sizeof(*rule));
	struct policy_secret *secret = calloc(1, sizeof(*secret));
	struct policy_workspace *work = calloc(1, sizeof(*work));
	struct tlv_header h;
	struct tlv_record rec;

	CHECK_EQ(policy_tlv_parse(span_of(tlv, len), &h), 0);
	while (policy_tlv_parse_record(&h.body, &rec) == 0) {
		for (size_t n = 0; n < rec.payload.len; n++) {
			uint8_t *at = guard_copy(rec.payload.at, n);
			struct span s = span_of(at, n);
			struct policy_limits limits;
			bool allow;
			int r = rec.type == TLV_DEFAULT  ? policy_tlv_parse_default(s, &allow)
			        : rec.type == TLV_LIMITS ? policy_tlv_parse_limits(s, &limits)
			        : rec.type == TLV_RULE   ? policy_tlv_parse_rule(s, rule, NULL)
			        : rec.type == TLV_SECRET ? policy_tlv_parse_secret(s, secret)
			                                 : policy_tlv_parse_workspace(s, work);

			CHECK_EQ(r, -EBADMSG);
			guard_free(at, n);
		}
	}
	free(rule);
	free(secret);
	free(work);
	free(tlv);
}

/* A rule that only a hostile writer would make. */
static int judge(const struct policy_rule *r)
{
	static uint8_t room[4096];
	struct policy_rule *got = calloc(1, sizeof(*got));
	struct tlv_record rec;
	struct buf b;
	struct span s;
	int res;

	buf_init(&b, room, sizeof(room));
	tlv_put_rule(&b, r);
	CHECK(buf_ok(&b));
	s = buf_span(&b);
	CHECK_EQ(policy_tlv_parse_record(&s, &rec), 0);
	res = policy_tlv_parse_rule(rec.payload, got, NULL);
	free(got);
	return res;
}

TEST(rules_nobody_writes)
{
	static struct policy_rule base = { .kind = RULE_HOST,
		                           .ports_count = 1,
		                           .ports = { { 443, 443 } } };
	static struct policy_rule r;

	CHECK_EQ(host_pattern_parse(span_str("a.test"), &base.host, NULL), 0);
	CHECK_EQ(judge(&base), 0);
	r = base, r.kind = 2;
	CHECK_EQ(judge(&r), -EBADMSG);
	r = base, r.flags = 64;
	CHECK_EQ(judge(&r), -EBADMSG);
	r = base, r.flags = RULE_INSPECT | RULE_PASS;
	CHECK_EQ(judge(&r), -EBADMSG);
	r = base, r.proto = RULE_PROTOS;
	CHECK_EQ(judge(&r), -EBADMSG);
	r = base, r.ports[0].lo = 0;
	CHECK_EQ(judge(&r), -EBADMSG);
	r = base, r.ports[0].hi = 1;
	CHECK_EQ(judge(&r), -EBADMSG);
	r = base, r.ports_count = 2, r.ports[1] = (struct rule_ports){ 444, 450 };
	CHECK_EQ(judge(&r), -EBADMSG);
	r = base, r.ports_count = 0;
	CHECK_EQ(judge(&r), -EBADMSG);
	r = base, r.host.base.at[0] = 'A';
	CHECK_EQ(judge(&r), -EBADMSG);
	r = base, r.host.base.len = 1;
	CHECK_EQ(judge(&r), -EBADMSG);
	r = base, r.origin = span_of("a\0b", 3);
	CHECK_EQ(judge(&r), -EBADMSG);
	r = base, r.http_count = 1;
	CHECK_EQ(judge(&r), -EBADMSG); /* an entry without methods */
	r.http[0].methods = METHODS_ANY;
	CHECK_EQ(judge(&r), 0);
	r.http[0].path = span_str("a");
	CHECK_EQ(judge(&r), -EBADMSG);
	r = base, r.kind = RULE_ADDRESS, r.net.base = addr_of_v4((const uint8_t[]){ 10, 0, 0, 1 });
	r.net.bits = 24;
	CHECK_EQ(judge(&r), -EBADMSG);
	r.net.bits = 32;
	CHECK_EQ(judge(&r), 0);
	r.flags = RULE_FROM_PRESET;
	CHECK_EQ(judge(&r), -EBADMSG);
}

/* The bytes of a policy file of these lines; the caller's to free. */
static uint8_t *compile_text(const char *text, size_t *ret_len)
{
	struct policy_draft *d = new_draft();
	uint8_t *tlv;
	struct err e = { 0 };

	CHECK_OK(policy_draft_file(d, "t.yaml", span_str(text), &e), &e);
	CHECK_OK(policy_draft_compile(d, 1, &tlv, ret_len, &e), &e);
	policy_draft_free(d);
	return tlv;
}

TEST(a_policy_without_a_workspace_is_of_the_first_version)
{
	/* as every berm before wrote it, and as it lies in what was saved */
	static const char digest[] =
		"839120d98f7c0ab137d782e95b137d1ad557d4899054d41f9c9fd99fab665efd";
	char hex[2 * TLV_DIGEST_BYTES + 1];
	size_t len;
	uint8_t *tlv = compile_text("version: 1\n", &len);
	struct tlv_header h;

	CHECK_EQ(policy_tlv_parse(span_of(tlv, len), &h), 0);
	CHECK_EQ(h.version, TLV_VERSION);
	for (unsigned i = 0; i < TLV_DIGEST_BYTES; i++)
		(void)snprintf(hex + 2 * (size_t)i, 3, "%02x", h.digest[i]);
	CHECK_STR(hex, digest);
	free(tlv);
}

TEST(a_workspace_is_in_the_digest)
{
	static const char *const texts[] = {
		"version: 1\n",
		"version: 1\nworkspace: { exclude: [a] }\n",
		"version: 1\nworkspace: { exclude: [b] }\n",
		"version: 1\nworkspace: { exclude: [a, b] }\n",
		"version: 1\nworkspace: { skip_cost: true }\n",
		"version: 1\nworkspace: { exclude: [a], skip_cost: true }\n",
	};
	enum { TEXTS = sizeof(texts) / sizeof(texts[0]) };
	uint8_t digests[TEXTS][TLV_DIGEST_BYTES];

	for (unsigned i = 0; i < TEXTS; i++) {
		size_t len;
		uint8_t *tlv = compile_text(texts[i], &len);
		struct policy *p;
		struct err e = { 0 };

		CHECK_OK(policy_load(span_of(tlv, len), &p, &e), &e);
		CHECK_EQ(policy_workspace_of(p) != NULL, i > 0);
		memcpy(digests[i], policy_digest(p), TLV_DIGEST_BYTES);
		for (unsigned other = 0; other < i; other++)
			CHECK(memcmp(digests[i], digests[other], TLV_DIGEST_BYTES) != 0);
		policy_free(p);
		free(tlv);
	}
}

/* The version and the record stand or fall together: there is one spelling of each policy. */
TEST(a_workspace_of_the_other_version)
{
	static const char *const texts[] = { "version: 1\n",
		                             "version: 1\nworkspace: { exclude: [a] }\n" };

	for (unsigned i = 0; i < 2; i++) {
		size_t len;
		uint8_t *tlv = compile_text(texts[i], &len);
		struct policy *p = NULL;
		struct err e = { 0 };

		tlv[4] = (uint8_t)(i == 0 ? TLV_VERSION_WORKSPACE : TLV_VERSION);
		CHECK_EQ(policy_load(span_of(tlv, len), &p, &e), -EBADMSG);
		tlv[4] = TLV_VERSION_WORKSPACE + 1;
		CHECK_EQ(policy_load(span_of(tlv, len), &p, &e), -EBADMSG);
		free(tlv);
	}
}

static int judge_workspace(const struct policy_workspace *w)
{
	static uint8_t room[4096];
	struct policy_workspace *got = calloc(1, sizeof(*got));
	struct tlv_record rec;
	struct buf b;
	struct span s;
	int res;

	buf_init(&b, room, sizeof(room));
	tlv_put_workspace(&b, w);
	CHECK(buf_ok(&b));
	s = buf_span(&b);
	CHECK_EQ(policy_tlv_parse_record(&s, &rec), 0);
	res = policy_tlv_parse_workspace(rec.payload, got);
	free(got);
	return res;
}

TEST(workspaces_nobody_writes)
{
	static struct policy_workspace w = { .count = 1 };
	static const char *const bad[] = { "", "!a", "#a", "a\nb", "a\x7f" };

	w.left_out[0].pattern = span_str("*.local");
	w.left_out[0].label = span_str("p.yaml");
	CHECK_EQ(judge_workspace(&w), 0);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		w.left_out[0].pattern = span_str(bad[i]);
		CHECK_EQ(judge_workspace(&w), -EBADMSG);
	}
	w.left_out[0].pattern = span_str("a");
	w.left_out[0].label = span_of("a\0b", 3);
	CHECK_EQ(judge_workspace(&w), -EBADMSG);
	w.count = 0; /* it says nothing */
	CHECK_EQ(judge_workspace(&w), -EBADMSG);
	w.skip_cost_by = span_str("p.yaml:3");
	CHECK_EQ(judge_workspace(&w), 0);
}

TEST_MAIN()
