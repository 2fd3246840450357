#include "api/berm_internal.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>

_Static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT && EPOLLERR == POLLERR &&
                       EPOLLHUP == POLLHUP,
               "epoll(7) and poll(2) say the same with the same bits");

/* --- SIGPIPE --- */

/*
 * A write to a pipe without a reader raises SIGPIPE in the thread that writes, and would by default
 * end the program. It is blocked meanwhile; if it came by our doing, it is taken back before the
 * mask is as it was.
 */
struct no_sigpipe {
	bool on, was_pending;
	sigset_t before;
};

static bool sigpipe_pending(void)
{
	sigset_t pending;

	return sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1;
}

static void block_sigpipe(struct no_sigpipe *n, const struct berm_process *p)
{
	sigset_t set;

	*n = (struct no_sigpipe){ .on = p->streams[BERM_STDOUT] == BERM_STREAM_FD ||
		                        p->streams[BERM_STDERR] == BERM_STREAM_FD };
	if (!n->on)
		return;
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGPIPE);
	n->was_pending = sigpipe_pending();
	(void)pthread_sigmask(SIG_BLOCK, &set, &n->before);
}

static void restore_sigpipe(const struct no_sigpipe *n)
{
	const struct timespec now = { 0 };
	sigset_t set;

	if (!n->on)
		return;
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGPIPE);
	while (!n->was_pending && sigpipe_pending())
		if (sigtimedwait(&set, NULL, &now) < 0 && errno != EINTR)
			break;
	(void)pthread_sigmask(SIG_SETMASK, &n->before, NULL);
}

/* --- the epoll --- */

static void forget(struct berm_sandbox *sb, struct slot *s)
{
	if (s->fd >= 0 && !sb->forked)
		(void)epoll_ctl(sb->io_fd, EPOLL_CTL_DEL, s->fd, NULL);
	s->fd = -1;
}

/*
 * As p says, and no more: an fd that nobody waits for is not in the epoll at all, as its hang-up
 * would be told for ever. False: no epoll takes such a file, it is always ready.
 */
static bool watch(struct berm_sandbox *sb, struct slot *s, const struct pollfd *p, struct err *e)
{
	struct epoll_event ev = { .events = (uint32_t)p->events, .data.ptr = s };
	int op = EPOLL_CTL_ADD;

	if (p->fd < 0) {
		forget(sb, s);
		return true;
	}
	if (s->fd == p->fd && s->events == ev.events)
		return true;
	if (s->fd == p->fd)
		op = EPOLL_CTL_MOD;
	else
		forget(sb, s);
	if (epoll_ctl(sb->io_fd, op, p->fd, &ev) < 0) {
		if (errno == EPERM)
			return false;
		(void)err_sys(e, "wait for a file"); /* as a rule: no memory for it */
		return true;
	}
	s->fd = p->fd;
	s->events = ev.events;
	return true;
}

void pump_unwatch(struct berm_process *p)
{
	for (int i = 0; i < API_SLOTS; i++)
		forget(p->sb, &p->slots[i]);
}

/* What became of a process when its relay was served. */
static void look_at(struct berm_process *p)
{
	struct berm_sandbox *sb = p->sb;
	const struct relay *r = &p->relay;

	if (p->kind == API_CONTROL) {
		if (p->client->greeted)
			sandbox_reachable(sb);
		if (r->started)
			sandbox_started(sb);
		if (r->end_json || r->peer_gone)
			sandbox_over(sb);
	}
	if (!p->closed)
		stream_send_kept(p);
	if (!p->closed && relay_finished(r))
		process_close(p);
}

/* One file that is always ready. Bounded: the credit for it is, and the rest comes with more. */
static int serve_direct(struct berm_process *p, struct pollfd want[RELAY_FDS], struct err *e)
{
	for (int i = 0; i < API_SLOTS; i++)
		want[i].revents = want[i].fd >= 0 && i != RELAY_PEER && p->slots[i].fd < 0
		                          ? want[i].events
		                          : 0;
	return relay_serve(&p->relay, want, e);
}

static int settle(struct berm_process *p, struct err *e)
{
	for (int n = 0; n < API_DIRECT_MAX; n++) {
		struct pollfd want[RELAY_FDS];
		bool direct = false;
		int r = relay_prepare(&p->relay, want, e);

		for (int i = 0; r == 0 && i < API_SLOTS; i++)
			direct |= !watch(p->sb, &p->slots[i], &want[i], e);
		if (r == 0 && e->code < 0)
			r = e->code;
		if (r < 0 || !direct)
			return r;
		r = serve_direct(p, want, e);
		if (r < 0)
			return r;
	}
	return 0;
}

void pump_settle(struct berm_process *p)
{
	struct err why = { 0 };
	struct no_sigpipe n;
	int r;

	if (!p->connected || p->closed || p->failed)
		return;
	look_at(p);
	if (p->closed)
		return;
	block_sigpipe(&n, p);
	r = settle(p, &why);
	restore_sigpipe(&n);
	if (r < 0 && p->kind == API_CONTROL)
		sandbox_over(p->sb);
	if (r < 0)
		process_fail(p, &why);
}

static void serve(struct berm_process *p, const struct pollfd got[RELAY_FDS])
{
	struct err why = { 0 };
	struct no_sigpipe n;
	int r;

	if (p->closed || p->failed)
		return;
	block_sigpipe(&n, p);
	r = relay_serve(&p->relay, got, &why);
	restore_sigpipe(&n);
	if (r == 0) {
		pump_settle(p);
		return;
	}
	/* the connection broke: a sandbox's own is all that the handle has of it */
	if (p->kind == API_CONTROL)
		sandbox_over(p->sb);
	process_fail(p, &why);
}

/* --- retries --- */

void pump_retry_later(struct berm_sandbox *sb)
{
	const struct itimerspec in = { .it_value.tv_nsec = API_RETRY_MS * 1000000L };
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &sb->timer_slot };

	if (sb->timer_fd < 0) {
		sb->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
		if (sb->timer_fd >= 0 &&
		    epoll_ctl(sb->io_fd, EPOLL_CTL_ADD, sb->timer_fd, &ev) < 0) {
			(void)close(sb->timer_fd);
			sb->timer_fd = -1;
		}
	}
	if (sb->timer_fd >= 0)
		(void)timerfd_settime(sb->timer_fd, 0, &in, NULL);
}

static void retry(struct berm_sandbox *sb)
{
	uint64_t ticks;

	if (read(sb->timer_fd, &ticks, sizeof(ticks)) < 0)
		return;
	for (struct berm_process *p = sb->processes; p; p = p->next)
		process_connect(p);
}

/* --- pumping --- */

/* All that is ready of one process is served at once; taken are those of its slots in `ready`. */
static void serve_process(struct berm_process *p, struct epoll_event *ready, int count)
{
	struct pollfd got[RELAY_FDS];

	for (int i = 0; i < RELAY_FDS; i++)
		got[i] = (struct pollfd){ .fd = -1 };
	for (int i = 0; i < count; i++) {
		struct slot *s = ready[i].data.ptr;

		if (!s || s->process != p)
			continue;
		got[s->index].fd = s->fd;
		got[s->index].revents = (short)ready[i].events;
		ready[i].data.ptr = NULL;
	}
	serve(p, got);
}

static int pump_round(struct berm_sandbox *sb)
{
	struct epoll_event ready[API_READY_MAX];
	int n = epoll_wait(sb->io_fd, ready, API_READY_MAX, 0);

	for (int i = 0; i < n; i++) {
		struct slot *s = ready[i].data.ptr;

		if (!s)
			continue; /* served with an earlier one, or there to wake the leader */
		if (s == &sb->timer_slot)
			retry(sb);
		else
			serve_process(s->process, ready, n);
	}
	return n;
}

void pump_once(struct berm_sandbox *sb)
{
	for (int i = 0; i < API_ROUNDS_MAX && pump_round(sb) > (sb->woken ? 1 : 0); i++)
		sb->news = true;
	request_step(sb);
}

void pump_tell(struct berm_sandbox *sb)
{
	struct epoll_event ev = { .events = EPOLLIN };

	if (!sb->news)
		return;
	sb->news = false;
	(void)pthread_cond_broadcast(&sb->changed);
	if (sb->leader && !sb->woken)
		sb->woken = epoll_ctl(sb->io_fd, EPOLL_CTL_ADD, sb->b->always_fd, &ev) == 0;
}

/* --- waiting --- */

/* Waits for the epoll, for all who wait. */
static void lead(struct berm_sandbox *sb, int left_ms)
{
	struct epoll_event ev;

	sb->leader = true;
	(void)pthread_mutex_unlock(&sb->lock);
	/* only whether: what is ready may be another by the time we have the lock */
	(void)epoll_wait(sb->io_fd, &ev, 1, left_ms);
	(void)pthread_mutex_lock(&sb->lock);
	sb->leader = false;
	if (sb->woken)
		(void)epoll_ctl(sb->io_fd, EPOLL_CTL_DEL, sb->b->always_fd, NULL);
	sb->woken = false;
}

static void follow(struct berm_sandbox *sb, uint64_t deadline_ms)
{
	struct timespec at = { .tv_sec = (time_t)(deadline_ms / 1000),
		               .tv_nsec = (long)(deadline_ms % 1000) * 1000000 };

	if (deadline_ms == UINT64_MAX)
		(void)pthread_cond_wait(&sb->changed, &sb->lock);
	else
		(void)pthread_cond_timedwait(&sb->changed, &sb->lock, &at);
}

uint64_t pump_deadline(int timeout_ms)
{
	return timeout_ms < 0 ? UINT64_MAX : clock_mono_ms() + (uint64_t)timeout_ms;
}

int pump_until(struct berm_sandbox *sb, bool (*done)(const void *arg), const void *arg,
               uint64_t deadline_ms)
{
	pump_once(sb);
	while (!done(arg)) {
		int left_ms = clock_left_ms(deadline_ms);

		if (left_ms == 0)
			return -ETIMEDOUT;
		pump_tell(sb);
		event_show(sb); /* others may be waiting for event_fd while we wait here */
		if (sb->leader) {
			follow(sb, deadline_ms);
		} else {
			lead(sb, left_ms);
			pump_once(sb);
			sb->news = true; /* another may have to lead now */
		}
	}
	return 0;
}
