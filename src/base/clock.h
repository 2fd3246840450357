/*
 * clock: the only reader of the host's clocks and randomness. Everything else takes a number.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

uint64_t clock_mono_ms(void);
uint64_t clock_mono_ns(void);
uint64_t clock_real_ns(void); /* since 1970-01-01 UTC */

/* Fills ret from the kernel's generator; it cannot fail once the machine is up (getrandom(2)). */
void random_bytes(void *ret, size_t len);
