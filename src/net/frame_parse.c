#include "net/frame.h"
#include "net/sum.h"

#include <errno.h>

enum {
	TYPE_VLAN = 0x8100,
	TYPE_VLAN_SERVICE = 0x88a8,
	TYPE_VLAN_OLD = 0x9100,
	ARP_HARDWARE_ETHERNET = 1,
	IP4_RESERVED = 0x8000,
	IP4_MORE_FRAGMENTS = 0x2000,
	IP4_OFFSET = 0x1fff,
	PROTO_HOP_BY_HOP = 0,
	PROTO_ROUTING = 43,
	PROTO_FRAGMENT = 44,
	PROTO_AUTHENTICATION = 51,
	PROTO_DESTINATION = 60,
	ND_OPTION_UNIT = 8,
	ND_OPTIONS_MAX = 32,
	ND_HOPS = 255,
};

int frame_parse(struct span *in, struct span *ret_frame)
{
	struct span s = *in;
	struct span frame;
	uint32_t bytes;

	if (!take_be32(&s, &bytes))
		return -EAGAIN;
	if (bytes < NET_FRAME_MIN || bytes > NET_FRAME_MAX)
		return -EBADMSG;
	if (!take_span(&s, bytes, &frame))
		return -EAGAIN;
	*in = s;
	*ret_frame = frame;
	return 0;
}

enum net_drop eth_parse(struct span frame, struct eth *ret)
{
	struct eth got;

	if (frame.len > NET_FRAME_MAX)
		return NET_GIANT;
	if (!take_bytes(&frame, got.dst.at, sizeof(got.dst.at)) ||
	    !take_bytes(&frame, got.src.at, sizeof(got.src.at)) || !take_be16(&frame, &got.type))
		return NET_RUNT;
	if (got.type == TYPE_VLAN || got.type == TYPE_VLAN_SERVICE || got.type == TYPE_VLAN_OLD)
		return NET_VLAN;
	got.payload = frame;
	*ret = got;
	return NET_OK;
}

enum net_drop arp_parse(struct span in, struct arp *ret)
{
	struct arp got = { .sender.family = 4, .target.family = 4 };
	uint16_t hardware;
	uint16_t type;
	uint8_t mac_bytes;
	uint8_t addr_bytes;

	if (!take_be16(&in, &hardware) || !take_be16(&in, &type) || !take_u8(&in, &mac_bytes) ||
	    !take_u8(&in, &addr_bytes) || !take_be16(&in, &got.op) ||
	    !take_bytes(&in, got.sender_mac.at, 6) || !take_bytes(&in, got.sender.at, 4) ||
	    !take_bytes(&in, got.target_mac.at, 6) || !take_bytes(&in, got.target.at, 4))
		return NET_RUNT;
	if (hardware != ARP_HARDWARE_ETHERNET || type != NET_TYPE_IP4 || mac_bytes != 6 ||
	    addr_bytes != 4 || (got.op != ARP_REQUEST && got.op != ARP_REPLY))
		return NET_MALFORMED;
	*ret = got;
	return NET_OK;
}

enum net_drop ip4_parse(struct span in, struct ip *ret)
{
	struct ip got = { .src.family = 4, .dst.family = 4, .whole = in };
	struct span header;
	uint16_t bytes;
	uint16_t id;
	uint16_t fragment;
	uint16_t sum;
	uint8_t version;
	uint8_t service;
	size_t header_bytes;

	if (!take_u8(&in, &version) || !take_u8(&in, &service) || !take_be16(&in, &bytes) ||
	    !take_be16(&in, &id) || !take_be16(&in, &fragment) || !take_u8(&in, &got.hops) ||
	    !take_u8(&in, &got.proto) || !take_be16(&in, &sum) || !take_bytes(&in, got.src.at, 4) ||
	    !take_bytes(&in, got.dst.at, 4))
		return NET_RUNT;
	header_bytes = (size_t)(version & 15) * 4;
	if (version >> 4 != 4 || header_bytes < NET_IP4_BYTES || bytes < header_bytes ||
	    got.hops == 0 || (fragment & IP4_RESERVED))
		return NET_MALFORMED;
	if (bytes > got.whole.len)
		return NET_RUNT;

	got.whole.len = bytes;
	header = span_of(got.whole.at, header_bytes);
	if (span_sum_fold(span_sum(header)) != 0xffff)
		return NET_CHECKSUM;
	if (fragment & (IP4_MORE_FRAGMENTS | IP4_OFFSET))
		return NET_FRAGMENT;
	if (header_bytes != NET_IP4_BYTES)
		return NET_IP_OPTIONS;
	got.payload = span_of(got.whole.at + NET_IP4_BYTES, bytes - (size_t)NET_IP4_BYTES);
	*ret = got;
	return NET_OK;
}

static bool is_extension(uint8_t proto)
{
	return proto == PROTO_HOP_BY_HOP || proto == PROTO_ROUTING || proto == PROTO_DESTINATION ||
	       proto == PROTO_AUTHENTICATION || proto == PROTO_FRAGMENT;
}

/* Which count a packet with extension headers gets: is there a fragment among the first few? */
static enum net_drop judge_extensions(struct span in, uint8_t proto)
{
	for (int n = 0; n < NET_IP6_EXTENSIONS_MAX && is_extension(proto); n++) {
		struct span rest;
		uint8_t next;
		uint8_t units;
		size_t bytes;

		if (proto == PROTO_FRAGMENT)
			return NET_FRAGMENT;
		if (!take_u8(&in, &next) || !take_u8(&in, &units))
			return NET_RUNT;
		bytes = proto == PROTO_AUTHENTICATION ? ((size_t)units + 2) * 4
		                                      : ((size_t)units + 1) * 8;
		if (bytes < 8 || !take_span(&in, bytes - 2, &rest))
			return NET_RUNT;
		proto = next;
	}
	return NET_EXTENSION;
}

enum net_drop ip6_parse(struct span in, struct ip *ret)
{
	struct ip got = { .src.family = 6, .dst.family = 6, .whole = in };
	uint32_t version;
	uint16_t bytes;

	if (!take_be32(&in, &version) || !take_be16(&in, &bytes) || !take_u8(&in, &got.proto) ||
	    !take_u8(&in, &got.hops) || !take_bytes(&in, got.src.at, 16) ||
	    !take_bytes(&in, got.dst.at, 16))
		return NET_RUNT;
	if (version >> 28 != 6 || got.hops == 0)
		return NET_MALFORMED;
	if (!take_span(&in, bytes, &got.payload))
		return NET_RUNT;
	got.whole.len = NET_IP6_BYTES + (size_t)bytes;
	if (is_extension(got.proto))
		return judge_extensions(got.payload, got.proto);
	*ret = got;
	return NET_OK;
}

bool ip_parse_sum_right(const struct ip *ip)
{
	uint8_t tail[4] = { 0, ip->proto, (uint8_t)(ip->payload.len >> 8),
		            (uint8_t)ip->payload.len };
	uint64_t sum = span_sum(ip->payload) + span_sum(span_of(tail, sizeof(tail)));

	sum += span_sum(span_of(ip->src.at, sizeof(ip->src.at)));
	sum += span_sum(span_of(ip->dst.at, sizeof(ip->dst.at)));
	return span_sum_fold(sum) == 0xffff;
}

enum net_drop icmp_parse(const struct ip *ip, struct icmp *ret)
{
	struct span in = ip->payload;
	struct icmp got;
	uint16_t sum;

	if (!take_u8(&in, &got.type) || !take_u8(&in, &got.code) || !take_be16(&in, &sum) ||
	    !take_bytes(&in, got.rest, sizeof(got.rest)))
		return NET_RUNT;
	if (ip->src.family == 6 ? !ip_parse_sum_right(ip)
	                        : span_sum_fold(span_sum(ip->payload)) != 0xffff)
		return NET_CHECKSUM;
	got.body = in;
	*ret = got;
	return NET_OK;
}

enum net_drop icmp_parse_nd(const struct ip *ip, const struct icmp *icmp,
                            struct net_addr *ret_target)
{
	struct net_addr target = { .family = 6 };
	struct span in = icmp->body;

	if (!take_bytes(&in, target.at, sizeof(target.at)))
		return NET_RUNT;
	if (ip->hops != ND_HOPS || icmp->code != 0 || target.at[0] == 0xff)
		return NET_MALFORMED;
	for (int n = 0; n < ND_OPTIONS_MAX && in.len > 0; n++) {
		struct span rest;
		uint8_t type;
		uint8_t units;

		if (!take_u8(&in, &type) || !take_u8(&in, &units) || units == 0 ||
		    !take_span(&in, (size_t)units * ND_OPTION_UNIT - 2, &rest))
			return NET_MALFORMED;
	}
	if (in.len > 0)
		return NET_MALFORMED;
	*ret_target = target;
	return NET_OK;
}

enum net_drop udp_parse(const struct ip *ip, struct udp *ret)
{
	struct span in = ip->payload;
	struct udp got;
	uint16_t bytes;
	uint16_t sum;

	if (!take_be16(&in, &got.src_port) || !take_be16(&in, &got.dst_port) ||
	    !take_be16(&in, &bytes) || !take_be16(&in, &sum))
		return NET_RUNT;
	/* the two lengths must agree: a gap between them is a place to hide bytes in */
	if (bytes != ip->payload.len || got.src_port == 0 || got.dst_port == 0)
		return NET_MALFORMED;
	if (sum == 0 ? ip->src.family == 6 : !ip_parse_sum_right(ip))
		return NET_CHECKSUM;
	got.data = in;
	*ret = got;
	return NET_OK;
}
