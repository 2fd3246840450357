#include "../../unit/screen/review_fake.h"

#include <assert.h>
#include <stdio.h>

/*
 * Texts and paths of a guest on a screen. The first bytes choose the size of the screen and how far
 * it is scrolled; then come paths up to an empty one, then two texts. Whatever came: each cell
 * holds one character that is seen, the first column and the last row are ours, and the tree's rows
 * are the same forth and back.
 */

enum { PATHS_MAX = 300, TEXT_MAX = 4096, HUNKS_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int width_of(uint32_t c)
{
	return c % 7 == 0 ? 2 : c % 11 == 0 ? 0 : 1;
}

/* A wide character has its right half behind it; nothing else has one. */
static bool whole(const struct view_canvas *c, unsigned row, unsigned col)
{
	uint32_t ch = view_canvas_at(c, row, col)->c;
	bool wide = ch >= 0x80 && c->width && width_of(ch) == 2;

	return wide == (col + 1 < c->cols && view_canvas_at(c, row, col + 1)->c == 0);
}

static void judge(const struct view_canvas *c)
{
	for (unsigned row = 0; row < c->rows; row++) {
		for (unsigned col = 0; col < c->cols; col++) {
			uint32_t ch = view_canvas_at(c, row, col)->c;

			if (ch == 0) /* the right half of a wide one */
				assert(col > 0 && whole(c, row, col - 1));
			else
				assert(ch >= 0x20 && ch != 0x7f && (ch < 0x80 || ch >= 0xa0) &&
				       (ch < 0x200b || ch > 0x200f) &&
				       (ch < 0x2028 || ch > 0x202e) && ch < 0x110000 &&
				       whole(c, row, col));
			if (col == 0)
				assert(ch == ' ' || ch == '>' || ch == '/' ||
				       (row + 1 == c->rows && ch == 'b'));
		}
	}
}

static int cmp(const void *a, const void *b)
{
	return wpath_cmp(*(const struct span *)a, *(const struct span *)b);
}

static bool take_path(struct span *in, struct span *ret)
{
	return take_until(in, '\0', ret) && ret->len > 0;
}

static void add_paths(struct fake *f, struct span *in)
{
	static const char more[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN";
	struct span paths[PATHS_MAX + sizeof(more)];
	size_t count = 0;
	struct span path;

	while (count < PATHS_MAX && take_path(in, &path))
		if (wpath_parse(path, NULL) == 0)
			paths[count++] = path;
	/* so many that they are a tree and no list */
	for (size_t i = 0; count > 0 && paths[0].len % 2 == 0 && i < sizeof(more) - 1; i++)
		paths[count++] = span_of(more + i, 1);
	qsort(paths, count, sizeof(paths[0]), cmp);
	for (size_t i = 0; i < count; i++) {
		char text[WPATH_MAX + 1];

		memcpy(text, paths[i].at, paths[i].len);
		text[paths[i].len] = '\0';
		fake_add(f, REVIEW_PLAIN, text, (enum change_op)(1 + paths[i].len % 6));
	}
}

static void look_at_tree(struct view_canvas *c, struct fake *f, uint8_t how)
{
	struct view_tree *t = fake_tree(f);
	uint32_t forth = 0;
	uint32_t back = 0;

	for (uint32_t i = 0; i < t->count; i++) {
		assert(t->nodes[i].end > i && t->nodes[i].end <= t->count);
		view_fold(t, i, (i * 31 + how) % 3 == 0);
	}
	for (uint32_t at = view_first(t); at != VIEW_NONE; at = view_next(t, at))
		forth++;
	for (uint32_t at = view_last(t); at != VIEW_NONE; at = view_prev(t, at))
		back++;
	assert(forth == back);
	view_draw_tree(c, 0, c->rows - 1, t, view_first(t), view_first(t), span_str("a"));
	view_draw_prompt(c, "?", NULL);
	judge(c);
	view_tree_free(t);
}

/* Where two texts differ, by the first and last lines they share. */
static uint32_t hunk_of(const struct hunk_text *a, const struct hunk_text *b, struct hunk *ret)
{
	uint32_t front = 0;
	uint32_t behind = 0;

	while (front < a->count && front < b->count &&
	       span_equal(hunk_lines(a, front, 1), hunk_lines(b, front, 1)))
		front++;
	while (behind + front < a->count && behind + front < b->count &&
	       span_equal(hunk_lines(a, a->count - behind - 1, 1),
	                  hunk_lines(b, b->count - behind - 1, 1)))
		behind++;
	*ret = (struct hunk){ front, a->count - front - behind, front, b->count - front - behind };
	return ret->old_lines + ret->new_lines > 0;
}

static void look_at_hunks(struct view_canvas *c, struct span a, struct span b, const uint8_t *how)
{
	struct view_diff_look look = { .choosable = true, .skip = how[2], .found = span_str("x") };
	_own_(hunk_text_free) struct hunk_text *base = NULL;
	_own_(hunk_text_free) struct hunk_text *guest = NULL;
	_own_free_ struct hunks *h = calloc(1, sizeof(*h) + sizeof(struct hunk));
	uint8_t fates[1] = { how[3] % 4 };
	struct view_texts t;
	struct view_diff *d = NULL;
	struct err e = { 0 };

	if (!h || hunk_text_new(a, &base, &e) < 0 || hunk_text_new(b, &guest, &e) < 0)
		abort();
	h->count = hunk_of(base, guest, &h->at[0]);
	t = (struct view_texts){ .base = base, .guest = guest, .to_guest = h };
	if (how[3] & 4) { /* the user made of it what the guest did */
		t.host = guest;
		t.to_host = h;
		t.fates = fates;
	}
	if (view_diff_new(&t, how[3] & 8, &d, &e) < 0)
		abort();
	look.diff = d;
	look.top = d->lines > 0 ? how[1] % d->lines : 0;
	view_canvas_clear(c);
	view_draw_diff(c, 0, c->rows - 1, &look);
	view_draw_text(c, c->rows / 2, c->rows - 1, guest, 0, how[2], how[3] & 16, span_str("x"));
	view_draw_said(c, a, true);
	view_draw_prompt(c, "type:", &b);
	judge(c);
	view_diff_free(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct view_canvas *c;
	struct span in = span_of(data, len);
	struct span a = { 0 };
	struct fake f;
	uint8_t how[4];

	if (!take_bytes(&in, how, sizeof(how)))
		return 0;
	c = view_canvas_new(3 + how[0] % 30, 1 + how[1], how[2] & 1 ? width_of : NULL);
	if (!c)
		abort();
	fake_init(&f, PATHS_MAX + 64);
	add_paths(&f, &in);
	look_at_tree(c, &f, how[3]);
	if (!take_until(&in, '\0', &a))
		a = span_of("", 0);
	look_at_hunks(c, a, in, how);
	fake_fini(&f);
	view_canvas_free(c);
	return 0;
}
