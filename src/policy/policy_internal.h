/*
 * policy_internal: a loaded policy, as load.c builds it and eval.c reads it.
 */
#pragma once

#include "policy/policy.h"
#include "policy/tlv.h"

/* A rule without what only requests need: that stays packed. */
struct loaded_rule {
	uint8_t kind, flags, proto;
	uint8_t ports_count, http_count;
	struct rule_ports ports[POLICY_PORTS_MAX];
	struct span http; /* packed */
	struct span origin;
	struct host_pattern host;
	struct policy_cidr net;
};

/* One host pattern of a rule or of a secret. */
struct entry {
	const struct host_pattern *pattern;
	uint64_t hash; /* of the base */
	uint32_t next; /* entry + 1 in the same bucket, 0: none; in the order of the file */
	uint16_t index;
	bool secret;
};

struct policy {
	uint8_t *tlv; /* what all spans point into */
	uint64_t generation;
	uint8_t digest[TLV_DIGEST_BYTES];
	bool default_allow;
	struct policy_limits limits;
	struct loaded_rule *rules;
	unsigned rules_count;
	uint16_t *address_rules; /* their indices */
	unsigned address_rules_count;
	unsigned name_allows; /* host rules that allow */
	struct policy_secret *secrets;
	unsigned secrets_count;
	struct policy_workspace *workspace; /* NULL: it says nothing of one */
	struct entry *entries;
	uint32_t *buckets; /* entry + 1, 0: none */
	uint32_t buckets_mask;
};

static inline uint64_t policy_hash_step(uint64_t h, uint8_t c)
{
	return (h ^ c) * 0x100000001b3u; /* FNV-1a; names are never inserted by a guest */
}

static inline uint64_t policy_hash_start(void)
{
	return 0xcbf29ce484222325u;
}
