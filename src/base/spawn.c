#include "base/spawn.h"

#include "base/fdio.h"
#include "base/idmap.h"
#include "base/kernel_gaps.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { ORPHAN_STACK_BYTES = 64 << 10 }; /* for system calls and two small arrays */

#ifndef __has_feature
#define __has_feature(f) 0
#endif
/* The sanitizers' own memory must not be shared with a child that never returns from a function. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||                               \
	__has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                     \
	__has_feature(memory_sanitizer)
#define ORPHAN_VM 0
#else
#define ORPHAN_VM CLONE_VM
#endif

/*
 * /dev/null at base or above; a lower number may be one that is still to be read from. Between
 * fork and exec only system calls are safe: without an err, fd_open() is no more than that.
 */
static int open_null(int base)
{
	_own_fd_ int low = -1;

	if (fd_open("/dev/null", O_RDWR, 0, &low, NULL) < 0)
		return -1;
	return fcntl(low, F_DUPFD_CLOEXEC, base);
}

/*
 * Moves every fd out of the way first, so that placing one never overwrites another. The report
 * fd moves along: it is told where it is now at once, so that any failure here is still reported.
 * -1: there is none.
 */
static int place_fds(const struct spawn *s, int *report_fd)
{
	int high[SPAWN_FDS_MAX];
	int base = (int)s->fd_count + 1;
	int moved = *report_fd < 0 ? -1 : fcntl(*report_fd, F_DUPFD_CLOEXEC, base);

	if (moved < 0 && *report_fd >= 0)
		return -errno;
	*report_fd = moved;
	for (unsigned i = 0; i < s->fd_count; i++) {
		high[i] = s->fds[i] < 0 ? open_null(base) : fcntl(s->fds[i], F_DUPFD_CLOEXEC, base);
		if (high[i] < 0)
			return -errno;
	}
	if (moved < 0) {
		(void)close((int)s->fd_count);
	} else {
		if (dup3(moved, (int)s->fd_count, O_CLOEXEC) < 0)
			return -errno;
		*report_fd = (int)s->fd_count;
	}
	for (unsigned i = 0; i < s->fd_count; i++)
		if (dup2(high[i], (int)i) < 0)
			return -errno;
	return syscall(SYS_close_range, s->fd_count + 1, ~0U, 0) < 0 ? -errno : 0;
}

/* What is pending goes too: it was sent to the caller's process group, to which we belonged. */
static void reset_signals(void)
{
	sigset_t none;

	for (int i = 1; i < NSIG; i++) {
		struct sigaction ignore = { .sa_handler = SIG_IGN };
		struct sigaction sa = { .sa_handler = SIG_DFL };

		/* KILL, STOP and the C library's own refuse */
		(void)sigaction(i, &ignore, NULL);
		(void)sigaction(i, &sa, NULL);
	}
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static int exec(const struct spawn *s)
{
	static const char *const no_env[] = { NULL };

	(void)execve(s->path, (char *const *)(uintptr_t)s->argv,
	             (char *const *)(uintptr_t)(s->envp ? s->envp : no_env));
	return -errno;
}

/* A way to make a child, and what it needs for that. */
struct way {
	unsigned long flags; /* of clone(2): the namespaces it begins in */
	struct idmap ids;    /* with CLONE_NEWUSER */
	pid_t parent;
};

enum { NOT_THIS_WAY = 1 }; /* beside 0 and -errno: the host refuses these namespaces */

/*
 * A process that died before its child asked for PDEATHSIG tells it nothing. In a pid namespace of
 * our own it has no number for us, dead or alive; but it alone reads the report, and its fds are
 * closed before its children are told of its death.
 */
static bool parent_gone(const struct way *w, int report_fd)
{
	struct pollfd p = { .fd = report_fd };

	return w->flags ? poll(&p, 1, 0) != 0 : getppid() != w->parent;
}

/* Runs in the child; never returns. The report fd says why the exec failed, or closes by it. */
static _Noreturn void child(const struct spawn *s, const struct way *w, int report_fd)
{
	int r = place_fds(s, &report_fd);

	if (r == 0 && w->flags & CLONE_NEWUSER && idmap_write(&w->ids, NULL) < 0)
		r = NOT_THIS_WAY;
	if (r == 0) {
		if (s->own_session)
			(void)setsid();
		reset_signals();
		if (!s->outlive) {
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (parent_gone(w, report_fd))
				_exit(127);
		}
		r = exec(s);
	}
	if (write(report_fd, &r, sizeof(r)) < 0)
		_exit(126);
	_exit(127);
}

/* 0 when the pipe closed by a successful exec, else what the child says. */
static int read_report(int fd)
{
	int r = 0;
	ssize_t n;

	do
		n = read(fd, &r, sizeof(r));
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(r) ? r : 0;
}

/* --- orphans --- */

/*
 * Theory of operation
 *
 * A library may not let its host hear of its children. A child that ends without a signal (the low
 * byte of clone's flags is 0) is one that waitpid(-1) does not see and no SIGCHLD tells of, but
 * exec makes it an ordinary one again. So a first child of that kind only makes the second, which
 * becomes the program, and ends; the second is then init's. CLONE_VFORK makes each step wait for
 * the next, so how the exec went is known when the first clone() returns, and CLONE_VM means that
 * the memory is never copied. The first shares our table of fds (CLONE_FILES): there CLONE_PIDFD
 * leaves the pidfd. The second has its own, and may move and close what it likes.
 *
 * All signals are blocked meanwhile, so that no handler of the caller's runs in a child, on a
 * borrowed stack, with memory shared. Cancellation is off for the same reason.
 */
struct orphan {
	const struct spawn *s;
	pid_t pid;
	int pidfd;
	int result;
	uint8_t *middle_stack, *stack; /* their ends: they grow downwards */
};

/* The second child. */
static int become_program(void *arg)
{
	struct orphan *o = arg;
	int no_report = -1;
	int r = place_fds(o->s, &no_report);

	if (r == 0 && chdir("/") < 0)
		r = -errno;
	if (r == 0) {
		if (o->s->own_session)
			(void)setsid();
		reset_signals();
		r = exec(o->s);
	}
	o->result = r;
	return 127;
}

/* The first one. The second has become a program, or given up, when its clone() returns. */
static int make_second(void *arg)
{
	struct orphan *o = arg;

	o->pid = clone(become_program, o->stack, ORPHAN_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, o,
	               &o->pidfd);
	if (o->pid < 0)
		o->result = -errno;
	else if (o->result < 0)
		(void)waitpid(o->pid, NULL, 0);
	return 0;
}

static void make_first(struct orphan *o)
{
	sigset_t all;
	sigset_t before;
	int cancel;
	pid_t pid;

	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	pid = clone(make_second, o->middle_stack, ORPHAN_VM | CLONE_VFORK | CLONE_FILES, o);
	if (pid < 0)
		o->result = -errno;
	while (pid > 0 && waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
		continue;
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	(void)pthread_setcancelstate(cancel, NULL);
}

static int spawn_orphan(const struct spawn *s, pid_t *ret_pid, int *ret_pidfd, struct err *e)
{
	const size_t bytes = 2 * ORPHAN_STACK_BYTES + 4096;
	struct orphan *o;
	int pidfd;
	pid_t pid;
	int r;

	/* shared: also where the children have a copy of all else, they answer in it */
	o = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (o == MAP_FAILED)
		return err_sys(e, "map a stack");
	o->s = s;
	o->pidfd = -1;
	o->pid = -1;
	o->stack = (uint8_t *)o + bytes;
	o->middle_stack = o->stack - ORPHAN_STACK_BYTES;
	make_first(o);
	r = o->result;
	pid = o->pid;
	pidfd = o->pidfd;
	(void)munmap(o, bytes);
	if (r == 0 && pid < 0)
		r = -ECHILD; /* somebody killed the first one */
	if (r < 0) {
		if (pidfd >= 0)
			(void)close(pidfd);
		errno = -r;
		return err_sys(e, "start '%s'", s->path);
	}
	*ret_pid = pid;
	*ret_pidfd = pidfd;
	return 0;
}

/*
 * clone() by hand, as no wrapper makes a process with namespaces and a memory of its own; that this
 * runs no handlers of pthread_atfork() is fine for a child that makes nothing but system calls.
 */
static pid_t make_child(const struct way *w)
{
	return w->flags ? (pid_t)syscall(SYS_clone, w->flags | SIGCHLD, NULL, NULL, NULL, NULL)
	                : fork();
}

static int start_child(const struct spawn *s, const struct way *w, pid_t *ret_pid, int *ret_pidfd,
                       struct err *e)
{
	_own_fd_ int report_read = -1;
	_own_fd_ int report_write = -1;
	_own_fd_ int pidfd = -1;
	int fds[2];
	pid_t pid;
	int r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(e, "pipe");
	report_read = fds[0];
	report_write = fds[1];
	pid = make_child(w);
	if (pid < 0)
		return w->flags ? NOT_THIS_WAY : err_sys(e, "fork");
	if (pid == 0)
		child(s, w, report_write);
	(void)close(steal_fd(&report_write));
	r = read_report(report_read);
	if (r == 0) {
		pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		if (pidfd < 0)
			r = -errno;
	}
	if (r != 0) {
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
	}
	if (r < 0) {
		errno = -r;
		return err_sys(e, "start '%s'", s->path);
	}
	if (r == 0) {
		*ret_pid = pid;
		*ret_pidfd = steal_fd(&pidfd);
	}
	return r;
}

int spawn_child(const struct spawn *s, pid_t *ret_pid, int *ret_pidfd, struct err *e)
{
	struct way w = { .parent = getpid() };
	int r = NOT_THIS_WAY;

	assert(s->fd_count >= 3 && s->fd_count <= SPAWN_FDS_MAX);
	if (s->orphan)
		return spawn_orphan(s, ret_pid, ret_pidfd, e);
	if (s->own_pids) {
		idmap_self(&w.ids);
		w.flags = geteuid() == 0 ? CLONE_NEWPID : CLONE_NEWPID | CLONE_NEWUSER;
		r = start_child(s, &w, ret_pid, ret_pidfd, e);
		w.flags = 0;
	}
	return r == NOT_THIS_WAY ? start_child(s, &w, ret_pid, ret_pidfd, e) : r;
}
