/*
 * review_text: a review as text, for people: `berm diff`, and what the other verbs say of a review.
 *
 * Outside text is escaped, tabs are spaces, and a line that is too long is cut with a word about
 * it. So the only control characters are newlines and, on a terminal, our own colours.
 */
#pragma once

#include "session/review_open.h"

#include <stdio.h>

enum {
	REVIEW_CONTEXT_LINES = 3,
	REVIEW_LINE_MAX = 4096, /* bytes of a content's line that are shown */
};

/* What is said of so many objects that hold work which no apply brings. */
#define REVIEW_LOST_WORDS "of git's objects whose commits do not come back"
/* What is said of so many changes that git's own files are: nothing is lost with them. */
#define REVIEW_GIT_WORDS "of git's own files, of which only commits come back"

/* What is said of what stays out, and would have run: behind its reason. */
#define REVIEW_RUNS_WORDS "on a host this could run without being asked for"

enum review_form { REVIEW_FORM_DIFF, REVIEW_FORM_STAT, REVIEW_FORM_NAMES };

struct review_text {
	enum review_form form;
	bool colour;
	/* Paths of the workspace (review_path()): what is at them or beneath; none: all. */
	char (*paths)[REVIEW_PATH_ROOM];
	size_t path_count;
};

/* To stdout. -ENOENT: a path at which nothing changed. */
_must_ int review_text_print(const struct review_opened *o, const struct review_text *how,
                             struct err *e);

/* Is the item asked for? */
bool review_text_wants(const struct review_text *how, const struct review_item *item);

/* How many of which section wait; the summary says what to type next as well. */
void review_text_counts(struct review_opened *o, FILE *f);
void review_text_summary(struct review_opened *o, FILE *f);

/* One line for each path of which something was said, with it. */
void review_text_said(const struct review_opened *o, FILE *f);

enum { REVIEW_RUNS_NAMED = 5, REVIEW_RUNS_BYTES = 16 << 10 };

/*
 * A line for each of the first few changes that could run on a host, taken or not: X0,
 * X1, and what stays out and would be; escaped, with its reason. Then how many more there are.
 */
void review_text_runs(const struct review_opened *o, struct buf *out);

/* A path, or other outside text of any length. */
void review_text_put(FILE *f, struct span text);
