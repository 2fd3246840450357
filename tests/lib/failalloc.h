/*
 * failalloc: makes the n-th allocation fail, for every n, until none is left to fail.
 *
 *	FAILALLOC_EACH() {
 *		struct thing *t = NULL;
 *		int r = thing_new(&t, &e);
 *
 *		if (failalloc_hit()) {
 *			CHECK_EQ(r, -ENOMEM);
 *			CHECK(!t);
 *		} else {
 *			CHECK_OK(r, &e);
 *			thing_free(t);
 *		}
 *	}
 *
 * Counts malloc, calloc, realloc and strdup in our own code: the linker turns their calls into the
 * __wrap_ ones here (--wrap), which leaves the C library's inner allocations and the sanitizers'
 * alone. Run under the address sanitizer, the loop also proves that no failure leaks.
 */
#pragma once

#include <stdbool.h>

#define FAILALLOC_EACH() for (failalloc_begin(); failalloc_next();)

void failalloc_begin(void);
bool failalloc_next(void); /* false once a whole round ran without reaching its failure */

/* Did this round's allocation fail? Asking ends the round: later allocations succeed. */
bool failalloc_hit(void);

/* One round by hand: the n-th allocation from here fails, once; 0 disarms. */
void failalloc_at(unsigned long n);
