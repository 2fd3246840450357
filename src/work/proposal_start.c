#include "work/proposal_job.h"

#include "base/clock.h"
#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

struct job {
	pid_t pid;
	int pidfd, report_fd;
};

static int start(const struct proposal_unpack *u, struct job *j, struct err *e)
{
	static const char *const argv[] = { "berm-unpack", "--proposal", NULL };
	struct spawn s = { .path = u->unpack_path, .argv = argv, .fd_count = PROPOSAL_FD_COUNT };
	_own_fd_ int far = -1;
	int fds[2];
	int r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(e, "pipe");
	j->report_fd = fds[0];
	far = fds[1];
	s.fds[0] = -1;
	s.fds[1] = -1;
	s.fds[2] = STDERR_FILENO;
	s.fds[PROPOSAL_FD_SPOOL] = u->spool_fd;
	s.fds[PROPOSAL_FD_BASE] = u->base_fd;
	s.fds[PROPOSAL_FD_INDEX] = u->index_fd;
	s.fds[PROPOSAL_FD_REPORT] = far;
	r = spawn_child(&s, &j->pid, &j->pidfd, e);
	if (r == -ENOENT)
		return err_set(e, -EIO, "'%s' is missing: berm is not installed completely",
		               u->unpack_path);
	return r;
}

/* Until it ends. Its report waits in the pipe meanwhile: it is shorter than a pipe is. */
static int wait_end(const struct job *j, uint64_t timeout_ms, struct err *e)
{
	uint64_t until_ms = clock_mono_ms() + timeout_ms;

	for (;;) {
		struct pollfd p = { .fd = j->pidfd, .events = POLLIN };
		uint64_t now_ms = clock_mono_ms();
		uint64_t left_ms = until_ms > now_ms ? until_ms - now_ms : 0;
		int n = poll(&p, 1, left_ms < INT_MAX ? (int)left_ms : INT_MAX);

		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return err_sys(e, "wait for berm-unpack");
		if (n == 0 && left_ms == 0)
			return err_set(e, -ETIMEDOUT,
			               "the proposal could not be read in %llu s; it is kept",
			               (unsigned long long)(timeout_ms / 1000));
	}
}

/* Nothing writes to the index after this. */
static int reap(struct job *j, siginfo_t *ret)
{
	int r;

	(void)kill(j->pid, SIGKILL); /* it has ended, or it is to */
	do
		r = waitid(P_PID, (id_t)j->pid, ret, WEXITED);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

/* The writer may be the attacker: a code of a few, and text without control bytes. */
static int take_report(const struct job *j, struct err *e)
{
	uint8_t raw[PROPOSAL_REPORT_MAX];
	char text[ERR_TEXT_MAX];
	struct span in;
	struct buf shown;
	uint32_t code;
	ssize_t n;

	do
		n = read(j->report_fd, raw, sizeof(raw));
	while (n < 0 && errno == EINTR);
	in = span_of(raw, n > 0 ? (size_t)n : 0);
	if (!take_le32(&in, &code))
		return err_set(e, -ECANCELED,
		               "berm-unpack ended without a result; the proposal is kept");
	buf_init(&shown, text, sizeof(text) - 1);
	buf_put_escaped(&shown, in);
	text[shown.len] = '\0';
	if (code != EBADMSG && code != E2BIG && code != ENOSPC && code != EDQUOT && code != ENOMEM)
		code = EIO;
	return err_set(e, -(int)code, "%s", text);
}

int proposal_unpack(const struct proposal_unpack *u, struct err *e)
{
	uint64_t timeout_ms = u->timeout_ms ? u->timeout_ms : 2000ULL * PROPOSAL_JOB_CPU_S_MAX;
	struct job j = { .pidfd = -1, .report_fd = -1 };
	siginfo_t how = { 0 };
	int r = start(u, &j, e);

	if (r == 0) {
		r = wait_end(&j, timeout_ms, e);
		if (reap(&j, &how) < 0 && r == 0)
			r = err_set(e, -EIO, "wait for berm-unpack");
	}
	if (r == 0 && how.si_code != CLD_EXITED)
		r = err_set(e, -ECANCELED,
		            "berm-unpack was killed by signal %d while it read the proposal%s; the "
		            "proposal is kept",
		            how.si_status, how.si_status == SIGKILL ? " (out of memory?)" : "");
	if (r == 0 && how.si_status != 0)
		r = take_report(&j, e);
	own_close_fd(&j.pidfd);
	own_close_fd(&j.report_fd);
	return r;
}
