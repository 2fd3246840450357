#include "work/workjob.h"

#include "base/buf.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

struct running {
	pid_t pid;
	int pidfd, report_fd;
};

static int start(const struct workjob *j, struct running *ret, struct err *e)
{
	struct spawn s = { .path = j->unpack_path, .argv = j->argv, .fd_count = j->fd_count };
	_own_fd_ int far = -1;
	int fds[2];
	int r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(e, "pipe");
	ret->report_fd = fds[0];
	far = fds[1];
	memcpy(s.fds, j->fds, sizeof(s.fds));
	s.fds[0] = -1;
	s.fds[1] = -1;
	s.fds[2] = STDERR_FILENO;
	s.fds[j->report_fd] = far;
	r = spawn_child(&s, &ret->pid, &ret->pidfd, e);
	if (r == -ENOENT)
		return err_set(e, -EIO, "'%s' is missing: berm is not installed completely",
		               j->unpack_path);
	return r;
}

/* Until it ends. Its report waits in the pipe meanwhile: it is shorter than a pipe is. */
static int wait_end(const struct workjob *j, const struct running *run, struct err *e)
{
	uint64_t until_ms = clock_mono_ms() + j->timeout_ms;

	for (;;) {
		struct pollfd p = { .fd = run->pidfd, .events = POLLIN };
		uint64_t now_ms = clock_mono_ms();
		uint64_t left_ms = until_ms > now_ms ? until_ms - now_ms : 0;
		int n = poll(&p, 1, left_ms < INT_MAX ? (int)left_ms : INT_MAX);

		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return err_sys(e, "wait for berm-unpack");
		if (n == 0 && left_ms == 0)
			return err_set(e, -ETIMEDOUT, "%s could not be read in %llu s; it is kept",
			               j->what, (unsigned long long)(j->timeout_ms / 1000));
	}
}

/* Nothing writes to its files after this. */
static int reap(const struct running *run, siginfo_t *ret)
{
	int r;

	(void)kill(run->pid, SIGKILL); /* it has ended, or it is to */
	do
		r = waitid(P_PID, (id_t)run->pid, ret, WEXITED);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

/* Its own errors are few. */
static bool is_known(uint32_t code)
{
	static const uint32_t known[] = {
		EBADMSG, E2BIG, EOPNOTSUPP, ENOENT, ENOSPC, EDQUOT, ENOMEM
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (known[i] == code)
			return true;
	}
	return false;
}

/* The writer may be the attacker: a code of a few, and text without control bytes. */
static int take_report(const struct running *run, struct err *e)
{
	uint8_t raw[WORKJOB_REPORT_MAX];
	char text[ERR_TEXT_MAX];
	struct span in;
	struct buf shown;
	uint32_t code;
	ssize_t n;

	do
		n = read(run->report_fd, raw, sizeof(raw));
	while (n < 0 && errno == EINTR);
	in = span_of(raw, n > 0 ? (size_t)n : 0);
	if (!take_le32(&in, &code))
		return err_set(e, -ECANCELED,
		               "berm-unpack ended without a result; the proposal is kept");
	buf_init(&shown, text, sizeof(text) - 1);
	buf_put_escaped(&shown, in);
	text[shown.len] = '\0';
	if (!is_known(code))
		code = EIO;
	return err_set(e, -(int)code, "%s", text);
}

int workjob_run(const struct workjob *j, struct err *e)
{
	struct running run = { .pidfd = -1, .report_fd = -1 };
	siginfo_t how = { 0 };
	int r = start(j, &run, e);

	if (r == 0) {
		r = wait_end(j, &run, e);
		if (reap(&run, &how) < 0 && r == 0)
			r = err_set(e, -EIO, "wait for berm-unpack");
	}
	if (r == 0 && how.si_code != CLD_EXITED)
		r = err_set(e, -ECANCELED,
		            "berm-unpack was killed by signal %d while it read %s%s; the "
		            "proposal is kept",
		            how.si_status, j->what,
		            how.si_status == SIGKILL ? " (out of memory?)" : "");
	if (r == 0 && how.si_status != 0)
		r = take_report(&run, e);
	own_close_fd(&run.pidfd);
	own_close_fd(&run.report_fd);
	return r;
}

void workjob_report(int report_fd, const struct err *e)
{
	uint8_t raw[WORKJOB_REPORT_MAX];
	struct buf b;

	buf_init(&b, raw, sizeof(raw));
	buf_put_le32(&b, (uint32_t)(e->code < 0 ? -e->code : EIO));
	buf_put(&b, e->text, e->len);
	(void)!write(report_fd, b.at, b.len); /* under PIPE_BUF: whole or not at all */
}
