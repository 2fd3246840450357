#include "work/pack_internal.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	SETTLE_MS = 5, /* a tick of the clock that files get their times from, or two */
	CLONE_LEAST_BYTES = 256 << 10, /* sharing fewer costs more than copying them */
	SPARSE_PIECE_BYTES = 1 << 20,
};

static bool same_look(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_mode == b->st_mode &&
	       a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
	       a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/*
 * Is its change time before the clock's last tick, as it stood before the look? Then whatever
 * happens to the file after the look leaves another change time. One that lies far ahead was set by
 * another machine's clock: the comparison means nothing then, and HOST_RACY says so later.
 */
bool pack_settled(const struct stat *st, uint64_t stamp_ns)
{
	int64_t stamp_s = (int64_t)(stamp_ns / 1000000000),
		stamp_rest = (int64_t)(stamp_ns % 1000000000);

	if (st->st_ctim.tv_sec != stamp_s)
		return st->st_ctim.tv_sec < stamp_s || st->st_ctim.tv_sec > stamp_s + 2;
	return st->st_ctim.tv_nsec < stamp_rest;
}

/* Reads exactly what is left of a file that is not sparse. */
static int read_flat(struct pack *p, int fd, uint64_t off, uint64_t size, struct read_result *ret,
                     struct err *e)
{
	while (off < size) {
		uint8_t *room = NULL;
		size_t len = 0;
		ssize_t n;
		int r = erofs_room(p->image, &room, &len, e);

		if (r == 0)
			r = pack_progress(p, 1 + len / 16384, e);
		if (r < 0)
			return r;
		n = pread(fd, room, len, (off_t)off);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			ret->trouble = errno;
		if (n == 0)
			ret->torn = true; /* shorter than it was a moment ago */
		if (n <= 0)
			return 0;
		erofs_filled(p->image, (size_t)n);
		off += (uint64_t)n;
	}
	return 0;
}

static int read_piece(struct pack *p, int fd, uint64_t off, uint64_t len, uint8_t *piece,
                      struct read_result *ret, struct err *e)
{
	int r = erofs_extent(p->image, off, len, e);

	while (r == 0 && len > 0) {
		size_t want = len < SPARSE_PIECE_BYTES ? (size_t)len : SPARSE_PIECE_BYTES;
		ssize_t n = pread(fd, piece, want, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			ret->trouble = errno;
		if (n == 0)
			ret->torn = true;
		if (n <= 0)
			return 0;
		r = erofs_put_at(p->image, off, piece, (size_t)n, e);
		if (r == 0)
			r = pack_progress(p, 1 + (uint64_t)n / 16384, e);
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return r;
}

static int read_sparse(struct pack *p, int fd, uint64_t size, struct read_result *ret,
                       struct err *e)
{
	_own_free_ uint8_t *piece = malloc(SPARSE_PIECE_BYTES);
	int r;

	if (!piece)
		return err_set(e, -ENOMEM, "out of memory");
	r = erofs_begin_sparse(p->image, size, e);
	for (uint64_t at = 0; r == 0 && at < size && !ret->torn && ret->trouble == 0;) {
		off_t data = lseek(fd, (off_t)at, SEEK_DATA), hole;

		if (data < 0 && errno == ENXIO)
			break; /* a hole up to the end */
		hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
		if (hole < 0) {
			ret->trouble = errno;
			break;
		}
		if ((uint64_t)data >= size)
			break;
		at = (uint64_t)hole < size ? (uint64_t)hole : size;
		r = read_piece(p, fd, (uint64_t)data, at - (uint64_t)data, piece, ret, e);
	}
	return r;
}

static bool is_sparse(const struct stat *st)
{
	uint64_t size = (uint64_t)st->st_size, stored = (uint64_t)st->st_blocks * 512;

	return size >= SPARSE_LEAST_BYTES && stored <= size - SPARSE_LEAST_BYTES;
}

/* In the place of what the image that is written over has of it, if it fits there. */
static int begin_flat(struct pack *p, uint64_t size, struct err *e)
{
	bool begun = false;
	int r = 0;

	if (p->stale.block != 0)
		r = erofs_begin_over(p->image, size, &p->stale, &begun, e);
	if (r == 0 && !begun)
		erofs_begin(p->image, size);
	return r;
}

static int read_once(struct pack *p, int fd, const struct stat *st, struct read_result *ret,
                     struct err *e)
{
	uint64_t size = (uint64_t)st->st_size;
	uint64_t whole = size / EROFS_BLOCK_BYTES * EROFS_BLOCK_BYTES, off = 0;
	int r;

	if (is_sparse(st))
		return read_sparse(p, fd, size, ret, e);
	r = begin_flat(p, size, e);
	if (r < 0)
		return r;
	if (p->try_clone && size >= CLONE_LEAST_BYTES && erofs_clone(p->image, fd, 0, whole) == 0)
		off = whole;
	return read_flat(p, fd, off, size, ret, e);
}

int pack_read(struct pack *p, int fd, struct stat *st, uint64_t stamp_ns, struct read_result *ret,
              struct err *e)
{
	int tries = (uint64_t)st->st_size > PACK_LARGE_BYTES ? PACK_TRIES_LARGE : PACK_TRIES;
	struct stat before = *st, after = { 0 };

	for (int i = 0; i < tries; i++) {
		int r;

		*ret = (struct read_result){ .torn = false };
		if (i > 0) {
			(void)poll(NULL, 0, SETTLE_MS);
			stamp_ns = clock_stamp_ns();
			if (fstat(fd, &before) < 0)
				ret->trouble = errno;
		}
		if (ret->trouble != 0)
			return 0;
		/* reading what may change unseen is for nothing */
		if (!pack_settled(&before, stamp_ns))
			continue;
		r = read_once(p, fd, &before, ret, e);
		if (r < 0)
			return r;
		if (before.st_size > 0 && fstat(fd, &after) < 0)
			ret->trouble = errno;
		if (ret->trouble == 0 && !ret->torn &&
		    (before.st_size == 0 || same_look(&before, &after))) {
			*st = before;
			return 0;
		}
		r = erofs_drop(p->image, e);
		if (r < 0 || ret->trouble != 0)
			return r;
	}
	*ret = (struct read_result){ .torn = true };
	return 0;
}
