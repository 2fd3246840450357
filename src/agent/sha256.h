/*
 * sha256: of a stream, for what leaves the guest; the agent links no library that has it.
 *
 * Source    FIPS 180-4
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { SHA256_BYTES = 32, SHA256_BLOCK_BYTES = 64 };

struct sha256 {
	uint32_t state[8];
	uint64_t bytes;
	uint8_t block[SHA256_BLOCK_BYTES]; /* what is not yet a whole one */
	void (*blocks)(uint32_t state[8], const uint8_t *at, size_t count);
};

void sha256_init(struct sha256 *s);
/* The same without instructions that not every processor has: for the tests. */
void sha256_init_plain(struct sha256 *s);

void sha256_add(struct sha256 *s, const void *data, size_t len);

/* Of all that was added. s is as before, and more may be added. */
void sha256_sum(const struct sha256 *s, uint8_t ret[SHA256_BYTES]);
