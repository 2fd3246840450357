#include "review_fake.h"
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <wchar.h>

enum { ROW_MAX = 512 };

/* Narrow but for CJK and what an emoji takes; nothing for a combining accent. */
static int width_of(uint32_t c)
{
	if (c >= 0x300 && c < 0x370)
		return 0;
	return (c >= 0x1100 && c < 0x1160) || (c >= 0x2e80 && c < 0xa4d0) || c >= 0x1f300 ? 2 : 1;
}

/* A row as text: what is not ASCII is '#', the right half of a wide one '_'. */
static const char *row_of(const struct view_canvas *c, unsigned row)
{
	static char text[ROW_MAX];
	unsigned end = c->cols;

	for (unsigned i = 0; i < c->cols; i++) {
		uint32_t ch = view_canvas_at(c, row, i)->c;

		text[i] = ch == 0 ? '_' : ch < 0x80 ? (char)ch : '#';
	}
	while (end > 0 && text[end - 1] == ' ')
		end--;
	text[end] = '\0';
	return text;
}

/* --- cells --- */

static const char *shown(const char *in, size_t len, unsigned cols, bool content)
{
	struct view_canvas *c = view_canvas_new(1, cols, width_of);
	struct view_pen p = view_pen_begin(c, 0, 0, cols);
	const char *text;

	if (content)
		view_pen_content(&p, span_of(in, len));
	else
		view_pen_text(&p, span_of(in, len));
	text = row_of(c, 0);
	view_canvas_free(c);
	return text;
}

static const char *text(const char *in)
{
	return shown(in, strlen(in), 40, false);
}

TEST(z1_controls_are_written_out)
{
	CHECK_STR(text("a\x1b[31mb"), "a\\x1b[31mb");
	CHECK_STR(text("\x1b]0;x\x07"), "\\x1b]0;x\\x07");
	CHECK_STR(text("a\rb\x08"
	               "c\tx"),
	          "a\\x0db\\x08c\\x09x");
	CHECK_STR(text("\xc2\x9b"
	               "2J"),
	          "\\xc2\\x9b2J");
	CHECK_STR(text("\x9b"
	               "2J"),
	          "\\x9b2J");
	CHECK_STR(shown("a\0b", 3, 40, false), "a\\x00b");
}

TEST(z2_what_is_not_seen_is_written_out)
{
	CHECK_STR(text("a\xe2\x80\xae"
	               "b"),
	          "a\\xe2\\x80\\xaeb");
	CHECK_STR(text("a\xe2\x80\x8b"
	               "b"),
	          "a\\xe2\\x80\\x8bb");
	CHECK_STR(text("e\xcc\x81"), "e\\xcc\\x81"); /* no width of its own */
}

TEST(wide_characters_take_two_cells)
{
	CHECK_STR(text("a\xe4\xb8\xad"
	               "b"),
	          "a#_b");
	CHECK_STR(text("gr\xc3\xbc\xc3\x9f"), "gr##");
	/* half of one is never shown */
	CHECK_STR(shown("abc\xe4\xb8\xad", 6, 4, false), "abc>");
	CHECK_STR(shown("ab\xe4\xb8\xad"
	                "c",
	                6, 4, false),
	          "ab >");
}

/* What is drawn over a wide character from column `from`, of a row of "a" and two wide ones. */
static const char *drawn_over(const char *with, unsigned from, unsigned end)
{
	struct view_canvas *c = view_canvas_new(1, 6, width_of);
	struct view_pen p = view_pen_begin(c, 0, 0, 6);
	const char *text;

	view_pen_text(&p, span_str("a\xe4\xb8\xad\xe6\x96\x87z"));
	p = view_pen_begin(c, 0, from, end);
	view_pen_text(&p, span_str(with));
	text = row_of(c, 0);
	view_canvas_free(c);
	return text;
}

TEST(drawn_over_half_of_a_wide_character_the_other_half_goes)
{
	CHECK_STR(drawn_over("", 0, 6), "a#_#_z");
	CHECK_STR(drawn_over("b", 0, 6), "b#_#_z");
	CHECK_STR(drawn_over("b", 1, 6), "ab #_z"); /* its left half */
	CHECK_STR(drawn_over("b", 2, 6), "a b#_z"); /* its right half */
	CHECK_STR(drawn_over("\xe4\xb8\xad", 2, 6), "a #_ z");
	CHECK_STR(drawn_over("bcd", 0, 2), "b> #_z"); /* cut in the middle of one */
	CHECK_STR(drawn_over("b\xe4\xb8\xad", 1, 3), "ab>#_z");
	CHECK_STR(drawn_over("b\xe4\xb8\xad", 3, 5), "a#_b>z");
}

TEST(a_terminal_of_ascii_gets_ascii)
{
	struct view_canvas *c = view_canvas_new(1, 40, NULL);
	struct view_pen p = view_pen_begin(c, 0, 0, 40);

	view_pen_text(&p, span_str("gr\xc3\xbc"
	                           "n"));
	CHECK_STR(row_of(c, 0), "gr\\xc3\\xbcn");
	view_canvas_free(c);
}

TEST(what_is_cut_is_marked)
{
	CHECK_STR(shown("abcdef", 6, 6, false), "abcdef");
	CHECK_STR(shown("abcdefg", 7, 6, false), "abcde>");
	CHECK_STR(shown("a\x01", 2, 3, false), "a\\>"); /* an escape may be cut: it is marked */
}

TEST(tabs_of_a_line_and_its_end)
{
	CHECK_STR(shown("a\tb\n", 4, 40, true), "a       b");
	CHECK_STR(shown("\t\tx", 3, 40, true), "                x");
	CHECK_STR(shown("a\r\n", 3, 40, true), "a\\x0d");
}

TEST(scrolled_aside)
{
	struct view_canvas *c = view_canvas_new(1, 10, width_of);
	struct view_pen p = view_pen_begin(c, 0, 2, 10);

	p.skip = 3;
	view_pen_content(&p, span_str("ab\xe4\xb8\xad"
	                              "cdefghijkl"));
	CHECK_STR(row_of(c, 0), "   cdefgh>");
	view_canvas_free(c);
}

TEST(a_pen_stays_in_its_columns)
{
	struct view_canvas *c = view_canvas_new(2, 10, width_of);
	struct view_pen p = view_pen_begin(c, 0, 3, 6);

	view_pen_text(&p, span_str("0123456789"));
	CHECK_STR(row_of(c, 0), "   01>");
	p = view_pen_begin(c, 7, 0, 10); /* no such row */
	view_pen_text(&p, span_str("x"));
	view_pen_fill(&p);
	p = view_pen_begin(c, 1, 5, 5);
	view_pen_text(&p, span_str("x"));
	CHECK_STR(row_of(c, 1), "");
	view_canvas_free(c);
}

TEST(what_a_section_is_about_fits_a_line)
{
	for (int s = 0; s < REVIEW_SECTIONS; s++)
		CHECK(strlen(review_section_about((enum review_section)s)) <= 80 - 2);
}

/* --- the tree --- */

static void add_plain(struct fake *f, const char *path)
{
	fake_add(f, REVIEW_PLAIN, path, CHANGE_EDIT);
}

/* Rows of the tree as they are drawn, without what stands behind the path. */
static void check_rows(const struct view_tree *t, const char *const *want)
{
	struct view_canvas *c = view_canvas_new(40, 200, width_of);
	unsigned row = 0;

	view_draw_tree(c, 0, c->rows, t, view_first(t), VIEW_NONE, span_of("", 0));
	for (; want[row]; row++)
		CHECK_STR(row_of(c, row), want[row]);
	CHECK_STR(row_of(c, row), "");
	view_canvas_free(c);
}

/* Many enough that it is no plain list. */
static void add_many(struct fake *f)
{
	char path[64];

	add_plain(f, "a/b/c/one");
	add_plain(f, "a/b/c/two");
	add_plain(f, "a/b/d");
	for (int i = 0; i < VIEW_LIST_MAX; i++) {
		(void)snprintf(path, sizeof(path), "many/f%02d", i);
		add_plain(f, path);
	}
	add_plain(f, "z");
}

TEST(directories_with_one_directory_are_one_row)
{
	static const char *const want[] = { " - plain changes  44, 44 undecided",
		                            " - a/b/  3, 3 undecided",
		                            "   - c/  2, 2 undecided",
		                            "       [ ] edit   one",
		                            "       [ ] edit   two",
		                            "     [ ] edit   d",
		                            " + many/  40, 40 undecided",
		                            "   [ ] edit   z",
		                            NULL };
	struct fake f;
	struct view_tree *t;

	fake_init(&f, 100);
	add_many(&f);
	t = fake_tree(&f);
	for (uint32_t i = 0; i < t->count; i++)
		if (span_is(view_node_label(t, i), "many"))
			view_fold(t, i, true);
	check_rows(t, want);
	view_tree_free(t);
	fake_fini(&f);
}

TEST(few_items_are_a_list_of_paths)
{
	static const char *const want[] = { " - X0 runs by itself  1, 1 undecided",
		                            "   [ ] new    .envrc",
		                            " - plain changes  2, 1 undecided",
		                            "   [y] edit   deep/down/here",
		                            "   [ ] delete deep/x",
		                            NULL };
	struct fake f;
	struct view_tree *t;

	fake_init(&f, 10);
	fake_add(&f, REVIEW_X0, ".envrc", CHANGE_ADD);
	fake_add(&f, REVIEW_PLAIN, "deep/down/here", CHANGE_EDIT);
	fake_add(&f, REVIEW_PLAIN, "deep/x", CHANGE_DELETE);
	f.items[1].choice = REVIEW_ACCEPT;
	t = fake_tree(&f);
	check_rows(t, want);
	view_tree_free(t);
	fake_fini(&f);
}

/* A change that is a directory holds those in it; a path may be there twice; so may the root. */
TEST(changes_that_are_directories_and_paths_that_are_there_twice)
{
	char path[64];
	struct fake f;
	struct view_tree *t;
	uint32_t dir;

	fake_init(&f, 100);
	add_plain(&f, "");
	add_plain(&f, "d");
	add_plain(&f, "d");
	add_plain(&f, "d/x");
	for (int i = 0; i < VIEW_LIST_MAX; i++) {
		(void)snprintf(path, sizeof(path), "e%02d", i);
		add_plain(&f, path);
	}
	t = fake_tree(&f);
	for (uint32_t i = 0; i < f.count; i++)
		CHECK(span_equal(view_node_path(t, t->of_item[i]), f.changes[i].path));
	dir = t->of_item[2];
	CHECK(view_node_folds(t, dir) && !view_node_folds(t, t->of_item[1]));
	CHECK_EQ(t->nodes[dir].items, 2);
	CHECK_EQ(t->nodes[t->of_item[3]].parent, dir);
	CHECK_EQ(t->nodes[0].items, f.count);
	view_tree_free(t);
	fake_fini(&f);
}

/* Forth and back over any folding give the same rows. */
static void check_walk(const struct view_tree *t)
{
	uint32_t rows[200];
	unsigned count = 0;

	for (uint32_t at = view_first(t); at != VIEW_NONE; at = view_next(t, at)) {
		CHECK(count < 200);
		CHECK_EQ(view_visible(t, at), at);
		rows[count++] = at;
	}
	for (uint32_t at = view_last(t); at != VIEW_NONE; at = view_prev(t, at)) {
		CHECK(count > 0);
		CHECK_EQ(rows[--count], at);
	}
	CHECK_EQ(count, 0);
}

TEST(rows_are_the_same_forth_and_back)
{
	struct fake f;
	struct view_tree *t;

	fake_init(&f, 100);
	fake_add(&f, REVIEW_X0, ".envrc", CHANGE_ADD);
	add_many(&f);
	t = fake_tree(&f);
	check_walk(t);
	for (uint32_t i = 0; i < t->count; i++) {
		view_fold(t, i, true);
		check_walk(t);
		if (i % 3 == 0)
			view_fold(t, i, false);
	}
	for (uint32_t i = 0; i < f.count; i += 2)
		f.items[i].choice = REVIEW_REJECT;
	view_tree_recount(t);
	view_filter(t, true);
	check_walk(t);
	for (uint32_t i = 0; i < f.count; i++)
		f.items[i].choice = REVIEW_REJECT;
	view_tree_recount(t);
	view_filter(t, true);
	CHECK_EQ(view_first(t), VIEW_NONE);
	CHECK_EQ(view_last(t), VIEW_NONE);
	view_tree_free(t);
	fake_fini(&f);
}

TEST(counts_follow_each_decision)
{
	struct fake f;
	struct view_tree *t;

	fake_init(&f, 100);
	add_many(&f);
	t = fake_tree(&f);
	f.items[1].choice = REVIEW_ACCEPT;
	view_tree_changed(t, 1);
	view_tree_changed(t, 1);
	CHECK_EQ(t->nodes[0].undecided, f.count - 1);
	CHECK_EQ(view_next_undecided(t, t->of_item[0]), t->of_item[2]);
	f.items[1].choice = REVIEW_UNDECIDED;
	view_tree_changed(t, 1);
	CHECK_EQ(t->nodes[0].undecided, f.count);
	view_tree_free(t);
	fake_fini(&f);
}

TEST(search_goes_round_and_minds_capitals_that_are_typed)
{
	struct fake f;
	struct view_tree *t;

	fake_init(&f, 100);
	add_plain(&f, "README");
	add_plain(&f, "src/read.c");
	add_plain(&f, "z");
	t = fake_tree(&f);
	CHECK_EQ(view_search(t, 0, span_str("read"), false), t->of_item[0]);
	CHECK_EQ(view_search(t, t->of_item[0], span_str("read"), false), t->of_item[1]);
	CHECK_EQ(view_search(t, t->of_item[1], span_str("read"), false), t->of_item[0]);
	CHECK_EQ(view_search(t, t->of_item[0], span_str("read"), true), t->of_item[1]);
	CHECK_EQ(view_search(t, 0, span_str("READ"), false), t->of_item[0]);
	CHECK_EQ(view_search(t, t->of_item[0], span_str("READ"), false), t->of_item[0]);
	CHECK_EQ(view_search(t, 0, span_str("nowhere"), false), VIEW_NONE);
	view_tree_free(t);
	fake_fini(&f);
}

/* --- hunks --- */

struct texts {
	struct hunk_text *base, *host, *guest;
	struct hunks *to_guest, *to_host;
	uint8_t fates[8];
	struct view_texts t;
};

static struct hunks *hunks_of(const struct hunk *h, uint32_t count)
{
	struct hunks *got = calloc(1, sizeof(*got) + count * sizeof(*h));

	CHECK(got);
	got->count = count;
	memcpy(got->at, h, count * sizeof(*h));
	return got;
}

static struct hunk_text *lines_of(const char *s)
{
	struct hunk_text *t = NULL;
	struct err e = { 0 };

	CHECK_OK(hunk_text_new(span_str(s), &t, &e), &e);
	return t;
}

static void texts_fini(struct texts *x)
{
	hunk_text_free(x->base);
	hunk_text_free(x->host);
	hunk_text_free(x->guest);
	hunks_free(x->to_guest);
	hunks_free(x->to_host);
}

static void two_hunks(struct texts *x)
{
	static const struct hunk h[] = { { 1, 1, 1, 1 }, { 8, 0, 8, 2 } };

	*x = (struct texts){ 0 };
	x->base = lines_of("1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n");
	x->guest = lines_of("1\nII\n3\n4\n5\n6\n7\n8\nnew\nnewer\n9\n10\n11\n12\n13\n");
	x->to_guest = hunks_of(h, 2);
	x->t = (struct view_texts){ .base = x->base, .guest = x->guest, .to_guest = x->to_guest };
}

static void check_diff(const struct texts *x, bool split, const char *const *want)
{
	struct view_canvas *c = view_canvas_new(60, 70, width_of);
	struct view_diff_look look = { .choosable = true };
	struct view_diff *d = NULL;
	struct err e = { 0 };
	unsigned row = 0;

	CHECK_OK(view_diff_new(&x->t, split, &d, &e), &e);
	look.diff = d;
	view_draw_diff(c, 0, c->rows, &look);
	for (; want[row]; row++)
		CHECK_STR(row_of(c, row), want[row]);
	CHECK_STR(row_of(c, row), "");
	CHECK_EQ(d->lines, row);
	view_diff_free(d);
	view_canvas_free(c);
}

TEST(unified_shows_each_line_once)
{
	static const char *const want[] = { ">@@ hunk 1 of 2  -2,1 +2,1 [ ] undecided",
		                            ">     1     1  1",
		                            ">     2       -2",
		                            ">           2 +II",
		                            ">     3     3  3",
		                            ">     4     4  4",
		                            ">     5     5  5",
		                            " @@ hunk 2 of 2  -9,0 +9,2 [ ] undecided",
		                            "      6     6  6",
		                            "      7     7  7",
		                            "      8     8  8",
		                            "            9 +new",
		                            "           10 +newer",
		                            "      9    11  9",
		                            "     10    12  10",
		                            "     11    13  11",
		                            NULL };
	struct texts x;

	two_hunks(&x);
	check_diff(&x, false, want);
	texts_fini(&x);
}

TEST(side_by_side)
{
	static const char *const want[] = { ">@@ hunk 1 of 2  -2,1 +2,1 [ ] undecided",
		                            ">     1  1                         |     1  1",
		                            ">     2 -2                         |     2 +II",
		                            ">     3  3                         |     3  3",
		                            ">     4  4                         |     4  4",
		                            ">     5  5                         |     5  5",
		                            " @@ hunk 2 of 2  -9,0 +9,2 [ ] undecided",
		                            "      6  6                         |     6  6",
		                            "      7  7                         |     7  7",
		                            "      8  8                         |     8  8",
		                            "                                   |     9 +new",
		                            "                                   |    10 +newer",
		                            "      9  9                         |    11  9",
		                            "     10  10                        |    12  10",
		                            "     11  11                        |    13  11",
		                            NULL };
	struct texts x;

	two_hunks(&x);
	check_diff(&x, true, want);
	texts_fini(&x);
}

/* Both versions of a line that both have changed are there, in both forms. */
TEST(d10_a_conflict_shows_both_versions)
{
	static const struct hunk guest[] = { { 1, 1, 1, 1 } };
	static const struct hunk host[] = { { 1, 1, 1, 2 } };
	static const char *const unified[] = {
		">@@ hunk 1 of 1  -2,1 +2,1 [ ] undecided  you changed these lines too",
		">     1     1  1",
		">     2       -2",
		">           2 +agent",
		">=== your version of it, line 2:",
		">     2       -2",
		">           2 *mine",
		">           3 *and more",
		">     3     3  3 (no newline at the end)",
		NULL
	};
	static const char *const split[] = {
		">@@ hunk 1 of 1  -2,1 +2,1 [ ] undecided  you changed these lines too",
		">     1  1                         |     1  1",
		">     2 *mine                      |     2 +agent",
		">     3 *and more                  |",
		">     3  3 (no newline at the end) |     3  3 (no newline at the end)",
		NULL
	};
	struct texts x = { .fates = { MERGE_CONFLICT } };

	x.base = lines_of("1\n2\n3");
	x.guest = lines_of("1\nagent\n3");
	x.host = lines_of("1\nmine\nand more\n3");
	x.to_guest = hunks_of(guest, 1);
	x.to_host = hunks_of(host, 1);
	x.t = (struct view_texts){ .base = x.base,
		                   .guest = x.guest,
		                   .host = x.host,
		                   .to_guest = x.to_guest,
		                   .to_host = x.to_host,
		                   .fates = x.fates };
	check_diff(&x, false, unified);
	check_diff(&x, true, split);
	texts_fini(&x);
}

/* --- foot --- */

TEST(z3_the_prompt_is_the_last_row_and_nothing_else_is_there)
{
	struct view_canvas *c = view_canvas_new(12, 40, width_of);
	struct hunk_text *t = lines_of("berm> y\nberm> y\nberm> y\nberm> y\nberm> y\nberm> y\n"
	                               "berm> y\nberm> y\nberm> y\nberm> y\nberm> y\nberm> y\n");
	struct span typed = span_str("abc");

	view_draw_text(c, VIEW_HEADER_ROWS, c->rows - VIEW_FOOTER_ROWS, t, 0, 0, true,
	               span_of("", 0));
	view_draw_prompt(c, "go on?", &typed);
	for (unsigned row = 0; row + 1 < c->rows; row++)
		CHECK(view_canvas_at(c, row, 0)->c == ' ');
	CHECK_STR(row_of(c, c->rows - 1), "berm> go on? abc");
	for (unsigned col = 0; col < c->cols; col++)
		CHECK_EQ(view_canvas_at(c, c->rows - 1, col)->style, VIEW_OURS);
	CHECK(c->cursor && c->cursor_row == 11 && c->cursor_col == 16);
	hunk_text_free(t);
	view_canvas_free(c);
}

TEST(a_long_input_shows_its_end)
{
	struct view_canvas *c = view_canvas_new(12, 40, width_of);
	struct span typed = span_str("0123456789012345678901234567890123456789xyz");

	view_draw_prompt(c, "it runs by itself; to accept it, type its path:", &typed);
	CHECK(strstr(row_of(c, 11), "xyz"));
	CHECK(strstr(row_of(c, 11), "path:"));
	view_canvas_free(c);
}

/* V13: what a key costs does not depend on how many changes there are. */
TEST(v13_fifty_thousand_paths)
{
	enum { DIRS = 500, FILES = 100 };
	struct view_tree *t;
	char path[64];
	struct fake f;
	uint32_t at;

	fake_init(&f, DIRS * FILES);
	for (int d = 0; d < DIRS; d++) {
		for (int i = 0; i < FILES; i++) {
			(void)snprintf(path, sizeof(path), "src/d%03d/f%03d", d, i);
			add_plain(&f, path);
		}
	}
	t = fake_tree(&f);
	CHECK_EQ(t->nodes[0].items, DIRS * FILES);
	at = view_first(t); /* the section, then src folded */
	at = view_next(t, at);
	CHECK_SPAN(view_node_label(t, at), "src");
	CHECK_EQ(view_next(t, at), VIEW_NONE);
	view_fold(t, at, false);
	for (int i = 0; i < DIRS; i++) {
		at = view_next(t, at);
		CHECK_EQ(t->nodes[at].items, FILES);
	}
	CHECK_EQ(view_next(t, at), VIEW_NONE);
	view_tree_free(t);
	fake_fini(&f);
}

TEST_MAIN()
