/*
 * libberm in a program that has a life of its own: its children, signals, files and forks.
 */
#include "api_test.h"

#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>

static int count_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* One sandbox with one command, from start to end. */
static void whole_life(struct berm *b)
{
	struct berm_sandbox *sb = idle(b);
	struct berm_err err = { 0 };

	expect_text(exec(sb, echo, BERM_STREAM_NULL, BERM_STREAM_PIPE), "hello world\n");
	OK(berm_stop(sb, 0, LONG_MS, &err));
	berm_sandbox_free(sb);
}

static struct berm_process *exec_fds(struct berm_sandbox *sb, const char *const *argv, int in,
                                     int out)
{
	struct berm_command cmd = command(argv, in < 0 ? BERM_STREAM_NULL : BERM_STREAM_FD,
	                                  out < 0 ? BERM_STREAM_NULL : BERM_STREAM_FD);
	struct berm_err err = { 0 };
	struct berm_process *p;

	cmd.in.fd = in;
	cmd.out.fd = out;
	OK(berm_exec(sb, &cmd, &p, &err));
	return p;
}

/* --- what it may not do here at all --- */

static bool watching;
static char forbidden[64];

static void note(const char *what)
{
	if (watching)
		(void)snprintf(forbidden, sizeof(forbidden), "%s", what);
}

/* Ours come before the C library's, also for the code under test. */
char *getenv(const char *name)
{
	size_t len = strlen(name);

	note("getenv");
	for (int i = 0; environ && environ[i]; i++)
		if (strncmp(environ[i], name, len) == 0 && environ[i][len] == '=')
			return environ[i] + len + 1;
	return NULL;
}

static void on_fork(void)
{
	note("fork");
}

TEST(the_environment_and_the_programs_fork_handlers_are_left_alone)
{
	char before[PATH_MAX];
	char after[PATH_MAX];
	struct berm *b;

	fake_install();
	CHECK_EQ(pthread_atfork(on_fork, on_fork, on_fork), 0);
	CHECK(getcwd(before, sizeof(before)));
	watching = true;
	b = fake_berm();
	whole_life(b);
	berm_free(b);
	watching = false;
	CHECK(getcwd(after, sizeof(after)));
	CHECK_STR(after, before);
	CHECK_STR(forbidden, "");
	gone();
}

/* --- children and signals --- */

static volatile sig_atomic_t signals_seen;

static void count_signal(int sig)
{
	(void)sig;
	signals_seen = signals_seen + 1;
}

static void count_all_signals(void)
{
	struct sigaction sa = { .sa_handler = count_signal };

	for (int i = 1; i < NSIG; i++)
		if (i != SIGKILL && i != SIGSTOP && i != SIGSEGV && i != SIGABRT && i != SIGALRM)
			(void)sigaction(i, &sa, NULL);
}

TEST(no_signal_and_no_child_is_ever_heard_of)
{
	struct sigaction before[NSIG];
	struct sigaction after;
	sigset_t mask_before;
	sigset_t mask;
	struct berm *b;

	fake_install();
	count_all_signals();
	for (int i = 1; i < NSIG; i++)
		(void)sigaction(i, NULL, &before[i]);
	(void)pthread_sigmask(SIG_SETMASK, NULL, &mask_before);
	b = fake_berm();
	for (int i = 0; i < 5; i++) {
		whole_life(b);
		CHECK_EQ(waitid(P_ALL, 0, NULL, WEXITED | WNOHANG | __WALL), -1);
		CHECK_EQ(errno, ECHILD);
	}
	berm_free(b);
	CHECK_EQ(signals_seen, 0);
	for (int i = 1; i < NSIG; i++) /* the C library's own are out of everybody's reach */
		if (sigaction(i, NULL, &after) == 0)
			CHECK(before[i].sa_handler == after.sa_handler);
	(void)pthread_sigmask(SIG_SETMASK, NULL, &mask);
	for (int i = 1; i < NSIG; i++)
		CHECK_EQ(sigismember(&mask, i), sigismember(&mask_before, i));
	gone();
}

TEST(a_program_that_ignores_sigchld)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	struct berm *b;

	fake_install();
	CHECK_EQ(sigaction(SIGCHLD, &ignore, NULL), 0);
	b = fake_berm();
	for (int i = 0; i < 5; i++)
		whole_life(b);
	berm_free(b);
	gone();
}

struct reaper {
	bool stop;
	long mine, others;
	pid_t pid;
};

/* The loop that many programs have: whatever ends is taken, known or not. */
static void *reap_all(void *arg)
{
	struct reaper *r = arg;

	while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE)) {
		pid_t pid = waitpid(-1, NULL, WNOHANG);

		r->mine += pid > 0 && pid == __atomic_load_n(&r->pid, __ATOMIC_ACQUIRE);
		r->others += pid > 0 && pid != __atomic_load_n(&r->pid, __ATOMIC_ACQUIRE);
		(void)sched_yield();
	}
	return NULL;
}

TEST(a_program_that_waits_for_any_child)
{
	struct reaper r = { .pid = 0 };
	struct berm *b;
	pthread_t t;
	pid_t pid;

	fake_install();
	pid = fork();
	if (pid == 0)
		for (;;)
			(void)pause();
	__atomic_store_n(&r.pid, pid, __ATOMIC_RELEASE);
	CHECK_EQ(pthread_create(&t, NULL, reap_all, &r), 0);
	b = fake_berm();
	for (int i = 0; i < 5; i++)
		whole_life(b);
	berm_free(b);
	CHECK_EQ(kill(pid, SIGKILL), 0);
	while (kill(pid, 0) == 0)
		(void)poll(NULL, 0, 1);
	__atomic_store_n(&r.stop, true, __ATOMIC_RELEASE);
	CHECK_EQ(pthread_join(t, NULL), 0);
	CHECK_EQ(r.mine, 1); /* its own child was its own */
	CHECK_EQ(r.others, 0);
	gone();
}

/* A profiler's timer, say: whatever it interrupts goes on. */
TEST(a_storm_of_signals_breaks_nothing)
{
	const struct itimerval often = { .it_interval.tv_usec = 300, .it_value.tv_usec = 300 };
	const struct itimerval never = { .it_interval.tv_usec = 0 };
	struct sigaction sa = { .sa_handler = count_signal }; /* and no SA_RESTART */
	struct berm *b;

	b = begin();
	CHECK_EQ(sigaction(SIGALRM, &sa, NULL), 0);
	CHECK_EQ(setitimer(ITIMER_REAL, &often, NULL), 0);
	for (int i = 0; i < 10; i++)
		whole_life(b);
	CHECK_EQ(setitimer(ITIMER_REAL, &never, NULL), 0);
	CHECK(signals_seen > 0);
	berm_free(b);
	gone();
}

static void *live_here(void *arg)
{
	struct berm *b = arg;
	struct berm_sandbox *sb = idle(b);
	struct berm_err err = { 0 };
	_own_fd_ int in = -1;
	struct err e = { 0 };

	CHECK_OK(fd_open("/proc/self/exe", O_RDONLY, 0, &in, &e), &e);
	expect_exit(exec_fds(sb, cat, in, -1), 0);
	OK(berm_stop(sb, 0, LONG_MS, &err));
	berm_sandbox_free(sb);
	return NULL;
}

TEST(a_thread_with_a_small_stack)
{
	const size_t bytes = 256 << 10; /* what berm.h asks for */
	pthread_attr_t attr;
	struct berm *b;
	pthread_t t;

	b = begin();
	CHECK_EQ(pthread_attr_init(&attr), 0);
	CHECK_EQ(pthread_attr_setstacksize(&attr, bytes), 0);
	CHECK_EQ(pthread_create(&t, &attr, live_here, b), 0);
	CHECK_EQ(pthread_join(t, NULL), 0);
	CHECK_EQ(pthread_attr_destroy(&attr), 0);
	berm_free(b);
	gone();
}

/* PID 1 of a container gets what nobody else has; nothing of ours may be left to it. */
TEST(a_program_that_is_its_orphans_reaper)
{
	struct berm_config *c = config();
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;
	struct berm *b;

	fake_install();
	CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
	b = fake_berm();
	for (int i = 0; i < 5; i++)
		whole_life(b);
	gone();
	/* the last supervisor ends in a moment, and the next call to start or free reaps it */
	OK(berm_config_set_image(c, "missing", &err));
	for (uint64_t end = clock_mono_ms() + LONG_MS;
	     waitid(P_ALL, 0, NULL, WEXITED | WNOHANG | WNOWAIT) == 0;) {
		CHECK(clock_mono_ms() < end);
		CHECK_EQ(berm_start(b, c, &sb, &err), -ENOENT);
	}
	CHECK_EQ(errno, ECHILD);
	berm_config_free(c);
	berm_free(b);
}

/* --- files --- */

TEST(fifty_sandboxes_leave_no_file_open)
{
	struct berm *b;
	int before;

	b = begin();
	whole_life(b); /* whatever the C library opens once */
	before = count_fds();
	for (int i = 0; i < 50; i++) {
		struct berm_err err = { 0 };
		struct berm_sandbox *sb = idle(b);
		struct berm_process *p = exec(sb, cat, BERM_STREAM_PIPE, BERM_STREAM_PIPE);

		OK(berm_event_fd(sb, &err));
		if (i % 2)
			expect_text(exec(sb, echo, BERM_STREAM_NULL, BERM_STREAM_PIPE),
			            "hello world\n");
		if (i % 3 == 0)
			berm_process_free(p);
		if (i % 5 == 0)
			OK(berm_stop(sb, 0, LONG_MS, &err));
		berm_sandbox_free(sb);
	}
	CHECK_EQ(count_fds(), before);
	berm_free(b);
	gone();
}

TEST(every_file_is_closed_on_exec)
{
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;
	struct berm_process *p;
	struct berm *b;
	bool was[1024];

	fake_install();
	for (int fd = 0; fd < 1024; fd++)
		was[fd] = fcntl(fd, F_GETFD) >= 0;
	b = fake_berm();
	sb = idle(b);
	OK(berm_event_fd(sb, &err));
	p = exec(sb, cat, BERM_STREAM_PIPE, BERM_STREAM_PIPE);
	BAD(-ETIMEDOUT, "not ended", berm_wait(p, 10, NULL, &err));
	for (int fd = 0; fd < 1024; fd++)
		if (!was[fd] && fcntl(fd, F_GETFD) >= 0)
			CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	finish(b, sb);
}

TEST(too_few_files_are_an_error_and_leave_nothing)
{
	struct rlimit limit;
	struct berm *b;
	int before;
	bool failed = false;

	b = begin();
	before = count_fds();
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
	for (rlim_t max = (rlim_t)before; max < (rlim_t)before + 24; max++) {
		struct rlimit few = { .rlim_cur = max, .rlim_max = limit.rlim_max };
		struct berm_config *c = config();
		struct berm_err err = { 0 };
		struct berm_sandbox *sb = NULL;
		struct berm_process *p;
		struct berm_command cmd = command(echo, BERM_STREAM_NULL, BERM_STREAM_PIPE);

		CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
		if (berm_start(b, c, &sb, &err) < 0) {
			failed = true;
			CHECK(err.text[0]);
		} else if (berm_wait_started(sb, LONG_MS, &err) == 0 &&
		           berm_exec(sb, &cmd, &p, &err) == 0) {
			int r = berm_wait(p, LONG_MS, NULL, &err);

			CHECK(r == 0 || r == -EMFILE);
		}
		CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
		berm_sandbox_free(sb);
		berm_config_free(c);
		CHECK_EQ(count_fds(), before);
		berm_free(fake_berm()); /* sweeps what could not even be removed */
		gone();
	}
	CHECK(failed);
	berm_free(b);
}

/* --- a command's streams are files of the program's --- */

static void make_pipe(int fds[2])
{
	CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
}

static int tmpfile_of(const void *data, size_t len)
{
	_own_fd_ int dir = -1;
	struct err e = { 0 };
	int fd;

	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &dir, &e), &e);
	CHECK_OK(fd_tmpfile(dir, 0600, &fd, &e), &e);
	CHECK_OK(fd_write_all(fd, data, len, &e), &e);
	CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

TEST(from_a_file_to_a_file)
{
	enum { BYTES = 2 << 20 };
	struct berm_sandbox *sb;
	uint8_t *data = malloc(BYTES);
	uint8_t *back = malloc(BYTES);
	struct berm *b;
	int in;
	int out;

	b = begin();
	sb = idle(b);
	for (size_t i = 0; i < BYTES; i++)
		data[i] = fake_pattern(i);
	in = tmpfile_of(data, BYTES);
	out = tmpfile_of("", 0);
	expect_exit(exec_fds(sb, cat, in, out), 0);
	CHECK_EQ(lseek(out, 0, SEEK_END), BYTES);
	CHECK_EQ(pread(out, back, BYTES, 0), BYTES);
	CHECK(memcmp(data, back, BYTES) == 0);
	berm_sandbox_free(sb);
	berm_free(b);
	free(data);
	free(back);
	gone();
}

struct transfer {
	int fd;
	uint64_t bytes;
	bool good;
};

static void *read_slowly(void *arg)
{
	struct transfer *t = arg;
	uint8_t part[4096];
	ssize_t n;

	t->good = true;
	while ((n = read(t->fd, part, sizeof(part))) > 0) {
		for (ssize_t i = 0; i < n; i++)
			t->good = t->good && part[i] == fake_pattern(t->bytes + (uint64_t)i);
		t->bytes += (uint64_t)n;
		if (t->bytes % (64 << 10) < 4096)
			(void)poll(NULL, 0, 1);
	}
	return NULL;
}

/* Blocking pipes of the program's stay blocking, and its own ends may be closed at once. */
TEST(through_blocking_pipes)
{
	static const char *const yes[] = { "yes", "2000000", NULL };
	struct transfer t = { .bytes = 0 };
	struct berm_process *p;
	struct berm_sandbox *sb;
	pthread_t reader;
	struct berm *b;
	int fds[2];

	b = begin();
	sb = idle(b);
	make_pipe(fds);
	t.fd = fds[0];
	CHECK_EQ(pthread_create(&reader, NULL, read_slowly, &t), 0);
	p = exec_fds(sb, yes, -1, fds[1]);
	CHECK_EQ(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);
	CHECK_EQ(close(fds[1]), 0);
	expect_exit(p, 0);
	CHECK_EQ(pthread_join(reader, NULL), 0); /* it saw the end: nobody else has the pipe */
	CHECK_EQ(t.bytes, 2000000);
	CHECK(t.good);
	finish(b, sb);
}

TEST(stdin_from_a_pipe_ends_with_it)
{
	struct berm_err err = { 0 };
	struct berm_process *p;
	struct berm_sandbox *sb;
	struct berm *b;
	char text[16];
	int in[2];
	int out[2];

	b = begin();
	sb = idle(b);
	make_pipe(in);
	make_pipe(out);
	p = exec_fds(sb, cat, in[0], out[1]);
	CHECK_EQ(close(in[0]), 0);
	CHECK_EQ(write(in[1], "one", 3), 3);
	BAD(-ETIMEDOUT, "not ended", berm_wait(p, 100, NULL, &err));
	CHECK_EQ(read(out[0], text, sizeof(text)), 3);
	CHECK_EQ(write(in[1], "two", 3), 3);
	CHECK_EQ(close(in[1]), 0);
	expect_exit(p, 0);
	CHECK_EQ(read(out[0], text, sizeof(text)), 3);
	finish(b, sb);
}

TEST(one_socket_for_both)
{
	struct berm_process *p;
	struct berm_sandbox *sb;
	struct err e = { 0 };
	struct berm *b;
	char text[16];
	int fds[2];

	b = begin();
	sb = idle(b);
	CHECK_OK(fd_socketpair(fds, &e), &e);
	p = exec_fds(sb, cat, fds[1], fds[1]);
	CHECK_EQ(write(fds[0], "ping", 4), 4);
	CHECK_EQ(shutdown(fds[0], SHUT_WR), 0);
	expect_exit(p, 0);
	CHECK_EQ(read(fds[0], text, sizeof(text)), 4);
	finish(b, sb);
}

/* The command hears of it as from a pipe, the program only from berm_wait(). */
TEST(a_pipe_without_a_reader_raises_no_signal_here)
{
	static const char *const yes[] = { "yes", "100000000", NULL };
	struct berm_exit ex = { .size = sizeof(ex) };
	struct berm_err err = { 0 };
	struct berm_process *p;
	struct berm_sandbox *sb;
	struct berm *b;
	sigset_t pending;
	int fds[2];

	b = begin();
	sb = idle(b);
	make_pipe(fds);
	CHECK_EQ(close(fds[0]), 0);
	p = exec_fds(sb, yes, -1, fds[1]); /* SIGPIPE is at its default: it would end us */
	OK(berm_wait(p, LONG_MS, &ex, &err));
	CHECK_EQ(ex.signal, SIGPIPE);
	CHECK_EQ(sigpending(&pending), 0);
	CHECK_EQ(sigismember(&pending, SIGPIPE), 0);
	finish(b, sb);
}

/* A SIGPIPE that was pending before is the program's own, and is left to it. */
TEST(a_pending_sigpipe_stays)
{
	static const char *const yes[] = { "yes", "100000000", NULL };
	struct berm_exit ex = { .size = sizeof(ex) };
	struct berm_err err = { 0 };
	struct berm_process *p;
	struct berm_sandbox *sb;
	struct berm *b;
	sigset_t set;
	int fds[2];

	fake_install();
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGPIPE);
	CHECK_EQ(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
	CHECK_EQ(raise(SIGPIPE), 0);
	b = fake_berm();
	sb = idle(b);
	make_pipe(fds);
	CHECK_EQ(close(fds[0]), 0);
	p = exec_fds(sb, yes, -1, fds[1]);
	OK(berm_wait(p, LONG_MS, &ex, &err));
	CHECK_EQ(sigpending(&set), 0);
	CHECK_EQ(sigismember(&set, SIGPIPE), 1);
	finish(b, sb);
}

TEST(a_file_that_takes_no_more_is_told)
{
	static const char *const yes[] = { "yes", "100000", NULL };
	struct berm_err err = { 0 };
	struct berm_process *p;
	struct berm_sandbox *sb;
	_own_fd_ int fd = -1;
	struct err e = { 0 };
	struct berm *b;

	b = begin();
	sb = idle(b);
	CHECK_OK(fd_open("/dev/full", O_WRONLY, 0, &fd, &e), &e);
	p = exec_fds(sb, yes, -1, fd);
	BAD(-ENOSPC, "out of the command: No space left", berm_wait(p, LONG_MS, NULL, &err));
	p = exec_fds(sb, cat, open(test_tmpdir(), O_RDONLY | O_CLOEXEC), -1);
	BAD(-EISDIR, "in of the command", berm_wait(p, LONG_MS, NULL, &err));
	expect_text(exec(sb, echo, BERM_STREAM_NULL, BERM_STREAM_PIPE), "hello world\n");
	finish(b, sb);
}

/* --- forks of the program --- */

TEST(a_forked_child_has_no_part_in_it)
{
	struct berm_err err = { 0 };
	struct berm_process *p;
	struct berm_sandbox *sb;
	int status = 0;
	struct berm *b;
	pid_t pid;

	b = begin();
	sb = idle(b);
	p = exec(sb, cat, BERM_STREAM_PIPE, BERM_STREAM_PIPE);
	pid = fork();
	if (pid == 0) {
		struct berm_config *c = config();
		struct berm_sandbox *other;

		BAD(-EPERM, "which forked this one", berm_wait(p, 0, NULL, &err));
		BAD(-EPERM, "which forked this one", berm_stop(sb, 0, 0, &err));
		BAD(-EPERM, "which forked this one", berm_start(b, c, &other, &err));
		berm_config_free(c);
		berm_process_free(p);
		berm_sandbox_free(sb);
		berm_free(b);
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK_EQ(berm_write(p, "still here", 10, LONG_MS, &err),
	         10); /* the parent's is untouched */
	OK(berm_close_stdin(p, &err));
	expect_text(p, "still here");
	finish(b, sb);
}

static void start_and_die(void)
{
	struct berm *b = fake_berm();
	struct berm_sandbox *sb = idle(b);

	(void)exec(sb, hang, BERM_STREAM_NULL, BERM_STREAM_NULL);
	(void)raise(SIGKILL);
}

TEST(sandboxes_end_with_the_program)
{
	int status = 0;
	pid_t pid;

	fake_install();
	pid = fork();
	if (pid == 0)
		start_and_die();
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFSIGNALED(status));
	gone();
}

/* Files may get the numbers 0 to 2 then, and are to be none of anybody's stdio. */
TEST(a_program_without_stdio)
{
	int status = 0;
	pid_t pid;

	fake_install();
	pid = fork();
	if (pid == 0) {
		struct berm *b;

		(void)close(0);
		(void)close(1);
		(void)close(2);
		b = fake_berm();
		whole_life(b);
		berm_free(b);
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	gone();
}

TEST(nothing_is_printed)
{
	int fds[2];
	pid_t pid;
	char c;

	fake_install();
	make_pipe(fds);
	pid = fork();
	if (pid == 0) {
		struct berm_config *c2 = config();
		struct berm_sandbox *sb;
		struct berm *b;

		if (dup2(fds[1], 1) < 0 || dup2(fds[1], 2) < 0)
			_exit(1);
		b = fake_berm();
		(void)berm_config_set_image(c2, "missing", NULL);
		(void)berm_start(b, c2, &sb, NULL);
		whole_life(b);
		berm_config_free(c2);
		berm_free(b);
		_exit(0);
	}
	CHECK_EQ(close(fds[1]), 0);
	CHECK_EQ(read(fds[0], &c, 1), 0);
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
	gone();
}

API_TEST_MAIN()
