/*
 * tlv: the compiled policy as bytes, which go from the supervisor to the gate and to the vault.
 *
 * Hostile   the reader trusts nothing: lengths, order, ranges and spelling are judged, and there is
 *           one encoding of each policy, so equal digests mean equal policies
 * Shape     all little endian
 *           header: magic "bpol" | version 16 | zero 16 | generation 64 | body bytes 32 |
 *                   SHA-256 of the body
 *           body:   records DEFAULT, LIMITS, then RULE..., then SECRET..., then WORKSPACE
 *           record: type 16 | bytes 32 | payload
 * Versions  2 has a WORKSPACE record, which is never empty; 1 has none, so what says nothing of
 *           workspaces has the digest it always had, and a saved one is still read
 * Errors    -EBADMSG
 */
#pragma once

#include "policy/rule.h"

enum {
	TLV_VERSION = 1,
	TLV_VERSION_WORKSPACE = 2,
	TLV_DIGEST_BYTES = 32,
	TLV_GENERATION_AT = 4 + 2 + 2, /* outside of the digest: it may be given anew */
	TLV_HEADER_BYTES = 4 + 2 + 2 + 8 + 4 + TLV_DIGEST_BYTES,
	TLV_RECORD_BYTES = 2 + 4,
};

#define TLV_MAGIC 0x6c6f7062u /* "bpol" */

enum tlv_type { TLV_DEFAULT = 1, TLV_LIMITS, TLV_RULE, TLV_SECRET, TLV_WORKSPACE };

struct tlv_header {
	uint16_t version;
	uint64_t generation;
	uint8_t digest[TLV_DIGEST_BYTES];
	struct span body;
};

struct tlv_record {
	uint16_t type; /* enum tlv_type */
	struct span payload;
};

/* The header, which must be followed by exactly its body. */
_must_ int policy_tlv_parse(struct span in, struct tlv_header *ret);

/* The next record of a body; at its end -ENODATA. *in moves on success only. */
_must_ int policy_tlv_parse_record(struct span *in, struct tlv_record *ret);

_must_ int policy_tlv_parse_default(struct span payload, bool *ret_allow);
_must_ int policy_tlv_parse_limits(struct span payload, struct policy_limits *ret);

/*
 * Both borrow from payload. They are large, so *ret is room to work in: after a failure its content
 * is nothing. ret_http, which may be NULL, is the packed http
 * entries.
 */
_must_ int policy_tlv_parse_rule(struct span payload, struct policy_rule *ret,
                                 struct span *ret_http);
_must_ int policy_tlv_parse_secret(struct span payload, struct policy_secret *ret);

/* *ret is large as well, and its spans borrow. -EBADMSG also if it says nothing. */
_must_ int policy_tlv_parse_workspace(struct span payload, struct policy_workspace *ret);

/* One http entry off the front of packed ones, which a rule's parser has seen before. */
_must_ int policy_tlv_parse_http(struct span *in, struct rule_http *ret);

/* The writers. A record is whole or the buf is over. */
void tlv_put_header(struct buf *b, const struct tlv_header *h);
void tlv_put_default(struct buf *b, bool allow);
void tlv_put_limits(struct buf *b, const struct policy_limits *l);
void tlv_put_rule(struct buf *b, const struct policy_rule *r);
void tlv_put_secret(struct buf *b, const struct policy_secret *s);
void tlv_put_workspace(struct buf *b, const struct policy_workspace *w);
