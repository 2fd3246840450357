/*
 * The supervisor here is this program itself, found under another name in a prefix of the test's
 * own. It checks what it was born with, says so on its control socket, and then does what it is
 * told by single letters: on that socket, or on its control.sock.
 */
#include "lib/start.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "failalloc.h"
#include "state/state.h"
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { FAKE_LIFE_S = 50, WAIT_MS = 20000 };

/* --- the supervisor --- */

static bool is_null(int fd)
{
	struct stat a;
	struct stat b;

	return fstat(fd, &a) == 0 && stat("/dev/null", &b) == 0 && a.st_rdev == b.st_rdev;
}

/* 0, or which of its expectations does not hold. */
static char fake_check(int argc, char **argv, struct spec *ret)
{
	static char storage[SPEC_BYTES_MAX];
	void *lists = NULL;
	struct stat st;
	ssize_t n;

	if (argc != 2 || !spec_id_ok(argv[1]))
		return 'a';
	if (!is_null(0) || !is_null(1))
		return 'b';
	if (environ[0] ? strcmp(environ[0], "BERM_DEBUG=1") != 0 || environ[1] : !is_null(2))
		return 'c';
	n = read(START_FD_SPEC, storage, sizeof(storage));
	if (n <= 0 || spec_parse(storage, (size_t)n, ret, &lists, NULL) < 0)
		return 'd';
	if (pwrite(START_FD_SPEC, "x", 1, 0) >= 0 || ftruncate(START_FD_SPEC, 0) == 0)
		return 'e';
	if (getsid(0) != getpid())
		return 'f';
	if (fstatat(START_FD_STATE, "sandboxes", &st, 0) < 0)
		return 'g';
	if (fstatat(START_FD_SANDBOX, "info.json", &st, 0) < 0)
		return 'h';
	if (pread(START_FD_DISK, storage, 4, 0) != 4 || memcmp(storage, "disk", 4) != 0)
		return 'i';
	/* the lock is ours already: the same open file takes it again, another one does not */
	if (flock(START_FD_LOCK, LOCK_EX | LOCK_NB) < 0 || !state_alive(START_FD_STATE, argv[1]))
		return 'j';
	if (fcntl(START_FD_COUNT, F_GETFD) >= 0)
		return 'k';
	return 0;
}

static void fake_end(const char *id, const struct spec *s, bool record)
{
	struct span text = record ? span_str("{}") : span_of(NULL, 0);

	_exit(state_end(START_FD_STATE, id, s->name, text, NULL) < 0 ? 3 : 0);
}

static void fake_obey(const char *id, const struct spec *s, char order)
{
	if (order == 'x')
		_exit(9); /* leaves everything */
	fake_end(id, s, order == 'r');
}

static int fake_supervisor(int argc, char **argv)
{
	struct pollfd p[2] = { { .fd = START_FD_CONTROL, .events = POLLIN },
		               { .fd = -1, .events = POLLIN } };
	struct spec s = { 0 };
	char answer;
	char order;

	(void)alarm(FAKE_LIFE_S); /* whatever becomes of the test */
	answer = fake_check(argc, argv, &s);
	if (answer == 0 && fd_unix_listen(START_FD_SANDBOX, "control.sock", 4, &p[1].fd, NULL) < 0)
		answer = 'l';
	if (answer == 0)
		answer = 'R';
	if (write(START_FD_CONTROL, &answer, 1) != 1)
		return 4;
	for (;;) {
		if (poll(p, 2, -1) < 0)
			return 5;
		if (p[1].revents) {
			int fd = accept(p[1].fd, NULL, NULL);

			if (fd >= 0 && read(fd, &order, 1) == 1)
				fake_obey(argv[1], &s, order);
			(void)close(fd);
		}
		if (!p[0].revents)
			continue;
		if (read(START_FD_CONTROL, &order, 1) == 1)
			fake_obey(argv[1], &s, order);
		if (!s.detach)
			fake_end(argv[1], &s, false);
		p[0].fd = -1; /* the caller went; a detached one stays */
	}
}

/* --- the tests --- */

struct bench {
	struct paths paths;
	int state_fd;
	int disk_fd;
};

static const char *const words[] = { "python3", "-c", "print(1)", NULL };

static struct bench setup(void)
{
	struct bench b = { .state_fd = -1, .disk_fd = -1 };
	_own_fd_ int dir_fd = -1;
	struct err e = { 0 };
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	CHECK(n > 0);
	self[n] = '\0';
	(void)snprintf(b.paths.libexec, PATH_MAX, "%s/libexec/berm", test_tmpdir());
	(void)snprintf(b.paths.state, PATH_MAX, "%s/state", test_tmpdir());
	CHECK_OK(fd_make_dirs(b.paths.libexec, &dir_fd, &e), &e);
	CHECK_EQ(symlinkat(self, dir_fd, "berm-supervisor"), 0);
	CHECK_OK(paths_open_state(&b.paths, &b.state_fd, &e), &e);
	CHECK_OK(fd_openat(dir_fd, "disk", O_RDWR | O_CREAT, 0600, &b.disk_fd, &e), &e);
	CHECK_OK(fd_write_all(b.disk_fd, "disk", 4, &e), &e);
	CHECK_EQ(unsetenv("BERM_DEBUG"), 0);
	return b;
}

static struct spec plain(const char *name)
{
	struct spec s;

	spec_init(&s);
	s.name = name;
	s.image = "default";
	s.argv = words;
	return s;
}

static void expect_ready(const struct started *s)
{
	char answer = 0;

	CHECK_EQ(read(s->control_fd, &answer, 1), 1);
	if (answer != 'R')
		test_fail(__FILE__, __LINE__, "the supervisor misses '%c'", answer);
}

static struct started start(const struct bench *b, const struct spec *spec)
{
	struct started got = { .control_fd = -1 };
	struct err e = { 0 };

	CHECK_OK(start_sandbox(&b->paths, b->state_fd, b->disk_fd, spec, NULL, &got, &e), &e);
	expect_ready(&got);
	return got;
}

/* Waits for the supervisor and reaps it. */
static int reap(struct started *s)
{
	struct pollfd p = { .fd = s->pidfd, .events = POLLIN };
	siginfo_t si;

	CHECK_EQ(poll(&p, 1, WAIT_MS), 1);
	CHECK_EQ(waitid(P_PIDFD, (id_t)s->pidfd, &si, WEXITED), 0);
	if (s->control_fd >= 0)
		CHECK_EQ(close(steal_fd(&s->control_fd)), 0);
	CHECK_EQ(close(steal_fd(&s->pidfd)), 0);
	return si.si_code == CLD_EXITED ? si.si_status : -si.si_status;
}

static void kill_supervisor(const struct started *s)
{
	CHECK_EQ(syscall(SYS_pidfd_send_signal, s->pidfd, SIGKILL, NULL, 0), 0);
}

/* What is in sandboxes/, but the lock of the names. */
static unsigned count_left(const struct bench *b)
{
	unsigned n = 0;
	_own_fd_ int fd = -1;
	struct err e = { 0 };
	DIR *dir;
	const struct dirent *d;

	CHECK_OK(fd_openat(b->state_fd, "sandboxes", O_RDONLY | O_DIRECTORY, 0, &fd, &e), &e);
	dir = fdopendir(steal_fd(&fd));
	CHECK(dir);
	while ((d = readdir(dir)))
		n += strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0 &&
		     strcmp(d->d_name, ".names") != 0;
	(void)closedir(dir);
	return n;
}

static size_t count_listed(const struct bench *b, bool ended)
{
	_own_(state_list_free) struct state_list *l = NULL;
	struct err e = { 0 };

	CHECK_OK(state_list(b->state_fd, ended, &l, &e), &e);
	return l->count;
}

TEST(a_foreground_sandbox_ends_with_its_caller)
{
	struct bench b = setup();
	struct spec spec = plain("web");
	struct started s = start(&b, &spec);
	struct state_info info;
	struct err e = { 0 };

	CHECK(spec_id_ok(s.id));
	CHECK_OK(state_find(b.state_fd, "web", false, &info, &e), &e);
	CHECK_STR(info.id, s.id);
	CHECK_STR(info.image, "default");
	CHECK_STR(info.command, "python3 -c print(1)");
	CHECK(info.created_ns > 0 && info.created_ns <= clock_real_ns());
	CHECK_EQ(count_left(&b), 2); /* the directory and the name */
	CHECK_EQ(close(steal_fd(&s.control_fd)), 0);
	CHECK_EQ(reap(&s), 0);
	CHECK_EQ(count_left(&b), 0);
}

TEST(debugging_is_handed_on)
{
	struct bench b = setup();
	struct spec spec = plain(NULL);
	struct started s;

	CHECK_EQ(setenv("BERM_DEBUG", "1", 1), 0);
	s = start(&b, &spec);
	CHECK_EQ(write(s.control_fd, "e", 1), 1);
	CHECK_EQ(reap(&s), 0);
	CHECK_EQ(count_left(&b), 0);
}

TEST(a_killed_supervisor_frees_lock_and_name)
{
	struct bench b = setup();
	struct spec spec = plain("web");
	struct started s = start(&b, &spec);
	struct started again;

	CHECK(state_alive(b.state_fd, s.id));
	kill_supervisor(&s);
	CHECK_EQ(reap(&s), -SIGKILL);
	CHECK(!state_alive(b.state_fd, s.id));
	CHECK_EQ(count_left(&b), 2);
	again = start(&b, &spec); /* takes the name over without a sweep */
	CHECK_EQ(count_listed(&b, true), 1);
	CHECK_EQ(count_left(&b), 2);
	CHECK_EQ(write(again.control_fd, "x", 1), 1);
	CHECK_EQ(reap(&again), 9);
	CHECK_EQ(count_listed(&b, true), 0);
	CHECK_EQ(count_left(&b), 0);
}

TEST(a_taken_name_is_refused_and_nothing_is_left)
{
	struct bench b = setup();
	struct spec spec = plain("web");
	struct started s = start(&b, &spec);
	struct started other = { .control_fd = -7 };
	struct err e = { 0 };

	CHECK_EQ(start_sandbox(&b.paths, b.state_fd, b.disk_fd, &spec, NULL, &other, &e), -EEXIST);
	CHECK(strstr(e.text, s.id) && strstr(e.text, "'web'"));
	CHECK_EQ(other.control_fd, -7);
	CHECK_EQ(count_left(&b), 2);
	CHECK_EQ(write(s.control_fd, "e", 1), 1);
	CHECK_EQ(reap(&s), 0);
}

TEST(a_detached_sandbox_stays_and_leaves_a_record)
{
	struct bench b = setup();
	struct spec spec = plain("job");
	struct started s;
	struct state_info info;
	struct err e = { 0 };
	int fd = -1;

	spec.detach = true;
	s = start(&b, &spec);
	CHECK_EQ(close(steal_fd(&s.control_fd)), 0);
	CHECK_OK(state_find(b.state_fd, "job", false, &info, &e), &e);
	CHECK_OK(state_connect(b.state_fd, info.id, &fd, &e), &e);
	CHECK_EQ(write(fd, "r", 1), 1);
	CHECK_EQ(reap(&s), 0);
	CHECK_EQ(close(fd), 0);
	CHECK_EQ(count_left(&b), 0);
	CHECK_EQ(count_listed(&b, false), 0);
	CHECK_EQ(count_listed(&b, true), 1);
	CHECK_OK(state_find(b.state_fd, "job", true, &info, &e), &e);
	CHECK(info.ended);
	CHECK_STR(info.command, "python3 -c print(1)");
	CHECK_OK(state_remove_ended(b.state_fd, info.id, &e), &e);
	CHECK_EQ(count_listed(&b, true), 0);
}

/* The command is killed right after the start; a detached sandbox does not notice. */
TEST(a_killed_caller_takes_only_the_foreground_along)
{
	struct bench b = setup();
	struct err e = { 0 };

	for (int detach = 0; detach < 2; detach++) {
		struct spec spec = plain("web");
		struct state_info info;
		int status = 0;
		int fd = -1;
		pid_t pid;

		spec.detach = detach;
		pid = fork();
		if (pid == 0) {
			(void)start(&b, &spec);
			(void)kill(getpid(), SIGKILL);
		}
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		if (detach) {
			CHECK_OK(state_find(b.state_fd, "web", false, &info, &e), &e);
			CHECK_OK(state_connect(b.state_fd, info.id, &fd, &e), &e);
			CHECK_EQ(write(fd, "e", 1), 1);
			CHECK_EQ(read(fd, &status, 1), 0); /* its end closes the socket */
			CHECK_EQ(close(fd), 0);
		}
		for (uint64_t end = clock_mono_ms() + WAIT_MS; count_left(&b) > 0;) {
			CHECK(clock_mono_ms() < end);
			(void)poll(NULL, 0, 1);
		}
	}
}

static void expect_refused(const struct bench *b, const struct spec *spec, int code)
{
	struct started s = { .control_fd = -7, .pidfd = -7 };
	struct err e = { 0 };

	CHECK_EQ(start_sandbox(&b->paths, b->state_fd, b->disk_fd, spec, NULL, &s, &e), code);
	CHECK_EQ(s.control_fd, -7);
	CHECK_EQ(s.pidfd, -7);
	CHECK(strncmp(e.text, "start a sandbox: ", 17) == 0);
	CHECK_EQ(count_left(b), 0);
}

TEST(a_failed_start_leaves_nothing)
{
	struct bench b = setup();
	struct spec spec = plain("web");

	spec.limits.cpus = 0;
	expect_refused(&b, &spec, -EINVAL);
	spec.limits.cpus = 1;
	(void)snprintf(b.paths.libexec, PATH_MAX, "%s/nowhere", test_tmpdir());
	expect_refused(&b, &spec, -ENOENT);
	CHECK_EQ(unlinkat(b.state_fd, "sandboxes/.names", 0), 0);
	CHECK_EQ(symlinkat("/nowhere/at/all", b.state_fd, "sandboxes/.names"), 0);
	expect_refused(&b, &spec, -ELOOP);
}

TEST(out_of_memory_leaves_nothing)
{
	struct bench b = setup();
	struct spec spec = plain("web");

	FAILALLOC_EACH()
	{
		struct started s = { .control_fd = -1 };
		struct err e = { 0 };
		int r = start_sandbox(&b.paths, b.state_fd, b.disk_fd, &spec, NULL, &s, &e);

		if (failalloc_hit()) {
			CHECK_EQ(r, -ENOMEM);
		} else {
			CHECK_OK(r, &e);
			expect_ready(&s);
			CHECK_EQ(write(s.control_fd, "e", 1), 1);
			CHECK_EQ(reap(&s), 0);
		}
		CHECK_EQ(count_left(&b), 0);
	}
}

/* Several commands want one name at once, while others sweep: exactly one at a time has it. */
TEST(one_of_many_gets_the_name)
{
	enum { STARTERS = 6 };
	struct bench b = setup();
	struct spec spec = plain("web");
	pid_t pids[STARTERS];
	unsigned won = 0;
	pid_t sweeper;
	int gate[2];
	struct err e = { 0 };

	CHECK_OK(fd_socketpair(gate, &e), &e);
	sweeper = fork();
	if (sweeper == 0)
		for (;;)
			state_sweep(b.state_fd);
	for (int i = 0; i < STARTERS; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			struct started s = { .control_fd = -1 };
			char c;
			int r = start_sandbox(&b.paths, b.state_fd, b.disk_fd, &spec, NULL, &s, &e);

			if (r < 0)
				_exit(r == -EEXIST ? 1 : 2);
			expect_ready(&s);
			CHECK_EQ(read(gate[0], &c, 1), 1); /* until all have tried */
			CHECK_EQ(write(s.control_fd, "e", 1), 1);
			CHECK_EQ(reap(&s), 0);
			_exit(0);
		}
	}
	for (int losers = 0; losers < STARTERS - 1; losers++) {
		siginfo_t si;

		CHECK_EQ(waitid(P_PGID, 0, &si, WEXITED), 0);
		CHECK_EQ(si.si_status, 1);
	}
	CHECK_EQ(write(gate[1], "g", 1), 1);
	for (int i = 0; i < STARTERS; i++) {
		int status = 0;

		if (waitpid(pids[i], &status, 0) != pids[i])
			continue;
		CHECK_EQ(status, 0);
		won++;
	}
	CHECK_EQ(won, 1);
	CHECK_EQ(kill(sweeper, SIGKILL), 0);
	CHECK_EQ(waitpid(sweeper, NULL, 0), sweeper);
	CHECK_EQ(count_left(&b), 0);
}

int main(int argc, char **argv)
{
	if (argc > 0 && strcmp(argv[0], "berm-supervisor") == 0)
		return fake_supervisor(argc, argv);
	return test_main(argc, argv);
}
