/*
 * hold: the guest at rest between two frames, so that a copy of it can be made.
 *
 * Theory of operation
 *
 * HOLD stops the workload, has what is pending sent, says HOLD_OK, and from then on the port is
 * shut: no frame is begun, whatever happens in here. The host sends nothing either, so a machine
 * that is saved now has no half of a frame anywhere, neither in our buffers nor in the port's.
 *
 * Two guests go on from there. The one that was copied is told RELEASE: its workload thaws, and
 * streams and credits are as they were. A copy is told IDENTITY with a new epoch, as the first
 * thing it hears: it takes on its own entropy, clock and names while its workload still stands, so
 * that no process runs a moment as its parent's twin; then it thaws.
 *
 * A workload that does not stop in AGENT_FREEZE_MS (a process may hang in the kernel) is let go on
 * again, and nothing is said: the host has a deadline of its own. Its RELEASE is answered in any
 * case, so it knows where it stands.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum hold { HOLD_NONE, HOLD_ASKED, HOLD_HELD };

struct agent;

/* -EPROTO: it is held already. */
int hold_begin(struct agent *a);

/* Says HOLD_OK once the workload stands and nothing is pending. */
void hold_settle(struct agent *a);
void hold_tick(struct agent *a, uint64_t now_ms);

/* Undoes it: the workload goes on, frames may be sent. Harmless when nothing is held. */
void hold_end(struct agent *a);
