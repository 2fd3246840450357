#include "work/gitobj_lost.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct finder {
	struct gitobj_store *now, *old;
	const struct gitobj_set *set;
	struct gitobj_lost_list *list;
	size_t room;
	uint32_t ids, looks;
};

/* Is that one object's fault, and not the machine's? */
static bool is_its_own(int r)
{
	return r == -EBADMSG || r == -ENOENT || r == -E2BIG;
}

/* That is enough: ends the search. */
static int cut(struct finder *f)
{
	f->list->cut = true;
	return 1;
}

static int add(struct finder *f, const struct gitobj_id *id, struct err *e)
{
	struct gitobj_lost_list *l = f->list;
	struct gitobj_lost *more;
	struct buf b;

	if (l->count == GITOBJ_LOST_MAX)
		return cut(f);
	if (l->count == f->room) {
		size_t room = f->room ? 2 * f->room : 16;

		more = reallocarray(l->at, room, sizeof(*more));
		if (!more)
			return err_set(e, -ENOMEM, "out of memory");
		l->at = more;
		f->room = room;
	}
	more = &l->at[l->count++];
	*more = (struct gitobj_lost){ .id = *id };
	buf_init(&b, more->name, sizeof(more->name) - 1);
	buf_put_str(&b, "refs/lost-found/");
	gitobj_put_hex(&b, id);
	return 0;
}

static int look(void *arg, const struct gitobj_id *id, struct err *e)
{
	struct finder *f = arg;
	struct err why = { 0 };
	enum gitobj_type type;
	int r;

	if (f->ids++ == GITOBJ_LOST_IDS_MAX)
		return cut(f);
	if (gitobj_set_has(f->set, id))
		return 0;
	if (f->looks++ == GITOBJ_LOST_LOOKS_MAX)
		return cut(f);
	r = gitobj_store_type(f->now, id, &type, &why);
	if (r == 0 && type != GITOBJ_COMMIT)
		return 0;
	if (r == 0)
		r = gitobj_store_type(f->old, id, &type, &why);
	else if (is_its_own(r))
		return 0; /* nothing can be had of it */
	if (r == 0)
		return 0;
	if (!is_its_own(r)) { /* else to bring it says what is wrong there */
		*e = why;
		return r;
	}
	return add(f, id, e);
}

static int by_id(const void *a, const void *b)
{
	const struct gitobj_lost *x = a;
	const struct gitobj_lost *y = b;

	return memcmp(x->id.b, y->id.b, sizeof(x->id.b));
}

/* An object may lie in several files. */
static void sort(struct gitobj_lost_list *l)
{
	size_t n = 0;

	if (l->count > 0)
		qsort(l->at, l->count, sizeof(*l->at), by_id);
	for (size_t i = 0; i < l->count; i++)
		if (n == 0 || by_id(&l->at[n - 1], &l->at[i]) != 0)
			l->at[n++] = l->at[i];
	l->count = n;
}

struct marking {
	struct gitobj_lost_list *list;
	struct gitobj_lost **waiting; /* or NULL: only the parents themselves */
	size_t count;
};

static int mark(void *arg, const struct gitobj_id *id, enum gitobj_type type, struct err *e)
{
	struct marking *m = arg;
	const struct gitobj_lost key = { .id = *id };
	struct gitobj_lost *found = NULL;

	(void)e;
	if (type == GITOBJ_COMMIT && m->list->count > 0)
		found = bsearch(&key, m->list->at, m->list->count, sizeof(key), by_id);
	if (!found || found->walked)
		return 0;
	found->held = true;
	if (m->waiting) {
		found->walked = true;
		m->waiting[m->count++] = found;
	}
	return 0;
}

/* Of one that cannot be read none: to bring it says why it cannot be. */
static int mark_parents(struct gitobj_store *now, const struct gitobj_id *id, struct marking *m,
                        struct err *e)
{
	struct gitobj_object o = { .data = NULL };
	struct err why = { 0 };
	int r = gitobj_store_read(now, id, &o, &why);

	if (r == 0 && o.type == GITOBJ_COMMIT)
		r = gitobj_children(o.type, span_of(o.data, o.len), mark, m, &why);
	free(o.data);
	if (r == 0 || is_its_own(r))
		return 0;
	*e = why;
	return r;
}

int gitobj_lost_hold(struct gitobj_lost_list *l, struct gitobj_store *now,
                     const struct gitobj_id *id, struct err *e)
{
	_own_free_ struct gitobj_lost **waiting =
		calloc(l->count + 1, sizeof(struct gitobj_lost *));
	struct marking m = { .list = l, .waiting = waiting };
	int r;

	if (!waiting)
		return err_set(e, -ENOMEM, "out of memory");
	r = mark(&m, id, GITOBJ_COMMIT, e);
	while (r == 0 && m.count > 0)
		r = mark_parents(now, &waiting[--m.count]->id, &m, e);
	return r;
}

int gitobj_lost_find(struct gitobj_store *now, struct gitobj_store *old,
                     const struct gitobj_set *set, struct gitobj_lost_list *ret, struct err *e)
{
	struct finder f = { .now = now, .old = old, .set = set, .list = ret };
	struct marking m = { .list = ret };
	int r;

	*ret = (struct gitobj_lost_list){ .at = NULL };
	r = gitobj_store_new(now, look, &f, e);
	if (r >= 0) {
		r = 0;
		sort(ret);
		for (size_t i = 0; r == 0 && i < ret->count; i++)
			r = mark_parents(now, &ret->at[i].id, &m, e);
	}
	return r;
}
