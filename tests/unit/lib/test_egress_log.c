#include "lib/egress_log.h"

#include "base/fdio.h"
#include "policy/policy.h"
#include "test.h"

#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

static const struct egress_record full = {
	.event = EGRESS_EVENT_REFUSED,
	.layer = EGRESS_LAYER_HTTP,
	.reason = POLICY_PATH,
	.flags = EGRESS_RECORD_INSPECTED,
	.generation = 3,
	.rule = 1,
	.port = 443,
	.status = 403,
	.family = 6,
	.addr = { 0x20, 0x01, 0x0d, 0xb8, [15] = 1 },
	.flow = 77,
	.bytes_up = 1000,
	.bytes_down = UINT64_MAX,
	.ms = 12,
	.host = { (const uint8_t *)"api.example", 11 },
	.method = { (const uint8_t *)"DELETE", 6 },
	.path = { (const uint8_t *)"/\"a\"\n\xff", 6 },
	.secret = { (const uint8_t *)"KEY", 3 },
};

static json_t *line_of(const struct egress_record *r, uint32_t exec, const char *rule)
{
	const struct egress_line l = { .realtime_ns = UINT64_C(1700000000123000000),
		                       .sandbox = "0123456789ab",
		                       .by = "gate",
		                       .rule = span_str(rule),
		                       .exec = exec,
		                       .record = r };
	static uint8_t room[EGRESS_LINE_MAX];
	struct buf b;
	json_t *got;

	buf_init(&b, room, sizeof(room));
	egress_line_put(&b, &l);
	CHECK(buf_ok(&b) && b.len > 1 && room[b.len - 1] == '\n');
	CHECK(memchr(room, '\n', b.len - 1) == NULL);
	got = json_loadb((const char *)room, b.len, JSON_REJECT_DUPLICATES, NULL);
	CHECK(got != NULL);
	return got;
}

static const char *text_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static json_int_t number_of(const json_t *o, const char *key)
{
	CHECK(json_is_integer(json_object_get(o, key)));
	return json_integer_value(json_object_get(o, key));
}

TEST(a_line_says_all_of_a_record)
{
	json_t *o = line_of(&full, 1, "policy.yaml:12:5");

	CHECK_STR(text_of(o, "time"), "2023-11-14T22:13:20.123Z");
	CHECK_STR(text_of(o, "sandbox"), "0123456789ab");
	CHECK_STR(text_of(o, "by"), "gate");
	CHECK_STR(text_of(o, "event"), "refused");
	CHECK_STR(text_of(o, "layer"), "http");
	CHECK_STR(text_of(o, "reason"), "path");
	CHECK_STR(text_of(o, "rule"), "policy.yaml:12:5");
	CHECK_STR(text_of(o, "host"), "api.example");
	CHECK_STR(text_of(o, "address"), "2001:db8::1");
	CHECK_STR(text_of(o, "method"), "DELETE");
	CHECK_STR(text_of(o, "path"), "/\"a\"\n\xef\xbf\xbd");
	CHECK_STR(text_of(o, "secret"), "KEY");
	CHECK_EQ(number_of(o, "generation"), 3);
	CHECK_EQ(number_of(o, "port"), 443);
	CHECK_EQ(number_of(o, "status"), 403);
	CHECK_EQ(number_of(o, "bytes_up"), 1000);
	CHECK_EQ(number_of(o, "bytes_down"), INT64_MAX);
	CHECK_EQ(number_of(o, "ms"), 12);
	CHECK_EQ(number_of(o, "exec"), 1);
	CHECK_EQ(number_of(o, "flow"), 77);
	CHECK(json_is_true(json_object_get(o, "inspected")));
	CHECK(json_is_false(json_object_get(o, "pin_only")));
	json_decref(o);
}

TEST(what_is_not_known_is_null)
{
	static const char *const keys[] = { "rule", "host",   "address", "port", "method",
		                            "path", "status", "secret",  "exec" };
	const struct egress_record bare = { .event = EGRESS_EVENT_LOST,
		                            .layer = EGRESS_LAYER_TCP,
		                            .count = 9 };
	json_t *o = line_of(&bare, 0, "");

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		CHECK(json_is_null(json_object_get(o, keys[i])));
	CHECK_STR(text_of(o, "event"), "lost");
	CHECK_STR(text_of(o, "reason"), "allowed");
	CHECK_EQ(number_of(o, "count"), 9);
	json_decref(o);
}

TEST(the_longest_line_fits)
{
	static uint8_t worst[CONTROL_PATH_MAX];
	static char rule[POLICY_ORIGIN_MAX + 1];
	struct egress_record r = full;

	memset(worst, 1, sizeof(worst)); /* \u0001 */
	memset(rule, 1, POLICY_ORIGIN_MAX);
	r.host = span_of(worst, CONTROL_HOST_MAX);
	r.method = span_of(worst, CONTROL_METHOD_MAX);
	r.path = span_of(worst, CONTROL_PATH_MAX);
	r.secret = span_of("S234567890123456789012345678901234567890123456789012345678901234", 64);
	r.family = 6;
	memset(r.addr, 0xff, sizeof(r.addr));
	r.flow = r.bytes_up = r.bytes_down = UINT64_MAX;
	r.generation = r.ms = r.count = UINT32_MAX;
	json_decref(line_of(&r, UINT32_MAX, rule));
}

static int open_dir(void)
{
	struct err e = { 0 };
	int fd = -1;

	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &fd, &e), &e);
	return fd;
}

static off_t size_of(int dir_fd, const char *name)
{
	struct stat st;

	return fstatat(dir_fd, name, &st, 0) == 0 ? st.st_size : -1;
}

TEST(the_beginning_and_the_end_are_kept)
{
	static char line[4096];
	_own_fd_ int dir_fd = open_dir();
	struct egress_log l;

	memset(line, 'x', sizeof(line));
	egress_log_init(&l, dir_fd);
	CHECK_EQ(size_of(dir_fd, EGRESS_LOG_FILE), -1);
	for (unsigned i = 0; i < EGRESS_LOG_FILE_MAX / sizeof(line); i++)
		egress_log_put(&l, span_of(line, sizeof(line)));
	CHECK_EQ(size_of(dir_fd, EGRESS_LOG_FILE), EGRESS_LOG_FILE_MAX);
	CHECK_EQ(size_of(dir_fd, EGRESS_LOG_FILE_OLD), -1);
	egress_log_put(&l, span_str("one\n"));
	CHECK_EQ(size_of(dir_fd, EGRESS_LOG_FILE), 4);
	CHECK_EQ(size_of(dir_fd, EGRESS_LOG_FILE_FIRST), EGRESS_LOG_FILE_MAX);
	CHECK_EQ(size_of(dir_fd, EGRESS_LOG_FILE_OLD), -1);
	CHECK_EQ(l.written, EGRESS_LOG_FILE_MAX / sizeof(line) + 1);
	CHECK_EQ(l.lost, 0);

	for (unsigned i = 0; i < EGRESS_LOG_FILE_MAX / sizeof(line); i++)
		egress_log_put(&l, span_of(line, sizeof(line)));
	CHECK_EQ(size_of(dir_fd, EGRESS_LOG_FILE), sizeof(line));
	CHECK_EQ(size_of(dir_fd, EGRESS_LOG_FILE_OLD), EGRESS_LOG_FILE_MAX - sizeof(line) + 4);
	CHECK_EQ(l.dropped, 0);
	memset(line, 'y', sizeof(line));
	for (unsigned i = 0; i < EGRESS_LOG_FILE_MAX / sizeof(line); i++)
		egress_log_put(&l, span_of(line, sizeof(line)));
	CHECK_EQ(size_of(dir_fd, EGRESS_LOG_FILE_OLD), EGRESS_LOG_FILE_MAX);
	CHECK_EQ(l.dropped, EGRESS_LOG_FILE_MAX / sizeof(line));
	CHECK_EQ(l.lost, l.dropped);
	CHECK_EQ(size_of(dir_fd, EGRESS_LOG_FILE_FIRST), EGRESS_LOG_FILE_MAX);
	egress_log_close(&l);
}

TEST(what_does_not_fit_on_the_disk_is_counted)
{
	const struct rlimit limit = { .rlim_cur = 10, .rlim_max = 10 };
	_own_fd_ int dir_fd = open_dir();
	struct egress_log l;

	egress_log_init(&l, dir_fd);
	egress_log_put(&l, span_str("12345\n"));
	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
	egress_log_put(&l, span_str("67890\n"));
	CHECK_EQ(size_of(dir_fd, EGRESS_LOG_FILE), 6); /* no part of it */
	CHECK_EQ(l.written, 1);
	CHECK_EQ(l.lost, 1);
	egress_log_put(&l, span_str("789\n"));
	CHECK_EQ(size_of(dir_fd, EGRESS_LOG_FILE), 10);
	egress_log_close(&l);
}

TEST_MAIN()
