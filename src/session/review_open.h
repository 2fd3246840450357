/*
 * review_open: a session as the verbs meet it: found by what a person typed or by where they stand,
 * locked, its work fetched if nobody did, and opened for review.
 *
 * Nothing of a session is lost by any failure here. The proposal is read only when every machine
 * that had a disk of the session is dead (state/work_session.h says who is asked).
 */
#pragma once

#include "review/review.h"
#include "state/work_session.h"
#include "term/share.h"
#include "term/term.h"

enum {
	REVIEW_SAID_MAX =
		1000, /* paths that are kept with what was said of them; more are counted */
	REVIEW_PATH_ROOM = 4096, /* WPATH_MAX and its NUL */
	REVIEW_EXE_ROOM = PATH_MAX + 32,
};

/* A session without a reference: the newest of the workspace that the current directory lies in. */
enum review_want {
	REVIEW_WANT_UNDECIDED, /* that waits for a decision */
	REVIEW_WANT_UNDO,      /* of which something was applied */
};

/*
 * ref is an id, the front of one, or NULL. -ENOENT: there is none, and the text says which there
 * are. Opens it, without its lock.
 */
_must_ int review_session_find_as(struct cli *c, const char *ref, enum review_want want,
                                  struct work_session *ret, struct err *e);
_must_ int review_session_find(struct cli *c, const char *ref, struct work_session *ret,
                               struct err *e);

/* What was said of a path by the last apply or undo: not of what simply went well. */
struct review_said {
	char *path;
	enum apply_word word;
};

/* Where it lies it stays: the review points into it. */
struct review_opened {
	struct work_session s; /* its lock is held */
	struct review *review; /* NULL: review_opened_begin_undo() says when */
	struct cli *cli;       /* borrowed */
	struct class_list *classes;
	int root_fd, spool_fd;
	enum apply_recovered recovered; /* what an interrupted apply came to */
	struct spinner spinner;
	uint64_t fetch_bytes; /* as review_opened_begin() was told */
	bool rescued;         /* its work came off the disk of a guest that is gone */
	bool quiet;           /* no progress is shown: somebody draws on the terminal */
	struct review_said *said;
	size_t said_count, said_more;
	char unpack_path[REVIEW_EXE_ROOM];
	char diff_path[REVIEW_EXE_ROOM];
};

/*
 * Takes the session, also on failure, and opens it for review: lock (`what` is who holds it, a
 * word: "review"), rescue of work that nobody fetched, the end of an interrupted apply, which is
 * told on stderr. fetch_bytes is the most that a rescue fetches; 0: what is usual. -EBUSY:
 * somebody else has it, or its machine may be alive; -ENODATA: no guest
 * ever ran in it, or another session has its base; else what review_open() says. The state is then
 * SESSION_PENDING, and is written down.
 */
_must_ int review_opened_begin(struct cli *c, struct work_session *s, const char *what,
                               uint64_t fetch_bytes, struct review_opened *ret, struct err *e);

/*
 * The same for review_opened_undo(). A session whose base was handed on is opened as well, without
 * a review: ret->review is NULL, and nothing else can be done with it.
 */
_must_ int review_opened_begin_undo(struct cli *c, struct work_session *s,
                                    struct review_opened *ret, struct err *e);

/*
 * Writes down how far it is (SESSION_PENDING; SESSION_APPLIED if nothing waits), removes the
 * guest's disk, whose work was read, and gives everything back. What fails of it is said on stderr.
 */
void review_opened_end(struct review_opened *o);
static inline void review_opened_end_scope(struct review_opened *o)
{
	review_opened_end(o);
}

/* For a scope that ends before review_opened_begin() was called. */
void review_opened_init(struct review_opened *o);

/* Does anything wait: undecided, accepted and not applied, or commits that can come home? */
bool review_opened_waits(struct review_opened *o);

/* Commits that an apply would bring home: none once their branches are there. */
uint64_t review_opened_commits(struct review_opened *o);

/*
 * Objects of git with work in them that no apply can bring: of repositories that the host does not
 * have, or that cannot be read, or written to.
 */
uint64_t review_opened_git_lost(struct review_opened *o);

/*
 * review_apply() and review_undo(), with the session's state written down around them, and o->said
 * told anew.
 */
_must_ int review_opened_apply(struct review_opened *o, enum apply_mode mode, bool commits,
                               struct review_outcome *ret, struct err *ret_commits_e,
                               struct err *e);
_must_ int review_opened_undo(struct review_opened *o, enum apply_mode mode,
                              struct review_outcome *ret, struct err *e);

/*
 * The installed classes and the user's own list: $XDG_CONFIG_HOME/berm/classes.list, or
 * ~/.config/berm/classes.list, which adds to them. -EINVAL with file and line.
 */
_must_ int review_classes(struct cli *c, struct class_list **ret, struct err *e);

/*
 * A path as it was typed, as one of the workspace's: beneath the current directory if that lies in
 * the workspace, else beneath the workspace; an absolute one must lie in it. "" is all of it. Where
 * the first reading names no change and the second does, it is that. -EINVAL.
 */
_must_ int review_path(const struct review_opened *o, const char *typed, char ret[REVIEW_PATH_ROOM],
                       struct err *e);

/* Is the item at `path` or beneath it, by its new name or its old one? */
bool review_item_beneath(const struct review_item *item, struct span path);
