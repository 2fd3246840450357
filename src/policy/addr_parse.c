#include "policy/addr.h"

#include "base/ck.h"

#include <errno.h>
#include <string.h>

enum { GROUPS = 8 };

struct policy_addr addr_of_v4(const uint8_t at[4])
{
	struct policy_addr a = { .v4 = true, .at = { [10] = 0xff, [11] = 0xff } };

	memcpy(a.at + 12, at, 4);
	return a;
}

struct policy_addr addr_of_v6(const uint8_t at[16])
{
	struct policy_addr a = { .v4 = false };

	memcpy(a.at, at, 16);
	return a;
}

static bool take_dotted(struct span text, uint8_t ret[4])
{
	struct span part;
	uint64_t n;
	int i = 0;

	if (text.len == 0 || text.at[text.len - 1] == '.')
		return false;
	while (take_until(&text, '.', &part)) {
		if (i == 4 || part.len > 3 || !span_to_u64(part, &n) || n > 255)
			return false;
		if (part.len > 1 && part.at[0] == '0')
			return false;
		ret[i++] = (uint8_t)n;
	}
	return i == 4;
}

static int hex_value(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool take_group(struct span part, uint8_t ret[2])
{
	unsigned v = 0;

	if (part.len == 0 || part.len > 4)
		return false;
	for (size_t i = 0; i < part.len; i++) {
		int h = hex_value(part.at[i]);

		if (h < 0)
			return false;
		v = v << 4 | (unsigned)h;
	}
	ret[0] = (uint8_t)(v >> 8);
	ret[1] = (uint8_t)v;
	return true;
}

/* Groups between colons, the last two perhaps as IPv4. Returns how many, or -1. */
static int take_groups(struct span text, bool v4_may_end, uint8_t ret[16])
{
	struct span part;
	int n = 0;

	if (text.len == 0)
		return 0;
	if (text.at[text.len - 1] == ':')
		return -1;
	while (take_until(&text, ':', &part)) {
		if (n < GROUPS && take_group(part, ret + 2 * n)) {
			n++;
			continue;
		}
		if (n > GROUPS - 2 || text.len > 0 || !v4_may_end ||
		    !take_dotted(part, ret + 2 * n))
			return -1;
		return n + 2;
	}
	return n;
}

static bool take_v6(struct span text, uint8_t ret[16])
{
	uint8_t head[16] = { 0 };
	uint8_t tail[16] = { 0 };
	int head_n;
	int tail_n;
	size_t gap;

	for (gap = 0; gap + 1 < text.len; gap++)
		if (text.at[gap] == ':' && text.at[gap + 1] == ':')
			break;
	if (gap + 1 >= text.len)
		return take_groups(text, true, ret) == GROUPS;
	head_n = take_groups(span_of(text.at, gap), false, head);
	tail_n = take_groups(span_of(text.at + gap + 2, text.len - gap - 2), true, tail);
	if (head_n < 0 || tail_n < 0 || head_n + tail_n >= GROUPS)
		return false;
	memcpy(ret, head, 16);
	memcpy(ret + 16 - 2 * tail_n, tail, 2 * (size_t)tail_n);
	return true;
}

int addr_parse(struct span text, struct policy_addr *ret)
{
	uint8_t v4[4];
	uint8_t v6[16] = { 0 };

	if (take_dotted(text, v4)) {
		*ret = addr_of_v4(v4);
		return 0;
	}
	if (text.len >= 2 && text.len <= 45 && memchr(text.at, ':', text.len) &&
	    take_v6(text, v6)) {
		*ret = addr_of_v6(v6);
		return 0;
	}
	return -EBADMSG;
}

static unsigned first_bit(const struct policy_cidr *net)
{
	return (net->base.v4 ? 96u : 0u) + net->bits;
}

static bool tail_is_zero(const struct policy_cidr *net)
{
	for (unsigned bit = first_bit(net); bit < 128; bit++)
		if (net->base.at[bit / 8] & 0x80 >> bit % 8)
			return false;
	return true;
}

int addr_cidr_parse(struct span text, struct policy_cidr *ret)
{
	struct policy_cidr got = { 0 };
	const uint8_t *slash = text.len > 0 ? memchr(text.at, '/', text.len) : NULL;
	size_t len = slash ? (size_t)(slash - text.at) : text.len;
	struct span tail;
	uint64_t bits;

	if (addr_parse(span_of(text.at, len), &got.base) < 0)
		return -EBADMSG;
	bits = got.base.v4 ? 32 : 128;
	if (slash) {
		uint64_t max = bits;

		tail = span_of(slash + 1, text.len - len - 1);
		if (!span_to_u64(tail, &bits) || bits > max || (tail.len > 1 && tail.at[0] == '0'))
			return -EBADMSG;
	}
	got.bits = (uint8_t)bits;
	if (!tail_is_zero(&got))
		return -EBADMSG;
	*ret = got;
	return 0;
}

/* One number of an old-style IPv4 address: 0x hexadecimal, 0 octal, else decimal. */
static bool take_old_number(struct span s, uint64_t *ret)
{
	unsigned base = 10;
	uint64_t v = 0;
	size_t i = 0;

	if (s.len == 0 || s.len > 64)
		return false;
	if (s.len >= 2 && s.at[0] == '0' && (s.at[1] | 0x20) == 'x') {
		base = 16;
		i = 2;
	} else if (s.len >= 2 && s.at[0] == '0') {
		base = 8;
		i = 1;
	}
	for (; i < s.len; i++) {
		int h = hex_value(s.at[i]);

		if (h < 0 || (unsigned)h >= base)
			return false;
		if (!ck_mul(v, base, &v) || !ck_add(v, (uint64_t)h, &v) || v > UINT32_MAX)
			return false;
	}
	*ret = v;
	return true;
}

/* All but the last number are bytes; the last fills what is left. */
static bool take_old_v4(struct span text, uint8_t ret[4])
{
	uint64_t parts[4];
	uint64_t v = 0;
	struct span part;
	unsigned n = 0;

	if (text.len > 0 && text.at[text.len - 1] == '.')
		text.len--;
	if (text.len == 0 || text.at[text.len - 1] == '.')
		return false;
	while (take_until(&text, '.', &part))
		if (n == 4 || !take_old_number(part, &parts[n++]))
			return false;
	for (unsigned i = 0; i + 1 < n; i++) {
		if (parts[i] > 255)
			return false;
		v |= parts[i] << (24 - 8 * i);
	}
	if (n == 0 || (n > 1 && parts[n - 1] >> (8 * (5 - n)) != 0))
		return false;
	v |= parts[n - 1];
	for (unsigned i = 0; i < 4; i++)
		ret[i] = (uint8_t)(v >> (24 - 8 * i));
	return true;
}

int addr_literal_parse(struct span text, struct policy_addr *ret)
{
	uint8_t v4[4];
	const uint8_t *zone;

	if (text.len >= 2 && text.at[0] == '[' && text.at[text.len - 1] == ']')
		text = span_of(text.at + 1, text.len - 2);
	if (take_old_v4(text, v4)) {
		*ret = addr_of_v4(v4);
		return 0;
	}
	zone = text.len > 0 ? memchr(text.at, '%', text.len) : NULL;
	if (zone && memchr(text.at, ':', text.len))
		text.len = (size_t)(zone - text.at);
	return addr_parse(text, ret);
}

bool addr_equal(const struct policy_addr *a, const struct policy_addr *b)
{
	return a->v4 == b->v4 && memcmp(a->at, b->at, 16) == 0;
}

bool addr_in(const struct policy_addr *a, const struct policy_cidr *net)
{
	unsigned bits = first_bit(net);
	unsigned bytes = bits / 8;

	if (a->v4 != net->base.v4 || memcmp(a->at, net->base.at, bytes) != 0)
		return false;
	return bits % 8 == 0 || (a->at[bytes] ^ net->base.at[bytes]) >> (8 - bits % 8) == 0;
}

void addr_put(struct buf *b, const struct policy_addr *a)
{
	static const char hex[] = "0123456789abcdef";

	if (a->v4) {
		for (int i = 12; i < 16; i++) {
			if (i > 12)
				buf_put_u8(b, '.');
			if (a->at[i] >= 100)
				buf_put_u8(b, (uint8_t)('0' + a->at[i] / 100));
			if (a->at[i] >= 10)
				buf_put_u8(b, (uint8_t)('0' + a->at[i] / 10 % 10));
			buf_put_u8(b, (uint8_t)('0' + a->at[i] % 10));
		}
		return;
	}
	/* RFC 5952, 4.2: the longest run of two or more zero groups, the first of them */
	int best = -1;
	int best_len = 1;

	for (int i = 0; i < GROUPS; i++) {
		int n = 0;

		while (i + n < GROUPS && !a->at[2 * (i + n)] && !a->at[2 * (i + n) + 1])
			n++;
		if (n > best_len) {
			best = i;
			best_len = n;
		}
	}
	for (int i = 0; i < GROUPS; i++) {
		unsigned v = (unsigned)a->at[2 * i] << 8 | a->at[2 * i + 1];

		if (i == best) {
			buf_put_str(b, "::");
			i += best_len - 1;
			continue;
		}
		if (i > 0 && i != best + best_len)
			buf_put_u8(b, ':');
		for (int shift = 12; shift >= 0; shift -= 4)
			if (v >> shift || shift == 0)
				buf_put_u8(b, (uint8_t)hex[v >> shift & 15]);
	}
}

void addr_cidr_put(struct buf *b, const struct policy_cidr *net)
{
	unsigned bits = net->bits;

	addr_put(b, &net->base);
	buf_put_u8(b, '/');
	if (bits >= 100)
		buf_put_u8(b, (uint8_t)('0' + bits / 100));
	if (bits >= 10)
		buf_put_u8(b, (uint8_t)('0' + bits / 10 % 10));
	buf_put_u8(b, (uint8_t)('0' + bits % 10));
}
