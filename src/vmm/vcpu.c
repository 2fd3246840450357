#include "vmm/vcpu.h"

#include "base/buf.h"
#include "base/ck.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum {
	PORT_KEYBOARD = 0x64,
	KEYBOARD_RESET = 0xfe,
	RESET_RIP = 0xfff0, /* where a processor starts: KVM puts it there after a triple fault */
};
#define RESET_CS_BASE UINT64_C(0xffff0000)

static void count(_Atomic uint64_t *n)
{
	/* one writer: no locked instruction */
	atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + 1,
	                      memory_order_relaxed);
}

int vcpu_open(struct vm *vm, uint32_t index, struct err *e)
{
	struct vcpu *v = &vm->vcpus[index];
	int bytes = kvm_call(vm->ops, vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	void *at;

	v->vm = vm;
	v->index = index;
	if (bytes < (int)sizeof(struct kvm_run))
		return err_set(e, bytes < 0 ? bytes : -EPROTO, "KVM_GET_VCPU_MMAP_SIZE answers %d",
		               bytes);
	v->fd = kvm_call_number(vm->ops, vm->fd, KVM_CREATE_VCPU, index);
	if (v->fd < 0)
		return err_set(e, v->fd, "KVM_CREATE_VCPU: %s", strerror(-v->fd));
	at = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (at == MAP_FAILED)
		return err_sys(e, "map the run area of CPU %u", index);
	v->run = at;
	v->run_bytes = (size_t)bytes;
	return 0;
}

void vcpu_close(struct vcpu *v)
{
	if (v->run)
		(void)munmap(v->run, v->run_bytes);
	v->run = NULL;
	if (v->fd >= 0)
		(void)close(v->fd);
	v->fd = -1;
}

int vcpu_set_cpuid(struct vcpu *v, struct err *e)
{
	_own_free_ struct kvm_cpuid2 *all = NULL;
	struct cpuid_set set = v->vm->cpuid;
	int r;

	cpuid_set_cpu(&set, v->index, v->vm->cpus);
	all = calloc(1, sizeof(*all) + set.count * sizeof(set.entries[0]));
	if (!all)
		return err_set(e, -ENOMEM, "out of memory");
	all->nent = set.count;
	memcpy(all->entries, set.entries, set.count * sizeof(set.entries[0]));
	r = kvm_call(v->vm->ops, v->fd, KVM_SET_CPUID2, all);
	if (r < 0)
		return err_set(e, r, "KVM_SET_CPUID2: %s", strerror(-r));
	return 0;
}

static const struct vm_bus *find_bus(const struct vm *vm, uint64_t at, uint32_t len, uint32_t *off)
{
	for (unsigned i = 0; i < vm->bus_count; i++) {
		const struct vm_bus *b = &vm->bus[i];
		uint64_t o;

		if (!ck_sub(at, b->start, &o) || !ck_range(o, len, b->bytes))
			continue;
		*off = (uint32_t)o;
		return b;
	}
	return NULL;
}

static int handle_mmio(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	uint32_t len = run->mmio.len;
	uint32_t off = 0;
	const struct vm_bus *bus;

	count(&v->exits_mmio);
	if (len == 0 || len > sizeof(run->mmio.data)) {
		vm_finish(v->vm, VM_END_UNKNOWN, "an MMIO access of %u bytes", len);
		return 1;
	}
	bus = find_bus(v->vm, run->mmio.phys_addr, len, &off);
	if (!bus)
		count(&v->unknown_mmio);
	if (run->mmio.is_write) {
		if (bus)
			bus->write(bus->arg, off, run->mmio.data, len);
		return 0;
	}
	memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
	if (bus)
		bus->read(bus->arg, off, run->mmio.data, len);
	return 0;
}

/* Our whole keyboard controller: never busy, nothing to read, and the reset line. */
static bool port_out(struct vcpu *v, uint16_t port, uint32_t bytes, const uint8_t *data)
{
	if (port == PORT_KEYBOARD && bytes == 1)
		return data[0] == KEYBOARD_RESET;
	count(&v->unknown_pio);
	return false;
}

static void port_in(struct vcpu *v, uint16_t port, uint32_t bytes, uint8_t *ret)
{
	memset(ret, 0xff, bytes);
	if (port == PORT_KEYBOARD && bytes == 1)
		*ret = 0;
	else
		count(&v->unknown_pio);
}

static int handle_io(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	uint32_t bytes = run->io.size;
	uint64_t total = (uint64_t)bytes * run->io.count;
	uint8_t *data = (uint8_t *)run;

	count(&v->exits_pio);
	if ((bytes != 1 && bytes != 2 && bytes != 4) || total > VCPU_STRING_MAX ||
	    !ck_range(run->io.data_offset, total, v->run_bytes)) {
		vm_finish(v->vm, VM_END_UNKNOWN, "a port access of %u times %u bytes",
		          run->io.count, bytes);
		return 1;
	}
	data += run->io.data_offset;
	for (uint32_t i = 0; i < run->io.count; i++, data += bytes) {
		if (run->io.direction == KVM_EXIT_IO_IN) {
			port_in(v, run->io.port, bytes, data);
		} else if (port_out(v, run->io.port, bytes, data)) {
			vm_finish(v->vm, VM_END_RESET, "the guest asked for a reset");
			return 1;
		}
	}
	return 0;
}

static const char *internal_name(uint32_t suberror)
{
	switch (suberror) {
	case KVM_INTERNAL_ERROR_EMULATION:
		return "an instruction it cannot emulate";
	case KVM_INTERNAL_ERROR_SIMUL_EX:
		return "two exceptions at once";
	case KVM_INTERNAL_ERROR_DELIVERY_EV:
		return "an exit while it delivered an event";
	case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
		return "an exit it does not expect";
	default:
		return "no more is known";
	}
}

/* What it was doing tells why: see vm_where(). */
static void set_faulted(struct vcpu *v)
{
	(void)pthread_mutex_lock(&v->vm->lock);
	v->faulted = v->vm->end == VM_RUNNING;
	(void)pthread_mutex_unlock(&v->vm->lock);
}

static int handle_internal(struct vcpu *v)
{
	struct kvm_regs regs;
	char where[32] = "?";

	if (kvm_call(v->vm->ops, v->fd, KVM_GET_REGS, &regs) >= 0)
		(void)snprintf(where, sizeof(where), "0x%" PRIx64, (uint64_t)regs.rip);
	set_faulted(v);
	vm_finish(v->vm, VM_END_INTERNAL, "KVM gave up at %s: suberror %u, %s", where,
	          v->run->internal.suberror, internal_name(v->run->internal.suberror));
	return 1;
}

static int handle_event(struct vcpu *v)
{
	uint32_t type = v->run->system_event.type;

	if (type == KVM_SYSTEM_EVENT_SHUTDOWN || type == KVM_SYSTEM_EVENT_RESET)
		vm_finish(v->vm, VM_END_RESET, "the guest asked for a reset (system event %u)",
		          type);
	else
		vm_finish(v->vm, VM_END_UNKNOWN, "system event %u", type);
	return 1;
}

int vcpu_handle_exit(struct vcpu *v)
{
	struct kvm_run *run = v->run;

	count(&v->exits);
	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		return handle_mmio(v);
	case KVM_EXIT_IO:
		return handle_io(v);
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		return 0;
	case KVM_EXIT_HLT: /* KVM's own LAPIC waits inside; it only comes here when that is off */
		count(&v->exits_halt);
		vm_finish(v->vm, VM_END_UNKNOWN, "CPU %u halted without an interrupt controller",
		          v->index);
		return 1;
	case KVM_EXIT_SHUTDOWN:
		set_faulted(v);
		vm_finish(v->vm, VM_END_TRIPLE, "CPU %u took a triple fault", v->index);
		return 1;
	case KVM_EXIT_FAIL_ENTRY:
		set_faulted(v);
		vm_finish(v->vm, VM_END_ENTRY,
		          "CPU %u cannot enter the guest: hardware reason 0x%llx", v->index,
		          (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		return 1;
	case KVM_EXIT_INTERNAL_ERROR:
		return handle_internal(v);
	case KVM_EXIT_SYSTEM_EVENT:
		return handle_event(v);
	default:
		vm_finish(v->vm, VM_END_UNKNOWN, "KVM exit %u", run->exit_reason);
		return 1;
	}
}

static void put_registers(struct buf *b, const struct kvm_regs *r, const struct kvm_sregs *s)
{
	const struct {
		const char *name;
		uint64_t value;
	} all[] = {
		{ "rip", r->rip },        { "rsp", r->rsp },      { "rflags", r->rflags },
		{ "cs", s->cs.selector }, { "cr0", s->cr0 },      { "cr2", s->cr2 },
		{ "cr3", s->cr3 },        { "cr4", s->cr4 },      { "efer", s->efer },
		{ "gdt", s->gdt.base },   { "idt", s->idt.base }, { "tss", s->tr.base },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		buf_printf(b, " %s 0x%" PRIx64, all[i].name, all[i].value);
}

static void put_events(struct buf *b, const struct kvm_vcpu_events *ev)
{
	if (ev->exception.injected || ev->exception.pending)
		buf_printf(b, ", exception %u with 0x%x", ev->exception.nr,
		           ev->exception.error_code);
	if (ev->interrupt.injected)
		buf_printf(b, ", interrupt 0x%x", ev->interrupt.nr);
	if (ev->nmi.injected || ev->nmi.pending)
		buf_put_str(b, ", an NMI");
	if (ev->interrupt.shadow)
		buf_printf(b, ", interrupt shadow %u", ev->interrupt.shadow);
}

void vcpu_where(const struct vcpu *v, char ret[VM_WHERE_MAX])
{
	struct kvm_vcpu_events events = { 0 };
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	struct buf b;

	buf_init(&b, ret, VM_WHERE_MAX);
	buf_printf(&b, "after %" PRIu64 " exits",
	           atomic_load_explicit(&v->exits, memory_order_relaxed));
	if (kvm_call(v->vm->ops, v->fd, KVM_GET_REGS, &regs) < 0 ||
	    kvm_call(v->vm->ops, v->fd, KVM_GET_SREGS, &sregs) < 0 ||
	    kvm_call(v->vm->ops, v->fd, KVM_GET_VCPU_EVENTS, &events) < 0) {
		buf_put_str(&b, ", with registers that KVM does not tell");
	} else if (regs.rip == RESET_RIP && sregs.cs.base == RESET_CS_BASE) {
		buf_put_str(&b, ", with registers that KVM has reset");
	} else {
		buf_put_str(&b, " at");
		put_registers(&b, &regs, &sregs);
		put_events(&b, &events);
	}
	(void)buf_cstr(&b);
}

/* KVM_RUN itself failed. True: go on. */
static bool judge_failure(struct vcpu *v, int r)
{
	if (r == -EINTR) {
		count(&v->exits_signal);
		return true;
	}
	if (r == -EAGAIN) /* a CPU that waited for its start has got it */
		return true;
	if (r == -EFAULT) /* what we hand to KVM is mapped, so it is the guest's memory */
		vm_finish(v->vm, VM_END_HOST, "%s", GUEST_MEM_LOST);
	else
		vm_finish(v->vm, VM_END_HOST, "KVM_RUN: %s", strerror(-r));
	return false;
}

/*
 * Waits while the machine wants to pause. False when it wants to stop. Only called when no access
 * is half done.
 */
static bool wait_for_run(struct vcpu *v)
{
	struct vm *vm = v->vm;
	bool waited = false;
	bool last;
	bool run;

	(void)pthread_mutex_lock(&vm->lock);
	while (vm->want == VM_WANT_PAUSE) {
		if (!waited) {
			waited = true;
			vm->running--;
			last = vm->running == 0;
			(void)pthread_cond_broadcast(&vm->changed);
			if (last && vm->paused) {
				(void)pthread_mutex_unlock(&vm->lock);
				vm->paused(vm->arg);
				(void)pthread_mutex_lock(&vm->lock);
				continue;
			}
		}
		(void)pthread_cond_wait(&vm->changed, &vm->lock);
	}
	if (waited)
		vm->running++;
	run = vm->want == VM_WANT_RUN;
	if (run)
		v->run->immediate_exit = 0;
	(void)pthread_mutex_unlock(&vm->lock);
	/* Tells the guest that it stood still, so that its watchdogs forgive it. Fails where there
	 * is no kvm-clock, where there is nothing to tell. */
	if (run && waited)
		(void)kvm_call(vm->ops, v->fd, KVM_KVMCLOCK_CTRL, NULL);
	return run;
}

static void run(struct vcpu *v)
{
	struct err e = { 0 };
	struct vm *vm = v->vm;

	if (vm->thread_jail && vm->thread_jail(vm->thread_jail_arg, &e) < 0) {
		vm_finish(vm, VM_END_HOST, "CPU %u: %s", v->index, e.text);
		return;
	}
	if (!wait_for_run(v))
		return;
	for (;;) {
		int r = kvm_call(vm->ops, v->fd, KVM_RUN, NULL);

		if (r >= 0) {
			if (vcpu_handle_exit(v))
				return;
		} else if (!judge_failure(v, r) || !wait_for_run(v)) {
			return;
		}
	}
}

static void *thread(void *arg)
{
	struct vcpu *v = arg;
	struct vm *vm = v->vm;

	run(v);
	(void)pthread_mutex_lock(&vm->lock);
	vm->running--;
	(void)pthread_cond_broadcast(&vm->changed);
	(void)pthread_mutex_unlock(&vm->lock);
	return NULL;
}

static void on_signal(int number)
{
	(void)number; /* that KVM_RUN was interrupted is all it is for */
}

int vcpu_init_signal(struct err *e)
{
	struct sigaction act = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

	(void)sigemptyset(&act.sa_mask);
	if (sigaction(SIGRTMIN + VCPU_SIGNAL_OFFSET, &act, NULL) < 0)
		return err_sys(e, "handle the vCPU signal");
	return 0;
}

int vcpu_start(struct vcpu *v, struct err *e)
{
	pthread_attr_t attr;
	sigset_t blocked;
	int r;

	/* other signals are somebody else's: of the thread's mask only ours is open */
	(void)sigfillset(&blocked);
	(void)sigdelset(&blocked, SIGRTMIN + VCPU_SIGNAL_OFFSET);
	r = pthread_attr_init(&attr);
	if (r != 0)
		return err_set(e, -r, "start CPU %u: %s", v->index, strerror(r));
	r = pthread_attr_setsigmask_np(&attr, &blocked);
	if (r == 0)
		r = pthread_create(&v->thread, &attr, thread, v);
	(void)pthread_attr_destroy(&attr);
	if (r != 0)
		return err_set(e, -r, "start CPU %u: %s", v->index, strerror(r));
	v->started = true;
	return 0;
}

void vcpu_join(struct vcpu *v)
{
	if (!v->started)
		return;
	(void)pthread_join(v->thread, NULL);
	v->started = false;
}

void vcpu_kick(struct vcpu *v)
{
	if (v->run)
		v->run->immediate_exit = 1;
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* the flag, then the signal */
	if (v->started)
		(void)pthread_kill(v->thread, SIGRTMIN + VCPU_SIGNAL_OFFSET);
}
