#include "session/change_lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BINARY_LOOK_BYTES = 8 << 10 }; /* a NUL in them: no text. As proposal.h has it */

void change_lines_free(struct change_lines *l)
{
	if (!l)
		return;
	review_texts_free(l->own_texts);
	hunk_text_free(l->own_old);
	hunk_text_free(l->own_new);
	hunks_free(l->own_hunks);
	free(l->old_bytes);
	free(l->new_bytes);
	free(l);
}

static int take_edit(struct review *r, size_t i, struct change_lines *l, struct err *e)
{
	int got = review_hunks(r, i, &l->own_texts, e);

	if (got < 0)
		return got == -EINVAL ? -ENODATA : got;
	l->texts = l->own_texts;
	l->old = l->texts->base;
	l->new = l->texts->guest;
	l->hunks = l->texts->to_guest;
	return 0;
}

/* A side of something that is no edit: all of a file, if it is text, or nothing. */
static int take_side(struct review *r, size_t i, enum review_side which,
                     const struct change_side *side, char **ret_bytes, struct hunk_text **ret_text,
                     bool *has, struct err *e)
{
	size_t len = 0;
	int got = 0;

	if (side->exists && side->kind == WORK_FILE)
		got = review_content(r, i, which, HUNK_TEXT_MAX, ret_bytes, &len, e);
	if (got < 0)
		return got;
	if (len > 0 && memchr(*ret_bytes, 0, len < BINARY_LOOK_BYTES ? len : BINARY_LOOK_BYTES))
		len = 0;
	*has = *has || len > 0;
	return hunk_text_new(span_of(*ret_bytes, len), ret_text, e);
}

static int take_whole(struct review *r, size_t i, struct change_lines *l, struct err *e)
{
	const struct change *c = review_at(r, i)->change;
	bool has = false;
	int got = take_side(r, i, REVIEW_BASE, &c->base, &l->old_bytes, &l->own_old, &has, e);

	if (got == 0)
		got = take_side(r, i, REVIEW_GUEST, &c->guest, &l->new_bytes, &l->own_new, &has, e);
	if (got < 0)
		return got;
	if (!has)
		return -ENODATA;
	l->own_hunks = calloc(1, sizeof(*l->own_hunks) + sizeof(struct hunk));
	if (!l->own_hunks)
		return err_set(e, -ENOMEM, "out of memory");
	l->own_hunks->count = 1;
	l->own_hunks->at[0] =
		(struct hunk){ .old_lines = l->own_old->count, .new_lines = l->own_new->count };
	l->old = l->own_old;
	l->new = l->own_new;
	l->hunks = l->own_hunks;
	return 0;
}

static bool is_large_text(const struct change *c)
{
	return (c->flags & CHANGE_TEXT) &&
	       (c->base.size > HUNK_TEXT_MAX || c->host.size > HUNK_TEXT_MAX ||
	        c->guest.size > HUNK_TEXT_MAX);
}

int change_lines(struct review *r, size_t i, struct change_lines **ret, struct err *e)
{
	_own_(change_lines_free) struct change_lines *l = calloc(1, sizeof(*l));
	const struct review_item *item = review_at(r, i);
	int got = -ENODATA;

	if (!l)
		return err_set(e, -ENOMEM, "out of memory");
	if (item->section == REVIEW_OUT || item->section == REVIEW_THERE)
		return got; /* there is nothing to decide, and a reason */
	switch ((enum change_op)item->change->op) {
	case CHANGE_EDIT:
		if (item->flags & RV_TEXT)
			got = take_edit(r, i, l, e);
		else if (is_large_text(item->change))
			got = err_set(e, -E2BIG, "it has more than %d MiB", HUNK_TEXT_MAX >> 20);
		break;
	case CHANGE_ADD:
	case CHANGE_DELETE:
	case CHANGE_TYPE:
		got = take_whole(r, i, l, e);
		break;
	case CHANGE_MODE:
	case CHANGE_RENAME:
	default:
		break;
	}
	if (got == 0)
		*ret = steal_ptr(&l);
	return got;
}
