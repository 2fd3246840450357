/*
 * result: how a sandbox ended, as the supervisor saw it. Its JSON is the payload of WIRE_END, what
 * `--json` prints, and the record a detached sandbox leaves.
 *
 * Shape     one line, one object, every key always there; null where there is nothing to say:
 *             id name image engine level reason exit_code signal
 *             start ("cold", "restored", "built", "snapshot")
 *             limits_hit (a list of "time", "idle", "output", "memory", "pids", "disk")
 *             created ended (RFC 3339, UTC, milliseconds)
 *             start_ms wall_ms
 *             guest { user_us sys_us maxrss_bytes }   the guest's own word
 *             host { cpu_ms memory_peak_bytes }       what the host measured
 *             output_bytes message
 *           Keys are only ever added. exit_code and reason are null while the sandbox runs.
 * Units     in the names; a number over INT64_MAX is written as INT64_MAX
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "state/spec.h"

enum result_reason {
	RESULT_EXITED = 1,        /* exit_code is the command's */
	RESULT_SIGNALED = 2,      /* 128 + signal */
	RESULT_TIME = 3,          /* 124 */
	RESULT_IDLE = 4,          /* 124 */
	RESULT_OUTPUT = 5,        /* 137 */
	RESULT_MEMORY = 6,        /* 137 */
	RESULT_PIDS = 7,          /* 137 */
	RESULT_DISK = 8,          /* the command's own code, after it met a full disk */
	RESULT_STOPPED = 9,       /* by `berm stop` or `rm`: 137 */
	RESULT_CALLER_GONE = 10,  /* 137 */
	RESULT_NOT_STARTED = 11,  /* 125; message says why */
	RESULT_COMMAND = 12,      /* the command could not be started: 126, 127 or 125 */
	RESULT_ENGINE_DIED = 13,  /* 125 */
	RESULT_AGENT_LIED = 14,   /* the guest broke the protocol: 125 */
	RESULT_AGENT_SILENT = 15, /* 125 */
	RESULT_INTERRUPTED = 16,  /* the supervisor was told to end (TERM, host going down): 137 */
	RESULT_GATE_ENDED = 17,   /* the process that is the guest's network: 125 */
	RESULT_VAULT_ENDED = 18,  /* the other one: 125 */
	RESULT_VIOLATION = 19,    /* a secret's policy says so: 137 */
	RESULT_REASON_COUNT = 20,
};

enum { RESULT_MESSAGE_MAX = 512, RESULT_JSON_MAX = 16 << 10, RESULT_EXIT_MAX = 255 };

/* bits of limits_hit: also those that did not end the sandbox */
enum {
	RESULT_HIT_TIME = 1,
	RESULT_HIT_IDLE = 2,
	RESULT_HIT_OUTPUT = 4,
	RESULT_HIT_MEMORY = 8,
	RESULT_HIT_PIDS = 16,
	RESULT_HIT_DISK = 32
};

enum result_start {
	RESULT_START_NONE = 0,
	RESULT_START_COLD = 1,
	RESULT_START_RESTORED = 2,
	RESULT_START_BUILT = 3,
	RESULT_START_SNAPSHOT = 4 /* a copy of a guest that ran */
};

struct result {
	char id[SPEC_ID_LEN + 1];
	char name[SPEC_NAME_MAX + 1];
	char image[256];
	const char *engine; /* "qemu" */
	uint8_t level;      /* enum level; 0 before an engine was chosen */
	uint8_t reason;     /* enum result_reason; 0 while running */
	uint8_t start;      /* enum result_start */
	uint8_t limits_hit;
	uint32_t exit_code;                     /* what berm exits with */
	uint32_t signal;                        /* with RESULT_SIGNALED */
	uint64_t created_ns, ended_ns;          /* real time */
	uint64_t start_ms;                      /* supervisor start to the main command running */
	uint64_t wall_ms;                       /* main command running */
	uint64_t user_us, sys_us, maxrss_bytes; /* of the main command, by the guest's word */
	uint64_t host_cpu_ms, host_memory_peak_bytes; /* of the engine process, by the host's */
	uint64_t output_bytes;
	char message[RESULT_MESSAGE_MAX]; /* one sentence for a person; "" when it just exited */
};

/* "exited", "time", ... ; "running" for 0 */
const char *result_reason_name(uint8_t reason);

/* RESULT_JSON_MAX bytes always suffice. No newline at the end. */
void result_put_json(struct buf *out, const struct result *r);

/*
 * Reads what result_put_json wrote. -EBADMSG: no JSON object, a known key of another type or range,
 * no valid id. Unknown keys are ignored (a newer supervisor), missing ones are 0 or "" (an older
 * one). Times come back in whole milliseconds; engine points to a constant.
 */
_must_ int result_parse_json(struct span json, struct result *ret, struct err *e);
