/*
 * A kernel file. First byte: MiB of the initrd, 255 for none; the rest is the file, to whose
 * notes and segments it may point anywhere. A kernel that is refused leaves no entry; one that is
 * not is entered inside what was loaded, above the tables and below the initrd.
 */
#include "vmm/boot.h"
#include "vmm/mptable.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { RAM = 16 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int file_of(const void *data, size_t len, uint64_t bytes)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	ssize_t n;

	assert(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
	n = pwrite(fd, data, len, 0);
	assert(n == (ssize_t)len);
	return fd;
}

static void judge(const struct guest_mem *m, const struct boot_entry *entry)
{
	uint8_t want[MPTABLE_BYTES_MAX];
	uint32_t len = mptable_make(2, want);

	assert(entry->rip >= BOOT_KERNEL_LOW && entry->rip < RAM);
	assert(memcmp(m->slots[0].base + MPTABLE_AT, want, len) == 0);
	assert(strcmp((const char *)m->slots[0].base + BOOT_CMDLINE_AT, "quiet") == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct boot_plan plan = { .initrd_fd = -1, .cmdline = "quiet", .cpus = 2 };
	struct boot_entry entry = { .rip = 0xa5 };
	struct guest_mem m;
	struct err e = { 0 };
	void *ram;
	int r;

	if (size < 1)
		return 0;
	ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert(ram != MAP_FAILED);
	guest_mem_over(ram, RAM, &m);
	plan.kernel_fd = file_of(data + 1, size - 1, size - 1);
	if (data[0] != 255)
		plan.initrd_fd = file_of("initrd", 6, ((uint64_t)data[0] << 20) + 6);
	r = boot_load(&m, &plan, &entry, &e);
	if (r == 0)
		judge(&m, &entry);
	else
		assert(r == e.code && e.len > 0 && entry.rip == 0xa5);
	(void)close(plan.kernel_fd);
	if (plan.initrd_fd >= 0)
		(void)close(plan.initrd_fd);
	(void)munmap(ram, RAM);
	return 0;
}
