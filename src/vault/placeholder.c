#include "vault/placeholder.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

static const char alnum[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
static const char base64url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
static const char jwt_head[] = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"; /* alg HS256, typ JWT */

enum {
	JWT_CLAIMS = 48,    /* characters of the second part */
	JWT_SIGNATURE = 43, /* of the third, at least: that of HS256 */
	UUID_LEN = 36,
	KIND_HEX = 1, /* in kinds */
};

/* What clients and their libraries check a credential for. The longer of two comes first. */
static const char *const prefixes[] = {
	"github_pat_", "ghp_",        "gho_",          "ghu_",          "ghs_",     "ghr_",
	"glpat-",      "gldt-",       "sk-ant-api03-", "sk-ant-oat01-", "sk-ant-",  "sk-proj-",
	"sk-or-v1-",   "sk-svcacct-", "sk_live_",      "sk_test_",      "rk_live_", "rk_test_",
	"pk_live_",    "pk_test_",    "sk-",           "xoxb-",         "xoxp-",    "xoxa-",
	"xapp-",       "AKIA",        "ASIA",          "AIza",          "ya29.",    "npm_",
	"pypi-",       "hf_",         "dop_v1_",       "shpat_",        "SG.",      "gsk_",
	"pplx-",       "r8_",         "xai-",          "lin_api_",      "ntn_",     "dckr_pat_",
	"rubygems_",
};

/*
 * The kinds of characters a value may be made of, the narrowest first. What falls under none is
 * shown as letters and digits.
 */
static const struct {
	const char *all;    /* a value of these alone */
	const char *draw;   /* is stood for by these */
	unsigned chars_128; /* how many of them make 128 bits */
} kinds[] = {
	{ "0123456789", "0123456789", 39 },
	{ "0123456789abcdef", "0123456789abcdef", 32 },
	{ "0123456789ABCDEF", "0123456789ABCDEF", 32 },
	{ "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", 25 },
	{ "0123456789abcdefghijklmnopqrstuvwxyz", "0123456789abcdefghijklmnopqrstuvwxyz", 25 },
	{ "", alnum, 22 },
};

struct pen {
	uint8_t *at;
	size_t len;
	placeholder_random_fn *random;
	void *arg;
};

/* Each of the alphabet as likely as any other: bytes beyond its last whole multiple are dropped. */
static void draw(struct pen *p, const char *alphabet, size_t count)
{
	unsigned n = (unsigned)strlen(alphabet);
	unsigned fair = 256 - 256 % n;
	uint8_t bytes[PLACEHOLDER_DRAW_MAX];

	while (count > 0) {
		p->random(p->arg, bytes, sizeof(bytes));
		for (size_t i = 0; i < sizeof(bytes) && count > 0; i++) {
			if (bytes[i] >= fair)
				continue;
			assert(p->len < PLACEHOLDER_ROOM);
			p->at[p->len++] = (uint8_t)alphabet[bytes[i] % n];
			count--;
		}
	}
}

static void copy(struct pen *p, struct span s)
{
	memcpy(p->at + p->len, s.at, s.len);
	p->len += s.len;
}

static bool made_of(struct span s, const char *all)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.at[i] == 0 || !strchr(all, s.at[i]))
			return false;
	return true;
}

/* Three parts of base64url with '.' between them, the first of which begins a JSON object. */
static bool is_jwt(struct span v)
{
	unsigned parts = 0;
	size_t from = 0;

	if (v.len < 3 || memcmp(v.at, jwt_head, 3) != 0)
		return false;
	for (size_t i = 0; i <= v.len; i++) {
		if (i < v.len && v.at[i] != '.')
			continue;
		if (!made_of(span_of(v.at + from, i - from), base64url))
			return false;
		parts++;
		from = i + 1;
	}
	return parts == 3;
}

/* {"jti":"RANDOM"} in base64url: 36 bytes, of which 26 are random, as 48 characters. */
static void draw_claims(struct pen *p)
{
	uint8_t json[JWT_CLAIMS / 4 * 3];
	struct pen in = { .at = json, .random = p->random, .arg = p->arg };

	copy(&in, span_str("{\"jti\":\""));
	draw(&in, alnum, sizeof(json) - in.len - 2);
	copy(&in, span_str("\"}"));
	for (size_t i = 0; i < sizeof(json); i += 3) {
		unsigned v = (unsigned)json[i] << 16 | (unsigned)json[i + 1] << 8 | json[i + 2];

		for (int shift = 18; shift >= 0; shift -= 6)
			p->at[p->len++] = (uint8_t)base64url[v >> shift & 63];
	}
}

/*
 * The first two parts can be decoded, because libraries read them before they send the token; the
 * third takes up the length.
 */
static size_t make_jwt(struct pen *p, size_t len)
{
	size_t fixed = sizeof(jwt_head) - 1 + 1 + JWT_CLAIMS + 1;

	copy(p, span_str(jwt_head));
	p->at[p->len++] = '.';
	draw_claims(p);
	p->at[p->len++] = '.';
	if (len > PLACEHOLDER_ROOM)
		len = PLACEHOLDER_ROOM;
	draw(p, base64url, len > fixed + JWT_SIGNATURE ? len - fixed : JWT_SIGNATURE);
	return p->len;
}

/* 8-4-4-4-12 hex digits. */
static bool is_uuid(struct span v)
{
	if (v.len != UUID_LEN)
		return false;
	for (size_t i = 0; i < v.len; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? v.at[i] != '-' : !made_of(span_of(v.at + i, 1), kinds[KIND_HEX].all))
			return false;
	}
	return true;
}

static size_t make_uuid(struct pen *p)
{
	static const uint8_t groups[] = { 8, 4, 4, 4, 12 };

	for (size_t g = 0; g < sizeof(groups); g++) {
		if (g > 0)
			p->at[p->len++] = '-';
		draw(p, kinds[KIND_HEX].draw, groups[g]);
	}
	return p->len;
}

struct span placeholder_prefix(struct span value)
{
	struct span best = span_of(value.at, 0);

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		size_t len = strlen(prefixes[i]);

		if (len > best.len && len < value.len && memcmp(value.at, prefixes[i], len) == 0)
			best.len = len;
	}
	return best;
}

size_t placeholder_make(struct span value, placeholder_random_fn *random, void *arg,
                        uint8_t ret[PLACEHOLDER_ROOM])
{
	struct pen p = { .at = ret, .random = random, .arg = arg };
	size_t kind = 0;
	struct span prefix, rest;
	size_t len;

	if (is_jwt(value))
		return make_jwt(&p, value.len);
	if (is_uuid(value))
		return make_uuid(&p);
	prefix = placeholder_prefix(value);
	rest = span_of(value.at + prefix.len, value.len - prefix.len);
	while (kinds[kind].all[0] && !made_of(rest, kinds[kind].all))
		kind++;
	len = rest.len > kinds[kind].chars_128 ? rest.len : kinds[kind].chars_128;
	if (len > PLACEHOLDER_ROOM - prefix.len)
		len = PLACEHOLDER_ROOM - prefix.len;
	copy(&p, prefix);
	draw(&p, kinds[kind].draw, len);
	return p.len;
}
