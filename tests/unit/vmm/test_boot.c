#include "tiny.h"

#include "vmm/boot.h"
#include "vmm/mptable.h"

static const uint8_t code[] = { 0xf4, 0x90, 0x90, 0x90 };

struct place {
	uint8_t *ram;
	struct guest_mem m;
};

static void place_init(struct place *p, uint64_t bytes)
{
	p->ram = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(p->ram != MAP_FAILED);
	guest_mem_over(p->ram, bytes, &p->m);
}

static uint32_t get32(const struct place *p, uint64_t at)
{
	uint32_t v;

	CHECK(guest_mem_read(&p->m, gpa_of(at), &v, sizeof(v)));
	return v;
}

static uint64_t get64(const struct place *p, uint64_t at)
{
	return get32(p, at) | (uint64_t)get32(p, at + 4) << 32;
}

static int load(const struct place *p, int kernel, int initrd, const char *cmdline,
                struct boot_entry *ret, struct err *e)
{
	struct boot_plan plan = { kernel, initrd, cmdline, 2 };

	return boot_load(&p->m, &plan, ret, e);
}

/* An ELF file with these segments (kind, offset, address, bytes in the file, in memory). */
struct seg {
	uint32_t kind;
	uint64_t off, paddr, file, mem;
};

static int kernel_of(uint64_t entry, const struct seg *segs, uint16_t count)
{
	uint8_t room[1024];
	struct buf b;
	int fd = tiny_memfd("kernel", 0x3000);

	buf_init(&b, room, sizeof(room));
	tiny_put_header(&b, entry, count);
	for (uint16_t i = 0; i < count; i++)
		tiny_put_segment(&b, segs[i].kind, segs[i].off, segs[i].paddr, segs[i].file,
		                 segs[i].mem);
	CHECK_EQ(pwrite(fd, b.at, b.len, 0), (ssize_t)b.len);
	CHECK_EQ(pwrite(fd, code, sizeof(code), 0x1000), (ssize_t)sizeof(code));
	return fd;
}

TEST(pvh_finds_its_tables)
{
	struct boot_entry entry;
	struct err e = { 0 };
	struct place p;
	int kernel = tiny_kernel(code, sizeof(code), true);
	int initrd = tiny_memfd("initrd", 5000);
	uint64_t at;

	CHECK_EQ(pwrite(initrd, "first", 5, 0), 5);
	CHECK_EQ(pwrite(initrd, "last", 4, 4996), 4);
	place_init(&p, TINY_RAM);
	CHECK_OK(load(&p, kernel, initrd, "console=hvc0", &entry, &e), &e);
	CHECK_EQ(entry.mode, BOOT_PVH);
	CHECK_EQ(entry.rip, TINY_CODE_AT);
	CHECK_EQ(memcmp(p.ram + TINY_CODE_AT, code, sizeof(code)), 0);

	CHECK_EQ(get32(&p, BOOT_START_INFO_AT), 0x336ec578);
	CHECK_EQ(get32(&p, BOOT_START_INFO_AT + 4), 1);
	CHECK_EQ(get32(&p, BOOT_START_INFO_AT + 12), 1);
	CHECK_EQ(get64(&p, BOOT_START_INFO_AT + 16), BOOT_MODULES_AT);
	CHECK_EQ(get64(&p, BOOT_START_INFO_AT + 24), BOOT_CMDLINE_AT);
	CHECK_EQ(get64(&p, BOOT_START_INFO_AT + 32), 0);
	CHECK_EQ(get64(&p, BOOT_START_INFO_AT + 40), BOOT_MEMORY_MAP_AT);
	CHECK_EQ(get32(&p, BOOT_START_INFO_AT + 48), 3);
	CHECK_STR((const char *)p.ram + BOOT_CMDLINE_AT, "console=hvc0");

	at = get64(&p, BOOT_MODULES_AT);
	CHECK_EQ(get64(&p, BOOT_MODULES_AT + 8), 5000);
	CHECK_EQ(at, TINY_RAM - 8192);
	CHECK_EQ(memcmp(p.ram + at, "first", 5), 0);
	CHECK_EQ(memcmp(p.ram + at + 4996, "last", 4), 0);

	CHECK_EQ(get64(&p, BOOT_MEMORY_MAP_AT + 8), MPTABLE_AT);
	CHECK_EQ(get64(&p, BOOT_MEMORY_MAP_AT + 48), BOOT_KERNEL_LOW);
	CHECK_EQ(get64(&p, BOOT_MEMORY_MAP_AT + 56), TINY_RAM - BOOT_KERNEL_LOW);
	CHECK_EQ(memcmp(p.ram + MPTABLE_AT, "_MP_", 4), 0);
}

TEST(without_an_initrd_there_is_no_module)
{
	struct boot_entry entry;
	struct err e = { 0 };
	struct place p;
	int kernel = tiny_kernel(code, sizeof(code), true);
	int empty = tiny_memfd("initrd", 0);

	place_init(&p, TINY_RAM);
	CHECK_OK(load(&p, kernel, -1, "", &entry, &e), &e);
	CHECK_EQ(get32(&p, BOOT_START_INFO_AT + 12), 0);
	CHECK_EQ(get64(&p, BOOT_START_INFO_AT + 16), 0);
	CHECK_OK(load(&p, kernel, empty, "", &entry, &e), &e);
	CHECK_EQ(get32(&p, BOOT_START_INFO_AT + 12), 0);
}

TEST(long_mode_finds_boot_params)
{
	struct boot_entry entry;
	struct err e = { 0 };
	struct place p;
	int kernel = tiny_kernel(code, sizeof(code), false);
	int initrd = tiny_memfd("initrd", 4096);
	const uint64_t at = BOOT_PARAMS_AT;

	place_init(&p, TINY_RAM);
	CHECK_OK(load(&p, kernel, initrd, "x", &entry, &e), &e);
	CHECK_EQ(entry.mode, BOOT_LINUX64);
	CHECK_EQ(p.ram[at + 0x1fe], 0x55);
	CHECK_EQ(p.ram[at + 0x1ff], 0xaa);
	CHECK_EQ(memcmp(p.ram + at + 0x202, "HdrS", 4), 0);
	CHECK_EQ(p.ram[at + 0x207] << 8 | p.ram[at + 0x206], 0x20c);
	CHECK_EQ(p.ram[at + 0x210], 0xff);
	CHECK_EQ(get32(&p, at + 0x218), TINY_RAM - 4096);
	CHECK_EQ(get32(&p, at + 0x21c), 4096);
	CHECK_EQ(get32(&p, at + 0x228), BOOT_CMDLINE_AT);
	CHECK_EQ(p.ram[at + 0x1e8], 3);
	CHECK_EQ(get32(&p, at + 0x2d0 + 20 + 16), BOOT_RESERVED);
	/* the last 2 MiB below 4 GiB, mapped one to one */
	CHECK_EQ(get64(&p, BOOT_PAGES_AT), BOOT_PAGES_AT + 0x1003);
	CHECK_EQ(get64(&p, BOOT_PAGES_AT + 0x1000 + 3 * 8), BOOT_PAGES_AT + 0x5003);
	CHECK_EQ(get64(&p, BOOT_PAGES_AT + 0x5000 + 511 * 8), 0xffe00083);
	CHECK_EQ(get64(&p, BOOT_GDT_AT + 0x10), 0x00af9b000000ffff);
}

TEST(registers_of_both_entries)
{
	struct boot_entry entry = { BOOT_PVH, 0x1000000 };
	struct kvm_sregs s = { .apic_base = 0xfee00900, .efer = 0 };
	struct kvm_regs r;

	boot_registers(&entry, &s, &r);
	CHECK_EQ(r.rip, 0x1000000);
	CHECK_EQ(r.rbx, BOOT_START_INFO_AT);
	CHECK_EQ(r.rflags, 2);
	CHECK_EQ(s.cr0, 0x11);
	CHECK_EQ(s.cr4, 0);
	CHECK_EQ(s.efer, 0);
	CHECK_EQ(s.cs.db, 1);
	CHECK_EQ(s.cs.l, 0);
	CHECK_EQ(s.ds.base, 0);
	CHECK_EQ(s.ds.limit, UINT32_MAX);
	CHECK_EQ(s.tr.limit, 0x67);
	CHECK_EQ(s.apic_base, 0xfee00900); /* KVM's own stays */
	entry.mode = BOOT_LINUX64;
	boot_registers(&entry, &s, &r);
	CHECK_EQ(r.rsi, BOOT_PARAMS_AT);
	CHECK_EQ(s.cs.l, 1);
	CHECK_EQ(s.cs.db, 0);
	CHECK_EQ(s.efer, 0x500);
	CHECK_EQ(s.cr3, BOOT_PAGES_AT);
	CHECK_EQ(s.cr0, 0x80000011);
}

TEST(the_map_of_a_large_guest_has_high_memory)
{
	struct boot_region map[BOOT_REGIONS_MAX];
	struct guest_mem m = { .slot_count = 2, .bytes = UINT64_C(5) << 30 };

	m.slots[0] = (struct guest_slot){ .start = 0, .bytes = GUEST_HOLE_START };
	m.slots[1] = (struct guest_slot){ .start = GUEST_HOLE_END, .bytes = UINT64_C(2) << 30 };
	CHECK_EQ(boot_memory_map(&m, map), 4);
	CHECK_EQ(map[2].start + map[2].bytes, GUEST_HOLE_START);
	CHECK_EQ(map[3].start, GUEST_HOLE_END);
	CHECK_EQ(map[3].bytes, UINT64_C(2) << 30);
}

TEST(refuses_what_is_no_kernel)
{
	static const struct seg low[] = { { 1, 0x1000, 0xff000, 4, 4 } };
	static const struct seg high[] = { { 1, 0x1000, TINY_RAM - 2, 4, 4 } };
	static const struct seg huge[] = { { 1, 0x1000, 0x100000, 4, UINT64_MAX - 0x100000 } };
	static const struct seg cut[] = { { 1, 0x2ffe, 0x100000, 4, 4 } };
	static const struct seg far[] = { { 1, INT64_MAX, 0x100000, 4, 4 } };
	static const struct seg overlap[] = { { 1, 0x1000, 0x100000, 4, 4096 },
		                              { 1, 0x1000, 0x100fff, 4, 4 } };
	static const struct seg note[] = { { 1, 0x1000, 0x100000, 4, 4 },
		                           { 4, 0x2ffe, 0, 20, 20 } };
	static const struct seg long_note[] = { { 1, 0x1000, 0x100000, 4, 4 },
		                                { 4, 0x1000, 0, 65537, 65537 } };
	static const struct seg bad_note[] = { { 1, 0x1000, 0x100000, 4, 4 },
		                               { 4, 0x1000, 0, 9, 9 } };
	static const struct {
		uint64_t entry;
		const struct seg *segs;
		uint16_t count;
		int code;
	} bad[] = {
		{ 0xff000, low, 1, -ENOEXEC },       { TINY_RAM - 2, high, 1, -ENOMEM },
		{ 0x100000, huge, 1, -ENOMEM },      { 0x100000, cut, 1, -ENOEXEC },
		{ 0x100000, far, 1, -ENOEXEC },      { 0x100000, overlap, 2, -ENOEXEC },
		{ 0x100000, note, 2, -ENOEXEC },     { 0x100000, long_note, 2, -ENOEXEC },
		{ 0x100000, bad_note, 2, -ENOEXEC }, { 0x100004, overlap, 1, -ENOEXEC },
		{ 0, overlap, 1, -ENOEXEC },         { UINT64_MAX, overlap, 1, -ENOEXEC },
	};
	struct place p;

	place_init(&p, TINY_RAM);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct boot_entry entry = { .rip = 77 };
		struct err e = { 0 };
		int kernel = kernel_of(bad[i].entry, bad[i].segs, bad[i].count);

		CHECK_EQ(load(&p, kernel, -1, "", &entry, &e), bad[i].code);
		CHECK(e.len > 0);
		CHECK_EQ(entry.rip, 77);
		(void)close(kernel);
	}
}

TEST(refuses_files_that_are_none)
{
	struct boot_entry entry;
	struct err e = { 0 };
	struct place p;
	int empty = tiny_memfd("kernel", 0);
	int kernel = tiny_kernel(code, sizeof(code), true);
	int fds[2];

	place_init(&p, TINY_RAM);
	CHECK_EQ(pipe(fds), 0);
	CHECK_EQ(load(&p, empty, -1, "", &entry, &e), -ENOEXEC);
	CHECK_STR(e.text, "the kernel is no 64-bit x86 ELF file (a vmlinux, not a bzImage)");
	CHECK_EQ(load(&p, -1, -1, "", &entry, &e), -EBADF);
	CHECK_EQ(load(&p, fds[0], -1, "", &entry, &e), -ESPIPE);
	CHECK_EQ(load(&p, kernel, fds[0], "", &entry, &e), -EINVAL);
	CHECK_EQ(load(&p, kernel, tiny_memfd("initrd", TINY_RAM), "", &entry, &e), -ENOMEM);
	/* just fits above 1 MiB, but not beside the kernel */
	CHECK_EQ(load(&p, kernel, tiny_memfd("initrd", TINY_RAM - 0x100000), "", &entry, &e),
	         -ENOMEM);
}

TEST(the_command_line_has_an_end)
{
	char text[VM_CMDLINE_MAX + 1];
	struct boot_entry entry;
	struct err e = { 0 };
	struct place p;
	int kernel = tiny_kernel(code, sizeof(code), true);

	place_init(&p, TINY_RAM);
	memset(text, 'x', sizeof(text));
	text[VM_CMDLINE_MAX] = '\0';
	CHECK_EQ(load(&p, kernel, -1, text, &entry, &e), -E2BIG);
	text[VM_CMDLINE_MAX - 1] = '\0';
	CHECK_OK(load(&p, kernel, -1, text, &entry, &e), &e);
	CHECK_EQ(p.ram[BOOT_CMDLINE_AT + VM_CMDLINE_MAX - 1], 0);
}

TEST(too_little_memory_is_refused)
{
	struct boot_entry entry;
	struct err e = { 0 };
	struct place p;
	int kernel = tiny_kernel(code, sizeof(code), true);

	place_init(&p, 1 << 20);
	CHECK_EQ(load(&p, kernel, -1, "", &entry, &e), -ENOMEM);
}

TEST_MAIN()
