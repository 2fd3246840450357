/*
 * limits: every maximum of src/gate that is not the intercepting half's, with its reason. What the
 * guest can make the gate hold is the sum of these; docs/internals/gate.md adds it up.
 */
#pragma once

#include "egress/limits.h"
#include "net/limits.h"
#include "policy/limits.h"

enum {
	/* connections */
	GATE_FLOWS_MAX = 12288,    /* TCP at once: 10 000 idle ones, and those that just end */
	GATE_HALF_OPEN_MAX = 1024, /* of them not yet established */
	GATE_PUBLISHED_MAX = 4096, /* of them from outside, which leaves the guest the most */
	GATE_RINGS = 512,          /* 152 MiB if every one is full; idle connections have none */
	GATE_RINGS_WIDE = 32,  /* of them are of 1 MiB, for whoever has bytes for the guest first */
	GATE_RINGS_SPARE = 64, /* left for connections under way before a new one is taken */
	GATE_FDS_OTHER = 64,   /* fds that are no connection's; the rest of the limit is */
	GATE_FIRST_BYTES = 16384,  /* of a first flight, to find the name in it */
	GATE_FIRST_MS = 30000,     /* and how long it may take: Java on a software CPU needs ten */
	GATE_FIRST_MAX = 256,      /* of them at once: each holds a ring */
	GATE_ASKING_MS = 50000,    /* for the vault's answer; it gives up on an upstream earlier */
	GATE_CLOSING_MS = 10000,   /* for the guest to say its end, when all else is said */
	GATE_IDLE_MS = 7200000,    /* without a byte either way; web sockets ping far more often */
	GATE_STALL_MS = 300000,    /* a peer that takes nothing of what waits for it */
	GATE_SWEEP_MS = 5000,      /* between two looks at all connections for that */
	GATE_PUMP_BYTES = 1 << 20, /* of one connection and direction in a turn */
	GATE_THROTTLED_MS = 5,     /* between two looks at what a bandwidth limit holds back */
	GATE_RATE_DEFAULT = 500,   /* new connections a second where the policy says nothing */
	GATE_PORTS_TRIED = 64,     /* of our own, for a published connection */

	/* datagrams */
	GATE_UDP_MAX = 1024, /* flows */
	GATE_UDP_IDLE_MS =
		60000,      /* RFC 4787 asks for more of a NAT; a flow is cheap to make anew */
	GATE_UDP_HELD = 32, /* first datagrams that wait for the vault */
	GATE_UDP_HELD_BYTES = 2048, /* of one; a longer one is lost, as datagrams may be */
	GATE_UDP_READS = 32,        /* datagrams of one flow in a turn */

	/* names */
	GATE_NAMES_MAX = 4096,       /* that are remembered, pinned or used by a connection */
	GATE_PINS_MAX = 16384,       /* addresses of theirs, all together */
	GATE_TTL_MIN_S = 30,         /* what clients that keep no TTL (the JVM) keep at least */
	GATE_TTL_MAX_S = 3600,       /* a day's TTL would outlive the upstream's move */
	GATE_PIN_GRACE_S = 10,       /* from the end of an answer's time to that of its pin */
	GATE_NEGATIVE_MAX_S = 60,    /* RFC 2308 would allow three hours */
	GATE_FAILED_S = 2,           /* upstream trouble; long enough to stop a storm */
	GATE_DNS_RATE_DEFAULT = 100, /* questions a second where the policy says nothing */
	GATE_LOOKUP_RATE = 20,    /* of them such as leave the gate: names are data too (DNS-12) */
	GATE_LOOKUP_BURST = 200,  /* what starts at once: an installation's first minute */
	GATE_ASKED_MAX = 512,     /* questions that wait for the vault */
	GATE_DNS_FLOWS_MAX = 64,  /* TCP connections to port 53 */
	GATE_DNS_IDLE_MS = 10000, /* RFC 7766, 6.2.3: a few seconds */

	/* the turn */
	GATE_EVENTS = 128,           /* of epoll in a turn */
	GATE_CARD_BYTES = 512 << 10, /* read from the card at once; 8 of the longest frames */
	GATE_CARD_READS = 4,         /* in a turn */
	GATE_SCRATCH_BYTES = 65536,  /* one datagram, or one first flight */

	/* records */
	GATE_RECORDS_PER_S = 200, /* beyond it they are counted: nobody shall wash a log away */
	GATE_RECORDS_BURST = 2000,
	GATE_RECENT = 256,     /* refusals that are remembered, not to say the same again */
	GATE_RECENT_MS = 3000, /* a resolver's and a QUIC client's retries */
};
