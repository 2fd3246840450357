/*
 * routes: asks the kernel where an address leads, to know which ones are the host's own.
 *
 * A list of interface addresses would miss what else the host answers to (a local route of a whole
 * range, the broadcast of a link) and what was added since. The kernel's own answer misses nothing.
 *
 * System calls  socket (before the jail), send, recv; the answer is there when send returns
 * Source        rtnetlink(7), RTM_GETROUTE
 */
#pragma once

#include "base/err.h"
#include "policy/addr.h"

enum route_kind {
	ROUTE_OUT,  /* to another machine */
	ROUTE_HOST, /* to the host itself, to all of a link, or to a group */
	ROUTE_NONE, /* nowhere */
};

struct routes;

/* Opens its socket and asks once: to be called before the jail closes. */
_must_ int routes_new(struct routes **ret, struct err *e);
void routes_free(struct routes *r);
OWN_DEFINE(struct routes, routes_free)

/* -EIO and others: the kernel did not say. Then nothing may be reached. */
_must_ int routes_ask(struct routes *r, const struct policy_addr *a, enum route_kind *ret);
