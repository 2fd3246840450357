/*
 * inner: the vault's parts, for its own files.
 *
 *   control.c  words with the supervisor; records
 *   peer.c     frames from and to the gate, in order
 *   flow.c     sockets that are connected here and handed to the gate
 *   request.c  requests; upstream.c: the connections they go over
 *   vault.c    life, policy, questions about names
 */
#pragma once

#include "egress/control.h"
#include "egress/link.h"
#include "egress/order.h"
#include "policy/policy.h"
#include "vault/judge.h"
#include "vault/limits.h"
#include "vault/pins.h"
#include "vault/resolver.h"
#include "vault/roots.h"
#include "vault/routes.h"
#include "vault/slots.h"
#include "vault/store.h"
#include "vault/vault.h"
#include "vault/watch.h"

#include <uv.h>

struct said { /* to the supervisor, and not yet sent */
	struct said *next;
	size_t len;
	uint8_t bytes[];
};

struct vault {
	uv_loop_t loop;
	bool loop_open, ended;
	struct err end; /* why */

	/* the supervisor */
	int control_fd;
	struct watch *control_watch;
	struct said *said_first, **said_last;
	unsigned said_count;
	uint32_t lost;    /* records there was no room for */
	uint64_t refused; /* records of refusals and violations, those lost as well */

	/* the gate */
	struct egress_link *link;
	struct watch *link_watch;
	struct egress_order order;
	struct egress_stream *order_slots;
	struct buf *frame; /* the link's, and where the frame being written begins */
	size_t frame_at;
	bool choked; /* so much waits that nothing is read */
	struct alarm *again;
	uv_prepare_t before_wait;
	bool before_wait_open;

	/* what may be reached */
	struct policy *policy;
	uint32_t generation; /* of the policy */
	uint32_t told_first; /* generations the gate was told of and has not taken */
	unsigned told_count;
	struct alarm *policy_limit;
	struct pins *pins;
	struct routes *routes;
	struct resolver *resolver;

	/* flow.c */
	struct slots flows;
	unsigned flows_max, dials;
	unsigned untold; /* connected, and the gate could not be told yet */

	/* upstream.c, request.c */
	struct upstream *upstreams;
	unsigned upstream_count;
	bool touched; /* one of them */
	struct slots requests;
	uint64_t held_bytes; /* of both: VAULT_HELD_MAX */
	struct roots *roots;
	struct store *store;
	struct alarm *sweep;
	bool sweeping;
	bool resting; /* the guest: no request of its is late */

	struct egress_stats stats;
};

/* --- vault.c --- */

/* Ends the process, after this turn of the loop; the first reason stands. */
void vault_end(struct vault *v, int code, const char *fmt, ...) _printf_(3, 4);
void vault_resolve(struct vault *v, uint32_t stream, const struct egress_resolve *q);
/* Takes a policy that was loaded: what it does not allow ends. */
void vault_adopt(struct vault *v, struct policy *p, uint32_t generation);
struct judge vault_judge(const struct vault *v);

/* Counts what a thing has now, in place of what it had. */
static inline void vault_hold(struct vault *v, size_t *had, size_t has)
{
	v->held_bytes = v->held_bytes - *had + has;
	*had = has;
}

/* Something has a time limit: see to it that it is looked at. */
void vault_sweep_soon(struct vault *v);

/* --- control.c --- */

void control_readable(void *user, bool readable, bool writable);
void control_watch_set(struct vault *v);
/* Packets that answer the supervisor: never lost. */
void control_say(struct vault *v, struct span packet);
void control_say_ready(struct vault *v);
void control_policy_taken(struct vault *v, uint32_t generation);
void control_policy_late(void *user);
/* One that may be lost, and is counted then. */
void control_record(struct vault *v, const struct egress_record *r);
void control_fini(struct vault *v);
/* Of what concerns values: control_secrets.c. -EBADMSG. */
_must_ int control_secrets(struct vault *v, const struct control_packet *p, int fd);

/* --- peer.c --- */

_must_ int peer_open(struct vault *v, int fd, struct err *e);
void peer_close(struct vault *v);
void peer_readable(void *user, bool readable, bool writable);
void peer_more(void *user); /* frames that were read and not looked at */
void peer_flush(struct vault *v);
/* So much waits for the gate that nothing more is read: heads need no credit. */
_must_ bool peer_is_choked(struct vault *v);

/*
 * A frame: peer_begin(), one egress_put_*() to it, peer_send(). It is judged as the gate will.
 * False: no room (or, with a descriptor, too many wait); nothing has happened then.
 */
struct buf *peer_begin(struct vault *v);
_must_ bool peer_send(struct vault *v, int fd);
/* One that has to fit, and does while the reserve is kept: else the vault ends. */
void peer_must(struct vault *v);
void peer_reset(struct vault *v, uint32_t stream, enum egress_fail why);
void peer_end(struct vault *v, uint32_t stream);
/* Ties a stream to a thing of ours, by its number; 0 unties it. */
void peer_tie(struct vault *v, uint32_t stream, uint32_t number);

/* --- flow.c --- */

/* 0 with a socket that is connected or about to be, or -errno. */
_must_ int flow_dial(const struct policy_addr *a, uint16_t port, bool udp, int *ret_fd);
enum egress_fail flow_fail_of(int error); /* what an errno of it is called */
void flow_connect(struct vault *v, uint32_t stream, const struct egress_connect *c);
/* The gate's half ended. */
void flow_end(struct vault *v, uint32_t number, bool reset);
void flow_tell_all(struct vault *v); /* there is room again */
void flow_judge_all(struct vault *v, const struct policy *old);
void flow_free_all(struct vault *v);
