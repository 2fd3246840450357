#include "test.h"

#include "forms.h"
#include "vault/needle.h"

#include <stdlib.h>

static struct needle_set set;

/* What needle_find() has to say, by comparing at each place. */
static bool naive(struct span hay, size_t *ret_at, unsigned *ret_needle)
{
	for (size_t at = 0; at < hay.len; at++)
		for (unsigned n = 0; n < set.count; n++) {
			const struct needle *x = &set.needles[n];
			size_t i = 0;

			if (x->len > hay.len - at)
				continue;
			while (i < x->len) {
				uint8_t a = hay.at[at + i];
				uint8_t b = needle_char(x->kind, set.texts[x->text], i);

				a = (uint8_t)(a >= 'A' && a <= 'Z' ? a + 32 : a);
				b = (uint8_t)(b >= 'A' && b <= 'Z' ? b + 32 : b);
				if (a != b)
					break;
				i++;
			}
			if (i == x->len) {
				*ret_at = at;
				*ret_needle = n;
				return true;
			}
		}
	return false;
}

static bool found(struct span hay, size_t want_at)
{
	struct needle_match m[64];
	size_t from = 0;

	while (from < hay.len) {
		unsigned n = needle_find(&set, hay, &from, m, 64);

		for (unsigned i = 0; i < n; i++)
			if (m[i].at == want_at)
				return true;
	}
	return false;
}

TEST(an_empty_set_finds_nothing)
{
	size_t from = 0;
	struct needle_match m;

	needle_set_build(&set, NULL, 0);
	CHECK_EQ(needle_find(&set, span_str("anything at all"), &from, &m, 1), 0);
	CHECK_EQ(from, 15);
	CHECK_EQ(needle_tail(&set, span_str("abc"), 0, NULL).at, 3);
}

TEST(forms_are_those_of_other_coders)
{
	struct span text = span_str("s3cr3t/+value?~");
	uint8_t room[200];
	struct buf b;

	needle_set_build(&set, &text, 1);
	for (unsigned n = 0; n < set.count; n++) {
		const struct needle *x = &set.needles[n];
		bool url = x->kind >= NEEDLE_BASE64URL;
		unsigned align = (unsigned)x->kind - (url ? NEEDLE_BASE64URL : NEEDLE_BASE64);
		size_t skip = 0;

		buf_init(&b, room, sizeof(room));
		if (x->kind == NEEDLE_PLAIN) {
			buf_put_span(&b, text);
		} else if (x->kind == NEEDLE_HEX) {
			form_put(&b, FORM_HEX_LOWER, text);
		} else {
			form_base64_at(&b, text, align, url);
			skip = align == 0 ? 0 : align + 1;
		}
		CHECK(x->len + skip <= b.len);
		for (size_t i = 0; i < x->len; i++)
			CHECK_EQ(needle_char(x->kind, text, i), b.at[skip + i]);
	}
	CHECK(set.count >= 6);
}

TEST(all_that_is_fixed_in_base64_is_in_the_needle)
{
	/* changing a neighbour must change every character outside, and none inside */
	struct span text = span_str("0123456789abcdef");

	for (unsigned align = 0; align < 3; align++) {
		size_t len = needle_len(NEEDLE_BASE64 + align, text.len);
		size_t bits = 8 * (align + text.len);

		CHECK(len * 6 + 10 >= text.len * 8);
		CHECK(len * 6 <= bits);
	}
	CHECK_EQ(needle_len(NEEDLE_BASE64, 9), 12);
	CHECK_EQ(needle_len(NEEDLE_BASE64 + 1, 8), 10);
	CHECK_EQ(needle_len(NEEDLE_BASE64 + 2, 8), 10);
}

TEST(every_place_and_every_needle)
{
	struct span texts[] = { span_str("ghp_16C7e42F292c6912E7710c838347Ae178B4a"),
		                span_str("hunter22"), span_str("sk-ant-api03-xyzw-0123456789"),
		                span_str("+/+/+/+/+/+/~~~") };
	uint8_t room[400];

	needle_set_build(&set, texts, 4);
	CHECK_EQ(set.step, 5);
	for (unsigned n = 0; n < set.count; n++) {
		const struct needle *x = &set.needles[n];

		for (size_t at = 0; at < 64; at++) {
			memset(room, '.', sizeof(room));
			for (size_t i = 0; i < x->len; i++)
				room[at + i] = needle_char(x->kind, texts[x->text], i);
			CHECK(found(span_of(room, at + x->len), at));
			CHECK(found(span_of(room, sizeof(room)), at));
			CHECK(!found(span_of(room, at + x->len - 1), at));
			CHECK_EQ(needle_tail(&set, span_of(room, at + x->len - 1), 0, NULL).at, at);
			CHECK_EQ(needle_tail(&set, span_of(room, at + 4), 0, NULL).at, at);
			CHECK_EQ(needle_tail(&set, span_of(room, at + 3), 0, NULL).at, at + 3);
		}
	}
}

TEST(random_hay_against_the_naive_search)
{
	uint32_t seed = 0x1234567;
	uint8_t text[3][40];
	uint8_t hay[300];

	for (unsigned round = 0; round < 4000; round++) {
		struct span texts[3];
		unsigned count = 1 + form_random(&seed) % 3;
		size_t at = 0;
		unsigned needle = 0;
		bool want;
		struct needle_match m[64];
		size_t from = 0;
		unsigned got = 0;

		/* of two letters each, so that near misses are everywhere */
		for (unsigned t = 0; t < count; t++) {
			texts[t] = span_of(text[t], 8 + form_random(&seed) % 8);
			for (size_t i = 0; i < texts[t].len; i++)
				text[t][i] = form_random(&seed) % 5 ? 'a' : 'b';
		}
		for (size_t i = 0; i < sizeof(hay); i++)
			hay[i] = form_random(&seed) % 4 ? 'a' : 'b';
		needle_set_build(&set, texts, count);
		want = naive(span_of(hay, sizeof(hay)), &at, &needle);
		while (from < sizeof(hay) && got == 0)
			got = needle_find(&set, span_of(hay, sizeof(hay)), &from, m, 64);
		CHECK_EQ(got > 0, want);
		if (want)
			CHECK(found(span_of(hay, sizeof(hay)), at));
	}
}

TEST(as_many_and_as_long_as_may_be)
{
	struct span texts[NEEDLE_TEXTS_MAX];
	uint8_t *big = malloc(NEEDLE_TEXTS_MAX * (size_t)NEEDLE_TEXT_MAX);
	uint8_t *hay = malloc(3 * NEEDLE_TEXT_MAX);
	uint32_t seed = 99;

	CHECK(big && hay);
	for (size_t i = 0; i < NEEDLE_TEXTS_MAX * (size_t)NEEDLE_TEXT_MAX; i++)
		big[i] = (uint8_t)form_random(&seed);
	for (unsigned t = 0; t < NEEDLE_TEXTS_MAX; t++)
		texts[t] = span_of(big + t * (size_t)NEEDLE_TEXT_MAX, NEEDLE_TEXT_MAX);
	needle_set_build(&set, texts, NEEDLE_TEXTS_MAX);
	CHECK(set.step >= 4);
	for (unsigned n = 0; n < set.count; n += 37) {
		const struct needle *x = &set.needles[n];

		memset(hay, 0, 3 * NEEDLE_TEXT_MAX);
		for (size_t i = 0; i < x->len; i++)
			hay[100 + n % 13 + i] = needle_char(x->kind, texts[x->text], i);
		CHECK(found(span_of(hay, 3 * NEEDLE_TEXT_MAX), 100 + n % 13));
	}
	free(big);
	free(hay);
}

TEST_MAIN()
