/*
 * libberm in a program with an event loop: events, and that nothing waits that was not told to.
 */
#include "api_test.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

/* Far more than a call that does not wait needs on a busy machine, far less than any timeout. */
enum { AT_ONCE_MS = 5000 };

/* The next event, waited for as a loop does; kind 0 when there is none within the time. */
static struct berm_event next(struct berm_sandbox *sb, int timeout_ms)
{
	struct berm_event ev = { .size = sizeof(ev) };
	struct berm_err err = { 0 };
	struct pollfd p = { .fd = berm_event_fd(sb, &err), .events = POLLIN };

	OK(p.fd);
	for (uint64_t end = clock_mono_ms() + (uint64_t)timeout_ms;;) {
		uint64_t now = clock_mono_ms();
		int r = berm_next_event(sb, &ev, &err);

		OK(r);
		if (r == 1)
			return ev;
		if (now >= end || poll(&p, 1, (int)(end - now)) == 0)
			return (struct berm_event){ .size = sizeof(ev) };
	}
}

static struct berm_event expect(struct berm_sandbox *sb, int kind)
{
	struct berm_event ev = next(sb, LONG_MS);

	CHECK_EQ(ev.kind, kind);
	CHECK_EQ(ev.size, sizeof(ev));
	return ev;
}

static void read_all(struct berm_process *p, int stream)
{
	struct berm_err err = { 0 };
	char text[4096];
	ssize_t n;

	while ((n = berm_read(p, stream, text, sizeof(text), 0, &err)) > 0)
		continue;
	CHECK(n == 0 || n == -EAGAIN);
}

TEST(events_of_a_main_command_in_order)
{
	int mark = 0;
	struct berm_command cmd = command(echo, BERM_STREAM_NULL, BERM_STREAM_PIPE);
	struct berm_config *c = config();
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;
	struct berm_event ev;
	struct berm *b;

	b = begin();
	cmd.data = &mark;
	OK(berm_config_set_command(c, &cmd, &err));
	OK(berm_start(b, c, &sb, &err));
	expect(sb, BERM_EVENT_STARTED);
	ev = expect(sb, BERM_EVENT_OUTPUT);
	CHECK(ev.process == berm_main(sb) && ev.data == &mark);
	CHECK_EQ(ev.stream, BERM_STDOUT);
	OK(berm_wait(berm_main(sb), LONG_MS, NULL, &err)); /* takes nothing from the events */
	expect_text(berm_main(sb), "hello world\n");
	ev = expect(sb, BERM_EVENT_EXIT);
	CHECK(ev.process == berm_main(sb) && ev.data == &mark);
	expect(sb, BERM_EVENT_ENDED);
	CHECK_EQ(next(sb, 50).kind, 0);
	berm_sandbox_free(sb);
	berm_config_free(c);
	berm_free(b);
}

TEST(output_is_told_again_when_there_is_more)
{
	static const char *const yes[] = { "yes", "10", NULL };
	struct berm_err err = { 0 };
	struct berm_process *p;
	struct berm_sandbox *sb;
	char text[8];
	struct berm *b;

	b = begin();
	sb = idle(b);
	expect(sb, BERM_EVENT_STARTED);
	p = exec(sb, yes, BERM_STREAM_NULL, BERM_STREAM_PIPE);
	expect(sb, BERM_EVENT_OUTPUT);
	expect(sb, BERM_EVENT_EXIT); /* not read, and not told twice */
	CHECK_EQ(next(sb, 20).kind, 0);
	CHECK_EQ(berm_read(p, BERM_STDOUT, text, 8, 0, &err), 8);
	expect(sb, BERM_EVENT_OUTPUT); /* two are left */
	CHECK_EQ(berm_read(p, BERM_STDOUT, text, 8, 0, &err), 2);
	expect(sb, BERM_EVENT_OUTPUT); /* the end */
	CHECK_EQ(berm_read(p, BERM_STDOUT, text, 8, 0, &err), 0);
	CHECK_EQ(next(sb, 20).kind, 0);
	finish(b, sb);
}

TEST(input_is_told_when_there_is_room)
{
	enum { BYTES = 1 << 20 };
	uint8_t *data = calloc(1, BYTES);
	struct berm_err err = { 0 };
	struct berm_process *p;
	struct berm_sandbox *sb;
	unsigned told = 0;
	size_t in = 0;
	struct berm *b;

	b = begin();
	sb = idle(b);
	expect(sb, BERM_EVENT_STARTED);
	p = exec(sb, cat, BERM_STREAM_PIPE, BERM_STREAM_PIPE);
	/* what is not read comes to stand in the way of what is written, which is refused then */
	while (in < BYTES) {
		ssize_t n = berm_write(p, data + in, BYTES - in, 0, &err);
		struct berm_event ev = { 0 };

		in += n > 0 ? (size_t)n : 0;
		CHECK(n > 0 || n == -EAGAIN);
		for (; n < 0 && ev.kind != BERM_EVENT_INPUT; told += ev.kind == BERM_EVENT_INPUT) {
			ev = next(sb, LONG_MS);
			if (ev.kind == BERM_EVENT_OUTPUT)
				read_all(p, ev.stream);
		}
	}
	CHECK(told > 0);
	CHECK_EQ(in, BYTES);
	berm_process_free(p);
	CHECK_EQ(next(sb, 20).kind, 0); /* whoever is freed is not heard of */
	berm_sandbox_free(sb);
	berm_free(b);
	free(data);
	gone();
}

TEST(a_slow_start_makes_nobody_wait)
{
	struct berm_config *c = config();
	struct berm_stats st = { .size = sizeof(st) };
	struct berm_err err = { 0 };
	struct berm_process *p;
	struct berm_sandbox *sb;
	struct berm_event ev;
	uint64_t began;
	struct berm *b;

	b = begin();
	OK(berm_config_set_name(c, "slow-start", &err));
	began = clock_mono_ms();
	OK(berm_start(b, c, &sb, &err));
	p = exec(sb, echo, BERM_STREAM_PIPE, BERM_STREAM_PIPE);
	BAD(-ETIMEDOUT, "not running yet", berm_wait_started(sb, 0, &err));
	BAD(-ETIMEDOUT, "not ended yet", berm_wait_ended(sb, 0, NULL, &err));
	BAD(-ETIMEDOUT, "not ended yet", berm_wait(p, 0, NULL, &err));
	BAD(-EAGAIN, "nothing to read", berm_read(p, BERM_STDOUT, &st, 1, 0, &err));
	BAD(-EAGAIN, "no input yet", berm_write(p, "x", 1, 0, &err));
	OK(berm_close_stdin(p, &err));
	CHECK_EQ(berm_stop(sb, FAKE_SLOW_GRACE_MS, 0, &err), -ETIMEDOUT); /* its sign to start */
	CHECK(clock_mono_ms() - began < AT_ONCE_MS);
	ev = next(sb, LONG_MS);
	if (ev.kind == BERM_EVENT_PROGRESS) { /* unless it had started by now */
		CHECK_STR(ev.text, "looking for it");
		ev = next(sb, LONG_MS);
	}
	CHECK_EQ(ev.kind, BERM_EVENT_STARTED);
	expect_text(p, "hello world\n"); /* it was asked for before */
	berm_sandbox_free(sb);
	berm_config_free(c);
	berm_free(b);
	gone();
}

TEST(progress_is_told_with_its_text)
{
	struct berm_config *c = config();
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;
	struct berm *b;

	b = begin();
	OK(berm_config_set_name(c, "slow-start", &err));
	OK(berm_start(b, c, &sb, &err));
	CHECK_STR(expect(sb, BERM_EVENT_PROGRESS).text, "looking for it");
	CHECK_EQ(next(sb, 20).kind, 0);
	berm_sandbox_free(sb);
	berm_config_free(c);
	berm_free(b);
	gone();
}

/* More connections than the supervisor's backlog holds: none fails, none waits here. */
TEST(thirty_commands_at_once)
{
	enum { COUNT = 30 };
	struct berm_process *p[COUNT];
	struct berm_config *c = config();
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;
	struct berm *b;

	b = begin();
	for (int early = 0; early < 2; early++) {
		uint64_t began;

		OK(berm_start(b, c, &sb, &err));
		if (!early)
			OK(berm_wait_started(sb, LONG_MS, &err));
		began = clock_mono_ms();
		for (int i = 0; i < COUNT; i++)
			p[i] = exec(sb, echo, BERM_STREAM_NULL, BERM_STREAM_PIPE);
		CHECK(clock_mono_ms() - began < AT_ONCE_MS);
		for (int i = COUNT - 1; i >= 0; i--) {
			expect_text(p[i], "hello world\n");
			expect_exit(p[i], 0);
		}
		berm_sandbox_free(sb);
	}
	berm_config_free(c);
	berm_free(b);
	gone();
}

/* What a backend does: many sandboxes, one thread, one epoll. */
TEST(twenty_sandboxes_in_one_loop)
{
	enum { COUNT = 20, BYTES = 300000 };
	static const char *const yes[] = { "yes", "300000", NULL };
	struct berm_command cmd = command(yes, BERM_STREAM_NULL, BERM_STREAM_PIPE);
	struct berm_sandbox *sb[COUNT];
	struct berm_config *c = config();
	struct berm_err err = { 0 };
	uint64_t got[COUNT] = { 0 };
	int ep = epoll_create1(EPOLL_CLOEXEC);
	uint8_t data[16384];
	int left = COUNT;
	struct berm *b;

	b = begin();
	OK(berm_config_set_command(c, &cmd, &err));
	for (int i = 0; i < COUNT; i++) {
		struct epoll_event ev = { .events = EPOLLIN, .data.u32 = (uint32_t)i };

		OK(berm_start(b, c, &sb[i], &err));
		CHECK_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, berm_event_fd(sb[i], &err), &ev), 0);
	}
	while (left > 0) {
		struct epoll_event ready[8];
		int n = epoll_wait(ep, ready, 8, LONG_MS);

		CHECK(n > 0);
		for (int k = 0; k < n; k++) {
			struct berm_event ev = { .size = sizeof(ev) };
			uint32_t i = ready[k].data.u32;
			ssize_t len;

			while (berm_next_event(sb[i], &ev, &err) == 1) {
				CHECK(ev.kind != BERM_EVENT_INPUT);
				left -= ev.kind == BERM_EVENT_ENDED;
				if (ev.kind != BERM_EVENT_OUTPUT)
					continue;
				while ((len = berm_read(ev.process, ev.stream, data, sizeof(data),
				                        0, &err)) > 0) {
					CHECK_EQ(data[0], fake_pattern(got[i]));
					got[i] += (uint64_t)len;
				}
			}
		}
	}
	for (int i = 0; i < COUNT; i++) {
		expect_exit(berm_main(sb[i]), 0);
		CHECK_EQ(got[i], BYTES);
		berm_sandbox_free(sb[i]);
	}
	berm_config_free(c);
	berm_free(b);
	(void)close(ep);
	gone();
}

/* Its event_fd comes to rest, whatever is still on its way at first. */
static void expect_rest(struct berm_sandbox *sb)
{
	struct berm_event ev = { .size = sizeof(ev) };
	struct berm_err err = { 0 };
	struct pollfd p = { .fd = berm_event_fd(sb, &err), .events = POLLIN };

	for (uint64_t end = clock_mono_ms() + LONG_MS; poll(&p, 1, 100) > 0;) {
		CHECK_EQ(berm_next_event(sb, &ev, &err), 0);
		CHECK(clock_mono_ms() < end);
	}
}

/* An fd that stays readable for nothing would make a loop spin. */
TEST(an_idle_sandbox_wakes_nobody)
{
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;
	struct pollfd p = { .events = POLLIN };
	struct berm *b;

	b = begin();
	sb = idle(b);
	p.fd = berm_event_fd(sb, &err);
	CHECK_EQ(poll(&p, 1, LONG_MS), 1); /* the event that happened before the fd was asked for */
	expect(sb, BERM_EVENT_STARTED);
	expect_rest(sb);
	(void)exec(sb, hang, BERM_STREAM_PIPE, BERM_STREAM_PIPE);
	expect_rest(sb);
	finish(b, sb);
}

API_TEST_MAIN()
