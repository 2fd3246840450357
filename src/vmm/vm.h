/*
 * vm: one virtual machine on KVM: its memory, interrupt chips, CPUs, how it boots, pauses and
 * ends.
 *
 * Threads   vm_new() to vm_start() and everything that saves or loads: the caller's. One thread a
 *           vCPU from vm_start() on, which runs the guest, answers its MMIO through the bus
 *           table and does nothing else. vm_pause() and the others may be called by any thread
 *           but those. A thread that a bus callback may wait for, such as the I/O loop's, must
 *           not wait in vm_pause() or vm_stop(): vm_pause_begin() is for it.
 * Ends      each with its own reason; the first one counts. The callback comes from a vCPU's
 *           thread and should only write an eventfd.
 * Source    Documentation/virt/kvm/api.rst; Documentation/arch/x86/boot.rst; Xen's PVH
 *           (arch-x86/hvm/ start_info.h)
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"
#include "vmm/guest_mem.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	VM_CPUS_MAX = 32,
	VM_BUS_MAX = 16,       /* windows of devices */
	VM_CMDLINE_MAX = 2048, /* bytes with the NUL */
	VM_END_TEXT_MAX = 160,
};

enum vm_end {
	VM_RUNNING = 0,
	VM_END_RESET,    /* the guest asked for it: keyboard controller 0xfe, as reboot=k does */
	VM_END_TRIPLE,   /* triple fault: KVM_EXIT_SHUTDOWN */
	VM_END_ENTRY,    /* the CPU refused to enter: KVM_EXIT_FAIL_ENTRY */
	VM_END_INTERNAL, /* KVM_EXIT_INTERNAL_ERROR: an instruction KVM cannot emulate, mostly */
	VM_END_UNKNOWN,  /* an exit we do not handle */
	VM_END_STOPPED,  /* vm_stop() */
	VM_END_HOST,     /* KVM_RUN failed: no memory on the host, for one */
	VM_END_FULL,     /* the host has no room for what the guest wrote to a disk of its own */
};
const char *vm_end_name(enum vm_end end); /* "triple-fault": for --json */

struct vm;

struct vm_config {
	int kvm_fd; /* /dev/kvm, borrowed */
	int ram_fd; /* borrowed; -1: see guest_mem_map() */
	uint64_t ram_bytes;
	bool ram_shared; /* see guest_mem_map() */
	uint32_t cpus;
	/* all features of the host, AVX-512 and AMX too: such a snapshot fits no other CPU */
	bool host_cpu;
	void (*ended)(void *arg);
	/* every CPU has stopped after vm_pause_begin() or vm_pause(); like ended, from a vCPU's
	 * thread. Either may be NULL. */
	void (*paused)(void *arg);
	void *arg;
};

/* Opens /dev/kvm. -EACCES, -ENOENT, -ENODEV: the message says what to do. */
_must_ int vm_open_kvm(int *ret_fd, struct err *e);

/* A window of guest-physical addresses and who answers there; called on vCPU threads, any size
 * 1 to 8. A pause interrupts system calls made there (EINTR). */
struct vm_bus {
	uint64_t start;
	uint32_t bytes;
	void (*read)(void *arg, uint32_t off, void *ret, uint32_t len);
	void (*write)(void *arg, uint32_t off, const void *data, uint32_t len);
	void *arg;
};

/* -EACCES, -ENODEV, -ENOTSUP (a capability is missing: which), -ENOMEM, -EINVAL (cpus, memory).
 * */
_must_ int vm_new(const struct vm_config *c, struct vm **ret, struct err *e);
void vm_free(struct vm *vm); /* stops it first */
OWN_DEFINE(struct vm, vm_free)

const struct guest_mem *vm_mem(const struct vm *vm);
_must_ int vm_add_bus(struct vm *vm, const struct vm_bus *w, struct err *e);
/* An eventfd that interrupts line `gsi`; an eventfd that is written when the guest stores
 * `value` (4 bytes) at `at`. */
_must_ int vm_bind_irq(struct vm *vm, int event_fd, uint32_t gsi, struct err *e);
_must_ int vm_bind_store(struct vm *vm, int event_fd, struct gpa at, uint32_t value, struct err *e);

/* The memory must be fresh. Puts kernel (ELF), initrd (or -1), command line, memory map and CPU
 * table into it and the first CPU at the entry: PVH, or 64-bit Linux boot for an ELF kernel
 * without the note. -ENOEXEC: no such kernel. */
_must_ int vm_boot(struct vm *vm, int kernel_fd, int initrd_fd, const char *cmdline, struct err *e);

/* Threads start; the guest runs, or waits if `paused`. Called once. `thread_jail` (may be NULL) is
 * the first thing each vCPU thread calls; when it fails the machine ends. */
_must_ int vm_start(struct vm *vm, int (*thread_jail)(void *arg, struct err *e), void *arg,
                    bool paused, struct err *e);
/* Every CPU is out of the guest when it returns, and stays so. -ETIMEDOUT after VM_PAUSE_MS: some
 * CPUs are still out; vm_resume() or try again. -ESHUTDOWN: the machine has ended. */
enum { VM_PAUSE_MS = 5000 };
_must_ int vm_pause(struct vm *vm, struct err *e);
/* Asks for it and returns; vm_config.paused tells when vm_is_paused() has become true. */
void vm_pause_begin(struct vm *vm);
bool vm_is_paused(struct vm *vm);
void vm_resume(struct vm *vm);
void vm_stop(struct vm *vm); /* at once; joins the threads */
/*
 * A device found that the host cannot go on with this guest: -EFAULT: no page for its memory
 * (VM_END_HOST); else no room for its disk (VM_END_FULL). From any thread but the CPUs' own.
 */
void vm_lost(struct vm *vm, int code);
enum vm_end vm_end(struct vm *vm, char ret_text[VM_END_TEXT_MAX]);
/*
 * Where the CPU stands that the machine ended for, in a line for people: exits so far, registers,
 * events under way. Empty unless it was VM_END_TRIPLE, _ENTRY or _INTERNAL. Asks KVM, which on AMD
 * resets a CPU that took a triple fault; the line says so then.
 */
enum { VM_WHERE_MAX = 384 };
void vm_where(struct vm *vm, char ret[VM_WHERE_MAX]);

/*
 * Has KVM map a range of RAM for the guest, whose first look at each page then costs no exit. True:
 * all of it is in. Before vm_start(). A KVM that cannot (before Linux 6.11) leaves it to the guest.
 */
bool vm_prefault(struct vm *vm, struct gpa at, uint64_t bytes);

struct vm_counts {
	uint64_t exits, exits_mmio, exits_pio, exits_halt, exits_signal, unknown_pio, unknown_mmio;
};
void vm_get_counts(const struct vm *vm, struct vm_counts *ret);

/*
 * State, while paused (or before vm_start() for load): sections STATE_HOST, STATE_MACHINE,
 * STATE_VM and STATE_VCPU. vm_load_section() takes one at a time and answers -ENOTSUP for a
 * type that is not ours, -EBADMSG for what is damaged, -EXDEV for another CPU; vm_load_done()
 * checks that nothing is missing and puts it all into KVM in the order that works.
 */
_must_ int vm_save(struct vm *vm, struct buf *b, struct err *e);
struct state_section;
_must_ int vm_load_section(struct vm *vm, const struct state_section *s, struct err *e);
_must_ int vm_load_done(struct vm *vm, struct err *e);
