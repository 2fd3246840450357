/*
 * crash: the terminal as it was, when this process dies of a fault.
 *
 * One terminal at a time. SIGKILL is beyond it, and so is a signal that somebody else handles or
 * ignores (nohup, a sanitizer): that stays as it is.
 */
#pragma once

#include "base/span.h"

#include <termios.h>

enum {
	CRASH_BYTES_MAX = 512,        /* leaving a screen, and a sentence */
	CRASH_STACK_BYTES = 64 << 10, /* a stack that ran over has no room for a handler */
};

/*
 * From now on a fatal signal gives tty_fd (borrowed) its settings `saved` back, writes `bytes` to
 * it, and then ends this process as it would have. More than CRASH_BYTES_MAX are not written.
 */
void crash_watch(int tty_fd, const struct termios *saved, struct span bytes);

/* The terminal is as it was. */
void crash_forget(void);
