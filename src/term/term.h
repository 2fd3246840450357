/*
 * term: the user's terminal, and giving it back as it was.
 */
#pragma once

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>
#include <termios.h>

enum {
	TERM_ROWS_DEFAULT = 24, /* a pty nobody looks at */
	TERM_COLS_DEFAULT = 80,
	SPINNER_TEXT_MAX = 120, /* cut to the terminal's width as well */
};

struct term {
	int fd;   /* borrowed */
	bool raw; /* changed, one way or the other */
	struct termios saved;
};

/*
 * Keys go through unjudged until term_restore(). Also restored when this process crashes. No
 * terminal: nothing is done, and that is no error.
 */
_must_ int term_raw(struct term *t, int fd, struct err *e);

/* What is typed is not shown until term_restore(); lines and signals are as ever. */
_must_ int term_blind(struct term *t, int fd, struct err *e);
void term_restore(struct term *t);

/* False, and nothing written, where fd is no terminal or does not know. */
bool term_size(int fd, uint16_t *ret_rows, uint16_t *ret_cols);

/* Is this process the one the terminal's keys are for? */
bool term_foreground(int fd);

/* One line on stderr that is redrawn in place and leaves no trace. */
struct spinner {
	bool enabled;
	bool shown;
	unsigned step;
	char text[SPINNER_TEXT_MAX * 4 + 1]; /* escaped */
};

void spinner_say(struct spinner *s, struct span text);
void spinner_tick(struct spinner *s);
void spinner_clear(struct spinner *s);
