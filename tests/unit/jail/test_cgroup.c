/* Groups on fake trees (which files get which words) and, where the machine lets us, on its own. */
#include "base/fdio.h"
#include "jail/cgroup.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { PATH_BYTES = 512 };

static const char *at(char *ret, const char *name)
{
	(void)snprintf(ret, PATH_BYTES, "%s/%s", test_tmpdir(), name);
	return ret;
}

static void put(const char *name, const char *text)
{
	char path[PATH_BYTES];
	struct err e = { 0 };
	int fd = -1;

	CHECK_OK(fd_open(at(path, name), O_WRONLY | O_CREAT | O_TRUNC, 0600, &fd, &e), &e);
	CHECK_OK(fd_write_all(fd, text, strlen(text), &e), &e);
	CHECK_EQ(close(fd), 0);
}

static const char *get(const char *name)
{
	static char text[256];
	char path[PATH_BYTES];
	struct err e = { 0 };
	_own_free_ char *got = NULL;

	if (fd_read_file(AT_FDCWD, at(path, name), sizeof(text) - 1, &got, NULL, &e) < 0)
		return NULL;
	(void)snprintf(text, sizeof(text), "%s", got);
	return text;
}

static void make(const char *name)
{
	char path[PATH_BYTES];

	CHECK_EQ(mkdir(at(path, name), 0755), 0);
}

static struct cgroup_env fake_env(bool root)
{
	static char proc[PATH_BYTES];

	return (struct cgroup_env){ .proc_self = at(proc, "proc"),
		                    .write_flags = O_WRONLY | O_CREAT | O_TRUNC,
		                    .root = root };
}

static void fake_proc(const char *cgroup, const char *mount_fmt)
{
	char text[4 * PATH_BYTES];

	make("proc");
	put("proc/cgroup", cgroup);
	(void)snprintf(text, sizeof(text), "1 0 0:1 / / rw - ext4 x rw\n%s", mount_fmt);
	put("proc/mountinfo", text);
}

static void fake_mount(char *ret, const char *dir, const char *type, const char *options)
{
	char path[PATH_BYTES];

	(void)snprintf(ret, 2 * PATH_BYTES, "9 1 0:2 / %s rw - %s c %s\n", at(path, dir), type,
	               options);
}

static void fake_v2(bool delegated)
{
	char line[2 * PATH_BYTES];

	make("m");
	make("m/user");
	make("m/user/app");
	fake_mount(line, "m", "cgroup2", "rw");
	fake_proc("0::/user/app\n", line);
	put("m/cgroup.controllers", "cpuset cpu memory pids\n");
	put("m/cgroup.procs", "");
	if (delegated) {
		put("m/user/cgroup.controllers", "memory pids\n");
		put("m/user/cgroup.subtree_control", "memory pids\n");
		put("m/user/cgroup.procs", "");
		make("m/user/berm");
		put("m/user/berm/cgroup.subtree_control", "memory pids\n");
	} else {
		/* a fake file takes the last word; a kernel's would take all three */
		put("m/cgroup.subtree_control", "cpu memory pids\n");
		make("m/berm");
		put("m/berm/cgroup.subtree_control", "cpu memory pids\n");
	}
}

TEST(v2_of_root_is_below_the_mount)
{
	struct cgroup_env env = fake_env(true);
	struct cgroup_limits limits = { .cpu_millicores = 1500,
		                        .memory_bytes = 7 << 20,
		                        .pids = 9 };
	struct cgroup_host host;
	struct cgroup cg;
	struct err e = { 0 };

	fake_v2(false);
	CHECK_OK(cgroup_host_find(&env, &host, &e), &e);
	CHECK_EQ(host.mode, CGROUP_MODE_V2);
	CHECK_EQ(host.can, CGROUP_LIMIT_CPU | CGROUP_LIMIT_MEMORY | CGROUP_LIMIT_PIDS);
	CHECK_STR(host.why, "");
	CHECK_OK(cgroup_create(&env, &host, "berm-a1", &limits, &cg, &e), &e);
	CHECK_EQ(cg.enforced, host.can);
	CHECK_STR(get("m/berm/berm-a1/cpu.max"), "150000 100000");
	CHECK_STR(get("m/berm/berm-a1/memory.max"), "7340032");
	CHECK_STR(get("m/berm/berm-a1/memory.swap.max"), "0");
	CHECK_STR(get("m/berm/berm-a1/pids.max"), "9");
	CHECK_EQ(cgroup_create(&env, &host, "berm-a1", &limits, &cg, &e), -EEXIST);
	CHECK_STR(get("m/berm/berm-a1/pids.max"), "9"); /* the first one is untouched */
}

TEST(v2_of_a_user_is_what_was_delegated)
{
	struct cgroup_env env = fake_env(false);
	struct cgroup_limits limits = { .cpu_millicores = 1000, .pids = 9 };
	struct cgroup_host host;
	struct cgroup cg;
	struct err e = { 0 };

	fake_v2(true);
	CHECK_OK(cgroup_host_find(&env, &host, &e), &e);
	CHECK_EQ(host.mode, CGROUP_MODE_V2);
	CHECK_EQ(host.can, CGROUP_LIMIT_MEMORY | CGROUP_LIMIT_PIDS);
	CHECK(*host.why);
	CHECK_OK(cgroup_create(&env, &host, "berm-b", &limits, &cg, &e), &e);
	CHECK_EQ(cg.enforced, CGROUP_LIMIT_PIDS); /* asked for cpu, and says it has none */
	CHECK_STR(get("m/user/berm/berm-b/pids.max"), "9");
	CHECK_STR(get("m/user/berm/berm-b/memory.max"), NULL);
}

TEST(v1_writes_each_controller)
{
	struct cgroup_env env = fake_env(true);
	struct cgroup_limits limits = { .cpu_millicores = 5, .memory_bytes = 1 << 20, .pids = 3 };
	char lines[4 * PATH_BYTES];
	struct cgroup_host host;
	struct cgroup cg;
	struct err e = { 0 };

	make("cpu");
	make("memory");
	make("memory/own");
	fake_mount(lines, "cpu", "cgroup", "rw,cpu,cpuacct");
	fake_mount(lines + strlen(lines), "memory", "cgroup", "rw,memory");
	fake_proc("2:cpu,cpuacct:/\n1:memory:/own\n", lines);
	CHECK_OK(cgroup_host_find(&env, &host, &e), &e);
	CHECK_EQ(host.mode, CGROUP_MODE_V1);
	CHECK_EQ(host.can, CGROUP_LIMIT_CPU | CGROUP_LIMIT_MEMORY);
	CHECK_OK(cgroup_create(&env, &host, "berm-c", &limits, &cg, &e), &e);
	CHECK_EQ(cg.enforced, CGROUP_LIMIT_CPU | CGROUP_LIMIT_MEMORY);
	CHECK_STR(get("cpu/berm-c/cpu.cfs_period_us"), "100000");
	CHECK_STR(get("cpu/berm-c/cpu.cfs_quota_us"), "1000"); /* the kernel's least */
	CHECK_STR(get("memory/own/berm-c/memory.limit_in_bytes"), "1048576");
}

TEST(none_is_said)
{
	struct cgroup_env env = fake_env(false);
	struct cgroup_limits limits = { .memory_bytes = 1 << 20 };
	struct cgroup_stats stats;
	struct cgroup_host host;
	struct cgroup cg;
	struct err e = { 0 };

	fake_proc("0::/\n", "");
	CHECK_OK(cgroup_host_find(&env, &host, &e), &e);
	CHECK_EQ(host.mode, CGROUP_MODE_NONE);
	CHECK_EQ(host.can, 0);
	CHECK(*host.why);
	CHECK_OK(cgroup_create(&env, &host, "berm-d", &limits, &cg, &e), &e);
	CHECK_EQ(cg.enforced, 0);
	CHECK_OK(cgroup_add(&cg, getpid(), &e), &e);
	CHECK_OK(cgroup_kill(&cg, &e), &e);
	CHECK_OK(cgroup_remove(&cg, &e), &e);
	CHECK_EQ(cgroup_stats_read(&cg, &stats, &e), -ENOTSUP);
}

TEST(names_that_would_escape_are_refused)
{
	static const char *const bad[] = { "", ".", "..", "../x", "a/b" };
	struct cgroup_host host = { 0 };
	struct cgroup_limits limits = { 0 };
	struct cgroup cg;
	struct err e = { 0 };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_EQ(cgroup_create(NULL, &host, bad[i], &limits, &cg, &e), -EINVAL);
}

TEST(records_are_checked)
{
	static const char *const bad[] = { "0 relative/berm-a\n", "9 /x/berm-a\n",
		                           "x /x/berm-a\n",       "0 /x/../y/berm-a\n",
		                           "0 /x/other\n",        "0 /x/berm-\n",
		                           "0 /x/berm-a/cpu\n",   "0\n" };
	struct cgroup cg;
	struct err e = { 0 };

	CHECK_OK(cgroup_from_text(span_str("1 /m/berm-a\n2 /c/berm-a\n"), "berm-", &cg, &e), &e);
	CHECK_EQ(cg.mode, CGROUP_MODE_V1);
	CHECK_STR(cg.dir[CGROUP_MEMORY], "/m/berm-a");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (cgroup_from_text(span_str(bad[i]), "berm-", &cg, &e) != -EBADMSG)
			test_fail(__FILE__, __LINE__, "took '%s'", bad[i]);
}

/* From here on: the machine's own. */

static void real_host(struct cgroup_host *ret)
{
	struct err e = { 0 };

	CHECK_OK(cgroup_host_find(NULL, ret, &e), &e);
	if (ret->mode == CGROUP_MODE_NONE)
		TEST_SKIP("%s", ret->why);
}

static void real_name(char *ret, const char *what)
{
	(void)snprintf(ret, CGROUP_NAME_MAX, "bermtest-%s-%d", what, getpid());
}

/* A child that waits inside the group until told to go on. */
static pid_t child_in(const struct cgroup *cg, void (*act)(void))
{
	struct err e = { 0 };
	int go[2];
	char c;
	pid_t pid;

	CHECK_EQ(pipe2(go, O_CLOEXEC), 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		if (read(go[0], &c, 1) == 1)
			act();
		_exit(0);
	}
	CHECK_OK(cgroup_add(cg, pid, &e), &e);
	CHECK_EQ(write(go[1], "x", 1), 1);
	return pid;
}

static void wait_forever(void)
{
	for (;;)
		(void)pause();
}

static void fork_on(void)
{
	for (;;)
		if (fork() < 0)
			(void)usleep(100);
}

static void eat_memory(void)
{
	for (int i = 0; i < 64; i++) {
		char *volatile p = malloc(1 << 20); /* or clang drops both */

		if (p)
			memset(p, 1, 1 << 20);
	}
}

TEST(real_kill_stops_a_fork_bomb)
{
	struct cgroup_limits limits = { .pids = 50, .memory_bytes = 256 << 20 };
	char name[CGROUP_NAME_MAX];
	struct cgroup_stats stats = { 0 };
	struct cgroup_host host;
	struct cgroup cg;
	struct err e = { 0 };
	pid_t pid;

	real_host(&host);
	real_name(name, "bomb");
	if (!(host.can & CGROUP_LIMIT_PIDS))
		TEST_SKIP("no pids controller here");
	CHECK_OK(cgroup_create(NULL, &host, name, &limits, &cg, &e), &e);
	pid = child_in(&cg, fork_on);
	for (int i = 0; i < 2000 && stats.pids < 50; i++) {
		CHECK_OK(cgroup_stats_read(&cg, &stats, &e), &e);
		(void)usleep(1000);
	}
	CHECK_EQ(stats.pids, 50);
	CHECK_OK(cgroup_kill(&cg, &e), &e);
	CHECK(waitpid(pid, NULL, 0) == pid);
	CHECK_OK(cgroup_remove(&cg, &e), &e);
	CHECK_OK(cgroup_remove(&cg, &e), &e); /* gone already: fine */
}

TEST(real_memory_limit_kills_and_is_counted)
{
	struct cgroup_limits limits = { .memory_bytes = 16 << 20, .cpu_millicores = 1000 };
	char name[CGROUP_NAME_MAX];
	struct cgroup_stats stats;
	struct cgroup_host host;
	struct cgroup cg;
	struct err e = { 0 };
	int status = 0;
	pid_t pid;

	real_host(&host);
	real_name(name, "hog");
	if (!(host.can & CGROUP_LIMIT_MEMORY))
		TEST_SKIP("no memory controller here");
	CHECK_OK(cgroup_create(NULL, &host, name, &limits, &cg, &e), &e);
	pid = child_in(&cg, eat_memory);
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_OK(cgroup_stats_read(&cg, &stats, &e), &e);
	CHECK_OK(cgroup_remove(&cg, &e), &e);
	CHECK(WIFSIGNALED(status));
	CHECK_EQ(WTERMSIG(status), SIGKILL);
	CHECK(stats.oom_kills > 0);
	CHECK(stats.memory_peak_bytes == 0 || stats.memory_peak_bytes > 8 << 20);
	CHECK(stats.cpu_us > 0);
}

static bool only_keep(void *ctx, const char *id)
{
	return strcmp(id, ctx) == 0;
}

TEST(real_sweep_removes_only_the_dead)
{
	struct cgroup_limits limits = { 0 };
	char prefix[CGROUP_NAME_MAX];
	char name[2][CGROUP_NAME_MAX + 8];
	struct cgroup_host host;
	struct cgroup cg[2];
	struct stat st;
	struct err e = { 0 };
	unsigned removed = 0;
	char keep[] = "live";
	pid_t pid[2];
	unsigned tree = 0;

	real_host(&host);
	real_name(prefix, "sweep");
	(void)snprintf(name[0], sizeof(name[0]), "%slive", prefix);
	(void)snprintf(name[1], sizeof(name[1]), "%sdead", prefix);
	for (int i = 0; i < 2; i++) {
		CHECK_OK(cgroup_create(NULL, &host, name[i], &limits, &cg[i], &e), &e);
		pid[i] = child_in(&cg[i], wait_forever);
	}
	/* init reaps what a dead supervisor leaves; here that is us */
	CHECK(signal(SIGCHLD, SIG_IGN) != SIG_ERR); /* banned-ok: the plainest way to be reaped */
	CHECK_OK(cgroup_sweep(&host, prefix, only_keep, keep, &removed, &e), &e);
	while (!*cg[0].dir[tree])
		tree++;
	CHECK(stat(cg[0].dir[tree], &st) == 0);
	CHECK(stat(cg[1].dir[tree], &st) < 0);
	CHECK_EQ(kill(pid[0], 0), 0);
	CHECK(kill(pid[1], 0) < 0);
	CHECK(removed >= 1);
	CHECK_OK(cgroup_kill(&cg[0], &e), &e);
	CHECK_OK(cgroup_remove(&cg[0], &e), &e);
	CHECK_EQ(cgroup_sweep(&host, "", only_keep, keep, &removed, &e), -EINVAL);
}

TEST_MAIN()
