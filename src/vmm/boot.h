/*
 * boot: a kernel in fresh guest memory, and the registers that enter it.
 *
 * Theory of operation
 *
 *	0x00000500  GDT (64-bit entry only)
 *	0x00006000  PVH's start_info, its module list; the memory map behind them
 *	0x00007000  boot_params (64-bit entry only)
 *	0x00009000  page tables (64-bit entry only)
 *	0x00020000  command line
 *	0x0009fc00  MP table
 *	0x00100000  kernel segments, where the file wants them
 *	   ...      initrd, as high as it goes below the MMIO hole
 *
 * A kernel with Xen's note of an entry is entered as PVH lays down: 32-bit protected mode, no
 * paging, ebx at start_info. One without is entered in long mode at its ELF entry with the first
 * 4 GiB mapped one to one and rsi at boot_params.
 *
 * Hostile   the kernel file: where its segments want to lie, and how long they are. The initrd's
 *           bytes are only copied.
 * Needs     memory that is zero where nothing is written
 * Source    Xen, public/arch-x86/hvm/start_info.h; Linux, Documentation/arch/x86/boot.rst ("64-bit
 *           boot protocol") and zero-page.rst; Intel SDM volume 3, 3.4.5 and 4.5
 */
#pragma once

#include "base/err.h"
#include "vmm/guest_mem.h"

#include <linux/kvm.h>
#include <stdint.h>

enum {
	BOOT_KERNEL_LOW = 0x100000, /* below lie the tables here, and what a PC has there */
	BOOT_GDT_AT = 0x500,
	BOOT_START_INFO_AT = 0x6000,
	BOOT_MODULES_AT = 0x6040,
	BOOT_MEMORY_MAP_AT = 0x6080,
	BOOT_PARAMS_AT = 0x7000,
	BOOT_PAGES_AT = 0x9000, /* 6 pages */
	BOOT_CMDLINE_AT = 0x20000,
	BOOT_REGIONS_MAX = 4,
};

struct boot_plan {
	int kernel_fd;
	int initrd_fd;       /* -1: none */
	const char *cmdline; /* under VM_CMDLINE_MAX bytes with its NUL */
	uint32_t cpus;
};

enum boot_mode { BOOT_PVH, BOOT_LINUX64 };

struct boot_entry {
	enum boot_mode mode;
	uint64_t rip;
};

/* -ENOEXEC: no kernel we can enter; -ENOMEM: the guest's memory is too small; -E2BIG: the command
 * line. */
_must_ int boot_load(const struct guest_mem *m, const struct boot_plan *p, struct boot_entry *ret,
                     struct err *e);

/* What the first CPU has at its first instruction, over what KVM gave it. */
void boot_registers(const struct boot_entry *entry, struct kvm_sregs *sregs, struct kvm_regs *ret);

/* Kinds of memory, as the BIOS call e820 has them. */
enum { BOOT_RAM = 1, BOOT_RESERVED = 2 };

struct boot_region {
	uint64_t start, bytes;
	uint32_t kind;
};

/* The guest's map of its memory; returns how many regions. */
unsigned boot_memory_map(const struct guest_mem *m, struct boot_region ret[BOOT_REGIONS_MAX]);
