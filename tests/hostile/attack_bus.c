/* Attacks on what lies around memory: registers, ports, holes. None of them is to be noticed. */
#include "driver.h"

enum {
	PORTS = 0x10000,
	KEYBOARD = 0x64,
	WINDOWS = 9, /* the devices', and behind them */
	REGISTERS_END = 0x180,
	STRING_COUNT = 5000, /* over a page, in every width */
};

static const unsigned widths[] = { 1, 2, 4, 8 };
static const uint64_t values[] = { 0, 1, UINT64_MAX, 0x8000000080000000 };
enum { WIDTHS = 4, VALUES = 4 };

static void touch_window(unsigned slot, unsigned off)
{
	uint64_t at = reg_at(slot, off);

	for (unsigned w = 0; w < WIDTHS; w++) {
		(void)load(at, widths[w]);
		store(at, values[(off + w) % VALUES], widths[w]);
		report()->steps++;
	}
}

static void mmio_every_register(void)
{
	for (unsigned slot = 0; slot < WINDOWS; slot++) {
		for (unsigned off = 0; off < REGISTERS_END; off++)
			touch_window(slot, off);
		for (unsigned off = REGISTERS_END; off < WINDOW; off += 61)
			touch_window(slot, off);
		for (unsigned off = WINDOW - 9; off < WINDOW + 9; off++) /* over the seam */
			touch_window(slot, off);
	}
	for (unsigned slot = 0; slot < SLOTS; slot++)
		expect_works(slot, "broken by stores to registers, slot");
}

static void ports_every_width(void)
{
	for (unsigned port = 0; port < PORTS; port++) {
		for (unsigned width = 1; width <= 4; width *= 2) {
			uint32_t value = (uint32_t)values[port % VALUES];

			(void)port_in((uint16_t)port, width);
			if (port == KEYBOARD && (value & 0xff) == 0xfe)
				continue;
			port_out((uint16_t)port, value, width);
			report()->steps++;
		}
	}
	expect_works(SLOT_RNG, "broken by ports, slot");
}

static void ports_some(void)
{
	for (unsigned port = 0; port < PORTS; port += port < 0x400 ? 1 : 97) {
		(void)port_in((uint16_t)port, 1 << port % 3);
		port_out((uint16_t)port, 0xff, 1 << port % 3);
		report()->steps++;
	}
	expect_works(SLOT_RNG, "broken by ports, slot");
}

static void string_out(uint64_t from)
{
	uint64_t count = STRING_COUNT;

	__asm__ volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(0x3f8) : "memory");
	count = STRING_COUNT / 4;
	__asm__ volatile("rep outsl" : "+S"(from), "+c"(count) : "d"(0xffff) : "memory");
}

static void string_in(uint64_t to)
{
	uint64_t count = STRING_COUNT;

	__asm__ volatile("rep insb" : "+D"(to), "+c"(count) : "d"(0x3f8) : "memory");
	count = STRING_COUNT / 4;
	__asm__ volatile("rep insl" : "+D"(to), "+c"(count) : "d"(KEYBOARD) : "memory");
}

/* From and to memory, its last bytes, a device's registers, and where nothing is. */
static void port_strings(void)
{
	const uint64_t places[] = { DATA_AT, ram_low_end() - 2000, reg_at(SLOT_RNG, 0xfff),
		                    3 * GIB };

	for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		(void)attempt(string_out, places[i]);
		(void)attempt(string_in, places[i]);
		report()->steps++;
	}
	expect_works(SLOT_RNG, "broken by strings to ports, slot");
}

static void touch(uint64_t at)
{
	for (unsigned w = 0; w < WIDTHS; w++) {
		(void)load(at, widths[w]);
		store(at, UINT64_MAX, widths[w]);
	}
	report()->steps++;
}

static void holes(void)
{
	const uint64_t edges[] = { 0xa0000,          ram_low_end(), 3 * GIB,    BUS,
		                   BUS + 9 * WINDOW, 0xfec00000,    0xfee01000, 0xfffbc000,
		                   0xfffbd000,       0xfffc0000,    4 * GIB };

	map_high();
	for (unsigned i = 0; i < sizeof(edges) / sizeof(edges[0]); i++)
		for (uint64_t off = 0; off < 18; off++)
			(void)attempt(touch, edges[i] - 9 + off);
	if (ram_high_end() != 0)
		for (uint64_t off = 0; off < 18; off++)
			(void)attempt(touch, ram_high_end() - 9 + off);
	expect_works(SLOT_RNG, "broken by holes, slot");
}

static void run_at(uint64_t at)
{
	((void (*)(void))at)();
}

static void exec_registers(void)
{
	report()->steps++;
	(void)attempt(run_at, BUS);
}

static void exec_hole(void)
{
	report()->steps++;
	(void)attempt(run_at, 3 * GIB);
}

static void stack_in_registers(void)
{
	report()->steps++;
	__asm__ volatile("mov %%rsp, %%rbx\n\t"
	                 "mov %0, %%rsp\n\t"
	                 "push %%rax\n\t"
	                 "pop %%rax\n\t"
	                 "int3\n\t"
	                 "mov %%rbx, %%rsp" ::"r"(BUS + 0x800)
	                 : "rax", "rbx", "memory");
}

static void tables_in_registers(void)
{
	report()->steps++;
	__asm__ volatile("mov %0, %%cr3" ::"r"(BUS) : "memory");
}

const struct attack bus_attacks[] = {
	{ "mmio-every-register", mmio_every_register },
	{ "ports-every-width", ports_every_width },
	{ "ports-some", ports_some },
	{ "port-strings", port_strings },
	{ "holes", holes },
	{ "exec-registers", exec_registers },
	{ "exec-hole", exec_hole },
	{ "stack-in-registers", stack_in_registers },
	{ "tables-in-registers", tables_in_registers },
	{ NULL, NULL },
};
