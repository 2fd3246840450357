#include "term/json_out.h"

enum { MEMBER_BYTES_MAX = 200, ESCAPED_BYTES_MAX = 6 }; /* \u0000 */

/* Length of the sequence at s, 0 when it is none. Source: Unicode 15, table 3-7. */
static size_t sequence(struct span s)
{
	uint8_t a = s.at[0];
	uint8_t low = 0x80;
	uint8_t high = 0xbf;
	size_t len;

	if (a < 0x80)
		return 1;
	if (a >= 0xc2 && a <= 0xdf)
		len = 2;
	else if (a >= 0xe0 && a <= 0xef)
		len = 3;
	else if (a >= 0xf0 && a <= 0xf4)
		len = 4;
	else
		return 0;
	if (a == 0xe0)
		low = 0xa0;
	else if (a == 0xed)
		high = 0x9f;
	else if (a == 0xf0)
		low = 0x90;
	else if (a == 0xf4)
		high = 0x8f;
	if (s.len < len || s.at[1] < low || s.at[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((s.at[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

bool utf8_ok(struct span s)
{
	while (s.len > 0) {
		size_t n = sequence(s);

		if (n == 0)
			return false;
		s.at += n;
		s.len -= n;
	}
	return true;
}

void buf_put_base64(struct buf *b, struct span s)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				       "0123456789+/";

	for (size_t i = 0; i < s.len; i += 3) {
		size_t left = s.len - i;
		uint32_t v = (uint32_t)s.at[i] << 16;
		char four[4] = "===";

		if (left > 1)
			v |= (uint32_t)s.at[i + 1] << 8;
		if (left > 2)
			v |= s.at[i + 2];
		four[0] = alphabet[v >> 18 & 63];
		four[1] = alphabet[v >> 12 & 63];
		four[3] = '=';
		if (left > 1)
			four[2] = alphabet[v >> 6 & 63];
		if (left > 2)
			four[3] = alphabet[v & 63];
		buf_put(b, four, sizeof(four));
	}
}

size_t json_output_bytes(struct span s)
{
	return MEMBER_BYTES_MAX + s.len * ESCAPED_BYTES_MAX;
}

void buf_put_json_output(struct buf *b, const char *name, struct span s, bool truncated)
{
	bool text;

	/* a cut may have gone through a character: that alone does not make it binary */
	text = utf8_ok(s);
	for (size_t cut = 1; truncated && !text && cut < 4 && cut < s.len; cut++) {
		if (utf8_ok(span_of(s.at, s.len - cut))) {
			s.len -= cut;
			text = true;
		}
	}
	buf_printf(b, "\"%s\":", name);
	if (text) {
		buf_put_json_str(b, s);
	} else {
		buf_put_str(b, "\"");
		buf_put_base64(b, s);
		buf_put_str(b, "\"");
	}
	buf_printf(b, ",\"%s_encoding\":\"%s\",\"%s_truncated\":%s", name,
	           text ? "utf-8" : "base64", name, truncated ? "true" : "false");
}
