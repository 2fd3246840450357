/*
 * conn: one connection that speaks HTTP, in either role and either version, behind the same calls.
 *
 * Memory in, memory out: the caller has the socket, TLS and the clock. Bytes from the peer go to
 * http_conn_recv(), bytes for it come from http_conn_output(). What is read comes as events, during
 * http_conn_recv() and http_conn_recv_eof(); an event may call anything here but those two,
 * http_conn_output() and http_conn_free().
 *
 * Hostile   the peer, in either role
 * Streams   a request and its response. HTTP/1 has one at a time: the next request of a pipeline is
 *           not read, let alone judged, before the answer to the last is complete. A stream is gone
 *           when both directions ended, or with `reset`; its id is not used again.
 * Back-pressure  received: bytes given in `body` count until http_conn_consume() says they are
 *           gone; never more than the window are outstanding for a stream. Sent:
 *           http_conn_body() takes what there is room for, and `room` says when to go on.
 * Memory    HTTP/1: a reader, about 50 KiB, while a message is there, and up to HTTP_OUT_MAX.
 *           HTTP/2: up to HTTP2_STREAMS_MAX streams with HTTP2_SEND_BYTES each, and nghttp2's own,
 *           which its limits bound
 * Source    RFC 9112, RFC 9113
 */
#pragma once

#include "base/err.h"
#include "http/head.h"

enum http_reset {
	HTTP_RESET_CANCEL = 1, /* by the peer, or for us: nobody wants it any more */
	HTTP_RESET_REFUSED,    /* never processed: may be sent again */
	HTTP_RESET_PROTOCOL,   /* its framing is broken */
	HTTP_RESET_CLOSED,     /* the connection ended in the middle */
	HTTP_RESET_INTERNAL,
};

/* Spans and heads are borrowed, for the time of the call. */
struct http_events {
	/* A request, or a response: 1xx first, then one other; its framing says if body comes */
	void (*head)(void *user, uint32_t stream, const struct http_head *h);
	void (*body)(void *user, uint32_t stream, struct span bytes);
	void (*trailers)(void *user, uint32_t stream, const struct http_trailers *t);
	/*
	 * The message is complete; the stream lives until our direction has ended as well. After an
	 * upgrade it comes twice: for the request, and when the opaque bytes end.
	 */
	void (*end)(void *user, uint32_t stream);
	/*
	 * What comes on this stream is not HTTP as we take it; nothing more of it is read. Server:
	 * answer with http_reason_status() and end, or reset. Client: the stream is gone, a 502.
	 */
	void (*refused)(void *user, uint32_t stream, enum http_reason why);
	void (*reset)(void *user, uint32_t stream, enum http_reset why); /* the stream is gone */
	void (*room)(void *user, uint32_t stream);
};

struct http_conn_opts {
	bool client;
	bool http2;            /* as ALPN chose; prior knowledge, no upgrade */
	bool keep_slash;       /* server: see http_rules */
	bool connect;          /* server, HTTP/1 */
	uint8_t scheme;        /* server: enum http_scheme */
	uint64_t body_max;     /* received; 0: no limit */
	uint32_t window_bytes; /* 0: HTTP_WINDOW_BYTES; at most HTTP_WINDOW_MAX */
};

struct http_conn;

/* events and user are borrowed until http_conn_free(). -ENOMEM. */
_must_ int http_conn_new(const struct http_conn_opts *opts, const struct http_events *events,
                         void *user, struct http_conn **ret, struct err *e);
void http_conn_free(struct http_conn *c); /* tells no event */
OWN_DEFINE(struct http_conn, http_conn_free)

/*
 * Takes bytes off the front of `in`, as many as may be read now: what is left has to be offered
 * again after the caller consumed, answered or sent something. now_ms: any clock that only grows.
 * 0, or -EPROTO: the connection is beyond use; what http_conn_output() still has may be sent. Some
 * faults show only then, as http_conn_finished().
 */
_must_ int http_conn_recv(struct http_conn *c, uint64_t now_ms, struct span *in);

/* The peer sends no more. -EPROTO: in the middle of something. */
_must_ int http_conn_recv_eof(struct http_conn *c);

/* Bytes for the peer; empty if there are none now. Good until the next call here. */
struct span http_conn_output(struct http_conn *c);
/* The first n of them are gone; room may be told. */
void http_conn_sent(struct http_conn *c, size_t n);

/* Client. Sends a request; *ret_stream is its id. -EAGAIN: not now (http_conn_can_open());
 * -EPROTO: this version cannot say it (an upgrade over HTTP/2); -EMSGSIZE. */
_must_ int http_conn_open(struct http_conn *c, const struct http_head *h, uint32_t *ret_stream);
bool http_conn_can_open(const struct http_conn *c);

/*
 * Server. Sends a 1xx, or the response. A 101, or a 2xx to CONNECT, makes the stream opaque: body
 * goes both ways until each side ends. -ENOENT: no such stream; -EPROTO: not now, or no such answer
 * to this request; -EMSGSIZE.
 */
_must_ int http_conn_reply(struct http_conn *c, uint32_t stream, const struct http_head *h);

/*
 * Both roles, after a head with a body was sent. Takes off the front of *bytes what there is room
 * for, perhaps nothing. -EMSGSIZE: over the length the head said.
 */
_must_ int http_conn_body(struct http_conn *c, uint32_t stream, struct span *bytes);
/* The end of the message. trailers may be NULL; where there is no place for them they are left out.
 * -EPROTO: bytes are missing; the stream is reset. */
_must_ int http_conn_end(struct http_conn *c, uint32_t stream,
                         const struct http_trailers *trailers);

/* Drops the stream, without an event. HTTP/1: the connection with it. */
void http_conn_reset(struct http_conn *c, uint32_t stream, enum http_reset why);

/* So many bytes of what `body` gave are dealt with. */
void http_conn_consume(struct http_conn *c, uint32_t stream, size_t n);

/* No new streams; those under way go on, then http_conn_finished(). */
void http_conn_drain(struct http_conn *c);

/* All is said and sent: close. */
bool http_conn_finished(struct http_conn *c);

/* Streams that are open. */
uint32_t http_conn_streams(const struct http_conn *c);

/* What it holds in memory now, all that the peer can make grow included. */
size_t http_conn_bytes(const struct http_conn *c);

/* Why http_conn_recv() failed. */
enum http_reason http_conn_reason(const struct http_conn *c);
