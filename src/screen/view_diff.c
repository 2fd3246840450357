#include "screen/view_diff.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

void view_diff_free(struct view_diff *d)
{
	free(d);
}

static const struct hunk *guest_hunk(const struct view_diff *d, uint32_t b)
{
	return &d->texts.to_guest->at[b];
}

static const struct hunk_text *host_text(const struct view_diff *d)
{
	return d->texts.host ? d->texts.host : d->texts.base;
}

static bool in_conflict(const struct view_diff *d, uint32_t b)
{
	return d->texts.to_host && d->texts.fates && d->texts.fates[b] == MERGE_CONFLICT;
}

/* As merge.h has it: two that have no line of the base between them belong together. */
static bool touches(const struct hunk *a, const struct hunk *b)
{
	return a->old_at <= b->old_at + b->old_lines && b->old_at <= a->old_at + a->old_lines;
}

/* The host's hunks that this block meets; `from` is where those of the block before began. */
static void find_host(const struct view_diff *d, uint32_t b, uint32_t from, struct view_block *ret)
{
	const struct hunks *host = d->texts.to_host;
	const struct hunk *h = guest_hunk(d, b);
	uint32_t first = from;

	while (first < host->count &&
	       host->at[first].old_at + host->at[first].old_lines < h->old_at)
		first++;
	ret->host_first = first;
	while (first < host->count && touches(&host->at[first], h)) {
		const struct hunk *at = &host->at[first++];

		ret->host_lines += d->split ? at->new_lines : 1 + at->old_lines + at->new_lines;
	}
	ret->host_count = first - ret->host_first;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

/* Lines between headline and the equal lines behind, without the user's version. */
static uint32_t body_lines(const struct view_diff *d, uint32_t b)
{
	const struct hunk *h = guest_hunk(d, b);

	if (!d->split)
		return h->old_lines + h->new_lines;
	if (d->blocks[b].host_count > 0)
		return larger(d->blocks[b].host_lines, h->new_lines);
	return larger(h->old_lines, h->new_lines);
}

static uint32_t yours_lines(const struct view_diff *d, uint32_t b)
{
	return d->split ? 0 : d->blocks[b].host_lines;
}

static void lay_out(struct view_diff *d)
{
	uint32_t lines = d->texts.base->count;
	uint32_t shown = 0; /* lines of the base up to here are shown or changed */
	uint32_t host = 0;

	for (uint32_t b = 0; b < d->count; b++) {
		const struct hunk *h = guest_hunk(d, b);
		struct view_block *at = &d->blocks[b];
		uint32_t end = h->old_at + h->old_lines;
		uint32_t next = b + 1 < d->count ? guest_hunk(d, b + 1)->old_at : lines;

		at->start = d->lines;
		at->before = h->old_at - shown < VIEW_CONTEXT ? h->old_at - shown : VIEW_CONTEXT;
		at->after = next - end < VIEW_CONTEXT ? next - end : VIEW_CONTEXT;
		shown = end + at->after;
		if (in_conflict(d, b)) {
			find_host(d, b, host, at);
			host = at->host_first;
		}
		d->lines +=
			1 + (uint64_t)at->before + body_lines(d, b) + yours_lines(d, b) + at->after;
	}
}

int view_diff_new(const struct view_texts *t, bool split, struct view_diff **ret, struct err *e)
{
	uint32_t count = t->to_guest->count;
	struct view_diff *d = calloc(1, sizeof(*d) + count * sizeof(d->blocks[0]));

	if (!d)
		return err_set(e, -ENOMEM, "out of memory");
	d->texts = *t;
	d->split = split;
	d->count = count;
	lay_out(d);
	*ret = d;
	return 0;
}

uint32_t view_diff_block(const struct view_diff *d, uint64_t n)
{
	uint32_t low = 0;
	uint32_t high = d->count;

	assert(d->count > 0);
	while (high - low > 1) {
		uint32_t mid = low + (high - low) / 2;

		if (d->blocks[mid].start <= n)
			low = mid;
		else
			high = mid;
	}
	return low;
}

static void put_left(struct view_diff_line *l, const struct hunk_text *t, uint32_t at)
{
	l->has_left = true;
	l->left_no = at + 1;
	l->left = hunk_lines(t, at, 1);
}

static void put_right(struct view_diff_line *l, const struct hunk_text *t, uint32_t at)
{
	l->has_right = true;
	l->right_no = at + 1;
	l->right = hunk_lines(t, at, 1);
}

static void put_context(const struct view_diff *d, uint32_t old_at, uint32_t new_at,
                        struct view_diff_line *ret)
{
	ret->kind = VIEW_LINE_CONTEXT;
	put_left(ret, d->texts.base, old_at);
	put_right(ret, d->texts.guest, new_at);
}

static void put_head(struct view_diff_line *l, uint8_t kind, const struct hunk *h)
{
	l->kind = kind;
	l->old_at = h->old_at;
	l->old_lines = h->old_lines;
	l->new_at = h->new_at;
	l->new_lines = h->new_lines;
}

/* Line n of the user's version of this place, without headlines. */
static bool host_line(const struct view_diff *d, const struct view_block *b, uint32_t n,
                      uint32_t *ret)
{
	for (uint32_t i = 0; i < b->host_count; i++) {
		const struct hunk *h = &d->texts.to_host->at[b->host_first + i];

		if (n < h->new_lines) {
			*ret = h->new_at + n;
			return true;
		}
		n -= h->new_lines;
	}
	return false;
}

static void put_split(const struct view_diff *d, uint32_t b, uint32_t n, struct view_diff_line *ret)
{
	const struct hunk *h = guest_hunk(d, b);
	const struct view_block *at = &d->blocks[b];
	uint32_t line;

	ret->kind = VIEW_LINE_BOTH;
	if (n < h->new_lines)
		put_right(ret, d->texts.guest, h->new_at + n);
	if (at->host_count > 0) {
		if (host_line(d, at, n, &line))
			put_left(ret, host_text(d), line);
	} else if (n < h->old_lines) {
		put_left(ret, d->texts.base, h->old_at + n);
	}
}

static void put_unified(const struct view_diff *d, uint32_t b, uint32_t n,
                        struct view_diff_line *ret)
{
	const struct hunk *h = guest_hunk(d, b);

	if (n < h->old_lines) {
		ret->kind = VIEW_LINE_OLD;
		put_left(ret, d->texts.base, h->old_at + n);
	} else {
		ret->kind = VIEW_LINE_NEW;
		put_right(ret, d->texts.guest, h->new_at + n - h->old_lines);
	}
}

/* Line n of what the user changed here: each hunk with its headline. */
static void put_yours(const struct view_diff *d, uint32_t b, uint32_t n, struct view_diff_line *ret)
{
	const struct view_block *at = &d->blocks[b];

	for (uint32_t i = 0; i < at->host_count; i++) {
		const struct hunk *h = &d->texts.to_host->at[at->host_first + i];

		if (n == 0) {
			put_head(ret, VIEW_LINE_YOURS, h);
			return;
		}
		n--;
		if (n < h->old_lines) {
			ret->kind = VIEW_LINE_HOST_OLD;
			put_left(ret, d->texts.base, h->old_at + n);
			return;
		}
		n -= h->old_lines;
		if (n < h->new_lines) {
			ret->kind = VIEW_LINE_HOST_NEW;
			put_right(ret, host_text(d), h->new_at + n);
			return;
		}
		n -= h->new_lines;
	}
	assert(false); /* a line behind its block */
}

void view_diff_line(const struct view_diff *d, uint64_t n, struct view_diff_line *ret)
{
	uint32_t b = view_diff_block(d, n);
	const struct view_block *at = &d->blocks[b];
	const struct hunk *h = guest_hunk(d, b);
	uint32_t in = (uint32_t)(n - at->start);
	uint32_t body = body_lines(d, b);
	uint32_t yours = yours_lines(d, b);

	assert(n < d->lines);
	*ret = (struct view_diff_line){ .block = b };
	if (in == 0) {
		put_head(ret, VIEW_LINE_HEAD, h);
		return;
	}
	in--;
	if (in < at->before) {
		uint32_t back = at->before - in;

		put_context(d, h->old_at - back, h->new_at - back, ret);
		return;
	}
	in -= at->before;
	if (in < body) {
		if (d->split)
			put_split(d, b, in, ret);
		else
			put_unified(d, b, in, ret);
	} else if (in - body < yours) {
		put_yours(d, b, in - body, ret);
	} else {
		in -= body + yours;
		put_context(d, h->old_at + h->old_lines + in, h->new_at + h->new_lines + in, ret);
	}
}
