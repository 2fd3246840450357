#include "net/sum.h"

#include <string.h>

/*
 * Addition without carries: each 64-bit word goes as two halves into two 64-bit lanes, which
 * cannot overflow for any length that exists here. The compiler turns the lanes into whatever
 * vectors the processor has; there is no chain of carries for one addition to wait on another.
 */
typedef uint64_t lanes __attribute__((vector_size(32)));

enum { STEP_BYTES = 2 * sizeof(lanes) };

static uint64_t fold32(uint64_t sum)
{
	return (sum & 0xffffffff) + (sum >> 32);
}

uint64_t span_sum(struct span s)
{
	const lanes low_half = { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff };
	lanes low = { 0 };
	lanes high = { 0 };
	uint64_t sum;

	for (; s.len >= STEP_BYTES; s.at += STEP_BYTES, s.len -= STEP_BYTES) {
		lanes a;
		lanes b;

		memcpy(&a, s.at, sizeof(a));
		memcpy(&b, s.at + sizeof(a), sizeof(b));
		low += (a & low_half) + (b & low_half);
		high += (a >> 32) + (b >> 32);
	}
	low += high;
	sum = fold32(low[0]) + fold32(low[1]) + fold32(low[2]) + fold32(low[3]);

	for (; s.len >= 4; s.at += 4, s.len -= 4) {
		uint32_t word;

		memcpy(&word, s.at, sizeof(word));
		sum += word;
	}
	if (s.len > 0) {
		uint8_t rest[4] = { 0 };
		uint32_t word;

		memcpy(rest, s.at, s.len);
		memcpy(&word, rest, sizeof(word));
		sum += word;
	}
	return fold32(sum);
}

uint64_t span_sum_iov(const struct iovec *iov, unsigned count)
{
	uint64_t sum = 0;
	bool odd = false;

	for (unsigned i = 0; i < count; i++) {
		uint16_t part = span_sum_fold(span_sum(span_of(iov[i].iov_base, iov[i].iov_len)));

		/* a piece that begins at an odd byte has its two columns exchanged */
		sum += odd ? (uint16_t)(part << 8 | part >> 8) : part;
		odd ^= iov[i].iov_len & 1;
	}
	return sum;
}
