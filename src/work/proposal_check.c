#include "work/proposal_check.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SET_SLOTS_MIN = 64 };

/* A directory of the stream on the way to the present entry. */
struct level {
	bool ours;    /* it and all below is refused */
	bool in_base; /* there is a directory of the base behind it, at: */
	uint16_t len;
	uint8_t base[WPATH_MAX];
};

struct proposal_check {
	struct proposal_base base;
	uint64_t *set; /* ids of directories that were renamed, each plus 1; 0 is free */
	size_t set_slots, set_count;
	struct level levels[WPATH_DEPTH_MAX + 1];
};

int proposal_check_new(const struct proposal_base *base, struct proposal_check **ret, struct err *e)
{
	struct proposal_check *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	c->base = *base;
	*ret = c;
	return 0;
}

void proposal_check_free(struct proposal_check *c)
{
	if (c)
		free(c->set);
	free(c);
}

/* --- the set of directories that were renamed --- */

/* The slot that holds it, or that is free for it. */
static uint64_t *slot_of(uint64_t *set, size_t slots, uint64_t key)
{
	/* the base is the host's: nobody chose its ids to collide */
	size_t at = (size_t)(key * UINT64_C(0x9e3779b97f4a7c15)) & (slots - 1);

	while (set[at] != 0 && set[at] != key)
		at = (at + 1) & (slots - 1);
	return &set[at];
}

static int grow_set(struct proposal_check *c, struct err *e)
{
	size_t slots = c->set_slots ? 2 * c->set_slots : SET_SLOTS_MIN;
	uint64_t *more = calloc(slots, sizeof(*more));

	if (!more)
		return err_set(e, -ENOMEM, "out of memory");
	for (size_t i = 0; i < c->set_slots; i++)
		if (c->set[i] != 0)
			*slot_of(more, slots, c->set[i]) = c->set[i];
	free(c->set);
	c->set = more;
	c->set_slots = slots;
	return 0;
}

static int add_source(struct proposal_check *c, uint64_t id, bool *ret_twice, struct err *e)
{
	uint64_t *slot;
	int r;

	if (c->set_count >= PROPOSAL_REDIRECTS_MAX)
		return err_set(e, -E2BIG, "%s", proposal_bad_text(PROPOSAL_BAD_REDIRECTS));
	if (2 * (c->set_count + 1) > c->set_slots) {
		r = grow_set(c, e);
		if (r < 0)
			return r;
	}
	slot = slot_of(c->set, c->set_slots, id + 1);
	*ret_twice = *slot != 0;
	c->set_count += *slot == 0;
	*slot = id + 1;
	return 0;
}

/* --- entries --- */

static struct span base_of(const struct level *l)
{
	return span_of(l->base, l->len);
}

/* Where in the base the parent's directory has this name; false if nowhere. */
static bool natural(const struct level *parent, struct span name, struct buf *out)
{
	if (!parent->in_base)
		return false;
	wpath_put(out, base_of(parent), name);
	return buf_ok(out) && wpath_parse(buf_span(out), NULL) == 0;
}

static int check_whiteout(struct proposal_check *c, const struct level *parent,
                          struct proposal_entry *en, struct err *e)
{
	struct proposal_found found = { 0 };
	uint8_t room[WPATH_MAX];
	struct buf path;
	int r = 0;

	buf_init(&path, room, sizeof(room));
	if (natural(parent, wpath_last(en->path), &path))
		r = c->base.find(c->base.arg, buf_span(&path), &found, e);
	if (r == 0 && !found.there)
		en->why = PROPOSAL_WHY_NOT_IN_BASE;
	return r;
}

/* It stands alone: what it was to be merged with is not there, or is somebody else's. */
static void refuse_source(struct proposal_entry *en, enum proposal_why why)
{
	en->flags = (uint8_t)((en->flags & ~PROPOSAL_REDIRECT) | PROPOSAL_OPAQUE);
	en->target = span_of("", 0);
	if (en->why == PROPOSAL_WHY_NONE) /* not over DEEP: that is about its content */
		en->why = (uint8_t)why;
}

static bool is_ours(struct span path)
{
	const struct span prefix = span_str(PROPOSAL_OURS_PREFIX);

	return path.len >= prefix.len && span_equal(span_of(path.at, prefix.len), prefix);
}

static int check_redirect(struct proposal_check *c, struct proposal_entry *en, struct level *l,
                          struct err *e)
{
	struct proposal_found found = { 0 };
	bool twice = false;
	int r = 0;

	if (en->target.len > 0)
		r = c->base.find(c->base.arg, en->target, &found, e);
	if (r < 0)
		return r;
	if (!found.there || !found.dir || is_ours(en->target)) {
		refuse_source(en, found.there && found.dir ? PROPOSAL_WHY_OURS
		                                           : PROPOSAL_WHY_NO_SOURCE);
		return 0;
	}
	r = add_source(c, found.id, &twice, e);
	if (r < 0)
		return r;
	if (twice) {
		refuse_source(en, PROPOSAL_WHY_SOURCE_TWICE);
		return 0;
	}
	l->in_base = true;
	l->len = (uint16_t)en->target.len;
	memcpy(l->base, en->target.at, en->target.len);
	return 0;
}

static int check_dir(struct proposal_check *c, const struct level *parent,
                     struct proposal_entry *en, struct level *l, struct err *e)
{
	struct proposal_found found = { 0 };
	struct buf path;
	int r = 0;

	l->in_base = false;
	l->len = 0;
	if (en->flags & PROPOSAL_REDIRECT)
		return check_redirect(c, en, l, e);
	if (en->flags & PROPOSAL_OPAQUE)
		return 0;
	buf_init(&path, l->base, sizeof(l->base));
	if (natural(parent, wpath_last(en->path), &path))
		r = c->base.find(c->base.arg, buf_span(&path), &found, e);
	if (r < 0)
		return r;
	l->in_base = found.there && found.dir;
	l->len = (uint16_t)path.len;
	return 0;
}

static void check_root(struct proposal_check *c, struct proposal_entry *en)
{
	const unsigned marks = PROPOSAL_OPAQUE | PROPOSAL_REDIRECT;

	if (en->flags & marks)
		en->why = PROPOSAL_WHY_ROOT;
	en->flags = (uint8_t)(en->flags & ~marks);
	en->target = span_of("", 0);
	c->levels[0].in_base = true;
}

int proposal_check_entry(struct proposal_check *c, struct proposal_entry *en, struct err *e)
{
	unsigned depth = wpath_depth(en->path);
	struct level *parent;
	struct level *l;
	bool ours;
	int r = 0;

	assert(depth <= WPATH_DEPTH_MAX); /* the parser saw to it */
	if (depth == 0) {
		check_root(c, en);
		return 0;
	}
	l = &c->levels[depth];
	parent = &c->levels[depth - 1];
	if (en->kind == PROPOSAL_WHITEOUT)
		r = check_whiteout(c, parent, en, e);
	else if (en->kind == PROPOSAL_DIR)
		r = check_dir(c, parent, en, l, e);
	ours = parent->ours || (depth == 1 && is_ours(en->path)) || en->why == PROPOSAL_WHY_OURS;
	if (en->kind == PROPOSAL_DIR)
		l->ours = ours;
	if (ours)
		en->why = PROPOSAL_WHY_OURS;
	return r;
}
