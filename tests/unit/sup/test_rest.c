/* Words about the guest's rest, to a gate and a vault that take none for a while, or never. */
#include "base/fdio.h"
#include "sup/sup.h"
#include "test.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { GATE, VAULT, BOTH };

struct bench {
	struct sup s;
	int theirs[BOTH], ours[BOTH]; /* ends of the control sockets */
	int agent_fd, silent_fd;
};

static void make_pair(int type, int *ret_ours, int *ret_theirs)
{
	int fds[2];

	CHECK_EQ(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds), 0);
	*ret_ours = fds[0];
	*ret_theirs = fds[1];
}

static struct bench *begin(void)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct sup *s = &b->s;
	struct err e = { 0 };
	int theirs;
	int fds[2];

	s->state = SUP_RUNNING;
	s->spec.network = true;
	s->id = "0123456789ab";
	s->state_fd = s->dir_fd = s->disk_fd = s->lock_fd = s->cpu_fd = s->status_fd = -1;
	s->templates_fd = s->scratch_fd = s->listen_fd = -1;
	s->log = (struct outlog){ .dir_fd = -1, .fd = -1 };
	guest_files_init(&s->files);
	sup_egress_init(s);
	sup_save_init(s);
	buf_init(&s->said, s->words, sizeof(s->words));
	engine_vm_init(&s->vm);
	CHECK_EQ(pipe(fds), 0);
	b->silent_fd = fds[1];
	s->vm.log_fd = fds[0];
	s->vm.pidfd = dup(fds[0]);
	CHECK_EQ(fd_set_nonblock(s->vm.log_fd), 0);
	make_pair(SOCK_STREAM, &theirs, &b->agent_fd);
	CHECK_EQ(link_new(theirs, WIRE_FROM_AGENT, &s->agent, &e), 0);
	make_pair(SOCK_STREAM, &s->listen_fd, &theirs);
	(void)close(theirs);
	CHECK_EQ(uv_loop_init(&s->loop), 0);
	CHECK_EQ(uv_timer_init(&s->loop, &s->rest_timer), 0);
	s->rest_timer.data = s;
	for (int i = 0; i < BOTH; i++) {
		struct sup_companion *c = i == GATE ? &s->net.gate : &s->net.vault;

		make_pair(SOCK_SEQPACKET, &b->ours[i], &b->theirs[i]);
		c->c.control_fd = b->ours[i];
		c->c.pidfd = dup(s->vm.log_fd); /* nothing ever comes of them */
		c->c.log_fd = dup(s->vm.log_fd);
		c->c.words = i == GATE ? "the gate" : "the vault";
		c->ready = true;
	}
	return b;
}

/* Until it takes no more. */
static void fill(struct bench *b, int who)
{
	static const uint8_t noise[256];

	while (control_send(b->ours[who], span_of(noise, sizeof(noise)), -1) == 0)
		continue;
}

/* Reads all that is there: the last word about rest, or -1; *ret_count: how many. */
static int heard(struct bench *b, int who, unsigned *ret_count)
{
	static uint8_t room[CONTROL_PACKET_MAX];
	struct span packet;
	int last = -1;
	int fd = -1;

	*ret_count = 0;
	while (control_recv(b->theirs[who], room, &packet, &fd) == 0) {
		if (packet.len != CONTROL_HEADER_BYTES + 4 || packet.at[1] != CONTROL_REST)
			continue;
		last = packet.at[CONTROL_HEADER_BYTES];
		++*ret_count;
	}
	return last;
}

static void run(struct bench *b)
{
	(void)uv_run(&b->s.loop, UV_RUN_DEFAULT); /* until the timer is not set any more */
}

static void end(struct bench *b)
{
	uv_close((uv_handle_t *)&b->s.rest_timer, NULL);
	(void)uv_run(&b->s.loop, UV_RUN_DEFAULT);
	CHECK_EQ(uv_loop_close(&b->s.loop), 0);
	for (int i = 0; i < BOTH; i++) {
		struct companion *c = i == GATE ? &b->s.net.gate.c : &b->s.net.vault.c;

		(void)close(c->pidfd);
		(void)close(c->log_fd);
	}
	link_free(b->s.agent);
	engine_vm_close(&b->s.vm);
	for (int i = 0; i < BOTH; i++) {
		(void)close(b->ours[i]);
		(void)close(b->theirs[i]);
	}
	(void)close(b->agent_fd);
	(void)close(b->silent_fd);
	(void)close(b->s.listen_fd);
	free(b);
}

TEST(both_hear_of_it_once)
{
	struct bench *b = begin();
	unsigned count;

	sup_say_rest(&b->s, true);
	run(b);
	for (int i = 0; i < BOTH; i++) {
		CHECK_EQ(heard(b, i, &count), 1);
		CHECK_EQ(count, 1);
	}
	sup_say_rest(&b->s, false);
	run(b);
	for (int i = 0; i < BOTH; i++) {
		CHECK_EQ(heard(b, i, &count), 0);
		CHECK_EQ(count, 1);
	}
	end(b);
}

static void read_later(uv_timer_t *t)
{
	struct bench *b = t->data;
	unsigned count;

	CHECK_EQ(heard(b, VAULT, &count), -1);
	uv_close((uv_handle_t *)t, NULL);
}

/* The end of a pause that finds a full socket: the clocks there do not stand still for ever. */
TEST(one_that_reads_later_hears_of_it_then)
{
	struct bench *b = begin();
	uv_timer_t later;
	unsigned count;

	sup_say_rest(&b->s, true);
	CHECK_EQ(heard(b, VAULT, &count), 1);
	fill(b, VAULT);
	sup_say_rest(&b->s, false);
	CHECK_EQ(heard(b, GATE, &count), 0);
	CHECK_EQ(uv_timer_init(&b->s.loop, &later), 0);
	later.data = b;
	CHECK_EQ(uv_timer_start(&later, read_later, 3 * (uint64_t)SUP_REST_AGAIN_MS, 0), 0);
	run(b);
	CHECK_EQ(heard(b, VAULT, &count), 0);
	CHECK_EQ(count, 1);
	CHECK_EQ(heard(b, GATE, &count), -1); /* it is not told twice */
	CHECK_EQ(b->s.state, SUP_RUNNING);
	end(b);
}

/* A pause that was over before it could be told of is none. */
TEST(what_is_over_is_not_told)
{
	struct bench *b = begin();
	unsigned count;

	fill(b, GATE);
	sup_say_rest(&b->s, true);
	sup_say_rest(&b->s, false);
	run(b);
	CHECK_EQ(heard(b, GATE, &count), -1);
	CHECK_EQ(heard(b, VAULT, &count), 0);
	CHECK_EQ(count, 2);
	end(b);
}

TEST(one_that_has_ended_is_left_to_its_end)
{
	struct bench *b = begin();

	(void)close(b->theirs[GATE]);
	b->theirs[GATE] = -1;
	sup_say_rest(&b->s, true);
	run(b);
	CHECK_EQ(b->s.state, SUP_RUNNING);
	end(b);
}

/* Nobody runs on with a gate whose clocks stand still. */
TEST(one_that_never_reads_ends_the_sandbox)
{
	struct bench *b = begin();
	struct err e = { 0 };

	uv_close((uv_handle_t *)&b->s.rest_timer, NULL);
	(void)uv_run(&b->s.loop, UV_RUN_DEFAULT);
	CHECK_EQ(uv_loop_close(&b->s.loop), 0);
	b->s.net.listen_fd = dup(b->s.vm.log_fd);
	CHECK_OK(sup_open_loop(&b->s, &e), &e);
	fill(b, GATE);
	b->s.net.rests = true;
	b->s.net.gate.rests = b->s.net.vault.rests = true;
	sup_say_rest(&b->s, false);
	CHECK_EQ(b->s.state, SUP_RUNNING);
	b->s.net.rest_tries = SUP_REST_TRIES - 3; /* nearly all of its time is over */
	while (b->s.state == SUP_RUNNING)
		(void)uv_run(&b->s.loop, UV_RUN_ONCE);
	CHECK_EQ(b->s.state, SUP_ENDING);
	CHECK_EQ(b->s.result.reason, RESULT_GATE_ENDED);
	CHECK_STR(b->s.result.message, "the gate does not read what it is told");
	uv_close((uv_handle_t *)&b->s.flush, NULL);
	(void)uv_run(&b->s.loop, UV_RUN_DEFAULT);
	CHECK_EQ(uv_loop_close(&b->s.loop), 0);
	link_free(b->s.agent); /* the files are this process's, which ends */
	free(b);
}

TEST_MAIN()
