#include "vault/needle.h"

#include <assert.h>
#include <string.h>

static const char hex_digits[] = "0123456789abcdef";
static const char base64_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char base64url_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static uint8_t fold(uint8_t c)
{
	return (uint8_t)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
}

/* Folds more than letters; the comparison behind it does not. */
static uint32_t gram_at(const uint8_t *at)
{
	uint32_t g;

	memcpy(&g, at, sizeof(g));
	return g | 0x20202020;
}

static uint32_t hash(uint32_t gram)
{
	return (uint32_t)(gram * 0x9e3779b1u) >> 16;
}

static uint8_t text_at(struct span text, size_t i)
{
	return i < text.len ? text.at[i] : 'x';
}

static unsigned alignment(enum needle_kind kind)
{
	return (unsigned)(kind >= NEEDLE_BASE64URL ? kind - NEEDLE_BASE64URL
	                                           : kind - NEEDLE_BASE64);
}

/* Characters in front of the first one that is made of this text's bits alone. */
static size_t base64_skip(unsigned align)
{
	return (8 * align + 5) / 6;
}

size_t needle_len(enum needle_kind kind, size_t len)
{
	if (kind == NEEDLE_PLAIN)
		return len;
	if (kind == NEEDLE_HEX)
		return 2 * len;
	return 8 * (alignment(kind) + len) / 6 - base64_skip(alignment(kind));
}

uint8_t needle_char(enum needle_kind kind, struct span text, size_t i)
{
	const char *digits = kind >= NEEDLE_BASE64URL ? base64url_digits : base64_digits;
	size_t bit;
	unsigned two;

	if (kind == NEEDLE_PLAIN)
		return text_at(text, i);
	if (kind == NEEDLE_HEX) {
		uint8_t c = text_at(text, i / 2);

		return (uint8_t)hex_digits[i % 2 ? c & 15 : c >> 4];
	}
	bit = 6 * (i + base64_skip(alignment(kind))) - 8 * (size_t)alignment(kind);
	two = (unsigned)text_at(text, bit / 8) << 8;
	if (bit % 8 > 2) /* some of its bits are in the next byte */
		two |= text_at(text, bit / 8 + 1);
	return (uint8_t)digits[two >> (10 - bit % 8) & 63];
}

static void add_gram(struct needle_set *s, unsigned needle, unsigned off)
{
	const struct needle *n = &s->needles[needle];
	struct needle_gram *g = &s->grams[s->grams_count];
	uint8_t bytes[NEEDLE_GRAM];
	uint32_t h;

	for (unsigned i = 0; i < NEEDLE_GRAM; i++)
		bytes[i] = needle_char(n->kind, s->texts[n->text], off + i);
	g->bytes = gram_at(bytes);
	g->needle = (uint16_t)needle;
	g->off = (uint8_t)off;
	h = hash(g->bytes);
	s->filter[h / 64] |= (uint64_t)1 << h % 64;
	g->next = s->buckets[h % NEEDLE_BUCKETS];
	s->buckets[h % NEEDLE_BUCKETS] = (uint16_t)++s->grams_count;
}

static void note_bytes(struct needle_set *s, struct span bytes)
{
	for (size_t i = 0; i < bytes.len; i++) {
		uint8_t c = fold(bytes.at[i]);

		s->has[c] = true;
		if (c >= 'a' && c <= 'z')
			s->has[c & ~0x20] = true;
	}
}

/* A form that is the same in both alphabets is not needed twice. */
static bool is_double(enum needle_kind kind, struct span text)
{
	size_t len = needle_len(kind, text.len);

	if (kind < NEEDLE_BASE64URL)
		return false;
	for (size_t i = 0; i < len; i++) {
		uint8_t c = needle_char(kind, text, i);

		if (c == '-' || c == '_')
			return false;
	}
	return true;
}

void needle_set_build(struct needle_set *s, const struct span *texts, unsigned count)
{
	size_t shortest = NEEDLE_STEP_MAX + NEEDLE_GRAM - 1;

	assert(count <= NEEDLE_TEXTS_MAX);
	explicit_bzero(s, sizeof(*s));
	for (unsigned t = 0; t < count; t++) {
		assert(texts[t].len >= NEEDLE_TEXT_MIN && texts[t].len <= NEEDLE_TEXT_MAX);
		s->texts[t] = texts[t];
		note_bytes(s, texts[t]);
		if (texts[t].len > s->text_max)
			s->text_max = texts[t].len;
		for (unsigned kind = 0; kind < NEEDLE_KINDS; kind++) {
			size_t len = needle_len(kind, texts[t].len);

			if (is_double(kind, texts[t]))
				continue;
			s->needles[s->count++] = (struct needle){ .text = (uint16_t)t,
				                                  .len = (uint16_t)len,
				                                  .kind = (uint8_t)kind };
			if (len < shortest)
				shortest = len;
			if (len > s->len_max)
				s->len_max = len;
		}
	}
	if (s->count == 0)
		return;
	note_bytes(s, span_str(base64_digits));
	note_bytes(s, span_str(base64url_digits));
	s->step = (unsigned)(shortest - NEEDLE_GRAM + 1);
	if (s->step > NEEDLE_GRAMS_MAX / s->count)
		s->step = NEEDLE_GRAMS_MAX / s->count;
	for (unsigned n = 0; n < s->count; n++)
		for (unsigned off = 0; off < s->step; off++)
			add_gram(s, n, off);
}

/* Do the first `len` bytes of the needle stand at `at`? */
static bool same(const struct needle_set *s, const struct needle *n, const uint8_t *at, size_t len)
{
	struct span text = s->texts[n->text];

	for (size_t i = 0; i < len; i++)
		if (fold(at[i]) != fold(needle_char(n->kind, text, i)))
			return false;
	return true;
}

/* What the group at `at` may be part of. Returns false when there is no more room. */
static bool look(const struct needle_set *s, struct span hay, size_t at, uint32_t h,
                 struct needle_match *ret, unsigned max, unsigned *count)
{
	uint32_t gram = gram_at(hay.at + at);

	for (unsigned i = s->buckets[h % NEEDLE_BUCKETS]; i > 0; i = s->grams[i - 1].next) {
		const struct needle_gram *g = &s->grams[i - 1];
		const struct needle *n = &s->needles[g->needle];

		if (g->bytes != gram || g->off > at || n->len > hay.len - (at - g->off))
			continue;
		if (!same(s, n, hay.at + at - g->off, n->len))
			continue;
		if (*count == max)
			return false;
		ret[(*count)++] = (struct needle_match){ .at = at - g->off, .needle = g->needle };
	}
	return true;
}

unsigned needle_find(const struct needle_set *s, struct span hay, size_t *from,
                     struct needle_match *ret, unsigned max)
{
	const uint64_t *filter = s->filter;
	unsigned step = s->step;
	unsigned count = 0;
	size_t at = *from;

	if (s->count > 0 && hay.len >= NEEDLE_GRAM) {
		size_t last = hay.len - NEEDLE_GRAM;

		for (; at <= last; at += step) {
			uint32_t h = hash(gram_at(hay.at + at));

			if (__builtin_expect(filter[h / 64] >> h % 64 & 1, 0) &&
			    !look(s, hay, at, h, ret, max, &count)) {
				*from = at;
				return count;
			}
		}
	}
	*from = hay.len;
	return count;
}

/* Whole bytes of a text that the first `len` bytes of its form give away. */
static size_t known_by(enum needle_kind kind, size_t len)
{
	if (kind == NEEDLE_PLAIN)
		return len;
	return kind == NEEDLE_HEX ? len / 2 : len * 6 / 8;
}

struct needle_tail needle_tail(const struct needle_set *s, struct span hay, size_t from,
                               const bool *of)
{
	struct needle_tail none = { .at = hay.len };
	size_t at;

	if (s->count == 0 || hay.len < NEEDLE_GRAM)
		return none;
	at = hay.len > s->len_max - 1 ? hay.len - (s->len_max - 1) : 0;
	for (at = at < from ? from : at; at <= hay.len - NEEDLE_GRAM; at++) {
		uint32_t gram = gram_at(hay.at + at);
		uint32_t h = hash(gram);
		size_t left = hay.len - at;

		if (!(s->filter[h / 64] >> h % 64 & 1))
			continue;
		for (unsigned i = s->buckets[h % NEEDLE_BUCKETS]; i > 0; i = s->grams[i - 1].next) {
			const struct needle_gram *g = &s->grams[i - 1];
			const struct needle *n = &s->needles[g->needle];

			if (g->off > 0 || g->bytes != gram || n->len <= left ||
			    (of && !of[n->text]))
				continue;
			if (same(s, n, hay.at + at, left))
				return (struct needle_tail){ at, n->text, known_by(n->kind, left) };
		}
	}
	return none;
}
