#include "work/pack_internal.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/fdio.h"
#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

enum { UP_MAX = 4096 }; /* directories above one: PATH_MAX has no room for more */

static void pack_free(struct pack *p)
{
	if (!p)
		return;
	erofs_free(p->image);
	ahead_free(p->ahead);
	free(p->manifest);
	free(p->report);
	free(p->shared);
	free(p->scratch);
	free(p);
}
OWN_DEFINE(struct pack, pack_free)

static int new_out(int fd, uint64_t at, struct out **ret, struct err *e)
{
	struct out *o = malloc(sizeof(*o));

	if (!o)
		return err_set(e, -ENOMEM, "out of memory");
	o->fd = fd;
	o->at = at;
	o->len = 0;
	*ret = o;
	return 0;
}

static bool same_inode(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static int open_over(struct pack *p, int image_fd, const struct stat *image, struct err *e)
{
	struct erofs_places places;
	struct stat old;

	if (!p->opt->earlier || fstat(base_image_fd(p->opt->earlier), &old) < 0 ||
	    !same_inode(image, &old) || !base_places(p->opt->earlier, &places))
		return err_set(e, -EINVAL, "there is no earlier image to be written over");
	return erofs_new_over(image_fd, WORK_DISK_BYTES, p->opt->uid, p->opt->gid, &places,
	                      &p->image, e);
}

static int open_outputs(struct pack *p, int image_fd, int manifest_fd, int report_fd,
                        const struct stat *root, struct err *e)
{
	struct stat image;
	int r;

	if (p->opt->same)
		return new_out(report_fd, PACK_REPORT_HEADER_BYTES, &p->report, e);
	if (fstat(image_fd, &image) < 0)
		return err_sys(e, "look at the workspace's image");
	if (p->opt->over)
		r = open_over(p, image_fd, &image, e);
	else
		r = erofs_new(image_fd, WORK_DISK_BYTES, p->opt->uid, p->opt->gid, &p->image, e);
	if (r == 0)
		r = new_out(manifest_fd, MANIFEST_HEADER_BYTES, &p->manifest, e);
	if (r == 0)
		r = new_out(report_fd, PACK_REPORT_HEADER_BYTES, &p->report, e);
	if (r < 0)
		return r;
	p->try_clone = image.st_dev == root->st_dev;
	return 0;
}

static int finish(struct pack *p, struct err *e)
{
	uint8_t head[MANIFEST_HEADER_BYTES];
	struct erofs_places places;
	int r;

	if (p->opt->same) {
		r = pack_same_end(p, e);
		return r < 0 ? r : pack_report_end(p, e);
	}
	r = erofs_finish(p->image, p->header.image_id, &places, e);
	if (r < 0)
		return r;
	p->header.meta_end = places.meta_end;
	p->header.data_end = places.data_end;
	p->totals.image_bytes = erofs_bytes(p->image);
	p->header.count = p->index;
	manifest_put_header(head, &p->header);
	r = out_head(p->manifest, head, sizeof(head), e);
	return r < 0 ? r : pack_report_end(p, e);
}

static int run(int root_fd, const struct pack_options *opt, int image_fd, int manifest_fd,
               int report_fd, struct pack_totals *ret, struct err *e)
{
	_own_(pack_free) struct pack *p = calloc(1, sizeof(*p));
	struct stat st;
	int r = 0;

	if (!p)
		return err_set(e, -ENOMEM, "out of memory");
	p->opt = opt;
	p->scratch = malloc(LIST_READ_BYTES);
	if (!p->scratch)
		return err_set(e, -ENOMEM, "out of memory");
	if (fstat(root_fd, &st) < 0)
		return err_sys(e, "look at the workspace's directory");
	if (!S_ISDIR(st.st_mode))
		return err_set(e, -ENOTDIR, "the workspace is not a directory");
	p->header.packed_ns = clock_real_ns();
	p->header.root_dev = st.st_dev;
	p->header.root_ino = st.st_ino;
	if (!opt->count_only)
		r = open_outputs(p, image_fd, manifest_fd, report_fd, &st, e);
	/* what a fresh pack reads itself is not waited for in small pieces */
	if (r == 0 && opt->earlier && !opt->count_only)
		p->ahead = ahead_new();
	if (r == 0)
		r = pack_walk(p, root_fd, &st, e);
	if (r == 0 && !opt->count_only)
		r = finish(p, e);
	if (r < 0)
		return r;
	*ret = p->totals;
	return 0;
}

/* The disk is full: how much would have been enough is what the user has to know. */
static int no_space(int root_fd, const struct pack_options *opt, int image_fd, int code,
                    struct err *e)
{
	struct pack_options count = *opt;
	struct pack_totals totals;
	char text[128];
	struct statvfs fs;
	struct buf b;

	count.count_only = true;
	count.earlier = NULL;
	count.progress = NULL;
	/* the space it has taken is free for others at once */
	if (ftruncate(image_fd, 0) < 0 || fstatvfs(image_fd, &fs) < 0 ||
	    run(root_fd, &count, -1, -1, -1, &totals, NULL) < 0)
		return code;
	buf_init(&b, text, sizeof(text));
	units_put_size(&b,
	               totals.image_bytes + MANIFEST_HEADER_BYTES +
	                       (totals.files + totals.dirs + totals.links) * MANIFEST_RECORD_BYTES);
	buf_printf(&b, " (%llu bytes); ", (unsigned long long)totals.image_bytes);
	units_put_size(&b, (uint64_t)fs.f_bavail * fs.f_frsize);
	return err_set(
		e, code,
		"the workspace needs %s are free where berm keeps its state: free some space, "
		"or exclude a directory",
		buf_cstr(&b));
}

int pack_run(int root_fd, const struct pack_options *opt, int image_fd, int manifest_fd,
             int report_fd, struct pack_totals *ret, struct err *e)
{
	int r = run(root_fd, opt, image_fd, manifest_fd, report_fd, ret, e);

	if ((r == -ENOSPC || r == -EDQUOT) && !opt->count_only && !opt->same)
		return no_space(root_fd, opt, image_fd, r, e);
	return r;
}

bool pack_over_ok(const struct base *b)
{
	struct erofs_places places;

	return base_places(b, &places) && erofs_over_ok(&places);
}

/* Is `what` the directory of dir_fd or one above it? */
static int is_above(const struct stat *what, int dir_fd, bool *ret, struct err *e)
{
	_own_fd_ int at = -1;
	struct stat st, up;
	int r = fd_openat(dir_fd, ".", O_PATH | O_DIRECTORY, 0, &at, e);

	for (int i = 0; r == 0 && i < UP_MAX; i++) {
		_own_fd_ int next = -1;

		if (fstat(at, &st) < 0)
			return err_sys(e, "look at a directory");
		if (same_inode(what, &st)) {
			*ret = true;
			return 0;
		}
		r = fd_openat(at, "..", O_PATH | O_DIRECTORY, 0, &next, e);
		if (r < 0 || fstat(next, &up) < 0 || same_inode(&st, &up))
			break;
		own_close_fd(&at);
		at = steal_fd(&next);
	}
	if (r == 0)
		*ret = false;
	return r;
}

int pack_check_root(int root_fd, int home_fd, int state_fd, bool wide, struct err *e)
{
	struct stat root, up, state;
	bool above = false;
	int r = 0;

	if (fstat(root_fd, &root) < 0)
		return err_sys(e, "look at the workspace's directory");
	if (!S_ISDIR(root.st_mode))
		return err_set(e, -ENOTDIR, "the workspace is not a directory");
	if (state_fd >= 0 && fstat(state_fd, &state) < 0)
		return err_sys(e, "look at the state directory");
	if (state_fd >= 0)
		r = is_above(&state, root_fd, &above, e);
	if (r < 0)
		return r;
	if (above)
		return err_set(e, -EPERM, "the workspace lies in berm's own state directory");
	if (wide)
		return 0;
	if (fstatat(root_fd, "..", &up, 0) == 0 && same_inode(&root, &up))
		return err_set(e, -EPERM, "the workspace is the whole file system");
	if (home_fd >= 0)
		r = is_above(&root, home_fd, &above, e);
	if (r == 0 && above)
		return err_set(
			e, -EPERM,
			"the workspace is your home directory, or holds it; go to a project's");
	return r;
}
