#include "lib/companion.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "guardpage.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define CERT "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"

static const uint8_t head[COMPANION_READY_HEAD] = { 1, 1, 0, 0, 4, 3, 2, 1 };

static struct span packet(uint8_t room[static COMPANION_READY_MAX], const char *pem)
{
	memcpy(room, head, sizeof(head));
	memcpy(room + sizeof(head), pem, strlen(pem));
	return guard_span(room, sizeof(head) + strlen(pem));
}

TEST(ready_with_a_certificate)
{
	uint8_t room[COMPANION_READY_MAX];
	struct companion_ready r = { 0 };

	CHECK_EQ(companion_parse_ready(packet(room, CERT), &r), 0);
	CHECK(r.has_trust);
	CHECK_EQ(r.trust.name_hash, 0x01020304);
	CHECK_MEM(r.trust.pem, span_str(CERT));
}

TEST(ready_without_one)
{
	uint8_t room[COMPANION_READY_HEAD] = { 1, 1 };
	struct companion_ready r = { .has_trust = true };

	CHECK_EQ(companion_parse_ready(guard_span(room, sizeof(room)), &r), 0);
	CHECK(!r.has_trust);
	room[4] = 1; /* the hash of none */
	CHECK_EQ(companion_parse_ready(guard_span(room, sizeof(room)), &r), -EBADMSG);
}

TEST(every_prefix_of_it_is_bad)
{
	uint8_t room[COMPANION_READY_MAX];
	struct span whole = packet(room, CERT);
	struct companion_ready r = { .trust = { .name_hash = 9 } };

	for (size_t len = 0; len < whole.len; len++)
		CHECK_EQ(companion_parse_ready(guard_span(room, len), &r), -EBADMSG);
	CHECK_EQ(r.trust.name_hash, 9);
	CHECK_EQ(companion_parse_ready(packet(room, CERT "x"), &r), -EBADMSG);
	CHECK_EQ(companion_parse_ready(packet(room, CERT CERT), &r), -EBADMSG);
	for (size_t i = 0; i < 4; i++) {
		(void)packet(room, CERT);
		room[i] = 2;
		CHECK_EQ(companion_parse_ready(guard_span(room, whole.len), &r), -EBADMSG);
	}
}

/* A program that is a shell script, in a directory of its own. */
static void start(const char *script, struct companion *ret)
{
	char folder[] = "/tmp/test-companion-XXXXXX";
	struct companion_start how = { .program = "it", .words = "the helper", .id = "an-id" };
	struct err e = { 0 };
	int dir_fd;
	int fd;

	CHECK(mkdtemp(folder) != NULL);
	CHECK_OK(fd_open(folder, O_RDONLY | O_DIRECTORY, 0, &dir_fd, &e), &e);
	CHECK_OK(fd_openat(dir_fd, "it", O_WRONLY | O_CREAT | O_EXCL, 0700, &fd, &e), &e);
	CHECK_OK(fd_write_all(fd, "#!/bin/sh\n", 10, &e), &e);
	CHECK_OK(fd_write_all(fd, script, strlen(script), &e), &e);
	(void)close(fd);
	how.libexec = folder;
	CHECK_OK(companion_start(&how, ret, &e), &e);
	/* the shell reads it once it runs, and says so by a byte on 3 */
	while (recv(ret->control_fd, &(char){ 0 }, 1, MSG_PEEK) < 0)
		CHECK_EQ(errno, EINTR);
	(void)unlinkat(dir_fd, "it", 0);
	(void)close(dir_fd);
	(void)rmdir(folder);
}

static int await(struct companion *c, uint64_t ms, struct companion_ready *ret, struct err *e)
{
	static uint8_t room[COMPANION_READY_MAX];

	return companion_await(c, clock_mono_ms() + ms, room, ret, e);
}

TEST(it_is_started_with_its_id_and_nothing_else)
{
	struct companion c;
	struct companion_ready r;
	struct err e = { 0 };

	start("printf '\\1\\1\\0\\0\\0\\0\\0\\0' >&3\n"
	      "echo \"${0##*/} $1 $# $HOME.\"; exit 3",
	      &c);
	CHECK_OK(await(&c, 20000, &r, &e), &e);
	CHECK(companion_ended(&c));
	while (companion_drain(&c))
		continue;
	buf_put_u8(&c.said, 0);
	CHECK(strstr((const char *)c.said.at, "it an-id 1 .\n") != NULL);
	companion_end(&c);
	CHECK_EQ(c.pid, -1);
	companion_end(&c);
}

TEST(one_that_ends_is_told_with_its_last_line)
{
	struct companion c;
	struct companion_ready r;
	struct err e = { 0 };

	start("echo first; echo 'the \033 last' >&2; printf x >&3; exit 1", &c);
	CHECK(recv(c.control_fd, &(char){ 0 }, 1, 0) == 1);
	CHECK_EQ(await(&c, 20000, &r, &e), -EPIPE);
	CHECK_STR(e.text, "the helper ended: the \\x1b last");
	companion_end(&c);
}

TEST(one_that_is_never_ready)
{
	struct companion c;
	struct companion_ready r;
	struct err e = { 0 };

	start("printf x >&3; exec sleep 100", &c);
	CHECK_EQ(await(&c, 1000, &r, &e), -EPROTO);
	CHECK_EQ(await(&c, 50, &r, &e), -ETIMEDOUT);
	CHECK(!companion_ended(&c));
	companion_end(&c);
}

TEST(one_that_is_not_there)
{
	const struct companion_start how = {
		.libexec = "/nonexistent", .program = "berm-gate", .words = "the gate", .id = "x"
	};
	struct companion c;
	struct err e = { 0 };

	CHECK_EQ(companion_start(&how, &c, &e), -ENOENT);
	CHECK(strstr(e.text, "berm-gate") != NULL);
}

TEST_MAIN()
