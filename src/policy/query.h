/*
 * query: parameters of a request against what a rule says of them.
 *
 * Servers differ in how they read a query: some split at ';' too, most take '+' for a blank, and of
 * a repeated parameter some take the first and some the last. So a rule that allows has to hold for
 * every occurrence however it is split, and one that denies needs a single one.
 *
 * Hostile   the query
 */
#pragma once

#include "base/span.h"
#include "policy/limits.h"

enum query_mode {
	QUERY_PLAIN,   /* as the rule is meant: EVERY in one that allows, SOME in one that denies */
	QUERY_SOME,    /* at least one occurrence matches */
	QUERY_EVERY,   /* there is one, and all match */
	QUERY_ONCE,    /* there is exactly one, and it matches */
	QUERY_MISSING, /* there is none */
	QUERY_MODES,
};

struct query_test {
	uint8_t mode; /* enum query_mode, not QUERY_PLAIN */
	struct span name;
	const struct span *values; /* patterns, see glob_value_match(); none means any value */
	unsigned values_count;
};

/*
 * Does it hold? What is ambiguous (a ';', more than POLICY_PARTS_MAX parameters) is read as `deny`
 * would have it when deny is set, else as the opposite.
 */
bool query_holds(const struct query_test *t, struct span query, bool deny);
