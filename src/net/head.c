#include "net/head.h"
#include "net/sum.h"

#include <assert.h>

enum {
	HOPS = 64,
	IP_AT = NET_PREFIX_BYTES + NET_ETH_BYTES,
	IP4_LENGTH_AT = 2,
	IP4_SUM_AT = 10,
	IP6_LENGTH_AT = 4,
	IP4_DONT_FRAGMENT = 0x40,
};

size_t net_head_put_eth(uint8_t *at, const struct net_mac *src, const struct net_mac *dst,
                        uint16_t type, size_t payload_bytes)
{
	put_be32(at, (uint32_t)(NET_ETH_BYTES + payload_bytes));
	memcpy(at + 4, dst->at, sizeof(dst->at));
	memcpy(at + 10, src->at, sizeof(src->at));
	put_be16(at + 16, type);
	return IP_AT;
}

/* The bytes of a number as the checksum sees them: in network order, as memory. */
static uint64_t sum_of_number(uint16_t v)
{
	uint8_t at[2];

	put_be16(at, v);
	return span_sum(span_of(at, sizeof(at)));
}

static void init_ip4(struct net_head *h, const struct net_addr *src, const struct net_addr *dst,
                     uint8_t proto)
{
	uint8_t *ip = h->at + IP_AT;

	ip[0] = 0x45;
	ip[6] = IP4_DONT_FRAGMENT;
	ip[8] = HOPS;
	ip[9] = proto;
	memcpy(ip + 12, src->at, 4);
	memcpy(ip + 16, dst->at, 4);
	h->bytes = IP_AT + NET_IP4_BYTES;
	h->ip_sum = span_sum_fold(span_sum(span_of(ip, NET_IP4_BYTES)));
}

static void init_ip6(struct net_head *h, const struct net_addr *src, const struct net_addr *dst,
                     uint8_t proto)
{
	uint8_t *ip = h->at + IP_AT;

	ip[0] = 0x60;
	ip[6] = proto;
	ip[7] = HOPS;
	if (proto == NET_PROTO_ICMP6)
		ip[7] = 255; /* neighbour discovery demands it (RFC 4861, 7.1.2), echo permits it */
	memcpy(ip + 8, src->at, 16);
	memcpy(ip + 24, dst->at, 16);
	h->bytes = IP_AT + NET_IP6_BYTES;
}

void net_head_init(struct net_head *h, const struct net_mac *src_mac, const struct net_mac *dst_mac,
                   const struct net_addr *src, const struct net_addr *dst, uint8_t proto)
{
	uint64_t sum;

	assert(src->family == dst->family);
	memset(h, 0, sizeof(*h));
	h->family = src->family;
	(void)net_head_put_eth(h->at, src_mac, dst_mac,
	                       src->family == 6 ? NET_TYPE_IP6 : NET_TYPE_IP4, 0);
	if (src->family == 6)
		init_ip6(h, src, dst, proto);
	else
		init_ip4(h, src, dst, proto);
	sum = span_sum(span_of(src->at, sizeof(src->at)));
	sum += span_sum(span_of(dst->at, sizeof(dst->at)));
	sum += sum_of_number(proto);
	h->pseudo_sum = span_sum_fold(sum);
}

size_t net_head_put(const struct net_head *h, uint8_t *at, size_t l4_bytes)
{
	uint8_t *ip = at + IP_AT;
	size_t ip_bytes = h->bytes - IP_AT;

	assert(l4_bytes <= net_head_room(h));
	memcpy(at, h->at, h->bytes);
	put_be32(at, (uint32_t)(NET_ETH_BYTES + ip_bytes + l4_bytes));
	if (h->family == 6) {
		put_be16(ip + IP6_LENGTH_AT, (uint16_t)l4_bytes);
		return h->bytes;
	}
	put_be16(ip + IP4_LENGTH_AT, (uint16_t)(ip_bytes + l4_bytes));
	put_sum(ip + IP4_SUM_AT,
	        span_sum_done(h->ip_sum + sum_of_number((uint16_t)(ip_bytes + l4_bytes))));
	return h->bytes;
}

uint64_t net_head_sum(const struct net_head *h, size_t l4_bytes)
{
	return h->pseudo_sum + sum_of_number((uint16_t)l4_bytes);
}
