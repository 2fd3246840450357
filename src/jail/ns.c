/*
 * Namespaces, uid and capabilities: what the kernel's older isolation gives.
 */
#include "base/idmap.h"
#include "jail/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { CAP_NUMBERS_MAX = 64 };

static const struct ns_flag {
	unsigned ns;
	int flag;
} ns_flags[] = {
	{ JAIL_NS_MOUNT, CLONE_NEWNS },  { JAIL_NS_NET, CLONE_NEWNET },
	{ JAIL_NS_IPC, CLONE_NEWIPC },   { JAIL_NS_UTS, CLONE_NEWUTS },
	{ JAIL_NS_USER, CLONE_NEWUSER }, { JAIL_NS_CGROUP, CLONE_NEWCGROUP },
};

static int clone_flags(unsigned wanted)
{
	int got = 0;

	for (size_t i = 0; i < sizeof(ns_flags) / sizeof(ns_flags[0]); i++)
		if (wanted & ns_flags[i].ns)
			got |= ns_flags[i].flag;
	return got;
}

/* Each alone, so that one the kernel lacks does not cost us the others. */
static unsigned unshare_each(unsigned wanted, int *why)
{
	unsigned got = 0;

	for (size_t i = 0; i < sizeof(ns_flags) / sizeof(ns_flags[0]); i++) {
		if (!(wanted & ns_flags[i].ns) || ns_flags[i].ns == JAIL_NS_USER)
			continue;
		if (unshare(ns_flags[i].flag) == 0)
			got |= ns_flags[i].ns;
		else
			*why = errno;
	}
	return got;
}

int jail_namespaces(unsigned wanted, unsigned *ret_got, int *ret_errno, struct err *e)
{
	unsigned plain = wanted & ~(unsigned)(JAIL_NS_USER | JAIL_NS_PID);
	unsigned got = wanted & JAIL_NS_PID && getpid() == 1 ? JAIL_NS_PID : 0;
	struct idmap ids;
	int why = 0;

	idmap_self(&ids);
	if (plain && unshare(clone_flags(plain)) == 0) {
		got |= plain;
	} else if (plain && errno == EPERM && wanted & JAIL_NS_USER) {
		/* not privileged: a user namespace of our own makes us so, inside it alone */
		if (unshare(CLONE_NEWUSER) < 0) {
			why = errno;
		} else {
			int r = idmap_write(&ids, e);

			if (r < 0)
				return r; /* half in: without its map we are nobody */
			got |= JAIL_NS_USER;
			if (unshare(clone_flags(plain)) == 0)
				got |= plain;
			else
				got |= unshare_each(plain, &why);
		}
	} else if (plain) {
		got |= unshare_each(plain, &why);
	}
	*ret_got = got;
	*ret_errno = why;
	return 0;
}

static int drop_bounding(uint64_t kept, struct err *e)
{
	for (unsigned cap = 0; cap < CAP_NUMBERS_MAX; cap++) {
		if (kept & UINT64_C(1) << cap)
			continue;
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0)
			continue;
		if (errno == EINVAL)
			return 0; /* past the kernel's last capability */
		if (errno == EPERM)
			return 0; /* we hold none and, with no_new_privs, can gain none */
		return err_sys(e, "drop capability %u from the bounding set", cap);
	}
	return 0;
}

int jail_caps(uint64_t kept, struct err *e)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct now[2];
	struct __user_cap_data_struct want[2];
	int r = drop_bounding(kept, e);

	if (r < 0)
		return r;
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return err_sys(e, "clear the ambient capabilities");
	if (syscall(SYS_capget, &head, now) < 0)
		return err_sys(e, "capget");
	memset(want, 0, sizeof(want));
	for (unsigned i = 0; i < 2; i++) {
		want[i].permitted = now[i].permitted & (uint32_t)(kept >> 32 * i);
		want[i].effective = want[i].permitted;
	}
	if (syscall(SYS_capset, &head, want) < 0)
		return err_sys(e, "drop capabilities");
	return 0;
}

static int become(uid_t uid, gid_t gid)
{
	if (setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return -errno;
	return 0;
}

int jail_user(uid_t uid, gid_t gid, uint64_t caps_kept, struct err *e)
{
	int r;

	if (geteuid() != 0 || uid == 0)
		return jail_caps(geteuid() == 0 ? caps_kept : 0, e);
	if (setgroups(0, NULL) < 0)
		return err_sys(e, "drop the supplementary groups");
	/* while we may: after setresuid() the right to do so is gone */
	r = drop_bounding(0, e);
	if (r < 0)
		return r;
	r = become(uid, gid);
	if (r == -EINVAL) /* root of a container that has no such uid: every one has nobody */
		r = become(JAIL_UID_NOBODY, JAIL_UID_NOBODY);
	if (r < 0)
		return err_set(e, r, "become uid %u gid %u: %s", uid, gid, strerror(-r));
	if (setresuid((uid_t)-1, 0, (uid_t)-1) == 0)
		return err_set(e, -EPERM, "uid 0 could be taken back");
	return jail_caps(0, e);
}

int jail_userns_permitted(void)
{
	int status = 0;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0)
		_exit(unshare(CLONE_NEWUSER) == 0 ? 0 : errno & 0x7f);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (!WIFEXITED(status))
		return -EIO;
	return -WEXITSTATUS(status);
}
