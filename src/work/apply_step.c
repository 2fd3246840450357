/*
 * Theory of operation. A step is one rename, or one mode. Where a new object is tells whether its
 * step was done, for nobody but us moves things in the staging directory: in its slot, not yet;
 * elsewhere, done. So no step needs a record of its own, may be done again, and the same code
 * serves apply, recovery and recovery of the recovery.
 *
 *	OUT       slot empty: not done. Then the object stands there, or was moved back by a check
 *	IN        the new object in its slot: not done
 *	SWAP      the new object in its slot: not done. After an exchange the old one is there.
 *	          Without exchange the old one first goes to a slot of its own ('o')
 *	MOVE      known by the inode, at one end or the other
 *	CHMOD     known by the mode
 *
 * Each rename is a compare-and-swap: what it moved out is looked at where nobody else can reach it,
 * and moved back if it is not what was reviewed. Then, or if the host has put something in the way,
 * the step is not done, and both versions are kept: the host's where it is, ours in its slot.
 *
 * A negative answer is the machine's (no room, no right, a disk's fault), never the host's edit.
 */
#include "base/fdio.h"
#include "work/apply_inner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

/* What a step is about: its place, its slots and who is in them. */
struct step_view {
	struct apply_place at;
	char slot[APPLY_SLOT_NAME_MAX], old_slot[APPLY_SLOT_NAME_MAX];
	struct apply_seen in_slot, in_old;
};

static void view_close(struct step_view *v)
{
	if (v->at.dir_fd >= 0)
		(void)close(v->at.dir_fd);
}

/* path NULL: the slots alone. *ret_gone: there is no such directory (any more). */
static int view_open(struct apply_run *r, const struct journal_step *s, const char *path,
                     struct step_view *v, bool *ret_gone, struct err *e)
{
	int got;

	v->at.dir_fd = -1;
	*ret_gone = false;
	apply_slot_name(s->slot, 's', v->slot);
	apply_slot_name(s->slot, 'o', v->old_slot);
	got = apply_look_at(r->stage_fd, v->slot, &v->in_slot, e);
	if (got == 0)
		got = apply_look_at(r->stage_fd, v->old_slot, &v->in_old, e);
	if (got < 0 || !path)
		return got;
	got = apply_place(r->on->root_fd, path, &v->at, e);
	if (got == 0)
		return 0;
	v->at.dir_fd = -1;
	if (!apply_errno_soft(got))
		return got;
	*ret_gone = true;
	err_clear(e);
	return 0;
}

enum moved { MOVED, MOVED_NOT };

/* A rename that replaces nothing. MOVED_NOT: nothing to move, or something in the way. */
static int move(int from_fd, const char *from, int to_fd, const char *to, enum moved *ret,
                struct err *e)
{
	*ret = MOVED;
	if (renameat2(from_fd, from, to_fd, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != ENOENT && errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR)
		return err_sys(e, "rename '%s' to '%s'", from, to);
	*ret = MOVED_NOT;
	return 0;
}

/* The slot's object goes to its place, for the first time or again; what is in the way stays. */
static int put_in_place(struct apply_run *r, const struct step_view *v, const char *slot,
                        enum apply_point reached, enum apply_stepped *ret, struct err *e)
{
	enum moved moved;
	int got = move(r->stage_fd, slot, v->at.dir_fd, v->at.name, &moved, e);

	if (got < 0)
		return got;
	if (moved == MOVED_NOT) {
		*ret = STEPPED_NOT;
		return 0;
	}
	return apply_at(r->on, reached, e);
}

static bool is_new(const struct apply_seen *seen, const struct journal_step *s)
{
	return seen->kind == s->now.kind && seen->ino == s->now.ino;
}

/* What came out is what was reviewed, and holds nothing that was not. */
static bool came_out_well(struct apply_run *r, const struct journal_step *s, const char *slot,
                          const struct apply_seen *seen)
{
	if (!apply_is(seen, &s->was))
		return false;
	return seen->kind != APPLY_DIR || s->type == STEP_MOVE_OUT ||
	       apply_dir_empty(r->stage_fd, slot);
}

/* -- forward ----------------------------------------------------------------------------------- */

static int forward_out(struct apply_run *r, const struct journal_step *s, struct step_view *v,
                       enum apply_stepped *ret, struct err *e)
{
	enum moved moved;
	int got;

	/* what is full is not even for a moment taken away */
	if (v->in_slot.kind == APPLY_ABSENT && (s->flags & STEP_SOFT) &&
	    faccessat(v->at.dir_fd, v->at.name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 &&
	    !apply_dir_empty(v->at.dir_fd, v->at.name)) {
		*ret = STEPPED_NOT;
		return 0;
	}
	if (v->in_slot.kind == APPLY_ABSENT) {
		got = move(v->at.dir_fd, v->at.name, r->stage_fd, v->slot, &moved, e);
		if (got == 0 && moved == MOVED)
			got = apply_at(r->on, AP_OUT_RENAMED, e);
		if (got < 0 || moved == MOVED_NOT) /* the host deleted it as well */
			return got;
		got = apply_look_at(r->stage_fd, v->slot, &v->in_slot, e);
		if (got < 0)
			return got;
	}
	if (!came_out_well(r, s, v->slot, &v->in_slot)) {
		*ret = STEPPED_NOT;
		got = move(r->stage_fd, v->slot, v->at.dir_fd, v->at.name, &moved, e);
		return got;
	}
	return apply_at(r->on, AP_OUT_CHECKED, e);
}

static int forward_in(struct apply_run *r, struct step_view *v, enum apply_stepped *ret,
                      struct err *e)
{
	if (v->in_slot.kind == APPLY_ABSENT)
		return 0;
	return put_in_place(r, v, v->slot, AP_IN_RENAMED, ret, e);
}

/* Without exchange: out, then in. A reader may for a moment find nothing. */
static int forward_out_in(struct apply_run *r, const struct journal_step *s, struct step_view *v,
                          enum apply_stepped *ret, struct err *e)
{
	enum moved moved;
	int got = 0;

	if (v->in_slot.kind == APPLY_ABSENT)
		return 0;
	if (v->in_old.kind == APPLY_ABSENT) {
		got = move(v->at.dir_fd, v->at.name, r->stage_fd, v->old_slot, &moved, e);
		if (got == 0 && moved == MOVED_NOT)
			*ret = STEPPED_NOT;
		if (got == 0)
			got = apply_at(r->on, AP_SWAP_OUT, e);
		if (got < 0 || *ret == STEPPED_NOT)
			return got;
		got = apply_look_at(r->stage_fd, v->old_slot, &v->in_old, e);
		if (got < 0)
			return got;
	}
	if (!came_out_well(r, s, v->old_slot, &v->in_old)) {
		*ret = STEPPED_NOT;
		return move(r->stage_fd, v->old_slot, v->at.dir_fd, v->at.name, &moved, e);
	}
	return forward_in(r, v, ret, e);
}

/* What came out is a third state: it goes back, unless the host has by now edited what is there. */
static int swap_again(struct apply_run *r, const struct journal_step *s, struct step_view *v,
                      struct err *e)
{
	struct apply_seen there;
	int got = apply_look_at(v->at.dir_fd, v->at.name, &there, e);

	if (got < 0 || !apply_is(&there, &s->now))
		return got;
	if (there.kind == APPLY_DIR && !apply_dir_empty(v->at.dir_fd, v->at.name))
		return 0;
	if (renameat2(r->stage_fd, v->slot, v->at.dir_fd, v->at.name, RENAME_EXCHANGE) < 0)
		return err_sys(e, "exchange '%s' back", s->path);
	return apply_at(r->on, AP_SWAP_BACK, e);
}

static int forward_swap(struct apply_run *r, const struct journal_step *s, struct step_view *v,
                        enum apply_stepped *ret, struct err *e)
{
	int got;

	if (v->in_old.kind != APPLY_ABSENT || (is_new(&v->in_slot, s) && !r->exchange))
		return forward_out_in(r, s, v, ret, e);
	if (v->in_slot.kind == APPLY_ABSENT)
		return 0;
	if (is_new(&v->in_slot, s)) {
		if (renameat2(r->stage_fd, v->slot, v->at.dir_fd, v->at.name, RENAME_EXCHANGE) <
		    0) {
			if (errno != ENOENT)
				return err_sys(e, "exchange '%s'", s->path);
			*ret = STEPPED_NOT;
			return 0;
		}
		got = apply_at(r->on, AP_SWAP_EXCHANGED, e);
		if (got == 0)
			got = apply_look_at(r->stage_fd, v->slot, &v->in_slot, e);
		if (got < 0)
			return got;
	}
	if (!came_out_well(r, s, v->slot, &v->in_slot)) {
		*ret = STEPPED_NOT;
		return swap_again(r, s, v, e);
	}
	return apply_at(r->on, AP_SWAP_CHECKED, e);
}

/* Where is the object of a move? Neither: the host took it away. */
static int find_moved(struct apply_run *r, const struct journal_step *s, bool *ret_from,
                      bool *ret_to, struct err *e)
{
	struct apply_seen seen;
	int got = apply_look(r->on->root_fd, s->other, &seen, e);

	*ret_from = false;
	*ret_to = got == 0 && apply_is(&seen, &s->was);
	if (got < 0 || *ret_to)
		return got;
	got = apply_look(r->on->root_fd, s->path, &seen, e);
	*ret_from = got == 0 && apply_is(&seen, &s->was);
	return got;
}

/* Straight from one name to another, in either direction. */
static int move_straight(struct apply_run *r, const char *from, const char *to,
                         enum apply_stepped *ret, struct err *e)
{
	struct apply_place a = { .dir_fd = -1 }, b = { .dir_fd = -1 };
	enum moved moved = MOVED_NOT;
	int got = apply_place(r->on->root_fd, from, &a, e);

	if (got == 0) {
		got = apply_place(r->on->root_fd, to, &b, e);
		if (got == 0) {
			got = move(a.dir_fd, a.name, b.dir_fd, b.name, &moved, e);
			(void)close(b.dir_fd);
		}
		(void)close(a.dir_fd);
	}
	if (apply_errno_soft(got) && moved == MOVED_NOT && got != -EXDEV) {
		err_clear(e);
		got = 0;
	}
	if (got == 0 && moved == MOVED_NOT)
		*ret = STEPPED_NOT;
	return got;
}

static int forward_move(struct apply_run *r, const struct journal_step *s, struct step_view *v,
                        enum apply_stepped *ret, struct err *e)
{
	bool from, to;
	int got;

	if (s->type == STEP_MOVE_OUT && v->in_slot.kind != APPLY_ABSENT)
		return 0;
	got = find_moved(r, s, &from, &to, e);
	if (got < 0 || to)
		return got;
	if (!from) {
		*ret = STEPPED_NOT;
		return 0;
	}
	if (s->type == STEP_MOVE) {
		got = move_straight(r, s->path, s->other, ret, e);
		return got < 0 ? got : apply_at(r->on, AP_MOVE_RENAMED, e);
	}
	got = forward_out(r, s, v, ret, e);
	return got < 0 ? got : apply_at(r->on, AP_MOVE_OUT, e);
}

/* A directory of the user never stays with us: if its new name is taken it goes back to its old. */
static int forward_move_in(struct apply_run *r, const struct journal_step *s, struct step_view *v,
                           bool gone, enum apply_stepped *ret, struct err *e)
{
	struct step_view back;
	enum moved moved;
	int got = 0;

	if (v->in_slot.kind == APPLY_ABSENT)
		return 0; /* done, or MOVE_OUT has said why not */
	if (gone)
		*ret = STEPPED_NOT;
	else
		got = forward_in(r, v, ret, e);
	if (got < 0 || *ret == STEPPED)
		return got < 0 ? got : apply_at(r->on, AP_MOVE_IN, e);
	got = view_open(r, s, s->path, &back, &gone, e);
	if (got == 0 && !gone)
		got = move(r->stage_fd, v->slot, back.at.dir_fd, back.at.name, &moved, e);
	view_close(&back);
	return got;
}

/* -- modes, both ways -------------------------------------------------------------------------- */

/* 0, -ENOENT (not there, or another), or what the kernel said. */
static int set_mode_at(int root_fd, const char *path, const struct journal_step *s, uint32_t from,
                       uint32_t to, struct err *e)
{
	struct apply_place at;
	_own_fd_ int fd = -1;
	char name[40];
	struct stat st;
	int got = apply_place(root_fd, path, &at, e);

	if (got < 0)
		return apply_errno_soft(got) ? -ENOENT : got;
	got = fd_openat(at.dir_fd, at.name, O_PATH | O_NOFOLLOW, 0, &fd, e);
	(void)close(at.dir_fd);
	if (got < 0)
		return got;
	if (fstat(fd, &st) < 0)
		return err_sys(e, "stat '%s'", path);
	if (st.st_ino != s->was.ino || S_ISLNK(st.st_mode))
		return -ENOENT;
	if ((st.st_mode & 07777) == to)
		return 0;
	if ((st.st_mode & 07777) != from)
		return -ENOENT;
	/* by this name an O_PATH fd will do, and no link can be put in between */
	(void)snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	if (chmod(name, (mode_t)to) < 0)
		return err_sys(e, "set the mode of '%s'", path);
	return 0;
}

/* By one of its names: which of them it has depends on how far the moves have come. */
static int set_mode(struct apply_run *r, const struct journal_step *s, uint32_t from, uint32_t to,
                    enum apply_stepped *ret, struct err *e)
{
	int got = set_mode_at(r->on->root_fd, s->path, s, from, to, e);

	if (got == -ENOENT)
		got = set_mode_at(r->on->root_fd, s->other, s, from, to, e);
	if (got != -ENOENT)
		return got;
	err_clear(e);
	*ret = STEPPED_NOT;
	return 0;
}

static int forward_at(struct apply_run *r, const struct journal_step *s, struct step_view *v,
                      enum apply_stepped *ret, struct err *e)
{
	int got;

	switch ((enum step_type)s->type) {
	case STEP_OUT:
		return forward_out(r, s, v, ret, e);
	case STEP_IN:
		return forward_in(r, v, ret, e);
	case STEP_SWAP:
		return forward_swap(r, s, v, ret, e);
	case STEP_MOVE:
	case STEP_MOVE_OUT:
		return forward_move(r, s, v, ret, e);
	case STEP_CHMOD:
		got = set_mode(r, s, s->was.mode, s->now.mode, ret, e);
		return got < 0 ? got : apply_at(r->on, AP_CHMOD_DONE, e);
	case STEP_MOVE_IN:
		return forward_move_in(r, s, v, false, ret, e);
	case STEP_TYPES:
		break;
	}
	return 0;
}

/* The directory of the place is not there. */
static int forward_gone(struct apply_run *r, const struct journal_step *s, struct step_view *v,
                        enum apply_stepped *ret, struct err *e)
{
	switch ((enum step_type)s->type) {
	case STEP_OUT: /* what was to be deleted went with it */
		return 0;
	case STEP_MOVE:
	case STEP_MOVE_OUT: /* it may have moved already, and its directory gone after that */
		return forward_move(r, s, v, ret, e);
	case STEP_CHMOD:
		return set_mode(r, s, s->was.mode, s->now.mode, ret, e);
	case STEP_MOVE_IN:
		return forward_move_in(r, s, v, true, ret, e);
	case STEP_IN:
	case STEP_SWAP:
	case STEP_TYPES:
		break;
	}
	if (v->in_slot.kind != APPLY_ABSENT)
		*ret = STEPPED_NOT;
	return 0;
}

int apply_step_forward(struct apply_run *r, const struct journal_step *s, enum apply_stepped *ret,
                       struct err *e)
{
	enum apply_stepped done = STEPPED;
	struct step_view v;
	bool gone;
	int got = view_open(r, s, s->type == STEP_MOVE_IN ? s->other : s->path, &v, &gone, e);

	if (got < 0)
		return got;
	if (gone)
		got = forward_gone(r, s, &v, &done, e);
	else
		got = forward_at(r, s, &v, &done, e);
	view_close(&v);
	if (got == 0)
		*ret = done;
	return got;
}

/* -- back -------------------------------------------------------------------------------------- */

static int back_out(struct apply_run *r, struct step_view *v, const char *slot,
                    const struct apply_seen *seen, enum apply_stepped *ret, struct err *e)
{
	if (seen->kind == APPLY_ABSENT)
		return 0;
	return put_in_place(r, v, slot, AP_BACK_RENAMED, ret, e);
}

/* The new object goes back to its slot, if it is as we made it. */
static int back_in(struct apply_run *r, const struct journal_step *s, struct step_view *v,
                   enum apply_stepped *ret, struct err *e)
{
	struct apply_seen there;
	enum moved moved;
	int got;

	if (v->in_slot.kind != APPLY_ABSENT)
		return 0;
	got = apply_look_at(v->at.dir_fd, v->at.name, &there, e);
	if (got < 0)
		return got;
	if (!apply_is(&there, &s->now) ||
	    (there.kind == APPLY_DIR && !apply_dir_empty(v->at.dir_fd, v->at.name))) {
		*ret = there.kind == APPLY_ABSENT ? STEPPED : STEPPED_NOT;
		return 0;
	}
	got = move(v->at.dir_fd, v->at.name, r->stage_fd, v->slot, &moved, e);
	if (got == 0)
		got = apply_at(r->on, AP_BACK_RENAMED, e);
	return got;
}

static int back_swap(struct apply_run *r, const struct journal_step *s, struct step_view *v,
                     enum apply_stepped *ret, struct err *e)
{
	struct apply_seen there;
	int got;

	if (v->in_old.kind != APPLY_ABSENT) {
		got = back_in(r, s, v, ret, e);
		if (got < 0 || *ret == STEPPED_NOT)
			return got;
		return back_out(r, v, v->old_slot, &v->in_old, ret, e);
	}
	if (v->in_slot.kind == APPLY_ABSENT || is_new(&v->in_slot, s))
		return 0;
	got = apply_look_at(v->at.dir_fd, v->at.name, &there, e);
	if (got < 0)
		return got;
	/* a directory that came to hold something is the host's by now */
	if (!apply_is(&there, &s->now) ||
	    (there.kind == APPLY_DIR && !apply_dir_empty(v->at.dir_fd, v->at.name))) {
		*ret = STEPPED_NOT;
		return 0;
	}
	if (renameat2(r->stage_fd, v->slot, v->at.dir_fd, v->at.name, RENAME_EXCHANGE) < 0)
		return err_sys(e, "exchange '%s' back", s->path);
	return apply_at(r->on, AP_BACK_EXCHANGED, e);
}

static int back_move(struct apply_run *r, const struct journal_step *s, enum apply_stepped *ret,
                     struct err *e)
{
	bool from, to;
	int got = find_moved(r, s, &from, &to, e);

	if (got < 0 || !to)
		return got;
	got = move_straight(r, s->other, s->path, ret, e);
	return got < 0 ? got : apply_at(r->on, AP_BACK_RENAMED, e);
}

/* From its new name into the slot again: as OUT, of an object known by its inode. */
static int back_move_in(struct apply_run *r, const struct journal_step *s, struct step_view *v,
                        enum apply_stepped *ret, struct err *e)
{
	struct apply_seen there;
	enum moved moved;
	int got;

	if (v->in_slot.kind != APPLY_ABSENT)
		return 0;
	got = apply_look_at(v->at.dir_fd, v->at.name, &there, e);
	if (got < 0 || !apply_is(&there, &s->was))
		return got;
	got = move(v->at.dir_fd, v->at.name, r->stage_fd, v->slot, &moved, e);
	if (got == 0 && moved == MOVED_NOT)
		*ret = STEPPED_NOT;
	return got < 0 ? got : apply_at(r->on, AP_BACK_RENAMED, e);
}

static int back_at(struct apply_run *r, const struct journal_step *s, struct step_view *v,
                   enum apply_stepped *ret, struct err *e)
{
	int got;

	switch ((enum step_type)s->type) {
	case STEP_OUT:
	case STEP_MOVE_OUT:
		return back_out(r, v, v->slot, &v->in_slot, ret, e);
	case STEP_IN:
		return back_in(r, s, v, ret, e);
	case STEP_SWAP:
		return back_swap(r, s, v, ret, e);
	case STEP_MOVE:
		return back_move(r, s, ret, e);
	case STEP_MOVE_IN:
		return back_move_in(r, s, v, ret, e);
	case STEP_CHMOD:
		got = set_mode(r, s, s->now.mode, s->was.mode, ret, e);
		return got < 0 ? got : apply_at(r->on, AP_BACK_CHMOD, e);
	case STEP_TYPES:
		break;
	}
	return 0;
}

int apply_step_back(struct apply_run *r, const struct journal_step *s, enum apply_stepped *ret,
                    struct err *e)
{
	const char *path = s->type == STEP_MOVE_IN ? s->other : s->path;
	enum apply_stepped done = STEPPED;
	struct step_view v;
	bool gone;
	int got = view_open(r, s, path, &v, &gone, e);

	if (got == 0)
		got = apply_at(r->on, AP_BACK_STEP, e);
	if (got == 0 && !gone)
		got = back_at(r, s, &v, &done, e);
	else if (got == 0 && s->type == STEP_MOVE)
		got = back_move(r, s, &done, e);
	else if (got == 0 && s->type == STEP_CHMOD)
		got = set_mode(r, s, s->now.mode, s->was.mode, &done, e);
	else if (got == 0 && s->type == STEP_OUT && v.in_slot.kind != APPLY_ABSENT)
		done = STEPPED_NOT; /* its directory went: it is kept with us */
	view_close(&v);
	if (got == 0)
		*ret = done;
	return got;
}
