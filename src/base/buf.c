#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void buf_init(struct buf *b, void *storage, size_t size)
{
	*b = (struct buf){ .at = storage, .size = size };
}

void buf_reset(struct buf *b)
{
	b->len = 0;
	b->over = false;
}

static bool room(struct buf *b, size_t len)
{
	if (b->over || len > b->size - b->len)
		b->over = true;
	return !b->over;
}

void buf_put(struct buf *b, const void *data, size_t len)
{
	if (!room(b, len) || len == 0)
		return;
	memcpy(b->at + b->len, data, len);
	b->len += len;
}

void buf_put_span(struct buf *b, struct span s)
{
	buf_put(b, s.at, s.len);
}

void buf_put_u8(struct buf *b, uint8_t v)
{
	buf_put(b, &v, 1);
}

void buf_put_le16(struct buf *b, uint16_t v)
{
	uint8_t raw[2] = { (uint8_t)v, (uint8_t)(v >> 8) };

	buf_put(b, raw, sizeof(raw));
}

void buf_put_le32(struct buf *b, uint32_t v)
{
	uint8_t raw[4] = { (uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24) };

	buf_put(b, raw, sizeof(raw));
}

void buf_put_le64(struct buf *b, uint64_t v)
{
	uint8_t raw[8];

	for (unsigned i = 0; i < sizeof(raw); i++)
		raw[i] = (uint8_t)(v >> (8 * i));
	buf_put(b, raw, sizeof(raw));
}

void buf_put_str(struct buf *b, const char *s)
{
	buf_put(b, s, strlen(s));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (b->over)
		return;
	va_start(ap, fmt);
	n = vsnprintf((char *)b->at + b->len, b->size - b->len, fmt, ap);
	va_end(ap);
	/* vsnprintf wants room for its NUL, which we do not keep */
	if (n < 0 || (size_t)n >= b->size - b->len)
		b->over = true;
	else
		b->len += (size_t)n;
}

void buf_put_str16(struct buf *b, struct span s)
{
	if (s.len > UINT16_MAX || !room(b, s.len + 2)) {
		b->over = true;
		return;
	}
	buf_put_le16(b, (uint16_t)s.len);
	buf_put_span(b, s);
}

/*
 * Length of the valid UTF-8 sequence at the front of s, or 0. Refuses overlong forms,
 * surrogates and anything above U+10FFFF. Source: Unicode 15, table 3-7.
 */
static size_t utf8_len(struct span s)
{
	static const struct {
		uint8_t first, last; /* of the lead byte */
		uint8_t low, high;   /* of the second byte */
		uint8_t len;
	} rows[] = {
		{ 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 },
		{ 0xe1, 0xec, 0x80, 0xbf, 3 }, { 0xed, 0xed, 0x80, 0x9f, 3 },
		{ 0xee, 0xef, 0x80, 0xbf, 3 }, { 0xf0, 0xf0, 0x90, 0xbf, 4 },
		{ 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};

	if (s.at[0] < 0x80)
		return 1;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (s.at[0] < rows[i].first || s.at[0] > rows[i].last)
			continue;
		if (s.len < rows[i].len || s.at[1] < rows[i].low || s.at[1] > rows[i].high)
			return 0;
		for (size_t k = 2; k < rows[i].len; k++)
			if ((s.at[k] & 0xc0) != 0x80)
				return 0;
		return rows[i].len;
	}
	return 0;
}

static void put_json_char(struct buf *b, struct span s)
{
	switch (s.at[0]) {
	case '"':
		buf_put_str(b, "\\\"");
		return;
	case '\\':
		buf_put_str(b, "\\\\");
		return;
	case '\n':
		buf_put_str(b, "\\n");
		return;
	case '\t':
		buf_put_str(b, "\\t");
		return;
	default:
		break;
	}
	/* what a terminal would obey is escaped, as JSON may be looked at on one: C0, DEL and C1 */
	if (s.at[0] < 0x20 || s.at[0] == 0x7f)
		buf_printf(b, "\\u%04x", s.at[0]);
	else if (s.len == 2 && s.at[0] == 0xc2 && s.at[1] < 0xa0)
		buf_printf(b, "\\u%04x", s.at[1]);
	else
		buf_put_span(b, s);
}

void buf_put_json_str(struct buf *b, struct span s)
{
	buf_put_u8(b, '"');
	while (s.len > 0 && !b->over) {
		size_t n = utf8_len(s);
		struct span c;

		if (n == 0) {
			buf_put_str(b, "\\ufffd");
			n = 1;
		} else {
			c = span_of(s.at, n);
			put_json_char(b, c);
		}
		s.at += n;
		s.len -= n;
	}
	buf_put_u8(b, '"');
}

void buf_put_escaped(struct buf *b, struct span s)
{
	while (s.len > 0 && !b->over) {
		size_t n = utf8_len(s);
		/* U+0080..U+009F are terminal controls too (C1), in UTF-8 c2 80 .. c2 9f */
		bool c1 = n == 2 && s.at[0] == 0xc2 && s.at[1] < 0xa0;

		if (n == 0 || c1 || s.at[0] < 0x20 || s.at[0] == 0x7f) {
			buf_printf(b, "\\x%02x", s.at[0]);
			n = 1;
		} else {
			buf_put(b, s.at, n);
		}
		s.at += n;
		s.len -= n;
	}
}

const char *buf_cstr(struct buf *b)
{
	if (b->over || b->len >= b->size) {
		b->over = true;
		return "";
	}
	b->at[b->len] = '\0';
	return (const char *)b->at;
}
