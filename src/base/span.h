/*
 * span: bytes somebody else owns, and the readers that take values off their front.
 *
 * Every take_* advances the span and returns true, or leaves span and output as they were and
 * returns false. A parser is a chain of them.
 */
#pragma once

#include "base/own.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct span {
	const uint8_t *at;
	size_t len;
};

static inline struct span span_of(const void *at, size_t len)
{
	return (struct span){ .at = at, .len = len };
}

/* The bytes of a NUL-ended string, without the NUL. */
struct span span_str(const char *s);

bool span_equal(struct span a, struct span b);
bool span_is(struct span a, const char *literal);

_must_ bool take_u8(struct span *s, uint8_t *ret);
_must_ bool take_le16(struct span *s, uint16_t *ret);
_must_ bool take_le32(struct span *s, uint32_t *ret);
_must_ bool take_le64(struct span *s, uint64_t *ret);
_must_ bool take_be16(struct span *s, uint16_t *ret);
_must_ bool take_be32(struct span *s, uint32_t *ret);
_must_ bool take_bytes(struct span *s, void *ret, size_t len);
_must_ bool take_span(struct span *s, size_t len, struct span *ret);

/* A le16 length of at most len_max, then that many bytes. */
_must_ bool take_str16(struct span *s, size_t len_max, struct span *ret);

/* Up to and without the next `delim`, which is consumed; without one: the whole rest. False at the
 * end. */
_must_ bool take_until(struct span *s, char delim, struct span *ret);

/* An unsigned decimal number that is the whole span: no sign, no space, no overflow, not empty. */
_must_ bool span_to_u64(struct span s, uint64_t *ret);
