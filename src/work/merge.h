/*
 * merge: one text of three: what was packed, what the host made of it, what the guest made of it.
 *
 * Theory of operation
 *
 * Both sides are hunks against the base. Those that lie apart, with at least one line of the base
 * between them, are both taken. What is the same on both sides is taken once. Anything else
 * overlaps: such a group is a conflict as a whole, and where it stands the host's lines stay. So
 * the host's changes are always all in the result, and a guest's hunk is in it if it was chosen and
 * overlaps nothing.
 *
 * With a host that has changed nothing this is also how some of a guest's hunks are taken and
 * others not.
 *
 * Pure. Result and conflicts do not depend on which hunks the other side was not asked about.
 */
#pragma once

#include "work/hunk.h"

/* What became of one of the guest's hunks. */
enum merge_fate {
	MERGE_LEFT = 0, /* not chosen */
	MERGE_TAKEN,
	MERGE_SAME,     /* the host has it too */
	MERGE_CONFLICT, /* overlaps what the host changed */
};

struct merge_in {
	const struct hunk_text *base, *host, *guest;
	const struct hunks *to_host;  /* from base */
	const struct hunks *to_guest; /* from base */
	const uint8_t *chosen;        /* to_guest->count of them; NULL: all */
};

/* Sets ret_fates (to_guest->count of them) and returns how many are conflicts. */
uint32_t merge_fates(const struct merge_in *in, uint8_t *ret_fates);

/* An upper bound of the result's length. */
size_t merge_bytes_max(const struct merge_in *in);

/* Writes the text, with merge_fates()' fates. merge_bytes_max() bytes always suffice. */
void merge_put(const struct merge_in *in, const uint8_t *fates, struct buf *out);
