/*
 * ref: the names and ids images go by.
 *
 * Hostile   RepoTags and annotations of an archive; what a user typed
 * Shape     name: [host[:port]/]path[/path...][:tag], in the distribution grammar: lower-case path
 *           words joined by one of . _ __ or dashes, a tag of up to 128 [A-Za-z0-9_.-]. No digest.
 *           id: 64 lower-case hex digits, or at least IMAGE_ID_PREFIX_MIN of them
 * Source    distribution/reference, "grammar"
 */
#pragma once

#include "base/buf.h"
#include "image/limits.h"

enum ref_kind {
	REF_NAME,   /* a name, and not hex */
	REF_ID,     /* a whole id; "sha256:" in front is allowed */
	REF_PREFIX, /* hex that may be an id's beginning or a name */
};

struct ref {
	enum ref_kind kind;
	struct span id;   /* REF_ID, REF_PREFIX: the hex digits, within the input */
	struct span name; /* REF_NAME, REF_PREFIX: all of the input */
	struct span tag;  /* within name; empty when there is none */
	struct span repo; /* name without the tag */
};

/* Pure. 0, or -EBADMSG when it is neither a name nor an id. */
_must_ int ref_parse(struct span in, struct ref *ret);

/* Is it a name (REF_NAME or REF_PREFIX)? */
_must_ bool ref_is_name(struct span in);

/*
 * The one spelling a name is stored under: ":latest" says nothing and is dropped. `in` is a name.
 */
void ref_put_canonical(struct buf *out, struct span in);

/* A canonical name as a file name: "/" becomes "%2F"; the grammar has no other odd byte. */
void ref_put_escaped(struct buf *out, struct span name);

/* The way back. 0, or -EBADMSG when it is not what ref_put_escaped() makes of a canonical name. */
_must_ int ref_unescape(struct span in, struct buf *out);
