/*
 * dns: queries of the guest, and the answers to them. Pure. Upstream answers are read elsewhere.
 *
 * Hostile   every byte of a query
 * Shape     header (12 bytes) | one question | at most one OPT record, and nothing behind it
 * Source    RFC 1035, 4 (messages), 6891 (EDNS0), 2308 (negative answers), 9619 (one question)
 *
 * A query's name holds no compression pointer: nothing stands before it that one could mean. So
 * there is no pointer to follow, and no loop.
 */
#pragma once

#include "base/buf.h"
#include "base/span.h"
#include "net/net.h"

enum dns_type {
	DNS_A = 1,
	DNS_CNAME = 5,
	DNS_SOA = 6,
	DNS_AAAA = 28,
	DNS_OPT = 41,
};

enum dns_rcode {
	DNS_NOERROR = 0,
	DNS_FORMERR = 1,
	DNS_SERVFAIL = 2,
	DNS_NXDOMAIN = 3,
	DNS_NOTIMP = 4,
	DNS_REFUSED = 5,
	DNS_BADVERS = 16,
};

struct dns_query {
	uint16_t id;
	uint8_t opcode;
	bool recursion_wanted;
	uint8_t rcode;        /* not DNS_NOERROR: no query to judge, answer it with this code */
	uint16_t type;        /* any number, not only enum dns_type */
	struct span question; /* as it came, to be given back; empty where there was no good one */
	bool edns;
	uint16_t udp_max; /* bytes an answer over UDP may have */
	bool plain;       /* all labels are of letters, digits, '-' and '_' */
	uint8_t name_len;
	/* lower case, no last dot, NUL-ended; the root is "". Bytes that are not plain: '?' */
	char name[DNS_NAME_MAX + 1];
};

/*
 * A whole message: the data of a datagram, or what dns_parse_tcp() took.
 * Returns 0, also for what is answered with an error (ret->rcode); -EBADMSG: dropped without an
 * answer, because it has no header, is longer than DNS_QUERY_MAX or is an answer itself
 */
_must_ int dns_parse_query(struct span in, struct dns_query *ret);

/*
 * Takes one message with its length off the front of a TCP stream.
 * Returns 0; -EAGAIN: more bytes are needed; -EBADMSG: a length no query has
 */
_must_ int dns_parse_tcp(struct span *in, struct span *ret_message);

struct dns_record {
	uint16_t type; /* DNS_A, DNS_AAAA or DNS_CNAME */
	uint32_t ttl_s;
	struct span owner;  /* a name as text */
	struct net_addr at; /* of A and AAAA */
	struct span target; /* of CNAME: a name as text */
};

struct dns_answer {
	uint8_t rcode;
	const struct dns_record *records; /* at most DNS_RRS_MAX, in the order of the chain */
	size_t count;
	uint32_t negative_ttl_s; /* how long NXDOMAIN and the lack of a type may be remembered */
};

/*
 * Writes the answer to q. With no records and DNS_NOERROR or DNS_NXDOMAIN an SOA of the root says
 * how long to believe it: NODATA, NXDOMAIN.
 *
 * out      not over afterwards; for TCP its message begins with the two bytes of length
 * max      bytes of the message: q->udp_max over UDP, DNS_REPLY_MAX over TCP. Records that do not
 *          fit are left out, all of them, and TC is set
 * Returns  0; -EMSGSIZE: not even header and question fit; -EINVAL: a record that is none, such as
 *          a name with a label over 63 bytes. Then out is as it was
 */
_must_ int dns_put_answer(struct buf *out, const struct dns_query *q, const struct dns_answer *a,
                          size_t max, bool tcp);
