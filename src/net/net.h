/*
 * net: addresses, reasons for dropping, and where frames go: what all of src/net shares.
 */
#pragma once

#include "net/limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

struct net_mac {
	uint8_t at[6];
};

/* An IPv4 or IPv6 address. Unused bytes are 0, so that two may be compared as memory. */
struct net_addr {
	uint8_t family; /* 4 or 6; 0: none */
	uint8_t at[16]; /* network order; IPv4 in the first four */
};

static inline struct net_addr net_addr4(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
	return (struct net_addr){ .family = 4, .at = { a, b, c, d } };
}

/* From 16 bytes in network order. */
static inline struct net_addr net_addr6(const uint8_t *at)
{
	struct net_addr a = { .family = 6 };

	memcpy(a.at, at, sizeof(a.at));
	return a;
}

static inline bool net_addr_equal(struct net_addr a, struct net_addr b)
{
	return a.family == b.family && memcmp(a.at, b.at, sizeof(a.at)) == 0;
}

static inline bool net_mac_equal(struct net_mac a, struct net_mac b)
{
	return memcmp(a.at, b.at, sizeof(a.at)) == 0;
}

/* The four parts that name a flow. `remote` is the host the guest talks to: the gate plays it. */
struct net_tuple {
	struct net_addr guest;
	struct net_addr remote;
	uint16_t guest_port;
	uint16_t remote_port;
};

static inline bool net_tuple_equal(const struct net_tuple *a, const struct net_tuple *b)
{
	return a->guest_port == b->guest_port && a->remote_port == b->remote_port &&
	       net_addr_equal(a->guest, b->guest) && net_addr_equal(a->remote, b->remote);
}

/* Why a frame of the guest went no further. Each has a count in net_link, and a word. */
enum net_drop {
	NET_OK = 0,
	NET_RUNT,            /* shorter than its headers say or need */
	NET_GIANT,           /* longer than NET_FRAME_MAX */
	NET_VLAN,            /* tagged: 802.1Q, 802.1ad */
	NET_ETHERTYPE,       /* neither IPv4, IPv6 nor ARP */
	NET_NOT_FOR_ROUTER,  /* to a MAC nobody has */
	NET_SPOOFED_MAC,     /* from another MAC than the guest's */
	NET_SPOOFED_ADDRESS, /* from another address than the guest's */
	NET_MALFORMED,       /* lengths, versions or flags that contradict each other */
	NET_CHECKSUM,
	NET_IP_OPTIONS, /* IPv4 options */
	NET_EXTENSION,  /* IPv6 extension headers */
	NET_FRAGMENT,
	NET_MULTICAST,  /* to a group or to all: mDNS, DHCP, MLD, router solicitations */
	NET_V6_OFF,     /* IPv6, where the sandbox has none */
	NET_CLAIM,      /* ARP or ND that claims an address or a router's role */
	NET_ARP_OTHER,  /* ARP about another address than the router's */
	NET_ND_OTHER,   /* neighbour discovery about another address */
	NET_ICMP_OTHER, /* an echo to another than the router, or no echo */
	NET_PROTOCOL,   /* neither TCP, UDP nor ICMP */
	NET_NO_ROOM,    /* the guest's socket was full: our answer was given up */
	NET_ERROR_RATE, /* an ICMP error beyond NET_ICMP_ERRORS_PER_S, given up */
	NET_DROP_COUNT,
};

/* The stable word of a reason, "spoofed-mac"; "unknown" for what is none. */
const char *net_drop_word(enum net_drop why);

/*
 * Where frames for the guest go. iov[0] begins with the length of the frame (the framing of
 * docs/internals/virtio-net.md), so the pieces are written to the guest's socket as they are.
 * They are valid during the call only.
 *
 * iov     1 to NET_FRAME_IOVS pieces, `bytes` long together with the prefix
 * Returns true: taken, all of it. false: no room now, nothing of it is kept; see tcp_resume()
 */
struct net_out {
	bool (*emit)(void *ctx, const struct iovec *iov, unsigned count, size_t bytes);
	void *ctx;
};
