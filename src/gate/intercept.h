/*
 * intercept: one connection of the guest whose requests are read: over TLS, which ends here, or
 * plain HTTP on port 80. Each request is judged, written anew as messages to the vault, and
 * answered with what comes back, or with a refusal that says why.
 *
 *   guest -- bytes --> TLS -> http_conn (server) -> policy -> egress REQUEST --> vault
 *
 * The caller (the gate's loop) has the TCP flow, the link to the vault and the clock. Nothing here
 * touches a descriptor. Bytes and frames come in by calls, and bytes are fetched; frames go out by
 * struct intercept_ops, whose functions may call nothing here.
 *
 * Hostile   every byte of the guest's; and of the vault's what passed egress_parse_frame() and
 *           egress_order_step(), which is the caller's to do
 * Memory    idle: 20 KiB with HTTP/1, 48 KiB with HTTP/2. Busy: up to INTERCEPT_OUT_BYTES of
 *           output, and for each request at most the windows of src/http and src/egress. All
 *           connections together: INTERCEPT_HELD_MAX
 * Errors    none: what fails ends a request or the connection; see intercept_state()
 * Records   allowed, observed or refused: one each request; ended: one each request that was
 *           forwarded. What the vault records itself (see its fail words) is not said again here
 * Source    RFC 9110, RFC 9112, RFC 9113, RFC 8446; docs/internals/gate-tls.md
 */
#pragma once

#include "base/err.h"
#include "egress/egress.h"
#include "gate/ca.h"
#include "policy/policy.h"

enum {
	INTERCEPT_OUT_BYTES = 96 << 10,   /* for the guest, encrypted and not yet taken */
	INTERCEPT_CONNECTIONS_MAX = 2048, /* at once; idle they hold 96 MiB at most */
	/*
	 * Bytes that all connections hold: what is idle, unsent, waiting. Beyond it, of those that
	 * hold no less than their share, the one that has been silent for longest is given up.
	 */
	INTERCEPT_HELD_MAX = 192 << 20,
	INTERCEPT_HANDSHAKE_MS =
		30000,                /* for all of TLS's handshake, with a guest's software CPU */
	INTERCEPT_HEAD_MS = 30000,    /* from a head's first byte to its last: else 408 */
	INTERCEPT_IDLE_MS = 600000,   /* without a request; then it is closed */
	INTERCEPT_UPLOAD_MS = 120000, /* without a byte of a body of a known length: 408 */
	INTERCEPT_STALL_MS = 120000,  /* that the guest takes nothing of what there is for it */
	INTERCEPT_QUIET_MS = 3600 * 1000, /* without a byte in either direction, requests open */
	INTERCEPT_LINGER_MS = 5000,       /* bytes are still read and dropped after our last one */
	INTERCEPT_SMALL = 64, /* bytes of a frame that is to fit always: CREDIT, RESET */
};

struct egress_record; /* egress/control.h */
struct intercepts;    /* what all connections share */
struct intercept;     /* one of them */

/* What the gate's loop does for a connection. `flow` is struct intercept_start's. */
struct intercept_ops {
	/* The policy that holds now, never NULL. */
	const struct policy *(*policy)(void *flow);

	/* Has the sandbox used up the bytes that its policy grants? Then requests are refused. */
	bool (*over)(void *flow);

	/* As the flow was judged: addr, port, transport, names. The rest is filled in here. */
	void (*ask)(void *flow, struct policy_ask *ret);

	/*
	 * A number that nobody had before and that is larger than all before it: of a request, for
	 * its record, its refusal, and as its stream's id if one is opened, which is then done at
	 * once.
	 */
	uint32_t (*number)(void *flow);

	/* Sends it to the supervisor, or counts it as lost. */
	void (*record)(void *flow, const struct egress_record *r);

	/*
	 * Where one frame of up to `bytes` is put by an egress_put function; then send(). NULL: the
	 * link has no room, ask again when intercept_run() is called. For frames over
	 * INTERCEPT_SMALL some of the room is to be kept back, so that the small ones always fit;
	 * that one of those does not means that the vault reads nothing any more, and ends the
	 * gate.
	 */
	struct buf *(*frame)(void *flow, size_t bytes);

	/*
	 * Sends what was put, past egress_order_step(). A REQUEST makes its stream this flow's. 0;
	 * -EMFILE: a REQUEST, and no stream is free: dropped; else the vault is gone: dropped.
	 */
	int (*send)(void *flow);

	/* egress_order_room() of a stream of this flow, EGRESS_FROM_GATE; 0 if it is gone. */
	uint32_t (*room)(void *flow, uint32_t stream);
};

struct intercept_stats {
	uint32_t connections;   /* now */
	uint32_t requests_open; /* now */
	uint64_t held_bytes;    /* now */
	uint64_t handshakes, handshakes_failed;
	uint64_t leaves; /* certificates minted */
	uint64_t requests, refused, bad,
		failed; /* forwarded; by policy; no HTTP; by the upstream */
};

/* ca and ops are borrowed until intercepts_free(). -ENOMEM, -EIO. */
_must_ int intercepts_new(struct ca *ca, const struct intercept_ops *ops, struct intercepts **ret,
                          struct err *e);
void intercepts_free(struct intercepts *all); /* after all connections */
OWN_DEFINE(struct intercepts, intercepts_free)
const struct intercept_stats *intercepts_stats(struct intercepts *all);

struct intercept_start {
	void *flow;
	bool tls;
	/* tls: what hello_parse() found. Else NULL: each request is judged by its own Host */
	const struct host_name *name;
	uint64_t now_ms; /* the clock of all calls here; it never goes back */
	uint64_t real_s; /* since 1970-01-01 UTC, for the certificate */
};

/*
 * The first flight is then given to intercept_recv(), from its first byte on. -ENOMEM, -EIO;
 * -EINVAL: TLS without a name; -EMFILE: there are INTERCEPT_CONNECTIONS_MAX.
 */
_must_ int intercept_new(struct intercepts *all, const struct intercept_start *start,
                         struct intercept **ret, struct err *e);

/* Resets the streams it has open. Nothing more is said to the guest: that is the caller's. */
void intercept_free(struct intercept *c, uint64_t now_ms);

/* --- from the loop. After any of them: intercept_state(), and fetch the output --- */

/* Bytes of the guest: takes off the front of *in what there is use for now; see INTERCEPT_READ. */
void intercept_recv(struct intercept *c, uint64_t now_ms, struct span *in);

/* The guest sends no more, and all it sent was taken. Once. */
void intercept_recv_eof(struct intercept *c, uint64_t now_ms);

/* A frame of the vault's for a stream of this flow, which passed: not those to be dropped. */
void intercept_frame(struct intercept *c, uint64_t now_ms, const struct egress_frame *f);

/* Time has passed, or the link has room again: about once a second, and with INTERCEPT_LINK as soon
 * as there is room. */
void intercept_run(struct intercept *c, uint64_t now_ms);

/* The policy has changed, and the flow itself stays: its open requests are judged again. */
void intercept_reload(struct intercept *c, uint64_t now_ms);

/* ops->over() has become true: requests that are open end, those not yet answered with a 429. */
void intercept_over(struct intercept *c, uint64_t now_ms);

/* --- for the guest --- */

/* Bytes for the guest; empty: none now. Good until the next call. Fetch until it is empty. */
struct span intercept_output(struct intercept *c, uint64_t now_ms);
/* The first n of them are gone. */
void intercept_sent(struct intercept *c, uint64_t now_ms, size_t n);

enum intercept_state {
	INTERCEPT_READ = 1,   /* has use for more bytes; without it they stay where they are */
	INTERCEPT_LINK = 2,   /* waits for room in the link to the vault */
	INTERCEPT_FIN = 4,    /* all is said: tcp_shutdown() once the output is empty */
	INTERCEPT_DONE = 8,   /* nothing is left to do: close the flow and free this */
	INTERCEPT_ABORT = 16, /* tcp_abort() and free this: what was sent is no whole message */
};

unsigned intercept_state(const struct intercept *c);

/* Why it came to INTERCEPT_ABORT, if not by itself: POLICY_LIMIT_MEMORY; else POLICY_OK. */
enum policy_reason intercept_why(const struct intercept *c);
