/*
 * A machine's sections, one after the other as a state file has them, put into a machine whose KVM
 * takes everything: what is let through is only what this machine would have given a guest itself.
 */
#include "fake_vm.h"

#include "vmm/memory_file.h"
#include "vmm/state.h"

#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void judge(struct vm *vm, const struct cpuid_set *ours)
{
	struct err e = { 0 };
	int r = cpuid_fits(&vm->cpuid, ours, &e);

	assert(r == 0);
	assert(!vm->load);
	for (uint32_t i = 0; i < vm->cpuid.count; i++) {
		const struct kvm_cpuid_entry2 *at = &vm->cpuid.entries[i];

		assert(at->function != 1 || !(at->ecx & 1U << 5));          /* vmx */
		assert(at->function != 0x80000001 || !(at->ecx & 1U << 2)); /* svm */
	}
}

static int load(struct vm *vm, struct span in, struct err *e)
{
	struct state_section s = { 0 };

	while (state_parse_section(&in, &s) == 0 && s.type != STATE_END) {
		int r;

		if (s.type == STATE_WSET)
			r = memory_populate(&vm->mem, s.payload, NULL, e);
		else
			r = vm_load_section(vm, &s, e);
		assert(r == 0 || (r == e->code && e->len > 0));
		if (r < 0 && r != -ENOTSUP)
			return r;
	}
	return vm_load_done(vm, e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct cpuid_set ours;
	struct err e = { 0 };
	struct vm *vm = fake_vm();

	ours = vm->cpuid;
	if (load(vm, span_of(data, size), &e) == 0)
		judge(vm, &ours);
	else
		assert(e.code < 0 && e.len > 0);
	fake_vm_free(vm);
	return 0;
}
