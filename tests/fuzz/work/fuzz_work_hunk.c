/*
 * An answer of the comparing job and two merges. The input: a byte that says how long the answer
 * is, the answer, then base, host and guest with a NUL between. Contracts: what is accepted as the
 * way from base to guest makes the guest of the base; with nothing chosen the host is left as it
 * is; a result is whole lines of the three.
 */
#include "work/merge.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* What differs between the first and the last line that do: one hunk, or none. */
static struct hunks *trim(const struct hunk_text *a, const struct hunk_text *b)
{
	uint32_t head = 0, tail = 0, n = a->count < b->count ? a->count : b->count;
	uint8_t raw[4 + sizeof(struct hunk)];
	struct hunks *ret = NULL;
	struct hunk h;
	struct buf out;
	struct err e;

	while (head < n && span_equal(hunk_lines(a, head, 1), hunk_lines(b, head, 1)))
		head++;
	while (tail < n - head && span_equal(hunk_lines(a, a->count - tail - 1, 1),
	                                     hunk_lines(b, b->count - tail - 1, 1)))
		tail++;
	h = (struct hunk){ head, a->count - tail - head, head, b->count - tail - head };
	buf_init(&out, raw, sizeof(raw));
	hunk_put(&out, &h, h.old_lines + h.new_lines > 0);
	must(hunk_parse(buf_span(&out), a, b, &ret, &e) == 0);
	return ret;
}

static void merge(const struct merge_in *in, struct span want)
{
	_own_free_ uint8_t *fates = malloc(in->to_guest->count + 1);
	_own_free_ uint8_t *storage = malloc(merge_bytes_max(in) + 1);
	struct buf out;

	must(fates != NULL && storage != NULL);
	(void)merge_fates(in, fates);
	buf_init(&out, storage, merge_bytes_max(in));
	merge_put(in, fates, &out);
	must(buf_ok(&out) && (want.at == NULL || span_equal(buf_span(&out), want)));
}

static void try(struct span answer, struct span base, struct span host, struct span guest)
{
	_own_(hunk_text_free) struct hunk_text *b = NULL, *h = NULL, *g = NULL;
	_own_(hunks_free) struct hunks *to_h = NULL, *to_g = NULL, *none = NULL;
	_own_free_ uint8_t *no = NULL;
	struct err e;

	must(hunk_text_new(base, &b, &e) == 0 && hunk_text_new(host, &h, &e) == 0 &&
	     hunk_text_new(guest, &g, &e) == 0);
	if (hunk_parse(answer, b, g, &to_g, &e) < 0)
		to_g = trim(b, g);
	to_h = trim(b, h);
	none = trim(b, b);
	no = calloc(1, to_g->count + 1);
	must(no != NULL);
	merge(&(struct merge_in){ b, b, g, none, to_g, NULL }, guest);
	merge(&(struct merge_in){ b, h, g, to_h, to_g, no }, host);
	merge(&(struct merge_in){ b, h, g, to_h, to_g, NULL }, (struct span){ NULL, 0 });
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = span_of(data, size), answer, base, host = span_str("");
	uint8_t n;

	if (!take_u8(&in, &n) || !take_span(&in, n, &answer) || !take_until(&in, '\0', &base))
		return 0;
	(void)take_until(&in, '\0', &host);
	try(answer, base, host, in);
	return 0;
}
