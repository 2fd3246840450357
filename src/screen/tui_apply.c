#include "screen/tui_inner.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { LISTED_MAX = 1000 }; /* paths of a summary */

/* --- before --- */

static bool is_taken(const struct review_item *it)
{
	return (it->flags & RV_DECIDABLE) && !(it->flags & RV_DONE) &&
	       (it->choice == REVIEW_ACCEPT || it->choice == REVIEW_HUNKS);
}

static void put_path(struct buf *b, const struct review_item *it)
{
	buf_printf(b, "  %-7s", view_op_text(it->change));
	buf_put_escaped(b, it->change->path);
	if (it->choice == REVIEW_HUNKS)
		buf_put_str(b, "  (some hunks)");
	if (it->flags & RV_NEEDS)
		buf_put_str(b, "  (not applied: needs what you rejected)");
	buf_put_str(b, "\n");
}

static uint64_t taken_of(const struct tui *t, enum review_section s)
{
	struct review_span span = review_of(t->o->review, s);
	uint64_t n = 0;

	for (size_t i = span.first; i < span.first + span.count; i++)
		n += is_taken(review_at(t->o->review, i));
	return n;
}

/* By section: what will be applied, and what stays pending. */
static void put_sections(const struct tui *t, struct buf *b)
{
	for (int s = 0; s < REVIEW_SECTIONS; s++) {
		uint64_t taken = taken_of(t, (enum review_section)s);
		uint64_t undecided = t->header.totals.undecided_of[s];

		if (taken == 0 && undecided == 0)
			continue;
		buf_printf(b, "  %s: %" PRIu64 " accepted",
		           review_section_title((enum review_section)s), taken);
		if (undecided > 0)
			buf_printf(b, ", %" PRIu64 " stay%s undecided", undecided,
			           undecided == 1 ? "s" : "");
		buf_put_str(b, "\n");
	}
}

static void put_taken(const struct tui *t, struct buf *b)
{
	size_t listed = 0;
	size_t more = 0;

	for (size_t i = 0; i < review_count(t->o->review); i++) {
		const struct review_item *it = review_at(t->o->review, i);

		if (!is_taken(it))
			continue;
		if (listed < LISTED_MAX) {
			put_path(b, it);
			listed++;
		} else {
			more++;
		}
	}
	if (more > 0)
		buf_printf(b, "  and %zu more\n", more);
}

static const char *plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

/* "3 changes", "1 change and 2 commits", "2 commits". */
static void put_what(const struct tui *t, struct buf *b)
{
	uint64_t accepted = t->header.totals.accepted;
	uint64_t commits = t->header.commits;

	if (accepted > 0)
		buf_printf(b, "%" PRIu64 " change%s", accepted, plural(accepted));
	if (commits > 0)
		buf_printf(b, "%s%" PRIu64 " commit%s", accepted > 0 ? " and " : "", commits,
		           plural(commits));
}

void tui_apply_ask(struct tui *t)
{
	const struct review_totals *n = &t->header.totals;
	char what_room[64];
	struct buf what;
	struct buf b;
	char *room;

	if (n->accepted == 0 && t->header.commits == 0) {
		tui_say(t, n->undecided > 0
		                   ? "nothing is accepted: y accepts a change, a all plain ones"
		                   : "nothing is left to apply");
		return;
	}
	room = tui_page_room(t, &b);
	if (!room)
		return;
	buf_init(&what, what_room, sizeof(what_room));
	put_what(t, &what);
	buf_printf(&b, "= %s to %s ", buf_cstr(&what), n->accepted > 0 ? "apply to" : "bring to");
	buf_put_escaped(&b, span_str(t->o->s.info.root));
	buf_put_str(&b, "\n");
	put_sections(t, &b);
	if (t->header.commits > 0)
		buf_printf(&b,
		           "  %" PRIu64 " commit%s to refs/berm/%s/ (o in the list shows them)\n",
		           t->header.commits, t->header.commits == 1 ? " comes" : "s come",
		           t->o->s.info.id);
	buf_put_str(&b, "\n");
	put_taken(t, &b);
	tui_page_show(t, room, &b, "");
	tui_ask(t, TUI_ASK_APPLY, "Enter or w %s %s, q goes back%s",
	        n->accepted > 0 ? "applies" : "brings", buf_cstr(&what),
	        n->undecided > 0 ? "; the rest waits" : "");
}

/* --- after --- */

static void put_outcome(const struct tui *t, const struct review_outcome *out, struct buf *b)
{
	static const enum apply_word told[] = { APPLY_BACK_CHANGED, APPLY_BACK_EXISTS,
		                                APPLY_BACK_KIND,    APPLY_BACK_PARENT,
		                                APPLY_BACK_LINKS,   APPLY_KEPT_BOTH,
		                                APPLY_STAYS,        APPLY_LABEL_LOST };

	for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++)
		if (out->applied.words[told[i]] > 0)
			buf_printf(b, "  %" PRIu64 ": %s\n", out->applied.words[told[i]],
			           apply_word_text(told[i]));
	if (out->needs > 0)
		buf_printf(b, "  %" PRIu64 " need what you rejected, and were left out\n",
		           out->needs);
	if (out->commits_refs > 0)
		buf_printf(b, "  commits: %u refs under refs/berm/%s/\n", out->commits_refs,
		           t->o->s.info.id);
	if (t->o->said_count > 0)
		buf_put_str(b, "\n");
	for (size_t i = 0; i < t->o->said_count; i++) {
		buf_put_str(b, "  ");
		buf_put_escaped(b, span_str(t->o->said[i].path));
		buf_printf(b, "  %s\n", apply_word_text(t->o->said[i].word));
	}
	if (t->o->said_more > 0)
		buf_printf(b, "  and %zu more\n", t->o->said_more);
}

static void show_outcome(struct tui *t, const struct review_outcome *out, const struct err *ce)
{
	const struct review_totals *n = &t->header.totals;
	bool returned = out->applied.end == APPLY_RETURNED;
	struct buf b;
	char *room = tui_page_room(t, &b);

	if (!room)
		return;
	if (returned)
		buf_printf(&b, "= nothing was changed: %" PRIu64 " changes went back to review\n",
		           out->back);
	else if (out->applied.end == APPLY_NOTHING)
		buf_put_str(&b, "= no file was changed\n");
	else
		buf_printf(&b, "= applied: %" PRIu64 " change%s\n", out->items, plural(out->items));
	put_outcome(t, out, &b);
	if (ce->code != 0) {
		buf_put_str(&b, "  commits were not brought: ");
		buf_put_escaped(&b, span_str(ce->text));
		buf_put_str(&b, "\n");
	}
	if (!returned)
		buf_printf(&b, "\n  %" PRIu64 " undecided, %" PRIu64 " accepted and not applied\n",
		           n->undecided, n->accepted);
	if (!returned && out->items > 0)
		buf_printf(&b, "  berm undo %s takes this apply back\n", t->o->s.info.id);
	if (returned) {
		tui_page_show(t, room, &b, "");
		tui_ask(t, TUI_ASK_REST, "w applies the rest, q goes back");
	} else {
		tui_page_show(t, room, &b, "space goes on, any other key closes");
	}
}

void tui_apply(struct tui *t, enum apply_mode mode)
{
	struct review_outcome out = { 0 };
	struct err ce = { 0 };
	struct err e = { 0 };
	int r;

	tui_item_close(t);
	t->screen = TUI_LIST;
	tui_say(t, "applying ...");
	tui_draw(t);
	t->said[0] = '\0';
	r = review_opened_apply(t->o, mode, t->header.commits > 0, &out, &ce, &e);
	tui_undo_forget(t);
	if (r < 0)
		tui_warn_err(t, &e);
	if (tui_reload(t, &e) < 0) {
		tui_warn_err(t, &e);
		t->ended = true;
		return;
	}
	if (r == 0)
		show_outcome(t, &out, &ce);
}

/* --- giving it up --- */

void tui_discard_ask(struct tui *t)
{
	const struct review_totals *n = &t->header.totals;
	struct buf b;
	char *room = tui_page_room(t, &b);

	if (!room)
		return;
	buf_printf(&b,
	           "= discarding session %s removes the agent's work for good\n"
	           "  %" PRIu64 " changes that are undecided, %" PRIu64
	           " accepted and not applied, "
	           "%" PRIu64 " rejected\n"
	           "  %" PRIu64 " commits\n"
	           "  and the means to undo what was applied (%" PRIu64 ")\n\n",
	           t->o->s.info.id, n->undecided, n->accepted, n->rejected, t->header.commits,
	           n->done);
	for (size_t i = 0, listed = 0; i < review_count(t->o->review) && listed < LISTED_MAX; i++) {
		const struct review_item *it = review_at(t->o->review, i);

		if ((it->flags & RV_DECIDABLE) && !(it->flags & RV_DONE)) {
			put_path(&b, it);
			listed++;
		}
	}
	tui_page_show(t, room, &b, "");
	tui_ask(t, TUI_ASK_DISCARD, "type discard to remove it, Esc goes back:");
}
