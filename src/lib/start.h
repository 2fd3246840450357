/*
 * start: makes a sandbox's directory and starts its supervisor.
 */
#pragma once

#include "base/err.h"
#include "lib/egress_plan.h"
#include "state/paths.h"
#include "state/spec.h"

/* The files a supervisor is born with. None is CLOEXEC: it sees to that first. */
enum start_fd {
	START_FD_CONTROL = 3, /* its end of control_fd */
	START_FD_SPEC = 4,    /* spec_put() bytes in a sealed memory file, at its front */
	START_FD_STATE = 5,   /* the state directory */
	START_FD_SANDBOX = 6, /* sandboxes/<id> */
	START_FD_DISK = 7,    /* the image, read-only */
	START_FD_LOCK = 8,    /* held; never to be inherited by anybody else, never unlocked */
	/* of a copy (spec_is_copy): what it is a copy of, each with an offset of its own */
	START_FD_RAM = 9,
	START_FD_SAVED = 10, /* device state */
	START_FD_SCRATCH = 11,
	START_FD_EGRESS = 12, /* of one with a network: egress_plan_send() */
	/* of a session (spec.workspace) */
	START_FD_SESSION = 13,      /* its directory */
	START_FD_SESSION_LOCK = 14, /* held, as START_FD_LOCK is */
	START_FD_COUNT = 15,
};

/* On their way: each reads all of its memory, and uses a CPU for it. */
enum { START_COPIES_AT_ONCE = 4 };

struct started {
	char id[SPEC_ID_LEN + 1];
	int control_fd; /* wire frames; the caller's */
	int pidfd;      /* of the supervisor; the caller's */
};

/*
 * Starts the supervisor for `spec`; the sandbox is then on its way, and what becomes of it arrives
 * on control_fd (EXEC_OK, EXEC_ERR or END). disk_fd is the image's read-only disk, borrowed. net,
 * borrowed, goes with spec.network; where that has none, nothing is let through. A foreground
 * sandbox ends when control_fd closes. -EEXIST: the name is taken (the text says by
 * which id). On failure nothing is left.
 *
 * The supervisor's arguments are its name and the id, its environment BERM_DEBUG=1 or nothing, and
 * its files START_FD_CONTROL and those after it; 0, 1 and (unless BERM_DEBUG=1) 2 are /dev/null.
 */
_must_ int start_sandbox(const struct paths *p, int state_fd, int disk_fd, const struct spec *spec,
                         const struct egress_plan *net, struct started *ret, struct err *e);

/*
 * The same for a copy of the saved guest `from`, whose fds are read but stay open here. The spec is
 * one of snapshot_spec(). embedded: as start_embedded().
 */
struct saved;
_must_ int start_copy(const struct paths *p, int state_fd, int disk_fd, const struct spec *spec,
                      const struct saved *from, const struct egress_plan *net, bool embedded,
                      struct started *ret, struct err *e);

/*
 * The same for a session that is locked and packed (or, with spec.rescue, uncollected). From here
 * on the lock is the supervisor's: s has it no longer. It writes session.json, and lets go of the
 * lock before END is told. On failure s is as it was.
 */
struct work_session;
_must_ int start_session(const struct paths *p, int state_fd, int disk_fd, const struct spec *spec,
                         const struct egress_plan *net, struct work_session *s, struct started *ret,
                         struct err *e);

/*
 * The same for a program that is not berm: the supervisor is nobody's child here (orphan in
 * spawn.h), nothing is read from the environment, and the supervisor's is empty. Of ret, pidfd is
 * there for a caller that is its orphans' reaper.
 */
_must_ int start_embedded(const struct paths *p, int state_fd, int disk_fd, const struct spec *spec,
                          const struct egress_plan *net, struct started *ret, struct err *e);
