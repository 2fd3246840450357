/*
 * cpu_state: all of one processor: out of KVM, into bytes, and back.
 *
 * Theory of operation
 *
 * Order matters to KVM. Read: MP_STATE first, as reading it lets the CPU take events that change
 * its LAPIC; VCPU_EVENTS last. Written: CPUID before all (it decides what the rest may hold),
 * MP_STATE, REGS, SREGS (which turns the LAPIC on), XSAVE, XCRS, DEBUGREGS, LAPIC, MSRs, and
 * VCPU_EVENTS last, as setting registers drops pending exceptions. Of the MSRs the TSC comes
 * before its deadline, and the deadline after the LAPIC, whose timer has to be in that mode. A
 * deadline of 0 may be one that fired and was not delivered yet: it becomes "now", and the guest
 * gets at worst one timer interrupt too many.
 *
 * Time stamp counters go on from where they stood: the first CPU's by its value, the others' by
 * their distance to it, so that they stay as equal as they were.
 *
 * Hostile   the bytes: counts, sizes, MSRs by number, and the one register bit that KVM takes from
 *           us though not from the guest (nested virtualization). What registers hold otherwise is
 *           KVM's to judge; a guest can load any value itself
 * Source    Documentation/virt/kvm/api.rst, section 4; Linux arch/x86/include/uapi/asm/kvm.h for
 *           the structures, which go into the bytes as they are
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"
#include "vmm/kvm.h"

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	CPU_MSRS_MAX = 512,      /* KVM lists about 150, half of them counters we skip */
	CPU_MSR_LIST_MAX = 1024, /* of KVM's list, before skipping */
	CPU_XSAVE_MAX = 16384,   /* AMX: 11008 */
	CPU_XSAVE_MIN = 4096,    /* KVM's least */
	CPU_TSC_PPM_MAX = 250,   /* clocks of one kind differ by less; kernels slew by up to 500 */
	CPU_MSR_TSC = 0x10,
	CPU_MSR_TSC_DEADLINE = 0x6e0,
	CPU_MSR_ARCH_CAPABILITIES = 0x10a,
};

/* What KVM here lists and how big it is, found out once a machine. */
struct cpu_host {
	const struct kvm_ops *ops;
	uint32_t xsave_bytes;
	bool xsave2;      /* KVM_GET_XSAVE2 */
	bool tsc_offset;  /* KVM_VCPU_TSC_OFFSET */
	bool tsc_scaling; /* KVM_SET_TSC_KHZ */
	uint32_t msr_count;
	uint32_t msrs[CPU_MSRS_MAX]; /* without those that are skipped */
};

struct cpu_state {
	struct kvm_mp_state mp;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debug;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	uint32_t tsc_khz;
	uint64_t tsc_offset; /* 0 where KVM cannot tell */
	uint32_t msr_count;
	struct kvm_msr_entry msrs[CPU_MSRS_MAX];
	uint32_t xsave_bytes;
	_Alignas(struct kvm_xsave) uint8_t xsave[CPU_XSAVE_MAX];
};

_must_ int cpu_host_init(const struct kvm_ops *ops, int kvm_fd, int vm_fd, struct cpu_host *ret,
                         struct err *e);

/* While the CPU does not run. */
_must_ int cpu_state_read(const struct cpu_host *h, int fd, struct cpu_state *ret, struct err *e);

/*
 * After KVM_SET_CPUID2. `first` is the state of CPU 0, and first_fd its file, written before:
 * for CPU 0 both are its own. -EXDEV: this machine cannot take it; it says what.
 */
_must_ int cpu_state_write(const struct cpu_host *h, int fd, const struct cpu_state *s,
                           int first_fd, const struct cpu_state *first, struct err *e);

/* Makes the CPU's TSC run at `khz` if it does not within CPU_TSC_PPM_MAX. -EXDEV: it cannot. */
_must_ int cpu_state_fit_tsc(const struct cpu_host *h, int fd, uint32_t khz, struct err *e);

/* Why an MSR is neither saved nor loaded, or NULL. */
const char *cpu_msr_skipped(uint32_t index);

/* cpu_state_parse.c. The payload of a STATE_VCPU section: 0 or -EBADMSG, all of it used. *ret is
 * written only on success. */
void cpu_state_put(const struct cpu_state *s, struct buf *b);
_must_ int cpu_state_parse(struct span in, struct cpu_state *ret);
