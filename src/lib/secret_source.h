/*
 * secret_source: the value of a secret, from where its user keeps it into a sealed memory file.
 *
 * Only that file is handed on: by the command or the library to the supervisor, and by that,
 * unread, to the vault. Here the value stands in one buffer, which is locked, left out of core
 * files and of children, and wiped. The environment's own copy of a variable stays.
 *
 * Hostile   nobody: a source is the user's word. What it says is judged all the same, as it will
 *           stand in a line of HTTP: SECRET_VALUE_MIN to SECRET_VALUE_MAX bytes, no control byte
 *           but the tab, no blank at either end
 * Shape     a memory file of those bytes, sealed against every change, its place at its front
 * Errors    -ENOENT: the source is not there, or has nothing. -EINVAL: what it has is no value.
 *           -ETIMEDOUT, -ECHILD: the command. Texts begin "the secret NAME: " and end with what to
 *           do; a value is never in one
 */
#pragma once

#include "base/err.h"
#include "policy/draft.h"

#include <stdbool.h>

enum {
	SECRET_VALUE_MIN = 8,           /* a shorter text turns up in replies by itself */
	SECRET_VALUE_MAX = 16384,       /* bytes; a token with claims is 4 KiB */
	SECRET_COMMAND_MS = 120 * 1000, /* a person may have to type a passphrase */
	SECRET_COMMAND_WORDS_MAX = 64,
};

struct secret_value {
	int fd;       /* the caller's */
	bool trimmed; /* it ended with line breaks, which are left out */
};

/*
 * Reads what `s` says. envp, NULL-ended, has the variables, PATH for commands, HOME for "~/", and
 * is the commands' own environment. A command runs without a shell, its stdin empty, its stderr
 * ours. Blocks as long as the source does: SECRET_COMMAND_MS for a command.
 */
_must_ int secret_source_open(const struct policy_source *s, const char *const *envp,
                              struct secret_value *ret, struct err *e);

/* From an open file to its end, or with `line` to the end of its first line. */
_must_ int secret_source_read(const char *name, int fd, bool line, struct secret_value *ret,
                              struct err *e);

/* From memory, for a program that has it by other means. */
_must_ int secret_source_copy(const char *name, struct span value, struct secret_value *ret,
                              struct err *e);
