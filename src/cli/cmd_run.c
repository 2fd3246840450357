#include "base/fdio.h"
#include "base/log.h"
#include "cli/json_out.h"
#include "cli/run.h"
#include "cli/session.h"
#include "cli/verbs.h"
#include "lib/result.h"
#include "lib/start.h"

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

/* "fd:N" or a path. Opened first, so that a wrong one is told before anything ran. */
static int open_result(const char *where, int *ret_fd, struct err *e)
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
static int finish(struct session *s, const struct run *run, int result_fd, struct err *e)
{
	struct span end = span_of(s->relay.end_json, s->relay.end_bytes);
	struct result res;
	int r;

	if (s->relay.ended == RELAY_LEFT)
		return s->relay.left;
	if (!end.at)
		return session_status(s, run->argv.items[0]);
	r = result_parse_json(end, &res, e);
	if (r == 0 && result_fd >= 0)
		r = write_result(result_fd, end, e);
	if (r < 0)
		return cli_fail(e);
	if (s->interrupted)
		return 128 + s->interrupted;
	if (s->relay.ended == RELAY_FAILED) /* it knows more: where it failed, and by what errno */
		return session_status(s, run->argv.items[0]);
	session_explain(&res);
	return (int)res.exit_code;
}

static int print_started(const struct cli *c, const struct started *st, const struct run *run,
                         struct err *e)
{
	char storage[256];
	struct buf b;

	buf_init(&b, storage, sizeof(storage));
	if (c->json) {
		buf_printf(&b, "{\"id\":\"%s\",\"name\":", st->id);
		buf_put_json_str(&b, span_str(run->spec.name ? run->spec.name : st->id));
		buf_put_str(&b, "}\n");
	} else {
		buf_printf(&b, "%s\n", st->id);
	}
	return cli_out(b.at, b.len, e);
}

static void prepare_relay(struct session *s, const struct cli *c, const struct run *run,
                          struct captured *cap)
{
	struct relay *r = &s->relay;

	s->tty = run->spec.tty && c->in_tty && !run->spec.detach;
	r->stream = MAIN_STREAM;
	r->until_start = run->spec.detach;
	r->want_end = !run->spec.detach;
	if (run->spec.detach)
		return; /* nothing of ours goes in or comes out */
	r->in_fd = run->spec.stdin_open ? STDIN_FILENO : -1;
	r->out.fd = c->json ? -1 : STDOUT_FILENO;
	r->err.fd = c->json ? -1 : STDERR_FILENO;
	r->out.capture = c->json ? &cap->out : NULL;
	r->err.capture = c->json ? &cap->err : NULL;
}

/* Starts it and stays until its end, or its start with -d. Returns the exit status. */
static int run_sandbox(struct session *s, struct cli *c, struct run *run, int result_fd)
{
	__attribute__((cleanup(captured_fini))) struct captured cap = { 0 };
	struct started st;
	struct err e = { 0 };
	int status;

	if (c->json && captured_init(&cap, &e) < 0)
		return cli_fail(&e);
	if (start_sandbox(&c->paths, c->state_fd, run->disk_fd, &run->spec, &st, &e) < 0)
		return cli_fail(&e);
	(void)close(st.pidfd); /* the socket tells of its end */
	if (session_connect(s, st.control_fd, &e) < 0)
		return cli_fail(&e);
	prepare_relay(s, c, run, &cap);
	wire_put_u8(&s->client->out, WIRE_ATTACH, MAIN_STREAM, CLIENT_EPOCH,
	            !run->spec.detach && run->spec.stdin_open);
	if (session_run(s, &e) < 0)
		return cli_fail(&e);
	if (s->relay.ended == RELAY_STARTED)
		return print_started(c, &st, run, &e) < 0 ? cli_fail(&e) : 0;
	status = finish(s, run, result_fd, &e);
	if (c->json && print_json(s, &cap, &e) < 0)
		return cli_fail(&e);
	return status;
}

static void take_size(struct run *run, const struct cli *c)
{
	struct spec *s = &run->spec;

	if (!s->tty)
		return;
	s->rows = TERM_ROWS_DEFAULT;
	s->cols = TERM_COLS_DEFAULT;
	if (c->out_tty)
		(void)term_size(STDOUT_FILENO, &s->rows, &s->cols);
}

static void finish_run(struct run *run)
{
	run_drop_image(run);
	run_fini(run);
}

static int run_run(struct cli *c, const struct args *a)
{
	__attribute__((cleanup(session_fini))) struct session s = { .signal_fd = -1 };
	__attribute__((cleanup(finish_run))) struct run run;
	_own_fd_ int result_fd = -1;
	struct err e = { 0 };

	run_init(&run);
	if (run_take_flags(&run, c, a, &e) < 0 || spec_check(&run.spec, &e) < 0)
		return cli_usage(a, "%s", e.text);
	if (run.result_path && open_result(run.result_path, &result_fd, &e) < 0)
		return cli_fail(&e);
	take_size(&run, c);
	if (cli_state(c, &e) < 0 || run_take_image(&run, c, &e) < 0 ||
	    spec_check(&run.spec, &e) < 0 || session_init(&s, c, SESSION_RUN, &e) < 0)
		return cli_fail(&e);
	return run_sandbox(&s, c, &run, result_fd);
}

const struct verb verb_run = {
	.name = "run",
	.summary = "Run a command in a fresh guest",
	.args = "[IMAGE] [CMD [ARG...]] | -- CMD [ARG...]",
	.about =
		"The first word is the image; with -- in front of the command, the default image is\n"
		"used. Without a command the image's own is run. The guest is gone when it ends.\n"
		"\n"
		"Stdin is forwarded, except with -d or from a terminal while in the background. At a\n"
		"terminal (stdin, stdout and stderr) the command gets a terminal of its own.\n"
		"\n"
		"Sizes are 64KiB, 512MiB, 2GiB; durations are 500ms, 30s, 5min, 2h.\n"
		"\n"
		"Exit status: the command's own; 124 a time limit; 125 berm's error; 126 the command\n"
		"cannot be executed; 127 it is not there; 128+N it was killed by signal N; 137 it was\n"
		"killed, or out of memory, and stderr says why.\n",
	.examples = "berm run -- python3 -c 'print(1)'\n"
		    "echo 'print(6*7)' | berm run --time 10s -- python3\n"
		    "berm run debian:12 sh -c 'cat /etc/os-release'\n"
		    "berm run -m 1GiB --cpus 2 -e TOKEN -- ./run-tests\n"
		    "berm run --json -- ./untrusted | jq .result.reason\n"
		    "berm run -d --name web -- sleep 1h\n",
	.opts = run_opts,
	.run = run_run,
	.words_max = CLI_WORDS_ANY,
	.words = COMPLETE_IMAGE,
	.stop_at_word = true,
};
