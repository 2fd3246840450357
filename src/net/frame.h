/*
 * frame: the frames on the guest's socket and the headers in them. Pure.
 *
 * Hostile   every byte: the guest writes raw frames
 * Shape     length (be32) | Ethernet header | ARP, or IPv4 or IPv6 | TCP, UDP or ICMP
 * Errors    each parser answers NET_OK or why the frame is dropped, and writes only on NET_OK.
 *           Spans returned lie within the input.
 * Source    RFC 826 (ARP), 791 (IPv4), 8200 (IPv6), 792, 4443, 4861 (ICMP, ND), 768 (UDP)
 *
 * IPv4 fragments are refused and not put together: the MTU is 65520 both ways, TCP never makes
 * them, and no datagram longer than NET_UDP_DATA_MAX has a receiver here. So there is no table of
 * pieces to fill. IPv4 options and IPv6 extension headers are refused as well: what they ask for
 * (routes, alerts) nobody here does, and an honest guest's TCP and UDP carry none.
 */
#pragma once

#include "base/span.h"
#include "net/head.h"
#include "net/net.h"

/*
 * Takes one frame off the front of the stream.
 * Returns 0; -EAGAIN: more bytes are needed; -EBADMSG: a length no frame has, the stream is lost
 */
_must_ int frame_parse(struct span *in, struct span *ret_frame);

struct eth {
	struct net_mac dst;
	struct net_mac src;
	uint16_t type;
	struct span payload;
};

/* NET_RUNT, NET_GIANT, NET_VLAN. */
_must_ enum net_drop eth_parse(struct span frame, struct eth *ret);

enum { ARP_REQUEST = 1, ARP_REPLY = 2, ARP_BYTES = 28 };

struct arp {
	uint16_t op;
	struct net_mac sender_mac;
	struct net_addr sender;
	struct net_mac target_mac;
	struct net_addr target;
};

/* ARP for IPv4 over Ethernet. NET_RUNT, NET_MALFORMED. */
_must_ enum net_drop arp_parse(struct span in, struct arp *ret);

struct ip {
	struct net_addr src;
	struct net_addr dst;
	uint8_t proto;
	uint8_t hops;
	struct span whole;   /* header and payload, without padding behind them */
	struct span payload; /* what the header says is there, no more */
};

/* NET_RUNT, NET_MALFORMED, NET_CHECKSUM, NET_IP_OPTIONS, NET_FRAGMENT. */
_must_ enum net_drop ip4_parse(struct span in, struct ip *ret);

/* NET_RUNT, NET_MALFORMED, NET_EXTENSION, NET_FRAGMENT. */
_must_ enum net_drop ip6_parse(struct span in, struct ip *ret);

enum {
	ICMP_ECHO_REPLY = 0,
	ICMP_UNREACHABLE = 3,
	ICMP_ECHO = 8,
	ICMP_CODE_PROTOCOL = 2,
	ICMP_CODE_PORT = 3,
	ICMP_CODE_PROHIBITED = 13, /* RFC 1812, 5.2.7.1 */
	ICMP6_UNREACHABLE = 1,
	ICMP6_PARAMETER = 4, /* code 1: a next header nobody knows */
	ICMP6_ECHO = 128,
	ICMP6_ECHO_REPLY = 129,
	ICMP6_ROUTER_SOLICIT = 133,
	ICMP6_ROUTER_ADVERT = 134,
	ICMP6_SOLICIT = 135,
	ICMP6_ADVERT = 136,
	ICMP6_REDIRECT = 137,
	ICMP6_CODE_PROHIBITED = 1,
	ICMP6_CODE_PORT = 4,
};

struct icmp {
	uint8_t type;
	uint8_t code;
	uint8_t rest[4];  /* an echo's identifier and sequence */
	struct span body; /* behind the 8 bytes of header */
};

/* ICMP or ICMPv6 by the packet's family; the checksum is right. NET_RUNT, NET_CHECKSUM. */
_must_ enum net_drop icmp_parse(const struct ip *ip, struct icmp *ret);

/*
 * The address a neighbour solicitation or advertisement (icmp of that type, out of ip) is about.
 * Demands what RFC 4861, 7.1 does: hop limit 255, code 0, options of whole length, no group as
 * target. NET_RUNT, NET_MALFORMED.
 */
_must_ enum net_drop icmp_parse_nd(const struct ip *ip, const struct icmp *icmp,
                                   struct net_addr *ret_target);

struct udp {
	uint16_t src_port;
	uint16_t dst_port;
	struct span data;
};

/* The checksum is right, or absent with IPv4; no port is 0. NET_RUNT, _MALFORMED, _CHECKSUM. */
_must_ enum net_drop udp_parse(const struct ip *ip, struct udp *ret);

/* Is the packet's transport checksum right? For protocols whose checksum covers addresses. */
bool ip_parse_sum_right(const struct ip *ip);
