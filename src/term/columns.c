#include "term/columns.h"

#include "base/buf.h"
#include "term/shown.h"
#include "term/term.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GAP = 2, CELL_MIN = 1, ROWS_MORE = 32 };

struct columns {
	const struct column *of;
	unsigned count;
	char **cells; /* count of them a row */
	size_t rows, room;
};

int columns_new(const struct column *of, unsigned count, struct columns **ret, struct err *e)
{
	struct columns *t = calloc(1, sizeof(*t));

	assert(count > 0 && count <= COLUMNS_MAX);
	if (!t)
		return err_set(e, -ENOMEM, "out of memory");
	t->of = of;
	t->count = count;
	*ret = t;
	return 0;
}

void columns_free(struct columns *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->rows * t->count; i++)
		free(t->cells[i]);
	free(t->cells);
	free(t);
}

static int make_room(struct columns *t, struct err *e)
{
	size_t room = t->room + ROWS_MORE;
	char **more;

	if (t->rows < t->room)
		return 0;
	more = reallocarray(t->cells, room * t->count, sizeof(*more));
	if (!more)
		return err_set(e, -ENOMEM, "out of memory");
	t->cells = more;
	t->room = room;
	return 0;
}

int columns_add(struct columns *t, const char *const *cells, struct err *e)
{
	char **row;
	int r = make_room(t, e);

	if (r < 0)
		return r;
	row = t->cells + t->rows * t->count;
	for (unsigned i = 0; i < t->count; i++) {
		row[i] = strdup(cells[i]);
		if (row[i])
			continue;
		while (i-- > 0)
			free(row[i]);
		return err_set(e, -ENOMEM, "out of memory");
	}
	t->rows++;
	return 0;
}

static struct shown take(struct span *s)
{
	return shown_take(s, shown_line_width, SHOWN_IN_LINE);
}

static size_t columns_of(struct span s)
{
	return shown_columns(s, shown_line_width, SHOWN_IN_LINE);
}

/* Puts what fits into `room` columns. Returns the columns it took. */
static size_t put_front(struct buf *b, struct span s, size_t room)
{
	size_t all = 0;

	while (s.len > 0) {
		struct shown one = take(&s);

		if (all + one.columns > room)
			break;
		shown_put(b, &one);
		all += one.columns;
	}
	return all;
}

/* The end of a text of `all` columns that has to lose some. */
static struct span tail_of(struct span s, size_t all, size_t room)
{
	while (s.len > 0) {
		struct span behind = s;
		struct shown one = take(&behind);

		if (all <= room && one.columns > 0)
			break; /* nor does it begin with an accent of what was cut */
		all -= one.columns;
		s = behind;
	}
	return s;
}

/* Puts as much as fits into `most` columns, which are at least one. Returns the columns it took. */
static size_t put_cell(struct buf *b, const char *text, size_t most, bool tail)
{
	struct span s = span_str(text);
	size_t whole = columns_of(s);
	size_t all;

	if (whole <= most)
		return put_front(b, s, most);
	if (tail) {
		buf_put_str(b, "<");
		return put_front(b, tail_of(s, whole, most - 1), most - 1) + 1;
	}
	all = put_front(b, s, most - 1);
	buf_put_str(b, ">");
	return all + 1;
}

static const char *cell(const struct columns *t, size_t row, unsigned i)
{
	return row == 0 ? t->of[i].head : t->cells[(row - 1) * t->count + i];
}

/* As wide as the widest in each. Returns the columns of a whole line. */
static size_t natural(const struct columns *t, size_t width[COLUMNS_MAX])
{
	size_t all = (size_t)(t->count - 1) * GAP;

	for (unsigned i = 0; i < t->count; i++) {
		width[i] = CELL_MIN;
		for (size_t row = 0; row <= t->rows; row++) {
			size_t w = columns_of(span_str(cell(t, row, i)));

			width[i] = w > width[i] ? w : width[i];
		}
		all += width[i];
	}
	return all;
}

static void lose(size_t *width, size_t least, size_t *over)
{
	size_t can = *width > least ? *width - least : 0;
	size_t n = can < *over ? can : *over;

	*width -= n;
	*over -= n;
}

/* The widest of all but the last that has something to lose, or count. */
static unsigned widest(const struct columns *t, const size_t width[COLUMNS_MAX])
{
	unsigned found = t->count;

	for (unsigned i = 0; i + 1 < t->count; i++)
		if (width[i] > t->of[i].least && (found == t->count || width[i] > width[found]))
			found = i;
	return found;
}

static void fit(const struct columns *t, size_t cols, size_t width[COLUMNS_MAX])
{
	size_t all = natural(t, width);
	size_t over = cols > 0 && all > cols ? all - cols : 0;
	unsigned last = t->count - 1;
	unsigned i;

	lose(&width[last], COLUMNS_LAST_MIN, &over);
	while (over > 0 && (i = widest(t, width)) < t->count)
		lose(&width[i], width[i] - 1, &over);
	lose(&width[last], CELL_MIN, &over);
}

unsigned cli_columns(const struct cli *c)
{
	uint16_t rows;
	uint16_t cols;

	return c->out_tty && term_size(STDOUT_FILENO, &rows, &cols) ? cols : 0;
}

static void put_row(struct buf *b, const struct columns *t, size_t row,
                    const size_t width[COLUMNS_MAX])
{
	for (unsigned i = 0; i < t->count; i++) {
		size_t at = put_cell(b, cell(t, row, i), width[i], row > 0 && t->of[i].tail);

		for (; i + 1 < t->count && at < width[i] + GAP; at++)
			buf_put_str(b, " ");
	}
	buf_put_str(b, "\n");
}

static int print_rows(const struct columns *t, unsigned cols, struct err *e)
{
	_own_free_ char *room = malloc(COLUMNS_LINE_MAX);
	size_t width[COLUMNS_MAX] = { 0 };
	int r = 0;

	if (!room)
		return err_set(e, -ENOMEM, "out of memory");
	fit(t, cols, width);
	for (size_t row = 0; r == 0 && row <= t->rows; row++) {
		struct buf b;

		buf_init(&b, room, COLUMNS_LINE_MAX);
		put_row(&b, t, row, width);
		r = buf_ok(&b) ? cli_out(b.at, b.len, e)
		               : err_set(e, -EMSGSIZE, "a line of over %d bytes", COLUMNS_LINE_MAX);
	}
	return r;
}

int columns_print(const struct columns *t, unsigned cols, struct err *e)
{
	struct shown_locale l;
	int r;

	shown_locale_begin(&l);
	r = print_rows(t, cols, e);
	shown_locale_end(&l);
	return r;
}
