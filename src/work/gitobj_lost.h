/*
 * gitobj_lost: commits that a guest made and that no ref stands for any more.
 *
 * Theory of operation
 *
 * A branch that was deleted, a commit on no branch that was left again, a worktree of the guest's
 * that is gone, a dropped stash: git keeps their objects, and nothing else may know of them. So the
 * ids in the files that the guest made are looked through. What is a commit, is not in the base and
 * came home with no ref is lost; those that are no parent of another lost one stand for all. What a
 * ref of another repository holds (refs/remotes, after a fetch) is not: that one has it.
 *
 * Hostile   the proposal, as gitobj_store.h says
 * Limits    GITOBJ_LOST_IDS_MAX, GITOBJ_LOST_LOOKS_MAX, GITOBJ_LOST_MAX
 */
#pragma once

#include "work/gitobj_set.h"

enum {
	GITOBJ_LOST_IDS_MAX = 1 << 23,   /* looked through; a hostile index can have far more */
	GITOBJ_LOST_LOOKS_MAX = 1 << 17, /* objects asked for their type */
	GITOBJ_LOST_MAX = 1 << 14,       /* commits */
	GITOBJ_LOST_NAME_MAX = 64,       /* bytes of the ref that is made for one */
};

struct gitobj_lost {
	struct gitobj_id id;
	bool held;   /* another one has it as a parent, or a ref that stays holds it */
	bool walked; /* gitobj_lost_hold() was here */
	char name[GITOBJ_LOST_NAME_MAX]; /* "refs/lost-found/ID" */
};

struct gitobj_lost_list {
	struct gitobj_lost *at; /* for free(); by id */
	size_t count;
	bool cut; /* over a limit: there may be more */
};

/* What a ref that stays stands for, and all before it, is held. */
_must_ int gitobj_lost_hold(struct gitobj_lost_list *l, struct gitobj_store *now,
                            const struct gitobj_id *id, struct err *e);

/* What is in `now`, and neither in `old` nor in the set. -EIO and the disk's own errors. */
_must_ int gitobj_lost_find(struct gitobj_store *now, struct gitobj_store *old,
                            const struct gitobj_set *set, struct gitobj_lost_list *ret,
                            struct err *e);
