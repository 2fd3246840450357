#include "state/work_base.h"

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
#include <unistd.h>

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
	return (info->state == SESSION_APPLIED || info->state == SESSION_UNCHANGED) &&
	       info->undecided == 0 && info->left == 0;
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
	int r = work_session_base_whole(old) ? 0 : -ESTALE;

	if (r == 0)
		r = fd_open_file(old->dir_fd, image_name, flags, 0, &image, NULL);
	if (r < 0)
		return r;
	if (flock(image, how | LOCK_NB) < 0)
		return -errno;
	if (fstat(image, &held) < 0 ||
	    fstatat(old->dir_fd, image_name, &named, AT_SYMLINK_NOFOLLOW) < 0 ||
	    held.st_dev != named.st_dev || held.st_ino != named.st_ino)
		return -ESTALE;
	r = fd_open_file(old->dir_fd, manifest_name, O_RDONLY, 0, &manifest, NULL);
	if (r == 0)
		r = base_open(image, manifest, ret, NULL);
	if (r == 0)
		*ret_image = steal_fd(&image);
	return r;
}

static bool has_one_name(int image_fd)
{
	struct stat st;

	return fstat(image_fd, &st) == 0 && st.st_nlink == 1;
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
	if (open_locked(&old, O_RDWR, LOCK_EX, &image, &base) < 0 || !has_one_name(image) ||
	    !pack_over_ok(base) || hand_on(&old, s, &e) < 0)
		return false;
	ret->base = steal_ptr(&base);
	ret->image_fd = steal_fd(&image);
	memcpy(ret->from, old.info.id, sizeof(ret->from));
	return true;
}

/* --- the same image for another session --- */

/* Images that were asked about already: sessions that share one are asked about once. */
struct held {
	unsigned count;
	ino_t ino[WORK_BASES_HELD_MAX];
};

static bool held_before(const struct held *h, ino_t ino)
{
	for (unsigned i = 0; i < h->count; i++)
		if (h->ino[i] == ino)
			return true;
	return false;
}

/* As we make them: one that somebody opened to others is not passed on. */
static bool is_ours(const struct stat *st)
{
	return S_ISREG(st->st_mode) && (st->st_mode & 07777) == 0600 && st->st_uid == geteuid();
}

/* Another name, if it is still that file's. */
static int link_one(const struct work_session *old, const struct work_session *s, const char *name,
                    const struct stat *want)
{
	struct stat got;

	if (linkat(old->dir_fd, name, s->dir_fd, name, 0) < 0)
		return -errno;
	if (fstatat(s->dir_fd, name, &got, AT_SYMLINK_NOFOLLOW) == 0 &&
	    got.st_dev == want->st_dev && got.st_ino == want->st_ino)
		return 0;
	(void)unlinkat(s->dir_fd, name, 0);
	return -ESTALE;
}

/* The manifest first: a session that has an image has all of its base. */
static int link_base(const struct work_session *old, const struct work_session *s,
                     const struct base *b)
{
	struct stat image, manifest;
	int r;

	if (fstat(base_image_fd(b), &image) < 0 || fstat(base_manifest_fd(b), &manifest) < 0)
		return -errno;
	r = link_one(old, s, manifest_name, &manifest);
	if (r == 0)
		r = link_one(old, s, image_name, &image);
	if (r < 0) {
		(void)unlinkat(s->dir_fd, image_name, 0);
		(void)unlinkat(s->dir_fd, manifest_name, 0);
	}
	return r;
}

/* 1: s has it; 0: it has not. */
static int share_one(int state_fd, const struct work_session *s, const char *id, struct held *held,
                     work_base_same_fn *same, void *arg, struct err *e)
{
	_own_(work_session_close) struct work_session old;
	_own_(base_free) struct base *base = NULL;
	_own_fd_ int image = -1;
	struct stat st;
	int r;

	work_session_init(&old);
	if (work_session_open(state_fd, id, &old, NULL) < 0 ||
	    open_locked(&old, O_RDONLY, LOCK_SH, &image, &base) < 0 || fstat(image, &st) < 0 ||
	    !is_ours(&st) || held_before(held, st.st_ino))
		return 0;
	held->ino[held->count++] = st.st_ino;
	r = same(arg, base, e);
	return r > 0 ? link_base(&old, s, base) == 0 : r;
}

int work_base_share(int state_fd, const struct work_session *s, work_base_same_fn *same, void *arg,
                    char ret_from[SESSION_ID_LEN + 1], struct err *e)
{
	_own_(work_session_list_free) struct work_session_list *l = NULL;
	struct held held = { 0 };
	int r = 0;

	if (work_session_list(state_fd, &l, NULL) < 0)
		return 0;
	for (size_t i = 0; r == 0 && i < l->count && held.count < WORK_BASES_HELD_MAX; i++) {
		if (!is_candidate(&l->items[i], s))
			continue;
		r = share_one(state_fd, s, l->items[i].id, &held, same, arg, e);
		if (r > 0)
			memcpy(ret_from, l->items[i].id, SESSION_ID_LEN + 1);
	}
	return r;
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
