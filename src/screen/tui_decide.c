#include "screen/tui_inner.h"

#include <errno.h>
#include <string.h>

enum { NAME_SHOWN_MAX = 60 }; /* of a directory, in a question */

typedef unsigned long long ull;

/* --- taking back --- */

static void forget(struct tui_undo *u)
{
	free(u->items);
	free(u->hunks);
	*u = (struct tui_undo){ 0 };
}

void tui_undo_forget(struct tui *t)
{
	for (unsigned i = 0; i < t->undo_count; i++)
		forget(&t->undo[i]);
	t->undo_count = 0;
}

/* Takes u. The oldest goes where there is no room. */
static void remember(struct tui *t, struct tui_undo *u)
{
	if (t->undo_count == TUI_UNDO_MAX) {
		forget(&t->undo[0]);
		memmove(t->undo, t->undo + 1, (TUI_UNDO_MAX - 1) * sizeof(t->undo[0]));
		t->undo_count--;
	}
	t->undo[t->undo_count++] = *u;
}

/* What one is now. Without memory it cannot be taken back by `u`, but is decided all the same. */
static struct tui_undo was(const struct tui *t, uint32_t item)
{
	const struct review_item *it = tui_at(t, item);
	struct tui_undo u = { .choice = it->choice };

	u.items = malloc(sizeof(*u.items));
	if (u.items) {
		u.items[0] = item;
		u.count = 1;
	}
	if (it->choice == REVIEW_HUNKS && it->hunk_count > 0) {
		u.hunks = malloc(it->hunk_count);
		if (u.hunks)
			memcpy(u.hunks, it->hunks, it->hunk_count);
		u.hunk_count = u.hunks ? it->hunk_count : 0;
	}
	return u;
}

/* Those of a section's items [span) that are undecided, behind those that are there already. */
static void add_undecided(const struct tui *t, enum review_section s, struct review_span span,
                          struct tui_undo *u)
{
	uint32_t *more = reallocarray(u->items, u->count + span.count + 1, sizeof(*more));

	if (!more) { /* it is decided all the same */
		u->lost = true;
		return;
	}
	u->items = more;
	for (size_t i = span.first; i < span.first + span.count; i++) {
		const struct review_item *it = tui_at(t, (uint32_t)i);

		if (it->section != s || !view_undecided(it))
			continue;
		if (u->count == TUI_UNDO_ITEMS_MAX) {
			u->lost = true;
			return;
		}
		u->items[u->count++] = (uint32_t)i;
	}
}

static int restore_hunks(struct tui *t, const struct tui_undo *u, struct err *e)
{
	_own_(review_texts_free) struct review_texts *texts = NULL;
	int r = review_hunks(t->o->review, u->items[0], &texts, e);

	if (r == 0 && texts->to_guest->count != u->hunk_count)
		r = err_set(e, -ESTALE, "its hunks are others by now");
	if (r == 0)
		r = review_decide_hunks(t->o->review, u->items[0], texts, u->hunks, e);
	return r;
}

/* A choice that needed a typed path is typed here: the user did once. */
static int restore_one(struct tui *t, uint32_t item, enum review_choice choice, struct err *e)
{
	_own_free_ char *room = malloc(TUI_INPUT_MAX);
	struct buf b;

	if (!room)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&b, room, TUI_INPUT_MAX);
	if (choice == REVIEW_ACCEPT)
		review_put_typed(t->o->review, item, &b);
	return review_decide(t->o->review, item, choice, buf_span(&b), e);
}

static int restore(struct tui *t, const struct tui_undo *u, struct err *e)
{
	if (u->lost)
		return err_set(e, -E2BIG,
		               "more than %d decisions at once are not taken back: "
		               "c on a section clears what is in it",
		               TUI_UNDO_ITEMS_MAX);
	if (u->choice == REVIEW_HUNKS)
		return restore_hunks(t, u, e);
	if (u->choice == REVIEW_UNDECIDED)
		return review_take_back(t->o->review, u->items, u->count, e);
	return restore_one(t, u->items[0], (enum review_choice)u->choice, e);
}

void tui_undo(struct tui *t)
{
	struct tui_undo *u;
	struct err e = { 0 };
	int r;

	if (t->undo_count == 0) {
		tui_say(t,
		        "there is no decision to take back (berm undo takes back what was applied)");
		return;
	}
	u = &t->undo[t->undo_count - 1];
	r = u->count > 0 ? restore(t, u, &e) : 0;
	view_tree_recount(t->tree);
	view_filter(t->tree, t->only_undecided);
	tui_count(t);
	if (r < 0)
		tui_warn_err(t, &e);
	else if (u->count == 1)
		tui_say(t, "taken back: %.*s", (int)tui_at(t, u->items[0])->change->path.len,
		        (const char *)tui_at(t, u->items[0])->change->path.at);
	else
		tui_say(t, "taken back: %u decisions", u->count);
	if (u->count > 0 && t->screen == TUI_LIST)
		tui_list_go(t, t->tree->of_item[u->items[0]]);
	forget(u);
	t->undo_count--;
}

/* --- one --- */

/* r is how the decision went. Takes `before` for `u`; false, and said, where there was none. */
static bool note_decided(struct tui *t, uint32_t item, struct tui_undo *before, int r,
                         const struct err *e)
{
	if (r < 0) {
		forget(before);
		tui_warn_err(t, e);
		return false;
	}
	remember(t, before);
	view_tree_changed(t->tree, item);
	tui_count(t);
	return true;
}

static void decide(struct tui *t, uint32_t item, enum review_choice choice, struct span typed)
{
	static const char *const words[] = { "undecided again", "accepted", "rejected", "" };
	struct tui_undo before = was(t, item);
	struct err e = { 0 };
	int r = review_decide(t->o->review, item, choice, typed, &e);

	if (!note_decided(t, item, &before, r, &e))
		return;
	tui_say(t, "%s: %.*s (u takes it back)", words[choice],
	        (int)tui_at(t, item)->change->path.len,
	        (const char *)tui_at(t, item)->change->path.at);
	if (choice == REVIEW_UNDECIDED)
		return;
	if (t->screen == TUI_ITEM) {
		tui_item_next(t);
	} else {
		uint32_t next = view_next(t->tree, t->cursor);

		if (next != VIEW_NONE)
			tui_list_go(t, next);
	}
}

static bool decidable(struct tui *t, uint32_t item)
{
	const struct review_item *it = tui_at(t, item);

	if (it->flags & RV_DONE)
		tui_say(t, "it is applied already; berm undo takes that back");
	else if (!(it->flags & RV_DECIDABLE))
		tui_say(t, "there is nothing to decide here: %s", it->reason ? it->reason : "");
	else
		return true;
	return false;
}

/* Has the host's file other names, that would go on being what it was? */
static bool asks_links(const struct review_item *it)
{
	const struct change *c = it->change;

	return c->host.exists && c->host.kind == WORK_FILE && c->identity.nlink > 1 &&
	       c->op != CHANGE_DELETE && !(it->flags & RV_CONSENT_LINKS);
}

static void take_last(struct tui *t, uint32_t item, struct span typed)
{
	const struct review_item *it = tui_at(t, item);

	if (asks_links(it)) {
		t->ask_item = item;
		tui_ask(t, TUI_ASK_LINKS,
		        "it has %u names; accept, leaving the others as they are? y/n",
		        it->change->identity.nlink);
		return;
	}
	decide(t, item, REVIEW_ACCEPT, typed);
}

/* Both sides edited the same text: what accepting comes to depends on whether they overlap. */
static void ask_conflict(struct tui *t, uint32_t item)
{
	_own_(review_texts_free) struct review_texts *texts = NULL;
	struct err e = { 0 };

	if (tui_at(t, item)->change->state == CHANGE_BOTH &&
	    review_hunks(t->o->review, item, &texts, &e) == 0 && texts->conflicts == 0)
		tui_ask(t, TUI_ASK_CONFLICT, "merge the agent's changes with yours? y/n");
	else
		tui_ask(t, TUI_ASK_CONFLICT, "accept the agent's version instead of yours? y/n");
}

/* It is shown as it is to be typed. */
static void ask_path(struct tui *t, uint32_t item)
{
	const struct review_item *it = tui_at(t, item);
	_own_free_ char *room = malloc(TUI_INPUT_MAX);
	struct buf b;

	if (!room) {
		tui_warn(t, "out of memory");
		return;
	}
	buf_init(&b, room, TUI_INPUT_MAX);
	review_put_typed(t->o->review, item, &b);
	tui_say(t, "%s: %s", it->reason ? it->reason : "it runs by itself", buf_cstr(&b));
	tui_ask(t, TUI_ASK_PATH, "it runs by itself; to accept it, type its path:");
}

void tui_take(struct tui *t, uint32_t item)
{
	const struct review_item *it;

	if (!decidable(t, item))
		return;
	it = tui_at(t, item);
	t->ask_item = item;
	if (it->section == REVIEW_X0) {
		ask_path(t, item);
	} else if (it->section == REVIEW_CONFLICTS) {
		ask_conflict(t, item);
	} else {
		take_last(t, item, span_of("", 0));
	}
}

/* Is it what is shown of the path? On some terminals more of it is escaped than the model does. */
static bool is_typed(const struct tui *t, struct span wanted, struct span typed)
{
	_own_(view_canvas_free) struct view_canvas *c = NULL;
	struct view_pen p;
	size_t n = 0;

	if (span_equal(wanted, typed))
		return true;
	if (shown_columns(wanted, t->canvas->width, SHOWN_IN_CELLS) != typed.len || typed.len == 0)
		return false;
	/* column by column; only what is ASCII when shown can be equal here */
	while (n < typed.len) {
		c = view_canvas_new(1, VIEW_COLS_MAX, t->canvas->width);
		if (!c)
			return false;
		p = view_pen_begin(c, 0, 0, c->cols);
		p.skip = (uint32_t)n;
		view_pen_text(&p, wanted);
		for (unsigned col = 0; col + 1 < c->cols && n < typed.len; col++, n++)
			if (view_canvas_at(c, 0, col)->c != typed.at[n])
				return false;
		view_canvas_free(c);
		c = NULL;
	}
	return true;
}

void tui_take_asked(struct tui *t, uint32_t item, enum tui_ask answered, struct span typed)
{
	_own_free_ char *room = malloc(TUI_INPUT_MAX);
	struct err e = { 0 };
	struct buf b;

	if (!room) {
		tui_warn(t, "out of memory");
		return;
	}
	buf_init(&b, room, TUI_INPUT_MAX);
	if (tui_at(t, item)->section == REVIEW_X0)
		review_put_typed(t->o->review, item, &b);
	if (answered == TUI_ASK_PATH && !is_typed(t, buf_span(&b), typed)) {
		tui_warn(t, "that is not its path: it stays undecided");
		return;
	}
	if (answered == TUI_ASK_LINKS) {
		if (review_consent_links(t->o->review, item, true, &e) < 0)
			tui_warn_err(t, &e);
		else
			decide(t, item, REVIEW_ACCEPT, buf_span(&b));
		return;
	}
	take_last(t, item, buf_span(&b));
}

void tui_reject(struct tui *t, uint32_t item)
{
	if (decidable(t, item))
		decide(t, item, REVIEW_REJECT, span_of("", 0));
}

void tui_clear(struct tui *t, uint32_t item)
{
	if (decidable(t, item))
		decide(t, item, REVIEW_UNDECIDED, span_of("", 0));
}

/* --- one hunk --- */

void tui_decide_hunk(struct tui *t, bool take)
{
	uint32_t item = t->item.item;
	const struct review_item *it = tui_at(t, item);
	const struct review_texts *texts = t->item.lines ? t->item.lines->texts : NULL;
	_own_free_ uint8_t *chosen = NULL;
	struct tui_undo before;
	struct err e = { 0 };
	uint32_t count;
	int r;

	if (!decidable(t, item))
		return;
	if (!t->item.diff || !texts || it->section == REVIEW_X0 ||
	    it->change->state == CHANGE_CONFLICT) {
		tui_say(t, "it is accepted as a whole, or not at all: y or r");
		return;
	}
	count = texts->to_guest->count;
	chosen = malloc(count + 1);
	if (!chosen) {
		tui_warn(t, "out of memory");
		return;
	}
	/* the first word about a hunk is about that hunk: "take this one", "all but this one" */
	if (it->choice == REVIEW_HUNKS && it->hunk_count == count)
		memcpy(chosen, it->hunks, count);
	else
		memset(chosen,
		       it->choice == REVIEW_ACCEPT || (it->choice == REVIEW_UNDECIDED && !take),
		       count);
	chosen[t->item.block] = take;
	before = was(t, item);
	r = review_decide_hunks(t->o->review, item, texts, chosen, &e);
	if (!note_decided(t, item, &before, r, &e))
		return;
	tui_say(t, "hunk %u %s (u takes it back)", t->item.block + 1, take ? "taken" : "left out");
	tui_item_key(t, ']');
}

/* --- many --- */

static void recount(struct tui *t, uint64_t n, const char *word)
{
	view_tree_recount(t->tree);
	tui_count(t);
	tui_say(t, "%llu %s (u takes it back)", (ull)n, word);
}

void tui_decide_below(struct tui *t, uint32_t node, enum review_choice choice)
{
	static const char *const words[] = { "clear", "accept", "reject", "" };
	const struct view_node *n = &t->tree->nodes[node];
	struct span path = view_node_path(t->tree, node);
	struct span name =
		path.len > 0 ? path
			     : span_str(review_section_title((enum review_section)n->section));
	int len = name.len < NAME_SHOWN_MAX ? (int)name.len : NAME_SHOWN_MAX;

	if (choice == REVIEW_ACCEPT &&
	    (n->section == REVIEW_X0 || n->section == REVIEW_CONFLICTS)) {
		tui_warn(t, "these are accepted one by one");
		return;
	}
	if (choice != REVIEW_UNDECIDED && n->undecided == 0) {
		tui_say(t, "nothing is undecided there");
		return;
	}
	t->ask_node = node;
	t->ask_choice = (uint8_t)choice;
	if (choice == REVIEW_UNDECIDED)
		tui_ask(t, TUI_ASK_MANY, "clear all decisions in %.*s? y/n", len,
		        (const char *)name.at);
	else
		tui_ask(t, TUI_ASK_MANY, "%s %u undecided in %.*s? y/n", words[choice],
		        n->undecided, len, (const char *)name.at);
}

void tui_decide_below_asked(struct tui *t)
{
	static const char *const words[] = { "cleared", "accepted", "rejected", "" };
	const struct view_node *n = &t->tree->nodes[t->ask_node];
	enum review_choice choice = (enum review_choice)t->ask_choice;
	struct tui_undo before = { .choice = REVIEW_UNDECIDED };
	struct err e = { 0 };
	uint64_t count = 0;

	if (choice != REVIEW_UNDECIDED)
		add_undecided(t, (enum review_section)n->section,
		              (struct review_span){ n->first, n->items }, &before);
	if (review_decide_all(t->o->review, (enum review_section)n->section,
	                      view_node_path(t->tree, t->ask_node), choice, &count, &e) < 0) {
		forget(&before);
		tui_warn_err(t, &e);
		return;
	}
	if (choice == REVIEW_UNDECIDED)
		tui_undo_forget(t);
	else
		remember(t, &before);
	recount(t, count, words[choice]);
}

/* One decision, that one `u` takes back, whichever sections it is about. */
static bool take_sections(struct tui *t, const enum review_section *of, size_t n,
                          uint64_t *ret_count)
{
	struct tui_undo before = { .choice = REVIEW_UNDECIDED };
	struct err e = { 0 };
	uint64_t all = 0;
	int r = 0;

	for (size_t i = 0; i < n; i++)
		add_undecided(t, of[i], review_of(t->o->review, of[i]), &before);
	for (size_t i = 0; r == 0 && i < n; i++) {
		uint64_t taken = 0;

		if (t->header.totals.undecided_of[of[i]] > 0)
			r = review_decide_all(t->o->review, of[i], span_of("", 0), REVIEW_ACCEPT,
			                      &taken, &e);
		all += taken;
	}
	if (all > 0)
		remember(t, &before);
	else
		forget(&before);
	if (r < 0)
		tui_warn_err(t, &e);
	*ret_count = all;
	return r == 0;
}

bool tui_take_plain(struct tui *t)
{
	static const enum review_section plain[] = { REVIEW_PLAIN };
	uint64_t n = 0;

	if (!take_sections(t, plain, 1, &n))
		return false;
	if (n > 0)
		recount(t, n, "plain changes accepted");
	return true;
}

static const enum review_section alls[] = { REVIEW_X1, REVIEW_X2, REVIEW_X3, REVIEW_X4,
	                                    REVIEW_PLAIN };

void tui_take_all(struct tui *t)
{
	const uint64_t *n = t->header.totals.undecided_of;
	uint64_t all = 0;

	for (size_t i = 0; i < sizeof(alls) / sizeof(alls[0]); i++)
		all += n[alls[i]];
	if (all == 0) {
		tui_say(t, "nothing of it is undecided; X0 and conflicts are accepted one by one");
		return;
	}
	tui_ask(t, TUI_ASK_ALL,
	        "accept %llu (X1 %llu, X2 %llu, X3 %llu, X4 %llu), not X0, conflicts? y/n",
	        (ull)all, (ull)n[REVIEW_X1], (ull)n[REVIEW_X2], (ull)n[REVIEW_X3],
	        (ull)n[REVIEW_X4]);
}

void tui_take_all_asked(struct tui *t)
{
	uint64_t n = 0;

	if (take_sections(t, alls, sizeof(alls) / sizeof(alls[0]), &n))
		recount(t, n, "accepted");
}
