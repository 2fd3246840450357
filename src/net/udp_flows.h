/*
 * udp_flows: which datagrams belong together, for rules that let UDP through.
 *
 * A flow is (guest address and port, remote address and port) and the time of its last datagram in
 * either direction. The table is fixed and full at `max`: a new flow is then refused, old ones go
 * by idle time alone, so a guest that opens many does not push its own working ones out.
 *
 * Hostile   the guest picks all four parts; the hash is keyed
 * Owns      its memory, made once: UDP_FLOW_BYTES a flow and 4 bytes a bucket
 */
#pragma once

#include "base/err.h"
#include "net/siphash.h"

struct udp_flow {
	struct net_tuple tuple;
	uint64_t used_ms;
	uint64_t bytes_in;  /* from the guest */
	uint64_t bytes_out; /* to the guest */
	void *app;          /* the caller's */
	uint32_t next;      /* in its bucket, or of the free ones; these three are the table's */
	uint32_t older, newer;
};

struct udp_flows;

/* max: 1 to UDP_FLOWS_MAX. Returns 0, -EINVAL, -ENOMEM. */
_must_ int udp_flows_new(uint32_t max, const struct siphash_key *key, struct udp_flows **ret,
                         struct err *e);
void udp_flows_free(struct udp_flows *u);
OWN_DEFINE(struct udp_flows, udp_flows_free)

/* The flow of t, or NULL. Does not count as use. */
struct udp_flow *udp_flows_find(struct udp_flows *u, const struct net_tuple *t);

/* A new flow; t has none yet. NULL: the table is full. Valid until udp_flows_drop(). */
struct udp_flow *udp_flows_add(struct udp_flows *u, const struct net_tuple *t, uint64_t now_ms);

/* A datagram of `bytes` went through. */
void udp_flows_used(struct udp_flows *u, struct udp_flow *f, bool from_guest, size_t bytes,
                    uint64_t now_ms);

void udp_flows_drop(struct udp_flows *u, struct udp_flow *f);

/* The flow that was idle longest, if that is at least idle_ms; the caller drops it. Else NULL. */
struct udp_flow *udp_flows_idle(struct udp_flows *u, uint64_t idle_ms, uint64_t now_ms);

uint32_t udp_flows_count(const struct udp_flows *u);
