/*
 * review_tracked: does git track a path, by the repositories of the base?
 *
 * The repository of a path is the nearest directory above it with a .git in it: a directory, or a
 * file that points to one in the workspace (worktrees, submodules). Its index is the one that was
 * packed. Where there is none nothing is tracked; where it cannot be read nothing is either, and
 * that is said with each path.
 *
 * Hostile   the workspace's own files, as gitindex.h has it
 * Owns      two indexes at most: the workspace's own repository's, and the one that a path within
 *           was last found in
 */
#pragma once

#include "base/err.h"
#include "work/base.h"
#include "work/pack.h"

struct review_tracked;

/* Both are borrowed; report may be NULL. */
_must_ int review_tracked_new(struct base *base, struct pack_report *report,
                              struct review_tracked **ret, struct err *e);
void review_tracked_free(struct review_tracked *t);
OWN_DEFINE(struct review_tracked, review_tracked_free)

/*
 * Is it tracked, or, with is_dir, anything in it? *ret_why is NULL, or why that is not known; then
 * *ret is false. It is a literal.
 */
_must_ int review_tracked_ask(struct review_tracked *t, struct span path, bool is_dir, bool *ret,
                              const char **ret_why, struct err *e);
