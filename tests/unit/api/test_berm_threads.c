/*
 * libberm from many threads at once. The thread sanitizer's build of this is where it counts.
 */
#include "api_test.h"

#include <errno.h>
#include <pthread.h>

enum { THREADS = 8, ROUNDS = 6 };

struct crew {
	struct berm *b;
	struct berm_config *c;
	struct berm_sandbox *sb;
	struct berm_process *p;
	bool stop;
};

static void run(struct crew *crew, void *(*work)(void *arg))
{
	pthread_t t[THREADS];

	for (int i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, work, crew), 0);
	for (int i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(t[i], NULL), 0);
}

static void *live_and_die(void *arg)
{
	const struct crew *crew = arg;
	struct berm_err err = { 0 };

	for (int i = 0; i < ROUNDS; i++) {
		struct berm_result res = { .size = sizeof(res) };
		struct berm_sandbox *sb;
		struct berm_process *p;

		OK(berm_start(crew->b, crew->c, &sb, &err));
		p = exec(sb, echo, BERM_STREAM_NULL, BERM_STREAM_PIPE);
		expect_text(p, "hello world\n");
		expect_exit(p, 0);
		OK(berm_stop(sb, 0, LONG_MS, &err));
		OK(berm_wait_ended(sb, LONG_MS, &res, &err));
		CHECK_EQ(res.reason, BERM_REASON_STOPPED);
		berm_sandbox_free(sb);
	}
	return NULL;
}

/* One config, many sandboxes: each thread has its own. */
TEST(eight_threads_with_their_own_sandboxes)
{
	struct crew crew = { .c = config() };

	fake_install();
	crew.b = fake_berm();
	run(&crew, live_and_die);
	berm_config_free(crew.c);
	berm_free(crew.b);
	gone();
}

static void *use_shared(void *arg)
{
	static const char *const yes[] = { "yes", "400000", NULL };
	const struct crew *crew = arg;
	struct berm_err err = { 0 };
	uint8_t data[4096];

	for (int i = 0; i < ROUNDS; i++) {
		struct berm_process *p =
			exec(crew->sb, i % 2 ? yes : echo, BERM_STREAM_NULL, BERM_STREAM_PIPE);
		struct berm_stats st = { .size = sizeof(st) };
		uint64_t got = 0;
		ssize_t n;

		if (i == 2)
			OK(berm_get_stats(crew->sb, LONG_MS, &st, &err));
		while ((n = berm_read(p, BERM_STDOUT, data, sizeof(data), LONG_MS, &err)) > 0) {
			CHECK_EQ(data[0], i % 2 ? fake_pattern(got) : data[0]);
			got += (uint64_t)n;
		}
		CHECK_EQ(got, i % 2 ? 400000 : strlen("hello world\n"));
		expect_exit(p, 0);
		berm_process_free(p);
	}
	return NULL;
}

static void *take_events(void *arg)
{
	struct crew *crew = arg;
	struct berm_event ev = { .size = sizeof(ev) };
	struct berm_err err = { 0 };
	struct pollfd p = { .fd = berm_event_fd(crew->sb, &err), .events = POLLIN };

	while (!__atomic_load_n(&crew->stop, __ATOMIC_ACQUIRE)) {
		OK(berm_next_event(crew->sb, &ev, &err));
		(void)poll(&p, 1, 10);
	}
	return NULL;
}

TEST(eight_threads_in_one_sandbox)
{
	struct crew crew = { .c = config() };

	fake_install();
	crew.b = fake_berm();
	crew.sb = idle(crew.b);
	run(&crew, use_shared);
	berm_sandbox_free(crew.sb);
	berm_config_free(crew.c);
	berm_free(crew.b);
	gone();
}

/* Somebody takes events while others wait: neither takes the other's. */
TEST(eight_threads_and_one_with_events)
{
	struct crew crew = { .c = config() };
	pthread_t t;

	fake_install();
	crew.b = fake_berm();
	crew.sb = idle(crew.b);
	CHECK_EQ(pthread_create(&t, NULL, take_events, &crew), 0);
	run(&crew, use_shared);
	__atomic_store_n(&crew.stop, true, __ATOMIC_RELEASE);
	CHECK_EQ(pthread_join(t, NULL), 0);
	berm_sandbox_free(crew.sb);
	berm_config_free(crew.c);
	berm_free(crew.b);
	gone();
}

static void *wait_for_both(void *arg)
{
	const struct crew *crew = arg;
	struct berm_exit ex = { .size = sizeof(ex) };
	struct berm_err err = { 0 };

	OK(berm_wait(crew->p, LONG_MS, &ex, &err));
	CHECK_EQ(ex.signal, 15);
	OK(berm_wait_ended(crew->sb, LONG_MS, NULL, &err));
	return NULL;
}

static void *end_it(void *arg)
{
	const struct crew *crew = arg;
	struct berm_err err = { 0 };

	(void)poll(NULL, 0, 50); /* as a rule all wait by now, and if not it is as well */
	OK(berm_signal(crew->p, 15, &err));
	(void)poll(NULL, 0, 20);
	OK(berm_stop(crew->sb, 0, LONG_MS, &err));
	return NULL;
}

TEST(eight_threads_wait_for_one_end)
{
	struct crew crew = { .c = config() };
	pthread_t t;

	fake_install();
	crew.b = fake_berm();
	crew.sb = idle(crew.b);
	crew.p = exec(crew.sb, hang, BERM_STREAM_NULL, BERM_STREAM_NULL);
	CHECK_EQ(pthread_create(&t, NULL, end_it, &crew), 0);
	run(&crew, wait_for_both);
	CHECK_EQ(pthread_join(t, NULL), 0);
	berm_sandbox_free(crew.sb);
	berm_config_free(crew.c);
	berm_free(crew.b);
	CHECK_EQ(fake_left(), 0);
}

/* The one who leads the waiting gives up first: somebody else has to lead. */
static void *give_up(void *arg)
{
	const struct crew *crew = arg;
	struct berm_err err = { 0 };

	for (int i = 0; i < 10; i++)
		CHECK_EQ(berm_wait(crew->p, 5, NULL, &err), -ETIMEDOUT);
	return NULL;
}

static void *wait_long(void *arg)
{
	const struct crew *crew = arg;

	expect_text(exec(crew->sb, echo, BERM_STREAM_NULL, BERM_STREAM_PIPE), "hello world\n");
	for (int i = 0; i < 20; i++)
		expect_exit(exec(crew->sb, echo, BERM_STREAM_NULL, BERM_STREAM_NULL), 0);
	return NULL;
}

TEST(who_leads_may_leave)
{
	struct crew crew = { .c = config() };
	pthread_t t;

	fake_install();
	crew.b = fake_berm();
	crew.sb = idle(crew.b);
	crew.p = exec(crew.sb, hang, BERM_STREAM_NULL, BERM_STREAM_NULL);
	CHECK_EQ(pthread_create(&t, NULL, wait_long, &crew), 0);
	run(&crew, give_up);
	CHECK_EQ(pthread_join(t, NULL), 0);
	berm_sandbox_free(crew.sb);
	berm_config_free(crew.c);
	berm_free(crew.b);
	gone();
}

enum { COPY_BYTES = 1 << 20 };

static void *write_side(void *arg)
{
	const struct crew *crew = arg;
	struct berm_err err = { 0 };
	uint8_t part[10000];

	for (uint64_t at = 0; at < COPY_BYTES;) {
		size_t n =
			COPY_BYTES - at < sizeof(part) ? (size_t)(COPY_BYTES - at) : sizeof(part);

		for (size_t i = 0; i < n; i++)
			part[i] = fake_pattern(at + i);
		CHECK_EQ(berm_write(crew->p, part, n, LONG_MS, &err), n);
		at += n;
	}
	OK(berm_close_stdin(crew->p, &err));
	return NULL;
}

TEST(one_writes_and_one_reads)
{
	struct crew crew = { .c = config() };
	struct berm_err err = { 0 };
	uint8_t part[5000];
	uint64_t got = 0;
	pthread_t t;
	ssize_t n;

	fake_install();
	crew.b = fake_berm();
	crew.sb = idle(crew.b);
	crew.p = exec(crew.sb, cat, BERM_STREAM_PIPE, BERM_STREAM_PIPE);
	CHECK_EQ(pthread_create(&t, NULL, write_side, &crew), 0);
	while ((n = berm_read(crew.p, BERM_STDOUT, part, sizeof(part), LONG_MS, &err)) > 0) {
		for (ssize_t i = 0; i < n; i++)
			CHECK_EQ(part[i], fake_pattern(got + (uint64_t)i));
		got += (uint64_t)n;
	}
	OK(n);
	CHECK_EQ(got, COPY_BYTES);
	CHECK_EQ(pthread_join(t, NULL), 0);
	berm_sandbox_free(crew.sb);
	berm_config_free(crew.c);
	berm_free(crew.b);
	gone();
}

API_TEST_MAIN()
