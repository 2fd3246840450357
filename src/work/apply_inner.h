/*
 * apply_inner: what the files of apply share. Nobody else includes it but undo.
 */
#pragma once

#include "work/apply.h"
#include "work/journal.h"

#include <sys/stat.h>

#define APPLY_STAGE_PREFIX ".berm-stage-"
#define APPLY_JOURNAL_NAME "journal"
#define APPLY_UNDO_NAME    "undo"

enum {
	APPLY_STAGE_NAME_MAX = 64,
	APPLY_SLOT_NAME_MAX = 16, /* eight hex digits and one letter */
};

/* One apply, undo or recovery under way. */
struct apply_run {
	const struct apply_on *on;
	int lock_fd, stage_fd, undo_fd; /* -1 where there is none */
	bool exchange;
	bool recovering;
	struct journal_head head;
	struct journal *journal; /* borrowed */
	const struct journal_step *steps;
	uint32_t steps_count;
	uint8_t *fate;           /* of a plan's operations; NULL in a recovery */
	const uint32_t *step_op; /* with fate */
	struct apply_result result;
};

/* A place: an O_PATH fd of its directory, and its name there, which lies in the path. */
struct apply_place {
	int dir_fd;
	const char *name;
};

/* -- apply_point.c ----------------------------------------------------------------------------- */
/* Tests only: what is injected here. 0 in production. */
_must_ int apply_at(const struct apply_on *on, enum apply_point p, struct err *e);
void apply_say(struct apply_run *r, const char *path, enum apply_word w);

/* -- apply_host.c: looking at the user's tree -------------------------------------------------- */
/* Opens the directory of path; -ENOENT, -ENOTDIR, -ELOOP, -EXDEV where that is none of ours. */
_must_ int apply_place(int root_fd, const char *path, struct apply_place *ret, struct err *e);
/* What stands at name in the directory. */
_must_ int apply_look_at(int dir_fd, const char *name, struct apply_seen *ret, struct err *e);
/* Are they the same object, whatever a rename made of its ctime? Of files: unchanged, too. */
bool apply_is(const struct apply_seen *now, const struct apply_seen *was);
/* True: it holds nothing. False: something, or it cannot be read. */
bool apply_dir_empty(int dir_fd, const char *name);
/* Of a resolved path: it is the host that changed, not the machine that failed. */
bool apply_errno_soft(int r);
/* May the caller rename and remove what stands at name, or make it? As far as can be asked. */
_must_ int apply_may_write(const struct apply_place *at, struct err *e);
_must_ int apply_may_chmod(const struct apply_place *at, struct err *e);
/* Is there a file or link of this content, mode and target already? */
_must_ int apply_equals(const struct apply_place *at, const struct apply_op *op, bool *ret,
                        struct err *e);
/* Reads up to len bytes of the content from `at` on; *ret_len is short at its end alone. */
_must_ int apply_content_open(const struct apply_content *c, int *ret_fd, struct err *e);

/* -- apply_lock.c ------------------------------------------------------------------------------ */
_must_ int apply_lock(struct apply_run *r, struct err *e);
void apply_stage_name(const struct apply_on *on, char ret[APPLY_STAGE_NAME_MAX]);

struct apply_name {
	struct apply_name *next;
	char text[];
};

/* -- apply_plan.c: a plan checked against itself and the host, and made into steps ------------- */
struct apply_plan {
	const struct apply_op *ops;
	uint32_t count;
	uint8_t *fate; /* enum apply_word of each: APPLIED until something else is found */
	struct apply_seen *found;     /* what the check saw where each applies */
	uint32_t *made, made_count;   /* PUT, MKDIR, MOVE by path */
	uint32_t *gone, gone_count;   /* DELETE, RMDIR, MOVE by name on the host */
	uint32_t *chmod, chmod_count; /* CHMOD by path */
	struct journal_step *steps;
	uint32_t *step_op; /* the operation of each */
	uint32_t steps_count;
	struct apply_name *names; /* names on the host that differ from those of the result */
};

void apply_plan_free(struct apply_plan *p);
OWN_DEFINE(struct apply_plan, apply_plan_free)
_must_ int apply_plan_new(const struct apply_op *ops, size_t count, struct apply_plan **ret,
                          struct err *e);
/* The one at exactly this path, or NULL. */
const struct apply_op *apply_plan_made(const struct apply_plan *p, struct span path);
const struct apply_op *apply_plan_gone(const struct apply_plan *p, struct span host);
uint8_t apply_plan_fate(const struct apply_plan *p, const struct apply_op *op);
/* The operation that makes the directory whose mode this CHMOD sets, or NULL: it is there. */
const struct apply_op *apply_plan_maker(const struct apply_plan *p, const struct apply_op *chmod);

enum apply_where { WHERE_HOST, WHERE_VACANT, WHERE_NO_PARENT };

/* Where on the host is now what the result will have at path? ret: room for WPATH_MAX + 1. */
enum apply_where apply_plan_where(const struct apply_plan *p, const char *path,
                                  const struct apply_op *but, char *ret);

/* -- apply_check.c ----------------------------------------------------------------------------- */
_must_ int apply_check(struct apply_run *r, struct apply_plan *p, struct err *e);

/* -- apply_order.c ----------------------------------------------------------------------------- */
/* Orders what is left into steps. */
_must_ int apply_compile(struct apply_plan *p, struct err *e);

/* -- apply_stage.c ----------------------------------------------------------------------------- */
void apply_slot_name(uint32_t slot, char letter, char ret[APPLY_SLOT_NAME_MAX]);
/* Makes (or, to recover, opens) the staging directory, and learns what the file system can. */
_must_ int apply_stage_open(struct apply_run *r, bool make, struct err *e);
_must_ int apply_stage_all(struct apply_run *r, struct apply_plan *p, struct err *e);
/* from_fd may be an O_PATH fd. exact: all of them; else those that a host's file keeps. */
_must_ int apply_copy_xattrs(int from_fd, int to_fd, bool exact, bool *ret_lost, struct err *e);

/* -- apply_step.c ------------------------------------------------------------------------------ */
enum apply_stepped { STEPPED, STEPPED_NOT /* the host changed: both are kept */ };
_must_ int apply_step_forward(struct apply_run *r, const struct journal_step *s,
                              enum apply_stepped *ret, struct err *e);
_must_ int apply_step_back(struct apply_run *r, const struct journal_step *s,
                           enum apply_stepped *ret, struct err *e);

/* -- apply_commit.c: from the mark on ---------------------------------------------------------- */
/*
 * Forward, or if that fails (or, with `all`, the host changed something) back, up to the done mark.
 * -EAGAIN: it went back because of the host. Other failures: it went back; -EUCLEAN: it could not.
 */
_must_ int apply_forward(struct apply_run *r, bool all, struct err *e);
_must_ int apply_back(struct apply_run *r, struct err *e);
/* Every step, without marks: of what never reached its mark. */
_must_ int apply_back_steps(struct apply_run *r, struct err *e);

/* -- apply_finish.c ---------------------------------------------------------------------------- */
/* After the done mark: what was displaced goes to the undo store, staging and journal go. */
_must_ int apply_finish(struct apply_run *r, bool aborted, struct err *e);
/* Before any mark: staging and journal go. */
_must_ int apply_abandon(struct apply_run *r, struct err *e);

/* -- apply.c ----------------------------------------------------------------------------------- */
void apply_run_init(struct apply_run *r, const struct apply_on *on);
void apply_run_fini(struct apply_run *r);
_must_ int apply_run_as(const struct apply_on *on, const struct apply_op *ops, size_t count,
                        enum apply_mode mode, uint32_t undo_of, struct apply_result *ret,
                        struct err *e);

/* -- undo_store.c ------------------------------------------------------------------------------ */
enum { UNDO_NAME_MAX = 8 };

/* undo/ itself; -ENOENT unless make. */
_must_ int undo_store_open(int session_fd, bool make, int *ret_fd, struct err *e);
/* undo/<generation>. */
_must_ int undo_store_at(int session_fd, uint32_t generation, bool make, int *ret_fd,
                         struct err *e);
_must_ int undo_store_highest(int session_fd, uint32_t *ret, struct err *e);
/*
 * Moves an object from the staging directory into to_fd; to another file system it is copied, and
 * the original left. *ret_left: it is a directory with something in it, which is not copied.
 */
_must_ int undo_keep(struct apply_run *r, int to_fd, const char *from, const char *to,
                     bool *ret_left, struct err *e);
