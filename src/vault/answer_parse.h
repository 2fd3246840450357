/*
 * answer_parse: a resolver's answer, read strictly. Pure.
 *
 * Hostile   every byte: the resolver, and whoever can speak for the name's zone
 * Shape     header (12 bytes) | the question asked | answers | authority | the rest, not looked at
 * Rules     of the answers count only the address records of the name at the end of the chain of
 *           CNAMEs that begins with the name asked; whatever else stands there pins nothing
 * Errors    -EBADMSG: no answer to this question, cut, or a chain that forks, loops or is too long
 * Source    RFC 1035 4 (messages, compression), 3.6.2 (CNAME); RFC 2308 (negative answers)
 */
#pragma once

#include "base/span.h"
#include "egress/limits.h"
#include "policy/addr.h"
#include "policy/host.h"

enum { ANSWER_A = 1, ANSWER_AAAA = 28 }; /* what can be asked */

enum answer_rcode { ANSWER_NOERROR = 0, ANSWER_SERVFAIL = 2, ANSWER_NXDOMAIN = 3 };

struct answer {
	uint8_t rcode;
	uint32_t ttl_s;          /* the least of the chain and the addresses */
	uint32_t negative_ttl_s; /* from the zone's SOA; 0: none was there */
	unsigned count;
	struct policy_addr addr[EGRESS_ADDRESSES_MAX]; /* those over the maximum are left out */
	unsigned chain_count;
	struct host_name chain[EGRESS_CHAIN_MAX]; /* without the name asked */
};

/* type: ANSWER_A or ANSWER_AAAA. The id is the resolver library's to compare. */
_must_ int answer_parse(struct span message, const struct host_name *name, uint16_t type,
                        struct answer *ret);
