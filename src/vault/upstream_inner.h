/*
 * upstream_inner: what the files of upstream share.
 *
 * upstream.c        one connection: from dialing to its end, bytes, TLS, its requests
 * upstream_pool.c   all of them: which one carries a request, which ones are idle for too long
 */
#pragma once

#include "vault/inner.h"
#include "vault/request.h"
#include "vault/upstream.h"

enum upstream_state { UP_DIALING, UP_HANDS, UP_OPEN };

struct upstream {
	struct vault *v;
	struct upstream *next; /* all of the vault's */
	struct upstream_key key;
	uint8_t state; /* enum upstream_state */
	bool touched, dead, eof;
	bool h2;       /* OPEN: what ALPN chose */
	bool used;     /* it has carried a request that is gone */
	bool farewell; /* TLS said that it is over; else anybody could have cut it */
	bool last; /* nothing is to be sent behind what was given to it: the server is to know */
	bool last_said;
	int fd;
	struct watch *watch;
	struct tls *tls;
	struct http_conn *conn;
	struct request *requests;
	size_t held;       /* bytes, of the vault's held_bytes */
	size_t plain_used; /* of plain, at any time: its other pages are not there */
	uint64_t until_ms; /* then it is late, or idle for too long; 0: no matter */
	size_t at, len;    /* in plain: read, and not taken */
	uint8_t plain[VAULT_READ_BYTES];
};

static inline uint64_t upstream_now_ms(const struct upstream *u)
{
	return uv_now(&u->v->loop);
}

static inline bool upstream_is_idle(const struct upstream *u)
{
	return !u->requests && !u->dead;
}

/* Begins to connect. It may be dead when this returns. */
void upstream_dial(struct upstream *u);

/* It is dead from now on, and freed later; its requests are told why. words may be NULL. */
void upstream_die(struct upstream *u, enum egress_fail why, long fault, const char *words);

/* At once; its requests are not told. */
void upstream_free(struct upstream *u);

/* `of` is idle now. Are there too many of these? The one that has been so for longest goes. */
void upstream_trim_idle(struct vault *v, const struct upstream *of);
