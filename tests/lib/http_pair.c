#include "http_pair.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Ids so far apart are never open at the same time. */
static struct pair_stream *slot(struct pair_side *s, uint32_t id)
{
	struct pair_stream **at = &s->streams[id % PAIR_STREAMS_MAX];

	if (!*at)
		*at = calloc(1, sizeof(**at));
	if (!*at)
		abort();
	if ((*at)->id != id) {
		memset(*at, 0, sizeof(**at));
		(*at)->id = id;
	}
	return *at;
}

static void reply(struct pair_side *s, uint32_t id, uint16_t status, uint8_t framing,
                  uint64_t length)
{
	static struct http_head h;

	memset(&h, 0, sizeof(h));
	h.status = status;
	h.framing = framing;
	h.length = length;
	h.flags = status == 101 ? HTTP_FLAG_WEBSOCKET : 0;
	if (http_conn_reply(s->conn, id, &h) < 0)
		http_conn_reset(s->conn, id, HTTP_RESET_INTERNAL);
}

/* As much of what is owed as there is room for. */
static void serve(struct pair_side *s, struct pair_stream *st)
{
	static const uint8_t zeros[16 << 10];

	while (st->owed > 0) {
		struct span part =
			span_of(zeros, st->owed < sizeof(zeros) ? st->owed : sizeof(zeros));
		size_t before = part.len;

		if (http_conn_body(s->conn, st->id, &part) < 0 || part.len == before)
			return;
		st->owed -= before - part.len;
		if (st->owed == 0)
			(void)!http_conn_end(s->conn, st->id, NULL);
	}
	if (st->held_len > 0) {
		struct span part = span_of(st->held, st->held_len);
		size_t moved;

		if (http_conn_body(s->conn, st->id, &part) < 0)
			return;
		moved = st->held_len - part.len;
		memmove(st->held, st->held + moved, part.len);
		st->held_len = part.len;
		http_conn_consume(s->conn, st->id, moved);
	}
	if (st->ended && st->held_len == 0 && (st->path == 'e' || st->opaque))
		(void)!http_conn_end(s->conn, st->id, NULL);
}

static void serve_head(struct pair_side *s, uint32_t id, const struct http_head *h)
{
	struct pair_stream *st = slot(s, id);
	struct span ok = span_str("ok");

	st->path = h->path.len > 1 ? h->path.at[1] : ' ';
	if (span_is(h->path, "/echo")) {
		if (h->flags & HTTP_FLAG_CONTINUE)
			reply(s, id, 100, HTTP_BODY_NONE, 0);
		reply(s, id, 200, HTTP_BODY_STREAM, 0);
	} else if (span_is(h->path, "/empty")) {
		reply(s, id, 204, HTTP_BODY_NONE, 0);
	} else if (span_is(h->path, "/big")) {
		reply(s, id, 200, HTTP_BODY_LENGTH, PAIR_BIG_BYTES);
		st->owed = span_is(h->method, "HEAD") ? 0 : PAIR_BIG_BYTES;
		serve(s, st);
	} else if (span_is(h->path, "/ws")) {
		reply(s, id, h->flags & HTTP_FLAG_WEBSOCKET ? 101 : 400, HTTP_BODY_NONE, 0);
		st->opaque = h->flags & HTTP_FLAG_WEBSOCKET;
	} else if (!span_is(h->path, "/hold")) {
		reply(s, id, 200, HTTP_BODY_LENGTH, 2);
		if (!span_is(h->method, "HEAD"))
			(void)!http_conn_body(s->conn, id, &ok);
		(void)!http_conn_end(s->conn, id, NULL);
	}
}

static void on_head(void *user, uint32_t id, const struct http_head *h)
{
	struct pair_side *s = user;

	s->heads++;
	s->flags = h->flags;
	if (h->status) {
		s->status = h->status;
		buf_printf(&s->log, "%u:%u ", id, h->status);
		return;
	}
	buf_printf(&s->log, "%u:%.*s ", id, (int)h->path.len, (const char *)h->path.at);
	if (s->server)
		serve_head(s, id, h);
}

static void on_body(void *user, uint32_t id, struct span bytes)
{
	struct pair_side *s = user;
	struct pair_stream *st = slot(s, id);

	s->total += bytes.len;
	st->received += bytes.len;
	if (s->server && (st->path == 'e' || st->opaque)) {
		if (bytes.len > sizeof(st->held) - st->held_len)
			abort(); /* more than the window */
		memcpy(st->held + st->held_len, bytes.at, bytes.len);
		st->held_len += bytes.len;
		serve(s, st);
		return;
	}
	st->held_len += s->hold ? bytes.len : 0;
	if (st->held_len > s->most)
		s->most = st->held_len;
	if (!s->hold)
		http_conn_consume(s->conn, id, bytes.len);
}

static void on_trailers(void *user, uint32_t id, const struct http_trailers *t)
{
	struct pair_side *s = user;
	struct pair_stream *st = slot(s, id);

	buf_printf(&s->log, "%u:trailers=%u ", id, t->count);
	if (s->server && st->path == 'e' && st->held_len == 0) {
		(void)!http_conn_end(s->conn, id, t);
		st->path = ' ';
	}
}

static void on_end(void *user, uint32_t id)
{
	struct pair_side *s = user;
	struct pair_stream *st = slot(s, id);

	s->ends++;
	buf_printf(&s->log, "%u:end=%llu ", id, (unsigned long long)st->received);
	if (s->server && st->opaque && !st->asked) {
		st->asked = true; /* the request's; what is opaque comes now */
		return;
	}
	st->ended = true;
	if (s->server)
		serve(s, st);
}

static void on_refused(void *user, uint32_t id, enum http_reason why)
{
	struct pair_side *s = user;

	s->refused++;
	s->why = why;
	buf_printf(&s->log, "%u:refused=%s ", id, http_reason_word(why));
	if (s->server)
		reply(s, id, http_reason_status(why), HTTP_BODY_LENGTH, 0);
	if (s->server)
		(void)!http_conn_end(s->conn, id, NULL);
}

static void on_reset(void *user, uint32_t id, enum http_reset why)
{
	struct pair_side *s = user;

	s->resets++;
	s->reset = why;
	buf_printf(&s->log, "%u:reset=%u ", id, why);
}

static void on_room(void *user, uint32_t id)
{
	struct pair_side *s = user;

	if (s->server)
		serve(s, slot(s, id));
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

void pair_side_open(struct pair_side *s, const struct http_conn_opts *opts)
{
	struct err e = { 0 };

	memset(s, 0, sizeof(*s));
	buf_init(&s->log, s->log_bytes, sizeof(s->log_bytes));
	s->server = !opts->client;
	if (http_conn_new(opts, &events, s, &s->conn, &e) < 0)
		abort();
}

void pair_side_close(struct pair_side *s)
{
	http_conn_free(s->conn);
	for (int i = 0; i < PAIR_STREAMS_MAX; i++)
		free(s->streams[i]);
}

void pair_open(struct pair *p, const struct http_conn_opts *server)
{
	struct http_conn_opts client = *server;

	client.client = true;
	p->piece = 0;
	p->now_ms = 1;
	pair_side_open(&p->client, &client);
	pair_side_open(&p->server, server);
}

void pair_close(struct pair *p)
{
	pair_side_close(&p->client);
	pair_side_close(&p->server);
}

/* What `to` does not take stays with `from`, as in a socket's buffer. */
static bool move(struct pair *p, struct pair_side *from, struct pair_side *to, bool *ret_ok)
{
	struct span out = http_conn_output(from->conn);
	size_t n = p->piece && out.len > p->piece ? p->piece : out.len;
	struct span in = span_of(out.at, n);

	if (n == 0)
		return false;
	if (http_conn_recv(to->conn, p->now_ms, &in) < 0)
		*ret_ok = false;
	if (!*ret_ok)
		in.len = 0;
	http_conn_sent(from->conn, n - in.len);
	return in.len < n;
}

bool pair_pump(struct pair *p)
{
	bool ok = true;
	bool moved = true;

	while (moved) {
		struct span none = span_of(NULL, 0);

		moved = move(p, &p->client, &p->server, &ok);
		moved = move(p, &p->server, &p->client, &ok) || moved;
		if (http_conn_recv(p->client.conn, p->now_ms, &none) < 0 ||
		    http_conn_recv(p->server.conn, p->now_ms, &none) < 0)
			return false;
	}
	return ok;
}

int pair_inject(struct pair_side *s, uint64_t now_ms, const void *data, size_t len)
{
	struct span in = span_of(data, len);
	size_t before;
	int r;

	do {
		struct span out;

		before = in.len;
		r = http_conn_recv(s->conn, now_ms, &in);
		out = http_conn_output(s->conn);
		http_conn_sent(s->conn, out.len);
	} while (r == 0 && in.len > 0 && in.len < before);
	return r;
}

void pair_request(struct http_head *h, const char *method, const char *path, uint8_t framing,
                  uint64_t length)
{
	memset(h, 0, sizeof(*h));
	h->method = span_str(method);
	h->scheme = HTTP_TLS;
	h->path = span_str(path);
	h->framing = framing;
	h->length = length;
	if (host_parse(span_str("a.test"), &h->host) < 0)
		abort();
	h->host.port = 443;
}
