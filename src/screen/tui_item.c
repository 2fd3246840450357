#include "screen/tui_inner.h"

#include <errno.h>
#include <string.h>

enum { ASIDE = 8 }; /* columns a step */

static unsigned body(const struct tui *t)
{
	return tui_body_rows(t, VIEW_HEADER_ROWS);
}

/* --- what is shown --- */

static void drop_text(struct tui_item *it)
{
	hunk_text_free(it->text);
	free(it->bytes);
	it->text = NULL;
	it->bytes = NULL;
	it->top = 0;
	it->skip = 0;
}

static void drop_diff(struct tui_item *it)
{
	view_diff_free(it->diff);
	it->diff = NULL;
}

void tui_item_close(struct tui *t)
{
	drop_text(&t->item);
	drop_diff(&t->item);
	change_lines_free(t->item.lines);
	t->item = (struct tui_item){ .item = VIEW_NONE };
}

/* Takes bytes. */
static void show_text(struct tui *t, char *bytes, size_t len, bool numbers)
{
	struct hunk_text *text = NULL;
	struct err e = { 0 };

	if (hunk_text_new(span_of(bytes, len), &text, &e) < 0) {
		free(bytes);
		tui_warn_err(t, &e);
		return;
	}
	drop_diff(&t->item);
	drop_text(&t->item);
	t->item.bytes = bytes;
	t->item.text = text;
	t->item.numbers = numbers;
}

static void show_info(struct tui *t)
{
	char *room;
	struct buf b;

	room = tui_page_room(t, &b);
	if (!room)
		return;
	tui_info_put(t, t->item.item, &b);
	show_text(t, room, b.len, false);
}

static void show_content(struct tui *t, enum review_side side)
{
	static const char *const names[] = { "what was packed", "your version",
		                             "the agent's version" };
	struct err e = { 0 };
	char *bytes = NULL;
	size_t len = 0;
	int r = review_content(t->o->review, t->item.item, side, HUNK_TEXT_MAX, &bytes, &len, &e);

	if (r < 0) {
		tui_warn(t, "%s: %s", names[side], e.text);
		return;
	}
	show_text(t, bytes, len, true);
	tui_say(t, "%s, whole; d shows the difference", names[side]);
}

static bool show_diff(struct tui *t)
{
	const struct change_lines *l = t->item.lines;
	struct view_texts texts;
	struct view_diff *diff;
	struct err e = { 0 };

	if (!l)
		return false;
	texts = (struct view_texts){ .base = l->old, .guest = l->new, .to_guest = l->hunks };
	if (l->texts) {
		texts.host = l->texts->host;
		texts.to_host = l->texts->to_host;
		texts.fates = l->texts->fates;
	}
	if (view_diff_new(&texts, t->split, &diff, &e) < 0) {
		tui_warn_err(t, &e);
		return false;
	}
	if (diff->count == 0) {
		view_diff_free(diff);
		return false;
	}
	drop_diff(&t->item);
	drop_text(&t->item);
	t->item.diff = diff;
	t->item.block = t->item.block < diff->count ? t->item.block : 0;
	t->item.top = t->item.block > 0 ? diff->blocks[t->item.block].start : 0;
	return true;
}

void tui_item_open(struct tui *t, uint32_t item)
{
	struct err e = { 0 };
	int r;

	tui_item_close(t);
	t->screen = TUI_ITEM;
	t->item.item = item;
	r = change_lines(t->o->review, item, &t->item.lines, &e);
	if (r < 0 && r != -ENODATA)
		tui_warn_err(t, &e);
	if (!show_diff(t))
		show_info(t);
}

/* --- drawing --- */

static void draw_diff(struct tui *t, unsigned end)
{
	const struct review_item *it = tui_at(t, t->item.item);
	struct view_diff_look look = {
		.diff = t->item.diff,
		.top = t->item.top,
		.current = t->item.block,
		.skip = t->item.skip,
		.choice = it->choice,
		.choosable = (it->flags & RV_DECIDABLE) != 0,
		.found = tui_found(t),
	};

	if (it->choice == REVIEW_HUNKS && it->hunk_count == t->item.diff->count)
		look.chosen = it->hunks;
	view_draw_diff(t->canvas, VIEW_HEADER_ROWS, end, &look);
}

void tui_item_draw(struct tui *t)
{
	unsigned end = VIEW_HEADER_ROWS + body(t);

	view_draw_header(t->canvas, &t->header);
	for (unsigned row = 1; row < VIEW_HEADER_ROWS; row++) {
		struct view_pen p = view_pen_begin(t->canvas, row, 0, t->canvas->cols);

		view_pen_fill(&p);
	}
	view_draw_item(t->canvas, 1, tui_at(t, t->item.item));
	if (t->item.diff)
		draw_diff(t, end);
	else if (t->item.text)
		view_draw_text(t->canvas, VIEW_HEADER_ROWS, end, t->item.text,
		               (uint32_t)t->item.top, t->item.skip, t->item.numbers, tui_found(t));
}

/* --- moving --- */

static uint64_t line_count(const struct tui *t)
{
	if (t->item.diff)
		return t->item.diff->lines;
	return t->item.text ? t->item.text->count : 0;
}

static void scroll(struct tui *t, int64_t lines)
{
	uint64_t all = line_count(t);
	uint64_t last = all > body(t) ? all - body(t) : 0;
	struct tui_item *it = &t->item;

	if (lines < 0)
		it->top = it->top > (uint64_t)-lines ? it->top - (uint64_t)-lines : 0;
	else
		it->top = last - it->top > (uint64_t)lines && it->top < last
		                  ? it->top + (uint64_t)lines
		          : last > it->top ? last
		                           : it->top;
	/* the hunk that keys are for is one that is seen */
	if (it->diff) {
		uint32_t first = view_diff_block(it->diff, it->top);
		uint64_t bottom = it->top + body(t) - 1;
		uint32_t end = view_diff_block(it->diff, bottom < all ? bottom : all - 1);

		if (it->block < first)
			it->block = first;
		else if (it->block > end)
			it->block = end;
	}
}

static void hunk(struct tui *t, bool forth)
{
	struct tui_item *it = &t->item;

	if (!it->diff) {
		scroll(t, forth ? body(t) : -(int64_t)body(t));
		return;
	}
	if (forth && it->block + 1 < it->diff->count)
		it->block++;
	else if (!forth && it->block > 0)
		it->block--;
	it->top = it->diff->blocks[it->block].start;
}

static void aside(struct tui *t, bool right)
{
	if (right)
		t->item.skip += ASIDE;
	else
		t->item.skip -= t->item.skip >= ASIDE ? ASIDE : t->item.skip;
}

static bool line_has(const struct tui *t, uint64_t n)
{
	struct span found = tui_found(t);
	struct view_diff_line line;

	if (!t->item.diff)
		return view_found(hunk_lines(t->item.text, (uint32_t)n, 1), found, NULL);
	view_diff_line(t->item.diff, n, &line);
	return (line.has_left && view_found(line.left, found, NULL)) ||
	       (line.has_right && view_found(line.right, found, NULL));
}

void tui_item_search(struct tui *t, bool back)
{
	uint64_t all = line_count(t);
	uint64_t at = t->item.top;

	if (t->search_len == 0 || all == 0)
		return;
	for (uint64_t i = 0; i < all; i++) {
		if (back)
			at = at > 0 ? at - 1 : all - 1;
		else
			at = at + 1 < all ? at + 1 : 0;
		if (!line_has(t, at))
			continue;
		t->item.top = at;
		if (t->item.diff)
			t->item.block = view_diff_block(t->item.diff, at);
		return;
	}
	tui_say(t, "no line has '%.*s' in it", (int)t->search_len, t->search);
}

/* Back to the list, where this change stands. */
static void back(struct tui *t)
{
	uint32_t item = t->item.item;

	tui_item_close(t);
	t->screen = TUI_LIST;
	tui_list_go(t, t->tree->of_item[item]);
}

static void go_item(struct tui *t, uint32_t node)
{
	t->cursor = node;
	tui_item_open(t, t->tree->nodes[node].item);
}

void tui_item_next(struct tui *t)
{
	uint32_t node = view_next_undecided(t->tree, t->tree->of_item[t->item.item]);

	if (node == VIEW_NONE)
		back(t);
	else
		go_item(t, node);
}

/* The change before or behind, decided or not. */
static void neighbour(struct tui *t, bool forth)
{
	uint32_t node = t->tree->of_item[t->item.item];

	for (;;) {
		if (forth ? node + 1 >= t->tree->count : node == 0) {
			tui_say(t, forth ? "this is the last change" : "this is the first change");
			return;
		}
		node += forth ? 1U : UINT32_MAX;
		if (t->tree->nodes[node].item != VIEW_NONE)
			break;
	}
	go_item(t, node);
}

/* --- keys --- */

static bool move_key(struct tui *t, uint32_t key)
{
	switch (key) {
	case 'j':
	case TUI_KEY_DOWN:
		scroll(t, 1);
		return true;
	case 'k':
	case TUI_KEY_UP:
		scroll(t, -1);
		return true;
	case ' ':
	case TUI_KEY_PAGE_DOWN:
		scroll(t, body(t));
		return true;
	case 'b':
	case TUI_KEY_PAGE_UP:
		scroll(t, -(int64_t)body(t));
		return true;
	case 'g':
	case TUI_KEY_HOME:
		scroll(t, -(int64_t)line_count(t));
		return true;
	case 'G':
	case TUI_KEY_END:
		scroll(t, (int64_t)line_count(t));
		return true;
	case ']':
	case '\t':
		hunk(t, true);
		return true;
	case '[':
	case TUI_KEY_BACK_TAB:
		hunk(t, false);
		return true;
	case TUI_KEY_RIGHT:
	case TUI_KEY_LEFT:
		aside(t, key == TUI_KEY_RIGHT);
		return true;
	default:
		return false;
	}
}

static bool show_key(struct tui *t, uint32_t key)
{
	switch (key) {
	case 'v':
		t->split = !t->split;
		if (t->item.diff)
			(void)show_diff(t);
		return true;
	case 'd':
		if (!show_diff(t))
			tui_say(t, "there are no lines to show");
		return true;
	case 'i':
		show_info(t);
		return true;
	case '1':
		show_content(t, REVIEW_BASE);
		return true;
	case '2':
		show_content(t, REVIEW_HOST);
		return true;
	case '3':
		show_content(t, REVIEW_GUEST);
		return true;
	default:
		return false;
	}
}

static bool decide_key(struct tui *t, uint32_t key)
{
	switch (key) {
	case 'y':
		tui_take(t, t->item.item);
		return true;
	case 'r':
		tui_reject(t, t->item.item);
		return true;
	case 'c':
		tui_clear(t, t->item.item);
		return true;
	case 't':
	case 's':
		tui_decide_hunk(t, key == 't');
		return true;
	case 'u':
		tui_undo(t);
		return true;
	default:
		return false;
	}
}

void tui_item_key(struct tui *t, uint32_t key)
{
	if (move_key(t, key) || show_key(t, key) || decide_key(t, key))
		return;
	switch (key) {
	case 'q':
	case TUI_KEY_ESCAPE:
	case TUI_KEY_BACKSPACE:
		back(t);
		break;
	case 'J':
	case 'K':
		neighbour(t, key == 'J');
		break;
	case '.':
		tui_item_next(t);
		break;
	case '/':
		tui_ask(t, TUI_ASK_SEARCH, "search for");
		break;
	case 'n':
	case 'N':
		tui_item_search(t, key == 'N');
		break;
	case 'w':
		back(t);
		tui_apply_ask(t);
		break;
	case '?':
		tui_page_help(t);
		break;
	default:
		tui_say(t, "no such key: ? lists them");
		break;
	}
}
