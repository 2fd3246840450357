#include "api/berm_internal.h"

#include <errno.h>
#include <string.h>

static struct relay_sink *sink_of(struct berm_process *p, int stream)
{
	return stream == BERM_STDERR ? &p->relay.err : &p->relay.out;
}

static int check_pipe(const struct berm_process *p, int stream, struct err *e)
{
	static const char *const names[] = { "in", "out", "err" };

	if (stream < BERM_STDIN || stream > BERM_STDERR)
		return err_set(e, -EINVAL, "stream %d is none of the command's", stream);
	if (p->streams[stream] != BERM_STREAM_PIPE)
		return err_set(e, -EINVAL, "'%s' of this command is no BERM_STREAM_PIPE",
		               names[stream]);
	return 0;
}

/* --- reading --- */

struct reading {
	struct berm_process *p;
	int stream;
};

bool stream_readable(struct berm_process *p, int stream)
{
	const struct relay_sink *s = sink_of(p, stream);

	return s->ring_len > 0 || s->eof || process_over(p);
}

static bool is_readable(const void *arg)
{
	const struct reading *r = arg;

	return stream_readable(r->p, r->stream);
}

static ssize_t read_pipe(struct berm_process *p, int stream, void *ret, size_t size, int timeout_ms,
                         struct err *e)
{
	const struct reading reading = { .p = p, .stream = stream };
	struct relay_sink *s = sink_of(p, stream);
	int r = check_pipe(p, stream, e);
	size_t n;

	if (r == 0 && (!ret || size == 0))
		r = err_set(e, -EINVAL, "there is no room to read to");
	if (r < 0)
		return r;
	if (s->ring_len == 0)
		r = pump_until(p->sb, is_readable, &reading, pump_deadline(timeout_ms));
	if (r < 0)
		return err_set(e, -EAGAIN, "nothing to read yet");
	n = sink_read(s, ret, size);
	p->told_out[stream] = false;
	p->read_end[stream] = n == 0;
	pump_settle(p); /* what was read may be sent again */
	return (ssize_t)n;
}

ssize_t berm_read(struct berm_process *p, int stream, void *ret, size_t size, int timeout_ms,
                  struct berm_err *e)
{
	struct err why = { 0 };
	ssize_t n = process_enter(p, &why);

	if (n < 0)
		return api_tell(e, (int)n, &why);
	if (stream == BERM_STDIN)
		n = err_set(&why, -EINVAL, "stdin is for berm_write()");
	else
		n = read_pipe(p, stream, ret, size, timeout_ms, &why);
	sandbox_leave(p->sb);
	return n < 0 ? api_tell(e, (int)n, &why) : n;
}

/* --- writing --- */

bool stream_writable(const struct berm_process *p)
{
	if (p->closed || p->failed || p->relay.in_eof || p->close_stdin ||
	    p->relay.ended != RELAY_RUNNING)
		return true; /* and is told -EPIPE */
	return p->connected && relay_takes_input(&p->relay);
}

static bool is_writable(const void *arg)
{
	return stream_writable(arg);
}

static ssize_t put(struct berm_process *p, struct span data)
{
	if (p->closed || p->failed || p->close_stdin)
		return -EPIPE;
	return p->connected ? relay_put_input(&p->relay, data) : 0;
}

static ssize_t write_pipe(struct berm_process *p, struct span data, int timeout_ms, struct err *e)
{
	const uint64_t deadline_ms = pump_deadline(timeout_ms);
	ssize_t taken = 0;
	ssize_t r = check_pipe(p, BERM_STDIN, e);

	if (r == 0 && !data.at && data.len > 0)
		r = err_set(e, -EINVAL, "there is nothing to write");
	if (r < 0)
		return r;
	while (data.len > 0) {
		if (pump_until(p->sb, is_writable, p, deadline_ms) < 0)
			break;
		r = put(p, data);
		if (r < 0)
			break;
		pump_settle(p);
		taken += r;
		data.at += r;
		data.len -= (size_t)r;
	}
	p->wants_in = data.len > 0 && r >= 0;
	if (taken > 0 || data.len == 0)
		return taken;
	if (r == -EPIPE)
		return err_set(e, -EPIPE, "the command reads no more");
	return err_set(e, -EAGAIN, "the command takes no input yet");
}

ssize_t berm_write(struct berm_process *p, const void *data, size_t len, int timeout_ms,
                   struct berm_err *e)
{
	struct err why = { 0 };
	ssize_t n = process_enter(p, &why);

	if (n < 0)
		return api_tell(e, (int)n, &why);
	n = write_pipe(p, span_of(data, len), timeout_ms, &why);
	sandbox_leave(p->sb);
	return n < 0 ? api_tell(e, (int)n, &why) : n;
}

int berm_close_stdin(struct berm_process *p, struct berm_err *e)
{
	struct err why = { 0 };
	int r = process_enter(p, &why);

	if (r < 0)
		return api_tell(e, r, &why);
	r = check_pipe(p, BERM_STDIN, &why);
	if (r == 0 && !p->relay.in_eof && !process_over(p)) {
		p->close_stdin = true;
		p->wants_in = false;
		pump_settle(p);
	}
	sandbox_leave(p->sb);
	return r < 0 ? api_tell(e, r, &why) : 0;
}

/* --- signals and sizes --- */

void stream_send_kept(struct berm_process *p)
{
	if (!p->relay.started || p->relay.ended != RELAY_RUNNING ||
	    client_room(p->client) < API_ROOM_MIN)
		return;
	for (int n = 1; p->signals && n <= API_SIGNAL_MAX; n++)
		if (p->signals >> (n - 1) & 1)
			relay_signal(&p->relay, n);
	p->signals = 0;
	if (p->rows > 0)
		relay_resize(&p->relay, p->rows, p->cols);
	p->rows = 0;
	if (p->close_stdin)
		relay_end_input(&p->relay);
	p->close_stdin = false;
}

/* What is asked of a command before it has started is kept for that moment. */
static int check_alive(struct berm_process *p, struct err *e)
{
	pump_once(p->sb);
	if (p->failed || p->closed || p->relay.ended != RELAY_RUNNING)
		return err_set(e, -ESRCH, "the command has ended");
	return 0;
}

int berm_signal(struct berm_process *p, int number, struct berm_err *e)
{
	struct err why = { 0 };
	int r = process_enter(p, &why);

	if (r < 0)
		return api_tell(e, r, &why);
	if (number < 1 || number > API_SIGNAL_MAX)
		r = err_set(&why, -EINVAL, "signal %d: signals are 1 to %d", number,
		            API_SIGNAL_MAX);
	else
		r = check_alive(p, &why);
	if (r == 0) {
		p->signals |= UINT64_C(1) << (number - 1);
		pump_settle(p);
	}
	sandbox_leave(p->sb);
	return r < 0 ? api_tell(e, r, &why) : 0;
}

int berm_resize(struct berm_process *p, unsigned rows, unsigned cols, struct berm_err *e)
{
	struct err why = { 0 };
	int r = process_enter(p, &why);

	if (r < 0)
		return api_tell(e, r, &why);
	if (!p->tty)
		r = err_set(&why, -EINVAL, "the command has no terminal");
	else if (rows < 1 || rows > UINT16_MAX || cols < 1 || cols > UINT16_MAX)
		r = err_set(&why, -EINVAL, "rows and cols are 1 to %d", UINT16_MAX);
	else
		r = check_alive(p, &why);
	if (r == 0) {
		p->rows = (uint16_t)rows;
		p->cols = (uint16_t)cols;
		pump_settle(p);
	}
	sandbox_leave(p->sb);
	return r < 0 ? api_tell(e, r, &why) : 0;
}
