#include "base/span.h"

#include <string.h>

struct span span_str(const char *s)
{
	return span_of(s, strlen(s));
}

bool span_equal(struct span a, struct span b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

bool span_is(struct span a, const char *literal)
{
	return span_equal(a, span_str(literal));
}

bool take_span(struct span *s, size_t len, struct span *ret)
{
	if (s->len < len)
		return false;
	*ret = span_of(s->at, len);
	if (len == 0)
		return true; /* s->at may be NULL, to which not even 0 may be added */
	s->at += len;
	s->len -= len;
	return true;
}

bool take_bytes(struct span *s, void *ret, size_t len)
{
	struct span got;

	if (!take_span(s, len, &got))
		return false;
	if (len)
		memcpy(ret, got.at, len);
	return true;
}

bool take_u8(struct span *s, uint8_t *ret)
{
	return take_bytes(s, ret, 1);
}

bool take_le16(struct span *s, uint16_t *ret)
{
	struct span b;

	if (!take_span(s, 2, &b))
		return false;
	*ret = (uint16_t)(b.at[0] | b.at[1] << 8);
	return true;
}

bool take_le32(struct span *s, uint32_t *ret)
{
	struct span b;

	if (!take_span(s, 4, &b))
		return false;
	*ret = (uint32_t)b.at[0] | (uint32_t)b.at[1] << 8 | (uint32_t)b.at[2] << 16 |
	       (uint32_t)b.at[3] << 24;
	return true;
}

bool take_le64(struct span *s, uint64_t *ret)
{
	struct span b = *s;
	uint32_t low;
	uint32_t high;

	if (!take_le32(&b, &low) || !take_le32(&b, &high))
		return false;
	*ret = (uint64_t)high << 32 | low;
	*s = b;
	return true;
}

bool take_be16(struct span *s, uint16_t *ret)
{
	struct span b;

	if (!take_span(s, 2, &b))
		return false;
	*ret = (uint16_t)(b.at[0] << 8 | b.at[1]);
	return true;
}

bool take_be32(struct span *s, uint32_t *ret)
{
	struct span b;

	if (!take_span(s, 4, &b))
		return false;
	*ret = (uint32_t)b.at[0] << 24 | (uint32_t)b.at[1] << 16 | (uint32_t)b.at[2] << 8 |
	       (uint32_t)b.at[3];
	return true;
}

bool take_str16(struct span *s, size_t len_max, struct span *ret)
{
	struct span b = *s;
	struct span got;
	uint16_t len;

	if (!take_le16(&b, &len) || len > len_max || !take_span(&b, len, &got))
		return false;
	*s = b;
	*ret = got;
	return true;
}

bool take_until(struct span *s, char delim, struct span *ret)
{
	const uint8_t *hit;

	if (s->len == 0)
		return false;
	hit = memchr(s->at, delim, s->len);
	if (!hit)
		return take_span(s, s->len, ret);
	*ret = span_of(s->at, (size_t)(hit - s->at));
	s->len -= ret->len + 1;
	s->at = hit + 1;
	return true;
}

bool span_to_u64(struct span s, uint64_t *ret)
{
	uint64_t got = 0;

	if (s.len == 0)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		uint8_t c = s.at[i];

		if (c < '0' || c > '9')
			return false;
		if (__builtin_mul_overflow(got, UINT64_C(10), &got) ||
		    __builtin_add_overflow(got, (uint64_t)(c - '0'), &got))
			return false;
	}
	*ret = got;
	return true;
}
