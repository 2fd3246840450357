#include "screen/tui_inner.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

static void put_said(struct tui *t, bool warn, const char *fmt, va_list ap) _printf_(3, 0);

static void put_said(struct tui *t, bool warn, const char *fmt, va_list ap)
{
	(void)vsnprintf(t->said, sizeof(t->said), fmt, ap);
	t->said_warn = warn;
}

void tui_say(struct tui *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put_said(t, false, fmt, ap);
	va_end(ap);
}

void tui_warn(struct tui *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put_said(t, true, fmt, ap);
	va_end(ap);
}

void tui_warn_err(struct tui *t, const struct err *e)
{
	tui_warn(t, "%s", e->text);
}

/* --- what is shown --- */

static const struct review_item *source_at(void *arg, size_t i)
{
	return review_at(arg, i);
}

void tui_count(struct tui *t)
{
	review_totals(t->o->review, &t->header.totals);
}

int tui_reload(struct tui *t, struct err *e)
{
	struct view_source src = { .arg = t->o->review,
		                   .at = source_at,
		                   .count = review_count(t->o->review) };
	struct view_tree *tree;
	int r;

	for (int s = 0; s < REVIEW_SECTIONS; s++)
		src.spans[s] = review_of(t->o->review, (enum review_section)s);
	r = view_tree_new(&src, &tree, e);
	if (r < 0)
		return r;
	view_tree_free(t->tree);
	t->tree = tree;
	tui_count(t);
	t->header.commits = review_opened_commits(t->o);
	view_filter(tree, t->only_undecided);
	t->top = t->cursor = view_first(tree);
	return 0;
}

static void put_packed(struct tui *t)
{
	const struct work_session_info *info = &t->o->s.info;
	time_t then = (time_t)(info->snapshot_ns / 1000000000);
	struct tm tm;
	struct buf b;

	buf_init(&b, t->packed, sizeof(t->packed));
	if (localtime_r(&then, &tm))
		buf_printf(&b, "%04d-%02d-%02d %02d:%02d", tm.tm_year + 1900, tm.tm_mon + 1,
		           tm.tm_mday, tm.tm_hour, tm.tm_min);
	buf_put_str(&b, " (");
	cli_put_age(&b, info->snapshot_ns, clock_real_ns());
	buf_put_str(&b, " ago)");
	(void)buf_cstr(&b);
}

static void make_header(struct tui *t)
{
	const struct work_session_info *info = &t->o->s.info;

	put_packed(t);
	(void)snprintf(t->image, sizeof(t->image), "%.64s",
	               info->image_id[0] ? info->image_id : info->image);
	t->header = (struct view_header){ .session = info->id,
		                          .agent = info->agent,
		                          .image = t->image,
		                          .root = info->root,
		                          .packed = t->packed };
	t->header.commits = review_opened_commits(t->o);
}

unsigned tui_body_rows(const struct tui *t, unsigned head)
{
	return t->canvas->rows > head + VIEW_FOOTER_ROWS ? t->canvas->rows - head - VIEW_FOOTER_ROWS
	                                                 : 1;
}

static bool too_small(const struct tui *t)
{
	return t->canvas->rows < VIEW_ROWS_MIN || t->canvas->cols < VIEW_COLS_MIN;
}

static void draw_too_small(struct tui *t)
{
	static const char *const lines[] = { "berm review needs", "40 columns, 10 rows",
		                             "q leaves" };

	for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct view_pen p = view_pen_begin(t->canvas, i, 0, t->canvas->cols);

		view_pen_put(&p, lines[i]);
	}
}

static bool can_decide(const struct review_item *it)
{
	return (it->flags & RV_DECIDABLE) && !(it->flags & RV_DONE);
}

/* Is anything to be decided where the cursor is: a change, or what is below a directory? */
static bool decides_here(const struct tui *t)
{
	const struct view_node *n;

	if (t->cursor == VIEW_NONE)
		return false;
	n = &t->tree->nodes[t->cursor];
	return n->item == VIEW_NONE ? n->section < REVIEW_OUT : can_decide(tui_at(t, n->item));
}

/* The keys of the change that is looked at. */
static const char *item_keys(const struct tui *t, bool narrow)
{
	bool lines = t->item.diff != NULL;

	if (!can_decide(tui_at(t, t->item.item)))
		return lines ? "J next  K previous  v split  q back  ? help"
		             : "J next  K previous  q back  ? help";
	if (!lines)
		return narrow ? "y accept  r reject  q back  ? help"
		              : "y accept  r reject  J next  K previous  q back  ? help";
	return narrow ? "y accept  r reject  t/s hunk  q back  ? help"
	              : "y accept  r reject  t/s take/skip hunk  v split  q back  ? help";
}

/* Only those that do something here. */
static const char *keys_of(const struct tui *t)
{
	bool narrow = t->canvas->cols < 72;

	if (t->screen == TUI_PAGE)
		return t->page.keys;
	if (t->screen == TUI_ITEM)
		return item_keys(t, narrow);
	if (!decides_here(t))
		return narrow ? "a plain  Enter look  w apply  ? help"
		              : "a all plain  Enter look  w apply  q quit  ? help";
	return narrow ? "a plain  y accept  r reject  ? help"
	              : "a all plain  y accept  r reject  Enter look  w apply  q quit  ? help";
}

void tui_draw(struct tui *t)
{
	struct span input = span_of(t->input, t->input_len);

	view_canvas_clear(t->canvas);
	if (too_small(t)) {
		draw_too_small(t);
		tui_term_show(t->term, t->canvas);
		return;
	}
	if (t->screen == TUI_LIST)
		tui_list_draw(t);
	else if (t->screen == TUI_ITEM)
		tui_item_draw(t);
	else
		tui_page_draw(t);
	if (t->said[0])
		view_draw_said(t->canvas, span_str(t->said), t->said_warn);
	if (t->ask == TUI_ASK_NONE)
		view_draw_prompt(t->canvas, keys_of(t), NULL);
	else
		view_draw_prompt(t->canvas, t->question, tui_ask_typed(t) ? &input : NULL);
	tui_term_show(t->term, t->canvas);
}

static int fit(struct tui *t, struct err *e)
{
	struct view_canvas *canvas;
	unsigned rows, cols;

	tui_term_size(t->term, &rows, &cols);
	canvas = view_canvas_new(rows, cols, tui_term_width(t->term));
	if (!canvas)
		return err_set(e, -ENOMEM, "out of memory");
	view_canvas_free(t->canvas);
	t->canvas = canvas;
	return 0;
}

/* --- the loop --- */

static int one_key(struct tui *t, uint32_t key, struct err *e)
{
	if (key == TUI_KEY_LEAVE) {
		t->ended = true;
		return 0;
	}
	if (key == TUI_KEY_RESIZE || key == TUI_KEY_REDRAW) {
		tui_term_forget(t->term);
		return fit(t, e);
	}
	if (too_small(t)) { /* nothing is decided blindly */
		t->ended = key == 'q';
		return 0;
	}
	t->said[0] = '\0';
	if (t->ask != TUI_ASK_NONE)
		tui_ask_key(t, key);
	else if (t->screen == TUI_LIST)
		tui_list_key(t, key);
	else if (t->screen == TUI_ITEM)
		tui_item_key(t, key);
	else
		tui_page_key(t, key);
	return 0;
}

static int run(struct tui *t, struct err *e)
{
	int r = tui_term_open(cli_colour(t->cli), &t->term, e);

	if (r == 0)
		r = fit(t, e);
	if (r == 0)
		r = tui_reload(t, e);
	while (r == 0 && !t->ended) {
		tui_draw(t);
		r = one_key(t, tui_term_key(t->term), e);
	}
	tui_term_free(t->term);
	t->term = NULL;
	return r;
}

static void tui_free(struct tui *t)
{
	if (!t)
		return;
	tui_item_close(t);
	tui_page_close(t);
	tui_undo_forget(t);
	view_tree_free(t->tree);
	view_canvas_free(t->canvas);
	free(t);
}
OWN_DEFINE(struct tui, tui_free)

/* --- leaving --- */

static int discard(struct cli *c, struct review_opened *o, struct err *e)
{
	struct work_session s = o->s;
	char id[SESSION_ID_LEN + 1];
	int r;

	memcpy(id, s.info.id, sizeof(id));
	review_free(o->review);
	o->review = NULL;
	work_session_init(&o->s);
	r = work_session_remove(c->state_fd, &s, e);
	if (r == 0)
		log_info("session %s is discarded", id);
	return r;
}

/* What came of it, on stdout; and what is to be done next. */
static int say_end(const struct review_opened *o, struct err *e)
{
	struct review_totals n;
	char text[512];
	struct buf b;

	review_totals(o->review, &n);
	buf_init(&b, text, sizeof(text));
	buf_printf(&b, "session %s: %llu applied, %llu rejected", o->s.info.id,
	           (unsigned long long)n.done, (unsigned long long)n.rejected);
	if (n.accepted > 0)
		buf_printf(&b, ", %llu accepted and not applied", (unsigned long long)n.accepted);
	if (n.undecided > 0)
		buf_printf(&b, ", %llu undecided", (unsigned long long)n.undecided);
	if (n.accepted > 0 || n.undecided > 0)
		buf_printf(&b, "\ngo on with: berm review %s", o->s.info.id);
	buf_put_str(&b, "\n");
	return cli_out(b.at, b.len, e);
}

int review_tui_possible(const struct cli *c, struct err *e)
{
	return tui_term_check(cli_env(c, "TERM"), e);
}

static int say_no_terminal(struct review_opened *o, const struct err *why)
{
	struct review_totals n;
	uint64_t changes;

	review_totals(o->review, &n);
	changes = n.undecided + n.accepted;
	if (!review_opened_waits(o))
		return 0;
	if (changes > 0)
		log_warn("session %s: %" PRIu64 " change%s for a decision, and %s", o->s.info.id,
		         changes, changes == 1 ? " waits" : "s wait", why->text);
	else
		log_warn("session %s: its commits are not in your repository yet, and %s",
		         o->s.info.id, why->text);
	log_info("see them with: berm diff %s", o->s.info.id);
	if (changes == 0) {
		log_info("bring them there with: berm apply %s", o->s.info.id);
		return CLI_EXIT_PENDING;
	}
	log_info("take the plain ones with: berm apply --plain-only %s", o->s.info.id);
	return CLI_EXIT_PENDING;
}

int review_tui_run(struct cli *c, struct review_opened *o)
{
	_own_(tui_free) struct tui *t = calloc(1, sizeof(*t));
	bool quiet = o->quiet;
	struct err e = { 0 };
	int r;

	if (!t)
		return CLI_EXIT_ERROR;
	if (review_tui_possible(c, &e) < 0)
		return say_no_terminal(o, &e);
	t->cli = c;
	t->o = o;
	t->item.item = VIEW_NONE;
	make_header(t);
	o->quiet = true;
	r = run(t, &e);
	o->quiet = quiet;
	if (r == 0 && t->discard) {
		r = discard(c, o, &e);
		return r < 0 ? cli_fail(&e) : 0;
	}
	if (r == 0)
		r = say_end(o, &e);
	if (r < 0)
		return cli_fail(&e);
	return review_opened_waits(o) ? CLI_EXIT_PENDING : 0;
}
