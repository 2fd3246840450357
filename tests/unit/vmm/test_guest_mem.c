#include "test.h"

#include "vmm/guest_mem.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096 };
#define GIB (UINT64_C(1) << 30)

static int memfd(uint64_t bytes)
{
	int fd = memfd_create("memory", MFD_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

/* Two slots of one page each at 0 and 4 GiB, next to each other in the host. */
static void two_slots(uint8_t *base, struct guest_mem *ret)
{
	guest_mem_over(base, PAGE, ret);
	ret->slots[1] = (struct guest_slot){ GUEST_HOLE_END, PAGE, PAGE, base + PAGE };
	ret->slot_count = 2;
	ret->bytes = UINT64_C(2) * PAGE;
}

TEST(reads_and_writes_within_a_slot)
{
	struct guest_mem m;
	uint8_t *base = calloc(2, PAGE);
	uint32_t v = 0;

	CHECK(base);
	two_slots(base, &m);
	CHECK(guest_mem_write(&m, gpa_of(8), "abcd", 4));
	CHECK(guest_mem_read(&m, gpa_of(8), &v, 4));
	CHECK_EQ(v, 0x64636261);
	CHECK(guest_mem_write(&m, gpa_of(GUEST_HOLE_END + PAGE - 4), "wxyz", 4));
	CHECK_EQ(memcmp(base + 2 * PAGE - 4, "wxyz", 4), 0);
	CHECK(guest_mem_zero(&m, gpa_of(8), 3));
	CHECK_EQ(base[10], 0);
	CHECK_EQ(base[11], 'd');
	free(base);
}

/* Every access that is not all RAM of one slot, by every door. */
TEST(refuses_what_is_not_ram)
{
	static const struct {
		uint64_t at, len;
	} bad[] = {
		{ PAGE - 3, 4 },                  /* over the end of the first slot */
		{ PAGE, 1 },                      /* behind it */
		{ GUEST_HOLE_START, 1 },          /* in the hole */
		{ GUEST_HOLE_END - 1, 1 },        /* before the second */
		{ GUEST_HOLE_END - 1, 2 },        /* into it from before */
		{ GUEST_HOLE_END + PAGE - 1, 2 }, /* over its end */
		{ UINT64_MAX, 1 },                /* the last byte there is */
		{ UINT64_MAX - 1, 4 },            /* wraps */
		{ 0, UINT64_MAX },                /* longer than all */
		{ 1, UINT64_MAX },                /* end wraps to 0 */
		{ GUEST_HOLE_END, UINT64_MAX - GUEST_HOLE_END + 1 },
	};
	struct guest_mem m;
	uint8_t *base = calloc(2, PAGE);
	uint8_t room[8];
	struct iovec v = { .iov_base = room, .iov_len = 77 };

	CHECK(base);
	two_slots(base, &m);
	memset(room, 0xa5, sizeof(room));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		CHECK(!guest_mem_read(&m, gpa_of(bad[i].at), room, bad[i].len));
		CHECK(!guest_mem_write(&m, gpa_of(bad[i].at), room, bad[i].len));
		CHECK(!guest_mem_zero(&m, gpa_of(bad[i].at), bad[i].len));
		CHECK(!guest_mem_iov(&m, gpa_of(bad[i].at), bad[i].len, &v));
	}
	for (size_t i = 0; i < sizeof(room); i++)
		CHECK_EQ(room[i], 0xa5);
	CHECK(v.iov_base == room && v.iov_len == 77);
	for (size_t i = 0; i < 2 * PAGE; i++)
		CHECK_EQ(base[i], 0);
	free(base);
}

TEST(nothing_is_a_legal_length_at_ram)
{
	struct guest_mem m;
	uint8_t *base = calloc(2, PAGE);
	struct iovec v;

	CHECK(base);
	two_slots(base, &m);
	CHECK(guest_mem_read(&m, gpa_of(0), NULL, 0));
	CHECK(guest_mem_iov(&m, gpa_of(PAGE), 0, &v)); /* its end is still its own */
	CHECK(!guest_mem_iov(&m, gpa_of(PAGE + 1), 0, &v));
	free(base);
}

TEST(ring_indices_are_aligned)
{
	struct guest_mem m;
	uint8_t *base = calloc(2, PAGE);
	uint16_t v = 7;

	CHECK(base);
	two_slots(base, &m);
	CHECK(guest_mem_store16(&m, gpa_of(2), 0x1234));
	CHECK(guest_mem_load16(&m, gpa_of(2), &v));
	CHECK_EQ(v, 0x1234);
	CHECK(!guest_mem_load16(&m, gpa_of(1), &v));
	CHECK(!guest_mem_store16(&m, gpa_of(1), 1));
	CHECK(!guest_mem_load16(&m, gpa_of(PAGE), &v));
	CHECK(!guest_mem_load16(&m, gpa_of(PAGE - 1), &v));
	CHECK(guest_mem_load16(&m, gpa_of(PAGE - 2), &v));
	CHECK(!guest_mem_load16(&m, gpa_of(UINT64_MAX), &v));
	free(base);
}

TEST(a_file_goes_straight_in)
{
	struct err e = { 0 };
	struct guest_mem m;
	uint8_t *base = calloc(2, PAGE);
	int fd = memfd(100);

	CHECK(base);
	two_slots(base, &m);
	CHECK_EQ(pwrite(fd, "kernel", 6, 10), 6);
	CHECK_OK(guest_mem_load(&m, gpa_of(16), fd, 10, 6, &e), &e);
	CHECK_EQ(memcmp(base + 16, "kernel", 6), 0);
	CHECK_EQ(guest_mem_load(&m, gpa_of(16), fd, 90, 11, &e), -ENODATA);
	CHECK_EQ(guest_mem_load(&m, gpa_of(16), fd, UINT64_MAX, 6, &e), -ENODATA);
	CHECK_EQ(guest_mem_load(&m, gpa_of(16), fd, INT64_MAX, 6, &e), -ENODATA);
	CHECK_EQ(guest_mem_load(&m, gpa_of(PAGE - 5), fd, 10, 6, &e), -EFAULT);
	CHECK_EQ(guest_mem_load(&m, gpa_of(16), -1, 10, 6, &e), -EBADF);
	free(base);
	(void)close(fd);
}

/* As when the disk below it is full. */
TEST(memory_the_host_cannot_give_is_said)
{
	uint8_t *base = mmap(NULL, 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct err e = { 0 };
	struct guest_mem m;
	int fd = memfd(100);

	CHECK(base != MAP_FAILED);
	two_slots(base, &m);
	CHECK_EQ(guest_mem_load(&m, gpa_of(16), fd, 0, 100, &e), -EFAULT);
	CHECK_STR(e.text, GUEST_MEM_LOST);
	CHECK_EQ(munmap(base, 2 * PAGE), 0);
	(void)close(fd);
}

static int64_t blocks(int fd)
{
	struct stat st;

	CHECK_EQ(fstat(fd, &st), 0);
	return st.st_blocks;
}

/* Else a guest would stand still once tmpfs is full: KVM tries again and again. */
TEST(holes_take_no_room_in_tmpfs)
{
	const uint64_t bytes = UINT64_C(64) << 20;
	struct err e = { 0 };
	struct guest_mem m;
	int fd = memfd(bytes);
	uint64_t v = 7;
	int64_t before;

	CHECK_EQ(pwrite(fd, "data", 4, 8 << 20), 4);
	CHECK_EQ(pwrite(fd, "last", 4, (off_t)bytes - PAGE), 4);
	before = blocks(fd);
	CHECK_OK(guest_mem_map(fd, bytes, false, &m, &e), &e);
	for (uint64_t at = 0; at < bytes; at += UINT64_C(16) * PAGE) {
		CHECK(guest_mem_read(&m, gpa_of(at), &v, 4));
		CHECK_EQ(v, at == 8 << 20 ? 0x61746164 : 0);
		CHECK(guest_mem_write(&m, gpa_of(at), "own", 4));
	}
	CHECK(guest_mem_read(&m, gpa_of(bytes - PAGE), &v, 4));
	CHECK_EQ(v, 0x7473616c);
	CHECK_EQ(blocks(fd), before);
	CHECK(guest_mem_write(&m, gpa_of(bytes - PAGE), "own", 4));
	guest_mem_unmap(&m);
	CHECK_OK(guest_mem_map(fd, bytes, false, &m, &e),
	         &e); /* and nothing of it is in the file */
	CHECK(guest_mem_read(&m, gpa_of(bytes - PAGE), &v, 4));
	CHECK_EQ(v, 0x7473616c);
	guest_mem_unmap(&m);
	(void)close(fd);
}

TEST(low_memory_is_one_slot)
{
	struct err e = { 0 };
	struct guest_mem m;
	int fd = memfd(64 << 20);

	CHECK_OK(guest_mem_map(fd, 64 << 20, true, &m, &e), &e);
	CHECK_EQ(m.slot_count, 1);
	CHECK_EQ(m.slots[0].start, 0);
	CHECK_EQ(m.slots[0].bytes, 64 << 20);
	CHECK_EQ((uintptr_t)m.slots[0].base % (2 << 20), 0);
	guest_mem_unmap(&m);
	CHECK_EQ(m.slot_count, 0);
	(void)close(fd);
}

TEST(high_memory_begins_at_4_gib)
{
	struct err e = { 0 };
	struct guest_mem m;
	uint8_t v = 0;
	int fd = memfd(4 * GIB);

	CHECK_OK(guest_mem_map(fd, 4 * GIB, true, &m, &e), &e);
	CHECK_EQ(m.slot_count, 2);
	CHECK_EQ(m.slots[0].bytes, GUEST_HOLE_START);
	CHECK_EQ(m.slots[1].start, GUEST_HOLE_END);
	CHECK_EQ(m.slots[1].bytes, GIB);
	CHECK_EQ(m.slots[1].file_off, GUEST_HOLE_START);
	/* the file goes on where the first slot ends */
	CHECK_EQ(pwrite(fd, "x", 1, (off_t)GUEST_HOLE_START + 5), 1);
	CHECK(guest_mem_read(&m, gpa_of(GUEST_HOLE_END + 5), &v, 1));
	CHECK_EQ(v, 'x');
	CHECK(!guest_mem_read(&m, gpa_of(GUEST_HOLE_START), &v, 1));
	CHECK(guest_mem_write(&m, gpa_of(GUEST_HOLE_END + GIB - 1), "y", 1));
	CHECK(!guest_mem_write(&m, gpa_of(GUEST_HOLE_END + GIB), "y", 1));
	guest_mem_unmap(&m);
	(void)close(fd);
}

TEST(a_private_mapping_leaves_the_file_alone)
{
	struct err e = { 0 };
	struct guest_mem m;
	uint8_t v = 7;
	int fd = memfd(GUEST_MEM_MIN);

	CHECK_OK(guest_mem_map(fd, GUEST_MEM_MIN, false, &m, &e), &e);
	CHECK(guest_mem_write(&m, gpa_of(0), "x", 1));
	CHECK_EQ(pread(fd, &v, 1, 0), 1);
	CHECK_EQ(v, 0);
	guest_mem_unmap(&m);
	CHECK_OK(guest_mem_map(fd, GUEST_MEM_MIN, true, &m, &e), &e);
	CHECK(guest_mem_write(&m, gpa_of(0), "x", 1));
	CHECK_EQ(pread(fd, &v, 1, 0), 1);
	CHECK_EQ(v, 'x');
	guest_mem_unmap(&m);
	(void)close(fd);
}

TEST(memory_needs_no_file)
{
	struct err e = { 0 };
	struct guest_mem m;
	uint8_t v = 7;

	CHECK_OK(guest_mem_map(-1, 5 * GIB, false, &m, &e), &e);
	CHECK(m.file_fd < 0 && m.slot_count == 2);
	CHECK(guest_mem_read(&m, gpa_of(GUEST_HOLE_END), &v, 1));
	CHECK_EQ(v, 0);
	CHECK(guest_mem_write(&m, gpa_of(0), "x", 1));
	CHECK(guest_mem_write(&m, gpa_of(GUEST_HOLE_END + 2 * GIB - 1), "y", 1));
	CHECK(guest_mem_read(&m, gpa_of(0), &v, 1));
	CHECK_EQ(v, 'x');
	guest_mem_unmap(&m);
	CHECK_EQ(guest_mem_map(-1, 4097, false, &m, &e), -EINVAL);
}

/* Does a store there end the process? */
static bool is_guarded(volatile uint8_t *at)
{
	int status;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		struct sigaction act = { .sa_handler = SIG_DFL };

		(void)sigaction(SIGSEGV, &act, NULL);
		*at = 1;
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

TEST(guards_stand_around_every_slot)
{
	struct err e = { 0 };
	struct guest_mem m;
	int fd = memfd(4 * GIB);

	CHECK_OK(guest_mem_map(fd, 4 * GIB, true, &m, &e), &e);
	for (unsigned i = 0; i < 2; i++) {
		const struct guest_slot *s = &m.slots[i];

		CHECK(is_guarded(s->base - 1));
		CHECK(is_guarded(s->base - (2 << 20)));
		CHECK(is_guarded(s->base + s->bytes));
		CHECK(is_guarded(s->base + s->bytes + (2 << 20) - 1));
		CHECK(!is_guarded(s->base + s->bytes - 1));
	}
	guest_mem_unmap(&m);
	(void)close(fd);
}

TEST(refuses_sizes_it_cannot_have)
{
	static const uint64_t sizes[] = { 0,
		                          PAGE,
		                          GUEST_MEM_MIN - PAGE,
		                          GUEST_MEM_MIN + 1,
		                          GUEST_MEM_MAX + PAGE,
		                          UINT64_MAX,
		                          UINT64_MAX - PAGE + 1 };
	struct err e = { 0 };
	struct guest_mem m;
	int fds[2];
	int fd = memfd(GUEST_MEM_MIN);

	memset(&m, 0xa5, sizeof(m));
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		CHECK_EQ(guest_mem_map(fd, sizes[i], true, &m, &e), -EINVAL);
	CHECK_EQ(guest_mem_map(fd, GUEST_MEM_MIN + PAGE, true, &m, &e), -EINVAL);
	CHECK_STR(e.text, "the memory file has fewer than 16781312 bytes");
	CHECK_EQ(guest_mem_map(-1, GUEST_MEM_MIN, true, &m, &e), -EBADF);
	CHECK_EQ(pipe(fds), 0);
	CHECK_EQ(guest_mem_map(fds[0], GUEST_MEM_MIN, true, &m, &e), -EINVAL);
	CHECK_EQ(m.slot_count, 0xa5a5a5a5);
	(void)close(fd);
}

TEST_MAIN()
