/*
 * power: the orderly end. TERM to all, a grace, KILL, sync, off.
 */
#pragma once

#include <stdint.h>

struct agent;

void power_begin(struct agent *a, uint32_t grace_ms);

/* Moves on when the workload is gone or the time is up. Does not return from the last step. */
void power_step(struct agent *a, uint64_t now_ms);

/* At once, whatever runs. */
_Noreturn void power_cut(void);
