/*
 * siphash: a keyed hash of short inputs, for tables a guest would like to make slow and for numbers
 * it must not guess. SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012).
 */
#pragma once

#include "base/span.h"
#include "net/net.h"

struct siphash_key {
	uint8_t at[16]; /* from random_bytes() */
};

uint64_t siphash(const struct siphash_key *key, struct span in);

/* Of the four parts of a flow's name. */
uint64_t siphash_tuple(const struct siphash_key *key, const struct net_tuple *t);
