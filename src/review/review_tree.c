#include "review/review_inner.h"

#include <string.h>

/* The nearest directory above the path that the proposal mentions; the root at the least. */
static void nearest(const struct review *r, struct span path, struct proposal_node *ret)
{
	do
		path = wpath_parent(path);
	while (!proposal_find(r->proposal, path, ret) && path.len > 0);
}

/* Where the base has what the guest sees at `path` and never touched; false: nowhere. */
static bool base_place(const struct review *r, struct proposal_node n, struct span path,
                       struct buf *out)
{
	while (n.kind == PROPOSAL_DIR && (n.flags & PROPOSAL_OPAQUE) == 0) {
		struct span rest;

		if ((n.flags & PROPOSAL_REDIRECT) != 0) {
			if (!wpath_beneath(n.path, path, &rest))
				return false;
			wpath_put(out, n.target, rest);
			return buf_ok(out);
		}
		if (n.index == 0) {
			buf_put_span(out, path);
			return buf_ok(out);
		}
		proposal_node(r->proposal, n.parent, &n);
	}
	return false;
}

bool review_tree_has(const struct review *r, struct span path)
{
	uint8_t room[WPATH_MAX + 1];
	struct apply_seen seen;
	struct proposal_node n;
	struct base_node node;
	struct err ignored;
	struct buf b;

	if (proposal_find(r->proposal, path, &n) && n.kind != PROPOSAL_WHITEOUT &&
	    n.kind != PROPOSAL_OTHER)
		return true;
	if (base_lookup(r->base, path, &node, &ignored) == 0)
		return true;
	nearest(r, path, &n);
	buf_init(&b, room, sizeof(room));
	if (base_place(r, n, path, &b) && base_lookup(r->base, buf_span(&b), &node, &ignored) == 0)
		return true;
	buf_init(&b, room, sizeof(room));
	buf_put_span(&b, path);
	return apply_look(r->on.root_fd, buf_cstr(&b), &seen, &ignored) == 0 &&
	       seen.kind != APPLY_ABSENT;
}
