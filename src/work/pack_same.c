/*
 * With `same` nothing is packed: each thing that would enter is looked up in the earlier base and
 * has to be there as it would enter now, and in the end there must have been as many as the base
 * has. So the base is what a pack would give, name by name, whatever was excluded then or is now.
 *
 * A file is not read if its record says that it is untouched (manifest.h). Where a record cannot
 * say, the content does; so what was packed in the moment it was written can be told as well.
 */
#include "work/pack_internal.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/kernel_gaps.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { STAT_BLOCK_BYTES = 512, COMPARE_BYTES = 16 << 10 };

int pack_differs(struct err *e)
{
	return err_set(e, -ESTALE, "the workspace is not what an earlier session has packed");
}

/* All but how young it was: where that matters contents are compared. */
static bool same_record(const struct host_record *was, const struct host_record *now)
{
	return (was->flags & ~HOST_RACY) == (now->flags & ~HOST_RACY) && was->kind == now->kind &&
	       was->dev == now->dev && was->ino == now->ino && was->size == now->size &&
	       was->mode == now->mode && was->mtime_s == now->mtime_s &&
	       was->mtime_ns == now->mtime_ns && was->ctime_s == now->ctime_s &&
	       was->ctime_ns == now->ctime_ns;
}

static bool as_packed(const struct pack *p, const struct level *in, const struct host_record *was,
                      const struct stat *st)
{
	struct host_record now;

	host_record_of(st, &now);
	now.flags = in->outside ? HOST_OUTSIDE : 0;
	return same_record(was, &now) && (st->st_dev == in->dev || p->opt->cross_mounts);
}

static bool is_owners(const struct pack *p, const struct base_node *node)
{
	return node->uid == p->opt->uid && node->gid == p->opt->gid;
}

static bool find(struct pack *p, const struct level *in, const char *name, struct base_node *ret,
                 struct host_record *ret_was)
{
	struct base *b = p->opt->earlier;

	return in->old && base_cursor_find(b, in->old, span_str(name), ret, NULL) == 0 &&
	       is_owners(p, ret) && base_host_record(b, ret, ret_was, NULL) == 0;
}

static int enters(struct pack *p, uint64_t *ret_nid, struct err *e)
{
	const struct host_record counted = { 0 };
	struct erofs_attr attr;

	*ret_nid = 1;
	return pack_record(p, &counted, &attr, e);
}

/* -- what the host has */

/* 1 yes, 0 no or not to be told, or below 0. */
static int same_content(struct pack *p, const struct level *in, const char *name,
                        const struct base_node *node, const struct host_record *was, struct err *e)
{
	uint64_t resolve = RESOLVE_NO_SYMLINKS | (p->opt->cross_mounts ? 0 : RESOLVE_NO_XDEV);
	uint64_t stamp_ns = clock_stamp_ns();
	_own_fd_ int fd = -1;
	struct stat st;
	int r;

	if (fd_open_beneath(in->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0,
	                    resolve, &fd, NULL) < 0)
		return 0;
	if (fstat(fd, &st) < 0 || !as_packed(p, in, was, &st) || !pack_settled(&st, stamp_ns))
		return 0;
	r = base_same_content(p->opt->earlier, node, fd, e);
	if (r > 0 && (fstat(fd, &st) < 0 || !as_packed(p, in, was, &st)))
		return 0;
	return r;
}

int pack_same_file(struct pack *p, const struct level *in, const char *name, uint64_t *ret_nid,
                   struct err *e)
{
	struct host_record was;
	struct base_node node;
	struct stat st;
	int r = 1;

	if (!find(p, in, name, &node, &was))
		return 1;
	if (p->look)
		st = *p->look;
	else if (fstatat(in->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return pack_differs(e);
	if (node.kind != WORK_FILE || !as_packed(p, in, &was, &st) || node.size != was.size)
		return pack_differs(e);
	if (was.flags & HOST_RACY)
		r = same_content(p, in, name, &node, &was, e);
	if (r <= 0)
		return r < 0 ? r : pack_differs(e);
	pack_count_file(p, &st);
	p->totals.reused_files++;
	p->totals.reused_bytes += node.size;
	return enters(p, ret_nid, e);
}

int pack_same_link(struct pack *p, const struct level *in, const char *name, uint64_t *ret_nid,
                   struct err *e)
{
	char target[EROFS_LINK_MAX + 1], packed[BASE_LINK_MAX + 1];
	struct host_record was;
	struct base_node node;
	struct stat st;
	size_t packed_len = 0;
	ssize_t len;
	int r;

	if (!find(p, in, name, &node, &was) || node.kind != WORK_LINK ||
	    fstatat(in->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !as_packed(p, in, &was, &st))
		return pack_differs(e);
	len = readlinkat(in->dir_fd, name, target, sizeof(target));
	r = base_read_link(p->opt->earlier, &node, packed, &packed_len, e);
	if (r < 0)
		return r;
	if (len < 0 || (size_t)len != packed_len || memcmp(target, packed, packed_len) != 0)
		return pack_differs(e);
	p->totals.links++;
	return enters(p, ret_nid, e);
}

int pack_same_dir(struct pack *p, const struct level *l, const struct host_record *now,
                  struct err *e)
{
	struct host_record was;
	int r;

	if (!l->old || !is_owners(p, &l->old->dir))
		return pack_differs(e);
	r = base_host_record(p->opt->earlier, &l->old->dir, &was, e);
	if (r < 0)
		return r;
	return same_record(&was, now) ? 0 : pack_differs(e);
}

/* -- what others give us */

static int same_bytes(struct pack *p, const struct base_node *node, struct span content,
                      struct err *e)
{
	uint8_t packed[COMPARE_BYTES];

	for (uint64_t off = 0; content.len > 0;) {
		size_t len = content.len < sizeof(packed) ? content.len : sizeof(packed);
		int r = base_read(p->opt->earlier, node, off, packed, len, e);

		if (r < 0)
			return r;
		if (memcmp(packed, content.at, len) != 0)
			return pack_differs(e);
		content = span_of(content.at + len, content.len - len);
		off += len;
	}
	return 0;
}

int pack_same_graft(struct pack *p, const struct level *in, const char *name,
                    const struct pack_graft *g, uint64_t *ret_nid, struct err *e)
{
	struct host_record was;
	struct base_node node;
	int r;

	if (!find(p, in, name, &node, &was) || !(was.flags & HOST_MADE) || node.kind != g->kind ||
	    node.mode != (g->mode & 0777) || node.mtime_s != g->mtime_s || node.mtime_ns != 0 ||
	    node.size != g->content.len)
		return pack_differs(e);
	r = same_bytes(p, &node, g->content, e);
	if (r < 0)
		return r;
	if (g->kind == WORK_LINK) {
		p->totals.links++;
	} else {
		p->totals.files++;
		p->totals.file_bytes += g->content.len;
	}
	return enters(p, ret_nid, e);
}

/* -- the end */

int pack_same_end(struct pack *p, struct err *e)
{
	struct base_totals base;
	struct stat st;

	base_totals(p->opt->earlier, &base);
	if (p->index != base.inodes)
		return pack_differs(e);
	if (fstat(base_image_fd(p->opt->earlier), &st) < 0)
		return err_sys(e, "look at the workspace's image");
	p->totals.image_bytes = (uint64_t)st.st_blocks * STAT_BLOCK_BYTES;
	return 0;
}
