/*
 * scrub: takes values out of a reply. The guest finds the placeholder there, or as many bytes that
 * mean nothing, in the same form; never is a length changed.
 *
 * Hostile   every byte: upstreams echo, and guests choose upstreams that do
 * Where     in replies of hosts that a secret is bound to; no other has one to give away
 * Finds     the values of the store, and those replaced while this reply is under way, in the forms
 *           that scan.h lists. docs/internals/secrets.md has what is not found
 * Holds     back only a tail that can be the beginning of a value (four bytes of it or more), at
 *           most the longest form of the longest value. So an event of SSE or a message of a
 *           WebSocket goes out at once unless it ends in the middle of one. Up to three bytes of
 *           the beginning of a value may go out when a piece ends behind them; the rest never does
 * Guesses   who sees what is held learns that it was right, so a guest that has a server send one
 *           guess after the other would learn a value byte by byte. So only values that the server
 *           may have are held back (scrub_hold()); and the beginnings that turn out to be none, or
 *           are left to stand, are counted for each value: after SCRUB_GUESSES_MAX the reply is cut
 * Coded     gzip, deflate, zstd and br are decoded, within bounds; the reply goes on without
 *           coding. What cannot be decoded is refused
 * Memory    a few hundred bytes a stream, with secrets of 16 KiB up to 200 KiB; a decoder if coded
 * Threads   one, for all streams of a store: they share its scratch
 */
#pragma once

#include "base/err.h"
#include "egress/egress.h"
#include "http/http.h"
#include "vault/store.h"

enum {
	/*
	 * What is known of a value beside what its placeholder shows before it is a guess: less
	 * stands at the end of a piece by chance, one time in a million.
	 */
	SCRUB_GUESS_BYTES = 4,
	SCRUB_GUESSES_MAX = 8, /* so a guest learns some twelve bytes of a value at most */
};

struct scrub;

/* One for each request that is sent on, made before it is sent. -ENOMEM. */
_must_ int scrub_new(struct store *s, struct scrub **ret, struct err *e);
void scrub_free(struct scrub *c);
OWN_DEFINE(struct scrub, scrub_free)

/*
 * Whose values are held back: bit i is the store's i-th secret, see swap_bound(). All, if this is
 * never called. The others are replaced where they stand whole within a piece; where one lies
 * across two, what is in the second is. 0: no secret is bound there, and nothing is looked for.
 * Before scrub_head().
 */
void scrub_hold(struct scrub *c, uint64_t secrets);
uint64_t scrub_holds(const struct scrub *c);

/*
 * A response's head, any number of 1xx and then the final one; after a 101 the bytes are frames of
 * a WebSocket. Values in fields are replaced (a field whose name holds one is dropped); where the
 * body is decoded Content-Encoding and the length are gone and the framing is STREAM.
 * ret      spans point into `in` or into the scrub, good until the next head
 * Returns  0; -EPROTO: a coding that cannot be read: the reply must not go on (EGRESS_PROTOCOL).
 *          Not where store_count() was 0 at the beginning. -ENOMEM
 */
_must_ int scrub_head(struct scrub *c, const struct http_head *in, struct http_head *ret);

/*
 * Takes bytes off the front of *in and gives what may go out now, at most out_max, borrowed until
 * the next call of any scrub or scan of this store. Done with a piece when both *in and *ret_out
 * are empty; until then call again (a decoder may hold more than it could give). -EPROTO: coding
 * damaged, or grows beyond all reason; cut the reply. -EACCES: a value was guessed at, see
 * scrub_guessed(); cut the reply. -ENOMEM.
 */
_must_ int scrub_piece(struct scrub *c, struct span *in, size_t out_max, struct span *ret_out);

/*
 * No more comes: gives what was held. Call until *ret_out is empty. -EPROTO: the coded bytes are
 * not whole.
 */
_must_ int scrub_end(struct scrub *c, size_t out_max, struct span *ret_out);

/* Spans of ret as with scrub_head(). -ENOMEM. */
_must_ int scrub_trailers(struct scrub *c, const struct http_trailers *in,
                          struct http_trailers *ret);

/* After -EACCES: the store's number of the secret whose value should be withdrawn. */
unsigned scrub_guessed(const struct scrub *c);

/* What it holds in memory now. */
size_t scrub_bytes(const struct scrub *c);

/* Bytes held back now, or not given out for want of out_max. */
size_t scrub_held(const struct scrub *c);

/* What was taken out since this was last asked, one at a time, for EGRESS_SCRUBBED. False: no
 * more. */
bool scrub_next_mark(struct scrub *c, struct egress_mark *ret);
