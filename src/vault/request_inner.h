/*
 * request_inner: a request's parts, for request.c and request_flow.c.
 */
#pragma once

#include "egress/egress.h"
#include "http/conn.h"
#include "policy/policy.h"
#include "vault/request.h"
#include "vault/scan.h"
#include "vault/scrub.h"
#include "vault/swap.h"
#include "vault/upstream.h"

/* The head as the gate sent it, and room for the one that is sent on. */
struct asked {
	struct egress_request request;
	struct http_head out;
	size_t len;
	uint8_t bytes[]; /* what the spans of request point into */
};

/* Bytes that wait. */
struct waiting {
	uint8_t *at;
	size_t from, len, size;
};

struct kept_trailers {
	struct http_trailers t;
	size_t len;
	uint8_t bytes[]; /* what its spans point into */
};

struct request {
	struct vault *v;
	struct request *next; /* on the same upstream */
	uint32_t stream, number;
	struct upstream *up_conn; /* NULL: none yet, or not any more */
	uint32_t up_stream;       /* there; 0: not sent */
	struct asked *asked;      /* until the answer begins */
	struct scan *scan;
	struct scrub *scrub;

	struct host_name name;
	const struct host_name *names; /* what ask.names points to */
	struct policy_ask ask;         /* its method, path and query as long as `asked` */
	uint16_t rule;
	uint64_t heard_ms; /* when something last came, from either side */

	size_t held; /* bytes, of the vault's held_bytes */

	bool again;     /* it was sent once more */
	bool sent;      /* its head was, upstream */
	bool old_conn;  /* its connection had carried others before */
	bool opaque;    /* after a 101 */
	bool head_seen; /* the answer has begun */

	struct waiting up;
	uint64_t up_taken; /* of the body, by the http_conn */
	uint32_t owed;     /* of it, for which no credit was granted yet */
	struct kept_trailers *up_trailers;
	bool gate_ended; /* all of `up` is there */
	bool up_done;    /* and was sent */

	struct waiting down;
	bool stuck; /* scrub has more, for which there was no room */
	struct kept_trailers *down_trailers;
	bool answer_read; /* all of `down` is there */
	bool answered;    /* and was sent: our half has ended */
};

void request_hold(struct request *q);  /* something it holds has grown, or is gone */
void request_touch(struct request *q); /* something came */
void request_fail(struct request *q, enum egress_fail why);            /* it is gone after that */
void request_violation(struct request *q, const struct scan_hit *hit); /* the same */
/* Replies tried one beginning of a value after the other: it is withdrawn. The same */
void request_guessed(struct request *q);
void request_say_scrubbed(struct request *q);
void request_check_done(struct request *q); /* perhaps the same */
void request_push_up(struct request *q);    /* the same */
void request_push_down(struct request *q);  /* the same */
