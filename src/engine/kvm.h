/*
 * kvm: the engine of our own: one berm-vmm, started jailed with its files as fds. See vmm/ctl.h for
 * what it is told afterwards.
 */
#pragma once

#include "engine/engine.h"

enum {
	KVM_PIDS = 8,         /* the I/O thread, and the kernel's workers of its ring */
	KVM_READY_MS = 10000, /* a restore's files are read before it runs; on a loaded machine */
};
#define KVM_OVERHEAD_BYTES (UINT64_C(32) << 20) /* berm-vmm's own, page tables, saved state */

/* fd numbers inside berm-vmm. 0 is /dev/null, 1 and 2 are the log. */
enum kvm_fd {
	KVM_AT_AGENT = 3,
	KVM_AT_CONTROL = 4,
	KVM_AT_RAM = 5,
	KVM_AT_IMAGE = 6,
	KVM_AT_SCRATCH = 7,
	KVM_AT_INCOMING = 8, /* saved state, or the kernel */
	KVM_AT_INITRD = 9,
	KVM_AT_KVM = 10,
	KVM_AT_WSET = 11,      /* pages to bring in before it runs; may be absent */
	KVM_AT_NET = 12,       /* the gate's socket; absent: no network card */
	KVM_AT_WORKSPACE = 13, /* read only; absent: no such disk */
	KVM_AT_COUNT = 14,
};
