/*
 * Saving and loading a machine.
 *
 * Theory of operation
 *
 * STATE_HOST   u32 flags (bit 0: host_cpu) | u64 time of the save, ns since 1970 | str16 release
 *              of the host's kernel | u32 count of CPUID entries, each u32 function, index, flags,
 *              eax, ebx, ecx, edx: the set all CPUs share
 * STATE_MACHINE  u32 CPUs | u64 bytes of memory
 * STATE_VM     the two PICs and the IOAPIC, 512 bytes each | u64 kvm-clock in ns | u32 flags of it
 *              | u64 time of day, u64 host's TSC it was taken at
 * STATE_VCPU   cpu_state_parse.c; instance: its index
 *
 * Sections are judged as they come and kept; vm_load_done() puts them into KVM once all are there:
 * each CPU, then the PICs and the IOAPIC, whose interrupts under way go into LAPICs that must be
 * back by then, then the clock. The clock goes on from where it stood, as the TSC does: the
 * guest's monotonic time does not jump over its time on disk, only by what passes between the load
 * and the resume. What time of day it is the agent is told.
 *
 * System calls: KVM_GET_ and KVM_SET_ of MP_STATE, REGS, SREGS, XSAVE (KVM_GET_XSAVE2), XCRS,
 * DEBUGREGS, LAPIC, MSRS, VCPU_EVENTS, TSC_KHZ and DEVICE_ATTR on CPUs, KVM_SET_CPUID2, and
 * KVM_GET_ and KVM_SET_ of IRQCHIP and CLOCK on the machine.
 *
 * Source    Documentation/virt/kvm/api.rst, 4.24 to 4.30
 */
#include "vmm/state.h"

#include "base/clock.h"
#include "vmm/cpu_state.h"
#include "vmm/vcpu.h"
#include "vmm/vm_parts.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	CHIPS = 3, /* KVM_IRQCHIP_PIC_MASTER, _PIC_SLAVE, _IOAPIC */
	CHIP_BYTES = 512,
	HOST_CPU = 1, /* flag of STATE_HOST */
};

struct vm_load {
	bool host, machine, chips;
	struct cpuid_set cpuid;
	struct kvm_irqchip chip[CHIPS];
	uint64_t clock;
	struct cpu_state *cpus[VM_CPUS_MAX];
};

void vm_load_free(struct vm_load *l)
{
	if (!l)
		return;
	for (unsigned i = 0; i < VM_CPUS_MAX; i++)
		free(l->cpus[i]);
	free(l);
}

static bool is_still(struct vm *vm)
{
	return !vm->started || vm_is_paused(vm);
}

/* --- saving --- */

static void put_cpuid(const struct cpuid_set *set, struct buf *b)
{
	buf_put_le32(b, set->count);
	for (uint32_t i = 0; i < set->count; i++) {
		const struct kvm_cpuid_entry2 *at = &set->entries[i];

		buf_put_le32(b, at->function);
		buf_put_le32(b, at->index);
		buf_put_le32(b, at->flags);
		buf_put_le32(b, at->eax);
		buf_put_le32(b, at->ebx);
		buf_put_le32(b, at->ecx);
		buf_put_le32(b, at->edx);
	}
}

static void put_host(const struct vm *vm, struct buf *b)
{
	size_t begun = state_begin(b, STATE_HOST, STATE_CRITICAL, 0);

	buf_put_le32(b, vm->host_cpu ? HOST_CPU : 0);
	buf_put_le64(b, clock_real_ns());
	buf_put_str16(b, span_str(vm->release));
	put_cpuid(&vm->cpuid, b);
	state_end(b, begun);
}

static void put_machine(const struct vm *vm, struct buf *b)
{
	size_t begun = state_begin(b, STATE_MACHINE, STATE_CRITICAL, 0);

	buf_put_le32(b, vm->cpus);
	buf_put_le64(b, vm->mem.bytes);
	state_end(b, begun);
}

static int put_chips(const struct vm *vm, struct buf *b, struct err *e)
{
	size_t begun = state_begin(b, STATE_VM, STATE_CRITICAL, 0);
	struct kvm_clock_data clock = { 0 };
	int r;

	_Static_assert(sizeof(((struct kvm_irqchip *)NULL)->chip) == CHIP_BYTES, "the ABI");
	for (uint32_t i = 0; i < CHIPS; i++) {
		struct kvm_irqchip chip = { .chip_id = i };

		r = kvm_call(vm->ops, vm->fd, KVM_GET_IRQCHIP, &chip);
		if (r < 0)
			return err_set(e, r, "KVM_GET_IRQCHIP %u: %s", i, strerror(-r));
		buf_put(b, &chip.chip, CHIP_BYTES);
	}
	r = kvm_call(vm->ops, vm->fd, KVM_GET_CLOCK, &clock);
	if (r < 0)
		return err_set(e, r, "KVM_GET_CLOCK: %s", strerror(-r));
	buf_put_le64(b, clock.clock);
	buf_put_le32(b, clock.flags);
	buf_put_le64(b, clock.realtime);
	buf_put_le64(b, clock.host_tsc);
	state_end(b, begun);
	return 0;
}

static int put_cpus(const struct vm *vm, struct buf *b, struct err *e)
{
	_own_free_ struct cpu_state *s = malloc(sizeof(*s));

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < vm->cpus; i++) {
		size_t begun;
		int r = cpu_state_read(&vm->cpu_host, vm->vcpus[i].fd, s, e);

		if (r < 0)
			return err_wrap(e, "CPU %u", i);
		begun = state_begin(b, STATE_VCPU, STATE_CRITICAL, i);
		cpu_state_put(s, b);
		state_end(b, begun);
	}
	return 0;
}

int vm_save(struct vm *vm, struct buf *b, struct err *e)
{
	int r;

	if (!is_still(vm))
		return err_set(e, -EBUSY, "the machine runs: pause it first");
	put_host(vm, b);
	put_machine(vm, b);
	/* CPUs first: their interrupts on the way are taken by then */
	r = put_cpus(vm, b, e);
	if (r == 0)
		r = put_chips(vm, b, e);
	if (r < 0)
		return r;
	return buf_ok(b) ? 0
	                 : err_set(e, -ENOSPC, "the machine's state has over %zu bytes", b->size);
}

/* --- loading --- */

static int damaged(struct err *e, const char *what)
{
	return err_set(e, -EBADMSG, "it is damaged: %s", what);
}

static bool take_cpuid(struct span *in, struct cpuid_set *ret)
{
	uint32_t count;

	if (!take_le32(in, &count) || count > CPUID_ENTRIES_MAX)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t v[7];

		for (unsigned k = 0; k < 7; k++)
			if (!take_le32(in, &v[k]))
				return false;
		ret->entries[i] = (struct kvm_cpuid_entry2){
			.function = v[0],
			.index = v[1],
			.flags = v[2],
			.eax = v[3],
			.ebx = v[4],
			.ecx = v[5],
			.edx = v[6],
		};
	}
	ret->count = count;
	return true;
}

/* Stepping, model and family: a whole set of a processor fits only its like. */
static int check_model(const struct vm *vm, const struct cpuid_set *saved, struct err *e)
{
	const struct kvm_cpuid_entry2 *was = cpuid_find(saved, 1, 0);
	const struct kvm_cpuid_entry2 *is = cpuid_find(&vm->cpuid, 1, 0);

	if (was && is && was->eax == is->eax)
		return 0;
	return err_set(e, -EXDEV,
	               "it was saved on a processor of another model, with all of its "
	               "features");
}

static int load_host(const struct vm *vm, struct vm_load *l, struct span in, struct err *e)
{
	struct span release;
	uint64_t when;
	uint32_t flags;
	int r;

	if (l->host)
		return damaged(e, "its host is there twice");
	if (!take_le32(&in, &flags) || flags & ~(uint32_t)HOST_CPU || !take_le64(&in, &when) ||
	    !take_str16(&in, VM_RELEASE_MAX, &release) || !take_cpuid(&in, &l->cpuid) ||
	    in.len != 0)
		return damaged(e, "its host");
	if (flags & HOST_CPU && !vm->host_cpu)
		return err_set(e, -EXDEV,
		               "it was saved with all features of its processor, and "
		               "they are not asked for here");
	r = cpuid_fits(&l->cpuid, &vm->cpuid, e);
	if (r == 0 && flags & HOST_CPU)
		r = check_model(vm, &l->cpuid, e);
	if (r == 0)
		l->host = true;
	return r;
}

static int load_machine(const struct vm *vm, struct vm_load *l, struct span in, struct err *e)
{
	uint32_t cpus;
	uint64_t bytes;

	if (l->machine)
		return damaged(e, "the machine is there twice");
	if (!take_le32(&in, &cpus) || !take_le64(&in, &bytes) || in.len != 0)
		return damaged(e, "the machine");
	if (cpus != vm->cpus)
		return err_set(e, -EINVAL, "it has %u CPUs, this machine %u", cpus, vm->cpus);
	if (bytes != vm->mem.bytes)
		return err_set(e, -EINVAL, "it has %ju bytes of memory, this machine %ju",
		               (uintmax_t)bytes, (uintmax_t)vm->mem.bytes);
	l->machine = true;
	return 0;
}

static int load_chips(struct vm_load *l, struct span in, struct err *e)
{
	uint64_t realtime;
	uint64_t host_tsc;
	uint32_t flags;

	if (l->chips)
		return damaged(e, "its interrupt chips are there twice");
	for (uint32_t i = 0; i < CHIPS; i++) {
		l->chip[i] = (struct kvm_irqchip){ .chip_id = i };
		if (!take_bytes(&in, &l->chip[i].chip, CHIP_BYTES))
			return damaged(e, "its interrupt chips");
	}
	if (!take_le64(&in, &l->clock) || !take_le32(&in, &flags) || !take_le64(&in, &realtime) ||
	    !take_le64(&in, &host_tsc) || in.len != 0)
		return damaged(e, "its clock");
	l->chips = true;
	return 0;
}

static int load_cpu(const struct vm *vm, struct vm_load *l, uint32_t index, struct span in,
                    struct err *e)
{
	_own_free_ struct cpu_state *s = NULL;

	if (index >= vm->cpus)
		return damaged(e, "a CPU too many");
	if (l->cpus[index])
		return damaged(e, "a CPU is there twice");
	s = malloc(sizeof(*s));
	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	if (cpu_state_parse(in, s) < 0)
		return damaged(e, "a CPU");
	l->cpus[index] = steal_ptr(&s);
	return 0;
}

int vm_load_section(struct vm *vm, const struct state_section *s, struct err *e)
{
	if (vm->started && !vm_is_paused(vm))
		return err_set(e, -EBUSY, "the machine runs");
	if (!vm->load)
		vm->load = calloc(1, sizeof(*vm->load));
	if (!vm->load)
		return err_set(e, -ENOMEM, "out of memory");
	switch (s->type) {
	case STATE_HOST:
		return load_host(vm, vm->load, s->payload, e);
	case STATE_MACHINE:
		return load_machine(vm, vm->load, s->payload, e);
	case STATE_VM:
		return load_chips(vm->load, s->payload, e);
	case STATE_VCPU:
		return load_cpu(vm, vm->load, s->instance, s->payload, e);
	default:
		return err_set(e, -ENOTSUP, "section %u is none of the machine's", s->type);
	}
}

static int check_whole(const struct vm *vm, const struct vm_load *l, struct err *e)
{
	if (!l || !l->host || !l->machine || !l->chips)
		return damaged(e, "it is not whole");
	for (uint32_t i = 0; i < vm->cpus; i++)
		if (!l->cpus[i])
			return err_set(e, -EBADMSG, "it is damaged: CPU %u is missing", i);
	return 0;
}

static int write_cpus(struct vm *vm, const struct vm_load *l, struct err *e)
{
	for (uint32_t i = 0; i < vm->cpus; i++) {
		int r = vcpu_set_cpuid(&vm->vcpus[i], e);

		if (r == 0)
			r = cpu_state_write(&vm->cpu_host, vm->vcpus[i].fd, l->cpus[i],
			                    vm->vcpus[0].fd, l->cpus[0], e);
		if (r < 0)
			return err_wrap(e, "CPU %u", i);
	}
	return 0;
}

static int write_chips(struct vm *vm, struct vm_load *l, struct err *e)
{
	struct kvm_clock_data clock = { .clock = l->clock };
	int r;

	for (uint32_t i = 0; i < CHIPS; i++) {
		r = kvm_call(vm->ops, vm->fd, KVM_SET_IRQCHIP, &l->chip[i]);
		if (r < 0)
			return err_set(e, r, "KVM_SET_IRQCHIP %u: %s", i, strerror(-r));
	}
	r = kvm_call(vm->ops, vm->fd, KVM_SET_CLOCK, &clock);
	return r < 0 ? err_set(e, r, "KVM_SET_CLOCK: %s", strerror(-r)) : 0;
}

int vm_load_done(struct vm *vm, struct err *e)
{
	int r = check_whole(vm, vm->load, e);

	if (r < 0)
		return r;
	vm->cpuid = vm->load->cpuid; /* what the guest knows, and what the next save says */
	r = write_cpus(vm, vm->load, e);
	if (r == 0)
		r = write_chips(vm, vm->load, e);
	vm_load_free(vm->load);
	vm->load = NULL;
	return r;
}
