/*
 * shown: how a text that came from outside stands on a terminal, character by character. Pure.
 *
 * One rule for lists and for the review's screens: what is no valid UTF-8, moves the cursor, hides
 * or turns the line around is written out byte by byte as \xNN; all else is itself, as wide as
 * wcwidth(3) says. So a line is as long as it was counted, and nothing in it is anybody's control.
 *
 * Hostile   every text
 */
#pragma once

#include "base/buf.h"
#include "base/span.h"

#include <locale.h>
#include <stddef.h>
#include <stdint.h>

/* Columns of a character that is not ASCII, 0 to 2; anything else: written out. As wcwidth(3). */
typedef int shown_width_fn(uint32_t c);

/* What a character takes at least, to be shown as it is. */
enum shown_where {
	SHOWN_IN_LINE = 0,  /* an accent of its own stands on the character before it */
	SHOWN_IN_CELLS = 1, /* there is no cell for it */
};

struct shown {
	struct span bytes; /* one character, or the byte that is none */
	uint32_t c;        /* 0: it is written out */
	unsigned columns;
};

/* Takes the first character off *s, which has one. width NULL: only ASCII is shown as it is. */
struct shown shown_take(struct span *s, shown_width_fn *width, enum shown_where where);

/* Of all of s. */
size_t shown_columns(struct span s, shown_width_fn *width, enum shown_where where);

/* The character, or its bytes written out. */
void shown_put(struct buf *b, const struct shown *one);

/* wcwidth(3) as the thread's locale has it. */
int shown_wcwidth(uint32_t c);

/*
 * The same for a line; a character that is not known is shown as well, since the terminal may be
 * newer, and counts as two: the most that it can take.
 */
int shown_line_width(uint32_t c);

/*
 * Between the two the thread's locale knows widths, whatever the user's is: what berm prints is
 * UTF-8. Where the system has no such locale all that is not ASCII is not known.
 */
struct shown_locale {
	locale_t utf8, before;
};
void shown_locale_begin(struct shown_locale *l);
void shown_locale_end(struct shown_locale *l);
