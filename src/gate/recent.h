/*
 * recent: has this been said a moment ago? A resolver asks a refused name again and again, with and
 * without AAAA, and a QUIC client sends its first packet many times: one record tells it all.
 * Fixed and small: what hashes to a slot takes it, so a flood only makes more be said.
 */
#pragma once

#include "gate/limits.h"
#include "net/siphash.h"

struct recent {
	struct siphash_key key;
	struct {
		uint64_t hash;
		uint64_t at_ms;
	} slots[GATE_RECENT];
};

/* True: not within GATE_RECENT_MS. It counts as said from now on. */
static inline bool recent_is_new(struct recent *r, struct span what, uint64_t now_ms)
{
	uint64_t hash = siphash(&r->key, what) | 1; /* 0 is an empty slot */
	size_t i = (hash >> 1) % GATE_RECENT;

	if (r->slots[i].hash == hash && now_ms - r->slots[i].at_ms < GATE_RECENT_MS)
		return false;
	r->slots[i].hash = hash;
	r->slots[i].at_ms = now_ms;
	return true;
}
