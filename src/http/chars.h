/*
 * chars: the byte classes of RFC 9110 and RFC 3986.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
	CHAR_TOKEN = 1,      /* RFC 9110, 5.6.2 */
	CHAR_UPPER = 2,      /* A to Z */
	CHAR_VALUE = 4,      /* field content: visible, SP, HTAB, and bytes above 127 */
	CHAR_UNRESERVED = 8, /* RFC 3986, 2.3 */
	CHAR_PATH = 16,      /* pchar without ';' and '%': stays as it is in a canonical path */
	CHAR_ENCODE = 32,    /* no pchar, or ';': becomes an escape in a canonical path */
	CHAR_QUERY = 64,     /* visible ASCII but '#' and '%' */
	CHAR_HEX = 128,
};

/* clang-format off: a table is read by its columns */
static const uint8_t char_class[256] = {
	['\t'] = CHAR_VALUE,
	[' '] = CHAR_VALUE,
	['0' ... '9'] =
		CHAR_TOKEN | CHAR_VALUE | CHAR_UNRESERVED | CHAR_PATH | CHAR_QUERY | CHAR_HEX,
	['A' ... 'F'] = CHAR_TOKEN | CHAR_UPPER | CHAR_VALUE | CHAR_UNRESERVED | CHAR_PATH |
	                CHAR_QUERY | CHAR_HEX,
	['G' ... 'Z'] =
		CHAR_TOKEN | CHAR_UPPER | CHAR_VALUE | CHAR_UNRESERVED | CHAR_PATH | CHAR_QUERY,
	['a' ... 'f'] =
		CHAR_TOKEN | CHAR_VALUE | CHAR_UNRESERVED | CHAR_PATH | CHAR_QUERY | CHAR_HEX,
	['g' ... 'z'] = CHAR_TOKEN | CHAR_VALUE | CHAR_UNRESERVED | CHAR_PATH | CHAR_QUERY,
	['-'] = CHAR_TOKEN | CHAR_VALUE | CHAR_UNRESERVED | CHAR_PATH | CHAR_QUERY,
	['.'] = CHAR_TOKEN | CHAR_VALUE | CHAR_UNRESERVED | CHAR_PATH | CHAR_QUERY,
	['_'] = CHAR_TOKEN | CHAR_VALUE | CHAR_UNRESERVED | CHAR_PATH | CHAR_QUERY,
	['~'] = CHAR_TOKEN | CHAR_VALUE | CHAR_UNRESERVED | CHAR_PATH | CHAR_QUERY,
	['!'] = CHAR_TOKEN | CHAR_VALUE | CHAR_PATH | CHAR_QUERY,
	['$'] = CHAR_TOKEN | CHAR_VALUE | CHAR_PATH | CHAR_QUERY,
	['&'] = CHAR_TOKEN | CHAR_VALUE | CHAR_PATH | CHAR_QUERY,
	['\''] = CHAR_TOKEN | CHAR_VALUE | CHAR_PATH | CHAR_QUERY,
	['*'] = CHAR_TOKEN | CHAR_VALUE | CHAR_PATH | CHAR_QUERY,
	['+'] = CHAR_TOKEN | CHAR_VALUE | CHAR_PATH | CHAR_QUERY,
	['#'] = CHAR_TOKEN | CHAR_VALUE,
	['%'] = CHAR_TOKEN | CHAR_VALUE,
	['^'] = CHAR_TOKEN | CHAR_VALUE | CHAR_ENCODE | CHAR_QUERY,
	['`'] = CHAR_TOKEN | CHAR_VALUE | CHAR_ENCODE | CHAR_QUERY,
	['|'] = CHAR_TOKEN | CHAR_VALUE | CHAR_ENCODE | CHAR_QUERY,
	['('] = CHAR_VALUE | CHAR_PATH | CHAR_QUERY,
	[')'] = CHAR_VALUE | CHAR_PATH | CHAR_QUERY,
	[','] = CHAR_VALUE | CHAR_PATH | CHAR_QUERY,
	['='] = CHAR_VALUE | CHAR_PATH | CHAR_QUERY,
	[':'] = CHAR_VALUE | CHAR_PATH | CHAR_QUERY,
	['@'] = CHAR_VALUE | CHAR_PATH | CHAR_QUERY,
	['/'] = CHAR_VALUE | CHAR_QUERY,
	['?'] = CHAR_VALUE | CHAR_QUERY,
	['\\'] = CHAR_VALUE | CHAR_QUERY,
	[';'] = CHAR_VALUE | CHAR_ENCODE | CHAR_QUERY,
	['"'] = CHAR_VALUE | CHAR_ENCODE | CHAR_QUERY,
	['<'] = CHAR_VALUE | CHAR_ENCODE | CHAR_QUERY,
	['>'] = CHAR_VALUE | CHAR_ENCODE | CHAR_QUERY,
	['['] = CHAR_VALUE | CHAR_ENCODE | CHAR_QUERY,
	[']'] = CHAR_VALUE | CHAR_ENCODE | CHAR_QUERY,
	['{'] = CHAR_VALUE | CHAR_ENCODE | CHAR_QUERY,
	['}'] = CHAR_VALUE | CHAR_ENCODE | CHAR_QUERY,
	[0x80 ... 0xff] = CHAR_VALUE,
};
/* clang-format on */

static inline bool char_is(uint8_t c, unsigned class_)
{
	return (char_class[c] & class_) != 0;
}

static inline uint8_t char_lower(uint8_t c)
{
	return char_is(c, CHAR_UPPER) ? (uint8_t)(c + ('a' - 'A')) : c;
}

/* The value of a digit for which CHAR_HEX holds. */
static inline uint8_t char_hex(uint8_t c)
{
	return (uint8_t)(c <= '9' ? c - '0' : char_lower(c) - 'a' + 10);
}
