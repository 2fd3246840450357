/*
 * gitobj_walk: from the branches that a guest made or moved to the objects the base has, and
 * everything in between into a stream.
 *
 * Theory of operation
 *
 * Each branch is a round. Its commit is read, and what it points to, until an object is found that
 * the base's own store has; that one is only looked up. What is new is hashed, judged by its form,
 * and written once all it points to is written. A round that fails leaves nothing in the stream:
 * its branch is refused, with the reason, and the next one begins. At last comes what no ref holds
 * any more (gitobj_lost.h), each such commit as refs/lost-found/ID.
 *
 * Hostile   all that the proposal holds
 * Limits    gitobj_store.h, gitobj_set.h, gitobj_stream.h, gitobj_refs.h
 */
#pragma once

#include "work/gitobj_stream.h"

struct gitobj_walk_totals {
	uint32_t objects, refs, refused;
};

/*
 * What the proposal holds of new commits in the repository at git_dir of the workspace, into
 * out_fd, which is empty. The stream is whole only if this answers 0. -EOPNOTSUPP: a repository of
 * a kind that is not read, by name; -ENOENT: there is none; -E2BIG; -EBADMSG.
 */
_must_ int gitobj_walk_run(struct base *base, const struct proposal *proposal, struct span git_dir,
                           int out_fd, struct gitobj_walk_totals *ret, struct err *e);
