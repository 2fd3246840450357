/*
 * upstream: a connection that carries requests to one server, of HTTP/1.1 or HTTP/2, plain or TLS,
 * and the pool of those that are there.
 *
 * Hostile   the server
 * Pool      a connection is used again only for the same host name, address, port and scheme: the
 *           address was judged for that name, the certificate is that name's
 */
#pragma once

#include "egress/egress.h"
#include "policy/policy.h"

struct vault;
struct request;
struct upstream;

struct upstream_key {
	struct host_name name;
	struct policy_addr addr;
	uint16_t port;
	bool tls;
	bool h1; /* HTTP/1.1 alone: for a WebSocket, which gets a connection of its own */
};

/*
 * Ties a request to a connection: one that is there, one that is being made for others as well, or
 * a new one. When it is ready
 * request_ready() is called, if it never will be request_failed(); either perhaps before this
 * returns, so that the request may be gone then. fresh: only a new one. False: as many as may be
 * are there, and nothing was called.
 */
_must_ bool upstream_get(struct vault *v, const struct upstream_key *key, bool fresh,
                         struct request *q);

struct http_conn *upstream_conn(struct upstream *u);
/* Has it carried a request before the one that has it now? */
bool upstream_is_used(const struct upstream *u);
/* Something was given to its http_conn: it is looked at before the loop waits. */
void upstream_touch(struct upstream *u);
/* After an upgrade: what its http_conn has now is all that is sent, and the server is to know. */
void upstream_last(struct upstream *u);
/* The request is done with it. whole: both directions have ended; else its stream is reset. */
void upstream_leave(struct upstream *u, struct request *q, bool whole);

void upstream_touch_all(struct vault *v); /* the link has room again */
void upstream_run_all(struct vault *v);   /* those touched */
void upstream_sweep(struct vault *v);     /* those whose time is up */
void upstream_drop_idle(struct vault *v); /* policy or roots have changed */
void upstream_free_all(struct vault *v);
unsigned upstream_idle(const struct vault *v);
