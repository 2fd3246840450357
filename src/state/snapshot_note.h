/*
 * snapshot_note: what a saved guest is, beside its memory, state and disk: the note of saved.h.
 *
 * Shape     "berm-snapshot 1\n", then lines "word value\n" in this order: created (ns since 1970),
 *           id, name (of the sandbox that was saved; the name may be empty), then "machine BYTES\n"
 *           and that many bytes (guest_put_machine), then "spec BYTES\n" and that many (spec_put)
 * Hostile   nobody: it is the user's own file, and covered by a hash. It is read strictly all the
 *           same, as disks lose bytes and versions of berm meet
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "state/spec.h"

enum { SNAPSHOT_MACHINE_MAX = 8 << 10 };

/* Spans are borrowed from what was parsed. */
struct snapshot_note {
	uint64_t created_ns;
	struct span id, name; /* of the sandbox */
	struct span machine;
	struct span spec; /* spec_put() bytes */
};

/* Pure (snapshot_parse.c). 0 or -EBADMSG. The spec's bytes are not looked into. */
_must_ int snapshot_parse_note(struct span in, struct snapshot_note *ret);

void snapshot_put_note(struct buf *out, const struct snapshot_note *n);
