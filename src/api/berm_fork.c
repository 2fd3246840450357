/*
 * The children of a fork, once their parent is saved. They are started a few at a time, as each
 * keeps a CPU busy until it runs, and are nobody's before all of them do: until then they are
 * served with their parent, in whose epoll their sockets stand as well.
 */
#include "api/berm_internal.h"

#include "lib/snapshot.h"
#include "lib/start.h"

#include <errno.h>
#include <sys/epoll.h>

static void unwatch(const struct berm_sandbox *sb, const struct berm_sandbox *child)
{
	const struct berm_process *control = child->control;

	if (!sb->forked && !control->closed)
		(void)epoll_ctl(sb->io_fd, EPOLL_CTL_DEL, control->client->fd, NULL);
}

static int watch(const struct berm_sandbox *sb, const struct berm_sandbox *child, struct err *e)
{
	struct epoll_event ev = { .events = EPOLLIN }; /* without a slot: fork_step() looks */
	const struct berm_process *control = child->control;

	if (control->closed || epoll_ctl(sb->io_fd, EPOLL_CTL_ADD, control->client->fd, &ev) == 0)
		return 0;
	return err_sys(e, "wait for a child");
}

void fork_drop(const struct berm_sandbox *sb, struct fork *f)
{
	for (unsigned i = 0; f->children && i < f->started; i++) {
		if (i >= f->running)
			unwatch(sb, f->children[i]);
		berm_sandbox_free(f->children[i]);
	}
	free(f->children);
	snapshot_free(f->from);
	image_free(f->image);
	*f = (struct fork){ .count = f->count };
}

void fork_take(struct fork *f, struct berm_sandbox **ret_children)
{
	for (unsigned i = 0; i < f->count; i++)
		ret_children[i] = f->children[i];
	f->started = f->running = 0; /* they are the caller's */
}

int fork_begin(const struct berm_sandbox *sb, struct fork *f, struct err *e)
{
	const struct berm *b = sb->b;
	int r = snapshot_check(f->from, &b->paths, e);

	if (r == 0)
		r = snapshot_image(f->from, b->state_fd, &b->paths, &f->image, e);
	if (r < 0)
		return err_wrap(e, "fork");
	f->children = calloc(f->count, sizeof(struct berm_sandbox *));
	return f->children ? 0 : err_set(e, -ENOMEM, "out of memory");
}

static int start_one(const struct berm_sandbox *sb, struct fork *f, struct err *e)
{
	int r = sandbox_start_child(sb, f->from, f->image, &f->children[f->started], e);

	if (r < 0)
		return r;
	f->started++;
	return watch(sb, f->children[f->started - 1], e);
}

/* 0: it runs. One that ran and ended already has done what it was to. */
static int state_of(const struct berm_sandbox *child, struct err *e)
{
	if (child->started)
		return 0;
	if (!child->ended)
		return -EAGAIN;
	if (child->lost)
		return sandbox_gone(child, NULL, 0, e);
	if (child->result.reason == RESULT_EXITED || child->result.reason == RESULT_SIGNALED)
		return 0;
	return err_set(e, -ECHILD, "a child did not start: %s",
	               child->result.message[0] ? child->result.message
	                                        : result_reason_name(child->result.reason));
}

/* Serves one that is on its way. */
static int look_at(struct berm_sandbox *child, struct err *e)
{
	int r = sandbox_enter(child, e);

	if (r < 0)
		return r;
	pump_once(child);
	r = state_of(child, e);
	sandbox_leave(child);
	return r;
}

/* All that are on their way, as each of them has a socket in the parent's epoll until it runs. */
static int serve(const struct berm_sandbox *sb, struct fork *f, struct err *e)
{
	bool in_order = true;

	for (unsigned i = f->running; i < f->started; i++) {
		int r = look_at(f->children[i], e);

		if (r == -EAGAIN) {
			in_order = false;
			continue;
		}
		if (r < 0)
			return r;
		unwatch(sb, f->children[i]);
		f->running += in_order;
	}
	return 0;
}

int fork_step(const struct berm_sandbox *sb, struct fork *f, struct err *e)
{
	for (;;) {
		int r = serve(sb, f, e);

		if (r == 0 && f->running == f->count)
			return 0;
		if (r == 0 &&
		    (f->started == f->count || f->started - f->running >= START_COPIES_AT_ONCE))
			return -EAGAIN;
		if (r == 0)
			r = start_one(sb, f, e);
		if (r < 0)
			return err_wrap(e, "fork: child %u of %u", f->running + 1, f->count);
	}
}
