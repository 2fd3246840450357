#include "engine/qmp.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/fdio.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { SAVE_POLL_NS = 2 * 1000 * 1000 }; /* a save of the device state takes about 20 ms */

static void json_free(json_t *j)
{
	json_decref(j);
}
OWN_DEFINE(json_t, json_free)

/*
 * One line, without its end. Byte by byte: a build says about ten lines, and none may be read too
 * far.
 */
static int read_line(int fd, uint64_t deadline_ms, char *line, size_t *ret_len, struct err *e)
{
	size_t len = 0;

	while (len < QMP_LINE_MAX) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		uint64_t now = clock_mono_ms();
		ssize_t n;

		if (now >= deadline_ms)
			return err_set(e, -ETIMEDOUT, "QEMU does not answer");
		if (poll(&p, 1, (int)(deadline_ms - now > 60000 ? 60000 : deadline_ms - now)) <= 0)
			continue;
		n = read(fd, line + len, 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(e, -EPIPE, "QEMU closed its control socket");
		if (line[len] == '\n') {
			*ret_len = len;
			return 0;
		}
		len++;
	}
	return err_set(e, -EBADMSG, "QEMU sent a line over %d bytes", QMP_LINE_MAX);
}

/* The next answer; events in between are skipped. */
static int read_answer(int fd, uint64_t deadline_ms, json_t **ret, struct err *e)
{
	_own_free_ char *line = malloc(QMP_LINE_MAX);

	if (!line)
		return err_set(e, -ENOMEM, "out of memory");
	for (int i = 0; i < QMP_LINES_MAX; i++) {
		_own_(json_free) json_t *j = NULL;
		const char *why;
		size_t len = 0;
		int r = read_line(fd, deadline_ms, line, &len, e);

		if (r < 0)
			return r;
		j = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
		if (!json_is_object(j))
			return err_set(e, -EBADMSG, "QEMU sent something that is no JSON object");
		why = json_string_value(json_object_get(json_object_get(j, "error"), "desc"));
		if (why)
			return err_set(e, -EREMOTEIO, "QEMU: %s", why);
		if (json_object_get(j, "return") || json_object_get(j, "QMP")) {
			*ret = steal_ptr(&j);
			return 0;
		}
	}
	return err_set(e, -EBADMSG, "QEMU answers with events only");
}

static int command(int fd, const char *text, uint64_t deadline_ms, json_t **ret, struct err *e)
{
	_own_(json_free) json_t *j = NULL;
	int r = fd_write_all(fd, text, strlen(text), e);

	if (r == 0)
		r = read_answer(fd, deadline_ms, &j, e);
	if (r < 0)
		return r;
	if (ret)
		*ret = steal_ptr(&j);
	return 0;
}

int qmp_open(int fd, uint64_t deadline_ms, struct err *e)
{
	_own_(json_free) json_t *greeting = NULL;
	int r = read_answer(fd, deadline_ms, &greeting, e);

	if (r < 0)
		return r;
	return command(fd, "{\"execute\":\"qmp_capabilities\"}\n", deadline_ms, NULL, e);
}

#define QMP_IGNORE_SHARED                                                                          \
	"{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":[{"             \
	"\"capability\":\"x-ignore-shared\",\"state\":true}]}}\n"

/* getfd takes the fd from the ancillary data of the bytes that carry the command. */
static int send_fd(int fd, int state_fd, struct err *e)
{
	static const char text[] = "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"state\"}}\n";
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .head = { .cmsg_len = 0 } };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)text, .iov_len = sizeof(text) - 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	m.msg_control = control.bytes;
	m.msg_controllen = sizeof(control.bytes);
	c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &state_fd, sizeof(int));
	if (sendmsg(fd, &m, MSG_NOSIGNAL) != (ssize_t)iov.iov_len)
		return err_sys(e, "hand QEMU the state file");
	return 0;
}

/* 1 when complete, 0 while under way. */
static int save_done(int fd, uint64_t deadline_ms, struct err *e)
{
	_own_(json_free) json_t *j = NULL;
	const char *status;
	int r = command(fd, "{\"execute\":\"query-migrate\"}\n", deadline_ms, &j, e);

	if (r < 0)
		return r;
	status = json_string_value(json_object_get(json_object_get(j, "return"), "status"));
	if (status && strcmp(status, "completed") == 0)
		return 1;
	if (status && (strcmp(status, "failed") == 0 || strcmp(status, "cancelled") == 0))
		return err_set(e, -EIO, "QEMU could not save the guest's state");
	return 0;
}

int qmp_save(int fd, int state_fd, uint64_t deadline_ms, struct err *e)
{
	const struct timespec pause = { .tv_nsec = SAVE_POLL_NS };
	_own_(json_free) json_t *answer = NULL;
	int r = command(fd, QMP_IGNORE_SHARED, deadline_ms, NULL, e);

	if (r == 0)
		r = send_fd(fd, state_fd, e);
	if (r == 0)
		r = read_answer(fd, deadline_ms, &answer, e);
	if (r == 0)
		r = command(fd, "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"fd:state\"}}\n",
		            deadline_ms, NULL, e);
	for (int i = 0; r == 0 && i < QMP_POLLS_MAX; i++) {
		r = save_done(fd, deadline_ms, e);
		if (r != 0)
			return r < 0 ? r : 0;
		(void)nanosleep(&pause, NULL); /* QMP has no blocking wait for a migration */
	}
	return r < 0 ? r : err_set(e, -ETIMEDOUT, "QEMU does not finish saving");
}

int qmp_restore(int fd, int incoming_fd, struct err *e)
{
	char text[512];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	buf_put_str(&b, "{\"execute\":\"qmp_capabilities\"}\n" QMP_IGNORE_SHARED);
	buf_printf(&b, "{\"execute\":\"migrate-incoming\",\"arguments\":{\"uri\":\"fd:%d\"}}\n",
	           incoming_fd);
	if (!buf_ok(&b))
		return err_set(e, -EMSGSIZE, "QMP command too long");
	return fd_write_all(fd, b.at, b.len, e);
}
