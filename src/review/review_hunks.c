#include "review/review_inner.h"

#include "work/hunk_job.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum { TEXT_HEAD_BYTES = 8 << 10 };

void review_texts_free(struct review_texts *t)
{
	if (t == NULL)
		return;
	hunk_text_free(t->base);
	hunk_text_free(t->host);
	hunk_text_free(t->guest);
	hunks_free(t->to_host);
	hunks_free(t->to_guest);
	free(t->fates);
	free(t->base_text);
	free(t->host_text);
	free(t->guest_text);
	free(t);
}

/* A side's text and its lines; what is not there, or is no file, is an empty text. */
static int load(struct review *r, const struct change *c, enum review_side side, char **ret_text,
                struct hunk_text **ret, struct err *e)
{
	const struct change_side *s = side == REVIEW_BASE   ? &c->base
	                              : side == REVIEW_HOST ? &c->host
	                                                    : &c->guest;
	size_t len = 0;
	int got = 0;

	if (s->exists && s->kind == WORK_FILE)
		got = review_side_bytes(r, c, side, HUNK_TEXT_MAX, ret_text, &len, e);
	else
		*ret_text = calloc(1, 1);
	if (got == 0 && *ret_text == NULL)
		got = err_set(e, -ENOMEM, "no memory for a text");
	return got < 0 ? got : hunk_text_new(span_of(*ret_text, len), ret, e);
}

/* Has the host a text of its own there? */
static bool asks_host(const struct change *c)
{
	return c->host.exists && c->host.kind == WORK_FILE && c->host.size <= HUNK_TEXT_MAX &&
	       (c->state == CHANGE_BOTH || c->state == CHANGE_CONFLICT) &&
	       (c->flags & CHANGE_HOST_UNTOUCHED) == 0;
}

static int load_host(struct review *r, const struct change *c, struct review_texts *t,
                     struct err *e)
{
	struct span head;
	int got;

	if (!asks_host(c))
		return 0;
	got = load(r, c, REVIEW_HOST, &t->host_text, &t->host, e);
	if (got < 0)
		return got;
	head = t->host->text;
	if (head.len > TEXT_HEAD_BYTES)
		head.len = TEXT_HEAD_BYTES;
	if (memchr(head.at, 0, head.len) != NULL)
		return err_set(e, -EINVAL, "what is in the workspace by now is no text");
	return hunk_compare(r->on.diff_path, t->base, t->host, &t->to_host, e);
}

static struct merge_in merge_of(const struct review_texts *t, const uint8_t *chosen)
{
	static const struct hunks none = { .count = 0 };

	return (struct merge_in){ .base = t->base,
		                  .host = t->host != NULL ? t->host : t->base,
		                  .guest = t->guest,
		                  .to_host = t->to_host != NULL ? t->to_host : &none,
		                  .to_guest = t->to_guest,
		                  .chosen = chosen };
}

static int set_fates(struct review_texts *t, struct err *e)
{
	struct merge_in in = merge_of(t, NULL);

	t->fates = calloc((size_t)t->to_guest->count + 1, 1);
	if (t->fates == NULL)
		return err_set(e, -ENOMEM, "no memory for a merge");
	t->conflicts = merge_fates(&in, t->fates);
	return 0;
}

int review_hunks(struct review *r, size_t i, struct review_texts **ret, struct err *e)
{
	const struct change *c = r->items[i].change;
	_own_(review_texts_free) struct review_texts *t = NULL;
	int got;

	if ((r->items[i].flags & RV_TEXT) == 0)
		return err_set(e, -EINVAL, "it is no text");
	t = calloc(1, sizeof(*t));
	if (t == NULL)
		return err_set(e, -ENOMEM, "no memory for a text");
	got = load(r, c, REVIEW_BASE, &t->base_text, &t->base, e);
	if (got == 0)
		got = load(r, c, REVIEW_GUEST, &t->guest_text, &t->guest, e);
	if (got == 0)
		got = load_host(r, c, t, e);
	if (got == 0)
		got = hunk_compare(r->on.diff_path, t->base, t->guest, &t->to_guest, e);
	if (got == 0)
		got = set_fates(t, e);
	if (got == 0)
		*ret = steal_ptr(&t);
	return got;
}

int review_compose(struct review *r, size_t i, const struct review_texts *t, const uint8_t *chosen,
                   uint8_t **ret, size_t *ret_len, struct err *e)
{
	struct merge_in in = merge_of(t, chosen);
	size_t room = merge_bytes_max(&in);
	_own_free_ uint8_t *fates = calloc((size_t)t->to_guest->count + 1, 1);
	_own_free_ uint8_t *text = malloc(room + 1);
	struct buf out;

	(void)r;
	(void)i;
	if (fates == NULL || text == NULL)
		return err_set(e, -ENOMEM, "no memory for a merge");
	(void)merge_fates(&in, fates);
	buf_init(&out, text, room);
	merge_put(&in, fates, &out);
	if (!buf_ok(&out))
		return err_set(e, -EIO, "a merge came out too long");
	*ret = steal_ptr(&text);
	*ret_len = out.len;
	return 0;
}

/* What cannot be compared line by line is taken whole; other failures are failures. */
static bool is_whole(int got)
{
	return got == -E2BIG || got == -ETIMEDOUT || got == -ECANCELED || got == -EINVAL;
}

int review_result(struct review *r, size_t i, const uint8_t *chosen, bool *ret_merged,
                  uint8_t **ret, size_t *ret_len, struct err *e)
{
	_own_(review_texts_free) struct review_texts *t = NULL;
	struct err why = { 0 };
	int got = review_hunks(r, i, &t, &why);

	assert(got < 0 || t != NULL);
	*ret_merged = false;
	if (chosen == NULL && (is_whole(got) || (got == 0 && t->conflicts > 0)))
		return 0;
	if (got < 0)
		return err_set(e, got, "%s", why.text);
	if (chosen != NULL && r->items[i].hunk_count != t->to_guest->count)
		return err_set(e, -ESTALE, "its hunks are others than those that were decided on");
	got = review_compose(r, i, t, chosen, ret, ret_len, e);
	*ret_merged = got == 0;
	return got;
}
