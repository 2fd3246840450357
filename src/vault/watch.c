#include "vault/watch.h"

#include <errno.h>

struct watch {
	uv_poll_t poll;
	watch_fn *tell;
	void *user;
	int events; /* as libuv was told last; -1: it has stopped by itself */
};

static void watch_gone(uv_handle_t *h)
{
	free(h->data);
}

int watch_new(uv_loop_t *loop, int fd, watch_fn *tell, void *user, struct watch **ret,
              struct err *e)
{
	struct watch *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return err_set(e, -ENOMEM, "out of memory");
	w->tell = tell;
	w->user = user;
	r = uv_poll_init(loop, &w->poll, fd);
	if (r < 0) {
		free(w);
		return err_set(e, r, "watch a descriptor: %s", uv_strerror(r));
	}
	w->poll.data = w;
	*ret = w;
	return 0;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct watch *w = poll->data;

	if (status < 0) {
		w->events = -1;
		w->tell(w->user, true, true);
		return;
	}
	w->tell(w->user, (events & UV_READABLE) != 0, (events & UV_WRITABLE) != 0);
}

void watch_set(struct watch *w, bool readable, bool writable)
{
	int events = (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0);

	if (events == w->events)
		return;
	w->events = events;
	if (events == 0)
		(void)uv_poll_stop(&w->poll);
	else
		(void)uv_poll_start(&w->poll, events, on_poll);
}

void watch_free(struct watch *w)
{
	if (w)
		uv_close((uv_handle_t *)&w->poll, watch_gone);
}

struct alarm {
	uv_timer_t timer;
	alarm_fn *ring;
	void *user;
};

static void alarm_gone(uv_handle_t *h)
{
	free(h->data);
}

int alarm_new(uv_loop_t *loop, alarm_fn *ring, void *user, struct alarm **ret, struct err *e)
{
	struct alarm *a = calloc(1, sizeof(*a));

	if (!a)
		return err_set(e, -ENOMEM, "out of memory");
	a->ring = ring;
	a->user = user;
	(void)uv_timer_init(loop, &a->timer); /* cannot fail */
	a->timer.data = a;
	*ret = a;
	return 0;
}

static void on_timer(uv_timer_t *timer)
{
	struct alarm *a = timer->data;

	a->ring(a->user);
}

void alarm_set(struct alarm *a, uint64_t in_ms)
{
	uv_update_time(a->timer.loop);
	(void)uv_timer_start(&a->timer, on_timer, in_ms, 0);
}

void alarm_stop(struct alarm *a)
{
	(void)uv_timer_stop(&a->timer);
}

void alarm_free(struct alarm *a)
{
	if (a)
		uv_close((uv_handle_t *)&a->timer, alarm_gone);
}
