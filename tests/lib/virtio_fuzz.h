/*
 * virtio_fuzz: input as what a hostile guest does to one device: its memory, then stores, kicks,
 * resets and snapshots, one after another. No loop runs; kicks are served when the input says so.
 *
 *	struct vfuzz_target t = { .make = make_rng };
 *
 *	vfuzz_run(&t, span_of(data, size));
 *
 * Input     u16 bytes of memory image | the image, from address 0 | operations until the end;
 *           each is one byte (modulo VFUZZ_OPS) and what vfuzz.c takes behind it. What is missing
 *           reads as zeros.
 * Checks    beside crashes: a saved device loads again and saves the same; after a reset the
 *           device answers like a new one; no access writes beyond its width
 */
#pragma once

#include "virtio/devices.h"

enum {
	VFUZZ_RAM_BYTES = 1 << 15,
	VFUZZ_OPS_MAX = 96, /* an input, so that none takes long */
};

/* The operations, in the input's numbers. */
enum vfuzz_op {
	VFUZZ_WRITE,  /* u8 index of a register, u32 value */
	VFUZZ_READ,   /* u16 offset, u8 width */
	VFUZZ_STORE,  /* u16 offset, u8 width, u64 value */
	VFUZZ_RING,   /* u8 queue: as an ioeventfd does */
	VFUZZ_SERVE,  /* the loop's turn */
	VFUZZ_POKE,   /* u16 address, u64 value: into memory */
	VFUZZ_LIVE,   /* u8 size: negotiates all and sets every queue up; rings as vfuzz_ring() */
	VFUZZ_CHAIN,  /* u8 queue, u8 count, then each u16 address, u16 bytes, u8 writable */
	VFUZZ_RESET,  /* and a look at what must be zero after it */
	VFUZZ_MOVE,   /* pause, save, load into a new device, resume */
	VFUZZ_STAY,   /* pause, resume */
	VFUZZ_DEVICE, /* target's own, see below */
	VFUZZ_OPS,
};

struct vfuzz {
	struct guest_mem mem;
	struct loop *loop;
	int irq_fd;
	struct virtio_dev *dev;
	uint16_t next_avail[VIRTIO_QUEUES_MAX];
	uint16_t size[VIRTIO_QUEUES_MAX];
	_Alignas(4096) uint8_t ram[VFUZZ_RAM_BYTES];
};

struct vfuzz_target {
	/* A new device; arg is the target's. Its fds and the like are arg's affair. */
	int (*make)(void *arg, const struct virtio_place *at, struct virtio_dev **ret,
	            struct err *e);
	/* VFUZZ_DEVICE and, after each VFUZZ_SERVE, with in NULL: may be NULL. */
	void (*own)(void *arg, struct vfuzz *v, struct span *in);
	void *arg;
};

void vfuzz_run(const struct vfuzz_target *t, struct span in);

/* Where VFUZZ_LIVE puts the three rings of a queue. */
struct vfuzz_rings {
	uint64_t desc, avail, used;
};
struct vfuzz_rings vfuzz_rings(unsigned queue);
