/*
 * spawn: fork and exec one of our helper programs with exactly the fds it is to have.
 *
 * Nothing leaks across: fd map[i] arrives as fd i, everything above is closed, signals are reset,
 * the environment is the one given. The child dies with its parent (PR_SET_PDEATHSIG) unless told
 * not to. An exec that fails is reported here, in the parent, with its errno.
 *
 * With own_pids it is PID 1 of a pid namespace of its own, which ends with it, and sees no process
 * outside; where the host does not permit that (an ordinary user needs a user namespace for it) it
 * is an ordinary child. It finds out by getpid() == 1, and its getppid() is then 0. For its parent
 * nothing differs: pid, pidfd, exit code and signals are as ever. Signals without a handler that it
 * sends itself are ignored, so that an abort() shows as a SIGSEGV.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { SPAWN_FDS_MAX = 16 };

struct spawn {
	const char *path;        /* absolute */
	const char *const *argv; /* NULL-ended */
	const char *const *envp; /* NULL-ended; NULL is an empty environment */
	int fds[SPAWN_FDS_MAX];  /* fds[i] becomes fd i in the child; -1 is /dev/null */
	unsigned fd_count;       /* at least 3 */
	bool own_session;        /* setsid: no terminal, no signals from it */
	bool outlive;            /* do not die with the parent thread */
	bool own_pids;           /* a pid namespace of its own, where that is permitted */
	bool orphan;             /* nobody's child here, as a library needs it; implies outlive */
};

/*
 * An orphan is the child of a child that ended at once and never told anybody: it raises no SIGCHLD
 * here, no wait(2) of the caller finds it, and none of the caller's signal or fork handlers runs.
 * Its memory is not copied, so a large caller starts one as fast as a small one. It begins in "/".
 * Where the caller is its own orphans' reaper (PID 1 of a container, PR_SET_CHILD_SUBREAPER) it
 * becomes its child all the same, and waitid(P_PIDFD) is for it; elsewhere that says ECHILD.
 */

/* ret_pidfd becomes readable when the child ends; the caller waits with waitid(P_PIDFD). */
_must_ int spawn_child(const struct spawn *s, pid_t *ret_pid, int *ret_pidfd, struct err *e);
