#include "agent/sha256.h"

#include <stdbool.h>
#include <string.h>

enum { ROUNDS = 64, LENGTH_BYTES = 8 };

/* FIPS 180-4, 4.2.2: the fractional parts of the cube roots of the first 64 primes. */
static const uint32_t k[ROUNDS] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
	0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
	0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
	0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
	0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
	0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
	0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
	0xc67178f2
};

void sha256_init(struct sha256 *s)
{
	static const uint32_t start[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
		                           0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };

	memcpy(s->state, start, sizeof(start));
	s->bytes = 0;
}

static inline uint32_t ror(uint32_t v, unsigned n)
{
	return v >> n | v << (32 - n);
}

static inline uint32_t be32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* 6.2.2. v holds a to h. */
static void one_block(uint32_t state[8], const uint8_t *at)
{
	uint32_t w[ROUNDS];
	uint32_t v[8];

	for (unsigned i = 0; i < 16; i++)
		w[i] = be32(at + 4 * (size_t)i);
	for (unsigned i = 16; i < ROUNDS; i++)
		w[i] = w[i - 16] + w[i - 7] +
		       (ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ w[i - 15] >> 3) +
		       (ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ w[i - 2] >> 10);
	memcpy(v, state, sizeof(v));
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint32_t sum1 = ror(v[4], 6) ^ ror(v[4], 11) ^ ror(v[4], 25);
		uint32_t sum0 = ror(v[0], 2) ^ ror(v[0], 13) ^ ror(v[0], 22);
		uint32_t t1 = v[7] + sum1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i];
		uint32_t t2 = sum0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));

		memmove(v + 1, v, 7 * sizeof(v[0]));
		v[4] += t1;
		v[0] = t1 + t2;
	}
	for (unsigned i = 0; i < 8; i++)
		state[i] += v[i];
}

void sha256_add(struct sha256 *s, const void *data, size_t len)
{
	size_t have = s->bytes % SHA256_BLOCK_BYTES;
	const uint8_t *at = data;

	s->bytes += len;
	if (have > 0) {
		size_t n = SHA256_BLOCK_BYTES - have;

		n = n < len ? n : len;
		memcpy(s->block + have, at, n);
		at += n;
		len -= n;
		if (have + n < SHA256_BLOCK_BYTES)
			return;
		one_block(s->state, s->block);
	}
	for (; len >= SHA256_BLOCK_BYTES; len -= SHA256_BLOCK_BYTES) {
		one_block(s->state, at);
		at += SHA256_BLOCK_BYTES;
	}
	if (len > 0)
		memcpy(s->block, at, len);
}

void sha256_sum(const struct sha256 *s, uint8_t ret[SHA256_BYTES])
{
	static const uint8_t pad[SHA256_BLOCK_BYTES] = { 0x80 };
	struct sha256 got = *s;
	uint8_t length[LENGTH_BYTES];
	size_t have = s->bytes % SHA256_BLOCK_BYTES;
	size_t room = SHA256_BLOCK_BYTES - LENGTH_BYTES;

	for (unsigned i = 0; i < LENGTH_BYTES; i++)
		length[i] = (uint8_t)(s->bytes * 8 >> (56 - 8 * i));
	sha256_add(&got, pad, have < room ? room - have : room + SHA256_BLOCK_BYTES - have);
	sha256_add(&got, length, sizeof(length));
	for (unsigned i = 0; i < SHA256_BYTES; i++)
		ret[i] = (uint8_t)(got.state[i / 4] >> (24 - 8 * (i % 4)));
}
