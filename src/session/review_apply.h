/*
 * review_apply: applying without a terminal: which changes are taken, and what is said of it.
 */
#pragma once

#include "session/review_open.h"

#include <stdio.h>

/*
 * `berm code --on-exit apply-plain`: accepts the plain edits that nobody has decided on, and
 * applies what is accepted, commits as well. What has changed on the host meanwhile is left out.
 * What is not plain stays undecided. ret_commits_e: an import that failed, or empty.
 */
_must_ int review_apply_plain(struct cli *c, struct review_opened *o, struct review_outcome *ret,
                              struct err *ret_commits_e, struct err *e);

/* What was done, a line for each path that went back, what waits and what to type next. */
void review_text_outcome(struct review_opened *o, const char *verb,
                         const struct review_outcome *done, const struct err *commits_e, FILE *f);

/* CLI_EXIT_PENDING if something waits, else 0. */
int review_exit(struct review_opened *o);
