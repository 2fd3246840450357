#include "state/paths.h"

#include "test.h"

#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

static const struct paths_input plain = {
	.exe = "/opt/x/bin/berm", .cwd = "/w", .home = "/home/u", .uid = 1000
};

static struct paths from(struct paths_input in)
{
	struct paths got;
	struct err e = { 0 };

	CHECK_OK(paths_from(&in, &got, &e), &e);
	return got;
}

TEST(finds_the_installation_from_bin_and_libexec)
{
	struct paths_input in = plain;
	struct paths got = from(in);

	CHECK_STR(got.libexec, "/opt/x/libexec/berm");
	CHECK_STR(got.share, "/opt/x/share/berm");
	in.exe = "/opt/x/libexec/berm/berm-supervisor";
	got = from(in);
	CHECK_STR(got.libexec, "/opt/x/libexec/berm");
	in.exe = "/bin/berm";
	CHECK_STR(from(in).share, "/share/berm");
	/* a program replaced by an upgrade while it runs */
	in.exe = "/usr/bin/berm (deleted)";
	CHECK_STR(from(in).share, "/usr/share/berm");
}

TEST(refuses_a_program_elsewhere)
{
	static const char *const bad[] = {
		NULL, "", "berm", "/berm", "/opt/sbin/berm", "/x/libexec/berm", "/x/mybin/berm"
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct paths_input in = plain;
		struct paths got;
		struct err e = { 0 };

		memset(&got, 0xa5, sizeof(got));
		in.exe = bad[i];
		CHECK_EQ(paths_from(&in, &got, &e), -ENOENT);
		CHECK_EQ((uint8_t)got.state[0], 0xa5);
		CHECK(e.text[0]);
	}
}

TEST(state_follows_the_environment)
{
	struct paths_input in = plain;

	CHECK_STR(from(in).state, "/home/u/.local/share/berm");
	in.xdg_data_home = "relative/is/ignored";
	CHECK_STR(from(in).state, "/home/u/.local/share/berm");
	in.xdg_data_home = "/data";
	CHECK_STR(from(in).state, "/data/berm");
	in.uid = 0;
	CHECK_STR(from(in).state, "/var/lib/berm");
	in.state_dir = "";
	CHECK_STR(from(in).state, "/var/lib/berm");
	in.state_dir = "/s";
	CHECK_STR(from(in).state, "/s");
	in.state_dir = "s";
	CHECK_STR(from(in).state, "/w/s");
}

TEST(says_what_to_do_without_home)
{
	struct paths_input in = plain;
	struct paths got;
	struct err e = { 0 };

	in.home = NULL;
	CHECK_EQ(paths_from(&in, &got, &e), -ENOENT);
	CHECK(strstr(e.text, "HOME") && strstr(e.text, "BERM_STATE_DIR"));
	in.home = "";
	CHECK_EQ(paths_from(&in, &got, &e), -ENOENT);
}

TEST(parts_need_no_environment)
{
	struct paths_input in = { .exe = "/opt/x/libexec/berm/berm-supervisor", .no_state = true };
	struct paths got = from(in);

	in.uid = 1000;
	CHECK_STR(from(in).state, "");
	CHECK_STR(got.share, "/opt/x/share/berm");
}

TEST(refuses_what_is_too_long)
{
	static char longer[PATH_MAX + 10];
	struct paths_input in = plain;
	struct paths got;
	struct err e = { 0 };

	memset(longer, 'x', sizeof(longer) - 1);
	longer[0] = '/';
	in.state_dir = longer;
	CHECK_EQ(paths_from(&in, &got, &e), -ENAMETOOLONG);
	in.state_dir = NULL;
	memcpy(longer + sizeof(longer) - 10, "/bin/berm", 10);
	in.exe = longer;
	CHECK_EQ(paths_from(&in, &got, &e), -ENAMETOOLONG);
}

static struct paths at(const char *sub)
{
	struct paths p = { .state = "" };

	(void)snprintf(p.state, sizeof(p.state), "%s%s", test_tmpdir(), sub);
	return p;
}

TEST(makes_the_state_directory_private)
{
	static const char *const folders[] = { "",          "images",    "templates",
		                               "snapshots", "sandboxes", "ended" };
	struct paths p = at("/a/b/state");
	struct err e = { 0 };
	struct stat st;
	_own_fd_ int fd = -1;
	_own_fd_ int again = -1;

	CHECK_OK(paths_open_state(&p, &fd, &e), &e);
	for (size_t i = 0; i < 5; i++) {
		CHECK_EQ(fstatat(fd, folders[i], &st, AT_EMPTY_PATH), 0);
		CHECK_EQ(st.st_mode & 07777, 0700);
	}
	CHECK_OK(paths_open_state(&p, &again, &e), &e);
}

static void expect_refused(const struct paths *p, int code, const char *word)
{
	struct err e = { 0 };
	int fd = -77;

	CHECK_EQ(paths_open_state(p, &fd, &e), code);
	CHECK_EQ(fd, -77);
	if (!strstr(e.text, word) || !strstr(e.text, "BERM_STATE_DIR") || !strstr(e.text, p->state))
		test_fail(__FILE__, __LINE__, "'%s' lacks '%s'", e.text, word);
}

TEST(says_when_it_is_no_directory)
{
	struct paths p = at("/file");
	struct paths below = at("/file/below");
	struct paths p2 = at("/state");
	struct err e = { 0 };
	_own_fd_ int fd = -1;

	CHECK_OK(fd_open(p.state, O_WRONLY | O_CREAT, 0600, &fd, &e), &e);
	expect_refused(&p, -ENOTDIR, "not a directory");
	expect_refused(&below, -ENOTDIR, "not a directory");
	CHECK_EQ(mkdir(p2.state, 0700), 0);
	(void)snprintf(p.state, sizeof(p.state), "%.200s/images", p2.state);
	CHECK_EQ(close(steal_fd(&fd)), 0);
	CHECK_OK(fd_open(p.state, O_WRONLY | O_CREAT, 0600, &fd, &e), &e);
	expect_refused(&p2, -ENOTDIR, "images");
}

TEST(refuses_a_directory_others_may_write)
{
	struct paths p = at("/open");

	CHECK_EQ(mkdir(p.state, 0700), 0);
	CHECK_EQ(chmod(p.state, 0777), 0);
	expect_refused(&p, -EPERM, "chmod go-w");
	CHECK_EQ(chmod(p.state, 0755), 0);
	if (geteuid() != 0)
		return;
	/* somebody else's */
	CHECK_EQ(chown(p.state, 1234, 1234), 0);
	expect_refused(&p, -EPERM, "another user");
}

TEST(says_when_there_is_no_permission)
{
	struct paths p = at("/shut/state");
	struct paths parent = at("/shut");

	CHECK_EQ(mkdir(parent.state, 0700), 0);
	CHECK_EQ(chmod(test_tmpdir(), 0755), 0);
	CHECK_EQ(chmod(parent.state, 0555), 0);
	if (geteuid() == 0)
		CHECK_EQ(setresuid(65534, 65534, 65534), 0);
	expect_refused(&p, -EACCES, "no permission");
}

TEST(says_when_the_file_system_is_read_only)
{
	struct paths p = at("/ro");
	struct paths below = at("/ro/state");
	struct err e = { 0 };
	_own_fd_ int fd = -1;

	CHECK_OK(paths_open_state(&p, &fd, &e), &e);
	if (unshare(CLONE_NEWNS) < 0)
		TEST_SKIP("needs root to mount");
	CHECK_EQ(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	CHECK_EQ(mount(p.state, p.state, NULL, MS_BIND, NULL), 0);
	CHECK_EQ(mount(NULL, p.state, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), 0);
	expect_refused(&p, -EROFS, "read-only");
	expect_refused(&below, -EROFS, "read-only");
}

TEST_MAIN()
