#include "cli/live.h"

#include "base/fdio.h"
#include "cli/run.h"
#include "state/result.h"
#include "term/json_out.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { MAIN_STREAM = 1 };

/* With --json both outputs are kept here, as far as they fit. */
struct captured {
	void *storage;
	struct buf out, err;
};

static void captured_fini(struct captured *c)
{
	free(c->storage);
	c->storage = NULL;
}

static int captured_init(struct captured *c, struct err *e)
{
	*c = (struct captured){ .storage = malloc(2 * (size_t)RUN_CAPTURE_MAX) };
	if (!c->storage)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&c->out, c->storage, RUN_CAPTURE_MAX);
	buf_init(&c->err, (uint8_t *)c->storage + RUN_CAPTURE_MAX, RUN_CAPTURE_MAX);
	return 0;
}

int live_open_result(const char *where, int *ret_fd, struct err *e)
{
	uint64_t number;

	if (strncmp(where, "fd:", 3) != 0)
		return fd_open(where, O_WRONLY | O_CREAT | O_TRUNC | O_NOCTTY, 0644, ret_fd, e);
	if (!span_to_u64(span_str(where + 3), &number) || number > INT32_MAX ||
	    fcntl((int)number, F_GETFD) < 0)
		return err_set(e, -EINVAL, "--result %s: no such open file descriptor", where);
	*ret_fd = fcntl((int)number, F_DUPFD_CLOEXEC, 3);
	return *ret_fd < 0 ? err_sys(e, "--result %s", where) : 0;
}

static int write_result(int fd, struct span end, struct err *e)
{
	int r = fd_write_all(fd, end.at, end.len, e);

	return r < 0 ? r : fd_write_all(fd, "\n", 1, e);
}

/* {"result":{...},"stdout":"...",...}: what `--json` prints, whatever happened. */
static int print_json(const struct session *s, const struct captured *cap, struct err *e)
{
	struct span end = span_of(s->relay.end_json, s->relay.end_bytes);
	struct span out = buf_span(&cap->out);
	struct span err = buf_span(&cap->err);
	_own_free_ char *storage = NULL;
	struct buf b;
	size_t size = end.len + json_output_bytes(out) + json_output_bytes(err) + 64;

	storage = malloc(size);
	if (!storage)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&b, storage, size);
	buf_put_str(&b, "{\"result\":");
	if (end.at)
		buf_put_span(&b, end);
	else
		buf_put_str(&b, "null");
	buf_put_str(&b, ",");
	buf_put_json_output(&b, "stdout", out, s->relay.out.truncated);
	buf_put_str(&b, ",");
	buf_put_json_output(&b, "stderr", err, s->relay.err.truncated);
	buf_put_str(&b, "}\n");
	return cli_out(b.at, b.len, e);
}

/* What END says decides; without it, what the stream said. */
static int finish(struct session *s, const struct spec *spec, int result_fd, struct err *e)
{
	struct span end = span_of(s->relay.end_json, s->relay.end_bytes);
	const char *command = spec->argv[0] ? spec->argv[0] : "";
	struct result res;
	int r;

	if (s->relay.ended == RELAY_LEFT)
		return s->relay.left;
	if (!end.at)
		return session_status(s, command);
	r = result_parse_json(end, &res, e);
	if (r == 0 && result_fd >= 0)
		r = write_result(result_fd, end, e);
	if (r < 0)
		return cli_fail(e);
	if (s->interrupted)
		return 128 + s->interrupted;
	if (s->relay.ended == RELAY_FAILED) /* it knows more: where it failed, and by what errno */
		return session_status(s, command);
	session_explain(&res);
	return (int)res.exit_code;
}

static int print_started(const struct cli *c, const struct started *st, const struct spec *spec,
                         struct err *e)
{
	char storage[256];
	struct buf b;

	buf_init(&b, storage, sizeof(storage));
	if (c->json) {
		buf_printf(&b, "{\"id\":\"%s\",\"name\":", st->id);
		buf_put_json_str(&b, span_str(spec->name ? spec->name : st->id));
		buf_put_str(&b, "}\n");
	} else {
		buf_printf(&b, "%s\n", st->id);
	}
	return cli_out(b.at, b.len, e);
}

static void prepare_relay(struct session *s, const struct cli *c, const struct spec *spec,
                          struct captured *cap)
{
	struct relay *r = &s->relay;

	s->tty = spec->tty && c->in_tty && !spec->detach;
	r->stream = MAIN_STREAM;
	r->until_start = spec->detach;
	r->want_end = !spec->detach;
	if (spec->detach)
		return; /* nothing of ours goes in or comes out */
	r->in_fd = spec->stdin_open ? STDIN_FILENO : -1;
	r->out.fd = c->json ? -1 : STDOUT_FILENO;
	r->err.fd = c->json ? -1 : STDERR_FILENO;
	r->out.capture = c->json ? &cap->out : NULL;
	r->err.capture = c->json ? &cap->err : NULL;
}

int live_run(struct session *s, struct cli *c, const struct spec *spec, struct started *st,
             int result_fd)
{
	__attribute__((cleanup(captured_fini))) struct captured cap = { 0 };
	struct err e = { 0 };
	int status;

	(void)close(st->pidfd); /* the socket tells of its end */
	if (session_connect(s, st->control_fd, &e) < 0)
		return cli_fail(&e);
	if (c->json && captured_init(&cap, &e) < 0)
		return cli_fail(&e);
	prepare_relay(s, c, spec, &cap);
	wire_put_u8(&s->client->out, WIRE_ATTACH, MAIN_STREAM, CLIENT_EPOCH,
	            !spec->detach && spec->stdin_open);
	if (session_run(s, &e) < 0)
		return cli_fail(&e);
	if (s->relay.ended == RELAY_STARTED)
		return print_started(c, st, spec, &e) < 0 ? cli_fail(&e) : 0;
	status = finish(s, spec, result_fd, &e);
	if (c->json && print_json(s, &cap, &e) < 0)
		return cli_fail(&e);
	return status;
}
