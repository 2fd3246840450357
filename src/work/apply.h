/*
 * apply: the accepted part of a proposal becomes the user's files, all of it or nothing.
 *
 * A plan is a list of operations. Each says what the reviewer saw on the host at that place, and
 * what is wanted there. apply_run() checks all of them, makes everything new in a staging directory
 * of the same file system, writes down what it will do, sets a mark, and only then moves things, by
 * renames alone. apply_recover() ends what was interrupted: before the mark by taking it back,
 * after it by going on. See docs/internals/apply.md.
 *
 * Hostile   paths and contents of the plan, which a guest chose. The host's tree may be changed by
 *           others at any time, but is the user's own
 * Trusts    the session directory
 * Paths     work/path.h's form. No link is followed, no other file system entered
 * Threads   one apply, undo or recovery at a time for a workspace: they lock its root, -EBUSY
 * Errors    negative: nothing was changed, or what was begun is taken back by apply_recover()
 */
#pragma once

#include "base/err.h"
#include "work/path.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	APPLY_OPS_MAX = 1 << 20,   /* more changes than a person or a program reviews */
	APPLY_SESSION_MAX = 32,    /* a session's name, in a file name of ours */
	APPLY_SYNC_EACH_MAX = 64,  /* up to so many files are synced one by one, else all at once */
	APPLY_FILE_MAX_SHIFT = 44, /* 16 TiB: what ext4 holds in one file */
};

/* What stands somewhere. OTHER: a fifo, socket, device, mount point, or what lies behind a link. */
enum apply_kind { APPLY_ABSENT, APPLY_FILE, APPLY_DIR, APPLY_LINK, APPLY_OTHER };

/*
 * The host's object at a path as it was seen, by which it is known again. The device is not part
 * of it: its number changes with a reboot, and only one is ever looked at.
 */
struct apply_seen {
	uint8_t kind;
	uint32_t mode; /* 07777 */
	uint32_t nlink;
	uint64_t ino; /* 0: not known, and not compared */
	uint64_t size;
	int64_t mtime_ns;
	int64_t ctime_ns; /* 0: not known, and not compared */
};

/* A workspace's directory, told from another at the same path. */
struct apply_root {
	uint64_t dev, ino;
	int64_t btime_ns; /* 0: the file system does not say */
};

/* len bytes of the source at `from` are the file's bytes at `at`; the rest of the file is zeros. */
struct apply_extent {
	uint64_t from, at, len;
};

/*
 * Where a file's bytes come from; all borrowed. One of: `bytes` (size of them); `name`, a whole
 * file in directory fd; else fd and extents in ascending order of `at`.
 */
struct apply_content {
	const void *bytes;
	const char *name;
	int fd;
	const struct apply_extent *extents;
	size_t extents_count;
	uint64_t size;
};

enum apply_what {
	APPLY_PUT,    /* a file or link, new or instead of what was seen */
	APPLY_MKDIR,  /* a directory, new or instead of a file or link */
	APPLY_CHMOD,  /* the mode of a file or directory, nothing else */
	APPLY_MOVE,   /* a directory (or file, or link) from `from` to `path`, which is free */
	APPLY_DELETE, /* a file or link */
	APPLY_RMDIR,  /* a directory, if all that is in it is deleted or moved away by the plan */
};

enum {
	APPLY_BREAK_LINKS = 1, /* of PUT, CHMOD: consent to change one of several hard links */
	APPLY_EXACT = 2, /* undo's: mode 07777, times and attributes come from the source too */
};

/*
 * path is the name in the result, all moves done, but for DELETE and RMDIR the name on the host
 * now; from is the name on the host now. A file inside a moved directory thus goes by its new name.
 * seen is what was seen before anything moved.
 */
struct apply_op {
	uint8_t what;  /* enum apply_what */
	uint8_t kind;  /* PUT: APPLY_FILE or APPLY_LINK */
	uint8_t flags; /* APPLY_BREAK_LINKS ... */
	uint32_t mode; /* of PUT (file), MKDIR, CHMOD: 0777 of it */
	const char *path;
	const char *from;   /* MOVE */
	const char *target; /* PUT of a link */
	struct apply_content content;
	struct apply_seen seen;
};

/* What is said of each path. */
enum apply_word {
	APPLY_APPLIED,
	APPLY_ALREADY,      /* the host has it so: nothing to do */
	APPLY_STAYS,        /* a directory that holds what was not reviewed: kept */
	APPLY_BACK_CHANGED, /* the host changed it since its review */
	APPLY_BACK_EXISTS,  /* the host has something at a place that was free */
	APPLY_BACK_KIND,    /* it is, or lies behind, what berm does not touch */
	APPLY_BACK_PARENT,  /* its directory is not there */
	APPLY_BACK_LINKS,   /* it has other hard links, and there is no consent */
	APPLY_KEPT_BOTH,  /* changed while it was applied: the host's stays, ours is in the store */
	APPLY_LABEL_LOST, /* a security label could not be kept */
	APPLY_MOMENT_ABSENT, /* no exchange on this file system: a reader could find it absent */
	APPLY_WORDS,
};

/* A few words for people. */
const char *apply_word_text(enum apply_word w);

/* The points at which tests stop, kill or fail an apply; see apply_point_name(). */
enum apply_point {
	AP_LOCKED,
	AP_CHECKED,
	AP_JOURNAL_MADE,
	AP_JOURNAL_SYNCED,
	AP_SESSION_SYNCED,
	AP_STAGE_MADE,
	AP_STAGE_PROBED,
	AP_FILE_MADE,
	AP_FILE_PART,
	AP_FILE_BYTES,
	AP_FILE_XATTRS,
	AP_FILE_MODE,
	AP_LINK_MADE,
	AP_DIR_MADE,
	AP_STAGED,
	AP_STAMPED,
	AP_SLOT_SYNCED,
	AP_STAGE_SYNCED,
	AP_STEP_WRITTEN,
	AP_STEPS_WRITTEN,
	AP_STEPS_SYNCED,
	AP_COMMIT_WRITTEN,
	AP_COMMIT_SYNCED,
	AP_STEP,
	AP_CHMOD_DONE,
	AP_OUT_RENAMED,
	AP_OUT_CHECKED,
	AP_MOVE_RENAMED,
	AP_MOVE_OUT,
	AP_MOVE_IN,
	AP_IN_RENAMED,
	AP_SWAP_EXCHANGED,
	AP_SWAP_OUT,
	AP_SWAP_CHECKED,
	AP_SWAP_BACK,
	AP_STEPS_DONE,
	AP_PLACE_SYNCED,
	AP_PLACES_SYNCED,
	AP_DONE_WRITTEN,
	AP_DONE_SYNCED,
	AP_UNDO_MADE,
	AP_KEEP_COPIED,
	AP_KEEP_MOVED,
	AP_UNDO_SYNCED,
	AP_STAGE_EMPTIED,
	AP_STAGE_REMOVED,
	AP_ROOT_SYNCED,
	AP_JOURNAL_MOVED,
	AP_FINISHED,
	AP_ABORT_WRITTEN,
	AP_ABORT_SYNCED,
	AP_BACK_STEP,
	AP_BACK_RENAMED,
	AP_BACK_EXCHANGED,
	AP_BACK_CHMOD,
	AP_BACK_DONE,
	AP_RECOVER_LOCKED,
	AP_RECOVER_READ,
	AP_RECOVER_JUDGED,
	AP_POINTS,
};

const char *apply_point_name(enum apply_point p);

/* What an apply, undo or recovery works on; all borrowed. */
struct apply_on {
	int root_fd;            /* the workspace */
	struct apply_root root; /* as it was when the session began */
	int session_fd;         /* ours: the journal and undo/ lie in it */
	const char *session;    /* its name: letters and digits */
	/* Called for each path that is named above; may be NULL. */
	void (*said)(void *arg, const char *path, enum apply_word w);
	void *said_arg;
	/* Tests only: not 0 fails the call with it as if the kernel had. NULL elsewhere. */
	int (*point)(void *arg, enum apply_point p);
	void *point_arg;
	bool no_exchange; /* tests only: behave as where the file system cannot exchange */
};

enum apply_mode {
	APPLY_ALL,  /* one path that returns to review: nothing is changed */
	APPLY_REST, /* what returns to review is left out */
};

enum apply_end {
	APPLY_DONE,     /* at least one change was made */
	APPLY_NOTHING,  /* there was nothing to do */
	APPLY_RETURNED, /* APPLY_ALL, and something returns to review: nothing was changed */
};

struct apply_result {
	enum apply_end end;
	uint32_t generation;         /* of the undo store; 0: none */
	uint64_t words[APPLY_WORDS]; /* how many paths each was said of */
};

/* What stands at path beneath root_fd. A missing one is success: APPLY_ABSENT. */
_must_ int apply_look(int root_fd, const char *path, struct apply_seen *ret, struct err *e);

/* Is it the same object, unchanged? Of directories the times do not count. */
bool apply_same(const struct apply_seen *a, const struct apply_seen *b);

/* Which directory root_fd is; to be kept from the session's first moment. */
_must_ int apply_root_of(int root_fd, struct apply_root *ret, struct err *e);

/*
 * Applies. 0, with ret filled; -EBUSY (another apply of this workspace), -ESTALE (root_fd is not
 * the directory it was), -EINPROGRESS (recover first), -EINVAL (the plan contradicts itself, or
 * names what is never applied), -EOPNOTSUPP (the file system lacks what is needed), or what the
 * kernel said: then nothing was changed. -EUCLEAN alone says that something was, and could not be
 * finished or taken back at once: the journal stays, recover.
 */
_must_ int apply_run(const struct apply_on *on, const struct apply_op *ops, size_t count,
                     enum apply_mode mode, struct apply_result *ret, struct err *e);

enum apply_recovered {
	APPLY_WAS_CLEAN,    /* nothing was interrupted */
	APPLY_TAKEN_BACK,   /* all is as before */
	APPLY_GONE_FORWARD, /* all is as wanted */
};

/*
 * Ends what was interrupted, an undo as well as an apply. To be called whenever a session is opened
 * for more than reading. -EBADMSG: the journal is damaged, which no crash does; nothing was
 * changed. Otherwise errors as apply_run()'s; it may be called again.
 */
_must_ int apply_recover(const struct apply_on *on, enum apply_recovered *ret,
                         struct apply_result *ret_result, struct err *e);

/* Is there an interrupted one? Cheap, and takes no lock. */
bool apply_interrupted(int session_fd);
