/*
 * review_tui: the review of a session on a terminal.
 *
 * Theory of operation
 *
 * What is shown is made in three steps, of which only the last knows a terminal: the review's items
 * become a tree (view_tree.h) or lines of hunks (view_diff.h), these are drawn into
 * cells (view_canvas.h), and the cells are handed to ncurses. All text of a guest is made
 * harmless at the second step.
 *
 * Every decision is written down when it is made. So whatever ends this (q, a signal, a terminal
 * that is gone), nothing is lost, and nothing is applied but by the key that applies.
 */
#pragma once

#include "session/review_open.h"

/*
 * Is there a terminal to review on? Both stdin and stdout have to be one that can be drawn on.
 * -ENOTTY, -ENOTSUP: no; the text says why.
 */
_must_ int review_tui_possible(const struct cli *c, struct err *e);

/*
 * Reviews what is open, until the user leaves. Returns the exit status: 0 if nothing waits any more
 * (it was applied, rejected or discarded), CLI_EXIT_PENDING if something does, or CLI_EXIT_ERROR.
 * Says on stdout what came of it, and where there is no terminal how to go on. After a discard
 * o->review is NULL and o->s holds no session any more; review_opened_end() is well with that.
 */
int review_tui_run(struct cli *c, struct review_opened *o);
