/*
 * decision: one line of a session's decisions.jsonl.
 *
 * Each line says the whole state of one item at one time, so the last of an item counts. A line is
 * JSON that any tool reads, but of one form alone: keys in this order, no space, numbers without
 * sign. So the reader is small, and whatever was not written by us is told.
 *
 *     {"path":"a%20b","side":"here","choice":"accept","links":false,"what":HEX32,"host":HEX32,
 *      "result":HEX64,"hunks":"0110","done":3,"back":true,"at":1700000000}
 *
 *   path    bytes outside of "!" to "~", and '"', '%' and '\', as %XX: exact for any bytes
 *   side    "gone" of a deletion: another thing may be at the same path
 *   what    a fingerprint of what the agent did there, host one of what the host had
 *   result  not of every item: SHA-256 of the text that is composed of its hunks
 *   hunks   of choice "hunks": one digit for each, 1 is taken
 *   done    it was applied, with that generation of the undo store (0: there was nothing to do)
 *   back    an apply returned it to review
 *
 * The first line of the file is DECISION_HEAD.
 *
 * Hostile   to the reader all of it, though nobody but us writes it
 * Source    this page
 */
#pragma once

#include "work/hunk.h"
#include "work/path.h"

#include "base/buf.h"

enum {
	DECISION_KEY_BYTES = 16,
	DECISION_RESULT_BYTES = 32,
	DECISION_PATH_MAX = 3 * WPATH_MAX,
	/* a path, the hunks and all the rest */
	DECISION_LINE_MAX = DECISION_PATH_MAX + HUNK_COUNT_MAX + 512,
};

#define DECISION_HEAD "{\"berm\":\"decisions\",\"version\":1}"

enum decision_choice {
	DECISION_UNDECIDED = 0,
	DECISION_ACCEPT,
	DECISION_REJECT,
	DECISION_HUNKS,
};

struct decision {
	struct span path; /* as it is in the line: decision_path() */
	bool gone;
	uint8_t choice; /* enum decision_choice */
	bool links;
	uint8_t what[DECISION_KEY_BYTES];
	uint8_t host[DECISION_KEY_BYTES];
	bool has_result;
	uint8_t result[DECISION_RESULT_BYTES];
	struct span hunks; /* of DECISION_HUNKS: '0' and '1', at least one */
	bool done, back;
	uint32_t generation; /* of done */
	uint64_t at_s;       /* since 1970 */
};

/* Pure. A line without its newline. 0 or -EBADMSG; the spans point into it. */
_must_ int decision_parse(struct span line, struct decision *ret);

/* Pure. The path of a line, in its one form (work/path.h). False: it is none. */
_must_ bool decision_path(struct span in_line, struct buf *out);

/* Writes a line with its newline. `path` is raw, d->path is not looked at. */
void decision_put(struct buf *out, struct span path, const struct decision *d);
