#include "http/h2_inner.h"

#include <errno.h>
#include <malloc.h>
#include <string.h>

/*
 * Theory of operation
 *
 * What we send goes through nghttp2 as well: heads at once, bodies through a buffer of
 * HTTP2_SEND_BYTES a stream from which nghttp2 takes as flow control permits. Frames are made only
 * when the caller asks for output and has sent what it got before, so little waits in between;
 * while much waits all the same, nothing more is read from the peer.
 *
 * Values that may be secrets never enter the compression table: as client, no field does.
 */

struct h2_stream *h2_find(const struct h2_conn *c, int32_t id)
{
	struct h2_stream *s = c->streams;

	while (s && s->id != id)
		s = s->next;
	return s;
}

struct h2_stream *h2_add(struct h2_conn *c, int32_t id)
{
	struct h2_stream *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->id = id;
	s->next = c->streams;
	c->streams = s;
	c->count++;
	return s;
}

static void stream_free(struct h2_stream *s)
{
	free(s->send);
	free(s->trailers);
	free(s);
}

void h2_forget(struct h2_conn *c, struct h2_stream *s)
{
	struct h2_stream **at = &c->streams;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	c->count--;
	stream_free(s);
}

static void h2_free(struct http_conn *base)
{
	struct h2_conn *c = h2_of(base);

	nghttp2_session_del(c->session);
	while (c->streams) {
		struct h2_stream *s = c->streams;

		c->streams = s->next;
		stream_free(s);
	}
	free(c->block);
	free(c->out.at);
	free(c);
}

/* --- settings --- */

static int begin(struct h2_conn *c)
{
	nghttp2_settings_entry entries[] = {
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, c->base.opts.window_bytes },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HTTP_HEAD_MAX },
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, HTTP2_STREAMS_MAX },
		{ NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1 },
		{ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 }, /* a client's to say */
	};
	size_t count = sizeof(entries) / sizeof(entries[0]) - (c->base.opts.client ? 0 : 1);

	if (c->begun)
		return 0;
	c->begun = true;
	if (nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, entries, count) != 0 ||
	    nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0,
	                                          HTTP2_CONNECTION_WINDOW) != 0) {
		c->broken = true;
		return -ENOMEM;
	}
	return 0;
}

static int h2_recv(struct http_conn *base, uint64_t now_ms, struct span *in)
{
	struct h2_conn *c = h2_of(base);

	if (begin(c) < 0)
		return -ENOMEM;
	if (c->tokens_ms == 0 || now_ms < c->tokens_ms)
		c->tokens_ms = now_ms;
	c->now_ms = now_ms;
	while (!c->broken && in->len > 0 &&
	       nghttp2_session_get_outbound_queue_size(c->session) < HTTP2_QUEUE_MAX) {
		size_t n = in->len < HTTP2_PIECE_BYTES ? in->len : HTTP2_PIECE_BYTES;
		ssize_t used = nghttp2_session_mem_recv(c->session, in->at, n);

		if (used < 0) {
			if (base->why == HTTP_FINE)
				base->why =
					used == NGHTTP2_ERR_FLOODED ? HTTP_FLOOD : HTTP_PROTOCOL;
			c->broken = true;
			break;
		}
		in->at += used;
		in->len -= (size_t)used;
		if (nghttp2_session_want_read(c->session))
			continue;
		if (!c->draining && !c->goaway) {
			base->why = base->why ? base->why : HTTP_PROTOCOL;
			c->broken = true; /* it queued a GOAWAY with the reason */
		}
		break;
	}
	return c->broken ? -EPROTO : 0;
}

static int h2_recv_eof(struct http_conn *base)
{
	struct h2_conn *c = h2_of(base);
	bool open = c->count > 0;

	c->broken = true;
	while (c->streams) {
		struct h2_stream *s = c->streams;
		uint32_t id = (uint32_t)s->id;
		bool tell = !s->told && (base->opts.client || s->has_head || s->refused);

		h2_forget(c, s);
		if (tell)
			base->on->reset(base->user, id, HTTP_RESET_CLOSED);
	}
	if (open)
		base->why = HTTP_TRUNCATED;
	return open ? -EPROTO : 0;
}

/* --- output --- */

/* Those that wait for room, and now have some. */
static void tell_room(struct h2_conn *c)
{
	for (struct h2_stream *s = c->streams; s;) {
		int32_t id = s->id;
		struct h2_stream *next = s->next;

		if (s->starved && s->send_len < HTTP2_SEND_BYTES / 2) {
			s->starved = false;
			c->base.on->room(c->base.user, (uint32_t)id);
			next = c->streams; /* the list may be another now; each is told once */
		}
		s = next;
	}
}

static struct span h2_output(struct http_conn *base)
{
	struct h2_conn *c = h2_of(base);
	struct buf b;

	(void)!begin(c);
	while (conn_out_left(&c->out) < HTTP_OUT_HIGH / 2) {
		const uint8_t *at;
		ssize_t n = nghttp2_session_mem_send(c->session, &at);

		if (n <= 0 || !conn_out_begin(&c->out, (size_t)n, &b)) {
			if (n != 0)
				c->broken = true;
			break;
		}
		buf_put(&b, at, (size_t)n);
		conn_out_end(&c->out, &b);
	}
	return c->out.at ? span_of(c->out.at + c->out.sent, conn_out_left(&c->out))
	                 : span_of(NULL, 0);
}

static void h2_sent(struct http_conn *base, size_t n)
{
	struct h2_conn *c = h2_of(base);

	conn_out_drop(&c->out, n);
	tell_room(c);
}

/* --- heads --- */

enum { NV_MAX = HTTP_FIELDS_MAX + 8, PORT_TEXT = 8 };

struct nv_list {
	nghttp2_nv nv[NV_MAX];
	size_t count;
	uint8_t flags;
	uint8_t text[HTTP_HOST_MAX + PORT_TEXT + 2 * HTTP_TARGET_MAX + 64];
	struct buf buf;
};

static void add(struct nv_list *l, struct span name, struct span value)
{
	if (l->count == NV_MAX)
		return;
	/* nghttp2 copies both, its fields only happen not to be const */
	l->nv[l->count++] = (nghttp2_nv){
		.name = (uint8_t *)(uintptr_t)name.at,
		.namelen = name.len,
		.value = (uint8_t *)(uintptr_t)value.at,
		.valuelen = value.len,
		.flags = l->flags,
	};
}

/* What was put in the buffer since `from`. */
static struct span since(struct nv_list *l, size_t from)
{
	return span_of(l->text + from, l->buf.len - from);
}

static void add_number(struct nv_list *l, const char *name, uint64_t v)
{
	size_t from = l->buf.len;

	buf_printf(&l->buf, "%llu", (unsigned long long)v);
	add(l, span_str(name), since(l, from));
}

static void add_request(struct nv_list *l, const struct http_head *h)
{
	bool six = h->host.kind == HTTP_HOST_IP6;
	size_t from = l->buf.len;

	add(l, span_str(":method"), h->method);
	add(l, span_str(":scheme"), span_str(h->scheme == HTTP_TLS ? "https" : "http"));
	buf_put_str(&l->buf, six ? "[" : "");
	buf_put(&l->buf, h->host.text, h->host.len);
	buf_put_str(&l->buf, six ? "]" : "");
	if (h->host.port != (h->scheme == HTTP_TLS ? 443 : 80))
		buf_printf(&l->buf, ":%u", h->host.port);
	add(l, span_str(":authority"), since(l, from));
	from = l->buf.len;
	buf_put_span(&l->buf, h->path);
	if (h->flags & HTTP_FLAG_QUERY) {
		buf_put_u8(&l->buf, '?');
		buf_put_span(&l->buf, h->query);
	}
	add(l, span_str(":path"), since(l, from));
}

static void make_list(struct nv_list *l, const struct http_head *h, bool client)
{
	l->count = 0;
	l->flags = client ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE;
	buf_init(&l->buf, l->text, sizeof(l->text));
	if (client)
		add_request(l, h);
	else
		add_number(l, ":status", h->status);
	for (uint16_t i = 0; i < h->count; i++)
		add(l, h->fields[i].name, h->fields[i].value);
	if (h->framing == HTTP_BODY_LENGTH || h->flags & HTTP_FLAG_DECLARED)
		add_number(l, "content-length", h->length);
	if (client && h->flags & HTTP_FLAG_TRAILERS)
		add(l, span_str("te"), span_str("trailers"));
	if (client && h->flags & HTTP_FLAG_CONTINUE)
		add(l, span_str("expect"), span_str("100-continue"));
}

/* --- bodies --- */

static int submit_trailers(nghttp2_session *session, struct h2_stream *s)
{
	nghttp2_nv nv[HTTP_TRAILER_FIELDS_MAX];

	for (uint16_t i = 0; i < s->trailers->count; i++)
		nv[i] = (nghttp2_nv){
			.name = (uint8_t *)(uintptr_t)s->trailers->fields[i].name.at,
			.namelen = s->trailers->fields[i].name.len,
			.value = (uint8_t *)(uintptr_t)s->trailers->fields[i].value.at,
			.valuelen = s->trailers->fields[i].value.len,
		};
	return nghttp2_submit_trailer(session, s->id, nv, s->trailers->count);
}

/* nghttp2 asks for up to `len` bytes of a body. */
static ssize_t read_source(nghttp2_session *session, int32_t id, uint8_t *to, size_t len,
                           uint32_t *flags, nghttp2_data_source *source, void *user)
{
	struct h2_conn *c = user;
	struct h2_stream *s = h2_find(c, id);
	size_t n;

	(void)source;
	if (!s)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	n = s->send_len < len ? s->send_len : len;
	if (n == 0 && !s->done)
		return NGHTTP2_ERR_DEFERRED;
	if (n > 0)
		memcpy(to, s->send + s->send_at, n);
	s->send_at += n;
	s->send_len -= n;
	if (s->send_len == 0) {
		free(s->send);
		s->send = NULL;
		s->send_at = 0;
	}
	if (s->done && s->send_len == 0) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		if (s->trailers) {
			*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
			if (submit_trailers(session, s) != 0)
				return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
		}
	}
	return (ssize_t)n;
}

/*
 * Our end is on its way. What of the request still comes is read past. A reset would be allowed
 * here (RFC 9113, 8.1), but some clients then throw the answer away; late_bytes() sends it to those
 * that go on for long.
 */
static int frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct h2_conn *c = user;
	struct h2_stream *s = h2_find(c, frame->hd.stream_id);

	(void)session;
	if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR) {
		c->broken = true; /* nghttp2 found the peer at fault */
		c->base.why = c->base.why ? c->base.why : HTTP_PROTOCOL;
	}
	if (frame->hd.type == NGHTTP2_DATA && c->tokens < HTTP2_CONTROL_BURST)
		c->tokens++;
	if (!s || (frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS) ||
	    !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		return 0;
	s->done_sent = true;
	if (!c->base.opts.client && !s->in_done)
		s->told = true;
	return 0;
}

static void begin_body(struct h2_stream *s, const struct http_head *h)
{
	s->framing = h->framing;
	s->left = h->framing == HTTP_BODY_LENGTH ? h->length : 0;
	s->has_source = h->framing != HTTP_BODY_NONE;
	s->done = !s->has_source;
}

static bool h2_can_open(const struct http_conn *base)
{
	const struct h2_conn *c = (const struct h2_conn *)base;

	return !c->broken && !c->draining && c->count < HTTP2_STREAMS_MAX &&
	       c->count < nghttp2_session_get_remote_settings(
				  c->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS) &&
	       nghttp2_session_check_request_allowed(c->session);
}

static int h2_open(struct http_conn *base, const struct http_head *h, uint32_t *ret_stream)
{
	struct h2_conn *c = h2_of(base);
	nghttp2_data_provider source = { .read_callback = read_source };
	struct h2_stream *s;
	struct nv_list list;
	int32_t id;

	if (begin(c) < 0)
		return -ENOMEM;
	if (!h2_can_open(base))
		return -EAGAIN;
	if (h->flags & HTTP_FLAG_WEBSOCKET || span_is(h->method, "CONNECT"))
		return -EPROTO;
	make_list(&list, h, true);
	id = nghttp2_submit_request(c->session, NULL, list.nv, list.count,
	                            h->framing == HTTP_BODY_NONE ? NULL : &source, NULL);
	if (id < 0)
		return id == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EAGAIN;
	s = h2_add(c, id);
	if (!s) {
		(void)nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
		return -ENOMEM;
	}
	s->to_head = span_is(h->method, "HEAD");
	begin_body(s, h);
	*ret_stream = (uint32_t)id;
	return 0;
}

static int h2_reply(struct http_conn *base, uint32_t stream, const struct http_head *h)
{
	struct h2_conn *c = h2_of(base);
	nghttp2_data_provider source = { .read_callback = read_source };
	struct h2_stream *s = h2_find(c, (int32_t)stream);
	struct http_head copy;
	struct nv_list list;
	int r;

	if (!s || s->told)
		return -ENOENT;
	if (s->final || h->status == 101)
		return -EPROTO;
	if (s->to_head && h->framing != HTTP_BODY_NONE) {
		copy = *h;
		copy.flags |= h->framing == HTTP_BODY_LENGTH ? HTTP_FLAG_DECLARED : 0U;
		copy.framing = HTTP_BODY_NONE;
		h = &copy;
	}
	make_list(&list, h, false);
	if (h->status < 200) {
		r = nghttp2_submit_headers(c->session, NGHTTP2_FLAG_NONE, s->id, NULL, list.nv,
		                           list.count, NULL);
		return r == 0 ? 0 : -EPROTO;
	}
	r = nghttp2_submit_response(c->session, s->id, list.nv, list.count,
	                            h->framing == HTTP_BODY_NONE ? NULL : &source);
	if (r != 0)
		return r == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EPROTO;
	s->final = true;
	begin_body(s, h);
	return 0;
}

/* A stream whose body may be added to. */
static struct h2_stream *sending(struct h2_conn *c, uint32_t stream)
{
	struct h2_stream *s = h2_find(c, (int32_t)stream);

	return s && s->has_source && !s->done && !s->told ? s : NULL;
}

static int h2_body(struct http_conn *base, uint32_t stream, struct span *bytes)
{
	struct h2_conn *c = h2_of(base);
	struct h2_stream *s = sending(c, stream);
	size_t n;

	if (!s)
		return h2_find(c, (int32_t)stream) ? -EPROTO : -ENOENT;
	if (s->framing == HTTP_BODY_LENGTH && bytes->len > s->left)
		return -EMSGSIZE;
	n = HTTP2_SEND_BYTES - s->send_len;
	n = n < bytes->len ? n : bytes->len;
	s->starved = n < bytes->len;
	if (n == 0)
		return 0;
	if (!s->send)
		s->send = malloc(HTTP2_SEND_BYTES);
	if (!s->send)
		return -ENOMEM;
	if (s->send_at > 0) {
		memmove(s->send, s->send + s->send_at, s->send_len);
		s->send_at = 0;
	}
	memcpy(s->send + s->send_len, bytes->at, n);
	s->send_len += n;
	if (s->framing == HTTP_BODY_LENGTH)
		s->left -= n;
	bytes->at += n;
	bytes->len -= n;
	(void)nghttp2_session_resume_data(c->session, s->id);
	return 0;
}

/* Trailers and their text in one piece of memory. NULL: out of memory. */
static struct http_trailers *copy_trailers(const struct http_trailers *t)
{
	struct http_trailers *got;
	size_t bytes = 0;
	uint8_t *to;

	for (uint16_t i = 0; i < t->count; i++)
		bytes += t->fields[i].name.len + t->fields[i].value.len;
	got = malloc(sizeof(*got) + bytes);
	if (!got)
		return NULL;
	*got = *t;
	to = (uint8_t *)(got + 1);
	for (uint16_t i = 0; i < t->count; i++) {
		struct span *parts[2] = { &got->fields[i].name, &got->fields[i].value };

		for (int k = 0; k < 2; k++) {
			if (parts[k]->len > 0)
				memcpy(to, parts[k]->at, parts[k]->len);
			parts[k]->at = to;
			to += parts[k]->len;
		}
	}
	return got;
}

static int h2_end(struct http_conn *base, uint32_t stream, const struct http_trailers *t)
{
	struct h2_conn *c = h2_of(base);
	struct h2_stream *s = sending(c, stream);

	if (!s) {
		s = h2_find(c, (int32_t)stream);
		if (!s)
			return -ENOENT;
		return s->done ? 0 : -EPROTO;
	}
	if (s->left > 0) {
		base->ops->reset(base, stream, HTTP_RESET_INTERNAL);
		return -EPROTO;
	}
	if (t && t->count > 0) {
		s->trailers = copy_trailers(t);
		if (!s->trailers)
			return -ENOMEM;
	}
	s->done = true;
	(void)nghttp2_session_resume_data(c->session, s->id);
	return 0;
}

static void h2_reset(struct http_conn *base, uint32_t stream, enum http_reset why)
{
	static const uint32_t codes[] = {
		[HTTP_RESET_CANCEL] = NGHTTP2_CANCEL,
		[HTTP_RESET_REFUSED] = NGHTTP2_REFUSED_STREAM,
		[HTTP_RESET_PROTOCOL] = NGHTTP2_PROTOCOL_ERROR,
		[HTTP_RESET_CLOSED] = NGHTTP2_CANCEL,
		[HTTP_RESET_INTERNAL] = NGHTTP2_INTERNAL_ERROR,
	};
	struct h2_conn *c = h2_of(base);
	struct h2_stream *s = h2_find(c, (int32_t)stream);

	if (!s || s->told)
		return;
	s->told = true;
	s->refused = true; /* what still comes is dropped */
	(void)nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, s->id, codes[why]);
}

static void h2_consume(struct http_conn *base, uint32_t stream, size_t n)
{
	struct h2_conn *c = h2_of(base);
	struct h2_stream *s = h2_find(c, (int32_t)stream);

	if (!s)
		return;
	n = n < s->unconsumed ? n : s->unconsumed;
	s->unconsumed -= n;
	(void)nghttp2_session_consume_stream(c->session, s->id, n);
}

static void h2_drain(struct http_conn *base)
{
	struct h2_conn *c = h2_of(base);

	if (c->draining || c->broken)
		return;
	c->draining = true;
	(void)nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE,
	                            nghttp2_session_get_last_proc_stream_id(c->session),
	                            NGHTTP2_NO_ERROR, NULL, 0);
}

static bool h2_finished(struct http_conn *base)
{
	struct h2_conn *c = h2_of(base);

	if (conn_out_left(&c->out) > 0 || nghttp2_session_want_write(c->session))
		return false;
	return c->broken || (c->draining && c->count == 0) ||
	       !nghttp2_session_want_read(c->session);
}

static uint32_t h2_streams(const struct http_conn *base)
{
	return ((const struct h2_conn *)base)->count;
}

static size_t h2_bytes(const struct http_conn *base)
{
	const struct h2_conn *c = (const struct h2_conn *)base;
	size_t bytes = sizeof(*c) + c->library_bytes + c->out.size;

	if (c->block)
		bytes += sizeof(*c->block);
	for (const struct h2_stream *s = c->streams; s; s = s->next)
		bytes += sizeof(*s) + (s->send ? HTTP2_SEND_BYTES : 0) +
		         (s->trailers ? malloc_usable_size(s->trailers) : 0);
	return bytes;
}

static const struct conn_ops h2_ops = {
	.free = h2_free,
	.recv = h2_recv,
	.recv_eof = h2_recv_eof,
	.output = h2_output,
	.sent = h2_sent,
	.open = h2_open,
	.can_open = h2_can_open,
	.reply = h2_reply,
	.body = h2_body,
	.end = h2_end,
	.reset = h2_reset,
	.consume = h2_consume,
	.drain = h2_drain,
	.finished = h2_finished,
	.streams = h2_streams,
	.bytes = h2_bytes,
};

/* --- nghttp2's memory, counted: what the peer makes it keep shows here alone --- */

static void *note_new(struct h2_conn *c, void *at)
{
	c->library_bytes += at ? malloc_usable_size(at) : 0;
	return at;
}

static void *library_malloc(size_t size, void *user)
{
	return note_new(user, malloc(size));
}

static void *library_calloc(size_t count, size_t size, void *user)
{
	return note_new(user, calloc(count, size));
}

static void library_free(void *at, void *user)
{
	struct h2_conn *c = user;

	c->library_bytes -= at ? malloc_usable_size(at) : 0;
	free(at);
}

static void *library_realloc(void *at, size_t size, void *user)
{
	struct h2_conn *c = user;
	size_t had = at ? malloc_usable_size(at) : 0;
	void *got = realloc(at, size);

	if (got)
		c->library_bytes += malloc_usable_size(got) - had;
	return got;
}

static int new_session(struct h2_conn *c, bool client, const nghttp2_session_callbacks *cb)
{
	nghttp2_mem mem = { c, library_malloc, library_free, library_calloc, library_realloc };
	nghttp2_option *o = NULL;
	int r = nghttp2_option_new(&o);

	if (r != 0)
		return r;
	nghttp2_option_set_no_auto_window_update(o, 1);
	nghttp2_option_set_no_closed_streams(o, 1);
	nghttp2_option_set_max_outbound_ack(o, HTTP2_ACKS_MAX);
	nghttp2_option_set_max_settings(o, HTTP2_SETTINGS_MAX);
	nghttp2_option_set_max_continuations(o, HTTP2_CONTINUATIONS_MAX);
	nghttp2_option_set_stream_reset_rate_limit(o, HTTP2_RESET_BURST, HTTP2_RESET_PER_S);
	nghttp2_option_set_max_deflate_dynamic_table_size(o, HTTP2_TABLE_BYTES);
	nghttp2_option_set_peer_max_concurrent_streams(o, HTTP2_STREAMS_MAX);
	r = client ? nghttp2_session_client_new3(&c->session, cb, c, o, &mem)
	           : nghttp2_session_server_new3(&c->session, cb, c, o, &mem);
	nghttp2_option_del(o);
	return r;
}

struct http_conn *h2_conn_new(const struct http_conn_opts *opts)
{
	struct h2_conn *c = calloc(1, sizeof(*c));
	nghttp2_session_callbacks *cb = NULL;
	int r = -1;

	if (c && nghttp2_session_callbacks_new(&cb) == 0) {
		nghttp2_session_callbacks_set_on_frame_send_callback(cb, frame_send);
		r = h2_recv_callbacks(cb);
		if (r == 0)
			r = new_session(c, opts->client, cb);
		nghttp2_session_callbacks_del(cb);
	}
	if (r != 0) {
		free(c);
		return NULL;
	}
	c->base.ops = &h2_ops;
	c->tokens = HTTP2_CONTROL_BURST;
	return &c->base;
}
