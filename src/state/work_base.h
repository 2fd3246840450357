/*
 * work_base: what an earlier session has of a workspace, for the packing of a new one.
 *
 * Theory of operation
 *
 * Where the file system shares blocks, a new image is packed beside the newest earlier one, which
 * stays as it is. Where it does not, a copy of what has not changed costs as much as reading it all
 * again, or more; so the new image is written over one that nobody needs any more (pack.h, `over`),
 * or there is none and all is read.
 *
 * A base may be handed on by a session of the same directory of which everything was applied: there
 * is nothing that a review of it could still bring home. What was applied can still be undone, for
 * that takes its undo store alone. The steps, with the old session's lock held:
 *
 *   1. its session.json names the new session, synced
 *   2. base.erofs is renamed into the new session's directory, synced; only now is the base handed
 *      on, for as long as the file is in its place the word of 1 does not count
 *   3. its base.manifest goes, which nothing belongs to any more
 *
 * Nothing is written over before 2 is on the disk. The new session is SESSION_PACKING until its
 * image is whole and synced; whoever is ended before that leaves a session that was never packed,
 * which the next list removes with the image.
 *
 * Where nothing has changed no image is made at all: the new session gets another name of an
 * earlier one's image and manifest (a hard link), after the tree was held against them (pack.h,
 * `same`). Any number of sessions may have it, and each lets go of its own name. What has two names
 * is never written over. While it is looked at and linked the image is locked shared, and whoever
 * would write over it asks for its names with the exclusive lock; so it cannot get a second one
 * meanwhile.
 *
 * Not every base can be taken from: one that was not on the disk yet when the machine went down may
 * have holes where its contents were (work_session_base_whole()).
 *
 * An image that is read here without its session's lock is locked shared as long as its base is
 * open, one that is written over exclusively: so nobody copies from what somebody writes.
 */
#pragma once

#include "state/work_session.h"
#include "work/base.h"

struct work_base {
	struct base *base; /* NULL: all is read */
	int image_fd;      /* the new session's base.erofs, to be written over; -1: there is none */
	char from[SESSION_ID_LEN + 1]; /* whose it was, or "" */
};

enum { WORK_BASES_HELD_MAX = 2 }; /* images a tree is held against: a walk of it each, at worst */

/*
 * Is the workspace what this base has? 1 yes, 0 no, below 0 ends the search. The base is borrowed.
 */
typedef int work_base_same_fn(void *arg, struct base *b, struct err *e);

/*
 * s: as work_base_find(). Asks about the newest bases of its workspace, and of the first that is
 * the same s gets base.erofs and base.manifest. 1, and whose it is; 0: there is none, and s has
 * neither; below 0: what `same` said.
 */
_must_ int work_base_share(int state_fd, const struct work_session *s, work_base_same_fn *same,
                           void *arg, char ret_from[SESSION_ID_LEN + 1], struct err *e);

void work_base_init(struct work_base *b);
void work_base_fini(struct work_base *b);
static inline void work_base_fini_scope(struct work_base *b)
{
	work_base_fini(b);
}

/*
 * s: a new session, locked and SESSION_PACKING, with no base.erofs yet; its root is what others are
 * held against. It saves time, and nothing depends on it: whatever goes wrong, there is no base.
 */
void work_base_find(int state_fd, const struct work_session *s, struct work_base *ret);
