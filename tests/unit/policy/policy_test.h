/*
 * policy_test: a policy in a line of a test, and questions to it.
 */
#pragma once

#include "policy/draft.h"
#include "policy/policy.h"
#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* A draft whose presets are the installed ones. */
static inline struct policy_draft *new_draft(void)
{
	static int presets = -1;
	struct policy_draft *d;
	struct err e = { 0 };

	if (presets < 0)
		presets = open(PRESETS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(presets >= 0);
	CHECK_OK(policy_draft_new(policy_preset_dir, &presets, &d, &e), &e);
	return d;
}

static inline struct policy *load_draft(struct policy_draft *d, uint64_t generation)
{
	struct policy *p;
	uint8_t *tlv;
	size_t len;
	struct err e = { 0 };

	CHECK_OK(policy_draft_compile(d, generation, &tlv, &len, &e), &e);
	CHECK_OK(policy_load(span_of(tlv, len), &p, &e), &e);
	free(tlv);
	policy_draft_free(d);
	return p;
}

/* The policy of a whole file. */
static inline struct policy *policy_of(const char *yaml)
{
	struct policy_draft *d = new_draft();
	struct err e = { 0 };

	CHECK_OK(policy_draft_file(d, "t.yaml", span_str(yaml), &e), &e);
	return load_draft(d, 1);
}

/* The same, of the lines of network: rules:. */
static inline struct policy *rules_of(const char *rules)
{
	char yaml[8192];

	(void)snprintf(yaml, sizeof(yaml), "version: 1\nnetwork:\n  rules:\n%s\n", rules);
	return policy_of(yaml);
}

/* What a file that is wrong is answered. */
static inline const char *fault_of(const char *yaml)
{
	static struct err e;
	struct policy_draft *d = new_draft();
	uint8_t *tlv;
	size_t len;
	struct err other = { 0 };

	err_clear(&e);
	CHECK(policy_draft_file(d, "t.yaml", span_str(yaml), &e) < 0);
	CHECK(policy_draft_compile(d, 1, &tlv, &len, &other) < 0);
	policy_draft_free(d);
	return e.text;
}

struct question {
	struct policy_ask ask;
	struct host_name room[4];
	const struct host_name *pins[4];
	struct host_name name;
};

static inline struct host_name name_of(const char *text)
{
	struct host_name n;

	CHECK_EQ(host_name_parse(span_str(text), &n), 0);
	return n;
}

/* A connection to 93.184.216.34 unless addr says otherwise; pins end with NULL. */
static inline struct question *ask_of(const char *addr, uint16_t port, const char *const *pins)
{
	struct question *q = calloc(1, sizeof(*q));

	CHECK(q != NULL);
	CHECK_EQ(addr_parse(span_str(addr ? addr : "93.184.216.34"), &q->ask.addr), 0);
	q->ask.port = port;
	for (; pins && *pins; pins++) {
		q->room[q->ask.names_count] = name_of(*pins);
		q->pins[q->ask.names_count] = &q->room[q->ask.names_count];
		q->ask.names_count++;
	}
	q->ask.names = q->pins;
	return q;
}

#define PINS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* One name, pinned, and named by what was seen. */
static inline struct question *flow_of(const char *name, uint16_t port, enum policy_seen seen)
{
	struct question *q = ask_of(NULL, port, PINS(name));

	q->ask.seen = (uint8_t)seen;
	q->name = name_of(name);
	q->ask.name = &q->name;
	return q;
}

static inline struct policy_verdict connect_to(const struct policy *p, const char *addr,
                                               uint16_t port, const char *const *pins)
{
	struct question *q = ask_of(addr, port, pins);
	struct policy_verdict v = policy_connect_verdict(p, &q->ask);

	free(q);
	return v;
}

static inline struct policy_verdict flow_to(const struct policy *p, const char *name, uint16_t port,
                                            enum policy_seen seen)
{
	struct question *q = flow_of(name, port, seen);
	struct policy_verdict v = policy_flow_verdict(p, &q->ask);

	free(q);
	return v;
}

/* "GET /path?query" over TLS on 443. */
static inline struct policy_verdict request_to(const struct policy *p, const char *name,
                                               const char *method, const char *path,
                                               const char *query)
{
	struct question *q = flow_of(name, 443, POLICY_SEEN_TLS);
	struct policy_verdict v;

	q->ask.method = span_str(method);
	q->ask.path = span_str(path);
	q->ask.query = span_str(query);
	v = policy_request_verdict(p, &q->ask);
	free(q);
	return v;
}

#define CHECK_ALLOWS(v_) CHECK_STR(policy_reason_word((v_).reason), "allowed")
#define CHECK_DENIES(v_, reason_)                                                                  \
	do {                                                                                       \
		struct policy_verdict got_ = (v_);                                                 \
		CHECK_STR(policy_reason_word(got_.reason), reason_);                               \
		CHECK_EQ(got_.act, POLICY_DENY);                                                   \
	} while (0)
