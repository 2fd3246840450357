/*
 * state: the sandboxes of one user, as directories.
 *
 *   sandboxes/<id>/       made by the command that starts it
 *       lock              flock(LOCK_EX) by the supervisor for as long as it lives
 *       control.sock      wire frames, local types
 *       info.json         who it is: written once (struct state_info)
 *       log               bounded record of the main command's output (log.h)
 *   sandboxes/@<name>     a symbolic link to the id: the claim on a name is atomic
 *   ended/<id>/           result.json and log of a detached sandbox that ended by itself
 *
 * A directory whose lock nobody holds is dead: state_sweep() removes it, with its cgroup and name.
 * There is no daemon and no index to be out of step.
 */
#pragma once

#include "base/err.h"
#include "lib/spec.h"

enum {
	STATE_SANDBOXES_MAX = 4096, /* listed at once */
	STATE_ENDED_MAX = 64,       /* records kept; the oldest go first */
	STATE_ENDED_DAYS_MAX = 7,
	STATE_START_GRACE_MS = 10000, /* a directory without a supervisor yet may be this old */
};

struct state_info {
	char id[SPEC_ID_LEN + 1];
	char name[SPEC_NAME_MAX + 1]; /* "" when it has none but its id */
	char image[256];
	char command[256]; /* for people: words joined by blanks, cut */
	uint64_t created_ns;
	int32_t supervisor_pid;
	uint8_t level;
	bool ended;
};

struct state_list {
	struct state_info *items; /* newest first */
	size_t count;
};

void state_list_free(struct state_list *l);
OWN_DEFINE(struct state_list, state_list_free)

/* The live ones; with `ended` also the records. Sweeps first. */
_must_ int state_list(int state_fd, bool ended, struct state_list **ret, struct err *e);

/* By name, id or unique prefix of an id (4 or more). -ENOENT with a hint, -EEXIST when ambiguous. */
_must_ int state_find(int state_fd, const char *ref, bool ended, struct state_info *ret,
                      struct err *e);

/* Opens the control socket of a live sandbox. */
_must_ int state_connect(int state_fd, const char *id, int *ret_fd, struct err *e);

/* Opens sandboxes/<id> or ended/<id>, whichever there is. */
_must_ int state_open_dir(int state_fd, const char *id, int *ret_dir_fd, struct err *e);

/* Removes an ended record. */
_must_ int state_remove_ended(int state_fd, const char *id, struct err *e);

/* Removes what dead supervisors left: directories, names, cgroups, old records. Quick when there is nothing. */
void state_sweep(int state_fd);
