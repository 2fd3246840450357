/*
 * never: what no profile of ours has, in any form, and the trial of each.
 */
#pragma once

#include "jailed.h"

#include <fcntl.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifdef SANITIZED
#define NEED_PLAIN_BUILD() TEST_SKIP("sanitizers make system calls that the profiles refuse")
#else
#define NEED_PLAIN_BUILD() ((void)0)
#endif

static inline int raw(long nr, long a, long b, long c, long d)
{
	return syscall(nr, a, b, c, d, 0L, 0L) < 0 ? errno : 0;
}

struct call {
	const char *what;
	long nr;
	long a, b, c, d;
};

static inline int make_call(void *ctx)
{
	const struct call *k = ctx;

	return raw(k->nr, k->a, k->b, k->c, k->d);
}

/* No profile has any of these, in any form. */
static const struct call never[] = {
	{ "inet socket", SYS_socket, AF_INET, SOCK_STREAM, 0, 0 },
	{ "packet socket", SYS_socket, AF_PACKET, SOCK_RAW, 0, 0 },
	{ "netlink socket", SYS_socket, AF_NETLINK, SOCK_RAW, 0, 0 },
	{ "vsock socket", SYS_socket, AF_VSOCK, SOCK_STREAM, 0, 0 },
	{ "fork", SYS_fork, 0, 0, 0, 0 },
	{ "vfork by flags", SYS_clone, SIGCHLD, 0, 0, 0 },
	{ "execve", SYS_execve, (long)"/bin/true", 0, 0, 0 },
	{ "execveat of a path", SYS_execveat, AT_FDCWD, (long)"/bin/true", 0, 0 },
	{ "ptrace", SYS_ptrace, PTRACE_TRACEME, 0, 0, 0 },
	{ "read another's memory", SYS_process_vm_readv, 1, 0, 0, 0 },
	{ "write another's memory", SYS_process_vm_writev, 1, 0, 0, 0 },
	{ "take another's fd", SYS_pidfd_getfd, 0, 0, 0, 0 },
	{ "mount", SYS_mount, 0, (long)"/", 0, MS_REMOUNT },
	{ "new mount api", SYS_fsopen, (long)"tmpfs", 0, 0, 0 },
	{ "unmount", SYS_umount2, (long)"/", MNT_DETACH, 0, 0 },
	{ "chroot", SYS_chroot, (long)"/", 0, 0, 0 },
	{ "namespaces", SYS_unshare, CLONE_NEWUSER, 0, 0, 0 },
	{ "join a namespace", SYS_setns, 0, 0, 0, 0 },
	{ "bpf", SYS_bpf, 0, 0, 0, 0 },
	{ "keyring", SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0, 0 },
	{ "add_key", SYS_add_key, 0, 0, 0, 0 },
	{ "userfaultfd", SYS_userfaultfd, 0, 0, 0, 0 },
	{ "perf", SYS_perf_event_open, 0, 0, -1, -1 },
	{ "kernel module", SYS_finit_module, -1, 0, 0, 0 },
	{ "kexec", SYS_kexec_load, 0, 0, 0, 0 },
	{ "reboot", SYS_reboot, 0, 0, 0, 0 },
	{ "set the clock", SYS_clock_settime, 0, 0, 0, 0 },
	{ "raise a limit", SYS_setrlimit, RLIMIT_NOFILE, 0, 0, 0 },
	{ "become another", SYS_setuid, 0, 0, 0, 0 },
	{ "take capabilities", SYS_capset, 0, 0, 0, 0 },
	{ "open by handle", SYS_open_by_handle_at, 0, 0, 0, 0 },
	{ "device node", SYS_mknodat, AT_FDCWD, (long)"x", 0, 0 },
	{ "shared memory segment", SYS_shmget, 0, 0, 0, 0 },
	{ "message queue", SYS_mq_open, (long)"/x", 0, 0, 0 },
	{ "terminal injection", SYS_ioctl, 0, 0x5412, 0, 0 }, /* TIOCSTI */
	{ "kernel log", SYS_syslog, 3, 0, 0, 0 },
	{ "dumpable again", SYS_prctl, PR_SET_DUMPABLE, 2, 0, 0 },
	{ "another's thread", SYS_tgkill, 1, 1, 0, 0 },
	{ "x32 entry", 0x40000000L | SYS_getpid, 0, 0, 0, 0 },
};

static inline void check_never(const struct jail_profile *p, const char *softer1,
                               const char *softer2)
{
	struct jail_params params = { 0 };

	if (geteuid() == 0 && p != &jail_profile_supervisor)
		params.uid = params.gid = JAIL_UID_NOBODY;
	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
		struct call k = never[i];
		int got;

		if (softer1 && strcmp(k.what, softer1) == 0)
			continue;
		if (softer2 && strstr(k.what, softer2))
			continue;
		got = jailed_run(p, &params, make_call, &k);
		if (got != JAILED_KILLED)
			test_fail(__FILE__, __LINE__, "%s may %s: %d", p->name, k.what, got);
	}
}

/* A rule that follows an unconditional one of the same call never matters: somebody misread. */
static inline void check_table(const struct jail_profile *p)
{
	CHECK(p->rule_count <= JAIL_RULES_MAX);
	for (size_t i = 0; i < p->rule_count; i++) {
		const struct jail_rule *a = &p->rules[i];

		CHECK(a->why && *a->why);
		for (size_t k = 0; k < i; k++) {
			const struct jail_rule *b = &p->rules[k];

			if (a->call == b->call && (!a->args[0].used || !b->args[0].used))
				test_fail(__FILE__, __LINE__, "%s: call %d (%s) is listed twice",
				          p->name, a->call, a->why);
		}
	}
}
