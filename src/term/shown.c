#include "term/shown.h"

#include "base/utf8.h"

#include <assert.h>
#include <wchar.h>

enum { ESCAPE_COLUMNS = 4 }; /* \xNN */

/* -1: it has to be written out. */
static int columns_of(uint32_t c, shown_width_fn *width, enum shown_where where)
{
	int w;

	if (utf8_deceives(c))
		return -1;
	if (c < 0x80)
		return 1;
	w = width ? width(c) : -1;
	return w >= (int)where && w <= 2 ? w : -1;
}

struct shown shown_take(struct span *s, shown_width_fn *width, enum shown_where where)
{
	uint32_t c = 0;
	size_t len = utf8_front(*s, &c);
	int w = len > 0 ? columns_of(c, width, where) : -1;
	struct shown got = { .bytes = span_of(s->at, len > 0 ? len : 1) };

	assert(s->len > 0);
	s->at += got.bytes.len;
	s->len -= got.bytes.len;
	got.c = w >= 0 ? c : 0;
	got.columns = w >= 0 ? (unsigned)w : ESCAPE_COLUMNS * (unsigned)got.bytes.len;
	return got;
}

size_t shown_columns(struct span s, shown_width_fn *width, enum shown_where where)
{
	size_t all = 0;

	while (s.len > 0)
		all += shown_take(&s, width, where).columns;
	return all;
}

void shown_put(struct buf *b, const struct shown *one)
{
	if (one->c)
		buf_put_span(b, one->bytes);
	else
		for (size_t i = 0; i < one->bytes.len; i++)
			buf_printf(b, "\\x%02x", one->bytes.at[i]);
}

int shown_wcwidth(uint32_t c)
{
	return wcwidth((wchar_t)c);
}

int shown_line_width(uint32_t c)
{
	int w = shown_wcwidth(c);

	return w < 0 ? 2 : w;
}

void shown_locale_begin(struct shown_locale *l)
{
	l->utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
	l->before = l->utf8 ? uselocale(l->utf8) : (locale_t)0;
}

void shown_locale_end(struct shown_locale *l)
{
	if (!l->utf8)
		return;
	(void)uselocale(l->before);
	freelocale(l->utf8);
}
