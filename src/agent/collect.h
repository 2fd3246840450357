/*
 * collect: what the host is told of a workspace at its end (WIRE_COLLECT).
 *
 * The workload is frozen for good, and then the file system of the scratch disk with all that was
 * written to it: from there on nothing changes, whatever a process holds open or has mapped. A
 * child of the agent, outside of the workload, then exports the upper layer (export.h).
 */
#pragma once

#include "base/span.h"
#include "wire/wire.h"

struct agent;
struct mail;

/* Stops the workload and opens the stream. */
void collect_begin(struct agent *a, const struct wire_frame *f);

/* In the child: waits for the workload's rest, freezes the disk, says how much it is, exports. */
_Noreturn void collect_main(struct mail *mail);
