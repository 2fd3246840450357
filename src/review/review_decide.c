#include "review/review_inner.h"

#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

_Static_assert((int)DECISION_UNDECIDED == (int)REVIEW_UNDECIDED &&
                       (int)DECISION_ACCEPT == (int)REVIEW_ACCEPT &&
                       (int)DECISION_REJECT == (int)REVIEW_REJECT &&
                       (int)DECISION_HUNKS == (int)REVIEW_HUNKS,
               "a line holds the choice as it is");

/* -- writing down -- */

static int add_line(struct review *r, const struct review_change *ch, uint64_t at_s,
                    struct review_lines *lines, struct err *e)
{
	const struct change *c = r->items[ch->item].change;
	const struct review_more *more = &r->more[ch->item];
	_own_free_ char *digits = NULL;
	struct decision d = { .gone = review_is_gone(c),
		              .choice = ch->choice,
		              .links = ch->links,
		              .has_result = ch->has_result,
		              .done = ch->done,
		              .back = ch->back,
		              .generation = ch->generation,
		              .at_s = at_s };
	int got;

	memcpy(d.what, more->what, sizeof(d.what));
	memcpy(d.host, more->host, sizeof(d.host));
	memcpy(d.result, ch->result, sizeof(d.result));
	if (ch->choice == REVIEW_HUNKS) {
		digits = malloc(ch->hunk_count);
		if (digits == NULL)
			return err_set(e, -ENOMEM, "no memory to write decisions down");
		for (uint32_t i = 0; i < ch->hunk_count; i++)
			digits[i] = ch->hunks[i] ? '1' : '0';
		d.hunks = span_of(digits, ch->hunk_count);
	}
	got = review_lines_add(lines, c->path, &d, e);
	/* a file that was renamed is, once it is done, something gone and something new */
	if (got == 0 && ch->done && c->op == CHANGE_RENAME && c->base.kind == WORK_FILE) {
		d.gone = true;
		got = review_lines_add(lines, c->from, &d, e);
	}
	return got;
}

static void set_item(struct review *r, const struct review_change *ch, uint8_t *hunks)
{
	struct review_item *it = &r->items[ch->item];
	struct review_more *more = &r->more[ch->item];

	it->choice = ch->choice;
	it->flags &= (uint8_t) ~(RV_REDECIDE | RV_CONSENT_LINKS | RV_DONE);
	it->flags |= (uint8_t)((ch->links ? RV_CONSENT_LINKS : 0) | (ch->done ? RV_DONE : 0) |
	                       (ch->back ? RV_REDECIDE : 0));
	more->generation = ch->generation;
	more->has_result = ch->has_result;
	memcpy(more->result, ch->result, sizeof(more->result));
	if (hunks != NULL) {
		free(more->hunks);
		more->hunks = hunks;
	}
	it->hunks = ch->choice == REVIEW_HUNKS ? more->hunks : NULL;
	it->hunk_count = ch->choice == REVIEW_HUNKS ? ch->hunk_count : 0;
}

struct review_change review_change_of(const struct review *r, size_t i)
{
	const struct review_item *it = &r->items[i];
	const struct review_more *more = &r->more[i];
	struct review_change ch = { .item = i,
		                    .choice = it->choice,
		                    .links = (it->flags & RV_CONSENT_LINKS) != 0,
		                    .done = (it->flags & RV_DONE) != 0,
		                    .has_result = more->has_result,
		                    .generation = more->generation,
		                    .hunks = it->hunks,
		                    .hunk_count = it->hunk_count };

	memcpy(ch.result, more->result, sizeof(ch.result));
	return ch;
}

int review_write(struct review *r, const struct review_change *changes, size_t count, struct err *e)
{
	uint64_t at_s = clock_real_ns() / 1000000000;
	struct review_lines lines = { 0 };
	_own_free_ uint8_t *hunks = NULL;
	bool new_hunks = count == 1 && changes->choice == REVIEW_HUNKS &&
	                 changes->hunks != r->more[changes->item].hunks;
	int got = 0;

	if (count == 0)
		return 0;
	if (new_hunks) {
		hunks = malloc(changes->hunk_count);
		if (hunks == NULL)
			return err_set(e, -ENOMEM, "no memory for a decision");
		memcpy(hunks, changes->hunks, changes->hunk_count);
	}
	for (size_t i = 0; got == 0 && i < count; i++)
		got = add_line(r, &changes[i], at_s, &lines, e);
	if (got == 0)
		got = review_log_add(&r->log, span_of(lines.at, lines.len), e);
	review_lines_clear(&lines);
	if (got < 0)
		return got;
	for (size_t i = 0; i < count; i++)
		set_item(r, &changes[i], steal_ptr(&hunks));
	if (count == 1)
		review_needs_mark_at(r, changes->item);
	else
		review_needs_mark(r);
	return 0;
}

/* -- what may be decided -- */

static int check_open(const struct review *r, size_t i, struct err *e)
{
	const struct review_item *it = i < r->count ? &r->items[i] : NULL;

	if (it == NULL || (it->flags & RV_DECIDABLE) == 0)
		return err_set(e, -EINVAL, "there is nothing to decide here");
	if ((it->flags & RV_DONE) != 0)
		return err_set(e, -EINVAL, "it was applied already; undo is for that");
	return 0;
}

/* What no plan can do: better said now than when it is applied. */
static int check_accept(const struct change *c, struct err *e)
{
	if (c->host.exists && c->host.kind == 0)
		return err_set(e, -EPERM,
		               "the workspace has something there that is no file, directory or "
		               "link; reject it, or move that away and open the review again");
	if (c->state != CHANGE_CONFLICT)
		return 0;
	if (c->op == CHANGE_RENAME)
		return err_set(e, -EPERM,
		               "it cannot be renamed: %s; reject it, or make room and open the "
		               "review again",
		               change_why_text((enum change_why)c->why));
	if (c->op == CHANGE_DELETE && c->host.exists && c->host.kind == WORK_DIR &&
	    c->base.kind != WORK_DIR)
		return err_set(e, -EPERM, "it is a directory here by now; reject it");
	return 0;
}

static int check_typed(const struct review *r, size_t i, struct span typed, struct err *e)
{
	uint8_t room[4 * WPATH_MAX];
	struct buf b;

	if (r->items[i].section != REVIEW_X0)
		return 0;
	buf_init(&b, room, sizeof(room));
	review_put_typed(r, i, &b);
	if (!buf_ok(&b) || !span_equal(typed, buf_span(&b)))
		return err_set(e, -EPERM, "to accept it, its path must be typed exactly");
	return 0;
}

/* Without the second backslash a name of the four characters \x1b would be typed as one of ESC. */
void review_put_typed(const struct review *r, size_t i, struct buf *out)
{
	struct span rest = r->items[i].change->path;
	const uint8_t *at;

	while (rest.len > 0 && (at = memchr(rest.at, '\\', rest.len)) != NULL) {
		size_t n = (size_t)(at - rest.at);

		buf_put_escaped(out, span_of(rest.at, n));
		buf_put_str(out, "\\\\");
		rest = span_of(at + 1, rest.len - n - 1);
	}
	buf_put_escaped(out, rest);
}

/* -- deciding -- */

/* Sets the choice, and of a merge what it comes to. */
static int choose(struct review *r, struct review_change *ch, enum review_choice choice,
                  struct err *e)
{
	_own_free_ uint8_t *text = NULL;
	bool merged = false;
	size_t len = 0;
	int got = 0;

	ch->choice = (uint8_t)choice;
	ch->has_result = false;
	memset(ch->result, 0, sizeof(ch->result));
	ch->hunks = NULL;
	ch->hunk_count = 0;
	if (choice != REVIEW_ACCEPT || r->items[ch->item].change->state != CHANGE_BOTH)
		return 0;
	got = review_result(r, ch->item, NULL, &merged, &text, &len, e);
	if (got < 0 || !merged)
		return got;
	ch->has_result = true;
	return review_sha256(text, len, ch->result) == 0 ? 0 : err_set(e, -EIO, "sha256 failed");
}

int review_decide(struct review *r, size_t i, enum review_choice choice, struct span typed,
                  struct err *e)
{
	struct review_change ch;
	int got = check_open(r, i, e);

	if (got == 0 && choice == REVIEW_HUNKS)
		got = err_set(e, -EINVAL, "hunks are chosen with review_decide_hunks()");
	if (got == 0 && choice == REVIEW_ACCEPT)
		got = check_accept(r->items[i].change, e);
	if (got == 0 && choice == REVIEW_ACCEPT)
		got = check_typed(r, i, typed, e);
	if (got < 0)
		return got;
	ch = review_change_of(r, i);
	got = choose(r, &ch, choice, e);
	return got < 0 ? got : review_write(r, &ch, 1, e);
}

static uint32_t count_chosen(const uint8_t *chosen, uint32_t count)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < count; i++)
		n += chosen[i] != 0;
	return n;
}

int review_decide_hunks(struct review *r, size_t i, const struct review_texts *t,
                        const uint8_t *chosen, struct err *e)
{
	uint32_t count = t->to_guest->count, taken = count_chosen(chosen, count);
	_own_free_ uint8_t *text = NULL;
	const struct change *c;
	struct review_change ch;
	size_t len;
	int got = check_open(r, i, e);

	if (got < 0)
		return got;
	if (taken == 0)
		return review_decide(r, i, REVIEW_REJECT, span_str(""), e);
	if (taken == count && t->conflicts == 0)
		return review_decide(r, i, REVIEW_ACCEPT, span_str(""), e);
	c = r->items[i].change;
	if (r->items[i].section == REVIEW_X0)
		return err_set(e, -EPERM, "it is taken as a whole, with its path typed");
	if (c->op != CHANGE_EDIT || (c->state != CHANGE_PROPOSED && c->state != CHANGE_BOTH))
		return err_set(e, -EINVAL, "it is taken as a whole, or not at all");
	ch = review_change_of(r, i);
	got = review_compose(r, i, t, chosen, &text, &len, e);
	if (got < 0)
		return got;
	if (review_sha256(text, len, ch.result) < 0)
		return err_set(e, -EIO, "sha256 failed");
	ch.choice = REVIEW_HUNKS;
	ch.has_result = true;
	ch.hunks = chosen;
	ch.hunk_count = count;
	return review_write(r, &ch, 1, e);
}

int review_consent_links(struct review *r, size_t i, bool yes, struct err *e)
{
	struct review_change ch;
	int got = check_open(r, i, e);

	if (got < 0)
		return got;
	ch = review_change_of(r, i);
	ch.links = yes;
	return review_write(r, &ch, 1, e);
}

int review_decide_all(struct review *r, enum review_section s, struct span below,
                      enum review_choice choice, uint64_t *ret_count, struct err *e)
{
	struct review_span span = review_of(r, s);
	_own_free_ struct review_change *changes = NULL;
	size_t n = 0;
	int got = 0;

	if (choice == REVIEW_HUNKS)
		return err_set(e, -EINVAL, "hunks are chosen one file at a time");
	if (choice == REVIEW_ACCEPT && (s == REVIEW_X0 || s == REVIEW_CONFLICTS))
		return err_set(e, -EPERM, "%s are accepted one by one",
		               s == REVIEW_X0 ? "files that run by themselves" : "conflicts");
	changes = calloc(span.count + 1, sizeof(*changes));
	if (changes == NULL)
		return err_set(e, -ENOMEM, "no memory for %zu decisions", span.count);
	for (size_t i = span.first; got == 0 && i < span.first + span.count; i++) {
		const struct review_item *it = &r->items[i];
		bool decided = it->choice != REVIEW_UNDECIDED;

		if (!review_is_open(it) || decided == (choice != REVIEW_UNDECIDED) ||
		    !wpath_beneath(below, it->change->path, NULL) ||
		    (choice == REVIEW_ACCEPT && check_accept(it->change, NULL) < 0))
			continue;
		changes[n] = review_change_of(r, i);
		got = choose(r, &changes[n++], choice, e);
	}
	if (got == 0)
		got = review_write(r, changes, n, e);
	if (got == 0 && ret_count != NULL)
		*ret_count = n;
	return got;
}

int review_take_back(struct review *r, const uint32_t *items, size_t count, struct err *e)
{
	_own_free_ struct review_change *changes = calloc(count + 1, sizeof(*changes));
	size_t n = 0;
	int got = 0;

	if (changes == NULL)
		return err_set(e, -ENOMEM, "no memory for %zu decisions", count);
	for (size_t i = 0; got == 0 && i < count; i++) {
		const struct review_item *it = items[i] < r->count ? &r->items[items[i]] : NULL;

		if (it == NULL || !review_is_open(it) || it->choice == REVIEW_UNDECIDED)
			continue;
		changes[n] = review_change_of(r, items[i]);
		got = choose(r, &changes[n++], REVIEW_UNDECIDED, e);
	}
	return got == 0 ? review_write(r, changes, n, e) : got;
}
