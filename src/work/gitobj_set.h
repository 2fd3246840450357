/*
 * gitobj_set: the objects of one walk, by id; and what an object points to.
 *
 * Limits    GITOBJ_OBJECTS_MAX; 28 bytes a slot, twice as many slots as objects at most
 */
#pragma once

#include "work/gitobj_store.h"

enum {
	GITOBJ_OBJECTS_MAX = 1 << 20, /* of one session; looked at, or taken */
	GITOBJ_HEIGHT_MAX = 256,      /* of trees in trees: as deep as a workspace may be */
};

enum gitobj_state {
	GITOBJ_UNSEEN = 0,
	GITOBJ_OPEN,    /* being walked: to meet it again is a circle */
	GITOBJ_DONE,    /* in the stream, with all it points to */
	GITOBJ_OUTSIDE, /* the store that is there already has it */
};

struct gitobj_seen {
	struct gitobj_id id;
	uint8_t state;
	uint8_t type;    /* of DONE and OUTSIDE */
	uint16_t round;  /* of OPEN and DONE: which ref's walk it was */
	uint16_t height; /* of a tree that is DONE: 1, or one more than its highest tree */
	uint16_t used;
};

struct gitobj_set;

_must_ int gitobj_set_new(struct gitobj_set **ret, struct err *e);
void gitobj_set_free(struct gitobj_set *s);
OWN_DEFINE(struct gitobj_set, gitobj_set_free)

/* The object's entry, UNSEEN if it is new. Good until the next call. -E2BIG. */
_must_ int gitobj_set_at(struct gitobj_set *s, const struct gitobj_id *id, struct gitobj_seen **ret,
                         struct err *e);

/* Is it in the stream, or there already? */
bool gitobj_set_has(const struct gitobj_set *s, const struct gitobj_id *id);

/* What is of this round becomes UNSEEN. */
void gitobj_set_undo(struct gitobj_set *s, uint16_t round);

/* Anything but 0 ends it. */
typedef int gitobj_child_fn(void *arg, const struct gitobj_id *id, enum gitobj_type type,
                            struct err *e);

/*
 * Judges a blob, tree or commit by itself, and tells what it points to; a commit of another
 * repository (a submodule's) is not told. -EBADMSG with the reason; a tag is refused.
 */
_must_ int gitobj_children(enum gitobj_type type, struct span data, gitobj_child_fn *each,
                           void *arg, struct err *e);
