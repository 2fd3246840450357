#include "state/result.h"

#include "guardpage.h"
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static char storage[RESULT_JSON_MAX];

static struct result full(void)
{
	struct result r = {
		.id = "0123456789ab",
		.name = "web",
		.image = "debian:12",
		.engine = "qemu",
		.level = LEVEL_EMULATED,
		.reason = RESULT_SIGNALED,
		.start = RESULT_START_RESTORED,
		.limits_hit = RESULT_HIT_MEMORY | RESULT_HIT_DISK,
		.exit_code = 137,
		.signal = 9,
		.created_ns = UINT64_C(1790000000123000000),
		.ended_ns = UINT64_C(1790000001004000000),
		.start_ms = 11,
		.wall_ms = 12,
		.user_us = 13,
		.sys_us = 14,
		.maxrss_bytes = 15,
		.host_cpu_ms = 16,
		.host_memory_peak_bytes = 17,
		.output_bytes = 18,
		.message = "killed: it used more than its 512 MiB\nof \"memory\" \\ \x01",
	};

	return r;
}

static struct span put(const struct result *r)
{
	struct buf out;

	buf_init(&out, storage, sizeof(storage));
	result_put_json(&out, r);
	CHECK(buf_ok(&out));
	return buf_span(&out);
}

static void check_same(const struct result *a, const struct result *b)
{
	CHECK_STR(a->id, b->id);
	CHECK_STR(a->name, b->name);
	CHECK_STR(a->image, b->image);
	CHECK_STR(a->engine, b->engine);
	CHECK_EQ(a->level, b->level);
	CHECK_EQ(a->reason, b->reason);
	CHECK_EQ(a->start, b->start);
	CHECK_EQ(a->limits_hit, b->limits_hit);
	CHECK_EQ(a->exit_code, b->exit_code);
	CHECK_EQ(a->signal, b->signal);
	CHECK_EQ(a->created_ns, b->created_ns);
	CHECK_EQ(a->ended_ns, b->ended_ns);
	CHECK_EQ(a->start_ms, b->start_ms);
	CHECK_EQ(a->wall_ms, b->wall_ms);
	CHECK_EQ(a->user_us, b->user_us);
	CHECK_EQ(a->sys_us, b->sys_us);
	CHECK_EQ(a->maxrss_bytes, b->maxrss_bytes);
	CHECK_EQ(a->host_cpu_ms, b->host_cpu_ms);
	CHECK_EQ(a->host_memory_peak_bytes, b->host_memory_peak_bytes);
	CHECK_EQ(a->output_bytes, b->output_bytes);
	CHECK_STR(a->message, b->message);
}

static void check_round_trip(const struct result *r)
{
	struct err e = { 0 };
	struct result got;
	struct span json = put(r);

	CHECK_OK(result_parse_json(guard_span(json.at, json.len), &got, &e), &e);
	check_same(r, &got);
}

TEST(every_field_makes_the_round_trip)
{
	struct result r = full();

	check_round_trip(&r);
	r = (struct result){ .id = "0123456789ab" };
	check_round_trip(&r);
	for (uint8_t i = 1; i < RESULT_REASON_COUNT; i++) {
		r.reason = i;
		r.exit_code = i;
		check_round_trip(&r);
	}
	for (uint8_t i = 0; i < 64; i++) {
		r.limits_hit = i;
		r.start = i % 4;
		r.level = i % 4;
		check_round_trip(&r);
	}
	r.created_ns = UINT64_C(18446744072999000000); /* in 2554 */
	r.ended_ns = 1000000;
	check_round_trip(&r);
}

/* The text that scripts read: changing it is a breaking change. */
TEST(the_json_is_stable)
{
	struct result r = full();

	r.message[6] = '\0';
	CHECK_SPAN(put(&r), "{\"id\":\"0123456789ab\",\"name\":\"web\",\"image\":\"debian:12\","
	                    "\"engine\":\"qemu\",\"level\":\"emulated\",\"reason\":\"signaled\","
	                    "\"exit_code\":137,\"signal\":9,\"start\":\"restored\","
	                    "\"limits_hit\":[\"memory\",\"disk\"],"
	                    "\"created\":\"2026-09-21T14:13:20.123Z\","
	                    "\"ended\":\"2026-09-21T14:13:21.004Z\",\"start_ms\":11,\"wall_ms\":12,"
	                    "\"guest\":{\"user_us\":13,\"sys_us\":14,\"maxrss_bytes\":15},"
	                    "\"host\":{\"cpu_ms\":16,\"memory_peak_bytes\":17},"
	                    "\"output_bytes\":18,\"message\":\"killed\"}");
	r = (struct result){ .id = "0123456789ab" };
	CHECK_SPAN(put(&r), "{\"id\":\"0123456789ab\",\"name\":null,\"image\":null,\"engine\":null,"
	                    "\"level\":null,\"reason\":null,\"exit_code\":null,\"signal\":null,"
	                    "\"start\":null,\"limits_hit\":[],\"created\":null,\"ended\":null,"
	                    "\"start_ms\":0,\"wall_ms\":0,"
	                    "\"guest\":{\"user_us\":0,\"sys_us\":0,\"maxrss_bytes\":0},"
	                    "\"host\":{\"cpu_ms\":0,\"memory_peak_bytes\":0},"
	                    "\"output_bytes\":0,\"message\":null}");
}

TEST(every_reason_has_its_own_name)
{
	for (uint8_t i = 0; i < RESULT_REASON_COUNT; i++)
		for (uint8_t k = 0; k < i; k++)
			CHECK(strcmp(result_reason_name(i), result_reason_name(k)) != 0);
	CHECK_STR(result_reason_name(RESULT_REASON_COUNT), "unknown");
	CHECK_STR(result_reason_name(255), "unknown");
}

/* The guest names its own use, and may name anything. */
TEST(numbers_beyond_json_are_cut)
{
	struct result r = full();
	struct result got;
	struct err e = { 0 };

	r.maxrss_bytes = UINT64_MAX;
	CHECK_OK(result_parse_json(put(&r), &got, &e), &e);
	CHECK_EQ(got.maxrss_bytes, INT64_MAX);
}

TEST(the_longest_texts_fit_and_come_back_cut)
{
	struct result r = full();
	struct result got;
	struct err e = { 0 };

	memset(r.image, 0xff, sizeof(r.image) - 1); /* no UTF-8: each byte becomes U+FFFD */
	memset(r.message, 0x01, sizeof(r.message) - 1);
	CHECK_OK(result_parse_json(put(&r), &got, &e), &e);
	CHECK_EQ(strlen(got.image), 255);
	CHECK(memcmp(got.image + 252, "\xef\xbf\xbd", 3) == 0);
	CHECK_STR(got.message, r.message);
	/* 3 bytes a character and 511 of room: the last one is left out whole */
	memset(r.message, 0xff, sizeof(r.message) - 1);
	CHECK_OK(result_parse_json(put(&r), &got, &e), &e);
	CHECK_EQ(strlen(got.message), 510);
}

static void refuse(const char *json)
{
	struct err e = { 0 };
	struct result got;
	size_t len = strlen(json);

	memset(&got, 0xa5, sizeof(got));
	if (result_parse_json(guard_span(json, len), &got, &e) != -EBADMSG)
		test_fail(__FILE__, __LINE__, "accepted: %s", json);
	CHECK_EQ((uint8_t)got.id[0], 0xa5);
	CHECK(e.text[0]);
}

#define ID "{\"id\":\"0123456789ab\","

TEST(types_and_ranges_are_strict)
{
	static const char *const bad[] = {
		"",
		"{",
		"[]",
		"null",
		"{}",
		"{\"id\":null}",
		"{\"id\":\"0123\"}",
		"{\"id\":1}",
		"{\"id\":\"0123456789abc\"}",
		ID "\"name\":\"a/b\"}",
		ID "\"name\":1}",
		ID "\"engine\":\"xen\"}",
		ID "\"level\":\"\"}",
		ID "\"level\":2}",
		ID "\"reason\":\"running\"}",
		ID "\"reason\":\"bored\"}",
		ID "\"start\":\"hot\"}",
		ID "\"limits_hit\":\"time\"}",
		ID "\"limits_hit\":[\"x\"]}",
		ID "\"limits_hit\":[1]}",
		ID
		"\"limits_hit\":[\"time\",\"time\",\"time\",\"time\",\"time\",\"time\",\"time\"]}",
		ID "\"exit_code\":-1}",
		ID "\"exit_code\":256}",
		ID "\"exit_code\":1.0}",
		ID "\"exit_code\":\"1\"}",
		ID "\"signal\":65}",
		ID "\"wall_ms\":-1}",
		ID "\"wall_ms\":1e3}",
		ID "\"wall_ms\":9223372036854775808}",
		ID "\"guest\":[]}",
		ID "\"guest\":{\"user_us\":\"x\"}}",
		ID "\"host\":null}",
		ID "\"message\":[]}",
		ID "\"message\":\"\\u0000\"}",
		ID "\"signal\":1,\"signal\":2}",
		ID "\"wall_ms\":1} x",
		ID "\"message\":\"\xff\"}",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		refuse(bad[i]);
}

static int parse_time(const char *text, uint64_t *ret)
{
	char json[128];
	struct result got;
	int r;

	(void)snprintf(json, sizeof(json), ID "\"created\":\"%s\"}", text);
	r = result_parse_json(span_str(json), &got, NULL);
	if (r == 0)
		*ret = got.created_ns;
	return r;
}

TEST(times_are_strict)
{
	static const char *const bad[] = {
		"2026-09-21",
		"2026-09-21T14:13:20Z",
		"2026-09-21T14:13:20.123",
		"x",
		"2026-09-21T14:13:20.123z",
		"2026-09-21t14:13:20.123Z",
		"2026-09-21T14:13:20.1234Z",
		"2026-13-21T14:13:20.123Z",
		"2026-00-21T14:13:20.123Z",
		"2026-02-29T14:13:20.123Z",
		"2026-04-31T14:13:20.123Z",
		"2026-04-00T14:13:20.123Z",
		"2026-04-01T24:00:00.000Z",
		"2026-04-01T23:60:00.000Z",
		"2026-04-01T23:00:60.000Z",
		"1969-12-31T23:59:59.999Z",
		"2555-01-01T00:00:00.000Z",
		"2026-09-21T14:13:20.123Z ",
		"+026-09-21T14:13:20.123Z",
	};
	uint64_t ns = 0;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (parse_time(bad[i], &ns) != -EBADMSG)
			test_fail(__FILE__, __LINE__, "accepted: %s", bad[i]);
	CHECK_EQ(parse_time("2028-02-29T00:00:00.001Z", &ns), 0);
	CHECK_EQ(ns, 1835395200001000000LL);
}

TEST(older_and_newer_writers_are_read)
{
	struct err e = { 0 };
	struct result got;

	CHECK_OK(
		result_parse_json(span_str(ID "\"new_key\":{\"x\":[]},\"signal\":null}"), &got, &e),
		&e);
	CHECK_STR(got.id, "0123456789ab");
	CHECK_EQ(got.signal, 0);
	CHECK(!got.engine);
}

TEST(no_prefix_is_a_result)
{
	struct result r = full();
	struct span json = put(&r);
	struct result got;

	for (size_t len = 0; len < json.len; len++) {
		uint8_t *copy = guard_copy(json.at, len);

		CHECK_EQ(result_parse_json(span_of(copy, len), &got, NULL), -EBADMSG);
		guard_free(copy, len);
	}
}

TEST(too_long_is_refused_unread)
{
	static char big[RESULT_JSON_MAX + 1];
	struct result got;

	memset(big, '[', sizeof(big));
	CHECK_EQ(result_parse_json(span_of(big, sizeof(big)), &got, NULL), -EBADMSG);
	CHECK_EQ(result_parse_json(span_of(big, sizeof(big) - 1), &got, NULL), -EBADMSG);
}

TEST_MAIN()
