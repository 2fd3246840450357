#include "world.h"

#include "../net/frames.h"
#include "base/clock.h"
#include "policy/draft.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

enum { QUIET_ROUNDS = 3, ROUNDS_MAX = 200000, CARD_IN = 1 << 20, GUEST_PORT_FIRST = 20000 };

static uint64_t world_now = 1000000;

uint64_t world_ms(void)
{
	return world_now;
}

struct net_addr world_addr(const char *text)
{
	struct net_addr a = { 0 };

	if (inet_pton(AF_INET, text, a.at) == 1)
		a.family = 4;
	else if (inet_pton(AF_INET6, text, a.at) == 1)
		a.family = 6;
	CHECK(a.family != 0);
	return a;
}

/* -- the guest --------------------------------------------------------------------------------- */

/* Whole frames only: where the socket is full, the gate has to read. */
static bool guest_emit(void *ctx, const struct iovec *iov, unsigned count, size_t bytes)
{
	struct world *w = ctx;
	uint8_t frame[NET_PREFIX_BYTES + NET_FRAME_MAX];
	size_t len = 0, sent = 0;

	for (unsigned i = 0; i < count; i++) {
		memcpy(frame + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	CHECK_EQ(len, bytes);
	for (unsigned tries = 0; sent < len && tries < 10000; tries++) {
		ssize_t n = send(w->card, frame + sent, len - sent, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0)
			sent += (size_t)n;
		else if (sent == 0)
			return false;
		else if (w->ended == 0 && gate_turn(w->gate, 0, &w->fault) != 0)
			w->ended = 1;
	}
	return sent == len;
}

static void keep(struct gconn *c, struct span data)
{
	if (c->got_len + data.len > c->got_size) {
		c->got_size = (c->got_len + data.len) * 2;
		c->got = realloc(c->got, c->got_size);
		CHECK(c->got);
	}
	memcpy(c->got + c->got_len, data.at, data.len);
	c->got_len += data.len;
}

static void gconn_write(struct world *w, struct gconn *c)
{
	if (!c->f || !c->open)
		return;
	while (c->out.len > 0) {
		size_t n = tcp_write(w->tcp, c->f, c->out, world_now);

		if (n == 0)
			return;
		c->out = span_of(c->out.at + n, c->out.len - n);
	}
	if (c->shut) {
		c->shut = false;
		tcp_shutdown(w->tcp, c->f, world_now);
	}
}

static void gconn_read(struct world *w, struct gconn *c)
{
	struct iovec iov[TCP_READ_IOVS];
	unsigned n = c->lazy ? 0 : tcp_readable(c->f, iov);
	size_t sum = 0;

	for (unsigned i = 0; i < n; i++) {
		keep(c, span_of(iov[i].iov_base, iov[i].iov_len));
		sum += iov[i].iov_len;
	}
	if (sum > 0)
		tcp_consume(w->tcp, c->f, sum, world_now);
	c->eof = c->eof || tcp_at_eof(c->f);
}

static void guest_event(void *ctx, struct tcp_flow *f, unsigned events, uint64_t now_ms)
{
	struct world *w = ctx;
	struct gconn *c = tcp_flow_app(f);

	(void)now_ms;
	if (events & TCP_EV_SYN) { /* published: every port but 9 listens */
		if (tcp_flow_tuple(f)->remote_port == 9) {
			tcp_abort(w->tcp, f, world_now);
			return;
		}
		c = calloc(1, sizeof(*c));
		CHECK(c);
		c->f = f;
		tcp_flow_set_app(f, c);
		tcp_accept(w->tcp, f, world_now);
		w->accepted = c;
		return;
	}
	if (!c)
		return;
	c->open = c->open || (events & TCP_EV_OPEN);
	gconn_read(w, c);
	if (events & TCP_EV_ENDED) {
		c->ended = true;
		c->end = tcp_flow_end(f);
		c->f = NULL;
		return;
	}
	gconn_write(w, c);
}

static void guest_icmp(struct world *w, const struct ip *ip)
{
	struct icmp icmp;

	if (icmp_parse(ip, &icmp) == NET_OK &&
	    icmp.type == (ip->src.family == 6 ? ICMP6_UNREACHABLE : ICMP_UNREACHABLE)) {
		w->unreachables++;
		w->last.unreachable = true;
	}
}

static void guest_frame(struct world *w, struct span frame)
{
	struct net_packet p = { 0 };
	struct eth eth;

	CHECK_EQ(eth_parse(frame, &eth), NET_OK);
	if (eth.type == NET_TYPE_ARP)
		return;
	CHECK_EQ(eth.type == NET_TYPE_IP6 ? ip6_parse(eth.payload, &p.ip)
	                                  : ip4_parse(eth.payload, &p.ip),
	         NET_OK);
	p.proto = p.ip.proto;
	p.tuple = (struct net_tuple){ .guest = p.ip.src, .remote = p.ip.dst };
	if (p.proto == NET_PROTO_TCP) {
		CHECK_EQ(tcp_parse(&p.ip, &p.tcp), NET_OK);
		p.tuple.guest_port = p.tcp.src_port;
		p.tuple.remote_port = p.tcp.dst_port;
		tcp_input(w->tcp, &p, world_now);
	} else if (p.proto == NET_PROTO_UDP) {
		CHECK_EQ(udp_parse(&p.ip, &p.udp), NET_OK);
		p.tuple.guest_port = p.udp.src_port;
		p.tuple.remote_port = p.udp.dst_port;
		CHECK(p.udp.data.len <= sizeof(w->last.at));
		w->last.tuple = p.tuple;
		w->last.len = p.udp.data.len;
		memcpy(w->last.at, p.udp.data.at, p.udp.data.len);
		w->datagrams++;
	} else {
		guest_icmp(w, &p.ip);
	}
}

static bool guest_run(struct world *w)
{
	ssize_t n = recv(w->card, w->in + w->in_len, CARD_IN - w->in_len, MSG_DONTWAIT);
	struct span in, frame;

	tcp_tick(w->tcp, world_now);
	if (tcp_blocked(w->tcp))
		tcp_resume(w->tcp, world_now);
	if (n <= 0)
		return false;
	w->in_len += (size_t)n;
	in = span_of(w->in, w->in_len);
	while (frame_parse(&in, &frame) == 0)
		guest_frame(w, frame);
	memmove(w->in, in.at, in.len);
	w->in_len = in.len;
	return true;
}

struct gconn *world_dial(struct world *w, const char *addr, uint16_t port)
{
	struct net_link_config usual = net_link_config_usual(true);
	struct net_addr to = world_addr(addr);
	struct net_tuple t = {
		.guest = to,
		.remote = to.family == 6 ? usual.guest6 : usual.guest4,
		.guest_port = port,
		.remote_port = (uint16_t)(GUEST_PORT_FIRST + w->port_next++),
	};
	struct gconn *c = calloc(1, sizeof(*c));

	CHECK(c);
	CHECK_EQ(tcp_connect(w->tcp, &t, c, world_now, &c->f), 0);
	return c;
}

void world_syn(struct world *w, const char *addr, uint16_t port, uint16_t from)
{
	struct net_link_config usual = net_link_config_usual(true);
	struct tcp_segment s = { .src_port = from, .dst_port = port, .flags = TCP_SYN };
	struct net_tuple t = { .guest = usual.guest4,
		               .remote = world_addr(addr),
		               .guest_port = from,
		               .remote_port = port };
	uint8_t frame[NET_PREFIX_BYTES + 256];
	size_t len;

	s.window = 1000;
	len = frame_tcp(frame + NET_PREFIX_BYTES, &t, &s);
	put_be32(frame, (uint32_t)len);
	CHECK_EQ(send(w->card, frame, NET_PREFIX_BYTES + len, 0), NET_PREFIX_BYTES + (ssize_t)len);
	world_run(w);
}

void gconn_free(struct gconn *c)
{
	free(c->got);
	free(c);
}

void gconn_say(struct world *w, struct gconn *c, const void *data, size_t len)
{
	CHECK_EQ(c->out.len, 0);
	c->out = span_of(data, len);
	gconn_write(w, c);
	world_run(w);
}

void world_send(struct world *w, const char *addr, uint16_t port, uint16_t from, struct span data)
{
	struct net_link_config usual = net_link_config_usual(true);
	struct net_addr to = world_addr(addr);
	/* "from the remote side to the guest's": seen from here the other way round */
	struct net_tuple t = {
		.guest = to,
		.remote = to.family == 6 ? usual.guest6 : usual.guest4,
		.guest_port = port,
		.remote_port = from,
	};

	CHECK(net_link_send_udp(&w->link, &t, data));
	world_run(w);
}

/* -- the vault --------------------------------------------------------------------------------- */

/* One more frame; it goes with the next that vault_say() says. */
static void vault_add(struct world *w, int fd, size_t at)
{
	struct span head = span_of(w->frame_out->at + at, w->frame_out->len - at);
	struct egress_frame f = { 0 };
	uint16_t magic;
	uint8_t zero;
	uint32_t bytes;

	CHECK(take_le16(&head, &magic) && take_u8(&head, &f.type) && take_u8(&head, &zero) &&
	      take_le32(&head, &f.stream) && take_le32(&head, &bytes));
	f.payload = head;
	CHECK(egress_order_step(&w->order, EGRESS_FROM_VAULT, &f) <= EGRESS_DROP);
	CHECK(egress_link_commit(w->vault, fd));
}

static void vault_say(struct world *w, int fd, size_t at)
{
	vault_add(w, fd, at);
	CHECK(egress_link_flush(w->vault, NULL) == 0);
}

static struct buf *vault_out(struct world *w, size_t *ret_at)
{
	w->frame_out = egress_link_out(w->vault);
	*ret_at = w->frame_out->len;
	return w->frame_out;
}

static void vault_resolved(struct world *w, const struct egress_frame *f)
{
	struct egress_resolved r = { .fail = EGRESS_NO_NAME, .ttl_s = 5 };
	struct egress_resolve q;
	size_t at;

	CHECK_EQ(egress_parse_resolve(f->payload, &q), 0);
	w->resolves++;
	for (unsigned i = 0; i < w->names_count; i++) {
		const struct world_name *n = &w->names[i];

		if (!span_is(q.name, n->name))
			continue;
		r.fail = n->fail;
		r.ttl_s = n->ttl_s;
		for (unsigned k = 0; k < n->count; k++)
			if (q.want &
			    (n->addr[k].family == EGRESS_IP6 ? EGRESS_WANT_IP6 : EGRESS_WANT_IP4))
				r.addr[r.count++] = n->addr[k];
		if (r.fail == EGRESS_OK && r.count == 0)
			r.fail = EGRESS_NO_ADDRESS;
	}
	egress_put_resolved(vault_out(w, &at), f->stream, &r);
	vault_say(w, -1, at);
}

static void vault_connected(struct world *w, const struct egress_frame *f)
{
	struct upstream *u = &w->upstreams[w->upstreams_count];
	struct egress_connected c = { .fail = w->connect_fail };
	int fds[2] = { -1, -1 };
	size_t at;

	CHECK(w->upstreams_count < WORLD_UPSTREAMS);
	CHECK_EQ(egress_parse_connect(f->payload, &u->asked), 0);
	(void)snprintf(u->name, sizeof(u->name), "%.*s", (int)u->asked.name.len,
	               (const char *)u->asked.name.at);
	u->stream = f->stream;
	u->ended = 0;
	u->fd = -1;
	w->connects++;
	w->upstreams_count++;
	if (c.fail == EGRESS_OK && w->shared >= 0) {
		fds[1] = fcntl(w->shared, F_DUPFD_CLOEXEC, 0);
		CHECK(fds[1] >= 0);
	} else if (c.fail == EGRESS_OK) {
		int kind = u->asked.protocol == EGRESS_UDP ? SOCK_DGRAM : SOCK_STREAM;

		CHECK_EQ(socketpair(AF_UNIX, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
		u->fd = fds[0];
	}
	egress_put_connected(vault_out(w, &at), f->stream, &c);
	vault_say(w, fds[1], at);
}

static void vault_ends(struct world *w, const struct egress_frame *f)
{
	struct egress_stream *s = egress_order_find(&w->order, f->stream);
	size_t at;

	for (unsigned i = 0; i < w->upstreams_count; i++)
		if (w->upstreams[i].stream == f->stream)
			w->upstreams[i].ended = f->type;
	if (!s || (s->kind == EGRESS_REQUEST && f->type == EGRESS_END))
		return;
	if (s->kind == EGRESS_REQUEST && s->vault.half >= EGRESS_HALF_ENDED)
		return;
	if (s->kind == EGRESS_REQUEST ||
	    s->vault.half == EGRESS_HALF_NONE) /* given up before there was an answer */
		egress_put_reset(vault_out(w, &at), f->stream, EGRESS_CANCELLED);
	else
		egress_put(vault_out(w, &at), EGRESS_END, f->stream, span_of(NULL, 0));
	vault_say(w, -1, at);
}

static void vault_frame_in(struct world *w, const struct egress_frame *f)
{
	enum egress_verdict v = EGRESS_DROP;

	if (!w->wild)
		v = egress_order_step(&w->order, EGRESS_FROM_GATE, f);
	if (v == EGRESS_DROP)
		return;
	if (v != EGRESS_PASS)
		test_fail(__FILE__, __LINE__, "the gate sent %s: %s", egress_type_name(f->type),
		          egress_verdict_word(v));
	switch (f->type) {
	case EGRESS_RESOLVE:
		w->held_stream = f->stream;
		if (!w->hold)
			vault_resolved(w, f);
		break;
	case EGRESS_CONNECT:
		w->held_stream = f->stream;
		w->held_len = f->payload.len;
		memcpy(w->held, f->payload.at, f->payload.len);
		if (!w->hold)
			vault_connected(w, f);
		break;
	case EGRESS_REQUEST:
		w->request_stream = f->stream;
		break;
	case EGRESS_END:
	case EGRESS_RESET:
		vault_ends(w, f);
		break;
	case EGRESS_POLICY_OK:
		CHECK_EQ(egress_parse_u32(f->payload, &w->policy_ok), 0);
		break;
	default:
		break;
	}
}

static bool vault_run(struct world *w)
{
	struct egress_frame f;
	struct err e = { 0 };
	bool some = false;
	int fd;

	if (egress_link_recv(w->vault, &e) < 0)
		return false;
	while (egress_link_next(w->vault, &f, &fd) == 0) {
		vault_frame_in(w, &f);
		some = true;
	}
	CHECK(egress_link_flush(w->vault, &e) == 0);
	return some;
}

void world_revoke(struct world *w, uint32_t stream, uint32_t generation)
{
	size_t at;

	egress_put_u32(vault_out(w, &at), EGRESS_REVOKED, stream, generation);
	vault_say(w, -1, at);
	world_run(w);
}

void world_cut_answer(struct world *w, const char *body, enum egress_fail why)
{
	struct http_head head = { .status = 200, .framing = HTTP_BODY_STREAM };
	size_t at;

	egress_put_response(vault_out(w, &at), w->request_stream, &head);
	vault_add(w, -1, at);
	for (int i = 0; i < 2; i++) {
		egress_put(vault_out(w, &at), EGRESS_BODY, w->request_stream, span_str(body));
		vault_add(w, -1, at);
	}
	if (why == EGRESS_REVOKED_BY_POLICY)
		egress_put_u32(vault_out(w, &at), EGRESS_REVOKED, w->request_stream, 2);
	else
		egress_put_reset(vault_out(w, &at), w->request_stream, why);
	vault_say(w, -1, at);
	world_run(w);
}

void world_name(struct world *w, const char *name, const char *addrs, uint32_t ttl_s)
{
	struct world_name *n = NULL;

	for (unsigned i = 0; i < w->names_count && !n; i++)
		if (strcmp(w->names[i].name, name) == 0)
			n = &w->names[i];
	if (!n)
		n = &w->names[w->names_count++];
	CHECK(w->names_count <= WORLD_NAMES);
	*n = (struct world_name){ .ttl_s = ttl_s };
	(void)snprintf(n->name, sizeof(n->name), "%s", name);
	while (*addrs) {
		size_t len = strcspn(addrs, " ");
		char text[INET6_ADDRSTRLEN];
		struct net_addr a;

		(void)snprintf(text, sizeof(text), "%.*s", (int)len, addrs);
		addrs += len + (addrs[len] == ' ');
		a = world_addr(text);
		CHECK(n->count < WORLD_ADDRS);
		n->addr[n->count].family = a.family;
		memcpy(n->addr[n->count].bytes, a.at, 16);
		n->count++;
	}
}

void world_connect_held(struct world *w, enum egress_fail fail)
{
	struct egress_frame f = { .type = EGRESS_CONNECT,
		                  .stream = w->held_stream,
		                  .payload = span_of(w->held, w->held_len) };

	w->connect_fail = (uint8_t)fail;
	vault_connected(w, &f);
	world_run(w);
}

void world_answer_held(struct world *w, const char *addr)
{
	struct egress_resolved r = { .ttl_s = 60, .count = 1 };
	struct net_addr a = world_addr(addr);
	size_t at;

	r.addr[0].family = a.family;
	memcpy(r.addr[0].bytes, a.at, 16);
	egress_put_resolved(vault_out(w, &at), w->held_stream, &r);
	vault_say(w, -1, at);
	world_run(w);
}

void world_name_fails(struct world *w, const char *name, enum egress_fail fail)
{
	world_name(w, name, "", 5);
	for (unsigned i = 0; i < w->names_count; i++)
		if (strcmp(w->names[i].name, name) == 0)
			w->names[i].fail = (uint8_t)fail;
}

/* -- the supervisor ---------------------------------------------------------------------------- */

static void keep_record(struct world *w, struct span payload)
{
	struct record *r = &w->records[w->records_count];

	CHECK(w->records_count < WORLD_RECORDS);
	CHECK_EQ(control_parse_record(payload, &r->r), 0);
	(void)snprintf(r->host, sizeof(r->host), "%.*s", (int)r->r.host.len,
	               (const char *)r->r.host.at);
	w->records_count++;
}

static bool control_run(struct world *w)
{
	uint8_t room[CONTROL_PACKET_MAX];
	struct control_packet p;
	struct span packet;
	bool some = false;
	int fd;

	while (!w->deaf && control_recv(w->control, room, &packet, &fd) == 0) {
		CHECK_EQ(fd, -1);
		CHECK_EQ(control_parse_packet(packet, CONTROL_FROM_GATE, &p), 0);
		if (p.kind == CONTROL_READY) {
			w->ready = true;
		} else if (p.kind == CONTROL_RECORD) {
			if (!w->quiet_records)
				keep_record(w, p.payload);
		} else {
			memcpy(w->stats_room, p.payload.at, p.payload.len);
			CHECK_EQ(control_parse_stats(span_of(w->stats_room, p.payload.len),
			                             &w->stats),
			         0);
			w->stats_answers++;
		}
		some = true;
	}
	return some;
}

void world_control(struct world *w, const struct buf *packet, int fd)
{
	CHECK(buf_ok(packet));
	CHECK_EQ(control_send(w->control, buf_span(packet), fd), 0);
	world_run(w);
}

void world_ask_stats(struct world *w, uint32_t serial)
{
	uint8_t room[64];
	struct buf out;

	buf_init(&out, room, sizeof(room));
	control_put_u32(&out, CONTROL_STATS, serial);
	world_control(w, &out, -1);
}

uint64_t world_stat(struct world *w, const char *name)
{
	world_ask_stats(w, 7);
	for (unsigned i = 0; i < w->stats.count; i++)
		if (span_is(w->stats.item[i].name, name))
			return w->stats.item[i].value;
	test_fail(__FILE__, __LINE__, "no count %s", name);
}

unsigned world_said(const struct world *w, enum egress_event event, enum policy_reason why)
{
	unsigned n = 0;

	for (unsigned i = 0; i < w->records_count; i++)
		n += w->records[i].r.event == event && w->records[i].r.reason == why;
	return n;
}

const struct record *world_last(const struct world *w)
{
	CHECK(w->records_count > 0);
	return &w->records[w->records_count - 1];
}

/* -- all of it --------------------------------------------------------------------------------- */

void world_run(struct world *w)
{
	for (unsigned n = 0, quiet = 0; quiet < QUIET_ROUNDS; n++) {
		bool some = false;

		if (n >= ROUNDS_MAX)
			test_fail(__FILE__, __LINE__, "it never comes to rest");
		if (w->ended == 0) {
			int r = gate_turn(w->gate, 0, &w->fault);

			w->ended = r;
		}
		some |= !w->asleep && guest_run(w);
		some |= vault_run(w);
		some |= control_run(w);
		quiet = some ? 0 : quiet + 1;
	}
}

void world_wait(struct world *w, uint64_t ms)
{
	uint64_t end = world_now + ms;

	while (world_now < end) {
		uint64_t step = end - world_now < 250 ? end - world_now : 250;

		world_now += step;
		world_run(w);
	}
}

void world_policy(struct world *w, uint32_t generation, const char *yaml)
{
	struct policy_draft *d;
	struct err e = { 0 };
	uint8_t *tlv;
	size_t len, at;
	int none = -1;

	CHECK_OK(policy_draft_new(policy_preset_dir, &none, &d, &e), &e);
	CHECK_OK(policy_draft_file(d, "t.yaml", span_str(yaml), &e), &e);
	CHECK_OK(policy_draft_compile(d, generation, &tlv, &len, &e), &e);
	egress_put_policy(vault_out(w, &at), generation, span_of(tlv, len));
	vault_say(w, -1, at);
	free(tlv);
	policy_draft_free(d);
	world_run(w);
	CHECK_STR(w->fault.text, "");
	CHECK_EQ(w->policy_ok, generation);
}

void world_rules(struct world *w, uint32_t generation, const char *rules)
{
	char yaml[8192];

	(void)snprintf(yaml, sizeof(yaml), "version: 1\nnetwork:\n  rules:\n%s\n", rules);
	world_policy(w, generation, yaml);
}

static void guest_new(struct world *w)
{
	struct net_link_config c = net_link_config_usual(true);
	struct net_mac guest = c.guest_mac;
	struct net_out out = { .emit = guest_emit, .ctx = w };
	struct tcp_config t = {
		.flows_max = TCP_FLOWS_MAX,
		.half_open_max = TCP_HALF_OPEN_MAX,
		.blocks = 64,
		.link = &w->link,
		.out = out,
		.event = guest_event,
		.ctx = w,
	};
	struct err e = { 0 };

	c.guest_mac = c.router_mac;
	c.router_mac = guest;
	net_link_init(&w->link, &c, out);
	CHECK_OK(tcp_table_new(&t, &w->tcp, &e), &e);
	w->in = malloc(CARD_IN);
	CHECK(w->in);
}

static int pair(int kind, int *ret_far)
{
	int fds[2];

	CHECK_EQ(socketpair(AF_UNIX, kind | SOCK_CLOEXEC, 0, fds), 0);
	*ret_far = fds[1];
	return fds[0];
}

struct world *world_new(const char *rules)
{
	struct world *w = calloc(1, sizeof(*w));
	struct gate_config c = { .with_ip6 = true, .now_ms = world_ms };
	struct rlimit l;
	struct err e = { 0 };
	size_t at;
	int vault;

	CHECK(w);
	(void)sigaction(SIGPIPE, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL);
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &l), 0);
	l.rlim_cur = l.rlim_max < 40000 ? l.rlim_max : 40000;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &l), 0);
	w->shared = -1;
	w->records = calloc(WORLD_RECORDS, sizeof(*w->records));
	w->upstreams = calloc(WORLD_UPSTREAMS, sizeof(*w->upstreams));
	w->slots = calloc(WORLD_SLOTS, sizeof(*w->slots));
	CHECK(w->records && w->upstreams && w->slots);
	guest_new(w);
	c.card_fd = pair(SOCK_STREAM, &w->card);
	w->card_near = c.card_fd;
	c.vault_fd = pair(SOCK_STREAM, &vault);
	c.control_fd = pair(SOCK_SEQPACKET, &w->control);
	CHECK_OK(egress_link_new(vault, EGRESS_FROM_VAULT, &w->vault, &e), &e);
	egress_order_init(&w->order, w->slots, WORLD_SLOTS, EGRESS_STREAMS_MAX);
	CHECK_OK(ca_new(clock_real_ns() / 1000000000, false, &w->ca, &e), &e);
	c.ca = w->ca;
	CHECK_OK(gate_new(&c, &w->gate, &e), &e);
	CHECK_OK(gate_begin(w->gate, &e), &e);
	egress_put_u32(vault_out(w, &at), EGRESS_HELLO, 0, EGRESS_VERSION);
	vault_say(w, -1, at);
	world_run(w);
	CHECK(w->ready);
	if (rules)
		world_rules(w, 1, rules);
	return w;
}

void world_free(struct world *w)
{
	gate_free(w->gate);
	ca_free(w->ca);
	for (unsigned i = 0; i < w->upstreams_count; i++)
		if (w->upstreams[i].fd >= 0)
			(void)close(w->upstreams[i].fd);
	(void)close(w->card);
	if (w->control >= 0)
		(void)close(w->control);
	egress_link_free(w->vault);
	tcp_table_free(w->tcp);
	free(w->in);
	free(w->records);
	free(w->upstreams);
	free(w->slots);
	free(w);
}
