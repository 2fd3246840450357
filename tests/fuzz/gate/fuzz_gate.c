/*
 * The whole loop of the gate: its card, its vault, its supervisor, its upstreams, all real sockets.
 * The input is a list of what they do: frames of the guest, whole ones and such as an honest
 * endpoint makes; answers of the vault in its order; then, if the input says so, frames and bytes
 * of a vault that was taken over. Contracts: whatever the guest sends never ends the gate; what a
 * hostile vault sends ends it with a reason or not at all; it always comes to rest; it says nothing
 * out of its order; at the end nothing is left.
 */
#include "../../unit/gate/world.h"
#include "../../unit/net/frames.h"
#include "policy/draft.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CONNS_MAX = 12, STEPS_MAX = 120, BYTES_MAX = 2048 };

static const char *const addrs[] = { "93.184.216.80", "93.184.216.22",   "93.184.216.43",
	                             "2606:2800::80", "169.254.169.254", "93.184.216.99",
	                             "100.96.0.1",    "255.255.255.255" };
static const char *const names[] = {
	"web.example",  "raw.example", "tls.example", "read.example",
	"gone.example", "localhost",   "no.test",     "x.wild.example"
};
static const uint16_t ports[] = { 80, 22, 443, 53, 3478, 8443, 0, 65535 };

static const char rules_1[] = "    - { host: web.example, port: 80 }\n"
			      "    - { host: raw.example, port: 22 }\n"
			      "    - { host: raw.example, port: 3478, protocol: udp }\n"
			      "    - { host: tls.example, port: [443, 8443] }\n"
			      "    - { host: read.example, port: 443, inspect: true }\n"
			      "    - { host: '**.wild.example', port: 443 }\n";
static const char rules_2[] = "    - { host: web.example, port: 80, http: [ { method: GET } ] }\n"
			      "    - { host: raw.example, port: 22 }\n"
			      "    - { address: 93.184.216.99, port: 22 }\n";

/* The harness's ends of a test: here they are finds. */
static _Noreturn void find(const char *file, int line, const char *why)
{
	(void)fprintf(stderr, "%s:%d: %s\n", file, line, why);
	abort();
}

_Noreturn void test_fail(const char *file, int line, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	find(file, line, text);
}

void test_check_eq(const char *file, int line, const char *what, long long a, long long b)
{
	if (a != b)
		find(file, line, what);
}

void test_check_str(const char *file, int line, const char *what, const char *a, const char *b)
{
	if (!a || !b || strcmp(a, b) != 0)
		find(file, line, what);
}

void test_check_ok(const char *file, int line, const char *what, int r, const struct err *e)
{
	if (r < 0)
		find(file, line, e ? e->text : what);
}

struct guest {
	struct world *w;
	struct gconn *conns[CONNS_MAX];
	uint8_t *said[CONNS_MAX]; /* what a connection still writes from */
	unsigned count, steps;
	bool hostile; /* something came that may end it */
	uint32_t generation;
};

/* -- the guest --------------------------------------------------------------------------------- */

static void card_say(struct guest *g, const uint8_t *frame, size_t len)
{
	uint8_t at[NET_PREFIX_BYTES + BYTES_MAX];

	put_be32(at, (uint32_t)len);
	memcpy(at + NET_PREFIX_BYTES, frame, len);
	(void)!send(g->w->card, at, NET_PREFIX_BYTES + len, MSG_DONTWAIT | MSG_NOSIGNAL);
	world_run(g->w);
}

/* As it is, or with what every frame of the guest's has to have. */
static void any_frame(struct guest *g, uint8_t how, struct span bytes)
{
	struct net_link_config usual = net_link_config_usual(true);
	uint8_t frame[BYTES_MAX + 256] = { 0 };
	struct net_addr to = world_addr(addrs[how & 7]);
	struct net_addr from = to.family == 6 ? usual.guest6 : usual.guest4;
	size_t len = bytes.len;

	if (bytes.len < NET_ETH_BYTES || bytes.len > 1500)
		return;
	if (how & 8) {
		len = frame_ip(frame, &from, &to, bytes.at[0],
		               span_of(bytes.at + 1, bytes.len - 1));
	} else {
		memcpy(frame, bytes.at, bytes.len);
		if (how & 16)
			(void)frame_eth(frame, bytes.at[12] & 1 ? NET_TYPE_IP6 : NET_TYPE_IP4);
		if (how & 32 && bytes.len > NET_ETH_BYTES + 60)
			frame_fix_ip4(frame);
	}
	card_say(g, frame, len);
}

static void segment(struct guest *g, uint8_t how, struct span bytes)
{
	struct net_link_config usual = net_link_config_usual(true);
	struct tcp_segment s = { 0 };
	struct net_tuple t = { .remote = world_addr(addrs[how & 7]) };
	uint8_t frame[BYTES_MAX + 256];
	uint8_t port, flags;

	if (!take_u8(&bytes, &port) || !take_u8(&bytes, &flags) || !take_be32(&bytes, &s.seq) ||
	    !take_be32(&bytes, &s.ack) || !take_be16(&bytes, &s.window))
		return;
	t.guest = t.remote.family == 6 ? usual.guest6 : usual.guest4;
	t.guest_port = s.src_port = (uint16_t)(20000 + (port >> 3) % CONNS_MAX);
	t.remote_port = s.dst_port = ports[port & 7];
	s.flags = flags;
	s.data = bytes;
	card_say(g, frame, frame_tcp(frame, &t, &s));
}

static void question(struct guest *g, uint8_t how, struct span bytes)
{
	uint8_t at[DNS_QUERY_MAX + 8];
	size_t len = world_question(at, 7, names[how & 7], how & 8 ? DNS_AAAA : DNS_A);

	if (how & 16) { /* a datagram of its own */
		if (bytes.len <= 1200)
			world_send(g->w, addrs[how & 7], ports[how >> 5], 5353, bytes);
		return;
	}
	for (size_t i = 0; i < bytes.len && i < 4 && how & 32; i++)
		at[bytes.at[i] % len] ^= bytes.at[(i + 1) % bytes.len];
	world_send(g->w, "100.96.0.1", 53, 5353, span_of(at, len));
}

static void say(struct guest *g, uint8_t which, struct span bytes)
{
	struct gconn *c = g->count > 0 ? g->conns[which % g->count] : NULL;
	uint8_t *copy;

	if (!c || c->out.len > 0 || bytes.len == 0)
		return;
	copy = malloc(bytes.len);
	CHECK(copy);
	memcpy(copy, bytes.at, bytes.len);
	free(g->said[which % g->count]);
	g->said[which % g->count] = copy;
	gconn_say(g->w, c, copy, bytes.len);
}

static void end_conn(struct guest *g, uint8_t which)
{
	struct gconn *c = g->count > 0 ? g->conns[(which >> 1) % g->count] : NULL;

	if (!c || !c->f)
		return;
	if (which & 1)
		tcp_abort(g->w->tcp, c->f, world_ms());
	else if (c->open)
		tcp_shutdown(g->w->tcp, c->f, world_ms());
	world_run(g->w);
}

/* -- the others -------------------------------------------------------------------------------- */

static void upstream(struct guest *g, uint8_t which, struct span bytes)
{
	struct world *w = g->w;
	struct upstream *u =
		w->upstreams_count > 0 ? &w->upstreams[(which >> 2) % w->upstreams_count] : NULL;

	if (!u || u->fd < 0)
		return;
	if ((which & 3) == 3) {
		(void)close(u->fd);
		u->fd = -1;
	} else if ((which & 3) == 2) {
		(void)shutdown(u->fd, SHUT_WR);
	} else {
		(void)!send(u->fd, bytes.at, bytes.len, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	world_run(w);
}

static void put_word(struct buf *b, uint8_t what, uint32_t stream, struct span bytes)
{
	static struct http_head h;
	struct http_trailers t = { .count = 1 };

	switch (what & 7) {
	case 0:
		memset(&h, 0, sizeof(h));
		h.status = bytes.len > 0 && bytes.at[0] & 1 ? 200 : 103;
		h.framing = bytes.len > 1 ? bytes.at[1] & 3 : HTTP_BODY_STREAM;
		h.length = h.framing == HTTP_BODY_LENGTH ? bytes.len : 0;
		egress_put_response(b, stream, &h);
		return;
	case 1:
		egress_put(b, EGRESS_BODY, stream, bytes);
		return;
	case 2:
		t.fields[0] = (struct http_field){ span_str("x-a"), span_str("b") };
		egress_put_trailers(b, stream, &t);
		return;
	case 3:
		egress_put(b, EGRESS_END, stream, span_of(NULL, 0));
		return;
	case 4:
		egress_put_reset(b, stream, (enum egress_fail)(1 + (what >> 3) % 18));
		return;
	case 5:
		egress_put_u32(b, EGRESS_CREDIT, stream, 1 + (uint32_t)what * 16);
		return;
	default:
		egress_put_u32(b, EGRESS_REVOKED, stream, 2);
		return;
	}
}

/* What its order permits, on the stream of a request or of a connection. */
static void vault_says(struct guest *g, uint8_t what, struct span bytes)
{
	static uint8_t room[EGRESS_HEADER_BYTES + EGRESS_HEAD_MAX + EGRESS_BODY_MAX];
	struct world *w = g->w;
	uint32_t stream = what & 0x80 ? w->held_stream : w->request_stream;
	struct egress_stream *s = egress_order_find(&w->order, stream);
	struct egress_frame f;
	struct span in;
	struct buf b;

	if (w->wild || !s || (s->kind != EGRESS_REQUEST && (what & 7) != 4 && (what & 7) < 6))
		return;
	buf_init(&b, room, sizeof(room));
	put_word(&b, what & 0x7f, stream, bytes);
	in = buf_span(&b);
	if (!buf_ok(&b) || egress_parse_frame(&in, EGRESS_FROM_VAULT, &f) < 0 ||
	    egress_order_step(&w->order, EGRESS_FROM_VAULT, &f) != EGRESS_PASS)
		return;
	buf_put_span(egress_link_out(w->vault), buf_span(&b));
	CHECK(egress_link_commit(w->vault, -1));
	CHECK_EQ(egress_link_flush(w->vault, NULL), 0);
	world_run(w);
}

/* A vault that was taken over: a frame of any type, or bytes. */
static void vault_lies(struct guest *g, uint8_t type, struct span bytes)
{
	uint8_t at[EGRESS_HEADER_BYTES + BYTES_MAX] = { 0 };
	struct world *w = g->w;
	struct iovec iov = { .iov_base = at };
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof(int))];
	} control = { .bytes = { 0 } };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fds[2];
	struct buf b;

	if (bytes.len < 4 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return;
	g->hostile = w->wild = true;
	if ((type & 31) == 31) {
		memcpy(at, bytes.at, bytes.len);
		iov.iov_len = bytes.len;
	} else {
		buf_init(&b, at, sizeof(at));
		buf_put_le16(&b, EGRESS_MAGIC);
		buf_put_u8(&b, type & 31);
		buf_put_u8(&b, 0);
		buf_put_le32(&b, bytes.at[0] & 1 ? w->held_stream : bytes.at[0] >> 1);
		buf_put_le32(&b, (uint32_t)bytes.len - 1);
		buf_put_span(&b, span_of(bytes.at + 1, bytes.len - 1));
		iov.iov_len = b.len;
	}
	if (type & 32) {
		m.msg_control = control.bytes;
		m.msg_controllen = sizeof(control.bytes);
		control.align = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)),
			                          .cmsg_level = SOL_SOCKET,
			                          .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.align), &fds[0], sizeof(fds[0]));
	}
	(void)!sendmsg(egress_link_fd(w->vault), &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)close(fds[0]);
	(void)close(fds[1]);
	world_run(w);
}

static void supervisor(struct guest *g, uint8_t what)
{
	uint8_t room[64];
	struct buf b;

	if ((what & 3) == 0) {
		world_wait(g->w, (uint64_t)(what >> 2) * 250);
		return;
	}
	if ((what & 3) == 1 && !g->w->wild) {
		world_rules(g->w, ++g->generation, what & 4 ? rules_2 : rules_1);
		return;
	}
	buf_init(&b, room, sizeof(room));
	control_put_u32(&b, what & 4 ? CONTROL_STATS : CONTROL_REST, what >> 3 & 1);
	(void)!control_send(g->w->control, buf_span(&b), -1);
	world_run(g->w);
}

/* -- all of it --------------------------------------------------------------------------------- */

static void step(struct guest *g, struct span *in)
{
	struct span bytes;
	uint8_t op, how, len;

	if (!take_u8(in, &op) || !take_u8(in, &how) || !take_u8(in, &len))
		return;
	(void)!take_span(in, len < in->len ? len : in->len, &bytes);
	switch (op % 11) {
	case 0:
		any_frame(g, how, bytes);
		break;
	case 1:
		segment(g, how, bytes);
		break;
	case 2:
	case 3:
		if (g->count == CONNS_MAX)
			break;
		g->conns[g->count++] = world_dial(g->w, addrs[how & 7], ports[how >> 3 & 7]);
		world_run(g->w);
		break;
	case 4:
	case 5:
		say(g, how, bytes);
		break;
	case 6:
		end_conn(g, how);
		break;
	case 7:
		question(g, how, bytes);
		break;
	case 8:
		upstream(g, how, bytes);
		break;
	case 9:
		if (op >= 11 * 12)
			vault_lies(g, how, bytes);
		else
			vault_says(g, how, bytes);
		break;
	default:
		supervisor(g, how);
		break;
	}
}

static void begin(struct guest *g)
{
	struct world *w = world_new(rules_1);

	g->w = w;
	g->generation = 1;
	w->quiet_records = true;
	world_name(w, "web.example", "93.184.216.80 2606:2800::80", 300);
	world_name(w, "raw.example", "93.184.216.22", 30);
	world_name(w, "tls.example", "93.184.216.43", 300);
	world_name(w, "read.example", "93.184.216.43", 300);
	world_name(w, "x.wild.example", "169.254.169.254", 300);
	world_pin(w, "web.example", "93.184.216.80");
	world_pin(w, "raw.example", "93.184.216.22");
	world_pin(w, "tls.example", "93.184.216.43");
	world_pin(w, "read.example", "93.184.216.43");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = span_of(data, size);
	struct guest g = { 0 };

	begin(&g);
	while (in.len > 2 && g.w->ended == 0 && g.steps++ < STEPS_MAX)
		step(&g, &in);
	if (g.w->ended != 0 && !g.hostile)
		find(__FILE__, __LINE__, g.w->fault.text);
	world_free(g.w);
	for (unsigned i = 0; i < g.count; i++) {
		gconn_free(g.conns[i]);
		free(g.said[i]);
	}
	return 0;
}
