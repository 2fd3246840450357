#include "review/decision.h"

#include "guardpage.h"
#include "test.h"

#include <errno.h>
#include <string.h>

static const char keys[] = "\"what\":\"000102030405060708090a0b0c0d0e0f\","
			   "\"host\":\"f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff\"";

static struct decision of(uint8_t choice)
{
	struct decision d = { .choice = choice, .at_s = 1700000000 };

	for (uint8_t i = 0; i < DECISION_KEY_BYTES; i++) {
		d.what[i] = i;
		d.host[i] = (uint8_t)(0xf0 | i);
	}
	return d;
}

static struct span written(struct buf *b, void *room, size_t size, const char *path,
                           const struct decision *d)
{
	buf_init(b, room, size);
	decision_put(b, span_str(path), d);
	CHECK(buf_ok(b) && b->len > 0 && b->at[b->len - 1] == '\n');
	return span_of(b->at, b->len - 1);
}

static void same(const struct decision *a, const struct decision *b)
{
	CHECK_EQ(a->gone, b->gone);
	CHECK_EQ(a->choice, b->choice);
	CHECK_EQ(a->links, b->links);
	CHECK_EQ(a->done, b->done);
	CHECK_EQ(a->back, b->back);
	CHECK_EQ(a->generation, b->generation);
	CHECK_EQ(a->at_s, b->at_s);
	CHECK_EQ(a->has_result, b->has_result);
	CHECK(memcmp(a->what, b->what, sizeof(a->what)) == 0);
	CHECK(memcmp(a->host, b->host, sizeof(a->host)) == 0);
	CHECK(memcmp(a->result, b->result, sizeof(a->result)) == 0);
	CHECK_MEM(a->hunks, b->hunks);
}

TEST(is_read_as_it_was_written)
{
	struct decision all[5] = { of(DECISION_UNDECIDED), of(DECISION_ACCEPT), of(DECISION_REJECT),
		                   of(DECISION_HUNKS), of(DECISION_ACCEPT) };
	char room[1024], path[64];
	struct decision got;
	struct buf b, p;

	all[0].back = true;
	all[1].links = all[1].gone = true;
	all[3].hunks = span_str("01101");
	all[3].has_result = true;
	memset(all[3].result, 0xab, sizeof(all[3].result));
	all[4].done = true;
	all[4].generation = 17;
	for (size_t i = 0; i < 5; i++) {
		struct span line = written(&b, room, sizeof(room), "a b/\xff\"%\\\n", &all[i]);

		CHECK_EQ(decision_parse(line, &got), 0);
		same(&got, &all[i]);
		buf_init(&p, path, sizeof(path));
		CHECK(decision_path(got.path, &p));
		CHECK_SPAN(buf_span(&p), "a b/\xff\"%\\\n");
	}
}

TEST(has_the_form_that_is_documented)
{
	struct decision d = of(DECISION_ACCEPT);
	char room[512], want[512];
	struct buf b, w;

	buf_init(&w, want, sizeof(want));
	buf_printf(
		&w,
		"{\"path\":\"a%%20b\",\"side\":\"here\",\"choice\":\"accept\",\"links\":false,%s,"
		"\"at\":1700000000}",
		keys);
	CHECK_MEM(written(&b, room, sizeof(room), "a b", &d), buf_span(&w));
}

TEST(v6_every_prefix_is_refused_and_leaves_the_output)
{
	struct decision d = of(DECISION_HUNKS), got, untouched;
	char room[1024];
	struct span line;
	struct buf b;

	d.hunks = span_str("10");
	d.has_result = d.done = d.back = true;
	line = written(&b, room, sizeof(room), "some/path", &d);
	memset(&untouched, 0xa5, sizeof(untouched));
	for (size_t n = 0; n < line.len; n++) {
		uint8_t *at = guard_copy(line.at, n);

		got = untouched;
		CHECK_EQ(decision_parse(span_of(at, n), &got), -EBADMSG);
		CHECK(memcmp(&got, &untouched, sizeof(got)) == 0);
		guard_free(at, n);
	}
}

TEST(v6_other_forms_are_refused)
{
	static const char *const ends[] = {
		",\"at\":1} ",
		",\"at\":01}",
		",\"at\":-1}",
		",\"at\":}",
		",\"done\":x,\"at\":1}",
		",\"done\":99999999,\"at\":1}",
		",\"back\":false,\"at\":1}",
		",\"at\":1,\"back\":true}",
		",\"hunks\":\"01\",\"at\":1}",
		",\"result\":\"00\",\"at\":1}",
		",\"at\":1234567890123}",
	};
	struct decision got;
	char room[512];
	struct buf b;

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		buf_init(&b, room, sizeof(room));
		buf_printf(&b,
		           "{\"path\":\"p\",\"side\":\"here\",\"choice\":\"accept\",\"links\":true,"
		           "%s%s",
		           keys, ends[i]);
		CHECK_EQ(decision_parse(buf_span(&b), &got), -EBADMSG);
	}
	buf_init(&b, room, sizeof(room));
	buf_printf(&b,
	           "{\"path\":\"p\",\"side\":\"here\",\"choice\":\"hunks\",\"links\":true,%s,"
	           "\"at\":1}",
	           keys); /* hunks, and none is said */
	CHECK_EQ(decision_parse(buf_span(&b), &got), -EBADMSG);
}

TEST(a_path_has_one_way_to_be_written)
{
	static const char *const wrong[] = { "%61", "%2F", "a b", "%0",  "%", "%zz",  "%2f%2f",
		                             "..",  "/a",  "a/",  "%00", "",  "\xff", "%2E" };
	char room[64];
	struct buf b;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		buf_init(&b, room, sizeof(room));
		CHECK_EQ(decision_path(span_str(wrong[i]), &b) && b.len > 0, false);
	}
	buf_init(&b, room, sizeof(room));
	CHECK(decision_path(span_str("a%25b/%ff"), &b));
	CHECK_SPAN(buf_span(&b), "a%b/\xff");
}

TEST_MAIN()
