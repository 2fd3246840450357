/*
 * bucket: a token bucket. Pure; tokens are counted in thousandths, so that a millisecond of a small
 * rate is not lost.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { BUCKET_GAP_MAX_MS = 60000 }; /* a longer silence fills no more than this */

struct bucket {
	uint64_t rate;  /* tokens a second; 0: no limit */
	uint64_t burst; /* the most there is at once */
	uint64_t milli; /* there now */
	uint64_t at_ms;
};

#define BUCKET_RATE_MAX (UINT64_C(1) << 40)

static inline void bucket_init(struct bucket *b, uint64_t rate, uint64_t burst, uint64_t now_ms)
{
	*b = (struct bucket){
		.rate = rate < BUCKET_RATE_MAX ? rate : BUCKET_RATE_MAX,
		.burst = burst < BUCKET_RATE_MAX ? burst : BUCKET_RATE_MAX,
		.at_ms = now_ms,
	};
	b->milli = b->burst * 1000;
}

/* How many there are. */
static inline uint64_t bucket_level(struct bucket *b, uint64_t now_ms)
{
	uint64_t gap = now_ms > b->at_ms ? now_ms - b->at_ms : 0;

	if (b->rate == 0)
		return UINT64_MAX;
	b->at_ms = now_ms;
	b->milli += b->rate * (gap < BUCKET_GAP_MAX_MS ? gap : BUCKET_GAP_MAX_MS);
	if (b->milli > b->burst * 1000)
		b->milli = b->burst * 1000;
	return b->milli / 1000;
}

/* Takes n, or none. */
static inline bool bucket_take(struct bucket *b, uint64_t n, uint64_t now_ms)
{
	if (bucket_level(b, now_ms) < n)
		return false;
	if (b->rate != 0)
		b->milli -= n * 1000;
	return true;
}

/* Another rate for what comes; what is there stays, but for what is over the new burst. */
static inline void bucket_change(struct bucket *b, uint64_t rate, uint64_t burst, uint64_t now_ms)
{
	bool was_none = b->rate == 0;
	uint64_t milli;

	(void)bucket_level(b, now_ms);
	milli = b->milli;
	bucket_init(b, rate, burst, now_ms);
	if (!was_none && milli < b->milli)
		b->milli = milli;
}
