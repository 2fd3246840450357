#include "base/units.h"

#include "test.h"

#include <errno.h>
#include <string.h>

struct row {
	const char *text;
	int r;
	uint64_t value;
};

typedef int parse_fn(const char *text, uint64_t *ret, struct err *e);

static void check_rows(parse_fn *parse, const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t got = 0xa5;
		struct err e = { 0 };
		int r = parse(rows[i].text, &got, &e);

		if (r != rows[i].r)
			test_fail(__FILE__, __LINE__, "'%s' gives %d, want %d", rows[i].text, r,
			          rows[i].r);
		CHECK_EQ(got, r == 0 ? rows[i].value : 0xa5);
		CHECK_EQ(e.code, r);
		if (r < 0)
			CHECK(strstr(e.text, rows[i].text)); /* says what was wrong */
	}
}

#define CHECK_ROWS(parse, rows) check_rows(parse, rows, sizeof(rows) / sizeof(rows[0]))

TEST(sizes)
{
	static const struct row rows[] = {
		{ "0", 0, 0 },
		{ "512", 0, 512 },
		{ "1B", 0, 1 },
		{ "64KiB", 0, 64 << 10 },
		{ "64k", 0, 64 << 10 },
		{ "64KB", 0, 64 << 10 },
		{ "1 MiB", 0, 1 << 20 },
		{ "1.5GiB", 0, 3ULL << 29 },
		{ "0.5K", 0, 512 },
		{ "0.001K", 0, 1 },
		{ "1.0009765625K", 0, 1024 }, /* digits past the third do not count */
		{ "16T", 0, 16ULL << 40 },
		{ "16777215T", 0, 16777215ULL << 40 },
		{ "16777216T", -ERANGE, 0 },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "18446744073709551616", -EINVAL, 0 },
		{ "18446744073709551615K", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ " 1", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "+1", -EINVAL, 0 },
		{ "K", -EINVAL, 0 },
		{ ".5G", -EINVAL, 0 },
		{ "1.G", -EINVAL, 0 },
		{ "1.5.5G", -EINVAL, 0 },
		{ "1GiBs", -EINVAL, 0 },
		{ "1 G iB", -EINVAL, 0 },
		{ "1s", -EINVAL, 0 },
		{ "0x10", -EINVAL, 0 },
		{ "1e3", -EINVAL, 0 },
		{ "many", -EINVAL, 0 },
	};

	CHECK_ROWS(units_parse_size, rows);
}

TEST(durations)
{
	static const struct row rows[] = {
		{ "0", 0, 0 },
		{ "30", 0, 30000 },
		{ "30s", 0, 30000 },
		{ "500ms", 0, 500 },
		{ "1.5s", 0, 1500 },
		{ "0.25", 0, 250 },
		{ "5m", 0, 300000 },
		{ "5min", 0, 300000 },
		{ "2h", 0, 7200000 },
		{ "1d", 0, 86400000 },
		{ "213503982334d", 0, 213503982334ULL * 86400000 },
		{ "213503982335d", -ERANGE, 0 },
		{ "1w", -EINVAL, 0 },
		{ "1h30m", -EINVAL, 0 },
		{ "-5s", -EINVAL, 0 },
		{ "forever", -EINVAL, 0 },
		{ "", -EINVAL, 0 },
	};

	CHECK_ROWS(units_parse_duration, rows);
}

TEST(counts_keep_their_bounds)
{
	struct err e = { 0 };
	uint64_t got = 0xa5;

	CHECK_OK(units_parse_count("1", 1, 32, &got, &e), &e);
	CHECK_EQ(got, 1);
	CHECK_OK(units_parse_count("32", 1, 32, &got, &e), &e);
	CHECK_EQ(got, 32);
	got = 0xa5;
	CHECK_EQ(units_parse_count("0", 1, 32, &got, &e), -EINVAL);
	CHECK_EQ(units_parse_count("33", 1, 32, &got, &e), -EINVAL);
	CHECK_EQ(units_parse_count("10000", 1, 32, &got, &e), -EINVAL);
	CHECK_STR(e.text, "'10000' must be a whole number from 1 to 32");
	CHECK_EQ(units_parse_count("1.5", 1, 32, &got, &e), -EINVAL);
	CHECK_EQ(units_parse_count("", 0, 32, &got, &e), -EINVAL);
	CHECK_EQ(got, 0xa5);
}

TEST(people_read_sizes)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} rows[] = {
		{ 0, "0 bytes" },          { 1023, "1023 bytes" },
		{ 1024, "1 KiB" },         { 1536, "1.5 KiB" },
		{ 1048575, "1.0 MiB" },    { 512ULL << 20, "512 MiB" },
		{ 3ULL << 29, "1.5 GiB" }, { 4096ULL << 40, "4096 TiB" },
	};
	char room[64];
	struct buf b;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		buf_init(&b, room, sizeof(room));
		units_put_size(&b, rows[i].bytes);
		CHECK_SPAN(buf_span(&b), rows[i].text);
	}
}

TEST(people_read_durations)
{
	static const struct {
		uint64_t ms;
		const char *text;
	} rows[] = {
		{ 0, "0 ms" },
		{ 999, "999 ms" },
		{ 1000, "1.0 s" },
		{ 2500, "2.5 s" },
		{ 59949, "59.9 s" },
		{ 59999, "1 min 0 s" },
		{ 60000, "1 min 0 s" },
		{ 245000, "4 min 5 s" },
		{ 3600000, "1 h 0 min" },
		{ 5400000, "1 h 30 min" },
	};
	char room[64];
	struct buf b;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		buf_init(&b, room, sizeof(room));
		units_put_duration(&b, rows[i].ms);
		CHECK_SPAN(buf_span(&b), rows[i].text);
	}
}

TEST_MAIN()
