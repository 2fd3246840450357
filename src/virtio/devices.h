/*
 * devices: how each device is made. fds are borrowed and must outlive the device, unless said.
 */
#pragma once

#include "virtio/mmio.h"

/* What every device needs to stand on the bus. */
struct virtio_place {
	const struct guest_mem *mem;
	struct loop *loop;
	int irq_fd;
};

/* blk.c: a raw image. read_only fds may be opened O_RDONLY. */
struct blk_config {
	int fd;
	bool read_only;
	const char *serial; /* up to 20 bytes, for /sys/block/vdX/serial */
};
_must_ int blk_new(const struct virtio_place *at, const struct blk_config *c,
                   struct virtio_dev **ret, struct err *e);

/*
 * console.c: port 0 is hvc0 and its output goes to log_fd (a pipe; what does not fit is
 * dropped, and counted), port 1 is called "berm.agent" and is a byte stream to agent_fd (a
 * non-blocking stream socket). When the socket is full the guest's buffers are left in its
 * queue: nothing is kept here.
 */
struct console_config {
	int log_fd;
	int agent_fd;
};
_must_ int console_new(const struct virtio_place *at, const struct console_config *c,
                       struct virtio_dev **ret, struct err *e);

/* net.c: Ethernet frames to and from a stream socket, each behind a big-endian 32-bit length. */
enum { NET_MTU = 65520, NET_FRAME_MAX = NET_MTU + 14, NET_FRAME_MIN = 14 };
struct net_config {
	int fd; /* non-blocking stream socket to the gate */
	uint8_t mac[6];
};
_must_ int net_new(const struct virtio_place *at, const struct net_config *c,
                   struct virtio_dev **ret, struct err *e);

/* rng.c: random bytes from the host, at most 1 KiB a request. */
_must_ int rng_new(const struct virtio_place *at, struct virtio_dev **ret, struct err *e);

/*
 * balloon.c: pages the guest gives up, by inflating and by free page reporting. With
 * mem_private (a private mapping of a template) pages are replaced by fresh anonymous ones, as
 * MADV_DONTNEED would bring the template's bytes back.
 */
struct balloon_config {
	bool mem_private;
};
_must_ int balloon_new(const struct virtio_place *at, const struct balloon_config *c,
                       struct virtio_dev **ret, struct err *e);
/* Asks the driver for so many pages; on the loop's thread. */
void balloon_set_target(struct virtio_dev *dev, uint32_t pages);
