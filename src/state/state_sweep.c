/*
 * Theory of operation
 *
 * Every live thing here is a directory with a file `lock` that its owner holds by flock(2), which
 * the kernel lets go when the owner dies, however it dies. State made by state_make_dir() has its
 * lock held before it appears, so "not held" is "dead" without any waiting. Only what is not
 * finished (".new-", ".tmp-", a directory half removed) is judged by its age as well, because
 * there the lock file may be a moment away.
 *
 * Several sweeps may run at once, and beside supervisors that are just removing their own: that
 * something is gone already is success everywhere. An id is never used twice, so what was found
 * dead cannot have come to life when it is removed; a name can, see state_names.c.
 */
#include "state/state_internal.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "engine/template.h"
#include "jail/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

enum {
	CGROUP_TEXT_MAX = 8 << 10, /* a path for each controller */
	NS_PER_MS = 1000000,
};

static bool starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* By its last change. A time ahead of the clock is a clock that was set back: old as well. */
static bool older_than(int dir_fd, const char *name, uint64_t age_ms)
{
	uint64_t now_ms = clock_real_ns() / NS_PER_MS;
	uint64_t then_ms;
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_mtim.tv_sec < 0)
		return false;
	then_ms = (uint64_t)st.st_mtim.tv_sec * 1000 + (uint64_t)st.st_mtim.tv_nsec / NS_PER_MS;
	return then_ms > now_ms + age_ms || now_ms > then_ms + age_ms;
}

/* What a supervisor could not kill any more. The engine dies with it; this is the second net. */
static void remove_cgroup(int sandboxes_fd, const char *id)
{
	_own_fd_ int dir_fd = -1;
	_own_free_ char *text = NULL;
	struct cgroup cg;
	size_t len = 0;

	if (fd_openat(sandboxes_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &dir_fd, NULL) <
	            0 ||
	    fd_read_file(dir_fd, "cgroup", CGROUP_TEXT_MAX, &text, &len, NULL) < 0 ||
	    cgroup_from_text(span_of(text, len), STATE_CGROUP_PREFIX, &cg, NULL) < 0)
		return;
	if (cgroup_kill(&cg, NULL) == 0)
		(void)cgroup_remove(&cg, NULL);
}

/* The young are not even probed: that could meet their maker's first attempt at the lock. */
static void sweep_unfinished(int dir_fd, const char *name, uint64_t free_age_ms)
{
	enum state_lock lock;

	if (!older_than(dir_fd, name, free_age_ms))
		return;
	lock = state_probe_lock(dir_fd, name);
	if (lock == STATE_LOCK_FREE ||
	    (lock == STATE_LOCK_ABSENT && older_than(dir_fd, name, STATE_START_GRACE_MS)))
		state_discard(dir_fd, name);
}

static void sweep_sandbox(int dir_fd, const char *id)
{
	enum state_lock lock = state_probe_lock(dir_fd, id);

	if (lock == STATE_LOCK_HELD)
		return;
	/* no lock file: somebody is removing it, or died at it */
	if (lock == STATE_LOCK_ABSENT && !older_than(dir_fd, id, STATE_START_GRACE_MS))
		return;
	remove_cgroup(dir_fd, id);
	state_discard(dir_fd, id);
}

static void sweep_sandboxes(int state_fd)
{
	_own_(state_close_stream) DIR *dir = state_open_stream(state_fd, "sandboxes");
	const struct dirent *d;

	for (int n = 0; dir && n < STATE_ENTRIES_MAX && (d = readdir(dir)); n++) {
		if (d->d_name[0] == '@')
			state_sweep_name(dirfd(dir), d->d_name);
		else if (starts_with(d->d_name, ".new-"))
			sweep_unfinished(dirfd(dir), d->d_name, STATE_START_GRACE_MS);
		else if (spec_id_ok(d->d_name))
			sweep_sandbox(dirfd(dir), d->d_name);
	}
}

/* A session has work in it, and nobody but its user ends one; its draft has none. */
static void sweep_sessions(int state_fd)
{
	_own_(state_close_stream) DIR *dir = state_open_stream(state_fd, "sessions");
	const struct dirent *d;

	for (int n = 0; dir && n < STATE_ENTRIES_MAX && (d = readdir(dir)); n++)
		if (starts_with(d->d_name, ".new-"))
			sweep_unfinished(dirfd(dir), d->d_name, STATE_START_GRACE_MS);
}

/* Drafts of templates and snapshots (engine/saved.h). */
static void sweep_saved(int state_fd, const char *folder)
{
	_own_(state_close_stream) DIR *dir = state_open_stream(state_fd, folder);
	const struct dirent *d;

	for (int n = 0; dir && n < STATE_ENTRIES_MAX && (d = readdir(dir)); n++) {
		if (starts_with(d->d_name, ".new-"))
			sweep_unfinished(dirfd(dir), d->d_name, STATE_START_GRACE_MS);
		else if (starts_with(d->d_name, ".tmp-"))
			sweep_unfinished(dirfd(dir), d->d_name, STATE_LOCK_GRACE_MS);
		else
			template_sweep_lock(dirfd(dir), d->d_name);
	}
}

/* The newest STATE_ENDED_MAX records of those seen so far, oldest first. */
struct kept {
	size_t count;
	struct {
		char id[SPEC_ID_LEN + 1];
		int64_t s, ns;
	} at[STATE_ENDED_MAX + 1];
};

/* Puts one in its place; if there are too many then, the oldest is taken out and removed. */
static void keep(struct kept *k, int ended_fd, const char *id, const struct timespec *when)
{
	size_t i = k->count++;

	for (; i > 0; i--) {
		if (k->at[i - 1].s < when->tv_sec ||
		    (k->at[i - 1].s == when->tv_sec && k->at[i - 1].ns <= when->tv_nsec))
			break;
		k->at[i] = k->at[i - 1];
	}
	memcpy(k->at[i].id, id, SPEC_ID_LEN + 1);
	k->at[i].s = when->tv_sec;
	k->at[i].ns = when->tv_nsec;
	if (k->count <= STATE_ENDED_MAX)
		return;
	state_discard(ended_fd, k->at[0].id);
	k->count--;
	memmove(&k->at[0], &k->at[1], k->count * sizeof(k->at[0]));
}

static void sweep_record(struct kept *k, int ended_fd, const char *id)
{
	struct stat st;

	if (older_than(ended_fd, id, (uint64_t)STATE_ENDED_DAYS_MAX * 86400 * 1000))
		state_discard(ended_fd, id);
	else if (fstatat(ended_fd, id, &st, AT_SYMLINK_NOFOLLOW) == 0)
		keep(k, ended_fd, id, &st.st_mtim);
}

static void sweep_ended(int state_fd)
{
	_own_(state_close_stream) DIR *dir = state_open_stream(state_fd, "ended");
	struct kept kept = { 0 };
	const struct dirent *d;

	for (int n = 0; dir && n < STATE_ENTRIES_MAX && (d = readdir(dir)); n++) {
		if (spec_id_ok(d->d_name))
			sweep_record(&kept, dirfd(dir), d->d_name);
		else if (starts_with(d->d_name, ".tmp-") &&
		         !state_alive(state_fd, d->d_name + strlen(".tmp-")) &&
		         older_than(dirfd(dir), d->d_name, STATE_START_GRACE_MS))
			state_discard(dirfd(dir), d->d_name);
	}
}

void state_sweep(int state_fd)
{
	sweep_sandboxes(state_fd);
	sweep_ended(state_fd);
	sweep_saved(state_fd, "templates");
	sweep_saved(state_fd, "snapshots");
	sweep_sessions(state_fd);
}
