/*
 * report: what berm-unpack tells the process that started it, one line an event.
 *
 * Hostile   to the caller all of it: the writer has been reading hostile archives, so it may by now
 *           be the attacker. A line is bounded, its text is shown only escaped, and its numbers
 *           choose nothing but what a progress bar shows
 * Shape     lines that end in \n, of at most REPORT_LINE_MAX bytes with it, words apart by one
 *           blank:
 *               phase NAME              one of read, unpack, write
 *               progress IN TOTAL OUT ENTRIES    bytes read, of how many (0: unknown), unpacked
 *               id HEX                  what the image will be; may come before any layer is read
 *               warn TEXT
 *               done HEX                the last line of a success
 *               fail CLASS TEXT         the last line of a failure
 */
#pragma once

#include "base/buf.h"
#include "image/limits.h"

enum { REPORT_LINE_MAX = 1024 }; /* an err's text, escaped, fits in most cases; else it is cut */

enum report_kind {
	REPORT_PHASE = 1,
	REPORT_PROGRESS,
	REPORT_ID,
	REPORT_WARN,
	REPORT_DONE,
	REPORT_FAIL,
};

/* Why an import failed, as far as a script cares. The names are on the wire and in --json. */
enum image_fail {
	IMAGE_FAIL_INTERNAL = 0, /* berm's own: memory, a system call */
	IMAGE_FAIL_NOT_IMAGE,    /* none of the kinds we know */
	IMAGE_FAIL_DAMAGED,      /* cut short, wrong digest, not what it says */
	IMAGE_FAIL_REFUSED,      /* an entry that must not be: "..", a link out of the image */
	IMAGE_FAIL_ARCH,         /* an image for another architecture or system */
	IMAGE_FAIL_LIMIT,        /* a maximum was reached: a bomb, or too large for this limit */
	IMAGE_FAIL_SPACE,        /* the disk is full */
	IMAGE_FAIL_COUNT,
};

const char *image_fail_name(enum image_fail f);

struct report {
	enum report_kind kind;
	enum image_fail fail; /* FAIL */
	struct span text; /* PHASE, WARN, FAIL: unescaped, within the input. ID, DONE: the hex */
	uint64_t in_bytes, total_bytes, out_bytes, entries; /* PROGRESS */
};

/* Pure. Takes one line off the front: 0, -EAGAIN (no whole line yet), -EBADMSG. */
_must_ int report_parse(struct span *in, struct report *ret);

/* Writes a line; text is cut to fit, its newlines become blanks. */
void report_put(struct buf *out, const struct report *r);
