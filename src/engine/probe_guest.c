/*
 * Theory of operation: 64 KiB of guest memory at 0, holding one page of code, page tables and a
 * stack. Three little loops are run to a HLT, in real, protected and long mode; the time of the
 * last is the verdict, because a kernel lives in long mode (old processors emulate real mode and
 * are no worse for it). Then instructions every kernel executes, each alone between its entry and
 * a HLT: KVM answers one it cannot execute with an exit other than HLT.
 */
#include "engine/probe_guest.h"

#include "base/clock.h"
#include "engine/probe.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

enum {
	MEM_BYTES = 64 << 10,
	CODE_AT = 0x1000,
	PML4_AT = 0x2000,
	PDPT_AT = 0x3000,
	PD_AT = 0x4000,
	SCRATCH_AT = 0x6000, /* 16-byte aligned, for instructions that write */
	STACK_AT = 0x8000,
	CODE_MAX = 32,
	LOOP_COUNT_AT = 1,    /* where a loop's imm32 lies, after its prefix if any */
	TSS_AT = 0xfffbd000U, /* three pages Intel needs; far above the memory */
	CPUID_MAX = 256,
	EXITS_MAX = 8, /* of one snippet; EINTR and the like */
	KVM_API = 12,
};

enum step {
	STEP_API,
	STEP_CREATE_VM,
	STEP_TSS,
	STEP_MEMORY,
	STEP_VCPU,
	STEP_RUN_AREA,
	STEP_CPUID,
	STEP_SREGS,
	STEP_REGS,
	STEP_RUN,
	STEP_LOOP16,
	STEP_LOOP32,
	STEP_LOOP64,
	STEP_SNIPPETS, /* and from here one for each snippet */
};

static const char *const step_names[STEP_SNIPPETS] = {
	[STEP_API] = "KVM_GET_API_VERSION", [STEP_CREATE_VM] = "KVM_CREATE_VM",
	[STEP_TSS] = "KVM_SET_TSS_ADDR",    [STEP_MEMORY] = "KVM_SET_USER_MEMORY_REGION",
	[STEP_VCPU] = "KVM_CREATE_VCPU",    [STEP_RUN_AREA] = "map of the vCPU's run area",
	[STEP_CPUID] = "KVM_SET_CPUID2",    [STEP_SREGS] = "KVM_SET_SREGS",
	[STEP_REGS] = "KVM_SET_REGS",       [STEP_RUN] = "KVM_RUN",
	[STEP_LOOP16] = "16-bit loop",      [STEP_LOOP32] = "32-bit loop",
	[STEP_LOOP64] = "64-bit loop",
};

struct code {
	const char *name;
	uint8_t bytes[CODE_MAX];
	uint8_t len;
	uint8_t count_at; /* loops: where the count lies */
};

/* mov $N, %ecx; 1: dec %ecx; jnz 1b; hlt */
static const struct code loop16 = {
	"16-bit loop", { 0x66, 0xb9, 0, 0, 0, 0, 0x66, 0x49, 0x75, 0xfc, 0xf4 }, 11, 2
};
static const struct code loop32 = {
	"32-bit loop", { 0xb9, 0, 0, 0, 0, 0x49, 0x75, 0xfd, 0xf4 }, 9, LOOP_COUNT_AT
};
static const struct code loop64 = {
	"64-bit loop", { 0xb9, 0, 0, 0, 0, 0xff, 0xc9, 0x75, 0xfc, 0xf4 }, 10, LOOP_COUNT_AT
};

/* In long mode, ring 0. rdi points at 16 aligned bytes of scratch. Each ends in hlt. */
static const struct code snippets[] = {
	{ "rdtsc", { 0x0f, 0x31, 0xf4 }, 3, 0 },
	{ "popcnt", { 0xf3, 0x0f, 0xb8, 0xc1, 0xf4 }, 5, 0 },
	{ "lock xadd", { 0xf0, 0x0f, 0xc1, 0x07, 0xf4 }, 5, 0 },
	{ "lock cmpxchg16b", { 0xf0, 0x48, 0x0f, 0xc7, 0x0f, 0xf4 }, 6, 0 },
	{ "fxsave", { 0x48, 0x0f, 0xae, 0x47, 0x40, 0xf4 }, 6, 0 },
	{ "movups", { 0x0f, 0x10, 0x07, 0x0f, 0x11, 0x07, 0xf4 }, 7, 0 },
	{ "pushfq popfq", { 0x9c, 0x9d, 0xf4 }, 3, 0 },
	{ "rep stosb", { 0xb9, 64, 0, 0, 0, 0xf3, 0xaa, 0xf4 }, 8, 0 },
	{ "mov cr3", { 0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8, 0xf4 }, 7, 0 },
	{ "invlpg", { 0x0f, 0x01, 0x3f, 0xf4 }, 4, 0 },
	{ "swapgs", { 0x0f, 0x01, 0xf8, 0xf4 }, 4, 0 },
	{ "sidt lidt", { 0x0f, 0x01, 0x0f, 0x0f, 0x01, 0x1f, 0xf4 }, 7, 0 },
	{ "verw", { 0x66, 0x8c, 0x1f, 0x0f, 0x00, 0x2f, 0xf4 }, 7, 0 },
};

enum { SNIPPET_COUNT = sizeof(snippets) / sizeof(snippets[0]) };

struct vm {
	int vm_fd;
	int vcpu_fd;
	int news_fd;
	uint8_t *mem;
	struct kvm_run *run;
	size_t run_bytes;
};

const char *probe_guest_step_name(uint32_t step)
{
	if (step < STEP_SNIPPETS)
		return step_names[step];
	if (step - STEP_SNIPPETS < SNIPPET_COUNT)
		return snippets[step - STEP_SNIPPETS].name;
	return "unknown step";
}

static void tell(const struct vm *v, enum probe_news_kind kind, uint32_t step, int code)
{
	struct probe_news news = { .kind = kind, .step = step, .code = code };

	(void)!write(v->news_fd, &news, sizeof(news)); /* a parent that left wants none */
}

static bool failed(const struct vm *v, enum step step, int code)
{
	tell(v, PROBE_NEWS_FAILED, (uint32_t)step, code);
	return false;
}

/* Every entry KVM offers, as the guest's: long mode is one of them. */
static bool set_cpuid(const struct vm *v, int kvm_fd)
{
	_Alignas(struct kvm_cpuid2) uint8_t
		room[sizeof(struct kvm_cpuid2) + CPUID_MAX * sizeof(struct kvm_cpuid_entry2)];
	struct kvm_cpuid2 *all = (struct kvm_cpuid2 *)(void *)room;

	memset(room, 0, sizeof(room));
	all->nent = CPUID_MAX;
	if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, all) < 0 ||
	    ioctl(v->vcpu_fd, KVM_SET_CPUID2, all) < 0)
		return failed(v, STEP_CPUID, -errno);
	return true;
}

static bool make_memory(struct vm *v)
{
	struct kvm_userspace_memory_region region = { .memory_size = MEM_BYTES };
	void *at =
		mmap(NULL, MEM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		return failed(v, STEP_MEMORY, -errno);
	v->mem = at;
	region.userspace_addr = (uint64_t)(uintptr_t)at;
	if (ioctl(v->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return failed(v, STEP_MEMORY, -errno);
	return true;
}

static bool make_vm(struct vm *v, int kvm_fd)
{
	int bytes;
	int api = ioctl(kvm_fd, KVM_GET_API_VERSION, 0UL);
	void *at;

	if (api != KVM_API)
		return failed(v, STEP_API, api < 0 ? -errno : -EPROTO);
	v->vm_fd = ioctl(kvm_fd, KVM_CREATE_VM, 0UL);
	if (v->vm_fd < 0)
		return failed(v, STEP_CREATE_VM, -errno);
	if (ioctl(v->vm_fd, KVM_SET_TSS_ADDR, (unsigned long)TSS_AT) < 0)
		return failed(v, STEP_TSS, -errno);
	if (!make_memory(v))
		return false;
	v->vcpu_fd = ioctl(v->vm_fd, KVM_CREATE_VCPU, 0UL);
	if (v->vcpu_fd < 0)
		return failed(v, STEP_VCPU, -errno);
	bytes = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0UL);
	if (bytes < (int)sizeof(struct kvm_run))
		return failed(v, STEP_RUN_AREA, bytes < 0 ? -errno : -EPROTO);
	at = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->vcpu_fd, 0);
	if (at == MAP_FAILED)
		return failed(v, STEP_RUN_AREA, -errno);
	v->run = at;
	v->run_bytes = (size_t)bytes;
	return set_cpuid(v, kvm_fd);
}

static void put_entry(struct vm *v, uint32_t at, uint64_t entry)
{
	memcpy(v->mem + at, &entry, sizeof(entry));
}

/* Identity maps the first 2 MiB with one large page: present, writable, large. */
static void make_page_tables(struct vm *v)
{
	put_entry(v, PML4_AT, PDPT_AT | 3);
	put_entry(v, PDPT_AT, PD_AT | 3);
	put_entry(v, PD_AT, 0x83);
}

static void set_flat(struct kvm_segment *s, uint8_t type, bool code64)
{
	*s = (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = type & 8 ? 0x08 : 0x10,
		.type = type,
		.present = 1,
		.s = 1,
		.g = 1,
		.db = !code64,
		.l = code64,
	};
}

enum mode { MODE_16, MODE_32, MODE_64 };

static bool set_mode(struct vm *v, enum mode mode)
{
	struct kvm_sregs s;

	if (ioctl(v->vcpu_fd, KVM_GET_SREGS, &s) < 0)
		return failed(v, STEP_SREGS, -errno);
	if (mode == MODE_16) {
		s.cs.base = 0;
		s.cs.selector = 0;
	} else {
		set_flat(&s.cs, 11, mode == MODE_64);
		set_flat(&s.ds, 3, false);
		s.es = s.fs = s.gs = s.ss = s.ds;
		s.cr0 |= 1; /* PE */
	}
	if (mode == MODE_64) {
		make_page_tables(v);
		s.cr3 = PML4_AT;
		s.cr4 |= 1 << 5 | 1 << 9 | 1 << 10;   /* PAE, OSFXSR, OSXMMEXCPT */
		s.cr0 |= 1U << 31 | 1 << 1 | 1 << 16; /* PG, MP, WP */
		s.cr0 &= ~(uint64_t)(1 << 2);         /* no EM: SSE is the kernel's own */
		s.efer |= 1 << 8 | 1 << 10;           /* LME, LMA */
	}
	if (ioctl(v->vcpu_fd, KVM_SET_SREGS, &s) < 0)
		return failed(v, STEP_SREGS, -errno);
	return true;
}

/* Runs code to its HLT; `step` is what failed if it does not get there. */
static bool run_code(struct vm *v, const struct code *c, uint32_t loops, uint32_t step)
{
	struct kvm_regs regs = { .rip = CODE_AT, .rflags = 2, .rdi = SCRATCH_AT, .rsp = STACK_AT };

	memcpy(v->mem + CODE_AT, c->bytes, c->len);
	if (c->count_at)
		memcpy(v->mem + CODE_AT + c->count_at, &loops, sizeof(loops));
	if (ioctl(v->vcpu_fd, KVM_SET_REGS, &regs) < 0)
		return failed(v, STEP_REGS, -errno);
	for (int i = 0; i < EXITS_MAX; i++) {
		if (ioctl(v->vcpu_fd, KVM_RUN, 0UL) < 0) {
			if (errno == EINTR || errno == EAGAIN)
				continue;
			return failed(v, STEP_RUN, -errno);
		}
		if (v->run->exit_reason == KVM_EXIT_HLT)
			return true;
		break;
	}
	tell(v, PROBE_NEWS_FAILED, step, -ENOEXEC);
	return false;
}

static bool time_loop(struct vm *v, uint32_t loops, uint64_t *ret_per_s)
{
	struct probe_news news = { .kind = PROBE_NEWS_SPEED, .insns = 2 * (uint64_t)loops };
	uint64_t began = clock_mono_ns();

	if (!run_code(v, &loop64, loops, STEP_LOOP64))
		return false;
	news.ns = clock_mono_ns() - began + 1;
	(void)!write(v->news_fd, &news, sizeof(news));
	*ret_per_s = news.insns * 1000000000 / news.ns;
	return true;
}

void probe_guest_run(int kvm_fd, int news_fd)
{
	struct vm v = { .vm_fd = -1, .vcpu_fd = -1, .news_fd = news_fd };
	uint64_t per_s = 0;

	if (!make_vm(&v, kvm_fd))
		return;
	tell(&v, PROBE_NEWS_READY, 0, 0);
	if (!set_mode(&v, MODE_16) || !run_code(&v, &loop16, PROBE_LOOPS_SHORT / 10, STEP_LOOP16))
		return;
	if (!set_mode(&v, MODE_32) || !run_code(&v, &loop32, PROBE_LOOPS_SHORT / 10, STEP_LOOP32))
		return;
	if (!set_mode(&v, MODE_64) || !time_loop(&v, PROBE_LOOPS_SHORT, &per_s))
		return;
	/* again: the first run paid for the first touch of every page */
	if (!time_loop(&v, per_s * 10 < PROBE_FAST_PER_S ? PROBE_LOOPS_SHORT : PROBE_LOOPS_LONG,
	               &per_s))
		return;
	for (uint32_t i = 0; per_s >= PROBE_FAST_PER_S && i < SNIPPET_COUNT; i++)
		if (!run_code(&v, &snippets[i], 0, STEP_SNIPPETS + i))
			return;
	tell(&v, PROBE_NEWS_DONE, 0, 0);
	/* the caller exits: fds and mappings go with the process */
}
