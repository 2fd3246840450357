#include "test.h"

#include "base/span.h"
#include "vmm/mptable.h"

static uint8_t sum(const uint8_t *at, size_t len)
{
	uint8_t s = 0;

	for (size_t i = 0; i < len; i++)
		s = (uint8_t)(s + at[i]);
	return s;
}

TEST(sums_are_zero_for_every_count)
{
	for (uint32_t cpus = 1; cpus <= MPTABLE_CPUS_MAX; cpus++) {
		uint8_t t[MPTABLE_BYTES_MAX];
		uint32_t len = mptable_make(cpus, t);

		CHECK(len <= MPTABLE_BYTES_MAX);
		CHECK_EQ(sum(t, 16), 0);
		CHECK_EQ(sum(t + 16, len - 16), 0);
		CHECK_EQ(t[16 + 4] | t[16 + 5] << 8, (int)len - 16);
	}
	_Static_assert(MPTABLE_AT + MPTABLE_BYTES_MAX <= 0xa0000, "below video memory");
}

TEST(entries_are_those_of_the_machine)
{
	uint8_t t[MPTABLE_BYTES_MAX];
	uint32_t len = mptable_make(3, t);
	struct span s = span_of(t, len);
	struct span part;
	uint32_t at;
	unsigned lines = 0;

	CHECK(take_span(&s, 4, &part));
	CHECK_SPAN(part, "_MP_");
	CHECK(take_le32(&s, &at));
	CHECK_EQ(at, MPTABLE_AT + 16);
	CHECK(take_span(&s, 8, &part));
	CHECK(take_span(&s, 4, &part));
	CHECK_SPAN(part, "PCMP");
	CHECK(take_span(&s, 40, &part));
	CHECK_EQ(t[16 + 34], 3 + 2 + 24 + 2);
	for (unsigned i = 0; i < 3; i++) {
		CHECK(take_span(&s, 20, &part));
		CHECK_EQ(part.at[0], 0);
		CHECK_EQ(part.at[1], i);
		CHECK_EQ(part.at[3], i == 0 ? 3 : 1);
	}
	CHECK(take_span(&s, 8, &part));
	CHECK_MEM(part, span_of("\x01\x00ISA   ", 8));
	CHECK(take_span(&s, 8, &part));
	CHECK_MEM(part, span_of("\x02\x03\x11\x01\x00\x00\xc0\xfe", 8)); /* its own number */
	for (; lines < MPTABLE_LINES; lines++) {
		uint8_t want[] = { 3, 0, 5, 0, 0, (uint8_t)lines, 3, (uint8_t)lines };

		CHECK(take_span(&s, 8, &part));
		CHECK_MEM(part, span_of(want, sizeof(want)));
	}
	CHECK(take_span(&s, 8, &part));
	CHECK_MEM(part, span_of("\x04\x03\x00\x00\x00\x00\xff\x00", 8));
	CHECK(take_span(&s, 8, &part));
	CHECK_MEM(part, span_of("\x04\x01\x00\x00\x00\x00\xff\x01", 8));
	CHECK_EQ(s.len, 0);
}

TEST_MAIN()
