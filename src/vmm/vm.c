#include "vmm/vm.h"

#include "base/ck.h"
#include "base/clock.h"
#include "base/fdio.h"
#include "base/kernel_gaps.h"
#include "vmm/boot.h"
#include "vmm/vcpu.h"
#include "vmm/vm_parts.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>

enum {
	API_VERSION = 12,
	CREATE_TRIES = 100, /* KVM_CREATE_VM waits for a lock and gives up at any signal */
	PREFAULT_TRIES = 16,
	GSI_MAX = 23,                  /* pins of the IOAPIC, less one */
	REQ_XCOMP_GUEST_PERM = 0x1025, /* Source: asm/prctl.h, Linux 5.17 */
	XFEATURE_XTILEDATA = 18,
};
#define TSS_ADDR      UINT64_C(0xfffbd000) /* three pages, for Intel's real mode */
#define IDENTITY_ADDR UINT64_C(0xfffbc000) /* one page before it, the same */

static const struct {
	int cap;
	int min;
	const char *name;
} needed[] = {
	{ KVM_CAP_USER_MEMORY, 1, "memory slots" },
	{ KVM_CAP_NR_MEMSLOTS, GUEST_SLOTS_MAX, "two memory slots" },
	{ KVM_CAP_SYNC_MMU, 1, "memory that may be remapped" },
	{ KVM_CAP_SET_TSS_ADDR, 1, "KVM_SET_TSS_ADDR" },
	{ KVM_CAP_SET_IDENTITY_MAP_ADDR, 1, "KVM_SET_IDENTITY_MAP_ADDR" },
	{ KVM_CAP_EXT_CPUID, 1, "KVM_SET_CPUID2" },
	{ KVM_CAP_IRQCHIP, 1, "interrupt controllers in the kernel" },
	{ KVM_CAP_IRQFD, 1, "interrupts by eventfd" },
	{ KVM_CAP_IOEVENTFD, 1, "doorbells by eventfd" },
	{ KVM_CAP_IMMEDIATE_EXIT, 1, "immediate_exit" },
	{ KVM_CAP_TSC_DEADLINE_TIMER, 1, "the TSC deadline timer" },
	{ KVM_CAP_GET_TSC_KHZ, 1, "KVM_GET_TSC_KHZ" },
	{ KVM_CAP_MP_STATE, 1, "KVM_GET_MP_STATE" },
	{ KVM_CAP_VCPU_EVENTS, 1, "KVM_GET_VCPU_EVENTS" },
	{ KVM_CAP_DEBUGREGS, 1, "KVM_GET_DEBUGREGS" },
	{ KVM_CAP_XSAVE, 1, "KVM_GET_XSAVE" },
	{ KVM_CAP_XCRS, 1, "KVM_GET_XCRS" },
	{ KVM_CAP_ADJUST_CLOCK, 1, "KVM_SET_CLOCK" },
	{ KVM_CAP_KVMCLOCK_CTRL, 1, "KVM_KVMCLOCK_CTRL" },
};

const char *vm_end_name(enum vm_end end)
{
	static const char *const names[] = {
		[VM_RUNNING] = "running",
		[VM_END_RESET] = "reset",
		[VM_END_TRIPLE] = "triple-fault",
		[VM_END_ENTRY] = "entry-failure",
		[VM_END_INTERNAL] = "internal-error",
		[VM_END_UNKNOWN] = "unknown-exit",
		[VM_END_STOPPED] = "stopped",
		[VM_END_HOST] = "host-error",
		[VM_END_FULL] = "disk-full",
	};

	return (unsigned)end < sizeof(names) / sizeof(names[0]) ? names[end] : "unknown";
}

int vm_open_kvm(int *ret_fd, struct err *e)
{
	int r = fd_open("/dev/kvm", O_RDWR, 0, ret_fd, NULL);

	switch (r) {
	case 0:
		return 0;
	case -EACCES:
	case -EPERM:
		return err_set(e, r,
		               "no permission to use /dev/kvm: join its group "
		               "(sudo usermod -aG kvm $USER) and log in again");
	case -ENOENT:
		return err_set(e, r,
		               "there is no /dev/kvm: load kvm_intel or kvm_amd, "
		               "and turn virtualization on in the firmware");
	case -ENODEV:
	case -ENXIO:
		return err_set(e, r,
		               "/dev/kvm has no driver behind it: "
		               "this processor does not virtualize, or the firmware forbids it");
	default:
		return err_set(e, r, "/dev/kvm: %s", strerror(-r));
	}
}

static int check_caps(const struct kvm_ops *ops, const struct vm_config *c, struct err *e)
{
	int api = kvm_call(ops, c->kvm_fd, KVM_GET_API_VERSION, NULL);
	int cpus;

	if (api == -EACCES || api == -EPERM)
		return err_set(e, api, "no permission to use KVM");
	if (api < 0)
		return err_set(e, -ENODEV, "this is no KVM device: %s", strerror(-api));
	if (api != API_VERSION)
		return err_set(e, -ENOTSUP, "KVM speaks version %d, not %d", api, API_VERSION);
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		int got = kvm_call_number(ops, c->kvm_fd, KVM_CHECK_EXTENSION,
		                          (unsigned long)needed[i].cap);

		if (got < needed[i].min)
			return err_set(e, -ENOTSUP, "KVM here lacks %s", needed[i].name);
	}
	cpus = kvm_call_number(ops, c->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	if (cpus <= 0) /* too old to say: 4 is what the API promises */
		cpus = 4;
	if (cpus > VM_CPUS_MAX)
		cpus = VM_CPUS_MAX;
	if (c->cpus == 0 || c->cpus > (uint32_t)cpus)
		return err_set(e, -EINVAL, "a guest has 1 to %d CPUs here, not %u", cpus, c->cpus);
	return 0;
}

static int create_vm(struct vm *vm, struct err *e)
{
	int r = -EINTR;

	for (int i = 0; i < CREATE_TRIES && r == -EINTR; i++)
		r = kvm_call_number(vm->ops, vm->kvm_fd, KVM_CREATE_VM, 0);
	if (r < 0)
		return err_set(e, r, "KVM_CREATE_VM: %s", strerror(-r));
	vm->fd = r;
	return 0;
}

static int has_cap(const struct vm *vm, int cap)
{
	return kvm_call_number(vm->ops, vm->fd, KVM_CHECK_EXTENSION, (unsigned long)cap);
}

/* Hardenings: without them less is kept from the guest, so what has none of them goes on. */
static void harden(struct vm *vm)
{
	struct kvm_enable_cap no_pmu = { .cap = KVM_CAP_PMU_CAPABILITY };
	struct kvm_enable_cap notify = { .cap = KVM_CAP_X86_NOTIFY_VMEXIT };

	/* counters tell of other guests, and are much code in KVM */
	no_pmu.args[0] = KVM_PMU_CAP_DISABLE;
	if (has_cap(vm, KVM_CAP_PMU_CAPABILITY) > 0)
		(void)kvm_call(vm->ops, vm->fd, KVM_ENABLE_CAP, &no_pmu);
	/* a guest that never lets an interrupt in would keep the host's CPU to itself */
	notify.args[0] = KVM_X86_NOTIFY_VMEXIT_ENABLED;
	if (has_cap(vm, KVM_CAP_X86_NOTIFY_VMEXIT) > 0)
		(void)kvm_call(vm->ops, vm->fd, KVM_ENABLE_CAP, &notify);
}

/* Before the first CPU: where Intel may put its helpers, and the interrupt chips. */
static int set_up_chips(struct vm *vm, struct err *e)
{
	uint64_t identity = IDENTITY_ADDR;
	int r;

	r = kvm_call(vm->ops, vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	if (r < 0)
		return err_set(e, r, "KVM_SET_IDENTITY_MAP_ADDR: %s", strerror(-r));
	r = kvm_call_number(vm->ops, vm->fd, KVM_SET_TSS_ADDR, TSS_ADDR);
	if (r < 0)
		return err_set(e, r, "KVM_SET_TSS_ADDR: %s", strerror(-r));
	r = kvm_call_number(vm->ops, vm->fd, KVM_CREATE_IRQCHIP, 0);
	if (r < 0)
		return err_set(e, r, "KVM_CREATE_IRQCHIP: %s", strerror(-r));
	harden(vm);
	vm->can_prefault = has_cap(vm, KVM_CAP_PRE_FAULT_MEMORY) > 0;
	return 0;
}

static int set_up_memory(struct vm *vm, const struct vm_config *c, struct err *e)
{
	int r = guest_mem_map(c->ram_fd, c->ram_bytes, c->ram_shared, &vm->mem, e);

	for (unsigned i = 0; r == 0 && i < vm->mem.slot_count; i++) {
		const struct guest_slot *s = &vm->mem.slots[i];
		struct kvm_userspace_memory_region region = {
			.slot = i,
			.guest_phys_addr = s->start,
			.memory_size = s->bytes,
			.userspace_addr = (uint64_t)(uintptr_t)s->base,
		};

		r = kvm_call(vm->ops, vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
		if (r < 0)
			return err_set(e, r, "KVM_SET_USER_MEMORY_REGION: %s", strerror(-r));
	}
	return r;
}

static int set_up_cpuid(struct vm *vm, struct err *e)
{
	_own_free_ struct kvm_cpuid2 *all = NULL;
	_own_free_ struct cpuid_set *host = calloc(1, sizeof(*host));
	struct cpuid_shape shape = { .cpus = vm->cpus, .host_cpu = vm->host_cpu };
	int r;

	all = calloc(1, sizeof(*all) + CPUID_ENTRIES_MAX * sizeof(all->entries[0]));
	if (!all || !host)
		return err_set(e, -ENOMEM, "out of memory");
	if (vm->host_cpu) /* AMX comes only when asked for, before the first CPU */
		(void)syscall(SYS_arch_prctl, REQ_XCOMP_GUEST_PERM, XFEATURE_XTILEDATA);
	all->nent = CPUID_ENTRIES_MAX;
	r = kvm_call(vm->ops, vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, all);
	if (r < 0)
		return err_set(e, r, "KVM_GET_SUPPORTED_CPUID: %s", strerror(-r));
	assert(all->nent <= CPUID_ENTRIES_MAX);
	host->count = all->nent;
	memcpy(host->entries, all->entries, all->nent * sizeof(all->entries[0]));
	shape.tsc_deadline = has_cap(vm, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	return cpuid_make(host, &shape, &vm->cpuid, e);
}

/* All of memory must be within what the processors can address. */
static int check_addresses(const struct vm *vm, struct err *e)
{
	uint32_t bits = cpuid_address_bits(&vm->cpuid);
	const struct guest_slot *last = &vm->mem.slots[vm->mem.slot_count - 1];

	if (bits < 64 && (last->start + last->bytes - 1) >> bits != 0)
		return err_set(e, -EINVAL, "this processor reaches %u bits of address, not %ju MiB",
		               bits, (uintmax_t)(vm->mem.bytes >> 20));
	return 0;
}

/* What the CPUID does not offer shall not answer either: KVM's optional MSRs. */
static void enforce_offer(const struct vcpu *v)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_ENFORCE_PV_FEATURE_CPUID };

	cap.args[0] = 1;
	if (has_cap(v->vm, KVM_CAP_ENFORCE_PV_FEATURE_CPUID) > 0)
		(void)kvm_call(v->vm->ops, v->fd, KVM_ENABLE_CAP, &cap); /* a hardening, no need */
}

static int set_up(struct vm *vm, const struct vm_config *c, struct err *e)
{
	int r = create_vm(vm, e);

	if (r == 0)
		r = set_up_chips(vm, e);
	if (r == 0)
		r = set_up_memory(vm, c, e);
	if (r == 0)
		r = set_up_cpuid(vm, e);
	if (r == 0)
		r = check_addresses(vm, e);
	if (r == 0)
		r = cpu_host_init(vm->ops, vm->kvm_fd, vm->fd, &vm->cpu_host, e);
	for (uint32_t i = 0; r == 0 && i < vm->cpus; i++) {
		r = vcpu_open(vm, i, e);
		if (r == 0)
			r = vcpu_set_cpuid(&vm->vcpus[i], e);
		if (r == 0)
			enforce_offer(&vm->vcpus[i]);
	}
	return r;
}

static int init_lock(struct vm *vm)
{
	pthread_condattr_t attr;
	int r = pthread_condattr_init(&attr);

	if (r != 0)
		return -r;
	r = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	if (r == 0)
		r = pthread_cond_init(&vm->changed, &attr);
	(void)pthread_condattr_destroy(&attr);
	if (r != 0)
		return -r;
	r = pthread_mutex_init(&vm->lock, NULL);
	if (r != 0)
		(void)pthread_cond_destroy(&vm->changed);
	return -r;
}

/* For whoever looks at a saved state later. */
static void note_release(struct vm *vm)
{
	struct utsname name;

	if (uname(&name) == 0)
		(void)snprintf(vm->release, sizeof(vm->release), "%.*s", VM_RELEASE_MAX,
		               name.release);
}

int vm_new(const struct vm_config *c, struct vm **ret, struct err *e)
{
	return vm_new_on(kvm_ops_real(), c, ret, e);
}

int vm_new_on(const struct kvm_ops *ops, const struct vm_config *c, struct vm **ret, struct err *e)
{
	_own_(vm_free) struct vm *vm = NULL;
	struct vm *fresh;
	int r = check_caps(ops, c, e);

	if (r < 0)
		return r;
	fresh = calloc(1, sizeof(*fresh));
	if (!fresh || init_lock(fresh) < 0) {
		free(fresh);
		return err_set(e, -ENOMEM, "out of memory");
	}
	vm = fresh;
	vm->ops = ops;
	vm->kvm_fd = c->kvm_fd;
	vm->fd = -1;
	vm->host_cpu = c->host_cpu;
	vm->ended = c->ended;
	vm->paused = c->paused;
	vm->arg = c->arg;
	vm->cpus = c->cpus;
	note_release(vm);
	for (uint32_t i = 0; i < VM_CPUS_MAX; i++)
		vm->vcpus[i].fd = -1;
	r = set_up(vm, c, e);
	if (r < 0)
		return r;
	*ret = steal_ptr(&vm);
	return 0;
}

void vm_free(struct vm *vm)
{
	if (!vm)
		return;
	vm_stop(vm);
	for (uint32_t i = 0; i < VM_CPUS_MAX; i++)
		vcpu_close(&vm->vcpus[i]);
	if (vm->fd >= 0)
		(void)close(vm->fd);
	guest_mem_unmap(&vm->mem);
	vm_load_free(vm->load);
	(void)pthread_cond_destroy(&vm->changed);
	(void)pthread_mutex_destroy(&vm->lock);
	free(vm);
}

const struct guest_mem *vm_mem(const struct vm *vm)
{
	return &vm->mem;
}

int vm_add_bus(struct vm *vm, const struct vm_bus *w, struct err *e)
{
	uint64_t end;

	if (vm->bus_count == VM_BUS_MAX)
		return err_set(e, -ENOSPC, "no room for a device after %d", VM_BUS_MAX);
	if (w->bytes == 0 || w->start < GUEST_HOLE_START || !ck_add(w->start, w->bytes, &end) ||
	    end > IDENTITY_ADDR)
		return err_set(e, -EINVAL, "device window 0x%jx does not lie in the MMIO hole",
		               (uintmax_t)w->start);
	for (unsigned i = 0; i < vm->bus_count; i++)
		if (w->start < vm->bus[i].start + vm->bus[i].bytes && vm->bus[i].start < end)
			return err_set(e, -EEXIST, "device window 0x%jx overlaps another",
			               (uintmax_t)w->start);
	vm->bus[vm->bus_count++] = *w;
	return 0;
}

int vm_bind_irq(struct vm *vm, int event_fd, uint32_t gsi, struct err *e)
{
	struct kvm_irqfd bind = { .fd = (uint32_t)event_fd, .gsi = gsi };
	int r;

	if (gsi > GSI_MAX)
		return err_set(e, -EINVAL, "interrupt line %u does not exist", gsi);
	r = kvm_call(vm->ops, vm->fd, KVM_IRQFD, &bind);
	return r < 0 ? err_set(e, r, "KVM_IRQFD %u: %s", gsi, strerror(-r)) : 0;
}

int vm_bind_store(struct vm *vm, int event_fd, struct gpa at, uint32_t value, struct err *e)
{
	struct kvm_ioeventfd bind = {
		.fd = event_fd,
		.addr = at.v,
		.len = sizeof(value),
		.datamatch = value,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
	};
	int r = kvm_call(vm->ops, vm->fd, KVM_IOEVENTFD, &bind);

	return r < 0 ? err_set(e, r, "KVM_IOEVENTFD 0x%jx: %s", (uintmax_t)at.v, strerror(-r)) : 0;
}

int vm_boot(struct vm *vm, int kernel_fd, int initrd_fd, const char *cmdline, struct err *e)
{
	struct boot_plan plan = {
		.kernel_fd = kernel_fd,
		.initrd_fd = initrd_fd,
		.cmdline = cmdline,
		.cpus = vm->cpus,
	};
	struct boot_entry entry;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	const struct vcpu *first = &vm->vcpus[0];
	int r = boot_load(&vm->mem, &plan, &entry, e);

	if (r < 0)
		return r;
	r = kvm_call(vm->ops, first->fd, KVM_GET_SREGS, &sregs);
	if (r < 0)
		return err_set(e, r, "KVM_GET_SREGS: %s", strerror(-r));
	boot_registers(&entry, &sregs, &regs);
	r = kvm_call(vm->ops, first->fd, KVM_SET_SREGS, &sregs);
	if (r < 0)
		return err_set(e, r, "KVM_SET_SREGS: %s", strerror(-r));
	r = kvm_call(vm->ops, first->fd, KVM_SET_REGS, &regs);
	return r < 0 ? err_set(e, r, "KVM_SET_REGS: %s", strerror(-r)) : 0;
}

bool vm_prefault(struct vm *vm, struct gpa at, uint64_t bytes)
{
	struct kvm_pre_fault_memory range = { .gpa = at.v, .size = bytes };
	int r = vm->can_prefault ? 0 : -ENOTSUP;

	/* it does a part at a time, and writes into range what is left */
	for (unsigned i = 0; i < PREFAULT_TRIES && r == 0 && range.size > 0; i++) {
		r = kvm_call(vm->ops, vm->vcpus[0].fd, KVM_PRE_FAULT_MEMORY, &range);
		if (r == -EINTR || r == -EAGAIN)
			r = 0;
	}
	return r == 0 && range.size == 0;
}

/* Under the lock: what every CPU is to do now. */
static void set_want(struct vm *vm, enum vm_want want)
{
	vm->want = want;
	(void)pthread_cond_broadcast(&vm->changed);
	if (want == VM_WANT_RUN)
		return; /* each clears its own immediate_exit */
	for (uint32_t i = 0; i < vm->cpus; i++)
		vcpu_kick(&vm->vcpus[i]);
}

void vm_finish(struct vm *vm, enum vm_end end, const char *fmt, ...)
{
	bool first;
	va_list args;

	(void)pthread_mutex_lock(&vm->lock);
	first = vm->end == VM_RUNNING;
	if (first) {
		vm->end = end;
		va_start(args, fmt);
		(void)vsnprintf(vm->end_text, sizeof(vm->end_text), fmt, args);
		va_end(args);
		set_want(vm, VM_WANT_STOP);
	}
	(void)pthread_mutex_unlock(&vm->lock);
	if (first && end != VM_END_STOPPED && vm->ended)
		vm->ended(vm->arg);
}

void vm_pause_begin(struct vm *vm)
{
	bool done;

	(void)pthread_mutex_lock(&vm->lock);
	if (vm->want == VM_WANT_RUN)
		set_want(vm, VM_WANT_PAUSE);
	/* they had not left the last pause yet: none of them will tell */
	done = vm->want == VM_WANT_PAUSE && vm->running == 0;
	(void)pthread_mutex_unlock(&vm->lock);
	if (done && vm->paused)
		vm->paused(vm->arg);
}

bool vm_is_paused(struct vm *vm)
{
	bool paused;

	(void)pthread_mutex_lock(&vm->lock);
	paused = vm->want == VM_WANT_PAUSE && vm->running == 0;
	(void)pthread_mutex_unlock(&vm->lock);
	return paused;
}

/* Until no thread can be in the guest. */
static int wait_paused(struct vm *vm, struct err *e)
{
	uint64_t until = clock_mono_ns() + UINT64_C(1000000) * VM_PAUSE_MS;
	struct timespec when = {
		.tv_sec = (time_t)(until / 1000000000),
		.tv_nsec = (long)(until % 1000000000),
	};
	char text[VM_END_TEXT_MAX];
	unsigned running;
	enum vm_end end;
	int r = 0;

	(void)pthread_mutex_lock(&vm->lock);
	while (vm->running > 0 && vm->end == VM_RUNNING && r == 0)
		r = pthread_cond_timedwait(&vm->changed, &vm->lock, &when);
	running = vm->running;
	end = vm->end;
	memcpy(text, vm->end_text, sizeof(text));
	(void)pthread_mutex_unlock(&vm->lock);
	if (end != VM_RUNNING)
		return err_set(e, -ESHUTDOWN, "the machine has ended (%s): %s", vm_end_name(end),
		               text);
	if (running > 0)
		return err_set(e, -ETIMEDOUT, "%u of %u CPUs did not stop in %d ms", running,
		               vm->cpus, VM_PAUSE_MS);
	return 0;
}

int vm_pause(struct vm *vm, struct err *e)
{
	vm_pause_begin(vm);
	return wait_paused(vm, e);
}

int vm_start(struct vm *vm, int (*thread_jail)(void *arg, struct err *e), void *arg, bool paused,
             struct err *e)
{
	int r = vcpu_init_signal(e);
	uint32_t i = 0;

	if (r < 0)
		return r;
	assert(!vm->started);
	vm->thread_jail = thread_jail;
	vm->thread_jail_arg = arg;
	(void)pthread_mutex_lock(&vm->lock); /* so that no thread sees half of them started */
	vm->started = true;
	vm->running = vm->cpus;
	set_want(vm, paused ? VM_WANT_PAUSE : VM_WANT_RUN);
	for (; r == 0 && i < vm->cpus; i++)
		r = vcpu_start(&vm->vcpus[i], e);
	if (r < 0)
		vm->running -= vm->cpus - i + 1;
	(void)pthread_mutex_unlock(&vm->lock);
	if (r == 0 && paused)
		r = wait_paused(vm, e);
	if (r < 0)
		vm_stop(vm);
	return r;
}

void vm_resume(struct vm *vm)
{
	(void)pthread_mutex_lock(&vm->lock);
	if (vm->want == VM_WANT_PAUSE)
		set_want(vm, VM_WANT_RUN);
	(void)pthread_mutex_unlock(&vm->lock);
}

void vm_stop(struct vm *vm)
{
	vm_finish(vm, VM_END_STOPPED, "stopped");
	for (uint32_t i = 0; i < vm->cpus; i++)
		vcpu_join(&vm->vcpus[i]);
}

void vm_lost(struct vm *vm, int code)
{
	if (code == -EFAULT)
		vm_finish(vm, VM_END_HOST, "%s", GUEST_MEM_LOST);
	else
		vm_finish(vm, VM_END_FULL, "the disk that the guest's own disk is kept on is full");
}

enum vm_end vm_end(struct vm *vm, char ret_text[VM_END_TEXT_MAX])
{
	enum vm_end end;

	(void)pthread_mutex_lock(&vm->lock);
	end = vm->end;
	memcpy(ret_text, vm->end_text, VM_END_TEXT_MAX);
	(void)pthread_mutex_unlock(&vm->lock);
	return end;
}

void vm_where(struct vm *vm, char ret[VM_WHERE_MAX])
{
	const struct vcpu *faulted = NULL;

	(void)pthread_mutex_lock(&vm->lock);
	for (uint32_t i = 0; i < vm->cpus && !faulted; i++)
		if (vm->vcpus[i].faulted)
			faulted = &vm->vcpus[i];
	(void)pthread_mutex_unlock(&vm->lock);
	ret[0] = '\0';
	if (faulted)
		vcpu_where(faulted, ret);
}

static uint64_t load(const _Atomic uint64_t *n)
{
	return atomic_load_explicit(n, memory_order_relaxed);
}

void vm_get_counts(const struct vm *vm, struct vm_counts *ret)
{
	*ret = (struct vm_counts){ 0 };
	for (uint32_t i = 0; i < vm->cpus; i++) {
		const struct vcpu *v = &vm->vcpus[i];

		ret->exits += load(&v->exits);
		ret->exits_mmio += load(&v->exits_mmio);
		ret->exits_pio += load(&v->exits_pio);
		ret->exits_halt += load(&v->exits_halt);
		ret->exits_signal += load(&v->exits_signal);
		ret->unknown_pio += load(&v->unknown_pio);
		ret->unknown_mmio += load(&v->unknown_mmio);
	}
}
