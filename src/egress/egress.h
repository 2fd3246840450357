/*
 * egress: the messages between berm-gate and berm-vault, over one UNIX stream socket.
 *
 * Hostile   in both directions: the gate reads what the guest sends and the vault what upstreams
 *           send, and each supposes the other to be taken over. A frame is judged by the rule
 *           table from its header alone, its payload is parsed to the last byte, and order.h says
 *           whether it may come now.
 * Shape     12 bytes of header, then the payload. All numbers are little endian.
 *             u16 magic | u8 type | u8 0 | u32 stream | u32 payload_bytes
 * Streams   0 is control. The gate opens the others with RESOLVE, CONNECT or REQUEST and ids that
 *           only grow. Each side ends its half once, and a stream is gone when both have.
 * Credit    BODY costs its length; each half begins with EGRESS_WINDOW_BYTES. The receiver grants
 *           (CREDIT) what it has passed on.
 * Descriptors  a CONNECTED without failure comes with exactly one, attached (SCM_RIGHTS) to the
 *           first byte of its frame; no other frame has any. It is closed if the frame is dropped.
 * Versions  both sides come from one installation; another number in HELLO ends the connection
 */
#pragma once

#include "base/buf.h"
#include "base/span.h"
#include "egress/limits.h"
#include "http/http.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	EGRESS_VERSION = 1,
	EGRESS_MAGIC = 0xb3e9,
	EGRESS_HEADER_BYTES = 12,
	EGRESS_FRAME_MAX = EGRESS_HEADER_BYTES + 4 + EGRESS_POLICY_MAX,
};

enum egress_type {
	/* control, stream 0 */
	EGRESS_HELLO = 1,     /* both, first: u32 version */
	EGRESS_REFUSE = 2,    /* both: str16 why; the sender closes */
	EGRESS_POLICY = 3,    /* vault: u32 generation, then the compiled policy, opaque here */
	EGRESS_POLICY_OK = 4, /* gate: u32 generation; it judges by it from now on */
	EGRESS_STATS = 5,     /* gate: empty */
	EGRESS_STATS_OK = 6,  /* vault: egress_stats */
	/* streams */
	EGRESS_RESOLVE = 16,   /* gate, opens and ends its half: egress_resolve */
	EGRESS_RESOLVED = 17,  /* vault, ends the stream: egress_resolved */
	EGRESS_CONNECT = 18,   /* gate, opens: egress_connect */
	EGRESS_CONNECTED = 19, /* vault: egress_connected; a failure ends its half */
	EGRESS_REQUEST = 20,   /* gate, opens: egress_request */
	EGRESS_RESPONSE = 21,  /* vault: a head; any number of 1xx, then one other */
	EGRESS_BODY = 22,      /* both: bytes */
	EGRESS_TRAILERS = 23,  /* both: fields; then only END */
	EGRESS_END = 24,       /* both: empty; ends the sender's half */
	EGRESS_RESET = 25,  /* both: u8 enum egress_fail; ends it, and what is under way is dropped.
	                        * The other side ends its half as well, if it has not */
	EGRESS_CREDIT = 26, /* both: u32 bytes more that the other may send */
	EGRESS_SCRUBBED = 27,  /* vault: egress_mark; a value was taken out of a reply */
	EGRESS_VIOLATION = 28, /* vault: egress_mark; a placeholder where it may not be */
	EGRESS_REVOKED = 29, /* vault, ends its half: u32 generation of the policy that ended it */
	EGRESS_TYPE_COUNT = 30,
};

enum egress_side { EGRESS_FROM_GATE = 1, EGRESS_FROM_VAULT = 2 };

/* Why something did not happen: egress_fail_word(). */
enum egress_fail {
	EGRESS_OK = 0,
	EGRESS_NO_NAME,      /* the name does not exist */
	EGRESS_NO_ADDRESS,   /* it exists, but has none of these families */
	EGRESS_DNS,          /* no answer, or none of use */
	EGRESS_SPECIAL,      /* an address that no rule opens */
	EGRESS_METADATA,     /* and one that no rule can open */
	EGRESS_NOT_RESOLVED, /* the address is none the vault gave for that name */
	EGRESS_DENIED,       /* the vault's own judgement by the policy */
	EGRESS_PLACEHOLDER,  /* one where it may not be */
	EGRESS_REFUSED,      /* by the upstream */
	EGRESS_UNREACHABLE,
	EGRESS_TIMEOUT,
	EGRESS_CERTIFICATE,
	EGRESS_PROTOCOL, /* the upstream speaks no HTTP that we take */
	EGRESS_CLOSED,   /* it ended in the middle */
	EGRESS_LIMIT,
	EGRESS_REVOKED_BY_POLICY,
	EGRESS_CANCELLED, /* by the guest */
	EGRESS_INTERNAL,
	EGRESS_TOO_LARGE, /* a head that no server would take: with values for placeholders */
	EGRESS_FULL,      /* all requests together hold as much as may be held */
	EGRESS_FAIL_COUNT,
};

struct egress_frame {
	uint8_t type;
	uint32_t stream;
	struct span payload; /* borrowed from the input */
};

enum { EGRESS_IP4 = 4, EGRESS_IP6 = 6 };

struct egress_addr {
	uint8_t family;    /* EGRESS_IP4, EGRESS_IP6 */
	uint8_t bytes[16]; /* IP4: the first four, then zeros */
};

enum { EGRESS_WANT_IP4 = 1, EGRESS_WANT_IP6 = 2 };

struct egress_resolve {
	uint8_t want; /* EGRESS_WANT_*, at least one */
	struct span name;
};

struct egress_resolved {
	uint8_t fail;
	uint32_t ttl_s; /* at most EGRESS_TTL_MAX_S; of a failure: how long it may be remembered */
	uint8_t count;  /* at least one unless it failed */
	struct egress_addr addr[EGRESS_ADDRESSES_MAX];
	uint8_t chain_count; /* CNAMEs followed: the names after the one asked */
	struct span chain[EGRESS_CHAIN_MAX];
};

enum egress_protocol { EGRESS_TCP = 1, EGRESS_TLS = 2, EGRESS_UDP = 3 };

struct egress_connect {
	uint32_t generation; /* of the policy the gate judged by */
	uint32_t rule;       /* its id there */
	struct egress_addr addr;
	uint16_t port; /* not 0 */
	uint8_t protocol;
	struct span name; /* the one it was resolved for; empty under a rule for an address */
};

struct egress_connected {
	uint8_t fail;
};

struct egress_request {
	uint32_t generation;
	uint32_t rule;
	struct egress_addr addr; /* pinned */
	struct http_head head;
};

enum egress_where {
	EGRESS_IN_FIELD = 1,
	EGRESS_IN_PATH = 2,
	EGRESS_IN_QUERY = 3,
	EGRESS_IN_BODY = 4,
	EGRESS_IN_TRAILER = 5,
	EGRESS_IN_OPAQUE = 6, /* after an upgrade */
	EGRESS_WHERE_COUNT = 7,
};

enum egress_form {
	EGRESS_RAW = 1,
	EGRESS_PERCENT = 2,
	EGRESS_BASE64 = 3,
	EGRESS_HEX = 4,
	EGRESS_JSON = 5,
	EGRESS_FORM_COUNT = 6,
};

/* Of a secret's name, never of its value. */
struct egress_mark {
	struct span secret; /* [A-Za-z0-9_.-], EGRESS_NAME_MAX, not empty */
	uint8_t where;
	uint8_t form;
	uint32_t count; /* not 0 */
};

struct egress_stats {
	uint64_t streams; /* open now */
	uint64_t resolves, connects, requests;
	uint64_t reused; /* requests on a connection that was there */
	uint64_t sent_bytes, received_bytes;
	uint64_t scrubbed, violations;
};

/* --- parsing: pure (egress_parse.c, egress_head_parse.c). 0, -EAGAIN or -EBADMSG --- */

/*
 * Takes one whole frame off the front of `in` and judges it by the rules for `from`. Advances `in`
 * only on 0. What is too long for its type is bad as soon as its header is there.
 */
_must_ int egress_parse_frame(struct span *in, enum egress_side from, struct egress_frame *ret);

/* Payloads: every byte used, every number in range. Nothing is written on failure. */
_must_ int egress_parse_u32(struct span payload, uint32_t *ret);     /* HELLO, CREDIT, ... */
_must_ int egress_parse_text(struct span payload, struct span *ret); /* REFUSE */
_must_ int egress_parse_policy(struct span payload, uint32_t *ret_generation, struct span *ret);
_must_ int egress_parse_stats(struct span payload, struct egress_stats *ret);
_must_ int egress_parse_resolve(struct span payload, struct egress_resolve *ret);
_must_ int egress_parse_resolved(struct span payload, struct egress_resolved *ret);
_must_ int egress_parse_connect(struct span payload, struct egress_connect *ret);
_must_ int egress_parse_connected(struct span payload, struct egress_connected *ret);
_must_ int egress_parse_reset(struct span payload, enum egress_fail *ret);
_must_ int egress_parse_mark(struct span payload, struct egress_mark *ret);

/*
 * A head, judged as if it had just been read from a peer: host and path must be canonical, fields
 * in lower case, none of one hop, framing and flags must agree. CONNECT has no place in it.
 * The spans of *ret point into the payload. On failure *ret is in no particular state, for it is
 * large: parse into a scratch head.
 */
_must_ int egress_parse_request(struct span payload, struct egress_request *ret);
_must_ int egress_parse_response(struct span payload, struct http_head *ret);
_must_ int egress_parse_trailers(struct span payload, struct http_trailers *ret);

/* What order.h needs of a REQUEST or RESPONSE, without the rest. */
struct egress_brief {
	uint16_t status;
	uint8_t framing;
	uint32_t flags;
	uint64_t length;
};
_must_ int egress_parse_brief(const struct egress_frame *f, struct egress_brief *ret);

/* --- names, for messages and records (egress_name.c) --- */
const char *egress_type_name(uint8_t type);       /* "REQUEST", ..., "unknown type" */
const char *egress_fail_word(enum egress_fail f); /* "refused", "no-name", ... */

/* --- writing (egress_put.c): appends one whole frame, or marks the buf as over --- */
void egress_put(struct buf *out, uint8_t type, uint32_t stream, struct span payload);
void egress_put_u32(struct buf *out, uint8_t type, uint32_t stream, uint32_t v);
void egress_put_text(struct buf *out, const char *text); /* REFUSE; cut to EGRESS_TEXT_MAX */
void egress_put_policy(struct buf *out, uint32_t generation, struct span policy);
void egress_put_stats(struct buf *out, const struct egress_stats *s);
void egress_put_resolve(struct buf *out, uint32_t stream, const struct egress_resolve *r);
void egress_put_resolved(struct buf *out, uint32_t stream, const struct egress_resolved *r);
void egress_put_connect(struct buf *out, uint32_t stream, const struct egress_connect *c);
void egress_put_connected(struct buf *out, uint32_t stream, const struct egress_connected *c);
void egress_put_request(struct buf *out, uint32_t stream, const struct egress_request *r);
void egress_put_response(struct buf *out, uint32_t stream, const struct http_head *h);
void egress_put_trailers(struct buf *out, uint32_t stream, const struct http_trailers *t);
void egress_put_reset(struct buf *out, uint32_t stream, enum egress_fail why);
void egress_put_mark(struct buf *out, uint8_t type, uint32_t stream, const struct egress_mark *m);
