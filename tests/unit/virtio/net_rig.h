/* net_rig: a network card on the test driver, with the gate's end of its socket. */
#pragma once

#include "virtio/net.h"

#include "virtio_driver.h"

#include "base/fdio.h"
#include "test.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

enum {
	RX = 0,
	TX = 1,
	HDR = 12,
	PAGE = 4096,
	WIRE_MAX = 4 + NET_FRAME_MAX,
	RX_ROOM = HDR + NET_FRAME_MAX,
};

#define F_MTU    (UINT64_C(1) << 3)
#define F_MAC    (UINT64_C(1) << 5)
#define F_STATUS (UINT64_C(1) << 16)
#define ALL      (F_MTU | F_MAC | F_STATUS | VIRTIO_F_EVENT_IDX)

static const uint8_t mac[6] = { 0x02, 1, 2, 3, 4, 5 };

struct rig {
	struct vdriver d;
	struct virtio_dev *dev;
	int gate, gate_dev;
	uint64_t buf[2][VDRIVER_BUFS_MAX];
	const char *why;
	unsigned lost;
};

static inline void on_lost(void *arg, const char *why)
{
	struct rig *r = arg;

	r->why = why;
	r->lost++;
}

static inline void open_device(struct rig *r)
{
	struct virtio_place at = vdriver_place(&r->d);
	struct net_config c = { 0 };
	int pair[2];
	struct err e;

	CHECK_OK(fd_socketpair(pair, &e), &e);
	CHECK_EQ(fd_set_nonblock(pair[0]), 0);
	CHECK_EQ(fd_set_nonblock(pair[1]), 0);
	r->gate = pair[0];
	r->gate_dev = pair[1];
	c.fd = pair[1];
	memcpy(c.mac, mac, sizeof(mac));
	CHECK_OK(net_new(&at, &c, &r->dev, &e), &e);
	net_on_lost(r->dev, on_lost, r);
}

static inline void start(struct rig *r)
{
	*r = (struct rig){ 0 };
	vdriver_init(&r->d);
	open_device(r);
	vdriver_start(&r->d, r->dev);
	CHECK(vdriver_probe(&r->d, ALL, 0));
}

static inline void fini(struct rig *r)
{
	vdriver_fini(&r->d);
	if (r->gate >= 0)
		(void)close(r->gate);
	(void)close(r->gate_dev);
}

static inline uint8_t byte_of(uint64_t frame, uint64_t i)
{
	return (uint8_t)(frame * 37 + i * 7 + (i >> 8));
}

static inline void fill_frame(uint8_t *to, uint64_t frame, size_t len)
{
	for (size_t i = 0; i < len; i++)
		to[i] = byte_of(frame, i);
}

static inline void check_frame(const uint8_t *at, uint64_t frame, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (at[i] != byte_of(frame, i))
			test_fail(__FILE__, __LINE__, "frame %llu: byte %zu differs",
			          (unsigned long long)frame, i);
}

/* An interrupt may have been acknowledged before it came: the queue decides. */
static inline bool wait_used(struct rig *r, unsigned queue, uint16_t *ret_head, uint32_t *ret_len)
{
	struct pollfd p = { .fd = r->d.irq_fd, .events = POLLIN };

	for (;;) {
		if (vdriver_used(&r->d, queue, ret_head, ret_len))
			return true;
		vdriver_set_used_event(&r->d, queue, r->d.q[queue].next_used);
		if (vdriver_used(&r->d, queue, ret_head, ret_len))
			return true;
		if (poll(&p, 1, VDRIVER_WAIT_MS) != 1)
			return false;
		(void)vdriver_interrupt(&r->d, 0);
	}
}

static inline void collect(struct rig *r, unsigned queue)
{
	uint16_t head;
	uint32_t len;

	while (r->d.q[queue].next_used != r->d.q[queue].next_avail)
		CHECK(wait_used(r, queue, &head, &len));
}

struct counts_call {
	struct rig *rig;
	struct net_counts got;
	const char *lost;
};

static inline void counts_job(void *arg)
{
	struct counts_call *c = arg;

	net_get_counts(c->rig->dev, &c->got);
	c->lost = net_lost(c->rig->dev);
}

static inline struct net_counts counts(struct rig *r)
{
	struct counts_call c = { .rig = r };

	vdriver_on_loop(&r->d, counts_job, &c);
	return c.got;
}

static const char *lost(struct rig *r)
{
	struct counts_call c = { .rig = r };

	vdriver_on_loop(&r->d, counts_job, &c);
	return c.lost;
}

static inline uint16_t link_status(struct rig *r)
{
	uint8_t raw[2];

	vdriver_read_config(&r->d, 6, raw, 2);
	return (uint16_t)(raw[0] | raw[1] << 8);
}

static inline void wait_lost(struct rig *r, const char *why)
{
	while (link_status(r) != 0)
		CHECK(vdriver_interrupt(&r->d, VDRIVER_WAIT_MS) != 0 || link_status(r) == 0);
	CHECK_STR(lost(r), why);
	CHECK_EQ(r->lost, 1);
	CHECK_STR(r->why, why);
}

/* A frame of the guest's: header and frame in pieces of at most `piece` bytes. Not kicked. */
static inline void put(struct rig *r, uint64_t at, uint64_t frame, uint32_t len, uint32_t piece)
{
	struct vbuf b[64];
	unsigned n = 0;

	memset(vdriver_at(&r->d, at, HDR), 0, HDR);
	fill_frame(vdriver_at(&r->d, at + HDR, len), frame, len);
	for (uint32_t off = 0; off < HDR + len; n++) {
		uint32_t take = HDR + len - off < piece ? HDR + len - off : piece;

		CHECK(n < 64);
		b[n] = (struct vbuf){ .at = at + off, .len = take };
		off += take;
	}
	(void)vdriver_add(&r->d, TX, b, n);
}

static inline void read_exactly(int fd, void *ret, size_t len)
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

/* The gate's next frame, which must be this one. */
static inline void gate_expect(struct rig *r, uint64_t frame, uint32_t len)
{
	static uint8_t got[NET_FRAME_MAX];
	uint32_t prefix;

	read_exactly(r->gate, &prefix, 4);
	CHECK_EQ(be32toh(prefix), len);
	read_exactly(r->gate, got, len);
	check_frame(got, frame, len);
}

static inline void gate_send_all(struct rig *r, const uint8_t *at, size_t len)
{
	struct pollfd p = { .fd = r->gate, .events = POLLOUT };

	while (len > 0) {
		ssize_t n;

		CHECK_EQ(poll(&p, 1, VDRIVER_WAIT_MS), 1);
		n = send(r->gate, at, len, MSG_NOSIGNAL);
		CHECK(n > 0);
		at += n;
		len -= (size_t)n;
	}
}

static inline size_t wire(uint8_t *to, uint64_t frame, uint32_t len)
{
	uint32_t prefix = htobe32(len);

	memcpy(to, &prefix, 4);
	fill_frame(to + 4, frame, len);
	return 4 + (size_t)len;
}

static inline void gate_send(struct rig *r, uint64_t frame, uint32_t len)
{
	static uint8_t raw[WIRE_MAX];

	gate_send_all(r, raw, wire(raw, frame, len));
}

/* A receive buffer as Linux makes them: the header, then pages. */
static inline void offer_at(struct rig *r, uint64_t at, uint32_t room)
{
	struct vbuf b[20] = { { .at = at, .len = HDR, .writable = true } };
	unsigned n = 1;
	uint16_t head;

	for (uint32_t off = HDR; off < room; n++) {
		uint32_t take = room - off < PAGE ? room - off : PAGE;

		b[n] = (struct vbuf){ .at = at + off, .len = take, .writable = true };
		off += take;
	}
	head = vdriver_add(&r->d, RX, b, n);
	r->buf[RX][head] = at;
}

static inline void offer(struct rig *r, uint32_t room)
{
	offer_at(r, vdriver_alloc(&r->d, room, 8), room);
}

/* The guest's next frame, which must be this one. Returns its buffer. */
static inline uint64_t guest_expect(struct rig *r, uint64_t frame, uint32_t len)
{
	static const uint8_t hdr[HDR] = { [10] = 1 };
	uint16_t head;
	uint32_t got;
	uint64_t at;

	CHECK(wait_used(r, RX, &head, &got));
	CHECK_EQ(got, HDR + len);
	at = r->buf[RX][head];
	CHECK_MEM(span_of(vdriver_at(&r->d, at, HDR), HDR), span_of(hdr, HDR));
	check_frame(vdriver_at(&r->d, at + HDR, len), frame, len);
	return at;
}
