/*
 * err: why something failed, carried by value, so that reporting cannot fail itself.
 *
 * Whoever knows first fills it (err_set, err_sys); a caller may add one context (err_wrap).
 * Only a main or an event loop prints it. `e` may be NULL where the caller needs no reason.
 */
#pragma once

#include "base/own.h"

#include <stdint.h>

enum { ERR_TEXT_MAX = 512 }; /* a path (cut) and two sentences */

struct err {
	int code;                /* negative errno; 0 while nothing failed */
	uint16_t len;            /* bytes in text, without the NUL */
	char text[ERR_TEXT_MAX]; /* "outer: inner", cut if long, always NUL-ended */
};

/* Records a failure. Returns code (a negative errno), so that callers write `return err_set(...)`.
 */
int err_set(struct err *e, int code, const char *fmt, ...) _printf_(3, 4);

/* The same with the current errno, whose description is appended after ": ". Returns -errno. */
int err_sys(struct err *e, const char *fmt, ...) _printf_(2, 3);

/* Puts "context: " in front of what is there. Returns the code already recorded. */
int err_wrap(struct err *e, const char *fmt, ...) _printf_(2, 3);

/* Forgets: back to "nothing failed". */
void err_clear(struct err *e);
