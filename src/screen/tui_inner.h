/*
 * review_tui_inner: what the parts of review_tui share.
 *
 * tui.c        taking the terminal, the loop, leaving
 * tui_list.c   the tree's keys
 * tui_item.c   one change: its hunks, its contents
 * tui_decide.c decisions, and taking them back
 * tui_ask.c    the prompt
 * tui_apply.c  applying, discarding
 * tui_page.c   texts of ours to page through: help, summary, commits
 */
#pragma once

#include "screen/tui.h"
#include "screen/tui_term.h"
#include "screen/view_draw.h"
#include "session/change_lines.h"

enum {
	TUI_INPUT_MAX = 4 * WPATH_MAX + 4, /* a path, every byte of it escaped */
	TUI_SAID_MAX = 1024,
	TUI_QUESTION_MAX = 200,
	TUI_UNDO_MAX = 500, /* decisions that can be taken back; of older ones each by itself */
	TUI_UNDO_ITEMS_MAX = 1 << 18, /* of a decision on many: 1 MiB, five times 50,000 paths */
	TUI_PAGE_MAX = 4 << 20,       /* bytes of a page; what is more is said to be left out */
	TUI_PACKED_MAX = 64,
	TUI_DIGEST_MAX = 80,
};

enum tui_screen { TUI_LIST, TUI_ITEM, TUI_PAGE };

/* What the prompt is for. */
enum tui_ask {
	TUI_ASK_NONE,
	TUI_ASK_SEARCH,   /* typed */
	TUI_ASK_PATH,     /* typed: of X0 */
	TUI_ASK_DISCARD,  /* typed */
	TUI_ASK_CONFLICT, /* y: the agent's instead of the user's */
	TUI_ASK_LINKS,    /* y: a hard link is broken */
	TUI_ASK_MANY,     /* y: all beneath a directory */
	TUI_ASK_ALL,      /* y: all but X0 and conflicts */
	TUI_ASK_APPLY,    /* Enter, w */
	TUI_ASK_REST,     /* w: what can be applied */
	TUI_ASK_QUIT,     /* q once more */
};

struct tui_undo {
	uint32_t *items; /* owned; those that were undecided and then decided together, or one */
	uint32_t count;
	bool lost;      /* there was no room for all of them */
	uint8_t choice; /* what one was before */
	uint8_t *hunks; /* owned */
	uint32_t hunk_count;
};

/* One change, as it is looked at. */
struct tui_item {
	uint32_t item; /* VIEW_NONE: none */
	struct change_lines *lines;
	struct view_diff *diff; /* NULL: a page or a content is shown */
	struct hunk_text *text; /* of a content, or of the page about it */
	char *bytes;
	bool numbers; /* text is a content */
	uint64_t top;
	uint32_t skip;
	uint32_t block;
};

struct tui_page {
	char *bytes;
	struct hunk_text *text;
	uint32_t top, skip;
	const char *keys; /* said below it */
};

struct tui {
	struct cli *cli;
	struct review_opened *o;
	struct tui_term *term;
	struct view_canvas *canvas;
	struct view_tree *tree;
	struct view_header header;
	char packed[TUI_PACKED_MAX];
	char image[TUI_DIGEST_MAX];
	enum tui_screen screen, back; /* back: where a page was called from */
	uint32_t top, cursor;
	bool only_undecided, split;
	struct tui_item item;
	struct tui_page page;

	enum tui_ask ask;
	char question[TUI_QUESTION_MAX];
	char input[TUI_INPUT_MAX];
	size_t input_len;
	uint32_t ask_item, ask_node;
	uint8_t ask_choice;

	char search[TUI_INPUT_MAX];
	size_t search_len;
	char said[TUI_SAID_MAX];
	bool said_warn;
	struct tui_undo undo[TUI_UNDO_MAX];
	unsigned undo_count;
	bool ended, discard;
};

static inline const struct review_item *tui_at(const struct tui *t, uint32_t i)
{
	return review_at(t->o->review, i);
}

static inline struct span tui_found(const struct tui *t)
{
	return span_of(t->search, t->search_len);
}

/* --- tui.c --- */

/* One line above the prompt, until the next key. Any text: it is escaped when it is drawn. */
void tui_say(struct tui *t, const char *fmt, ...) _printf_(2, 3);
void tui_warn(struct tui *t, const char *fmt, ...) _printf_(2, 3);
void tui_warn_err(struct tui *t, const struct err *e);
/* The tree anew, the cursor on that path if it is still there. */
_must_ int tui_reload(struct tui *t, struct err *e);
/* The head's numbers. */
void tui_count(struct tui *t);
void tui_draw(struct tui *t);
/* Rows between head and foot. */
unsigned tui_body_rows(const struct tui *t, unsigned head);

/* --- tui_list.c --- */

void tui_list_draw(struct tui *t);
void tui_list_key(struct tui *t, uint32_t key);
/* Puts the cursor there, and its row on the screen. */
void tui_list_go(struct tui *t, uint32_t node);
void tui_list_filter(struct tui *t, bool only_undecided);

/* --- tui_item.c --- */

void tui_item_open(struct tui *t, uint32_t item);
void tui_item_close(struct tui *t);
void tui_item_draw(struct tui *t);
void tui_item_key(struct tui *t, uint32_t key);
/* To the next undecided change, or back to the list. */
void tui_item_next(struct tui *t);
/* Behind (or before) where the text stands. */
void tui_item_search(struct tui *t, bool back);

/* --- tui_info.c --- */

/* All there is to say about a change: kinds, modes, sizes, digests, targets. */
void tui_info_put(struct tui *t, uint32_t item, struct buf *out);

/* --- tui_decide.c --- */

/* Asks first where it has to, then decides and goes on. */
void tui_take(struct tui *t, uint32_t item);
/* The answers to its questions were given. */
void tui_take_asked(struct tui *t, uint32_t item, enum tui_ask answered, struct span typed);
void tui_reject(struct tui *t, uint32_t item);
void tui_clear(struct tui *t, uint32_t item);
/* A directory or section: asks. */
void tui_decide_below(struct tui *t, uint32_t node, enum review_choice choice);
void tui_decide_below_asked(struct tui *t);
/* All undecided plain ones. False: it failed, and says so. */
bool tui_take_plain(struct tui *t);
void tui_take_all(struct tui *t);
void tui_take_all_asked(struct tui *t);
/* One hunk of the item that is looked at. */
void tui_decide_hunk(struct tui *t, bool take);
void tui_undo(struct tui *t);
void tui_undo_forget(struct tui *t);

/* --- tui_ask.c --- */

void tui_ask(struct tui *t, enum tui_ask what, const char *fmt, ...) _printf_(3, 4);
void tui_ask_key(struct tui *t, uint32_t key);
bool tui_ask_typed(const struct tui *t);

/* --- tui_apply.c --- */

void tui_apply_ask(struct tui *t);
void tui_apply(struct tui *t, enum apply_mode mode);
void tui_discard_ask(struct tui *t);

/* --- tui_page.c --- */

/* A page to be written: room for TUI_PAGE_MAX bytes; NULL, and said: no memory. */
char *tui_page_room(struct tui *t, struct buf *b);
/* Shows what was written; takes room. */
void tui_page_show(struct tui *t, char *room, struct buf *b, const char *keys);
void tui_page_close(struct tui *t);
void tui_page_draw(struct tui *t);
void tui_page_key(struct tui *t, uint32_t key);
void tui_page_help(struct tui *t);
void tui_page_info(struct tui *t);
void tui_page_commits(struct tui *t);
