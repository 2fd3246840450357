/*
 * pins: which addresses the vault itself gave for which name.
 *
 * A name is resolved once and dialled by address, so a zone that changes its answer between the two
 * gains nothing. Pins do not end with time, for a connection that lives longer than the answer it
 * began with goes on; the least used name goes when there is no room, and a name that the policy
 * does not cover any more.
 */
#pragma once

#include "base/err.h"
#include "policy/policy.h"

struct pins;

_must_ int pins_new(unsigned names_max, struct pins **ret, struct err *e);
void pins_free(struct pins *p);
OWN_DEFINE(struct pins, pins_free)

/* Adds what an answer had; of more than VAULT_PIN_ADDRESSES_MAX the oldest go. -ENOMEM. */
_must_ int pins_give(struct pins *p, const struct host_name *name, const struct policy_addr *addr,
                     unsigned count);

/* Was this address given for this name? Marks the name as used. */
bool pins_have(struct pins *p, const struct host_name *name, const struct policy_addr *addr);

/* Forgets the names that may not be looked up any more. */
void pins_sweep(struct pins *p, const struct policy *policy);

unsigned pins_count(const struct pins *p);
