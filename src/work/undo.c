#include "work/undo.h"

#include "base/fdio.h"
#include "work/apply_inner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* One operation of the plan, and the words it points at. */
struct undo_op {
	char slot[APPLY_SLOT_NAME_MAX];
	char *target;
};

struct undo_plan {
	int dir_fd; /* undo/<generation> */
	struct journal_read *journal;
	struct apply_op *ops;
	struct undo_op *more;
	size_t count;
};

static void undo_plan_free(struct undo_plan *u)
{
	if (!u)
		return;
	for (size_t i = 0; u->more && i < u->count; i++)
		free(u->more[i].target);
	free(u->ops);
	free(u->more);
	journal_read_free(u->journal);
	own_close_fd(&u->dir_fd);
	free(u);
}
OWN_DEFINE(struct undo_plan, undo_plan_free)

static bool kept(const struct undo_plan *u, const struct journal_step *s, char letter)
{
	char name[APPLY_SLOT_NAME_MAX];

	apply_slot_name(s->slot, letter, name);
	return faccessat(u->dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/*
 * As it was left. The rename gave it a ctime we do not know, and an undo of a later apply may have
 * brought it back as another inode. Its mtime, a moment of the exact clock, tells it.
 */
static struct apply_seen as_left(struct apply_seen s)
{
	s.ctime_ns = 0;
	s.ino = 0;
	return s;
}

static int read_target(const struct undo_plan *u, struct undo_op *more, struct err *e)
{
	char target[WPATH_MAX + 2];
	ssize_t n = readlinkat(u->dir_fd, more->slot, target, sizeof(target) - 1);

	if (n < 0)
		return err_sys(e, "read a link of the undo store");
	target[n] = '\0';
	more->target = strdup(target);
	return more->target ? 0 : err_set(e, -ENOMEM, "out of memory");
}

/* A directory gets a mode that closes it last, when all is in it: that is how it was left. */
static struct apply_seen as_closed(const struct undo_plan *u, const char *path,
                                   struct apply_seen over)
{
	for (uint32_t i = 0; over.kind == APPLY_DIR && i < u->journal->steps_count; i++) {
		const struct journal_step *s = &u->journal->steps[i];

		if (s->type == STEP_CHMOD && (s->flags & STEP_LATE) && strcmp(s->other, path) == 0)
			over.mode = s->now.mode;
	}
	return over;
}

/* What lies in the store comes back to path, over what the apply had left there. */
static int restore(struct undo_plan *u, const struct journal_step *s, const char *path,
                   struct apply_seen over, struct err *e)
{
	struct undo_op *more = &u->more[u->count];
	struct apply_op *op = &u->ops[u->count];
	struct stat st;
	int r = 0;

	apply_slot_name(s->slot, 'o', more->slot);
	if (fstatat(u->dir_fd, more->slot, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, "stat '%s' in the undo store", more->slot);
	*op = (struct apply_op){
		.what = S_ISDIR(st.st_mode) ? APPLY_MKDIR : APPLY_PUT,
		.kind = S_ISLNK(st.st_mode) ? APPLY_LINK : APPLY_FILE,
		.flags = APPLY_EXACT | APPLY_BREAK_LINKS,
		.mode = st.st_mode & 07777,
		.path = path,
		.seen = as_left(as_closed(u, path, over)),
		.content = { .fd = u->dir_fd, .name = more->slot, .size = (uint64_t)st.st_size },
	};
	u->count++;
	if (S_ISLNK(st.st_mode))
		r = read_target(u, more, e);
	op->target = more->target;
	return r;
}

static void plain(struct undo_plan *u, struct apply_op op)
{
	op.seen = as_left(op.seen);
	u->ops[u->count++] = op;
}

static void undo_mode(struct undo_plan *u, const struct journal_step *s)
{
	/* a late one is of a directory that we made: it is opened again, to be emptied */
	plain(u, (struct apply_op){ .what = APPLY_CHMOD,
	                            .flags = APPLY_EXACT | APPLY_BREAK_LINKS,
	                            .mode = s->was.mode,
	                            .path = s->flags & STEP_EARLY ? s->path : s->other,
	                            .seen = s->now });
}

static int undo_step(struct undo_plan *u, const struct journal_step *s, struct err *e)
{
	const struct apply_seen nothing = { .kind = APPLY_ABSENT };

	switch ((enum step_type)s->type) {
	case STEP_OUT:
		return kept(u, s, 'o') ? restore(u, s, s->path, nothing, e) : 0;
	case STEP_SWAP:
		return kept(u, s, 'o') ? restore(u, s, s->other, s->now, e) : 0;
	case STEP_IN:
		if (!kept(u, s, 'k'))
			plain(u, (struct apply_op){ .what = s->now.kind == APPLY_DIR ? APPLY_RMDIR
			                                                             : APPLY_DELETE,
			                            .path = s->path,
			                            .seen = s->now });
		return 0;
	case STEP_MOVE:
	case STEP_MOVE_IN:
		plain(u, (struct apply_op){ .what = APPLY_MOVE,
		                            .path = s->path,
		                            .from = s->other,
		                            .seen = s->was });
		u->ops[u->count - 1].seen.ino = s->was.ino; /* no undo makes it anew */
		return 0;
	case STEP_CHMOD:
		undo_mode(u, s);
		return 0;
	case STEP_MOVE_OUT:
	case STEP_TYPES:
		break;
	}
	return 0;
}

static int open_generation(int session_fd, uint32_t generation, struct undo_plan **ret,
                           struct err *e)
{
	_own_(undo_plan_free) struct undo_plan *u = calloc(1, sizeof(*u));
	int r;

	if (!u)
		return err_set(e, -ENOMEM, "out of memory");
	u->dir_fd = -1;
	r = undo_store_at(session_fd, generation, false, &u->dir_fd, e);
	if (r == 0)
		r = journal_open(u->dir_fd, APPLY_JOURNAL_NAME, &u->journal, e);
	if (r < 0)
		return r;
	if (!u->journal->head_ok || !u->journal->marks[JOURNAL_DONE] ||
	    u->journal->marks[JOURNAL_ABORT] || u->journal->head.kind != JOURNAL_APPLY)
		return err_set(e, -ENOENT, "apply %u was not carried out", generation);
	*ret = steal_ptr(&u);
	return 0;
}

int undo_last(int session_fd, uint32_t *ret_generation, struct err *e)
{
	uint32_t n;
	int r = undo_store_highest(session_fd, &n, e);

	for (; r == 0 && n > 0; n--) {
		_own_(undo_plan_free) struct undo_plan *u = NULL;
		int got = open_generation(session_fd, n, &u, e);

		if (got == 0)
			break;
		if (got != -ENOENT)
			return got;
		err_clear(e);
	}
	if (r == 0)
		*ret_generation = n;
	return r;
}

int undo_run(const struct apply_on *on, uint32_t generation, enum apply_mode mode,
             struct apply_result *ret, struct err *e)
{
	_own_(undo_plan_free) struct undo_plan *u = NULL;
	int r = generation ? 0 : undo_last(on->session_fd, &generation, e);

	if (r < 0)
		return r;
	if (generation == 0)
		return err_set(e, -ENOENT, "nothing was applied that could be undone");
	r = open_generation(on->session_fd, generation, &u, e);
	if (r < 0)
		return r;
	u->ops = calloc((size_t)u->journal->steps_count + 1, sizeof(*u->ops));
	u->more = calloc((size_t)u->journal->steps_count + 1, sizeof(*u->more));
	if (!u->ops || !u->more)
		return err_set(e, -ENOMEM, "out of memory");
	for (uint32_t i = 0; r == 0 && i < u->journal->steps_count; i++)
		r = undo_step(u, &u->journal->steps[i], e);
	return r < 0 ? r : apply_run_as(on, u->ops, u->count, mode, generation, ret, e);
}
