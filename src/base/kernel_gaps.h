/*
 * kernel_gaps: names newer than Debian 12's headers. Each: #ifndef, the value, its source.
 */
#pragma once

#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/openat2.h> /* struct open_how, RESOLVE_* */
#include <sys/mman.h>
#include <sys/syscall.h>

/* Source: Documentation/virt/kvm/api.rst, 4.143; linux/kvm.h, Linux 6.11 */
#ifndef KVM_CAP_PRE_FAULT_MEMORY
#define KVM_CAP_PRE_FAULT_MEMORY 236
struct kvm_pre_fault_memory {
	__u64 gpa;
	__u64 size;
	__u64 flags;
	__u64 padding[5];
};
#define KVM_PRE_FAULT_MEMORY _IOWR(KVMIO, 0xd5, struct kvm_pre_fault_memory)
#endif

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Source: linux/memfd.h, Linux 6.3 */
#endif
