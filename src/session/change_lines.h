/*
 * change_lines: one change line by line, whatever kind it is: an edit of a text as berm-diff says,
 * and what is new, gone or of another kind now as all lines of it.
 */
#pragma once

#include "review/review.h"

struct change_lines {
	const struct hunk_text *old, *new; /* empty where there is no text on that side */
	const struct hunks *hunks;
	const struct review_texts *texts; /* of an edit; else NULL: nothing else is known of it */
	struct review_texts *own_texts;
	struct hunk_text *own_old, *own_new;
	struct hunks *own_hunks;
	char *old_bytes, *new_bytes;
};

void change_lines_free(struct change_lines *l);
OWN_DEFINE(struct change_lines, change_lines_free)

/*
 * -ENODATA: there are no lines in it (a directory, a link, a binary file, a mode). Others: it has
 * lines and cannot be shown by them, the text says why; it can be decided on as a whole.
 */
_must_ int change_lines(struct review *r, size_t i, struct change_lines **ret, struct err *e);
