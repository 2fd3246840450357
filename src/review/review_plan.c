#include "review/review_inner.h"

#include "base/fdio.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum { PLAN_FIRST = 64 };

struct review_plan_where {
	size_t path, other, extents; /* other: SIZE_MAX without one */
};

void review_plan_free(struct review_plan *p)
{
	if (p == NULL)
		return;
	free(p->ops);
	free(p->item);
	free(p->word);
	free(p->where);
	free(p->names);
	free(p->others);
	free(p->extents);
	free(p->back);
	own_close_fd(&p->results_fd);
	free(p);
}

/* -- room -- */

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "no memory for a plan of the accepted changes");
}

static int more_room(void **at, size_t room, size_t size, struct err *e)
{
	void *more = reallocarray(*at, room, size);

	if (more == NULL)
		return no_memory(e);
	*at = more;
	return 0;
}

static int grow_ops(struct review_plan *p, struct err *e)
{
	size_t room = p->room == 0 ? PLAN_FIRST : 2 * p->room;
	int got = 0;

	if (p->count < p->room)
		return 0;
	got = more_room((void **)&p->ops, room, sizeof(*p->ops), e);
	if (got == 0)
		got = more_room((void **)&p->item, room, sizeof(*p->item), e);
	if (got == 0)
		got = more_room((void **)&p->word, room, 1, e);
	if (got == 0)
		got = more_room((void **)&p->where, room, sizeof(*p->where), e);
	if (got == 0)
		p->room = room;
	return got;
}

static int put_text(char **at, size_t *len, size_t *room, struct span s, size_t *ret, struct err *e)
{
	size_t need = *len + s.len + 1;
	int got = 0;

	if (need > *room) {
		size_t more = 2 * *room > need ? 2 * *room : need + 4096;

		got = more_room((void **)at, more, 1, e);
		if (got < 0)
			return got;
		*room = more;
	}
	assert(*at != NULL);
	memcpy(*at + *len, s.at, s.len);
	(*at)[need - 1] = '\0';
	*ret = *len;
	*len = need;
	return 0;
}

/* One more operation; `other` is a move's source or a link's target. */
static int add(struct review_plan *p, uint32_t item, const struct apply_op *op, struct span path,
               const struct span *other, struct err *e)
{
	struct review_plan_where w = { .other = SIZE_MAX, .extents = p->extent_count };
	int got = grow_ops(p, e);

	if (got == 0)
		got = put_text(&p->names, &p->names_len, &p->names_room, path, &w.path, e);
	if (got == 0 && other != NULL)
		got = put_text(&p->others, &p->others_len, &p->others_room, *other, &w.other, e);
	if (got < 0)
		return got;
	assert(p->ops != NULL && p->item != NULL && p->word != NULL && p->where != NULL);
	w.extents -= op->content.extents_count; /* they were put just before */
	p->ops[p->count] = *op;
	p->item[p->count] = item;
	p->word[p->count] = REVIEW_UNSAID;
	p->where[p->count++] = w;
	return 0;
}

static int add_extent(struct review_plan *p, struct apply_extent x, struct err *e)
{
	if (p->extent_count == p->extent_room) {
		size_t room = p->extent_room == 0 ? PLAN_FIRST : 2 * p->extent_room;
		int got = more_room((void **)&p->extents, room, sizeof(*p->extents), e);

		if (got < 0)
			return got;
		p->extent_room = room;
	}
	p->extents[p->extent_count++] = x;
	return 0;
}

/* Nothing grows any more: what was a place becomes a pointer. */
static void settle(struct review_plan *p)
{
	for (size_t i = 0; i < p->count; i++) {
		struct apply_op *op = &p->ops[i];
		const struct review_plan_where *w = &p->where[i];

		op->path = p->names + w->path;
		if (w->other != SIZE_MAX && op->what == APPLY_MOVE)
			op->from = p->others + w->other;
		else if (w->other != SIZE_MAX)
			op->target = p->others + w->other;
		if (op->content.extents_count > 0)
			op->content.extents = p->extents + w->extents;
	}
}

/* -- what was seen -- */

static int64_t in_ns(int64_t s, uint32_t ns)
{
	int64_t all;

	/* apply has the same rule for times that do not fit */
	return __builtin_mul_overflow(s, (int64_t)1000000000, &all) ? 0 : all + ns;
}

static struct apply_seen seen_of(const struct change *c)
{
	static const uint8_t kinds[] = { APPLY_OTHER, APPLY_FILE, APPLY_DIR, APPLY_LINK };
	const struct change_identity *id = &c->identity;

	if (!c->host.exists)
		return (struct apply_seen){ .kind = APPLY_ABSENT };
	return (struct apply_seen){ .kind = kinds[c->host.kind],
		                    .mode = id->mode & 07777,
		                    .nlink = id->nlink,
		                    .ino = id->ino,
		                    .size = id->size,
		                    .mtime_ns = in_ns(id->mtime_s, id->mtime_ns),
		                    .ctime_ns = in_ns(id->ctime_s, id->ctime_ns) };
}

/* -- contents -- */

/* The bytes that are staged are those that were shown: the index's word for them is tried. */
static int check_content(struct review *r, const struct change *c, const struct proposal_node *n,
                         struct err *e)
{
	uint8_t sum[REVIEW_DIGEST_BYTES], room[4 * WPATH_MAX];
	struct buf b;
	int got;

	if (n->sha256 == NULL)
		return 0;
	got = review_side_digest(r, c, REVIEW_GUEST, sum, e);
	if (got < 0 || memcmp(sum, n->sha256, sizeof(sum)) == 0)
		return got;
	buf_init(&b, room, sizeof(room));
	buf_put_escaped(&b, c->path);
	return err_set(e, -EBADMSG,
	               "'%s' is not what the proposal's index says; nothing was changed",
	               buf_cstr(&b));
}

static int content_of(struct review *r, struct review_plan *p, const struct change *c,
                      struct apply_content *ret, struct err *e)
{
	struct proposal_node n;
	int got;

	proposal_node(r->proposal, c->proposal_index, &n);
	got = check_content(r, c, &n, e);
	for (uint32_t i = 0; got == 0 && i < n.extent_count; i++) {
		struct proposal_extent x;

		proposal_extent(&n, i, &x);
		got = add_extent(
			p, (struct apply_extent){ .from = x.spool, .at = x.at, .len = x.len }, e);
	}
	*ret = (struct apply_content){ .fd = r->on.spool_fd,
		                       .extents_count = n.extent_count,
		                       .size = n.size };
	return got;
}

/* A text of our own making, which must be what was decided on. 1: it is not. */
static int composed(struct review *r, struct review_plan *p, size_t i, struct apply_content *ret,
                    struct err *e)
{
	const struct review_item *it = &r->items[i];
	_own_free_ uint8_t *text = NULL;
	uint8_t sum[REVIEW_DIGEST_BYTES];
	struct err why = { 0 };
	bool merged;
	size_t len = 0;
	int got = review_result(r, i, it->hunks, &merged, &text, &len, &why);

	if (got == -ESTALE || (got == 0 && !merged))
		return 1;
	if (got < 0)
		return err_set(e, got, "%s", why.text);
	if (review_sha256(text, len, sum) < 0)
		return err_set(e, -EIO, "sha256 failed");
	if (memcmp(sum, r->more[i].result, sizeof(sum)) != 0)
		return 1;
	if (p->results_fd < 0)
		got = fd_tmpfile(r->on.session_fd, 0600, &p->results_fd, e);
	if (got == 0)
		got = fd_write_all(p->results_fd, text, len, e);
	if (got == 0 && len > 0)
		got = add_extent(p, (struct apply_extent){ .from = p->results_bytes, .len = len },
		                 e);
	*ret = (struct apply_content){ .fd = p->results_fd, .extents_count = len > 0, .size = len };
	p->results_bytes += len;
	return got;
}

/* -- operations of an item -- */

static int add_file(struct review *r, struct review_plan *p, size_t i, struct apply_op *op,
                    struct err *e)
{
	const struct change *c = r->items[i].change;
	int got;

	op->what = APPLY_PUT;
	op->kind = APPLY_FILE;
	if (r->more[i].has_result)
		got = composed(r, p, i, &op->content, e);
	else
		got = content_of(r, p, c, &op->content, e);
	if (got == 1) {
		p->back[p->back_count++] = (uint32_t)i;
		return 0;
	}
	return got < 0 ? got : add(p, (uint32_t)i, op, c->path, NULL, e);
}

static int add_made(struct review *r, struct review_plan *p, size_t i, struct apply_op *op,
                    struct err *e)
{
	const struct change *c = r->items[i].change;
	struct proposal_node n;

	if (c->guest.kind == WORK_FILE)
		return add_file(r, p, i, op, e);
	if (c->guest.kind == WORK_DIR) {
		op->what = APPLY_MKDIR;
		return add(p, (uint32_t)i, op, c->path, NULL, e);
	}
	proposal_node(r->proposal, c->proposal_index, &n);
	op->what = APPLY_PUT;
	op->kind = APPLY_LINK;
	return add(p, (uint32_t)i, op, c->path, &n.target, e);
}

static int add_mode(struct review_plan *p, size_t i, const struct change *c, struct apply_op *op,
                    struct err *e)
{
	op->what = APPLY_CHMOD;
	return add(p, (uint32_t)i, op, c->path, NULL, e);
}

static int add_rename(struct review_plan *p, size_t i, const struct change *c, struct apply_op *op,
                      struct err *e)
{
	int got;

	op->what = APPLY_MOVE;
	got = add(p, (uint32_t)i, op, c->path, &c->place, e);
	if (got == 0 && c->result_mode != c->host.mode && c->host.kind != WORK_LINK)
		got = add_mode(p, i, c, op, e);
	return got;
}

static int add_item(struct review *r, struct review_plan *p, size_t i, struct err *e)
{
	const struct change *c = r->items[i].change;
	struct apply_op op = { .flags =
		                       r->items[i].flags & RV_CONSENT_LINKS ? APPLY_BREAK_LINKS : 0,
		               .mode = c->result_mode,
		               .seen = seen_of(c) };

	switch ((enum change_op)c->op) {
	case CHANGE_DELETE:
		op.what = c->host.kind == WORK_DIR ? APPLY_RMDIR : APPLY_DELETE;
		return add(p, (uint32_t)i, &op, c->place, NULL, e);
	case CHANGE_RENAME:
		return add_rename(p, i, c, &op, e);
	case CHANGE_MODE:
		if (c->host.exists && c->host.kind == c->guest.kind)
			return add_mode(p, i, c, &op, e);
		break;
	case CHANGE_ADD:
	case CHANGE_EDIT:
	case CHANGE_TYPE:
		break;
	}
	return add_made(r, p, i, &op, e);
}

/* -- directories that the host has removed -- */

/* The host's own deletion of a directory is undone where somebody wants a file of it. */
static int add_parents(struct review *r, struct review_plan *p, size_t i, struct err *e)
{
	const struct change *c = r->items[i].change;
	size_t first = p->count;
	char room[WPATH_MAX + 1];
	int got = 0;

	if (c->host.exists || c->why != CHANGE_WHY_HOST_DELETED)
		return 0;
	for (struct span dir = wpath_parent(c->path); got == 0 && dir.len > 0;
	     dir = wpath_parent(dir)) {
		struct apply_op op = { .what = APPLY_MKDIR };
		struct apply_seen now;
		struct base_node node;

		memcpy(room, dir.at, dir.len);
		room[dir.len] = '\0';
		if (review_find_side(r, dir, false) != SIZE_MAX ||
		    base_lookup(r->base, dir, &node, NULL) < 0 || node.kind != WORK_DIR)
			break;
		got = apply_look(r->on.root_fd, room, &now, e);
		if (got < 0 || now.kind != APPLY_ABSENT)
			break;
		for (size_t k = 0; k < first && op.mode == 0; k++) {
			if (p->item[k] == UINT32_MAX &&
			    strcmp(p->names + p->where[k].path, room) == 0)
				return 0;
		}
		op.mode = node.mode;
		got = add(p, UINT32_MAX, &op, dir, NULL, e);
	}
	return got;
}

/* -- all of it -- */

static int mark_wanted(struct review *r, uint8_t *wanted, uint64_t *ret_needs)
{
	for (size_t i = 0; i < r->count; i++) {
		struct span dir = r->items[i].change->path;
		size_t need;

		if (!review_is_wanted(&r->items[i]))
			continue;
		if ((r->items[i].flags & RV_NEEDS) != 0) {
			++*ret_needs;
			continue;
		}
		wanted[i] = 1;
		while (review_need(r, r->items[i].change, &dir, &need)) {
			if (review_may_pull(&r->items[need]))
				wanted[need] = 1;
		}
	}
	return 0;
}

int review_plan_new(struct review *r, struct review_plan **ret, struct err *e)
{
	_own_(review_plan_free) struct review_plan *p = calloc(1, sizeof(*p));
	_own_free_ uint8_t *wanted = calloc(r->count + 1, 1);
	int got = 0;

	if (p == NULL || wanted == NULL)
		return no_memory(e);
	p->results_fd = -1;
	p->back = calloc(r->count + 1, sizeof(*p->back));
	if (p->back == NULL)
		return no_memory(e);
	got = mark_wanted(r, wanted, &p->needs);
	for (size_t i = 0; got == 0 && i < r->count; i++) {
		if (!wanted[i])
			continue;
		if (r->on.progress && i % 64 == 0)
			r->on.progress(r->on.progress_arg, "checking what was accepted", i,
			               r->count);
		got = add_parents(r, p, i, e);
		if (got == 0)
			got = add_item(r, p, i, e);
	}
	if (got < 0)
		return got;
	settle(p);
	*ret = steal_ptr(&p);
	return 0;
}
