#include "guardpage.h"
#include "http/h1.h"
#include "test.h"

#include <errno.h>
#include <string.h>

struct got {
	uint8_t data[8192];
	size_t len;
	size_t used; /* up to and with the last chunk's line */
	int r;
	enum http_reason why;
};

/* Feeds `piece` bytes at a time, each piece against a guard page. */
static void decode(struct span in, size_t piece, struct got *g)
{
	struct chunk c = { 0 };

	memset(g, 0, sizeof(*g));
	g->r = -EAGAIN;
	for (size_t at = 0; at < in.len && g->r == -EAGAIN; at += piece) {
		size_t n = in.len - at < piece ? in.len - at : piece;
		uint8_t *copy = guard_copy(in.at + at, n);
		struct span s = span_of(copy, n);
		struct span data;

		while ((g->r = chunk_parse(&c, &s, &data)) == 0 && data.len > 0) {
			memcpy(g->data + g->len, data.at, data.len);
			g->len += data.len;
		}
		g->used = at + n - s.len;
		guard_free(copy, n);
	}
	g->why = c.why;
}

static void bad(const char *text, enum http_reason why)
{
	for (size_t piece = 1; piece < 40; piece += 13) {
		struct got g;

		decode(span_str(text), piece, &g);
		CHECK_EQ(g.r, -EBADMSG);
		CHECK_STR(http_reason_word(g.why), http_reason_word(why));
	}
}

TEST(http_4_chunks_in_any_pieces)
{
	struct span in =
		span_str("5\r\nhello\r\n1;a\r\n \r\n00C;b=c;d=\"e\\\"\t;\"\r\nworld\r\n\r\nabc\r\n"
	                 "0\r\nrest");

	for (size_t piece = 1; piece <= in.len; piece++) {
		struct got g;

		decode(in, piece, &g);
		CHECK_EQ(g.r, 0);
		CHECK_MEM(span_of(g.data, g.len), span_str("hello world\r\n\r\nabc"));
		CHECK_EQ(g.used, in.len - 4);
	}
	for (size_t len = 0; len < in.len - 4; len++) {
		struct got g;

		decode(span_of(in.at, len), 1, &g);
		CHECK_EQ(g.r, -EAGAIN);
	}
}

TEST(http_1_what_is_no_chunk)
{
	bad("\r\n", HTTP_CHUNK_SIZE);
	bad("g\r\n", HTTP_CHUNK_SIZE);
	bad("0x5\r\n", HTTP_CHUNK_SIZE);
	bad("+5\r\n", HTTP_CHUNK_SIZE);
	bad("-1\r\n", HTTP_CHUNK_SIZE);
	bad(" 5\r\n", HTTP_CHUNK_SIZE);
	bad("5 \r\nhello", HTTP_CHUNK_SIZE);
	bad("5_0\r\n", HTTP_CHUNK_SIZE);
	bad("000000005\r\n", HTTP_CHUNK_SIZE);
	bad("ffffffffffffffff5\r\n", HTTP_CHUNK_SIZE);
	bad("5\nhello", HTTP_BARE_LF);
	bad("5\rhello", HTTP_BARE_CR);
	bad("5;a\nhello", HTTP_BARE_LF);
	bad("5;a\rhello", HTTP_BARE_CR);
	bad("5\r\nhello\n0\r\n", HTTP_CHUNK_END);
	bad("5\r\nhello\r0", HTTP_CHUNK_END);
	bad("5\r\nhello!\r\n", HTTP_CHUNK_END);
	bad("5\r\nhello0\r\n", HTTP_CHUNK_END);
	bad("5;\r\n", HTTP_CHUNK_EXTENSION);
	bad("5; a\r\n", HTTP_CHUNK_EXTENSION);
	bad("5;a =b\r\n", HTTP_CHUNK_EXTENSION);
	bad("5;a= b\r\n", HTTP_CHUNK_EXTENSION);
	bad("5;a=\r\n", HTTP_CHUNK_EXTENSION);
	bad("5;a=\"\r\n\"\r\n", HTTP_CHUNK_EXTENSION);
	bad("5;a=\"b\"c\r\n", HTTP_CHUNK_EXTENSION);
	bad("5;a=b=c\r\n", HTTP_CHUNK_EXTENSION);
	bad("5;;a\r\n", HTTP_CHUNK_EXTENSION);
}

TEST(extensions_are_bounded)
{
	uint8_t text[HTTP_CHUNK_LINE_MAX + 64];
	struct buf b;
	struct got g;
	struct chunk c = { 0 };
	unsigned lines = 0;
	int r = 0;

	for (int more = 0; more < 2; more++) {
		buf_init(&b, text, sizeof(text));
		buf_put_str(&b, "1;");
		for (int i = 0; i < HTTP_CHUNK_LINE_MAX - 1 + more; i++)
			buf_put_u8(&b, 'x'); /* the CR counts */
		buf_put_str(&b, "\r\na\r\n");
		decode(buf_span(&b), 7, &g);
		CHECK_EQ(g.r, more ? -EBADMSG : -EAGAIN);
	}
	buf_init(&b, text, sizeof(text));
	buf_put_str(&b, "1;123456\r\na\r\n"); /* 7 bytes of an extension, to its CR */
	while (r != -EBADMSG && lines < 10000) {
		struct span s = buf_span(&b);
		struct span data;

		while ((r = chunk_parse(&c, &s, &data)) == 0)
			;
		lines++;
	}
	CHECK_EQ(lines, HTTP_CHUNK_EXTS_MAX / 7 + 1);
	CHECK_EQ(c.why, HTTP_CHUNK_EXTENSION);
}

TEST_MAIN()
