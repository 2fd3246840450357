#include "vmm/cpu_state.h"

#include <errno.h>
#include <string.h>

/* What a guest may count on when it is set: a hole the processor does not have. Bits that tell of
 * behaviour, and those that are worse when set, are left out. */
#define ARCH_CAPABILITIES_NO UINT64_C(0x15b3f171)

struct msr_range {
	uint32_t first, last;
	const char *why;
};

static const struct msr_range skipped[] = {
	{ 0x11, 0x12, "the old numbers of kvm-clock, which we do not offer" },
	{ 0x34, 0x34, "counts the host's own interruptions" },
	{ 0x8b, 0x8b, "the host's microcode" },
	{ 0x8c, 0x8f, "SGX, not offered" },
	{ 0x9e, 0x9e, "of system management mode, which no guest of ours has" },
	{ 0xc1, 0xc8, "performance counters, not offered" },
	{ 0x186, 0x18d, "performance counters, not offered" },
	{ 0x1d9, 0x1de, "last branches: debugging aids, which KVM may not take back" },
	{ 0x309, 0x30c, "performance counters, not offered" },
	{ 0x329, 0x329, "performance counters, not offered" },
	{ 0x345, 0x345, "performance counters, not offered" },
	{ 0x38d, 0x390, "performance counters, not offered" },
	{ 0x3f1, 0x3f2, "performance counters, not offered" },
	{ 0x480, 0x493, "nested virtualization, not offered" },
	{ 0x4c1, 0x4c8, "performance counters, not offered" },
	{ 0x560, 0x58f, "tracing, not offered" },
	{ 0x600, 0x600, "performance counters, not offered" },
	{ 0x6a0, 0x6a8, "shadow stacks, not offered" },
	{ 0x1200, 0x14ff, "last branch records, not offered" },
	{ 0x40000000, 0x400001ff, "Hyper-V, not offered" },
	{ 0x4b564d00, 0x4b564d00,
	  "where KVM writes the time of day whenever it is set: the guest sets it when it asks" },
	{ 0x4b564d02, 0x4b564d03, "asynchronous page faults and stolen time, not offered" },
	{ 0x4b564d05, 0x4b564d08, "polling, page faults and migration control, not offered" },
	{ 0xc0000300, 0xc0000303, "performance counters, not offered" },
	{ 0xc0010000, 0xc0010007, "performance counters, not offered" },
	{ 0xc0010114, 0xc0010117, "nested virtualization, not offered" },
	{ 0xc0010200, 0xc001020b, "performance counters, not offered" },
};

/* Readable, but not on KVM's list. */
static const struct msr_range extra[] = {
	{ 0x200, 0x20f, "MTRRs: variable ranges" }, { 0x250, 0x250, "MTRRs: the first 512 KiB" },
	{ 0x258, 0x259, "MTRRs: up to 768 KiB" },   { 0x268, 0x26f, "MTRRs: up to 1 MiB" },
	{ 0x2ff, 0x2ff, "MTRRs: on or off" },
};

const char *cpu_msr_skipped(uint32_t index)
{
	for (size_t i = 0; i < sizeof(skipped) / sizeof(skipped[0]); i++)
		if (index >= skipped[i].first && index <= skipped[i].last)
			return skipped[i].why;
	return NULL;
}

static int failed(struct err *e, int r, const char *what)
{
	return err_set(e, r, "%s: %s", what, strerror(-r));
}

static int add_msr(struct cpu_host *h, uint32_t index, struct err *e)
{
	if (h->msr_count == CPU_MSRS_MAX)
		return err_set(e, -ENOTSUP, "KVM lists more than %d registers to save",
		               CPU_MSRS_MAX);
	h->msrs[h->msr_count++] = index;
	return 0;
}

static bool is_listed(const struct cpu_host *h, uint32_t index)
{
	for (uint32_t i = 0; i < h->msr_count; i++)
		if (h->msrs[i] == index)
			return true;
	return false;
}

static int list_msrs(const struct kvm_ops *ops, int kvm_fd, struct cpu_host *h, struct err *e)
{
	_own_free_ struct kvm_msr_list *all = NULL;
	int r;

	all = calloc(1, sizeof(*all) + CPU_MSR_LIST_MAX * sizeof(all->indices[0]));
	if (!all)
		return err_set(e, -ENOMEM, "out of memory");
	all->nmsrs = CPU_MSR_LIST_MAX;
	r = kvm_call(ops, kvm_fd, KVM_GET_MSR_INDEX_LIST, all);
	if (r < 0)
		return failed(e, r, "KVM_GET_MSR_INDEX_LIST");
	h->msr_count = 0;
	for (uint32_t i = 0; r >= 0 && i < all->nmsrs && i < CPU_MSR_LIST_MAX; i++)
		if (!cpu_msr_skipped(all->indices[i]))
			r = add_msr(h, all->indices[i], e);
	for (size_t i = 0; i < sizeof(extra) / sizeof(extra[0]); i++)
		for (uint32_t n = extra[i].first; r >= 0 && n <= extra[i].last; n++)
			if (!is_listed(h, n))
				r = add_msr(h, n, e);
	return r < 0 ? r : 0;
}

static int check_cap(const struct kvm_ops *ops, int vm_fd, int cap)
{
	return kvm_call_number(ops, vm_fd, KVM_CHECK_EXTENSION, (unsigned long)cap);
}

int cpu_host_init(const struct kvm_ops *ops, int kvm_fd, int vm_fd, struct cpu_host *ret,
                  struct err *e)
{
	struct cpu_host h = { .ops = ops, .xsave_bytes = CPU_XSAVE_MIN };
	int bytes = check_cap(ops, vm_fd, KVM_CAP_XSAVE2);
	int r;

	if (bytes > CPU_XSAVE_MAX)
		return err_set(e, -ENOTSUP, "KVM's register state has %d bytes, more than %d",
		               bytes, CPU_XSAVE_MAX);
	if (bytes > 0) {
		h.xsave2 = true;
		if (bytes > CPU_XSAVE_MIN)
			h.xsave_bytes = (uint32_t)bytes;
	}
	h.tsc_offset = check_cap(ops, vm_fd, KVM_CAP_VCPU_ATTRIBUTES) > 0;
	h.tsc_scaling = check_cap(ops, vm_fd, KVM_CAP_TSC_CONTROL) > 0;
	r = list_msrs(ops, kvm_fd, &h, e);
	if (r < 0)
		return r;
	*ret = h;
	return 0;
}

struct step {
	unsigned long request;
	void *data;
	const char *name;
};

static int do_steps(const struct cpu_host *h, int fd, const struct step *steps, size_t count,
                    struct err *e)
{
	for (size_t i = 0; i < count; i++) {
		int r = kvm_call(h->ops, fd, steps[i].request, steps[i].data);

		if (r < 0)
			return failed(e, r, steps[i].name);
	}
	return 0;
}

static int tsc_offset(const struct cpu_host *h, int fd, bool set, uint64_t *offset)
{
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uint64_t)(uintptr_t)offset,
	};

	return kvm_call(h->ops, fd, set ? KVM_SET_DEVICE_ATTR : KVM_GET_DEVICE_ATTR, &attr);
}

static struct kvm_msrs *new_msrs(uint32_t count, struct err *e)
{
	struct kvm_msrs *all = calloc(1, sizeof(*all) + count * sizeof(all->entries[0]));

	if (!all)
		(void)err_set(e, -ENOMEM, "out of memory");
	return all;
}

/* KVM reads them in order and stops at one this CPU does not have: that one is left out. */
static int read_msrs(const struct cpu_host *h, int fd, struct cpu_state *s, struct err *e)
{
	_own_free_ struct kvm_msrs *all = new_msrs(h->msr_count, e);
	uint32_t at = 0;

	if (!all)
		return -ENOMEM;
	s->msr_count = 0;
	while (at < h->msr_count) {
		int r;

		all->nmsrs = h->msr_count - at;
		for (uint32_t i = 0; i < all->nmsrs; i++)
			all->entries[i] = (struct kvm_msr_entry){ .index = h->msrs[at + i] };
		r = kvm_call(h->ops, fd, KVM_GET_MSRS, all);
		if (r < 0)
			return failed(e, r, "KVM_GET_MSRS");
		if ((uint32_t)r > all->nmsrs)
			return err_set(e, -EPROTO, "KVM_GET_MSRS answers %d of %u", r, all->nmsrs);
		memcpy(&s->msrs[s->msr_count], all->entries, (size_t)r * sizeof(s->msrs[0]));
		s->msr_count += (uint32_t)r;
		at += (uint32_t)r + 1;
	}
	return 0;
}

static int read_tsc_khz(const struct cpu_host *h, int fd, uint32_t *ret, struct err *e)
{
	int khz = kvm_call(h->ops, fd, KVM_GET_TSC_KHZ, NULL);

	if (khz < 0)
		return failed(e, khz, "KVM_GET_TSC_KHZ");
	if (khz == 0)
		return err_set(e, -ENOTSUP, "KVM does not know how fast the TSC runs");
	*ret = (uint32_t)khz;
	return 0;
}

int cpu_state_read(const struct cpu_host *h, int fd, struct cpu_state *ret, struct err *e)
{
	const struct step before[] = {
		{ KVM_GET_MP_STATE, &ret->mp, "KVM_GET_MP_STATE" },
		{ KVM_GET_REGS, &ret->regs, "KVM_GET_REGS" },
		{ KVM_GET_SREGS, &ret->sregs, "KVM_GET_SREGS" },
		{ h->xsave2 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, ret->xsave, "KVM_GET_XSAVE" },
		{ KVM_GET_XCRS, &ret->xcrs, "KVM_GET_XCRS" },
		{ KVM_GET_DEBUGREGS, &ret->debug, "KVM_GET_DEBUGREGS" },
		{ KVM_GET_LAPIC, &ret->lapic, "KVM_GET_LAPIC" },
	};
	const struct step after[] = {
		{ KVM_GET_VCPU_EVENTS, &ret->events, "KVM_GET_VCPU_EVENTS" },
	};
	int r;

	memset(ret, 0, sizeof(*ret));
	ret->xsave_bytes = h->xsave_bytes;
	r = do_steps(h, fd, before, sizeof(before) / sizeof(before[0]), e);
	if (r == 0)
		r = read_tsc_khz(h, fd, &ret->tsc_khz, e);
	if (r == 0)
		r = read_msrs(h, fd, ret, e);
	if (r == 0 && h->tsc_offset) {
		r = tsc_offset(h, fd, false, &ret->tsc_offset);
		if (r < 0)
			return failed(e, r, "KVM_GET_DEVICE_ATTR of the TSC");
	}
	if (r == 0)
		r = do_steps(h, fd, after, 1, e);
	return r;
}

int cpu_state_fit_tsc(const struct cpu_host *h, int fd, uint32_t khz, struct err *e)
{
	uint32_t here = 0;
	uint64_t differ;
	int r = read_tsc_khz(h, fd, &here, e);

	if (r < 0)
		return r;
	differ = khz > here ? khz - here : here - khz;
	if (differ * 1000000 <= (uint64_t)here * CPU_TSC_PPM_MAX)
		return 0;
	if (!h->tsc_scaling)
		return err_set(
			e, -EXDEV,
			"its TSC ran at %u kHz; this machine's runs at %u and cannot be scaled",
			khz, here);
	r = kvm_call_number(h->ops, fd, KVM_SET_TSC_KHZ, khz);
	return r < 0 ? err_set(e, -EXDEV, "its TSC ran at %u kHz, which KVM refuses: %s", khz,
	                       strerror(-r))
	             : 0;
}

/* 0 if the CPU has this value already, which is as good as having taken it. */
static int check_refused(const struct cpu_host *h, int fd, const struct kvm_msr_entry *m,
                         struct err *e)
{
	_own_free_ struct kvm_msrs *one = new_msrs(1, e);
	int r;

	if (!one)
		return -ENOMEM;
	one->nmsrs = 1;
	one->entries[0].index = m->index;
	r = kvm_call(h->ops, fd, KVM_GET_MSRS, one);
	if (r == 1 && one->entries[0].data == m->data)
		return 0;
	return err_set(e, -EXDEV, "MSR 0x%x cannot be 0x%llx here", m->index,
	               (unsigned long long)m->data);
}

static int set_msrs(const struct cpu_host *h, int fd, const struct kvm_msr_entry *from,
                    uint32_t count, struct err *e)
{
	_own_free_ struct kvm_msrs *all = new_msrs(count, e);
	uint32_t at = 0;

	if (!all)
		return -ENOMEM;
	while (at < count) {
		int r;

		all->nmsrs = count - at;
		memcpy(all->entries, &from[at], all->nmsrs * sizeof(from[0]));
		r = kvm_call(h->ops, fd, KVM_SET_MSRS, all);
		if (r < 0)
			return failed(e, r, "KVM_SET_MSRS");
		at += (uint32_t)r;
		if (at >= count)
			break;
		r = check_refused(h, fd, &from[at], e);
		if (r < 0)
			return r;
		at++;
	}
	return 0;
}

/* A guest that found no hole closed none. */
static int check_holes(const struct cpu_host *h, int fd, uint64_t saved, struct err *e)
{
	_own_free_ struct kvm_msrs *one = new_msrs(1, e);
	uint64_t lost;

	if (!one)
		return -ENOMEM;
	one->nmsrs = 1;
	one->entries[0].index = CPU_MSR_ARCH_CAPABILITIES;
	if (kvm_call(h->ops, fd, KVM_GET_MSRS, one) != 1)
		one->entries[0].data = 0;
	lost = saved & ~one->entries[0].data & ARCH_CAPABILITIES_NO;
	if (lost == 0)
		return 0;
	return err_set(e, -EXDEV,
	               "this machine's processor has a hole the guest does not know of "
	               "(IA32_ARCH_CAPABILITIES bit %d)",
	               __builtin_ctzll(lost));
}

struct msr_plan {
	uint32_t count;
	struct kvm_msr_entry entries[CPU_MSRS_MAX];
	uint64_t tsc, deadline;
	bool has_deadline;
};

/* Sorts out the two that have a time of their own. */
static int plan_msrs(const struct cpu_host *h, int fd, const struct cpu_state *s,
                     struct msr_plan *ret, struct err *e)
{
	for (uint32_t i = 0; i < s->msr_count; i++) {
		const struct kvm_msr_entry *m = &s->msrs[i];
		int r = 0;

		if (cpu_msr_skipped(m->index))
			return err_set(e, -EBADMSG, "it sets MSR 0x%x, which no state of ours has",
			               m->index);
		if (!is_listed(h, m->index))
			return err_set(e, -EXDEV, "KVM here does not know MSR 0x%x", m->index);
		if (m->index == CPU_MSR_TSC) {
			ret->tsc = m->data;
			continue;
		}
		if (m->index == CPU_MSR_TSC_DEADLINE) {
			ret->deadline = m->data;
			ret->has_deadline = true;
			continue;
		}
		if (m->index == CPU_MSR_ARCH_CAPABILITIES)
			r = check_holes(h, fd, m->data, e);
		if (r < 0)
			return r;
		ret->entries[ret->count++] = *m;
	}
	return 0;
}

static int write_tsc(const struct cpu_host *h, int fd, const struct cpu_state *s, uint64_t tsc,
                     int first_fd, const struct cpu_state *first, struct err *e)
{
	struct kvm_msr_entry value = { .index = CPU_MSR_TSC, .data = tsc };
	uint64_t offset = 0;
	int r;

	if (!h->tsc_offset || s == first) /* KVM itself evens out what lies under a second apart */
		return set_msrs(h, fd, &value, 1, e);
	r = tsc_offset(h, first_fd, false, &offset);
	if (r < 0)
		return failed(e, r, "KVM_GET_DEVICE_ATTR of the TSC");
	offset += s->tsc_offset - first->tsc_offset;
	r = tsc_offset(h, fd, true, &offset);
	return r < 0 ? failed(e, r, "KVM_SET_DEVICE_ATTR of the TSC") : 0;
}

static int write_msrs(const struct cpu_host *h, int fd, const struct cpu_state *s, int first_fd,
                      const struct cpu_state *first, struct err *e)
{
	_own_free_ struct msr_plan *plan = calloc(1, sizeof(*plan));
	struct kvm_msr_entry deadline = { .index = CPU_MSR_TSC_DEADLINE };
	int r;

	if (!plan)
		return err_set(e, -ENOMEM, "out of memory");
	r = plan_msrs(h, fd, s, plan, e);
	if (r == 0)
		r = set_msrs(h, fd, plan->entries, plan->count, e);
	if (r == 0)
		r = write_tsc(h, fd, s, plan->tsc, first_fd, first, e);
	if (r < 0 || !plan->has_deadline)
		return r;
	deadline.data = plan->deadline ? plan->deadline : plan->tsc;
	return set_msrs(h, fd, &deadline, 1, e);
}

static int write_own(const struct cpu_host *h, int fd, struct cpu_state *own, int first_fd,
                     const struct cpu_state *first, struct err *e)
{
	const struct step before[] = {
		{ KVM_SET_MP_STATE, &own->mp, "KVM_SET_MP_STATE" },
		{ KVM_SET_REGS, &own->regs, "KVM_SET_REGS" },
		{ KVM_SET_SREGS, &own->sregs, "KVM_SET_SREGS" },
		{ KVM_SET_XSAVE, own->xsave, "KVM_SET_XSAVE" },
		{ KVM_SET_XCRS, &own->xcrs, "KVM_SET_XCRS" },
		{ KVM_SET_DEBUGREGS, &own->debug, "KVM_SET_DEBUGREGS" },
		{ KVM_SET_LAPIC, &own->lapic, "KVM_SET_LAPIC" },
	};
	const struct step after[] = {
		{ KVM_SET_VCPU_EVENTS, &own->events, "KVM_SET_VCPU_EVENTS" },
	};
	int r = cpu_state_fit_tsc(h, fd, own->tsc_khz, e);

	if (r == 0)
		r = do_steps(h, fd, before, sizeof(before) / sizeof(before[0]), e);
	if (r == 0)
		r = write_msrs(h, fd, own, first_fd, first, e);
	if (r == 0)
		r = do_steps(h, fd, after, 1, e);
	return r;
}

int cpu_state_write(const struct cpu_host *h, int fd, const struct cpu_state *s, int first_fd,
                    const struct cpu_state *first, struct err *e)
{
	_own_free_ struct cpu_state *own = NULL; /* the ioctls take no const */
	int r;

	if (s->xsave_bytes > h->xsave_bytes)
		return err_set(e, -EXDEV, "its register state has %u bytes, here are %u",
		               s->xsave_bytes, h->xsave_bytes);
	own = malloc(sizeof(*own));
	if (!own)
		return err_set(e, -ENOMEM, "out of memory");
	*own = *s;
	r = write_own(h, fd, own, first_fd, s == first ? own : first, e);
	return r == -EINVAL ? err_wrap(e, "KVM does not take its state") : r;
}
