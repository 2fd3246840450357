/*
 * bpf: a profile's rules as a program for the kernel's system call filter.
 *
 * Shape     classic BPF over struct seccomp_data: the architecture, a search tree over the numbers
 *           of the calls, then the rules of that call, in the order of the table
 * Answers   the first rule that fits; a call that none fits kills the process, as does one of
 *           another architecture or with the x32 bit
 * Pure      no allocation, no system call; a few microseconds
 * Source    Documentation/userspace-api/seccomp_filter.rst; Documentation/networking/filter.rst
 */
#pragma once

#include "base/err.h"
#include "jail/jail.h"

#include <linux/filter.h>

enum {
	/* instructions, on a stack: 4 a call and 1 to 19 a rule; qemu's profile has 760 */
	JAIL_BPF_MAX = 2048,
};

/* self: our pid, for rules that say so. -E2BIG: over max instructions. */
_must_ int jail_bpf_compile(const struct jail_rule *rules, size_t count, uint32_t self,
                            struct sock_filter *ret, size_t max, size_t *ret_count, struct err *e);
