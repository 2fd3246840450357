/*
 * tcp_segment: a TCP header and its options, read and written. Pure.
 *
 * Hostile   every byte
 * Source    RFC 9293, 3.1 and 3.2; RFC 7323, 2.2 (window scale)
 *
 * Of the options only MSS and window scale mean something, and only with SYN. Timestamps, SACK and
 * all others are stepped over: we offer none, so a peer that keeps the rules sends none. The
 * urgent pointer is ignored; urgent bytes stay in the stream (RFC 6093, 6).
 */
#pragma once

#include "net/frame.h"

enum {
	TCP_FIN = 1,
	TCP_SYN = 2,
	TCP_RST = 4,
	TCP_PSH = 8,
	TCP_ACK = 16,
	TCP_URG = 32,
};

struct tcp_segment {
	uint16_t src_port;
	uint16_t dst_port;
	uint32_t seq;
	uint32_t ack; /* means something with TCP_ACK only */
	uint8_t flags;
	uint16_t window; /* not scaled */
	uint16_t mss;    /* 0: not named */
	bool has_scale;
	uint8_t scale; /* at most TCP_SCALE_MAX */
	struct span data;
};

/*
 * The checksum is right, both ports are not 0, and SYN comes neither with FIN nor with RST.
 * NET_RUNT, NET_MALFORMED (also options that do not add up), NET_CHECKSUM.
 */
_must_ enum net_drop tcp_parse(const struct ip *ip, struct tcp_segment *ret);

/*
 * Writes header and, where mss is not 0, the options of a SYN; the checksum's field is 0. Where it
 * stands is TCP_SUM_AT. `at` has TCP_HEAD_BYTES + TCP_SYN_OPTION_BYTES. Returns the bytes written.
 */
enum { TCP_SUM_AT = 16, TCP_SYN_OPTION_BYTES = 8 };
size_t tcp_segment_put(uint8_t *at, const struct tcp_segment *s);
