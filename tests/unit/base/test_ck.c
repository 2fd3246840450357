#include "base/ck.h"

#include "test.h"

TEST(add_is_exact_or_refused)
{
	uint64_t got = 7;

	CHECK(ck_add(2, 3, &got));
	CHECK_EQ(got, 5);
	CHECK(ck_add(UINT64_MAX, 0, &got));
	CHECK_EQ(got, UINT64_MAX);
	got = 7;
	CHECK(!ck_add(UINT64_MAX, 1, &got));
	CHECK(!ck_add(UINT64_MAX / 2 + 1, UINT64_MAX / 2 + 1, &got));
	CHECK_EQ(got, 7);
}

TEST(sub_never_wraps)
{
	uint64_t got = 7;

	CHECK(ck_sub(3, 3, &got));
	CHECK_EQ(got, 0);
	CHECK(ck_sub(UINT64_MAX, 1, &got));
	CHECK_EQ(got, UINT64_MAX - 1);
	got = 7;
	CHECK(!ck_sub(2, 3, &got));
	CHECK(!ck_sub(0, UINT64_MAX, &got));
	CHECK_EQ(got, 7);
}

TEST(mul_is_exact_or_refused)
{
	uint64_t got = 7;

	CHECK(ck_mul(1ULL << 32, (1ULL << 32) - 1, &got));
	CHECK_EQ(got, 0xffffffff00000000ULL);
	CHECK(ck_mul(0, UINT64_MAX, &got));
	CHECK_EQ(got, 0);
	got = 7;
	CHECK(!ck_mul(1ULL << 32, 1ULL << 32, &got));
	CHECK_EQ(got, 7);
}

TEST(range_at_every_edge)
{
	CHECK(ck_range(0, 0, 0));
	CHECK(ck_range(10, 0, 10));
	CHECK(ck_range(0, 10, 10));
	CHECK(ck_range(9, 1, 10));
	CHECK(!ck_range(10, 1, 10));
	CHECK(!ck_range(11, 0, 10));
	CHECK(!ck_range(UINT64_MAX, 2, 10)); /* off + len would wrap to 1 */
	CHECK(!ck_range(2, UINT64_MAX, 10));
	CHECK(ck_range(0, UINT64_MAX, UINT64_MAX));
}

TEST_MAIN()
