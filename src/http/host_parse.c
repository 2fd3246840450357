#include "http/chars.h"
#include "http/http.h"

#include <errno.h>
#include <string.h>

/*
 * Theory of operation
 *
 * One spelling for each host. Programs differ in what they take for an address: "127.1", "0x7f.1"
 * and "017700000001" all reach the loopback somewhere. So once the last label looks like a number
 * the whole must be four plain decimal bytes, and nothing else that starts like a number is taken
 * for a name. An IPv6 address is printed anew, so that two spellings of one compare equal.
 */

enum { PORT_DIGITS_MAX = 5, GROUPS = 8 };

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

/* 1 to 65535, without leading zeros. */
static bool parse_port(struct span s, uint16_t *ret)
{
	uint64_t port;

	if (s.len == 0 || s.len > PORT_DIGITS_MAX || s.at[0] == '0' || !span_to_u64(s, &port) ||
	    port > UINT16_MAX)
		return false;
	*ret = (uint16_t)port;
	return true;
}

static bool parse_quad(struct span s, uint8_t ret[4])
{
	for (int i = 0; i < 4; i++) {
		struct span part;
		uint64_t value;

		if (!take_until(&s, '.', &part) || part.len == 0 || part.len > 3 ||
		    (part.len > 1 && part.at[0] == '0') || !span_to_u64(part, &value) ||
		    value > UINT8_MAX)
			return false;
		ret[i] = (uint8_t)value;
		if (i < 3 && s.len == 0)
			return false;
	}
	return s.len == 0;
}

/* One to four hex digits off the front. */
static bool take_group(struct span *s, uint16_t *ret)
{
	unsigned value = 0;
	size_t n = 0;

	while (n < s->len && n < 4 && char_is(s->at[n], CHAR_HEX))
		value = value << 4 | char_hex(s->at[n++]);
	if (n == 0)
		return false;
	s->at += n;
	s->len -= n;
	*ret = (uint16_t)value;
	return true;
}

struct ip6 {
	uint16_t group[GROUPS];
	int count;
	int gap; /* where "::" stood; -1: nowhere */
};

/* A dotted quad as the last two groups. */
static bool take_tail(struct span *s, struct ip6 *ip)
{
	uint8_t quad[4];

	if (ip->count > GROUPS - 2 || !parse_quad(*s, quad))
		return false;
	ip->group[ip->count++] = (uint16_t)(quad[0] << 8 | quad[1]);
	ip->group[ip->count++] = (uint16_t)(quad[2] << 8 | quad[3]);
	s->len = 0;
	return true;
}

static bool take_colons(struct span *s, struct ip6 *ip)
{
	if (s->len >= 2 && s->at[0] == ':' && s->at[1] == ':') {
		if (ip->gap >= 0)
			return false;
		ip->gap = ip->count;
		s->at += 2;
		s->len -= 2;
		return true;
	}
	if (ip->count == 0)
		return true; /* before the first group there need not be one */
	if (s->len < 2 || s->at[0] != ':')
		return false; /* one at the very end is none either */
	s->at++;
	s->len--;
	return true;
}

static bool parse_ip6(struct span s, uint8_t ret[16])
{
	struct ip6 ip = { .gap = -1 };
	int zeros;

	while (s.len > 0) {
		if (!take_colons(&s, &ip))
			return false;
		if (s.len == 0)
			break;
		if (ip.count == GROUPS)
			return false;
		if (memchr(s.at, '.', s.len) && !memchr(s.at, ':', s.len)) {
			if (!take_tail(&s, &ip))
				return false;
			break;
		}
		if (!take_group(&s, &ip.group[ip.count]))
			return false;
		ip.count++;
	}
	zeros = GROUPS - ip.count;
	if (ip.gap < 0 ? zeros != 0 : zeros < 1)
		return false;
	for (int i = 0, from = 0; i < GROUPS; i++) {
		bool zero = ip.gap >= 0 && i >= ip.gap && i < ip.gap + zeros;
		uint16_t v = zero ? 0 : ip.group[from++];

		ret[2 * i] = (uint8_t)(v >> 8);
		ret[2 * i + 1] = (uint8_t)v;
	}
	return true;
}

static uint16_t group_of(const uint8_t addr[16], int i)
{
	return (uint16_t)(addr[2 * i] << 8 | addr[2 * i + 1]);
}

/* The longest run of two or more zero groups, the first of equals: RFC 5952, 4.2. */
static void longest_zeros(const uint8_t addr[16], int *ret_at, int *ret_len)
{
	int at = -1;
	int len = 1;

	for (int i = 0; i < GROUPS; i++) {
		int n = 0;

		while (i + n < GROUPS && group_of(addr, i + n) == 0)
			n++;
		if (n > len) {
			at = i;
			len = n;
		}
		i += n;
	}
	*ret_at = at;
	*ret_len = at < 0 ? 0 : len;
}

static void put_number(struct buf *b, unsigned v, unsigned base)
{
	uint8_t digits[8];
	size_t n = sizeof(digits);

	do {
		digits[--n] = (uint8_t) "0123456789abcdef"[v % base];
		v /= base;
	} while (v > 0);
	buf_put(b, digits + n, sizeof(digits) - n);
}

static void print_ip6(const uint8_t addr[16], struct buf *out)
{
	int at;
	int len;

	longest_zeros(addr, &at, &len);
	for (int i = 0; i < GROUPS; i++) {
		if (i == at) {
			buf_put_str(out, "::");
			i += len - 1;
			continue;
		}
		if (i > 0 && i != at + len)
			buf_put_u8(out, ':');
		put_number(out, group_of(addr, i), 16);
	}
}

static void print_ip4(const uint8_t addr[4], struct buf *out)
{
	for (int i = 0; i < 4; i++) {
		if (i > 0)
			buf_put_u8(out, '.');
		put_number(out, addr[i], 10);
	}
}

static bool label_ok(struct span label)
{
	if (label.len == 0 || label.len > HTTP_LABEL_MAX || label.at[0] == '-' ||
	    label.at[label.len - 1] == '-')
		return false;
	for (size_t i = 0; i < label.len; i++)
		if (label.at[i] != '-' &&
		    (!char_is(label.at[i], CHAR_UNRESERVED) || label.at[i] == '.' ||
		     label.at[i] == '_' || label.at[i] == '~'))
			return false;
	return true;
}

/* Only digits, or 0x and what follows: some program reads a number in it. */
static bool label_is_number(struct span label)
{
	if (label.len >= 2 && label.at[0] == '0' && char_lower(label.at[1]) == 'x')
		return true;
	for (size_t i = 0; i < label.len; i++)
		if (!is_digit(label.at[i]))
			return false;
	return true;
}

static bool parse_name(struct span s, struct http_host *h)
{
	struct span rest = s;
	struct span label = { 0 };

	if (s.len > HTTP_HOST_MAX)
		return false;
	while (take_until(&rest, '.', &label))
		if (!label_ok(label))
			return false;
	if (s.len == 0 || s.at[s.len - 1] == '.')
		return false;
	if (label_is_number(label)) {
		struct buf out;

		if (!parse_quad(s, h->addr))
			return false;
		h->kind = HTTP_HOST_IP4;
		buf_init(&out, h->text, HTTP_HOST_MAX);
		print_ip4(h->addr, &out);
		h->len = (uint8_t)out.len;
		return true;
	}
	h->kind = HTTP_HOST_NAME;
	h->len = (uint8_t)s.len;
	for (size_t i = 0; i < s.len; i++)
		h->text[i] = (char)char_lower(s.at[i]);
	return true;
}

static bool parse_bracketed(struct span inner, struct http_host *h)
{
	struct buf out;

	if (!parse_ip6(inner, h->addr))
		return false;
	h->kind = HTTP_HOST_IP6;
	buf_init(&out, h->text, HTTP_HOST_MAX);
	print_ip6(h->addr, &out);
	h->len = (uint8_t)out.len;
	return true;
}

int host_parse(struct span text, struct http_host *ret)
{
	struct http_host got;
	struct span host;
	const uint8_t *end;

	memset(&got, 0, sizeof(got));
	if (text.len == 0)
		return -EBADMSG;
	end = memchr(text.at, text.at[0] == '[' ? ']' : ':', text.len);
	if (text.at[0] == '[' && !end)
		return -EBADMSG;
	host = span_of(text.at, end ? (size_t)(end - text.at) : text.len);
	if (end && *end == ']')
		end = end + 1 < text.at + text.len ? end + 1 : NULL;
	if (end) {
		size_t used = (size_t)(end - text.at) + 1;

		if (*end != ':' || !parse_port(span_of(text.at + used, text.len - used), &got.port))
			return -EBADMSG;
	}
	if (text.at[0] == '[') {
		if (!parse_bracketed(span_of(host.at + 1, host.len - 1), &got))
			return -EBADMSG;
	} else {
		if (host.len > 1 && host.at[host.len - 1] == '.')
			host.len--;
		if (!parse_name(host, &got))
			return -EBADMSG;
	}
	*ret = got;
	return 0;
}

bool host_parse_same(const struct http_host *a, const struct http_host *b)
{
	return a->kind == b->kind && a->port == b->port && a->len == b->len &&
	       memcmp(a->text, b->text, a->len) == 0;
}
