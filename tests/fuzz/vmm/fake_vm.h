/*
 * fake_vm: a machine whose KVM takes everything, for inputs that are to be judged before KVM sees
 * them. Two CPUs, 1 MiB of memory, a processor with the whole baseline.
 */
#pragma once

#include "vmm/vm_parts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { FAKE_CPUS = 2, FAKE_RAM = 1 << 20, FAKE_XSAVE = 4096 };

static inline int fake_call(void *arg, int fd, unsigned long request, void *data)
{
	(void)arg;
	(void)fd;
	if (request == KVM_GET_TSC_KHZ)
		return 2000000;
	if (request == KVM_SET_MSRS || request == KVM_GET_MSRS)
		return (int)((struct kvm_msrs *)data)->nmsrs;
	return 0;
}

static inline void fake_leaf(struct cpuid_set *s, uint32_t leaf, uint32_t index, uint32_t eax)
{
	struct kvm_cpuid_entry2 *e = &s->entries[s->count++];

	*e = (struct kvm_cpuid_entry2){ .function = leaf, .index = index, .eax = eax };
	e->ebx = e->ecx = e->edx = UINT32_MAX;
}

static inline void fake_cpuid(struct vm *vm)
{
	static struct cpuid_set host;
	struct cpuid_shape shape = { .cpus = FAKE_CPUS, .tsc_deadline = true };
	struct err e = { 0 };
	int r;

	host.count = 0;
	fake_leaf(&host, 0, 0, 0xd);
	fake_leaf(&host, 1, 0, 0x806f8);
	fake_leaf(&host, 4, 3, 0x163);
	fake_leaf(&host, 7, 0, 0);
	fake_leaf(&host, 0xd, 0, 7);
	fake_leaf(&host, 0xd, 1, 15);
	fake_leaf(&host, 0xd, 2, 256);
	fake_leaf(&host, 0x40000001, 0, UINT32_MAX);
	fake_leaf(&host, 0x80000000, 0, 0x80000008);
	fake_leaf(&host, 0x80000001, 0, 0);
	fake_leaf(&host, 0x80000008, 0, 0x3030);
	r = cpuid_make(&host, &shape, &vm->cpuid, &e);
	assert(r == 0);
}

static inline struct vm *fake_vm(void)
{
	static const struct kvm_ops ops = { .call = fake_call };
	static const uint32_t msrs[] = { CPU_MSR_TSC, CPU_MSR_TSC_DEADLINE, 0x174, 0xc0000081,
		                         CPU_MSR_ARCH_CAPABILITIES };
	struct vm *vm = calloc(1, sizeof(*vm));
	void *ram;

	assert(vm);
	ram = mmap(NULL, FAKE_RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert(ram != MAP_FAILED);
	guest_mem_over(ram, FAKE_RAM, &vm->mem);
	vm->ops = &ops;
	vm->cpus = FAKE_CPUS;
	for (uint32_t i = 0; i < FAKE_CPUS; i++)
		vm->vcpus[i] = (struct vcpu){ .vm = vm, .index = i, .fd = (int)i };
	vm->cpu_host = (struct cpu_host){ .ops = &ops, .xsave_bytes = FAKE_XSAVE };
	vm->cpu_host.msr_count = sizeof(msrs) / sizeof(msrs[0]);
	memcpy(vm->cpu_host.msrs, msrs, sizeof(msrs));
	fake_cpuid(vm);
	return vm;
}

static inline void fake_vm_free(struct vm *vm)
{
	vm_load_free(vm->load);
	(void)munmap(vm->mem.slots[0].base, FAKE_RAM);
	free(vm);
}
