#include "state/state.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "failalloc.h"
#include "jail/cgroup.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define ID_A "aaaa00000001"
#define ID_B "aaaa00000002"
#define ID_C "bbbb00000003"

static int open_state(void)
{
	static const char *const folders[] = { "images", "templates", "snapshots", "sandboxes",
		                               "ended" };
	struct err e = { 0 };
	int fd = -1;

	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &fd, &e), &e);
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
		CHECK_EQ(mkdirat(fd, folders[i], 0700), 0);
	return fd;
}

static bool there(int state_fd, const char *path)
{
	struct stat st;

	return fstatat(state_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static int folder(int state_fd, const char *name)
{
	struct err e = { 0 };
	int fd = -1;

	CHECK_OK(fd_openat(state_fd, name, O_RDONLY | O_DIRECTORY, 0, &fd, &e), &e);
	return fd;
}

/* A directory and the lock that keeps it live; closing the lock is its supervisor's death. */
static int make(int state_fd, const char *in, const char *name, const struct state_info *info)
{
	_own_fd_ int parent_fd = folder(state_fd, in);
	_own_fd_ int dir_fd = -1;
	struct err e = { 0 };
	int lock_fd = -1;

	CHECK_OK(state_make_dir(parent_fd, name, info, &dir_fd, &lock_fd, &e), &e);
	return lock_fd;
}

static int make_sandbox(int state_fd, const char *id, const char *name, uint64_t created_ns)
{
	struct state_info info = { .created_ns = created_ns };

	(void)snprintf(info.id, sizeof(info.id), "%s", id);
	(void)snprintf(info.name, sizeof(info.name), "%s", name);
	return make(state_fd, "sandboxes", id, &info);
}

static void make_plain(int state_fd, const char *path, bool with_lock)
{
	_own_fd_ int fd = -1;
	struct err e = { 0 };
	char lock[256];

	CHECK_EQ(mkdirat(state_fd, path, 0700), 0);
	(void)snprintf(lock, sizeof(lock), "%s/lock", path);
	if (with_lock)
		CHECK_OK(fd_openat(state_fd, lock, O_CREAT | O_RDWR, 0600, &fd, &e), &e);
}

static void age(int state_fd, const char *path, int64_t seconds)
{
	struct timespec t[2] = { 0 };

	t[0].tv_sec = t[1].tv_sec = (time_t)(clock_real_ns() / 1000000000) - seconds;
	CHECK_EQ(utimensat(state_fd, path, t, AT_SYMLINK_NOFOLLOW), 0);
}

TEST(a_directory_appears_locked_and_whole)
{
	_own_fd_ int state_fd = open_state();
	_own_fd_ int parent_fd = folder(state_fd, "sandboxes");
	_own_fd_ int lock_fd = make_sandbox(state_fd, ID_A, "web", 1);
	_own_fd_ int dir_fd = -1;
	struct err e = { 0 };
	int other = -7;

	CHECK(state_alive(state_fd, ID_A));
	CHECK(there(state_fd, "sandboxes/" ID_A "/info.json"));
	CHECK(!there(state_fd, "sandboxes/.new-" ID_A));
	CHECK_EQ(state_make_dir(parent_fd, ID_A, NULL, &dir_fd, &other, &e), -EEXIST);
	CHECK_EQ(other, -7);
	CHECK(!there(state_fd, "sandboxes/.new-" ID_A));
	CHECK(there(state_fd, "sandboxes/" ID_A "/info.json"));
	CHECK_EQ(close(steal_fd(&lock_fd)), 0);
	CHECK(!state_alive(state_fd, ID_A));
	CHECK(!state_alive(state_fd, ID_B));
	CHECK(!state_alive(state_fd, ".."));
}

/* Whoever only looks holds the lock shared, and does not pass for a supervisor. */
TEST(a_probe_is_no_holder)
{
	_own_fd_ int state_fd = open_state();
	_own_fd_ int probe = -1;
	struct err e = { 0 };

	CHECK_EQ(close(make_sandbox(state_fd, ID_A, "", 1)), 0);
	CHECK_OK(fd_openat(state_fd, "sandboxes/" ID_A "/lock", O_RDONLY, 0, &probe, &e), &e);
	CHECK_EQ(flock(probe, LOCK_SH | LOCK_NB), 0);
	CHECK(!state_alive(state_fd, ID_A));
	state_sweep(state_fd);
	CHECK(!there(state_fd, "sandboxes/" ID_A));
}

/* The lock lives with the last holder, as over fork and exec. */
TEST(a_child_keeps_it_alive_until_it_is_killed)
{
	_own_fd_ int state_fd = open_state();
	_own_fd_ int lock_fd = make_sandbox(state_fd, ID_A, "", 1);
	pid_t pid = fork();

	if (pid == 0)
		for (;;)
			(void)pause();
	CHECK(pid > 0);
	CHECK_EQ(close(steal_fd(&lock_fd)), 0);
	CHECK(state_alive(state_fd, ID_A));
	CHECK_EQ(kill(pid, SIGKILL), 0);
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
	CHECK(!state_alive(state_fd, ID_A));
}

TEST(sweep_removes_the_dead_and_only_them)
{
	_own_fd_ int state_fd = open_state();
	_own_fd_ int live = make_sandbox(state_fd, ID_A, "", 1);

	CHECK_EQ(close(make_sandbox(state_fd, ID_B, "", 1)), 0);
	make_plain(state_fd, "sandboxes/" ID_C, false); /* somebody is removing it just now */
	make_plain(state_fd, "sandboxes/bbbb00000004", false);
	age(state_fd, "sandboxes/bbbb00000004", 11);
	age(state_fd, "sandboxes/" ID_A, 100000);
	make_plain(state_fd, "sandboxes/.new-bbbb00000005", true);
	make_plain(state_fd, "sandboxes/.new-bbbb00000006", true);
	age(state_fd, "sandboxes/.new-bbbb00000006", 11);
	make_plain(state_fd, "sandboxes/.new-bbbb00000007", false);
	age(state_fd, "sandboxes/.new-bbbb00000007", -3600); /* the clock was set back */
	make_plain(state_fd, "sandboxes/not-ours", false);
	age(state_fd, "sandboxes/not-ours", 100000);
	state_sweep(state_fd);
	CHECK(there(state_fd, "sandboxes/" ID_A "/info.json"));
	CHECK(!there(state_fd, "sandboxes/" ID_B));
	CHECK(there(state_fd, "sandboxes/" ID_C));
	CHECK(!there(state_fd, "sandboxes/bbbb00000004"));
	CHECK(there(state_fd, "sandboxes/.new-bbbb00000005"));
	CHECK(!there(state_fd, "sandboxes/.new-bbbb00000006"));
	CHECK(!there(state_fd, "sandboxes/.new-bbbb00000007"));
	CHECK(there(state_fd, "sandboxes/not-ours"));
}

TEST(sweep_knows_snapshots_under_way)
{
	_own_fd_ int state_fd = open_state();

	make_plain(state_fd, "snapshots/.tmp-dead", true);
	age(state_fd, "snapshots/.tmp-dead", 2);
	make_plain(state_fd, "snapshots/mine", false);
	age(state_fd, "snapshots/mine", 100000);
	state_sweep(state_fd);
	CHECK(!there(state_fd, "snapshots/.tmp-dead"));
	CHECK(there(state_fd, "snapshots/mine"));
}

TEST(sweep_knows_templates_under_way)
{
	_own_fd_ int state_fd = open_state();
	_own_fd_ int live = make(state_fd, "templates", ".tmp-live", NULL);

	age(state_fd, "templates/.tmp-live", 100000);
	make_plain(state_fd, "templates/.tmp-young", true);
	make_plain(state_fd, "templates/.tmp-dead", true);
	age(state_fd, "templates/.tmp-dead", 2);
	make_plain(state_fd, "templates/.tmp-early", false);
	age(state_fd, "templates/.tmp-early", 2);
	make_plain(state_fd, "templates/.tmp-lost", false);
	age(state_fd, "templates/.tmp-lost", 11);
	make_plain(state_fd, "templates/finished", true);
	age(state_fd, "templates/finished", 100000);
	state_sweep(state_fd);
	CHECK(there(state_fd, "templates/.tmp-live"));
	CHECK(there(state_fd, "templates/.tmp-young"));
	CHECK(!there(state_fd, "templates/.tmp-dead"));
	CHECK(there(state_fd, "templates/.tmp-early"));
	CHECK(!there(state_fd, "templates/.tmp-lost"));
	CHECK(there(state_fd, "templates/finished"));
}

TEST(sweep_keeps_the_newest_records)
{
	_own_fd_ int state_fd = open_state();
	char path[64];

	for (int i = 0; i < STATE_ENDED_MAX + 6; i++) {
		(void)snprintf(path, sizeof(path), "ended/%012x", i);
		make_plain(state_fd, path, false);
		age(state_fd, path, 1000 + (i * 37 % (STATE_ENDED_MAX + 6)) * 10);
	}
	make_plain(state_fd, "ended/ffffffffffff", false);
	age(state_fd, "ended/ffffffffffff", STATE_ENDED_DAYS_MAX * 86400 + 60);
	make_plain(state_fd, "ended/.tmp-" ID_B, false);
	age(state_fd, "ended/.tmp-" ID_B, 11);
	state_sweep(state_fd);
	for (int i = 0; i < STATE_ENDED_MAX + 6; i++) {
		(void)snprintf(path, sizeof(path), "ended/%012x", i);
		CHECK_EQ(there(state_fd, path), i * 37 % (STATE_ENDED_MAX + 6) < STATE_ENDED_MAX);
	}
	CHECK(!there(state_fd, "ended/ffffffffffff"));
	CHECK(!there(state_fd, "ended/.tmp-" ID_B));
}

TEST(a_record_under_way_belongs_to_its_supervisor)
{
	_own_fd_ int state_fd = open_state();
	_own_fd_ int live = make_sandbox(state_fd, ID_A, "", 1);

	make_plain(state_fd, "ended/.tmp-" ID_A, false);
	age(state_fd, "ended/.tmp-" ID_A, 1000);
	state_sweep(state_fd);
	CHECK(there(state_fd, "ended/.tmp-" ID_A));
}

TEST(names_are_claimed_once)
{
	_own_fd_ int state_fd = open_state();
	_own_fd_ int a = make_sandbox(state_fd, ID_A, "web", 1);
	_own_fd_ int b = make_sandbox(state_fd, ID_B, "web", 1);
	struct err e = { 0 };

	CHECK_OK(state_claim_name(state_fd, "web", ID_A, &e), &e);
	CHECK_EQ(state_claim_name(state_fd, "web", ID_B, &e), -EEXIST);
	CHECK(strstr(e.text, "'web'") && strstr(e.text, ID_A));
	state_release_name(state_fd, "web", ID_B); /* not its own */
	CHECK(there(state_fd, "sandboxes/@web"));
	state_sweep(state_fd);
	CHECK(there(state_fd, "sandboxes/@web"));
	/* the holder dies: no sweep has to come first */
	CHECK_EQ(close(steal_fd(&a)), 0);
	CHECK_OK(state_claim_name(state_fd, "web", ID_B, &e), &e);
	state_release_name(state_fd, "web", ID_B);
	CHECK(!there(state_fd, "sandboxes/@web"));
	CHECK_EQ(state_claim_name(state_fd, "../x", ID_B, &e), -EINVAL);
	CHECK_EQ(state_claim_name(state_fd, "x", "../y", &e), -EINVAL);
}

TEST(sweep_removes_dangling_names)
{
	_own_fd_ int state_fd = open_state();
	struct err e = { 0 };

	CHECK_EQ(close(make_sandbox(state_fd, ID_A, "dead", 1)), 0);
	CHECK_OK(state_claim_name(state_fd, "dead", ID_A, &e), &e);
	CHECK_OK(state_claim_name(state_fd, "gone", ID_B, &e), &e);
	CHECK_EQ(symlinkat("/etc/passwd", state_fd, "sandboxes/@odd"), 0);
	state_sweep(state_fd);
	CHECK(!there(state_fd, "sandboxes/@dead"));
	CHECK(!there(state_fd, "sandboxes/@gone"));
	CHECK(!there(state_fd, "sandboxes/@odd"));
	CHECK(!there(state_fd, "sandboxes/" ID_A));
}

/* A stopped command that holds the names lock delays others a while, and no sweep at all. */
TEST(a_held_names_lock_is_no_deadlock)
{
	_own_fd_ int state_fd = open_state();
	_own_fd_ int held = -1;
	struct err e = { 0 };

	CHECK_OK(state_claim_name(state_fd, "gone", ID_B, &e), &e);
	CHECK_OK(fd_openat(state_fd, "sandboxes/.names", O_RDWR, 0, &held, &e), &e);
	CHECK_EQ(flock(held, LOCK_EX), 0);
	state_sweep(state_fd);
	CHECK(there(state_fd, "sandboxes/@gone"));
	CHECK_EQ(state_claim_name(state_fd, "x", ID_B, &e), -ETIMEDOUT);
	CHECK_EQ(close(steal_fd(&held)), 0);
	state_sweep(state_fd);
	CHECK(!there(state_fd, "sandboxes/@gone"));
}

static void expect_found(int state_fd, const char *ref, bool ended, const char *id)
{
	struct state_info got;
	struct err e = { 0 };

	CHECK_OK(state_find(state_fd, ref, ended, &got, &e), &e);
	CHECK_STR(got.id, id);
}

static void expect_not(int state_fd, const char *ref, bool ended, int code, const char *word)
{
	struct state_info got;
	struct err e = { 0 };

	CHECK_EQ(state_find(state_fd, ref, ended, &got, &e), code);
	if (!strstr(e.text, word))
		test_fail(__FILE__, __LINE__, "'%s' lacks '%s'", e.text, word);
}

static void end(int state_fd, const char *id)
{
	struct err e = { 0 };

	CHECK_OK(state_end(state_fd, id, NULL, span_str("{}"), &e), &e);
}

TEST(finds_by_name_id_and_prefix)
{
	_own_fd_ int state_fd = open_state();
	_own_fd_ int a = make_sandbox(state_fd, ID_A, "bbbb", 10);
	_own_fd_ int b = make_sandbox(state_fd, ID_B, "", 20);
	_own_fd_ int c = make_sandbox(state_fd, ID_C, "", 30);

	expect_found(state_fd, ID_A, false, ID_A);
	expect_found(state_fd, "bbbb", false, ID_A); /* a name before a prefix */
	expect_found(state_fd, "bbbb0", false, ID_C);
	expect_not(state_fd, "aaaa", false, -EEXIST, ID_B);
	expect_not(state_fd, "bbb", false, -ENOENT, "berm ps");
	expect_not(state_fd, "", false, -ENOENT, "berm ps");
	expect_not(state_fd, "../" ID_A, true, -ENOENT, "berm ps -a");
	CHECK_EQ(close(steal_fd(&b)), 0);
	expect_found(state_fd, "aaaa", false, ID_A); /* the other is dead */
}

TEST(finds_what_has_ended_only_when_asked)
{
	_own_fd_ int state_fd = open_state();
	_own_fd_ int a = make_sandbox(state_fd, ID_A, "web", 10);
	_own_fd_ int b = make_sandbox(state_fd, ID_B, "web", 20);
	_own_fd_ int c = -1;
	struct err e = { 0 };

	end(state_fd, ID_A);
	end(state_fd, ID_B);
	expect_not(state_fd, "web", false, -ENOENT, "has ended");
	expect_found(state_fd, "web", true, ID_B); /* the newer of two records */
	expect_found(state_fd, ID_A, true, ID_A);
	expect_not(state_fd, "aaaa", true, -EEXIST, "more than one");
	c = make_sandbox(state_fd, ID_C, "web", 5);
	expect_found(state_fd, "web", true, ID_C); /* the live one */
	CHECK_OK(state_remove_ended(state_fd, ID_A, &e), &e);
	CHECK_EQ(state_remove_ended(state_fd, ID_A, &e), -ENOENT);
	CHECK_EQ(state_remove_ended(state_fd, "../sandboxes", &e), -EINVAL);
	expect_found(state_fd, "aaaa", true, ID_B);
}

TEST(lists_the_newest_first)
{
	_own_fd_ int state_fd = open_state();
	_own_(state_list_free) struct state_list *l = NULL;
	_own_(state_list_free) struct state_list *all = NULL;
	_own_fd_ int a = make_sandbox(state_fd, ID_A, "", 10);
	_own_fd_ int b = make_sandbox(state_fd, ID_B, "", 30);
	_own_fd_ int c = make_sandbox(state_fd, ID_C, "old", 20);
	struct err e = { 0 };

	end(state_fd, ID_C);
	CHECK_EQ(close(make_sandbox(state_fd, "cccc00000004", "", 40)), 0);
	CHECK_OK(state_list(state_fd, false, &l, &e), &e);
	CHECK_EQ(l->count, 2);
	CHECK_STR(l->items[0].id, ID_B);
	CHECK_STR(l->items[1].id, ID_A);
	CHECK_OK(state_list(state_fd, true, &all, &e), &e);
	CHECK_EQ(all->count, 3);
	CHECK_STR(all->items[1].id, ID_C);
	CHECK_STR(all->items[1].name, "old");
	CHECK(all->items[1].ended && !all->items[0].ended);
}

TEST(info_makes_the_round_trip)
{
	_own_fd_ int state_fd = open_state();
	_own_fd_ int lock_fd = make_sandbox(state_fd, ID_A, "", 10);
	_own_fd_ int dir_fd = -1;
	struct state_info info = { .id = ID_A, .name = "web", .image = "d:12", .level = 2 };
	struct state_info got;
	struct err e = { 0 };

	info.created_ns = UINT64_C(1790000000123456789);
	info.supervisor_pid = 4711;
	memset(info.command, 0xff, sizeof(info.command) - 1);
	CHECK_OK(state_open_dir(state_fd, ID_A, &dir_fd, &e), &e);
	CHECK_OK(state_write_info(dir_fd, &info, &e), &e);
	CHECK_OK(state_find(state_fd, "web", false, &got, &e), &e);
	CHECK_STR(got.id, ID_A);
	CHECK_STR(got.image, "d:12");
	CHECK_EQ(got.created_ns, info.created_ns);
	CHECK_EQ(got.supervisor_pid, 4711);
	CHECK_EQ(got.level, 2);
	CHECK_EQ(strlen(got.command), 255);
	/* damage leaves the id, which is enough to stop it */
	CHECK_OK(fd_replace_file(dir_fd, "info.json", "{\"name\":[", 9, 0600, &e), &e);
	CHECK_OK(state_find(state_fd, ID_A, false, &got, &e), &e);
	CHECK_STR(got.name, "");
	CHECK_OK(fd_replace_file(dir_fd, "info.json", "{\"name\":\"x\",\"level\":9}", 22, 0600, &e),
	         &e);
	CHECK_OK(state_find(state_fd, ID_A, false, &got, &e), &e);
	CHECK_STR(got.name, "");
}

TEST(the_end_leaves_a_record_or_nothing)
{
	_own_fd_ int state_fd = open_state();
	_own_fd_ int a = make_sandbox(state_fd, ID_A, "web", 10);
	_own_fd_ int b = make_sandbox(state_fd, ID_B, "", 10);
	_own_fd_ int dir_fd = -1;
	_own_fd_ int log_fd = -1;
	_own_free_ char *text = NULL;
	struct err e = { 0 };

	CHECK_OK(state_claim_name(state_fd, "web", ID_A, &e), &e);
	CHECK_OK(fd_openat(state_fd, "sandboxes/" ID_A "/log", O_CREAT | O_RDWR, 0600, &log_fd, &e),
	         &e);
	CHECK_OK(state_end(state_fd, ID_A, "web", span_str("{\"id\":1}"), &e), &e);
	CHECK(!there(state_fd, "sandboxes/" ID_A));
	CHECK(!there(state_fd, "sandboxes/@web"));
	CHECK(there(state_fd, "ended/" ID_A "/log"));
	CHECK(there(state_fd, "ended/" ID_A "/info.json"));
	CHECK(!there(state_fd, "ended/" ID_A "/lock"));
	CHECK(!there(state_fd, "ended/.tmp-" ID_A));
	CHECK_OK(state_open_dir(state_fd, ID_A, &dir_fd, &e), &e);
	CHECK_OK(fd_read_file(dir_fd, "result.json", 100, &text, NULL, &e), &e);
	CHECK_STR(text, "{\"id\":1}");
	CHECK_OK(state_end(state_fd, ID_B, NULL, span_of(NULL, 0), &e), &e);
	CHECK(!there(state_fd, "sandboxes/" ID_B));
	CHECK(!there(state_fd, "ended/" ID_B));
	CHECK_EQ(state_open_dir(state_fd, ID_B, &dir_fd, &e), -ENOENT);
	CHECK_EQ(state_open_dir(state_fd, "..", &dir_fd, &e), -EINVAL);
	/* a sweep was there first */
	CHECK_OK(state_end(state_fd, ID_B, "web", span_of(NULL, 0), &e), &e);
}

TEST(connect_says_how_it_stands)
{
	_own_fd_ int state_fd = open_state();
	_own_fd_ int lock_fd = make_sandbox(state_fd, ID_A, "", 10);
	_own_fd_ int dir_fd = -1;
	_own_fd_ int listener = -1;
	_own_fd_ int fd = -1;
	struct err e = { 0 };

	CHECK_EQ(state_connect(state_fd, ID_A, &fd, &e), -EAGAIN);
	CHECK(strstr(e.text, "still starting"));
	CHECK_EQ(state_connect(state_fd, ID_B, &fd, &e), -ENOENT);
	CHECK(strstr(e.text, "has ended"));
	CHECK_EQ(state_connect(state_fd, "x", &fd, &e), -EINVAL);
	CHECK_OK(state_open_dir(state_fd, ID_A, &dir_fd, &e), &e);
	CHECK_OK(fd_unix_listen(dir_fd, "control.sock", 4, &listener, &e), &e);
	CHECK_OK(state_connect(state_fd, ID_A, &fd, &e), &e);
	CHECK_EQ(close(steal_fd(&listener)), 0);
	CHECK_EQ(close(steal_fd(&lock_fd)), 0);
	CHECK_EQ(close(steal_fd(&fd)), 0);
	CHECK_EQ(state_connect(state_fd, ID_A, &fd, &e), -ENOENT);
}

/* A supervisor killed before it could clean up: its group goes with its directory. */
TEST(sweep_kills_what_is_left_in_the_cgroup)
{
	_own_fd_ int state_fd = open_state();
	_own_fd_ int dir_fd = -1;
	struct cgroup_limits limits = { .pids = 16 };
	struct cgroup_host host;
	struct cgroup cg;
	struct err e = { 0 };
	uint8_t raw[6];
	char id[SPEC_ID_LEN + 1];
	char name[32];
	char text[8192];
	struct buf b;
	int status = 0;
	pid_t pid;

	CHECK_OK(cgroup_host_find(NULL, &host, &e), &e);
	if (host.mode == CGROUP_MODE_NONE)
		TEST_SKIP("no control group here: %s", host.why);
	random_bytes(raw, sizeof(raw)); /* other runs of this test may be under way */
	for (size_t i = 0; i < sizeof(raw); i++)
		(void)snprintf(id + 2 * i, 3, "%02x", raw[i]);
	(void)snprintf(name, sizeof(name), "%s%s", STATE_CGROUP_PREFIX, id);
	CHECK_OK(cgroup_create(NULL, &host, name, &limits, &cg, &e), &e);
	pid = fork();
	if (pid == 0)
		for (;;)
			(void)pause();
	CHECK_OK(cgroup_add(&cg, pid, &e), &e);
	CHECK_EQ(close(make_sandbox(state_fd, id, "", 1)), 0);
	CHECK_OK(state_open_dir(state_fd, id, &dir_fd, &e), &e);
	buf_init(&b, text, sizeof(text));
	cgroup_put(&b, &cg);
	CHECK(buf_ok(&b));
	CHECK_OK(fd_replace_file(dir_fd, "cgroup", b.at, b.len, 0600, &e), &e);
	/* a zombie is left to be reaped by its parent, us: it may hold the group until then */
	state_sweep(state_fd);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	CHECK(!there(state_fd, name));
	CHECK_OK(cgroup_remove(&cg, &e), &e);
}

/* Sweeps run all the while sandboxes come and go; no live one is ever touched. */
TEST(sweepers_starters_and_enders_race)
{
	enum { SWEEPERS = 3, ROUNDS = 200 };
	_own_fd_ int state_fd = open_state();
	_own_fd_ int stays = make_sandbox(state_fd, ID_A, "stays", 1);
	pid_t pids[SWEEPERS];
	struct err e = { 0 };

	CHECK_OK(state_claim_name(state_fd, "stays", ID_A, &e), &e);
	for (int i = 0; i < SWEEPERS; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			for (;;)
				state_sweep(state_fd);
	}
	for (int i = 0; i < ROUNDS; i++) {
		_own_fd_ int lock_fd = -1;
		char id[SPEC_ID_LEN + 1];
		char path[64];

		(void)snprintf(id, sizeof(id), "%012x", i);
		(void)snprintf(path, sizeof(path), "sandboxes/%s/info.json", id);
		lock_fd = make_sandbox(state_fd, id, "turn", 1);
		CHECK_OK(state_claim_name(state_fd, "turn", id, &e), &e);
		CHECK(state_alive(state_fd, id));
		CHECK(there(state_fd, path));
		CHECK(there(state_fd, "sandboxes/@turn"));
		if (i % 2 == 0) /* else it dies without a word */
			CHECK_OK(state_end(state_fd, id, "turn", span_of(NULL, 0), &e), &e);
	}
	for (int i = 0; i < SWEEPERS; i++) {
		CHECK_EQ(kill(pids[i], SIGKILL), 0);
		CHECK_EQ(waitpid(pids[i], NULL, 0), pids[i]);
	}
	CHECK(there(state_fd, "sandboxes/@stays"));
	CHECK(there(state_fd, "sandboxes/" ID_A "/info.json"));
	state_sweep(state_fd);
	CHECK(!there(state_fd, "sandboxes/@turn"));
}

TEST(out_of_memory_is_clean)
{
	_own_fd_ int state_fd = open_state();
	_own_fd_ int a = make_sandbox(state_fd, ID_A, "web", 10);

	FAILALLOC_EACH()
	{
		struct state_list *l = NULL;
		struct err e = { 0 };
		int r = state_list(state_fd, true, &l, &e);

		/* memory for one info.json may fail and leave the bare id */
		if (failalloc_hit() && r < 0) {
			CHECK_EQ(r, -ENOMEM);
			CHECK(!l);
		} else {
			CHECK_OK(r, &e);
			CHECK_EQ(l->count, 1);
			state_list_free(l);
		}
	}
}

TEST_MAIN()
