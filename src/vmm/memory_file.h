/*
 * memory_file: the guest's memory as a file, and the pages of it that a guest needs first.
 *
 * Theory of operation
 *
 * A forked guest's memory is a private mapping of its template's file: what it wrote are pages of
 * its own, the rest are the file's. /proc/self/pagemap tells them apart (a page that is present or
 * swapped out, and not the file's, is its own), so that a save takes only its own pages from
 * memory and copies the rest from file to file, which costs nothing where the file system shares
 * extents. Memory that has no file behind it is a base of holes. Pages of zeros become holes.
 * Without pagemap all pages are taken from memory: the result is the same.
 *
 * Which pages a guest touched between its restore and now can be recorded as extents and stored
 * with the template (STATE_WSET). The next one populates them in a few calls before it runs,
 * instead of taking a fault for each: those it wrote as its own copies, those it read as the
 * file's. Where KVM maps pages ahead, that brings the latter in, and they are not asked for twice.
 *
 * Shape     a file of guest_mem.bytes; a slot's memory lies from its file_off on
 *           working set: u32 count | each u64 first page of the file, u32 pages, u32 flags (bit
 *           0: written); ascending, apart
 * Hostile   the working set
 * Threads   while the guest does not run
 * System calls  pread64, pwrite64, lseek, fstat, ftruncate, copy_file_range, madvise
 * Source    Documentation/admin-guide/mm/pagemap.rst; madvise(2)
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"
#include "vmm/guest_mem.h"

enum {
	WSET_EXTENTS_MAX = 8192, /* 128 KiB; more are merged over their gaps */
	WSET_WRITTEN = 1,
};

/*
 * The file that memory is a private mapping of, unchanged since. replaced: whether a page's memory
 * was put in the file's place since (the balloon does), so that it is zeros where it is absent;
 * NULL: no page was.
 */
struct memory_base {
	int fd;
	bool (*replaced)(const void *arg, struct gpa at);
	const void *arg;
};

/* Writes all memory into out_fd, which is emptied first. base: NULL if the mapping is shared, or
 * over memory of the caller's. */
_must_ int memory_save(const struct guest_mem *m, const struct memory_base *base, int out_fd,
                       struct err *e);

/*
 * Fills memory that is all zeros with what such a file holds; its holes stay untouched. -EINVAL:
 * it is no file, or shorter than memory.
 */
_must_ int memory_load(const struct guest_mem *m, int fd, struct err *e);

/* Puts the pages touched so far, as a payload of STATE_WSET. -ENOTSUP: no pagemap. */
_must_ int memory_touched(const struct guest_mem *m, struct buf *b, struct err *e);

/* Who can bring a range of RAM in by itself, and more: map it for the guest. False: it cannot. */
struct memory_visitor {
	bool (*in)(void *arg, struct gpa at, uint64_t bytes);
	void *arg;
};

/*
 * Brings the pages of such a payload in: copies of what was written, then, by the visitor, all of
 * it, close extents at once. visitor: may be NULL. -EBADMSG.
 */
_must_ int memory_populate(const struct guest_mem *m, struct span in,
                           const struct memory_visitor *visitor, struct err *e);
