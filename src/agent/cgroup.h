/*
 * cgroup: where the workload lives, and what its limits did.
 *
 *   /               the agent and its file helpers: under no limit
 *   /workload       memory.max, pids.max, cgroup.freeze; what the host's limits mean
 *   /workload/e7    one exec with all its descendants, so that they can be killed together
 *
 * Processes of an exec may outlive its main one. Then its cgroup stays until they are gone: it is
 * kept in a list and removed when a later exec is made.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	/* What the workload may not have: 20 MiB are the kernel's and the agent's at rest, and they
	 * grow with the memory there is; the agent's buffers when every stream is stalled; and
	 * pages to reclaim into. With less, the whole guest runs out before its workload does: then
	 * there is nobody to kill and it panics, or it reads its programs' pages again and
	 * again. */
	CGROUP_RESERVE_BYTES = 28 << 20,
	CGROUP_RESERVE_SHIFT = 6,     /* plus 1/64 of all */
	CGROUP_MEMORY_MIN = 16 << 20, /* a smaller limit starts nothing */
	CGROUP_LEFT_MAX = 256,
	/* Forks refused before the workload is taken for a fork bomb. A build that runs into its
	 * limit sees a few; a bomb makes thousands a second. */
	CGROUP_REFUSED_MAX = 256,
	CGROUP_CALM_MS = 30000, /* without a refusal: what came before does not count any more */
};

struct cgroups {
	int root_fd, workload_fd;
	int memory_events_fd, pids_events_fd, events_fd;
	uint32_t serial;
	uint32_t left[CGROUP_LEFT_MAX];
	unsigned left_count;
	uint64_t memory_max; /* as last asked for */
	uint32_t pids_max;   /* 0: none */
	bool limited;
	uint64_t refused_base;
	uint64_t refused_ms; /* of the last one */
	uint64_t refused_told;
};

/* Makes /workload in the cgroup2 mounted at /sys/fs/cgroup. */
_must_ int cgroup_init(struct cgroups *c, struct err *e);

/* Sets the workload's limits; 0 is none (pids) or all but the reserve (memory). */
_must_ int cgroup_limit(struct cgroups *c, uint64_t memory_max, uint32_t pids_max, struct err *e);

/* A fresh cgroup for one exec. cgroup_drop() closes the fd and removes it, now or later. */
_must_ int cgroup_make(struct cgroups *c, int *ret_fd, uint32_t *ret_serial, struct err *e);
void cgroup_drop(struct cgroups *c, int fd, uint32_t serial);
void cgroup_sweep(struct cgroups *c);

/* SIGKILL to every process in it, and in those below. */
void cgroup_kill(int cgroup_fd);
void cgroup_kill_left(struct cgroups *c);

_must_ int cgroup_freeze(struct cgroups *c, bool frozen, struct err *e);

/* One number of a cgroup file: "key value" lines, or the file's only number for key NULL. */
bool cgroup_number(int cgroup_fd, const char *file, const char *key, uint64_t *ret);
/* The same from a file that is open already. */
bool cgroup_read_key(int fd, const char *key, uint64_t *ret);
