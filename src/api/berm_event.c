#include "api/berm_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

/* --- what there is to tell: each is looked for, and marked as told --- */

static bool sandbox_event(struct berm_sandbox *sb, struct berm_event *ret)
{
	if (sb->due_progress && !sb->started) {
		ret->kind = BERM_EVENT_PROGRESS;
		return true;
	}
	if (sb->started && !sb->told_started) {
		ret->kind = BERM_EVENT_STARTED;
		return true;
	}
	if (sb->due_stats) {
		ret->kind = BERM_EVENT_STATS;
		return true;
	}
	if (sb->request && sb->request->kept && sb->request->over && !sb->request->told) {
		ret->kind = BERM_EVENT_DONE;
		return true;
	}
	return false;
}

static bool process_event(struct berm_process *p, struct berm_event *ret)
{
	bool over = process_over(p);

	if (p->kind == API_REQUEST) /* nobody has that handle */
		return false;
	ret->process = p;
	ret->data = p->data;
	for (int i = BERM_STDOUT; i <= BERM_STDERR; i++) {
		if (p->streams[i] != BERM_STREAM_PIPE || p->told_out[i] || p->read_end[i] ||
		    !stream_readable(p, i))
			continue;
		ret->kind = BERM_EVENT_OUTPUT;
		ret->stream = i;
		return true;
	}
	if (p->wants_in && stream_writable(p)) {
		ret->kind = BERM_EVENT_INPUT;
		return true;
	}
	if (over && !p->told_exit) {
		ret->kind = BERM_EVENT_EXIT;
		return true;
	}
	return false;
}

/* Everybody's end is told before the sandbox's, which is the last. */
static bool end_event(struct berm_sandbox *sb, struct berm_event *ret)
{
	if (!sb->ended || sb->told_ended)
		return false;
	if (sb->request && sb->request->kept && !sb->request->told)
		return false;
	for (const struct berm_process *p = sb->processes; p; p = p->next)
		if (!process_over(p))
			return false;
	if (sb->control->is_main && !process_over(sb->control))
		return false;
	ret->kind = BERM_EVENT_ENDED;
	return true;
}

static bool find_event(struct berm_sandbox *sb, struct berm_event *ret)
{
	*ret = (struct berm_event){ .size = sizeof(*ret) };
	if (sandbox_event(sb, ret))
		return true;
	if (sb->control->is_main && process_event(sb->control, ret))
		return true;
	for (struct berm_process *p = sb->processes; p; p = p->next)
		if (process_event(p, ret))
			return true;
	*ret = (struct berm_event){ .size = sizeof(*ret) };
	return end_event(sb, ret);
}

static void mark(struct berm_sandbox *sb, struct berm_event *ev)
{
	switch (ev->kind) {
	case BERM_EVENT_PROGRESS:
		sb->due_progress = false;
		memcpy(sb->told_progress, sb->progress, sizeof(sb->told_progress));
		ev->text = sb->told_progress;
		return;
	case BERM_EVENT_STARTED:
		sb->told_started = true;
		return;
	case BERM_EVENT_OUTPUT:
		ev->process->told_out[ev->stream] = true;
		return;
	case BERM_EVENT_INPUT:
		ev->process->wants_in = false;
		return;
	case BERM_EVENT_EXIT:
		ev->process->told_exit = true;
		return;
	case BERM_EVENT_STATS:
		sb->due_stats = false;
		return;
	case BERM_EVENT_DONE:
		sb->request->told = true;
		return;
	default:
		sb->told_ended = true;
		return;
	}
}

/* --- event_fd --- */

void event_show(struct berm_sandbox *sb)
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct berm_event unused;
	bool due;

	if (sb->event_fd < 0)
		return;
	due = find_event(sb, &unused);
	if (due == sb->ready)
		return;
	if (epoll_ctl(sb->event_fd, due ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, sb->b->always_fd, &ev) ==
	    0)
		sb->ready = due;
}

static int open_event_fd(struct berm_sandbox *sb, struct err *e)
{
	struct epoll_event ev = { .events = EPOLLIN };
	_own_fd_ int fd = -1;

	if (sb->event_fd >= 0)
		return sb->event_fd;
	fd = epoll_create1(EPOLL_CLOEXEC);
	if (fd < 0 || epoll_ctl(fd, EPOLL_CTL_ADD, sb->io_fd, &ev) < 0)
		return err_sys(e, "epoll");
	sb->event_fd = steal_fd(&fd);
	return sb->event_fd;
}

int berm_event_fd(struct berm_sandbox *sb, struct berm_err *e)
{
	struct err why = { 0 };
	int r = sandbox_enter(sb, &why);

	if (r < 0)
		return api_tell(e, r, &why);
	r = open_event_fd(sb, &why);
	sandbox_leave(sb);
	return r < 0 ? api_tell(e, r, &why) : r;
}

static int next_event(struct berm_sandbox *sb, struct berm_event *ret, struct err *e)
{
	struct berm_event got;
	int r;

	if (!ret)
		return err_set(e, -EINVAL, "ret is NULL");
	pump_once(sb);
	if (!find_event(sb, &got))
		return 0;
	mark(sb, &got);
	r = api_give_sized("struct berm_event", ret, &got, sizeof(got), e);
	return r < 0 ? r : 1;
}

int berm_next_event(struct berm_sandbox *sb, struct berm_event *ret, struct berm_err *e)
{
	struct err why = { 0 };
	int r = sandbox_enter(sb, &why);

	if (r < 0)
		return api_tell(e, r, &why);
	r = next_event(sb, ret, &why);
	sandbox_leave(sb);
	return r < 0 ? api_tell(e, r, &why) : r;
}
