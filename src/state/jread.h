/*
 * jread: strict reads out of the JSON that berm's own processes write for one another.
 *
 * A key that is missing or null leaves the output as it was, so the caller's default stands; a key
 * of another type or range is refused. Every function answers false when it refuses.
 */
#pragma once

#include "base/err.h"
#include "base/span.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* One object and nothing behind it; no key twice, no NUL in texts. -EBADMSG says where. */
_must_ int jread_object(struct span text, json_t **ret, struct err *e);

static inline void jread_free(json_t *o)
{
	json_decref(o);
}
OWN_DEFINE(json_t, jread_free)

/* A text; one that does not fit in size bytes with its NUL is cut between two characters. */
_must_ bool jread_text(const json_t *o, const char *key, char *ret, size_t size);

/* A whole number from 0 to max, which is at most INT64_MAX. */
_must_ bool jread_u64(const json_t *o, const char *key, uint64_t max, uint64_t *ret);
