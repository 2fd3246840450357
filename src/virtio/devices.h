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

/*
 * blk.c: a raw image: a file or block device, not opened with O_DIRECT. read_only fds may be opened
 * O_RDONLY. Sizes that are no multiple of 512 are cut. -EINVAL: not such an fd.
 */
struct blk_config {
	int fd;
	bool read_only;
	const char *serial; /* up to 20 bytes, for /sys/block/vdX/serial */
	bool no_ring;       /* plain calls even where io_uring works: for tests */
};
_must_ int blk_new(const struct virtio_place *at, const struct blk_config *c,
                   struct virtio_dev **ret, struct err *e);

struct blk_counts {
	uint64_t reads, writes, flushes; /* requests taken, good or bad */
	uint64_t errors;                 /* answered with IOERR */
	uint64_t no_space; /* of these: the host's disk, or our share of it, is full */
	uint64_t stuck;    /* waits for the disk that were given up: BLK_DRAIN_MS */
	bool ring;         /* io_uring is in use */
};
void blk_get_counts(const struct virtio_dev *dev, struct blk_counts *ret);

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
 * MADV_DONTNEED would bring the template's bytes back. With mem_fresh there is no file behind
 * memory, so it only has to be dropped. With neither, memory is a file, which gets holes.
 */
struct balloon_config {
	bool mem_private;
	bool mem_fresh;
};
_must_ int balloon_new(const struct virtio_place *at, const struct balloon_config *c,
                       struct virtio_dev **ret, struct err *e);
/* Asks the driver for so many pages (at most all of RAM); on the loop's thread, as the others. */
void balloon_set_target(struct virtio_dev *dev, uint32_t pages);

struct balloon_counts {
	uint64_t inflated_pages, deflated_pages, reported_pages; /* the driver's, over time */
	uint64_t dropped_pages;                                  /* the host has back, over time */
	uint64_t kept_pages;                 /* it might have, if not for a limit or an error */
	uint64_t maps;                       /* ranges replaced: at most BALLOON_MAPS_MAX */
	uint32_t target_pages, actual_pages; /* now; the second is the driver's word */
};
void balloon_get_counts(const struct virtio_dev *dev, struct balloon_counts *ret);

/*
 * With mem_private: is the page at `at` anonymous memory by now, so that the template is not behind
 * it any more? A copy of memory that is made of the pages which differ from the template has to
 * take such a page whether it is present or not.
 */
bool balloon_has_replaced(const struct virtio_dev *dev, struct gpa at);
