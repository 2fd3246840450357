/*
 * placeholder: what the guest holds instead of a value. Pure.
 *
 * It begins as the value begins where that tells a client what it has (ghp_, sk-ant-, eyJ...), goes
 * on with characters of the same kinds, and is as long if 128 random bits fit into that length;
 * else it is as long as they need. Over STORE_PLACEHOLDER_MAX it ends there. It is safe without
 * quotes in a URL, JSON, a header, a shell: letters, digits, '-', '_' and, in a JWT, '.'.
 */
#pragma once

#include "base/span.h"

#include <stddef.h>
#include <stdint.h>

enum {
	PLACEHOLDER_BITS = 128,    /* random ones in each: nobody guesses one, none comes twice */
	PLACEHOLDER_ROOM = 2048,   /* STORE_PLACEHOLDER_MAX */
	PLACEHOLDER_DRAW_MAX = 64, /* bytes asked of the source at once */
};

/* Fills ret with random bytes. */
typedef void placeholder_random_fn(void *arg, void *ret, size_t len);

/* Writes one for this value and returns its length, at most PLACEHOLDER_ROOM. */
size_t placeholder_make(struct span value, placeholder_random_fn *random, void *arg,
                        uint8_t ret[PLACEHOLDER_ROOM]);

/* The known prefix that a value begins with, "ghp_"; empty if it has none. */
struct span placeholder_prefix(struct span value);
