/*
 * workspace: the user's files in the guest. The image on the third disk is the lower layer, as the
 * host packed it and read-only at both ends; what the guest changes goes to an upper layer on the
 * scratch disk, which is all that leaves the guest again.
 *
 *   /run/berm/base               the image, mounted
 *   <scratch>/workspace/upper    what was changed; work/ beside it is overlayfs's own
 *
 * A guest that came to life to rescue (boot_rescue()) has the upper layer only: nothing of it is
 * mounted as a root, and nothing in it is run.
 */
#pragma once

#include "base/err.h"
#include "wire/wire.h"

#include <stdbool.h>

#define WORKSPACE_RESCUE_WORD "berm_rescue" /* an argument of ours: GUEST_RESCUE_WORD of lib */

struct workspace {
	int upper_fd; /* the upper layer, read only; -1: there is no workspace */
	bool mounted;
	char path[WIRE_PATH_MAX]; /* where, once it is */
};

void workspace_init(struct workspace *w);

/*
 * Makes the directories of the layers, and returns once they are on the disk. At boot, so that a
 * guest from a template pays nothing for it.
 */
_must_ int workspace_prepare(int scratch_fd, struct err *e);

/*
 * Mounts it, once in the life of a guest; a second call with the same path is none. What the kernel
 * remembers of the disk from before is forgotten first: in a template it was another one.
 */
_must_ int workspace_mount(struct workspace *w, int scratch_fd, const struct wire_workspace *want,
                           struct err *e);

/* Of a rescue: the upper layer as it was left. -ENOENT: there is none, so somebody removed it. */
_must_ int workspace_find(struct workspace *w, int scratch_fd, struct err *e);
