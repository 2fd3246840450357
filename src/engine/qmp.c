#include "engine/qmp.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/fdio.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum {
	COMMAND_MAX = 512,
	POLL_MS_MIN = 1, /* a save of the device state takes about 20 ms */
	POLL_MS_MAX = 20,
	POLLS_A_STEP = 16, /* then the next wait is a ms longer */
};

/* A guest's whole memory goes through it; QEMU's own default is 128 MiB/s. */
#define SAVE_BYTES_PER_S (UINT64_C(1) << 40)

static void json_free(json_t *j)
{
	json_decref(j);
}
OWN_DEFINE(json_t, json_free)

/* One line without its end, and not a byte behind it. */
static int read_line(int fd, uint64_t deadline_ms, char *line, size_t *ret_len, struct err *e)
{
	size_t len = 0;

	while (len < QMP_LINE_MAX) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		uint64_t now = clock_mono_ms();
		const char *end;
		ssize_t n;

		if (now >= deadline_ms)
			return err_set(e, -ETIMEDOUT, "QEMU does not answer");
		if (poll(&p, 1, (int)(deadline_ms - now > 60000 ? 60000 : deadline_ms - now)) <= 0)
			continue;
		n = recv(fd, line + len, QMP_LINE_MAX - len, MSG_PEEK | MSG_DONTWAIT);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return err_set(e, -EPIPE, "QEMU closed its control socket");
		end = memchr(line + len, '\n', (size_t)n);
		if (end)
			n = end - (line + len) + 1;
		n = recv(fd, line + len, (size_t)n, MSG_DONTWAIT);
		if (n < 0)
			continue;
		len += (size_t)n;
		if (end) {
			*ret_len = len - 1;
			return 0;
		}
	}
	return err_set(e, -EBADMSG, "QEMU sent a line over %d bytes", QMP_LINE_MAX);
}

/* The answer to the command of that id. */
static int read_answer(int fd, uint64_t id, uint64_t deadline_ms, json_t **ret, struct err *e)
{
	_own_free_ char *line = malloc(QMP_LINE_MAX);

	if (!line)
		return err_set(e, -ENOMEM, "out of memory");
	for (int i = 0; i < QMP_LINES_MAX; i++) {
		_own_(json_free) json_t *j = NULL;
		const json_t *got;
		const char *why;
		size_t len = 0;
		int r = read_line(fd, deadline_ms, line, &len, e);

		if (r < 0)
			return r;
		j = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
		if (!json_is_object(j))
			return err_set(e, -EBADMSG, "QEMU sent something that is no JSON object");
		got = json_object_get(j, "id");
		if (!json_is_integer(got) || (uint64_t)json_integer_value(got) != id)
			continue;
		why = json_string_value(json_object_get(json_object_get(j, "error"), "desc"));
		if (why)
			return err_set(e, -EREMOTEIO, "QEMU: %s", why);
		if (!json_object_get(j, "return"))
			return err_set(e, -EBADMSG, "QEMU sent an answer that is none");
		*ret = steal_ptr(&j);
		return 0;
	}
	return err_set(e, -EBADMSG, "QEMU answers with events only");
}

/* With the fd in the ancillary data of the first byte, for getfd; -1: none. */
static int send_command(int fd, const char *text, size_t len, int with_fd, struct err *e)
{
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .head = { .cmsg_len = 0 } };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)text, .iov_len = len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	if (with_fd >= 0) {
		m.msg_control = control.bytes;
		m.msg_controllen = sizeof(control.bytes);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &with_fd, sizeof(int));
	}
	if (sendmsg(fd, &m, MSG_NOSIGNAL) == (ssize_t)len)
		return 0;
	if (errno == EPIPE || errno == ECONNRESET)
		return err_set(e, -EPIPE, "QEMU closed its control socket");
	return err_sys(e, "tell QEMU");
}

/* `what` is what stands between the braces, without the id. */
static int command(int fd, const char *what, int with_fd, uint64_t deadline_ms, json_t **ret,
                   struct err *e)
{
	_own_(json_free) json_t *j = NULL;
	/* no answer that is still to come has the same */
	uint64_t id = clock_mono_ns();
	char text[COMMAND_MAX];
	struct buf b;
	int r;

	buf_init(&b, text, sizeof(text));
	buf_printf(&b, "{%s,\"id\":%" PRIu64 "}\n", what, id);
	if (!buf_ok(&b))
		return err_set(e, -EMSGSIZE, "QMP command too long");
	r = send_command(fd, text, b.len, with_fd, e);
	if (r == 0)
		r = read_answer(fd, id, deadline_ms, &j, e);
	if (r < 0)
		return r;
	if (ret)
		*ret = steal_ptr(&j);
	return 0;
}

static int plain(int fd, const char *what, uint64_t deadline_ms, struct err *e)
{
	return command(fd, what, -1, deadline_ms, NULL, e);
}

int qmp_greet(int fd, struct err *e)
{
	static const char text[] = "{\"execute\":\"qmp_capabilities\"}\n";

	return send_command(fd, text, sizeof(text) - 1, -1, e);
}

int qmp_stop(int fd, uint64_t deadline_ms, struct err *e)
{
	return plain(fd, "\"execute\":\"stop\"", deadline_ms, e);
}

int qmp_cont(int fd, uint64_t deadline_ms, struct err *e)
{
	return plain(fd, "\"execute\":\"cont\"", deadline_ms, e);
}

#define IGNORE_SHARED                                                                              \
	"\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":[{"              \
	"\"capability\":\"x-ignore-shared\",\"state\":true}]}"

/* 1 when complete, 0 while under way. */
static int save_done(int fd, uint64_t deadline_ms, struct err *e)
{
	_own_(json_free) json_t *j = NULL;
	const json_t *answer;
	const char *status;
	const char *why;
	int r = command(fd, "\"execute\":\"query-migrate\"", -1, deadline_ms, &j, e);

	if (r < 0)
		return r;
	answer = json_object_get(j, "return");
	status = json_string_value(json_object_get(answer, "status"));
	why = json_string_value(json_object_get(answer, "error-desc"));
	if (status && strcmp(status, "completed") == 0)
		return 1;
	if (status && (strcmp(status, "failed") == 0 || strcmp(status, "cancelled") == 0))
		return err_set(e, -EIO, "QEMU could not save the guest's state%s%s",
		               why ? ": " : "", why ? why : "");
	return 0;
}

static int await_save(int fd, uint64_t deadline_ms, struct err *e)
{
	int r = 0;

	for (int i = 0; r == 0 && i < QMP_POLLS_MAX; i++) {
		struct timespec pause = { 0 };
		int ms = POLL_MS_MIN + i / POLLS_A_STEP;

		r = save_done(fd, deadline_ms, e);
		if (r != 0)
			return r < 0 ? r : 0;
		pause.tv_nsec = (ms < POLL_MS_MAX ? ms : POLL_MS_MAX) * 1000000L;
		(void)nanosleep(&pause, NULL); /* QMP has no blocking wait for a migration */
	}
	return err_set(e, -ETIMEDOUT, "QEMU does not finish saving");
}

/* After this the guest may be told to run again. */
static void give_up(int fd)
{
	uint64_t deadline = clock_mono_ms() + QMP_CANCEL_MS;

	if (plain(fd, "\"execute\":\"migrate_cancel\"", deadline, NULL) < 0)
		return;
	for (int i = 0; i < QMP_POLLS_MAX; i++) {
		const struct timespec pause = { .tv_nsec = POLL_MS_MAX * 1000000L };

		if (save_done(fd, deadline, NULL) != 0)
			return;
		(void)nanosleep(&pause, NULL);
	}
}

int qmp_save(int fd, int state_fd, uint64_t deadline_ms, struct err *e)
{
	char fast[COMMAND_MAX];
	struct buf b;
	int r = plain(fd, IGNORE_SHARED, deadline_ms, e);

	buf_init(&b, fast, sizeof(fast));
	buf_printf(
		&b,
		"\"execute\":\"migrate-set-parameters\",\"arguments\":{\"max-bandwidth\":%" PRIu64
		"}",
		SAVE_BYTES_PER_S);
	if (r == 0)
		r = plain(fd, buf_cstr(&b), deadline_ms, e);
	if (r == 0)
		r = command(fd, "\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"state\"}",
		            state_fd, deadline_ms, NULL, e);
	if (r == 0)
		r = plain(fd, "\"execute\":\"migrate\",\"arguments\":{\"uri\":\"fd:state\"}",
		          deadline_ms, e);
	if (r < 0)
		return r;
	r = await_save(fd, deadline_ms, e);
	if (r == -ETIMEDOUT)
		give_up(fd);
	return r;
}

int qmp_restore(int fd, int incoming_fd, struct err *e)
{
	char text[COMMAND_MAX];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	buf_put_str(&b, "{" IGNORE_SHARED "}\n");
	buf_printf(&b, "{\"execute\":\"migrate-incoming\",\"arguments\":{\"uri\":\"fd:%d\"}}\n",
	           incoming_fd);
	if (!buf_ok(&b))
		return err_set(e, -EMSGSIZE, "QMP command too long");
	return send_command(fd, text, b.len, -1, e);
}

static bool holds(struct span line, const char *words)
{
	return memmem(line.at, line.len, words, strlen(words)) != NULL;
}

int qmp_announce_nothing(int fd, struct err *e)
{
	static const char text[] =
		"{\"execute\":\"migrate-set-parameters\",\"arguments\":{\"announce-rounds\":0}}\n";

	return send_command(fd, text, sizeof(text) - 1, -1, e);
}

bool qmp_hush(int fd, struct engine_news *ret_news)
{
	char text[4096];
	ssize_t n = recv(fd, text, sizeof(text), MSG_PEEK | MSG_DONTWAIT);
	const char *end = n > 0 ? memrchr(text, '\n', (size_t)n) : NULL;
	struct span all;
	struct span line;

	/* a line that is not whole, or longer than any it says unasked, is left there */
	if (!end || recv(fd, text, (size_t)(end - text) + 1, MSG_DONTWAIT) <= 0)
		return false;
	all = span_of(text, (size_t)(end - text) + 1);
	while (take_until(&all, '\n', &line)) {
		if (holds(line, "\"BLOCK_IO_ERROR\"") && holds(line, "\"nospace\": true"))
			ret_news->full = true;
		if (holds(line, "\"NETDEV_STREAM_DISCONNECTED\""))
			ret_news->gate_lost = true;
	}
	return true;
}
