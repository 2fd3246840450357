/*
 * frames: frames as a guest writes them, for tests. Checksums are made byte by byte, so that the
 * code under test does not prove itself. Frames here have no length in front.
 */
#pragma once

#include "net/link.h"

#include <assert.h>

enum { FRAME_IP_AT = NET_ETH_BYTES };

static inline uint32_t slow_sum(const uint8_t *at, size_t len, uint32_t sum)
{
	for (size_t i = 0; i < len; i++) {
		sum += (uint32_t)at[i] << (i % 2 ? 0 : 8);
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return sum;
}

static inline size_t frame_eth(uint8_t *at, uint16_t type)
{
	struct net_link_config c = net_link_config_usual(true);

	memcpy(at, c.router_mac.at, 6);
	memcpy(at + 6, c.guest_mac.at, 6);
	put_be16(at + 12, type);
	return NET_ETH_BYTES;
}

/* Makes an IPv4 header's checksum right again, after a test changed the header. */
static inline void frame_fix_ip4(uint8_t *frame)
{
	uint8_t *ip = frame + FRAME_IP_AT;

	put_be16(ip + 10, 0);
	put_be16(ip + 10, (uint16_t)~slow_sum(ip, (size_t)(ip[0] & 15) * 4, 0));
}

static inline uint32_t frame_pseudo(const struct net_addr *src, const struct net_addr *dst,
                                    uint8_t proto, size_t bytes)
{
	size_t n = src->family == 6 ? 16 : 4;
	uint32_t sum = slow_sum(src->at, n, 0);

	sum = slow_sum(dst->at, n, sum) + proto + (uint32_t)bytes;
	return sum;
}

/* Ethernet, IP, and l4 as it is. Returns the bytes of the frame. */
static inline size_t frame_ip(uint8_t *at, const struct net_addr *src, const struct net_addr *dst,
                              uint8_t proto, struct span l4)
{
	uint8_t *ip = at + FRAME_IP_AT;
	size_t head = src->family == 6 ? NET_IP6_BYTES : NET_IP4_BYTES;

	(void)frame_eth(at, src->family == 6 ? NET_TYPE_IP6 : NET_TYPE_IP4);
	memset(ip, 0, head);
	if (src->family == 6) {
		ip[0] = 0x60;
		put_be16(ip + 4, (uint16_t)l4.len);
		ip[6] = proto;
		ip[7] = proto == NET_PROTO_ICMP6 ? 255 : 64;
		memcpy(ip + 8, src->at, 16);
		memcpy(ip + 24, dst->at, 16);
	} else {
		ip[0] = 0x45;
		put_be16(ip + 2, (uint16_t)(head + l4.len));
		ip[8] = 64;
		ip[9] = proto;
		memcpy(ip + 12, src->at, 4);
		memcpy(ip + 16, dst->at, 4);
		frame_fix_ip4(at);
	}
	if (l4.len > 0)
		memmove(ip + head, l4.at, l4.len);
	return FRAME_IP_AT + head + l4.len;
}

/* The same, with the checksum of l4 (its field at sum_at) made. */
static inline size_t frame_l4(uint8_t *at, const struct net_addr *src, const struct net_addr *dst,
                              uint8_t proto, struct span l4, size_t sum_at)
{
	size_t bytes = frame_ip(at, src, dst, proto, l4);
	uint8_t *put = at + bytes - l4.len;
	uint32_t sum = proto == NET_PROTO_ICMP ? 0 : frame_pseudo(src, dst, proto, l4.len);

	assert(sum_at + 2 <= l4.len);
	put_be16(put + sum_at, 0);
	sum = slow_sum(put, l4.len, sum);
	put_be16(put + sum_at, (uint16_t)~sum);
	return bytes;
}

/* From the guest's side of t to its remote side. */
static inline size_t frame_udp(uint8_t *at, const struct net_tuple *t, struct span data)
{
	uint8_t *l4 = at + FRAME_IP_AT + NET_IP6_BYTES; /* moved to its place */

	put_be16(l4, t->guest_port);
	put_be16(l4 + 2, t->remote_port);
	put_be16(l4 + 4, (uint16_t)(NET_UDP_BYTES + data.len));
	put_be16(l4 + 6, 0);
	if (data.len > 0)
		memcpy(l4 + NET_UDP_BYTES, data.at, data.len);
	return frame_l4(at, &t->guest, &t->remote, NET_PROTO_UDP,
	                span_of(l4, NET_UDP_BYTES + data.len), 6);
}

/* s names ports, numbers, flags and data; s->mss and s->has_scale make options. */
static inline size_t frame_tcp(uint8_t *at, const struct net_tuple *t, const struct tcp_segment *s)
{
	uint8_t *l4 = at + FRAME_IP_AT + NET_IP6_BYTES;
	size_t bytes = tcp_segment_put(l4, s);

	if (s->data.len > 0)
		memcpy(l4 + bytes, s->data.at, s->data.len);
	return frame_l4(at, &t->guest, &t->remote, NET_PROTO_TCP, span_of(l4, bytes + s->data.len),
	                TCP_SUM_AT);
}

static inline struct net_tuple frame_tuple(bool six)
{
	struct net_link_config c = net_link_config_usual(true);
	static const uint8_t far6[16] = { 0x20, 0x01, 0x0d, 0xb8, [15] = 9 };
	struct net_tuple t = { .guest = c.guest4, .guest_port = 40000, .remote_port = 443 };

	t.remote = net_addr4(93, 184, 215, 14);
	if (six) {
		t.guest = c.guest6;
		t.remote = net_addr6(far6);
	}
	return t;
}
