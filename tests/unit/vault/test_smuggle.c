/*
 * What an attacker would try, beyond the forms the vault was made for. Each row says what is known
 * to happen; docs/internals/secrets.md has the same table and why. A row that says MISSED is not a
 * wish: it is checked too, so that the page stays true.
 */
#include "test.h"

#include "forms.h"
#include "vault/scan.h"
#include "vault/scrub.h"

#include <errno.h>
#include <zlib.h>

static struct store *s;
static struct span mark;
static struct err e;

static const char value[] = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";

enum fate { CAUGHT, MISSED };

static void base64_twice(struct buf *b, struct span t)
{
	uint8_t room[400];
	struct buf once;

	buf_init(&once, room, sizeof(room));
	form_base64(&once, t, "+/", true);
	form_base64(b, buf_span(&once), "+/", true);
}

static void hex_twice(struct buf *b, struct span t)
{
	uint8_t room[400];
	struct buf once;

	buf_init(&once, room, sizeof(room));
	form_put(&once, FORM_HEX_LOWER, t);
	form_put(b, FORM_HEX_LOWER, buf_span(&once));
}

static void base64_mime(struct buf *b, struct span t)
{
	uint8_t room[400];
	struct buf in;

	buf_init(&in, room, sizeof(room));
	for (int i = 0; i < 41; i++)
		buf_put_str(&in, "x");
	buf_put_span(&in, t);
	form_broken(b, buf_span(&in), "\r\n", 76);
}

static void base64_each_char_a_line(struct buf *b, struct span t)
{
	form_broken(b, t, "\r\n", 1);
}

static void base64_blanks(struct buf *b, struct span t)
{
	form_broken(b, t, " ", 4);
}

static void percent_case_mixed(struct buf *b, struct span t)
{
	for (size_t i = 0; i < t.len; i++)
		form_each(b, span_of(t.at + i, 1), i % 2 ? "%%%02X" : "%%%02x");
}

static void percent_thrice(struct buf *b, struct span t)
{
	form_each(b, t, "%%2525%02x");
}

static void json_in_json(struct buf *b, struct span t)
{
	buf_put_str(b, "{\"body\":\"{\\\"token\\\":\\\"");
	form_mixed(b, t, "\\\\u%04x", "\\\\u%04X");
	buf_put_str(b, "\\\"}\"}");
}

static void utf16_base64(struct buf *b, struct span t)
{
	uint8_t room[400];
	struct buf wide;

	buf_init(&wide, room, sizeof(room));
	form_put(&wide, FORM_UTF16_LE, t);
	form_base64(b, buf_span(&wide), "+/", true);
}

static void utf32(struct buf *b, struct span t)
{
	for (size_t i = 0; i < t.len; i++)
		buf_put_le32(b, t.at[i]);
}

static void gzip_base64(struct buf *b, struct span t)
{
	uint8_t room[400];
	z_stream z = { 0 };

	CHECK_EQ(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_in = (Bytef *)(uintptr_t)t.at;
	z.avail_in = (uInt)t.len;
	z.next_out = room;
	z.avail_out = sizeof(room);
	CHECK_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
	form_base64(b, span_of(room, sizeof(room) - z.avail_out), "+/", true);
	deflateEnd(&z);
}

static void quoted_all(struct buf *b, struct span t)
{
	form_each(b, t, "=%02X");
}

static void quoted_soft_breaks(struct buf *b, struct span t)
{
	form_quoted(b, t, 7);
}

static void hex_colons(struct buf *b, struct span t)
{
	form_each(b, t, "%02x:");
}

static void hex_mixed_case(struct buf *b, struct span t)
{
	for (size_t i = 0; i < t.len; i++)
		form_each(b, span_of(t.at + i, 1), i % 2 ? "%02X" : "%02x");
}

static void hex_lines(struct buf *b, struct span t)
{
	uint8_t room[400];
	struct buf in;

	buf_init(&in, room, sizeof(room));
	form_put(&in, FORM_HEX_LOWER, t);
	for (size_t i = 0; i < in.len; i++) {
		if (i % 32 == 31)
			buf_put_str(b, "\n");
		buf_put_u8(b, in.at[i]);
	}
}

static void reversed(struct buf *b, struct span t)
{
	for (size_t i = t.len; i > 0; i--)
		buf_put_u8(b, t.at[i - 1]);
}

static void rot13(struct buf *b, struct span t)
{
	for (size_t i = 0; i < t.len; i++) {
		uint8_t c = t.at[i];
		uint8_t l = c | 0x20;

		buf_put_u8(b, l >= 'a' && l <= 'z' ? (uint8_t)((l - 'a' + 13) % 26 + (c & ~0x20) -
		                                               (l & ~0x20) + (c & 0x20) + 'A')
		                                   : c);
	}
}

static void spaced(struct buf *b, struct span t)
{
	for (size_t i = 0; i < t.len; i++) {
		buf_put_u8(b, t.at[i]);
		buf_put_u8(b, ' ');
	}
}

static void in_halves(struct buf *b, struct span t)
{
	buf_put_span(b, span_of(t.at, t.len / 2));
	buf_put_str(b, "\",\"");
	buf_put_span(b, span_of(t.at + t.len / 2, t.len - t.len / 2));
}

static void folded_line(struct buf *b, struct span t)
{
	buf_put_span(b, span_of(t.at, t.len / 2));
	buf_put_str(b, "\r\n\t ");
	buf_put_span(b, span_of(t.at + t.len / 2, t.len - t.len / 2));
}

static void octal(struct buf *b, struct span t)
{
	form_each(b, t, "\\%03o");
}

static void html_padded(struct buf *b, struct span t)
{
	form_each(b, t, "&#x%04X;");
}

static void html_long(struct buf *b, struct span t)
{
	form_each(b, t, "&#%012d;");
}

static void percent_u(struct buf *b, struct span t)
{
	form_each(b, t, "%%u%04x");
}

static void one_char_escaped(struct buf *b, struct span t)
{
	buf_put_span(b, span_of(t.at, 9));
	form_each(b, span_of(t.at + 9, 1), "\\u%04x");
	buf_put_span(b, span_of(t.at + 10, t.len - 10));
}

static void percent_then_hexlike(struct buf *b, struct span t)
{
	buf_put_str(b, "100%");
	buf_put_span(b, t);
}

static void base64_of_percent(struct buf *b, struct span t)
{
	uint8_t room[400];
	struct buf in;

	buf_init(&in, room, sizeof(room));
	form_each(&in, t, "%%%02x");
	form_base64(b, buf_span(&in), "+/", true);
}

static const struct {
	const char *what;
	void (*put)(struct buf *b, struct span t);
	enum fate fate;
} tries[] = {
	{ "base64 in MIME lines", base64_mime, CAUGHT },
	{ "base64, a line for each character", base64_each_char_a_line, CAUGHT },
	{ "percent, case of digits mixed", percent_case_mixed, CAUGHT },
	{ "JSON within JSON", json_in_json, CAUGHT },
	{ "quoted-printable, every byte", quoted_all, CAUGHT },
	{ "quoted-printable, soft breaks", quoted_soft_breaks, CAUGHT },
	{ "hex, case mixed", hex_mixed_case, CAUGHT },
	{ "hex in lines", hex_lines, CAUGHT },
	{ "a folded line", folded_line, CAUGHT },
	{ "UTF-32", utf32, CAUGHT },
	{ "HTML, four digits", html_padded, CAUGHT },
	{ "one character escaped", one_char_escaped, CAUGHT },
	{ "behind a lone percent sign", percent_then_hexlike, CAUGHT },
	{ "base64 twice", base64_twice, MISSED },
	{ "hex twice", hex_twice, MISSED },
	{ "base64 with blanks", base64_blanks, MISSED },
	{ "percent three times", percent_thrice, MISSED },
	{ "base64 of UTF-16", utf16_base64, MISSED },
	{ "base64 of percent", base64_of_percent, MISSED },
	{ "gzip in base64", gzip_base64, MISSED },
	{ "hex with colons", hex_colons, MISSED },
	{ "reversed", reversed, MISSED },
	{ "ROT13", rot13, MISSED },
	{ "a blank behind each byte", spaced, MISSED },
	{ "in two strings", in_halves, MISSED },
	{ "octal escapes", octal, MISSED },
	{ "HTML, twelve digits", html_long, MISSED },
	{ "%uXXXX", percent_u, MISSED },
};

static void begin(void)
{
	CHECK_OK(store_new(&s, &e), &e);
	CHECK_OK(store_set(s, span_str("TOKEN"), span_str(value), &e), &e);
	mark = store_placeholder(s, span_str("TOKEN"));
}

static void wrap(struct buf *b, size_t i, struct span t)
{
	buf_put_str(b, "{\"echo\": \"");
	tries[i].put(b, t);
	buf_put_str(b, "\", \"more\": true}\n");
	CHECK(buf_ok(b));
}

TEST(placeholders_on_the_way_out)
{
	uint8_t room[3000];
	struct scan_hit hit;
	struct buf b;

	begin();
	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		buf_init(&b, room, sizeof(room));
		wrap(&b, i, mark);
		if (scan_text(s, buf_span(&b), &hit) != (tries[i].fate == CAUGHT))
			test_fail(__FILE__, __LINE__, "'%s' is not what is known of it",
			          tries[i].what);
	}
}

TEST(values_on_the_way_in)
{
	uint8_t room[3000];
	uint8_t was[3000];
	struct buf b;

	begin();
	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		struct span in, got;
		struct scrub *c;
		size_t at = 0;
		unsigned differ = 0;

		buf_init(&b, room, sizeof(room));
		wrap(&b, i, span_str(value));
		memcpy(was, room, b.len);
		in = buf_span(&b);
		CHECK_OK(scrub_new(s, &c, &e), &e);
		while (in.len > 0) {
			CHECK_EQ(scrub_piece(c, &in, sizeof(was), &got), 0);
			memcpy(was + at, got.at, got.len);
			at += got.len;
		}
		CHECK_EQ(scrub_end(c, sizeof(was), &got), 0);
		memcpy(was + at, got.at, got.len);
		at += got.len;
		CHECK_EQ(at, b.len);
		for (size_t k = 0; k < b.len; k++)
			differ += was[k] != room[k];
		scrub_free(c);
		if ((differ > 20) != (tries[i].fate == CAUGHT))
			test_fail(__FILE__, __LINE__, "'%s': %u bytes changed", tries[i].what,
			          differ);
	}
}

/* The gate may split a request as it likes: two halves in two requests are two halves. */
TEST(a_half_is_no_placeholder)
{
	struct scan_hit hit;

	begin();
	for (size_t n = 0; n < mark.len; n++) {
		CHECK(!scan_text(s, span_of(mark.at, n), &hit));
		CHECK(!scan_text(s, span_of(mark.at + mark.len - n, n), &hit));
	}
}

TEST_MAIN()
