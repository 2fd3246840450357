/*
 * A guest agent that means harm: /init of a test's initramfs. What it does is the word behind
 * "hostile=" on the kernel's command line. It is built statically with musl by the test.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	VERSION = 4,
	HELLO = 1,
	FATAL = 4,
	IDENTITY_OK = 6,
	STATS_OK = 10,
	EVENT = 18,
	EXEC_OK = 33,
	DATA = 35,
	CREDIT = 37,
	EXIT = 40,
	OUT = 1,
	HEADER = 16,
	DATA_MAX = 64 << 10,
};

static uint8_t frame[HEADER + DATA_MAX];

static void send_all(int port, const void *data, size_t len)
{
	const uint8_t *at = data;

	while (len > 0) {
		ssize_t n = write(port, at, len);

		if (n > 0) {
			at += n;
			len -= (size_t)n;
		} else if (errno != EINTR && errno != EAGAIN) {
			return;
		}
	}
}

static void put(uint8_t *at, uint32_t v, int bytes)
{
	for (int i = 0; i < bytes; i++)
		at[i] = (uint8_t)(v >> (8 * i));
}

/* `claimed` is the length in the header, `len` what really follows. */
static void send_lie(int port, uint8_t type, uint8_t channel, uint32_t stream, uint32_t epoch,
                     uint32_t claimed, const void *payload, size_t len)
{
	put(frame, 0xb37e, 2);
	frame[2] = type;
	frame[3] = channel;
	put(frame + 4, stream, 4);
	put(frame + 8, epoch, 4);
	put(frame + 12, claimed, 4);
	if (len > 0)
		memcpy(frame + HEADER, payload, len);
	send_all(port, frame, HEADER + len);
}

static void send_frame(int port, uint8_t type, uint8_t channel, uint32_t stream,
                       const void *payload, size_t len)
{
	send_lie(port, type, channel, stream, 1, (uint32_t)len, payload, len);
}

static void send_u32(int port, uint8_t type, uint8_t channel, uint32_t stream, uint32_t v)
{
	uint8_t bytes[4];

	put(bytes, v, 4);
	send_frame(port, type, channel, stream, bytes, 4);
}

static void send_hello(int port, uint32_t version)
{
	uint8_t hello[] = { 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 'x', 1, 0, 'y' };

	put(hello, version, 4);
	send_frame(port, HELLO, 0, 0, hello, sizeof(hello));
}

/* Whatever the host sent by now is thrown away; at least something must have come. */
static void take_input(int port)
{
	static uint8_t sink[4096];
	struct pollfd p = { .fd = port, .events = POLLIN };

	while (poll(&p, 1, 10000) > 0 && (p.revents & POLLIN) && read(port, sink, sizeof(sink)) > 0)
		if (poll(&p, 1, 200) <= 0)
			return;
}

static void rest(void)
{
	for (;;)
		pause();
}

/* An honest start, up to a command that seems to run. */
static void begin(int port)
{
	send_hello(port, VERSION);
	take_input(port);
	send_frame(port, IDENTITY_OK, 0, 0, "\0\0\0", 4);
	take_input(port);
	send_u32(port, EXEC_OK, 0, 1, 2);
}

static void before_start(int port, const char *how)
{
	static const char fatal[] = "\x1b[2J\x07 own your terminal\n";
	uint8_t text[2 + sizeof(fatal)] = { sizeof(fatal) - 1, 0 };

	if (strcmp(how, "garbage") == 0)
		for (uint32_t i = 0;; i++)
			send_all(port, &i, sizeof(i));
	if (strcmp(how, "half") == 0)
		send_all(port, "\x7e\xb3\x01", 3);
	if (strcmp(how, "version") == 0)
		send_hello(port, 77);
	if (strcmp(how, "hello-twice") == 0)
		for (;;)
			send_hello(port, VERSION);
	if (strcmp(how, "length") == 0)
		send_lie(port, HELLO, 0, 0, 1, UINT32_MAX, "x", 1);
	if (strcmp(how, "fatal") == 0) {
		memcpy(text + 2, fatal, sizeof(fatal) - 1);
		send_frame(port, FATAL, 0, 0, text, sizeof(fatal) + 1);
	}
	if (strcmp(how, "identity-first") == 0)
		send_frame(port, IDENTITY_OK, 0, 0, "\0\0\0", 4);
	if (strcmp(how, "exits") == 0)
		_exit(0);
}

static void after_start(int port, const char *how)
{
	static uint8_t zeros[DATA_MAX];
	static const uint8_t event[10] = { 1, 0, 1 };

	begin(port);
	if (strcmp(how, "beyond-credit") == 0)
		for (;;)
			send_frame(port, DATA, OUT, 1, zeros, sizeof(zeros));
	if (strcmp(how, "too-much-credit") == 0)
		for (;;)
			send_u32(port, CREDIT, 0, 1, UINT32_MAX);
	if (strcmp(how, "streams") == 0)
		for (uint32_t i = 2;; i++)
			send_u32(port, EXEC_OK, 0, i, i);
	if (strcmp(how, "started-twice") == 0)
		send_u32(port, EXEC_OK, 0, 1, 3);
	if (strcmp(how, "epoch") == 0)
		send_lie(port, DATA, OUT, 1, 9, 1, "x", 1);
	if (strcmp(how, "data-length") == 0)
		send_lie(port, DATA, OUT, 1, 1, DATA_MAX + 1, zeros, sizeof(zeros));
	if (strcmp(how, "events") == 0)
		for (;;)
			send_frame(port, EVENT, 0, 0, event, sizeof(event));
	if (strcmp(how, "unasked") == 0)
		send_frame(port, STATS_OK, 0, 0, zeros, 72);
	if (strcmp(how, "exit-cut") == 0)
		send_frame(port, EXIT, 0, 1, zeros, 3);
	if (strcmp(how, "console") == 0)
		for (;;)
			send_all(STDOUT_FILENO, zeros, sizeof(zeros));
	if (strcmp(how, "dies") == 0)
		_exit(0);
}

static int open_port(void)
{
	int port = -1;

	(void)mkdir("/dev", 0755);
	(void)mkdir("/proc", 0755);
	(void)mount("dev", "/dev", "devtmpfs", 0, NULL);
	(void)mount("proc", "/proc", "proc", 0, NULL);
	for (int i = 0; i < 500 && port < 0; i++) {
		port = open("/dev/vport0p1", O_RDWR);
		if (port < 0)
			(void)usleep(10000);
	}
	return port;
}

int main(void)
{
	char text[4096] = { 0 };
	char how[32] = { 0 };
	int port = open_port();
	int fd = open("/proc/cmdline", O_RDONLY);
	const char *at;

	if (port < 0 || fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		return 1;
	at = strstr(text, "hostile=");
	if (!at)
		return 1;
	at += strlen("hostile=");
	(void)snprintf(how, sizeof(how), "%.*s", (int)strcspn(at, " \n"), at);
	if (strncmp(how, "late-", 5) == 0)
		after_start(port, how + 5);
	else
		before_start(port, how);
	rest();
	return 0;
}
