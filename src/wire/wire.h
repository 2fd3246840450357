/*
 * wire: the framed, multiplexed, credit-controlled protocol between host and guest agent.
 *
 * It runs over the byte stream of one virtio-console port. The same frames, with a few local types
 * more, are what berm's commands speak to a supervisor over its UNIX socket.
 *
 * Hostile   to the host: every byte the agent sends. Frames are parsed by wire_parse.c and judged
 *           by the rule table (who may send what, where, how long), and only then looked into.
 * Shape     16 bytes of header, then the payload. All numbers are little endian.
 *             u16 magic | u8 type | u8 channel | u32 stream | u32 epoch | u32 payload_bytes
 * Streams   0 is control. Others are opened by the host side (EXEC, PUT, GET, ATTACH), which picks
 *           the id, and end with exactly one of EXIT, RESULT, EXEC_ERR or RESET. An id is never
 *           used again in one epoch.
 * Credit    the sender of DATA starts with WIRE_WINDOW_BYTES for each stream and channel, spends
 *           the payload's length, and waits for CREDIT when it has none. So a slow reader stalls
 *           its own channel only.
 * Epoch     counts the lives of a guest: 1 at boot, and IDENTITY after a restore brings another. A
 *           frame of another epoch is dropped by the agent and refused by the host; IDENTITY is
 *           read in any epoch.
 * Version   HELLO carries it; a peer of another version is refused with both numbers said.
 * Limits    the enums below; every count and length has one.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	WIRE_VERSION = 4,
	WIRE_MAGIC = 0xb37e,
	WIRE_HEADER_BYTES = 16,
	WIRE_DATA_MAX = 64 << 10,  /* payload of one DATA frame; also of most others */
	WIRE_EXEC_MAX = 256 << 10, /* argv and environment of one command */
	WIRE_FRAME_MAX = WIRE_HEADER_BYTES + WIRE_EXEC_MAX,
	WIRE_WINDOW_BYTES = 256 << 10, /* 4 full DATA frames under way per channel */
	WIRE_STREAMS_MAX = 64,         /* open at once, in one guest */
	WIRE_ARGS_MAX = 4096,          /* strings in argv, and again in the environment */
	WIRE_PATH_MAX = 4096,          /* PATH_MAX */
	WIRE_NAME_MAX = 255,
	WIRE_HOSTNAME_MAX = 64, /* HOST_NAME_MAX */
	WIRE_USER_MAX = 128,    /* "name", "uid", "name:group" or "uid:gid" */
	WIRE_TEXT_MAX = 1024,   /* a sentence for a person */
	WIRE_RLIMITS_MAX = 16,
	WIRE_ENTROPY_BYTES = 64,
	WIRE_MACHINE_ID_BYTES = 16,
	WIRE_CERT_MAX = 2048, /* PEM of one certificate; one of an elliptic curve is under 1 KiB */
	WIRE_MTU_MIN = 1280,  /* IPv6 */
	WIRE_MTU_MAX = 65520, /* what the network cards have */
	WIRE_JSON_MAX = 64 << 10, /* INFO and END on the local socket */
};

enum wire_type {
	/* control, stream 0 */
	WIRE_HELLO = 1,       /* agent: wire_hello, once, when the guest is mounted and ready */
	WIRE_HELLO_OK = 2,    /* host: u32 version */
	WIRE_REFUSE = 3,      /* both: str16 why; the sender closes */
	WIRE_FATAL = 4,       /* agent: str16 why the guest cannot be used (a mount failed, ...) */
	WIRE_IDENTITY = 5,    /* host: wire_identity, after boot and after each restore */
	WIRE_IDENTITY_OK = 6, /* agent: wire_trusted; only now may the host open streams */
	WIRE_PING = 7,        /* host: u64 cookie */
	WIRE_PONG = 8,        /* agent: the same u64 */
	WIRE_STATS = 9,       /* host: empty */
	WIRE_STATS_OK = 10,   /* agent: wire_stats */
	WIRE_FREEZE = 11,     /* host: empty; stops every workload process (cgroup.freeze) */
	WIRE_FREEZE_OK = 12,  /* agent */
	WIRE_THAW = 13,       /* host */
	WIRE_THAW_OK = 14,    /* agent */
	WIRE_QUIESCE = 15,    /* host: sync, drop what a template must not keep, be at rest */
	WIRE_QUIESCE_OK = 16, /* agent: its last frame before the snapshot */
	WIRE_POWEROFF = 17,   /* host: u32 grace_ms; TERM, wait, KILL, sync, power off */
	WIRE_EVENT = 18,      /* agent: wire_event */
	/*
	 * host: empty; the workload stops (as by FREEZE), all that is pending is sent, HOLD_OK is
	 * said, and then neither side sends anything: both directions stand between two frames.
	 * What ends that is RELEASE, or, in a copy of this guest, an IDENTITY of a new epoch.
	 */
	WIRE_HOLD = 19,
	WIRE_HOLD_OK = 20,    /* agent: empty */
	WIRE_RELEASE = 21,    /* host: u64 realtime_ns, for a clock that stood still; all goes on */
	WIRE_RELEASE_OK = 22, /* agent: empty */
	/* streams */
	WIRE_EXEC = 32,     /* host: wire_exec; opens */
	WIRE_EXEC_OK = 33,  /* agent: u32 pid */
	WIRE_EXEC_ERR = 34, /* agent: wire_fail; closes */
	WIRE_DATA = 35,     /* both: bytes; channel says which */
	WIRE_EOF = 36,      /* both: empty; no more DATA on that channel */
	WIRE_CREDIT = 37,   /* both: u32 bytes more that may be sent on that channel */
	WIRE_RESIZE = 38,   /* host: u16 rows, u16 cols */
	WIRE_SIGNAL = 39,   /* host: u32 signal number, to the process group */
	WIRE_EXIT = 40,     /* agent: wire_exit; after all its DATA and EOF; closes */
	/* host: wire_file; opens. Then DATA on WIRE_IN: entries (entry.h), then EOF */
	WIRE_PUT = 41,
	/* host: wire_file; opens. The agent sends DATA on WIRE_OUT: entries, then EOF */
	WIRE_GET = 42,
	WIRE_RESULT = 43, /* agent: wire_fail (code 0 is success); closes a PUT, GET or COLLECT */
	WIRE_RESET = 44,  /* both: u32 errno; closes at once, drops what is under way */
	/*
	 * host: empty; opens. The workload is stopped for good and the workspace made read-only;
	 * then DATA on WIRE_OUT: its upper layer as a tar (docs/internals/workspace.md), EOF, and
	 * RESULT
	 */
	WIRE_COLLECT = 45,
	/* agent: u64 bytes; of a COLLECT, once, before its DATA: as many are to come */
	WIRE_SIZE = 46,
	/* the supervisor's socket only; a command is the host side, the supervisor the agent's */
	WIRE_INFO = 64,    /* command: empty -> INFO_OK */
	WIRE_INFO_OK = 65, /* supervisor: JSON text, see session.h */
	/* command: u8 want_stdin; opens a stream that is the main command's stdio */
	WIRE_ATTACH = 66,
	WIRE_STOP = 67,     /* command: u32 grace_ms; the sandbox ends */
	WIRE_KILL = 68,     /* command: u32 signal number, to the main command's group */
	WIRE_END = 69,      /* supervisor: JSON text of how the sandbox ended; its last frame */
	WIRE_WAIT = 70,     /* command: be told END */
	WIRE_PROGRESS = 71, /* supervisor: str16 text: "building the template", ... */
	/* command: wire_snapshot -> DONE, which brings open files for one without a name */
	WIRE_SNAPSHOT = 72,
	WIRE_PAUSE = 73,  /* command: empty; the sandbox stands still until RESUME -> DONE */
	WIRE_RESUME = 74, /* command: empty -> DONE */
	WIRE_DONE = 75,   /* supervisor: wire_fail (code 0 is success) of the three above */
	WIRE_TYPE_COUNT = 76,
};

enum wire_channel { WIRE_IN = 0, WIRE_OUT = 1, WIRE_ERR = 2, WIRE_CHANNEL_COUNT = 3 };

/* Who wrote a frame, and so which rules it is judged by. */
enum wire_side {
	WIRE_FROM_HOST = 1,
	WIRE_FROM_AGENT = 2,
	WIRE_FROM_COMMAND = 4,
	WIRE_FROM_SUPERVISOR = 8
};

struct wire_frame {
	uint8_t type;
	uint8_t channel;
	uint32_t stream;
	uint32_t epoch;
	struct span payload; /* borrowed from the input */
};

struct wire_hello {
	uint32_t version;
	uint32_t features;         /* none are defined; 0 */
	struct span agent_version; /* WIRE_NAME_MAX */
	struct span kernel;        /* uname -r; WIRE_NAME_MAX */
};

/* Static: there is no DHCP and no router advertisement. All in network order. */
struct wire_network {
	uint8_t ip4[4], router4[4], dns4[4]; /* the first two in one network of prefix4 */
	uint8_t prefix4;                     /* 8 to 30 */
	uint8_t prefix6;                     /* 64 to 126; 0: no IPv6, and the next two are 0 */
	uint8_t ip6[16], router6[16];
	uint16_t mtu; /* WIRE_MTU_MIN to WIRE_MTU_MAX */
};

/* A certificate authority that this guest alone is to trust. */
struct wire_trust {
	/* of its subject, for the link by which OpenSSL finds it (X509_NAME_hash) */
	uint32_t name_hash;
	/* WIRE_CERT_MAX: one "CERTIFICATE" block, lines of at most 64 printable characters */
	struct span pem;
};

/* The workspace disk (vdc), to be mounted with the scratch disk over it. */
struct wire_workspace {
	struct span path; /* WIRE_PATH_MAX - 1, as wire_parse_mount_point() wants it */
};

struct wire_identity {
	uint64_t realtime_ns; /* since 1970-01-01 UTC */
	uint32_t pids_max;    /* of the workload; 0 is no limit */
	uint64_t memory_max;  /* of the workload, bytes; 0 is all that the agent does not reserve */
	uint8_t entropy[WIRE_ENTROPY_BYTES];
	uint8_t machine_id[WIRE_MACHINE_ID_BYTES];
	/* the EXEC that lives on into the new epoch, and is told of anew; others are forgotten */
	uint32_t keep_stream; /* 0: none */
	/* WIRE_HOSTNAME_MAX of [A-Za-z0-9._-]; empty keeps the present one */
	struct span hostname;
	/* without them the card stays as it is, and a certificate of an earlier life goes */
	bool has_network, has_trust, has_workspace;
	struct wire_network network;
	struct wire_trust trust;
	struct wire_workspace workspace;
};

/* Where the certificate went, as absolute paths in the guest; both empty: there was none. */
struct wire_trusted {
	struct span cert;   /* WIRE_NAME_MAX: alone */
	struct span bundle; /* WIRE_NAME_MAX: with all others the guest trusts */
};

enum {
	WIRE_EXEC_TTY = 1,
	WIRE_EXEC_STDIN = 2, /* without it the command reads /dev/null */
	WIRE_EXEC_WARM = 4,  /* for a template: until QUIESCE the guest has another boot_id */
};

struct wire_rlimit {
	uint32_t resource; /* RLIMIT_* of the guest's architecture */
	uint64_t soft;
	uint64_t hard;
};

/* Lists are spans over consecutive str16: walk them with wire_next_str(). */
struct wire_exec {
	uint32_t flags;
	uint16_t rows, cols; /* with TTY */
	struct span user;    /* WIRE_USER_MAX; empty is root */
	struct span cwd;     /* WIRE_PATH_MAX; empty is the user's home, or / without one */
	uint32_t argc, envc; /* argc >= 1; the environment is exactly this, nothing is added but
	                        HOME, PATH, TERM, USER where missing */
	struct span argv, envv;
	uint32_t rlimit_count;
	struct wire_rlimit rlimits[WIRE_RLIMITS_MAX];
};

/* Where a command failed to start. */
enum wire_stage {
	WIRE_AT_NONE = 0,
	WIRE_AT_USER = 1, /* no such user or group */
	WIRE_AT_CWD = 2,
	WIRE_AT_EXEC = 3,   /* errno ENOENT: 127; else 126 */
	WIRE_AT_SYSTEM = 4, /* fork, pty, rlimit, out of streams */
	WIRE_AT_PATH = 5,   /* a PUT's or GET's path */
};

struct wire_fail {
	uint32_t code; /* errno of Linux; 0 is success (RESULT and DONE only) */
	uint8_t stage;
	struct span text; /* WIRE_TEXT_MAX, without the errno's words */
};

struct wire_exit {
	uint8_t signaled; /* 1: value is the signal; 0: the exit code */
	uint32_t value;
	uint64_t user_us, sys_us; /* of the command and the children it waited for */
	uint64_t maxrss_bytes;
};

struct wire_file {
	struct span path; /* WIRE_PATH_MAX, absolute in the guest */
	struct span user; /* PUT: owner of what is made; empty keeps the entries' numbers */
	uint8_t follow;   /* GET: follow a link in the last component */
};

enum wire_event_kind { WIRE_EVENT_OOM = 1, WIRE_EVENT_PIDS = 2, WIRE_EVENT_DISK = 3 };

struct wire_event {
	uint8_t kind;
	uint8_t killed; /* the agent killed the workload for it */
	uint64_t count; /* since boot */
};

enum { WIRE_SNAPSHOT_REPLACE = 1 }; /* in place of one of that name */

struct wire_snapshot {
	uint8_t flags;
	struct span name; /* WIRE_NAME_MAX; empty: it is kept by nobody but who asked */
};

struct wire_stats {
	uint64_t cpu_us; /* the workload's, user and system */
	uint64_t memory_bytes, memory_peak_bytes;
	uint64_t disk_bytes, disk_max_bytes;
	uint32_t pids, streams;
	uint64_t oom_kills, pids_refused;
	uint64_t uptime_ms;
};

/* --- parsing: pure (wire_parse.c). 0, -EAGAIN (need more) or -EBADMSG --- */

/*
 * Takes one whole frame off the front of `in` and judges it by the rules for `from`: known type,
 * legal sender, control or stream as the type demands, channel legal, payload within the type's
 * bounds. Advances `in` only on 0. A frame too long for its type is bad as soon as its header is
 * there.
 */
_must_ int wire_parse_frame(struct span *in, enum wire_side from, struct wire_frame *ret);

/*
 * Payloads. Every byte must be used, numbers be in range, texts hold no NUL. Of a HELLO of another
 * version only `version` is read, so that a refusal can say it.
 */
_must_ int wire_parse_hello(struct span payload, struct wire_hello *ret);
_must_ int wire_parse_identity(struct span payload, struct wire_identity *ret);
_must_ int wire_parse_trusted(struct span payload, struct wire_trusted *ret);
_must_ int wire_parse_cert(struct span pem); /* is it as struct wire_trust wants it? */
/*
 * May a workspace be mounted there? Absolute, no empty, "." or ".." part, none over WIRE_NAME_MAX,
 * and nothing the guest needs is hidden by it. -EBADMSG: no such path; -EPERM: it would hide
 * something.
 */
_must_ int wire_parse_mount_point(struct span path);
_must_ int wire_parse_exec(struct span payload, struct wire_exec *ret);
_must_ int wire_parse_fail(struct span payload, struct wire_fail *ret);
_must_ int wire_parse_exit(struct span payload, struct wire_exit *ret);
_must_ int wire_parse_file(struct span payload, struct wire_file *ret);
_must_ int wire_parse_event(struct span payload, struct wire_event *ret);
_must_ int wire_parse_snapshot(struct span payload, struct wire_snapshot *ret);
_must_ int wire_parse_stats(struct span payload, struct wire_stats *ret);
_must_ int wire_parse_u8(struct span payload, uint8_t *ret);
_must_ int wire_parse_u32(struct span payload, uint32_t *ret);
_must_ int wire_parse_u64(struct span payload, uint64_t *ret);
_must_ int wire_parse_text(struct span payload, struct span *ret); /* one str16, WIRE_TEXT_MAX */
_must_ int wire_parse_resize(struct span payload, uint16_t *ret_rows, uint16_t *ret_cols);

/* Next string of a list; false at its end. The parser has already checked the list. */
bool wire_next_str(struct span *list, struct span *ret);

/* For messages (wire_name.c): "EXEC", "DATA", ... or "type 99". */
const char *wire_type_name(uint8_t type);

/*
 * --- writing (wire_put.c): appends one whole frame, or marks the buf as over ---
 *
 * What the reader would refuse for its length does not fit either; only sentences (put_text and
 * the text of a wire_fail) are cut to WIRE_TEXT_MAX.
 */

void wire_put(struct buf *out, uint8_t type, uint8_t channel, uint32_t stream, uint32_t epoch,
              struct span payload);
/*
 * The frame that begins at `start` and is the last in out was made longer: its header says so now.
 */
void wire_set_length(struct buf *out, size_t start);
void wire_put_u8(struct buf *out, uint8_t type, uint32_t stream, uint32_t epoch, uint8_t v);
void wire_put_u32(struct buf *out, uint8_t type, uint8_t channel, uint32_t stream, uint32_t epoch,
                  uint32_t v);
void wire_put_u64(struct buf *out, uint8_t type, uint32_t stream, uint32_t epoch, uint64_t v);
void wire_put_text(struct buf *out, uint8_t type, uint32_t epoch, const char *text);
void wire_put_hello(struct buf *out, uint32_t epoch, const struct wire_hello *h);
void wire_put_identity(struct buf *out, uint32_t epoch, const struct wire_identity *id);
void wire_put_trusted(struct buf *out, uint32_t epoch, const struct wire_trusted *t);
/* argv and envv of x are ignored; the NULL-ended lists are written. argc and envc too. */
void wire_put_exec(struct buf *out, uint32_t stream, uint32_t epoch, const struct wire_exec *x,
                   const char *const *argv, const char *const *envv);
void wire_put_fail(struct buf *out, uint8_t type, uint32_t stream, uint32_t epoch,
                   const struct wire_fail *f);
void wire_put_exit(struct buf *out, uint32_t stream, uint32_t epoch, const struct wire_exit *x);
void wire_put_file(struct buf *out, uint8_t type, uint32_t stream, uint32_t epoch,
                   const struct wire_file *f);
void wire_put_event(struct buf *out, uint32_t epoch, const struct wire_event *v);
void wire_put_snapshot(struct buf *out, uint32_t epoch, const struct wire_snapshot *s);
void wire_put_stats(struct buf *out, uint32_t epoch, const struct wire_stats *s);
void wire_put_resize(struct buf *out, uint32_t stream, uint32_t epoch, uint16_t rows,
                     uint16_t cols);
