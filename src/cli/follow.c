#include "cli/follow.h"

#include "cli/reach.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

enum { EVENTS_BYTES_MAX = 4096 };

static int watch(int dir_fd, int *ret_fd, struct err *e)
{
	_own_fd_ int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	char path[32];

	if (fd < 0)
		return err_sys(e, "inotify");
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", dir_fd);
	if (inotify_add_watch(fd, path, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0)
		return err_sys(e, "watch the sandbox's files");
	*ret_fd = steal_fd(&fd);
	return 0;
}

int follow_begin(struct cli *c, const char *id, int dir_fd, struct follow *ret, struct err *e)
{
	_own_fd_ int fd = -1;
	int r = watch(dir_fd, &fd, e);

	if (r == 0)
		r = reach_client(c, id, NULL, &ret->client, e);
	if (r < 0)
		return r;
	wire_put(&ret->client->out, WIRE_WAIT, 0, 0, CLIENT_EPOCH, span_of(NULL, 0));
	ret->watch_fd = steal_fd(&fd);
	return 0;
}

int follow_run(struct follow *f, follow_drain *drain, void *user, struct err *e)
{
	char events[EVENTS_BYTES_MAX];
	int r = client_send(f->client, e);

	while (r == 0) {
		struct pollfd p[] = { { .fd = f->client->fd, .events = POLLIN },
			              { .fd = f->watch_fd, .events = POLLIN } };
		struct wire_frame frame;

		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return err_sys(e, "poll");
		/* which files changed does not matter: the reader looks itself */
		if (p[1].revents && read(f->watch_fd, events, sizeof(events)) < 0 &&
		    errno != EAGAIN)
			return err_sys(e, "read inotify");
		if (p[0].revents) {
			r = client_receive(f->client, e);
			while (r == 0 && client_next(f->client, &frame, e) == 0)
				continue;
		}
		if (r == 0)
			r = drain(user, e);
	}
	if (r != -ENODATA)
		return r;
	err_clear(e);
	return 0;
}

void follow_fini(const struct follow *f)
{
	client_free(f->client);
	if (f->watch_fd >= 0)
		(void)close(f->watch_fd);
}
