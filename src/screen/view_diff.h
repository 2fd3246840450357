/*
 * review_view_diff: the hunks of a text laid out as lines: unified, or side by side.
 *
 * Theory of operation
 *
 * A hunk is a block: its headline, up to VIEW_CONTEXT equal lines in front, what was there and what
 * is there now, equal lines behind. Equal lines between two hunks are shown once. Where what the
 * guest changed overlaps what the user changed on the host meanwhile, the block ends with the
 * user's version, so that both are seen; side by side they stand beside each other. Only the number
 * of lines of each block is kept, so any line of any text is found at once.
 *
 * Pure. The texts are the guest's words: whoever draws them escapes them.
 */
#pragma once

#include "review/review.h"

enum { VIEW_CONTEXT = 3 };

enum view_line_kind {
	VIEW_LINE_HEAD,    /* of a block */
	VIEW_LINE_CONTEXT, /* equal: left and right */
	VIEW_LINE_OLD,     /* unified: only in the base */
	VIEW_LINE_NEW,     /* unified: only in the guest's */
	VIEW_LINE_BOTH,    /* side by side: left may be missing, or right */
	VIEW_LINE_YOURS,   /* headline of what the user changed here */
	VIEW_LINE_HOST_OLD,
	VIEW_LINE_HOST_NEW,
};

struct view_diff_line {
	uint8_t kind;
	uint32_t block;
	bool has_left, has_right;
	uint32_t left_no, right_no; /* from 1 */
	struct span left, right;    /* whole lines, with their newline if there is one */
	uint32_t old_at, old_lines, new_at, new_lines; /* of a headline */
};

struct view_block {
	uint64_t start;                  /* its first line */
	uint32_t before, after;          /* equal lines */
	uint32_t host_first, host_count; /* hunks of the host that it overlaps */
	uint32_t host_lines;             /* of the user's version, as they are shown */
};

/* What is laid out; all borrowed. */
struct view_texts {
	const struct hunk_text *base, *guest;
	const struct hunks *to_guest;
	/* of an edit whose base the user has edited as well; else NULL */
	const struct hunk_text *host;
	const struct hunks *to_host;
	const uint8_t *fates; /* enum merge_fate of each of to_guest; or NULL */
};

struct view_diff {
	struct view_texts texts;
	bool split;
	uint32_t count;
	uint64_t lines;
	struct view_block blocks[];
};

/* What t points to lives longer. -ENOMEM. */
_must_ int view_diff_new(const struct view_texts *t, bool split, struct view_diff **ret,
                         struct err *e);
void view_diff_free(struct view_diff *d);
OWN_DEFINE(struct view_diff, view_diff_free)

/* n < d->lines. */
void view_diff_line(const struct view_diff *d, uint64_t n, struct view_diff_line *ret);
/* The block that line lies in; count > 0. */
uint32_t view_diff_block(const struct view_diff *d, uint64_t n);
