#include "base/utf8.h"

static const struct {
	uint8_t first, last; /* of the lead byte */
	uint8_t low, high;   /* of the second byte */
	uint8_t len;
} lead_rows[] = {
	{ 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 },
	{ 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 }, { 0xf0, 0xf0, 0x90, 0xbf, 4 },
	{ 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
};

static size_t front_len(struct span s)
{
	if (s.len == 0)
		return 0;
	if (s.at[0] < 0x80)
		return 1;
	for (size_t i = 0; i < sizeof(lead_rows) / sizeof(lead_rows[0]); i++) {
		if (s.at[0] < lead_rows[i].first || s.at[0] > lead_rows[i].last)
			continue;
		if (s.len < lead_rows[i].len || s.at[1] < lead_rows[i].low ||
		    s.at[1] > lead_rows[i].high)
			return 0;
		for (size_t k = 2; k < lead_rows[i].len; k++)
			if ((s.at[k] & 0xc0) != 0x80)
				return 0;
		return lead_rows[i].len;
	}
	return 0;
}

size_t utf8_front(struct span s, uint32_t *ret_char)
{
	size_t len = front_len(s);
	uint32_t c;

	if (len == 0 || !ret_char)
		return len;
	c = len == 1 ? s.at[0] : s.at[0] & (0x7fU >> len);
	for (size_t k = 1; k < len; k++)
		c = c << 6 | (s.at[k] & 0x3f);
	*ret_char = c;
	return len;
}

bool utf8_deceives(uint32_t c)
{
	static const struct {
		uint32_t first, last;
	} rows[] = {
		{ 0x0000, 0x001f },   { 0x007f, 0x009f },   { 0x00ad, 0x00ad },
		{ 0x034f, 0x034f },   { 0x061c, 0x061c },   { 0x115f, 0x1160 },
		{ 0x17b4, 0x17b5 },   { 0x180b, 0x180f },   { 0x200b, 0x200f },
		{ 0x2028, 0x202e },   { 0x2060, 0x206f },   { 0x3164, 0x3164 },
		{ 0xfe00, 0xfe0f },   { 0xfeff, 0xfeff },   { 0xffa0, 0xffa0 },
		{ 0xfff0, 0xfffb },   { 0x13430, 0x1343f }, { 0x1bca0, 0x1bca3 },
		{ 0x1d173, 0x1d17a }, { 0xe0000, 0xe0fff },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]) && c >= rows[i].first; i++)
		if (c <= rows[i].last)
			return true;
	return false;
}
