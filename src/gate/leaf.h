/*
 * leaf: certificates for the names the guest connects to, made when they are first needed and kept
 * for a while. All have one key, of the authority.
 *
 * Shape     one dNSName, serverAuth, digitalSignature, an authority key identifier that is the
 *           authority's subject key identifier, a positive random serial; valid from CA_BACK_S ago
 *           for LEAF_LIFE_S
 * Hostile   the names, which host_name_parse() has read
 * Memory    LEAF_CACHE_MAX certificates of about 2 KiB; the one that was used least recently goes
 * Source    RFC 5280, 4.2.1; RFC 6125
 */
#pragma once

#include "gate/ca.h"
#include "policy/host.h"

#include <openssl/x509.h>

enum {
	LEAF_LIFE_S = 7 * 86400,
	LEAF_RENEW_S = LEAF_LIFE_S / 2 - CA_BACK_S, /* after it was made: half its life is over */
	LEAF_CACHE_MAX = 256,
};

struct leaf_cache;

/* ca is borrowed. -ENOMEM. */
_must_ int leaf_cache_new(const struct ca *ca, struct leaf_cache **ret, struct err *e);
void leaf_cache_free(struct leaf_cache *lc);
OWN_DEFINE(struct leaf_cache, leaf_cache_free)

/* ret: borrowed until the next call here; who keeps it takes a reference. -ENOMEM, -EIO. */
_must_ int leaf_get(struct leaf_cache *lc, const struct host_name *name, uint64_t real_s,
                    X509 **ret, struct err *e);

uint64_t leaf_minted(const struct leaf_cache *lc); /* since the start */
