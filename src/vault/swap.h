/*
 * swap: puts values in the place of placeholders, in the head of a request.
 *
 * Only where the policy binds them: in a header it names, behind the prefix it names; as the whole
 * user or the whole password of Basic; as the whole value of a query parameter. A placeholder
 * anywhere else in the head (method, path, query, any other field, also coded) is a violation and
 * nothing is sent. Framing fields are never touched: they are no fields of a canonical head.
 *
 * Hostile   the head: it comes from the gate
 * Owns      the values it writes stand in locked memory of the store, one head at a time
 */
#pragma once

#include "base/err.h"
#include "policy/policy.h"
#include "vault/scan.h"

struct swap_report {
	uint64_t used;       /* bit i: the policy's i-th secret was put in */
	bool guarded;        /* the host has a secret bound to it, used now or not */
	struct scan_hit hit; /* -EPERM, -ENOKEY */
};

/*
 * ask       as for policy_request_verdict(), of the same request, which was allowed
 * ret       a head for http_conn_open(); its spans point into `in` and into the store's locked room
 *           and are good until swap_done() or the next swap_head(). May not be `in`
 * Returns   0; -EPERM: a placeholder where it may not be (EGRESS_PLACEHOLDER); -ENOKEY: one where
 *           it may be, of a secret that has no value (removed, or not yet set); -EMSGSIZE: the head
 *           grows over HTTP_HEAD_MAX or its target over HTTP_TARGET_MAX. After an error ret is `in`
 *
 * Where the host has a secret bound to it, `ret` asks for a reply that can be read whole:
 * Accept-Encoding is "identity", Range and If-Range are gone (a value could be fetched in halves),
 * and so is Sec-WebSocket-Extensions (compression between frames).
 */
_must_ int swap_head(struct store *s, const struct policy *p, const struct policy_ask *ask,
                     const struct http_head *in, struct http_head *ret,
                     struct swap_report *ret_report);

/*
 * Bit i: the store's i-th secret is bound to this host and port, wherever in a request. All bits
 * if one is that has no number yet, as its value is still to come.
 */
uint64_t swap_bound(const struct store *s, const struct policy *p, const struct policy_ask *ask);

/* Wipes the room. Call it as soon as http_conn_open() has written the head. */
void swap_done(struct store *s);
