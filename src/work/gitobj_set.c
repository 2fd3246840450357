#include "work/gitobj_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM_FIRST = 1 << 10 };

struct gitobj_set {
	size_t count, room; /* a power of two */
	struct gitobj_seen *slots;
};

int gitobj_set_new(struct gitobj_set **ret, struct err *e)
{
	_own_(gitobj_set_free) struct gitobj_set *s = calloc(1, sizeof(*s));

	if (s)
		s->slots = calloc(ROOM_FIRST, sizeof(*s->slots));
	if (!s || !s->slots)
		return err_set(e, -ENOMEM, "out of memory");
	s->room = ROOM_FIRST;
	*ret = steal_ptr(&s);
	return 0;
}

void gitobj_set_free(struct gitobj_set *s)
{
	if (s)
		free(s->slots);
	free(s);
}

/*
 * Ids are hashes, but a guest can search for some that begin alike; so all of an id counts, mixed.
 * It is no secret function: what a guest can win is time, which the job has a limit for.
 */
static size_t place_of(const struct gitobj_id *id, size_t room)
{
	uint64_t a, b;

	memcpy(&a, id->b, sizeof(a));
	memcpy(&b, id->b + 8, sizeof(b));
	a = (a ^ (b >> 29)) * 0x9e3779b97f4a7c15 + b;
	return (size_t)(a ^ (a >> 32)) & (room - 1);
}

static struct gitobj_seen *slot_of(struct gitobj_seen *slots, size_t room,
                                   const struct gitobj_id *id)
{
	size_t i = place_of(id, room);

	while (slots[i].used && !gitobj_id_equal(&slots[i].id, id))
		i = (i + 1) & (room - 1);
	return &slots[i];
}

static int grow(struct gitobj_set *s, struct err *e)
{
	size_t room = 2 * s->room;
	struct gitobj_seen *slots = calloc(room, sizeof(*slots));

	if (!slots)
		return err_set(e, -ENOMEM, "out of memory");
	for (size_t i = 0; i < s->room; i++) {
		if (s->slots[i].used)
			*slot_of(slots, room, &s->slots[i].id) = s->slots[i];
	}
	free(s->slots);
	s->slots = slots;
	s->room = room;
	return 0;
}

int gitobj_set_at(struct gitobj_set *s, const struct gitobj_id *id, struct gitobj_seen **ret,
                  struct err *e)
{
	struct gitobj_seen *slot = slot_of(s->slots, s->room, id);
	int r;

	if (!slot->used) {
		if (s->count == GITOBJ_OBJECTS_MAX)
			return err_set(e, -E2BIG, "over %d objects", GITOBJ_OBJECTS_MAX);
		if (s->count >= s->room / 4 * 3) {
			r = grow(s, e);
			if (r < 0)
				return r;
			slot = slot_of(s->slots, s->room, id);
		}
		*slot = (struct gitobj_seen){ .id = *id, .used = 1 };
		s->count++;
	}
	*ret = slot;
	return 0;
}

bool gitobj_set_has(const struct gitobj_set *s, const struct gitobj_id *id)
{
	const struct gitobj_seen *slot = slot_of(s->slots, s->room, id);

	return slot->used && (slot->state == GITOBJ_DONE || slot->state == GITOBJ_OUTSIDE);
}

void gitobj_set_undo(struct gitobj_set *s, uint16_t round)
{
	for (size_t i = 0; i < s->room; i++) {
		struct gitobj_seen *slot = &s->slots[i];

		if (slot->used && slot->round == round &&
		    (slot->state == GITOBJ_OPEN || slot->state == GITOBJ_DONE))
			slot->state = GITOBJ_UNSEEN;
	}
}

static int refuse(enum gitobj_bad bad, struct err *e)
{
	return err_set(e, -EBADMSG, "%s", gitobj_bad_text(bad));
}

static int tree_children(struct span data, gitobj_child_fn *each, void *arg, struct err *e)
{
	enum gitobj_bad bad = GITOBJ_BAD_NONE;
	int r = gitobj_parse_tree(data, &bad);

	if (r < 0)
		return refuse(bad, e);
	while (r == 0 && data.len > 0) {
		struct gitobj_entry en;
		enum gitobj_type type;

		if (gitobj_parse_entry(&data, &en, &bad) < 0)
			return refuse(bad, e);
		if (gitobj_entry_type(&en, &type))
			r = each(arg, &en.id, type, e);
	}
	return r;
}

static int commit_children(struct span data, gitobj_child_fn *each, void *arg, struct err *e)
{
	enum gitobj_bad bad = GITOBJ_BAD_NONE;
	struct gitobj_commit c;
	int r = gitobj_parse_commit(data, &c, &bad);

	if (r < 0)
		return refuse(bad, e);
	r = each(arg, &c.tree, GITOBJ_TREE, e);
	for (uint32_t i = 0; r == 0 && i < c.parent_count; i++) {
		struct gitobj_id id;

		gitobj_parent(&c, i, &id);
		r = each(arg, &id, GITOBJ_COMMIT, e);
	}
	return r;
}

int gitobj_children(enum gitobj_type type, struct span data, gitobj_child_fn *each, void *arg,
                    struct err *e)
{
	if (type == GITOBJ_BLOB)
		return 0;
	if (type != GITOBJ_TREE && type != GITOBJ_COMMIT)
		return err_set(e, -EBADMSG, "an object is a tag where none may be");
	if (data.len > GITOBJ_META_BYTES_MAX)
		return err_set(e, -E2BIG, "a %s is over %d MiB", gitobj_type_name(type),
		               GITOBJ_META_BYTES_MAX >> 20);
	return type == GITOBJ_TREE ? tree_children(data, each, arg, e)
	                           : commit_children(data, each, arg, e);
}
