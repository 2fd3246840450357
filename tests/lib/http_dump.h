/*
 * http_dump: what src/http reads in some bytes, as lines of text, for tests that compare readings.
 *
 *	request GET https a.test 443 /path ?query flags framing length      (or: response 200 ...)
 *	field name: value
 *	body 68656c6c6f                    the whole body, in hex; only if there is one
 *	trailer name: value
 *	end 123                            bytes taken so far, and the message is complete
 *
 * and last one of `more` (a message, or none, is under way), `eof`, `bad word` (why it is refused).
 */
#pragma once

#include "http/h1.h"

enum { DUMP_BODY_MAX = 64 << 10, DUMP_BYTES_MAX = 512 << 10 };

struct h1_dump {
	struct http_rules rules; /* of a response: to_head and to_websocket of the first */
	size_t piece;            /* bytes given at a time; 0: all at once */
	uint32_t seed;           /* not 0: pieces of changing size, the same for a seed */
	bool eof;                /* the peer closes after the last byte */
	bool opaque;             /* what asks for another protocol is given it */
	size_t skip;             /* begin there in the input */
};

/* Room for all of it: DUMP_BYTES_MAX. */
void h1_dump(const struct h1_dump *d, struct span in, struct buf *out);

void http_dump_head(const struct http_head *h, struct buf *out);
void http_dump_trailers(const struct http_trailers *t, struct buf *out);
