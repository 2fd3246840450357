/*
 * proposal_spool: the spooled stream, read once from its beginning, with its digest.
 *
 * Errors    -EIO and the like: the disk's. That it ends is none: then fewer bytes come
 */
#pragma once

#include "base/err.h"
#include "base/own.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

struct spool;

/* The fd is borrowed until spool_free(). window: the most that spool_fill() can have at once. */
_must_ int spool_open(int fd, size_t window, struct spool **ret, struct err *e);
void spool_free(struct spool *s);
OWN_DEFINE(struct spool, spool_free)

/* What is here and not yet taken; valid until the next fill. */
struct span spool_here(const struct spool *s);

/* Reads more behind it. ret_more: there was some. The window must not be full. */
_must_ int spool_fill(struct spool *s, bool *ret_more, struct err *e);

/* Takes n bytes of what is here into the digest. */
_must_ int spool_take(struct spool *s, size_t n, struct err *e);

uint64_t spool_at(const struct spool *s); /* of all that was taken */
uint64_t spool_bytes(const struct spool *s);

/* SHA-256 of all that was taken so far. More may be taken. */
_must_ int spool_digest(const struct spool *s, uint8_t ret[32], struct err *e);
