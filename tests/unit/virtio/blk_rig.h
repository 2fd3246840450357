/*
 * blk_rig: a driver before a block device over a file that is full of a pattern; for the tests.
 */
#pragma once

#include "test.h"
#include "virtio_driver.h"

enum {
	DISK_BYTES = 1 << 20,
	LARGE_BYTES = 2 << 20, /* of a request that the ring gives to a thread */
	SECTOR = 512,
	T_IN = 0,
	T_OUT = 1,
	T_FLUSH = 4,
	T_GET_ID = 8,
	T_DISCARD = 11,
	T_WRITE_ZEROES = 13,
	OK = 0,
	IOERR = 1,
	UNSUPP = 2,
	UNMAP = 1,
	PAGE = 4096,
	DESC_NEXT = 1,
	DESC_WRITE = 2,
	DESC_INDIRECT = 4,
};

#define F_SEG_MAX      (1ULL << 2)
#define F_RO           (1ULL << 5)
#define F_BLK_SIZE     (1ULL << 6)
#define F_FLUSH        (1ULL << 9)
#define F_TOPOLOGY     (1ULL << 10)
#define F_DISCARD      (1ULL << 13)
#define F_WRITE_ZEROES (1ULL << 14)
#define F_ALL          (~0ULL)

/* Every test of requests runs both ways: by the ring and by plain calls. */
#define EACH_WAY(no_ring)                                                                          \
	for (bool no_ring = false, more = true; more; more = !no_ring, no_ring = true)

struct rig {
	struct vdriver d;
	int fd;
	uint64_t header, status; /* guest addresses of the one request made at a time */
};

/* Files: `seed` tells one pattern from another. A new one is empty. */
int file_new(uint64_t bytes);
int file_new_tmpfs(uint64_t bytes);
void file_fill(int fd, uint64_t bytes, unsigned seed);
bool file_has(int fd, uint64_t off, uint64_t bytes, unsigned seed);
bool file_is(int fd, uint64_t off, uint64_t bytes, uint8_t want);

/* The device without a driver; the driver's part; both, with the loop running. fd is taken. */
void rig_make(struct rig *r, int fd, const struct blk_config *more);
void rig_probe(struct rig *r, uint64_t features);
void rig_start(struct rig *r, int fd, const struct blk_config *more, uint64_t features);
/* Over a file of DISK_BYTES, or LARGE_BYTES, with the pattern of seed 1. */
void rig_start_filled(struct rig *r, bool no_ring);
void rig_start_large(struct rig *r, bool no_ring);
/* As rig_start(), with somebody to tell of what is lost; how often that was. */
struct rig_loss {
	unsigned times;
	int code;
};
void rig_start_told(struct rig *r, int fd, bool no_ring, struct rig_loss *l);
unsigned rig_losses(struct rig *r, const struct rig_loss *l);
void rig_end(struct rig *r);
struct blk_counts rig_counts(struct rig *r);

void put_header(struct rig *r, uint64_t at, uint32_t type, uint64_t sector);
uint64_t put_range(struct rig *r, uint64_t at, uint64_t sector, uint32_t sectors, uint32_t flags);

/* One request with up to 4 data buffers, with one, or for one range: its status; -1: none came. */
int ask(struct rig *r, uint32_t type, uint64_t sector, const struct vbuf *data, unsigned n);
int ask_one(struct rig *r, uint32_t type, uint64_t sector, uint64_t at, uint32_t len);
int ask_range(struct rig *r, uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags);
uint8_t rig_status(struct rig *r);
/* One with a single buffer that nobody waits for. */
void put_unanswered(struct rig *r, uint32_t type, uint64_t sector, uint64_t at, uint32_t len);

/* The pattern in guest memory, as if byte `off` of the disk lay at gpa. */
bool ram_has(struct rig *r, uint64_t gpa, uint64_t off, uint64_t bytes, unsigned seed);
void put_pattern(struct rig *r, uint64_t gpa, uint64_t off, uint64_t bytes, unsigned seed);
