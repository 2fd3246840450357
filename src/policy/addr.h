/*
 * addr: IP addresses, and which of them nobody may reach without a rule of its own.
 *
 * Hostile   every address: a guest's SYN, a resolver's answer, a literal in a Host header
 * Shape     16 bytes, network order; IPv4 in its mapped form, ::ffff:a.b.c.d, with v4 set
 * Errors    -EBADMSG
 * Source    the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890, RFC 8190 and the
 *           registrations since), RFC 4291, RFC 6052, RFC 3056, RFC 4380, RFC 5214
 */
#pragma once

#include "base/buf.h"
#include "policy/limits.h"

struct policy_addr {
	bool v4; /* came as IPv4; an IPv4-mapped IPv6 address has it clear */
	uint8_t at[16];
};

struct policy_cidr {
	struct policy_addr base; /* no bit set behind the prefix */
	uint8_t bits;            /* of the prefix: 0 to 32 for IPv4, 0 to 128 for IPv6 */
};

enum addr_class {
	ADDR_PUBLIC,
	ADDR_SPECIAL,    /* refused, unless a rule of the user's names the address */
	ADDR_LINK_LOCAL, /* refused always */
	ADDR_METADATA,   /* refused always: a cloud's credentials */
};

struct addr_verdict {
	enum addr_class class_;
	const char *what; /* "private", "loopback", ...: a static string */
};

/* Four or sixteen bytes in network order. */
struct policy_addr addr_of_v4(const uint8_t at[4]);
struct policy_addr addr_of_v6(const uint8_t at[16]);

/* Strict: dotted decimal without leading zeroes, or RFC 4291 text without zone. */
_must_ int addr_parse(struct span text, struct policy_addr *ret);

/* "10.0.0.0/8", or one address. Bits set behind the prefix are -EBADMSG. */
_must_ int addr_cidr_parse(struct span text, struct policy_cidr *ret);

/*
 * Anything that some reader of URLs takes for an address: also in brackets, with a zone, IPv4 as
 * one to four numbers, each decimal, 0x hexadecimal or 0 octal, with one dot behind. For hosts that
 * are to be names: what this accepts is judged as an address.
 */
_must_ int addr_literal_parse(struct span text, struct policy_addr *ret);

bool addr_equal(const struct policy_addr *a, const struct policy_addr *b);
bool addr_in(const struct policy_addr *a, const struct policy_cidr *net);

void addr_put(struct buf *b, const struct policy_addr *a);
void addr_cidr_put(struct buf *b, const struct policy_cidr *net);

/* What an address is, whatever the policy. Pure. An IPv4 address inside an IPv6 one counts too. */
struct addr_verdict policy_address_verdict(const struct policy_addr *a);

/* Whether a rule may open a range: not if it is all link-local or metadata, nor if it is huge. */
enum cidr_fault { CIDR_OK, CIDR_BROAD, CIDR_NEVER };
enum cidr_fault addr_cidr_judge(const struct policy_cidr *net);
