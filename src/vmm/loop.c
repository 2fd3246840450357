/*
 * Theory of operation
 *
 * A watch is named by its place in the table and by how often that place has been taken; the name
 * travels through epoll with the event. A callback may drop any watch and make new ones, on the
 * same fd number and the same place even: an event that epoll had already handed out then bears a
 * name nobody has any more, and is passed over.
 *
 * epoll reports errors and hang-ups whether asked or not. A watch that wants nothing is therefore
 * put to sleep with EPOLLONESHOT, which the kernel honours for these as well. It may come up once
 * after that, with nothing wanted, and is passed over.
 *
 * Calls lie on their callers' stacks, linked in order of arrival, and a caller waits until its own
 * is marked done. Whoever stops the loop marks all that wait, so a caller never waits for a loop
 * that has gone.
 */
#include "vmm/loop.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

enum {
	INDEX_BITS = 8, /* of an id: the place; above it how often it was taken */
	INDEX_MASK = (1 << INDEX_BITS) - 1,
	TAKEN_MAX = (1 << 24) - 1,
	ID_WAKE = 0, /* no watch has it: taken counts from 1 */
};
_Static_assert((int)LOOP_WATCHES_MAX <= (int)INDEX_MASK + 1, "an id has room for the index");

struct watch {
	loop_fn fn; /* NULL: free */
	void *arg;
	int fd;
	uint32_t events;
	unsigned taken;
};

struct call {
	struct call *next;
	void (*fn)(void *arg);
	void *arg;
	bool done;
};

enum loop_state { LOOP_IDLE, LOOP_RUNNING, LOOP_STOPPED };

struct loop {
	int epoll_fd;
	int wake_fd; /* calls wait, or the loop is to stop */
	struct watch watches[LOOP_WATCHES_MAX];

	pthread_mutex_t lock; /* all below */
	pthread_cond_t changed;
	enum loop_state state;
	pthread_t thread;     /* that made it, or runs it */
	unsigned plain_calls; /* under way while idle; loop_run() waits for their end */
	struct call *first, *last;
};

static void wake(const struct loop *l)
{
	uint64_t one = 1;
	ssize_t n = write(l->wake_fd, &one, sizeof(one));

	/* EAGAIN: it is readable since 2^64 - 2 calls */
	assert(n == (ssize_t)sizeof(one) || errno == EAGAIN);
}

static int make_fds(struct loop *l, struct err *e)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = ID_WAKE };

	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll_fd < 0)
		return err_sys(e, "epoll_create1");
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->wake_fd < 0)
		return err_sys(e, "eventfd");
	if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, l->wake_fd, &ev) < 0)
		return err_sys(e, "watch the loop's own eventfd");
	return 0;
}

int loop_new(struct loop **ret, struct err *e)
{
	_own_(loop_free) struct loop *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return err_set(e, -ENOMEM, "out of memory");
	l->epoll_fd = l->wake_fd = -1;
	(void)pthread_mutex_init(&l->lock, NULL); /* with no attributes it cannot fail */
	(void)pthread_cond_init(&l->changed, NULL);
	l->thread = pthread_self();
	r = make_fds(l, e);
	if (r < 0)
		return r;
	*ret = steal_ptr(&l);
	return 0;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	assert(l->state != LOOP_RUNNING && !l->first);
	own_close_fd(&l->wake_fd);
	own_close_fd(&l->epoll_fd);
	(void)pthread_cond_destroy(&l->changed);
	(void)pthread_mutex_destroy(&l->lock);
	free(l);
}

/* NULL: the watch of that name is gone. */
static struct watch *find(struct loop *l, uint64_t id)
{
	size_t index = id & INDEX_MASK;
	struct watch *w;

	if (index >= LOOP_WATCHES_MAX)
		return NULL;
	w = &l->watches[index];
	return w->fn && w->taken == id >> INDEX_BITS ? w : NULL;
}

static int control(struct loop *l, int op, const struct watch *w)
{
	unsigned id = w->taken << INDEX_BITS | (unsigned)(w - l->watches);
	struct epoll_event ev = { .events = w->events ? w->events : EPOLLONESHOT, .data.u64 = id };

	return epoll_ctl(l->epoll_fd, op, w->fd, &ev);
}

int loop_watch(struct loop *l, int fd, uint32_t events, loop_fn fn, void *arg, unsigned *ret_id,
               struct err *e)
{
	struct watch *w = l->watches;

	assert(fn);
	while (w < l->watches + LOOP_WATCHES_MAX && w->fn)
		w++;
	if (w == l->watches + LOOP_WATCHES_MAX)
		return err_set(e, -ENOSPC, "at most %d fds can be watched", LOOP_WATCHES_MAX);
	w->taken = w->taken == TAKEN_MAX ? 1 : w->taken + 1;
	w->fd = fd;
	w->events = events;
	w->arg = arg;
	if (control(l, EPOLL_CTL_ADD, w) < 0)
		return err_sys(e, "watch fd %d", fd);
	w->fn = fn;
	*ret_id = w->taken << INDEX_BITS | (unsigned)(w - l->watches);
	return 0;
}

void loop_set(struct loop *l, unsigned id, uint32_t events)
{
	struct watch *w = find(l, id);
	int r;

	assert(w);
	if (w->events == events)
		return;
	w->events = events;
	r = control(l, EPOLL_CTL_MOD, w);
	assert(r == 0); /* it only fails for an fd that is not watched: closed too early */
}

void loop_drop(struct loop *l, unsigned id)
{
	struct watch *w = find(l, id);
	int r;

	assert(w);
	w->fn = NULL;
	r = epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
	assert(r == 0);
}

/* With the lock held; it is let go of while the calls run. */
static void carry_out_calls(struct loop *l)
{
	for (unsigned n = 0; n < LOOP_CALLS_TURN && l->first; n++) {
		struct call *c = l->first;

		l->first = c->next;
		(void)pthread_mutex_unlock(&l->lock);
		c->fn(c->arg);
		(void)pthread_mutex_lock(&l->lock);
		c->done = true;
		(void)pthread_cond_broadcast(&l->changed);
	}
	if (l->first)
		wake(l); /* fds first */
}

static void take_calls(struct loop *l)
{
	uint64_t count;

	/* first: a call that arrives after this wakes us anew */
	if (read(l->wake_fd, &count, sizeof(count)) < 0)
		assert(errno == EAGAIN || errno == EINTR);
	(void)pthread_mutex_lock(&l->lock);
	carry_out_calls(l);
	(void)pthread_mutex_unlock(&l->lock);
}

static bool stopped(struct loop *l)
{
	bool got;

	(void)pthread_mutex_lock(&l->lock);
	got = l->state == LOOP_STOPPED;
	(void)pthread_mutex_unlock(&l->lock);
	return got;
}

/* False: it is stopped already. */
static bool begin(struct loop *l)
{
	bool go;

	(void)pthread_mutex_lock(&l->lock);
	assert(l->state != LOOP_RUNNING);
	while (l->plain_calls && l->state == LOOP_IDLE)
		(void)pthread_cond_wait(&l->changed, &l->lock);
	go = l->state == LOOP_IDLE;
	if (go) {
		l->state = LOOP_RUNNING;
		l->thread = pthread_self();
	}
	(void)pthread_mutex_unlock(&l->lock);
	return go;
}

static void dispatch(struct loop *l, const struct epoll_event *ev)
{
	struct watch *w;
	uint32_t got;

	if (ev->data.u64 == ID_WAKE) {
		take_calls(l);
		return;
	}
	w = find(l, ev->data.u64);
	if (!w || !w->events)
		return;
	got = ev->events & (w->events | EPOLLERR | EPOLLHUP);
	if (got) /* not what it has stopped to want in this very turn */
		w->fn(w->arg, got);
}

int loop_run(struct loop *l, struct err *e)
{
	struct epoll_event events[LOOP_EVENTS_MAX];

	if (!begin(l))
		return 0;
	while (!stopped(l)) {
		int n = epoll_wait(l->epoll_fd, events, LOOP_EVENTS_MAX, -1);

		if (n < 0 && errno != EINTR) {
			int r = err_sys(e, "epoll_wait");

			loop_stop(l);
			return r;
		}
		for (int i = 0; i < n && !stopped(l); i++)
			dispatch(l, &events[i]);
	}
	return 0;
}

void loop_stop(struct loop *l)
{
	(void)pthread_mutex_lock(&l->lock);
	l->state = LOOP_STOPPED;
	for (struct call *c = l->first; c; c = c->next)
		c->done = true;
	l->first = NULL;
	(void)pthread_cond_broadcast(&l->changed);
	wake(l);
	(void)pthread_mutex_unlock(&l->lock);
}

static void plain_call(struct loop *l, bool idle, void (*fn)(void *arg), void *arg)
{
	l->plain_calls += idle;
	(void)pthread_mutex_unlock(&l->lock);
	fn(arg);
	if (!idle)
		return;
	(void)pthread_mutex_lock(&l->lock);
	l->plain_calls--;
	(void)pthread_cond_broadcast(&l->changed);
	(void)pthread_mutex_unlock(&l->lock);
}

void loop_call(struct loop *l, void (*fn)(void *arg), void *arg)
{
	struct call c = { .fn = fn, .arg = arg };

	(void)pthread_mutex_lock(&l->lock);
	if (l->state == LOOP_STOPPED) {
		(void)pthread_mutex_unlock(&l->lock);
		return;
	}
	if (pthread_equal(l->thread, pthread_self())) {
		plain_call(l, l->state == LOOP_IDLE, fn, arg);
		return;
	}
	if (l->first)
		l->last->next = &c;
	else
		l->first = &c;
	l->last = &c;
	wake(l);
	while (!c.done)
		(void)pthread_cond_wait(&l->changed, &l->lock);
	(void)pthread_mutex_unlock(&l->lock);
}
