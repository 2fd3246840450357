#include "lib/work_base.h"

#include "base/fdio.h"
#include "work/apply.h"
#include "work/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

enum { PROBE_BYTES = 4096 }; /* a block of every file system that shares them */

static const char image_name[] = "base.erofs";
static const char manifest_name[] = "base.manifest";

void work_base_init(struct work_base *b)
{
	*b = (struct work_base){ .image_fd = -1 };
}

void work_base_fini(struct work_base *b)
{
	base_free(b->base);
	own_close_fd(&b->image_fd);
	work_base_init(b);
}

static bool same_workspace(const struct work_session_info *a, const struct work_session_info *b)
{
	return a->root_dev == b->root_dev && a->root_ino == b->root_ino &&
	       a->root_btime_ns == b->root_btime_ns && strcmp(a->root, b->root) == 0;
}

/* Of another session, with a base that is whole. */
static bool is_candidate(const struct work_session_info *info, const struct work_session *s)
{
	return info->state >= SESSION_PACKED && *info->handed_to == '\0' &&
	       same_workspace(info, &s->info) && strcmp(info->id, s->info.id) != 0;
}

/* Everything in it was applied, or was never wanted: no review could bring more of it home. */
static bool is_finished(const struct work_session_info *info)
{
	return info->state == SESSION_APPLIED && info->undecided == 0 && info->left == 0;
}

/*
 * The image, locked (flock) by `how`, which lasts as long as a copy of the fd; and the base. The
 * name must still be the image's once the lock is there: it may have been handed on in between.
 */
static int open_locked(const struct work_session *old, int flags, int how, int *ret_image,
                       struct base **ret)
{
	_own_fd_ int image = -1;
	_own_fd_ int manifest = -1;
	struct stat held, named;
	int r = fd_openat(old->dir_fd, image_name, flags | O_NOFOLLOW, 0, &image, NULL);

	if (r < 0)
		return r;
	if (flock(image, how | LOCK_NB) < 0)
		return -errno;
	if (fstat(image, &held) < 0 ||
	    fstatat(old->dir_fd, image_name, &named, AT_SYMLINK_NOFOLLOW) < 0 ||
	    held.st_dev != named.st_dev || held.st_ino != named.st_ino)
		return -ESTALE;
	r = fd_openat(old->dir_fd, manifest_name, O_RDONLY | O_NOFOLLOW, 0, &manifest, NULL);
	if (r == 0)
		r = base_open(image, manifest, ret, NULL);
	if (r == 0)
		*ret_image = steal_fd(&image);
	return r;
}

/* Does the file system share blocks between files? Asked of the image itself. */
static bool shares_blocks(int image_fd, int dir_fd)
{
	struct file_clone_range range = { .src_fd = image_fd, .src_length = PROBE_BYTES };
	_own_fd_ int fd = -1;

	return fd_tmpfile(dir_fd, 0600, &fd, NULL) == 0 && ioctl(fd, FICLONERANGE, &range) == 0;
}

/* False: it has none to read, or copying from it would save nothing. */
static bool take_beside(int state_fd, const struct work_session *s, const char *id,
                        struct work_base *ret)
{
	_own_(work_session_close) struct work_session old;
	_own_(base_free) struct base *base = NULL;
	_own_fd_ int image = -1;

	work_session_init(&old);
	if (work_session_open(state_fd, id, &old, NULL) < 0 ||
	    open_locked(&old, O_RDONLY, LOCK_SH, &image, &base) < 0 ||
	    !shares_blocks(image, s->dir_fd))
		return false;
	ret->base = steal_ptr(&base); /* it has a copy of the fd, and so the lock */
	memcpy(ret->from, old.info.id, sizeof(ret->from));
	return true;
}

static int sync_dir(int fd, struct err *e)
{
	return fsync(fd) < 0 ? err_sys(e, "sync a session") : 0;
}

/* The steps of the theory; after an error the image is nobody's, or still the old one's. */
static int hand_on(struct work_session *old, const struct work_session *s, struct err *e)
{
	int r;

	memcpy(old->info.handed_to, s->info.id, sizeof(old->info.handed_to));
	r = work_session_save(old, e);
	if (r == 0)
		r = sync_dir(old->dir_fd, e);
	if (r < 0)
		return r;
	if (renameat(old->dir_fd, image_name, s->dir_fd, image_name) < 0)
		return err_sys(e, "rename the workspace's image");
	r = sync_dir(s->dir_fd, e);
	if (r == 0)
		r = sync_dir(old->dir_fd, e);
	if (r < 0) { /* where it is after a power cut is not known: it must not be written over */
		(void)unlinkat(s->dir_fd, image_name, 0);
		return r;
	}
	(void)unlinkat(old->dir_fd, manifest_name, 0); /* else the next list does */
	return 0;
}

/* False: the session keeps it. */
static bool take_over(int state_fd, const struct work_session *s, const char *id,
                      struct work_base *ret)
{
	_own_(work_session_close) struct work_session old;
	_own_(base_free) struct base *base = NULL;
	_own_fd_ int image = -1;
	struct err e = { 0 };

	work_session_init(&old);
	if (work_session_open(state_fd, id, &old, NULL) < 0 ||
	    work_session_lock(&old, "pack", &e) < 0)
		return false;
	/* asked again, now that nobody else can change it */
	if (!is_candidate(&old.info, s) || !is_finished(&old.info) ||
	    apply_interrupted(old.dir_fd) || work_session_vm_dead(&old, &e) < 0)
		return false;
	if (open_locked(&old, O_RDWR, LOCK_EX, &image, &base) < 0 || !pack_over_ok(base) ||
	    hand_on(&old, s, &e) < 0)
		return false;
	ret->base = steal_ptr(&base);
	ret->image_fd = steal_fd(&image);
	memcpy(ret->from, old.info.id, sizeof(ret->from));
	return true;
}

void work_base_find(int state_fd, const struct work_session *s, struct work_base *ret)
{
	_own_(work_session_list_free) struct work_session_list *l = NULL;

	work_base_init(ret);
	if (work_session_list(state_fd, &l, NULL) < 0)
		return;
	for (size_t i = 0; i < l->count; i++)
		if (is_candidate(&l->items[i], s) && take_beside(state_fd, s, l->items[i].id, ret))
			return;
	for (size_t i = 0; i < l->count; i++)
		if (is_candidate(&l->items[i], s) && is_finished(&l->items[i]) &&
		    take_over(state_fd, s, l->items[i].id, ret))
			return;
}
