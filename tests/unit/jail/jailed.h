/*
 * jailed: runs one act in a child that has closed a jail, and tells how the child ended.
 */
#pragma once

#include "jail/jail.h"
#include "test.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

enum {
	JAILED_ENTER_FAILED = 250, /* exit code: the jail did not close */
	JAILED_OK = 0,             /* the act was allowed */
};

/* 0 (allowed), or the errno it met. At most 200. */
typedef int jailed_act(void *ctx);

/* What became of it: an exit code (0 or errno), or 1000 + the signal that killed it. */
static inline int jailed_run(const struct jail_profile *p, const struct jail_params *params,
                             jailed_act *act, void *ctx)
{
	int status = 0;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		struct err e = { 0 };

		if (jail_enter(p, params, NULL, &e) < 0) {
			(void)!write(2, e.text, e.len);
			_exit(JAILED_ENTER_FAILED);
		}
		_exit(act(ctx));
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

#define JAILED_KILLED (1000 + SIGSYS)
