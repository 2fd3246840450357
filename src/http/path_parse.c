#include "http/chars.h"
#include "http/http.h"

#include <errno.h>
#include <string.h>

/*
 * Theory of operation
 *
 * A rule about a path is worth nothing if the upstream reads another path. So there is one form,
 * and it is what is matched, recorded and sent: every escape that needs none is undone, every
 * other is in capitals, dot segments are gone, runs of slashes are one. What servers are known to
 * read differently is refused (an escaped slash or backslash, a dot segment with a parameter,
 * bytes that are no UTF-8) or made harmless: ';' becomes %3B, so no server finds a parameter where
 * the rule saw a name. Escapes are undone once: '%' itself is reserved, so %252e stays as it is.
 */

struct walk {
	struct buf *out;
	unsigned options;
	uint32_t flags;
	size_t root;    /* where the path begins in out: the first '/' */
	size_t segment; /* where the present segment begins */
	uint8_t more;   /* bytes of a UTF-8 character still to come */
	uint8_t low;    /* and the bounds of the next one */
	uint8_t high;
	enum http_reason why;
};

static bool refuse(struct walk *w, enum http_reason why)
{
	w->why = why;
	return false;
}

static void put_escape(struct buf *out, uint8_t c)
{
	static const char hex[] = "0123456789ABCDEF";
	uint8_t escape[3] = { '%', (uint8_t)hex[c >> 4], (uint8_t)hex[c & 15] };

	buf_put(out, escape, sizeof(escape));
}

/* The first byte of a character of more than one; overlong forms and surrogates have no way in. */
static bool begin_utf8(struct walk *w, uint8_t c)
{
	w->low = 0x80;
	w->high = 0xbf;
	if (c >= 0xc2 && c <= 0xdf) {
		w->more = 1;
	} else if (c >= 0xe0 && c <= 0xef) {
		w->more = 2;
		if (c == 0xe0)
			w->low = 0xa0;
		if (c == 0xed)
			w->high = 0x9f;
	} else if (c >= 0xf0 && c <= 0xf4) {
		w->more = 3;
		if (c == 0xf0)
			w->low = 0x90;
		if (c == 0xf4)
			w->high = 0x8f;
	} else {
		return false;
	}
	return true;
}

static bool step_utf8(struct walk *w, uint8_t c)
{
	if (w->more == 0)
		return begin_utf8(w, c);
	if (c < w->low || c > w->high)
		return false;
	w->more--;
	w->low = 0x80;
	w->high = 0xbf;
	return true;
}

static bool put_escaped_byte(struct walk *w, uint8_t c)
{
	if (c >= 0x80) {
		if (!step_utf8(w, c))
			return refuse(w, HTTP_PATH_UTF8);
		put_escape(w->out, c);
		return true;
	}
	if (w->more)
		return refuse(w, HTTP_PATH_UTF8);
	if (c < 0x20 || c == 0x7f)
		return refuse(w, HTTP_PATH_BYTE);
	if (c == '\\')
		return refuse(w, HTTP_PATH_BACKSLASH);
	if (c == '/') {
		if (!(w->options & PATH_KEEP_SLASH))
			return refuse(w, HTTP_PATH_SLASH);
		w->flags |= HTTP_FLAG_ENCODED_SLASH;
	}
	if (char_is(c, CHAR_UNRESERVED))
		buf_put_u8(w->out, c);
	else
		put_escape(w->out, c);
	return true;
}

static bool put_byte(struct walk *w, uint8_t c)
{
	if (w->more)
		return refuse(w, HTTP_PATH_UTF8);
	if (c == '\\')
		return refuse(w, HTTP_PATH_BACKSLASH);
	if (c == '#')
		return refuse(w, HTTP_FRAGMENT);
	if (char_is(c, CHAR_PATH))
		buf_put_u8(w->out, c);
	else if (char_is(c, CHAR_ENCODE))
		put_escape(w->out, c);
	else
		return refuse(w, HTTP_PATH_BYTE);
	return true;
}

/* The last segment with its '/' goes; the one before is open again. */
static bool climb(struct walk *w)
{
	size_t end = w->segment - 1; /* the '/' before the ".." */

	if (end == w->root)
		return refuse(w, HTTP_PATH_CLIMBS);
	while (w->out->at[end - 1] != '/')
		end--;
	w->out->len = end;
	return true;
}

/* Looks at the segment just written. It stays, or is taken back with the '/' that follows it. */
static bool end_segment(struct walk *w, bool slash)
{
	struct span s = span_of(w->out->at + w->segment, w->out->len - w->segment);

	if (w->more)
		return refuse(w, HTTP_PATH_UTF8);
	if (s.len >= 4 && s.at[0] == '.' &&
	    (memcmp(s.at + 1, "%3B", 3) == 0 ||
	     (s.len >= 5 && s.at[1] == '.' && memcmp(s.at + 2, "%3B", 3) == 0)))
		return refuse(w, HTTP_PATH_DOTS);
	if (s.len == 0)
		return true;
	if (span_is(s, ".")) {
		w->out->len = w->segment;
	} else if (span_is(s, "..")) {
		w->out->len = w->segment;
		if (!climb(w))
			return false;
	} else if (slash) {
		buf_put_u8(w->out, '/');
	}
	w->segment = w->out->len;
	return true;
}

static bool walk_path(struct walk *w, struct span raw)
{
	for (size_t i = 1; i < raw.len; i++) {
		uint8_t c = raw.at[i];

		if (c == '/') {
			if (!end_segment(w, true))
				return false;
		} else if (c == '%') {
			if (raw.len - i < 3 || !char_is(raw.at[i + 1], CHAR_HEX) ||
			    !char_is(raw.at[i + 2], CHAR_HEX))
				return refuse(w, HTTP_PATH_ESCAPE);
			c = (uint8_t)(char_hex(raw.at[i + 1]) << 4 | char_hex(raw.at[i + 2]));
			if (!put_escaped_byte(w, c))
				return false;
			i += 2;
		} else if (!put_byte(w, c)) {
			return false;
		}
		if (!buf_ok(w->out))
			return refuse(w, HTTP_TARGET_TOO_LONG);
	}
	return end_segment(w, false);
}

int path_parse(struct span raw, unsigned options, struct buf *out, uint32_t *ret_flags,
               enum http_reason *ret_why)
{
	struct walk w = { .out = out, .options = options, .root = out->len };

	if (raw.len == 0 || raw.at[0] != '/') {
		*ret_why = raw.len > 0 && raw.at[0] == '#' ? HTTP_FRAGMENT : HTTP_TARGET;
		return -EBADMSG;
	}
	buf_put_u8(out, '/');
	w.segment = out->len;
	if (!buf_ok(out) || !walk_path(&w, raw) || !buf_ok(out)) {
		*ret_why = buf_ok(out) ? w.why : HTTP_TARGET_TOO_LONG;
		return -EBADMSG;
	}
	*ret_flags = w.flags;
	return 0;
}

int query_parse_check(struct span query, enum http_reason *ret_why)
{
	for (size_t i = 0; i < query.len; i++) {
		uint8_t c = query.at[i];

		if (c == '%') {
			if (query.len - i < 3 || !char_is(query.at[i + 1], CHAR_HEX) ||
			    !char_is(query.at[i + 2], CHAR_HEX)) {
				*ret_why = HTTP_QUERY;
				return -EBADMSG;
			}
			i += 2;
		} else if (!char_is(c, CHAR_QUERY)) {
			*ret_why = c == '#' ? HTTP_FRAGMENT : HTTP_QUERY;
			return -EBADMSG;
		}
	}
	return 0;
}

bool query_parse_next(struct span *query, struct span *ret_name, struct span *ret_value)
{
	struct span part;

	do {
		if (!take_until(query, '&', &part))
			return false;
	} while (part.len == 0);
	*ret_name = span_of(part.at, 0);
	if (part.at[0] == '=')
		part = span_of(part.at + 1, part.len - 1);
	else
		(void)!take_until(&part, '=', ret_name);
	*ret_value = part;
	return true;
}

void query_parse_decode(struct span raw, struct buf *out)
{
	for (size_t i = 0; i < raw.len; i++) {
		uint8_t c = raw.at[i];

		if (c == '%' && raw.len - i >= 3 && char_is(raw.at[i + 1], CHAR_HEX) &&
		    char_is(raw.at[i + 2], CHAR_HEX)) {
			c = (uint8_t)(char_hex(raw.at[i + 1]) << 4 | char_hex(raw.at[i + 2]));
			i += 2;
		} else if (c == '+') {
			c = ' ';
		}
		buf_put_u8(out, c);
	}
}
