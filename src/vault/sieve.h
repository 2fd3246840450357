/*
 * sieve: one piece of a stream against a set of needles, in every view in which they are looked
 * for. Pure.
 *
 * The views, each with the needles of all forms: as it is; lines joined; escapes undone, and that
 * with lines joined; escapes undone twice, and that with lines joined; quoted-printable undone, and
 * that with lines joined. A view that would not differ is not made, so plain text is looked at
 * once.
 */
#pragma once

#include "egress/egress.h"
#include "vault/needle.h"
#include "vault/view.h"

enum {
	SIEVE_SLICE = 16 << 10, /* new bytes at once: what is made of them stays in the cache */
	/* of what is held for each byte of a value: %26%2365%3B is an escape escaped */
	SIEVE_HELD_PER_BYTE = 12,
	SIEVE_HELD_MAX = SIEVE_HELD_PER_BYTE * NEEDLE_TEXT_MAX,
	/* of what was released: shorter beginnings than NEEDLE_GRAM are there, escaped too */
	SIEVE_PAST = 64,
	SIEVE_WORK = SIEVE_PAST + SIEVE_HELD_MAX + SIEVE_SLICE,
	SIEVE_VIEWS = 4,
	SIEVE_FOUND_MAX = 256, /* at once; then the view is looked at again */
};

/* Scratch, for one caller at a time. About 11 MiB of addresses, of which what is used counts. */
struct sieve {
	uint8_t work[SIEVE_WORK]; /* the caller's, for `text` */
	uint8_t texts[SIEVE_VIEWS][SIEVE_WORK];
	struct view_segment segments[SIEVE_VIEWS][SIEVE_WORK];
	struct needle_match found[SIEVE_FOUND_MAX];
	/* the caller's, for sieve_mask(): by text, whether its beginning makes a tail; NULL: all */
	const bool *holds;
	/* of the call: */
	const struct needle_set *set;
	const struct span *masks;
	const struct view *base;
	uint8_t *text;
	size_t len;
	size_t tail;
	struct needle_tail tail_of;
	bool any;
	uint16_t owner; /* of the first that was found */
	uint8_t form;
	void (*note)(void *arg, unsigned owner, enum egress_form form);
	void *arg;
};

/*
 * A view for the caller to make of the text of the next call: only what stands in it is looked at.
 * For a text within another, such as the payload of frames.
 */
struct view sieve_base(struct sieve *v);

/* Looks only, up to the first: *ret_owner is the index of its text in the set. base: NULL, or the
 * view that was made. */
_must_ bool sieve_find(struct sieve *v, const struct needle_set *set, const struct view *base,
                       uint8_t *text, size_t len, unsigned *ret_owner, enum egress_form *ret_form);

/*
 * Replaces all that is found with the same form of masks[owner], or with 'x' where it was escaped,
 * and tells each to note(). No length changes.
 */
void sieve_mask(struct sieve *v, const struct needle_set *set, const struct span *masks,
                const struct view *base, uint8_t *text, size_t len,
                void (*note)(void *arg, unsigned owner, enum egress_form form), void *arg);

/*
 * After either: where in `text` the longest end begins that may be the beginning of a needle in one
 * of the views; len if none does. Never more than SIEVE_HELD_PER_BYTE times the longest text from
 * the end.
 */
size_t sieve_tail(const struct sieve *v);

/* Whose beginning that is. Good if there is one. */
struct needle_tail sieve_tail_of(const struct sieve *v);
