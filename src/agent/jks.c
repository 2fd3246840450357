#include "agent/jks.h"

#include <errno.h>
#include <string.h>

/* Sources: sun.security.provider.JavaKeyStore's documented layout; FIPS 180-4, 6.1; RFC 7468. */

enum { SUM_BYTES = 20, HEAD_BYTES = 12, BLOCK_BYTES = 64, VERSION = 2, TAG_TRUSTED = 2 };

static const uint32_t magic = 0xfeedfeed;
static const char alias[] = "berm";
static const char password[] = "changeit";
static const char words[] = "Mighty Aphrodite";

struct sha1 {
	uint32_t h[5];
	uint64_t len;
	uint8_t block[BLOCK_BYTES];
};

static uint32_t rotate(uint32_t v, unsigned n)
{
	return v << n | v >> (32 - n);
}

static uint32_t load(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void mix(struct sha1 *s)
{
	uint32_t w[80], v[5];

	for (unsigned i = 0; i < 80; i++)
		w[i] = i < 16 ? load(s->block + 4 * (size_t)i)
		              : rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
	memcpy(v, s->h, sizeof(v));
	for (unsigned i = 0; i < 80; i++) {
		uint32_t f, k, t;

		if (i < 20) {
			f = (v[1] & v[2]) | (~v[1] & v[3]);
			k = 0x5a827999;
		} else if (i < 40 || i >= 60) {
			f = v[1] ^ v[2] ^ v[3];
			k = i < 40 ? 0x6ed9eba1 : 0xca62c1d6;
		} else {
			f = (v[1] & v[2]) | (v[1] & v[3]) | (v[2] & v[3]);
			k = 0x8f1bbcdc;
		}
		t = rotate(v[0], 5) + f + v[4] + k + w[i];
		v[4] = v[3];
		v[3] = v[2];
		v[2] = rotate(v[1], 30);
		v[1] = v[0];
		v[0] = t;
	}
	for (unsigned i = 0; i < 5; i++)
		s->h[i] += v[i];
}

static void add(struct sha1 *s, const void *data, size_t len)
{
	const uint8_t *at = data;

	for (size_t i = 0; i < len; i++) {
		s->block[s->len++ % BLOCK_BYTES] = at[i];
		if (s->len % BLOCK_BYTES == 0)
			mix(s);
	}
}

static void finish(struct sha1 *s, uint8_t ret[static SUM_BYTES])
{
	const uint64_t bits = s->len * 8;
	uint8_t tail[8];

	add(s, "\x80", 1);
	while (s->len % BLOCK_BYTES != BLOCK_BYTES - sizeof(tail))
		add(s, "", 1);
	for (unsigned i = 0; i < 8; i++)
		tail[i] = (uint8_t)(bits >> (56 - 8 * i));
	add(s, tail, sizeof(tail));
	for (unsigned i = 0; i < SUM_BYTES; i++)
		ret[i] = (uint8_t)(s->h[i / 4] >> (24 - 8 * (i % 4)));
}

static void sum_of(struct span body, uint8_t ret[static SUM_BYTES])
{
	struct sha1 s = { .h = { 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0 } };

	for (size_t i = 0; password[i]; i++) { /* as UTF-16 */
		add(&s, "", 1);
		add(&s, &password[i], 1);
	}
	add(&s, words, sizeof(words) - 1);
	add(&s, body.at, body.len);
	finish(&s, ret);
}

static int digit(uint8_t c)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

bool jks_der(struct span pem, struct buf *ret_der)
{
	static const char begin[] = "-----BEGIN CERTIFICATE-----\n";
	uint32_t bits = 0;
	unsigned have = 0;
	const uint8_t *at = memmem(pem.at, pem.len, begin, sizeof(begin) - 1);
	const uint8_t *end = pem.at + pem.len;

	if (!at)
		return false;
	for (at += sizeof(begin) - 1; at < end && *at != '-' && *at != '='; at++) {
		int d = digit(*at);

		if (d < 0 && *at != '\n' && *at != '\r')
			return false;
		if (d < 0)
			continue;
		bits = bits << 6 | (uint32_t)d;
		have += 6;
		if (have < 8)
			continue;
		have -= 8;
		buf_put_u8(ret_der, (uint8_t)(bits >> have));
	}
	return at < end && buf_ok(ret_der) && ret_der->len > 0;
}

static void put_be(struct buf *b, uint64_t v, unsigned bytes)
{
	while (bytes-- > 0)
		buf_put_u8(b, (uint8_t)(v >> 8 * bytes));
}

static void put_text(struct buf *b, const char *text)
{
	put_be(b, strlen(text), 2);
	buf_put_str(b, text);
}

static void put_entry(struct buf *b, struct span der)
{
	if (der.len == 0)
		return;
	put_be(b, TAG_TRUSTED, 4);
	put_text(b, alias);
	put_be(b, 0, 8); /* when it came: no matter to anybody */
	put_text(b, "X.509");
	put_be(b, der.len, 4);
	buf_put_span(b, der);
}

int jks_put(struct span store, struct span old, struct span der, struct buf *out)
{
	uint8_t room[JKS_ENTRY_MAX];
	uint8_t sum[SUM_BYTES];
	struct span body;
	uint32_t count;
	struct buf gone;
	size_t start = out->len;

	if (store.len < HEAD_BYTES + SUM_BYTES || load(store.at) != magic ||
	    load(store.at + 4) != VERSION)
		return -EBADMSG;
	body = span_of(store.at, store.len - SUM_BYTES);
	sum_of(body, sum);
	if (memcmp(sum, store.at + body.len, SUM_BYTES) != 0)
		return -EBADMSG;
	count = load(store.at + 8);
	buf_init(&gone, room, sizeof(room));
	put_entry(&gone, old);
	if (!buf_ok(&gone) || der.len > JKS_DER_MAX)
		return -EMSGSIZE;
	if (gone.len > 0 && count > 0 && body.len - HEAD_BYTES >= gone.len &&
	    memcmp(body.at + body.len - gone.len, room, gone.len) == 0) {
		body.len -= gone.len;
		count--;
	}
	buf_put(out, body.at, 8);
	put_be(out, (uint64_t)count + (der.len > 0), 4);
	buf_put(out, body.at + HEAD_BYTES, body.len - HEAD_BYTES);
	put_entry(out, der);
	if (!buf_ok(out))
		return -EMSGSIZE;
	sum_of(span_of(out->at + start, out->len - start), sum);
	buf_put(out, sum, sizeof(sum));
	return buf_ok(out) ? 0 : -EMSGSIZE;
}
