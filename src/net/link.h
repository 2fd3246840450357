/*
 * link: the guest's Ethernet link as its router sees it.
 *
 * Takes each frame of the guest, drops what is not from the guest's one MAC and address or not for
 * anything we carry, and counts why. Answers ARP, neighbour solicitations and echoes for the router
 * by itself. Gives TCP segments and UDP datagrams to the caller, parsed and with right checksums.
 *
 * Hostile   every byte of a frame
 * Owns      nothing; the struct is the caller's
 * Errors    none: a frame is answered, given on or counted
 */
#pragma once

#include "net/frame.h"
#include "net/tcp_segment.h"

struct net_link_config {
	struct net_mac guest_mac;
	struct net_mac router_mac;
	struct net_addr guest4;
	struct net_addr router4;
	struct net_addr guest6; /* family 0: this sandbox has no IPv6 */
	struct net_addr router6;
};

/* The addresses of every sandbox: 100.96.0.2 and fd62:6572:6d00::2, router .1 and ::1. */
struct net_link_config net_link_config_usual(bool with_ip6);

struct net_link_stats {
	uint64_t frames;
	uint64_t bytes;
	uint64_t answered; /* ARP, ND, echo: by the router */
	uint64_t errors;   /* ICMP errors sent */
	uint64_t dropped[NET_DROP_COUNT];
};

struct net_link {
	struct net_link_config config;
	struct net_out out;
	struct net_link_stats stats;
	uint64_t protocols_told[4]; /* a bit each: the guest was told once that there is no such */
	uint64_t errors_ms;         /* when error_tokens was last made up */
	uint32_t error_tokens;
};

/* A TCP segment or UDP datagram of the guest. Spans lie within the frame. */
struct net_packet {
	uint8_t proto; /* NET_PROTO_TCP or NET_PROTO_UDP */
	struct net_tuple tuple;
	struct ip ip; /* for net_link_refuse() */
	struct tcp_segment tcp;
	struct udp udp;
};

void net_link_init(struct net_link *l, const struct net_link_config *config, struct net_out out);

/*
 * One frame. True: *ret is a segment or datagram to carry, and nothing of it was answered.
 * False: done with it, and *ret is as it was.
 */
_must_ bool net_link_input(struct net_link *l, struct span frame, uint64_t now_ms,
                           struct net_packet *ret);

/*
 * Answers a packet of the guest with "port unreachable", at once, so that its sender need not wait
 * for a time-out. At most NET_ICMP_ERRORS_PER_S.
 */
void net_link_refuse(struct net_link *l, const struct ip *ip, uint64_t now_ms);

/*
 * Sends a datagram to the guest, from t's remote side to its guest side.
 * Returns false, and counts, if the guest's socket has no room or data is longer than fits
 */
bool net_link_send_udp(struct net_link *l, const struct net_tuple *t, struct span data);

/* A template for frames of a flow, from t's remote side to its guest side. */
void net_link_head(const struct net_link *l, const struct net_tuple *t, uint8_t proto,
                   struct net_head *ret);
