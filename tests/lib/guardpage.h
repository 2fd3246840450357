/*
 * guardpage: test input whose last byte is the last byte of readable memory.
 *
 * A parser that reads one byte too far dies at once, with or without a sanitizer.
 */
#pragma once

#include "base/span.h"

#include <stddef.h>
#include <stdint.h>

/* A writable copy of data that ends against a PROT_NONE page. Freed by guard_free or at exit. */
uint8_t *guard_copy(const void *data, size_t len);
void guard_free(uint8_t *at, size_t len);

static inline struct span guard_span(const void *data, size_t len)
{
	return span_of(guard_copy(data, len), len);
}
