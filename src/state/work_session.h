/*
 * work_session: one agent on one workspace, from packing to the user's decision, as a directory.
 *
 *   sessions/<12 hex>/session.json    struct work_session_info, replaced whole at each step
 *                     lock            flock(LOCK_EX) by whoever works on it; holds "<pid> <what>"
 *                     base.erofs      the workspace as it was packed: what the guest reads. Who
 *                                     copies from it without the session's lock has flock(LOCK_SH)
 *                                     on it, who writes over it LOCK_EX (work_base.h)
 *                     base.manifest   the host's side of it, which no guest sees (work/base.h);
 *                                     sessions of an unchanged tree have both under several names
 *                     base.synced     there once those two are on the disk; empty
 *                     pack.json       what did not go in, and why
 *                     links           names by which a host would run other files (review/links.h)
 *                     scratch.img     the guest's disk; locked (flock) as long as a machine has it
 *                     rescue.img      a copy of it, while a rescue runs on that; locked likewise
 *                     spool.part      what has come of the guest's work
 *                     spool.tar       all of it, 0400: what is there is whole
 *                     proposal.idx, decisions.jsonl, journal, undo/    of review and apply
 *
 * Theory of operation
 *
 * Nothing here is removed by time, by a sweep or by an error: only by work_session_remove(), and by
 * work_session_list() where no guest ever ran. What a session leaves in which nothing was changed
 * is nobody's work, and so has bounds (SESSION_KEPT_MAX): its base, that the next pack of the
 * workspace need not begin from nothing. The same list holds it to them. A base alone may go on to
 * another session, once nothing that it is needed for is left to be decided (work_base.h). A step
 * is in session.json before what depends on it is done, so whoever comes after a crash knows what
 * may have happened: a session that says it runs, and whose lock nobody holds, was left by a
 * supervisor that died (work_session_open() says SESSION_UNCOLLECTED of it).
 *
 * The files of disks are locked by the open file that the machine itself has, so the kernel says
 * whether one may still be alive: no process id is trusted, and one that cannot be killed is seen
 * (work_session_vm_dead()). Nobody reads a spool before that.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/own.h"
#include "state/spec.h"
#include "wire/wire.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	SESSION_ID_LEN = SPEC_ID_LEN,
	SESSION_ROOT_MAX = 4096, /* PATH_MAX */
	SESSION_TEXT_MAX = 512,
	SESSION_WHAT_MAX = 64, /* who holds it: "review" */
	SESSION_JSON_MAX = 96 << 10,
	SESSIONS_MAX = 4096,    /* looked at in one list */
	SESSION_PREFIX_MIN = 4, /* of an id, to be found by */
	SESSION_BOOT_LEN = 36,  /* a UUID: random(4), boot_id */
	SESSION_KEPT_MAX = 4,   /* SESSION_UNCHANGED: one of a workspace, of the latest few */
	SESSION_KEPT_DAYS = 7,
};

enum work_session_state {
	SESSION_NONE = 0,        /* not known: work_session_find_any() */
	SESSION_PACKING = 1,     /* nothing ran; with a free lock it is worth nothing */
	SESSION_PACKED = 2,      /* the same, whole */
	SESSION_RUNNING = 3,     /* a machine may be alive */
	SESSION_COLLECTING = 4,  /* the same; its work is on its way to spool.part */
	SESSION_UNCOLLECTED = 5, /* the work is on scratch.img: work_session_rescue() */
	SESSION_SPOOLED = 6,     /* spool.tar is there, and nobody has read it */
	SESSION_PENDING = 7,     /* it was read: proposal.idx waits for decisions */
	SESSION_APPLYING = 8,    /* the journal says how far */
	SESSION_APPLIED = 9,     /* and can be undone */
	SESSION_UNCHANGED = 10,  /* nobody's work: its base is kept for the next pack alone */
	SESSION_STATE_COUNT = 11,
};

/* Texts are for people, and may hold a guest's words: whoever shows them escapes them. */
struct work_session_info {
	char id[SESSION_ID_LEN + 1];
	uint8_t state;        /* enum work_session_state */
	uint64_t created_ns;  /* real time */
	uint64_t changed_ns;  /* work_session_save() sets it */
	uint64_t snapshot_ns; /* when the workspace was packed; 0: not yet */
	/* the workspace on the host, raw bytes, and what it was then */
	char root[SESSION_ROOT_MAX];
	uint64_t root_dev, root_ino;  /* st_dev, st_ino */
	uint64_t root_btime_ns;       /* of apply_root_of(); 0: its file system does not say */
	char mount[SESSION_ROOT_MAX]; /* where it is in the guest */
	char agent[SPEC_NAME_MAX + 1];
	char image[SPEC_IMAGE_MAX + 1];
	char image_id[65];
	char sandbox[SPEC_ID_LEN + 1]; /* the last that ran it, or "" */
	char engine[16];
	char ended[32];                 /* result_reason_name() of that, or "" */
	uint32_t exit_code;             /* with `ended` */
	char message[SESSION_TEXT_MAX]; /* how it ended, one sentence, or "" */
	char why[SESSION_TEXT_MAX];     /* with SESSION_UNCOLLECTED: what went wrong */
	uint64_t spool_bytes;
	uint64_t expect_bytes; /* with SESSION_COLLECTING: of the guest's own word; 0: not known */
	uint64_t undecided;    /* changes, when it was last looked at; or SESSION_UNKNOWN */
	/* With SESSION_APPLIED: what a later review could still bring home, rejected changes and
	 * commits; or SESSION_UNKNOWN. */
	uint64_t left;
	uint64_t commits_home;     /* refs whose commits were brought home */
	uint64_t commits_declined; /* 1: the newest apply was told to leave them */
	/* The session that has this one's base now, or "". Written before base.erofs leaves, and
	 * read as "" while that is still here. */
	char handed_to[SESSION_ID_LEN + 1];
	char boot[SESSION_BOOT_LEN + 1]; /* of the host, when it was packed; "": not known */
};

#define SESSION_UNKNOWN ((uint64_t)INT64_MAX)

/* Of all bases that are kept for no other use than the next pack. */
#define SESSION_KEPT_BYTES_MAX (UINT64_C(16) << 30)

struct work_session {
	int dir_fd;
	int lock_fd; /* -1: not held */
	struct work_session_info info;
};

void work_session_init(struct work_session *s);
void work_session_close(
	struct work_session *s); /* the lock goes too, if nobody was handed a copy */
static inline void work_session_close_scope(struct work_session *s)
{
	work_session_close(s);
}

const char *work_session_state_name(uint8_t state); /* "pending", ... */
bool work_session_id_ok(const char *id);

/*
 * Makes a session in SESSION_PACKING, its lock held as `what`. Of info are taken: root, root_dev,
 * root_ino, root_btime_ns, mount, agent, image, image_id.
 */
_must_ int work_session_new(int state_fd, const struct work_session_info *info, const char *what,
                            struct work_session *ret, struct err *e);

/*
 * Opens one by its id, without its lock. Of one whose supervisor died ret->info.state is
 * SESSION_UNCOLLECTED, or SESSION_PACKED where no guest ever had a disk. -ENOENT; -EBADMSG: its
 * session.json cannot be read.
 */
_must_ int work_session_open(int state_fd, const char *id, struct work_session *ret, struct err *e);

/*
 * What a supervisor was handed: the directory and its lock, held (lib/start.h). Takes both, also on
 * failure.
 */
_must_ int work_session_adopt(int dir_fd, int lock_fd, struct work_session *ret, struct err *e);

/* By id or unique prefix of one. -ENOENT with a hint, -EEXIST: ambiguous. */
_must_ int work_session_find(int state_fd, const char *ref, struct work_session *ret,
                             struct err *e);

/*
 * The same, and one whose session.json is damaged or gone: its state is SESSION_NONE, its `why`
 * what is wrong, and it can be locked, measured and removed.
 */
_must_ int work_session_find_any(int state_fd, const char *ref, struct work_session *ret,
                                 struct err *e);

/*
 * Takes the lock, and reads info again under it. A dead holder's is free. -EBUSY: somebody has it,
 * and the text says who and at what. `what` is a word: "review".
 */
_must_ int work_session_lock(struct work_session *s, const char *what, struct err *e);
void work_session_unlock(struct work_session *s);

/* Writes info, whole and synced. The lock must be held. */
_must_ int work_session_save(struct work_session *s, struct err *e);

/*
 * Is every machine that ever had a disk of this session dead? Asks the kernel. -EBUSY: one may be
 * alive, and its work must not be read.
 */
_must_ int work_session_vm_dead(const struct work_session *s, struct err *e);

/*
 * Its spool, read only, once that may be read: the lock is held, the state is SESSION_SPOOLED or
 * later, the machine is dead.
 */
_must_ int work_session_open_spool(const struct work_session *s, int *ret_fd, struct err *e);

/* Removes the guest's disk, once a proposal was read from the spool. The lock must be held. */
_must_ int work_session_drop_scratch(struct work_session *s, struct err *e);

/*
 * Puts its base on the disk, report and all, and notes that (base.synced). Not at a start, which
 * would wait for it, but before its work is there to be read: without the base it means nothing.
 * Anybody who has dir_fd may call it, more than one at a time too.
 */
_must_ int work_session_sync_base(const struct work_session *s, struct err *e);
/* That is noted, or the machine has not gone down since: the base has all that was packed. */
bool work_session_base_whole(const struct work_session *s);

/* What it takes on the disk; of a base that several sessions have, its part of it. */
uint64_t work_session_disk_bytes(const struct work_session *s);

struct work_session_list {
	struct work_session_info *items; /* newest first */
	uint64_t *disk_bytes;            /* of each */
	size_t count;
};
void work_session_list_free(struct work_session_list *l);
OWN_DEFINE(struct work_session_list, work_session_list_free)

/*
 * All there are. What was being packed when its maker died is removed, and of bases that are kept
 * what is over its bounds.
 */
_must_ int work_session_list(int state_fd, struct work_session_list **ret, struct err *e);

/*
 * Nothing was changed in it, or no guest ran: all goes but its base, which is kept for the next
 * pack of its workspace (SESSION_UNCHANGED). Where there is none, or another session has it too,
 * all goes. The lock must be held, the machine be dead; s is closed.
 */
_must_ int work_session_keep_base(int state_fd, struct work_session *s, struct err *e);

/* Removes it, work and all. The lock must be held, the machine be dead; s is closed. */
_must_ int work_session_remove(int state_fd, struct work_session *s, struct err *e);

/* work_session_json.c: session.json. -EBADMSG. */
void work_session_put_json(struct buf *out, const struct work_session_info *info);
_must_ int work_session_parse_json(struct span text, struct work_session_info *ret, struct err *e);
