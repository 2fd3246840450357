#include "base/buf.h"

#include "base/utf8.h"

#include <endian.h>
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
	v = htole16(v);
	buf_put(b, &v, sizeof(v));
}

void buf_put_le32(struct buf *b, uint32_t v)
{
	v = htole32(v);
	buf_put(b, &v, sizeof(v));
}

void buf_put_le64(struct buf *b, uint64_t v)
{
	v = htole64(v);
	buf_put(b, &v, sizeof(v));
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

static void put_json_hidden(struct buf *b, uint32_t v)
{
	if (v < 0x10000)
		buf_printf(b, "\\u%04x", v);
	else
		buf_printf(b, "\\u%04x\\u%04x", 0xd800 + ((v - 0x10000) >> 10),
		           0xdc00 + ((v - 0x10000) & 0x3ff));
}

static void put_json_char(struct buf *b, struct span s)
{
	uint32_t v = 0;

	(void)utf8_front(s, &v);
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
	/* what a terminal would obey or hide is escaped, as JSON may be looked at on one */
	if (utf8_deceives(v))
		put_json_hidden(b, v);
	else
		buf_put_span(b, s);
}

void buf_put_json_str(struct buf *b, struct span s)
{
	buf_put_u8(b, '"');
	while (s.len > 0 && !b->over) {
		size_t n = utf8_front(s, NULL);
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
		uint32_t v = 0;
		size_t n = utf8_front(s, &v);

		if (n == 0 || utf8_deceives(v)) {
			buf_printf(b, "\\x%02x", s.at[0]); /* what follows is no sequence now */
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
