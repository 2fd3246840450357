#include "work/pack_internal.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/kernel_gaps.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Is it our own want of something, and not the file's fault? */
static bool ours(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM;
}

static int leave_out(struct pack *p, enum pack_why why, uint64_t bytes, int error, struct err *e)
{
	struct pack_record r = { .path = pack_path(p), .why = why, .bytes = bytes, .error = error };

	return pack_leave_out(p, &r, e);
}

/* What a call on it said: gone, elsewhere, or not for us. */
static int trouble(struct pack *p, int error, struct err *e)
{
	if (ours(error))
		return err_set(e, -error, "cannot go on packing: %s", strerrordesc_np(error));
	if (error == ENOENT || error == ENOTDIR || error == ESTALE)
		return leave_out(p, PACK_WHY_VANISHED, 0, 0, e);
	if (error == EXDEV)
		return leave_out(p, PACK_WHY_MOUNT, 0, 0, e);
	if (error == ELOOP) /* a link by now */
		return leave_out(p, PACK_WHY_TORN, 0, 0, e);
	return leave_out(p, PACK_WHY_UNREADABLE, 0, error, e);
}

/* Later changes within the coarsest clock of a file system may leave the same times. */
static bool racy(const struct stat *st, uint64_t stamp_ns)
{
	uint64_t settle = stamp_ns - MANIFEST_SETTLE_NS;
	int64_t s = (int64_t)(settle / 1000000000), ns = (int64_t)(settle % 1000000000);

	return st->st_ctim.tv_sec != s ? st->st_ctim.tv_sec > s : st->st_ctim.tv_nsec >= ns;
}

static int record_of(struct pack *p, const struct level *in, const struct stat *st,
                     uint64_t stamp_ns, struct host_record *ret_record, struct erofs_attr *ret_attr,
                     struct err *e)
{
	host_record_of(st, ret_record);
	if (racy(st, stamp_ns))
		ret_record->flags |= HOST_RACY;
	if (in->outside)
		ret_record->flags |= HOST_OUTSIDE;
	return pack_record(p, ret_record, ret_attr, e);
}

/* -- several names of one file */

static size_t shared_slot(const struct pack *p, const struct host_record *r)
{
	uint64_t hash = (r->ino ^ r->dev << 32) * UINT64_C(0x9e3779b97f4a7c15);
	size_t at = (size_t)(hash >> 40) % SHARED_MAX;

	while (p->shared[at].record.nlink != 0 &&
	       (p->shared[at].record.ino != r->ino || p->shared[at].record.dev != r->dev))
		at = (at + 1) % SHARED_MAX;
	return at;
}

/* The content that another name has brought in, if it is still the same. */
static bool shared_find(const struct pack *p, const struct stat *st, struct erofs_content *ret)
{
	struct host_record r;
	const struct shared *s;

	if (st->st_nlink < 2 || !p->shared)
		return false;
	host_record_of(st, &r);
	s = &p->shared[shared_slot(p, &r)];
	r = s->record;
	r.flags = 0;
	if (s->record.nlink == 0 || !host_record_untouched(&r, st))
		return false;
	*ret = s->content;
	return true;
}

/* Past the table's size each name's content is stored for itself. */
static int shared_keep(struct pack *p, const struct host_record *r, const struct erofs_content *c,
                       struct err *e)
{
	if (r->nlink < 2 || c->block == 0 || p->shared_count >= SHARED_MAX / 4 * 3)
		return 0;
	if (!p->shared)
		p->shared = calloc(SHARED_MAX, sizeof(*p->shared));
	if (!p->shared)
		return err_set(e, -ENOMEM, "out of memory");
	p->shared[shared_slot(p, r)] = (struct shared){ *r, *c };
	p->shared_count++;
	return 0;
}

/* -- from the earlier base */

/* The same thing's node in the earlier base, if the host's is untouched since. Else p->stale. */
static bool reusable(struct pack *p, const struct level *in, const char *name, struct stat *ret_st,
                     struct base_node *ret)
{
	struct base *old = p->opt->earlier;
	struct host_record was;

	p->stale.block = 0;
	if (!in->old || base_cursor_find(old, in->old, span_str(name), ret, NULL) < 0 ||
	    ret->kind != WORK_FILE || base_host_record(old, ret, &was, NULL) < 0)
		return false;
	/* holes are found again, and a small content stands behind its inode */
	if (ret->layout_ == EROFS_CHUNKS ||
	    (ret->layout_ == EROFS_PLAIN && ret->size <= EROFS_INLINE_MAX))
		return false;
	if (p->look)
		*ret_st = *p->look;
	else if (fstatat(in->dir_fd, name, ret_st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	if (host_record_untouched(&was, ret_st) && (uint64_t)ret_st->st_size == ret->size)
		return true;
	if (p->opt->over && ret->layout_ == EROFS_PLAIN)
		p->stale = (struct erofs_content){ ret->size, ret->where_ };
	return false;
}

/*
 * Its content is begun and whole; or stays where it is, *ret_kept, if that is written over. 1: it
 * is gone, and nothing is begun.
 */
static int reuse(struct pack *p, const struct base_node *node, struct erofs_content *ret_kept,
                 struct err *e)
{
	uint8_t *room = NULL;
	size_t len = 0;
	int r;

	if (p->opt->over && node->layout_ == EROFS_PLAIN) {
		*ret_kept = (struct erofs_content){ node->size, node->where_ };
		r = erofs_keep(p->image, ret_kept, e);
		return r == -ESTALE ? 1 : r;
	}
	erofs_begin(p->image, node->size);
	if (node->layout_ == EROFS_PLAIN)
		return erofs_copy(p->image, base_image_fd(p->opt->earlier),
		                  (uint64_t)node->where_ * EROFS_BLOCK_BYTES, e);
	for (uint64_t off = 0; off < node->size; off += len) {
		r = erofs_room(p->image, &room, &len, e);
		if (r == 0)
			r = base_read(p->opt->earlier, node, off, room, len, e);
		if (r < 0)
			return r;
		erofs_filled(p->image, len);
	}
	return 0;
}

/* -- files */

void pack_count_file(struct pack *p, const struct stat *st)
{
	p->totals.files++;
	p->totals.file_bytes += (uint64_t)st->st_size;
	if (st->st_mode & 07000)
		p->totals.setid++;
}

/* The content is begun and whole, or is there already: `there`, with a block. */
static int finish_file(struct pack *p, const struct level *in, const struct stat *st,
                       uint64_t stamp_ns, const struct erofs_content *there, uint64_t *ret_nid,
                       struct err *e)
{
	struct erofs_content content = *there;
	struct host_record record;
	struct erofs_attr attr;
	int r = record_of(p, in, st, stamp_ns, &record, &attr, e);

	if (r < 0)
		return r;
	pack_count_file(p, st);
	if (content.block != 0)
		r = erofs_share(p->image, &attr, &content, ret_nid, e);
	else
		r = erofs_end(p->image, &attr, ret_nid, &content, e);
	return r < 0 ? r : shared_keep(p, &record, &content, e);
}

/* A name of a file whose content another name has brought in. */
static int finish_other(struct pack *p, const struct level *in, const struct stat *st,
                        uint64_t stamp_ns, const struct erofs_content *there, uint64_t *ret_nid,
                        struct err *e)
{
	p->totals.hard_links++;
	return finish_file(p, in, st, stamp_ns, there, ret_nid, e);
}

/* What reusable() found. 1: it is gone from there. */
static int reuse_file(struct pack *p, const struct level *in, const struct stat *st,
                      const struct base_node *node, uint64_t stamp_ns, uint64_t *ret_nid,
                      struct err *e)
{
	struct erofs_content content = { 0 };
	int r;

	if (shared_find(p, st, &content))
		return finish_other(p, in, st, stamp_ns, &content, ret_nid, e);
	r = reuse(p, node, &content, e);
	if (r != 0)
		return r;
	p->totals.reused_files++;
	p->totals.reused_bytes += node->size;
	return finish_file(p, in, st, stamp_ns, &content, ret_nid, e);
}

static int read_file(struct pack *p, const struct level *in, int fd, struct stat *st,
                     uint64_t stamp_ns, uint64_t *ret_nid, struct err *e)
{
	struct erofs_content content = { 0 };
	struct read_result got;
	int r;

	if (shared_find(p, st, &content))
		return finish_other(p, in, st, stamp_ns, &content, ret_nid, e);
	r = pack_read(p, fd, st, stamp_ns, &got, e);
	if (r < 0)
		return r;
	if (got.trouble)
		return trouble(p, got.trouble, e);
	if (got.torn)
		return leave_out(p, PACK_WHY_TORN, (uint64_t)st->st_size, 0, e);
	return finish_file(p, in, st, stamp_ns, &content, ret_nid, e);
}

/* Only what is a file of at most our size, here. *ret_enters says so. */
static int judge_file(struct pack *p, const struct level *in, const struct stat *st,
                      bool *ret_enters, struct err *e)
{
	*ret_enters = false;
	if (!S_ISREG(st->st_mode))
		return leave_out(p, PACK_WHY_TORN, 0, 0, e);
	if (st->st_dev != in->dev && !p->opt->cross_mounts)
		return leave_out(p, PACK_WHY_MOUNT, 0, 0, e);
	if ((uint64_t)st->st_size > PACK_FILE_BYTES_MAX)
		return leave_out(p, PACK_WHY_LARGE, (uint64_t)st->st_size, 0, e);
	*ret_enters = true;
	return 0;
}

static uint64_t stored_bytes(const struct stat *st)
{
	uint64_t whole = ((uint64_t)st->st_size + EROFS_BLOCK_BYTES - 1) / EROFS_BLOCK_BYTES *
	                 EROFS_BLOCK_BYTES;
	uint64_t blocks = (uint64_t)st->st_blocks * 512;

	if ((uint64_t)st->st_size <= EROFS_INLINE_MAX)
		whole = (uint64_t)st->st_size;
	return EROFS_INODE_BYTES + (blocks < whole && blocks > 0 ? blocks : whole);
}

static int only_count(struct pack *p, const struct level *in, const char *name, uint64_t *ret_nid,
                      struct err *e)
{
	struct stat st;
	bool enters;
	int r;

	if (fstatat(in->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return trouble(p, errno, e);
	r = judge_file(p, in, &st, &enters, e);
	if (r < 0 || !enters)
		return r;
	if (faccessat(in->dir_fd, name, R_OK, AT_EACCESS) < 0)
		return trouble(p, errno, e);
	pack_count_file(p, &st);
	p->totals.image_bytes += stored_bytes(&st);
	*ret_nid = 1;
	return 0;
}

int pack_file(struct pack *p, const struct level *in, const char *name, uint64_t *ret_nid,
              struct err *e)
{
	uint64_t resolve = RESOLVE_NO_SYMLINKS, stamp_ns = clock_stamp_ns();
	struct base_node node;
	_own_fd_ int fd = -1;
	struct stat st;
	bool enters;
	int r;

	if (p->opt->same) {
		r = pack_same_file(p, in, name, ret_nid, e);
		if (r <= 0)
			return r;
	} else if (!p->image) {
		return only_count(p, in, name, ret_nid, e);
	} else if (reusable(p, in, name, &st, &node)) {
		r = reuse_file(p, in, &st, &node, p->look ? p->look_ns : stamp_ns, ret_nid, e);
		if (r <= 0)
			return r;
	}
	if (!p->opt->cross_mounts)
		resolve |= RESOLVE_NO_XDEV;
	/* O_NONBLOCK: by now it may be a pipe that nobody writes to */
	r = fd_open_beneath(in->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0,
	                    resolve, &fd, NULL);
	if (r < 0)
		return trouble(p, -r, e);
	if (fstat(fd, &st) < 0)
		return trouble(p, errno, e);
	r = judge_file(p, in, &st, &enters, e);
	if (r < 0 || !enters)
		return r;
	return p->opt->same ? pack_differs(e) : read_file(p, in, fd, &st, stamp_ns, ret_nid, e);
}

/* -- links */

static int put_link(struct pack *p, const struct erofs_attr *attr, struct span target,
                    uint64_t *ret_nid, struct err *e)
{
	p->totals.links++;
	if (!p->image) {
		p->totals.image_bytes += EROFS_INODE_BYTES + target.len;
		*ret_nid = 1;
		return 0;
	}
	return erofs_link(p->image, attr, target, ret_nid, e);
}

int pack_link(struct pack *p, const struct level *in, const char *name, uint64_t *ret_nid,
              struct err *e)
{
	char target[EROFS_LINK_MAX + 1];
	struct host_record record;
	struct erofs_attr attr = { 0 };
	uint64_t stamp_ns;

	if (p->opt->same)
		return pack_same_link(p, in, name, ret_nid, e);
	for (int i = 0; i < PACK_TRIES; i++) {
		struct stat before, after;
		ssize_t len;
		int r;

		stamp_ns = clock_stamp_ns();
		if (fstatat(in->dir_fd, name, &before, AT_SYMLINK_NOFOLLOW) < 0)
			return trouble(p, errno, e);
		if (!S_ISLNK(before.st_mode))
			break;
		len = readlinkat(in->dir_fd, name, target, sizeof(target));
		if (len < 0 && errno != EINVAL)
			return trouble(p, errno, e);
		if (len > EROFS_LINK_MAX)
			return leave_out(p, PACK_WHY_LARGE, 0, 0, e);
		/* a link is never changed, only replaced */
		if (len <= 0 || fstatat(in->dir_fd, name, &after, AT_SYMLINK_NOFOLLOW) < 0 ||
		    before.st_ino != after.st_ino ||
		    before.st_ctim.tv_sec != after.st_ctim.tv_sec ||
		    before.st_ctim.tv_nsec != after.st_ctim.tv_nsec)
			continue;
		r = record_of(p, in, &before, stamp_ns, &record, &attr, e);
		return r < 0 ? r : put_link(p, &attr, span_of(target, (size_t)len), ret_nid, e);
	}
	return leave_out(p, PACK_WHY_TORN, 0, 0, e);
}

/* -- what others give us */

static int put_content(struct pack *p, const struct erofs_attr *attr, struct span content,
                       uint64_t *ret_nid, struct err *e)
{
	p->totals.files++;
	p->totals.file_bytes += content.len;
	if (!p->image) {
		p->totals.image_bytes += EROFS_INODE_BYTES + content.len;
		*ret_nid = 1;
		return 0;
	}
	erofs_begin(p->image, content.len);
	while (content.len > 0) {
		uint8_t *room = NULL;
		size_t len = 0;
		int r = erofs_room(p->image, &room, &len, e);

		if (r < 0)
			return r;
		memcpy(room, content.at, len);
		erofs_filled(p->image, len);
		content = span_of(content.at + len, content.len - len);
	}
	return erofs_end(p->image, attr, ret_nid, NULL, e);
}

int pack_graft_file(struct pack *p, const struct pack_graft *g, uint64_t *ret_nid, struct err *e)
{
	struct host_record record = { .size = g->content.len,
		                      .mtime_s = g->mtime_s,
		                      .mode = g->mode,
		                      .kind = (uint8_t)g->kind,
		                      .flags = HOST_MADE };
	struct erofs_attr attr;
	int r;

	if (g->content.len > PACK_GRAFT_CONTENT_MAX ||
	    (g->kind == WORK_LINK && (g->content.len == 0 || g->content.len > EROFS_LINK_MAX)))
		return err_set(e, -E2BIG, "what takes a file's place is too large");
	r = pack_record(p, &record, &attr, e);
	if (r < 0)
		return r;
	if (g->kind == WORK_LINK)
		return put_link(p, &attr, g->content, ret_nid, e);
	return put_content(p, &attr, g->content, ret_nid, e);
}
