/*
 * exec_env: environment variables that are added to a command on its way into the guest.
 */
#pragma once

#include "wire/wire.h"

struct exec_var {
	struct span name, value;
};

/*
 * Adds them to the EXEC that lies in `out` from `start` to its end: each that is not set there, by
 * whomever and to whatever. Of no effect on what is no EXEC; one that gets too long for the wire is
 * left as it was.
 */
void exec_env_add(struct buf *out, size_t start, const struct exec_var *vars, size_t count);

/*
 * The same, but whatever they are set to there goes first, unless it is nothing: a variable of a
 * secret's name that came along holds the secret.
 */
void exec_env_replace(struct buf *out, size_t start, const struct exec_var *vars, size_t count);
