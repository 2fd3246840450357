#include "state/work_session.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "state/work_session_inner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	ID_TRIES = 8,
	ID_BYTES = SESSION_ID_LEN / 2,
	STAT_BLOCK_BYTES = 512, /* of st_blocks: stat(2) */
};

static const char folder[] = "sessions";
static const char *const disks[] = { "scratch.img", "rescue.img" };

void work_session_init(struct work_session *s)
{
	*s = (struct work_session){ .dir_fd = -1, .lock_fd = -1 };
}

void work_session_close(struct work_session *s)
{
	own_close_fd(&s->dir_fd);
	own_close_fd(&s->lock_fd);
	work_session_init(s);
}

bool work_session_id_ok(const char *id)
{
	return spec_id_ok(id);
}

int session_open_folder(int state_fd, int *ret_fd, struct err *e)
{
	if (mkdirat(state_fd, folder, 0700) < 0 && errno != EEXIST)
		return err_sys(e, "make the folder '%s' of the state directory", folder);
	return state_open_folder(state_fd, folder, ret_fd, e);
}

/* --- session.json --- */

static int write_info(int dir_fd, const struct work_session_info *info, struct err *e)
{
	_own_free_ char *text = malloc(SESSION_JSON_MAX);
	struct buf b;

	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&b, text, SESSION_JSON_MAX);
	work_session_put_json(&b, info);
	if (!buf_ok(&b))
		return err_set(e, -EMSGSIZE, "what there is to say of session %s is over %d bytes",
		               info->id, SESSION_JSON_MAX);
	return fd_replace_file(dir_fd, "session.json", b.at, b.len, 0600, e);
}

static int read_info(int dir_fd, const char *id, struct work_session_info *ret, struct err *e)
{
	_own_free_ char *text = NULL;
	struct work_session_info got;
	struct stat base;
	size_t len = 0;
	_own_fd_ int fd = -1;
	int r = fd_open_file(dir_fd, "session.json", O_RDONLY, 0, &fd, e);

	if (r == 0)
		r = fd_read_text(fd, SESSION_JSON_MAX, &text, &len, e);
	if (r == 0)
		r = work_session_parse_json(span_of(text, len), &got, e);
	if (r == 0 && strcmp(got.id, id) != 0)
		r = err_set(e, -EBADMSG, "its session.json is of session %s", got.id);
	if (r < 0)
		return err_wrap(
			e,
			"session.json of session %s (its files stay, in sessions/%s of the state "
			"directory)",
			id, id);
	/* who was to have it never came to take it: nothing of it was written over */
	if (fstatat(dir_fd, "base.erofs", &base, AT_SYMLINK_NOFOLLOW) == 0)
		got.handed_to[0] = '\0';
	*ret = got;
	return 0;
}

int work_session_save(struct work_session *s, struct err *e)
{
	s->info.changed_ns = clock_real_ns();
	return write_info(s->dir_fd, &s->info, e);
}

/* --- the lock --- */

/*
 * What a supervisor that died could not say any more: its lock is free, or ours. Only whoever holds
 * that writes it down.
 */
static void settle(struct work_session *s)
{
	struct stat st;

	if (s->info.state != SESSION_RUNNING && s->info.state != SESSION_COLLECTING)
		return;
	if (fstatat(s->dir_fd, "spool.tar", &st, AT_SYMLINK_NOFOLLOW) == 0) {
		s->info.state = SESSION_SPOOLED; /* it has this name once it is whole */
		s->info.spool_bytes = (uint64_t)st.st_size;
		return;
	}
	if (fstatat(s->dir_fd, "scratch.img", &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_blocks == 0) {
		s->info.state = SESSION_PACKED;
		return;
	}
	s->info.state = SESSION_UNCOLLECTED;
	(void)snprintf(s->info.why, sizeof(s->info.why), "its supervisor died");
}

/* For whoever finds it held. Another's word there would mislead, but no more. */
static void sign_lock(int fd, const char *what)
{
	char text[SESSION_WHAT_MAX + 32];
	int n = snprintf(text, sizeof(text), "%d %.*s\n", (int)getpid(), SESSION_WHAT_MAX, what);

	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) != n)
		return;
}

static int tell_process(int fd, const char *id, struct err *e)
{
	char text[SESSION_WHAT_MAX + 32] = "";
	char shown[4 * sizeof(text)];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	struct span all = span_of(text, n > 0 ? (size_t)n : 0);
	struct span pid;
	struct span what;
	struct buf b;

	if (!take_until(&all, ' ', &pid) || !take_until(&all, '\n', &what))
		return err_set(e, -EBUSY, "session %s is in use by another berm: wait for it", id);
	buf_init(&b, shown, sizeof(shown));
	buf_put_escaped(&b, what);
	return err_set(e, -EBUSY,
	               "session %s is in use by another berm (%s, process %.*s): wait for it, or "
	               "end it there",
	               id, buf_cstr(&b), (int)pid.len, (const char *)pid.at);
}

/* As long as a guest is there, it and not a process is what its user knows, and can end. */
static int tell_holder(int dir_fd, int fd, const char *id, struct err *e)
{
	_own_free_ struct work_session_info *now = calloc(1, sizeof(*now));

	if (!now || read_info(dir_fd, id, now, NULL) < 0)
		return tell_process(fd, id, e);
	if (now->state == SESSION_RUNNING && *now->sandbox)
		return err_set(e, -EBUSY,
		               "the agent of session %s still works, in sandbox %s: wait for its "
		               "end, or end it with 'berm stop %s', which keeps its work",
		               id, now->sandbox, now->sandbox);
	if (now->state == SESSION_COLLECTING)
		return err_set(e, -EBUSY,
		               "the work of session %s is being fetched from its guest: wait for "
		               "that ('berm sessions' shows when it is there)",
		               id);
	return tell_process(fd, id, e);
}

int work_session_lock(struct work_session *s, const char *what, struct err *e)
{
	_own_fd_ int fd = -1;
	int r = fd_open_file(s->dir_fd, "lock", O_RDWR, 0, &fd, e);

	if (r < 0)
		return err_wrap(e, "session %s", s->info.id);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? tell_holder(s->dir_fd, fd, s->info.id, e)
		                            : err_sys(e, "lock session %s", s->info.id);
	r = read_info(s->dir_fd, s->info.id, &s->info, e);
	if (r < 0 && s->info.state == SESSION_NONE)
		err_clear(e); /* damaged, as its holder knows: it can only be removed */
	else if (r < 0)
		return r;
	settle(s);
	sign_lock(fd, what);
	s->lock_fd = steal_fd(&fd);
	return 0;
}

void work_session_unlock(struct work_session *s)
{
	own_close_fd(&s->lock_fd);
	s->lock_fd = -1;
}

bool session_lock_is_free(int dir_fd)
{
	_own_fd_ int fd = -1;

	return fd_open_file(dir_fd, "lock", O_RDONLY, 0, &fd, NULL) == 0 &&
	       flock(fd, LOCK_SH | LOCK_NB) == 0;
}

/* --- machines --- */

int work_session_vm_dead(const struct work_session *s, struct err *e)
{
	for (size_t i = 0; i < sizeof(disks) / sizeof(disks[0]); i++) {
		_own_fd_ int fd = -1;
		int r = fd_openat(s->dir_fd, disks[i], O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, &fd,
		                  e);

		if (r == -ENOENT)
			continue;
		if (r < 0)
			return r;
		if (flock(fd, LOCK_SH | LOCK_NB) == 0)
			continue;
		return err_set(
			e, -EBUSY,
			"the machine of session %s may still be alive (its disk %s is in use), "
			"so what it wrote is not read: end sandbox '%s' first",
			s->info.id, disks[i], *s->info.sandbox ? s->info.sandbox : "?");
	}
	return 0;
}

int work_session_open_spool(const struct work_session *s, int *ret_fd, struct err *e)
{
	int r;

	if (s->lock_fd < 0)
		return err_set(e, -EINVAL, "session %s is not locked", s->info.id);
	if (s->info.state < SESSION_SPOOLED)
		return err_set(e, -ENODATA, "the work of session %s was not collected%s%s",
		               s->info.id, *s->info.why ? ": " : "", s->info.why);
	r = work_session_vm_dead(s, e);
	return r == 0 ? fd_open_file(s->dir_fd, "spool.tar", O_RDONLY, 0, ret_fd, e) : r;
}

int work_session_drop_scratch(struct work_session *s, struct err *e)
{
	int r = work_session_vm_dead(s, e);

	for (size_t i = 0; r == 0 && i < sizeof(disks) / sizeof(disks[0]); i++)
		if (unlinkat(s->dir_fd, disks[i], 0) < 0 && errno != ENOENT)
			r = err_sys(e, "remove %s of session %s", disks[i], s->info.id);
	return r;
}

/* --- its base on the disk --- */

static const char synced_name[] = "base.synced";

static bool base_on_disk(const struct work_session *s)
{
	return faccessat(s->dir_fd, synced_name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int note_base(const struct work_session *s)
{
	_own_fd_ int fd = -1;
	int r = fd_openat(s->dir_fd, synced_name, O_WRONLY | O_CREAT | O_NOFOLLOW, 0600, &fd, NULL);

	return r < 0 ? r : fsync(s->dir_fd) < 0 ? -errno : 0;
}

int work_session_sync_base(const struct work_session *s, struct err *e)
{
	static const char *const files[] = { "base.erofs", "base.manifest", "pack.json", "links" };
	int r;

	if (base_on_disk(s))
		return 0;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		_own_fd_ int fd = -1;

		r = fd_open_file(s->dir_fd, files[i], O_RDONLY, 0, &fd, e);
		if (r == -ENOENT)
			continue;
		if (r < 0)
			return r;
		if (fsync(fd) < 0)
			return err_sys(e, "put %s of session %s on the disk", files[i], s->info.id);
	}
	/* their names before the note's */
	r = fsync(s->dir_fd) < 0 ? -errno : note_base(s);
	return r < 0 ? err_set(e, r, "sync session %s: %s", s->info.id, strerrordesc_np(-r)) : 0;
}

static void read_boot(char ret[SESSION_BOOT_LEN + 1])
{
	_own_free_ char *text = NULL;
	size_t len = 0;

	*ret = '\0';
	if (fd_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &text, &len, NULL) == 0 &&
	    len >= SESSION_BOOT_LEN)
		(void)snprintf(ret, SESSION_BOOT_LEN + 1, "%s", text);
}

bool work_session_base_whole(const struct work_session *s)
{
	char boot[SESSION_BOOT_LEN + 1];

	if (base_on_disk(s))
		return true;
	read_boot(boot);
	return *boot && strcmp(boot, s->info.boot) == 0;
}

static uint64_t file_bytes(int dir_fd, const char *name)
{
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	return (uint64_t)st.st_blocks * STAT_BLOCK_BYTES / (st.st_nlink > 1 ? st.st_nlink : 1);
}

uint64_t work_session_disk_bytes(const struct work_session *s)
{
	static const char *const files[] = { "base.erofs",  "base.manifest", "scratch.img",
		                             "rescue.img",  "spool.part",    "spool.tar",
		                             "proposal.idx" };
	uint64_t bytes = 0;

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		bytes += file_bytes(s->dir_fd, files[i]);
	return bytes;
}

/* --- making, opening --- */

static void make_id(char ret[SESSION_ID_LEN + 1])
{
	uint8_t raw[ID_BYTES];

	random_bytes(raw, sizeof(raw));
	for (size_t i = 0; i < sizeof(raw); i++)
		(void)snprintf(ret + 2 * i, 3, "%02x", raw[i]);
}

int work_session_new(int state_fd, const struct work_session_info *info, const char *what,
                     struct work_session *ret, struct err *e)
{
	_own_(work_session_close) struct work_session s;
	_own_fd_ int folder_fd = -1;
	int r = session_open_folder(state_fd, &folder_fd, e);

	work_session_init(&s);
	if (r < 0)
		return r;
	s.info = *info;
	s.info.state = SESSION_PACKING;
	s.info.undecided = s.info.left = SESSION_UNKNOWN;
	s.info.created_ns = clock_real_ns();
	read_boot(s.info.boot);
	for (int i = 0; i < ID_TRIES; i++) {
		make_id(s.info.id);
		r = state_make_dir(folder_fd, s.info.id, NULL, &s.dir_fd, &s.lock_fd, e);
		if (r != -EEXIST)
			break;
	}
	if (r < 0)
		return r;
	sign_lock(s.lock_fd, what);
	r = work_session_save(&s, e);
	if (r < 0) {
		(void)fd_remove_tree(folder_fd, s.info.id, NULL);
		return r;
	}
	*ret = s;
	work_session_init(&s);
	return 0;
}

int session_open_in(int folder_fd, const char *id, struct work_session *ret, struct err *e)
{
	_own_(work_session_close) struct work_session s;
	int r;

	work_session_init(&s);
	r = fd_openat(folder_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &s.dir_fd, e);
	if (r == -ENOENT)
		return err_set(e, r, "there is no session %s: 'berm sessions' lists them", id);
	if (r == 0)
		r = read_info(s.dir_fd, id, &s.info, e);
	if (r < 0)
		return r;
	if (session_lock_is_free(s.dir_fd))
		settle(&s);
	*ret = s;
	work_session_init(&s);
	return 0;
}

/* Nobody is at it, and there is nothing to read: it was not just made, and is not being removed. */
static bool has_no_info(int dir_fd)
{
	struct stat st;

	return fstatat(dir_fd, "session.json", &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT &&
	       session_lock_is_free(dir_fd);
}

int session_open_any(int folder_fd, const char *id, struct work_session *ret, struct err *e)
{
	_own_(work_session_close) struct work_session s;
	struct err why = { 0 };
	int r;

	work_session_init(&s);
	r = session_open_in(folder_fd, id, ret, &why);
	if (r == 0)
		return 0;
	if (fd_openat(folder_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &s.dir_fd, NULL) < 0 ||
	    (r == -ENOENT && !has_no_info(s.dir_fd))) {
		*e = why;
		return r;
	}
	(void)snprintf(s.info.id, sizeof(s.info.id), "%s", id);
	(void)snprintf(s.info.why, sizeof(s.info.why), "%s", why.text);
	*ret = s;
	work_session_init(&s);
	return 0;
}

int work_session_adopt(int dir_fd, int lock_fd, struct work_session *ret, struct err *e)
{
	_own_(work_session_close) struct work_session s = { .dir_fd = dir_fd, .lock_fd = lock_fd };
	_own_free_ char *text = NULL;
	size_t len = 0;
	_own_fd_ int fd = -1;
	int r = fd_open_file(dir_fd, "session.json", O_RDONLY, 0, &fd, e);

	if (r == 0)
		r = fd_read_text(fd, SESSION_JSON_MAX, &text, &len, e);
	if (r == 0)
		r = work_session_parse_json(span_of(text, len), &s.info, e);
	if (r < 0)
		return err_wrap(e, "the session");
	*ret = s;
	work_session_init(&s);
	return 0;
}

int work_session_open(int state_fd, const char *id, struct work_session *ret, struct err *e)
{
	_own_fd_ int folder_fd = -1;
	int r = work_session_id_ok(id) ? session_open_folder(state_fd, &folder_fd, e)
	                               : err_set(e, -EINVAL, "'%s' is no session id", id);

	return r == 0 ? session_open_in(folder_fd, id, ret, e) : r;
}

DIR *session_open_stream(int state_fd, struct err *e)
{
	_own_fd_ int fd = -1;
	DIR *dir;

	if (session_open_folder(state_fd, &fd, e) < 0)
		return NULL;
	dir = fdopendir(fd);
	if (dir)
		(void)steal_fd(&fd);
	else
		(void)err_sys(e, "list sessions");
	return dir;
}

static int find_id(int state_fd, const char *ref, char ret[SESSION_ID_LEN + 1], struct err *e)
{
	_own_(state_close_stream) DIR *dir = session_open_stream(state_fd, e);
	char found[SESSION_ID_LEN + 1] = "";
	size_t len = strnlen(ref, SESSION_ID_LEN + 1);
	const struct dirent *d;

	if (!dir)
		return e->code;
	for (int n = 0; n < SESSIONS_MAX && (d = readdir(dir)); n++) {
		if (!work_session_id_ok(d->d_name) || len < SESSION_PREFIX_MIN ||
		    strncmp(d->d_name, ref, len) != 0)
			continue;
		if (*found)
			return err_set(
				e, -EEXIST,
				"'%s' fits more than one session (%s, %s): give more of the id",
				ref, found, d->d_name);
		memcpy(found, d->d_name, sizeof(found));
	}
	if (!*found)
		return err_set(e, -ENOENT, "there is no session '%s': 'berm sessions' lists them",
		               ref);
	memcpy(ret, found, sizeof(found));
	return 0;
}

int work_session_find(int state_fd, const char *ref, struct work_session *ret, struct err *e)
{
	char id[SESSION_ID_LEN + 1];
	int r = find_id(state_fd, ref, id, e);

	return r == 0 ? work_session_open(state_fd, id, ret, e) : r;
}

int work_session_find_any(int state_fd, const char *ref, struct work_session *ret, struct err *e)
{
	char id[SESSION_ID_LEN + 1];
	_own_fd_ int folder_fd = -1;
	int r = find_id(state_fd, ref, id, e);

	if (r == 0)
		r = session_open_folder(state_fd, &folder_fd, e);
	return r == 0 ? session_open_any(folder_fd, id, ret, e) : r;
}

/* --- its end --- */

int work_session_remove(int state_fd, struct work_session *s, struct err *e)
{
	_own_fd_ int folder_fd = -1;
	int r = s->lock_fd >= 0 ? work_session_vm_dead(s, e)
	                        : err_set(e, -EINVAL, "session %s is not locked", s->info.id);

	if (r == 0)
		r = session_open_folder(state_fd, &folder_fd, e);
	if (r == 0)
		r = fd_remove_tree(folder_fd, s->info.id, e);
	if (r == 0)
		work_session_close(s);
	return r;
}
