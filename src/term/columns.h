/*
 * columns: a list for people, in columns that are as wide as what stands in them.
 *
 * Theory of operation
 *
 * Into a file or a pipe every line is whole. At a terminal no line is wider than it: of what does
 * not fit, the last column loses first, then the widest of the others down to its least. What is
 * cut ends with '>', as in the review. Text is escaped and counted as there (term/shown.h); what
 * has no width of its own stands on the character before it, and a character that is not known
 * counts as two columns, which is the most it can take, so a line never wraps.
 *
 * Hostile   the cells
 */
#pragma once

#include "base/err.h"
#include "base/own.h"
#include "term/share.h"

#include <stdbool.h>
#include <stddef.h>

enum {
	COLUMNS_MAX = 8,
	COLUMNS_LAST_MIN = 12, /* what the last one keeps for as long as others can lose */
	COLUMNS_LINE_MAX =
		32 << 10, /* bytes of a line: a path of 4096, each byte escaped, and more */
};

struct column {
	const char *head;
	unsigned least; /* columns it keeps at least; of the last one no matter */
	bool tail;      /* its end tells more than its beginning: a path. Cut in front, with '<' */
};

struct columns;

/* `of` is borrowed; count is 1 to COLUMNS_MAX. */
_must_ int columns_new(const struct column *of, unsigned count, struct columns **ret,
                       struct err *e);
void columns_free(struct columns *t);
OWN_DEFINE(struct columns, columns_free)

/* A row: `count` texts, which are copied. */
_must_ int columns_add(struct columns *t, const char *const *cells, struct err *e);

/* Columns of the terminal that stdout is; 0: it is none. */
unsigned cli_columns(const struct cli *c);

/* Heads and rows onto stdout, with cli_columns() or another number. */
_must_ int columns_print(const struct columns *t, unsigned cols, struct err *e);
