#include "base/clock.h"
#include "base/fdio.h"
#include "state/work_session_inner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LIST_START = 16 };

void work_session_list_free(struct work_session_list *l)
{
	if (!l)
		return;
	free(l->items);
	free(l->disk_bytes);
	free(l);
}

/* Nothing ran in it and nobody is at it: its maker was ended in the middle. */
static bool is_waste(const struct work_session *s)
{
	return s->info.state < SESSION_RUNNING && session_lock_is_free(s->dir_fd);
}

static int add(struct work_session_list *l, size_t *room, const struct work_session *s,
               struct err *e)
{
	if (l->count == *room) {
		size_t more = *room ? 2 * *room : LIST_START;
		struct work_session_info *items = reallocarray(l->items, more, sizeof(*items));
		uint64_t *bytes = NULL;

		if (items) {
			l->items = items;
			bytes = reallocarray(l->disk_bytes, more, sizeof(*bytes));
		}
		if (!bytes)
			return err_set(e, -ENOMEM, "out of memory");
		l->disk_bytes = bytes;
		*room = more;
	}
	l->items[l->count] = s->info;
	l->disk_bytes[l->count++] = work_session_disk_bytes(s);
	return 0;
}

/* Its maker was ended before it wrote its first word: there is a lock, and nothing else. */
static bool is_unborn(int folder_fd, const char *id)
{
	_own_(state_close_stream) DIR *dir = state_open_stream(folder_fd, id);
	const struct dirent *d;

	if (!dir || !session_lock_is_free(dirfd(dir)))
		return false;
	while ((d = readdir(dir)))
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0 &&
		    strcmp(d->d_name, "lock") != 0 &&
		    strncmp(d->d_name, "session.json.", strlen("session.json.")) != 0)
			return false;
	return true;
}

static int list_one(struct work_session_list *l, size_t *room, int folder_fd, const char *id,
                    struct err *e)
{
	_own_(work_session_close) struct work_session s;
	struct err why = { 0 };
	int r;

	work_session_init(&s);
	r = session_open_any(folder_fd, id, &s, &why);
	if (r == -ENOENT) /* it was removed, or its session.json is not written yet */
		return 0;
	if (r == 0 && s.info.state == SESSION_NONE && is_unborn(folder_fd, id)) {
		(void)fd_remove_tree(folder_fd, id, NULL);
		return 0;
	}
	if (r < 0) { /* a file of that name */
		(void)snprintf(s.info.id, sizeof(s.info.id), "%s", id);
		(void)snprintf(s.info.why, sizeof(s.info.why), "%s", why.text);
	}
	/* a damaged one is listed, and says why: its work is still there */
	if (s.info.state != SESSION_NONE && is_waste(&s)) {
		(void)fd_remove_tree(folder_fd, id, NULL);
		return 0;
	}
	/* who took its base was ended before it came to this */
	if (*s.info.handed_to && session_lock_is_free(s.dir_fd))
		(void)unlinkat(s.dir_fd, "base.manifest", 0);
	return add(l, room, &s, e);
}

static void newest_first(struct work_session_list *l)
{
	for (size_t i = 1; i < l->count; i++) {
		struct work_session_info info = l->items[i];
		uint64_t bytes = l->disk_bytes[i];
		size_t at = i;

		for (; at > 0 && l->items[at - 1].created_ns < info.created_ns; at--) {
			l->items[at] = l->items[at - 1];
			l->disk_bytes[at] = l->disk_bytes[at - 1];
		}
		l->items[at] = info;
		l->disk_bytes[at] = bytes;
	}
}

/* --- bases that are kept for the next pack --- */

struct kept {
	unsigned count;
	uint64_t bytes;
	struct {
		uint64_t dev, ino;
	} of[SESSION_KEPT_MAX];
};

/* Within all bounds, as the newest of its workspace? Then it counts. */
static bool may_stay(struct kept *k, const struct work_session_info *info, uint64_t bytes)
{
	uint64_t age_ns = clock_real_ns() - info->changed_ns;

	if (info->changed_ns > clock_real_ns() ||
	    age_ns / 1000000000 >= (uint64_t)SESSION_KEPT_DAYS * 24 * 3600 ||
	    k->count == SESSION_KEPT_MAX || bytes > SESSION_KEPT_BYTES_MAX - k->bytes)
		return false;
	for (unsigned i = 0; i < k->count; i++)
		if (k->of[i].dev == info->root_dev && k->of[i].ino == info->root_ino)
			return false;
	k->of[k->count].dev = info->root_dev;
	k->of[k->count++].ino = info->root_ino;
	k->bytes += bytes;
	return true;
}

/* The next pack has no use for it: it went on, or another session has it as well. */
static bool is_spent(const struct work_session *s)
{
	struct stat st;

	return fstatat(s->dir_fd, "base.erofs", &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_nlink != 1;
}

/* One that somebody is at is his. */
static bool drop_kept(int folder_fd, const char *id)
{
	_own_(work_session_close) struct work_session s;

	work_session_init(&s);
	return session_open_in(folder_fd, id, &s, NULL) == 0 &&
	       work_session_lock(&s, "remove", NULL) == 0 && s.info.state == SESSION_UNCHANGED &&
	       fd_remove_tree(folder_fd, id, NULL) == 0;
}

static bool wants_dropping(int folder_fd, struct kept *k, const struct work_session_info *info,
                           uint64_t bytes)
{
	_own_(work_session_close) struct work_session s;

	work_session_init(&s);
	return info->state == SESSION_UNCHANGED &&
	       session_open_in(folder_fd, info->id, &s, NULL) == 0 &&
	       (is_spent(&s) || !may_stay(k, info, bytes));
}

static void bound_kept(struct work_session_list *l, int folder_fd)
{
	struct kept k = { 0 };
	size_t to = 0;

	for (size_t i = 0; i < l->count; i++) {
		if (wants_dropping(folder_fd, &k, &l->items[i], l->disk_bytes[i]) &&
		    drop_kept(folder_fd, l->items[i].id))
			continue;
		if (to != i) {
			l->items[to] = l->items[i];
			l->disk_bytes[to] = l->disk_bytes[i];
		}
		to++;
	}
	l->count = to;
}

static bool belongs_to_base(const char *name)
{
	static const char *const names[] = { "base.erofs", "base.manifest", "base.synced",
		                             "session.json", "lock" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* What cannot be removed stays for work_session_remove(). */
static void leave_base_alone(int folder_fd, const struct work_session *s)
{
	_own_(state_close_stream) DIR *dir = state_open_stream(folder_fd, s->info.id);
	const struct dirent *d;

	while (dir && (d = readdir(dir)))
		if (!belongs_to_base(d->d_name))
			(void)fd_remove_tree(s->dir_fd, d->d_name, NULL);
}

int work_session_keep_base(int state_fd, struct work_session *s, struct err *e)
{
	_own_fd_ int folder_fd = -1;
	int r;

	if (s->lock_fd < 0 || is_spent(s))
		return work_session_remove(state_fd, s, e);
	r = work_session_vm_dead(s, e);
	if (r == 0)
		r = session_open_folder(state_fd, &folder_fd, e);
	if (r < 0)
		return r;
	s->info.state = SESSION_UNCHANGED;
	s->info.undecided = s->info.left = 0;
	*s->info.why = '\0';
	r = work_session_save(s, e);
	if (r < 0)
		return r;
	leave_base_alone(folder_fd, s);
	work_session_close(s);
	return 0;
}

int work_session_list(int state_fd, struct work_session_list **ret, struct err *e)
{
	_own_(state_close_stream) DIR *dir = session_open_stream(state_fd, e);
	_own_(work_session_list_free) struct work_session_list *l = calloc(1, sizeof(*l));
	const struct dirent *d;
	size_t room = 0;
	int r = 0;

	if (!dir)
		return e->code;
	if (!l)
		return err_set(e, -ENOMEM, "out of memory");
	while (r == 0 && l->count < SESSIONS_MAX && (d = readdir(dir)))
		if (work_session_id_ok(d->d_name))
			r = list_one(l, &room, dirfd(dir), d->d_name, e);
	if (r < 0)
		return r;
	newest_first(l);
	bound_kept(l, dirfd(dir));
	*ret = steal_ptr(&l);
	return 0;
}
