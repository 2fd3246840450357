/*
 * Attacks by what only a processor can do. The machine ends for a reason of its own or goes on;
 * what an instruction does is between the guest and KVM.
 */
#include "guest.h"

enum {
	MSR_APIC_BASE = 0x1b,
	MSR_DEADLINE = 0x6e0,
	MSR_EFER = 0xc0000080,
	DEADLINES = 3000,
	STORM = 3000,
	TIMER_VECTOR = 0x40,
	TIMER_DEADLINE = 2 << 17,
	SMM_AT = 0x38000, /* SMBASE's usual place, and where it begins */
	CALLS = 200,
};
#define LAPIC       UINT64_C(0xfee00000)
#define LAPIC_SVR   (LAPIC + 0xf0)
#define LAPIC_ICR   (LAPIC + 0x300)
#define LAPIC_ICR2  (LAPIC + 0x310)
#define LAPIC_TIMER (LAPIC + 0x320)

static void rdmsr(uint64_t msr)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"((uint32_t)msr));
}

static uint64_t msr_value;

static void wrmsr(uint64_t msr)
{
	__asm__ volatile("wrmsr" ::"c"((uint32_t)msr), "a"((uint32_t)msr_value),
	                 "d"((uint32_t)(msr_value >> 32))
	                 : "memory");
}

static uint64_t now(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

static void msr_sweep(void)
{
	static const struct {
		uint32_t from, to;
	} ranges[] = {
		{ 0, 0x1000 },
		{ 0x40000000, 0x40000120 },
		{ 0x4b564d00, 0x4b564d10 },
		{ 0xc0000000, 0xc0000200 },
		{ 0xc0010000, 0xc0010300 },
		{ 0xfffffff0, UINT32_MAX },
	};
	static const uint64_t values[] = { UINT64_MAX, 0x1001, 0 };

	for (unsigned r = 0; r < sizeof(ranges) / sizeof(ranges[0]); r++) {
		for (uint64_t msr = ranges[r].from; msr < ranges[r].to; msr++) {
			report()->steps++;
			(void)attempt(rdmsr, msr);
			/* which would be the end of long mode, or of the APIC, in between */
			if (msr == MSR_EFER || msr == MSR_APIC_BASE)
				continue;
			for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
				msr_value = values[i];
				(void)attempt(wrmsr, msr);
			}
		}
	}
}

static void cpuid(uint32_t leaf, uint32_t sub)
{
	uint32_t b, d;

	__asm__ volatile("cpuid" : "+a"(leaf), "=b"(b), "+c"(sub), "=d"(d));
	report()->steps++;
}

static void cpuid_sweep(void)
{
	static const uint32_t bases[] = { 0,          0x40000000, 0x40000100, 0x80000000,
		                          0x8fffffff, 0xc0000000, 0xffffff00 };

	for (unsigned i = 0; i < sizeof(bases) / sizeof(bases[0]); i++)
		for (uint32_t leaf = 0; leaf < 64; leaf++)
			for (uint32_t sub = 0; sub < 40; sub++)
				cpuid(bases[i] + leaf, sub == 39 ? UINT32_MAX : sub);
}

static void no_table(void)
{
	static const struct __attribute__((packed)) {
		uint16_t limit;
		uint64_t base;
	} none = { 0, 0 };

	report()->steps++;
	__asm__ volatile("lidt %0" ::"m"(none));
}

static void triple_fault(void)
{
	no_table();
	__asm__ volatile("int3");
}

static void ud2_without_table(void)
{
	no_table();
	for (;;)
		__asm__ volatile("ud2");
}

static void ud2(uint64_t unused)
{
	(void)unused;
	__asm__ volatile("ud2");
}

static void exception_storm(void)
{
	for (unsigned n = 0; n < STORM; n++) {
		report()->steps++;
		(void)attempt(ud2, 0);
	}
}

static void halt_for_ever(void)
{
	report()->steps++;
	report()->state = DONE;
	stop();
}

static void spin(void)
{
	report()->steps++;
	report()->state = DONE;
	for (;;)
		pause_cpu();
}

static void apic_on(void)
{
	store32(LAPIC_SVR, 0x1ff);
}

/* Every kind of interprocessor interrupt at every processor there may be, ours not among them. */
static void ipi_nobody(void)
{
	apic_on();
	for (uint32_t kind = 0; kind < 8; kind++) {
		for (uint32_t to = 2; to < 256; to += to < 8 ? 1 : 31) {
			store32(LAPIC_ICR2, to << 24);
			store32(LAPIC_ICR, kind << 8 | 1u << 14 | 0x55);
			store32(LAPIC_ICR, kind << 8 | 1u << 15 | 0x55);
			report()->steps++;
		}
	}
}

/* INIT and SIPI, again and again, at the other processor, which runs whatever lies there. */
static void startup_storm(void)
{
	apic_on();
	for (unsigned n = 0; n < STORM / 10; n++) {
		store32(LAPIC_ICR2, 1u << 24);
		store32(LAPIC_ICR, 0x4500);
		store32(LAPIC_ICR2, 1u << 24);
		store32(LAPIC_ICR, 0x4600 | (n & 0xff));
		report()->steps++;
	}
	store32(LAPIC_ICR2, 1u << 24);
	store32(LAPIC_ICR, 0x4500);
}

static void init_self(void)
{
	apic_on();
	report()->steps++;
	store32(LAPIC_ICR2, 0);
	store32(LAPIC_ICR, 0x4500);
	let_time_pass(100);
}

static void nmi_storm(void)
{
	apic_on();
	for (unsigned n = 0; n < STORM; n++) {
		report()->steps++;
		store32(LAPIC_ICR2, 0);
		store32(LAPIC_ICR, 0x4400);
	}
}

/* Into system management mode: where there is an rsm, and where there is none. */
static void smi(void)
{
	apic_on();
	*(volatile uint16_t *)(uintptr_t)SMM_AT = 0xaa0f;
	for (unsigned n = 0; n < STORM; n++) {
		report()->steps++;
		store32(LAPIC_ICR2, 0);
		store32(LAPIC_ICR, 0x4200);
	}
}

static void smi_lost(void)
{
	apic_on();
	report()->steps++;
	*(volatile uint16_t *)(uintptr_t)SMM_AT = 0xfeeb; /* for ever */
	store32(LAPIC_ICR2, 0);
	store32(LAPIC_ICR, 0x4200);
	let_time_pass(100);
}

static void arm(uint64_t deadline)
{
	msr_value = deadline;
	wrmsr(MSR_DEADLINE);
}

static void deadline_storm(void)
{
	apic_on();
	store32(LAPIC_TIMER, TIMER_DEADLINE | TIMER_VECTOR);
	__asm__ volatile("sti");
	for (unsigned n = 0; n < DEADLINES; n++) {
		report()->steps++;
		if (!attempt(arm, n % 3 == 0 ? 1 : n % 3 == 1 ? now() + n : UINT64_MAX))
			break;
	}
	__asm__ volatile("cli");
}

static void interrupt_storm(void)
{
	apic_on();
	__asm__ volatile("sti");
	for (unsigned n = 0; n < STORM; n++) {
		report()->steps++;
		store32(LAPIC_ICR2, 0);
		store32(LAPIC_ICR, 0x4000 | (0x30 + n % 0xc0));
		__asm__ volatile("int $0x81");
	}
	__asm__ volatile("cli");
}

static void call_hypervisor(uint64_t n)
{
	uint64_t a = n;

	__asm__ volatile("vmcall" : "+a"(a) : "b"(n), "c"(n), "d"(n), "S"(n) : "memory");
}

static void call_hypervisor_amd(uint64_t n)
{
	uint64_t a = n;

	__asm__ volatile("vmmcall" : "+a"(a) : "b"(n), "c"(n), "d"(n), "S"(n) : "memory");
}

static void hypercalls(void)
{
	for (uint64_t n = 0; n < CALLS; n++) {
		uint64_t call = n < CALLS / 2 ? n : UINT64_MAX - n;

		report()->steps++;
		(void)attempt(call_hypervisor, call);
		(void)attempt(call_hypervisor_amd, call);
	}
}

static void nest(uint64_t n)
{
	static uint64_t page[PAGE / 8] __attribute__((aligned(4096)));
	uint64_t at = (uint64_t)(uintptr_t)page;

	if (n == 0)
		__asm__ volatile("vmxon %0" ::"m"(at));
	else if (n == 1)
		__asm__ volatile("vmptrld %0" ::"m"(at));
	else if (n == 2)
		__asm__ volatile("vmlaunch");
	else if (n == 3)
		__asm__ volatile("vmrun" ::"a"(at));
	else if (n == 4)
		__asm__ volatile("vmload" ::"a"(at));
	else if (n == 5)
		__asm__ volatile("vmsave" ::"a"(at));
	else if (n == 6)
		__asm__ volatile("clgi");
	else if (n == 7)
		__asm__ volatile("stgi");
	else if (n == 8)
		__asm__ volatile("skinit" ::"a"(0));
	else if (n == 9)
		__asm__ volatile(
			".byte 0x0f, 0x01, 0xd9"); /* vmmcall, and what others make of it */
	else
		__asm__ volatile("invlpga" ::"a"(at), "c"(0));
}

static void nested(void)
{
	unsigned allowed = 0;

	for (uint64_t n = 0; n <= 10; n++) {
		report()->steps++;
		if (attempt(nest, n) && n != 9)
			allowed |= 1u << n;
	}
	expect(allowed == 0, "there is virtualization within, instructions", allowed);
}

static void nothing(void)
{
	expect(ram_low_end() > HEAP_AT, "too little memory", ram_low_end());
	expect(!attempt(ud2, 0), "an exception that is none", 0);
}

const struct attack cpu_attacks[] = {
	{ "nothing", nothing },
	{ "msr-sweep", msr_sweep },
	{ "cpuid-sweep", cpuid_sweep },
	{ "triple-fault", triple_fault },
	{ "ud2-without-table", ud2_without_table },
	{ "exception-storm", exception_storm },
	{ "halt-for-ever", halt_for_ever },
	{ "spin", spin },
	{ "ipi-nobody", ipi_nobody },
	{ "startup-storm", startup_storm },
	{ "init-self", init_self },
	{ "nmi-storm", nmi_storm },
	{ "smi", smi },
	{ "smi-lost", smi_lost },
	{ "deadline-storm", deadline_storm },
	{ "interrupt-storm", interrupt_storm },
	{ "hypercalls", hypercalls },
	{ "nested", nested },
	{ NULL, NULL },
};
