/*
 * live_egress: what verbs about the network of a sandbox that runs share.
 */
#pragma once

#include "cli/reach.h"
#include "lib/jread.h"
#include "policy/policy.h"

/* A live sandbox's INFO; ret_egress is its "egress", borrowed from that. -ENODEV: no network. */
_must_ int live_egress_info(struct cli *c, const char *ref, struct state_info *ret_who,
                            json_t **ret_info, const json_t **ret_egress, struct err *e);

/* The policy in force, or that at the end of an ended one. -ENODEV: it has no network. */
_must_ int live_egress_policy(struct cli *c, const char *id, struct policy **ret, struct err *e);
