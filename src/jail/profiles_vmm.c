/* The profiles of berm-vmm and of its threads; the others are in profiles.c. */
#include "jail/rules.h"

static const struct jail_rule vmm_rules[] = {
#include "jail/profiles/common.def"
#include "jail/profiles/vmm.def"
};

static const struct jail_rule vmm_cpu_rules[] = {
#include "jail/profiles/vmm_cpu.def"
};

static const struct jail_rule vmm_io_rules[] = {
#include "jail/profiles/vmm_io.def"
};

static const struct jail_rule vmm_control_rules[] = {
#include "jail/profiles/vmm_control.def"
};

/*
 * No limit of processes and none of locked memory: the kernel takes the threads that work for a
 * ring or for KVM from the first, and a ring's own pages from the second, for all sandboxes of a
 * user together, and a disk without its ring is slow. The filters refuse threads, processes and
 * mlock(), and the cgroup counts. How far files may grow is for the caller to say: as far as the
 * disks and the memory are large.
 */
static const struct jail_limit vmm_limits[] = {
	{ RLIMIT_CORE, 0, "guest memory never lands in a file" },
	{ RLIMIT_NOFILE, 192,
	  "32 CPUs, 8 devices with 8 queues each, rings, sockets, a snapshot's" },
	{ RLIMIT_MSGQUEUE, 0, "no message queues" },
	{ RLIMIT_RTPRIO, 0, "no priority over the host" },
};

/* Nothing by path, at all: the new root is empty. */
const struct jail_profile jail_profile_vmm = {
	.name = "vmm",
	.ns_wanted = JAIL_NS_USER | JAIL_NS_NET | JAIL_NS_IPC | JAIL_NS_UTS | JAIL_NS_CGROUP |
	             JAIL_NS_MOUNT | JAIL_NS_PID,
	.new_root = true,
	.landlock = true,
	.landlock_abi_min = 1,
	.landlock_scopes = JAIL_SCOPE_ABSTRACT | JAIL_SCOPE_SIGNAL,
	.rules = vmm_rules,
	.rule_count = COUNT(vmm_rules),
	.limits = vmm_limits,
	.limit_count = COUNT(vmm_limits),
};

const struct jail_profile jail_profile_vmm_cpu = {
	.name = "vmm_cpu",
	.mark = JAIL_MARK_VMM_CPU,
	.rules = vmm_cpu_rules,
	.rule_count = COUNT(vmm_cpu_rules),
};

const struct jail_profile jail_profile_vmm_io = {
	.name = "vmm_io",
	.mark = JAIL_MARK_VMM_IO,
	.rules = vmm_io_rules,
	.rule_count = COUNT(vmm_io_rules),
};

const struct jail_profile jail_profile_vmm_control = {
	.name = "vmm_control",
	.mark = JAIL_MARK_VMM_CONTROL,
	.rules = vmm_control_rules,
	.rule_count = COUNT(vmm_control_rules),
};
