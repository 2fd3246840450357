/*
 * control: the host's frames, each a row of a table.
 */
#pragma once

#include <stdint.h>

struct agent;

/* Answers every whole frame that has arrived, while there is room for the answers. */
void control_pump(struct agent *a);

/* A freeze that is under way: answers once all has stopped. */
void control_on_cgroup(struct agent *a);
void control_tick(struct agent *a, uint64_t now_ms);

/* Answers a QUIESCE once no stream is open. */
void control_settle(struct agent *a);
