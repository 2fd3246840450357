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

#include "base/clock.h"
#include "http/conn.h"
#include "http/limits.h"
#include "vault/inner.h"
#include "vault/request.h"
#include "vault/roots.h"
#include "vault/tls.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

enum upstream_state { UP_DIALING, UP_HANDS, UP_OPEN };

enum {
	OUT_HIGH = 64 << 10,     /* of what is encrypted and not sent */
	READ_CAREFUL = 32 << 10, /* from a socket at once, when half of VAULT_HELD_MAX is held */
};

struct upstream {
	struct vault *v;
	struct upstream *next; /* all of the vault's */
	struct upstream_key key;
	uint8_t state; /* enum upstream_state */
	bool touched, dead, eof;
	bool h2;       /* OPEN: what ALPN chose */
	bool used;     /* it has carried a request that is gone */
	bool farewell; /* TLS said that it is over; else anybody could have cut it */
	bool last; /* nothing is to be sent behind what was given to it: the server is to know */
	bool last_said;
	int fd;
	struct watch *watch;
	struct tls *tls;
	struct http_conn *conn;
	struct request *requests;
	size_t held;       /* bytes, of the vault's held_bytes */
	size_t plain_used; /* of plain, at any time: its other pages are not there */
	uint64_t until_ms; /* then it is late, or idle for too long; 0: no matter */
	size_t at, len;    /* in plain: read, and not taken */
	uint8_t plain[VAULT_READ_BYTES];
};

static uint64_t now_ms(const struct upstream *u)
{
	return uv_now(&u->v->loop);
}

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

static void upstream_free(struct upstream *u)
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

static void die(struct upstream *u, enum egress_fail why, long fault, const char *words)
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
			die(u, EGRESS_CLOSED, 0, NULL);
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
			die(u, EGRESS_PROTOCOL, 0, NULL);
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
			die(u, EGRESS_PROTOCOL, 0, NULL);
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
		if (http_conn_recv(u->conn, now_ms(u), &in) < 0) {
			(void)flush(u);
			if (!u->dead)
				die(u, EGRESS_PROTOCOL, 0, NULL);
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
	die(u, EGRESS_CLOSED, 0, NULL);
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
		die(u, EGRESS_INTERNAL, 0, NULL);
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
	die(u, r == -EKEYREJECTED ? EGRESS_CERTIFICATE : EGRESS_PROTOCOL, fault, words);
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
		die(u, flow_fail_of(error), 0, NULL);
		return;
	}
	u->until_ms = now_ms(u) + VAULT_HANDSHAKE_MS;
	if (!u->key.tls) {
		open_conn(u);
		return;
	}
	u->state = UP_HANDS;
	if (roots_context(u->v->roots, &context, &e) < 0 ||
	    tls_new(context, &u->key.name, !u->key.h1, &u->tls, &e) < 0) {
		die(u, EGRESS_INTERNAL, 0, NULL);
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
		die(u, u->state == UP_OPEN ? EGRESS_CLOSED : flow_fail_of(errno), 0, NULL);
		return;
	}
	if (n == 0) {
		u->eof = true;
		if (u->state != UP_OPEN)
			die(u, EGRESS_CLOSED, 0, NULL);
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
		u->until_ms = now_ms(u) + VAULT_IDLE_MS;
}

static bool is_idle(const struct upstream *u)
{
	return !u->requests && !u->dead;
}

unsigned upstream_idle(const struct vault *v)
{
	unsigned n = 0;

	for (const struct upstream *u = v->upstreams; u; u = u->next)
		n += is_idle(u);
	return n;
}

static bool same_key(const struct upstream_key *a, const struct upstream_key *b)
{
	return a->port == b->port && a->tls == b->tls && a->h1 == b->h1 &&
	       addr_equal(&a->addr, &b->addr) &&
	       span_equal(host_span(&a->name), host_span(&b->name));
}

/* Too many idle ones: the one that has been so for longest goes. */
static void trim_idle(struct vault *v, const struct upstream *of)
{
	struct upstream *oldest = NULL, *oldest_here = NULL;
	unsigned all = 0, here = 0;

	for (struct upstream *u = v->upstreams; u; u = u->next) {
		if (!is_idle(u) || u->state != UP_OPEN)
			continue;
		all++;
		if (!oldest || u->until_ms < oldest->until_ms)
			oldest = u;
		if (!same_key(&u->key, &of->key))
			continue;
		here++;
		if (!oldest_here || u->until_ms < oldest_here->until_ms)
			oldest_here = u;
	}
	if (here > VAULT_IDLE_HOST_MAX)
		oldest_here->dead = true;
	else if (all > VAULT_IDLE_MAX)
		oldest->dead = true;
	else
		return;
	upstream_touch(here > VAULT_IDLE_HOST_MAX ? oldest_here : oldest);
}

/* --- the pool --- */

/* An idle connection that the server has closed meanwhile is readable. */
static bool is_stale(const struct upstream *u)
{
	uint8_t byte;
	ssize_t n;

	if (u->requests)
		return false;
	n = recv(u->fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);
	/* bytes of HTTP/2 or TLS may wait there; of HTTP/1 in the clear nothing may */
	return n == 0 || (n < 0 && errno != EAGAIN) || (n > 0 && !u->tls);
}

static struct upstream *find_open(struct vault *v, const struct upstream_key *key)
{
	for (struct upstream *u = v->upstreams; u; u = u->next) {
		if (u->dead || u->eof || u->state != UP_OPEN || !same_key(&u->key, key) ||
		    !http_conn_can_open(u->conn))
			continue;
		if (!is_stale(u))
			return u;
		u->dead = true;
		upstream_touch(u);
	}
	return NULL;
}

/* One that is being made and may turn out to carry one more; of HTTP/1.1 alone none would. */
static struct upstream *find_opening(struct vault *v, const struct upstream_key *key)
{
	struct upstream *got = NULL;

	if (!key->tls || key->h1)
		return NULL;
	for (struct upstream *u = v->upstreams; u; u = u->next) {
		unsigned waiting = 0;

		if (u->dead || !same_key(&u->key, key))
			continue;
		if (u->state == UP_OPEN && !u->h2)
			return NULL;
		for (struct request *q = u->requests; q; q = request_next(q))
			waiting++;
		if (u->state != UP_OPEN && waiting < HTTP2_STREAMS_MAX)
			got = u;
	}
	return got;
}

static void tie(struct upstream *u, struct request *q)
{
	request_set_next(q, u->requests);
	u->requests = q;
	request_tie(q, u);
	if (u->state == UP_OPEN)
		u->until_ms = 0;
}

static void dial(struct upstream *u)
{
	int r = flow_dial(&u->key.addr, u->key.port, false, &u->fd);

	if (r < 0) {
		die(u, flow_fail_of(-r), 0, NULL);
		return;
	}
	u->until_ms = now_ms(u) + VAULT_CONNECT_MS;
	if (watch_new(&u->v->loop, u->fd, on_socket, u, &u->watch, NULL) < 0) {
		die(u, EGRESS_INTERNAL, 0, NULL);
		return;
	}
	watch_set(u->watch, false, true);
}

bool upstream_get(struct vault *v, const struct upstream_key *key, bool fresh, struct request *q)
{
	struct upstream *u = fresh || key->h1 ? NULL : find_open(v, key);

	if (u) {
		v->stats.reused++;
		tie(u, q);
		upstream_touch(u);
		request_ready(q);
		return true;
	}
	u = fresh ? NULL : find_opening(v, key);
	if (u) {
		v->stats.reused++;
		tie(u, q);
		return true;
	}
	if (v->upstream_count == VAULT_UPSTREAMS_MAX)
		return false;
	u = malloc(sizeof(*u));
	if (!u)
		return false;
	memset(u, 0, offsetof(struct upstream, plain)); /* the pages of the rest stay away */
	u->v = v;
	u->key = *key;
	u->fd = -1;
	u->next = v->upstreams;
	v->upstreams = u;
	v->upstream_count++;
	tie(u, q);
	dial(u);
	return true;
}

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
			die(u, EGRESS_CLOSED, 0, NULL);
	}
	if (!u->dead) {
		check_idle(u);
		if (!u->dead && is_idle(u))
			trim_idle(u->v, u);
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

void upstream_touch_all(struct vault *v)
{
	for (struct upstream *u = v->upstreams; u; u = u->next)
		upstream_touch(u);
}

void upstream_sweep(struct vault *v)
{
	for (struct upstream *u = v->upstreams; u; u = u->next) {
		if (u->dead || u->until_ms == 0 || now_ms(u) < u->until_ms)
			continue;
		die(u, EGRESS_TIMEOUT, 0, NULL);
	}
}

void upstream_drop_idle(struct vault *v)
{
	for (struct upstream *u = v->upstreams; u; u = u->next) {
		if (!is_idle(u))
			continue;
		u->dead = true;
		upstream_touch(u);
	}
}

void upstream_free_all(struct vault *v)
{
	while (v->upstreams)
		upstream_free(v->upstreams);
}
