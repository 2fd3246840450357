/*
 * Prints the frequency of this machine's time stamp counter in kHz, as tsc_early_khz= wants it.
 * A software CPU hands its guest the host's counter, and the guest has nothing sound to measure it
 * with on a busy host.
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

enum { MEASURE_MS = 50, TRIES = 20 };

/* A pair taken close together: of several tries the one with the fewest ticks in between. */
static void pair(uint64_t *ret_ns, uint64_t *ret_tsc)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < TRIES; i++) {
		struct timespec t;
		uint64_t before = __rdtsc();
		uint64_t after;

		clock_gettime(CLOCK_MONOTONIC_RAW, &t);
		after = __rdtsc();
		if (after - before >= best)
			continue;
		best = after - before;
		*ret_tsc = before + best / 2;
		*ret_ns = (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
	}
}

int main(void)
{
	const struct timespec wait = { .tv_nsec = MEASURE_MS * 1000000L };
	uint64_t ns0, ns1, tsc0, tsc1;

	pair(&ns0, &tsc0);
	nanosleep(&wait, NULL);
	pair(&ns1, &tsc1);
	printf("%llu\n", (unsigned long long)((tsc1 - tsc0) * 1000000U / (ns1 - ns0)));
	return 0;
}
