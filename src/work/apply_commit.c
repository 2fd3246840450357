#include "base/fdio.h"
#include "work/apply_inner.h"

#include <errno.h>
#include <fcntl.h>

/* -- on disk ----------------------------------------------------------------------------------- */

/* The directory of path, and the object itself if `self`. False: it cannot be opened. */
static bool sync_place(struct apply_run *r, const char *path, bool self)
{
	struct apply_place at;
	_own_fd_ int dir = -1;
	_own_fd_ int fd = -1;
	int got;

	if (apply_place(r->on->root_fd, path, &at, NULL) < 0)
		return true; /* not there (any more): nothing of it to sync */
	got = fd_openat(at.dir_fd, ".", O_RDONLY | O_DIRECTORY, 0, &dir, NULL);
	if (got == 0 && self)
		got = fd_openat(at.dir_fd, at.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, &fd,
		                NULL);
	(void)close(at.dir_fd);
	return got == 0 && fsync(dir) == 0 && (!self || fsync(fd) == 0);
}

static int sync_places(struct apply_run *r, struct err *e)
{
	bool each = r->steps_count <= APPLY_SYNC_EACH_MAX;
	int got;

	for (uint32_t i = 0; each && i < r->steps_count; i++) {
		const struct journal_step *s = &r->steps[i];

		each = sync_place(r, s->path, s->type == STEP_CHMOD);
		if (each && *s->other)
			each = sync_place(r, s->other, false);
		got = apply_at(r->on, AP_PLACE_SYNCED, e);
		if (got < 0)
			return got;
	}
	if (each ? r->stage_fd >= 0 && fsync(r->stage_fd) < 0 : syncfs(r->lock_fd) < 0)
		return err_sys(e, "sync the workspace");
	return apply_at(r->on, AP_PLACES_SYNCED, e);
}

static int mark(struct apply_run *r, enum journal_mark m, enum apply_point written,
                enum apply_point synced, struct err *e)
{
	int got = journal_mark(r->journal, m, e);

	if (got == 0)
		got = apply_at(r->on, written, e);
	if (got == 0)
		got = journal_sync(r->journal, e);
	return got < 0 ? got : apply_at(r->on, synced, e);
}

/* -- back -------------------------------------------------------------------------------------- */

int apply_back_steps(struct apply_run *r, struct err *e)
{
	for (uint32_t i = r->steps_count; i > 0; i--) {
		const struct journal_step *s = &r->steps[i - 1];
		enum apply_stepped done;
		int got = apply_step_back(r, s, &done, e);

		if (got < 0)
			return err_wrap(e, "take back '%s'", s->path);
		if (done == STEPPED_NOT)
			apply_say(r, s->path, APPLY_KEPT_BOTH);
	}
	return apply_at(r->on, AP_BACK_DONE, e);
}

int apply_back(struct apply_run *r, struct err *e)
{
	int got = apply_back_steps(r, e);

	if (got == 0)
		got = sync_places(r, e);
	if (got == 0)
		got = mark(r, JOURNAL_DONE, AP_DONE_WRITTEN, AP_DONE_SYNCED, e);
	return got;
}

/* -- forward ----------------------------------------------------------------------------------- */

static void step_not(struct apply_run *r, uint32_t i, enum apply_word w)
{
	if (r->fate)
		r->fate[r->step_op[i]] = (uint8_t)w;
	else
		apply_say(r, *r->steps[i].other ? r->steps[i].other : r->steps[i].path, w);
}

static void step_done(struct apply_run *r, uint32_t i)
{
	const struct journal_step *s = &r->steps[i];

	if (r->fate) {
		uint8_t *fate = &r->fate[r->step_op[i]];

		if (s->type == STEP_SWAP && !r->exchange && *fate == APPLY_APPLIED)
			*fate = APPLY_MOMENT_ABSENT;
	} else if (s->type != STEP_MOVE_OUT && !(s->flags & STEP_LATE)) {
		apply_say(r, s->path, APPLY_APPLIED);
	}
}

static int forward_steps(struct apply_run *r, bool all, struct err *e)
{
	for (uint32_t i = 0; i < r->steps_count; i++) {
		const struct journal_step *s = &r->steps[i];
		enum apply_stepped done = STEPPED;
		int got = apply_at(r->on, AP_STEP, e);

		if (got == 0)
			got = apply_step_forward(r, s, &done, e);
		if (got < 0)
			return err_wrap(e, "'%s'", s->path);
		if (done == STEPPED) {
			step_done(r, i);
		} else if (s->flags & STEP_SOFT) {
			step_not(r, i, APPLY_STAYS);
		} else if (all) {
			step_not(r, i, APPLY_BACK_CHANGED);
			return err_set(e, -EAGAIN, "'%s' changed while it was applied", s->path);
		} else {
			step_not(r, i, APPLY_KEPT_BOTH);
		}
	}
	return apply_at(r->on, AP_STEPS_DONE, e);
}

int apply_forward(struct apply_run *r, bool all, struct err *e)
{
	struct err why = { 0 };
	int got = forward_steps(r, all, e);
	int back;

	if (got == 0)
		got = sync_places(r, e);
	if (got == 0)
		got = mark(r, JOURNAL_DONE, AP_DONE_WRITTEN, AP_DONE_SYNCED, e);
	if (got == 0)
		return 0;
	back = mark(r, JOURNAL_ABORT, AP_ABORT_WRITTEN, AP_ABORT_SYNCED, &why);
	if (back == 0)
		back = apply_back(r, &why);
	if (back == 0)
		return got;
	return err_set(e, -EUCLEAN, "%s; and it could not be taken back yet: %s",
	               e ? e->text : "failed", why.text);
}
