/*
 * Theory of operation
 *
 * An upstream is DIALING, shakes HANDS, is OPEN, and is dead from the moment anything goes wrong.
 * Dead ones are freed by upstream_run_all(), which nobody calls from within, so that no caller
 * loses an upstream under its feet. Whatever changes one touches it, and all that were touched are
 * run before the loop waits: read bytes go through TLS into the http_conn, which tells the
 * requests; what it and they have to say goes through TLS to the socket.
 *
 * Requests that come while a connection to their server is being made wait for it: if it turns out
 * to be of HTTP/2 it carries them all. If not, the first has it and the others get their own.
 *
 * Nothing is read from a socket while there are bytes that the http_conn could not take (the window
 * of a request is full) or while the link to the gate has no room. So a server that is faster than
 * the guest is held back by TCP, and memory is bounded by windows.
 */
#include "vault/upstream.h"

#include "http/conn.h"
#include "vault/roots.h"
#include "vault/tls.h"
#include "vault/upstream_inner.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

enum {
	OUT_HIGH = 64 << 10,     /* of what is encrypted and not sent */
	READ_CAREFUL = 32 << 10, /* from a socket at once, when half of VAULT_HELD_MAX is held */
};

void upstream_touch(struct upstream *u)
{
	u->touched = true;
	u->v->touched = true;
}

struct http_conn *upstream_conn(struct upstream *u)
{
	return u->conn;
}

bool upstream_is_used(const struct upstream *u)
{
	return u->used;
}

/* --- what the http_conn tells --- */

static struct request *find(struct upstream *u, uint32_t stream)
{
	struct request *q = u->requests;

	while (q && request_stream(q) != stream)
		q = request_next(q);
	return q;
}

static void on_head(void *user, uint32_t stream, const struct http_head *h)
{
	struct request *q = find(user, stream);

	if (q)
		request_head(q, h);
}

static void on_body(void *user, uint32_t stream, struct span bytes)
{
	struct upstream *u = user;
	struct request *q = find(u, stream);

	u->v->stats.received_bytes += bytes.len;
	if (q)
		request_body(q, bytes);
}

static void on_trailers(void *user, uint32_t stream, const struct http_trailers *t)
{
	struct request *q = find(user, stream);

	if (q)
		request_trailers(q, t);
}

static void on_end(void *user, uint32_t stream)
{
	struct request *q = find(user, stream);

	if (q)
		request_ended(q);
}

static void on_refused(void *user, uint32_t stream, enum http_reason why)
{
	struct request *q = find(user, stream);

	if (q)
		request_refused(q, why);
}

static void on_reset(void *user, uint32_t stream, enum http_reset why)
{
	struct request *q = find(user, stream);

	if (q)
		request_was_reset(q, why);
}

static void on_room(void *user, uint32_t stream)
{
	struct request *q = find(user, stream);

	if (q)
		request_room(q);
}

static const struct http_events events = {
	.head = on_head,
	.body = on_body,
	.trailers = on_trailers,
	.end = on_end,
	.refused = on_refused,
	.reset = on_reset,
	.room = on_room,
};

/* --- life --- */

void upstream_free(struct upstream *u)
{
	struct vault *v = u->v;
	struct upstream **at = &v->upstreams;

	while (*at != u)
		at = &(*at)->next;
	*at = u->next;
	v->upstream_count--;
	watch_free(u->watch);
	http_conn_free(u->conn);
	tls_free(u->tls);
	own_close_fd(&u->fd);
	vault_hold(v, &u->held, 0);
	explicit_bzero(u->plain,
	               u->len + u->at < sizeof(u->plain) ? u->len + u->at : sizeof(u->plain));
	free(u);
}

static void fail_all(struct upstream *u, enum egress_fail why, long fault, const char *words)
{
	while (u->requests) {
		struct request *q = u->requests;

		u->requests = request_next(q);
		request_set_next(q, NULL);
		request_tie(q, NULL);
		request_failed(q, why, fault, words);
	}
}

void upstream_die(struct upstream *u, enum egress_fail why, long fault, const char *words)
{
	u->dead = true;
	upstream_touch(u);
	fail_all(u, why, fault, words);
}

static void set_watch(struct upstream *u, bool writes)
{
	bool reads = u->state != UP_DIALING && !u->eof && u->len == 0 && !u->v->choked;

	watch_set(u->watch, reads, writes || u->state == UP_DIALING);
}

/* --- bytes --- */

/* What the socket takes. True if something is left. */
static bool flush(struct upstream *u)
{
	for (;;) {
		struct span out = u->tls ? tls_output(u->tls) : http_conn_output(u->conn);
		ssize_t n;

		if (out.len == 0)
			return false;
		n = send(u->fd, out.at, out.len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return true;
		if (n < 0) {
			upstream_die(u, EGRESS_CLOSED, 0, NULL);
			return false;
		}
		if (u->tls)
			tls_sent(u->tls, (size_t)n);
		else
			http_conn_sent(u->conn, (size_t)n);
	}
}

/* From the http_conn through TLS. */
static void encrypt(struct upstream *u)
{
	while (tls_output(u->tls).len < OUT_HIGH) {
		struct span out = http_conn_output(u->conn);
		int n;

		if (out.len == 0)
			return;
		if (out.len > OUT_HIGH)
			out.len = OUT_HIGH;
		n = tls_write(u->tls, out);
		if (n < 0) {
			upstream_die(u, EGRESS_PROTOCOL, 0, NULL);
			return;
		}
		if (n == 0)
			return;
		http_conn_sent(u->conn, (size_t)n);
	}
}

/* True if something is left that the socket does not take. */
static bool write_out(struct upstream *u)
{
	bool left = false;

	if (u->state == UP_OPEN && u->tls)
		encrypt(u);
	if (u->dead)
		return false;
	if (u->tls || u->state == UP_OPEN)
		left = flush(u);
	/* there is room behind it now: what waited in the http_conn follows */
	if (!left && !u->dead && u->state == UP_OPEN && http_conn_output(u->conn).len > 0)
		upstream_touch(u);
	return left;
}

static void set_plain(struct upstream *u, size_t n)
{
	u->at = 0;
	u->len = n;
	u->plain_used = n > u->plain_used ? n : u->plain_used;
}

/* More into plain, which is empty. False: there is nothing now. */
static bool decrypt(struct upstream *u)
{
	int n;

	if (!u->tls)
		return false;
	n = tls_read(u->tls, u->plain, sizeof(u->plain));
	if (n == -EAGAIN)
		return false;
	if (n <= 0) {
		if (n < 0 && !u->eof) {
			upstream_die(u, EGRESS_PROTOCOL, 0, NULL);
			return false;
		}
		u->farewell |= n == 0;
		u->eof = true;
		return false;
	}
	set_plain(u, (size_t)n);
	return true;
}

/* As much as the requests have windows for. */
static void take_plain(struct upstream *u)
{
	while (!u->dead && !peer_is_choked(u->v)) {
		struct span in = span_of(u->plain + u->at, u->len);
		size_t had = in.len;

		if (had == 0 && !decrypt(u))
			break;
		in = span_of(u->plain + u->at, u->len);
		had = in.len;
		if (http_conn_recv(u->conn, upstream_now_ms(u), &in) < 0) {
			(void)flush(u);
			if (!u->dead)
				upstream_die(u, EGRESS_PROTOCOL, 0, NULL);
			return;
		}
		u->at += had - in.len;
		u->len = in.len;
		if (in.len == had)
			break; /* a window is full */
	}
}

static void take_eof(struct upstream *u)
{
	/* what ends with the connection is whole only if nobody else can have ended that */
	if ((!u->tls || u->farewell) && http_conn_recv_eof(u->conn) < 0)
		u->dead = true; /* which was told to its request */
	upstream_die(u, EGRESS_CLOSED, 0, NULL);
}

/* --- the way to an open connection --- */

static struct request *longest_waiting(const struct upstream *u)
{
	struct request *got = NULL;

	for (struct request *q = u->requests; q; q = request_next(q))
		got = request_stream(q) == 0 ? q : got;
	return got;
}

static void untie(struct upstream *u, struct request *q)
{
	struct request *last = u->requests;

	if (last == q) {
		u->requests = request_next(q);
	} else {
		while (request_next(last) != q)
			last = request_next(last);
		request_set_next(last, request_next(q));
	}
	request_set_next(q, NULL);
	request_tie(q, NULL);
}

/* Those that waited for it: as many as it can carry. */
static void begin_requests(struct upstream *u)
{
	struct request *q;

	while (!u->dead && (q = longest_waiting(u)) != NULL) {
		if (http_conn_can_open(u->conn)) {
			request_ready(q);
			continue;
		}
		untie(u, q);
		if (!upstream_get(u->v, &u->key, false, q))
			request_failed(q, EGRESS_LIMIT, 0, NULL);
	}
}

static void open_conn(struct upstream *u)
{
	const struct http_conn_opts opts = {
		.client = true,
		.http2 = u->tls && tls_is_h2(u->tls),
		.window_bytes = EGRESS_WINDOW_BYTES,
	};

	if (http_conn_new(&opts, &events, u, &u->conn, NULL) < 0) {
		upstream_die(u, EGRESS_INTERNAL, 0, NULL);
		return;
	}
	u->state = UP_OPEN;
	u->h2 = opts.http2;
	u->until_ms = 0;
	upstream_touch(u);
	begin_requests(u);
}

static void shake_hands(struct upstream *u)
{
	const char *words = NULL;
	long fault = 0;
	int r = tls_handshake(u->tls);

	if (r == -EAGAIN)
		return;
	if (r == 0) {
		open_conn(u);
		return;
	}
	(void)flush(u); /* the alert that says why */
	if (u->dead)
		return;
	if (r == -EKEYREJECTED)
		fault = tls_fault(u->tls, &words);
	upstream_die(u, r == -EKEYREJECTED ? EGRESS_CERTIFICATE : EGRESS_PROTOCOL, fault, words);
}

static void on_connected(struct upstream *u)
{
	socklen_t len = sizeof(int);
	struct err e = { 0 };
	SSL_CTX *context;
	int error = 0;

	if (getsockopt(u->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error) {
		upstream_die(u, flow_fail_of(error), 0, NULL);
		return;
	}
	u->until_ms = upstream_now_ms(u) + VAULT_HANDSHAKE_MS;
	if (!u->key.tls) {
		open_conn(u);
		return;
	}
	u->state = UP_HANDS;
	if (roots_context(u->v->roots, &context, &e) < 0 ||
	    tls_new(context, &u->key.name, !u->key.h1, &u->tls, &e) < 0) {
		upstream_die(u, EGRESS_INTERNAL, 0, NULL);
		return;
	}
	shake_hands(u);
}

static void read_socket(struct upstream *u)
{
	uint8_t *to = u->plain;
	size_t room = u->tls ? tls_room(u->tls, &to) : sizeof(u->plain);
	ssize_t n;

	if (room == 0)
		return; /* the vault was choked; it is watched again when it is not */
	/* what was touched once stays: large pieces are for times when there is memory */
	if (u->v->held_bytes > VAULT_HELD_MAX / 2 && room > READ_CAREFUL)
		room = READ_CAREFUL;
	n = recv(u->fd, to, room, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		upstream_die(u, u->state == UP_OPEN ? EGRESS_CLOSED : flow_fail_of(errno), 0, NULL);
		return;
	}
	if (n == 0) {
		u->eof = true;
		if (u->state != UP_OPEN)
			upstream_die(u, EGRESS_CLOSED, 0, NULL);
		return;
	}
	if (u->tls)
		tls_came(u->tls, (size_t)n);
	else
		set_plain(u, (size_t)n);
}

static void on_socket(void *user, bool readable, bool writable)
{
	struct upstream *u = user;

	if (u->dead)
		return;
	upstream_touch(u);
	if (u->state == UP_DIALING) {
		if (writable)
			on_connected(u);
		return;
	}
	if (readable && !u->eof && u->len == 0)
		read_socket(u);
	if (!u->dead && u->state == UP_HANDS)
		shake_hands(u);
}

void upstream_dial(struct upstream *u)
{
	int r = flow_dial(&u->key.addr, u->key.port, false, &u->fd);

	if (r < 0) {
		upstream_die(u, flow_fail_of(-r), 0, NULL);
		return;
	}
	u->until_ms = upstream_now_ms(u) + VAULT_CONNECT_MS;
	if (watch_new(&u->v->loop, u->fd, on_socket, u, &u->watch, NULL) < 0) {
		upstream_die(u, EGRESS_INTERNAL, 0, NULL);
		return;
	}
	watch_set(u->watch, false, true);
}

/* --- idle --- */

static void check_idle(struct upstream *u)
{
	if (u->requests || u->state != UP_OPEN)
		return;
	if (u->key.h1 || u->eof || u->len > 0 || !http_conn_can_open(u->conn)) {
		u->dead = true;
		return;
	}
	if (u->until_ms == 0)
		u->until_ms = upstream_now_ms(u) + VAULT_IDLE_MS;
}

/* --- its requests --- */

void upstream_last(struct upstream *u)
{
	u->last = true;
	upstream_touch(u);
}

void upstream_leave(struct upstream *u, struct request *q, bool whole)
{
	uint32_t stream = request_stream(q);

	untie(u, q);
	if (u->conn && stream && !whole)
		http_conn_reset(u->conn, stream, HTTP_RESET_CANCEL);
	u->used |= stream != 0;
	u->until_ms = u->state == UP_OPEN ? 0 : u->until_ms;
	if (!u->requests && u->state != UP_OPEN)
		u->dead = true; /* nobody waits for it */
	upstream_touch(u);
}

/* --- the vault's turns --- */

/* The end of what we send, behind all of it. True if some of that is not gone yet. */
static bool say_last(struct upstream *u)
{
	if (http_conn_output(u->conn).len > 0)
		return true;
	if (!u->last_said && u->tls)
		tls_close(u->tls);
	u->last_said = true;
	if (flush(u))
		return true;
	u->last = false;
	if (!u->dead)
		(void)shutdown(u->fd, SHUT_WR); /* it may be gone: then reading says so */
	return false;
}

static void hold(struct upstream *u)
{
	size_t bytes = offsetof(struct upstream, plain) + u->plain_used;

	if (u->tls)
		bytes += tls_bytes(u->tls);
	if (u->conn)
		bytes += http_conn_bytes(u->conn);
	vault_hold(u->v, &u->held, bytes);
}

static void run(struct upstream *u)
{
	bool left = false;

	u->touched = false;
	if (!u->dead && u->state == UP_OPEN)
		take_plain(u);
	if (!u->dead && u->state == UP_OPEN && u->eof && u->len == 0)
		take_eof(u);
	if (!u->dead)
		left = write_out(u);
	if (!u->dead && u->last && !left)
		left = say_last(u);
	if (!u->dead && u->state == UP_OPEN && http_conn_finished(u->conn) && !left) {
		if (u->tls)
			tls_close(u->tls);
		(void)flush(u);
		if (!u->dead)
			upstream_die(u, EGRESS_CLOSED, 0, NULL);
	}
	if (!u->dead) {
		check_idle(u);
		if (!u->dead && upstream_is_idle(u))
			upstream_trim_idle(u->v, u);
	}
	if (u->dead) {
		fail_all(u, EGRESS_CLOSED, 0, NULL);
		upstream_free(u);
		return;
	}
	hold(u);
	set_watch(u, left);
}

void upstream_run_all(struct vault *v)
{
	while (v->touched && !v->ended) {
		struct upstream *next;

		v->touched = false;
		for (struct upstream *u = v->upstreams; u; u = next) {
			next = u->next;
			if (!u->touched)
				continue;
			run(u);
			request_relieve(v);
		}
	}
}
