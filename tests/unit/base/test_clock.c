#include "base/clock.h"

#include "test.h"

#include <string.h>
#include <time.h>

TEST(monotonic_does_not_go_back)
{
	uint64_t last = clock_mono_ns();

	for (int i = 0; i < 1000; i++) {
		uint64_t now = clock_mono_ns();

		CHECK(now >= last);
		last = now;
	}
	CHECK(clock_mono_ms() >= last / 1000000);
}

TEST(real_time_is_this_century)
{
	uint64_t now_s = clock_real_ns() / 1000000000;
	uint64_t libc_s = (uint64_t)time(NULL);

	CHECK(now_s >= libc_s - 2 && now_s <= libc_s + 2);
}

TEST(stamps_are_of_the_last_tick)
{
	uint64_t before = clock_real_ns();
	uint64_t stamp = clock_stamp_ns();

	CHECK(stamp <= clock_real_ns());
	CHECK(stamp + 1000000000 > before); /* a tick is 10 ms at most */
}

TEST(what_is_left_until_a_deadline)
{
	uint64_t now = clock_mono_ms();
	int left = clock_left_ms(now + 100000);

	CHECK(left > 0 && left <= 100000);
	CHECK_EQ(clock_left_ms(UINT64_MAX), -1);
	CHECK_EQ(clock_left_ms(UINT64_MAX - 1), INT32_MAX);
	CHECK_EQ(clock_left_ms(now), 0);
	CHECK_EQ(clock_left_ms(0), 0);
}

TEST(random_bytes_fill_all_and_differ)
{
	uint8_t a[600]; /* above 256 getrandom may answer in parts */
	uint8_t b[600];
	unsigned zeros = 0;

	memset(a, 0, sizeof(a));
	memset(b, 0, sizeof(b));
	random_bytes(a, sizeof(a));
	random_bytes(b, sizeof(b));
	CHECK(memcmp(a, b, sizeof(a)) != 0);
	for (size_t i = 0; i < sizeof(a); i++)
		zeros += a[i] == 0;
	CHECK(zeros < 60); /* about 2 are likely; 60 are not, in the life of the universe */
	random_bytes(a, 0);
}

TEST(the_time_stamp_counter_has_one_frequency)
{
	const struct timespec apart = { .tv_nsec = 20000000 };
	struct clock_tsc at[3];
	uint64_t first;
	uint64_t second;

	for (size_t i = 0; i < 3; i++) {
		clock_tsc_take(&at[i]);
		(void)nanosleep(&apart, NULL);
	}
	CHECK_EQ(clock_tsc_khz(&at[0], &at[0]), 0);
	first = clock_tsc_khz(&at[0], &at[1]);
	second = clock_tsc_khz(&at[1], &at[2]);
	if (first == 0)
		TEST_SKIP("this processor has no time stamp counter");
	CHECK(first > 100000 && first < 20000000); /* 0.1 to 20 GHz */
	CHECK(first > second - second / 100 && first < second + second / 100);
}

TEST_MAIN()
