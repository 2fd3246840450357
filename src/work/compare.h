/*
 * compare: three ways from one tree: what was packed, what the guest made of it, what the host has
 * now.
 *
 * Theory of operation
 *
 * The proposal is the guest's change set, so a walk of it meets every path the guest has touched
 * and no other: cost follows what changed, not the tree. Beside the walk goes the directory of the
 * base that the guest saw at that place, which a renamed directory takes along and an opaque one
 * empties. Where base and proposal say the same (a file touched, or written anew with its old
 * bytes) nothing is listed. What is left is held against the host, and only there.
 *
 * A base and a host that agree leave the guest's word as proposed. Where the host has changed too,
 * its change is never undone: the outcome is a conflict, or "both" for two texts that may still be
 * merged (merge.h), or that it is there already.
 *
 * A directory that was renamed is one change; what was changed in it has its old place in `from`,
 * which is where the host has it. If the host has renamed it to the same place, or an apply has,
 * `place` is there: a directory is known by its inode, whatever it is called. Deleting a directory
 * is one change for it and one for each thing in it.
 *
 * Hostile   the proposal; the host's tree is the user's, and may change meanwhile: whoever applies
 *           looks again
 * Order     by wpath_cmp() of path
 * Limits    COMPARE_CHANGES_MAX; memory is some 250 bytes and the path a change
 * Errors    -E2BIG over a limit; -EBADMSG, -EIO and what base.h and proposal.h say
 */
#pragma once

#include "work/base.h"
#include "work/proposal.h"

enum {
	COMPARE_CHANGES_MAX = 1 << 21,
	COMPARE_DEPTH_MAX = WPATH_DEPTH_MAX,
	COMPARE_HINT_ENTRIES_MAX = 10000, /* of a directory that is searched for a renamed one */
};

enum change_op {
	CHANGE_ADD = 1,
	CHANGE_EDIT,   /* another content, or another target of a link */
	CHANGE_MODE,   /* the mode alone */
	CHANGE_TYPE,   /* a file where a directory was, and so on */
	CHANGE_RENAME, /* of a directory, with all that is in it, or of a file as it was */
	CHANGE_DELETE,
};

enum change_state {
	CHANGE_PROPOSED = 1, /* the host has what was packed */
	CHANGE_BOTH,         /* the host has edited the same text: perhaps both can be had */
	CHANGE_CONFLICT,     /* it is one or the other; the host's stays unless told otherwise */
	CHANGE_THERE,        /* the host has the same already */
	CHANGE_STAYS_OUT,    /* never comes back; `why` says why */
};

/* Of a conflict or of what stays out. */
enum change_why {
	CHANGE_WHY_NONE = 0,
	CHANGE_WHY_HOST_EDITED,  /* and the guest has deleted, replaced, or edited it */
	CHANGE_WHY_HOST_DELETED, /* and the guest has edited it */
	CHANGE_WHY_HOST_RENAMED, /* the same, and `hint` is where it seems to be */
	CHANGE_WHY_HOST_CREATED, /* something else at this place */
	CHANGE_WHY_HOST_HIDDEN,  /* it is there, and was kept from the guest */
	CHANGE_WHY_HOST_WAY,     /* a directory on the way is no directory any more */
	CHANGE_WHY_GIT,          /* inside a repository: commits come back another way */
	CHANGE_WHY_PROPOSAL,     /* the proposal's own `why` (proposal_why of the node) */
	CHANGE_WHY_COUNT,
};

const char *change_why_text(enum change_why why);

/* A side of a change. */
struct change_side {
	bool exists;
	uint8_t kind;  /* enum work_kind; 0: exists, and is none of those */
	uint16_t mode; /* within 0777 */
	uint64_t size;
	int64_t mtime_s;
};

/* What the host's thing was when it was compared: whoever changes it asks whether it still is. */
struct change_identity {
	uint64_t dev, ino, size;
	int64_t mtime_s, ctime_s;
	uint32_t mtime_ns, ctime_ns;
	uint32_t mode; /* st_mode whole */
	uint32_t nlink;
};

enum {
	CHANGE_MODE_OF_HOST = 1,    /* the host has changed the mode, so its mode stays */
	CHANGE_TEXT = 2,            /* both contents look like text */
	CHANGE_DIR_KEEPS = 4,       /* DELETE of a directory in which the host has other things */
	CHANGE_BASE_UNKNOWN = 8,    /* nothing was packed here */
	CHANGE_HOST_UNTOUCHED = 16, /* the host has what was packed, content and mode */
};

struct change {
	struct span path; /* where the guest has it; of a DELETE, where it was */
	struct span
		from; /* where the base has it, and the host had it, if elsewhere; else as path */
	struct span place; /* where the host has it now: as from, unless it has renamed it too */
	struct span hint;  /* CHANGE_WHY_HOST_RENAMED; else "" */
	uint8_t op, state, why;
	uint8_t proposal_why; /* enum proposal_why */
	uint8_t flags;
	uint16_t
		result_mode; /* what it would have: the guest's, or the host's where that changed */
	struct change_side base, host, guest;
	struct change_identity identity; /* host.exists only */
	struct base_node base_node;      /* base.exists only */
	uint32_t proposal_index;         /* guest.exists, or a proposal_why; else UINT32_MAX */
};

/*
 * Was the host's thing at this path kept from the guest when the base was packed? Then what the
 * guest made there never replaces it by itself.
 */
typedef bool compare_hidden_fn(void *arg, struct span path);

struct compare_options {
	struct base *base;
	const struct proposal *proposal;
	int root_fd;               /* the host's directory */
	compare_hidden_fn *hidden; /* may be NULL */
	void *hidden_arg;
};

struct compare;

_must_ int compare_run(const struct compare_options *opt, struct compare **ret, struct err *e);
void compare_free(struct compare *c);
OWN_DEFINE(struct compare, compare_free)

size_t compare_count(const struct compare *c);
/* i < compare_count(); lives as long as c. */
const struct change *compare_at(const struct compare *c, size_t i);
/* By binary search; NULL if that path is not listed. */
const struct change *compare_find(const struct compare *c, struct span path);
