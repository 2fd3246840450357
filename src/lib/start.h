/*
 * start: makes a sandbox's directory and starts its supervisor.
 */
#pragma once

#include "base/err.h"
#include "lib/paths.h"
#include "lib/spec.h"

struct started {
	char id[SPEC_ID_LEN + 1];
	int control_fd; /* wire frames; the caller's */
	int pidfd;      /* of the supervisor; the caller's */
};

/*
 * Starts the supervisor for `spec`; the sandbox is then on its way, and what becomes of it arrives on control_fd
 * (EXEC_OK, EXEC_ERR or END). disk_fd is the image's read-only disk, borrowed. A foreground sandbox ends
 * when control_fd closes. -EEXIST: the name is taken (the text says by which id).
 */
_must_ int start_sandbox(const struct paths *p, int state_fd, int disk_fd, const struct spec *spec,
                         struct started *ret, struct err *e);
