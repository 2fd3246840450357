/*
 * needle: finds any of many texts, in any of the forms in which bytes are written, at once. Pure.
 *
 * Theory of operation. Each text has eight needles: itself, its hex, and its base64 at the three
 * alignments in two alphabets, without the characters at either end that depend on neighbours. Let
 * the shortest needle have m bytes and step be m - 3. Then every occurrence of a needle, wherever
 * it begins, has one of its first `step` four-byte groups at a multiple of step. So only each
 * step-th group of the haystack is looked at: hashed, and asked of a bit table. What passes is
 * looked up in a hash table of (group, needle, offset) and compared byte by byte. Nothing is kept
 * between calls, so a caller that cuts a stream repeats the end of the last cut: needle_tail()
 * says from where.
 *
 * Case      of letters makes no difference, in any form: a hash that folds is cheaper than tables
 *           for both, and what it finds beyond the exact form leaks nearly as much
 * Memory    one struct needle_set, about 90 KiB, that needs no other: a secret's set stands in
 *           locked memory. Texts are borrowed and stay where they are
 * Cost      a hash for each step bytes; where groups of needles stand close, a comparison for each
 */
#pragma once

#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	NEEDLE_TEXTS_MAX = 128, /* 64 values and 64 that were replaced */
	NEEDLE_TEXT_MIN = 8,
	NEEDLE_TEXT_MAX = 16384,
	NEEDLE_KINDS = 8,
	NEEDLES_MAX = NEEDLE_TEXTS_MAX * NEEDLE_KINDS,
	NEEDLE_GRAMS_MAX = 4 * NEEDLES_MAX, /* fewer needles: a longer step */
	NEEDLE_STEP_MAX = 17,
	NEEDLE_GRAM = 4, /* bytes; the shortest beginning that needle_tail() sees */
	NEEDLE_BUCKETS = 4096,
	NEEDLE_FILTER_BITS = 1 << 16,
};

enum needle_kind {
	NEEDLE_PLAIN,
	NEEDLE_HEX,
	NEEDLE_BASE64,                        /* and the next two: alignments 1 and 2 */
	NEEDLE_BASE64URL = NEEDLE_BASE64 + 3, /* the same */
};

struct needle {
	uint16_t text; /* index */
	uint16_t len;
	uint8_t kind; /* enum needle_kind */
};

struct needle_gram {
	uint32_t bytes; /* folded */
	uint16_t needle;
	uint16_t next; /* index + 1 in the same bucket; 0: none */
	uint8_t off;
};

struct needle_set {
	unsigned count; /* of needles; 0: nothing is found */
	unsigned grams_count;
	unsigned step;
	size_t len_max;  /* of the longest needle */
	size_t text_max; /* of the longest text */
	bool has[256];   /* bytes that stand in a needle, letters in either case */
	struct span texts[NEEDLE_TEXTS_MAX];
	struct needle needles[NEEDLES_MAX];
	uint64_t filter[NEEDLE_FILTER_BITS / 64];
	uint16_t buckets[NEEDLE_BUCKETS]; /* index + 1 */
	struct needle_gram grams[NEEDLE_GRAMS_MAX];
};

struct needle_match {
	size_t at;
	uint16_t needle;
};

/* Texts of NEEDLE_TEXT_MIN to NEEDLE_TEXT_MAX bytes, at most NEEDLE_TEXTS_MAX. */
void needle_set_build(struct needle_set *s, const struct span *texts, unsigned count);

/* How long the form of a text of `len` bytes is. */
size_t needle_len(enum needle_kind kind, size_t len);

/*
 * The i-th byte of the form, for i under needle_len(). A text shorter than `len` goes on with 'x':
 * so a placeholder takes the place of a value of another length.
 */
uint8_t needle_char(enum needle_kind kind, struct span text, size_t i);

/*
 * Occurrences in `hay`, at most max, in no strict order. Begins at *from, which becomes where to go
 * on, or hay.len when all were found; then what was found last may come again.
 */
unsigned needle_find(const struct needle_set *s, struct span hay, size_t *from,
                     struct needle_match *ret, unsigned max);

/* An end of a text that is the beginning of a needle. */
struct needle_tail {
	size_t at;     /* where it begins; the text's length if there is none */
	uint16_t text; /* whose needle it is */
	size_t known;  /* whole bytes of that text which it gives away */
};

/*
 * The longest end of `hay`, at `from` or behind it, that is the beginning of a needle, and no whole
 * one, of at least NEEDLE_GRAM bytes. of: by text, whose needles count; NULL: all.
 */
struct needle_tail needle_tail(const struct needle_set *s, struct span hay, size_t from,
                               const bool *of);
