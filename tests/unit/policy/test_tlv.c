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
	"      basic: user, query: k, path: /v, method: POST }\n";

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
		}
	}
	free(rule);
	free(secret);
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
			                                 : policy_tlv_parse_secret(s, secret);

			CHECK_EQ(r, -EBADMSG);
			guard_free(at, n);
		}
	}
	free(rule);
	free(secret);
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

TEST_MAIN()
