/*
 * How fast bytes pass the console and the network card, with the test driver as the guest, against
 * the same bytes written to a socket directly: in one call a frame, and in one a page, as a machine
 * monitor does that writes segment by segment. One JSON object a line; `ratio` is to the first.
 *
 *	meson test --benchmark virtio/streams --verbose
 */
#include "virtio/console.h"
#include "virtio/net.h"
#include "virtio_driver.h"

#include "base/clock.h"
#include "base/fdio.h"

#include <assert.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum {
	PAGE = 4096,
	FRAME = 65536, /* the agent's: a header, then as many bytes in pages, a chain each */
	HEADER = 16,
	FRAMES = 8192,
	SMALL = 200000,
	UNDER_WAY = 6,
	RUNS = 5,
	HDR = 12,
	READ_BYTES = 256 << 10,
};

static double first_mibs;

static void report(const char *name, uint64_t bytes, uint64_t count, uint64_t us, uint64_t extra)
{
	double mibs = (double)bytes / (double)us * 1e6 / (1 << 20);

	if (first_mibs <= 0)
		first_mibs = mibs;
	(void)printf("{\"name\": \"%s\", \"mib_per_s\": %.0f, \"frames_per_s\": %.0f, "
	             "\"ratio\": %.2f, \"interrupts\": %llu}\n",
	             name, mibs, (double)count / (double)us * 1e6, mibs / first_mibs,
	             (unsigned long long)extra);
}

/* -- a reader in a thread of its own --------------------------------------------------------------
 */

struct reader {
	int fd;
	uint64_t left;
	pthread_t thread;
};

static void *read_all(void *arg)
{
	static uint8_t buf[READ_BYTES];
	struct reader *r = arg;

	while (r->left > 0) {
		ssize_t n = read(r->fd, buf, sizeof(buf));

		assert(n > 0);
		r->left -= (uint64_t)n;
	}
	return NULL;
}

static void reader_start(struct reader *r, int fd, uint64_t bytes)
{
	*r = (struct reader){ .fd = fd, .left = bytes };
	if (pthread_create(&r->thread, NULL, read_all, r) != 0)
		assert(false);
}

static void pair_of(int pair[2])
{
	int r = fd_socketpair(pair, NULL);

	assert(r == 0);
}

static void plain(const char *name, size_t step)
{
	static uint8_t page[FRAME];
	struct reader r;
	uint64_t start;
	int pair[2];

	pair_of(pair);
	reader_start(&r, pair[1], (uint64_t)FRAMES * (FRAME + HEADER));
	start = clock_mono_ns() / 1000;
	for (int i = 0; i < FRAMES; i++) {
		ssize_t n = write(pair[0], page, HEADER);

		assert(n == HEADER);
		for (size_t off = 0; off < FRAME; off += step) {
			n = write(pair[0], page + off, step);
			assert(n == (ssize_t)step);
		}
	}
	(void)pthread_join(r.thread, NULL);
	report(name, (uint64_t)FRAMES * FRAME, FRAMES, clock_mono_ns() / 1000 - start, 0);
	(void)close(pair[0]);
	(void)close(pair[1]);
}

/* -- the guest ------------------------------------------------------------------------------------
 */

struct guest {
	struct vdriver d;
	struct virtio_dev *dev;
	int host, host_dev;
	unsigned under_way;
};

/* Kicks if the device asked for it, as a driver does. */
static void kick(struct guest *g, unsigned queue, uint16_t before)
{
	uint16_t event;
	uint16_t now = g->d.q[queue].next_avail;

	atomic_thread_fence(memory_order_seq_cst);
	event = vdriver_avail_event(&g->d, queue);
	if ((uint16_t)(now - event - 1) < (uint16_t)(now - before))
		vdriver_ring(&g->d, queue);
}

/* Takes what is used, and waits for an interrupt while more than `most` are under way. */
static void collect(struct guest *g, unsigned queue, unsigned most)
{
	struct pollfd p = { .fd = g->d.irq_fd, .events = POLLIN };
	uint16_t head;
	uint32_t len;

	for (;;) {
		while (vdriver_used(&g->d, queue, &head, &len))
			g->under_way--;
		if (g->under_way <= most)
			return;
		vdriver_set_used_event(&g->d, queue, g->d.q[queue].next_used);
		if (vdriver_used(&g->d, queue, &head, &len)) {
			g->under_way--;
			continue;
		}
		(void)poll(&p, 1, VDRIVER_WAIT_MS);
		(void)vdriver_interrupt(&g->d, 0);
	}
}

static void put(struct guest *g, unsigned queue, const struct vbuf *b, unsigned n)
{
	uint16_t before = g->d.q[queue].next_avail;

	(void)vdriver_add(&g->d, queue, b, n);
	g->under_way++;
	kick(g, queue, before);
}

static void say(struct guest *g, uint32_t port, uint16_t event)
{
	struct vbuf b = { .at = vdriver_alloc(&g->d, 8, 8), .len = 8 };
	struct buf raw;

	buf_init(&raw, vdriver_at(&g->d, b.at, 8), 8);
	buf_put_le32(&raw, port);
	buf_put_le16(&raw, event);
	buf_put_le16(&raw, 1);
	if (vdriver_request(&g->d, 3, &b, 1) != 0)
		assert(false);
}

static void open_console(struct guest *g)
{
	struct console_config c = { .log_fd = -1 };
	struct virtio_place at;
	int pair[2];
	int r;

	*g = (struct guest){ 0 };
	vdriver_init(&g->d);
	at = vdriver_place(&g->d);
	pair_of(pair);
	g->host = pair[0];
	g->host_dev = pair[1];
	c.agent_fd = pair[1];
	r = console_new(&at, &c, &g->dev, NULL);
	assert(r == 0);
	vdriver_start(&g->d, g->dev);
	if (!vdriver_probe(&g->d, VIRTIO_F_EVENT_IDX | 2, 0))
		assert(false);
	say(g, 1, 3);
	say(g, 1, 6);
}

static void close_guest(struct guest *g)
{
	vdriver_fini(&g->d);
	(void)close(g->host);
	(void)close(g->host_dev);
}

static void console_out(void)
{
	struct vbuf b[FRAME / PAGE];
	struct vbuf header;
	struct reader r;
	struct guest g;
	uint64_t start;
	uint64_t mem;

	open_console(&g);
	mem = vdriver_alloc(&g.d, FRAME, PAGE);
	header = (struct vbuf){ .at = mem, .len = HEADER };
	for (unsigned i = 0; i < FRAME / PAGE; i++)
		b[i] = (struct vbuf){ .at = mem + (uint64_t)i * PAGE, .len = PAGE };
	g.d.interrupts = 0;
	reader_start(&r, g.host, (uint64_t)FRAMES * (FRAME + HEADER));
	start = clock_mono_ns() / 1000;
	for (int i = 0; i < FRAMES; i++) {
		put(&g, 5, &header, 1);
		put(&g, 5, b, FRAME / PAGE);
		collect(&g, 5, (UNDER_WAY - 1) * 2); /* full when the last is on its way */
	}
	(void)pthread_join(r.thread, NULL);
	report("console_out", (uint64_t)FRAMES * FRAME, FRAMES, clock_mono_ns() / 1000 - start,
	       g.d.interrupts);
	close_guest(&g);
}

struct writer {
	int fd;
	uint64_t left;
	size_t step;
	const uint8_t *from;
	pthread_t thread;
};

static void *write_all(void *arg)
{
	struct writer *w = arg;

	while (w->left > 0) {
		size_t len = w->left < w->step ? w->left : w->step;
		size_t off = 0;

		while (off < len) {
			ssize_t n = write(w->fd, w->from + off, len - off);

			assert(n > 0);
			off += (size_t)n;
		}
		w->left -= len;
	}
	return NULL;
}

static void writer_start(struct writer *w)
{
	if (pthread_create(&w->thread, NULL, write_all, w) != 0)
		assert(false);
}

static void console_in(void)
{
	static const uint8_t zeros[FRAME + HEADER];
	uint64_t bytes = (uint64_t)FRAMES * (FRAME + HEADER);
	struct writer w = { .left = bytes, .step = FRAME + HEADER, .from = zeros };
	struct vbuf b = { .len = PAGE, .writable = true };
	struct pollfd p;
	struct guest g;
	uint64_t start;
	uint64_t mem;
	uint64_t got = 0;
	uint16_t head;
	uint32_t len;

	open_console(&g);
	mem = vdriver_alloc(&g.d, 64ull * PAGE, PAGE);
	for (unsigned i = 0; i < 64; i++) {
		b.at = mem + (uint64_t)i * PAGE;
		put(&g, 4, &b, 1);
	}
	g.d.interrupts = 0;
	w.fd = g.host;
	p = (struct pollfd){ .fd = g.d.irq_fd, .events = POLLIN };
	start = clock_mono_ns() / 1000;
	writer_start(&w);
	while (got < bytes) {
		while (vdriver_used(&g.d, 4, &head, &len)) {
			got += len;
			b.at = mem + (uint64_t)head % 64 * PAGE;
			put(&g, 4, &b, 1);
		}
		vdriver_set_used_event(&g.d, 4, g.d.q[4].next_used);
		if (got < bytes && g.d.q[4].next_used == *(volatile uint16_t *)vdriver_at(
								 &g.d, g.d.q[4].used + 2, 2)) {
			(void)poll(&p, 1, VDRIVER_WAIT_MS);
			(void)vdriver_interrupt(&g.d, 0);
		}
	}
	(void)pthread_join(w.thread, NULL);
	report("console_in", bytes, FRAMES, clock_mono_ns() / 1000 - start, g.d.interrupts);
	close_guest(&g);
}

static void net_out(const char *name, uint32_t len, uint64_t count)
{
	struct net_config c = { 0 };
	struct virtio_place at;
	struct vbuf b;
	struct reader r;
	struct guest g = { 0 };
	uint64_t start;
	int pair[2];
	int got;

	vdriver_init(&g.d);
	at = vdriver_place(&g.d);
	pair_of(pair);
	g.host = pair[0];
	g.host_dev = c.fd = pair[1];
	got = net_new(&at, &c, &g.dev, NULL);
	assert(got == 0);
	vdriver_start(&g.d, g.dev);
	if (!vdriver_probe(&g.d, VIRTIO_F_EVENT_IDX, 0))
		assert(false);
	b = (struct vbuf){ .at = vdriver_alloc(&g.d, HDR + len, PAGE), .len = HDR + len };
	reader_start(&r, g.host, count * (len + 4));
	start = clock_mono_ns() / 1000;
	for (uint64_t i = 0; i < count; i++) {
		put(&g, 1, &b, 1);
		collect(&g, 1, 200);
	}
	(void)pthread_join(r.thread, NULL);
	report(name, count * len, count, clock_mono_ns() / 1000 - start, g.d.interrupts);
	close_guest(&g);
}

int main(void)
{
	for (int i = 0; i < RUNS; i++) {
		plain("socket_frame", FRAME);
		plain("socket_page", PAGE);
		console_out();
		console_in();
		net_out("net_out_65534", 65534, FRAMES);
		net_out("net_out_1514", 1514, SMALL);
	}
	return 0;
}
