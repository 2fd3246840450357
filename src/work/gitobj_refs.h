/*
 * gitobj_refs: the branches, tags and other refs of a repository, from files of their own and from
 * packed-refs.
 *
 * Hostile   the files, as gitobj_store.h says
 * Limits    GITOBJ_REFS_MAX, GITOBJ_OTHER_REFS_MAX, GITOBJ_PACKED_REFS_MAX
 */
#pragma once

#include "work/gitobj_store.h"

enum {
	GITOBJ_REFS_MAX = 1 << 17,
	GITOBJ_OTHER_REFS_MAX = 1 << 16,   /* of them: tags and the like */
	GITOBJ_STAYING_REFS_MAX = 1 << 14, /* of another repository; more are passed over */
	GITOBJ_PACKED_REFS_MAX = 32 << 20, /* bytes */
	GITOBJ_REF_DEPTH_MAX = 24,         /* parts of a name */
	GITOBJ_REF_FILE_MAX = 4096,        /* bytes of a loose ref */
};

struct gitobj_ref {
	struct span name; /* in full; in the set's memory */
	struct gitobj_id id;
	bool bad;   /* it cannot be read, or has a name that no ref has */
	bool stays; /* not gitobj_parse_ref_comes(): what it stands for is not the guest's work */
	bool loose; /* what a file of its own says comes before what packed-refs says */
};

struct gitobj_refs;

/*
 * The refs of the place, sorted by name, each once; and HEAD, if it is of no branch.
 */
_must_ int gitobj_refs_load(const struct gitobj_place *p, struct gitobj_refs **ret, struct err *e);
/* Of a place that has no repository: none. */
_must_ int gitobj_refs_none(struct gitobj_refs **ret, struct err *e);
void gitobj_refs_free(struct gitobj_refs *r);
OWN_DEFINE(struct gitobj_refs, gitobj_refs_free)

size_t gitobj_refs_count(const struct gitobj_refs *r);
const struct gitobj_ref *gitobj_refs_at(const struct gitobj_refs *r, size_t i);

/* NULL: there is none of that name. */
const struct gitobj_ref *gitobj_refs_find(const struct gitobj_refs *r, struct span name);

/* Are there more than GITOBJ_OTHER_REFS_MAX that are no branch? Then they are not all here. */
bool gitobj_refs_cut(const struct gitobj_refs *r);

/* What HEAD stands for, by itself or by its branch; false: nothing, or it cannot be read. */
bool gitobj_refs_head(const struct gitobj_refs *r, struct gitobj_id *ret, bool *ret_detached);
