#include "agent/limits.h"

#include "agent/agent.h"
#include "base/clock.h"

#include <sys/statvfs.h>

static void put_event(struct agent *a, uint8_t kind, bool killed, uint64_t count)
{
	struct wire_event v = { .kind = kind, .killed = killed, .count = count };

	wire_put_event(port_out(&a->port), a->epoch, &v);
}

static void report_oom(struct agent *a, bool killed)
{
	uint64_t now_ms = clock_mono_ms();
	bool recent = killed && a->oom_told > 0 && now_ms - a->oom_told_ms < LIMITS_OOM_RECENT_MS;
	uint64_t kills;

	a->oom_due_ms = 0;
	if (!cgroup_read_key(a->cg.memory_events_fd, "oom_kill", &kills))
		return;
	if (kills <= a->oom_told && !recent)
		return;
	a->oom_told = kills;
	a->oom_told_ms = now_ms;
	put_event(a, WIRE_EVENT_OOM, killed, kills);
}

/* Forks that were refused, too few for a fork bomb: why a command failed, perhaps. */
static void report_pids(struct agent *a)
{
	struct cgroups *c = &a->cg;
	uint64_t refused;

	if (!cgroup_read_key(c->pids_events_fd, "max", &refused) || refused <= c->refused_told)
		return;
	c->refused_told = refused;
	put_event(a, WIRE_EVENT_PIDS, false, refused);
}

static void report_disk(struct agent *a)
{
	struct statvfs v;
	uint64_t free_bytes;
	uint64_t floor;

	if (a->scratch_fd < 0 || fstatvfs(a->scratch_fd, &v) < 0)
		return;
	free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
	floor = ((uint64_t)v.f_blocks * v.f_frsize) >> AGENT_DISK_LOW_SHIFT;
	if (floor < AGENT_DISK_LOW_BYTES)
		floor = AGENT_DISK_LOW_BYTES;
	if (free_bytes < floor)
		put_event(a, WIRE_EVENT_DISK, false, ++a->disk_count);
}

void limits_report(struct agent *a, bool killed)
{
	report_oom(a, killed);
	report_pids(a);
	report_disk(a);
}

void limits_on_memory(struct agent *a)
{
	uint64_t now_ms = clock_mono_ms();

	if (a->oom_due_ms == 0) {
		a->oom_due_ms = now_ms + LIMITS_OOM_DELAY_MS;
		return;
	}
	if (now_ms < a->oom_due_ms)
		return;
	a->oom_due_ms = now_ms + LIMITS_OOM_DELAY_MS; /* if the port is full, later */
	if (port_has_room(&a->port))
		report_oom(a, false);
}

static uint64_t refused_max(const struct cgroups *c)
{
	uint64_t scaled = (uint64_t)c->pids_max * 4;

	return scaled < CGROUP_REFUSED_MAX ? scaled : CGROUP_REFUSED_MAX;
}

void limits_on_pids(struct agent *a)
{
	struct cgroups *c = &a->cg;
	uint64_t now_ms = clock_mono_ms();
	uint64_t refused;
	bool calm = now_ms - c->refused_ms > CGROUP_CALM_MS;

	if (c->pids_max == 0 || !cgroup_read_key(c->pids_events_fd, "max", &refused))
		return;
	c->refused_ms = now_ms;
	if (calm)
		c->refused_base = refused;
	if (refused - c->refused_base <= refused_max(c) || !port_has_room(&a->port))
		return;
	c->refused_base = c->refused_told = refused;
	put_event(a, WIRE_EVENT_PIDS, true, refused);
	cgroup_kill(c->workload_fd);
}
