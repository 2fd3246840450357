#include "base/clock.h"
#include "base/fdio.h"
#include "engine/qmp.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static const char greeting[] = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";
static const char ok[] = "{\"return\": {}}\r\n";

struct wire_pair {
	int ours, theirs;
};

static struct wire_pair pair(void)
{
	struct err e = { 0 };
	int fds[2] = { -1, -1 };

	CHECK_OK(fd_socketpair(fds, &e), &e);
	return (struct wire_pair){ .ours = fds[0], .theirs = fds[1] };
}

static void say(int fd, const char *text)
{
	struct err e = { 0 };

	CHECK_OK(fd_write_all(fd, text, strlen(text), &e), &e);
}

static uint64_t soon(void)
{
	return clock_mono_ms() + 5000;
}

TEST(opens_with_a_greeting)
{
	struct wire_pair p = pair();
	struct err e = { 0 };

	say(p.theirs, greeting);
	say(p.theirs, ok);
	CHECK_OK(qmp_open(p.ours, soon(), &e), &e);
}

TEST(events_are_passed_over)
{
	struct wire_pair p = pair();
	struct err e = { 0 };

	say(p.theirs, greeting);
	for (int i = 0; i < 10; i++)
		say(p.theirs, "{\"event\": \"MIGRATION\", \"data\": {\"status\": \"active\"}}\r\n");
	say(p.theirs, ok);
	CHECK_OK(qmp_open(p.ours, soon(), &e), &e);
}

TEST(an_error_says_what_qemu_says)
{
	struct wire_pair p = pair();
	struct err e = { 0 };

	say(p.theirs, greeting);
	say(p.theirs,
	    "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such thing\"}}\r\n");
	CHECK_EQ(qmp_open(p.ours, soon(), &e), -EREMOTEIO);
	CHECK_STR(e.text, "QEMU: no such thing");
}

TEST(garbage_and_silence_end)
{
	static const char *const lines[] = { "hello\r\n", "[]\r\n",
		                             "{\"return\": 1, \"return\": 2}\r\n", "\n",
		                             "{\"QMP\"\r\n" };
	struct err e = { 0 };

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct wire_pair p = pair();

		say(p.theirs, lines[i]);
		CHECK_EQ(qmp_open(p.ours, soon(), &e), -EBADMSG);
	}
	{
		struct wire_pair p = pair();

		CHECK_EQ(qmp_open(p.ours, clock_mono_ms() + 30, &e), -ETIMEDOUT);
		(void)close(p.theirs);
		CHECK_EQ(qmp_open(p.ours, soon(), &e), -EPIPE);
	}
}

TEST(a_line_without_end_ends)
{
	struct wire_pair p = pair();
	struct err e = { 0 };
	pid_t pid = fork();

	if (pid == 0) {
		static char much[4096];

		memset(much, 'x', sizeof(much));
		while (send(p.theirs, much, sizeof(much), MSG_NOSIGNAL) > 0)
			;
		_exit(0);
	}
	(void)close(p.theirs);
	CHECK_EQ(qmp_open(p.ours, soon(), &e), -EBADMSG);
	(void)close(p.ours);
}

TEST(events_without_end_end)
{
	struct wire_pair p = pair();
	struct err e = { 0 };

	for (int i = 0; i < QMP_LINES_MAX; i++)
		say(p.theirs, "{\"event\": \"X\"}\r\n");
	CHECK_EQ(qmp_open(p.ours, soon(), &e), -EBADMSG);
}

TEST(a_save_waits_for_its_end)
{
	struct wire_pair p = pair();
	struct err e = { 0 };
	_own_fd_ int null = -1;

	CHECK_OK(fd_open("/dev/null", O_RDWR, 0, &null, &e), &e);
	for (int i = 0; i < 3; i++)
		say(p.theirs, ok); /* capabilities, getfd, migrate */
	say(p.theirs, "{\"return\": {\"status\": \"setup\"}}\r\n");
	say(p.theirs, "{\"return\": {\"status\": \"active\"}}\r\n");
	say(p.theirs, "{\"return\": {\"status\": \"completed\"}}\r\n");
	CHECK_OK(qmp_save(p.ours, null, soon(), &e), &e);
	for (int i = 0; i < 3; i++)
		say(p.theirs, ok);
	say(p.theirs, "{\"return\": {\"status\": \"failed\"}}\r\n");
	CHECK_EQ(qmp_save(p.ours, null, soon(), &e), -EIO);
}

TEST(a_restore_names_its_fd)
{
	struct wire_pair p = pair();
	struct err e = { 0 };
	char got[1024] = "";

	CHECK_OK(qmp_restore(p.ours, 8, &e), &e);
	CHECK(read(p.theirs, got, sizeof(got) - 1) > 0);
	CHECK(strstr(got, "\"uri\":\"fd:8\"") != NULL);
	CHECK(strstr(got, "x-ignore-shared") != NULL);
}

TEST_MAIN()
