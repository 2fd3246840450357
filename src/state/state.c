#include "state/state_internal.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "state/jread.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

enum { PATH_BYTES = STATE_FILE_NAME_MAX + 16, PREFIX_MIN = 4, LIST_START = 16 };

/* --- folders and locks --- */

int state_open_folder(int state_fd, const char *folder, int *ret_fd, struct err *e)
{
	int r = fd_openat(state_fd, folder, O_RDONLY | O_DIRECTORY, 0, ret_fd, e);

	if (r < 0)
		(void)err_wrap(e, "state directory");
	return r;
}

DIR *state_open_stream(int state_fd, const char *folder)
{
	_own_fd_ int fd = -1;
	DIR *dir;

	if (state_open_folder(state_fd, folder, &fd, NULL) < 0)
		return NULL;
	dir = fdopendir(fd);
	if (dir)
		(void)steal_fd(&fd);
	return dir;
}

void state_discard(int dir_fd, const char *name)
{
	if (fd_remove_tree(dir_fd, name, NULL) < 0)
		return; /* somebody else removes it too, or the next sweep does */
}

enum state_lock state_probe_lock(int parent_fd, const char *name)
{
	char path[sizeof(((struct dirent *)NULL)->d_name) + 8];
	_own_fd_ int fd = -1;
	int r;

	if (snprintf(path, sizeof(path), "%s/lock", name) >= (int)sizeof(path))
		return STATE_LOCK_HELD;
	r = fd_openat(parent_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, &fd, NULL);
	if (r == -ENOENT || r == -ENOTDIR)
		return STATE_LOCK_ABSENT;
	if (r < 0 || flock(fd, LOCK_SH | LOCK_NB) < 0)
		return STATE_LOCK_HELD;
	return STATE_LOCK_FREE;
}

bool state_alive(int state_fd, const char *id)
{
	_own_fd_ int fd = -1;

	return spec_id_ok(id) && state_open_folder(state_fd, "sandboxes", &fd, NULL) == 0 &&
	       state_probe_lock(fd, id) == STATE_LOCK_HELD;
}

static int fill_dir(int dir_fd, const struct state_info *info, int *ret_lock_fd, struct err *e)
{
	_own_fd_ int lock_fd = -1;
	int r = fd_openat(dir_fd, "lock", O_RDWR | O_CREAT | O_EXCL, 0600, &lock_fd, e);

	if (r < 0)
		return r;
	if (flock(lock_fd, LOCK_EX | LOCK_NB) < 0)
		return err_sys(e, "lock a new directory");
	if (info)
		r = state_write_info(dir_fd, info, e);
	if (r == 0)
		*ret_lock_fd = steal_fd(&lock_fd);
	return r;
}

int state_make_dir(int parent_fd, const char *name, const struct state_info *info, int *ret_dir_fd,
                   int *ret_lock_fd, struct err *e)
{
	_own_fd_ int lock_fd = -1;
	_own_fd_ int dir_fd = -1;
	char aside[PATH_BYTES];
	int r;

	if (strlen(name) > STATE_FILE_NAME_MAX)
		return err_set(e, -ENAMETOOLONG, "'%s': name too long", name);
	(void)snprintf(aside, sizeof(aside), ".new-%s", name);
	if (mkdirat(parent_fd, aside, 0700) < 0)
		return err_sys(e, "make directory '%s'", name);
	r = fd_openat(parent_fd, aside, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &dir_fd, e);
	if (r == 0)
		r = fill_dir(dir_fd, info, &lock_fd, e);
	/* a directory of that name has at least a lock in it, so this never replaces one */
	if (r == 0 && renameat(parent_fd, aside, parent_fd, name) < 0) {
		r = err_sys(e, "make directory '%s'", name);
		if (r == -ENOTEMPTY)
			r = err_set(e, -EEXIST, "directory '%s' exists", name);
	}
	if (r < 0) {
		state_discard(parent_fd, aside);
		return r;
	}
	*ret_dir_fd = steal_fd(&dir_fd);
	*ret_lock_fd = steal_fd(&lock_fd);
	return 0;
}

/* --- info.json --- */

static void put_pair(struct buf *out, const char *key, const char *text)
{
	buf_printf(out, "\"%s\":", key);
	buf_put_json_str(out, span_str(text));
	buf_put_u8(out, ',');
}

/* Aside and renamed, without fd_replace_file()'s fsync: after a crash of the host it is dead. */
static int write_quick(int dir_fd, const char *name, struct span data, struct err *e)
{
	char aside[PATH_BYTES];
	_own_fd_ int fd = -1;
	int r;

	(void)snprintf(aside, sizeof(aside), "%s~", name);
	r = fd_openat(dir_fd, aside, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600, &fd, e);
	if (r == 0)
		r = fd_write_all(fd, data.at, data.len, e);
	if (r == 0 && renameat(dir_fd, aside, dir_fd, name) < 0)
		r = err_sys(e, "rename to '%s'", name);
	if (r < 0) {
		(void)err_wrap(e, "write '%s'", name);
		(void)unlinkat(dir_fd, aside, 0);
	}
	return r;
}

int state_write_info(int dir_fd, const struct state_info *info, struct err *e)
{
	char storage[STATE_INFO_JSON_MAX];
	struct buf out;

	buf_init(&out, storage, sizeof(storage));
	buf_put_u8(&out, '{');
	put_pair(&out, "id", info->id);
	put_pair(&out, "name", info->name);
	put_pair(&out, "image", info->image);
	put_pair(&out, "command", info->command);
	put_pair(&out, "engine", info->engine);
	buf_printf(&out,
	           "\"created_ns\":%" PRIu64 ",\"supervisor_pid\":%" PRId32 ",\"level\":%u,"
	           "\"paused\":%s}\n",
	           info->created_ns, info->supervisor_pid, info->level,
	           info->paused ? "true" : "false");
	if (!buf_ok(&out))
		return err_set(e, -EMSGSIZE, "info.json: over %d bytes", STATE_INFO_JSON_MAX);
	return write_quick(dir_fd, "info.json", buf_span(&out), e);
}

static bool take_info(const json_t *o, struct state_info *ret)
{
	uint64_t level = 0;
	uint64_t pid = 0;

	if (!jread_text(o, "name", ret->name, sizeof(ret->name)) ||
	    !jread_text(o, "image", ret->image, sizeof(ret->image)) ||
	    !jread_text(o, "command", ret->command, sizeof(ret->command)) ||
	    !jread_text(o, "engine", ret->engine, sizeof(ret->engine)) ||
	    !jread_u64(o, "created_ns", INT64_MAX, &ret->created_ns) ||
	    !jread_u64(o, "supervisor_pid", INT32_MAX, &pid) ||
	    !jread_u64(o, "level", LEVEL_MICROVM, &level))
		return false;
	ret->supervisor_pid = (int32_t)pid;
	ret->level = (uint8_t)level;
	ret->paused = json_is_true(json_object_get(o, "paused"));
	return true;
}

/* Without a readable info.json there is still the id: enough to be listed, stopped and removed. */
static struct state_info read_info(int folder_fd, const char *id, bool ended)
{
	struct state_info bare = { .ended = ended };
	struct state_info got;
	_own_free_ char *text = NULL;
	_own_(jread_free) json_t *o = NULL;
	char path[PATH_BYTES];
	size_t len = 0;

	memcpy(bare.id, id, SPEC_ID_LEN + 1);
	got = bare;
	(void)snprintf(path, sizeof(path), "%.*s/info.json", SPEC_ID_LEN, id);
	if (fd_read_file(folder_fd, path, STATE_INFO_JSON_MAX, &text, &len, NULL) < 0 ||
	    jread_object(span_of(text, len), &o, NULL) < 0 || !take_info(o, &got))
		return bare;
	return got;
}

/* --- list and find --- */

void state_list_free(struct state_list *l)
{
	if (!l)
		return;
	free(l->items);
	free(l);
}

static int list_add(struct state_list *l, size_t *room, const struct state_info *info,
                    struct err *e)
{
	struct state_info *items;

	if (l->count == *room) {
		size_t more = *room ? *room * 2 : LIST_START;

		items = realloc(l->items, more * sizeof(*items));
		if (!items)
			return err_set(e, -ENOMEM, "out of memory");
		l->items = items;
		*room = more;
	}
	l->items[l->count++] = *info;
	return 0;
}

static bool listed(const struct state_list *l, const char *id)
{
	for (size_t i = 0; i < l->count; i++)
		if (strcmp(l->items[i].id, id) == 0)
			return true;
	return false;
}

static int list_folder(int state_fd, bool ended, struct state_list *l, size_t *room, struct err *e)
{
	_own_(state_close_stream) DIR *dir = NULL;
	const struct dirent *d;
	int r = 0;

	dir = state_open_stream(state_fd, ended ? "ended" : "sandboxes");
	if (!dir)
		return err_sys(e, "list sandboxes");
	for (int n = 0; n < STATE_ENTRIES_MAX && r == 0 && (d = readdir(dir)); n++) {
		struct state_info info;

		if (!spec_id_ok(d->d_name) || l->count >= STATE_SANDBOXES_MAX)
			continue;
		/* it may be both for a moment, while its supervisor ends */
		if (ended ? listed(l, d->d_name)
		          : state_probe_lock(dirfd(dir), d->d_name) != STATE_LOCK_HELD)
			continue;
		info = read_info(dirfd(dir), d->d_name, ended);
		r = list_add(l, room, &info, e);
	}
	return r;
}

static int newest_first(const void *a, const void *b)
{
	const struct state_info *x = a;
	const struct state_info *y = b;

	if (x->created_ns != y->created_ns)
		return x->created_ns < y->created_ns ? 1 : -1;
	return strcmp(x->id, y->id);
}

static int list(int state_fd, bool ended, struct state_list **ret, struct err *e)
{
	_own_(state_list_free) struct state_list *l = calloc(1, sizeof(*l));
	size_t room = 0;
	int r;

	if (!l)
		return err_set(e, -ENOMEM, "out of memory");
	r = list_folder(state_fd, false, l, &room, e);
	if (r == 0 && ended)
		r = list_folder(state_fd, true, l, &room, e);
	if (r < 0)
		return r;
	if (l->count > 1)
		qsort(l->items, l->count, sizeof(l->items[0]), newest_first);
	*ret = steal_ptr(&l);
	return 0;
}

int state_list(int state_fd, bool ended, struct state_list **ret, struct err *e)
{
	state_sweep(state_fd);
	return list(state_fd, ended, ret, e);
}

/* How well ref names it. Of two equally good ones the newer is meant, but for PREFIX. */
enum fit { FIT_NONE, FIT_PREFIX, FIT_ENDED_NAME, FIT_ID, FIT_NAME };

static enum fit fits(const struct state_info *info, const char *ref)
{
	size_t len = strlen(ref);

	if (info->name[0] && strcmp(info->name, ref) == 0)
		return info->ended ? FIT_ENDED_NAME : FIT_NAME;
	if (strcmp(info->id, ref) == 0)
		return FIT_ID;
	if (len >= PREFIX_MIN && strncmp(info->id, ref, len) == 0)
		return FIT_PREFIX;
	return FIT_NONE;
}

int state_find(int state_fd, const char *ref, bool ended, struct state_info *ret, struct err *e)
{
	_own_(state_list_free) struct state_list *l = NULL;
	const struct state_info *best = NULL;
	const struct state_info *rival = NULL;
	enum fit best_fit = FIT_NONE;
	int r;

	state_sweep(state_fd);
	r = list(state_fd, true, &l, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < l->count; i++) {
		enum fit fit = fits(&l->items[i], ref);

		if (fit > best_fit) {
			best = &l->items[i];
			best_fit = fit;
			rival = NULL;
		} else if (fit == FIT_PREFIX && fit == best_fit) {
			rival = &l->items[i];
		}
	}
	if (!best)
		return err_set(e, -ENOENT, "there is no sandbox '%s': `berm ps%s` lists them", ref,
		               ended ? " -a" : "");
	if (rival)
		return err_set(e, -EEXIST,
		               "'%s' fits more than one sandbox (%s, %s): give more of the id", ref,
		               best->id, rival->id);
	if (best->ended && !ended)
		return err_set(e, -ENOENT, "sandbox '%s' has ended", ref);
	*ret = *best;
	return 0;
}

/* --- one sandbox --- */

static int check_id(const char *id, struct err *e)
{
	return spec_id_ok(id) ? 0 : err_set(e, -EINVAL, "'%s' is no sandbox id", id);
}

int state_connect(int state_fd, const char *id, int *ret_fd, struct err *e)
{
	_own_fd_ int folder_fd = -1;
	_own_fd_ int dir_fd = -1;
	int r = check_id(id, e);

	if (r == 0)
		r = state_open_folder(state_fd, "sandboxes", &folder_fd, e);
	if (r < 0)
		return r;
	r = fd_openat(folder_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &dir_fd, NULL);
	if (r == 0)
		r = fd_unix_connect(dir_fd, "control.sock", ret_fd, e);
	if (r == 0)
		return 0;
	if (state_probe_lock(folder_fd, id) != STATE_LOCK_HELD)
		return err_set(e, -ENOENT, "sandbox %s has ended", id);
	if (r == -ENOENT)
		return err_set(e, -EAGAIN, "sandbox %s is still starting; try again", id);
	(void)err_wrap(e, "sandbox %s", id);
	return r;
}

int state_open_dir(int state_fd, const char *id, int *ret_dir_fd, struct err *e)
{
	/* a record is whole when it appears, and appears before the other goes: so it is first, and
	 * asked again for the sandbox that ended between the two */
	static const char *const folders[] = { "ended", "sandboxes", "ended" };
	int r = check_id(id, e);

	if (r < 0)
		return r;
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		char path[PATH_BYTES];

		(void)snprintf(path, sizeof(path), "%s/%s", folders[i], id);
		r = fd_openat(state_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, ret_dir_fd,
		              e);
		if (r != -ENOENT)
			return r;
	}
	return err_set(e, -ENOENT, "sandbox %s has ended and left no record", id);
}

int state_remove_ended(int state_fd, const char *id, struct err *e)
{
	_own_fd_ int fd = -1;
	struct stat st;
	int r = check_id(id, e);

	if (r == 0)
		r = state_open_folder(state_fd, "ended", &fd, e);
	if (r < 0)
		return r;
	if (fstatat(fd, id, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(e, -ENOENT, "there is no record of a sandbox %s", id);
	r = fd_remove_tree(fd, id, e);
	return r == -ENOENT ? 0 : r; /* a sweep was quicker */
}

/* --- the end --- */

static int keep_record(int from_fd, int ended_fd, const char *id, struct span record, struct err *e)
{
	static const char *const files[] = { "info.json",     "log",          "log.1",
		                             "policy",        "egress.jsonl", "egress.jsonl.0",
		                             "egress.jsonl.1" };
	char aside[PATH_BYTES];
	_own_fd_ int to_fd = -1;
	int r;

	(void)snprintf(aside, sizeof(aside), ".tmp-%s", id);
	if (mkdirat(ended_fd, aside, 0700) < 0)
		return err_sys(e, "make a record");
	r = fd_openat(ended_fd, aside, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &to_fd, e);
	for (size_t i = 0; r == 0 && i < sizeof(files) / sizeof(files[0]); i++)
		if (renameat(from_fd, files[i], to_fd, files[i]) < 0 && errno != ENOENT)
			r = err_sys(e, "keep '%s'", files[i]);
	if (r == 0)
		r = write_quick(to_fd, "result.json", record, e);
	if (r == 0 && renameat(ended_fd, aside, ended_fd, id) < 0)
		r = err_sys(e, "make a record");
	if (r < 0)
		state_discard(ended_fd, aside);
	return r;
}

int state_end(int state_fd, const char *id, const char *name, struct span record, struct err *e)
{
	_own_fd_ int sandboxes_fd = -1;
	_own_fd_ int ended_fd = -1;
	_own_fd_ int dir_fd = -1;
	int removed;
	int r = check_id(id, e);

	if (r == 0)
		r = state_open_folder(state_fd, "sandboxes", &sandboxes_fd, e);
	if (r < 0)
		return r;
	if (record.len > 0) {
		r = state_open_folder(state_fd, "ended", &ended_fd, e);
		if (r == 0)
			r = fd_openat(sandboxes_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0,
			              &dir_fd, e);
		if (r == 0)
			r = keep_record(dir_fd, ended_fd, id, record, e);
	}
	if (name && *name)
		state_release_name(state_fd, name, id);
	removed = fd_remove_tree(sandboxes_fd, id, r == 0 ? e : NULL);
	return r < 0 ? r : removed;
}
