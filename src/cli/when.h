/*
 * when: times as people write them: how long ago, or a day or time of RFC 3339.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <stdint.h>

/*
 * "10m" (so long before now_ms; see units.h), "2026-01-31", "2026-01-31T12:00",
 * "2026-01-31T12:00:00.5+01:00"; local time if no zone (Z, +HH:MM) is named. Milliseconds since
 * 1970. -EINVAL says which forms there are.
 */
_must_ int when_parse(const char *text, uint64_t now_ms, uint64_t *ret_ms, struct err *e);

/* "2026-01-31T12:00:00.000Z" */
void when_put(struct buf *b, uint64_t ms);
