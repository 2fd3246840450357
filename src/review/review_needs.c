/*
 * Theory of operation. What is made at a path needs the directories above it that the agent made or
 * renamed: nothing else brings them. Such a need is taken along where it is plain and nobody
 * decided on it. Where it was rejected, or is for a person alone to decide, the item waits.
 */
#include "review/review_inner.h"

bool review_is_wanted(const struct review_item *it)
{
	return review_is_open(it) && (it->choice == REVIEW_ACCEPT || it->choice == REVIEW_HUNKS);
}

/* Does it make a directory at its path, or bring one there? */
static bool is_maker(const struct change *c)
{
	return c->guest.exists && c->guest.kind == WORK_DIR &&
	       (c->op == CHANGE_ADD || c->op == CHANGE_TYPE || c->op == CHANGE_RENAME);
}

/* Is there something of it at its new path? */
static bool is_made(const struct change *c)
{
	switch ((enum change_op)c->op) {
	case CHANGE_ADD:
	case CHANGE_TYPE:
	case CHANGE_RENAME:
		return true;
	case CHANGE_EDIT:
	case CHANGE_MODE:
		return !span_equal(c->path, c->from);
	case CHANGE_DELETE:
		break;
	}
	return false;
}

bool review_may_pull(const struct review_item *it)
{
	if (!review_is_open(it) || it->choice != REVIEW_UNDECIDED)
		return false;
	if (it->change->op == CHANGE_ADD) /* an empty directory */
		return it->change->state == CHANGE_PROPOSED;
	return it->change->op == CHANGE_RENAME && it->section == REVIEW_PLAIN;
}

bool review_need(const struct review *r, const struct change *c, struct span *dir, size_t *ret)
{
	if (!is_made(c))
		return false;
	while (dir->len > 0) {
		size_t k;

		*dir = wpath_parent(*dir);
		k = dir->len > 0 ? review_find_side(r, *dir, false) : SIZE_MAX;
		if (k != SIZE_MAX && is_maker(r->items[k].change)) {
			*ret = k;
			return true;
		}
	}
	return false;
}

/* Is there, or will be. */
static bool is_met(const struct review_item *need)
{
	if ((need->flags & RV_DONE) != 0 || need->section == REVIEW_THERE)
		return true;
	return review_is_wanted(need) || review_may_pull(need);
}

static void mark(struct review *r, size_t i)
{
	struct review_item *it = &r->items[i];
	struct span dir = it->change->path;
	size_t need;

	it->flags &= (uint8_t)~RV_NEEDS;
	if (!review_is_wanted(it))
		return;
	while (review_need(r, it->change, &dir, &need)) {
		if (!is_met(&r->items[need]))
			it->flags |= RV_NEEDS;
	}
}

void review_needs_mark(struct review *r)
{
	for (size_t i = 0; i < r->count; i++)
		mark(r, i);
}

void review_needs_mark_at(struct review *r, size_t i)
{
	const struct change *c = r->items[i].change;
	size_t at = review_change_index(r, c);

	mark(r, i);
	for (size_t k = at + 1; is_maker(c) && k < r->count; k++) {
		if (!wpath_beneath(c->path, compare_at(r->compare, k)->path, NULL))
			break;
		mark(r, r->of_change[k]);
	}
}
