#include "work/class.h"
#include "work/compare_inner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct walk {
	const struct compare_options *opt;
	struct compare *out;
	struct host host;
	struct moved *moved; /* sorted by wpath_cmp() of from */
	size_t moved_count;
	bool any_there;
	uint8_t hint[WPATH_MAX], place[WPATH_MAX];
};

/* A directory of the base that stands elsewhere now. */
struct moved {
	struct span from, to;
	bool there; /* on the host as well */
};

/* What holds for all in a directory. */
struct around {
	bool in_git;
	bool vacant;  /* what the host has here goes elsewhere with a directory that was renamed */
	bool typed;   /* the host has a file or link where this directory is to be */
	bool blocked; /* a directory above is in conflict, so this has no place to go */
};

/* A directory of the proposal, and what of the base the guest saw in it. */
struct place {
	struct span path;      /* where the guest has it */
	struct span base_path; /* where the base has it; as path unless something was renamed */
	struct base_node base;
	bool has_base;
	bool opaque; /* what is not mentioned is gone */
	struct around around;
};

/* ---- which directories were renamed ---- */

static int by_from(const void *a, const void *b)
{
	return wpath_cmp(((const struct moved *)a)->from, ((const struct moved *)b)->from);
}

/* Has the host the very directory where the guest has it? Its inode says so. */
static int is_there(struct walk *w, struct moved *m, struct err *e)
{
	struct base_node node;
	struct host_record was;
	struct stat st;
	struct err ignored;
	int r;

	if (base_lookup(w->opt->base, m->from, &node, &ignored) < 0 ||
	    base_host_record(w->opt->base, &node, &was, &ignored) < 0)
		return 0;
	r = host_stat(&w->host, m->to, &st, e);
	m->there = r == HOST_THERE && S_ISDIR(st.st_mode) && st.st_ino == was.ino;
	w->any_there = w->any_there || m->there;
	return r < 0 ? r : 0;
}

static int find_moved(struct walk *w, struct err *e)
{
	struct proposal_totals totals;
	struct proposal_node n;
	int r;

	proposal_totals(w->opt->proposal, &totals);
	for (uint32_t i = 0; i < totals.entries; i++) {
		proposal_node(w->opt->proposal, i, &n);
		w->moved_count += (n.flags & PROPOSAL_REDIRECT) != 0;
	}
	if (w->moved_count == 0)
		return 0;
	w->moved = calloc(w->moved_count, sizeof(w->moved[0]));
	if (w->moved == NULL)
		return err_set(e, -ENOMEM, "no memory for the list of renamed directories");
	for (uint32_t i = 0, k = 0; i < totals.entries; i++) {
		proposal_node(w->opt->proposal, i, &n);
		if ((n.flags & PROPOSAL_REDIRECT) == 0)
			continue;
		w->moved[k].from = n.target;
		w->moved[k].to = n.path;
		r = is_there(w, &w->moved[k++], e);
		if (r < 0)
			return r;
	}
	qsort(w->moved, w->moved_count, sizeof(w->moved[0]), by_from);
	return 0;
}

static const struct moved *was_moved(const struct walk *w, struct span base_path)
{
	struct moved key = { .from = base_path };

	return w->moved_count == 0
	               ? NULL
	               : bsearch(&key, w->moved, w->moved_count, sizeof(w->moved[0]), by_from);
}

/* Where the host has what the base has at `from`. */
static bool place_of(struct walk *w, struct span from, struct buf *out)
{
	for (struct span dir = from; w->any_there && dir.len > 0; dir = wpath_parent(dir)) {
		const struct moved *m = was_moved(w, dir);
		struct span rest;

		if (m == NULL || !m->there || !wpath_beneath(dir, from, &rest))
			continue;
		buf_put_span(out, m->to);
		buf_put_str(out, rest.len > 0 ? "/" : "");
		buf_put_span(out, rest);
		return buf_ok(out);
	}
	buf_put_span(out, from);
	return buf_ok(out);
}

/* Of what the base does not have, the directory counts. */
static int set_place(struct walk *w, struct change *c, struct err *e)
{
	struct span last = wpath_last(c->from);
	struct buf b;
	bool ok;

	c->place = c->from;
	if (!w->any_there)
		return 0;
	buf_init(&b, w->place, sizeof(w->place));
	ok = place_of(w, c->base.exists ? c->from : wpath_parent(c->from), &b);
	if (!c->base.exists) {
		buf_put_str(&b, b.len > 0 ? "/" : "");
		buf_put_span(&b, last);
	}
	if (!ok || !buf_ok(&b))
		return err_set(e, -E2BIG, "a path is over %d bytes after a renaming", WPATH_MAX);
	c->place = buf_span(&b);
	return 0;
}

/* ---- one change ---- */

static struct change_side base_side(const struct base_node *b)
{
	return (struct change_side){ .exists = true,
		                     .kind = b->kind,
		                     .mode = b->mode,
		                     .size = b->size,
		                     .mtime_s = b->mtime_s };
}

/* A proposal's kinds are ours as far as they exist; the rest is 0. */
static struct change_side guest_side(const struct proposal_node *n)
{
	return (struct change_side){ .exists = true,
		                     .kind = n->kind <= PROPOSAL_LINK ? n->kind : 0,
		                     .mode = n->mode,
		                     .size = n->size,
		                     .mtime_s = n->mtime_s };
}

static bool is_text(const struct walk *w, const struct base_node *b)
{
	uint8_t head[8 << 10];
	size_t n = b->size < sizeof(head) ? (size_t)b->size : sizeof(head);

	return base_read(w->opt->base, b, 0, head, n, NULL) == 0 && memchr(head, 0, n) == NULL;
}

static int put(struct walk *w, struct change *c, const struct around *a, struct err *e)
{
	int r = set_place(w, c, e);

	if (r < 0)
		return r;
	c->result_mode = c->guest.mode;
	if (c->proposal_why == PROPOSAL_WHY_OURS ||
	    (c->proposal_why != PROPOSAL_WHY_NONE && c->guest.kind == 0)) {
		c->state = CHANGE_STAYS_OUT;
		c->why = CHANGE_WHY_PROPOSAL;
	} else if (a->in_git) {
		c->state = CHANGE_STAYS_OUT;
		c->why = CHANGE_WHY_GIT;
	} else if (a->blocked) {
		c->state = CHANGE_CONFLICT;
		c->why = CHANGE_WHY_HOST_WAY;
	} else if (a->vacant) {
		c->state = CHANGE_PROPOSED;
	} else {
		r = compare_with_host(w->opt, &w->host, c, w->hint, e);
		if (a->typed && c->why == CHANGE_WHY_HOST_WAY) { /* it goes with the same step */
			c->state = CHANGE_PROPOSED;
			c->why = CHANGE_WHY_NONE;
		}
	}
	return r < 0 ? r : compare_put(w->out, c, e);
}

/* ---- what is gone ---- */

/* A path that grows and shrinks with the walk through a directory of the base. */
struct trail {
	size_t len;
	uint8_t at[WPATH_MAX];
};

static bool trail_push(struct trail *t, struct span name)
{
	size_t slash = t->len > 0;

	if (name.len + slash > sizeof(t->at) - t->len)
		return false;
	if (slash)
		t->at[t->len++] = '/';
	memcpy(t->at + t->len, name.at, name.len);
	t->len += name.len;
	return true;
}

static void trail_set(struct trail *t, struct span path)
{
	memcpy(t->at, path.at, path.len);
	t->len = path.len;
}

struct removal {
	struct walk *w;
	struct trail path, from;
	bool in_git;
	const struct proposal_node *mentioned; /* of an opaque directory: what is not gone */
	unsigned depth;
};

static int remove_children(struct removal *rm, const struct base_node *dir, struct err *e);

/* The base's thing at rm->from, which the guest had at rm->path. */
static int remove_one(struct removal *rm, const struct base_node *b, struct err *e)
{
	struct change c = { .path = span_of(rm->path.at, rm->path.len),
		            .from = span_of(rm->from.at, rm->from.len),
		            .op = CHANGE_DELETE,
		            .base = base_side(b),
		            .base_node = *b,
		            .proposal_index = UINT32_MAX };
	int r;

	if (was_moved(rm->w, c.from) != NULL)
		return 0;
	if (span_equal(c.path, c.from))
		c.from = c.path;
	r = put(rm->w, &c, &(struct around){ .in_git = rm->in_git }, e);
	return r < 0 || b->kind != WORK_DIR ? r : remove_children(rm, b, e);
}

static int remove_child(void *arg, struct span name, const struct base_node *node, struct err *e)
{
	struct removal *rm = arg;
	const struct proposal_node *mentioned = rm->mentioned;
	size_t path_len = rm->path.len, from_len = rm->from.len;
	int r = 0;

	if (!trail_push(&rm->path, name) || !trail_push(&rm->from, name))
		return err_set(e, -E2BIG, "a path is over %d bytes after a renaming", WPATH_MAX);
	if (mentioned == NULL ||
	    !proposal_find(rm->w->opt->proposal, span_of(rm->path.at, rm->path.len),
	                   &(struct proposal_node){ 0 })) {
		rm->mentioned = NULL;
		r = remove_one(rm, node, e);
		rm->mentioned = mentioned;
	}
	rm->path.len = path_len;
	rm->from.len = from_len;
	return r;
}

static int remove_children(struct removal *rm, const struct base_node *dir, struct err *e)
{
	int r;

	if (++rm->depth > COMPARE_DEPTH_MAX)
		return err_set(e, -E2BIG, "directories are nested too deep");
	r = base_list(rm->w->opt->base, dir, remove_child, rm, e);
	rm->depth--;
	return r;
}

/* Everything the base has in `dir`, or, with `mentioned`, what that entry does not speak of. */
static int remove_in(struct walk *w, struct span path, struct span from,
                     const struct base_node *dir, const struct proposal_node *mentioned,
                     bool in_git, struct err *e)
{
	struct removal rm = { .w = w, .in_git = in_git, .mentioned = mentioned };

	trail_set(&rm.path, path);
	trail_set(&rm.from, from);
	return remove_children(&rm, dir, e);
}

static int remove_whole(struct walk *w, struct span path, struct span from,
                        const struct base_node *b, bool in_git, struct err *e)
{
	struct removal rm = { .w = w, .in_git = in_git };

	trail_set(&rm.path, path);
	trail_set(&rm.from, from);
	return remove_one(&rm, b, e);
}

/* ---- what is there ---- */

/* An entry of the proposal beside what the base had under its name. */
struct pair {
	struct proposal_node n;
	struct base_node b;
	struct span from; /* where the base has, or would have, it */
	bool has_base;
	struct around around;
};

/* Did the change that was put last come to a conflict? */
static bool last_conflicts(const struct walk *w)
{
	return w->out->changes[w->out->count - 1].state == CHANGE_CONFLICT;
}

static int put_pair(struct walk *w, const struct pair *p, enum change_op op, struct err *e)
{
	struct change c = { .path = p->n.path,
		            .from = p->from,
		            .op = (uint8_t)op,
		            .proposal_why = p->n.why,
		            .proposal_index = p->n.index };

	if (p->n.kind != PROPOSAL_WHITEOUT)
		c.guest = guest_side(&p->n);
	if (p->has_base) {
		c.base = base_side(&p->b);
		c.base_node = p->b;
	}
	if ((p->n.flags & PROPOSAL_TEXT) != 0 &&
	    (!p->has_base || p->b.kind != WORK_FILE || is_text(w, &p->b)))
		c.flags |= CHANGE_TEXT;
	if (!p->has_base)
		c.flags |= CHANGE_BASE_UNKNOWN;
	return put(w, &c, &p->around, e);
}

/* Something of another kind stands there, and a directory's content is gone. */
static int visit_type(struct walk *w, const struct pair *p, struct err *e)
{
	int r = put_pair(w, p, CHANGE_TYPE, e);

	if (r == 0 && p->b.kind == WORK_DIR)
		r = remove_in(w, p->n.path, p->from, &p->b, NULL, p->around.in_git, e);
	return r;
}

/* A file or link. */
static int visit_leaf(struct walk *w, const struct pair *p, struct err *e)
{
	int same;

	if (!p->has_base)
		return put_pair(w, p, CHANGE_ADD, e);
	if (p->b.kind != p->n.kind)
		return visit_type(w, p, e);
	same = compare_guest_base(w->opt, &p->n, &p->b, e);
	if (same < 0)
		return same;
	if (!same)
		return put_pair(w, p, CHANGE_EDIT, e);
	if (p->n.kind == PROPOSAL_LINK || p->n.mode == p->b.mode)
		return 0; /* touched, no more */
	return put_pair(w, p, CHANGE_MODE, e);
}

static int walk_dir(struct walk *w, const struct proposal_node *dir, const struct place *pl,
                    unsigned depth, struct err *e);

/* In the proposal, or in the base below it. */
static bool has_part(const struct walk *w, const struct proposal_node *dir, const struct place *pl,
                     const char *name)
{
	struct proposal_node child;
	struct base_node b;

	for (uint32_t k = dir->index + 1; proposal_child(w->opt->proposal, dir, &k, &child);)
		if (span_is(child.name, name))
			return child.kind != PROPOSAL_WHITEOUT;
	return pl->has_base && !pl->opaque &&
	       base_lookup_at(w->opt->base, &pl->base, span_str(name), &b, NULL) == 0;
}

/* As setup.c of git has it: "commondir" names where objects, refs and the configuration are. */
static bool is_repository(const struct walk *w, const struct proposal_node *dir,
                          const struct place *pl)
{
	return has_part(w, dir, pl, "HEAD") &&
	       (has_part(w, dir, pl, "commondir") ||
	        (has_part(w, dir, pl, "objects") && has_part(w, dir, pl, "refs")));
}

/* The directory of the base that was renamed to here. */
static int visit_renamed(struct walk *w, struct pair *p, struct place *at, struct err *e)
{
	int r = 0;

	if (p->has_base && p->b.kind == WORK_DIR) /* what it was renamed over is gone */
		r = remove_in(w, p->n.path, p->from, &p->b, NULL, p->around.in_git, e);
	else if (p->has_base)
		r = remove_whole(w, p->n.path, p->from, &p->b, p->around.in_git, e);
	if (r == 0)
		r = base_lookup(w->opt->base, p->n.target, &at->base, e);
	if (r < 0)
		return r;
	if (at->base.kind != WORK_DIR)
		return err_set(e, -EBADMSG, "the proposal renames what is no directory");
	at->base_path = p->n.target;
	at->has_base = true;
	p->b = at->base;
	p->has_base = true;
	p->from = p->n.target;
	p->around.vacant = at->around.vacant = false;
	r = put_pair(w, p, CHANGE_RENAME, e);
	at->around.blocked = r == 0 && (at->around.blocked || last_conflicts(w));
	return r;
}

static int visit_plain_dir(struct walk *w, const struct pair *p, const struct place *pl,
                           struct place *at, struct err *e)
{
	if (!p->has_base)
		return put_pair(w, p, CHANGE_ADD, e);
	if (p->b.kind != WORK_DIR) {
		int r = put_pair(w, p, CHANGE_TYPE, e);

		at->around.typed = r == 0 && !last_conflicts(w);
		return r;
	}
	at->base = p->b;
	at->has_base = true;
	at->opaque = pl->opaque || (p->n.flags & PROPOSAL_OPAQUE) != 0;
	if (p->n.why != PROPOSAL_WHY_NONE && p->n.why != PROPOSAL_WHY_DEEP && p->n.index != 0)
		at->opaque = true;
	if (p->n.mode == p->b.mode && p->n.why == PROPOSAL_WHY_NONE)
		return 0;
	return put_pair(w, p, CHANGE_MODE, e);
}

/* Renamed away and back again is not renamed. */
static bool is_at_home(const struct pair *p)
{
	return (p->n.flags & PROPOSAL_REDIRECT) != 0 && span_equal(p->n.target, p->from);
}

static int visit_dir(struct walk *w, struct pair *p, const struct place *pl, unsigned depth,
                     struct err *e)
{
	struct place at = { .path = p->n.path, .base_path = p->from, .around = p->around };
	int r;

	if (p->n.why == PROPOSAL_WHY_OURS)
		return put_pair(w, p, CHANGE_ADD, e);
	r = (p->n.flags & PROPOSAL_REDIRECT) != 0 && !is_at_home(p)
	            ? visit_renamed(w, p, &at, e)
	            : visit_plain_dir(w, p, pl, &at, e);
	if (r < 0)
		return r;
	at.around.in_git = at.around.in_git || is_repository(w, &p->n, &at);
	return walk_dir(w, &p->n, &at, depth + 1, e);
}

static int visit(struct walk *w, struct pair *p, const struct place *pl, unsigned depth,
                 struct err *e)
{
	switch ((enum proposal_kind)p->n.kind) {
	case PROPOSAL_FILE:
	case PROPOSAL_LINK:
		return visit_leaf(w, p, e);
	case PROPOSAL_DIR:
		return visit_dir(w, p, pl, depth, e);
	case PROPOSAL_WHITEOUT:
		if (p->has_base && p->n.why != PROPOSAL_WHY_OURS)
			return remove_whole(w, p->n.path, p->from, &p->b, p->around.in_git, e);
		return p->n.why == PROPOSAL_WHY_NONE ? 0 : put_pair(w, p, CHANGE_DELETE, e);
	case PROPOSAL_OTHER:
		return put_pair(w, p, CHANGE_ADD, e);
	}
	return err_set(e, -EBADMSG, "the proposal holds an unknown kind");
}

/* Where the base has the child; its path is kept only where it is not the guest's. */
static int child_from(struct walk *w, const struct place *pl, const struct proposal_node *n,
                      struct span *ret, struct err *e)
{
	struct trail t;

	if (span_equal(pl->path, pl->base_path)) {
		*ret = n->path;
		return 0;
	}
	trail_set(&t, pl->base_path);
	if (!trail_push(&t, n->name))
		return err_set(e, -E2BIG, "a path is over %d bytes after a renaming", WPATH_MAX);
	return compare_keep(w->out, span_of(t.at, t.len), ret, e);
}

static int find_base(struct walk *w, const struct place *pl, struct pair *p, struct err *e)
{
	const struct moved *moved = is_at_home(p) ? NULL : was_moved(w, p->from);
	int r;

	p->around.vacant = p->around.vacant || (moved != NULL && !moved->there);
	if (!pl->has_base || moved != NULL)
		return 0;
	r = base_lookup_at(w->opt->base, &pl->base, p->n.name, &p->b, e);
	p->has_base = r == 0;
	return r == -ENOENT ? 0 : r;
}

static int walk_dir(struct walk *w, const struct proposal_node *dir, const struct place *pl,
                    unsigned depth, struct err *e)
{
	struct pair p = { 0 };

	if (depth > COMPARE_DEPTH_MAX)
		return err_set(e, -E2BIG, "directories are nested too deep");
	for (uint32_t i = dir->index + 1; proposal_child(w->opt->proposal, dir, &i, &p.n);) {
		int r;

		p.has_base = false;
		p.around = pl->around;
		p.around.in_git = pl->around.in_git || class_in_git(p.n.name);
		r = child_from(w, pl, &p.n, &p.from, e);
		if (r == 0)
			r = find_base(w, pl, &p, e);
		if (r == 0)
			r = visit(w, &p, pl, depth, e);
		if (r < 0)
			return r;
	}
	if (pl->opaque && pl->has_base)
		return remove_in(w, pl->path, pl->base_path, &pl->base, dir, pl->around.in_git, e);
	return 0;
}

int compare_walk(const struct compare_options *opt, struct compare *c, struct err *e)
{
	struct walk *w = calloc(1, sizeof(*w));
	struct place root = { .path = span_str(""), .base_path = span_str(""), .has_base = true };
	struct proposal_node dir;
	int r;

	if (w == NULL)
		return err_set(e, -ENOMEM, "no memory to compare with");
	w->opt = opt;
	w->out = c;
	host_init(&w->host, opt->root_fd);
	base_root(opt->base, &root.base);
	proposal_node(opt->proposal, 0, &dir);
	root.around.in_git = is_repository(w, &dir, &root);
	r = find_moved(w, e);
	if (r == 0)
		r = walk_dir(w, &dir, &root, 0, e);
	host_done(&w->host);
	free(w->moved);
	free(w);
	return r;
}
