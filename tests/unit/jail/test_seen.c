/* What is read of another process's jail, out of the kernel's own words. */
#include "base/buf.h"
#include "guardpage.h"
#include "jail/jail.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static const char jailed[] = "Name:\tberm-vmm\nUmask:\t0022\nState:\tS (sleeping)\nPid:\t77\n"
			     "NSpid:\t77\t1\n"
			     "Uid:\t1879048193\t1879048193\t1879048193\t1879048193\n"
			     "CapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n"
			     "Seccomp_filters:\t2\nCpus_allowed:\t3\n";

static void check_text(const char *status, const char *wanted)
{
	struct jail_seen s;
	char text[128];
	struct buf b;

	CHECK_EQ(jail_seen_parse(span_str(status), &s), 0);
	buf_init(&b, text, sizeof(text));
	jail_put_seen(&b, &s);
	CHECK_STR(buf_cstr(&b), wanted);
}

TEST(a_jail_is_put_into_words)
{
	check_text(jailed, "seccomp 2 deep, no new privileges, no capabilities, own pid namespace, "
	                   "uid 1879048193");
	check_text("Uid:\t0\t0\t0\t0\nCapEff:\t000001fffeffffff\nNoNewPrivs:\t0\nSeccomp:\t0\n",
	           "no seccomp, capabilities 0x1fffeffffff, no pid namespace, uid 0");
	/* before Linux 5.9 the filters are not counted */
	check_text("Uid:\t5\t5\t5\t5\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n",
	           "seccomp, no new privileges, no capabilities, no pid namespace, uid 5");
}

TEST(every_prefix_is_no_status_or_a_whole_one)
{
	size_t len = strlen(jailed);
	size_t good = 0;

	for (size_t i = 0; i <= len; i++) {
		struct jail_seen s = { .uid = 7 };
		int r = jail_seen_parse(span_of(guard_copy(jailed, i), i), &s);

		CHECK(r == 0 || (r == -EBADMSG && s.uid == 7));
		good += r == 0;
	}
	CHECK(good > 0 && good < 60); /* from the line of Seccomp on */
}

TEST(numbers_that_are_none_are_refused)
{
	static const char *const bad[] = {
		"Uid\n",
		"Uid:\tx\t0\t0\t0\nCapEff:\t0\nNoNewPrivs:\t1\nSeccomp:\t2\n",
		"Uid:\t4294967296\t0\t0\t0\nCapEff:\t0\nNoNewPrivs:\t1\nSeccomp:\t2\n",
		"Uid:\t0\t0\t0\t0\nCapEff:\t0x1\nNoNewPrivs:\t1\nSeccomp:\t2\n",
		"Uid:\t0\t0\t0\t0\nCapEff:\t00000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n",
		"Uid:\t0\t0\t0\t0\nCapEff:\t0\nNoNewPrivs:\t\nSeccomp:\t2\n",
		"Uid:\t0\t0\t0\t0\nCapEff:\t0\nNoNewPrivs:\t1\nSeccomp:\t-2\n",
	};
	struct jail_seen s;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_EQ(jail_seen_parse(span_str(bad[i]), &s), -EBADMSG);
}

TEST(this_process_is_seen_as_it_is)
{
	struct jail_seen s = { 0 };
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQ(jail_see(fd, &s), 0);
	CHECK_EQ(s.uid, getuid());
	CHECK_EQ(s.no_new_privs, prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	CHECK_EQ(jail_see(fd, &s), 0);
	CHECK_EQ(s.no_new_privs, true);
	(void)close(fd);
	CHECK_EQ(jail_see(fd, &s), -EBADF);
}

TEST_MAIN()
