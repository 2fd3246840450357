/*
 * ck: arithmetic on numbers from outside. Each answers true and writes only when it is exact.
 */
#pragma once

#include "base/own.h"

#include <stdbool.h>
#include <stdint.h>

_must_ static inline bool ck_add(uint64_t a, uint64_t b, uint64_t *ret)
{
	uint64_t got;

	if (__builtin_add_overflow(a, b, &got))
		return false;
	*ret = got;
	return true;
}

_must_ static inline bool ck_sub(uint64_t a, uint64_t b, uint64_t *ret)
{
	if (b > a)
		return false;
	*ret = a - b;
	return true;
}

_must_ static inline bool ck_mul(uint64_t a, uint64_t b, uint64_t *ret)
{
	uint64_t got;

	if (__builtin_mul_overflow(a, b, &got))
		return false;
	*ret = got;
	return true;
}

/* Do `len` bytes from `off` lie within `size`? */
_must_ static inline bool ck_range(uint64_t off, uint64_t len, uint64_t size)
{
	return off <= size && len <= size - off;
}
