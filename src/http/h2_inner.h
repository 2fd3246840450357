/* h2_inner: HTTP/2 over nghttp2, the parts of h2_conn.c and h2_recv.c. For src/http alone. */
#pragma once

#include "http/conn_inner.h"

#include <nghttp2/nghttp2.h>

struct h2_stream {
	struct h2_stream *next;
	int32_t id;
	bool has_head;  /* its head was given to the caller */
	bool in_done;   /* the peer's direction ended */
	bool done;      /* ours: the end was said by the caller */
	bool done_sent; /* and framed */
	bool refused;   /* nothing more of it is given to the caller */
	bool final;     /* a final response was sent, or read */
	bool to_head;
	bool has_source; /* a body of ours is under way */
	bool starved;
	bool told; /* the caller knows that it is gone */
	bool cut;  /* and it was reset for what came all the same: */
	size_t late;
	uint8_t framing;
	uint64_t left; /* of our body, LENGTH */
	uint64_t received;
	size_t unconsumed;
	uint8_t *send; /* HTTP2_SEND_BYTES, while something is in it */
	size_t send_at, send_len;
	struct http_trailers *trailers; /* with their text behind them */
};

/* The head or the trailers that are being read: only one block at a time can be, RFC 9113, 4.3. */
struct h2_block {
	int32_t stream;
	bool trailers;
	enum http_reason why;
	uint32_t seen; /* pseudo fields */
	struct http_rules rules;
	struct head_maker maker;
	struct http_head head;
	struct http_trailers fields;
	struct buf path;
	uint8_t path_bytes[HTTP_TARGET_MAX];
	size_t len;
	uint8_t text[HTTP_HEAD_MAX];
};

struct h2_conn {
	struct http_conn base;
	nghttp2_session *session;
	struct h2_stream *streams;
	uint32_t count;
	bool begun; /* our SETTINGS are queued */
	bool broken;
	bool draining;
	bool goaway; /* the peer's was read */
	uint64_t now_ms;
	uint64_t tokens_ms; /* when tokens were last added */
	uint32_t tokens;
	struct conn_out out;
	struct h2_block *block; /* while a block is being read */
	size_t library_bytes;   /* what nghttp2 has allocated for it */
};

static inline struct h2_conn *h2_of(struct http_conn *c)
{
	return (struct h2_conn *)c;
}

struct h2_stream *h2_find(const struct h2_conn *c, int32_t id);
struct h2_stream *h2_add(struct h2_conn *c, int32_t id);
void h2_forget(struct h2_conn *c, struct h2_stream *s);

/* Sets what is called when something is read. 0 or an error of nghttp2. */
_must_ int h2_recv_callbacks(nghttp2_session_callbacks *cb);

/* One frame that carries no message. False: too many of them, the connection is being ended. */
_must_ bool h2_spend(struct h2_conn *c);
