/*
 * Theory of operation. Each change gets the worst class that anything about it has: its path, other
 * names that links give it (links.h), the place it came from, what it holds, and, of a renamed
 * directory, every path that what was packed in it would have then. Paths come in order, so what is
 * known of a directory is known for all that follows in it.
 */
#include "review/review_inner.h"

#include <errno.h>
#include <string.h>

enum { TEXT_HEAD_BYTES = 8 << 10 }; /* git's rule: no NUL in so many bytes is text */

/* What one directory on the way to the path is. */
struct level {
	size_t len; /* of its path */
	bool repository;
};

struct review_judge {
	struct review *r;
	struct review_ignored *ignored;
	struct level levels[WPATH_DEPTH_MAX + 1];
	size_t level_count;
	struct span last; /* the directory before; compare's */
	uint8_t base_head[TEXT_HEAD_BYTES];
	uint8_t guest_head[CLASS_HEAD_BYTES];
	char base_link[BASE_LINK_MAX + 1];
};

void review_judge_free(struct review_judge *j)
{
	if (j == NULL)
		return;
	review_ignored_free(j->ignored);
	free(j);
}

int review_judge_new(struct review *r, struct review_judge **ret, struct err *e)
{
	_own_(review_judge_free) struct review_judge *j = calloc(1, sizeof(*j));
	int got;

	if (j == NULL)
		return err_set(e, -ENOMEM, "no memory to judge changes");
	j->r = r;
	got = review_ignored_new(r, &j->ignored, e);
	if (got < 0)
		return got;
	*ret = steal_ptr(&j);
	return 0;
}

static void worst(struct class_verdict *best, struct class_verdict v)
{
	if (v.class < best->class)
		*best = v;
}

static struct class_verdict x(enum work_class class, const char *reason)
{
	return (struct class_verdict){ .class = class, .reason = reason };
}

/* -- by the path -- */

/* By its own name, and by those that links of the workspace give it. */
static void by_name(const struct review *r, struct span path, enum work_kind kind,
                    struct class_verdict *best)
{
	uint8_t room[WPATH_MAX];
	size_t at = 0;
	struct buf b;

	worst(best, class_by_path(r->on.classes, path, kind));
	if (review_links_more(r->links))
		worst(best, x(CLASS_X1, "more links lead to places here than are kept apart"));
	buf_init(&b, room, sizeof(room));
	while (best->class != CLASS_X0 && review_links_next(r->links, path, &at, &b)) {
		if (buf_ok(&b))
			worst(best, class_by_path(r->on.classes, buf_span(&b), kind));
		else
			worst(best, x(CLASS_X0, "a link leads here, and its path is too long"));
	}
}

static void by_path(struct review_judge *j, const struct change *c, struct span path,
                    struct class_verdict *best)
{
	if (c->guest.exists && c->guest.kind != 0)
		by_name(j->r, path, c->guest.kind, best);
	if (c->base.exists && c->base.kind != c->guest.kind)
		by_name(j->r, path, c->base.kind, best);
}

struct renamed {
	struct review_judge *j;
	struct class_verdict *best;
	uint64_t seen;
	size_t len;
	uint8_t path[WPATH_MAX];
};

static int renamed_child(void *arg, struct span name, const struct base_node *node, struct err *e)
{
	struct renamed *m = arg;
	size_t len = m->len;
	struct buf b;
	int got = 0;

	if (m->best->class == CLASS_X0)
		return 0;
	buf_init(&b, m->path, sizeof(m->path));
	b.len = len;
	buf_put_u8(&b, '/');
	buf_put_span(&b, name);
	if (!buf_ok(&b) || ++m->seen > REVIEW_RENAMED_MAX) {
		worst(m->best, x(CLASS_X0, "renames more than can be judged one by one"));
		return 0;
	}
	by_name(m->j->r, buf_span(&b), node->kind, m->best);
	m->len = b.len;
	if (node->kind == WORK_DIR)
		got = base_list(m->j->r->base, node, renamed_child, m, e);
	m->len = len;
	return got;
}

/* A directory brings all that was packed in it to its new place. */
static int by_children(struct review_judge *j, const struct change *c, struct class_verdict *best,
                       struct err *e)
{
	_own_free_ struct renamed *m = NULL;

	if (c->op != CHANGE_RENAME || c->base.kind != WORK_DIR)
		return 0;
	m = malloc(sizeof(*m));
	if (m == NULL)
		return err_set(e, -ENOMEM, "no memory to judge changes");
	m->j = j;
	m->best = best;
	m->seen = 0;
	m->len = c->path.len;
	memcpy(m->path, c->path.at, c->path.len);
	return base_list(j->r->base, &c->base_node, renamed_child, m, e);
}

/* -- by what it holds -- */

static int base_side(struct review_judge *j, const struct change *c, struct class_side *ret,
                     size_t *ret_head, struct err *e)
{
	size_t len = 0;
	int got = 0;

	*ret = (struct class_side){ .exists = c->base.exists,
		                    .kind = (enum work_kind)c->base.kind,
		                    .mode = c->base.mode };
	*ret_head = 0;
	if (!c->base.exists || c->base.kind == WORK_DIR)
		return 0;
	if (c->base.kind == WORK_LINK) {
		got = base_read_link(j->r->base, &c->base_node, j->base_link, &len, e);
		ret->head = span_of(j->base_link, len);
		return got;
	}
	*ret_head = c->base.size < TEXT_HEAD_BYTES ? (size_t)c->base.size : TEXT_HEAD_BYTES;
	got = base_read(j->r->base, &c->base_node, 0, j->base_head, *ret_head, e);
	ret->head =
		span_of(j->base_head, *ret_head < CLASS_HEAD_BYTES ? *ret_head : CLASS_HEAD_BYTES);
	return got;
}

static int guest_side(struct review_judge *j, const struct change *c, struct class_side *ret,
                      struct err *e)
{
	struct proposal_node n;
	size_t len;

	*ret = (struct class_side){ .exists = c->guest.exists && c->guest.kind != 0,
		                    .kind = (enum work_kind)c->guest.kind,
		                    .mode = c->guest.mode };
	if (!ret->exists || c->guest.kind == WORK_DIR)
		return 0;
	proposal_node(j->r->proposal, c->proposal_index, &n);
	if (c->guest.kind == WORK_LINK) {
		ret->head = n.target;
		return 0;
	}
	len = n.size < CLASS_HEAD_BYTES ? (size_t)n.size : CLASS_HEAD_BYTES;
	ret->head = span_of(j->guest_head, len);
	return proposal_read(j->r->proposal, &n, 0, j->guest_head, len, e);
}

static int by_content(struct review_judge *j, const struct change *c, struct review_item *it,
                      struct class_verdict *best, struct err *e)
{
	struct class_side was, now;
	size_t head;
	int got = base_side(j, c, &was, &head, e);

	if (got == 0)
		got = guest_side(j, c, &now, e);
	if (got < 0)
		return got;
	if (c->op != CHANGE_DELETE)
		worst(best, class_by_content(c->path, &was, &now));
	if (c->op == CHANGE_DELETE && c->base.kind == WORK_FILE && c->base.size <= HUNK_TEXT_MAX &&
	    memchr(j->base_head, 0, head) == NULL)
		it->flags |= RV_TEXT;
	return 0;
}

/* The front of a side's content, as far as hosts are searched in it. */
static int front_of(struct review *r, const struct change *c, bool base, uint8_t *ret,
                    size_t *ret_len, struct err *e)
{
	const struct change_side *s = base ? &c->base : &c->guest;
	struct proposal_node n;
	bool more = s->size > CLASS_HOSTS_BYTES;

	*ret_len = 0;
	if (!s->exists || s->kind != WORK_FILE)
		return 0;
	*ret_len = more ? CLASS_HOSTS_BYTES + 1 : (size_t)s->size;
	if (base)
		return base_read(r->base, &c->base_node, 0, ret, *ret_len, e);
	proposal_node(r->proposal, c->proposal_index, &n);
	return proposal_read(r->proposal, &n, 0, ret, *ret_len, e);
}

static int by_hosts(struct review_judge *j, const struct change *c, struct class_verdict *best,
                    struct err *e)
{
	_own_free_ uint8_t *room = NULL;
	size_t was, now, half = CLASS_HOSTS_BYTES + 1;
	int got;

	if (best->class <= CLASS_X1 || !c->guest.exists || c->guest.kind != WORK_FILE ||
	    !class_is_lock_file(c->path))
		return 0;
	room = malloc(2 * half);
	if (room == NULL)
		return err_set(e, -ENOMEM, "no memory to read a lock file");
	got = front_of(j->r, c, true, room, &was, e);
	if (got == 0)
		got = front_of(j->r, c, false, room + half, &now, e);
	if (got == 0 && class_adds_host(span_of(room, was), span_of(room + half, now)))
		worst(best, x(CLASS_X1, "packages would come from a host that is new here"));
	return got;
}

/* -- by where it lies -- */

static bool has_part(const struct review *r, struct span dir, const char *name)
{
	uint8_t room[WPATH_MAX + 1];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	wpath_put(&b, dir, span_str(name));
	return buf_ok(&b) && review_tree_has(r, buf_span(&b));
}

/* As setup.c of git has it: "commondir" names where objects, refs and the configuration are. */
static bool is_repository(const struct review *r, struct span dir)
{
	return has_part(r, dir, "HEAD") &&
	       (has_part(r, dir, "commondir") ||
	        (has_part(r, dir, "objects") && has_part(r, dir, "refs")));
}

static void push_level(struct review_judge *j, struct span dir)
{
	bool above = j->level_count > 0 && j->levels[j->level_count - 1].repository;

	j->levels[j->level_count++] = (struct level){ dir.len, above || is_repository(j->r, dir) };
}

/* Is the directory, or one above it, a repository by its shape? Each is asked once. */
static bool in_repository(struct review_judge *j, struct span dir)
{
	while (j->level_count > 0 &&
	       !wpath_beneath(span_of(j->last.at, j->levels[j->level_count - 1].len), dir, NULL))
		j->level_count--;
	j->last = dir;
	if (j->level_count == 0)
		push_level(j, span_of(dir.at, 0));
	for (size_t i = j->levels[j->level_count - 1].len; i < dir.len; i++) {
		if (j->level_count > WPATH_DEPTH_MAX)
			return true;
		if (i + 1 == dir.len || dir.at[i + 1] == '/')
			push_level(j, span_of(dir.at, i + 1));
	}
	return j->levels[j->level_count - 1].repository;
}

/* Not of the workspace's own: a submodule, one that was made in the guest. */
static bool in_other_git(struct span path)
{
	struct span part;

	if (!wpath_next(&path, &part))
		return false;
	if (!span_is(part, ".git"))
		return true;
	return wpath_next(&path, &part) && span_is(part, "modules");
}

/* Why it never comes back, or NULL. */
static const char *out_why(struct review_judge *j, const struct change *c)
{
	struct review *r = j->r;
	struct pack_record record;
	struct err ignored;

	if (class_in_git(c->path) && in_other_git(c->path))
		return "inside a repository other than the workspace's own: of it only commits "
		       "come back, where you have it as well";
	if (c->state == CHANGE_STAYS_OUT)
		return c->why == CHANGE_WHY_PROPOSAL
		               ? proposal_why_text((enum proposal_why)c->proposal_why)
		               : change_why_text((enum change_why)c->why);
	/* apply refuses both, whatever was decided */
	if (class_in_git(c->path) || class_in_git(c->from))
		return change_why_text(CHANGE_WHY_GIT);
	if (!c->base.exists && r->report != NULL && r->left_out.left_out[PACK_WHY_COST] > 0 &&
	    pack_report_find(r->report, c->from, &record, &ignored) == 0 &&
	    record.why == PACK_WHY_COST)
		return "kept out of the guest as something that can be made again";
	return NULL;
}

/* Of a conflict first that there is one: what it might do is no news while the host has its own. */
static const char *in_why(const struct change *c, const struct class_verdict *best,
                          const char *doubt)
{
	bool conflict = c->state == CHANGE_CONFLICT || c->state == CHANGE_BOTH;

	if (best->class < CLASS_PLAIN && (best->class == CLASS_X0 || c->state != CHANGE_CONFLICT))
		return best->reason;
	if (conflict)
		return change_why_text((enum change_why)c->why);
	return c->proposal_why != PROPOSAL_WHY_NONE
	               ? proposal_why_text((enum proposal_why)c->proposal_why)
	               : doubt;
}

static bool is_text(const struct change *c)
{
	if ((c->flags & CHANGE_TEXT) == 0 || c->guest.kind != WORK_FILE ||
	    c->guest.size > HUNK_TEXT_MAX)
		return false;
	return c->op == CHANGE_ADD || (c->op == CHANGE_EDIT && c->base.size <= HUNK_TEXT_MAX);
}

int review_judge_one(struct review_judge *j, const struct change *c, struct review_item *it,
                     struct review_more *more, struct err *e)
{
	struct class_verdict best = { .class = CLASS_PLAIN };
	bool is_dir = c->guest.exists ? c->guest.kind == WORK_DIR : c->base.kind == WORK_DIR;
	const char *out = out_why(j, c), *doubt = NULL;
	int got;

	by_path(j, c, c->path, &best);
	if (!span_equal(c->path, c->from))
		by_path(j, c, c->from, &best);
	if (out == NULL && in_repository(j, is_dir ? c->path : wpath_parent(c->path)))
		worst(&best, x(CLASS_X0, "inside a directory that git takes for a repository"));
	it->flags = is_text(c) ? RV_TEXT : 0;
	got = by_content(j, c, it, &best, e);
	if (got == 0)
		got = by_hosts(j, c, &best, e);
	if (got == 0)
		got = by_children(j, c, &best, e);
	if (got == 0 && out == NULL)
		got = review_ignored_ask(j->ignored, c->path, is_dir, &more->ignored, &doubt, e);
	it->class = (uint8_t)best.class;
	it->section = out != NULL ? REVIEW_OUT : REVIEW_PLAIN;
	it->reason = out != NULL ? out : in_why(c, &best, doubt);
	return got;
}
