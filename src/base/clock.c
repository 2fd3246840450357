#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <sys/random.h>
#include <time.h>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

enum { TSC_TRIES = 20, TSC_APART_NS = 5000000 };

static uint64_t now_ns(clockid_t id)
{
	struct timespec ts;
	int r = clock_gettime(id, &ts);

	assert(r == 0); /* these clocks exist on every kernel we run on */
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

uint64_t clock_mono_ns(void)
{
	return now_ns(CLOCK_MONOTONIC);
}

uint64_t clock_mono_ms(void)
{
	return clock_mono_ns() / 1000000;
}

uint64_t clock_real_ns(void)
{
	return now_ns(CLOCK_REALTIME);
}

uint64_t clock_stamp_ns(void)
{
	return now_ns(CLOCK_REALTIME_COARSE);
}

int clock_left_ms(uint64_t deadline_ms)
{
	uint64_t now = clock_mono_ms();

	if (deadline_ms == UINT64_MAX)
		return -1;
	if (now >= deadline_ms)
		return 0;
	return deadline_ms - now > INT32_MAX ? INT32_MAX : (int)(deadline_ms - now);
}

void random_bytes(void *ret, size_t len)
{
	uint8_t *at = ret;

	while (len > 0) {
		ssize_t n = getrandom(at, len, 0);

		if (n < 0) {
			assert(errno == EINTR);
			continue;
		}
		at += n;
		len -= (size_t)n;
	}
}

/*
 * Of several tries the one with the fewest ticks around the clock's reading: nothing came between.
 */
void clock_tsc_take(struct clock_tsc *ret)
{
	struct clock_tsc got = { 0, 0 };
#if defined(__x86_64__)
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < TSC_TRIES; i++) {
		uint64_t before = __rdtsc();
		uint64_t ns = now_ns(CLOCK_MONOTONIC_RAW);
		uint64_t after = __rdtsc();

		if (after - before >= best)
			continue;
		best = after - before;
		got = (struct clock_tsc){ .ns = ns, .ticks = before + best / 2 };
	}
#endif
	*ret = got;
}

uint64_t clock_tsc_khz(const struct clock_tsc *first, const struct clock_tsc *second)
{
	uint64_t ns = second->ns - first->ns;

	if (first->ticks == 0 || second->ns < first->ns + TSC_APART_NS)
		return 0;
	return (uint64_t)((double)(second->ticks - first->ticks) * 1e6 / (double)ns);
}
