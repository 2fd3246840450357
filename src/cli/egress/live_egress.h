/*
 * live_egress: what verbs about the network of a sandbox that runs share.
 */
#pragma once

#include "cli/reach.h"
#include "policy/policy.h"
#include "state/jread.h"

/* For scripts, and the same for all of these verbs. */
enum {
	EXIT_NO_SANDBOX = 3, /* or it has ended */
	EXIT_TAKEN = 4,      /* a port, or the policy's generation */
	EXIT_NO_NETWORK = 5, /* it was started without one */
};

#define LIVE_EGRESS_EXITS                                                                          \
	"Exit status: 0 done; 3 no such sandbox, or it has ended; 5 it has no network;\n"          \
	"125 anything else.\n"

/* Prints "berm: text" and returns one of these, or CLI_EXIT_ERROR. */
int live_egress_fail(const struct err *e);

/* An ended one counts if `ended`. -ESRCH: there is none. */
_must_ int live_egress_find(struct cli *c, const char *ref, bool ended, struct state_info *ret,
                            struct err *e);

/* A connection for lib/egress_ask.h. -ESRCH, -ENODEV as the others. */
_must_ int live_egress_open(struct cli *c, const char *id, int *ret_fd, struct err *e);

/*
 * A live sandbox's INFO; ret_egress is its "egress", borrowed from that. -ESRCH: there is no such
 * sandbox, or it has ended; -ENODEV: it has no network.
 */
_must_ int live_egress_info(struct cli *c, const char *ref, struct state_info *ret_who,
                            json_t **ret_info, const json_t **ret_egress, struct err *e);

/* The policy in force, or that at the end of an ended one. -ENODEV: it has no network. */
_must_ int live_egress_policy(struct cli *c, const char *id, struct policy **ret, struct err *e);
