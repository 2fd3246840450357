/*
 * Commands: their streams, their connection, their life. What berm.h says of them is here; moving
 * the bytes is relay.c's.
 */
#include "api/berm_internal.h"

#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* --- what the relay tells --- */

static void on_progress(void *ctx, struct span text)
{
	struct berm_process *p = ctx;
	struct berm_sandbox *sb = p->sb;
	size_t len = text.len < API_PROGRESS_MAX ? text.len : API_PROGRESS_MAX;

	memcpy(sb->progress, text.at, len);
	sb->progress[len] = '\0';
	sb->due_progress = true;
}

static void on_answer(void *ctx, const struct wire_frame *f)
{
	struct berm_process *p = ctx;

	if (f->type == WIRE_INFO_OK)
		stats_take(p->sb, f->payload);
	else if (f->type == WIRE_DONE && p->kind == API_REQUEST)
		request_answered(p->sb, f);
}

static const struct relay_ops process_ops = { .on_progress = on_progress, .on_answer = on_answer };

/* --- making and unmaking --- */

/*
 * A duplicate of the program's file. Of a pipe or a terminal it is opened anew, so that it can be
 * non-blocking without the program's own becoming so.
 */
static int take_input(int fd, int *ret_fd, struct err *e)
{
	char path[32];
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(e, "in: fd %d", fd);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if ((S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) &&
	    fd_open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK, 0, ret_fd, NULL) == 0)
		return 0;
	*ret_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return *ret_fd < 0 ? err_sys(e, "in: fd %d", fd) : 0;
}

static int take_output(const char *what, int fd, int *ret_fd, struct err *e)
{
	*ret_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return *ret_fd < 0 ? err_sys(e, "%s: fd %d", what, fd) : 0;
}

static int open_streams(struct berm_process *p, const struct berm_command *cmd, struct err *e)
{
	const struct berm_stream *const streams[] = { &cmd->in, &cmd->out, &cmd->err };
	int r = 0;

	for (int i = BERM_STDIN; i <= BERM_STDERR; i++)
		p->streams[i] = (uint8_t)streams[i]->kind;
	if (cmd->in.kind == BERM_STREAM_FD)
		r = take_input(cmd->in.fd, &p->fds[BERM_STDIN], e);
	if (r == 0 && cmd->out.kind == BERM_STREAM_FD)
		r = take_output("out", cmd->out.fd, &p->fds[BERM_STDOUT], e);
	if (r == 0 && cmd->err.kind == BERM_STREAM_FD)
		r = take_output("err", cmd->err.fd, &p->fds[BERM_STDERR], e);
	if (r < 0)
		return r;
	p->relay.in_fd = p->fds[BERM_STDIN];
	p->relay.out.fd = p->fds[BERM_STDOUT];
	p->relay.err.fd = p->fds[BERM_STDERR];
	p->relay.out.readable = cmd->out.kind == BERM_STREAM_PIPE;
	p->relay.err.readable = cmd->err.kind == BERM_STREAM_PIPE;
	p->relay.steady = p->relay.out.steady = p->relay.err.steady = true;
	p->tty = cmd->flags & BERM_TTY;
	p->data = cmd->data;
	return 0;
}

int process_new(struct berm_sandbox *sb, uint8_t kind, const struct berm_command *cmd,
                struct berm_process **ret, struct err *e)
{
	struct berm_process *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return err_set(e, -ENOMEM, "out of memory");
	p->sb = sb;
	p->kind = kind;
	for (int i = 0; i < 3; i++)
		p->fds[i] = -1;
	for (int i = 0; i < API_SLOTS; i++)
		p->slots[i] = (struct slot){ .process = p, .index = (uint8_t)i, .fd = -1 };
	r = client_new(-1, &p->client, e);
	if (r == 0) {
		relay_init(&p->relay, p->client);
		p->relay.stream = API_STREAM;
		p->relay.want_end = kind == API_CONTROL;
		p->relay.ops = &process_ops;
		p->relay.ctx = p;
		r = cmd ? open_streams(p, cmd, e) : 0;
	}
	if (r < 0) {
		process_drop(p);
		return r;
	}
	*ret = p;
	return 0;
}

/* What it was joined to, but not what can still be read. */
static void close_files(struct berm_process *p)
{
	for (int i = 0; i < 3; i++)
		if (p->fds[i] >= 0)
			(void)close(steal_fd(&p->fds[i]));
}

/* The connection and the files go; what was read, and how it ended, stays. */
void process_close(struct berm_process *p)
{
	if (p->closed)
		return;
	p->closed = true;
	p->sb->news = true;
	pump_unwatch(p);
	if (p->streams[BERM_STDOUT] != BERM_STREAM_PIPE)
		sink_fini(&p->relay.out);
	if (p->streams[BERM_STDERR] != BERM_STREAM_PIPE)
		sink_fini(&p->relay.err);
	close_files(p);
	client_free(p->client);
	p->client = NULL;
}

void process_drop(struct berm_process *p)
{
	if (!p)
		return;
	if (p->client && !p->closed)
		process_close(p);
	if (p->relay.client)
		relay_fini(&p->relay);
	close_files(p);
	client_free(p->client);
	free(p);
}

void process_fail(struct berm_process *p, const struct err *why)
{
	if (p->failed)
		return;
	p->failed = true;
	p->why = *why;
	process_close(p);
}

/* --- its connection --- */

void process_connect(struct berm_process *p)
{
	struct err why = { 0 };
	int fd;
	int r;

	if (p->connected || p->closed || p->failed)
		return;
	r = sandbox_dial(p->sb, &fd, &why);
	if (r == -EAGAIN) {
		pump_retry_later(p->sb);
		return;
	}
	if (r == -ESHUTDOWN && !p->sb->started)
		return; /* it does not listen yet */
	if (r < 0) {
		process_fail(p, &why);
		return;
	}
	p->connected = true;
	p->client->fd = fd;
	pump_settle(p);
}

/* --- its end --- */

bool process_over(const struct berm_process *p)
{
	if (p->failed)
		return true;
	if (p->kind != API_CONTROL)
		return relay_finished(&p->relay);
	return p->relay.ended != RELAY_RUNNING && !sink_waiting(&p->relay.out) &&
	       !sink_waiting(&p->relay.err);
}

/* A code of its own for each thing that may be missing: ENOENT alone would not say what. */
static int not_started(const struct berm_process *p, struct err *e)
{
	const struct wire_fail *f = &p->relay.fail;
	const char *text = p->relay.fail_text;
	int code = f->code > 0 && f->code < 4096 ? (int)f->code : EIO;

	if (f->stage == WIRE_AT_EXEC && code == ENOENT)
		return err_set(e, -ENOENT, "no such command in the guest%s%s", *text ? ": " : "",
		               text);
	if (f->stage == WIRE_AT_USER)
		return err_set(e, -EINVAL, "the command could not be started: %s", text);
	if (f->stage == WIRE_AT_CWD && code == ENOENT)
		code = ENOTDIR;
	return err_set(e, -code, "the command could not be started: %s%s%s", text,
	               *text ? ": " : "", strerror(code));
}

static int was_reset(const struct berm_process *p, struct err *e)
{
	switch (p->relay.reset_errno) {
	case EAGAIN:
		return err_set(e, -EAGAIN, "the sandbox is still starting");
	case EMFILE:
		return err_set(e, -EMFILE, "the sandbox runs as many commands as it can");
	case ENOBUFS:
		return err_set(e, -ENOBUFS,
		               "its output came faster than it was read; the command goes on");
	default:
		return err_set(e, -ECONNRESET, "the command was cut off by the sandbox");
	}
}

/* A file of the program's that could not be read or written, though the command ended well. */
static int file_failed(const struct berm_process *p, struct err *e)
{
	static const char *const names[] = { "in", "out", "err" };
	const int errors[] = { p->relay.in_error, p->relay.out.error, p->relay.err.error };

	for (int i = BERM_STDIN; i <= BERM_STDERR; i++)
		if (errors[i] > 0)
			return err_set(e, -errors[i], "%s of the command: %s", names[i],
			               strerror(errors[i]));
	return 0;
}

/* How it ended, once it is over. */
static int ending(const struct berm_process *p, struct berm_exit *ret, struct err *e)
{
	const struct wire_exit *x = &p->relay.exit;

	if (p->relay.ended == RELAY_EXIT) {
		*ret = (struct berm_exit){
			.size = sizeof(*ret),
			.code = (int)(x->signaled ? 128 + x->value : x->value),
			.signal = (int)(x->signaled ? x->value : 0),
			.user_us = x->user_us,
			.sys_us = x->sys_us,
			.maxrss_bytes = x->maxrss_bytes,
		};
		return file_failed(p, e);
	}
	if (p->failed) {
		*e = p->why;
		return p->why.code;
	}
	if (p->relay.ended == RELAY_FAILED)
		return not_started(p, e);
	if (p->relay.ended == RELAY_RESET && p->relay.reset_errno != ESHUTDOWN)
		return was_reset(p, e);
	return sandbox_gone(p->sb, p->relay.end_json, p->relay.end_bytes, e);
}

int process_enter(const struct berm_process *p, struct err *e)
{
	if (!p)
		return err_set(e, -EINVAL, "the process is NULL");
	return sandbox_enter(p->sb, e);
}

static bool is_over(const void *arg)
{
	return process_over(arg);
}

static int wait_process(struct berm_process *p, int timeout_ms, struct berm_exit *ret,
                        struct err *e)
{
	struct berm_exit got;
	int r = pump_until(p->sb, is_over, p, pump_deadline(timeout_ms));

	if (r < 0)
		return err_set(e, r, "the command has not ended yet");
	r = ending(p, &got, e);
	if (r < 0 || !ret)
		return r;
	return api_give_sized("struct berm_exit", ret, &got, sizeof(got), e);
}

int berm_wait(struct berm_process *p, int timeout_ms, struct berm_exit *ret, struct berm_err *e)
{
	struct err why = { 0 };
	int r = process_enter(p, &why);

	if (r < 0)
		return api_tell(e, r, &why);
	r = wait_process(p, timeout_ms, ret, &why);
	sandbox_leave(p->sb);
	return r < 0 ? api_tell(e, r, &why) : 0;
}

/* --- more commands --- */

void process_link(struct berm_process *p)
{
	struct berm_process **at = &p->sb->processes;

	while (*at)
		at = &(*at)->next;
	*at = p;
}

/* The request lies ready in its buffer, and goes when there is a connection. */
static int put_exec(struct berm_process *p, const struct berm_command *cmd, struct err *e)
{
	const struct berm_sandbox *sb = p->sb;
	struct buf *out = &p->client->out;
	const char *user = cmd->user ? cmd->user : sb->user;
	const char *cwd = cmd->workdir ? cmd->workdir : sb->workdir;
	const char *const *env = cmd->env ? cmd->env : (const char *const *)sb->env.items;
	static const char *const none[] = { NULL };
	struct wire_exec x = {
		.flags = (cmd->flags & BERM_TTY ? WIRE_EXEC_TTY : 0u) |
		         (cmd->in.kind != BERM_STREAM_NULL ? WIRE_EXEC_STDIN : 0u),
		.rows = cmd->rows,
		.cols = cmd->cols,
		.user = span_str(user ? user : ""),
		.cwd = span_str(cwd ? cwd : ""),
	};

	/* so that it is told why, should the sandbox end under it */
	wire_put(out, WIRE_WAIT, 0, 0, CLIENT_EPOCH, span_of(NULL, 0));
	wire_put_exec(out, API_STREAM, CLIENT_EPOCH, &x, cmd->argv, env ? env : none);
	if (!buf_ok(out))
		return err_set(e, -E2BIG, "argv and env are longer than %d KiB",
		               SPEC_EXEC_MAX >> 10);
	return 0;
}

static int put_attach(struct berm_process *p, const struct berm_command *cmd)
{
	wire_put_u8(&p->client->out, WIRE_ATTACH, API_STREAM, CLIENT_EPOCH,
	            cmd->in.kind != BERM_STREAM_NULL);
	return 0;
}

static int add_process(struct berm_sandbox *sb, uint8_t kind, const struct berm_command *cmd,
                       struct berm_process **ret, struct err *e)
{
	struct berm_process *p;
	int r;

	pump_once(sb);
	if (sb->ended)
		return sandbox_gone(sb, NULL, 0, e);
	r = process_new(sb, kind, cmd, &p, e);
	if (r < 0)
		return r;
	r = kind == API_EXEC ? put_exec(p, cmd, e) : put_attach(p, cmd);
	if (r < 0) {
		process_drop(p);
		return r;
	}
	process_link(p);
	if (sb->reachable)
		process_connect(p);
	*ret = p;
	return 0;
}

static int exec(struct berm_sandbox *sb, uint8_t kind, const struct berm_command *cmd,
                struct berm_process **ret, struct err *e)
{
	struct berm_command c;
	int r = ret ? command_take(cmd, &c, e) : err_set(e, -EINVAL, "ret is NULL");

	if (r == 0 && kind == API_EXEC && !c.argv)
		r = err_set(e, -EINVAL, "argv is NULL");
	if (r == 0)
		r = sandbox_enter(sb, e);
	if (r < 0)
		return r;
	r = add_process(sb, kind, &c, ret, e);
	sandbox_leave(sb);
	return r;
}

int berm_exec(struct berm_sandbox *sb, const struct berm_command *cmd, struct berm_process **ret,
              struct berm_err *e)
{
	struct err why = { 0 };
	int r = exec(sb, API_EXEC, cmd, ret, &why);

	return r < 0 ? api_tell(e, r, &why) : 0;
}

int berm_attach(struct berm_sandbox *sb, const struct berm_command *cmd, struct berm_process **ret,
                struct berm_err *e)
{
	struct err why = { 0 };
	int r = exec(sb, API_ATTACH, cmd, ret, &why);

	return r < 0 ? api_tell(e, r, &why) : 0;
}

void process_unlink(struct berm_process *p)
{
	for (struct berm_process **at = &p->sb->processes; *at; at = &(*at)->next) {
		if (*at != p)
			continue;
		*at = p->next;
		return;
	}
}

void berm_process_free(struct berm_process *p)
{
	struct berm_sandbox *sb;

	if (!p || p->kind == API_CONTROL)
		return;
	sb = p->sb;
	if (sandbox_enter(sb, NULL) < 0)
		return; /* in a forked child: its memory goes with the sandbox's */
	process_unlink(p);
	process_drop(p);
	sandbox_leave(sb);
}
