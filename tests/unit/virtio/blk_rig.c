#include "blk_rig.h"

#include <endian.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

static uint8_t pattern(uint64_t at, unsigned seed)
{
	return (uint8_t)((at * 2654435761U >> 13) + seed * 37 + 1);
}

void file_fill(int fd, uint64_t bytes, unsigned seed)
{
	uint8_t block[PAGE];

	for (uint64_t at = 0; at < bytes; at += PAGE) {
		for (unsigned i = 0; i < PAGE; i++)
			block[i] = pattern(at + i, seed);
		CHECK_EQ(pwrite(fd, block, PAGE, (off_t)at), PAGE);
	}
}

bool file_has(int fd, uint64_t off, uint64_t bytes, unsigned seed)
{
	uint8_t b[PAGE];

	for (uint64_t done = 0; done < bytes; done += PAGE) {
		size_t n = bytes - done < PAGE ? (size_t)(bytes - done) : PAGE;

		CHECK_EQ(pread(fd, b, n, (off_t)(off + done)), (ssize_t)n);
		for (size_t i = 0; i < n; i++)
			if (b[i] != pattern(off + done + i, seed))
				return false;
	}
	return true;
}

bool file_is(int fd, uint64_t off, uint64_t bytes, uint8_t want)
{
	uint8_t b[PAGE];

	for (uint64_t done = 0; done < bytes; done += PAGE) {
		size_t n = bytes - done < PAGE ? (size_t)(bytes - done) : PAGE;

		CHECK_EQ(pread(fd, b, n, (off_t)(off + done)), (ssize_t)n);
		for (size_t i = 0; i < n; i++)
			if (b[i] != want)
				return false;
	}
	return true;
}

int file_new(uint64_t bytes)
{
	int fd = openat(AT_FDCWD, test_tmpdir(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

int file_new_tmpfs(uint64_t bytes)
{
	int fd = memfd_create("disk", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

void rig_make(struct rig *r, int fd, const struct blk_config *more)
{
	struct blk_config c = *more;
	struct virtio_place at;
	struct virtio_dev *dev = NULL;
	struct err e;

	r->fd = c.fd = fd;
	vdriver_init(&r->d);
	at = vdriver_place(&r->d);
	CHECK_OK(blk_new(&at, &c, &dev, &e), &e);
	vdriver_attach(&r->d, dev);
}

void rig_probe(struct rig *r, uint64_t features)
{
	CHECK(vdriver_probe(&r->d, features, 0));
	(void)vdriver_interrupt(&r->d, 0); /* of before the reset */
	r->header = vdriver_alloc(&r->d, 16, 1);
	r->status = vdriver_alloc(&r->d, 1, 1);
}

void rig_start(struct rig *r, int fd, const struct blk_config *more, uint64_t features)
{
	rig_make(r, fd, more);
	vdriver_run(&r->d);
	rig_probe(r, features);
}

void rig_start_filled(struct rig *r, bool no_ring)
{
	int fd = file_new(DISK_BYTES);

	file_fill(fd, DISK_BYTES, 1);
	rig_start(r, fd, &(struct blk_config){ .no_ring = no_ring }, F_ALL);
}

void rig_start_large(struct rig *r, bool no_ring)
{
	int fd = file_new(LARGE_BYTES);

	file_fill(fd, LARGE_BYTES, 1);
	rig_start(r, fd, &(struct blk_config){ .no_ring = no_ring }, F_ALL);
}

static void on_lost(void *arg, int code)
{
	struct rig_loss *l = arg;

	l->times++;
	l->code = code;
}

void rig_start_told(struct rig *r, int fd, bool no_ring, struct rig_loss *l)
{
	rig_make(r, fd, &(struct blk_config){ .no_ring = no_ring });
	r->d.dev->lost = on_lost;
	r->d.dev->lost_arg = l;
	vdriver_run(&r->d);
	rig_probe(r, F_ALL);
}

struct losing {
	const struct rig_loss *from;
	unsigned times;
};

static void look(void *arg)
{
	struct losing *l = arg;

	l->times = l->from->times;
}

unsigned rig_losses(struct rig *r, const struct rig_loss *l)
{
	struct losing lost = { .from = l };

	vdriver_on_loop(&r->d, look, &lost);
	return lost.times;
}

void put_unanswered(struct rig *r, uint32_t type, uint64_t sector, uint64_t at, uint32_t len)
{
	struct vbuf b[3] = { { vdriver_alloc(&r->d, 16, 1), 16, false },
		             { at, len, false },
		             { vdriver_alloc(&r->d, 1, 1), 1, true } };

	put_header(r, b[0].at, type, sector);
	(void)vdriver_add(&r->d, 0, b, 3);
	vdriver_kick(&r->d, 0);
}

void rig_end(struct rig *r)
{
	vdriver_fini(&r->d);
	(void)close(r->fd);
}

void put_header(struct rig *r, uint64_t at, uint32_t type, uint64_t sector)
{
	uint32_t t = htole32(type);
	uint64_t s = htole64(sector);
	uint8_t *h = vdriver_at(&r->d, at, 16);

	memcpy(h, &t, 4);
	memset(h + 4, 0xee, 4);
	memcpy(h + 8, &s, 8);
}

uint8_t rig_status(struct rig *r)
{
	return *(uint8_t *)vdriver_at(&r->d, r->status, 1);
}

int ask(struct rig *r, uint32_t type, uint64_t sector, const struct vbuf *data, unsigned n)
{
	struct vbuf b[6] = { { r->header, 16, false } };

	put_header(r, r->header, type, sector);
	*(uint8_t *)vdriver_at(&r->d, r->status, 1) = 0xa5;
	for (unsigned i = 0; i < n; i++)
		b[i + 1] = data[i];
	b[n + 1] = (struct vbuf){ r->status, 1, true };
	if (vdriver_request(&r->d, 0, b, n + 2) < 1)
		return -1;
	return rig_status(r);
}

int ask_one(struct rig *r, uint32_t type, uint64_t sector, uint64_t at, uint32_t len)
{
	struct vbuf b = { at, len, type == T_IN || type == T_GET_ID };

	return ask(r, type, sector, &b, 1);
}

uint64_t put_range(struct rig *r, uint64_t at, uint64_t sector, uint32_t sectors, uint32_t flags)
{
	uint8_t *to = vdriver_at(&r->d, at, 16);
	uint64_t s = htole64(sector);
	uint32_t n = htole32(sectors);
	uint32_t f = htole32(flags);

	memcpy(to, &s, 8);
	memcpy(to + 8, &n, 4);
	memcpy(to + 12, &f, 4);
	return at;
}

int ask_range(struct rig *r, uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags)
{
	uint64_t at = put_range(r, vdriver_alloc(&r->d, 16, 1), sector, sectors, flags);

	return ask_one(r, type, 0, at, 16);
}

bool ram_has(struct rig *r, uint64_t gpa, uint64_t off, uint64_t bytes, unsigned seed)
{
	const uint8_t *at = vdriver_at(&r->d, gpa, bytes);

	for (uint64_t i = 0; i < bytes; i++)
		if (at[i] != pattern(off + i, seed))
			return false;
	return true;
}

void put_pattern(struct rig *r, uint64_t gpa, uint64_t off, uint64_t bytes, unsigned seed)
{
	uint8_t *at = vdriver_at(&r->d, gpa, bytes);

	for (uint64_t i = 0; i < bytes; i++)
		at[i] = pattern(off + i, seed);
}

struct counting {
	const struct virtio_dev *dev;
	struct blk_counts got;
};

static void count(void *arg)
{
	struct counting *c = arg;

	blk_get_counts(c->dev, &c->got);
}

/* Its thread may be counting meanwhile. */
struct blk_counts rig_counts(struct rig *r)
{
	struct counting c = { .dev = r->d.dev };

	vdriver_on_loop(&r->d, count, &c);
	return c.got;
}
