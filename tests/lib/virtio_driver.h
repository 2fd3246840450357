/*
 * virtio_driver: the other side of a device: a small driver with memory, an interrupt line and a
 * loop of its own, for the tests of devices and of the transport.
 *
 *	struct vdriver d;
 *	struct virtio_dev *dev;
 *
 *	vdriver_init(&d);
 *	place = vdriver_place(&d);
 *	CHECK_OK(rng_new(&place, &dev, &e), &e);
 *	vdriver_start(&d, dev);                        // the loop runs, in a thread
 *	CHECK(vdriver_probe(&d, 0, 0));                // negotiated, queues set up, DRIVER_OK
 *	gpa = vdriver_alloc(&d, 64, 1);
 *	head = vdriver_add(&d, 0, &(struct vbuf){ gpa, 64, true }, 1);
 *	vdriver_kick(&d, 0);
 *	CHECK(vdriver_wait_used(&d, 0, &head, &len));  // waits for interrupts, with a deadline
 *	vdriver_fini(&d);
 *
 * Nothing here fails softly: what cannot go wrong unless the test is wrong is an assert. A test
 * that needs to lie writes rings and registers itself: d.ram, vdriver_desc(), vdriver_write32().
 * Used by fuzz targets as well, so it needs nothing of test.h.
 */
#pragma once

#include "virtio/devices.h"

#include <pthread.h>

enum {
	VDRIVER_RAM_BYTES = 4 << 20,
	VDRIVER_WAIT_MS = 20000, /* for what is sure to come, on a busy machine */
	VDRIVER_BUFS_MAX = 256,
};

/* The driver's side of one queue; the rings lie in d->ram. */
struct vqueue {
	uint16_t size;
	uint64_t desc, avail, used; /* guest addresses */
	uint16_t next_avail;        /* what we put into avail->idx next */
	uint16_t next_used;         /* the used entry we look at next */
	uint16_t next_desc;         /* descriptors are taken in turn */
};

struct vdriver {
	uint8_t *ram; /* VDRIVER_RAM_BYTES; guest address 0 is its first byte */
	struct guest_mem mem;
	struct loop *loop;
	int irq_fd;
	struct virtio_dev *dev; /* NULL before vdriver_start() */
	pthread_t thread;
	bool running;
	bool borrowed;       /* ram is another driver's: see vdriver_init_over() */
	uint64_t accepted;   /* features both sides agreed on */
	uint64_t next_free;  /* of the bump allocator */
	uint64_t interrupts; /* taken */
	struct vqueue q[VIRTIO_QUEUES_MAX];
};

/* One descriptor. */
struct vbuf {
	uint64_t at;
	uint32_t len;
	bool writable; /* by the device */
};

void vdriver_init(struct vdriver *d);
/* A second machine over the memory of the first, its driver's state copied: the side that is
 * restored. The first must outlive it, and not run meanwhile. */
void vdriver_init_over(struct vdriver *d, const struct vdriver *first);
/* Stops the loop, frees the device and the memory. */
void vdriver_fini(struct vdriver *d);

struct virtio_place vdriver_place(const struct vdriver *d);

/* Takes the device. From vdriver_run() on, only vdriver_on_loop() may touch its inside;
 * vdriver_start() does both. */
void vdriver_attach(struct vdriver *d, struct virtio_dev *dev);
void vdriver_run(struct vdriver *d);
void vdriver_start(struct vdriver *d, struct virtio_dev *dev);
/* Runs fn(arg) on the loop's thread. */
void vdriver_on_loop(struct vdriver *d, void (*fn)(void *arg), void *arg);

/* Registers and configuration space. */
uint32_t vdriver_read32(struct vdriver *d, uint32_t off);
void vdriver_write32(struct vdriver *d, uint32_t off, uint32_t v);
void vdriver_read_config(struct vdriver *d, uint32_t off, void *ret, uint32_t len);
uint64_t vdriver_offered(struct vdriver *d);

/* Reset, then up to FEATURES_OK with `want` (VERSION_1 is added) as far as it is offered. False:
 * the device did not keep FEATURES_OK. */
_must_ bool vdriver_negotiate(struct vdriver *d, uint64_t want);
/* Rings for one queue, with `size` places (0: as many as there may be). False: no such queue. */
_must_ bool vdriver_queue(struct vdriver *d, unsigned index, uint16_t size);
/* DRIVER_OK. False: NEEDS_RESET. */
_must_ bool vdriver_ready(struct vdriver *d);
/* All three, with every queue there is. */
_must_ bool vdriver_probe(struct vdriver *d, uint64_t want, uint16_t size);
void vdriver_reset(struct vdriver *d);
_must_ bool vdriver_needs_reset(struct vdriver *d);
/* Waits until it does. */
_must_ bool vdriver_wait_needs_reset(struct vdriver *d);

/* Fresh memory, filled with zeros; never given back. */
uint64_t vdriver_alloc(struct vdriver *d, uint64_t bytes, uint64_t align);
void *vdriver_at(struct vdriver *d, uint64_t gpa, uint64_t len);

/* Writes one descriptor, whatever it says. */
void vdriver_desc(struct vdriver *d, unsigned queue, uint16_t index, uint64_t at, uint32_t len,
                  uint16_t flags, uint16_t next);
/* Makes a chain of n descriptors (those next in turn) available; its head. */
uint16_t vdriver_add(struct vdriver *d, unsigned queue, const struct vbuf *bufs, unsigned n);
/* Makes head available as it stands. */
void vdriver_avail(struct vdriver *d, unsigned queue, uint16_t head);
void vdriver_kick(struct vdriver *d, unsigned queue); /* by a store to QueueNotify */
void vdriver_ring(struct vdriver *d, unsigned queue); /* by the eventfd, as an ioeventfd */

/* The next used entry, if there is one. */
_must_ bool vdriver_used(struct vdriver *d, unsigned queue, uint16_t *ret_head, uint32_t *ret_len);
/* Waits for it, by taking interrupts. False: none came within VDRIVER_WAIT_MS. */
_must_ bool vdriver_wait_used(struct vdriver *d, unsigned queue, uint16_t *ret_head,
                              uint32_t *ret_len);
/* Waits for an interrupt, acknowledges it; the bits it had. 0: none came in timeout_ms. */
uint32_t vdriver_interrupt(struct vdriver *d, int timeout_ms);

/* Add, kick, wait: the used length, or -1. */
int64_t vdriver_request(struct vdriver *d, unsigned queue, const struct vbuf *bufs, unsigned n);

/* With EVENT_IDX: the used index after which the driver wants an interrupt (set by
 * vdriver_wait_used), and how far the device says it has read. */
void vdriver_set_used_event(struct vdriver *d, unsigned queue, uint16_t v);
uint16_t vdriver_avail_event(struct vdriver *d, unsigned queue);
/* Without it: the flags of either ring. */
void vdriver_set_avail_flags(struct vdriver *d, unsigned queue, uint16_t v);
uint16_t vdriver_used_flags(struct vdriver *d, unsigned queue);
