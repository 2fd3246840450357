/*
 * state_internal: what the three files of state share.
 */
#pragma once

#include "state/state.h"

#include <dirent.h>

enum state_lock { STATE_LOCK_ABSENT, STATE_LOCK_FREE, STATE_LOCK_HELD };

/*
 * Is <parent>/<name>/lock held by somebody? A probe takes the lock shared, so that two of them
 * never take each other for its holder. What cannot be told counts as held: only the certainly dead
 * is removed.
 */
enum state_lock state_probe_lock(int parent_fd, const char *name);

/* Removes a tree, as far as it can: what resists is left for the next sweep. */
void state_discard(int dir_fd, const char *name);

/* A folder of the state directory, for reading. */
_must_ int state_open_folder(int state_fd, const char *folder, int *ret_fd, struct err *e);

/* Opens it as a directory stream; takes nothing, closes with closedir(). NULL if it cannot. */
DIR *state_open_stream(int state_fd, const char *folder);

static inline void state_close_stream(DIR *dir)
{
	if (dir)
		(void)closedir(dir);
}
OWN_DEFINE(DIR, state_close_stream)

/* Removes claim file "@name" if, the names lock held, its sandbox is not live. Does not wait. */
void state_sweep_name(int sandboxes_fd, const char *claim);
