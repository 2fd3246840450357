/*
 * outlog: the bounded record of what a sandbox's main command wrote (`berm logs`).
 *
 * Shape     records, one after another: u8 channel | u64 realtime_ms | u32 bytes | the bytes;
 *           little endian. They are appended to `log`; when that would pass OUTLOG_FILE_MAX it
 *           becomes `log.1`, in place of the one before, so the newest 4 to 8 MiB are kept.
 * Hostile   the bytes in a record are the guest's, and a crash of the host may have damaged a file,
 *           so the reader trusts neither. Whoever prints to a terminal escapes, or not, knowingly.
 * Limits    the enums below
 */
#pragma once

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	OUTLOG_BYTES_MAX = 8 << 20, /* both files */
	OUTLOG_FILE_MAX = OUTLOG_BYTES_MAX / 2,
	OUTLOG_HEADER_BYTES = 1 + 8 + 4,
	OUTLOG_DATA_MAX = 64 << 10, /* of one record: WIRE_DATA_MAX */
	OUTLOG_RECORD_MAX = OUTLOG_HEADER_BYTES + OUTLOG_DATA_MAX,
	OUTLOG_SWITCHES_MAX =
		16, /* files a reader opens in one call before it lets its caller look up */
};

#define OUTLOG_FILE     "log"
#define OUTLOG_FILE_OLD "log.1"

enum outlog_channel {
	OUTLOG_OUT = 1, /* WIRE_OUT */
	OUTLOG_ERR = 2, /* WIRE_ERR */
	OUTLOG_GAP = 3, /* data is a u64: so many bytes of output are missing here */
};

struct outlog_record {
	uint8_t channel; /* enum outlog_channel */
	uint64_t realtime_ms;
	struct span data; /* borrowed; 1 to OUTLOG_DATA_MAX bytes */
};

/* Pure (outlog_parse.c). Takes one record off the front: 0, -EAGAIN (need more) or -EBADMSG. */
_must_ int outlog_parse(struct span *in, struct outlog_record *ret);

/* The u64 of an OUTLOG_GAP record. */
uint64_t outlog_gap_bytes(const struct outlog_record *gap);

/* --- writing: the supervisor --- */

struct outlog {
	int dir_fd;             /* borrowed */
	int fd;                 /* -1: none could be opened yet */
	uint64_t file_bytes;    /* whole records in `log` */
	uint64_t dropped_bytes; /* not yet told by a gap record */
	uint64_t lost_bytes;    /* all that was ever dropped; what rotated away is not counted */
	uint64_t realtime_ms;   /* of the last append */
};

/* Begins an empty record. dir_fd is borrowed until outlog_close. */
_must_ int outlog_open(int dir_fd, struct outlog *ret, struct err *e);

/*
 * One system call for the usual case, no fsync. It does not fail: what cannot be written (a full
 * disk) is counted and, once there is room again, told in a gap record. Data over OUTLOG_DATA_MAX
 * becomes several records.
 */
void outlog_append(struct outlog *l, uint8_t channel, uint64_t realtime_ms, struct span data);

/* Tells a last gap; l may be opened again. Once, after a successful outlog_open. */
void outlog_close(struct outlog *l);

/* --- reading: `berm logs` --- */

struct outlog_reader;

/* From the oldest record that is kept. dir_fd is borrowed until outlog_reader_free. */
_must_ int outlog_reader_new(int dir_fd, struct outlog_reader **ret, struct err *e);
void outlog_reader_free(struct outlog_reader *r);
OWN_DEFINE(struct outlog_reader, outlog_reader_free)

/* Passes over all but the last `lines` lines of all channels. Before the first next. */
_must_ int outlog_reader_tail(struct outlog_reader *r, uint64_t lines, struct err *e);

/*
 * The next record; its data is good until the next call. -EAGAIN: none now; ask again for `-f`, or
 * stop. -EBADMSG: the file is damaged from here on.
 */
_must_ int outlog_reader_next(struct outlog_reader *r, struct outlog_record *ret, struct err *e);

/*
 * The files moved (sandboxes/<id> to ended/<id>): goes on in dir_fd, borrowed as before, without
 * losing the place.
 */
void outlog_reader_move(struct outlog_reader *r, int dir_fd);
