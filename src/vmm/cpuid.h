/*
 * cpuid: what the guest's processors say they are.
 *
 * Theory of operation
 *
 * KVM tells what the host's processor and itself can do. A guest gets what of it stands in the
 * baseline: x86-64-v3 with AES, PCLMULQDQ, SHA, RDRAND and RDSEED, and whatever tells about holes
 * in the hardware and closes them. Left out are AVX-512, AMX, protection keys, performance
 * counters, SGX, tracing and nested virtualization: what makes a snapshot fit fewer machines, or
 * opens another door into KVM. With host_cpu all that KVM offers is given but for what can never
 * be (nested virtualization, SGX, tracing, counters, shadow stacks). KVM's own leaf offers its
 * clock, cheap IPIs and ends of interrupts; not asynchronous page faults nor stolen time, whose
 * shared pages would have to be re-established in every fork.
 *
 * Every processor is a core of one package: no threads, first caches private, the last shared.
 *
 * Hostile   the sets of a saved state: cpuid_fits() before KVM sees them
 * Shape     struct kvm_cpuid_entry2; functions and indices as in the manuals
 * Pure      no KVM call is made here
 * Source    Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E; Linux,
 *           Documentation/virt/kvm/x86/cpuid.rst
 */
#pragma once

#include "base/err.h"

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

enum { CPUID_ENTRIES_MAX = 256 }; /* KVM's own limit; a host has about 100 */

struct cpuid_set {
	uint32_t count;
	struct kvm_cpuid_entry2 entries[CPUID_ENTRIES_MAX];
};

struct cpuid_shape {
	uint32_t cpus;
	bool host_cpu;
	bool tsc_deadline; /* KVM has it: its list of features leaves it out */
};

/* What all CPUs of a guest have in common, of what KVM supports. -ENOTSUP: a CPU no kernel of ours
 * runs on; it says what is missing. */
_must_ int cpuid_make(const struct cpuid_set *host, const struct cpuid_shape *shape,
                      struct cpuid_set *ret, struct err *e);

/* Puts the numbers of CPU `index` of `cpus` into a set. */
void cpuid_set_cpu(struct cpuid_set *set, uint32_t index, uint32_t cpus);

/*
 * May a guest that was started with `saved` go on here? `ours` is what cpuid_make() gives here.
 * -EXDEV: it says which feature is missing; -EBADMSG: no set we ever made.
 */
_must_ int cpuid_fits(const struct cpuid_set *saved, const struct cpuid_set *ours, struct err *e);

/* The entry of a leaf, or NULL. */
const struct kvm_cpuid_entry2 *cpuid_find(const struct cpuid_set *set, uint32_t leaf,
                                          uint32_t index);

/* How many bits a physical address has. */
uint32_t cpuid_address_bits(const struct cpuid_set *set);

/* "AuthenticAMD", NUL-ended; empty without leaf 0. */
enum { CPUID_VENDOR_BYTES = 12 };
void cpuid_vendor(const struct cpuid_set *set, char ret[CPUID_VENDOR_BYTES + 1]);
