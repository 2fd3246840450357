/*
 * Compiled bytes as a gate or a vault receives them, with the digest put right so that what lies
 * behind it is reached. Contracts: a failure writes nothing; a rule or secret that parses is
 * written as the same bytes again; a policy that loads answers every question, denies what it must,
 * and explains itself.
 */
#include "policy/digest.h"
#include "policy/policy.h"
#include "policy/tlv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 16384 };

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void write_again(const struct tlv_record *rec)
{
	static struct policy_rule rule;
	static struct policy_secret secret;
	static struct policy_workspace work;
	static uint8_t room[1 << 16];
	struct buf b;
	int r = -EBADMSG;

	buf_init(&b, room, sizeof(room));
	if (rec->type == TLV_RULE) {
		r = policy_tlv_parse_rule(rec->payload, &rule, NULL);
		if (r == 0)
			tlv_put_rule(&b, &rule);
	} else if (rec->type == TLV_SECRET) {
		r = policy_tlv_parse_secret(rec->payload, &secret);
		if (r == 0)
			tlv_put_secret(&b, &secret);
	} else if (rec->type == TLV_WORKSPACE) {
		r = policy_tlv_parse_workspace(rec->payload, &work);
		if (r == 0)
			tlv_put_workspace(&b, &work);
	}
	must(r == 0 || r == -EBADMSG);
	if (r < 0)
		return;
	must(buf_ok(&b) && b.len == rec->payload.len + TLV_RECORD_BYTES);
	must(memcmp(room + TLV_RECORD_BYTES, rec->payload.at, rec->payload.len) == 0);
}

static void ask(const struct policy *p, const char *addr, const char *name, uint8_t seen)
{
	struct host_name n;
	const struct host_name *pins[1] = { &n };
	struct policy_ask a = {
		.port = 443, .seen = seen, .names = pins, .names_count = 1, .name = &n
	};
	struct policy_verdict v;
	char text[2 * POLICY_EXPLAIN_MAX];
	struct buf b;

	must(addr_parse(span_str(addr), &a.addr) == 0 && host_name_parse(span_str(name), &n) == 0);
	a.method = span_str("GET");
	a.path = span_str("/a/b");
	a.query = span_str("q=x&r=1;s=2");
	v = policy_connect_verdict(p, &a);
	must((v.act == POLICY_DENY) == (v.reason != POLICY_OK));
	v = policy_flow_verdict(p, &a);
	must(v.act == POLICY_ALLOW || v.act == POLICY_DENY);
	v = policy_request_verdict(p, &a);
	must(v.act == POLICY_ALLOW || v.act == POLICY_DENY);
	must(v.act == POLICY_DENY || policy_address_verdict(&a.addr).class_ < ADDR_LINK_LOCAL);
	must(policy_secrets(p) == 64 || policy_secrets_for(p, &a) >> policy_secrets(p) == 0);
	must(policy_flow_keeps(p, p, &a, true).act == POLICY_ALLOW);
	buf_init(&b, text, sizeof(text));
	policy_explain(p, &a, &v, &b);
	policy_explain_json(p, &a, &v, &b);
	must(buf_ok(&b));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t copy[INPUT_MAX];
	struct policy *p = NULL;
	struct tlv_header h;
	struct tlv_record rec;
	struct err e = { 0 };

	if (size < TLV_HEADER_BYTES || size > INPUT_MAX)
		return 0;
	memcpy(copy, data, size);
	for (int i = 0; i < 4; i++)
		copy[16 + i] = (uint8_t)((size - TLV_HEADER_BYTES) >> 8 * i);
	policy_digest_of(span_of(copy + TLV_HEADER_BYTES, size - TLV_HEADER_BYTES), copy + 20);
	if (policy_tlv_parse(span_of(copy, size), &h) < 0)
		return 0;
	while (policy_tlv_parse_record(&h.body, &rec) == 0)
		write_again(&rec);
	if (policy_load(span_of(copy, size), &p, &e) < 0) {
		must(!p && e.code == -EBADMSG);
		return 0;
	}
	ask(p, "93.184.216.34", "a.test", POLICY_SEEN_TLS);
	ask(p, "10.0.0.1", "a.b.a.test", POLICY_SEEN_HTTP);
	ask(p, "169.254.169.254", "a.test", POLICY_SEEN_RAW);
	policy_free(p);
	return 0;
}
