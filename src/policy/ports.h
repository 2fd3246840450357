/*
 * ports: sets of ports as a few ranges in order.
 */
#pragma once

#include "policy/rule.h"

/* "443" or "8000-8010": decimal, 1 to 65535. */
_must_ bool ports_take(struct span text, struct rule_ports *ret);

/* Adds a range, merged with what it meets. False if there are too many. */
_must_ bool ports_add(struct rule_ports *ports, uint8_t *count, struct rule_ports add);

/* Is every port of b one of a? No ranges are every port here and below. */
bool ports_cover(const struct rule_ports *a, unsigned a_count, const struct rule_ports *b,
                 unsigned b_count);

bool ports_have(const struct rule_ports *ports, unsigned count, uint16_t port);
