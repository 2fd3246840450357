/*
 * work_rescue: fetches a session's work when the guest that made it is gone.
 *
 * A guest is booted that runs nothing but the agent's export: no image, no network, a copy of the
 * session's disk. The disk itself is not written to, so a rescue may be tried as often as one
 * likes.
 *
 * Hostile   the disk: a guest mounts it, and only a guest
 */
#pragma once

#include "state/paths.h"
#include "state/work_session.h"

#define WORK_RESCUE_MEMORY (UINT64_C(256) << 20)

struct work_rescue {
	uint8_t engine;         /* enum spec_engine */
	uint8_t minimum_level;  /* enum level; not 0 */
	uint64_t collect_bytes; /* 0: spec_init()'s */
	uint32_t collect_ms;    /* 0: spec_init()'s */
	/* now and then while it goes on, if not NULL */
	void (*tick)(void *arg);
	void *arg;
};

/*
 * s is locked and SESSION_UNCOLLECTED. Blocks until it is done. 0: it is SESSION_SPOOLED, and
 * locked again. -EIO: it could not be done, the text says why, and s is as it was; with other
 * errors its lock may be lost.
 */
_must_ int work_session_rescue(const struct paths *p, int state_fd, struct work_session *s,
                               const struct work_rescue *c, struct err *e);
