#include "agent/stream.h"

#include "agent/agent.h"
#include "agent/limits.h"
#include "agent/store.h"
#include "base/clock.h"
#include "base/fdio.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <termios.h>

static struct stream *find(struct agent *a, uint32_t id)
{
	for (unsigned i = 0; i < WIRE_STREAMS_MAX; i++)
		if (a->streams[i].id == id)
			return &a->streams[i];
	return NULL;
}

static unsigned slot_of(const struct agent *a, const struct stream *s)
{
	return (unsigned)(s - a->streams);
}

unsigned streams_count(const struct agent *a)
{
	unsigned n = 0;

	for (unsigned i = 0; i < WIRE_STREAMS_MAX; i++)
		n += a->streams[i].id != 0;
	return n;
}

int streams_init(struct agent *a, struct err *e)
{
	for (unsigned i = 0; i < WIRE_STREAMS_MAX; i++) {
		struct stream *s = &a->streams[i];
		int r = store_new(WIRE_WINDOW_BYTES, &s->in.buf, e);

		if (r < 0)
			return r;
		child_init(&s->child);
	}
	child_init(&a->spare);
	return 0;
}

static void close_fd(int *fd)
{
	own_close_fd(fd);
	*fd = -1;
}

/* Frees the slot. Processes of an EXEC go on in their cgroup. */
static void release(struct agent *a, struct stream *s)
{
	uint8_t *buf = s->in.buf;

	if (s->tty)
		close_fd(&s->out[0].fd); /* in.fd is the same */
	s->in.fd = s->out[0].fd = s->out[1].fd = -1;
	if (s->dirty)
		store_trim(buf, WIRE_WINDOW_BYTES);
	child_close(&s->child, &a->cg);
	*s = (struct stream){ .in = { .buf = buf } };
	child_init(&s->child);
	if (a->spare.pid == 0) /* the CPU is free now */
		a->refill_ms = clock_mono_ms();
}

static void put_fail(struct agent *a, uint8_t type, uint32_t id, int code, uint8_t stage,
                     const char *text)
{
	struct wire_fail f = { .code = (uint32_t)-code, .stage = stage, .text = span_str(text) };

	wire_put_fail(port_out(&a->port), type, id, a->epoch, &f);
}

/* --- opening --- */

static int open_pty(struct stream *s, const struct wire_exec *x, struct err *e)
{
	struct winsize ws = { .ws_row = x->rows, .ws_col = x->cols };
	unsigned number;
	int unlock = 0;
	int r;

	close_fd(&s->child.in_fd);
	close_fd(&s->child.out_fd);
	close_fd(&s->child.err_fd);
	s->tty = true;
	r = fd_open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK, 0, &s->out[0].fd, e);
	if (r < 0)
		return r;
	if (ioctl(s->out[0].fd, TIOCSPTLCK, &unlock) < 0 ||
	    ioctl(s->out[0].fd, (int)TIOCGPTN, &number) < 0)
		return err_sys(e, "unlock the pty");
	(void)ioctl(s->out[0].fd, TIOCSWINSZ, &ws);
	s->child.mail->pty = (int32_t)number;
	return 0;
}

static int prepare_exec(struct stream *s, struct err *e)
{
	struct wire_exec x;

	if (wire_parse_exec(span_of(s->child.mail->payload, s->child.mail->bytes), &x) < 0)
		return err_set(e, -EBADMSG, "the command's description is malformed");
	if (x.flags & WIRE_EXEC_TTY)
		return open_pty(s, &x, e);
	if (!(x.flags & WIRE_EXEC_STDIN)) /* nor do we want to be woken when it is closed */
		close_fd(&s->child.in_fd);
	return 0;
}

/* Takes the spare for an EXEC, or forks now; a file helper is born outside the workload. */
static int take_child(struct agent *a, struct stream *s, struct err *e)
{
	if (s->type != WIRE_EXEC)
		return child_make(&s->child, NULL, e);
	if (a->spare.pid == 0)
		return child_make(&s->child, &a->cg, e);
	s->child = a->spare;
	child_init(&a->spare);
	a->refill_ms = clock_mono_ms() + AGENT_REFILL_MS;
	return 0;
}

static int watch_all(struct agent *a, struct stream *s, struct err *e)
{
	unsigned slot = slot_of(a, s);
	int r = 0;

	if (s->tty) /* one fd for both ways: STREAM_EV_OUT stands for both */
		return agent_watch(a, s->out[0].fd, EPOLLIN | EPOLLOUT, AGENT_EV_STREAM, slot,
		                   STREAM_EV_OUT, e);
	if (s->in.fd >= 0)
		r = agent_watch(a, s->in.fd, EPOLLOUT, AGENT_EV_STREAM, slot, STREAM_EV_IN, e);
	if (r == 0)
		r = agent_watch(a, s->out[0].fd, EPOLLIN, AGENT_EV_STREAM, slot, STREAM_EV_OUT, e);
	if (r == 0)
		r = agent_watch(a, s->out[1].fd, EPOLLIN, AGENT_EV_STREAM, slot, STREAM_EV_ERR, e);
	return r;
}

static int open_child(struct agent *a, struct stream *s, struct span payload, struct err *e)
{
	struct mail *mail;
	int r = take_child(a, s, e);

	if (r < 0)
		return r;
	mail = s->child.mail;
	mail->type = s->type;
	mail->pty = -1;
	mail->bytes = (uint32_t)payload.len;
	memcpy(mail->payload, payload.at, payload.len);
	if (s->type == WIRE_EXEC)
		r = prepare_exec(s, e);
	if (r < 0)
		return r;
	if (s->tty) {
		s->in.fd = s->out[0].fd;
	} else {
		s->in.fd = s->child.in_fd;
		s->out[0].fd = s->child.out_fd;
		s->out[1].fd = s->child.err_fd;
	}
	r = watch_all(a, s, e);
	return r < 0 ? r : child_wake(&s->child, e);
}

void stream_open(struct agent *a, const struct wire_frame *f)
{
	uint8_t failed = f->type == WIRE_EXEC ? WIRE_EXEC_ERR : WIRE_RESULT;
	struct err e = { 0 };
	struct stream *s;
	int r;

	if (find(a, f->stream))
		agent_die(a, WIRE_REFUSE, "the host opened a stream that is open already");
	s = find(a, 0);
	if (!s) {
		put_fail(a, failed, f->stream, -EAGAIN, WIRE_AT_SYSTEM,
		         "the most streams a guest may have are open already");
		return;
	}
	if (f->type == WIRE_EXEC && (a->frozen || a->power != POWER_ON)) {
		put_fail(a, failed, f->stream, -EBUSY, WIRE_AT_SYSTEM,
		         a->frozen ? "the guest is frozen" : "the guest is powering off");
		return;
	}
	s->id = f->stream;
	s->type = f->type;
	s->started = f->type != WIRE_EXEC; /* a file helper has nothing to exec first */
	s->in.fd = s->out[0].fd = s->out[1].fd = -1;
	s->in.credit = s->out[0].credit = s->out[1].credit = WIRE_WINDOW_BYTES;
	r = open_child(a, s, f->payload, &e);
	if (r < 0) {
		pid_t pid = s->child.pid;

		put_fail(a, failed, f->stream, e.code ? e.code : r, WIRE_AT_SYSTEM, e.text);
		release(a, s);
		if (pid > 0)
			(void)kill(pid, SIGKILL);
	}
}

/* --- input --- */

/* The child reads no more: what comes is dropped, and credited as if it had been read. */
static void close_input(struct stream *s)
{
	if (!s->tty) {
		close_fd(&s->child.in_fd);
		s->in.fd = -1;
	}
	s->in.owed += (uint32_t)(s->in.end - s->in.at);
	s->in.at = s->in.end = 0;
}

/* One write of up to `len` bytes; how many went, 0 if none can now. */
static size_t write_some(struct stream *s, const uint8_t *at, size_t len)
{
	ssize_t n;

	if (s->in.fd < 0 || len == 0)
		return 0;
	do
		n = write(s->in.fd, at, len);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		return (size_t)n;
	s->in.ready = false;
	if (n < 0 && errno != EAGAIN)
		close_input(s);
	return 0;
}

/* What EOF is on a terminal: its end-of-file character, if it reads lines. */
static void end_tty_input(struct stream *s)
{
	struct termios t;
	char c;

	if (tcgetattr(s->in.fd, &t) < 0 || !(t.c_lflag & ICANON))
		return;
	c = (char)t.c_cc[VEOF];
	(void)write_some(s, (const uint8_t *)&c, 1);
}

static bool pump_input(struct agent *a, struct stream *s)
{
	struct stream_in *in = &s->in;
	bool moved = false;

	while (in->at < in->end && in->ready && s->started) {
		size_t n = write_some(s, in->buf + in->at, in->end - in->at);

		if (n == 0)
			break;
		in->at += n;
		in->owed += (uint32_t)n;
		moved = true;
	}
	if (in->at == in->end)
		in->at = in->end = 0;
	if (in->eof && in->end == 0 && in->fd >= 0 && s->started) {
		in->eof = false;
		if (s->tty)
			end_tty_input(s);
		else
			close_input(s);
	}
	if (in->owed >= STREAM_CREDIT_STEP && port_has_room(&a->port)) {
		wire_put_u32(port_out(&a->port), WIRE_CREDIT, WIRE_IN, s->id, a->epoch, in->owed);
		in->credit += in->owed;
		in->owed = 0;
	}
	return moved;
}

static int take_data(struct stream *s, struct span data)
{
	struct stream_in *in = &s->in;

	if (data.len > in->credit)
		return -EPROTO;
	in->credit -= (uint32_t)data.len;
	if (in->eof || (in->fd < 0 && s->started)) { /* nobody reads it */
		in->owed += (uint32_t)data.len;
		return 0;
	}
	/* usually nothing waits and the pipe takes all: then it is never copied */
	while (in->end == 0 && in->ready && s->started && data.len > 0) {
		size_t n = write_some(s, data.at, data.len);

		data.at += n;
		data.len -= n;
		in->owed += (uint32_t)n;
		if (n == 0)
			break;
	}
	if (s->in.fd < 0) {
		in->owed += (uint32_t)data.len;
		return 0;
	}
	if (in->at > 0 && in->end + data.len > WIRE_WINDOW_BYTES) {
		memmove(in->buf, in->buf + in->at, in->end - in->at);
		in->end -= in->at;
		in->at = 0;
	}
	if (data.len > 0) {
		/* credit saw to it that it fits */
		memcpy(in->buf + in->end, data.at, data.len);
		in->end += data.len;
		s->dirty = true;
	}
	return 0;
}

/* --- frames --- */

static void send_signal(struct stream *s, uint32_t number)
{
	if (number == 0 || number > STREAM_SIGNALS_MAX || s->exited || s->type != WIRE_EXEC)
		return;
	if (!s->started) /* the process is not yet what the host means */
		s->signals |= UINT64_C(1) << (number - 1);
	else
		(void)kill(-s->child.pid, (int)number);
}

static void resize(struct stream *s, struct span payload)
{
	struct winsize ws = { 0 };

	if (s->tty && s->out[0].fd >= 0 && wire_parse_resize(payload, &ws.ws_row, &ws.ws_col) == 0)
		(void)ioctl(s->out[0].fd, TIOCSWINSZ, &ws);
}

/* Nobody will hear of it any more: an EXEC dies with all it started. */
static void reset(struct agent *a, struct stream *s)
{
	if (s->child.cgroup_fd >= 0)
		cgroup_kill(s->child.cgroup_fd);
	else if (!s->exited)
		(void)kill(s->child.pid, SIGKILL);
	release(a, s);
}

static int add_credit(struct stream *s, const struct wire_frame *f)
{
	uint32_t more;

	if (wire_parse_u32(f->payload, &more) < 0)
		return -EPROTO;
	if (__builtin_add_overflow(s->out[f->channel - WIRE_OUT].credit, more,
	                           &s->out[f->channel - WIRE_OUT].credit))
		return -EPROTO;
	return 0;
}

int stream_frame(struct agent *a, const struct wire_frame *f)
{
	struct stream *s = find(a, f->stream);
	uint32_t number;

	if (!s)
		return 0; /* it has ended, and this frame was under way */
	switch (f->type) {
	case WIRE_DATA:
		return take_data(s, f->payload);
	case WIRE_EOF:
		s->in.eof = true;
		return 0;
	case WIRE_CREDIT:
		return add_credit(s, f);
	case WIRE_RESIZE:
		resize(s, f->payload);
		return 0;
	case WIRE_SIGNAL:
		if (wire_parse_u32(f->payload, &number) < 0)
			return -EPROTO;
		send_signal(s, number);
		return 0;
	default: /* WIRE_RESET */
		reset(a, s);
		return 0;
	}
}

/* --- events --- */

void stream_event(struct agent *a, unsigned slot, unsigned what)
{
	struct stream *s = &a->streams[slot];

	if (what == STREAM_EV_IN || s->tty)
		s->in.ready = true;
	if (what == STREAM_EV_OUT)
		s->out[0].ready = true;
	if (what == STREAM_EV_ERR)
		s->out[1].ready = true;
}

bool stream_reaped(struct agent *a, pid_t pid, const struct wire_exit *x)
{
	for (unsigned i = 0; i < WIRE_STREAMS_MAX; i++) {
		struct stream *s = &a->streams[i];

		if (s->id == 0 || s->child.pid != pid || s->exited)
			continue;
		s->exited = true;
		s->exit = *x;
		s->cut_ms = clock_mono_ms() + STREAM_GRACE_MS;
		return true;
	}
	return false;
}

/* The command runs: say so, and deliver the signals that came too early. */
static void started(struct agent *a, struct stream *s)
{
	s->started = true;
	wire_put_u32(port_out_lazy(&a->port), WIRE_EXEC_OK, 0, s->id, a->epoch,
	             (uint32_t)s->child.pid);
	for (int n = 1; n <= STREAM_SIGNALS_MAX; n++)
		if (s->signals & UINT64_C(1) << (n - 1) && !s->exited)
			(void)kill(-s->child.pid, n);
	s->signals = 0;
}

/* Reads the report. True at its end. */
static bool read_status(struct stream *s)
{
	ssize_t n;

	do {
		n = read(s->child.status_fd, s->report + s->report_len,
		         sizeof(s->report) - s->report_len);
		if (n > 0)
			s->report_len += (size_t)n;
	} while (n > 0 || (n < 0 && errno == EINTR));
	return n == 0;
}

static void exec_failed(struct agent *a, struct stream *s)
{
	struct wire_fail f = { .code = EIO, .stage = WIRE_AT_SYSTEM };

	(void)child_parse_report(span_of(s->report, s->report_len), &f);
	wire_put_fail(port_out(&a->port), WIRE_EXEC_ERR, s->id, a->epoch, &f);
	release(a, s);
}

/* Of a COLLECT, before any of it is sent. */
static void tell_size(struct agent *a, struct stream *s)
{
	uint64_t bytes;

	if (s->type != WIRE_COLLECT || s->sized || !s->child.mail)
		return;
	bytes = __atomic_load_n(&s->child.mail->answer, __ATOMIC_ACQUIRE);
	if (bytes == 0)
		return;
	wire_put_u64(port_out_lazy(&a->port), WIRE_SIZE, s->id, a->epoch, bytes);
	s->sized = true;
}

static void pump_status(struct agent *a, struct stream *s)
{
	tell_size(a, s);
	if (s->reported || !read_status(s))
		return;
	tell_size(a, s);
	s->reported = s->sized = true;
	(void)munmap(s->child.mail, sizeof(struct mail));
	s->child.mail = NULL;
	if (s->type == WIRE_EXEC && s->report_len > 0)
		exec_failed(a, s);
	else if (s->type == WIRE_EXEC)
		started(a, s);
}

/* --- output --- */

static void end_output(struct agent *a, struct stream *s, unsigned i)
{
	if (s->tty)
		s->in.fd = -1;
	close_fd(&s->out[i].fd);
	if (i == 0)
		s->child.out_fd = -1;
	else
		s->child.err_fd = -1;
	/*
	 * a GET and a COLLECT have one output, a PUT none: other ends are the helper's own business
	 */
	if (s->type == WIRE_EXEC || (s->type != WIRE_PUT && i == 0))
		wire_put(port_out_lazy(&a->port), WIRE_EOF, (uint8_t)(WIRE_OUT + i), s->id,
		         a->epoch, span_of(NULL, 0));
}

/* One frame of up to `want` bytes of a pipe or pty. As read(2), with -errno. */
static ssize_t take_output(struct agent *a, struct stream *s, unsigned i, size_t want)
{
	uint8_t channel = (uint8_t)(WIRE_OUT + i);
	int fd = s->out[i].fd;
	uint8_t *at;
	ssize_t n;

	n = port_splice(&a->port, fd, channel, s->id, a->epoch, want);
	if (n != 0)
		return n > 0 ? n : -EBUSY;
	at = port_data_begin(&a->port, want);
	if (!at)
		return -EBUSY;
	do
		n = read(fd, at, want);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		port_data_end(&a->port, channel, s->id, a->epoch, (size_t)n);
	return n < 0 ? -errno : n;
}

/* Moves at most one frame. */
static bool pump_output(struct agent *a, struct stream *s, unsigned i)
{
	struct stream_out *o = &s->out[i];
	size_t want = o->credit < WIRE_DATA_MAX ? o->credit : WIRE_DATA_MAX;
	ssize_t n;

	if (o->fd < 0 || !port_has_room(&a->port))
		return false;
	if (o->cut && o->left == 0) {
		end_output(a, s, i);
		return true;
	}
	if (!o->ready || !s->started || want == 0 || (s->type == WIRE_COLLECT && !s->sized))
		return false;
	if (o->cut && o->left < want)
		want = (size_t)o->left;
	n = take_output(a, s, i, want);
	if (n > 0) {
		o->credit -= (uint32_t)n;
		o->left -= o->cut ? (uint64_t)n : 0;
		return true;
	}
	if (n == -EBUSY) /* the port is: what it takes wakes us */
		return false;
	if (n == -EAGAIN) {
		o->ready = false;
		o->left = 0; /* if it is cut, nothing is left to wait for */
		return o->cut;
	}
	end_output(a, s, i); /* EOF, or EIO from a pty without a slave */
	return true;
}

/* --- ending --- */

static bool finished(const struct stream *s)
{
	return s->exited && s->reported && s->out[0].fd < 0 && s->out[1].fd < 0;
}

static void finish(struct agent *a, struct stream *s)
{
	struct wire_fail f = { .code = EIO,
		               .stage = WIRE_AT_SYSTEM,
		               .text = span_str("the copying process died") };

	if (s->type == WIRE_EXEC) {
		limits_report(a, s->exit.signaled && s->exit.value == SIGKILL);
		wire_put_exit(port_out(&a->port), s->id, a->epoch, &s->exit);
	} else {
		(void)child_parse_report(span_of(s->report, s->report_len), &f);
		wire_put_fail(port_out(&a->port), WIRE_RESULT, s->id, a->epoch, &f);
	}
	(void)port_flush(&a->port); /* the host need not wait for us to tidy up */
	release(a, s);
}

static bool pump(struct agent *a, struct stream *s)
{
	bool moved;

	pump_status(a, s);
	if (s->id == 0)
		return true;
	moved = pump_input(a, s);
	for (unsigned i = 0; i < STREAM_OUTS; i++)
		moved |= pump_output(a, s, i);
	if (finished(s) && port_has_room(&a->port)) {
		finish(a, s);
		moved = true;
	}
	return moved;
}

bool streams_pump(struct agent *a)
{
	bool moved = false;

	for (unsigned i = 0; i < WIRE_STREAMS_MAX; i++) {
		struct stream *s = &a->streams[(a->turn + i) % WIRE_STREAMS_MAX];

		if (s->id != 0 && port_has_room(&a->port))
			moved |= pump(a, s);
	}
	a->turn = (a->turn + 1) % WIRE_STREAMS_MAX;
	return moved;
}

uint64_t streams_deadline_ms(const struct agent *a)
{
	uint64_t soonest = UINT64_MAX;
	uint64_t look_ms = clock_mono_ms() + AGENT_LOOK_MS;

	for (unsigned i = 0; i < WIRE_STREAMS_MAX; i++) {
		const struct stream *s = &a->streams[i];
		bool open = s->out[0].fd >= 0 || s->out[1].fd >= 0;
		bool cut = s->out[0].cut || s->out[1].cut;

		if (s->id != 0 && !s->reported && s->type == WIRE_EXEC && look_ms < soonest)
			soonest = look_ms;
		if (s->id != 0 && s->exited && open && !cut && s->cut_ms < soonest)
			soonest = s->cut_ms;
	}
	return soonest;
}

void streams_tick(struct agent *a, uint64_t now_ms)
{
	for (unsigned i = 0; i < WIRE_STREAMS_MAX; i++) {
		struct stream *s = &a->streams[i];

		if (s->id == 0 || !s->exited || now_ms < s->cut_ms)
			continue;
		for (unsigned k = 0; k < STREAM_OUTS; k++) {
			struct stream_out *o = &s->out[k];
			int bytes = 0;

			if (o->fd < 0 || o->cut)
				continue;
			(void)ioctl(o->fd, FIONREAD, &bytes);
			o->left = bytes > 0 ? (uint64_t)bytes : 0;
			o->cut = true;
		}
	}
}

static struct stream *find_kept(struct agent *a, uint32_t keep)
{
	struct stream *s = keep != 0 ? find(a, keep) : NULL;

	return s && s->type == WIRE_EXEC ? s : NULL;
}

void streams_renew(struct agent *a, uint32_t keep)
{
	struct stream *kept = find_kept(a, keep);

	for (unsigned i = 0; i < WIRE_STREAMS_MAX; i++)
		if (a->streams[i].id != 0 && &a->streams[i] != kept)
			release(a, &a->streams[i]);
	if (!kept)
		return;
	kept->in.owed = 0;
	kept->in.credit = WIRE_WINDOW_BYTES - (uint32_t)(kept->in.end - kept->in.at);
	for (unsigned i = 0; i < STREAM_OUTS; i++)
		kept->out[i].credit = WIRE_WINDOW_BYTES;
}

void streams_tell(struct agent *a, uint32_t keep)
{
	const struct stream *s = find_kept(a, keep);
	struct buf *out = port_out(&a->port);

	if (keep == 0)
		return;
	if (!s) { /* it was never there: silence would be taken for a command that runs */
		wire_put_u32(out, WIRE_RESET, 0, keep, a->epoch, ESRCH);
		return;
	}
	if (s->in.credit > 0)
		wire_put_u32(out, WIRE_CREDIT, WIRE_IN, keep, a->epoch, s->in.credit);
	for (unsigned i = 0; i < (s->tty ? 1 : STREAM_OUTS); i++)
		if (s->out[i].fd < 0)
			wire_put(out, WIRE_EOF, (uint8_t)(WIRE_OUT + i), keep, a->epoch,
			         span_of(NULL, 0));
}

void stream_refill(struct agent *a)
{
	struct err e = { 0 };

	a->refill_ms = 0;
	if (a->spare.pid != 0 || a->power != POWER_ON || a->frozen)
		return;
	/* without one the next exec makes its own, or says why not */
	if (child_make(&a->spare, &a->cg, &e) < 0)
		log_debug("no child is waiting: %s", e.text);
}
