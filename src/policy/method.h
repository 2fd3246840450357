/*
 * method: HTTP methods as a set in 64 bits, so that a rule's methods are one comparison.
 *
 * Shape     bit i is method_name(i); METHODS_ANY is any method, known or not
 *
 * Hostile   a request's method
 * Source    the IANA HTTP Method Registry
 */
#pragma once

#include "base/buf.h"

enum { METHODS_COUNT = 37 };

#define METHODS_ANY   UINT64_MAX
#define METHODS_KNOWN (((uint64_t)1 << METHODS_COUNT) - 1)

/* The bit of a method as it stands in a request (exact case), or 0: no such method is known. */
uint64_t method_bit(struct span name);

/*
 * What a policy says: a method's name, "read-only" (GET, HEAD, OPTIONS), "write" (those, POST, PUT,
 * PATCH) or "any". GET brings HEAD with it. 0 if it is none of these.
 */
uint64_t method_word(struct span word);

/* "GET, HEAD, OPTIONS"; "any method". */
void method_put(struct buf *b, uint64_t set);

/* The i-th name there is, NULL behind the last: for suggestions. */
const char *method_name(unsigned i);
