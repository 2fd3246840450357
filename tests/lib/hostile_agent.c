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
	IDENTITY = 5,
	IDENTITY_OK = 6,
	STATS_OK = 10,
	EVENT = 18,
	EXEC = 32,
	EXEC_OK = 33,
	DATA = 35,
	CREDIT = 37,
	EOF_ = 36,
	EXIT = 40,
	GET = 42,
	RESULT = 43,
	COLLECT = 45,
	SIZE = 46,
	OUT = 1,
	ERR = 2,
	HEADER = 16,
	DATA_MAX = 64 << 10,
	EXEC_MAX = 256 << 10,
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

/* --- a session's end --- */

/* The host's next frame; its payload is thrown away. */
static uint8_t next_frame(int port, uint32_t *ret_stream)
{
	static uint8_t in[HEADER + EXEC_MAX];
	static size_t len;

	for (;;) {
		size_t bytes = HEADER;
		ssize_t n;

		if (len >= HEADER)
			bytes += (size_t)(in[12] | in[13] << 8 | in[14] << 16);
		if (bytes > sizeof(in))
			_exit(1);
		if (len >= bytes) {
			uint8_t type = in[2];

			*ret_stream = (uint32_t)(in[4] | in[5] << 8);
			len -= bytes;
			memmove(in, in + bytes, len);
			return type;
		}
		n = read(port, in + len, sizeof(in) - len);
		if (n > 0)
			len += (size_t)n;
		else
			(void)usleep(10000);
	}
}

static uint32_t await_frame(int port, uint8_t type)
{
	uint32_t stream;

	while (next_frame(port, &stream) != type)
		continue;
	return stream;
}

static const char success[] = "\0\0\0\0\0\0"; /* with the NUL behind it: no error, no text */

/* Honest up to its command; what it is given before that it takes. */
static void begin_session(int port, bool mute)
{
	uint32_t stream;

	send_hello(port, VERSION);
	(void)await_frame(port, IDENTITY);
	send_frame(port, IDENTITY_OK, 0, 0, "\0\0\0", 4);
	for (;;) {
		uint8_t type = next_frame(port, &stream);

		if (type == EOF_) /* of what it is given */
			send_frame(port, RESULT, 0, stream, success, sizeof(success));
		if (type == GET && !mute) /* ENOENT, where it was looked for */
			send_frame(port, RESULT, 0, stream, "\2\0\0\0\5\0", 7);
		if (type == EXEC)
			break;
	}
	send_u32(port, EXEC_OK, 0, stream, 2);
}

static void send_size(int port, uint32_t stream, uint64_t bytes)
{
	uint8_t payload[8];

	put(payload, (uint32_t)bytes, 4);
	put(payload + 4, (uint32_t)(bytes >> 32), 4);
	send_frame(port, SIZE, 0, stream, payload, sizeof(payload));
}

static void send_work(int port, uint32_t stream, uint32_t bytes)
{
	static uint8_t zeros[DATA_MAX];

	for (uint32_t left = bytes; left > 0;) {
		uint32_t n = left < DATA_MAX ? left : DATA_MAX;

		send_frame(port, DATA, OUT, stream, zeros, n);
		left -= n;
	}
}

static void send_end(int port, uint32_t stream)
{
	send_frame(port, EOF_, OUT, stream, NULL, 0);
	send_frame(port, RESULT, 0, stream, success, sizeof(success));
}

static void drip(int port, uint32_t stream)
{
	for (;;) {
		send_work(port, stream, 1);
		(void)usleep(20000);
	}
}

static int reopen(int port)
{
	(void)close(port);
	(void)usleep(50000);
	return open("/dev/vport0p1", O_RDWR);
}

/* Its command succeeds at once, and then it is asked for what it made. */
static void at_the_end(int port, const char *how)
{
	static const uint8_t ended[29];
	uint32_t stream;

	begin_session(port, strcmp(how, "mute") == 0);
	send_frame(port, EXIT, 0, 1, ended, sizeof(ended));
	stream = await_frame(port, COLLECT);
	if (strcmp(how, "silent") == 0)
		return;
	if (strcmp(how, "size-huge") == 0)
		send_size(port, stream, UINT64_MAX);
	if (strcmp(how, "size-twice") == 0) {
		send_size(port, stream, 1 << 20);
		send_size(port, stream, 1 << 20);
	}
	if (strcmp(how, "size-late") == 0) {
		send_work(port, stream, 1);
		send_size(port, stream, 1);
	}
	if (strcmp(how, "size-cut") == 0)
		send_frame(port, SIZE, 0, stream, ended, 7);
	if (strcmp(how, "half") == 0) {
		send_size(port, stream, 1 << 20);
		send_work(port, stream, 100000);
	}
	if (strcmp(how, "drip") == 0)
		drip(port, stream);
	if (strcmp(how, "flood") == 0)
		for (send_size(port, stream, 1);;)
			send_work(port, stream, DATA_MAX);
	if (strcmp(how, "success-early") == 0) {
		send_work(port, stream, 100000);
		send_frame(port, RESULT, 0, stream, success, sizeof(success));
	}
	if (strcmp(how, "unknown") == 0)
		send_frame(port, 47, 0, stream, "x", 1);
	if (strcmp(how, "hosts-frame") == 0)
		send_frame(port, COLLECT, 0, stream, NULL, 0);
	if (strcmp(how, "version") == 0)
		send_hello(port, 77);
	if (strcmp(how, "exec-answer") == 0) {
		send_work(port, stream, 1000);
		send_u32(port, EXEC_OK, 0, stream, 7);
	}
	if (strcmp(how, "exit-again") == 0) {
		send_work(port, stream, 1000);
		send_frame(port, EXIT, 0, stream, ended, sizeof(ended));
	}
	if (strcmp(how, "two-channels") == 0)
		send_frame(port, DATA, ERR, stream, "x", 1);
	if (strcmp(how, "epoch") == 0)
		send_lie(port, DATA, OUT, stream, 9, 1, "x", 1);
	if (strcmp(how, "dies") == 0)
		_exit(0);
	if (strcmp(how, "reconnects") == 0) {
		send_work(port, stream, 1000);
		port = reopen(port);
		send_work(port, stream, 1000);
		send_end(port, stream);
	}
	/* honest frames around what is no work at all */
	if (strcmp(how, "size-small") == 0)
		send_size(port, stream, 1);
	if (strcmp(how, "size-large") == 0)
		send_size(port, stream, 1 << 30);
	if (strncmp(how, "size-", 5) == 0 || strcmp(how, "no-size") == 0) {
		send_work(port, stream, 100000);
		send_end(port, stream);
	}
	if (strcmp(how, "nothing") == 0)
		send_end(port, stream);
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
	else if (strncmp(how, "end-", 4) == 0)
		at_the_end(port, how + 4);
	else
		before_start(port, how);
	rest();
	return 0;
}
