/*
 * console_rig: a console on the test driver, with the far ends of its log and of the agent's port.
 */
#pragma once

#include "virtio/console.h"
#include "virtio_driver.h"

#include "base/fdio.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

enum {
	RIG_LOG_RX,
	RIG_LOG_TX,
	RIG_CONTROL_RX,
	RIG_CONTROL_TX,
	RIG_AGENT_RX,
	RIG_AGENT_TX,
	RIG_QUEUES,
};

/* VIRTIO 1.2, 5.3.6.2 */
enum {
	EV_DEVICE_READY = 0,
	EV_PORT_ADD = 1,
	EV_PORT_READY = 3,
	EV_CONSOLE_PORT = 4,
	EV_PORT_OPEN = 6,
	EV_PORT_NAME = 7,
};

#define RIG_MULTIPORT (UINT64_C(1) << 1)

enum { RIG_CONTROL_BYTES = 64, RIG_PAGE = 4096 };

struct rig {
	struct vdriver d;
	struct virtio_dev *dev;
	int log[2]; /* [0] is ours to read */
	int agent;  /* our end */
	int agent_dev;
	uint64_t buf[RIG_QUEUES][VDRIVER_BUFS_MAX]; /* where the buffer of a head lies */
};

struct said {
	uint32_t port;
	uint16_t event;
	uint16_t value;
	uint32_t len; /* of the whole message */
	const char *text;
};

static inline void rig_fds(struct rig *r)
{
	int pair[2];
	struct err e;

	CHECK_EQ(pipe2(r->log, O_CLOEXEC | O_NONBLOCK), 0);
	CHECK_OK(fd_socketpair(pair, &e), &e);
	CHECK_EQ(fd_set_nonblock(pair[0]), 0);
	r->agent = pair[0];
	r->agent_dev = pair[1];
}

static inline void rig_device(struct rig *r, bool with_agent)
{
	struct virtio_place at = vdriver_place(&r->d);
	struct console_config c = { .log_fd = r->log[1], .agent_fd = -1 };
	struct err e;

	if (with_agent)
		c.agent_fd = r->agent_dev;
	CHECK_OK(console_new(&at, &c, &r->dev, &e), &e);
}

static inline void rig_init(struct rig *r, bool with_agent)
{
	vdriver_init(&r->d);
	rig_fds(r);
	rig_device(r, with_agent);
}

static inline void rig_fini(struct rig *r)
{
	vdriver_fini(&r->d);
	(void)close(r->log[0]);
	(void)close(r->log[1]);
	if (r->agent >= 0)
		(void)close(r->agent);
	if (r->agent_dev >= 0)
		(void)close(r->agent_dev);
}

/* Waits for the next used entry. An interrupt may have been acknowledged before it came, so the
 * queue decides and not the interrupt. */
static inline bool rig_wait_used(struct rig *r, unsigned queue, uint16_t *ret_head,
                                 uint32_t *ret_len)
{
	struct pollfd p = { .fd = r->d.irq_fd, .events = POLLIN };

	for (;;) {
		if (vdriver_used(&r->d, queue, ret_head, ret_len))
			return true;
		if ((r->d.accepted & VIRTIO_F_EVENT_IDX) != 0)
			vdriver_set_used_event(&r->d, queue, r->d.q[queue].next_used);
		if (vdriver_used(&r->d, queue, ret_head, ret_len))
			return true;
		if (poll(&p, 1, VDRIVER_WAIT_MS) != 1)
			return false;
		(void)vdriver_interrupt(&r->d, 0);
	}
}

/* One chain, until it is used: its length. */
static inline int64_t rig_request(struct rig *r, unsigned queue, const struct vbuf *bufs,
                                  unsigned n)
{
	uint16_t head = vdriver_add(&r->d, queue, bufs, n);
	uint16_t got;
	uint32_t len;

	vdriver_kick(&r->d, queue);
	return rig_wait_used(r, queue, &got, &len) && got == head ? (int64_t)len : -1;
}

/* A buffer for the device to write to. */
static inline void rig_offer(struct rig *r, unsigned queue, uint32_t len)
{
	struct vbuf b = { .at = vdriver_alloc(&r->d, len, 8), .len = len, .writable = true };
	uint16_t head = vdriver_add(&r->d, queue, &b, 1);

	r->buf[queue][head] = b.at;
}

static inline void rig_say(struct rig *r, uint32_t port, uint16_t event, uint16_t value)
{
	struct vbuf b = { .at = vdriver_alloc(&r->d, 8, 8), .len = 8 };
	struct buf raw;

	buf_init(&raw, vdriver_at(&r->d, b.at, 8), 8);
	buf_put_le32(&raw, port);
	buf_put_le16(&raw, event);
	buf_put_le16(&raw, value);
	CHECK_EQ(rig_request(r, RIG_CONTROL_TX, &b, 1), 0);
}

/* Waits for the device's next control message; its buffer is offered again. */
static inline struct said rig_hear(struct rig *r)
{
	struct said got = { 0 };
	struct span in;
	uint16_t head;
	uint32_t len;
	struct vbuf b = { .len = RIG_CONTROL_BYTES, .writable = true };

	CHECK(rig_wait_used(r, RIG_CONTROL_RX, &head, &len));
	b.at = r->buf[RIG_CONTROL_RX][head];
	in = span_of(vdriver_at(&r->d, b.at, len), len);
	CHECK(take_le32(&in, &got.port) && take_le16(&in, &got.event) &&
	      take_le16(&in, &got.value));
	got.len = len;
	if (in.len > 0)
		got.text = (const char *)in.at;
	r->buf[RIG_CONTROL_RX][vdriver_add(&r->d, RIG_CONTROL_RX, &b, 1)] = b.at;
	vdriver_kick(&r->d, RIG_CONTROL_RX);
	return got;
}

/* Is the next message this one? */
static inline void rig_expect(struct rig *r, uint32_t port, uint16_t event, uint16_t value)
{
	struct said got = rig_hear(r);

	CHECK_EQ(got.port, port);
	CHECK_EQ(got.event, event);
	CHECK_EQ(got.value, value);
}

static inline bool rig_silent(struct rig *r)
{
	uint16_t head;
	uint32_t len;

	return !vdriver_used(&r->d, RIG_CONTROL_RX, &head, &len);
}

static inline void rig_probe(struct rig *r)
{
	CHECK(vdriver_probe(&r->d, RIG_MULTIPORT | VIRTIO_F_EVENT_IDX, 0));
	for (int i = 0; i < 16; i++)
		rig_offer(r, RIG_CONTROL_RX, RIG_CONTROL_BYTES);
}

/* All a driver says and hears until both ports are there. */
static inline void rig_meet(struct rig *r)
{
	rig_probe(r);
	rig_say(r, UINT32_MAX, EV_DEVICE_READY, 1);
	rig_expect(r, 0, EV_PORT_ADD, 1);
	rig_expect(r, 1, EV_PORT_ADD, 1);
	rig_say(r, 0, EV_PORT_READY, 1);
	rig_expect(r, 0, EV_CONSOLE_PORT, 1);
	rig_expect(r, 0, EV_PORT_OPEN, 1);
	rig_say(r, 1, EV_PORT_READY, 1);
	rig_expect(r, 1, EV_PORT_NAME, 1);
}

/* And until a program in the guest has the agent's port open, with a host at the other end. */
static inline void rig_start(struct rig *r)
{
	rig_init(r, true);
	vdriver_start(&r->d, r->dev);
	rig_meet(r);
	rig_expect(r, 1, EV_PORT_OPEN, 1);
	rig_say(r, 1, EV_PORT_OPEN, 1);
}

/* Waits until all that was made available is used. */
static inline void rig_collect(struct rig *r, unsigned queue)
{
	uint16_t head;
	uint32_t len;

	while (r->d.q[queue].next_used != r->d.q[queue].next_avail)
		CHECK(rig_wait_used(r, queue, &head, &len));
}

/* Sends text as one chain and waits until it is taken. */
static inline void rig_send(struct rig *r, unsigned queue, const char *text)
{
	uint32_t len = (uint32_t)strlen(text);
	struct vbuf b = { .at = vdriver_alloc(&r->d, len, 1), .len = len };

	memcpy(vdriver_at(&r->d, b.at, len), text, len);
	CHECK_EQ(rig_request(r, queue, &b, 1), 0);
}

/* Reads exactly len bytes from a non-blocking fd. */
static inline void rig_read(int fd, void *ret, size_t len)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint8_t *to = ret;

	while (len > 0) {
		ssize_t n;

		CHECK_EQ(poll(&p, 1, VDRIVER_WAIT_MS), 1);
		n = read(fd, to, len);
		CHECK(n > 0);
		to += n;
		len -= (size_t)n;
	}
}

static inline void rig_read_text(int fd, const char *text)
{
	char got[256];
	size_t len = strlen(text);

	CHECK(len <= sizeof(got));
	rig_read(fd, got, len);
	CHECK_MEM(span_of(got, len), span_str(text));
}

static inline bool rig_nothing_to_read(int fd)
{
	char c;

	return read(fd, &c, 1) < 0 && errno == EAGAIN;
}

struct rig_counts_call {
	struct rig *rig;
	struct console_counts got;
};

static inline void rig_counts_job(void *arg)
{
	struct rig_counts_call *c = arg;

	console_get_counts(c->rig->dev, &c->got);
}

static inline struct console_counts rig_counts(struct rig *r)
{
	struct rig_counts_call c = { .rig = r };

	vdriver_on_loop(&r->d, rig_counts_job, &c);
	return c.got;
}

struct rig_agent_call {
	struct rig *rig;
	int fd;
	int r;
};

static inline void rig_agent_job(void *arg)
{
	struct rig_agent_call *c = arg;

	c->r = console_set_agent(c->rig->dev, c->fd, NULL);
}

/* Gives the agent's port another socket; the old ends are closed. */
static inline void rig_new_agent(struct rig *r)
{
	struct rig_agent_call c = { .rig = r };
	int pair[2];
	struct err e;

	CHECK_OK(fd_socketpair(pair, &e), &e);
	CHECK_EQ(fd_set_nonblock(pair[0]), 0);
	c.fd = pair[1];
	vdriver_on_loop(&r->d, rig_agent_job, &c);
	CHECK_EQ(c.r, 0);
	if (r->agent >= 0)
		(void)close(r->agent);
	if (r->agent_dev >= 0)
		(void)close(r->agent_dev);
	r->agent = pair[0];
	r->agent_dev = pair[1];
}
