/*
 * clock: the only reader of the host's clocks and randomness. Everything else takes a number.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

uint64_t clock_mono_ms(void);
uint64_t clock_mono_ns(void);
uint64_t clock_real_ns(void); /* since 1970-01-01 UTC */
/* The same as of the kernel's last tick: what files that change now get as their times. */
uint64_t clock_stamp_ns(void);

/* Until deadline_ms of clock_mono_ms(), as poll(2) wants it: 0 when it is over; -1, for ever, for
 * UINT64_MAX. */
int clock_left_ms(uint64_t deadline_ms);

/* Fills ret from the kernel's generator; it cannot fail once the machine is up (getrandom(2)). */
void random_bytes(void *ret, size_t len);

/*
 * The processor's time stamp counter beside the clock, taken close together. Two of them, some
 * milliseconds apart, tell its frequency. Zeros where there is no such counter.
 */
struct clock_tsc {
	uint64_t ns, ticks;
};

void clock_tsc_take(struct clock_tsc *ret);

/* kHz; 0 when it cannot be told: no counter, or under 5 ms apart. */
uint64_t clock_tsc_khz(const struct clock_tsc *first, const struct clock_tsc *second);
