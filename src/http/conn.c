#include "http/conn_inner.h"

#include <errno.h>
#include <string.h>

int http_conn_new(const struct http_conn_opts *opts, const struct http_events *events, void *user,
                  struct http_conn **ret, struct err *e)
{
	struct http_conn *c = opts->http2 ? h2_conn_new(opts) : h1_conn_new();

	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	c->on = events;
	c->user = user;
	c->opts = *opts;
	if (c->opts.window_bytes == 0)
		c->opts.window_bytes = HTTP_WINDOW_BYTES;
	if (c->opts.window_bytes > HTTP_WINDOW_MAX)
		c->opts.window_bytes = HTTP_WINDOW_MAX;
	c->rules = (struct http_rules){
		.response = opts->client,
		.scheme = opts->scheme,
		.keep_slash = opts->keep_slash,
		.connect = opts->connect && !opts->http2,
		.body_max = opts->body_max,
	};
	*ret = c;
	return 0;
}

void http_conn_free(struct http_conn *c)
{
	if (c)
		c->ops->free(c);
}

int http_conn_recv(struct http_conn *c, uint64_t now_ms, struct span *in)
{
	return c->ops->recv(c, now_ms, in);
}

int http_conn_recv_eof(struct http_conn *c)
{
	return c->ops->recv_eof(c);
}

struct span http_conn_output(struct http_conn *c)
{
	return c->ops->output(c);
}

void http_conn_sent(struct http_conn *c, size_t n)
{
	c->ops->sent(c, n);
}

int http_conn_open(struct http_conn *c, const struct http_head *h, uint32_t *ret_stream)
{
	if (!c->opts.client)
		return -EPROTO;
	return c->ops->open(c, h, ret_stream);
}

bool http_conn_can_open(const struct http_conn *c)
{
	return c->opts.client && c->ops->can_open(c);
}

int http_conn_reply(struct http_conn *c, uint32_t stream, const struct http_head *h)
{
	if (c->opts.client)
		return -EPROTO;
	return c->ops->reply(c, stream, h);
}

int http_conn_body(struct http_conn *c, uint32_t stream, struct span *bytes)
{
	return c->ops->body(c, stream, bytes);
}

int http_conn_end(struct http_conn *c, uint32_t stream, const struct http_trailers *trailers)
{
	return c->ops->end(c, stream, trailers);
}

void http_conn_reset(struct http_conn *c, uint32_t stream, enum http_reset why)
{
	c->ops->reset(c, stream, why);
}

void http_conn_consume(struct http_conn *c, uint32_t stream, size_t n)
{
	c->ops->consume(c, stream, n);
}

void http_conn_drain(struct http_conn *c)
{
	c->ops->drain(c);
}

bool http_conn_finished(struct http_conn *c)
{
	return c->ops->finished(c);
}

uint32_t http_conn_streams(const struct http_conn *c)
{
	return c->ops->streams(c);
}

size_t http_conn_bytes(const struct http_conn *c)
{
	return c->ops->bytes(c);
}

enum http_reason http_conn_reason(const struct http_conn *c)
{
	return c->why;
}

bool conn_out_begin(struct conn_out *o, size_t more, struct buf *ret)
{
	if (o->sent > 0) {
		memmove(o->at, o->at + o->sent, o->len - o->sent);
		o->len -= o->sent;
		o->sent = 0;
	}
	if (more > HTTP_OUT_MAX - o->len)
		return false;
	if (o->size - o->len < more) {
		size_t size = o->size ? o->size : 4096;
		uint8_t *at;

		while (size - o->len < more)
			size *= 2;
		at = realloc(o->at, size);
		if (!at)
			return false;
		o->at = at;
		o->size = size;
	}
	buf_init(ret, o->at + o->len, o->size - o->len);
	return true;
}

void conn_out_end(struct conn_out *o, const struct buf *b)
{
	o->len += b->len;
}

void conn_out_drop(struct conn_out *o, size_t n)
{
	o->sent += n < o->len - o->sent ? n : o->len - o->sent;
	if (o->sent < o->len)
		return;
	free(o->at);
	*o = (struct conn_out){ 0 };
}
