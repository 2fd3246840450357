/*
 * jail: a process gives up, for good, what it does not need, before it reads a hostile byte.
 *
 * A profile says what a kind of process may do and why (data: profiles/, reasons beside every
 * system call). Params say what this one process was handed: fds, paths, a uid, limits. One call,
 * jail_enter(), does every step in the only order that works; jail.c tells that order as a story.
 *
 * Hostile   nothing here: the callers are our own programs; the jail is for what they do next
 * Errors    fail closed: if a step the profile needs cannot be done, jail_enter() fails and the
 *           process must end. Steps that are extra depth (namespaces) are tried and reported
 * Threads   call while the process has one thread: namespaces and Landlock bind the caller only
 * Source    landlock(7), seccomp(2), user_namespaces(7), capabilities(7)
 */
#pragma once

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

enum {
	JAIL_PATHS_MAX = 64,    /* a profile's own plus the caller's; qemu needs 25 */
	JAIL_KEEP_FDS_MAX = 32, /* qemu: stdio, sockets, kernel, initramfs, disks, RAM, spare */
	JAIL_RULES_MAX = 256,   /* x86-64 has about 370 system calls; a longer list is a mistake */
	JAIL_LIMITS_MAX = 16,   /* RLIM_NLIMITS */
	JAIL_ARGS_MAX = 3,      /* checks a rule may have; mmap needs them */
	JAIL_STATUS_MAX = 8192, /* of /proc/PID/status; with 1024 CPUs' masks 3 KiB */

	/*
	 * The fd a jailed program is started from, once: execveat() is allowed on this number alone
	 * and it lies at the fd limit, so when the exec has closed it no call can make it anew.
	 */
	JAIL_EXEC_FD = 256,

	/*
	 * Uids for sandboxes when started by root: far from people, system accounts, dynamic users
	 * and the subordinate ranges of containers (uids.conf of systemd leaves this range unused).
	 */
	JAIL_UID_FIRST = 0x70000000,
	JAIL_UID_COUNT = 1 << 24, /* two of 100 live sandboxes share one with odds of 1 to 3000 */
	JAIL_UID_NOBODY = 65534,

	/*
	 * What prctl(PR_GET_SECCOMP) answers, as its errno, in a thread that a profile of
	 * jail_thread() holds: above every errno of the kernel's own.
	 */
	JAIL_MARK_FIRST = 1001,
	JAIL_MARK_VMM_CPU = JAIL_MARK_FIRST,
	JAIL_MARK_VMM_IO,
	JAIL_MARK_VMM_CONTROL,
};

/* What Landlock lets through below one path. */
enum jail_access {
	JAIL_READ = 1 << 0,     /* open files for reading, list directories */
	JAIL_WRITE = 1 << 1,    /* open existing files for writing, truncate */
	JAIL_EXEC = 1 << 2,     /* execute; libraries need only JAIL_READ */
	JAIL_MAKE = 1 << 3,     /* create, remove and rename files, directories, sockets, links */
	JAIL_IOCTL = 1 << 4,    /* ioctl on a device opened there (ABI 5) */
	JAIL_OPTIONAL = 1 << 5, /* a path that is absent is no error */
};

/* One thing of the file system that stays reachable. `path`, or if that is NULL, `fd`. */
struct jail_path {
	const char *path;
	int fd; /* borrowed: a directory or file already open (O_PATH is enough) */
	unsigned access;
	const char *as; /* its name in a new root, if not its own; NULL: its own */
	const char *why;
};

struct jail_limit {
	int resource; /* RLIMIT_... */
	rlim_t value; /* soft and hard; never above the hard limit we were started with */
	const char *why;
};

enum jail_ns {
	JAIL_NS_USER = 1 << 0, /* taken only when it takes one to get the others */
	JAIL_NS_MOUNT = 1 << 1,
	JAIL_NS_NET = 1 << 2, /* an empty one: no interface, and no abstract sockets of others */
	JAIL_NS_IPC = 1 << 3,
	JAIL_NS_UTS = 1 << 4,
	JAIL_NS_CGROUP = 1 << 5,
	JAIL_NS_PID = 1 << 6, /* made at fork time by whoever starts us; here it is only noticed */
	JAIL_NS_ALL = (1 << 7) - 1,
};

enum jail_act {
	JAIL_ALLOW,
	JAIL_ERRNO, /* for calls a program tries and copes without: fails with rule.value */
};

/* Passes when (argument `index` & mask) == value. */
struct jail_arg {
	bool used;
	bool self; /* value is our own pid */
	uint8_t index;
	uint64_t mask;
	uint64_t value;
};

struct jail_rule {
	int call; /* __NR_name */
	enum jail_act act;
	int err;
	struct jail_arg args[JAIL_ARGS_MAX]; /* all that are used must pass */
	const char *why;
};

struct jail_profile {
	const char *name;
	unsigned ns_wanted;            /* jail_ns bits, tried */
	bool new_root;                 /* with JAIL_NS_MOUNT: "/" holds only the paths below */
	bool landlock;                 /* restrict files, TCP and scopes to the paths below */
	unsigned landlock_abi_min;     /* less than this and jail_enter() fails */
	bool landlock_connect;         /* TCP may connect; to bind it may not */
	unsigned landlock_scopes;      /* JAIL_SCOPE bits */
	bool keep_dumpable;            /* `none` only */
	int mark;                      /* of a profile for jail_thread(): JAIL_MARK_ */
	uint64_t caps_kept;            /* capabilities a root-started process keeps (1 << CAP_X) */
	const struct jail_rule *rules; /* NULL: no seccomp. Anything not listed kills the process */
	size_t rule_count;
	const struct jail_path *paths;
	size_t path_count;
	const struct jail_limit *limits;
	size_t limit_count;
};

enum jail_scope {
	JAIL_SCOPE_ABSTRACT = 1 << 0, /* no abstract UNIX socket made outside (ABI 6) */
	JAIL_SCOPE_SIGNAL = 1 << 1,   /* no signal to a process outside (ABI 6) */
};

/* The profiles. Their reasons are in profiles/NAME.def and profiles.c. */
extern const struct jail_profile jail_profile_none;
extern const struct jail_profile jail_profile_qemu;
extern const struct jail_profile jail_profile_unpack;
extern const struct jail_profile jail_profile_supervisor;
extern const struct jail_profile jail_profile_gate;
extern const struct jail_profile jail_profile_vault;
extern const struct jail_profile jail_profile_vmm; /* for jail_enter(); then each thread its own */
extern const struct jail_profile jail_profile_vmm_cpu;
extern const struct jail_profile jail_profile_vmm_io;
extern const struct jail_profile jail_profile_vmm_control;

struct jail_params {
	const struct jail_path *paths; /* added to the profile's own */
	size_t path_count;
	const struct jail_limit *limits; /* after the profile's own, which they can only tighten */
	size_t limit_count;
	const int *keep_fds; /* every other fd above 2 is closed, in any order, no duplicates */
	size_t keep_fd_count;
	bool keep_all_fds; /* instead of keep_fds: the caller closed them itself */
	uid_t uid;         /* when started by root; 0 stays root without capabilities */
	gid_t gid;
	bool die_with_parent; /* PDEATHSIG, and fail if `parent` is not the parent any more */
	pid_t parent;         /* getppid() at the start; 0 is one outside our pid namespace */
	int parent_fd;        /* then: a pipe or socket to it, whose other end it alone has */
};

/* What was reached. All fields are for people, audit and `berm inspect`. */
struct jail_report {
	unsigned landlock_abi; /* of the kernel, at most the newest we know; 0 is none */
	bool landlock;         /* in force */
	bool landlock_net;     /* TCP bind and connect refused by it (ABI 4) */
	bool landlock_scopes;  /* all scopes of the profile in force (ABI 6) */
	bool seccomp;
	unsigned ns_wanted; /* as the profile has it */
	unsigned ns_got;    /* obtained */
	int ns_errno;       /* why some are missing; 0 if none is */
	bool new_root;      /* "/" is a tmpfs with only the paths that were named */
	uid_t uid;
	gid_t gid;
};

/*
 * Closes the jail around the calling process. There is no way back, nor after a failure: exit.
 *
 * p, params    borrowed until return; params may be NULL (nothing handed over, nothing kept)
 * ret_report   may be NULL
 * Returns      0; -ENOSYS: the kernel lacks what the profile needs; else the failing step's errno
 */
_must_ int jail_enter(const struct jail_profile *p, const struct jail_params *params,
                      struct jail_report *ret_report, struct err *e);

/*
 * Puts the calling thread, and it alone, under the filter of a profile that has a mark. It comes on
 * top of the process's own: a call must pass both. For a process in its jail, whose filter leaves
 * seccomp() open until each thread is in here.
 */
_must_ int jail_thread(const struct jail_profile *p, struct err *e);

/*
 * Which of those holds the calling thread: its mark, 0 for none. The kernel answers, so nobody who
 * forgot jail_thread() can believe to have called it.
 */
int jail_mark(void);

/* The steps, in the order of jail_enter(), for programs that cannot take all of them at once. */
_must_ int jail_close_fds(const int *keep, size_t keep_count, struct err *e);
_must_ int jail_limits(const struct jail_limit *limits, size_t count, struct err *e);
_must_ int jail_namespaces(unsigned wanted, unsigned *ret_got, int *ret_errno, struct err *e);
_must_ int jail_root(const struct jail_profile *p, const struct jail_params *params,
                     bool *ret_changed, int *ret_errno, struct err *e);
_must_ int jail_user(uid_t uid, gid_t gid, uint64_t caps_kept, struct err *e);
_must_ int jail_caps(uint64_t kept, struct err *e);
_must_ int jail_no_new_privs(struct err *e);
_must_ int jail_die_with(pid_t parent, int parent_fd, struct err *e);
_must_ int jail_landlock(const struct jail_profile *p, const struct jail_params *params,
                         struct jail_report *ret, struct err *e);
_must_ int jail_seccomp(const struct jail_profile *p, struct err *e);

/* The running kernel's Landlock ABI, at most the newest we know; 0 when it has none or it is off.
 */
unsigned jail_landlock_abi(void);

/* Can this kernel filter system calls and kill the process that breaks the filter? */
bool jail_seccomp_available(void);

/* May this user make a user namespace? Asked of a short-lived child. 0 or -errno. */
_must_ int jail_userns_permitted(void);

/* The uid a sandbox's engine runs as when root starts it: stable for one id, in the range above. */
uid_t jail_uid_for(const char *sandbox_id);

/*
 * For logs and `inspect`: "landlock 7, seccomp, namespaces user+mount+net, own root, uid 1000", and
 * behind it what was wanted and is not there.
 */
struct buf;
void jail_put_report(struct buf *b, const struct jail_report *r);

/*
 * What the kernel says of another process's jail, which that process cannot colour. Of its first
 * thread; Landlock, and namespaces but that of pids, are not told to others.
 */
struct jail_seen {
	bool seccomp;
	bool no_new_privs;
	bool own_pids;    /* PID 1 of a pid namespace of its own */
	uint32_t filters; /* of seccomp, one over the other; 0: this kernel does not say */
	uint64_t caps;    /* in force */
	uid_t uid;
};

/* status_fd: its /proc/PID/status, open. -ESRCH: it has ended. -EBADMSG: it is none. */
_must_ int jail_see(int status_fd, struct jail_seen *ret);
_must_ int jail_seen_parse(struct span text, struct jail_seen *ret);
/* "seccomp 2 deep, no new privileges, no capabilities, own pid namespace, uid 1000" */
void jail_put_seen(struct buf *b, const struct jail_seen *s);
