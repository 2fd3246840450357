/*
 * review_view_draw: rows of a review's screens, drawn into a canvas.
 *
 * No text of a guest begins in the first column, which is the cursor's, nor in the last row, which
 * is the prompt's; so nothing it wrote can stand where berm asks. Pure.
 */
#pragma once

#include "screen/view_canvas.h"
#include "screen/view_diff.h"
#include "screen/view_tree.h"

enum {
	VIEW_HEADER_ROWS = 3,
	VIEW_FOOTER_ROWS = 2, /* what was said, and the prompt */
};

struct view_header {
	const char *session, *agent, *image, *root; /* image: its digest, or its name */
	const char *packed;                         /* when, and how long ago */
	struct review_totals totals;
	uint64_t commits; /* that an apply brings home */
};

void view_draw_header(struct view_canvas *c, const struct view_header *h);

/* Rows [from, to) of the tree, the first of them `top`. `found` is marked in paths; may be "". */
void view_draw_tree(struct view_canvas *c, unsigned from, unsigned to, const struct view_tree *t,
                    uint32_t top, uint32_t cursor, struct span found);

struct view_diff_look {
	const struct view_diff *diff;
	uint64_t top;
	uint32_t current;      /* block that keys are for */
	uint32_t skip;         /* columns scrolled aside */
	const uint8_t *chosen; /* of each block, 1 is taken; NULL: nobody has chosen */
	uint8_t choice;        /* enum review_choice of the whole */
	bool choosable;
	struct span found;
};

void view_draw_diff(struct view_canvas *c, unsigned from, unsigned to,
                    const struct view_diff_look *l);

/* Lines of a text. `numbers`: it is a file, else a page of ours, where "= " begins a title. */
void view_draw_text(struct view_canvas *c, unsigned from, unsigned to, const struct hunk_text *t,
                    uint32_t top, uint32_t skip, bool numbers, struct span found);

/* Two rows about one change: its path, and what it is. */
void view_draw_item(struct view_canvas *c, unsigned row, const struct review_item *it);

/* What was said, in the row above the prompt. */
void view_draw_said(struct view_canvas *c, struct span text, bool warn);

/*
 * The last row: a bar of ours. question may be long; then its end is what counts, and its front is
 * cut. input NULL: nothing is typed, and no cursor shown.
 */
void view_draw_prompt(struct view_canvas *c, const char *question, const struct span *input);

/* "edit", "new", ... at most six letters. */
const char *view_op_text(const struct change *c);
/* "[ ]" and the like, three letters. */
const char *view_mark_text(const struct review_item *it);
