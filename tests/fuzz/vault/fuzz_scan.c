/*
 * The scan of a stream against a naive search, cut in two ways. Bytes 1 to 8 of the input become a
 * form of the placeholder, which differs from run to run.
 */
#include "naive.h"
#include "vault/scan.h"

#include <errno.h>

enum { HAY_MAX = 20000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct store *s;
static struct naive_form forms[NAIVE_FORMS];

static void begin(void)
{
	must(store_new(&s, NULL) == 0);
	must(store_set(s, span_str("TOKEN"), span_str("ghp_16C7e42F292c6912E7710c838347Ae178B4a"),
	               NULL) == 0);
	naive_forms(store_placeholder(s, span_str("TOKEN")), forms);
}

static size_t expand(const uint8_t *data, size_t size, uint8_t *hay)
{
	size_t len = 0;

	for (size_t i = 0; i < size; i++) {
		const struct naive_form *f = &forms[(data[i] + 7u) % 8];

		if (data[i] == 0 || data[i] > 8) {
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

static bool scanned(struct span hay, unsigned salt, bool frames)
{
	struct scan_hit hit;
	struct scan *c;
	bool found = false;

	must(scan_new(s, NULL, &c, NULL) == 0);
	if (frames)
		scan_upgrade(c);
	for (size_t at = 0; at < hay.len && !found;) {
		size_t n = naive_piece(hay, at, salt);
		int r = scan_piece(c, span_of(hay.at + at, n), &hit);

		must(r == 0 || r == -EPERM || (frames && r == -EPROTO));
		found = r < 0;
		at += n;
	}
	scan_free(c);
	return found;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t hay[HAY_MAX];
	struct scan_hit hit;
	struct span text;
	bool naive;

	if (!s)
		begin();
	text = span_of(hay, expand(data, size, hay));
	naive = naive_any(text, forms);
	if (naive)
		must(scan_text(s, text, &hit) && span_is(hit.secret, "TOKEN"));
	if (scan_text(s, text, &hit) || naive) {
		must(scanned(text, 0, false));
		must(scanned(text, 1, false));
	}
	(void)scanned(text, 2, true);
	return 0;
}
