/*
 * h1: HTTP/1.1 and 1.0 as messages: a reader of one direction of a connection, and the writers.
 *
 * Hostile   every byte read
 * Shape     h1_read() is given what came, in pieces of any size, and answers with events: the head,
 *           pieces of the body, the trailers, the end. What it answers does not depend on how the
 *           bytes were cut. It never reads past the end of a message it was not told to pass.
 * Memory    struct h1_reader and nothing else
 * Source    RFC 9112
 */
#pragma once

#include "http/head.h"

enum h1_state {
	H1_IDLE = 0, /* response: nothing was asked */
	H1_FIRST,    /* the first line */
	H1_FIELDS,
	H1_LENGTH,
	H1_CHUNKS,
	H1_TRAILERS,
	H1_UNTIL_CLOSE,
	H1_END_DUE,
	H1_WAIT,   /* request: what comes next depends on the answer */
	H1_OPAQUE, /* no HTTP any more */
	H1_BAD,
};

enum h1_kind { H1_HEAD = 1, H1_BODY = 2, H1_TRAILER_FIELDS = 3, H1_END = 4 };

struct h1_event {
	enum h1_kind kind;
	const struct http_head *head;         /* HEAD; good until the END */
	struct span bytes;                    /* BODY: borrowed from the input, not empty */
	const struct http_trailers *trailers; /* TRAILER_FIELDS; good until the END */
};

enum chunk_state {
	CHUNK_SIZE = 0,
	CHUNK_EXT,
	CHUNK_EXT_NAME,
	CHUNK_EXT_VALUE,
	CHUNK_EXT_TOKEN,
	CHUNK_EXT_QUOTED,
	CHUNK_EXT_ESCAPED,
	CHUNK_EXT_AFTER,
	CHUNK_SIZE_LF,
	CHUNK_DATA,
	CHUNK_DATA_CR,
	CHUNK_DATA_LF,
	CHUNK_LAST, /* the chunk of size 0 was read; trailers follow */
};

struct chunk {
	uint8_t state;
	uint8_t digits;
	uint64_t left;
	uint32_t line_bytes; /* of the extensions of this chunk */
	uint32_t exts_bytes; /* and of all of them */
	enum http_reason why;
};

/*
 * Pure (chunk_parse.c). Takes framing off the front of `in`; 0 with a piece of data, borrowed from
 * it, or with an empty one once the last chunk's line has been read. -EAGAIN: all of `in` is
 * taken. -EBADMSG: c->why. Begins with *c all zeros.
 */
_must_ int chunk_parse(struct chunk *c, struct span *in, struct span *ret_data);

struct h1_reader {
	struct http_rules rules;
	uint8_t state;
	uint8_t version;
	bool close; /* the connection cannot be used after this message */
	enum http_reason why;
	uint8_t info_count;
	size_t len;  /* bytes in text */
	size_t line; /* where the present line begins */
	size_t head_len;
	uint64_t left; /* LENGTH: still to come */
	uint64_t body; /* bytes that came */
	struct chunk chunk;
	struct head_maker maker;
	struct http_head head;
	struct http_trailers trailers;
	struct buf path;
	uint8_t path_bytes[HTTP_TARGET_MAX];
	uint8_t text[HTTP_HEAD_MAX + HTTP_TRAILER_BYTES_MAX];
};

/* For requests it is ready at once; for responses after each h1_reader_expect(). */
void h1_reader_init(struct h1_reader *r, const struct http_rules *rules);

/* A request was sent: the next response is to it. */
void h1_reader_expect(struct h1_reader *r, bool to_head, bool to_websocket);

/*
 * The answer to a request that wanted another protocol: from here on bytes are opaque, or the next
 * request. Only in H1_WAIT, where h1_read() takes nothing.
 */
void h1_reader_decide(struct h1_reader *r, bool opaque);

/*
 * Takes bytes off the front of `in`. 0: *ret is an event, and there may be more. -EAGAIN: more
 * bytes are needed, all were taken (but in IDLE with none there, and in WAIT). -EBADMSG: r->why;
 * the connection is beyond use.
 */
_must_ int h1_read(struct h1_reader *r, struct span *in, struct h1_event *ret);

/*
 * The peer closed its side. 0: the END of a body that lasts as long as the connection. -EAGAIN:
 * nothing was under way. -EBADMSG: a message is cut, r->why is HTTP_TRUNCATED.
 */
_must_ int h1_read_eof(struct h1_reader *r, struct h1_event *ret);

/* --- writing (h1_put.c): all or nothing, as buf does --- */

enum h1_put {
	H1_PUT_CLOSE = 1,       /* Connection: close */
	H1_PUT_UNTIL_CLOSE = 2, /* response: a STREAM body without chunks, for HTTP/1.0 */
};

/* The canonical head as HTTP/1.1. Cookies become one field. */
void h1_put_request(struct buf *out, const struct http_head *h, unsigned flags);
void h1_put_response(struct buf *out, const struct http_head *h, unsigned flags);

/* What stands before `len` bytes of a chunk; after them comes CRLF. */
void h1_put_chunk_size(struct buf *out, size_t len);

/* The last chunk, the trailers (NULL: none), the end. */
void h1_put_last_chunk(struct buf *out, const struct http_trailers *t);
