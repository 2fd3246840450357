#include "failalloc.h"
#include "test.h"
#include "vmm/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

struct fixture {
	struct loop *loop;
	int fds[4]; /* eventfds */
	unsigned ids[4];
	unsigned called[4];
	unsigned turns_left;
	pthread_t thread;
};

struct one {
	struct fixture *f;
	unsigned index;
};

static void setup(struct fixture *f)
{
	struct err e = { 0 };

	memset(f, 0, sizeof(*f));
	CHECK_OK(loop_new(&f->loop, &e), &e);
	for (size_t i = 0; i < 4; i++) {
		f->fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		CHECK(f->fds[i] >= 0);
	}
}

static void teardown(struct fixture *f)
{
	loop_free(f->loop);
	for (size_t i = 0; i < 4; i++)
		CHECK_EQ(close(f->fds[i]), 0);
}

static void ring(int fd)
{
	uint64_t one = 1;

	CHECK_EQ(write(fd, &one, sizeof(one)), (long)sizeof(one));
}

static void count_and_stop(void *arg, uint32_t events)
{
	struct one *o = arg;

	CHECK_EQ(events, EPOLLIN);
	o->f->called[o->index]++;
	if (o->f->turns_left-- <= 1)
		loop_stop(o->f->loop);
}

TEST(a_watch_is_called_while_its_fd_is_ready)
{
	struct fixture f;
	struct one o = { &f, 0 };
	struct err e = { 0 };

	setup(&f);
	f.turns_left = 3;
	CHECK_OK(loop_watch(f.loop, f.fds[0], EPOLLIN, count_and_stop, &o, &f.ids[0], &e), &e);
	CHECK(f.ids[0] != 0);
	ring(f.fds[0]);
	CHECK_OK(loop_run(f.loop, &e), &e);
	CHECK_EQ(f.called[0], 3);
	CHECK_OK(loop_run(f.loop, &e), &e); /* stopped stays stopped */
	CHECK_EQ(f.called[0], 3);
	teardown(&f);
}

/* Whoever is first drops all others, whose events are already with us. */
static void drop_the_others(void *arg, uint32_t events)
{
	struct one *o = arg;

	(void)events;
	o->f->called[o->index]++;
	for (unsigned i = 0; i < 4; i++)
		if (i != o->index)
			loop_drop(o->f->loop, o->f->ids[i]);
	loop_drop(o->f->loop, o->f->ids[o->index]);
	ring(o->f->fds[0]);
	loop_stop(o->f->loop);
}

TEST(a_dropped_watch_is_not_called_in_the_same_turn)
{
	struct fixture f;
	struct one o[4];
	struct err e = { 0 };
	unsigned calls = 0;

	setup(&f);
	for (unsigned i = 0; i < 4; i++) {
		o[i] = (struct one){ &f, i };
		CHECK_OK(loop_watch(f.loop, f.fds[i], EPOLLIN, drop_the_others, &o[i], &f.ids[i],
		                    &e),
		         &e);
		ring(f.fds[i]);
	}
	CHECK_OK(loop_run(f.loop, &e), &e);
	for (unsigned i = 0; i < 4; i++)
		calls += f.called[i];
	CHECK_EQ(calls, 1);
	teardown(&f);
}

static void never(void *arg, uint32_t events)
{
	(void)arg;
	test_fail(__FILE__, __LINE__, "called with %x", events);
}

static void finish(void *arg, uint32_t events)
{
	(void)events;
	loop_stop(((struct one *)arg)->f->loop);
}

/* Drops the others and takes their places and fds at once, wanting what is not the case. */
static void replace_the_others(void *arg, uint32_t events)
{
	struct one *o = arg;
	struct fixture *f = o->f;
	struct err e = { 0 };

	(void)events;
	f->called[o->index]++;
	for (unsigned i = 0; i < 4; i++) {
		unsigned old = f->ids[i];
		uint64_t n;

		if (i == o->index)
			continue;
		loop_drop(f->loop, old);
		CHECK_EQ(read(f->fds[i], &n, sizeof(n)), (long)sizeof(n));
		CHECK_OK(loop_watch(f->loop, f->fds[i], EPOLLIN, never, NULL, &f->ids[i], &e), &e);
		CHECK(f->ids[i] != old);
	}
	loop_drop(f->loop, f->ids[o->index]);
	CHECK_OK(loop_watch(f->loop, f->fds[o->index], EPOLLIN, finish, o, &f->ids[o->index], &e),
	         &e);
}

TEST(a_new_watch_does_not_inherit_an_event)
{
	struct fixture f;
	struct one o[4];
	struct err e = { 0 };
	unsigned calls = 0;

	setup(&f);
	for (unsigned i = 0; i < 4; i++) {
		o[i] = (struct one){ &f, i };
		CHECK_OK(loop_watch(f.loop, f.fds[i], EPOLLIN, replace_the_others, &o[i], &f.ids[i],
		                    &e),
		         &e);
		ring(f.fds[i]);
	}
	CHECK_OK(loop_run(f.loop, &e), &e);
	for (unsigned i = 0; i < 4; i++)
		calls += f.called[i];
	CHECK_EQ(calls, 1);
	teardown(&f);
}

static void set_the_others_to_nothing(void *arg, uint32_t events)
{
	struct one *o = arg;

	(void)events;
	o->f->called[o->index]++;
	for (unsigned i = 0; i < 4; i++)
		if (i != o->index)
			loop_set(o->f->loop, o->f->ids[i], 0);
	if (o->f->turns_left-- <= 1)
		loop_stop(o->f->loop);
}

TEST(a_watch_set_to_nothing_is_quiet_and_comes_back)
{
	struct fixture f;
	struct one o[4];
	struct err e = { 0 };
	unsigned calls = 0;

	setup(&f);
	f.turns_left = 3;
	for (unsigned i = 0; i < 4; i++) {
		o[i] = (struct one){ &f, i };
		CHECK_OK(loop_watch(f.loop, f.fds[i], 0, set_the_others_to_nothing, &o[i],
		                    &f.ids[i], &e),
		         &e);
		ring(f.fds[i]);
	}
	for (unsigned i = 0; i < 4; i++)
		loop_set(f.loop, f.ids[i], EPOLLIN);
	CHECK_OK(loop_run(f.loop, &e), &e);
	for (unsigned i = 0; i < 4; i++) {
		CHECK(f.called[i] == 0 || f.called[i] == 3);
		calls += f.called[i];
	}
	CHECK_EQ(calls, 3);
	teardown(&f);
}

static void hung_up(void *arg, uint32_t events)
{
	struct one *o = arg;

	CHECK(events & EPOLLHUP);
	o->f->called[o->index]++;
	loop_set(o->f->loop, o->f->ids[o->index], 0);
	ring(o->f->fds[1]);
}

/* epoll tells of a hang-up unasked: it must not turn the loop into a busy one. */
TEST(a_hang_up_of_a_sleeping_watch_is_quiet)
{
	struct fixture f;
	struct one o = { &f, 0 };
	struct one o1 = { &f, 1 };
	struct err e = { 0 };
	int pair[2];
	unsigned asleep;

	setup(&f);
	f.turns_left = 50;
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	CHECK_OK(loop_watch(f.loop, pair[0], EPOLLIN, hung_up, &o, &f.ids[0], &e), &e);
	CHECK_OK(loop_watch(f.loop, f.fds[1], EPOLLIN, count_and_stop, &o1, &f.ids[1], &e), &e);
	CHECK_EQ(close(pair[1]), 0);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, &f.fds[2]), 0);
	CHECK_OK(loop_watch(f.loop, f.fds[2], 0, never, NULL, &asleep, &e), &e);
	CHECK_EQ(close(f.fds[3]), 0);
	CHECK_OK(loop_run(f.loop, &e), &e);
	CHECK_EQ(f.called[0], 1);
	CHECK_EQ(f.called[1], 50);
	loop_drop(f.loop, asleep);
	loop_drop(f.loop, f.ids[0]);
	CHECK_EQ(close(pair[0]), 0);
	f.fds[3] = dup(f.fds[2]);
	teardown(&f);
}

TEST(the_table_is_bounded_and_what_cannot_be_watched_is_refused)
{
	struct fixture f;
	struct err e = { 0 };
	unsigned ids[LOOP_WATCHES_MAX];
	int fds[LOOP_WATCHES_MAX];
	unsigned id = 0xa5;
	int plain = memfd_create("plain", MFD_CLOEXEC);

	setup(&f);
	CHECK(plain >= 0);
	CHECK_EQ(loop_watch(f.loop, plain, EPOLLIN, never, NULL, &id, &e), -EPERM);
	CHECK_EQ(loop_watch(f.loop, -1, EPOLLIN, never, NULL, &id, &e), -EBADF);
	for (size_t i = 0; i < LOOP_WATCHES_MAX; i++) {
		fds[i] = eventfd(0, EFD_CLOEXEC);
		CHECK_OK(loop_watch(f.loop, fds[i], EPOLLIN, never, NULL, &ids[i], &e), &e);
		for (size_t k = 0; k < i; k++)
			CHECK(ids[k] != ids[i]);
	}
	CHECK_EQ(loop_watch(f.loop, f.fds[0], EPOLLIN, never, NULL, &id, &e), -ENOSPC);
	CHECK_EQ(id, 0xa5);
	loop_drop(f.loop, ids[7]);
	CHECK_EQ(loop_watch(f.loop, fds[8], EPOLLIN, never, NULL, &id, &e), -EEXIST);
	CHECK_OK(loop_watch(f.loop, f.fds[0], EPOLLIN, never, NULL, &id, &e), &e);
	for (size_t i = 0; i < LOOP_WATCHES_MAX; i++)
		CHECK_EQ(close(fds[i]), 0);
	CHECK_EQ(close(plain), 0);
	teardown(&f);
}

enum { CALLERS = 8, CALLS_EACH = 2000 };

struct sum {
	struct fixture *f;
	unsigned long total; /* no atomic: only the loop's thread touches it */
	pthread_t loop_thread;
	unsigned long nested;
	atomic_bool over;
};

static void *run_thread(void *arg)
{
	struct sum *s = arg;
	struct err e = { 0 };

	s->loop_thread = pthread_self();
	CHECK_OK(loop_run(s->f->loop, &e), &e);
	return NULL;
}

static void add_nested(void *arg)
{
	((struct sum *)arg)->nested++;
}

static void add(void *arg)
{
	struct sum *s = arg;

	CHECK(pthread_equal(pthread_self(), s->loop_thread));
	s->total++;
	loop_call(s->f->loop, add_nested, s);
}

static void *call_often(void *arg)
{
	struct sum *s = arg;

	for (unsigned i = 0; i < CALLS_EACH; i++)
		loop_call(s->f->loop, add, s);
	return NULL;
}

static void start_threads(struct sum *s, pthread_t *ret_callers, void *(*caller)(void *arg))
{
	/* callers first: they wait for the loop to run */
	for (size_t i = 0; i < CALLERS; i++)
		CHECK_EQ(pthread_create(&ret_callers[i], NULL, caller, s), 0);
	CHECK_EQ(pthread_create(&s->f->thread, NULL, run_thread, s), 0);
}

static void join_all(pthread_t *callers)
{
	for (size_t i = 0; i < CALLERS; i++)
		CHECK_EQ(pthread_join(callers[i], NULL), 0);
}

TEST(calls_of_many_threads_all_run_on_the_loop)
{
	struct fixture f;
	struct sum s = { .f = &f };
	pthread_t callers[CALLERS];

	setup(&f);
	start_threads(&s, callers, call_often);
	join_all(callers);
	loop_stop(f.loop);
	CHECK_EQ(pthread_join(f.thread, NULL), 0);
	CHECK_EQ(s.total, CALLERS * CALLS_EACH);
	CHECK_EQ(s.nested, CALLERS * CALLS_EACH);
	teardown(&f);
}

static void *call_until_over(void *arg)
{
	struct sum *s = arg;

	while (!atomic_load(&s->over))
		loop_call(s->f->loop, add, s);
	return NULL;
}

static void poke(void *arg, uint32_t events)
{
	struct one *o = arg;
	uint64_t n;

	(void)events;
	CHECK_EQ(read(o->f->fds[0], &n, sizeof(n)), (long)sizeof(n));
	if (++o->f->called[0] == 200)
		loop_stop(o->f->loop);
	ring(o->f->fds[0]);
}

/* Also: a flood of calls does not keep fds from their turn. */
TEST(a_stop_lets_all_callers_go)
{
	struct fixture f;
	struct sum s = { .f = &f };
	struct one o = { &f, 0 };
	struct err e = { 0 };
	pthread_t callers[CALLERS];
	unsigned long total;

	setup(&f);
	CHECK_OK(loop_watch(f.loop, f.fds[0], EPOLLIN, poke, &o, &f.ids[0], &e), &e);
	ring(f.fds[0]);
	start_threads(&s, callers, call_until_over);
	CHECK_EQ(pthread_join(f.thread, NULL), 0);
	CHECK_EQ(f.called[0], 200);
	total = s.total; /* whoever calls now is not heard */
	loop_call(f.loop, add, &s);
	atomic_store(&s.over, true);
	join_all(callers);
	CHECK_EQ(s.total, total);
	teardown(&f);
}

static void *call_once(void *arg)
{
	struct sum *s = arg;

	ring(s->f->fds[1]);
	loop_call(s->f->loop, add, s);
	return NULL;
}

TEST(a_stop_before_the_start_lets_callers_go)
{
	struct fixture f;
	struct sum s = { .f = &f };
	struct err e = { 0 };
	pthread_t caller;
	uint64_t n;

	setup(&f);
	CHECK_EQ(pthread_create(&caller, NULL, call_once, &s), 0);
	while (read(f.fds[1], &n, sizeof(n)) < 0)
		CHECK_EQ(errno, EAGAIN);
	loop_stop(f.loop);
	CHECK_EQ(pthread_join(caller, NULL), 0);
	CHECK_EQ(s.total, 0);
	CHECK_OK(loop_run(f.loop, &e), &e);
	teardown(&f);
}

TEST(before_the_start_its_maker_calls_plainly)
{
	struct fixture f;
	struct sum s = { .f = &f, .loop_thread = pthread_self() };

	setup(&f);
	loop_call(f.loop, add, &s);
	CHECK_EQ(s.total, 1);
	CHECK_EQ(s.nested, 1);
	teardown(&f);
}

TEST(no_memory_is_an_error)
{
	FAILALLOC_EACH()
	{
		struct loop *l = NULL;
		struct err e = { 0 };
		int r = loop_new(&l, &e);

		if (failalloc_hit()) {
			CHECK_EQ(r, -ENOMEM);
			CHECK(!l);
		} else {
			CHECK_OK(r, &e);
			loop_free(l);
		}
	}
}

TEST_MAIN()
