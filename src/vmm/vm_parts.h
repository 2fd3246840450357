/*
 * vm_parts: what a machine is made of, for the files that make it up: vm.c (its life), vcpu.c (its
 * CPUs' threads), vm_state.c (saving and loading). Nobody else includes it.
 */
#pragma once

#include "vmm/cpu_state.h"
#include "vmm/cpuid.h"
#include "vmm/kvm.h"
#include "vmm/vm.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>

enum { VM_RELEASE_MAX = 64 }; /* of the host's kernel: "6.1.0-40-amd64" */

/* What all CPUs are to do. Written under the lock. */
enum vm_want { VM_WANT_RUN, VM_WANT_PAUSE, VM_WANT_STOP };

struct vcpu {
	struct vm *vm;
	uint32_t index;
	int fd;
	struct kvm_run *run;
	size_t run_bytes;
	pthread_t thread;
	bool started;
	bool faulted; /* the machine ended for what it did; under the machine's lock */
	/* counted by its thread alone, read by any */
	_Atomic uint64_t exits, exits_mmio, exits_pio, exits_halt, exits_signal;
	_Atomic uint64_t unknown_pio, unknown_mmio;
};

struct vm {
	const struct kvm_ops *ops;
	int kvm_fd; /* borrowed */
	int fd;
	struct guest_mem mem;
	bool host_cpu;
	bool can_prefault; /* KVM_PRE_FAULT_MEMORY */
	void (*ended)(void *arg);
	void (*paused)(void *arg);
	void *arg;

	uint32_t cpus;
	struct vcpu vcpus[VM_CPUS_MAX];
	struct cpuid_set cpuid; /* before cpuid_set_cpu() */
	struct cpu_host cpu_host;
	char release[VM_RELEASE_MAX + 1];

	unsigned bus_count;
	struct vm_bus bus[VM_BUS_MAX];

	int (*thread_jail)(void *arg, struct err *e);
	void *thread_jail_arg;

	pthread_mutex_t lock;
	pthread_cond_t changed; /* want, running */
	bool started;
	enum vm_want want;
	unsigned running; /* threads that may be in the guest */
	enum vm_end end;
	char end_text[VM_END_TEXT_MAX];

	struct vm_load *load; /* what vm_load_section() has collected */
};

/* vm_new() on a KVM of the caller's. */
_must_ int vm_new_on(const struct kvm_ops *ops, const struct vm_config *c, struct vm **ret,
                     struct err *e);

/* The machine ends, if it has not: the first reason counts. Any thread. */
void vm_finish(struct vm *vm, enum vm_end end, const char *fmt, ...) _printf_(3, 4);

void vm_load_free(struct vm_load *l);
