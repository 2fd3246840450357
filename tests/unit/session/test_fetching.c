#include "session/fetching.h"
#include "test.h"

#include <string.h>

#define MIB (UINT64_C(1) << 20)

static const char *said(uint64_t done, uint64_t expect, uint64_t ms)
{
	static char storage[96];
	struct buf b;

	buf_init(&b, storage, sizeof(storage));
	fetching_put(&b, done, expect, ms);
	CHECK(buf_ok(&b));
	return buf_cstr(&b);
}

TEST(l4_before_the_first_byte_size_and_time)
{
	CHECK_STR(said(0, 50 * 1024 * MIB, 0), "50 GiB, about 6 min");
	CHECK_STR(said(0, 300 * MIB, 0), "300 MiB, about 3 s");
}

TEST(l4_then_as_it_goes)
{
	CHECK_STR(said(100 * MIB, 300 * MIB, 10000), "100 MiB of 300 MiB, about 21 s more");
	/* too early to be measured */
	CHECK_STR(said(MIB, 300 * MIB, 500), "1 MiB of 300 MiB, about 3 s more");
	/* one that stalls */
	CHECK_STR(said(1, 1 + 120 * MIB, 100000), "1 bytes of 120.0 MiB, about 2098 min more");
}

TEST(a_size_that_is_not_known_or_a_lie)
{
	CHECK_STR(said(0, 0, 0), "0 bytes");
	CHECK_STR(said(3 * MIB, 0, 5000), "3 MiB");
	CHECK_STR(said(3 * MIB, MIB, 5000), "3 MiB");
}

TEST_MAIN()
