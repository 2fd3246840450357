/*
 * limits: every maximum of src/vault, with its reason.
 */
#pragma once

#include "egress/limits.h"

enum {
	/* names and addresses */
	VAULT_LOOKUPS_MAX = 64,       /* names being asked at once */
	VAULT_WAITERS_MAX = 16,       /* questions that wait for the same name's answer */
	VAULT_RESOLVE_MS = 4500,      /* for all resolvers together: stub resolvers wait 5 s */
	VAULT_RESOLVER_TRY_MS = 1000, /* then the next one is asked */
	VAULT_RESOLVER_TRIES = 2,
	VAULT_RESOLVER_SOCKETS = 64, /* three resolvers, UDP and TCP, and those being closed */
	VAULT_TTL_MIN_S = 5,         /* a name that changes with each answer is no pin */
	VAULT_TTL_MAX_S = 3600,      /* a wrong answer is not for ever */
	VAULT_NEGATIVE_TTL_MAX_S = 60,
	VAULT_PINS_MAX = 4096,          /* names whose addresses are known */
	VAULT_PIN_ADDRESSES_MAX = 64,   /* of one name, from its last answers */
	VAULT_ANSWER_RECORDS_MAX = 128, /* in a DNS message */

	/* connections */
	VAULT_FLOWS_MAX = 12288,  /* passed sockets, each with a duplicate kept here */
	VAULT_DIALS_MAX = 512,    /* connects under way */
	VAULT_CONNECT_MS = 10000, /* TCP's first three SYNs */
	VAULT_FDS_SPARE = 256,    /* below the limit of fds: for upstreams, resolvers and our own */
	VAULT_FDS_WANTED = VAULT_FLOWS_MAX + 4096,

	/* requests */
	VAULT_REQUESTS_MAX = 1024,
	/*
	 * Bytes that all requests and the connections they go over hold: heads, what waits either
	 * way, what a search holds back, decoders, TLS. A thousand calm ones need 130 MiB; each by
	 * itself could have some MiB, one that is coded with br 16 of them.
	 */
	VAULT_HELD_MAX = 192 << 20,
	VAULT_UPSTREAMS_MAX = 1024, /* connections that carry requests, idle ones included */
	VAULT_IDLE_MAX = 64,        /* of them without a request; the oldest goes */
	VAULT_IDLE_HOST_MAX = 8,    /* and to one host */
	VAULT_IDLE_MS = 50000, /* servers give up after 60 s, some after 5 s: that is noticed */
	VAULT_HANDSHAKE_MS = 10000,   /* from the connection to the end of TLS's handshake */
	VAULT_SILENCE_MS = 900000,    /* a model may think for ten minutes before its first byte */
	VAULT_OPAQUE_MS = 3600000,    /* a WebSocket without a byte either way */
	VAULT_SWEEP_MS = 1000,        /* between looks at those times */
	VAULT_READ_BYTES = 64 << 10,  /* from a plain socket at once; with TLS: TLS_IN_BYTES */
	VAULT_GRANT_BYTES = 32 << 10, /* credit is granted in pieces of that size or more */

	/* the supervisor */
	VAULT_RECORDS_MAX = 256,   /* unsent; what comes then is counted */
	VAULT_POLICY_MS = 10000,   /* the gate takes a policy within that time, or is broken */
	VAULT_ROOTS_MAX = 1 << 20, /* bytes of PEM; the host's own file has about 220 KiB */
	VAULT_PACKETS_AT_ONCE = 16,

	/*
	 * Room in the link that only short frames may take: answers, ends, resets. Below it
	 * nothing is read from the gate or from upstreams.
	 */
	VAULT_LINK_RESERVE = 512 << 10,
	VAULT_FRAMES_AT_ONCE = 256, /* read from the gate before others have their turn */
};
