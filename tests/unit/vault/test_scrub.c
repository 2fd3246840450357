#include "test.h"

#include "forms.h"
#include "vault/scrub.h"

#include <errno.h>
#include <stdio.h>
#include <zlib.h>

static struct store *s;
static struct span mark;
static struct err e;

static const char value[] = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";

static void begin_with(const char *v)
{
	CHECK_OK(store_new(&s, &e), &e);
	CHECK_OK(store_set(s, span_str("TOKEN"), span_str(v), &e), &e);
	mark = store_placeholder(s, span_str("TOKEN"));
}

static struct scrub *new_scrub(void)
{
	struct scrub *c;

	CHECK_OK(scrub_new(s, &c, &e), &e);
	return c;
}

/* Feeds one piece and appends what comes out. */
static void feed(struct scrub *c, struct span in, struct buf *out)
{
	struct span got;

	do {
		CHECK_EQ(scrub_piece(c, &in, 65536, &got), 0);
		buf_put_span(out, got);
	} while (in.len > 0 || got.len > 0);
}

static void finish(struct scrub *c, struct buf *out)
{
	struct span got;

	do {
		CHECK_EQ(scrub_end(c, 65536, &got), 0);
		buf_put_span(out, got);
	} while (got.len > 0);
}

static struct span whole(struct span in, struct buf *out)
{
	struct scrub *c = new_scrub();

	buf_reset(out);
	feed(c, in, out);
	finish(c, out);
	scrub_free(c);
	CHECK(buf_ok(out));
	CHECK_EQ(out->len, in.len);
	return buf_span(out);
}

static bool has(struct span hay, const void *needle, size_t len)
{
	return memmem(hay.at, hay.len, needle, len) != NULL;
}

TEST(SEC_6_raw_becomes_the_placeholder)
{
	uint8_t room[500];
	char want[200];
	struct buf out;

	begin_with(value);
	buf_init(&out, room, sizeof(room));
	(void)snprintf(want, sizeof(want), "{\"token\":\"%.*s\"}", (int)mark.len,
	               (const char *)mark.at);
	CHECK_SPAN(
		whole(span_str("{\"token\":\"ghp_16C7e42F292c6912E7710c838347Ae178B4a\"}"), &out),
		want);
	CHECK_SPAN(whole(span_str("nothing to see"), &out), "nothing to see");
}

/* The form of the value is gone, and where it can be the same form of the placeholder is there. */
TEST(SEC_6_every_form_is_replaced_in_kind)
{
	static const enum form in_kind[] = { FORM_PLAIN,       FORM_HEX_LOWER,   FORM_BASE64_0,
		                             FORM_BASE64_1,    FORM_BASE64_2,    FORM_BASE64URL_0,
		                             FORM_BASE64URL_1, FORM_BASE64URL_2, FORM_BASE64_LINES,
		                             FORM_UTF16_LE,    FORM_UTF16_BE };
	uint8_t a[3000], b[3000], c[3000];
	struct buf in, want, out;

	begin_with(value);
	for (enum form f = 0; f < FORM_COUNT; f++) {
		bool kind = false;
		unsigned differ;

		buf_init(&in, a, sizeof(a));
		buf_init(&want, b, sizeof(b));
		buf_init(&out, c, sizeof(c));
		buf_put_str(&in, "before ");
		form_put(&in, f, span_str(value));
		buf_put_str(&in, " after");
		buf_put_str(&want, "before ");
		form_put(&want, f, mark);
		buf_put_str(&want, " after");
		(void)whole(buf_span(&in), &out);
		for (size_t i = 0; i < sizeof(in_kind) / sizeof(in_kind[0]); i++)
			kind |= in_kind[i] == f;
		/* base64's first and last character may be made of a neighbour's bits, too */
		differ = 0;
		for (size_t i = 0; kind && i < in.len; i++)
			differ += out.at[i] != want.at[i];
		if (differ > (f < FORM_BASE64_0 || f > FORM_BASE64_LINES ? 0 : 2))
			test_fail(__FILE__, __LINE__, "form %d became '%.*s', not '%.*s'", (int)f,
			          (int)out.len, (const char *)out.at, (int)want.len,
			          (const char *)want.at);
		if (memcmp(out.at, "before ", 7) != 0 ||
		    memcmp(out.at + out.len - 6, " after", 6) != 0)
			test_fail(__FILE__, __LINE__, "form %d: more than it was replaced", (int)f);
		for (size_t i = 7; i + 6 + 12 < in.len; i++)
			if (f != FORM_UTF16_LE && f != FORM_UTF16_BE &&
			    has(buf_span(&out), in.at + i, 12))
				test_fail(__FILE__, __LINE__, "form %d: left '%.*s'", (int)f,
				          (int)out.len, (const char *)out.at);
	}
}

TEST(SEC_5_every_form_cut_anywhere_leaves_three_bytes_at_most)
{
	uint8_t a[3000], b[3000], c[3000];
	struct buf in, out, once;

	begin_with(value);
	for (enum form f = 0; f < FORM_COUNT; f++) {
		buf_init(&in, a, sizeof(a));
		buf_put_str(&in, "before.");
		form_put(&in, f, span_str(value));
		buf_put_str(&in, ".after");
		buf_init(&once, c, sizeof(c));
		(void)whole(buf_span(&in), &once);
		for (size_t cut = 1; cut < in.len; cut++) {
			struct scrub *x = new_scrub();
			unsigned differ = 0;

			buf_init(&out, b, sizeof(b));
			feed(x, span_of(in.at, cut), &out);
			CHECK(out.len <= cut);
			feed(x, span_of(in.at + cut, in.len - cut), &out);
			finish(x, &out);
			scrub_free(x);
			CHECK_EQ(out.len, in.len);
			/* that may go out early: three units of up to 12 bytes and part of one */
			for (size_t i = 0; i < in.len; i++)
				differ += out.at[i] != once.at[i];
			if (differ > 48 || (f == FORM_PLAIN && differ > 3))
				test_fail(__FILE__, __LINE__, "form %d, cut at %zu: %u bytes: %.*s",
				          (int)f, cut, differ, (int)out.len, (const char *)out.at);
		}
	}
}

TEST(random_pieces_are_the_same_as_one)
{
	enum { BYTES = 60000 };
	static uint8_t a[BYTES], b[BYTES], c[BYTES];
	uint32_t seed = 4242;
	struct buf in, out, once;

	begin_with("hunter22");
	CHECK_OK(store_set(s, span_str("LONG"), span_str(value), &e), &e);
	for (unsigned round = 0; round < 60; round++) {
		struct scrub *x = new_scrub();
		size_t at = 0;

		buf_init(&in, a, sizeof(a));
		while (in.len < BYTES - 5000) {
			for (unsigned i = form_random(&seed) % 2000; i > 0; i--)
				buf_put_u8(&in, (uint8_t)(' ' + form_random(&seed) % 95));
			form_put(&in, form_random(&seed) % FORM_COUNT,
			         span_str(form_random(&seed) % 2 ? "hunter22" : value));
		}
		CHECK(buf_ok(&in));
		buf_init(&out, b, sizeof(b));
		while (at < in.len) {
			size_t n = 1 + form_random(&seed) % 700;

			n = n < in.len - at ? n : in.len - at;
			feed(x, span_of(in.at + at, n), &out);
			CHECK(scrub_held(x) <= 12 * strlen(value));
			at += n;
		}
		finish(x, &out);
		scrub_free(x);
		CHECK_EQ(out.len, in.len);
		CHECK(!has(buf_span(&out), "nter22", 6));
		CHECK(!has(buf_span(&out), value + 4, 12));
		CHECK(!has(buf_span(&out), "aHVudGVyMj", 10));
		buf_init(&once, c, sizeof(c));
		(void)whole(buf_span(&in), &once);
		CHECK(!has(buf_span(&once), value + 4, 8));
	}
}

TEST(an_event_goes_out_at_once)
{
	static const char *const events[] = { "data: {\"delta\":\"hello\"}\n\n",
		                              "data: plain text end\n\n",
		                              "event: ping\r\ndata: 1\r\n\r\n",
		                              ": comment\n\n",
		                              "data: the prefix gh\n\n",
		                              "no line end at all",
		                              "{\"line\": 1}\n",
		                              "g",
		                              "gh",
		                              "ghp" };
	uint8_t room[500];
	struct buf out;

	begin_with(value);
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		struct scrub *c = new_scrub();

		buf_init(&out, room, sizeof(room));
		feed(c, span_str(events[i]), &out);
		CHECK_SPAN(buf_span(&out), events[i]);
		CHECK_EQ(scrub_held(c), 0);
		scrub_free(c);
	}
}

TEST(held_is_what_may_begin_a_value_and_no_more)
{
	uint8_t room[500];
	struct buf out;
	struct scrub *c;

	begin_with(value);
	c = new_scrub();
	buf_init(&out, room, sizeof(room));
	feed(c, span_str("data: ghp_"), &out);
	CHECK_SPAN(buf_span(&out), "data: ");
	CHECK_EQ(scrub_held(c), 4);
	feed(c, span_str("16C7e42F"), &out);
	CHECK_EQ(scrub_held(c), 12);
	feed(c, span_str("?"), &out);
	CHECK_SPAN(buf_span(&out), "data: ghp_16C7e42F?");
	feed(c, span_str("ghp_16C7"), &out);
	finish(c, &out);
	CHECK_SPAN(buf_span(&out), "data: ghp_16C7e42F?ghp_16C7");
	scrub_free(c);
}

TEST(however_little_room_there_is)
{
	static const char text[] = "x ghp_16C7e42F292c6912 yz and more of it, ghp_16C7e42F29";
	struct scrub *c;
	struct buf out;
	uint8_t room[200];

	begin_with(value);
	for (size_t max = 1; max < 70; max++) {
		struct span in = span_str(text);
		struct span got;

		/* anew: else what ends this text was guessed at too often */
		CHECK_OK(store_set(s, span_str("TOKEN"), span_str(value), &e), &e);
		c = new_scrub();
		buf_init(&out, room, sizeof(room));
		CHECK_EQ(scrub_piece(c, &in, 0, &got), 0);
		CHECK_EQ(got.len, 0);
		do {
			CHECK_EQ(scrub_piece(c, &in, max, &got), 0);
			CHECK(got.len <= max);
			buf_put_span(&out, got);
		} while (in.len > 0 || got.len > 0);
		CHECK_EQ(scrub_held(c), 14);
		do {
			CHECK_EQ(scrub_end(c, max, &got), 0);
			CHECK(got.len <= max);
			buf_put_span(&out, got);
		} while (got.len > 0);
		CHECK_SPAN(buf_span(&out), text);
		scrub_free(c);
	}
}

/* Only a server that may have a value is kept from saying the beginning of it. */
TEST(what_is_not_bound_is_not_held)
{
	uint8_t room[500];
	struct buf out;
	struct scrub *c;

	begin_with(value);
	CHECK_OK(store_set(s, span_str("OTHER"), span_str("hunter22hunter23"), &e), &e);
	c = new_scrub();
	scrub_hold(c, 2);
	buf_init(&out, room, sizeof(room));
	feed(c, span_str("data: ghp_16C7e42F292c"), &out);
	CHECK_SPAN(buf_span(&out), "data: ghp_16C7e42F292c");
	feed(c, span_str("6912E7710c838347Ae178B4a and ghp_16C7e42F292c6912E7710c838347Ae178B4a!"),
	     &out);
	CHECK_EQ(scrub_held(c), 0);
	CHECK(!has(buf_span(&out), "7710c838347Ae178", 16));
	CHECK(!has(buf_span(&out), value + 22, 8));
	feed(c, span_str(" hunter22hu"), &out);
	CHECK_EQ(scrub_held(c), 10);
	scrub_free(c);
}

/* Where no secret is bound nothing depends on values: bytes, coding and frames are as they were. */
TEST(where_nothing_is_bound_nothing_is_looked_for)
{
	static const struct http_field coded = { { (const uint8_t *)"content-encoding", 16 },
		                                 { (const uint8_t *)"unheard-of", 10 } };
	struct http_head in = { .status = 200, .framing = HTTP_BODY_LENGTH, .length = 40 };
	struct http_head got;
	uint8_t room[100];
	struct buf out;
	struct scrub *c;

	begin_with(value);
	c = new_scrub();
	scrub_hold(c, 0);
	in.fields[0] = coded;
	in.count = 1;
	CHECK_EQ(scrub_head(c, &in, &got), 0);
	CHECK(got.count == 1 && got.framing == HTTP_BODY_LENGTH && got.length == 40);
	buf_init(&out, room, sizeof(room));
	feed(c, span_str(value), &out);
	CHECK_SPAN(buf_span(&out), value);
	CHECK_EQ(scrub_held(c), 0);
	in.status = 101;
	in.count = 0;
	CHECK_EQ(scrub_head(c, &in, &got), 0);
	feed(c, span_str("\xff no frame"), &out);
	CHECK_EQ(scrub_held(c), 0);
	scrub_free(c);
}

/* One guess: its beginning, and what shows that it was wrong. The answer of scrub. */
static int guess(struct scrub *c, const char *text, size_t len)
{
	struct span in = span_of(text, len);
	struct span got;
	int r;

	do {
		r = scrub_piece(c, &in, 65536, &got);
	} while (r == 0 && (in.len > 0 || got.len > 0));
	return r;
}

TEST(a_value_that_is_guessed_at_is_cut)
{
	struct scrub *c, *other;
	unsigned right = 0;
	int r = 0;

	begin_with(value);
	c = new_scrub();
	/* what the placeholder shows, and what stands there by chance, is none */
	for (int i = 0; i < 100; i++) {
		CHECK_EQ(guess(c, "ghp_16C", 7), 0);
		CHECK_EQ(guess(c, ".", 1), 0);
	}
	/* nor is a value that is whole in the end */
	for (int i = 0; i < 100; i++) {
		CHECK_EQ(guess(c, value, 30), 0);
		CHECK_EQ(guess(c, value + 30, sizeof(value) - 31), 0);
	}
	while (r == 0 && right < 30) {
		r = guess(c, value, 8 + right++);
		if (r == 0)
			r = guess(c, ".", 1);
	}
	CHECK_EQ(r, -EACCES);
	CHECK_EQ(right, SCRUB_GUESSES_MAX + 1);
	CHECK_EQ(scrub_guessed(c), 0);
	scrub_free(c);
	/* nothing is to be learned any more, in whatever reply */
	other = new_scrub();
	CHECK_EQ(guess(other, value, 20), 0);
	CHECK_EQ(scrub_held(other), 0);
	scrub_free(other);
	CHECK_OK(store_set(s, span_str("TOKEN"), span_str(value), &e), &e);
	other = new_scrub();
	CHECK_EQ(guess(other, value, 20), 0);
	CHECK_EQ(scrub_held(other), 20);
	scrub_free(other);
}

/* Guesses that are left to stand, each in a reply of its own, in another form, with a whole one. */
TEST(guesses_that_hide_are_counted)
{
	struct scrub *c[SCRUB_GUESSES_MAX + 1];
	char hex[100];
	struct buf b;
	int r = 0;

	begin_with(value);
	for (unsigned i = 0; i < SCRUB_GUESSES_MAX; i++) {
		c[i] = new_scrub();
		CHECK_EQ(guess(c[i], value, 20), 0);
	}
	c[SCRUB_GUESSES_MAX] = new_scrub();
	CHECK_EQ(guess(c[SCRUB_GUESSES_MAX], value, 20), -EACCES);
	for (unsigned i = 0; i <= SCRUB_GUESSES_MAX; i++)
		scrub_free(c[i]);

	CHECK_OK(store_set(s, span_str("TOKEN"), span_str(value), &e), &e);
	c[0] = new_scrub();
	buf_init(&b, hex, sizeof(hex));
	form_put(&b, FORM_HEX_LOWER, span_str(value));
	for (unsigned i = 0; r == 0 && i < 20; i++) {
		r = guess(c[0], hex, 16 + i);
		if (r == 0)
			r = guess(c[0], " ghp_16C7e42F292c6912E7710c838347Ae178B4a ", 42);
	}
	CHECK_EQ(r, -EACCES);
	scrub_free(c[0]);
}

TEST(values_that_overlap_and_repeat)
{
	uint8_t room[1000];
	struct buf out;
	struct span got;

	begin_with("aaaaaaaaaaaa");
	CHECK_OK(store_set(s, span_str("B"), span_str("bbbbcccc"), &e), &e);
	CHECK_OK(store_set(s, span_str("C"), span_str("ccccdddd"), &e), &e);
	buf_init(&out, room, sizeof(room));
	got = whole(span_str("bbbbccccdddd and aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa."), &out);
	CHECK(!has(got, "bbbb", 4) && !has(got, "cccc", 4) && !has(got, "dddd", 4));
	CHECK(!has(got, "aaaaaaaa", 8));
}

TEST(marks_are_counted)
{
	uint8_t room[1000];
	struct egress_mark m;
	struct scrub *c;
	struct buf out;
	unsigned raw = 0, base64 = 0;

	begin_with(value);
	c = new_scrub();
	buf_init(&out, room, sizeof(room));
	feed(c, span_str(value), &out);
	feed(c, span_str(" "), &out);
	feed(c, span_str(value), &out);
	feed(c, span_str(" Z2hwXzE2QzdlNDJGMjkyYzY5MTJFNzcxMGM4MzgzNDdBZTE3OEI0YQ=="), &out);
	while (scrub_next_mark(c, &m)) {
		CHECK_SPAN(m.secret, "TOKEN");
		CHECK_EQ(m.where, EGRESS_IN_BODY);
		raw += m.form == EGRESS_RAW ? m.count : 0;
		base64 += m.form == EGRESS_BASE64 ? m.count : 0;
	}
	CHECK_EQ(raw, 2);
	CHECK_EQ(base64, 1);
	scrub_free(c);
}

TEST(SEC_6_in_heads_and_trailers)
{
	static struct http_head in, out;
	static struct http_trailers t, tout;
	struct egress_mark m;
	struct scrub *c;

	begin_with(value);
	c = new_scrub();
	in = (struct http_head){
		.status = 302, .framing = HTTP_BODY_LENGTH, .length = 5, .count = 3
	};
	in.fields[0] =
		(struct http_field){ span_str("location"),
		                     span_str("/?t=ghp_16C7e42F292c6912E7710c838347Ae178B4a&x=1") };
	in.fields[1] = (struct http_field){ span_str("ghp_16c7e42f292c6912e7710c838347ae178b4a"),
		                            span_str("1") };
	in.fields[2] = (struct http_field){ span_str("server"), span_str("one") };
	CHECK_EQ(scrub_head(c, &in, &out), 0);
	CHECK_EQ(out.count, 2);
	CHECK(has(out.fields[0].value, mark.at, mark.len));
	CHECK_EQ(out.fields[0].value.len, in.fields[0].value.len);
	CHECK_SPAN(out.fields[1].name, "server");
	CHECK_EQ(out.length, 5);
	t.count = 1;
	t.fields[0] = (struct http_field){ span_str("grpc-message"), span_str(value) };
	CHECK_EQ(scrub_trailers(c, &t, &tout), 0);
	CHECK_MEM(tout.fields[0].value, mark);
	CHECK(scrub_next_mark(c, &m) && m.where == EGRESS_IN_TRAILER);
	scrub_free(c);
}

static size_t packed_with(int window, struct span in, uint8_t *out, size_t size)
{
	z_stream z = { 0 };

	CHECK_EQ(deflateInit2(&z, 9, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_in = (Bytef *)(uintptr_t)in.at;
	z.avail_in = (uInt)in.len;
	z.next_out = out;
	z.avail_out = (uInt)size;
	CHECK_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
	size -= z.avail_out;
	deflateEnd(&z);
	return size;
}

TEST(SEC_6_in_a_compressed_reply)
{
	static struct http_head in, out;
	uint8_t plain[3000], packed[3000], room[3000];
	struct buf b, got;
	struct scrub *c;
	struct span piece, none;
	size_t len;

	begin_with(value);
	buf_init(&b, plain, sizeof(plain));
	for (int i = 0; i < 40; i++)
		buf_put_str(&b, "a reply that is long enough to be packed. ");
	buf_put_str(&b, value);
	len = packed_with(15 + 16, buf_span(&b), packed, sizeof(packed));
	in = (struct http_head){
		.status = 200, .framing = HTTP_BODY_LENGTH, .length = len, .count = 2
	};
	in.fields[0] = (struct http_field){ span_str("content-encoding"), span_str("gzip") };
	in.fields[1] = (struct http_field){ span_str("content-type"), span_str("text/plain") };
	c = new_scrub();
	CHECK_EQ(scrub_head(c, &in, &out), 0);
	CHECK_EQ(out.count, 1);
	CHECK_EQ(out.framing, HTTP_BODY_STREAM);
	buf_init(&got, room, sizeof(room));
	for (size_t i = 0; i < len; i++)
		feed(c, span_of(packed + i, 1), &got);
	finish(c, &got);
	CHECK_EQ(got.len, b.len);
	CHECK(has(buf_span(&got), mark.at, mark.len) && !has(buf_span(&got), value, 12));
	scrub_free(c);

	c = new_scrub();
	CHECK_EQ(scrub_head(c, &in, &out), 0);
	buf_reset(&got);
	feed(c, span_of(packed, len - 1), &got);
	CHECK_EQ(scrub_end(c, 1000, &piece), -EPROTO);
	scrub_free(c);

	c = new_scrub();
	CHECK_EQ(scrub_head(c, &in, &out), 0);
	piece = span_str("no gzip");
	CHECK_EQ(scrub_piece(c, &piece, 1000, &none), -EPROTO);
	scrub_free(c);

	c = new_scrub();
	in.fields[0].value = span_str("unheard-of");
	CHECK_EQ(scrub_head(c, &in, &out), -EPROTO);
	scrub_free(c);
}

TEST(the_longest_value_in_its_longest_form)
{
	static char big[16385];
	static uint8_t a[150000], b[150000];
	struct buf in, out;
	struct scrub *c;
	uint32_t seed = 5;

	for (size_t i = 0; i < 16384; i++)
		big[i] = (char)('a' + form_random(&seed) % 26);
	begin_with(big);
	c = new_scrub();
	buf_init(&in, a, sizeof(a));
	buf_put_str(&in, "begin:");
	form_put(&in, FORM_JSON_U, span_str(big));
	buf_put_str(&in, ":end");
	CHECK(buf_ok(&in));
	buf_init(&out, b, sizeof(b));
	for (size_t at = 0; at < in.len; at += 9000)
		feed(c, span_of(in.at + at, in.len - at < 9000 ? in.len - at : 9000), &out);
	finish(c, &out);
	CHECK_EQ(out.len, in.len);
	CHECK(!has(buf_span(&out), "\\u00", 4));
	CHECK(memcmp(out.at + out.len - 4, ":end", 4) == 0);
	scrub_free(c);
}

/* A server's frame. */
static void frame(struct buf *b, uint8_t first, const void *at, size_t len)
{
	buf_put_u8(b, first);
	if (len < 126) {
		buf_put_u8(b, (uint8_t)len);
	} else {
		buf_put_u8(b, 126);
		buf_put_u8(b, (uint8_t)(len >> 8));
		buf_put_u8(b, (uint8_t)len);
	}
	buf_put(b, at, len);
}

static void frames(struct buf *b, struct span text, size_t cut)
{
	frame(b, 0x81, "{\"type\": 1}", 11);
	frame(b, 0x01, "token: ", 7);
	frame(b, 0x00, text.at, cut);
	frame(b, 0x89, "ping", 4);
	frame(b, 0x00, text.at + cut, text.len - cut);
	frame(b, 0x80, "", 0);
	frame(b, 0x8a, text.at, text.len);
}

TEST(SEC_6_in_frames_of_a_websocket)
{
	static struct http_head in, out;
	uint8_t a[2000], b[2000], w[2000];
	struct buf wire, got, want;

	begin_with(value);
	in = (struct http_head){ .status = 101, .framing = HTTP_BODY_STREAM };
	for (size_t cut = 0; cut < mark.len; cut++)
		for (size_t piece = 1; piece < 60; piece += 7) {
			struct scrub *c = new_scrub();
			unsigned differ = 0;

			CHECK_EQ(scrub_head(c, &in, &out), 0);
			buf_init(&wire, a, sizeof(a));
			frames(&wire, span_str(value), cut);
			buf_init(&want, w, sizeof(w));
			frames(&want, mark, cut);
			buf_init(&got, b, sizeof(b));
			for (size_t at = 0; at < wire.len; at += piece)
				feed(c,
				     span_of(a + at, wire.len - at < piece ? wire.len - at : piece),
				     &got);
			finish(c, &got);
			CHECK_EQ(got.len, want.len);
			for (size_t i = 0; i < want.len; i++)
				differ += got.at[i] != want.at[i];
			CHECK(differ <= 6); /* three at most, of each of the two */
			scrub_free(c);
		}
}

TEST(a_message_goes_out_at_once)
{
	static struct http_head in, out;
	uint8_t a[200], b[200];
	struct buf wire, got;
	struct scrub *c;
	struct span bad = span_str("\xc1\x03zip");
	struct span none;

	begin_with(value);
	in = (struct http_head){ .status = 101, .framing = HTTP_BODY_STREAM };
	c = new_scrub();
	CHECK_EQ(scrub_head(c, &in, &out), 0);
	for (int i = 0; i < 10; i++) {
		buf_init(&wire, a, sizeof(a));
		frame(&wire, 0x81, "an answer that ends with gh", 27);
		buf_init(&got, b, sizeof(b));
		feed(c, buf_span(&wire), &got);
		CHECK_MEM(buf_span(&got), buf_span(&wire));
	}
	CHECK_EQ(scrub_piece(c, &bad, 100, &none), -EPROTO);
	scrub_free(c);
}

TEST_MAIN()
