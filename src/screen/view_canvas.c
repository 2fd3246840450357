#include "screen/view_canvas.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { PRINTF_MAX = 1024 };

struct view_canvas *view_canvas_new(unsigned rows, unsigned cols, shown_width_fn *width)
{
	struct view_canvas *c;

	rows = rows < VIEW_ROWS_MAX ? rows : VIEW_ROWS_MAX;
	cols = cols < VIEW_COLS_MAX ? cols : VIEW_COLS_MAX;
	c = calloc(1, sizeof(*c) + (size_t)rows * cols * sizeof(c->cells[0]));
	if (!c)
		return NULL;
	c->rows = rows;
	c->cols = cols;
	c->width = width;
	view_canvas_clear(c);
	return c;
}

void view_canvas_free(struct view_canvas *c)
{
	free(c);
}

void view_canvas_clear(struct view_canvas *c)
{
	c->cursor = false;
	for (size_t i = 0; i < (size_t)c->rows * c->cols; i++)
		c->cells[i] = (struct view_cell){ .c = ' ', .style = VIEW_PLAIN };
}

const struct view_cell *view_canvas_at(const struct view_canvas *c, unsigned row, unsigned col)
{
	assert(row < c->rows && col < c->cols);
	return &c->cells[(size_t)row * c->cols + col];
}

static struct view_cell *cell(struct view_canvas *c, unsigned row, unsigned col)
{
	assert(row < c->rows && col < c->cols);
	return &c->cells[(size_t)row * c->cols + col];
}

struct view_pen view_pen_begin(struct view_canvas *c, unsigned row, unsigned from, unsigned end)
{
	end = end < c->cols ? end : c->cols;
	from = row < c->rows && from < end ? from : end;
	return (struct view_pen){ .canvas = c, .row = row, .from = from, .at = from, .end = end };
}

/* Writes one cell. A wide character of which it takes one half loses the other one too. */
static void set_cell(struct view_canvas *c, unsigned row, unsigned col, struct view_cell to)
{
	struct view_cell *at = cell(c, row, col);

	if (at->c == 0 && to.c != 0 && col > 0)
		cell(c, row, col - 1)->c = ' ';
	if (col + 1 < c->cols && cell(c, row, col + 1)->c == 0)
		cell(c, row, col + 1)->c = ' ';
	*at = to;
}

/* The last column says that there is more. */
static void mark_cut(struct view_pen *p)
{
	if (p->cut)
		return;
	p->cut = true;
	if (p->from >= p->end)
		return;
	set_cell(p->canvas, p->row, p->end - 1, (struct view_cell){ .c = '>', .style = VIEW_WARN });
	p->at = p->end;
}

/* One character of `width` columns; false once the row is full. */
static bool put_cell(struct view_pen *p, uint32_t c, unsigned width, uint8_t style)
{
	uint32_t column = p->column;

	if (p->cut)
		return false;
	p->column += width;
	if (column < p->skip) {
		if (p->column <= p->skip)
			return true;
		width = p->column - p->skip; /* the half of a wide one that is left over */
		c = ' ';
	}
	if (p->at >= p->end || width > p->end - p->at) {
		mark_cut(p);
		return false;
	}
	for (unsigned i = 0; i < width; i++)
		set_cell(p->canvas, p->row, p->at + i,
		         (struct view_cell){ .c = i == 0 ? c : 0, .style = style });
	p->at += width;
	return true;
}

static bool put_escaped(struct view_pen *p, struct span s)
{
	static const char hex[] = "0123456789abcdef";
	uint8_t style = p->bare ? p->style : (uint8_t)VIEW_ESCAPED;

	for (size_t i = 0; i < s.len; i++)
		if (!put_cell(p, '\\', 1, style) || !put_cell(p, 'x', 1, style) ||
		    !put_cell(p, (uint32_t)hex[s.at[i] >> 4], 1, style) ||
		    !put_cell(p, (uint32_t)hex[s.at[i] & 15], 1, style))
			return false;
	return true;
}

static bool put_char(struct view_pen *p, struct span *s)
{
	struct shown one = shown_take(s, p->canvas->width, SHOWN_IN_CELLS);

	return one.c ? put_cell(p, one.c, one.columns, p->style) : put_escaped(p, one.bytes);
}

void view_pen_put(struct view_pen *p, const char *text)
{
	view_pen_text(p, span_str(text));
}

void view_pen_printf(struct view_pen *p, const char *fmt, ...)
{
	char text[PRINTF_MAX];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n > 0)
		view_pen_text(p, span_of(text, strnlen(text, sizeof(text))));
}

void view_pen_text(struct view_pen *p, struct span s)
{
	while (s.len > 0 && put_char(p, &s))
		continue;
}

void view_pen_content(struct view_pen *p, struct span s)
{
	if (s.len > 0 && s.at[s.len - 1] == '\n')
		s.len--;
	while (s.len > 0 && !p->cut) {
		if (s.at[0] != '\t') {
			if (!put_char(p, &s))
				return;
			continue;
		}
		for (uint32_t to = p->column + VIEW_TAB - p->column % VIEW_TAB; p->column < to;)
			if (!put_cell(p, ' ', 1, p->style))
				return;
		s = span_of(s.at + 1, s.len - 1);
	}
}

void view_pen_fill(struct view_pen *p)
{
	if (p->row >= p->canvas->rows)
		return;
	for (; p->at < p->end; p->at++)
		set_cell(p->canvas, p->row, p->at,
		         (struct view_cell){ .c = ' ', .style = p->style });
}

void view_pen_to(struct view_pen *p, unsigned col)
{
	if (p->row >= p->canvas->rows)
		return;
	for (; p->at < p->end && p->at < col; p->at++)
		set_cell(p->canvas, p->row, p->at,
		         (struct view_cell){ .c = ' ', .style = p->style });
}
