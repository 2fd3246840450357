/*
 * Theory of operation. Everything new is made here, complete with mode and attributes, in a
 * directory of ours (0700) at the workspace's root: the same file system, so that a rename is
 * enough later, and a lack of room shows before anything is changed. Each object has a slot, a name
 * made of its operation's number. O_TMPFILE would add nothing: the directory hides what is in it.
 *
 * Times are set last, all to one moment just before the mark: whatever the host builds while we
 * write gigabytes is older than what it was built from. The moment is taken from the exact clock,
 * while the kernel stamps files with the last tick, so an edit in the same tick has another time.
 */
#include "base/clock.h"
#include "base/fdio.h"
#include "work/apply_inner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum { STAGE_CHUNK_BYTES = 1 << 20, STAGE_BOUNCE_BYTES = 32 << 10 };

void apply_slot_name(uint32_t slot, char letter, char ret[APPLY_SLOT_NAME_MAX])
{
	(void)snprintf(ret, APPLY_SLOT_NAME_MAX, "%08x%c", slot, letter);
}

/* -- the directory ----------------------------------------------------------------------------- */

static int probe_file(int dir_fd, const char *name, struct err *e)
{
	_own_fd_ int fd = -1;

	return fd_openat(dir_fd, name, O_WRONLY | O_CREAT | O_NOFOLLOW, 0600, &fd, e);
}

/* NOREPLACE is what makes an addition safe, so it must be there; EXCHANGE need not. */
static int probe(struct apply_run *r, struct err *e)
{
	int fd = r->stage_fd;
	int got = probe_file(fd, "probe-a", e);

	(void)unlinkat(fd, "probe-c", 0);
	if (got == 0)
		got = probe_file(fd, "probe-b", e);
	if (got < 0)
		return got;
	if (renameat2(fd, "probe-a", fd, "probe-c", RENAME_NOREPLACE) < 0) {
		got = errno == EINVAL || errno == ENOSYS ? -EOPNOTSUPP : -errno;
		(void)err_set(e, got, "this file system cannot rename without replacing");
	} else {
		r->exchange = !r->on->no_exchange &&
		              renameat2(fd, "probe-c", fd, "probe-b", RENAME_EXCHANGE) == 0;
	}
	(void)unlinkat(fd, "probe-a", 0);
	(void)unlinkat(fd, "probe-b", 0);
	(void)unlinkat(fd, "probe-c", 0);
	return got;
}

int apply_stage_open(struct apply_run *r, bool make, struct err *e)
{
	char name[APPLY_STAGE_NAME_MAX];
	int got;

	apply_stage_name(r->on, name);
	if (make && mkdirat(r->on->root_fd, name, 0700) < 0)
		return err_sys(e, "make '%s' in the workspace", name);
	if (make) {
		got = apply_at(r->on, AP_STAGE_MADE, e);
		if (got < 0)
			return got;
	}
	got = fd_openat(r->on->root_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &r->stage_fd,
	                e);
	if (got == 0)
		got = probe(r, e);
	return got < 0 ? got : apply_at(r->on, AP_STAGE_PROBED, e);
}

/* -- one file ---------------------------------------------------------------------------------- */

/* Through memory, where the kernel will not copy between these two. Returns bytes, or -1. */
static ssize_t copy_by_hand(int src, off_t in, int dst, off_t out, size_t want)
{
	uint8_t room[STAGE_BOUNCE_BYTES];
	ssize_t n = pread(src, room, want < sizeof(room) ? want : sizeof(room), in);

	return n > 0 ? pwrite(dst, room, (size_t)n, out) : n;
}

static int copy_extent(int src, int dst, const struct apply_extent *x, struct err *e)
{
	uint64_t done = 0;

	while (done < x->len) {
		off_t in = (off_t)(x->from + done), out = (off_t)(x->at + done);
		size_t want = x->len - done < STAGE_CHUNK_BYTES ? x->len - done : STAGE_CHUNK_BYTES;
		off_t from = in, to = out;
		ssize_t n = copy_file_range(src, &in, dst, &out, want, 0);

		if (n < 0 && (errno == EXDEV || errno == EOPNOTSUPP || errno == EINVAL))
			n = copy_by_hand(src, from, dst, to, want);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "write");
		if (n == 0)
			return err_set(e, -ENODATA, "its content ends too early");
		done += (uint64_t)n;
	}
	return 0;
}

static int write_content(struct apply_run *r, const struct apply_content *c, int fd, struct err *e)
{
	_own_fd_ int src = -1;
	int got = apply_content_open(c, &src, e);

	if (got == 0 && c->bytes)
		got = fd_write_all(fd, c->bytes, c->size, e);
	else if (got == 0 && c->name)
		got = fd_copy_sparse(src, fd, e);
	for (size_t i = 0; got == 0 && !c->bytes && !c->name && i < c->extents_count; i++) {
		got = copy_extent(c->fd, fd, &c->extents[i], e);
		if (got == 0 && i == 0)
			got = apply_at(r->on, AP_FILE_PART, e);
	}
	if (got == 0 && ftruncate(fd, (off_t)c->size) < 0)
		got = err_sys(e, "set the size");
	return got;
}

/*
 * Group and owner of what it replaces, where we may give them; else it is the caller's. A group
 * that is lost is one that may no longer write: no reason to fail.
 */
static void keep_owner(int fd, const struct stat *of)
{
	int ignored = fchown(fd, geteuid() == 0 ? of->st_uid : (uid_t)-1, of->st_gid);

	(void)ignored;
}

/* fd: the new one. from: what it replaces, or, of EXACT, what it restores. */
static int take_meta(const struct apply_op *op, int fd, int from, bool *lost, struct err *e)
{
	bool exact = op->flags & APPLY_EXACT;
	struct stat st;

	if (fstat(from, &st) < 0)
		return err_sys(e, "stat");
	keep_owner(fd, &st);
	return apply_copy_xattrs(from, fd, exact, lost, e);
}

/* An O_PATH fd of the file whose attributes are kept; -1: none. */
static int meta_source(struct apply_run *r, const struct apply_op *op, const struct journal_step *s,
                       int *ret_fd, struct err *e)
{
	struct apply_place at;
	int got;

	if (op->flags & APPLY_EXACT)
		return fd_openat(op->content.fd, op->content.name, O_PATH | O_NOFOLLOW, 0, ret_fd,
		                 e);
	if (s->type != STEP_SWAP || s->was.kind != APPLY_FILE)
		return 0;
	got = apply_place(r->on->root_fd, s->other, &at, e);
	if (got < 0)
		return got;
	got = fd_openat(at.dir_fd, at.name, O_PATH | O_NOFOLLOW, 0, ret_fd, e);
	(void)close(at.dir_fd);
	return got;
}

static int set_meta(struct apply_run *r, const struct apply_op *op, const struct journal_step *s,
                    int fd, struct err *e)
{
	mode_t mode = op->mode & (op->flags & APPLY_EXACT ? 07777 : 0777);
	_own_fd_ int from = -1;
	bool lost = false;
	int got = meta_source(r, op, s, &from, e);

	if (got == 0 && from >= 0)
		got = take_meta(op, fd, from, &lost, e);
	if (got == 0)
		got = apply_at(r->on, AP_FILE_XATTRS, e);
	if (got < 0)
		return got;
	if (op->what == APPLY_MKDIR)
		mode |= 0700; /* until all is in it: see add_late() */
	if (fchmod(fd, mode) < 0)
		return err_sys(e, "set the mode");
	if (lost)
		apply_say(r, op->path, APPLY_LABEL_LOST);
	return apply_at(r->on, AP_FILE_MODE, e);
}

static int stage_file(struct apply_run *r, const struct apply_op *op, const struct journal_step *s,
                      const char *slot, struct err *e)
{
	_own_fd_ int fd = -1;
	int got = fd_openat(r->stage_fd, slot, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600, &fd,
	                    e);

	if (got == 0)
		got = apply_at(r->on, AP_FILE_MADE, e);
	if (got == 0)
		got = write_content(r, &op->content, fd, e);
	if (got == 0)
		got = apply_at(r->on, AP_FILE_BYTES, e);
	return got < 0 ? got : set_meta(r, op, s, fd, e);
}

static int stage_link(struct apply_run *r, const struct apply_op *op, const char *slot,
                      struct err *e)
{
	if (symlinkat(op->target, r->stage_fd, slot) < 0)
		return err_sys(e, "make a link");
	return apply_at(r->on, AP_LINK_MADE, e);
}

static int stage_dir(struct apply_run *r, const struct apply_op *op, const struct journal_step *s,
                     const char *slot, struct err *e)
{
	_own_fd_ int fd = -1;
	int got;

	if (mkdirat(r->stage_fd, slot, 0700) < 0)
		return err_sys(e, "make a directory");
	got = fd_openat(r->stage_fd, slot, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &fd, e);
	if (got == 0)
		got = set_meta(r, op, s, fd, e);
	return got < 0 ? got : apply_at(r->on, AP_DIR_MADE, e);
}

static int stage_one(struct apply_run *r, const struct apply_op *op, const struct journal_step *s,
                     struct err *e)
{
	char slot[APPLY_SLOT_NAME_MAX];
	int got;

	apply_slot_name(s->slot, 's', slot);
	if (op->what == APPLY_MKDIR)
		got = stage_dir(r, op, s, slot, e);
	else if (op->kind == APPLY_LINK)
		got = stage_link(r, op, slot, e);
	else
		got = stage_file(r, op, s, slot, e);
	return got < 0 ? err_wrap(e, "'%s'", op->path) : 0;
}

/* -- all of them ------------------------------------------------------------------------------- */

static bool has_slot(const struct journal_step *s)
{
	return s->type == STEP_IN || s->type == STEP_SWAP;
}

static int stamp(struct apply_run *r, const struct apply_op *op, const char *slot, uint64_t now_ns,
                 struct err *e)
{
	struct timespec t[2] = { { .tv_nsec = UTIME_OMIT } };
	struct stat st;

	t[1].tv_sec = (time_t)(now_ns / 1000000000);
	t[1].tv_nsec = (long)(now_ns % 1000000000);
	if (op->flags & APPLY_EXACT) {
		if (fstatat(op->content.fd, op->content.name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return err_sys(e, "stat '%s' in the undo store", op->content.name);
		t[1] = st.st_mtim;
	}
	if (utimensat(r->stage_fd, slot, t, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, "set the time of '%s'", op->path);
	return 0;
}

/* True: it is on disk. What cannot be opened is left to a sync of the whole file system. */
static bool sync_slot(struct apply_run *r, const char *slot)
{
	_own_fd_ int fd = -1;

	if (fd_openat(r->stage_fd, slot, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, &fd, NULL) < 0)
		return false;
	return fsync(fd) == 0;
}

static int stamp_all(struct apply_run *r, struct apply_plan *p, bool *ret_each, struct err *e)
{
	uint64_t now_ns = clock_real_ns();

	for (uint32_t i = 0; i < p->steps_count; i++) {
		struct journal_step *s = &p->steps[i];
		const struct apply_op *op = &p->ops[p->step_op[i]];
		bool late = s->type == STEP_CHMOD && (s->flags & STEP_LATE);
		char slot[APPLY_SLOT_NAME_MAX];
		int got = 0;

		if (!has_slot(s) && !late)
			continue;
		apply_slot_name(s->slot, 's', slot);
		if (!late)
			got = stamp(r, op, slot, now_ns, e);
		if (got == 0)
			got = apply_at(r->on, AP_STAMPED, e);
		if (got == 0)
			got = apply_look_at(r->stage_fd, slot, &s->now, e);
		if (got < 0)
			return got;
		if (late) {
			s->was = s->now;
			s->now.mode = op->mode & (op->flags & APPLY_EXACT ? 07777 : 0777);
		} else if (*ret_each && s->now.kind != APPLY_LINK) {
			*ret_each = sync_slot(r, slot);
			got = apply_at(r->on, AP_SLOT_SYNCED, e);
		}
		if (got < 0)
			return got;
	}
	return 0;
}

int apply_stage_all(struct apply_run *r, struct apply_plan *p, struct err *e)
{
	bool each = p->steps_count <= APPLY_SYNC_EACH_MAX;
	int got = 0;

	for (uint32_t i = 0; got == 0 && i < p->steps_count; i++)
		if (has_slot(&p->steps[i]))
			got = stage_one(r, &p->ops[p->step_op[i]], &p->steps[i], e);
	if (got == 0)
		got = apply_at(r->on, AP_STAGED, e);
	if (got == 0)
		got = stamp_all(r, p, &each, e);
	if (got < 0)
		return got;
	if (each ? fsync(r->stage_fd) < 0 || fsync(r->lock_fd) < 0 : syncfs(r->stage_fd) < 0)
		return err_sys(e, "sync the staged files");
	return apply_at(r->on, AP_STAGE_SYNCED, e);
}
