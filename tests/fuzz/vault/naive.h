/*
 * naive: what src/vault/needle.c finds, by comparing every form at every place, with coders of its
 * own.
 */
#pragma once

#include "base/span.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { NAIVE_FORM_MAX = 400, NAIVE_FORMS = 8 };

struct naive_form {
	size_t len;
	uint8_t at[NAIVE_FORM_MAX];
};

static inline void must(bool ok)
{
	if (!ok)
		abort();
}

/* base64 of a text behind `align` other bytes, without the characters that they have a part in. */
static inline void naive_base64(struct span t, unsigned align, const char *last,
                                struct naive_form *ret)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	size_t bits = 8 * (align + t.len);

	ret->len = 0;
	for (size_t bit = 0; bit + 6 <= bits; bit += 6) {
		unsigned v = 0;

		if (bit < 8 * (size_t)align)
			continue;
		for (size_t k = bit; k < bit + 6; k++)
			v = v << 1 | (t.at[k / 8 - align] >> (7 - k % 8) & 1);
		ret->at[ret->len++] = (uint8_t)(v < 62 ? digits[v] : last[v - 62]);
	}
}

static inline void naive_forms(struct span t, struct naive_form ret[NAIVE_FORMS])
{
	static const char hex[] = "0123456789abcdef";

	must(2 * t.len <= NAIVE_FORM_MAX);
	memcpy(ret[0].at, t.at, t.len);
	ret[0].len = t.len;
	for (size_t i = 0; i < t.len; i++) {
		ret[1].at[2 * i] = (uint8_t)hex[t.at[i] >> 4];
		ret[1].at[2 * i + 1] = (uint8_t)hex[t.at[i] & 15];
	}
	ret[1].len = 2 * t.len;
	for (unsigned align = 0; align < 3; align++) {
		naive_base64(t, align, "+/", &ret[2 + align]);
		naive_base64(t, align, "-_", &ret[5 + align]);
	}
}

static inline uint8_t naive_fold(uint8_t c)
{
	return (uint8_t)(c >= 'A' && c <= 'Z' ? c + 32 : c);
}

static inline bool naive_has(struct span hay, struct span needle)
{
	for (size_t at = 0; at + needle.len <= hay.len; at++) {
		size_t i = 0;

		while (i < needle.len && naive_fold(hay.at[at + i]) == naive_fold(needle.at[i]))
			i++;
		if (i == needle.len)
			return true;
	}
	return false;
}

static inline bool naive_any(struct span hay, const struct naive_form forms[NAIVE_FORMS])
{
	for (int i = 0; i < NAIVE_FORMS; i++)
		if (naive_has(hay, span_of(forms[i].at, forms[i].len)))
			return true;
	return false;
}

/* How long the next piece is: from the input's own bytes, so that the fuzzer chooses. */
static inline size_t naive_piece(struct span in, size_t at, unsigned salt)
{
	size_t n = 1 + (in.at[at] * 7u + salt * 13u) % 97u;

	return n < in.len - at ? n : in.len - at;
}
