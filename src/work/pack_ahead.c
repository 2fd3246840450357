/*
 * pack_ahead: a second thread that reads directories a little before the walk comes to them.
 *
 * Theory of operation
 *
 * A second pack of a tree asks the kernel about every file and does little else, so what it takes
 * is the kernel's answers one after another. The walk names the next few directories of each level
 * as jobs; the helper opens and lists one and looks at its files. When the walk comes to one
 * it takes what is there, reads itself what nobody has begun, and while the helper is at one it
 * does the next instead of waiting. A job that failed in any way is as if it had not been: the walk
 * meets the trouble itself.
 *
 * To wake a thread costs more than to read a small directory, most of all in a virtual machine. So
 * neither wakes the other unless that one sleeps, and the helper not for the sake of one directory.
 *
 * A job borrows its level's directory and names, so a level ends only after its jobs. The lock
 * covers the states and nothing else: a job's result is written by the helper while it is RUNNING,
 * and read by the walk once it is DONE.
 */
#include "work/pack_internal.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/kernel_gaps.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum {
	JOBS_MAX = 32,    /* and so many fds at most: eight of each of four levels */
	NAMES_MAX = 4096, /* of a larger directory nothing is kept: 3 MiB a job with their looks */
};

enum job_state { JOB_FREE, JOB_WAITING, JOB_RUNNING, JOB_DONE };

struct job {
	enum job_state state;
	const struct level *level; /* whose directory it is in */
	const char *name;
	uint64_t number;
	struct ahead_dir got;
	bool ok;
};

struct ahead {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t work, done;
	bool stop;
	bool idle, awaited; /* the helper sleeps, unwoken; the walk does, for a job of its */
	unsigned waiting;   /* jobs that nobody has begun */
	uint64_t pushed;
	struct job jobs[JOBS_MAX];
	uint8_t *scratch, *walks_scratch; /* LIST_READ_BYTES each */
};

void ahead_dir_free(struct ahead_dir *d)
{
	own_close_fd(&d->fd);
	list_free(&d->names);
	free(d->looks);
	*d = (struct ahead_dir){ .fd = -1 };
}

static void look_at_files(struct ahead_dir *d)
{
	if (d->names.count == 0)
		return;
	d->looks = calloc(d->names.count, sizeof(*d->looks));
	for (uint32_t i = 0; d->looks && i < d->names.count; i++) {
		const struct list_entry *at = &d->names.at[i];

		/* st_nlink stays 0 of what could not be looked at */
		if (at->type == DT_REG &&
		    fstatat(d->fd, list_name(&d->names, at), &d->looks[i], AT_SYMLINK_NOFOLLOW) < 0)
			d->looks[i] = (struct stat){ .st_nlink = 0 };
	}
}

static bool run_job(struct job *j, uint8_t *scratch)
{
	struct ahead_dir *d = &j->got;
	struct err ignored;

	d->stamp_ns = clock_stamp_ns();
	if (fd_open_beneath(j->level->dir_fd, j->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0,
	                    RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV, &d->fd, NULL) < 0 ||
	    fstat(d->fd, &d->st) < 0 || d->st.st_dev != j->level->dev ||
	    list_read(&d->names, d->fd, NULL, 0, NAMES_MAX, scratch, &ignored) < 0)
		return false;
	look_at_files(d);
	return true;
}

/* What the walk comes to first: the deepest, and of those the first. */
static struct job *next_job(struct ahead *a)
{
	struct job *found = NULL;

	for (int i = 0; a->waiting > 0 && i < JOBS_MAX; i++) {
		struct job *j = &a->jobs[i];

		if (j->state == JOB_WAITING &&
		    (!found || j->level->depth > found->level->depth ||
		     (j->level->depth == found->level->depth && j->number < found->number)))
			found = j;
	}
	return found;
}

/* Locked before and after, and not meanwhile. */
static void do_job(struct ahead *a, struct job *j, uint8_t *scratch)
{
	bool ok;

	j->state = JOB_RUNNING;
	a->waiting--;
	(void)pthread_mutex_unlock(&a->lock);
	ok = run_job(j, scratch);
	(void)pthread_mutex_lock(&a->lock);
	j->ok = ok;
	j->state = JOB_DONE;
}

static void *help(void *arg)
{
	struct ahead *a = arg;

	(void)pthread_mutex_lock(&a->lock);
	while (!a->stop) {
		struct job *j = next_job(a);

		if (!j) {
			a->idle = true;
			(void)pthread_cond_wait(&a->work, &a->lock);
			a->idle = false;
			continue;
		}
		do_job(a, j, a->scratch);
		if (a->awaited)
			(void)pthread_cond_signal(&a->done);
	}
	(void)pthread_mutex_unlock(&a->lock);
	return NULL;
}

struct ahead *ahead_new(void)
{
	struct ahead *a = calloc(1, sizeof(*a));
	sigset_t all, before;
	int r;

	if (!a)
		return NULL;
	for (int i = 0; i < JOBS_MAX; i++)
		a->jobs[i].got.fd = -1;
	a->scratch = malloc(LIST_READ_BYTES);
	a->walks_scratch = malloc(LIST_READ_BYTES);
	(void)pthread_mutex_init(&a->lock, NULL);
	(void)pthread_cond_init(&a->work, NULL);
	(void)pthread_cond_init(&a->done, NULL);
	/* a signal is for whoever started the walk */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	r = a->scratch && a->walks_scratch ? pthread_create(&a->thread, NULL, help, a) : ENOMEM;
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r == 0)
		return a;
	free(a->scratch);
	free(a->walks_scratch);
	free(a);
	return NULL;
}

void ahead_free(struct ahead *a)
{
	if (!a)
		return;
	(void)pthread_mutex_lock(&a->lock);
	a->stop = true;
	(void)pthread_cond_signal(&a->work);
	(void)pthread_mutex_unlock(&a->lock);
	(void)pthread_join(a->thread, NULL);
	for (int i = 0; i < JOBS_MAX; i++)
		ahead_dir_free(&a->jobs[i].got);
	(void)pthread_cond_destroy(&a->done);
	(void)pthread_cond_destroy(&a->work);
	(void)pthread_mutex_destroy(&a->lock);
	free(a->scratch);
	free(a->walks_scratch);
	free(a);
}

bool ahead_push(struct ahead *a, const struct level *l, const char *name)
{
	bool pushed = false;

	(void)pthread_mutex_lock(&a->lock);
	for (uint32_t i = 0; !pushed && i < JOBS_MAX; i++) {
		struct job *j = &a->jobs[i];

		if (j->state != JOB_FREE)
			continue;
		j->state = JOB_WAITING;
		j->level = l;
		j->name = name;
		j->number = a->pushed++;
		a->waiting++;
		pushed = true;
	}
	(void)pthread_mutex_unlock(&a->lock);
	return pushed;
}

void ahead_wake(struct ahead *a, unsigned least)
{
	(void)pthread_mutex_lock(&a->lock);
	if (a->idle && a->waiting >= least) {
		a->idle = false;
		(void)pthread_cond_signal(&a->work);
	}
	(void)pthread_mutex_unlock(&a->lock);
}

/* The job is nobody's any more; what it has read is moved to *ret, if that is wanted. */
static bool settle(struct ahead *a, struct job *j, struct ahead_dir *ret)
{
	bool ok;

	while (j->state == JOB_RUNNING) {
		struct job *other = ret ? next_job(a) : NULL;

		if (other) {
			do_job(a, other, a->walks_scratch);
			continue;
		}
		a->awaited = true;
		(void)pthread_cond_wait(&a->done, &a->lock);
		a->awaited = false;
	}
	if (j->state == JOB_WAITING)
		a->waiting--;
	ok = j->state == JOB_DONE && j->ok;
	if (ok && ret) {
		*ret = j->got;
		j->got = (struct ahead_dir){ .fd = -1 };
	}
	ahead_dir_free(&j->got);
	j->state = JOB_FREE;
	return ok;
}

bool ahead_take(struct ahead *a, const struct level *l, const char *name, struct ahead_dir *ret)
{
	bool got = false;

	(void)pthread_mutex_lock(&a->lock);
	for (uint32_t i = 0; i < JOBS_MAX; i++) {
		struct job *j = &a->jobs[i];

		if (j->state != JOB_FREE && j->level == l && j->name == name)
			got = settle(a, j, ret);
	}
	(void)pthread_mutex_unlock(&a->lock);
	return got;
}

void ahead_drop(struct ahead *a, const struct level *l)
{
	(void)pthread_mutex_lock(&a->lock);
	for (uint32_t i = 0; i < JOBS_MAX; i++)
		if (a->jobs[i].state != JOB_FREE && a->jobs[i].level == l)
			(void)settle(a, &a->jobs[i], NULL);
	(void)pthread_mutex_unlock(&a->lock);
}
