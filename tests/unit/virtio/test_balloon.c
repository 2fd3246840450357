#include "virtio_driver.h"

#include "failalloc.h"
#include "guardpage.h"
#include "test.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum {
	PAGE = 4096,
	INFLATE = 0,
	DEFLATE = 1,
	REPORT = 2,
	TEMPLATE_BYTE = 0x7e,
	GUEST_BYTE = 0x91,
	MAPS_MAX = 16384,
};

#define F_DEFLATE_ON_OOM (1ULL << 2)
#define F_REPORTING      (1ULL << 5)
#define F_ALL            (~0ULL)
#define PAGES_AT         (UINT64_C(1) << 20) /* what the tests play with lies above the rings */
#define FIRST            ((uint32_t)(PAGES_AT / PAGE))

struct rig {
	struct vdriver d;
	int fd; /* behind the memory */
	uint64_t array;
};

/* A file whose every byte says that it is the template's. */
static int template_file(void)
{
	int fd = openat(AT_FDCWD, test_tmpdir(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	uint8_t block[PAGE];

	CHECK(fd >= 0);
	memset(block, TEMPLATE_BYTE, sizeof(block));
	for (uint64_t at = 0; at < VDRIVER_RAM_BYTES; at += PAGE)
		CHECK_EQ(pwrite(fd, block, PAGE, (off_t)at), PAGE);
	return fd;
}

static void map_over(struct rig *r, int flags)
{
	void *at = mmap(r->d.ram, VDRIVER_RAM_BYTES, PROT_READ | PROT_WRITE, flags | MAP_FIXED,
	                r->fd, 0);

	CHECK(at == r->d.ram);
}

static void make(struct rig *r, bool mem_private)
{
	struct virtio_place at = vdriver_place(&r->d);
	struct virtio_dev *dev = NULL;
	struct err e;

	CHECK_OK(balloon_new(&at, &(struct balloon_config){ .mem_private = mem_private }, &dev, &e),
	         &e);
	vdriver_start(&r->d, dev);
	CHECK(vdriver_probe(&r->d, F_ALL, 0));
	r->array = vdriver_alloc(&r->d, 20000, 4);
}

static void start_private(struct rig *r)
{
	vdriver_init(&r->d);
	r->fd = template_file();
	map_over(r, MAP_PRIVATE | MAP_NORESERVE);
	make(r, true);
}

static void start_shared(struct rig *r, int fd)
{
	vdriver_init(&r->d);
	r->fd = fd;
	CHECK_EQ(ftruncate(r->fd, VDRIVER_RAM_BYTES), 0);
	map_over(r, MAP_SHARED);
	make(r, false);
}

static void end(struct rig *r)
{
	vdriver_fini(&r->d);
	(void)close(r->fd);
}

static struct balloon_counts counts(struct rig *r)
{
	struct balloon_counts c;

	balloon_get_counts(r->d.dev, &c);
	return c;
}

/* Sends page numbers; the used length, or -1. */
static int64_t send(struct rig *r, unsigned queue, const uint32_t *pfns, unsigned n)
{
	uint8_t *to = vdriver_at(&r->d, r->array, 4ULL * n);

	for (unsigned i = 0; i < n; i++) {
		uint32_t le = htole32(pfns[i]);

		memcpy(to + 4ULL * i, &le, 4);
	}
	return vdriver_request(&r->d, queue, &(struct vbuf){ r->array, 4 * n, false }, 1);
}

static int64_t report(struct rig *r, uint64_t at, uint32_t len)
{
	return vdriver_request(&r->d, REPORT, &(struct vbuf){ at, len, true }, 1);
}

static bool all(struct rig *r, uint64_t at, uint64_t bytes, uint8_t want)
{
	const uint8_t *p = vdriver_at(&r->d, at, bytes);

	for (uint64_t i = 0; i < bytes; i++)
		if (p[i] != want)
			return false;
	return true;
}

static void write_all(struct rig *r, uint64_t at, uint64_t bytes, uint8_t v)
{
	memset(vdriver_at(&r->d, at, bytes), v, bytes);
}

/* -- reporting ------------------------------------------------------------------------------------
 */

TEST(reported_pages_of_a_template_read_as_zeros)
{
	struct rig r;
	uint8_t b;

	start_private(&r);
	CHECK(all(&r, PAGES_AT, 64 * PAGE, TEMPLATE_BYTE));
	write_all(&r, PAGES_AT, 16 * PAGE, GUEST_BYTE); /* some changed, some as in the template */
	CHECK_EQ(report(&r, PAGES_AT, 32 * PAGE), 0);
	CHECK(all(&r, PAGES_AT, 32 * PAGE, 0));
	CHECK(all(&r, PAGES_AT - PAGE, PAGE, TEMPLATE_BYTE));
	CHECK(all(&r, PAGES_AT + 32 * PAGE, PAGE, TEMPLATE_BYTE));
	CHECK(balloon_has_replaced(r.d.dev, gpa_of(PAGES_AT)));
	CHECK(balloon_has_replaced(r.d.dev, gpa_of(PAGES_AT + 32 * PAGE - 1)));
	CHECK(!balloon_has_replaced(r.d.dev, gpa_of(PAGES_AT - 1)));
	CHECK(!balloon_has_replaced(r.d.dev, gpa_of(PAGES_AT + 32 * PAGE)));
	CHECK(!balloon_has_replaced(r.d.dev, gpa_of(UINT64_MAX)));

	/* the guest uses them, and gives them up once more: now without a new mapping */
	write_all(&r, PAGES_AT, 32 * PAGE, GUEST_BYTE);
	CHECK_EQ(report(&r, PAGES_AT + PAGE, 30 * PAGE), 0);
	CHECK(all(&r, PAGES_AT, PAGE, GUEST_BYTE));
	CHECK(all(&r, PAGES_AT + PAGE, 30 * PAGE, 0));
	CHECK(all(&r, PAGES_AT + 31 * PAGE, PAGE, GUEST_BYTE));
	CHECK_EQ(counts(&r).maps, 1);
	CHECK_EQ(counts(&r).reported_pages, 62);
	CHECK_EQ(counts(&r).dropped_pages, 62);
	CHECK_EQ(counts(&r).kept_pages, 0);

	/* half replaced, half not: all zeros */
	CHECK_EQ(report(&r, PAGES_AT + 16 * PAGE, 32 * PAGE), 0);
	CHECK(all(&r, PAGES_AT + 16 * PAGE, 32 * PAGE, 0));
	CHECK_EQ(counts(&r).maps, 2);

	/* and the template never knew */
	for (off_t at = 0; at < VDRIVER_RAM_BYTES; at += PAGE / 2) {
		CHECK_EQ(pread(r.fd, &b, 1, at), 1);
		CHECK_EQ(b, TEMPLATE_BYTE);
	}
	end(&r);
}

TEST(only_whole_pages_are_dropped)
{
	struct rig r;

	start_private(&r);
	CHECK_EQ(report(&r, PAGES_AT + 1, 3 * PAGE), 0);
	CHECK(all(&r, PAGES_AT, PAGE, TEMPLATE_BYTE));
	CHECK(all(&r, PAGES_AT + PAGE, 2 * PAGE, 0));
	CHECK(all(&r, PAGES_AT + 3 * PAGE, PAGE, TEMPLATE_BYTE));
	CHECK_EQ(report(&r, PAGES_AT + 8 * PAGE + 1, PAGE), 0);
	CHECK_EQ(report(&r, PAGES_AT + 8 * PAGE, PAGE - 1), 0);
	CHECK_EQ(report(&r, PAGES_AT + 8 * PAGE, 1), 0);
	CHECK_EQ(report(&r, PAGES_AT + 8 * PAGE + 5, 0), 0);
	CHECK(all(&r, PAGES_AT + 8 * PAGE, 2 * PAGE, TEMPLATE_BYTE));
	CHECK_EQ(counts(&r).reported_pages, 2);
	end(&r);
}

TEST(neighbouring_ranges_are_one)
{
	struct rig r;
	struct vbuf b[32];

	start_private(&r);
	for (unsigned i = 0; i < 32; i++)
		b[i] = (struct vbuf){ PAGES_AT + 2ULL * i * PAGE, 2 * PAGE, true };
	b[20].at += 1024 * PAGE / 2; /* one stands apart: what follows it is apart as well */
	CHECK_EQ(vdriver_request(&r.d, REPORT, b, 32), 0);
	CHECK_EQ(counts(&r).maps, 3);
	CHECK_EQ(counts(&r).dropped_pages, 64);
	CHECK(all(&r, PAGES_AT, 40 * PAGE, 0));
	CHECK(all(&r, PAGES_AT + 40 * PAGE, 2 * PAGE, TEMPLATE_BYTE));
	CHECK(all(&r, PAGES_AT + 42 * PAGE, 22 * PAGE, 0));
	end(&r);
}

static uint64_t blocks(int fd)
{
	struct stat st;

	CHECK_EQ(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void shared(int fd)
{
	struct rig r;
	uint64_t before;
	uint8_t b = 1;

	start_shared(&r, fd);
	write_all(&r, PAGES_AT, 256 * PAGE, GUEST_BYTE);
	CHECK_EQ(msync(r.d.ram, VDRIVER_RAM_BYTES, MS_SYNC), 0);
	before = blocks(fd);
	CHECK_EQ(report(&r, PAGES_AT + 16 * PAGE, 128 * PAGE), 0);
	CHECK(blocks(fd) <= before - 128 * PAGE);
	CHECK_EQ(pread(fd, &b, 1, PAGES_AT + 16 * PAGE), 1);
	CHECK_EQ(b, 0);
	CHECK(all(&r, PAGES_AT, 16 * PAGE, GUEST_BYTE));
	CHECK(all(&r, PAGES_AT + 16 * PAGE, 128 * PAGE, 0));
	CHECK(all(&r, PAGES_AT + 144 * PAGE, 112 * PAGE, GUEST_BYTE));
	write_all(&r, PAGES_AT, 256 * PAGE, GUEST_BYTE);
	CHECK(all(&r, PAGES_AT, 256 * PAGE, GUEST_BYTE));
	CHECK_EQ(counts(&r).dropped_pages, 128);
	CHECK_EQ(counts(&r).maps, 0);
	CHECK(!balloon_has_replaced(r.d.dev, gpa_of(PAGES_AT + 16 * PAGE)));
	end(&r);
}

TEST(shared_memory_gets_holes)
{
	shared(memfd_create("ram", MFD_CLOEXEC));
	shared(openat(AT_FDCWD, test_tmpdir(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
}

TEST(memory_without_a_file_is_dropped)
{
	struct rig r;
	struct virtio_place at;
	struct virtio_dev *dev = NULL;
	struct err e;

	vdriver_init(&r.d);
	r.fd = -1;
	at = vdriver_place(&r.d);
	CHECK_OK(balloon_new(&at, &(struct balloon_config){ .mem_fresh = true }, &dev, &e), &e);
	vdriver_start(&r.d, dev);
	CHECK(vdriver_probe(&r.d, F_ALL, 0));
	write_all(&r, PAGES_AT, 256 * PAGE, GUEST_BYTE);
	CHECK_EQ(report(&r, PAGES_AT + 16 * PAGE, 128 * PAGE), 0);
	CHECK(all(&r, PAGES_AT, 16 * PAGE, GUEST_BYTE));
	CHECK(all(&r, PAGES_AT + 16 * PAGE, 128 * PAGE, 0));
	CHECK_EQ(counts(&r).dropped_pages, 128);
	CHECK_EQ(counts(&r).maps, 0);
	CHECK(!balloon_has_replaced(r.d.dev, gpa_of(PAGES_AT + 16 * PAGE)));
	vdriver_fini(&r.d);
}

TEST(what_cannot_be_dropped_stays)
{
	struct rig r;
	int fd = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	/* a private mapping that is said to be shared: MADV_REMOVE refuses */
	vdriver_init(&r.d);
	r.fd = fd;
	CHECK_EQ(ftruncate(fd, VDRIVER_RAM_BYTES), 0);
	map_over(&r, MAP_PRIVATE);
	make(&r, false);
	write_all(&r, PAGES_AT, 8 * PAGE, GUEST_BYTE);
	CHECK_EQ(report(&r, PAGES_AT, 8 * PAGE), 0);
	CHECK(all(&r, PAGES_AT, 8 * PAGE, GUEST_BYTE));
	CHECK_EQ(counts(&r).kept_pages, 8);
	CHECK_EQ(counts(&r).dropped_pages, 0);
	end(&r);
}

/* -- inflating ------------------------------------------------------------------------------------
 */

TEST(inflated_pages_are_dropped_in_ranges)
{
	struct rig r;
	uint32_t pfns[512];

	start_private(&r);
	write_all(&r, PAGES_AT, 512 * PAGE, GUEST_BYTE);
	/* downwards, each twice, in two batches */
	for (unsigned i = 0; i < 512; i++)
		pfns[i] = FIRST + 255 - i / 2;
	CHECK_EQ(send(&r, INFLATE, pfns, 512), 0);
	CHECK(all(&r, PAGES_AT, 256 * PAGE, 0));
	CHECK(all(&r, PAGES_AT + 256 * PAGE, 256 * PAGE, GUEST_BYTE));
	CHECK_EQ(counts(&r).maps, 2);
	CHECK_EQ(counts(&r).inflated_pages, 512);
	CHECK_EQ(counts(&r).dropped_pages, 256);
	/* every other page is a range of its own */
	for (unsigned i = 0; i < 16; i++)
		pfns[i] = FIRST + 300 + 2 * (i * 7 % 16);
	CHECK_EQ(send(&r, INFLATE, pfns, 16), 0);
	CHECK_EQ(counts(&r).maps, 18);
	for (unsigned i = 0; i < 16; i++) {
		CHECK(all(&r, PAGES_AT + (300 + 2ULL * i) * PAGE, PAGE, 0));
		CHECK(all(&r, PAGES_AT + (301 + 2ULL * i) * PAGE, PAGE, GUEST_BYTE));
	}
	CHECK_EQ(send(&r, DEFLATE, pfns, 16), 0);
	CHECK_EQ(counts(&r).deflated_pages, 16);
	write_all(&r, PAGES_AT, 512 * PAGE, GUEST_BYTE);
	CHECK(all(&r, PAGES_AT, 512 * PAGE, GUEST_BYTE));
	end(&r);
}

TEST(asks_the_driver_for_pages)
{
	struct rig r;
	uint32_t got[2];

	start_private(&r);
	CHECK_EQ(vdriver_offered(&r.d) & 0xffff, F_DEFLATE_ON_OOM | F_REPORTING);
	vdriver_read_config(&r.d, 0, got, 8);
	CHECK_EQ(le32toh(got[0]), 0);
	balloon_set_target(r.d.dev, 300);
	CHECK_EQ(vdriver_interrupt(&r.d, VDRIVER_WAIT_MS), ISR_CONFIG);
	vdriver_write32(&r.d, MMIO_CONFIG + 4, 299);
	vdriver_write32(&r.d, MMIO_CONFIG, 7); /* not the driver's to write */
	vdriver_read_config(&r.d, 0, got, 8);
	CHECK_EQ(le32toh(got[0]), 300);
	CHECK_EQ(le32toh(got[1]), 299);
	CHECK_EQ(counts(&r).actual_pages, 299);
	balloon_set_target(r.d.dev, UINT32_MAX); /* all there is */
	vdriver_read_config(&r.d, 0, got, 8);
	CHECK_EQ(le32toh(got[0]), VDRIVER_RAM_BYTES / PAGE);
	vdriver_reset(&r.d);
	CHECK_EQ(counts(&r).actual_pages, 0);
	end(&r);
}

/* -- a driver that lies ---------------------------------------------------------------------------
 */

static void breaks(struct rig *r, unsigned queue, const struct vbuf *b)
{
	uint64_t dropped = counts(r).dropped_pages;

	(void)vdriver_add(&r->d, queue, b, 1);
	vdriver_kick(&r->d, queue);
	CHECK(vdriver_wait_needs_reset(&r->d));
	CHECK_EQ(counts(r).dropped_pages, dropped);
	CHECK(vdriver_probe(&r->d, F_ALL, 0));
	(void)vdriver_interrupt(&r->d, 0);
}

static void pfn_breaks(struct rig *r, uint32_t pfn)
{
	uint32_t le = htole32(pfn);

	memcpy(vdriver_at(&r->d, r->array, 4), &le, 4);
	breaks(r, INFLATE, &(struct vbuf){ r->array, 4, false });
	breaks(r, DEFLATE, &(struct vbuf){ r->array, 4, false });
}

TEST(pages_that_are_not_ram_break_the_device)
{
	struct rig r;

	start_private(&r);
	pfn_breaks(&r, VDRIVER_RAM_BYTES / PAGE);
	pfn_breaks(&r, UINT32_MAX);
	pfn_breaks(&r, 0xd0000); /* the devices' own window */
	pfn_breaks(&r, 1U << 20);
	pfn_breaks(&r, 1U << 31);
	CHECK(all(&r, PAGES_AT, PAGE, TEMPLATE_BYTE));
	end(&r);
}

TEST(bad_arrays_and_directions_break_the_device)
{
	struct rig r;

	start_private(&r);
	breaks(&r, INFLATE, &(struct vbuf){ r.array, 3, false });
	breaks(&r, INFLATE, &(struct vbuf){ r.array, 4097 * 4, false });
	breaks(&r, INFLATE, &(struct vbuf){ PAGES_AT, PAGE, true });
	breaks(&r, DEFLATE, &(struct vbuf){ PAGES_AT, PAGE, true });
	breaks(&r, REPORT, &(struct vbuf){ PAGES_AT, PAGE, false });
	breaks(&r, REPORT, &(struct vbuf){ VDRIVER_RAM_BYTES - PAGE, 2 * PAGE, true });
	breaks(&r, REPORT, &(struct vbuf){ UINT64_MAX - PAGE + 1, PAGE, true });
	breaks(&r, REPORT, &(struct vbuf){ 0, UINT32_MAX, true });
	CHECK(all(&r, PAGES_AT, PAGE, TEMPLATE_BYTE));
	end(&r);
}

TEST(reporting_has_to_be_negotiated)
{
	struct rig r;

	start_private(&r);
	CHECK(vdriver_probe(&r.d, F_ALL & ~F_REPORTING, 0));
	(void)vdriver_add(&r.d, REPORT, &(struct vbuf){ PAGES_AT, PAGE, true }, 1);
	vdriver_kick(&r.d, REPORT);
	CHECK(vdriver_wait_needs_reset(&r.d));
	CHECK(all(&r, PAGES_AT, PAGE, TEMPLATE_BYTE));
	end(&r);
}

static void serve_kicks(void *arg)
{
	struct rig *r = arg;

	virtio_poll_kicks(r->d.dev);
}

/* All of RAM, rings and all: the guest has ruined itself and nobody else. */
TEST(a_guest_may_give_up_everything)
{
	for (unsigned round = 0; round < 2; round++) {
		struct rig r;

		start_private(&r);
		if (round == 0) {
			(void)vdriver_add(&r.d, REPORT,
			                  &(struct vbuf){ 0, VDRIVER_RAM_BYTES, true }, 1);
			vdriver_kick(&r.d, REPORT);
		} else {
			uint32_t pfns[1024];

			for (unsigned i = 0; i < 1024; i++)
				pfns[i] = i;
			(void)send(&r, INFLATE, pfns, 1024);
		}
		vdriver_on_loop(&r.d, serve_kicks, &r);
		vdriver_reset(&r.d);
		/* the array of round 1 goes with its first batch: the rest of it is page 0 */
		CHECK(all(&r, PAGES_AT, VDRIVER_RAM_BYTES - PAGES_AT, round ? TEMPLATE_BYTE : 0));
		CHECK(vdriver_probe(&r.d, F_ALL, 0));
		r.array = vdriver_alloc(&r.d, 4096, 4);
		(void)vdriver_interrupt(&r.d, 0);
		CHECK_EQ(send(&r, DEFLATE, &(uint32_t){ FIRST }, 1), 0);
		end(&r);
	}
}

/* -- how many mappings it may make ----------------------------------------------------------------
 */

static unsigned mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned n = 0;
	int c;

	CHECK(f);
	while ((c = fgetc(f)) != EOF)
		n += c == '\n';
	(void)fclose(f);
	return n;
}

/*
 * A device over far more memory than the driver's, so that the budget can be spent: every other
 * page of it is reported, each a mapping of its own.
 */
TEST(the_number_of_mappings_has_an_end)
{
	uint64_t bytes = (uint64_t)(MAPS_MAX + 512) * 2 * PAGE;
	struct rig r;
	struct virtio_place at;
	struct virtio_dev *dev = NULL;
	struct guest_mem mem;
	struct vbuf b[32];
	struct err e;
	unsigned before;
	uint8_t *ram;

	vdriver_init(&r.d);
	r.fd = memfd_create("ram", MFD_CLOEXEC);
	CHECK_EQ(ftruncate(r.fd, (off_t)bytes), 0);
	ram = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, r.fd, 0);
	CHECK(ram != MAP_FAILED);
	guest_mem_over(ram, bytes, &mem);
	(void)munmap(r.d.ram, VDRIVER_RAM_BYTES);
	r.d.ram = ram; /* its first 4 MiB are the driver's */
	r.d.borrowed = true;
	at = vdriver_place(&r.d);
	at.mem = &mem;
	CHECK_OK(balloon_new(&at, &(struct balloon_config){ .mem_private = true }, &dev, &e), &e);
	vdriver_start(&r.d, dev);
	CHECK(vdriver_probe(&r.d, F_ALL, 0));
	before = mappings();
	for (uint64_t page = 1024; page + 64 < bytes / PAGE; page += 64) {
		for (unsigned i = 0; i < 32; i++)
			b[i] = (struct vbuf){ (page + 2ULL * i) * PAGE, PAGE, true };
		CHECK_EQ(vdriver_request(&r.d, REPORT, b, 32), 0);
	}
	CHECK(counts(&r).maps <= MAPS_MAX);
	CHECK(mappings() <= before + 2 * MAPS_MAX);

	/* spent, by filling gaps between ranges that cannot merge */
	for (uint64_t page = 1025; page + 64 < bytes / PAGE && counts(&r).maps < MAPS_MAX;
	     page += 64) {
		for (unsigned i = 0; i < 32; i++)
			b[i] = (struct vbuf){ (page + 2ULL * i) * PAGE, PAGE, true };
		CHECK_EQ(vdriver_request(&r.d, REPORT, b, 32), 0);
	}
	CHECK_EQ(counts(&r).maps, MAPS_MAX);
	CHECK(mappings() <= before + 2 * MAPS_MAX);
	/* what is not replaced by now stays: that is allowed, and still bounded */
	memset(ram + 600 * PAGE, GUEST_BYTE, PAGE);
	CHECK_EQ(report(&r, 600 * PAGE, PAGE), 0);
	CHECK_EQ(ram[600 * PAGE], GUEST_BYTE);
	CHECK(counts(&r).kept_pages > 0);
	/* and what is replaced can be given up for ever */
	memset(ram + 1024 * PAGE, GUEST_BYTE, PAGE);
	CHECK_EQ(report(&r, 1024 * PAGE, PAGE), 0);
	CHECK_EQ(ram[1024 * PAGE], 0);
	vdriver_fini(&r.d);
	(void)munmap(ram, bytes);
	(void)close(r.fd);
}

/* -- under KVM ------------------------------------------------------------------------------------
 */

struct kvm {
	int kvm, vm, vcpu;
	struct kvm_run *run;
};

/* One CPU in real mode over the driver's memory. False: not on this machine. */
static bool make_kvm(struct kvm *k, struct rig *r)
{
	struct kvm_userspace_memory_region region = {
		.memory_size = VDRIVER_RAM_BYTES,
		.userspace_addr = (uintptr_t)r->d.ram,
	};
	struct kvm_sregs s;
	int bytes;

	k->kvm = openat(AT_FDCWD, "/dev/kvm", O_RDWR | O_CLOEXEC);
	if (k->kvm < 0)
		return false;
	k->vm = ioctl(k->kvm, KVM_CREATE_VM, 0UL);
	if (k->vm < 0 || ioctl(k->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return false;
	k->vcpu = ioctl(k->vm, KVM_CREATE_VCPU, 0UL);
	bytes = ioctl(k->kvm, KVM_GET_VCPU_MMAP_SIZE, 0UL);
	if (k->vcpu < 0 || bytes < (int)sizeof(*k->run))
		return false;
	k->run = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, k->vcpu, 0);
	if (k->run == MAP_FAILED || ioctl(k->vcpu, KVM_GET_SREGS, &s) < 0)
		return false;
	s.cs.base = 0;
	s.cs.selector = 0;
	s.ds.base = PAGES_AT;
	return ioctl(k->vcpu, KVM_SET_SREGS, &s) == 0;
}

/* What the guest reads at PAGES_AT; writes `then` there. -1: it did not run. */
static int guest_swap(struct kvm *k, struct rig *r, uint8_t then)
{
	/* mov al, [0]; mov byte [0], bl; hlt */
	static const uint8_t code[] = { 0xa0, 0, 0, 0x88, 0x1e, 0, 0, 0xf4 };
	struct kvm_regs regs = { .rip = 0x500, .rflags = 2, .rbx = then };

	memcpy(vdriver_at(&r->d, 0x500, sizeof(code)), code, sizeof(code));
	if (ioctl(k->vcpu, KVM_SET_REGS, &regs) < 0 || ioctl(k->vcpu, KVM_RUN, 0UL) < 0 ||
	    k->run->exit_reason != KVM_EXIT_HLT || ioctl(k->vcpu, KVM_GET_REGS, &regs) < 0)
		return -1;
	return (int)(regs.rax & 0xff);
}

TEST(kvm_follows_a_replaced_page)
{
	struct rig r;
	struct kvm k;

	start_private(&r);
	if (!make_kvm(&k, &r))
		TEST_SKIP("no /dev/kvm that works: %m");
	if (guest_swap(&k, &r, GUEST_BYTE) != TEMPLATE_BYTE)
		TEST_SKIP("/dev/kvm does not run a guest of three instructions");
	CHECK_EQ(guest_swap(&k, &r, GUEST_BYTE), GUEST_BYTE);
	CHECK_EQ(report(&r, PAGES_AT, PAGE), 0);
	CHECK_EQ(guest_swap(&k, &r, GUEST_BYTE), 0); /* the same slot, other memory behind it */
	CHECK_EQ(*(uint8_t *)vdriver_at(&r.d, PAGES_AT, 1), GUEST_BYTE);
	CHECK_EQ(report(&r, PAGES_AT, PAGE), 0);
	CHECK_EQ(guest_swap(&k, &r, GUEST_BYTE), 0);
	end(&r);
}

/* -- state ----------------------------------------------------------------------------------------
 */

struct saved {
	struct rig *r;
	struct buf b;
	uint8_t room[VIRTIO_SAVE_MAX];
};

static void save_it(void *arg)
{
	struct saved *s = arg;

	virtio_pause(s->r->d.dev);
	virtio_save(s->r->d.dev, &s->b);
}

static int restore(struct saved *s, struct vdriver *d, struct span in)
{
	struct virtio_place at;
	struct virtio_dev *dev = NULL;
	struct err e;

	vdriver_init_over(d, &s->r->d);
	at = vdriver_place(d);
	CHECK_OK(balloon_new(&at, &(struct balloon_config){ .mem_private = true }, &dev, &e), &e);
	vdriver_attach(d, dev);
	return virtio_load(dev, in, &e);
}

TEST(state_survives_and_is_judged)
{
	struct rig r;
	struct saved s = { .r = &r };
	struct vdriver d;
	struct balloon_counts c;

	start_private(&r);
	balloon_set_target(r.d.dev, 500);
	vdriver_write32(&r.d, MMIO_CONFIG + 4, 123);
	buf_init(&s.b, s.room, sizeof(s.room));
	vdriver_on_loop(&r.d, save_it, &s);
	CHECK(buf_ok(&s.b));
	CHECK_EQ(restore(&s, &d, buf_span(&s.b)), 0);
	virtio_resume(d.dev);
	balloon_get_counts(d.dev, &c);
	CHECK_EQ(c.target_pages, 500);
	CHECK_EQ(c.actual_pages, 123);
	CHECK_EQ(c.maps, 0);
	vdriver_fini(&d);
	for (size_t n = 0; n < s.b.len; n++) {
		CHECK_EQ(restore(&s, &d, guard_span(s.room, n)), -EBADMSG);
		vdriver_fini(&d);
	}
	end(&r);
}

TEST(every_allocation_may_fail)
{
	struct vdriver d;
	struct virtio_place at;

	vdriver_init(&d);
	at = vdriver_place(&d);
	FAILALLOC_EACH()
	{
		struct virtio_dev *dev = NULL;
		struct err e;
		int r = balloon_new(&at, &(struct balloon_config){ .mem_private = true }, &dev, &e);

		if (failalloc_hit()) {
			CHECK_EQ(r, -ENOMEM);
			CHECK(!dev);
		} else {
			CHECK_OK(r, &e);
			virtio_dev_free(dev);
		}
	}
	vdriver_fini(&d);
}

TEST_MAIN()
