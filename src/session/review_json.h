/*
 * review_json: a session and its review as JSON: docs/review.schema.json says what is in it.
 *
 * Bytes that need not be UTF-8 (paths, texts) are a string in which what is not becomes U+FFFD;
 * then there is a second member, NAME_base64, with all of them. Control characters and what nobody
 * sees are escaped (buf_put_json_str()), so the text is inert on a terminal.
 */
#pragma once

#include "session/review_open.h"
#include "session/review_text.h"

enum {
	REVIEW_JSON_VERSION = 1,
	REVIEW_JSON_SESSION_MAX = 96 << 10, /* each byte of paths and messages as \u00ff */
	REVIEW_JSON_SUMMARY_MAX = REVIEW_JSON_SESSION_MAX + (16 << 10),
};

/* "name":"..." and perhaps ,"name_base64":"...". At most 8 bytes for each of s, and 200. */
void review_json_put_bytes(struct buf *b, const char *name, struct span s);

/* An object: `berm sessions --json` has one for each. */
void review_json_put_session(struct buf *b, const struct work_session_info *info,
                             uint64_t disk_bytes);

/*
 * An object of at most REVIEW_JSON_SUMMARY_MAX bytes: session, totals, sections. What `berm apply
 * --json` says besides what it did, and `berm code --json` at the end of a session.
 */
void review_json_put_summary(struct buf *b, const struct review_opened *o);

/* The whole of it, with every change that is wanted, its lines and the commits: to stdout. */
_must_ int review_json_print(const struct review_opened *o, const struct review_text *how,
                             struct err *e);

/* The summary, and what an apply or undo did. commits_e is of an import that failed, or empty. */
_must_ int review_json_print_outcome(const struct review_opened *o,
                                     const struct review_outcome *done, const struct err *commits_e,
                                     struct err *e);
