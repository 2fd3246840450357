/*
 * proposal_check: what of an entry only the base can tell.
 *
 * A whiteout of what the base does not have, a directory that was renamed from none of the base's,
 * two from one: a guest that never touched its scratch disk by hand sends none of these. They are
 * neutralised and get a reason, and all else of the proposal stays (proposal.h).
 *
 * Hostile   the entries
 * Limits    PROPOSAL_REDIRECTS_MAX; a path for each of WPATH_DEPTH_MAX levels
 */
#pragma once

#include "work/proposal_parse.h"

/* Names at the root of a workspace that begin so are where an apply stages. */
#define PROPOSAL_OURS_PREFIX ".berm-stage-"

struct proposal_found {
	bool there, dir;
	uint64_t id; /* of the entry in the base: no two have the same */
};

/* The base, as the check asks for it. Both are borrowed by proposal_check_new(). */
struct proposal_base {
	/* 0 with ret set, if there is no such path as well; or why the base cannot be read */
	int (*find)(void *arg, struct span path, struct proposal_found *ret, struct err *e);
	void *arg;
};

struct proposal_check;

_must_ int proposal_check_new(const struct proposal_base *base, struct proposal_check **ret,
                              struct err *e);
void proposal_check_free(struct proposal_check *c);
OWN_DEFINE(struct proposal_check, proposal_check_free)

/*
 * Entries in the order of the stream, none left out. Changes flags, target and why of `en`.
 * -E2BIG: over PROPOSAL_REDIRECTS_MAX.
 */
_must_ int proposal_check_entry(struct proposal_check *c, struct proposal_entry *en, struct err *e);
