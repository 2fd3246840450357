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

/*
 * The static analyzer sees one file at a time. Without this it believes that err_set() may return 0
 * and follows callers down paths where a failure looks like success.
 */
#if defined(__clang_analyzer__) && !defined(ERR_HERE)
#define err_failed_(call)                                                                          \
	__extension__({                                                                            \
		int err_r_ = (call);                                                               \
		if (err_r_ >= 0)                                                                   \
			__builtin_unreachable();                                                   \
		err_r_;                                                                            \
	})
#define err_set(e, code, ...) err_failed_((err_set)(e, code, __VA_ARGS__))
#define err_sys(e, ...)       err_failed_((err_sys)(e, __VA_ARGS__))
#define err_wrap(e, ...)      err_failed_((err_wrap)(e, __VA_ARGS__))
#endif
