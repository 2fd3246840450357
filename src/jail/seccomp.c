/*
 * The system call filter of a process, or of one thread. What no rule names kills the whole process
 * with SIGSYS: a denial is then a visible reason, not an error path nobody tested.
 */
#include "jail/bpf.h"
#include "jail/internal.h"

#include <assert.h>
#include <errno.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

int jail_seccomp(const struct jail_profile *p, struct err *e)
{
	struct sock_filter code[JAIL_BPF_MAX];
	struct sock_fprog program = { .filter = code };
	size_t count;
	int r = jail_bpf_compile(p->rules, p->rule_count, (uint32_t)getpid(), code, JAIL_BPF_MAX,
	                         &count, e);

	if (r < 0)
		return r;
	program.len = (unsigned short)count;
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
		return err_sys(e, "load the system call filter");
	return 0;
}

bool jail_seccomp_available(void)
{
	uint32_t action = SECCOMP_RET_KILL_PROCESS;

	return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

int jail_mark(void)
{
	return prctl(PR_GET_SECCOMP, 0, 0, 0, 0) < 0 && errno >= JAIL_MARK_FIRST ? errno : 0;
}

int jail_thread(const struct jail_profile *p, struct err *e)
{
	int r;

	assert(p->mark >= JAIL_MARK_FIRST && p->rules);
	r = jail_seccomp(p, e);
	if (r < 0)
		return err_wrap(e, "close the %s jail", p->name);
	if (jail_mark() != p->mark)
		return err_set(e, -EPERM, "the %s jail is not in force", p->name);
	return 0;
}
