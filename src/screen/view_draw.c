#include "screen/view_draw.h"

#include <string.h>

enum {
	INDENT = 2,
	INDENT_MAX = 24, /* deeper ones stand below each other */
	NUMBER_COLS = 6, /* of a line */
	WIDE_COLS = 60,  /* narrower screens have one column of numbers */
	OP_COLS = 7,
	SHOWN_DIGEST = 12, /* digits; the session's page has all */
};

typedef unsigned long long ull;

/* --- header and footer --- */

static void put_totals(struct view_pen *p, const struct view_header *h)
{
	const struct review_totals *t = &h->totals;

	p->style = t->undecided > 0 ? VIEW_BOLD : VIEW_PLAIN;
	view_pen_printf(p, " %llu undecided", (ull)t->undecided);
	p->style = VIEW_PLAIN;
	view_pen_printf(p, ", %llu accepted, %llu rejected, %llu applied", (ull)t->accepted,
	                (ull)t->rejected, (ull)t->done);
	if (h->commits > 0)
		view_pen_printf(p, "; %llu commit%s", (ull)h->commits, h->commits == 1 ? "" : "s");
	if (t->left_out > 0)
		view_pen_printf(p, "; %llu not in the guest", (ull)t->left_out);
}

void view_draw_header(struct view_canvas *c, const struct view_header *h)
{
	struct view_pen p = view_pen_begin(c, 0, 0, c->cols);

	p.style = VIEW_OURS;
	view_pen_put(&p, " berm review ");
	view_pen_put(&p, h->session);
	view_pen_put(&p, "  ");
	view_pen_put(&p, h->agent);
	view_pen_put(&p, "  ");
	view_pen_put(&p, h->root);
	view_pen_fill(&p);
	p = view_pen_begin(c, 1, 0, c->cols);
	view_pen_put(&p, " image ");
	view_pen_text(&p, span_of(h->image, strnlen(h->image, SHOWN_DIGEST)));
	view_pen_put(&p, "  packed ");
	view_pen_put(&p, h->packed);
	p.style = h->totals.host_changes > 0 ? VIEW_HOST : VIEW_PLAIN;
	view_pen_printf(&p, "  host changes: %llu", (ull)h->totals.host_changes);
	p = view_pen_begin(c, 2, 0, c->cols);
	put_totals(&p, h);
}

void view_draw_said(struct view_canvas *c, struct span text, bool warn)
{
	struct view_pen p;

	if (c->rows < VIEW_FOOTER_ROWS)
		return;
	p = view_pen_begin(c, c->rows - 2, 0, c->cols);
	view_pen_put(&p, " ");
	p.style = warn ? VIEW_WARN : VIEW_PLAIN;
	view_pen_text(&p, text);
}

void view_draw_prompt(struct view_canvas *c, const char *question, const struct span *input)
{
	struct view_pen p = view_pen_begin(c, c->rows - 1, 0, c->cols);
	size_t want = strlen(question);
	size_t typed = input ? shown_columns(*input, c->width, SHOWN_IN_CELLS) : 0;
	size_t room = c->cols * 2 / 3; /* of the question, where something is typed */

	p.style = VIEW_OURS;
	p.bare = true;
	view_pen_put(&p, "berm> ");
	if (input && want > room)
		question += want - room;
	view_pen_put(&p, question);
	if (input) {
		unsigned left = p.end - p.at;

		view_pen_put(&p, " ");
		/* the end of what is typed is what one looks at */
		p.column = 0;
		p.skip = typed + 2 > left ? (uint32_t)(typed + 2 - left) : 0;
		view_pen_text(&p, *input);
		c->cursor = true;
		c->cursor_row = c->rows - 1;
		c->cursor_col = p.at < c->cols ? p.at : c->cols - 1;
	}
	view_pen_fill(&p);
}

/* --- the tree --- */

const char *view_op_text(const struct change *c)
{
	static const char *const texts[] = {
		[CHANGE_ADD] = "new",   [CHANGE_EDIT] = "edit",   [CHANGE_MODE] = "mode",
		[CHANGE_TYPE] = "kind", [CHANGE_RENAME] = "move", [CHANGE_DELETE] = "delete",
	};

	return c->op < sizeof(texts) / sizeof(texts[0]) && texts[c->op] ? texts[c->op] : "?";
}

const char *view_mark_text(const struct review_item *it)
{
	if (it->flags & RV_DONE)
		return "[*]";
	if (!(it->flags & RV_DECIDABLE))
		return "   ";
	if (it->flags & RV_NEEDS)
		return "[!]";
	switch ((enum review_choice)it->choice) {
	case REVIEW_ACCEPT:
		return "[y]";
	case REVIEW_REJECT:
		return "[n]";
	case REVIEW_HUNKS:
		return "[~]";
	case REVIEW_UNDECIDED:
		break;
	}
	return it->flags & RV_REDECIDE ? "[?]" : "[ ]";
}

/* A path with what is searched for marked in it. */
static void put_found(struct view_pen *p, struct span s, struct span found)
{
	uint8_t style = p->style;
	size_t at;

	while (found.len > 0 && view_found(s, found, &at)) {
		view_pen_text(p, span_of(s.at, at));
		p->style = VIEW_FOUND;
		view_pen_text(p, span_of(s.at + at, found.len));
		p->style = style;
		s = span_of(s.at + at + found.len, s.len - at - found.len);
	}
	view_pen_text(p, s);
}

static uint32_t hunks_taken(const struct review_item *it)
{
	uint32_t taken = 0;

	for (uint32_t i = 0; it->hunks && i < it->hunk_count; i++)
		taken += it->hunks[i] != 0;
	return taken;
}

/* What stands behind the path. */
static void put_behind(struct view_pen *p, const struct review_item *it)
{
	const struct change *c = it->change;

	if (!span_equal(c->from, c->path)) {
		view_pen_put(p, "  from ");
		view_pen_text(p, c->from);
	}
	p->style = VIEW_DIM;
	if (it->choice == REVIEW_HUNKS)
		view_pen_printf(p, "  %u of %u hunks", hunks_taken(it), it->hunk_count);
	if (it->flags & RV_REDECIDE)
		view_pen_put(p, "  changed since you decided");
	if (it->flags & RV_NEEDS)
		view_pen_put(p, "  needs what you rejected");
	if (it->section == REVIEW_CONFLICTS && it->class != CLASS_PLAIN)
		view_pen_printf(p, "  %s", class_name((enum work_class)it->class));
	if (c->hint.len > 0) {
		view_pen_put(p, "  now at ");
		view_pen_text(p, c->hint);
	}
	if (review_reason(it)) {
		view_pen_put(p, "  ");
		view_pen_put(p, review_reason(it));
	}
}

static void put_item(struct view_pen *p, const struct review_item *it, struct span label, bool dir,
                     struct span found)
{
	uint8_t style = p->style;

	if (it->flags & RV_DONE)
		p->style = style == VIEW_CURSOR ? style : (uint8_t)VIEW_DIM;
	view_pen_put(p, view_mark_text(it));
	view_pen_printf(p, " %-*s", OP_COLS, view_op_text(it->change));
	put_found(p, label, found);
	if (dir)
		view_pen_put(p, "/");
	if (label.len == 0)
		view_pen_put(p, ".");
	put_behind(p, it);
}

static void put_counts(struct view_pen *p, const struct view_node *n)
{
	p->style = VIEW_DIM;
	view_pen_printf(p, "  %u", n->items);
	if (n->undecided > 0)
		view_pen_printf(p, ", %u undecided", n->undecided);
}

static void draw_node(struct view_canvas *c, unsigned row, const struct view_tree *t, uint32_t node,
                      bool cursor, struct span found)
{
	const struct view_node *n = &t->nodes[node];
	const struct review_item *it = view_item(t, node);
	struct view_pen p = view_pen_begin(c, row, 0, c->cols);
	unsigned depth = n->depth > 0 ? n->depth - 1U : 0;
	unsigned indent = depth * INDENT < INDENT_MAX ? depth * INDENT : INDENT_MAX;
	bool folds = view_node_folds(t, node);

	view_pen_put(&p, cursor ? ">" : " ");
	if (indent > c->cols / 4)
		indent = c->cols / 4;
	view_pen_to(&p, 1 + indent);
	p.style = cursor ? VIEW_CURSOR : n->depth == 0 ? VIEW_TITLE : VIEW_PLAIN;
	view_pen_put(&p, !folds ? "  " : n->flags & VIEW_FOLDED ? "+ " : "- ");
	if (n->depth == 0) {
		if (n->section <= REVIEW_X3 || n->section == REVIEW_X4)
			view_pen_printf(&p, "%s ",
			                review_section_name((enum review_section)n->section));
		view_pen_put(&p, review_section_title((enum review_section)n->section));
		put_counts(&p, n);
	} else if (it) {
		bool dir = (it->change->guest.exists ? it->change->guest.kind
		                                     : it->change->base.kind) == WORK_DIR;

		put_item(&p, it, view_node_label(t, node), dir, found);
		if (folds && (n->flags & VIEW_FOLDED))
			put_counts(&p, n);
	} else {
		put_found(&p, view_node_label(t, node), found);
		view_pen_put(&p, "/");
		put_counts(&p, n);
	}
}

void view_draw_tree(struct view_canvas *c, unsigned from, unsigned to, const struct view_tree *t,
                    uint32_t top, uint32_t cursor, struct span found)
{
	uint32_t at = top;

	for (unsigned row = from; row < to && at != VIEW_NONE; row++) {
		draw_node(c, row, t, at, at == cursor, found);
		at = view_next(t, at);
	}
}

/* --- one change --- */

static const char *kind_text(const struct change_side *s)
{
	if (!s->exists)
		return "nothing";
	switch (s->kind) {
	case WORK_FILE:
		return "file";
	case WORK_DIR:
		return "directory";
	case WORK_LINK:
		return "link";
	default:
		return "something else";
	}
}

static void put_side(struct view_pen *p, const char *name, const struct change_side *s)
{
	view_pen_printf(p, "%s: %s", name, kind_text(s));
	if (s->exists && s->kind == WORK_FILE)
		view_pen_printf(p, " %llu bytes", (ull)s->size);
	if (s->exists && s->kind != WORK_LINK)
		view_pen_printf(p, " %04o", (unsigned)s->mode);
}

void view_draw_item(struct view_canvas *c, unsigned row, const struct review_item *it)
{
	const struct change *ch = it->change;
	struct view_pen p = view_pen_begin(c, row, 0, c->cols);

	p.style = VIEW_BOLD;
	view_pen_put(&p, " ");
	view_pen_put(&p, view_mark_text(it));
	view_pen_printf(&p, " %s ", view_op_text(ch));
	view_pen_text(&p, ch->path);
	p.style = VIEW_PLAIN;
	put_behind(&p, it);
	p = view_pen_begin(c, row + 1, 0, c->cols);
	p.style =
		it->section == REVIEW_CONFLICTS || it->section <= REVIEW_X3 ? VIEW_WARN : VIEW_DIM;
	view_pen_put(&p, " ");
	view_pen_put(&p, review_section_title((enum review_section)it->section));
	p.style = VIEW_DIM;
	view_pen_put(&p, "  ");
	put_side(&p, "was", &ch->base);
	view_pen_put(&p, ", ");
	put_side(&p, "is", &ch->guest);
	if (!(ch->flags & CHANGE_HOST_UNTOUCHED)) {
		p.style = VIEW_HOST;
		view_pen_put(&p, ", ");
		put_side(&p, "yours", &ch->host);
	}
}

/* --- texts --- */

static void put_no(struct view_pen *p, uint32_t no)
{
	if (no > 0)
		view_pen_printf(p, "%*u", NUMBER_COLS, no);
	else
		view_pen_printf(p, "%*s", NUMBER_COLS, "");
}

/* A line of a file, scrolled aside. What is searched for is marked by the row's first column. */
static void put_line(struct view_pen *p, struct span line, uint32_t skip)
{
	p->skip = skip;
	p->column = 0;
	view_pen_content(p, line);
	if (line.len == 0 || line.at[line.len - 1] != '\n') {
		p->style = VIEW_DIM;
		view_pen_put(p, " (no newline at the end)");
	}
}

static const char *block_state(const struct view_diff_look *l, uint32_t block)
{
	const struct view_texts *t = &l->diff->texts;

	if (t->fates && t->fates[block] == MERGE_SAME)
		return "you made the same change";
	if (l->choice == REVIEW_REJECT)
		return "[n] rejected";
	if (l->chosen)
		return l->chosen[block] ? "[y] accepted" : "[n] left out";
	if (l->choice == REVIEW_ACCEPT)
		return "[y] accepted";
	return "[ ] undecided";
}

static void draw_head(struct view_pen *p, const struct view_diff_look *l,
                      const struct view_diff_line *line)
{
	const struct view_texts *t = &l->diff->texts;

	p->style = VIEW_HUNK;
	if (line->kind == VIEW_LINE_YOURS) {
		p->style = VIEW_HOST;
		view_pen_printf(p, "=== your version of it, line %u:", line->new_at + 1);
		return;
	}
	view_pen_printf(p, "@@ hunk %u of %u  -%u,%u +%u,%u ", line->block + 1, l->diff->count,
	                line->old_at + 1, line->old_lines, line->new_at + 1, line->new_lines);
	if (l->choosable)
		view_pen_put(p, block_state(l, line->block));
	if (t->fates && t->fates[line->block] == MERGE_CONFLICT) {
		p->style = VIEW_WARN;
		view_pen_put(p, "  you changed these lines too");
	}
}

static void draw_unified(struct view_pen *p, const struct view_diff_look *l,
                         const struct view_diff_line *line)
{
	static const struct {
		char sign;
		uint8_t style;
	} looks[] = {
		[VIEW_LINE_CONTEXT] = { ' ', VIEW_PLAIN },
		[VIEW_LINE_OLD] = { '-', VIEW_REMOVED },
		[VIEW_LINE_NEW] = { '+', VIEW_ADDED },
		[VIEW_LINE_HOST_OLD] = { '-', VIEW_REMOVED },
		[VIEW_LINE_HOST_NEW] = { '*', VIEW_HOST },
	};
	bool wide = p->canvas->cols >= WIDE_COLS;

	p->style = VIEW_DIM;
	if (wide || !line->has_right)
		put_no(p, line->left_no);
	if (wide || line->has_right)
		put_no(p, line->right_no);
	p->style = looks[line->kind].style;
	view_pen_printf(p, " %c", looks[line->kind].sign);
	put_line(p, line->has_right ? line->right : line->left, l->skip);
}

static void draw_split(struct view_canvas *c, unsigned row, const struct view_diff_look *l,
                       const struct view_diff_line *line)
{
	unsigned middle = 1 + (c->cols - 1) / 2;
	struct view_pen left = view_pen_begin(c, row, 1, middle);
	struct view_pen right = view_pen_begin(c, row, middle, c->cols);
	bool conflict = l->diff->blocks[line->block].host_count > 0;
	bool changed = line->kind == VIEW_LINE_BOTH;

	left.style = right.style = VIEW_DIM;
	if (line->has_left) {
		put_no(&left, line->left_no);
		left.style = !changed ? VIEW_PLAIN : conflict ? VIEW_HOST : VIEW_REMOVED;
		view_pen_put(&left, !changed ? "  " : conflict ? " *" : " -");
		put_line(&left, line->left, l->skip);
	}
	view_pen_put(&right, "|");
	if (line->has_right) {
		put_no(&right, line->right_no);
		right.style = changed ? VIEW_ADDED : VIEW_PLAIN;
		view_pen_put(&right, changed ? " +" : "  ");
		put_line(&right, line->right, l->skip);
	}
}

static bool line_found(const struct view_diff_line *line, struct span found)
{
	return found.len > 0 && ((line->has_left && view_found(line->left, found, NULL)) ||
	                         (line->has_right && view_found(line->right, found, NULL)));
}

void view_draw_diff(struct view_canvas *c, unsigned from, unsigned to,
                    const struct view_diff_look *l)
{
	uint64_t n = l->top;

	for (unsigned row = from; row < to && n < l->diff->lines; row++, n++) {
		struct view_pen p = view_pen_begin(c, row, 0, c->cols);
		struct view_diff_line line;

		view_diff_line(l->diff, n, &line);
		if (line_found(&line, l->found)) {
			p.style = VIEW_FOUND;
			view_pen_put(&p, "/");
		} else {
			p.style = VIEW_HUNK;
			view_pen_put(&p, line.block == l->current ? ">" : " ");
		}
		if (line.kind == VIEW_LINE_HEAD || line.kind == VIEW_LINE_YOURS)
			draw_head(&p, l, &line);
		else if (l->diff->split)
			draw_split(c, row, l, &line);
		else
			draw_unified(&p, l, &line);
	}
}

void view_draw_text(struct view_canvas *c, unsigned from, unsigned to, const struct hunk_text *t,
                    uint32_t top, uint32_t skip, bool numbers, struct span found)
{
	uint32_t n = top;

	for (unsigned row = from; row < to && n < t->count; row++, n++) {
		struct span line = hunk_lines(t, n, 1);
		struct view_pen p = view_pen_begin(c, row, 0, c->cols);

		bool hit = view_found(line, found, NULL);

		p.style = hit ? VIEW_FOUND : VIEW_PLAIN;
		view_pen_put(&p, hit ? "/" : " ");
		p.style = VIEW_DIM;
		if (numbers) {
			put_no(&p, n + 1);
			view_pen_put(&p, " ");
			p.style = VIEW_PLAIN;
			put_line(&p, line, skip);
			continue;
		}
		p.style = VIEW_PLAIN;
		if (line.len > 2 && line.at[0] == '=' && line.at[1] == ' ') {
			p.style = VIEW_TITLE;
			line = span_of(line.at + 2, line.len - 2);
		}
		p.skip = skip;
		p.column = 0;
		view_pen_content(&p, line);
	}
}
