/*
 * state: the sandboxes of one user, as directories.
 *
 *   sandboxes/<id>/       made by the command that starts it; appears whole, its lock already held
 *       lock              flock(LOCK_EX) by the supervisor for as long as it lives
 *       control.sock      wire frames, local types
 *       info.json         who it is (struct state_info)
 *       cgroup            cgroup_put() of its control group, if it has one
 *       log, log.1        bounded record of the main command's output (outlog.h)
 *       egress.sock       with a network: what commands ask about it (egress_ask.h)
 *       policy            the compiled policy in force
 *       egress.jsonl, .0, .1  what became of its connections (egress_log.h)
 *   sandboxes/@<name>     a symbolic link to the id: the claim on a name is atomic
 *   sandboxes/.names      flock(LOCK_EX) while a claim is made or taken back
 *   ended/<id>/           result.json, info.json, logs and policy of a detached sandbox that ended
 *                         by itself
 *   templates/.tmp-<x>/   a template under way; its builder holds the lock file in it
 *   snapshots/<name>/     what `berm snapshot` saved; .tmp-<x>/ as above
 *
 * A directory whose lock nobody holds is dead: state_sweep() removes it, with its cgroup and name.
 * There is no daemon and no index to be out of step. docs/internals/state.md has the races.
 */
#pragma once

#include "base/err.h"
#include "base/span.h"
#include "state/spec.h"

enum {
	STATE_SANDBOXES_MAX = 4096, /* listed at once */
	STATE_ENDED_MAX = 64,       /* records kept; the oldest go first */
	STATE_ENDED_DAYS_MAX = 7,
	STATE_START_GRACE_MS =
		10000, /* what is not locked yet may be this old and still be under way */
	STATE_LOCK_GRACE_MS = 1000, /* a template's builder is this long in making its lock file */
	STATE_NAMES_WAIT_MS = 2000, /* for others' claims, each a few system calls */
	STATE_ENTRIES_MAX = 16384,  /* directory entries looked at in one sweep or list */
	STATE_INFO_JSON_MAX = 8 << 10,
	STATE_ENGINE_MAX = 16,     /* bytes of an engine's name, with the NUL */
	STATE_FILE_NAME_MAX = 128, /* of a directory state_make_dir() makes */
};

#define STATE_CGROUP_PREFIX "berm-" /* a sandbox's control group is called this and its id */

struct state_info {
	char id[SPEC_ID_LEN + 1];
	char name[SPEC_NAME_MAX + 1]; /* "" when it has none but its id */
	char image[256];
	char command[256]; /* for people: words joined by blanks, cut */
	uint64_t created_ns;
	int32_t supervisor_pid;        /* 0 before it wrote itself */
	uint8_t level;                 /* enum level; 0 before there is an engine */
	char engine[STATE_ENGINE_MAX]; /* "kvm"; "" before there is one */
	bool paused;
	bool ended; /* not in info.json: said by where it was found */
};

struct state_list {
	struct state_info *items; /* newest first */
	size_t count;
};

void state_list_free(struct state_list *l);
OWN_DEFINE(struct state_list, state_list_free)

/* The live ones; with `ended` also the records. Sweeps first. */
_must_ int state_list(int state_fd, bool ended, struct state_list **ret, struct err *e);

/* By name, id or unique prefix of an id (4 or more). -ENOENT with a hint, -EEXIST: ambiguous. */
_must_ int state_find(int state_fd, const char *ref, bool ended, struct state_info *ret,
                      struct err *e);

/* Opens the control socket of a live sandbox. */
_must_ int state_connect(int state_fd, const char *id, int *ret_fd, struct err *e);

/* Opens sandboxes/<id> or ended/<id>, whichever there is. */
_must_ int state_open_dir(int state_fd, const char *id, int *ret_dir_fd, struct err *e);

/* Removes an ended record. */
_must_ int state_remove_ended(int state_fd, const char *id, struct err *e);

/*
 * Removes what the dead left: directories, names, cgroups, templates under way, and old records.
 * Under a millisecond when there is nothing to do.
 */
void state_sweep(int state_fd);

/* Does a supervisor (or the command about to start one) hold the sandbox's lock? */
bool state_alive(int state_fd, const char *id);

/*
 * --- making and ending: start.c, the supervisor, builders of templates ---
 */

/*
 * Makes directory `name` in parent_fd (0700) with a file `lock` in it that is already held by
 * ret_lock_fd when the directory appears, so no sweep can take it for dead. It is live until the
 * last copy of ret_lock_fd is closed. info may be NULL. -EEXIST: the name is taken.
 */
_must_ int state_make_dir(int parent_fd, const char *name, const struct state_info *info,
                          int *ret_dir_fd, int *ret_lock_fd, struct err *e);

/* Writes or replaces info.json: the old one or the new one is seen, never a part. Not fsynced. */
_must_ int state_write_info(int dir_fd, const struct state_info *info, struct err *e);

/* Claims a name for a live sandbox. -EEXIST says who has it; a dead holder's is taken over. */
_must_ int state_claim_name(int state_fd, const char *name, const char *id, struct err *e);

/* Takes a claim back if it is still this id's. */
void state_release_name(int state_fd, const char *name, const char *id);

/*
 * The supervisor's last act, its lock still held: with a record (result_put_json, not empty) moves
 * info.json and the logs to ended/<id> and writes result.json there; then takes back the name (NULL
 * or "": none) and removes sandboxes/<id>. All is removed even when the record cannot be kept.
 */
_must_ int state_end(int state_fd, const char *id, const char *name, struct span record,
                     struct err *e);
