#include "review/review_inner.h"

#include "work/undo.h"

#include <errno.h>
#include <string.h>

static bool is_hidden(void *arg, struct span path)
{
	struct review *r = arg;
	struct pack_record record;
	struct err ignored;

	/* a report that cannot be read hides no less */
	return r->report != NULL && pack_report_find(r->report, path, &record, &ignored) != -ENOENT;
}

static void drop_list(struct review *r)
{
	for (size_t i = 0; r->more != NULL && i < r->count; i++)
		free(r->more[i].hunks);
	free(r->items);
	free(r->more);
	free(r->of_change);
	compare_free(r->compare);
	r->items = NULL;
	r->more = NULL;
	r->of_change = NULL;
	r->compare = NULL;
	r->count = 0;
}

static int make_room(struct review *r, struct err *e)
{
	size_t n = compare_count(r->compare);

	r->items = calloc(n + 1, sizeof(*r->items));
	r->more = calloc(n + 1, sizeof(*r->more));
	r->of_change = calloc(n + 1, sizeof(*r->of_change));
	if (r->items == NULL || r->more == NULL || r->of_change == NULL)
		return err_set(e, -ENOMEM, "no memory for a review of %zu changes", n);
	r->count = n;
	for (size_t i = 0; i < n; i++) {
		r->items[i].change = compare_at(r->compare, i);
		r->of_change[i] = (uint32_t)i;
	}
	return 0;
}

int review_look(struct review *r, struct err *e)
{
	_own_(review_look_free) struct review_look *k = NULL;
	struct span before = span_of("", 0);
	int got = review_look_new(r->links, r->on.classes, r->on.root_fd, &k, e);

	if (got < 0)
		return got;
	for (size_t i = 0; i < compare_count(r->compare); i++) {
		review_look_above(k, before, compare_at(r->compare, i)->path);
		before = compare_at(r->compare, i)->path;
	}
	review_look_down(k);
	return 0;
}

/*
 * A directory that only holds what is taken by itself would be made, and be empty. That is no harm,
 * and whoever takes what is in it gets it along; so it stays a plain change, which says so. Were it
 * held back as they are, its path had to be typed too, or rejected once more by itself.
 */
static void say_empty(struct review *r)
{
	const struct change *plain = NULL;
	const struct change *classed = NULL;

	for (size_t i = r->count; i > 0; i--) {
		struct review_item *it = &r->items[i - 1];
		const struct change *c = it->change;
		bool dir = c->guest.exists && c->guest.kind == WORK_DIR;

		if (dir && c->op == CHANGE_ADD && it->class == CLASS_PLAIN && it->reason == NULL &&
		    classed != NULL && wpath_beneath(c->path, classed->path, NULL) &&
		    (plain == NULL || !wpath_beneath(c->path, plain->path, NULL)))
			it->reason = "empty until what is in it is accepted";
		if (it->class != CLASS_PLAIN)
			classed = c;
		else if (!dir && c->op != CHANGE_DELETE)
			plain = c;
	}
}

static int judge_all(struct review *r, struct err *e)
{
	_own_(review_judge_free) struct review_judge *j = NULL;
	int got = review_judge_new(r, &j, e);

	for (size_t i = 0; got == 0 && i < r->count; i++) {
		got = review_judge_one(j, r->items[i].change, &r->items[i], &r->more[i], e);
		if (got == 0)
			review_keys(r, r->items[i].change, r->items[i].class, &r->more[i]);
	}
	if (got == 0)
		say_empty(r);
	return got;
}

/* -- decisions of before -- */

static int keep_hunks(struct review_item *it, struct review_more *more, const struct decision *d,
                      struct err *e)
{
	free(more->hunks);
	more->hunks = malloc(d->hunks.len);
	if (more->hunks == NULL)
		return err_set(e, -ENOMEM, "no memory for a decision");
	for (size_t i = 0; i < d->hunks.len; i++)
		more->hunks[i] = d->hunks.at[i] == '1';
	it->hunks = more->hunks;
	it->hunk_count = (uint32_t)d->hunks.len;
	return 0;
}

/* Of what is done nothing may have changed but the host, which is as it was wanted. */
static bool is_about_this(const struct review_more *more, const struct decision *d)
{
	if (d->done)
		return true;
	if (memcmp(more->what, d->what, sizeof(d->what)) != 0)
		return false;
	/* what stays as the host has it may be anything */
	return d->choice == DECISION_REJECT || memcmp(more->host, d->host, sizeof(d->host)) == 0;
}

struct lines {
	struct review *r;
	bool done; /* the line before, of what is there */
	uint8_t what[DECISION_KEY_BYTES];
};

/* Of a renamed file that was applied there are two lines beside each other, about one change. */
static bool is_half(struct lines *l, const struct decision *d)
{
	bool half = d->gone && d->done && l->done && memcmp(l->what, d->what, sizeof(l->what)) == 0;

	l->done = d->done && !d->gone;
	memcpy(l->what, d->what, sizeof(l->what));
	return half;
}

static int take_line(void *arg, const struct decision *d, struct span path, struct err *e)
{
	struct lines *l = arg;
	struct review *r = l->r;
	bool half = is_half(l, d);
	size_t i = review_find_side(r, path, d->gone);
	struct review_item *it;
	struct review_more *more;
	bool same, decided = d->choice != DECISION_UNDECIDED; /* as what was undone is not */

	if (i == SIZE_MAX) /* the host has made it go away; it may come again */
		return 0;
	it = &r->items[i];
	more = &r->more[i];
	same = is_about_this(more, d);
	it->choice = same ? d->choice : REVIEW_UNDECIDED;
	it->flags &= (uint8_t) ~(RV_REDECIDE | RV_DONE | RV_CONSENT_LINKS | RV_HALF);
	it->flags |= (uint8_t)((d->done ? RV_DONE : 0) | (half ? RV_HALF : 0) |
	                       (d->links ? RV_CONSENT_LINKS : 0) |
	                       (d->back || (!same && decided) ? RV_REDECIDE : 0));
	more->stale = same || memcmp(more->what, d->what, sizeof(d->what)) != 0 ? REVIEW_UNDECIDED
	                                                                        : d->choice;
	more->generation = d->generation;
	more->has_result = d->has_result;
	memcpy(more->result, d->result, sizeof(more->result));
	it->hunks = NULL;
	it->hunk_count = 0;
	return d->choice == DECISION_HUNKS ? keep_hunks(it, more, d, e) : 0;
}

/* Accepted, and the host has by now what was accepted: a crash came before it was written down. */
static bool has_come(struct review *r, size_t i)
{
	const struct review_more *more = &r->more[i];
	uint8_t sum[REVIEW_DIGEST_BYTES];
	struct err ignored;

	if (more->stale != REVIEW_ACCEPT && more->stale != REVIEW_HUNKS)
		return false;
	if (!more->has_result)
		return r->items[i].change->state == CHANGE_THERE;
	return review_side_digest(r, r->items[i].change, REVIEW_HOST, sum, &ignored) == 0 &&
	       memcmp(sum, more->result, sizeof(sum)) == 0;
}

static void settle(struct review *r, uint32_t last)
{
	for (size_t i = 0; i < r->count; i++) {
		struct review_item *it = &r->items[i];
		struct review_more *more = &r->more[i];

		if ((it->flags & RV_DONE) != 0 && more->generation > last) { /* it was undone */
			it->flags &= (uint8_t) ~(RV_DONE | RV_HALF);
			it->choice = REVIEW_UNDECIDED;
		} else if (more->stale != REVIEW_UNDECIDED && has_come(r, i)) {
			it->flags = (uint8_t)((it->flags & ~RV_REDECIDE) | RV_DONE);
			it->choice = more->stale;
			more->generation = last;
		}
	}
}

static int read_decisions(struct review *r, struct err *e)
{
	struct lines l = { .r = r };
	uint32_t last;
	int got = undo_last(r->on.session_fd, &last, e);

	if (got == 0)
		got = review_log_each(&r->log, take_line, &l, e);
	if (got == 0)
		settle(r, last);
	return got;
}

/* -- the order in which they are shown -- */

static enum review_section section_of(const struct review_item *it, const struct review_more *more)
{
	const struct change *c = it->change;
	bool done = (it->flags & RV_DONE) != 0;

	if (it->section == REVIEW_OUT) /* the judge's word */
		return REVIEW_OUT;
	if (!done && c->state == CHANGE_THERE)
		return REVIEW_THERE;
	if (it->class == CLASS_X0)
		return REVIEW_X0;
	if (!done && (c->state == CHANGE_CONFLICT || c->state == CHANGE_BOTH))
		return REVIEW_CONFLICTS;
	if (more->ignored)
		return REVIEW_IGNORED;
	switch ((enum work_class)it->class) {
	case CLASS_X0:
	case CLASS_X1:
		return REVIEW_X1;
	case CLASS_X2:
		return REVIEW_X2;
	case CLASS_X3:
		return REVIEW_X3;
	case CLASS_X4:
		return REVIEW_X4;
	case CLASS_PLAIN:
		break;
	}
	return REVIEW_PLAIN;
}

static void set_sections(struct review *r)
{
	size_t first = 0;

	memset(r->spans, 0, sizeof(r->spans));
	for (size_t i = 0; i < r->count; i++) {
		struct review_item *it = &r->items[i];

		it->section = (uint8_t)section_of(it, &r->more[i]);
		if (it->section != REVIEW_OUT && it->section != REVIEW_THERE) {
			it->flags |= RV_DECIDABLE;
		} else {
			it->flags &= (uint8_t) ~(RV_REDECIDE | RV_DECIDABLE);
			it->choice = REVIEW_UNDECIDED;
		}
		r->spans[it->section].count++;
	}
	for (size_t s = 0; s < REVIEW_SECTIONS; s++) {
		r->spans[s].first = first;
		first += r->spans[s].count;
	}
}

/* From the order of paths, each to its section. */
static int place(struct review *r, struct err *e)
{
	struct review_item *items = calloc(r->count + 1, sizeof(*items));
	struct review_more *more = calloc(r->count + 1, sizeof(*more));
	size_t next[REVIEW_SECTIONS];

	if (items == NULL || more == NULL) {
		free(items);
		free(more);
		return err_set(e, -ENOMEM, "no memory for a review of %zu changes", r->count);
	}
	for (size_t s = 0; s < REVIEW_SECTIONS; s++)
		next[s] = r->spans[s].first;
	for (size_t i = 0; i < r->count; i++) {
		size_t to = next[r->items[i].section]++;

		items[to] = r->items[i];
		more[to] = r->more[i];
		r->of_change[i] = (uint32_t)to;
	}
	free(r->items);
	free(r->more);
	r->items = items;
	r->more = more;
	return 0;
}

int review_list_make(struct review *r, struct err *e)
{
	struct compare_options opt = { .root_fd = r->on.root_fd,
		                       .hidden = is_hidden,
		                       .hidden_arg = r };
	int got;

	drop_list(r);
	opt.base = r->base;
	opt.proposal = r->proposal;
	if (r->on.progress)
		r->on.progress(r->on.progress_arg, "comparing with the workspace", 0, 0);
	got = compare_run(&opt, &r->compare, e);
	if (got == 0)
		got = review_look(r, e);
	if (got == 0)
		got = make_room(r, e);
	if (got == 0)
		got = judge_all(r, e);
	if (got == 0)
		got = read_decisions(r, e);
	if (got < 0)
		return got;
	set_sections(r);
	got = place(r, e);
	if (got == 0)
		review_needs_mark(r);
	return got;
}

void review_list_drop(struct review *r)
{
	drop_list(r);
}

/* The first change at or behind the path, in the order of compare. */
static size_t lower(const struct review *r, struct span path)
{
	size_t low = 0, high = r->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (wpath_cmp(compare_at(r->compare, mid)->path, path) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

size_t review_change_index(const struct review *r, const struct change *c)
{
	return r->count > 0 ? (size_t)(c - compare_at(r->compare, 0)) : 0;
}

size_t review_find_side(const struct review *r, struct span path, bool gone)
{
	for (size_t i = lower(r, path); i < r->count; i++) {
		const struct change *c = compare_at(r->compare, i);

		if (!span_equal(c->path, path))
			break;
		if (review_is_gone(c) == gone)
			return r->of_change[i];
	}
	return SIZE_MAX;
}

size_t review_find(const struct review *r, struct span path)
{
	size_t i = review_find_side(r, path, false);

	return i != SIZE_MAX ? i : review_find_side(r, path, true);
}
