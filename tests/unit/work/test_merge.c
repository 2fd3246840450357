#include "test.h"

#include "work/merge.h"

#include <errno.h>
#include <string.h>

/*
 * The differences of two short texts, by the longest common lines: slow, and written to be right.
 * Its hunks are as far apart as they can be.
 */
enum { LINES = 32 };

static bool same_line(const struct hunk_text *a, uint32_t i, const struct hunk_text *b, uint32_t k)
{
	return span_equal(hunk_lines(a, i, 1), hunk_lines(b, k, 1));
}

static struct hunks *diff(const struct hunk_text *a, const struct hunk_text *b)
{
	static uint8_t common[LINES + 1][LINES + 1];
	struct hunk found[LINES];
	uint8_t raw[4 + sizeof(found)];
	uint32_t i, k, n = 0;
	struct hunks *ret;
	struct buf out;
	struct err e;

	memset(common, 0, sizeof(common));
	for (i = a->count; i-- > 0;) {
		for (k = b->count; k-- > 0;) {
			uint8_t skip = common[i + 1][k] > common[i][k + 1] ? common[i + 1][k]
			                                                   : common[i][k + 1];

			common[i][k] =
				same_line(a, i, b, k) ? (uint8_t)(common[i + 1][k + 1] + 1) : skip;
		}
	}
	for (i = k = 0; i < a->count || k < b->count;) {
		struct hunk h = { .old_at = i, .new_at = k };

		while (i < a->count || k < b->count) {
			if (i < a->count && k < b->count && same_line(a, i, b, k))
				break;
			if (k == b->count || (i < a->count && common[i + 1][k] >= common[i][k + 1]))
				i++;
			else
				k++;
		}
		h.old_lines = i - h.old_at;
		h.new_lines = k - h.new_at;
		if (h.old_lines + h.new_lines > 0)
			found[n++] = h;
		while (i < a->count && k < b->count && same_line(a, i, b, k)) {
			i++;
			k++;
		}
	}
	buf_init(&out, raw, sizeof(raw));
	hunk_put(&out, found, n);
	CHECK_OK(hunk_parse(buf_span(&out), a, b, &ret, &e), &e);
	return ret;
}

static struct hunk_text *text(const char *s)
{
	struct hunk_text *t;
	struct err e;

	CHECK_OK(hunk_text_new(span_str(s), &t, &e), &e);
	return t;
}

/* Merges, and checks the text and the fates, a letter each: '-', 'T', 'S', 'C'. */
static void check(const char *base, const char *host, const char *guest, const char *chosen,
                  const char *want, const char *fates)
{
	_own_(hunk_text_free) struct hunk_text *b = text(base), *h = text(host), *g = text(guest);
	_own_(hunks_free) struct hunks *to_h = diff(b, h), *to_g = diff(b, g);
	struct merge_in in = { b, h, g, to_h, to_g, NULL };
	uint8_t fate[LINES], pick[LINES];
	char said[LINES + 1], got[1024];
	struct buf out;
	uint32_t conflicts;

	for (uint32_t i = 0; chosen != NULL && i < to_g->count; i++)
		pick[i] = chosen[i] == '1';
	in.chosen = chosen != NULL ? pick : NULL;
	conflicts = merge_fates(&in, fate);
	for (uint32_t i = 0; i < to_g->count; i++) {
		said[i] = "-TSC"[fate[i]];
		conflicts -= fate[i] == MERGE_CONFLICT;
	}
	said[to_g->count] = '\0';
	CHECK_EQ(conflicts, 0);
	CHECK_STR(said, fates);
	CHECK(merge_bytes_max(&in) <= sizeof(got));
	buf_init(&out, got, merge_bytes_max(&in));
	merge_put(&in, fate, &out);
	CHECK(buf_ok(&out));
	CHECK_MEM(buf_span(&out), span_str(want));
}

TEST(d9_apart_both_are_taken)
{
	check("a\nb\nc\nd\n", "A\nb\nc\nd\n", "a\nb\nc\nD\n", NULL, "A\nb\nc\nD\n", "T");
	check("a\nb\nc\n", "a\nb\nc\nd\n", "x\na\nb\nc\n", NULL, "x\na\nb\nc\nd\n", "T");
	check("a\nb\nc\nd\ne\n", "a\nc\nd\ne\n", "a\nb\nc\nd\n", NULL, "a\nc\nd\n", "T");
}

TEST(d10_overlapping_stays_as_the_host_has_it)
{
	check("a\nb\nc\n", "a\nB\nc\n", "a\nX\nc\n", NULL, "a\nB\nc\n", "C");
	check("a\nb\nc\n", "a\nb\nx\nc\n", "a\nb\ny\nc\n", NULL, "a\nb\nx\nc\n", "C");
	/* they touch, so nobody knows in which order they were meant */
	check("a\nb\nc\nd\n", "a\nB\nc\nd\n", "a\nb\nC\nd\n", NULL, "a\nB\nc\nd\n", "C");
	check("a\nb\nc\nd\ne\n", "a\nB\nc\nd\ne\n", "a\nb\nC\nd\nE\n", NULL, "a\nB\nc\nd\nE\n",
	      "CT");
}

TEST(d8_the_same_is_taken_once)
{
	check("a\nb\nc\n", "a\nB\nc\n", "a\nB\nc\n", NULL, "a\nB\nc\n", "S");
	check("a\nb\nc\nd\n", "a\nB\nc\nd\n", "a\nB\nc\nD\n", NULL, "a\nB\nc\nD\n", "ST");
}

TEST(v2_two_of_five)
{
	check("1\n-\n2\n-\n3\n-\n4\n-\n5\n", "1\n-\n2\n-\n3\n-\n4\n-\n5\n",
	      "A\n-\nB\n-\nC\n-\nD\n-\nE\n", "01010", "1\n-\nB\n-\n3\n-\nD\n-\n5\n", "-T-T-");
}

TEST(d26_ends_and_newlines)
{
	check("a\nb", "a\nb", "a\nb\n", NULL, "a\nb\n", "T");
	check("a\nb\n", "a\nb\n", "a\nb", NULL, "a\nb", "T");
	check("a\nb", "a\nb\n", "a\nb\nc", NULL, "a\nb\n", "C");
	check("a\r\nb\r\nc\r\n", "a\nb\r\nc\r\n", "a\r\nb\r\nC\r\n", NULL, "a\nb\r\nC\r\n", "T");
	check("", "", "\xe9\n", NULL, "\xe9\n", "T");
	check("a\n", "a\n", "", NULL, "", "T");
	check("", "x\n", "y\n", NULL, "x\n", "C");
}

static int parse(const struct hunk *h, uint32_t n, const struct hunk_text *a,
                 const struct hunk_text *b)
{
	uint8_t raw[256];
	struct buf out;
	struct hunks *got;
	struct err e;
	int r;

	buf_init(&out, raw, sizeof(raw));
	hunk_put(&out, h, n);
	r = hunk_parse(buf_span(&out), a, b, &got, &e);
	if (r == 0)
		hunks_free(got);
	return r;
}

TEST(an_answer_that_lies_is_refused)
{
	_own_(hunk_text_free) struct hunk_text *a = text("a\nb\nc\nd\n"), *b = text("a\nB\nc\nD\n");
	const struct hunk good[] = { { 1, 1, 1, 1 }, { 3, 1, 3, 1 } };
	const struct hunk bad[][2] = {
		{ { 1, 1, 1, 1 }, { 2, 1, 2, 1 } },          /* d and D are not equal */
		{ { 3, 1, 3, 1 }, { 1, 1, 1, 1 } },          /* backwards */
		{ { 1, 3, 1, 3 }, { 3, 1, 3, 1 } },          /* overlapping */
		{ { 1, 1, 1, 1 }, { 3, 2, 3, 1 } },          /* behind the end */
		{ { 1, 1, 1, 1 }, { 3, UINT32_MAX, 3, 1 } }, /* far behind */
		{ { 1, 1, 1, 1 }, { 2, 2, 2, 2 } },          /* touching */
		{ { 1, 1, 1, 2 }, { 3, 1, 3, 1 } },          /* shifted */
		{ { 1, 0, 1, 0 }, { 1, 3, 1, 3 } },          /* empty */
	};
	struct hunks *got;
	struct err e;

	CHECK_EQ(parse(good, 2, a, b), 0);
	CHECK_EQ(parse(good, 1, a, b), -EBADMSG);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_EQ(parse(bad[i], 2, a, b), -EBADMSG);
	CHECK_EQ(hunk_parse(span_of("\1\0\0", 3), a, b, &got, &e), -EBADMSG);
	CHECK_EQ(hunk_parse(span_of("\1\0\0\0\0", 5), a, b, &got, &e), -EBADMSG);
	CHECK_EQ(hunk_parse(span_of("\xff\xff\xff\xff", 4), a, b, &got, &e), -E2BIG);
}

TEST_MAIN()
