#include "screen/tui_inner.h"

static unsigned body(const struct tui *t)
{
	return tui_body_rows(t, VIEW_HEADER_ROWS);
}

/* Is the node on the screen, and where? */
static bool row_of(const struct tui *t, uint32_t node, unsigned *ret)
{
	uint32_t at = t->top;

	for (unsigned row = 0; row < body(t) && at != VIEW_NONE; row++) {
		if (at == node) {
			*ret = row;
			return true;
		}
		at = view_next(t->tree, at);
	}
	return false;
}

/* So many rows further; as far as there are some. */
static uint32_t stride(const struct view_tree *tree, uint32_t from, long rows)
{
	for (; rows != 0; rows += rows > 0 ? -1 : 1) {
		uint32_t to = rows > 0 ? view_next(tree, from) : view_prev(tree, from);

		if (to == VIEW_NONE)
			break;
		from = to;
	}
	return from;
}

/* Brings the cursor's row onto the screen, moving as little as it can. */
static void follow(struct tui *t)
{
	unsigned row;

	if (t->cursor == VIEW_NONE)
		return;
	if (t->top == VIEW_NONE || view_visible(t->tree, t->top) != t->top)
		t->top = t->cursor;
	if (row_of(t, t->cursor, &row))
		return;
	if (t->cursor > t->top)
		t->top = stride(t->tree, t->cursor, 1 - (long)body(t));
	else
		t->top = t->cursor;
}

void tui_list_go(struct tui *t, uint32_t node)
{
	if (node == VIEW_NONE)
		return;
	view_reveal(t->tree, node);
	t->cursor = view_visible(t->tree, node);
	follow(t);
}

void tui_list_filter(struct tui *t, bool only_undecided)
{
	t->only_undecided = only_undecided;
	view_filter(t->tree, only_undecided);
	t->cursor = view_visible(t->tree, t->cursor);
	t->top = view_first(t->tree);
	follow(t);
}

/* What the row under the cursor is about. */
static void draw_about(struct tui *t)
{
	const struct view_node *n;
	struct view_pen p;

	if (t->said[0] || t->cursor == VIEW_NONE)
		return;
	n = &t->tree->nodes[t->cursor];
	p = view_pen_begin(t->canvas, t->canvas->rows - 2, 0, t->canvas->cols);
	p.style = VIEW_DIM;
	view_pen_put(&p, " ");
	view_pen_put(&p, review_section_about((enum review_section)n->section));
}

void tui_list_draw(struct tui *t)
{
	unsigned end = VIEW_HEADER_ROWS + body(t);

	t->cursor = view_visible(t->tree, t->cursor);
	follow(t);
	view_draw_header(t->canvas, &t->header);
	if (t->cursor == VIEW_NONE) {
		struct view_pen p = view_pen_begin(t->canvas, VIEW_HEADER_ROWS, 1, t->canvas->cols);

		view_pen_put(&p, t->only_undecided ? "nothing is undecided (f shows all)"
		                                   : "the session changed nothing");
		return;
	}
	view_draw_tree(t->canvas, VIEW_HEADER_ROWS, end, t->tree, t->top, t->cursor, tui_found(t));
	draw_about(t);
}

/* --- keys --- */

static void move(struct tui *t, long rows)
{
	if (t->cursor == VIEW_NONE)
		return;
	t->cursor = stride(t->tree, t->cursor, rows);
	follow(t);
}

static void page(struct tui *t, long pages)
{
	long rows = (long)body(t) * pages;

	if (t->cursor == VIEW_NONE)
		return;
	t->top = stride(t->tree, t->top, rows);
	t->cursor = stride(t->tree, t->cursor, rows);
	follow(t);
}

static void fold(struct tui *t, bool folded)
{
	uint32_t node = t->cursor;

	if (node == VIEW_NONE)
		return;
	/* on a leaf, or on what is folded already, its directory is meant */
	if (folded &&
	    (!view_node_folds(t->tree, node) || (t->tree->nodes[node].flags & VIEW_FOLDED)))
		node = t->tree->nodes[node].parent;
	if (node == VIEW_NONE)
		return;
	view_fold(t->tree, node, folded);
	t->cursor = node;
	follow(t);
}

static void toggle(struct tui *t)
{
	if (t->cursor != VIEW_NONE && view_node_folds(t->tree, t->cursor))
		view_fold(t->tree, t->cursor, !(t->tree->nodes[t->cursor].flags & VIEW_FOLDED));
}

static void enter(struct tui *t)
{
	if (t->cursor == VIEW_NONE)
		return;
	if (t->tree->nodes[t->cursor].item != VIEW_NONE)
		tui_item_open(t, t->tree->nodes[t->cursor].item);
	else
		toggle(t);
}

static void decide(struct tui *t, enum review_choice choice)
{
	const struct view_node *n;

	if (t->cursor == VIEW_NONE)
		return;
	n = &t->tree->nodes[t->cursor];
	if (n->item == VIEW_NONE || (n->flags & VIEW_FOLDED))
		tui_decide_below(t, t->cursor, choice);
	else if (choice == REVIEW_ACCEPT)
		tui_take(t, n->item);
	else if (choice == REVIEW_REJECT)
		tui_reject(t, n->item);
	else
		tui_clear(t, n->item);
}

static void search_next(struct tui *t, bool back)
{
	uint32_t got;

	if (t->search_len == 0) {
		tui_say(t, "nothing was searched for: / begins a search");
		return;
	}
	got = view_search(t->tree, t->cursor, tui_found(t), back);
	if (got == VIEW_NONE)
		tui_say(t, "no path has '%.*s' in it", (int)t->search_len, t->search);
	else
		tui_list_go(t, got);
}

static void next_undecided(struct tui *t)
{
	uint32_t got = t->cursor == VIEW_NONE ? VIEW_NONE : view_next_undecided(t->tree, t->cursor);

	if (got == VIEW_NONE)
		got = view_next_undecided(t->tree, VIEW_NONE);
	if (got == VIEW_NONE)
		tui_say(t, "nothing is undecided: w applies what was taken");
	else
		tui_list_go(t, got);
}

static void quit(struct tui *t)
{
	if (t->header.totals.accepted > 0)
		tui_ask(t, TUI_ASK_QUIT,
		        "%llu accepted, not applied. w applies, q leaves it for later",
		        (unsigned long long)t->header.totals.accepted);
	else
		t->ended = true;
}

static bool move_key(struct tui *t, uint32_t key)
{
	switch (key) {
	case 'j':
	case TUI_KEY_DOWN:
		move(t, 1);
		return true;
	case 'k':
	case TUI_KEY_UP:
		move(t, -1);
		return true;
	case TUI_KEY_PAGE_DOWN:
		page(t, 1);
		return true;
	case TUI_KEY_PAGE_UP:
		page(t, -1);
		return true;
	case 'g':
	case TUI_KEY_HOME:
		t->top = t->cursor = view_first(t->tree);
		return true;
	case 'G':
	case TUI_KEY_END:
		t->cursor = view_last(t->tree);
		return true;
	case '\t':
		if (t->cursor != VIEW_NONE)
			tui_list_go(t, view_next_section(t->tree, t->cursor));
		return true;
	case TUI_KEY_BACK_TAB:
		if (t->cursor != VIEW_NONE)
			tui_list_go(t, view_prev_section(t->tree, t->cursor));
		return true;
	default:
		return false;
	}
}

static bool fold_key(struct tui *t, uint32_t key)
{
	switch (key) {
	case 'h':
	case TUI_KEY_LEFT:
		fold(t, true);
		return true;
	case 'l':
	case TUI_KEY_RIGHT:
		fold(t, false);
		return true;
	case ' ':
		toggle(t);
		return true;
	case '+':
	case '-':
		if (t->cursor != VIEW_NONE)
			view_fold_all(t->tree, t->cursor, key == '-');
		return true;
	case TUI_KEY_ENTER:
		enter(t);
		return true;
	default:
		return false;
	}
}

static bool decide_key(struct tui *t, uint32_t key)
{
	switch (key) {
	case 'y':
		decide(t, REVIEW_ACCEPT);
		return true;
	case 'r':
		decide(t, REVIEW_REJECT);
		return true;
	case 'c':
		decide(t, REVIEW_UNDECIDED);
		return true;
	case 'a':
		if (tui_take_plain(t))
			tui_apply_ask(t);
		return true;
	case 'A':
		tui_take_all(t);
		return true;
	case 'u':
		tui_undo(t);
		return true;
	case 'w':
		tui_apply_ask(t);
		return true;
	case 'D':
		tui_discard_ask(t);
		return true;
	default:
		return false;
	}
}

void tui_list_key(struct tui *t, uint32_t key)
{
	if (move_key(t, key) || fold_key(t, key) || decide_key(t, key))
		return;
	switch (key) {
	case '/':
		tui_ask(t, TUI_ASK_SEARCH, "search for");
		break;
	case 'n':
		search_next(t, false);
		break;
	case 'N':
		search_next(t, true);
		break;
	case '.':
		next_undecided(t);
		break;
	case 'f':
		tui_list_filter(t, !t->only_undecided);
		break;
	case 'i':
		tui_page_info(t);
		break;
	case 'o':
		tui_page_commits(t);
		break;
	case '?':
		tui_page_help(t);
		break;
	case 'q':
		quit(t);
		break;
	default:
		tui_say(t, "no such key: ? lists them");
		break;
	}
}
