#include "base/clock.h"
#include "base/fdio.h"
#include "engine/qmp.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

static const char greeting[] = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";
static const char event[] = "{\"event\": \"RTC_CHANGE\", \"data\": {\"offset\": 0}}\r\n";
static const char ok[] = "{\"return\": {}, \"id\": @}\r\n";

/*
 * A QEMU: a process that reads one command after the other and says the next text of its list,
 * with the command's id in place of '@'. After the last it says nothing more; once it is told to
 * cancel, only that all is cancelled.
 */
struct fake {
	int fd; /* our end */
	pid_t pid;
};

static void say(int fd, const char *text, const char *id)
{
	const char *at = strchr(text, '@');

	if (at && id)
		(void)dprintf(fd, "%.*s%s%s", (int)(at - text), text, id, at + 1);
	else
		(void)dprintf(fd, "%s", text);
}

static void play(int fd, const char *const *texts)
{
	static const char *const cancelled[] = {
		"{\"return\": {}, \"id\": @}\r\n",
		"{\"return\": {\"status\": \"cancelled\"}, \"id\": @}\r\n", NULL
	};
	static char line[4096];
	size_t len = 0;

	while (len < sizeof(line) - 1 && read(fd, line + len, 1) == 1) {
		char *id;

		if (line[len++] != '\n')
			continue;
		line[len] = '\0';
		len = 0;
		if (strstr(line, "migrate_cancel"))
			texts = cancelled;
		id = strstr(line, "\"id\":");
		if (id) {
			id += 5;
			id[strspn(id, "0123456789")] = '\0';
		}
		if (*texts)
			say(fd, *texts++, id);
	}
}

/* `first` is said before any command comes. */
static struct fake fake(const char *first, const char *const *texts)
{
	struct err e = { 0 };
	struct fake f;
	int fds[2] = { -1, -1 };

	CHECK_OK(fd_socketpair(fds, &e), &e);
	f.fd = fds[0];
	f.pid = fork();
	if (f.pid == 0) {
		(void)close(fds[0]);
		say(fds[1], first, NULL);
		play(fds[1], texts);
		_exit(0);
	}
	(void)close(fds[1]);
	return f;
}

static void end(struct fake *f)
{
	(void)close(f->fd);
	(void)kill(f->pid, SIGKILL);
	(void)waitpid(f->pid, NULL, 0);
}

static uint64_t soon(void)
{
	return clock_mono_ms() + 5000;
}

/* What one stop says against a QEMU that answers it with `text`. */
static int stop_with(const char *text, struct err *e)
{
	const char *const texts[] = { text, NULL };
	struct fake f = fake("", texts);
	int r = qmp_stop(f.fd, soon(), e);

	end(&f);
	return r;
}

TEST(the_answer_to_its_own_command_counts)
{
	static const char *const texts[] = {
		"{\"return\": {}, \"id\": 7}\r\n{\"return\": {}, \"id\": \"x\"}\r\n"
		"{\"error\": {\"desc\": \"an old one\"}, \"id\": 8}\r\n{\"return\": {}, \"id\": @}\r\n",
		"{\"error\": {\"desc\": \"no such thing\"}, \"id\": @}\r\n", NULL
	};
	struct fake f = fake("", texts);
	struct err e = { 0 };

	CHECK_OK(qmp_stop(f.fd, soon(), &e), &e);
	CHECK_EQ(qmp_cont(f.fd, soon(), &e), -EREMOTEIO);
	CHECK_STR(e.text, "QEMU: no such thing");
	end(&f);
}

TEST(what_was_sent_without_awaiting_its_answer_is_passed_over)
{
	static const char *const texts[] = {
		"{\"return\": {}}\r\n",                            /* qmp_capabilities */
		"{\"error\": {\"desc\": \"an old failure\"}}\r\n", /* capabilities of the restore */
		"{\"return\": {}}\r\n",                            /* migrate-incoming */
		ok, NULL
	};
	struct fake f = fake(greeting, texts);
	struct err e = { 0 };

	CHECK_OK(qmp_greet(f.fd, &e), &e);
	CHECK_OK(qmp_restore(f.fd, 8, &e), &e);
	CHECK_OK(qmp_stop(f.fd, soon(), &e), &e);
	end(&f);
}

TEST(events_are_passed_over)
{
	struct err e = { 0 };
	char text[2048] = "";

	for (int i = 0; i < 10; i++)
		(void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s", event);
	(void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s", ok);
	CHECK_OK(stop_with(text, &e), &e);
}

TEST(garbage_ends_it)
{
	static const char *const lines[] = {
		"hello\r\n", "[]\r\n",       "{\"return\": 1, \"return\": 2}\r\n",
		"\n",        "{\"QMP\"\r\n", "{\"id\": @}\r\n"
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct err e = { 0 };

		CHECK_EQ(stop_with(lines[i], &e), -EBADMSG);
	}
}

TEST(silence_and_a_closed_socket_end_it)
{
	static const char *const nothing[] = { NULL };
	struct fake f = fake("", nothing);
	struct err e = { 0 };

	CHECK_EQ(qmp_stop(f.fd, clock_mono_ms() + 30, &e), -ETIMEDOUT);
	(void)kill(f.pid, SIGKILL);
	CHECK_EQ(qmp_stop(f.fd, soon(), &e), -EPIPE);
	end(&f);
}

TEST(a_line_without_end_ends_it)
{
	struct err e = { 0 };
	char *much = malloc(QMP_LINE_MAX + 2);

	CHECK(much);
	memset(much, 'x', QMP_LINE_MAX + 1);
	much[QMP_LINE_MAX + 1] = '\0';
	CHECK_EQ(stop_with(much, &e), -EBADMSG);
	free(much);
}

TEST(events_without_end_end_it)
{
	size_t bytes = strlen(event);
	char *many = malloc((QMP_LINES_MAX + 1) * bytes + 1);
	struct err e = { 0 };

	CHECK(many);
	for (int i = 0; i < QMP_LINES_MAX + 1; i++)
		memcpy(many + (size_t)i * bytes, event, bytes + 1);
	CHECK_EQ(stop_with(many, &e), -EBADMSG);
	free(many);
}

#define STATUS(s, more) "{\"return\": {\"status\": \"" s "\"" more "}, \"id\": @}\r\n"

TEST(a_save_waits_for_its_end)
{
	static const char *const good[] = { ok, /* x-ignore-shared */
		                            ok, /* bandwidth */
		                            ok, /* getfd */
		                            ok, /* migrate */
		                            STATUS("setup", ""),
		                            STATUS("active", ""),
		                            STATUS("completed", ""),
		                            NULL };
	static const char *const bad[] = {
		ok, ok, ok, ok, STATUS("failed", ", \"error-desc\": \"the disk is full\""), NULL
	};
	_own_fd_ int null = -1;
	struct err e = { 0 };
	struct fake f = fake("", good);

	CHECK_OK(fd_open("/dev/null", O_RDWR, 0, &null, &e), &e);
	CHECK_OK(qmp_save(f.fd, null, soon(), &e), &e);
	end(&f);
	f = fake("", bad);
	CHECK_EQ(qmp_save(f.fd, null, soon(), &e), -EIO);
	CHECK_STR(e.text, "QEMU could not save the guest's state: the disk is full");
	end(&f);
}

TEST(a_save_that_takes_too_long_is_cancelled)
{
	const char *texts[500];
	uint64_t began;
	_own_fd_ int null = -1;
	struct err e = { 0 };
	struct fake f;

	for (size_t i = 0; i < 499; i++)
		texts[i] = i < 4 ? ok : STATUS("active", "");
	texts[499] = NULL;
	CHECK_OK(fd_open("/dev/null", O_RDWR, 0, &null, &e), &e);
	f = fake("", texts);
	began = clock_mono_ms();
	CHECK_EQ(qmp_save(f.fd, null, began + 100, &e), -ETIMEDOUT);
	CHECK(clock_mono_ms() - began < QMP_CANCEL_MS);
	end(&f);
}

TEST(a_restore_names_its_fd)
{
	struct err e = { 0 };
	char got[1024] = "";
	int fds[2];

	CHECK_OK(fd_socketpair(fds, &e), &e);
	CHECK_OK(qmp_restore(fds[0], 8, &e), &e);
	CHECK(read(fds[1], got, sizeof(got) - 1) > 0);
	CHECK(strstr(got, "\"uri\":\"fd:8\"") != NULL);
	CHECK(strstr(got, "x-ignore-shared") != NULL);
	(void)close(fds[0]);
	(void)close(fds[1]);
}

TEST(only_whole_lines_are_thrown_away)
{
	struct err e = { 0 };
	char left[64] = "";
	struct engine_news news = { 0 };
	int fds[2];

	CHECK_OK(fd_socketpair(fds, &e), &e);
	CHECK(!qmp_hush(fds[0], &news));
	say(fds[1], greeting, NULL);
	say(fds[1], event, NULL);
	say(fds[1], "{\"half", NULL);
	CHECK(qmp_hush(fds[0], &news));
	CHECK(!qmp_hush(fds[0], &news));
	CHECK_EQ(recv(fds[0], left, sizeof(left) - 1, MSG_DONTWAIT), 6);
	CHECK_STR(left, "{\"half");
	(void)close(fds[1]);
	CHECK(!qmp_hush(fds[0], &news));
	CHECK(!news.full && !news.gate_lost);
	(void)close(fds[0]);
}

/* As QEMU 7.2 says it when a write meets ENOSPC, and an error of another kind. */
TEST(a_full_disk_is_heard_of)
{
	static const char other[] =
		"{\"event\": \"BLOCK_IO_ERROR\", \"data\": {\"nospace\": false, "
		"\"operation\": \"write\", \"action\": \"report\"}}\r\n";
	static const char none[] = "{\"event\": \"BLOCK_IO_ERROR\", \"data\": {\"nospace\": true, "
				   "\"operation\": \"write\", \"action\": \"stop\"}}\r\n"
				   "{\"event\": \"STOP\"}\r\n";
	struct err e = { 0 };
	struct engine_news news = { 0 };
	int fds[2];

	CHECK_OK(fd_socketpair(fds, &e), &e);
	say(fds[1], other, NULL);
	CHECK(qmp_hush(fds[0], &news));
	CHECK(!news.full && !news.gate_lost);
	say(fds[1], none, NULL);
	CHECK(qmp_hush(fds[0], &news));
	CHECK(news.full && !news.gate_lost);
	(void)close(fds[0]);
	(void)close(fds[1]);
}

TEST(a_lost_gate_is_heard_of)
{
	static const char up[] = "{\"event\": \"NETDEV_STREAM_CONNECTED\", \"data\": "
				 "{\"netdev-id\": \"gate\", \"addr\": {\"path\": \"\", \"type\": "
				 "\"unix\"}}}\r\n";
	static const char down[] = "{\"event\": \"NETDEV_STREAM_DISCONNECTED\", \"data\": "
				   "{\"netdev-id\": \"gate\"}}\r\n";
	struct engine_news news = { 0 };
	struct err e = { 0 };
	int fds[2];

	CHECK_OK(fd_socketpair(fds, &e), &e);
	say(fds[1], up, NULL);
	CHECK(qmp_hush(fds[0], &news));
	CHECK(!news.full && !news.gate_lost);
	say(fds[1], down, NULL);
	CHECK(qmp_hush(fds[0], &news));
	CHECK(!news.full && news.gate_lost);
	(void)close(fds[0]);
	(void)close(fds[1]);
}

TEST_MAIN()
