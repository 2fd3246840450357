/*
 * tls: the server's end of TLS towards the guest. Memory in, memory out.
 *
 * Hostile   every byte of the guest's
 * Shape     TLS 1.2 and 1.3, ALPN h2 and http/1.1. No 0-RTT, no renegotiation, no resumption, no
 *           compression, no client certificates
 * Memory    idle: OpenSSL's state without its buffers. Busy: a record each way, and INTERCEPT_OUT_
 *           BYTES of output
 * Source    RFC 8446, RFC 5246, RFC 7301
 */
#pragma once

#include "gate/ca.h"
#include "policy/host.h"

#include <stdbool.h>

enum {
	TLS_RECORD_MAX = 16384,                  /* plain bytes of one record */
	TLS_RECORD_ROOM = TLS_RECORD_MAX + 1024, /* and what it has more when it is sealed */
	TLS_OUT_MAX = 96 << 10,                  /* sealed and not yet taken */
};

struct tls_world; /* what all ends share: OpenSSL's context and the leaves */
struct tls;

/* ca is borrowed. -ENOMEM, -EIO. */
_must_ int tls_world_new(struct ca *ca, struct tls_world **ret, struct err *e);
void tls_world_free(struct tls_world *w);
OWN_DEFINE(struct tls_world, tls_world_free)
uint64_t tls_world_minted(const struct tls_world *w); /* certificates since the start */

/*
 * name     whom we are: the SNI as the ClientHello's reader found it; copied. OpenSSL has to find
 *          the same one
 * real_s   for the certificate
 * -ENOMEM, -EIO
 */
_must_ int tls_new(struct tls_world *w, const struct host_name *name, uint64_t real_s,
                   struct tls **ret, struct err *e);
void tls_free(struct tls *t);
OWN_DEFINE(struct tls, tls_free)

enum tls_read {
	TLS_BYTES,  /* *ret_len of them */
	TLS_MORE,   /* all of *in was taken, and it is not enough */
	TLS_FULL,   /* nothing is read until some output was taken */
	TLS_CLOSED, /* the guest says that it sends no more */
	TLS_FAILED, /* an alert may wait in the output; tls_why() */
};

/*
 * Takes bytes off the front of *in; shakes hands first.
 *
 * to   room for TLS_RECORD_MAX bytes
 */
enum tls_read tls_read(struct tls *t, struct span *in, uint8_t *to, size_t *ret_len);

bool tls_is_open(const struct tls *t); /* hands are shaken */
bool tls_is_http2(const struct tls *t);

/* Seals up to TLS_RECORD_MAX bytes; how many it took: 0 while there is no room. */
size_t tls_write(struct tls *t, struct span plain);

/* Says that nothing more comes; once. */
void tls_close(struct tls *t);

/* Sealed bytes for the guest; empty: none. Good until the next call. */
struct span tls_output(const struct tls *t);
void tls_sent(struct tls *t, size_t n);

/* What it holds in memory now. */
size_t tls_bytes(const struct tls *t);

/* OpenSSL's word for what failed; never NULL. */
const char *tls_why(const struct tls *t);
