/*
 * Theory of operation. docs/internals/apply.md has the whole story; in this file is its order:
 *
 *	lock        the workspace's root
 *	check       every path against what was reviewed: nothing is written before
 *	journal     its head, synced: from now on a crash leaves something to recover
 *	stage       everything new, complete, synced
 *	journal     every step, with the state before and after it, synced
 *	commit      the mark, synced: from now on it is forward, or, after an abort mark, back
 *	steps       renames and modes; then the places are synced
 *	done        the mark, synced: nothing is left to move
 *	finish      what was displaced goes to the undo store; staging and journal go
 */
#include "base/fdio.h"
#include "work/apply_inner.h"
#include "work/undo.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

void apply_run_init(struct apply_run *r, const struct apply_on *on)
{
	*r = (struct apply_run){ .on = on, .lock_fd = -1, .stage_fd = -1, .undo_fd = -1 };
}

void apply_run_fini(struct apply_run *r)
{
	own_close_fd(&r->stage_fd);
	own_close_fd(&r->undo_fd);
	own_close_fd(&r->lock_fd); /* last: it is the lock */
	r->stage_fd = r->undo_fd = r->lock_fd = -1;
}

static bool returns(uint8_t fate)
{
	return fate >= APPLY_BACK_CHANGED && fate <= APPLY_BACK_LINKS;
}

static bool any_returns(const struct apply_plan *p)
{
	for (uint32_t i = 0; i < p->count; i++)
		if (returns(p->fate[i]))
			return true;
	return false;
}

static bool any_left_out(const struct apply_plan *p)
{
	for (uint32_t i = 0; i < p->count; i++)
		if (returns(p->fate[i]) || p->fate[i] == APPLY_STAYS)
			return true;
	return false;
}

/* returned: of those that were fit nothing was made, so nothing is said. */
static void say_all(struct apply_run *r, const struct apply_plan *p, bool returned)
{
	for (uint32_t i = 0; i < p->count; i++) {
		bool made = p->fate[i] == APPLY_APPLIED || p->fate[i] == APPLY_MOMENT_ABSENT;

		if (!returned || !made)
			apply_say(r, p->ops[i].path, p->fate[i]);
	}
}

static int begin_journal(struct apply_run *r, const struct apply_plan *p, uint32_t undo_of,
                         struct journal **ret, struct err *e)
{
	_own_fd_ int dir = -1;
	uint32_t high;
	int got = undo_store_highest(r->on->session_fd, &high, e);

	if (got < 0)
		return got;
	if (high >= UNDO_GENERATIONS_MAX && !undo_of)
		return err_set(e, -EMFILE, "over %d applies in one session", UNDO_GENERATIONS_MAX);
	r->head.kind = undo_of ? JOURNAL_UNDO : JOURNAL_APPLY;
	r->head.generation = undo_of ? undo_of : high + 1;
	r->head.keep = any_left_out(p) ? 1 : 0;
	r->head.root = r->on->root;
	memcpy(r->head.session, r->on->session, strlen(r->on->session) + 1);
	got = journal_new(r->on->session_fd, APPLY_JOURNAL_NAME, &r->head, ret, e);
	if (got < 0)
		return got;
	r->journal = *ret;
	got = apply_at(r->on, AP_JOURNAL_MADE, e);
	if (got == 0)
		got = journal_sync(r->journal, e);
	if (got == 0)
		got = apply_at(r->on, AP_JOURNAL_SYNCED, e);
	if (got == 0)
		got = fd_openat(r->on->session_fd, ".", O_RDONLY | O_DIRECTORY, 0, &dir, e);
	if (got == 0 && fsync(dir) < 0)
		got = err_sys(e, "sync the session");
	return got < 0 ? got : apply_at(r->on, AP_SESSION_SYNCED, e);
}

static int write_steps(struct apply_run *r, const struct apply_plan *p, struct err *e)
{
	int got = 0;

	for (uint32_t i = 0; got == 0 && i < p->steps_count; i++) {
		got = journal_add(r->journal, &p->steps[i], e);
		if (got == 0)
			got = apply_at(r->on, AP_STEP_WRITTEN, e);
	}
	if (got == 0)
		got = journal_end(r->journal, e);
	if (got == 0)
		got = apply_at(r->on, AP_STEPS_WRITTEN, e);
	if (got == 0)
		got = journal_sync(r->journal, e);
	return got < 0 ? got : apply_at(r->on, AP_STEPS_SYNCED, e);
}

static int prepare(struct apply_run *r, struct apply_plan *p, uint32_t undo_of,
                   struct journal **ret, struct err *e)
{
	int got = begin_journal(r, p, undo_of, ret, e);

	if (got == 0)
		got = apply_stage_open(r, true, e);
	if (got == 0)
		got = apply_stage_all(r, p, e);
	return got < 0 ? got : write_steps(r, p, e);
}

static int commit(struct apply_run *r, struct err *e)
{
	int got = journal_mark(r->journal, JOURNAL_COMMIT, e);

	if (got == 0)
		got = apply_at(r->on, AP_COMMIT_WRITTEN, e);
	if (got == 0)
		got = journal_sync(r->journal, e);
	return got < 0 ? got : apply_at(r->on, AP_COMMIT_SYNCED, e);
}

/* A mark that could not be synced may be on disk all the same: it is overruled, not forgotten. */
static int overrule(struct apply_run *r, int why, struct err *e)
{
	struct err more = { 0 };
	int got = journal_mark(r->journal, JOURNAL_ABORT, &more);

	if (got == 0)
		got = journal_sync(r->journal, &more);
	if (got == 0)
		got = apply_back(r, &more);
	if (got == 0)
		got = apply_finish(r, true, &more);
	return got < 0 ? err_set(e, -EUCLEAN, "cannot take back: %s", more.text) : why;
}

/* Steps, then the end. On failure everything is taken back, or -EUCLEAN. */
static int carry_out(struct apply_run *r, enum apply_mode mode, struct err *e)
{
	struct err more = { 0 };
	int got = commit(r, e);
	int end;

	if (got < 0)
		return overrule(r, got, e);
	got = apply_forward(r, mode == APPLY_ALL, e);
	if (got == -EUCLEAN)
		return got;
	end = apply_finish(r, got < 0, &more);
	if (end < 0)
		return err_set(e, -EUCLEAN, "%s, but not finished: %s",
		               got < 0 ? "taken back" : "applied", more.text);
	return got;
}

static int apply_steps(struct apply_run *r, struct apply_plan *p, enum apply_mode mode,
                       uint32_t undo_of, struct err *e)
{
	_own_(journal_free) struct journal *journal = NULL;
	struct err more = { 0 };
	int got = prepare(r, p, undo_of, &journal, e);

	r->steps = p->steps;
	r->steps_count = p->steps_count;
	r->fate = p->fate;
	r->step_op = p->step_op;
	if (got < 0) {
		if (apply_abandon(r, &more) < 0)
			return err_set(e, -EUCLEAN, "%s; and what was begun is still there: %s",
			               e ? e->text : "failed", more.text);
		return got;
	}
	got = carry_out(r, mode, e);
	if (got == 0 && !undo_of)
		r->result.generation = r->head.generation;
	return got;
}

static int run_locked(struct apply_run *r, struct apply_plan *p, enum apply_mode mode,
                      uint32_t undo_of, struct err *e)
{
	int got = apply_check(r, p, e);

	if (got == 0)
		got = apply_at(r->on, AP_CHECKED, e);
	if (got < 0)
		return got;
	r->result.end = APPLY_RETURNED;
	if (mode == APPLY_ALL && any_returns(p)) {
		say_all(r, p, true);
		return 0;
	}
	got = apply_compile(p, e);
	if (got < 0)
		return got;
	r->result.end = p->steps_count > 0 ? APPLY_DONE : APPLY_NOTHING;
	if (p->steps_count > 0)
		got = apply_steps(r, p, mode, undo_of, e);
	if (got == -EAGAIN) { /* the host changed something at the last moment, and nothing is */
		r->result.end = APPLY_RETURNED;
		err_clear(e);
		got = 0;
	}
	if (got == 0)
		say_all(r, p, r->result.end == APPLY_RETURNED);
	return got;
}

static int judge_on(const struct apply_on *on, struct err *e)
{
	size_t len = strlen(on->session);

	if (len == 0 || len > APPLY_SESSION_MAX)
		return err_set(e, -EINVAL, "'%s' is no name of a session", on->session);
	for (size_t i = 0; i < len; i++)
		if (!strchr("0123456789abcdefghijklmnopqrstuvwxyz", on->session[i]))
			return err_set(e, -EINVAL, "'%s' is no name of a session", on->session);
	return 0;
}

int apply_run_as(const struct apply_on *on, const struct apply_op *ops, size_t count,
                 enum apply_mode mode, uint32_t undo_of, struct apply_result *ret, struct err *e)
{
	_own_(apply_plan_free) struct apply_plan *p = NULL;
	struct apply_run r;
	int got;

	apply_run_init(&r, on);
	got = judge_on(on, e);
	if (got == 0)
		got = apply_plan_new(ops, count, &p, e);
	if (got == 0)
		got = apply_lock(&r, e);
	if (got == 0)
		got = apply_at(on, AP_LOCKED, e);
	if (got == 0 && apply_interrupted(on->session_fd))
		got = err_set(e, -EINPROGRESS, "an interrupted apply is to be recovered first");
	if (got == 0)
		got = run_locked(&r, p, mode, undo_of, e);
	apply_run_fini(&r);
	if (got == 0)
		*ret = r.result;
	return got;
}

int apply_run(const struct apply_on *on, const struct apply_op *ops, size_t count,
              enum apply_mode mode, struct apply_result *ret, struct err *e)
{
	return apply_run_as(on, ops, count, mode, 0, ret, e);
}
