#include "image/report.h"

#include "guardpage.h"
#include "test.h"

#include <errno.h>
#include <string.h>

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static int parse(const char *text, struct report *ret)
{
	struct span in = guard_span(text, strlen(text));

	return report_parse(&in, ret);
}

TEST(every_prefix_waits)
{
	static const char line[] = "progress 1 22 333 18446744073709551615\n";
	struct report r;

	for (size_t i = 0; i < sizeof(line) - 1; i++) {
		struct span in = guard_span(line, i);

		CHECK_EQ(report_parse(&in, &r), -EAGAIN);
		CHECK_EQ(in.len, i);
	}
	CHECK_EQ(parse(line, &r), 0);
	CHECK_EQ(r.kind, REPORT_PROGRESS);
	CHECK_EQ(r.total_bytes, 22);
	CHECK(r.entries == UINT64_MAX);
}

TEST(refused)
{
	static const char *const bad[] = { "\n",
		                           " \n",
		                           "progress\n",
		                           "progress 1 2 3\n",
		                           "progress 1 2 3 4 5\n",
		                           "progress 1 2 3 -4\n",
		                           "progress 1 2 3 \n",
		                           "phase \n",
		                           "phase x\n",
		                           "id abc\n",
		                           "id " HEX64 "0\n",
		                           "done\n",
		                           "fail\n",
		                           "fail limit\n",
		                           "fail limit \n",
		                           "fail what x\n",
		                           "warn\n",
		                           "warn \n",
		                           "done " HEX64 " \n",
		                           "ID " HEX64 "\n",
		                           "nonsense x\n" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct report r;

		memset(&r, 0xa5, sizeof(r));
		if (parse(bad[i], &r) != -EBADMSG)
			test_fail(__FILE__, __LINE__, "'%s' is taken", bad[i]);
		CHECK_EQ((int)r.kind, (int)0xa5a5a5a5);
	}
}

TEST(nul_and_length)
{
	char line[REPORT_LINE_MAX + 1];
	struct span in;
	struct report r;

	CHECK_EQ(report_parse(&(struct span){ (const uint8_t *)"warn a\0b\n", 9 }, &r), -EBADMSG);
	memset(line, 'x', sizeof(line));
	memcpy(line, "warn ", 5);
	in = guard_span(line, REPORT_LINE_MAX);
	CHECK_EQ(report_parse(&in, &r), -EBADMSG);
	line[REPORT_LINE_MAX - 1] = '\n';
	in = guard_span(line, REPORT_LINE_MAX);
	CHECK_EQ(report_parse(&in, &r), 0);
}

static void round_trip(const struct report *r)
{
	uint8_t storage[REPORT_LINE_MAX];
	struct report got;
	struct span in;
	struct buf b;

	buf_init(&b, storage, sizeof(storage));
	report_put(&b, r);
	CHECK(buf_ok(&b));
	in = buf_span(&b);
	CHECK_EQ(report_parse(&in, &got), 0);
	CHECK_EQ(in.len, 0);
	CHECK_EQ(got.kind, r->kind);
	CHECK_EQ(got.fail, r->fail);
	CHECK_EQ(got.out_bytes, r->out_bytes);
}

TEST(round_trips)
{
	char text[3 * REPORT_LINE_MAX];

	memset(text, '\n', sizeof(text));
	round_trip(&(struct report){ .kind = REPORT_PROGRESS, .out_bytes = 77 });
	round_trip(&(struct report){ .kind = REPORT_PHASE, .text = span_str("unpack") });
	round_trip(&(struct report){ .kind = REPORT_ID, .text = span_str(HEX64) });
	round_trip(&(struct report){ .kind = REPORT_DONE, .text = span_str(HEX64) });
	round_trip(&(struct report){ .kind = REPORT_WARN, .text = span_of(text, sizeof(text)) });
	for (int f = 0; f < IMAGE_FAIL_COUNT; f++)
		round_trip(&(struct report){ .kind = REPORT_FAIL,
		                             .fail = (enum image_fail)f,
		                             .text = span_of(text, sizeof(text)) });
}

TEST_MAIN()
