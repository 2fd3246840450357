/*
 * ca: the certificate authority of one sandbox, made at the gate's start and never written down.
 * Its certificate goes into this guest's stores and nowhere else; its key lives in this process.
 *
 * Shape     P-256, self-signed; basicConstraints critical with a path length of 0, keyUsage
 *           critical with keyCertSign and cRLSign, a subject key identifier. One more key pair,
 *           P-256 too, is that of every leaf: see leaf.h
 * Hostile   nothing: no byte of the guest's comes here
 * Source    RFC 5280, 4.2.1
 */
#pragma once

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	CA_BACK_S = 24 * 3600,        /* a guest's clock may be behind by a day */
	CA_LIFE_S = 10 * 365 * 86400, /* it dies with the sandbox, whenever that is */
	CA_PEM_MAX = 2048,            /* WIRE_CERT_MAX; a P-256 certificate is under 1 KiB */
};

struct ca;

/*
 * Makes the keys and the certificate. Also sets OpenSSL up, without its configuration file: call it
 * before the jail closes.
 *
 * real_s    seconds since 1970-01-01 UTC
 * copy      the guest had another authority before: this one gets a name of its own
 * Returns   0, -ENOMEM, -EIO (OpenSSL failed; e says where)
 */
_must_ int ca_new(uint64_t real_s, bool copy, struct ca **ret, struct err *e);
void ca_free(struct ca *ca); /* wipes the keys */
OWN_DEFINE(struct ca, ca_free)

/* One CERTIFICATE block, as struct wire_trust wants it; good until ca_free(). */
struct span ca_pem(const struct ca *ca);

/* X509_NAME_hash of its subject: struct wire_trust, and the name of the link in the guest. */
uint32_t ca_name_hash(const struct ca *ca);
