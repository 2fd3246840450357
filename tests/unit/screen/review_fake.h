/*
 * review_fake: a review made by hand: items with paths, sections and choices, and no files.
 */
#pragma once

#include "screen/view_draw.h"

#include <stdlib.h>
#include <string.h>

struct fake {
	struct review_item *items;
	struct change *changes;
	char **paths;
	size_t count, room;
	struct review_span spans[REVIEW_SECTIONS];
};

static const struct review_item *fake_at(void *arg, size_t i)
{
	const struct fake *f = arg;

	return &f->items[i];
}

/* Sections in their order, paths in that of wpath_cmp(), as review.h has them. */
static void fake_add(struct fake *f, enum review_section s, const char *path, enum change_op op)
{
	struct change *c;

	if (f->count == f->room)
		abort();
	f->paths[f->count] = strdup(path);
	c = &f->changes[f->count];
	*c = (struct change){ .path = span_str(f->paths[f->count]),
		              .op = (uint8_t)op,
		              .state = CHANGE_PROPOSED,
		              .flags = CHANGE_HOST_UNTOUCHED,
		              .base = { .exists = true, .kind = WORK_FILE, .mode = 0644 },
		              .guest = { .exists = true, .kind = WORK_FILE, .mode = 0644 } };
	c->from = c->path;
	f->items[f->count] = (struct review_item){
		.change = c, .section = (uint8_t)s, .class = CLASS_PLAIN, .flags = RV_DECIDABLE
	};
	if (f->spans[s].count == 0)
		f->spans[s].first = f->count;
	f->spans[s].count++;
	f->count++;
}

static void fake_init(struct fake *f, size_t room)
{
	*f = (struct fake){ .room = room };
	f->items = calloc(room + 1, sizeof(*f->items));
	f->changes = calloc(room + 1, sizeof(*f->changes));
	f->paths = calloc(room + 1, sizeof(*f->paths));
	if (!f->items || !f->changes || !f->paths)
		abort();
}

static void fake_fini(struct fake *f)
{
	for (size_t i = 0; i < f->count; i++)
		free(f->paths[i]);
	free(f->paths);
	free(f->items);
	free(f->changes);
}

static struct view_tree *fake_tree(struct fake *f)
{
	struct view_source src = { .arg = f, .at = fake_at, .count = f->count };
	struct view_tree *t = NULL;
	struct err e = { 0 };

	memcpy(src.spans, f->spans, sizeof(src.spans));
	if (view_tree_new(&src, &t, &e) < 0)
		abort();
	return t;
}
