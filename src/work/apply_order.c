/*
 * Theory of operation. The order in which steps are done, which is also that of the journal:
 *
 *	1. modes of directories that become writable, parents first, by their names on the host
 *	2. deletions and moves, the deepest first, by names on the host. A move goes straight to its
 *	   new name where nothing of the plan stands in the way, else into its slot
 *	3. what is made, parents first, by names of the result: from slots
 *	4. all other modes, the deepest first, by names of the result
 *
 * So a swap of two directories, a directory that becomes a file, or a file that becomes a directory
 * needs no rule of its own.
 */
#include "work/apply_inner.h"

#include <errno.h>
#include <string.h>

static int keep_name(struct apply_plan *p, const char *name, const char **ret, struct err *e)
{
	size_t len = strlen(name) + 1;
	struct apply_name *n = malloc(sizeof(*n) + len);

	if (!n)
		return err_set(e, -ENOMEM, "out of memory");
	memcpy(n->text, name, len);
	n->next = p->names;
	p->names = n;
	*ret = n->text;
	return 0;
}

static void add(struct apply_plan *p, uint32_t op, struct journal_step s)
{
	s.slot = op;
	p->step_op[p->steps_count] = op;
	p->steps[p->steps_count++] = s;
}

/* The operation's name on the host now: its own if it is the same. */
static int host_name(struct apply_plan *p, const struct apply_op *op, const char **ret,
                     struct err *e)
{
	char host[WPATH_MAX + 1];
	const struct apply_op *but = op->what == APPLY_CHMOD ? NULL : op;

	if (apply_plan_where(p, op->path, but, host) != WHERE_HOST || strcmp(host, op->path) == 0) {
		*ret = op->path;
		return 0;
	}
	return keep_name(p, host, ret, e);
}

/* Of a directory that the plan makes: it gets its mode when all is in it. */
static void add_made_mode(struct apply_plan *p, uint32_t i, const struct apply_op *maker)
{
	const struct apply_op *op = &p->ops[i];
	struct journal_step s = { .type = STEP_CHMOD, .flags = STEP_LATE };

	s.path = s.other = op->path;
	add(p, i, s); /* was and now: once it is staged */
	p->steps[p->steps_count - 1].slot = (uint32_t)(maker - p->ops);
}

static int add_chmod(struct apply_plan *p, uint32_t i, bool early, struct err *e)
{
	const struct apply_op *op = &p->ops[i];
	uint32_t mask = op->flags & APPLY_EXACT ? 07777 : 0777;
	bool opens = op->seen.kind == APPLY_DIR && (op->mode & 0300) == 0300;
	struct journal_step s = { .type = STEP_CHMOD, .was = p->found[i], .now = p->found[i] };
	int r;

	if (p->fate[i] != APPLY_APPLIED)
		return 0;
	if (apply_plan_maker(p, op)) {
		if (!early)
			add_made_mode(p, i, apply_plan_maker(p, op));
		return 0;
	}
	if (opens != early)
		return 0;
	r = host_name(p, op, early ? &s.path : &s.other, e);
	if (r < 0)
		return r;
	if (early) {
		s.flags = STEP_EARLY;
		s.other = op->path;
	} else {
		s.path = op->path;
	}
	/* what a mode of a proposal does not say (setgid of a shared directory) stays */
	s.now.mode = (s.was.mode & ~mask) | (op->mode & mask);
	add(p, i, s);
	return 0;
}

/* Is its new place there already, as it stands, and free? */
static bool straight(const struct apply_plan *p, const struct apply_op *op)
{
	char host[WPATH_MAX + 1];

	return apply_plan_where(p, op->path, op, host) == WHERE_HOST && strcmp(host, op->path) == 0;
}

static void add_gone(struct apply_plan *p, uint32_t i)
{
	const struct apply_op *op = &p->ops[i];
	struct journal_step s = { .was = p->found[i], .path = op->path, .other = "" };

	if (p->fate[i] != APPLY_APPLIED)
		return;
	if (op->what == APPLY_MOVE) {
		s.type = straight(p, op) ? STEP_MOVE : STEP_MOVE_OUT;
		s.path = op->from;
		s.other = op->path;
	} else {
		s.type = STEP_OUT;
		s.flags = op->what == APPLY_RMDIR ? STEP_SOFT : 0;
	}
	add(p, i, s);
}

static int add_made(struct apply_plan *p, uint32_t i, struct err *e)
{
	const struct apply_op *op = &p->ops[i];
	struct journal_step s = { .path = op->path, .other = "" };
	char host[WPATH_MAX + 1];
	int r = 0;

	if (p->fate[i] != APPLY_APPLIED || (op->what == APPLY_MOVE && straight(p, op)))
		return 0;
	if (op->what == APPLY_MOVE) {
		s.type = STEP_MOVE_IN;
		s.was = p->found[i];
		s.path = op->from;
		s.other = op->path;
	} else if (p->found[i].kind == APPLY_ABSENT ||
	           apply_plan_where(p, op->path, op, host) != WHERE_HOST) {
		s.type = STEP_IN;
	} else {
		s.type = STEP_SWAP;
		s.was = p->found[i];
		r = host_name(p, op, &s.other, e);
	}
	if (r == 0)
		add(p, i, s);
	return r;
}

/* A new directory that its owner may not write gets its mode when all is in it. */
static void add_late(struct apply_plan *p, uint32_t i)
{
	const struct apply_op *op = &p->ops[i];
	struct journal_step s = { .type = STEP_CHMOD, .flags = STEP_LATE };

	if (op->what != APPLY_MKDIR || (op->mode & 0700) == 0700 || p->fate[i] != APPLY_APPLIED)
		return;
	s.path = s.other = op->path;
	add(p, i, s); /* was and now: once it is staged */
}

int apply_compile(struct apply_plan *p, struct err *e)
{
	size_t most = 2 * (size_t)p->count + 1;
	int r = 0;

	p->steps = calloc(most, sizeof(*p->steps));
	p->step_op = calloc(most, sizeof(*p->step_op));
	if (!p->steps || !p->step_op)
		return err_set(e, -ENOMEM, "out of memory");
	for (uint32_t i = 0; r == 0 && i < p->chmod_count; i++)
		r = add_chmod(p, p->chmod[i], true, e);
	for (uint32_t i = p->gone_count; i > 0; i--)
		add_gone(p, p->gone[i - 1]);
	for (uint32_t i = 0; r == 0 && i < p->made_count; i++)
		r = add_made(p, p->made[i], e);
	for (uint32_t i = p->made_count; i > 0; i--)
		add_late(p, p->made[i - 1]);
	for (uint32_t i = p->chmod_count; r == 0 && i > 0; i--)
		r = add_chmod(p, p->chmod[i - 1], false, e);
	return r;
}
