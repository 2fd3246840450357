/* Each profile both ways: what it forbids ends the process, what its program does works. */
#include "base/fdio.h"
#include "jailed.h"
#include "never.h"

#include <fcntl.h>
#include <linux/keyctl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

TEST(qemu_forbids)
{
	NEED_PLAIN_BUILD();
	/* it must set dumpable anew after its exec; see below for what value that can have */
	check_never(&jail_profile_qemu, "dumpable again", NULL);
}

TEST(supervisor_forbids)
{
	NEED_PLAIN_BUILD();
	check_never(&jail_profile_supervisor, NULL, NULL);
}

TEST(unpack_forbids)
{
	struct jail_params params = { 0 };
	struct call k = { "inet socket", SYS_socket, AF_INET, SOCK_STREAM, 0, 0 };

	NEED_PLAIN_BUILD();
	check_never(&jail_profile_unpack, NULL, "socket");
	CHECK_EQ(jailed_run(&jail_profile_unpack, &params, make_call, &k), EACCES);
	k.a = AF_UNIX;
	CHECK_EQ(jailed_run(&jail_profile_unpack, &params, make_call, &k), EACCES);
	/* what its caller could not clean up, or would lose: nothing but plain files is made */
	static const struct call spoils[] = {
		{ "mkdirat", SYS_mkdirat, -1, 0, 0, 0 },
		{ "linkat", SYS_linkat, -1, 0, -1, 0 },
		{ "renameat2", SYS_renameat2, -1, 0, -1, 0 },
		{ "fchmod", SYS_fchmod, -1, 0, 0, 0 },
		{ "flock", SYS_flock, -1, 0, 0, 0 },
		{ "sendmsg", SYS_sendmsg, -1, 0, 0, 0 },
	};
	for (size_t i = 0; i < sizeof(spoils) / sizeof(spoils[0]); i++)
		CHECK_EQ(jailed_run(&jail_profile_unpack, &params, make_call,
		                    (void *)(uintptr_t)&spoils[i]),
		         JAILED_KILLED);
}

static int make_code(void *ctx)
{
	long how = *(long *)ctx;
	void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE | (how == 0 ? PROT_EXEC : 0),
	                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		return errno;
	return mprotect(at, 4096, PROT_READ | PROT_EXEC) < 0 ? errno : 0;
}

TEST(only_the_translator_makes_code)
{
	struct jail_params params = { 0 };

	NEED_PLAIN_BUILD();
	for (long how = 0; how < 2; how++) {
		CHECK_EQ(jailed_run(&jail_profile_unpack, &params, make_code, &how), JAILED_KILLED);
		CHECK_EQ(jailed_run(&jail_profile_supervisor, &params, make_code, &how),
		         JAILED_KILLED);
		CHECK_EQ(jailed_run(&jail_profile_qemu, &params, make_code, &how), 0);
	}
}

static int old_door(void *ctx)
{
	long r;

	(void)ctx;
	/* 20 is getpid() for a 32-bit program */
	__asm__ volatile("int $0x80" : "=a"(r) : "a"(20L) : "memory");
	return 0;
}

TEST(the_32_bit_door_is_shut)
{
	struct jail_params params = { 0 };
	int got;

	NEED_PLAIN_BUILD();
	got = jailed_run(&jail_profile_none, &params, old_door, NULL);
	if (got == 1000 + SIGSEGV)
		TEST_SKIP("this kernel has no 32-bit system calls");
	CHECK_EQ(jailed_run(&jail_profile_unpack, &params, old_door, NULL), JAILED_KILLED);
}

static int exec_by_fd(void *ctx)
{
	static char *const argv[] = { (char *)(uintptr_t) "true", NULL };
	bool again = *(bool *)ctx;

	if (again) {
		/* as if taken over after the start: the fd is gone and no call makes it anew */
		(void)close(JAIL_EXEC_FD);
		if (dup2(0, JAIL_EXEC_FD) >= 0 || fcntl(0, F_DUPFD, JAIL_EXEC_FD) >= 0)
			return 150;
	}
	(void)syscall(SYS_execveat, JAIL_EXEC_FD, "", argv, NULL, AT_EMPTY_PATH);
	return errno;
}

TEST(qemu_is_started_once)
{
	static const struct jail_path itself = { .path = "/bin/true",
		                                 .access = JAIL_READ | JAIL_EXEC,
		                                 .why = "test" };
	int keep = JAIL_EXEC_FD;
	struct jail_params params = {
		.paths = &itself, .path_count = 1, .keep_fds = &keep, .keep_fd_count = 1
	};
	struct err e = { 0 };
	bool again = false;
	int fd = -1;

	NEED_PLAIN_BUILD();
	if (access("/usr/bin/qemu-system-x86_64", X_OK) < 0)
		TEST_SKIP("qemu-system-x86_64 is not installed");
	CHECK_OK(fd_open("/bin/true", O_PATH, 0, &fd, &e), &e);
	CHECK_EQ(dup3(fd, JAIL_EXEC_FD, O_CLOEXEC), JAIL_EXEC_FD);
	CHECK_EQ(jailed_run(&jail_profile_qemu, &params, exec_by_fd, &again), 0);
	again = true;
	CHECK_EQ(jailed_run(&jail_profile_qemu, &params, exec_by_fd, &again), EBADF);
}

static void *add_one(void *p)
{
	*(int *)p += 1;
	return NULL;
}

static int use_threads_and_heap(void)
{
	pthread_t t;
	int n = 0;
	char *p = malloc(40 << 20);

	if (!p)
		return 160;
	memset(p, 1, 40 << 20);
	p = realloc(p, 80 << 20);
	free(p);
	if (pthread_create(&t, NULL, add_one, &n) != 0 || pthread_join(t, NULL) != 0 || n != 1)
		return 161;
	return 0;
}

static int do_unpack_work(void *ctx)
{
	int dir = *(int *)ctx;
	struct err e = { 0 };
	char *text = NULL;
	size_t len = 0;
	int fd = -1;
	int tmp = -1;
	int r = use_threads_and_heap();

	if (r)
		return r;
	if (fd_open_beneath(dir, "whole", O_RDWR | O_CREAT | O_EXCL, 0600, 0, &fd, &e) < 0)
		return 170;
	if (fd_write_all(fd, "hello", 5, &e) < 0 || fsync(fd) < 0 || ftruncate(fd, 4) < 0)
		return 171;
	if (fd_read_file(dir, "whole", 100, &text, &len, &e) < 0 || len != 4)
		return 173;
	free(text);
	if (fd_tmpfile(dir, 0600, &tmp, &e) < 0 || fd_write_all(tmp, "x", 1, &e) < 0)
		return 174;
	if (unlinkat(dir, "whole", 0) < 0)
		return 175;
	if (openat(AT_FDCWD, "/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0)
		return 176;
	return openat(dir, "../x", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0 ? 177 : 0;
}

static void check_unpack(uid_t uid)
{
	struct jail_path staging = { .access = JAIL_READ | JAIL_WRITE | JAIL_MAKE,
		                     .why = "staging" };
	struct jail_params params = { .paths = &staging, .path_count = 1, .uid = uid, .gid = uid };
	struct err e = { 0 };
	int fd = -1;

	NEED_PLAIN_BUILD();
	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &fd, &e), &e);
	if (uid)
		CHECK_EQ(fchown(fd, uid, uid), 0);
	staging.fd = fd;
	params.keep_fds = &fd;
	params.keep_fd_count = 1;
	CHECK_EQ(jailed_run(&jail_profile_unpack, &params, do_unpack_work, &fd), 0);
}

TEST(unpack_does_its_work)
{
	check_unpack(0);
}

TEST(unpack_does_its_work_as_nobody)
{
	if (geteuid() != 0)
		TEST_SKIP("needs root");
	check_unpack(JAIL_UID_NOBODY);
}

struct supervised {
	const char *dir;
	pid_t engine;
};

static int serve_one_client(int dir, int epoll)
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct err e = { 0 };
	int listener = -1;
	int client = -1;
	int peer;

	if (fd_unix_listen(dir, "control", 8, &listener, &e) < 0)
		return 182;
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &ev) < 0)
		return 183;
	if (fd_unix_connect(dir, "control", &client, &e) < 0)
		return 184;
	if (epoll_wait(epoll, &ev, 1, 1000) != 1)
		return 185;
	peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (peer < 0 || send(peer, "x", 1, MSG_NOSIGNAL) != 1)
		return 186;
	return unlinkat(dir, "control", 0) < 0 ? 187 : 0;
}

static int do_supervisor_work(void *ctx)
{
	const struct supervised *s = ctx;
	int dir = openat(AT_FDCWD, s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct err e = { 0 };
	sigset_t none;
	int r = use_threads_and_heap();

	if (r)
		return r;
	(void)sigemptyset(&none);
	if (dir < 0 || epoll < 0 || eventfd(0, EFD_CLOEXEC) < 0 ||
	    signalfd(-1, &none, SFD_CLOEXEC) < 0)
		return 180;
	if (flock(dir, LOCK_EX | LOCK_NB) < 0)
		return 181;
	r = serve_one_client(dir, epoll);
	if (r)
		return r;
	if (fd_replace_file(dir, "record", "x", 1, 0600, &e) < 0)
		return 188;
	/* under another uid when root started it */
	if (kill(s->engine, SIGKILL) < 0)
		return 189;
	return openat(AT_FDCWD, "/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0 ? 190 : 0;
}

TEST(supervisor_does_its_work)
{
	struct jail_path own = { .path = test_tmpdir(),
		                 .access = JAIL_READ | JAIL_WRITE | JAIL_MAKE,
		                 .why = "sandbox directory" };
	struct jail_params params = { .paths = &own, .path_count = 1 };
	struct supervised s = { .dir = own.path };
	int status = 0;
	int ready[2];
	char c;

	NEED_PLAIN_BUILD();
	CHECK_EQ(pipe2(ready, O_CLOEXEC), 0);
	s.engine = fork();
	CHECK(s.engine >= 0);
	if (s.engine == 0) {
		if (geteuid() == 0 && setresuid(JAIL_UID_NOBODY, JAIL_UID_NOBODY, 1) < 0)
			_exit(1);
		(void)!write(ready[1], "x", 1);
		for (;;)
			(void)pause();
	}
	CHECK_EQ(read(ready[0], &c, 1), 1);
	CHECK_EQ(jailed_run(&jail_profile_supervisor, &params, do_supervisor_work, &s), 0);
	CHECK(waitpid(s.engine, &status, 0) == s.engine);
	CHECK(WIFSIGNALED(status));
}

TEST(tables_have_reasons_and_no_dead_rules)
{
	check_table(&jail_profile_qemu);
	check_table(&jail_profile_unpack);
	check_table(&jail_profile_supervisor);
}

TEST_MAIN()
