#include "lib/companion.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/spawn.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

void companion_init(struct companion *c)
{
	*c = (struct companion){ .pid = -1, .pidfd = -1, .control_fd = -1, .log_fd = -1 };
}

void companion_kill(const struct companion *c)
{
	if (c->pid > 0)
		(void)kill(c->pid, SIGKILL);
}

void companion_end(struct companion *c)
{
	companion_kill(c);
	if (c->pid > 0) {
		while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	own_close_fd(&c->pidfd);
	own_close_fd(&c->control_fd);
	own_close_fd(&c->log_fd);
	companion_init(c);
}

static int make_fds(struct companion *c, struct spawn *s, int *ret_control, int *ret_log,
                    struct err *e)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return err_sys(e, "socketpair");
	c->control_fd = fds[0];
	*ret_control = fds[1];
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(e, "pipe");
	c->log_fd = fds[0];
	*ret_log = fds[1];
	if (fd_set_nonblock(c->log_fd) < 0)
		return err_set(e, -EIO, "its log cannot be read");
	s->fds[0] = -1;
	s->fds[1] = s->fds[2] = *ret_log;
	s->fds[COMPANION_FD_CONTROL] = *ret_control;
	return 0;
}

int companion_start(const struct companion_start *how, struct companion *ret, struct err *e)
{
	const char *const argv[] = { how->program, how->id, how->more, NULL };
	struct spawn s = { .argv = argv, .own_session = true, .own_pids = true };
	struct companion c;
	char path[PATH_MAX + 32];
	_own_fd_ int control = -1;
	_own_fd_ int log = -1;
	int r;

	assert(how->fd_count <= COMPANION_FDS_MAX);
	companion_init(&c);
	c.words = how->words;
	(void)snprintf(path, sizeof(path), "%s/%s", how->libexec, how->program);
	s.path = path;
	s.fd_count = COMPANION_FD_FIRST + how->fd_count;
	for (unsigned i = 0; i < how->fd_count; i++)
		s.fds[COMPANION_FD_FIRST + i] = how->fds[i];
	r = make_fds(&c, &s, &control, &log, e);
	if (r == 0)
		r = spawn_child(&s, &c.pid, &c.pidfd, e);
	if (r < 0) {
		companion_end(&c);
		return r == -ENOENT ? err_set(e, r, "%s is not installed (%s): run 'make install'",
		                              how->words, how->program)
		                    : err_wrap(e, "start %s", how->words);
	}
	*ret = c;
	buf_init(&ret->said, ret->text, sizeof(ret->text));
	return 0;
}

bool companion_drain(struct companion *c)
{
	char text[COMPANION_LOG_READ];
	ssize_t n = read(c->log_fd, text, sizeof(text));

	if (n <= 0)
		return false;
	if (c->said.size - c->said.len < (size_t)n) { /* the last half of it stays */
		size_t keep = c->said.len / 2;

		memmove(c->said.at, c->said.at + c->said.len - keep, keep);
		c->said.len = keep;
	}
	buf_put(&c->said, text, (size_t)n);
	return true;
}

bool companion_ended(const struct companion *c)
{
	struct pollfd p = { .fd = c->pidfd, .events = POLLIN };

	return c->pid > 0 && poll(&p, 1, COMPANION_DEATH_MS) > 0;
}

void companion_put_end(struct buf *out, struct companion *c)
{
	struct span words;

	for (int i = 0; i < COMPANION_LOG_READS_MAX && companion_drain(c); i++)
		continue;
	words = buf_span(&c->said);
	while (words.len > 0 && words.at[words.len - 1] == '\n')
		words.len--;
	for (size_t i = words.len; i > 0; i--) { /* its last line says it best */
		if (words.at[i - 1] == '\n') {
			words = span_of(words.at + i, words.len - i);
			break;
		}
	}
	buf_printf(out, "%s ended%s", c->words, words.len > 0 ? ": " : "");
	if (words.len > (out->size - out->len) / 4) /* room for escapes */
		words.len = (out->size - out->len) / 4;
	buf_put_escaped(out, words);
}

static int broke(const struct companion *c, struct err *e)
{
	return err_set(e, -EPROTO, "%s broke the protocol", c->words);
}

int companion_recv(struct companion *c, uint8_t *room, struct span *ret, struct err *e)
{
	int fd = -1;
	int r = control_recv(c->control_fd, room, ret, &fd);

	if (r == -EAGAIN || r == -EPIPE)
		return r;
	if (fd >= 0) /* neither has anything to give */
		(void)close(fd);
	return r < 0 || fd >= 0 ? broke(c, e) : 0;
}

int companion_gone(struct companion *c, struct err *e)
{
	char text[ERR_TEXT_MAX];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	companion_put_end(&b, c);
	return err_set(e, -EPIPE, "%s", buf_cstr(&b));
}

/* Looks at what poll() says of one. 1: it said something. */
static int look(struct companion *c, const struct pollfd p[static 3], struct err *e)
{
	if (p[0].revents)
		return 1;
	if (p[2].revents & POLLIN)
		(void)companion_drain(c);
	/* one without a log counts as ended: poll would tell of that on and on */
	else if (p[1].revents || p[2].revents)
		return companion_gone(c, e);
	return 0;
}

int companion_wait(struct companion *const *all, unsigned count, bool room, uint64_t deadline_ms,
                   struct err *e)
{
	const short events = room ? POLLIN | POLLOUT : POLLIN;

	assert(count > 0 && count <= COMPANIONS_MAX);
	for (;;) {
		struct pollfd p[3 * COMPANIONS_MAX];
		int said = 0;

		for (unsigned i = 0; i < count; i++) {
			p[3 * i] = (struct pollfd){ .fd = all[i]->control_fd, .events = events };
			p[3 * i + 1] = (struct pollfd){ .fd = all[i]->pidfd, .events = POLLIN };
			p[3 * i + 2] = (struct pollfd){ .fd = all[i]->log_fd, .events = POLLIN };
		}
		if (poll(p, 3 * count, clock_left_ms(deadline_ms)) <= 0) {
			if (clock_mono_ms() < deadline_ms)
				continue;
			return err_set(e, -ETIMEDOUT, "%s is not ready after %d s", all[0]->words,
			               COMPANION_READY_MS / 1000);
		}
		for (unsigned i = 0; i < count; i++) {
			int r = look(all[i], p + 3 * i, e);

			if (r < 0)
				return r;
			said |= r;
		}
		if (said)
			return 0;
	}
}
