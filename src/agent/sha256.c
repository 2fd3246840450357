#include "agent/sha256.h"

#include <cpuid.h>
#include <immintrin.h>
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

static inline uint32_t ror(uint32_t v, unsigned n)
{
	return v >> n | v << (32 - n);
}

static inline uint32_t be32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* 6.2.2, step 3 for one t: what the letters mean moves by one from round to round. */
static inline void turn(uint32_t a, uint32_t b, uint32_t c, uint32_t *d, uint32_t e, uint32_t f,
                        uint32_t g, uint32_t *h, uint32_t kw)
{
	uint32_t t1 = *h + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) + ((e & f) ^ (~e & g)) + kw;

	*d += t1;
	*h = t1 + (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
}

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
	for (unsigned i = 0; i < ROUNDS; i += 8) {
		turn(v[0], v[1], v[2], &v[3], v[4], v[5], v[6], &v[7], k[i] + w[i]);
		turn(v[7], v[0], v[1], &v[2], v[3], v[4], v[5], &v[6], k[i + 1] + w[i + 1]);
		turn(v[6], v[7], v[0], &v[1], v[2], v[3], v[4], &v[5], k[i + 2] + w[i + 2]);
		turn(v[5], v[6], v[7], &v[0], v[1], v[2], v[3], &v[4], k[i + 3] + w[i + 3]);
		turn(v[4], v[5], v[6], &v[7], v[0], v[1], v[2], &v[3], k[i + 4] + w[i + 4]);
		turn(v[3], v[4], v[5], &v[6], v[7], v[0], v[1], &v[2], k[i + 5] + w[i + 5]);
		turn(v[2], v[3], v[4], &v[5], v[6], v[7], v[0], &v[1], k[i + 6] + w[i + 6]);
		turn(v[1], v[2], v[3], &v[4], v[5], v[6], v[7], &v[0], k[i + 7] + w[i + 7]);
	}
	for (unsigned i = 0; i < 8; i++)
		state[i] += v[i];
}

static void blocks_plain(uint32_t state[8], const uint8_t *at, size_t count)
{
	for (; count > 0; count--, at += SHA256_BLOCK_BYTES)
		one_block(state, at);
}

/*
 * The same with the processor's own instructions, several times as fast (Intel SDM, SHA256RNDS2):
 * two rounds at once, on state as the halves a b e f and c d g h.
 */
__attribute__((target("sha,sse4.1,ssse3"))) static void blocks_fast(uint32_t state[8],
                                                                    const uint8_t *at, size_t count)
{
	const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
	__m128i abcd = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i_u *)state), 0xb1);
	__m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i_u *)(state + 4)), 0x1b);
	__m128i abef = _mm_alignr_epi8(abcd, efgh, 8);
	__m128i cdgh = _mm_blend_epi16(efgh, abcd, 0xf0);

	for (; count > 0; count--, at += SHA256_BLOCK_BYTES) {
		__m128i old_abef = abef;
		__m128i old_cdgh = cdgh;
		__m128i w[4]; /* the last sixteen words of the schedule */

		for (unsigned i = 0; i < ROUNDS / 4; i++) {
			__m128i *now = &w[i % 4];
			__m128i kw;

			if (i < 4)
				*now = _mm_shuffle_epi8(
					_mm_loadu_si128((const __m128i_u *)(at + 16 * (size_t)i)),
					swap);
			else
				*now = _mm_sha256msg2_epu32(
					_mm_add_epi32(
						_mm_sha256msg1_epu32(*now, w[(i + 1) % 4]),
						_mm_alignr_epi8(w[(i + 3) % 4], w[(i + 2) % 4], 4)),
					w[(i + 3) % 4]);
			kw = _mm_add_epi32(*now,
			                   _mm_loadu_si128((const __m128i_u *)(k + 4 * (size_t)i)));
			cdgh = _mm_sha256rnds2_epu32(cdgh, abef, kw);
			abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(kw, 0x0e));
		}
		abef = _mm_add_epi32(abef, old_abef);
		cdgh = _mm_add_epi32(cdgh, old_cdgh);
	}
	abcd = _mm_shuffle_epi32(abef, 0x1b);
	efgh = _mm_shuffle_epi32(cdgh, 0xb1);
	_mm_storeu_si128((__m128i_u *)state, _mm_blend_epi16(abcd, efgh, 0xf0));
	_mm_storeu_si128((__m128i_u *)(state + 4), _mm_alignr_epi8(efgh, abcd, 8));
}

static bool can_be_fast(void)
{
	unsigned a;
	unsigned b;
	unsigned c;
	unsigned d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSSE3) || !(c & bit_SSE4_1))
		return false;
	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & bit_SHA;
}

void sha256_init_plain(struct sha256 *s)
{
	static const uint32_t start[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
		                           0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };

	memcpy(s->state, start, sizeof(start));
	s->bytes = 0;
	s->blocks = blocks_plain;
}

void sha256_init(struct sha256 *s)
{
	sha256_init_plain(s);
	if (can_be_fast())
		s->blocks = blocks_fast;
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
		s->blocks(s->state, s->block, 1);
	}
	s->blocks(s->state, at, len / SHA256_BLOCK_BYTES);
	at += len - len % SHA256_BLOCK_BYTES;
	len %= SHA256_BLOCK_BYTES;
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
