/* The profile of berm-gate; the others are in profiles.c. */
#include "jail/rules.h"

static const struct jail_rule gate_rules[] = {
#include "jail/profiles/common.def"
#include "jail/profiles/gate.def"
};

static const struct jail_limit gate_limits[] = {
	{ RLIMIT_CORE, 0, "what the guest sends, and the key of its authority, land in no file" },
	{ RLIMIT_NOFILE, 16384, "12 288 connections and 1024 flows of datagrams" },
	{ RLIMIT_MSGQUEUE, 0, "no message queues" },
	{ RLIMIT_RTPRIO, 0, "no priority over the host" },
};

/* Nothing by path, at all: the new root is empty. */
const struct jail_profile jail_profile_gate = {
	.name = "gate",
	.ns_wanted = JAIL_NS_USER | JAIL_NS_NET | JAIL_NS_IPC | JAIL_NS_UTS | JAIL_NS_CGROUP |
	             JAIL_NS_MOUNT | JAIL_NS_PID,
	.new_root = true,
	.landlock = true,
	.landlock_abi_min = 1,
	.landlock_scopes = JAIL_SCOPE_ABSTRACT | JAIL_SCOPE_SIGNAL,
	.rules = gate_rules,
	.rule_count = COUNT(gate_rules),
	.limits = gate_limits,
	.limit_count = COUNT(gate_limits),
};
