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
 * waits and then finds it. A builder that dies leaves a .tmp directory whose lock nobody holds;
 * state_sweep() removes those.
 */

enum { LOCK_POLL_NS = 20000000, NAME_LEN = 16 };

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

int template_lock(int templates_fd, struct span key, uint64_t timeout_ms, int *ret_lock_fd,
                  struct err *e)
{
	const struct timespec pause = { .tv_nsec = LOCK_POLL_NS };
	uint64_t deadline = clock_mono_ms() + timeout_ms;
	char name[TEMPLATE_NAME_MAX];
	char path[TEMPLATE_NAME_MAX + 8];
	_own_fd_ int fd = -1;
	int r;

	name_of(key, name);
	(void)snprintf(path, sizeof(path), "%s.lock", name);
	r = fd_openat(templates_fd, path, O_RDWR | O_CREAT, 0600, &fd, e);
	if (r < 0)
		return r;
	/* flock has no deadline of its own, and an alarm would be the whole process's */
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_sys(e, "lock a template");
		if (clock_mono_ms() >= deadline)
			return err_set(
				e, -ETIMEDOUT,
				"another process has been building this template for too long");
		(void)nanosleep(&pause, NULL);
	}
	*ret_lock_fd = steal_fd(&fd);
	return 0;
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
