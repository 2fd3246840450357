/*
 * head: makes a canonical head from a first line (or pseudo fields) and fields, for either
 * version. Pure. The reader of a version begins a maker, adds what it read and finishes it; every
 * rule that does not depend on how the bytes were framed is here, once.
 */
#pragma once

#include "http/http.h"

/* What the connection knows before a head is read. */
struct http_rules {
	bool response;
	uint8_t scheme;    /* request: of the connection; another one in the target is refused */
	bool keep_slash;   /* request: %2F in a path is flagged and not refused */
	bool connect;      /* request: CONNECT is allowed */
	uint64_t body_max; /* 0: no limit */
	bool to_head;      /* response: the request was a HEAD */
	bool to_websocket; /* response: the request asked for an upgrade */
};

enum http_version { HTTP_1_0 = 10, HTTP_1_1 = 11, HTTP_2 = 20 };

struct head_maker {
	const struct http_rules *rules;
	struct http_head *head;
	struct buf *path; /* where the canonical path goes */
	uint8_t version;
	bool has_authority; /* HTTP/2 */
	struct span scheme; /* HTTP/2 */
	struct span authority;
	struct span target; /* HTTP/1: of the request line; HTTP/2: :path */
	struct span host;
	struct span length;
	struct span coding;
	struct span upgrade;
	uint32_t seen;
	bool close;       /* Connection: close, or a version that knows nothing else */
	bool until_close; /* response: the body ends with the connection */
	uint16_t option_count;
	struct span options[HTTP_OPTIONS_MAX];
	enum http_reason why;
};

/* Empties *ret and *head. All three are borrowed until the head is done. */
void head_parse_begin(struct head_maker *ret, const struct http_rules *rules,
                      struct http_head *head, struct buf *path);

/* One field: the name a token in lower case, the value without blanks around it. */
_must_ bool head_parse_field(struct head_maker *m, struct span name, struct span value);

/*
 * All is there: the head is judged and completed. False: m->why says what is wrong. Of a head of
 * HTTP/2 the framing is STREAM unless a length was said; the caller makes it NONE if the message
 * ends with it.
 */
_must_ bool head_parse_finish(struct head_maker *m);

/* One field after the body. False: *ret_why. */
_must_ bool head_parse_trailer(struct http_trailers *t, struct span name, struct span value,
                               enum http_reason *ret_why);
