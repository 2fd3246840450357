#include "test.h"

#include "base/fdio.h"
#include "lib/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

/*
 * The other end of the socket is a child that plays the supervisor: it reads the frames of a
 * command, judges them by the wire's own rules and answers by a small script. It exits 0 only when
 * all it saw was in order, so a broken rule on our side fails the test.
 */

enum { TOTAL_BYTES = 8 << 20, FAKE_DEADLINE_MS = 20000 };

struct fake {
	int fd;
	uint8_t in[512 << 10];
	size_t from, to;
};

static void fake_put(struct fake *f, const struct buf *b)
{
	size_t at = 0;

	while (at < b->len) {
		ssize_t n = send(f->fd, b->at + at, b->len - at, MSG_NOSIGNAL);

		if (n <= 0)
			_exit(40);
		at += (size_t)n;
	}
}

static void fake_frame(struct fake *f, uint8_t type, uint8_t channel, uint32_t stream,
                       struct span payload)
{
	static uint8_t storage[WIRE_FRAME_MAX];
	struct buf b;

	buf_init(&b, storage, sizeof(storage));
	wire_put(&b, type, channel, stream, 1, payload);
	if (!buf_ok(&b))
		_exit(41);
	fake_put(f, &b);
}

static void fake_u32(struct fake *f, uint8_t type, uint8_t channel, uint32_t stream, uint32_t v)
{
	uint8_t storage[64];
	struct buf b;

	buf_init(&b, storage, sizeof(storage));
	wire_put_u32(&b, type, channel, stream, 1, v);
	fake_put(f, &b);
}

static void fake_hello(struct fake *f, uint32_t version)
{
	uint8_t storage[256];
	struct wire_hello hello = { .version = version,
		                    .agent_version = span_str("0.1.0"),
		                    .kernel = span_str("") };
	struct buf b;

	buf_init(&b, storage, sizeof(storage));
	wire_put_hello(&b, 1, &hello);
	fake_put(f, &b);
}

/* EXIT and, with `end`, END: in one piece, as who does not want the END leaves at the EXIT. */
static void fake_exit(struct fake *f, uint32_t code, const char *end)
{
	uint8_t storage[256];
	struct wire_exit x = { .value = code };
	struct buf b;

	buf_init(&b, storage, sizeof(storage));
	wire_put_exit(&b, 1, 1, &x);
	if (end)
		wire_put(&b, WIRE_END, 0, 0, 1, span_str(end));
	fake_put(f, &b);
}

/* The next frame; false at the end of the connection. */
static bool fake_next(struct fake *f, struct wire_frame *ret)
{
	for (;;) {
		struct span in = span_of(f->in + f->from, f->to - f->from);
		struct pollfd p = { .fd = f->fd, .events = POLLIN };
		int r = wire_parse_frame(&in, WIRE_FROM_COMMAND, ret);
		ssize_t n;

		if (r == 0) {
			f->from = f->to - in.len;
			return true;
		}
		if (r != -EAGAIN)
			_exit(42);
		memmove(f->in, f->in + f->from, f->to - f->from);
		f->to -= f->from;
		f->from = 0;
		if (poll(&p, 1, FAKE_DEADLINE_MS) <= 0)
			_exit(43);
		n = recv(f->fd, f->in + f->to, sizeof(f->in) - f->to, 0);
		if (n <= 0)
			return false;
		f->to += (size_t)n;
	}
}

static void fake_want(struct fake *f, uint8_t type, struct wire_frame *ret)
{
	if (!fake_next(f, ret) || ret->type != type)
		_exit(44);
}

struct session {
	struct client *client;
	struct relay relay;
	pid_t child;
	struct err e;
};

static void session_start(struct session *s, void (*play)(struct fake *f))
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	int fds[2];
	struct err e = { 0 };

	(void)sigaction(SIGPIPE, &ignore, NULL);
	CHECK_OK(fd_socketpair(fds, &e), &e);
	s->e = e;
	s->child = fork();
	CHECK(s->child >= 0);
	if (s->child == 0) {
		static struct fake f;

		(void)close(fds[0]);
		f.fd = fds[1];
		play(&f);
		_exit(0);
	}
	(void)close(fds[1]);
	CHECK_OK(client_new(fds[0], &s->client, &e), &e);
	relay_init(&s->relay, s->client);
	wire_put_u8(&s->client->out, WIRE_ATTACH, 1, 1, 1);
}

/* Closes our end and asks the supervisor whether all was in order. */
static void session_end(struct session *s)
{
	int status;

	relay_fini(&s->relay);
	client_free(s->client);
	CHECK_EQ(waitpid(s->child, &status, 0), s->child);
	CHECK_EQ(status, 0);
}

static uint8_t pattern(size_t i)
{
	return (uint8_t)(i * 2654435761U >> 13);
}

/* --- the plays --- */

/* Sends back what it was sent, as far as credit goes, and judges the other side's use of its. */
static void play_echo(struct fake *f)
{
	static uint8_t held[WIRE_WINDOW_BYTES];
	uint32_t credit = WIRE_WINDOW_BYTES;
	size_t held_bytes = 0;
	bool eof = false;
	struct wire_frame fr;
	uint32_t more;

	fake_hello(f, WIRE_VERSION);
	fake_want(f, WIRE_ATTACH, &fr);
	fake_u32(f, WIRE_EXEC_OK, 0, 1, 7);
	while (!eof || held_bytes > 0) {
		size_t n = held_bytes < credit ? held_bytes : credit;

		if (n > WIRE_DATA_MAX)
			n = WIRE_DATA_MAX;
		if (n > 0) {
			fake_frame(f, WIRE_DATA, WIRE_OUT, 1, span_of(held, n));
			fake_u32(f, WIRE_CREDIT, WIRE_IN, 1, (uint32_t)n);
			memmove(held, held + n, held_bytes - n);
			held_bytes -= n;
			credit -= (uint32_t)n;
			continue;
		}
		if (!fake_next(f, &fr))
			_exit(50);
		if (fr.type == WIRE_EOF) {
			eof = true;
		} else if (fr.type == WIRE_CREDIT) {
			if (wire_parse_u32(fr.payload, &more) < 0)
				_exit(51);
			credit += more;
			if (credit > WIRE_WINDOW_BYTES)
				_exit(54);
		} else if (fr.type == WIRE_DATA && fr.payload.len <= sizeof(held) - held_bytes) {
			memcpy(held + held_bytes, fr.payload.at, fr.payload.len);
			held_bytes += fr.payload.len;
		} else {
			_exit(52);
		}
	}
	fake_frame(f, WIRE_EOF, WIRE_OUT, 1, span_of(NULL, 0));
	fake_frame(f, WIRE_EOF, WIRE_ERR, 1, span_of(NULL, 0));
	fake_exit(f, 3, "{\"a\":1}");
}

static void play_yes(struct fake *f)
{
	uint32_t credit = WIRE_WINDOW_BYTES;
	static uint8_t data[WIRE_DATA_MAX];
	struct wire_frame fr;
	uint32_t v;

	fake_hello(f, WIRE_VERSION);
	fake_want(f, WIRE_ATTACH, &fr);
	fake_u32(f, WIRE_EXEC_OK, 0, 1, 7);
	for (;;) {
		while (credit >= sizeof(data)) {
			fake_frame(f, WIRE_DATA, WIRE_OUT, 1, span_of(data, sizeof(data)));
			credit -= (uint32_t)sizeof(data);
		}
		if (!fake_next(f, &fr) || wire_parse_u32(fr.payload, &v) < 0)
			_exit(60);
		if (fr.type == WIRE_SIGNAL && v == SIGPIPE)
			break;
		if (fr.type != WIRE_CREDIT)
			_exit(61);
		credit += v;
	}
	fake_exit(f, 1, NULL);
}

/* Ignores SIGPIPE and writes on: only SIGKILL ends it. */
static void play_stubborn(struct fake *f)
{
	struct wire_frame fr;
	bool told = false;
	uint32_t v;

	fake_hello(f, WIRE_VERSION);
	fake_want(f, WIRE_ATTACH, &fr);
	fake_u32(f, WIRE_EXEC_OK, 0, 1, 7);
	for (;;) {
		struct pollfd p = { .fd = f->fd, .events = POLLIN };

		fake_frame(f, WIRE_DATA, WIRE_OUT, 1, span_str("more\n"));
		if (poll(&p, 1, 50) == 0 && f->from == f->to)
			continue;
		if (!fake_next(f, &fr) || wire_parse_u32(fr.payload, &v) < 0)
			_exit(62);
		if (fr.type == WIRE_SIGNAL && v == SIGKILL && told)
			break;
		told |= fr.type == WIRE_SIGNAL && v == SIGPIPE;
	}
	fake_exit(f, 1, NULL);
}

static void play_flood(struct fake *f)
{
	static uint8_t data[WIRE_DATA_MAX];
	struct wire_frame fr;

	fake_hello(f, WIRE_VERSION);
	fake_want(f, WIRE_ATTACH, &fr);
	fake_u32(f, WIRE_EXEC_OK, 0, 1, 7);
	for (int i = 0; i < 100; i++)
		fake_frame(f, WIRE_DATA, WIRE_OUT, 1, span_of(data, sizeof(data)));
	_exit(0);
}

static void play_older(struct fake *f)
{
	fake_hello(f, WIRE_VERSION + 1);
}

static void play_vanish(struct fake *f)
{
	struct wire_frame fr;

	fake_hello(f, WIRE_VERSION);
	fake_want(f, WIRE_ATTACH, &fr);
	fake_u32(f, WIRE_EXEC_OK, 0, 1, 7);
	fake_frame(f, WIRE_DATA, WIRE_OUT, 1, span_str("last words"));
}

/* Cuts the program off; END comes once the other side has said something, or never. */
static void play_cut(struct fake *f)
{
	struct wire_frame fr;

	fake_hello(f, WIRE_VERSION);
	fake_want(f, WIRE_ATTACH, &fr);
	fake_u32(f, WIRE_EXEC_OK, 0, 1, 7);
	fake_frame(f, WIRE_DATA, WIRE_OUT, 1, span_str("last words"));
	fake_u32(f, WIRE_RESET, 0, 1, ESHUTDOWN);
	if (!fake_next(f, &fr))
		return;
	if (fr.type != WIRE_SIGNAL)
		_exit(63);
	fake_frame(f, WIRE_END, 0, 0, span_str("{}"));
}

static void play_not_found(struct fake *f)
{
	struct wire_fail fail = { .code = ENOENT,
		                  .stage = WIRE_AT_EXEC,
		                  .text = span_str("nosuch") };
	uint8_t storage[256];
	struct wire_frame fr;
	struct buf b;

	fake_hello(f, WIRE_VERSION);
	fake_want(f, WIRE_ATTACH, &fr);
	buf_init(&b, storage, sizeof(storage));
	wire_put_fail(&b, WIRE_EXEC_ERR, 1, 1, &fail);
	fake_put(f, &b);
	fake_frame(f, WIRE_END, 0, 0, span_str("{}"));
}

/* --- the tests --- */

/* Writes the pattern into a pipe from a child, or reads it: neither end may block the relay. */
static pid_t feed(int fd, int other)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	(void)close(other);
	for (size_t at = 0; at < TOTAL_BYTES;) {
		uint8_t chunk[5000];
		size_t n = 0;

		for (; n < sizeof(chunk) && at + n < TOTAL_BYTES; n++)
			chunk[n] = pattern(at + n);
		if (write(fd, chunk, n) != (ssize_t)n)
			_exit(1);
		at += n;
	}
	_exit(0);
}

static pid_t swallow(int fd, int other)
{
	size_t at = 0;
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	(void)close(other);
	for (;;) {
		uint8_t chunk[3001];
		ssize_t n = read(fd, chunk, sizeof(chunk));

		if (n <= 0)
			break;
		for (ssize_t i = 0; i < n; i++)
			if (chunk[i] != pattern(at++))
				_exit(1);
	}
	_exit(at == TOTAL_BYTES ? 0 : 2);
}

TEST(bytes_come_back_unharmed_through_two_pipes)
{
	int in[2];
	int out[2];
	struct session s;
	pid_t feeder;
	pid_t reader;
	int status;

	CHECK_EQ(pipe2(in, O_CLOEXEC), 0);
	CHECK_EQ(pipe2(out, O_CLOEXEC), 0);
	feeder = feed(in[1], in[0]);
	(void)close(in[1]);
	reader = swallow(out[0], out[1]);
	(void)close(out[0]);
	session_start(&s, play_echo);
	s.relay.in_fd = in[0];
	s.relay.out.fd = out[1];
	s.relay.want_end = true;
	CHECK_OK(relay_run(&s.relay, &s.e), &s.e);
	CHECK_EQ(s.relay.ended, RELAY_EXIT);
	CHECK_EQ(s.relay.exit.value, 3);
	CHECK_STR(s.relay.end_json, "{\"a\":1}");
	CHECK_EQ(s.relay.out.bytes, TOTAL_BYTES);
	CHECK_EQ(fcntl(out[1], F_GETFL) & O_NONBLOCK, 0);
	session_end(&s);
	(void)close(out[1]);
	CHECK_EQ(waitpid(feeder, &status, 0), feeder);
	CHECK_EQ(status, 0);
	CHECK_EQ(waitpid(reader, &status, 0), reader);
	CHECK_EQ(status, 0);
	(void)close(in[0]);
}

TEST(capture_keeps_what_fits_and_says_so)
{
	struct session s;
	char kept[100];
	struct buf b;
	int in[2];

	buf_init(&b, kept, sizeof(kept));
	CHECK_EQ(pipe2(in, O_CLOEXEC), 0);
	for (int i = 0; i < 30; i++)
		CHECK_EQ(write(in[1], "0123456789", 10), 10);
	(void)close(in[1]);
	session_start(&s, play_echo);
	s.relay.in_fd = in[0];
	s.relay.out.capture = &b;
	CHECK_OK(relay_run(&s.relay, &s.e), &s.e);
	CHECK_EQ(b.len, 100);
	CHECK_EQ(s.relay.out.bytes, 300);
	CHECK(s.relay.out.truncated);
	session_end(&s);
	(void)close(in[0]);
}

TEST(a_reader_that_leaves_is_told_as_sigpipe)
{
	struct session s;
	int out[2];

	CHECK_EQ(pipe2(out, O_CLOEXEC), 0);
	(void)close(out[0]); /* now, or the child had a reader's end */
	session_start(&s, play_yes);
	s.relay.out.fd = out[1];
	CHECK_OK(relay_run(&s.relay, &s.e), &s.e);
	CHECK_EQ(s.relay.ended, RELAY_EXIT);
	CHECK(s.relay.out.broken);
	session_end(&s);
	(void)close(out[1]);
}

TEST(a_program_that_writes_on_is_killed)
{
	struct session s;
	int out[2];

	CHECK_EQ(pipe2(out, O_CLOEXEC), 0);
	(void)close(out[0]); /* now, or the child had a reader's end */
	session_start(&s, play_stubborn);
	s.relay.out.fd = out[1];
	CHECK_OK(relay_run(&s.relay, &s.e), &s.e);
	CHECK_EQ(s.relay.ended, RELAY_EXIT);
	session_end(&s);
	(void)close(out[1]);
}

TEST(more_than_the_window_is_refused)
{
	struct session s;
	int out[2];

	CHECK_EQ(pipe2(out, O_CLOEXEC), 0); /* nobody reads: the window fills */
	session_start(&s, play_flood);
	s.relay.out.fd = out[1];
	CHECK_EQ(relay_run(&s.relay, &s.e), -EPROTO);
	(void)kill(s.child, SIGKILL);
	(void)waitpid(s.child, NULL, 0);
	relay_fini(&s.relay);
	client_free(s.client);
	(void)close(out[0]);
	(void)close(out[1]);
}

TEST(another_version_is_refused_by_number)
{
	struct session s;
	char words[32];

	session_start(&s, play_older);
	CHECK_EQ(relay_run(&s.relay, &s.e), -EPROTO);
	(void)snprintf(words, sizeof(words), "protocol %d", WIRE_VERSION + 1);
	CHECK(strstr(s.e.text, words));
	session_end(&s);
}

TEST(last_words_are_written_before_the_loss_is_told)
{
	struct session s;
	char kept[100];
	struct buf b;

	buf_init(&b, kept, sizeof(kept));
	session_start(&s, play_vanish);
	s.relay.out.capture = &b;
	s.relay.want_end = true;
	CHECK_EQ(relay_run(&s.relay, &s.e), -ENODATA);
	CHECK_SPAN(buf_span(&b), "last words");
	session_end(&s);
}

TEST(a_command_that_cannot_start_says_where)
{
	struct session s;

	session_start(&s, play_not_found);
	s.relay.want_end = true;
	CHECK_OK(relay_run(&s.relay, &s.e), &s.e);
	CHECK_EQ(s.relay.ended, RELAY_FAILED);
	CHECK_EQ(s.relay.fail.code, ENOENT);
	CHECK_STR(s.relay.fail_text, "nosuch");
	CHECK(s.relay.end_json);
	session_end(&s);
}

TEST(detach_keys_leave_and_pass_other_keys)
{
	struct session s;
	char kept[100];
	struct buf b;
	int in[2];

	buf_init(&b, kept, sizeof(kept));
	CHECK_EQ(pipe2(in, O_CLOEXEC), 0);
	CHECK_EQ(write(in[1], "a\x10z\x10\x10y\x10\x11never", 14), 14);
	session_start(&s, play_echo);
	s.relay.in_fd = in[0];
	s.relay.out.capture = &b;
	s.relay.detach_keys = true;
	CHECK_OK(relay_run(&s.relay, &s.e), &s.e);
	CHECK_EQ(s.relay.ended, RELAY_DETACHED);
	CHECK_SPAN(span_of(s.client->out.at + s.client->out.len - 6, 6), "a\x10z\x10\x10y");
	relay_fini(&s.relay);
	client_free(s.client);
	(void)waitpid(s.child, NULL, 0);
	(void)close(in[0]);
	(void)close(in[1]);
}

static void say_something(void *ctx)
{
	relay_signal(ctx, SIGCONT);
}

TEST(the_end_of_a_program_is_told_before_that_of_its_sandbox)
{
	static const struct relay_ops ops = { .on_ended = say_something };
	struct err e = { 0 };
	struct session s;

	session_start(&s, play_cut);
	s.relay.ops = &ops;
	s.relay.ctx = &s.relay;
	CHECK_OK(relay_run(&s.relay, &e), &e);
	CHECK_EQ(s.relay.ended, RELAY_RESET);
	CHECK_STR(s.relay.end_json, "{}");
	session_end(&s);
}

TEST(who_waits_for_the_end_himself_is_let_go_when_it_is_cut_off)
{
	struct err e = { 0 };
	struct session s;

	session_start(&s, play_cut);
	s.relay.cut_is_end = true;
	CHECK_OK(relay_run(&s.relay, &e), &e);
	CHECK_EQ(s.relay.ended, RELAY_RESET);
	CHECK_EQ(s.relay.reset_errno, ESHUTDOWN);
	CHECK(s.relay.end_json == NULL);
	session_end(&s);
}

TEST_MAIN()
