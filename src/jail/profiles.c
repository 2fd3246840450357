/*
 * The profiles: tables built from profiles/NAME.def, with the paths and limits that go with them.
 */
#include "base/kernel_gaps.h"
#include "jail/internal.h"

#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#ifndef ARCH_REQ_XCOMP_GUEST_PERM
#define ARCH_REQ_XCOMP_GUEST_PERM 0x1025 /* Source: asm/prctl.h, Linux 5.17 */
#endif

/* CDROM_DRIVE_STATUS, which linux/cdrom.h has beside much else that clashes. */
enum { CDROM_DRIVE_STATUS = 0x5326 };

#define WHOLE 0xffffffffULL /* the kernel takes these arguments as 32 bits */

#define ANY                                                                                        \
	{                                                                                          \
		.used = false                                                                      \
	}
#define ARG(n, v)                                                                                  \
	{                                                                                          \
		.used = true, .index = (n), .mask = WHOLE, .value = (uint32_t)(v)                  \
	}
#define BITS(n, m, v)                                                                              \
	{                                                                                          \
		.used = true, .index = (n), .mask = (m), .value = (v)                              \
	}
#define SELF(n)                                                                                    \
	{                                                                                          \
		.used = true, .self = true, .index = (n), .mask = WHOLE                            \
	}

#define ALLOW(name, check, reason)                                                                 \
	{ .call = __NR_##name, .act = JAIL_ALLOW, .args = { check }, .why = reason },
#define ALLOW2(name, check, also, reason)                                                          \
	{ .call = __NR_##name, .act = JAIL_ALLOW, .args = { check, also }, .why = reason },
#define ALLOW3(name, check, also, third, reason)                                                   \
	{ .call = __NR_##name, .act = JAIL_ALLOW, .args = { check, also, third }, .why = reason },
#define REFUSE(name, check, errnum, reason)                                                        \
	{ .call = __NR_##name,                                                                     \
	  .act = JAIL_ERRNO,                                                                       \
	  .err = (errnum),                                                                         \
	  .args = { check },                                                                       \
	  .why = reason },

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
