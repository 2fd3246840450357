/*
 * scan: looks for placeholders where none may be, in what the guest sends.
 *
 * Hostile   every byte
 * Finds     each placeholder of the store, removed ones too: plain in any case of letters,
 *           percent-encoded, JSON-, C- or HTML-escaped in whole or in part (twice as well), in hex,
 *           in base64 and base64url at each of the three alignments, also broken into lines or
 *           written as UTF-16; however it is cut into pieces. docs/internals/secrets.md has what is
 *           not found. Missing one is safe: a placeholder opens nothing
 * Holds     nothing back. The piece in which a placeholder becomes whole is not to be sent on
 * Coded     a body with Content-Encoding is decoded beside, within bounds; what cannot be decoded
 *           is refused
 * Memory    a few hundred bytes a stream, with secrets of 16 KiB up to 200 KiB; a decoder if coded
 * Threads   one, for all streams of a store: they share its scratch
 */
#pragma once

#include "base/err.h"
#include "egress/egress.h"
#include "http/http.h"
#include "vault/store.h"

struct scan_hit {
	struct span secret; /* its name; good until the store changes */
	uint8_t where;      /* enum egress_where */
	uint8_t form;       /* enum egress_form */
};

/* One text that is whole. True: there is one, and ret says which; where is not written. */
_must_ bool scan_text(struct store *s, struct span text, struct scan_hit *ret);

struct scan;

/*
 * For the body of a request. head says how it is coded; NULL: not at all. -ENOMEM;
 * -EPROTO: coded in a way that cannot be read: refuse the request (EGRESS_PLACEHOLDER if
 * store_count() is not 0; scan_new() does not refuse it otherwise).
 */
_must_ int scan_new(struct store *s, const struct http_head *head, struct scan **ret,
                    struct err *e);
void scan_free(struct scan *c);
OWN_DEFINE(struct scan, scan_free)

/* What it holds in memory now. */
size_t scan_bytes(const struct scan *c);

/*
 * The request became a WebSocket (101): from here on the bytes are its frames, whose payload is
 * unmasked for the scan. What comes before the 101 is no frame yet.
 */
void scan_upgrade(struct scan *c);

/*
 * The next bytes, any number. 0: they may be sent on as they are. -EPERM: a placeholder; ret says
 * which (where: EGRESS_IN_BODY, after an upgrade EGRESS_IN_OPAQUE). -EPROTO: coding damaged, or
 * grows beyond all reason, or no WebSocket frame. -ENOMEM. After an error: reset the stream.
 */
_must_ int scan_piece(struct scan *c, struct span piece, struct scan_hit *ret);

/* The trailers: 0 or -EPERM. */
_must_ int scan_trailers(struct scan *c, const struct http_trailers *t, struct scan_hit *ret);

/* The end of the body. 0, or -EPROTO: the coded bytes are not whole. */
_must_ int scan_end(struct scan *c);
