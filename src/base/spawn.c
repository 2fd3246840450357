#include "base/spawn.h"

#include "base/fdio.h"
#include "base/kernel_gaps.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

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
 */
static int place_fds(const struct spawn *s, int *report_fd)
{
	int high[SPAWN_FDS_MAX];
	int base = (int)s->fd_count + 1;
	int moved = fcntl(*report_fd, F_DUPFD_CLOEXEC, base);

	if (moved < 0)
		return -errno;
	*report_fd = moved;
	for (unsigned i = 0; i < s->fd_count; i++) {
		high[i] = s->fds[i] < 0 ? open_null(base) : fcntl(s->fds[i], F_DUPFD_CLOEXEC, base);
		if (high[i] < 0)
			return -errno;
	}
	if (dup3(moved, (int)s->fd_count, O_CLOEXEC) < 0)
		return -errno;
	*report_fd = (int)s->fd_count;
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

/* Runs in the child; never returns. The report fd says why the exec failed, or closes by it. */
static _Noreturn void child(const struct spawn *s, int report_fd, pid_t parent)
{
	static const char *const no_env[] = { NULL };
	int r = place_fds(s, &report_fd);

	if (r == 0) {
		if (s->own_session)
			(void)setsid();
		reset_signals();
		if (!s->outlive) {
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() != parent)
				_exit(127); /* it died before we could ask */
		}
		(void)execve(s->path, (char *const *)(uintptr_t)s->argv,
		             (char *const *)(uintptr_t)(s->envp ? s->envp : no_env));
		r = -errno;
	}
	if (write(report_fd, &r, sizeof(r)) < 0)
		_exit(126);
	_exit(127);
}

/* 0 when the pipe closed by a successful exec, else the child's errno. */
static int read_report(int fd)
{
	int r = 0;
	ssize_t n;

	do
		n = read(fd, &r, sizeof(r));
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(r) ? r : 0;
}

int spawn_child(const struct spawn *s, pid_t *ret_pid, int *ret_pidfd, struct err *e)
{
	_own_fd_ int report_read = -1;
	_own_fd_ int report_write = -1;
	_own_fd_ int pidfd = -1;
	pid_t parent = getpid();
	int fds[2];
	pid_t pid;
	int r;

	assert(s->fd_count >= 3 && s->fd_count <= SPAWN_FDS_MAX);
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(e, "pipe");
	report_read = fds[0];
	report_write = fds[1];
	pid = fork();
	if (pid < 0)
		return err_sys(e, "fork");
	if (pid == 0)
		child(s, report_write, parent);
	(void)close(steal_fd(&report_write));
	r = read_report(report_read);
	if (r == 0) {
		pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		if (pidfd < 0)
			r = -errno;
	}
	if (r < 0) {
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
		errno = -r;
		return err_sys(e, "start '%s'", s->path);
	}
	*ret_pid = pid;
	*ret_pidfd = steal_fd(&pidfd);
	return 0;
}
