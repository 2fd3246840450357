/*
 * journal: what an apply will do, on disk before it does it.
 *
 * Hostile   nobody, but power: any byte that was not synced may be missing. And disks rot
 * Shape     head (4096 bytes) | three marks of 512 | padding to 8192 | step records | end record.
 *           Little endian; each part has a checksum (CRC-32) of its own. A mark is one sector,
 *           written and synced alone, over room that exists already: it cannot fail for want of
 *           space. It holds the length and checksum of all records
 * Marks     commit: forward from here. abort, over commit: back. done: nothing is left to move
 * Errors    -EAGAIN: more is needed; -EBADMSG: not what we write; -ENOENT: no such mark
 * Owns      a struct journal owns its fd and memory
 */
#pragma once

#include "base/buf.h"
#include "base/span.h"
#include "work/apply.h"

#include <sys/types.h>

enum {
	JOURNAL_HEAD_BYTES = 4096,
	JOURNAL_MARK_BYTES = 512, /* a sector: written whole or not at all */
	JOURNAL_STEPS_AT = 8192,
	JOURNAL_PREFIX_BYTES = 8, /* of a record: its length, its checksum */
	JOURNAL_RECORD_MAX = 2 * (WPATH_MAX + 2) + 128,
	JOURNAL_BYTES_MAX = 1 << 30,               /* a million steps of long paths */
	JOURNAL_STEPS_MAX = 2 * APPLY_OPS_MAX + 2, /* a move through the staging directory is two */
};

enum journal_kind { JOURNAL_APPLY = 1, JOURNAL_UNDO = 2 };

struct journal_head {
	uint8_t kind;        /* enum journal_kind */
	uint8_t keep;        /* undo: some paths were left out, so its generation stays */
	uint32_t generation; /* made by this apply, or undone by it */
	struct apply_root root;
	char session[APPLY_SESSION_MAX + 1];
};

enum journal_mark { JOURNAL_COMMIT, JOURNAL_ABORT, JOURNAL_DONE, JOURNAL_MARKS };

/* Length and checksum of the records a mark was set over. */
struct journal_sum {
	uint32_t bytes, crc;
};

/* One rename or chmod; in order. What each does, and how it is told whether it happened: step.h. */
enum step_type {
	STEP_CHMOD = 1, /* path; other: its other name, before or after all moves */
	STEP_OUT,       /* path goes into its slot */
	STEP_MOVE,      /* path to other */
	STEP_MOVE_OUT,  /* path into a slot, on its way to other */
	STEP_MOVE_IN,   /* and from there to other */
	STEP_IN,        /* the slot's object to path, which is free */
	STEP_SWAP,      /* the slot's object to path, what stood there into the slot;
	           * other: its name before any move */
	STEP_TYPES,
};

struct journal_step {
	uint8_t type;  /* enum step_type */
	uint8_t flags; /* enum step_flag */
	uint32_t slot;
	struct apply_seen was;    /* what is to be found */
	struct apply_seen now;    /* what is to stand there instead; of MOVE and OUT nothing */
	const char *path, *other; /* never NULL; "" where there is none */
};

enum step_flag {
	STEP_SOFT = 1,  /* a directory that may stay if it is not empty */
	STEP_EARLY = 4, /* a mode set before any move: path is the name before them */
	STEP_LATE = 2,  /* a mode of a new directory, set last */
};

/* Pure: journal_parse.c and journal_put.c. */
uint32_t journal_crc(uint32_t crc, struct span bytes);
_must_ int journal_parse_head(struct span in, struct journal_head *ret);
_must_ int journal_parse_mark(struct span in, enum journal_mark want, struct journal_sum *ret);
/* Takes one record. The strings of ret lie in it. *ret_end: it is the end record, which holds the
 * number of steps before it in ret->slot. */
_must_ int journal_parse_step(struct span *in, struct journal_step *ret, bool *ret_end);
void journal_put_head(struct buf *out, const struct journal_head *h);
void journal_put_mark(struct buf *out, enum journal_mark m, struct journal_sum sum);
void journal_put_step(struct buf *out, const struct journal_step *s);
void journal_put_end(struct buf *out, uint32_t steps);

/* A journal being written. */
struct journal;

void journal_free(struct journal *j);
OWN_DEFINE(struct journal, journal_free)

/* Makes name in dir, with its head and room for the marks; not synced. -EEXIST: one is there. */
_must_ int journal_new(int dir_fd, const char *name, const struct journal_head *h,
                       struct journal **ret, struct err *e);
_must_ int journal_sync(struct journal *j, struct err *e);
/* Appends; journal_end() writes the rest out. */
_must_ int journal_add(struct journal *j, const struct journal_step *s, struct err *e);
_must_ int journal_end(struct journal *j, struct err *e);
/* Writes one mark over the records, not synced. */
_must_ int journal_mark(struct journal *j, enum journal_mark m, struct err *e);

/* One read back whole. */
struct journal_read {
	struct journal_head head;
	bool head_ok, steps_ok; /* the first and last are complete, or were never written so far */
	bool torn_mark;         /* a mark is neither whole nor missing */
	bool marks[JOURNAL_MARKS];
	struct journal_step *steps;
	uint32_t steps_count;
	struct journal *j; /* to set marks with */
	char *bytes;       /* what the strings lie in */
	size_t len;
};

void journal_read_free(struct journal_read *j);
OWN_DEFINE(struct journal_read, journal_read_free)

/* -ENOENT: none. -EBADMSG: a mark was set over other records than these: a disk's fault. */
_must_ int journal_open(int dir_fd, const char *name, struct journal_read **ret, struct err *e);
