/*
 * Theory of operation. Each operation names what the reviewer saw. Here every such place is looked
 * at once more, by the name it has on the host, and each operation gets its fate: it is applied, it
 * is done already, or its path returns to review. What is deleted or moved away comes first, the
 * deepest first, so that for a directory it is known whether it will be empty; then what is made,
 * parents first, so that it is known whether there will be a directory to make it in.
 *
 * Whether the caller may do all this is asked here too, as far as the kernel answers such
 * questions. What it does not answer shows later, after the mark, and is then taken back.
 */
#include "base/fdio.h"
#include "work/apply_inner.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* A place on the host and what is there; dir_fd < 0: its directory is not there. */
struct checked {
	struct apply_place at;
	struct apply_seen now;
};

static void checked_close(struct checked *c)
{
	if (c->at.dir_fd >= 0)
		(void)close(c->at.dir_fd);
	c->at.dir_fd = -1;
}

/* name must outlive ret. Behind a link or a mount: of kind OTHER. */
static int look_closer(const struct apply_run *r, const char *name, struct checked *ret,
                       struct err *e)
{
	int got = apply_place(r->on->root_fd, name, &ret->at, e);

	ret->now = (struct apply_seen){ .kind = APPLY_ABSENT };
	if (got < 0)
		ret->at.dir_fd = -1;
	if (got < 0 && apply_errno_soft(got)) {
		ret->now.kind = got == -ELOOP || got == -EXDEV ? APPLY_OTHER : APPLY_ABSENT;
		err_clear(e);
		return 0;
	}
	return got < 0 ? got : apply_look_at(ret->at.dir_fd, ret->at.name, &ret->now, e);
}

/* A directory that the plan opens for writing first need not be writable now. */
static bool opened_by_plan(const struct apply_plan *p, const char *path)
{
	struct span dir = wpath_parent(span_str(path));

	for (uint32_t i = 0; i < p->chmod_count; i++) {
		const struct apply_op *op = &p->ops[p->chmod[i]];

		if ((op->mode & 0300) == 0300 &&
		    (span_equal(span_str(op->path), dir) || strcmp(op->path, path) == 0))
			return true;
	}
	return false;
}

static int may_write(const struct apply_plan *p, const struct apply_op *op,
                     const struct apply_place *at, struct err *e)
{
	int r = apply_may_write(at, e);

	if (r == -EACCES && opened_by_plan(p, op->path)) {
		err_clear(e);
		return 0;
	}
	return r < 0 ? err_wrap(e, "'%s'", op->path) : 0;
}

/* Will all that is in it be deleted or moved away? */
static int will_be_empty(const struct apply_plan *p, const char *host, const struct apply_place *at,
                         bool *ret, struct err *e)
{
	char path[WPATH_MAX + 1];
	struct dirent *d;
	int fd = -1;
	DIR *dir;
	int r = fd_openat(at->dir_fd, at->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &fd, e);

	if (r < 0)
		return r;
	dir = fdopendir(fd);
	if (!dir) {
		(void)close(fd);
		return err_set(e, -ENOMEM, "read directory '%s'", host);
	}
	*ret = true;
	while (*ret && (d = readdir(dir))) {
		const struct apply_op *op;
		struct buf b;

		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
			continue;
		buf_init(&b, path, sizeof(path));
		wpath_put(&b, span_str(host), span_str(d->d_name));
		op = buf_ok(&b) ? apply_plan_gone(p, buf_span(&b)) : NULL;
		*ret = op && apply_plan_fate(p, op) == APPLY_APPLIED;
	}
	(void)closedir(dir);
	return 0;
}

/* -- what goes --------------------------------------------------------------------------------- */

static int check_rmdir(struct apply_run *r, struct apply_plan *p, const struct apply_op *op,
                       const struct checked *c, uint8_t *fate, struct err *e)
{
	bool empty = false;
	int got;

	(void)r;
	if (!apply_is(&c->now, &op->seen)) {
		*fate = APPLY_BACK_CHANGED;
		return 0;
	}
	got = will_be_empty(p, op->path, &c->at, &empty, e);
	if (got == 0 && !empty)
		*fate = APPLY_STAYS;
	return got;
}

/* A moved object is known by its inode: a second apply finds it at its new name. */
static int check_moved(struct apply_run *r, const struct apply_op *op, uint8_t *fate, struct err *e)
{
	struct apply_seen now;
	int got = apply_look(r->on->root_fd, op->path, &now, e);

	if (got < 0)
		return got;
	*fate = apply_is(&now, &op->seen) ? APPLY_ALREADY : APPLY_BACK_CHANGED;
	return 0;
}

static int judge_gone(struct apply_run *r, struct apply_plan *p, const struct apply_op *op,
                      const struct checked *c, uint8_t *fate, struct err *e)
{
	if (c->now.kind == APPLY_ABSENT && op->what == APPLY_MOVE)
		return check_moved(r, op, fate, e);
	if (c->now.kind == APPLY_ABSENT) {
		*fate = APPLY_ALREADY;
		return 0;
	}
	if (c->now.kind == APPLY_OTHER || c->now.kind != op->seen.kind) {
		*fate = c->now.kind == APPLY_OTHER ? APPLY_BACK_KIND : APPLY_BACK_CHANGED;
		return 0;
	}
	if (op->what == APPLY_RMDIR)
		return check_rmdir(r, p, op, c, fate, e);
	/* of a directory that moves the mode may have changed: it keeps it */
	if (c->now.kind == APPLY_DIR ? !apply_is(&c->now, &op->seen)
	                             : !apply_same(&c->now, &op->seen))
		*fate = APPLY_BACK_CHANGED;
	return 0;
}

static int check_gone(struct apply_run *r, struct apply_plan *p, uint32_t i, struct err *e)
{
	const struct apply_op *op = &p->ops[i];
	struct checked c;
	int got = look_closer(r, op->what == APPLY_MOVE ? op->from : op->path, &c, e);

	if (got < 0)
		return got;
	p->found[i] = c.now;
	got = judge_gone(r, p, op, &c, &p->fate[i], e);
	if (got == 0 && p->fate[i] == APPLY_APPLIED)
		got = may_write(p, op, &c.at, e);
	checked_close(&c);
	return got;
}

/* -- what is made ------------------------------------------------------------------------------ */

/* Over something: it is what was seen, or what is wanted, or it returns to review. */
static int judge_put(struct apply_plan *p, const struct apply_op *op, const char *host,
                     const struct checked *c, uint8_t *fate, struct err *e)
{
	bool same = apply_same(&c->now, &op->seen) && c->now.kind != APPLY_ABSENT;
	bool good = false;
	int r = 0;

	if (c->now.kind == APPLY_OTHER) {
		*fate = APPLY_BACK_KIND;
	} else if (op->what == APPLY_MKDIR && c->now.kind == APPLY_DIR) {
		*fate = APPLY_ALREADY;
	} else if (c->now.kind == APPLY_ABSENT) {
		*fate = op->seen.kind == APPLY_ABSENT ? APPLY_APPLIED : APPLY_BACK_CHANGED;
	} else if (same && c->now.kind == APPLY_DIR) {
		r = will_be_empty(p, host, &c->at, &good, e);
		*fate = good ? APPLY_APPLIED : APPLY_BACK_CHANGED;
	} else if (same) {
		bool parts = c->now.kind == APPLY_FILE && c->now.nlink > 1;

		*fate = parts && !(op->flags & APPLY_BREAK_LINKS) ? APPLY_BACK_LINKS
		                                                  : APPLY_APPLIED;
	} else {
		if (op->what == APPLY_PUT)
			r = apply_equals(&c->at, op, &good, e);
		*fate = good                            ? APPLY_ALREADY
		        : op->seen.kind == APPLY_ABSENT ? APPLY_BACK_EXISTS
		                                        : APPLY_BACK_CHANGED;
	}
	return r;
}

static int check_host(struct apply_run *r, struct apply_plan *p, uint32_t i, const char *host,
                      struct err *e)
{
	const struct apply_op *op = &p->ops[i];
	struct checked c;
	int got = look_closer(r, host, &c, e);

	if (got < 0)
		return got;
	if (op->what != APPLY_MOVE)
		p->found[i] = c.now;
	if (c.at.dir_fd < 0)
		p->fate[i] = c.now.kind == APPLY_OTHER ? APPLY_BACK_KIND : APPLY_BACK_PARENT;
	else if (op->what != APPLY_MOVE)
		got = judge_put(p, op, host, &c, &p->fate[i], e);
	else if (c.now.kind != APPLY_ABSENT)
		p->fate[i] = APPLY_BACK_EXISTS;
	if (got == 0 && p->fate[i] == APPLY_APPLIED)
		got = may_write(p, op, &c.at, e);
	checked_close(&c);
	return got;
}

static int check_made(struct apply_run *r, struct apply_plan *p, uint32_t i, struct err *e)
{
	const struct apply_op *op = &p->ops[i];
	char host[WPATH_MAX + 1];

	if (p->fate[i] != APPLY_APPLIED)
		return 0; /* a move that does not take place */
	switch (apply_plan_where(p, op->path, op, host)) {
	case WHERE_NO_PARENT:
		p->fate[i] = APPLY_BACK_PARENT;
		return 0;
	case WHERE_HOST:
		return check_host(r, p, i, host, e);
	case WHERE_VACANT:
		break;
	}
	return 0;
}

/* -- modes ------------------------------------------------------------------------------------- */

static int judge_chmod(const struct apply_op *op, const struct checked *c, uint8_t *fate,
                       struct err *e)
{
	uint32_t mask = op->flags & APPLY_EXACT ? 07777 : 0777;

	if (c->now.kind != op->seen.kind) {
		*fate = APPLY_BACK_CHANGED;
		return 0;
	}
	if ((c->now.mode & mask) == (op->mode & mask)) {
		*fate = APPLY_ALREADY;
		return 0;
	}
	if (!apply_same(&c->now, &op->seen)) {
		*fate = APPLY_BACK_CHANGED;
		return 0;
	}
	if (c->now.kind == APPLY_FILE && c->now.nlink > 1 && !(op->flags & APPLY_BREAK_LINKS)) {
		*fate = APPLY_BACK_LINKS;
		return 0;
	}
	return apply_may_chmod(&c->at, e);
}

static int check_chmod(struct apply_run *r, struct apply_plan *p, uint32_t i, struct err *e)
{
	const struct apply_op *op = &p->ops[i];
	const struct apply_op *gone = apply_plan_gone(p, span_str(op->path));
	char host[WPATH_MAX + 1];
	const char *name = host;
	struct checked c;
	int got;

	if (apply_plan_maker(p, op)) /* undo's: it was opened, and then deleted */
		return 0;
	/* a directory may be opened for writing in order to be emptied and deleted */
	if (gone && gone->what == APPLY_RMDIR && (op->mode & 0300) == 0300)
		name = op->path;
	else if (apply_plan_where(p, op->path, NULL, host) != WHERE_HOST)
		p->fate[i] = APPLY_BACK_PARENT;
	if (p->fate[i] != APPLY_APPLIED)
		return 0;
	got = look_closer(r, name, &c, e);
	if (got < 0)
		return got;
	p->found[i] = c.now;
	got = judge_chmod(op, &c, &p->fate[i], e);
	checked_close(&c);
	return got < 0 ? err_wrap(e, "'%s'", op->path) : 0;
}

int apply_check(struct apply_run *r, struct apply_plan *p, struct err *e)
{
	int got = 0;

	for (uint32_t i = 0; i < p->count; i++)
		p->fate[i] = APPLY_APPLIED;
	for (uint32_t i = p->gone_count; got == 0 && i > 0; i--)
		got = check_gone(r, p, p->gone[i - 1], e);
	for (uint32_t i = 0; got == 0 && i < p->made_count; i++)
		got = check_made(r, p, p->made[i], e);
	for (uint32_t i = 0; got == 0 && i < p->chmod_count; i++)
		got = check_chmod(r, p, p->chmod[i], e);
	return got;
}
