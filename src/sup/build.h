/*
 * build: makes the template of a spec: boots, warms up, comes to rest, saves.
 *
 * It is the job of a process of its own, berm-template, so that a build can be given up at any
 * moment by killing it, and the supervisor that asked for it keeps its loop.
 *
 * Hostile   the agent's frames: the image's own programs ran in the guest
 * Errors    -ETIMEDOUT (guest or engine is silent), -EPROTO (the agent broke the rules), and
 *           what starting and saving can meet
 */
#pragma once

#include "lib/guest.h"

#include <stdint.h>

enum {
	BUILD_WAIT_MS = 540000, /* for another's build; the supervisor gives up soon after */
	BUILD_BOOT_MS = 60000,  /* 1 s as a rule; a machine under load takes a few */
	BUILD_WARM_MS = 120000, /* each warm-up command */
	BUILD_REST_MS = 30000,  /* sync of the scratch disk */
	BUILD_SAVE_MS = 60000,
	BUILD_ROOM_MS = 1000, /* between looks at how much room there is, while nothing is heard */
	BUILD_LEARN_MS = 30000,  /* each step: the new identity, the list of pages */
	BUILD_OUTPUT_MAX = 4096, /* the last of what a failing warm-up command said */
};

/* fds of berm-template, after stdio */
enum {
	/* pipe: lines for the waiting caller, each behind BUILD_PROGRESS_MARK; one with the draft's
	 * name behind BUILD_DRAFT_MARK; then perhaps why it failed */
	BUILD_FD_REPORT = 3,
	BUILD_FD_SPEC = 4,      /* the spec's bytes */
	BUILD_FD_TEMPLATES = 5, /* directory */
	BUILD_FD_IMAGE = 6,
	BUILD_FD_COUNT = 7,
};

#define BUILD_PROGRESS_MARK "+"
#define BUILD_DRAFT_MARK    "=" /* whoever kills the builder removes it */

_must_ int build_template(const struct paths *p, const struct spec *spec,
                          const struct engine_ops *engine, int templates_fd, int image_fd,
                          struct err *e);

/*
 * Learns which pages of a new template its guests need first: starts one, runs a command in it and
 * writes down what it used, for those that follow. -EEXIST: they are known. -ENOTSUP: this engine
 * has no use for it.
 */
_must_ int build_learn(const struct paths *p, const struct spec *spec,
                       const struct engine_ops *engine, int templates_fd, int image_fd,
                       struct err *e);
