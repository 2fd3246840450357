/*
 * berm_network: a config's network, kept until a start.
 */
#pragma once

#include "api/berm_internal.h"

/* What starts do with it. The plan is the caller's to end. */
_must_ int network_plan(const struct berm_sandbox *sb, const struct api_network *n,
                        struct egress_plan *plan, struct err *e);
void network_keep(struct berm_sandbox *sb, const struct egress_plan *plan);
void network_fini(struct api_network *n);
