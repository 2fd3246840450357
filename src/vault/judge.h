/*
 * judge: what the vault thinks of what the gate asks for, by its own copy of the policy and its own
 * knowledge. The gate reads what the guest sends and may have been taken over: each of these would
 * stop it alone.
 *
 * Answers are EGRESS_OK or the failure the gate is told.
 */
#pragma once

#include "egress/egress.h"
#include "policy/policy.h"
#include "vault/pins.h"
#include "vault/routes.h"

struct judge {
	const struct policy *policy; /* NULL: there is none yet, and nothing is allowed */
	struct pins *pins;
	struct routes *routes;
};

struct policy_addr judge_addr(const struct egress_addr *a);
struct egress_addr judge_addr_out(const struct policy_addr *a);

/* What a verdict that denies is called between the two. */
enum egress_fail judge_fail(const struct policy_verdict *v);

/* May this name be looked up? */
enum egress_fail judge_name(const struct judge *j, const struct host_name *name);

/* A name on the way of a lookup: it needs no rule, but none that denies it. */
enum egress_fail judge_alias(const struct judge *j, const struct host_name *name);

/* May an answer have this address? One bad address spoils the whole answer. */
enum egress_fail judge_answer(const struct judge *j, const struct policy_addr *a);

/*
 * What a CONNECT asks for. The names of *ret_ask point to *name, which the caller keeps with it for
 * policy_flow_keeps(): as long as the flow lives.
 */
enum egress_fail judge_connect(const struct judge *j, const struct egress_connect *c,
                               struct host_name *name, const struct host_name **names,
                               struct policy_ask *ret_ask, struct policy_verdict *ret);

/* And a REQUEST. Path and query of *ret_ask point into the head. */
enum egress_fail judge_request(const struct judge *j, const struct egress_request *q,
                               struct host_name *name, const struct host_name **names,
                               struct policy_ask *ret_ask, struct policy_verdict *ret);

/* Does the policy, new since `old`, keep what was allowed so? */
enum egress_fail judge_keeps(const struct judge *j, const struct policy *old,
                             const struct policy_ask *a, bool inspected);
