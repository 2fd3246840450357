/*
 * The profiles: tables built from profiles/NAME.def, with the paths and limits that go with them.
 * Those of berm-vmm are in profiles_vmm.c: what a start waits for carries no tables of others,
 * whose every reason is a pointer to be set right before main().
 */
#include "jail/rules.h"

static const struct jail_rule qemu_rules[] = {
#include "jail/profiles/common.def"
#include "jail/profiles/qemu.def"
};

static const struct jail_rule unpack_rules[] = {
#include "jail/profiles/common.def"
#include "jail/profiles/unpack.def"
};

static const struct jail_rule supervisor_rules[] = {
#include "jail/profiles/common.def"
#include "jail/profiles/supervisor.def"
};

/* Beside the program itself, which berm-qemu adds: nothing of the user's, nothing of ours. */
static const struct jail_path qemu_paths[] = {
	{ .path = "/usr/lib",
	  .access = JAIL_READ | JAIL_EXEC,
	  .why = "libraries, modules, loader" },
	{ .path = "/usr/lib64",
	  .access = JAIL_READ | JAIL_EXEC | JAIL_OPTIONAL,
	  .why = "the loader" },
	{ .path = "/lib", .access = JAIL_READ | JAIL_EXEC | JAIL_OPTIONAL, .why = "not merged" },
	{ .path = "/lib64", .access = JAIL_READ | JAIL_EXEC | JAIL_OPTIONAL, .why = "the loader" },
	{ .path = "/etc/ld.so.cache", .access = JAIL_READ | JAIL_OPTIONAL, .why = "the loader" },
	{ .path = "/usr/share/qemu", .access = JAIL_READ, .why = "firmware" },
	{ .path = "/usr/share/seabios", .access = JAIL_READ | JAIL_OPTIONAL, .why = "firmware" },
	{ .path = "/dev/null", .access = JAIL_READ | JAIL_WRITE, .why = "closed stdio" },
	{ .path = "/dev/urandom", .access = JAIL_READ, .why = "seeds; the guest's random device" },
};

/*
 * Memory is not limited by address space here: the translator reserves far more than it touches.
 * The cgroup does it, and where there is none the guest's size and the translator's cache bound it.
 */
static const struct jail_limit qemu_limits[] = {
	{ RLIMIT_CORE, 0, "guest memory never lands in a file" },
	{ RLIMIT_NOFILE, JAIL_EXEC_FD, "no fd at or above the one it was started from" },
	{ RLIMIT_MEMLOCK, 0, "guest memory is ordinary memory" },
	{ RLIMIT_MSGQUEUE, 0, "no message queues" },
	{ RLIMIT_RTPRIO, 0, "no priority over the host" },
};

static const struct jail_limit unpack_limits[] = {
	{ RLIMIT_CORE, 0, "hostile input never lands in a core file" },
	{ RLIMIT_NOFILE, 256, "archive, spool, threads' pipes" },
	{ RLIMIT_MEMLOCK, 0, "no locked memory" },
	{ RLIMIT_MSGQUEUE, 0, "no message queues" },
	{ RLIMIT_RTPRIO, 0, "no priority over the host" },
};

static const struct jail_limit supervisor_limits[] = {
	{ RLIMIT_CORE, 0, "the guest's output never lands in a core file" },
	{ RLIMIT_NOFILE, 1024, "64 clients with a few fds each" },
	{ RLIMIT_MEMLOCK, 0, "no locked memory" },
	{ RLIMIT_MSGQUEUE, 0, "no message queues" },
	{ RLIMIT_RTPRIO, 0, "no priority over the host" },
};

const struct jail_profile jail_profile_none = {
	.name = "none",
	.keep_dumpable = true,
};

const struct jail_profile jail_profile_qemu = {
	.name = "qemu",
	.ns_wanted = JAIL_NS_USER | JAIL_NS_NET | JAIL_NS_IPC | JAIL_NS_UTS | JAIL_NS_CGROUP |
	             JAIL_NS_MOUNT | JAIL_NS_PID,
	.new_root = true,
	.landlock = true,
	.landlock_abi_min = 1,
	.landlock_scopes = JAIL_SCOPE_ABSTRACT | JAIL_SCOPE_SIGNAL,
	.rules = qemu_rules,
	.rule_count = COUNT(qemu_rules),
	.paths = qemu_paths,
	.path_count = COUNT(qemu_paths),
	.limits = qemu_limits,
	.limit_count = COUNT(qemu_limits),
};

const struct jail_profile jail_profile_unpack = {
	.name = "unpack",
	.ns_wanted = JAIL_NS_USER | JAIL_NS_NET | JAIL_NS_IPC | JAIL_NS_MOUNT,
	.new_root = true,
	.landlock = true,
	.landlock_abi_min = 1,
	.landlock_scopes = JAIL_SCOPE_ABSTRACT | JAIL_SCOPE_SIGNAL,
	.rules = unpack_rules,
	.rule_count = COUNT(unpack_rules),
	.limits = unpack_limits,
	.limit_count = COUNT(unpack_limits),
};

/*
 * No namespaces: it hands fds to processes outside, and its socket is reached by path. No signal
 * scope: its engine is outside its Landlock domain and must be killed by it.
 */
const struct jail_profile jail_profile_supervisor = {
	.name = "supervisor",
	.landlock = true,
	.landlock_abi_min = 1,
	.landlock_scopes = JAIL_SCOPE_ABSTRACT,
	/*
	 * root's engine runs under another uid, and the top directory of a cgroup hierarchy is
	 * read-only even for its owner, so a group below it could not be removed. Landlock holds
	 * all the same: nothing but the sandbox's directory and its cgroup can be written.
	 */
	.caps_kept = UINT64_C(1) << CAP_KILL | UINT64_C(1) << CAP_DAC_OVERRIDE,
	.rules = supervisor_rules,
	.rule_count = COUNT(supervisor_rules),
	.limits = supervisor_limits,
	.limit_count = COUNT(supervisor_limits),
};
