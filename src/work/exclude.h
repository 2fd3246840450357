/*
 * exclude: what of a workspace does not enter a guest.
 *
 * Theory of operation
 *
 * Three tiers, each a list of patterns (ignore.h), asked in this order:
 *
 *   secret   names of credentials. Nothing in the workspace can take one back; the user can, path
 *            by path, and that is noted
 *   cost     what is large and can be made again. Not in force unless asked for; what would match
 *            is noted, so that a command can say what it would save
 *   user     the user's own flags and policy files (--exclude, ~/.config/berm/ignore, workspace: of
 *            --policy), then the workspace's .bermignore files, each of which counts for its
 *            directory and below. The user's word comes last and so wins
 *
 * exclude_judge() is the packer's judge (pack.h) and so is asked in the order of a walk.
 *
 * Hostile   names, and the workspace's own files: a .bermignore can hide a path from the guest and
 *           do no more. It is read without following a link; a bad one is noted and left out
 */
#pragma once

#include "work/pack.h"

enum {
	EXCLUDE_TAKEN_BACK_MAX = 64, /* paths the user takes back */
	EXCLUDE_COST_MAX = 64,       /* directories remembered; more are counted */
	EXCLUDE_NOTES_MAX = 64,      /* remarks remembered; more are counted */
	EXCLUDE_DEPTH_MAX = 256,     /* .bermignore files at work at once */
};

struct exclude;

_must_ int exclude_new(struct exclude **ret, struct err *e);
void exclude_free(struct exclude *x);
OWN_DEFINE(struct exclude, exclude_free)

enum exclude_tier { EXCLUDE_SECRET, EXCLUDE_COST, EXCLUDE_USER };

/*
 * Adds patterns to a tier. source is for people: "secret.ignore", "--exclude". A pattern that is
 * too long is an error: these texts are ours or the user's.
 */
_must_ int exclude_add(struct exclude *x, enum exclude_tier tier, const char *source,
                       struct span text, struct err *e);

/* The same of a list in a file that holds more, which begins in that line of it. */
_must_ int exclude_add_at(struct exclude *x, enum exclude_tier tier, const char *source,
                          unsigned line, struct span text, struct err *e);

/* The cost tier is in force. */
void exclude_cost_too(struct exclude *x);

/*
 * The user takes back exactly this path from the secret tier, and so enters the directories above
 * it. -EINVAL for a path that is none, -E2BIG after EXCLUDE_TAKEN_BACK_MAX.
 */
_must_ int exclude_take_back(struct exclude *x, struct span path, struct err *e);

/* Once, before the walk: reads the root's own .bermignore. */
_must_ int exclude_begin(struct exclude *x, int root_fd, struct err *e);

/* A pack_judge_fn; arg is the struct exclude. */
_must_ int exclude_judge(void *arg, const struct pack_entry *entry, struct pack_answer *ret,
                         struct err *e);

/* Would this path enter, by the secret tier alone? For what a guest made under such a name. */
bool exclude_is_secret(const struct exclude *x, struct span path, bool is_dir);

/* What a walk has met that a person should hear of. */
enum exclude_note {
	EXCLUDE_NOTE_TAKEN_BACK, /* the user took this path back, and it entered */
	EXCLUDE_NOTE_REFUSED,    /* a .bermignore tried to take back a secret */
	EXCLUDE_NOTE_BAD_FILE,   /* a .bermignore that could not be read, or lines of it */
	EXCLUDE_NOTE_COST,       /* a directory the cost tier would leave out */
	EXCLUDE_NOTE_COUNT,
};

const char *exclude_note_text(enum exclude_note n);

typedef int exclude_note_fn(void *arg, enum exclude_note note, struct span path, struct err *e);

/* Those that were remembered, in the order they were met. */
_must_ int exclude_each_note(const struct exclude *x, exclude_note_fn *each, void *arg,
                             struct err *e);
/* How many there were in all. */
uint64_t exclude_count_notes(const struct exclude *x, enum exclude_note note);
