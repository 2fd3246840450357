#include "agent/hold.h"

#include "agent/agent.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>

int hold_begin(struct agent *a)
{
	if (a->hold != HOLD_NONE)
		return -EPROTO;
	/* as before a template is saved; while the workload runs, so that nobody is waited for who
	 * cannot answer */
	identity_reopen(a);
	a->hold = HOLD_ASKED;
	a->frozen = true;
	a->port.shut = true;
	a->port.urgent = true; /* what waits for company does so no longer */
	a->hold_until_ms = clock_mono_ms() + AGENT_FREEZE_MS;
	if (cgroup_freeze(&a->cg, true, NULL) < 0)
		a->hold_until_ms = 0;
	return 0;
}

void hold_settle(struct agent *a)
{
	uint64_t frozen;

	if (a->hold != HOLD_ASKED || port_pending(&a->port) > 0)
		return;
	if (!cgroup_read_key(a->cg.events_fd, "frozen", &frozen) || frozen == 0)
		return;
	a->hold = HOLD_HELD;
	wire_put(port_out(&a->port), WIRE_HOLD_OK, 0, 0, a->epoch, span_of(NULL, 0));
}

void hold_tick(struct agent *a, uint64_t now_ms)
{
	if (a->hold == HOLD_ASKED && now_ms >= a->hold_until_ms)
		hold_end(a);
}

void hold_end(struct agent *a)
{
	if (a->hold == HOLD_NONE)
		return;
	a->hold = HOLD_NONE;
	a->port.shut = false;
	a->frozen = false;
	if (cgroup_freeze(&a->cg, false, NULL) < 0)
		log_warn("the workload cannot be thawed");
	a->refill_ms = clock_mono_ms(); /* the next child may have been due meanwhile */
}
