/*
 * The endpoint against the TCP of this machine's kernel, over a tap device. The test's process is
 * the gate: by port it echoes, discards, sends, refuses and so on. A child of it is a client with
 * plain sockets. The child's exit code says how it went.
 */
#include "base/clock.h"
#include "net/tcp.h"
#include "net/udp_flows.h"
#include "tap.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum {
	PORT_REFUSE = 5,
	PORT_RESET = 6,
	PORT_ECHO = 7,
	PORT_SLOW = 8, /* reads nothing until nothing more comes */
	PORT_DISCARD = 9,
	PORT_SOURCE = 19,
	PORT_CALL = 77, /* the gate connects back, to the port that the first two bytes name */
	GUEST_PORT = 8080,
	BULK = 64 << 20,
	MANY = 3000,
	BATCH = 200,
	ROUNDS = 1000, /* small requests on one connection */
};

struct gate {
	int tap;
	bool ip6;
	struct net_link link;
	struct tcp_table *table;
	unsigned ended[5]; /* by enum tcp_end */
	unsigned most;     /* flows at once */
	uint64_t frames_out;
};

struct app {
	uint16_t port;
	bool shut;
	uint32_t sent, got;
};

static struct gate g;

static uint8_t pattern(uint32_t at)
{
	return (uint8_t)(at * 31 + (at >> 11));
}

/* -- the gate ---------------------------------------------------------------------------------- */

static bool emit(void *ctx, const struct iovec *iov, unsigned count, size_t bytes)
{
	struct iovec mine[NET_FRAME_IOVS];
	ssize_t r;

	(void)ctx;
	memcpy(mine, iov, count * sizeof(*iov));
	mine[0].iov_base = (uint8_t *)mine[0].iov_base + NET_PREFIX_BYTES;
	mine[0].iov_len -= NET_PREFIX_BYTES;
	r = writev(g.tap, mine, (int)count);
	if (r < 0 && (errno == EAGAIN || errno == ENOBUFS))
		return false;
	CHECK_EQ(r, (ssize_t)bytes - NET_PREFIX_BYTES);
	g.frames_out++;
	return true;
}

static void source(struct tcp_flow *f, struct app *a, uint32_t total, uint64_t now)
{
	struct iovec iov[TCP_WRITE_IOVS];
	unsigned n;

	while (a->sent < total && (n = tcp_room(g.table, f, iov)) > 0) {
		uint32_t put = 0;

		for (unsigned i = 0; i < n; i++)
			for (size_t k = 0; k < iov[i].iov_len && a->sent < total; k++, put++)
				((uint8_t *)iov[i].iov_base)[k] = pattern(a->sent++);
		tcp_commit(g.table, f, put, now);
	}
	if (a->sent == total && !a->shut) {
		a->shut = true;
		tcp_shutdown(g.table, f, now);
	}
}

static void echo(struct tcp_flow *f, struct app *a, uint64_t now)
{
	struct iovec iov[TCP_READ_IOVS];

	while (tcp_readable(f, iov) > 0) {
		size_t put = tcp_write(g.table, f, span_of(iov[0].iov_base, iov[0].iov_len), now);

		tcp_consume(g.table, f, put, now);
		if (put == 0)
			return;
	}
	if (tcp_at_eof(f) && !a->shut) {
		a->shut = true;
		tcp_shutdown(g.table, f, now);
	}
}

static void discard(struct tcp_flow *f, struct app *a, uint64_t now)
{
	struct iovec iov[TCP_READ_IOVS];
	unsigned n = tcp_readable(f, iov);
	size_t took = 0;

	for (unsigned i = 0; i < n; i++) {
		const uint8_t *at = iov[i].iov_base;

		for (size_t k = 0; k < iov[i].iov_len; k++)
			CHECK(at[k] == pattern(a->got++));
		took += iov[i].iov_len;
	}
	if (took > 0)
		tcp_consume(g.table, f, took, now);
	if (tcp_at_eof(f) && !a->shut) {
		a->shut = true;
		CHECK_EQ(tcp_write(g.table, f, span_of(&a->got, sizeof(a->got)), now), 4);
		tcp_shutdown(g.table, f, now);
	}
}

static void call_back(struct tcp_flow *f, struct app *a, uint64_t now)
{
	struct net_tuple t = *tcp_flow_tuple(f);
	struct app *other = calloc(1, sizeof(*other));
	struct tcp_flow *called;
	struct iovec iov[TCP_READ_IOVS];

	CHECK(other);
	if (tcp_readable_bytes(f) >= 2 && !a->shut) {
		CHECK(tcp_readable(f, iov) > 0);
		memcpy(&t.guest_port, iov[0].iov_base, 2);
		t.remote_port = 50000;
		other->port = PORT_ECHO;
		CHECK_EQ(tcp_connect(g.table, &t, other, now, &called), 0);
		CHECK_EQ(tcp_connect(g.table, &t, other, now, &called), -EEXIST);
		a->shut = true;
		tcp_consume(g.table, f, tcp_readable_bytes(f), now);
		tcp_shutdown(g.table, f, now);
	} else {
		free(other);
	}
}

static void serve(struct tcp_flow *f, struct app *a, unsigned events, uint64_t now)
{
	if (a->port == PORT_ECHO)
		echo(f, a, now);
	else if (a->port == PORT_DISCARD || (a->port == PORT_SLOW && events == 0))
		discard(f, a, now);
	else if (a->port == PORT_SOURCE)
		source(f, a, BULK, now);
	else if (a->port == PORT_CALL)
		call_back(f, a, now);
	else if (a->port == PORT_RESET && events & TCP_EV_READABLE) {
		free(a);
		tcp_abort(g.table, f, now);
	}
}

static struct tcp_flow *slow; /* the one on PORT_SLOW */

static void event(void *ctx, struct tcp_flow *f, unsigned events, uint64_t now)
{
	struct app *a = tcp_flow_app(f);

	(void)ctx;
	if (events & TCP_EV_SYN) {
		uint16_t port = tcp_flow_tuple(f)->remote_port;

		if (port == PORT_REFUSE) {
			tcp_abort(g.table, f, now);
			return;
		}
		a = calloc(1, sizeof(*a));
		CHECK(a);
		a->port = port;
		tcp_flow_set_app(f, a);
		tcp_accept(g.table, f, now);
		if (port == PORT_SLOW)
			slow = f;
		return;
	}
	if (events & TCP_EV_ENDED) {
		g.ended[tcp_flow_end(f)]++;
		if (f == slow)
			slow = NULL;
		free(a);
		return;
	}
	serve(f, a, events, now);
}

static void refuse_udp(const struct net_packet *p, uint64_t now)
{
	if (p->tuple.remote_port == PORT_ECHO)
		CHECK(net_link_send_udp(&g.link, &p->tuple, p->udp.data));
	else
		net_link_refuse(&g.link, &p->ip, now);
}

static void read_tap(uint64_t now)
{
	static uint8_t frame[NET_FRAME_MAX + 1];

	for (int n = 0; n < 64; n++) {
		ssize_t r = read(g.tap, frame, sizeof(frame));
		struct net_packet p;

		if (r <= 0)
			return;
		if (!net_link_input(&g.link, span_of(frame, (size_t)r), now, &p))
			continue;
		if (p.proto == NET_PROTO_TCP)
			tcp_input(g.table, &p, now);
		else
			refuse_udp(&p, now);
	}
}

static void begin(void)
{
	struct net_link_config c = net_link_config_usual(true);
	struct tcp_config config = {
		.flows_max = TCP_FLOWS_MAX,
		.half_open_max = TCP_HALF_OPEN_MAX,
		.blocks = 256,
		.link = &g.link,
		.out = { .emit = emit },
		.event = event,
	};

	random_bytes(&config.hash_key, sizeof(config.hash_key));
	random_bytes(&config.iss_key, sizeof(config.iss_key));
	g = (struct gate){ 0 };
	g.tap = tap_open(&g.ip6);
	net_link_init(&g.link, &c, config.out);
	CHECK_OK(tcp_table_new(&config, &g.table, NULL), NULL);
}

/* Is the slow one's window shut, and everybody waiting? Then it reads at last. */
static void feed_slow(uint64_t now)
{
	struct tcp_flow_info info;

	if (!slow)
		return;
	tcp_flow_info(slow, &info);
	if (now - info.began_ms > 1500)
		serve(slow, tcp_flow_app(slow), 0, now);
}

/* Runs the gate until the child is gone, and no flow is left. */
static void run(pid_t child)
{
	bool gone = false;
	uint64_t now = clock_mono_ms();
	int status = 0;

	/* the harness has the deadline */
	while (!gone || tcp_table_stats(g.table)->flows > 0) {
		struct pollfd p = { .fd = g.tap, .events = POLLIN };
		uint64_t next = tcp_next_ms(g.table);
		uint64_t wait = next > now ? next - now : 0;

		(void)poll(&p, 1, wait > 20 ? 20 : (int)wait);
		now = clock_mono_ms();
		read_tap(now);
		tcp_tick(g.table, now);
		if (tcp_blocked(g.table))
			tcp_resume(g.table, now);
		feed_slow(now);
		if (tcp_table_stats(g.table)->flows > g.most)
			g.most = tcp_table_stats(g.table)->flows;
		if (!gone && waitpid(child, &status, WNOHANG) == child)
			gone = true;
	}
	CHECK_EQ(status, 0);
	CHECK_EQ(tcp_table_stats(g.table)->blocks_used, 0);
	CHECK_EQ(g.link.stats.dropped[NET_CHECKSUM], 0);
	CHECK_EQ(g.link.stats.dropped[NET_MALFORMED], 0);
	tcp_table_free(g.table);
}

/* -- the client -------------------------------------------------------------------------------- */

#define MUST(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			(void)printf("client, line %d: %s: %s\n", __LINE__, #cond,                 \
			             strerror(errno));                                             \
			(void)fflush(stdout);                                                      \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

static int try_connect(uint16_t port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	MUST(s >= 0);
	to.sin_addr.s_addr = htonl(0x5db8d70e); /* 93.184.215.14 */
	if (connect(s, (struct sockaddr *)&to, sizeof(to)) == 0)
		return s;
	(void)close(s);
	return -1;
}

static int must_connect(uint16_t port)
{
	int s = try_connect(port);

	MUST(s >= 0);
	return s;
}

static void send_pattern(int s, uint32_t total)
{
	static uint8_t at[100000];
	uint32_t sent = 0;

	while (sent < total) {
		size_t len = total - sent < sizeof(at) ? total - sent : sizeof(at);
		size_t put = 0;

		for (size_t i = 0; i < len; i++)
			at[i] = pattern(sent + (uint32_t)i);
		while (put < len) {
			ssize_t r = send(s, at + put, len - put, MSG_NOSIGNAL);

			MUST(r > 0);
			put += (size_t)r;
		}
		sent += (uint32_t)len;
	}
}

static void read_pattern(int s, uint32_t total)
{
	static uint8_t at[100000];
	uint32_t got = 0;
	ssize_t r;

	while ((r = read(s, at, sizeof(at))) > 0)
		for (ssize_t i = 0; i < r; i++)
			MUST(at[i] == pattern(got++));
	MUST(r == 0 && got == total);
}

static void send_and_count(uint16_t port, uint32_t total)
{
	int s = must_connect(port);
	uint32_t count = 0;

	send_pattern(s, total);
	MUST(shutdown(s, SHUT_WR) == 0);
	MUST(recv(s, &count, sizeof(count), MSG_WAITALL) == 4 && count == total);
	MUST(read(s, &count, 1) == 0);
	(void)close(s);
}

static pid_t client(void (*what)(void))
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		what();
		_exit(0);
	}
	return pid;
}

static void bulk_up(void)
{
	send_and_count(PORT_DISCARD, BULK);
}

TEST(bulk_from_the_guest)
{
	begin();
	run(client(bulk_up));
	CHECK_EQ(g.ended[TCP_END_CLOSED], 1);
}

static void bulk_down(void)
{
	int s = must_connect(PORT_SOURCE);

	read_pattern(s, BULK);
	(void)close(s);
}

TEST(bulk_to_the_guest)
{
	begin();
	run(client(bulk_down));
	CHECK_EQ(g.ended[TCP_END_CLOSED], 1);
}

static void echo_client(void)
{
	int s = must_connect(PORT_ECHO);
	uint8_t c = 1;

	for (int i = 0; i < ROUNDS; i++) {
		MUST(send(s, &c, 1, MSG_NOSIGNAL) == 1);
		MUST(read(s, &c, 1) == 1 && c == 1);
	}
	/* half-close: ours is over, the answer still comes whole */
	send_pattern(s, 150000);
	MUST(shutdown(s, SHUT_WR) == 0);
	read_pattern(s, 150000);
	(void)close(s);
}

TEST(small_requests_and_half_close)
{
	begin();
	run(client(echo_client));
	CHECK_EQ(g.ended[TCP_END_CLOSED], 1);
}

static void resets(void)
{
	struct linger now = { .l_onoff = 1 };
	char c = 'x';
	int s;

	MUST(try_connect(PORT_REFUSE) < 0 && errno == ECONNREFUSED);
	s = must_connect(PORT_RESET);
	MUST(send(s, &c, 1, MSG_NOSIGNAL) == 1);
	MUST(read(s, &c, 1) < 0 && errno == ECONNRESET);
	(void)close(s);
	s = must_connect(PORT_ECHO);
	MUST(send(s, &c, 1, MSG_NOSIGNAL) == 1 && read(s, &c, 1) == 1);
	MUST(setsockopt(s, SOL_SOCKET, SO_LINGER, &now, sizeof(now)) == 0);
	(void)close(s);
}

TEST(refused_reset_and_reset_by_the_guest)
{
	begin();
	run(client(resets));
	CHECK_EQ(g.ended[TCP_END_RESET], 1);
	CHECK_EQ(g.ended[TCP_END_CLOSED], 0);
}

/* The guest does not read: our data waits, our probes ask, and then all of it arrives. */
static void window_of_the_guest(void)
{
	int small = 4096;
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(PORT_SOURCE) };
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	to.sin_addr.s_addr = htonl(0x5db8d70e);
	MUST(setsockopt(s, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)) == 0);
	MUST(connect(s, (struct sockaddr *)&to, sizeof(to)) == 0);
	(void)poll(NULL, 0, 1500);
	small = 1 << 20; /* enough waiting: now quickly */
	MUST(setsockopt(s, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)) == 0);
	read_pattern(s, BULK);
	(void)close(s);
}

TEST(zero_window_of_the_guest)
{
	begin();
	run(client(window_of_the_guest));
	CHECK_EQ(g.ended[TCP_END_CLOSED], 1);
}

static void window_of_the_gate(void)
{
	send_and_count(PORT_SLOW, 8 << 20);
}

TEST(zero_window_of_the_gate)
{
	begin();
	run(client(window_of_the_gate));
	CHECK_EQ(g.ended[TCP_END_CLOSED], 1);
}

static void many(void)
{
	struct rlimit files;
	static int s[MANY];
	int count = MANY;
	uint32_t word;

	MUST(getrlimit(RLIMIT_NOFILE, &files) == 0);
	files.rlim_cur = files.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_max < MANY + 50)
		count = (int)files.rlim_max - 50;
	for (int i = 0; i < count; i++)
		s[i] = must_connect(PORT_ECHO);
	/* a batch at a time: a tap device loses what its queue of 1000 does not hold */
	for (int at = 0; at < count; at += BATCH) {
		int end = at + BATCH < count ? at + BATCH : count;

		for (int i = at; i < end; i++)
			MUST(send(s[i], &i, 4, MSG_NOSIGNAL) == 4);
		for (int i = at; i < end; i++)
			MUST(recv(s[i], &word, 4, MSG_WAITALL) == 4 && word == (uint32_t)i);
	}
	for (int i = 0; i < count; i++) {
		MUST(shutdown(s[i], SHUT_WR) == 0 && read(s[i], &word, 4) == 0);
		(void)close(s[i]);
	}
}

TEST(thousands_of_connections)
{
	begin();
	run(client(many));
	CHECK(g.most >= 200);
	CHECK_EQ(g.ended[TCP_END_CLOSED], g.most);
}

/* The gate is told a port over one connection and calls back. */
static void called(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(GUEST_PORT) };
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint16_t port = GUEST_PORT;
	char c = 'q';
	int s;

	MUST(bind(l, (struct sockaddr *)&at, sizeof(at)) == 0 && listen(l, 5) == 0);
	s = must_connect(PORT_CALL);
	MUST(send(s, &port, 2, MSG_NOSIGNAL) == 2 && read(s, &c, 1) == 0);
	(void)close(s);
	s = accept(l, NULL, NULL);
	MUST(s >= 0);
	send_pattern(s, 200000);
	MUST(shutdown(s, SHUT_WR) == 0);
	read_pattern(s, 200000);
	(void)close(s);
	(void)close(l);
	s = must_connect(PORT_CALL); /* and once more, when nobody listens */
	MUST(send(s, &port, 2, MSG_NOSIGNAL) == 2 && read(s, &c, 1) == 0);
	(void)close(s);
}

TEST(the_gate_connects_to_the_guest)
{
	begin();
	run(client(called));
	CHECK_EQ(g.ended[TCP_END_CLOSED], 3);
	CHECK_EQ(g.ended[TCP_END_REFUSED], 1);
}

static void datagrams(void)
{
	static uint8_t big[NET_UDP_DATA_MAX];
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(PORT_ECHO) };
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char c = 'x';

	to.sin_addr.s_addr = htonl(0x08080808);
	MUST(connect(s, (struct sockaddr *)&to, sizeof(to)) == 0);
	MUST(send(s, big, sizeof(big), 0) == sizeof(big));
	MUST(recv(s, big, sizeof(big), 0) == sizeof(big));
	to.sin_port = htons(123);
	MUST(connect(s, (struct sockaddr *)&to, sizeof(to)) == 0);
	MUST(send(s, &c, 1, 0) == 1);
	MUST(recv(s, &c, 1, 0) < 0 && errno == ECONNREFUSED); /* at once, by ICMP */
}

TEST(datagrams_echoed_and_refused)
{
	begin();
	run(client(datagrams));
	CHECK_EQ(g.link.stats.errors, 1);
}

static void over_ip6(void)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_port = htons(PORT_ECHO) };
	int s = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	MUST(inet_pton(AF_INET6, "2001:db8::9", &to.sin6_addr) == 1);
	MUST(s >= 0 && connect(s, (struct sockaddr *)&to, sizeof(to)) == 0);
	send_pattern(s, 200000);
	MUST(shutdown(s, SHUT_WR) == 0);
	read_pattern(s, 200000);
	(void)close(s);
}

TEST(the_same_over_ip6)
{
	begin();
	if (!g.ip6)
		TEST_SKIP("this kernel has no IPv6");
	run(client(over_ip6));
	CHECK_EQ(g.ended[TCP_END_CLOSED], 1);
}

TEST_MAIN()
