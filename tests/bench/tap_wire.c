/*
 * A wire between two ends that speak Ethernet: for measuring what stands at a guest's network card
 * without a guest, whose software CPU would be all there is to see.
 *
 *	tap_wire END END [DELAY_MS]
 *	END: fd:N          a stream of frames with a big-endian length each, as QEMU has it
 *	     tap:NAME:PID  a TAP made in the network namespace of that process
 *
 * With a delay each frame is held back that long, so that round trips can be counted. Says "ready"
 * when both ends are there; ends with its standard input or either end.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { FRAME_MAX = 65534, ROOM = 4 << 20, HELD_MAX = 4096, PREFIX = 4 };

struct end {
	int fd;
	bool tap;
	uint8_t *in; /* of a stream: what was read and is no whole frame yet */
	size_t in_len;
	uint8_t *out; /* of a stream: what could not be written yet */
	size_t out_len;
};

struct held {
	uint64_t due_us;
	uint32_t len;
	uint8_t *frame;
	struct end *to;
};

static struct held held[HELD_MAX];
static unsigned held_first, held_count;
static uint64_t delay_us;

static _Noreturn void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t number(const char *text)
{
	uint64_t n = 0;

	for (; *text >= '0' && *text <= '9' && n < UINT32_MAX; text++)
		n = n * 10 + (uint64_t)(*text - '0');
	return n;
}

static uint64_t now_us(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int tap_open(const char *name, const char *pid)
{
	struct ifreq want = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	char path[64];
	int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int there, tap;

	(void)snprintf(path, sizeof(path), "/proc/%s/ns/net", pid);
	there = open(path, O_RDONLY | O_CLOEXEC);
	if (own < 0 || there < 0 || setns(there, CLONE_NEWNET) < 0)
		die(path);
	tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	(void)snprintf(want.ifr_name, sizeof(want.ifr_name), "%s", name);
	if (tap < 0 || ioctl(tap, TUNSETIFF, &want) < 0)
		die(name);
	if (setns(own, CLONE_NEWNET) < 0)
		die("setns");
	(void)close(own);
	(void)close(there);
	return tap;
}

static struct end end_open(char *word)
{
	struct end e = { .in = malloc(ROOM), .out = malloc(ROOM) };
	char *kind = strsep(&word, ":"), *first = strsep(&word, ":");

	if (!e.in || !e.out || !first)
		die("arguments");
	e.tap = strcmp(kind, "tap") == 0;
	e.fd = e.tap ? tap_open(first, word ? word : "self") : (int)number(first);
	if (fcntl(e.fd, F_SETFL, fcntl(e.fd, F_GETFL) | O_NONBLOCK) < 0)
		die("fcntl");
	return e;
}

static void flush(struct end *e)
{
	size_t done = 0;

	while (done < e->out_len) {
		ssize_t n = write(e->fd, e->out + done, e->out_len - done);

		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0)
			exit(0);
		done += (size_t)n;
	}
	memmove(e->out, e->out + done, e->out_len - done);
	e->out_len -= done;
}

static void put(struct end *to, const uint8_t *frame, uint32_t len)
{
	if (to->tap) {
		(void)!write(to->fd, frame, len); /* a full queue loses frames, as a card does */
		return;
	}
	if (to->out_len + PREFIX + len > ROOM)
		return;
	for (unsigned i = 0; i < PREFIX; i++)
		to->out[to->out_len++] = (uint8_t)(len >> (24 - 8 * i));
	memcpy(to->out + to->out_len, frame, len);
	to->out_len += len;
}

static void hold(struct end *to, const uint8_t *frame, uint32_t len)
{
	struct held *h = &held[(held_first + held_count) % HELD_MAX];

	if (delay_us == 0) {
		put(to, frame, len);
		return;
	}
	if (held_count == HELD_MAX)
		return;
	*h = (struct held){ .due_us = now_us() + delay_us, .len = len, .to = to };
	h->frame = malloc(len);
	if (!h->frame)
		die("malloc");
	memcpy(h->frame, frame, len);
	held_count++;
}

static void release(void)
{
	while (held_count > 0 && held[held_first].due_us <= now_us()) {
		put(held[held_first].to, held[held_first].frame, held[held_first].len);
		free(held[held_first].frame);
		held_first = (held_first + 1) % HELD_MAX;
		held_count--;
	}
}

static void take_stream(struct end *from, struct end *to)
{
	size_t at = 0;
	ssize_t n = read(from->fd, from->in + from->in_len, ROOM - from->in_len);

	if (n == 0 || (n < 0 && errno != EAGAIN))
		exit(0);
	from->in_len += n > 0 ? (size_t)n : 0;
	while (from->in_len - at >= PREFIX) {
		const uint8_t *p = from->in + at;
		uint32_t len =
			(uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];

		if (len > FRAME_MAX)
			exit(1);
		if (from->in_len - at - PREFIX < len)
			break;
		hold(to, p + PREFIX, len);
		at += PREFIX + len;
	}
	memmove(from->in, from->in + at, from->in_len - at);
	from->in_len -= at;
}

static void take(struct end *from, struct end *to)
{
	if (!from->tap) {
		take_stream(from, to);
		return;
	}
	/* a few at a time, so that the other side gets its turn */
	for (int i = 0; i < 16 && to->out_len < ROOM / 2; i++) {
		ssize_t n = read(from->fd, from->in, FRAME_MAX);

		if (n <= 0)
			return;
		hold(to, from->in, (uint32_t)n);
	}
}

static int wait_ms(void)
{
	uint64_t now = now_us();

	if (held_count == 0)
		return -1;
	return held[held_first].due_us <= now ? 0
	                                      : (int)((held[held_first].due_us - now + 999) / 1000);
}

int main(int argc, char **argv)
{
	struct end end[2];

	if (argc < 3)
		die("tap_wire END END [DELAY_MS]");
	for (int i = 0; i < 2; i++)
		end[i] = end_open(argv[1 + i]);
	delay_us = argc > 3 ? number(argv[3]) * 1000 : 0;
	(void)puts("ready");
	(void)fflush(stdout);
	for (;;) {
		struct pollfd p[3] = { { .fd = 0, .events = POLLIN } };

		for (int i = 0; i < 2; i++) {
			p[1 + i].fd = end[i].fd;
			p[1 + i].events = end[1 - i].out_len < ROOM / 2 ? POLLIN : 0;
			p[1 + i].events |= end[i].out_len > 0 ? POLLOUT : 0;
		}
		if (poll(p, 3, wait_ms()) < 0 && errno != EINTR)
			die("poll");
		if (p[0].revents)
			return 0;
		for (int i = 0; i < 2; i++)
			if (p[1 + i].revents & (POLLIN | POLLHUP))
				take(&end[i], &end[1 - i]);
		release();
		for (int i = 0; i < 2; i++)
			if (!end[i].tap && end[i].out_len > 0)
				flush(&end[i]);
	}
}
