/*
 * gitobj_inner: what gitobj.c and gitobj_import.c share.
 */
#pragma once

#include "work/gitobj.h"

struct gitobj {
	int stream_fd, repo_fd; /* repo_fd may be -1: then nothing is known of the host's objects */
	uint64_t stream_bytes;
	struct gitobj_store *store;
	struct gitobj_budget budget;
	struct gitobj_set *set;
	struct gitobj_totals totals;
	uint16_t height; /* of the tree in hand */
	struct gitobj_branch *branches;
};

/* Every record; data is an OBJECT's content, hashed and found to be its id's. Not 0 ends it. */
typedef int gitobj_scan_fn(void *arg, const struct gitobj_record *rec, struct span data,
                           struct err *e);
_must_ int gitobj_scan(const struct gitobj *g, gitobj_scan_fn *each, void *arg, struct err *e);
