#include "http/conn_inner.h"
#include "http/h1.h"

#include <errno.h>
#include <string.h>

/*
 * Theory of operation
 *
 * One stream at a time, with two directions. The reader exists while bytes of a message are there;
 * an idle connection is a few hundred bytes. When both directions of a stream have ended, the
 * connection is ready for the next one, or closes: because either side said so, because the
 * message ended with the connection, or because our answer was complete before the request, after
 * which nobody can tell where the next one begins.
 */

enum dir { DIR_NONE, DIR_OPEN, DIR_DONE };

enum {
	HEAD_BESIDE = 1024
}; /* of a head, beside its fields and target: twice the host, and words */

struct h1_conn {
	struct http_conn base;
	struct h1_reader *reader;
	struct conn_out out;
	uint32_t id;      /* of the stream that is open, or was last */
	uint8_t in, done; /* enum dir: what we read, what we write */
	bool close;       /* after this stream */
	bool closed;      /* no stream comes any more */
	bool broken;
	bool refused; /* the present request: only our answer is left of the connection */
	bool eof;
	bool reading; /* events may be told */
	bool opaque;
	bool to_head;
	bool asked_websocket, asked_connect;
	bool old_peer; /* HTTP/1.0 */
	bool chunked;
	bool starved; /* body() took less than it was offered */
	uint8_t framing;
	uint64_t left;
	size_t unconsumed;
};

static struct h1_conn *of(struct http_conn *c)
{
	return (struct h1_conn *)c;
}

static bool is_open(const struct h1_conn *c, uint32_t stream)
{
	return c->id == stream && stream != 0 && !c->broken &&
	       (c->in != DIR_NONE || c->done != DIR_NONE);
}

static void h1_free(struct http_conn *base)
{
	struct h1_conn *c = of(base);

	free(c->reader);
	free(c->out.at);
	free(c);
}

static void break_off(struct h1_conn *c)
{
	c->broken = true;
	c->closed = true;
	c->in = DIR_NONE;
	c->done = DIR_NONE;
}

/* Between messages there is none; but while it speaks, what it lent to an event stays. */
static void drop_reader(struct h1_conn *c)
{
	if (!c->reader || c->reading || c->in != DIR_NONE || c->done != DIR_NONE)
		return;
	if (!c->closed && !c->base.opts.client && c->reader->len > 0)
		return; /* a head has begun */
	free(c->reader);
	c->reader = NULL;
}

/* Both directions have ended: ready for the next, or not. */
static void check_complete(struct h1_conn *c)
{
	bool end_due = c->reader && c->reader->state == H1_END_DUE;
	bool early = c->done == DIR_DONE && c->in == DIR_OPEN && !c->base.opts.client &&
	             (c->refused || !end_due);

	/* a request that goes on after its answer leaves nothing to hold on to */
	if (!(c->done == DIR_DONE && c->in == DIR_DONE) && !(early && !c->opaque))
		return;
	c->closed = c->closed || c->close || c->eof || early || c->opaque;
	c->in = DIR_NONE;
	c->done = DIR_NONE;
	c->unconsumed = 0;
	if (c->reader && !c->base.opts.client && c->reader->state == H1_WAIT && !c->opaque)
		h1_reader_decide(c->reader, false);
	drop_reader(c);
}

static void begin_stream(struct h1_conn *c)
{
	c->id++;
	c->in = DIR_OPEN;
	c->done = DIR_NONE;
	c->close = false;
	c->opaque = false;
	c->refused = false;
	c->to_head = false;
	c->asked_websocket = false;
	c->asked_connect = false;
	c->unconsumed = 0;
}

static int refuse(struct h1_conn *c, enum http_reason why)
{
	c->base.why = why;
	c->close = true;
	if (c->base.opts.client) {
		uint32_t id = c->id;
		bool told = c->in != DIR_NONE || c->done != DIR_NONE;

		break_off(c);
		if (told)
			c->base.on->refused(c->base.user, id, why);
		return -EPROTO;
	}
	if (c->in == DIR_NONE)
		begin_stream(c);
	c->close = true;
	c->refused = true;
	c->base.on->refused(c->base.user, c->id, why);
	check_complete(c);
	return 0;
}

static void take_head(struct h1_conn *c, const struct http_head *h)
{
	if (!c->base.opts.client) {
		begin_stream(c);
		c->to_head = span_is(h->method, "HEAD");
		c->asked_websocket = (h->flags & HTTP_FLAG_WEBSOCKET) != 0;
		c->asked_connect = span_is(h->method, "CONNECT");
		c->old_peer = c->reader->version == HTTP_1_0;
	}
	c->close = c->close || c->reader->close;
	if (h->status == 101)
		c->opaque = true;
	else if (c->base.opts.client && c->asked_websocket && h->status >= 200)
		c->done = DIR_DONE; /* no upgrade, so no bytes of ours either */
	c->base.on->head(c->base.user, c->id, h);
}

static void take_end(struct h1_conn *c)
{
	uint32_t id = c->id;

	c->in = DIR_DONE;
	c->base.on->end(c->base.user, id);
	if (c->opaque && c->reader && c->reader->state == H1_WAIT) {
		c->in = DIR_OPEN; /* the answer was there before the request's end was */
		h1_reader_decide(c->reader, true);
		return;
	}
	check_complete(c);
}

static void take_event(struct h1_conn *c, const struct h1_event *ev)
{
	switch (ev->kind) {
	case H1_HEAD:
		take_head(c, ev->head);
		return;
	case H1_BODY:
		c->unconsumed += ev->bytes.len;
		c->base.on->body(c->base.user, c->id, ev->bytes);
		return;
	case H1_TRAILER_FIELDS:
		c->base.on->trailers(c->base.user, c->id, ev->trailers);
		return;
	case H1_END:
		take_end(c);
		return;
	}
}

/* May anything be read now? */
static bool reads(const struct h1_conn *c)
{
	if (c->broken || c->refused)
		return false;
	if (!c->base.opts.client && c->in == DIR_DONE)
		return false; /* the answer first */
	if (c->closed && c->in != DIR_OPEN)
		return false;
	/* an end takes no room, and may come when there are no more bytes to offer it with */
	return c->unconsumed < c->base.opts.window_bytes ||
	       (c->reader && c->reader->state == H1_END_DUE);
}

static bool have_reader(struct h1_conn *c)
{
	if (c->reader)
		return true;
	c->reader = malloc(sizeof(*c->reader));
	if (!c->reader)
		return false;
	h1_reader_init(c->reader, &c->base.rules);
	return true;
}

/* All that may be read now. 0, or what ended it. */
static int read_some(struct h1_conn *c, struct span *in)
{
	while (reads(c)) {
		struct span piece = *in;
		struct h1_event ev;
		size_t room = c->base.opts.window_bytes - c->unconsumed;
		int r;

		/* between messages nothing is due; in one, an event may be, without a byte */
		if (in->len == 0 && c->in == DIR_NONE)
			break;
		if (!have_reader(c))
			return -ENOMEM;
		if (c->reader->state >= H1_LENGTH && piece.len > room)
			piece.len = room;
		room = piece.len;
		r = h1_read(c->reader, &piece, &ev);
		if (piece.len < room) /* in->at may be NULL */
			*in = span_of(in->at + (room - piece.len), in->len - (room - piece.len));
		if (r == 0)
			take_event(c, &ev);
		else if (r == -EBADMSG)
			return refuse(c, c->reader->why);
		else if (in->len == 0 || piece.len > 0)
			break;
	}
	return 0;
}

static int h1_recv(struct http_conn *base, uint64_t now_ms, struct span *in)
{
	struct h1_conn *c = of(base);
	int r;

	(void)now_ms;
	if (c->broken)
		return -EPROTO;
	if (in->len > 0 && base->opts.client && c->in != DIR_OPEN && !c->closed)
		return refuse(c, HTTP_UNASKED);
	c->reading = true;
	r = read_some(c, in);
	c->reading = false;
	drop_reader(c);
	return r == 0 && c->broken ? -EPROTO : r;
}

static int h1_recv_eof(struct http_conn *base)
{
	struct h1_conn *c = of(base);
	uint32_t id = c->id;
	struct h1_event ev;
	bool open = c->in == DIR_OPEN;
	int r;

	if (c->broken)
		return -EPROTO;
	c->eof = true;
	c->close = true;
	r = c->reader && !c->refused ? h1_read_eof(c->reader, &ev) : -EAGAIN;
	if (r == 0) {
		c->reading = true;
		take_event(c, &ev);
		c->reading = false;
		drop_reader(c);
		return 0;
	}
	if (r == -EAGAIN && !(open && base->opts.client)) {
		if (c->in == DIR_NONE && c->done == DIR_NONE)
			c->closed = true;
		return 0;
	}
	base->why = HTTP_TRUNCATED;
	break_off(c);
	if (open)
		base->on->reset(base->user, id, HTTP_RESET_CLOSED);
	return -EPROTO;
}

static struct span h1_output(struct http_conn *base)
{
	struct conn_out *o = &of(base)->out;

	return o->at ? span_of(o->at + o->sent, o->len - o->sent) : span_of(NULL, 0);
}

static void h1_sent(struct http_conn *base, size_t n)
{
	struct h1_conn *c = of(base);

	conn_out_drop(&c->out, n);
	if (c->starved && conn_out_left(&c->out) < HTTP_OUT_HIGH / 2 && c->done == DIR_OPEN) {
		c->starved = false;
		base->on->room(base->user, c->id);
	}
}

/* What of our direction follows a head. */
static void begin_body(struct h1_conn *c, const struct http_head *h, bool until_close)
{
	c->framing = h->framing;
	c->left = h->framing == HTTP_BODY_LENGTH ? h->length : 0;
	c->chunked = h->framing == HTTP_BODY_STREAM && !until_close;
	c->done = h->framing == HTTP_BODY_NONE ? DIR_DONE : DIR_OPEN;
}

static int put_head(struct h1_conn *c, const struct http_head *h, unsigned flags)
{
	size_t bytes = HEAD_BESIDE + h->method.len + h->path.len + h->query.len;
	struct buf b;

	for (uint16_t i = 0; i < h->count; i++)
		bytes += h->fields[i].name.len + h->fields[i].value.len + 4;
	if (!conn_out_begin(&c->out, bytes, &b))
		return -EMSGSIZE;
	if (c->base.opts.client)
		h1_put_request(&b, h, flags);
	else
		h1_put_response(&b, h, flags);
	if (!buf_ok(&b))
		return -EMSGSIZE;
	conn_out_end(&c->out, &b);
	return 0;
}

static bool h1_can_open(const struct http_conn *base)
{
	const struct h1_conn *c = (const struct h1_conn *)base;

	return !c->closed && !c->eof && c->in == DIR_NONE && c->done == DIR_NONE;
}

static int h1_open(struct http_conn *base, const struct http_head *h, uint32_t *ret_stream)
{
	struct h1_conn *c = of(base);
	int r;

	if (!h1_can_open(base))
		return -EAGAIN;
	if (span_is(h->method, "CONNECT"))
		return -EPROTO;
	if (!have_reader(c))
		return -ENOMEM;
	r = put_head(c, h, 0);
	if (r < 0)
		return r;
	begin_stream(c);
	c->asked_websocket = (h->flags & HTTP_FLAG_WEBSOCKET) != 0;
	h1_reader_expect(c->reader, span_is(h->method, "HEAD"), c->asked_websocket);
	begin_body(c, h, false);
	if (c->asked_websocket)
		c->done = DIR_OPEN; /* what follows depends on the answer */
	*ret_stream = c->id;
	return 0;
}

/* An answer to HEAD says its length and sends nothing. */
static void without_body(struct http_head *h)
{
	if (h->framing == HTTP_BODY_LENGTH)
		h->flags |= HTTP_FLAG_DECLARED;
	h->framing = HTTP_BODY_NONE;
}

static int h1_reply(struct http_conn *base, uint32_t stream, const struct http_head *h)
{
	struct h1_conn *c = of(base);
	bool opaque = h->status == 101 ||
	              (c->asked_connect && h->status >= 200 && h->status < 300 && !c->refused);
	struct http_head copy;
	bool until_close;
	unsigned flags = 0;
	int r;

	if (!is_open(c, stream))
		return -ENOENT;
	if (c->done != DIR_NONE || (h->status == 101 && !c->asked_websocket) ||
	    (opaque && h->framing != HTTP_BODY_NONE))
		return -EPROTO;
	if (h->status < 200 && !opaque)
		return c->old_peer ? 0 : put_head(c, h, 0);
	until_close = h->framing == HTTP_BODY_STREAM && c->old_peer;
	if (c->to_head && h->framing != HTTP_BODY_NONE) {
		copy = *h;
		without_body(&copy);
		h = &copy;
	}
	/* an upload that is refused is not waited for, and the client should know */
	c->close = c->close || until_close || c->closed ||
	           (h->status >= 400 && c->in == DIR_OPEN && c->reader &&
	            c->reader->state != H1_END_DUE);
	flags |= c->close && !opaque ? H1_PUT_CLOSE : 0;
	flags |= until_close ? H1_PUT_UNTIL_CLOSE : 0;
	r = put_head(c, h, flags);
	if (r < 0)
		return r;
	begin_body(c, h, until_close);
	if (opaque) {
		c->opaque = true;
		c->done = DIR_OPEN;
		c->framing = HTTP_BODY_STREAM;
		if (c->reader && c->reader->state == H1_WAIT) {
			h1_reader_decide(c->reader, true);
			c->in = DIR_OPEN;
		}
	}
	check_complete(c);
	return 0;
}

static int h1_body(struct http_conn *base, uint32_t stream, struct span *bytes)
{
	struct h1_conn *c = of(base);
	size_t used = conn_out_left(&c->out);
	size_t n = used < HTTP_OUT_HIGH ? HTTP_OUT_HIGH - used : 0;
	struct buf b;

	if (!is_open(c, stream))
		return -ENOENT;
	if (c->done != DIR_OPEN || (base->opts.client && c->asked_websocket && !c->opaque))
		return -EPROTO;
	if (c->framing == HTTP_BODY_LENGTH && bytes->len > c->left)
		return -EMSGSIZE;
	n = n < bytes->len ? n : bytes->len;
	c->starved = n < bytes->len;
	if (n == 0)
		return 0;
	if (!conn_out_begin(&c->out, n + 32, &b))
		return -ENOMEM;
	if (c->chunked && !c->opaque)
		h1_put_chunk_size(&b, n);
	buf_put(&b, bytes->at, n);
	if (c->chunked && !c->opaque)
		buf_put(&b, "\r\n", 2);
	conn_out_end(&c->out, &b);
	if (c->framing == HTTP_BODY_LENGTH)
		c->left -= n;
	bytes->at += n;
	bytes->len -= n;
	return 0;
}

static int h1_end(struct http_conn *base, uint32_t stream, const struct http_trailers *t)
{
	struct h1_conn *c = of(base);
	struct buf b;

	if (!is_open(c, stream))
		return -ENOENT;
	if (c->done == DIR_DONE)
		return 0;
	if (c->done == DIR_NONE || c->left > 0) {
		break_off(c);
		return -EPROTO;
	}
	if (c->chunked && !c->opaque) {
		if (!conn_out_begin(&c->out, (size_t)2 * HTTP_TRAILER_BYTES_MAX, &b))
			return -ENOMEM;
		h1_put_last_chunk(&b, t);
		if (!buf_ok(&b)) {
			break_off(c);
			return -EPROTO;
		}
		conn_out_end(&c->out, &b);
	}
	c->done = DIR_DONE;
	check_complete(c);
	return 0;
}

static void h1_reset(struct http_conn *base, uint32_t stream, enum http_reset why)
{
	struct h1_conn *c = of(base);

	(void)why;
	if (is_open(c, stream))
		break_off(c);
}

static void h1_consume(struct http_conn *base, uint32_t stream, size_t n)
{
	struct h1_conn *c = of(base);

	if (c->id == stream)
		c->unconsumed -= n < c->unconsumed ? n : c->unconsumed;
}

static void h1_drain(struct http_conn *base)
{
	struct h1_conn *c = of(base);

	c->close = true;
	c->closed = true;
}

static bool h1_finished(struct http_conn *base)
{
	struct h1_conn *c = of(base);

	return c->broken || (c->closed && c->in == DIR_NONE && c->done == DIR_NONE &&
	                     conn_out_left(&c->out) == 0);
}

static uint32_t h1_streams(const struct http_conn *base)
{
	const struct h1_conn *c = (const struct h1_conn *)base;

	return c->in != DIR_NONE || c->done != DIR_NONE ? 1 : 0;
}

static size_t h1_bytes(const struct http_conn *base)
{
	const struct h1_conn *c = (const struct h1_conn *)base;

	return sizeof(*c) + c->out.size + (c->reader ? sizeof(*c->reader) : 0);
}

static const struct conn_ops h1_ops = {
	.free = h1_free,
	.recv = h1_recv,
	.recv_eof = h1_recv_eof,
	.output = h1_output,
	.sent = h1_sent,
	.open = h1_open,
	.can_open = h1_can_open,
	.reply = h1_reply,
	.body = h1_body,
	.end = h1_end,
	.reset = h1_reset,
	.consume = h1_consume,
	.drain = h1_drain,
	.finished = h1_finished,
	.streams = h1_streams,
	.bytes = h1_bytes,
};

struct http_conn *h1_conn_new(void)
{
	struct h1_conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->base.ops = &h1_ops;
	return &c->base;
}
