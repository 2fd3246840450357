/*
 * hunk: where two texts differ, in whole lines.
 *
 * Theory of operation
 *
 * Finding the differences of two texts is a library's work on hostile bytes, so it is done in a
 * jailed job (hunk_job.h). What comes back is only numbers: ranges of lines. hunk_parse() believes
 * none of them before it has seen that the ranges are in order and that all lines outside of them
 * are equal in both texts. What passes is a true description, if perhaps not the shortest, and any
 * choice of its hunks gives a text made of whole lines of the two.
 *
 * A line ends with its newline, or at the end of the text: a last line without newline is a line,
 * and differs from the same one with it.
 *
 * Hostile   both texts, and what the job answers
 * Shape     u32 count, then for each hunk u32 old_at | old_lines | new_at | new_lines, little
 *           endian; lines counted from 0
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

#include <stdint.h>

enum {
	HUNK_TEXT_MAX = 32 << 20,  /* bytes of one text; larger ones are shown in summary */
	HUNK_LINES_MAX = 4 << 20,  /* of one text */
	HUNK_COUNT_MAX = 64 << 10, /* of one comparison; with more it is shown in summary */
	HUNK_ANSWER_MAX = 4 + 16 * HUNK_COUNT_MAX,
};

/* old_at and new_at are where the lines are, or would be if there are none. */
struct hunk {
	uint32_t old_at, old_lines;
	uint32_t new_at, new_lines;
};

/* A text and where its lines begin. */
struct hunk_text {
	struct span text;   /* borrowed */
	uint32_t count;     /* lines */
	uint32_t starts_[]; /* count + 1 of them */
};

/* -E2BIG over HUNK_TEXT_MAX or HUNK_LINES_MAX, -ENOMEM. */
_must_ int hunk_text_new(struct span text, struct hunk_text **ret, struct err *e);
void hunk_text_free(struct hunk_text *t);
OWN_DEFINE(struct hunk_text, hunk_text_free)

/* `lines` lines from `at`, which lie in the text. */
struct span hunk_lines(const struct hunk_text *t, uint32_t at, uint32_t lines);

struct hunks {
	uint32_t count;
	struct hunk at[];
};

void hunks_free(struct hunks *h);
OWN_DEFINE(struct hunks, hunks_free)

/*
 * Reads an answer and holds it against both texts. -EBADMSG: it does not describe them; -E2BIG over
 * HUNK_COUNT_MAX; -ENOMEM.
 */
_must_ int hunk_parse(struct span answer, const struct hunk_text *old, const struct hunk_text *new,
                      struct hunks **ret, struct err *e);

/* Pure: the same judgement of hunks that are there. */
bool hunk_check(const struct hunk *h, uint32_t count, const struct hunk_text *old,
                const struct hunk_text *new);

void hunk_put(struct buf *out, const struct hunk *h, uint32_t count);
