/*
 * http: the canonical head of a request or response, and the pure parsers that make it.
 *
 * What is judged is what is forwarded: a message is read strictly, turned into a struct http_head
 * that has one reading only, and written anew from it. HTTP/1.1 (h1.h) and HTTP/2 (h2.h) both end
 * here, and src/egress carries it between the two processes.
 *
 * Hostile   every byte: to the gate those of the guest, to the vault those of the upstream
 * Views     spans of a head point into the storage of whoever made it (a reader, a payload)
 * Errors    -EBADMSG, and a typed reason beside it. Never a guess and never a repair
 * Source    RFC 9110, RFC 9112, RFC 3986, RFC 5952
 */
#pragma once

#include "base/buf.h"
#include "base/span.h"
#include "http/limits.h"

#include <stdbool.h>
#include <stdint.h>

/* Why a message is refused. A word and a status for each: http_reason_word(), _status(). */
enum http_reason {
	HTTP_FINE = 0,
	/* bytes and lines */
	HTTP_BARE_CR,
	HTTP_BARE_LF,
	HTTP_CONTROL_BYTE,
	HTTP_REQUEST_LINE, /* not three parts with one space between them */
	HTTP_STATUS_LINE,
	HTTP_HEAD_TOO_LARGE,
	HTTP_FIELDS_TOO_MANY,
	HTTP_FIELD_NAME, /* empty, no token, too long, or a framing name spelt with '_' */
	HTTP_FIELD_SPACE,
	HTTP_FIELD_FOLD,
	HTTP_FIELD_VALUE,
	HTTP_FIELD_REPEATED, /* one that may stand once, twice */
	/* the first line */
	HTTP_METHOD, /* no token, not in capitals, too long */
	HTTP_TRACE,
	HTTP_CONNECT, /* where nobody asked for a proxy */
	HTTP_VERSION,
	HTTP_TARGET,
	HTTP_TARGET_TOO_LONG,
	HTTP_SCHEME, /* not that of the connection */
	HTTP_HOST_MISSING,
	HTTP_HOST_REPEATED,
	HTTP_HOST,          /* neither a name nor an address, or a port that is none */
	HTTP_HOST_MISMATCH, /* Host is not the target's authority */
	/* the path */
	HTTP_PATH_ESCAPE,
	HTTP_PATH_BYTE,
	HTTP_PATH_UTF8,
	HTTP_PATH_CLIMBS,
	HTTP_PATH_SLASH, /* an escaped one */
	HTTP_PATH_BACKSLASH,
	HTTP_PATH_DOTS, /* a dot segment with a parameter */
	HTTP_FRAGMENT,
	HTTP_QUERY,
	/* framing */
	HTTP_LENGTH,
	HTTP_LENGTH_REPEATED,
	HTTP_CODING,
	HTTP_CODING_REPEATED,
	HTTP_LENGTH_AND_CODING,
	HTTP_BODY_FORBIDDEN,
	HTTP_BODY_TOO_LARGE,
	HTTP_CHUNK_SIZE,
	HTTP_CHUNK_EXTENSION,
	HTTP_CHUNK_END,
	HTTP_TRAILER, /* a field that may not come after the body */
	HTTP_TRAILERS_TOO_LARGE,
	HTTP_TRUNCATED,
	/* the rest */
	HTTP_OPTION, /* Connection names a field that is not for one hop */
	HTTP_EXPECT,
	HTTP_UPGRADE,
	HTTP_STATUS,
	HTTP_UNASKED, /* an answer to nothing, a 101 to a plain request, too many 1xx */
	HTTP_PSEUDO_FIELD,
	HTTP_FLOOD,    /* frames that carry nothing, too many of them */
	HTTP_PROTOCOL, /* HTTP/2 broken below the level of messages */
	HTTP_REASON_COUNT,
};

/* "bare-lf", "length-and-coding", ...: stable, for records. */
const char *http_reason_word(enum http_reason why);

/* The status a client is answered with: 400, 405, 413, 414, 417, 431 or 505. */
uint16_t http_reason_status(enum http_reason why);

enum http_scheme { HTTP_PLAIN = 1, HTTP_TLS = 2 };

enum http_host_kind { HTTP_HOST_NAME = 1, HTTP_HOST_IP4 = 2, HTTP_HOST_IP6 = 3 };

struct http_host {
	uint8_t kind;
	uint8_t len;      /* of text */
	uint16_t port;    /* from a parser of text: 0 if none was said. In a head: never 0 */
	uint8_t addr[16]; /* IP4: the first four; IP6: all; else zeros */
	char text[HTTP_HOST_MAX + 1]; /* lower case, no trailing dot, RFC 5952 without brackets */
};

struct http_field {
	struct span name; /* lower case */
	struct span value;
};

struct http_trailers {
	uint16_t count;
	struct http_field fields[HTTP_TRAILER_FIELDS_MAX];
};

enum http_framing {
	HTTP_BODY_NONE = 0,
	HTTP_BODY_LENGTH = 1, /* exactly `length` bytes; 0 is allowed */
	HTTP_BODY_STREAM = 2, /* until the end is said; trailers may follow */
};

enum http_flag {
	HTTP_FLAG_QUERY = 1,    /* there was a '?' */
	HTTP_FLAG_CONTINUE = 2, /* Expect: 100-continue */
	/* request: Upgrade: websocket. Response: the 101 to it */
	HTTP_FLAG_WEBSOCKET = 4,
	HTTP_FLAG_TRAILERS = 8,       /* TE: trailers, as gRPC sends it */
	HTTP_FLAG_ENCODED_SLASH = 16, /* the path has a %2F, which the endpoint must allow */
	/* response without body: `length` is what a GET would have had (HEAD, 304) */
	HTTP_FLAG_DECLARED = 32,
	HTTP_FLAGS = 63,
};

/*
 * Fields are in the order they came. Not among them, because the head says it itself: Host,
 * Content-Length, Transfer-Encoding, Connection and what it names, Keep-Alive, Proxy-Connection,
 * Proxy-Authorization, Proxy-Authenticate, TE, Upgrade, Expect, HTTP2-Settings.
 */
struct http_head {
	struct span method;    /* request */
	uint8_t scheme;        /* request: enum http_scheme */
	struct http_host host; /* request */
	struct span path;      /* request: canonical; "*" for OPTIONS; empty for CONNECT */
	struct span query;     /* request: as sent, without the '?' */
	uint16_t status;       /* response; 0 in a request */
	uint8_t framing;
	uint64_t length;
	uint32_t flags;
	uint16_t count;
	struct http_field fields[HTTP_FIELDS_MAX];
};

/* --- pure: host_parse.c, path_parse.c, field_parse.c --- */

/*
 * "host" or "host:port". Names: LDH labels, folded to lower case, one trailing dot taken off. A
 * last label that is a number makes it an address, which must then be a plain dotted quad.
 */
_must_ int host_parse(struct span text, struct http_host *ret);

/* Same name or address, and the same port. */
_must_ bool host_parse_same(const struct http_host *a, const struct http_host *b);

enum { PATH_KEEP_SLASH = 1 }; /* let %2F stand, and say so in ret_flags */

/*
 * Appends the canonical form of a path (from '/' up to '?'). See docs/internals/http.md for the
 * rules; doing it twice changes nothing. On failure `out` holds what was made so far.
 *
 * ret_flags   gets HTTP_FLAG_ENCODED_SLASH or nothing
 */
_must_ int path_parse(struct span raw, unsigned options, struct buf *out, uint32_t *ret_flags,
                      enum http_reason *ret_why);

/* May this be a query (without the '?')? Visible ASCII, no '#', whole escapes. */
_must_ int query_parse_check(struct span query, enum http_reason *ret_why);

/*
 * The next `name=value` between '&', both as sent. False at the end. Empty parts are skipped; a
 * part without '=' has an empty value.
 */
bool query_parse_next(struct span *query, struct span *ret_name, struct span *ret_value);

/* Appends a name or value of a checked query with its escapes undone, '+' being a space. */
void query_parse_decode(struct span raw, struct buf *out);

/* ASCII without case: is a (any case) the lower-case word? */
_must_ bool field_parse_is(struct span a, const char *lower);

/*
 * A whole field name: a token of at most HTTP_NAME_MAX, all in lower case, and not a framing name
 * spelt with '_', which some servers read as '-'.
 */
_must_ bool field_parse_name_ok(struct span name);

/* A field value: no control bytes, no blanks around it. */
_must_ bool field_parse_value_ok(struct span value);

/* A method: a token in capitals of at most HTTP_METHOD_MAX. */
_must_ bool field_parse_method_ok(struct span method);

/* Digits only, no leading zero, at most INT64_MAX. */
_must_ bool field_parse_length(struct span value, uint64_t *ret);

/* Is it said by the head itself, or for one hop only, so that no canonical head has it? */
_must_ bool field_parse_is_hop(struct span name);

/* May a field of this name come after the body? */
_must_ bool field_parse_in_trailers(struct span name);

/* The value of the first field of that name; an empty span with at == NULL if there is none. */
struct span http_head_find(const struct http_head *h, const char *name);
