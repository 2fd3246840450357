/*
 * live: staying with a sandbox of our own from its start to its end, or to its start with -d: what
 * `run` and `restore` do.
 */
#pragma once

#include "cli/session.h"
#include "lib/start.h"
#include "state/spec.h"

/* --result: "fd:N" or a path. Opened first, so that a wrong one is told before anything ran. */
_must_ int live_open_result(const char *where, int *ret_fd, struct err *e);

/* Takes the fds of st. result_fd -1: no result is written. Returns the exit status of berm. */
int live_run(struct session *s, struct cli *c, const struct spec *spec, struct started *st,
             int result_fd);
