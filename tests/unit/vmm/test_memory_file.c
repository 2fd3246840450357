#include "test.h"

#include "failalloc.h"
#include "vmm/memory_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = (16 << 20) / PAGE, BYTES = PAGES * PAGE };

static int memfd(uint64_t bytes)
{
	int fd = memfd_create("memory", MFD_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

static void put_page(int fd, uint64_t page, uint8_t v)
{
	uint8_t room[PAGE];

	memset(room, v, sizeof(room));
	CHECK_EQ(pwrite(fd, room, PAGE, (off_t)(page * PAGE)), PAGE);
}

static void map(int fd, bool shared, struct guest_mem *ret)
{
	struct err e = { 0 };

	CHECK_OK(guest_mem_map(fd, BYTES, shared, ret, &e), &e);
}

static void set_page(const struct guest_mem *m, uint64_t page, uint8_t v)
{
	uint8_t room[PAGE];

	memset(room, v, sizeof(room));
	CHECK(guest_mem_write(m, gpa_of(page * PAGE), room, PAGE));
}

static uint8_t get_page(const struct guest_mem *m, uint64_t page)
{
	uint8_t v;

	CHECK(guest_mem_read(m, gpa_of(page * PAGE), &v, 1));
	return v;
}

static uint8_t file_page(int fd, uint64_t page)
{
	uint8_t room[PAGE];

	CHECK_EQ(pread(fd, room, PAGE, (off_t)(page * PAGE)), PAGE);
	for (unsigned i = 1; i < PAGE; i++)
		CHECK_EQ(room[i], room[0]);
	return room[0];
}

static bool is_hole(int fd, uint64_t page)
{
	off_t data = lseek(fd, (off_t)(page * PAGE), SEEK_DATA);

	return data < 0 || (uint64_t)data >= (page + 1) * PAGE;
}

static bool is_present(const struct guest_mem *m, uint64_t page, bool *ret_own)
{
	uint64_t entry;
	uint64_t at = (uintptr_t)m->slots[0].base / PAGE + page;

	CHECK_EQ(pread(m->pagemap_fd, &entry, 8, (off_t)(at * 8)), 8);
	*ret_own = !(entry >> 61 & 1);
	return entry >> 63;
}

/* Pages 1 and 2 and 4000 hold data; 3 holds zeros; all else are holes. */
static int base_file(void)
{
	int fd = memfd(BYTES);

	put_page(fd, 1, 0x11);
	put_page(fd, 2, 0x22);
	put_page(fd, 3, 0);
	put_page(fd, 4000, 0x40);
	return fd;
}

static void check_saved(int base, int out)
{
	struct stat st;

	CHECK_EQ(fstat(out, &st), 0);
	CHECK_EQ(st.st_size, BYTES);
	CHECK_EQ(file_page(out, 0), 0);
	CHECK_EQ(file_page(out, 1), 0x11);
	CHECK_EQ(file_page(out, 2), 0);
	CHECK_EQ(file_page(out, 5), 0x55);
	CHECK_EQ(file_page(out, 6), 0x66);
	CHECK_EQ(file_page(out, 4000), 0x40);
	CHECK_EQ(file_page(out, PAGES - 1), 0x99);
	CHECK(is_hole(out, 0));
	CHECK(is_hole(out, 2)); /* zeros over the base's data */
	CHECK(is_hole(out, 7)); /* zeros over a hole */
	CHECK(is_hole(out, 3999));
	CHECK_EQ(file_page(base, 2), 0x22);
	CHECK_EQ(file_page(base, 5), 0);
}

static void change(const struct guest_mem *m)
{
	set_page(m, 2, 0);
	set_page(m, 5, 0x55);
	set_page(m, 6, 0x66);
	set_page(m, 7, 0);
	set_page(m, PAGES - 1, 0x99);
	CHECK_EQ(get_page(m, 1), 0x11);
}

TEST(own_pages_over_the_base)
{
	struct err e = { 0 };
	struct guest_mem m;
	int base = base_file();
	int out = memfd(12345);

	put_page(out, 9, 0xee); /* emptied first */
	map(base, false, &m);
	CHECK(m.pagemap_fd >= 0);
	change(&m);
	CHECK_OK(memory_save(&m, &(struct memory_base){ .fd = base }, out, &e), &e);
	check_saved(base, out);
	CHECK(is_hole(out, 9));
	guest_mem_unmap(&m);
	(void)close(base);
	(void)close(out);
}

static bool is_page_1(const void *arg, struct gpa at)
{
	(void)arg;
	return at.v / PAGE == 1;
}

/* The balloon's doing: absent memory there is zeros, not the base's. */
TEST(replaced_pages_are_not_the_bases)
{
	struct err e = { 0 };
	struct guest_mem m;
	int base = base_file();
	int out = memfd(0);
	uint8_t *at;

	map(base, false, &m);
	CHECK_EQ(get_page(&m, 1), 0x11);
	at = m.slots[0].base + PAGE;
	CHECK(mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
	           0) == at);
	CHECK_OK(memory_save(&m, &(struct memory_base){ base, is_page_1, NULL }, out, &e), &e);
	CHECK_EQ(file_page(out, 1), 0);
	CHECK(is_hole(out, 1));
	CHECK_EQ(file_page(out, 2), 0x22);
	guest_mem_unmap(&m);
	(void)close(base);
	(void)close(out);
}

TEST(without_pagemap_the_result_is_the_same)
{
	struct err e = { 0 };
	struct guest_mem m;
	int base = base_file();
	int out = memfd(0);

	map(base, false, &m);
	(void)close(m.pagemap_fd);
	m.pagemap_fd = -1;
	change(&m);
	CHECK_OK(memory_save(&m, &(struct memory_base){ .fd = base }, out, &e), &e);
	check_saved(base, out);
	guest_mem_unmap(&m);
	(void)close(base);
	(void)close(out);
}

TEST(a_shared_mapping_is_its_file)
{
	struct err e = { 0 };
	struct guest_mem m;
	int base = memfd(BYTES);
	int out = memfd(0);

	put_page(base, 1, 0x11);
	put_page(base, 4000, 0x40);
	map(base, true, &m);
	change(&m);
	CHECK_OK(memory_save(&m, NULL, out, &e), &e);
	CHECK_EQ(file_page(out, 1), 0x11);
	CHECK_EQ(file_page(out, 5), 0x55);
	CHECK_EQ(file_page(out, PAGES - 1), 0x99);
	CHECK(is_hole(out, 2));
	CHECK(is_hole(out, 7));
	CHECK(is_hole(base, 8)); /* looking at it made no pages */
	guest_mem_unmap(&m);
	(void)close(base);
	(void)close(out);
}

TEST(memory_without_a_file)
{
	struct err e = { 0 };
	struct guest_mem m;
	int out = memfd(0);

	map(-1, false, &m);
	CHECK(m.file_fd < 0 && m.pagemap_fd >= 0);
	set_page(&m, 1, 0x11);
	set_page(&m, 2, 0);
	set_page(&m, PAGES - 1, 0x99);
	CHECK_OK(memory_save(&m, NULL, out, &e), &e);
	CHECK_EQ(file_page(out, 1), 0x11);
	CHECK_EQ(file_page(out, PAGES - 1), 0x99);
	CHECK(is_hole(out, 0));
	CHECK(is_hole(out, 2));
	CHECK(is_hole(out, PAGES / 2));
	guest_mem_unmap(&m);
	(void)close(out);
}

TEST(memory_of_the_callers)
{
	struct err e = { 0 };
	struct guest_mem m;
	uint8_t *at = aligned_alloc(PAGE, 4 * PAGE);
	int out = memfd(0);

	CHECK(at);
	memset(at, 0, 4 * PAGE);
	memset(at + PAGE, 7, PAGE);
	guest_mem_over(at, 4 * PAGE, &m);
	CHECK_OK(memory_save(&m, NULL, out, &e), &e);
	CHECK_EQ(file_page(out, 1), 7);
	CHECK(is_hole(out, 0));
	free(at);
	(void)close(out);
}

/* One byte that is not zero makes a page data, wherever it stands. */
TEST(zero_is_every_byte)
{
	struct err e = { 0 };
	struct guest_mem m;
	uint8_t *at = aligned_alloc(PAGE, PAGE);
	int out = memfd(0);

	CHECK(at);
	guest_mem_over(at, PAGE, &m);
	for (unsigned i = 0; i < PAGE; i += 97) {
		memset(at, 0, PAGE);
		at[i] = 1;
		CHECK_OK(memory_save(&m, NULL, out, &e), &e);
		CHECK(!is_hole(out, 0));
	}
	memset(at, 0, PAGE);
	at[PAGE - 1] = 0x80;
	CHECK_OK(memory_save(&m, NULL, out, &e), &e);
	CHECK(!is_hole(out, 0));
	free(at);
	(void)close(out);
}

TEST(what_cannot_be_written_is_told)
{
	struct err e = { 0 };
	struct guest_mem m;
	int base = base_file();
	int out = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	map(base, false, &m);
	CHECK_EQ(ftruncate(out, BYTES), 0);
	CHECK_EQ(fcntl(out, F_ADD_SEALS, F_SEAL_WRITE), 0);
	CHECK_EQ(memory_save(&m, &(struct memory_base){ .fd = base }, out, &e), -EPERM);
	guest_mem_unmap(&m);
	(void)close(base);
	(void)close(out);
}

/* Both slots of a file whose holes a guest's memory is to keep. */
TEST(a_saved_file_fills_fresh_memory)
{
	const uint64_t bytes = GUEST_HOLE_START + BYTES;
	const uint64_t high = GUEST_HOLE_START / PAGE;
	const uint64_t far = UINT64_C(1) << 20; /* a page of 4 GiB, where the file's 3 GiB go on */
	struct err e = { 0 };
	struct guest_mem m;
	int saved = memfd(bytes + PAGE); /* longer than memory: the rest is nobody's */
	int out = memfd(0);
	bool own;

	put_page(saved, 1, 0x11);
	put_page(saved, 2, 0x22);
	put_page(saved, high - 1, 0x33);
	put_page(saved, high, 0x44);
	put_page(saved, bytes / PAGE - 1, 0x55);
	put_page(saved, bytes / PAGE, 0x66);
	CHECK_OK(guest_mem_map(-1, bytes, false, &m, &e), &e);
	CHECK_OK(memory_load(&m, saved, &e), &e);
	CHECK_EQ(get_page(&m, 1), 0x11);
	CHECK_EQ(get_page(&m, 2), 0x22);
	CHECK_EQ(get_page(&m, high - 1), 0x33);
	CHECK_EQ(get_page(&m, far), 0x44);
	CHECK_EQ(get_page(&m, far + PAGES - 1), 0x55);
	CHECK(!is_present(&m, high / 2, &own));

	/* what the guest writes is not the file's, and what it has is saved as it is */
	set_page(&m, 2, 0);
	set_page(&m, 5, 0x77);
	CHECK_OK(memory_save(&m, NULL, out, &e), &e);
	CHECK_EQ(file_page(saved, 2), 0x22);
	CHECK_EQ(file_page(out, 1), 0x11);
	CHECK_EQ(file_page(out, 5), 0x77);
	CHECK_EQ(file_page(out, high), 0x44);
	CHECK_EQ(file_page(out, bytes / PAGE - 1), 0x55);
	CHECK(is_hole(out, 0) && is_hole(out, 2) && is_hole(out, high / 2));
	guest_mem_unmap(&m);
	(void)close(saved);
	(void)close(out);
}

/* As when the file was changed by somebody who must not. */
TEST(what_cannot_be_read_is_told)
{
	struct err e = { 0 };
	struct guest_mem m;
	char path[64];
	int saved = base_file();
	int dir = openat(AT_FDCWD, test_tmpdir(), O_PATH | O_CLOEXEC);
	int blind;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", saved);
	blind = openat(AT_FDCWD, path, O_WRONLY | O_CLOEXEC);
	CHECK(dir >= 0 && blind >= 0);
	map(-1, false, &m);
	CHECK_EQ(memory_load(&m, blind, &e), -EBADF);
	CHECK_STR(e.text, "the saved memory: read: Bad file descriptor");
	CHECK_EQ(memory_load(&m, dir, &e), -EINVAL);
	CHECK_EQ(memory_load(&m, -1, &e), -EBADF);
	CHECK_EQ(ftruncate(saved, BYTES - 1), 0);
	CHECK_EQ(memory_load(&m, saved, &e), -EINVAL);
	CHECK_STR(e.text, "the saved memory has fewer than 16777216 bytes");
	CHECK_EQ(get_page(&m, 1), 0);
	guest_mem_unmap(&m);
	(void)close(blind);
	(void)close(dir);
	(void)close(saved);
}

TEST(the_working_set_comes_back)
{
	static uint8_t room[1 << 18];
	struct err e = { 0 };
	struct guest_mem m;
	int base = base_file();
	bool own;
	struct buf b;

	map(base, false, &m);
	set_page(&m, 5, 0x55);
	set_page(&m, 6, 0x66);
	CHECK_EQ(get_page(&m, 4000), 0x40);
	buf_init(&b, room, sizeof(room));
	CHECK_OK(memory_touched(&m, &b, &e), &e);
	CHECK(buf_ok(&b));
	guest_mem_unmap(&m);

	map(base, false, &m);
	CHECK(!is_present(&m, 5, &own));
	CHECK_OK(memory_populate(&m, buf_span(&b), NULL, &e), &e);
	CHECK(is_present(&m, 5, &own));
	CHECK(own);
	CHECK(is_present(&m, 6, &own));
	CHECK(own);
	CHECK(is_present(&m, 4000, &own));
	CHECK(!own);
	CHECK(!is_present(&m, 2000, &own));
	CHECK_EQ(get_page(&m, 5), 0); /* the file's bytes, not the other guest's */
	guest_mem_unmap(&m);
	(void)close(base);
}

struct told {
	bool does; /* it says that it has brought them in */
	unsigned ranges;
	uint64_t first, pages; /* of the last */
};

static bool tell(void *arg, struct gpa at, uint64_t bytes)
{
	struct told *t = arg;

	t->ranges++;
	t->first = at.v / PAGE;
	t->pages = bytes / PAGE;
	return t->does;
}

/* What a hole gets in tmpfs is a guest's own, even when it only looks. */
static void no_holes(int fd, uint64_t from, uint64_t to)
{
	for (uint64_t page = from; page < to; page++)
		CHECK_EQ(pwrite(fd, "", 1, (off_t)(page * PAGE)), 1);
}

/*
 * Pages with little between them come in together, and only what was written becomes a copy. What
 * the visitor does is not done a second time; copies are there before it comes.
 */
static void check_neighbours(struct span set, int base, bool does)
{
	struct told told = { .does = does };
	const struct memory_visitor visitor = { tell, &told };
	struct err e = { 0 };
	struct guest_mem m;
	bool own;

	map(base, false, &m);
	CHECK_OK(memory_populate(&m, set, &visitor, &e), &e);
	CHECK_EQ(told.ranges, 2);
	CHECK_EQ(told.first, 1100);
	CHECK_EQ(told.pages, 1);
	for (uint64_t page = 1000; page <= 1005; page++) {
		bool written = page == 1000 || page == 1005;
		bool present = is_present(&m, page, &own);

		CHECK_EQ(present, written || !does);
		CHECK_EQ(present && own, written);
	}
	CHECK(!is_present(&m, 1006, &own));
	CHECK(is_present(&m, 1100, &own));
	guest_mem_unmap(&m);
}

TEST(neighbours_come_in_together)
{
	static uint8_t room[1 << 18];
	struct err e = { 0 };
	struct guest_mem m;
	int base = base_file();
	struct buf b;

	no_holes(base, 1000, 1006);
	map(base, false, &m);
	set_page(&m, 1000, 0x55);
	CHECK_EQ(get_page(&m, 1003), 0);
	set_page(&m, 1005, 0x66);
	set_page(&m, 1100, 0x77);
	buf_init(&b, room, sizeof(room));
	CHECK_OK(memory_touched(&m, &b, &e), &e);
	guest_mem_unmap(&m);
	check_neighbours(buf_span(&b), base, false);
	check_neighbours(buf_span(&b), base, true);
	(void)close(base);
}

TEST(a_scattered_set_is_merged)
{
	static uint8_t room[1 << 18];
	const uint64_t pages = (128 << 20) / PAGE;
	struct err e = { 0 };
	struct guest_mem m;
	int base = memfd(pages * PAGE);
	uint64_t present = 0;
	struct span in;
	uint32_t count;
	bool own;
	struct buf b;

	no_holes(base, 0, pages);
	CHECK_OK(guest_mem_map(base, pages * PAGE, false, &m, &e), &e);
	for (uint64_t i = 0; i < pages; i += 2)
		set_page(&m, i, 1);
	buf_init(&b, room, sizeof(room));
	CHECK_OK(memory_touched(&m, &b, &e), &e);
	CHECK(buf_ok(&b));
	in = buf_span(&b);
	CHECK(take_le32(&in, &count));
	CHECK(count <= WSET_EXTENTS_MAX && count > 0);
	guest_mem_unmap(&m);

	CHECK_OK(guest_mem_map(base, pages * PAGE, false, &m, &e), &e);
	CHECK_OK(memory_populate(&m, buf_span(&b), NULL, &e), &e);
	for (uint64_t i = 0; i < pages; i += 2) {
		bool there = is_present(&m, i, &own);

		CHECK(!there || !own); /* nothing is copied for a neighbour's sake */
		present += there;
	}
	CHECK(present >= pages / 2 * 9 / 10); /* a host may take some back at once */
	guest_mem_unmap(&m);
	(void)close(base);
}

static void put_extent(struct buf *b, uint64_t first, uint32_t pages, uint32_t flags)
{
	buf_put_le64(b, first);
	buf_put_le32(b, pages);
	buf_put_le32(b, flags);
}

static int populate(const struct guest_mem *m, uint32_t count, const uint64_t x[][3], unsigned have)
{
	static uint8_t room[1024];
	struct err e = { 0 };
	struct buf b;

	buf_init(&b, room, sizeof(room));
	buf_put_le32(&b, count);
	for (unsigned i = 0; i < have; i++)
		put_extent(&b, x[i][0], (uint32_t)x[i][1], (uint32_t)x[i][2]);
	return memory_populate(m, buf_span(&b), NULL, &e);
}

TEST(a_hostile_set_is_refused)
{
	static const uint64_t good[][3] = { { 0, 1, 0 }, { 1, 2, 1 }, { PAGES - 1, 1, 0 } };
	static const uint64_t back[][3] = { { 4, 2, 0 }, { 5, 1, 0 } };
	static const uint64_t empty[][3] = { { 4, 0, 0 } };
	static const uint64_t past[][3] = { { PAGES - 1, 2, 0 } };
	static const uint64_t far[][3] = { { UINT64_MAX, 1, 0 } };
	static const uint64_t wrap[][3] = { { UINT64_MAX - 1, UINT32_MAX, 0 } };
	static const uint64_t flags[][3] = { { 1, 1, 2 } };
	struct err e = { 0 };
	struct guest_mem m;
	int base = base_file();

	map(base, false, &m);
	CHECK_EQ(populate(&m, 3, good, 3), 0);
	CHECK_EQ(populate(&m, 0, good, 0), 0);
	CHECK_EQ(populate(&m, 2, good, 3), -EBADMSG);
	CHECK_EQ(populate(&m, 4, good, 3), -EBADMSG);
	CHECK_EQ(populate(&m, UINT32_MAX, good, 3), -EBADMSG);
	CHECK_EQ(populate(&m, 2, back, 2), -EBADMSG);
	CHECK_EQ(populate(&m, 1, empty, 1), -EBADMSG);
	CHECK_EQ(populate(&m, 1, past, 1), -EBADMSG);
	CHECK_EQ(populate(&m, 1, far, 1), -EBADMSG);
	CHECK_EQ(populate(&m, 1, wrap, 1), -EBADMSG);
	CHECK_EQ(populate(&m, 1, flags, 1), -EBADMSG);
	CHECK_EQ(memory_populate(&m, span_of("", 0), NULL, &e), -EBADMSG);
	guest_mem_unmap(&m);
	(void)close(base);
}

TEST(each_allocation_may_fail)
{
	static uint8_t room[1 << 18];
	struct guest_mem m;
	int base = base_file();
	int out = memfd(0);
	struct buf b;

	map(base, false, &m);
	change(&m);
	FAILALLOC_EACH()
	{
		struct err e = { 0 };
		int r = memory_save(&m, &(struct memory_base){ .fd = base }, out, &e);

		buf_init(&b, room, sizeof(room));
		if (r == 0)
			r = memory_touched(&m, &b, &e);
		if (failalloc_hit())
			CHECK_EQ(r, -ENOMEM);
		else
			CHECK_OK(r, &e);
	}
	guest_mem_unmap(&m);
	(void)close(base);
	(void)close(out);
}

TEST_MAIN()
