#include "work/merge.h"

static uint32_t old_end(const struct hunk *h)
{
	return h->old_at + h->old_lines;
}

/* Is no line of the base between them? Two that only touch could be meant in either order. */
static bool is_near(const struct hunk *a, const struct hunk *b)
{
	return a->old_at <= old_end(b) && b->old_at <= old_end(a);
}

static bool is_same_hunk(const struct merge_in *in, const struct hunk *host,
                         const struct hunk *guest)
{
	return host->old_at == guest->old_at && host->old_lines == guest->old_lines &&
	       span_equal(hunk_lines(in->host, host->new_at, host->new_lines),
	                  hunk_lines(in->guest, guest->new_at, guest->new_lines));
}

/* The first hunk of the host from *at on that does not end before g begins. */
static const struct hunk *first_near(const struct merge_in *in, const struct hunk *g, uint32_t *at)
{
	while (*at < in->to_host->count && old_end(&in->to_host->at[*at]) < g->old_at)
		++*at;
	if (*at == in->to_host->count || !is_near(&in->to_host->at[*at], g))
		return NULL;
	return &in->to_host->at[*at];
}

static enum merge_fate fate_of(const struct merge_in *in, const struct hunk *g, uint32_t *at)
{
	const struct hunk *h = first_near(in, g, at);

	if (h == NULL)
		return MERGE_TAKEN;
	if (is_same_hunk(in, h, g))
		return MERGE_SAME;
	return MERGE_CONFLICT;
}

uint32_t merge_fates(const struct merge_in *in, uint8_t *ret_fates)
{
	uint32_t conflicts = 0, at = 0;

	for (uint32_t i = 0; i < in->to_guest->count; i++) {
		enum merge_fate fate = fate_of(in, &in->to_guest->at[i], &at);

		if (in->chosen != NULL && !in->chosen[i] && fate != MERGE_SAME)
			fate = MERGE_LEFT;
		ret_fates[i] = (uint8_t)fate;
		conflicts += fate == MERGE_CONFLICT;
	}
	return conflicts;
}

size_t merge_bytes_max(const struct merge_in *in)
{
	return in->host->text.len + in->guest->text.len;
}

/* Lines of the base that neither side has touched, up to `to`. */
static void put_base(const struct merge_in *in, uint32_t *at, uint32_t to, struct buf *out)
{
	if (to > *at) {
		buf_put_span(out, hunk_lines(in->base, *at, to - *at));
		*at = to;
	}
}

/*
 * Hunks that are taken from different sides never touch, so the one that begins first also ends
 * first.
 */
void merge_put(const struct merge_in *in, const uint8_t *fates, struct buf *out)
{
	uint32_t at = 0, g = 0;

	for (uint32_t h = 0; h <= in->to_host->count; h++) {
		const struct hunk *host = h < in->to_host->count ? &in->to_host->at[h] : NULL;

		for (; g < in->to_guest->count; g++) {
			const struct hunk *guest = &in->to_guest->at[g];

			if (host != NULL && guest->old_at > host->old_at)
				break;
			if (fates[g] != MERGE_TAKEN)
				continue;
			put_base(in, &at, guest->old_at, out);
			buf_put_span(out, hunk_lines(in->guest, guest->new_at, guest->new_lines));
			at = old_end(guest);
		}
		if (host != NULL) {
			put_base(in, &at, host->old_at, out);
			buf_put_span(out, hunk_lines(in->host, host->new_at, host->new_lines));
			at = old_end(host);
		}
	}
	put_base(in, &at, in->base->count, out);
}
