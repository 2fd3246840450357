/*
 * tiny: guests of a few bytes, for tests of the machine: their code in an ELF file with or without
 * the PVH note, in a memfd; a machine around them; what they left in memory.
 *
 * Code begins at TINY_CODE_AT in protected mode (PVH) or long mode, flat, without a stack or an
 * IDT. Results go to TINY_DATA_AT.
 */
#pragma once

#include "base/buf.h"
#include "base/fdio.h"
#include "test.h"
#include "vmm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

enum {
	TINY_CODE_AT = 0x100000,
	TINY_DATA_AT = 0x8000,
	TINY_CODE_OFF = 0x1000, /* in the file */
	TINY_WAIT_MS = 20000,
	TINY_RAM = 16 << 20,
};

static inline int tiny_memfd(const char *name, uint64_t bytes)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

static inline void tiny_put_segment(struct buf *b, uint32_t kind, uint64_t off, uint64_t paddr,
                                    uint64_t file_bytes, uint64_t mem_bytes)
{
	buf_put_le32(b, kind);
	buf_put_le32(b, 5);
	buf_put_le64(b, off);
	buf_put_le64(b, paddr);
	buf_put_le64(b, paddr);
	buf_put_le64(b, file_bytes);
	buf_put_le64(b, mem_bytes);
	buf_put_le64(b, 0x1000);
}

static inline void tiny_put_header(struct buf *b, uint64_t entry, uint16_t segments)
{
	static const uint8_t ident[16] = { 0x7f, 'E', 'L', 'F', 2, 1, 1 };

	buf_put(b, ident, sizeof(ident));
	buf_put_le16(b, 2);
	buf_put_le16(b, 62);
	buf_put_le32(b, 1);
	buf_put_le64(b, entry);
	buf_put_le64(b, 64);
	buf_put_le64(b, 0);
	buf_put_le32(b, 0);
	buf_put_le16(b, 64);
	buf_put_le16(b, 56);
	buf_put_le16(b, segments);
	for (int i = 0; i < 6; i++)
		buf_put_u8(b, 0);
}

/* A note with the entry, at file offset 0x800. */
static inline void tiny_put_note(int fd, uint32_t entry)
{
	uint8_t room[64];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	buf_put_le32(&b, 4);
	buf_put_le32(&b, 4);
	buf_put_le32(&b, 18);
	buf_put(&b, "Xen", 4);
	buf_put_le32(&b, entry);
	CHECK_EQ(pwrite(fd, b.at, b.len, 0x800), (ssize_t)b.len);
}

static inline int tiny_kernel(const uint8_t *code, size_t len, bool pvh)
{
	uint8_t room[512];
	struct buf b;
	int fd = tiny_memfd("kernel", 0x2000);

	buf_init(&b, room, sizeof(room));
	tiny_put_header(&b, TINY_CODE_AT, pvh ? 2 : 1);
	tiny_put_segment(&b, 1, TINY_CODE_OFF, TINY_CODE_AT, len, len + 64);
	if (pvh)
		tiny_put_segment(&b, 4, 0x800, 0, 20, 20);
	CHECK(buf_ok(&b));
	CHECK_EQ(pwrite(fd, b.at, b.len, 0), (ssize_t)b.len);
	CHECK_EQ(pwrite(fd, code, len, TINY_CODE_OFF), (ssize_t)len);
	if (pvh)
		tiny_put_note(fd, TINY_CODE_AT);
	return fd;
}

struct tiny {
	struct vm *vm;
	int kvm_fd, ram_fd;
	int ended_fd, paused_fd;
};

static inline void tiny_tell(int fd)
{
	uint64_t one = 1;

	CHECK_EQ(write(fd, &one, sizeof(one)), sizeof(one));
}

static inline void tiny_on_ended(void *arg)
{
	tiny_tell(((struct tiny *)arg)->ended_fd);
}

static inline void tiny_on_paused(void *arg)
{
	tiny_tell(((struct tiny *)arg)->paused_fd);
}

static inline void tiny_wait(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t n;
	int r;

	do
		r = poll(&p, 1, TINY_WAIT_MS);
	while (r < 0 && errno == EINTR); /* a CPU's thread is interrupted by a pause */
	CHECK_EQ(r, 1);
	CHECK_EQ(read(fd, &n, sizeof(n)), sizeof(n));
}

/* /dev/kvm, or this test is skipped. */
static inline int tiny_kvm(void)
{
	struct err e = { 0 };
	int fd;

	if (vm_open_kvm(&fd, &e) < 0)
		TEST_SKIP("%s", e.text);
	return fd;
}

/* A machine, nothing in it yet. */
static inline void tiny_new(struct tiny *t, uint32_t cpus)
{
	struct err e = { 0 };
	struct vm_config c = {
		.ram_bytes = TINY_RAM,
		.ram_shared = true,
		.cpus = cpus,
		.ended = tiny_on_ended,
		.paused = tiny_on_paused,
		.arg = t,
	};

	t->kvm_fd = c.kvm_fd = tiny_kvm();
	t->ram_fd = c.ram_fd = tiny_memfd("ram", TINY_RAM);
	t->ended_fd = eventfd(0, EFD_CLOEXEC);
	t->paused_fd = eventfd(0, EFD_CLOEXEC);
	CHECK(t->ended_fd >= 0 && t->paused_fd >= 0);
	CHECK_OK(vm_new(&c, &t->vm, &e), &e);
}

static inline void tiny_boot(struct tiny *t, const uint8_t *code, size_t len, bool pvh)
{
	struct err e = { 0 };
	int kernel = tiny_kernel(code, len, pvh);

	CHECK_OK(vm_boot(t->vm, kernel, -1, "", &e), &e);
	(void)close(kernel);
}

static inline void tiny_start(struct tiny *t, bool paused)
{
	struct err e = { 0 };

	CHECK_OK(vm_start(t->vm, NULL, NULL, paused, &e), &e);
}

static inline void tiny_free(struct tiny *t)
{
	vm_free(t->vm);
	(void)close(t->kvm_fd);
	(void)close(t->ram_fd);
	(void)close(t->ended_fd);
	(void)close(t->paused_fd);
}

static inline uint32_t tiny_data(const struct tiny *t, uint64_t off)
{
	uint32_t v;

	CHECK(guest_mem_read(vm_mem(t->vm), gpa_of(TINY_DATA_AT + off), &v, sizeof(v)));
	return v;
}

/* How the machine ended, which it must have. */
static inline enum vm_end tiny_end(struct tiny *t)
{
	char text[VM_END_TEXT_MAX];

	tiny_wait(t->ended_fd);
	return vm_end(t->vm, text);
}

/*
 * CPU 0 sends CPU 1 an INIT and a SIPI to TINY_AP_AT, then counts in the first word of data; CPU 1
 * counts in the fifth, in real mode.
 */
enum { TINY_AP_AT = 0xa000, TINY_AP_COUNT = 0x10 };

static inline void tiny_boot_two(struct tiny *t)
{
	static const uint8_t first[] = {
		0xc7, 0x05, 0xf0, 0x00, 0xe0, 0xfe, 0xff, 0x01, 0x00, 0x00, /* LAPIC on */
		0xc7, 0x05, 0x10, 0x03, 0xe0, 0xfe, 0x00, 0x00, 0x00, 0x01, /* to LAPIC 1 */
		0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x00, 0x45, 0x00, 0x00, /* INIT */
		0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x0a, 0x46, 0x00, 0x00, /* SIPI */
		0xff, 0x05, 0x00, 0x80, 0x00, 0x00,                         /* 1: incl 0x8000 */
		0xeb, 0xf8,                                                 /* jmp 1b */
	};
	static const uint8_t second[] = {
		0x66, 0xff, 0x06, 0x10, 0x80, /* 1: incl 0x8010 */
		0xeb, 0xf9,                   /* jmp 1b */
	};

	tiny_boot(t, first, sizeof(first), true);
	CHECK(guest_mem_write(vm_mem(t->vm), gpa_of(TINY_AP_AT), second, sizeof(second)));
}
