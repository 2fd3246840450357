#include "agent/stats.h"

#include "agent/agent.h"
#include "base/clock.h"

#include <sys/statvfs.h>

void stats_read(const struct agent *a, struct wire_stats *ret)
{
	struct wire_stats got = { 0 };
	int dir = a->cg.workload_fd;
	struct statvfs v;
	uint64_t pids = 0;

	/* a figure the kernel does not have stays 0 */
	(void)cgroup_number(dir, "cpu.stat", "usage_usec", &got.cpu_us);
	(void)cgroup_number(dir, "memory.current", NULL, &got.memory_bytes);
	(void)cgroup_number(dir, "memory.peak", NULL, &got.memory_peak_bytes);
	(void)cgroup_number(dir, "pids.current", NULL, &pids);
	if (a->spare.pid != 0 && pids > 0)
		pids--; /* ours, not the user's */
	got.pids = (uint32_t)pids;
	(void)cgroup_read_key(a->cg.memory_events_fd, "oom_kill", &got.oom_kills);
	(void)cgroup_read_key(a->cg.pids_events_fd, "max", &got.pids_refused);
	if (a->scratch_fd >= 0 && fstatvfs(a->scratch_fd, &v) == 0) {
		got.disk_max_bytes = (uint64_t)v.f_blocks * v.f_frsize;
		got.disk_bytes = ((uint64_t)v.f_blocks - v.f_bfree) * v.f_frsize;
	}
	got.streams = streams_count(a);
	got.uptime_ms = clock_mono_ms();
	*ret = got;
}
