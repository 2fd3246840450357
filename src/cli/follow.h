/*
 * follow: reading on in the files of a live sandbox, until it has ended and all is read.
 *
 * inotify says when its directory changes, and the supervisor's socket when there is no more to
 * come: it closes after the last byte is written. So nothing is polled on a timer.
 */
#pragma once

#include "cli/cli.h"
#include "lib/client.h"

struct follow {
	struct client *client; /* NULL: not begun */
	int watch_fd;
};

/* Reads what is there by now. Negative: that ends it. */
typedef int follow_drain(void *user, struct err *e);

/* Begin before the first reading, or what comes in between is missed. dir_fd is borrowed. */
_must_ int follow_begin(struct cli *c, const char *id, int dir_fd, struct follow *ret,
                        struct err *e);

/* 0: the sandbox has ended; what it wrote last may still have to be read. */
_must_ int follow_run(struct follow *f, follow_drain *drain, void *user, struct err *e);

void follow_fini(const struct follow *f);

static inline void follow_fini_scope(const struct follow *f)
{
	follow_fini(f);
}
