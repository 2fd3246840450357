#include "agent/power.h"

#include "agent/agent.h"
#include "base/clock.h"
#include "base/log.h"

#include <signal.h>
#include <sys/reboot.h>
#include <unistd.h>

enum { KILL_WAIT_MS = 1000 }; /* SIGKILL is done in microseconds, or hangs in the kernel */

void power_cut(void)
{
	/* The machine has no power switch to turn; a reset, which QEMU is told to end at
	 * (-no-reboot), is what both engines see at once. */
	(void)reboot(RB_AUTOBOOT);
	for (;;)
		(void)pause();
}

void power_begin(struct agent *a, uint32_t grace_ms)
{
	if (a->power != POWER_ON)
		return;
	a->power = POWER_TERM;
	a->power_until_ms =
		clock_mono_ms() + (grace_ms < AGENT_GRACE_MAX_MS ? grace_ms : AGENT_GRACE_MAX_MS);
	if (cgroup_freeze(&a->cg, false, NULL) < 0)
		log_warn("the workload cannot be thawed");
	child_close(&a->spare, &a->cg);
	(void)kill(-1, SIGTERM);
}

static bool populated(const struct agent *a)
{
	uint64_t v;

	return !cgroup_read_key(a->cg.events_fd, "populated", &v) || v != 0;
}

void power_step(struct agent *a, uint64_t now_ms)
{
	bool busy;

	if (a->power == POWER_ON)
		return;
	busy = populated(a) || streams_count(a) > 0;
	if (busy && now_ms < a->power_until_ms)
		return;
	if (busy && a->power == POWER_TERM) {
		a->power = POWER_KILL;
		a->power_until_ms = now_ms + KILL_WAIT_MS;
		cgroup_kill(a->cg.workload_fd);
		(void)kill(-1, SIGKILL);
		return;
	}
	port_drain(&a->port, AGENT_DRAIN_MS);
	sync();
	power_cut();
}
