#include "vault/view.h"

#include <string.h>

enum { KEEP = 0, UNFINISHED = -1 };

static int hex_value(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* `digits` hex digits at in[at]. True: *ret is their number. False: *ret_short if in ends there. */
static bool take_hex(struct span in, size_t at, unsigned digits, unsigned *ret, bool *ret_short)
{
	unsigned got = 0;

	*ret_short = false;
	for (size_t i = at; i < at + digits; i++) {
		int v;

		if (i >= in.len) {
			*ret_short = true;
			return false;
		}
		v = hex_value(in.at[i]);
		if (v < 0)
			return false;
		got = got << 4 | (unsigned)v;
	}
	*ret = got;
	return true;
}

/* The width of an escape with that many bytes in front of its digits, or KEEP or UNFINISHED. */
static int hex_escape(struct span in, unsigned front, unsigned digits, uint8_t *ret)
{
	bool is_short;
	unsigned v;

	if (!take_hex(in, front, digits, &v, &is_short))
		return is_short ? UNFINISHED : KEEP;
	if (v > 255)
		return KEEP;
	*ret = (uint8_t)v;
	return (int)(front + digits);
}

static int backslash(struct span in, uint8_t *ret)
{
	static const char short_from[] = "\"\\/'nrt";
	static const char short_to[] = "\"\\/'\n\r\t";
	const char *s;

	if (in.len < 2)
		return UNFINISHED;
	if (in.at[1] == 'u')
		return hex_escape(in, 2, 4, ret);
	if (in.at[1] == 'x')
		return hex_escape(in, 2, 2, ret);
	s = in.at[1] ? strchr(short_from, in.at[1]) : NULL;
	if (!s)
		return KEEP;
	*ret = (uint8_t)short_to[s - short_from];
	return 2;
}

/* &#65; &#x41; with leading zeros, as many as fit. */
static int html_number(struct span in, uint8_t *ret)
{
	bool is_hex = in.len > 2 && (in.at[2] | 0x20) == 'x';
	unsigned base = is_hex ? 16 : 10;
	size_t first = is_hex ? 3 : 2;
	unsigned got = 0;

	for (size_t i = first; i < VIEW_ESCAPE_MAX; i++) {
		int v;

		if (i >= in.len)
			return UNFINISHED;
		if (in.at[i] == ';') {
			*ret = (uint8_t)got;
			return i > first && got < 256 ? (int)i + 1 : KEEP;
		}
		v = hex_value(in.at[i]);
		if (v < 0 || (unsigned)v >= base || got > 255)
			return KEEP;
		got = got * base + (unsigned)v;
	}
	return KEEP;
}

static int ampersand(struct span in, uint8_t *ret)
{
	static const struct {
		const char *name;
		char c;
	} names[] = {
		{ "&amp;", '&' },   { "&lt;", '<' },   { "&gt;", '>' },  { "&quot;", '"' },
		{ "&apos;", '\'' }, { "&plus;", '+' }, { "&sol;", '/' }, { "&equals;", '=' },
	};

	if (in.len < 2)
		return UNFINISHED;
	if (in.at[1] == '#')
		return html_number(in, ret);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t len = strlen(names[i].name);
		size_t common = len < in.len ? len : in.len;

		if (memcmp(in.at, names[i].name, common) != 0)
			continue;
		if (common < len)
			return UNFINISHED;
		*ret = (uint8_t)names[i].c;
		return (int)len;
	}
	return KEEP;
}

/* The escape that `in` begins with: its width, KEEP if it is none, UNFINISHED. */
static int escape(struct span in, uint8_t *ret)
{
	switch (in.at[0]) {
	case '%':
	case '=':
		return hex_escape(in, 1, 2, ret);
	case '\\':
		return backslash(in, ret);
	default:
		return ampersand(in, ret);
	}
}

/* Where the next of up to three kinds of bytes stands. Each is searched for by itself. */
struct hunt {
	struct span in;
	unsigned kinds;
	uint8_t first[3];
	size_t next[3];
};

static void hunt_begin(struct hunt *h, struct span in, const char *first, unsigned kinds)
{
	*h = (struct hunt){ .in = in, .kinds = kinds };
	memcpy(h->first, first, kinds);
	for (unsigned k = 0; k < kinds; k++) {
		const uint8_t *p = in.len > 0 ? memchr(in.at, h->first[k], in.len) : NULL;

		h->next[k] = p ? (size_t)(p - in.at) : in.len;
	}
}

static size_t hunt_next(struct hunt *h, size_t from)
{
	size_t best = h->in.len;

	for (unsigned k = 0; k < h->kinds; k++) {
		if (h->next[k] < from) {
			const uint8_t *p = memchr(h->in.at + from, h->first[k], h->in.len - from);

			h->next[k] = p ? (size_t)(p - h->in.at) : h->in.len;
		}
		if (h->next[k] < best)
			best = h->next[k];
	}
	return best;
}

static bool is_base64(uint8_t c)
{
	return ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
	       c == '/' || c == '-' || c == '_' || c == '=';
}

/* Do `before` of base64 and after it nothing but an escape of CR stand in front of in.at[at]? */
static bool behind_base64(struct span in, size_t at, bool after_break)
{
	if (after_break)
		return true;
	if (at < VIEW_LINE_MIN)
		return false;
	for (size_t i = at - VIEW_LINE_MIN; i < at; i++)
		if (!is_base64(in.at[i]))
			return false;
	return true;
}

/* May the escape of c, which ends at in.at[end], be part of a needle? */
static bool matters(const struct view *v, struct span in, size_t at, size_t end, uint8_t c,
                    bool after_break)
{
	uint8_t next = end < in.len ? in.at[end] : 0;

	if (v->has[c])
		return true;
	if (c == '\n' || c == '\r')
		return behind_base64(in, at, after_break);
	if (c == '#' || c == ';') /* of &#65; */
		return true;
	if (next == 0 || next == '%')
		return c == '%' || c == '\\' || c == '&';
	return (c == '%' && hex_value(next) >= 0) || (c == '\\' && strchr("ux/", next)) ||
	       (c == '&' && strchr("#alegpqs", next));
}

static void put_run(struct view *v, struct span in, size_t from, size_t to)
{
	if (from == to)
		return;
	v->segments[v->segments_count++] =
		(struct view_segment){ .at = (uint32_t)v->len, .from = (uint32_t)from, .width = 1 };
	memcpy(v->text + v->len, in.at + from, to - from);
	v->len += to - from;
}

static void put_escape(struct view *v, uint8_t c, size_t from, unsigned width)
{
	v->segments[v->segments_count++] = (struct view_segment){ .at = (uint32_t)v->len,
		                                                  .from = (uint32_t)from,
		                                                  .width = width };
	v->text[v->len++] = c;
}

bool view_unescape(struct span in, enum view_escapes which, struct view *v)
{
	bool quoted = which == VIEW_QUOTED_PRINTABLE;
	bool any = false;
	size_t run = 0;         /* not yet copied from here on */
	size_t breaks = in.len; /* where a line end that mattered ended */
	struct hunt h;

	v->len = v->segments_count = 0;
	hunt_begin(&h, in, quoted ? "=" : "%\\&", quoted ? 1 : 3);
	for (size_t at = hunt_next(&h, 0); at < in.len;) {
		uint8_t c = 0;
		int width = escape(span_of(in.at + at, in.len - at), &c);
		size_t end = at + (size_t)(width > 0 ? width : 1);

		if (width == UNFINISHED) {
			put_run(v, in, run, at);
			return true;
		}
		if (width != KEEP && matters(v, in, at, end, c, breaks == at)) {
			any = true;
			put_run(v, in, run, at);
			put_escape(v, c, at, (unsigned)width);
			run = end;
			if (c == '\n' || c == '\r')
				breaks = end;
		}
		at = hunt_next(&h, end);
	}
	if (any)
		put_run(v, in, run, in.len);
	return any;
}

/* Behind a break, and the blanks that begin the line behind it. */
static size_t skip_break(struct span in, size_t at)
{
	bool line = false;

	for (; at < in.len; at++) {
		uint8_t c = in.at[at];

		if (c == '\n' || c == '\r')
			line = true;
		else if (c != 0 && !(line && (c == ' ' || c == '\t')))
			break;
	}
	return at;
}

bool view_squeeze(struct span in, struct view *v)
{
	bool soft_end = in.len > 0 && in.at[in.len - 1] == '=';
	size_t run = 0;
	struct hunt h;
	size_t at;

	v->len = v->segments_count = 0;
	hunt_begin(&h, in, "\0\n\r", 3);
	at = hunt_next(&h, 0);
	if (at == in.len && !soft_end)
		return false;
	while (at < in.len) {
		bool soft = at > run && in.at[at] != 0 && in.at[at - 1] == '=';

		put_run(v, in, run, soft ? at - 1 : at);
		run = skip_break(in, at);
		at = hunt_next(&h, run);
	}
	put_run(v, in, run, soft_end ? at - 1 : at);
	return true;
}

size_t view_from(const struct view *v, size_t i, size_t *ret_width)
{
	size_t lo = 0;
	size_t hi = v->segments_count;

	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;

		if (v->segments[mid].at <= i)
			lo = mid;
		else
			hi = mid;
	}
	*ret_width = v->segments[lo].width;
	return v->segments[lo].from + (i - v->segments[lo].at);
}
