/*
 * review_view_tree: the items of a review as a tree that folds: sections, directories, changes.
 *
 * Theory of operation
 *
 * Nodes lie in the order they are shown, each with the index behind its last descendant, so the
 * next visible row is the next node, or the one behind the subtree of a folded one. The tree is
 * walked from where the cursor is and never counted through: a key costs as much with a hundred
 * thousand changes as with ten. What a directory says of what is in it (how many, how many are
 * undecided) is brought up to date along its ancestors alone.
 *
 * Directories with nothing but one directory in them are one row. A section of few items is a plain
 * list of whole paths.
 *
 * Pure; knows items by index and never decides anything.
 */
#pragma once

#include "base/err.h"
#include "review/review.h"

enum {
	VIEW_NONE = UINT32_MAX, /* no node, no item */
	VIEW_LIST_MAX = 40,     /* a section with no more items shows whole paths */
	VIEW_OPEN_MAX = 200,    /* one with more begins with its directories folded */
};

/* What is shown. The texts and items live as long as the tree. */
struct view_source {
	void *arg;
	const struct review_item *(*at)(void *arg, size_t i);
	size_t count;
	struct review_span spans[REVIEW_SECTIONS];
};

enum {
	VIEW_FOLDED = 1,
	VIEW_OUT = 2,   /* left out by the filter */
	VIEW_LISTED = 4 /* its whole path is shown */
};

struct view_node {
	uint32_t item;   /* VIEW_NONE: a section, or a directory that is no change itself */
	uint32_t first;  /* the first item in it, itself included; VIEW_NONE: an empty section */
	uint32_t parent; /* VIEW_NONE: a section */
	uint32_t end;    /* index behind its last descendant */
	uint32_t items, undecided; /* in it, itself included; undecided: of what can be decided */
	uint16_t label_at, label_len; /* in the path of `first` */
	uint16_t depth;               /* 0: a section */
	uint8_t section, flags;
};

struct view_tree {
	struct view_source src;
	struct view_node *nodes;
	uint32_t count, room;
	uint32_t *of_item;  /* node of each item */
	uint8_t *undecided; /* of each item, as it was last counted */
};

/* Sections without items get no row. -ENOMEM, -E2BIG. */
_must_ int view_tree_new(const struct view_source *src, struct view_tree **ret, struct err *e);
void view_tree_free(struct view_tree *t);
OWN_DEFINE(struct view_tree, view_tree_free)

static inline const struct review_item *view_item(const struct view_tree *t, uint32_t node)
{
	uint32_t i = t->nodes[node].item;

	return i == VIEW_NONE ? NULL : t->src.at(t->src.arg, i);
}

/* Can it be decided, and is not? */
bool view_undecided(const struct review_item *it);

/* Its directory's path, "" for a section: what review_decide_all() takes. */
struct span view_node_path(const struct view_tree *t, uint32_t node);
struct span view_node_label(const struct view_tree *t, uint32_t node);
/* Has it anything beneath it? */
bool view_node_folds(const struct view_tree *t, uint32_t node);

/* Visible rows. VIEW_NONE where there is none. */
uint32_t view_first(const struct view_tree *t);
uint32_t view_last(const struct view_tree *t);
uint32_t view_next(const struct view_tree *t, uint32_t node);
uint32_t view_prev(const struct view_tree *t, uint32_t node);
/* The section's row after (or before) this node's; VIEW_NONE. */
uint32_t view_next_section(const struct view_tree *t, uint32_t node);
uint32_t view_prev_section(const struct view_tree *t, uint32_t node);
/* Itself if it is visible, else the folded one above it, else what is nearest; or VIEW_NONE. */
uint32_t view_visible(const struct view_tree *t, uint32_t node);
/* Unfolds what is above it. */
void view_reveal(struct view_tree *t, uint32_t node);

void view_fold(struct view_tree *t, uint32_t node, bool folded);
/* All directories of its section. */
void view_fold_all(struct view_tree *t, uint32_t node, bool folded);

/* An item was decided. */
void view_tree_changed(struct view_tree *t, uint32_t item);
/* Many were. */
void view_tree_recount(struct view_tree *t);

/* Shows only what is undecided, or all. */
void view_filter(struct view_tree *t, bool undecided_only);

/*
 * The next item (the one before with `back`) whose path has `text` in it, beginning behind `from`
 * and going round; small letters also find capitals. VIEW_NONE: none.
 */
uint32_t view_search(const struct view_tree *t, uint32_t from, struct span text, bool back);
/* The next undecided one behind `from`, not going round. */
uint32_t view_next_undecided(const struct view_tree *t, uint32_t from);

/* Is `text` in s? As view_search(). ret_at may be NULL. */
bool view_found(struct span s, struct span text, size_t *ret_at);
