/*
 * What comes out is as long as what went in and has no form of a value in it, however it was cut;
 * and where a naive reader finds nothing to undo nothing is changed. Bytes 1 to 8 of the input
 * become forms of the value.
 */
#include "naive.h"
#include "vault/scrub.h"
#include "vault/store_inner.h"

#include <errno.h>

enum { HAY_MAX = 20000, VALUES = 3 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const values[VALUES] = { "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "hunter22",
	                                    "ababababab/+ab" };
static struct store *s;
static struct naive_form forms[VALUES][NAIVE_FORMS];

static void begin(void)
{
	static const char *const names[VALUES] = { "A", "B", "C" };

	must(store_new(&s, NULL) == 0);
	for (int i = 0; i < VALUES; i++) {
		must(store_set(s, span_str(names[i]), span_str(values[i]), NULL) == 0);
		naive_forms(span_str(values[i]), forms[i]);
	}
}

static size_t expand(const uint8_t *data, size_t size, uint8_t *hay)
{
	size_t len = 0;

	for (size_t i = 0; i < size; i++) {
		const struct naive_form *f = &forms[data[i] / 8 % VALUES][data[i] % 8];

		if (data[i] == 0 || data[i] >= 32) {
			hay[len++] = data[i];
		} else {
			memcpy(hay + len, f->at, f->len);
			len += f->len;
		}
		if (len + NAIVE_FORM_MAX >= HAY_MAX)
			break;
	}
	return len;
}

static size_t drain(struct scrub *c, struct span in, size_t max, uint8_t *out)
{
	size_t len = 0;
	struct span got;
	int r;

	do {
		r = scrub_piece(c, &in, max, &got);
		if (r == -EACCES)
			return SIZE_MAX; /* beginnings of values, many times */
		must(r == 0 && got.len <= max);
		memcpy(out + len, got.at, got.len);
		len += got.len;
	} while (in.len > 0 || got.len > 0);
	return len;
}

/* False: it was cut, as guesses are. */
static bool scrubbed(struct span hay, unsigned salt, uint8_t *out)
{
	struct scrub *c;
	struct span got;
	size_t len = 0;

	for (int i = 0; i < VALUES; i++)
		s->secrets[i].missed = 0;
	must(scrub_new(s, &c, NULL) == 0);
	for (size_t at = 0; at < hay.len;) {
		size_t n = salt ? naive_piece(hay, at, salt) : hay.len;
		size_t more = drain(c, span_of(hay.at + at, n), salt == 2 ? 11 : 65536, out + len);

		if (more == SIZE_MAX) {
			scrub_free(c);
			return false;
		}
		len += more;
		at += n;
		must(len + scrub_held(c) == at && scrub_held(c) <= 12 * strlen(values[0]));
	}
	do {
		must(scrub_end(c, 17, &got) == 0);
		memcpy(out + len, got.at, got.len);
		len += got.len;
	} while (got.len > 0);
	must(len == hay.len);
	scrub_free(c);
	for (int i = 0; i < VALUES; i++)
		must(!naive_any(span_of(out, len), forms[i]));
	return true;
}

/* Frames, or what pretends to be: no crash, no length changed. */
static void framed(struct span hay)
{
	static const struct http_head in = { .status = 101, .framing = HTTP_BODY_STREAM };
	static struct http_head out;
	struct scrub *c;
	struct span got;
	size_t given = 0;

	must(scrub_new(s, &c, NULL) == 0);
	must(scrub_head(c, &in, &out) == 0);
	for (size_t at = 0; at < hay.len;) {
		size_t n = naive_piece(hay, at, 3);
		struct span piece = span_of(hay.at + at, n);

		do {
			if (scrub_piece(c, &piece, 100, &got) < 0) {
				scrub_free(c);
				return;
			}
			given += got.len;
		} while (piece.len > 0 || got.len > 0);
		at += n;
		must(given + scrub_held(c) == at);
	}
	scrub_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t hay[HAY_MAX], out[HAY_MAX];
	struct span text;
	bool plain = true;

	if (!s)
		begin();
	text = span_of(hay, expand(data, size, hay));
	for (size_t i = 0; i < text.len; i++)
		plain &= hay[i] > 0x20 && !strchr("%\\&=", hay[i]);
	for (int i = 0; i < VALUES; i++)
		plain &= !naive_any(text, forms[i]);
	for (unsigned salt = 0; salt < 3; salt++) {
		if (scrubbed(text, salt, out))
			must(!plain || memcmp(hay, out, text.len) == 0);
	}
	framed(text);
	return 0;
}
