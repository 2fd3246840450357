/*
 * What a verdict costs among 1000 rules: JSON lines, nanoseconds a call, the median and the 99th
 * percentile of rounds of 1000 calls each.
 *
 *	meson test --benchmark policy/verdicts --verbose
 */
#include "base/clock.h"
#include "policy/draft.h"
#include "policy/policy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { RULES = 1000, ROUNDS = 300, CALLS = 1000 };

struct bench {
	struct policy *p;
	struct host_name names[64];
	const struct host_name *pins[64];
	struct policy_ask ask;
};

static int add_rules(struct policy_draft *d, struct err *e)
{
	static const char yaml[] =
		"version: 1\n"
		"network:\n"
		"  rules:\n"
		"    - { host: q.bench.test, http: [ { method: GET, path: \"/*/x/**\" } ] }\n";
	int r = 0;

	for (int i = 0; i < RULES && r == 0; i++) {
		char word[64];

		(void)snprintf(word, sizeof(word),
		               i % 4 == 0 ? "**.h%d.bench.test" : "h%d.bench.test:443", i);
		if (i % 50 == 7)
			(void)snprintf(word, sizeof(word), "10.%d.0.0/16:443", i / 50);
		r = i % 20 == 3 ? policy_draft_deny(d, word, e) : policy_draft_allow(d, word, e);
	}
	if (r == 0)
		r = policy_draft_file(d, "bench", span_str(yaml), e);
	return r;
}

static int make(struct bench *b, struct err *e)
{
	_own_(policy_draft_free) struct policy_draft *d = NULL;
	_own_free_ uint8_t *tlv = NULL;
	size_t len;
	int r = policy_draft_new(NULL, NULL, &d, e);

	if (r == 0)
		r = add_rules(d, e);
	if (r == 0)
		r = policy_draft_compile(d, 1, &tlv, &len, e);
	if (r == 0)
		r = policy_load(span_of(tlv, len), &b->p, e);
	for (unsigned i = 0; i < 64 && r == 0; i++) {
		char name[64];

		(void)snprintf(name, sizeof(name), i % 2 ? "h%u.bench.test" : "a.b.h%u.bench.test",
		               13 * i);
		if (host_name_parse(span_str(name), &b->names[i]) < 0)
			return err_set(e, -EINVAL, "%s", name);
		b->pins[i] = &b->names[i];
	}
	return r;
}

static unsigned ask_name(struct bench *b, unsigned i)
{
	return policy_name_verdict(b->p, &b->names[i % 64]).act;
}

static unsigned ask_connect(struct bench *b, unsigned i)
{
	b->ask.names = &b->pins[i % 64];
	b->ask.names_count = 1;
	return policy_connect_verdict(b->p, &b->ask).act;
}

static unsigned ask_flow(struct bench *b, unsigned i)
{
	b->ask.names = &b->pins[i % 64];
	b->ask.names_count = 1;
	b->ask.name = b->pins[i % 64];
	b->ask.seen = POLICY_SEEN_TLS;
	return policy_flow_verdict(b->p, &b->ask).act;
}

static unsigned ask_request(struct bench *b, unsigned i)
{
	(void)i;
	return policy_request_verdict(b->p, &b->ask).act;
}

static void sort(uint64_t *at, unsigned n)
{
	for (unsigned i = 1; i < n; i++)
		for (unsigned j = i; j > 0 && at[j - 1] > at[j]; j--) {
			uint64_t t = at[j];

			at[j] = at[j - 1];
			at[j - 1] = t;
		}
}

static void run(struct bench *b, const char *name, unsigned (*ask)(struct bench *b, unsigned i))
{
	uint64_t ns[ROUNDS];
	unsigned denied = 0;

	for (unsigned r = 0; r < ROUNDS; r++) {
		uint64_t began = clock_mono_ns();

		for (unsigned i = 0; i < CALLS; i++)
			denied += ask(b, i) == POLICY_DENY;
		ns[r] = (clock_mono_ns() - began) / CALLS;
	}
	sort(ns, ROUNDS);
	printf("{\"name\":\"policy_%s_ns\",\"runs\":%d,\"p50\":%llu,\"p99\":%llu,\"denied\":%u}\n",
	       name, ROUNDS, (unsigned long long)ns[ROUNDS / 2],
	       (unsigned long long)ns[ROUNDS * 99 / 100], denied);
}

int main(void)
{
	static struct bench b;
	static struct host_name q;
	struct err e = { 0 };

	if (make(&b, &e) < 0 || addr_parse(span_str("93.184.216.34"), &b.ask.addr) < 0 ||
	    host_name_parse(span_str("q.bench.test"), &q) < 0) {
		fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	b.ask.port = 443;
	run(&b, "name", ask_name);
	run(&b, "connect", ask_connect);
	run(&b, "flow", ask_flow);
	b.ask.name = &q;
	b.ask.method = span_str("GET");
	b.ask.path = span_str("/project/x/some/longer/path");
	run(&b, "request", ask_request);
	policy_free(b.p);
	return 0;
}
