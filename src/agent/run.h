/*
 * run: the last steps of an exec, inside the child: user, terminal, limits, directory, execve.
 */
#pragma once

#include "agent/child.h"

/* Becomes the command in the mail, or reports why not (child.h) and ends. */
_Noreturn void run_exec(struct mail *mail);
