/*
 * Theory of operation: closing the jail, step by step, and why each stands where it does.
 *
 *  1. Ask the kernel. If it lacks what the profile needs, fail while nothing is done yet.
 *  2. Close every fd that was not handed to us. First, so no later step can act on a stray one.
 *  3. Limits. While we may still set them; the filter at the end refuses it.
 *  4. Namespaces, and the new root in them. Root needs its capabilities for that, and an
 *     ordinary user the user namespace which gives them; both are gone after step 5.
 *  5. Groups, gid, uid, capabilities. The bounding set before the uid, for it takes CAP_SETPCAP.
 *  6. Not dumpable, and die with the parent. Here, because a change of uid resets both.
 *  7. no_new_privs. From here no exec gains anything, which is what lets an ordinary user do:
 *  8. Landlock. After the root is changed, because it forbids mounting; before the filter,
 *     because it opens the paths it allows, and with the final uid's own rights.
 *  9. The system call filter, last: it refuses most of what the steps above did.
 */
#include "base/buf.h"
#include "jail/internal.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static int compare_fds(const void *a, const void *b)
{
	const int *x = a;
	const int *y = b;

	return (*x > *y) - (*x < *y);
}

int jail_close_fds(const int *keep, size_t keep_count, struct err *e)
{
	int sorted[JAIL_KEEP_FDS_MAX];
	unsigned from = 3;

	if (keep_count > JAIL_KEEP_FDS_MAX)
		return err_set(e, -E2BIG, "at most %d fds can be kept", JAIL_KEEP_FDS_MAX);
	if (keep_count)
		memcpy(sorted, keep, keep_count * sizeof(sorted[0]));
	qsort(sorted, keep_count, sizeof(sorted[0]), compare_fds);
	for (size_t i = 0; i < keep_count; i++) {
		unsigned fd = (unsigned)sorted[i];

		if (sorted[i] < 3)
			continue;
		if (fd > from && syscall(SYS_close_range, from, fd - 1, 0U) < 0)
			return err_sys(e, "close_range");
		from = fd + 1;
	}
	if (syscall(SYS_close_range, from, ~0U, 0U) < 0)
		return err_sys(e, "close_range");
	return 0;
}

int jail_limits(const struct jail_limit *limits, size_t count, struct err *e)
{
	for (size_t i = 0; i < count; i++) {
		__rlimit_resource_t which = (__rlimit_resource_t)limits[i].resource;
		struct rlimit now;
		rlim_t want = limits[i].value;

		if (getrlimit(which, &now) < 0)
			return err_sys(e, "limit %d (%s)", limits[i].resource, limits[i].why);
		if (want > now.rlim_max)
			want = now.rlim_max;
		now.rlim_cur = want;
		now.rlim_max = want;
		if (setrlimit(which, &now) < 0)
			return err_sys(e, "limit %d (%s)", limits[i].resource, limits[i].why);
	}
	return 0;
}

/* A parent outside our pid namespace is 0, alive or not, but its end of the pipe goes with it. */
static bool parent_lives(pid_t parent, int parent_fd)
{
	struct pollfd p = { .fd = parent_fd };

	return getppid() == parent && (parent != 0 || poll(&p, 1, 0) == 0);
}

int jail_die_with(pid_t parent, int parent_fd, struct err *e)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return err_sys(e, "parent death signal");
	if (!parent_lives(parent, parent_fd))
		return err_set(e, -ESRCH, "the process that started this one is gone");
	return 0;
}

/* Namespaces are depth, not the boundary: what is missing is reported. A half-made root is not. */
static int enter_namespaces(const struct jail_profile *p, const struct jail_params *params,
                            struct jail_report *rep, struct err *e)
{
	int r;

	if (!p->ns_wanted)
		return 0;
	r = jail_namespaces(p->ns_wanted, &rep->ns_got, &rep->ns_errno, e);
	if (r == 0 && p->new_root && rep->ns_got & JAIL_NS_MOUNT)
		r = jail_root(p, params, &rep->new_root, &rep->ns_errno, e);
	return r < 0 ? err_wrap(e, "namespaces") : 0;
}

static int enter_identity(const struct jail_profile *p, const struct jail_params *params,
                          struct err *e)
{
	int r = jail_user(params->uid, params->gid, p->caps_kept, e);

	if (r == 0 && !p->keep_dumpable && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		r = err_sys(e, "not dumpable");
	if (r == 0 && params->die_with_parent)
		r = jail_die_with(params->parent, params->parent_fd, e);
	return r;
}

static int enter_filters(const struct jail_profile *p, const struct jail_params *params,
                         struct jail_report *rep, struct err *e)
{
	int r = jail_no_new_privs(e);

	if (r == 0 && p->landlock) {
		r = jail_landlock(p, params, rep, e);
		if (r < 0)
			return err_wrap(e, "Landlock");
	}
	if (r == 0 && p->rules) {
		r = jail_seccomp(p, e);
		rep->seccomp = r == 0;
	}
	return r;
}

/* Step 1. The kernel is asked for all we need before anything is changed. */
static int check_kernel(const struct jail_profile *p, const struct jail_params *params,
                        struct err *e)
{
	unsigned abi = p->landlock ? jail_landlock_abi() : 0;

	assert(p->rule_count <= JAIL_RULES_MAX && p->limit_count <= JAIL_LIMITS_MAX);
	if (p->path_count + params->path_count > JAIL_PATHS_MAX)
		return err_set(e, -E2BIG, "at most %d paths", JAIL_PATHS_MAX);
	if (p->landlock && (abi == 0 || abi < p->landlock_abi_min))
		return err_set(e, -ENOSYS,
		               "this kernel's Landlock is at ABI %u, needed is %u or later: boot "
		               "Linux 5.13 or newer with \"landlock\" in its lsm= list",
		               abi, p->landlock_abi_min);
	if (p->rules && !jail_seccomp_available())
		return err_set(e, -ENOSYS, "this kernel cannot filter system calls (seccomp)");
	return 0;
}

int jail_enter(const struct jail_profile *p, const struct jail_params *params,
               struct jail_report *ret_report, struct err *e)
{
	static const struct jail_params nothing = { 0 };
	struct jail_report rep = { .ns_wanted = p->ns_wanted };
	int r;

	if (!params)
		params = &nothing;
	r = check_kernel(p, params, e);
	if (r == 0 && !params->keep_all_fds)
		r = jail_close_fds(params->keep_fds, params->keep_fd_count, e);
	if (r == 0)
		r = jail_limits(p->limits, p->limit_count, e);
	if (r == 0)
		r = jail_limits(params->limits, params->limit_count, e);
	if (r == 0)
		r = enter_namespaces(p, params, &rep, e);
	if (r == 0)
		r = enter_identity(p, params, e);
	if (r == 0) {
		rep.uid = geteuid();
		rep.gid = getegid();
		r = enter_filters(p, params, &rep, e);
	}
	if (r < 0)
		return err_wrap(e, "close the %s jail", p->name);
	if (ret_report)
		*ret_report = rep;
	return 0;
}

uid_t jail_uid_for(const char *sandbox_id)
{
	uint32_t h = 2166136261U; /* FNV-1a: spreads ids that differ in one character */

	for (const char *at = sandbox_id; *at; at++)
		h = (h ^ (uint8_t)*at) * 16777619U;
	return JAIL_UID_FIRST + (h ^ h >> 24) % JAIL_UID_COUNT;
}

static const struct {
	unsigned ns;
	const char *name;
} ns_names[] = {
	{ JAIL_NS_USER, "user" }, { JAIL_NS_MOUNT, "mount" }, { JAIL_NS_NET, "net" },
	{ JAIL_NS_IPC, "ipc" },   { JAIL_NS_UTS, "uts" },     { JAIL_NS_CGROUP, "cgroup" },
	{ JAIL_NS_PID, "pid" },
};

static void put_ns(struct buf *b, unsigned ns)
{
	const char *between = "";

	for (size_t i = 0; i < sizeof(ns_names) / sizeof(ns_names[0]); i++) {
		if (!(ns & ns_names[i].ns))
			continue;
		buf_printf(b, "%s%s", between, ns_names[i].name);
		between = "+";
	}
}

void jail_put_report(struct buf *b, const struct jail_report *r)
{
	unsigned missing = r->ns_wanted & ~(r->ns_got | JAIL_NS_USER);

	if (r->landlock)
		buf_printf(b, "landlock %u, ", r->landlock_abi);
	if (r->seccomp)
		buf_put_str(b, "seccomp, ");
	if (r->ns_got) {
		buf_put_str(b, "namespaces ");
		put_ns(b, r->ns_got);
		buf_put_str(b, ", ");
	}
	if (r->new_root)
		buf_put_str(b, "own root, ");
	buf_printf(b, "uid %u", r->uid);
	if (!missing)
		return;
	buf_put_str(b, "; not permitted: ");
	put_ns(b, missing);
}
