#include "engine/template.h"

#include "base/clock.h"
#include "base/fdio.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/*
 * Theory of operation
 *
 * The name of a template is a hash of its key, but the name is only where to look: meta holds the
 * whole key, and one that differs is no match. So a hash collision costs a rebuild and nothing
 * else, and no cryptographic hash is on the path of every start.
 *
 * Two processes that want the same missing template meet at <name>.lock: one builds, the other
 * waits and then finds it. A lock is worth something only on the file that has its name at that
 * moment, so the holder may remove the file before he lets go, and a waiter who then gets the lock
 * of a file without a name takes it for a miss. A builder that dies leaves its lock file, and a
 * .tmp directory whose lock nobody holds; state_sweep() removes those.
 */

enum { LOCK_POLL_NS = 20000000, NAME_LEN = 16 };

static const char lock_suffix[] = ".lock";

static void name_of(struct span key, char ret[TEMPLATE_NAME_MAX])
{
	(void)snprintf(ret, TEMPLATE_NAME_MAX, "%016" PRIx64,
	               (uint64_t)XXH3_64bits(key.at, key.len));
}

static int open_and_check(int templates_fd, const char *name, struct span key, struct saved *ret,
                          struct err *e)
{
	_own_(saved_close) struct saved got;
	_own_free_ char *note = NULL;
	size_t len;
	int r;

	saved_init(&got);
	r = saved_open(templates_fd, name, SAVED_STRICT, &got, &note, &len, e);
	if (r < 0)
		return r;
	if (!span_equal(span_of(note, len), key))
		return err_set(e, -ESTALE, "its description is not the one asked for");
	*ret = got;
	saved_init(&got);
	return 0;
}

int template_open(int templates_fd, struct span key, struct saved *ret, struct err *e)
{
	char name[TEMPLATE_NAME_MAX];

	name_of(key, name);
	if (faccessat(templates_fd, name, F_OK, 0) < 0)
		return err_set(e, -ENOENT, "there is no template yet");
	if (open_and_check(templates_fd, name, key, ret, e) == 0)
		return 0;
	(void)err_wrap(e, "the template was dropped");
	template_drop(templates_fd, key);
	if (e)
		e->code = -ENOENT;
	return -ENOENT;
}

void template_drop(int templates_fd, struct span key)
{
	char name[TEMPLATE_NAME_MAX];

	name_of(key, name);
	(void)saved_remove(templates_fd, name, NULL);
}

void template_wset_init(struct template_wset *w)
{
	*w = (struct template_wset){ .templates_fd = -1, .fd = -1 };
}

int template_wset_new(int templates_fd, struct span key, struct template_wset *ret, struct err *e)
{
	struct template_wset w = { .templates_fd = templates_fd, .fd = -1 };
	char name[TEMPLATE_NAME_MAX];
	struct stat st;
	uint64_t salt;
	int r;

	name_of(key, name);
	random_bytes(&salt, sizeof(salt)); /* one that died left its own behind */
	(void)snprintf(w.place, sizeof(w.place), "%s/wset", name);
	(void)snprintf(w.path, sizeof(w.path), "%s/.wset-%016" PRIx64, name, salt);
	if (fstatat(templates_fd, w.place, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return err_set(e, -EEXIST, "the template's first pages are known");
	r = fd_openat(templates_fd, w.path, O_WRONLY | O_CREAT | O_EXCL, 0600, &w.fd, e);
	if (r == 0)
		*ret = w;
	return r;
}

int template_wset_commit(struct template_wset *w, struct err *e)
{
	if (renameat(w->templates_fd, w->path, w->templates_fd, w->place) < 0)
		return err_sys(e, "keep the template's first pages");
	*w->path = '\0';
	return 0;
}

void template_wset_close(struct template_wset *w)
{
	if (w->fd >= 0 && *w->path)
		(void)unlinkat(w->templates_fd, w->path, 0);
	own_close_fd(&w->fd);
	template_wset_init(w);
}

void template_wset_close_scope(struct template_wset *w)
{
	template_wset_close(w);
}

void template_lock_init(struct template_lock *l)
{
	*l = (struct template_lock){ .templates_fd = -1, .fd = -1 };
}

/* Is the open file still the one at its path? Else who held it before us has removed it. */
static bool still_there(int templates_fd, const char *name, int fd)
{
	struct stat ours;
	struct stat there;

	return fstat(fd, &ours) == 0 &&
	       fstatat(templates_fd, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	       ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
}

/* 0: held. -EAGAIN: somebody else has it, or had it and took the file away: try again. */
static int try_lock(int templates_fd, const char *name, int flags, int *fd, struct err *e)
{
	int r;

	if (*fd < 0) {
		r = fd_openat(templates_fd, name, O_RDWR | O_NOFOLLOW | flags, 0600, fd, e);
		if (r < 0)
			return r;
	}
	if (flock(*fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK || errno == EINTR ? -EAGAIN
		                                              : err_sys(e, "lock a template");
	if (still_there(templates_fd, name, *fd))
		return 0;
	(void)close(steal_fd(fd));
	return -EAGAIN;
}

/* For whoever waits too long. Another's number, or none, would be misleading, but no more. */
static void write_pid(int fd)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());

	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) != n)
		return;
}

static int waited_too_long(int fd, uint64_t waited_ms, struct err *e)
{
	char text[32] = "";
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	uint64_t pid = 0;
	struct span all = span_of(text, n > 0 ? (size_t)n : 0);
	struct span line;

	if (!take_until(&all, '\n', &line) || !span_to_u64(line, &pid))
		pid = 0;
	return err_set(e, -ETIMEDOUT,
	               "another process (pid %" PRIu64 ") has been building this template for over "
	               "%" PRIu64 " s: wait for it or end it, or start with --cold",
	               pid, waited_ms / 1000);
}

int template_lock(int templates_fd, struct span key, const struct template_wait *w,
                  struct template_lock *ret, struct err *e)
{
	const struct timespec pause = { .tv_nsec = LOCK_POLL_NS };
	uint64_t deadline = clock_mono_ms() + w->timeout_ms;
	char name[TEMPLATE_NAME_MAX];
	struct template_lock got;
	_own_fd_ int fd = -1;
	bool told = false;
	int r;

	template_lock_init(&got);
	name_of(key, name);
	(void)snprintf(got.name, sizeof(got.name), "%s%s", name, lock_suffix);
	/* flock has no deadline of its own, and an alarm would be the whole process's */
	while ((r = try_lock(templates_fd, got.name, O_CREAT, &fd, e)) == -EAGAIN) {
		if (fd < 0)
			continue; /* a new file: no need to wait */
		if (clock_mono_ms() >= deadline)
			return waited_too_long(fd, w->timeout_ms, e);
		if (!told && w->waiting)
			w->waiting(w->arg);
		told = true;
		(void)nanosleep(&pause, NULL);
	}
	if (r < 0)
		return r;
	write_pid(fd);
	got.templates_fd = templates_fd;
	got.fd = steal_fd(&fd);
	*ret = got;
	return 0;
}

/* The file goes first: whoever gets the lock of it then sees that it is none, and makes another. */
void template_unlock(struct template_lock *l)
{
	if (l->fd < 0)
		return;
	(void)unlinkat(l->templates_fd, l->name, 0);
	own_close_fd(&l->fd);
	template_lock_init(l);
}

void template_unlock_scope(struct template_lock *l)
{
	template_unlock(l);
}

void template_sweep_lock(int templates_fd, const char *name)
{
	size_t len = strlen(name);
	_own_fd_ int fd = -1;

	if (len != NAME_LEN + sizeof(lock_suffix) - 1 || strcmp(name + NAME_LEN, lock_suffix) != 0)
		return;
	if (try_lock(templates_fd, name, 0, &fd, NULL) == 0)
		(void)unlinkat(templates_fd, name, 0);
}

/* Removes the least recently used templates beyond the number kept. Best effort. */
static void prune(int templates_fd)
{
	int fd = openat(templates_fd, ".",
	                O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* banned-ok: fdopendir takes it */
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	char oldest[TEMPLATE_NAME_MAX] = "";
	time_t oldest_at = 0;
	struct dirent *d;
	int count = 0;

	if (!dir)
		return;
	while ((d = readdir(dir))) {
		struct stat st;

		if (strlen(d->d_name) != NAME_LEN || fstatat(templates_fd, d->d_name, &st, 0) < 0)
			continue;
		count++;
		if (!*oldest || st.st_mtime < oldest_at) {
			oldest_at = st.st_mtime;
			(void)snprintf(oldest, sizeof(oldest), "%s", d->d_name);
		}
	}
	(void)closedir(dir);
	if (count > TEMPLATE_KEPT_MAX)
		(void)saved_remove(templates_fd, oldest, NULL);
}

int template_commit(int templates_fd, struct draft *d, struct span key, struct err *e)
{
	char name[TEMPLATE_NAME_MAX];
	int r = key.len > TEMPLATE_KEY_MAX
	                ? err_set(e, -EMSGSIZE, "a template's key is over %d bytes",
	                          TEMPLATE_KEY_MAX)
	                : draft_seal(d, key, e);

	name_of(key, name);
	if (r == 0)
		r = draft_publish(templates_fd, d, name, true, e);
	if (r < 0) {
		draft_discard(templates_fd, d);
		return r;
	}
	prune(templates_fd);
	return 0;
}
