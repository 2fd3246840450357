/*
 * tail: the end of a stream that the next piece is looked at with: bytes that were released and
 * bytes that are held.
 */
#pragma once

#include "vault/store_inner.h"

struct tail {
	uint8_t *at;
	size_t len;
	size_t size;
	size_t past; /* of len: released already */
};

void tail_free(struct tail *t);

/* What is held: [past, len). */
static inline size_t tail_held(const struct tail *t)
{
	return t->len - t->past;
}

/* How much is kept of what is released, in front of a cut. */
static inline size_t tail_past(size_t cut)
{
	return cut < SIEVE_PAST ? cut : SIEVE_PAST;
}

/*
 * Keeps of work[0, len) what the next piece has to be seen with, where everything in front of `cut`
 * is released and the rest is held. -ENOMEM.
 */
_must_ int tail_keep(struct tail *t, const uint8_t *work, size_t len, size_t cut);
