/*
 * review_view_canvas: what a screen shows, as cells. Pure: no terminal is near.
 *
 * Theory of operation
 *
 * A cell holds one character that is seen and takes one or two columns, and nothing else ever gets
 * into one: text that came from outside is taken apart character by character (term/shown.h), and
 * what is not valid UTF-8, moves the cursor, shows nothing, turns the line around or has no width
 * is written out as \xNN. So whoever copies cells to a terminal sends it no control of anybody's,
 * and where a character stands is known. What is cut off at the right is marked, so that nothing
 * hides there.
 *
 * Hostile   every text handed to view_pen_text() and view_pen_content()
 */
#pragma once

#include "base/own.h"
#include "base/span.h"
#include "term/shown.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	VIEW_ROWS_MAX = 500, /* larger terminals are used as far as this */
	VIEW_COLS_MAX = 1000,
	VIEW_ROWS_MIN = 10, /* on smaller ones nothing could be decided with a clear view */
	VIEW_COLS_MIN = 40,
	VIEW_TAB = 8,
};

enum view_style {
	VIEW_PLAIN = 0,
	VIEW_DIM,
	VIEW_BOLD,
	VIEW_TITLE,  /* a section */
	VIEW_OURS,   /* header and prompt: reverse */
	VIEW_CURSOR, /* the row that keys are for */
	VIEW_ADDED,
	VIEW_REMOVED,
	VIEW_HOST, /* what the user changed meanwhile */
	VIEW_HUNK,
	VIEW_WARN,
	VIEW_ESCAPED, /* \xNN that stands for a byte, not for itself */
	VIEW_FOUND,
	VIEW_STYLES,
};

struct view_cell {
	uint32_t c;    /* what is seen; 0: the right half of the one before */
	uint8_t style; /* enum view_style */
};

struct view_canvas {
	unsigned rows, cols;
	shown_width_fn *width; /* of what is not ASCII; NULL: the terminal shows ASCII only */
	bool cursor;           /* shown, at: */
	unsigned cursor_row, cursor_col;
	struct view_cell cells[]; /* rows * cols */
};

/* NULL: no memory. rows and cols are cut to the maxima above. All blank. */
struct view_canvas *view_canvas_new(unsigned rows, unsigned cols, shown_width_fn *width);
void view_canvas_free(struct view_canvas *c);
OWN_DEFINE(struct view_canvas, view_canvas_free)

void view_canvas_clear(struct view_canvas *c);
const struct view_cell *view_canvas_at(const struct view_canvas *c, unsigned row, unsigned col);

/* Writes into one row, from a column up to and without another. */
struct view_pen {
	struct view_canvas *canvas;
	unsigned row;
	unsigned from, at, end; /* columns */
	uint32_t skip;          /* columns of the text that are left out in front: scrolled aside */
	uint32_t column;        /* of the text, for tabs; counts what was skipped */
	uint8_t style;
	bool cut;  /* something did not fit; marked by '>' in the last column */
	bool bare; /* nothing is marked as escaped: for what is to be typed */
};

struct view_pen view_pen_begin(struct view_canvas *c, unsigned row, unsigned from, unsigned end);

/* Text of our own: ASCII, NUL-ended. */
void view_pen_put(struct view_pen *p, const char *text);
void view_pen_printf(struct view_pen *p, const char *fmt, ...) _printf_(2, 3);
/* Text of anybody's: a path, a message. A tab or newline is escaped too. */
void view_pen_text(struct view_pen *p, struct span s);
/* A line of a file: tabs go to the next multiple of VIEW_TAB, a newline at its end is left out. */
void view_pen_content(struct view_pen *p, struct span s);
/* Blanks up to the end, in its style: a bar. */
void view_pen_fill(struct view_pen *p);
/* Blanks up to that column. */
void view_pen_to(struct view_pen *p, unsigned col);
