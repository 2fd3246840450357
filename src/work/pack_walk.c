#include "work/pack_internal.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/kernel_gaps.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum {
	PROGRESS_STEP = 256, /* things, or megabytes in pieces, between two words to the caller */
	AHEAD_EACH = 8,      /* directories of a level that are read ahead */
	AHEAD_WAKE = 4,      /* so many at once, once it was woken for a level's first */
};

#define _own_list_  __attribute__((cleanup(list_free)))
#define _own_ahead_ __attribute__((cleanup(ahead_dir_free)))

int pack_progress(struct pack *p, uint64_t work, struct err *e)
{
	int r;

	p->worked += work;
	if (!p->opt->progress || p->worked - p->told_at < PROGRESS_STEP)
		return 0;
	p->told_at = p->worked;
	if (p->image)
		p->totals.image_bytes = erofs_bytes(p->image);
	r = p->opt->progress(p->opt->progress_arg, &p->totals);
	return r == 0 ? 0 : err_set(e, -ECANCELED, "packing the workspace was stopped");
}

int pack_record(struct pack *p, const struct host_record *r, struct erofs_attr *ret_attr,
                struct err *e)
{
	uint8_t bytes[MANIFEST_RECORD_BYTES];

	*ret_attr = (struct erofs_attr){ .mtime_s = r->mtime_s,
		                         .mtime_ns = r->mtime_ns,
		                         .index = p->index,
		                         .mode = (uint16_t)(r->mode & 0777) };
	if (p->index >= PACK_INODES_MAX)
		return err_set(e, -E2BIG, "the workspace has over %u files", PACK_INODES_MAX);
	p->index++;
	manifest_put_record(bytes, r);
	return p->manifest ? out_put(p->manifest, bytes, sizeof(bytes), e) : 0;
}

static int leave_out_dir(struct pack *p, enum pack_why why, int error, struct err *e)
{
	struct pack_record r = { .path = pack_path(p), .why = why, .error = error, .dir = true };

	if (error == EMFILE || error == ENFILE || error == ENOMEM)
		return err_set(e, -error, "cannot go on packing: %s", strerrordesc_np(error));
	return pack_leave_out(p, &r, e);
}

static enum pack_why why_of(int error)
{
	return error == ENOENT || error == ENOTDIR || error == ESTALE ? PACK_WHY_VANISHED
	       : error == EXDEV                                       ? PACK_WHY_MOUNT
	       : error == ELOOP                                       ? PACK_WHY_TORN
	                                                              : PACK_WHY_UNREADABLE;
}

/* -- one directory, once its children have entered */

static int finish_dir(struct pack *p, const struct level *l, const struct list *names,
                      const struct erofs_slot *slot, uint64_t parent_nid,
                      const struct host_record *record, struct err *e)
{
	struct erofs_attr attr;
	int r = pack_record(p, record, &attr, e);

	p->totals.dirs++;
	if (record->mode & 07000)
		p->totals.setid++;
	if (r < 0 || !p->image)
		return r;
	erofs_dir_begin(p->image, slot, parent_nid);
	for (uint32_t i = 0; r == 0 && i < names->count; i++) {
		const struct list_entry *at = &names->at[i];
		enum work_kind kind = at->type == DT_DIR   ? WORK_DIR
		                      : at->type == DT_LNK ? WORK_LINK
		                                           : WORK_FILE;

		if (at->nid != 0)
			r = erofs_dir_add(p->image, span_of(list_name(names, at), at->len), at->nid,
			                  kind, e);
	}
	return r < 0 ? r : erofs_dir_end(p->image, &attr, l->dirs, e);
}

static int walk_entries(struct pack *p, struct level *l, struct list *names, struct err *e);

/* What is at p's path enters as a directory; *ret_nid 0: it could not be read. */
static int walk_dir(struct pack *p, struct level *l, uint64_t parent_nid,
                    const struct host_record *record, uint64_t *ret_nid, struct err *e)
{
	_own_list_ struct list names = { 0 };
	struct erofs_slot slot = { .nid = 1 };
	int r;

	if (l->ready) {
		names = l->ready->names;
		l->ready->names = (struct list){ 0 };
		r = 0;
	} else {
		r = list_read(&names, l->dir_fd, l->grafts, l->graft_count, UINT32_MAX, p->scratch,
		              e);
	}
	if (r < 0 && r != -ENOMEM)
		return leave_out_dir(p, why_of(-r), -r, e);
	if (r == 0 && p->opt->same)
		r = pack_same_dir(p, l, record, e);
	if (r == 0 && p->image)
		r = erofs_reserve(p->image, names.names_bytes, names.count, &slot, e);
	else
		p->totals.image_bytes += EROFS_INODE_BYTES + names.names_bytes +
		                         (uint64_t)names.count * EROFS_DIRENT_BYTES;
	if (r < 0)
		return r;
	l->nid = slot.nid;
	r = walk_entries(p, l, &names, e);
	if (r == 0)
		r = finish_dir(p, l, &names, &slot, parent_nid ? parent_nid : slot.nid, record, e);
	if (r == 0)
		*ret_nid = slot.nid;
	return r;
}

/* -- ways into a directory */

static bool never(const struct pack *p, const struct stat *st)
{
	for (size_t i = 0; i < p->opt->never_count; i++)
		if (p->opt->never[i].dev == st->st_dev && p->opt->never[i].ino == st->st_ino)
			return true;
	return false;
}

/* Of a look when the clock had said stamp_ns; 0: now. */
static bool racy(const struct stat *st, uint64_t stamp_ns)
{
	uint64_t ctime_ns =
		(uint64_t)st->st_ctim.tv_sec * 1000000000 + (uint64_t)st->st_ctim.tv_nsec;

	return ctime_ns + MANIFEST_SETTLE_NS >= (stamp_ns != 0 ? stamp_ns : clock_stamp_ns());
}

/* The directory of that name in the earlier base, or NULL. `room` is what the answer lies in. */
static struct base_cursor *earlier_dir(const struct pack *p, const struct level *in,
                                       const char *name, struct base_cursor *room)
{
	struct base_node old;

	if (!in->old ||
	    base_cursor_find(p->opt->earlier, in->old, span_str(name), &old, NULL) < 0 ||
	    old.kind != WORK_DIR)
		return NULL;
	*room = base_cursor_of(&old);
	return room;
}

/* The directory's fd is open; the level's grafts, dev and outside are the caller's. */
static int enter_dir(struct pack *p, const struct level *in, struct level *l, const struct stat *st,
                     const char *name, uint64_t *ret_nid, struct err *e)
{
	struct host_record record;
	struct base_cursor below;
	int r;

	if (never(p, st))
		return leave_out_dir(p, PACK_WHY_OURS, 0, e);
	l->old = earlier_dir(p, in, name, &below);
	l->depth = in->depth + 1;
	host_record_of(st, &record);
	record.flags = (uint8_t)((l->outside ? HOST_OUTSIDE : 0) |
	                         (racy(st, l->ready ? l->ready->stamp_ns : 0) ? HOST_RACY : 0));
	r = walk_dir(p, l, in->nid, &record, ret_nid, e);
	l->old = NULL;
	return r;
}

/* Below 0 is a negative errno of the directory's own. */
static int open_dir(const struct pack *p, const struct level *in, const char *name, int *ret_fd,
                    struct stat *ret_st)
{
	uint64_t resolve = RESOLVE_NO_SYMLINKS | (p->opt->cross_mounts ? 0 : RESOLVE_NO_XDEV);
	_own_fd_ int fd = -1;
	int r;

	r = fd_open_beneath(in->dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, resolve, &fd,
	                    NULL);
	if (r < 0)
		return r;
	if (fstat(fd, ret_st) < 0)
		return -errno;
	if (ret_st->st_dev != in->dev && !p->opt->cross_mounts)
		return -EXDEV;
	*ret_fd = steal_fd(&fd);
	return 0;
}

static int pack_dir(struct pack *p, const struct level *in, const char *name, uint64_t *ret_nid,
                    struct err *e)
{
	_own_ahead_ struct ahead_dir got = { .fd = -1 };
	struct level l = { .outside = in->outside };
	int r = 0;

	if (p->ahead && ahead_take(p->ahead, in, name, &got))
		l.ready = &got;
	else
		r = open_dir(p, in, name, &got.fd, &got.st);
	if (r < 0)
		return leave_out_dir(p, why_of(-r), -r, e);
	l.dir_fd = got.fd;
	l.dev = got.st.st_dev;
	return enter_dir(p, in, &l, &got.st, name, ret_nid, e);
}

static int graft_dir(struct pack *p, const struct level *in, const char *name,
                     const struct pack_graft *g, uint64_t *ret_nid, struct err *e)
{
	struct host_record made = {
		.mtime_s = g->mtime_s, .mode = g->mode, .kind = WORK_DIR, .flags = HOST_MADE
	};
	struct level l = { .dir_fd = -1,
		           .outside = in->outside || g->dir_fd >= 0,
		           .dev = in->dev,
		           .grafts = g->children,
		           .graft_count = g->count };
	struct base_cursor below;
	_own_fd_ int fd = -1;
	struct stat st;
	int r = 0;

	if (g->dir_fd == PACK_FD_HOST && in->dir_fd >= 0)
		r = open_dir(p, in, name, &fd, &st);
	if (g->dir_fd >= 0 && fstat(g->dir_fd, &st) < 0)
		r = -errno;
	if (r < 0 && r != -ENOENT && r != -ENOTDIR)
		return leave_out_dir(p, why_of(-r), -r, e);
	l.dir_fd = g->dir_fd >= 0 ? g->dir_fd : fd;
	if (l.dir_fd >= 0) {
		l.dev = st.st_dev;
		return enter_dir(p, in, &l, &st, name, ret_nid, e);
	}
	l.depth = in->depth + 1;
	if (p->opt->same)
		l.old = earlier_dir(p, in, name, &below);
	return walk_dir(p, &l, in->nid, &made, ret_nid, e);
}

static int pack_graft(struct pack *p, const struct level *in, const char *name,
                      const struct pack_graft *g, struct list_entry *at, struct err *e)
{
	if (g->kind == WORK_DIR) {
		at->type = DT_DIR;
		return graft_dir(p, in, name, g, &at->nid, e);
	}
	at->type = g->kind == WORK_LINK ? DT_LNK : DT_REG;
	if (p->opt->same)
		return pack_same_graft(p, in, name, g, &at->nid, e);
	return pack_graft_file(p, g, &at->nid, e);
}

/* -- one name */

static uint8_t type_of(mode_t mode)
{
	return S_ISREG(mode)    ? DT_REG
	       : S_ISDIR(mode)  ? DT_DIR
	       : S_ISLNK(mode)  ? DT_LNK
	       : S_ISFIFO(mode) ? DT_FIFO
	       : S_ISSOCK(mode) ? DT_SOCK
	                        : DT_CHR;
}

static enum work_kind kind_of(uint8_t type)
{
	return type == DT_DIR ? WORK_DIR : type == DT_LNK ? WORK_LINK : WORK_FILE;
}

static enum pack_why why_special(uint8_t type)
{
	return type == DT_FIFO   ? PACK_WHY_FIFO
	       : type == DT_SOCK ? PACK_WHY_SOCKET
	                         : PACK_WHY_DEVICE;
}

static int skip(struct pack *p, const struct level *in, const struct list_entry *at,
                const char *name, const struct pack_answer *answer, struct err *e)
{
	struct pack_record r = { .path = pack_path(p),
		                 .why = answer->why,
		                 .rule = answer->rule,
		                 .dir = at->type == DT_DIR };
	struct stat st;

	if (at->type == DT_REG && fstatat(in->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		r.bytes = (uint64_t)st.st_size;
	return pack_leave_out(p, &r, e);
}

/* What the caller thinks of it. 1: it is dealt with; 0: it enters as it is. */
static int judge(struct pack *p, const struct level *in, const char *name, struct list_entry *at,
                 struct err *e)
{
	struct pack_entry entry = {
		.path = pack_path(p), .kind = kind_of(at->type), .dir_fd = in->dir_fd, .name = name
	};
	struct pack_answer answer = { .verdict = PACK_ENTER };
	int r;

	if (!p->opt->judge)
		return 0;
	r = p->opt->judge(p->opt->judge_arg, &entry, &answer, e);
	if (r != 0)
		return r < 0 ? r : -ECANCELED;
	switch (answer.verdict) {
	case PACK_ENTER:
		return 0;
	case PACK_SKIP:
		assert(answer.why > PACK_WHY_NONE && answer.why < PACK_WHY_COUNT);
		r = skip(p, in, at, name, &answer, e);
		return r < 0 ? r : 1;
	case PACK_REPLACE:
		r = pack_graft(p, in, name, answer.graft, at, e);
		return r < 0 ? r : 1;
	}
	return 0;
}

static int pack_entry(struct pack *p, const struct level *in, const char *name,
                      struct list_entry *at, struct err *e)
{
	struct pack_record special = { .path = pack_path(p) };
	struct stat st;
	int r;

	if (at->graft >= 0)
		return pack_graft(p, in, name, &in->grafts[at->graft], at, e);
	if (at->type == DT_UNKNOWN) {
		if (fstatat(in->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			special.why = why_of(errno);
			special.error = special.why == PACK_WHY_UNREADABLE ? errno : 0;
			return pack_leave_out(p, &special, e);
		}
		at->type = type_of(st.st_mode);
	}
	if (at->type != DT_REG && at->type != DT_DIR && at->type != DT_LNK) {
		special.why = why_special(at->type);
		return pack_leave_out(p, &special, e);
	}
	r = judge(p, in, name, at, e);
	if (r != 0)
		return r < 0 ? r : 0;
	if (at->type == DT_DIR)
		return pack_dir(p, in, name, &at->nid, e);
	return at->type == DT_LNK ? pack_link(p, in, name, &at->nid, e)
	                          : pack_file(p, in, name, &at->nid, e);
}

/* Does a path one name longer still have the form? */
static bool fits(const struct pack *p, const struct level *l, const struct list_entry *at)
{
	return l->depth < WPATH_DEPTH_MAX && p->path_len + 1 + at->len <= WPATH_MAX;
}

/* One word about all that is too deep in this directory: their own paths have not the form. */
static int note_deep(struct pack *p, const struct level *l, const struct list *names, struct err *e)
{
	struct pack_record r = { .path = pack_path(p), .why = PACK_WHY_DEEP };

	for (uint32_t i = 0; i < names->count; i++)
		if (!fits(p, l, &names->at[i]))
			return pack_leave_out(p, &r, e);
	return 0;
}

/*
 * Has one more directory read ahead, from name *at on: what the earlier base has. So nothing is
 * listed that was excluded then.
 */
static void push_one(struct pack *p, const struct level *l, const struct list *names, uint32_t *at)
{
	struct base_node old;

	for (; *at < names->count; ++*at) {
		const struct list_entry *next = &names->at[*at];
		struct span name = span_of(list_name(names, next), next->len);

		if (next->type != DT_DIR || next->graft >= 0 ||
		    base_lookup_at(p->opt->earlier, &l->old->dir, name, &old, NULL) < 0)
			continue;
		if (ahead_push(p->ahead, l, list_name(names, next)))
			++*at;
		return;
	}
}

static int walk_entries(struct pack *p, struct level *l, struct list *names, struct err *e)
{
	size_t dir_len = p->path_len;
	bool ahead = p->ahead && l->old && l->dir_fd >= 0;
	uint32_t pushed = 0;
	int r = note_deep(p, l, names, e);

	for (int i = 0; ahead && i < AHEAD_EACH; i++)
		push_one(p, l, names, &pushed);
	/* the first of them is the walk's own next step */
	if (ahead)
		ahead_wake(p->ahead, 2);
	for (uint32_t i = 0; r == 0 && i < names->count; i++) {
		struct list_entry *at = &names->at[i];
		size_t len = dir_len;

		if (!fits(p, l, at))
			continue;
		if (len > 0)
			p->path[len++] = '/';
		memcpy(p->path + len, list_name(names, at), at->len);
		p->path_len = len + at->len;
		p->look = l->ready && l->ready->looks && l->ready->looks[i].st_nlink > 0
		                  ? &l->ready->looks[i]
		                  : NULL;
		p->look_ns = p->look ? l->ready->stamp_ns : 0;
		r = pack_entry(p, l, list_name(names, at), at, e);
		if (r == 0)
			r = pack_progress(p, 1, e);
		if (at->nid != 0 && at->type == DT_DIR)
			l->dirs++;
		p->path_len = dir_len;
		if (pushed <= i)
			pushed = i + 1;
		if (ahead && at->type == DT_DIR) {
			push_one(p, l, names, &pushed);
			ahead_wake(p->ahead, AHEAD_WAKE);
		}
	}
	if (ahead)
		ahead_drop(p->ahead, l);
	return r;
}

int pack_walk(struct pack *p, int root_fd, const struct stat *st, struct err *e)
{
	struct level l = { .dir_fd = root_fd,
		           .dev = st->st_dev,
		           .grafts = p->opt->grafts,
		           .graft_count = p->opt->graft_count };
	struct host_record record;
	struct base_cursor below;
	struct base_node old;
	uint64_t nid = 0;
	int r;

	if (p->opt->earlier) {
		base_root(p->opt->earlier, &old);
		below = base_cursor_of(&old);
		l.old = &below;
	}
	host_record_of(st, &record);
	record.flags = racy(st, 0) ? HOST_RACY : 0;
	r = walk_dir(p, &l, 0, &record, &nid, e);
	if (r == 0 && nid == 0)
		return err_set(e, -EACCES, "the workspace's directory cannot be read");
	return r;
}
