#include "work/hunk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint32_t count_lines(struct span text)
{
	uint32_t n = 0;

	for (const uint8_t *at = text.at, *end = text.at + text.len; at < end; n++) {
		const uint8_t *nl = memchr(at, '\n', (size_t)(end - at));

		at = nl == NULL ? end : nl + 1;
	}
	return n;
}

int hunk_text_new(struct span text, struct hunk_text **ret, struct err *e)
{
	struct hunk_text *t;
	uint32_t n;

	if (text.len > HUNK_TEXT_MAX)
		return err_set(e, -E2BIG, "over %d MiB of text", HUNK_TEXT_MAX >> 20);
	n = count_lines(text);
	if (n > HUNK_LINES_MAX)
		return err_set(e, -E2BIG, "over %d lines", HUNK_LINES_MAX);
	t = malloc(sizeof(*t) + ((size_t)n + 1) * sizeof(t->starts_[0]));
	if (t == NULL)
		return err_set(e, -ENOMEM, "no memory for the lines of a text");
	t->text = text;
	t->count = n;
	t->starts_[0] = 0;
	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *at = text.at + t->starts_[i];
		const uint8_t *nl = memchr(at, '\n', text.len - t->starts_[i]);

		t->starts_[i + 1] = nl == NULL ? (uint32_t)text.len : (uint32_t)(nl + 1 - text.at);
	}
	*ret = t;
	return 0;
}

void hunk_text_free(struct hunk_text *t)
{
	free(t);
}

struct span hunk_lines(const struct hunk_text *t, uint32_t at, uint32_t lines)
{
	uint32_t from = t->starts_[at];

	return span_of(t->text.at + from, t->starts_[at + lines] - from);
}

void hunks_free(struct hunks *h)
{
	free(h);
}

/* The same number of lines on both sides, with the same bytes. */
static bool is_same_run(const struct hunk_text *old, uint32_t old_at, uint32_t old_end,
                        const struct hunk_text *new, uint32_t new_at, uint32_t new_end)
{
	return old_end - old_at == new_end - new_at &&
	       span_equal(hunk_lines(old, old_at, old_end - old_at),
	                  hunk_lines(new, new_at, new_end - new_at));
}

bool hunk_check(const struct hunk *h, uint32_t count, const struct hunk_text *old,
                const struct hunk_text *new)
{
	uint32_t old_at = 0, new_at = 0;

	for (uint32_t i = 0; i < count; i++) {
		const struct hunk *k = &h[i];

		if (k->old_at < old_at || k->new_at < new_at || k->old_at > old->count ||
		    k->new_at > new->count || k->old_lines > old->count - k->old_at ||
		    k->new_lines > new->count - k->new_at || k->old_lines + k->new_lines == 0)
			return false;
		if (i > 0 && k->old_at == old_at) /* two that touch are one */
			return false;
		if (!is_same_run(old, old_at, k->old_at, new, new_at, k->new_at))
			return false;
		old_at = k->old_at + k->old_lines;
		new_at = k->new_at + k->new_lines;
	}
	return is_same_run(old, old_at, old->count, new, new_at, new->count);
}

static bool take_hunk(struct span *in, struct hunk *ret)
{
	return take_le32(in, &ret->old_at) && take_le32(in, &ret->old_lines) &&
	       take_le32(in, &ret->new_at) && take_le32(in, &ret->new_lines);
}

int hunk_parse(struct span answer, const struct hunk_text *old, const struct hunk_text *new,
               struct hunks **ret, struct err *e)
{
	_own_(hunks_free) struct hunks *h = NULL;
	uint32_t count;
	bool ok;

	if (!take_le32(&answer, &count))
		return err_set(e, -EBADMSG, "the comparison was cut short");
	if (count > HUNK_COUNT_MAX)
		return err_set(e, -E2BIG, "over %d places differ", HUNK_COUNT_MAX);
	h = malloc(sizeof(*h) + count * sizeof(h->at[0]));
	if (h == NULL)
		return err_set(e, -ENOMEM, "no memory for a comparison");
	h->count = count;
	ok = answer.len == count * sizeof(struct hunk);
	for (uint32_t i = 0; ok && i < count; i++)
		ok = take_hunk(&answer, &h->at[i]);
	if (!ok || !hunk_check(h->at, count, old, new))
		return err_set(e, -EBADMSG, "the comparison does not describe the two texts");
	*ret = steal_ptr(&h);
	return 0;
}

void hunk_put(struct buf *out, const struct hunk *h, uint32_t count)
{
	buf_put_le32(out, count);
	for (uint32_t i = 0; i < count; i++) {
		buf_put_le32(out, h[i].old_at);
		buf_put_le32(out, h[i].old_lines);
		buf_put_le32(out, h[i].new_at);
		buf_put_le32(out, h[i].new_lines);
	}
}
