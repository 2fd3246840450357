/*
 * sum: the Internet checksum (RFC 1071): one's complement addition of 16-bit words.
 *
 * A running sum is a plain number in host order; the order of bytes does not matter until it is
 * finished, and the result is stored as memory (RFC 1071, 2B). Sums of parts may be added.
 */
#pragma once

#include "base/span.h"

#include <sys/uio.h>

/* The sum of s, which begins at an even offset. Under 2^33: two thousand million may be added. */
uint64_t span_sum(struct span s);

/* The sum of several pieces that follow one another, whatever their lengths. */
uint64_t span_sum_iov(const struct iovec *iov, unsigned count);

/* A running sum in 16 bits. A packet with a right checksum in it has 0xffff. */
static inline uint16_t span_sum_fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* What to store, as memory, into the checksum's field, which was 0 while the sum was made. */
static inline uint16_t span_sum_done(uint64_t sum)
{
	return (uint16_t)~span_sum_fold(sum);
}
