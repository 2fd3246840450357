/*
 * reach: finding a sandbox by what a person typed, and talking to it.
 */
#pragma once

#include "cli/cli.h"
#include "lib/client.h"
#include "state/state.h"

/* Of verbs that have no command's status to pass on: there is no such sandbox, or it has ended. */
enum { REACH_EXIT_NO_SANDBOX = 3 };

#define REACH_EXITS "Exit status: 0 done; 3 no such sandbox, or it has ended; 125 anything else.\n"

/* Prints "berm: text" and returns that for -ESRCH, else CLI_EXIT_ERROR. */
int reach_fail(const struct err *e);

/*
 * By name, id or the beginning of an id; ended ones too if `ended`. -ESRCH, here and below: there
 * is none, or it has ended; other errors than these are no word about the sandbox.
 */
_must_ int reach_find(struct cli *c, const char *ref, bool ended, struct state_info *ret,
                      struct err *e);

/* Finds a live one and opens its socket; the fd is the caller's. ret_info may be NULL. */
_must_ int reach_dial(struct cli *c, const char *ref, struct state_info *ret_info, int *ret_fd,
                      struct err *e);

/* The same, with a client around it. */
_must_ int reach_client(struct cli *c, const char *ref, struct state_info *ret_info,
                        struct client **ret_client, struct err *e);

/* The supervisor's INFO, NUL-ended JSON; the caller's to free. */
_must_ int reach_info(struct client *client, char **ret_json, struct err *e);

/* The record of an ended sandbox, NUL-ended JSON; the caller's to free. */
_must_ int reach_record(struct cli *c, const char *id, char **ret_json, struct err *e);

/* Ends the sandbox and waits until its supervisor has closed: then nothing of it is left. */
_must_ int reach_stop(struct client *client, uint32_t grace_ms, struct err *e);
