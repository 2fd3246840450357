/* What the kvm engine hears on its control socket; the other end is the test's. */
#include "base/clock.h"
#include "base/fdio.h"
#include "engine/engine.h"
#include "test.h"
#include "vmm/ctl.h"
#include "vmm/vm.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

struct talk {
	struct engine_vm vm;
	int theirs;
};

static void talk_open(struct talk *t)
{
	int fds[2];

	engine_vm_init(&t->vm);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	t->vm.ops = &engine_kvm;
	t->vm.control_fd = fds[0];
	t->theirs = fds[1];
}

static void talk_close(struct talk *t)
{
	engine_vm_close(&t->vm);
	own_close_fd(&t->theirs);
}

static void say(const struct talk *t, const struct ctl *c)
{
	uint8_t bytes[CTL_BYTES];

	ctl_put(c, bytes);
	CHECK_EQ(send(t->theirs, bytes, sizeof(bytes), 0), (ssize_t)sizeof(bytes));
}

static void say_end(const struct talk *t, enum vm_end end)
{
	struct ctl c = { .type = CTL_ENDED, .a = { end } };

	ctl_set_text(&c, "why");
	say(t, &c);
}

TEST(a_full_disk_is_heard_of)
{
	struct engine_news news = { 0 };
	struct talk t;

	talk_open(&t);
	CHECK(!t.vm.ops->hush(&t.vm, &news));
	say(&t, &(struct ctl){ .type = CTL_DONE });
	CHECK(t.vm.ops->hush(&t.vm, &news));
	CHECK_EQ(send(t.theirs, "no packet", 9, 0), 9);
	CHECK(t.vm.ops->hush(&t.vm, &news));
	CHECK(!news.full && !news.gate_lost);
	say_end(&t, VM_END_FULL);
	CHECK(t.vm.ops->hush(&t.vm, &news));
	CHECK(news.full && !news.gate_lost);
	talk_close(&t);
}

TEST(a_lost_gate_is_heard_of)
{
	struct engine_news news = { 0 };
	struct talk t;

	talk_open(&t);
	say(&t, &(struct ctl){ .type = CTL_GATE_LOST });
	CHECK(t.vm.ops->hush(&t.vm, &news));
	CHECK(!news.full && news.gate_lost);
	talk_close(&t);
}

TEST(another_end_is_not_a_full_disk)
{
	struct talk t;

	for (unsigned end = VM_END_RESET; end < VM_END_FULL; end++) {
		talk_open(&t);
		say_end(&t, (enum vm_end)end);
		own_close_fd(&t.theirs);
		CHECK(!engine_heard_full(&t.vm));
		talk_close(&t);
	}
}

/* The engine is gone, its words are not: behind answers that nobody waited for. */
TEST(it_is_heard_after_the_end)
{
	struct talk t;

	talk_open(&t);
	for (int i = 0; i < 10; i++)
		say(&t, &(struct ctl){ .type = CTL_DONE });
	say_end(&t, VM_END_FULL);
	own_close_fd(&t.theirs);
	CHECK(engine_heard_full(&t.vm));
	CHECK(!engine_heard_full(&t.vm));
	talk_close(&t);
}

/* Who asks for something else meanwhile learns that there will be no answer, and takes nothing. */
TEST(a_question_leaves_the_end_to_be_heard)
{
	struct err e = { 0 };
	struct talk t;

	talk_open(&t);
	say(&t, &(struct ctl){ .type = CTL_DONE });
	say_end(&t, VM_END_FULL);
	CHECK_EQ(t.vm.ops->pause(&t.vm, clock_mono_ms() + 60000, &e), -EPIPE);
	CHECK_STR(e.text, "the machine ended");
	CHECK(engine_heard_full(&t.vm));
	talk_close(&t);
}

TEST(an_answer_is_found_behind_others)
{
	struct err e = { 0 };
	struct talk t;

	talk_open(&t);
	say(&t, &(struct ctl){ .type = CTL_DONE, .seq = 99 });
	say(&t, &(struct ctl){ .type = CTL_DONE, .seq = CTL_PAUSE });
	CHECK_OK(t.vm.ops->pause(&t.vm, clock_mono_ms() + 60000, &e), &e);
	CHECK(!engine_heard_full(&t.vm));
	talk_close(&t);
}

TEST_MAIN()
