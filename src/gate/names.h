/*
 * names: the names this guest asked for, what was answered, and which addresses are pinned to which
 * names by it. Pure: no socket, no clock; memory is made once.
 *
 * Hostile   which names are asked, and how many; the hash is keyed
 * Shape     a name has two halves, IPv4 and IPv6, each with its own answer and time
 * Pins      an address belongs to a name from its answer until GATE_PIN_GRACE_S after the answer's
 *           time is over. An address may belong to many names, and a name keep addresses of an
 *           answer before the last
 * Full      the name that was not asked for the longest gives way, unless a connection holds it or
 *           its answer is awaited. Where all are held, new ones are refused
 */
#pragma once

#include "base/err.h"
#include "gate/limits.h"
#include "net/siphash.h"
#include "policy/host.h"

struct names;

enum names_family { NAMES_IP4, NAMES_IP6, NAMES_FAMILIES };

enum names_state {
	NAMES_UNKNOWN, /* nothing, or its time is over: ask */
	NAMES_ASKED,   /* the vault is at it */
	NAMES_GOOD,    /* there are addresses */
	NAMES_NODATA,  /* the name exists, without any of this family */
	NAMES_NXDOMAIN,
	NAMES_FAILED, /* upstream trouble: for a moment nobody asks again */
};

enum { NAMES_NONE = 0 }; /* no name's number */

/* -ENOMEM. */
_must_ int names_new(const struct siphash_key *key, struct names **ret, struct err *e);
void names_free(struct names *n);
OWN_DEFINE(struct names, names_free)

/* The number of a name: 1 to GATE_NAMES_MAX, NAMES_NONE if it is not there. */
uint16_t names_find(struct names *n, const struct host_name *host);

/* The same; makes it if it is not there. NAMES_NONE: full of names in use. */
uint16_t names_take(struct names *n, const struct host_name *host);

/* Stays where it is as long as the name is held or asked for. */
const struct host_name *names_host(const struct names *n, uint16_t id);

/* A connection was judged by it: it stays until it is let go. */
void names_hold(struct names *n, uint16_t id);
void names_let_go(struct names *n, uint16_t id);
uint32_t names_held(const struct names *n, uint16_t id);

enum names_state names_state(const struct names *n, uint16_t id, enum names_family family,
                             uint64_t now_ms);

/* The vault was asked. */
void names_asked(struct names *n, uint16_t id, enum names_family family);

/* Its answer: addresses, and for how long, which is clamped here. They are pinned. */
void names_good(struct names *n, uint16_t id, enum names_family family,
                const struct net_addr *addrs, unsigned count, uint32_t ttl_s, uint64_t now_ms);

/*
 * No address: NAMES_NODATA, NAMES_NXDOMAIN, NAMES_FAILED, or NAMES_UNKNOWN: not to be remembered.
 */
void names_bad(struct names *n, uint16_t id, enum names_family family, enum names_state what,
               uint32_t ttl_s, uint64_t now_ms);

/* The addresses of a good answer, at most max, in its order. */
unsigned names_addrs(const struct names *n, uint16_t id, enum names_family family,
                     struct net_addr *ret, unsigned max);

/* Seconds for which the answer still holds. */
uint32_t names_ttl_s(const struct names *n, uint16_t id, enum names_family family, uint64_t now_ms);

/*
 * The guest is told these addresses out of memory: among the names pinned to them this one comes
 * first from now on, for it is the one that is about to be used.
 */
void names_told(struct names *n, uint16_t id, enum names_family family);

/* The names an address is pinned to, the last that the guest was told first. */
unsigned names_pinned(const struct names *n, const struct net_addr *addr, uint64_t now_ms,
                      uint16_t ret[POLICY_CANDIDATES_MAX]);
bool names_is_pinned(const struct names *n, uint16_t id, const struct net_addr *addr,
                     uint64_t now_ms);

/* Forgets answers and pins of a name; who holds it goes on. An awaited answer stays awaited. */
void names_drop(struct names *n, uint16_t id);

/* Walks all names: the next number after id, NAMES_NONE at the end; begin with NAMES_NONE. */
uint16_t names_next(const struct names *n, uint16_t id);

uint32_t names_count(const struct names *n);
uint32_t names_pins(const struct names *n);
