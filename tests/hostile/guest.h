/*
 * guest: what every attack of the hostile guest stands on: memory at fixed places, ports, registers
 * of devices, a way to survive an exception, and a report that the host reads out of our memory.
 *
 * The guest owns its 16 MiB or more and runs on one processor in long mode, all addresses real.
 * Whoever started it watches struct report; nothing else leaves the guest.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	REPORT_AT = 0x8000,
	PEER_AT = 0x2e000,  /* real mode code of another processor; its script is a page on */
	ARENA_AT = 0x30000, /* the 64 KiB it can store to */
	HEAP_AT = 0x400000, /* below lies this program */
	TEXT_BYTES = 120,
	PAGE = 4096,
};
#define REPORT_MAGIC UINT32_C(0x6d726562)
#define GIB          (UINT64_C(1) << 30)

enum state { RUNNING, DONE, FAILED };

struct report {
	uint32_t magic;
	uint32_t state;  /* enum state */
	uint32_t steps;  /* how much was tried: an attack that tries nothing is none */
	uint32_t faults; /* exceptions survived */
	uint32_t interrupts;
	uint32_t broken;       /* how often a device said NEEDS_RESET */
	char text[TEXT_BYTES]; /* why it FAILED */
};

static inline struct report *report(void)
{
	return (struct report *)(uintptr_t)REPORT_AT;
}

/* Ends the attack: what should have held did not. */
_Noreturn void fail(const char *why, uint64_t number);
static inline void expect(bool held, const char *why, uint64_t number)
{
	report()->steps++;
	if (!held)
		fail(why, number);
}
_Noreturn void stop(void); /* for ever, interrupts off */

void *memset(void *to, int byte, size_t len);
void *memcpy(void *to, const void *from, size_t len);
bool same(const char *a, const char *b);

/* From boot_params. */
uint64_t ram_low_end(void);  /* below the hole */
uint64_t ram_high_end(void); /* above 4 GiB; 0: there is none */
/* Makes [4 GiB, 5 GiB) reachable as well. */
void map_high(void);

/* start.S: false if fn took an exception. Not to be nested. */
bool attempt(void (*fn)(uint64_t), uint64_t arg);

static inline void pause_cpu(void)
{
	__asm__ volatile("pause" ::: "memory");
}

/* Some time, without a clock: 4000 reads of a port that is not there are exits, and let the
 * monitor run. */
void let_time_pass(unsigned exits);

static inline uint32_t dice(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

/* -- ports and devices' registers; width 1, 2, 4, and 8 for memory --- */

void port_out(uint16_t port, uint32_t value, unsigned width);
uint32_t port_in(uint16_t port, unsigned width);
void store(uint64_t at, uint64_t value, unsigned width);
uint64_t load(uint64_t at, unsigned width);

static inline void store32(uint64_t at, uint32_t v)
{
	*(volatile uint32_t *)at = v;
}

static inline uint32_t load32(uint64_t at)
{
	return *(volatile uint32_t *)at;
}

/* -- another processor ------------------------------------------- */

/* Bytes [off, off + 4) of the arena become `value`, again and again. */
struct peer_store {
	uint32_t off, value;
};
enum { PEER_STORES_MAX = 128 };
/* Starts processor 1 on a list; waits until it stores, which it does until it is stopped. */
void peer_start_on(const struct peer_store *list, unsigned count);
void peer_stop(void);

/* -- the attacks ------------------------------------------------- */

struct attack {
	const char *name;
	void (*run)(void);
};
/* Each ends with an entry without a name. */
extern const struct attack bus_attacks[], queue_attacks[], device_attacks[], cpu_attacks[];
