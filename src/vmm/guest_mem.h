/*
 * guest_mem: the one door to the guest's memory.
 *
 * Hostile   every address and length comes from the guest, which also changes the memory while we
 *           look at it. So: check here, copy once, judge the copy.
 * Shape     up to GUEST_SLOTS_MAX ranges of guest-physical addresses, each one host mapping,
 *           cut out of one file, or of none: RAM below the MMIO hole, the rest from 4 GiB on
 * Errors    bool: false when any byte lies outside RAM; then nothing was read or written
 * Owns      the mapping, if made by guest_mem_map()
 * Threads   any; the mapping does not move while the machine lives
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define GUEST_PAGE_BYTES UINT64_C(4096)
#define GUEST_HOLE_START UINT64_C(0xc0000000) /* RAM below, devices from here */
#define GUEST_HOLE_END   UINT64_C(0x100000000)
#define GUEST_MEM_MAX    (UINT64_C(1) << 40) /* 1 TiB */
#define GUEST_MEM_MIN    (UINT64_C(16) << 20)

enum {
	GUEST_SLOTS_MAX = 2,
	GUEST_HOLES_MAX = 4096, /* mapped by themselves; a process may have 65530 mappings */
	GUEST_HOLE_BYTES_MIN = 64 << 10,
};

/* What an EFAULT says that a system call gives for checked RAM. */
#define GUEST_MEM_LOST                                                                             \
	"the host cannot back guest memory: the disk it is on is full or failing, or the host is " \
	"out of memory"

/* A guest-physical address: no number and no pointer. */
struct gpa {
	uint64_t v;
};

static inline struct gpa gpa_of(uint64_t v)
{
	return (struct gpa){ .v = v };
}

struct guest_slot {
	uint64_t start; /* guest-physical */
	uint64_t bytes;
	uint64_t file_off;
	uint8_t *base;
};

struct guest_mem {
	struct guest_slot slots[GUEST_SLOTS_MAX];
	unsigned slot_count;
	uint64_t bytes; /* of all slots */
	void *area;     /* what guest_mem_map() reserved: the slots and the guards around them */
	uint64_t area_bytes;
	/* for memory_file.h; -1: there is none */
	int file_fd;    /* ours, of the same open file */
	int pagemap_fd; /* of this process; only when the mapping is private */
};

/*
 * Maps `bytes` (a multiple of the page size, GUEST_MEM_MIN to GUEST_MEM_MAX) of `fd` from its
 * start. shared: what the guest writes goes to the file; else it stays ours (copy on write). fd
 * is borrowed; -1: no file but fresh memory of ours, in huge pages where the host has them, which
 * saves a booting guest most of its page faults. Memory no access may reach lies before, between
 * and behind the slots, and none of it gets into a core dump. -EINVAL: the size, or a file
 * shorter than it.
 */
_must_ int guest_mem_map(int fd, uint64_t bytes, bool shared, struct guest_mem *ret, struct err *e);
void guest_mem_unmap(struct guest_mem *m);

/* One slot at guest address 0 over memory of the caller's: tests and fuzz targets. */
void guest_mem_over(void *base, uint64_t bytes, struct guest_mem *ret);

_must_ bool guest_mem_read(const struct guest_mem *m, struct gpa at, void *ret, uint64_t len);
_must_ bool guest_mem_write(const struct guest_mem *m, struct gpa at, const void *data,
                            uint64_t len);
_must_ bool guest_mem_zero(const struct guest_mem *m, struct gpa at, uint64_t len);

/* Fills [at, at+len) from byte `off` of a file. -EFAULT: not RAM; -ENODATA: the file ends. */
_must_ int guest_mem_load(const struct guest_mem *m, struct gpa at, int fd, uint64_t off,
                          uint64_t len, struct err *e);

/* Ring indices: one aligned 16-bit access, acquire or release. False also when misaligned. */
_must_ bool guest_mem_load16(const struct guest_mem *m, struct gpa at, uint16_t *ret);
_must_ bool guest_mem_store16(const struct guest_mem *m, struct gpa at, uint16_t v);

/*
 * The host's view of a range, for bulk data that nobody judges (disk blocks, console bytes): it
 * may change at any time. A range never crosses slots.
 */
_must_ bool guest_mem_iov(const struct guest_mem *m, struct gpa at, uint64_t len,
                          struct iovec *ret);
