/*
 * share: what all that speaks to the user shares: where berm and its state are, what the terminal
 * can do, how berm prints and ends.
 *
 * What a person asked for goes to stdout, everything else to stderr.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "state/paths.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Exit statuses of berm that are not a command's own. */
enum {
	CLI_EXIT_PENDING = 3,      /* done, and changes of a session wait for a decision */
	CLI_EXIT_TIME = 124,       /* a limit of time ended the sandbox */
	CLI_EXIT_ERROR = 125,      /* berm's own failure, and a wrong command line */
	CLI_EXIT_CANNOT_RUN = 126, /* the command is there but cannot be executed */
	CLI_EXIT_NOT_FOUND = 127,
	CLI_EXIT_KILLED = 137,
};

/* Made by main, once. */
struct cli {
	bool json;
	bool in_tty, out_tty, err_tty;
	const char *const *envp; /* of berm itself */
	struct paths paths;      /* after cli_state() or cli_paths() */
	bool have_paths;
	int state_fd; /* after cli_state(); -1 before */
};

/* Finds the installation; the second call is free. */
_must_ int cli_paths(struct cli *c, struct err *e);

/* The state directory, made on first use: c->state_fd. Finds the installation too. */
_must_ int cli_state(struct cli *c, struct err *e);

/* Is stdout a terminal that knows colours, and NO_COLOR not set? */
bool cli_colour(const struct cli *c);

/* Can lines be drawn over on it (one of the *_tty)? Not where TERM is "dumb" or not set. */
bool cli_redraws(const struct cli *c, bool tty);

/* Prints "berm: text" and returns CLI_EXIT_ERROR. */
int cli_fail(const struct err *e);

/* The value of a variable of berm's own environment, or NULL. */
const char *cli_env(const struct cli *c, const char *name);

/* Writes to stdout, whole. EPIPE is success: the reader has had enough. */
_must_ int cli_out(const void *data, size_t len, struct err *e);

/* Outside text into a table or a sentence: escaped, nothing moves the cursor. */
void cli_put_text(FILE *f, const char *text);

/* "3 min", "2 h", "5 d": an age for a column. */
void cli_put_age(struct buf *b, uint64_t then_ns, uint64_t now_ns);
