#include "screen/view_tree.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum { NODES_FIRST = 256 };

bool view_undecided(const struct review_item *it)
{
	return (it->flags & RV_DECIDABLE) && !(it->flags & RV_DONE) &&
	       it->choice == REVIEW_UNDECIDED;
}

static const struct review_item *item_at(const struct view_tree *t, uint32_t i)
{
	return t->src.at(t->src.arg, i);
}

static struct span path_of(const struct view_tree *t, uint32_t i)
{
	return item_at(t, i)->change->path;
}

void view_tree_free(struct view_tree *t)
{
	if (!t)
		return;
	free(t->nodes);
	free(t->of_item);
	free(t->undecided);
	free(t);
}

/* --- making it --- */

static int add(struct view_tree *t, const struct view_node *n, uint32_t *ret, struct err *e)
{
	if (t->count == t->room) {
		uint32_t room = t->room > 0 ? t->room * 2 : NODES_FIRST;
		struct view_node *nodes = reallocarray(t->nodes, room, sizeof(*nodes));

		if (!nodes)
			return err_set(e, -ENOMEM, "out of memory");
		t->nodes = nodes;
		t->room = room;
	}
	if (n->item != VIEW_NONE)
		t->of_item[n->item] = t->count;
	t->nodes[t->count] = *n;
	*ret = t->count++;
	return 0;
}

/* The first item from `at` that does not begin with dir and a slash. */
static uint32_t end_of_dir(const struct view_tree *t, uint32_t at, uint32_t end, struct span dir)
{
	uint32_t low = at;
	uint32_t high = end;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (wpath_beneath(dir, path_of(t, mid), NULL))
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* The longest directory that holds all of [at, end), which lie below `above` bytes. */
static struct span common_dir(const struct view_tree *t, uint32_t at, uint32_t end)
{
	struct span last = path_of(t, end - 1);
	struct span dir = wpath_parent(path_of(t, at));

	while (dir.len > 0 && !(wpath_beneath(dir, last, NULL) && last.len > dir.len))
		dir = wpath_parent(dir);
	return dir;
}

struct job {
	uint32_t at, end; /* items */
	uint32_t parent;
	size_t above; /* bytes of the path that are the parents' */
};

/*
 * One row: the item at j->at with what is beneath it, or the directory it lies in. ret_in is what
 * has to be made beneath it.
 */
static int add_row(struct view_tree *t, const struct job *j, struct job *ret_in, struct err *e)
{
	struct span path = path_of(t, j->at);
	struct span rest = span_of(path.at + j->above, path.len - j->above);
	bool plain = rest.len == 0 || !memchr(rest.at, '/', rest.len);
	struct span dir = path;
	uint32_t end;
	struct view_node n = {
		.item = plain ? j->at : VIEW_NONE,
		.first = j->at,
		.parent = j->parent,
		.label_at = (uint16_t)j->above,
		.depth = (uint16_t)(t->nodes[j->parent].depth + 1),
		.section = t->nodes[j->parent].section,
	};
	int r;

	if (!plain) {
		size_t part = (size_t)((const uint8_t *)memchr(rest.at, '/', rest.len) - rest.at);

		end = end_of_dir(t, j->at, j->end, span_of(path.at, j->above + part));
		dir = common_dir(t, j->at, end);
	} else {
		/* the same path once more, where one thing went and another came */
		bool twice = j->at + 1 < j->end && span_equal(path_of(t, j->at + 1), path);

		end = twice ? j->at + 1 : end_of_dir(t, j->at + 1, j->end, path);
	}
	n.label_len = (uint16_t)(dir.len - j->above);
	r = add(t, &n, &ret_in->parent, e);
	ret_in->at = plain ? j->at + 1 : j->at;
	ret_in->end = end;
	ret_in->above = dir.len > 0 ? dir.len + 1 : 0;
	return r;
}

/* A section's tree; a stack holds what is left to do beside each directory on the way. */
static int add_tree(struct view_tree *t, const struct job *whole, struct err *e)
{
	struct job stack[WPATH_DEPTH_MAX + 2];
	unsigned depth = 1;

	stack[0] = *whole;
	while (depth > 0) {
		struct job *j = &stack[depth - 1];
		int r;

		if (j->at == j->end) {
			t->nodes[j->parent].end = t->count;
			depth--;
			continue;
		}
		if (depth == sizeof(stack) / sizeof(stack[0]))
			return err_set(e, -E2BIG, "a path of over %d parts", WPATH_DEPTH_MAX);
		r = add_row(t, j, &stack[depth], e);
		if (r < 0)
			return r;
		j->at = stack[depth].end;
		depth++;
	}
	return 0;
}

static int add_list(struct view_tree *t, const struct job *whole, struct err *e)
{
	for (uint32_t i = whole->at; i < whole->end; i++) {
		struct view_node n = {
			.item = i,
			.first = i,
			.parent = whole->parent,
			.label_len = (uint16_t)path_of(t, i).len,
			.depth = 1,
			.section = t->nodes[whole->parent].section,
			.flags = VIEW_LISTED,
		};
		uint32_t at;
		int r = add(t, &n, &at, e);

		if (r < 0)
			return r;
		t->nodes[at].end = t->count;
	}
	t->nodes[whole->parent].end = t->count;
	return 0;
}

static bool begins_folded(const struct view_tree *t, const struct view_node *n)
{
	uint32_t items = (uint32_t)t->src.spans[n->section].count;

	if (n->depth == 0)
		return n->section >= REVIEW_IGNORED;
	return items > VIEW_OPEN_MAX;
}

static int add_section(struct view_tree *t, enum review_section s, struct err *e)
{
	const struct review_span *span = &t->src.spans[s];
	struct view_node n = { .item = VIEW_NONE,
		               .first = (uint32_t)span->first,
		               .parent = VIEW_NONE,
		               .section = (uint8_t)s };
	struct job whole = { .at = (uint32_t)span->first,
		             .end = (uint32_t)(span->first + span->count) };
	int r;

	if (span->count == 0)
		return 0;
	r = add(t, &n, &whole.parent, e);
	if (r < 0)
		return r;
	if (span->count <= VIEW_LIST_MAX)
		return add_list(t, &whole, e);
	return add_tree(t, &whole, e);
}

int view_tree_new(const struct view_source *src, struct view_tree **ret, struct err *e)
{
	_own_(view_tree_free) struct view_tree *t = calloc(1, sizeof(*t));

	if (src->count > COMPARE_CHANGES_MAX)
		return err_set(e, -E2BIG, "over %d changes", COMPARE_CHANGES_MAX);
	if (!t)
		return err_set(e, -ENOMEM, "out of memory");
	t->src = *src;
	t->of_item = calloc(src->count + 1, sizeof(*t->of_item));
	t->undecided = calloc(src->count + 1, 1);
	if (!t->of_item || !t->undecided)
		return err_set(e, -ENOMEM, "out of memory");
	for (int s = 0; s < REVIEW_SECTIONS; s++) {
		int r = add_section(t, (enum review_section)s, e);

		if (r < 0)
			return r;
	}
	for (uint32_t i = 0; i < t->count; i++)
		if (begins_folded(t, &t->nodes[i]) && view_node_folds(t, i))
			t->nodes[i].flags |= VIEW_FOLDED;
	view_tree_recount(t);
	*ret = steal_ptr(&t);
	return 0;
}

/* --- texts --- */

struct span view_node_label(const struct view_tree *t, uint32_t node)
{
	const struct view_node *n = &t->nodes[node];

	if (n->depth == 0)
		return span_of("", 0);
	return span_of(path_of(t, n->first).at + n->label_at, n->label_len);
}

struct span view_node_path(const struct view_tree *t, uint32_t node)
{
	const struct view_node *n = &t->nodes[node];

	if (n->depth == 0)
		return span_of("", 0);
	return span_of(path_of(t, n->first).at, (size_t)n->label_at + n->label_len);
}

bool view_node_folds(const struct view_tree *t, uint32_t node)
{
	return t->nodes[node].end > node + 1;
}

/* --- rows --- */

/* The next node that the filter leaves in; what is in a directory that it leaves out is out too. */
static uint32_t settle(const struct view_tree *t, uint32_t node)
{
	while (node < t->count && (t->nodes[node].flags & VIEW_OUT))
		node = t->nodes[node].end;
	return node < t->count ? node : VIEW_NONE;
}

uint32_t view_first(const struct view_tree *t)
{
	return settle(t, 0);
}

uint32_t view_next(const struct view_tree *t, uint32_t node)
{
	const struct view_node *n = &t->nodes[node];

	return settle(t, n->flags & VIEW_FOLDED ? n->end : node + 1);
}

/* The outermost folded or left-out one that node lies in, or itself. */
static uint32_t cover(const struct view_tree *t, uint32_t node)
{
	uint32_t got = node;

	for (uint32_t up = t->nodes[node].parent; up != VIEW_NONE; up = t->nodes[up].parent)
		if (t->nodes[up].flags & (VIEW_FOLDED | VIEW_OUT))
			got = up;
	return got;
}

uint32_t view_visible(const struct view_tree *t, uint32_t node)
{
	uint32_t got;

	if (node >= t->count)
		return view_last(t);
	got = settle(t, cover(t, node));
	return got == VIEW_NONE ? view_last(t) : got;
}

uint32_t view_prev(const struct view_tree *t, uint32_t node)
{
	while (node > 0) {
		node = cover(t, node - 1);
		if (!(t->nodes[node].flags & VIEW_OUT))
			return node;
	}
	return VIEW_NONE;
}

uint32_t view_last(const struct view_tree *t)
{
	return t->count > 0 ? view_prev(t, t->count) : VIEW_NONE;
}

static uint32_t section_of(const struct view_tree *t, uint32_t node)
{
	while (t->nodes[node].parent != VIEW_NONE)
		node = t->nodes[node].parent;
	return node;
}

uint32_t view_next_section(const struct view_tree *t, uint32_t node)
{
	return settle(t, t->nodes[section_of(t, node)].end);
}

uint32_t view_prev_section(const struct view_tree *t, uint32_t node)
{
	uint32_t s = section_of(t, node);
	uint32_t before = s == node ? view_prev(t, s) : s;

	return before == VIEW_NONE ? VIEW_NONE : section_of(t, before);
}

void view_reveal(struct view_tree *t, uint32_t node)
{
	for (uint32_t up = t->nodes[node].parent; up != VIEW_NONE; up = t->nodes[up].parent)
		t->nodes[up].flags &= (uint8_t)~VIEW_FOLDED;
}

void view_fold(struct view_tree *t, uint32_t node, bool folded)
{
	struct view_node *n = &t->nodes[node];

	if (folded && view_node_folds(t, node))
		n->flags |= VIEW_FOLDED;
	else
		n->flags &= (uint8_t)~VIEW_FOLDED;
}

void view_fold_all(struct view_tree *t, uint32_t node, bool folded)
{
	uint32_t s = section_of(t, node);

	for (uint32_t i = s + 1; i < t->nodes[s].end; i++)
		view_fold(t, i, folded);
}

/* --- counts --- */

void view_tree_recount(struct view_tree *t)
{
	for (uint32_t i = 0; i < t->count; i++)
		t->nodes[i].items = t->nodes[i].undecided = 0;
	for (uint32_t i = t->count; i-- > 0;) {
		struct view_node *n = &t->nodes[i];

		if (n->item != VIEW_NONE) {
			bool undecided = view_undecided(item_at(t, n->item));

			t->undecided[n->item] = undecided;
			n->items++;
			n->undecided += undecided;
		}
		if (n->parent != VIEW_NONE) {
			t->nodes[n->parent].items += n->items;
			t->nodes[n->parent].undecided += n->undecided;
		}
	}
}

void view_tree_changed(struct view_tree *t, uint32_t item)
{
	bool now = view_undecided(item_at(t, item));
	bool was = t->undecided[item] != 0;

	if (now == was)
		return;
	t->undecided[item] = now;
	for (uint32_t n = t->of_item[item]; n != VIEW_NONE; n = t->nodes[n].parent)
		t->nodes[n].undecided += now ? 1U : UINT32_MAX;
}

void view_filter(struct view_tree *t, bool undecided_only)
{
	for (uint32_t i = 0; i < t->count; i++) {
		struct view_node *n = &t->nodes[i];

		if (undecided_only && n->undecided == 0)
			n->flags |= VIEW_OUT;
		else
			n->flags &= (uint8_t)~VIEW_OUT;
	}
}

/* --- search --- */

static uint8_t small(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 'a' - 'A') : c;
}

bool view_found(struct span s, struct span text, size_t *ret_at)
{
	bool exact = false;

	for (size_t i = 0; i < text.len; i++)
		exact |= text.at[i] >= 'A' && text.at[i] <= 'Z';
	for (size_t at = 0; text.len > 0 && text.len <= s.len && at <= s.len - text.len; at++) {
		size_t k = 0;

		while (k < text.len && (exact ? s.at[at + k] : small(s.at[at + k])) == text.at[k])
			k++;
		if (k < text.len)
			continue;
		if (ret_at)
			*ret_at = at;
		return true;
	}
	return false;
}

uint32_t view_search(const struct view_tree *t, uint32_t from, struct span text, bool back)
{
	uint32_t at = from < t->count ? from : 0;

	for (uint32_t i = 0; i < t->count; i++) {
		const struct review_item *it;

		if (back)
			at = at > 0 ? at - 1 : t->count - 1;
		else
			at = at + 1 < t->count ? at + 1 : 0;
		it = view_item(t, at);
		if (it && !(t->nodes[at].flags & VIEW_OUT) &&
		    view_found(it->change->path, text, NULL))
			return at;
	}
	return VIEW_NONE;
}

uint32_t view_next_undecided(const struct view_tree *t, uint32_t from)
{
	for (uint32_t at = from + 1; at < t->count; at++) {
		const struct view_node *n = &t->nodes[at];

		if (n->undecided == 0)
			at = n->end - 1;
		else if (n->item != VIEW_NONE && t->undecided[n->item])
			return at;
	}
	return VIEW_NONE;
}
