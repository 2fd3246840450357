/*
 * vcpu: one processor: its KVM file, and the thread that runs it.
 *
 * Theory of operation
 *
 * The thread calls KVM_RUN, answers the exit, and calls it again; it looks at what the machine
 * wants only when KVM_RUN was interrupted. So an answered access is always completed (the next
 * KVM_RUN does it first, before it notices that it is to stop), and state read while paused holds
 * no half-done instruction.
 *
 * To interrupt it, a caller writes kvm_run.immediate_exit and then sends the signal. If the thread
 * has not entered KVM_RUN, it sees the flag on entry; if it has passed that look, the signal is
 * pending and ends KVM_RUN; a CPU that waits in HLT is woken by it. None is lost. The flag is
 * written under the machine's lock, and cleared under it only by the thread itself when the
 * machine wants to run.
 *
 * System calls of the thread, for its filter: ioctl KVM_RUN, KVM_KVMCLOCK_CTRL and KVM_GET_REGS on
 * its own file, futex, rt_sigreturn, what the callbacks do (write to an eventfd), and those of a
 * thread that ends (madvise, rt_sigprocmask, exit).
 *
 * Hostile   addresses, ports, sizes and data of the guest's accesses, which KVM checked only for
 *           shape
 * Source    Documentation/virt/kvm/api.rst, 4.10 (KVM_RUN), 5 (struct kvm_run)
 */
#pragma once

#include "vmm/vm_parts.h"

enum {
	VCPU_SIGNAL_OFFSET = 0, /* SIGRTMIN + it */
	VCPU_STRING_MAX = 4096, /* bytes of a string I/O exit: KVM's page */
};

_must_ int vcpu_open(struct vm *vm, uint32_t index, struct err *e);
void vcpu_close(struct vcpu *v);
_must_ int vcpu_set_cpuid(struct vcpu *v, struct err *e);

/* The signal's handler, once a process. */
_must_ int vcpu_init_signal(struct err *e);

/* The thread. */
_must_ int vcpu_start(struct vcpu *v, struct err *e);
void vcpu_join(struct vcpu *v);

/* Out of the guest; under the lock. */
void vcpu_kick(struct vcpu *v);

/* See vm_where(). Its thread must be out of KVM, or on its way. */
void vcpu_where(const struct vcpu *v, char ret[VM_WHERE_MAX]);

/* One exit, as kvm_run has it: 0, or 1 when the machine has ended. For tests, too. */
_must_ int vcpu_handle_exit(struct vcpu *v);
