#include "base/spawn.h"

#include "base/fdio.h"
#include "base/idmap.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

enum {
	FIRST = 3, /* the numbered files below are fds 3 to 9 */
	FILES = 7,
	SPARE = 40, /* fd n is also at SPARE + n, to come back from a round that closed it */
	WAIT_MS = 20000,
};

static int wait_exit(pid_t pid, int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	int status = 0;

	CHECK_EQ(poll(&p, 1, WAIT_MS), 1);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	(void)close(pidfd);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Runs `sh -c script` with the given fd map; its stdout is an anonymous file, read back. */
static struct span run_shell(struct spawn *s, const char *script, char *room, size_t size)
{
	const char *const argv[] = { "sh", "-c", script, NULL };
	struct err e = { 0 };
	_own_fd_ int dir = -1;
	_own_fd_ int out = -1;
	int pidfd;
	pid_t pid;
	ssize_t n;

	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &dir, &e), &e);
	CHECK_OK(fd_tmpfile(dir, 0600, &out, &e), &e);
	s->path = "/bin/sh";
	s->argv = argv;
	s->fds[1] = out;
	CHECK_OK(spawn_child(s, &pid, &pidfd, &e), &e);
	CHECK_EQ(wait_exit(pid, pidfd), 0);
	n = pread(out, room, size, 0);
	CHECK(n >= 0);
	return span_of(room, (size_t)n);
}

/* Files with the contents "3" to "9" as the fds of the same numbers. */
static void make_numbered_fds(void)
{
	struct err e = { 0 };
	int dir;

	for (int fd = FIRST; fd < 64; fd++)
		(void)close(fd); /* what the harness was started with */
	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &dir, &e), &e);
	CHECK_EQ(dup3(dir, SPARE, O_CLOEXEC), SPARE);
	(void)close(dir);
	for (int i = 0; i < FILES; i++) {
		char digit = (char)('0' + FIRST + i);
		int fd;

		CHECK_OK(fd_tmpfile(SPARE, 0600, &fd, &e), &e);
		CHECK_EQ(fd, FIRST + i);
		CHECK_EQ(dup3(fd, SPARE + fd, O_CLOEXEC), SPARE + fd);
		CHECK_OK(fd_write_all(fd, &digit, 1, &e), &e);
	}
	(void)close(SPARE);
}

/* A fixed sequence, so that a failure repeats. Source: Numerical Recipes, the "quick" generator. */
static unsigned next(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 16;
}

/* Leaves a hole at some of the numbers, so that spawn's own fds land there. */
static void punch_holes(uint32_t *seed)
{
	for (int fd = FIRST; fd < FIRST + FILES; fd++) {
		if (next(seed) % 2)
			(void)close(fd);
		else
			CHECK_EQ(dup3(SPARE + fd, fd, O_CLOEXEC), fd);
	}
}

/*
 * Any map must arrive as given: an fd may be wanted at the number another one has now, twice, or
 * not at all (/dev/null, which must not take a number that is still to be read from).
 */
TEST(fds_arrive_in_any_permutation)
{
	static const char script[] =
		"for n in 3 4 5 6 7 8 9; do cat /proc/self/fd/$n; printf .; done";
	uint32_t seed = 1;

	make_numbered_fds();
	for (int round = 0; round < 100; round++) {
		struct spawn s = { .fds = { -1, -1, 2 }, .fd_count = FIRST + FILES };
		const char *env[] = { "PATH=/usr/bin:/bin", NULL };
		char want[2 * FILES + 1] = "";
		char room[64];

		s.envp = env;
		punch_holes(&seed);
		for (int i = 0; i < FILES; i++) {
			int pick = FIRST + (int)(next(&seed) % FILES);
			bool open = fcntl(pick, F_GETFD) >= 0;
			size_t len = strlen(want);

			s.fds[FIRST + i] = open ? pick : -1;
			(void)snprintf(want + len, sizeof(want) - len, open ? "%d." : ".", pick);
		}
		CHECK_SPAN(run_shell(&s, script, room, sizeof(room)), want);
	}
}

TEST(nothing_else_leaks_across)
{
	struct spawn s = { .fds = { -1, -1, 2 }, .fd_count = 3 };
	const char *const argv[] = { "ls", "/proc/self/fd", NULL };
	struct err e = { 0 };
	char room[64] = "";
	int fds[2];
	int pidfd;
	pid_t pid;

	make_numbered_fds();
	CHECK_EQ(fd_set_cloexec(5, false), 0); /* even one somebody forgot */
	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	s.path = "/bin/ls";
	s.argv = argv;
	s.fds[1] = fds[1];
	CHECK_OK(spawn_child(&s, &pid, &pidfd, &e), &e);
	CHECK_EQ(wait_exit(pid, pidfd), 0);
	CHECK(read(fds[0], room, sizeof(room) - 1) > 0);
	CHECK_STR(room, "0\n1\n2\n3\n"); /* 3 is the directory ls reads */
}

TEST(the_environment_is_the_one_given)
{
	struct spawn s = { .fds = { -1, -1, 2 }, .fd_count = 3 };
	const char *const env[] = { "A=1", NULL };
	const char *const script = "tr '\\0' '\\n' </proc/$$/environ";
	const char *const path_env[] = { "PATH=/usr/bin:/bin", "A=1", NULL };
	char room[128];

	(void)setenv("SECRET", "x", 1);
	CHECK_EQ(run_shell(&s, "/usr/bin/tr '\\0' '\\n' </proc/$$/environ", room, sizeof(room)).len,
	         0);
	s.envp = env;
	CHECK_SPAN(run_shell(&s, "/usr/bin/tr '\\0' '\\n' </proc/$$/environ", room, sizeof(room)),
	           "A=1\n");
	s.envp = path_env;
	CHECK_SPAN(run_shell(&s, script, room, sizeof(room)), "PATH=/usr/bin:/bin\nA=1\n");
}

TEST(signals_start_at_their_defaults)
{
	struct spawn s = { .fds = { -1, -1, 2 }, .fd_count = 3 };
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	sigset_t all;
	char room[256];

	CHECK_EQ(sigaction(SIGPIPE, &ignore, NULL), 0);
	CHECK_EQ(sigaction(SIGTERM, &ignore, NULL), 0);
	(void)sigfillset(&all);
	CHECK_EQ(sigprocmask(SIG_SETMASK, &all, NULL), 0);
	CHECK_SPAN(run_shell(&s,
	                     "while read -r k v; do case $k in SigBlk:|SigIgn:) "
	                     /* 32 and 33 are the C library's own, out of everybody's reach */
	                     "echo $((0x$v & ~0x180000000));; esac; done </proc/self/status",
	                     room, sizeof(room)),
	           "0\n0\n");
}

TEST(an_exec_that_fails_is_told_with_its_errno)
{
	const char *const argv[] = { "x", NULL };
	struct spawn s = { .argv = argv, .fds = { -1, -1, -1 }, .fd_count = 3 };
	struct err e = { 0 };
	char path[512];
	int pidfd = -7;
	pid_t pid = -7;
	int fd;

	s.path = "/nonexistent/program";
	CHECK_EQ(spawn_child(&s, &pid, &pidfd, &e), -ENOENT);
	CHECK_STR(e.text, "start '/nonexistent/program': No such file or directory");
	s.path = "/etc/passwd";
	CHECK_EQ(spawn_child(&s, &pid, &pidfd, &e), -EACCES);
	(void)snprintf(path, sizeof(path), "%s/script", test_tmpdir());
	CHECK_OK(fd_open(path, O_WRONLY | O_CREAT, 0700, &fd, &e), &e);
	CHECK_OK(fd_write_all(fd, "not a program", 13, &e), &e);
	(void)close(fd);
	s.path = path;
	CHECK_EQ(spawn_child(&s, &pid, &pidfd, &e), -ENOEXEC);
	s.path = "/bin/sh";
	s.fds[2] = 900; /* not open */
	CHECK_EQ(spawn_child(&s, &pid, &pidfd, &e), -EBADF);
	CHECK_EQ(pid, -7);
	CHECK_EQ(pidfd, -7);
	errno = 0;
	CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1); /* no child of a failed start is left */
	CHECK_EQ(errno, ECHILD);
}

TEST(own_session_has_no_terminal_of_ours)
{
	struct spawn s = { .fds = { -1, -1, 2 }, .fd_count = 3, .own_session = true };
	char room[64];
	struct span got;
	uint64_t sid;

	got = run_shell(&s, "read -r _ _ _ _ _ sid _ </proc/self/stat; printf %s $sid", room,
	                sizeof(room));
	CHECK(span_to_u64(got, &sid));
	CHECK(sid != (uint64_t)getsid(0));
	s.own_session = false;
	got = run_shell(&s, "read -r _ _ _ _ _ sid _ </proc/self/stat; printf %s $sid", room,
	                sizeof(room));
	CHECK(span_to_u64(got, &sid));
	CHECK_EQ(sid, getsid(0));
}

/* A parent that spawns `sleep` and is killed. Returns whether the sleeper died within the wait. */
static bool dies_with_parent(bool outlive, bool own_pids)
{
	const char *const argv[] = { "sleep", "1000", NULL };
	struct spawn s = { .path = "/bin/sleep", .argv = argv, .fds = { -1, -1, -1 } };
	struct err e = { 0 };
	_own_fd_ int pidfd = -1;
	struct pollfd p;
	pid_t sleeper = -1;
	pid_t parent;
	int fds[2];
	int got;

	s.fd_count = 3;
	s.outlive = outlive;
	s.own_pids = own_pids;
	CHECK_OK(fd_socketpair(fds, &e), &e);
	parent = fork();
	CHECK(parent >= 0);
	if (parent == 0) {
		if (spawn_child(&s, &sleeper, &got, NULL) < 0)
			_exit(1);
		if (fd_write_all(fds[1], &sleeper, sizeof(sleeper), NULL) < 0)
			_exit(1);
		for (;;)
			(void)pause();
	}
	CHECK_OK(fd_read_all(fds[0], &sleeper, sizeof(sleeper), &e), &e);
	pidfd = (int)syscall(SYS_pidfd_open, sleeper, 0);
	CHECK(pidfd >= 0);
	(void)kill(parent, SIGKILL);
	CHECK_EQ(waitpid(parent, NULL, 0), parent);
	p = (struct pollfd){ .fd = pidfd, .events = POLLIN };
	got = poll(&p, 1, outlive ? 200 : WAIT_MS);
	(void)kill(sleeper, SIGKILL);
	return got == 1;
}

TEST(a_child_dies_with_its_parent)
{
	CHECK(dies_with_parent(false, false));
}

TEST(a_child_told_to_outlives_its_parent)
{
	CHECK(!dies_with_parent(true, false));
}

/* --- a pid namespace --- */

/* Says its pid, uid and gid as it sees them, and whether it can signal the process $PID. */
static const char look_around[] =
	"echo $$; while read -r k v w; do case $k in Uid:|Gid:) echo $v;; esac; "
	"done </proc/self/status; kill -0 $PID 2>/dev/null && echo sees; exit 5";

struct looked {
	pid_t pid; /* its own word */
	uint64_t uid, gid;
	bool sees;
	int exit_code;
};

static uint64_t take_number(struct span *in)
{
	struct span line;
	uint64_t n = UINT64_MAX;

	return take_until(in, '\n', &line) && span_to_u64(line, &n) ? n : UINT64_MAX;
}

/* In a child that becomes `uid` first, if that is not 0; it gives its exit code for a failure. */
static int look_as(uid_t uid, struct looked *ret)
{
	const char *const argv[] = { "sh", "-c", look_around, NULL };
	struct spawn s = { .path = "/bin/sh", .argv = argv, .fds = { -1, -1, 2 }, .fd_count = 3 };
	char text[32];
	const char *const env[] = { text, NULL };
	struct span in;
	char room[256];
	int pidfd;
	pid_t pid;
	ssize_t n;
	int fds[2];

	(void)snprintf(text, sizeof(text), "PID=%d", (int)getpid());
	if (uid && (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 ||
	            setresuid(uid, uid, uid) < 0 || prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0))
		return 120;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return 121;
	s.fds[1] = fds[1];
	s.envp = env;
	s.own_pids = true;
	if (spawn_child(&s, &pid, &pidfd, NULL) < 0)
		return 122;
	(void)close(fds[1]);
	ret->exit_code = wait_exit(pid, pidfd);
	n = read(fds[0], room, sizeof(room));
	if (n <= 0)
		return 123;
	in = span_of(room, (size_t)n);
	ret->pid = (pid_t)take_number(&in);
	ret->uid = take_number(&in);
	ret->gid = take_number(&in);
	ret->sees = in.len > 0;
	return 0;
}

static struct looked look(int (*as)(struct looked *ret))
{
	struct looked *got =
		mmap(NULL, sizeof(*got), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status = 0;
	pid_t pid;

	CHECK(got != MAP_FAILED);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		_exit(as(got));
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 0);
	return *got;
}

enum { SOMEBODY = 47003 };

static int as_i_am(struct looked *ret)
{
	return look_as(0, ret);
}

static int as_somebody(struct looked *ret)
{
	return look_as(geteuid() == 0 ? SOMEBODY : 0, ret);
}

/* Root of a user namespace that may make no pid namespaces. */
static int where_none_is_left(struct looked *ret)
{
	struct idmap ids;
	int fd;

	idmap_self(&ids);
	if (unshare(CLONE_NEWUSER) < 0 || idmap_write(&ids, NULL) < 0 ||
	    fd_open("/proc/sys/user/max_pid_namespaces", O_WRONLY, 0, &fd, NULL) < 0 ||
	    write(fd, "0", 1) != 1)
		return 124;
	return look_as(0, ret);
}

TEST(a_pid_namespace_of_its_own)
{
	struct looked got;

	if (geteuid() != 0)
		TEST_SKIP("needs root");
	got = look(as_i_am);
	CHECK_EQ(got.pid, 1);
	CHECK_EQ(got.uid, 0);
	CHECK_EQ(got.gid, 0);
	CHECK(!got.sees);
	CHECK_EQ(got.exit_code, 5);
}

TEST(a_pid_namespace_for_an_ordinary_user)
{
	struct looked got = look(as_somebody);

	CHECK_EQ(got.uid, geteuid() == 0 ? SOMEBODY : geteuid());
	CHECK_EQ(got.gid, geteuid() == 0 ? SOMEBODY : getegid());
	CHECK_EQ(got.exit_code, 5);
	if (got.pid != 1)
		TEST_SKIP("this machine does not permit user namespaces");
	CHECK(!got.sees);
}

TEST(without_a_pid_namespace_it_starts_all_the_same)
{
	struct looked got;

	if (geteuid() != 0)
		TEST_SKIP("needs root");
	got = look(where_none_is_left);
	CHECK(got.pid > 1);
	CHECK(got.sees);
	CHECK_EQ(got.exit_code, 5);
}

TEST(a_child_in_its_own_pid_namespace_dies_with_its_parent)
{
	CHECK(dies_with_parent(false, true));
}

/* Whoever is killed between the clone and the child's word for its death signal leaves nobody. */
TEST(a_parent_killed_at_any_moment_leaves_nobody)
{
	const char *const argv[] = { "sleep", "1000", NULL };
	struct spawn s = { .path = "/bin/sleep", .argv = argv, .fds = { -1, -1, 2, -1 } };

	s.fd_count = 4;
	s.own_pids = true;
	for (int i = 0; i < 100; i++) {
		const struct timespec wait = { .tv_nsec = i * 20000 };
		struct pollfd p = { .events = POLLIN };
		pid_t parent;
		int fds[2];

		CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
		s.fds[3] = fds[1];
		parent = fork();
		CHECK(parent >= 0);
		if (parent == 0) {
			int pidfd;
			pid_t pid;

			if (spawn_child(&s, &pid, &pidfd, NULL) < 0)
				_exit(1);
			for (;;)
				(void)pause();
		}
		(void)nanosleep(&wait, NULL);
		(void)kill(parent, SIGKILL);
		CHECK_EQ(waitpid(parent, NULL, 0), parent);
		(void)close(fds[1]);
		p.fd = fds[0];
		CHECK_EQ(poll(&p, 1, WAIT_MS), 1); /* the end of file: nobody has it any more */
		CHECK(p.revents & POLLHUP);
		(void)close(fds[0]);
	}
}

TEST(an_exec_that_fails_in_a_pid_namespace_is_told)
{
	const char *const argv[] = { "x", NULL };
	struct spawn s = { .argv = argv, .fds = { -1, -1, -1 }, .fd_count = 3 };
	struct err e = { 0 };
	int pidfd = -7;
	pid_t pid = -7;

	s.own_pids = true;
	s.path = "/nonexistent/program";
	CHECK_EQ(spawn_child(&s, &pid, &pidfd, &e), -ENOENT);
	CHECK_EQ(pid, -7);
	CHECK_EQ(pidfd, -7);
	CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1);
	CHECK_EQ(errno, ECHILD);
}

/* --- orphans --- */

static volatile sig_atomic_t child_signals;

static void count_child(int sig)
{
	(void)sig;
	child_signals = child_signals + 1;
}

/* Reads what a script of an orphan's prints, to its end. */
static void orphan_says(struct spawn *s, const char *script, const char *want)
{
	const char *const argv[] = { "sh", "-c", script, NULL };
	struct pollfd p = { .events = POLLIN };
	struct err e = { 0 };
	char room[512];
	size_t len = 0;
	int fds[2];
	ssize_t n;
	pid_t pid;

	s->path = "/bin/sh";
	s->argv = argv;
	s->orphan = true;
	CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
	s->fds[1] = fds[1];
	CHECK_OK(spawn_child(s, &pid, &p.fd, &e), &e);
	CHECK(pid > 0 && (fcntl(p.fd, F_GETFD) & FD_CLOEXEC));
	(void)close(fds[1]);
	while ((n = read(fds[0], room + len, sizeof(room) - len)) > 0)
		len += (size_t)n;
	CHECK_EQ(n, 0);
	CHECK_EQ(poll(&p, 1, WAIT_MS), 1);
	CHECK_SPAN(span_of(room, len), want);
	(void)close(p.fd);
	(void)close(fds[0]);
}

static int count_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

TEST(an_orphan_is_nobodys_child_here)
{
	struct sigaction count = { .sa_handler = count_child };
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	struct spawn s = { .fds = { -1, -1, 2 }, .fd_count = 3, .own_session = true };
	siginfo_t si;
	int fds = count_fds();

	CHECK_EQ(sigaction(SIGCHLD, &count, NULL), 0);
	orphan_says(&s, "echo hello", "hello\n");
	CHECK_EQ(child_signals, 0);
	CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1);
	CHECK_EQ(errno, ECHILD);
	CHECK_EQ(waitid(P_ALL, 0, &si, WEXITED | WNOHANG | __WALL), -1);
	CHECK_EQ(errno, ECHILD);
	CHECK_EQ(sigaction(SIGCHLD, &ignore, NULL), 0);
	orphan_says(&s, "pwd; echo $#", "/\n0\n");
	CHECK_EQ(count_fds(), fds);
}

static void *wait_in_vain(void *arg)
{
	bool *stop = arg;
	long seen = 0;

	while (!__atomic_load_n(stop, __ATOMIC_ACQUIRE))
		seen += waitpid(-1, NULL, WNOHANG) >= 0;
	return (void *)(intptr_t)seen;
}

/* Somebody else's loop over all children, in another thread, never meets one of them. */
TEST(an_orphan_is_not_met_by_anybodys_wait)
{
	struct spawn s = { .fds = { -1, -1, 2 }, .fd_count = 3 };
	bool stop = false;
	pthread_t t;
	void *seen;

	CHECK_EQ(pthread_create(&t, NULL, wait_in_vain, &stop), 0);
	for (int i = 0; i < 20; i++)
		orphan_says(&s, "echo x", "x\n");
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	CHECK_EQ(pthread_join(t, &seen), 0);
	CHECK_EQ((intptr_t)seen, 0);
}

TEST(an_orphan_has_what_it_was_given_and_no_more)
{
	struct spawn s = { .fds = { -1, -1, 2, 3 }, .fd_count = 4 };
	sigset_t all;
	sigset_t now;

	make_numbered_fds();
	CHECK_EQ(fd_set_cloexec(5, false), 0);
	CHECK_EQ(lseek(3, 0, SEEK_SET), 0);
	(void)setenv("SECRET", "x", 1);
	orphan_says(&s,
	            "cat <&3; for i in 4 5 6 7 8 9; do test ! -e /proc/$$/fd/$i || echo $i; "
	            "done; /usr/bin/tr '\\0' '\\n' </proc/$$/environ",
	            "3");
	(void)sigfillset(&all);
	CHECK_EQ(sigprocmask(SIG_SETMASK, &all, NULL), 0);
	orphan_says(&s,
	            "while read -r k v; do case $k in SigBlk:|SigIgn:) "
	            "echo $((0x$v & ~0x180000000));; esac; done </proc/self/status",
	            "0\n0\n");
	CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
	CHECK(sigismember(&now, SIGUSR1) == 1); /* ours is as it was */
}

TEST(an_orphan_that_cannot_exec_is_told_with_its_errno)
{
	const char *const argv[] = { "x", NULL };
	struct spawn s = { .argv = argv, .fds = { -1, -1, -1 }, .fd_count = 3, .orphan = true };
	struct err e = { 0 };
	int fds = count_fds();
	int pidfd = -7;
	pid_t pid = -7;

	s.path = "/nonexistent/program";
	CHECK_EQ(spawn_child(&s, &pid, &pidfd, &e), -ENOENT);
	CHECK_STR(e.text, "start '/nonexistent/program': No such file or directory");
	s.path = "/bin/sh";
	s.fds[2] = 900; /* not open */
	CHECK_EQ(spawn_child(&s, &pid, &pidfd, &e), -EBADF);
	CHECK_EQ(pid, -7);
	CHECK_EQ(pidfd, -7);
	CHECK_EQ(count_fds(), fds);
	CHECK_EQ(waitid(P_ALL, 0, NULL, WEXITED | WNOHANG | __WALL), -1);
}

/* PID 1 of a container: what is left to nobody is left to it. */
TEST(a_reaper_can_reap_its_orphans)
{
	const char *const argv[] = { "sh", "-c", "exit 3", NULL };
	struct spawn s = { .path = "/bin/sh", .argv = argv, .fds = { -1, -1, 2 }, .fd_count = 3 };
	struct pollfd p = { .events = POLLIN };
	struct err e = { 0 };
	siginfo_t si;
	pid_t pid;

	CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
	s.orphan = true;
	CHECK_OK(spawn_child(&s, &pid, &p.fd, &e), &e);
	CHECK_EQ(poll(&p, 1, WAIT_MS), 1);
	CHECK_EQ(waitid(P_PIDFD, (id_t)p.fd, &si, WEXITED), 0);
	CHECK_EQ(si.si_pid, pid);
	CHECK_EQ(si.si_status, 3);
}

TEST(an_orphan_outlives_the_thread_and_process_that_made_it)
{
	const char *const argv[] = { "sleep", "1000", NULL };
	struct spawn s = { .path = "/bin/sleep", .argv = argv, .fds = { -1, -1, -1 } };
	struct err e = { 0 };
	struct pollfd p = { .events = POLLIN };
	pid_t sleeper = -1;
	pid_t parent;
	int fds[2];

	s.fd_count = 3;
	s.orphan = true;
	CHECK_OK(fd_socketpair(fds, &e), &e);
	parent = fork();
	if (parent == 0) {
		if (spawn_child(&s, &sleeper, &p.fd, NULL) < 0 ||
		    fd_write_all(fds[1], &sleeper, sizeof(sleeper), NULL) < 0)
			_exit(1);
		_exit(0);
	}
	CHECK_OK(fd_read_all(fds[0], &sleeper, sizeof(sleeper), &e), &e);
	CHECK_EQ(waitpid(parent, NULL, 0), parent);
	p.fd = (int)syscall(SYS_pidfd_open, sleeper, 0);
	CHECK(p.fd >= 0);
	CHECK_EQ(poll(&p, 1, 100), 0);
	CHECK_EQ(kill(sleeper, SIGKILL), 0);
	CHECK_EQ(poll(&p, 1, WAIT_MS), 1);
}

TEST_MAIN()
