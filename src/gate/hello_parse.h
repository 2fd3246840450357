/*
 * hello_parse: what a connection begins with. Pure.
 *
 * The reader is given all bytes so far, every time some came, and keeps nothing: the caller leaves
 * them where they are until it has decided.
 *
 * Hostile   every byte. The ClientHello may come in any number of segments and TLS records
 * Limits    HELLO_MAX bytes, record headers included
 * Source    RFC 8446, 4.1.2 and 5.1; RFC 6066, 3; RFC 7301; RFC 9849 (ECH)
 */
#pragma once

#include "base/span.h"
#include "policy/host.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	HELLO_MAX = 16 << 10,      /* of a first flight; post-quantum shares take 2 KiB of it */
	HELLO_EXTENSIONS_MAX = 64, /* browsers send 20 */
	HELLO_HTTP_MIN = 2, /* bytes from which plain HTTP can be told from other protocols */
};

enum hello_sni {
	HELLO_SNI_NONE,
	HELLO_SNI_NAME,
	HELLO_SNI_INVALID, /* there is one, and it is no host name (an address, say) */
};

struct hello {
	uint8_t sni;           /* enum hello_sni */
	struct host_name name; /* with HELLO_SNI_NAME: lower case, no trailing dot */
	bool alpn;             /* there is a list, and in it: */
	bool alpn_h2, alpn_http1;
	/*
	 * Encrypted ClientHello, or what is sent to look like it: browsers send it always. What the
	 * inner hello names stays unknown; rules are applied to the outer name.
	 */
	bool ech;
	uint16_t version; /* the highest TLS version offered: 0x0303 is 1.2, 0x0304 is 1.3 */
};

/*
 * Reads a ClientHello out of a first flight.
 *
 * Returns 0; -EAGAIN: so far it is the beginning of one; -EPROTO: this is no TLS; -EBADMSG: it is,
 * and broken, or says things twice; -EMSGSIZE: longer than HELLO_MAX. *ret is written on 0 only.
 */
_must_ int hello_parse(struct span flight, struct hello *ret);

/*
 * Does it look like a request of HTTP/1, or the preface of HTTP/2? 0: it does so far, with
 * HELLO_HTTP_MIN bytes or more; -EAGAIN: too few bytes; -EPROTO: no.
 */
_must_ int hello_parse_http(struct span flight);
