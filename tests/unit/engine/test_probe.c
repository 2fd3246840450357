/* The probe on devices that are none, and on the machine's own when it has one. */
#include "base/buf.h"
#include "base/fdio.h"
#include "engine/probe.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { PATH_BYTES = 512, FAST_MS = 600 };

static int open_state(void)
{
	struct err e = { 0 };
	int fd = -1;

	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &fd, &e), &e);
	return fd;
}

static struct probe_verdict probe(const char *kvm, int state_fd)
{
	struct probe_env env = { .kvm_path = kvm,
		                 .boot_id_path = "/proc/sys/kernel/random/boot_id",
		                 .state_dir_fd = state_fd };
	struct probe_verdict v;
	struct err e = { 0 };

	memset(&v, 0xa5, sizeof(v));
	CHECK_OK(probe_kvm(&env, &v, &e), &e);
	return v;
}

static const char *text_of(const struct probe_verdict *v)
{
	static char text[256];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	probe_put_verdict(&b, v);
	return buf_cstr(&b);
}

TEST(missing)
{
	struct probe_verdict v = probe("/no/such/device", -1);

	CHECK_EQ(v.kind, PROBE_MISSING);
	CHECK(*probe_remedy(&v));
	CHECK_STR(text_of(&v), "there is no /dev/kvm");
}

TEST(forbidden)
{
	char path[PATH_BYTES];
	int status = 0;
	pid_t pid;

	(void)snprintf(path, sizeof(path), "%s/kvm", test_tmpdir());
	CHECK_EQ(mknod(path, S_IFREG, 0), 0);
	CHECK_EQ(chmod(test_tmpdir(), 0755), 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		struct probe_verdict v;

		if (geteuid() == 0 && setuid(65534) < 0)
			_exit(1);
		v = probe(path, -1);
		if (v.kind != PROBE_FORBIDDEN || v.group_may || !strstr(probe_remedy(&v), "chgrp"))
			_exit(2);
		v.group_may = true;
		_exit(strstr(probe_remedy(&v), "usermod") ? 0 : 3);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_EQ(status, 0);
}

TEST(something_else_is_broken)
{
	struct probe_verdict v = probe("/dev/null", -1);

	CHECK_EQ(v.kind, PROBE_BROKEN);
	CHECK_STR(v.step, "KVM_GET_API_VERSION");
	CHECK_EQ(v.code, -ENOTTY);
	CHECK(strstr(text_of(&v), "KVM_GET_API_VERSION"));
}

static struct probe_verdict probe_real(int state_fd)
{
	if (access("/dev/kvm", R_OK | W_OK) < 0)
		TEST_SKIP("no /dev/kvm to open");
	return probe("/dev/kvm", state_fd);
}

TEST(the_real_one_gets_a_verdict_in_time)
{
	struct probe_verdict v = probe_real(-1);

	CHECK(v.kind != PROBE_MISSING && v.kind != PROBE_FORBIDDEN);
	CHECK(!v.cached);
	CHECK(v.took_us < FAST_MS * 1000);
	if (v.kind == PROBE_SLOW || v.kind == PROBE_GOOD) {
		CHECK(v.insns_per_s > 0);
		CHECK_EQ(v.kind == PROBE_GOOD, v.insns_per_s >= PROBE_FAST_PER_S);
		CHECK_EQ(v.kind == PROBE_SLOW, *probe_remedy(&v) != '\0');
	}
}

static void put_cache(int state_fd, const char *text)
{
	struct err e = { 0 };

	CHECK_OK(fd_replace_file(state_fd, "kvm-probe", text, strlen(text), 0600, &e), &e);
}

TEST(a_verdict_is_kept_for_this_boot)
{
	int state_fd = open_state();
	struct probe_verdict first = probe_real(state_fd);
	struct probe_verdict again;
	_own_free_ char *text = NULL;
	struct err e = { 0 };

	if (first.kind == PROBE_BROKEN)
		TEST_SKIP("/dev/kvm is broken here: %s", first.step);
	again = probe_real(state_fd);
	CHECK(!first.cached);
	CHECK(again.cached);
	CHECK_EQ(again.kind, first.kind);
	CHECK_EQ(again.insns_per_s, first.insns_per_s);
	CHECK_OK(fd_read_file(state_fd, "kvm-probe", PROBE_RECORD_MAX, &text, NULL, &e), &e);
	text[sizeof("berm-probe 1\nboot ") - 1] ^= 1; /* another boot, still a hex digit or not */
	put_cache(state_fd, text);
	CHECK(!probe_real(state_fd).cached);
	CHECK(probe_real(state_fd).cached); /* and was replaced */
	put_cache(state_fd, "rubbish");
	CHECK(!probe_real(state_fd).cached);
}

TEST_MAIN()
