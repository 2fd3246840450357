/* The hostile guest's main program: it does the one attack its command line names, and reports. */
#include "guest.h"

enum {
	PARAM_E820_COUNT = 0x1e8,
	PARAM_CMDLINE = 0x228,
	PARAM_E820 = 0x2d0,
	E820_BYTES = 20,
	PAGE_TABLES_AT = 0x9000, /* as the loader made them: a PML4, then a PDPT */
	VECTORS = 256,
	GATE_BYTES = 16,
	GATE_INTERRUPT = 0x8e,
	CODE_SEGMENT = 0x10,
	EXCEPTIONS = 32,
	LARGE_WRITABLE = 0x83,
	PAGE_ENTRIES = 512,
	NAME_MAX = 64,
	PEER_WAIT = 1 << 20,
};
#define LAPIC      UINT64_C(0xfee00000)
#define LAPIC_EOI  (LAPIC + 0xb0)
#define LAPIC_SVR  (LAPIC + 0xf0)
#define LAPIC_ICR  (LAPIC + 0x300)
#define LAPIC_ICR2 (LAPIC + 0x310)

/* What on_gate pushed, and the processor before it. */
struct frame {
	uint64_t scratch[9];
	uint64_t vector, error, rip, cs, flags, rsp, ss;
};

extern const uint8_t gates[], recovered[], peer_start[], peer_end[];
extern uint64_t recover_rsp;
void guest_main(const uint8_t *params);
void on_interrupt(struct frame *f);

static uint64_t low_end, high_end;

/* One instruction each: where KVM emulates the guest, a loop takes a thousand times as long. */
void *memset(void *to, int byte, size_t len)
{
	void *at = to;

	__asm__ volatile("rep stosb" : "+D"(at), "+c"(len) : "a"(byte) : "memory");
	return to;
}

void *memcpy(void *to, const void *from, size_t len)
{
	void *at = to;

	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(len)::"memory");
	return to;
}

bool same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

void stop(void)
{
	for (;;)
		__asm__ volatile("cli; hlt");
}

void fail(const char *why, uint64_t number)
{
	static const char digits[] = "0123456789abcdef";
	char *to = report()->text;
	unsigned n = 0;

	for (; why[n] && n < TEXT_BYTES - 20; n++)
		to[n] = why[n];
	to[n++] = ' ';
	for (int shift = 60; shift >= 0; shift -= 4)
		to[n++] = digits[number >> shift & 15];
	to[n] = '\0';
	report()->state = FAILED;
	stop();
}

uint64_t ram_low_end(void)
{
	return low_end;
}

uint64_t ram_high_end(void)
{
	return high_end;
}

void map_high(void)
{
	static uint64_t table[PAGE_ENTRIES] __attribute__((aligned(4096)));
	volatile uint64_t *pdpt = (uint64_t *)(uintptr_t)(PAGE_TABLES_AT + PAGE);

	for (uint64_t i = 0; i < PAGE_ENTRIES; i++)
		table[i] = (4 * GIB + (i << 21)) | LARGE_WRITABLE;
	pdpt[4] = (uint64_t)(uintptr_t)table | 3;
}

void on_interrupt(struct frame *f)
{
	if (f->vector >= EXCEPTIONS || f->vector == 2) {
		report()->interrupts++;
		if (f->vector >= EXCEPTIONS)
			store32(LAPIC_EOI, 0);
		return;
	}
	if (recover_rsp == 0)
		fail("an exception at", f->rip << 8 | f->vector);
	report()->faults++;
	f->rip = (uint64_t)(uintptr_t)recovered;
	f->rsp = recover_rsp;
}

static void set_up_gates(void)
{
	static struct {
		uint16_t low, segment;
		uint8_t stack, type;
		uint16_t middle;
		uint32_t high, zero;
	} idt[VECTORS] __attribute__((aligned(16)));
	struct __attribute__((packed)) {
		uint16_t limit;
		uint64_t base;
	} where = { sizeof(idt) - 1, (uint64_t)(uintptr_t)idt };

	for (unsigned i = 0; i < VECTORS; i++) {
		uint64_t at = (uint64_t)(uintptr_t)gates + (uint64_t)i * GATE_BYTES;

		idt[i].low = (uint16_t)at;
		idt[i].segment = CODE_SEGMENT;
		idt[i].type = GATE_INTERRUPT;
		idt[i].middle = (uint16_t)(at >> 16);
		idt[i].high = (uint32_t)(at >> 32);
	}
	__asm__ volatile("lidt %0" ::"m"(where));
}

void let_time_pass(unsigned exits)
{
	while (exits-- > 0)
		(void)port_in(0x80, 1);
}

void port_out(uint16_t port, uint32_t value, unsigned width)
{
	if (width == 1)
		__asm__ volatile("outb %b0, %1" ::"a"(value), "Nd"(port));
	else if (width == 2)
		__asm__ volatile("outw %w0, %1" ::"a"(value), "Nd"(port));
	else
		__asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port));
}

uint32_t port_in(uint16_t port, unsigned width)
{
	uint32_t value = 0;

	if (width == 1)
		__asm__ volatile("inb %1, %b0" : "+a"(value) : "Nd"(port));
	else if (width == 2)
		__asm__ volatile("inw %1, %w0" : "+a"(value) : "Nd"(port));
	else
		__asm__ volatile("inl %1, %0" : "+a"(value) : "Nd"(port));
	return value;
}

void store(uint64_t at, uint64_t value, unsigned width)
{
	if (width == 1)
		__asm__ volatile("movb %b0, (%1)" ::"r"(value), "r"(at) : "memory");
	else if (width == 2)
		__asm__ volatile("movw %w0, (%1)" ::"r"(value), "r"(at) : "memory");
	else if (width == 4)
		__asm__ volatile("movl %k0, (%1)" ::"r"(value), "r"(at) : "memory");
	else
		__asm__ volatile("movq %0, (%1)" ::"r"(value), "r"(at) : "memory");
}

uint64_t load(uint64_t at, unsigned width)
{
	uint64_t value = 0;

	if (width == 1)
		__asm__ volatile("movb (%1), %b0" : "+r"(value) : "r"(at) : "memory");
	else if (width == 2)
		__asm__ volatile("movw (%1), %w0" : "+r"(value) : "r"(at) : "memory");
	else if (width == 4)
		__asm__ volatile("movl (%1), %k0" : "+r"(value) : "r"(at) : "memory");
	else
		__asm__ volatile("movq (%1), %0" : "+r"(value) : "r"(at) : "memory");
	return value;
}

void peer_start_on(const struct peer_store *list, unsigned count)
{
	struct peer_store *script = (struct peer_store *)(uintptr_t)(PEER_AT + PAGE);
	const struct peer_store *last = &list[count - 1];

	for (unsigned i = 0; i < count; i++)
		script[i] = list[i];
	script[count] = (struct peer_store){ 0, 0 };
	memcpy((void *)(uintptr_t)PEER_AT, peer_start, (size_t)(peer_end - peer_start));
	store32(ARENA_AT + last->off, ~last->value);
	store32(LAPIC_SVR, 0x1ff);
	store32(LAPIC_ICR2, 1u << 24);
	store32(LAPIC_ICR, 0x4500); /* INIT */
	let_time_pass(100);
	store32(LAPIC_ICR2, 1u << 24);
	store32(LAPIC_ICR, 0x4600 | PEER_AT >> 12); /* SIPI */
	for (unsigned n = 0; load32(ARENA_AT + last->off) != last->value; n++) {
		expect(n < PEER_WAIT, "the second processor does not start", n);
		let_time_pass(1);
	}
}

void peer_stop(void)
{
	store32(LAPIC_ICR2, 1u << 24);
	store32(LAPIC_ICR, 0x4500); /* INIT: it waits for a start that does not come */
	let_time_pass(100);
}

/* The word after "attack=" on the command line. */
static void read_name(const char *line, char ret[NAME_MAX])
{
	static const char key[] = "attack=";
	unsigned n = 0;

	for (; *line; line++) {
		unsigned k = 0;

		while (key[k] && line[k] == key[k])
			k++;
		if (key[k])
			continue;
		for (line += k; line[n] && line[n] != ' ' && n < NAME_MAX - 1; n++)
			ret[n] = line[n];
		break;
	}
	ret[n] = '\0';
}

static const struct attack *find(const char *name)
{
	static const struct attack *const lists[] = { bus_attacks, queue_attacks, device_attacks,
		                                      cpu_attacks };

	for (unsigned i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		for (const struct attack *a = lists[i]; a->name; a++)
			if (same(a->name, name))
				return a;
	return NULL;
}

static void read_memory_map(const uint8_t *params)
{
	for (unsigned i = 0; i < params[PARAM_E820_COUNT]; i++) {
		uint64_t at, bytes;

		memcpy(&at, params + PARAM_E820 + i * E820_BYTES, sizeof(at));
		memcpy(&bytes, params + PARAM_E820 + i * E820_BYTES + 8, sizeof(bytes));
		if (at >= 4 * GIB)
			high_end = at + bytes;
		else if (at + bytes > low_end)
			low_end = at + bytes;
	}
}

void guest_main(const uint8_t *params)
{
	char name[NAME_MAX];
	const struct attack *a;
	uint32_t line;

	*report() = (struct report){ .magic = REPORT_MAGIC };
	memcpy(&line, params + PARAM_CMDLINE, sizeof(line));
	set_up_gates();
	read_memory_map(params);
	read_name((const char *)(uintptr_t)line, name);
	a = find(name);
	if (!a)
		fail("no attack of that name", 0);
	a->run();
	report()->state = DONE;
	stop();
}
