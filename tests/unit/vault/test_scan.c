#include "test.h"

#include "forms.h"
#include "vault/scan.h"

#include <errno.h>
#include <zlib.h>

static struct store *s;
static struct span mark; /* the placeholder of TOKEN */
static struct err e;
static struct scan_hit hit;

static void begin(void)
{
	CHECK_OK(store_new(&s, &e), &e);
	CHECK_OK(store_set(s, span_str("OTHER"), span_str("sk-ant-api03-0000000000000000000000"),
	                   &e),
	         &e);
	CHECK_OK(store_set(s, span_str("TOKEN"),
	                   span_str("ghp_16C7e42F292c6912E7710c838347Ae178B4a"), &e),
	         &e);
	mark = store_placeholder(s, span_str("TOKEN"));
}

static struct scan *new_scan(void)
{
	struct scan *c;

	CHECK_OK(scan_new(s, NULL, &c, &e), &e);
	return c;
}

static const struct {
	enum form form;
	uint8_t named;
} named[] = {
	{ FORM_PLAIN, EGRESS_RAW },
	{ FORM_UPPER, EGRESS_RAW },
	{ FORM_PERCENT_UPPER, EGRESS_PERCENT },
	{ FORM_JSON_U, EGRESS_JSON },
	{ FORM_HEX_UPPER, EGRESS_HEX },
	{ FORM_BASE64_1, EGRESS_BASE64 },
	{ FORM_BASE64URL_2, EGRESS_BASE64 },
	{ FORM_HTML_DECIMAL, EGRESS_JSON },
};

TEST(SEC_4_every_form_in_one_piece)
{
	uint8_t room[2000];
	struct buf b;

	begin();
	for (enum form f = 0; f < FORM_COUNT; f++) {
		buf_init(&b, room, sizeof(room));
		buf_put_str(&b, "{\"a\": \"xyz ");
		form_put(&b, f, mark);
		buf_put_str(&b, " and more\"}");
		if (!scan_text(s, buf_span(&b), &hit))
			test_fail(__FILE__, __LINE__, "form %d is not found", (int)f);
		CHECK_SPAN(hit.secret, "TOKEN");
		for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++)
			CHECK(named[i].form != f || named[i].named == hit.form);
	}
}

TEST(SEC_5_every_form_split_anywhere)
{
	uint8_t room[2000];
	struct buf b;

	begin();
	for (enum form f = 0; f < FORM_COUNT; f++) {
		buf_init(&b, room, sizeof(room));
		buf_put_str(&b, "before ");
		form_put(&b, f, mark);
		buf_put_str(&b, "~after");
		for (size_t cut = 1; cut < b.len; cut++) {
			struct scan *c = new_scan();
			int r = scan_piece(c, span_of(b.at, cut), &hit);

			if (r == 0)
				r = scan_piece(c, span_of(b.at + cut, b.len - cut), &hit);
			if (r != -EPERM)
				test_fail(__FILE__, __LINE__, "form %d, cut at %zu", (int)f, cut);
			CHECK_EQ(hit.where, EGRESS_IN_BODY);
			scan_free(c);
		}
	}
}

TEST(byte_by_byte_and_the_last_one_is_refused)
{
	struct scan *c;

	begin();
	c = new_scan();
	CHECK_EQ(scan_piece(c, span_str("token="), &hit), 0);
	for (size_t i = 0; i + 1 < mark.len; i++)
		CHECK_EQ(scan_piece(c, span_of(mark.at + i, 1), &hit), 0);
	CHECK_EQ(scan_piece(c, span_of(mark.at + mark.len - 1, 1), &hit), -EPERM);
	CHECK_SPAN(hit.secret, "TOKEN");
	scan_free(c);
}

TEST(nothing_in_what_only_looks_like_one)
{
	char near[200];
	struct scan *c;

	begin();
	memcpy(near, mark.at, mark.len);
	for (size_t i = 0; i < mark.len; i++) {
		near[i] ^= 1;
		CHECK(!scan_text(s, span_of(near, mark.len), &hit));
		CHECK(!scan_text(s, span_of(mark.at, i), &hit));
		near[i] ^= 1;
	}
	c = new_scan();
	for (int i = 0; i < 300; i++) {
		CHECK_EQ(scan_piece(c, span_of(mark.at, mark.len - 1), &hit), 0);
		CHECK_EQ(scan_piece(c, span_str("!"), &hit), 0);
	}
	scan_free(c);
}

TEST(a_removed_secret_is_still_looked_for)
{
	begin();
	CHECK_EQ(store_remove(s, span_str("TOKEN")), 0);
	CHECK(scan_text(s, mark, &hit));
	CHECK_SPAN(hit.secret, "TOKEN");
}

TEST(an_empty_store_finds_nothing)
{
	struct http_head head = { .framing = HTTP_BODY_STREAM, .count = 1 };
	struct scan *c;

	CHECK_OK(store_new(&s, &e), &e);
	head.fields[0] =
		(struct http_field){ span_str("content-encoding"), span_str("unheard-of") };
	CHECK_OK(scan_new(s, &head, &c, &e), &e);
	CHECK_EQ(scan_piece(c, span_str("ghp_16C7e42F292c6912E7710c838347Ae178B4a"), &hit), 0);
	CHECK_EQ(scan_end(c), 0);
	scan_free(c);
}

TEST(long_texts_and_long_pieces)
{
	enum { BYTES = 300000 };
	static uint8_t big[BYTES];
	struct scan *c;

	begin();
	memset(big, 'g', sizeof(big));
	CHECK(!scan_text(s, span_of(big, BYTES), &hit));
	for (size_t at = 16370; at < 16400; at++) {
		memcpy(big + at, mark.at, mark.len);
		CHECK(scan_text(s, span_of(big, BYTES), &hit));
		c = new_scan();
		CHECK_EQ(scan_piece(c, span_of(big, at + mark.len - 1), &hit), 0);
		CHECK_EQ(scan_piece(c, span_of(big + at + mark.len - 1, 1), &hit), -EPERM);
		scan_free(c);
		memset(big + at, 'g', mark.len);
	}
}

static size_t gzipped(struct span in, uint8_t *out, size_t size)
{
	z_stream z = { 0 };

	CHECK_EQ(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_in = (Bytef *)(uintptr_t)in.at;
	z.avail_in = (uInt)in.len;
	z.next_out = out;
	z.avail_out = (uInt)size;
	CHECK_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
	size -= z.avail_out;
	deflateEnd(&z);
	return size;
}

TEST(SEC_4_in_a_compressed_body)
{
	struct http_head head = { .framing = HTTP_BODY_STREAM, .count = 1 };
	uint8_t plain[3000];
	uint8_t packed[4000];
	struct scan *c;
	struct buf b;
	size_t len;
	int r = 0;

	begin();
	head.fields[0] = (struct http_field){ span_str("content-encoding"), span_str("gzip") };
	buf_init(&b, plain, sizeof(plain));
	for (int i = 0; i < 50; i++)
		buf_put_str(&b, "some text that is packed well. ");
	len = gzipped(buf_span(&b), packed, sizeof(packed));
	CHECK_OK(scan_new(s, &head, &c, &e), &e);
	CHECK_EQ(scan_piece(c, span_of(packed, len), &hit), 0);
	CHECK_EQ(scan_end(c), 0);
	scan_free(c);

	CHECK_OK(scan_new(s, &head, &c, &e), &e);
	CHECK_EQ(scan_piece(c, span_of(packed, len - 1), &hit), 0);
	CHECK_EQ(scan_end(c), -EPROTO);
	scan_free(c);

	buf_put_span(&b, mark);
	len = gzipped(buf_span(&b), packed, sizeof(packed));
	CHECK_OK(scan_new(s, &head, &c, &e), &e);
	for (size_t i = 0; i < len && r == 0; i++)
		r = scan_piece(c, span_of(packed + i, 1), &hit);
	CHECK_EQ(r, -EPERM);
	scan_free(c);

	CHECK_OK(scan_new(s, &head, &c, &e), &e);
	CHECK_EQ(scan_piece(c, span_str("this is no gzip"), &hit), -EPROTO);
	scan_free(c);
	head.fields[0].value = span_str("unheard-of");
	CHECK_EQ(scan_new(s, &head, &c, &e), -EPROTO);
	head.fields[0].value = span_str("gzip, gzip");
	CHECK_EQ(scan_new(s, &head, &c, &e), -EPROTO);
}

TEST(in_trailers)
{
	struct http_trailers t = { .count = 2 };
	struct scan *c;

	begin();
	c = new_scan();
	t.fields[0] = (struct http_field){ span_str("grpc-status"), span_str("0") };
	t.fields[1] = (struct http_field){ span_str("grpc-message"), span_str("fine") };
	CHECK_EQ(scan_trailers(c, &t, &hit), 0);
	t.fields[1].value = mark;
	CHECK_EQ(scan_trailers(c, &t, &hit), -EPERM);
	CHECK_EQ(hit.where, EGRESS_IN_TRAILER);
	scan_free(c);
}

/* A client's frame. */
static void frame(struct buf *b, uint8_t first, struct span payload)
{
	static const uint8_t key[4] = { 0x12, 0xa4, 0x00, 0xff };

	buf_put_u8(b, first);
	if (payload.len < 126) {
		buf_put_u8(b, (uint8_t)(0x80 | payload.len));
	} else {
		buf_put_u8(b, 0x80 | 126);
		buf_put_u8(b, (uint8_t)(payload.len >> 8));
		buf_put_u8(b, (uint8_t)payload.len);
	}
	buf_put(b, key, 4);
	for (size_t i = 0; i < payload.len; i++)
		buf_put_u8(b, payload.at[i] ^ key[i % 4]);
}

TEST(SEC_5_in_frames_of_a_websocket)
{
	uint8_t room[2000];
	struct buf b;

	begin();
	for (size_t cut = 0; cut < mark.len; cut++)
		for (unsigned piece = 1; piece < 40; piece += 6) {
			struct scan *c = new_scan();
			int r = 0;

			scan_upgrade(c);
			buf_init(&b, room, sizeof(room));
			frame(&b, 0x81, span_str("hello"));
			frame(&b, 0x02, span_of(mark.at, cut));
			frame(&b, 0x89, span_str("ping"));
			frame(&b, 0x80, span_of(mark.at + cut, mark.len - cut));
			for (size_t at = 0; at < b.len && r == 0; at += piece)
				r = scan_piece(
					c,
					span_of(b.at + at, b.len - at < piece ? b.len - at : piece),
					&hit);
			CHECK_EQ(r, -EPERM);
			CHECK_EQ(hit.where, EGRESS_IN_OPAQUE);
			scan_free(c);
		}
}

TEST(frames_that_cannot_be_read_are_refused)
{
	static const uint8_t bad[][8] = {
		{ 0xc1, 0x80 },          /* compressed */
		{ 0x83, 0x80 },          /* no such opcode */
		{ 0x81, 0x05 },          /* not masked */
		{ 0x09, 0x80 },          /* a ping in parts */
		{ 0x89, 0xfe },          /* a ping too long */
		{ 0x81, 0xfe, 0x00, 1 }, /* a length written too long */
	};
	uint8_t room[400];
	struct scan *c;
	struct buf b;

	begin();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		c = new_scan();
		scan_upgrade(c);
		CHECK_EQ(scan_piece(c, span_of(bad[i], 8), &hit), -EPROTO);
		scan_free(c);
	}
	c = new_scan();
	scan_upgrade(c);
	buf_init(&b, room, sizeof(room));
	frame(&b, 0x8a, mark);
	CHECK_EQ(scan_piece(c, buf_span(&b), &hit), -EPERM);
	scan_free(c);
}

TEST_MAIN()
