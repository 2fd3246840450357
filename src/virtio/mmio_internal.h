/*
 * mmio_internal: the transport's state, shared by mmio.c (registers), mmio_dev.c (what happens on
 * the loop's thread) and mmio_state.c (snapshots).
 */
#pragma once

#include "virtio/mmio.h"

#include <pthread.h>

/* What the driver wrote, before anybody judged it. */
struct mmio_queue {
	uint32_t num;
	uint32_t ready;
	uint64_t desc, driver, device;
};

struct mmio;

/* One queue's eventfd, and how the loop's callback finds its way back. */
struct mmio_kick {
	struct mmio *mmio;
	unsigned index;
	int fd;
	unsigned watch; /* 0: none */
};

struct mmio {
	struct virtio_dev dev; /* dev.transport is this */

	/* the driver's registers: of whoever holds the lock, and of the loop's thread while it
	 * carries something out for the holder, or while no vCPU runs */
	pthread_mutex_t lock;
	uint32_t device_features_sel, driver_features_sel, queue_sel;
	uint64_t driver_features;
	struct mmio_queue regs[VIRTIO_QUEUES_MAX];

	/* both sides */
	_Atomic uint32_t status;
	_Atomic uint32_t generation;
	_Atomic uint64_t kicks, interrupts, broken, refused_writes;

	/* the loop's thread alone; but kick's fds never change, and any thread may ring them */
	struct mmio_kick kick[VIRTIO_QUEUES_MAX];
	bool reset_due; /* ops->activate or ops->load was called, ops->reset not yet */
	bool active;    /* activated, successfully */
	bool paused;
	bool loaded; /* by virtio_load(): resume has to activate it */
	unsigned broken_lines;
};

static inline struct mmio *mmio_of(const struct virtio_dev *dev)
{
	return dev->transport;
}

/* Each on the loop's thread; reached through loop_call(). */
void mmio_activate(struct mmio *m); /* DRIVER_OK */
void mmio_reset(struct mmio *m);

/* Copies the registers of the ready queues into the device. False: one of them is no queue. */
_must_ bool mmio_freeze_queues(struct mmio *m);

/* Features and queues are as mmio_freeze_queues() left them: lets the device begin. */
void mmio_begin(struct mmio *m);

/* Sets bits of the interrupt status and interrupts. */
void mmio_interrupt(struct mmio *m, uint32_t bits);
