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

enum { HASH_BYTES = 4, READY_MAX = HASH_BYTES + WIRE_CERT_MAX };

static const uint8_t head[HASH_BYTES] = { 4, 3, 2, 1 };

static struct span packet(uint8_t room[static READY_MAX], const char *pem)
{
	memcpy(room, head, sizeof(head));
	memcpy(room + sizeof(head), pem, strlen(pem));
	return guard_span(room, sizeof(head) + strlen(pem));
}

TEST(ready_with_a_certificate)
{
	uint8_t room[READY_MAX];
	struct companion_ready r = { 0 };

	CHECK_EQ(companion_parse_ready(packet(room, CERT), &r), 0);
	CHECK(r.has_trust);
	CHECK_EQ(r.trust.name_hash, 0x01020304);
	CHECK_MEM(r.trust.pem, span_str(CERT));
}

TEST(ready_without_one)
{
	uint8_t room[HASH_BYTES] = { 0 };
	struct companion_ready r = { .has_trust = true };

	CHECK_EQ(companion_parse_ready(guard_span(room, sizeof(room)), &r), 0);
	CHECK(!r.has_trust);
	room[0] = 1; /* the hash of none */
	CHECK_EQ(companion_parse_ready(guard_span(room, sizeof(room)), &r), -EBADMSG);
}

TEST(every_prefix_of_it_is_bad)
{
	uint8_t room[READY_MAX];
	struct span whole = packet(room, CERT);
	struct companion_ready r = { .trust = { .name_hash = 9 } };

	for (size_t len = 0; len < whole.len; len++)
		CHECK_EQ(len == HASH_BYTES ? -EBADMSG
		                           : companion_parse_ready(guard_span(room, len), &r),
		         -EBADMSG);
	CHECK_EQ(r.trust.name_hash, 9);
	CHECK_EQ(companion_parse_ready(packet(room, CERT "x"), &r), -EBADMSG);
	CHECK_EQ(companion_parse_ready(packet(room, CERT CERT), &r), -EBADMSG);
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

/* Its next packet. */
static int await(struct companion *c, uint64_t ms, struct span *ret, struct err *e)
{
	static uint8_t room[CONTROL_PACKET_MAX];
	const uint64_t deadline_ms = clock_mono_ms() + ms;
	int r;

	while ((r = companion_recv(c, room, ret, e)) == -EAGAIN) {
		r = companion_wait(&c, 1, false, deadline_ms, e);
		if (r < 0)
			return r;
	}
	return r == -EPIPE ? companion_gone(c, e) : r;
}

TEST(it_is_started_with_its_id_and_nothing_else)
{
	struct companion c;
	struct span said;
	struct err e = { 0 };

	start("printf '\\1\\1\\0\\0\\0\\0\\0\\0' >&3\n"
	      "echo \"${0##*/} $1 $# $HOME.\"; exit 3",
	      &c);
	CHECK_OK(await(&c, 20000, &said, &e), &e);
	CHECK_EQ(said.len, 8);
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
	struct span said;
	struct err e = { 0 };

	start("echo first; echo 'the \033 last' >&2; printf x >&3; exit 1", &c);
	CHECK(recv(c.control_fd, &(char){ 0 }, 1, 0) == 1);
	CHECK_EQ(await(&c, 20000, &said, &e), -EPIPE);
	CHECK_STR(e.text, "the helper ended: the \\x1b last");
	companion_end(&c);
}

TEST(one_that_is_never_ready)
{
	struct companion c;
	struct span said;
	struct err e = { 0 };

	start("printf x >&3; exec sleep 100", &c);
	CHECK_EQ(await(&c, 1000, &said, &e), 0);
	CHECK_SPAN(said, "x");
	CHECK_EQ(await(&c, 50, &said, &e), -ETIMEDOUT);
	CHECK(!companion_ended(&c));
	companion_end(&c);
}

TEST(of_two_the_one_that_ends_is_named)
{
	struct companion a;
	struct companion b;
	struct companion *const both[] = { &a, &b };
	uint8_t room[CONTROL_PACKET_MAX];
	struct span said;
	struct err e = { 0 };

	start("printf x >&3; exec sleep 100", &a);
	start("printf x >&3; sleep 0.1; echo no more; exit 1", &b);
	b.words = "the other";
	CHECK(recv(a.control_fd, &(char){ 0 }, 1, 0) == 1);
	CHECK(recv(b.control_fd, &(char){ 0 }, 1, 0) == 1);
	do
		CHECK_OK(companion_wait(both, 2, false, clock_mono_ms() + 20000, &e), &e);
	while (companion_recv(&b, room, &said, &e) == -EAGAIN);
	CHECK_EQ(companion_gone(&b, &e), -EPIPE);
	CHECK_STR(e.text, "the other ended: no more");
	companion_end(&a);
	companion_end(&b);
}

TEST(what_comes_with_a_descriptor_is_refused)
{
	struct companion c = { .words = "it" };
	uint8_t room[CONTROL_PACKET_MAX];
	struct err e = { 0 };
	struct span got;
	int fds[2];

	companion_init(&c);
	c.words = "it";
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds) == 0);
	c.control_fd = fds[0];
	CHECK_EQ(control_send(fds[1], span_str("x"), fds[1]), 0);
	CHECK_EQ(companion_recv(&c, room, &got, &e), -EPROTO);
	CHECK_STR(e.text, "it broke the protocol");
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
