#include "agent/child.h"

#include "agent/collect.h"
#include "agent/files.h"
#include "agent/run.h"
#include "base/fdio.h"
#include "base/kernel_gaps.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

/* The child's half of each pipe, before they get their numbers. */
struct ends {
	int in_fd, out_fd, err_fd, wake_fd, status_fd;
};

static void close_one(int *fd)
{
	own_close_fd(fd);
	*fd = -1;
}

static void ends_close(struct ends *x)
{
	close_one(&x->in_fd);
	close_one(&x->out_fd);
	close_one(&x->err_fd);
	close_one(&x->wake_fd);
	close_one(&x->status_fd);
}

void child_init(struct child *c)
{
	*c = (struct child){ .cgroup_fd = -1,
		             .in_fd = -1,
		             .out_fd = -1,
		             .err_fd = -1,
		             .wake_fd = -1,
		             .status_fd = -1 };
}

/* ours: our nonblocking end; theirs: the child's blocking one. */
static int make_pipe(bool we_write, int *ours, int *theirs, struct err *e)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(e, "pipe");
	*ours = fds[we_write];
	*theirs = fds[!we_write];
	return fd_set_nonblock(*ours);
}

static int make_pipes(struct child *c, struct ends *x, struct err *e)
{
	int r = make_pipe(true, &c->in_fd, &x->in_fd, e);

	if (r == 0)
		r = make_pipe(false, &c->out_fd, &x->out_fd, e);
	if (r == 0) /* a hint: fewer turns between a command that writes much and us */
		(void)fcntl(c->out_fd, F_SETPIPE_SZ, CHILD_OUT_BYTES);
	if (r == 0)
		r = make_pipe(false, &c->err_fd, &x->err_fd, e);
	if (r == 0)
		r = make_pipe(true, &c->wake_fd, &x->wake_fd, e);
	if (r == 0)
		r = make_pipe(false, &c->status_fd, &x->status_fd, e);
	return r;
}

/* fork(2), straight into a cgroup if there is one: a later move would wait for every CPU. */
static pid_t fork_into(int cgroup_fd)
{
	struct clone_args args = { .exit_signal = SIGCHLD };

	if (cgroup_fd >= 0) {
		args.flags = CLONE_INTO_CGROUP;
		args.cgroup = (unsigned)cgroup_fd;
	}
	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

/*
 * The agent's own protection ends here: a child is as easy to kill as any process. Nor may it power
 * the machine off: this one only halts, so its supervisor would wait for it for ever.
 */
static void drop_privileges_of_pid1(void)
{
	static const char score[] = "0";
	sigset_t none;
	int fd;

	if (fd_open("/proc/self/oom_score_adj", O_WRONLY, 0, &fd, NULL) == 0) {
		if (write(fd, score, sizeof(score) - 1) < 0)
			_exit(125);
		(void)close(fd);
	}
	if (prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT, 0, 0, 0) < 0)
		_exit(125);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* All of a child's life up to its execve or its end. No fd of the agent survives the first lines,
 * or a waiting child would hold the pipes of others open. */
_Noreturn static void child_main(const struct ends *x, struct mail *mail)
{
	uint8_t order;
	ssize_t n;

	/* the agent keeps the low numbers free, so none of these is overwritten before it is used
	 */
	if (dup2(x->in_fd, STDIN_FILENO) < 0 || dup2(x->out_fd, STDOUT_FILENO) < 0 ||
	    dup2(x->err_fd, STDERR_FILENO) < 0 || dup3(x->wake_fd, CHILD_WAKE_FD, O_CLOEXEC) < 0 ||
	    dup3(x->status_fd, CHILD_STATUS_FD, O_CLOEXEC) < 0)
		_exit(125);
	if (syscall(SYS_close_range, CHILD_FIRST_FREE_FD, ~0U, 0) < 0)
		_exit(125);
	drop_privileges_of_pid1();
	(void)umask(022);
	do
		n = read(CHILD_WAKE_FD, &order, 1);
	while (n < 0 && errno == EINTR);
	if (n != 1)
		_exit(0); /* never needed */
	switch (mail->type) {
	case WIRE_EXEC:
		run_exec(mail);
	case WIRE_PUT:
		files_put_main(span_of(mail->payload, mail->bytes));
	case WIRE_COLLECT:
		collect_main(mail);
	default:
		files_get_main(span_of(mail->payload, mail->bytes));
	}
}

static int start(struct child *c, struct ends *x, struct err *e)
{
	pid_t pid;
	void *at = mmap(NULL, sizeof(struct mail), PROT_READ | PROT_WRITE,
	                MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		return err_sys(e, "map the mail of a child");
	c->mail = at;
	pid = fork_into(c->cgroup_fd);
	if (pid < 0)
		return err_sys(e, "fork");
	if (pid == 0)
		child_main(x, at);
	c->pid = pid;
	return 0;
}

int child_make(struct child *c, struct cgroups *cg, struct err *e)
{
	struct ends x = { -1, -1, -1, -1, -1 };
	struct child got;
	int r = 0;

	child_init(&got);
	if (cg) {
		cgroup_sweep(cg);
		r = cgroup_make(cg, &got.cgroup_fd, &got.cgroup_serial, e);
	}
	if (r == 0)
		r = make_pipes(&got, &x, e);
	if (r == 0)
		r = start(&got, &x, e);
	ends_close(&x);
	if (r < 0) {
		child_close(&got, cg);
		return r;
	}
	*c = got;
	return 0;
}

int child_wake(struct child *c, struct err *e)
{
	if (write(c->wake_fd, "!", 1) != 1)
		return err_sys(e, "wake a child");
	close_one(&c->wake_fd);
	return 0;
}

void child_close(struct child *c, struct cgroups *cg)
{
	close_one(&c->in_fd);
	close_one(&c->out_fd);
	close_one(&c->err_fd);
	close_one(&c->wake_fd); /* one that still waits reads EOF, and ends */
	close_one(&c->status_fd);
	if (c->mail)
		(void)munmap(c->mail, sizeof(struct mail));
	if (c->cgroup_fd >= 0)
		cgroup_drop(cg, c->cgroup_fd, c->cgroup_serial);
	child_init(c);
}

bool child_parse_report(struct span in, struct wire_fail *ret)
{
	struct wire_fail got = { 0 };

	if (!take_le32(&in, &got.code) || !take_u8(&in, &got.stage) || in.len > WIRE_TEXT_MAX)
		return false;
	got.text = in;
	*ret = got;
	return true;
}
