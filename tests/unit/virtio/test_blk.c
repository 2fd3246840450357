#include "blk_rig.h"

#include "failalloc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* -- what it says of itself -----------------------------------------------------------------------
 */

static uint64_t config(struct rig *r, uint32_t off, uint32_t len)
{
	uint8_t raw[8] = { 0 };
	uint64_t v = 0;

	vdriver_read_config(&r->d, off, raw, len);
	for (unsigned i = 8; i > 0; i--)
		v = v << 8 | raw[i - 1];
	return v;
}

TEST(configuration_of_a_writable_disk)
{
	struct rig r;
	int fd = file_new(DISK_BYTES + 700); /* 188 bytes over a sector: cut */

	rig_start(&r, fd, &(struct blk_config){ 0 }, F_ALL);
	CHECK_EQ(vdriver_offered(&r.d) & 0xffff,
	         F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY | F_DISCARD | F_WRITE_ZEROES);
	CHECK(vdriver_offered(&r.d) & VIRTIO_F_INDIRECT_DESC);
	CHECK_EQ(config(&r, 0, 8), DISK_BYTES / SECTOR + 1);
	CHECK_EQ(config(&r, 12, 4), 256);
	CHECK_EQ(config(&r, 20, 4), 512);
	CHECK_EQ(config(&r, 24, 1), 3);
	CHECK_EQ(config(&r, 34, 2), 1);
	CHECK_EQ(config(&r, 36, 4), 1 << 21);
	CHECK_EQ(config(&r, 40, 4), 16);
	CHECK_EQ(config(&r, 44, 4), 8);
	CHECK_EQ(config(&r, 48, 4), 1 << 17);
	CHECK_EQ(config(&r, 52, 4), 16);
	CHECK_EQ(config(&r, 56, 1), 1);
	CHECK_EQ(config(&r, 60, 4), 0); /* behind its end */
	rig_end(&r);
}

TEST(configuration_of_a_read_only_disk)
{
	struct rig r;
	int fd = file_new(DISK_BYTES);

	rig_start(&r, fd, &(struct blk_config){ .read_only = true }, F_ALL);
	CHECK_EQ(vdriver_offered(&r.d) & 0xffff, F_SEG_MAX | F_RO | F_BLK_SIZE | F_TOPOLOGY);
	CHECK_EQ(config(&r, 0, 8), DISK_BYTES / SECTOR);
	CHECK_EQ(config(&r, 36, 8), 0);
	rig_end(&r);
}

TEST(names_itself)
{
	static const char *const serials[] = { "berm-image", "exactly-twenty-bytes",
		                               "a-serial-of-more-than-twenty", "" };

	for (unsigned i = 0; i < 4; i++) {
		struct rig r;
		char want[21] = { 0 };
		uint64_t at;

		memcpy(want, serials[i], strnlen(serials[i], 20));
		rig_start(&r, file_new(DISK_BYTES), &(struct blk_config){ .serial = serials[i] },
		          F_ALL);
		at = vdriver_alloc(&r.d, 32, 1);
		memset(vdriver_at(&r.d, at, 32), 0xa5, 32);
		CHECK_EQ(ask_one(&r, T_GET_ID, 77, at, 20), OK);
		CHECK(memcmp(vdriver_at(&r.d, at, 20), want, 20) == 0);
		CHECK_EQ(*(uint8_t *)vdriver_at(&r.d, at + 20, 1), 0xa5);
		CHECK_EQ(ask_one(&r, T_GET_ID, 0, at, 5), OK); /* less room than a name */
		CHECK_EQ(ask_one(&r, T_GET_ID, 0, at, 32), OK);
		rig_end(&r);
	}
}

TEST(refuses_fds_that_are_no_such_disk)
{
	struct rig r;
	struct virtio_place at;
	struct virtio_dev *dev = NULL;
	struct err e;
	int pipes[2];
	char path[64];
	int fd = file_new(DISK_BYTES);
	int ro;

	vdriver_init(&r.d);
	at = vdriver_place(&r.d);
	CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	CHECK(ro >= 0);
	CHECK_EQ(blk_new(&at, &(struct blk_config){ .fd = pipes[0], .read_only = true }, &dev, &e),
	         -EINVAL);
	CHECK_EQ(blk_new(&at, &(struct blk_config){ .fd = ro }, &dev, &e), -EINVAL);
	CHECK_EQ(blk_new(&at, &(struct blk_config){ .fd = -1 }, &dev, &e), -EBADF);
	CHECK(!dev);
	CHECK_OK(blk_new(&at, &(struct blk_config){ .fd = ro, .read_only = true }, &dev, &e), &e);
	virtio_dev_free(dev);
	vdriver_fini(&r.d);
}

TEST(every_allocation_may_fail)
{
	struct vdriver d;
	struct virtio_place at;
	int fd = file_new(DISK_BYTES);

	vdriver_init(&d);
	at = vdriver_place(&d);
	FAILALLOC_EACH()
	{
		struct virtio_dev *dev = NULL;
		struct err e;
		int r = blk_new(&at, &(struct blk_config){ .fd = fd }, &dev, &e);

		if (failalloc_hit()) {
			CHECK_EQ(r, -ENOMEM);
			CHECK(!dev);
		} else {
			CHECK_OK(r, &e);
			virtio_dev_free(dev);
		}
	}
	vdriver_fini(&d);
	(void)close(fd);
}

/* -- reading and writing --------------------------------------------------------------------------
 */

TEST(reads_what_the_file_has)
{
	EACH_WAY(no_ring)
	{
		struct rig r;
		uint64_t at;

		rig_start_filled(&r, no_ring);
		at = vdriver_alloc(&r.d, 256 << 10, 1);
		CHECK_EQ(ask_one(&r, T_IN, 0, at, SECTOR), OK);
		CHECK(ram_has(&r, at, 0, SECTOR, 1));
		CHECK_EQ(ask_one(&r, T_IN, 7, at + 3, 256 << 10), OK);
		CHECK(ram_has(&r, at + 3, 7 * SECTOR, 256 << 10, 1));
		CHECK_EQ(ask_one(&r, T_IN, DISK_BYTES / SECTOR - 1, at, SECTOR), OK);
		CHECK(ram_has(&r, at, DISK_BYTES - SECTOR, SECTOR, 1));
		CHECK_EQ(ask_one(&r, T_IN, 3, at, 0), OK); /* nothing */
		CHECK_EQ(rig_counts(&r).ring, !no_ring);
		CHECK_EQ(rig_counts(&r).errors, 0);
		rig_end(&r);
	}
}

TEST(reads_from_a_cold_cache)
{
	EACH_WAY(no_ring)
	{
		struct rig r;
		uint64_t at;

		rig_start_filled(&r, no_ring);
		at = vdriver_alloc(&r.d, 256 << 10, 1);
		CHECK_EQ(fsync(r.fd), 0);
		for (unsigned i = 0; i < 16; i++) {
			CHECK_EQ(posix_fadvise(r.fd, 0, 0, POSIX_FADV_DONTNEED), 0);
			CHECK_EQ(ask_one(&r, T_IN, 24 * i, at, 4096U << (i % 6)), OK);
			CHECK(ram_has(&r, at, 24 * i * SECTOR, 4096U << (i % 6), 1));
		}
		rig_end(&r);
	}
}

TEST(writes_reach_the_file)
{
	EACH_WAY(no_ring)
	{
		struct rig r;
		uint64_t at;

		rig_start_filled(&r, no_ring);
		at = vdriver_alloc(&r.d, 65536, 1);
		put_pattern(&r, at, 5 * SECTOR, 65536, 9);
		CHECK_EQ(ask_one(&r, T_OUT, 5, at, 65536), OK);
		CHECK(file_has(r.fd, 0, 5 * SECTOR, 1));
		CHECK(file_has(r.fd, 5 * SECTOR, 65536, 9));
		CHECK(file_has(r.fd, 5 * SECTOR + 65536, 4096, 1));
		CHECK_EQ(ask(&r, T_FLUSH, 0, NULL, 0), OK);
		put_pattern(&r, at, DISK_BYTES - SECTOR, SECTOR, 3);
		CHECK_EQ(ask_one(&r, T_OUT, DISK_BYTES / SECTOR - 1, at, SECTOR), OK);
		CHECK(file_has(r.fd, DISK_BYTES - SECTOR, SECTOR, 3));
		CHECK_EQ(lseek(r.fd, 0, SEEK_END), DISK_BYTES); /* nor has it grown */
		rig_end(&r);
	}
}

TEST(large_requests_go_to_a_thread)
{
	EACH_WAY(no_ring)
	{
		struct rig r;
		uint64_t at;

		rig_start_large(&r, no_ring);
		at = vdriver_alloc(&r.d, LARGE_BYTES, 1);
		CHECK_EQ(ask_one(&r, T_IN, 0, at, LARGE_BYTES), OK);
		CHECK(ram_has(&r, at, 0, LARGE_BYTES, 1));
		put_pattern(&r, at, 0, LARGE_BYTES, 2);
		CHECK_EQ(ask_one(&r, T_OUT, 0, at, LARGE_BYTES), OK);
		CHECK(file_has(r.fd, 0, LARGE_BYTES, 2));
		rig_end(&r);
	}
}

TEST(segments_may_have_any_length)
{
	EACH_WAY(no_ring)
	{
		struct rig r;
		uint64_t at;

		rig_start_filled(&r, no_ring);
		at = vdriver_alloc(&r.d, 8192, 1);
		struct vbuf in[4] = { { at, 1, true },
			              { at + 1, 510, true },
			              { at + 511, 0, true },
			              { at + 511, 1025, true } };
		struct vbuf out[4];

		CHECK_EQ(ask(&r, T_IN, 11, in, 4), OK);
		CHECK(ram_has(&r, at, 11 * SECTOR, 3 * SECTOR, 1));
		put_pattern(&r, at, 20 * SECTOR, 3 * SECTOR, 4);
		for (unsigned i = 0; i < 4; i++) {
			out[i] = in[i];
			out[i].writable = false;
		}
		CHECK_EQ(ask(&r, T_OUT, 20, out, 4), OK);
		CHECK(file_has(r.fd, 20 * SECTOR, 3 * SECTOR, 4));
		rig_end(&r);
	}
}

/* A table of descriptors as Linux makes one: header, pages that lie apart, status. */
static uint64_t put_table(struct rig *r, uint64_t pages_at, unsigned pages, bool in)
{
	uint64_t at = vdriver_alloc(&r->d, 16ull * (pages + 2), 16);
	uint64_t desc = r->d.q[0].desc;

	r->d.q[0].desc = at; /* what vdriver_desc() writes to */
	vdriver_desc(&r->d, 0, 0, r->header, 16, DESC_NEXT, 1);
	for (unsigned i = 0; i < pages; i++)
		vdriver_desc(&r->d, 0, (uint16_t)(i + 1), pages_at + 2ull * PAGE * i, PAGE,
		             DESC_NEXT | (in ? DESC_WRITE : 0), (uint16_t)(i + 2));
	vdriver_desc(&r->d, 0, (uint16_t)(pages + 1), r->status, 1, DESC_WRITE, 0);
	r->d.q[0].desc = desc;
	return at;
}

/* Makes it available, and waits for what the device says it wrote. */
static uint32_t ask_table(struct rig *r, uint32_t type, uint64_t table, unsigned pages)
{
	uint16_t head;
	uint32_t written = 0;

	put_header(r, r->header, type, 0);
	*(uint8_t *)vdriver_at(&r->d, r->status, 1) = 0xa5;
	vdriver_desc(&r->d, 0, 0, table, 16 * (pages + 2), DESC_INDIRECT, 0);
	vdriver_avail(&r->d, 0, 0);
	vdriver_kick(&r->d, 0);
	CHECK(vdriver_wait_used(&r->d, 0, &head, &written));
	return written;
}

TEST(a_mib_of_scattered_pages_is_one_request)
{
	enum { PAGES = DISK_BYTES / PAGE };

	EACH_WAY(no_ring)
	{
		struct rig r;
		uint64_t at;
		uint64_t table;

		rig_start_filled(&r, no_ring);
		at = vdriver_alloc(&r.d, 2 * DISK_BYTES, PAGE);
		table = put_table(&r, at, PAGES, true);
		CHECK_EQ(ask_table(&r, T_IN, table, PAGES), DISK_BYTES + 1);
		CHECK_EQ(rig_status(&r), OK);
		for (uint64_t i = 0; i < PAGES; i++)
			CHECK(ram_has(&r, at + 2 * PAGE * i, PAGE * i, PAGE, 1));
		for (uint64_t i = 0; i < PAGES; i++)
			put_pattern(&r, at + 2 * PAGE * i, PAGE * i, PAGE, 2);
		table = put_table(&r, at, PAGES, false);
		CHECK_EQ(ask_table(&r, T_OUT, table, PAGES), 1);
		CHECK_EQ(rig_status(&r), OK);
		CHECK(file_has(r.fd, 0, DISK_BYTES, 2));
		CHECK_EQ(rig_counts(&r).reads + rig_counts(&r).writes, 2);

		table = put_table(&r, at, PAGES + 1, true); /* one more than was offered */
		vdriver_desc(&r.d, 0, 0, table, 16 * (PAGES + 3), DESC_INDIRECT, 0);
		vdriver_avail(&r.d, 0, 0);
		vdriver_kick(&r.d, 0);
		CHECK(vdriver_wait_needs_reset(&r.d));
		rig_end(&r);
	}
}

/* The header in three pieces, the last with the data; the status behind the data of its segment. */
TEST(header_and_status_may_lie_anywhere)
{
	EACH_WAY(no_ring)
	{
		struct rig r;
		uint64_t h;
		uint64_t at;

		rig_start_filled(&r, no_ring);
		h = vdriver_alloc(&r.d, 16 + SECTOR, 1);
		at = vdriver_alloc(&r.d, SECTOR + 1, 1);
		struct vbuf out[4] = { { h, 3, false },
			               { h + 3, 9, false },
			               { h + 12, 4 + SECTOR, false },
			               { r.status, 1, true } };
		struct vbuf in[2] = { { h, 16, false }, { at, SECTOR + 1, true } };

		put_header(&r, h, T_OUT, 6);
		put_pattern(&r, h + 16, 6 * SECTOR, SECTOR, 8);
		CHECK_EQ(vdriver_request(&r.d, 0, out, 4), 1);
		CHECK_EQ(rig_status(&r), OK);
		CHECK(file_has(r.fd, 6 * SECTOR, SECTOR, 8));

		put_header(&r, h, T_IN, 6);
		*(uint8_t *)vdriver_at(&r.d, at + SECTOR, 1) = 0xa5;
		CHECK_EQ(vdriver_request(&r.d, 0, in, 2), SECTOR + 1);
		CHECK_EQ(*(uint8_t *)vdriver_at(&r.d, at + SECTOR, 1), OK);
		CHECK(ram_has(&r, at, 6 * SECTOR, SECTOR, 8));
		rig_end(&r);
	}
}

TEST(without_flush_every_write_is_stable)
{
	EACH_WAY(no_ring)
	{
		struct rig r;
		uint64_t at;
		int fd = file_new(DISK_BYTES);

		rig_start(&r, fd, &(struct blk_config){ .no_ring = no_ring }, F_ALL & ~F_FLUSH);
		at = vdriver_alloc(&r.d, PAGE, 1);
		put_pattern(&r, at, 0, PAGE, 5);
		CHECK_EQ(ask_one(&r, T_OUT, 0, at, PAGE), OK);
		CHECK(file_has(fd, 0, PAGE, 5));
		CHECK_EQ(ask_range(&r, T_WRITE_ZEROES, 1, 1, 0), OK);
		CHECK(file_is(fd, SECTOR, SECTOR, 0));
		CHECK_EQ(ask_range(&r, T_DISCARD, 0, 8, 0), OK);
		rig_end(&r);
	}
}

/* -- requests that ask too much -------------------------------------------------------------------
 */

TEST(sectors_off_the_disk_are_errors)
{
	static const uint64_t sectors[] = {
		DISK_BYTES / SECTOR - 1, /* the second one is off */
		DISK_BYTES / SECTOR,     DISK_BYTES / SECTOR + 1, UINT64_MAX,
		UINT64_MAX - 1,          UINT64_MAX / SECTOR, /* the last that does not wrap */
		UINT64_MAX / SECTOR + 1,                      /* sector 0, if it wraps */
		UINT64_MAX / SECTOR + 2, UINT64_C(1) << 63,       UINT64_C(1) << 32
	};

	EACH_WAY(no_ring)
	{
		struct rig r;
		uint64_t at;

		rig_start_filled(&r, no_ring);
		at = vdriver_alloc(&r.d, 2 * SECTOR, 1);
		for (unsigned i = 0; i < sizeof(sectors) / sizeof(sectors[0]); i++) {
			memset(vdriver_at(&r.d, at, SECTOR), 0xa5, SECTOR);
			CHECK_EQ(ask_one(&r, T_IN, sectors[i], at, 2 * SECTOR), IOERR);
			CHECK_EQ(*(uint8_t *)vdriver_at(&r.d, at, 1), 0xa5);
			CHECK_EQ(ask_one(&r, T_OUT, sectors[i], at, 2 * SECTOR), IOERR);
			CHECK_EQ(ask_range(&r, T_DISCARD, sectors[i], 2, 0), IOERR);
			CHECK_EQ(ask_range(&r, T_WRITE_ZEROES, sectors[i], 2, 0), IOERR);
		}
		CHECK(file_has(r.fd, 0, DISK_BYTES, 1));
		CHECK_EQ(lseek(r.fd, 0, SEEK_END), DISK_BYTES);
		CHECK_EQ(rig_counts(&r).errors, 4 * sizeof(sectors) / sizeof(sectors[0]));
		rig_end(&r);
	}
}

TEST(data_of_odd_length_or_direction_is_an_error)
{
	struct rig r;
	uint64_t at;

	rig_start_filled(&r, false);
	at = vdriver_alloc(&r.d, PAGE, 1);
	CHECK_EQ(ask_one(&r, T_IN, 0, at, 1), IOERR);
	CHECK_EQ(ask_one(&r, T_IN, 0, at, 511), IOERR);
	CHECK_EQ(ask_one(&r, T_IN, 0, at, 513), IOERR);
	CHECK_EQ(ask_one(&r, T_OUT, 0, at, 511), IOERR);
	CHECK_EQ(ask(&r, T_IN, 0, &(struct vbuf){ at, SECTOR, false }, 1), IOERR);
	CHECK_EQ(ask(&r, T_OUT, 0, &(struct vbuf){ at, SECTOR, true }, 1), IOERR);
	CHECK_EQ(ask(&r, T_FLUSH, 0, &(struct vbuf){ at, SECTOR, true }, 1), IOERR);
	CHECK_EQ(ask(&r, T_FLUSH, 0, &(struct vbuf){ at, SECTOR, false }, 1), IOERR);
	CHECK_EQ(ask(&r, T_GET_ID, 0, &(struct vbuf){ at, 20, false }, 1), IOERR);
	CHECK(file_has(r.fd, 0, DISK_BYTES, 1));
	rig_end(&r);
}

TEST(unknown_types_are_unsupported)
{
	static const uint32_t types[] = { 2,  3,  5,  6,  7,           9,           10,        12,
		                          14, 15, 16, 17, 0x80000000U, 0x80000001U, UINT32_MAX };
	struct rig r;

	rig_start_filled(&r, false);
	for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		CHECK_EQ(ask(&r, types[i], 0, NULL, 0), UNSUPP);
	CHECK_EQ(rig_counts(&r).errors, 0);
	rig_end(&r);
}

TEST(a_read_only_disk_is_not_written)
{
	EACH_WAY(no_ring)
	{
		struct rig r;
		uint64_t at;
		int fd = file_new(DISK_BYTES);

		file_fill(fd, DISK_BYTES, 1);
		rig_start(&r, fd, &(struct blk_config){ .read_only = true, .no_ring = no_ring }, 0);
		at = vdriver_alloc(&r.d, PAGE, 1);
		CHECK_EQ(ask_one(&r, T_OUT, 0, at, PAGE), IOERR);
		CHECK_EQ(ask_range(&r, T_DISCARD, 0, 8, 0), IOERR);
		CHECK_EQ(ask_range(&r, T_WRITE_ZEROES, 0, 8, UNMAP), IOERR);
		CHECK_EQ(ask(&r, T_FLUSH, 0, NULL, 0), OK);
		CHECK_EQ(ask_one(&r, T_IN, 8, at, PAGE), OK);
		CHECK(ram_has(&r, at, 8 * SECTOR, PAGE, 1));
		CHECK(file_has(fd, 0, DISK_BYTES, 1));
		rig_end(&r);
	}
}

static void breaks(struct rig *r, const struct vbuf *b, unsigned n)
{
	(void)vdriver_add(&r->d, 0, b, n);
	vdriver_kick(&r->d, 0);
	CHECK(vdriver_wait_needs_reset(&r->d));
	/* and works again after a reset */
	rig_probe(r, F_ALL);
	CHECK_EQ(ask(r, T_FLUSH, 0, NULL, 0), OK);
}

TEST(chains_without_header_or_status_break_the_device)
{
	struct rig r;
	uint64_t at;

	rig_start_filled(&r, false);
	at = vdriver_alloc(&r.d, PAGE, 1);
	breaks(&r, &(struct vbuf){ at, 16, false }, 1);
	breaks(&r, &(struct vbuf){ at, 16, true }, 1);
	breaks(&r, &(struct vbuf){ at, 0, true }, 1);
	breaks(&r, (struct vbuf[]){ { at, 15, false }, { at + 16, 1, true } }, 2);
	breaks(&r, (struct vbuf[]){ { at, 16, false }, { at + 16, 0, true } }, 2);
	breaks(&r, (struct vbuf[]){ { at, 0, false }, { at + 16, 1, true } }, 2);
	/* data and status outside of RAM, or half outside */
	breaks(&r, (struct vbuf[]){ { at, 16, false }, { VDRIVER_RAM_BYTES, 1, true } }, 2);
	breaks(&r, (struct vbuf[]){ { at, 16, false }, { UINT64_MAX, 1, true } }, 2);
	breaks(&r, (struct vbuf[]){ { at, 16, false }, { VDRIVER_RAM_BYTES - 1, 2, true } }, 2);
	breaks(&r, (struct vbuf[]){ { at, 16, false }, { 0xd0000000, 513, true } }, 2);
	CHECK(file_has(r.fd, 0, DISK_BYTES, 1));
	rig_end(&r);
}

TEST(a_looped_chain_breaks_the_device)
{
	struct rig r;

	rig_start_filled(&r, false);
	vdriver_desc(&r.d, 0, 0, r.header, 16, 1, 0);
	vdriver_avail(&r.d, 0, 0);
	vdriver_kick(&r.d, 0);
	CHECK(vdriver_wait_needs_reset(&r.d));
	rig_end(&r);
}

/* -- discarding and zeroing -----------------------------------------------------------------------
 */

static void discards_and_zeroes(int fd, bool no_ring, uint32_t flags)
{
	struct rig r;
	struct stat before;
	struct stat after;

	file_fill(fd, DISK_BYTES, 1);
	rig_start(&r, fd, &(struct blk_config){ .no_ring = no_ring }, F_ALL);
	CHECK_EQ(fsync(fd), 0);
	CHECK_EQ(fstat(fd, &before), 0);
	CHECK_EQ(ask_range(&r, T_DISCARD, 8, 1024, 0), OK);
	CHECK(file_is(fd, 8 * SECTOR, 1024 * SECTOR, 0));
	CHECK_EQ(fstat(fd, &after), 0);
	CHECK(after.st_blocks <= before.st_blocks - 1016);
	CHECK(file_has(fd, 0, 8 * SECTOR, 1));
	CHECK(file_has(fd, 1032 * SECTOR, DISK_BYTES - 1032 * SECTOR, 1));

	/* not aligned to anything but sectors */
	CHECK_EQ(ask_range(&r, T_WRITE_ZEROES, 1101, 777, flags), OK);
	CHECK(file_has(fd, 1100 * SECTOR, SECTOR, 1));
	CHECK(file_is(fd, 1101 * SECTOR, 777 * SECTOR, 0));
	CHECK(file_has(fd, 1878 * SECTOR, DISK_BYTES - 1878 * SECTOR, 1));
	CHECK_EQ(ask_range(&r, T_WRITE_ZEROES, 1877, 171, flags), OK); /* to the end */
	CHECK(file_is(fd, 1877 * SECTOR, 171 * SECTOR, 0));
	CHECK_EQ(lseek(fd, 0, SEEK_END), DISK_BYTES);
	rig_end(&r);
}

TEST(discards_and_zeroes_on_this_file_system)
{
	EACH_WAY(no_ring)
	{
		discards_and_zeroes(file_new(DISK_BYTES), no_ring, 0);
		discards_and_zeroes(file_new(DISK_BYTES), no_ring, UNMAP);
	}
}

/* tmpfs has holes but no FALLOC_FL_ZERO_RANGE: zeros are written. */
TEST(discards_and_zeroes_on_tmpfs)
{
	EACH_WAY(no_ring)
	{
		discards_and_zeroes(file_new_tmpfs(DISK_BYTES), no_ring, 0);
		discards_and_zeroes(file_new_tmpfs(DISK_BYTES), no_ring, UNMAP);
	}
}

TEST(many_ranges_are_judged_before_the_first_is_done)
{
	EACH_WAY(no_ring)
	{
		struct rig r;
		uint64_t at;

		rig_start_filled(&r, no_ring);
		at = vdriver_alloc(&r.d, 17 * 16, 1);
		for (unsigned i = 0; i < 17; i++)
			(void)put_range(&r, at + 16 * i, 100 * i, 10, 0);
		CHECK_EQ(ask_one(&r, T_WRITE_ZEROES, 0, at, 17 * 16), IOERR); /* too many */
		CHECK(file_has(r.fd, 0, DISK_BYTES, 1));
		(void)put_range(&r, at + 15 * 16, DISK_BYTES / SECTOR, 1, 0); /* the last is bad */
		CHECK_EQ(ask_one(&r, T_WRITE_ZEROES, 0, at, 16 * 16), IOERR);
		CHECK_EQ(ask_one(&r, T_DISCARD, 0, at, 16 * 16), IOERR);
		CHECK(file_has(r.fd, 0, DISK_BYTES, 1));
		(void)put_range(&r, at + 15 * 16, 1500, 0, 0); /* nothing: fine */
		CHECK_EQ(ask_one(&r, T_WRITE_ZEROES, 0, at, 16 * 16), OK);
		for (unsigned i = 0; i < 15; i++) {
			CHECK(file_is(r.fd, 100 * i * SECTOR, 10 * SECTOR, 0));
			CHECK(file_has(r.fd, (100 * i + 10) * SECTOR, 90 * SECTOR, 1));
		}
		CHECK(file_has(r.fd, 1500 * SECTOR, SECTOR, 1));
		rig_end(&r);
	}
}

TEST(bad_ranges_are_refused)
{
	struct rig r;
	uint64_t at;

	rig_start_filled(&r, false);
	at = vdriver_alloc(&r.d, PAGE, 1);
	CHECK_EQ(ask_range(&r, T_DISCARD, 0, 8, UNMAP), UNSUPP);
	CHECK_EQ(ask_range(&r, T_DISCARD, 0, 8, 2), UNSUPP);
	CHECK_EQ(ask_range(&r, T_WRITE_ZEROES, 0, 8, 2), UNSUPP);
	CHECK_EQ(ask_range(&r, T_WRITE_ZEROES, 0, 8, 0x80000001U), UNSUPP);
	CHECK_EQ(ask_range(&r, T_DISCARD, 0, UINT32_MAX, 0), IOERR);
	CHECK_EQ(ask_range(&r, T_DISCARD, 0, (1 << 21) + 1, 0), IOERR);
	CHECK_EQ(ask_range(&r, T_WRITE_ZEROES, 0, (1 << 17) + 1, 0), IOERR);
	CHECK_EQ(ask_range(&r, T_WRITE_ZEROES, 0, 0, 0), OK);
	CHECK_EQ(ask_one(&r, T_DISCARD, 0, at, 15), IOERR);
	CHECK_EQ(ask_one(&r, T_DISCARD, 0, at, 17), IOERR);
	CHECK_EQ(ask_one(&r, T_DISCARD, 0, at, 0), IOERR);
	CHECK_EQ(ask(&r, T_DISCARD, 0, &(struct vbuf){ at, 16, true }, 1), IOERR);
	CHECK(file_has(r.fd, 0, DISK_BYTES, 1));
	rig_end(&r);
}

TEST(what_was_not_negotiated_is_unsupported)
{
	struct rig r;
	int fd = file_new(DISK_BYTES);

	file_fill(fd, DISK_BYTES, 1);
	rig_start(&r, fd, &(struct blk_config){ 0 }, F_ALL & ~F_DISCARD & ~F_WRITE_ZEROES);
	CHECK_EQ(ask_range(&r, T_DISCARD, 0, 8, 0), UNSUPP);
	CHECK_EQ(ask_range(&r, T_WRITE_ZEROES, 0, 8, 0), UNSUPP);
	CHECK(file_has(fd, 0, DISK_BYTES, 1));
	rig_end(&r);
}

TEST_MAIN()
