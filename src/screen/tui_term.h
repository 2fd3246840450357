/*
 * review_tui_term: the terminal, by ncurses. The only file that knows it.
 */
#pragma once

#include "screen/view_canvas.h"

#include "base/err.h"

/* Keys are characters, or one of these, which are none. */
enum tui_key {
	TUI_KEY_BASE = 0x200000,
	TUI_KEY_UP,
	TUI_KEY_DOWN,
	TUI_KEY_LEFT,
	TUI_KEY_RIGHT,
	TUI_KEY_PAGE_UP,
	TUI_KEY_PAGE_DOWN,
	TUI_KEY_HOME,
	TUI_KEY_END,
	TUI_KEY_ENTER,
	TUI_KEY_BACKSPACE,
	TUI_KEY_BACK_TAB,
	TUI_KEY_ESCAPE,
	TUI_KEY_REDRAW, /* ctrl-l */
	TUI_KEY_RESIZE, /* the size is another, or the screen has to be drawn anew */
	TUI_KEY_LEAVE,  /* ctrl-c, ctrl-d, a signal that ends, the terminal is gone */
	TUI_KEY_OTHER,
};

struct tui_term;

/*
 * Takes the terminal on stdin and stdout. INT, TERM, HUP, QUIT, TSTP and WINCH are blocked until it
 * is given back, and become keys. -ENOTTY, -ENOTSUP: it cannot be drawn on.
 */
_must_ int tui_term_open(bool colour, struct tui_term **ret, struct err *e);
/* As it was. */
void tui_term_free(struct tui_term *t);
OWN_DEFINE(struct tui_term, tui_term_free)

void tui_term_size(const struct tui_term *t, unsigned *ret_rows, unsigned *ret_cols);
/* Of a character, where the terminal shows more than ASCII; else NULL. */
shown_width_fn *tui_term_width(const struct tui_term *t);
/* Forgets what is on the screen, so that all of it is drawn. */
void tui_term_forget(struct tui_term *t);
void tui_term_show(struct tui_term *t, const struct view_canvas *c);
/* Waits for a key. */
uint32_t tui_term_key(struct tui_term *t);

/* Could it be taken? As tui_term_open(), and nothing is touched. */
_must_ int tui_term_check(const char *term, struct err *e);
