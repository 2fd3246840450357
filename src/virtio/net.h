/*
 * net: what else the owner of a network card (devices.h) may ask of it. All on the loop's thread,
 * or before the loop runs.
 *
 * Shape     on the socket: u32 big endian, 14 to 65534; then as many bytes of an Ethernet frame.
 *           No virtio header crosses it, and no offload is offered: frames are whole.
 * Lost      when the gate breaks that, closes its end or fails, the card stops for good: the link
 *           is down, the guest's frames are dropped. The owner is told once, and closes the
 *           socket when the device is freed.
 * Restore   a new socket begins with a whole frame. A frame sent in part when the guest was saved
 *           is not sent again; what was received and not yet taken is lost, as frames may be.
 */
#pragma once

#include "virtio/devices.h"

struct net_counts {
	uint64_t sent, received;    /* frames */
	uint64_t sent_refused;      /* from the guest: too short, too long, or with an offload */
	uint64_t sent_dropped;      /* while there was no link */
	uint64_t received_no_place; /* the guest's buffer was too small for it */
};

/* Called when the gate is lost, with the reason, on the loop's thread. */
void net_on_lost(struct virtio_dev *dev, void (*fn)(void *arg, const char *why), void *arg);

/* Why the gate is lost; NULL: it is not. */
const char *net_lost(const struct virtio_dev *dev);

void net_get_counts(const struct virtio_dev *dev, struct net_counts *ret);
