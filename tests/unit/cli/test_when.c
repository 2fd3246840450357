#include "cli/when.h"

#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NOW UINT64_C(1700000000000)

static uint64_t parse(const char *text)
{
	struct err e = { 0 };
	uint64_t ms = 1;

	CHECK_OK(when_parse(text, NOW, &ms, &e), &e);
	return ms;
}

TEST(how_long_ago)
{
	CHECK_EQ(parse("10m"), NOW - 600000);
	CHECK_EQ(parse("500ms"), NOW - 500);
	CHECK_EQ(parse("1d"), NOW - 86400000);
	CHECK_EQ(parse("90"), NOW - 90000);
	CHECK_EQ(parse("100000d"), 0); /* from the beginning on */
}

TEST(times_with_a_zone)
{
	CHECK_EQ(parse("2023-11-14T22:13:20Z"), NOW);
	CHECK_EQ(parse("2023-11-14T22:13:20.5Z"), NOW + 500);
	CHECK_EQ(parse("2023-11-14T22:13:20.123456789Z"), NOW + 123);
	CHECK_EQ(parse("2023-11-14T23:13:20+01:00"), NOW);
	CHECK_EQ(parse("2023-11-14T17:43:20-04:30"), NOW);
	CHECK_EQ(parse("2023-11-14T22:13Z"), NOW - 20000);
	CHECK_EQ(parse("2023-11-14Z"), NOW - 80000000);
	CHECK_EQ(parse("1970-01-01T00:00:00Z"), 0);
	CHECK_EQ(parse("2024-02-29T00:00:00Z"), UINT64_C(1709164800000));
}

TEST(times_without_one_are_local)
{
	CHECK_EQ(setenv("TZ", "EET-2", 1), 0); /* two hours before UTC's noon it is noon there */
	tzset();
	CHECK_EQ(parse("2023-11-15T00:13:20"), NOW);
	CHECK_EQ(parse("2023-11-15"), NOW - 800000);
	CHECK_EQ(parse("2023-11-14T22:13:20Z"), NOW);
	CHECK_EQ(unsetenv("TZ"), 0);
	tzset();
}

TEST(what_is_no_time)
{
	static const char *const bad[] = {
		"",
		"x",
		"-5m",
		"yesterday",
		"10 parsecs",
		"2023-11-14T",
		"2023-13-14",
		"2023-11-31",
		"2023-02-29T00:00:00Z",
		"2023-11-14T25:00:00Z",
		"2023-11-14T22:13:20Zebra",
		"2023-11-14T22:13:20+",
		"2023-11-14T22:13:20.Z",
		"2023-11-14T22:13:20 Z",
		"1969-12-31T23:59:59Z",
		" 2023-11-14",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err e = { 0 };
		uint64_t ms = 42;

		if (when_parse(bad[i], NOW, &ms, &e) != -EINVAL || ms != 42)
			test_fail(__FILE__, __LINE__, "'%s' is taken", bad[i]);
		CHECK(strstr(e.text, "use how long ago"));
	}
}

TEST(times_are_printed_in_utc)
{
	char text[64];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	when_put(&b, NOW + 7);
	CHECK_STR(buf_cstr(&b), "2023-11-14T22:13:20.007Z");
	CHECK_EQ(parse(text), NOW + 7);
	buf_reset(&b);
	when_put(&b, UINT64_MAX); /* of a damaged record */
	CHECK(buf_ok(&b));
}

TEST_MAIN()
