/*
 * class: which changes a host might run, and so may not be accepted with all the others.
 *
 * Theory of operation
 *
 *   X0   runs without a decision: on entering a directory, opening it, asking git for its status
 *   X1   runs on an ordinary command: build, test, install, commit
 *   X2   runs in continuous integration, with the user's trust
 *   X3   became executable: a bit, a first line, a program's magic, a link that leaves
 *   X4   steers an agent or editor outside
 *
 * A change has the first of these that holds. X0 to X2 and X4 go by the path: what lies in a git
 * directory by its name (by its shape, only who knows the tree can say: compare and review), then a
 * list of patterns, which is data. X3 goes by what the thing is.
 *
 * No list is complete, which is why what is inside git directories is never applied as files
 * whatever is decided here.
 *
 * Hostile   paths, contents, link targets; not the list, which is the installation's or the user's
 */
#pragma once

#include "work/path.h"

#include "base/err.h"

enum {
	CLASS_LIST_MAX = 256 << 10, /* bytes of a list */
	CLASS_REASON_MAX = 120,
	CLASS_REASONS_MAX = 64,
	CLASS_HEAD_BYTES = 64,       /* of a content are looked at */
	CLASS_HOSTS_BYTES = 4 << 20, /* of a lock file are searched for hosts */
	CLASS_HOSTS_MAX = 64,        /* different ones; with more, one that is new is assumed */
};

/* From the most to the least that can happen. */
enum work_class {
	CLASS_X0 = 0,
	CLASS_X1,
	CLASS_X2,
	CLASS_X3,
	CLASS_X4,
	CLASS_PLAIN,
};

const char *class_name(enum work_class c); /* "X0" ... "plain" */

struct class_list;

_must_ int class_list_new(struct class_list **ret, struct err *e);
void class_list_free(struct class_list *l);
OWN_DEFINE(struct class_list, class_list_free)

/*
 * Adds a list, which is copied. An earlier one's word counts before a later one's, so a user's list
 * adds and does not take away. -EINVAL with the line, -E2BIG.
 */
_must_ int class_list_add(struct class_list *l, const char *source, struct span text,
                          struct err *e);

struct class_verdict {
	enum work_class class;
	const char *reason; /* borrowed from the list; NULL for CLASS_PLAIN */
};

/*
 * By the path alone. A link is held to stand for a directory too: one called ".vscode" brings what
 * is behind it.
 */
struct class_verdict class_by_path(const struct class_list *l, struct span path,
                                   enum work_kind kind);

/* Is one of the path's parts a git directory's name, however it is spelled? */
bool class_in_git(struct span path);

/*
 * Is it in a git directory, and a thing that git runs or that tells it what to run, were it on a
 * host: a hook that has no ".sample" name, a configuration, attributes; or a file in place of the
 * directory, which leads elsewhere? Most of what is in one is none.
 */
bool class_git_runs(struct span path);

/* One side of a change, for what it holds. */
struct class_side {
	bool exists;
	enum work_kind kind;
	uint16_t mode;
	struct span head; /* the first CLASS_HEAD_BYTES of a file, or a link's whole target */
};

/* X3 or plain: did `now` become something that runs, or a link out of its directory? */
struct class_verdict class_by_content(struct span path, const struct class_side *was,
                                      const struct class_side *now);

/* Is this a list of what was installed, with where it came from? */
bool class_is_lock_file(struct span path);

/* Does `now` name a host that `was` does not? Both are searched as far as CLASS_HOSTS_BYTES. */
bool class_adds_host(struct span was, struct span now);
