/*
 * limits: every maximum of src/net, with its reason. docs/internals/net.md has them as tables.
 */
#pragma once

enum {
	/* The link. The MTU is the guest's card's (docs/internals/virtio-net.md). */
	NET_MTU = 65520,
	NET_ETH_BYTES = 14,
	NET_PREFIX_BYTES = 4,                    /* the length in front of a frame */
	NET_FRAME_MIN = NET_ETH_BYTES,           /* the card sends no shorter one */
	NET_FRAME_MAX = NET_ETH_BYTES + NET_MTU, /* 65534 */
	NET_IP4_BYTES = 20,                      /* options are refused */
	NET_IP6_BYTES = 40,
	NET_UDP_BYTES = 8,
	NET_ICMP_BYTES = 8,
	NET_HEAD_MAX = NET_PREFIX_BYTES + NET_ETH_BYTES + NET_IP6_BYTES,
	NET_FRAME_IOVS = 3,         /* headers, and a ring's bytes in at most two pieces */
	NET_IP6_EXTENSIONS_MAX = 4, /* walked to name what is refused; an honest guest sends none */
	NET_ICMP_QUOTE_MAX = 512,   /* of the refused packet, in an error: RFC 1812, 4.3.2.3 */
	NET_ICMP_ERRORS_PER_S = 100, /* errors beyond that are only counted */
	NET_UDP_DATA_MAX = NET_MTU - NET_IP4_BYTES - NET_UDP_BYTES,

	/* TCP segments */
	TCP_HEAD_BYTES = 20,
	TCP_OPTIONS_MAX = 40,  /* by the format */
	TCP_MSS_DEFAULT = 536, /* a peer that names none: RFC 9293, 3.7.1 */
	TCP_MSS_MIN = 64,      /* a guest that names less only makes its own frames dear */
	TCP_SCALE_MAX = 14,    /* RFC 7323, 2.3 */
	TCP_SCALE = 3,         /* ours: TCP_BLOCK_BYTES >> 3 fits 16 bits */

	/* TCP flows */
	TCP_FLOWS_MAX = 16384,    /* what a table may be asked to hold, at TCP_FLOW_BYTES */
	TCP_FLOW_BYTES_MAX = 416, /* of memory a flow, without rings */
	TCP_HALF_OPEN_MAX = 1024, /* of these not yet established: a SYN flood stays in here */
	TCP_BLOCK_BYTES = 262144, /* of a send or receive ring; 4 of the longest segments */
	TCP_WIDE_BYTES = 1048576, /* of a wide send ring: who comes late finds it full, not empty */
	TCP_BLOCKS_MAX = 4096,    /* rings a table may be asked to have: 1 GiB, 4 if all are wide */
	TCP_READ_IOVS = 3,        /* a ring in two pieces and the segment at hand */
	TCP_WRITE_IOVS = 2,

	/* TCP times. A lossless link with a round trip far below a millisecond. */
	TCP_RTO_FIRST_MS = 1000, /* RFC 6298, 2.1 */
	TCP_RTO_MIN_MS = 200,    /* a busy guest's delayed ACK fits in */
	TCP_RTO_MAX_MS = 10000,
	TCP_RETRIES_MAX = 8,     /* about 40 s without an answer: the guest is gone */
	TCP_SYN_RETRIES_MAX = 5, /* about 30 s */
	TCP_ASKED_MS = 60000,    /* that a SYN may wait for the application's verdict */
	TCP_DELAYED_ACK_MS = 20,
	TCP_CHALLENGE_MS = 250, /* between two answers to empty segments out of the window */
	TCP_TIME_WAIT_MS =
		1000, /* to answer a FIN sent again; no old duplicates live on the link */
	TCP_KEEPALIVE_MS = 600000, /* of silence before the guest is asked whether the flow lives */
	TCP_KEEPALIVE_EVERY_MS = 30000,
	TCP_KEEPALIVE_TRIES = 4,

	/* UDP flows */
	UDP_FLOWS_MAX = 4096, /* what a table may be asked to hold */

	/* DNS */
	DNS_HEAD_BYTES = 12,
	DNS_LABEL_MAX = 63,
	DNS_NAME_WIRE_MAX = 255,
	DNS_NAME_MAX = 253,   /* as text without the last dot */
	DNS_LABELS_MAX = 127, /* 255 bytes hold no more */
	DNS_QUERY_MAX = 512,  /* one question and one OPT; a longer message is no query of ours */
	DNS_UDP_PLAIN_MAX = 512, /* an answer without EDNS: RFC 1035, 4.2.1 */
	DNS_UDP_MAX = 4096,      /* with EDNS, however much is offered */
	DNS_REPLY_MAX = 16384,   /* over TCP */
	DNS_RRS_MAX = 64,        /* records in one answer */
};
