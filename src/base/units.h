/*
 * units: the numbers people write. Sizes: 512, 64KiB, 1MiB, 2GiB, also K/M/G/T and KB... (all
 * powers of 1024, as docker has them). Durations: 500ms, 30s, 5min (or 5m), 2h, 1d; a bare number
 * is seconds. Pure: 0, or -EINVAL with a message that names the accepted forms, or -ERANGE.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

_must_ int units_parse_size(const char *text, uint64_t *ret_bytes, struct err *e);
_must_ int units_parse_duration(const char *text, uint64_t *ret_ms, struct err *e);
_must_ int units_parse_count(const char *text, uint64_t min, uint64_t max, uint64_t *ret,
                             struct err *e);

/* "512 MiB", "1.5 GiB"; "340 ms", "2.5 s", "4 min 5 s". */
void units_put_size(struct buf *b, uint64_t bytes);
void units_put_duration(struct buf *b, uint64_t ms);
