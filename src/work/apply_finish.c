/*
 * Theory of operation. Nothing here changes a file of the user any more. What the steps displaced
 * is in the staging directory; it goes to undo/<generation>/ of the session under names that say
 * what it is:
 *
 *	<slot>o   the host's object that was replaced, deleted or found no way back
 *	<slot>k   a new object that did not find its place: the host's stays there
 *	<slot>u   of an undo: what it displaced and may not throw away
 *
 * Then the staging directory is removed, and the journal goes beside what was kept, where undo
 * reads it. Each step may be done again after a crash: what is gone from staging is done.
 */
#include "base/fdio.h"
#include "work/apply_inner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

static int remove_stage(struct apply_run *r, struct err *e)
{
	char name[APPLY_STAGE_NAME_MAX];
	int got;

	if (r->stage_fd >= 0) {
		(void)close(r->stage_fd);
		r->stage_fd = -1;
	}
	apply_stage_name(r->on, name);
	got = fd_remove_tree(r->on->root_fd, name, e);
	if (got == 0)
		got = apply_at(r->on, AP_STAGE_REMOVED, e);
	if (got == 0 && fsync(r->lock_fd) < 0)
		got = err_sys(e, "sync the workspace");
	return got < 0 ? got : apply_at(r->on, AP_ROOT_SYNCED, e);
}

static int sync_session(struct apply_run *r, struct err *e)
{
	_own_fd_ int fd = -1;
	int got = fd_openat(r->on->session_fd, ".", O_RDONLY | O_DIRECTORY, 0, &fd, e);

	if (got == 0 && fsync(fd) < 0)
		got = err_sys(e, "sync the session");
	return got;
}

static int remove_journal(struct apply_run *r, struct err *e)
{
	if (unlinkat(r->on->session_fd, APPLY_JOURNAL_NAME, 0) < 0 && errno != ENOENT)
		return err_sys(e, "remove the journal");
	return sync_session(r, e);
}

int apply_abandon(struct apply_run *r, struct err *e)
{
	int got = remove_stage(r, e);

	return got < 0 ? got : remove_journal(r, e);
}

/* -- what is kept ------------------------------------------------------------------------------ */

/* A directory of the user's that cannot be copied is never ours to remove: it stays in sight. */
static int leave_in_sight(struct apply_run *r, const char *slot, struct err *e)
{
	char name[APPLY_STAGE_NAME_MAX + APPLY_SLOT_NAME_MAX];

	(void)snprintf(name, sizeof(name), "berm-kept-%s-%s", r->on->session, slot);
	if (renameat2(r->stage_fd, slot, r->on->root_fd, name, RENAME_NOREPLACE) < 0)
		return err_sys(e, "leave '%s' in the workspace", name);
	apply_say(r, name, APPLY_KEPT_BOTH);
	return 0;
}

/* Of one slot: 0 (nothing to keep), or the letter under which it is. */
static char letter_of(const struct apply_run *r, const struct journal_step *s, bool aborted,
                      const struct apply_seen *in)
{
	bool ours = (s->type == STEP_IN || s->type == STEP_SWAP) && in->kind == s->now.kind &&
	            in->ino == s->now.ino;
	bool undo = r->head.kind == JOURNAL_UNDO;

	if (in->kind == APPLY_ABSENT)
		return 0;
	/* the proposal, or what is undone, still has it */
	if (ours)
		return aborted || undo ? 0 : 'k';
	if (!undo)
		return 'o';
	/* what an undo displaced is exactly what the apply had put there */
	return !aborted && apply_is(in, &s->was) && s->type != STEP_MOVE_OUT ? 0 : 'u';
}

static int keep_slot(struct apply_run *r, const struct journal_step *s, bool aborted, char letter,
                     struct err *e)
{
	char from[APPLY_SLOT_NAME_MAX], to[APPLY_SLOT_NAME_MAX];
	struct apply_seen in;
	bool left = false;
	int got;

	apply_slot_name(s->slot, letter, from);
	got = apply_look_at(r->stage_fd, from, &in, e);
	if (got < 0)
		return got;
	letter = letter_of(r, s, aborted, &in);
	if (letter == 0)
		return 0;
	if (r->undo_fd < 0)
		got = undo_store_at(r->on->session_fd, r->head.generation, true, &r->undo_fd, e);
	if (got < 0)
		return got;
	apply_slot_name(s->slot, letter, to);
	got = undo_keep(r, r->undo_fd, from, to, &left, e);
	if (got == 0 && left)
		got = leave_in_sight(r, from, e);
	return got;
}

/* Everything did find its place? Of an undo that decides whether its generation goes. */
static int all_placed(struct apply_run *r, bool *ret, struct err *e)
{
	*ret = true;
	for (uint32_t i = 0; *ret && i < r->steps_count; i++) {
		const struct journal_step *s = &r->steps[i];
		char slot[APPLY_SLOT_NAME_MAX];
		struct apply_seen in;
		int got;

		if (s->type != STEP_IN && s->type != STEP_SWAP)
			continue;
		apply_slot_name(s->slot, 's', slot);
		got = apply_look_at(r->stage_fd, slot, &in, e);
		if (got < 0)
			return got;
		*ret = !(in.kind == s->now.kind && in.ino == s->now.ino);
	}
	return 0;
}

static int keep_all(struct apply_run *r, bool aborted, struct err *e)
{
	int got = 0;

	if (r->head.kind == JOURNAL_APPLY && !aborted)
		got = undo_store_at(r->on->session_fd, r->head.generation, true, &r->undo_fd, e);
	if (got == 0)
		got = apply_at(r->on, AP_UNDO_MADE, e);
	for (uint32_t i = 0; got == 0 && i < r->steps_count; i++) {
		const struct journal_step *s = &r->steps[i];

		if (s->type == STEP_CHMOD || s->type == STEP_MOVE || s->type == STEP_MOVE_IN)
			continue;
		got = keep_slot(r, s, aborted, 's', e);
		if (got == 0 && s->type == STEP_SWAP)
			got = keep_slot(r, s, aborted, 'o', e);
	}
	if (got == 0 && r->undo_fd >= 0 && fsync(r->undo_fd) < 0)
		got = err_sys(e, "sync the undo store");
	return got < 0 ? got : apply_at(r->on, AP_UNDO_SYNCED, e);
}

/* An undo that left nothing out ends its generation. */
static int end_generation(struct apply_run *r, bool aborted, struct err *e)
{
	_own_fd_ int fd = -1;
	char name[16];
	bool placed;
	int got = all_placed(r, &placed, e);

	if (got < 0 || r->head.kind != JOURNAL_UNDO || aborted || r->head.keep || !placed ||
	    r->undo_fd >= 0)
		return got;
	got = undo_store_open(r->on->session_fd, false, &fd, e);
	if (got < 0)
		return got == -ENOENT ? 0 : got;
	(void)snprintf(name, sizeof(name), "%u", r->head.generation);
	return fd_remove_tree(fd, name, e);
}

/* Beside what was kept; or away, where nothing was. */
static int end_journal(struct apply_run *r, struct err *e)
{
	int got;

	if (r->head.kind == JOURNAL_UNDO || r->undo_fd < 0)
		return remove_journal(r, e);
	if (renameat(r->on->session_fd, APPLY_JOURNAL_NAME, r->undo_fd, APPLY_JOURNAL_NAME) < 0 &&
	    errno != ENOENT)
		return err_sys(e, "move the journal to the undo store");
	got = apply_at(r->on, AP_JOURNAL_MOVED, e);
	if (got == 0 && fsync(r->undo_fd) < 0)
		got = err_sys(e, "sync the undo store");
	return got < 0 ? got : sync_session(r, e);
}

int apply_finish(struct apply_run *r, bool aborted, struct err *e)
{
	int got = 0;

	if (r->stage_fd >= 0) {
		got = keep_all(r, aborted, e);
		if (got == 0)
			got = end_generation(r, aborted, e);
		if (got == 0)
			got = apply_at(r->on, AP_STAGE_EMPTIED, e);
		if (got == 0)
			got = remove_stage(r, e);
	} else if (r->head.kind == JOURNAL_APPLY) {
		/* gone already: what was kept, if anything was, is where it belongs */
		got = undo_store_at(r->on->session_fd, r->head.generation, !aborted, &r->undo_fd,
		                    e);
		if (got == -ENOENT && aborted) {
			err_clear(e);
			got = 0;
		}
	}
	if (got == 0)
		got = end_journal(r, e);
	return got < 0 ? got : apply_at(r->on, AP_FINISHED, e);
}
