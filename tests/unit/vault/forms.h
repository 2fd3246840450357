/*
 * forms: the ways in which a test writes a text, made without a look at how src/vault makes them.
 * Each appends to a buf of the caller's.
 */
#pragma once

#include "base/buf.h"

#include <string.h>

enum form {
	FORM_PLAIN,
	FORM_UPPER,
	FORM_PERCENT_UPPER,
	FORM_PERCENT_LOWER,
	FORM_PERCENT_MIXED, /* some bytes, either case of digits */
	FORM_PERCENT_TWICE,
	FORM_JSON_U,
	FORM_JSON_MIXED,
	FORM_JSON_TWICE,
	FORM_C_HEX,
	FORM_HTML_DECIMAL,
	FORM_HTML_HEX,
	FORM_HTML_LONG,  /* ten bytes for each */
	FORM_HTML_TWICE, /* the escape of an escape */
	FORM_HEX_LOWER,
	FORM_HEX_UPPER,
	FORM_BASE64_0,
	FORM_BASE64_1,
	FORM_BASE64_2,
	FORM_BASE64URL_0,
	FORM_BASE64URL_1,
	FORM_BASE64URL_2,
	FORM_BASE64_LINES,
	FORM_BASE64_JSON_LINES, /* base64 with \r\n written as escapes */
	FORM_BASE64_PERCENT,    /* base64, then +/= percent-encoded */
	FORM_UTF16_LE,
	FORM_UTF16_BE,
	FORM_QUOTED_PRINTABLE,
	FORM_QUOTED_LINES, /* and soft breaks */
	FORM_COUNT,
};

static inline void form_base64(struct buf *b, struct span s, const char *tail_digits, bool pad)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

	for (size_t i = 0; i < s.len; i += 3) {
		uint32_t v = 0;
		size_t n = s.len - i < 3 ? s.len - i : 3;

		for (size_t k = 0; k < 3; k++)
			v = v << 8 | (k < n ? s.at[i + k] : 0);
		for (size_t k = 0; k < 4; k++) {
			uint32_t d = v >> (18 - 6 * k) & 63;

			if (k <= n)
				buf_put_u8(b, (uint8_t)(d < 62 ? digits[d] : tail_digits[d - 62]));
			else if (pad)
				buf_put_u8(b, '=');
		}
	}
}

/* base64 of `align` other bytes, the text and one more byte. */
static inline void form_base64_at(struct buf *b, struct span s, unsigned align, bool url)
{
	uint8_t room[40000];
	struct buf in;

	buf_init(&in, room, sizeof(room));
	buf_put(&in, "\x07\xf3", align);
	buf_put_span(&in, s);
	buf_put_u8(&in, 0xe5);
	form_base64(b, buf_span(&in), url ? "-_" : "+/", !url);
}

static inline void form_broken(struct buf *b, struct span s, const char *brk, size_t every)
{
	uint8_t room[60000];
	struct buf in;

	buf_init(&in, room, sizeof(room));
	form_base64(&in, s, "+/", true);
	for (size_t i = 0; i < in.len; i++) {
		if (i > 0 && i % every == 0)
			buf_put_str(b, brk);
		buf_put_u8(b, in.at[i]);
	}
}

static inline void form_each(struct buf *b, struct span s, const char *format)
{
	for (size_t i = 0; i < s.len; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		buf_printf(b, format, s.at[i]);
#pragma GCC diagnostic pop
	}
}

static inline void form_mixed(struct buf *b, struct span s, const char *one, const char *two)
{
	for (size_t i = 0; i < s.len; i++)
		if (i % 5 == 1)
			form_each(b, span_of(s.at + i, 1), one);
		else if (i % 5 == 3)
			form_each(b, span_of(s.at + i, 1), two);
		else
			buf_put_u8(b, s.at[i]);
}

static inline void form_quoted(struct buf *b, struct span s, size_t every)
{
	for (size_t i = 0; i < s.len; i++) {
		if (every > 0 && i > 0 && i % every == 0)
			buf_put_str(b, "=\r\n");
		if (i % 3 == 0 || s.at[i] == '=')
			form_each(b, span_of(s.at + i, 1), "=%02X");
		else
			buf_put_u8(b, s.at[i]);
	}
}

static inline void form_upper(struct buf *b, struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		buf_put_u8(b,
		           (uint8_t)(s.at[i] >= 'a' && s.at[i] <= 'z' ? s.at[i] ^ 0x20 : s.at[i]));
}

static inline void form_put(struct buf *b, enum form form, struct span s)
{
	uint8_t room[60000];
	struct buf in;

	buf_init(&in, room, sizeof(room));
	switch (form) {
	case FORM_PLAIN:
		return buf_put_span(b, s);
	case FORM_UPPER:
		return form_upper(b, s);
	case FORM_PERCENT_UPPER:
		return form_each(b, s, "%%%02X");
	case FORM_PERCENT_LOWER:
		return form_each(b, s, "%%%02x");
	case FORM_PERCENT_MIXED:
		return form_mixed(b, s, "%%%02X", "%%%02x");
	case FORM_PERCENT_TWICE:
		return form_each(b, s, "%%25%02x");
	case FORM_JSON_U:
		return form_each(b, s, "\\u%04x");
	case FORM_JSON_MIXED:
		return form_mixed(b, s, "\\u%04X", "\\u%04x");
	case FORM_JSON_TWICE:
		return form_mixed(b, s, "\\\\u%04X", "\\\\u%04x");
	case FORM_C_HEX:
		return form_each(b, s, "\\x%02x");
	case FORM_HTML_DECIMAL:
		return form_each(b, s, "&#%d;");
	case FORM_HTML_HEX:
		return form_mixed(b, s, "&#x%X;", "&#x%04x;");
	case FORM_HTML_LONG:
		return form_each(b, s, "&#x%06X;");
	case FORM_HTML_TWICE:
		return form_each(b, s, "%%26%%23%d%%3B");
	case FORM_HEX_LOWER:
		return form_each(b, s, "%02x");
	case FORM_HEX_UPPER:
		return form_each(b, s, "%02X");
	case FORM_BASE64_0:
	case FORM_BASE64_1:
	case FORM_BASE64_2:
		return form_base64_at(b, s, form - FORM_BASE64_0, false);
	case FORM_BASE64URL_0:
	case FORM_BASE64URL_1:
	case FORM_BASE64URL_2:
		return form_base64_at(b, s, form - FORM_BASE64URL_0, true);
	case FORM_BASE64_LINES:
		return form_broken(b, s, "\r\n", 19);
	case FORM_BASE64_JSON_LINES:
		return form_broken(b, s, "\\r\\n", 19);
	case FORM_BASE64_PERCENT:
		form_base64_at(&in, s, 1, false);
		return form_mixed(b, buf_span(&in), "%%%02X", "%%%02X");
	case FORM_UTF16_LE:
	case FORM_UTF16_BE:
		for (size_t i = 0; i < s.len; i++) {
			if (form == FORM_UTF16_BE)
				buf_put_u8(b, 0);
			buf_put_u8(b, s.at[i]);
			if (form == FORM_UTF16_LE)
				buf_put_u8(b, 0);
		}
		return;
	case FORM_QUOTED_PRINTABLE:
		return form_quoted(b, s, 0);
	case FORM_QUOTED_LINES:
		return form_quoted(b, s, 10);
	case FORM_COUNT:
		return;
	}
}

/* Small and repeatable: xorshift. */
static inline uint32_t form_random(uint32_t *seed)
{
	uint32_t x = *seed;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return *seed = x;
}
