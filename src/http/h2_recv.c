#include "http/h2_inner.h"

#include <errno.h>
#include <string.h>

/*
 * Theory of operation
 *
 * nghttp2 checks the frames, the state of streams, and what RFC 9113 asks of pseudo fields and
 * lengths; we check the rest of a head with the code that reads HTTP/1 heads. A head that we refuse
 * ends its stream alone: the caller answers it, the siblings go on.
 *
 * What nghttp2 of Debian 12 (1.52 with its fixes) bounds, told to by h2_conn.c: RST_STREAM
 * received, CONTINUATION frames, SETTINGS entries, answers waiting, streams open. What it does not,
 * and we do: the size of a head after HPACK and the number of its fields, PING, SETTINGS, PRIORITY
 * and empty DATA frames that cost it next to nothing but never end, and resets that a peer makes us
 * send by its own faults. Each such frame costs a token; time and real data bring new ones.
 */

enum pseudo { P_METHOD = 1, P_SCHEME = 2, P_AUTHORITY = 4, P_PATH = 8, P_STATUS = 16 };

bool h2_spend(struct h2_conn *c)
{
	uint64_t more = (c->now_ms - c->tokens_ms) * HTTP2_CONTROL_PER_S / 1000;

	if (more > 0) {
		uint64_t sum =
			c->tokens + (more < HTTP2_CONTROL_BURST ? more : HTTP2_CONTROL_BURST);

		c->tokens = sum < HTTP2_CONTROL_BURST ? (uint32_t)sum : HTTP2_CONTROL_BURST;
		c->tokens_ms = c->now_ms;
	}
	if (c->tokens > 0) {
		c->tokens--;
		return true;
	}
	if (!c->broken) {
		c->broken = true;
		c->base.why = HTTP_FLOOD;
		(void)nghttp2_session_terminate_session(c->session, NGHTTP2_ENHANCE_YOUR_CALM);
	}
	return false;
}

static void earn(struct h2_conn *c)
{
	if (c->tokens < HTTP2_CONTROL_BURST)
		c->tokens++;
}

/* --- a block of fields --- */

static int begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct h2_conn *c = user;
	struct h2_stream *s = h2_find(c, frame->hd.stream_id);
	struct h2_block *b;

	(void)session;
	if (frame->hd.type != NGHTTP2_HEADERS)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	if (!s && !c->base.opts.client && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		s = h2_add(c, frame->hd.stream_id);
	if (!s)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	if (!c->block)
		c->block = malloc(sizeof(*c->block));
	b = c->block;
	if (!b)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	b->stream = frame->hd.stream_id;
	b->trailers = s->has_head && (!c->base.opts.client || s->final);
	b->why = HTTP_FINE;
	b->seen = 0;
	b->len = 0;
	b->fields.count = 0;
	b->rules = c->base.rules;
	b->rules.to_head = s->to_head;
	buf_init(&b->path, b->path_bytes, sizeof(b->path_bytes));
	head_parse_begin(&b->maker, &b->rules, &b->head, &b->path);
	b->maker.version = HTTP_2;
	return 0;
}

/* A copy that lives as long as the block. False: the head is over its maximum. */
static bool keep(struct h2_block *b, const uint8_t *at, size_t len, struct span *ret)
{
	if (len > sizeof(b->text) - b->len)
		return false;
	if (len > 0)
		memcpy(b->text + b->len, at, len);
	*ret = span_of(b->text + b->len, len);
	b->len += len;
	return true;
}

static void take_status(struct h2_block *b, struct span value)
{
	uint64_t code;

	if (value.len != 3 || !span_to_u64(value, &code))
		b->why = HTTP_STATUS;
	else
		b->head.status = (uint16_t)code;
}

static void take_pseudo(struct h2_block *b, struct span name, struct span value)
{
	uint32_t bit = 0;

	if (span_is(name, ":method")) {
		bit = P_METHOD;
		b->head.method = value;
	} else if (span_is(name, ":scheme")) {
		bit = P_SCHEME;
		b->maker.scheme = value;
	} else if (span_is(name, ":authority")) {
		bit = P_AUTHORITY;
		b->maker.has_authority = true;
		b->maker.authority = value;
	} else if (span_is(name, ":path")) {
		bit = P_PATH;
		b->maker.target = value;
	} else if (span_is(name, ":status")) {
		bit = P_STATUS;
		take_status(b, value);
	}
	if (bit == 0 || b->seen & bit || b->trailers || (bit == P_STATUS) != b->rules.response)
		b->why = HTTP_PSEUDO_FIELD;
	b->seen |= bit;
}

static void take_field(struct h2_block *b, struct span name, struct span value)
{
	if (b->trailers) {
		if (b->len > HTTP_TRAILER_BYTES_MAX)
			b->why = HTTP_TRAILERS_TOO_LARGE;
		else
			(void)!head_parse_trailer(&b->fields, name, value, &b->why);
	} else if (!head_parse_field(&b->maker, name, value)) {
		b->why = b->maker.why;
	}
}

/* After the first fault the rest is decoded, as HPACK demands, and dropped. */
static int header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                  size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                  void *user)
{
	struct h2_conn *c = user;
	struct h2_block *b = c->block;
	struct span n;
	struct span v;

	(void)session;
	(void)flags;
	if (!b || b->stream != frame->hd.stream_id || b->why != HTTP_FINE)
		return 0;
	if (!keep(b, name, name_len, &n) || !keep(b, value, value_len, &v))
		b->why = HTTP_HEAD_TOO_LARGE;
	else if (n.len > 0 && n.at[0] == ':')
		take_pseudo(b, n, v);
	else
		take_field(b, n, v);
	return 0;
}

/* nghttp2 would leave it out and go on. */
static int invalid_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                          size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                          void *user)
{
	struct h2_conn *c = user;

	(void)session;
	(void)name;
	(void)name_len;
	(void)value;
	(void)value_len;
	(void)flags;
	if (c->block && c->block->stream == frame->hd.stream_id && c->block->why == HTTP_FINE)
		c->block->why = HTTP_FIELD_VALUE;
	return 0;
}

/* --- what became of it --- */

static void refuse(struct h2_conn *c, struct h2_stream *s, enum http_reason why)
{
	int32_t id = s->id;

	if (s->refused)
		return;
	s->refused = true;
	s->told = c->base.opts.client;
	if (c->base.opts.client)
		(void)nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, id,
		                                NGHTTP2_PROTOCOL_ERROR);
	c->base.on->refused(c->base.user, (uint32_t)id, why);
}

static void end_in(struct h2_conn *c, struct h2_stream *s)
{
	if (s->in_done)
		return;
	s->in_done = true;
	if (!s->refused && !s->told)
		c->base.on->end(c->base.user, (uint32_t)s->id);
}

static enum http_reason finish_head(struct h2_block *b, bool end_stream)
{
	const uint32_t all = P_METHOD | P_SCHEME | P_PATH;

	if (b->why != HTTP_FINE)
		return b->why;
	if (b->rules.response ? b->seen != P_STATUS : (b->seen & all) != all)
		return span_is(b->head.method, "CONNECT") ? HTTP_CONNECT : HTTP_PSEUDO_FIELD;
	if (!head_parse_finish(&b->maker))
		return b->maker.why;
	if (b->head.status == 101)
		return HTTP_UNASKED;
	if (end_stream && b->head.framing == HTTP_BODY_LENGTH && b->head.length > 0)
		return HTTP_LENGTH;
	if (end_stream && b->head.framing == HTTP_BODY_STREAM)
		b->head.framing = HTTP_BODY_NONE;
	return HTTP_FINE;
}

static void head_done(struct h2_conn *c, struct h2_stream *s, bool end_stream)
{
	struct h2_block *b = c->block;
	enum http_reason why = finish_head(b, end_stream);

	if (why != HTTP_FINE) {
		refuse(c, s, why);
		return;
	}
	s->has_head = true;
	if (!c->base.opts.client)
		s->to_head = span_is(b->head.method, "HEAD");
	else
		s->final = b->head.status >= 200;
	c->base.on->head(c->base.user, (uint32_t)s->id, &b->head);
}

static void trailers_done(struct h2_conn *c, struct h2_stream *s)
{
	if (c->block->why != HTTP_FINE)
		refuse(c, s, c->block->why);
	else if (c->block->fields.count > 0 && !s->told)
		c->base.on->trailers(c->base.user, (uint32_t)s->id, &c->block->fields);
}

static void headers_done(struct h2_conn *c, const nghttp2_frame *frame)
{
	struct h2_stream *s = h2_find(c, frame->hd.stream_id);
	bool end_stream = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;

	if (s && c->block && c->block->stream == s->id && !s->refused) {
		if (c->block->trailers)
			trailers_done(c, s);
		else
			head_done(c, s, end_stream);
	}
	free(c->block);
	c->block = NULL;
	s = h2_find(c, frame->hd.stream_id);
	if (s && end_stream)
		end_in(c, s);
}

static int frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct h2_conn *c = user;
	struct h2_stream *s = h2_find(c, frame->hd.stream_id);

	(void)session;
	if (frame->hd.type == NGHTTP2_GOAWAY)
		c->goaway = true;
	else if (frame->hd.type == NGHTTP2_HEADERS)
		headers_done(c, frame);
	else if (s && frame->hd.type == NGHTTP2_DATA && frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
		end_in(c, s);
	return c->broken ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

/* Before its payload is looked at, and whether nghttp2 then takes it seriously or not. */
static int begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *user)
{
	bool spends;

	(void)session;
	switch (hd->type) {
	case NGHTTP2_DATA:
		spends = hd->length == 0 && !(hd->flags & NGHTTP2_FLAG_END_STREAM);
		break;
	case NGHTTP2_HEADERS:
	case NGHTTP2_CONTINUATION:  /* bounded for each head */
	case NGHTTP2_WINDOW_UPDATE: /* as many as there is data to let through */
		spends = false;
		break;
	default: /* PING, SETTINGS, PRIORITY, RST_STREAM, ... */
		spends = true;
		break;
	}
	return !spends || h2_spend(user) ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

/* The peer's fault makes us reset its stream: CVE-2025-8671. */
static int invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int error,
                         void *user)
{
	(void)session;
	(void)frame;
	(void)error;
	return h2_spend(user) ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

/* Of a request whose answer is complete: a window's worth is read past, then it is told to stop. */
static void late_bytes(struct h2_conn *c, struct h2_stream *s, size_t len)
{
	s->late += len;
	if (!s->done_sent || s->cut || s->late <= HTTP_WINDOW_BYTES)
		return;
	s->cut = true;
	(void)nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_NO_ERROR);
}

static int data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                      size_t len, void *user)
{
	struct h2_conn *c = user;
	struct h2_stream *s = h2_find(c, id);

	(void)flags;
	earn(c);
	/* the stream's window alone holds a sender back, so no stream stalls another */
	if (nghttp2_session_consume_connection(session, len) != 0)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	if (s && s->told)
		late_bytes(c, s, len);
	if (!s || s->refused || s->told)
		return nghttp2_session_consume_stream(session, id, len) == NGHTTP2_ERR_NOMEM
		               ? NGHTTP2_ERR_CALLBACK_FAILURE
		               : 0;
	s->received += len;
	if (c->base.opts.body_max && s->received > c->base.opts.body_max) {
		refuse(c, s, HTTP_BODY_TOO_LARGE);
		return 0;
	}
	s->unconsumed += len;
	if (len > 0)
		c->base.on->body(c->base.user, (uint32_t)id, span_of(data, len));
	return 0;
}

static enum http_reset reset_of(uint32_t code)
{
	switch (code) {
	case NGHTTP2_REFUSED_STREAM:
		return HTTP_RESET_REFUSED;
	case NGHTTP2_NO_ERROR:
	case NGHTTP2_CANCEL:
		return HTTP_RESET_CANCEL;
	case NGHTTP2_INTERNAL_ERROR:
		return HTTP_RESET_INTERNAL;
	default:
		return HTTP_RESET_PROTOCOL;
	}
}

static int stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
	struct h2_conn *c = user;
	struct h2_stream *s = h2_find(c, id);
	bool tell;

	(void)session;
	if (!s)
		return 0;
	/* nobody heard of a request whose head never came to its end */
	tell = !s->told && !(s->in_done && s->done_sent) &&
	       (c->base.opts.client || s->has_head || s->refused);
	h2_forget(c, s);
	if (tell)
		c->base.on->reset(c->base.user, (uint32_t)id, reset_of(code));
	return 0;
}

int h2_recv_callbacks(nghttp2_session_callbacks *cb)
{
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(cb, header);
	nghttp2_session_callbacks_set_on_invalid_header_callback(cb, invalid_header);
	nghttp2_session_callbacks_set_on_begin_frame_callback(cb, begin_frame);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, frame_recv);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(cb, invalid_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, data_chunk);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, stream_close);
	return 0;
}
