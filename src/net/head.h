/*
 * head: frames towards the guest: prefix, Ethernet and IP header from a template.
 *
 * A template is made once for a flow; a frame then costs one copy of it, a length and the rest of
 * the IPv4 header's checksum. TTL and hop limit are 64. IPv4's identification is 0 with DF set:
 * an atomic datagram needs none (RFC 6864, 4.1).
 */
#pragma once

#include "net/net.h"

struct net_head {
	uint8_t at[NET_HEAD_MAX]; /* lengths and checksum are 0 */
	uint8_t bytes;            /* with the prefix */
	uint8_t family;
	uint32_t ip_sum;     /* IPv4: of the header so far */
	uint32_t pseudo_sum; /* of addresses and protocol, for the transport's checksum */
};

enum {
	NET_PROTO_ICMP = 1,
	NET_PROTO_TCP = 6,
	NET_PROTO_UDP = 17,
	NET_PROTO_ICMP6 = 58,
	NET_TYPE_IP4 = 0x0800,
	NET_TYPE_ARP = 0x0806,
	NET_TYPE_IP6 = 0x86dd,
};

/* src and dst are of one family. */
void net_head_init(struct net_head *h, const struct net_mac *src_mac, const struct net_mac *dst_mac,
                   const struct net_addr *src, const struct net_addr *dst, uint8_t proto);

/* Writes prefix and headers in front of l4_bytes; `at` has NET_HEAD_MAX bytes. Returns h->bytes. */
size_t net_head_put(const struct net_head *h, uint8_t *at, size_t l4_bytes);

/* The sum of the pseudo header for l4_bytes. */
uint64_t net_head_sum(const struct net_head *h, size_t l4_bytes);

/* The longest transport header and payload that fit the MTU. */
static inline size_t net_head_room(const struct net_head *h)
{
	return NET_MTU - (h->family == 6 ? NET_IP6_BYTES : NET_IP4_BYTES);
}

/* Prefix and Ethernet header alone, for ARP. Returns the bytes written. */
size_t net_head_put_eth(uint8_t *at, const struct net_mac *src, const struct net_mac *dst,
                        uint16_t type, size_t payload_bytes);

static inline void put_be16(uint8_t *at, uint16_t v)
{
	at[0] = (uint8_t)(v >> 8);
	at[1] = (uint8_t)v;
}

static inline void put_be32(uint8_t *at, uint32_t v)
{
	put_be16(at, (uint16_t)(v >> 16));
	put_be16(at + 2, (uint16_t)v);
}

/* Stores a finished checksum, which is memory and not a number. */
static inline void put_sum(uint8_t *at, uint16_t sum)
{
	memcpy(at, &sum, sizeof(sum));
}
