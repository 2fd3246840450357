#include "vmm/guest_mem.h"

#include "base/ck.h"
#include "base/fdio.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* Slots begin at a multiple of it, so that huge pages fit; as much is left free around each. */
#define GUARD_BYTES (UINT64_C(2) << 20)

/* The host's address of [at, at+len) if all of it is RAM of one slot. */
static uint8_t *find(const struct guest_mem *m, struct gpa at, uint64_t len)
{
	for (unsigned i = 0; i < m->slot_count; i++) {
		const struct guest_slot *s = &m->slots[i];
		uint64_t off;

		if (ck_sub(at.v, s->start, &off) && ck_range(off, len, s->bytes))
			return s->base + off;
	}
	return NULL;
}

/* The compiler may neither fetch guest memory a second time nor put a store off. */
static void settle(void)
{
	__asm__ volatile("" ::: "memory");
}

bool guest_mem_read(const struct guest_mem *m, struct gpa at, void *ret, uint64_t len)
{
	const uint8_t *from = find(m, at, len);

	if (!from)
		return false;
	if (len > 0) /* nothing may come with no buffer */
		memcpy(ret, from, len);
	settle();
	return true;
}

bool guest_mem_write(const struct guest_mem *m, struct gpa at, const void *data, uint64_t len)
{
	uint8_t *to = find(m, at, len);

	if (!to)
		return false;
	if (len > 0)
		memcpy(to, data, len);
	settle();
	return true;
}

bool guest_mem_zero(const struct guest_mem *m, struct gpa at, uint64_t len)
{
	uint8_t *to = find(m, at, len);

	if (!to)
		return false;
	memset(to, 0, len);
	settle();
	return true;
}

int guest_mem_load(const struct guest_mem *m, struct gpa at, int fd, uint64_t off, uint64_t len,
                   struct err *e)
{
	uint8_t *to = find(m, at, len);
	uint64_t end;

	if (!to)
		return err_set(e, -EFAULT, "guest memory ends before 0x%jx + %ju bytes",
		               (uintmax_t)at.v, (uintmax_t)len);
	if (!ck_add(off, len, &end) || end > INT64_MAX)
		return err_set(e, -ENODATA, "no file is that long");
	while (len > 0) {
		ssize_t n = pread(fd, to, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EFAULT)
			return err_set(e, -EFAULT, "%s", GUEST_MEM_LOST);
		if (n < 0)
			return err_sys(e, "read");
		if (n == 0)
			return err_set(e, -ENODATA,
			               "the file ends at byte %ju, %ju more are needed",
			               (uintmax_t)off, (uintmax_t)len);
		to += n;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

static bool aligned16(const uint8_t *at)
{
	return (uintptr_t)at % sizeof(uint16_t) == 0;
}

bool guest_mem_load16(const struct guest_mem *m, struct gpa at, uint16_t *ret)
{
	const uint8_t *from = find(m, at, sizeof(*ret));

	if (!from || at.v % sizeof(*ret) != 0 || !aligned16(from))
		return false;
	*ret = __atomic_load_n((const uint16_t *)(const void *)from, __ATOMIC_ACQUIRE);
	return true;
}

bool guest_mem_store16(const struct guest_mem *m, struct gpa at, uint16_t v)
{
	uint8_t *to = find(m, at, sizeof(v));

	if (!to || at.v % sizeof(v) != 0 || !aligned16(to))
		return false;
	__atomic_store_n((uint16_t *)(void *)to, v, __ATOMIC_RELEASE);
	return true;
}

bool guest_mem_iov(const struct guest_mem *m, struct gpa at, uint64_t len, struct iovec *ret)
{
	uint8_t *host = find(m, at, len);

	if (!host)
		return false;
	*ret = (struct iovec){ .iov_base = host, .iov_len = len };
	return true;
}

void guest_mem_over(void *base, uint64_t bytes, struct guest_mem *ret)
{
	*ret = (struct guest_mem){
		.slots = { { .start = 0, .bytes = bytes, .file_off = 0, .base = base } },
		.slot_count = 1,
		.bytes = bytes,
		.file_fd = -1,
		.pagemap_fd = -1,
	};
}

static uint64_t round_up(uint64_t v, uint64_t to)
{
	return (v + to - 1) / to * to;
}

/* Where the slots lie in the guest and in the file. */
static void plan(uint64_t bytes, struct guest_mem *m)
{
	uint64_t low = bytes < GUEST_HOLE_START ? bytes : GUEST_HOLE_START;

	m->bytes = bytes;
	m->slot_count = 1;
	m->slots[0] = (struct guest_slot){ .start = 0, .bytes = low };
	if (bytes == low)
		return;
	m->slot_count = 2;
	m->slots[1] = (struct guest_slot){
		.start = GUEST_HOLE_END,
		.bytes = bytes - low,
		.file_off = low,
	};
}

static int check_file(int fd, uint64_t bytes, struct err *e)
{
	struct stat st;

	if (bytes % GUEST_PAGE_BYTES != 0 || bytes < GUEST_MEM_MIN || bytes > GUEST_MEM_MAX)
		return err_set(
			e, -EINVAL,
			"a guest has %ju MiB to %ju GiB of memory in whole pages, not %ju bytes",
			(uintmax_t)(GUEST_MEM_MIN >> 20), (uintmax_t)(GUEST_MEM_MAX >> 30),
			(uintmax_t)bytes);
	if (fd < 0)
		return 0;
	if (fstat(fd, &st) < 0)
		return err_sys(e, "guest memory");
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < bytes)
		return err_set(e, -EINVAL, "the memory file has fewer than %ju bytes",
		               (uintmax_t)bytes);
	return 0;
}

/*
 * A private mapping of a file in tmpfs takes a page of that file system for each hole that is only
 * read, as a write does first. If there is none left, KVM tries for ever, and the guest stands
 * still with no word. So holes get anonymous memory there, which is what a write makes of them.
 */
static bool takes_pages_for_holes(int fd)
{
	struct statfs st;

	return fstatfs(fd, &st) == 0 && st.f_type == TMPFS_MAGIC;
}

static int free_holes(const struct guest_slot *s, int fd, struct err *e)
{
	const off_t end = (off_t)(s->file_off + s->bytes);
	off_t data = (off_t)s->file_off;

	for (unsigned i = 0; i < GUEST_HOLES_MAX && data < end; i++) {
		off_t hole = lseek(fd, data, SEEK_HOLE);
		void *at;

		if (hole < 0 || hole >= end)
			return 0;
		data = lseek(fd, hole, SEEK_DATA); /* -1: nothing but a hole is left */
		if (data < 0 || data > end)
			data = end;
		if (data - hole < GUEST_HOLE_BYTES_MIN)
			continue;
		at = mmap(s->base + ((uint64_t)hole - s->file_off), (size_t)(data - hole),
		          PROT_READ | PROT_WRITE,
		          MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (at == MAP_FAILED)
			return err_sys(e, "map the holes of guest memory");
		(void)madvise(at, (size_t)(data - hole), MADV_NOHUGEPAGE);
	}
	return 0;
}

static int map_slot(struct guest_slot *s, uint8_t *at, int fd, bool shared, struct err *e)
{
	int flags = MAP_FIXED | (shared ? MAP_SHARED : MAP_PRIVATE | MAP_NORESERVE) |
	            (fd < 0 ? MAP_ANONYMOUS : 0);
	void *got = mmap(at, s->bytes, PROT_READ | PROT_WRITE, flags, fd,
	                 fd < 0 ? 0 : (off_t)s->file_off);

	if (got == MAP_FAILED)
		return err_sys(e, "map %ju MiB of guest memory", (uintmax_t)(s->bytes >> 20));
	if (fd < 0)
		(void)madvise(got, s->bytes, MADV_HUGEPAGE); /* a host without them is slower */
	s->base = got;
	if (fd >= 0 && !shared && takes_pages_for_holes(fd))
		return free_holes(s, fd, e);
	return 0;
}

/* Opened now: a jail may close /proc later. Without it saving reads all of the memory. */
static int open_helpers(int fd, bool shared, struct guest_mem *m, struct err *e)
{
	m->file_fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (fd >= 0 && m->file_fd < 0)
		return err_sys(e, "keep the memory file");
	if (!shared && fd_open("/proc/self/pagemap", O_RDONLY, 0, &m->pagemap_fd, NULL) < 0)
		m->pagemap_fd = -1;
	return 0;
}

int guest_mem_map(int fd, uint64_t bytes, bool shared, struct guest_mem *ret, struct err *e)
{
	struct guest_mem m = { .file_fd = -1, .pagemap_fd = -1 };
	uint8_t *at;
	int r = check_file(fd, bytes, e);

	if (r == 0 && fd < 0 && shared)
		r = err_set(e, -EBADF, "memory that is kept needs a file");
	if (r < 0)
		return r;
	plan(bytes, &m);
	/* a guard before each slot and behind the last, and room to align the first */
	m.area_bytes = round_up(bytes, GUARD_BYTES) + (m.slot_count + 2) * GUARD_BYTES;
	m.area = mmap(NULL, m.area_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
	              -1, 0);
	if (m.area == MAP_FAILED)
		return err_sys(e, "find room for %ju MiB of guest memory",
		               (uintmax_t)(bytes >> 20));
	at = m.area;
	at += GUARD_BYTES - (uintptr_t)at % GUARD_BYTES + GUARD_BYTES;
	for (unsigned i = 0; i < m.slot_count && r == 0; i++) {
		r = map_slot(&m.slots[i], at, fd, shared, e);
		at += round_up(m.slots[i].bytes, GUARD_BYTES) + GUARD_BYTES;
	}
	if (r == 0)
		r = open_helpers(fd, shared, &m, e);
	if (r == 0 && madvise(m.area, m.area_bytes, MADV_DONTDUMP) < 0)
		r = err_sys(e, "keep guest memory out of core dumps");
	if (r < 0) {
		guest_mem_unmap(&m);
		return r;
	}
	*ret = m;
	return 0;
}

void guest_mem_unmap(struct guest_mem *m)
{
	if (m->area) {
		int r = munmap(m->area, m->area_bytes);

		assert(r == 0); /* ours, from guest_mem_map() */
		if (m->file_fd >= 0)
			(void)close(m->file_fd);
		if (m->pagemap_fd >= 0)
			(void)close(m->pagemap_fd);
	}
	*m = (struct guest_mem){ .file_fd = -1, .pagemap_fd = -1 };
}
