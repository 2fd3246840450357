/*
 * control: what a supervisor and its two companions, berm-gate and berm-vault, say to each other
 * on their file 3 (lib/companion.h), a SOCK_SEQPACKET; and what a command asks a supervisor about
 * the network of its sandbox (lib/egress_plan.h, lib/egress_ask.h), in the same words.
 *
 * Hostile   what a companion says: it reads hostile bytes. A packet is judged by the table of
 *           kinds, its payload is parsed to the last byte, and a kind carries a descriptor or it
 *           does not
 * Shape     u8 version | u8 kind | u16 0 | payload; CONTROL_PACKET_MAX bytes at most. Little
 *           endian; str16 is a u16 length and the bytes
 * Serials   a request's serial comes back in its answer; one request has one answer, but for
 *           IMPORT (see there). Generations are the policy's
 * Faults    a packet that breaks this ends the companion (seen by the supervisor) or the process
 *           (seen by a companion)
 */
#pragma once

#include "base/buf.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	CONTROL_VERSION = 1,
	CONTROL_HEADER_BYTES = 4,
	CONTROL_PACKET_MAX = 4096,
	CONTROL_PEM_MAX = CONTROL_PACKET_MAX - CONTROL_HEADER_BYTES - 4,
	CONTROL_WHY_MAX = 1024,         /* bytes of a sentence */
	CONTROL_SECRET_NAME_MAX = 64,   /* as POLICY_SECRET_NAME_MAX */
	CONTROL_SECRET_BYTES = 16384,   /* of a value; at least one */
	CONTROL_SECRETS_MAX = 64,       /* as POLICY_SECRETS_MAX */
	CONTROL_PLACEHOLDER_MAX = 2048, /* it stands in every command's environment */
	CONTROL_ROOTS_BYTES = 1 << 20,  /* of PEM */
	CONTROL_STATS_MAX = 64,
	CONTROL_STAT_NAME_MAX = 32,
	CONTROL_HOST_MAX = 253,
	CONTROL_METHOD_MAX = 32,
	CONTROL_PATH_MAX = 1024,
	CONTROL_REASON_MAX = 63, /* room for more than enum policy_reason has */
};

/*
 * READY       both: struct control_ready
 * POLICY      supervisor: u32 generation; fd: sealed memfd with the compiled policy
 * POLICY_OK   vault: u32 generation; vault and gate judge by it from now on
 * POLICY_BAD  vault: struct control_text with the generation; nothing has changed
 * SECRET      supervisor: u32 serial, str16 name; fd: memfd or pipe with the value, read to its
 *             end. A name may be given a value anew
 * SECRET_OK   vault: u32 serial, str16 name, str16 placeholder
 * SECRET_BAD  vault: struct control_text with the serial
 * SECRET_RM   supervisor: u32 serial, str16 name. SECRET_OK without placeholder, or SECRET_BAD
 * STATS       supervisor: u32 serial
 * STATS_OK    both: struct control_stats
 * RECORD      both: struct egress_record
 * ACCEPTED    supervisor: struct control_accepted; fd: the TCP connection
 * ROOTS       supervisor: u32 serial; fd: memfd with PEM, trusted upstream beside the host's.
 *             SECRET_OK of an empty name, or SECRET_BAD
 * EXPORT      supervisor: u32 serial; fd: a SOCK_SEQPACKET. The vault writes there, without
 *             waiting, a SECRET (serial 0, as a supervisor's) with a sealed memfd for each value
 *             it has, and closes it. SECRET_OK of an empty name, or SECRET_BAD
 * IMPORT      supervisor: u32 serial; fd: the other end of one whose EXPORT was answered, read to
 *             its end. A SECRET_OK (of this serial, with a new placeholder) for each name, then
 *             one of an empty name; or SECRET_BAD
 * REST        supervisor: u32 1: the guest stands still from about now on; 0: it goes on. Nobody
 *             is late meanwhile. No answer
 * LISTEN      command: struct control_accepted, with the address listened on; fd: the socket
 *
 * A command's POLICY has the generation that it takes to be in force, or 0 for any; POLICY_OK has
 * the new one, POLICY_BAD the one that stays. ROOTS, IMPORT and LISTEN it may send at a start only.
 */
enum control_kind {
	CONTROL_READY = 1,
	CONTROL_POLICY = 2,
	CONTROL_POLICY_OK = 3,
	CONTROL_POLICY_BAD = 4,
	CONTROL_SECRET = 5,
	CONTROL_SECRET_OK = 6,
	CONTROL_SECRET_BAD = 7,
	CONTROL_SECRET_RM = 8,
	CONTROL_STATS = 9,
	CONTROL_STATS_OK = 10,
	CONTROL_RECORD = 11,
	CONTROL_ACCEPTED = 12,
	CONTROL_ROOTS = 13,
	CONTROL_EXPORT = 14,
	CONTROL_IMPORT = 15,
	CONTROL_LISTEN = 16,
	CONTROL_REST = 17,
	CONTROL_KIND_COUNT = 18,
};

enum control_side {
	CONTROL_FROM_SUPERVISOR = 1,
	CONTROL_FROM_GATE = 2,
	CONTROL_FROM_VAULT = 4,
	CONTROL_FROM_COMMAND = 8, /* answered in the vault's words */
};

struct control_packet {
	uint8_t kind;
	struct span payload; /* borrowed from the packet */
};

struct control_ready {
	uint32_t name_hash; /* 0 without a certificate */
	struct span pem;    /* empty: none; judge it by wire_parse_cert() */
};

struct control_text {
	uint32_t number; /* serial or generation */
	struct span why; /* CONTROL_WHY_MAX; not empty */
};

struct control_secret {
	uint32_t serial;
	struct span name;        /* empty only in a SECRET_OK */
	struct span placeholder; /* of SECRET_OK; printable ASCII without blanks */
};

struct control_stat {
	struct span name; /* [a-z0-9_], 1 to CONTROL_STAT_NAME_MAX bytes */
	uint64_t value;
};

struct control_stats {
	uint32_t serial;
	uint16_t count;
	struct control_stat item[CONTROL_STATS_MAX];
};

struct control_accepted {
	uint16_t guest_port; /* not 0 */
	uint8_t family;      /* 4 or 6 */
	uint8_t addr[16];    /* of the peer; of family 4 the first four, then zeros */
	uint16_t port;       /* of the peer */
};

enum egress_event {
	EGRESS_EVENT_ALLOWED = 1,
	EGRESS_EVENT_REFUSED = 2,
	EGRESS_EVENT_OBSERVED = 3,
	EGRESS_EVENT_ENDED = 4,
	EGRESS_EVENT_VIOLATION = 5,
	EGRESS_EVENT_SCRUBBED = 6,
	EGRESS_EVENT_LOST = 7, /* `count` records for which there was no room */
	EGRESS_EVENT_COUNT = 8,
};

enum egress_layer {
	EGRESS_LAYER_DNS = 1,
	EGRESS_LAYER_TCP = 2,
	EGRESS_LAYER_UDP = 3,
	EGRESS_LAYER_TLS = 4,
	EGRESS_LAYER_HTTP = 5,
	EGRESS_LAYER_COUNT = 6,
};

enum egress_record_flag {
	EGRESS_RECORD_INSPECTED = 1,
	EGRESS_RECORD_PIN_ONLY = 2,
	EGRESS_RECORD_KILL = 4, /* the policy says that this ends the sandbox */
	EGRESS_RECORD_FLAGS = 7,
};

/*
 * One thing that happened. The sender never waits for room: what it cannot send it counts, and says
 * `lost` with the count as soon as there is room again.
 */
struct egress_record {
	uint8_t event;       /* enum egress_event */
	uint8_t layer;       /* enum egress_layer; of LOST any */
	uint8_t reason;      /* enum policy_reason, CONTROL_REASON_MAX at most */
	uint8_t flags;       /* enum egress_record_flag */
	uint32_t generation; /* of the policy that judged */
	uint16_t rule;       /* as in struct policy_verdict */
	uint16_t port;
	uint16_t status; /* of HTTP; 0: none */
	uint8_t family;  /* 0: no address, 4, 6 */
	uint8_t addr[16];
	uint64_t flow; /* number of the connection or request, of the process that says it */
	uint64_t bytes_up, bytes_down;
	uint32_t ms;
	uint32_t count;     /* of lost records, of marks */
	struct span host;   /* CONTROL_HOST_MAX */
	struct span method; /* CONTROL_METHOD_MAX */
	struct span path;   /* CONTROL_PATH_MAX; canonical, WITHOUT its query */
	struct span secret; /* CONTROL_SECRET_NAME_MAX; the name */
};

/* Does a packet of this kind come with exactly one descriptor? Else it has none. */
bool control_carries_fd(uint8_t kind);
const char *control_kind_name(uint8_t kind); /* "READY", ...; "unknown kind" */

/* --- parsing: pure (control_parse.c). 0 or -EBADMSG; nothing is written on failure --- */

/* One whole packet from that side: header, sender, length of the payload. */
_must_ int control_parse_packet(struct span packet, enum control_side from,
                                struct control_packet *ret);

_must_ int control_parse_ready(struct span payload, struct control_ready *ret);
/* POLICY, POLICY_OK: a generation. STATS, ROOTS, EXPORT, IMPORT: a serial. REST: 0 or 1. */
_must_ int control_parse_u32(struct span payload, uint32_t *ret);
_must_ int control_parse_text(struct span payload, struct control_text *ret); /* *_BAD */
/* SECRET, SECRET_RM, SECRET_OK; what a kind does not have is empty. */
_must_ int control_parse_secret(uint8_t kind, struct span payload, struct control_secret *ret);
_must_ int control_parse_stats(struct span payload, struct control_stats *ret);
_must_ int control_parse_accepted(struct span payload, struct control_accepted *ret);
_must_ int control_parse_record(struct span payload, struct egress_record *ret);

/* May it be a secret's name: a variable's, CONTROL_SECRET_NAME_MAX bytes at most. */
bool control_parse_name_ok(struct span name);

/* --- writing (control_put.c): appends one whole packet, or marks the buf as over --- */
void control_put_ready(struct buf *out, const struct control_ready *r);
void control_put_u32(struct buf *out, uint8_t kind, uint32_t number);
/* why is cut to CONTROL_WHY_MAX; where it is empty: "no reason given". */
void control_put_text(struct buf *out, uint8_t kind, uint32_t number, struct span why);
void control_put_secret(struct buf *out, uint8_t kind, const struct control_secret *s);
void control_put_stats(struct buf *out, const struct control_stats *s);
void control_put_accepted(struct buf *out, uint8_t kind, const struct control_accepted *a);
/* Texts that are too long are cut. */
void control_put_record(struct buf *out, const struct egress_record *r);

/* --- the socket (control_socket.c): never waits; calls recvmsg, close, send, or sendmsg
 * with a descriptor --- */

/* fd: borrowed; -1: none. 0, -EAGAIN (no room: nothing was sent), -EPIPE, or -errno. */
_must_ int control_send(int sock, struct span packet, int fd);

/*
 * One packet and its descriptor, the caller's from then on; -1: it has none. 0, -EAGAIN, -EPIPE
 * (the end), -EBADMSG (too long, or more than one descriptor; all are closed), or -errno.
 */
_must_ int control_recv(int sock, uint8_t room[static CONTROL_PACKET_MAX], struct span *ret,
                        int *ret_fd);
