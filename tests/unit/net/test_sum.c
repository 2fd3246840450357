#include "frames.h"
#include "guardpage.h"
#include "net/siphash.h"
#include "net/sum.h"
#include "test.h"

enum { BYTES = 700 };

static void fill(uint8_t *at, size_t len, uint32_t seed)
{
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1103515245 + 12345;
		at[i] = (uint8_t)(seed >> 16);
	}
}

/* As the checksum's field would be stored, read as a number. */
static uint16_t done(struct span s)
{
	uint8_t at[2];

	put_sum(at, span_sum_done(span_sum(s)));
	return (uint16_t)(at[0] << 8 | at[1]);
}

TEST(sum_of_every_length)
{
	uint8_t data[BYTES];

	fill(data, sizeof(data), 1);
	for (size_t len = 0; len <= BYTES; len++) {
		uint8_t *at = guard_copy(data, len);

		CHECK_EQ(done(span_of(at, len)), (uint16_t)~slow_sum(data, len, 0));
		guard_free(at, len);
	}
}

TEST(sum_of_ones_and_zeros)
{
	static uint8_t data[65536];

	CHECK_EQ(span_sum_fold(span_sum(span_of(data, sizeof(data)))), 0);
	memset(data, 0xff, sizeof(data));
	CHECK_EQ(span_sum_fold(span_sum(span_of(data, sizeof(data)))), 0xffff);
}

TEST(sum_of_pieces_at_odd_offsets)
{
	uint8_t data[BYTES];

	fill(data, sizeof(data), 2);
	for (size_t a = 0; a < 70; a++) {
		for (size_t b = a; b < BYTES; b += 13) {
			struct iovec iov[3] = {
				{ data, a },
				{ data + a, b - a },
				{ data + b, BYTES - b },
			};

			CHECK_EQ(span_sum_fold(span_sum_iov(iov, 3)),
			         span_sum_fold(span_sum(span_of(data, BYTES))));
		}
	}
}

TEST(sum_of_rfc1071)
{
	static const uint8_t data[] = { 0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7 };

	CHECK_EQ(done(span_of(data, sizeof(data))), (uint16_t)~0xddf2);
}

TEST(siphash_of_its_paper)
{
	struct siphash_key key;
	uint8_t in[15];

	for (uint8_t i = 0; i < 16; i++)
		key.at[i] = i;
	for (uint8_t i = 0; i < 15; i++)
		in[i] = i;
	CHECK(siphash(&key, span_of(in, sizeof(in))) == 0xa129ca6149be45e5);
}

TEST_MAIN()
