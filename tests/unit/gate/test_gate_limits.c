/* What is limited, what is lost, and what ends the gate. */
#include "gate/limits.h"
#include "world.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

static const char raw[] = "93.184.216.22", two[] = "93.184.216.23";

static struct world *limited(const char *limits)
{
	struct world *w = world_new(NULL);
	char yaml[512];

	(void)snprintf(yaml, sizeof(yaml),
	               "version: 1\nlimits: { %s }\nnetwork:\n  rules:\n"
	               "    - { host: raw.example, port: 22 }\n"
	               "    - { host: two.example, port: 22 }\n",
	               limits);
	world_policy(w, 1, yaml);
	world_name(w, "raw.example", raw, 3000);
	world_name(w, "two.example", two, 3000);
	world_pin(w, "raw.example", raw);
	world_pin(w, "two.example", two);
	return w;
}

static struct gconn *dial(struct world *w, const char *addr)
{
	struct gconn *c = world_dial(w, addr, 22);

	world_run(w);
	return c;
}

TEST(connections_at_once)
{
	struct world *w = limited("connections: 3");
	struct gconn *c[5];

	for (unsigned i = 0; i < 5; i++)
		c[i] = dial(w, raw);
	CHECK(c[0]->open && c[1]->open && c[2]->open && c[3]->ended && c[4]->ended);
	CHECK_EQ(world_said(w, EGRESS_EVENT_REFUSED, POLICY_LIMIT_CONNECTIONS), 2);
	gconn_say(w, c[0], "still", 5); /* those that are open do not feel it */
	CHECK(!c[0]->ended);
	tcp_abort(w->tcp, c[0]->f, world_ms());
	world_run(w);
	gconn_free(c[4]);
	c[4] = dial(w, raw);
	CHECK(c[4]->open && !c[4]->ended);
	for (unsigned i = 0; i < 5; i++)
		gconn_free(c[i]);
	world_free(w);
}

TEST(connections_to_one_host)
{
	struct world *w = limited("host_connections: 2");
	struct gconn *c[4];

	for (unsigned i = 0; i < 3; i++)
		c[i] = dial(w, raw);
	c[3] = dial(w, two);
	CHECK(c[0]->open && c[1]->open && c[2]->ended && c[3]->open);
	for (unsigned i = 0; i < 4; i++)
		gconn_free(c[i]);
	world_free(w);
}

TEST(new_connections_a_second)
{
	struct world *w = limited("connection_rate: 4");
	unsigned open = 0;
	struct gconn *c;

	for (unsigned i = 0; i < 10; i++) {
		c = dial(w, raw);
		open += c->open && !c->ended;
		if (c->f)
			tcp_abort(w->tcp, c->f, world_ms());
		gconn_free(c);
	}
	CHECK_EQ(open, 4);
	CHECK_EQ(world_said(w, EGRESS_EVENT_REFUSED, POLICY_LIMIT_RATE), 6);
	world_wait(w, 1000);
	c = dial(w, raw);
	CHECK(c->open);
	gconn_free(c);
	world_free(w);
}

TEST(bytes_in_all)
{
	static uint8_t data[100000];
	struct world *w = limited("upload: 64KiB");
	struct gconn *c = dial(w, raw);

	gconn_say(w, c, data, sizeof(data));
	CHECK(c->ended && c->end == TCP_END_RESET);
	CHECK_EQ(world_said(w, EGRESS_EVENT_ENDED, POLICY_LIMIT_BYTES), 1);
	gconn_free(c);
	c = dial(w, raw);
	CHECK(c->ended);
	CHECK_EQ(world_last(w)->r.reason, POLICY_LIMIT_BYTES);
	gconn_free(c);
	world_free(w);
}

/* LIM-2: within a tenth, in the gate's own time. */
TEST(bandwidth_each_way)
{
	enum { RATE = 1 << 20, SECONDS = 4 };
	uint8_t *data = calloc(1, (size_t)RATE * 2 * SECONDS);
	struct world *w = limited("bandwidth: 1MiB");
	struct gconn *c = dial(w, raw);
	char sink[65536];
	size_t up = 0, down = 0;

	CHECK(data);
	gconn_say(w, c, data, (size_t)RATE * 2 * SECONDS);
	for (unsigned ms = 0; ms < SECONDS * 1000; ms += 5) {
		ssize_t n;

		while ((n = recv(w->upstreams[0].fd, sink, sizeof(sink), 0)) > 0)
			up += (size_t)n;
		while ((n = send(w->upstreams[0].fd, data, 65536, 0)) > 0)
			down += (size_t)n;
		world_wait(w, 5);
	}
	down = c->got_len;
	CHECK(up > (size_t)RATE * SECONDS * 9 / 10 && up < (size_t)RATE * SECONDS * 11 / 10);
	CHECK(down > (size_t)RATE * SECONDS * 9 / 10 && down < (size_t)RATE * SECONDS * 11 / 10);
	gconn_free(c);
	free(data);
	world_free(w);
}

TEST(records_are_counted_when_nobody_reads_them)
{
	struct world *w = limited("connections: 100");
	uint64_t said;

	w->deaf = true;
	for (unsigned i = 0; i < 1500; i++) {
		struct gconn *c = world_dial(w, "1.2.3.4", 23);

		world_run(w);
		CHECK(c->ended); /* nothing waits for the supervisor */
		gconn_free(c);
	}
	w->deaf = false;
	world_run(w);
	CHECK_EQ(world_said(w, EGRESS_EVENT_LOST, POLICY_OK), 1);
	said = world_said(w, EGRESS_EVENT_REFUSED, POLICY_NOT_RESOLVED);
	CHECK_EQ(world_last(w)->r.event, EGRESS_EVENT_LOST);
	CHECK_EQ(said + world_last(w)->r.count, 1500);
	CHECK_EQ(world_stat(w, "records_lost"), world_last(w)->r.count);
	world_free(w);
}

TEST(a_question_for_counts_waits_for_room_too)
{
	struct world *w = limited("connections: 100");

	w->deaf = true;
	for (unsigned i = 0; i < 1500; i++) {
		struct gconn *c = world_dial(w, "1.2.3.4", 23);

		world_run(w);
		gconn_free(c);
	}
	world_ask_stats(w, 9);
	CHECK_EQ(w->stats_answers, 0);
	w->deaf = false;
	world_run(w);
	CHECK_EQ(w->stats_answers, 1);
	CHECK_EQ(w->stats.serial, 9);
	CHECK_EQ(w->ended, 0);
	world_free(w);
}

/* Kilobytes of this process in memory. */
static long rss_kib(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	char line[128];
	long pages = 0;

	CHECK(f && fgets(line, sizeof(line), f));
	(void)fclose(f);
	for (char *at = strchr(line, ' ') + 1; *at >= '0' && *at <= '9'; at++)
		pages = pages * 10 + *at - '0';
	return pages * 4;
}

TEST(ten_thousand_idle_connections)
{
	enum { MANY = 10000 };
	struct gconn **c = calloc(MANY, sizeof(*c));
	struct world *w = limited("connection_rate: 1000000");
	struct rlimit l;
	long before, after;
	int pair[2];

	CHECK(c);
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &l), 0);
	if (l.rlim_cur < MANY + 1000)
		TEST_SKIP("this user may have %llu files", (unsigned long long)l.rlim_cur);
	w->quiet_records = true;
	for (unsigned i = 0; i < 200; i++) /* what is touched once */
		c[i] = dial(w, raw);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	w->shared = pair[0]; /* an end for each would be more files than many a user may have */
	before = rss_kib();
	for (unsigned i = 200; i < MANY; i++)
		c[i] = dial(w, raw);
	after = rss_kib();
	for (unsigned i = 0; i < MANY; i += 500)
		CHECK(c[i]->open && !c[i]->ended);
	CHECK_EQ(world_stat(w, "flows_open"), MANY);
	CHECK_EQ(world_stat(w, "tcp_rings"), 0);
	/* both ends of each are in this process: the gate's half is under half of it */
	printf("# %ld bytes for a connection and its other end\n",
	       (after - before) * 1024 / (MANY - 200));
	CHECK((after - before) * 1024 / (MANY - 200) < 4096);
	gconn_say(w, c[100], "alive", 5);
	CHECK_EQ(recv(w->upstreams[100].fd, (char[8]){ 0 }, 8, 0), 5);
	for (unsigned i = 0; i < MANY; i++)
		gconn_free(c[i]);
	free(c);
	world_free(w);
}

TEST(half_open_storms_leave_the_others_alone)
{
	struct world *w = limited("connection_rate: 1000000");
	struct gconn *c = dial(w, raw);

	w->hold = true; /* the vault answers none of these */
	for (uint16_t i = 0; i < GATE_HALF_OPEN_MAX + 100; i++)
		world_syn(w, raw, 22, (uint16_t)(40000 + i));
	CHECK(world_stat(w, "syn_refused_half_open") >= 100);
	gconn_say(w, c, "x", 1);
	CHECK_EQ(recv(w->upstreams[0].fd, (char[8]){ 0 }, 8, 0), 1);
	CHECK_EQ(world_ask(w, "1.1.1.1", "raw.example", DNS_A), DNS_NOERROR);
	world_wait(w, GATE_ASKING_MS + 1000);
	/* more at once than the supervisor's socket takes: the rest is counted as lost */
	CHECK(world_said(w, EGRESS_EVENT_REFUSED, POLICY_UPSTREAM_TIMEOUT) > 100);
	CHECK_EQ(world_stat(w, "flows_refused"), GATE_HALF_OPEN_MAX);
	CHECK_EQ(world_stat(w, "flows_open"), 1);
	gconn_free(c);
	world_free(w);
}

/* -- the ends of a gate ------------------------------------------------------------------------ */

static void say_rest(struct world *w, uint32_t rests)
{
	uint8_t room[64];
	struct buf out;

	buf_init(&out, room, sizeof(room));
	control_put_u32(&out, CONTROL_REST, rests);
	world_control(w, &out, -1);
}

/* What it has not acknowledged waits for it, however long its machine is paused. */
TEST(a_guest_that_is_paused_is_not_given_up)
{
	for (int told = 0; told < 2; told++) {
		struct world *w = limited("connections: 5");
		struct gconn *c = dial(w, raw);
		struct gconn *idle = dial(w, two);

		w->asleep = true;
		if (told)
			say_rest(w, 1);
		CHECK_EQ(send(w->upstreams[0].fd, "late", 4, 0), 4);
		world_wait(w, 1200000);
		CHECK_EQ(world_said(w, EGRESS_EVENT_ENDED, POLICY_OK), told ? 0 : 2);
		w->asleep = false;
		if (told) {
			say_rest(w, 0);
			world_wait(w, 5000);
			CHECK_EQ(c->got_len, 4);
			CHECK(!c->ended && !idle->ended);
			gconn_say(w, idle, "hi", 2);
			CHECK(!idle->ended);
			/* and its time goes on as before */
			w->asleep = true;
			CHECK_EQ(send(w->upstreams[0].fd, "late", 4, 0), 4);
			world_wait(w, 120000);
			CHECK_EQ(world_said(w, EGRESS_EVENT_ENDED, POLICY_OK), 1);
			w->asleep = false;
		}
		gconn_free(c);
		gconn_free(idle);
		world_free(w);
	}
}

TEST(it_ends_with_the_supervisor_or_the_engine)
{
	struct world *w = limited("connections: 5");

	(void)close(w->control);
	w->control = -1;
	CHECK_EQ(gate_turn(w->gate, 0, &w->fault), 1);
	w->ended = 1;
	world_free(w);
	w = limited("connections: 5");
	(void)shutdown(w->card, SHUT_RDWR);
	CHECK_EQ(gate_turn(w->gate, 0, &w->fault), 1);
	w->ended = 1;
	world_free(w);
}

TEST(it_ends_with_the_vault)
{
	struct world *w = limited("connections: 5");

	(void)shutdown(egress_link_fd(w->vault), SHUT_RDWR);
	CHECK(gate_turn(w->gate, 0, &w->fault) < 0);
	CHECK_STR(w->fault.text, "the vault closed");
	w->ended = -1;
	world_free(w);
}

static void gate_ends_with(struct world *w, const char *text)
{
	int r = gate_turn(w->gate, 0, &w->fault);

	CHECK(r < 0);
	if (!strstr(w->fault.text, text))
		test_fail(__FILE__, __LINE__, "'%s' has no '%s'", w->fault.text, text);
	w->ended = -1;
	world_free(w);
}

TEST(what_the_vault_may_not_say_ends_it)
{
	static const struct {
		uint8_t type;
		uint32_t stream;
		const char *payload;
		size_t len;
		const char *text;
	} cases[] = {
		{ EGRESS_HELLO, 0, "\1\0\0\0", 4, "HELLO" },       /* again */
		{ EGRESS_CONNECT, 9, "", 0, "no frame" },          /* the gate's to say */
		{ EGRESS_END, 77, "", 0, "END" },                  /* of no stream */
		{ EGRESS_POLICY, 0, "\2\0\0\0junk", 8, "policy" }, /* no policy */
		{ EGRESS_POLICY, 0, "\2", 1, "no frame" },
		{ EGRESS_REFUSE, 0, "\3\0why", 5, "refused: why" },
		{ 99, 0, "", 0, "no frame" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct world *w = limited("connections: 5");
		struct buf *out = egress_link_out(w->vault);

		egress_put(out, cases[i].type, cases[i].stream,
		           span_of(cases[i].payload, cases[i].len));
		CHECK(egress_link_commit(w->vault, -1));
		CHECK_EQ(egress_link_flush(w->vault, NULL), 0);
		gate_ends_with(w, cases[i].text);
	}
}

TEST(what_the_supervisor_may_not_say_ends_it)
{
	uint8_t room[64];
	struct buf out;
	struct world *w = limited("connections: 5");

	buf_init(&out, room, sizeof(room));
	control_put_u32(&out, CONTROL_POLICY, 3); /* the vault's */
	CHECK_EQ(control_send(w->control, buf_span(&out), 0), 0);
	gate_ends_with(w, "POLICY");
	w = limited("connections: 5");
	buf_reset(&out);
	control_put_u32(&out, CONTROL_STATS, 3); /* comes without a descriptor */
	CHECK_EQ(control_send(w->control, buf_span(&out), 0), 0);
	gate_ends_with(w, "STATS");
	w = limited("connections: 5");
	buf_reset(&out);
	control_put_u32(&out, CONTROL_REST, 2);
	CHECK_EQ(control_send(w->control, buf_span(&out), -1), 0);
	gate_ends_with(w, "REST");
	w = limited("connections: 5");
	CHECK_EQ(send(w->control, "junk", 4, 0), 4);
	gate_ends_with(w, "the supervisor broke the protocol");
}

TEST(what_is_no_frame_ends_it)
{
	struct world *w = limited("connections: 5");

	CHECK_EQ(send(w->card, "\xff\xff\xff\xff", 4, 0), 4);
	gate_ends_with(w, "no frame");
}

TEST_MAIN()
