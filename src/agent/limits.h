/*
 * limits: what the workload's limits did to it, told to the host as EVENTs.
 *
 * OOM    the kernel kills; told before the EXIT of the stream that ends of it (killed 1), or after
 *        LIMITS_OOM_DELAY_MS if only some other process of the workload seems to have died (killed
 *        0); told again as killed 1 if a stream does end of it within LIMITS_OOM_RECENT_MS
 * PIDS   refused forks are told before an EXIT (killed 0); CGROUP_REFUSED_MAX of them without
 *        CGROUP_CALM_MS of peace are a fork bomb: all of it is killed, and told before the EXITs
 *        that follow (killed 1)
 * DISK   told before an EXIT that leaves the scratch disk full
 */
#pragma once

#include <stdbool.h>

enum {
	LIMITS_OOM_DELAY_MS = 300, /* a killed process needs a while to let go of its memory */
	/*
	 * a large one on a busy host needs longer: its EXIT may still be owed to a kill so long ago
	 */
	LIMITS_OOM_RECENT_MS = 5000,
};

struct agent;

/* Before an EXIT: `killed` says that the stream's process died of SIGKILL. */
void limits_report(struct agent *a, bool killed);

void limits_on_memory(struct agent *a);
void limits_on_pids(struct agent *a);
