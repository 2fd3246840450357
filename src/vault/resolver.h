/*
 * resolver: asks the host's resolvers for the addresses of a name.
 *
 * Through c-ares: its own sockets, no name service of the C library, and nothing but the DNS (no
 * hosts file, no search list). It matches answers to questions by server, port, id and question,
 * goes on to the next server when one fails, and to TCP when an answer was cut. What an answer says
 * is read here (answer_parse.h), not by the library.
 *
 * Hostile   resolvers and zones; and the guest, which chooses when and below a wildcard what is
 *           asked: questions are bounded, and a name that is being asked is not asked again, so
 *           nobody gets many chances at once to guess an id
 * Files     /etc/resolv.conf is read once, by resolver_new(): before the jail closes
 */
#pragma once

#include "base/err.h"
#include "egress/egress.h"
#include "policy/addr.h"
#include "policy/host.h"
#include "vault/watch.h"

struct resolver;

struct resolver_found {
	uint8_t fail;   /* EGRESS_OK, _NO_NAME, _NO_ADDRESS, _DNS */
	uint32_t ttl_s; /* clamped; of a failure: how long it may be believed */
	unsigned count;
	struct policy_addr addr[EGRESS_ADDRESSES_MAX]; /* IPv4 first; over it: left out */
	unsigned chain_count;
	struct host_name chain[EGRESS_CHAIN_MAX];
};

/* Told once for each resolver_ask(), never during it. name and found are borrowed. */
typedef void resolver_fn(void *user, uint32_t stream, const struct host_name *name,
                         const struct resolver_found *found);

_must_ int resolver_new(uv_loop_t *loop, resolver_fn *tell, void *user, struct resolver **ret,
                        struct err *e);
void resolver_free(struct resolver *r); /* tells nobody */

/* want: EGRESS_WANT_*. stream comes back with the answer. -EBUSY: as many as may be are asked. */
_must_ int resolver_ask(struct resolver *r, const struct host_name *name, uint8_t want,
                        uint32_t stream);
