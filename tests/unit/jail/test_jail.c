/* Step by step and all of it: what a jailed process can no longer do, and how it fails. */
#include "base/buf.h"
#include "base/fdio.h"
#include "jailed.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

/* Files only: Landlock without a filter, so that each refusal shows its own errno. */
static const struct jail_profile files_only = {
	.name = "files",
	.landlock = true,
	.landlock_abi_min = 1,
	.landlock_scopes = JAIL_SCOPE_ABSTRACT | JAIL_SCOPE_SIGNAL,
};

static void need_landlock(unsigned abi)
{
	if (jail_landlock_abi() < abi)
		TEST_SKIP("this kernel has Landlock ABI %u, the test needs %u", jail_landlock_abi(),
		          abi);
}

struct where {
	const char *path;
	int flags;
	int dir_fd;
};

static int try_open(void *ctx)
{
	const struct where *w = ctx;
	int fd = openat(AT_FDCWD, w->path, w->flags | O_CLOEXEC, 0600);

	return fd < 0 ? errno : 0;
}

static void make_file(const char *path)
{
	int fd = -1;
	struct err e = { 0 };

	CHECK_OK(fd_open(path, O_WRONLY | O_CREAT, 0600, &fd, &e), &e);
	CHECK_EQ(close(fd), 0);
}

static const char *in_dir(char *ret, size_t size, const char *name)
{
	struct buf b;

	buf_init(&b, ret, size);
	buf_put_str(&b, test_tmpdir());
	buf_put_str(&b, name);
	return buf_cstr(&b);
}

TEST(landlock_lets_in_only_what_is_named)
{
	char in[256];
	char out[256];
	struct jail_path rule = { .path = in_dir(in, sizeof(in), "/in"), .why = "test" };
	struct jail_params params = { .paths = &rule, .path_count = 1, .keep_all_fds = true };
	char file[256];
	struct where w = { .path = in_dir(file, sizeof(file), "/in/file"), .flags = O_RDONLY };

	need_landlock(1);
	CHECK_EQ(mkdir(rule.path, 0755), 0);
	CHECK_EQ(mkdir(in_dir(out, sizeof(out), "/out"), 0755), 0);
	make_file(file);
	rule.access = JAIL_READ;
	CHECK_EQ(jailed_run(&files_only, &params, try_open, &w), 0);
	w.flags = O_RDWR;
	CHECK_EQ(jailed_run(&files_only, &params, try_open, &w), EACCES);
	rule.access = JAIL_READ | JAIL_WRITE;
	CHECK_EQ(jailed_run(&files_only, &params, try_open, &w), 0);
	w.path = in_dir(file, sizeof(file), "/in/new");
	w.flags = O_WRONLY | O_CREAT;
	CHECK_EQ(jailed_run(&files_only, &params, try_open, &w), EACCES);
	rule.access = JAIL_READ | JAIL_WRITE | JAIL_MAKE;
	CHECK_EQ(jailed_run(&files_only, &params, try_open, &w), 0);
	w.path = in_dir(file, sizeof(file), "/out/new");
	CHECK_EQ(jailed_run(&files_only, &params, try_open, &w), EACCES);
	w.path = "/etc/passwd";
	w.flags = O_RDONLY;
	CHECK_EQ(jailed_run(&files_only, &params, try_open, &w), EACCES);
}

TEST(landlock_truncate_needs_the_right_to_write)
{
	char file[256];
	struct jail_path rule = { .path = test_tmpdir(), .access = JAIL_READ, .why = "test" };
	struct jail_params params = { .paths = &rule, .path_count = 1, .keep_all_fds = true };
	struct where w = { .path = in_dir(file, sizeof(file), "/f"), .flags = O_RDONLY | O_TRUNC };

	need_landlock(3);
	make_file(file);
	CHECK_EQ(jailed_run(&files_only, &params, try_open, &w), EACCES);
}

static int try_exec_true(void *ctx)
{
	(void)ctx;
	(void)execl("/bin/true", "true", (char *)NULL);
	return errno;
}

TEST(landlock_executes_only_what_is_named)
{
	struct jail_path rules[] = {
		{ .path = "/usr", .access = JAIL_READ, .why = "test" },
		{ .path = "/lib", .access = JAIL_READ | JAIL_OPTIONAL, .why = "test" },
		{ .path = "/lib64", .access = JAIL_READ | JAIL_OPTIONAL, .why = "test" },
		{ .path = "/no/such/path", .access = JAIL_READ | JAIL_OPTIONAL, .why = "test" },
	};
	struct jail_params params = { .paths = rules, .path_count = 4, .keep_all_fds = true };

	need_landlock(1);
	CHECK_EQ(jailed_run(&files_only, &params, try_exec_true, NULL), EACCES);
	rules[0].access = rules[1].access |= JAIL_EXEC;
	rules[2].access |= JAIL_EXEC;
	CHECK_EQ(jailed_run(&files_only, &params, try_exec_true, NULL), 0);
}

TEST(a_required_path_that_is_absent_fails_closed)
{
	struct jail_path rule = { .path = "/no/such/path", .access = JAIL_READ, .why = "test" };
	struct jail_params params = { .paths = &rule, .path_count = 1, .keep_all_fds = true };

	need_landlock(1);
	CHECK_EQ(jailed_run(&files_only, &params, try_exec_true, NULL), JAILED_ENTER_FAILED);
}

static int try_tcp(void *ctx)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	bool connecting = *(bool *)ctx;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	to.sin_port = htons(connecting ? 9 : 0);
	if (fd < 0)
		return errno;
	if (connecting)
		return connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 ? errno : 0;
	return bind(fd, (struct sockaddr *)&to, sizeof(to)) < 0 ? errno : 0;
}

TEST(landlock_refuses_tcp)
{
	struct jail_params params = { .keep_all_fds = true };
	bool connecting = false;

	need_landlock(4);
	CHECK_EQ(jailed_run(&files_only, &params, try_tcp, &connecting), EACCES);
	connecting = true;
	CHECK_EQ(jailed_run(&files_only, &params, try_tcp, &connecting), EACCES);
}

static int try_signal_parent(void *ctx)
{
	(void)ctx;
	return kill(getppid(), 0) < 0 ? errno : 0;
}

TEST(landlock_scopes_signals)
{
	struct jail_profile open = files_only;
	struct jail_params params = { .keep_all_fds = true };

	need_landlock(6);
	CHECK_EQ(jailed_run(&files_only, &params, try_signal_parent, NULL), EPERM);
	open.landlock_scopes = 0;
	CHECK_EQ(jailed_run(&open, &params, try_signal_parent, NULL), 0);
}

static int try_abstract(void *ctx)
{
	const struct sockaddr_un *to = ctx;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return errno;
	return connect(fd, (const struct sockaddr *)to, sizeof(*to)) < 0 ? errno : 0;
}

TEST(landlock_scopes_abstract_sockets)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct jail_params params = { .keep_all_fds = true };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct buf b;

	need_landlock(6);
	buf_init(&b, at.sun_path + 1, sizeof(at.sun_path) - 1);
	buf_printf(&b, "berm-test-%d", getpid());
	CHECK_EQ(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	CHECK_EQ(listen(fd, 1), 0);
	CHECK_EQ(jailed_run(&files_only, &params, try_abstract, &at), EPERM);
}

static int try_device_ioctl(void *ctx)
{
	const struct where *w = ctx;
	int fd = openat(AT_FDCWD, w->path, O_RDWR | O_CLOEXEC);
	int entropy = 0;

	if (fd < 0)
		return 199;
	return ioctl(fd, _IOR('R', 0x00, int), &entropy) < 0 ? errno : 0; /* RNDGETENTCNT */
}

TEST(landlock_refuses_device_ioctl)
{
	struct jail_path rule = { .path = "/dev/urandom", .why = "test" };
	struct jail_params params = { .paths = &rule, .path_count = 1, .keep_all_fds = true };
	struct where w = { .path = rule.path };

	need_landlock(5);
	rule.access = JAIL_READ | JAIL_WRITE;
	CHECK_EQ(jailed_run(&files_only, &params, try_device_ioctl, &w), EACCES);
	rule.access |= JAIL_IOCTL;
	CHECK_EQ(jailed_run(&files_only, &params, try_device_ioctl, &w), 0);
}

static int enter_again_and_read(void *ctx)
{
	struct jail_params params = { .keep_all_fds = true };
	struct err e = { 0 };

	(void)ctx;
	if (jail_enter(&files_only, &params, NULL, &e) < 0)
		return 198;
	return openat(AT_FDCWD, "/etc/passwd", O_RDONLY | O_CLOEXEC) < 0 ? errno : 0;
}

TEST(a_second_jail_only_narrows)
{
	struct jail_path rule = { .path = "/", .access = JAIL_READ, .why = "test" };
	struct jail_params params = { .paths = &rule, .path_count = 1, .keep_all_fds = true };

	need_landlock(1);
	CHECK_EQ(jailed_run(&files_only, &params, enter_again_and_read, NULL), EACCES);
}

TEST(needing_more_landlock_than_there_is_fails_closed)
{
	struct jail_profile greedy = files_only;
	struct jail_params params = { .keep_all_fds = true };
	struct err e = { 0 };

	greedy.landlock_abi_min = 99;
	CHECK_EQ(jail_enter(&greedy, &params, NULL, &e), -ENOSYS);
	CHECK_EQ(e.code, -ENOSYS);
	/* and it failed before it changed anything */
	CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
}

static int fd_is_open(void *ctx)
{
	return fcntl(*(int *)ctx, F_GETFD) < 0 ? errno : 0;
}

TEST(every_fd_not_handed_over_is_closed)
{
	int keep[3] = { 40, 9, 12 };
	struct jail_params params = { .keep_fds = keep, .keep_fd_count = 3 };
	static const int closed[] = { 3, 8, 10, 11, 13, 39, 41, 200 };
	static const int open[] = { 0, 1, 2, 9, 12, 40 };

	for (int fd = 3; fd < 50; fd++)
		CHECK(dup2(2, fd) == fd);
	CHECK(dup2(2, 200) == 200);
	for (size_t i = 0; i < sizeof(closed) / sizeof(closed[0]); i++) {
		int fd = closed[i];

		CHECK_EQ(jailed_run(&jail_profile_none, &params, fd_is_open, &fd), EBADF);
	}
	for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++) {
		int fd = open[i];

		CHECK_EQ(jailed_run(&jail_profile_none, &params, fd_is_open, &fd), 0);
	}
}

static int is_powerless(void *ctx)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	(void)ctx;
	if (syscall(SYS_capget, &head, data) < 0)
		return 100;
	if (data[0].effective || data[0].permitted || data[0].inheritable || data[1].effective ||
	    data[1].permitted || data[1].inheritable)
		return 101;
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_ADMIN, 0, 0) != 0)
		return 102;
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return 103;
	if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
		return 104;
	if (geteuid() == 0 && prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN, 0, 0, 0) != 0)
		return 105;
	return 0;
}

TEST(no_capability_is_left)
{
	struct jail_params params = { .keep_all_fds = true };

	need_landlock(1);
	CHECK_EQ(jailed_run(&files_only, &params, is_powerless, NULL), 0);
}

static int is_nobody(void *ctx)
{
	uid_t uids[3];
	gid_t gids[3];
	uid_t want = *(uid_t *)ctx;

	(void)getresuid(&uids[0], &uids[1], &uids[2]);
	(void)getresgid(&gids[0], &gids[1], &gids[2]);
	for (int i = 0; i < 3; i++)
		if (uids[i] != want || gids[i] != want)
			return 100 + i;
	if (getgroups(0, NULL) != 0)
		return 110;
	if (setuid(0) == 0 || setgid(0) == 0)
		return 111;
	return is_powerless(NULL);
}

TEST(root_becomes_somebody_else_for_good)
{
	uid_t uid = jail_uid_for("a1b2c3");
	struct jail_params params = { .uid = uid, .gid = uid, .keep_all_fds = true };

	if (geteuid() != 0)
		TEST_SKIP("needs root");
	CHECK_EQ(jailed_run(&files_only, &params, is_nobody, &uid), 0);
}

TEST(uids_come_from_the_named_range)
{
	CHECK(jail_uid_for("a") != jail_uid_for("b"));
	CHECK_EQ(jail_uid_for("k3j2"), jail_uid_for("k3j2"));
	for (int i = 0; i < 1000; i++) {
		char id[16];
		struct buf b;
		uid_t uid;

		buf_init(&b, id, sizeof(id));
		buf_printf(&b, "%d", i);
		uid = jail_uid_for(buf_cstr(&b));
		CHECK(uid >= JAIL_UID_FIRST);
		CHECK(uid < (uid_t)JAIL_UID_FIRST + JAIL_UID_COUNT);
	}
}

TEST(limits_only_tighten)
{
	struct jail_limit limits[] = { { RLIMIT_NOFILE, 64, "test" },
		                       { RLIMIT_NOFILE, 128, "test" } };
	struct err e = { 0 };
	struct rlimit now;

	CHECK_OK(jail_limits(limits, 2, &e), &e);
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &now), 0);
	CHECK_EQ(now.rlim_cur, 64);
	CHECK_EQ(now.rlim_max, 64);
}

static const struct jail_profile spaces = {
	.name = "spaces",
	.ns_wanted = JAIL_NS_ALL & ~JAIL_NS_PID,
	.new_root = true,
};

static int sees_nothing(void *ctx)
{
	struct ifconf conf = { 0 };
	struct stat st;
	int fd;

	(void)ctx;
	/* loopback is there and down, so no interface carries an address */
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return errno;
	if (ioctl(fd, SIOCGIFCONF, &conf) < 0 || conf.ifc_len != 0)
		return 101;
	if (stat("/etc", &st) == 0 || stat("/proc/self", &st) == 0 || stat("/usr", &st) == 0)
		return 102;
	if (mkdir("/x", 0700) == 0)
		return 103;
	if (chdir("..") < 0 || stat("etc", &st) == 0)
		return 104;
	return is_powerless(NULL);
}

static void check_spaces(uid_t uid)
{
	struct jail_params params = { .keep_all_fds = true };
	struct jail_report rep = { 0 };
	struct err e = { 0 };
	int status = 0;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		if (uid && (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 ||
		            setresuid(uid, uid, uid) < 0))
			_exit(120);
		(void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* as an exec would */
		if (jail_enter(&spaces, &params, &rep, &e) < 0) {
			(void)!write(2, e.text, e.len);
			_exit(121);
		}
		if ((rep.ns_got | JAIL_NS_USER | JAIL_NS_PID) != JAIL_NS_ALL)
			_exit(122); /* refused here: nothing more to see */
		_exit(sees_nothing(NULL));
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status));
	if (WEXITSTATUS(status) == 122)
		TEST_SKIP("this machine does not permit these namespaces");
	CHECK_EQ(WEXITSTATUS(status), 0);
}

TEST(namespaces_are_empty_for_root)
{
	if (geteuid() != 0)
		TEST_SKIP("needs root");
	check_spaces(0);
}

TEST(namespaces_are_empty_for_an_ordinary_user)
{
	check_spaces(geteuid() == 0 ? JAIL_UID_NOBODY : 0);
}

TEST(dies_with_its_parent)
{
	int fds[2];
	char c;
	pid_t pid;

	CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		struct jail_params params = { .keep_all_fds = true,
			                      .die_with_parent = true,
			                      .parent = getpid() };
		int ready[2];

		if (pipe2(ready, O_CLOEXEC) < 0)
			_exit(1);
		if (fork() == 0) {
			if (jail_enter(&jail_profile_none, &params, NULL, NULL) < 0)
				_exit(1);
			(void)!write(ready[1], "x", 1);
			for (;;)
				(void)pause();
		}
		(void)!read(ready[0], &c, 1);
		_exit(0);
	}
	CHECK_EQ(close(fds[1]), 0);
	CHECK_EQ(read(fds[0], &c, 1), 0); /* end of file: the grandchild is gone as well */
}

TEST(a_parent_that_is_already_gone_fails_closed)
{
	struct err e = { 0 };

	CHECK_EQ(jail_die_with(getpid(), -1, &e), -ESRCH);
}

/* A parent outside our pid namespace is judged by its pipe. Here we only say that it is 0. */
static int dies_with_pipe(int fd)
{
	int status = 0;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		if (unshare(CLONE_NEWPID) < 0)
			_exit(77);
		pid = fork();
		if (pid == 0)
			_exit(getppid() != 0 ? 101 : -jail_die_with(0, fd, NULL));
		if (waitpid(pid, &status, 0) != pid)
			_exit(102);
		_exit(WEXITSTATUS(status));
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	return WEXITSTATUS(status);
}

TEST(a_parent_outside_the_pid_namespace_is_its_pipe)
{
	int fds[2];
	int got;

	CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
	got = dies_with_pipe(fds[1]);
	if (got == 77)
		TEST_SKIP("needs the right to make a pid namespace");
	CHECK_EQ(got, 0);
	(void)close(fds[0]);
	CHECK_EQ(dies_with_pipe(fds[1]), ESRCH);
	CHECK_EQ(dies_with_pipe(-1), 0); /* an fd that nobody gave says nothing */
}

TEST(report_reads_well)
{
	struct jail_report r = { .landlock = true, .landlock_abi = 4, .seccomp = true, .uid = 7 };
	char text[128];
	struct buf b;

	r.ns_got = JAIL_NS_USER | JAIL_NS_NET;
	buf_init(&b, text, sizeof(text));
	jail_put_report(&b, &r);
	CHECK_STR(buf_cstr(&b), "landlock 4, seccomp, namespaces user+net, uid 7");
	r.new_root = true;
	r.ns_wanted = JAIL_NS_ALL & ~JAIL_NS_CGROUP;
	buf_reset(&b);
	jail_put_report(&b, &r);
	CHECK_STR(buf_cstr(&b), "landlock 4, seccomp, namespaces user+net, own root, uid 7; "
	                        "not permitted: mount+ipc+uts+pid");
}

TEST_MAIN()
