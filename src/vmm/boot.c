#include "vmm/boot.h"

#include "base/buf.h"
#include "base/ck.h"
#include "vmm/elf_parse.h"
#include "vmm/mptable.h"
#include "vmm/vm.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
	TABLE_BYTES = 4096,
	/* start_info, version 1 */
	START_INFO_VERSION = 1,
	START_INFO_BYTES = 56,
	MODULE_BYTES = 32,
	REGION_BYTES = 24,
	/* boot_params: zero-page.rst, and the setup header of boot.rst from 0x1f1 on */
	PARAM_E820_COUNT = 0x1e8,
	PARAM_BOOT_FLAG = 0x1fe,
	PARAM_HEADER = 0x202,
	PARAM_VERSION = 0x206,
	PARAM_LOADER = 0x210,
	PARAM_LOAD_FLAGS = 0x211,
	PARAM_RAMDISK_AT = 0x218,
	PARAM_RAMDISK_BYTES = 0x21c,
	PARAM_CMDLINE_AT = 0x228,
	PARAM_CMDLINE_BYTES = 0x238,
	PARAM_E820 = 0x2d0,
	PARAM_E820_BYTES = 20,
	LOADER_UNKNOWN = 0xff,
	LOADED_HIGH = 1,
	PROTOCOL = 0x20c, /* the first with a 64-bit entry */
	/* page tables */
	PAGES_COUNT = 6,
	PRESENT_WRITABLE = 3,
	LARGE = 0x80,
	PAGE_ENTRIES = 512,
	MAPPED_GIB = 4,
	/* segments */
	CODE64 = 0x10, /* __BOOT_CS and __BOOT_DS of boot.rst */
	DATA64 = 0x18,
	GDT_BYTES = 32,
	TYPE_CODE = 11, /* execute, read, accessed */
	TYPE_DATA = 3,
	TYPE_TSS = 11,
	TSS_LIMIT = 0x67,
};
#define START_INFO_MAGIC UINT32_C(0x336ec578)
#define HEADER_MAGIC     UINT32_C(0x53726448) /* "HdrS" */
#define PC_HOLE_START    UINT64_C(0xa0000)    /* video memory and ROMs, until 1 MiB */
#define CR0_PE           UINT64_C(1)
#define CR0_ET           (UINT64_C(1) << 4)
#define CR0_PG           (UINT64_C(1) << 31)
#define CR4_PAE          (UINT64_C(1) << 5)
#define EFER_LME         (UINT64_C(1) << 8)
#define EFER_LMA         (UINT64_C(1) << 10)

struct extent {
	uint64_t start, bytes;
};

struct image {
	struct elf_file elf;
	struct boot_entry entry;
	struct extent initrd; /* bytes 0: none */
};

unsigned boot_memory_map(const struct guest_mem *m, struct boot_region ret[BOOT_REGIONS_MAX])
{
	unsigned n = 0;

	ret[n++] = (struct boot_region){ 0, MPTABLE_AT, BOOT_RAM };
	ret[n++] = (struct boot_region){ MPTABLE_AT, PC_HOLE_START - MPTABLE_AT, BOOT_RESERVED };
	for (unsigned i = 0; i < m->slot_count; i++) {
		const struct guest_slot *s = &m->slots[i];
		uint64_t start = i == 0 ? BOOT_KERNEL_LOW : s->start;

		ret[n++] = (struct boot_region){ start, s->bytes - (start - s->start), BOOT_RAM };
	}
	return n;
}

static int no_kernel(struct err *e, const char *why)
{
	return err_set(e, -ENOEXEC, "the kernel %s", why);
}

static int read_headers(int fd, struct elf_file *ret, struct err *e)
{
	uint8_t start[ELF_START_BYTES];
	ssize_t n;

	do
		n = pread(fd, start, sizeof(start), 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_sys(e, "read the kernel");
	if (elf_parse(span_of(start, (size_t)n), ret) < 0)
		return no_kernel(e, "is no 64-bit x86 ELF file (a vmlinux, not a bzImage)");
	return 0;
}

/* Looks for the PVH entry in one note segment: 0, -ENOENT, or -ENOEXEC. */
static int read_note(int fd, const struct elf_segment *g, uint64_t *ret, struct err *e)
{
	_own_free_ uint8_t *notes = NULL;
	size_t got = 0;
	int r;

	if (g->file_bytes > ELF_NOTES_MAX || g->offset > INT64_MAX - ELF_NOTES_MAX)
		return no_kernel(e, "has notes of more than 64 KiB");
	notes = malloc(ELF_NOTES_MAX);
	if (!notes)
		return err_set(e, -ENOMEM, "out of memory");
	while (got < g->file_bytes) {
		ssize_t n = pread(fd, notes + got, g->file_bytes - got, (off_t)(g->offset + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return no_kernel(e, "is cut short");
		got += (size_t)n;
	}
	r = elf_parse_pvh_entry(span_of(notes, got), ret);
	return r == -EBADMSG ? no_kernel(e, "has notes that make no sense") : r;
}

static int find_entry(int fd, const struct elf_file *elf, struct boot_entry *ret, struct err *e)
{
	*ret = (struct boot_entry){ .mode = BOOT_LINUX64, .rip = elf->entry };
	for (unsigned i = 0; i < elf->segment_count; i++) {
		uint64_t pvh;
		int r;

		if (elf->segments[i].kind != ELF_NOTE)
			continue;
		r = read_note(fd, &elf->segments[i], &pvh, e);
		if (r == 0)
			*ret = (struct boot_entry){ .mode = BOOT_PVH, .rip = pvh };
		if (r != -ENOENT)
			return r;
	}
	return 0;
}

static bool overlap(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
	return a < b + b_bytes && b < a + a_bytes; /* neither end wraps: elf_parse() looked */
}

/* Loadable segments lie between the tables and the initrd, apart from each other, and one of them
 * holds the entry. */
static int check_segments(const struct image *im, uint64_t room_end, struct err *e)
{
	const struct elf_file *elf = &im->elf;
	bool entered = false;

	for (unsigned i = 0; i < elf->segment_count; i++) {
		const struct elf_segment *g = &elf->segments[i];

		if (g->kind != ELF_LOAD || g->mem_bytes == 0)
			continue;
		if (g->paddr < BOOT_KERNEL_LOW)
			return no_kernel(e, "wants memory below 1 MiB");
		if (!ck_range(g->paddr, g->mem_bytes, room_end))
			return err_set(
				e, -ENOMEM,
				"the guest's memory is too small: the kernel needs it up to %ju MiB",
				(uintmax_t)((g->paddr + g->mem_bytes) >> 20) + 1);
		for (unsigned k = 0; k < i; k++)
			if (elf->segments[k].kind == ELF_LOAD &&
			    overlap(g->paddr, g->mem_bytes, elf->segments[k].paddr,
			            elf->segments[k].mem_bytes))
				return no_kernel(e, "has segments that overlap");
		entered |= im->entry.rip >= g->paddr && im->entry.rip - g->paddr < g->file_bytes;
	}
	return entered ? 0 : no_kernel(e, "has no code where it is to be entered");
}

static int load_segments(const struct guest_mem *m, int fd, const struct elf_file *elf,
                         struct err *e)
{
	for (unsigned i = 0; i < elf->segment_count; i++) {
		const struct elf_segment *g = &elf->segments[i];
		int r;

		if (g->kind != ELF_LOAD || g->file_bytes == 0)
			continue;
		r = guest_mem_load(m, gpa_of(g->paddr), fd, g->offset, g->file_bytes, e);
		if (r == -ENODATA)
			return no_kernel(e, "is cut short");
		if (r < 0)
			return err_wrap(e, "the kernel");
	}
	return 0;
}

/* As high as it goes in low memory, in whole pages. */
static int place_initrd(int fd, uint64_t low_bytes, struct extent *ret, struct err *e)
{
	struct stat st;
	uint64_t bytes;

	*ret = (struct extent){ .start = low_bytes, .bytes = 0 };
	if (fd < 0)
		return 0;
	if (fstat(fd, &st) < 0)
		return err_sys(e, "the initrd");
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "the initrd is no file");
	bytes = (uint64_t)st.st_size;
	if (bytes == 0)
		return 0;
	if (bytes > low_bytes - BOOT_KERNEL_LOW)
		return err_set(e, -ENOMEM,
		               "the guest's memory is too small for an initrd of %ju MiB",
		               (uintmax_t)(bytes >> 20));
	ret->start = (low_bytes - bytes) / GUEST_PAGE_BYTES * GUEST_PAGE_BYTES;
	ret->bytes = bytes;
	return 0;
}

static int load_initrd(const struct guest_mem *m, int fd, const struct extent *at, struct err *e)
{
	int r;

	if (at->bytes == 0)
		return 0;
	r = guest_mem_load(m, gpa_of(at->start), fd, 0, at->bytes, e);
	return r < 0 ? err_wrap(e, "the initrd") : 0;
}

/* The tables all lie in the first MiB, which GUEST_MEM_MIN is above. */
static void put(const struct guest_mem *m, uint64_t at, const void *data, uint64_t len)
{
	bool done = guest_mem_write(m, gpa_of(at), data, len);

	assert(done);
}

static void put_start_info(const struct guest_mem *m, const struct extent *initrd)
{
	struct boot_region map[BOOT_REGIONS_MAX];
	uint8_t room[START_INFO_BYTES + MODULE_BYTES + BOOT_REGIONS_MAX * REGION_BYTES];
	unsigned regions = boot_memory_map(m, map);
	struct buf b;

	buf_init(&b, room, sizeof(room));
	buf_put_le32(&b, START_INFO_MAGIC);
	buf_put_le32(&b, START_INFO_VERSION);
	buf_put_le32(&b, 0); /* flags */
	buf_put_le32(&b, initrd->bytes > 0);
	buf_put_le64(&b, initrd->bytes > 0 ? BOOT_MODULES_AT : 0);
	buf_put_le64(&b, BOOT_CMDLINE_AT);
	buf_put_le64(&b, 0); /* no ACPI */
	buf_put_le64(&b, BOOT_MEMORY_MAP_AT);
	buf_put_le32(&b, regions);
	buf_put_le32(&b, 0);
	assert(buf_ok(&b) && b.len == START_INFO_BYTES);
	put(m, BOOT_START_INFO_AT, b.at, b.len);

	buf_reset(&b);
	buf_put_le64(&b, initrd->start);
	buf_put_le64(&b, initrd->bytes);
	buf_put_le64(&b, 0); /* no command line of its own */
	buf_put_le64(&b, 0);
	put(m, BOOT_MODULES_AT, b.at, b.len);

	buf_reset(&b);
	for (unsigned i = 0; i < regions; i++) {
		buf_put_le64(&b, map[i].start);
		buf_put_le64(&b, map[i].bytes);
		buf_put_le32(&b, map[i].kind);
		buf_put_le32(&b, 0);
	}
	assert(buf_ok(&b));
	put(m, BOOT_MEMORY_MAP_AT, b.at, b.len);
}

static void put32(const struct guest_mem *m, uint64_t at, uint32_t v)
{
	put(m, at, &v, sizeof(v)); /* x86: both ends are little endian */
}

static void put_boot_params(const struct guest_mem *m, const struct extent *initrd)
{
	static const uint8_t flag[] = { 0x55, 0xaa };
	static const uint8_t loader[] = { LOADER_UNKNOWN, LOADED_HIGH };
	static const uint8_t version[] = { PROTOCOL & 0xff, PROTOCOL >> 8 };
	struct boot_region map[BOOT_REGIONS_MAX];
	unsigned regions = boot_memory_map(m, map);
	uint8_t count = (uint8_t)regions;
	const uint64_t at = BOOT_PARAMS_AT;

	put(m, at + PARAM_BOOT_FLAG, flag, sizeof(flag));
	put32(m, at + PARAM_HEADER, HEADER_MAGIC);
	put(m, at + PARAM_VERSION, version, sizeof(version));
	put(m, at + PARAM_LOADER, loader, sizeof(loader));
	put32(m, at + PARAM_RAMDISK_AT, initrd->bytes > 0 ? (uint32_t)initrd->start : 0);
	put32(m, at + PARAM_RAMDISK_BYTES, (uint32_t)initrd->bytes);
	put32(m, at + PARAM_CMDLINE_AT, BOOT_CMDLINE_AT);
	put32(m, at + PARAM_CMDLINE_BYTES, VM_CMDLINE_MAX - 1);
	put(m, at + PARAM_E820_COUNT, &count, sizeof(count));
	for (unsigned i = 0; i < regions; i++) {
		uint64_t row = at + PARAM_E820 + (uint64_t)i * PARAM_E820_BYTES;

		put(m, row, &map[i].start, 8);
		put(m, row + 8, &map[i].bytes, 8);
		put32(m, row + 16, map[i].kind);
	}
}

/* The first 4 GiB one to one, in large pages. */
static void put_page_tables(const struct guest_mem *m)
{
	uint64_t table[PAGE_ENTRIES] = { 0 };
	const uint64_t pdpt = BOOT_PAGES_AT + TABLE_BYTES;
	const uint64_t pd = pdpt + TABLE_BYTES;

	table[0] = pdpt | PRESENT_WRITABLE;
	put(m, BOOT_PAGES_AT, table, sizeof(table));
	for (uint64_t g = 0; g < MAPPED_GIB; g++)
		table[g] = (pd + g * TABLE_BYTES) | PRESENT_WRITABLE;
	put(m, pdpt, table, sizeof(table));
	for (uint64_t g = 0; g < MAPPED_GIB; g++) {
		for (uint64_t i = 0; i < PAGE_ENTRIES; i++)
			table[i] = (g << 30 | i << 21) | PRESENT_WRITABLE | LARGE;
		put(m, pd + g * TABLE_BYTES, table, sizeof(table));
	}
	_Static_assert(BOOT_PAGES_AT + PAGES_COUNT * TABLE_BYTES <= BOOT_CMDLINE_AT, "room");
	_Static_assert(PAGES_COUNT == 2 + MAPPED_GIB, "a PML4, a PDPT, and a PD each GiB");
}

static void put_gdt(const struct guest_mem *m)
{
	static const uint64_t gdt[GDT_BYTES / 8] = {
		[CODE64 / 8] = UINT64_C(0x00af9b000000ffff),
		[DATA64 / 8] = UINT64_C(0x00cf93000000ffff),
	};

	put(m, BOOT_GDT_AT, gdt, sizeof(gdt));
}

static int put_cmdline(const struct guest_mem *m, const char *text, struct err *e)
{
	size_t len = strlen(text);

	if (len >= VM_CMDLINE_MAX)
		return err_set(e, -E2BIG, "the kernel's command line has %zu bytes, more than %d",
		               len, VM_CMDLINE_MAX - 1);
	put(m, BOOT_CMDLINE_AT, text, len + 1);
	return 0;
}

int boot_load(const struct guest_mem *m, const struct boot_plan *p, struct boot_entry *ret,
              struct err *e)
{
	uint8_t mp[MPTABLE_BYTES_MAX];
	struct image im = { 0 };
	int r;

	if (m->slot_count == 0 || m->slots[0].bytes < GUEST_MEM_MIN)
		return err_set(e, -ENOMEM, "the guest's memory is too small");
	r = read_headers(p->kernel_fd, &im.elf, e);
	if (r == 0)
		r = find_entry(p->kernel_fd, &im.elf, &im.entry, e);
	if (r == 0)
		r = place_initrd(p->initrd_fd, m->slots[0].bytes, &im.initrd, e);
	if (r == 0)
		r = check_segments(&im, im.initrd.start, e);
	if (r == 0)
		r = put_cmdline(m, p->cmdline, e);
	if (r == 0)
		r = load_segments(m, p->kernel_fd, &im.elf, e);
	if (r == 0)
		r = load_initrd(m, p->initrd_fd, &im.initrd, e);
	if (r < 0)
		return r;
	put(m, MPTABLE_AT, mp, mptable_make(p->cpus, mp));
	if (im.entry.mode == BOOT_PVH) {
		put_start_info(m, &im.initrd);
	} else {
		put_boot_params(m, &im.initrd);
		put_page_tables(m);
		put_gdt(m);
	}
	*ret = im.entry;
	return 0;
}

static struct kvm_segment flat(uint16_t selector, uint8_t type, bool code64)
{
	return (struct kvm_segment){
		.base = 0,
		.limit = UINT32_MAX,
		.selector = selector,
		.type = type,
		.present = 1,
		.s = 1,
		.g = 1,
		.db = !code64,
		.l = code64,
	};
}

void boot_registers(const struct boot_entry *entry, struct kvm_sregs *sregs, struct kvm_regs *ret)
{
	bool long_mode = entry->mode == BOOT_LINUX64;

	*ret = (struct kvm_regs){ .rip = entry->rip, .rflags = 2 };
	sregs->cs = flat(CODE64, TYPE_CODE, long_mode);
	sregs->ds = flat(DATA64, TYPE_DATA, false);
	sregs->es = sregs->fs = sregs->gs = sregs->ss = sregs->ds;
	sregs->tr = (struct kvm_segment){ .limit = TSS_LIMIT, .type = TYPE_TSS, .present = 1 };
	sregs->cr0 = CR0_PE | CR0_ET;
	sregs->cr4 = 0;
	if (!long_mode) {
		ret->rbx = BOOT_START_INFO_AT;
		return;
	}
	ret->rsi = BOOT_PARAMS_AT;
	sregs->gdt = (struct kvm_dtable){ .base = BOOT_GDT_AT, .limit = GDT_BYTES - 1 };
	sregs->cr3 = BOOT_PAGES_AT;
	sregs->cr4 = CR4_PAE;
	sregs->cr0 |= CR0_PG;
	sregs->efer |= EFER_LME | EFER_LMA;
}
