/*
 * tls: the client's end of a TLS connection, memory in and memory out. The caller has the socket.
 *
 * Hostile   the peer, until its certificate is verified and after
 * Rules     TLS 1.2 or later; the chain ends at one of the roots; the certificate is for the name
 *           that was judged, which is also the SNI
 */
#pragma once

#include "base/err.h"
#include "base/span.h"
#include "policy/host.h"

#include <openssl/ssl.h>

/*
 * Unsent bytes beyond which a peer is given up: it asks for answers (key updates) and reads none.
 * What is written by us stays far below.
 */
enum {
	TLS_OUT_MAX = 512 << 10,
	TLS_SESSION_BYTES = 48 << 10, /* OpenSSL's own, with a record half read */
	TLS_CHAIN_MAX = 64 << 10,     /* of the server's certificates; real ones have 10 KiB */
	TLS_CHAIN_GROWTH = 4,         /* of one that was read, to what it was sent as */
};

/* Bytes from the peer that lie here: what is received at once. Of it only what comes is touched. */
enum { TLS_IN_BYTES = 128 << 10 };

struct tls;

/* h2: offer HTTP/2 beside HTTP/1.1. -ENOMEM. */
_must_ int tls_new(SSL_CTX *context, const struct host_name *name, bool h2, struct tls **ret,
                   struct err *e);
void tls_free(struct tls *t);

/*
 * Where bytes from the peer are to be received, and how many at most; 0: what is there has to be
 * read first. tls_came(): so many were. Either is good until the next call.
 */
_must_ size_t tls_room(struct tls *t, uint8_t **ret_at);
void tls_came(struct tls *t, size_t n);

/* 0: done; -EAGAIN: the peer's turn; -EKEYREJECTED: its certificate (tls_fault()); -EPROTO. */
_must_ int tls_handshake(struct tls *t);
bool tls_is_h2(const struct tls *t);

/* What it holds in memory now. */
size_t tls_bytes(const struct tls *t);

/* Of the certificate: X509_V_ERR_..., and its words. 0: no fault. */
long tls_fault(const struct tls *t, const char **ret_words);

/* More than 0; 0: the peer said that it is over; -EAGAIN; -EPROTO, also beyond TLS_OUT_MAX. */
_must_ int tls_read(struct tls *t, void *ret, size_t size);

/* How many were taken; or -EPROTO. Take only as much as tls_output() can be sent. */
_must_ int tls_write(struct tls *t, struct span bytes);

/* Says that we send no more. */
void tls_close(struct tls *t);

/* Bytes for the peer; good until the next call. tls_sent(): the first n are gone. */
struct span tls_output(struct tls *t);
void tls_sent(struct tls *t, size_t n);
