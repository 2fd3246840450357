/*
 * stats: what the workload uses, from its cgroup and the scratch disk.
 */
#pragma once

#include "wire/wire.h"

struct agent;

void stats_read(const struct agent *a, struct wire_stats *ret);
